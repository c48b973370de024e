"""The RoPE of a config.json as fields of checkpoint.Config: base, rotated dimensions, and how frequencies are scaled.

Older files have rope_scaling, newer ones rope_parameters, which has an object for each kind of layer where layers with
a window have a base of their own. The formulas and defaults are those of transformers (modeling_rope_utils.py).
"""

import math

KINDS = ("default", "linear", "llama3", "yarn", "longrope")


def fields_of(fields, family, head_dim, refuse):
    """fields: those of config.json; refuse(field, expected) raises the error that says so."""
    field = "rope_scaling" if fields.get("rope_scaling") else "rope_parameters"
    scaling = combined(fields, family, refuse)
    found = {}
    if family.window_theta:
        name, default = family.window_theta
        of_window = scaling.get("sliding_attention") or {}
        if of_window.get("rope_type", "default") != "default":
            refuse(field, "the rope_type default for sliding_attention")
        found["window_rope_theta"] = of_window.get("rope_theta", fields.get(name, default))
        scaling = scaling.get("full_attention", scaling)
    fraction = scaling.get("partial_rotary_factor", fields.get("partial_rotary_factor", 1))
    if fraction != 1 and not (family.partial_rotary and is_number(fraction)):
        refuse("partial_rotary_factor" if "partial_rotary_factor" in fields else field, "a partial_rotary_factor of 1")
    found["rotary_dim"] = 0 if fraction == 1 else int(head_dim * fraction)
    found["query_beta"] = scaling.get("llama_4_scaling_beta") or 0
    return {**found, **scaling_of(fields, field, scaling, head_dim, refuse)}


def combined(fields, family, refuse):
    """rope_scaling, else rope_parameters. With both, as in transformers 5: rope_scaling replaces rope_parameters, but of
    families whose layers with a window have a base of their own it changes only those of the other layers."""
    older, newer = (fields.get(name) or {} for name in ("rope_scaling", "rope_parameters"))
    for name, value in (("rope_scaling", older), ("rope_parameters", newer)):
        if not isinstance(value, dict):
            refuse(name, "an object or null")
    if not (family.window_theta and older and newer):
        return older or newer
    if not isinstance(newer.get("full_attention"), dict):
        refuse("rope_parameters", "full_attention, an object, in it, as there is also rope_scaling")
    return {**newer, "full_attention": {**newer["full_attention"], **older}}


def scaling_of(fields, field, scaling, head_dim, refuse):
    """The base, and what depends on the type of scaling."""
    theta = scaling.get("rope_theta", fields.get("rope_theta", 10000.0))
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind in ("su", "yarn") and "short_factor" in scaling:  # earlier names of Phi-3's
        kind = "longrope"
    if kind == "dynamic" and scaling.get("alpha"):  # Hunyuan's: not dynamic, but another base
        if not is_number(theta) or not is_number(scaling["alpha"]):
            refuse(field, "alpha and rope_theta, two numbers")
        return {"rope_theta": theta * scaling["alpha"] ** (head_dim / (head_dim - 2))}
    if kind not in KINDS:
        refuse(field, "the rope_type " + ", ".join(KINDS))
    if kind == "default":
        return {"rope_theta": theta}

    def number(name, default=None):
        value = scaling.get(name) or default
        if not is_number(value):
            refuse(field, f"{name}, a number, in it")
        return float(value)

    found = {"rope_theta": theta, "rope_scaling": kind}
    if kind == "linear":
        return {**found, "rope_factor": number("factor")}
    original = scaling.get("original_max_position_embeddings") or fields.get("max_position_embeddings")
    if kind == "longrope":
        original = fields.get("original_max_position_embeddings", original)
    found["rope_original_context"] = original
    if kind == "llama3":
        low, high = number("low_freq_factor"), number("high_freq_factor")
        return {**found, "rope_factor": number("factor"), "rope_low_freq_factor": low, "rope_high_freq_factor": high}
    ratio = fields.get("max_position_embeddings", 0) / original if is_number(original) and original else None
    found |= {"rope_factor": number("factor", ratio), "rope_attention_factor": number("attention_factor", 0)}
    if kind == "longrope":
        return {**found, **longrope_factors(field, scaling, refuse)}
    if scaling.get("mscale") and scaling.get("mscale_all_dim") and not found["rope_attention_factor"]:
        parts = [mscale(found["rope_factor"], number(name)) for name in ("mscale", "mscale_all_dim")]
        found["rope_attention_factor"] = parts[0] / parts[1]
    bounds = {"rope_beta_fast": number("beta_fast", 32), "rope_beta_slow": number("beta_slow", 1)}
    return {**found, **bounds, "rope_truncate": scaling.get("truncate", True) is not False}


def mscale(factor, weight):
    """YaRN's attention factor, with a weight."""
    return 0.1 * weight * math.log(factor) + 1 if factor > 1 else 1.0


def longrope_factors(field, scaling, refuse):
    tables = {}
    for name in ("short_factor", "long_factor"):
        factors = scaling.get(name)
        if not isinstance(factors, list) or not factors or not all(is_number(factor) for factor in factors):
            refuse(field, f"{name}, a list of numbers, in it")
        tables[f"rope_{name}s"] = tuple(float(factor) for factor in factors)
    return tables


def is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)
