"""The command line as scripts of users rely on it. One section of the contract after the other: what it prints,
options and their wrong values, the prompt, sampling, stop texts, streaming, the output file, signals, statistics,
parity with llama2.c. A test's name is the promise that it pins."""

import json
import os
import pty
import re
import resource
import select
import shutil
import signal
import socket
import stat
import subprocess
import termios
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import (
    BUILD_DIR,
    CHUNKS,
    EXECUTABLE,
    GOLDEN_DIR,
    SANITIZED,
    SLOWER,
    THREADS,
    TIMEOUT,
    assert_refused,
    data_file,
    execute,
    finish,
    logits,
    not_under_tsan,
    run,
    start,
)

import models

GREEDY = ("-t", "0")
PROMPT = ("-i", "Once upon a time")


# ----------------------------------------------------------------------------------------------------------------------
# What is printed.


def test_text_is_prompt_and_continuation_and_a_newline(chain):
    done = chain([b"one", b" two", b" three"]).generate("-i", "", *GREEDY).ok()
    assert done.bytes == b"one two three\n"


def test_prompt_is_printed_as_it_was_given(stories):
    for prompt in ("Once upon a time", "  two  spaces ", "\n\ttab", "no space at the end ", "Zoë – ☃ 😀"):
        done = stories.generate("-i", prompt, "-n", "5", *GREEDY).ok()
        assert done.out.startswith(prompt), f"expected the prompt {prompt!r} first\n{done}"


def test_no_echo_prints_the_continuation_only(stories):
    whole = stories.generate(*PROMPT, "-n", "20", *GREEDY).ok().out
    rest = stories.generate(*PROMPT, "-n", "20", *GREEDY, "--no-echo").ok().out
    assert whole == "Once upon a time" + rest
    assert rest.startswith(","), rest


def test_json_text_is_what_is_printed_without_json(stories):
    for options in ((), ("--no-echo",)):
        plain = stories.generate(*PROMPT, "-n", "20", *GREEDY, *options).ok().out
        assert stories.generate(*PROMPT, "-n", "20", *GREEDY, "--json", *options).ok().json["text"] + "\n" == plain


def test_json_has_the_promised_members(stories):
    done = stories.generate(*PROMPT, "-n", "20", "-s", "5", "--json").ok()
    assert done.out.count("\n") == 1 and done.out.endswith("}\n"), f"expected one line\n{done}"
    seen = done.json
    expected = {
        "text": str,
        "finish_reason": str,
        "prompt_tokens": int,
        "completion_tokens": int,
        "seed": int,
        "prompt_per_second": (int, float),
        "decode_per_second": (int, float),
        "first_token_ms": (int, float),
    }
    assert set(seen) == set(expected), f"members {sorted(seen)}, expected {sorted(expected)}"
    for name, kind in expected.items():
        assert isinstance(seen[name], kind), f"{name}: {seen[name]!r}"
    assert (seen["finish_reason"], seen["completion_tokens"], seen["seed"]) == ("length", 20, 5)
    assert seen["first_token_ms"] >= 0 and seen["prompt_per_second"] > 0 and seen["decode_per_second"] > 0


def test_json_counts_the_tokens_that_tokenize_lists(stories):
    ids = stories.generate("--tokenize", *PROMPT).ok().out.split()
    assert stories.generate(*PROMPT, "-n", "1", "--json").ok().json["prompt_tokens"] == len(ids)


def test_json_numbers_are_finite_even_for_no_token(tiny):
    for n, prompt in (("1", ""), ("1", "a")):
        text = tiny.generate("-i", prompt, "-n", n, "--json", *GREEDY).ok().out
        json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON: {text}"))


def test_json_escapes_what_json_must_escape(chain):
    pieces = [b'quo"te', b"back\\slash", b"\n", b"\t", b"\x01", b"\x1f", b"\x7f", b"</script>", "é😀".encode()]
    seen = chain(pieces).generate("-i", "", *GREEDY, "--json").ok().json
    assert seen["text"].encode() == b"".join(pieces)


def test_end_token_finishes_with_stop_and_is_not_printed(chain):
    seen = chain([b"one", b" two"]).generate("-i", "", *GREEDY, "--json").ok().json
    assert (seen["text"], seen["finish_reason"]) == ("one two", "stop")


def test_max_tokens_finishes_with_length(chain):
    model = chain([b"one", b" two", b" three"])
    seen = model.generate("-i", "", *GREEDY, "--json", "-n", "2").ok().json
    assert (seen["text"], seen["finish_reason"], seen["completion_tokens"]) == ("one two", "length", 2)


def test_max_tokens_defaults_to_256(stories):
    assert stories.generate(*PROMPT, *GREEDY, "--json", "--ignore-eos").ok().json["completion_tokens"] == 256


def test_ignore_eos_goes_on_after_the_end_token(chain):
    model = chain([b"one", b" two"])
    seen = model.generate("-i", "", *GREEDY, "--json", "--ignore-eos", "-n", "7").ok().json
    assert (seen["completion_tokens"], seen["finish_reason"]) == (7, "length")
    assert seen["text"].startswith("one two") and seen["text"].count("two") == 2, seen


def test_tokens_0_runs_until_the_context_is_full(stories):
    for context in (17, 64):
        seen = stories.generate(*PROMPT, *GREEDY, "--json", "-n", "0", "-c", context).ok().json
        total = seen["prompt_tokens"] + seen["completion_tokens"]
        assert (total, seen["finish_reason"]) == (context, "length")


def test_context_bounds_max_tokens(stories):
    full = stories.generate(*PROMPT, *GREEDY, "--json", "-n", "0", "-c", "32").ok().json
    seen = stories.generate(*PROMPT, *GREEDY, "--json", "-n", "400", "-c", "32").ok().json
    assert (seen["text"], seen["finish_reason"]) == (full["text"], "length")


def test_context_defaults_to_the_models(stories):
    seen = stories.generate(*PROMPT, *GREEDY, "--json", "-n", "0", "--ignore-eos").ok().json
    assert seen["prompt_tokens"] + seen["completion_tokens"] == 512


def test_context_changes_no_token(stories):
    texts = {stories.generate(*PROMPT, *GREEDY, "-n", "50", "-c", c).ok().out for c in ("64", "100", "512")}
    assert len(texts) == 1, texts


def test_llama2c_checkpoint_says_in_the_statistics_that_it_is_repacked(tiny):
    done = tiny.generate("-i", "a", "-n", "1", *GREEDY, "--stats").ok()
    assert "repacked" in done.err and tiny.path.name in done.err, f"{done}"


# ----------------------------------------------------------------------------------------------------------------------
# --tokenize


def test_tokenize_prints_ids_on_one_line(stories):
    done = stories.generate("--tokenize", *PROMPT).ok()
    assert re.fullmatch(r"1( \d+)+\n", done.out), f"expected BOS and ids\n{done}"


def test_tokenize_matches_sentencepiece_with_the_vocabulary_of_llama_2(tmp_path):
    import sentencepiece

    processor = sentencepiece.SentencePieceProcessor(model_file=str(data_file("tokenizer.model")))
    config = models.Config(8, 8, 1, 1, 1, 32000, 4096)
    models.write_zero_model(tmp_path / "m.bin", config)
    text = "Grüße aus Zürich!  def f(x):\n\treturn x**2  # 你好, мир 😀\n\n\n   end "
    done = run(tmp_path / "m.bin", "-z", data_file("tokenizer.bin"), "--tokenize", "-i", text).ok()
    assert [int(i) for i in done.out.split()] == [1, *processor.encode(text)]


def test_tokenize_of_an_empty_prompt_is_bos(tiny):
    assert tiny.generate("--tokenize", "-i", "").ok().out == "1\n"


