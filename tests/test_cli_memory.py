"""Memory as valgrind sees it."""

import shutil

import pytest
from conftest import EXECUTABLE, SANITIZED, execute


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
