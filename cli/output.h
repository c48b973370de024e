// output.h - everything that the program shows: the text on standard output or in a file, all else
// on standard error. No other file writes to either.
#ifndef OUTPUT_H
#define OUTPUT_H

#include <signal.h>

#include "base/buffer.h"
#include "base/error.h"
#include "base/files.h"
#include "options.h"

typedef struct {
    NewFile file;     // what --output names; without it, standard output, written in place
    bool stats;       // statistics are wanted
    bool progress;    // progress is drawn: stderr is a terminal, and there is no --quiet
    bool drawn;       // a line of progress stands on the terminal
    uint64_t digest;  // of the logits so far
} Output;

// The initialiser of a file that is standard output.
#define STANDARD_OUTPUT                                \
    {                                                  \
        .fd = STDOUT_FILENO, .name = "standard output" \
    }

// Before anything else: makes descriptors 0 to 2 exist, so that no file of ours is taken for one of
// them, and lets a reader that has gone away end the program as it does any filter. `end` is _exit,
// for the one error that no function can return (output_watch).
bool output_prepare(void (*end)(int status));

// Opens what --output names, or standard output; a batch opens its results itself. Errors:
// ERROR_USAGE where the file is one that the run reads; ERROR_RUN where it cannot be created.
bool output_open(Output *out, const Options *o, Error *err);

// Completes the output (keep), or leaves no trace of an output file. Error: ERROR_RUN.
bool output_close(Output *out, bool keep, Error *err);

// Writes a file besides the output, as output_open does: whole or not at all. Errors: ERROR_USAGE
// where the run reads that file; ERROR_RUN.
bool output_save(const Options *o, const char *path, Buffer *text, Error *err);

// Writes the text and clears it. Errors: ERROR_RUN where it cannot be written, or memory was
// lacking for it.
bool output_write(Output *out, Buffer *text, Error *err);

// A line on standard error, without its newline.
void output_note(const char *format, ...) PRINTF_LIKE(1, 2);

// "run: MESSAGE": why the program ends.
void output_error(const Error *err);

// The descriptor that prompts are drawn on, standard error or, where only that is a terminal,
// standard output. *edits: the terminal knows escape sequences, and text on standard output appears
// on it as soon as it is written, so that a line can be edited there.
int output_screen(bool *edits);

// Parts of a line of statistics at most: a few more than a batch has, the longest line.
#define MAX_STATS_PARTS 16

// A line of statistics: parts in the order in which they are shown, each with the punctuation
// before it. What does not fit a terminal's width is left out, by rank.
typedef struct {
    struct {
        char text[48];
        int rank;  // 0: always shown; others only with all of lower ranks
    } parts[MAX_STATS_PARTS];
    size_t n;
} StatsLine;

// Adds a part; nothing where the line is full.
void stats_add(StatsLine *line, int rank, const char *format, ...) PRINTF_LIKE(3, 4);

// Prints the line on standard error, at most 80 columns of it.
void output_stats(const StatsLine *line);

// Draws a line of progress over the one before, and wipes it; both do nothing unless out->progress.
void output_progress(Output *out, const char *format, ...) PRINTF_LIKE(2, 3);
void output_wipe(Output *out);

// Adds the bits of n logits to the digest.
void output_digest(Output *out, const float *logits, size_t n);

// The first SIGINT or SIGTERM only sets the flag, the second ends the program at once, without a
// temporary file left. To be called when there is something to flush: before that, the first one
// ends the program.
void output_catch_signals(void);

// The flag: the signal that asked for an end, or 0.
const volatile sig_atomic_t *output_interrupted(void);

// In a conversation SIGINT stops an answer: it only sets the flag, which output_go_on clears again;
// that returns whether there was one. A SIGTERM stays, and any signal after it ends the program at
// once. Call the first in place of output_catch_signals.
void output_catch_interrupts(void);
bool output_go_on(void);

// Files are read where they are mapped. When another program cuts such a file short, the pages past
// its new end are gone, and a thread that reads one gets SIGBUS: nothing can be computed any more.
// From output_watch on, a message then names the file, and the program ends with ERROR_INPUT.
// `file` must exist until output_unwatch, though the mapping may be opened and closed between.
void output_watch(const Output *out, const Mapping *file, const char *path);
void output_unwatch(const Mapping *file);

#endif
