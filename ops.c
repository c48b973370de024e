// ops.c - the parts of ops.h that are not kernels: the choice of an instruction set, the sizes of
// matrices, the units of a product, and the RoPE tables.
//
// Most ops are one call through ops_kernels and are in ops.h. The RoPE tables are here, in scalar
// code: they are computed once per position, and must not depend on a library's sin or pow.
#include "ops.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "base/processor.h"

// --------------------------------------------------------------------------------------------
// The instruction set

static bool always(void) { return true; }

// The sets that were compiled (HAVE_.., from the Makefile), best first; the last one runs everywhere.
static const struct {
    const Kernels *kernels;
    bool (*supported)(void);
} sets[] = {
#ifdef HAVE_avx512
    {&kernels_avx512, processor_has_avx512},
#endif
#ifdef HAVE_avxvnni
    {&kernels_avxvnni, processor_has_avxvnni},
#endif
#ifdef HAVE_avx2
    {&kernels_avx2, processor_has_avx2},
#endif
#ifdef HAVE_i8mm
    {&kernels_i8mm, processor_has_i8mm},
#endif
#ifdef HAVE_dotprod
    {&kernels_dotprod, processor_has_dotprod},
#endif
#ifdef HAVE_neon
    {&kernels_neon, always},
#endif
    {&kernels_scalar, always},
};

_Static_assert(sizeof sets / sizeof *sets <= MAX_SETS, "room for the names of all sets");

const Kernels *ops_kernels = &kernels_scalar;

size_t ops_available(const char *names[MAX_SETS])
{
    size_t n = 0;
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) {
        if (sets[i].supported()) {
            names[n++] = sets[i].kernels->name;
        }
    }
    return n;
}

bool ops_select(const char *name, Error *err)
{
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) {
        if ((strcmp(name, "auto") == 0 || strcmp(name, sets[i].kernels->name) == 0) &&
            sets[i].supported()) {
            ops_kernels = sets[i].kernels;
            return true;
        }
    }
    const char *names[MAX_SETS] = {"", "", "", ""};
    const size_t n = ops_available(names);
    return error_set(
        err, ERROR_USAGE,
        "--simd %s: not a kernel set of this processor, which has: auto%s%s%s%s%s%s%s%s", name,
        n > 0 ? ", " : "", names[0], n > 1 ? ", " : "", names[1], n > 2 ? ", " : "", names[2],
        n > 3 ? ", " : "", names[3]);
}

// --------------------------------------------------------------------------------------------
// Matrices

// Name, inputs of a block, and its bytes: for each of LANES rows a scale (f16; in some types also a
// minimum) and the block's weights. Those of superblocks have 12 or 16 bytes of smaller scales.
const WeightTypeInfo weight_types[N_WEIGHT_TYPES] = {
    [WEIGHT_F32] = {"f32", 1, LANES * sizeof(float), false},
    [WEIGHT_BF16] = {"bf16", 1, LANES * sizeof(uint16_t), false},
    [WEIGHT_Q8] = {"q8", QUANT_BLOCK, LANES *(2 + QUANT_BLOCK), true},
    [WEIGHT_Q4] = {"q4", QUANT_BLOCK, LANES *(2 + QUANT_BLOCK / 2), true},
    [WEIGHT_Q4M] = {"q4m", QUANT_BLOCK, LANES *(4 + QUANT_BLOCK / 2), true},
    [WEIGHT_F16] = {"f16", 1, LANES * sizeof(uint16_t), false},
    [WEIGHT_Q4T] = {"q4t", QUANT_BLOCK, LANES *(2 + QUANT_BLOCK / 2), true},
    [WEIGHT_Q5] = {"q5", QUANT_BLOCK, LANES *(2 + QUANT_BLOCK * 5 / 8), true},
    [WEIGHT_Q5M] = {"q5m", QUANT_BLOCK, LANES *(4 + QUANT_BLOCK * 5 / 8), true},
    [WEIGHT_Q4K] = {"q4k", SUPERBLOCK, LANES *(4 + 12 + SUPERBLOCK / 2), true},
    [WEIGHT_Q5K] = {"q5k", SUPERBLOCK, LANES *(4 + 12 + SUPERBLOCK * 5 / 8), true},
    [WEIGHT_Q6K] = {"q6k", SUPERBLOCK, LANES *(2 + 16 + SUPERBLOCK * 6 / 8), true},
};

