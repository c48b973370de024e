// simd.h - the table of kernels that each instruction set fills, and the layouts that they read.
//
// A vector always has 16 f32 lanes, whatever the size of the registers. A lane is an output element
// and adds up its inputs one by one with fused multiply-add, so every set computes the same bits
// (kernels.h describes the complete order).
//
// A matrix of `rows` outputs and `cols` inputs is interleaved: groups of 16 rows, and within a
// group one step of 16 weights per input. An inner loop over the inputs reads a group from
// beginning to end.
//
//     group 0:  w[0][0] w[1][0] .. w[15][0] | w[0][1] w[1][1] .. w[15][1] | ..  cols steps
//     group 1:  w[16][0] w[17][0] ..        | ..       in the last group, rows past the end are 0
//
// Keys and values are matrices with the same layout inside a page of positions. For the scores, an
// output is a position and an input is a dimension of the head; for the weighted sum of the values,
// it is the other way round.
//
//     keys:    (PAGE_POSITIONS / 16, head_dim, 16 positions)
//     values:  (head_dim rounded up to 16, / 16, PAGE_POSITIONS, 16 dimensions)
//
// All buffers belong to the callers: the kernels allocate nothing and keep no pointers.
#ifndef SIMD_H
#define SIMD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// The widest register among the sets (512 bits) in f32.
#define LANES 16

// Positions in a page of the cache, a multiple of LANES. Small enough that 16 short sequences waste
// little, large enough that a head's keys in a page (4 KB at head_dim 64 in f16) are a run that the
// hardware prefetches.
#ifndef PAGE_POSITIONS
#define PAGE_POSITIONS 32
#endif

// Positions of a split, whose softmax is summed at once; longer contexts are combined split by
// split, in order. This is part of the canonical order: another value changes the last bits. A
// multiple of PAGE_POSITIONS.
#ifndef SPLIT_POSITIONS
#define SPLIT_POSITIONS 256
#endif

_Static_assert(PAGE_POSITIONS % LANES == 0 && SPLIT_POSITIONS % PAGE_POSITIONS == 0,
               "a page is a multiple of LANES, a split a multiple of a page");

// Three things are called tiles: of queries (attention's unit of work), of activation rows (how
// quantised activations are stored, below) and register tiles (sums that a kernel keeps in
// registers).
//
// The most queries of one kv_head that are computed together: they share every load and conversion
// of keys and values. Two of the widest register tiles (12 rows).
#ifndef TILE_QUERIES
#define TILE_QUERIES 24
#endif

// How matrices are stored (docs/format.md defines the quantisation blocks to the byte). The
// quantised ones are multiplied as integers.
typedef enum {
    WEIGHT_F32,
    WEIGHT_BF16,
    WEIGHT_Q8,   // 8 bits and a scale per quantisation block
    WEIGHT_Q4,   // 4 bits and a scale
    WEIGHT_Q4M,  // 4 bits, a scale and a minimum
    WEIGHT_F16,
    WEIGHT_Q4T,  // 4 bits, the index of one of 16 values (weight_table), and a scale
    WEIGHT_Q5,   // 5 bits and a scale
    WEIGHT_Q5M,  // 5 bits, a scale and a minimum
    WEIGHT_Q4K,  // in superblocks: 4 bits, a scale and a minimum
    WEIGHT_Q5K,  // in superblocks: 5 bits, a scale and a minimum
    WEIGHT_Q6K,  // in superblocks: 6 bits and two scales
    N_WEIGHT_TYPES
} WeightType;

// Columns of a quantisation block: those that share a scale, in weights and activations. 32 is what
// GGUF's Q8_0, Q4_0 and Q4_1 have.
#define QUANT_BLOCK 32

// Columns of a superblock of q4k, q5k and q6k (GGUF's K-quants): 8 quantisation blocks, whose small
// integer scales share one scale in f16.
#define SUPERBLOCK 256

// The most rows in a tile of quantised activations: as many as the widest set multiplies by a group
// of weights at once. n rows make ceil(n / ACTIVATION_TILE) tiles of equal width (the last one may
// be shorter): 16 rows are two tiles of 8, not 12 and 4.
#ifndef ACTIVATION_TILE
#define ACTIVATION_TILE 12
#endif

