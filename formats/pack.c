// pack.c - row-major blocks to the kernels' layout, group by group.
//
// A block of one row is written to its lane of the interleaved block (docs/format.md), whose steps
// pair the columns in the order in which GGUF's blocks have them, so that most bits move in words:
//
//     row 0   | scale | bits of 32 .. 256 columns |            | 16 scales | .. | steps |
//     row 1   | scale | ..                        |    -->     each step has 4 columns of
//     ..                                                       all 16 rows
//     row 15  | scale | ..                        |
//
// Before that, blocks of formats without a kernel are converted to a format with one:
//
//     Q3_K     Q6_K    exact: its scales and values are a subset of Q6_K's
//     MXFP4    Q5_0    a power of two times -12 .. 12: exact if f16 can hold the power
//     IQ4_XS   IQ4_NL  the product of two scales becomes one, rounded to f16
//     Q2_K     Q5_1    two scales and minimums in 32 columns become one of each: rounded
//
// A file is not trusted: any bytes are blocks of some values, and nothing here depends on them being
// sensible. The block layouts are those of GGUF's reference, the Python package gguf.
#include "formats/pack.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"

// --------------------------------------------------------------------------------------------
// Bytes and f16

static uint16_t load_16(const uint8_t *p) { return (uint16_t)(p[0] | p[1] << 8); }

static uint32_t load_32(const uint8_t *p)
{
    uint32_t x;
    memcpy(&x, p, sizeof x);
    return x;
}

static void store_16(uint8_t *p, uint16_t x) { memcpy(p, &x, sizeof x); }

static void store_32(uint8_t *p, uint32_t x) { memcpy(p, &x, sizeof x); }

// Stores the nearest f16 to x; returns whether it equals x.
static bool store_f16(uint8_t *p, float x)
{
    const uint16_t half = f32_to_f16(x);
    store_16(p, half);
    return f16_to_f32(half) == x;
}

// --------------------------------------------------------------------------------------------
// Packing: a block of one row into its lane of an interleaved block
//
// A lane has 4 bytes in each step, moved as a word; steps are 64 bytes apart.

#define STEP_BYTES         (4 * LANES)
#define NIBBLE_STEPS_BYTES (4 * STEP_BYTES)  // of 32 columns
#define LOW_NIBBLES        0x0f0f0f0fu

typedef void PackFunction(const uint8_t *block, uint8_t *out, size_t lane);

// Stores the n numbers in f16 that a block begins with, each beside those of the other lanes.
// Returns where the lane's steps begin.
static uint8_t *pack_scales(const uint8_t *block, size_t n, uint8_t *out, size_t lane)
{
    for (size_t i = 0; i < n; i++) {
        memcpy(out + 2 * (i * LANES + lane), block + 2 * i, 2);
    }
    return out + 2 * n * LANES + 4 * lane;
}

// 16 bytes with two columns each. The steps pair columns i and i + 16 as GGUF does.
static void pack_nibbles(const uint8_t *bytes, uint8_t *steps)
{
    for (size_t i = 0; i < 4; i++) {
        store_32(steps + i * STEP_BYTES, load_32(bytes + 4 * i));
    }
}

static void pack_q4_0(const uint8_t *block, uint8_t *out, size_t lane)
{
    pack_nibbles(block + 2, pack_scales(block, 1, out, lane));
}

static void pack_q4_1(const uint8_t *block, uint8_t *out, size_t lane)
{
    pack_nibbles(block + 4, pack_scales(block, 2, out, lane));
}

// Signed bytes become unsigned ones, 128 more.
static void pack_q8_0(const uint8_t *block, uint8_t *out, size_t lane)
{
    uint8_t *steps = pack_scales(block, 1, out, lane);
    for (size_t i = 0; i < QUANT_BLOCK / 4; i++) {
        store_32(steps + i * STEP_BYTES, load_32(block + 2 + 4 * i) ^ 0x80808080u);
    }
}

