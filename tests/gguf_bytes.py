"""A plain writer of GGUF files, written from ggml's description of the format, which can be told to write files that are
wrong. The gguf package, with which test_gguf.py compares, writes only good ones."""

import struct
from dataclasses import dataclass, field

import numpy as np

U8, I8, U16, I16, U32, I32, F32, BOOL, TEXT, ARRAY, U64, I64, F64 = range(13)
FORMS = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "B", U64: "Q", I64: "q", F64: "d"}
# Name of a type -> number, columns and bytes of a quantisation block.
TYPES = {"F32": (0, 1, 4), "F16": (1, 1, 2), "Q4_0": (2, 32, 18), "Q4_1": (3, 32, 20), "Q8_0": (8, 32, 34), "BF16": (30, 1, 2)}
HEAD = 24  # bytes of the header


def text(value):
    data = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<Q", len(data)) + data


def values(kind, items):
    """The bytes of values of one type."""
    if kind == TEXT:
        return b"".join(text(item) for item in items)
    return struct.pack(f"<{len(items)}{FORMS[kind]}", *items)


@dataclass
class Key:
    """A key; of an array, `kind` is the type of its elements. `raw` replaces all bytes after the name."""

    name: str
    kind: int
    value: object
    raw: bytes = None

    def pack(self):
        if self.raw is not None:
            return text(self.name) + self.raw
        if isinstance(self.value, list):
            return text(self.name) + struct.pack("<IIQ", ARRAY, self.kind, len(self.value)) + values(self.kind, self.value)
        return text(self.name) + struct.pack("<I", self.kind) + values(self.kind, [self.value])


@dataclass
class Tensor:
    """dims: columns first. What is None is filled in: n_dims, and the offset behind the tensor before."""

    name: str
    dims: list
    type: int
    data: bytes
    n_dims: int = None
    offset: int = None

    def pack(self, offset):
        n_dims = len(self.dims) if self.n_dims is None else self.n_dims
        offset = offset if self.offset is None else self.offset
        return text(self.name) + struct.pack(f"<I{len(self.dims)}QIQ", n_dims, *self.dims, self.type, offset)


