"""Options: how they may be spelled, and that a wrong one exits with 2 and is named; --help and --version."""

import re

import pytest
from conftest import GREEDY, ROOT, assert_refused, run

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
    "--presence-penalty": ["abc", "", "-2.1", "3", "nan", "- 1", "--1"],
    "--frequency-penalty": ["abc", "", "-2.1", "3", "inf"],
    "--logit-bias": ["5", "", "5=", "=1", "5=101", "-1=1", "5=1x", "99999=1"],
    "--stop-token-id": ["abc", "", "-1", "1.5", "99999"],
    "--min-tokens": ["abc", "", "-1", "1.5", "300"],
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
VALUED = ["-i", "--prompt", "-f", "--prompt-file", "--stop", "--choice", "-z", "--tokenizer", "-o", "--output", "-b", "--batch",
          "--prompt-cache", *WRONG_VALUES]  # fmt: skip
FLAGS = ["--tokenize", "--json", "--stats", "--quiet", "--digest", "--no-echo", "--ignore-eos", "--special",
         "--truncate-prompt", "--lines", "--resume", "--retry"]  # fmt: skip


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


@pytest.mark.parametrize("option", ["-f", "-o", "-z", "-b", "--prompt-cache"])
def test_empty_name_of_a_file_exits_2(tiny, tmp_path, option):
    assert_refused(tiny.generate(option, "", cwd=tmp_path), 2, f"{option}: expected a file name")
    assert not list(tmp_path.iterdir())


def test_the_included_model_is_named_only_where_it_is(tmp_path):
    assert_refused(run(cwd=ROOT), 2, "MODEL: missing", "./run models/stories.bin", "--help")
    done = run(cwd=tmp_path)
    assert_refused(done, 2, "MODEL: missing", "--help")
    assert "stories" not in done.err and "make" not in done.err, done


def test_a_prompt_in_the_place_of_the_model_gets_a_hint():
    assert_refused(run("Once upon a time"), 3, "Once upon a time: cannot be opened", "a prompt goes after -i")
    for options in (("-i", "a"), ("--info",)):
        done = run("absent.bin", *options)
        assert_refused(done, 3, "absent.bin: cannot be opened")
        assert "-i" not in done.err, f"expected no hint: MODEL is meant\n{done}"


def test_no_model_exits_2():
    assert_refused(run(), 2, "MODEL", "RUN_MODEL")
    assert_refused(run("-i", "a", env={"RUN_MODEL": ""}), 2, "MODEL")


MODES = [("-i", "a", "-n", "3", *GREEDY), ("--tokenize", "-i", "a"), ("--score", "-i", "the rain"), ("--info",),
         ("-b", "-", "-n", "3", *GREEDY)]  # fmt: skip


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode[0])
def test_run_model_names_the_model_where_none_is_given(stories, mode):
    request = b'{"prompt": "a"}\n'
    expected = run(stories.path, *mode, stdin=request).ok().bytes
    assert run(*mode, stdin=request, env={"RUN_MODEL": str(stories.path)}).ok().bytes == expected
    assert run(stories.path, *mode, stdin=request, env={"RUN_MODEL": "absent.bin"}).ok().bytes == expected
    assert_refused(run(*mode, stdin=request, env={"RUN_MODEL": "absent.bin"}), 3, "absent.bin")


def test_second_model_exits_2_and_is_named(tiny):
    assert_refused(tiny.generate("another.bin", "-i", "a"), 2, "another.bin")


def test_logprobs_without_json_exits_2(tiny):
    assert_refused(tiny.generate("-i", "a", "--logprobs", "3"), 2, "--logprobs")


@pytest.mark.parametrize("simd", ["avx512", "avxvnni", "avx2", "i8mm", "dotprod", "neon"])
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
    assert run("-h").ok().bytes == run("--help").ok().bytes
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
