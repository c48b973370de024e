// quantize.c - the scales and values of quantisation blocks, chosen to minimise the squared error.
//
// A block has 32 columns x with weights w (their importance), and stores a scale s and values q from
// a grid: integers, or for q4t the values of a table. For a given rounding q the best scale
// is known in closed form,
//
//     s = sum w x q / sum w q^2        error = sum w x^2 - (sum w x q)^2 / sum w q^2
//
// so the search only tries roundings: first those of a few scales around the one at which the
// largest value just fits, with either sign if the grid is not symmetric, then that of the best
// scale found (alternating least squares and rounding, as in k-means). For q4m and q5m, which add a
// minimum m, s and m come from the regression of x on q.
//
// With the products of activations, GPTQ compensates errors while it rounds, and a descent over the
// values improves what it leaves (descend.h).
//
// The searches are kernels (simd/simd.h, ScaleSearch). The rest is plain C that adds in one order,
// so every kernel set, compiler and number of threads gives the same bytes.
#include "formats/quantize.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/threads.h"
#include "formats/descend.h"
#include "formats/quant_block.h"

// A quantisation block. Weights have a mean of one.
typedef struct {
    float x[QUANT_BLOCK], weight[QUANT_BLOCK];
} WeightBlock;

#define GRID_STEPS    16  // scales that are tried because the weights lie on a grid
#define COARSE_VALUES 80  // a grid with more values from smallest to largest is not coarse

// The scales that are tried first, given as the grid value that the largest weight maps to. Except for
// q8, it may lie beyond the grid.
typedef struct {
    size_t n_steps;
    float steps[16 + GRID_STEPS];
} FirstScales;

// q8: the choice matters if the weights lie on a coarse grid because they were once quantised to 4
// bits: on SmolLM2, the perplexity over six texts rises by 0.39 % with 127 and 126, by 0.31 % with
// these 16, by 0.33 % with 32 or 96 down to 80. Steps for such a grid are added to them. q4t: 0.8
// to 1.15 times both ends of the table.
static const FirstScales first_scales[N_WEIGHT_TYPES] = {
    [WEIGHT_Q8] = {16,
                   {127, 125.5f, 124, 122.5f, 121, 119.5f, 118, 116.5f, 115, 113.5f, 112, 110.5f,
                    109, 107.5f, 106, 104.5f}},
    [WEIGHT_Q4] = {8, {-7.25f, -7.75f, -8.25f, -8.75f, 7.25f, 7.75f, 8.25f, 8.75f}},
    [WEIGHT_Q4M] = {6, {13.5f, 14, 14.5f, 15, 15.5f, 16}},
    [WEIGHT_Q4T] = {12, {-102, -110, -118, -127, -136, -146, 90, 98, 105, 113, 121, 130}},
    [WEIGHT_Q5] = {8, {-14.5f, -15.25f, -16, -16.75f, 14.5f, 15.25f, 16, 16.75f}},
    [WEIGHT_Q5M] = {6, {27, 28, 29, 30, 31, 32}},
};

#define REFITS 2  // roundings with the best scale found so far

// --------------------------------------------------------------------------------------------
// Blocks

// The smallest difference between the values of a block, or 0 if they do not lie on a coarse grid.
// They do if they were once quantised to a few values; among other weights, about ten are enough to
// contain two that are too close.
static float grid_distance(const float *x)
{
    float sorted[QUANT_BLOCK] = {0}, low = x[0], high = x[0], distance = INFINITY;
    for (size_t i = 1; i < QUANT_BLOCK; i++) {
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
    }
    const float least = (high - low) / COARSE_VALUES;
    for (size_t i = 0; i < QUANT_BLOCK; i++) {
        size_t k = i;
        for (; k > 0 && sorted[k - 1] > x[i]; k--) {
            sorted[k] = sorted[k - 1];
        }
        sorted[k] = x[i];
        const float below = k > 0 ? x[i] - sorted[k - 1] : 0;
        const float above = k < i ? sorted[k + 1] - x[i] : 0;
        const float same = 1e-6f * fabsf(x[i]);  // up to rounding
        if ((below > same && below < least) || (above > same && above < least)) {
            return 0;
        }
        distance = below > same && below < distance ? below : distance;
        distance = above > same && above < distance ? above : distance;
    }
    return distance < INFINITY ? distance : 0;
}

