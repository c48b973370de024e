// calibrate.c - the importance of weights, from the activations that meet them. See calibrate.h.
//
// An error in a weight reaches the output multiplied by its activation, and those differ by orders of
// magnitude from column to column: the mean square of a column's activations is its importance.
// Random tokens show that about as well as text does. What they do not show is how columns go
// together, H = sum of x x^T over the activations x of a text, with which an error in one column is
// made up for in others.
//
// The tokens go through the model block by block, all of them through one before the next:
//
//     states        --- block, as it is ---> states of the next block
//     (tokens, dim)           '------------> statistics of what its matrices read
//
// So only the statistics of one block are in memory. Each block is measured as the original model
// computes it: with what the quantised blocks before it compute, SmolLM2 in q4t had a KL divergence
// of 0.0483 in place of 0.0468.
//
// H is a product like any other, of X^T (columns, tokens) with itself: the same kernels compute it, in
// the same canonical order.
#include "cli/calibrate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/files.h"
#include "base/memory.h"
#include "base/threads.h"
#include "formats/compensate.h"
#include "formats/tensors.h"

#define WINDOW        512    // tokens that see one another, and that run in one pass
#define RANDOM_TOKENS 512    // without a text
#define TEXT_TOKENS   16384  // of a text, at most
#define FEW_TOKENS    1024   // with fewer, a note says that more would help
#define MAX_TEXT      ((size_t)64 << 20)

// What the matrices with the same input share.
typedef struct {
    size_t cols;
    double *squares;      // (cols): sums of squares of activations; owned
    float *h;             // (cols, stride), owned; NULL: errors are not compensated
    size_t stride;        // of h: cols rounded up to LANES
    float *importance;    // (cols), owned: the mean squares
    bool compensated;     // compensation was computed: it is NULL if h allows none
    float *compensation;  // ErrorMeasure.compensation, owned
} InputStatistics;

// The matrices of a block, in the order of block_matrices.
#define N_BLOCK_MATRICES 7

struct Calibration {
    Engine *engine;
    Output *output;
    Tokens tokens;
    float *states;  // (tokens, dim), owned: what enters block `layer`; measured: what leaves it
    size_t layer;   // whose statistics these are
    bool measured;  // they are complete
    bool compensate;
    InputStatistics inputs[N_BLOCK_INPUTS];
    float *interleaved;  // (cols / LANES, WINDOW, LANES): X^T of a pass as a matrix; owned
    float *transposed;   // (cols, WINDOW): X^T as activations; owned
};

// --------------------------------------------------------------------------------------------
// The statistics of a block

// Copies LANES columns of the activations of a pass into both forms of X^T.
static void transpose(const Calibration *c, const InputStatistics *s, const Activations *in,
                      size_t n_rows, size_t group)
{
    for (size_t col = group * LANES; col < (group + 1) * LANES; col++) {
        float *lane = c->interleaved + col / LANES * n_rows * LANES + col % LANES;
        for (size_t t = 0; t < n_rows; t++) {
            const float x = col < s->cols ? in->x[t * in->stride + col] : 0;
            lane[t * LANES] = x;
            if (col < s->cols) {
                c->transposed[col * WINDOW + t] = x;
            }
        }
    }
}

static void add_squares(const InputStatistics *s, const Activations *in, size_t n_rows,
                        size_t group)
{
    const size_t end = (group + 1) * LANES < s->cols ? (group + 1) * LANES : s->cols;
    for (size_t t = 0; t < n_rows; t++) {
        const float *x = in->x + t * in->stride;
        for (size_t i = group * LANES; i < end; i++) {
            s->squares[i] += (double)x[i] * x[i];
        }
    }
}

static void see(Team team, void *arg, size_t layer, BlockInput input, const Activations *in,
                size_t n_rows)
{
    const Calibration *c = arg;
    const InputStatistics *s = &c->inputs[input];
    (void)layer;
    TeamStep step = team_step(team, s->stride / LANES);
    while (team_claim(&step)) {
        for (size_t group = step.begin; group < step.end; group++) {
            add_squares(s, in, n_rows, group);
            if (s->h) {
                transpose(c, s, in, n_rows, group);
            }
        }
    }
    if (!s->h) {
        return;
    }
    const Matrix w = {WEIGHT_F32, s->cols, n_rows, c->interleaved};
    const Activations x = {.stride = WINDOW, .tile = 1, .x = c->transposed};
    step = team_step(team, matmul_units(&w));
    while (team_claim(&step)) {
        matmul_add(&w, &x, (OutputRows){s->h, s->stride, s->cols}, (Units){step.begin, step.end});
    }
}

