// constraint.h - what a text has to be: one of some choices, a match of a regular expression, or
// JSON valid against a schema; and what may come next in it.
//
// A constraint is compiled once. Where a text stands in it is a MatchState, a number: equal states
// have the same number, so that sets of tokens can be kept by state. States are made when they are
// first reached, so every function but the last few changes the constraint: threads take turns.
#ifndef CONSTRAINT_H
#define CONSTRAINT_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

typedef struct Constraint Constraint;
typedef uint32_t MatchState;

#define MATCH_FAILED UINT32_MAX  // no text of the constraint begins so
#define NO_TEXT      UINT32_MAX  // the length of a text that there is not

// Bounds: choices; how deep objects and arrays that need not be opened are nested; states.
#define CONSTRAINT_MAX_CHOICES 1024
#define CONSTRAINT_MAX_DEPTH   500
#define CONSTRAINT_MAX_STATES  ((size_t)1 << 20)

typedef struct {
    const char *bytes;
    size_t size;
} ConstraintText;

// Errors of all three: ERROR_INPUT saying what is malformed, not supported, impossible or too large;
// ERROR_RUN if out of memory. *out is NULL on failure.

// Exactly one of n different texts.
bool constraint_of_choices(Constraint **out, const ConstraintText *choices, size_t n, Error *err);

// A match of a regular expression from start to end (constraint_regex.h: RE2's syntax).
bool constraint_of_regex(Constraint **out, ConstraintText regex, Error *err);

// A JSON text valid against a schema (constraint_schema.h).
bool constraint_of_schema(Constraint **out, ConstraintText schema, Error *err);

void constraint_free(Constraint *c);

// Keywords and formats of a schema that are unknown and say nothing, "a, b"; NULL: none.
const char *constraint_notes(const Constraint *c);

MatchState constraint_start(const Constraint *c);

// The state after more bytes; MATCH_FAILED if no text of the constraint goes on so.
MatchState constraint_next(Constraint *c, MatchState state, const char *bytes, size_t size);

// The bytes that have to come next, whatever the text: appended to *bytes, at most `most` of them.
// Returns the state after them.
typedef struct {
    char *bytes;  // room for `most`
    size_t most;
    size_t size;  // out
} ForcedBytes;
MatchState constraint_forced(Constraint *c, MatchState state, ForcedBytes *forced);

// Has the constraint run out of one of its bounds, or of memory? Then no more is allowed anywhere.
bool constraint_check(const Constraint *c, Error *err);

// The fewest bytes that complete a text from here; 0: it is complete.
uint32_t constraint_shortest(const Constraint *c, MatchState state);
static inline bool constraint_is_complete(const Constraint *c, MatchState state)
{
    return constraint_shortest(c, state) == 0;
}

// Is the text complete, and can nothing more follow?
bool constraint_is_final(const Constraint *c, MatchState state);

#endif
