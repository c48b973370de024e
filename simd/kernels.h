// kernels.h - every kernel, written once over the 16 lanes that the including file chose. See
// simd.h for what each computes and for the layouts. The order of the operations here is the
// canonical order: a change changes the output.
#include <float.h>
#include <math.h>
#include <string.h>

#include "simd/simd.h"

#if defined(UNROLL)
#elif defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif
#define INLINE static inline __attribute__((always_inline))

INLINE size_t min_size(size_t a, size_t b) { return a < b ? a : b; }
INLINE size_t max_size(size_t a, size_t b) { return a > b ? a : b; }

// e^x to about 1 ulp: x = n ln 2 + r, |r| <= ln 2 / 2, e^r by its Taylor series (the first term
// left out is below 2^-27 of the sum). Below -87.33, where the result would be subnormal, it is
// zero, and from 88.38 on infinity; a NaN stays one.
INLINE V v_exp(V x)
{
    V y = v_max(v_set1(-87.33654f), v_min(v_set1(88.8f), x));  // operand order lets a NaN through
    V n = v_round(v_mul(y, v_set1(1.442695041f)));
    V r = v_fma(n, v_set1(-0x1.62e4p-1f),
                y);  // ln 2 in two parts, the first short enough for n times it to be exact
    r = v_fma(n, v_set1(-0x1.7f7d1cp-20f), r);
    V p = v_set1(1.0f / 5040);
    p = v_fma(p, r, v_set1(1.0f / 720));
    p = v_fma(p, r, v_set1(1.0f / 120));
    p = v_fma(p, r, v_set1(1.0f / 24));
    p = v_fma(p, r, v_set1(1.0f / 6));
    p = v_fma(p, r, v_set1(0.5f));
    p = v_fma(p, r, v_set1(1.0f));
    p = v_fma(p, r, v_set1(1.0f));
    return v_zero_where_less(x, v_set1(-87.33654f), v_mul(p, v_pow2(n)));
}

// --------------------------------------------------------------------------------------------
// Matrix products: a tile of `rows` activations by `groups` groups of 16 outputs, all sums in
// registers

// Weights come from memory sooner where they are asked for twice: far ahead for the second-level
// cache, which has room for more requests under way, then for the first.
//     GB/s, one row, one core that reads 16.7: q4 without 11.8, at 4 KB 13.7, at 16 and 4 KB 15.9
#define PREFETCH_BYTES     4096
#define PREFETCH_FAR_BYTES 16384

// Asks for what comes that far after p .. p + bytes - 1. It may lie past the end of everything,
// where no pointer may point: hence the integers.
INLINE void prefetch(const void *p, size_t bytes)
{
    for (uintptr_t line = (uintptr_t)p; line < (uintptr_t)p + bytes; line += 64) {
        __builtin_prefetch((const void *)(line + PREFETCH_BYTES));
        __builtin_prefetch((const void *)(line + PREFETCH_FAR_BYTES), 0, 2);
    }
}

// What a tile asks for beside what it computes, a little with every FETCH_COLS columns: many
// requests at once would keep its own loads waiting. `bytes` of each of its groups, `stride` bytes
// apart, at the addresses from `next` on.
#define FETCH_COLS 16
typedef enum { FETCH_NOTHING, FETCH_NEXT, FETCH_OWN } FetchWhat;
typedef struct {
    uintptr_t next;
    size_t stride, bytes;
} Fetch;

