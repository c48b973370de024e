"""Reads a Hugging Face folder: config.json and model.safetensors, or the files that its index lists.

Whatever model.c does not compute (another architecture, experts in most of them, other biases, other scalings of RoPE, another
quantisation) is refused by name.
"""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import safetensors

import rope
import sampling
from checkpoint import LAYER_FULL, LAYER_NO_ROPE, Config
from families import FAMILIES
from source import Source, SourceError, Tensor, check_config, is_count, refuse_pointer

DTYPES = {"F32": "f32", "F16": "f16", "BF16": "bf16"}

EXPERT = " of expert "  # between the name of a matrix and the number of the expert that it belongs to
FUSED = " + "  # between the names of the parts of a fused matrix
ACTIVATIONS = {"silu": "silu", "gelu_pytorch_tanh": "gelu_tanh"}

LAYER_NAMES = {
    "input_layernorm.weight": "attn_norm",
    "self_attn.q_proj.weight": "attn.q_proj",
    "self_attn.k_proj.weight": "attn.k_proj",
    "self_attn.v_proj.weight": "attn.v_proj",
    "self_attn.o_proj.weight": "attn.o_proj",
    "post_attention_layernorm.weight": "mlp_norm",
    "mlp.gate_proj.weight": "mlp.gate_proj",
    "mlp.up_proj.weight": "mlp.up_proj",
    "mlp.down_proj.weight": "mlp.down_proj",
}
OTHER_NAMES = {"model.embed_tokens.weight": "embedding", "model.norm.weight": "norm", "lm_head.weight": "head"}
EXPERT_NAME = re.compile(r"mlp\.experts\.(\d{1,5})\.(.+)")
LAYER = re.compile(r"model\.layers\.(\d+)\.(.+)")
IGNORED = re.compile(r"(model\.layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq|model\.rotary_emb\.inv_freq")


def read(folder):
    path = folder / "config.json"
    fields = read_json(path)
    check_supported(path, fields)  # before the tensors, whose names depend on it
    family = FAMILIES[fields["architectures"][0]]
    tensors = read_tensors(folder, family)
    split_tensors(path, {**family.defaults, **fields}, tensors)
    stack_experts(path, tensors, family)
    if family.unit_offset:
        for name, tensor in tensors.items():
            if name.endswith("norm"):
                tensors[name] = replace(tensor, unit_offset=True)
    config = read_config(path, {**family.defaults, **fields}, tensors, family)
    if config.tied_head:
        tensors.pop("head", None)  # a copy of the embedding
    generation = folder / "generation_config.json"
    recommended = sampling.from_generation_config(read_json(generation)) if generation.exists() else []
    return Source(
        folder, config, tensors, license=read_license(folder), recommended=recommended, recommended_in=generation
    )


def split_tensors(path, fields, tensors):
    """Replaces fused matrices, whose names are those of their parts, by the parts: these are ranges of rows."""
    for name in [name for name in tensors if FUSED in name]:
        fused, begin = tensors.pop(name), 0
        rows = part_rows(path, fields, fused, name.split(FUSED))
        for part, n in rows.items():
            tensors[part] = replace(fused, offset=fused.offset + begin * fused.row_bytes, rows=n)
            begin += n


def stack_experts(path, tensors, family):
    """Replaces the matrices of experts, whose names end with their number, by one of all rows, expert 0 on top."""
    stacks = {}
    for name in [name for name in tensors if EXPERT in name]:
        stem, number = name.split(EXPERT)
        stacks.setdefault(stem, {})[int(number)] = tensors.pop(name)
    for name, experts in stacks.items():
        other = tensors.get(name) or (None if family.experts else next(iter(experts.values())))
        if other:
            raise SourceError(f"{other.path}: tensor {other.name} is not part of a model of this architecture")
        first = experts.get(0)
        for number in range(len(experts)):
            tensor = experts.get(number)
            if tensor is None:
                raise SourceError(f"{path}: {name} of expert {number} is missing, of {len(experts)} experts")
            if (tensor.rows, tensor.cols, tensor.type) != (first.rows, first.cols, first.type):
                raise SourceError(
                    f"{tensor.path}: tensor {tensor.name} has {tensor.rows} x {tensor.cols} values of {tensor.type}, "
                    f"expected {first.rows} x {first.cols} of {first.type}, as in expert 0"
                )
        tensors[name] = replace(first, below=tuple(experts[number] for number in range(1, len(experts))))


