// kernels.h - every kernel, written once for the 16 lanes that the including file defines.
//
// avx2.c, avx512.c, neon.c, scalar.c and the others each include their lanes (V, v_load, v_fma, ..)
// and then this file, and so fill one table of kernels. simd.h says what each kernel computes, and
// how matrices, keys and values are laid out.
//
// The canonical order of arithmetic. Floating-point sums depend on their order, so the order is
// part of the result: every set, thread count and batch size must add the same numbers in the same
// order.
//
//   - The unit is a vector of 16 lanes, because that is the widest register among the sets
//     (AVX-512). AVX2 holds it in two registers, NEON in four, plain C in an array; the results are
//     the same.
//   - A lane is an output. It adds up its inputs one by one, in order, so no sum is ever spread
//     over lanes and then combined. A kernel may therefore take any number of outputs, rows or
//     columns at once, and each set takes as many as its registers hold.
//   - Products are added with fused multiply-add. IEEE 754 defines it exactly (one rounding), every
//     set has an instruction for it, and C has fmaf. Separate operations would be as well defined,
//     but take twice the time.
//   - The few true reductions (a norm, the sum of a softmax) keep 16 partial sums, one per lane,
//     and end in one fixed tree (v_sum): lane i + lane i + 8, then + 4, + 2, + 1.
//
// Changing the order of operations changes the output of every model. Everything else may change:
// tile sizes, prefetching, the order of independent sums.
#include <float.h>
#include <math.h>
#include <string.h>

#include "simd/half.h"
#include "simd/simd.h"

// This is a pragma, so only a macro can name it for both compilers. The loops that it precedes have
// constant bounds of at most 16; arrays of vectors become registers only if they are unrolled.
#if defined(UNROLL)
#elif defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

// Functions that must be inlined: their constant arguments select code, and their vectors stay in
// the caller's registers. (A macro because an attribute cannot be named otherwise.)
#define INLINE static inline __attribute__((always_inline))

INLINE size_t min_size(size_t a, size_t b) { return a < b ? a : b; }
INLINE size_t max_size(size_t a, size_t b) { return a > b ? a : b; }

// n rounded up to full vectors.
INLINE size_t whole_lanes(size_t n) { return (n + LANES - 1) / LANES * LANES; }

// e^x with an error below 1 ulp (0.86 at most among 450,000 values compared with double precision),
// the same bits in every set; libm's expf differs from one library to the next.
//
// x = n ln 2 + r with n an integer and |r| <= ln 2 / 2, so e^x = 2^n e^r. e^r is its Taylor
// polynomial of degree 7 in Horner's form; the first term left out is below 2^-27 of the sum. ln 2
// is subtracted in two parts: the first has so few bits that n times it is exact.
//
// Below -87.33, where the result would be subnormal, it is 0; from 88.38 it is infinity; a NaN
// stays a NaN (v_min and v_max return their second operand if either is one).
INLINE V v_exp(V x)
{
    V y = v_max(v_set1(-87.33654f), v_min(v_set1(88.8f), x));
    V n = v_round(v_mul(y, v_set1(1.442695041f)));
    V r = v_fma(n, v_set1(-0x1.62e4p-1f), y);
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

// tanh x with a relative error below 4 ulp, in every set the same bits. It is
// (e^2x - 1) / (e^2x + 1), which rounds to 1 long before |x| = 10; but near 0 the difference would
// lose bits, so there it is Taylor's polynomial of degree 9: below 1/4 the first term left out is
// less than 2^-26 of the sum. There is no choice between lanes, so the other one of the two becomes
// 0 and they are added. A NaN stays a NaN.
INLINE V v_tanh(V x)
{
    const V one = v_set1(1.0f), quarter = v_set1(0.25f), below_quarter = v_set1(0x1.fffffep-3f);
    const V size = v_max(v_sub(v_zero(), x), x), square = v_mul(x, x);
    V p = v_set1(62.0f / 2835);
    p = v_fma(p, square, v_set1(-17.0f / 315));
    p = v_fma(p, square, v_set1(2.0f / 15));
    p = v_fma(p, square, v_set1(-1.0f / 3));
    const V near = v_fma(v_mul(p, square), x, x);
    const V y = v_max(v_set1(-10.0f), v_min(v_set1(10.0f), x));
    const V e = v_exp(v_add(y, y));
    const V far = v_div(v_sub(e, one), v_add(e, one));
    return v_add(v_zero_where_less(below_quarter, size, near),
                 v_zero_where_less(size, quarter, far));
}

// cap * tanh(x / cap)
INLINE V v_soft_cap(V x, V cap) { return v_mul(cap, v_tanh(v_div(x, cap))); }

// --------------------------------------------------------------------------------------------
// Prefetching

// A core that streams weights waits for memory, not for arithmetic, so every byte is requested long
// before it is needed. Twice, in fact: far ahead into the second-level cache, which can have more
// requests in flight, and then from there into the first-level cache.
//
//     GB/s of q4 with one row, on a core that reads 16.7:
//     no prefetch 11.8, at 4 KB 13.7, at 16 KB and 4 KB 15.9
#define PREFETCH_BYTES     4096
#define PREFETCH_FAR_BYTES 16384

// Requests the bytes at that distance after p .. p + bytes - 1. They may be past the end of the
// matrix, where C does not allow pointers: hence the integers. Prefetching an invalid address does
// nothing.
INLINE void prefetch(const void *p, size_t bytes)
{
    for (uintptr_t line = (uintptr_t)p; line < (uintptr_t)p + bytes; line += 64) {
        __builtin_prefetch((const void *)(line + PREFETCH_BYTES));
        __builtin_prefetch((const void *)(line + PREFETCH_FAR_BYTES), 0, 2);
    }
}

// What a tile of floats prefetches besides its own loads.
typedef enum {
    FETCH_NOTHING,
    FETCH_OWN,   // what it will need itself: weights that are read once
    FETCH_NEXT,  // a share of the next panel, see Fetch
} FetchWhat;

// A tile's share of the next panel. It requests a little of it every FETCH_COLS columns: many
// requests at once would delay the tile's own loads, most of all with few rows, whose shares are
// large.
//
//     SmolLM2 in f32, tokens/s, requested before the tile and bit by bit:
//     256 rows 995 and 1137, 60 rows 953 and 989, 20 rows 584 and 588
#define FETCH_COLS 16
typedef struct {
    uintptr_t next;  // address in the first group; integer for the same reason as in prefetch()
    size_t stride;   // bytes from group to group
    size_t bytes;    // of each group, per FETCH_COLS columns
} Fetch;

// --------------------------------------------------------------------------------------------
// Products of floats
//
// A tile multiplies T rows of activations by G groups of 16 outputs and keeps all T x G sums in
// registers. For each input i (a column of the matrix) it loads G vectors of weights, broadcasts T
// activations, and does T x G multiply-adds:
//
//                      group 0      group 1     ..   group G - 1
//     weights w[i]    16 lanes     16 lanes          16 lanes       G loads, shared by all rows
//     x[0][i]         sum[0][0]    sum[0][1]    ..   sum[0][G-1]
//     x[1][i]         sum[1][0]    sum[1][1]    ..   sum[1][G-1]    T broadcasts, shared by all
//       ..              ..           ..                ..             groups
//     x[T-1][i]       sum[T-1][0]  ..                sum[T-1][G-1]
//
// That is G + T loads for T x G multiply-adds: a wide tile is bound by arithmetic, a single row by
// the weights it reads. Enough independent sums also hide the latency of the multiply-add (4
// cycles, two per cycle: 8 vectors). T is at most TILE_ROWS, and G is tile_groups(T); each set's
// header derives both from its number of registers.

// A product of some rows and some groups: what both kinds of tiles read and write.
typedef struct {
    float *out;         // (rows, n_groups * 16)
    size_t out_stride;  // values from row to row
    bool add;           // the sums begin with the values in out, not with 0
    const char *w;      // the first group's first step
    size_t n_cols;      // inputs
    // Of floats:
    size_t group_stride;  // weights from group to group
    size_t n_groups;      // groups of 16 outputs
    const float *x;       // (rows, n_cols)
    size_t x_stride;      // values from row to row
    Fetch fetch;          // used with FETCH_NEXT
    // Of quantised weights, which are multiplied one group at a time:
    const Activations *in;
    size_t row;  // index of the first row in `in`
} Product;

// What the code of a tile is specialised for. A constant wherever a tile is inlined.
typedef struct {
    size_t rows, groups;  // T and G
    WeightType type;
    FetchWhat fetch;
} TileSpec;

#define MAX_GROUPS 4

// Bytes of a weight, and of the 16 weights of one input.
INLINE size_t element_bytes(const WeightType type)
{
    return type == WEIGHT_F32 ? sizeof(float) : sizeof(uint16_t);
}
INLINE size_t step_bytes(const WeightType type) { return LANES * element_bytes(type); }

// Both conversions to f32 are exact, so the types share all arithmetic.
INLINE V load_lanes(const WeightType type, const void *p)
{
    return type == WEIGHT_F32 ? v_load(p) : type == WEIGHT_F16 ? v_load_f16(p) : v_load_bf16(p);
}

// One column: sum[t][g] += w[g][i] * x[t][i].
INLINE void tile_column(const TileSpec k, V (*sum)[MAX_GROUPS], const Product *p, size_t i)
{
    V weight[MAX_GROUPS];
    UNROLL
    for (size_t g = 0; g < k.groups; g++) {
        const char *step = p->w + g * p->group_stride * element_bytes(k.type) +
                           i * step_bytes(k.type);
        weight[g] = load_lanes(k.type, step);
        if (k.fetch == FETCH_OWN && i * step_bytes(k.type) % 64 == 0) {  // once per cache line
            prefetch(step, 64);
        }
    }
    UNROLL
    for (size_t t = 0; t < k.rows; t++) {
        const V activation = v_set1(p->x[t * p->x_stride + i]);
        UNROLL
        for (size_t g = 0; g < k.groups; g++) {
            sum[t][g] = v_fma(weight[g], activation, sum[t][g]);
        }
    }
}

// Requests one portion of the next panel.
INLINE void fetch_portion(const TileSpec k, const Fetch *fetch)
{
    for (size_t b = 0; b < fetch->bytes; b += 64) {
        for (size_t g = 0; g < k.groups; g++) {
            __builtin_prefetch((const void *)(fetch->next + g * fetch->stride + b));
        }
    }
}

// All columns. FETCH_NEXT pauses every FETCH_COLS of them to request a portion of the next panel;
// the other kinds have one plain loop.
INLINE void register_tile(const TileSpec k, const Product *p)
{
    Fetch fetch = p->fetch;
    V sum[TILE_ROWS][MAX_GROUPS];
    UNROLL
    for (size_t t = 0; t < k.rows; t++) {
        UNROLL
        for (size_t g = 0; g < k.groups; g++) {
            sum[t][g] = p->add ? v_load(p->out + t * p->out_stride + g * LANES) : v_zero();
        }
    }
    for (size_t i = 0; i < p->n_cols;) {
        size_t n = p->n_cols - i;
        if (k.fetch == FETCH_NEXT) {
            fetch_portion(k, &fetch);
            fetch.next += fetch.bytes;
            n = min_size(n, FETCH_COLS);
        }
        for (const size_t end = i + n; i < end; i++) {
            tile_column(k, sum, p, i);
        }
    }
    UNROLL
    for (size_t t = 0; t < k.rows; t++) {
        UNROLL
        for (size_t g = 0; g < k.groups; g++) {
            v_store(p->out + t * p->out_stride + g * LANES, sum[t][g]);
        }
    }
}

// A tile of k.groups of a product's groups, starting with group g. (The copy costs nothing: it is
// never in memory, as everything here is inlined.)
INLINE void tile_at(const TileSpec k, const Product *p, size_t g)
{
    Product part = *p;
    part.out += g * LANES;
    part.w += g * p->group_stride * element_bytes(k.type);
    register_tile(k, &part);
}

// Any number of groups for T rows, in tiles as wide as T allows; then of two groups and of one.
INLINE void product_float(const size_t T, const WeightType type, const FetchWhat fetch,
                          const Product *product)
{
    const Product p = *product;  // a copy, which the stores to out cannot have changed
    const size_t G = tile_groups(T);
    size_t g = 0;
    for (; g + G <= p.n_groups; g += G) {
        tile_at((TileSpec){T, G, type, fetch}, &p, g);
    }
    if (G > 2 && g + 2 <= p.n_groups) {
        tile_at((TileSpec){T, 2, type, fetch}, &p, g);
        g += 2;
    }
    for (; g < p.n_groups; g++) {
        tile_at((TileSpec){T, 1, type, fetch}, &p, g);
    }
}

// --------------------------------------------------------------------------------------------
// Products of quantised weights: integers within a quantisation block, exact in any order; f32
// between blocks, in the order of the columns
//
// Stored weights are unsigned, u; activations are signed, q. With a quantisation block's scales s_w
// and s_x and all sums over its 32 columns:
//
//     q8:   w = s_w (u - 128)    sum w x = s_w s_x (sum u q - 128 sum q)
//     q4:   w = s_w (u - 8)      sum w x = s_w s_x (sum u q -   8 sum q)
//     q4m:  w = s_w u + m        sum w x = s_w s_x  sum u q + m (s_x sum q)
//     q4t:  w = s_w (table[u] - 128), as q8;  q5: w = s_w (u - 16);  q5m: as q4m
//
// so the offsets cost nothing in the inner loop. Their contribution depends only on the
// activations: quantize() stores -128 sum q and -8 sum q (q_begin8, q_begin4), with which the
// integer sums begin, and s_x sum q (q_total), which is multiplied by the minimum m. The integer
// sums stay below 2^24, so their conversion to f32 is exact too. What is left per quantisation
// block and output is
//
//     sum += float(integer sum) * (s_w * s_x),  and for q4m  sum += m * q_total

// If the largest value of a quantisation block is below this, all its q are zero: 127 divided by it
// might be infinite, and sets convert infinities to different integers.
#define SMALLEST_BLOCK 0x1p-120f

// q = x * 127 / max to the nearest integer, scale = max / 127, with max the quantisation block's
// largest magnitude. Every set divides once per quantisation block and multiplies by the result.
static void kernel_quantize(const Activations *a, size_t row, size_t begin, size_t end)
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
        // Small integers: their f32 sum is exact. (Infinities and NaNs have no integers; forward()
        // reports the layer that they come from.)
        const int32_t total = max <= FLT_MAX ? (int32_t)v_sum(v_add(q_low, q_high)) : 0;
        a->q_scale[at] = scale;
        a->q_begin4[at] = -8 * total;
        a->q_begin8[at] = -128 * total;
        a->q_total[at] = scale * (float)total;
    }
}

