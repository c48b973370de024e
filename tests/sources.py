"""Tiny random models as scripts/convert.py reads them: Hugging Face folders and GGUF files.

VARIANTS covers the shapes of Llama's graph, FAMILIES the switches of the other ones. scripts/make_golden_variants.py
runs each with the transformers package, and the tests compare logits. Weights come from models.uniform, so their bytes
never change.
"""

import json

import numpy as np

import models
from gguf_bytes import letters

LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 56,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "vocab_size": 300,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "bos_token_id": 256,
    "eos_token_id": 257,
}
MISTRAL = {**LLAMA, "architectures": ["MistralForCausalLM"], "model_type": "mistral", "sliding_window": None}
QWEN2 = {**LLAMA, "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "use_sliding_window": False}
LLAMA3_SCALING = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}

VARIANTS = {
    "llama": LLAMA,
    "grouped_queries": {**LLAMA, "num_key_value_heads": 2},
    "one_key_head": {**LLAMA, "num_key_value_heads": 1},
    "tied_head": {**LLAMA, "tie_word_embeddings": True},
    "large_heads": {**LLAMA, "head_dim": 16, "num_key_value_heads": 2},
    "small_heads": {**LLAMA, "head_dim": 4, "tie_word_embeddings": True},
    "llama3_scaling": {**LLAMA, "head_dim": 16, "rope_scaling": LLAMA3_SCALING},
    "llama3_parameters": {**LLAMA, "head_dim": 16, "rope_theta": None,
                          "rope_parameters": {**LLAMA3_SCALING, "rope_theta": 500000.0}},
    "linear_scaling": {**LLAMA, "rope_scaling": {"type": "linear", "factor": 2.5}},
    "large_theta": {**LLAMA, "rope_theta": 1000000.0, "rms_norm_eps": 1e-6},
    "sliding_window": {**MISTRAL, "sliding_window": 5, "num_key_value_heads": 2},
    "no_window": MISTRAL,
    "biases": {**QWEN2, "num_key_value_heads": 2},
    "biases_tied": {**QWEN2, "tie_word_embeddings": True},
    "biases_and_window": {**QWEN2, "use_sliding_window": True, "sliding_window": 7, "max_window_layers": 0},
}  # fmt: skip
N_TOKENS = 40
GOLDEN_ROWS = slice(3, None, 4)  # the rows of logits that are kept

# Two configurations of each family at least: tied and not, grouped queries, windows that are shorter than the text.
DEEP = {**LLAMA, "num_hidden_layers": 4, "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 256,
        "pad_token_id": 0}  # fmt: skip
TIED = {"tie_word_embeddings": True}
YARN = {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 32, "beta_fast": 4.0, "beta_slow": 1.0}
LONGROPE = {"type": "longrope", "short_factor": [1.0, 1.1, 1.2, 1.5, 2.0, 2.5],
            "long_factor": [1.0, 1.5, 3.0, 7.0, 11.0, 20.5]}  # fmt: skip
GRANITE4 = {"num_local_experts": 0, "intermediate_size": 24, "shared_intermediate_size": 56, "mamba_n_heads": 4,
            "layer_types": ["attention"] * 4, "head_dim": 8}  # fmt: skip
EXPERTS = {"moe_intermediate_size": 32, "norm_topk_prob": True, "decoder_sparse_step": 1, "mlp_only_layers": [],
           "use_sliding_window": False}  # fmt: skip
PHI = {"hidden_size": 64, "partial_rotary_factor": 0.75}  # of 16 dimensions, 12
GEMMA = {"hidden_act": None, "hidden_activation": "gelu_pytorch_tanh", "query_pre_attn_scalar": 11}
GEMMA_WIDE = {**GEMMA, "hidden_size": 64, "query_pre_attn_scalar": 16}


def family(model_type, architecture, **fields):
    return {**DEEP, "model_type": model_type, "architectures": [architecture], **fields}


