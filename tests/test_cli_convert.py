"""--convert and --set: any model as a native checkpoint. test_gguf.py has what a GGUF file becomes."""

import json
import os
import resource
import socket

import numpy as np
import pytest
from conftest import SANITIZED, THREADS, assert_refused, logits, run

import models
import native
import native_models

GOLDEN = models.GOLDEN["heads_3to1_size8_untied"][0]


def contents(path):
    """What a file holds apart from its provenance; the values of the config may be in another order."""
    file = native.Native(path)
    held = {name: file.bytes(name) for name in file.sections if name not in ("config", "provenance")}
    return {**held, "config": (file.fields, file.sampling)}


@pytest.fixture
def llama2c(tmp_path):
    """A llama2.c file and its tokenizer, as arguments of a run."""
    path, tokenizer = tmp_path / "model.bin", tmp_path / "tokenizer.bin"
    path.write_bytes(models.model_bytes(GOLDEN, "v1"))
    tokenizer.write_bytes(models.tokenizer_bytes(models.tiny_pieces()[: GOLDEN.vocab_size]))
    return [path, "-z", tokenizer]


def test_a_checkpoint_becomes_itself(tmp_path):
    """Every section but the provenance, chat template and all weight types included."""
    source, out = tmp_path / "m.bin", tmp_path / "out.bin"
    for kind in native_models.TYPES:
        source.write_bytes(native_models.typed(kind))
        done = run(source, "--convert", out).ok()
        assert (done.out, done.err) == ("", ""), done
        assert contents(out) == contents(source), kind
    source.write_bytes(native_models.tiny(chat=True, sampling={"top_k": 7.0}).pack())
    run(source, "--convert", out).ok()
    assert contents(out) == contents(source)
    assert run(out, "--verify").ok().out == f"{out}: OK\n"


def test_the_bytes_depend_on_nothing_but_the_model(tmp_path, llama2c, simd_sets):
    made = set()
    for threads in THREADS:
        for simd in simd_sets:
            out = tmp_path / f"{threads}-{simd}.bin"
            run(*llama2c, "--convert", out, "-j", threads, "--simd", simd).ok()
            made.add(out.read_bytes())
    assert len(made) == 1


@pytest.mark.parametrize("kind", ["v0", "v1", "v2-8"])
def test_a_llama2c_file_gives_the_same_text_before_and_after(tmp_path, llama2c, kind):
    llama2c[0].write_bytes(models.model_bytes(GOLDEN, kind))
    out = tmp_path / "out.bin"
    run(*llama2c, "--convert", out).ok()
    options = ["-i", "ab cab", "-n", "20", "-s", "1", "--digest", "--kv", "f32"]
    before, after = run(*llama2c, *options).ok(), run(out, *options).ok()
    assert (before.out, before.digest) == (after.out, after.digest)
    lines = native.Native(out).bytes("provenance").decode().splitlines()
    assert lines == ["source: model.bin", "type: f32", "head_type: f32", "converter: run 0.1.0"]


# ----------------------------------------------------------------------------------------------------------------------
# Matrices row by row


@pytest.mark.parametrize("kind", ["f32", "f16", "bf16"])
def test_a_file_of_rows_becomes_one_for_the_kernels(tmp_path, kind):
    """With their values and types; matrices that are for the kernels already are carried over."""
    source, groups, out = tmp_path / "rows.bin", tmp_path / "groups.bin", tmp_path / "out.bin"
    groups.write_bytes(native_models.tiny(chat=True, tied_head=0).pack())
    expected = native.Native(groups)
    for keep in ((), ("embedding", "blocks.0.mlp.down_proj")):
        source.write_bytes(native_models.tiny(chat=True, tied_head=0).store_by_rows(kind, keep).pack())
        done = run(source, "--convert", out).ok()
        assert (done.out, done.err) == ("", ""), done
        file, held_by = native.Native(out), contents(out)
        for name, held in contents(groups).items():
            if name == "config" or expected.sections[name].kind != 2:
                assert held_by[name] == held, name
                continue
            values, type = expected.matrix(name), "f32" if name in keep else kind
            values = native.plain_values(native.plain_bytes(values, type), type).reshape(values.shape)
            assert file.type(name) == type and np.array_equal(file.matrix(name), values), name


