"""GGUF files of the tiny models of sources.FAMILIES, with the keys and tensors that llama.cpp's converter
(convert_hf_to_gguf.py of llama-cpp-python 0.3.36) writes for them. What it cannot express it drops, so only those in
EXPRESSED give the logits of transformers.
"""

import math

import numpy as np

import sources

ARCHITECTURES = {
    "LlamaForCausalLM": "llama",
    "Qwen3ForCausalLM": "qwen3",
    "Qwen3MoeForCausalLM": "qwen3moe",
    "SmolLM3ForCausalLM": "smollm3",
    "GraniteForCausalLM": "granite",
    "GraniteMoeHybridForCausalLM": "granite",
    "MiniCPMForCausalLM": "minicpm",
    "Gemma2ForCausalLM": "gemma2",
    "Gemma3ForCausalLM": "gemma3",
    "Olmo2ForCausalLM": "olmo2",
    "Olmo3ForCausalLM": "olmo2",
    "Exaone4ForCausalLM": "exaone4",
    "Phi3ForCausalLM": "phi3",
    "Ministral3ForCausalLM": "mistral3",
    "HunYuanDenseV1ForCausalLM": "hunyuan-dense",
}
EXPRESSED = (
    "llama_biases", "llama_attention_bias", "qwen3", "qwen3_biases", "qwen3_moe", "qwen3_moe_tied", "smollm3",
    "smollm3_untied", "granite_narrow", "granite_untied", "granite4_narrow", "granite4_tied", "gemma2_wide", "gemma2_heads",
    "gemma3_wide", "gemma3_heads", "olmo2", "olmo2_tied", "olmo3", "olmo3_parameters", "exaone4", "exaone4_window",
    "ministral3", "ministral3_tied", "hunyuan_plain", "hunyuan_alpha", "phi3_plain", "phi3_short", "phi3_long",
)  # fmt: skip
ROTATES_NEIGHBOURS = ("llama", "smollm3", "granite", "minicpm", "mistral3")

NAMES = {
    **sources.GGUF_NAMES,
    "post_feedforward_layernorm": "post_ffw_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "self_attn.query_layernorm": "attn_q_norm",
    "self_attn.key_layernorm": "attn_k_norm",
    "self_attn.qkv_proj": "attn_qkv",
    "mlp.gate_up_proj": "ffn_up",
    "shared_mlp.output_linear": "ffn_down",
    "mlp.gate": "ffn_gate_inp",
}
POST_NORMS = ("gemma2", "gemma3", "olmo2", "exaone4")  # whose post_attention_layernorm is what it says