bool matrix_bytes(WeightType type, size_t rows, size_t cols, size_t *bytes)
{
    const WeightTypeInfo *t = &weight_types[type];
    size_t padded_rows, padded_cols;
    if (!size_add(rows, LANES - 1, &padded_rows) ||
        !size_add(cols, t->block_cols - 1, &padded_cols)) {
        return false;
    }
    return size_mul(padded_rows / LANES, padded_cols / t->block_cols, bytes) &&
           size_mul(*bytes, t->block_bytes, bytes);
}

void *matrix_group(WeightType type, size_t cols, void *data, size_t group)
{
    const WeightTypeInfo *t = &weight_types[type];
    const size_t n_blocks = (cols + t->block_cols - 1) / t->block_cols;
    return (uint8_t *)data + group * n_blocks * t->block_bytes;
}

Matrix matrix_rows(const Matrix *m, size_t first, size_t n)
{
    size_t skipped = 0;
    (void)matrix_bytes(m->type, first, m->cols, &skipped);  // less than those of the whole matrix
    return (Matrix){m->type, n, m->cols, (const uint8_t *)m->data + skipped};
}

size_t matmul_units(const Matrix *w) { return (w->rows + QUANT_BLOCK - 1) / QUANT_BLOCK; }

static void multiply(const Matrix *w, const Activations *in, OutputRows out, Units units, bool add)
{
    const size_t groups = (w->rows + LANES - 1) / LANES, unit = QUANT_BLOCK / LANES;
    const Matmul product = {.w = w->data,
                            .n_cols = w->cols,
                            .group_begin = units.begin * unit,
                            .group_end = units.end * unit < groups ? units.end * unit : groups,
                            .in = in,
                            .out = out.x,
                            .out_stride = out.stride,
                            .n_rows = out.n_rows,
                            .add = add};
    if (product.group_begin < product.group_end) {
        ops_kernels->matmul[w->type](&product);
    }
}

void matmul(const Matrix *w, const Activations *in, OutputRows out, Units units)
{
    multiply(w, in, out, units, false);
}

void matmul_add(const Matrix *w, const Activations *in, OutputRows out, Units units)
{
    multiply(w, in, out, units, true);
}

// --------------------------------------------------------------------------------------------
// The RoPE tables. libm's pow, sin and cos may differ in the last bit from one library to the
// next; these use only additions, multiplications and divisions, in a fixed order. Their errors are
// far below the last bit of the f32 tables.
//
// To subtract n * ln 2 or n * pi / 2 from an argument without losing bits, the constant is split so
// that n times its first parts is exact (Cody and Waite, Software Manual for the Elementary
// Functions, 1980).

#define LN2_HIGH  0x1.62e42fee00000p-1   // ln 2 to 33 bits
#define LN2_LOW   0x1.a39ef35793c76p-33  // and the rest
#define PIO2_HIGH 0x1.921fb54400000p+0   // pi / 2 to 33 bits
#define PIO2_MID  0x1.0b4611a600000p-34  // 33 more
#define PIO2_LOW  0x1.3198a2e037073p-69  // and the rest

// ln x for x positive and normal. With x = m 2^e and m from sqrt(1/2) to sqrt(2),
//
//     ln x = e ln 2 + 2 atanh(s),  s = (m - 1) / (m + 1),  atanh(s) = s + s^3 / 3 + s^5 / 5 + ..
static double exact_log(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    int64_t e = (int64_t)(bits >> 52) - 1023;
    bits = (bits & 0xfffffffffffffu) | (uint64_t)1023 << 52;
    double m;
    memcpy(&m, &bits, sizeof m);
    if (m > 0x1.6a09e667f3bcdp+0) {
        m /= 2;
        e++;
    }
    double s = (m - 1) / (m + 1), s2 = s * s, sum = 0;
    for (int k = 25; k >= 3; k -= 2) {
        sum = (sum + 1.0 / k) * s2;
    }
    return (double)e * LN2_HIGH + ((double)e * LN2_LOW + 2 * (s + s * sum));
}

