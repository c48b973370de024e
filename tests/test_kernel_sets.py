"""Kernel sets: which instructions each is made of, and which set a processor gets.

The instructions are read from a file of a few lines that includes a set's header, compiled for its architecture. Which set
is picked depends on the processor, so that is tested on emulated ones (make test-aarch64)."""

import platform
import re
import shutil
import subprocess

import pytest
from conftest import EMULATOR, ROOT, TIMEOUT, run

PROBE = """\
#include "simd/{set}.h"
void probe(float *out, const uint8_t *w, const int8_t *x);
void probe(float *out, const uint8_t *w, const int8_t *x)
{{
    NibbleSum nibbles = nibble_begin(0);
    ByteSum bytes = byte_begin(0);
    for (size_t i = 0; i < 100; i++) {{
        nibbles = nibble_add(nibbles, vb_load(w + 64 * i), (ActivationStep){{x, 3}});
        bytes = byte_add(bytes, vb_load(w + 64 * i), (ActivationStep){{x, 2}});
    }}
    v_store(out, v_add(nibble_end(nibbles, 0), byte_end(bytes)));
}}
"""

X86 = ("" if platform.machine() in ("x86_64", "AMD64") else "x86_64-linux-gnu-")
ARM = ("" if platform.machine() in ("aarch64", "arm64") else "aarch64-linux-gnu-")

# Tools, flags, and the instructions that must occur: mask and value of a word on AArch64, the first byte on x86-64 (c4 begins
# a VEX prefix, 62 an EVEX prefix, which only AVX-512 has).
SETS = {
    "avxvnni": (X86, "-mavx2 -mfma -mf16c -mavxvnni", {"vpdpbusd": r"c4 "}),
    "avx512": (X86, "-mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni", {"vpdpbusd": r"62 "}),
    "dotprod": (ARM, "-march=armv8.2-a+dotprod", {"sdot": (0xFFC0F400, 0x4F80E000)}),
    "i8mm": (ARM, "-march=armv8.2-a+dotprod+i8mm", {"sdot": (0xFFC0F400, 0x4F80E000), "usdot": (0xFFC0F400, 0x4F80F000)}),
}


def disassemble(tmp_path, name):
    """The instructions of a set's probe: (bytes, mnemonic)."""
    tools, flags, _ = SETS[name]
    if not shutil.which(tools + "gcc") or not shutil.which(tools + "objdump"):
        pytest.skip(f"{tools}gcc or {tools}objdump is absent")
    source, compiled = tmp_path / "probe.c", tmp_path / "probe.o"
    source.write_text(PROBE.format(set=name))
    done = subprocess.run([tools + "gcc", "-std=c11", "-O2", "-I", ROOT, *flags.split(), "-c", source, "-o", compiled],
                          capture_output=True, text=True, timeout=TIMEOUT)  # fmt: skip
    if done.returncode != 0 and "unrecognized" in done.stderr + done.stdout:
        pytest.skip(f"{tools}gcc is too old for {flags}")
    assert done.returncode == 0, done.stderr
    listing = subprocess.run([tools + "objdump", "-d", compiled], capture_output=True, text=True, timeout=TIMEOUT).stdout
    return re.findall(r"^\s+[0-9a-f]+:\s+((?:[0-9a-f]{2} )+|[0-9a-f]{8} )\s*(?:\{\w+\} )?(\w+)", listing, re.MULTILINE)


@pytest.mark.parametrize("name", SETS)
def test_set_uses_the_dot_product_that_it_is_named_after(tmp_path, name):
    code = disassemble(tmp_path, name)
    for mnemonic, expected in SETS[name][2].items():
        found = [raw for raw, what in code if what == mnemonic]
        assert found, f"expected {mnemonic} among {sorted({what for _, what in code})}"
        for raw in found:
            matches = raw.startswith(expected) if isinstance(expected, str) else int(raw, 16) & expected[0] == expected[1]
            assert matches, f"{mnemonic} is encoded as {raw}, expected {expected}"


def test_avxvnni_has_no_instruction_of_avx512(tmp_path):
    evex = [(raw, what) for raw, what in disassemble(tmp_path, "avxvnni") if raw.startswith("62 ")]
    assert not evex, f"expected VEX encodings only, found {evex}"


# Processors as qemu names them, and the best set of each.
BEST = {"cortex-a53": "neon", "cortex-a72": "neon", "neoverse-n1": "dotprod", "cortex-a76": "dotprod", "max": "i8mm"}


@pytest.mark.skipif("aarch64" not in str(EMULATOR), reason="only make test-aarch64 can choose the processor")
@pytest.mark.parametrize("cpu", BEST)
def test_the_best_set_of_the_processor_is_picked(cpu):
    done = run("--version", env={"QEMU_CPU": cpu}).ok()
    assert f"(kernels: {BEST[cpu]})" in done.out, done.out
