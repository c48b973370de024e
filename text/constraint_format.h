// constraint_format.h - the values of JSON Schema's `format` as terms.
#ifndef CONSTRAINT_FORMAT_H
#define CONSTRAINT_FORMAT_H

#include <stddef.h>

#include "base/error.h"
#include "text/constraint_term.h"

typedef enum {
    FORMAT_ENFORCED,
    FORMAT_REFUSED,  // a standard format that we cannot check
    FORMAT_UNKNOWN,  // an annotation
} FormatStatus;

// The texts of a format, spelled as in JSON strings. Sets *out only if it returns FORMAT_ENFORCED,
// and *err if the pool has exceeded a bound.
FormatStatus format_term(TermPool *p, const char *name, size_t size, Term *out, Error *err);

#endif
