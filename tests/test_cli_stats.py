"""--stats, -q, and what is drawn on a terminal."""

import re

import pytest
from conftest import GREEDY, PROMPT, assert_refused
from terminal import on_terminal


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


@pytest.mark.parametrize("options", [
    (), ("-n", "3"), ("-n", "0"), ("-n", "3", "-s", "123456789012345", *GREEDY), ("-s", "18446744073709551615", "-n", "3"),
    ("-s", "18446744073709551615", "-n", "0", "-c", "300"), ("-n", "400", "--prompt-cache", "CACHE")])  # fmt: skip
def test_stats_fit_80_columns_whatever_they_say(stories, tmp_path, options):
    options = [tmp_path / "cache" if o == "CACHE" else o for o in options]
    prompt = len(stories.generate("--tokenize", "-i", "Once upon a time there was " * 12).ok().out.split())
    for _ in range(2):  # the second time with a prompt cache
        done = stories.generate("-i", "Once upon a time there was " * 12, "--ignore-eos", "--stats", *options).ok()
        lines = done.err.splitlines()
        assert len(lines) == 1 and len(lines[0]) <= 80, f"expected one line of 80 columns\n{done}"
        if "-s" not in options or "18446744073709551615" not in options:
            assert lines[0].startswith(f"prompt {prompt} tokens"), f"expected the prompt's tokens\n{done}"
        assert " tokens" in lines[0] and "tok/s" in lines[0], done
        seed = options[options.index("-s") + 1] if "-s" in options and "-t" not in options else None
        assert not seed or f"; seed {seed}" in lines[0], f"expected the seed\n{done}"


def test_stats_name_what_the_prompt_cache_gave(stories, tmp_path):
    options = ("-i", "Once upon a time there was " * 12, "-n", "1", *GREEDY, "--prompt-cache", tmp_path / "cache", "--stats")
    stories.generate(*options).ok()
    done = stories.generate(*options).ok()
    assert re.match(r"prompt \d+ tokens in [\d.]+ ms, \d+ cached, ", done.err), done


def test_what_goes_first_where_the_statistics_are_too_long(stories):
    """The longer the seed is, the more parts are left out, in the order that the man page gives."""
    parts = {"kernels": r", (avx512|avxvnni|avx2|i8mm|dotprod|neon|scalar)", "threads": r"\d threads?", "prompt speed": r"^prompt \d+ tokens in [\d.]+ ms, [\d.]+ tok/s",
             "first token": r"^prompt \d+ tokens in [\d.]+ ms", "prompt": r"^prompt \d+ tokens",
             "speed": r"; cut at 90 tokens \(-n\), [\d.]+ tok/s"}  # fmt: skip
    lines = [stories.generate(*PROMPT, "-n", "90", "--ignore-eos", "--lookup", "0", *seed, "--stats").ok().err.rstrip("\n")
             for seed in (("-t", "0"), ("-s", "7"), ("-s", "1234567"), ("-s", str(2**64 - 1)))]  # fmt: skip
    for line in lines:
        shown = [re.search(part, line) is not None for part in parts.values()]
        assert shown == sorted(shown), f"expected parts to go in the order {list(parts)}, found {line!r}"
    assert re.search(parts["prompt speed"], lines[0]) and re.search(parts["first token"], lines[1]), lines
    assert re.search(parts["speed"], lines[3]) and str(2**64 - 1) in lines[3], lines



def test_stats_of_a_greedy_run_have_no_seed_since_it_decides_nothing(stories):
    done = stories.generate(*PROMPT, "-n", "3", *GREEDY, "-s", "4242", "--stats").ok()
    assert "seed" not in done.err and "tok/s" in done.err, done


@pytest.mark.parametrize("options, says", [
    (("-n", "5"), "cut at 5 tokens (-n)"), ((), "cut at 256 tokens (-n)"),
    (("-n", "0", "-c", "64"), "cut at 59 tokens (context)"), (("-n", "59", "-c", "64"), "cut at 59 tokens (context)")],
)  # fmt: skip
def test_stats_say_that_an_answer_was_cut_and_by_what(stories, options, says):
    done = stories.generate(*PROMPT, *GREEDY, *options, "--ignore-eos", "--stats").ok()
    assert says in done.err and "new " not in done.err, f"expected {says!r}\n{done}"


def test_stats_say_nothing_of_a_cut_where_the_text_came_to_its_end(chain):
    done = chain([b"one", b" two"]).generate("-i", "", *GREEDY, "-n", "2", "--stats").ok()
    assert "cut at 2 tokens (-n)" in done.err, done
    done = chain([b"one", b" two"]).generate("-i", "", *GREEDY, "-n", "3", "--stats").ok()
    assert "new 2 tokens" in done.err and "cut" not in done.err, done


def test_stats_of_a_batch_fit_80_columns(tiny, tmp_path):
    (tmp_path / "q").write_text('{"prompt": "the cat", "max_tokens": 9}\n' * 99 + "{\n")
    options = ("-b", tmp_path / "q", "-o", tmp_path / "r", "-s", "18446744073709551615", "--stats", "-j", "2")
    for resume in ((), ("--resume",)):
        done = tiny.generate(*options, *resume)
        line = next(line for line in done.err.splitlines() if line.startswith("requests "))
        assert len(line) <= 80 and line.startswith("requests 100") and "failed 1" in line and "tok/s" in line, done


def test_stats_are_off_where_stderr_is_no_terminal(stories):
    done = stories.generate(*PROMPT, "-n", "20", "-s", "4242").ok()
    assert "4242" not in done.err and "tok/s" not in done.err, done


def test_nothing_is_drawn_where_stderr_is_no_terminal(slow):
    done = slow.generate("-f", "-", "-n", "1", *GREEDY, stdin=b"the rain in the " * 20).ok()
    assert "\r" not in done.err and "\x1b" not in done.err, done


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
    """Standard input is read only if it is not a terminal: generation begins at BOS, or a usage error is printed."""
    code, _, screen = on_terminal(*tiny, "-n", "3", *GREEDY, stdin_too=True)
    assert code in (0, 2), (code, screen)
