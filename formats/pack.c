// pack.c - row-major blocks to the kernels' layout, group by group.
//
// A block of one row is first unpacked: its values as bytes, its scales as they are. Then it is
// written to its lane of the interleaved block (docs/format.md):
//
//     row 0   | scale | bits of 32 .. 256 columns |            | 16 scales | .. | steps |
//     row 1   | scale | ..                        |    -->     each step has 4 columns of
//     ..                                                       all 16 rows
//     row 15  | scale | ..                        |
//
// Between the two, formats that the kernels do not have become ones that they have:
//
//     Q3_K     q6k   the scales and values are among those of q6k: exact
//     MXFP4    q5    powers of two times -12 .. 12: exact if f16 has the power
//     IQ4_XS   q4t   scale times small scale, rounded to f16
//     Q2_K     q5m   two scales and minimums in 32 columns become one of each: rounded
//
// A file is not trusted: any bytes are blocks of some values, and nothing here depends on them being
// sensible. The block layouts are those of GGUF's reference, the Python package gguf.
#include "formats/pack.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"

// A block of one row, unpacked. Which of the scales are used depends on the weight type.
typedef struct {
    uint16_t scale, minimum;    // f16
    uint8_t small[16];          // q4k, q5k: the 12 bytes of packed scales; q6k: 16 int8
    bool exact;                 // the values are those of the file
    uint8_t value[SUPERBLOCK];  // u in the kernels' formulas; of q4t the index
} RowBlock;

// `out` has as many elements as the block makes: 1, or 8 where a superblock becomes blocks of 32.
typedef void UnpackFunction(const uint8_t *block, RowBlock *out);

// --------------------------------------------------------------------------------------------
// Unpacking: the blocks of each format

static uint16_t load_16(const uint8_t *p) { return (uint16_t)(p[0] | p[1] << 8); }

// n bytes with two columns each: `apart` columns lie between them.
static void unpack_nibbles(uint8_t *value, const uint8_t *bytes, size_t n, size_t apart)
{
    for (size_t i = 0; i < n; i++) {
        value[i] = bytes[i] & 15;
        value[i + apart] = bytes[i] >> 4;
    }
}

static void unpack_q8_0(const uint8_t *block, RowBlock *out)
{
    out->scale = load_16(block);
    for (size_t i = 0; i < QUANT_BLOCK; i++) {
        out->value[i] = block[2 + i] ^ 128;  // a signed byte plus 128
    }
}

static void unpack_q4_0(const uint8_t *block, RowBlock *out)
{
    out->scale = load_16(block);
    unpack_nibbles(out->value, block + 2, 16, 16);
}

static void unpack_q4_1(const uint8_t *block, RowBlock *out)
{
    out->scale = load_16(block);
    out->minimum = load_16(block + 2);
    unpack_nibbles(out->value, block + 4, 16, 16);
}

// The fifth bits: bit i of 4 bytes belongs to column i.
static void add_fifth_bits(uint8_t *value, const uint8_t *bits)
{
    for (size_t i = 0; i < QUANT_BLOCK; i++) {
        value[i] = (uint8_t)(value[i] | (bits[i / 8] >> i % 8 & 1) << 4);
    }
}

static void unpack_q5_0(const uint8_t *block, RowBlock *out)
{
    out->scale = load_16(block);
    unpack_nibbles(out->value, block + 6, 16, 16);
    add_fifth_bits(out->value, block + 2);
}

static void unpack_q5_1(const uint8_t *block, RowBlock *out)
{
    out->scale = load_16(block);
    out->minimum = load_16(block + 2);
    unpack_nibbles(out->value, block + 8, 16, 16);
    add_fifth_bits(out->value, block + 4);
}

// Superblocks have 64 columns in each run of 32 bytes: the low nibbles are the first 32 columns.
static void unpack_k_nibbles(RowBlock *out, const uint8_t *nibbles)
{
    for (size_t i = 0; i < SUPERBLOCK / 64; i++) {
        unpack_nibbles(out->value + 64 * i, nibbles + 32 * i, 32, 32);
    }
}

