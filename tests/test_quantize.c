// test_quantize.c - the quantiser: its errors against plain rules in double precision, its bytes from
// every kernel set.
#include <math.h>

#include "base/memory.h"
#include "formats/compensate.h"
#include "formats/descend.h"
#include "formats/quant_block.h"
#include "formats/quantize.h"
#include "unit.h"

#define COLS 200  // the last block is partly padding

static uint32_t random_state = 1;
static float random_float(void)
{
    random_state = random_state * 1664525u + 1013904223u;
    return (float)(random_state >> 8) / 8388608.0f - 1.0f;
}

// Rows of about normally distributed weights.
static void random_row(float *x)
{
    for (size_t i = 0; i < COLS; i++) {
        x[i] = 0.1f * (random_float() + random_float() + random_float());
    }
}

static void use_set(const char *name)
{
    Error err;
    if (!ops_select(name, &err)) {
        printf("  %s\n", err.message);
        exit(1);
    }
}

static float refused;  // by the last quantize_row that failed

// Quantises a row and reads it back through the kernels.
static bool through(WeightType type, const float *x, const ErrorMeasure *measure, float *out)
{
    float copy[COLS];
    uint8_t blocks[COLS * 4 + 64];
    size_t bytes;
    matrix_bytes(type, 1, COLS, &bytes);
    Matrix m = {type, 1, COLS, alloc_zeroed(bytes, 1)};
    memcpy(copy, x, sizeof copy);
    const bool ok = quantize_row(type, copy, COLS, measure, blocks, &refused);
    if (ok) {
        weight_pack(row_format_of(type), (const void *const[LANES]){blocks}, COLS,
                    (void *)(uintptr_t)m.data);
        matrix_row(&m, 0, out);
    }
    free((void *)(uintptr_t)m.data);
    return ok;
}

static double squared_error(const float *x, const float *y, const float *importance)
{
    double sum = 0;
    for (size_t i = 0; i < COLS; i++) {
        sum += ((double)x[i] - y[i]) * ((double)x[i] - y[i]) * (importance ? importance[i] : 1.0);
    }
    return sum;
}

// The error with the scales of the plain rules: the largest value at the end of the grid; with a
// minimum: smallest and largest at both ends.
static double plain_error(WeightType type, const float *x, const float *importance)
{
    float y[COLS];
    for (size_t begin = 0; begin < COLS; begin += QUANT_BLOCK) {
        const size_t end = begin + QUANT_BLOCK < COLS ? begin + QUANT_BLOCK : COLS;
        double largest = 0, min = x[begin], max = x[begin];
        for (size_t i = begin; i < end; i++) {
            largest = fabs((double)x[i]) > fabs(largest) ? x[i] : largest;
            min = x[i] < min ? x[i] : min;
            max = x[i] > max ? x[i] : max;
        }
        const bool line = block_grids[type].minimum;
        const double low = block_grids[type].low, high = block_grids[type].high;
        const double at = type == WEIGHT_Q8 ? high : low;
        const double scale = line ? (max - min) / high : largest / at;
        for (size_t i = begin; i < end; i++) {
            double q = rint((x[i] - (line ? min : 0)) / scale);
            q = fmin(q, high);
            y[i] = (float)(q * scale + (line ? min : 0));
        }
    }
    return squared_error(x, y, importance);
}

TEST(test_errors_are_smaller_than_those_of_plain_rules)
{
    static const struct {
        WeightType type;
        double most;  // of the plain rule's error; q4t: of q4's
    } cases[] = {{WEIGHT_Q8, 1.0},  {WEIGHT_Q4, 0.9}, {WEIGHT_Q4M, 0.9},
                 {WEIGHT_Q4T, 0.9}, {WEIGHT_Q5, 0.9}, {WEIGHT_Q5M, 0.9}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        const WeightType type = cases[c].type;
        for (int weighted = 0; weighted < 2; weighted++) {
            double error = 0, plain = 0;
            for (size_t row = 0; row < 100; row++) {
                float x[COLS], y[COLS], importance[COLS];
                random_row(x);
                for (size_t i = 0; i < COLS; i++) {
                    importance[i] = i % 32 < 4 ? 20 : 1;
                }
                const ErrorMeasure measure = {.importance = weighted ? importance : NULL};
                CHECK(through(type, x, &measure, y), "a row of finite weights was refused");
                error += squared_error(x, y, measure.importance);
                plain += plain_error(type == WEIGHT_Q4T ? WEIGHT_Q4 : type, x, measure.importance);
            }
            CHECK(error < cases[c].most * plain, "%s: %g times the error of the plain rule",
                  weight_types[type].name, error / plain);
        }
    }
}

