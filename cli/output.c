// output.c - everything that the program prints. See output.h.
#include "cli/output.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/checksum.h"
#include "base/memory.h"

// Mapped files of a run: the checkpoint and the prompt cache.
#define MAX_WATCHED 2

// The handler of SIGBUS must not call printf, so the message is formatted beforehand.
typedef struct {
    const Mapping *file;  // NULL: an unused element
    char message[sizeof(Error) + 16];
} WatchedFile;

// What the signal handlers use.
static volatile sig_atomic_t interrupted;
static struct {
    WatchedFile files[MAX_WATCHED];
    const Output *out;  // its temporary file is removed when a signal ends the program
    void (*end)(int status);
} watched;

// --------------------------------------------------------------------------------------------
// Standard output and files

bool output_prepare(void (*end)(int status))
{
    watched.end = end;
    signal(SIGPIPE, SIG_DFL);  // the parent may have ignored it
    for (int fd = 0; fd <= 2; fd++) {
        // In the wrong direction: a read or write still fails, as on the closed descriptor.
        if (fcntl(fd, F_GETFD) == -1 && open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY) != fd) {
            return false;
        }
    }
    return true;
}

static bool same_file(const char *a, const char *b)
{
    struct stat x, y;
    return a && b && stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev &&
           x.st_ino == y.st_ino;
}

// Refuses to replace a file that the run reads. `what` precedes its name in the message.
static bool check_not_read(const Options *o, const char *what, const char *path, Error *err)
{
    static const char *const names[] = {"model", "tokenizer", "text of --calibrate"};
    const char *read[] = {o->engine.model, o->engine.tokenizer, o->calibrate};
    for (size_t i = 0; i < sizeof read / sizeof *read; i++) {
        if (same_file(path, read[i])) {
            return error_set(err, ERROR_USAGE, "%s%s: is the %s, expected another file", what, path,
                             names[i]);
        }
    }
    return true;
}

static void handle_signals(void (*handler)(int number))
{
    struct sigaction action = {.sa_handler = handler};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

static void remove_temporary(void)
{
    if (watched.out->file.temporary) {
        unlink(watched.out->file.temporary);
    }
}

// Ends the program at once: there is nothing to flush, or an earlier signal was not heeded in time.
static void on_last_signal(int number)
{
    remove_temporary();
    watched.end(128 + number);
}

void output_configure(Output *out, const Options *o)
{
    const bool terminal = !o->quiet && isatty(STDERR_FILENO);
    *out = (Output){.file = STANDARD_OUTPUT,
                    .quiet = o->quiet,
                    .stats = o->stats || terminal,
                    .progress = terminal,
                    .digest = HASH_BEGIN};
}

bool output_open(Output *out, const Options *o, Error *err)
{
    if (!o->output || o->mode == MODE_BATCH) {
        return true;
    }
    handle_signals(on_last_signal);
    const char *option = o->mode == MODE_CONVERT ? "--convert " : "--output ";
    return check_not_read(o, option, o->output, err) && new_file_create(&out->file, o->output, err);
}

bool output_save(const Options *o, const char *path, Buffer *text, Error *err)
{
    Output file = {0};
    if (!check_not_read(o, "", path, err) || !new_file_create(&file.file, path, err)) {
        return false;
    }
    const bool ok = output_write(&file, text, err);
    return output_close(&file, ok, err) && ok;
}

bool output_close(Output *out, bool keep, Error *err)
{
    const bool ok = out->file.fd <= STDERR_FILENO || new_file_close(&out->file, keep, err);
    *out = (Output){.file.fd = -1};
    return ok;
}

bool output_write(Output *out, Buffer *text, Error *err)
{
    const bool ok = buffer_check(text, err) &&
                    write_all(out->file.fd, out->file.name, text->data, text->size, err);
    buffer_clear(text);
    return ok;
}

void output_digest(Output *out, const float *logits, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &logits[i], sizeof bits);
        out->digest = hash_step(out->digest, bits);
    }
}

// --------------------------------------------------------------------------------------------
// Standard error

void output_note(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
}

void output_error(const Error *err) { output_note("run: %s", err->message); }

void output_thought(Output *out, Buffer *text)
{
    if (out->progress) {
        fwrite(text->data, 1, text->size, stderr);
    }
    text->size = 0;  // buffer_clear would forget an error
}

void output_thought_end(Output *out)
{
    if (out->progress) {
        fputs("\n\n", stderr);
    }
}

int output_screen(bool *edits)
{
    const char *term = getenv("TERM");
    *edits = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO) && term && *term &&
             strcmp(term, "dumb") != 0;
    return *edits && !isatty(STDERR_FILENO) ? STDOUT_FILENO : STDERR_FILENO;
}

// The usual width of a terminal.
#define STATS_COLUMNS 80

void stats_add(StatsLine *line, int rank, const char *format, ...)
{
    va_list args;
    if (line->n == MAX_STATS_PARTS) {
        return;
    }
    va_start(args, format);
    line->parts[line->n].rank = rank;
    vsnprintf(line->parts[line->n].text, sizeof line->parts->text, format, args);
    line->n++;
    va_end(args);
}

