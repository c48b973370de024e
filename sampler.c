// sampler.c - logits -> token. See sampler.h.
//
// Sampling follows llama2.c: the same generator (xorshift64*, one draw per token) and the same
// nucleus, walked from the most probable token down. So a seed gives the same text in both.
//
// The nucleus is found without sorting the vocabulary: the candidates become a heap in O(n), and
// only those in the nucleus are popped. Popped candidates collect at the end of the array:
//
//     heap of the n - p candidates that are left | p-th best .. second best, best
#include "sampler.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "ops.h"

bool sampler_create(Sampler *s, size_t vocab_size, const SamplerOptions *options, uint64_t seed,
                    Error *err)
{
    const size_t padded = round_up(vocab_size, LANES);
    *s = (Sampler){.options = *options,
                   .vocab_size = vocab_size,
                   .state = seed ? seed : 0x9e3779b97f4a7c15u,
                   .probabilities = alloc_zeroed(padded, sizeof(float)),
                   .candidates = alloc_zeroed(vocab_size, sizeof(Candidate)),
                   .counts = alloc_zeroed(vocab_size, sizeof(uint32_t))};
    if (!s->probabilities || !s->candidates || !s->counts) {
        sampler_free(s);
        return error_memory(err, "the sampler",
                            vocab_size * (sizeof(float) + sizeof(Candidate) + sizeof(uint32_t)));
    }
    return true;
}

void sampler_free(Sampler *s)
{
    free(s->probabilities);
    free(s->candidates);
    free(s->counts);
    *s = (Sampler){0};
}

// A number in [0, 1) with 24 bits: xorshift64* (Vigna, arXiv:1402.6246).
static float draw(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return (float)(*state * 0x2545f4914f6cdd1du >> 40) / 16777216.0f;
}

static bool better(Candidate a, Candidate b)
{
    return a.probability > b.probability || (a.probability == b.probability && a.id < b.id);
}

static void sift_down(Candidate *heap, size_t n, size_t i)
{
    Candidate c = heap[i];
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && better(heap[child + 1], heap[child])) {
            child++;
        }
        if (!better(heap[child], c)) {
            break;
        }
        heap[i] = heap[child];
    }
    heap[i] = c;
}

static void make_heap(Candidate *heap, size_t n)
{
    for (size_t i = n / 2; i > 0; i--) {
        sift_down(heap, n, i - 1);
    }
}

// Moves the best of n candidates to the end of the array, heap[n - 1], and returns it.
static Candidate pop(Candidate *heap, size_t n)
{
    Candidate best = heap[0];
    heap[0] = heap[n - 1];
    sift_down(heap, n - 1, 0);
    heap[n - 1] = best;
    return best;
}

// --------------------------------------------------------------------------------------------
// What changes the logits

static void count_tokens(Sampler *s, const int *tokens, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        s->counts[tokens[i]]++;
    }
}

// Each token once, however often it occurs: what was done to it is taken out of the counts.
static void penalise_repetition(Sampler *s, const SamplerInput *in)
{
    const SamplerOptions *o = &s->options;
    const size_t n = in->n_tokens < o->repeat_last_n ? in->n_tokens : o->repeat_last_n;
    const int *recent = in->tokens + in->n_tokens - n;
    count_tokens(s, recent, n);
    for (size_t i = 0; i < n; i++) {
        float *logit = &s->probabilities[recent[i]];
        if (s->counts[recent[i]]) {
            *logit = *logit > 0 ? *logit / o->repeat_penalty : *logit * o->repeat_penalty;
        }
        s->counts[recent[i]] = 0;
    }
}

static void penalise_presence(Sampler *s, const SamplerInput *in)
{
    const SamplerOptions *o = &s->options;
    const size_t n = in->n_tokens - in->n_prompt;
    if (!n) {
        return;
    }
    const int *made = in->tokens + in->n_prompt;
    count_tokens(s, made, n);
    for (size_t i = 0; i < n; i++) {
        const float count = (float)s->counts[made[i]];
        if (count > 0) {
            s->probabilities[made[i]] -= count * o->frequency_penalty + o->presence_penalty;
        }
        s->counts[made[i]] = 0;
    }
}