// T and G are constants wherever this is inlined. `w` points to the first group's first step, `x`
// to the first input.
#define DEFINE_TILE(name, type, load, what)                                                        \
    INLINE void name(const size_t T, const size_t G, float *out, size_t out_stride, const type *w, \
                     size_t group_stride, const float *x, size_t x_stride, size_t n_cols,          \
                     bool add, Fetch fetch)                                                        \
    {                                                                                              \
        V sum[TILE_ROWS][4];                                                                       \
        UNROLL                                                                                     \
        for (size_t t = 0; t < T; t++) {                                                           \
            UNROLL                                                                                 \
            for (size_t g = 0; g < G; g++) {                                                       \
                sum[t][g] = add ? v_load(out + t * out_stride + g * LANES) : v_zero();             \
            }                                                                                      \
        }                                                                                          \
        for (size_t i = 0; i < n_cols;) {                                                          \
            for (size_t b = 0; what == FETCH_NEXT && b < fetch.bytes; b += 64) {                   \
                for (size_t g = 0; g < G; g++) {                                                   \
                    __builtin_prefetch((const void *)(fetch.next + g * fetch.stride + b));         \
                }                                                                                  \
            }                                                                                      \
            fetch.next += fetch.bytes;                                                             \
            const size_t part = what == FETCH_NEXT ? min_size(n_cols - i, FETCH_COLS) : n_cols;    \
            for (const size_t end = i + part; i < end; i++) {                                      \
                V weight[4];                                                                       \
                UNROLL                                                                             \
                for (size_t g = 0; g < G; g++) {                                                   \
                    weight[g] = load(w + g * group_stride + i * LANES);                            \
                    if (what == FETCH_OWN && i * LANES * sizeof *w % 64 == 0) {                    \
                        prefetch(w + g * group_stride + i * LANES, 64);                            \
                    }                                                                              \
                }                                                                                  \
                UNROLL                                                                             \
                for (size_t t = 0; t < T; t++) {                                                   \
                    V activation = v_set1(x[t * x_stride + i]);                                    \
                    UNROLL                                                                         \
                    for (size_t g = 0; g < G; g++) {                                               \
                        sum[t][g] = v_fma(weight[g], activation, sum[t][g]);                       \
                    }                                                                              \
                }                                                                                  \
            }                                                                                      \
        }                                                                                          \
        UNROLL                                                                                     \
        for (size_t t = 0; t < T; t++) {                                                           \
            UNROLL                                                                                 \
            for (size_t g = 0; g < G; g++) {                                                       \
                v_store(out + t * out_stride + g * LANES, sum[t][g]);                              \
            }                                                                                      \
        }                                                                                          \
    }                                                                                              \
    /* Any number of groups for T rows, the widest tiles first. */                                 \
    INLINE void name##_groups(const size_t T, float *out, size_t out_stride, const type *w,        \
                              size_t group_stride, size_t n_groups, const float *x,                \
                              size_t x_stride, size_t n_cols, bool add, Fetch fetch)               \
    {                                                                                              \
        const size_t G = TILE_GROUPS(T);                                                           \
        size_t g = 0;                                                                              \
        for (; g + G <= n_groups; g += G) {                                                        \
            name(T, G, out + g * LANES, out_stride, w + g * group_stride, group_stride, x,         \
                 x_stride, n_cols, add, fetch);                                                    \
        }                                                                                          \
        if (G > 2 && g + 2 <= n_groups) {                                                          \
            name(T, 2, out + g * LANES, out_stride, w + g * group_stride, group_stride, x,         \
                 x_stride, n_cols, add, fetch);                                                    \
            g += 2;                                                                                \
        }                                                                                          \
        for (; g < n_groups; g++) {                                                                \
            name(T, 1, out + g * LANES, out_stride, w + g * group_stride, group_stride, x,         \
                 x_stride, n_cols, add, fetch);                                                    \
        }                                                                                          \
    }                                                                                              \
    /* Any number of rows up to TILE_ROWS. */                                                      \
    static void name##_rows(size_t n_rows, float *out, size_t out_stride, const type *w,           \
                            size_t group_stride, size_t n_groups, const float *x, size_t x_stride, \
                            size_t n_cols, bool add, Fetch fetch)                                  \
    {                                                                                              \
        switch (n_rows) {                                                                          \
            ROWS_CASES(TILE_ROWS, name##_groups, out, out_stride, w, group_stride, n_groups, x,    \
                       x_stride, n_cols, add, fetch)                                               \
        }                                                                                          \
    }

// case 1: f(1, ..); break; case 2: .. up to n, which is 4, 6 or 12
#define ROWS_CASE(f, T, ...) \
    case T:                  \
        f(T, __VA_ARGS__);   \
        break;
#define ROWS_CASES_4(f, ...)     \
    ROWS_CASE(f, 1, __VA_ARGS__) \
    ROWS_CASE(f, 2, __VA_ARGS__) \
    ROWS_CASE(f, 3, __VA_ARGS__) \
    ROWS_CASE(f, 4, __VA_ARGS__)
#define ROWS_CASES_6(f, ...)     \
    ROWS_CASES_4(f, __VA_ARGS__) \
    ROWS_CASE(f, 5, __VA_ARGS__) \
    ROWS_CASE(f, 6, __VA_ARGS__)
#define ROWS_CASES_12(f, ...)     \
    ROWS_CASES_6(f, __VA_ARGS__)  \
    ROWS_CASE(f, 7, __VA_ARGS__)  \
    ROWS_CASE(f, 8, __VA_ARGS__)  \
    ROWS_CASE(f, 9, __VA_ARGS__)  \
    ROWS_CASE(f, 10, __VA_ARGS__) \
    ROWS_CASE(f, 11, __VA_ARGS__) \
    ROWS_CASE(f, 12, __VA_ARGS__)
