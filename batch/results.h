// results.h - the results of a batch, written to the output in the order of the requests.
#ifndef RESULTS_H
#define RESULTS_H

#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"

// Results that are promised and not yet written, at most. Far more than there are slots: one long
// answer holds up the output, but hardly ever the work behind it.
#define RESULTS_WINDOW 1024
// And bytes of results that wait for one before them.
#define RESULTS_WINDOW_BYTES ((size_t)64 << 20)

typedef struct {
    Buffer line;           // owned: the result and its newline
    uint64_t failed_line;  // number of the request's line, if the result is an error; else 0
    bool done;
} Result;

// The output and the window before it. Results are numbered from 0 in the order of their requests.
typedef struct {
    // The output.
    const char *name;  // for messages
    int fd;            // what results are written to
    bool regular;      // a file on disk: can be synced
    bool torn;         // a write failed, maybe half-way: nothing may follow
    double synced;     // when it last was, by now_seconds
    // Retrying: results go to a file beside the output, which replaces it in the end.
    int old_fd;         // the output that is replaced, locked until the end; -1: none
    char *path;         // owned: of the output, with no link in it
    char *retry_path;   // owned: of the file beside it; NULL: the output is not a regular file
    size_t replace_at;  // once so many results are written, it replaces the output
    // The window: result i is window[i % RESULTS_WINDOW].
    size_t first;   // the first that is not written
    size_t next;    // the next to be promised
    size_t bytes;   // of the results that wait in it
    Buffer joined;  // owned: lines that are written together
    // What is in the output.
    size_t kept;            // results of an earlier run (--resume)
    size_t kept_bytes;      // theirs: where this run's results begin
    size_t failed;          // results that are errors, of both runs
    uint64_t first_failed;  // line of the first of them
    Result window[RESULTS_WINDOW];
} Results;

// Opens the output, NULL for standard output. A file must be new, unless `resume`; it is
// locked against other processes. Errors: ERROR_USAGE where the file exists, or cannot be resumed;
// ERROR_RUN where it cannot be created or another process writes it. In any case results_close
// frees it.
bool results_open(Results *r, const char *path, bool resume, Error *err);
void results_close(Results *r);

// Counts a line of `size` bytes, its newline included, as a result that is kept; `failed_line` as
// in Result. results_cut then cuts off what follows the last of them. Error: ERROR_RUN.
void results_keep(Results *r, size_t size, uint64_t failed_line);
bool results_cut(Results *r, Error *err);

// Retrying. From here on results are written to a file beside the output, OUTPUT.retrying, which
// begins with the results kept so far; what it had after those, from a retry that was interrupted,
// can be read from fd, kept with results_keep, and has to be cut off (results_cut) before a result
// is delivered. The output is untouched, until results_retried says that all its results have been
// dealt with: when those promised so far and the `n` next ones are written, the file takes its
// place. Error: ERROR_RUN.
bool results_retry(Results *r, Error *err);
void results_retried(Results *r, size_t n);

// Is there room in the window for one more request's result?
bool results_have_room(const Results *r);

// Promises the next result and returns its number.
size_t results_promise(Results *r);

// Delivers a promised result, whose line it takes over.
void results_deliver(Results *r, size_t number, Buffer *line, uint64_t failed_line);

// Writes all results that are done and have none before them that is not. From time to time it also
// waits until they are on disk. Error: ERROR_RUN.
bool results_write(Results *r, Error *err);

// Writes what can be written, and waits until it is on disk. Error: ERROR_RUN.
bool results_finish(Results *r, Error *err);

#endif
