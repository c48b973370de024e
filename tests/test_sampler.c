// Sampling: filters with obvious answers, llama2.c's generator, frequencies against probabilities.
#include <math.h>

#include "base/error.h"
#include "ops.h"
#include "sampler.h"
#include "unit.h"

static Sampler make(size_t vocab_size, SamplerOptions options, uint64_t seed)
{
    Sampler s;
    Error err;
    if (!sampler_create(&s, vocab_size, &options, seed, &err)) {
        printf("  %s\n", err.message);
        exit(1);
    }
    return s;
}

// Draws where nothing but the logits counts.
static int draw(Sampler *s, const float *l) { return sampler_next(s, l, &(SamplerInput){0}); }

// Logits of the probabilities 0.5, 0.25, 0.125, ... in an order of ids that is not sorted.
static const float logits[5] = {-2, -1, 0, -3, -4};  // times ln 2
static float log2_logits[5];
static const int best_first[5] = {2, 1, 0, 3, 4};

// How often each of 5 ids is drawn in 40,000 draws.
static void count(SamplerOptions options, double share[5])
{
    enum { DRAWS = 40000 };
    Sampler s = make(5, options, 11);
    for (int i = 0; i < 5; i++) {
        share[i] = 0;
        log2_logits[i] = logits[i] * 0.6931472f;
    }
    for (int i = 0; i < DRAWS; i++) {
        share[draw(&s, log2_logits)] += 1.0 / DRAWS;
    }
    sampler_free(&s);
}

// The first `kept` of the best ids in proportion, the others never.
static void check_kept(const char *what, SamplerOptions options, int kept)
{
    double share[5], total = 0;
    count(options, share);
    for (int i = 0; i < kept; i++) {
        total += pow(0.5, i);
    }
    for (int i = 0; i < 5; i++) {
        const double want = i < kept ? pow(0.5, i) / total : 0, got = share[best_first[i]];
        CHECK(want == 0 ? got == 0 : fabs(got - want) < 0.01,
              "%s: id %d has %.4f of the draws, expected %.4f", what, best_first[i], got, want);
    }
}

TEST(test_each_filter_keeps_what_it_should)
{
    const SamplerOptions all = {.temperature = 1, .repeat_penalty = 1};
    SamplerOptions o = all;
    check_kept("no filter", all, 5);
    o.top_p = 1;
    check_kept("top_p 1 is off", o, 5);
    o.top_p = 0.5f;  // 16/31 = 0.516 exceeds it at once
    check_kept("top_p 0.5", o, 1);
    o.top_p = 0.6f;  // 24/31 = 0.77
    check_kept("top_p 0.6", o, 2);
    o.top_p = 0.8f;  // 28/31 = 0.90
    check_kept("top_p 0.8", o, 3);
    o.top_p = 1e-6f;
    check_kept("a tiny top_p keeps the best", o, 1);
    for (size_t k = 1; k <= 7; k++) {
        o = all;
        o.top_k = k;
        check_kept("top_k", o, k < 5 ? (int)k : 5);
    }
    o = all;
    o.min_p = 0.2f;  // the third has a quarter of the best
    check_kept("min_p 0.2", o, 3);
    o.min_p = 1;
    check_kept("min_p 1 keeps the best", o, 1);
    o = (SamplerOptions){.temperature = 1, .repeat_penalty = 1, .top_k = 3, .top_p = 0.6f};
    check_kept("top_p of what top_k left: 4/7 is not over 0.6", o, 2);
    o = (SamplerOptions){.temperature = 1, .repeat_penalty = 1, .top_k = 4, .min_p = 0.2f};
    check_kept("min_p of what top_k left", o, 3);
}

TEST(test_temperature_flattens_and_sharpens)
{
    double share[5];
    count((SamplerOptions){.temperature = 0.5f, .repeat_penalty = 1}, share);
    CHECK(fabs(share[2] / share[1] - 4) < 0.2, "ratio %.3f at temperature 0.5, expected 4",
          share[2] / share[1]);
    count((SamplerOptions){.temperature = 2, .repeat_penalty = 1}, share);
    CHECK(fabs(share[2] / share[1] - sqrt(2)) < 0.06, "ratio %.3f at temperature 2, expected 1.414",
          share[2] / share[1]);
    count((SamplerOptions){.temperature = 1e-30f, .repeat_penalty = 1}, share);
    CHECK(share[2] > 0.9999, "a tiny temperature takes the best in %.4f", share[2]);
    count((SamplerOptions){.temperature = 0, .repeat_penalty = 1}, share);
    CHECK(share[2] > 0.9999, "temperature 0 takes the best in %.4f", share[2]);
}

