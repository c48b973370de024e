// bench.h - how fast a model runs here, beside what the machine allows.
#ifndef BENCH_H
#define BENCH_H

#include "base/error.h"
#include "model.h"

// What all threads together reach: reading memory in order, and multiplying what is in registers by
// the instructions that the kernels use.
typedef struct {
    double read_gbs;    // 1e9 bytes a second
    double int8_gmacs;  // 1e9 multiply-adds a second
    double f32_gmacs;
} BenchLimits;

typedef struct {
    char test[32];
    double tokens_per_second;  // median of its repetitions
    double share;  // of the speed at which the slower of memory and arithmetic is the limit
} BenchResult;

#define BENCH_TESTS       6
#define BENCH_MIN_CONTEXT 64  // a context must be longer than this

typedef struct {
    size_t context;  // positions at most
    size_t chunk;    // prompt tokens run together
    size_t threads;
    bool kv_f16;
    void (*progress)(const char *test);  // called before each; NULL: not
    bool (*stop)(void);                  // asked between forward passes whether to end early
} BenchOptions;

// Measures the limits before and after the tests (and keeps the better), and between them: prompts
// of 256 and 2048 tokens, single tokens at depths 0 and 2048, 8 and 16 sequences at once. Lengths
// are cut to the context. *n_results is less than BENCH_TESTS where it was stopped. Error:
// ERROR_RUN without memory, or what forward says.
bool bench_run(const Model *m, const BenchOptions *options, BenchLimits *limits,
               BenchResult results[BENCH_TESTS], size_t *n_results, Error *err);

#endif
