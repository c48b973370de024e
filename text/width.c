// width.c - how many columns of a terminal characters take. See width.h.
//
// The tables are those of the project and not wcwidth's, whose answers depend on the locale and on
// the version of libc.
#include "text/width.h"

#include <stdint.h>
#include <stdlib.h>

#include "base/buffer.h"
#include "text/unicode_runs.h"
#include "text/unicode_tables.h"

size_t character_width(const char *text, size_t size, int *columns)
{
    const int length = utf8_scan(text, size);
    if (length <= 0) {
        *columns = -1;
        return length ? (size_t)abs(length) : size;
    }
    const uint32_t code_point = utf8_code_point(text, length);
    const bool control = code_point < 0x20 || (code_point >= 0x7f && code_point < 0xa0);
    *columns = control ? -1 : (int)run_value(width_runs, N_WIDTH_RUNS, 3, code_point);
    return (size_t)length;
}
