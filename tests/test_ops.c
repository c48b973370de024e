// test_ops.c - each op is compared with a plain computation in double precision, within what f32
// rounding explains, and each kernel set with the scalar one, bit for bit. Sizes stand around the
// edges: 16 lanes, quantisation blocks of 32, tiles of rows and of queries, splits of positions.
#include <math.h>

#include "base/error.h"
#include "base/memory.h"
#include "ops.h"
#include "unit.h"

static const size_t sizes[] = {1, 2, 8, 15, 16, 17, 31, 33, 64, 172};
#define N_SIZES (sizeof sizes / sizeof *sizes)

// A fixed sequence of numbers in [-1, 1).
static uint32_t random_state = 1;
static float random_float(void)
{
    random_state = random_state * 1664525u + 1013904223u;
    return (float)(random_state >> 8) / 8388608.0f - 1.0f;
}

static float *random_floats(size_t n, float scale)
{
    float *x = alloc_zeroed(round_up(n, 64) + 64, sizeof *x);
    for (size_t i = 0; i < n; i++) {
        x[i] = random_float() * scale;
    }
    return x;
}

static void use_set(const char *name)
{
    Error err;
    if (!ops_select(name, &err)) {
        printf("  %s\n", err.message);
        exit(1);
    }
}

static void check_same_bits(const char *what, const char *set, const float *a, const float *b,
                            size_t n)
{
    for (size_t i = 0; i < n; i++) {
        CHECK(memcmp(&a[i], &b[i], sizeof a[i]) == 0, "%s of %s: value %zu is %a, scalar has %a",
              what, set, i, a[i], b[i]);
    }
}

// The sets that the tests compare with the scalar one: those of this processor, and a set whose
// instructions it lacks with those in C.
extern const Kernels kernels_avxvnni_in_c;
static size_t all_sets(const Kernels *sets[MAX_SETS + 1])
{
    const char *names[MAX_SETS];
    const size_t n_sets = ops_available(names);
    size_t n = 0;
    for (size_t i = 0; i < n_sets; i++) {
        use_set(names[i]);
        sets[n++] = ops_kernels;
#ifdef HAVE_avx2
        if (strcmp(names[i], "avx2") == 0) {
            sets[n++] = &kernels_avxvnni_in_c;
        }
#endif
    }
    return n;
}

// Runs a computation that fills `n` floats on the scalar set and on every other, and compares bits.
static void check_all_sets(const char *what, size_t n, void (*compute)(float *out, const void *arg),
                           const void *arg)
{
    const Kernels *sets[MAX_SETS + 1];
    const size_t n_sets = all_sets(sets);
    float *want = alloc_zeroed(n, sizeof *want), *got = alloc_zeroed(n, sizeof *got);
    use_set("scalar");
    compute(want, arg);
    for (size_t s = 0; s < n_sets; s++) {
        ops_kernels = sets[s];
        memset(got, 0, n * sizeof *got);
        compute(got, arg);
        check_same_bits(what, sets[s]->name, got, want, n);
    }
    use_set("auto");
    free(want);
    free(got);
}

// --------------------------------------------------------------------------------------------
// Matrices and vectors

typedef struct {
    Matrix m;
    Activations in;
    size_t n_rows;
    bool add;
} MatmulCase;

// Random activations, in f32 and quantised.
static Activations random_activations(size_t n_rows, size_t cols)
{
    const size_t stride = round_up(cols, QUANT_BLOCK);
    const size_t blocks = round_up(n_rows, ACTIVATION_TILE) * stride / QUANT_BLOCK;
    Activations a = {.stride = stride,
                     .tile = activation_tile(n_rows),
                     .x = alloc_zeroed(n_rows * stride, sizeof(float)),
                     .q = alloc_zeroed(blocks, QUANT_BLOCK),
                     .q_scale = alloc_zeroed(blocks, sizeof(float)),
                     .q_total = alloc_zeroed(blocks, sizeof(float)),
                     .q_begin4 = alloc_zeroed(blocks, sizeof(int32_t)),
                     .q_begin8 = alloc_zeroed(blocks, sizeof(int32_t))};
    for (size_t r = 0; r < n_rows; r++) {
        for (size_t i = 0; i < cols; i++) {
            a.x[r * stride + i] = random_float();
        }
        quantize(&a, r, 0, stride);
    }
    return a;
}

static void free_activations(Activations *a)
{
    free(a->x);
    free(a->q);
    free(a->q_scale);
    free(a->q_total);
    free(a->q_begin4);
    free(a->q_begin8);
}

static bool has_minimum(WeightType type)
{
    return type == WEIGHT_Q4M || type == WEIGHT_Q5M || type == WEIGHT_Q4K || type == WEIGHT_Q5K;
}

// n numbers in f16, of either sign: exponents 2^-8 .. 2^-7.
static void random_halves(uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        random_float();
        const uint16_t value = (uint16_t)(0x1c00 + (random_state >> 16 & 0x83ff));
        memcpy(p + 2 * i, &value, sizeof value);
    }
}

