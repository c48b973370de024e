"""Replays the corpora of the fuzz targets (tests/fuzz/): what fuzzing found once stays mended."""

import pytest
from conftest import BUILD_DIR, TESTS, execute

TARGETS = sorted(p.stem for p in (TESTS / "fuzz").glob("fuzz_*.c"))


@pytest.mark.parametrize("target", TARGETS)
def test_corpus_is_replayed_without_a_finding(target):
    inputs = sorted((TESTS / "fuzz" / "corpus" / target).iterdir())
    assert inputs, f"no corpus for {target}"
    done = execute([BUILD_DIR / "tests" / "fuzz" / target, *inputs]).ok()
    assert len(done.err.splitlines()) == len(inputs), f"wanted one line an input, {len(inputs)}\n{done}"