// If the distance of the weights' own grid is a multiple of a scale, all weights get the same
// error, which is almost 0 for some of these scales. Adds the steps for such scales to those of
// `first`.
static void add_grid_steps(const float *x, float high, FirstScales *first)
{
    const float distance = grid_distance(x);
    float largest = 0;
    for (size_t i = 0; i < QUANT_BLOCK; i++) {
        largest = fabsf(x[i]) > fabsf(largest) ? x[i] : largest;
    }
    for (size_t k = 1; k <= GRID_STEPS && distance > 0; k++) {
        first->steps[first->n_steps] = largest / distance * (float)k;
        first->n_steps += fabsf(first->steps[first->n_steps]) <= high;
    }
}

static BlockScale choose_scale(WeightType type, const WeightBlock *b, bool thorough)
{
    const BlockGrid *g = &block_grids[type];
    FirstScales first = first_scales[type];
    if (type == WEIGHT_Q8) {
        add_grid_steps(b->x, g->high, &first);
    }
    const ScaleSearch search = {.x = b->x,
                                .weight = b->weight,
                                .low = g->low,
                                .high = g->high,
                                .table = g->table,
                                .steps = first.steps,
                                .n_steps = first.n_steps,
                                .refits = REFITS,
                                .step_refits = thorough ? REFITS : 0};
    const FoundScale found = g->minimum ? find_line(&search) : find_scale(&search);
    return block_scale(type, found.scale, found.minimum);
}

// Takes the next n columns, at most QUANT_BLOCK, at x. The rest is padding with no weight, since
// its activations are zero; it repeats a value so as not to extend the range.
static void fill_block(WeightBlock *b, const float *x, const float *importance, size_t n)
{
    float sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += importance ? importance[i] : 1;
    }
    for (size_t i = 0; i < QUANT_BLOCK; i++) {
        const float weight = importance && sum > 0 && i < n ? importance[i] / sum : 1 / (float)n;
        b->x[i] = x[i < n ? i : 0];
        b->weight[i] = i < n ? QUANT_BLOCK * weight : 0;
    }
}

// --------------------------------------------------------------------------------------------
// Rows

// Spreads the errors of columns begin .. end - 1 over all later ones: x -= error U.
static void compensate(float *x, size_t cols, size_t begin, size_t end, const float *error,
                       const float *u)
{
    for (size_t j = begin; j < end; j++) {
        const float e = error[j - begin];
        const float *row = u + j * cols;
        for (size_t k = end; k < cols; k++) {
            x[k] -= e * row[k];
        }
    }
}

// Rounds the columns of a block in order. Each error, divided by the diagonal of U, is subtracted from
// the block's later columns at once, and from later blocks at the end.
static void round_columns(const BlockScale *s, float *x, size_t cols, size_t begin, const float *u,
                          uint8_t *values)
{
    const size_t end = begin + QUANT_BLOCK < cols ? begin + QUANT_BLOCK : cols;
    float error[QUANT_BLOCK], weight;
    for (size_t j = begin; j < end; j++) {
        values[j - begin] = block_round(s, x[j], &weight);
        const float *row = u + j * cols;
        error[j - begin] = (x[j] - weight) / row[j];
        for (size_t k = j + 1; k < end; k++) {
            x[k] -= error[j - begin] * row[k];
        }
    }
    for (size_t j = end; j < begin + QUANT_BLOCK; j++) {
        values[j - begin] = block_round(s, 0, &weight);
    }
    compensate(x, cols, begin, end, error, u);
}

// The index of the first of n values that is above `most` in magnitude, or no number; n if there is
// none.
static size_t find_above(const float *x, size_t n, float most)
{
    size_t i = 0;
    while (i < n && fabsf(x[i]) <= most) {
        i++;
    }
    return i;
}

