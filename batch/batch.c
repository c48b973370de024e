// batch.c - many prompts through one model.
//
//     Lines -> Request -> [slot 0 .. n - 1] -> Results -> output
//                          one forward pass
//                          after the other
//
// Continuous batching (Yu et al., Orca, OSDI 2022): the batch is assembled anew for every forward
// pass, not once for a group of requests. A slot whose answer ends gets the next request before the
// next pass, so no slot is idle while others finish long answers. Prompts are processed in the same
// passes that generate answers (slots.c).
//
// A result depends only on the request, the model and the options, not on the requests that run
// beside it:
//   - the logits of a row are the same bits whichever rows are in the pass: no sum crosses rows,
//     and each sum has a fixed order (model.h);
//   - shared pages hold, to the bit, what the request would have computed itself;
//   - each request has its own sampler, seeded by its own seed or by its line number and --seed;
//   - a result contains no time, and no count of earlier work.
// So a resumed batch writes the same bytes as one that was not interrupted.
//
// Memory is bounded by the limit on a line, by the window of results, and by the cache, where a
// request reserves its pages before it starts: one that does not fit waits. Constraints are not
// counted there: there are at most GUIDES_KEPT and one for each sequence, each within its bounds.
#include "batch/batch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "batch/guides.h"
#include "batch/lines.h"
#include "batch/request.h"
#include "batch/results.h"
#include "batch/slots.h"

// The most bytes of a result that is read from the output: more than any result has.
#define MAX_RESULT_BYTES ((size_t)1 << 30)
// The least time between two calls of progress: short enough to look alive.
#define PROGRESS_SECONDS 0.25

typedef struct {
    // Owned by the caller.
    Engine *engine;           // its cache has a sequence for each slot
    const BatchSetup *setup;  // the options, and where to report
    BatchStats *stats;        // updated as the batch runs
    // The input.
    Lines input;
    bool ended;                // it has no more requests
    RequestDefaults defaults;  // what all requests have in common
    Json json;                 // owned: the last line that was read
    // The work.
    Slots slots;
    Guides guides;
    size_t first_started;  // result of the first request that was started; SIZE_MAX: none yet
    Error cache_error;     // why the prompt cache could not be written; returned at the end
    // The output, and the window of results that wait to be written.
    Results results;
    // Resuming: the results that were in the output at the start, read along with the input.
    Lines old;
    Line old_line;          // the next of them
    LineStatus old_status;  // LINE_READ: old_line is valid; LINE_END: there are no more
    OldResult old_result;   // what old_line says
    Json old_json;          // owned: for reading results
    bool retrying;          // with --retry: not all of them have been handled yet
    Lines redone;           // results that an earlier retry left; fd < 0: no more of them
    // Times, by now_seconds.
    double start;  // of this run
    double told;   // when progress was last called
} Batch;

// --------------------------------------------------------------------------------------------
// Requests

// Reads the next request. Skips blank lines, which still count as lines, and byte order marks: with
// --lines only one at the start of the input, otherwise one before any object, because files with
// marks may have been concatenated.
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

// Delivers the result of a job: the texts of its choices, or its failure.
static bool deliver(Batch *b, Job *job, Error *err)
{
    Buffer line = {0};
    const Request *r = &job->request;
    const bool failed = r->failure.kind != ERROR_NONE;
    if (failed) {
        request_failure(r, &line);
    } else {
        request_result(r, job->choices, &line);
    }
    if (!buffer_check(&line, err)) {
        buffer_free(&line);
        return false;
    }
    results_deliver(&b->results, job->number, &line, failed ? r->number : 0);
    b->stats->done++;
    return true;
}

// --------------------------------------------------------------------------------------------
// Resuming
//
// The results in the output are those of the first requests, because they are written in order. So
// the input is read along with them, one request for each result, and each result must begin with
// the head of its request. The head has the line number and a hash of the line, the model and the
// options: another input, model or option is refused before anything is changed. The rest of the
// result need not be compared, because the same request has the same result.
//
// With --retry that ends at the first error. From there on results are written to another file
// (results.c), and requests are read in the ordinary way, one for each result in the output: a text
// is copied, an error makes its request run. An error must only have the same line number, because
// the line may have been corrected since.

// Sets the error: old_line is not the result of the request that was read last, or the input has
// `ended` and there is none.
static bool refuse_result(const Batch *b, bool ended, Error *err)
{
    const char *advice = b->old_result.failed_line ? "it is an error; --retry runs the line again"
                         : b->old_result.lacks_hash
                             ? "it has no hash: an older version wrote it; use another --output"
                             : "use another --output to start over";
    return error_set(err, ERROR_INPUT,
                     "%s: line %llu is not the result of %s %llu of %s with this model and these "
                     "options; nothing was changed (%s)",
                     b->results.name, (unsigned long long)b->old_line.number,
                     ended ? "any request after line" : "line",
                     (unsigned long long)(b->input.number - 1), b->input.name, advice);
}

