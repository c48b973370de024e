// json.c - writing JSON. See json.h.
#include "json.h"

#include <math.h>
#include <string.h>

bool json_string(Buffer *out, const char *bytes, size_t size, Error *err)
{
    bool ok = buffer_append(out, "\"", 1, err);
    for (size_t i = 0; ok && i < size;) {
        const int length = utf8_scan(bytes + i, size - i);
        const unsigned char c = (unsigned char)bytes[i];
        if (length <= 0) {  // not UTF-8, or a character that the end cuts off
            ok = buffer_append(out, UTF8_REPLACEMENT, 3, err);
            i += length < 0 ? (size_t)-length : size - i;
            continue;
        }
        const char *found = c ? strchr("\nn\rr\tt", c) : NULL;
        if (c == '"' || c == '\\') {
            ok = buffer_printf(out, err, "\\%c", c);
        } else if (c < 0x20 && found) {
            ok = buffer_printf(out, err, "\\%c", found[1]);
        } else if (c < 0x20) {
            ok = buffer_printf(out, err, "\\u%04x", c);
        } else {
            ok = buffer_append(out, bytes + i, (size_t)length, err);
        }
        i += (size_t)length;
    }
    return ok && buffer_append(out, "\"", 1, err);
}

bool json_number(Buffer *out, double value, int decimals, Error *err)
{
    return isfinite(value) ? buffer_printf(out, err, "%.*f", decimals, value)
                           : buffer_append(out, "null", 4, err);
}