// A quantisation block of 16 rows of weights (docs/format.md), in bytes:
//
//     q8         | 16 scales, f16 | step 0 | step 1 | ..   | step 7 |             8 steps of 64 bytes
//     q4, q4t    | 16 scales, f16 | steps 0, 4 | 1, 5 | 2, 6 | 3, 7 |             4 times 64 bytes
//     q4m        | 16 scales | 16 minimums, f16 | steps 0, 4 | .. | 3, 7 |
//     q5, q5m    as q4 and q4m, then | 64 bytes |: bit i of them is the fifth bit of step i
//
// Step i has columns 4 i .. 4 i + 3 of all 16 rows: byte 4 r + j is row r, column 4 i + j, so the 4
// bytes of a lane are multiplied by 4 activations that all lanes share. In the types below 8 bits
// the low nibbles are one step and the high nibbles are the step 16 columns later.
//
// A superblock is 8 such blocks with common scales before them:
//
//     q4k        | 16 scales | 16 minimums, f16 | 12 times 16 bytes |  8 blocks of 256 bytes
//     q5k        the same                                           |  8 blocks of 256 + 64 bytes
//     q6k        | 16 scales, f16 | 16 times 16 int8 scales         |  8 blocks of 256 + 128 bytes
//
// The 128 bytes are twice 64: bits 2 i and 2 i + 1 of the first are bits 4 and 5 of step i, those of
// the second are bits 4 and 5 of step i + 4.

INLINE bool is_quantized(const WeightType type)
{
    return type != WEIGHT_F32 && type != WEIGHT_BF16 && type != WEIGHT_F16;
}
INLINE bool has_superblocks(const WeightType type)
{
    return type == WEIGHT_Q4K || type == WEIGHT_Q5K || type == WEIGHT_Q6K;
}
INLINE bool has_minimum(const WeightType type)
{
    return type == WEIGHT_Q4M || type == WEIGHT_Q5M || type == WEIGHT_Q4K || type == WEIGHT_Q5K;
}
INLINE bool has_5_bits(const WeightType type)
{
    return type == WEIGHT_Q5 || type == WEIGHT_Q5M || type == WEIGHT_Q5K;
}