// With a scale of q8 that suits the few values of the blocks, hardly any error is left.
TEST(test_weights_on_a_coarse_grid_are_met_by_q8)
{
    double error = 0, plain = 0;
    for (size_t row = 0; row < 100; row++) {
        float x[COLS], y[COLS];
        const float distance = 0.01f + 0.001f * random_float(), offset = 0.08f * random_float();
        for (size_t i = 0; i < COLS; i++) {
            x[i] = distance * floorf(8 * random_float()) + offset;
        }
        CHECK(through(WEIGHT_Q8, x, &(ErrorMeasure){0}, y), "a row of finite weights was refused");
        error += squared_error(x, y, NULL);
        plain += plain_error(WEIGHT_Q8, x, NULL);
    }
    CHECK(error < 0.2 * plain, "%g times the error of the plain rule", error / plain);
}

TEST(test_values_that_a_type_has_are_kept)
{
    float x[COLS], y[COLS];
    for (WeightType type = 0; type < N_WEIGHT_TYPES; type++) {
        if (!quantize_has(type)) {
            continue;
        }
        for (size_t i = 0; i < COLS; i++) {
            const int end = type == WEIGHT_Q8 ? -127 : type == WEIGHT_Q5 ? -16 : -8;
            x[i] = 0.125f * (float)(i % 5 ? (int)(i % 16) - 8 : end);
            x[i] = type == WEIGHT_Q4T ? (i % 3 ? 0.0625f : i % 2 ? -7.9375f : 4.3125f) : x[i];
        }
        through(type, x, &(ErrorMeasure){0}, y);
        for (size_t i = 0; i < COLS; i++) {
            CHECK(x[i] == y[i], "%s: column %zu is %g, expected %g", weight_types[type].name, i,
                  y[i], x[i]);
        }
        memset(x, 0, sizeof x);
        through(type, x, &(ErrorMeasure){0}, y);
        for (size_t i = 0; i < COLS; i++) {
            CHECK(y[i] == 0, "%s: a zero became %g", weight_types[type].name, y[i]);
        }
    }
}

TEST(test_all_sets_choose_the_same_bytes)
{
    const char *names[MAX_SETS];
    const size_t n_sets = ops_available(names);
    const ErrorMeasure measure = {0};
    for (WeightType type = 0; type < N_WEIGHT_TYPES; type++) {
        for (size_t row = 0; row < 50 && quantize_has(type); row++) {
            float x[COLS], copy[COLS];
            uint8_t want[COLS * 4 + 64] = {0}, got[COLS * 4 + 64] = {0};
            random_row(x);
            for (size_t i = 0; i < COLS; i++) {
                x[i] = ldexpf(x[i], (int)(row % 10) * 10 - 85);  // some scales are subnormal or 0
            }
            for (size_t s = n_sets; s-- > 0;) {
                use_set(names[s]);
                memcpy(copy, x, sizeof x);
                quantize_row(type, copy, COLS, &measure, got, &refused);
                if (s == n_sets - 1) {
                    memcpy(want, got, sizeof want);
                }
                CHECK(memcmp(want, got, sizeof want) == 0, "%s: %s differs from %s",
                      weight_types[type].name, names[s], names[n_sets - 1]);
            }
        }
    }
    use_set("auto");
}

// u^T u is the inverse of H: u H u^T is the identity.
TEST(test_compensation_inverts_the_products_of_activations)
{
    enum { N = 40, STRIDE = 48 };
    float h[N * STRIDE] = {0};
    double trace = 0;
    Error err;
    for (size_t t = 0; t < 100; t++) {
        float x[N];
        for (size_t i = 0; i < N; i++) {
            x[i] = random_float() + (i ? x[i - 1] / 2 : 0);
        }
        for (size_t i = 0; i < N * N; i++) {
            h[i / N * STRIDE + i % N] += x[i / N] * x[i % N];
        }
    }
    for (size_t i = 0; i < N; i++) {
        trace += h[i * STRIDE + i];
    }
    const double first = h[0];
    damp_products(h, N, STRIDE);
    CHECK(fabs(h[0] - first - 0.1 * trace / N) < 1e-4, "%g was damped by %g, expected %g", first,
          h[0] - first, 0.1 * trace / N);
    float *u = compensation_create(h, N, STRIDE, 2, &err);
    for (size_t i = 0; u && i < N * N; i++) {
        double sum = 0;
        for (size_t k = 0; k < N * N; k++) {
            sum += (double)u[i / N * N + k / N] * h[k / N * STRIDE + k % N] * u[i % N * N + k % N];
        }
        CHECK(fabs(sum - (i / N == i % N)) < 1e-5, "(%zu, %zu): %g", i / N, i % N, sum);
        CHECK(i % N >= i / N || u[i] == 0, "(%zu, %zu) is %g below the diagonal", i / N, i % N,
              u[i]);
    }
    CHECK(u, "a matrix of full rank was refused");
    free(u);
    memset(h, 0, sizeof h);
    CHECK(!compensation_create(h, N, STRIDE, 2, &err), "zeros were not refused");
}