#define ROWS_CASES_OF(n, ...) ROWS_CASES_##n(__VA_ARGS__)
#define ROWS_CASES(n, ...)    ROWS_CASES_OF(n, __VA_ARGS__)

// FETCH_OWN: weights that are passed over once; FETCH_NEXT: what the caller says.
DEFINE_TILE(tile_f32, float, v_load, FETCH_NEXT)
DEFINE_TILE(tile_f32_once, float, v_load, FETCH_OWN)
DEFINE_TILE(tile_f16, uint16_t, v_load_f16, FETCH_NOTHING)
DEFINE_TILE(tile_bf16, uint16_t, v_load_bf16, FETCH_NEXT)
DEFINE_TILE(tile_bf16_once, uint16_t, v_load_bf16, FETCH_OWN)

// Inputs of a panel of weights that stays in the first-level cache while all rows pass over it. The
// next panel is fetched meanwhile, a share of it by each tile of rows.
#define PANEL_COLS 192

#define DEFINE_MATMUL(name, tile, type)                                                          \
    static void name(const Matmul *m)                                                            \
    {                                                                                            \
        const type *w = m->w;                                                                    \
        const size_t group_stride = m->n_cols * LANES, stride = m->in->stride;                   \
        if (m->n_rows <= TILE_ROWS) { /* one pass over the weights */                            \
            tile##_once_rows(m->n_rows, m->out + m->group_begin * LANES, m->out_stride,          \
                             w + m->group_begin * group_stride, group_stride,                    \
                             m->group_end - m->group_begin, m->in->x, stride, m->n_cols, m->add, \
                             (Fetch){0});                                                        \
            return;                                                                              \
        }                                                                                        \
        const size_t G = TILE_GROUPS(TILE_ROWS);                                                 \
        const size_t n_tiles = (m->n_rows + TILE_ROWS - 1) / TILE_ROWS;                          \
        const size_t tile_rows = (m->n_rows + n_tiles - 1) / n_tiles;                            \
        Fetch fetch = {.stride = group_stride * sizeof *w,                                       \
                       .bytes = FETCH_COLS * LANES * sizeof *w / n_tiles};                       \
        for (size_t col = 0; col < m->n_cols; col += PANEL_COLS) {                               \
            const size_t n_cols = min_size(m->n_cols - col, PANEL_COLS);                         \
            for (size_t g = m->group_begin; g < m->group_end; g += G) {                          \
                const size_t n_groups = min_size(m->group_end - g, G);                           \
                const bool last = g + G >= m->group_end;                                         \
                const size_t next_group = last ? m->group_begin : g + G;                         \
                const size_t next_col = last ? col + PANEL_COLS : col;                           \
                fetch.next = (uintptr_t)w +                                                      \
                             (next_group * group_stride + next_col * LANES) * sizeof *w;         \
                for (size_t r = 0, n; r < m->n_rows; r += n) {                                   \
                    n = min_size(m->n_rows - r, tile_rows);                                      \
                    tile##_rows(n, m->out + r * m->out_stride + g * LANES, m->out_stride,        \
                                w + g * group_stride + col * LANES, group_stride, n_groups,      \
                                m->in->x + r * stride + col, stride, n_cols, m->add || col > 0,  \
                                fetch);                                                          \
                    fetch.next += PANEL_COLS / FETCH_COLS * fetch.bytes;                         \
                }                                                                                \
            }                                                                                    \
        }                                                                                        \
    }

DEFINE_MATMUL(matmul_f32, tile_f32, float)
DEFINE_MATMUL(matmul_bf16, tile_bf16, uint16_t)

static void row_f32(float *out, const void *w, size_t n_cols, size_t row)
{
    const float *group = (const float *)w + row / LANES * LANES * n_cols;
    for (size_t i = 0; i < n_cols; i++) {
        out[i] = group[i * LANES + row % LANES];
    }
}

static void row_bf16(float *out, const void *w, size_t n_cols, size_t row)
{
    const uint16_t *group = (const uint16_t *)w + row / LANES * LANES * n_cols;
    for (size_t i = 0; i < n_cols; i++) {
        const uint32_t bits = (uint32_t)group[i * LANES + row % LANES] << 16;
        memcpy(&out[i], &bits, sizeof bits);
    }
}

