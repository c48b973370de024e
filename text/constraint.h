// constraint.h - constraints on a text: a match of a regular expression, or JSON valid against a
// schema; and what may come next in the text.
//
// A constraint is compiled once. A MatchState is a number for a position in it; equal states have
// the same number, so that sets of tokens can be cached by state. States are created when they are
// first reached, so matching changes the constraint: it must not be used by two threads at a time.
#ifndef CONSTRAINT_H
#define CONSTRAINT_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

typedef struct Constraint Constraint;
typedef uint32_t MatchState;

#define MATCH_FAILED UINT32_MAX  // no text of the constraint begins this way
#define NO_TEXT      UINT32_MAX  // the length if there is no text

// Bounds: the depth from which no optional objects and arrays are opened; the number of states.
#define CONSTRAINT_MAX_DEPTH  500
#define CONSTRAINT_MAX_STATES ((size_t)1 << 20)

typedef struct {
    const char *bytes;
    size_t size;
} ConstraintText;

// Errors of both: ERROR_INPUT saying what is malformed, unsupported, impossible or too large;
// ERROR_RUN if out of memory. *out is NULL on failure.

// A match of a regular expression from start to end (constraint_regex.h: RE2's syntax).
bool constraint_of_regex(Constraint **out, ConstraintText regex, Error *err);

// A JSON text valid against a schema (constraint_schema.h).
bool constraint_of_schema(Constraint **out, ConstraintText schema, Error *err);

void constraint_free(Constraint *c);

size_t constraint_bytes(const Constraint *c);  // allocated, approximately

// The unknown keywords and formats of a schema, which are ignored: "a, b"; NULL: none.
const char *constraint_notes(const Constraint *c);

MatchState constraint_start(const Constraint *c);

// The state after more bytes; MATCH_FAILED if no text of the constraint continues this way.
MatchState constraint_next(Constraint *c, MatchState state, const char *bytes, size_t size);

// Appends the bytes that every continuation begins with to *bytes, at most `most` of them. Returns
// the state after them.
typedef struct {
    char *bytes;  // room for `most`
    size_t most;
    size_t size;  // out
} ForcedBytes;
MatchState constraint_forced(Constraint *c, MatchState state, ForcedBytes *forced);

// Has the constraint exceeded one of its bounds, or run out of memory? Then it allows nothing more.
bool constraint_check(const Constraint *c, Error *err);

// The fewest bytes that complete the text from this state; 0: it is complete.
uint32_t constraint_shortest(const Constraint *c, MatchState state);
static inline bool constraint_is_complete(const Constraint *c, MatchState state)
{
    return constraint_shortest(c, state) == 0;
}

// Is the text complete, and can nothing more follow?
bool constraint_is_final(const Constraint *c, MatchState state);

#endif
