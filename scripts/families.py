"""What each architecture of transformers adds to plain Llama: the names of its tensors, the defaults of its config, and
the switches of checkpoint.Config that its class turns on without naming them.

Where a config leaves a field out, its class has a default; those that differ from Llama's are in `defaults`.
"""

import math
from dataclasses import dataclass, field

QK_NORM = {"self_attn.q_norm.weight": "attn.q_norm", "self_attn.k_norm.weight": "attn.k_norm"}
# Matrices that hold the rows of several, one below the other.
FUSED = {
    "self_attn.qkv_proj.weight": ("attn.q_proj", "attn.k_proj", "attn.v_proj"),
    "mlp.gate_up_proj.weight": ("mlp.gate_proj", "mlp.up_proj"),
}
POST_NORMS = {  # without norms before
    "post_attention_layernorm.weight": "attn_post_norm",
    "post_feedforward_layernorm.weight": "mlp_post_norm",
}
SANDWICH_NORMS = {**POST_NORMS, "pre_feedforward_layernorm.weight": "mlp_norm"}
BIASES = {f"self_attn.{m}_proj.bias": f"attn.{m}_bias" for m in "qkvo"}
BIASES |= {f"mlp.{m}_proj.bias": f"mlp.{m}_bias" for m in ("gate", "up", "down")}


@dataclass(frozen=True)
class Family:
    names: dict = field(default_factory=dict)  # of a layer's tensors, beside those of Llama
    defaults: dict = field(default_factory=dict)  # of fields of config.json
    fused: dict = field(default_factory=dict)  # the same for matrices that hold several of ours
    switches: dict = field(default_factory=dict)  # fields of checkpoint.Config
    # Where the window is, unless layer_types says so: nowhere, in "all" layers, in the "last" ones, from
    # max_window_layers on, in all but every n-th, n being sliding_window_pattern ("pattern"), or in those without RoPE ("no_rope").
    windows: str = "none"
    # Where RoPE is: in "all" layers, in those "listed" in no_rope_layers, if there is a window in those that have it
    # ("windowed"), or everywhere or nowhere, as position_embedding_type says ("named").
    rope: str = "all"
    # A base of RoPE for the layers with the window: the field that older configs have for it, and its default. None if
    # all layers share one.
    window_theta: tuple = None
    layers: str = ""  # what layer_types has to be throughout, where the class has other kinds of layers too
    width: str = "intermediate_size"  # the field with the width of the mlp
    experts: bool = False  # the mlps of a layer are its experts
    partial_rotary: bool = False  # whether partial_rotary_factor may be less than 1
    activation: str = "hidden_act"  # the field with its name
    unit_offset: bool = False  # the weights of norms are stored less 1, and embeddings multiplied by sqrt(hidden_size)
    scales: object = lambda fields: {}  # fields of config.json -> scales and caps of Config; may raise a KeyError


def granite_scales(fields):
    """arXiv:2408.13359 has them as hyperparameters of training."""
    return {
        "embedding_scale": fields["embedding_multiplier"],
        "residual_scale": fields["residual_multiplier"],
        "attention_scale": fields["attention_multiplier"],
        "logit_scale": 1 / fields["logits_scaling"],
    }


def gemma_scales(fields):
    """arXiv:2408.00118, section 2"""
    return {
        "attention_scale": fields["query_pre_attn_scalar"] ** -0.5,
        "attention_cap": fields["attn_logit_softcapping"] or 0,
        "logit_cap": fields["final_logit_softcapping"] or 0,
    }


