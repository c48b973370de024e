// calibrate.c - the importance of weights, from the activations that meet them. See calibrate.h.
//
// An error in a weight reaches the output multiplied by its activation, and those differ by orders of
// magnitude from column to column: the mean square of a column's activations is its importance.
// Random tokens show that about as well as text does. What they do not show is how columns go
// together, H = sum of x x^T over the activations x of a text, with which an error in one column is
// made up for in others.
//
// H is a product like any other, of X^T (columns, tokens) with itself: the same kernels compute it, in
// the same canonical order.
#include "cli/calibrate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/files.h"
#include "base/memory.h"
#include "base/threads.h"
#include "formats/compensate.h"

#define WINDOW        512   // tokens that see one another; also of a pass
#define RANDOM_TOKENS 512   // without a text
#define TEXT_TOKENS   8192  // of a text, at most
#define MAX_TEXT      ((size_t)64 << 20)

// What the matrices with the same input share.
typedef struct {
    size_t cols;
    double *squares;    // (cols): sums of squares of activations; owned
    float *h;           // (cols, stride), owned; NULL: errors are not compensated
    size_t stride;      // of h: cols rounded up to LANES
    float *importance;  // (cols), owned: the mean squares
} InputStatistics;

struct Calibration {
    InputStatistics *inputs;  // (n_layers, N_BLOCK_INPUTS), owned
    size_t n_inputs, threads;
    size_t n_tokens;       // seen
    float *interleaved;    // (cols / LANES, WINDOW, LANES): X^T of a pass as a matrix; owned
    float *transposed;     // (cols, WINDOW): X^T as activations; owned
    ErrorMeasure measure;  // the last one returned
    size_t compensated;    // the input that its compensation belongs to
    float *compensation;   // owned
};

// --------------------------------------------------------------------------------------------
// Statistics

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
    const InputStatistics *s = &c->inputs[layer * N_BLOCK_INPUTS + input];
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
    s->cols = cols;
    s->stride = round_up(cols, LANES);
    s->squares = alloc_zeroed(s->stride, sizeof *s->squares);
    s->importance = alloc_zeroed(s->stride, sizeof *s->importance);
    s->h = compensate ? memory_map(s->cols * s->stride * sizeof *s->h) : NULL;
    return (s->squares && s->importance && (s->h || !compensate)) ||
           error_memory(err, "activations", s->cols * s->stride * sizeof *s->h);
}

