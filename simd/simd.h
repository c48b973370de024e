// simd.h - the table of kernels that each instruction set fills, and the layouts that they read.
//
// A vector is always 16 f32 lanes, whatever the registers are; a lane is an output element, and
// sums over its inputs one by one with fused multiply-add. So every set computes the same bits.
//
// A matrix of `rows` outputs and `cols` inputs is stored in groups of 16 rows, each step of the
// inner loop contiguous:
//
//     group 0:  w[0][0] w[1][0] .. w[15][0] | w[0][1] w[1][1] .. w[15][1] | ..  cols times 16
//     group 1:  w[16][0] ..                   rows past the end are zeros
//
// Keys and values are matrices of the same layout inside a page of positions: for the scores, an
// output is a position and an input a dimension of the head; for the weighted sum of the values it
// is the other way round.
//
//     keys:    (PAGE_POSITIONS / 16, head_dim, 16 positions)
//     values:  (head_dim rounded up to 16, / 16, PAGE_POSITIONS, 16 dimensions)
#ifndef SIMD_H
#define SIMD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LANES 16

// Positions in a page of the cache. Small enough that 16 short sequences waste little, large enough
// that a head's keys in a page (4 KB at head_dim 64 in f16) are a run that the hardware prefetches.
#ifndef PAGE_POSITIONS
#define PAGE_POSITIONS 32
#endif

// Positions whose softmax is summed at once; longer contexts are combined split by split, in order.
#ifndef SPLIT_POSITIONS
#define SPLIT_POSITIONS 256
#endif

// Queries of one key head that are computed together: they share every load and conversion of keys
// and values.
#define TILE_QUERIES 24

// How matrices are stored (docs/format.md has the blocks to the byte).
typedef enum {
    WEIGHT_F32,
    WEIGHT_BF16,
    WEIGHT_Q8,
    WEIGHT_Q4,
    WEIGHT_Q4M,
    N_WEIGHT_TYPES
} WeightType;

// Columns that share a scale, in weights and activations.
#define QUANT_BLOCK 32

// Rows of activations that lie together once quantised, at most: as many as meet a group of weights
// at once. A pass over n rows has ceil(n / ACTIVATION_TILE) tiles of equal width, the last but for
// a few: 16 rows are two tiles of 8, not 12 and 4.
#define ACTIVATION_TILE 12

// Rows of activations in f32 and, for weights that are multiplied as integers, quantised: in blocks
// of 32, scale = max / 127, halves to even. The quantised rows are stored by tiles, so that what a
// kernel reads of a tile is one run of memory:
//
//     block 0: row 0, row 1, .. row tile - 1 | block 1: row 0, .. | ..      then the next tile
typedef struct {
    size_t stride;  // row length, a multiple of QUANT_BLOCK; zeros after the last column
    size_t tile;    // rows a tile, see activation_tile()
    float *x;       // (n_rows, stride)
    // Of n_rows rounded up to whole tiles:
    int8_t *q;       // (n_tiles, stride / QUANT_BLOCK, tile, QUANT_BLOCK)
    float *q_scale;  // (n_tiles, stride / QUANT_BLOCK, tile)
    float *q_total;  // likewise: scale * sum of the block's q
    // Likewise, where the sums of weights stored as value + 8 and value + 128 begin:
    int32_t *q_begin4, *q_begin8;  // -8 and -128 times the sum of the block's q
} Activations;

static inline size_t activation_tile(size_t n_rows)
{
    const size_t n_tiles = (n_rows + ACTIVATION_TILE - 1) / ACTIVATION_TILE;
    return (n_rows + n_tiles - 1) / n_tiles;
}

// The place of a row's block among the quantised blocks.
static inline size_t activation_block(const Activations *a, size_t row, size_t block)
{
    return (row / a->tile * (a->stride / QUANT_BLOCK) + block) * a->tile + row % a->tile;
}