GRANITE = {"embedding_multiplier": 1.0, "residual_multiplier": 1.0, "attention_multiplier": 1.0, "logits_scaling": 1.0}
GEMMA2 = {"num_key_value_heads": 4, "max_position_embeddings": 8192, "head_dim": 256, "tie_word_embeddings": True,
          "query_pre_attn_scalar": 256, "sliding_window": 4096, "sliding_window_pattern": 2,
          "hidden_activation": "gelu_pytorch_tanh",
          "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0}  # fmt: skip
GEMMA3 = {**GEMMA2, "max_position_embeddings": 131072, "rope_theta": 1000000.0, "sliding_window_pattern": 6,
          "attn_logit_softcapping": None, "final_logit_softcapping": None}  # fmt: skip


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
    "Qwen3MoeForCausalLM": Family(
        {**BIASES, **QK_NORM, "mlp.gate.weight": "mlp.router"},
        defaults={"num_key_value_heads": 4, "max_position_embeddings": 32768, "sliding_window": 4096, "num_experts": 128,
                  "num_experts_per_tok": 8, "norm_topk_prob": False, "decoder_sparse_step": 1, "mlp_only_layers": []},
        switches={"qk_norm": "head"},
        windows="last",
        width="moe_intermediate_size",
        experts=True,
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
        defaults=GRANITE,
        scales=granite_scales,
    ),
    # Granite 4 without experts and Mamba layers: what is left is Granite 3 with other names.
    "GraniteMoeHybridForCausalLM": Family(
        {**BIASES, "shared_mlp.output_linear.weight": "mlp.down_proj"},
        fused={"shared_mlp.input_linear.weight": ("mlp.gate_proj", "mlp.up_proj")},
        defaults=GRANITE,
        rope="named",
        layers="attention",
        width="shared_intermediate_size",
        scales=granite_scales,
    ),
    "MiniCPMForCausalLM": Family(scales=minicpm_scales),
    "Gemma2ForCausalLM": Family(
        {**BIASES, **SANDWICH_NORMS},
        defaults=GEMMA2,
        switches={"norm_placement": "sandwich"},
        windows="pattern",
        activation="hidden_activation",
        unit_offset=True,
        scales=gemma_scales,
    ),
    "Gemma3ForCausalLM": Family(
        {**BIASES, **SANDWICH_NORMS, **QK_NORM},
        defaults=GEMMA3,
        switches={"norm_placement": "sandwich", "qk_norm": "head"},
        windows="pattern",
        window_theta=("rope_local_base_freq", 10000.0),
        activation="hidden_activation",
        unit_offset=True,
        scales=gemma_scales,
    ),
    "Olmo2ForCausalLM": Family(
        {**BIASES, **POST_NORMS, **QK_NORM},
        defaults={"rms_norm_eps": 1e-5},
        switches={"norm_placement": "post", "qk_norm": "full"},
    ),
    "Olmo3ForCausalLM": Family(
        {**BIASES, **POST_NORMS, **QK_NORM},
        defaults={"rms_norm_eps": 1e-5, "rope_theta": 500000.0, "sliding_window": 4096, "sliding_window_pattern": 4},
        switches={"norm_placement": "post", "qk_norm": "full"},
        windows="pattern",
        window_theta=("rope_theta", 500000.0),
    ),
    "Phi3ForCausalLM": Family(
        defaults={"max_position_embeddings": 4096, "original_max_position_embeddings": 4096, "rms_norm_eps": 1e-5},
        fused=FUSED,
        windows="all",
        partial_rotary=True,
    ),
    "Ministral3ForCausalLM": Family(
        defaults={"num_key_value_heads": 8, "max_position_embeddings": 262144, "head_dim": 128, "rms_norm_eps": 1e-5},
        windows="all",
    ),
    "HunYuanDenseV1ForCausalLM": Family(
        {**BIASES, "self_attn.query_layernorm.weight": "attn.q_norm", "self_attn.key_layernorm.weight": "attn.k_norm"},
        defaults={"rms_norm_eps": 1e-5},
        switches={"qk_norm": "head_after_rope"},
    ),
    "Exaone4ForCausalLM": Family(
        {**POST_NORMS, **QK_NORM},
        defaults={"num_key_value_heads": 32, "rms_norm_eps": 1e-5, "sliding_window": 4096, "sliding_window_pattern": 4},
        switches={"norm_placement": "post", "qk_norm": "head"},
        windows="pattern",
        rope="windowed",
    ),
}
