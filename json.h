// json.h - writing JSON.
#ifndef JSON_H
#define JSON_H

#include "util.h"

// Appends a JSON string of the bytes: quotes, backslashes and control characters are escaped, and
// what is not UTF-8 becomes U+FFFD.
bool json_string(Buffer *out, const char *bytes, size_t size, Error *err);

// Appends a number with so many decimals; null where it is not finite.
bool json_number(Buffer *out, double value, int decimals, Error *err);

#endif