// Bytes of the weights of a block, of the nibbles among them, and of all that comes before the
// weights, of all 16 rows:
#define NIBBLE_BYTES (LANES * QUANT_BLOCK / 2)
INLINE size_t weights_bytes(const WeightType type)
{
    return type == WEIGHT_Q8 ? LANES * QUANT_BLOCK
                             : NIBBLE_BYTES + (type == WEIGHT_Q6K ? 2 * NIBBLE_BYTES / 4
                                               : has_5_bits(type) ? NIBBLE_BYTES / 4
                                                                  : 0);
}
INLINE size_t head_bytes(const WeightType type)
{
    const size_t scales = LANES * sizeof(uint16_t) * (has_minimum(type) ? 2 : 1);
    return type == WEIGHT_Q6K      ? scales + 16 * LANES
           : has_superblocks(type) ? scales + 12 * LANES
                                   : scales;
}
// Blocks of 32 columns that share a head, and all their bytes.
INLINE size_t head_blocks(const WeightType type)
{
    return has_superblocks(type) ? SUPERBLOCK / QUANT_BLOCK : 1;
}
INLINE size_t block_bytes(const WeightType type)
{
    return head_bytes(type) + head_blocks(type) * weights_bytes(type);
}

// The values of q4t plus 128, as bytes are stored: those of GGUF's IQ4_NL, which lie denser around
// zero, where most weights are.
static const uint8_t weight_table[16] = {1,   24,  45,  63,  79,  93,  106, 118,
                                         129, 141, 153, 166, 181, 197, 217, 241};

#define BLOCK_STEPS 8

// Columns 4 i .. 4 i + 3 of a quantisation block, of all 16 rows, as unsigned bytes.
INLINE VB block_step(const WeightType type, const uint8_t *weights, const size_t i)
{
    if (type == WEIGHT_Q8) {
        return vb_load(weights + 64 * i);
    }
    const VB both = vb_load(weights + 64 * (i % 4)), nibbles = i < 4 ? vb_low(both) : vb_high(both);
    if (type == WEIGHT_Q4T) {
        return vb_lookup(weight_table, nibbles);
    }
    if (has_5_bits(type)) {
        return vb_or(nibbles, vb_bits(vb_load(weights + NIBBLE_BYTES), 4 - (int)i, 16));
    }
    if (type == WEIGHT_Q6K) {
        const VB high = vb_load(weights + NIBBLE_BYTES + 64 * (i / 4));
        return vb_or(nibbles, vb_bits(high, 4 - 2 * (int)(i % 4), 48));
    }
    return nibbles;
}

// The k-th step in the order 0 4 1 5 2 6 3 7: the two nibbles of a byte come one after the other,
// so the byte is loaded once. In q6k each half of the steps has its own scale.
INLINE size_t nth_step(const WeightType type, const size_t k)
{
    return type == WEIGHT_Q6K ? k : k / 2 + k % 2 * 4;
}

// The integer sums of a quantisation block, one per lane, in the form of the set's products. A
// weight type uses one of the three; the others never appear in the machine code.
typedef struct {
    ByteSum bytes;      // q8, q4t: weights up to 255
    NibbleSum nibbles;  // q4, q4m: weights up to 15
    ScaledSum scaled;   // the others: weights up to 63, or with integer scales
} BlockSum;

INLINE bool sums_bytes(const WeightType type) { return type == WEIGHT_Q8 || type == WEIGHT_Q4T; }
INLINE bool sums_nibbles(const WeightType type) { return type == WEIGHT_Q4 || type == WEIGHT_Q4M; }

// What a quantisation block's sums are multiplied by. Without superblocks: scale and minimum. In
// superblocks: the integer scales of the first and the last 16 columns.
typedef struct {
    V scale, minimum;
    VS part[2];
} BlockScales;

INLINE void block_begin(const WeightType type, BlockSum *s, int32_t begin)
{
    if (sums_bytes(type)) {
        s->bytes = byte_begin(begin);
    } else if (sums_nibbles(type)) {
        s->nibbles = nibble_begin(begin);
    } else {
        s->scaled = scaled_begin();
    }
}

// Adds the k-th step. Scaled parts are 4 steps; of q4k 8, as more would still fit.
INLINE void block_add(const WeightType type, BlockSum *s, VB weights, ActivationStep x,
                      const BlockScales *scales, const size_t k)
{
    if (sums_bytes(type)) {
        s->bytes = byte_add(s->bytes, weights, x);
        return;
    }
    if (sums_nibbles(type)) {
        s->nibbles = nibble_add(s->nibbles, weights, x);
        return;
    }
    s->scaled = type == WEIGHT_Q6K ? scaled_add_6(s->scaled, weights, x)
                                   : scaled_add(s->scaled, weights, x);
    if (k == BLOCK_STEPS - 1 || (k == BLOCK_STEPS / 2 - 1 && type != WEIGHT_Q4K)) {
        s->scaled = scaled_part(s->scaled, scales->part[k / (BLOCK_STEPS / 2)]);
    }
}

INLINE V block_end(const WeightType type, const BlockSum *s, int32_t begin)
{
    return sums_bytes(type)     ? byte_end(s->bytes)
           : sums_nibbles(type) ? nibble_end(s->nibbles, begin)
           : type == WEIGHT_Q5  ? v_add(scaled_end(s->scaled), v_set1((float)begin))
                                : scaled_end(s->scaled);
}

// Where one quantisation block of a tile's activations begins, see Activations; one element per
// row, 32 of q.
typedef struct {
    const int8_t *q;
    const float *scale, *total;
    const int32_t *begin;
    size_t tile;  // elements from block to block
} QuantizedRows;

INLINE void next_block(QuantizedRows *x)
{
    x->q += x->tile * QUANT_BLOCK;
    x->scale += x->tile;
    x->total += x->tile;
    x->begin += x->tile;
}

// Whether a row's sums of a block are scaled and added as soon as they are complete, or those of all
// rows at the end. The first needs fewer moves between registers where there are 32 (avx512, gcc 12:
// 277 instead of 286 instructions for q4m's 12 rows); on AVX2 it makes q4m 7 % slower and q4 4 %.
#ifndef ENDS_ROW_BY_ROW
#define ENDS_ROW_BY_ROW 0
#endif

// *sum += a quantisation block's sums times what row t's block and, outside a superblock, the weights'
// block are scaled by.
INLINE void add_block(const WeightType type, V *sum, V block, const BlockScales *scales,
                      const QuantizedRows *x, size_t t)
{
    const V x_scale = v_set1(x->scale[t]);
    const V both = has_superblocks(type) ? x_scale : v_mul(scales->scale, x_scale);
    *sum = v_fma(block, both, *sum);
    if (has_minimum(type) && !has_superblocks(type)) {
        *sum = v_fma(scales->minimum, v_set1(x->total[t]), *sum);
    }
}

// sum[t] += a quantisation block of 16 rows of weights times row t's block of activations. In a
// superblock the sums are not yet multiplied by its scale. STEPS_HELD steps of the weights at a time
// are unpacked into registers and multiplied by all rows in turn, so unpacking is shared, the sums
// of many rows grow in parallel, and none waits for its previous product.
INLINE void tile_block(const size_t T, const WeightType type, V *sum, const uint8_t *weights,
                       const BlockScales *scales, const QuantizedRows *x)
{
    BlockSum block[TILE_ROWS_QUANTIZED];
    int32_t begin[TILE_ROWS_QUANTIZED];
    UNROLL
    for (size_t t = 0; t < T; t++) {
        // -8 or -128 times the sum of q; the fifth bit doubles 8.
        begin[t] = has_minimum(type) || type == WEIGHT_Q6K ? 0
                   : type == WEIGHT_Q5                     ? 2 * x->begin[t]
                                                           : x->begin[t];
        block_begin(type, &block[t], begin[t]);
    }
    UNROLL
    for (size_t first = 0; first < BLOCK_STEPS; first += STEPS_HELD) {
        VB held[STEPS_HELD];
        UNROLL
        for (size_t k = 0; k < STEPS_HELD; k++) {
            held[k] = block_step(type, weights, nth_step(type, first + k));
        }
        UNROLL
        for (size_t t = 0; t < T; t++) {
            UNROLL
            for (size_t k = 0; k < STEPS_HELD; k++) {
                const ActivationStep four = {x->q + t * QUANT_BLOCK, nth_step(type, first + k)};
                block_add(type, &block[t], held[k], four, scales, first + k);
            }
            if (ENDS_ROW_BY_ROW && first + STEPS_HELD == BLOCK_STEPS) {
                add_block(type, &sum[t], block_end(type, &block[t], begin[t]), scales, x, t);
            }
        }
    }
    if (!ENDS_ROW_BY_ROW) {
        UNROLL
        for (size_t t = 0; t < T; t++) {
            add_block(type, &sum[t], block_end(type, &block[t], begin[t]), scales, x, t);
        }
    }
}

// A block that has its own scale in f16.
INLINE void tile_flat_block(const size_t T, const WeightType type, V *sum, const uint8_t *w,
                            const QuantizedRows *x)
{
    const uint16_t *head = (const uint16_t *)(const void *)w;
    const BlockScales scales = {.scale = v_load_f16(head),
                                .minimum = has_minimum(type) ? v_load_f16(head + LANES) : v_zero(),
                                .part = {vs_one(), vs_one()}};
    tile_block(T, type, sum, w + head_bytes(type), &scales, x);
}