FAMILIES = {
    "llama_biases": {**DEEP, "attention_bias": True, "mlp_bias": True},
    "llama_attention_bias": {**DEEP, **TIED, "attention_bias": True},
    "qwen3": family("qwen3", "Qwen3ForCausalLM", use_sliding_window=False),
    "qwen3_window": family("qwen3", "Qwen3ForCausalLM", use_sliding_window=True, sliding_window=20, max_window_layers=2,
                           num_key_value_heads=4),
    "qwen3_moe": family("qwen3_moe", "Qwen3MoeForCausalLM", **EXPERTS, num_experts=8, num_experts_per_tok=3),
    "qwen3_moe_tied": family("qwen3_moe", "Qwen3MoeForCausalLM", **EXPERTS, **TIED, num_experts=5, num_experts_per_tok=5,
                             num_key_value_heads=4),
    "smollm3": family("smollm3", "SmolLM3ForCausalLM", **TIED, no_rope_layers=[1, 1, 1, 0], rope_theta=2000000.0),
    "smollm3_window": family("smollm3", "SmolLM3ForCausalLM", no_rope_layer_interval=2, use_sliding_window=True,
                             sliding_window=50, attention_bias=True, num_key_value_heads=1),
    "granite": family("granite", "GraniteForCausalLM", **TIED, embedding_multiplier=12.0, residual_multiplier=0.22,
                      attention_multiplier=0.125, logits_scaling=0.75),
    "granite_biases": family("granite", "GraniteForCausalLM", attention_bias=True, mlp_bias=True,
                             residual_multiplier=0.5, embedding_multiplier=1.0, attention_multiplier=1.0, logits_scaling=1.5),
    "gemma2": family("gemma2", "Gemma2ForCausalLM", **GEMMA, **TIED, attn_logit_softcapping=5.0,
                     final_logit_softcapping=3.0, sliding_window=24),
    "gemma2_plain": family("gemma2", "Gemma2ForCausalLM", **GEMMA, attn_logit_softcapping=None, num_key_value_heads=4,
                           final_logit_softcapping=None, layer_types=["full_attention"] * 4),
    "gemma3": family("gemma3_text", "Gemma3ForCausalLM", **GEMMA, **TIED, sliding_window=24, sliding_window_pattern=3,
                     rope_local_base_freq=100.0, rope_scaling={"rope_type": "linear", "factor": 8.0}),
    "gemma3_parameters": family("gemma3_text", "Gemma3ForCausalLM", **GEMMA, sliding_window=50, num_key_value_heads=1,
                                layer_types=["full_attention", "sliding_attention"] * 2, rope_parameters={
                                    "full_attention": {"rope_type": "default", "rope_theta": 5000.0},
                                    "sliding_attention": {"rope_type": "default", "rope_theta": 300.0}}),
    "olmo2": family("olmo2", "Olmo2ForCausalLM"),
    "olmo2_tied": family("olmo2", "Olmo2ForCausalLM", **TIED, num_key_value_heads=4, head_dim=8, attention_bias=True),
    "exaone4": family("exaone4", "Exaone4ForCausalLM", **TIED, sliding_window=None, layer_types=["full_attention"] * 4),
    "exaone4_window": family("exaone4", "Exaone4ForCausalLM", sliding_window=24, sliding_window_pattern=4,
                             num_key_value_heads=4),
    "olmo3": family("olmo3", "Olmo3ForCausalLM", sliding_window=24, rope_theta=500000.0, rope_scaling=YARN),
    "olmo3_parameters": family("olmo3", "Olmo3ForCausalLM", **TIED, sliding_window=50, num_key_value_heads=4,
                               layer_types=["full_attention", "sliding_attention"] * 2, rope_parameters={
                                   "full_attention": {**YARN, "rope_theta": 3000.0, "attention_factor": 1.3},
                                   "sliding_attention": {"rope_type": "default", "rope_theta": 300.0}}),
    "ministral3": family("ministral3", "Ministral3ForCausalLM", rope_parameters={
        **YARN, "rope_theta": 5000.0, "original_max_position_embeddings": 30, "mscale": 1.0, "mscale_all_dim": 1.0,
        "llama_4_scaling_beta": 0.4}),
    "ministral3_mscale": family("ministral3", "Ministral3ForCausalLM", **TIED, num_key_value_heads=1, rope_parameters={
        **YARN, "rope_theta": 300.0, "mscale": 1.5, "mscale_all_dim": 0.5, "beta_fast": 8.0, "beta_slow": 0.3,
        "truncate": False, "llama_4_scaling_beta": 0.0}),
    "hunyuan": family("hunyuan_v1_dense", "HunYuanDenseV1ForCausalLM", **TIED, rope_scaling={
        "type": "dynamic", "alpha": 100.0, "factor": 1.0}),
    "hunyuan_plain": family("hunyuan_v1_dense", "HunYuanDenseV1ForCausalLM", attention_bias=True),
    "phi3_long": family("phi3", "Phi3ForCausalLM", **PHI, **TIED, original_max_position_embeddings=64,
                        rope_scaling=LONGROPE),
    "phi3_short": family("phi3", "Phi3ForCausalLM", **PHI, original_max_position_embeddings=220, num_key_value_heads=4,
                         sliding_window=100, rope_scaling={**LONGROPE, "type": "su",
                                                           "original_max_position_embeddings": 220}),
    "phi3_plain": family("phi3", "Phi3ForCausalLM", **PHI),
    "granite4": family("granitemoehybrid", "GraniteMoeHybridForCausalLM", **GRANITE4, **TIED, embedding_multiplier=12.0,
                       residual_multiplier=0.22, attention_multiplier=0.125, logits_scaling=0.75,
                       position_embedding_type="rope"),
    "granite4_no_rope": family("granitemoehybrid", "GraniteMoeHybridForCausalLM", **GRANITE4, attention_multiplier=0.25,
                               num_key_value_heads=4, position_embedding_type=None),
    # As llama.cpp's converter can write them too (gguf_families.py).
    "gemma2_wide": family("gemma2", "Gemma2ForCausalLM", **GEMMA_WIDE, **TIED, attn_logit_softcapping=5.0,
                          final_logit_softcapping=3.0, sliding_window=24),
    "gemma3_wide": family("gemma3_text", "Gemma3ForCausalLM", **GEMMA_WIDE, **TIED, num_hidden_layers=6, vocab_size=258,
                          sliding_window=24, rope_local_base_freq=100.0,
                          rope_scaling={"rope_type": "linear", "factor": 8.0}),
    "granite_narrow": family("granite", "GraniteForCausalLM", **TIED, head_dim=8, embedding_multiplier=12.0,
                             residual_multiplier=0.22, attention_multiplier=0.125, logits_scaling=0.75),
    "granite4_narrow": family("granitemoehybrid", "GraniteMoeHybridForCausalLM", **{
        **GRANITE4, "intermediate_size": 56, "mamba_n_groups": 1}, embedding_multiplier=3.0, attention_multiplier=0.25,
                              num_key_value_heads=1, position_embedding_type="rope"),
    "hunyuan_alpha": family("hunyuan_v1_dense", "HunYuanDenseV1ForCausalLM", **TIED, max_position_embeddings=32768,
                            rope_scaling={"type": "dynamic", "alpha": 1000.0, "factor": 1.0}),
    "mistral_layer_types": family("ministral", "MinistralForCausalLM", sliding_window=33, layer_types=[
        "sliding_attention", "full_attention", "full_attention", "sliding_attention"]),
    "qwen3_biases": family("qwen3", "Qwen3ForCausalLM", **TIED, attention_bias=True, num_key_value_heads=1),
    "smollm3_untied": family("smollm3", "SmolLM3ForCausalLM", no_rope_layers=[1, 1, 1, 0], num_key_value_heads=1),
    "granite_untied": family("granite", "GraniteForCausalLM", head_dim=8, num_key_value_heads=4, embedding_multiplier=3.0,
                             residual_multiplier=0.5, attention_multiplier=0.25, logits_scaling=1.5),
    "granite4_tied": family("granitemoehybrid", "GraniteMoeHybridForCausalLM", **{
        **GRANITE4, "intermediate_size": 56, "mamba_n_groups": 1}, **TIED, embedding_multiplier=12.0,
                            residual_multiplier=0.5, attention_multiplier=1.0, num_key_value_heads=4,
                            position_embedding_type="rope"),
    "gemma2_heads": family("gemma2", "Gemma2ForCausalLM", **GEMMA_WIDE, **TIED, attn_logit_softcapping=20.0,
                           final_logit_softcapping=9.0, sliding_window=50, num_key_value_heads=1),
    "gemma3_heads": family("gemma3_text", "Gemma3ForCausalLM", **GEMMA_WIDE, **TIED, num_hidden_layers=6, vocab_size=258,
                           sliding_window=50, num_key_value_heads=4, rope_local_base_freq=300.0),
    "ministral3_tied": family("ministral3", "Ministral3ForCausalLM", **TIED, num_key_value_heads=4, rope_parameters={
        **YARN, "rope_theta": 300.0, "mscale": 1.0, "mscale_all_dim": 1.0, "llama_4_scaling_beta": 0.1}),
}
N_FAMILY_TOKENS = 200
FAMILY_ROWS, FAMILY_COLUMNS = slice(7, None, 8), slice(None, None, 5)  # the logits that are kept

