// constraint_format.h - the values of JSON Schema's `format` as terms.
#ifndef CONSTRAINT_FORMAT_H
#define CONSTRAINT_FORMAT_H

#include <stddef.h>

#include "base/error.h"
#include "text/constraint_term.h"

typedef enum {
    FORMAT_ENFORCED,
    FORMAT_REFUSED,  // a format of the standard that no automaton can check
    FORMAT_UNKNOWN,  // an annotation
} FormatStatus;

// The texts of a format, spelled as in JSON strings. FORMAT_ENFORCED only then sets *out. *err is
// filled if the pool has run out of its bounds.
FormatStatus format_term(TermPool *p, const char *name, size_t size, Term *out, Error *err);

#endif