static bool alloc_input(InputStatistics *s, size_t cols, bool compensate, Error *err)
{
    size_t bytes;
    s->cols = cols;
    s->stride = round_up(cols, LANES);
    if (!size_mul(cols, s->stride, &bytes) || !size_mul(bytes, sizeof *s->h, &bytes)) {
        return error_memory(err, "products of activations", SIZE_MAX);
    }
    s->squares = alloc_zeroed(s->stride, sizeof *s->squares);
    s->importance = alloc_zeroed(s->stride, sizeof *s->importance);
    s->h = compensate ? memory_map(bytes) : NULL;
    return (s->squares && s->importance && (s->h || !compensate)) ||
           error_memory(err, "products of activations", bytes);
}

static bool alloc_statistics(Calibration *c, Error *err)
{
    const Config *p = &c->engine->model.config;
    const size_t cols[N_BLOCK_INPUTS] = {[INPUT_ATTN] = p->dim,
                                         [INPUT_O] = p->n_heads * p->head_dim,
                                         [INPUT_MLP] = p->dim,
                                         [INPUT_DOWN] = p->hidden_dim};
    size_t most = 0;
    for (size_t i = 0; i < N_BLOCK_INPUTS; i++) {
        if (!alloc_input(&c->inputs[i], cols[i], c->compensate, err)) {
            return false;
        }
        most = c->inputs[i].stride > most ? c->inputs[i].stride : most;
    }
    if (!c->compensate) {
        return true;
    }
    c->interleaved = alloc_zeroed(most * WINDOW, sizeof(float));
    c->transposed = alloc_zeroed(most * WINDOW, sizeof(float));
    return (c->interleaved && c->transposed) ||
           error_memory(err, "activations", 2 * most * WINDOW * sizeof(float));
}

static void clear_statistics(Calibration *c)
{
    for (size_t i = 0; i < N_BLOCK_INPUTS; i++) {
        InputStatistics *s = &c->inputs[i];
        memset(s->squares, 0, s->cols * sizeof *s->squares);
        if (s->h) {
            memset(s->h, 0, s->cols * s->stride * sizeof *s->h);
        }
        free(s->compensation);
        s->compensation = NULL;
        s->compensated = false;
    }
}

static void finish_statistics(Calibration *c)
{
    for (size_t i = 0; i < N_BLOCK_INPUTS; i++) {
        InputStatistics *s = &c->inputs[i];
        for (size_t k = 0; k < s->cols; k++) {
            s->importance[k] = (float)(s->squares[k] / (double)c->tokens.size);
        }
    }
}

// --------------------------------------------------------------------------------------------
// The tokens

// A fixed sequence of tokens from the whole vocabulary.
static bool random_tokens(Tokens *out, size_t vocab_size, Error *err)
{
    uint64_t state = 1;
    bool ok = true;
    for (size_t i = 0; i < RANDOM_TOKENS && ok; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        ok = tokens_append(out, (int)((state >> 33) % vocab_size), err);
    }
    return ok;
}

static bool text_tokens(Calibration *c, const char *path, Error *err)
{
    Buffer text = {0};
    Tokens *out = &c->tokens;
    bool ok = read_file(path, MAX_TEXT, &text, err);
    if (ok) {
        const TextSpan span = {.text = text.data, .size = text.size};
        ok = tokenizer_encode(c->engine->tokenizer, &span, 1, true, out, err);
    }
    if (ok && out->size < 2) {
        ok = error_set(err, ERROR_INPUT, "%s: has %zu tokens, expected a text", path, out->size);
    } else if (ok && out->size < FEW_TOKENS && !c->output->quiet) {
        output_note("run: %s: has only %zu tokens; up to %d would be used", path, out->size,
                    TEXT_TOKENS);
    }
    buffer_free(&text);
    out->size = out->size < TEXT_TOKENS ? out->size : TEXT_TOKENS;
    return ok;
}

// Runs all tokens through blocks begin .. end - 1, in windows: from the states or, before the first
// block, the embeddings, to the states.
static bool run_windows(Calibration *c, size_t begin, size_t end, Error *err)
{
    Engine *e = c->engine;
    const size_t window = e->cache.context < WINDOW ? e->cache.context : WINDOW;
    BlockRange range = {.begin = begin, .end = end};
    bool ok = true;
    e->scratch.range = &range;
    for (size_t i = 0; ok && i < c->tokens.size; i += window) {
        const size_t left = c->tokens.size - i, n = left < window ? left : window;
        for (size_t k = 0; k < n; k++) {
            e->rows[k] = (Row){.token = c->tokens.ids[i + k]};
        }
        range.out = c->states + i * e->model.config.dim;
        range.in = end ? range.out : NULL;
        cache_truncate(&e->cache, 0, 0);
        ok = forward(&e->model, &e->cache, &e->scratch, e->rows, n, err);
    }
    e->scratch.range = NULL;
    return ok;
}

// --------------------------------------------------------------------------------------------
// Blocks

