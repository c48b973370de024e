"""--bench: what it prints, whatever the speed of the machine."""

import pytest
from conftest import assert_refused

TESTS = ["prompt 256", "prompt 480", "decode at depth 480", "decode at depth 0", "batch 8", "batch 16"]


@pytest.fixture(scope="module")
def bench(stories):
    return stories.generate("--bench", "--json", timeout=300).ok().json


def test_bench_measures_each_load_within_the_context(bench):
    assert [r["test"] for r in bench["results"]] == TESTS
    for result in bench["results"]:
        assert result["tokens_per_second"] > 0 and result["share"] > 0, result


def test_bench_measures_the_limits_of_the_machine(bench):
    assert set(bench["limits"]) == {"read_gbs", "int8_gmacs", "f32_gmacs"}
    assert all(value > 0.01 for value in bench["limits"].values()), bench["limits"]


def test_bench_prints_a_table(stories):
    lines = stories.generate("--bench", "-c", "128", timeout=300).ok().out.splitlines()
    assert "memory read" in lines[1]
    assert [line[:22].strip() for line in lines[4:]] == [
        "prompt 96", "prompt 96", "decode at depth 96", "decode at depth 0", "batch 8", "batch 16"
    ]  # fmt: skip


def test_bench_wants_a_context_with_room(stories):
    assert_refused(stories.generate("--bench", "-c", "32"), 3, "--bench", "32", "64")