def test_tokenize_json_gives_an_object_a_token(stories):
    text = "Once é\n"
    ids = [int(i) for i in stories.generate("--tokenize", "-i", text).ok().out.split()]
    lines = stories.generate("--tokenize", "--json", "-i", text).ok().out.splitlines()
    objects = [json.loads(line) for line in lines]
    assert [o["id"] for o in objects] == ids
    assert all(set(o) >= {"id", "bytes", "special"} for o in objects), objects
    assert [o["special"] for o in objects] == [True] + [False] * (len(ids) - 1)
    spelled = b"".join(bytes(o["bytes"]) for o in objects[1:])
    assert spelled == b" " + text.encode(), f"{spelled!r}"


def test_tokenize_needs_no_context_for_a_long_prompt(stories):
    done = stories.generate("--tokenize", "-f", "-", stdin=b"Once upon a time " * 1000).ok()
    assert len(done.out.split()) > 2000


def test_tokenize_is_quick_for_a_megabyte(tiny):
    text = (b"the rain in an other then " * 40000)[: 1 << 20]
    began = time.monotonic()
    tiny.generate("--tokenize", "-f", "-", stdin=text).ok()
    assert time.monotonic() - began < 2 * SLOWER


def test_names_of_special_tokens_in_a_prompt_are_text(stories):
    ids = stories.generate("--tokenize", "-i", "a<s></s>b").ok().out.split()
    assert ids[0] == "1" and "1" not in ids[1:] and "2" not in ids[1:], ids


# ----------------------------------------------------------------------------------------------------------------------
# Options.

WRONG_VALUES = {
    "--max-tokens": ["abc", "", "1x", "-1", "1.5", " ", "0x10", "99999999999999999999999"],
    "-n": ["abc", "-1", "1x"],
    "--temperature": ["abc", "", "1x", "-1", "-0.1", "nan", "inf", "1,5"],
    "-t": ["warm", "-1", "nan"],
    "--top-p": ["abc", "", "0.5x", "-0.1", "1.1", "nan", "inf"],
    "-p": ["x", "2"],
    "--top-k": ["abc", "", "-1", "1.5", "3x", "99999999999999999999999"],
    "-k": ["x", "-1"],
    "--min-p": ["abc", "", "-0.1", "1.1", "nan"],
    "--repeat-penalty": ["abc", "", "0", "-1", "nan", "inf"],
    "--repeat-last-n": ["abc", "", "-2", "1.5"],
    "--seed": ["abc", "", "1x", "1.5", "18446744073709551616"],
    "-s": ["x"],
    "--context": ["abc", "", "0", "-1", "1.5", "1k", "99999999999999999999999"],
    "-c": ["x", "0"],
    "--kv": ["f64", "", "F16 ", "f8"],
    "--threads": ["abc", "", "0", "-1", "1.5", "2x", "99999999999999999999999"],
    "-j": ["x", "0"],
    "--simd": ["sse", "", "avx", "AVX2 "],
    "--chunk": ["abc", "", "0", "-1", "4097", "1.5"],
    "--logprobs": ["abc", "", "-1", "21", "1.5"],
}
NEEDS_JSON = {"--logprobs"}
VALUED = ["-i", "--prompt", "-f", "--prompt-file", "--stop", "-z", "--tokenizer", "-o", "--output", "-b", "--batch",
          "--prompt-cache", *WRONG_VALUES]  # fmt: skip
FLAGS = ["--tokenize", "--json", "--stats", "--quiet", "--digest", "--no-echo", "--ignore-eos", "--special",
         "--truncate-prompt", "--lines", "--resume"]  # fmt: skip


@pytest.mark.parametrize("option, value", [(o, v) for o, values in WRONG_VALUES.items() for v in values])
def test_wrong_value_exits_2_and_names_the_option(tiny, option, value):
    json_too = ["--json"] if option in NEEDS_JSON else []
    assert_refused(tiny.generate("-i", "a", *json_too, option, value), 2, option)
    if option.startswith("--"):
        assert_refused(tiny.generate("-i", "a", *json_too, f"{option}={value}"), 2, option)


@pytest.mark.parametrize("option", VALUED)
def test_missing_value_exits_2_and_names_the_option(tiny, option):
    assert_refused(tiny.generate(option), 2, option)


@pytest.mark.parametrize("option", FLAGS)
def test_flag_with_a_value_exits_2_and_names_the_option(tiny, option):
    assert_refused(tiny.generate("-i", "a", f"{option}=1"), 2, option)


@pytest.mark.parametrize("option", ["--no-such-option", "--max_tokens", "-X", "---", "--=", "--tokenizes", "-é"])
def test_unknown_option_exits_2_and_is_named(tiny, option):
    assert_refused(tiny.generate("-i", "a", option), 2, option)


def test_unknown_option_is_named_before_the_model_is_looked_at():
    assert_refused(run("no-such-model.bin", "--no-such-option"), 2, "--no-such-option")


def test_two_dashes_end_the_options(tiny, tmp_path):
    done = run("-z", tiny.tokenizer, "-i", "a", "-n", "1", *GREEDY, "--", "--no-model.bin", cwd=tmp_path)
    assert_refused(done, 3, "--no-model.bin")


def test_context_beyond_the_models_exits_2_with_both_numbers(tiny):
    assert_refused(tiny.generate("-i", "a", "-c", "65"), 2, "--context", 65, 64)


def test_empty_stop_text_exits_2(tiny):
    assert_refused(tiny.generate("-i", "a", "--stop", ""), 2, "--stop")


def test_no_model_exits_2():
    assert_refused(run(), 2)
    assert_refused(run("-i", "a"), 2)


def test_second_model_exits_2_and_is_named(tiny):
    assert_refused(tiny.generate("another.bin", "-i", "a"), 2, "another.bin")


def test_logprobs_without_json_exits_2(tiny):
    assert_refused(tiny.generate("-i", "a", "--logprobs", "3"), 2, "--logprobs")


@pytest.mark.parametrize("simd", ["avx512", "avx2", "neon"])
def test_kernel_set_that_the_processor_lacks_exits_2(tiny, simd_sets, simd):
    if simd in simd_sets:
        pytest.skip(f"{simd} works here")
    assert_refused(tiny.generate("-i", "a", "--simd", simd), 2, "--simd", simd)


def test_options_may_stand_anywhere_and_be_spelled_either_way(tiny):
    m, z = tiny.path, tiny.tokenizer
    expected = run(m, "-z", z, "-i", "the", "-n", "8", "-t", "0.7", "-p", "0.8", "-s", "3").ok().bytes
    for args in (
        ("-n", "8", "-t", "0.7", "-p", "0.8", "-s", "3", "-i", "the", "-z", z, m),
        ("-n", "8", m, "-t", "0.7", "-z", z, "-i", "the", "-p", "0.8", "-s", "3"),
        ("--max-tokens=8", "--temperature=0.7", "--top-p=0.8", "--seed=3", "--prompt=the", f"--tokenizer={z}", m),
        (m, "--max-tokens", "8", "--temperature", "0.7", "--top-p", "0.8", "--seed", "3", "--prompt", "the",
         "--tokenizer", z),
        (m, "-z", z, "-i", "the", "-n", "8", "-t", "7e-1", "-p", ".8", "-s", "3", "--kv=f16", "--simd=auto"),
    ):  # fmt: skip
        assert run(*args).ok().bytes == expected, args


def test_value_may_begin_with_a_dash_or_contain_equals(tiny):
    assert tiny.generate("-i", "-n", "-n", "1", *GREEDY).ok().out.startswith("-n")
    assert tiny.generate("--prompt=a=b", "-n", "1", *GREEDY).ok().out.startswith("a=b")


def test_help_and_version_are_on_stdout_and_need_no_model():
    for option in ("--help", "--version"):
        done = run(option).ok()
        assert done.out.strip() and done.err == "", f"{done}"
    assert len(run("--version").out.splitlines()) == 1