// Values may grow beyond what the type holds where errors are compensated: so each block is checked
// when its columns are reached. Returns the index of a value that it does not hold, or cols.
static size_t quantize_blocks(WeightType type, float *x, size_t cols, const ErrorMeasure *measure,
                              uint8_t *out)
{
    const float *importance = measure->importance;
    for (size_t begin = 0; begin < cols; begin += QUANT_BLOCK) {
        const size_t n = cols - begin < QUANT_BLOCK ? cols - begin : QUANT_BLOCK;
        WeightBlock b;
        uint8_t values[QUANT_BLOCK];
        const size_t held = find_above(x + begin, n, quantize_most(type));
        if (held < n) {
            return begin + held;
        }
        fill_block(&b, x + begin, importance ? importance + begin : NULL, n);
        const BlockScale s = choose_scale(type, &b, measure->compensation);
        if (measure->compensation) {
            round_columns(&s, x, cols, begin, measure->compensation, values);
        } else {
            block_round_all(&s, x + begin, n, values);
        }
        block_write(&s, values, out);
        out += row_format_of(type)->block_bytes;
    }
    return cols;
}

// Rounds to the upper 16 bits, ties to even: the largest f32 becomes infinity.
static uint16_t f32_to_bf16(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (uint16_t)((bits + ((bits >> 16 & 1) + 0x7fff)) >> 16);
}

// Returns the index of the first value that is rounded to infinity, or is no number; cols if there is
// none.
static size_t write_halves(WeightType type, const float *x, size_t cols, uint8_t *out)
{
    const uint16_t exponent = type == WEIGHT_F16 ? 0x7c00 : 0x7f80;
    for (size_t i = 0; i < cols; i++) {
        const uint16_t half = type == WEIGHT_F16 ? f32_to_f16(x[i]) : f32_to_bf16(x[i]);
        if (!isfinite(x[i]) || (half & exponent) == exponent) {
            return i;
        }
        memcpy(out + i * sizeof half, &half, sizeof half);
    }
    return cols;
}

bool quantize_has(WeightType type)
{
    return type == WEIGHT_F32 || type == WEIGHT_BF16 || type == WEIGHT_F16 ||
           block_grids[type].bits > 0;
}

// With a scale of at most LARGEST_F16 in magnitude, of either sign, a grid reaches from its smaller end
// on both sides. The minimums of q4m and q5m are in f16 too.
float quantize_most(WeightType type)
{
    static const float most[N_WEIGHT_TYPES] = {
        [WEIGHT_F32] = FLT_MAX,           [WEIGHT_BF16] = 0x1.fep127f,
        [WEIGHT_F16] = LARGEST_F16,       [WEIGHT_Q8] = 127 * LARGEST_F16,
        [WEIGHT_Q4] = 7 * LARGEST_F16,    [WEIGHT_Q4M] = LARGEST_F16,
        [WEIGHT_Q4T] = 113 * LARGEST_F16, [WEIGHT_Q5] = 15 * LARGEST_F16,
        [WEIGHT_Q5M] = LARGEST_F16,
    };
    return most[type];
}

bool quantize_row(WeightType type, float *x, size_t cols, const ErrorMeasure *measure,
                  uint8_t *blocks, float *refused)
{
    size_t held;  // the number of values before the first that is refused
    if (type == WEIGHT_F32) {
        held = find_above(x, cols, FLT_MAX);
        memcpy(blocks, x, cols * sizeof *x);
    } else if (type == WEIGHT_F16 || type == WEIGHT_BF16) {
        held = write_halves(type, x, cols, blocks);
    } else {
        held = quantize_blocks(type, x, cols, measure, blocks);
    }
    if (held < cols) {
        *refused = x[held];
    }
    return held == cols;
}

// --------------------------------------------------------------------------------------------
// Matrices

// A value that the type cannot hold.
typedef struct {
    bool found;
    size_t row;
    float value;
} RefusedValue;