// The 8 scales and then the 8 minimums of each row of a superblock of q4k or q5k, 6 bits each, from
// 12 bytes per row: byte k of row r is p[16 k + r]. The bits are where GGUF has them:
//
//     byte    0 .. 3                     4 .. 7                     8 .. 11
//     bits    0 .. 5: scales 0 .. 3      0 .. 5: minimums 0 .. 3    0 .. 3: scales 4 .. 7
//             6, 7: scales 4 .. 7, top   6, 7: minimums 4 .. 7      4 .. 7: minimums 4 .. 7
INLINE void unpack_scales(int8_t (*six)[LANES], const uint8_t *p)
{
    for (size_t k = 0; k < 4; k++) {
        for (size_t r = 0; r < LANES; r++) {
            const uint8_t low = p[k * LANES + r], low_m = p[(k + 4) * LANES + r];
            const uint8_t rest = p[(k + 8) * LANES + r];
            six[k][r] = (int8_t)(low & 63);
            six[k + 4][r] = (int8_t)((low >> 2 & 48) | (rest & 15));
            six[k + 8][r] = (int8_t)(low_m & 63);
            six[k + 12][r] = (int8_t)((low_m >> 2 & 48) | rest >> 4);
        }
    }
}

// sum[t] -= d sum over blocks j of minimum[j] total[j]: what the minimums of a superblock take away.
INLINE void tile_minimums(const size_t T, V *sum, V d, const int8_t *minimums,
                          const QuantizedRows *x, size_t n_blocks)
{
    V part[TILE_ROWS_QUANTIZED];
    UNROLL
    for (size_t t = 0; t < T; t++) {
        part[t] = v_zero();
    }
    for (size_t j = 0; j < n_blocks; j++) {
        const V minimum = v_load_i8(minimums + j * LANES);
        UNROLL
        for (size_t t = 0; t < T; t++) {
            part[t] = v_fma(minimum, v_set1(x->total[j * x->tile + t]), part[t]);
        }
    }
    UNROLL
    for (size_t t = 0; t < T; t++) {
        sum[t] = v_fma(v_sub(v_zero(), d), part[t], sum[t]);
    }
}

// sum[t] += a superblock of weights, at w, or the first n_blocks blocks of it, times row t. Its
// blocks are added up with their integer scales only, and the sum is multiplied by the scale in f16
// at the end:
//
//     w = d (scale u) - d_m minimum        q6k: w = d (scale (u - 32))
INLINE void tile_superblock(const size_t T, const WeightType type, V *sum, const uint8_t *w,
                            QuantizedRows x, size_t n_blocks, bool once)
{
    const uint16_t *head = (const uint16_t *)(const void *)w;
    const V scale = v_load_f16(head);
    int8_t six[16][LANES];
    if (has_minimum(type)) {
        unpack_scales(six, w + 2 * LANES * sizeof *head);
        tile_minimums(T, sum, v_load_f16(head + LANES), six[8], &x, n_blocks);
    } else {
        memcpy(six, w + LANES * sizeof *head, sizeof six);
    }
    V part[TILE_ROWS_QUANTIZED];
    UNROLL
    for (size_t t = 0; t < T; t++) {
        part[t] = v_zero();
    }
    const uint8_t *weights = w + head_bytes(type);
    for (size_t j = 0; j < n_blocks; j++) {
        if (once) {
            prefetch(weights, weights_bytes(type));
        }
        const VS first = vs_load(six[type == WEIGHT_Q6K ? 2 * j : j]);
        const BlockScales scales = {
            .part = {first, type == WEIGHT_Q6K ? vs_load(six[2 * j + 1]) : first}};
        tile_block(T, type, part, weights, &scales, &x);
        weights += weights_bytes(type);
        next_block(&x);
    }
    UNROLL
    for (size_t t = 0; t < T; t++) {
        sum[t] = v_fma(scale, part[t], sum[t]);
    }
}

// Multiplies T rows, all in one tile of the activations, by one group of 16 outputs. One group is
// enough: the rows already give T independent sums, and integer dot products need few loads per
// multiplication.
INLINE void product_quantized(const size_t T, const WeightType type, const Product *product)
{
    const Product p = *product;
    const size_t n_blocks = (p.n_cols + QUANT_BLOCK - 1) / QUANT_BLOCK;
    const size_t at = activation_block(p.in, p.row, 0);
    const bool once = p.row == 0;  // later rows find the weights in the cache
    const uint8_t *w = (const uint8_t *)p.w;
    QuantizedRows x = {.q = p.in->q + at * QUANT_BLOCK,
                       .scale = p.in->q_scale + at,
                       .total = p.in->q_total + at,
                       .begin = (sums_bytes(type) ? p.in->q_begin8 : p.in->q_begin4) + at,
                       .tile = p.in->tile};
    V sum[TILE_ROWS_QUANTIZED];
    UNROLL
    for (size_t t = 0; t < T; t++) {
        sum[t] = p.add ? v_load(p.out + t * p.out_stride) : v_zero();
    }
    for (size_t b = 0, n; b < n_blocks; b += n) {
        n = min_size(n_blocks - b, head_blocks(type));
        if (has_superblocks(type)) {
            tile_superblock(T, type, sum, w, x, n, once);
        } else {
            if (once) {
                prefetch(w, block_bytes(type));
            }
            tile_flat_block(T, type, sum, w, &x);
        }
        w += block_bytes(type);
        for (size_t k = 0; k < n; k++) {
            next_block(&x);
        }
    }
    UNROLL
    for (size_t t = 0; t < T; t++) {
        v_store(p.out + t * p.out_stride, sum[t]);
    }
}

// --------------------------------------------------------------------------------------------
// From a number of rows to the code specialised for it

// T rows. Tiles that this set does not have are removed here, before any code is generated for
// them.
INLINE void product_of(const size_t T, const WeightType type, const FetchWhat fetch,
                       const Product *p)
{
    if (is_quantized(type) && T <= TILE_ROWS_QUANTIZED) {
        product_quantized(T, type, p);
    } else if (!is_quantized(type) && T <= TILE_ROWS) {
        product_float(T, type, fetch, p);
    }
}

// 1 to TILE_ROWS or TILE_ROWS_QUANTIZED rows. The switch makes the number a constant: each case
// inlines its own code. (A loop or a table over the numbers would be unrolled only after inlining,
// when the arrays of sums are already in memory.)
INLINE void product(const WeightType type, const FetchWhat fetch, size_t n_rows, const Product *p)
{
    switch (n_rows) {
    case 1:
        product_of(1, type, fetch, p);
        break;
    case 2:
        product_of(2, type, fetch, p);
        break;
    case 3:
        product_of(3, type, fetch, p);
        break;
    case 4:
        product_of(4, type, fetch, p);
        break;
    case 5:
        product_of(5, type, fetch, p);
        break;
    case 6:
        product_of(6, type, fetch, p);
        break;
    case 7:
        product_of(7, type, fetch, p);
        break;
    case 8:
        product_of(8, type, fetch, p);
        break;
    case 9:
        product_of(9, type, fetch, p);
        break;
    case 10:
        product_of(10, type, fetch, p);
        break;
    case 11:
        product_of(11, type, fetch, p);
        break;
    case 12:
        product_of(12, type, fetch, p);
        break;
    }
}