def test_help_names_every_option():
    text = run("--help").ok().out
    options = [o for o in [*VALUED, *FLAGS, "--help", "--version", "-q", "-j"] if o != "--chunk"]
    missing = [o for o in options if not re.search(rf"(^|[\s,|]){re.escape(o)}\b", text, re.MULTILINE)]
    assert not missing, f"--help does not name {missing}\n{text}"
    assert max(len(line) for line in text.splitlines()) <= 100


def test_later_option_wins(tiny):
    expected = tiny.generate("-i", "a", "-n", "3", *GREEDY).ok().bytes
    assert tiny.generate("-i", "a", "-n", "9", *GREEDY, "-n", "3").ok().bytes == expected


# ----------------------------------------------------------------------------------------------------------------------
# The prompt.


def test_prompt_comes_from_standard_input_where_no_option_gives_one(tiny):
    expected = tiny.generate("-i", "the an", "-n", "5", *GREEDY).ok().bytes
    assert tiny.generate("-n", "5", *GREEDY, stdin=b"the an").ok().bytes == expected
    assert tiny.generate("-n", "5", *GREEDY, "-f", "-", stdin=b"the an").ok().bytes == expected


def test_prompt_comes_from_a_file(tiny, tmp_path):
    (tmp_path / "prompt.txt").write_bytes(b"the an")
    expected = tiny.generate("-i", "the an", "-n", "5", *GREEDY).ok().bytes
    assert tiny.generate("-n", "5", *GREEDY, "-f", tmp_path / "prompt.txt").ok().bytes == expected
    assert tiny.generate("-n", "5", *GREEDY, f"--prompt-file={tmp_path / 'prompt.txt'}").ok().bytes == expected


def test_prompt_file_may_be_a_pipe(tiny, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    process = start(*tiny, "-n", "5", *GREEDY, "-f", tmp_path / "fifo")
    (tmp_path / "fifo").write_bytes(b"the an")
    assert finish(process).ok().bytes == tiny.generate("-i", "the an", "-n", "5", *GREEDY).ok().bytes


def test_text_and_file_are_joined_by_a_blank_line(tiny):
    expected = tiny.generate("-i", "the\n\nan", "-n", "5", *GREEDY).ok().bytes
    assert tiny.generate("-i", "the", "-f", "-", "-n", "5", *GREEDY, stdin=b"an").ok().bytes == expected


def test_prompt_option_leaves_standard_input_alone(tiny):
    read, write = os.pipe()  # nobody writes, nobody closes: whoever reads it waits for ever
    try:
        done = tiny.generate("-i", "a", "-n", "1", *GREEDY, stdin=read, timeout=TIMEOUT)
        done.ok()
    finally:
        os.close(read)
        os.close(write)


def test_empty_prompt_begins_at_bos(stories):
    expected = stories.generate("-i", "", "-n", "30", *GREEDY, "--json").ok().json
    assert expected["prompt_tokens"] == 1 and expected["text"].startswith("Once upon a time"), expected
    assert stories.generate("-n", "30", *GREEDY, stdin=b"").ok().out == expected["text"] + "\n"


def test_prompt_bytes_that_are_not_utf8_are_kept_through_byte_tokens(tiny):
    prompt = b"a\xff\xfeb\xc3"
    ids = tiny.generate("--tokenize", "-f", "-", stdin=prompt).ok().out.split()
    for byte in (0xFF, 0xFE, 0xC3):
        assert str(byte + models.FIRST_BYTE) in ids, f"byte {byte:#x} has no token in {ids}"


def test_prompt_may_contain_nul_bytes(tiny):
    ids = tiny.generate("--tokenize", "-f", "-", stdin=b"a\0b").ok().out.split()
    assert str(models.FIRST_BYTE) in ids and len(ids) >= 4, ids


def test_prompt_longer_than_the_context_exits_3_with_both_numbers(stories):
    prompt = "Once upon a time there was " * 10
    count = len(stories.generate("--tokenize", "-i", prompt).ok().out.split())
    assert_refused(stories.generate("-i", prompt, "-c", "32"), 3, count, 32)
    assert_refused(stories.generate("-f", "-", stdin=b"Once upon a time " * 500), 3, 512)


def test_prompt_of_just_the_context_fits(stories):
    prompt = "Once upon a time there was a"
    count = len(stories.generate("--tokenize", "-i", prompt).ok().out.split())
    stories.generate("-i", prompt, "-c", count + 1, *GREEDY).ok()
    assert_refused(stories.generate("-i", prompt, "-c", count - 1, *GREEDY), 3, count, count - 1)


def test_truncate_prompt_keeps_the_end(stories):
    prompt = "A dog ran to the park. " * 20
    whole = stories.generate("-i", prompt, "-n", "5", *GREEDY, "--no-echo").ok()
    done = stories.generate("-i", prompt, "-c", "64", "-n", "5", *GREEDY, "--truncate-prompt", "--json").ok().json
    assert done["prompt_tokens"] <= 64 and done["completion_tokens"] >= 1, done
    fits = stories.generate("-i", prompt, "-n", "5", *GREEDY, "--truncate-prompt", "--no-echo").ok()
    assert fits.bytes == whole.bytes, "a prompt that fits was changed"


def test_chunk_of_the_prompt_changes_nothing(stories):
    prompt = "Once upon a time, there was a big dog. " * 6
    seen = {c: stories.generate("-i", prompt, "-n", "50", "-s", "3", "--chunk", c, "--digest").ok() for c in CHUNKS}
    assert len({(done.bytes, done.digest) for done in seen.values()}) == 1, [str(d) for d in seen.values()]


# ----------------------------------------------------------------------------------------------------------------------
# Same bytes everywhere.


def test_digest_is_16_hexadecimal_digits_on_stderr(stories):
    done = stories.generate(*PROMPT, "-n", "5", *GREEDY, "--digest").ok()
    assert re.fullmatch(r"digest: [0-9a-f]{16}", done.digest), done.digest
    assert "digest" not in done.out


def test_digest_is_the_same_for_any_threads_kernels_and_chunks(stories, simd_sets):
    prompt = "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. " * 2
    common = ("-i", prompt, "-n", "150", "-s", "42", "--digest")
    expected = stories.generate(*common, "--simd", "scalar", "-j", "1", "--chunk", "1").ok()
    ways = [("--simd", s) for s in simd_sets] + [("-j", j) for j in THREADS] + [("--chunk", c) for c in CHUNKS]
    ways += [(), ("--simd", simd_sets[-1], "-j", "3", "--chunk", "7")]
    for way in ways:  # eight threads take turns on the processors there are, which other programs may want too
        done = stories.generate(*common, *way, timeout=6 * TIMEOUT).ok()
        assert (done.digest, done.bytes) == (expected.digest, expected.bytes), f"{way}: {done}\nwanted: {expected}"


def test_digest_depends_on_the_tokens_and_on_the_cache(stories):
    def digest(*options):
        return stories.generate(*options, *GREEDY, "--digest").ok().digest

    digests = [
        digest(*PROMPT, "-n", "5"),
        digest(*PROMPT, "-n", "6"),
        digest("-i", "Once upon a day", "-n", "5"),
        digest(*PROMPT, "-n", "5", "--kv", "f16"),
    ]
    assert len(set(digests)) == len(digests), digests


def test_omp_num_threads_changes_no_byte(stories):
    expected = stories.generate(*PROMPT, "-n", "50", "-s", "1", "--digest").ok()
    for threads in ("1", "2", "5"):
        done = stories.generate(*PROMPT, "-n", "50", "-s", "1", "--digest", env={"OMP_NUM_THREADS": threads}).ok()
        assert (done.bytes, done.digest) == (expected.bytes, expected.digest), f"OMP_NUM_THREADS={threads}: {done}"


def threads_of(process, expected, seconds=5.0 * (4 if SANITIZED else 1)):
    """The most threads seen, until `expected` are there or the time is up."""
    most, end = 0, time.monotonic() + seconds
    while most < expected and time.monotonic() < end and process.poll() is None:
        most = max(most, len(os.listdir(f"/proc/{process.pid}/task")))
        time.sleep(0.01)
    return most


@not_under_tsan
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="/proc shows no threads here")
@pytest.mark.parametrize("option, env", [(("-j", "3"), {}), ((), {"OMP_NUM_THREADS": "3"})], ids=["-j", "OMP"])
def test_number_of_threads_is_as_asked_for(slow, option, env):
    process = start(*slow, "-i", "a", "-n", "0", "--ignore-eos", *option, env=env)
    try:
        seen = threads_of(process, 3)
    finally:
        process.kill()
        process.communicate()
    if seen == 1:
        pytest.skip("built without OpenMP")
    assert seen == 3, f"{seen} threads"


