// bench.c - how fast a model runs here, compared with what the machine allows: --bench. See
// modes.h.
//
// It times the forward pass on six standard loads. The machine's limits are measured before and
// after them, in the same process, so that the share of the limit is meaningful on a noisy machine.
//
// Each test gets a part of BENCH_SECONDS. A quick pass shows how long a token takes; from this
// follow the tokens of a repetition and the number of repetitions. A small model runs each full
// load several times, a model of 7 billion parameters runs part of it once; the table shows both
// numbers.
//
// The limit of a load is the longer of two times: reading the weights (and the keys and values)
// once per pass at the speed of memory, and multiplying each weight by each row at the peak rate
// for the type of the weights.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/threads.h"
#include "cli/bench.h"
#include "cli/modes.h"

#define READ_BYTES    ((size_t)512 << 20)  // larger than the caches of most processors
#define PEAK_STEPS    ((size_t)1 << 20)    // enough to make the start of the threads negligible
#define PEAK_PARTS    16                   // pieces of a thread's steps
#define PEAK_OPERANDS 256                  // bytes that peak_int8 reads
#define LIMIT_ROUNDS  5                    // the best one counts: noise only slows a round down
#define LIMIT_SECONDS 2.0                  // after two rounds, none starts later than this

#define BENCH_SECONDS 45.0  // for all tests together, unless the quick passes alone take longer
#define BENCH_TESTS   6
#define MIN_CONTEXT   64   // a context up to this length is too short for the tests
#define SMALL_PROMPT  256  // tokens
#define LARGE_PROMPT  2048
#define QUICK_PROMPT  16  // tokens in the quick pass of a prompt
#define DECODE_TOKENS 32  // passes in a repetition, of one token per sequence
#define MAX_SEQUENCES 16

// A test is repeated until it has run this long in total, within bounds. The median counts.
#define REPEAT_SECONDS 2.0
#define MIN_REPEATS    3  // fewer if its part of BENCH_SECONDS is used up
#define MAX_REPEATS    9

// --------------------------------------------------------------------------------------------
// Limits

// The rates of all threads together: sequential reads of memory, and multiply-adds with the
// instructions of the kernels, on operands in registers or the first-level cache.
typedef struct {
    double read_gbs;    // 1e9 bytes/s
    double int8_gmacs;  // 1e9 multiply-adds/s
    double f32_gmacs;   // 1e9 multiply-adds/s
} Limits;

typedef enum { PEAK_READ, PEAK_INT8, PEAK_F32 } PeakKind;

typedef struct {
    PeakKind what;
    float *memory;   // (READ_BYTES)
    size_t threads;  // that were requested: the work does not depend on how many there are
} Peak;

static void peak_thread(Team team, void *arg)
{
    Peak *p = arg;
    _Alignas(64) uint8_t operands[PEAK_OPERANDS];
    memset(operands, 3, sizeof operands);  // small, so that the sums stay below 2^31
    TeamStep step = team_step(team,
                              p->what == PEAK_READ ? READ_BYTES / 4096 : p->threads * PEAK_PARTS);
    while (team_claim(&step)) {
        const size_t units = step.end - step.begin;
        // Volatile, so that the compiler cannot remove the work.
        volatile float sink =
            p->what == PEAK_READ ? ops_kernels->read(p->memory + step.begin * 1024, units * 1024)
            : p->what == PEAK_INT8
                ? ops_kernels->peak_int8(units * PEAK_STEPS / PEAK_PARTS, operands)
                : ops_kernels->peak_f32(units * PEAK_STEPS / PEAK_PARTS, p->memory);
        (void)sink;
    }
}

// Untouched pages are all the same zero page, which would be read from the caches.
static void fill_thread(Team team, void *arg)
{
    float *memory = arg;
    const size_t floats = 4096 / sizeof *memory;
    TeamStep step = team_step(team, READ_BYTES / 4096);
    while (team_claim(&step)) {
        for (size_t i = step.begin * floats; i < step.end * floats; i++) {
            memory[i] = 0.5f;
        }
    }
}

// Seconds of the best of several rounds.
static double best_time(Peak *p, size_t threads)
{
    const double first = now_seconds();
    double best = 1e30, end = first;
    for (int round = 0; round < LIMIT_ROUNDS && (round < 2 || end - first < LIMIT_SECONDS);
         round++) {
        const double start = now_seconds();
        team_run(threads, peak_thread, p);
        end = now_seconds();
        best = end - start < best ? end - start : best;
    }
    return best;
}

// Measures the limits, and raises each one that is now higher. `memory` (READ_BYTES) must have been
// filled.
static void measure_limits(Limits *limits, float *memory, size_t threads)
{
    Peak p = {.memory = memory, .threads = threads};
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
}

// --------------------------------------------------------------------------------------------
// Tests

