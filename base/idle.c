// idle.c - whether the machine has processors without work. See idle.h.
//
// Linux says so in /proc/uptime, in hundredths of a second:
//
//     30049.10 11328.19       since the machine started; idle, of all processors
//
// A container may see the host's numbers: processors that it must not use then count too.
#include "base/idle.h"

#include <stdlib.h>

#include "base/buffer.h"
#include "base/files.h"

// More bytes than that file ever has.
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
