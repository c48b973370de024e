// batch.c - many prompts through one model.
//
//     Lines -> Request -> [slot 0 .. n - 1] -> Results -> output
//                          one forward pass
//                          after the other
//
// Continuous batching (Yu et al., Orca, OSDI 2022): the batch is put together anew for every
// forward pass, not for every group of requests. A slot whose answer ends is given the next request
// before the next pass, so no slot is idle while others finish long answers; and prompts are read
// in the same passes in which answers are made (slots.c).
//
// A request's result depends on the request, the model and the options alone. What runs beside it
// cannot reach it:
//   - a row's logits are the same bits whichever rows are in the pass: no sum crosses rows, and
//     each has one fixed order (model.h);
//   - pages that it shares with others hold what it would have computed itself, to the bit;
//   - it has its own sampler, whose seed comes from its line and --seed;
//   - no clock and no count of what was done before is in a result.
// So a batch that is resumed writes the bytes that it would have written.
//
// Memory is bounded: by the window of results, by the cache, whose pages a request reserves before
// it starts, and by the limit on a line. What does not fit waits.
#include "batch/batch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "batch/lines.h"
#include "batch/request.h"
#include "batch/results.h"
#include "batch/slots.h"

// Bytes of a result in the output, at most, when it is read again: more than any result has.
#define MAX_RESULT_BYTES ((size_t)1 << 30)
// Between two calls of progress: often enough to look alive.
#define PROGRESS_SECONDS 0.25

typedef struct {
    // The caller's.
    Engine *engine;           // with a sequence for each slot
    const BatchSetup *setup;  // what to do
    BatchStats *stats;        // filled as the batch goes on
    // The input.
    Lines input;
    bool ended;                // nothing more can be read from it
    RequestDefaults defaults;  // what its requests have in common
    Json json;                 // owned: the line that was read last
    Tokens prompt;             // owned: of the request that is being encoded
    // The work.
    Slots slots;
    size_t first_started;  // number of the first request that was started; SIZE_MAX: none yet
    Error cache_error;     // why the prompt cache could not be written: told at the end
    // The output, and the results that wait to be written to it.
    Results results;
    // Times, by now_seconds.
    double start;  // of this run
    double told;   // when progress was last told
} Batch;

// --------------------------------------------------------------------------------------------
// Requests

// Reads the next request. Blank lines between objects are no requests, but are counted as lines. A
// byte order mark is no part of the file that it begins; before an object it is none of that
// either, wherever it stands: files with marks may have been joined.
static LineStatus next_request(Batch *b, bool wait, Request *r, Error *err)
{
    const Options *o = b->setup->options;
    Line line;
    LineStatus status;
    do {
        status = lines_next(&b->input, wait, &line, err);
        if (status != LINE_READ) {
            return status;
        }
        if (!o->lines || line.number == o->first_line) {
            line_skip_mark(&line);
        }
    } while (!o->lines && !line.too_long && line_is_blank(&line));
    return request_read(r, &b->defaults, &b->json, &line, err) ? LINE_READ : LINE_FAILED;
}

// Delivers the result of a request: the text of its sequence, or if that is NULL its failure.
static bool deliver(Batch *b, const Request *r, const Sequence *s, size_t number, Error *err)
{
    Buffer line = {0};
    if (s) {
        request_result(r, s, &line);
    } else {
        request_failure(r, &line);
    }
    if (!buffer_check(&line, err)) {
        buffer_free(&line);
        return false;
    }
    results_deliver(&b->results, number, &line, s ? 0 : r->number);
    b->stats->done++;
    return true;
}

// --------------------------------------------------------------------------------------------
// Resuming
//
// The results in the output are those of the first requests, because they are written in order. So
// the input is read along with them, a request for each result, and the result has to begin with
// the head of its request. That has the number of the line and, unless a plain object gives an id
// of its own, a hash of the line, the model and the options: another input, model or option is
// refused before anything is changed. What follows the head need not be compared; the same request
// has the same result.

// Keeps a line of the output, if it is the result of the next request.
static bool keep_result(Batch *b, const Line *line, Request *r, Error *err)
{
    LineStatus status = LINE_PENDING;
    while (status == LINE_PENDING && !*b->setup->interrupted) {
        status = next_request(b, true, r, err);
    }
    if (status == LINE_FAILED || status == LINE_PENDING) {
        return status == LINE_PENDING;  // interrupted
    }
    if (status == LINE_END || line->size < r->head.size ||
        memcmp(line->text, r->head.data, r->head.size) != 0) {
        return error_set(err, ERROR_INPUT,
                         "%s: line %llu is not the result of %s %llu of %s with these options; "
                         "nothing was changed (use another --output to start over)",
                         b->results.name, (unsigned long long)line->number,
                         status == LINE_END ? "any request after line" : "line",
                         (unsigned long long)(b->input.number - 1), b->input.name);
    }
    const bool failed = request_failed(r, line->text + r->head.size, line->size - r->head.size);
    results_keep(&b->results, line->size + 1, failed ? r->number : 0);
    return true;
}