// Either a prompt of `steps` tokens, or `steps` passes of one token for each of n_sequences, the
// first of which already holds `depth` tokens.
typedef struct {
    const char *name;
    bool prompt;
    double weight;  // its share of the time left, relative to the tests after it
    size_t depth, steps, n_sequences;
} Test;

typedef struct {
    char test[32];
    Test measured;     // with the steps of one repetition
    double seconds;    // of one repetition: the median
    size_t n_repeats;  // fewer than MIN_REPEATS if there was no time for more
    double tokens_per_second;
    double share;  // tokens_per_second, as a fraction of those at the limit
} BenchResult;

typedef struct {
    Engine *engine;
    Output *out;
    size_t chunk;     // prompt tokens per pass
    double deadline;  // when BENCH_SECONDS are over, by now_seconds
    Limits limits;
    BenchResult results[BENCH_TESTS];
    size_t n_results;  // fewer than BENCH_TESTS after an interruption
} Bench;

// Runs the engine's first n rows. After an interruption it returns false without an error.
static bool run_bench_rows(Bench *b, size_t n, Error *err)
{
    Engine *e = b->engine;
    return forward(&e->model, &e->cache, &e->scratch, e->rows, n, err) && !*output_interrupted();
}

// Different tokens, so that rows are looked up all over the embedding, as for real text.
static int some_token(const Bench *b, size_t number)
{
    return (int)(number * 7919 % b->engine->model.config.vocab_size);
}

// Appends a prompt of n tokens to the first sequence, chunk by chunk.
static bool run_prompt(Bench *b, size_t n, Error *err)
{
    for (size_t done = 0, rows; done < n; done += rows) {
        rows = n - done < b->chunk ? n - done : b->chunk;
        for (size_t i = 0; i < rows; i++) {
            b->engine->rows[i] = (Row){.token = some_token(b, done + i),
                                       .wants_logits = done + i + 1 == n};
        }
        if (!run_bench_rows(b, rows, err)) {
            return false;
        }
    }
    return true;
}