static void unpack_q4_k(const uint8_t *block, RowBlock *out)
{
    out->scale = load_16(block);
    out->minimum = load_16(block + 2);
    memcpy(out->small, block + 4, 12);
    unpack_k_nibbles(out, block + 16);
}

static void unpack_q5_k(const uint8_t *block, RowBlock *out)
{
    out->scale = load_16(block);
    out->minimum = load_16(block + 2);
    memcpy(out->small, block + 4, 12);
    unpack_k_nibbles(out, block + 48);
    for (size_t j = 0; j < SUPERBLOCK / 32; j++) {
        for (size_t i = 0; i < 32; i++) {
            uint8_t *value = &out->value[32 * j + i];
            *value = (uint8_t)(*value | (block[16 + i] >> j & 1) << 4);
        }
    }
}

// Twice 128 columns: 64 bytes of nibbles (low ones first), 32 bytes of four pairs of bits.
static void unpack_q6_k(const uint8_t *block, RowBlock *out)
{
    const uint8_t *nibbles = block, *pairs = block + 128;
    memcpy(out->small, block + 192, 16);
    out->scale = load_16(block + 208);
    for (size_t half = 0; half < 2; half++) {
        uint8_t *value = out->value + 128 * half;
        unpack_nibbles(value, nibbles + 64 * half, 64, 64);
        for (size_t j = 0; j < 4; j++) {
            for (size_t i = 0; i < 32; i++) {
                const int pair = pairs[32 * half + i] >> 2 * j & 3;
                value[32 * j + i] = (uint8_t)(value[32 * j + i] | pair << 4);
            }
        }
    }
}

// Value i of the 256 of Q2_K and Q3_K that have two bits each: twice 128 columns in 32 bytes.
static int pair_of_bits(const uint8_t *pairs, size_t i)
{
    return pairs[i / 128 * 32 + i % 32] >> i % 128 / 32 * 2 & 3;
}

// A value is two bits, less 4 where a third bit is not set; a scale is 6 bits, less 32.
static void unpack_q3_k(const uint8_t *block, RowBlock *out)
{
    const uint8_t *third = block, *pairs = block + 32, *scales = block + 96;
    out->scale = load_16(block + 108);
    for (size_t i = 0; i < 16; i++) {
        const int low = scales[i % 8] >> i / 8 * 4 & 15, high = scales[8 + i % 4] >> i / 4 * 2 & 3;
        out->small[i] = (uint8_t)((low | high << 4) - 32);
    }
    for (size_t i = 0; i < SUPERBLOCK; i++) {
        const int offset = third[i % 32] >> i / 32 & 1 ? 0 : 4;
        out->value[i] = (uint8_t)(32 + pair_of_bits(pairs, i) - offset);
    }
}

// The nearest f16 scale to a value of f32.
static void set_scale(RowBlock *out, float scale)
{
    out->scale = f32_to_f16(scale);
    out->exact = out->exact && f16_to_f32(out->scale) == scale;
}

