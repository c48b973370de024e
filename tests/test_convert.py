"""scripts/convert.py: from Hugging Face folders to checkpoints that compute the same. It reads; `run --convert`, to which it
hands over, has its tests in test_cli_convert.py."""

import json
import re
import signal
import subprocess
import sys
import time

import gguf
import numpy as np
import pytest
from conftest import EXECUTABLE, GOLDEN_DIR, ROOT, assert_refused, execute, logits, run

sys.path.insert(0, str(ROOT / "scripts"))
import convert as converter  # noqa: E402

import models
import native
import native_models
import sources
from terminal import on_terminal

TOLERANCE = 1e-4  # of logits with a standard deviation of about 1.5
GGUF_TYPES = {"f32": "F32", "bf16": "BF16", "f16": "F16", "q8": "Q8_0", "q4": "Q4_0", "q4m": "Q4_1", "q4t": "IQ4_NL",
              "q5": "Q5_0", "q5m": "Q5_1"}  # fmt: skip
TYPES = tuple(GGUF_TYPES)


def convert(source, out, *options):
    script = ROOT / "scripts" / "convert.py"
    return execute([sys.executable, script, "--run", EXECUTABLE, source, out, *options], timeout=300)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """name of a variant -> its Hugging Face folder."""
    base = tmp_path_factory.mktemp("huggingface")
    return lambda name: sources.write_folder(base / name, sources.VARIANTS[name])


@pytest.fixture(scope="module")
def checkpoint(folder, tmp_path_factory):
    """name, options -> the converted file."""
    base, made = tmp_path_factory.mktemp("native"), {}

    def get(name, *options):
        if (name, options) not in made:
            path = base / f"{name}{''.join(options)}.bin"
            convert(folder(name), path, *options).ok()
            made[name, options] = path
        return made[name, options]

    return get


def assert_close(seen, expected, tolerance=TOLERANCE):
    off = np.abs(seen - expected)
    assert off.max() <= tolerance, f"logits are off by up to {off.max():.2e}, expected at most {tolerance:.0e}"


# ----------------------------------------------------------------------------------------------------------------------
# The graph


@pytest.mark.parametrize("name", sources.VARIANTS)
def test_logits_are_those_of_transformers(folder, checkpoint, name):
    golden, config = np.load(GOLDEN_DIR / "variants.npz"), sources.VARIANTS[name]
    digest = models.sha256((folder(name) / "model.safetensors").read_bytes())
    assert digest == str(golden[f"{name} sha256"]), "tests/sources.py makes another model than the golden one"
    path = checkpoint(name, "--type", "f32")
    seen = logits(path, sources.tokens(config), "--kv", "f32", vocab_size=config["vocab_size"])
    assert_close(seen[sources.GOLDEN_ROWS], golden[f"{name} logits"])


@pytest.mark.parametrize("field, value", [("rope_scaling", None), ("sliding_window", None), ("rope_theta", 9000.0)])
def test_golden_logits_depend_on(folder, tmp_path, field, value):
    """The comparison above would see a converter that forgets the field."""
    name = {"rope_scaling": "llama3_scaling", "sliding_window": "sliding_window", "rope_theta": "llama"}[field]
    config = {**sources.VARIANTS[name], field: value}
    path = tmp_path / "other.bin"
    convert(sources.write_folder(tmp_path / "other", config), path, "--type", "f32").ok()
    seen = logits(path, sources.tokens(config), "--kv", "f32", vocab_size=config["vocab_size"])
    off = np.abs(seen[sources.GOLDEN_ROWS] - np.load(GOLDEN_DIR / "variants.npz")[f"{name} logits"]).max()
    assert off > 10 * TOLERANCE, f"without {field} the logits differ by {off:.1e} only"


def test_shards_and_one_file_give_the_same_checkpoint(tmp_path, checkpoint):
    config = sources.VARIANTS["grouped_queries"]
    sharded = sources.write_folder(tmp_path / "grouped_queries", config, shards=3)
    convert(sharded, tmp_path / "out.bin", "--type", "q4").ok()
    assert (tmp_path / "out.bin").read_bytes() == checkpoint("grouped_queries", "--type", "q4").read_bytes()


def test_f16_and_bf16_sources_are_exact(tmp_path):
    config = sources.LLAMA
    half = {name: w.astype(np.float16) for name, w in sources.weights(config).items()}
    convert(sources.write_folder(tmp_path / "half", config, half), tmp_path / "half.bin", "--type", "f32").ok()
    assert (native.Native(tmp_path / "half.bin").matrix("head") == half["lm_head.weight"].astype(np.float32)).all()