// e^x for x in -700 .. 0: 2^n e^r with x = n ln 2 + r, |r| <= ln 2 / 2, e^r by its series.
static double exact_exp(double x)
{
    int64_t n = (int64_t)(x / 0x1.62e42fefa39efp-1 - 0.5);
    double r = (x - (double)n * LN2_HIGH) - (double)n * LN2_LOW, sum = 1;
    for (int k = 16; k >= 1; k--) {
        sum = 1 + sum * r / k;
    }
    uint64_t bits = (uint64_t)(n + 1023) << 52;
    double scale;
    memcpy(&scale, &bits, sizeof scale);
    return sum * scale;
}

// sin and cos of an angle from 0 to 2^20 = n pi / 2 + r, |r| <= pi / 4: the series of sin r and
// cos r, which n mod 4 quarter turns exchange and negate.
static void exact_sin_cos(double angle, double *sin, double *cos)
{
    int64_t n = (int64_t)(angle / 0x1.921fb54442d18p+0 + 0.5);
    double m = (double)n;
    double r = ((angle - m * PIO2_HIGH) - m * PIO2_MID) - m * PIO2_LOW;
    double r2 = r * r, s = 0, c = 0;
    for (int k = 18; k >= 2; k -= 2) {
        c = (1 - c) * r2 / (k * (k - 1));
        s = (1 - s) * r2 / (k * (k + 1));
    }
    s = (1 - s) * r;
    c = 1 - c;
    *sin = n % 4 == 0 ? s : n % 4 == 1 ? c : n % 4 == 2 ? -s : -c;
    *cos = n % 4 == 0 ? c : n % 4 == 1 ? -s : n % 4 == 2 ? -c : s;
}

// sums[k] += e^(x[k] - max) for LANES values, none above max; below e^-700 a term does not count
// anyway. As in exact_exp, but in additions and multiplications only and for all lanes at a time, so
// that compilers vectorise it. Adding 1.5 * 2^52 rounds x / ln 2 to a whole number n, and leaves n
// in the lowest bits.
static void add_exponentials(double *sums, const float *x, double max)
{
    static const double inverse_factorials[] = {1.0 / 479001600,
                                                1.0 / 39916800,
                                                1.0 / 3628800,
                                                1.0 / 362880,
                                                1.0 / 40320,
                                                1.0 / 5040,
                                                1.0 / 720,
                                                1.0 / 120,
                                                1.0 / 24,
                                                1.0 / 6,
                                                0.5,
                                                1.0,
                                                1.0};
    const double shift = 0x1.8p52;
    double shifted[LANES], r[LANES], series[LANES], scale[LANES];
    uint64_t bits[LANES];
    for (size_t k = 0; k < LANES; k++) {
        const double d = (double)x[k] - max, y = d > -700 ? d : -700;
        shifted[k] = y * 0x1.71547652b82fep+0 + shift;
        const double n = shifted[k] - shift;
        r[k] = (y - n * LN2_HIGH) - n * LN2_LOW;
        series[k] = 1.0 / 6227020800;
    }
    for (size_t i = 0; i < sizeof inverse_factorials / sizeof *inverse_factorials; i++) {
        for (size_t k = 0; k < LANES; k++) {
            series[k] = series[k] * r[k] + inverse_factorials[i];
        }
    }
    memcpy(bits, shifted, sizeof bits);
    for (size_t k = 0; k < LANES; k++) {
        bits[k] = ((bits[k] + 1023) & 0xfff) << 52;
    }
    memcpy(scale, bits, sizeof scale);
    for (size_t k = 0; k < LANES; k++) {
        sums[k] += series[k] * scale[k];
    }
}

// The maximum is taken out first, so that nothing overflows. The sum goes through partial lanes and
// the tree of v_sum (simd/kernels.h).
double log_sum_exp(const float *x, size_t n)
{
    double sums[LANES] = {0};
    float rest[LANES];
    const size_t whole = n / LANES * LANES;
    float max = x[0];
    for (size_t i = 1; i < n; i++) {
        max = x[i] > max ? x[i] : max;
    }
    for (size_t i = 0; i < whole; i += LANES) {
        add_exponentials(sums, x + i, max);
    }
    for (size_t k = 0; k < LANES; k++) {
        rest[k] = whole + k < n ? x[whole + k] : -INFINITY;
    }
    add_exponentials(sums, rest, max);
    for (size_t half = LANES / 2; half > 0; half /= 2) {
        for (size_t k = 0; k < half; k++) {
            sums[k] += sums[k + half];
        }
    }
    return (double)max + exact_log(sums[0]);
}