// A matrix of random blocks: weights from the whole range, scales around 2^-8. Padding is random
// too: no kernel may depend on it.
static Matrix random_matrix(WeightType type, size_t rows, size_t cols)
{
    size_t bytes;
    matrix_bytes(type, rows, cols, &bytes);
    uint8_t *data = alloc_zeroed(bytes, 1);
    const size_t block = weight_types[type].block_bytes;
    for (uint8_t *p = data; p < data + bytes; p += block) {
        for (size_t i = 0; i < block; i++) {
            random_float();
            p[i] = (uint8_t)(random_state >> 24);
        }
        for (size_t i = 0; i < block / 2 && type == WEIGHT_BF16; i++) {
            const uint16_t value = (uint16_t)(0x3e00 + (random_state >> (i % 16) & 0x81ff));
            memcpy(p + 2 * i, &value, sizeof value);
        }
        for (size_t i = 0; i < block / 2 && type == WEIGHT_F16; i++) {
            const uint16_t value = (uint16_t)(0x3800 + (random_state >> (i % 16) & 0x83ff));
            memcpy(p + 2 * i, &value, sizeof value);
        }
        for (size_t i = 0; i < block / 4 && type == WEIGHT_F32; i++) {
            const float value = random_float();
            memcpy(p + 4 * i, &value, sizeof value);
        }
        random_halves(p, weight_types[type].quantized ? (has_minimum(type) ? 32 : 16) : 0);
    }
    return (Matrix){type, rows, cols, data};
}

static void compute_matmul(float *out, const void *arg)
{
    const MatmulCase *c = arg;
    const size_t stride = round_up(c->m.rows, LANES);
    for (size_t i = 0; i < c->n_rows * stride; i++) {
        out[i] = c->add ? 0.5f : 7.0f;
    }
    (c->add ? matmul_add : matmul)(&c->m, &c->in, (OutputRows){out, stride, c->n_rows},
                                   (Units){0, matmul_units(&c->m)});
}

static void check_matmul(MatmulCase c)
{
    const size_t rows = c.m.rows, cols = c.m.cols, stride = round_up(rows, LANES);
    const bool quantized = weight_types[c.m.type].quantized;
    float *out = alloc_zeroed(c.n_rows * stride, sizeof *out), *w = alloc_zeroed(cols, sizeof *w);
    compute_matmul(out, &c);
    for (size_t r = 0; r < rows; r++) {
        matrix_row(&c.m, r, w);
        for (size_t t = 0; t < c.n_rows; t++) {
            double want = c.add ? 0.5 : 0, size = 1;
            for (size_t k = 0; k < cols; k++) {
                const size_t at = activation_block(&c.in, t, k / QUANT_BLOCK);
                const double x = quantized ? (double)c.in.q[at * QUANT_BLOCK + k % QUANT_BLOCK] *
                                                 c.in.q_scale[at]
                                           : c.in.x[t * c.in.stride + k];
                want += w[k] * x;
                size += fabs(w[k] * x);
            }
            CHECK(fabs(out[t * stride + r] - want) < 3e-7 * size,
                  "%s, %zu x %zu, %zu rows, output (%zu, %zu): %.9g, expected %.9g",
                  weight_types[c.m.type].name, rows, cols, c.n_rows, t, r, out[t * stride + r],
                  want);
        }
    }
    check_all_sets(weight_types[c.m.type].name, c.n_rows * stride, compute_matmul, &c);
    free(out);
    free(w);
}

TEST(test_matmul_of_each_type_agrees_with_double_precision_and_all_sets_agree_in_bits)
{
    static const size_t row_counts[] = {1, 2, 3, 4, 5, 11, 12, 13, 15, 16, 17, 31, 33};
    for (WeightType type = 0; type < N_WEIGHT_TYPES; type++) {
        for (size_t i = 0; i < N_SIZES * N_SIZES; i++) {
            const size_t whole = weight_types[type].block_cols == SUPERBLOCK ? i % 3 : 0;
            const size_t rows = sizes[i % N_SIZES], n = row_counts[i % 9];
            const size_t cols = sizes[i / N_SIZES] + whole * SUPERBLOCK;
            MatmulCase c = {random_matrix(type, rows, cols), random_activations(n, cols), n, i % 2};
            check_matmul(c);
            free((void *)(uintptr_t)c.m.data);
            free_activations(&c.in);
        }
    }
}

// No intermediate sum of any set overflows: all activations are 127 or -127, all bits of the weights,
// and of the small scales, the same or alternating. So q8 is tried at -128 in every place.
TEST(test_matmul_of_the_largest_integers_is_exact_in_all_sets)
{
    enum { ROWS = 17, COLS = 2 * SUPERBLOCK, N = 13 };
    static const uint8_t fills[] = {0x00, 0xff, 0x80, 0x7f, 0x55, 0xaa};
    for (WeightType type = 0; type < N_WEIGHT_TYPES; type++) {
        for (size_t f = 0; weight_types[type].quantized && f < sizeof fills; f++) {
            MatmulCase c = {random_matrix(type, ROWS, COLS), random_activations(N, COLS), N, false};
            const size_t block = weight_types[type].block_bytes,
                         halves = has_minimum(type) ? 32 : 16;
            uint8_t *data = (void *)(uintptr_t)c.m.data;
            for (size_t at = 0; at < 2 * COLS / weight_types[type].block_cols * block;
                 at += block) {
                memset(data + at + 2 * halves, fills[f], block - 2 * halves);
            }
            for (size_t i = 0; i < N * COLS; i++) {
                const size_t row = i / COLS;
                c.in.x[i] = row % 3 == 0 || (row % 3 == 1 && i % 2) ? -1.0f : 1.0f;
            }
            for (size_t row = 0; row < N; row++) {
                quantize(&c.in, row, 0, COLS);
            }
            check_matmul(c);
            free(data);
            free_activations(&c.in);
        }
    }
}

// A second reading of the blocks, written from docs/format.md.

