// results.c - the results of a batch, in the order of the requests. See results.h.
//
// Requests finish in any order, but results are written in that of the input: it is how a run that
// is resumed knows what is done. So a result that is early waits in a window for those before it.
//
//     window    5 done | 6 - | 7 done | 8 done | 9 - |
//               first                                next
//
// Here 5 can be written; 7 and 8 wait for 6. The window is a ring, bounded in results and in bytes:
// when it is full, no request is started until its first result is done.
#include "batch/results.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/files.h"

// Results that a power failure may cost, in seconds of work.
#define SYNC_SECONDS 5

// Opens the file itself.
static bool open_output(Results *r, const char *path, bool resume, Error *err)
{
    char *target;
    if (!follow_links(path, &target, &r->fd, err)) {
        return false;
    }
    if (!target) {
        return true;  // a device or a pipe
    }
    r->regular = true;
    r->fd = open(target, O_RDWR | O_CREAT | O_CLOEXEC | (resume ? 0 : O_EXCL), 0666);
    const int why = errno;
    free(target);
    errno = why;
    if (r->fd < 0 && errno == EEXIST) {
        return error_set(err, ERROR_USAGE,
                         "--output %s: already exists; use --resume to continue it", path);
    }
    return r->fd >= 0 ||
           error_set(err, ERROR_RUN, "%s: cannot be created: %s", path, strerror(errno));
}

bool results_open(Results *r, const char *path, bool resume, Error *err)
{
    *r = (Results){.name = "standard output", .fd = STDOUT_FILENO, .synced = now_seconds()};
    if (!path) {
        return true;
    }
    r->name = path;
    if (!open_output(r, path, resume, err)) {
        return false;
    }
    if (!r->regular) {
        return !resume || error_set(err, ERROR_USAGE, "--resume: %s is not a regular file", path);
    }
    if (flock(r->fd, LOCK_EX | LOCK_NB) == 0) {
        return true;
    }
    return errno == EWOULDBLOCK
               ? error_set(err, ERROR_RUN, "%s: another process is writing it", path)
               : error_set(err, ERROR_RUN, "%s: cannot be locked: %s", path, strerror(errno));
}

void results_close(Results *r)
{
    for (size_t i = 0; i < RESULTS_WINDOW; i++) {
        buffer_free(&r->window[i].line);
    }
    buffer_free(&r->joined);
    if (r->fd > STDOUT_FILENO) {
        close(r->fd);
    }
    r->fd = -1;
}

static void count_failure(Results *r, uint64_t failed_line)
{
    if (failed_line && !r->failed++) {
        r->first_failed = failed_line;
    }
}

void results_keep(Results *r, size_t size, uint64_t failed_line)
{
    r->kept++;
    r->kept_bytes += size;
    count_failure(r, failed_line);
}

bool results_cut(Results *r, Error *err)
{
    const off_t end = (off_t)r->kept_bytes;
    return (ftruncate(r->fd, end) == 0 && lseek(r->fd, end, SEEK_SET) >= 0) ||
           error_set(err, ERROR_RUN, "%s: cannot be truncated: %s", r->name, strerror(errno));
}

bool results_have_room(const Results *r)
{
    return r->next - r->first < RESULTS_WINDOW && r->bytes < RESULTS_WINDOW_BYTES;
}

size_t results_promise(Results *r) { return r->next++; }

void results_deliver(Results *r, size_t number, Buffer *line, uint64_t failed_line)
{
    r->window[number % RESULTS_WINDOW] = (Result){*line, failed_line, true};
    r->bytes += line->size;
    *line = (Buffer){0};
}

// Waits until the output is on disk.
static bool sync_output(Results *r, Error *err)
{
    r->synced = now_seconds();
    return !r->regular || fsync(r->fd) == 0 ||
           error_set(err, ERROR_RUN, "%s: cannot be written: %s", r->name, strerror(errno));
}

bool results_write(Results *r, Error *err)
{
    buffer_clear(&r->joined);
    while (r->first < r->next && r->window[r->first % RESULTS_WINDOW].done) {
        Result *result = &r->window[r->first % RESULTS_WINDOW];
        buffer_add(&r->joined, result->line.data, result->line.size);
        if (!buffer_check(&r->joined, err)) {
            break;  // it stays the first to be written, and those before it are
        }
        r->bytes -= result->line.size;
        count_failure(r, result->failed_line);
        buffer_free(&result->line);
        *result = (Result){0};
        r->first++;
    }
    if (r->joined.size && !write_all(r->fd, r->name, r->joined.data, r->joined.size, err)) {
        r->torn = true;
        return false;
    }
    return buffer_check(&r->joined, err) &&
           (now_seconds() - r->synced < SYNC_SECONDS || sync_output(r, err));
}

bool results_finish(Results *r, Error *err)
{
    return (r->torn || results_write(r, err)) && sync_output(r, err);
}