@pytest.mark.parametrize("options", [["--type", "q8"], ["--type", "q4t", "--calibrate", "text"], ["--type", "bf16"]])
def test_rows_are_quantised_to_what_the_same_weights_in_groups_are(tmp_path, options):
    text, made = tmp_path / "text", []
    text.write_bytes(b"ab cab bac " * 40)
    options = [text if o == "text" else o for o in options]
    for name, writer in (("rows", native_models.tiny().store_by_rows("f32")), ("groups", native_models.tiny())):
        source = tmp_path / f"{name}.bin"
        source.write_bytes(writer.pack())
        for threads in (1, 3):
            run(source, "--convert", tmp_path / "out.bin", *options, "-j", threads).ok()
            made.append(contents(tmp_path / "out.bin"))
    assert all(m == made[0] for m in made)


@pytest.mark.parametrize("options", [["-i", "a"], ["--chat", "-i", "a"], ["--score", "-i", "a"], ["--tokenize", "-i", "a"],
                                     ["--info"], ["--verify"], ["--bench"], ["--batch", "-"]])  # fmt: skip
def test_a_file_of_rows_is_not_run(tmp_path, options):
    source = tmp_path / "rows.bin"
    source.write_bytes(native_models.tiny(chat=True).store_by_rows("bf16").pack())
    assert_refused(run(source, *options), 3, f"{source}: section embedding is a matrix row by row", f"{source} --convert FILE")


# ----------------------------------------------------------------------------------------------------------------------
# Quantising


# The largest error of a quantised weight, relative to the largest magnitude among the 32 of its block.
MOST = {"f32": 0.0, "f16": 2.0**-11, "bf16": 2.0**-8, "q8": 0.005, "q4": 0.2, "q4m": 0.15, "q4t": 0.2, "q5": 0.13,
        "q5m": 0.07}  # fmt: skip


@pytest.mark.parametrize("kind", MOST)
def test_type_quantises_the_matrices_of_the_blocks_and_4_and_5_bits_leave_the_head_in_q8(tmp_path, llama2c, kind):
    source, out = tmp_path / "f32.bin", tmp_path / "out.bin"
    run(*llama2c, "--convert", source).ok()
    run(source, "--convert", out, "--type", kind).ok()
    before, after = native.Native(source), native.Native(out)
    head_kind = "q8" if kind.startswith(("q4", "q5")) else kind
    for name, section in before.sections.items():
        if section.kind != 2:
            continue
        expected = kind if name.startswith("blocks.") else head_kind
        x, y = before.matrix(name), after.matrix(name)
        pad = (0, -x.shape[1] % 32)
        largest = np.abs(np.pad(x, ((0, 0), pad))).reshape(len(x), -1, 32).max(2).repeat(32, 1)[:, : x.shape[1]]
        assert after.type(name) == expected
        assert np.all(np.abs(x - y) <= MOST[expected] * largest + 1e-6), name
    assert run(out, "--verify").ok().out == f"{out}: OK\n"
    run(*llama2c, "--convert", out, "--type", kind, "--head-type", "f16").ok()
    assert native.Native(out).type("embedding") == "f16"


@pytest.mark.parametrize("calibrated", [False, True])
def test_quantised_bytes_depend_on_nothing_but_the_model_and_the_text(tmp_path, llama2c, simd_sets, calibrated):
    text, made = tmp_path / "text", set()
    text.write_bytes(b"ab cab bac " * 40)
    calibrate = ["--calibrate", text] if calibrated else []
    for threads in THREADS:
        for simd in simd_sets:
            out = tmp_path / f"{threads}-{simd}.bin"
            run(*llama2c, "--convert", out, "--type", "q4t", *calibrate, "-j", threads, "--simd", simd).ok()
            made.add(out.read_bytes())
    assert len(made) == 1