// Element i of an array of f16.
static double read_half(const uint8_t *p, size_t i)
{
    uint16_t bits;
    memcpy(&bits, p + 2 * i, 2);
    const double size = ldexp(1 + (bits & 0x3ff) / 1024.0, (bits >> 10 & 31) - 15);
    return bits >> 15 ? -size : size;
}

// Column c of a row of the weights of a block with `bits` bits, as it is stored.
static int read_stored(const uint8_t *weights, size_t bits, size_t row, size_t c)
{
    const uint8_t *high = weights + 256;
    if (bits == 8) {
        return weights[c / 4 * 64 + row * 4 + c % 4];
    }
    const int byte = weights[c % 16 / 4 * 64 + row * 4 + c % 4];
    const int nibble = c < 16 ? byte % 16 : byte / 16, at = (int)(row * 4 + c % 4);
    return bits == 4   ? nibble
           : bits == 5 ? nibble + 16 * (high[at] >> c / 4 & 1)
                       : nibble + 16 * (high[(c / 16) * 64 + (size_t)at] >> c % 16 / 4 * 2 & 3);
}

// A weight of q4k or q5k; block j of the superblock.
static double read_with_minimum(const uint8_t *head, int value, size_t row, size_t j)
{
    const uint8_t *p = head + 64 + row;
    const int scale = j < 4 ? p[j * 16] % 64 : p[(j + 4) * 16] % 16 + p[(j - 4) * 16] / 64 * 16;
    const int minimum = j < 4 ? p[(j + 4) * 16] % 64 : p[(j + 4) * 16] / 16 + p[j * 16] / 64 * 16;
    return read_half(head, row) * scale * value - read_half(head + 32, row) * minimum;
}

static double read_weight(WeightType type, const uint8_t *head, size_t row, size_t c)
{
    static const int table[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                  1,    13,   25,  38,  53,  69,  89,  113};
    const double scale = read_half(head, row);
    const size_t j = c / 32, k = c % 32;
    switch (type) {
    case WEIGHT_Q8:
        return scale * (read_stored(head + 32, 8, row, k) - 128);
    case WEIGHT_Q4:
        return scale * (read_stored(head + 32, 4, row, k) - 8);
    case WEIGHT_Q4M:
        return scale * read_stored(head + 64, 4, row, k) + read_half(head + 32, row);
    case WEIGHT_Q4T:
        return scale * table[read_stored(head + 32, 4, row, k)];
    case WEIGHT_Q5:
        return scale * (read_stored(head + 32, 5, row, k) - 16);
    case WEIGHT_Q5M:
        return scale * read_stored(head + 64, 5, row, k) + read_half(head + 32, row);
    case WEIGHT_Q4K:
        return read_with_minimum(head, read_stored(head + 256 + j * 256, 4, row, k), row, j);
    case WEIGHT_Q5K:
        return read_with_minimum(head, read_stored(head + 256 + j * 320, 5, row, k), row, j);
    case WEIGHT_Q6K:
        return scale * (int8_t)head[32 + c / 16 * 16 + row] *
               (read_stored(head + 288 + j * 384, 6, row, k) - 32);
    default:
        return scale;  // f16: the first of the block is that of column 0
    }
}

TEST(test_rows_are_decoded_as_the_format_says)
{
    for (WeightType type = WEIGHT_Q8; type < N_WEIGHT_TYPES; type++) {
        const WeightTypeInfo *info = &weight_types[type];
        const size_t rows = 35, cols = 300;
        const size_t n_blocks = (cols + info->block_cols - 1) / info->block_cols;
        Matrix m = random_matrix(type, rows, cols);
        float row[300];
        for (size_t r = 0; r < rows; r++) {
            matrix_row(&m, r, row);
            for (size_t col = 0; col < cols; col++) {
                const uint8_t *head = (const uint8_t *)m.data +
                                      (r / 16 * n_blocks + col / info->block_cols) *
                                          info->block_bytes;
                const double want = read_weight(type, head, r % 16, col % info->block_cols);
                CHECK(fabs(row[col] - want) <= 1e-7 * fabs(want) + 1e-7,
                      "%s row %zu column %zu: %g, expected %g", info->name, r, col, row[col], want);
            }
        }
        free((void *)(uintptr_t)m.data);
    }
}

static void compute_quantize(float *out, const void *arg)
{
    float x[64], scale[2], total[2];
    int8_t q[64];
    int32_t begin4[2], begin8[2];
    memcpy(x, arg, sizeof x);
    const Activations a = {64, 1, x, q, scale, total, begin4, begin8};
    quantize(&a, 0, 0, 64);
    for (size_t i = 0; i < 64; i++) {
        out[i] = q[i];
    }
    for (size_t i = 0; i < 2; i++) {
        out[64 + i] = scale[i];
        out[66 + i] = (float)begin4[i];
        out[70 + i] = (float)begin8[i];
        out[68 + i] = total[i];
    }
}