@dataclass
class File:
    keys: list = field(default_factory=list)
    tensors: list = field(default_factory=list)
    version: int = 3
    n_keys: int = None
    n_tensors: int = None
    alignment: int = 32

    def key(self, name):
        return next(k for k in self.keys if k.name == name)

    def tensor(self, name):
        return next(t for t in self.tensors if t.name == name)

    def head(self):
        """Everything before the data, without padding."""
        count = [len(self.tensors) if self.n_tensors is None else self.n_tensors,
                 len(self.keys) if self.n_keys is None else self.n_keys]  # fmt: skip
        return (b"GGUF" + struct.pack("<IQQ", self.version, *count) + b"".join(k.pack() for k in self.keys)
                + b"".join(t.pack(offset) for t, offset in zip(self.tensors, self.offsets())))  # fmt: skip

    def offsets(self):
        found, end = [], 0
        for t in self.tensors:
            found.append(end)
            end += -(-len(t.data) // self.alignment) * self.alignment
        return found

    def pack(self):
        out = bytearray(self.head())
        out += bytes(-len(out) % self.alignment)
        for i, t in enumerate(self.tensors):
            out += t.data
            if i + 1 < len(self.tensors):
                out += bytes(-len(t.data) % self.alignment)
        return bytes(out)

    def edges(self):
        """(what, offset) of the start of each structure's fields."""
        at = HEAD
        for number, key in enumerate(self.keys):
            yield f"key{number}.name", at
            yield f"key{number}.type", at + len(text(key.name))
            yield f"key{number}.value", at + len(text(key.name)) + 4
            if isinstance(key.value, list):
                yield f"key{number}.count", at + len(text(key.name)) + 8
                yield f"key{number}.elements", at + len(text(key.name)) + 16
            at += len(key.pack())
        for number, t in enumerate(self.tensors):
            yield f"tensor{number}.name", at
            start = at + len(text(t.name))
            yield f"tensor{number}.n_dims", start
            yield f"tensor{number}.dims", start + 4
            yield f"tensor{number}.type", start + 4 + 8 * len(t.dims)
            yield f"tensor{number}.offset", start + 8 + 8 * len(t.dims)
            at += len(t.pack(0))
        yield "data", at


# ----------------------------------------------------------------------------------------------------------------------
# A small model


def letters():
    """Byte -> the letter that GPT-2's vocabularies write for it: itself where it is visible, else U+0100 and up."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = iter(range(0x100, 0x200))
    return [chr(b) if b in visible else chr(next(hidden)) for b in range(256)]


def weights(rng, kind, rows, cols):
    """Random values with a finite scale of each block."""
    _, columns, size = TYPES[kind]
    if kind == "F32":
        return (rng.standard_normal(rows * cols).astype("<f4") / 8).tobytes()
    if kind in ("F16", "BF16"):
        half = (rng.standard_normal(rows * cols) / 8).astype("<f2" if kind == "F16" else "<f4")
        return half.tobytes() if kind == "F16" else (half.view("<u4") >> 16).astype("<u2").tobytes()
    blocks = rng.integers(0, 256, (rows * cols // columns, size), np.uint8)
    for at in (0, 2) if kind == "Q4_1" else (0,):
        blocks[:, at : at + 2] = rng.integers(0x2400, 0x2800, (len(blocks), 1), np.uint16).view(np.uint8)
    if kind == "Q8_0":
        blocks[:, 2:][blocks[:, 2:] == 0x80] = 0x7F
    return blocks.tobytes()


def byte_level_keys():
    tokens = [*letters(), "ab", "<s>", "</s>"]
    return [
        Key("tokenizer.ggml.model", TEXT, "gpt2"), Key("tokenizer.ggml.pre", TEXT, "gpt-2"),
        Key("tokenizer.ggml.tokens", TEXT, tokens), Key("tokenizer.ggml.token_type", I32, [1] * 257 + [3, 3]),
        Key("tokenizer.ggml.merges", TEXT, ["a b"]), Key("tokenizer.ggml.bos_token_id", U32, 257),
        Key("tokenizer.ggml.eos_token_id", U32, 258), Key("tokenizer.ggml.add_bos_token", BOOL, 1),
    ]  # fmt: skip


def sentencepiece_keys():
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256)), "\u2581", "a", "b", "ab"]
    return [
        Key("tokenizer.ggml.model", TEXT, "llama"), Key("tokenizer.ggml.tokens", TEXT, tokens),
        Key("tokenizer.ggml.scores", F32, [0.0] * 259 + [-1.0, -2.0, -3.0, -0.5]),
        Key("tokenizer.ggml.token_type", I32, [2, 3, 3, *[6] * 256, 1, 1, 1, 1]),
        Key("tokenizer.ggml.unknown_token_id", U32, 0), Key("tokenizer.ggml.add_space_prefix", BOOL, 1),
    ]  # fmt: skip


def layer_keys(n):
    """Keys of families, for n layers; without the architecture's name and the dot."""
    window = [("attention.sliding_window", U32, 5), ("attention.sliding_window_pattern", BOOL, [1] * n)]
    scales = [(name, F32, 2.0) for name in ("embedding_scale", "residual_scale", "logit_scale", "attention.scale")]
    yarn = {"factor": 4.0, "yarn_beta_fast": 8.0, "yarn_beta_slow": 1.0, "yarn_log_multiplier": 1.0, "yarn_ext_factor": 1.0,
            "attn_factor": 1.0}  # fmt: skip
    original = ("rope.scaling.original_context_length", U32, 16)
    return {
        "gemma2": [*window, ("attn_logit_softcapping", F32, 50.0), ("final_logit_softcapping", F32, 30.0)],
        "gemma3": [*window, ("rope.freq_base_swa", F32, 100.0)],
        "granite": [*scales, ("rope.scaling.finetuned", BOOL, 1)],
        "qwen3moe": [("expert_count", U32, 3), ("expert_used_count", U32, 2), ("expert_feed_forward_length", U32, 32)],
        "olmo2": window,
        "exaone4": window,
        "phi3": [("rope.dimension_count", U32, 12), original, ("rope.scaling.attn_factor", F32, 1.5)],
        "mistral3": [("rope.scaling.type", TEXT, "yarn"), original, ("attention.temperature_scale", F32, 0.5),
                     *((f"rope.scaling.{name}", F32, value) for name, value in yarn.items())],
    }  # fmt: skip


def tiny(tokenizer=byte_level_keys, sizes=(32, 64, 1, 2, 1, 16), architecture="llama"):
    """A model of one layer. The matrices of a llama are of all types that can be."""
    dim, hidden, layers, heads, kv_heads, head_dim = sizes
    a = architecture
    keys = [
        Key("general.architecture", TEXT, a), Key(f"{a}.block_count", U32, layers),
        Key(f"{a}.context_length", U32, 64), Key(f"{a}.embedding_length", U32, dim),
        Key(f"{a}.feed_forward_length", U32, hidden), Key(f"{a}.attention.head_count", U32, heads),
        Key(f"{a}.attention.head_count_kv", U32, kv_heads), Key(f"{a}.attention.key_length", U32, head_dim),
        Key(f"{a}.attention.layer_norm_rms_epsilon", F32, 1e-5), Key(f"{a}.rope.freq_base", F32, 10000.0),
        *(Key(f"{a}.{name}", kind, value) for name, kind, value in layer_keys(layers).get(a, [])), *tokenizer(),
    ]  # fmt: skip
    vocab = len(next(k for k in keys if k.name.endswith(".tokens")).value)
    q, kv = heads * head_dim, kv_heads * head_dim
    block = {"attn_norm": ("F32", None, dim), "ffn_norm": ("F32", None, dim),
             "attn_q": ("Q4_0", q, dim), "attn_k": ("Q8_0", kv, dim), "attn_v": ("Q4_1", kv, dim),
             "attn_output": ("F16", dim, q), "ffn_gate": ("BF16", hidden, dim), "ffn_up": ("Q4_0", hidden, dim),
             "ffn_down": ("F32", dim, hidden)}  # fmt: skip
    if a in ("gemma2", "gemma3", "olmo2", "exaone4"):
        block |= {"post_attention_norm": ("F32", None, dim), "post_ffw_norm": ("F32", None, dim)}
    if a in ("olmo2", "exaone4"):
        block = {name: of for name, of in block.items() if name not in ("attn_norm", "ffn_norm")}
    if a in ("gemma3", "exaone4", "olmo2", "qwen3moe"):
        block |= {"attn_q_norm": ("F32", None, q if a == "olmo2" else head_dim),
                  "attn_k_norm": ("F32", None, kv if a == "olmo2" else head_dim)}  # fmt: skip
    if a == "qwen3moe":
        block = {name: of for name, of in block.items() if name not in ("ffn_gate", "ffn_up", "ffn_down")}
        block |= {"ffn_gate_inp": ("F32", 3, dim), "ffn_gate_exps": ("BF16", 32, dim, 3), "ffn_up_exps": ("Q4_0", 32, dim, 3),
                  "ffn_down_exps": ("Q8_0", dim, 32, 3)}  # fmt: skip
    if a == "phi3":
        block = {name: of for name, of in block.items() if name not in ("attn_q", "attn_k", "attn_v", "ffn_gate")}
        block |= {"attn_qkv": ("Q8_0", q + 2 * kv, dim), "ffn_up": ("Q4_0", 2 * hidden, dim)}
    rng, tensors = np.random.default_rng(1), []

    def add(name, kind, rows, cols, *experts):
        dims = [cols] if rows is None else [cols, rows, *experts]
        n = rows if not experts else rows * experts[0]
        data = np.ones(cols, "<f4").tobytes() if rows is None else weights(rng, kind, n, cols)
        tensors.append(Tensor(f"{name}.weight", dims, TYPES[kind][0], data))

    add("token_embd", "Q8_0", vocab, dim)
    for layer in range(layers):
        for name, of in block.items():
            add(f"blk.{layer}.{name}", *of)
    add("output_norm", "F32", None, dim)
    add("output", "Q4_1", vocab, dim)
    for name in ("rope_factors_long", "rope_factors_short") if a == "phi3" else ():
        add(name, "F32", None, 6)  # half of rope.dimension_count
    return File(keys, tensors)