# ----------------------------------------------------------------------------------------------------------------------
# Sampling, as far as it can be seen from outside.


def test_same_seed_same_text_and_other_seeds_other_texts(stories):
    def tell(seed):
        return stories.generate(*PROMPT, "-n", "60", "-s", seed).ok().bytes

    assert tell(7) == tell(7)
    assert len({tell(seed) for seed in (1, 2, 3, 42, 2**32 + 1, 2**64 - 1)}) == 6


def test_seed_comes_from_the_system_and_repeats_the_run_where_none_is_given(stories):
    first, second = (stories.generate(*PROMPT, "-n", "60", "--json").ok().json for _ in range(2))
    assert first["seed"] != second["seed"], f"the same seed twice: {first['seed']}"
    again = stories.generate(*PROMPT, "-n", "60", "--json", "-s", first["seed"]).ok().json
    assert again["text"] == first["text"]


def test_seed_0_is_a_seed_like_any_other(stories):
    texts = [stories.generate(*PROMPT, "-n", "40", "-s", "0").ok().bytes for _ in range(2)]
    assert texts[0] == texts[1]


def test_top_k_1_is_greedy(stories):
    expected = stories.generate(*PROMPT, "-n", "60", *GREEDY).ok().bytes
    assert stories.generate(*PROMPT, "-n", "60", "--top-k", "1", "-s", "9").ok().bytes == wanted


def test_tiny_top_p_and_min_p_1_are_greedy(stories):
    expected = stories.generate(*PROMPT, "-n", "60", *GREEDY).ok().bytes
    assert stories.generate(*PROMPT, "-n", "60", "--top-p", "0.000001", "-s", "9").ok().bytes == wanted
    assert stories.generate(*PROMPT, "-n", "60", "--min-p", "1", "-p", "1", "-s", "9").ok().bytes == wanted


def test_top_p_0_and_1_are_off(stories):
    texts = {stories.generate(*PROMPT, "-n", "60", "-s", "9", "--top-p", p).ok().bytes for p in ("0", "1")}
    assert len(texts) == 1
    assert texts != {stories.generate(*PROMPT, "-n", "60", "-s", "9", "--top-p", "0.5").ok().bytes}


def test_greedy_needs_no_seed(stories):
    texts = {stories.generate(*PROMPT, "-n", "60", *GREEDY, "-s", s).ok().bytes for s in (1, 2, 3)}
    assert len(texts) == 1


def test_top_k_draws_only_from_the_k_best(stories):
    for seed in range(3):
        seen = stories.generate(*PROMPT, "-n", "40", "-k", "3", "-p", "1", "-t", "2", "-s", seed, "--json",
                                "--logprobs", "3").ok().json  # fmt: skip
        for token in seen["logprobs"]:
            assert token["id"] in [t["id"] for t in token["top"]], token


def test_min_p_draws_only_tokens_of_that_share_of_the_best(stories):
    for seed in range(3):
        seen = stories.generate(*PROMPT, "-n", "40", "--min-p", "0.2", "-p", "1", "-s", seed, "--json",
                                "--logprobs", "1").ok().json  # fmt: skip
        for token in seen["logprobs"]:
            assert token["logprob"] >= token["top"][0]["logprob"] + np.log(0.2) - 1e-4, token


def test_repeat_penalty_makes_repetition_rarer(stories):
    def distinct(*options):
        seen = stories.generate(*PROMPT, "-n", "150", *GREEDY, "--ignore-eos", "--json", "--logprobs", "0", *options)
        return len({token["id"] for token in seen.ok().json["logprobs"]})

    plain = distinct()
    assert distinct("--repeat-penalty", "1") == plain
    assert distinct("--repeat-penalty", "1.5", "--repeat-last-n", "0") == plain, "a window of nothing penalises"
    assert distinct("--repeat-penalty", "1.5", "--repeat-last-n", "150") > plain


def test_high_temperature_is_wilder_than_low(stories):
    def mean_logprob(temperature):
        seen = stories.generate(*PROMPT, "-n", "100", "-t", temperature, "-p", "1", "-s", "4", "--ignore-eos",
                                "--json", "--logprobs", "0").ok().json  # fmt: skip
        return np.mean([token["logprob"] for token in seen["logprobs"]])

    cold, warm, hot = (mean_logprob(t) for t in ("0.1", "1", "3"))
    assert cold > warm > hot, (cold, warm, hot)


def test_zero_model_draws_every_token_about_equally(tiny, tmp_path):
    config = models.Config(8, 8, 1, 1, 1, 300, 4096)
    models.write_zero_model(tmp_path / "zero.bin", config)
    seen = run(tmp_path / "zero.bin", "-z", tiny.tokenizer, "-i", "", "-n", "3000", "-p", "1", "-s", "1",
               "--ignore-eos", "--json", "--logprobs", "1").ok().json  # fmt: skip
    counts = np.bincount([token["id"] for token in seen["logprobs"]], minlength=300)
    chi_square = ((counts - 10.0) ** 2 / 10).sum()  # 299 degrees of freedom: mean 299, standard deviation 24
    assert 180 < chi_square < 420, chi_square
    assert all(abs(token["logprob"] + np.log(300)) < 1e-5 for token in seen["logprobs"][:20])


def test_extreme_settings_draw_something(stories):
    for options in (("-t", "1e-30"), ("-t", "1000"), ("-k", "1000000"), ("--min-p", "0"), ("-p", "0.9999999")):
        stories.generate(*PROMPT, "-n", "10", "-s", "1", *options).ok()


# ----------------------------------------------------------------------------------------------------------------------
# --logprobs


@pytest.mark.parametrize("k", [0, 1, 5, 20])
def test_logprobs_gives_each_new_token_and_the_k_best(stories, k):
    seen = stories.generate(*PROMPT, "-n", "30", "-s", "3", "--json", "--logprobs", k).ok().json
    assert len(seen["logprobs"]) == seen["completion_tokens"]
    for token in seen["logprobs"]:
        assert {"id", "token", "bytes", "logprob", "top"} == set(token), token
        assert len(token["top"]) == k
        best = [t["logprob"] for t in token["top"]]
        assert best == sorted(best, reverse=True), best
        assert all({"id", "token", "bytes", "logprob"} == set(t) for t in token["top"])
        assert token["logprob"] <= 1e-6 and sum(np.exp(best)) <= 1 + 1e-5
        for t in token["top"]:
            if t["id"] == token["id"]:
                assert t["logprob"] == token["logprob"]


def test_temperature_0_takes_the_best_of_logprobs(stories):
    seen = stories.generate(*PROMPT, "-n", "60", *GREEDY, "--json", "--logprobs", "2").ok().json
    for token in seen["logprobs"]:
        assert token["id"] == token["top"][0]["id"], token


def test_logprobs_bytes_spell_the_continuation(stories):
    seen = stories.generate(*PROMPT, "-n", "40", *GREEDY, "--json", "--no-echo", "--logprobs", "1").ok().json
    spelled = b"".join(bytes(token["bytes"]) for token in seen["logprobs"])
    assert spelled.decode() == seen["text"]