TEST(test_quantize_rounds_to_127_steps_of_the_largest_and_lets_nan_show)
{
    float out[72], x[64] = {0};
    for (int round = 0; round < 200; round++) {
        for (size_t i = 0; i < 64; i++) {
            x[i] = random_float() * ldexpf(1, round % 2 ? round % 50 - 25 : round % 80 - 110);
        }
        compute_quantize(out, x);
        for (size_t i = 0; i < 64; i++) {
            CHECK(fabsf(out[i]) <= 127, "value %g", out[i]);
            CHECK(fabs((double)out[i] * out[64 + i / 32] - x[i]) <= out[64 + i / 32] * 0.5001,
                  "%g * %g is not within half a step of %g", out[i], out[64 + i / 32], x[i]);
        }
        check_all_sets("quantize", 72, compute_quantize, x);
    }
    for (int exponent = -121; exponent >= -149; exponent--) {  // 127 over these might be infinite
        for (size_t i = 0; i < 64; i++) {
            x[i] = i % 3 ? ldexpf(i % 2 ? 1 : -1, exponent) : 0;
        }
        compute_quantize(out, x);
        for (size_t i = 0; i < 64; i++) {
            CHECK(out[i] == 0, "%g became %g, expected 0", x[i], out[i]);
        }
        CHECK(out[66] == 0 && out[68] == 0 && out[70] == 0, "total %g", out[68]);
        check_all_sets("quantize", 72, compute_quantize, x);
    }
    memset(x, 0, sizeof x);
    x[0] = 127;  // steps of 1
    x[1] = 0.5f;
    x[2] = 1.5f;
    x[3] = -2.5f;
    compute_quantize(out, x);
    CHECK(out[1] == 0 && out[2] == 2 && out[3] == -2, "halves became %g %g %g, expected 0 2 -2",
          out[1], out[2], out[3]);
    CHECK(out[64] == 1 && out[66] == -8 * 127 && out[68] == 127 && out[70] == -128 * 127,
          "scale %g, begin %g, total %g, begin %g, expected 1, -1016, 127 and -16256", out[64],
          out[66], out[68], out[70]);
    CHECK(out[65] == 0 && out[67] == 0 && out[69] == 0, "scale of zeros %g, begin %g, total %g",
          out[65], out[67], out[69]);
    x[40] = NAN;
    x[41] = 3;
    compute_quantize(out, x);
    CHECK(isnan(out[65]), "the scale of a block with a NaN is %g", out[65]);
}

typedef struct {
    const float *a, *b;
    size_t n;
} VectorCase;

static void compute_rms_norm(float *out, const void *arg)
{
    const VectorCase *c = arg;
    rms_norm(out, c->a, c->b, c->n, 1e-5f);
}

static void compute_swiglu(float *out, const void *arg)
{
    const VectorCase *c = arg;
    memcpy(out, c->a, round_up(c->n, LANES) * sizeof *out);
    swiglu(out, c->b, round_up(c->n, LANES));
}

static void compute_geglu(float *out, const void *arg)
{
    const VectorCase *c = arg;
    memcpy(out, c->a, round_up(c->n, LANES) * sizeof *out);
    geglu(out, c->b, round_up(c->n, LANES));
}

static void compute_soft_cap(float *out, const void *arg)
{
    const VectorCase *c = arg;
    memcpy(out, c->a, round_up(c->n, LANES) * sizeof *out);
    soft_cap(out, round_up(c->n, LANES), 5.0f);
}

static void compute_softmax(float *out, const void *arg)
{
    const VectorCase *c = arg;
    memcpy(out, c->a, c->n * sizeof *out);
    for (size_t i = c->n; i < round_up(c->n, LANES); i++) {
        out[i] = -INFINITY;
    }
    softmax(out, round_up(c->n, LANES), 0.7f);
}

TEST(test_rms_norm_swiglu_and_softmax_agree_with_double_precision_and_all_sets_agree_in_bits)
{
    for (size_t k = 0; k < N_SIZES; k++) {
        const size_t n = sizes[k], padded = round_up(n, LANES);
        float *a = random_floats(n, 20), *b = random_floats(n, 1),
              *out = alloc_zeroed(padded, sizeof *out);
        VectorCase c = {a, b, n};
        double squares = 0, total = 0, max = -INFINITY;
        for (size_t i = 0; i < n; i++) {
            squares += (double)a[i] * a[i];
            max = a[i] > max ? a[i] : max;
        }
        for (size_t i = 0; i < n; i++) {
            total += exp((a[i] - max) / 0.7f);
        }
        compute_rms_norm(out, &c);
        for (size_t i = 0; i < n; i++) {
            double want = a[i] / sqrt(squares / (double)n + 1e-5) * b[i];
            CHECK(fabs(out[i] - want) < 1e-6, "rms_norm of %zu: %g, expected %g", n, out[i], want);
        }
        compute_swiglu(out, &c);
        for (size_t i = 0; i < n; i++) {
            double want = a[i] / (1 + exp(-a[i])) * b[i];
            CHECK(fabs(out[i] - want) < 4e-6, "swiglu of %zu: %g, expected %g", n, out[i], want);
        }
        compute_softmax(out, &c);
        for (size_t i = 0; i < n; i++) {
            double want = exp((a[i] - max) / 0.7f) / total;
            CHECK(fabs(out[i] - want) < 1e-6, "softmax of %zu: %g, expected %g", n, out[i], want);
        }
        check_all_sets("rms_norm", padded, compute_rms_norm, &c);
        check_all_sets("swiglu", padded, compute_swiglu, &c);
        check_all_sets("softmax", padded, compute_softmax, &c);
        free(a);
        free(b);
        free(out);
    }
}

