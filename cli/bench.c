// bench.c - times the forward pass on six standard loads, and the machine's limits around them in
// the same process, so that a share of the limit holds on a noisy machine too.
//
// The limit of a load is the longer of two times: reading the weights (and the keys and values)
// once a pass at the speed of memory, and multiplying each weight with each row at the peak of the
// arithmetic that its type uses.
#include "cli/bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/threads.h"

#define READ_BYTES     ((size_t)512 << 20)  // beyond any cache
#define PEAK_STEPS     ((size_t)1 << 20)
#define PEAK_OPERANDS  256  // bytes that peak_int8 reads
#define LIMIT_ROUNDS   5
#define DECODE_TOKENS  32
#define MAX_SEQUENCES  16
#define REPEAT_SECONDS 2.0  // a test is repeated until it took this long, 3 to 9 times
#define MIN_REPEATS    3
#define MAX_REPEATS    9

// --------------------------------------------------------------------------------------------
// Limits

typedef enum { PEAK_READ, PEAK_INT8, PEAK_F32 } PeakKind;

typedef struct {
    PeakKind what;
    float *memory;
    float sink[LANES];
} Peak;

static void peak_thread(Team team, void *arg)
{
    Peak *p = arg;
    size_t begin, end;
    float result;
    if (p->what == PEAK_READ) {
        team_split(team, READ_BYTES / 4096, &begin, &end);
        result = ops_kernels->read(p->memory + begin * 1024, (end - begin) * 1024);
    } else if (p->what == PEAK_INT8) {
        uint8_t operands[PEAK_OPERANDS];
        memset(operands, 3, sizeof operands);  // small: the sums stay below 2^31
        result = ops_kernels->peak_int8(PEAK_STEPS, operands);
    } else {
        result = ops_kernels->peak_f32(PEAK_STEPS, p->memory);
    }
    p->sink[team.id % LANES] = result;  // so that no compiler leaves the work out
}

static void fill_thread(Team team, void *arg)
{
    float *memory = arg;
    size_t begin, end;
    team_split(team, READ_BYTES / sizeof *memory, &begin, &end);
    for (size_t i = begin; i < end; i++) {
        memory[i] = 0.5f;
    }
}

static double best_time(Peak *p, size_t threads)
{
    double best = 1e30;
    for (int round = 0; round < LIMIT_ROUNDS; round++) {
        const double start = now_seconds();
        team_run(threads, peak_thread, p);
        const double seconds = now_seconds() - start;
        best = seconds < best ? seconds : best;
    }
    return best;
}

// Raises each limit to what is measured now.
static bool measure_limits(BenchLimits *limits, size_t threads, Error *err)
{
    Peak p = {.memory = memory_map(READ_BYTES)};
    if (!p.memory) {
        return error_memory(err, "the test of the memory", READ_BYTES);
    }
    team_run(threads, fill_thread, p.memory);
    const size_t steps = PEAK_STEPS * threads;
    const struct {
        double *limit, work;
    } peaks[] = {
        [PEAK_READ] = {&limits->read_gbs, (double)READ_BYTES},
        [PEAK_INT8] = {&limits->int8_gmacs, (double)(steps * ops_kernels->int8_macs_per_step)},
        [PEAK_F32] = {&limits->f32_gmacs, (double)(steps * ops_kernels->f32_macs_per_step)},
    };
    for (size_t i = 0; i < sizeof peaks / sizeof *peaks; i++) {
        p.what = (PeakKind)i;
        const double rate = peaks[i].work / best_time(&p, threads) * 1e-9;
        *peaks[i].limit = rate > *peaks[i].limit ? rate : *peaks[i].limit;
    }
    memory_unmap(p.memory, READ_BYTES);
    return true;
}

// --------------------------------------------------------------------------------------------
// Tests

typedef struct {
    const Model *m;
    const BenchOptions *options;
    Cache cache;
    Scratch scratch;
    Row *rows;  // (max_rows)
    size_t max_rows;
} Bench;

// A test: `steps` passes of one token of each of n_sequences that hold `depth` tokens already, or a
// prompt of `steps` tokens.
typedef struct {
    const char *name;
    bool prompt;
    size_t depth, steps, n_sequences;
} Test;

// Runs n tokens of a sequence, chunk by chunk.
static bool run_prompt(Bench *b, size_t sequence, size_t n, Error *err)
{
    for (size_t done = 0, rows; done < n; done += rows) {
        rows = n - done < b->options->chunk ? n - done : b->options->chunk;
        for (size_t i = 0; i < rows; i++) {
            b->rows[i] = (Row){.token = (int)((done + i) * 7919 % b->m->config.vocab_size),
                               .sequence = sequence,
                               .wants_logits = done + i + 1 == n};
        }
        if (!forward(b->m, &b->cache, &b->scratch, b->rows, rows, err) || b->options->stop()) {
            return false;
        }
    }
    return true;
}

static bool run_tokens(Bench *b, const Test *t, Error *err)
{
    for (size_t step = 0; step < t->steps; step++) {
        for (size_t i = 0; i < t->n_sequences; i++) {
            b->rows[i] = (Row){.token = (int)((step + i) * 104729 % b->m->config.vocab_size),
                               .sequence = i,
                               .wants_logits = true};
        }
        if (!forward(b->m, &b->cache, &b->scratch, b->rows, t->n_sequences, err) ||
            b->options->stop()) {
            return false;
        }
    }
    return true;
}