// Runs t->steps passes, each with one token of every sequence.
static bool run_tokens(Bench *b, const Test *t, Error *err)
{
    for (size_t step = 0; step < t->steps; step++) {
        for (size_t i = 0; i < t->n_sequences; i++) {
            b->engine->rows[i] = (Row){
                .token = some_token(b, step + i), .sequence = i, .wants_logits = true};
        }
        if (!run_bench_rows(b, t->n_sequences, err)) {
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

// Runs a test once. A decode test at a depth comes right after the prompt of that length, and finds
// its tokens in the first sequence.
static bool time_once(Bench *b, const Test *t, double *seconds, Error *err)
{
    for (size_t i = 0; i < MAX_SEQUENCES; i++) {
        cache_truncate(&b->engine->cache, i, i == 0 ? t->depth : 0);
    }
    const double start = now_seconds();
    const bool ok = t->prompt ? run_prompt(b, t->steps, err) : run_tokens(b, t, err);
    *seconds = now_seconds() - start;
    return ok;
}

size_t bench_steps(size_t full, size_t least, double step_seconds, double budget)
{
    size_t steps = full;
    while (steps / 2 >= least && (double)steps * step_seconds > budget) {
        steps /= 2;
    }
    return steps;
}

bool bench_repeats(size_t n, double total, double budget)
{
    if (n < MIN_REPEATS) {
        return n == 0 || total + total / (double)n <= budget;
    }
    return n < MAX_REPEATS && total < REPEAT_SECONDS;
}

// Measures test i in `budget` seconds: a quick pass, then as many repetitions as fit.
static bool run_test(Bench *b, size_t i, double budget, Error *err)
{
    BenchResult *r = &b->results[i];
    Test quick = r->measured;
    const size_t least = quick.prompt ? QUICK_PROMPT : 1;
    quick.steps = least < quick.steps ? least : quick.steps;
    double times[MAX_REPEATS], total = 0;
    if (!time_once(b, &quick, &times[0], err)) {
        return false;
    }
    budget -= times[0];
    r->measured.steps = bench_steps(r->measured.steps, quick.steps, times[0] / (double)quick.steps,
                                    budget);
    if (r->measured.steps == quick.steps) {
        total = times[r->n_repeats++];  // the quick pass counts as a repetition
    }
    while (bench_repeats(r->n_repeats, total, budget)) {
        output_progress(b->out, "test %zu of %d: %s, repetition %zu; at most %.0f s left", i + 1,
                        BENCH_TESTS, r->test, r->n_repeats + 1,
                        fmax(b->deadline - now_seconds(), 0));
        if (!time_once(b, &r->measured, &times[r->n_repeats], err)) {
            return false;
        }
        total += times[r->n_repeats++];
    }
    qsort(times, r->n_repeats, sizeof *times, compare_times);
    r->seconds = times[r->n_repeats / 2];
    return true;
}

// Seconds that the reads and the multiplications take at the limits.
typedef struct {
    double read, multiply;
} Load;

// Adds a multiplication of a matrix by `rows` rows, each of which needs a `part` of it: of the
// matrices of experts, those that are used. If all are as likely, the rows together read all but
// (1 - part)^rows of it.
static void add_matrix(Load *load, const Limits *l, const Matrix *m, double rows, double part)
{
    size_t bytes;
    if (matrix_bytes(m->type, m->rows, m->cols, &bytes)) {
        load->read += (double)bytes * (1 - pow(1 - part, rows)) / (l->read_gbs * 1e9);
    }
    const double peak = weight_types[m->type].quantized ? l->int8_gmacs : l->f32_gmacs;
    load->multiply += (double)m->rows * (double)m->cols * rows * part / (peak * 1e9);
}

// Seconds of a repetition at the limits. This leaves out the products of attention, and reads of
// activations, which stay in the caches.
static double limit_seconds(const Bench *b, const Test *t)
{
    const Model *m = &b->engine->model;
    const Limits *l = &b->limits;
    const double chunk = (double)(b->chunk < t->steps ? b->chunk : t->steps);
    const double passes = t->prompt ? (double)t->steps / chunk : (double)t->steps;
    const double rows = t->prompt ? chunk : (double)t->n_sequences;
    const Config *p = &m->config;
    const double used = p->n_experts ? (double)p->n_experts_used / (double)p->n_experts : 1;
    Load blocks = {0, 0}, head = {0, 0};
    for (size_t i = 0; i < m->config.n_layers; i++) {
        const Block *k = &m->blocks[i];
        const Matrix *matrices[] = {&k->q_proj,    &k->k_proj,  &k->v_proj,   &k->o_proj,
                                    &k->gate_proj, &k->up_proj, &k->down_proj};
        for (size_t j = 0; j < sizeof matrices / sizeof *matrices; j++) {
            add_matrix(&blocks, l, matrices[j], rows, j < 4 ? 1 : used);
        }
        if (p->n_experts) {
            add_matrix(&blocks, l, &k->router, rows, 1);
        }
    }
    add_matrix(&head, l, &m->lm_head, t->prompt ? 1 : rows, 1);
    const double head_passes = t->prompt ? 1 : passes;  // a prompt wants logits of its last token
    if (!t->prompt) {
        const double position_bytes = (double)b->engine->cache.page_bytes / PAGE_POSITIONS;
        const double past = (double)t->depth + (double)t->steps / 2;
        blocks.read += position_bytes * past * rows / (l->read_gbs * 1e9);
    }
    const double read = blocks.read * passes + head.read * head_passes;
    const double multiply = blocks.multiply * passes + head.multiply * head_passes;
    return read > multiply ? read : multiply;
}

// Plans the tests, with prompts and depths that fit the context.
static void plan_tests(Bench *b)
{
    const size_t most = b->engine->cache.context - DECODE_TOKENS;  // leaves room to decode
    const size_t small = most < SMALL_PROMPT ? most : SMALL_PROMPT;
    const size_t large = most < LARGE_PROMPT ? most : LARGE_PROMPT;
    // The long prompt gets more time, because its length is also the depth of the next test.
    const Test tests[BENCH_TESTS] = {
        {"prompt", true, 1, 0, small, 1},
        {"prompt", true, 3, 0, large, 1},
        {"decode at depth", false, 1, large, DECODE_TOKENS, 1},
        {"decode at depth", false, 1, 0, DECODE_TOKENS, 1},
        {"batch", false, 1, 0, DECODE_TOKENS, 8},
        {"batch", false, 1, 0, DECODE_TOKENS, MAX_SEQUENCES},
    };
    for (size_t i = 0; i < BENCH_TESTS; i++) {
        b->results[i].measured = tests[i];
    }
}

// Names a result by what is, or was, measured: "prompt 256", "batch 8".
static void name_result(BenchResult *r)
{
    const Test *t = &r->measured;
    const size_t number = t->prompt ? t->steps : t->n_sequences > 1 ? t->n_sequences : t->depth;
    snprintf(r->test, sizeof r->test, "%s %zu", t->name, number);
}

// Runs all tests. Time that one does not use is shared by those after it.
static bool run_all_tests(Bench *b, Error *err)
{
    double weight = 0, seconds;
    const Test first = {.steps = 1, .n_sequences = 1};
    for (size_t i = 0; i < BENCH_TESTS; i++) {
        weight += b->results[i].measured.weight;
    }
    output_progress(b->out, "reading the weights");
    bool ok = time_once(b, &first, &seconds, err);  // may read them from disk
    for (size_t i = 0; ok && i < BENCH_TESTS; i++) {
        BenchResult *r = &b->results[i];
        if (r->measured.depth) {
            r->measured.depth = cache_length(&b->engine->cache, 0);  // of the prompt as it was run
        }
        name_result(r);
        output_progress(b->out, "test %zu of %d: %s", i + 1, BENCH_TESTS, r->test);
        const double left = fmax(b->deadline - now_seconds(), 0);
        ok = run_test(b, i, left * r->measured.weight / weight, err);
        name_result(r);
        weight -= r->measured.weight;
        b->n_results += ok;
    }
    return ok;
}

// Runs the tests, and measures the limits before and after them. The memory for this is kept in
// between, because allocating it can take longer than reading it. After an interruption it returns
// true, with the results so far.
static bool run_tests(Bench *b, Error *err)
{
    const size_t threads = b->engine->threads;
    float *memory = memory_map(READ_BYTES);
    if (!memory) {
        return error_memory(err, "the test of the memory", READ_BYTES);
    }
    output_progress(b->out, "measuring the machine's limits");
    team_run(threads, fill_thread, memory);
    measure_limits(&b->limits, memory, threads);
    plan_tests(b);
    b->deadline = now_seconds() + BENCH_SECONDS;
    const bool ok = run_all_tests(b, err);
    if (ok) {
        output_progress(b->out, "measuring the machine's limits again");
        measure_limits(&b->limits, memory, threads);
    }
    memory_unmap(memory, READ_BYTES);
    output_wipe(b->out);
    for (size_t i = 0; i < b->n_results; i++) {
        BenchResult *r = &b->results[i];
        const Test *t = &r->measured;
        r->tokens_per_second = (double)(t->steps * t->n_sequences) / r->seconds;
        r->share = limit_seconds(b, t) / r->seconds;
    }
    return ok || err->kind == ERROR_NONE;
}

// --------------------------------------------------------------------------------------------
// The mode

static void put_json(Buffer *text, const Bench *b)
{
    JsonWriter w = {text, false};
    json_open(&w, NULL, '{');
    json_put_count(&w, "threads", b->engine->threads);
    json_put_text(&w, "simd", ops_name());
    json_open(&w, "limits", '{');
    json_put_real(&w, "read_gbs", b->limits.read_gbs, 2);
    json_put_real(&w, "int8_gmacs", b->limits.int8_gmacs, 2);
    json_put_real(&w, "f32_gmacs", b->limits.f32_gmacs, 2);
    json_close(&w, '}');
    json_open(&w, "results", '[');
    for (size_t i = 0; i < b->n_results; i++) {
        json_open(&w, NULL, '{');
        const BenchResult *r = &b->results[i];
        json_put_text(&w, "test", r->test);
        json_put_count(&w, "tokens", r->measured.steps * r->measured.n_sequences);
        json_put_count(&w, "repetitions", r->n_repeats);
        json_put_real(&w, "tokens_per_second", r->tokens_per_second, 3);
        json_put_real(&w, "share", r->share, 4);
        json_close(&w, '}');
    }
    json_close(&w, ']');
    json_close(&w, '}');
    buffer_add_text(text, "\n");
}

static void put_table(Buffer *text, const Bench *b)
{
    buffer_addf(text, "%zu thread(s), %s\n", b->engine->threads, ops_name());
    buffer_addf(text, "memory read %.1f GB/s, int8 %.0f and f32 %.0f billion multiply-adds/s\n\n",
                b->limits.read_gbs, b->limits.int8_gmacs, b->limits.f32_gmacs);
    buffer_addf(text, "%-22s %13s %12s %15s\n", "test", "tokens", "tokens/s", "share of limit");
    for (size_t i = 0; i < b->n_results; i++) {
        const BenchResult *r = &b->results[i];
        buffer_addf(text, "%-22s %8zu x %zu %14.1f %13.0f %%\n", r->test,
                    r->measured.steps * r->measured.n_sequences, r->n_repeats, r->tokens_per_second,
                    r->share * 100);
    }
}

bool mode_bench(Engine *e, const Options *o, Output *out, Error *err)
{
    const size_t chunk = o->chunk, rows = chunk < MAX_SEQUENCES ? MAX_SEQUENCES : chunk;
    Bench bench = {.engine = e, .out = out, .chunk = chunk};
    Buffer text = {0};
    if (e->context <= MIN_CONTEXT) {
        return error_set(err, ERROR_INPUT, "--bench: the context is %zu, expected more than %d",
                         e->context, MIN_CONTEXT);
    }
    if (!engine_open_cache(e, MAX_SEQUENCES, rows, MAX_SEQUENCES, err)) {
        return false;
    }
    output_catch_signals();
    if (!run_tests(&bench, err)) {
        return false;
    }
    if (o->json) {
        put_json(&text, &bench);
    } else {
        put_table(&text, &bench);
    }
    const bool ok = output_write(out, &text, err);
    buffer_free(&text);
    return ok;
}
