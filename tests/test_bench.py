"""--bench: what it prints, whatever the speed of the machine."""

import re

import pytest
from conftest import assert_refused
from terminal import on_terminal

import manual

LOADS = ["decode at depth 0", "batch 8", "batch 16"]


@pytest.fixture(scope="module")
def ran(stories):
    return stories.generate("--bench", "--json", timeout=300).ok()


@pytest.fixture(scope="module")
def bench(ran):
    return ran.json


@pytest.fixture(scope="module")
def on_screen(stories):
    """(table, what the terminal received) of a run with a short context."""
    code, out, screen = on_terminal(*stories, "--bench", "-c", "128", timeout=300)
    assert code == 0, (out, screen)
    return out, screen


def length(test):
    """The number that ends a test's name."""
    return int(test.split()[-1])


def halved(full, least):
    """What a slow machine makes of a load: `full`, halved some times."""
    while full >= least:
        yield full
        full //= 2


def test_bench_measures_each_load_within_the_context(bench):
    """A slow machine measures shorter prompts, and says so."""
    names = [r["test"] for r in bench["results"]]
    small, large = length(names[0]), length(names[1])
    assert small in halved(256, 16) and large in halved(480, 16), names
    assert names == [f"prompt {small}", f"prompt {large}", f"decode at depth {large}", *LOADS]
    for result in bench["results"]:
        assert result["tokens_per_second"] > 0 and result["share"] > 0, result


def test_json_fields_of_the_manual_are_those_that_are_printed(bench):
    assert set(manual.fields("--bench --json")) == manual.paths(bench)


def test_bench_says_how_much_it_measured(bench):
    small, large, deep, shallow, eight, sixteen = bench["results"]
    for prompt in (small, large):
        assert prompt["tokens"] == length(prompt["test"]), prompt
    for result, sequences in ((deep, 1), (shallow, 1), (eight, 8), (sixteen, 16)):
        assert result["tokens"] in [sequences * steps for steps in halved(32, 1)], result
    assert all(1 <= r["repetitions"] <= 9 for r in bench["results"]), bench["results"]


def test_bench_measures_the_limits_of_the_machine(bench):
    assert set(bench["limits"]) == {"read_gbs", "int8_gmacs", "f32_gmacs"}
    assert all(value > 0.01 for value in bench["limits"].values()), bench["limits"]


def test_bench_prints_a_table(on_screen):
    lines = on_screen[0].splitlines()
    assert "memory read" in lines[1]
    assert re.fullmatch(r"test +tokens +tokens/s +share of limit", lines[3])
    rows = [re.fullmatch(r"(\S.*\S) +(\d+) x (\d) +\d+\.\d +\d+ %", line) for line in lines[4:]]
    assert all(rows) and max(map(len, lines)) <= 80, lines
    assert [row[1].split()[0] for row in rows] == ["prompt", "prompt", "decode", "decode", "batch", "batch"]
    assert all(int(row[2]) == length(row[1].rstrip()) for row in rows[:2]), lines


def test_bench_says_how_far_it_is_on_a_terminal_only(ran, on_screen):
    assert ran.err == ""
    drawn = [line.strip() for line in on_screen[1].split("\r\x1b[K")]
    assert not drawn[-1], drawn
    assert drawn[1] == "measuring the machine's limits"
    for number, name in enumerate(("prompt", "prompt", "decode", "decode", "batch 8", "batch 16"), 1):
        told = [line for line in drawn if line.startswith(f"test {number} of 6: {name}")]
        assert told and all(len(line) < 80 for line in told), drawn
        assert len(told) == 1 or re.search(r", repetition \d; at most \d+ s left$", told[-1]), told


def test_bench_wants_a_context_with_room(stories):
    assert_refused(stories.generate("--bench", "-c", "32"), 3, "--bench", "32", "64")
