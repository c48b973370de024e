// score.h - how probable a model finds a text.
#ifndef SCORE_H
#define SCORE_H

#include <signal.h>

#include "base/error.h"
#include "engine.h"

typedef struct {
    size_t n_tokens;
    size_t n_scored;   // tokens that have one before them in their window
    double nll;        // mean negative log-likelihood of those, in nats; NaN of nothing
    double *logprobs;  // (n_tokens), owned: of each token given those before it; NaN: not scored
} Score;

// What the caller of score_tokens wants to know while it runs.
typedef struct {
    const volatile sig_atomic_t *interrupted;  // nonzero: end before the next pass
    // Called after each pass over rows n_done - n_rows .. n_done - 1, all of which have logits.
    void (*on_pass)(void *arg, const Row *rows, size_t n_rows, size_t n_done);
    void *arg;
} ScoreHooks;

// Scores n tokens in windows of the context's length, one after the other; the first token of each
// has none before it and is not scored. All rows of a pass want logits: the engine's cache was made
// so. After an interruption it returns true with a score that is incomplete. Errors: ERROR_INPUT,
// ERROR_RUN (see forward). On failure nothing is left to free.
bool score_tokens(Engine *e, const int *tokens, size_t n, const ScoreHooks *hooks, Score *score,
                  Error *err);
void score_free(Score *score);

#endif
