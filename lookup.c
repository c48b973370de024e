// lookup.c - speculation by lookup. See lookup.h.
//
//     tokens     .. a  b  c  d  e  f  ..  x  b  c     the text ends with b c, seen before:
//                      ====                  ====     a match of 2
//     proposal         d  e  f  ..                    what came after it
//
// The number of proposals: if each is right with probability p, a pass with k of them yields
//
//     E(k) = 1 + p + p^2 + .. + p^k
//
// tokens from 1 + k rows. We choose the k that maximises tokens per second, E(k) / seconds(1 + k):
// 0 if the text does not repeat itself or if rows are expensive. Both p and the seconds are
// measured while running, so they reflect the text, the model and the machine.
#include "lookup.h"

#include <stdbool.h>

// The shortest match that is used, and the longest that is searched for.
#define MIN_MATCH 2
#define MAX_MATCH 16
// The assumed cost of a further row, relative to a pass of one row, until it is measured. Small
// models take more, large ones less.
#define GUESSED_ROW 0.25
// The weight of a new measurement in the moving average: more if it is faster, since delays such as
// the first read of weights from disk are not part of the cost.
#define FASTER 0.25
#define SLOWER 0.125
// How much the estimates of unused numbers of rows shrink with each pass, so that they are tried
// again from time to time.
#define FORGOTTEN (1.0 / 4096)
// The least expected speed-up over no proposals.
#define LEAST_GAIN 1.03

// The least length of a match of each class, the prior probability that its tokens are right, and
// the number of tokens that the prior counts for.
static const size_t match_classes[N_MATCH_CLASSES] = {MIN_MATCH, 3, 5, 9};
static const double first_guesses[N_MATCH_CLASSES] = {0.3, 0.6, 0.75, 0.9};
#define GUESS_WEIGHT 4.0
// How much earlier tokens still count after a proposal, and after a match that did not merit one,
// so that we notice when a text begins to repeat itself.
#define KEPT_AFTER_PROPOSAL 0.95
#define KEPT_AFTER_NONE     0.997

// --------------------------------------------------------------------------------------------
// What a pass costs

void pass_cost_note(PassCost *c, size_t n_rows, double seconds)
{
    if (n_rows > MAX_LOOKUP + 1 || seconds <= 0) {
        return;
    }
    // A pass that was delayed by other processes says little about the next one. So the first one
    // counts as at most its rows one by one, later ones as at most twice the estimate.
    double *known = &c->seconds[n_rows];
    const double one_by_one = (double)n_rows * c->seconds[1];
    const double most = *known > 0 ? 2 * *known : one_by_one > 0 ? one_by_one : seconds;
    const double bounded = seconds < most ? seconds : most;
    const double before = *known > 0 ? *known : bounded;
    *known = before + (bounded - before) * (bounded < before ? FASTER : SLOWER);
    // Whatever made it slower or faster (a longer context, a busier machine) affects all counts.
    for (size_t i = 1; i <= MAX_LOOKUP + 1; i++) {
        if (i != n_rows) {
            c->seconds[i] *= 1 + (bounded / before - 1) / 16;
            c->seconds[i] *= i > 1 ? 1 - FORGOTTEN : 1;
        }
    }
}

// The seconds of a pass: measured, interpolated between measurements, or extrapolated from the
// largest measured number of rows below it.
static double pass_seconds(const PassCost *c, size_t n_rows)
{
    size_t below = n_rows, above = n_rows;
    while (below > 0 && c->seconds[below] <= 0) {
        below--;
    }
    while (above <= MAX_LOOKUP + 1 && c->seconds[above] <= 0) {
        above++;
    }
    if (below == n_rows || below == 0) {
        return c->seconds[n_rows];
    }
    const double low = c->seconds[below];
    if (above > MAX_LOOKUP + 1) {
        return low * (1 + GUESSED_ROW * (double)(n_rows - below));
    }
    return low + (c->seconds[above] - low) * (double)(n_rows - below) / (double)(above - below);
}

// --------------------------------------------------------------------------------------------
// Proposing

// Finds the longest earlier occurrence of the tokens at the end of the text, the latest of several
// equally long ones. Returns its length, 0 if there is none, and sets *next to the place after it.
static size_t find_match(const int *tokens, size_t n, size_t *next)
{
    const int last = tokens[n - 1];
    size_t longest = 0;
    for (size_t end = n - 1; end > 0 && longest < MAX_MATCH; end--) {
        if (tokens[end - 1] != last) {
            continue;  // the common case
        }
        size_t length = 1;
        while (length < MAX_MATCH && length < end &&
               tokens[end - 1 - length] == tokens[n - 1 - length]) {
            length++;
        }
        if (length > longest) {
            longest = length;
            *next = end;
        }
    }
    return longest;
}

// The estimated probability that a token of a match of this class is right.
static double chance(const Lookup *l, size_t class)
{
    return (l->accepted[class] + GUESS_WEIGHT * first_guesses[class]) /
           (l->proposed[class] + GUESS_WEIGHT);
}

// The number of proposals with the most expected tokens per second, which are added to *plan.
static size_t choose_number(const PassCost *cost, double p, size_t max, PassPlan *plan)
{
    size_t best = 0;
    double expected = plan->tokens, right = 1, best_expected = expected;
    double best_speed = LEAST_GAIN * expected / pass_seconds(cost, plan->n_rows);
    for (size_t k = 1; k <= max; k++) {
        right *= p;
        expected += right;
        const double speed = expected / pass_seconds(cost, plan->n_rows + k);
        if (speed > best_speed) {
            best = k;
            best_speed = speed;
            best_expected = expected;
        }
    }
    plan->n_rows += best;
    plan->tokens = best_expected;
    return best;
}

size_t lookup_propose(Lookup *l, const PassCost *cost, const int *tokens, size_t n, size_t max,
                      PassPlan *plan, int *out)
{
    size_t next = 0, class = 0;
    const size_t left = plan->n_rows <= MAX_LOOKUP ? MAX_LOOKUP + 1 - plan->n_rows : 0;
    const size_t length = max && left && pass_seconds(cost, plan->n_rows) > 0
                              ? find_match(tokens, n, &next)
                              : 0;
    if (length < MIN_MATCH) {
        return 0;
    }
    while (class + 1 < N_MATCH_CLASSES && length >= match_classes[class + 1]) {
        class ++;
    }
    const size_t k = choose_number(cost, chance(l, class), max < left ? max : left, plan);
    if (!k) {
        l->accepted[class] *= KEPT_AFTER_NONE;
        l->proposed[class] *= KEPT_AFTER_NONE;
    }
    // Where the match runs into the end of the text, go on with the first proposals.
    for (size_t i = 0; i < k; i++) {
        out[i] = next + i < n ? tokens[next + i] : out[next + i - n];
    }
    l->class = class;
    return k;
}

void lookup_learn(Lookup *l, size_t n_proposed, size_t n_accepted)
{
    // Tokens after a wrong one carry no information.
    const size_t told = n_accepted < n_proposed ? n_accepted + 1 : n_accepted;
    l->accepted[l->class] = KEPT_AFTER_PROPOSAL * l->accepted[l->class] + (double)n_accepted;
    l->proposed[l->class] = KEPT_AFTER_PROPOSAL * l->proposed[l->class] + (double)told;
    l->n_accepted += n_accepted;
    l->n_proposed += n_proposed;
}
