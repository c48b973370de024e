// output.h - everything that the program prints: text to standard output or a file, all else to
// standard error. No other file writes to either, except for the results of a batch
// (batch/results.c) and the lines that the editor draws.
#ifndef OUTPUT_H
#define OUTPUT_H

#include <signal.h>

#include "base/buffer.h"
#include "base/error.h"
#include "base/files.h"
#include "base/progress.h"
#include "options.h"

typedef struct {
    NewFile file;     // the file of --output; without it standard output, written in place
    bool quiet;       // print only errors on stderr
    bool stats;       // print statistics
    bool progress;    // draw progress: stderr is a terminal, and there is no --quiet
    bool drawn;       // a line of progress is on the terminal
    uint64_t digest;  // of the logits so far
} Output;

// The initialiser of a NewFile that is standard output.
#define STANDARD_OUTPUT                                \
    {                                                  \
        .fd = STDOUT_FILENO, .name = "standard output" \
    }

// To be called before anything else. Opens those of the descriptors 0 to 2 that are closed, so that
// no file of ours is taken for one of them; false if that fails. Gives SIGPIPE its default action,
// so that the program ends, like any filter, when its reader has gone. Ignores SIGXFSZ: a write beyond
// the limit of a file's size (ulimit -f) then fails with EFBIG, and is reported as on a full disk. `end`
// is _exit: the signal handlers end the program with it.
bool output_prepare(void (*end)(int status));

// Sets what is shown while the program runs: statistics, progress.
void output_configure(Output *out, const Options *o);

// Opens the file of --output or --convert, or standard output; a batch opens its results itself.
// Errors: ERROR_USAGE if the run reads that file, or if it is to be a checkpoint and is not a regular
// file; ERROR_RUN if it cannot be created. *c is the checkpoint that is open.
bool output_open(Output *out, const Options *o, const Checkpoint *c, Error *err);

// Completes the output (keep), or removes an output file, unless it was written in place. Error:
// ERROR_RUN.
bool output_close(Output *out, bool keep, Error *err);

// Writes the text to a file other than the output. A regular file is written completely or not at
// all. Errors: ERROR_USAGE if the run reads that file; ERROR_RUN if it cannot be written, or memory
// ran out while the text was made.
bool output_save(const Options *o, const Checkpoint *c, const char *path, Buffer *text, Error *err);

// Writes the text to the output and clears it. Error: ERROR_RUN if it cannot be written, or memory
// ran out while the text was made.
bool output_write(Output *out, Buffer *text, Error *err);

// Prints a line on standard error, and adds its newline.
void output_note(const char *format, ...) PRINTF_LIKE(1, 2);

// Prints "run: MESSAGE" on standard error.
void output_error(const Error *err);

// Prints text of a thought on standard error if that is a terminal, without --quiet; clears it.
// output_thought_end ends its line, and leaves one empty before the answer.
void output_thought(Output *out, Buffer *text);
void output_thought_end(Output *out);

// The descriptor to draw prompts on: standard error, or standard output if a line can be edited but
// standard error is no terminal. *edits: a line can be edited, because standard input and output
// are terminals that understand escape sequences.
int output_screen(bool *edits);

// The most parts in a line of statistics: a few more than a batch has, the longest line.
#define MAX_STATS_PARTS 16

// A line of statistics: its parts in order, each with the punctuation before it. If the line is too
// long for a terminal, the parts of the highest ranks are left out first.
typedef struct {
    struct {
        char text[48];
        int rank;  // 0: always shown; others only if all lower ranks are
    } parts[MAX_STATS_PARTS];
    size_t n;
} StatsLine;

// Adds a part; does nothing if the line is full.
void stats_add(StatsLine *line, int rank, const char *format, ...) PRINTF_LIKE(3, 4);

// Prints the line on standard error. If it has more than 80 columns, ranks above 0 are left out.
void output_stats(const StatsLine *line);

// Draws a line of progress over the one before; output_wipe erases it. Both do nothing unless
// out->progress.
void output_progress(Output *out, const char *format, ...) PRINTF_LIKE(2, 3);
void output_wipe(Output *out);

// What the progress of a function is drawn with: "WHAT: 12 of 600 MB", erased at the end.
typedef struct {
    Output *out;
    const char *what;
} ByteCount;
Progress output_byte_progress(ByteCount *count);

// Tells which types of a model's tensors became another one. To be called when the tensors were
// loaded or converted.
void output_note_substitutes(const Output *out, const Checkpoint *c);

// Tells, once it is open, that a model had to be repacked, and what spares that at the next start.
// Of a llama2.c checkpoint, which is small, only with statistics.
void output_note_repacked(const Output *out, const Engine *e);

// Hashes the bits of n logits into out->digest.
void output_digest(Output *out, const float *logits, size_t n);

// From now on the first SIGINT or SIGTERM only sets the flag; the second ends the program at once,
// and removes the temporary file. To be called when there is something to flush: before that, the
// first one ends the program.
void output_catch_signals(void);

// The flag: the number of the signal that told the program to stop, or 0.
const volatile sig_atomic_t *output_interrupted(void);

// A conversation calls output_catch_interrupts in place of output_catch_signals. There SIGINT stops
// an answer: it only sets the flag. output_go_on clears the flag of a SIGINT, and returns whether
// there was one. A SIGTERM is not cleared, and any signal after it ends the program at once.
void output_catch_interrupts(void);
bool output_go_on(void);

// Files are read where they are mapped. If another program truncates such a file, the pages past
// its new end are gone, and a thread that reads one gets SIGBUS: nothing can be computed any more.
// From output_watch on, the program then prints a message that names the file, and ends with
// ERROR_INPUT. The temporary file of `out` is removed. The files of *c are watched, which may be
// opened and closed in between, and the one of output_watch_cache: a prompt cache, or NULL for none.
void output_watch(const Output *out, const Checkpoint *c);
void output_watch_cache(const Mapping *file, const char *path);

#endif