# ----------------------------------------------------------------------------------------------------------------------
# Weight types


def reference(values, kind):
    """The values after a trip through the gguf package's own plain quantisation."""
    t = gguf.GGMLQuantizationType[GGUF_TYPES[kind]]
    return gguf.quants.dequantize(gguf.quants.quantize(values, t), t)


@pytest.mark.parametrize("kind", TYPES)
def test_each_type_holds_the_weights(checkpoint, kind):
    """Within half a step of the type; f32 exactly, f16 and bf16 as the gguf package rounds."""
    file = native.Native(checkpoint("large_heads", "--type", kind, "--head-type", kind))
    weights = sources.weights(sources.VARIANTS["large_heads"])
    for name, source in (("embedding", "model.embed_tokens.weight"), ("head", "lm_head.weight"),
                         ("blocks.1.attn.k_proj", "model.layers.1.self_attn.k_proj.weight"),
                         ("blocks.0.mlp.down_proj", "model.layers.0.mlp.down_proj.weight")):  # fmt: skip
        seen, expected = file.matrix(name), weights[source]
        assert file.type(name) == kind
        if kind in ("f32", "f16", "bf16"):
            assert (seen == reference(expected, kind)).all()
        else:
            steps = {"q8": 254, "q4": 15, "q4m": 15, "q4t": 15, "q5": 31, "q5m": 31}[kind]
            off = np.abs(seen - expected).max() / (expected.max() - expected.min()) * steps
            assert off < 1.1, f"{name} is off by {off:.2f} steps"


@pytest.mark.parametrize("kind, most", [("q8", 1.0), ("q4", 0.9), ("q4m", 0.9), ("q5", 0.9), ("q5m", 0.9)])
def test_searched_scales_beat_those_of_the_maximum(tmp_path, kind, most):
    """Mean squared error of normally distributed weights, relative to the plain rules of the package gguf."""
    config = {**sources.LLAMA, "hidden_size": 128, "vocab_size": 1024}
    rng = np.random.default_rng(3)
    tensors = {n: rng.standard_normal(w.shape, np.float32) for n, w in sources.weights(config).items()}
    convert(
        sources.write_folder(tmp_path / "m", config, tensors), tmp_path / "m.bin", "--type", kind, "--head-type", kind
    ).ok()
    seen, expected = native.Native(tmp_path / "m.bin").matrix("head"), tensors["lm_head.weight"]
    error, plain = ((x - expected).astype(np.float64) ** 2 for x in (seen, reference(expected, kind)))
    assert error.mean() <= most * plain.mean(), f"{error.mean() / plain.mean():.3f} of the plain error, expected {most}"


def test_random_checkpoints_compute_numbers_of_order_one(tmp_path):
    path = tmp_path / "random.bin"
    execute([sys.executable, ROOT / "scripts" / "make_random.py", path, "--like", "smollm2"], timeout=120).ok()
    native.Native(path)
    scored = run(path, "--score", "--json", "-i", "any text", timeout=120).ok().json
    assert 9 < scored["nll"] < 14, "of 49152 tokens, expected about their logarithm, 10.8, and the logits' variance"


def test_awkward_values_survive_quantisation(tmp_path):
    """Zeros, one large value in a block, constants, and values too small for an f16 scale."""
    config = {**sources.LLAMA, "hidden_size": 40}
    tensors = sources.weights(config)
    head = tensors["lm_head.weight"]
    head[0], head[1], head[2], head[3] = 0, 0.5, 1e-12, 0
    head[3, 7] = -60000
    for kind in ("q8", "q4", "q4m"):
        convert(
            sources.write_folder(tmp_path / "m", config, tensors), tmp_path / "m.bin", "--type", kind, "--head-type", kind
        ).ok()
        seen = native.Native(tmp_path / "m.bin").matrix("head")
        assert not seen[0].any() and np.abs(seen[2]).max() <= 1e-6
        assert np.abs(seen[1] / 0.5 - 1).max() < 1e-3
        assert abs(seen[3, 7] / -60000 - 1) < 1e-3 and np.abs(np.delete(seen[3], 7)).max() < 60000 / 250


