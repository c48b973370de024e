"""GGUF files: weights, tokenizer, config and sampling values are those that the gguf package wrote; what cannot be used
is refused by the name of the key or tensor. test_bad_inputs_gguf.py has the hostile files."""

import os
import struct
import sys

import numpy as np
import pytest
from conftest import DATA_DIR, EXECUTABLE, ROOT, SLOWER, assert_refused, execute, logits, run

import gguf_bytes
import native
import sources
from gguf_bytes import TEXT, Key
from terminal import on_terminal

gguf = pytest.importorskip("gguf")

BLOCKS_OF_32 = {**sources.LLAMA, "hidden_size": 64, "intermediate_size": 96, "num_key_value_heads": 2}
# GGUF's types, and the weight types that hold their values exactly.
EXACT = {"F32": "f32", "F16": "f16", "BF16": "bf16", "Q8_0": "q8", "Q4_0": "q4", "Q4_1": "q4m", "Q5_0": "q5", "Q5_1": "q5m"}
BLOCKS_OF_256 = {**BLOCKS_OF_32, "hidden_size": 256, "intermediate_size": 256, "num_hidden_layers": 1}
BLOCKS = {"IQ4_NL": "q4t", "Q4_K": "q4k", "Q5_K": "q5k", "Q6_K": "q6k"}  # types that the package only decodes
# Types that become another one, and whether that is exact. Q2_K, IQ4_XS and MXFP4 may be, in part.
SUBSTITUTES = {"Q3_K": ("q6k", True), "Q2_K": ("q5m", False), "IQ4_XS": ("q4t", False), "MXFP4": ("q5", True)}
NOTE = "a GGUF file, repacked in memory; --convert FILE keeps the result"


def convert(source, out, *options):
    done = run(source, "--convert", out, *options).ok()
    assert (done.out, done.err) == ("", ""), done
    return native.Native(out)


# ----------------------------------------------------------------------------------------------------------------------
# Weights


@pytest.mark.parametrize("kind", EXACT)
def test_weights_are_carried_exactly(tmp_path, kind):
    held = sources.write_gguf(tmp_path / "m.gguf", BLOCKS_OF_32, kind)
    file = convert(tmp_path / "m.gguf", tmp_path / "m.bin")
    for name, source in sources.native_names(BLOCKS_OF_32).items():
        if file.sections[name].kind == 1:
            assert (file.vector(name) == held[source]).all(), name
            continue
        assert file.type(name) == EXACT[kind]
        assert (file.matrix(name) == held[source]).all(), f"{name} has other values than the GGUF file"


@pytest.mark.parametrize("kind", [*BLOCKS, *SUBSTITUTES])
def test_blocks_of_other_types_are_carried_exactly_or_to_the_nearest(tmp_path, kind):
    """Random blocks, decoded by the gguf package. What has no weight type of its own is said to be held by another."""
    path = tmp_path / "m.gguf"
    held = sources.write_gguf(path, BLOCKS_OF_256, kind, random=True)
    done = run(path, "--convert", tmp_path / "m.bin").ok()
    file, matrices = native.Native(tmp_path / "m.bin"), 0
    to, exact = SUBSTITUTES.get(kind, (BLOCKS.get(kind), True))
    for name, source in sources.native_names(BLOCKS_OF_256).items():
        if file.sections[name].kind == 2:
            matrices += 1
            seen, expected = file.matrix(name), held[source]
            assert file.type(name) == to
            if exact:
                assert (seen == expected).all(), f"{name} has other values than the GGUF file"
            else:
                assert np.abs(seen - expected).max() <= np.abs(expected).max() / 40, name
    how = "exactly" if exact else "to the nearest value"
    said = f"run: {path}: {matrices} tensors of type {kind} become {to}, {how}\n" if kind in SUBSTITUTES else ""
    assert (done.out, done.err) == ("", said), done
    done = run(path, "-i", "abc", "-n", "1", "-t", "0").ok()
    assert done.err == said + f"run: {path}: {NOTE}\n", done
    assert run(path, "-i", "abc", "-n", "1", "-t", "0", "-q").ok().err == ""


