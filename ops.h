// ops.h - the stateless primitives of a transformer, on plain pointers and sizes.
//
// Each calls the kernel of one instruction set, chosen once (ops_select); all sets compute the same
// bits (simd/simd.h says how). Threads can share a product: each call computes part of its outputs.
#ifndef OPS_H
#define OPS_H

#include "base/error.h"
#include "simd/half.h"
#include "simd/simd.h"

// --- The choice of kernels

// Chooses the kernels: a set's name, or "auto" for the best that this processor can run. Call once,
// before any op; without it the scalar ones run. Error: ERROR_USAGE naming the available sets.
bool ops_select(const char *name, Error *err);

// The most sets of one architecture.
#define MAX_SETS 4

// Fills in the names of the sets that this processor can run, best first; returns how many.
size_t ops_available(const char *names[MAX_SETS]);

extern const Kernels *ops_kernels;  // changed by ops_select only

static inline const char *ops_name(void) { return ops_kernels->name; }

// --- Matrices

// The layout of a WeightType (simd/simd.h). A new type needs a value there, a row in this table and
// kernels.
typedef struct {
    const char *name;
    size_t block_cols;   // inputs that are stored together; a row is padded to a multiple of it
    size_t block_bytes;  // bytes of such a block, for a group of LANES rows
    bool quantized;      // multiplied as integers: the activations must be quantised
} WeightTypeInfo;

extern const WeightTypeInfo weight_types[N_WEIGHT_TYPES];

// A matrix in the interleaved layout of simd/simd.h.
typedef struct {
    WeightType type;
    size_t rows, cols;  // outputs, inputs
    const void *data;   // (matrix_bytes()), aligned to 64; not owned
} Matrix;

// Sets *bytes to the size of a matrix, including padding; false if that overflows.
bool matrix_bytes(WeightType type, size_t rows, size_t cols, size_t *bytes);

// Where the group of LANES rows that begins with row group * LANES lies in the data of a matrix
// whose size fits (matrix_bytes).
void *matrix_group(WeightType type, size_t cols, void *data, size_t group);

// out (cols) = row `row` of the matrix.
static inline void matrix_row(const Matrix *m, size_t row, float *out)
{
    ops_kernels->row[m->type](out, m->data, m->cols, row);
}

// Rows first .. first + n - 1 of a matrix, as a matrix: both multiples of LANES.
Matrix matrix_rows(const Matrix *m, size_t first, size_t n);

// Where the rows of a product go.
typedef struct {
    float *x;       // (n_rows, stride)
    size_t stride;  // at least Matrix.rows rounded up to LANES, as full groups are stored
    size_t n_rows;
} OutputRows;

// Part of the outputs of a matrix, in units of QUANT_BLOCK: what is computed of a unit can be
// quantised without the others. A unit is two groups of LANES rows, the last one may be less:
//
//     outputs     0 .. 15   16 .. 31   32 .. 47   48 .. 63   64 .. 71 (rows = 72)
//     groups      0         1          2          3          4 (padded with zeros)
//     units       0                    1                     2
typedef struct {
    size_t begin, end;
} Units;

// The units of a matrix. The last one may lie partly in the padding.
size_t matmul_units(const Matrix *w);

// out = in w^T, and out += in w^T: for each row of activations, the outputs of these units.
void matmul(const Matrix *w, const Activations *in, OutputRows out, Units units);
void matmul_add(const Matrix *w, const Activations *in, OutputRows out, Units units);

// Quantises columns begin .. end - 1 of a row of a->x, both multiples of QUANT_BLOCK: q = x / scale
// with scale = max |x| / 127 for each quantisation block, and the sums in Activations.
static inline void quantize(const Activations *a, size_t row, size_t begin, size_t end)
{
    ops_kernels->quantize(a, row, begin, end);
}

// --- The quantiser's searches (ScaleSearch in simd/simd.h)

// The best scale of a quantisation block, and the best scale and minimum.
static inline FoundScale find_scale(const ScaleSearch *s) { return ops_kernels->find_scale(s); }
static inline FoundScale find_line(const ScaleSearch *s) { return ops_kernels->find_line(s); }

// --- Vectors

// out = x / sqrt(mean(x^2) + eps) * weight (RMSNorm, arXiv:1910.07467), n values, all three padded
// with zeros to LANES. Returns mean(x^2), which is finite only if all of x is.
static inline float rms_norm(float *out, const float *x, const float *weight, size_t n, float eps)
{
    return ops_kernels->rms_norm(out, x, weight, n, eps);
}

// gate = silu(gate) * up, silu(x) = x / (1 + e^-x) (SwiGLU, arXiv:2002.05202); n a multiple of
// LANES.
static inline void swiglu(float *gate, const float *up, size_t n)
{
    ops_kernels->swiglu(gate, up, n);
}

// gate = gelu(gate) * up, gelu(x) = x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))), the
// approximation with tanh (arXiv:1606.08415, GEGLU arXiv:2002.05202); n a multiple of LANES.
static inline void geglu(float *gate, const float *up, size_t n)
{
    ops_kernels->geglu(gate, up, n);
}

