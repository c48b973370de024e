// logprobs.h - log-probabilities of tokens, and of the most probable alternatives to each.
//
// A log-probability is the log-softmax of the model's logits as they are, before biases, penalties
// and temperature. It is computed in double precision, with the same bits on every machine.
#ifndef LOGPROBS_H
#define LOGPROBS_H

#include "base/error.h"

// The most alternatives to a token that are kept, as in OpenAI's API.
#define MAX_LOGPROBS 20

typedef struct {
    int id;
    double logprob;
} TokenLogprob;

// The log-probabilities of consecutive tokens of a sequence. Start from {.n_best = K}.
typedef struct {
    TokenLogprob *list;  // (n, 1 + n_best), owned: the token itself, then the best, best first
    size_t n, capacity;  // tokens
    size_t n_best;       // at most MAX_LOGPROBS
} Logprobs;

// Adds the next token, which these logits (vocab_size) predicted. For the first token, which
// nothing predicted, pass NULL: its log-probability is NaN, and the ids of its alternatives are
// -1. Among equal logits the lowest id ranks first. If the vocabulary is smaller than n_best, the
// remaining ids are -1. Error: ERROR_RUN if out of memory.
bool logprobs_add(Logprobs *l, int id, const float *logits, size_t vocab_size, Error *err);

// The entries of token `index`, as in `list`.
const TokenLogprob *logprobs_row(const Logprobs *l, size_t index);

void logprobs_free(Logprobs *l);

#endif