QK_NORMS = dict.fromkeys(("qwen3", "qwen3_moe", "gemma3_text", "olmo2", "olmo3", "exaone4"),
                         ("self_attn.q_norm", "self_attn.k_norm"))  # fmt: skip
QK_NORMS["hunyuan_v1_dense"] = ("self_attn.query_layernorm", "self_attn.key_layernorm")
FULL_NORMS = ("olmo2", "olmo3")  # over all heads
MORE_NORMS = dict.fromkeys(("gemma2", "gemma3_text"), ("pre_feedforward_layernorm", "post_feedforward_layernorm"))
MORE_NORMS |= dict.fromkeys(("olmo2", "olmo3", "exaone4"), ("post_feedforward_layernorm",))


def tokens(config, n=N_TOKENS):
    return models.random_tokens(11, n, config["vocab_size"])


def weights(config, seed=5):
    """Hugging Face's name of a tensor -> f32 array."""
    c = config
    head_dim = c.get("head_dim", c["hidden_size"] // c["num_attention_heads"])
    dim, hidden = c["hidden_size"], c.get("shared_intermediate_size", c["intermediate_size"])
    q_dim, kv_dim = c["num_attention_heads"] * head_dim, c["num_key_value_heads"] * head_dim
    shapes = {"model.embed_tokens.weight": (c["vocab_size"], dim), "model.norm.weight": (dim,)}
    for layer in range(c["num_hidden_layers"]):
        p = f"model.layers.{layer}."
        shapes |= {
            p + "input_layernorm.weight": (dim,),
            p + "self_attn.q_proj.weight": (q_dim, dim),
            p + "self_attn.k_proj.weight": (kv_dim, dim),
            p + "self_attn.v_proj.weight": (kv_dim, dim),
            p + "self_attn.o_proj.weight": (dim, q_dim),
            p + "post_attention_layernorm.weight": (dim,),
            p + "mlp.gate_proj.weight": (hidden, dim),
            p + "mlp.up_proj.weight": (hidden, dim),
            p + "mlp.down_proj.weight": (dim, hidden),
        }
        if c["model_type"] == "qwen2" or c.get("attention_bias"):
            shapes |= {f"{p}self_attn.{m}_proj.bias": (n,) for m, n in (("q", q_dim), ("k", kv_dim), ("v", kv_dim))}
        if c.get("attention_bias"):
            shapes[p + "self_attn.o_proj.bias"] = (dim,)
        if c.get("mlp_bias"):
            shapes |= {f"{p}mlp.{m}_proj.bias": (n,) for m, n in (("gate", hidden), ("up", hidden), ("down", dim))}
        full = c["model_type"] in FULL_NORMS
        for norm, n in zip(QK_NORMS.get(c["model_type"], ()), (q_dim, kv_dim)):
            shapes[f"{p}{norm}.weight"] = (n if full else head_dim,)
        shapes |= {f"{p}{norm}.weight": (dim,) for norm in MORE_NORMS.get(c["model_type"], ())}
        if c["model_type"] in ("olmo2", "olmo3", "exaone4"):
            shapes.pop(p + "input_layernorm.weight")
    if not c["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (c["vocab_size"], dim)
    if c["model_type"] == "granitemoehybrid":
        for layer in range(c["num_hidden_layers"]):
            p = f"model.layers.{layer}."
            for name in ("gate", "up", "down"):
                shapes.pop(f"{p}mlp.{name}_proj.weight")
            shapes[p + "shared_mlp.input_linear.weight"] = (2 * hidden, dim)
            shapes[p + "shared_mlp.output_linear.weight"] = (dim, hidden)
    if c["model_type"] == "qwen3_moe":
        hidden = c["moe_intermediate_size"]
        for layer in range(c["num_hidden_layers"]):
            p = f"model.layers.{layer}.mlp."
            for name in ("gate", "up", "down"):
                shapes.pop(f"{p}{name}_proj.weight")
            shapes[p + "gate.weight"] = (c["num_experts"], dim)
            for name, shape in (("gate", (hidden, dim)), ("up", (hidden, dim)), ("down", (dim, hidden))):
                shapes |= {f"{p}experts.{e}.{name}_proj.weight": shape for e in range(c["num_experts"])}
    if c["model_type"] == "phi3":
        for layer in range(c["num_hidden_layers"]):
            p = f"model.layers.{layer}."
            for fused, parts in (("self_attn.qkv_proj", "qkv"), ("mlp.gate_up_proj", ("gate", "up"))):
                module = p + fused.split(".")[0]
                rows = [shapes.pop(f"{module}.{part}_proj.weight")[0] for part in parts]
                shapes[f"{p}{fused}.weight"] = (sum(rows), dim)
    made = {}
    for i, (name, shape) in enumerate(shapes.items()):
        u = models.uniform(1000 * seed + i, shape)
        if name.endswith("norm.weight"):
            value = (0 if c["model_type"].startswith("gemma") else 1) + u / 4
        else:
            value = u * (1.0 if name.endswith("bias") else np.sqrt(3 / shape[-1]) * 1.5)
        made[name] = value.astype(np.float32)
    return made


def native_names(config):
    """Names in a native file -> Hugging Face's."""
    names = {"embedding": "model.embed_tokens.weight", "norm": "model.norm.weight"}
    if not config["tie_word_embeddings"]:
        names["head"] = "lm_head.weight"
    layer = {"attn_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm"}
    layer |= {f"attn.{m}_proj": f"self_attn.{m}_proj" for m in "qkvo"}
    layer |= {f"mlp.{m}_proj": f"mlp.{m}_proj" for m in ("gate", "up", "down")}
    for i in range(config["num_hidden_layers"]):
        names |= {f"blocks.{i}.{ours}": f"model.layers.{i}.{theirs}.weight" for ours, theirs in layer.items()}
    return names


def tokenizer_json():
    """Byte-level BPE with GPT-2's rule for words: 256 bytes, no merges, two special tokens."""
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0",
        "added_tokens": [
            {"id": 256, "content": "<|im_start|>", **special},
            {"id": 257, "content": "<|im_end|>", **special},
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "post_processor": None,
        "decoder": {"type": "ByteLevel"},
        "model": {"type": "BPE", "vocab": {letter: i for i, letter in enumerate(letters())}, "merges": []},
    }


def write_folder(folder, config, tensors=None, shards=1, chat_template=None):
    """A Hugging Face folder; `tensors` as from weights(), or arrays of f16."""
    from safetensors.numpy import save_file

    tensors = weights(config) if tensors is None else tensors
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer_json()), encoding="utf-8")
    names = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "chat_template": chat_template}
    (folder / "tokenizer_config.json").write_text(json.dumps(names), encoding="utf-8")
    if shards == 1:
        save_file(tensors, folder / "model.safetensors")
        return folder
    weight_map = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        part = {name: tensors[name] for name in list(tensors)[shard::shards]}
        save_file(part, folder / file)
        weight_map |= dict.fromkeys(part, file)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    return folder