// Bit 4 i + k belongs to column 4 i + k and becomes bit i of byte k, so each byte has the bits of 8
// successive steps.
static uint32_t pack_fifth_bits(uint32_t bits)
{
    uint32_t all = 0;
    for (unsigned k = 0; k < 4; k++) {
        uint32_t x = bits >> k & 0x11111111u;
        x = (x | x >> 3) & 0x03030303u;
        x = (x | x >> 6) & 0x000f000fu;
        x = (x | x >> 12) & 0xffu;
        all |= x << 8 * k;
    }
    return all;
}

// The fifth bits stand between the scales and the nibbles; here they follow the steps.
static void pack_5_bits(const uint8_t *block, size_t n_scales, uint8_t *out, size_t lane)
{
    uint8_t *steps = pack_scales(block, n_scales, out, lane);
    pack_nibbles(block + 2 * n_scales + 4, steps);
    store_32(steps + NIBBLE_STEPS_BYTES, pack_fifth_bits(load_32(block + 2 * n_scales)));
}

static void pack_q5_0(const uint8_t *block, uint8_t *out, size_t lane)
{
    pack_5_bits(block, 1, out, lane);
}

static void pack_q5_1(const uint8_t *block, uint8_t *out, size_t lane)
{
    pack_5_bits(block, 2, out, lane);
}

// 32 bytes of a superblock have 32 columns in their low nibbles and 32 others in the high ones.
static void pack_k_nibbles(const uint8_t *bytes, uint8_t *low_steps, uint8_t *high_steps)
{
    for (size_t i = 0; i < 4; i++) {
        const uint32_t left = load_32(bytes + 4 * i), right = load_32(bytes + 4 * i + 16);
        store_32(low_steps + i * STEP_BYTES, (left & LOW_NIBBLES) | (right & LOW_NIBBLES) << 4);
        store_32(high_steps + i * STEP_BYTES, (left >> 4 & LOW_NIBBLES) | (right & ~LOW_NIBBLES));
    }
}

// The bits above the nibbles: of n words, the `width` bits of each byte from `bit` on, behind one
// another.
static uint32_t pack_high_bits(const uint8_t *words, size_t n, unsigned bit, unsigned width)
{
    const uint32_t mask = 0x01010101u * ((1u << width) - 1);
    uint32_t all = 0;
    for (size_t i = 0; i < n; i++) {
        all |= (load_32(words + 4 * i) >> bit & mask) << width * i;
    }
    return all;
}

static void pack_small_scales(const uint8_t *scales, size_t n, uint8_t *out, size_t lane)
{
    for (size_t i = 0; i < n; i++) {
        out[i * LANES + lane] = scales[i];
    }
}

// Of 64 columns, the first 32 are in the low nibbles.
static void pack_q4_k(const uint8_t *block, uint8_t *out, size_t lane)
{
    uint8_t *steps = pack_scales(block, 2, out, lane) + 12 * LANES;
    pack_small_scales(block + 4, 12, out + 4 * LANES, lane);
    for (size_t i = 0; i < SUPERBLOCK / 64; i++, steps += 2 * NIBBLE_STEPS_BYTES) {
        pack_k_nibbles(block + 16 + 32 * i, steps, steps + NIBBLE_STEPS_BYTES);
    }
}

// Bit j of 32 bytes is the fifth bit of 32 columns of the j-th quantisation block.
static void pack_q5_k(const uint8_t *block, uint8_t *out, size_t lane)
{
    const size_t bytes = NIBBLE_STEPS_BYTES + STEP_BYTES;  // of a quantisation block
    uint8_t *steps = pack_scales(block, 2, out, lane) + 12 * LANES;
    pack_small_scales(block + 4, 12, out + 4 * LANES, lane);
    for (unsigned j = 0; j < SUPERBLOCK / QUANT_BLOCK; j++, steps += bytes) {
        if (j % 2 == 0) {
            pack_k_nibbles(block + 48 + 16 * j, steps, steps + bytes);
        }
        store_32(steps + NIBBLE_STEPS_BYTES, pack_high_bits(block + 16, 8, j, 1));
    }
}