typedef struct {
    const Matrix *from;
    WeightType type;
    const ErrorMeasure *measure;
    void *out;
    size_t row_stride, row_bytes;  // values of a buffered row, and bytes of its blocks
    float *rows;                   // (threads, row_stride), owned
    float *gradients;              // (threads, row_stride), owned: for descend_row
    uint8_t *blocks;               // (threads, LANES, row_bytes), owned
    RefusedValue *refused;         // (threads), owned: that of the first row of each thread
} MatrixJob;

// Quantises a row in the buffers of a thread to its blocks.
static void quantize_matrix_row(const MatrixJob *job, size_t thread, size_t r, uint8_t *blocks)
{
    const Matrix *from = job->from;
    const ErrorProducts *products = &job->measure->products;
    RefusedValue *refused = &job->refused[thread];
    float *x = job->rows + thread * job->row_stride, value = 0;
    matrix_row(from, r, x);
    if (!quantize_row(job->type, x, from->cols, job->measure, blocks, &value)) {
        *refused = refused->found && refused->row < r ? *refused : (RefusedValue){true, r, value};
    } else if (products->h && weight_types[job->type].quantized) {
        matrix_row(from, r, x);  // as it was before errors were compensated
        descend_row(job->type, x, from->cols, products, job->gradients + thread * job->row_stride,
                    blocks);
    }
}

// Quantises a group of LANES rows, in the buffers of a thread.
static void quantize_group(const MatrixJob *job, size_t thread, size_t group)
{
    const Matrix *from = job->from;
    uint8_t *blocks = job->blocks + thread * LANES * job->row_bytes;
    const void *rows[LANES] = {NULL};
    for (size_t i = 0; i < LANES && group * LANES + i < from->rows; i++) {
        uint8_t *row = blocks + i * job->row_bytes;
        quantize_matrix_row(job, thread, group * LANES + i, row);
        rows[i] = row;
    }
    weight_pack(row_format_of(job->type), rows, from->cols,
                matrix_group(job->type, from->cols, job->out, group));
}

static void quantize_groups(Team team, void *arg)
{
    const MatrixJob *job = arg;
    TeamStep step = team_step(team, (job->from->rows + LANES - 1) / LANES);
    while (team_claim(&step)) {
        for (size_t group = step.begin; group < step.end; group++) {
            quantize_group(job, team.id, group);
        }
    }
}

// The refused value in the first row that has one, whichever thread found it.
static bool check_refused(const MatrixJob *job, size_t threads, Error *err)
{
    const RefusedValue *first = NULL;
    for (size_t i = 0; i < threads; i++) {
        const RefusedValue *r = &job->refused[i];
        first = r->found && (!first || r->row < first->row) ? r : first;
    }
    if (!first) {
        return true;
    }
    const char *type = weight_types[job->type].name;
    return isfinite(first->value)
               ? error_set(err, ERROR_INPUT,
                           "row %zu has the value %.9g, expected at most %.9g in magnitude, for %s",
                           first->row, (double)first->value, (double)quantize_most(job->type), type)
               : error_set(err, ERROR_INPUT, "row %zu has the value %g, expected finite numbers",
                           first->row, (double)first->value);
}

bool quantize_matrix(const Matrix *from, WeightType type, const ErrorMeasure *measure, void *out,
                     size_t threads, Error *err)
{
    MatrixJob job = {.from = from, .type = type, .measure = measure, .out = out};
    job.row_stride = round_up(from->cols, LANES);
    bool ok = row_format_bytes(row_format_of(type), from->cols, &job.row_bytes);
    job.rows = alloc_zeroed(threads * job.row_stride, sizeof *job.rows);
    job.gradients = alloc_zeroed(threads * job.row_stride, sizeof *job.gradients);
    job.blocks = ok ? alloc_zeroed(threads * LANES, job.row_bytes) : NULL;
    job.refused = calloc(threads, sizeof *job.refused);
    ok = (ok && job.rows && job.gradients && job.blocks && job.refused) ||
         error_memory(err, "rows to quantise", threads * LANES * job.row_bytes);
    if (ok) {
        team_run(threads, quantize_groups, &job);
    }
    ok = ok && check_refused(&job, threads, err);
    free(job.rows);
    free(job.gradients);
    free(job.blocks);
    free(job.refused);
    return ok;
}
