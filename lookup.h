// lookup.h - speculation by lookup: tokens that may come next because they came next before.
//
// Texts repeat themselves and their prompts: names, quotations, code that is edited. So the tokens
// that followed the last occurrence of what the text ends with are proposed, run in one pass behind
// the last token, and accepted as far as the sampler draws the same ones (generate.c). Whatever is
// proposed, the text is the same.
#ifndef LOOKUP_H
#define LOOKUP_H

#include <stddef.h>

// The most tokens that are proposed at a time.
#define MAX_LOOKUP 32
// Classes of matches by length: longer ones are more often right.
#define N_MATCH_CLASSES 4

// How long passes of so many rows take, measured while running.
typedef struct {
    double seconds[MAX_LOOKUP + 2];  // of a pass with that many rows; 0: not known
} PassCost;

// Notes a pass whose rows all want logits. Does nothing if it has more rows than the table.
void pass_cost_note(PassCost *c, size_t n_rows, double seconds);

// Of one sequence: what has become of earlier proposals.
typedef struct {
    double accepted[N_MATCH_CLASSES], proposed[N_MATCH_CLASSES];  // tokens, old ones count less
    size_t class;                                                 // of the last proposal
    size_t n_accepted, n_proposed;                                // all, for statistics
} Lookup;

// What a pass has before a sequence adds its proposals.
typedef struct {
    size_t n_rows;  // including the one of the sequence's last token
    double tokens;  // that it is expected to give
} PassPlan;

// Sets out (max) to the tokens that may follow `tokens` (n), and returns their number: as many as
// make the expected tokens per second the most. Counts what it adds in *plan.
size_t lookup_propose(Lookup *l, const PassCost *cost, const int *tokens, size_t n, size_t max,
                      PassPlan *plan, int *out);

// Says how many of the tokens of the last proposal were accepted.
void lookup_learn(Lookup *l, size_t n_proposed, size_t n_accepted);

#endif