// The matrices of a block that are quantised.
static const struct {
    const char *name;  // in a native file, after that of the block
    BlockInput input;
} block_matrices[N_BLOCK_MATRICES] = {
    {"attn.q_proj", INPUT_ATTN},   {"attn.k_proj", INPUT_ATTN},  {"attn.v_proj", INPUT_ATTN},
    {"attn.o_proj", INPUT_O},      {"mlp.gate_proj", INPUT_MLP}, {"mlp.up_proj", INPUT_MLP},
    {"mlp.down_proj", INPUT_DOWN},
};

// The index in block_matrices of a tensor, and its block; N_BLOCK_MATRICES if it is in none.
static size_t find_matrix(const char *name, size_t *layer)
{
    const char *part = name_in_block(name);
    size_t i = 0;
    if (!part) {
        return N_BLOCK_MATRICES;
    }
    *layer = strtoul(strchr(name, '.') + 1, NULL, 10);
    while (i < N_BLOCK_MATRICES && strcmp(part, block_matrices[i].name) != 0) {
        i++;
    }
    return i;
}

// Measures what the matrices of the block read.
static bool measure_block(Calibration *c, Error *err)
{
    const Observer observer = {see, c};
    Engine *e = c->engine;
    output_progress(c->output, "calibrating block %zu of %zu", c->layer + 1,
                    e->model.config.n_layers);
    clear_statistics(c);
    e->scratch.observer = &observer;
    c->measured = run_windows(c, c->layer, c->layer + 1, err);
    e->scratch.observer = NULL;
    finish_statistics(c);
    return c->measured;
}

// Goes on to the next block.
static bool leave_block(Calibration *c, Error *err)
{
    const bool ok = c->measured || run_windows(c, c->layer, c->layer + 1, err);
    c->layer++;
    c->measured = false;
    return ok;
}

// Without the memory for compensation a conversion would give another file: that is an error.
static bool compensate_input(Calibration *c, InputStatistics *s, Error *err)
{
    Error why = {0};
    if (s->h && !s->compensated) {
        damp_products(s->h, s->cols, s->stride);
        s->compensation = compensation_create(s->h, s->cols, s->stride, c->engine->threads, &why);
        s->compensated = true;
    }
    if (why.kind) {
        *err = why;
        return false;
    }
    return true;
}

bool calibration_measure(void *arg, const char *name, ErrorMeasure *out, Error *err)
{
    Calibration *c = arg;
    size_t layer = 0;
    const size_t i = find_matrix(name, &layer);
    bool ok = true;
    *out = (ErrorMeasure){0};
    if (i == N_BLOCK_MATRICES) {
        return true;
    }
    while (ok && c->layer < layer) {
        ok = leave_block(c, err);
    }
    InputStatistics *s = &c->inputs[block_matrices[i].input];
    ok = ok && (c->measured || measure_block(c, err)) && compensate_input(c, s, err);
    *out = (ErrorMeasure){
        s->importance, s->compensation, {s->compensation ? s->h : NULL, s->stride}};
    return ok;
}

// --------------------------------------------------------------------------------------------
// Opening and closing

static bool open_calibrated(Calibration *c, const char *text, Error *err)
{
    Engine *e = c->engine;
    if (!engine_open_parts(e, ENGINE_MODEL, err) ||
        !(text ? text_tokens(c, text, err)
               : random_tokens(&c->tokens, e->model.config.vocab_size, err))) {
        return false;
    }
    const size_t dim = e->model.config.dim;
    c->states = alloc_zeroed(c->tokens.size * dim, sizeof *c->states);
    if (!c->states) {
        return error_memory(err, "activations", c->tokens.size * dim * sizeof *c->states);
    }
    return engine_open_cache(e, 1, WINDOW, 1, err) && alloc_statistics(c, err) &&
           run_windows(c, 0, 0, err);
}

bool calibrate(Calibration **out, Engine *e, const Options *o, Output *output, Error *err)
{
    Calibration *c = calloc(1, sizeof *c);
    *out = NULL;
    if (!c) {
        return error_memory(err, "activations", sizeof *c);
    }
    c->engine = e;
    c->output = output;
    c->compensate = o->calibrate;
    if (!open_calibrated(c, o->calibrate, err)) {
        calibration_free(c);
        return false;
    }
    *out = c;
    return true;
}

void calibration_free(Calibration *c)
{
    for (size_t i = 0; c && i < N_BLOCK_INPUTS; i++) {
        const InputStatistics *s = &c->inputs[i];
        free(s->squares);
        free(s->importance);
        free(s->compensation);
        memory_unmap(s->h, s->cols * s->stride * sizeof *s->h);
    }
    if (c) {
        engine_close_cache(c->engine);
        tokens_free(&c->tokens);
        free(c->states);
        free(c->interleaved);
        free(c->transposed);
    }
    free(c);
}