static bool alloc_statistics(Calibration *c, const Config *p, bool compensate, Error *err)
{
    const size_t q_dim = p->n_heads * p->head_dim;
    const size_t cols[N_BLOCK_INPUTS] = {[INPUT_ATTN] = p->dim,
                                         [INPUT_O] = q_dim,
                                         [INPUT_MLP] = p->dim,
                                         [INPUT_DOWN] = p->hidden_dim};
    size_t most = 0;
    c->n_inputs = p->n_layers * N_BLOCK_INPUTS;
    c->compensated = c->n_inputs;
    c->inputs = calloc(c->n_inputs, sizeof *c->inputs);
    bool ok = c->inputs || error_memory(err, "activations", c->n_inputs * sizeof *c->inputs);
    for (size_t i = 0; ok && i < c->n_inputs; i++) {
        ok = alloc_input(&c->inputs[i], cols[i % N_BLOCK_INPUTS], compensate, err);
        most = ok && c->inputs[i].stride > most ? c->inputs[i].stride : most;
    }
    c->interleaved = ok && compensate ? alloc_zeroed(most * WINDOW, sizeof(float)) : NULL;
    c->transposed = ok && compensate ? alloc_zeroed(most * WINDOW, sizeof(float)) : NULL;
    return ok && ((c->interleaved && c->transposed) || !compensate ||
                  error_memory(err, "activations", 2 * most * WINDOW * sizeof(float)));
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

static bool text_tokens(Tokens *out, const Engine *e, const char *path, Error *err)
{
    Buffer text = {0};
    bool ok = read_file(path, MAX_TEXT, &text, err);
    if (ok) {
        const TextSpan span = {.text = text.data, .size = text.size};
        ok = tokenizer_encode(e->tokenizer, &span, 1, true, out, err);
    }
    if (ok && out->size < 2) {
        ok = error_set(err, ERROR_INPUT, "%s: has %zu tokens, expected a text", path, out->size);
    }
    buffer_free(&text);
    out->size = out->size < TEXT_TOKENS ? out->size : TEXT_TOKENS;
    return ok;
}

// Runs all tokens, in windows.
static bool run_windows(Calibration *c, Engine *e, const Tokens *tokens, Output *output, Error *err)
{
    const size_t window = e->cache.context < WINDOW ? e->cache.context : WINDOW;
    bool ok = true;
    for (size_t i = 0; ok && i < tokens->size && !*output_interrupted(); i += window) {
        const size_t left = tokens->size - i, n = left < window ? left : window;
        for (size_t k = 0; k < n; k++) {
            e->rows[k] = (Row){.token = tokens->ids[i + k]};
        }
        cache_truncate(&e->cache, 0, 0);
        ok = forward(&e->model, &e->cache, &e->scratch, e->rows, n, err);
        c->n_tokens += n;
        output_progress(output, "calibrated on %zu of %zu tokens", c->n_tokens, tokens->size);
    }
    output_wipe(output);
    return ok;
}

static void finish_statistics(Calibration *c)
{
    for (size_t i = 0; i < c->n_inputs; i++) {
        for (size_t k = 0; k < c->inputs[i].cols; k++) {
            c->inputs[i].importance[k] = (float)(c->inputs[i].squares[k] / (double)c->n_tokens);
        }
    }
}

bool calibrate(Calibration **out, Engine *e, const Options *o, Output *output, Error *err)
{
    Calibration *c = calloc(1, sizeof *c);
    Tokens tokens = {0};
    *out = NULL;
    if (!c) {
        return error_memory(err, "activations", sizeof *c);
    }
    const Observer observer = {see, c};
    bool ok = engine_open_parts(e, ENGINE_MODEL, err) &&
              (o->calibrate ? text_tokens(&tokens, e, o->calibrate, err)
                            : random_tokens(&tokens, e->model.config.vocab_size, err)) &&
              engine_open_cache(e, 1, WINDOW, 1, err) &&
              alloc_statistics(c, &e->model.config, o->calibrate, err);
    if (ok) {
        c->threads = e->threads;
        e->scratch.observer = &observer;
        ok = run_windows(c, e, &tokens, output, err);
        finish_statistics(c);
    }
    engine_close_cache(e);
    tokens_free(&tokens);
    if (!ok) {
        calibration_free(c);
        return false;
    }
    *out = c;
    return true;
}

void calibration_free(Calibration *c)
{
    for (size_t i = 0; c && c->inputs && i < c->n_inputs; i++) {
        const InputStatistics *s = &c->inputs[i];
        free(s->squares);
        free(s->importance);
        memory_unmap(s->h, s->cols * s->stride * sizeof *s->h);
    }
    if (c) {
        free(c->inputs);
        free(c->interleaved);
        free(c->transposed);
        free(c->compensation);
    }
    free(c);
}

// --------------------------------------------------------------------------------------------
// Measures

// The index of what a matrix reads; n_inputs if it is in no block.
static size_t input_of(const Calibration *c, const char *name)
{
    static const struct {
        const char *matrix;
        BlockInput input;
    } matrices[] = {{"attn.q_proj", INPUT_ATTN},  {"attn.k_proj", INPUT_ATTN},
                    {"attn.v_proj", INPUT_ATTN},  {"attn.o_proj", INPUT_O},
                    {"mlp.gate_proj", INPUT_MLP}, {"mlp.up_proj", INPUT_MLP},
                    {"mlp.down_proj", INPUT_DOWN}};
    static const char prefix[] = "blocks.";
    char *end;
    if (strncmp(name, prefix, sizeof prefix - 1) != 0) {
        return c->n_inputs;
    }
    const size_t layer = strtoul(name + sizeof prefix - 1, &end, 10);
    for (size_t i = 0; i < sizeof matrices / sizeof *matrices; i++) {
        if (*end == '.' && strcmp(end + 1, matrices[i].matrix) == 0) {
            return layer * N_BLOCK_INPUTS + matrices[i].input;
        }
    }
    return c->n_inputs;
}

const ErrorMeasure *calibration_measure(void *arg, const char *name)
{
    Calibration *c = arg;
    const size_t i = input_of(c, name);
    if (i >= c->n_inputs) {
        return NULL;
    }
    const InputStatistics *s = &c->inputs[i];
    if (s->h && c->compensated != i) {
        Error ignored;  // without memory for it, errors are not compensated
        free(c->compensation);
        c->compensation = compensation_create(s->h, s->cols, s->stride, c->threads, &ignored);
        c->compensated = i;
    }
    c->measure = (ErrorMeasure){s->importance, s->h ? c->compensation : NULL};
    return &c->measure;
}
