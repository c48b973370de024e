// sampler.h - logits -> token.
#ifndef SAMPLER_H
#define SAMPLER_H

#include <stdint.h>

#include "base/error.h"

// Applied in this order: repetition penalty, temperature, top_k, top_p, min_p; each sees what the
// one before it left.
typedef struct {
    float temperature;     // 0: the most probable token
    size_t top_k;          // only the k most probable; 0: all
    float top_p;           // only the most probable that together exceed p; 0 or 1: all
    float min_p;           // only those at least min_p times as probable as the best; 0: all
    float repeat_penalty;  // logits of recent tokens are divided by it (multiplied where negative);
                           // 1: off
    size_t repeat_last_n;  // how many tokens are recent
} SamplerOptions;

typedef struct {
    float probability;
    int id;
} Candidate;

typedef struct {
    SamplerOptions options;
    size_t vocab_size;
    uint64_t state;         // of the generator
    float *probabilities;   // (vocab_size rounded up to 16), owned
    Candidate *candidates;  // (vocab_size), owned
    uint8_t *seen;          // (vocab_size), owned: tokens penalised already, all zero between calls
} Sampler;

// A sampler of its own for each sequence: one state, one draw a token. Seed 0, at which the
// generator would stand still, is taken for another fixed number.
bool sampler_create(Sampler *s, size_t vocab_size, const SamplerOptions *options, uint64_t seed,
                    Error *err);
void sampler_free(Sampler *s);

// The next token, given finite logits (vocab_size) and the tokens so far. Equal logits: the lowest
// id first.
int sampler_next(Sampler *s, const float *logits, const int *tokens, size_t n_tokens);

// ln of the sum of e^logit: a token's log-probability is its logit minus this. For printing; not on
// the sampling path.
double logits_log_sum(const float *logits, size_t n);

// The k most probable ids, best first.
void logits_best(const float *logits, size_t n, size_t k, int *ids);

#endif