def test_logprobs_are_the_log_softmax_of_the_logits(stories):
    if not (BUILD_DIR / "tests" / "logits").exists():
        pytest.fail("the logits executable was not built")
    prompt = [int(i) for i in stories.generate("--tokenize", *PROMPT).ok().out.split()]
    seen = stories.generate(*PROMPT, "-n", "20", "-t", "0.8", "-s", "3", "--json", "--logprobs", "3").ok().json
    ids = [token["id"] for token in seen["logprobs"]]
    rows = logits(stories.path, [*prompt, *ids], vocab_size=512)[len(prompt) - 1 : -1].astype(np.float64)
    expected = rows - np.log(np.exp(rows).sum(axis=1, keepdims=True))
    for token, row in zip(seen["logprobs"], expected):
        assert abs(token["logprob"] - row[token["id"]]) < 1e-4, (token, row[token["id"]])
        assert [t["id"] for t in token["top"]] == np.argsort(-row, kind="stable")[:3].tolist()


def test_logprobs_change_no_token(stories):
    plain = stories.generate(*PROMPT, "-n", "60", "-s", "3", "--json").ok().json["text"]
    assert stories.generate(*PROMPT, "-n", "60", "-s", "3", "--json", "--logprobs", "5").ok().json["text"] == plain


# ----------------------------------------------------------------------------------------------------------------------
# --score


@pytest.mark.parametrize("context", [1, 2, 7, 33, 64])
def test_score_is_the_mean_of_the_log_softmax_in_windows_of_the_context(tiny, context):
    text = "the rain in Spain stays mainly in the plain, and the fox is in the den"
    ids = [int(i) for i in run(*tiny, "--tokenize", "-i", text).ok().out.split()]
    assert len(ids) > 33 and len(ids) != 64
    expected = []
    for start_ in range(0, len(ids), context):
        window = ids[start_ : start_ + context]
        rows = logits(tiny.path, window, vocab_size=models.TINY.vocab_size).astype(np.float64)
        rows -= np.log(np.exp(rows).sum(axis=1, keepdims=True))
        expected += [None, *(row[token] for row, token in zip(rows, window[1:]))]
    scored = [logprob for logprob in expected if logprob is not None]
    for chunk in (1, 3, 512):
        seen = run(*tiny, "--score", "--json", "-i", text, "-c", context, "--chunk", chunk).ok().json
        assert (seen["tokens"], seen["scored"]) == (len(ids), len(scored))
        assert [logprob is None for logprob in seen["logprobs"]] == [logprob is None for logprob in expected]
        assert np.allclose([x for x in seen["logprobs"] if x is not None], scored, atol=2e-5)
        if scored:
            assert abs(seen["nll"] + np.mean(scored)) < 2e-5
            assert abs(seen["perplexity"] / np.exp(-np.mean(scored)) - 1) < 2e-5
    line = run(*tiny, "--score", "-i", text, "-c", context).ok().out
    if scored:
        assert line == (f"{len(ids)} tokens, {len(scored)} scored, nll {seen['nll']:.6f}, "
                        f"perplexity {seen['perplexity']:.6f}\n")  # fmt: skip


def test_score_of_nothing_is_no_number(tiny):
    done = run(tiny.path, "-z", tiny.tokenizer, "--score", "-i", "").ok()
    assert done.out == "1 tokens, 0 scored, nll nan, perplexity nan\n"
    done = run(tiny.path, "-z", tiny.tokenizer, "--score", "--json", "-i", "").ok()
    assert done.json == {"tokens": 1, "scored": 0, "nll": None, "perplexity": None, "logprobs": [None]}


# ----------------------------------------------------------------------------------------------------------------------
# --stop


def test_stop_text_ends_the_output_and_is_not_printed(stories):
    whole = stories.generate(*PROMPT, "-n", "120", *GREEDY, "--no-echo").ok().out.removesuffix("\n")
    for stop in (",", " there", "little girl", "e", ". She", "park. One day, she saw", "\n", "ily"):
        assert stop in whole, f"choose another stop text than {stop!r}: {whole!r}"
        seen = stories.generate(*PROMPT, "-n", "120", *GREEDY, "--no-echo", "--json", "--stop", stop).ok().json
        expected = whole[: whole.index(stop)]
        assert (seen["text"], seen["finish_reason"]) == (expected, "stop"), f"stop {stop!r}"
        plain = stories.generate(*PROMPT, "-n", "120", *GREEDY, "--no-echo", "--stop", stop).ok().out
        assert plain == expected + "\n", f"stop {stop!r}"


def test_stop_text_that_never_comes_changes_nothing(stories):
    whole = stories.generate(*PROMPT, "-n", "60", *GREEDY).ok().bytes
    for stop in ("no such text", "Once upon a", "girl named Lilz", "x" * 5000):
        assert stories.generate(*PROMPT, "-n", "60", *GREEDY, "--stop", stop).ok().bytes == whole, stop


def test_stop_text_spans_tokens(chain):
    model = chain([b"one", b" tw", b"o t", b"hree", b" four"])
    assert model.generate("-i", "", *GREEDY, "--stop", "two three").ok().out == "one \n"


def test_stop_text_inside_one_token(chain):
    model = chain([b"one", b" two,three", b" four"])
    assert model.generate("-i", "", *GREEDY, "--stop", ",").ok().out == "one two\n"


def test_first_letters_of_a_stop_text_are_printed_when_the_rest_does_not_come(chain):
    model = chain([b"a", b"ab", b"abc", b"ac"])
    assert model.generate("-i", "", *GREEDY, "--stop", "abcd").ok().out == "aababcac\n"


def test_held_back_letters_are_printed_at_the_end(chain):
    model = chain([b"one", b" tw"])
    assert model.generate("-i", "", *GREEDY, "--stop", "two").ok().out == "one tw\n"
    assert model.generate("-i", "", *GREEDY, "-n", "1", "--stop", "e two").ok().out == "one\n"


def test_stop_text_that_overlaps_itself(chain):
    model = chain([b"an", b"ana", b"nas", b"!"])  # anananas!
    assert model.generate("-i", "", *GREEDY, "--stop", "ananas").ok().out == "an\n"
    model = chain([b"a", b"aa", b"aab", b"!"], "another")  # aaaaab!
    assert model.generate("-i", "", *GREEDY, "--stop", "aab").ok().out == "aaa\n"


def test_of_several_stop_texts_the_one_complete_first_counts(chain):
    model = chain([b"was", b" a", b" lit", b"tle", b" girl", b" named"])
    stops = ("--stop", "was a little girl", "--stop", "little", "--stop", "named")
    assert model.generate("-i", "", *GREEDY, *stops).ok().out == "was a \n"
    assert model.generate("-i", "", *GREEDY, "--stop", "zzz", "--stop", "girl").ok().out == "was a little \n"


def test_of_stop_texts_complete_with_one_token_the_earliest_counts(chain):
    model = chain([b"one", b" two three four", b"!"])
    for stops in (("three", "two"), ("two", "three"), ("two three", "three"), ("three", "two three")):
        args = [part for stop in stops for part in ("--stop", stop)]
        assert model.generate("-i", "", *GREEDY, *args).ok().out == "one \n", stops


def test_stop_text_may_be_one_character_of_byte_tokens(chain):
    model = chain([b"caf", b"\xc3", b"\xa9", b" au", b" lait"])
    assert model.generate("-i", "", *GREEDY, "--stop", "é").ok().out == "caf\n"
    assert model.generate("-i", "", *GREEDY, "--stop", "fé a").ok().out == "ca\n"


def test_stop_text_in_the_prompt_does_not_stop(chain, stories):
    seen = stories.generate(*PROMPT, "-n", "10", *GREEDY, "--stop", "upon", "--json").ok().json
    assert seen["completion_tokens"] == 10


