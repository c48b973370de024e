// Scoring: log-likelihoods against a log-softmax in double, windows, and what has no score.
#include <math.h>
#include <unistd.h>

#include "base/error.h"
#include "base/memory.h"
#include "cli/score.h"
#include "engine.h"
#include "small_model.h"
#include "unit.h"

enum { CONTEXT = 50 };

static char path[] = "/tmp/test_score.XXXXXX";
static int tokens[3 * CONTEXT];

static void make_inputs(void)
{
    write_small_model(path, CONTEXT);
    for (size_t i = 0; i < sizeof tokens / sizeof *tokens; i++) {
        tokens[i] = (int)((i * 31 + i * i * 7) % VOCAB);
    }
}

static void open_engine(Engine *e, const EngineOptions *o, size_t rows)
{
    Error err;
    must(engine_open(e, o, ENGINE_MODEL, &err) && engine_open_cache(e, 1, rows, rows, &err), &err);
}

static const volatile sig_atomic_t never, at_once = 2;
static size_t rows_seen;

static void count_rows(void *arg, const Row *rows, size_t n_rows, size_t n_done)
{
    (void)arg;
    rows_seen += n_rows;
    CHECK(rows[n_rows - 1].logits, "a row without logits");
    CHECK(n_done == rows_seen, "%zu tokens done, expected %zu", n_done, rows_seen);
}

// Scores n tokens by passes of `rows` rows.
static Score score(size_t n, size_t rows, size_t context, const volatile sig_atomic_t *interrupted)
{
    const EngineOptions options = {.model = path, .context = context, .threads = 2};
    const ScoreHooks hooks = {interrupted, count_rows, NULL};
    Engine e;
    Score s;
    Error err;
    open_engine(&e, &options, rows);
    rows_seen = 0;
    must(score_tokens(&e, tokens, n, &hooks, &s, &err), &err);
    engine_close(&e);
    return s;
}

// ln p(tokens[i]) given the tokens from first to i - 1, by a log-softmax in double.
static double expected_logprob(size_t first, size_t i)
{
    const EngineOptions options = {.model = path, .threads = 1};
    Engine e;
    Error err;
    double sum = 0;
    open_engine(&e, &options, CONTEXT);
    for (size_t k = first; k < i; k++) {
        e.rows[k - first] = (Row){.token = tokens[k], .wants_logits = k + 1 == i};
    }
    must(forward(&e.model, &e.cache, &e.scratch, e.rows, i - first, &err), &err);
    const float *logits = e.rows[i - first - 1].logits;
    const double own = (double)logits[tokens[i]];
    for (size_t k = 0; k < VOCAB; k++) {
        sum += exp((double)logits[k] - own);
    }
    engine_close(&e);
    return -log(sum);
}

TEST(test_each_token_has_the_log_softmax_of_the_logits_before_it)
{
    enum { N = 20 };
    double total = 0;
    Score s = score(N, 7, 0, &never);
    CHECK(s.n_tokens == N && s.n_scored == N - 1, "%zu of %zu scored", s.n_scored, s.n_tokens);
    CHECK(rows_seen == N, "%zu rows were run, expected %d", rows_seen, N);
    for (size_t i = 1; i < N; i++) {
        const double want = expected_logprob(0, i);
        total -= want;
        CHECK(fabs(s.logprobs[i] - want) < 1e-9, "token %zu: %.12f, expected %.12f", i,
              s.logprobs[i], want);
    }
    CHECK(fabs(s.nll - total / (N - 1)) < 1e-9, "nll %.12f, expected %.12f", s.nll,
          total / (N - 1));
    score_free(&s);
}

TEST(test_each_window_begins_with_a_token_without_score)
{
    enum { N = 25, WINDOW = 10 };
    Score s = score(N, 4, WINDOW, &never);
    CHECK(s.n_scored == N - 3, "%zu scored, expected %d: three windows", s.n_scored, N - 3);
    for (size_t i = 0; i < N; i++) {
        CHECK(isnan(s.logprobs[i]) == (i % WINDOW == 0), "token %zu: %g", i, s.logprobs[i]);
    }
    const double want = expected_logprob(WINDOW, WINDOW + 3);
    CHECK(fabs(s.logprobs[WINDOW + 3] - want) < 1e-9, "%.12f, expected %.12f",
          s.logprobs[WINDOW + 3], want);
    score_free(&s);
}

TEST(test_the_rows_of_a_pass_change_no_bit)
{
    enum { N = 3 * CONTEXT };
    Score want = score(N, CONTEXT, 0, &never);
    static const size_t rows[] = {1, 3, 64};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        Score got = score(N, rows[i], 0, &never);
        CHECK(memcmp(want.logprobs, got.logprobs, N * sizeof *got.logprobs) == 0,
              "passes of %zu rows give other bits", rows[i]);
        score_free(&got);
    }
    score_free(&want);
}

TEST(test_one_token_or_none_has_no_score)
{
    for (size_t n = 0; n <= 1; n++) {
        Score s = score(n, 4, 0, &never);
        CHECK(s.n_tokens == n && s.n_scored == 0 && isnan(s.nll), "%zu tokens: %zu scored, nll %g",
              n, s.n_scored, s.nll);
        score_free(&s);
    }
}

TEST(test_an_interruption_ends_it_before_the_next_pass)
{
    Score s = score(20, 4, 0, &at_once);
    CHECK(s.n_scored == 0 && rows_seen == 0, "%zu scored, %zu rows", s.n_scored, rows_seen);
    score_free(&s);
}

int main(int argc, char **argv)
{
    make_inputs();
    const int status = unit_main(
        argc, argv,
        (UnitTest[]){
            UNIT(test_each_token_has_the_log_softmax_of_the_logits_before_it),
            UNIT(test_each_window_begins_with_a_token_without_score),
            UNIT(test_the_rows_of_a_pass_change_no_bit),
            UNIT(test_one_token_or_none_has_no_score),
            UNIT(test_an_interruption_ends_it_before_the_next_pass),
            {0},
        });
    unlink(path);
    return status;
}