// --------------------------------------------------------------------------------------------
// Matrix products in integers: exact within a block, then scaled and summed in f32
//
//     sum += float(block's integer sum) * (scale of the weights * scale of the activations)
//     q4m: sum += minimum of the weights * (scale of the activations * sum of the activations)

// A block whose largest value is below this is zero: 127 over it might be infinite.
#define SMALLEST_BLOCK 0x1p-120f

static void quantize(const Activations *a, size_t row, size_t begin, size_t end)
{
    const float *x = a->x + row * a->stride;
    for (size_t i = begin; i < end; i += QUANT_BLOCK) {
        const size_t at = activation_block(a, row, i / QUANT_BLOCK);
        int8_t *q = a->q + at * QUANT_BLOCK;
        const V low = v_load(x + i), high = v_load(x + i + LANES);
        const float max = v_abs_max(low, high), scale = max / 127.0f;
        const V inverse = v_set1(max >= SMALLEST_BLOCK ? 127.0f / max : 0);
        const V q_low = v_round(v_mul(low, inverse)), q_high = v_round(v_mul(high, inverse));
        v_store_i8(q, q_low);
        v_store_i8(q + LANES, q_high);
        // Small integers: exact in f32 in any order. (Infinities and NaNs have no integers; the
        // layer they come from is noticed elsewhere.)
        const int32_t total = max <= FLT_MAX ? (int32_t)v_sum(v_add(q_low, q_high)) : 0;
        a->q_scale[at] = scale;
        a->q_begin4[at] = -8 * total;
        a->q_begin8[at] = -128 * total;
        a->q_total[at] = scale * (float)total;
    }
}

// Bytes of a block of 16 rows, and where its values begin: after the scales, and minimums of q4m.
INLINE size_t block_values(WeightType type) { return type == WEIGHT_Q4M ? 64 : 32; }
INLINE size_t block_bytes(WeightType type)
{
    return block_values(type) + LANES * (size_t)(type == WEIGHT_Q8 ? QUANT_BLOCK : QUANT_BLOCK / 2);
}

// Columns 4 i .. 4 i + 3 of a block, of all 16 rows, as unsigned bytes.
INLINE VB block_step(const WeightType type, const uint8_t *values, const size_t i)
{
    return type == WEIGHT_Q8 ? vb_load(values + 64 * i)
           : i < 4           ? vb_low(vb_load(values + 64 * i))
                             : vb_high(vb_load(values + 64 * (i - 4)));
}

// T rows, the first ones of a tile of `in`, by one group of 16 outputs. STEPS_HELD steps of the
// weights at a time are unpacked into registers and met by all rows in turn, so that the sums of
// many rows grow side by side and none waits for itself. type and T are constants wherever this is
// inlined.
INLINE void tile_quantized(const size_t T, const WeightType type, float *out, size_t out_stride,
                           const uint8_t *w, const Activations *in, size_t row, size_t n_blocks,
                           bool add)
{
    const size_t at = activation_block(in, row, 0), tile = in->tile;
    const int8_t *q = in->q + at * QUANT_BLOCK;
    const float *q_scale = in->q_scale + at, *q_total = in->q_total + at;
    const int32_t *q_begin = (type == WEIGHT_Q8 ? in->q_begin8 : in->q_begin4) + at;
    V sum[TILE_ROWS_QUANTIZED];
    UNROLL
    for (size_t t = 0; t < T; t++) {
        sum[t] = add ? v_load(out + t * out_stride) : v_zero();
    }
    for (size_t b = 0; b < n_blocks; b++) {
        const uint8_t *values = w + block_values(type);
        const V scale = v_load_f16((const uint16_t *)(const void *)w);
        const V minimum = type == WEIGHT_Q4M ? v_load_f16((const uint16_t *)(const void *)w + LANES)
                                             : v_zero();
        ByteSum bytes[TILE_ROWS_QUANTIZED];
        NibbleSum nibbles[TILE_ROWS_QUANTIZED];
        if (row == 0) {  // later rows find them in the cache
            prefetch(w, block_bytes(type));
        }
        UNROLL
        for (size_t first = 0; first < 8; first += STEPS_HELD) {
            VB held[STEPS_HELD];
            UNROLL
            for (size_t k = 0; k < STEPS_HELD;
                 k++) {  // 0 4 1 5 2 6 3 7: nibbles of a byte together
                held[k] = block_step(type, values, (first + k) / 2 + (first + k) % 2 * 4);
            }
            UNROLL
            for (size_t t = 0; t < T; t++) {
                const int32_t begin = type == WEIGHT_Q4M ? 0 : q_begin[t];
                if (type == WEIGHT_Q8) {
                    bytes[t] = first ? bytes[t] : byte_begin(begin);
                } else {
                    nibbles[t] = first ? nibbles[t] : nibble_begin(begin);
                }
                UNROLL
                for (size_t k = 0; k < STEPS_HELD; k++) {
                    const int8_t *x = q + t * QUANT_BLOCK +
                                      4 * ((first + k) / 2 + (first + k) % 2 * 4);
                    if (type == WEIGHT_Q8) {
                        bytes[t] = byte_add(bytes[t], held[k], x);
                    } else {
                        nibbles[t] = nibble_add(nibbles[t], held[k], x);
                    }
                }
                if (first + STEPS_HELD == 8) {
                    const VI total = type == WEIGHT_Q8 ? byte_end(bytes[t])
                                                       : nibble_end(nibbles[t], begin);
                    const V both = v_mul(scale, v_set1(q_scale[t]));
                    sum[t] = v_fma(vi_to_float(total), both, sum[t]);
                    if (type == WEIGHT_Q4M) {
                        sum[t] = v_fma(minimum, v_set1(q_total[t]), sum[t]);
                    }
                }
            }
        }
        w += block_bytes(type);
        q += tile * QUANT_BLOCK;
        q_scale += tile;
        q_total += tile;
        q_begin += tile;
    }
    UNROLL
    for (size_t t = 0; t < T; t++) {
        v_store(out + t * out_stride, sum[t]);
    }
}

