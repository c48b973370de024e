"""Faults while running: the checkpoint is truncated or replaced while it is mapped, and each system call and allocation
fails in turn (tests/faults/faults.c, loaded by LD_PRELOAD)."""

import itertools
import json
import os
import re
import resource
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from conftest import (
    ADDRESS_SANITIZED,
    EXECUTABLE,
    SANITIZED,
    TESTS,
    TIMEOUT,
    assert_refused,
    execute,
    finish,
    limited,
    not_under_tsan,
    run,
    start,
)

import gguf_bytes
import native_models
import sources

# ----------------------------------------------------------------------------------------------------------------------
# The file under the mapping.


mapped = pytest.mark.skipif(ADDRESS_SANITIZED, reason="this build reads a copy of the file")


def begin(model, *options, prompt=""):
    """Starts a long generation and waits for its first text."""
    process = start(model, "-i", prompt, "-n", "0", "--ignore-eos", "-t", "1", "-s", "1", "-j", "2", *options)
    assert process.stdout.read(1), f"expected text\n{process.stderr.read()}"
    return process


def cut(process, path):
    """Truncates a file that the process has mapped: the process must exit with 3 and a line that names the file."""
    os.truncate(path, 4096)
    done = finish(process)
    lines = done.err.splitlines()
    assert done.code == 3 and len(lines) == 1 and path.name in lines[0], f"expected exit 3 and a line\n{done}"


@mapped
def test_checkpoint_cut_short_while_it_is_used_ends_with_a_message(tmp_path):
    model = native_models.write_slow(tmp_path / "cut.bin")
    cut(begin(model), model)


@mapped
def test_prompt_cache_cut_short_while_it_is_used_ends_with_a_message(tmp_path):
    model, cache = native_models.write_slow(tmp_path / "slow.bin"), tmp_path / "cut.cache"
    prompt, options = "ab" * 300, ("--no-echo", "--prompt-cache", cache)
    run(model, "-i", prompt, *options, "-n", "1").ok()
    cut(begin(model, *options, prompt=prompt), cache)


@mapped
def test_any_part_of_a_split_model_cut_short_while_it_is_used_ends_with_a_message(tmp_path):
    """The last part is truncated as soon as it is mapped: its tensors are repacked after those of the others."""
    pytest.importorskip("gguf")
    shape = {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 3, "num_key_value_heads": 2}
    sources.write_gguf(tmp_path / "m.gguf", {**sources.LLAMA, **shape}, "F32", split=14)
    parts = sorted(tmp_path.iterdir())
    assert len(parts) == 3, f"expected 3 parts, found {parts}"
    whole = parts[2].read_bytes()
    for _ in range(5):  # it may also be finished first
        process = start(parts[0], "--convert", tmp_path / "out.bin", "-j", "1")
        maps = Path(f"/proc/{process.pid}/maps")
        while process.poll() is None and parts[2].name not in maps.read_text(errors="replace"):
            pass
        os.truncate(parts[2], 4096)
        done = finish(process)
        if done.code != 0:
            break
        parts[2].write_bytes(whole)
    assert_refused(done, 3, f"{parts[2]}: was truncated by another program while in use")
    assert sorted(tmp_path.iterdir()) == parts, "a half-written file is left"


@mapped
def test_checkpoint_cut_short_leaves_no_half_output_file(tmp_path):
    model = native_models.write_slow(tmp_path / "cut.bin")
    folder = tmp_path / "out"
    folder.mkdir()
    process = start(model, "-i", "", "-n", "0", "--ignore-eos", "-t", "1", "-j", "2", "-o", folder / "text")
    while not list(folder.iterdir()) and process.poll() is None:
        pass
    os.truncate(model, 4096)
    done = finish(process)
    assert done.code == 3 and "cut.bin" in done.err, f"expected exit 3\n{done}"
    assert not list(folder.iterdir()), f"expected no file, found {list(folder.iterdir())}"


def test_checkpoint_replaced_by_rename_is_finished_from_the_old_file(tmp_path):
    model = native_models.write_slow(tmp_path / "old.bin")
    whole = run(model, "-i", "", "-n", "200", "--ignore-eos", "-s", "1").ok().bytes
    process = start(model, "-i", "", "-n", "200", "--ignore-eos", "-s", "1")
    first = process.stdout.read(1)
    (tmp_path / "new.bin").write_bytes(native_models.tiny().pack())
    os.rename(tmp_path / "new.bin", model)
    done = finish(process)
    assert done.code == 0 and first + done.bytes == whole, f"expected the text of the old file\n{done}"


