// results.c - the results of a batch, in the order of the requests. See results.h.
//
// Requests finish in any order, but results are written in the order of the input, which is how a
// resumed run knows what is done. So a result that is early waits in a window for those before it.
//
//     window    5 done | 6 - | 7 done | 8 done | 9 - |
//               first                                next
//
// Here 5 can be written; 7 and 8 wait for 6. The window is a ring, bounded in results and in bytes:
// when it is full, no request is read until its first result is finished.
//
// A retry replaces results within the file, so it writes a second file and renames that in the end:
//
//     results.jsonl             ok  ok  error  ok  error  ok     stays as it is until then
//     results.jsonl.retrying    ok  ok  ok     ok ..             grows in the same order
//
// At any moment one file has all results that count. If the program is killed, the second file has
// what was done so far, and the next retry continues it.
#include "batch/results.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/files.h"

// Seconds of work that a power failure may cost.
#define SYNC_SECONDS 5
// Of the file that a retry writes. Users are unlikely to choose such a name.
#define RETRY_SUFFIX ".retrying"

// Opens the file and sets r->fd and r->regular.
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
    // O_EXCL, not an earlier check, decides whether the file is new: of two runs that start at the
    // same time, only one gets the name.
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

// Locks a file against other processes. The lock is on the file, not on its name: it stays when the
// file is renamed, and ends with the process.
//
// If a retry ended between our open and our lock, the name belongs to another file by now, and what
// we append to ours would be lost.
static bool lock_output(int fd, const char *name, Error *err)
{
    struct stat opened, named;
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
        return (fstat(fd, &opened) == 0 && stat(name, &named) == 0 &&
                opened.st_dev == named.st_dev && opened.st_ino == named.st_ino) ||
               error_set(err, ERROR_RUN, "%s: another process has just replaced it", name);
    }
    return errno == EWOULDBLOCK
               ? error_set(err, ERROR_RUN, "%s: another process is writing it", name)
               : error_set(err, ERROR_RUN, "%s: cannot be locked: %s", name, strerror(errno));
}

// Sets the paths for a retry. A rename must replace the output, not a symbolic link to it.
static bool find_paths(Results *r, Error *err)
{
    r->path = realpath(r->name, NULL);
    if (!r->path) {
        return error_set(err, ERROR_RUN, "%s: cannot be found: %s", r->name, strerror(errno));
    }
    const size_t size = strlen(r->path) + sizeof RETRY_SUFFIX;
    r->retry_path = malloc(size);
    if (!r->retry_path) {
        return error_memory(err, "a file's name", size);
    }
    snprintf(r->retry_path, size, "%s%s", r->path, RETRY_SUFFIX);
    return true;
}

