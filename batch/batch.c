// batch.c - many prompts through one model.
//
//     input -> Lines -> Request -> [slot 0 .. n - 1] -> Result -> in order -> output
//
// Continuous batching (Orca, OSDI 2022): every forward pass takes one token of each answer that is
// being made and, beside them, a chunk of the prompts that are being read; a slot whose answer ends
// is given the next request before the next pass. A slot is a sequence of the cache. Pages that a
// prompt has in common with others are found in the cache; where another slot is just computing
// them, it waits for them.
//
// Results are written in the order of the requests, so those that are done early are kept in a
// window until the ones before them are done. Both the window and the pages of the cache are
// bounded: what does not fit waits. No result depends on what ran beside it, on a clock or on where
// an earlier run ended, so a batch that is resumed writes the bytes that it would have written.
#include "batch/batch.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/files.h"
#include "base/threads.h"

#define READ_BYTES       ((size_t)64 << 10)  // at a time
#define MAX_LINE_BYTES   ((size_t)16 << 20)  // of a request: a prompt of 4 million tokens
#define MAX_RESULT_BYTES ((size_t)1 << 30)   // of a result that is read again
#define WINDOW           1024                // results that wait for one before them, at most
#define WINDOW_BYTES     ((size_t)64 << 20)  // and their bytes
#define SYNC_SECONDS     5                   // results that a power failure may cost
#define PROGRESS_SECONDS 0.25

// --------------------------------------------------------------------------------------------
// Lines

typedef struct {
    int fd;
    const char *name;
    size_t limit;       // bytes of a line
    char *buffer;       // (capacity), owned
    size_t capacity;    // grows to the longest line
    size_t begin, end;  // bytes that are read and not yet given out
    size_t scanned;     // of them known to have no newline
    bool skipping;      // within a line that is too long
    bool ended;         // nothing more can be read
} Lines;

typedef enum {
    LINE_FAILED,
    LINE_READ,
    LINE_LAST,      // read, but the input ends without a newline after it
    LINE_TOO_LONG,  // it was skipped
    LINE_NOT_YET,   // it cannot be read without waiting, or a signal came
    LINE_NONE,      // the input has ended
} LineStatus;

// Reads more into the buffer.
static LineStatus read_more(Lines *l, bool wait, Error *err)
{
    struct pollfd ready = {.fd = l->fd, .events = POLLIN};
    if (!wait && poll(&ready, 1, 0) <= 0) {
        return LINE_NOT_YET;
    }
    if (l->begin) {
        memmove(l->buffer, l->buffer + l->begin, l->end - l->begin);
        l->end -= l->begin;
        l->begin = 0;
    }
    if (l->capacity - l->end < READ_BYTES) {
        const size_t capacity = 2 * l->capacity + READ_BYTES;
        char *buffer = realloc(l->buffer, capacity);
        if (!buffer) {
            error_memory(err, "a line", capacity);
            return LINE_FAILED;
        }
        l->buffer = buffer;
        l->capacity = capacity;
    }
    const ssize_t n = read(l->fd, l->buffer + l->end, READ_BYTES);
    if (n < 0 && errno == EINTR) {
        return LINE_NOT_YET;
    }
    if (n < 0) {
        error_set(err, ERROR_INPUT, "%s: cannot be read: %s", l->name, strerror(errno));
        return LINE_FAILED;
    }
    l->ended = n == 0;
    l->end += (size_t)n;
    return LINE_READ;
}

// The next line, without its newline, in the buffer until the next call. Where `wait` is not set,
// only if it is there already.
static LineStatus next_line(Lines *l, bool wait, const char **line, size_t *size, Error *err)
{
    for (;;) {
        const size_t have = l->end - l->begin;
        const char *start = have ? l->buffer + l->begin : NULL;
        const char *newline = have > l->scanned
                                  ? memchr(start + l->scanned, '\n', have - l->scanned)
                                  : NULL;
        const size_t length = newline ? (size_t)(newline - start) : have;
        if (newline || l->ended) {
            const bool too_long = l->skipping || length > l->limit;
            if (!newline && !length && !l->skipping) {
                return LINE_NONE;
            }
            *line = start;
            *size = length;
            l->begin += length + (newline ? 1 : 0);
            l->scanned = 0;
            l->skipping = false;
            return too_long ? LINE_TOO_LONG : newline ? LINE_READ : LINE_LAST;
        }
        l->scanned = have;
        if (l->skipping || have > l->limit) {
            l->skipping = true;
            l->begin = l->end = l->scanned = 0;
        }
        const LineStatus status = read_more(l, wait, err);
        if (status != LINE_READ) {
            return status;
        }
    }
}

