// ops.h - stateless primitives of the transformer, over plain pointers and sizes.
//
// Each works through the kernels of one instruction set, chosen once by ops_select; all sets give
// the same bits (simd/simd.h says how). An op that is split between threads takes the Team that
// calls it together.
#ifndef OPS_H
#define OPS_H

#include "base/error.h"
#include "base/threads.h"
#include "simd/simd.h"

// Adding a type: a value in WeightType (simd/simd.h), a row here and its kernels in simd/kernels.h.
typedef struct {
    const char *name;
    size_t block_cols;   // inputs that are stored together; a row is padded to a multiple of it
    size_t block_bytes;  // bytes of that block for a group of 16 rows
    bool quantized;      // multiplied as integers: the activations must be quantised
} WeightTypeInfo;

extern const WeightTypeInfo weight_types[N_WEIGHT_TYPES];

// A matrix in the interleaved layout of simd/simd.h.
typedef struct {
    WeightType type;
    size_t rows, cols;  // outputs, inputs
    const void *data;   // matrix_bytes() of them, aligned to 64
} Matrix;

// *bytes of a matrix, padding included; false where that overflows.
bool matrix_bytes(WeightType type, size_t rows, size_t cols, size_t *bytes);

// Puts a row into the interleaved data of an f32 matrix of `cols` inputs.
void matrix_set_row(float *data, size_t cols, size_t row, const float *values);

// Chooses the kernels: a set's name, or "auto" for the best that the processor has. Call once,
// before any op; without it the plain ones run. Error: ERROR_USAGE naming the set and those there
// are.
bool ops_select(const char *name, Error *err);

// The names of the sets that this processor can run, best first; returns how many.
size_t ops_available(const char *names[4]);

extern const Kernels *ops_kernels;  // changes only in ops_select

static inline const char *ops_name(void) { return ops_kernels->name; }

// out[0 .. cols - 1] = row `row` of the matrix.
static inline void matrix_row(const Matrix *m, size_t row, float *out)
{
    ops_kernels->row[m->type](out, m->data, m->cols, row);
}

// Where the rows of a product go.
typedef struct {
    float *x;       // (n_rows, stride)
    size_t stride;  // at least the outputs, Matrix.rows, rounded up to 16: whole groups are stored
    size_t n_rows;
} OutputRows;

// out = in w^T, and out += in w^T: one row of outputs for each row of activations. The team shares
// the outputs; each thread writes those of matmul_split only.
void matmul(Team team, const Matrix *w, const Activations *in, OutputRows out);
void matmul_add(Team team, const Matrix *w, const Activations *in, OutputRows out);

// This thread's outputs *begin .. *end - 1 of a matmul, in multiples of QUANT_BLOCK: it can go on to
// quantise them without waiting for the others.
void matmul_split(Team team, const Matrix *m, size_t *begin, size_t *end);

// Fills q and its scales and sums of a row's columns begin .. end - 1, both multiples of QUANT_BLOCK.
static inline void quantize(const Activations *a, size_t row, size_t begin, size_t end)
{
    ops_kernels->quantize(a, row, begin, end);
}

// x / sqrt(mean(x^2) + eps) * weight; n values, all three padded with zeros to 16. Returns
// mean(x^2).
static inline float rms_norm(float *out, const float *x, const float *weight, size_t n, float eps)
{
    return ops_kernels->rms_norm(out, x, weight, n, eps);
}

// Rotary position embedding of one head: rotates the pairs (x[i], x[i + head_dim / 2]) by the
// angles whose cosines and sines are given (arXiv:2104.09864, in the order of GPT-NeoX).
static inline void rope(float *x, const float *cos, const float *sin, size_t head_dim)
{
    ops_kernels->rope(x, cos, sin, head_dim);
}

// gate = silu(gate) * up; n a multiple of 16 (arXiv:2002.05202).
static inline void swiglu(float *gate, const float *up, size_t n)
{
    ops_kernels->swiglu(gate, up, n);
}

// x = softmax(x / temperature), over n values padded with -infinity to a multiple of 16.
static inline void softmax(float *x, size_t n, float temperature)
{
    ops_kernels->softmax(x, n, temperature);
}

// Attention over one chunk of positions; how chunks add up; the end result. See simd/simd.h.
static inline void attend(const Attend *a) { ops_kernels->attend(a); }
static inline void attend_combine(float *total, const float *chunk, size_t head_dim)
{
    ops_kernels->combine(total, chunk, head_dim);
}
static inline void attend_finish(float *out, const float *total, size_t head_dim)
{
    ops_kernels->attend_finish(out, total, head_dim);
}

// Writes one position's key and value of one head into a page.
static inline void store_kv(void *keys, void *values, size_t slot, const float *k, const float *v,
                            size_t head_dim, bool f16)
{
    ops_kernels->store_kv(keys, values, slot, k, v, head_dim, f16);
}

// The frequencies and tables of RoPE, in double precision from operations that IEEE 754 defines
// exactly, so that they are the same bits on every machine: angle = position * theta^(-2 i /
// head_dim), i = 0 .. head_dim / 2 - 1.
// Scaling stretches the angles for contexts longer than those trained on: all of them (linear), or
// those of long wavelengths (Llama 3.1, arXiv:2407.21783: wavelengths above original_context /
// low_freq_factor by the whole factor, below original_context / high_freq_factor not at all,
// between them by a mixture).
typedef struct {
    enum { ROPE_UNSCALED, ROPE_LINEAR, ROPE_LLAMA3, N_ROPE_SCALINGS } kind;
    size_t original_context;
    double factor, low_freq_factor, high_freq_factor;
} RopeScaling;

void rope_frequencies(double *frequency, size_t head_dim, double theta, const RopeScaling *scaling);
void rope_angles(float *cos, float *sin, const double *frequency, size_t half, size_t position);

#endif
