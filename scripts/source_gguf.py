"""Reads a GGUF file. The blocks of Q8_0, Q4_0 and Q4_1 are those of q8, q4 and q4m and are carried over exactly; other
types that the gguf package can decode (K-quants and others) are returned as f32.

For RoPE, GGUF stores the rows of q and k of llama models in llama2.c's order, those of qwen2 models in GPT-NeoX's.
"""

import gguf
import numpy as np

import sampling
from checkpoint import Config
from source import Source, SourceError, Tensor, check_config, is_count, plain_tensor

NEIGHBOURS = {"llama": True, "qwen2": False}  # the supported architectures: are q and k in llama2.c's order?

PLAIN = {"F32": "f32", "F16": "f16", "BF16": "bf16"}
EXACT = {"Q8_0": "q8", "Q4_0": "q4", "Q4_1": "q4m"}

LAYER_NAMES = {
    "attn_norm.weight": "attn_norm",
    "attn_q.weight": "attn.q_proj",
    "attn_k.weight": "attn.k_proj",
    "attn_v.weight": "attn.v_proj",
    "attn_q.bias": "attn.q_bias",
    "attn_k.bias": "attn.k_bias",
    "attn_v.bias": "attn.v_bias",
    "attn_output.weight": "attn.o_proj",
    "ffn_norm.weight": "mlp_norm",
    "ffn_gate.weight": "mlp.gate_proj",
    "ffn_up.weight": "mlp.up_proj",
    "ffn_down.weight": "mlp.down_proj",
}
OTHER_NAMES = {"token_embd.weight": "embedding", "output_norm.weight": "norm", "output.weight": "head"}
ROPE_FACTORS = "rope_freqs.weight"  # Llama 3's scaling, as a divisor of each frequency


class Fields:
    """The metadata of the file."""

    def __init__(self, path):
        self.path = path
        try:
            self.reader = gguf.GGUFReader(path)
        except Exception as error:  # on a damaged file the package fails in many ways
            reason = " ".join(str(error).split())
            raise SourceError(f"{path}: is not a complete GGUF file: {reason or type(error).__name__}") from None
        if self.reader.endianess != gguf.GGUFEndian.LITTLE:
            raise SourceError(f"{path}: is big-endian, expected little-endian")

    def get(self, key, default=None):
        field = self.reader.get_field(key)
        return default if field is None else field.contents()

    def refuse(self, key, expected):
        raise SourceError(f"{self.path}: {key} is {str(self.get(key))[:200]!r}, expected {expected}")

    def count(self, key, default=None):
        value = self.get(key, default)
        if not is_count(value):
            self.refuse(key, "a whole number of at least 1")
        return value


def read(path):
    fields = Fields(path)
    check_supported(fields)
    architecture = fields.get("general.architecture")
    tensors, factors = read_tensors(fields)
    config = read_config(fields, architecture, tensors, factors)
    if NEIGHBOURS[architecture]:
        for name, tensor in tensors.items():
            if name.endswith(("attn.q_proj", "attn.k_proj", "attn.q_bias", "attn.k_bias")):
                tensor.neighbours = config.head_dim
    return Source(
        path,
        config,
        tensors,
        fields.reader,
        keeps_types=True,
        license=str(fields.get("general.license", "unknown")),
        recommended=read_recommended(fields),
        recommended_in=path,
    )


def read_recommended(fields):
    """(name, key, value) of the keys of sampling. Their f32 become the shortest decimal numbers that stand for them."""
    found = [(name, key, fields.get(key)) for key, name in sampling.GGUF.items()]
    return [(n, k, float(str(np.float32(v))) if isinstance(v, float) else v) for n, k, v in found if v is not None]


def check_supported(fields):
    architecture = fields.get("general.architecture")
    if architecture not in NEIGHBOURS:
        fields.refuse("general.architecture", "one of " + ", ".join(NEIGHBOURS))
    a = architecture
    if fields.get("split.count", 0) > 1:
        fields.refuse("split.count", "1: join the parts first (llama-gguf-split --merge)")
    if fields.get(f"{a}.expert_count"):
        fields.refuse(f"{a}.expert_count", "0: a mixture of experts is not supported")
    for key in (f"{a}.attn_logit_softcapping", f"{a}.final_logit_softcapping", f"{a}.attention.clamp_kqv"):
        if fields.get(key):
            fields.refuse(key, "none")
    for key in (f"{a}.logit_scale", f"{a}.residual_scale", f"{a}.embedding_scale", f"{a}.attention.scale"):
        if fields.get(key, 1.0) not in (0.0, 1.0):
            fields.refuse(key, "none")
    if fields.get(f"{a}.rope.scaling.type", "none") not in ("none", "linear"):
        fields.refuse(f"{a}.rope.scaling.type", "none or linear")


