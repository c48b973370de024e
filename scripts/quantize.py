"""Converts f32 weights to the weight types of docs/format.md, in two steps:

    blocks(values, type)      (rows, cols) f32 -> (rows, n_blocks, bytes): the quantisation blocks row by row; those of
                              q8, q4 and q4m are GGUF's Q8_0, Q4_0 and Q4_1
    interleave(blocks, type)  -> the order of the file: groups of 16 rows, their values interleaved

A quantisation block of 32 columns has a scale (and minimum) in f16, chosen to minimise the squared error. The search
rounds the values with a few scales near the one at which the largest value just fits; least squares gives the best
scale for each rounding in closed form, and the best of all wins. A scale of q4, whose values range from -8 to 7, may be
negative. The scale is rounded to f16 before the final rounding of the values. If the importance of the columns is known
(importance.py), it weights their squared errors.
"""

import numpy as np

from checkpoint import GROUP_ROWS

BLOCK = 32  # columns of a quantisation block: they share a scale
ROW_BLOCK_BYTES = {"f32": 4, "bf16": 2, "q8": 34, "q4": 18, "q4m": 20}  # of one row
SCALE_BYTES = {"q8": 2, "q4": 2, "q4m": 4}
ZERO_BYTE = {"f32": 0, "bf16": 0, "q8": 0, "q4": 0x88, "q4m": 0}  # a block of zeros has this value after its scales
LARGEST = 65504  # largest value that a block with an f16 scale may hold
AT_ONCE = 1024  # blocks that are searched together; small enough to stay in the processor's cache

# The scales to try, given as the value that the largest weight becomes (for the 4-bit types it may be out of range). The
# choice matters for q8 if the weights lie on a coarse grid because they were quantised to 4 bits before: on SmolLM2, the
# perplexity over six texts rises by 0.39 % with 127 and 126, by 0.31 % with these 16, by 0.33 % with 32 or 96 down to 80.
Q8_STEPS = tuple(127.0 - 1.5 * i for i in range(16))
Q4_STEPS = (-7.25, -7.75, -8.25, -8.75, 7.25, 7.75, 8.25, 8.75)
Q4M_STEPS = (13.5, 14.0, 14.5, 15.0, 15.5, 16.0)
REFITS = 1  # extra roundings with the best scale found so far


