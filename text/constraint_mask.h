// constraint_mask.h - the sets of tokens that may come next.
#ifndef CONSTRAINT_MASK_H
#define CONSTRAINT_MASK_H

#include "text/constraint.h"
#include "text/constraint_trie.h"

typedef struct MaskCache MaskCache;

// The sizes of the caches: sets by state, and what is common to states with the same innermost
// language. For Llama 3's vocabulary a set takes 16 KiB.
enum { MASK_MAX_STATES = 512, MASK_MAX_HEADS = 1024 };

// Neither the constraint nor the trie is owned. Error: ERROR_RUN if out of memory.
bool mask_cache_create(MaskCache **out, Constraint *c, const TokenTrie *trie, Error *err);
void mask_cache_free(MaskCache *m);

size_t mask_cache_bytes(const MaskCache *m);  // allocated

// The tokens after which the text can still become one of the constraint, in at most `most` bytes
// (NEVER: any number): bit id % 64 of word id / 64 (trie->n_words). `no_space`: a space that the
// next token begins with is not text (SentencePiece, after a special token). The set holds until
// the next call. NULL: the constraint has failed (constraint_check).
typedef struct {
    MatchState state;
    uint32_t most;
    bool no_space;
} MaskQuery;
const uint64_t *mask_cache_get(MaskCache *m, const MaskQuery *query);

#endif