def read_config(fields, a, tensors, factors):
    n_heads, dim = fields.count(f"{a}.attention.head_count"), fields.count(f"{a}.embedding_length")
    head_dim = fields.count(f"{a}.attention.key_length", dim // n_heads)
    for key in (f"{a}.attention.value_length", f"{a}.rope.dimension_count"):
        if fields.get(key, head_dim) != head_dim:
            fields.refuse(key, f"{head_dim}, the size of a head")
    if "embedding" not in tensors:
        raise SourceError(f"{fields.path}: tensor token_embd.weight is missing")
    theta = fields.get(f"{a}.rope.freq_base", 10000.0)
    rope = {"rope_theta": theta}
    linear = fields.get(f"{a}.rope.scaling.factor", 1.0) if fields.get(f"{a}.rope.scaling.type") == "linear" else 1.0
    linear = fields.get(f"{a}.rope.scale_linear", linear)
    if factors is not None and linear != 1.0:
        raise SourceError(f"{fields.path}: has {ROPE_FACTORS} and {a}.rope.scaling.factor, expected only one of them")
    if factors is not None:
        original = fields.get(f"{a}.rope.scaling.original_context_length", 8192)
        rope |= llama3_scaling(fields.path, factors.vector(), theta, head_dim, original)
    elif linear != 1.0:
        rope |= {"rope_scaling": "linear", "rope_factor": linear}
    config = Config(
        vocab_size=tensors["embedding"].rows,
        dim=dim,
        hidden_dim=fields.count(f"{a}.feed_forward_length"),
        n_layers=fields.count(f"{a}.block_count"),
        n_heads=n_heads,
        n_kv_heads=fields.count(f"{a}.attention.head_count_kv", n_heads),
        head_dim=head_dim,
        context_length=fields.count(f"{a}.context_length"),
        sliding_window=fields.get(f"{a}.attention.sliding_window", 0),
        norm_eps=fields.get(f"{a}.attention.layer_norm_rms_epsilon"),
        tied_head="head" not in tensors,
        qkv_bias="blocks.0.attn.q_bias" in tensors,
        **rope,
    )
    check_config(fields.path, config)
    return config


def turns(theta, head_dim, positions):
    """Full rotations of each pair of dimensions over that many positions. f64 (head_dim / 2,)"""
    return positions * theta ** (-np.arange(0, head_dim, 2) / head_dim) / (2 * np.pi)


def llama3_factors(theta, head_dim, factor, low, high, original):
    """The divisors of the frequencies in Llama 3.1's scaling (arXiv:2407.21783). f64 (head_dim / 2,)"""
    smooth = np.clip((turns(theta, head_dim, original) - low) / (high - low), 0, 1)
    return 1 / ((1 - smooth) / factor + smooth)


def llama3_scaling(path, factors, theta, head_dim, original):
    """Recovers the parameters of the scaling from the tensor of divisors. The largest divisor is the factor. The inverse
    of those between 1 and the factor is linear in the number of rotations within the original context, from `low` to
    `high`. Llama 3 has low = 1 and high = 4, so one such divisor gives the original context; two give any line."""
    factor = float(factors.max())
    guesses = [(1.0, 4.0, original)]
    if len(factors) == head_dim // 2 and factor > 1:
        smooth = (1 / factors.astype(np.float64) - 1 / factor) / (1 - 1 / factor)
        between = (smooth > 1e-4) & (smooth < 1 - 1e-4)
        a_turn = turns(theta, head_dim, 1)[between]
        if between.any():
            guesses.append((1.0, 4.0, round(float(np.median((1 + 3 * smooth[between]) / a_turn)))))
        if between.sum() >= 2:
            slope, start = np.polyfit(original * a_turn, smooth[between], 1)
            guesses.append((float(f"{-start / slope:.5g}"), float(f"{(1 - start) / slope:.5g}"), original))
        for low, high, context in guesses:
            if 0 < low < high and context >= 1:
                expected = llama3_factors(theta, head_dim, factor, low, high, context)
                if np.abs(expected / factors - 1).max() < 1e-5:
                    return {
                        "rope_scaling": "llama3",
                        "rope_factor": factor,
                        "rope_original_context": context,
                        "rope_low_freq_factor": low,
                        "rope_high_freq_factor": high,
                    }
    raise SourceError(f"{path}: tensor {ROPE_FACTORS} is not Llama 3's scaling of RoPE, the only one supported")


def read_tensors(fields):
    """Name -> Tensor, and the tensor of RoPE's divisors or None."""
    tensors, factors = {}, None
    for t in fields.reader.tensors:
        name = OTHER_NAMES.get(t.name)
        prefix, _, rest = t.name.partition(".")
        layer, _, in_layer = rest.partition(".")
        if prefix == "blk" and layer.isdecimal() and in_layer in LAYER_NAMES:
            name = f"blocks.{int(layer)}.{LAYER_NAMES[in_layer]}"
        if name is None and t.name != ROPE_FACTORS:
            raise SourceError(f"{fields.path}: tensor {t.name} is not part of a model of this architecture")
        shape = [int(n) for n in t.shape]  # columns first
        if len(shape) not in (1, 2):
            raise SourceError(f"{fields.path}: tensor {t.name} has {len(shape)} dimensions, expected 1 or 2")
        tensor = make_tensor(fields.path, t, shape[1] if len(shape) == 2 else 1, shape[0])
        if t.name == ROPE_FACTORS:
            factors = tensor
        else:
            tensors[name] = tensor
    return tensors, factors


def make_tensor(path, t, rows, cols):
    kind = t.tensor_type
    if kind.name in PLAIN:
        return plain_tensor(path, int(t.data_offset), rows, cols, PLAIN[kind.name], t.name)
    block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    try:
        gguf.quants.dequantize(np.zeros((1, block_bytes), np.uint8), kind)
    except NotImplementedError:
        raise SourceError(f"{path}: tensor {t.name} has the type {kind.name}, which is not supported") from None
    if cols % block:
        raise SourceError(f"{path}: tensor {t.name} has {cols} columns, expected a multiple of {block} ({kind.name})")

    def decode(raw):
        return gguf.quants.dequantize(raw, kind)

    row_bytes = cols // block * block_bytes
    return Tensor(path, int(t.data_offset), rows, cols, EXACT.get(kind.name), row_bytes, decode, t.name)
