// buffer.c - a growing text buffer, and UTF-8. See buffer.h.
//
// The capacity doubles, so that adding n bytes one by one costs O(n). Every function that adds goes
// through reserve, which is where the error sticks.
#include "base/buffer.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

// Makes room for `extra` more bytes and a NUL. False, now and from now on, if there is no memory.
static bool reserve(Buffer *b, size_t extra)
{
    size_t need;
    if (b->lacking) {
        return false;
    }
    if (!size_add(b->size, extra, &need) || need > SIZE_MAX / 2) {
        b->lacking = extra;
        return false;
    }
    if (need < b->capacity) {
        return true;
    }
    const size_t capacity = need < 128 ? 256 : need * 2;
    char *data = realloc(b->data, capacity);
    if (!data) {
        b->lacking = capacity;
        return false;
    }
    b->data = data;
    b->capacity = capacity;
    return true;
}

void buffer_add(Buffer *b, const void *data, size_t size)
{
    if (!reserve(b, size)) {
        return;
    }
    if (size) {
        memcpy(b->data + b->size, data, size);
    }
    b->size += size;
    b->data[b->size] = '\0';
}

void buffer_add_text(Buffer *b, const char *text) { buffer_add(b, text, strlen(text)); }

void buffer_addf(Buffer *b, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    const int n = vsnprintf(NULL, 0, format, args);
    if (n >= 0 && reserve(b, (size_t)n)) {
        vsnprintf(b->data + b->size, (size_t)n + 1, format, again);
        b->size += (size_t)n;
    }
    va_end(again);
    va_end(args);
}

bool buffer_check(const Buffer *b, Error *err)
{
    return !b->lacking || error_memory(err, "text", b->lacking);
}

void buffer_clear(Buffer *b)
{
    b->size = b->lacking = 0;
    if (b->data) {
        b->data[0] = '\0';
    }
}

void buffer_free(Buffer *b)
{
    free(b->data);
    *b = (Buffer){0};
}

int utf8_scan(const char *bytes, size_t n)
{
    const uint8_t *b = (const uint8_t *)bytes, first = b[0];
    const int length = first < 0x80   ? 1
                       : first < 0xc2 ? 0
                       : first < 0xe0 ? 2
                       : first < 0xf0 ? 3
                       : first < 0xf5 ? 4
                                      : 0;
    if (length == 0) {
        return -1;
    }
    for (int i = 1; i < length; i++) {
        if ((size_t)i == n) {
            return 0;
        }
        uint8_t low = 0x80, high = 0xbf;
        if (i == 1) {  // rejects overlong forms, surrogates and code points above U+10FFFF
            low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : low;
            high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : high;
        }
        if (b[i] < low || b[i] > high) {
            return -i;
        }
    }
    return length;
}

uint32_t utf8_code_point(const char *bytes, int length)
{
    // The first of n > 1 bytes has n ones and a zero as its highest bits.
    uint32_t c = (uint8_t)bytes[0] & (length > 1 ? 0x7fu >> length : 0x7fu);
    for (int i = 1; i < length; i++) {
        c = c << 6 | ((uint8_t)bytes[i] & 0x3fu);
    }
    return c;
}

size_t utf8_boundary(const char *text, size_t size, size_t at)
{
    // A character has at most three continuation bytes.
    const size_t most = size - at < 3 ? size : at + 3;
    size_t end = at;
    while (at && end < most && utf8_continues(text[end])) {
        end++;
    }
    return end;
}