// Does a line of the output begin with the head of this request?
static bool begins_with_head(const Line *line, const Request *r)
{
    const Buffer *head = &r->head;
    return head->size && line->size >= head->size &&
           memcmp(line->text, head->data, head->size) == 0;
}

// Reads the next result of the output. A half-written one at the end does not count.
static bool next_old(Batch *b, Error *err)
{
    do {
        b->old_status = lines_next(&b->old, true, &b->old_line, err);
    } while (b->old_status == LINE_PENDING);
    b->old_result = (OldResult){0};
    if (b->old_status == LINE_READ && !b->old_line.ended && !b->old_line.too_long) {
        b->old_status = LINE_END;
    }
    if (b->old_status == LINE_READ) {
        return result_read(&b->old_json, &b->old_line, &b->old_result, err);
    }
    return b->old_status == LINE_END;
}

// Reads the next request and keeps the result in old_line, which must be its own.
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
    results_keep(&b->results, b->old_line.size + 1, b->old_result.failed_line);
    return true;
}

// Starts the other file. old_line, the first error, is the next result to handle.
static bool begin_retry(Batch *b, Error *err)
{
    b->retrying = true;
    b->redone = (Lines){.name = b->results.name, .limit = MAX_RESULT_BYTES};
    const bool ok = results_retry(&b->results, err);
    b->redone.fd = b->results.fd;
    return ok;
}

static bool rewind_results(const Batch *b, Error *err)
{
    return lseek(b->results.fd, 0, SEEK_SET) == 0 ||
           error_set(err, ERROR_RUN, "%s: cannot be read: %s", b->results.name, strerror(errno));
}

// Looks for a date in the results of a file, which it reads from where it is.
static bool find_results_date(Batch *b, int fd, Date *date, Error *err)
{
    bool ok = true;
    b->old = (Lines){.fd = fd, .name = b->results.name, .limit = MAX_RESULT_BYTES};
    while (!date->month && (ok = next_old(b, err)) && b->old_status == LINE_READ) {
        *date = b->old_result.date;
    }
    lines_free(&b->old);
    return ok;
}

// Finds the date that earlier results were made with: those in the output or, if all of them are
// errors, those that an earlier retry left.
static bool find_old_date(Batch *b, Date *date, Error *err)
{
    if (!find_results_date(b, b->results.fd, date, err)) {
        return false;
    }
    const int fd = b->setup->options->retry && !date->month ? results_open_retried(&b->results)
                                                            : -1;
    const bool ok = fd < 0 || find_results_date(b, fd, date, err);
    if (fd >= 0) {
        close(fd);
    }
    return ok;
}

// Goes on with the date that earlier results were made with, if the template uses it: all answers
// of a batch see the same.
static bool take_date(Batch *b, Error *err)
{
    Engine *e = b->engine;
    Date date = {0};
    if (!e->has_chat || !e->chat.uses_date) {
        return true;
    }
    if (!find_old_date(b, &date, err)) {
        return false;
    }
    if (date.month && e->options->date.month && !same_date(e->options->date, date)) {
        char given[16], old[16];
        return error_set(err, ERROR_USAGE, "--date %s: the results in %s were made with %s",
                         date_write(e->options->date, given), b->results.name,
                         date_write(date, old));
    }
    if (date.month) {
        e->chat_settings.date = date;
    }
    return rewind_results(b, err);
}