// The instances. Each is a separate function with all its tiles inside, so that the compiler
// allocates registers for one at a time and callers can share it. "once": for weights that are read
// once.
static void product_f32(size_t n_rows, const Product *p)
{
    product(WEIGHT_F32, FETCH_NEXT, n_rows, p);
}
static void product_f32_once(size_t n_rows, const Product *p)
{
    product(WEIGHT_F32, FETCH_OWN, n_rows, p);
}
static void product_bf16(size_t n_rows, const Product *p)
{
    product(WEIGHT_BF16, FETCH_NEXT, n_rows, p);
}
static void product_bf16_once(size_t n_rows, const Product *p)
{
    product(WEIGHT_BF16, FETCH_OWN, n_rows, p);
}
static void product_f16(size_t n_rows, const Product *p)
{
    product(WEIGHT_F16, FETCH_NEXT, n_rows, p);
}
static void product_f16_once(size_t n_rows, const Product *p)
{
    product(WEIGHT_F16, FETCH_OWN, n_rows, p);
}
static void product_f16_keys(size_t n_rows, const Product *p)
{
    product(WEIGHT_F16, FETCH_NOTHING, n_rows, p);
}
static void product_q8(size_t n_rows, const Product *p)
{
    product(WEIGHT_Q8, FETCH_OWN, n_rows, p);
}
static void product_q4(size_t n_rows, const Product *p)
{
    product(WEIGHT_Q4, FETCH_OWN, n_rows, p);
}
static void product_q4m(size_t n_rows, const Product *p)
{
    product(WEIGHT_Q4M, FETCH_OWN, n_rows, p);
}
static void product_q4t(size_t n_rows, const Product *p)
{
    product(WEIGHT_Q4T, FETCH_OWN, n_rows, p);
}
static void product_q5(size_t n_rows, const Product *p)
{
    product(WEIGHT_Q5, FETCH_OWN, n_rows, p);
}
static void product_q5m(size_t n_rows, const Product *p)
{
    product(WEIGHT_Q5M, FETCH_OWN, n_rows, p);
}
static void product_q4k(size_t n_rows, const Product *p)
{
    product(WEIGHT_Q4K, FETCH_OWN, n_rows, p);
}
static void product_q5k(size_t n_rows, const Product *p)
{
    product(WEIGHT_Q5K, FETCH_OWN, n_rows, p);
}
static void product_q6k(size_t n_rows, const Product *p)
{
    product(WEIGHT_Q6K, FETCH_OWN, n_rows, p);
}

// --------------------------------------------------------------------------------------------
// Matrix times activations

// Float weights are read from memory once although many tiles of rows need them: a panel of
// PANEL_COLS inputs of the G groups of a tile (24 KB in f32 with G = 2) stays in the first-level
// cache while all rows are multiplied by it.
//
//     for each PANEL_COLS columns             the sums of earlier columns wait in out
//         for each G groups                   = one panel
//             for each tile of rows           requests its share of the next panel meanwhile
//
// The rows are spread evenly over as few tiles as possible: 16 are 8 and 8, not 12 and 4. 192
// columns divide the usual widths (576, 1536) or leave little over (2048).
#ifndef PANEL_COLS
#define PANEL_COLS 192
#endif

_Static_assert(PANEL_COLS % FETCH_COLS == 0, "a panel is fetched FETCH_COLS columns at a time");

// One of the instances above.
typedef void ProductFunction(size_t n_rows, const Product *p);

INLINE void matmul_panels(const WeightType type, ProductFunction *by_panel, const Matmul *m)
{
    const size_t G = tile_groups(TILE_ROWS), step = step_bytes(type);
    const size_t n_tiles = (m->n_rows + TILE_ROWS - 1) / TILE_ROWS;
    const size_t tile_rows = (m->n_rows + n_tiles - 1) / n_tiles;
    const size_t fetch_bytes = FETCH_COLS * step / n_tiles, group_bytes = m->n_cols * step;
    Product p = {
        .out_stride = m->out_stride, .group_stride = m->n_cols * LANES, .x_stride = m->in->stride};
    for (size_t col = 0; col < m->n_cols; col += PANEL_COLS) {
        p.n_cols = min_size(m->n_cols - col, PANEL_COLS);
        p.add = m->add || col > 0;
        for (size_t g = m->group_begin; g < m->group_end; g += G) {
            const bool last = g + G >= m->group_end;
            const size_t next_group = last ? m->group_begin : g + G;
            const size_t next_col = last ? col + PANEL_COLS : col;
            p.n_groups = min_size(m->group_end - g, G);
            p.w = (const char *)m->w + g * group_bytes + col * step;
            p.fetch = (Fetch){.next = (uintptr_t)m->w + next_group * group_bytes + next_col * step,
                              .stride = group_bytes,
                              .bytes = fetch_bytes};
            for (size_t r = 0, n; r < m->n_rows; r += n) {
                n = min_size(m->n_rows - r, tile_rows);
                p.out = m->out + r * m->out_stride + g * LANES;
                p.x = m->in->x + r * m->in->stride + col;
                by_panel(n, &p);
                p.fetch.next += PANEL_COLS / FETCH_COLS * fetch_bytes;
            }
        }
    }
}

// All rows in one tile, which reads the weights from beginning to end, each once.
INLINE void matmul_once(const WeightType type, ProductFunction *once, const Matmul *m)
{
    const Product p = {.out = m->out + m->group_begin * LANES,
                       .out_stride = m->out_stride,
                       .add = m->add,
                       .w = (const char *)m->w + m->group_begin * m->n_cols * step_bytes(type),
                       .n_cols = m->n_cols,
                       .group_stride = m->n_cols * LANES,
                       .n_groups = m->group_end - m->group_begin,
                       .x = m->in->x,
                       .x_stride = m->in->stride};
    once(m->n_rows, &p);
}

// Few rows need each weight once, in memory order; many rows need it once per tile, and should find
// it in the first-level cache.
INLINE void matmul_float(const WeightType type, ProductFunction *once, ProductFunction *by_panel,
                         const Matmul *m)
{
    if (m->n_rows <= TILE_ROWS) {
        matmul_once(type, once, m);
    } else {
        matmul_panels(type, by_panel, m);
    }
}

static void matmul_f32(const Matmul *m)
{
    matmul_float(WEIGHT_F32, product_f32_once, product_f32, m);
}
static void matmul_bf16(const Matmul *m)
{
    matmul_float(WEIGHT_BF16, product_bf16_once, product_bf16, m);
}
static void matmul_f16(const Matmul *m)
{
    matmul_float(WEIGHT_F16, product_f16_once, product_f16, m);
}

// Group by group: a group's weights stay in the cache while all rows are multiplied by them. A tile
// of the activations may be wider than a tile of this set, and is then taken in parts.
INLINE void matmul_quantized(const WeightType type, ProductFunction *by_group, const Matmul *m)
{
    const size_t block_cols = head_blocks(type) * QUANT_BLOCK;
    const size_t n_blocks = (m->n_cols + block_cols - 1) / block_cols;
    Product p = {.out_stride = m->out_stride, .add = m->add, .n_cols = m->n_cols, .in = m->in};
    for (size_t g = m->group_begin; g < m->group_end; g++) {
        p.w = (const char *)m->w + g * n_blocks * block_bytes(type);
        for (size_t r = 0, n; r < m->n_rows; r += n) {
            n = min_size(m->in->tile - r % m->in->tile, TILE_ROWS_QUANTIZED);
            n = min_size(m->n_rows - r, n);
            p.out = m->out + r * m->out_stride + g * LANES;
            p.row = r;
            by_group(n, &p);
        }
    }
}

static void matmul_q8(const Matmul *m) { matmul_quantized(WEIGHT_Q8, product_q8, m); }
static void matmul_q4(const Matmul *m) { matmul_quantized(WEIGHT_Q4, product_q4, m); }
static void matmul_q4m(const Matmul *m) { matmul_quantized(WEIGHT_Q4M, product_q4m, m); }
static void matmul_q4t(const Matmul *m) { matmul_quantized(WEIGHT_Q4T, product_q4t, m); }
static void matmul_q5(const Matmul *m) { matmul_quantized(WEIGHT_Q5, product_q5, m); }
static void matmul_q5m(const Matmul *m) { matmul_quantized(WEIGHT_Q5M, product_q5m, m); }
static void matmul_q4k(const Matmul *m) { matmul_quantized(WEIGHT_Q4K, product_q4k, m); }
static void matmul_q5k(const Matmul *m) { matmul_quantized(WEIGHT_Q5K, product_q5k, m); }
static void matmul_q6k(const Matmul *m) { matmul_quantized(WEIGHT_Q6K, product_q6k, m); }

// --------------------------------------------------------------------------------------------
// One row of a matrix, in plain C: only a token's row of the embedding is read like this. The row
// is one lane of its group, 16 values (or 4 bytes of every 64) apart.

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

static void row_f16(float *out, const void *w, size_t n_cols, size_t row)
{
    const uint16_t *group = (const uint16_t *)w + row / LANES * LANES * n_cols;
    for (size_t i = 0; i < n_cols; i++) {
        out[i] = f16_to_f32(group[i * LANES + row % LANES]);
    }
}

// Value `lane` of those in f16 at p.
INLINE float lane_f16(const uint8_t *p, size_t lane)
{
    uint16_t bits;
    memcpy(&bits, p + lane * sizeof bits, sizeof bits);
    return f16_to_f32(bits);
}

// Column i of a row of a block, as it is stored: u in the formulas.
INLINE unsigned stored_weight(const WeightType type, const uint8_t *weights, size_t i, size_t lane)
{
    const size_t step = i / 4, at = lane * 4 + i % 4;
    if (type == WEIGHT_Q8) {
        return weights[step * 64 + at];
    }
    const uint8_t byte = weights[step % 4 * 64 + at], nibble = step < 4 ? byte & 15 : byte >> 4;
    const uint8_t *high = weights + NIBBLE_BYTES;
    return type == WEIGHT_Q4T   ? weight_table[nibble]
           : has_5_bits(type)   ? nibble | (high[at] >> step & 1u) << 4
           : type == WEIGHT_Q6K ? nibble | (high[step / 4 * 64 + at] >> step % 4 * 2 & 3u) << 4
                                : nibble;
}

