// lines.h - the lines of a file or a pipe, one after another.
#ifndef LINES_H
#define LINES_H

#include <stdint.h>

#include "base/error.h"

typedef struct {
    const char *text;  // (size), without the newline; in the reader's buffer, until the next call
    size_t size;
    uint64_t number;
    bool too_long;  // longer than the limit and skipped: the text is empty
    bool ended;     // by a newline; false: by the end of the input
} Line;

typedef enum {
    LINE_READ,
    LINE_PENDING,  // none without waiting, or a signal arrived: try again
    LINE_END,      // no more lines
    LINE_FAILED,   // *err says why
} LineStatus;

// A reader of lines. Set the first four fields and leave the rest zero. Free it with lines_free.
typedef struct {
    int fd;            // the caller's: lines_free does not close it
    const char *name;  // of the input, for messages
    size_t limit;      // most bytes in a line
    uint64_t number;   // of the next line
    // Private to the reader.
    char *buffer;       // (capacity), owned; grows to the longest line
    size_t capacity;    // bytes
    size_t begin, end;  // the bytes that were read and not yet returned
    size_t scanned;     // bytes from begin on that are known to hold no newline
    bool skipping;      // the current line is too long, and its start was dropped
    bool ended;         // the input has no more bytes
} Lines;

// Waits for the first two bytes, before any line is read, and checks that they are not UTF-16.
// Returns LINE_READ, also if the input has fewer bytes, or LINE_PENDING after a signal. Errors:
// ERROR_INPUT if they are UTF-16, or cannot be read; ERROR_RUN if out of memory.
LineStatus lines_begin(Lines *l, Error *err);

// Reads the next line. Unless `wait`, it returns LINE_PENDING rather than wait for input. Errors:
// ERROR_INPUT if the input cannot be read; ERROR_RUN if out of memory.
LineStatus lines_next(Lines *l, bool wait, Line *line, Error *err);
void lines_free(Lines *l);

// Drops a byte order mark at the start of the line.
void line_skip_mark(Line *line);

// Does the line have only spaces, tabs and carriage returns?
bool line_is_blank(const Line *line);

// Counts the lines that are not blank, from the current position of a regular file on. The position
// stays. 0 for anything that is not a regular file.
size_t lines_count(int fd);

#endif