// A group's weights stay in the cache while all rows pass over them.
#define DEFINE_QUANTIZED(type_, suffix)                                                           \
    static void tile_##suffix(size_t n_rows, float *out, size_t out_stride, const uint8_t *w,     \
                              const Activations *in, size_t row, size_t n_blocks, bool add)       \
    {                                                                                             \
        switch (n_rows) {                                                                         \
            ROWS_CASES(TILE_ROWS_QUANTIZED, tile_quantized, type_, out, out_stride, w, in, row,   \
                       n_blocks, add)                                                             \
        }                                                                                         \
    }                                                                                             \
    static void matmul_##suffix(const Matmul *m)                                                  \
    {                                                                                             \
        const size_t n_blocks = (m->n_cols + QUANT_BLOCK - 1) / QUANT_BLOCK;                      \
        const uint8_t *w = m->w;                                                                  \
        for (size_t g = m->group_begin; g < m->group_end; g++) {                                  \
            for (size_t r = 0, n; r < m->n_rows; r += n) {                                        \
                n = min_size(m->in->tile - r % m->in->tile, TILE_ROWS_QUANTIZED);                 \
                n = min_size(m->n_rows - r, n);                                                   \
                tile_##suffix(n, m->out + r * m->out_stride + g * LANES, m->out_stride,           \
                              w + g * n_blocks * block_bytes(type_), m->in, r, n_blocks, m->add); \
            }                                                                                     \
        }                                                                                         \
    }                                                                                             \
    static void row_##suffix(float *out, const void *w, size_t n_cols, size_t row)                \
    {                                                                                             \
        row_quantized(type_, out, w, n_cols, row);                                                \
    }

// Plain C: a row of the embedding is all that is ever read so.
INLINE void row_quantized(const WeightType type, float *out, const void *w, size_t n_cols,
                          size_t row)
{
    const size_t n_blocks = (n_cols + QUANT_BLOCK - 1) / QUANT_BLOCK, lane = row % LANES;
    const uint8_t *block = (const uint8_t *)w + row / LANES * n_blocks * block_bytes(type);
    for (size_t i = 0; i < n_cols; i++) {
        const uint8_t *b = block + i / QUANT_BLOCK * block_bytes(type);
        const size_t in_block = i % QUANT_BLOCK,
                     column = type == WEIGHT_Q8 ? in_block : in_block % 16;
        const uint8_t byte = b[block_values(type) + column / 4 * 64 + lane * 4 + column % 4];
        float scale[LANES], minimum[LANES];
        v_store(scale, v_load_f16((const uint16_t *)(const void *)b));
        v_store(minimum, v_load_f16((const uint16_t *)(const void *)b + LANES));
        const int nibble = in_block < 16 ? byte & 15 : byte >> 4;
        out[i] = type == WEIGHT_Q8   ? scale[lane] * (float)(byte - 128)
                 : type == WEIGHT_Q4 ? scale[lane] * (float)(nibble - 8)
                                     : fmaf(scale[lane], (float)nibble, minimum[lane]);
    }
}