// Keeps the results in the output, and cuts off a half-written one at the end. With --retry, keeps
// those before the first error and starts the retry there.
static bool resume(Batch *b, Error *err)
{
    Request request = {0};
    bool ok, retry = false;
    b->old = (Lines){
        .fd = b->results.fd, .name = b->results.name, .limit = MAX_RESULT_BYTES, .number = 1};
    while ((ok = next_old(b, err)) && b->old_status == LINE_READ && !*b->setup->interrupted) {
        retry = b->setup->options->retry && b->old_result.failed_line;
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

// Cuts off the rest of an earlier retry: from here on this run writes the results.
static bool cut_redone(Batch *b, Error *err)
{
    lines_free(&b->redone);
    return results_cut(&b->results, err);
}

// Keeps the next result of an earlier retry in the other file if it is this request's, and either
// replaces an error or is a copy of old_line. Otherwise the rest of the earlier retry is cut off.
static bool keep_redone(Batch *b, const Request *r, bool *kept, Error *err)
{
    Line line;
    OldResult result;
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
            (b->old_result.failed_line || (line.size == b->old_line.size &&
                                           memcmp(line.text, b->old_line.text, line.size) == 0));
    if (!*kept) {
        return cut_redone(b, err);
    }
    if (!result_read(&b->old_json, &line, &result, err)) {
        return false;
    }
    results_keep(&b->results, line.size + 1, result.failed_line);
    b->stats->done++;
    b->stats->kept++;
    return true;
}

// Copies old_line to the other file.
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

// Ends the retry: the output has no more results. `runs`: the last of them is an error, and its
// request is about to run.
static bool end_retry(Batch *b, bool runs, Error *err)
{
    b->retrying = false;
    results_retried(&b->results, runs);
    return b->redone.fd < 0 || cut_redone(b, err);
}

// Handles a request that was read during a retry, or the end of the input (NULL). Sets *run if the
// request must run, because its result is an error or it has none yet.
static bool retry_next(Batch *b, const Request *r, bool *run, Error *err)
{
    bool kept = false;
    // An error whose line is blank now has no request any more: leave it out.
    while (b->old_result.failed_line && (!r || b->old_result.failed_line < r->number)) {
        if (!next_old(b, err)) {
            return false;
        }
    }
    *run = r && (b->old_result.failed_line || b->old_status == LINE_END);
    if (b->old_status == LINE_END) {
        return end_retry(b, false, err);
    }
    if (!r || (b->old_result.failed_line ? b->old_result.failed_line != r->number
                                         : !begins_with_head(&b->old_line, r))) {
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

// Gives the job the constraint of its request, which until here points into the line.
static bool find_guide(Batch *b, Job *job)
{
    Request *r = &job->request;
    FoundGuide found;
    const bool ok = guides_find(&b->guides, &r->options.constraint, &found, &r->failure);
    r->options.constraint = (ConstraintSpec){.kind = CONSTRAINT_NONE};
    job->guide = found.guide;
    const char *notes = found.is_new && ok ? guide_notes(found.guide) : NULL;
    if (notes && b->setup->notes) {
        b->setup->notes(r->number, notes);
    }
    return ok;
}

// Promises a result for the request that was read, and encodes its prompt. A request that cannot be
// answered fails here, and its result is delivered.
static bool prepare(Batch *b, Job *job, Error *err)
{
    Request *r = &job->request;
    job->number = results_promise(&b->results);
    if (r->failure.kind == ERROR_NONE &&
        request_encode(r, &b->defaults, &job->prompt, &r->failure) && find_guide(b, job) &&
        slots_fill(&b->slots, b->defaults.tokenizer, &r->failure)) {
        return true;
    }
    if (r->failure.kind == ERROR_RUN) {
        *err = r->failure;
        return false;
    }
    const bool ok = deliver(b, job, err);
    slots_drop(&b->slots);
    return ok;
}

// Reads a request, if the window has room for its result (*read). Its first choice then waits to be
// started, unless it fails at once or a retry keeps its result. This blocks on the input only if no
// slot is active: requests from a pipe are answered as they arrive.
static bool read_next(Batch *b, bool *read, Error *err)
{
    *read = false;
    if (b->ended || *b->setup->interrupted || !results_have_room(&b->results)) {
        return true;
    }
    Job *job = slots_take_job(&b->slots);
    const LineStatus status = next_request(b, !b->slots.n_active, &job->request, err);
    *read = status == LINE_READ;
    b->ended = status == LINE_END;
    bool run = *read;
    if (b->retrying && (*read || b->ended) &&
        !retry_next(b, *read ? &job->request : NULL, &run, err)) {
        return false;
    }
    if (!run) {
        slots_drop(&b->slots);
        return status != LINE_FAILED;
    }
    return prepare(b, job, err);
}

// Fills the next slot: with the next choice of the request that is starting, else with the first of
// the next request.
static bool fill_next(Batch *b, bool *read, Error *err)
{
    *read = true;
    return b->slots.starting ? slots_fill(&b->slots, b->defaults.tokenizer, err)
                             : read_next(b, read, err);
}

// Starts requests in all idle slots, as far as there are requests, pages and room in the window.
//
// Requests start in the order of the input. One that waits for pages holds up all that follow, even
// if they would fit: otherwise a stream of short requests could starve a long one. In this order
// the batch cannot come to a halt either. The first result that is missing in the window belongs to
// the oldest active request or, if none is active, to the one that waits, which then has all pages
// for itself. So the request that the window waits for is always one that runs.
static bool refill(Batch *b, Error *err)
{
    Slot *slot;
    while ((slot = slots_next(&b->slots))) {
        bool read = true;
        if (!b->slots.waiting && !fill_next(b, &read, err)) {
            return false;
        }
        if (!read) {
            return true;
        }
        if (!b->slots.waiting) {
            continue;  // it has its result already
        }
        if (!slots_start(&b->slots)) {
            return true;
        }
        if (b->first_started == SIZE_MAX) {
            b->first_started = slot->job->number;
        }
    }
    return true;
}

// --------------------------------------------------------------------------------------------
// Running them

// Ends a job whose choices have all finished.
static bool finish_job(Batch *b, Job *job, Error *err)
{
    const bool ok = deliver(b, job, err);
    if (job->request.failure.kind == ERROR_NONE) {
        b->stats->prompt_tokens += job->prompt.tokens.size;
        b->stats->shared_tokens += job->shared;
    }
    for (size_t i = 0; job->request.failure.kind == ERROR_NONE && i < job->request.n; i++) {
        const Sequence *choice = &job->choices[i];
        b->stats->new_tokens += choice->tokens.size - job->prompt.tokens.size;
        b->stats->proposed += choice->lookup.n_proposed;
        b->stats->accepted += choice->lookup.n_accepted;
    }
    slots_free_job(job);
    return ok;
}

// Handles what a pass did for the active slot at `place`: its choice may have failed, and its
// prompt or its answer may be complete.
static bool finish_slot(Batch *b, size_t place, Error *err)
{
    Slot *slot = slots_active(&b->slots, place);
    Sequence *s = &slot->sequence;
    Step *step = slot->step;
    if (step->ok && s->finish) {
        step->ok = sequence_score_rest(s, b->engine, &step->err);
    }
    if (!step->ok && step->err.kind == ERROR_RUN) {
        *err = step->err;
        return false;
    }
    // The pages of the first prompt go to the prompt cache, once all of it has been run.
    if (step->ok && slot->job->number == b->first_started && sequence_n_past(s) >= s->n_prompt) {
        prompt_cache_save(b->setup->prompt_cache, &b->engine->cache, s->cache_sequence, s->n_prompt,
                          &b->cache_error);
    }
    if (step->ok && !s->finish) {
        return true;
    }
    Job *finished = slots_release(&b->slots, place, step->ok ? NULL : &step->err);
    return !finished || finish_job(b, finished, err);
}

// Runs one forward pass over the active slots, and handles the results.
static bool run_pass(Batch *b, Error *err)
{
    Slots *slots = &b->slots;
    slots_plan(slots);
    if (!decode(b->engine, slots->steps, slots->n_steps, b->setup->interrupted, err)) {
        if (slots->n_steps > 1 || err->kind != ERROR_INPUT) {
            return false;
        }
        // decode returns the error of a single step and does not store it there. Only its request
        // fails.
        slots->steps[0].ok = false;
        slots->steps[0].err = *err;
    }
    // Backwards, because a slot that is done leaves the order and moves those after it.
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
    // Counts from the current position, so before anything is read.
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
    return results_open(&b->results, o->output, o->resume, err) &&
           (!o->resume || (take_date(b, err) && resume(b, err)));
}

static void batch_close(Batch *b)
{
    if (b->input.fd > STDIN_FILENO) {
        close(b->input.fd);
    }
    lines_free(&b->input);
    slots_free(&b->slots);
    guides_free(&b->guides);
    results_close(&b->results);
    lines_free(&b->old);
    lines_free(&b->redone);
    json_free(&b->old_json);
    json_free(&b->json);
    free(b);
}

static RequestDefaults request_defaults(const Engine *e, const BatchSetup *setup)
{
    const char *path = setup->options->engine.model, *slash = strrchr(path, '/');
    RequestDefaults d = {.options = setup->options,
                         .tokenizer = e->tokenizer,
                         .chat = e->has_chat ? &e->chat : NULL,
                         .chat_settings = &e->chat_settings,
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
    b->guides.tokenizer = e->tokenizer;
    b->guides.max_bytes = GUIDES_MAX_BYTES;
    b->first_started = SIZE_MAX;
    b->start = b->told = now_seconds();
    const bool opened = batch_open(b, err);
    bool ok = opened && run_all(b, err);
    // Even after an error, write the results that are done. Only the first error is returned.
    Error last = {0};
    if (opened && !results_finish(&b->results, &last) && ok) {
        *err = last;
        ok = false;
    }
    if (ok && b->cache_error.kind) {
        *err = b->cache_error;
        ok = false;
    }
    // Only results in the output count, not those that wait for one that was left unfinished.
    stats->done = b->results.kept + b->results.first;
    stats->failed = b->results.failed;
    stats->first_failed = b->results.first_failed;
    stats->seconds = now_seconds() - b->start;
    batch_close(b);
    return ok;
}
