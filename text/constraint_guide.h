// constraint_guide.h - a constraint with the sets of tokens of one vocabulary, which many sequences
// share; and where each of them is in its text.
//
// States and sets are found once for all sequences, under a lock. What a sequence is told does not
// depend on the others: when the constraint reaches one of its bounds, it is compiled anew, and each
// sequence reads its text again. Only a text that takes a fresh constraint to its bounds fails.
#ifndef CONSTRAINT_GUIDE_H
#define CONSTRAINT_GUIDE_H

#include "base/buffer.h"
#include "base/json.h"
#include "text/constraint.h"
#include "text/constraint_mask.h"

typedef enum { CONSTRAINT_NONE, CONSTRAINT_REGEX, CONSTRAINT_SCHEMA } ConstraintKind;

// What a text has to be, as an option or a request says it. Nothing is owned.
typedef struct {
    ConstraintKind kind;
    const char *name;         // of the option or the field, for messages
    const char *text;         // the expression or schema, NUL-terminated; NULL: it is
    const JsonValue *schema;  // .. this one
    bool requested;           // by a request, which counts more than the command line
} ConstraintSpec;

// The schema of any object.
#define ANY_OBJECT_SCHEMA "{\"type\": \"object\"}"

typedef struct Guide Guide;

// Compiles a constraint from its text, which is copied, for the vocabulary of the trie, which must
// outlive the guide. It has one user. Errors: as constraint_of_regex and constraint_of_schema; *out
// is then NULL.
bool guide_open(Guide **out, ConstraintKind kind, ConstraintText text, const TokenTrie *trie,
                Error *err);

// Users are counted by one thread; the last one to close a guide frees it. NULL is no guide.
Guide *guide_share(Guide *g);
void guide_close(Guide *g);
bool guide_is_shared(const Guide *g);  // does it have several users?

size_t guide_bytes(Guide *g);  // allocated, approximately

const TokenTrie *guide_trie(const Guide *g);
size_t guide_words(const Guide *g);       // of 64 bits, of a set of tokens
const char *guide_notes(const Guide *g);  // constraint_notes

// A text so far. Start from {0}. Different texts may be used by different threads at a time.
typedef struct {
    Guide *guide;       // the caller's; NULL: any text is right
    Buffer text;        // owned
    uint32_t epoch;     // of the guide, to which the state belongs
    MatchState state;   // after the text
    uint32_t shortest;  // the fewest bytes that complete it; 0: it is complete
    bool is_final;      // it is complete, and nothing can follow
} Match;

// Errors of these: ERROR_INPUT naming the bound that the constraint exceeds; ERROR_RUN if out of
// memory.

// Begins a text.
bool match_begin(Match *m, Guide *guide, Error *err);
void match_free(Match *m);

// Adds bytes to the text if it can be completed in at most `most` bytes after them (*taken).
bool match_take(Match *m, ConstraintText bytes, uint32_t most, bool *taken, Error *err);

// Copies the set of tokens that may follow (mask_cache_get; the query's state is set here) to
// *tokens (guide_words).
bool match_tokens(Match *m, MaskQuery query, uint64_t *tokens, Error *err);

// The bytes that every completion of the text begins with (constraint_forced). *ends: they complete
// it, and nothing can follow.
bool match_forced(Match *m, ForcedBytes *forced, bool *ends, Error *err);

#endif