// Twice 128 columns: 64 bytes of nibbles (those of the first 64 columns are the low ones), and 32
// bytes with a pair of bits for each of four quantisation blocks.
static void pack_q6_k(const uint8_t *block, uint8_t *out, size_t lane)
{
    const size_t bytes = NIBBLE_STEPS_BYTES + 2 * STEP_BYTES;  // of a quantisation block
    uint8_t *steps = pack_scales(block + 208, 1, out, lane) + 16 * LANES;
    pack_small_scales(block + 192, 16, out + 2 * LANES, lane);
    for (unsigned j = 0; j < SUPERBLOCK / QUANT_BLOCK; j++, steps += bytes) {
        const uint8_t *pairs = block + 128 + j / 4 * 32;
        if (j % 4 < 2) {
            pack_k_nibbles(block + j / 4 * 64 + j % 4 * 32, steps, steps + 2 * bytes);
        }
        for (size_t half = 0; half < 2; half++) {
            store_32(steps + NIBBLE_STEPS_BYTES + half * STEP_BYTES,
                     pack_high_bits(pairs + 16 * half, 4, j % 4 * 2, 2));
        }
    }
}

// --------------------------------------------------------------------------------------------
// Substitutes: blocks of formats without a kernel, converted to a format with one

// Converts a block to the blocks of the other format that hold its columns; returns whether every
// weight keeps its value.
typedef bool SubstituteFunction(const uint8_t *block, uint8_t *out);

// The nibbles and fifth bits of 32 values below 32, as Q5_0 and Q5_1 have them.
static void store_5_bits(const uint8_t *value, uint8_t *bits, uint8_t *nibbles)
{
    uint32_t fifth = 0;
    for (size_t i = 0; i < QUANT_BLOCK; i++) {
        fifth |= (uint32_t)value[i] >> 4 << i;
    }
    store_32(bits, fifth);
    for (size_t i = 0; i < 16; i++) {
        nibbles[i] = (uint8_t)((value[i] & 15) | (value[i + 16] & 15) << 4);
    }
}

// Value i of the 256 of Q2_K and Q3_K that have two bits each: twice 128 columns in 32 bytes.
static int pair_of_bits(const uint8_t *pairs, size_t i)
{
    return pairs[i / 128 * 32 + i % 32] >> i % 128 / 32 * 2 & 3;
}

// Q6_K. A value is two bits, less 4 where a third bit is not set; a scale is 6 bits, less 32.
static bool substitute_q3_k(const uint8_t *block, uint8_t *out)
{
    const uint8_t *third = block, *scales = block + 96;
    memset(out, 0, 192);
    for (size_t i = 0; i < SUPERBLOCK; i++) {
        const int offset = third[i % 32] >> i / 32 & 1 ? 0 : 4;
        const int value = 32 + pair_of_bits(block + 32, i) - offset;
        uint8_t *nibbles = &out[i / 128 * 64 + i % 64], *pairs = &out[128 + i / 128 * 32 + i % 32];
        *nibbles = (uint8_t)(*nibbles | (value & 15) << i % 128 / 64 * 4);
        *pairs = (uint8_t)(*pairs | value >> 4 << i % 128 / 32 * 2);
    }
    for (size_t i = 0; i < 16; i++) {
        const int low = scales[i % 8] >> i / 8 * 4 & 15, high = scales[8 + i % 4] >> i / 4 * 2 & 3;
        out[192 + i] = (uint8_t)((low | high << 4) - 32);
    }
    memcpy(out + 208, block + 108, 2);
    return true;
}