// Are the logits of the allowed tokens used unchanged?
static bool is_plain(const SamplerOptions *o, const SamplerInput *in)
{
    return o->repeat_penalty == 1.0f && o->presence_penalty == 0.0f &&
           o->frequency_penalty == 0.0f && !in->n_biases && !in->n_banned;
}

// A banned token gets the lowest logit that is finite, so that there is always something to draw.
static void adjust_logits(Sampler *s, const SamplerInput *in)
{
    const SamplerOptions *o = &s->options;
    for (size_t i = 0; i < in->n_biases; i++) {
        s->probabilities[in->biases[i].id] += in->biases[i].bias;
    }
    if (o->repeat_penalty != 1.0f) {
        penalise_repetition(s, in);
    }
    if (o->presence_penalty != 0.0f || o->frequency_penalty != 0.0f) {
        penalise_presence(s, in);
    }
    for (size_t i = 0; i < in->n_banned; i++) {
        s->probabilities[in->banned[i]] = -FLT_MAX;
    }
}

// Gives the tokens that are not allowed a probability of 0. Skips words of 64 allowed tokens: most
// words of a set are empty or full.
static void mask_logits(Sampler *s, const uint64_t *allowed)
{
    for (size_t begin = 0; begin < s->vocab_size; begin += 64) {
        const uint64_t word = allowed[begin / 64];
        const size_t left = s->vocab_size - begin, n = left < 64 ? left : 64;
        float *p = s->probabilities + begin;
        for (size_t i = 0; word != UINT64_MAX && i < n; i++) {
            p[i] = word >> i & 1 ? p[i] : -INFINITY;
        }
    }
}

// The number that decides: the generator's next one, or the second that is derived from its last.
static float draw_coin(Sampler *s, bool again)
{
    uint64_t second = s->state ^ 0x9e3779b97f4a7c15u;
    second = second ? second : 1;  // at 0 the generator would get stuck
    return draw(again ? &second : &s->state);
}

// --------------------------------------------------------------------------------------------
// Drawing

// Is one of n values at least `least`? There is no branch in the loop: compilers make vectors of it.
static bool any_at_least(const float *x, size_t n, float least)
{
    int any = 0;
    for (size_t i = 0; i < n; i++) {
        any |= x[i] >= least;
    }
    return any;
}

// The index, i or later, of the next of n values that is at least `least`; n if none is. Skips 64 at
// a time, unless the first one is: then there are many.
static size_t find_at_least(const float *x, size_t i, size_t n, float least)
{
    if (i < n && x[i] >= least) {
        return i;
    }
    while (i + 64 <= n && !any_at_least(x + i, 64, least)) {
        i += 64;
    }
    while (i < n && !(x[i] >= least)) {
        i++;
    }
    return i;
}

static int argmax(const float *x, size_t n)
{
    size_t best = 0;
    for (size_t i = 1; (i = find_at_least(x, i, n, x[best])) < n; i++) {
        best = x[i] > x[best] ? i : best;
    }
    return (int)best;
}

// argmax among the allowed tokens, of which there is at least one. Passes over the bits that are set.
static int argmax_allowed(const float *x, const uint64_t *allowed, size_t n)
{
    size_t best = n;
    for (size_t begin = 0; begin < n; begin += 64) {
        size_t i = begin;
        for (uint64_t word = allowed[begin / 64]; word; word >>= 1, i++) {
            if (word & 1 && (best == n || x[i] > x[best])) {
                best = i;
            }
        }
    }
    return (int)best;
}

static int most_probable(const float *x, const SamplerInput *in, size_t n)
{
    return in->allowed ? argmax_allowed(x, in->allowed, n) : argmax(x, n);
}