TEST(test_greedy_takes_the_lowest_of_equal_ids)
{
    const float flat[4] = {1, 3, 3, 3};
    Sampler s = make(4, (SamplerOptions){.repeat_penalty = 1}, 1);
    const int id = draw(&s, flat);
    CHECK(id == 1, "id %d, expected 1", id);
    sampler_free(&s);
}

// The values are compared 64 at a time: the best one in every place of vocabularies that end within,
// at and behind such a block, alone and with an equal one behind it.
TEST(test_greedy_finds_the_best_wherever_it_is)
{
    enum { MOST = 193 };
    const size_t sizes[] = {1, 63, 64, 65, 128, MOST};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        Sampler s = make(sizes[k], (SamplerOptions){.repeat_penalty = 1}, 1);
        for (size_t best = 0; best < sizes[k]; best++) {
            float x[MOST];
            for (size_t i = 0; i < sizes[k]; i++) {  // rising or falling, both below 0
                x[i] = -1.0f - (float)(best % 2 ? i : MOST - i);
            }
            x[best] = 0;
            int id = draw(&s, x);
            CHECK(id == (int)best, "id %d of %zu, expected %zu", id, sizes[k], best);
            x[sizes[k] - 1] = 0;
            id = draw(&s, x);
            CHECK(id == (int)best, "id %d of %zu with an equal one, expected %zu", id, sizes[k],
                  best);
        }
        sampler_free(&s);
    }
}

TEST(test_the_penalty_weakens_recent_tokens_once)
{
    const float two[2] = {2.0f, 1.5f}, negative[2] = {-1.0f, -1.5f};
    const int tokens[] = {0, 0, 0, 1, 1, 1};
    Sampler s = make(2, (SamplerOptions){.repeat_penalty = 1.3f, .repeat_last_n = 3}, 1);
    // 2 / 1.3 = 1.54 > 1.5, but twice would be 1.18: it must be divided once.
    int id = sampler_next(&s, two, &(SamplerInput){.tokens = tokens, .n_tokens = 3});
    CHECK(id == 0, "penalised more than once: id %d", id);
    s.options.repeat_penalty = 1.4f;
    id = sampler_next(&s, two, &(SamplerInput){.tokens = tokens, .n_tokens = 3});
    CHECK(id == 1, "not penalised: id %d", id);
    id = sampler_next(&s, two, &(SamplerInput){.tokens = tokens, .n_tokens = 6});
    CHECK(id == 0, "a token beyond the last three was penalised: id %d", id);
    s.options.repeat_penalty = 1.6f;
    id = sampler_next(&s, negative, &(SamplerInput){.tokens = tokens, .n_tokens = 3});
    CHECK(id == 1, "a negative logit was not pushed down: id %d", id);
    sampler_free(&s);
}

// Two tokens of logits 3 and 2; the first is three times among the new ones, once in the prompt.
static int draw_after(SamplerOptions options, size_t n_prompt)
{
    const float l[2] = {3, 2};
    const int tokens[] = {0, 0, 0, 0};
    Sampler s = make(2, options, 1);
    const int id = sampler_next(
        &s, l, &(SamplerInput){.tokens = tokens, .n_tokens = 4, .n_prompt = n_prompt});
    const int again = draw(&s, l);
    CHECK(again == 0, "counts are left for the next draw: id %d", again);
    sampler_free(&s);
    return id;
}

