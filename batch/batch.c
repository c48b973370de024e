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
    // Resuming: the results that the output had when the run began, read along with the input.
    Lines old;
    Line old_line;          // the next of them
    LineStatus old_status;  // LINE_READ: there is a next one; LINE_END: there is not
    uint64_t old_failed;    // if it is an error: the number of its request's line; else 0
    Json old_json;          // owned: in which results are read
    bool retrying;          // until the last of them has been dealt with
    Lines redone;           // results that an earlier retry left; fd < 0: no more of them
    // Times, by now_seconds.
    double start;  // of this run
    double told;   // when progress was last told
} Batch;

// --------------------------------------------------------------------------------------------
// Requests

// Reads the next request. Blank lines are no requests, but are counted as lines. A byte order mark
// is no part of the file that it begins; before an object it is none of that either, wherever it
// stands: files with marks may have been joined.
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
    } while (!line.too_long && line_is_blank(&line));
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
//
// With --retry that ends at the first error. From there on results are written to another file
// (results.c), as requests are started, one for each result of the output: a text is copied, an
// error makes its request run. An error has to be of the same line only, which may have been
// corrected since.

// Refuses the next result of the output as that of a request.
static bool refuse_result(const Batch *b, bool ended, Error *err)
{
    return error_set(err, ERROR_INPUT,
                     "%s: line %llu is not the result of %s %llu of %s with these options; nothing "
                     "was changed (%s)",
                     b->results.name, (unsigned long long)b->old_line.number,
                     ended ? "any request after line" : "line",
                     (unsigned long long)(b->input.number - 1), b->input.name,
                     b->old_failed ? "it is an error: --retry runs the line again"
                                   : "use another --output to start over");
}

// Does a line of the output begin as the result of this request does?
static bool begins_with_head(const Line *line, const Request *r)
{
    return line->size >= r->head.size && memcmp(line->text, r->head.data, r->head.size) == 0;
}

// Reads the next result of the output. A last one that is half-written does not count.
static bool next_old(Batch *b, Error *err)
{
    do {
        b->old_status = lines_next(&b->old, true, &b->old_line, err);
    } while (b->old_status == LINE_PENDING);
    b->old_failed = 0;
    if (b->old_status == LINE_READ && !b->old_line.ended && !b->old_line.too_long) {
        b->old_status = LINE_END;
    }
    if (b->old_status == LINE_READ) {
        return result_read(&b->old_json, &b->old_line, &b->old_failed, err);
    }
    return b->old_status == LINE_END;
}

// Keeps the next result of the output, if it is that of the next request.
static bool keep_result(Batch *b, Request *r, Error *err)
{
    LineStatus status = LINE_PENDING;
    while (status == LINE_PENDING && !*b->setup->interrupted) {
        status = next_request(b, true, r, err);
    }
    if (status == LINE_FAILED || status == LINE_PENDING) {
        return status == LINE_PENDING;  // interrupted
    }
    if (status == LINE_END || !begins_with_head(&b->old_line, r)) {
        return refuse_result(b, status == LINE_END, err);
    }
    results_keep(&b->results, b->old_line.size + 1, b->old_failed);
    return true;
}

// Begins to write the other file, at the result that was read last.
static bool begin_retry(Batch *b, Error *err)
{
    b->retrying = true;
    b->redone = (Lines){.name = b->results.name, .limit = MAX_RESULT_BYTES};
    const bool ok = results_retry(&b->results, err);
    b->redone.fd = b->results.fd;
    return ok;
}

// Keeps the results that are in the output, and cuts off a last one that is half-written; or with
// --retry, keeps those before the first error.
static bool resume(Batch *b, Error *err)
{
    Request request = {0};
    bool ok, retry = false;
    b->old = (Lines){
        .fd = b->results.fd, .name = b->results.name, .limit = MAX_RESULT_BYTES, .number = 1};
    while ((ok = next_old(b, err)) && b->old_status == LINE_READ && !*b->setup->interrupted) {
        retry = b->setup->options->retry && b->old_failed;
        if (retry || !(ok = keep_result(b, &request, err))) {
            break;
        }
    }
    request_free(&request);
    b->stats->done = b->stats->kept = b->results.kept;
    if (!ok || *b->setup->interrupted) {
        return ok;
    }
    return retry ? begin_retry(b, err) : results_cut(&b->results, err);
}

// Cuts off what is left of an earlier retry. Results of this run are written from here on.
static bool cut_redone(Batch *b, Error *err)
{
    lines_free(&b->redone);
    return results_cut(&b->results, err);
}

