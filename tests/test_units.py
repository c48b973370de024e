"""Runs the C unit tests, BUILD_DIR/tests/test_*: one case for each test of each executable."""

import os
import subprocess

import pytest
from conftest import BUILD_DIR, EMULATOR, TESTS, TIMEOUT, execute


def executables():
    return sorted(p for p in (BUILD_DIR / "tests").glob("test_*") if p.is_file() and os.access(p, os.X_OK))


def unit_tests():
    """(executable, name of a test). If an executable cannot list its tests, the name is None and the case fails."""
    cases = []
    for executable in executables():
        listed = subprocess.run([*EMULATOR, executable, "--list"], capture_output=True, text=True, timeout=TIMEOUT)
        names = listed.stdout.split() if listed.returncode == 0 else []
        cases += [pytest.param(executable, name, id=f"{executable.name}-{name}") for name in names or [None]]
    return cases


@pytest.mark.parametrize("executable, name", unit_tests())
def test_unit(executable, name):
    assert name, f"{executable.name} --list names no test"
    done = execute([executable, name], timeout=TIMEOUT)
    assert done.code == 0, f"{done.bytes.decode('utf-8', 'replace')}\n{done.err}"


def test_every_unit_test_source_was_built():
    expected = sorted(p.stem for p in TESTS.glob("test_*.c"))
    assert expected, "tests/ has no test_*.c"
    found = [p.name for p in executables()]
    missing = [name for name in expected if name not in found]
    assert not missing, f"not built into {BUILD_DIR.name}/tests: {missing}"