DEFINE_QUANTIZED(WEIGHT_Q8, q8)
DEFINE_QUANTIZED(WEIGHT_Q4, q4)
DEFINE_QUANTIZED(WEIGHT_Q4M, q4m)

// --------------------------------------------------------------------------------------------
// Elementwise

static float rms_norm(float *out, const float *x, const float *weight, size_t n, float eps)
{
    V squares = v_zero();
    for (size_t i = 0; i < n; i += LANES) {
        V a = v_load(x + i);
        squares = v_fma(a, a, squares);
    }
    float mean = v_sum(squares) / (float)n;
    V scale = v_set1(1.0f / sqrtf(mean + eps));
    for (size_t i = 0; i < n; i += LANES) {
        v_store(out + i, v_mul(v_mul(v_load(x + i), scale), v_load(weight + i)));
    }
    return mean;
}

static void rope(float *x, const float *cos, const float *sin, size_t head_dim)
{
    size_t half = head_dim / 2;
    for (size_t i = 0; i < half; i++) {
        float a = x[i], b = x[i + half];
        x[i] = a * cos[i] - b * sin[i];
        x[i + half] = b * cos[i] + a * sin[i];
    }
}

static void swiglu(float *gate, const float *up, size_t n)
{
    V one = v_set1(1.0f);
    for (size_t i = 0; i < n; i += LANES) {
        V g = v_load(gate + i);
        V silu = v_div(g, v_add(one, v_exp(v_sub(v_zero(), g))));
        v_store(gate + i, v_mul(silu, v_load(up + i)));
    }
}

static void softmax(float *x, size_t n, float temperature)
{
    V max = v_set1(-INFINITY), sum = v_zero(), t = v_set1(temperature);
    for (size_t i = 0; i < n; i += LANES) {
        max = v_max(v_load(x + i), max);
    }
    V m = v_set1(v_reduce_max(max));
    for (size_t i = 0; i < n;
         i += LANES) {  // the maximum first: a tiny temperature cannot overflow
        V a = v_exp(v_div(v_sub(v_load(x + i), m), t));
        v_store(x + i, a);
        sum = v_add(sum, a);
    }
    V s = v_set1(v_sum(sum));
    for (size_t i = 0; i < n; i += LANES) {
        v_store(x + i, v_div(v_load(x + i), s));
    }
}

// --------------------------------------------------------------------------------------------
// Attention

// out (n_rows, n_groups * 16) (+)= x times a matrix of f16 or f32 that starts `skip` values into w.
static void kv_product(bool f16, size_t n_rows, float *out, size_t out_stride, const void *w,
                       size_t skip, size_t group_stride, size_t n_groups, const float *x,
                       size_t x_stride, size_t n_cols, bool add)
{
    for (size_t r = 0; r < n_rows; r += TILE_ROWS) {
        size_t rows = min_size(n_rows - r, TILE_ROWS);
        float *o = out + r * out_stride;
        const float *in = x + r * x_stride;
        if (f16) {
            tile_f16_rows(rows, o, out_stride, (const uint16_t *)w + skip, group_stride, n_groups,
                          in, x_stride, n_cols, add, (Fetch){0});
        } else {
            tile_f32_rows(rows, o, out_stride, (const float *)w + skip, group_stride, n_groups, in,
                          x_stride, n_cols, add, (Fetch){0});
        }
    }
}

// Asks for the keys or values of a head in page `i`, up to page `last`.
static void fetch_page(const Attend *a, size_t i, size_t last, size_t offset, size_t dims)
{
    if (i > last) {
        return;
    }
    const size_t bytes = PAGE_POSITIONS * dims * (a->f16 ? sizeof(uint16_t) : sizeof(float));
    for (size_t line = 0; line < bytes; line += 64) {
        __builtin_prefetch((const char *)a->pages[i] + offset + line);
    }
}

// Weighted sums of the values of positions begin .. end - 1 (of one split), added to the results of
// queries t ..
static void attend_values(const Attend *a, size_t t, size_t n_queries, size_t begin, size_t end)
{
    size_t groups = (a->head_dim + LANES - 1) / LANES, split_begin = a->split * SPLIT_POSITIONS;
    for (size_t j = begin; j < end;) {
        size_t slot = j % PAGE_POSITIONS, n = min_size(end - j, PAGE_POSITIONS - slot);
        const char *page = a->pages[j / PAGE_POSITIONS];
        fetch_page(a, j / PAGE_POSITIONS + 1, (end - 1) / PAGE_POSITIONS, a->v_offset,
                   groups * LANES);
        kv_product(a->f16, n_queries, a->out + t * a->out_stride, a->out_stride, page + a->v_offset,
                   slot * LANES, PAGE_POSITIONS * LANES, groups,
                   a->scores + t * SPLIT_POSITIONS + (j - split_begin), SPLIT_POSITIONS, n, true);
        j += n;
    }
}