// Draws from all tokens with a probability of at least `least`, in the order of their ids.
static int draw_from_all(const Sampler *s, float least, float coin)
{
    float total = 0, sum = 0;
    int last = 0;
    if (least <= 0) {
        total = 1;
    }
    for (size_t i = 0; least > 0 && i < s->vocab_size; i++) {
        total += s->probabilities[i] >= least ? s->probabilities[i] : 0;
    }
    for (size_t i = 0; i < s->vocab_size; i++) {
        if (s->probabilities[i] >= least && s->probabilities[i] > 0) {
            sum += s->probabilities[i];
            last = (int)i;
            if (coin * total < sum) {
                return last;
            }
        }
    }
    return last;  // the sum rounded to less than the coin
}

// Makes a heap of the tokens that can be drawn, and returns their number.
static size_t make_candidates(Sampler *s, size_t k, bool nucleus)
{
    const float top_p = s->options.top_p;
    Candidate *heap = s->candidates;
    // Tokens below this cannot be in the nucleus: all of them together have less than 1 - top_p.
    const float cutoff = nucleus && k >= s->vocab_size && s->vocab_size > 1
                             ? (1.0f - top_p) / (float)(s->vocab_size - 1)
                             : 0;
    const float *p = s->probabilities;
    size_t n = 0;
    for (size_t i = 0; (i = find_at_least(p, i, s->vocab_size, cutoff)) < s->vocab_size; i++) {
        heap[n++] = (Candidate){p[i], (int)i};
    }
    make_heap(heap, n);
    return n;
}

// Draws from the k most probable tokens, or from their nucleus, starting with the most probable.
static int draw_from_best(Sampler *s, size_t k, bool nucleus, float least, float coin)
{
    const float top_p = s->options.top_p;
    Candidate *heap = s->candidates;
    const size_t n = make_candidates(s, k, nucleus);
    if (n == 0) {  // a nearly flat distribution and a tiny top_p
        return argmax(s->probabilities, s->vocab_size);
    }
    k = k < n ? k : n;
    float limit = top_p;
    size_t popped = 0;
    if (k < n && nucleus) {  // top_p is a share of what top_k left
        float mass = 0;
        for (; popped < k; popped++) {
            mass += pop(heap, n - popped).probability;
        }
        limit = top_p * mass;
    }
    float total = 0;
    size_t kept = 0;
    while (kept < k) {
        Candidate c = kept < popped ? heap[n - 1 - kept] : pop(heap, n - kept);
        if (c.probability < least || c.probability == 0) {
            break;
        }
        total += c.probability;
        kept++;
        if (nucleus && total > limit) {
            break;
        }
    }
    float r = coin * total, sum = 0;
    for (size_t i = 0; i < kept; i++) {
        sum += heap[n - 1 - i].probability;
        if (r < sum) {
            return heap[n - 1 - i].id;
        }
    }
    return heap[n - kept].id;  // the sum rounded to less than r
}

int sampler_next(Sampler *s, const float *logits, const SamplerInput *in)
{
    const SamplerOptions *o = &s->options;
    const size_t padded = round_up(s->vocab_size, LANES);
    float *p = s->probabilities;
    if (is_plain(o, in) && o->temperature == 0.0f) {
        return most_probable(logits, in, s->vocab_size);
    }
    memcpy(p, logits, s->vocab_size * sizeof *p);
    adjust_logits(s, in);
    if (o->temperature == 0.0f) {
        return most_probable(p, in, s->vocab_size);
    }
    if (in->allowed) {
        mask_logits(s, in->allowed);
    }
    for (size_t i = s->vocab_size; i < padded; i++) {
        p[i] = -INFINITY;
    }
    softmax(p, padded, o->temperature);
    const float coin = draw_coin(s, in->allowed);
    const float least = o->min_p > 0 ? o->min_p * p[argmax(p, s->vocab_size)] : 0;
    const bool nucleus = o->top_p > 0 && o->top_p < 1;
    if (!o->top_k && !nucleus) {
        return draw_from_all(s, least, coin);
    }
    return draw_from_best(s, o->top_k ? o->top_k : s->vocab_size, nucleus, least, coin);
}

void sampler_skip(Sampler *s)
{
    if (s->options.temperature != 0.0f) {
        draw(&s->state);
    }
}