@pytest.mark.parametrize("kind", [*EXACT, *BLOCKS])
def test_a_gguf_file_and_its_checkpoint_give_the_same_bits(tmp_path, kind, simd_sets):
    path, out = tmp_path / "m.gguf", tmp_path / "m.bin"
    sources.write_gguf(path, BLOCKS_OF_256 if kind in BLOCKS else BLOCKS_OF_32, kind, random=kind in BLOCKS)
    convert(path, out)
    options = ["-i", "abc abc", "-n", "8", "-t", "0", "--digest"]
    digests = {run(model, *options, "-q", "-j", threads, "--simd", simd).ok().digest
               for model in (path, out) for threads in (1, 3) for simd in simd_sets}  # fmt: skip
    assert len(digests) == 1, digests


@pytest.mark.parametrize(
    "name, architecture, options",
    [
        ("large_heads", "llama", {}),
        ("tied_head", "llama", {}),
        ("biases", "qwen2", {}),
        ("biases", "llama", {}),
        ("linear_scaling", "llama", {"rope.scaling.type": "linear", "rope.scaling.factor": 2.5}),
        ("linear_scaling", "llama", {"rope.scale_linear": 2.5}),
        ("llama3_scaling", "llama", {"rope.scaling.original_context_length": 16}),
        ("llama3_scaling", "llama", {}),
        ("sliding_window", "llama", {"attention.sliding_window": 5}),
        ("qwen3", "qwen3", {}),
    ],
)
def test_gguf_and_hugging_face_give_the_same_logits(tmp_path, name, architecture, options):
    config = {**sources.VARIANTS, **sources.FAMILIES}[name]
    extra = {"rope_freqs.weight": sources.llama3_factors(config)} if name == "llama3_scaling" else {}
    sources.write_gguf(tmp_path / "m.gguf", config, "F32", architecture, options, extra)
    folder = sources.write_folder(tmp_path / "m", config)
    execute([sys.executable, ROOT / "scripts" / "convert.py", "--run", EXECUTABLE, folder, tmp_path / "m.bin",
             "--type", "f32"]).ok()  # fmt: skip
    seen, expected = (
        logits(p, sources.tokens(config), "--kv", "f32", vocab_size=config["vocab_size"])
        for p in (tmp_path / "m.gguf", tmp_path / "m.bin")
    )
    off = np.abs(seen - expected).max()
    assert off <= 2e-5, f"logits are off by up to {off:.2e}"


def test_parameters_of_llama3_scaling_are_recovered(tmp_path):
    """The three ways: as Llama 3 has them, with another original context, with other factors."""
    base = sources.VARIANTS["llama3_scaling"]
    for scaling in (
        {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192},
        {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64},
        {"factor": 4.0, "low_freq_factor": 0.5, "high_freq_factor": 6.0, "original_max_position_embeddings": 64},
    ):
        config = {**base, "head_dim": 64, "rope_scaling": {"rope_type": "llama3", **scaling}}
        original = scaling["original_max_position_embeddings"]
        fields = {"rope.scaling.original_context_length": original} if scaling["low_freq_factor"] != 1 else {}
        factors = {"rope_freqs.weight": sources.llama3_factors(config)}
        sources.write_gguf(tmp_path / "m.gguf", config, "F32", "llama", fields, factors)
        fields = convert(tmp_path / "m.gguf", tmp_path / "m.bin").fields
        assert fields["rope_scaling"] == 2 and fields["rope_original_context"] == original, fields
        for name in ("factor", "low_freq_factor", "high_freq_factor"):
            assert fields[f"rope_{name}"] == scaling[name], fields


# ----------------------------------------------------------------------------------------------------------------------
# The container


def test_version_2_and_other_alignments_are_read(tmp_path):
    path, out = tmp_path / "m.gguf", tmp_path / "m.bin"
    sources.write_gguf(path, BLOCKS_OF_32, "Q4_0")
    expected = convert(path, out)
    data = path.read_bytes()
    path.write_bytes(data[:4] + struct.pack("<I", 2) + data[8:])
    assert convert(path, tmp_path / "v2.bin").data == expected.data
    sources.write_gguf(path, BLOCKS_OF_32, "Q4_0", alignment=4096)
    assert convert(path, tmp_path / "aligned.bin").data == expected.data