// The scale is a power of two, whose exponent less 128 is stored; the values are those of 4-bit
// floats, doubled.
static void unpack_mxfp4(const uint8_t *block, RowBlock *out)
{
    static const int8_t doubled[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
    set_scale(out, ldexpf(1, block[0] - 128));
    unpack_nibbles(out->value, block + 1, 16, 16);
    for (size_t i = 0; i < QUANT_BLOCK; i++) {
        out->value[i] = (uint8_t)(16 + doubled[out->value[i]]);
    }
}

// A superblock with 8 scales of 6 bits, less 32.
static void unpack_iq4_xs(const uint8_t *block, RowBlock *out)
{
    const float scale = f16_to_f32(load_16(block));
    const unsigned high = load_16(block + 2);
    for (size_t i = 0; i < SUPERBLOCK / QUANT_BLOCK; i++, out++) {
        const unsigned low = block[4 + i / 2] >> i % 2 * 4 & 15u;
        set_scale(out, scale * (float)((int)(low | (high >> 2 * i & 3) << 4) - 32));
        unpack_nibbles(out->value, block + 8 + 16 * i, 16, 16);
    }
}

// The integer in 0 .. 31 nearest to x; a NaN becomes 0.
static uint8_t nearest_5_bits(float x) { return x > 0 ? (uint8_t)rintf(fminf(x, 31)) : 0; }

// Approximates QUANT_BLOCK values by q5m.
static void set_5_bits(const float *x, RowBlock *out)
{
    float min = x[0], max = x[0];
    for (size_t i = 1; i < QUANT_BLOCK; i++) {
        min = fminf(min, x[i]);
        max = fmaxf(max, x[i]);
    }
    out->scale = f32_to_f16((max - min) / 31);
    out->minimum = f32_to_f16(min);
    const float scale = f16_to_f32(out->scale), minimum = f16_to_f32(out->minimum);
    for (size_t i = 0; i < QUANT_BLOCK; i++) {
        out->value[i] = nearest_5_bits((x[i] - minimum) / scale);
        out->exact = out->exact && fmaf(scale, out->value[i], minimum) == x[i];
    }
}

// A superblock with 16 scales and minimums of 4 bits, each for 16 columns.
static void unpack_q2_k(const uint8_t *block, RowBlock *out)
{
    const float d = f16_to_f32(load_16(block + 80)), d_minimum = f16_to_f32(load_16(block + 82));
    float x[SUPERBLOCK];
    for (size_t i = 0; i < SUPERBLOCK; i++) {
        const uint8_t both = block[i / 16];
        const float scale = d * (float)(both & 15), minimum = d_minimum * (float)(both >> 4);
        x[i] = scale * (float)pair_of_bits(block + 16, i) - minimum;
    }
    for (size_t i = 0; i < SUPERBLOCK / QUANT_BLOCK; i++) {
        set_5_bits(x + i * QUANT_BLOCK, &out[i]);
    }
}

// --------------------------------------------------------------------------------------------
// Packing: a lane of an interleaved block

static uint32_t load_32(const uint8_t *p)
{
    uint32_t x;
    memcpy(&x, p, sizeof x);
    return x;
}

static void store_32(uint8_t *p, uint32_t x) { memcpy(p, &x, sizeof x); }

// The low nibbles of 32 columns, in 4 steps of two nibbles: 4 columns at a time.
static void pack_nibbles(uint8_t *steps, const uint8_t *value)
{
    for (size_t i = 0; i < 4; i++) {
        const uint32_t low = load_32(value + 4 * i), high = load_32(value + 4 * i + 16);
        store_32(steps + 64 * i, (low & 0x0f0f0f0f) | (high & 0x0f0f0f0f) << 4);
    }
}

// The bits above the nibbles of n steps, `width` bits each, behind one another in 4 bytes.
static void pack_high_bits(uint8_t *bytes, const uint8_t *value, size_t n, unsigned width)
{
    const uint32_t mask = 0x01010101u * ((1u << width) - 1);
    uint32_t all = 0;
    for (size_t i = 0; i < n; i++) {
        all |= (load_32(value + 4 * i) >> 4 & mask) << width * i;
    }
    store_32(bytes, all);
}

static void pack_bytes(uint8_t *steps, const uint8_t *value)
{
    for (size_t i = 0; i < QUANT_BLOCK / 4; i++) {
        store_32(steps + 64 * i, load_32(value + 4 * i));
    }
}

#define STEPS_BYTES (LANES * QUANT_BLOCK / 2)  // of a block's nibbles

static void pack_f16(uint8_t *values, size_t lane, uint16_t value)
{
    memcpy(values + lane * sizeof value, &value, sizeof value);
}

// One row of a block with a scale in f16, and perhaps a minimum.
static void pack_flat(WeightType type, uint8_t *out, size_t lane, const RowBlock *row)
{
    const bool minimum = type == WEIGHT_Q4M || type == WEIGHT_Q5M;
    uint8_t *steps = out + (minimum ? 4 : 2) * LANES;
    pack_f16(out, lane, row->scale);
    if (minimum) {
        pack_f16(out + 2 * LANES, lane, row->minimum);
    }
    if (type == WEIGHT_Q8) {
        pack_bytes(steps + 4 * lane, row->value);
        return;
    }
    pack_nibbles(steps + 4 * lane, row->value);
    if (type == WEIGHT_Q5 || type == WEIGHT_Q5M) {
        pack_high_bits(steps + STEPS_BYTES + 4 * lane, row->value, 8, 1);
    }
}

// One row of a superblock.
static void pack_superblock(WeightType type, uint8_t *out, size_t lane, const RowBlock *row)
{
    const bool q6k = type == WEIGHT_Q6K;
    const size_t n_small = q6k ? 16 : 12;
    pack_f16(out, lane, row->scale);
    out += 2 * LANES;
    if (!q6k) {
        pack_f16(out, lane, row->minimum);
        out += 2 * LANES;
    }
    for (size_t i = 0; i < n_small; i++) {
        out[i * LANES + lane] = row->small[i];
    }
    out += n_small * LANES + 4 * lane;
    for (size_t i = 0; i < SUPERBLOCK; i += QUANT_BLOCK) {
        pack_nibbles(out, row->value + i);
        out += STEPS_BYTES;
        for (size_t half = 0; half < 2 && q6k; half++) {
            pack_high_bits(out, row->value + i + 16 * half, 4, 2);
            out += 4 * LANES;
        }
        if (type == WEIGHT_Q5K) {
            pack_high_bits(out, row->value + i, 8, 1);
            out += 4 * LANES;
        }
    }
}

static void pack_block(WeightType type, uint8_t *out, size_t lane, const RowBlock *row)
{
    (weight_types[type].block_cols == SUPERBLOCK ? pack_superblock : pack_flat)(type, out, lane,
                                                                                row);
}

// --------------------------------------------------------------------------------------------
// Formats

// Name, code in GGUF, columns and bytes of a block, the type it is packed as, and how; then how many
// numbers in f16 a block has, and where. Formats of single values are not unpacked.
typedef struct {
    RowFormat format;
    UnpackFunction *unpack;
    size_t n_scales, scales[2];
} Format;

static const Format formats[] = {
    {{"F32", 0, 1, 4, WEIGHT_F32}, NULL, 0, {0}},
    {{"F16", 1, 1, 2, WEIGHT_F16}, NULL, 0, {0}},
    {{"BF16", 30, 1, 2, WEIGHT_BF16}, NULL, 0, {0}},
    {{"Q8_0", 8, 32, 34, WEIGHT_Q8}, unpack_q8_0, 1, {0}},
    {{"Q4_0", 2, 32, 18, WEIGHT_Q4}, unpack_q4_0, 1, {0}},
    {{"Q4_1", 3, 32, 20, WEIGHT_Q4M}, unpack_q4_1, 2, {0, 2}},
    {{"IQ4_NL", 20, 32, 18, WEIGHT_Q4T}, unpack_q4_0, 1, {0}},
    {{"Q5_0", 6, 32, 22, WEIGHT_Q5}, unpack_q5_0, 1, {0}},
    {{"Q5_1", 7, 32, 24, WEIGHT_Q5M}, unpack_q5_1, 2, {0, 2}},
    {{"Q4_K", 12, SUPERBLOCK, 144, WEIGHT_Q4K}, unpack_q4_k, 2, {0, 2}},
    {{"Q5_K", 13, SUPERBLOCK, 176, WEIGHT_Q5K}, unpack_q5_k, 2, {0, 2}},
    {{"Q6_K", 14, SUPERBLOCK, 210, WEIGHT_Q6K}, unpack_q6_k, 1, {208}},
    // Those that become another type, behind the format of that type.
    {{"Q3_K", 11, SUPERBLOCK, 110, WEIGHT_Q6K}, unpack_q3_k, 1, {108}},
    {{"MXFP4", 39, 32, 17, WEIGHT_Q5}, unpack_mxfp4, 0, {0}},
    {{"IQ4_XS", 23, SUPERBLOCK, 136, WEIGHT_Q4T}, unpack_iq4_xs, 1, {0}},
    {{"Q2_K", 10, SUPERBLOCK, 84, WEIGHT_Q5M}, unpack_q2_k, 2, {80, 82}},
};

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
static bool has_finite_scales(const Format *f, const uint8_t *block)
{
    bool finite = f->unpack != unpack_mxfp4 || *block != 255;
    for (size_t i = 0; i < f->n_scales; i++) {
        finite &= is_finite_half(load_16(block + f->scales[i]));
    }
    return finite;
}

// Formats that become another one have scales that are products, or powers of two: are those of the
// other one in the range of f16?
static bool fits_other_format(const Format *f, const uint8_t *block)
{
    RowBlock parts[SUPERBLOCK / QUANT_BLOCK] = {0};
    bool fits = true;
    f->unpack(block, parts);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        fits &= is_finite_half(parts[i].scale) && is_finite_half(parts[i].minimum);
    }
    return fits;
}

