// width.h - how many columns of a terminal characters take.
#ifndef WIDTH_H
#define WIDTH_H

#include <stddef.h>

// The first character of a text of `size` > 0 bytes: its length in bytes, at least 1, and the
// columns that it takes: 0, 1 or 2. Bytes that are no character, and control characters, have
// *columns -1: a terminal must not get them.
size_t character_width(const char *text, size_t size, int *columns);

#endif
