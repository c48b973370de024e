"""--info and --verify: what a checkpoint holds, on a screen, and whether it is intact."""

import re

import pytest
from conftest import assert_refused, run

import models
import native_models


@pytest.fixture(scope="module")
def chatty(workdir):
    """A native checkpoint of random weights with a chat template."""
    path = workdir / "info-chatty.bin"
    path.write_bytes(native_models.tiny(chat=True).pack())
    return path


def rows(done):
    """The rows of the summary: label -> text."""
    found, label = {}, None
    for line in done.ok().out.splitlines():
        label = line[:17].strip() or label
        found[label] = f"{found[label]} {line[17:]}" if label in found else line[17:]
    return found


def assert_fits_a_screen(done):
    lines = done.ok().out.splitlines()
    assert len(lines) <= 24 and max(map(len, lines)) <= 80, f"expected at most 24 lines of 80 columns\n{done}"


def test_info_is_a_summary_of_a_screen(stories, chatty):
    for done in (stories.generate("--info"), run(chatty, "--info")):
        assert_fits_a_screen(done)
        assert list(rows(done)) == [
            "file", "kind", "config", "parameters", "tokenizer", "chat template", "sampling", "kernels",
            "memory", "provenance",
        ]  # fmt: skip


def test_info_says_what_json_says(stories):
    summary, info = rows(stories.generate("--info")), stories.generate("--info", "--json").ok().json
    pairs = dict(pair.split(" ") for pair in summary["config"].split(", "))
    assert list(pairs) == list(info["config"])
    for name, value in info["config"].items():
        assert pairs[name] == (value if name == "rope_scaling" else f"{value:.6g}"), name
    assert summary["parameters"].startswith(f"{info['parameters']}: ")
    assert summary["tokenizer"].startswith(f"{info['tokenizer']}, {info['config']['vocab_size']} tokens, 2 of them")
    assert summary["tokenizer"].endswith("a text ends at 2 </s>")
    assert (summary["chat template"], info["chat"]) == ("none", False)
    assert (summary["sampling"], info["sampling"]) == ("temperature 1 (default), top-p 0.9 (default)", {})
    assert summary["provenance"] == info["provenance"].strip().replace("\n", ", ")


@pytest.mark.parametrize("options", [(), ("--simd", "scalar")])
def test_info_names_the_kernels(stories, options):
    version = run("--version").ok().out
    expected = options[-1] if options else re.search(r"kernels: (\w+)", version)[1]
    assert rows(stories.generate("--info", *options))["kernels"] == expected
    assert stories.generate("--info", "--json", *options).ok().json["simd"] == expected


def test_info_counts_the_parameters(stories):
    info = stories.generate("--info", "--json").ok().json
    assert info["parameters"] == sum(t["rows"] * t["cols"] for t in info["tensors"]) == 820352
    types = {"f32": 0, "q8": 0}
    for tensor in info["tensors"]:
        types[tensor["type"]] += tensor["rows"] * tensor["cols"]
    assert rows(stories.generate("--info"))["parameters"] == f"820352: {types['f32']} in f32, {types['q8']} in q8"


@pytest.mark.parametrize("context, kv, bytes_each", [(512, "f16", 2), (64, "f16", 2), (256, "f32", 4)])
def test_info_tells_the_memory_at_the_chosen_context(stories, context, kv, bytes_each):
    info = stories.generate("--info", "--json", "-c", context, "--kv", kv).ok().json
    config = info["config"]
    expected = 2 * config["n_layers"] * config["n_kv_heads"] * config["head_dim"] * context * bytes_each
    assert (info["context"], info["kv_bytes"]) == (context, expected)
    memory = rows(stories.generate("--info", "-c", context, "--kv", kv))["memory"]
    total = info["weight_bytes"] + expected
    assert memory == (
        f"{total / 1e6:.1f} MB: weights {info['weight_bytes'] / 1e6:.1f} MB, "
        f"keys and values {expected / 1e6:.1f} MB ({kv}) at a context of {context}"
    )


def test_info_tells_of_the_chat_template(chatty):
    assert rows(run(chatty, "--info"))["chat template"] == "yes, with a place for a system message"
    assert run(chatty, "--info", "--json").ok().json["chat"] is True


def test_info_shows_the_sampling_values_in_effect_and_marks_defaults(workdir):
    path = workdir / "info-sampling.bin"
    path.write_bytes(native_models.tiny(chat=True, sampling={"temperature": 0.2, "top_k": 40}).pack())
    assert rows(run(path, "--info"))["sampling"] == "temperature 0.2, top-p 0.9 (default), top-k 40"
    summary = rows(run(path, "--info", "-t", 0.7, "--min-p", 0.05))
    assert summary["sampling"] == "temperature 0.7, top-p 0.9 (default), top-k 40, min-p 0.05"


def test_tensors_are_listed_when_asked_for(stories):
    info = stories.generate("--info", "--json").ok().json
    lines = stories.generate("--info", "--tensors").ok().out.splitlines()
    found = [re.fullmatch(r"(\S+) +(\S+) +(\d+) x (\d+) +(\d+) bytes", line).groups() for line in lines]
    assert found == [tuple(str(t[k]) for k in ("name", "type", "rows", "cols", "bytes")) for t in info["tensors"]]
    assert_refused(stories.generate("--tensors", "-i", "a"), 2, "--tensors", "--info")


def test_a_summary_fits_whatever_a_file_says_and_steers_no_terminal(tmp_path):
    writer = native_models.tiny(chat=True)
    hostile = "é日本 ".encode() * 40 + b"\x1b[2J\r\x07\xc2\x9b31m\xff\x00" + b"line\n" * 300 + b"x" * 3000
    writer.entries[writer.index("provenance")]["data"] = hostile
    path = tmp_path / ("long-" * 40 + ".bin")
    path.write_bytes(writer.pack())
    done = run(path, "--info")
    assert_fits_a_screen(done)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", done.out), f"control characters\n{done}"
    assert rows(done)["provenance"].endswith("..."), done
    assert run(path, "--info", "--json").ok().json["file"] == str(path)


def test_info_of_a_llama2c_file_and_of_a_vocabulary(tiny, tmp_path):
    summary = rows(tiny.generate("--info"))
    assert summary["kind"].startswith("llama2.c, ") and "provenance" not in summary, summary
    section = native_models.byte_vocabulary().section()
    (tmp_path / "vocabulary.bin").write_bytes(models.vocabulary_checkpoint(section, 260))
    summary = rows(run(tmp_path / "vocabulary.bin", "--info"))
    assert summary["kind"].endswith("a vocabulary only") and "memory" not in summary, summary


def test_verify_says_ok(stories):
    done = stories.generate("--verify").ok()
    assert (done.out, done.err) == (f"{stories.path}: OK\n", "")


def test_verify_of_a_file_without_checksums_says_that_it_looked_at_the_structure_only(tiny, tmp_path):
    done = tiny.generate("--verify").ok()
    assert done.out == f"{tiny.path}: OK (structure only: a llama2.c checkpoint has no checksums)\n"
    (tmp_path / "cut.bin").write_bytes(tiny.path.read_bytes()[:-4])
    assert_refused(run(tmp_path / "cut.bin", "--verify"), 3, "cut.bin")


def test_verify_says_nothing_is_ok_of_a_damaged_file(stories, tmp_path):
    data = bytearray(stories.path.read_bytes())
    data[-1] ^= 1
    (tmp_path / "damaged.bin").write_bytes(data)
    assert_refused(run(tmp_path / "damaged.bin", "--verify"), 3, "damaged.bin", "norm", "checksum")