def test_default_types(checkpoint, folder):
    file = native.Native(checkpoint("llama"))
    assert {file.type(n) for n, s in file.sections.items() if s.kind == 2} == {"q8"}
    file = native.Native(checkpoint("llama", "--type", "q4"))
    assert file.type("embedding") == file.type("head") == "q8" and file.type("blocks.0.attn.q_proj") == "q4"
    file = native.Native(checkpoint("llama", "--type", "q4", "--head-type", "bf16"))
    assert file.type("embedding") == file.type("head") == "bf16"


@pytest.mark.parametrize("kind", TYPES)
def test_quantised_models_compute_what_their_weights_say(checkpoint, tmp_path, kind):
    """The same weights, read from the file and written as f32, give nearly the same logits: activations are rounded
    to 8 bits where the weights are integers, and to nothing elsewhere."""
    name = "grouped_queries"
    config = sources.VARIANTS[name]
    path = checkpoint(name, "--type", kind, "--head-type", kind)
    file, weights = native.Native(path), sources.weights(config)
    for native_name, source in sources.native_names(config).items():
        if file.sections[native_name].kind == 2:
            weights[source] = np.ascontiguousarray(file.matrix(native_name))
    convert(sources.write_folder(tmp_path / "f32", config, weights), tmp_path / "f32.bin", "--type", "f32").ok()
    tokens = sources.tokens(config)
    seen, expected = (
        logits(p, tokens, "--kv", "f32", vocab_size=config["vocab_size"]) for p in (path, tmp_path / "f32.bin")
    )
    if kind in ("f32", "f16", "bf16"):
        assert_close(seen, expected, 1e-5)
    else:
        error = np.sqrt(((seen - expected) ** 2).mean()) / expected.std()
        assert error < 0.08, f"the logits differ by {error:.3f} of their standard deviation"


# ----------------------------------------------------------------------------------------------------------------------
# Refusals


def assert_nothing_left(folder, *kept):
    assert sorted(p.name for p in folder.iterdir()) == sorted(kept), "the converter left a file"


CONFIGS = {
    "architectures": ["GemmaForCausalLM"],
    "num_local_experts": 8,
    "quantization_config": {"quant_method": "gptq"},
    "hidden_act": "gelu",
    "attn_logit_softcapping": 50.0,
    "use_qk_norm": True,
    "partial_rotary_factor": 0.5,
    "rope_scaling": {"rope_type": "longrope", "factor": 4.0},
    "rope_parameters": {"rope_type": "dynamic", "factor": 4.0},
    "num_key_value_heads": 3,
    "head_dim": 7,
    "rms_norm_eps": "small",
    "vocab_size": None,
    "max_position_embeddings": True,
}


@pytest.mark.parametrize("field", CONFIGS)
def test_a_config_that_cannot_be_carried_is_refused_by_name(tmp_path, field):
    sources.write_folder(tmp_path / "m", {**sources.LLAMA})
    (tmp_path / "m" / "config.json").write_text(json.dumps({**sources.LLAMA, field: CONFIGS[field]}))
    named = {"num_key_value_heads": "n_kv_heads", "rms_norm_eps": "norm_eps"}.get(field, field)
    assert_refused(convert(tmp_path / "m", tmp_path / "out.bin"), 3, "convert: ", "config.json", named)
    assert_nothing_left(tmp_path, "m")


# The values are those of transformers 5.24 (AutoConfig.from_pretrained(folder).rope_parameters). Until version 4.57 only
# rope_scaling counted.
SCALED = {"rope_type": "linear", "factor": 2.5}


def converted_bytes(folder, config):
    """The checkpoint of a Hugging Face folder named m, wherever that is."""
    folder.mkdir()
    convert(sources.write_folder(folder / "m", config), folder / "out.bin").ok()
    return (folder / "out.bin").read_bytes()


@pytest.mark.parametrize(
    "scaling, parameters, theta",
    [
        (SCALED, {"rope_type": "default", "rope_theta": 500000.0}, 7000.0),
        ({**SCALED, "rope_theta": 9000.0}, {"rope_type": "linear", "factor": 4.0}, 9000.0),
        ({}, {**SCALED, "rope_theta": 500000.0}, 500000.0),
    ],
)
def test_rope_scaling_beside_rope_parameters_replaces_them(tmp_path, scaling, parameters, theta):
    both = {**sources.LLAMA, "rope_theta": 7000.0, "rope_scaling": scaling, "rope_parameters": parameters}
    same = {**sources.LLAMA, "rope_theta": theta, "rope_scaling": SCALED}
    assert converted_bytes(tmp_path / "both", both) == converted_bytes(tmp_path / "same", same)