// The damped H of COLS columns that depend on a few numbers, as the activations of a model do.
static float *random_products(size_t stride)
{
    enum { N = 20 };
    float *h = alloc_zeroed(COLS * stride, sizeof *h), basis[N][COLS], x[COLS];
    for (size_t i = 0; i < N * COLS; i++) {
        basis[i / COLS][i % COLS] = random_float();
    }
    for (size_t t = 0; t < 2 * COLS; t++) {
        for (size_t i = 0; i < COLS; i++) {
            x[i] = random_float();
        }
        for (size_t n = 0; n < N; n++) {
            const float amount = random_float();
            for (size_t i = 0; i < COLS; i++) {
                x[i] += amount * basis[n][i];
            }
        }
        for (size_t i = 0; i < COLS * COLS; i++) {
            h[i / COLS * stride + i % COLS] += x[i / COLS] * x[i % COLS];
        }
    }
    damp_products(h, COLS, stride);
    return h;
}

// e^T H e of a row in blocks. *alone is how much the best change of a single value would lower it,
// which is 0 after a descent.
static double row_error(WeightType type, const uint8_t *blocks, const float *x, const float *h,
                        size_t stride, double *alone)
{
    double e[COLS], total = 0;
    uint8_t values[QUANT_BLOCK];
    *alone = 0;
    for (size_t i = 0; i < COLS; i++) {
        const uint8_t *block = blocks + i / QUANT_BLOCK * row_format_of(type)->block_bytes;
        const BlockScale s = block_read(type, block, values);
        e[i] = (double)block_weight(&s, values[i % QUANT_BLOCK]) - x[i];
    }
    for (size_t i = 0; i < COLS; i++) {
        const uint8_t *block = blocks + i / QUANT_BLOCK * row_format_of(type)->block_bytes;
        const BlockScale s = block_read(type, block, values);
        double gradient = 0;
        for (size_t k = 0; k < COLS; k++) {
            gradient += h[i * stride + k] * e[k];
        }
        total += e[i] * gradient;
        for (unsigned value = 0; value < 1u << block_grids[type].bits; value++) {
            const double d = (double)block_weight(&s, (uint8_t)value) - x[i] - e[i];
            const double gain = -d * (2 * gradient + d * h[i * stride + i]);
            *alone = gain > *alone && !(type == WEIGHT_Q8 && value == 128) ? gain : *alone;
        }
    }
    return total;
}

TEST(test_descent_ends_where_no_value_can_be_bettered_alone)
{
    enum { STRIDE = 208 };
    static const WeightType types[] = {WEIGHT_Q8,  WEIGHT_Q4, WEIGHT_Q4M,
                                       WEIGHT_Q4T, WEIGHT_Q5, WEIGHT_Q5M};
    float *h = random_products(STRIDE), x[COLS], copy[COLS], gradient[COLS];
    const ErrorProducts products = {h, STRIDE};
    Error err;
    float *u = compensation_create(h, COLS, STRIDE, 1, &err);
    for (size_t t = 0; u && t < sizeof types / sizeof *types; t++) {
        const WeightType type = types[t];
        double before = 0, after = 0, better = 0, alone;
        for (size_t row = 0; row < 20; row++) {
            uint8_t blocks[COLS * 4];
            random_row(x);
            memcpy(copy, x, sizeof x);
            quantize_row(type, copy, COLS, &(ErrorMeasure){.compensation = u}, blocks, &refused);
            before += row_error(type, blocks, x, h, STRIDE, &alone);
            descend_row(type, x, COLS, &products, gradient, blocks);
            after += row_error(type, blocks, x, h, STRIDE, &alone);
            better += alone;
        }
        CHECK(after < 0.99 * before, "%s: error %g, before %g", weight_types[type].name, after,
              before);
        CHECK(better < 1e-3 * after, "%s: a change of a value would take %g off %g",
              weight_types[type].name, better, after);
    }
    CHECK(u, "a damped matrix was refused");
    free(u);
    free(h);
}