// Q5_0. The scale is a power of two, whose exponent less 128 is stored; the values are those of 4-bit
// floats, doubled.
static bool substitute_mxfp4(const uint8_t *block, uint8_t *out)
{
    static const int8_t doubled[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
    uint8_t value[QUANT_BLOCK];
    for (size_t i = 0; i < QUANT_BLOCK; i++) {
        value[i] = (uint8_t)(16 + doubled[block[1 + i % 16] >> i / 16 * 4 & 15]);
    }
    store_5_bits(value, out + 2, out + 6);
    return store_f16(out, ldexpf(1, block[0] - 128));
}

// IQ4_NL. A superblock has 8 scales of 6 bits, less 32.
static bool substitute_iq4_xs(const uint8_t *block, uint8_t *out)
{
    const float scale = f16_to_f32(load_16(block));
    const unsigned high = load_16(block + 2);
    bool exact = true;
    for (size_t i = 0; i < SUPERBLOCK / QUANT_BLOCK; i++, out += 18) {
        const unsigned low = (unsigned)block[4 + i / 2] >> i % 2 * 4 & 15u;
        const int small = (int)(low | (high >> 2 * i & 3) << 4) - 32;
        exact &= store_f16(out, scale * (float)small);
        memcpy(out + 2, block + 8 + 16 * i, 16);
    }
    return exact;
}

// The integer in 0 .. 31 nearest to x; a NaN becomes 0.
static uint8_t nearest_5_bits(float x) { return x > 0 ? (uint8_t)rintf(fminf(x, 31)) : 0; }

// Approximates QUANT_BLOCK values by a block of Q5_1; returns whether it is exact.
static bool store_q5_1(const float *x, uint8_t *out)
{
    float min = x[0], max = x[0];
    for (size_t i = 1; i < QUANT_BLOCK; i++) {
        min = fminf(min, x[i]);
        max = fmaxf(max, x[i]);
    }
    store_f16(out, (max - min) / 31);
    store_f16(out + 2, min);
    const float scale = f16_to_f32(load_16(out)), minimum = f16_to_f32(load_16(out + 2));
    uint8_t value[QUANT_BLOCK];
    bool exact = true;
    for (size_t i = 0; i < QUANT_BLOCK; i++) {
        value[i] = nearest_5_bits((x[i] - minimum) / scale);
        exact = exact && fmaf(scale, value[i], minimum) == x[i];
    }
    store_5_bits(value, out + 4, out + 8);
    return exact;
}

// Q5_1. A superblock has 16 scales and minimums of 4 bits, each for 16 columns.
static bool substitute_q2_k(const uint8_t *block, uint8_t *out)
{
    const float d = f16_to_f32(load_16(block + 80)), d_minimum = f16_to_f32(load_16(block + 82));
    float x[SUPERBLOCK];
    for (size_t i = 0; i < SUPERBLOCK; i++) {
        const uint8_t both = block[i / 16];
        const float scale = d * (float)(both & 15), minimum = d_minimum * (float)(both >> 4);
        x[i] = scale * (float)pair_of_bits(block + 16, i) - minimum;
    }
    bool exact = true;
    for (size_t i = 0; i < SUPERBLOCK / QUANT_BLOCK; i++) {
        exact &= store_q5_1(x + i * QUANT_BLOCK, out + 24 * i);
    }
    return exact;
}

// --------------------------------------------------------------------------------------------
// Formats

// Name, code in GGUF, columns and bytes of a block, the type it is packed as; how it is packed, or
// becomes blocks of that type's format; then how many numbers in f16 a block has, and where. Formats
// of single values have no functions.
typedef struct {
    RowFormat format;
    PackFunction *pack;
    SubstituteFunction *substitute;
    size_t n_scales, scales[2];
} Format;

static const Format formats[] = {
    {{"F32", 0, 1, 4, WEIGHT_F32}, NULL, NULL, 0, {0}},
    {{"F16", 1, 1, 2, WEIGHT_F16}, NULL, NULL, 0, {0}},
    {{"BF16", 30, 1, 2, WEIGHT_BF16}, NULL, NULL, 0, {0}},
    {{"Q8_0", 8, 32, 34, WEIGHT_Q8}, pack_q8_0, NULL, 1, {0}},
    {{"Q4_0", 2, 32, 18, WEIGHT_Q4}, pack_q4_0, NULL, 1, {0}},
    {{"Q4_1", 3, 32, 20, WEIGHT_Q4M}, pack_q4_1, NULL, 2, {0, 2}},
    {{"IQ4_NL", 20, 32, 18, WEIGHT_Q4T}, pack_q4_0, NULL, 1, {0}},
    {{"Q5_0", 6, 32, 22, WEIGHT_Q5}, pack_q5_0, NULL, 1, {0}},
    {{"Q5_1", 7, 32, 24, WEIGHT_Q5M}, pack_q5_1, NULL, 2, {0, 2}},
    {{"Q4_K", 12, SUPERBLOCK, 144, WEIGHT_Q4K}, pack_q4_k, NULL, 2, {0, 2}},
    {{"Q5_K", 13, SUPERBLOCK, 176, WEIGHT_Q5K}, pack_q5_k, NULL, 2, {0, 2}},
    {{"Q6_K", 14, SUPERBLOCK, 210, WEIGHT_Q6K}, pack_q6_k, NULL, 1, {208}},
    // Substituted, behind the format of the type that holds them.
    {{"Q3_K", 11, SUPERBLOCK, 110, WEIGHT_Q6K}, NULL, substitute_q3_k, 1, {108}},
    {{"MXFP4", 39, 32, 17, WEIGHT_Q5}, NULL, substitute_mxfp4, 0, {0}},
    {{"IQ4_XS", 23, SUPERBLOCK, 136, WEIGHT_Q4T}, NULL, substitute_iq4_xs, 1, {0}},
    {{"Q2_K", 10, SUPERBLOCK, 84, WEIGHT_Q5M}, NULL, substitute_q2_k, 2, {80, 82}},
};

// The largest block is that of Q6_K; what substitutes one takes no more (8 blocks of Q5_1: 192).
#define MOST_BLOCK_BYTES 210

const RowFormat *row_format_find(uint32_t code)
{
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        if (formats[i].format.code == code) {
            return &formats[i].format;
        }
    }
    return NULL;
}