# ----------------------------------------------------------------------------------------------------------------------
# Each call failing in turn.

CALLS = ("memory", "open", "read", "mmap", "write", "short", "seek", "fsync", "rename")
MODES = {
    "generate": ("-i", "ab", "-n", "3", "-t", "0", "-j", "1", "--stop", "zzz"),
    "output": ("-i", "ab", "-n", "3", "-t", "0", "-j", "1", "-o", "OUT"),
    "json": ("-i", "ab", "-n", "3", "-s", "1", "-j", "1", "--json", "--logprobs", "2"),
    "tokenize": ("-f", "PROMPT", "--tokenize", "--json"),
    "score": ("-f", "PROMPT", "--score", "--json", "-j", "1"),
    "chat": ("-i", "ab", "--chat", "-n", "3", "-t", "0", "-j", "1"),
    "info": ("--info", "--json"),
    "verify": ("--verify",),
    "convert": ("--convert", "OUT", "-j", "1"),
    "quantise": ("--convert", "OUT", "--type", "q4t", "-j", "1"),
    "calibrate": ("--convert", "OUT", "--type", "q4t", "--calibrate", "PROMPT", "-j", "1"),
}


@pytest.fixture(scope="module")
def faults(tmp_path_factory):
    """The path of the library for LD_PRELOAD."""
    if SANITIZED:
        pytest.skip("the sanitizer replaces the allocator")
    compiler = next((c for c in (os.environ.get("CC", "cc"), "gcc", "clang") if shutil.which(c)), None)
    if not compiler:
        pytest.skip("no compiler to build the library with")
    if b"ld-musl" in EXECUTABLE.read_bytes():
        pytest.skip("the library is for glibc")
    path = tmp_path_factory.mktemp("faults") / "faults.so"
    source = TESTS / "faults" / "faults.c"
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-Wall", "-o", path, source, "-ldl"], check=True, timeout=TIMEOUT)
    return path


def faulty_runs(faults, arguments, *fresh):
    """Runs the program with the n-th call of each kind failing, once or from there on, for every n that the run
    reaches, and yields each run. The files `fresh` are removed before each."""
    for call in CALLS:
        for rest in ("once", "on"):
            for n in itertools.count(1):
                for path in fresh:
                    path.unlink(missing_ok=True)
                env = {"LD_PRELOAD": faults, "FAULT": f"{call} {n} {rest}", "OMP_NUM_THREADS": "1"}
                done = execute(arguments, env=env)
                done.command.insert(0, f"FAULT='{call} {n} {rest}'")
                if "[no fault]" in done.err:
                    break  # the run has fewer calls
                yield done


# llama2.c's files have neither a chat template nor checksums. GGUF files differ in how they are opened and repacked.
FAULTY = [(mode, kind) for kind in ("native", "llama2c") for mode in MODES
          if kind == "native" or mode not in ("chat", "verify")]  # fmt: skip
FAULTY += [(mode, "gguf") for mode in ("generate", "tokenize", "info", "convert", "quantise", "calibrate")]


def write_split_gguf(folder):
    """A model in two parts; returns the path of the first."""
    whole = gguf_bytes.tiny()
    half = len(whole.tensors) // 2
    for no, (keys, tensors) in enumerate([(whole.keys, whole.tensors[:half]), ([], whole.tensors[half:])]):
        keys = [*keys, *(gguf_bytes.Key(f"split.{name}", gguf_bytes.U16, value) for name, value in (("no", no), ("count", 2)))]
        (folder / f"m-0000{no + 1}-of-00002.gguf").write_bytes(gguf_bytes.File(keys, tensors).pack())
    return folder / "m-00001-of-00002.gguf"