def test_rope_scaling_changes_the_layers_without_a_window_where_the_others_have_a_base_of_their_own(tmp_path):
    windowed = {"rope_type": "default", "rope_theta": 300.0}
    parameters = {"full_attention": {"rope_type": "default", "rope_theta": 5000.0}, "sliding_attention": windowed}
    both = {**sources.FAMILIES["olmo3"], "rope_scaling": SCALED, "rope_parameters": parameters}
    same = {**both, "rope_scaling": None}
    same["rope_parameters"] = {"full_attention": {**SCALED, "rope_theta": 5000.0}, "sliding_attention": windowed}
    assert converted_bytes(tmp_path / "both", both) == converted_bytes(tmp_path / "same", same)
    flat = sources.write_folder(tmp_path / "flat", {**both, "rope_parameters": windowed})
    assert_refused(convert(flat, tmp_path / "flat.bin"), 3, "rope_parameters", "full_attention")


@pytest.mark.parametrize(
    "field, fields",
    [
        ("layer_types", {"layer_types": ["full_attention"]}),
        ("layer_types", {"layer_types": ["full_attention", "linear_attention"]}),
        ("max_window_layers", {"max_window_layers": "all"}),
        ("sliding_window", {"sliding_window": 0, "max_window_layers": 1}),
    ],
)
def test_windows_that_are_not_understood_are_refused(tmp_path, field, fields):
    config = {**sources.QWEN2, "use_sliding_window": True, "sliding_window": 8, **fields}
    assert_refused(convert(sources.write_folder(tmp_path / "m", config), tmp_path / "out.bin"), 3, field)


@pytest.mark.parametrize("types", [None, ["attention", "mamba"]])
def test_layers_of_another_kind_are_refused(tmp_path, types):
    config = {**sources.LLAMA, "architectures": ["GraniteMoeHybridForCausalLM"], "layer_types": types}
    assert_refused(convert(sources.write_folder(tmp_path / "m", config), tmp_path / "out.bin"), 3, "layer_types")


@pytest.mark.parametrize("fields", [{"no_rope_layers": [1]}, {"no_rope_layers": [1, 2]}, {"no_rope_layer_interval": 0}])
def test_layers_without_rope_that_are_not_understood_are_refused(tmp_path, fields):
    config = {**sources.LLAMA, "architectures": ["SmolLM3ForCausalLM"], **fields}
    assert_refused(convert(sources.write_folder(tmp_path / "m", config), tmp_path / "out.bin"), 3, "no_rope_layers")


def broken_tensors(change):
    tensors = sources.weights(sources.LLAMA)
    change(tensors)
    return tensors


def set_value(name, place, value):
    return lambda tensors: tensors[name].__setitem__(place, value)


def add(name, shape, dtype="<f4"):
    return lambda tensors: tensors.update({name: np.zeros(shape, dtype)})


@pytest.mark.parametrize(
    "name, change",
    [
        ("blocks.1.attn.o_bias is missing", add("model.layers.0.self_attn.o_proj.bias", 32)),
        ("block_sparse_moe", add("model.layers.0.block_sparse_moe.gate.weight", (8, 32))),
        ("q_norm", add("model.layers.0.self_attn.q_norm.weight", 8)),
        ("blocks.1.mlp.up_proj is missing", lambda t: t.pop("model.layers.1.mlp.up_proj.weight")),
        ("lm_head.weight has 299 x 32 values, expected 300 x 32", add("lm_head.weight", (299, 32))),
        ("I64", add("lm_head.weight", (300, 32), "<i8")),
        ("model.norm.weight has a value that is not finite", set_value("model.norm.weight", 3, np.nan)),
        ("tensor head: row 3 has the value 100000000, expected at most", set_value("lm_head.weight", (3, 3), 1e8)),
    ],
)
def test_tensors_that_do_not_fit_are_refused_by_name(tmp_path, name, change):
    sources.write_folder(tmp_path / "m", sources.LLAMA, broken_tensors(change))
    assert_refused(convert(tmp_path / "m", tmp_path / "out.bin"), 3, name)
    assert_nothing_left(tmp_path, "m")


