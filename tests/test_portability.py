"""Machines of another byte order than that of the checkpoints are refused when compiling, and what differs between
operating systems is in base/."""

import re
import subprocess

import pytest
from conftest import ROOT, TIMEOUT
from test_layers import HOUSE

# Names of systems, what only some of them have, and OpenMP, which is missing from some compilers.
SYSTEMS = re.compile(r'\b__(linux|APPLE|FreeBSD)__\b|"/(proc|sys)/|\bMAP_[A-Z]+\b|\bMADV_|_OPENMP\b|\bomp_|pragma omp|'
                     r'\b(mmap|madvise|sysconf|sysctl\w*|getauxval|elf_aux_info|syscall|memfd_create)\s*\(')  # fmt: skip


def compile_for(tmp_path, order):
    """Compiles a file that includes base/memory.h as for a machine of this byte order."""
    source = tmp_path / "any.c"
    source.write_text('#include "base/memory.h"\n')
    command = ["cc", "-std=c11", "-fsyntax-only", "-I", ROOT, "-U__BYTE_ORDER__", f"-D__BYTE_ORDER__={order}", source]
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)


def test_little_endian_machine_is_compiled_for(tmp_path):
    done = compile_for(tmp_path, "__ORDER_LITTLE_ENDIAN__")
    assert done.returncode == 0, f"expected exit 0\n{done.stderr}"


@pytest.mark.parametrize("order", ["__ORDER_BIG_ENDIAN__", "__ORDER_PDP_ENDIAN__"])
def test_machine_of_another_byte_order_is_refused_at_compile_time(tmp_path, order):
    done = compile_for(tmp_path, order)
    assert done.returncode != 0, "expected the compiler to refuse it"
    assert "checkpoints are little-endian" in done.stderr, f"expected the reason\n{done.stderr}"


def test_every_file_that_reads_a_binary_file_includes_the_refusal():
    """Directly or through other headers, so that nothing that reads one in place compiles without it."""
    for source in sorted([*ROOT.glob("formats/*.c"), ROOT / "text/vocabulary.c", ROOT / "batch/prompt_cache.c"]):
        listed = subprocess.run(["cc", "-I.", "-std=c11", "-D_DEFAULT_SOURCE", "-MM", source], cwd=ROOT,
                                capture_output=True, text=True, timeout=TIMEOUT)  # fmt: skip
        assert listed.returncode == 0, listed.stderr
        assert "base/memory.h" in listed.stdout, f"{source.name} does not include base/memory.h"


def test_what_differs_between_systems_is_in_base():
    rooms = {row for row in HOUSE if row.endswith("/")} - {"base/"}
    sources = [path for folder in ["", *sorted(rooms)] for path in sorted(ROOT.glob(f"{folder}*.[ch]"))]
    assert len(sources) > 50, f"found {len(sources)} files"
    for source in sources:
        for number, line in enumerate(source.read_text(encoding="utf-8").splitlines(), 1):
            found = SYSTEMS.search(line)
            assert not found, f"{source.relative_to(ROOT)}:{number}: {found[0]} belongs in base/: {line.strip()}"