def blocks(values, weight_type, importance=None):
    """Quantises values, (rows, cols) f32: finite, and at most LARGEST for a type with f16 scales. importance is (cols,),
    the weight of each column's squared error, or None. Returns u8 (rows, n_blocks, bytes of a row's block)."""
    rows, cols = values.shape
    if weight_type == "f32":
        return values.astype("<f4").view(np.uint8).reshape(rows, cols, 4)
    if weight_type == "bf16":
        return to_bf16(values).view(np.uint8).reshape(rows, cols, 2)
    n_blocks = -(-cols // BLOCK)
    if cols % BLOCK:
        values = np.pad(values, ((0, 0), (0, n_blocks * BLOCK - cols)))
    x = np.ascontiguousarray(values, np.float32).reshape(-1, BLOCK)
    weights = _block_weights(importance, cols, n_blocks)
    out = np.empty((len(x), ROW_BLOCK_BYTES[weight_type]), np.uint8)
    quantize = {"q8": _quantize_q8, "q4": _quantize_q4, "q4m": _quantize_q4m}[weight_type]
    for begin in range(0, len(x), AT_ONCE):
        end = min(begin + AT_ONCE, len(x))
        quantize(x[begin:end], weights[np.arange(begin, end) % n_blocks], out[begin:end])
    return out.reshape(rows, n_blocks, -1)


def _block_weights(importance, cols, n_blocks):
    """(n_blocks, 32) f32 with a mean of one in each block. Padding columns count as much as the average column, so that
    their zeros are kept."""
    weights = np.ones(n_blocks * BLOCK)
    if importance is not None:
        weights[:cols] = importance
        weights[cols:] = weights[:cols].mean()
    weights = weights.reshape(n_blocks, BLOCK)
    mean = weights.mean(axis=1, keepdims=True)
    return np.where(mean > 0, weights / np.where(mean > 0, mean, 1), 1).astype(np.float32)


def to_bf16(values):
    """The upper halves of the bits, rounded half to even. u16."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + (((bits >> 16) & 1) + np.uint32(0x7FFF))) >> 16).astype("<u2")


def _quantize_q8(x, weights, out):
    scale, q = _search(x, weights, Q8_STEPS, -127, 127)
    out[:, :2] = scale.view(np.uint8)
    out[:, 2:] = q.astype(np.int8).view(np.uint8)


def _quantize_q4(x, weights, out):
    scale, q = _search(x, weights, Q4_STEPS, -8, 7)
    out[:, :2] = scale.view(np.uint8)
    out[:, 2:] = _nibbles(q + 8)


def _quantize_q4m(x, weights, out):
    scale, minimum, q = _search_with_minimum(x, weights)
    out[:, :2] = scale.view(np.uint8)
    out[:, 2:4] = minimum.view(np.uint8)
    out[:, 4:] = _nibbles(q)


def _nibbles(q):
    """Packs q, (n, 32) in 0 .. 15: low halves hold the first 16 columns, high halves the last 16."""
    q = q.astype(np.uint8)
    return q[:, :16] | q[:, 16:] << 4


def _f16(values):
    """(n, 1)"""
    return values.astype("<f2").reshape(-1, 1)


def _round(x, scale, low, high, minimum=0.0):
    """The integers in low .. high nearest to (x - minimum) / scale; zeros where the scale is zero."""
    inverse = np.divide(1, scale, out=np.zeros_like(scale, np.float32), where=scale != 0)
    q = (x - minimum) * inverse
    np.rint(q, out=q)
    return np.clip(q, low, high, out=q)


def _dot(a, b):
    """Dot products row by row. (n,)"""
    return np.einsum("ij,ij->i", a, b)


def _search(x, weights, steps, low, high):
    """Scales (n, 1) f16 and values (n, 32) with the least squared error. For a rounding q the best scale is x.q / q.q
    and its error x.x - (x.q)^2 / q.q, with weighted products."""
    n = len(x)
    largest = x[np.arange(n), np.abs(x).argmax(axis=1)]
    weighted = x * weights
    best, best_scale = np.zeros(n, np.float32), np.zeros(n, np.float32)

    def consider(scale):
        q = _round(x, scale[:, None], low, high)
        xq, qq = _dot(weighted, q), _dot(q * weights, q)
        fit = np.divide(xq, qq, out=np.zeros(n, np.float32), where=qq > 0)
        better = xq * fit > best
        best[better] = (xq * fit)[better]
        best_scale[better] = fit[better]

    for step in steps:
        consider(largest / np.float32(step))
    for _ in range(REFITS):
        consider(best_scale)
    scale = _f16(best_scale)
    return scale, _round(x, scale.astype(np.float32), low, high)


def _search_with_minimum(x, weights):
    """Like _search, but for values in 0 .. 15 and weights scale * value + minimum: scale and minimum come from the
    regression of x on q."""
    n = len(x)
    smallest, largest = x.min(axis=1), x.max(axis=1)
    middle, mean = (smallest + largest) / 2, _dot(x, weights) / BLOCK
    centred = (x - mean[:, None]) * weights
    best = np.zeros(n, np.float32)
    best_scale, best_minimum = np.zeros(n, np.float32), mean.copy()

    def consider(scale, minimum):
        q = _round(x, scale[:, None], 0, 15, minimum[:, None])
        mean_q = _dot(q, weights) / BLOCK
        q -= mean_q[:, None]
        xq, qq = _dot(centred, q), _dot(q * weights, q)
        fit = np.divide(xq, qq, out=np.zeros(n, np.float32), where=qq > 0)
        better = xq * fit > best
        best[better] = (xq * fit)[better]
        best_scale[better] = fit[better]
        best_minimum[better] = (mean - fit * mean_q)[better]

    for step in Q4M_STEPS:
        scale = (largest - smallest) / np.float32(step)
        consider(scale, middle - np.float32(7.5) * scale)
    for _ in range(REFITS):
        consider(best_scale, best_minimum)
    scale, minimum = _f16(best_scale), _f16(best_minimum)
    return scale, minimum, _round(x, scale.astype(np.float32), 0, 15, minimum.astype(np.float32))


def interleave(row_blocks, weight_type):
    """The bytes of the file, u8, from the result of blocks() for rows that begin at a multiple of 16."""
    rows, n_blocks, size = row_blocks.shape
    groups = -(-rows // GROUP_ROWS)
    if rows % GROUP_ROWS:
        padding = np.zeros((groups * GROUP_ROWS - rows, n_blocks, size), np.uint8)
        padding[:, :, SCALE_BYTES.get(weight_type, 0) :] = ZERO_BYTE[weight_type]
        row_blocks = np.concatenate((row_blocks, padding))
    grouped = row_blocks.reshape(groups, GROUP_ROWS, n_blocks, size)
    if weight_type in ("f32", "bf16"):
        return _alternate(grouped, size).reshape(-1)
    scales = SCALE_BYTES[weight_type]
    parts = [_alternate(grouped[..., i : i + 2], 2) for i in range(0, scales, 2)]
    values = grouped[..., scales:] ^ np.uint8(0x80 if weight_type == "q8" else 0)  # q8 is stored with 128 added
    parts.append(_alternate(values, 4))
    return np.concatenate(parts, axis=2).reshape(-1)


def _alternate(grouped, size):
    """(groups, 16, n_blocks, n * size) -> (groups, n_blocks, n * 16 * size): interleaves the 16 rows in runs of `size`
    bytes."""
    groups, rows, n_blocks, bytes_ = grouped.shape
    runs = np.ascontiguousarray(grouped).view(f"<u{size}")
    turned = np.ascontiguousarray(runs.reshape(groups, rows, n_blocks, -1).transpose(0, 2, 3, 1))
    return turned.view(np.uint8).reshape(groups, n_blocks, rows * bytes_)