// Rows of activations in f32 and, for weights that are multiplied as integers, quantised: x is
// about q * scale, with scale = max / 127 of each quantisation block and q rounded, halves to even.
// The quantised rows are stored tile by tile, so that a kernel reads each tile from consecutive
// memory:
//
//     block 0: row 0, row 1, .. row tile - 1 | block 1: row 0, .. | ..      then the next tile
//
// The arrays belong to the owner of the struct (the scratch of a forward pass).
typedef struct {
    size_t stride;  // values from row to row, a multiple of QUANT_BLOCK; padding is zeros
    size_t tile;    // rows of a tile, see activation_tile()
    float *x;       // (n_rows, stride)
    // The rest is for quantised weights only, with n_rows rounded up to full tiles.
    int8_t *q;       // (n_tiles, stride / QUANT_BLOCK, tile, QUANT_BLOCK), -127 .. 127
    float *q_scale;  // (n_tiles, stride / QUANT_BLOCK, tile)
    float *q_total;  // the same shape: scale * sum of the block's q; meets the minimum of q4m
    // The same shape: -8 and -128 times the sum of the block's q, where the integer sums of weights
    // stored as value + 8 (q4) and value + 128 (q8) begin.
    int32_t *q_begin4, *q_begin8;
} Activations;

// Rows per tile for n_rows > 0 rows.
static inline size_t activation_tile(size_t n_rows)
{
    const size_t n_tiles = (n_rows - 1) / ACTIVATION_TILE + 1;
    return (n_rows + n_tiles - 1) / n_tiles;
}

// The index of a row's quantisation block in q_scale, q_total, q_begin4 and q_begin8, and, in units
// of QUANT_BLOCK, in q.
static inline size_t activation_block(const Activations *a, size_t row, size_t block)
{
    return (row / a->tile * (a->stride / QUANT_BLOCK) + block) * a->tile + row % a->tile;
}

// Step `index` (0 .. 7) of a quantisation block of a row: its activations 4 index .. 4 index + 3,
// which a kernel multiplies by the weights of the same columns (scalar.h).
typedef struct {
    const int8_t *q;  // (QUANT_BLOCK), the whole block, aligned to 16
    size_t index;
} ActivationStep;

// out[r][o] = sum over i of w[o][i] * in[r][i], for all rows r and the outputs o of groups
// group_begin .. group_end - 1. A thread's part of a product is a range of groups.
typedef struct {
    const void *w;                  // the whole matrix, interleaved, see above
    size_t n_cols;                  // inputs
    const Activations *in;          // (n_rows, n_cols); quantised if w is
    float *out;                     // (n_rows, out_stride), padded to full groups of 16
    size_t out_stride;              // values from row to row
    size_t n_rows;                  // at least 1
    size_t group_begin, group_end;  // in groups of 16 outputs
    bool add;                       // add to the values in out instead of replacing them
} Matmul;

// What the query at a position sees, in two forms: positions begin .. end - 1, which let kernels
// skip everything else, and a row of the mask, which hides the rest of the vectors at the edges.
// The cache makes both (cache_visible) and owns the mask.
typedef struct {
    size_t begin, end;
    const float *mask;  // element j: 0 if position j is visible, else -infinity
} Visible;

// Attention of some queries of one sequence that share a kv_head, over one split of its positions.
typedef struct {
    size_t n_queries;        // at most TILE_QUERIES
    size_t head_dim;         // dimensions of a head
    const float *q;          // (n_queries, head_dim), already divided by sqrt(head_dim)
    const Visible *visible;  // (n_queries): only the part of each inside the split is used
    void *const *pages;      // page i holds positions i * PAGE_POSITIONS .. of the sequence
    size_t k_offset;         // bytes from the start of a page to this layer's and head's keys
    size_t v_offset;         // .. to its values
    bool f16;                // type of keys and values: f16 or f32
    float cap;               // of scores, see soft_cap; 0: none
    size_t split;   // positions split * SPLIT_POSITIONS .. (split + 1) * SPLIT_POSITIONS - 1
    float *scores;  // scratch, (TILE_QUERIES, SPLIT_POSITIONS)
    // (n_queries, out_stride). A query's result: head_dim (rounded up to 16) sums of values
    // weighted by exp(score - max), then the max and the sum of the weights (0 if it sees nothing
    // of the split).
    float *out;
    size_t out_stride;  // at least head_dim rounded up to 16, plus 2
} Attend;

