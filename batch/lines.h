// lines.h - the lines of a file or a pipe, one after another.
#ifndef LINES_H
#define LINES_H

#include <stdint.h>

#include "base/error.h"

typedef struct {
    const char *text;  // (size) bytes, without the newline: in the reader, until the next call
    size_t size;
    uint64_t number;
    bool too_long;  // it has more bytes than the limit and was skipped: the text is empty
    bool ended;     // by a newline; false: the input ended first
} Line;

typedef enum {
    LINE_READ,
    LINE_PENDING,  // none could be read without waiting, or a signal came: try again
    LINE_END,      // there are no more
    LINE_FAILED,   // *err says why
} LineStatus;

// A reader of lines. Set the first four fields, and free it with lines_free.
typedef struct {
    int fd;            // the caller's
    const char *name;  // of the input, for messages
    size_t limit;      // bytes of a line, at most
    uint64_t number;   // of the next line
    // The rest is the reader's own.
    char *buffer;       // (capacity), owned; grows to the longest line
    size_t capacity;    // bytes
    size_t begin, end;  // bytes that were read and not yet returned
    size_t scanned;     // bytes from begin on that are known to hold no newline
    bool skipping;      // the line at begin is too long, and its start was dropped
    bool ended;         // the input has no more bytes
} Lines;

// Waits for the first bytes, before any line is read. Errors: ERROR_INPUT where they are UTF-16, or
// cannot be read; ERROR_RUN if out of memory.
LineStatus lines_begin(Lines *l, Error *err);

// Reads the next line. Unless `wait`, returns LINE_PENDING rather than wait for input. Errors:
// ERROR_INPUT where the input cannot be read; ERROR_RUN if out of memory.
LineStatus lines_next(Lines *l, bool wait, Line *line, Error *err);
void lines_free(Lines *l);

// Drops a byte order mark at the beginning of the line.
void line_skip_mark(Line *line);

// Is there nothing in the line but spaces and tabs, and the CR of a Windows line end?
bool line_is_blank(const Line *line);

// How many lines that are not blank a regular file has from its current position on. 0 for anything
// that is not a regular file.
size_t lines_count(int fd);

#endif
