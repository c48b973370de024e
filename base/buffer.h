// buffer.h - text that grows, and the characters in it.
#ifndef BUFFER_H
#define BUFFER_H

#include "base/error.h"

// A growing byte buffer; start from {0}. Once anything was added the data ends with a NUL that size
// does not count, so it can be used as a string. The error sticks, as that of SQLite's sqlite3_str
// does: when memory runs out the buffer accepts nothing more and remembers it. So a caller builds a
// text with plain calls, and asks once at the end, by buffer_check, whether all of it is there.
typedef struct {
    char *data;       // (capacity), owned; NULL until something was added
    size_t size;      // bytes in use
    size_t capacity;  // bytes allocated
    size_t lacking;   // bytes that could not be allocated; 0: no error
} Buffer;

void buffer_add(Buffer *b, const void *data, size_t size);
void buffer_add_text(Buffer *b, const char *text);
void buffer_addf(Buffer *b, const char *format, ...) PRINTF_LIKE(2, 3);

// Is everything there that was added? Error: ERROR_RUN.
bool buffer_check(const Buffer *b, Error *err);

void buffer_clear(Buffer *b);  // size = 0; the memory is kept, an error forgotten
void buffer_free(Buffer *b);

// Looks at the first character of n > 0 bytes that should be UTF-8 (Unicode's table 3-7).
//   > 0: its length; the character is complete.
//   = 0: all n bytes are the beginning of a character.
//   < 0: that many bytes are not UTF-8; one U+FFFD stands for them.
int utf8_scan(const char *bytes, size_t n);
// The first place from `at` on that is not within a character of the text (size).
size_t utf8_boundary(const char *text, size_t size, size_t at);
#define UTF8_REPLACEMENT "\xef\xbf\xbd"

#endif