# ----------------------------------------------------------------------------------------------------------------------
# GGUF

GGUF_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def gguf_name(name):
    stem, _, last = name.rpartition(".")
    if stem in GGUF_NAMES:
        return f"{GGUF_NAMES[stem]}.{last}"
    _, _, layer, stem = stem.split(".", 3)
    return f"blk.{layer}.{GGUF_NAMES[stem]}.{last}"


def neighbours(w, heads):
    """Rows of q or k in the order of GGUF's llama models: the halves of a head are interleaved."""
    return w.reshape(heads, 2, -1, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


def llama3_factors(config):
    """The tensor rope_freqs for Llama 3's scaling, computed per frequency as its paper defines it."""
    s = config["rope_scaling"]
    original, low, high = (s[k] for k in ("original_max_position_embeddings", "low_freq_factor", "high_freq_factor"))
    factors = []
    for i in range(0, config["head_dim"], 2):
        wavelength = 2 * np.pi * config["rope_theta"] ** (i / config["head_dim"])
        smooth = (original / wavelength - low) / (high - low)
        factors.append(
            1.0 if wavelength < original / high
            else s["factor"] if wavelength > original / low
            else 1 / ((1 - smooth) / s["factor"] + smooth)
        )  # fmt: skip
    return np.array(factors, "<f4")


# Where the blocks of GGUF's types have numbers in f16: other bits could be infinite ones.
SCALES = {"Q8_0": (0,), "Q4_0": (0,), "Q4_1": (0, 2), "Q5_0": (0,), "Q5_1": (0, 2), "IQ4_NL": (0,), "IQ4_XS": (0,),
          "Q2_K": (80, 82), "Q3_K": (108,), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,), "MXFP4": ()}  # fmt: skip


