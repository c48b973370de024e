"""How the executable is compiled and linked so that a bug is harder to exploit (SECURITY.md)."""

import shutil
import subprocess

import pytest
from conftest import EXECUTABLE, SANITIZED, TIMEOUT


def readelf(option):
    if not shutil.which("readelf"):
        pytest.skip("readelf is absent")
    done = subprocess.run(["readelf", "-W", option, EXECUTABLE], capture_output=True, text=True, timeout=TIMEOUT)
    if done.returncode != 0:
        pytest.skip("the executable is no ELF file")
    return done.stdout


def test_executable_is_loaded_at_a_random_address():
    header, dynamic = readelf("-h"), readelf("-d")
    if "NEEDED" not in dynamic:
        pytest.skip("the executable is static")
    assert "DYN" in header, f"expected a position-independent executable\n{header}"


def test_relocations_are_read_only_once_it_runs():
    segments, dynamic = readelf("-l"), readelf("-d")
    assert "GNU_RELRO" in segments, f"expected a segment GNU_RELRO\n{segments}"
    assert "BIND_NOW" in dynamic or "NOW" in dynamic, f"expected all symbols bound at start\n{dynamic}"


def test_stack_is_not_executable_and_no_segment_is_writable_and_executable():
    segments = readelf("-l")
    flags = [line.split()[6:-1] for line in segments.splitlines() if line.split()[:1] in (["LOAD"], ["GNU_STACK"])]
    assert flags, f"expected segments to look at\n{segments}"
    assert not any("W" in "".join(f) and "E" in "".join(f) for f in flags), f"a segment is both\n{segments}"


def test_functions_with_arrays_check_their_stack():
    assert "__stack_chk_fail" in readelf("-s"), "expected calls of __stack_chk_fail: -fstack-protector-strong"


def test_library_calls_are_bounded_in_a_release():
    symbols = readelf("-s")
    if SANITIZED or "GLIBC" not in symbols:
        pytest.skip("only glibc's calls in a release are bounded")
    assert "_chk@GLIBC" in symbols.replace("__stack_chk_fail", ""), "expected calls such as __memcpy_chk: _FORTIFY_SOURCE"