def test_a_calibrated_model_is_nearer_to_the_original(tmp_path, stories):
    text, loss = tmp_path / "text", {}
    text.write_bytes(stories.generate("-i", "Once upon a time", "-n", "400", "-s", "3", "-t", "1").ok().bytes)
    lines = run(stories.path, "--tokenize", "-f", text, "--json").ok().out.splitlines()
    tokens = [json.loads(line)["id"] for line in lines][:400]
    vocab_size = native.Native(stories.path).fields["vocab_size"]
    expected = logits(stories.path, tokens, vocab_size=vocab_size)
    for name, options in {"plain": [], "calibrated": ["--calibrate", text]}.items():
        out = tmp_path / f"{name}.bin"
        run(stories.path, "--convert", out, "--type", "q4t", *options).ok()
        loss[name] = np.square(logits(out, tokens, vocab_size=vocab_size) - expected).mean()
    assert loss["calibrated"] < 0.7 * loss["plain"], loss


MOST_HELD = {"bf16": 2.0**128 - 2.0**120, "f16": 65504.0, "q8": 65504.0 * 127, "q4": 65504.0 * 7, "q4m": 65504.0,
             "q4t": 65504.0 * 113, "q5": 65504.0 * 15, "q5m": 65504.0}  # fmt: skip


@pytest.mark.parametrize("kind", MOST_HELD)
def test_a_value_that_the_type_cannot_hold_is_refused_by_name(tmp_path, kind):
    source, out = tmp_path / "m.bin", tmp_path / "out.bin"
    most = np.float32(MOST_HELD[kind])
    for value in (most, np.float32(min(float(most) * 1.01, np.finfo(np.float32).max))):
        writer = native_models.tiny()
        entry = writer.entries[writer.index("blocks.1.mlp.up_proj")]
        data = np.frombuffer(entry["data"], "<f4").copy()
        data[16 * 3 + 5] = value  # row 5, column 3
        entry["data"] = data.tobytes()
        source.write_bytes(writer.pack())
        done = run(source, "--convert", out, "--type", kind, "-j", "2")
        if value == most:
            matrix = native.Native(out).matrix("blocks.1.mlp.up_proj") if done.ok() else None
            assert np.isfinite(matrix).all() and abs(matrix[5, 3] / value - 1) < 0.1
    named = ("tensor blocks.1.mlp.up_proj: row 5 has the value", f"expected at most {most:.9g} in magnitude, for {kind}")
    assert_refused(done, 3, "m.bin", *named)


def test_a_calibration_of_which_nothing_would_come_is_refused(tmp_path):
    source, out, text = tmp_path / "m.bin", tmp_path / "out.bin", tmp_path / "text"
    text.write_bytes(b"ab cab bac " * 40)
    source.write_bytes(native_models.tiny().pack())
    for kind in ("f32", "f16", "bf16"):
        done = run(source, "--convert", out, "--type", kind, "--calibrate", text)
        assert_refused(done, 2, "--calibrate", f"not quantised by --type {kind}, expected q8, q4, q4m, q4t, q5 or q5m")
    source.write_bytes(native_models.typed("q8"))
    done = run(source, "--convert", out, "--type", "q8", "--head-type", "q4", "--calibrate", text)
    assert_refused(done, 3, "m.bin: --calibrate: has no matrices that would be quantised to q8")
    assert not out.exists()


def test_a_router_keeps_its_type_and_does_not_call_for_a_calibration(tmp_path):
    source, path = tmp_path / "m.bin", tmp_path / "q8.bin"
    source.write_bytes(native_models.tiny(dim=32, hidden_dim=32, n_experts=4, n_experts_used=2).pack())
    run(source, "--convert", path, "--type", "q8").ok()
    types = {name: section.type for name, section in native.Native(path).sections.items() if section.rows > 1}
    assert {name for name, kind in types.items() if kind == 0} == {"blocks.0.mlp.router", "blocks.1.mlp.router"}
    (tmp_path / "text").write_text("a" * 2000)
    done = run(path, "--convert", tmp_path / "out.bin", "--type", "q8", "--calibrate", tmp_path / "text")
    assert_refused(done, 3, "q8.bin: --calibrate: has no matrices that would be quantised to q8")