TEST(test_geglu_and_soft_cap_agree_with_double_precision_and_all_sets_agree_in_bits)
{
    for (size_t k = 0; k < N_SIZES; k++) {
        const size_t n = sizes[k], padded = round_up(n, LANES);
        float *a = random_floats(n, 20), *b = random_floats(n, 1),
              *out = alloc_zeroed(padded, sizeof *out);
        VectorCase c = {a, b, n};
        compute_geglu(out, &c);
        for (size_t i = 0; i < n; i++) {
            const double x = a[i], inner = sqrt(2 / acos(-1)) * (x + 0.044715 * x * x * x);
            const double want = x / 2 * (1 + tanh(inner)) * b[i];
            CHECK(fabs(out[i] - want) < 4e-6, "geglu(%g): %g, expected %g", x, out[i], want);
        }
        compute_soft_cap(out, &c);
        for (size_t i = 0; i < n; i++) {
            const double want = 5 * tanh(a[i] / 5);
            CHECK(fabs(out[i] - want) <= 4e-7 * fabs(want), "soft_cap(%g): %g, expected %g", a[i],
                  out[i], want);
        }
        check_all_sets("geglu", padded, compute_geglu, &c);
        check_all_sets("soft_cap", padded, compute_soft_cap, &c);
        free(a);
        free(b);
        free(out);
    }
}

// Both of its formulas, on either side of where they meet, and what is not a finite number.
TEST(test_tanh_is_accurate_over_its_whole_range)
{
    double worst = 0;
    float x[LANES], odd[LANES] = {NAN, INFINITY, -INFINITY, 1e30f, -1e30f, 0, -0.0f, 1e-30f};
    for (size_t i = 0; i < 40000; i++) {
        x[i % LANES] = (float)(i < 20000 ? (double)i / 80000 : (double)i / 2000 - 9.75);
        if (i % LANES == LANES - 1) {
            float y[LANES];
            memcpy(y, x, sizeof y);
            soft_cap(y, LANES, 1.0f);
            for (size_t j = 0; j < LANES; j++) {
                const double want = tanh(x[j]);
                worst = fmax(worst, want != 0 ? fabs(y[j] - want) / fabs(want) : fabs(y[j]));
            }
        }
    }
    CHECK(worst < 2.4e-7, "largest relative error %g, expected below 2.4e-7", worst);
    soft_cap(odd, LANES, 1.0f);
    CHECK(isnan(odd[0]), "tanh(NaN) is %g", odd[0]);
    CHECK(odd[1] == 1 && odd[2] == -1 && odd[3] == 1 && odd[4] == -1, "tanh at infinity");
    CHECK(odd[5] == 0 && odd[6] == 0 && odd[7] == 1e-30f, "tanh near 0");
}

// The second of softmax(0, -y) is e^-y / (1 + e^-y), where the relative error of exp shows over its
// whole range.
TEST(test_exp_is_within_two_ulp_and_nan_and_infinity_pass)
{
    enum { N = 4096 };
    float *x = alloc_zeroed(N, sizeof *x), *p = alloc_zeroed(LANES, sizeof *p), one[LANES];
    double worst = 0;
    for (size_t i = 0; i < N; i++) {
        float y = (float)i * (87.0f / N);
        for (size_t k = 2; k < LANES; k++) {
            p[k] = -INFINITY;
        }
        p[0] = 0;
        p[1] = -y;
        softmax(p, LANES, 1.0f);
        double want = exp(-(double)y) / (1 + exp(-(double)y));
        worst = fmax(worst, fabs(p[1] - want) / want);
    }
    CHECK(worst < 2.5e-7, "largest relative error %g, expected below 2.5e-7", worst);
    for (size_t k = 0; k < LANES; k++) {
        one[k] = 1;
        p[k] = (float)k;
    }
    p[3] = NAN;
    p[4] = INFINITY;
    p[5] = -INFINITY;
    p[6] = -1e30f;
    swiglu(p, one, LANES);
    CHECK(isnan(p[3]), "swiglu(NaN) is %g", p[3]);
    CHECK(isinf(p[4]), "swiglu(infinity) is %g", p[4]);
    CHECK(p[6] == 0, "swiglu(-1e30) is %g", p[6]);
    for (size_t k = 0; k < LANES; k++) {
        p[k] = (float)k;
    }
    p[9] = NAN;
    softmax(p, LANES, 1.0f);
    CHECK(isnan(p[0]), "softmax hides a NaN: %g", p[0]);
    free(x);
    free(p);
}

// --------------------------------------------------------------------------------------------
// Attention over pages

typedef struct {
    size_t head_dim, n_positions, n_queries, window;
    bool f16;
    const float *k, *v;  // (n_positions, head_dim)
    const float *q;      // (n_queries, head_dim)
} AttendCase;

