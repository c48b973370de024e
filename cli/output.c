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

// What the signal handlers use.
static volatile sig_atomic_t interrupted;
static struct {
    const Checkpoint *checkpoint;  // its files are watched, and:
    const Mapping *file;           // the prompt cache; NULL: there is none
    const char *path;              // of that
    const Output *out;             // its temporary file is removed when a signal ends the program
    void (*end)(int status);
} watched;

// --------------------------------------------------------------------------------------------
// Standard output and files

bool output_prepare(void (*end)(int status))
{
    watched.end = end;
    signal(SIGPIPE, SIG_DFL);  // the parent may have ignored it
    signal(SIGXFSZ, SIG_IGN);
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

// Is it one of the files of the model?
static bool is_of_model(const char *path, const Checkpoint *c)
{
    const Mapping *file;
    bool is = false;
    for (size_t i = 0; i < checkpoint_n_files(c); i++) {
        is |= same_file(path, checkpoint_file(c, i, &file));
    }
    return is;
}

// Refuses to replace a file that the run reads. `what` precedes its name in the message.
static bool check_not_read(const Options *o, const Checkpoint *c, const char *what,
                           const char *path, Error *err)
{
    const char *is = is_of_model(path, c)                   ? "model"
                     : same_file(path, o->engine.tokenizer) ? "tokenizer"
                     : same_file(path, o->calibrate)        ? "text of --calibrate"
                                                            : NULL;
    return !is ||
           error_set(err, ERROR_USAGE, "%s%s: is the %s, expected another file", what, path, is);
}

// Refuses to write a checkpoint into what cannot be replaced by a complete file. To be called before
// anything is opened: a FIFO would be waited for.
static bool check_replaceable(const char *what, const char *path, Error *err)
{
    struct stat st;
    const char *is = stat(path, &st) != 0 || S_ISREG(st.st_mode) ? NULL
                     : S_ISDIR(st.st_mode)                       ? "a directory"
                     : S_ISFIFO(st.st_mode)                      ? "a pipe"
                     : S_ISSOCK(st.st_mode)                      ? "a socket"
                                                                 : "a device";
    return !is || error_set(err, ERROR_USAGE, "%s%s: is %s, expected a regular file or a new name",
                            what, path, is);
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

bool output_open(Output *out, const Options *o, const Checkpoint *c, Error *err)
{
    const bool convert = o->mode == MODE_CONVERT;
    const char *option = convert ? "--convert " : "--output ";
    if (!o->output) {
        return true;
    }
    if (!check_not_read(o, c, option, o->output, err) ||
        (convert && !check_replaceable(option, o->output, err))) {
        return false;
    }
    if (o->mode == MODE_BATCH) {
        return true;
    }
    handle_signals(on_last_signal);
    return new_file_create(&out->file, o->output, err) &&
           (!convert || out->file.temporary ||
            error_set(err, ERROR_USAGE,
                      "%s%s: is a descriptor, expected a regular file or a new name", option,
                      o->output));
}

bool output_save(const Options *o, const Checkpoint *c, const char *path, Buffer *text, Error *err)
{
    Output file = {0};
    if (!check_not_read(o, c, "", path, err) || !new_file_create(&file.file, path, err)) {
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

static bool is_in(const Mapping *file, uintptr_t at)
{
    const uintptr_t begin = (uintptr_t)file->data;
    return file->data && at >= begin && at - begin < round_up(file->size, 4096);
}

// The path of the watched file that is mapped at an address, or NULL.
static const char *path_at(uintptr_t at)
{
    if (watched.file && is_in(watched.file, at)) {
        return watched.path;
    }
    for (size_t i = 0; i < checkpoint_n_files(watched.checkpoint); i++) {
        const Mapping *file;
        const char *path = checkpoint_file(watched.checkpoint, i, &file);
        if (is_in(file, at)) {
            return path;
        }
    }
    return NULL;
}

// Prints the message about a file, as a signal handler may: without printf. Control characters become
// '?', as in any error.
static void write_truncated(const char *path)
{
    static const char begin[] = "run: ",
                      end[] = ": was truncated by another program while in use\n";
    char line[sizeof begin + sizeof(Error) + sizeof end];
    size_t n = sizeof begin - 1;
    memcpy(line, begin, n);
    for (; *path && n < sizeof(Error); path++) {
        const unsigned char c = (unsigned char)*path;
        line[n++] = c < ' ' || c == 0x7f ? '?' : *path;
    }
    memcpy(line + n, end, sizeof end - 1);
    const ssize_t written = write(STDERR_FILENO, line, n + sizeof end - 1);
    (void)written;  // there is nobody left to tell
}

static void on_bus_error(int number, siginfo_t *info, void *context)
{
    static atomic_flag first = ATOMIC_FLAG_INIT;
    const char *path = path_at((uintptr_t)info->si_addr);
    (void)context;
    if (!path) {
        signal(number, SIG_DFL);  // another address: the fault repeats, and ends the program
        return;
    }
    while (atomic_flag_test_and_set(&first)) {
        pause();  // another thread was first, and is about to end the program
    }
    remove_temporary();
    write_truncated(path);
    watched.end(ERROR_INPUT);
}

void output_watch(const Output *out, const Checkpoint *c)
{
    watched.checkpoint = c;
    watched.out = out;
    struct sigaction action = {.sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO};
    sigemptyset(&action.sa_mask);
    sigaction(SIGBUS, &action, NULL);
}

void output_watch_cache(const Mapping *file, const char *path)
{
    watched.path = path;
    watched.file = file;
}