def test_a_text_that_cannot_be_used_or_shows_little_is_told(tmp_path):
    source, out, text = tmp_path / "m.bin", tmp_path / "out.bin", tmp_path / "text"
    source.write_bytes(native_models.tiny(add_bos=False).pack())
    options = ["--convert", out, "--type", "q4t", "--calibrate"]
    assert_refused(run(source, *options, tmp_path / "absent"), 3, "absent", "No such file")
    assert_refused(run(source, *options, tmp_path), 3, f"{tmp_path}: cannot be read")
    for short in (b"", b"a"):
        text.write_bytes(short)
        assert_refused(run(source, *options, text), 3, f"{text}: has {len(short)} tokens, expected a text")
    assert not out.exists()
    text.write_bytes(b"a b")
    note = f"run: {text}: has only 3 tokens; up to 16384 would be used\n"
    assert run(source, *options, text).ok().err == note
    assert run(source, *options, text, "-q").ok().err == ""
    assert native.Native(out).bytes("provenance").decode().splitlines()[-1] == "calibrated: yes"


def test_calibration_needs_memory_for_one_block_at_a_time(tmp_path):
    """The sums of products of all 20 blocks would take 20 * (256^2 * 3 + 512^2) * 4 bytes, 37 MB."""
    if SANITIZED:
        pytest.skip("the sanitizer needs memory of its own")
    source, out, text = tmp_path / "m.bin", tmp_path / "out.bin", tmp_path / "text"
    shape = {"dim": 256, "hidden_dim": 512, "n_heads": 8, "n_kv_heads": 2, "head_dim": 32, "n_layers": 20}
    source.write_bytes(native_models.tiny(**shape).pack())
    text.write_bytes(b"ab cab bac " * 40)

    def within(megabytes):
        most = megabytes << 20
        return run(source, "--convert", out, "--type", "q4t", "--calibrate", text, "-q", "-j", "1",
                   preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (most, most)))  # fmt: skip

    within(28).ok()
    out.unlink()
    assert_refused(within(14), 1, "out of memory")
    assert not out.exists()


@pytest.mark.parametrize("options, names", [
    (["--type", "q6"], ["--type", "q6"]), (["--head-type", "x"], ["--head-type", "x"]),
    (["--calibrate", "text"], ["--calibrate", "--type"]),
])  # fmt: skip
def test_types_that_weights_are_not_quantised_to_are_refused(tmp_path, options, names):
    assert_refused(run(tmp_path / "m.bin", "--convert", tmp_path / "out.bin", *options), 2, *names)


def test_set_changes_and_adds_what_the_model_recommends(tmp_path):
    source, out = tmp_path / "m.bin", tmp_path / "out.bin"
    source.write_bytes(native_models.tiny(sampling={"temperature": 0.5, "top_k": 7.0}).pack())
    run(source, "--convert", out, "--set", "temperature=0.2", "--set=min-p=0.1", "--set", "repeat_last_n=9").ok()
    assert native.Native(out).sampling == {"temperature": 0.2, "top_k": 7, "min_p": 0.1, "repeat_last_n": 9}
    assert native.Native(out).bytes("provenance").endswith(b"set: temperature=0.2\nset: min_p=0.1\nset: repeat_last_n=9\n")
    assert run(out, "--info", "--json").ok().json["sampling"]["min_p"] == 0.1


@pytest.mark.parametrize("wrong", ["heat=1", "seed=1", "stop=1", "temperature", "temperature=", "temperature=hot", "top_p=1.5",
                                   "top_k=0.5", "top_k=-1", "=1", ""])  # fmt: skip
def test_a_setting_that_no_sampling_option_takes_is_refused(tmp_path, wrong):
    done = run(tmp_path / "m.bin", "--convert", tmp_path / "out.bin", "--set", wrong)
    assert_refused(done, 2, f"--set {wrong}".strip(), "expected NAME=VALUE of a sampling option")