def test_a_failed_conversion_leaves_the_old_file(tmp_path):
    tensors = broken_tensors(lambda t: t["lm_head.weight"].__setitem__((299, 3), np.inf))  # the last that is read
    sources.write_folder(tmp_path / "m", sources.LLAMA, tensors)
    (tmp_path / "out.bin").write_bytes(b"old")
    assert_refused(convert(tmp_path / "m", tmp_path / "out.bin"), 3, "./m: tensor head has a value that is not finite")
    assert (tmp_path / "out.bin").read_bytes() == b"old"
    assert_nothing_left(tmp_path, "m", "out.bin")


def test_weights_cut_short_are_refused(tmp_path):
    source = sources.write_folder(tmp_path / "m", sources.LLAMA)
    weights = source / "model.safetensors"
    whole = weights.read_bytes()
    for size in (0, 3, 20, 300, len(whole) // 2, len(whole) - 4):
        weights.write_bytes(whole[:size])
        assert_refused(convert(source, tmp_path / "out.bin"), 3, "convert: ", "model.safetensors")
        assert_nothing_left(tmp_path, "m")


@pytest.mark.parametrize("start", [b"GGUF\3\0\0\0", b"24ka\1\0\0\0", native.MAGIC, b"no model at all"])
def test_files_that_the_program_converts_itself_are_left_to_it(tmp_path, start):
    source, out = tmp_path / "model.bin", tmp_path / "out.bin"
    source.write_bytes(start + bytes(300))
    assert_refused(convert(source, out), 3, f"{source}: is not a Hugging Face folder", f"{EXECUTABLE} {source} --convert {out}")
    assert_nothing_left(tmp_path, "model.bin")


def test_other_sources_are_refused(tmp_path, folder):
    out = tmp_path / "out.bin"
    assert_refused(convert(tmp_path / "absent", out), 3, "absent", "No such file")
    assert_refused(convert(folder("llama") / "model.safetensors", out), 3, "expected the folder")
    (tmp_path / "empty").mkdir()
    assert_refused(convert(tmp_path / "empty", out), 3, "config.json")
    assert not out.exists()


def test_usage_errors_exit_with_2(tmp_path):
    for options in (["--type", "q3"], ["--head-type", "x"], ["--unknown"], ["--vocab-only", "--type", "q8"],
                    ["--set", "heat=1"], ["--vocab-only", "--calibrate", "x"]):  # fmt: skip
        done = convert(tmp_path, tmp_path / "out.bin", *options)
        assert done.code == 2 and options[0].removeprefix("-") in done.err, done


def test_an_output_that_cannot_be_written_exits_with_1(tmp_path, folder):
    done = convert(folder("llama"), tmp_path / "absent" / "out.bin")
    assert_refused(done, 1, "convert: ", "absent")


@pytest.mark.parametrize("more", ["model.fp16.safetensors", "consolidated.safetensors", "pytorch_model.bin", "index"])
def test_a_second_set_of_weights_is_not_read(tmp_path, checkpoint, more):
    config = sources.VARIANTS["llama"]
    source = sources.write_folder(tmp_path / "llama", config)
    if more == "index":  # of shards that are no longer there
        index = {"weight_map": {"lm_head.weight": "model-00001-of-00002.safetensors"}}
        (source / "model.safetensors.index.json").write_text(json.dumps(index))
    else:
        (source / more).write_bytes((source / "model.safetensors").read_bytes())
    convert(source, tmp_path / "out.bin").ok()
    assert (tmp_path / "out.bin").read_bytes() == checkpoint("llama").read_bytes()


def test_only_the_files_of_the_index_are_read(tmp_path, checkpoint):
    source = sources.write_folder(tmp_path / "grouped_queries", sources.VARIANTS["grouped_queries"], shards=3)
    (source / "consolidated.safetensors").write_bytes(b"of another format")
    convert(source, tmp_path / "out.bin", "--type", "q4").ok()
    assert (tmp_path / "out.bin").read_bytes() == checkpoint("grouped_queries", "--type", "q4").read_bytes()


def test_several_files_that_nothing_puts_together_are_refused(tmp_path):
    source = sources.write_folder(tmp_path / "m", sources.LLAMA)
    weights = (source / "model.safetensors").read_bytes()
    (source / "model.safetensors").unlink()
    (source / "a.safetensors").write_bytes(weights)
    convert(source, tmp_path / "out.bin").ok()
    (source / "b.safetensors").write_bytes(weights)
    assert_refused(convert(source, tmp_path / "other.bin"), 3, "a.safetensors and b.safetensors", "model.safetensors")
    assert_nothing_left(tmp_path, "m", "out.bin")


@pytest.mark.parametrize("weights", ["of another architecture", "none"])
def test_an_architecture_that_is_not_supported_is_named_before_its_tensors(tmp_path, weights):
    config = {**sources.LLAMA, "architectures": ["GPTNeoXForCausalLM"]}
    tensors = {"gpt_neox.layers.0.attention.query_key_value.weight": np.zeros((8, 8), np.float32)}
    source = sources.write_folder(tmp_path / "m", config, tensors)
    if weights == "none":
        (source / "model.safetensors").unlink()
    assert_refused(convert(source, tmp_path / "out.bin"), 3, "config.json: architectures", "GPTNeoXForCausalLM")


def test_a_git_lfs_pointer_is_refused_by_what_it_is(tmp_path):
    source = sources.write_folder(tmp_path / "m", sources.LLAMA)
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 548105171\n"
    for path, given in ((source / "model.safetensors", source), (tmp_path / "m.bin", tmp_path / "m.bin")):
        path.write_bytes(pointer)
        assert_refused(convert(given, tmp_path / "out.bin"), 3, path.name, "Git LFS pointer", "git lfs pull")


# ----------------------------------------------------------------------------------------------------------------------
# The file


def test_verify_names_the_damaged_section(tmp_path, checkpoint):
    path = checkpoint("biases", "--type", "q4")
    assert run(path, "--verify").ok().out == f"{path}: OK\n"
    data, file = path.read_bytes(), native.Native(path)
    damaged = tmp_path / "damaged.bin"
    places = [(s.offset + at, s.name) for s in file.sections.values() for at in {0, s.bytes // 2, s.bytes - 1}]
    end = native.HEAD + 96 * len(file.sections)
    places += [
        (end - 1, "header"),
        (native.HEAD + 60, "header"),
        (40, "header"),
        (33, "header"),
        (3, "header"),
    ]
    first = file.sections["embedding"]
    places.append((first.offset - 1, "embedding"))
    for at, name in places:
        damaged.write_bytes(data[:at] + bytes([data[at] ^ 0x20]) + data[at + 1 :])
        assert_refused(run(damaged, "--verify"), 3, "damaged", name)


def test_verify_opens_what_the_checksums_do_not_tell(tmp_path):
    """Files whose checksums are right, but which no run can use."""
    path = tmp_path / "m.bin"
    damaged = (("tokenizer", bytes(64), "tokenizer"), ("chat", b"{{ ", "end of the template"), ("norm", None, "norm"))
    for name, data, named in damaged:
        writer = native_models.tiny(chat=True)
        entry = writer.entries[writer.index(name)]
        entry.update({"data": data} if data else {"name": b"stranger"})
        path.write_bytes(writer.pack())
        assert_refused(run(path, "--verify"), 3, path, named)


def test_a_file_that_cannot_be_created_is_named_as_the_user_named_it(tmp_path, folder):
    (tmp_path / "taken").mkdir()
    for out in (tmp_path / "missing" / "out.bin", tmp_path / "taken"):
        done = convert(folder("llama"), out)
        assert_refused(done, 1, f"convert: {out}: ")
    assert_nothing_left(tmp_path, "taken")


@pytest.mark.parametrize("ending, code", [("exit 3", 3), ("exit 1", 1), ("kill -KILL $$", 1)])
def test_where_the_program_fails_an_older_file_stays_and_nothing_else(tmp_path, folder, ending, code):
    out, program = tmp_path / "out.bin", tmp_path / "program"
    out.write_bytes(b"older")
    program.write_text(f"#!/bin/sh\n[ -s $1 ] && [ $2 = --convert ] && [ $3 = {out} ] && echo run: $1 is bad >&2; {ending}\n")
    program.chmod(0o755)
    done = convert(folder("llama"), out, "--run", program)
    assert done.code == code and done.err.startswith("run: ./llama is bad\n"), done
    assert ("SIGKILL" in done.err) == ("KILL" in ending)
    assert out.read_bytes() == b"older"
    assert_nothing_left(tmp_path, "out.bin", "program")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_the_program_too_and_leaves_nothing(tmp_path, folder, number):
    program, marks = tmp_path / "program", tmp_path / "marks"
    marks.mkdir()
    program.write_text(f"#!/bin/sh\ntrap 'touch {marks}/ended; exit 143' TERM\ntouch {marks}/begun\nwhile :; do sleep 0.05; done\n")
    program.chmod(0o755)
    command = [sys.executable, ROOT / "scripts" / "convert.py", "--run", program, folder("llama"), tmp_path / "out.bin"]
    running = subprocess.Popen([str(part) for part in command], stderr=subprocess.PIPE,
                               preexec_fn=lambda: signal.signal(number, signal.SIG_DFL))  # one may be ignored
    wait_for(lambda: (marks / "begun").exists())
    running.send_signal(number)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 128 + number, said
    assert (marks / "ended").exists()
    assert_nothing_left(tmp_path, "program", "marks")


def wait_for(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "nothing happened in 60 s"
        time.sleep(0.02)


def test_a_program_that_is_not_built_is_named(tmp_path, folder):
    done = convert(folder("llama"), tmp_path / "out.bin", "--run", tmp_path / "absent")
    assert_refused(done, 1, "convert: ", tmp_path / "absent", "is not there", "`make`")
    assert not list(tmp_path.iterdir())


def test_info_shows_what_was_converted(checkpoint):
    info = run(checkpoint("llama3_parameters", "--type", "q4"), "--info", "--json").ok().json
    config = info["config"]
    assert (config["head_dim"], config["rope_theta"], config["rope_scaling"]) == (16, 500000, "llama3")
    assert (config["dim"], config["hidden_dim"], config["n_layers"], config["vocab_size"]) == (32, 56, 2, 300)
    tensors = {t["name"]: t for t in info["tensors"]}
    assert tensors["blocks.1.mlp.down_proj"] == {
        "name": "blocks.1.mlp.down_proj", "type": "q4", "rows": 32, "cols": 56, "bytes": 2 * 2 * 288
    }  # fmt: skip
    assert tensors["embedding"]["type"] == "q8"
    lines = dict(line.split(": ", 1) for line in info["provenance"].splitlines())
    assert lines["source"] == "llama3_parameters" and lines["type"] == "q4" and lines["head_type"] == "q8"


def test_provenance_has_what_the_folder_held_and_what_became_of_it(tmp_path):
    source = sources.write_folder(tmp_path / "m", sources.LLAMA)
    convert(source, tmp_path / "m.bin", "--type", "q4t", "--set", "top_k=20").ok()
    assert native.Native(tmp_path / "m.bin").bytes("provenance").decode().splitlines() == [
        "license: unknown", "source: m", "type: f32", "head_type: f32", "converter: convert.py 2",
        "source: m", "type: q4t", "head_type: q8", "converter: run 0.1.0", "set: top_k=20",
    ]  # fmt: skip


def test_calibration_and_types_are_those_of_the_program(tmp_path):
    """Options are handed over; the same rows and the same options give the same file."""
    source, text = sources.write_folder(tmp_path / "m", sources.LLAMA), tmp_path / "text"
    text.write_bytes(b"a text about nothing " * 30)
    convert(source, tmp_path / "f32.bin", "--type", "f32").ok()
    options = ["--type", "q4t", "--head-type", "f16", "--calibrate", text]
    convert(source, tmp_path / "m.bin", *options).ok()
    run(tmp_path / "f32.bin", "--convert", tmp_path / "expected.bin", *options).ok()
    seen, expected = (native.Native(tmp_path / f"{name}.bin") for name in ("m", "expected"))
    for name in expected.sections.keys() - {"provenance"}:
        assert seen.bytes(name) == expected.bytes(name), name
    assert b"calibrated: yes\n" in seen.bytes("provenance")


def test_types_are_those_of_run_type():
    words = re.search(r"--type .*?: matrix type: (.*)", run("--help").ok().out)[1]
    assert sorted(words.split(", ")) == sorted(converter.TYPES)


@pytest.mark.parametrize(
    "fields, stored",
    [
        ({"do_sample": True, "temperature": 0.6, "top_p": 0.95, "top_k": 20, "min_p": 0.05, "repetition_penalty": 1.1},
         {"temperature": 0.6, "top_p": 0.95, "top_k": 20, "min_p": 0.05, "repeat_penalty": 1.1}),
        ({"temperature": 0.7, "top_p": None, "eos_token_id": 2, "max_new_tokens": 2048}, {"temperature": 0.7}),
        ({"do_sample": False, "temperature": 0.6, "top_k": 20}, {"temperature": 0}),
        ({"bos_token_id": 1}, {}),
    ],
)  # fmt: skip
def test_recommended_sampling_travels(tmp_path, fields, stored):
    folder = sources.write_folder(tmp_path / "m", sources.LLAMA)
    (folder / "generation_config.json").write_text(json.dumps(fields))
    convert(folder, tmp_path / "m.bin").ok()
    assert native.Native(tmp_path / "m.bin").sampling == stored
    assert run(tmp_path / "m.bin", "--info", "--json").ok().json["sampling"] == stored


def test_set_overrides_the_sampling_of_the_source(tmp_path):
    folder = sources.write_folder(tmp_path / "m", sources.LLAMA)
    (folder / "generation_config.json").write_text('{"temperature": 0.6, "top_p": 7, "top_k": 20}')
    out = tmp_path / "m.bin"
    assert_refused(convert(folder, out), 3, "generation_config.json", "top_p is '7'", "from 0 to 1", "--set top_p=VALUE")
    convert(folder, out, "--set", "top-p=0.9", "--set", "temperature=0.2", "--set", "repeat_last_n=32").ok()
    assert native.Native(out).sampling == {"temperature": 0.2, "top_p": 0.9, "top_k": 20, "repeat_last_n": 32}
    for wrong in ("top_p=1.5", "top_k=0.5", "top_k=", "heat=1", "temperature"):
        done = convert(folder, out, "--set", wrong)
        assert done.code == 2 and wrong in done.err and "expected" in done.err, done


def test_help_and_usage_errors_need_no_packages(tmp_path):
    command = [sys.executable, "-S", ROOT / "scripts" / "convert.py"]  # -S: without the folder of packages
    assert "--set NAME=VALUE" in execute([*command, "--help"]).ok().out
    assert execute([*command, "--type", "q3"]).code == 2
    assert_refused(execute([*command, tmp_path, tmp_path / "m.bin"]), 1, "numpy is not installed", "make converter")


def test_steps_show_on_a_terminal_and_nowhere_else(tmp_path, folder):
    done = convert(folder("llama"), tmp_path / "m.bin", "--type", "q4").ok()
    assert done.out == "" and done.err == "", done
    options = ["--run", EXECUTABLE, folder("llama"), tmp_path / "m.bin", "--type", "q4"]
    code, _, shown = on_terminal(ROOT / "scripts" / "convert.py", *options, program=sys.executable)
    assert code == 0
    steps = ("reading shape and vocabulary", "copying weights", "calibrating block", "writing")
    assert all(step in shown for step in steps), shown


def test_the_license_comes_from_the_model_card(tmp_path):
    folder = sources.write_folder(tmp_path / "m", sources.LLAMA)
    (folder / "README.md").write_text("---\nlanguage: en\nlicense: apache-2.0\n---\n# A model\n")
    convert(folder, tmp_path / "m.bin").ok()
    assert b"license: apache-2.0\n" in native.Native(tmp_path / "m.bin").bytes("provenance")


def test_a_vocabulary_alone_can_tokenize_only(tmp_path, folder):
    convert(folder("llama"), tmp_path / "v.bin", "--vocab-only").ok()
    assert list(native.Native(tmp_path / "v.bin").sections) == ["config", "provenance", "tokenizer"]
    assert run(tmp_path / "v.bin", "--tokenize", "-i", "ab").ok().out == "97 98\n"
    assert_refused(run(tmp_path / "v.bin", "-i", "a"), 3, "vocabulary only")


def test_conversion_streams(tmp_path):
    """Peak memory of the script beyond the interpreter's own stays below twice the largest tensor."""
    config = {**sources.LLAMA, "hidden_size": 512, "vocab_size": 60000, "tie_word_embeddings": True}
    tensors = sources.weights({**config, "vocab_size": 300})
    tensors["model.embed_tokens.weight"] = np.ones((60000, 512), np.float32)
    sources.write_folder(tmp_path / "m", config, tensors)
    script = (
        "import resource, runpy, sys; base = 0\n"
        "import numpy, safetensors, tqdm\n"
        "base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        f"sys.argv = ['convert', {str(tmp_path / 'm')!r}, {str(tmp_path / 'm.bin')!r}, '--run', {str(EXECUTABLE)!r}]\n"
        f"sys.path.insert(0, {str(ROOT / 'scripts')!r})\n"
        "import convert; code = convert.main()\n"
        "print(code, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base)\n"
    )
    code, kilobytes = execute([sys.executable, "-c", script], timeout=300).ok().out.split()
    largest = tensors["model.embed_tokens.weight"].nbytes
    assert code == "0" and int(kilobytes) * 1024 < 2 * largest, (
        f"{kilobytes} kB beyond the start, largest {largest} bytes"
    )