// out[r][o] (+)= sum over i of w[o][i] * in[r][i], for outputs of groups group_begin .. group_end
// - 1.
typedef struct {
    const void *w;  // interleaved, see above
    size_t n_cols;
    const Activations *in;
    float *out;  // (n_rows, out_stride), padded so that whole groups can be stored
    size_t out_stride;
    size_t n_rows;
    size_t group_begin, group_end;
    bool add;  // add to what out holds instead of replacing it
} Matmul;

// What the query at a position sees: positions begin .. end - 1, and as a row of the mask, whose
// element j is 0 where position j is seen, else -infinity. The cache makes both (cache_visible).
typedef struct {
    size_t begin, end;
    const float *mask;
} Visible;

// Attention of some queries of one sequence that share a key head, over one split of its positions.
typedef struct {
    size_t n_queries;  // at most TILE_QUERIES
    size_t head_dim;
    const float *q;          // (n_queries, head_dim), already divided by sqrt(head_dim)
    const Visible *visible;  // (n_queries): of it, what lies inside the split is taken
    void *const *pages;      // of the sequence
    size_t k_offset;         // bytes from the start of a page to this layer's and head's keys
    size_t v_offset;         // .. values
    bool f16;                // type of keys and values: f16 or f32
    size_t split;            // positions split * SPLIT_POSITIONS ..
    float *scores;           // scratch: TILE_QUERIES * SPLIT_POSITIONS
    // (n_queries, out_stride): head_dim (rounded up to 16) sums weighted by exp(score - max), then
    // the max and the sum of the weights (0: the query sees none of the split).
    float *out;
    size_t out_stride;
} Attend;

typedef struct {
    const char *name;
    void (*matmul[N_WEIGHT_TYPES])(const Matmul *m);
    // out[0 .. n_cols - 1] = row `row` of a matrix.
    void (*row[N_WEIGHT_TYPES])(float *out, const void *w, size_t n_cols, size_t row);
    // Quantises a row's columns begin .. end - 1, both multiples of QUANT_BLOCK.
    void (*quantize)(const Activations *a, size_t row, size_t begin, size_t end);
    // out = x / sqrt(mean(x^2) + eps) * weight; n values, all three padded with zeros to 16.
    // Returns mean(x^2).
    float (*rms_norm)(float *out, const float *x, const float *weight, size_t n, float eps);
    // Rotates (x[i], x[i + head_dim / 2]) by the angle of (cos[i], sin[i]).
    void (*rope)(float *x, const float *cos, const float *sin, size_t head_dim);
    // gate = gate / (1 + exp(-gate)) * up; n a multiple of 16.
    void (*swiglu)(float *gate, const float *up, size_t n);
    // x = exp((x - max) / temperature) / sum; n padded to a multiple of 16 with -infinity.
    void (*softmax)(float *x, size_t n, float temperature);
    void (*attend)(const Attend *a);
    // Adds a split's result (see Attend.out) to that of the splits before it.
    void (*combine)(float *total, const float *split, size_t head_dim);
    // out = the weighted sums of a result divided by the sum of its weights.
    void (*attend_finish)(float *out, const float *total, size_t head_dim);
    // Stores a key and a value of head_dim at a position of its page.
    void (*store_kv)(void *page_k, void *page_v, size_t slot, const float *k, const float *v,
                     size_t head_dim, bool f16);
    // What the machine can do at most (bench.h): the sum of n values in memory, a multiple of 64;
    // `steps` times the products that follow, with operands in registers or, of 256 bytes below 16,
    // in the first-level cache. The result only keeps the compiler from leaving the work out.
    float (*read)(const float *p, size_t n);
    float (*peak_int8)(size_t steps, const uint8_t *operands);
    float (*peak_f32)(size_t steps, const float *operands);
    size_t int8_macs_per_step, f32_macs_per_step;
} Kernels;

extern const Kernels kernels_scalar;
#if defined(__x86_64__)
extern const Kernels kernels_avx2, kernels_avx512;
#elif defined(__aarch64__)
extern const Kernels kernels_neon;
#endif

#endif
