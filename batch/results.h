// results.h - the results of a batch, written to the output in the order of the requests.
#ifndef RESULTS_H
#define RESULTS_H

#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"

// The most results that are promised and not yet written. Far more than there are slots, so that a
// long answer holds up the output, but hardly ever the requests after it.
#define RESULTS_WINDOW 1024
// No request is started while results of this many bytes wait for one before them.
#define RESULTS_WINDOW_BYTES ((size_t)64 << 20)

typedef struct {
    Buffer line;           // owned: the result and its newline
    uint64_t failed_line;  // the number of the request's line if the result is an error; else 0
    bool done;
} Result;

// The output and the window before it. Results of this run are numbered from 0, in the order of
// their requests.
typedef struct {
    // The output.
    const char *name;  // for messages
    int fd;            // what results are written to
    bool regular;      // a file on disk, which can be synced
    bool torn;         // a write failed, perhaps halfway: nothing may follow
    double synced;     // when it was last synced, by now_seconds
    // Retrying: results go to a second file, which replaces the output in the end.
    int old_fd;         // the output to be replaced, locked until the end; -1: none
    char *path;         // owned: of the output, without symbolic links
    char *retry_path;   // owned: of the second file; NULL: the output is not a regular file
    size_t replace_at;  // when so many results are written, the second file replaces the output
    // The window: result i is window[i % RESULTS_WINDOW].
    size_t first;   // the first one that is not written
    size_t next;    // the next one to be promised
    size_t bytes;   // of the finished results in the window
    Buffer joined;  // owned: lines that are written together
    // What is in the output.
    size_t kept;            // results of an earlier run (--resume)
    size_t kept_bytes;      // their bytes: where the results of this run begin
    size_t failed;          // results that are errors, of both runs
    uint64_t first_failed;  // line of the first of them
    Result window[RESULTS_WINDOW];
} Results;

// Opens the output; NULL is standard output. Unless `resume`, a file must be new. It is locked
// against other processes. Errors: ERROR_USAGE if the file exists, or cannot be resumed; ERROR_RUN
// if it cannot be created, or another process writes it. To be closed even after an error.
bool results_open(Results *r, const char *path, bool resume, Error *err);
void results_close(Results *r);

// results_keep counts a line of `size` bytes, including its newline, as a result that is kept;
// `failed_line` is as in Result. results_cut truncates the file after the last of them. Error:
// ERROR_RUN.
void results_keep(Results *r, size_t size, uint64_t failed_line);
bool results_cut(Results *r, Error *err);

// results_retry starts a second file beside the output, OUTPUT.retrying, to which results are
// written from here on. It begins with a copy of the results kept so far. What follows these, from
// a retry that was interrupted, can be read from fd and kept with results_keep; the rest must be
// cut off (results_cut) before a result is delivered. Error: ERROR_RUN.
//
// results_retried says that all results of the output have been handled. When those promised so far
// and the next `n` are written, the second file replaces the output, which is untouched until then.
bool results_retry(Results *r, Error *err);
void results_retried(Results *r, size_t n);

// Opens the second file that an interrupted retry left, for reading; -1 if there is none.
int results_open_retried(const Results *r);

// Does the window have room for the result of one more request?
bool results_have_room(const Results *r);

// Promises the next result and returns its number.
size_t results_promise(Results *r);

// Delivers a promised result. Takes over the line; `failed_line` is as in Result.
void results_deliver(Results *r, size_t number, Buffer *line, uint64_t failed_line);

// Writes the finished results up to the first that is not finished. Every few seconds it also waits
// until they are on disk. Error: ERROR_RUN.
bool results_write(Results *r, Error *err);

// Like results_write, but always waits until the output is on disk. If a write has failed before,
// it writes nothing more. Error: ERROR_RUN.
bool results_finish(Results *r, Error *err);

#endif