// out (n_queries, head_dim): the last n_queries positions attend to themselves and the positions
// before, `window` in all at most. Splits are combined in order, as the model does.
static void compute_attend(float *out, const void *arg)
{
    const AttendCase *c = arg;
    const size_t dims = round_up(c->head_dim, LANES), value = c->f16 ? 2 : 4, stride = dims + LANES;
    const size_t k_bytes = c->head_dim * PAGE_POSITIONS * value,
                 v_bytes = dims * PAGE_POSITIONS * value;
    const size_t n_pages = (c->n_positions + PAGE_POSITIONS - 1) / PAGE_POSITIONS;
    void **pages = calloc(n_pages, sizeof *pages);
    for (size_t i = 0; i < n_pages; i++) {
        pages[i] = alloc_zeroed(k_bytes + v_bytes, 1);
    }
    for (size_t j = 0; j < c->n_positions; j++) {
        char *page = pages[j / PAGE_POSITIONS];
        store_kv(page, page + k_bytes, j % PAGE_POSITIONS, c->k + j * c->head_dim,
                 c->v + j * c->head_dim, c->head_dim, c->f16);
    }
    float *scores = alloc_zeroed(TILE_QUERIES * SPLIT_POSITIONS, sizeof *scores);
    float *partial = alloc_zeroed(TILE_QUERIES * stride, sizeof *partial),
          *result = alloc_zeroed(TILE_QUERIES * stride, sizeof *result);
    float *mask = alloc_zeroed(TILE_QUERIES * (c->n_positions + LANES), sizeof *mask);
    Visible visible[TILE_QUERIES];
    for (size_t t = 0; t < c->n_queries; t++) {
        const size_t end = c->n_positions - c->n_queries + t + 1;
        const size_t begin = end > c->window ? end - c->window : 0;
        float *row = mask + t * (c->n_positions + LANES);
        for (size_t j = 0; j < c->n_positions + LANES; j++) {
            row[j] = j < begin || j >= end ? -INFINITY : 0;
        }
        visible[t] = (Visible){begin, end, row};
    }
    Attend a = {.n_queries = c->n_queries,
                .head_dim = c->head_dim,
                .q = c->q,
                .visible = visible,
                .pages = pages,
                .v_offset = k_bytes,
                .f16 = c->f16,
                .scores = scores,
                .out = partial,
                .out_stride = stride};
    for (a.split = 0; a.split * SPLIT_POSITIONS < c->n_positions; a.split++) {
        attend(&a);
        for (size_t t = 0; t < c->n_queries; t++) {
            attend_combine(result + t * stride, partial + t * stride, c->head_dim);
        }
    }
    for (size_t t = 0; t < c->n_queries; t++) {
        attend_finish(out + t * c->head_dim, result + t * stride, c->head_dim);
    }
    for (size_t i = 0; i < n_pages; i++) {
        free(pages[i]);
    }
    free(pages);
    free(scores);
    free(partial);
    free(result);
    free(mask);
}

static void check_attend(AttendCase c)
{
    const size_t n = c.n_queries * c.head_dim;
    float *k = random_floats(c.n_positions * c.head_dim, 2),
          *v = random_floats(c.n_positions * c.head_dim, 1);
    float *q = random_floats(n, 1), *out = alloc_zeroed(n, sizeof *out),
          *alone_out = alloc_zeroed(n, sizeof *out);
    c.k = k;
    c.v = v;
    c.q = q;
    compute_attend(out, &c);
    for (size_t t = 0; t < c.n_queries; t++) {
        const size_t end = c.n_positions - c.n_queries + t + 1,
                     begin = end > c.window ? end - c.window : 0;
        double sum = 0, want[256] = {0};
        for (size_t j = begin; j < end; j++) {
            double score = 0;
            for (size_t d = 0; d < c.head_dim; d++) {
                score += (double)q[t * c.head_dim + d] * k[j * c.head_dim + d];
            }
            sum += exp(score);
            for (size_t d = 0; d < c.head_dim; d++) {
                want[d] += exp(score) * v[j * c.head_dim + d];
            }
        }
        for (size_t d = 0; d < c.head_dim; d++) {
            CHECK(fabs(out[t * c.head_dim + d] - want[d] / sum) < (c.f16 ? 1e-2 : 1e-5),
                  "head_dim %zu, %zu positions, query %zu, dim %zu: %g, expected %g", c.head_dim,
                  c.n_positions, t, d, out[t * c.head_dim + d], want[d] / sum);
        }
    }
    check_all_sets("attend", n, compute_attend, &c);
    // One query at a time gives the same bits as all together.
    for (size_t t = 0; t < c.n_queries; t++) {
        AttendCase one = c;
        one.n_positions = c.n_positions - c.n_queries + t + 1;
        one.n_queries = 1;
        one.q = q + t * c.head_dim;
        compute_attend(alone_out + t * c.head_dim, &one);
    }
    check_same_bits("attend", "one query at a time", alone_out, out, n);
    free(k);
    free(v);
    free(q);
    free(out);
    free(alone_out);
}

TEST(test_attention_agrees_with_double_precision_sets_and_tiles_agree_in_bits)
{
    static const size_t positions[] = {1, 5, 16, 17, 33, 250, 256, 257, 600};
    static const size_t head_dims[] = {2, 8, 16, 24, 64, 128};
    // Tiles of more than a quarter of the most queries.
    const size_t least = TILE_QUERIES / 4 + 1, widths = TILE_QUERIES + 1 - least;
    for (size_t i = 0; i < 9 * 6 * 4; i++) {
        AttendCase c = {.head_dim = head_dims[i % 6],
                        .n_positions = positions[i / 6 % 9],
                        .n_queries = 1,
                        .window = 1000,
                        .f16 = i / 54 % 2};
        if (i / 108) {
            c.n_queries = c.n_positions < TILE_QUERIES ? c.n_positions : least + i % widths;
        }
        check_attend(c);
    }
}

TEST(test_attention_through_a_sliding_window)
{
    for (size_t window = 1; window < 400; window += 37) {
        check_attend((AttendCase){.head_dim = 8,
                                  .n_positions = 530,
                                  .n_queries = TILE_QUERIES / 2 + 1,
                                  .window = window});
    }
}

// An input whose answer is obvious: one key makes one score large, so the result is its value.
TEST(test_attention_to_one_position_returns_its_value)
{
    enum { HD = 16, N = 40 };
    float k[N * HD] = {0}, v[N * HD], q[HD] = {0}, out[HD];
    for (size_t i = 0; i < N * HD; i++) {
        v[i] = (float)i;
    }
    q[3] = 50;
    k[21 * HD + 3] = 2;
    compute_attend(
        out,
        &(AttendCase){
            .head_dim = HD, .n_positions = N, .n_queries = 1, .window = N, .k = k, .v = v, .q = q});
    check_same_bits("attention", "the chosen position", out, v + 21 * HD, HD);
}