// The pair that makes so many turns in the original context, as a real number: the i of which
// original_context * theta^(-2 i / rotary_dim) / (2 pi) = turns.
static double pair_of_turns(double turns, size_t rotary_dim, double theta, size_t original_context)
{
    const double two_pi = 0x1.921fb54442d18p+2;
    return (double)rotary_dim * exact_log((double)original_context / (turns * two_pi)) /
           (2 * exact_log(theta));
}

// x within low .. high; low if it is not a number (all frequencies are the same if theta is 1).
static double within(double x, double low, double high)
{
    return x > low ? x < high ? x : high : low;
}

// Of YaRN: which pairs are mixed, *low .. *high. As in the authors' code, the lower bound is at least
// 0, the upper one at most rotary_dim - 1, and both are whole numbers unless the model says no.
static void yarn_bounds(const RopeScaling *s, size_t rotary_dim, double theta, double *low,
                        double *high)
{
    const double last = (double)rotary_dim - 1;
    *low = within(pair_of_turns(s->beta_fast, rotary_dim, theta, s->original_context), 0, last);
    *high = within(pair_of_turns(s->beta_slow, rotary_dim, theta, s->original_context), -1, last);
    if (s->truncate) {
        const double whole = (double)(int64_t)*high;
        *low = (double)(int64_t)*low;
        *high = whole < *high ? whole + 1 : whole;
    }
    if (*low == *high) {
        *high += 0.001;
    }
}

void rope_frequencies(double *frequency, size_t rotary_dim, double theta,
                      const RopeScaling *scaling, size_t context)
{
    const double two_pi = 0x1.921fb54442d18p+2, log_theta = exact_log(theta);
    double first = 0, last = 0;
    if (scaling->kind == ROPE_YARN) {
        yarn_bounds(scaling, rotary_dim, theta, &first, &last);
    }
    for (size_t i = 0; i < rotary_dim / 2; i++) {
        double f = exact_exp(-log_theta * (double)(2 * i) / (double)rotary_dim);
        double scaled = 1;  // the part of the frequency that is divided by the factor, 0 to 1
        if (scaling->kind == ROPE_UNSCALED) {
            scaled = 0;
        } else if (scaling->kind == ROPE_LLAMA3) {
            const double turns = (double)scaling->original_context * f / two_pi;
            const double low = scaling->low_freq_factor, high = scaling->high_freq_factor;
            scaled = turns > high ? 0 : turns < low ? 1 : 1 - (turns - low) / (high - low);
        } else if (scaling->kind == ROPE_YARN) {
            scaled = within(((double)i - first) / (last - first), 0, 1);
        } else if (scaling->kind == ROPE_LONGROPE) {
            const float *factors = rope_is_long(scaling, context) ? scaling->long_factors
                                                                  : scaling->short_factors;
            frequency[i] = f / (double)factors[i];
            continue;
        }
        frequency[i] = scaled > 0 ? scaled * f / scaling->factor + (1 - scaled) * f : f;
    }
}

double rope_attention_factor(const RopeScaling *s)
{
    if (s->kind != ROPE_YARN && s->kind != ROPE_LONGROPE) {
        return 1;
    }
    if (s->attention_factor != 0 || s->factor <= 1) {
        return s->attention_factor != 0 ? s->attention_factor : 1;
    }
    const double log_factor = exact_log(s->factor);
    return s->kind == ROPE_YARN ? 1 + 0.1 * log_factor
                                : sqrt(1 + log_factor / exact_log((double)s->original_context));
}

void rope_angles(float *cos, float *sin, const double *frequency, size_t half, size_t position,
                 double factor)
{
    for (size_t i = 0; i < half; i++) {
        double s, c;
        exact_sin_cos((double)position * frequency[i], &s, &c);
        sin[i] = (float)(s * factor);
        cos[i] = (float)(c * factor);
    }
}

double query_factor(double beta, size_t original_context, size_t position)
{
    const size_t nth = 1 + position / original_context;  // which of the original contexts it is in
    return 1 + beta * exact_log((double)nth);
}
