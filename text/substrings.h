// substrings.h - all substrings of a text, to find many strings in it at once.
#ifndef SUBSTRINGS_H
#define SUBSTRINGS_H

#include <stdint.h>

#include "base/error.h"

typedef struct Substrings Substrings;

// Reads a text of at most 2^30 bytes, in time and memory proportional to its size. Error: ERROR_RUN
// if out of memory; *out is then NULL.
bool substrings_create(Substrings **out, const char *text, size_t size, Error *err);
void substrings_free(Substrings *s);  // NULL is allowed

// Are these bytes a part of the text? Takes time proportional to their number only.
bool substrings_has(const Substrings *s, const char *bytes, size_t size);

#endif