@pytest.mark.parametrize(
    "options, named",
    [
        (["--set", "top_p=0.5"], "--set: expected --convert"),
        (["--convert", "a", "-o", "b"], "--output: not with --convert"),
        (["--convert", "-"], "--convert -: expected a file"),
        (["--convert", ""], "--convert: expected a file name"),
        (["--convert", "a", "--info"], "not with --"),
        (["--convert", "a", "--chat"], "--convert: not with --chat"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options, named):
    assert_refused(run("m.bin", *options), 2, named)


def test_the_model_itself_is_not_replaced(tmp_path, llama2c):
    before = llama2c[0].read_bytes()
    (tmp_path / "link.bin").symlink_to("model.bin")
    os.link(llama2c[0], tmp_path / "hard.bin")
    for name in ("model.bin", "link.bin", "hard.bin"):
        done = run(*llama2c, "--convert", tmp_path / name)
        assert_refused(done, 2, f"--convert {tmp_path / name}: is the model, expected another file")
    assert_refused(run(*llama2c, "--convert", llama2c[2]), 2, "is the tokenizer, expected another file")
    assert llama2c[0].read_bytes() == before


def test_what_cannot_be_replaced_is_refused_before_any_work(tmp_path):
    """Work would be the calibration: its text does not exist, which would be the error."""
    source, regular = tmp_path / "m.bin", tmp_path / "regular"
    source.write_bytes(native_models.tiny().pack())
    regular.write_bytes(b"older")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("fifo")
    with socket.socket(socket.AF_UNIX) as listener, regular.open("ab") as opened:
        listener.bind(str(tmp_path / "socket"))
        targets = {"/dev/full": "a device", tmp_path: "a directory", tmp_path / "fifo": "a pipe",
                   tmp_path / "link": "a pipe", tmp_path / "socket": "a socket",
                   f"/dev/fd/{opened.fileno()}": "a descriptor"}  # fmt: skip
        for target, kind in targets.items():
            done = run(source, "--convert", target, "--type", "q4t", "--calibrate", tmp_path / "absent",
                       pass_fds=[opened.fileno()])  # fmt: skip
            assert_refused(done, 2, f"--convert {target}: is {kind}, expected a regular file or a new name")
    assert regular.read_bytes() == b"older"


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    source, out = tmp_path / "m.bin", tmp_path / "out.bin"
    out.write_bytes(b"older")
    writer = native_models.tiny()
    writer.entries[writer.index("norm")]["name"] = b"stranger"
    source.write_bytes(writer.pack())
    assert_refused(run(source, "--convert", out), 3, "m.bin", "tensor norm is missing")
    assert out.read_bytes() == b"older" and len(list(tmp_path.iterdir())) == 2
    writer.entries[writer.index("stranger")]["name"] = b"norm"
    writer.add("stranger", 1, 1, 16, np.zeros(16, "<f4").tobytes())
    source.write_bytes(writer.pack())
    assert_refused(run(source, "--convert", out), 3, "m.bin", "tensor stranger is not part of such a model")
    assert out.read_bytes() == b"older" and len(list(tmp_path.iterdir())) == 2
    source.write_bytes(native_models.tiny().pack())
    out.chmod(0o640)
    run(source, "--convert", out).ok()
    assert contents(out) == contents(source) and out.stat().st_mode & 0o777 == 0o640


def test_a_file_that_cannot_be_written_exits_with_1(tmp_path):
    source = tmp_path / "m.bin"
    source.write_bytes(native_models.tiny().pack())
    assert_refused(run(source, "--convert", tmp_path / "absent" / "out.bin"), 1, "absent/out.bin")


def test_a_damaged_tokenizer_or_template_is_not_carried_over(tmp_path):
    source = tmp_path / "m.bin"
    for name, data, named in (("tokenizer", bytes(64), "tokenizer"), ("chat", b"{{ ", "end of the template")):
        writer = native_models.tiny(chat=True)
        writer.entries[writer.index(name)]["data"] = data
        source.write_bytes(writer.pack())
        assert_refused(run(source, "--convert", tmp_path / "out.bin"), 3, "m.bin", named)
    assert [p.name for p in tmp_path.iterdir()] == ["m.bin"]