@pytest.mark.parametrize("mode, kind", FAULTY)
def test_every_call_that_fails_is_reported_and_leaves_nothing_half_done(faults, mode, kind, tiny, tmp_path):
    model = [*tiny] if kind == "llama2c" else [tmp_path / "tiny.bin"] if kind == "native" else [write_split_gguf(tmp_path)]
    if kind == "native":
        model[0].write_bytes(native_models.tiny(chat=True).pack())
    (tmp_path / "prompt").write_bytes(b"ab" * 40)
    out = tmp_path / "out"
    places = {"OUT": out, "PROMPT": tmp_path / "prompt"}
    arguments = [EXECUTABLE, *model, "-q", *(places.get(a, a) for a in MODES[mode])]
    writes = "OUT" in MODES[mode]
    expected = execute(arguments).ok().bytes
    wanted_out = out.read_bytes() if out.exists() else None
    tried = survived = 0
    for done in faulty_runs(faults, arguments, out):
        tried += 1
        survived += done.code == 0
        check_fault(done, expected, mode)
        left = [p.name for p in tmp_path.iterdir() if p.name.startswith("out")]
        if done.code == 0 and writes:
            assert out.read_bytes() == wanted_out, f"expected the whole file\n{done}"
        elif writes:
            assert not left, f"expected no file, found {left}\n{done}"
    assert tried >= 8, f"only {tried} faults were tried"
    print(f"{kind} {mode}: {tried} faults, {survived} without effect")


def test_batch_in_which_any_call_fails_loses_nothing_and_can_be_resumed(faults, tmp_path):
    """What the results file holds after a fault are whole lines, but for the last; --resume makes it whole."""
    model, requests, out = tmp_path / "tiny.bin", tmp_path / "requests", tmp_path / "out"
    model.write_bytes(native_models.tiny(chat=True).pack())
    lines = [{"prompt": "ab" * n, "id": n, "stop": ["zzz"]} for n in (1, 30, 20)]
    lines.append({"messages": [{"role": "user", "content": "ab"}]})
    requests.write_text("".join(json.dumps(line) + "\n" for line in lines) + "no JSON\n")
    arguments = [EXECUTABLE, model, "-b", requests, "-o", out, "-n", "3", "-j", "1", "--parallel", "2"]
    clean = execute(arguments)
    assert clean.code == 1, f"expected exit 1, because of the last line\n{clean}"
    expected, tried = out.read_bytes(), 0
    assert len(expected.splitlines()) == 5
    for done in faulty_runs(faults, arguments, out):
        tried += 1
        assert done.code in (1, 3) and len(done.err.splitlines()) == 1, f"expected exit 1 or 3, and a line\n{done}"
        left = out.read_bytes() if out.exists() else b""
        assert expected.startswith(left), f"expected the beginning of the results, found {left}\n{done}"
        assert done.err != clean.err or left == expected, f"expected the fault to be told, or no effect\n{done}"
        again = execute([*arguments, "--resume"])
        assert again.code == 1 and out.read_bytes() == expected, f"expected the rest by --resume\n{done}\n{again}"
    assert tried >= 40, f"only {tried} faults were tried"
    print(f"batch: {tried} faults")


def test_prompt_cache_of_a_run_in_which_any_call_fails_is_whole_or_absent(faults, tmp_path):
    model, cache = tmp_path / "tiny.bin", tmp_path / "cache"
    model.write_bytes(native_models.tiny().pack())
    arguments = [EXECUTABLE, model, "-i", "ab" * 40, "-n", "3", "-t", "0", "-j", "1", "--prompt-cache", cache]
    expected, tried = execute(arguments).ok().bytes, 0
    whole = cache.read_bytes()
    for done in faulty_runs(faults, arguments, cache):
        tried += 1
        check_fault(done, expected, "cache")
        left = cache.read_bytes() if cache.exists() else None
        assert left == whole or (left is None and done.code != 0), f"expected a whole cache, or none and an error\n{done}"
        beside = [p.name for p in tmp_path.iterdir() if p.name.startswith("cache") and p != cache]
        assert not beside, f"expected no file beside it, found {beside}\n{done}"
    assert tried >= 40, f"only {tried} faults were tried"
    print(f"prompt cache: {tried} faults")


def check_fault(done, expected, mode):
    if done.code == 0:  # what failed was only advice, or had another way
        assert re.sub(rb'"(seed|\w+_per_second|first_token_ms)": [\d.]+', b"", done.bytes) == re.sub(
            rb'"(seed|\w+_per_second|first_token_ms)": [\d.]+', b"", expected
        ), f"exit 0 with another text\n{done}"
        return
    assert done.code in (1, 3), f"expected exit 1 or 3\n{done}"
    lines = done.err.splitlines()
    assert len(lines) == 1, f"expected one line on stderr\n{done}"
    assert lines[0].startswith("run: "), f"expected a message of the program's\n{done}"
    assert expected.startswith(done.bytes) or mode == "json", f"expected the beginning of the text\n{done}"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("mode", ["quantise", "calibrate"])