static void attend(const Attend *a)
{
    size_t split_begin = a->split * SPLIT_POSITIONS, split_end = split_begin + SPLIT_POSITIONS;
    size_t dims = (a->head_dim + LANES - 1) / LANES * LANES;
    size_t begin[TILE_QUERIES], end[TILE_QUERIES];        // what each query sees of this split
    size_t first = split_end, last = split_begin;         // what any sees
    size_t all_begin = split_begin, all_end = split_end;  // what all see
    for (size_t t = 0; t < a->n_queries; t++) {
        begin[t] = min_size(max_size(a->visible[t].begin, split_begin), split_end);
        end[t] = max_size(min_size(a->visible[t].end, split_end), begin[t]);
        all_begin = max_size(all_begin, begin[t]);
        all_end = min_size(all_end, end[t]);
        if (begin[t] < end[t]) {
            first = min_size(first, begin[t]);
            last = max_size(last, end[t]);
        }
    }

    // scores = q . k, 16 positions a vector
    for (size_t j = first / LANES * LANES; j < last;) {
        size_t slot = j % PAGE_POSITIONS, n = min_size(last - j, PAGE_POSITIONS - slot);
        const char *page = a->pages[j / PAGE_POSITIONS];
        fetch_page(a, j / PAGE_POSITIONS + 1, (last - 1) / PAGE_POSITIONS, a->k_offset,
                   a->head_dim);
        kv_product(a->f16, a->n_queries, a->scores + (j - split_begin), SPLIT_POSITIONS,
                   page + a->k_offset, slot * a->head_dim, a->head_dim * LANES,
                   (n + LANES - 1) / LANES, a->q, a->head_dim, a->head_dim, false);
        j += (n + LANES - 1) / LANES * LANES;
    }

    // weights = exp(score + mask - max)
    for (size_t t = 0; t < a->n_queries; t++) {
        float *out = a->out + t * a->out_stride;
        memset(out, 0, (dims + 2) * sizeof *out);
        if (begin[t] == end[t]) {
            continue;
        }
        float *s = a->scores + t * SPLIT_POSITIONS;
        V max = v_set1(-INFINITY), sum = v_zero();
        size_t group = begin[t] / LANES * LANES;
        for (size_t j = group; j < end[t]; j += LANES) {
            V score = v_add(v_load(s + (j - split_begin)), v_load(a->visible[t].mask + j));
            v_store(s + (j - split_begin), score);
            max = v_max(score, max);
        }
        float m = v_reduce_max(max);
        for (size_t j = group; j < end[t]; j += LANES) {
            V weight = v_exp(v_sub(v_load(s + (j - split_begin)), v_set1(m)));
            v_store(s + (j - split_begin), weight);
            sum = v_add(sum, weight);
        }
        out[dims] = m;
        out[dims + 1] = v_sum(sum);
    }

    // Values in the order of the positions: what only some queries see is done for each alone, at
    // both ends.
    if (all_begin >= all_end) {
        all_begin = all_end = split_begin;
    }
    for (size_t t = 0; t < a->n_queries; t++) {
        attend_values(a, t, 1, begin[t], min_size(all_begin, end[t]));
    }
    attend_values(a, 0, a->n_queries, all_begin, all_end);
    for (size_t t = 0; t < a->n_queries; t++) {
        attend_values(a, t, 1, max_size(all_end, begin[t]), end[t]);
    }
}

static void combine(float *total, const float *split, size_t head_dim)
{
    size_t dims = (head_dim + LANES - 1) / LANES * LANES;
    if (split[dims + 1] == 0.0f) {
        return;
    }
    if (total[dims + 1] == 0.0f) {
        memcpy(total, split, (dims + 2) * sizeof *total);
        return;
    }
    float scales[LANES] = {total[dims], split[dims]};
    float max = scales[0] > scales[1] ? scales[0] : scales[1];
    v_store(scales, v_exp(v_sub(v_load(scales), v_set1(max))));
    V old = v_set1(scales[0]), new = v_set1(scales[1]);
    for (size_t i = 0; i < dims; i += LANES) {
        v_store(total + i, v_fma(v_load(split + i), new, v_mul(v_load(total + i), old)));
    }
    total[dims] = max;
    total[dims + 1] = fmaf(split[dims + 1], scales[1], total[dims + 1] * scales[0]);
}