# ----------------------------------------------------------------------------------------------------------------------
# Streaming of whole characters.


def writes_of(*args):
    """What each single write to standard output was: a socket that keeps messages apart."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        process = start(*args, stdout=theirs)
        theirs.close()
        ours.settimeout(TIMEOUT)
        writes = []
        while data := ours.recv(1 << 16):
            writes.append(data)
        finish(process).ok()
    return writes


def test_each_character_is_written_as_it_completes_and_never_a_part(chain):
    model = chain([b"a", b"\xc3", b"\xa9", b"\xe2", b"\x82", b"\xac", b"\xf0", b"\x9f", b"\x98", b"\x80", b"z"])
    assert writes_of(*model, "-i", "", *GREEDY)[:5] == [b"a", "é".encode(), "€".encode(), "😀".encode(), b"z"]


def test_each_token_is_written_when_it_is_made(stories):
    writes = writes_of(*stories, *PROMPT, *GREEDY, "-n", "40")
    assert b"".join(writes) == stories.generate(*PROMPT, *GREEDY, "-n", "40").ok().bytes
    assert len(writes) >= 40, f"{len(writes)} writes for 40 tokens"


def test_prompt_is_on_screen_before_the_first_token(slow):
    process = start(*slow, "-i", "the prompt", "-n", "0", "--ignore-eos", "-s", "1")
    try:
        began = time.monotonic()
        seen = b""
        while len(seen) < 10 and time.monotonic() - began < TIMEOUT:
            seen += os.read(process.stdout.fileno(), 10 - len(seen))
        assert seen == b"the prompt"
        assert process.poll() is None, "it had finished before the prompt could be read"
    finally:
        process.kill()
        process.communicate()


BROKEN_UTF8 = {  # tokens -> text: U+FFFD for what never completes a character
    "cut_at_the_end": ([b"a", b"\xe2", b"\x82"], "a\ufffd"),
    "stray_continuation": ([b"a", b"\x80", b"b"], "a\ufffdb"),
    "never_valid": ([b"a", b"\xff", b"b"], "a\ufffdb"),
    "begun_and_broken": ([b"a", b"\xe2", b"b"], "a\ufffdb"),
    "begun_twice": ([b"\xe2", b"\xc3", b"\xa9"], "\ufffdé"),
    "surrogate": ([b"\xed", b"\xa0", b"\x80", b"!"], None),
    "overlong": ([b"\xc0", b"\x80", b"!"], None),
    "beyond_unicode": ([b"\xf4", b"\x90", b"!"], None),
}


@pytest.mark.parametrize("name", BROKEN_UTF8)
def test_bytes_that_complete_no_character_become_replacement_characters(chain, name):
    tokens, expected = BROKEN_UTF8[name]
    model = chain(tokens)
    done = model.generate("-i", "", *GREEDY).ok()
    expected = expected if expected is not None else b"".join(tokens).decode("utf-8", "replace")
    assert done.out == expected + "\n", done
    assert model.generate("-i", "", *GREEDY, "--json").ok().json["text"] == expected
    for write in writes_of(*model, "-i", "", *GREEDY):
        write.decode("utf-8")


def test_json_of_a_prompt_that_is_not_utf8_is_valid_json(tiny):
    done = tiny.generate("-f", "-", "-n", "3", *GREEDY, "--json", stdin=b"a\xff\xc3b").ok()
    assert done.json["text"].startswith("a\ufffd\ufffdb"), done


# ----------------------------------------------------------------------------------------------------------------------
# -o, and output that cannot be written.


def listing(folder):
    return sorted(p.name for p in Path(folder).iterdir())


@pytest.mark.parametrize("options", [(), ("--json",), ("--tokenize",)])
def test_output_file_has_what_stdout_would_have(tiny, tmp_path, options):
    common = ("-i", "the", "-n", "9", *GREEDY, *options)
    expected = tiny.generate(*common).ok()
    done = tiny.generate(*common, "-o", tmp_path / "out.txt").ok()
    assert done.bytes == b"", f"expected nothing on stdout\n{done}"
    seen = (tmp_path / "out.txt").read_bytes()
    if "--json" in options:
        assert json.loads(seen)["text"] == expected.json["text"]
    else:
        assert seen == expected.bytes
    assert listing(tmp_path) == ["out.txt"], "a temporary file was left"


def test_output_file_replaces_an_older_one(tiny, tmp_path):
    (tmp_path / "out.txt").write_text("older and very much longer than what comes now" * 100)
    tiny.generate("-i", "the", "-n", "3", *GREEDY, "-o", tmp_path / "out.txt").ok()
    assert (tmp_path / "out.txt").read_text().startswith("the")
    assert listing(tmp_path) == ["out.txt"]


def test_new_output_file_has_the_usual_permissions(tiny, tmp_path):
    tiny.generate("-i", "the", "-n", "3", *GREEDY, "-o", tmp_path / "out.txt", umask=0o022).ok()
    assert oct((tmp_path / "out.txt").stat().st_mode & 0o777) == oct(0o644)


def test_output_file_may_be_named_without_a_folder(tiny, tmp_path):
    tiny.generate("-i", "the", "-n", "3", *GREEDY, "-o", "out.txt", cwd=tmp_path).ok()
    assert listing(tmp_path) == ["out.txt"]


def test_output_to_a_fifo_keeps_the_fifo(tiny, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    process = start(*tiny, "-i", "the", "-n", "3", *GREEDY, "-o", tmp_path / "fifo")
    fd = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    seen, end = b"", time.monotonic() + TIMEOUT
    while process.poll() is None and time.monotonic() < end:
        time.sleep(0.01)
        try:
            seen += os.read(fd, 65536)
        except BlockingIOError:
            pass
    os.close(fd)
    finish(process).ok()
    assert stat.S_ISFIFO((tmp_path / "fifo").stat().st_mode), "the fifo was replaced"
    assert seen.startswith(b"the")


def test_output_into_a_missing_folder_exits_1_and_names_it(tiny, tmp_path):
    assert_refused(tiny.generate("-i", "a", "-n", "1", *GREEDY, "-o", tmp_path / "no" / "out.txt"), 1, "out.txt")


def test_output_onto_a_folder_exits_1_and_names_it(tiny, tmp_path):
    (tmp_path / "folder").mkdir()
    assert_refused(tiny.generate("-i", "a", "-n", "1", *GREEDY, "-o", tmp_path / "folder"), 1, "folder")
    assert listing(tmp_path) == ["folder"]


@pytest.mark.parametrize("options", [(), ("--json",), ("--tokenize",)])
def test_full_disk_exits_1_and_says_so(tiny, options):
    with open("/dev/full", "wb") as full:
        done = tiny.generate("-i", "a", "-n", "5", *GREEDY, *options, stdout=full)
    assert done.code == 1, f"expected exit 1\n{done}"
    assert "No space left" in done.err.splitlines()[-1], f"expected the reason on stderr\n{done}"


def test_full_disk_exits_1_for_help():
    with open("/dev/full", "wb") as full:
        assert run("--help", stdout=full).code == 1


@not_under_tsan
def test_output_file_that_cannot_be_written_whole_leaves_the_older_one(tiny, tmp_path):
    (tmp_path / "out.txt").write_text("older")

    def no_file_beyond_64_kilobytes():  # less would stop OpenMP's own files
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))

    options = ("--tokenize", "-f", "-", "-o", tmp_path / "out.txt")
    done = tiny.generate(*options, stdin=b"an " * 50000, preexec_fn=no_file_beyond_64_kilobytes)
    assert done.code == 1 and "out.txt" in done.err, f"expected exit 1 and the file's name\n{done}"
    assert (tmp_path / "out.txt").read_text() == "older"
    assert listing(tmp_path) == ["out.txt"], "a temporary file was left"


def test_output_through_a_link_to_a_full_disk_exits_1(tiny, tmp_path):
    (tmp_path / "link").symlink_to("/dev/full")
    done = tiny.generate("-i", "a", "-n", "1", *GREEDY, "-o", tmp_path / "link")
    assert done.code == 1 and "link" in done.err, f"expected exit 1\n{done}"


def test_refused_run_makes_no_output_file(tiny, tmp_path):
    for args in (("-n", "x"), ("-z", "absent"), ("-f", "absent"), ("-c", "2", "-i", "the rain in the rain")):
        done = run(tiny.path, "-z", tiny.tokenizer, "-i", "a", "-o", tmp_path / "out.txt", *args)
        assert done.code in (2, 3), done
        assert listing(tmp_path) == [], f"{args} left {listing(tmp_path)}"


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_output_file_of_an_interrupted_run_is_not_there_in_part(slow, tmp_path, how):
    process = start(*slow, "-i", "a", "-n", "0", "--ignore-eos", "-o", tmp_path / "out.txt")
    deadline = time.monotonic() + 30
    while not list(tmp_path.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.01)  # until it has the temporary file: what comes then is its work
    time.sleep(0.5 * (4 if SANITIZED else 1))
    process.send_signal(how)
    done = finish(process)
    assert done.code == {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}[how], done
    assert not (tmp_path / "out.txt").exists(), "a part of the text is in the output file"
    if how != signal.SIGKILL:
        assert listing(tmp_path) == [], "a temporary file was left"
        assert f"{tmp_path / 'out.txt'}: interrupted, nothing is written there" in done.err, done


@pytest.mark.parametrize("what", ["model", "tokenizer"])
def test_output_over_what_is_read_is_refused(tiny, tmp_path, what):
    files = {"model": tmp_path / "model.bin", "tokenizer": tmp_path / "tokenizer.bin"}
    shutil.copy(tiny.path, files["model"])
    shutil.copy(tiny.tokenizer, files["tokenizer"])
    (tmp_path / "link").symlink_to(files[what])
    before = files[what].read_bytes()
    for output in (files[what], tmp_path / "link"):
        done = run(files["model"], "-z", files["tokenizer"], "-i", "a", "-o", output)
        assert_refused(done, 2, f"--output {output}: is the {what}")
    assert files[what].read_bytes() == before


# ----------------------------------------------------------------------------------------------------------------------
# Signals, pipes, closed descriptors.


def read_some(process, count):
    seen = b""
    while len(seen) < count:
        data = os.read(process.stdout.fileno(), count - len(seen))
        assert data, f"only {seen!r} was written"
        seen += data
    return seen


@pytest.mark.parametrize("how, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_run_has_flushed_what_it_made(slow, how, code):
    expected = start(*slow, "-i", "the prompt", "-n", "0", "--ignore-eos", "-s", "1")
    first = read_some(expected, 60)
    expected.send_signal(how)
    done = finish(expected)
    assert done.code == code, f"expected exit {code}\n{done}"
    assert first.startswith(b"the prompt")
    (first + done.bytes).decode("utf-8")  # ends with a whole character
    assert done.err == "", f"expected nothing on stderr\n{done}"


def test_interrupted_json_run_is_valid_json_or_nothing(slow):
    process = start(*slow, "-i", "a", "-n", "0", "--ignore-eos", "--json")
    time.sleep(0.5 * (4 if SANITIZED else 1))
    process.send_signal(signal.SIGINT)
    done = finish(process)
    assert done.code == 130, done
    assert done.bytes == b"" or done.json["completion_tokens"] >= 0


def test_interrupt_is_heeded_in_a_long_prompt(slow):
    process = start(*slow, "-f", "-", "-n", "1", stdin=subprocess.PIPE)
    process.stdin.write(b"the rain " * 600)
    process.stdin.close()
    process.stdin = None
    time.sleep(0.5 * (4 if SANITIZED else 1))
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    done = finish(process)
    assert done.code in (130, 0), done
    assert time.monotonic() - began < 3 * (4 if SANITIZED else 1)


def test_interrupt_while_waiting_for_the_prompt(tiny):
    process = start(*tiny, stdin=subprocess.PIPE)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    while process.poll() is None and time.monotonic() - began < 5:
        time.sleep(0.01)
    code = process.poll()
    process.kill()
    process.communicate()
    assert code in (130, -signal.SIGINT), f"exit {code}, expected 130"


def test_reader_that_goes_away_ends_the_run_quietly(slow):
    process = start(*slow, "-i", "the prompt", "-n", "0", "--ignore-eos")
    read_some(process, 5)
    process.stdout.close()
    process.stdout = None
    done = finish(process)
    assert done.code == -signal.SIGPIPE, f"expected to be ended by SIGPIPE\n{done}"
    assert "ipe" not in done.err, f"expected no complaint\n{done}"


def test_reader_that_goes_away_is_no_complaint_where_sigpipe_is_ignored(slow):
    process = start(*slow, "-i", "the prompt", "-n", "0", "--ignore-eos", restore_signals=False,
                    preexec_fn=lambda: signal.signal(signal.SIGPIPE, signal.SIG_IGN))  # fmt: skip
    read_some(process, 5)
    process.stdout.close()
    process.stdout = None
    done = finish(process)
    assert done.code in (-signal.SIGPIPE, 141), f"expected status 141\n{done}"
    assert "ipe" not in done.err, f"expected no complaint\n{done}"


def test_closed_standard_input_harms_nothing_when_a_prompt_is_given(tiny):
    expected = tiny.generate("-i", "the", "-n", "5", *GREEDY).ok().bytes
    done = tiny.generate("-i", "the", "-n", "5", *GREEDY, stdin=None, preexec_fn=lambda: os.close(0))
    assert done.ok().bytes == expected


def test_closed_standard_input_and_no_prompt_exits_3(tiny):
    done = tiny.generate("-n", "5", *GREEDY, stdin=None, preexec_fn=lambda: os.close(0))
    assert_refused(done, 3)


def test_closed_standard_output_exits_1(tiny):
    done = tiny.generate("-i", "the", "-n", "5", *GREEDY, preexec_fn=lambda: os.close(1))
    assert done.code == 1 and done.err, f"expected exit 1 and a reason\n{done}"


def test_closed_standard_output_does_not_matter_with_an_output_file(tiny, tmp_path):
    expected = tiny.generate("-i", "the", "-n", "5", *GREEDY).ok().bytes
    tiny.generate("-i", "the", "-n", "5", *GREEDY, "-o", tmp_path / "out.txt", preexec_fn=lambda: os.close(1)).ok()
    assert (tmp_path / "out.txt").read_bytes() == expected


def test_closed_standard_error_writes_nothing_into_other_files(tiny, tmp_path):
    """The lowest free descriptor goes to the next file that is opened: messages must not end in it."""
    expected = tiny.generate("-i", "the", "-n", "5", *GREEDY).ok().bytes
    done = tiny.generate("-i", "the", "-n", "5", *GREEDY, "--stats", "--digest", "-o", tmp_path / "out.txt",
                         preexec_fn=lambda: os.close(2))  # fmt: skip
    assert done.code == 0, done
    assert (tmp_path / "out.txt").read_bytes() == expected


# ----------------------------------------------------------------------------------------------------------------------
# Statistics and progress.


def stats_line(done):
    """The line of statistics: the one with the seed."""
    lines = [line for line in done.err.splitlines() if "seed" in line]
    return lines[0] if lines else None


def test_stats_is_one_line_with_tokens_and_seed(stories):
    done = stories.generate(*PROMPT, "-n", "20", "-s", "4242", "--stats", "--ignore-eos").ok()
    line = stats_line(done)
    count = len(stories.generate("--tokenize", *PROMPT).ok().out.split())
    assert line, f"expected a line of statistics\n{done}"
    for expected in (r"\b4242\b", r"\b20\b", rf"\b{count}\b", r"tok/s", r"\bms\b|\bs\b"):
        assert re.search(expected, line), f"expected {expected} in {line!r}"
    assert done.out == stories.generate(*PROMPT, "-n", "20", "-s", "4242", "--ignore-eos").ok().out


def test_stats_are_off_where_stderr_is_no_terminal(stories):
    done = stories.generate(*PROMPT, "-n", "20", "-s", "4242").ok()
    assert "4242" not in done.err and "tok/s" not in done.err, done


def test_nothing_is_drawn_where_stderr_is_no_terminal(slow):
    done = slow.generate("-f", "-", "-n", "1", *GREEDY, stdin=b"the rain in the " * 20).ok()
    assert "\r" not in done.err and "\x1b" not in done.err, done


def on_terminal(*args, columns=80, stdin_too=False):
    """Runs with stderr on a terminal: exit status, stdout, what the terminal got."""
    ours, theirs = pty.openpty()
    attributes = termios.tcgetattr(theirs)
    attributes[1] &= ~termios.OPOST
    termios.tcsetattr(theirs, termios.TCSANOW, attributes)
    process = start(*args, stderr=theirs, **({"stdin": theirs} if stdin_too else {}))
    os.close(theirs)
    screen, out, end = b"", b"", time.monotonic() + TIMEOUT
    fds = [ours, process.stdout.fileno()]
    while fds and time.monotonic() < end:
        for fd in select.select(fds, [], [], 0.1)[0]:
            try:
                data = os.read(fd, 65536)
            except OSError:  # the last user of the terminal is gone
                data = b""
            if not data:
                fds.remove(fd)
            elif fd == ours:
                screen += data
            else:
                out += data
        if process.poll() is not None and fds == [ours] and not select.select(fds, [], [], 0.05)[0]:
            break
    os.close(ours)
    if process.poll() is None and time.monotonic() >= end:
        process.kill()
        process.communicate()
        pytest.fail(f"still running after {TIMEOUT} s: {args}")
    process.stdout.close()
    return process.wait(), out.decode(), screen.decode()


def test_stats_are_on_where_stderr_is_a_terminal(stories):
    code, out, screen = on_terminal(*stories, *PROMPT, "-n", "20", "-s", "4242")
    assert code == 0 and "4242" in screen and "tok/s" in screen, (code, out, screen)


def test_quiet_turns_them_off(stories):
    for option in ("-q", "--quiet"):
        code, out, screen = on_terminal(*stories, *PROMPT, "-n", "20", "-s", "4242", option)
        assert code == 0 and "4242" not in screen, (code, out, screen)


def test_quiet_run_says_nothing_on_stderr(stories):
    assert stories.generate(*PROMPT, "-n", "20", "-q").ok().err == ""


def test_quiet_error_is_still_said(tiny):
    assert_refused(tiny.generate("-q", "-f", "absent.txt"), 3, "absent.txt")


def test_no_prompt_on_a_terminal_does_not_wait_for_one(tiny):
    """Standard input is read only when it is not a terminal: generation begins at BOS, or usage is told."""
    code, _, screen = on_terminal(*tiny, "-n", "3", *GREEDY, stdin_too=True)
    assert code in (0, 2), (code, screen)


# ----------------------------------------------------------------------------------------------------------------------
# llama2.c's stories (golden: what its own executable told, scripts/make_golden.py --llama2c).

GOLDEN_STORIES = json.loads((GOLDEN_DIR / "llama2c_stories.json").read_text(encoding="utf-8"))
STORIES = GOLDEN_STORIES["stories"]


def story_id(story):
    how = f"seed{story['seed']}" if story["temperature"] else "greedy"
    return f"{how}-{re.sub('[^A-Za-z]+', '_', story['prompt'])[:20] or 'empty'}"


def tell(model, tokenizer, story, *options):
    """The same number of tokens as llama2.c's: its count includes those of the prompt, but for BOS."""
    prompt_tokens = len(run(model, "-z", tokenizer, "--tokenize", "-i", story["prompt"]).ok().out.split())
    sampling = ("-t", story["temperature"], "-p", story.get("top_p", 0.9), "-s", story["seed"])
    count = GOLDEN_STORIES["steps"] - prompt_tokens + 1
    assert count >= 150
    return run(model, "-z", tokenizer, "-i", story["prompt"], "-n", count, *sampling, "--json", *options).ok().json


