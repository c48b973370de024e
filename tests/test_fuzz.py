"""Replays the corpora of the fuzz targets (tests/fuzz/), so that what fuzzing found stays fixed."""

import pytest
from conftest import BUILD_DIR, TESTS, execute

TARGETS = sorted(p.stem for p in (TESTS / "fuzz").glob("fuzz_*.c"))

# At least so many inputs of a target's corpus must get through its parser.
DEEP = {"fuzz_checkpoint": 17, "fuzz_header": 19, "fuzz_llama2c": 13, "fuzz_tokenizer": 30, "fuzz_tokenizer_llama2c": 1,
        "fuzz_gguf": 6, "fuzz_gguf_model": 68, "fuzz_convert": 68,
        "fuzz_json": 3, "fuzz_request": 29, "fuzz_constraint": 20,
        "fuzz_chat": 8, "fuzz_jinja": 25, "fuzz_options": 6, "fuzz_prompt_cache": 9}  # fmt: skip


@pytest.mark.parametrize("target", TARGETS)
def test_corpus_is_replayed_without_a_finding(target):
    inputs = sorted((TESTS / "fuzz" / "corpus" / target).iterdir())
    assert inputs, f"no corpus for {target}"
    done = execute([BUILD_DIR / "tests" / "fuzz" / target, *inputs]).ok()
    assert len(done.err.splitlines()) == len(inputs), f"expected one line an input, {len(inputs)}\n{done}"
    deep = int(done.out.split()[-1])
    assert deep >= DEEP[target], f"expected {DEEP[target]} inputs to get deep\n{done}"
