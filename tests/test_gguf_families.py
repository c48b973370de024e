"""The families of models in GGUF files: tiny ones, written as llama.cpp's converter writes them, give the logits of
transformers (golden/families.npz) and the config that scripts/convert.py finds in the Hugging Face folder."""

import numpy as np
import pytest
from conftest import GOLDEN_DIR, assert_refused, logits, run

import gguf_families
import native
import sources
from test_families import FAMILY_OPTIONS, TOLERANCE, convert

gguf = pytest.importorskip("gguf")

MINICPM = {**sources.FAMILIES["granite_narrow"], "architectures": ["MiniCPMForCausalLM"], "scale_emb": 12.0,
           "scale_depth": 1.4, "dim_model_base": 256}  # fmt: skip
CONFIGS = {**sources.FAMILIES, "minicpm": MINICPM}


def family_logits(path, name, *options):
    config = CONFIGS[name]
    tokens = sources.tokens(config, sources.N_FAMILY_TOKENS)
    return logits(path, tokens, *options, *FAMILY_OPTIONS.get(name, ()), vocab_size=config["vocab_size"])


def config_of_folder(tmp_path, config):
    """What scripts/convert.py makes of the model."""
    return native.Native(convert(sources.write_folder(tmp_path / "folder", config), tmp_path / "folder.bin")).fields


def config_of_gguf(path):
    run(path, "--convert", path.with_suffix(".bin")).ok()
    return native.Native(path.with_suffix(".bin")).fields


def settled(fields):
    """With 0 for what says nothing: the usual scale of scores, a window of the whole context, and a base of RoPE for
    layers with the window if it is that of all and none is scaled."""
    found = dict(fields)
    if found["attention_scale"] == found["head_dim"] ** -0.5:
        found["attention_scale"] = 0
    if found["sliding_window"] >= found["context_length"]:
        found["sliding_window"] = 0
    if found["rope_scaling"] == 0 and found["window_rope_theta"] == found["rope_theta"]:
        found["window_rope_theta"] = 0
    return found


# ----------------------------------------------------------------------------------------------------------------------
# What the model computes


@pytest.mark.parametrize("name", gguf_families.EXPRESSED)
def test_logits_are_those_of_transformers(tmp_path, name):
    path = gguf_families.write(tmp_path / "m.gguf", CONFIGS[name])
    expected = np.load(GOLDEN_DIR / "families.npz")[f"{name} logits"]
    seen = family_logits(path, name, "--kv", "f32")[sources.FAMILY_ROWS, sources.FAMILY_COLUMNS]
    off = np.abs(seen - expected)
    assert np.isfinite(seen).all(), "a logit is not finite"
    assert off.max() <= TOLERANCE, f"off by up to {off.max():.2e} in row {off.max(axis=1).argmax()}"


@pytest.mark.parametrize("name", ["granite_narrow", "granite4_narrow", "minicpm", "gemma2_wide", "gemma3_wide",
                                  "olmo3_parameters", "exaone4_window", "ministral3", "hunyuan_alpha", "phi3_long"])  # fmt: skip
def test_the_config_is_that_of_the_hugging_face_folder(tmp_path, name):
    config = CONFIGS[name]
    seen, expected = config_of_gguf(gguf_families.write(tmp_path / "m.gguf", config)), config_of_folder(tmp_path, config)
    if name == "hunyuan_alpha":  # the converter writes the context that the base is for, not the config's
        assert (seen["context_length"], expected["context_length"]) == (262144, 32768)
        expected["context_length"] = 262144
    for key, value in settled(expected).items():
        assert settled(seen)[key] == pytest.approx(value, rel=1e-6), key


@pytest.mark.parametrize("name", ["llama_biases", "qwen3_biases", "granite4_narrow", "hunyuan_plain", "phi3_short"])
def test_fused_and_converted_tensors_have_the_same_bits(tmp_path, name):
    config, seen = CONFIGS[name], []
    for fuse in (False, True):
        path = gguf_families.write(tmp_path / f"{fuse}.gguf", config, "F16", fuse=fuse)
        config_of_gguf(path)
        seen += [family_logits(p, name) for p in (path, path.with_suffix(".bin"))]
    for other in seen[1:]:
        assert (other.view(np.uint32) == seen[0].view(np.uint32)).all()


@pytest.mark.parametrize("changed, rotated", [({}, True), ({"rope.scaling.finetuned": False}, False)])
def test_granite_without_rope_is_marked_by_a_key(tmp_path, changed, rotated):
    path = gguf_families.write(tmp_path / "m.gguf", CONFIGS["granite_narrow"], changed_keys=changed)
    flags = config_of_gguf(path)["layer_flags"]
    assert flags == (0 if rotated else (2, 2, 2, 2))


@pytest.mark.parametrize("pattern, full", [(2, [1, 3]), (0, []), (1, [0, 1, 2, 3]), ([True, False, False, True], [1, 2]),
                                           ([1, 1, 0, 0], [2, 3])])  # fmt: skip
def test_which_layers_have_the_window_is_a_number_or_a_list(tmp_path, pattern, full):
    path = gguf_families.write(tmp_path / "m.gguf", CONFIGS["gemma2_wide"],
                               changed_keys={"attention.sliding_window_pattern": pattern})  # fmt: skip
    flags = config_of_gguf(path)["layer_flags"] or [0] * 4
    assert [i for i, flag in enumerate(flags) if flag & 1] == full


def test_longrope_has_its_original_context_unless_a_longer_one_is_requested(tmp_path):
    path = gguf_families.write(tmp_path / "m.gguf", CONFIGS["phi3_long"])
    assert run(path, "--info", "--json").ok().json["context"] == 64
    assert run(path, "--info", "--json", "-c", 256).ok().json["context"] == 256
    assert_refused(run(path, "-i", "a", "-c", 257), 2, "--context 257", "expected at most 256")