@pytest.mark.parametrize("story", STORIES, ids=story_id)
def test_story_is_the_one_that_llama2c_tells(stories, story):
    assert models.sha256(stories.path.read_bytes()) == GOLDEN_STORIES["model_sha256"], "another model"
    seen = tell(stories.path, stories.tokenizer, story)
    assert seen["text"] == story["text"]


@pytest.mark.parametrize("story", [s for s in STORIES if s["temperature"] == 0], ids=story_id)
def test_greedy_story_of_the_v1_file_is_that_of_v0(stories, story):
    assert tell(data_file("stories260K_v1.bin"), stories.tokenizer, story)["text"] == story["text"]


def test_v2_file_tells_a_sensible_story(stories):
    model = data_file("stories260K-q8.bin")
    seen = run(model, "-z", stories.tokenizer, *PROMPT, "-n", "150", *GREEDY).ok().out
    assert seen.startswith("Once upon a time, there was a"), seen
    words = re.findall(r"[A-Za-z']+", seen)
    known = set(re.findall(r"[A-Za-z']+", " ".join(s["text"] for s in STORIES)))
    strange = [w for w in words[:-1] if w not in known]  # the last may be cut
    assert len(words) > 50 and len(strange) < len(words) / 10, strange


def test_v2_file_has_the_same_digest_for_any_kernels(stories, simd_sets):
    model = data_file("stories260K-q8.bin")
    digests = {run(model, "-z", stories.tokenizer, *PROMPT, "-n", "60", *GREEDY, "--digest", "--simd", simd).ok().digest
               for simd in simd_sets}  # fmt: skip
    assert len(digests) == 1, digests


