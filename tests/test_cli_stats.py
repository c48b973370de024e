"""--stats, -q, and what is drawn on a terminal."""

import re

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
