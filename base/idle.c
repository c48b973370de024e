// idle.c - whether the machine has processors without work. See idle.h.
//
// Linux shows this in /proc/uptime, in seconds with two decimals:
//
//     30049.10 11328.19       since the machine started; idle time, summed over all processors
//
// A container may see the host's numbers, which include processors that it must not use.
#include "base/idle.h"

#include <stdlib.h>

#include "base/buffer.h"
#include "base/files.h"

// The file is never longer.
#define MAX_UPTIME_BYTES ((size_t)1 << 10)

double idle_seconds(void)
{
    Error ignored;
    Buffer text = {0};
    double idle = -1;
    if (read_file("/proc/uptime", MAX_UPTIME_BYTES, &text, &ignored) && text.size) {
        char *after, *end;
        strtod(text.data, &after);
        idle = strtod(after, &end);
        idle = end > after ? idle : -1;
    }
    buffer_free(&text);
    return idle;
}