static bool is_blank(const char *line, size_t size)
{
    while (size && (line[size - 1] == ' ' || line[size - 1] == '\t' || line[size - 1] == '\r')) {
        size--;
    }
    return size == 0;
}

// Requests of a regular file, from where it stands on: lines, blank ones only where they are
// prompts; 0 of anything else.
static size_t count_requests(int fd, bool lines)
{
    char chunk[4096];
    struct stat st;
    size_t n = 0;
    bool begun = false, filled = false;  // the line that is being read
    off_t at = lseek(fd, 0, SEEK_CUR);
    if (at < 0 || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        return 0;
    }
    for (ssize_t got; (got = pread(fd, chunk, sizeof chunk, at)) > 0; at += got) {
        for (ssize_t i = 0; i < got; i++) {
            const bool end = chunk[i] == '\n';
            n += end && (lines || filled);
            filled = !end && (filled || !is_blank(&chunk[i], 1));
            begun = !end;
        }
    }
    return n + (lines ? begun : filled);
}

// --------------------------------------------------------------------------------------------
// The batch

// A request that is being run: the sequence of the cache with the slot's index.
typedef struct {
    size_t number;  // of its result
    Request request;
    Sequence sequence;
    size_t pages;        // that it may need
    size_t first, rows;  // its rows in this pass
    size_t shared;       // positions of its prompt that were found in the cache
    bool ok;             // no error while sampling
    Error err;
} Slot;

// The result of request i is at i % WINDOW.
typedef struct {
    Buffer line;
    uint64_t failed_line;  // the number of the request's line, where it is an error; else 0
    bool done;
} Result;

typedef struct {
    const BatchOptions *o;
    const Model *model;
    Cache *cache;
    Scratch *scratch;
    BatchStats *stats;
    Lines input;
    uint64_t line;  // number of the next
    Json json;
    Tokens tokens;
    Row *rows;       // (scratch->max_rows)
    Slot *slots;     // (cache->n_sequences)
    size_t *active;  // (n_active): slots that run, the oldest request first
    size_t n_active;
    size_t *idle;  // (n_idle): the others
    size_t n_idle;
    bool held;     // slots[idle[n_idle - 1]] has a request that waits for pages
    bool ended;    // the input has
    size_t pages;  // reserved by the active slots
    Result results[WINDOW];
    size_t first, next;    // results: the first not written, the next to be made
    size_t window_bytes;   // of results that wait
    size_t first_started;  // the first request that was started, for the prompt cache; or SIZE_MAX
    int fd;                // of the output
    bool regular;          // it is a file on disk
    const char *output_name;
    Buffer out;  // lines about to be written
    bool torn;   // writing failed: where it did, nothing may follow
    double synced, drawn, start;
    Error late;  // the prompt cache could not be written: told at the end
} Batch;

// --------------------------------------------------------------------------------------------
// Output

static bool sync_output(Batch *b, Error *err)
{
    b->synced = now_seconds();
    return !b->regular || fsync(b->fd) == 0 ||
           error_set(err, ERROR_RUN, "%s: cannot be written: %s", b->output_name, strerror(errno));
}

// Writes the results that are done and have none before them that is not.
static bool write_results(Batch *b, Error *err)
{
    buffer_clear(&b->out);
    bool ok = true;
    while (b->first < b->next && b->results[b->first % WINDOW].done) {
        Result *r = &b->results[b->first % WINDOW];
        ok = buffer_append(&b->out, r->line.data, r->line.size, err);
        if (!ok) {
            break;  // it stays the first to be written
        }
        b->window_bytes -= r->line.size;
        buffer_free(&r->line);
        if (r->failed_line && !b->stats->failed++) {
            b->stats->first_failed = r->failed_line;
        }
        *r = (Result){0};
        b->first++;
    }
    if (b->out.size && !write_all(b->fd, b->output_name, b->out.data, b->out.size, err)) {
        b->torn = true;
    }
    if (!ok || b->torn) {
        return false;
    }
    return now_seconds() - b->synced < SYNC_SECONDS || sync_output(b, err);
}