const RowFormat *row_format_of(WeightType type)
{
    const Format *f = formats;
    while (f->format.type != type) {
        f++;
    }
    return &f->format;
}

bool row_format_bytes(const RowFormat *format, size_t cols, size_t *bytes)
{
    size_t padded;
    return size_add(cols, format->block_cols - 1, &padded) &&
           size_mul(padded / format->block_cols, format->block_bytes, bytes);
}

float row_value(const RowFormat *format, const uint8_t *row, size_t col)
{
    const uint8_t *at = row + col * format->block_bytes;
    uint32_t bits = load_16(at);
    if (format->type == WEIGHT_F16) {
        return f16_to_f32((uint16_t)bits);
    }
    bits = format->type == WEIGHT_BF16 ? bits << 16 : bits | (uint32_t)load_16(at + 2) << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static bool is_finite_half(uint16_t half) { return (half & 0x7c00) != 0x7c00; }

// A block of MXFP4 begins with a power of two, of which 255 is no number.
static bool has_finite_scales(const Format *f, const uint8_t *blocks, size_t n)
{
    const size_t bytes = f->format.block_bytes;
    bool finite = true;
    for (size_t i = 0; i < f->n_scales; i++) {
        for (size_t b = 0; b < n; b++) {
            finite &= is_finite_half(load_16(blocks + b * bytes + f->scales[i]));
        }
    }
    for (size_t b = 0; b < n && f->substitute == substitute_mxfp4; b++) {
        finite &= blocks[b * bytes] != 255;
    }
    return finite;
}

// Scales of blocks that are substituted are products, or powers of two: are those of the other
// format in the range of f16?
static bool fits_substitutes(const Format *f, const uint8_t *blocks, size_t n)
{
    const Format *other = (const Format *)row_format_of(f->format.type);
    uint8_t parts[MOST_BLOCK_BYTES];
    bool fits = true;
    for (size_t b = 0; b < n; b++) {
        f->substitute(blocks + b * f->format.block_bytes, parts);
        fits &= has_finite_scales(other, parts, f->format.block_cols / other->format.block_cols);
    }
    return fits;
}

const char *row_format_check(const RowFormat *format, const uint8_t *row, size_t cols)
{
    const Format *f = (const Format *)format;  // its first member
    const size_t n_blocks = (cols + format->block_cols - 1) / format->block_cols;
    if (row_format_is_plain(format)) {
        for (size_t col = 0; col < cols; col++) {
            if (!isfinite(row_value(format, row, col))) {
                return "a value that is not finite";
            }
        }
        return NULL;
    }
    if (!has_finite_scales(f, row, n_blocks)) {
        return "a scale that is not finite";
    }
    if (f->substitute && !fits_substitutes(f, row, n_blocks)) {
        return "a scale above 65504, the largest number in f16, in which it is stored here";
    }
    return NULL;
}

// Single values of 2 or 4 bytes: step i has value i of all rows.
static void pack_values(size_t value_bytes, const void *const rows[LANES], size_t cols,
                        uint8_t *group)
{
    for (size_t lane = 0; lane < LANES; lane++) {
        uint8_t *out = group + lane * value_bytes;
        const uint8_t *row = rows[lane];
        for (size_t i = 0; i < cols; i++, out += LANES * value_bytes) {
            if (value_bytes == sizeof(uint16_t)) {
                memcpy(out, row ? row + i * 2 : (const uint8_t[2]){0}, 2);
            } else {
                memcpy(out, row ? row + i * 4 : (const uint8_t[4]){0}, 4);
            }
        }
    }
}

// A block of padding: scale and minimum 0, and the value that stands for 0 (of IQ4_NL: for 1).
static void padding_block(WeightType type, uint8_t block[MOST_BLOCK_BYTES])
{
    static const struct {
        uint8_t at, n, byte;
    } values[N_WEIGHT_TYPES] = {[WEIGHT_Q4] = {2, 16, 0x88},
                                [WEIGHT_Q4T] = {2, 16, 0x88},
                                [WEIGHT_Q5] = {2, 4, 0xff},
                                [WEIGHT_Q6K] = {128, 64, 0xaa}};
    memset(block, 0, MOST_BLOCK_BYTES);
    memset(block + values[type].at, values[type].byte, values[type].n);
}

// A group of rows while it is packed.
typedef struct {
    const Format *from, *as;  // of the rows, and of the blocks that are packed
    const void *const *rows;  // (LANES), NULL for padding
    size_t parts;             // blocks of `as` that have the columns of a block of `from`
    uint8_t padding[MOST_BLOCK_BYTES];
    bool exact;
} Packing;

// Packs block b of a row into its lane of the interleaved blocks `out`.
static void pack_lane(Packing *p, size_t b, size_t lane, uint8_t *out)
{
    const uint8_t *row = p->rows[lane], *block = p->padding;
    uint8_t substitutes[MOST_BLOCK_BYTES];
    size_t stride = 0;
    if (row) {
        block = row + b * p->from->format.block_bytes;
        stride = p->as->format.block_bytes;
    }
    if (row && p->from->substitute) {
        p->exact &= p->from->substitute(block, substitutes);
        block = substitutes;
    }
    for (size_t k = 0; k < p->parts; k++) {
        p->as->pack(block + k * stride, out + k * weight_types[p->as->format.type].block_bytes,
                    lane);
    }
}

bool weight_pack(const RowFormat *format, const void *const rows[LANES], size_t cols, void *group)
{
    if (row_format_is_plain(format)) {
        pack_values(format->block_bytes, rows, cols, group);
        return true;
    }
    const Format *as = (const Format *)row_format_of(format->type);  // its first member
    Packing p = {.from = (const Format *)format,
                 .as = as,
                 .rows = rows,
                 .parts = format->block_cols / as->format.block_cols,
                 .exact = true};
    padding_block(format->type, p.padding);
    const size_t n_blocks = (cols + format->block_cols - 1) / format->block_cols;
    const size_t bytes = p.parts * weight_types[format->type].block_bytes;
    for (size_t b = 0; b < n_blocks; b++) {
        for (size_t lane = 0; lane < LANES; lane++) {
            pack_lane(&p, b, lane, (uint8_t *)group + b * bytes);
        }
    }
    return p.exact;
}
