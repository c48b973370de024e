// lines.c - the lines of a file or a pipe. See lines.h.
//
// Bytes are read into one buffer, which holds what was read and not yet returned:
//
//     | returned already | {"prompt": ..}\n{"prom | free |
//                        begin                     end    capacity
//
// A line is returned in place. A line over the limit is dropped piece by piece as it arrives, so
// the limit bounds the memory for any input.
#include "batch/lines.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

// Bytes per read: enough to make the cost of a system call negligible.
#define LINES_READ_BYTES ((size_t)64 << 10)

static bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r'; }

// Makes room for LINES_READ_BYTES at the end of the buffer. Moves what is in it to the front.
static bool reserve_read(Lines *l, Error *err)
{
    if (l->begin) {
        memmove(l->buffer, l->buffer + l->begin, l->end - l->begin);
        l->end -= l->begin;
        l->begin = 0;
    }
    if (l->capacity - l->end >= LINES_READ_BYTES) {
        return true;
    }
    const size_t capacity = 2 * l->capacity + LINES_READ_BYTES;
    char *buffer = realloc(l->buffer, capacity);
    if (!buffer) {
        return error_memory(err, "a line", capacity);
    }
    l->buffer = buffer;
    l->capacity = capacity;
    return true;
}

// Reads some bytes into the buffer. LINE_READ also at the end of the input, which sets l->ended.
static LineStatus read_more(Lines *l, bool wait, Error *err)
{
    struct pollfd ready = {.fd = l->fd, .events = POLLIN};
    if (!wait && poll(&ready, 1, 0) <= 0) {
        return LINE_PENDING;
    }
    if (!reserve_read(l, err)) {
        return LINE_FAILED;
    }
    const ssize_t n = read(l->fd, l->buffer + l->end, LINES_READ_BYTES);
    if (n < 0 && errno == EINTR) {
        return LINE_PENDING;
    }
    if (n < 0) {
        error_set(err, ERROR_INPUT, "%s: cannot be read: %s", l->name, strerror(errno));
        return LINE_FAILED;
    }
    l->ended = n == 0;
    l->end += (size_t)n;
    return LINE_READ;
}

// In UTF-16 each line would fail by itself, with an error about a stray byte. Windows tools begin
// UTF-16 with a mark, U+FEFF in either byte order, which is never valid UTF-8. Without a mark,
// every other byte of ASCII text is 0.
LineStatus lines_begin(Lines *l, Error *err)
{
    while (l->end - l->begin < 2 && !l->ended) {
        const LineStatus status = read_more(l, true, err);
        if (status != LINE_READ) {
            return status;
        }
    }
    if (l->end - l->begin < 2) {
        return LINE_READ;
    }
    const unsigned char first = (unsigned char)l->buffer[l->begin],
                        second = (unsigned char)l->buffer[l->begin + 1];
    if ((first == 0xff && second == 0xfe) || (first == 0xfe && second == 0xff) ||
        !first != !second) {
        error_set(err, ERROR_INPUT,
                  "%s: is UTF-16, expected UTF-8 (iconv -f UTF-16 -t UTF-8 converts it)", l->name);
        return LINE_FAILED;
    }
    return LINE_READ;
}

// Returns the line of `size` bytes at begin. `ended`: a newline follows it.
static LineStatus return_line(Lines *l, size_t size, bool ended, Line *line)
{
    const bool too_long = l->skipping || size > l->limit;
    *line = (Line){.text = too_long || !size ? "" : l->buffer + l->begin,
                   .size = too_long ? 0 : size,
                   .number = l->number++,
                   .too_long = too_long,
                   .ended = ended};
    l->begin += size + ended;
    l->scanned = 0;
    l->skipping = false;
    return LINE_READ;
}

LineStatus lines_next(Lines *l, bool wait, Line *line, Error *err)
{
    for (;;) {
        const size_t size = l->end - l->begin;
        const char *newline = NULL;
        if (size > l->scanned) {
            newline = memchr(l->buffer + l->begin + l->scanned, '\n', size - l->scanned);
        }
        if (newline) {
            return return_line(l, (size_t)(newline - (l->buffer + l->begin)), true, line);
        }
        if (l->ended) {
            return size || l->skipping ? return_line(l, size, false, line) : LINE_END;
        }
        l->scanned = size;
        if (l->skipping || size > l->limit) {
            l->skipping = true;
            l->begin = l->end = l->scanned = 0;
        }
        const LineStatus status = read_more(l, wait, err);
        if (status != LINE_READ) {
            return status;
        }
    }
}

void lines_free(Lines *l)
{
    free(l->buffer);
    *l = (Lines){.fd = -1};
}

void line_skip_mark(Line *line)
{
    if (line->size >= 3 && memcmp(line->text, "\xef\xbb\xbf", 3) == 0) {
        line->text += 3;
        line->size -= 3;
    }
}

bool line_is_blank(const Line *line)
{
    size_t i = 0;
    while (i < line->size && is_blank(line->text[i])) {
        i++;
    }
    return i == line->size;
}

size_t lines_count(int fd)
{
    char bytes[4096];
    struct stat st;
    size_t n = 0;
    bool filled = false;  // the current line is not blank
    off_t at = lseek(fd, 0, SEEK_CUR);
    if (at < 0 || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        return 0;
    }
    for (ssize_t got; (got = pread(fd, bytes, sizeof bytes, at)) > 0; at += got) {
        for (ssize_t i = 0; i < got; i++) {
            const bool end = bytes[i] == '\n';
            n += end && filled;
            filled = !end && (filled || !is_blank(bytes[i]));
        }
    }
    return n + filled;
}