// Opens the output: a new file, or with --resume one that may be there, locked against others.
static bool open_output(Batch *b, Error *err)
{
    const char *path = b->o->output;
    struct stat st;
    b->fd = STDOUT_FILENO;
    b->output_name = "standard output";
    if (!path || strcmp(path, "-") == 0) {
        return true;
    }
    b->output_name = path;
    const bool there = stat(path, &st) == 0;
    if (there && !S_ISREG(st.st_mode)) {  // a device or a pipe
        b->fd = open(path, O_WRONLY | O_CLOEXEC);
    } else {
        const int fresh = b->o->resume ? 0 : O_EXCL;
        b->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | fresh, 0666);
        b->regular = true;
    }
    if (b->fd < 0) {
        return errno == EEXIST
                   ? error_set(err, ERROR_USAGE,
                               "--output %s: is there already; expected --resume to go on with it",
                               path)
                   : error_set(err, ERROR_RUN, "%s: cannot be created: %s", path, strerror(errno));
    }
    if (!b->regular && b->o->resume) {
        return error_set(err, ERROR_USAGE, "--resume: %s is not a regular file", path);
    }
    return !b->regular || flock(b->fd, LOCK_EX | LOCK_NB) == 0 ||
           (errno == EWOULDBLOCK
                ? error_set(err, ERROR_RUN, "%s: another process is writing it", path)
                : error_set(err, ERROR_RUN, "%s: cannot be locked: %s", path, strerror(errno)));
}

// --------------------------------------------------------------------------------------------
// Requests

// Reads the next request. `bad` says why it cannot be used, where it cannot; its head is there all
// the same. Blank lines between objects are no requests, but have a number.
static LineStatus next_request(Batch *b, bool wait, Request *r, Error *bad, Error *err)
{
    const RequestDefaults *d = &b->o->defaults;
    const char *line = "";
    size_t size = 0;
    LineStatus status;
    do {
        status = next_line(&b->input, wait, &line, &size, err);
        if (status == LINE_FAILED || status == LINE_NOT_YET || status == LINE_NONE) {
            return status;
        }
        b->line++;
    } while (status != LINE_TOO_LONG && !d->lines && is_blank(line, size));
    *bad = (Error){0};
    const bool ok = status == LINE_TOO_LONG
                        ? request_too_long(r, d, b->line - 1, MAX_LINE_BYTES, bad)
                        : request_read(r, d, &b->json, line, size, b->line - 1, bad);
    if (!ok && bad->kind != ERROR_INPUT) {
        *err = *bad;
        return LINE_FAILED;
    }
    return LINE_READ;
}

// Keeps the results that are in the output already, and cuts off one that is half-written.
static bool resume(Batch *b, Error *err)
{
    Lines kept = {.fd = b->fd, .name = b->output_name, .limit = MAX_RESULT_BYTES};
    Request request = {0};
    Error bad;
    const char *line;
    size_t size, bytes = 0, n = 0;
    bool ok = true;
    LineStatus status;
    while (ok && !*b->o->interrupted &&
           (status = next_line(&kept, true, &line, &size, err)) != LINE_NONE &&
           status != LINE_LAST) {
        if (status == LINE_NOT_YET) {
            continue;
        }
        LineStatus found = status == LINE_FAILED ? LINE_FAILED : LINE_NOT_YET;
        while (found == LINE_NOT_YET && !*b->o->interrupted) {
            found = next_request(b, true, &request, &bad, err);
        }
        if (found == LINE_NOT_YET) {
            break;
        }
        n++;
        const Buffer *head = &request.head;
        if (found == LINE_FAILED) {
            ok = false;
        } else if (status == LINE_TOO_LONG || found == LINE_NONE || size < head->size ||
                   memcmp(line, head->data, head->size) != 0) {
            ok = error_set(err, ERROR_INPUT,
                           "%s: line %zu is not the result of %s %llu of %s with these options; "
                           "nothing was changed (another --output begins anew)",
                           b->output_name, n,
                           found == LINE_NONE ? "any request after line" : "line",
                           (unsigned long long)(b->line - 1), b->input.name);
        } else {
            const bool failed = request_failed(&request, line + head->size, size - head->size);
            bytes += size + 1;
            b->stats->first_failed = failed && !b->stats->failed ? request.number
                                                                 : b->stats->first_failed;
            b->stats->failed += failed;
            b->stats->kept++;
        }
    }
    b->stats->done = b->stats->kept;
    free(kept.buffer);
    request_free(&request);
    if (ok && !*b->o->interrupted &&
        (ftruncate(b->fd, (off_t)bytes) != 0 || lseek(b->fd, (off_t)bytes, SEEK_SET) < 0)) {
        ok = error_set(err, ERROR_RUN, "%s: cannot be cut to its whole lines: %s", b->output_name,
                       strerror(errno));
    }
    return ok;
}

