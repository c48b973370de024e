// constraint_regex.h - regular expressions as terms.
#ifndef CONSTRAINT_REGEX_H
#define CONSTRAINT_REGEX_H

#include <stddef.h>

#include "base/error.h"
#include "text/constraint_chars.h"

typedef enum {
    REGEX_RE2,   // RE2's syntax; groups only group. Refused: \b, \B, (?m), scripts (\p{Greek})
    REGEX_ECMA,  // ECMA-262 as in JSON Schema. Refused: lookaround, back-references, \b, \B
} RegexDialect;

// Bounds, in bytes, in nested groups, and of {n,m} as in RE2.
#define REGEX_MAX_SIZE   8192
#define REGEX_MAX_DEPTH  200
#define REGEX_MAX_REPEAT 1000

typedef struct {
    RegexDialect dialect;
    Spelling spelling;
    bool whole;  // the text has to match from start to end; else a match anywhere in it is enough
} RegexOptions;

// Makes the language of the texts that match. Errors: ERROR_INPUT saying where (by byte) what was
// found and what was expected, or which construct we do not support; ERROR_RUN if out of memory.
bool regex_compile(TermPool *p, const RegexOptions *options, const char *pattern, size_t size,
                   Term *out, Error *err);

#endif