// Joins the parts up to a rank. The first one is shown without the punctuation before it.
static void join_up_to(const StatsLine *line, int rank, Buffer *out)
{
    buffer_clear(out);
    for (size_t i = 0; i < line->n; i++) {
        const char *text = line->parts[i].text;
        if (line->parts[i].rank <= rank) {
            buffer_add_text(out, text + (out->size ? 0 : strspn(text, ";, ")));
        }
    }
}

void output_stats(const StatsLine *line)
{
    Buffer text = {0};
    int rank = 0;
    for (size_t i = 0; i < line->n; i++) {
        rank = line->parts[i].rank > rank ? line->parts[i].rank : rank;
    }
    do {
        join_up_to(line, rank, &text);
    } while (text.size > STATS_COLUMNS && rank-- > 0);
    output_note("%s", text.size ? text.data : "");
    buffer_free(&text);
}

#define WIPE_LINE "\r\033[K"

void output_progress(Output *out, const char *format, ...)
{
    if (!out->progress) {
        return;
    }
    va_list args;
    va_start(args, format);
    fputs(WIPE_LINE, stderr);
    vfprintf(stderr, format, args);
    va_end(args);
    out->drawn = true;
}

void output_wipe(Output *out)
{
    if (out->drawn) {
        fputs(WIPE_LINE, stderr);
    }
    out->drawn = false;
}

static void draw_bytes(void *arg, size_t done, size_t total)
{
    const ByteCount *count = arg;
    if (done < total) {
        output_progress(count->out, "%s: %.0f of %.0f MB", count->what, (double)done / 1e6,
                        (double)total / 1e6);
    } else {
        output_wipe(count->out);
    }
}

Progress output_byte_progress(ByteCount *count) { return (Progress){draw_bytes, count}; }

void output_note_substitutes(const Output *out, const Checkpoint *c)
{
    Substitute list[MAX_SUBSTITUTES];
    const size_t n = out->quiet ? 0 : checkpoint_substitutes(c, list);
    for (size_t i = 0; i < n; i++) {
        output_note("run: %s: %zu tensors of type %s become %s, %s", c->path, list[i].n_tensors,
                    list[i].from, list[i].to, list[i].exact ? "exactly" : "to the nearest value");
    }
}

void output_note_repacked(const Output *out, const Engine *e)
{
    const CheckpointKind kind = e->checkpoint.kind;
    if (e->model.blocks && kind == CHECKPOINT_GGUF && !out->quiet) {
        output_note_substitutes(out, &e->checkpoint);
        output_note("run: %s: a GGUF file, repacked in memory; --convert FILE keeps the result",
                    e->options->model);
    } else if (e->model.blocks && kind == CHECKPOINT_LLAMA2C && out->stats) {
        output_note("run: %s: a llama2.c checkpoint, repacked in memory at each start",
                    e->options->model);
    }
}

// --------------------------------------------------------------------------------------------
// Signals

static void on_signal(int number)
{
    if (interrupted) {
        on_last_signal(number);
    }
    interrupted = number;
}

static void on_conversation_signal(int number)
{
    if (interrupted == SIGTERM) {
        on_last_signal(number);
    }
    interrupted = number;
}

void output_catch_signals(void) { handle_signals(on_signal); }

void output_catch_interrupts(void) { handle_signals(on_conversation_signal); }

bool output_go_on(void)
{
    const bool interrupt = interrupted == SIGINT;
    interrupted = interrupt ? 0 : interrupted;
    return interrupt;
}

const volatile sig_atomic_t *output_interrupted(void) { return &interrupted; }

// --------------------------------------------------------------------------------------------
// Mapped files that are cut short

static void on_bus_error(int number, siginfo_t *info, void *context)
{
    static atomic_flag first = ATOMIC_FLAG_INIT;
    const uintptr_t at = (uintptr_t)info->si_addr;
    const char *message = NULL;
    (void)context;
    for (size_t i = 0; i < MAX_WATCHED; i++) {
        const Mapping *file = watched.files[i].file;
        if (file && at >= (uintptr_t)file->data &&
            at - (uintptr_t)file->data < round_up(file->size, 4096)) {
            message = watched.files[i].message;
        }
    }
    if (!message) {
        signal(number, SIG_DFL);  // another address: the fault repeats, and ends the program
        return;
    }
    while (atomic_flag_test_and_set(&first)) {
        pause();  // another thread was first, and is about to end the program
    }
    remove_temporary();
    const ssize_t written = write(STDERR_FILENO, message, strlen(message));
    (void)written;  // there is nobody left to tell
    watched.end(ERROR_INPUT);
}

void output_watch(const Output *out, const Mapping *file, const char *path)
{
    WatchedFile *w = watched.files;
    while (w->file && w < watched.files + MAX_WATCHED - 1) {
        w++;
    }
    Error err = {0};
    error_set(&err, ERROR_INPUT, "%s: was truncated by another program while in use", path);
    snprintf(w->message, sizeof w->message, "run: %s\n", err.message);
    w->file = file;
    watched.out = out;
    struct sigaction action = {.sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO};
    sigemptyset(&action.sa_mask);
    sigaction(SIGBUS, &action, NULL);
}

void output_unwatch(const Mapping *file)
{
    for (size_t i = 0; i < MAX_WATCHED; i++) {
        if (watched.files[i].file == file) {
            watched.files[i].file = NULL;
        }
    }
}
