// guides.h - the constraints of a batch: each is compiled once for all requests that have it.
#ifndef GUIDES_H
#define GUIDES_H

#include "base/error.h"
#include "text/constraint_guide.h"
#include "tokenizer.h"

// How many different constraints are kept. A new one takes the place of the least recently used.
enum { GUIDES_KEPT = 32 };

// If the kept constraints take more bytes together, those that no request uses are freed. Ten times
// what 32 ordinary schemas take, and enough for a few of the largest ones.
#define GUIDES_MAX_BYTES ((size_t)256 << 20)

typedef struct {
    ConstraintKind kind;  // CONSTRAINT_NONE: the place is empty
    Buffer text;          // owned
    Guide *guide;         // owned; NULL: it could not be compiled
    Error failure;        // .. for this reason
    uint64_t asked;       // when it was asked for last
} KeptGuide;

// Start from {0} with the tokenizer and max_bytes set.
typedef struct {
    const Tokenizer *tokenizer;
    TokenTrie trie;  // owned: of the tokenizer, from the first constraint on
    KeptGuide kept[GUIDES_KEPT];
    size_t max_bytes;  // GUIDES_MAX_BYTES
    uint64_t n_asked;
} Guides;

// A constraint.
typedef struct {
    Guide *guide;  // the caller's: to be closed; NULL: no constraint
    bool is_new;   // it was compiled for this
} FoundGuide;

// The guide for what a request wants. Then frees the least recently used constraints among those that
// no request uses, until all take at most max_bytes; a freed one is compiled again when it is next
// asked for. Errors: ERROR_INPUT naming the field, and what is malformed or cannot be enforced;
// ERROR_RUN if out of memory.
bool guides_find(Guides *g, const ConstraintSpec *spec, FoundGuide *out, Error *err);

// Guides that are still in use live on, but the trie that they need does not.
void guides_free(Guides *g);

#endif