static void complete(Batch *b, Result *r)
{
    r->done = true;
    b->window_bytes += r->line.size;
    b->stats->done++;
}

static bool fail_request(Batch *b, const Request *r, size_t number, const Error *bad, Error *err)
{
    Result *result = &b->results[number % WINDOW];
    if (!request_failure(r, bad, &result->line, err)) {
        return false;
    }
    result->failed_line = r->number;
    complete(b, result);
    return true;
}

// Makes a sequence of a request in an idle slot.
static bool prepare(Batch *b, Slot *slot, size_t index, Error *bad)
{
    const RequestDefaults *d = &b->o->defaults;
    b->tokens.size = 0;
    const SequenceSetup setup = {d->tokenizer, &slot->request.options, b->cache,
                                 index,        slot->request.seed,     slot->request.echo};
    if (!request_encode(&slot->request, d, &b->tokens, bad) ||
        !sequence_start(&slot->sequence, &setup, &b->tokens, bad)) {
        return false;
    }
    const size_t max_tokens = slot->request.options.max_tokens, room = d->context;
    const size_t prompt = slot->sequence.n_prompt;
    slot->pages = cache_pages(max_tokens && max_tokens < room - prompt ? prompt + max_tokens
                                                                       : room);
    return true;
}

// Gives idle slots requests, as far as pages and the window allow. A request that waits for pages
// holds up those after it: so it is never overtaken for ever.
static bool refill(Batch *b, Error *err)
{
    while (b->n_idle && (b->held || (!b->ended && b->next - b->first < WINDOW &&
                                     b->window_bytes < WINDOW_BYTES))) {
        const size_t index = b->idle[b->n_idle - 1];
        Slot *slot = &b->slots[index];
        Error bad;
        if (!b->held) {
            const LineStatus status = next_request(b, b->n_active == 0, &slot->request, &bad, err);
            if (status == LINE_FAILED || status == LINE_NOT_YET || status == LINE_NONE) {
                b->ended = status == LINE_NONE;
                return status != LINE_FAILED;
            }
            slot->number = b->next++;
            if (bad.kind || !prepare(b, slot, index, &bad)) {
                if (bad.kind == ERROR_RUN) {
                    *err = bad;
                    return false;
                }
                if (!fail_request(b, &slot->request, slot->number, &bad, err)) {
                    return false;
                }
                continue;
            }
        }
        b->held = b->n_active && b->pages + slot->pages > b->cache->max_pages;
        if (b->held) {
            return true;
        }
        b->pages += slot->pages;
        slot->shared = 0;
        b->n_idle--;
        b->active[b->n_active++] = index;
        if (b->first_started == SIZE_MAX) {
            b->first_started = slot->number;
        }
    }
    return true;
}

// Takes a slot's request off, its result being made.
static void release(Batch *b, size_t index)
{
    Slot *slot = &b->slots[index];
    size_t i = 0;
    while (b->active[i] != index) {
        i++;
    }
    b->n_active--;
    memmove(&b->active[i], &b->active[i + 1], (b->n_active - i) * sizeof *b->active);
    // A request that waits stays the next to be started.
    b->idle[b->n_idle] = index;
    if (b->held) {
        b->idle[b->n_idle] = b->idle[b->n_idle - 1];
        b->idle[b->n_idle - 1] = index;
    }
    b->n_idle++;
    b->pages -= slot->pages;
    cache_truncate(b->cache, index, 0);
    sequence_free(&slot->sequence);
}

// --------------------------------------------------------------------------------------------
// A pass

