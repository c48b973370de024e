// bench.h - how much --bench measures in the time that a test has.
#ifndef BENCH_H
#define BENCH_H

#include <stdbool.h>
#include <stddef.h>

// How many steps a repetition has: `full`, halved until one repetition fits the budget (seconds),
// but at least `least` if `full` is.
size_t bench_steps(size_t full, size_t least, double step_seconds, double budget);

// Is there to be another repetition after n that took `total` seconds together? The first one is in
// any case; up to three if they fit the budget; more while they are short.
bool bench_repeats(size_t n, double total, double budget);

#endif