static void attend_finish(float *out, const float *total, size_t head_dim)
{
    size_t dims = (head_dim + LANES - 1) / LANES * LANES;
    for (size_t i = 0; i < head_dim; i++) {
        out[i] = total[i] / total[dims + 1];
    }
}

static void store_kv(void *page_k, void *page_v, size_t slot, const float *k, const float *v,
                     size_t head_dim, bool f16)
{
    size_t k_start = slot / LANES * LANES * head_dim + slot % LANES;
    for (size_t d = 0; d < head_dim; d += LANES) {
        float key[LANES] = {0}, value[LANES] = {0};
        size_t n = min_size(head_dim - d, LANES), v_start = (d * PAGE_POSITIONS) + slot * LANES;
        memcpy(key, k + d, n * sizeof *key);
        memcpy(value, v + d, n * sizeof *value);
        if (f16) {
            uint16_t half[LANES];
            v_store_f16((uint16_t *)page_v + v_start, v_load(value));
            v_store_f16(half, v_load(key));
            for (size_t i = 0; i < n; i++) {
                ((uint16_t *)page_k)[k_start + (d + i) * LANES] = half[i];
            }
        } else {
            v_store((float *)page_v + v_start, v_load(value));
            for (size_t i = 0; i < n; i++) {
                ((float *)page_k)[k_start + (d + i) * LANES] = key[i];
            }
        }
    }
}

// --------------------------------------------------------------------------------------------
// The machine's limits

static float read_memory(const float *p, size_t n)
{
    V sum[4] = {v_zero(), v_zero(), v_zero(), v_zero()};
    for (size_t i = 0; i < n; i += 4 * LANES) {
        UNROLL
        for (size_t k = 0; k < 4; k++) {
            sum[k] = v_add(sum[k], v_load(p + i + k * LANES));
        }
    }
    return v_sum(v_add(v_add(sum[0], sum[1]), v_add(sum[2], sum[3])));
}

static float peak_int8(size_t steps, const uint8_t *operands)
{
    NibbleSum sum[TILE_ROWS_QUANTIZED];
    UNROLL
    for (size_t t = 0; t < TILE_ROWS_QUANTIZED; t++) {
        sum[t] = nibble_begin((int32_t)t);
    }
    for (size_t i = 0; i < steps; i++) {
        // Other weights in each step, and other activations in each row: equal products would be
        // computed once.
        const VB weights = vb_load(operands + i % 4 * 64);
        UNROLL
        for (size_t t = 0; t < TILE_ROWS_QUANTIZED; t++) {
            sum[t] = nibble_add(sum[t], weights, (const int8_t *)operands + t * 4);
        }
    }
    float total = 0;
    UNROLL
    for (size_t t = 0; t < TILE_ROWS_QUANTIZED; t++) {
        total += v_sum(vi_to_float(nibble_end(sum[t], 0)));
    }
    return total;
}

static float peak_f32(size_t steps, const float *operands)
{
    V sum[TILE_ROWS];
    const V a = v_load(operands), b = v_load(operands + LANES);
    UNROLL
    for (size_t t = 0; t < TILE_ROWS; t++) {
        sum[t] = v_set1((float)t);
    }
    for (size_t i = 0; i < steps; i++) {
        UNROLL
        for (size_t t = 0; t < TILE_ROWS; t++) {
            sum[t] = v_fma(a, b, sum[t]);
        }
    }
    V total = v_zero();
    UNROLL
    for (size_t t = 0; t < TILE_ROWS; t++) {
        total = v_add(total, sum[t]);
    }
    return v_sum(total);
}

const Kernels KERNELS = {
    .name = KERNELS_NAME,
    .matmul = {matmul_f32, matmul_bf16, matmul_q8, matmul_q4, matmul_q4m},
    .row = {row_f32, row_bf16, row_q8, row_q4, row_q4m},
    .quantize = quantize,
    .rms_norm = rms_norm,
    .rope = rope,
    .swiglu = swiglu,
    .softmax = softmax,
    .attend = attend,
    .combine = combine,
    .attend_finish = attend_finish,
    .store_kv = store_kv,
    .read = read_memory,
    .peak_int8 = peak_int8,
    .peak_f32 = peak_f32,
    .int8_macs_per_step = (size_t)TILE_ROWS_QUANTIZED * LANES * 4,
    .f32_macs_per_step = (size_t)TILE_ROWS * LANES,
};