// The weights of the formulas above: s_w (u - 128), s_w (u - 8), s_w (u - 16), s_w u + m.
INLINE float flat_weight(const WeightType type, const uint8_t *head, size_t i, size_t lane)
{
    const int offset = has_minimum(type) ? 0 : sums_bytes(type) ? 128 : type == WEIGHT_Q5 ? 16 : 8;
    const int u = (int)stored_weight(type, head + head_bytes(type), i, lane);
    const float scale = lane_f16(head, lane), value = (float)(u - offset);
    const size_t minimum = LANES * sizeof(uint16_t);
    return has_minimum(type) ? fmaf(scale, value, lane_f16(head + minimum, lane)) : scale * value;
}

// The first n columns of a superblock. Only the last subtraction rounds: the products have at most 24
// bits.
INLINE void superblock_row(const WeightType type, float *out, const uint8_t *head, size_t n,
                           size_t lane)
{
    const bool minimum = has_minimum(type);
    const size_t f16_bytes = LANES * sizeof(uint16_t);
    const float d = lane_f16(head, lane),
                d_minimum = minimum ? lane_f16(head + f16_bytes, lane) : 0;
    int8_t six[16][LANES];
    if (minimum) {
        unpack_scales(six, head + 2 * f16_bytes);
    } else {
        memcpy(six, head + f16_bytes, sizeof six);
    }
    for (size_t i = 0; i < n; i++) {
        const size_t block = i / QUANT_BLOCK;
        const uint8_t *weights = head + head_bytes(type) + block * weights_bytes(type);
        const int u = (int)stored_weight(type, weights, i % QUANT_BLOCK, lane);
        out[i] = minimum ? d * (float)six[block][lane] * (float)u -
                               d_minimum * (float)six[block + 8][lane]
                         : d * (float)six[i / 16][lane] * (float)(u - 32);
    }
}

INLINE void row_quantized(const WeightType type, float *out, const void *w, size_t n_cols,
                          size_t row)
{
    const size_t block_cols = head_blocks(type) * QUANT_BLOCK, lane = row % LANES;
    const size_t n_blocks = (n_cols + block_cols - 1) / block_cols;
    const uint8_t *head = (const uint8_t *)w + row / LANES * n_blocks * block_bytes(type);
    for (size_t begin = 0; begin < n_cols; begin += block_cols, head += block_bytes(type)) {
        const size_t n = min_size(n_cols - begin, block_cols);
        if (has_superblocks(type)) {
            superblock_row(type, out + begin, head, n, lane);
            continue;
        }
        for (size_t i = 0; i < n; i++) {
            out[begin + i] = flat_weight(type, head, i, lane);
        }
    }
}

static void row_q8(float *out, const void *w, size_t n_cols, size_t row)
{
    row_quantized(WEIGHT_Q8, out, w, n_cols, row);
}
static void row_q4(float *out, const void *w, size_t n_cols, size_t row)
{
    row_quantized(WEIGHT_Q4, out, w, n_cols, row);
}
static void row_q4m(float *out, const void *w, size_t n_cols, size_t row)
{
    row_quantized(WEIGHT_Q4M, out, w, n_cols, row);
}
static void row_q4t(float *out, const void *w, size_t n_cols, size_t row)
{
    row_quantized(WEIGHT_Q4T, out, w, n_cols, row);
}
static void row_q5(float *out, const void *w, size_t n_cols, size_t row)
{
    row_quantized(WEIGHT_Q5, out, w, n_cols, row);
}
static void row_q5m(float *out, const void *w, size_t n_cols, size_t row)
{
    row_quantized(WEIGHT_Q5M, out, w, n_cols, row);
}
static void row_q4k(float *out, const void *w, size_t n_cols, size_t row)
{
    row_quantized(WEIGHT_Q4K, out, w, n_cols, row);
}
static void row_q5k(float *out, const void *w, size_t n_cols, size_t row)
{
    row_quantized(WEIGHT_Q5K, out, w, n_cols, row);
}
static void row_q6k(float *out, const void *w, size_t n_cols, size_t row)
{
    row_quantized(WEIGHT_Q6K, out, w, n_cols, row);
}

// --------------------------------------------------------------------------------------------
// The scales of quantisation blocks

// The two vectors of a block.
typedef struct {
    V low, high;
} VBlock;

INLINE VBlock block_load(const float *p) { return (VBlock){v_load(p), v_load(p + LANES)}; }
INLINE VBlock block_mul(VBlock a, VBlock b)
{
    return (VBlock){v_mul(a.low, b.low), v_mul(a.high, b.high)};
}
INLINE VBlock block_sub(VBlock a, float b)
{
    return (VBlock){v_sub(a.low, v_set1(b)), v_sub(a.high, v_set1(b))};
}
INLINE float block_dot(VBlock a, VBlock b)
{
    return v_sum(v_fma(a.high, b.high, v_mul(a.low, b.low)));
}

// The value of the grid nearest to each y. In a table: the first one, plus the distance to the next
// one for each middle between two that y has reached.
INLINE V round_to_grid(const ScaleSearch *s, V y)
{
    if (!s->table) {
        return v_round(v_min(v_max(y, v_set1(s->low)), v_set1(s->high)));
    }
    V q = v_set1(s->table[0]);
    for (size_t k = 0; k < 15; k++) {
        const float a = s->table[k], b = s->table[k + 1];
        q = v_add(q, v_zero_where_less(y, v_set1((a + b) / 2), v_set1(b - a)));
    }
    return q;
}
INLINE VBlock round_block(const ScaleSearch *s, VBlock x, float scale)
{
    const V inverse = v_set1(scale != 0 ? 1.0f / scale : 0);
    return (VBlock){round_to_grid(s, v_mul(x.low, inverse)),
                    round_to_grid(s, v_mul(x.high, inverse))};
}

// The best scale for a rounding q, sum w x q / sum w q^2, takes (sum w x q)^2 / sum w q^2 off the
// error. Each scale is tried in turn; after the steps, the best one again.
static FoundScale kernel_find_scale(const ScaleSearch *s)
{
    const VBlock x = block_load(s->x), weight = block_load(s->weight);
    const VBlock weighted = block_mul(x, weight);
    float largest = 0, best = 0, best_scale = 0, fit = 0;
    for (size_t i = 0; i < QUANT_BLOCK; i++) {
        largest = fabsf(s->x[i]) > fabsf(largest) ? s->x[i] : largest;
    }
    const size_t each = 1 + s->step_refits, n_tries = s->n_steps * each;
    for (size_t i = 0; i < n_tries + s->refits; i++) {
        const float scale = i >= n_tries    ? best_scale
                            : i % each == 0 ? largest / s->steps[i / each]
                                            : fit;
        const VBlock q = round_block(s, x, scale);
        const float xq = block_dot(weighted, q), qq = block_dot(block_mul(weight, q), q);
        fit = qq > 0 ? xq / qq : 0;
        best_scale = xq * fit > best ? fit : best_scale;
        best = xq * fit > best ? xq * fit : best;
    }
    return (FoundScale){best_scale, 0};
}

// The same for scale * q + minimum, by the regression of x on q: both less their means.
static FoundScale kernel_find_line(const ScaleSearch *s)
{
    const VBlock x = block_load(s->x), weight = block_load(s->weight);
    const float mean = block_dot(x, weight) / QUANT_BLOCK;
    const VBlock centred = block_mul(block_sub(x, mean), weight);
    float min = s->x[0], max = s->x[0], best = 0;
    for (size_t i = 1; i < QUANT_BLOCK; i++) {
        min = s->x[i] < min ? s->x[i] : min;
        max = s->x[i] > max ? s->x[i] : max;
    }
    FoundScale found = {0, mean};
    for (size_t i = 0; i < s->n_steps + s->refits; i++) {
        FoundScale tried = found;
        if (i < s->n_steps) {
            tried.scale = (max - min) / s->steps[i];
            tried.minimum = (min + max) / 2 - (s->low + s->high) / 2 * tried.scale;
        }
        VBlock q = round_block(s, block_sub(x, tried.minimum), tried.scale);
        const float mean_q = block_dot(q, weight) / QUANT_BLOCK;
        q = block_sub(q, mean_q);
        const float xq = block_dot(centred, q), qq = block_dot(block_mul(weight, q), q);
        const float fit = qq > 0 ? xq / qq : 0;
        if (xq * fit > best) {
            best = xq * fit;
            found = (FoundScale){fit, mean - fit * mean_q};
        }
    }
    return found;
}

