// How much --bench measures in the time that a test has.
#include "cli/bench.h"
#include "unit.h"

TEST(test_a_fast_model_is_measured_in_full)
{
    CHECK(bench_steps(2048, 16, 1e-4, 10) == 2048, "%zu", bench_steps(2048, 16, 1e-4, 10));
    CHECK(bench_steps(32, 1, 0.1, 3.3) == 32, "%zu", bench_steps(32, 1, 0.1, 3.3));
}

TEST(test_a_slow_model_is_measured_by_as_much_as_its_time_allows)
{
    static const struct {
        size_t full, least;
        double step_seconds, budget;
        size_t expected;
    } cases[] = {
        {32, 1, 0.2, 6.4, 32},  {32, 1, 0.2, 6.3, 16},     {32, 1, 1, 6, 4},
        {32, 1, 9, 6, 1},       {2048, 16, 0.05, 20, 256}, {480, 16, 0.05, 20, 240},
        {480, 16, 0.05, 2, 30},  // 15 would be less than the least
        {2048, 16, 9, 20, 16},  {32, 1, 0.1, -5, 1},       {96, 96, 9, 1, 96},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const size_t steps = bench_steps(cases[i].full, cases[i].least, cases[i].step_seconds,
                                         cases[i].budget);
        CHECK(steps == cases[i].expected, "case %zu: %zu steps, expected %zu", i, steps,
              cases[i].expected);
    }
}

// How often a test is repeated of which each repetition takes `seconds`.
static size_t repeats(double seconds, double budget)
{
    size_t n = 0;
    while (bench_repeats(n, (double)n * seconds, budget)) {
        n++;
    }
    return n;
}

TEST(test_short_repetitions_are_many_and_long_ones_as_many_as_fit)
{
    static const struct {
        double seconds, budget;
        size_t expected;
    } cases[] = {{0.01, 10, 9}, {0.3, 10, 7}, {1, 10, 3},  {3, 10, 3},
                 {4, 10, 2},    {6, 10, 1},   {60, 10, 1}, {1, -1, 1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const size_t n = repeats(cases[i].seconds, cases[i].budget);
        CHECK(n == cases[i].expected, "case %zu: %zu repetitions, expected %zu", i, n,
              cases[i].expected);
    }
}

// Six tests of a model of any speed, each of which gets the time that is left in equal parts: what
// bench.c does, with a clock that the test turns.
TEST(test_no_model_takes_much_longer_than_its_time)
{
    for (double token_seconds = 1e-5; token_seconds < 0.5; token_seconds *= 3) {
        double left = 50;
        for (size_t i = 6; i > 0; i--) {
            const double budget = left / (double)i, quick = 16 * token_seconds;
            const size_t steps = bench_steps(2048, 16, token_seconds, budget - quick);
            const double once = (double)steps * token_seconds;
            left -= quick + (double)repeats(once, budget - quick) * once;
        }
        CHECK(left > -50, "%g s per token: %.1f s over its time", token_seconds, -left);
        CHECK(left > 0 || token_seconds > 0.1, "%g s per token: %.1f s over its time",
              token_seconds, -left);
    }
}

int main(int argc, char **argv)
{
    return unit_main(argc, argv,
                     (UnitTest[]){
                         UNIT(test_a_fast_model_is_measured_in_full),
                         UNIT(test_a_slow_model_is_measured_by_as_much_as_its_time_allows),
                         UNIT(test_short_repetitions_are_many_and_long_ones_as_many_as_fit),
                         UNIT(test_no_model_takes_much_longer_than_its_time),
                         {0},
                     });
}