def head_dim(config):
    return config.get("head_dim", config["hidden_size"] // config["num_attention_heads"])


def rope_of(config):
    """The RoPE of the layers without a window, and the base of those with one, or None."""
    scaling = config.get("rope_parameters") or config.get("rope_scaling") or {}
    full = {"rope_theta": config["rope_theta"], **scaling.get("full_attention", scaling)}
    window = scaling.get("sliding_attention", {}).get("rope_theta", config.get("rope_local_base_freq"))
    # transformers gives OLMo 3's config an object for each kind of layer.
    return full, full["rope_theta"] if window is None and config["model_type"] == "olmo3" else window


def rope_keys(config):
    rope, window_theta = rope_of(config)
    kind = rope.get("rope_type", rope.get("type"))
    keys = {"rope.freq_base": float(rope["rope_theta"])}
    if window_theta is not None:
        keys["rope.freq_base_swa"] = float(window_theta)
    if kind in ("linear", "yarn"):
        keys |= {"rope.scaling.type": kind, "rope.scaling.factor": float(rope["factor"])}
    if kind == "yarn":
        keys["rope.scaling.original_context_length"] = rope["original_max_position_embeddings"]
        names = {"attention_factor": "attn_factor", "beta_fast": "beta_fast", "beta_slow": "beta_slow"}
        keys |= {f"rope.scaling.yarn_{key}": float(rope[name]) for name, key in names.items() if name in rope}
    if kind == "dynamic":
        dim = head_dim(config)
        keys["rope.freq_base"] = rope["rope_theta"] * rope["alpha"] ** (dim / (dim - 2))
        keys |= {"rope.scaling.type": "none", "rope.scaling.factor": 1.0, "context_length": 262144,
                 "rope.scaling.original_context_length": 262144}  # fmt: skip
    return keys


def window_keys(config, architecture):
    if architecture in ("gemma2", "gemma3"):
        return {"attention.sliding_window": config["sliding_window"]}
    if architecture == "phi3":
        return {"attention.sliding_window": config.get("sliding_window") or 0}
    if architecture not in ("olmo2", "exaone4") or not config.get("sliding_window"):
        return {}
    n, every = config["num_hidden_layers"], config.get("sliding_window_pattern", 4)
    kinds = config.get("layer_types", ["full_attention" if (i + 1) % every == 0 else "sliding_attention" for i in range(n)])
    return {"attention.sliding_window": config["sliding_window"],
            "attention.sliding_window_pattern": [kind == "sliding_attention" for kind in kinds]}  # fmt: skip


def granite_keys(config):
    """Its head_dim is ignored. Of Granite 4 it also writes the keys of Mamba layers, of which there are none."""
    names = {"attention_multiplier": "attention.scale", "embedding_multiplier": "embedding_scale",
             "residual_multiplier": "residual_scale", "logits_scaling": "logit_scale"}  # fmt: skip
    keys = {key: float(config[name]) for name, key in names.items() if name in config}
    if config["model_type"] != "granitemoehybrid":
        return keys
    return {**keys, "expert_count": 0, "expert_used_count": 0, "ssm.conv_kernel": 4, "ssm.state_size": 16,
            "ssm.group_count": 1, "ssm.inner_size": 64, "ssm.time_step_rank": 4, "rope.scaling.finetuned": True,
            "expert_shared_feed_forward_length": config["shared_intermediate_size"],
            "attention.head_count_kv": [config["num_key_value_heads"]] * config["num_hidden_layers"]}  # fmt: skip


def phi3_keys(config):
    original = config.get("original_max_position_embeddings", 4096)
    keys = {"rope.dimension_count": int(config["partial_rotary_factor"] * config["hidden_size"]) // 4,
            "rope.scaling.original_context_length": original}  # fmt: skip
    scale = config["max_position_embeddings"] / original
    if "long_factor" in (config.get("rope_scaling") or {}):
        keys["rope.scaling.attn_factor"] = math.sqrt(1 + math.log(scale) / math.log(original)) if scale > 1 else 1.0
    return keys


def family_keys(config, architecture):
    if architecture == "granite":
        return granite_keys(config)
    if architecture == "phi3":
        return phi3_keys(config)
    if architecture == "gemma2":
        return {"attn_logit_softcapping": config["attn_logit_softcapping"],
                "final_logit_softcapping": config["final_logit_softcapping"]}  # fmt: skip
    if architecture == "qwen3moe":
        return {"expert_count": config["num_experts"], "expert_used_count": config["num_experts_per_tok"],
                "expert_feed_forward_length": config["moe_intermediate_size"]}  # fmt: skip
    if architecture == "mistral3":
        rope = config["rope_parameters"]
        return {"rope.scaling.yarn_log_multiplier": rope["mscale_all_dim"],
                "attention.temperature_scale": rope["llama_4_scaling_beta"]}  # fmt: skip
    if architecture == "minicpm":
        return {"embedding_scale": config["scale_emb"], "logit_scale": config["hidden_size"] / config["dim_model_base"],
                "residual_scale": config["scale_depth"] / config["num_hidden_layers"] ** 0.5}  # fmt: skip
    return {}


def keys(config):
    """Keys of the architecture, without its name and the dot -> value."""
    c, architecture = config, ARCHITECTURES[config["architectures"][0]]
    found = {
        "block_count": c["num_hidden_layers"], "context_length": c["max_position_embeddings"],
        "embedding_length": c["hidden_size"], "feed_forward_length": c["intermediate_size"],
        "attention.head_count": c["num_attention_heads"], "attention.head_count_kv": c["num_key_value_heads"],
        "attention.layer_norm_rms_epsilon": c["rms_norm_eps"],
    }  # fmt: skip
    if architecture not in ("granite", "phi3"):
        found |= {"attention.key_length": head_dim(c), "attention.value_length": head_dim(c)}
    if architecture in ROTATES_NEIGHBOURS:
        found["rope.dimension_count"] = head_dim(c)
    if architecture in (*ROTATES_NEIGHBOURS, "exaone4"):
        found["vocab_size"] = c["vocab_size"]
    rope = {"rope.freq_base": float(c["rope_theta"])} if architecture in ("phi3",) else rope_keys(c)
    if architecture == "gemma2":  # it writes no base, and the reader's default is 10000
        rope = {}
    return {**found, **rope, **window_keys(c, architecture), **family_keys(c, architecture)}


def gguf_name(name, architecture):
    stem, _, last = name.rpartition(".")
    if stem in NAMES:
        return f"{NAMES[stem]}.{last}"
    _, _, layer, stem = stem.split(".", 3)
    ours = "post_attention_norm" if stem == "post_attention_layernorm" and architecture in POST_NORMS else NAMES[stem]
    return f"blk.{layer}.{ours}.{last}"


def permuted(values, name, config):
    for part, heads in ((".q_proj.", "num_attention_heads"), (".k_proj.", "num_key_value_heads")):
        if part in name:
            return sources.neighbours(values, config[heads])
    return values


def fused(found):
    """The same with q, k and v of a layer as one tensor, as the converter's option --fuse-qkv has it."""
    found = dict(found)
    for name in [n for n in found if ".attn_q." in n]:
        parts = [found.pop(name.replace("attn_q.", f"attn_{part}.")) for part in "qkv"]
        found[name.replace("attn_q.", "attn_qkv.")] = np.concatenate(parts)
    return found


def tensors(config):
    """GGUF's name -> f32 array."""
    architecture, found = ARCHITECTURES[config["architectures"][0]], {}
    for name, values in sources.weights(config).items():
        if architecture.startswith("gemma") and name.endswith("norm.weight"):
            values = values + np.float32(1)
        if architecture in ROTATES_NEIGHBOURS:
            values = permuted(values, name, config)
        if ".experts." in name:
            _, _, layer, _, _, _, matrix, _ = name.split(".")
            found.setdefault(f"blk.{layer}.ffn_{matrix[:-5]}_exps.weight", []).append(values)
        elif name.endswith("shared_mlp.input_linear.weight"):
            layer = name.split(".")[2]
            found |= zip((f"blk.{layer}.ffn_gate.weight", f"blk.{layer}.ffn_up.weight"), np.split(values, 2))
        else:
            found[gguf_name(name, architecture)] = values
    found = {name: np.stack(values) if isinstance(values, list) else values for name, values in found.items()}
    for key in ("long", "short") if architecture == "phi3" else ():
        if f"{key}_factor" in (config.get("rope_scaling") or {}):
            found[f"rope_factors_{key}.weight"] = np.array(config["rope_scaling"][f"{key}_factor"], "<f4")
    return found


def write(path, config, kind="F32", *, fuse=False, changed_keys={}, architecture=None):
    """changed_keys: values in place of those of keys(), None for none."""
    import gguf

    architecture = architecture or ARCHITECTURES[config["architectures"][0]]
    w = gguf.GGUFWriter(path, architecture)
    add = {int: w.add_uint32, float: w.add_float32, str: w.add_string, bool: w.add_bool, list: w.add_array}
    for key, value in {**keys(config), **changed_keys}.items():
        if value is not None:
            add[type(value)](f"{architecture}.{key}", value)
    sources.add_vocabulary(w)
    kind = gguf.GGMLQuantizationType[kind]
    held = tensors(config)
    for name, values in (fused(held) if fuse else held).items():
        of = gguf.GGMLQuantizationType.F32 if values.ndim == 1 else kind
        raw = gguf.quants.quantize(values, of)
        w.add_tensor(name, raw, raw_dtype=None if of.name in ("F32", "F16") else of)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    return path
