// buffer.h - text that grows, and its characters.
#ifndef BUFFER_H
#define BUFFER_H

#include "base/error.h"

// A growing byte buffer. Always NUL-terminated once anything was added, so data can be used as a
// string. Without memory it takes nothing more and remembers that (as SQLite's sqlite3_str does): so
// a caller builds a whole text and asks once, by buffer_check, whether it is there.
typedef struct {
    char *data;       // owned; NULL while empty
    size_t size;      // bytes in use
    size_t capacity;  // bytes allocated
    size_t lacking;   // 0, or the bytes that could not be allocated
} Buffer;

void buffer_add(Buffer *b, const void *data, size_t size);
void buffer_add_text(Buffer *b, const char *text);
void buffer_addf(Buffer *b, const char *format, ...) PRINTF_LIKE(2, 3);

// Is all there that was added? Error: ERROR_RUN.
bool buffer_check(const Buffer *b, Error *err);

void buffer_clear(Buffer *b);  // size = 0, memory kept; what was lacking is forgotten
void buffer_free(Buffer *b);

// Going out of use: buffer_add and buffer_addf, checked at once.
bool buffer_append(Buffer *b, const void *data, size_t size, Error *err);
bool buffer_printf(Buffer *b, Error *err, const char *format, ...) PRINTF_LIKE(3, 4);

// Looks at the first character of n > 0 bytes of UTF-8 (Unicode's table 3-7). Positive: its length,
// it is whole. Zero: the bytes are the beginning of one. Negative: so many bytes are not UTF-8; one
// U+FFFD stands for them.
int utf8_scan(const char *bytes, size_t n);
#define UTF8_REPLACEMENT "\xef\xbf\xbd"

#endif