// Keeps the results that are in the output, and cuts off a last one that is half-written.
static bool resume(Batch *b, Error *err)
{
    Lines output = {
        .fd = b->results.fd, .name = b->results.name, .limit = MAX_RESULT_BYTES, .number = 1};
    Request request = {0};
    Line line;
    LineStatus status = LINE_READ;
    while (!*b->setup->interrupted && (status == LINE_READ || status == LINE_PENDING)) {
        status = lines_next(&output, true, &line, err);
        if (status == LINE_READ && !line.ended && !line.too_long) {
            status = LINE_END;
        } else if (status == LINE_READ && !keep_result(b, &line, &request, err)) {
            status = LINE_FAILED;
        }
    }
    lines_free(&output);
    request_free(&request);
    b->stats->done = b->stats->kept = b->results.kept;
    return status != LINE_FAILED && (*b->setup->interrupted || results_cut(&b->results, err));
}

// --------------------------------------------------------------------------------------------
// Starting requests

// Prepares the next slot's request to be started. A request that cannot be answered fails here.
static bool prepare(Batch *b, Slot *slot, Error *err)
{
    Request *r = &slot->request;
    slot->number = results_promise(&b->results);
    b->prompt.size = 0;
    if (r->failure.kind == ERROR_NONE && request_encode(r, &b->defaults, &b->prompt, &r->failure) &&
        slots_fill(&b->slots, b->defaults.tokenizer, &b->prompt, &r->failure)) {
        return true;
    }
    if (r->failure.kind == ERROR_RUN) {
        *err = r->failure;
        return false;
    }
    return deliver(b, r, NULL, slot->number, err);
}

// Fills the next slot with a request, if one can be read and the window has room for its result.
// Waits for input only when there is nothing else to do: what comes through a pipe is answered
// before the pipe ends.
static LineStatus fill_next(Batch *b, Slot *slot, Error *err)
{
    if (b->ended || !results_have_room(&b->results)) {
        return LINE_PENDING;
    }
    const LineStatus status = next_request(b, !b->slots.n_active, &slot->request, err);
    b->ended = status == LINE_END;
    return status != LINE_READ || prepare(b, slot, err) ? status : LINE_FAILED;
}

// Starts requests in all slots that are idle, as far as there are requests and pages for them.
//
// A request that waits for pages holds up all those after it, even ones that would fit: were they
// let past it, a stream of short requests could keep a long one waiting for ever.
static bool refill(Batch *b, Error *err)
{
    Slot *slot;
    while ((slot = slots_next(&b->slots))) {
        const LineStatus status = b->slots.waiting ? LINE_READ : fill_next(b, slot, err);
        if (status != LINE_READ) {
            return status != LINE_FAILED;
        }
        if (!b->slots.waiting) {
            continue;  // the request failed
        }
        if (!slots_start(&b->slots)) {
            return true;
        }
        if (b->first_started == SIZE_MAX) {
            b->first_started = slot->number;
        }
    }
    return true;
}

// --------------------------------------------------------------------------------------------
// Running them

// Sees what a pass has made of an active slot: its request may have failed, its prompt or its
// answer may be complete.
static bool finish_slot(Batch *b, size_t place, Error *err)
{
    Slot *slot = slots_active(&b->slots, place);
    Request *r = &slot->request;
    const Sequence *s = &slot->sequence;
    const Step *step = slot->step;
    if (!step->ok) {
        r->failure = step->err;
        const bool ok = deliver(b, r, NULL, slot->number, err);
        slots_release(&b->slots, place);
        return ok;
    }
    // The beginning of the first prompt goes to the prompt cache, once all of it has been run.
    if (slot->number == b->first_started && sequence_n_past(s) >= s->n_prompt) {
        prompt_cache_save(b->setup->prompt_cache, &b->engine->cache, s->slot, s->n_prompt,
                          &b->cache_error);
    }
    if (!s->finish) {
        return true;
    }
    if (!deliver(b, r, s, slot->number, err)) {
        return false;
    }
    b->stats->prompt_tokens += s->n_prompt;
    b->stats->shared_tokens += slot->shared;
    b->stats->new_tokens += s->tokens.size - s->n_prompt;
    slots_release(&b->slots, place);
    return true;
}