// Does a slot's next page wait for another, older one, that has the same tokens up to its end and
// so is going to publish it?
static bool waits_for_page(const Batch *b, size_t order)
{
    const Sequence *s = &b->slots[b->active[order]].sequence;
    const size_t n_past = sequence_n_past(s), end = n_past + PAGE_POSITIONS;
    if (n_past % PAGE_POSITIONS != 0 || end >= s->tokens.size) {
        return false;
    }
    for (size_t i = 0; i < order; i++) {
        const Sequence *older = &b->slots[b->active[i]].sequence;
        if (older->tokens.size >= end &&
            memcmp(older->tokens.ids, s->tokens.ids, end * sizeof *s->tokens.ids) == 0) {
            return true;
        }
    }
    return false;
}

static void add_rows(Batch *b, Slot *slot, size_t max, size_t *n)
{
    slot->first = *n;
    slot->rows = sequence_rows(&slot->sequence, b->rows + *n, max);
    *n += slot->rows;
}

// Chooses the rows of a pass: the next token of each answer, then chunks of prompts, oldest first.
static size_t plan_rows(Batch *b)
{
    size_t n = 0;
    for (size_t i = 0; i < b->n_active; i++) {
        Slot *slot = &b->slots[b->active[i]];
        Sequence *s = &slot->sequence;
        const size_t n_past = sequence_n_past(s);
        slot->rows = 0;
        if (n_past < s->n_prompt) {
            const size_t found = cache_reuse_prefix(b->cache, b->active[i], s->tokens.ids,
                                                    s->tokens.size - 1);
            slot->shared += found - n_past;
            b->stats->shared_tokens += found - n_past;
        }
        if (s->tokens.size - sequence_n_past(s) == 1) {
            add_rows(b, slot, 1, &n);
        }
    }
    for (size_t i = 0; i < b->n_active && n < b->scratch->max_rows; i++) {
        Slot *slot = &b->slots[b->active[i]];
        if (!slot->rows && !waits_for_page(b, i)) {
            add_rows(b, slot, b->scratch->max_rows - n, &n);
        }
    }
    return n;
}

// Samples the next token of a slot, where its last row has logits.
static void sample(const Batch *b, Slot *slot)
{
    const float *logits = slot->rows ? b->rows[slot->first + slot->rows - 1].logits : NULL;
    if (logits) {
        slot->ok = sequence_accept(&slot->sequence, logits, &slot->err);
    }
}

// The slots are shared out among the threads.
static void sample_slots(Team team, void *arg)
{
    const Batch *b = arg;
    for (size_t i = team.id; i < b->n_active; i += team.size) {
        sample(b, &b->slots[b->active[i]]);
    }
}

// What prompt and answer of a slot have come to in this pass.
static bool finish_slot(Batch *b, size_t index, Error *err)
{
    Slot *slot = &b->slots[index];
    Sequence *s = &slot->sequence;
    if (!slot->ok && slot->err.kind == ERROR_RUN) {
        *err = slot->err;
        return false;
    }
    if (!slot->ok) {
        const bool told = fail_request(b, &slot->request, slot->number, &slot->err, err);
        release(b, index);
        return told;
    }
    if (sequence_n_past(s) >= s->n_prompt && slot->number == b->first_started) {
        prompt_cache_save(b->o->prompt_cache, b->cache, index, s->n_prompt, slot->shared, &b->late);
    }
    if (!s->finish) {
        return true;
    }
    Result *result = &b->results[slot->number % WINDOW];
    if (!request_result(&slot->request, s, &result->line, err)) {
        return false;
    }
    complete(b, result);
    b->stats->prompt_tokens += s->n_prompt;
    b->stats->new_tokens += s->tokens.size - s->n_prompt;
    release(b, index);
    return true;
}

// After a pass that failed: each slot's rows alone, to find the request that it was.
static bool run_apart(Batch *b, Error *err)
{
    for (size_t i = 0; i < b->n_active; i++) {
        Slot *slot = &b->slots[b->active[i]];
        if (!slot->rows) {
            continue;
        }
        slot->ok = forward(b->model, b->cache, b->scratch, b->rows + slot->first, slot->rows,
                           &slot->err);
        if (slot->ok) {
            sample(b, slot);
        }
        if (!slot->ok && slot->err.kind == ERROR_RUN) {
            *err = slot->err;
            return false;
        }
    }
    return true;
}