@pytest.mark.parametrize("most", [1, 5, 20])
def test_parts_of_a_split_model_are_found_beside_the_first(tmp_path, most):
    whole = tmp_path / "m.gguf"
    sources.write_gguf(whole, BLOCKS_OF_32, "Q8_0")
    expected = convert(whole, tmp_path / "whole.bin")
    (tmp_path / "parts").mkdir()
    sources.write_gguf(tmp_path / "parts" / "m.gguf", BLOCKS_OF_32, "Q8_0", split=most)
    parts = sorted((tmp_path / "parts").iterdir())
    assert len(parts) > 1 and parts[0].name == f"m-00001-of-{len(parts):05}.gguf"
    split = convert(parts[0], tmp_path / "split.bin")
    for name in expected.sections:
        if name != "provenance":  # it names the file
            assert split.bytes(name) == expected.bytes(name), name
    assert_refused(run(parts[1], "-i", "a"), 3, parts[1].name)
    data = parts[-1].read_bytes()
    parts[-1].unlink()
    assert_refused(run(parts[0], "-i", "a"), 3, parts[-1].name, "No such file")
    parts[-1].write_bytes(data[: len(data) // 2])
    assert_refused(run(parts[0], "-i", "a"), 3, parts[-1].name)
    renamed = tmp_path / "parts" / "renamed.gguf"
    parts[0].rename(renamed)
    assert_refused(run(renamed, "-i", "a"), 3, "renamed.gguf", f"-00001-of-{len(parts):05}.gguf")


def test_no_part_of_a_split_model_is_replaced(tmp_path):
    sources.write_gguf(tmp_path / "m.gguf", BLOCKS_OF_32, "Q8_0", split=8)
    parts = sorted(tmp_path.iterdir())
    before = [part.read_bytes() for part in parts]
    (tmp_path / "soft").symlink_to(parts[1].name)
    os.link(parts[2], tmp_path / "hard")
    batch = ["--batch", tmp_path / "requests", "--resume"]
    for target in [*parts, tmp_path / "soft", tmp_path / "hard"]:
        refusal = f"{target}: is the model, expected another file"
        assert_refused(run(parts[0], "--convert", target), 2, f"--convert {refusal}")
        for options in ([], ["--tokenize"], ["--info"]):
            assert_refused(run(parts[0], "-i", "a", "-q", *options, "-o", target), 2, f"--output {refusal}")
        assert_refused(run(parts[0], *batch, "-q", "-o", target), 2, f"--output {refusal}")
    assert [part.read_bytes() for part in parts] == before


def test_the_size_of_a_split_model_is_that_of_all_parts(tmp_path):
    sources.write_gguf(tmp_path / "m.gguf", BLOCKS_OF_32, "F32", split=8)
    parts = sorted(tmp_path.iterdir())
    megabytes = sum(part.stat().st_size for part in parts) / 1e6
    assert f"{megabytes:.1f} MB" in run(parts[0], "--info").ok().out
    assert f"{parts[0].stat().st_size / 1e6:.1f}" != f"{megabytes:.1f}"


def test_messages_about_a_tensor_name_its_part(tmp_path):
    sources.write_gguf(tmp_path / "m.gguf", BLOCKS_OF_32, "Q8_0", split=8)
    parts = sorted(tmp_path.iterdir())
    names = [t.name for t in gguf.GGUFReader(parts[2]).tensors if len(t.shape) == 2]
    data = parts[2].read_bytes()
    tensor = next(t for t in gguf.GGUFReader(parts[2]).tensors if t.name == names[0])
    parts[2].write_bytes(data[: tensor.data_offset] + b"\x00\x7c" + data[tensor.data_offset + 2 :])
    assert_refused(run(parts[0], "-i", "a", "-q"), 3, f"{parts[2]}: tensor {names[0]} has a scale that is not finite")
    parts[2].write_bytes(data.replace(names[0].encode(), b"x" * len(names[0])))
    assert_refused(run(parts[0], "-i", "a", "-q"), 3, f"{names[0]} is missing")


def test_a_file_without_tensors_is_a_vocabulary(tmp_path):
    path = tmp_path / "v.gguf"
    sources.write_gguf(path, {**sources.LLAMA, "num_hidden_layers": 0}, "F32", only_vocabulary=True)
    assert run(path, "--tokenize", "-i", "ab").ok().out == "97 98\n"
    assert_refused(run(path, "-i", "a"), 3, "vocabulary only")
    assert list(convert(path, tmp_path / "v.bin").sections) == ["config", "provenance", "tokenizer"]
    assert run(tmp_path / "v.bin", "--tokenize", "-i", "ab").ok().out == "97 98\n"


# ----------------------------------------------------------------------------------------------------------------------
# What else a file says


def test_sampling_values_become_defaults(tmp_path):
    keys = {"general.sampling.temp": 0.7, "general.sampling.top_k": 20, "general.sampling.penalty_last_n": 32}
    path = tmp_path / "m.gguf"
    sources.write_gguf(path, sources.LLAMA, "F32", fields=keys)
    stored = {"temperature": 0.7, "top_k": 20, "repeat_last_n": 32}
    assert run(path, "--info", "--json").ok().json["sampling"] == stored
    assert convert(path, tmp_path / "m.bin").sampling == stored
    sources.write_gguf(path, sources.LLAMA, "F32", fields={"general.sampling.top_p": 7.0})
    assert_refused(run(path, "-i", "a", "-q"), 3, "top_p is 7", "from 0 to 1")
    assert_refused(run(path, "--convert", tmp_path / "out.bin"), 3, "top_p is 7")
    assert convert(path, tmp_path / "out.bin", "--set", "top_p=0.5").sampling == {"top_p": 0.5}


def test_provenance_has_the_file_s_own_and_each_step(tmp_path):
    path, out = tmp_path / "m.gguf", tmp_path / "m.bin"
    sources.write_gguf(path, sources.LLAMA, "F32", fields={"general.name": "A\nmodel", "general.license": "mit"})
    convert(path, out)
    file = convert(out, tmp_path / "again.bin", "--set", "temperature=0.25")
    assert file.bytes("provenance").decode().splitlines() == [
        "name: A model", "license: mit",
        "source: m.gguf", "type: f32", "head_type: f32", "converter: run 0.1.0",
        "source: m.bin", "type: f32", "head_type: f32", "converter: run 0.1.0", "set: temperature=0.25",
    ]  # fmt: skip


def test_info_and_verify(tmp_path):
    path = tmp_path / "m.gguf"
    sources.write_gguf(path, BLOCKS_OF_32, "Q4_1")
    info = run(path, "--info", "--json").ok().json
    assert info["kind"] == "GGUF" and info["tokenizer"] == "byte-level bpe", info
    assert {t["type"] for t in info["tensors"]} == {"f32", "q4m"}
    done = run(path, "--verify").ok()
    assert done.out == f"{path}: OK (structure only: a GGUF file has no checksums)\n"
    assert_refused(run(path, "-z", "x", "-i", "a"), 2, "--tokenizer", "has its own")


# ----------------------------------------------------------------------------------------------------------------------
# What users see


def test_a_line_says_that_it_was_repacked_and_how_to_spare_that(tmp_path):
    path = tmp_path / "m.gguf"
    sources.write_gguf(path, BLOCKS_OF_32, "Q8_0")
    options = ["-i", "abc", "-n", "2", "-t", "0"]
    assert run(path, *options).ok().err == f"run: {path}: {NOTE}\n"
    assert run(path, *options, "-q").ok().err == ""
    assert run(path, "--info").ok().err == run(path, "--tokenize", "-i", "a").ok().err == ""


def test_progress_is_drawn_on_a_terminal_only(tmp_path):
    path = tmp_path / "m.gguf"
    sources.write_gguf(path, BLOCKS_OF_32, "Q8_0")
    code, _, shown = on_terminal(path, "-i", "abc", "-n", "2")
    assert code == 0 and "\rrepacking: 0 of 0 MB" in shown.replace("\x1b[K", "") and NOTE in shown.replace("\r\n", " "), shown
    code, _, shown = on_terminal(path, "--convert", tmp_path / "m.bin")
    assert code == 0 and "writing: 0 of 0 MB" in shown and shown.endswith("\x1b[K"), shown
    code, _, shown = on_terminal(path, "--convert", tmp_path / "m.bin", "-q")
    assert (code, shown) == (0, ""), shown


# ----------------------------------------------------------------------------------------------------------------------
# Refusals


@pytest.mark.parametrize(
    "named, architecture, fields, extra",
    [
        ("key general.architecture", "gemma", {}, {}),
        ("key llama.expert_count is 8", "llama", {"expert_count": 8}, {}),
        ("key llama.rope.scaling.type", "llama", {"rope.scaling.type": "dynamic"}, {}),
        ("key qwen2.final_logit_softcapping is 30", "qwen2", {"final_logit_softcapping": 30.0}, {}),
        ("key llama.rope.dimension_count is 4", "llama", {"rope.dimension_count": 4}, {}),
        ("tensor rope_freqs.weight", "llama", {}, {"rope_freqs.weight": np.array([1, 3, 2, 8], "<f4")}),
        ("tensor blk.0.ffn_gate_inp.weight", "llama", {}, {"blk.0.ffn_gate_inp.weight": np.zeros((8, 32), "<f4")}),
        ("tensor blk.0.attn_output.scale", "llama", {}, {"blk.0.attn_output.scale": np.zeros(32, "<f4")}),
        ("rope_freqs.weight and a linear scaling", "llama", {"rope.scale_linear": 2.0},
         {"rope_freqs.weight": np.ones(4, "<f4")}),
    ],
)  # fmt: skip
def test_a_model_that_cannot_be_run_is_refused_by_name(tmp_path, named, architecture, fields, extra):
    path = tmp_path / "m.gguf"
    sources.write_gguf(path, sources.LLAMA, "F32", architecture, fields, extra)
    assert_refused(run(path, "-i", "a"), 3, "m.gguf", named)
    assert_refused(run(path, "--convert", tmp_path / "out.bin"), 3, "m.gguf", named)
    assert [p.name for p in tmp_path.iterdir()] == ["m.gguf"], "a refused conversion leaves no file"


NOT_SUPPORTED = "IQ1_S IQ1_M IQ2_XXS IQ2_XS IQ2_S IQ3_XXS IQ3_S TQ1_0 TQ2_0 NVFP4"


@pytest.mark.parametrize("kind", NOT_SUPPORTED.split())
def test_a_type_that_is_not_supported_is_refused_by_name(tmp_path, kind):
    path = tmp_path / "m.gguf"
    sources.write_gguf(path, BLOCKS_OF_256, kind, random=True)
    assert_refused(run(path, "-i", "a"), 3, "m.gguf", f"has the type {kind}", "another quantisation, such as Q8_0")


# tokenizer.ggml.pre -> the number of the rule in a native file, and its flags: 1 BOS, 4 whole words. A name has the rule
# that llama.cpp's src/llama-vocab.cpp has for it.
RULES = {
    (1, 0): "gpt-2 phi-2 gigachat a.x-4.0 mellum exaone4 mpt olmo jais trillion granite-docling",
    (3, 0): "smollm starcoder refact command-r codeshell exaone minerva-7b mellum2",
    (2, 5): "llama3 llama-v3 llama-bpe falcon3 pixtral midm-2.0 lfm2",
    (2, 0): "dbrx smaug-bpe chatglm-bpe",
    (2, 4): "glm4 glm5",
    (4, 0): "qwen2 deepseek-r1-qwen kormo megrez stablelm2 hunyuan solar-open grok-2",
    (5, 0): "qwen35",
    (6, 0): "gpt-4o llama4 kanana2 talkie minimax-m2",
    (7, 5): "tekken",
    (8, 0): "deepseek-v3 hunyuan-dense joyai-llm hy_v4",
    (9, 0): "deepseek-llm",
    (10, 0): "deepseek-coder",
}


def attributes_of(section, n):
    """Of n pieces, in a section `tokenizer` (docs/format.md)."""
    n_merges, n_end = (struct.unpack_from("<I", section, at)[0] for at in (16, 28))
    scores = 4 * n if struct.unpack_from("<I", section)[0] == 0 else 0
    at = 64 + 4 * n_end + 4 * (n + 1) + scores + 12 * n_merges
    return section[at : at + n]


def vocabulary_of(tmp_path, keys):
    """The section `tokenizer` of a vocabulary of these keys."""
    (tmp_path / "v.gguf").write_bytes(gguf_bytes.File([Key("general.architecture", TEXT, "llama"), *keys]).pack())
    return convert(tmp_path / "v.gguf", tmp_path / "v.bin").bytes("tokenizer")


@pytest.mark.parametrize("rule, name", [(rule, name) for rule, names in RULES.items() for name in names.split()])
def test_names_of_pre_tokenizers_stand_for_their_rules(tmp_path, rule, name):
    keys = [key for key in gguf_bytes.byte_level_keys() if not key.name.endswith("add_bos_token")]
    next(key for key in keys if key.name.endswith(".pre")).value = name
    found = struct.unpack_from("<II", vocabulary_of(tmp_path, keys), 4)
    assert (found[0], found[1] & 5) == rule


@pytest.mark.parametrize("name", ["<|eot_id|>", "<|im_end|>", "<|end_of_text|>", "<|endoftext|>", "<end_of_turn>", "<|end|>",
                                  "<|eom_id|>", "<｜end▁of▁sentence｜>"])  # fmt: skip
@pytest.mark.parametrize("kind", [3, 4])  # control, user-defined
def test_tokens_that_end_a_turn_are_known_by_name(tmp_path, name, kind):
    keys = gguf_bytes.byte_level_keys()
    next(key for key in keys if key.name.endswith(".tokens")).value.append(name)
    next(key for key in keys if key.name.endswith(".token_type")).value.append(kind)
    data = vocabulary_of(tmp_path, keys)
    assert struct.pack("<ii", 258, 259) in data, "expected the ids of EOS and of the added token, at which generation stops"
    (tmp_path / "t.txt").write_text(f"a{name}")
    assert run(tmp_path / "v.bin", "--tokenize", "-f", tmp_path / "t.txt").ok().out.split()[-1] != "259", "a text may not end a turn"


def test_special_tokens_of_phi_3_take_the_white_space_after_them(tmp_path):
    keys = gguf_bytes.sentencepiece_keys()
    next(key for key in keys if key.name.endswith(".tokens")).value += ["<|user|>", "<|endoftext|>"]
    next(key for key in keys if key.name.endswith(".token_type")).value += [3, 3]
    next(key for key in keys if key.name.endswith(".scores")).value += [0.0, 0.0]
    file = gguf_bytes.File([Key("general.architecture", TEXT, "phi3"), *keys])
    (tmp_path / "v.gguf").write_bytes(file.pack())
    attributes = attributes_of(convert(tmp_path / "v.gguf", tmp_path / "v.bin").bytes("tokenizer"), len(keys[1].value))
    assert attributes[:3] == bytes([3, 1, 1 + 32]) and attributes[-2:] == bytes([1 + 32, 1])
    file.keys[0].value = "llama"
    (tmp_path / "v.gguf").write_bytes(file.pack())
    assert max(attributes_of(convert(tmp_path / "v.gguf", tmp_path / "v.bin").bytes("tokenizer"), len(keys[1].value))) < 16


def test_the_same_end_token_many_times_is_refused_in_little_time(tmp_path):
    n, pairs = 60000, [(a, b) for a in gguf_bytes.letters() for b in gguf_bytes.letters()[:200]]
    keys = {key.name: key for key in gguf_bytes.byte_level_keys()}
    keys["tokenizer.ggml.tokens"].value = [*gguf_bytes.letters(), *(a + b for a, b in pairs), *["<|im_end|>"] * n]
    keys["tokenizer.ggml.token_type"].value = [1] * (256 + len(pairs)) + [4] * n
    keys["tokenizer.ggml.merges"].value = [f"{a} {b}" for a, b in pairs]
    keys = [key for key in keys.values() if not key.name.endswith("_token_id")]
    (tmp_path / "v.gguf").write_bytes(gguf_bytes.File(keys).pack())
    done = run(tmp_path / "v.gguf", "--tokenize", "-i", "ab")
    assert done.code == 3 and "distinct names" in done.err, done
    assert done.cpu_seconds < 0.5 * SLOWER, f"expected a refusal in 0.5 s of processor time\n{done}"


@pytest.mark.parametrize("path", sorted(DATA_DIR.glob("ggml-vocab-*.gguf")) or [None], ids=lambda p: p and p.stem)
def test_real_vocabularies_are_read(path, tmp_path):
    if path is None:
        pytest.skip("no ggml-vocab-*.gguf in DATA_DIR")
    direct = run(path, "--tokenize", "-i", "Hello, wörld 12345!\n\n  x").ok()
    assert direct.cpu_seconds < 2 * SLOWER, f"expected a vocabulary to be read in 2 s of processor time\n{direct}"
    convert(path, tmp_path / "v.bin")
    assert run(tmp_path / "v.bin", "--tokenize", "-i", "Hello, wörld 12345!\n\n  x").ok().out == direct.out
