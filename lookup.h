// lookup.h - speculation by lookup: proposes tokens that followed the same text before.
//
// Texts repeat themselves and their prompts: names, quotations, code that is edited. So the tokens
// that followed the longest earlier match of the text's end are proposed, run in the same pass as
// the last token, and accepted as long as the sampler draws the same ones (generate.c). Proposals
// never change the text.
#ifndef LOOKUP_H
#define LOOKUP_H

#include <stddef.h>

// The most tokens that are proposed at a time.
#define MAX_LOOKUP 32
// Classes of matches by length: longer ones are more often right.
#define N_MATCH_CLASSES 4

// How long a pass takes, by its number of rows, measured while running.
typedef struct {
    double seconds[MAX_LOOKUP + 2];  // by number of rows; 0: not known
} PassCost;

// Notes a pass whose rows all want logits. Does nothing if it has more rows than the table.
void pass_cost_note(PassCost *c, size_t n_rows, double seconds);

// The record of a sequence's earlier proposals.
typedef struct {
    double accepted[N_MATCH_CLASSES], proposed[N_MATCH_CLASSES];  // tokens; old ones count less
    size_t class;                                                 // of the last proposal
    size_t n_accepted, n_proposed;                                // totals, for statistics
} Lookup;

// A pass before a sequence adds its proposals.
typedef struct {
    size_t n_rows;  // including that of the sequence's last token
    double tokens;  // that it is expected to yield
} PassPlan;

// Sets out (max) to tokens that may follow `tokens` (n), and returns their number, chosen for the
// most expected tokens per second. Adds them to *plan.
size_t lookup_propose(Lookup *l, const PassCost *cost, const int *tokens, size_t n, size_t max,
                      PassPlan *plan, int *out);

// Records how many tokens of the last proposal were accepted.
void lookup_learn(Lookup *l, size_t n_proposed, size_t n_accepted);

#endif
