// constraint_guide.h - a constraint, the vocabulary's trie and the sets of tokens, as sampling needs
// them together.
#ifndef CONSTRAINT_GUIDE_H
#define CONSTRAINT_GUIDE_H

#include "text/constraint.h"
#include "text/constraint_mask.h"

typedef struct {
    Constraint *constraint;  // owned; NULL: none, and the text is free
    TokenTrie trie;          // owned
    MaskCache *masks;        // owned
} Guide;

// Completes a guide whose constraint and trie are set. Error: ERROR_RUN if out of memory; what it
// has is freed by guide_close.
static inline bool guide_open(Guide *g, Error *err)
{
    return mask_cache_create(&g->masks, g->constraint, &g->trie, err);
}

static inline void guide_close(Guide *g)
{
    mask_cache_free(g->masks);
    constraint_free(g->constraint);
    token_trie_free(&g->trie);
    *g = (Guide){.constraint = NULL};
}

#endif