// One forward pass over what all slots have to run, and one more token for those that had run all.
static bool step(Batch *b, Error *err)
{
    const size_t n = plan_rows(b);
    for (size_t i = 0; i < b->n_active; i++) {
        b->slots[b->active[i]].ok = true;
    }
    if (forward(b->model, b->cache, b->scratch, b->rows, n, err)) {
        const size_t threads = b->scratch->threads;
        team_run(threads < b->n_active ? threads : b->n_active, sample_slots, b);
    } else if (err->kind != ERROR_INPUT || !run_apart(b, err)) {
        return false;
    }
    for (size_t i = b->n_active; i > 0; i--) {  // from the end: a slot that is done leaves the list
        if (!finish_slot(b, b->active[i - 1], err)) {
            return false;
        }
    }
    return true;
}

static void draw_progress(Batch *b)
{
    const double now = now_seconds();
    if (b->o->progress && now - b->drawn >= PROGRESS_SECONDS) {
        b->drawn = now;
        b->stats->seconds = now - b->start;
        b->o->progress(b->stats);
    }
}

// --------------------------------------------------------------------------------------------
// From beginning to end

static bool batch_open(Batch *b, Error *err)
{
    const BatchOptions *o = b->o;
    const bool standard = strcmp(o->input, "-") == 0;
    const size_t n = b->cache->n_sequences;
    b->input = (Lines){.fd = standard ? STDIN_FILENO : open(o->input, O_RDONLY | O_CLOEXEC),
                       .name = standard ? "standard input" : o->input,
                       .limit = MAX_LINE_BYTES};
    if (b->input.fd < 0) {
        return error_set(err, ERROR_INPUT, "%s: cannot be opened: %s", o->input, strerror(errno));
    }
    b->rows = calloc(b->scratch->max_rows, sizeof *b->rows);
    b->slots = calloc(n, sizeof *b->slots);
    b->active = calloc(n, sizeof *b->active);
    b->idle = calloc(n, sizeof *b->idle);
    if (!b->rows || !b->slots || !b->active || !b->idle) {
        return error_memory(err, "the slots of a batch", n * sizeof *b->slots);
    }
    for (size_t i = 0; i < n; i++) {
        b->idle[b->n_idle++] = n - 1 - i;
    }
    b->stats->total = o->progress ? count_requests(b->input.fd, o->defaults.lines) : 0;
    return open_output(b, err) && (!o->resume || resume(b, err));
}

static void batch_close(Batch *b)
{
    for (size_t i = 0; b->slots && i < b->cache->n_sequences; i++) {
        sequence_free(&b->slots[i].sequence);
        request_free(&b->slots[i].request);
    }
    for (size_t i = 0; i < WINDOW; i++) {
        buffer_free(&b->results[i].line);
    }
    if (b->input.fd > STDIN_FILENO) {
        close(b->input.fd);
    }
    if (b->fd > STDOUT_FILENO) {
        close(b->fd);
    }
    free(b->input.buffer);
    json_free(&b->json);
    tokens_free(&b->tokens);
    buffer_free(&b->out);
    free(b->rows);
    free(b->slots);
    free(b->active);
    free(b->idle);
    free(b);
}

bool batch_run(const BatchOptions *options, const Model *model, Cache *cache, Scratch *scratch,
               BatchStats *stats, Error *err)
{
    Batch *b = calloc(1, sizeof *b);
    if (!b) {
        return error_memory(err, "a batch", sizeof *b);
    }
    *stats = (BatchStats){0};
    b->o = options;
    b->model = model;
    b->cache = cache;
    b->scratch = scratch;
    b->stats = stats;
    b->line = options->first_line;
    b->first_started = SIZE_MAX;
    b->fd = -1;
    b->start = b->synced = b->drawn = now_seconds();
    bool ok = batch_open(b, err);
    const bool opened = ok;
    while (ok && !*options->interrupted && (ok = refill(b, err) && write_results(b, err)) &&
           (b->n_active || !b->ended)) {
        if (b->n_active) {
            ok = step(b, err) && write_results(b, err);
        }
        draw_progress(b);
    }
    // What is done is kept, whatever has happened.
    Error last;
    if (opened && ((!b->torn && !write_results(b, &last)) || !sync_output(b, &last)) && ok) {
        *err = last;
        ok = false;
    }
    if (ok && b->late.kind) {
        *err = b->late;
        ok = false;
    }
    stats->done = stats->kept + b->first;  // not those behind one that an interruption left undone
    stats->seconds = now_seconds() - b->start;
    batch_close(b);
    return ok;
}