// x = cap * tanh(x / cap), which leaves small values nearly as they are (arXiv:2408.00118); n a
// multiple of LANES.
static inline void soft_cap(float *x, size_t n, float cap) { ops_kernels->soft_cap(x, n, cap); }

// x = softmax(x / temperature), n values, padded with -infinity to a multiple of LANES.
static inline void softmax(float *x, size_t n, float temperature)
{
    ops_kernels->softmax(x, n, temperature);
}

// The logarithm of the sum of all e^x[i], n >= 1 finite values: a token's log-probability is its
// logit minus this. In double precision, with an error of a few units in the last place.
double log_sum_exp(const float *x, size_t n);

// --- Attention (simd/simd.h has the layouts; model.c has the formulas)

// Computes the results of some queries over one split of the context.
static inline void attend(const Attend *a) { ops_kernels->attend(a); }

// Adds the result of the next split to the result of the splits before it.
static inline void attend_combine(float *total, const float *split, size_t head_dim)
{
    ops_kernels->combine(total, split, head_dim);
}

// out (head_dim) = the weighted values of a result, divided by the sum of the weights.
static inline void attend_finish(float *out, const float *total, size_t head_dim)
{
    ops_kernels->attend_finish(out, total, head_dim);
}

// Stores a key and a value (head_dim) of one head, at an offset in positions from the start of a
// page.
static inline void store_kv(void *keys, void *values, size_t offset, const float *k, const float *v,
                            size_t head_dim, bool f16)
{
    ops_kernels->store_kv(keys, values, offset, k, v, head_dim, f16);
}

// --- RoPE: rotary position embedding (arXiv:2104.09864)
//
// Pair i of the rotated dimensions of a head, all of them or the first rotary_dim, is a point that
// position p rotates by the angle p * frequency[i],
//
//     frequency[i] = theta^(-2 i / rotary_dim)        i = 0 .. rotary_dim / 2 - 1
//
// so q k depends on the distance between their positions. Pairs are (x[i], x[i + rotary_dim / 2]),
// in GPT-NeoX order; the paper has (x[2 i], x[2 i + 1]).
static inline void rope(float *x, const float *cos, const float *sin, size_t rotary_dim)
{
    ops_kernels->rope(x, cos, sin, rotary_dim);
}

// How frequencies are lowered for contexts longer than in training. A wave makes
// original_context * frequency / (2 pi) turns in the original context; those of many turns are
// short.
//
//     linear     all by `factor` (position interpolation, arXiv:2306.15595)
//     llama3     those of long waves by `factor`, those of short waves not at all (Llama 3.1,
//                arXiv:2407.21783): below low_freq_factor turns it is long, above high_freq_factor
//                it is short, and in between the two frequencies are mixed
//     yarn       likewise, between the pairs that make beta_slow and beta_fast turns, mixed linearly
//                in i (YaRN, arXiv:2309.00071)
//     longrope   pair i by a factor of its own, from one table for contexts up to the original one
//                and another for longer ones (LongRoPE, arXiv:2402.13753)
//
// The last two also multiply cosines and sines by an attention factor, which sharpens the scores.
typedef enum {
    ROPE_UNSCALED,
    ROPE_LINEAR,
    ROPE_LLAMA3,
    ROPE_YARN,
    ROPE_LONGROPE,
    N_ROPE_SCALINGS
} RopeScalingKind;

#define MOST_ROPE_FACTORS 512  // of a table: rotary_dim / 2

typedef struct {
    RopeScalingKind kind;
    size_t original_context;                   // llama3, yarn, longrope: positions in training
    double factor;                             // all kinds: how much longer the context is
    double low_freq_factor, high_freq_factor;  // llama3: turns
    double beta_fast, beta_slow;               // yarn: turns
    bool truncate;                             // yarn: the bounds of the mix are whole pairs
    double attention_factor;                   // yarn, longrope; 0: that of the paper
    float short_factors[MOST_ROPE_FACTORS];    // longrope: (rotary_dim / 2)
    float long_factors[MOST_ROPE_FACTORS];     // longrope: (rotary_dim / 2)
} RopeScaling;

// Whether a context is longer than the original one of a model with LongRoPE.
static inline bool rope_is_long(const RopeScaling *s, size_t context)
{
    return s->kind == ROPE_LONGROPE && context > s->original_context;
}

// Fills frequency (rotary_dim / 2), for a context of so many positions. All of RoPE's functions use
// double precision and operations that IEEE 754 defines exactly: the same bits on every machine.
void rope_frequencies(double *frequency, size_t rotary_dim, double theta,
                      const RopeScaling *scaling, size_t context);

// What cosines and sines are multiplied by: 1 without YaRN or LongRoPE.
double rope_attention_factor(const RopeScaling *scaling);

// Fills cos and sin (half) of the angles of a position, times `factor`.
void rope_angles(float *cos, float *sin, const double *frequency, size_t half, size_t position,
                 double factor);

// 1 + beta ln(1 + floor(position / original_context)): what Ministral 3 multiplies queries by, so
// that attention over many positions stays sharp (Llama 4 has the same).
double query_factor(double beta, size_t original_context, size_t position);

#endif
