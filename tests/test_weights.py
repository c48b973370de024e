"""Weight types, from the blocks of a GGUF file to the values that the kernels read: bit for bit those of the package
`gguf`, in every kernel set, or as near as the type that holds them allows."""

import numpy as np
import pytest
from conftest import BUILD_DIR, execute

import sources

gguf = pytest.importorskip("gguf")

EXACT = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "Q3_K")


def random_blocks(name, rows, cols, seed=1):
    """u8 (rows, bytes of a row): all bits are random, but scales are finite."""
    kind = gguf.GGMLQuantizationType[name]
    columns, size = gguf.GGML_QUANT_SIZES[kind]
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (rows * (cols // columns), size), np.uint8)
    for at in sources.SCALES.get(name, ()):
        scale = rng.normal(0, 0.01, len(blocks)).astype(np.float16)
        scale[::7] = rng.integers(-1024, 1024, len(scale[::7])) * 2.0**-24  # subnormal
        blocks[:, at : at + 2] = scale.view(np.uint8).reshape(-1, 2)
    if name == "MXFP4":
        blocks[:, 0] = rng.integers(128 - 24, 128 + 16, len(blocks))  # powers that f16 has
    if name in ("F32", "F16", "BF16"):
        values = rng.normal(0, 1, (rows, cols)).astype(np.float16 if name == "F16" else np.float32)
        blocks = (values.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8) if name == "BF16" else values.view(np.uint8)
    return np.ascontiguousarray(blocks).reshape(rows, -1)


def packed(name, blocks, cols, simd="scalar"):
    """f32 (rows, cols) as the kernels read them, and whether all were exact."""
    code = gguf.GGMLQuantizationType[name].value
    done = execute([BUILD_DIR / "tests" / "weights", code, len(blocks), cols, simd], stdin=blocks.tobytes()).ok()
    return np.frombuffer(done.bytes, np.float32).reshape(len(blocks), cols), done.err.strip() == "exact"


def expected(name, blocks):
    return gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType[name])


@pytest.mark.parametrize("name", EXACT)
def test_values_of_a_type_are_those_of_gguf_to_the_bit(name, simd_sets):
    blocks = random_blocks(name, 37, 768)
    want = expected(name, blocks).astype(np.float32)
    for simd in simd_sets:
        found, exact = packed(name, blocks, 768, simd)
        different = [tuple(at) for at in np.argwhere(found.view(np.uint32) != want.view(np.uint32))]
        assert exact
        assert not different, f"{simd}, row and column {different[0]}: {found[different[0]]}, expected {want[different[0]]}"


def test_every_byte_is_a_value_of_q8_0(simd_sets):
    """-128 as well, though llama.cpp writes none."""
    blocks = random_blocks("Q8_0", 32, 256)
    blocks.reshape(32, 8, 34)[:, :, 2:] = np.arange(256, dtype=np.uint8).reshape(8, 32)
    for simd in simd_sets:
        found, exact = packed("Q8_0", blocks, 256, simd)
        assert exact and np.array_equal(found, expected("Q8_0", blocks)), simd


def test_mxfp4_is_exact_where_f16_has_its_scale():
    blocks = random_blocks("MXFP4", 20, 256)
    found, exact = packed("MXFP4", blocks, 256)
    assert exact and np.array_equal(found, expected("MXFP4", blocks))
    blocks[3, 0] = 255  # 2^127
    assert not packed("MXFP4", blocks, 256)[1]


def test_iq4_xs_is_rounded_to_a_scale_in_f16():
    blocks = random_blocks("IQ4_XS", 20, 512)
    found, exact = packed("IQ4_XS", blocks, 512)
    want = expected("IQ4_XS", blocks)
    assert not exact
    assert np.all(np.abs(found - want) <= np.abs(want) * 2.0**-11 + 127 * 2.0**-25)


def test_q2_k_loses_little_in_32_values():
    blocks = random_blocks("Q2_K", 20, 512)
    found, exact = packed("Q2_K", blocks, 512)
    want = expected("Q2_K", blocks)
    span = np.ptp(want.reshape(-1, 32), axis=1).repeat(32).reshape(want.shape)
    assert not exact
    assert np.all(np.abs(found - want) <= span / 31 * 0.51 + np.abs(want).max() * 2.0**-10)


@pytest.mark.parametrize("name", [*EXACT, "MXFP4", "IQ4_XS", "Q2_K"])
def test_any_bytes_can_be_packed(name):
    blocks = np.random.default_rng(5).integers(0, 256, random_blocks(name, 17, 512).shape, np.uint8)
    packed(name, blocks, 512)
    packed(name, np.full_like(blocks, 255), 512)
