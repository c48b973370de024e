// unicode_runs.h - reads the tables of Unicode's characters. They hold runs: an entry is code point
// << bits | value, and all code points from that one up to the next entry have the value.
#ifndef UNICODE_RUNS_H
#define UNICODE_RUNS_H

#include <stddef.h>
#include <stdint.h>

// The value of a code point in n runs: that of the last run that begins at or before it.
static inline uint32_t run_value(const uint32_t *runs, size_t n, unsigned bits, uint32_t code_point)
{
    size_t low = 0, high = n;
    while (high - low > 1) {
        const size_t middle = low + (high - low) / 2;
        if (runs[middle] >> bits <= code_point) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return runs[low] & (((uint32_t)1 << bits) - 1);
}

#endif