def random_blocks(shape, kind):
    """u8 (rows, bytes): random blocks of a type, whose scales are small numbers."""
    import gguf

    columns, size = gguf.GGML_QUANT_SIZES[kind]
    rng = np.random.default_rng(int(kind))
    blocks = rng.integers(0, 256, (shape[0] * shape[1] // columns, size), np.uint8)
    for at in SCALES.get(kind.name, (0,)):
        blocks[:, at : at + 2] = rng.integers(0x1800, 0x2000, (len(blocks), 1), np.uint16).view(np.uint8)
    if kind.name == "MXFP4":
        blocks[:, 0] = rng.integers(118, 124, len(blocks))  # exponents
    return blocks.reshape(shape[0], -1)


def add_vocabulary(w):
    """That of tokenizer_json() to a gguf.GGUFWriter."""
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("gpt-2")
    w.add_token_list([*tokenizer_json()["model"]["vocab"], "<|im_start|>", "<|im_end|>"])
    w.add_token_types([1] * 256 + [3, 3])
    w.add_bos_token_id(256)
    w.add_eos_token_id(257)


def write_gguf(path, config, kind, architecture="llama", fields={}, extra={}, *, alignment=None, split=0,
               only_vocabulary=False, random=False):  # fmt: skip
    """Writes a GGUF file of weights(config) with matrices of type `kind`, further keys `fields` and tensors `extra`;
    split: the most tensors of a file, for several files; random: matrices of random blocks, as the package quantises to
    some types only.
    Returns the values that the file holds, by Hugging Face's names."""
    import gguf

    w = gguf.GGUFWriter(path, architecture, split_max_tensors=split)
    if alignment:
        w.add_custom_alignment(alignment)
    w.add_context_length(config["max_position_embeddings"])
    w.add_embedding_length(config["hidden_size"])
    w.add_feed_forward_length(config["intermediate_size"])
    w.add_block_count(config["num_hidden_layers"])
    w.add_head_count(config["num_attention_heads"])
    w.add_head_count_kv(config["num_key_value_heads"])
    w.add_layer_norm_rms_eps(config["rms_norm_eps"])
    w.add_rope_freq_base(config["rope_theta"])
    if "head_dim" in config:
        w.add_key_length(config["head_dim"])
        w.add_value_length(config["head_dim"])
    add = {int: w.add_uint32, float: w.add_float32, str: w.add_string}
    for key, value in fields.items():
        add[type(value)](key if key.startswith("general.") else f"{architecture}.{key}", value)
    add_vocabulary(w)
    held = {}
    for name, values in () if only_vocabulary else weights(config).items():
        t = gguf.GGMLQuantizationType["F32" if values.ndim == 1 else kind]
        stored = values = random_blocks(values.shape, t) if random and values.ndim == 2 else values
        for part, heads in ((".q_proj.", "num_attention_heads"), (".k_proj.", "num_key_value_heads")):
            if part in name and architecture == "llama":
                stored = neighbours(values, config[heads])
        if values.dtype == np.uint8:
            held[name] = gguf.quants.dequantize(values, t)
            w.add_tensor(gguf_name(name), stored, raw_dtype=t)
            continue
        held[name] = gguf.quants.dequantize(gguf.quants.quantize(values, t), t)
        raw = gguf.quants.quantize(stored, t)
        w.add_tensor(gguf_name(name), raw, raw_dtype=None if kind in ("F32", "F16") else t)
    for name, values in extra.items():
        w.add_tensor(name, values)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    return held