// A quantisation block whose scale is to be found: that with the least squared error once its values
// are rounded to a grid (formats/quantize.c has the formulas).
typedef struct {
    const float *x;       // (QUANT_BLOCK)
    const float *weight;  // (QUANT_BLOCK): by how much each squared error counts; their mean is 1
    float low, high;      // the grid: the integers from low to high,
    const float *table;   // or, unless NULL, these 16 values, in ascending order
    // The scales tried first: the value of the largest magnitude divided by each of these; with a
    // minimum the difference of the largest and the smallest value.
    const float *steps;
    size_t n_steps;
    size_t refits;  // roundings with the best scale so far, after those
    // More roundings after each of the steps, each with the best scale for the one before.
    size_t step_refits;
} ScaleSearch;

// x is about scale * q + minimum.
typedef struct {
    float scale, minimum;
} FoundScale;

// One instruction set. An entry takes plain pointers and sizes; ops.h wraps each one.
typedef struct {
    const char *name;  // as --simd takes it
    // See Matmul; one per weight type.
    void (*matmul[N_WEIGHT_TYPES])(const Matmul *m);
    // out[0 .. n_cols - 1] = row `row` of a matrix.
    void (*row[N_WEIGHT_TYPES])(float *out, const void *w, size_t n_cols, size_t row);
    // Quantises columns begin .. end - 1 of a row of a->x, both multiples of QUANT_BLOCK.
    void (*quantize)(const Activations *a, size_t row, size_t begin, size_t end);
    // See ScaleSearch: without and with a minimum.
    FoundScale (*find_scale)(const ScaleSearch *s);
    FoundScale (*find_line)(const ScaleSearch *s);
    // out = x / sqrt(mean(x^2) + eps) * weight; n values, all three padded with zeros to 16.
    // Returns mean(x^2).
    float (*rms_norm)(float *out, const float *x, const float *weight, size_t n, float eps);
    // Rotates the pairs (x[i], x[i + head_dim / 2]) by the angles whose (cos[i], sin[i]) are given.
    void (*rope)(float *x, const float *cos, const float *sin, size_t head_dim);
    // gate = gate / (1 + exp(-gate)) * up; n a multiple of 16.
    void (*swiglu)(float *gate, const float *up, size_t n);
    // gate = gelu(gate) * up with the tanh form of GELU; n a multiple of 16.
    void (*geglu)(float *gate, const float *up, size_t n);
    // x = cap * tanh(x / cap); n a multiple of 16.
    void (*soft_cap)(float *x, size_t n, float cap);
    // x = exp((x - max) / temperature) / sum; n padded to a multiple of 16 with -infinity.
    void (*softmax)(float *x, size_t n, float temperature);
    // See Attend.
    void (*attend)(const Attend *a);
    // Adds a split's result (a row of Attend.out) to the result of the splits before it.
    void (*combine)(float *total, const float *split, size_t head_dim);
    // out (head_dim) = the weighted sums of a result divided by the sum of its weights.
    void (*attend_finish)(float *out, const float *total, size_t head_dim);
    // Stores the key and the value of one head at a position of its page, `offset` positions from
    // the page's first. page_k, page_v: where the head's keys and values begin in the page.
    void (*store_kv)(void *page_k, void *page_v, size_t offset, const float *k, const float *v,
                     size_t head_dim, bool f16);
    // The machine's limits, for --bench. The results only keep the compiler from removing the work.
    // The sum of n values in memory, a multiple of 64.
    float (*read)(const float *p, size_t n);
    // `steps` steps of int8 multiply-adds; operands: 256 bytes below 16, aligned to 16, which stay
    // in the first-level cache.
    float (*peak_int8)(size_t steps, const uint8_t *operands);
    // `steps` steps of f32 multiply-adds; operands: 32 values, which stay in registers.
    float (*peak_f32)(size_t steps, const float *operands);
    size_t int8_macs_per_step, f32_macs_per_step;  // multiply-adds in a step
} Kernels;

// Each set is one file of this folder, of which the Makefile compiles those of the architecture.
extern const Kernels kernels_scalar, kernels_avx2, kernels_avxvnni, kernels_avx512, kernels_neon,
    kernels_dotprod, kernels_i8mm;

#endif
