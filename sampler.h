// sampler.h - logits -> token.
#ifndef SAMPLER_H
#define SAMPLER_H

#include <stdint.h>

#include "base/error.h"

// Applied in this order, after the biases of a SamplerInput: repetition penalty, frequency and
// presence penalties, temperature, top_k, top_p, min_p. Each filter sees only what the previous one
// left. The repetition penalty divides the positive logits of recent tokens and multiplies the
// negative ones (Keskar et al., CTRL, arXiv:1909.05858). The other two are OpenAI's: a token that
// is among the new tokens c times loses c * frequency_penalty + presence_penalty.
typedef struct {
    float temperature;        // the logits are divided by it; 0: always the most probable token
    size_t top_k;             // only the k most probable; 0: all
    float top_p;              // only the most probable that together exceed p; 0 or 1: all
    float min_p;              // only those at least min_p times as probable as the best; 0: all
    float repeat_penalty;     // 1: off
    size_t repeat_last_n;     // how many of the last tokens count as recent
    float presence_penalty;   // 0: off
    float frequency_penalty;  // 0: off
} SamplerOptions;

typedef struct {
    int id;
    float bias;
} TokenBias;

// What the sampler is told about a sequence. All ids are tokens of the vocabulary; nothing is
// owned.
typedef struct {
    const int *tokens;  // (n_tokens): the prompt's n_prompt, then the new ones
    size_t n_tokens, n_prompt;
    const TokenBias *biases;  // (n_biases): added to the logits of these tokens
    size_t n_biases;
    const int *banned;  // (n_banned): not drawn, unless that is the whole vocabulary
    size_t n_banned;
    // Of a token that is drawn again because a constraint does not allow the one that was: only
    // these are, and the random number is derived from the last one, so that the generator stays
    // where it is.
    const uint64_t *allowed;  // (vocab_size) bits, not all 0; NULL: a first draw, of any token
} SamplerInput;

typedef struct {
    float probability;
    int id;
} Candidate;

typedef struct {
    SamplerOptions options;
    size_t vocab_size;
    uint64_t state;         // of the random number generator
    float *probabilities;   // (vocab_size rounded up to LANES), owned: scratch of one call
    Candidate *candidates;  // (vocab_size), owned: scratch of one call
    uint32_t *counts;       // (vocab_size), owned: occurrences of tokens; zeros between calls
} Sampler;

// Each sequence has its own sampler: one state, one draw per token. Seed 0, at which the generator
// would get stuck, is replaced by another fixed number. Error: ERROR_RUN if out of memory.
bool sampler_create(Sampler *s, size_t vocab_size, const SamplerOptions *options, uint64_t seed,
                    Error *err);
void sampler_free(Sampler *s);

// Samples the next token from finite logits (vocab_size). Of equal logits the lowest id counts as
// the most probable.
int sampler_next(Sampler *s, const float *logits, const SamplerInput *in);

// Goes past the draw of a token that was not sampled, as if it had been.
void sampler_skip(Sampler *s);

#endif
