// buffer.h - a growing text buffer, and UTF-8.
#ifndef BUFFER_H
#define BUFFER_H

#include <stdint.h>

#include "base/error.h"

// A growing byte buffer; start from {0}. Once anything was added, the data ends with a NUL that
// size does not count, so it can be used as a string. The error sticks, as in SQLite's sqlite3_str:
// when memory runs out, the buffer remembers this and accepts nothing more. So a caller can build a
// text with plain calls and check once, at the end, whether it is complete (buffer_check).
typedef struct {
    char *data;       // (capacity), owned; NULL until something was added
    size_t size;      // bytes in use
    size_t capacity;  // bytes allocated
    size_t lacking;   // bytes that could not be allocated; 0: no error
} Buffer;

void buffer_add(Buffer *b, const void *data, size_t size);
void buffer_add_text(Buffer *b, const char *text);
void buffer_addf(Buffer *b, const char *format, ...) PRINTF_LIKE(2, 3);

// Does the buffer hold everything that was added? Error: ERROR_RUN.
bool buffer_check(const Buffer *b, Error *err);

void buffer_clear(Buffer *b);  // size = 0; keeps the memory and clears the error
void buffer_free(Buffer *b);

// Looks at the first character of n > 0 bytes that should be UTF-8 (Unicode's table 3-7).
//   > 0: its length; the character is complete.
//   = 0: all n bytes are the beginning of a character.
//   < 0: that many bytes are not UTF-8; one U+FFFD stands for them.
int utf8_scan(const char *bytes, size_t n);

// The code point of a complete character of `length` bytes, as utf8_scan gives it.
uint32_t utf8_code_point(const char *bytes, int length);

// Is this a continuation byte of UTF-8, one that does not begin a character?
static inline bool utf8_continues(char byte) { return ((unsigned char)byte & 0xc0) == 0x80; }

// The first offset at or after `at` that is not inside a character of the text (size).
size_t utf8_boundary(const char *text, size_t size, size_t at);

// U+FFFD, for bytes that are not UTF-8.
#define UTF8_REPLACEMENT "\xef\xbf\xbd"

#endif