TEST(test_presence_counts_once_and_frequency_each_time_among_the_new_tokens)
{
    const struct {
        float presence, frequency;
        size_t n_prompt;
        int expected;
    } cases[] = {
        {0.99f, 0, 1, 0},  {1.01f, 0, 1, 1},    {1.01f, 0, 3, 1},
        {1.01f, 0, 4, 0},  // 4: no new ones
        {0, 0.33f, 1, 0},  {0, 0.34f, 1, 1},    {0, 0.34f, 2, 0},
        {0, 1.01f, 4, 0},  {0.5f, 0.17f, 1, 1}, {0.5f, 0.16f, 1, 0},
        {-2, 0.99f, 1, 0}, {-2, 1.01f, 1, 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const SamplerOptions o = {.repeat_penalty = 1,
                                  .presence_penalty = cases[i].presence,
                                  .frequency_penalty = cases[i].frequency};
        const int id = draw_after(o, cases[i].n_prompt);
        CHECK(id == cases[i].expected, "case %zu: id %d", i, id);
    }
}

TEST(test_biases_come_before_the_penalties)
{
    const float l[2] = {-1, 0.5f};
    const int tokens[] = {0};
    const TokenBias bias = {0, 3};
    Sampler s = make(2, (SamplerOptions){.repeat_penalty = 5, .repeat_last_n = 8}, 1);
    SamplerInput in = {.tokens = tokens, .biases = &bias, .n_biases = 1};
    int id = sampler_next(&s, l, &in);
    CHECK(id == 0, "no bias: id %d", id);
    in.n_tokens = 1;  // (-1 + 3) / 5 = 0.4; the other order gives -5 + 3
    id = sampler_next(&s, l, &in);
    CHECK(id == 1, "no penalty: id %d", id);
    s.options.repeat_penalty = 3;
    id = sampler_next(&s, l, &in);
    CHECK(id == 0, "penalty before bias: id %d", id);
    sampler_free(&s);
}

// With every filter, and where the sum of the probabilities may round to less than the coin.
TEST(test_a_banned_token_is_never_drawn)
{
    enum { N = 200 };
    const SamplerOptions options[] = {
        {.repeat_penalty = 1},
        {.repeat_penalty = 1, .temperature = 1},
        {.repeat_penalty = 1, .temperature = 1000, .top_p = 0.99f},
        {.repeat_penalty = 1, .temperature = 1, .top_k = N},
        {.repeat_penalty = 1, .temperature = 1, .min_p = 1e-6f},
    };
    float l[N] = {0};
    int banned[N];
    l[N - 1] = 9;
    for (int i = 0; i < N; i++) {
        banned[i] = N - 1 - i;
    }
    for (size_t k = 0; k < sizeof options / sizeof *options; k++) {
        Sampler s = make(N, options[k], 3);
        for (int round = 0; round < 2000; round++) {
            const size_t n = (size_t)round % N;
            const int id = sampler_next(&s, l, &(SamplerInput){.banned = banned, .n_banned = n});
            CHECK(id >= 0 && id < N - (int)n, "case %zu: id %d, expected below %d", k, id,
                  N - (int)n);
        }
        const int id = sampler_next(&s, l, &(SamplerInput){.banned = banned, .n_banned = N});
        CHECK(id >= 0 && id < N, "case %zu: id %d where all are banned", k, id);
        sampler_free(&s);
    }
}

// The numbers that xorshift64* gives from state 42, worked out by hand in Python:
// x ^= x >> 12; x ^= x << 25; x ^= x >> 27; (x * 0x2545f4914f6cdd1d >> 32) >> 8
TEST(test_the_generator_is_xorshift64star)
{
    enum { N = 1000 };
    float uniform[N] = {0};
    Sampler s = make(N, (SamplerOptions){.temperature = 1, .repeat_penalty = 1}, 42);
    uint64_t x = 42;
    for (int i = 0; i < 50; i++) {
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        const double coin = (double)(((x * 0x2545f4914f6cdd1du) & 0xffffffffffffffffu) >> 40) /
                            16777216.0;
        const int id = draw(&s, uniform);
        CHECK(abs(id - (int)(coin * N)) <= 1, "draw %d: id %d, expected %d", i, id,
              (int)(coin * N));
    }
    sampler_free(&s);
}

TEST(test_seed_zero_draws_different_numbers)
{
    const float uniform[8] = {0};
    Sampler s = make(8, (SamplerOptions){.temperature = 1, .repeat_penalty = 1}, 0);
    int seen = 0;
    for (int i = 0; i < 200; i++) {
        seen |= 1 << draw(&s, uniform);
    }
    CHECK(seen == 255, "ids drawn: %x, expected all of 8", (unsigned)seen);
    sampler_free(&s);
}

// The nucleus by heap against the nucleus by sorting, on random distributions.
static int descending(const void *a, const void *b)
{
    const Candidate *x = a, *y = b;
    return x->probability > y->probability   ? -1
           : x->probability < y->probability ? 1
                                             : (x->id > y->id) - (x->id < y->id);
}

TEST(test_the_nucleus_is_what_sorting_gives)
{
    enum { N = 300 };
    float l[N], p[304];
    Candidate sorted[N];
    uint32_t state = 5;
    Sampler s = make(N, (SamplerOptions){.temperature = 1, .top_p = 0.9f, .repeat_penalty = 1}, 9);
    for (int round = 0; round < 300; round++) {
        for (int i = 0; i < 304; i++) {
            state = state * 1664525u + 1013904223u;
            p[i] = i < N ? (float)(state >> 24) / 16 : -INFINITY;  // many are equal
            if (i < N) {
                l[i] = p[i];
            }
        }
        softmax(p, 304, 1);
        for (int i = 0; i < N; i++) {
            sorted[i] = (Candidate){p[i], i};
        }
        qsort(sorted, N, sizeof *sorted, descending);
        const int id = draw(&s, l);
        float total = 0;
        int kept = 0, found = 0;
        while (kept < N && total <= 0.9f) {
            found |= sorted[kept].id == id;
            total += sorted[kept++].probability;
        }
        CHECK(found, "round %d: id %d is not among the best %d", round, id, kept);
    }
    sampler_free(&s);
}

// A set of tokens with empty and full words. The vocabulary does not fill its last word.
enum { N_MASKED = 300 };

static void make_set(int round, uint64_t set[5], uint64_t *random)
{
    for (int i = 0; i < N_MASKED; i++) {
        *random = *random * 6364136223846793005u + 1442695040888963407u;
        const int word = i / 64, which = (round + word) % 4;
        const bool has = which == 0 ? false : which == 1 ? true : *random >> 62 == 0;
        set[word] |= (uint64_t)has << i % 64;
    }
    set[4] |= (uint64_t)1 << 43;  // the last token
}

TEST(test_only_allowed_tokens_are_drawn_and_greedily_the_best_of_them)
{
    static float l[N_MASKED];
    uint64_t random = 1;
    for (int round = 0; round < 400; round++) {
        const float temperature = round % 2 ? 0.7f : 0;
        Sampler s = make(N_MASKED,
                         (SamplerOptions){.temperature = temperature,
                                          .top_p = round % 3 ? 0 : 0.9f,
                                          .repeat_penalty = 1,
                                          .presence_penalty = round % 5 ? 0 : 0.5f},
                         7);
        const int made[] = {0, 5, 299};
        uint64_t set[5] = {0};
        make_set(round, set, &random);
        int best = -1;
        float most = -INFINITY;
        for (int i = 0; i < N_MASKED; i++) {
            l[i] = (float)((i * 31 + round * 7) % 17) - 8;  // many are equal
            const bool is_made = i == 0 || i == 5 || i == 299;
            const float logit = l[i] - (is_made ? s.options.presence_penalty : 0);
            if (set[i / 64] >> i % 64 & 1 && logit > most) {
                best = i;
                most = logit;
            }
        }
        const SamplerInput in = {.tokens = made, .n_tokens = 3, .allowed = set};
        const int id = sampler_next(&s, l, &in);
        CHECK(set[id / 64] >> id % 64 & 1, "round %d: token %d is not allowed", round, id);
        CHECK(temperature != 0 || id == best, "round %d: token %d, expected %d", round, id, best);
        sampler_free(&s);
    }
}

int main(int argc, char **argv)
{
    return unit_main(
        argc, argv,
        (UnitTest[]){
            UNIT(test_each_filter_keeps_what_it_should),
            UNIT(test_temperature_flattens_and_sharpens),
            UNIT(test_greedy_takes_the_lowest_of_equal_ids),
            UNIT(test_greedy_finds_the_best_wherever_it_is),
            UNIT(test_the_penalty_weakens_recent_tokens_once),
            UNIT(test_presence_counts_once_and_frequency_each_time_among_the_new_tokens),
            UNIT(test_biases_come_before_the_penalties),
            UNIT(test_a_banned_token_is_never_drawn),
            UNIT(test_the_generator_is_xorshift64star),
            UNIT(test_seed_zero_draws_different_numbers),
            UNIT(test_the_nucleus_is_what_sorting_gives),
            UNIT(test_only_allowed_tokens_are_drawn_and_greedily_the_best_of_them),
            {0},
        });
}
