// clock.h - elapsed time.
#ifndef CLOCK_H
#define CLOCK_H

#include <time.h>

// Seconds since an arbitrary moment, on a clock that never goes back.
static inline double now_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

#endif