// --------------------------------------------------------------------------------------------
// Elementwise kernels. They include the padding up to full vectors: zeros add nothing to a norm,
// and -infinity has no weight in a softmax.

// The sum of squares is one of the true reductions: lane j adds up x[j]^2, x[j + 16]^2, .. in
// order, then the lanes are added in the tree of v_sum. So its bits depend on n alone.
static float kernel_rms_norm(float *out, const float *x, const float *weight, size_t n, float eps)
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

// Each pair (a, b) as the complex number a + b i, times cos + sin i. Plain C, separate products and
// sums (-ffp-contract=off): the compiler may vectorise it without changing the bits.
static void kernel_rope(float *x, const float *cos, const float *sin, size_t head_dim)
{
    size_t half = head_dim / 2;
    for (size_t i = 0; i < half; i++) {
        float a = x[i], b = x[i + half];
        x[i] = a * cos[i] - b * sin[i];
        x[i + half] = b * cos[i] + a * sin[i];
    }
}

// silu(gate) * up, with silu(g) = g / (1 + e^-g); e^-g may become infinity, and the quotient 0.
static void kernel_swiglu(float *gate, const float *up, size_t n)
{
    V one = v_set1(1.0f);
    for (size_t i = 0; i < n; i += LANES) {
        V g = v_load(gate + i);
        V silu = v_div(g, v_add(one, v_exp(v_sub(v_zero(), g))));
        v_store(gate + i, v_mul(silu, v_load(up + i)));
    }
}

// gelu(gate) * up. With u = sqrt(2 / pi) (g + 0.044715 g^3), g / 2 (1 + tanh u) is g / (1 + e^-2u):
// silu of another argument, without a tanh.
static void kernel_geglu(float *gate, const float *up, size_t n)
{
    const V one = v_set1(1.0f), scale = v_set1(-1.5957691216057308f);  // -2 sqrt(2 / pi)
    for (size_t i = 0; i < n; i += LANES) {
        V g = v_load(gate + i);
        V inner = v_fma(v_mul(v_mul(g, g), g), v_set1(0.044715f), g);
        V gelu = v_div(g, v_add(one, v_exp(v_mul(scale, inner))));
        v_store(gate + i, v_mul(gelu, v_load(up + i)));
    }
}

static void kernel_soft_cap(float *x, size_t n, float cap)
{
    for (size_t i = 0; i < n; i += LANES) {
        v_store(x + i, v_soft_cap(v_load(x + i), v_set1(cap)));
    }
}