def part_rows(path, fields, fused, parts):
    """Name -> rows of each part: those of k and v are n_kv_heads heads, what is left is q; gate and up are halves."""
    refuse = refuser(path, fields)
    if len(parts) == 2:
        return dict.fromkeys(parts, fused.rows // 2)
    heads = fields.get("num_attention_heads"), fields.get("num_key_value_heads") or fields.get("num_attention_heads")
    for name, n in zip(("num_attention_heads", "num_key_value_heads"), heads):
        if not is_count(n):
            refuse(name, "a whole number of at least 1")
    unit = fused.rows // (heads[0] + 2 * heads[1])
    return dict(zip(parts, (heads[0] * unit, heads[1] * unit, heads[1] * unit)))


def read_json(path):
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise SourceError(f"{path}: is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise SourceError(f"{path}: expected a JSON object")
    return value


def read_license(folder):
    """The licence named in the header of the model card."""
    card = folder / "README.md"
    text = card.read_text(encoding="utf-8", errors="replace") if card.exists() else ""
    found = re.match(r"---\n(?:.*\n)*?license:[ \t]*([\w.\-]+)[ \t]*\n", text)
    return found[1] if found else "unknown"


def refuser(path, fields):
    """refuse(field, expected), which raises the error that says so."""

    def refuse(field, expected):
        raise SourceError(f"{path}: {field} is {json.dumps(fields.get(field))[:200]}, expected {expected}")

    return refuse


def check_supported(path, fields):
    """Refuses what model.c does not compute, the architecture first."""
    refuse = refuser(path, fields)
    architectures = fields.get("architectures")
    if not isinstance(architectures, list) or len(architectures) != 1 or architectures[0] not in FAMILIES:
        refuse("architectures", "one of " + ", ".join(FAMILIES))
    if fields.get("quantization_config"):
        refuse("quantization_config", "none: convert the unquantised model")
    family = FAMILIES[architectures[0]]
    for experts in ("num_local_experts", "num_experts", "n_routed_experts"):
        if fields.get(experts) and not family.experts:
            refuse(experts, "none: this architecture is supported without experts only")
    if {**family.defaults, **fields}.get(family.activation, "silu") not in ACTIVATIONS:
        refuse(family.activation, " or ".join(ACTIVATIONS))
    for field in ("attn_logit_softcapping", "final_logit_softcapping"):
        if fields.get(field) and field not in family.defaults:
            refuse(field, "none")
    if family.layers and set(fields.get("layer_types") or [None]) != {family.layers}:
        refuse("layer_types", f"{family.layers} in all layers")
    for field in ("use_qk_norm", "use_bidirectional_attention"):
        if fields.get(field):
            refuse(field, "false")


def read_config(path, fields, tensors, family):
    """fields: those of config.json, and the defaults of the family where it has none."""
    refuse = refuser(path, fields)

    def count(field, default=None, null=None):
        value = fields.get(field, default)
        value = null if value is None else value
        if not is_count(value):
            refuse(field, "a whole number of at least 1")
        return value

    dim, n_heads, n_layers = count("hidden_size"), count("num_attention_heads"), count("num_hidden_layers")
    head_dim = count("head_dim", dim // n_heads, dim // n_heads)
    tied = fields.get("tie_word_embeddings", False)
    if not isinstance(tied, bool):
        refuse("tie_word_embeddings", "true or false")
    # The defaults are those of transformers.
    config = Config(
        vocab_size=count("vocab_size"),
        dim=dim,
        hidden_dim=count(family.width),
        n_layers=n_layers,
        n_heads=n_heads,
        n_kv_heads=count("num_key_value_heads", n_heads, n_heads),
        head_dim=head_dim,
        context_length=count("max_position_embeddings", 2048),
        **layer_fields(fields, n_layers, family, refuse),
        norm_eps=fields.get("rms_norm_eps", 1e-6),
        tied_head=tied or ("head" not in tensors and "tie_word_embeddings" not in fields),
        qkv_bias="blocks.0.attn.q_bias" in tensors,
        o_bias="blocks.0.attn.o_bias" in tensors,
        mlp_bias="blocks.0.mlp.gate_bias" in tensors,
        activation=ACTIVATIONS[fields.get(family.activation, "silu")],
        **expert_fields(fields, family, refuse, count),
        **family.switches,
        **scale_fields(fields, family, refuse),
        **rope.fields_of(fields, family, head_dim, refuse),
    )
    if family.unit_offset:
        config = replace(config, embedding_scale=rounded(dim**0.5, tensors.get("embedding")))
    if not config.sliding_window:
        config = replace(config, window_rope_theta=0)
    check_config(path, config)
    return config


def rounded(value, embedding):
    """The nearest number of the embedding's type: transformers multiplies in that type."""
    if embedding is None or embedding.type == "f32":
        return float(np.float32(value))
    if embedding.type == "f16":
        return float(np.float16(value))
    bits = int(np.float32(value).view(np.uint32))
    return float(np.uint32((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).view(np.float32))


def expert_fields(fields, family, refuse, count):
    """Layers without experts, and weights that are not normalised, are not supported."""
    if not family.experts:
        return {}
    for field, supported in (("norm_topk_prob", True), ("decoder_sparse_step", 1), ("mlp_only_layers", [])):
        if fields.get(field) != supported:
            refuse(field, json.dumps(supported))
    return {"n_experts": count("num_experts"), "n_experts_used": count("num_experts_per_tok")}


def scale_fields(fields, family, refuse):
    """The scales of Config; one that multiplies by 1 is left out."""
    try:
        scales = family.scales(fields)
    except KeyError as missing:
        refuse(missing.args[0], "a number")
    except (TypeError, ZeroDivisionError):
        refuse("architectures", "numbers other than 0 as the multipliers of this architecture")
    return {name: 0 if scale == 1 and name != "attention_scale" else scale for name, scale in scales.items()}


def layer_fields(fields, n_layers, family, refuse):
    """sliding_window: positions that a query sees, including its own, in the layers that have the window; 0: no layer
    has it. layer_flags: what each layer has."""
    rotated = rotated_layers(fields, n_layers, family, refuse)
    windowed = windowed_layers(fields, n_layers, family, rotated, refuse)
    window = fields.get("sliding_window", 4096) if any(windowed) else None
    if window is not None and not is_count(window):
        refuse("sliding_window", "a whole number of at least 1, or null")
    if window is None:
        windowed = [False] * n_layers
    elif family.rope == "windowed":
        rotated = windowed
    flags = [
        (LAYER_FULL if window and not has_window else 0) + (0 if has_rope else LAYER_NO_ROPE)
        for has_window, has_rope in zip(windowed, rotated)
    ]
    return {"sliding_window": window or 0, "layer_flags": tuple(flags) if any(flags) else ()}


def windowed_layers(fields, n_layers, family, rotated, refuse):
    """Of each layer, whether it has the window."""
    if family.windows == "none" or fields.get("use_sliding_window", True) is False:
        return [False] * n_layers
    types = fields.get("layer_types")
    if types is not None:
        known = ("full_attention", "sliding_attention")
        if not isinstance(types, list) or len(types) < n_layers or any(kind not in known for kind in types):
            refuse("layer_types", f"{n_layers} times full_attention or sliding_attention")
        return [kind == "sliding_attention" for kind in types[:n_layers]]
    if family.windows == "last":
        first = fields.get("max_window_layers", 28)
        if not isinstance(first, int) or isinstance(first, bool):
            refuse("max_window_layers", "a whole number")
        return [layer >= first for layer in range(n_layers)]
    if family.windows == "pattern":
        every = fields.get("sliding_window_pattern")
        if not is_count(every):
            refuse("sliding_window_pattern", "a whole number of at least 1, or layer_types beside it")
        return [(layer + 1) % every != 0 for layer in range(n_layers)]
    return [True] * n_layers if family.windows == "all" else [not has_rope for has_rope in rotated]


def rotated_layers(fields, n_layers, family, refuse):
    """Of each layer, whether it has RoPE."""
    if family.rope == "named":
        return [fields.get("position_embedding_type") == "rope"] * n_layers
    if family.rope != "listed":
        return [True] * n_layers
    listed, every = fields.get("no_rope_layers"), fields.get("no_rope_layer_interval")
    if listed is None and is_count(every):
        return [(layer + 1) % every != 0 for layer in range(n_layers)]
    if not isinstance(listed, list) or len(listed) < n_layers or any(has_rope not in (0, 1) for has_rope in listed):
        refuse("no_rope_layers", f"{n_layers} times 1, for a layer with RoPE, or 0")
    return [has_rope == 1 for has_rope in listed[:n_layers]]


def weight_files(folder):
    """The names of the files of one set of weights. A folder may have more of them, in other types or other formats:
    as in transformers, model.safetensors comes first, then the files of the index. Without either there must be one."""
    if (folder / "model.safetensors").exists():
        return ["model.safetensors"]
    index = folder / "model.safetensors.index.json"
    if index.exists():
        weight_map = read_json(index).get("weight_map")
        if not isinstance(weight_map, dict) or not all(isinstance(file, str) for file in weight_map.values()):
            raise SourceError(f"{index}: weight_map is missing, expected an object of names and files")
        files = sorted(set(weight_map.values()))
        for file in files:
            if Path(file).name != file:
                raise SourceError(f"{index}: {file!r} is not a file of the folder")
        return files
    files = sorted(path.name for path in folder.glob("*.safetensors"))
    if len(files) > 1:
        raise SourceError(
            f"{folder}: has {files[0]} and {files[1]}, expected model.safetensors, or an index of the files that belong together"
        )
    return files


def read_tensors(folder, family):
    """Name -> Tensor, from all files."""
    files = weight_files(folder)
    if not files:
        others = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in folder.glob(pattern))
        found = f"; found {others[0]}, which is not read because it can contain code" if others else ""
        raise SourceError(f"{folder}: has no weights, expected model.safetensors{found}")
    tensors = {}
    names = {**LAYER_NAMES, **family.names, **{name: FUSED.join(parts) for name, parts in family.fused.items()}}
    for file in files:
        read_safetensors(folder / file, names, tensors)
    return tensors


def read_safetensors(path, layer_names, tensors):
    """Adds the tensors of a file to `tensors`. layer_names: those of a layer, and ours. The package validates the
    file but does not give the offsets of tensors, and numpy has no bf16. So the offsets are read here, from the
    header: its length in 8 bytes, then JSON; the data follows."""
    refuse_pointer(path)
    try:
        with safetensors.safe_open(path, framework="np"):
            pass
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
    except (OSError, safetensors.SafetensorError) as error:
        raise SourceError(f"{path}: is not a complete safetensors file: {error}") from None
    header.pop("__metadata__", None)
    for source_name, entry in header.items():
        if IGNORED.fullmatch(source_name):
            continue
        name, layer = OTHER_NAMES.get(source_name), LAYER.fullmatch(source_name)
        expert = layer and EXPERT_NAME.fullmatch(layer[2])
        if expert and f"mlp.{expert[2]}" in LAYER_NAMES:
            name = f"blocks.{int(layer[1])}.{LAYER_NAMES[f'mlp.{expert[2]}']}{EXPERT}{int(expert[1])}"
        elif layer and layer[2] in layer_names:
            parts = layer_names[layer[2]].split(FUSED)
            name = FUSED.join(f"blocks.{int(layer[1])}.{part}" for part in parts)
        if name is None:
            raise SourceError(f"{path}: tensor {source_name} is not part of a model of this architecture")
        dtype, shape = DTYPES.get(entry["dtype"]), entry["shape"]
        if dtype is None:
            raise SourceError(f"{path}: tensor {source_name} has the type {entry['dtype']}, expected F32, F16 or BF16")
        if len(shape) not in (1, 2):
            raise SourceError(f"{path}: tensor {source_name} has {len(shape)} dimensions, expected 1 or 2")
        if name in tensors:
            raise SourceError(f"{path}: tensor {source_name} is a duplicate")
        rows, cols = shape if len(shape) == 2 else (1, shape[0])
        offset = 8 + length + entry["data_offsets"][0]
        tensors[name] = Tensor(path, offset, rows, cols, dtype, source_name)