const char *row_format_check(const RowFormat *format, const uint8_t *row, size_t cols)
{
    const Format *f = (const Format *)format;  // its first member
    const bool becomes_other = f->unpack && row_format_of(format->type) != format;
    for (size_t col = 0; col < cols; col += format->block_cols, row += format->block_bytes) {
        if (!f->unpack && !isfinite(row_value(format, row, 0))) {
            return "a value that is not finite";
        }
        if (f->unpack && !has_finite_scales(f, row)) {
            return "a scale that is not finite";
        }
        if (becomes_other && !fits_other_format(f, row)) {
            return "a scale above 65504, the largest number in f16, in which it is stored here";
        }
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

// A block of padding: scale and minimum 0, and the value that stands for 0 (of q4t: for 1).
static RowBlock padding_block(WeightType type)
{
    static const uint8_t zero[N_WEIGHT_TYPES] = {
        [WEIGHT_Q8] = 128, [WEIGHT_Q4] = 8, [WEIGHT_Q4T] = 8, [WEIGHT_Q5] = 16, [WEIGHT_Q6K] = 32};
    RowBlock block = {.exact = true};
    memset(block.value, zero[type], sizeof block.value);
    return block;
}

// Unpacks block b of a row, or makes a block of padding if there is no row.
static void unpack_block(const Format *f, const uint8_t *row, size_t b, size_t n_parts,
                         RowBlock *parts)
{
    for (size_t k = 0; k < n_parts; k++) {
        if (row) {
            parts[k].exact = true;
        } else {
            parts[k] = padding_block(f->format.type);
        }
    }
    if (row) {
        f->unpack(row + b * f->format.block_bytes, parts);
    }
}

bool weight_pack(const RowFormat *format, const void *const rows[LANES], size_t cols, void *group)
{
    const Format *f = (const Format *)format;  // its first member
    if (!f->unpack) {
        pack_values(format->block_bytes, rows, cols, group);
        return true;
    }
    const WeightTypeInfo *info = &weight_types[format->type];
    const size_t n_blocks = (cols + format->block_cols - 1) / format->block_cols;
    const size_t n_parts = format->block_cols / info->block_cols;
    RowBlock parts[SUPERBLOCK / QUANT_BLOCK];
    uint8_t *out = group;
    bool exact = true;
    for (size_t b = 0; b < n_blocks; b++, out += n_parts * info->block_bytes) {
        for (size_t lane = 0; lane < LANES; lane++) {
            unpack_block(f, rows[lane], b, n_parts, parts);
            for (size_t k = 0; k < n_parts; k++) {
                pack_block(format->type, out + k * info->block_bytes, lane, &parts[k]);
                exact = exact && parts[k].exact;
            }
        }
    }
    return exact;
}