static int compare_times(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

// Median time of a repetition; each starts with t->depth tokens in the first sequence.
static bool time_test(Bench *b, const Test *t, double *seconds, Error *err)
{
    double times[MAX_REPEATS], total = 0;
    int n = 0;
    while (n < MIN_REPEATS || (n < MAX_REPEATS && total < REPEAT_SECONDS)) {
        if (b->cache.sequences[0].length < t->depth) {
            cache_truncate(&b->cache, 0, 0);
            if (!run_prompt(b, 0, t->depth, err)) {
                return false;
            }
        }
        for (size_t i = 0; i < MAX_SEQUENCES; i++) {
            cache_truncate(&b->cache, i, i == 0 ? t->depth : 0);
        }
        const double start = now_seconds();
        if (!(t->prompt ? run_prompt(b, 0, t->steps, err) : run_tokens(b, t, err))) {
            return false;
        }
        times[n] = now_seconds() - start;
        total += times[n++];
    }
    qsort(times, (size_t)n, sizeof *times, compare_times);
    *seconds = times[n / 2];
    return true;
}

// Seconds that a matrix takes for `rows` rows at the limits, added up in memory and arithmetic.
static void add_matrix(const Matrix *m, double rows, const BenchLimits *l, double *read,
                       double *multiply)
{
    size_t bytes;
    if (matrix_bytes(m->type, m->rows, m->cols, &bytes)) {
        *read += (double)bytes / (l->read_gbs * 1e9);
    }
    const double peak = weight_types[m->type].quantized ? l->int8_gmacs : l->f32_gmacs;
    *multiply += (double)m->rows * (double)m->cols * rows / (peak * 1e9);
}

// Seconds of all of a test at the limits. Attention's own products are left out, and so are the
// activations, which stay in the caches.
static double limit_seconds(const Bench *b, const Test *t, const BenchLimits *l)
{
    const Model *m = b->m;
    const double chunk = (double)(b->options->chunk < t->steps ? b->options->chunk : t->steps);
    const double passes = t->prompt ? (double)t->steps / chunk : (double)t->steps;
    const double rows = t->prompt ? chunk : (double)t->n_sequences;
    double read = 0, multiply = 0, head_read = 0, head_multiply = 0;
    for (size_t i = 0; i < m->config.n_layers; i++) {
        const Block *k = &m->blocks[i];
        const Matrix *matrices[] = {&k->q_proj,    &k->k_proj,  &k->v_proj,   &k->o_proj,
                                    &k->gate_proj, &k->up_proj, &k->down_proj};
        for (size_t j = 0; j < sizeof matrices / sizeof *matrices; j++) {
            add_matrix(matrices[j], rows, l, &read, &multiply);
        }
    }
    add_matrix(&m->lm_head, t->prompt ? 1 : rows, l, &head_read, &head_multiply);
    const double heads = t->prompt ? 1 : passes;  // of a prompt only the last token asks for logits
    const double position = (double)b->cache.page_bytes / PAGE_POSITIONS;
    if (!t->prompt) {
        read += position * ((double)t->depth + (double)t->steps / 2) * rows / (l->read_gbs * 1e9);
    }
    const double all_read = read * passes + head_read * heads;
    const double all_multiply = multiply * passes + head_multiply * heads;
    return all_read > all_multiply ? all_read : all_multiply;
}

bool bench_run(const Model *m, const BenchOptions *options, BenchLimits *limits,
               BenchResult results[BENCH_TESTS], size_t *n_results, Error *err)
{
    const size_t most = options->context - DECODE_TOKENS;  // so deep that tokens can follow
    const size_t small = most < 256 ? most : 256, large = most < 2048 ? most : 2048;
    const Test tests[BENCH_TESTS] = {
        {"prompt", true, 0, small, 1},
        {"prompt", true, 0, large, 1},
        {"decode at depth", false, large, DECODE_TOKENS, 1},
        {"decode at depth", false, 0, DECODE_TOKENS, 1},
        {"batch", false, 0, DECODE_TOKENS, 8},
        {"batch", false, 0, DECODE_TOKENS, MAX_SEQUENCES},
    };
    Bench b = {.m = m, .options = options};
    double seconds[BENCH_TESTS] = {0};
    *n_results = 0;
    *limits = (BenchLimits){0};
    b.max_rows = options->chunk < MAX_SEQUENCES ? MAX_SEQUENCES : options->chunk;
    b.rows = calloc(b.max_rows, sizeof *b.rows);
    bool ok = (b.rows || error_memory(err, "rows", b.max_rows * sizeof *b.rows)) &&
              cache_create(&b.cache, &m->config, options->context, MAX_SEQUENCES, options->kv_f16,
                           err) &&
              scratch_create(&b.scratch, &m->config, &b.cache,
                             (ScratchSizes){b.max_rows, MAX_SEQUENCES, options->threads}, err) &&
              measure_limits(limits, options->threads, err);
    for (size_t i = 0; ok && i < BENCH_TESTS; i++) {
        const Test *t = &tests[i];
        const size_t number = t->prompt ? t->steps : t->n_sequences > 1 ? t->n_sequences : t->depth;
        snprintf(results[i].test, sizeof results[i].test, "%s %zu", t->name, number);
        if (options->progress) {
            options->progress(results[i].test);
        }
        ok = time_test(&b, t, &seconds[i], err);
        *n_results += ok;
    }
    ok = ok && measure_limits(limits, options->threads, err);
    for (size_t i = 0; i < *n_results; i++) {
        const Test *t = &tests[i];
        results[i].tokens_per_second = (double)(t->steps * t->n_sequences) / seconds[i];
        results[i].share = limit_seconds(&b, t, limits) / seconds[i];
    }
    cache_free(&b.cache);
    scratch_free(&b.scratch);
    free(b.rows);
    return ok || err->kind == ERROR_NONE;
}
