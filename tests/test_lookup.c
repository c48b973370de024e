// Lookup: which tokens are proposed, and how many where rows cost nothing, little or much.
#include "lookup.h"
#include "unit.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

// Passes whose time grows by `row` of a pass of one row for each row more.
static PassCost cost_of(double row)
{
    PassCost c = {0};
    for (size_t n = 1; n <= MAX_LOOKUP + 1; n++) {
        c.seconds[n] = 0.01 * (1 + row * (double)(n - 1));
    }
    return c;
}

// Proposes for a sequence by itself.
static size_t propose(Lookup *l, double row, const int *tokens, size_t n, size_t max, int *out)
{
    const PassCost cost = cost_of(row);
    PassPlan plan = {1, 1};
    const size_t k = lookup_propose(l, &cost, tokens, n, max, &plan, out);
    CHECK(plan.n_rows == 1 + k && plan.tokens >= 1, "%zu rows, %g tokens", plan.n_rows,
          plan.tokens);
    return k;
}

static void check_tokens(const int *got, size_t n, const int *want, size_t n_want)
{
    CHECK(n == n_want, "%zu proposed, expected %zu", n, n_want);
    for (size_t i = 0; i < n && i < n_want; i++) {
        CHECK(got[i] == want[i], "proposal %zu is %d, expected %d", i, got[i], want[i]);
    }
}

TEST(test_the_longest_match_counts_and_of_equal_ones_the_last)
{
    static const int longest[] = {1, 2, 3, 4, 9, 2, 3, 5, 8, 1, 2, 3};
    static const int last[] = {7, 2, 3, 4, 8, 2, 3, 5, 9, 2, 3};
    int out[MAX_LOOKUP];
    Lookup l = {0};
    size_t n = propose(&l, 0, longest, COUNT(longest), 2, out);
    check_tokens(out, n, (int[]){4, 9}, 2);
    n = propose(&l, 0, last, COUNT(last), 3, out);
    check_tokens(out, n, (int[]){5, 9, 2}, 3);
}

TEST(test_what_repeats_at_once_goes_on_beyond_the_end)
{
    static const int twos[] = {1, 2, 1, 2}, ones[] = {5, 5, 5};
    int out[MAX_LOOKUP];
    Lookup l = {0};
    size_t n = propose(&l, 0, twos, COUNT(twos), 5, out);
    check_tokens(out, n, (int[]){1, 2, 1, 2, 1}, 5);
    n = propose(&l, 0, ones, COUNT(ones), 3, out);
    check_tokens(out, n, (int[]){5, 5, 5}, 3);
}

TEST(test_nothing_is_proposed_without_a_match_of_two_a_measurement_or_room)
{
    static const int tokens[] = {1, 2, 1, 2}, none[] = {1, 2, 3, 4, 2}, one[] = {1};
    const PassCost unknown = {0};
    PassPlan plan = {1, 1}, full = {MAX_LOOKUP + 1, 1};
    const PassCost cost = cost_of(0);
    int out[MAX_LOOKUP];
    Lookup l = {0};
    CHECK(propose(&l, 0, none, COUNT(none), 8, out) == 0, "a match of one");
    CHECK(propose(&l, 0, one, COUNT(one), 8, out) == 0, "a single token");
    CHECK(propose(&l, 0, tokens, COUNT(tokens), 0, out) == 0, "none allowed");
    CHECK(lookup_propose(&l, &unknown, tokens, COUNT(tokens), 8, &plan, out) == 0, "no cost known");
    CHECK(lookup_propose(&l, &cost, tokens, COUNT(tokens), 8, &full, out) == 0, "no row left");
}

TEST(test_the_number_follows_what_a_row_costs)
{
    static const int tokens[] = {1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 3};  // a match of nine
    int out[MAX_LOOKUP];
    Lookup l = {0};
    const size_t free = propose(&l, 0, tokens, COUNT(tokens), 16, out);
    const size_t cheap = propose(&l, 0.1, tokens, COUNT(tokens), 16, out);
    const size_t dear = propose(&l, 0.9, tokens, COUNT(tokens), 16, out);
    CHECK(free == 16 && cheap > 3 && cheap < 16 && dear == 0, "%zu, %zu, %zu", free, cheap, dear);
}