static void compute_half_round_trip(float *out, const void *arg)
{
    const float *x = arg;
    uint16_t page_k[16 * PAGE_POSITIONS] = {0}, page_v[16 * PAGE_POSITIONS] = {0};
    store_kv(page_k, page_v, 0, x, x, 16, true);
    for (size_t i = 0; i < 16; i++) {
        out[i] = page_v[i];
        out[16 + i] = page_k[i * LANES];
    }
}

TEST(test_half_precision_rounds_alike_on_all_sets)
{
    static const float edges[16] = {0.0f,     -0.0f,  1.0f,      65504.0f, 65519.99f, 65520.0f,
                                    1e9f,     -1e9f,  6.1e-5f,   6.0e-5f,  5.96e-8f,  2.98e-8f,
                                    2.99e-8f, 1e-10f, 1.000488f, 1.001465f};
    check_all_sets("f16", 32, compute_half_round_trip, edges);
    for (int round = 0; round < 2000; round++) {
        float *x = random_floats(16, powf(2, (float)(round % 60) - 40));
        check_all_sets("f16", 32, compute_half_round_trip, x);
        free(x);
    }
}

// --------------------------------------------------------------------------------------------
// RoPE, and the division of work

static void compute_rope(float *out, const void *arg)
{
    const VectorCase *c = arg;
    memcpy(out, c->a, c->n * sizeof *out);
    rope(out, c->b, c->b + 64, c->n);
}

TEST(test_rope_rotates_pairs_half_a_head_apart)
{
    for (size_t hd = 2; hd <= 128; hd += 2) {
        float *x = random_floats(hd, 1), *angles = random_floats(128, 1),
              *out = alloc_zeroed(hd, sizeof *out);
        VectorCase c = {x, angles, hd};
        compute_rope(out, &c);
        for (size_t i = 0; i < hd / 2; i++) {
            double cs = angles[i], sn = angles[64 + i], a = x[i], b = x[i + hd / 2];
            CHECK(fabs(out[i] - (a * cs - b * sn)) < 1e-6, "head_dim %zu, %zu: %g", hd, i, out[i]);
            CHECK(fabs(out[i + hd / 2] - (b * cs + a * sn)) < 1e-6, "head_dim %zu, %zu: %g", hd, i,
                  out[i + hd / 2]);
        }
        check_all_sets("rope", hd, compute_rope, &c);
        free(x);
        free(angles);
        free(out);
    }
}

TEST(test_rope_tables_are_exact_to_half_an_ulp_of_f32)
{
    static const double thetas[] = {10000, 100000, 500000, 1e6};
    for (size_t k = 0; k < 4; k++) {
        double frequency[64];
        float cos_[64], sin_[64];
        rope_frequencies(frequency, 128, thetas[k], &(RopeScaling){.kind = ROPE_UNSCALED}, 0);
        for (size_t i = 0; i < 64; i++) {
            double want = pow(thetas[k], -(double)(2 * i) / 128);
            CHECK(fabs(frequency[i] - want) < 1e-14 * want, "frequency %zu: %.17g, expected %.17g",
                  i, frequency[i], want);
        }
        for (size_t p = 0; p < 131072; p += p < 600 ? 1 : 1237) {
            rope_angles(cos_, sin_, frequency, 64, p, 1);
            for (size_t i = 0; i < 64; i++) {
                double angle = (double)p * frequency[i];
                CHECK(fabs(cos_[i] - cos(angle)) < 6e-8, "cos at %zu, %zu: %.9g, expected %.9g", p,
                      i, cos_[i], cos(angle));
                CHECK(fabs(sin_[i] - sin(angle)) < 6e-8, "sin at %zu, %zu: %.9g, expected %.9g", p,
                      i, sin_[i], sin(angle));
            }
        }
    }
}

// YaRN as its authors' code has it, with a library's logarithms. In 32 pairs of base 10^4, 32 turns of
// 4096 positions are made by pair 10.45, one by pair 22.5.
TEST(test_yarn_mixes_frequencies_between_two_pairs)
{
    double plain[32], mixed[32];
    RopeScaling s = {.kind = ROPE_YARN, .original_context = 4096, .factor = 16};
    s.beta_fast = 32;
    s.beta_slow = 1;
    rope_frequencies(plain, 64, 1e4, &(RopeScaling){.kind = ROPE_UNSCALED}, 0);
    for (int truncate = 0; truncate <= 1; truncate++) {
        s.truncate = truncate;
        rope_frequencies(mixed, 64, 1e4, &s, 0);
        const double turn = 4096 / (2 * acos(-1)), base = 2 * log(1e4);
        const double low = 64 * log(turn / 32) / base, high = 64 * log(turn) / base;
        const double first = truncate ? floor(low) : low, last = truncate ? ceil(high) : high;
        for (size_t i = 0; i < 32; i++) {
            const double part = fmin(fmax(((double)i - first) / (last - first), 0), 1);
            const double want = plain[i] * (part / 16 + 1 - part);
            CHECK(fabs(mixed[i] / want - 1) < 1e-12, "pair %zu: %g, expected %g", i, mixed[i],
                  want);
        }
    }
    CHECK(fabs(rope_attention_factor(&s) - (1 + 0.1 * log(16))) < 1e-14, "attention factor %g",
          rope_attention_factor(&s));
    s.attention_factor = 1.25;
    CHECK(rope_attention_factor(&s) == 1.25, "attention factor %g", rope_attention_factor(&s));
    rope_frequencies(mixed, 64, 1, &s, 0);  // a base of which the logarithm is 0
    CHECK(isfinite(mixed[0]) && isfinite(mixed[31]), "%g and %g", mixed[0], mixed[31]);
}

