// score.c - how probable a model finds a text. See score.h.
//
// The logits of a token's row predict the token after it:
//
//     window                      1                |           2
//     tokens        t0    t1    t2    t3    t4     |     t5    t6    t7
//     row                 t0    t1    t2    t3     |           t5    t6
//     scored        -     *     *     *     *      |     -     *     *
#include "cli/score.h"

#include <math.h>
#include <stdlib.h>

#include "base/json.h"
#include "base/memory.h"
#include "cli/modes.h"
#include "cli/prompt.h"
#include "ops.h"

// Bounds the logits of a pass. A vocabulary of 128,000 leaves 132 rows, enough for the kernels to
// multiply by tiles.
#define SCORE_LOGITS_BYTES ((size_t)64 << 20)

// Runs tokens[first .. n - 1] up to the end of the pass or of the window, whichever comes first.
// Returns how many rows were run; 0 on an error.
static size_t run_window_rows(Engine *e, const int *tokens, size_t first, size_t n, Error *err)
{
    const size_t past = cache_length(&e->cache, 0), left = n - first;
    size_t rows = e->scratch.max_logits;
    rows = rows < left ? rows : left;
    rows = rows < e->cache.context - past ? rows : e->cache.context - past;
    for (size_t k = 0; k < rows; k++) {
        e->rows[k] = (Row){.token = tokens[first + k], .wants_logits = true};
    }
    return forward(&e->model, &e->cache, &e->scratch, e->rows, rows, err) ? rows : 0;
}

bool score_tokens(Engine *e, const int *tokens, size_t n, const ScoreHooks *hooks, Score *score,
                  Error *err)
{
    const size_t vocab_size = e->model.config.vocab_size, context = e->cache.context;
    double total = 0;
    *score = (Score){.n_tokens = n, .logprobs = alloc_zeroed(n + 1, sizeof(double))};
    if (!score->logprobs) {
        return error_memory(err, "log-probabilities", (n + 1) * sizeof(double));
    }
    for (size_t i = 0, rows; i < n && !*hooks->interrupted; i += rows) {
        if (cache_length(&e->cache, 0) == context) {
            cache_truncate(&e->cache, 0, 0);  // the next window
        }
        if (cache_length(&e->cache, 0) == 0) {
            score->logprobs[i] = (double)NAN;
        }
        rows = run_window_rows(e, tokens, i, n, err);
        if (!rows) {
            score_free(score);
            return false;
        }
        for (size_t k = 0; k < rows; k++) {
            const Row *row = &e->rows[k];
            const size_t next = i + k + 1;
            if (next < n && row->position + 1 < context) {
                score->logprobs[next] = row->logits[tokens[next]] -
                                        log_sum_exp(row->logits, vocab_size);
                total -= score->logprobs[next];
                score->n_scored++;
            }
        }
        hooks->on_pass(hooks->arg, e->rows, rows, i + rows);
    }
    score->nll = score->n_scored ? total / (double)score->n_scored : (double)NAN;
    return true;
}

void score_free(Score *score)
{
    free(score->logprobs);
    *score = (Score){0};
}

// --------------------------------------------------------------------------------------------
// The mode

typedef struct {
    Output *out;
    bool digest;
    size_t vocab_size, n_tokens;
} ScoreProgress;

static void show_scored(void *arg, const Row *rows, size_t n_rows, size_t n_done)
{
    const ScoreProgress *p = arg;
    for (size_t i = 0; p->digest && i < n_rows; i++) {
        output_digest(p->out, rows[i].logits, p->vocab_size);
    }
    output_progress(p->out, "scored %zu of %zu tokens", n_done, p->n_tokens);
}

static void put_score(Buffer *text, const Score *s, bool json)
{
    if (!json) {
        buffer_addf(text, "%zu tokens, %zu scored, nll %.6f, perplexity %.6f\n", s->n_tokens,
                    s->n_scored, s->nll, exp(s->nll));
        return;
    }
    JsonWriter w = {text, false};
    json_open(&w, NULL, '{');
    json_put_count(&w, "tokens", s->n_tokens);
    json_put_count(&w, "scored", s->n_scored);
    json_put_real(&w, "nll", s->nll, 6);
    json_put_real(&w, "perplexity", exp(s->nll), 6);
    json_open(&w, "logprobs", '[');
    for (size_t i = 0; i < s->n_tokens; i++) {
        json_put_real(&w, NULL, s->logprobs[i], 6);
    }
    json_close(&w, ']');
    json_close(&w, '}');
    buffer_add_text(text, "\n");
}

static bool score_and_print(Engine *e, const Options *o, Output *out, const Tokens *tokens,
                            Error *err)
{
    ScoreProgress progress = {out, o->digest, e->model.config.vocab_size, tokens->size};
    const ScoreHooks hooks = {output_interrupted(), show_scored, &progress};
    Score score;
    Buffer text = {0};
    if (tokens->size < 2 || e->cache.context < 2) {
        return error_set(err, ERROR_INPUT,
                         "--score: no token to score: tokens %zu, context %zu, expected at least 2 "
                         "of each, as the first token has no prediction",
                         tokens->size, e->cache.context);
    }
    bool ok = score_tokens(e, tokens->ids, tokens->size, &hooks, &score, err);
    output_wipe(out);
    if (ok && !*output_interrupted()) {
        put_score(&text, &score, o->json);
        ok = output_write(out, &text, err);
    }
    buffer_free(&text);
    score_free(&score);
    return ok;
}

bool mode_score(Engine *e, const Options *o, Output *out, Error *err)
{
    const size_t fit = SCORE_LOGITS_BYTES / (e->model.config.vocab_size * sizeof(float)) + 1;
    const size_t rows = fit < o->chunk ? fit : o->chunk;
    Prompt prompt = {0};
    bool ok = engine_open_cache(e, 1, rows, rows, err) && prompt_read(e, o, &prompt, err);
    if (ok) {
        output_catch_signals();
        ok = score_and_print(e, o, out, &prompt.tokens, err);
    }
    prompt_free(&prompt);
    return ok;
}