TEST(test_the_number_follows_what_was_accepted_and_comes_back_in_time)
{
    static const int tokens[] = {1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 3};
    int out[MAX_LOOKUP];
    Lookup l = {0};
    const size_t first = propose(&l, 0.2, tokens, COUNT(tokens), 16, out);
    size_t tries = 0, pauses = 0, n = first;
    for (; n && tries < 100; tries++) {
        lookup_learn(&l, n, 0);
        n = propose(&l, 0.2, tokens, COUNT(tokens), 16, out);
    }
    CHECK(first && tries > 1 && tries < 30, "%zu wrong proposals before it stops", tries);
    for (; !n && pauses < 1000; pauses++) {
        n = propose(&l, 0.2, tokens, COUNT(tokens), 16, out);
    }
    CHECK(pauses > 10 && pauses < 200, "%zu pauses before it tries again", pauses);
    for (int i = 0; i < 100; i++) {
        lookup_learn(&l, n, n);
    }
    CHECK(propose(&l, 0.2, tokens, COUNT(tokens), 16, out) >= first, "all right, yet no more");
}

TEST(test_a_batch_proposes_less_than_a_sequence_by_itself)
{
    static const int tokens[] = {1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 3};
    const PassCost cost = cost_of(0.2);
    int out[MAX_LOOKUP];
    size_t numbers[3];
    for (size_t i = 0; i < 3; i++) {
        const size_t n = (size_t[]){1, 4, 16}[i];
        PassPlan plan = {n, (double)n};
        Lookup l = {0};
        numbers[i] = lookup_propose(&l, &cost, tokens, COUNT(tokens), 8, &plan, out);
    }
    CHECK(numbers[0] > numbers[1] && numbers[2] == 0, "%zu, %zu, %zu", numbers[0], numbers[1],
          numbers[2]);
}

TEST(test_a_number_of_rows_that_was_slow_is_tried_anew_in_time)
{
    PassCost c = {0};
    pass_cost_note(&c, 1, 0.010);
    pass_cost_note(&c, 9, 0.080);
    for (int i = 0; i < 5000; i++) {
        pass_cost_note(&c, 1, 0.010);
    }
    CHECK(c.seconds[9] < 0.03 && c.seconds[1] > 0.0099, "%g, %g", c.seconds[9], c.seconds[1]);
}

TEST(test_a_cost_is_noted_smoothed_and_bounded)
{
    PassCost c = {0};
    pass_cost_note(&c, 1, 0.010);
    pass_cost_note(&c, 1, 5.0);  // the process was stopped for a while
    CHECK(c.seconds[1] < 0.012, "%g", c.seconds[1]);
    pass_cost_note(&c, 4, 0.015);
    pass_cost_note(&c, 8, 7.0);  // a first one that was stopped, too
    CHECK(c.seconds[8] <= 8 * c.seconds[1], "%g", c.seconds[8]);
    for (int i = 0; i < 200; i++) {
        pass_cost_note(&c, 1, 0.020);
    }
    CHECK(c.seconds[1] > 0.0199 && c.seconds[1] < 0.0201, "%g", c.seconds[1]);
    CHECK(c.seconds[4] > 0.018, "a slower machine makes no other pass slower: %g", c.seconds[4]);
    pass_cost_note(&c, MAX_LOOKUP + 2, 1);  // more rows than are of interest
}

int main(int argc, char **argv)
{
    return unit_main(
        argc, argv,
        (UnitTest[]){
            UNIT(test_the_longest_match_counts_and_of_equal_ones_the_last),
            UNIT(test_what_repeats_at_once_goes_on_beyond_the_end),
            UNIT(test_nothing_is_proposed_without_a_match_of_two_a_measurement_or_room),
            UNIT(test_the_number_follows_what_a_row_costs),
            UNIT(test_the_number_follows_what_was_accepted_and_comes_back_in_time),
            UNIT(test_a_batch_proposes_less_than_a_sequence_by_itself),
            UNIT(test_a_number_of_rows_that_was_slow_is_tried_anew_in_time),
            UNIT(test_a_cost_is_noted_smoothed_and_bounded),
            {0},
        });
}
