// width.c - how many columns of a terminal characters take. See width.h.
//
// The tables are those of the project and not wcwidth's, whose answers depend on the locale and on
// the version of libc.
#include "text/width.h"

#include <stdint.h>
#include <stdlib.h>

#include "base/buffer.h"
#include "text/unicode_tables.h"

// Binary search for the last run of code points that begins at or before this one.
static int width_of(uint32_t code_point)
{
    size_t low = 0, high = sizeof width_runs / sizeof *width_runs;
    while (high - low > 1) {
        const size_t middle = low + (high - low) / 2;
        if (width_runs[middle] >> 2 <= code_point) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return (int)(width_runs[low] & 3);
}

size_t character_width(const char *text, size_t size, int *columns)
{
    const uint8_t *b = (const uint8_t *)text;
    const int length = utf8_scan(text, size);
    uint32_t code_point = b[0];
    if (length <= 0) {
        *columns = -1;
        return length ? (size_t)abs(length) : size;
    }
    if (length > 1) {
        code_point = b[0] & (0x7fu >> length);
        for (int i = 1; i < length; i++) {
            code_point = code_point << 6 | (b[i] & 0x3fu);
        }
    }
    const bool control = code_point < 0x20 || (code_point >= 0x7f && code_point < 0xa0);
    *columns = control ? -1 : width_of(code_point);
    return (size_t)length;
}