// One forward pass over all active slots, and what comes of it.
static bool run_pass(Batch *b, Error *err)
{
    Slots *slots = &b->slots;
    slots_plan(slots);
    if (!decode(b->engine, slots->steps, slots->n_steps, err)) {
        if (slots->n_steps > 1 || err->kind != ERROR_INPUT) {
            return false;
        }
        // The error of a single step is returned, not told in the step; only its request fails.
        slots->steps[0].ok = false;
        slots->steps[0].err = *err;
    }
    // From the end: a slot that is done leaves the order.
    for (size_t i = slots->n_active; i > 0; i--) {
        if (slots_active(slots, i - 1)->step && !finish_slot(b, i - 1, err)) {
            return false;
        }
    }
    return true;
}

static void tell_progress(Batch *b)
{
    const double now = now_seconds();
    if (b->setup->progress && now - b->told >= PROGRESS_SECONDS) {
        b->told = now;
        b->stats->seconds = now - b->start;
        b->setup->progress(b->setup->arg, b->stats);
    }
}

// Runs until the input is done or the run is interrupted.
static bool run_all(Batch *b, Error *err)
{
    while (!*b->setup->interrupted) {
        if (!refill(b, err) || !results_write(&b->results, err)) {
            return false;
        }
        if (!b->slots.n_active && b->ended) {
            return true;
        }
        if (b->slots.n_active && (!run_pass(b, err) || !results_write(&b->results, err))) {
            return false;
        }
        tell_progress(b);
    }
    return true;
}

// --------------------------------------------------------------------------------------------
// From start to end

static bool open_input(Batch *b, Error *err)
{
    const Options *o = b->setup->options;
    const bool standard = strcmp(o->batch, "-") == 0;
    LineStatus status = LINE_PENDING;
    b->input = (Lines){.fd = standard ? STDIN_FILENO : open(o->batch, O_RDONLY | O_CLOEXEC),
                       .name = standard ? "standard input" : o->batch,
                       .limit = REQUEST_MAX_BYTES,
                       .number = o->first_line};
    if (b->input.fd < 0) {
        return error_set(err, ERROR_INPUT, "%s: cannot be opened: %s", o->batch, strerror(errno));
    }
    // Counts from the start of the file, so before anything is read.
    b->stats->total = b->setup->progress ? lines_count(b->input.fd, !o->lines) : 0;
    while (status == LINE_PENDING && !*b->setup->interrupted) {
        status = lines_begin(&b->input, err);
    }
    return status != LINE_FAILED;
}

static bool batch_open(Batch *b, Error *err)
{
    const Options *o = b->setup->options;
    if (!open_input(b, err) || !slots_create(&b->slots, b->engine, err)) {
        return false;
    }
    return results_open(&b->results, o->output, o->resume, err) && (!o->resume || resume(b, err));
}

static void batch_close(Batch *b)
{
    if (b->input.fd > STDIN_FILENO) {
        close(b->input.fd);
    }
    lines_free(&b->input);
    slots_free(&b->slots);
    results_close(&b->results);
    json_free(&b->json);
    tokens_free(&b->prompt);
    free(b);
}

static RequestDefaults request_defaults(const Engine *e, const BatchSetup *setup)
{
    const char *path = setup->options->engine.model, *slash = strrchr(path, '/');
    RequestDefaults d = {.options = setup->options,
                         .tokenizer = e->tokenizer,
                         .chat = e->has_chat ? &e->chat : NULL,
                         .cache = &e->cache,
                         .model = slash ? slash + 1 : path};
    d.fingerprint = request_fingerprint(&d, setup->fingerprint);
    return d;
}

bool batch_run(Engine *e, const BatchSetup *setup, BatchStats *stats, Error *err)
{
    Batch *b = calloc(1, sizeof *b);
    if (!b) {
        return error_memory(err, "a batch", sizeof *b);
    }
    *stats = (BatchStats){0};
    b->engine = e;
    b->setup = setup;
    b->stats = stats;
    b->defaults = request_defaults(e, setup);
    b->first_started = SIZE_MAX;
    b->start = b->told = now_seconds();
    const bool opened = batch_open(b, err);
    bool ok = opened && run_all(b, err);
    // Whatever has happened, the results that are done are kept. Only the first error is told.
    Error last = {0};
    if (opened && !results_finish(&b->results, &last) && ok) {
        *err = last;
        ok = false;
    }
    if (ok && b->cache_error.kind) {
        *err = b->cache_error;
        ok = false;
    }
    // Not those behind one that an interruption has left undone: they are not in the output.
    stats->done = b->results.kept + b->results.first;
    stats->kept = b->results.kept;
    stats->failed = b->results.failed;
    stats->first_failed = b->results.first_failed;
    stats->seconds = now_seconds() - b->start;
    batch_close(b);
    return ok;
}