// Keeps the next result of an earlier retry in the other file, if it is this request's, and differs
// from the output's next only where that is an error.
static bool keep_redone(Batch *b, const Request *r, bool *kept, Error *err)
{
    Line line;
    uint64_t failed;
    LineStatus status = LINE_PENDING;
    *kept = false;
    if (b->redone.fd < 0) {
        return true;
    }
    while (status == LINE_PENDING) {
        status = lines_next(&b->redone, true, &line, err);
    }
    if (status == LINE_FAILED) {
        return false;
    }
    *kept = status == LINE_READ && line.ended && begins_with_head(&line, r) &&
            (b->old_failed || (line.size == b->old_line.size &&
                               memcmp(line.text, b->old_line.text, line.size) == 0));
    if (!*kept) {
        return cut_redone(b, err);
    }
    if (!result_read(&b->old_json, &line, &failed, err)) {
        return false;
    }
    results_keep(&b->results, line.size + 1, failed);
    b->stats->done++;
    b->stats->kept++;
    return true;
}

// Delivers a result of the output once more.
static bool copy_result(Batch *b, Error *err)
{
    Buffer line = {0};
    buffer_add(&line, b->old_line.text, b->old_line.size);
    buffer_add_text(&line, "\n");
    if (!buffer_check(&line, err)) {
        buffer_free(&line);
        return false;
    }
    results_deliver(&b->results, results_promise(&b->results), &line, 0);
    b->stats->done++;
    b->stats->kept++;
    return true;
}

// Ends the retry: the output has no more results. `runs`: the request that was read last is run to
// replace the last of them.
static bool end_retry(Batch *b, bool runs, Error *err)
{
    b->retrying = false;
    results_retried(&b->results, runs);
    return b->redone.fd < 0 || cut_redone(b, err);
}

// Deals with a request that was read while retrying, or with the end of the input (NULL). *run: the
// request has to be run, because its result is an error or it has none yet.
static bool retry_next(Batch *b, const Request *r, bool *run, Error *err)
{
    bool kept = false;
    // An error whose line is blank by now has no request any more: it is left out.
    while (b->old_failed && (!r || b->old_failed < r->number)) {
        if (!next_old(b, err)) {
            return false;
        }
    }
    *run = r && (b->old_failed || b->old_status == LINE_END);
    if (b->old_status == LINE_END) {
        return end_retry(b, false, err);
    }
    if (!r || (b->old_failed ? b->old_failed != r->number : !begins_with_head(&b->old_line, r))) {
        return refuse_result(b, !r, err);
    }
    if (!keep_redone(b, r, &kept, err) || (!kept && !*run && !copy_result(b, err))) {
        return false;
    }
    *run = *run && !kept;
    return next_old(b, err) && (b->old_status == LINE_READ || end_retry(b, *run, err));
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

// Reads a request into the next slot, if there is one and the window has room for its result
// (*read). Unless it fails at once, or a retry keeps its result, it then waits to be started. Waits
// for input only when there is nothing else to do: what comes through a pipe is answered before the
// pipe ends.
static bool fill_next(Batch *b, Slot *slot, bool *read, Error *err)
{
    *read = false;
    if (b->ended || *b->setup->interrupted || !results_have_room(&b->results)) {
        return true;
    }
    const LineStatus status = next_request(b, !b->slots.n_active, &slot->request, err);
    *read = status == LINE_READ;
    b->ended = status == LINE_END;
    bool run = *read;
    if (b->retrying && (*read || b->ended) &&
        !retry_next(b, *read ? &slot->request : NULL, &run, err)) {
        return false;
    }
    return status != LINE_FAILED && (!run || prepare(b, slot, err));
}

// Starts requests in all slots that are idle, as far as there are requests and pages for them.
//
// A request that waits for pages holds up all those after it, even ones that would fit: were they
// let past it, a stream of short requests could keep a long one waiting for ever.
static bool refill(Batch *b, Error *err)
{
    Slot *slot;
    while ((slot = slots_next(&b->slots))) {
        bool read = true;
        if (!b->slots.waiting && !fill_next(b, slot, &read, err)) {
            return false;
        }
        if (!read) {
            return true;
        }
        if (!b->slots.waiting) {
            continue;  // its result is known already
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
        prompt_cache_save(b->setup->prompt_cache, &b->engine->cache, s->cache_sequence, s->n_prompt,
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
    b->stats->total = b->setup->progress ? lines_count(b->input.fd) : 0;
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
    lines_free(&b->old);
    lines_free(&b->redone);
    json_free(&b->old_json);
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
    stats->failed = b->results.failed;
    stats->first_failed = b->results.first_failed;
    stats->seconds = now_seconds() - b->start;
    batch_close(b);
    return ok;
}
