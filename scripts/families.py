"""What each architecture of transformers adds to plain Llama: the names of its tensors, the defaults of its config, and
the switches of checkpoint.Config that its class turns on without naming them.

Where a config leaves a field out, its class has a default; those that differ from Llama's are in `defaults`.
"""

import math
from dataclasses import dataclass, field

QK_NORM = {"self_attn.q_norm.weight": "attn.q_norm", "self_attn.k_norm.weight": "attn.k_norm"}
BIASES = {f"self_attn.{m}_proj.bias": f"attn.{m}_bias" for m in "qkvo"}
BIASES |= {f"mlp.{m}_proj.bias": f"mlp.{m}_bias" for m in ("gate", "up", "down")}


@dataclass(frozen=True)
class Family:
    names: dict = field(default_factory=dict)  # of a layer's tensors, beside those of Llama
    defaults: dict = field(default_factory=dict)  # of fields of config.json
    switches: dict = field(default_factory=dict)  # fields of checkpoint.Config
    # Where the window is, unless layer_types says so: nowhere, in "all" layers, in the "last" ones, from max_window_layers
    # on, in all but every n-th, n being sliding_window_pattern ("pattern"), or in those without RoPE ("no_rope").
    windows: str = "none"
    # Where RoPE is: in "all" layers, in those "listed" in no_rope_layers, or, if there is a window, in those that have it
    # ("windowed").
    rope: str = "all"
    scales: object = lambda fields: {}  # fields of config.json -> the scales of checkpoint.Config; may raise a KeyError


def granite_scales(fields):
    """arXiv:2408.13359 has them as hyperparameters of training."""
    return {
        "embedding_scale": fields["embedding_multiplier"],
        "residual_scale": fields["residual_multiplier"],
        "attention_scale": fields["attention_multiplier"],
        "logit_scale": 1 / fields["logits_scaling"],
    }


def minicpm_scales(fields):
    """MiniCPM's own code, with the names of its paper (arXiv:2404.06395)."""
    return {
        "embedding_scale": fields["scale_emb"],
        "residual_scale": fields["scale_depth"] / math.sqrt(fields["num_hidden_layers"]),
        "logit_scale": fields["dim_model_base"] / fields["hidden_size"],
    }


FAMILIES = {
    "LlamaForCausalLM": Family(BIASES),
    "MistralForCausalLM": Family(
        defaults={"num_key_value_heads": 8, "max_position_embeddings": 131072, "sliding_window": 4096}, windows="all"
    ),
    "MinistralForCausalLM": Family(
        defaults={"num_key_value_heads": 8, "max_position_embeddings": 32768, "sliding_window": 4096}, windows="all"
    ),
    "Qwen2ForCausalLM": Family(
        BIASES,
        defaults={"num_key_value_heads": 32, "max_position_embeddings": 32768, "sliding_window": 4096},
        windows="last",
    ),
    "Qwen3ForCausalLM": Family(
        {**BIASES, **QK_NORM},
        defaults={"num_key_value_heads": 32, "max_position_embeddings": 32768, "sliding_window": 4096, "head_dim": 128},
        switches={"qk_norm": "head"},
        windows="last",
    ),
    "SmolLM3ForCausalLM": Family(
        BIASES,
        defaults={"num_key_value_heads": 4, "max_position_embeddings": 32768, "tie_word_embeddings": True,
                  "rope_theta": 2000000.0, "no_rope_layer_interval": 4, "use_sliding_window": False},
        windows="no_rope",
        rope="listed",
    ),
    "GraniteForCausalLM": Family(
        BIASES,
        defaults={"embedding_multiplier": 1.0, "residual_multiplier": 1.0, "attention_multiplier": 1.0, "logits_scaling": 1.0},
        scales=granite_scales,
    ),
    "MiniCPMForCausalLM": Family(scales=minicpm_scales),
}