bool results_open(Results *r, const char *path, bool resume, Error *err)
{
    *r = (Results){.name = "standard output",
                   .fd = STDOUT_FILENO,
                   .synced = now_seconds(),
                   .old_fd = -1,
                   .replace_at = SIZE_MAX};
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
    if (!lock_output(r->fd, path, err) || !find_paths(r, err)) {
        return false;
    }
    // If there are no results yet, those of an earlier retry belong to other requests.
    struct stat st;
    if (fstat(r->fd, &st) == 0 && st.st_size == 0) {
        unlink(r->retry_path);
    }
    return true;
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
    if (r->retry_path && r->old_fd >= 0) {
        close(r->old_fd);
    }
    free(r->path);
    free(r->retry_path);
    *r = (Results){.fd = -1, .old_fd = -1};
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

// --------------------------------------------------------------------------------------------
// Retrying

int results_open_retried(const Results *r)
{
    return r->retry_path ? open(r->retry_path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK) : -1;
}

// Adds to the error of a write that failed what stays on disk, and how to go on. Returns false.
static bool tell_what_stays(const Results *r, Error *err)
{
    const Error why = *err;
    if (r->retry_path && r->old_fd >= 0) {
        return error_set(err, why.kind, "%s; %s is as it was, --resume --retry continues it",
                         why.message, r->name);
    }
    return r->regular &&
           error_set(err, why.kind, "%s; the results so far are kept, --resume continues it",
                     why.message);
}

// Copies the results that are kept to the start of the second file.
static bool copy_kept(Results *r, Error *err)
{
    char bytes[65536];
    for (size_t at = 0; at < r->kept_bytes;) {
        const size_t left = r->kept_bytes - at;
        const ssize_t n = pread(r->old_fd, bytes, left < sizeof bytes ? left : sizeof bytes,
                                (off_t)at);
        if (n <= 0) {
            return error_set(err, ERROR_RUN, "%s: cannot be read: %s", r->name,
                             n < 0 ? strerror(errno) : "the file became shorter");
        }
        if (!write_all(r->fd, r->retry_path, bytes, (size_t)n, err)) {
            return tell_what_stays(r, err);
        }
        at += (size_t)n;
    }
    return true;
}

bool results_retry(Results *r, Error *err)
{
    struct stat st;
    // O_NOFOLLOW, because the user did not choose the name: a link there is not the user's.
    const int fd = open(r->retry_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (fd < 0) {
        return error_set(err, ERROR_RUN, "%s: cannot be created: %s", r->retry_path,
                         strerror(errno));
    }
    r->old_fd = r->fd;
    r->fd = fd;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        return error_set(err, ERROR_RUN, "%s: is not a regular file", r->retry_path);
    }
    if (fstat(r->old_fd, &st) == 0) {
        fchmod(fd, st.st_mode & 07777);
    }
    return lock_output(fd, r->retry_path, err) && copy_kept(r, err);
}

void results_retried(Results *r, size_t n) { r->replace_at = r->next + n; }

// Replaces the output by the second file. The new name is on disk only after a sync of the folder.
static bool replace_output(Results *r, Error *err)
{
    r->replace_at = SIZE_MAX;
    if (fsync(r->fd) != 0 || rename(r->retry_path, r->path) != 0) {
        return error_set(err, ERROR_RUN, "%s: cannot be replaced by %s: %s", r->name, r->retry_path,
                         strerror(errno));
    }
    char *slash = strrchr(r->path, '/');
    *slash = 0;
    const int folder = open(slash == r->path ? "/" : r->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    *slash = '/';
    if (folder >= 0) {
        fsync(folder);
        close(folder);
    }
    return true;
}

// --------------------------------------------------------------------------------------------
// The window

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

// Waits until the output is on disk. Not done after every result: a sync takes as long as many
// passes.
static bool sync_output(Results *r, Error *err)
{
    r->synced = now_seconds();
    if (!r->regular || fsync(r->fd) == 0) {
        return true;
    }
    error_set(err, ERROR_RUN, "%s: cannot be written: %s", r->name, strerror(errno));
    return tell_what_stays(r, err);
}

bool results_write(Results *r, Error *err)
{
    buffer_clear(&r->joined);
    while (r->first < r->next && r->window[r->first % RESULTS_WINDOW].done) {
        Result *result = &r->window[r->first % RESULTS_WINDOW];
        buffer_add(&r->joined, result->line.data, result->line.size);
        if (!buffer_check(&r->joined, err)) {
            break;  // this one stays first; those before it are written
        }
        r->bytes -= result->line.size;
        count_failure(r, result->failed_line);
        buffer_free(&result->line);
        *result = (Result){0};
        r->first++;
    }
    // After a write that failed halfway no other may follow, or a result would begin mid-line.
    if (r->joined.size && !write_all(r->fd, r->name, r->joined.data, r->joined.size, err)) {
        r->torn = true;
        return tell_what_stays(r, err);
    }
    if (r->first >= r->replace_at && !replace_output(r, err)) {
        return false;
    }
    return buffer_check(&r->joined, err) &&
           (now_seconds() - r->synced < SYNC_SECONDS || sync_output(r, err));
}

bool results_finish(Results *r, Error *err)
{
    return (r->torn || results_write(r, err)) && sync_output(r, err);
}