# ----------------------------------------------------------------------------------------------------------------------
# Memory.


@pytest.mark.skipif(SANITIZED, reason="the sanitizers look for the same and more")
@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")
@pytest.mark.parametrize("options", [("-j", "1"), ("-j", "2", "--json", "--logprobs", "3", "--stop", "zq"),
                                     ("--tokenize",), ("-n", "x")])  # fmt: skip
def test_valgrind_finds_nothing(tiny, options):
    valgrind = (
        "valgrind",
        "-q",
        "--error-exitcode=99",
        "--leak-check=full",
        "--show-leak-kinds=definite",
        "--errors-for-leak-kinds=definite",
    )  # libgomp keeps its threads
    done = execute([*valgrind, EXECUTABLE, *tiny, "-i", "the rain", "-n", "12", *options], timeout=120)
    assert done.code == (2 if "x" in options else 0), done
    assert "==" not in done.err, done


def test_default_tokenizer_is_beside_the_model_then_here(tiny, tmp_path):
    beside, here = tmp_path / "beside", tmp_path / "here"
    for folder in (beside, here):
        folder.mkdir()
    shutil.copy(tiny.path, beside / "model.bin")
    args = ("-i", "the", "-n", "5", *GREEDY)
    expected = tiny.generate(*args).ok().bytes
    shutil.copy(tiny.tokenizer, here / "tokenizer.bin")
    assert run(beside / "model.bin", *args, cwd=here).ok().bytes == expected
    shutil.copy(tiny.tokenizer, beside / "tokenizer.bin")
    (here / "tokenizer.bin").write_bytes(b"no tokenizer")
    assert run(beside / "model.bin", *args, cwd=here).ok().bytes == expected
    (beside / "tokenizer.bin").write_bytes(b"no tokenizer")
    assert_refused(run(beside / "model.bin", *args, cwd=here), 3, "beside/tokenizer.bin", "-z FILE")