// Three passes: maximum, exponentials with their sum (16 partial sums, then the tree), division.
static void kernel_softmax(float *x, size_t n, float temperature)
{
    V max = v_set1(-INFINITY), sum = v_zero(), t = v_set1(temperature);
    for (size_t i = 0; i < n; i += LANES) {
        max = v_max(v_load(x + i), max);
    }
    // The maximum is subtracted before the division, so that a tiny temperature cannot overflow.
    V m = v_set1(v_reduce_max(max));
    for (size_t i = 0; i < n; i += LANES) {
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
// Attention of a tile of queries that share a kv_head, over one split of the positions
//
//     scores   s[t][j] = q[t] . k[j]                  a product whose outputs are positions
//     weights  w[t][j] = exp(s[t][j] - max of s[t])   in place of the scores
//     values   out[t]  = sum over j of w[t][j] v[j]   a product whose outputs are dimensions
//
// A softmax needs the maximum and the sum over all positions. Neither is known within a split, so a
// result carries its own maximum and sum and is not yet divided; kernel_combine rescales two
// results to their common maximum, e^(m - max), and adds them. (Online softmax: Milakov and
// Gimelshein, arXiv:1805.02867. Keys and values visited in pieces that fit the caches:
// FlashAttention, arXiv:2205.14135. Splits computed by different threads and combined afterwards:
// Flash-Decoding.)
//
// The splits have fixed positions and are combined in order, so the bits do not depend on how many
// threads share the work. For the same reason, a split's length must never depend on the number of
// threads.

// What the queries of a tile see of the split, as positions begin .. end - 1 of the sequence.
typedef struct {
    size_t begin[TILE_QUERIES], end[TILE_QUERIES];  // query t; begin = end: nothing
    size_t any_begin, any_end;  // at least one of the queries; any_begin > any_end: none
    size_t all_begin, all_end;  // all queries; begin = end = the split's first position: none
} Seen;

// Clips each query's positions to the split, and computes their union and their intersection.
static void find_seen(Seen *s, const Attend *a)
{
    const size_t split_begin = a->split * SPLIT_POSITIONS;
    const size_t split_end = split_begin + SPLIT_POSITIONS;
    s->any_begin = s->all_end = split_end;
    s->any_end = s->all_begin = split_begin;
    for (size_t t = 0; t < a->n_queries; t++) {
        s->begin[t] = min_size(max_size(a->visible[t].begin, split_begin), split_end);
        s->end[t] = max_size(min_size(a->visible[t].end, split_end), s->begin[t]);
        s->all_begin = max_size(s->all_begin, s->begin[t]);
        s->all_end = min_size(s->all_end, s->end[t]);
        if (s->begin[t] < s->end[t]) {
            s->any_begin = min_size(s->any_begin, s->begin[t]);
            s->any_end = max_size(s->any_end, s->end[t]);
        }
    }
    if (s->all_begin >= s->all_end) {
        s->all_begin = s->all_end = split_begin;
    }
}

// Bytes of one value of a key or value.
INLINE size_t kv_bytes(const Attend *a) { return a->f16 ? sizeof(uint16_t) : sizeof(float); }

// A product of n_rows rows and keys or values, tile by tile. Changes p->out and p->x rather than those
// of a copy: copying loads several fields at once, which would have to wait for their separate stores.
static void kv_product(const Attend *a, size_t n_rows, Product *p)
{
    // product_f32 is shared with matmul_panels. p->fetch is empty here, so nothing is prefetched.
    ProductFunction *tile = a->f16 ? product_f16_keys : product_f32;
    for (size_t r = 0; r < n_rows; r += TILE_ROWS) {
        if (r > 0) {
            p->out += TILE_ROWS * p->out_stride;
            p->x += TILE_ROWS * p->x_stride;
        }
        tile(min_size(n_rows - r, TILE_ROWS), p);
    }
}

// Requests the keys or values of the next page, at `start` bytes in it, while the current one is
// used. Pages may be anywhere in memory, so the hardware cannot predict the next one. (Decoding at
// depth 2048, two threads, tokens/s: SmolLM2 150 to 190 without it, 229 with it.) Requests
// four lines at a time, up to three of them past the end.
static void fetch_page(const Attend *a, size_t page, size_t last_page, size_t start, size_t dims)
{
    if (page > last_page) {
        return;
    }
    const size_t bytes = PAGE_POSITIONS * dims * kv_bytes(a);
    const uintptr_t next = (uintptr_t)a->pages[page] + start;
    for (size_t lines = 0; lines < bytes; lines += 4 * 64) {
        UNROLL
        for (size_t i = 0; i < 4; i++) {
            __builtin_prefetch((const void *)(next + lines + i * 64));
        }
    }
}

// Scores of all queries for positions begin .. end - 1, page by page, widened to full vectors of 16
// positions. This includes some that a query does not see; the mask makes them -infinity.
static void attend_scores(const Attend *a, size_t begin, size_t end)
{
    const size_t split_begin = a->split * SPLIT_POSITIONS;
    Product p = {.out_stride = SPLIT_POSITIONS,
                 .n_cols = a->head_dim,
                 .group_stride = a->head_dim * LANES,
                 .x_stride = a->head_dim};
    for (size_t j = begin / LANES * LANES; j < end; j += p.n_groups * LANES) {
        const size_t page = j / PAGE_POSITIONS, offset = j % PAGE_POSITIONS;
        fetch_page(a, page + 1, (end - 1) / PAGE_POSITIONS, a->k_offset, a->head_dim);
        p.n_groups = (min_size(end - j, PAGE_POSITIONS - offset) + LANES - 1) / LANES;
        p.w = (const char *)a->pages[page] + a->k_offset + offset * a->head_dim * kv_bytes(a);
        p.out = a->scores + (j - split_begin);
        p.x = a->q;
        kv_product(a, a->n_queries, &p);
    }
}

// Turns the scores of query t into weights, exp(score + mask - max), in place; scores that have a
// cap are capped before the mask, whose -infinity must remain. Clears the query's
// result and stores the maximum and the sum of the weights behind it. The first and last vector may
// extend beyond what the query sees: there the mask makes the score -infinity and the weight 0,
// which changes neither the maximum nor the sum. (The sum has 16 partial sums, by position modulo
// 16, and the tree of v_sum.)
static void attend_weights(const Attend *a, size_t t, size_t begin, size_t end)
{
    const size_t dims = whole_lanes(a->head_dim);
    float *out = a->out + t * a->out_stride;
    memset(out, 0, (dims + 2) * sizeof *out);
    if (begin == end) {
        return;
    }
    const size_t split_begin = a->split * SPLIT_POSITIONS, first = begin / LANES * LANES;
    const float *mask = a->visible[t].mask + split_begin;
    float *s = a->scores + t * SPLIT_POSITIONS;
    V max = v_set1(-INFINITY), sum = v_zero();
    if (a->cap != 0.0f) {
        kernel_soft_cap(s + (first - split_begin), whole_lanes(end - first), a->cap);
    }
    for (size_t j = first - split_begin; j < end - split_begin; j += LANES) {
        V score = v_add(v_load(s + j), v_load(mask + j));
        v_store(s + j, score);
        max = v_max(score, max);
    }
    float m = v_reduce_max(max);
    for (size_t j = first - split_begin; j < end - split_begin; j += LANES) {
        V weight = v_exp(v_sub(v_load(s + j), v_set1(m)));
        v_store(s + j, weight);
        sum = v_add(sum, weight);
    }
    out[dims] = m;
    out[dims + 1] = v_sum(sum);
}

// Adds the weighted values of positions begin .. end - 1, in their order, to the results of queries
// t, t + 1, .. t + n_queries - 1.
static void attend_values(const Attend *a, size_t t, size_t n_queries, size_t begin, size_t end)
{
    if (begin >= end) {
        return;  // usual for the parts before and after what all queries see
    }
    const size_t groups = (a->head_dim + LANES - 1) / LANES;
    const float *weights = a->scores + t * SPLIT_POSITIONS;
    Product p = {.out_stride = a->out_stride,
                 .add = true,
                 .group_stride = PAGE_POSITIONS * LANES,
                 .n_groups = groups,
                 .x_stride = SPLIT_POSITIONS};
    for (size_t j = begin; j < end; j += p.n_cols) {
        const size_t page = j / PAGE_POSITIONS, offset = j % PAGE_POSITIONS;
        fetch_page(a, page + 1, (end - 1) / PAGE_POSITIONS, a->v_offset, groups * LANES);
        p.n_cols = min_size(end - j, PAGE_POSITIONS - offset);
        p.w = (const char *)a->pages[page] + a->v_offset + offset * LANES * kv_bytes(a);
        p.out = a->out + t * a->out_stride;
        p.x = weights + (j - a->split * SPLIT_POSITIONS);
        kv_product(a, n_queries, &p);
    }
}

// The values of a position are added only for the queries that see it, so a query's sum is the same
// as if it were alone in its tile. Most positions are seen by all queries and cost one pass; those
// at either end (of the window, on the diagonal) are done query by query:
//
//     position    0 1 2 3 4 5 6 7 8 9
//     query 0     x x x x x x x x . .
//     query 1     . x x x x x x x x .
//     query 2     . . x x x x x x x x
//                 one [all queries] one
static void kernel_attend(const Attend *a)
{
    Seen seen;
    find_seen(&seen, a);
    attend_scores(a, seen.any_begin, seen.any_end);
    for (size_t t = 0; t < a->n_queries; t++) {
        attend_weights(a, t, seen.begin[t], seen.end[t]);
    }
    for (size_t t = 0; t < a->n_queries; t++) {
        attend_values(a, t, 1, seen.begin[t], min_size(seen.all_begin, seen.end[t]));
    }
    attend_values(a, 0, a->n_queries, seen.all_begin, seen.all_end);
    for (size_t t = 0; t < a->n_queries; t++) {
        attend_values(a, t, 1, max_size(seen.all_end, seen.begin[t]), seen.end[t]);
    }
}

// Each result is relative to its own maximum; the combined one is relative to the larger of the
// two:
//
//     max = larger of m_total, m_split     a = e^(m_total - max), b = e^(m_split - max)
//     total = total * a + split * b        for the weighted sums and for the sum of the weights
//
// A result without weights (sum 0) has no maximum: the other result is taken unchanged.
static void kernel_combine(float *total, const float *split, size_t head_dim)
{
    const size_t dims = whole_lanes(head_dim);
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

// The one division of the softmax, by the sum of all weights.
static void kernel_attend_finish(float *out, const float *total, size_t head_dim)
{
    const size_t dims = whole_lanes(head_dim);
    for (size_t i = 0; i < head_dim; i++) {
        out[i] = total[i] / total[dims + 1];
    }
}

// Keys are interleaved by position and values by dimension (simd.h):
//
//     keys    a step is one dimension of 16 positions      one lane of it belongs to this position
//     values  a step is 16 dimensions of one position      all of it belongs to this position
//
// So 16 dimensions of a key go into the same lane of 16 steps; those of a value are contiguous.
static void kernel_store_kv(void *page_k, void *page_v, size_t offset, const float *k,
                            const float *v, size_t head_dim, bool f16)
{
    const size_t k_start = offset / LANES * LANES * head_dim + offset % LANES;
    for (size_t d = 0; d < head_dim; d += LANES) {
        float key[LANES] = {0}, value[LANES] = {0};
        const size_t n = min_size(head_dim - d, LANES);
        const size_t v_start = d * PAGE_POSITIONS + offset * LANES;
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
// The machine's limits, for --bench: what the loops above could reach if nothing else delayed them

// Four independent sums, so that the additions keep up with the loads.
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

// The inner loop of q4 without unpacking and scales. Each step has different weights and each row
// different activations, as the compiler would compute equal products only once.
static float peak_int8(size_t steps, const uint8_t *operands)
{
    NibbleSum sum[TILE_ROWS_QUANTIZED];
    UNROLL
    for (size_t t = 0; t < TILE_ROWS_QUANTIZED; t++) {
        sum[t] = nibble_begin((int32_t)t);
    }
    for (size_t i = 0; i < steps; i++) {
        const VB weights = vb_load(operands + i % 4 * 64);
        UNROLL
        for (size_t t = 0; t < TILE_ROWS_QUANTIZED; t++) {
            const ActivationStep four = {(const int8_t *)operands, t};
            sum[t] = nibble_add(sum[t], weights, four);
        }
    }
    float total = 0;
    UNROLL
    for (size_t t = 0; t < TILE_ROWS_QUANTIZED; t++) {
        total += v_sum(nibble_end(sum[t], 0));
    }
    return total;
}

// Multiply-adds in registers only, with as many independent sums as a tile has rows.
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
    .matmul = {[WEIGHT_F32] = matmul_f32,
               [WEIGHT_BF16] = matmul_bf16,
               [WEIGHT_F16] = matmul_f16,
               [WEIGHT_Q8] = matmul_q8,
               [WEIGHT_Q4] = matmul_q4,
               [WEIGHT_Q4M] = matmul_q4m,
               [WEIGHT_Q4T] = matmul_q4t,
               [WEIGHT_Q5] = matmul_q5,
               [WEIGHT_Q5M] = matmul_q5m,
               [WEIGHT_Q4K] = matmul_q4k,
               [WEIGHT_Q5K] = matmul_q5k,
               [WEIGHT_Q6K] = matmul_q6k},
    .row = {[WEIGHT_F32] = row_f32,
            [WEIGHT_BF16] = row_bf16,
            [WEIGHT_F16] = row_f16,
            [WEIGHT_Q8] = row_q8,
            [WEIGHT_Q4] = row_q4,
            [WEIGHT_Q4M] = row_q4m,
            [WEIGHT_Q4T] = row_q4t,
            [WEIGHT_Q5] = row_q5,
            [WEIGHT_Q5M] = row_q5m,
            [WEIGHT_Q4K] = row_q4k,
            [WEIGHT_Q5K] = row_q5k,
            [WEIGHT_Q6K] = row_q6k},
    .quantize = kernel_quantize,
    .find_scale = kernel_find_scale,
    .find_line = kernel_find_line,
    .rms_norm = kernel_rms_norm,
    .rope = kernel_rope,
    .swiglu = kernel_swiglu,
    .geglu = kernel_geglu,
    .soft_cap = kernel_soft_cap,
    .softmax = kernel_softmax,
    .attend = kernel_attend,
    .combine = kernel_combine,
    .attend_finish = kernel_attend_finish,
    .store_kv = kernel_store_kv,
    .read = read_memory,
    .peak_int8 = peak_int8,
    .peak_f32 = peak_f32,
    .int8_macs_per_step = (size_t)TILE_ROWS_QUANTIZED * LANES * 4,
    .f32_macs_per_step = (size_t)TILE_ROWS * LANES,
};
