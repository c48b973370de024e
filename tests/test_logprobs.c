// Log-probabilities: values against libm in long double, the best against sorting.
#include <math.h>

#include "base/error.h"
#include "logprobs.h"
#include "ops.h"
#include "unit.h"

enum { N = 301 };

// Logits of random tokens, many of them equal.
static void make_logits(float *l, size_t n, uint32_t seed)
{
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        l[i] = (float)(int)(seed >> 26) / 3 - 10;
    }
}

static const TokenLogprob *add(Logprobs *l, int id, const float *logits, size_t n)
{
    Error err;
    if (!logprobs_add(l, id, logits, n, &err)) {
        printf("  %s\n", err.message);
        exit(1);
    }
    return logprobs_row(l, l->n - 1);
}

TEST(test_the_log_of_the_sum_is_that_of_long_double)
{
    static const size_t sizes[] = {1, 2, 15, 16, 17, 33, N};
    float l[N];
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        make_logits(l, sizes[k], (uint32_t)k);
        long double sum = 0;
        for (size_t i = 0; i < sizes[k]; i++) {
            sum += expl(l[i]);
        }
        const double got = log_sum_exp(l, sizes[k]), want = (double)logl(sum);
        CHECK(fabs(got - want) < 4e-15 * (1 + fabs(want)), "%zu: %.17g, expected %.17g", sizes[k],
              got, want);
    }
}

TEST(test_the_log_of_the_sum_has_the_same_bits_everywhere)
{
    float l[N];
    make_logits(l, N, 5);
    const double got = log_sum_exp(l, N), want = 0x1.b6ec07e546ed6p+3;
    CHECK(got == want, "%a, expected %a", got, want);
}

TEST(test_logits_of_any_finite_size_have_a_log_of_their_sum)
{
    const float large[3] = {3e38f, -3e38f, 3e38f}, far[2] = {0, -800};
    CHECK(log_sum_exp(large, 3) == (double)3e38f, "%g", log_sum_exp(large, 3));
    CHECK(log_sum_exp(far, 2) == 0, "%g", log_sum_exp(far, 2));
}

// -1: a is better; of equal ones the lower id.
static const float *sorted_by;
static int better_first(const void *a, const void *b)
{
    const int x = *(const int *)a, y = *(const int *)b;
    return sorted_by[x] != sorted_by[y]
               ? (sorted_by[x] < sorted_by[y]) - (sorted_by[x] > sorted_by[y])
               : (x > y) - (x < y);
}

TEST(test_the_best_are_those_of_sorting)
{
    float l[N];
    int ids[N];
    for (uint32_t round = 0; round < 200; round++) {
        Logprobs list = {.n_best = round % (MAX_LOGPROBS + 1)};
        make_logits(l, N, round);
        for (int i = 0; i < N; i++) {
            ids[i] = i;
        }
        sorted_by = l;
        qsort(ids, N, sizeof *ids, better_first);
        const TokenLogprob *row = add(&list, 7, l, N);
        const double total = log_sum_exp(l, N);
        CHECK(row[0].id == 7 && row[0].logprob == l[7] - total, "%d %g", row[0].id, row[0].logprob);
        for (size_t k = 0; k < list.n_best; k++) {
            CHECK(row[1 + k].id == ids[k] && row[1 + k].logprob == l[ids[k]] - total,
                  "round %u: place %zu has %d, expected %d", round, k, row[1 + k].id, ids[k]);
        }
        logprobs_free(&list);
    }
}

TEST(test_a_small_vocabulary_leaves_places_empty)
{
    const float l[3] = {1, 2, 2};
    Logprobs list = {.n_best = 5};
    const TokenLogprob *row = add(&list, 0, l, 3);
    CHECK(row[1].id == 1 && row[2].id == 2 && row[3].id == 0, "%d %d %d", row[1].id, row[2].id,
          row[3].id);
    CHECK(row[4].id == -1 && row[5].id == -1, "%d %d", row[4].id, row[5].id);
    logprobs_free(&list);
}

TEST(test_a_token_after_nothing_has_no_logprob_and_the_list_grows)
{
    float l[N];
    Logprobs list = {.n_best = 2};
    make_logits(l, N, 1);
    const TokenLogprob *row = add(&list, 3, NULL, N);
    CHECK(row[0].id == 3 && isnan(row[0].logprob) && row[1].id == -1, "%d %g %d", row[0].id,
          row[0].logprob, row[1].id);
    for (int i = 0; i < 1000; i++) {
        add(&list, i % N, l, N);
    }
    CHECK(list.n == 1001 && logprobs_row(&list, 700)->id == 699 % N, "%zu, %d", list.n,
          logprobs_row(&list, 700)->id);
    logprobs_free(&list);
}

int main(int argc, char **argv)
{
    return unit_main(argc, argv,
                     (UnitTest[]){
                         UNIT(test_the_log_of_the_sum_is_that_of_long_double),
                         UNIT(test_the_log_of_the_sum_has_the_same_bits_everywhere),
                         UNIT(test_logits_of_any_finite_size_have_a_log_of_their_sum),
                         UNIT(test_the_best_are_those_of_sorting),
                         UNIT(test_a_small_vocabulary_leaves_places_empty),
                         UNIT(test_a_token_after_nothing_has_no_logprob_and_the_list_grows),
                         {0},
                     });
}