def test_a_signal_ends_a_conversion_at_once_and_leaves_the_older_file(mode, number, tmp_path):
    model, folder = native_models.write_slow(tmp_path / "slow.bin"), tmp_path / "out"
    (tmp_path / "prompt").write_bytes(b"ab" * 40000)
    folder.mkdir()
    (folder / "m.bin").write_bytes(b"older")
    places = {"OUT": folder / "m.bin", "PROMPT": tmp_path / "prompt"}
    process = start(model, *(places.get(a, a) for a in MODES[mode]))
    while len(list(folder.iterdir())) == 1 and process.poll() is None:
        pass
    process.send_signal(number)
    done = finish(process)
    assert done.code == 128 + number and not done.out, f"expected exit {128 + number}\n{done}"
    assert [p.read_bytes() for p in folder.iterdir()] == [b"older"], f"expected the older file only\n{done}"


# ----------------------------------------------------------------------------------------------------------------------
# Limits of the process.


WRITERS = {
    "text": ("-f", "PROMPT", "-n", "1", "-t", "0", "-o", "OUT"),
    "tokens": ("-f", "PROMPT", "--tokenize", "--json", "-o", "OUT"),
    "convert": ("--convert", "OUT"),
    "prompt cache": ("-f", "PROMPT", "-n", "1", "--prompt-cache", "OUT"),
}


@not_under_tsan
@pytest.mark.parametrize("writer", WRITERS)
def test_a_file_that_reaches_the_size_limit_is_an_error_and_leaves_what_was_there(tmp_path, writer):
    model, prompt, folder = tmp_path / "m.bin", tmp_path / "prompt", tmp_path / "out"
    model.write_bytes(native_models.tiny(context_length=4096).pack())
    prompt.write_bytes(b"ab" * 1000)
    folder.mkdir()
    out = folder / "file"
    options = [{"OUT": out, "PROMPT": prompt}.get(a, a) for a in WRITERS[writer]]
    run(model, *options).ok()
    whole = out.read_bytes()
    for limit in (0, 1, 1000, len(whole) - 1):
        out.unlink(missing_ok=True)
        older = [] if writer == "prompt cache" else [b"older"]  # the older cache would be used
        for content in older:
            out.write_bytes(content)
        done = limited(resource.RLIMIT_FSIZE, limit, model, *options, "-j", "1", "-q")
        assert done.code == 1 and done.err == f"run: {out}: cannot be written: File too large\n", done
        assert [p.read_bytes() for p in folder.iterdir()] == older, f"limit {limit}\n{done}"
    out.unlink(missing_ok=True)
    limited(resource.RLIMIT_FSIZE, len(whole), model, *options, "-j", "1").ok()
    assert out.read_bytes() == whole


@not_under_tsan
def test_standard_output_that_reaches_the_size_limit_is_an_error(tmp_path):
    with (tmp_path / "out").open("wb") as file:
        done = limited(resource.RLIMIT_FSIZE, 100, "--help", stdout=file)
    assert_refused(done, 1, "standard output: cannot be written: File too large")


def test_any_limit_of_the_address_space_is_an_error_or_enough(tmp_path):
    """From too little to load the C library up to enough."""
    if SANITIZED:
        pytest.skip("the sanitizer reserves terabytes")
    model = native_models.write_slow(tmp_path / "big.bin")
    arguments = (model, "-i", "ab", "-n", "2", "-t", "0", "-j", "1")
    expected = run(*arguments).ok().bytes
    ends = []
    for megabytes in range(8, 120, 4):
        if limited(resource.RLIMIT_AS, megabytes << 20, "--version").code != 0:
            continue  # the loader gave up
        done = limited(resource.RLIMIT_AS, megabytes << 20, *arguments)
        ends.append(done.code)
        if done.code == 0:
            assert done.bytes == expected, f"another text at {megabytes} MB\n{done}"
        else:
            assert_refused(done, 1)
            assert "memory" in done.err or "mapped" in done.err, f"expected memory to be named\n{done}"
    assert set(ends) == {0, 1}, f"expected limits that are enough and limits that are not, found {ends}"


def test_four_open_files_are_enough(tmp_path):
    """With fewer the loader cannot load the C library."""
    model = tmp_path / "tiny.bin"
    model.write_bytes(native_models.tiny().pack())
    limited(resource.RLIMIT_NOFILE, 4, model, "-i", "ab", "-n", "2", "-j", "1", "-o", tmp_path / "out").ok()
    assert (tmp_path / "out").read_bytes().startswith(b"ab")