TEST(test_longrope_has_a_table_for_contexts_up_to_the_original_one_and_another)
{
    double plain[4], got[4];
    const RopeScaling s = {.kind = ROPE_LONGROPE,
                           .original_context = 4096,
                           .factor = 32,
                           .short_factors = {1, 1.5f, 2, 2.5f},
                           .long_factors = {1, 3, 20, 64}};
    rope_frequencies(plain, 8, 1e4, &(RopeScaling){.kind = ROPE_UNSCALED}, 0);
    for (size_t context = 4096; context <= 4097; context++) {
        const float *factors = context == 4096 ? s.short_factors : s.long_factors;
        rope_frequencies(got, 8, 1e4, &s, context);
        for (size_t i = 0; i < 4; i++) {
            CHECK(got[i] == plain[i] / (double)factors[i], "context %zu, pair %zu: %g", context, i,
                  got[i]);
        }
    }
    const double want = sqrt(1 + log(32) / log(4096));
    CHECK(fabs(rope_attention_factor(&s) - want) < 1e-14, "attention factor %g, expected %g",
          rope_attention_factor(&s), want);
}

TEST(test_queries_grow_with_the_logarithm_of_whole_original_contexts)
{
    CHECK(query_factor(0.1, 100, 0) == 1 && query_factor(0.1, 100, 99) == 1, "within the first");
    CHECK(fabs(query_factor(0.1, 100, 399) - (1 + 0.1 * log(4))) < 1e-15, "in the fourth: %g",
          query_factor(0.1, 100, 399));
}

TEST(test_rope_scaling_stretches_long_wavelengths)
{
    double plain[32], linear[32], llama3[32];
    rope_frequencies(plain, 64, 5e5, &(RopeScaling){.kind = ROPE_UNSCALED}, 0);
    rope_frequencies(linear, 64, 5e5, &(RopeScaling){.kind = ROPE_LINEAR, .factor = 4}, 0);
    rope_frequencies(llama3, 64, 5e5,
                     &(RopeScaling){.kind = ROPE_LLAMA3,
                                    .original_context = 8192,
                                    .factor = 32,
                                    .low_freq_factor = 1,
                                    .high_freq_factor = 4},
                     0);
    for (size_t i = 0; i < 32; i++) {
        const double turns = 8192 * plain[i] / (2 * acos(-1)), smooth = (turns - 1) / 3;
        const double want = turns > 4   ? plain[i]
                            : turns < 1 ? plain[i] / 32
                                        : (1 - smooth) * plain[i] / 32 + smooth * plain[i];
        CHECK(fabs(linear[i] - plain[i] / 4) < 1e-15, "linear %zu: %g", i, linear[i]);
        CHECK(fabs(llama3[i] - want) < 1e-14 * want, "llama3 %zu: %g, expected %g", i, llama3[i],
              want);
    }
    CHECK(llama3[0] == plain[0] && llama3[31] < plain[31] / 31, "ends: %g %g", llama3[0],
          llama3[31]);
}

TEST(test_an_unknown_kernel_set_is_refused_with_those_there_are)
{
    Error err = {0};
    CHECK(!ops_select("mmx", &err) && err.kind == ERROR_USAGE, "kind %d", (int)err.kind);
    CHECK(strstr(err.message, "mmx") && strstr(err.message, "scalar"), "message: %s", err.message);
}

int main(int argc, char **argv)
{
    use_set("auto");
    return unit_main(
        argc, argv,
        (UnitTest[]){
            UNIT(test_matmul_of_each_type_agrees_with_double_precision_and_all_sets_agree_in_bits),
            UNIT(test_matmul_of_the_largest_integers_is_exact_in_all_sets),
            UNIT(test_rows_are_decoded_as_the_format_says),
            UNIT(test_quantize_rounds_to_127_steps_of_the_largest_and_lets_nan_show),
            UNIT(
                test_rms_norm_swiglu_and_softmax_agree_with_double_precision_and_all_sets_agree_in_bits),
            UNIT(test_geglu_and_soft_cap_agree_with_double_precision_and_all_sets_agree_in_bits),
            UNIT(test_tanh_is_accurate_over_its_whole_range),
            UNIT(test_exp_is_within_two_ulp_and_nan_and_infinity_pass),
            UNIT(test_attention_agrees_with_double_precision_sets_and_tiles_agree_in_bits),
            UNIT(test_attention_through_a_sliding_window),
            UNIT(test_attention_to_one_position_returns_its_value),
            UNIT(test_half_precision_rounds_alike_on_all_sets),
            UNIT(test_rope_rotates_pairs_half_a_head_apart),
            UNIT(test_rope_tables_are_exact_to_half_an_ulp_of_f32),
            UNIT(test_rope_scaling_stretches_long_wavelengths),
            UNIT(test_yarn_mixes_frequencies_between_two_pairs),
            UNIT(test_longrope_has_a_table_for_contexts_up_to_the_original_one_and_another),
            UNIT(test_queries_grow_with_the_logarithm_of_whole_original_contexts),
            UNIT(test_an_unknown_kernel_set_is_refused_with_those_there_are),
            {0},
        });
}