// Errors of columns that always come together cancel.
TEST(test_compensation_makes_up_for_errors_in_later_columns)
{
    float *h = alloc_zeroed(COLS * 208, sizeof *h);
    double with = 0, without = 0;
    Error err;
    for (size_t i = 0; i < COLS * COLS; i++) {
        h[i / COLS * 208 + i % COLS] = i / COLS == i % COLS ? 1.1f : 1;
    }
    float *u = compensation_create(h, COLS, 208, 1, &err);
    for (size_t row = 0; row < 50; row++) {
        float x[COLS], y[COLS], z[COLS];
        double sum_y = 0, sum_z = 0;
        random_row(x);
        through(WEIGHT_Q4T, x, &(ErrorMeasure){0}, y);
        through(WEIGHT_Q4T, x, &(ErrorMeasure){.compensation = u}, z);
        for (size_t i = 0; i < COLS; i++) {
            sum_y += (double)y[i] - x[i];
            sum_z += (double)z[i] - x[i];
        }
        without += sum_y * sum_y;
        with += sum_z * sum_z;
    }
    CHECK(with < 0.2 * without, "squared error of the sum %g with, %g without", with, without);
    free(u);
    free(h);
}

TEST(test_values_that_no_type_can_hold_are_refused)
{
    float x[COLS] = {0}, y[COLS];
    const ErrorMeasure measure = {0};
    for (WeightType type = 0; type < N_WEIGHT_TYPES; type++) {
        const float wrong[] = {NAN, -INFINITY, INFINITY, 1.003f * quantize_most(type)};
        for (size_t i = 0; quantize_has(type) && i < sizeof wrong / sizeof *wrong; i++) {
            x[7] = wrong[i];
            CHECK(!through(type, x, &measure, y), "%s took %g", weight_types[type].name,
                  (double)wrong[i]);
            CHECK(memcmp(&refused, &wrong[i], sizeof refused) == 0, "%s: refused %g, expected %g",
                  weight_types[type].name, (double)refused, (double)wrong[i]);
        }
    }
}

// Neither scales nor minimums become infinite, whatever the values beside the largest.
TEST(test_the_largest_values_of_a_type_are_held)
{
    float x[COLS], y[COLS];
    const ErrorMeasure measure = {0};
    for (WeightType type = 0; type < N_WEIGHT_TYPES; type++) {
        const float most = quantize_most(type);
        for (int row = 0; quantize_has(type) && row < 40; row++) {
            for (size_t i = 0; i < COLS; i++) {
                x[i] = i % 7 == 0 ? (row & 1 ? most : -most) : i % 5 == 0 && row & 2 ? -most : 0;
                x[i] += row >= 4 ? most / 4 * random_float() : 0;
                x[i] = fmaxf(-most, fminf(most, x[i]));
            }
            CHECK(through(type, x, &measure, y), "%s refused %g of at most %g",
                  weight_types[type].name, (double)refused, (double)most);
            for (size_t i = 0; i < COLS; i++) {
                const double off = fabs((double)x[i] / most - (double)y[i] / most);
                CHECK(off < 0.2, "%s: %g became %g", weight_types[type].name, x[i], y[i]);
            }
        }
    }
}

// f16 and bf16 round to nearest: some values above the largest become that.
TEST(test_halves_are_rounded_to_the_nearest_and_never_to_infinity)
{
    static const struct {
        WeightType type;
        float x, y;  // y: 0 where x is refused
    } cases[] = {{WEIGHT_F16, 65519, 65504},
                 {WEIGHT_F16, -65519, -65504},
                 {WEIGHT_F16, 65520, 0},
                 {WEIGHT_BF16, 0x1.fefffep127f, 0x1.fep127f},
                 {WEIGHT_BF16, -0x1.fffffep127f, 0},
                 {WEIGHT_BF16, 0x1.ffp127f, 0}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        float x[COLS] = {0}, y[COLS] = {0};
        x[199] = cases[c].x;
        const bool held = through(cases[c].type, x, &(ErrorMeasure){0}, y);
        CHECK(held == (cases[c].y != 0) && (!held || y[199] == cases[c].y),
              "%s: %a became %a, expected %a", weight_types[cases[c].type].name, cases[c].x, y[199],
              cases[c].y);
    }
}

int main(int argc, char **argv)
{
    return unit_main(
        argc, argv,
        (UnitTest[]){UNIT(test_errors_are_smaller_than_those_of_plain_rules),
                     UNIT(test_weights_on_a_coarse_grid_are_met_by_q8),
                     UNIT(test_values_that_a_type_has_are_kept),
                     UNIT(test_all_sets_choose_the_same_bytes),
                     UNIT(test_compensation_inverts_the_products_of_activations),
                     UNIT(test_descent_ends_where_no_value_can_be_bettered_alone),
                     UNIT(test_compensation_makes_up_for_errors_in_later_columns),
                     UNIT(test_values_that_no_type_can_hold_are_refused),
                     UNIT(test_the_largest_values_of_a_type_are_held),
                     UNIT(test_halves_are_rounded_to_the_nearest_and_never_to_infinity),
                     {0}});
}
