// run.c - the command line: options, the prompt, output, signals, exit codes. The only file that
// prints and exits.
//
// One table of options drives the parser and --help. Text goes to stdout (or -o), all else to
// stderr.
#include <errno.h>
#include <fcntl.h>
#include <float.h>
#include <math.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/checksum.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/files.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/threads.h"
#include "batch/batch.h"
#include "batch/prompt_cache.h"
#include "cli/bench.h"
#include "generate.h"
#include "text/chat.h"

#define VERSION "0.1.0"

// A thread must have this much to read for each token, or it costs more in waiting than it saves.
// Measured on stories260K (1 MB): a short story is told 1.4 times as fast by one thread as by 2.
#define WEIGHTS_PER_THREAD ((size_t)1 << 20)

// Logits of several rows that --score holds at once.
#define SCORE_LOGITS_BYTES ((size_t)64 << 20)

// Sequences of a batch where --parallel does not say, as far as memory has room for them.
// SmolLM2, 64 chats: 420 tokens/s one by one, 900 by 16, 1050 by 32, 1150 by 64.
#define DEFAULT_PARALLEL 64

#define MAX_PROMPT_BYTES ((size_t)1 << 30)

// --------------------------------------------------------------------------------------------
// Options

typedef struct {
    const char *model;
    const char *prompt, *prompt_file, *tokenizer, *output, *simd, *kv, *mode, *system, *batch;
    const char *prompt_cache;
    const char *stops[MAX_STOPS];
    size_t n_stops;
    size_t max_tokens, top_k, repeat_last_n, context, threads, logprobs, chunk, parallel,
        first_line;
    double temperature, top_p, min_p, repeat_penalty;
    uint64_t seed;
    bool seed_set, logprobs_set, tokenize, ignore_eos, special, no_echo, truncate_prompt, json,
        stats, quiet, digest;
    bool chat, score, bench, info, verify, help, version, lines, resume;
} Options;

typedef enum { FLAG, SIZE, REAL, SEED, TEXT, TEXTS } OptionKind;

typedef struct {
    char letter;  // 0: none
    const char *name, *value;
    OptionKind kind;
    size_t offset;
    double min, max;
    const char *help;
} Option;

#define AT(field) offsetof(Options, field)

static const Option option_table[] = {
    {0, "chat", NULL, FLAG, AT(chat), 0, 0,
     "answer through the model's chat template; no prompt: converse"},
    {'m', "mode", "MODE", TEXT, AT(mode), 0, 0, "generate or chat, as llama2.c has it"},
    {'b', "batch", "FILE", TEXT, AT(batch), 0, 0,
     "answer the requests of FILE (docs/batch.md); - is standard input"},
    {0, "tokenize", NULL, FLAG, AT(tokenize), 0, 0,
     "print the prompt's token ids instead of generating"},
    {0, "score", NULL, FLAG, AT(score), 0, 0, "print the prompt's log-likelihood and perplexity"},
    {0, "bench", NULL, FLAG, AT(bench), 0, 0,
     "measure the model's speed here, beside the machine's limits"},
    {0, "info", NULL, FLAG, AT(info), 0, 0,
     "print what the checkpoint holds and the memory it needs"},
    {0, "verify", NULL, FLAG, AT(verify), 0, 0, "check the checkpoint's checksums from end to end"},
    {0, "help", NULL, FLAG, AT(help), 0, 0, "this text"},
    {0, "version", NULL, FLAG, AT(version), 0, 0, "the version"},
    {'i', "prompt", "TEXT", TEXT, AT(prompt), 0, 0,
     "the prompt; without it and -f: standard input"},
    {'f', "prompt-file", "FILE", TEXT, AT(prompt_file), 0, 0,
     "the prompt, or what follows TEXT in it; - is standard input"},
    {0, "truncate-prompt", NULL, FLAG, AT(truncate_prompt), 0, 0,
     "keep the end of a prompt that does not fit"},
    {'n', "max-tokens", "N", SIZE, AT(max_tokens), 0, 1e9,
     "new tokens at most (256); 0: until the context is full"},
    {'t', "temperature", "T", REAL, AT(temperature), 0, 1000,
     "1.0; 0 takes the most probable token"},
    {'p', "top-p", "P", REAL, AT(top_p), 0, 1,
     "sample from the best tokens that exceed P (0.9); 0, 1: off"},
    {'k', "top-k", "K", SIZE, AT(top_k), 0, 1e9, "sample from the K best tokens; 0: off"},
    {0, "min-p", "P", REAL, AT(min_p), 0, 1,
     "drop tokens less than P times as probable as the best; 0: off"},
    {0, "repeat-penalty", "R", REAL, AT(repeat_penalty), 0.01, 100,
     "divide the logits of recent tokens by R (1.0: off)"},
    {0, "repeat-last-n", "N", SIZE, AT(repeat_last_n), 0, 1e9, "how many tokens are recent (64)"},
    {'s', "seed", "N", SEED, AT(seed), 0, 0, "of the random numbers; default: from the system"},
    {0, "stop", "TEXT", TEXTS, AT(stops), 0, 0, "stop before TEXT; may be given up to 16 times"},
    {0, "ignore-eos", NULL, FLAG, AT(ignore_eos), 0, 0, "go on after the end of the text"},
    {0, "special", NULL, FLAG, AT(special), 0, 0,
     "names of special tokens in the prompt are taken for them"},
    {0, "no-echo", NULL, FLAG, AT(no_echo), 0, 0, "print the continuation without the prompt"},
    {'y', "system", "TEXT", TEXT, AT(system), 0, 0,
     "the system message of a chat (the template's own)"},
    {'z', "tokenizer", "FILE", TEXT, AT(tokenizer), 0, 0,
     "of a llama2.c checkpoint; default: tokenizer.bin beside it, or here"},
    {'c', "context", "N", SIZE, AT(context), 1, 1e9, "positions (the model's)"},
    {0, "kv", "TYPE", TEXT, AT(kv), 0, 0, "type of cached keys and values: f32 or f16"},
    {0, "chunk", "N", SIZE, AT(chunk), 1, 4096,
     "prompt tokens that are run together (256); never changes the text"},
    {'j', "threads", "N", SIZE, AT(threads), 1, 1024,
     "default: what is fastest; also OMP_NUM_THREADS"},
    {0, "simd", "SET", TEXT, AT(simd), 0, 0,
     "kernels: auto, avx512, avx2, neon or scalar; never changes the text"},
    {0, "parallel", "N", SIZE, AT(parallel), 1, 1024,
     "requests of a batch that are run together (64); never changes the text"},
    {0, "lines", NULL, FLAG, AT(lines), 0, 0, "each line of the batch is itself a prompt"},
    {0, "resume", NULL, FLAG, AT(resume), 0, 0,
     "keep the results that are in the output file, and go on after them"},
    {0, "first-line", "N", SIZE, AT(first_line), 1, 1e15,
     "the number of the batch's first line (1): of a piece of a longer file"},
    {0, "prompt-cache", "FILE", TEXT, AT(prompt_cache), 0, 0,
     "keep the prompt's keys and values in FILE, for later runs"},
    {'o', "output", "FILE", TEXT, AT(output), 0, 0,
     "written whole or not at all; of a batch, line by line"},
    {0, "json", NULL, FLAG, AT(json), 0, 0, "one JSON object instead of text"},
    {0, "logprobs", "K", SIZE, AT(logprobs), 0, 20,
     "with --json: log-probabilities of each token and the K best"},
    {0, "stats", NULL, FLAG, AT(stats), 0, 0,
     "a line of statistics on stderr, also where that is no terminal"},
    {'q', "quiet", NULL, FLAG, AT(quiet), 0, 0, "nothing on stderr but errors"},
    {0, "digest", NULL, FLAG, AT(digest), 0, 0,
     "print a digest of the bits of all logits on stderr"},
};
#define N_OPTIONS (sizeof option_table / sizeof *option_table)

static const Options default_options = {.max_tokens = 256,
                                        .temperature = 1.0,
                                        .top_p = 0.9,
                                        .repeat_penalty = 1.0,
                                        .repeat_last_n = 64,
                                        .chunk = 256};

static void print_help(void)
{
    printf("Usage: run MODEL [options]\n\nGenerates text with a model of the Llama family.\n\n");
    for (size_t i = 0; i < N_OPTIONS; i++) {
        const Option *o = &option_table[i];
        char left[64];
        snprintf(left, sizeof left, "%c%c%s --%s%s%s", o->letter ? '-' : ' ',
                 o->letter ? o->letter : ' ', o->letter ? "," : " ", o->name, o->value ? " " : "",
                 o->value ? o->value : "");
        printf("  %-26s %s\n", left, o->help);
    }
    printf("\n  ./run stories.bin -i \"Once upon a time\"\n  git log -5 | ./run model.bin -n 100 > "
           "out.txt\n");
}

// Parses the text of a number to its end.
static bool parse_value(const Option *o, const char *shown, const char *text, Options *options,
                        Error *err)
{
    void *field = (char *)options + o->offset;
    char *end = NULL;
    errno = 0;
    const bool digits = *text >= '0' &&
                        *text <= '9';  // no sign, no space: strtoull would take "-1"
    if (o->kind == SEED || o->kind == SIZE) {
        unsigned long long v = digits ? strtoull(text, &end, 10) : 0;
        if (!digits || *end || errno ||
            (o->kind == SIZE && ((double)v < o->min || (double)v > o->max))) {
            return o->kind == SEED
                       ? error_set(err, ERROR_USAGE,
                                   "%s %s: expected a whole number from 0 to 2^64 - 1", shown, text)
                       : error_set(err, ERROR_USAGE,
                                   "%s %s: expected a whole number from %.0f to %.0f", shown, text,
                                   o->min, o->max);
        }
        if (o->kind == SEED) {
            *(uint64_t *)field = v;
            options->seed_set = true;
        } else {
            *(size_t *)field = (size_t)v;
        }
        return true;
    }
    if (o->kind == REAL) {
        double v = digits || *text == '.' ? strtod(text, &end) : 0;
        if (!end || end == text || *end || !(v >= o->min && v <= o->max) || strpbrk(text, "xXnN")) {
            return error_set(err, ERROR_USAGE, "%s %s: expected a number from %g to %g", shown,
                             text, o->min, o->max);
        }
        *(double *)field = v;
        return true;
    }
    if (o->kind == TEXTS) {
        if (!*text || options->n_stops == MAX_STOPS) {
            return *text ? error_set(err, ERROR_USAGE, "%s: given more than %d times", shown,
                                     MAX_STOPS)
                         : error_set(err, ERROR_USAGE, "%s: expected a text that is not empty",
                                     shown);
        }
        options->stops[options->n_stops++] = text;
        return true;
    }
    *(const char **)field = text;
    return true;
}

static bool parse_options(int argc, char **argv, Options *options, Error *err)
{
    bool only_operands = false;
    for (int i = 1; i < argc; i++) {
        const char *arg = argv[i];
        if (only_operands || arg[0] != '-' || !arg[1]) {
            if (options->model) {
                return error_set(err, ERROR_USAGE,
                                 "%s: a second model; expected one (the prompt goes after -i)",
                                 arg);
            }
            options->model = arg;
            continue;
        }
        if (strcmp(arg, "--") == 0) {
            only_operands = true;
            continue;
        }
        const bool is_long = arg[1] == '-';
        const char *value = is_long ? strchr(arg, '=') : arg[2] ? arg + 2 : NULL;
        const size_t length = is_long && value ? (size_t)(value - arg) - 2
                                               : strlen(arg + 1 + is_long);
        if (is_long && value) {
            value++;
        }
        const Option *o = NULL;
        for (size_t k = 0; k < N_OPTIONS && !o; k++) {
            const Option *c = &option_table[k];
            if (is_long ? strlen(c->name) == length && memcmp(c->name, arg + 2, length) == 0
                        : c->letter == arg[1]) {
                o = c;
            }
        }
        if (!o) {
            return error_set(err, ERROR_USAGE, "%s: unknown option (--help lists them)", arg);
        }
        char shown[48];
        snprintf(shown, sizeof shown, "%s%s", is_long ? "--" : "-",
                 is_long ? o->name : (char[2]){o->letter, 0});
        if (o->kind == FLAG) {
            if (value) {
                return error_set(err, ERROR_USAGE, "%s: takes no value, found %s", shown, value);
            }
            *(bool *)((char *)options + o->offset) = true;
            continue;
        }
        if (!value && i + 1 == argc) {
            return error_set(err, ERROR_USAGE, "%s: expected a value, %s", shown, o->value);
        }
        if (!parse_value(o, shown, value ? value : argv[++i], options, err)) {
            return false;
        }
        options->logprobs_set |= o->offset == AT(logprobs);
    }
    return true;
}

// --batch says where the requests come from, and --chat how those are put that have no form of
// their own; all other modes exclude it.
static bool check_batch_options(Options *o, const char *mode, Error *err)
{
    const struct {
        const char *name;
        bool given;
    } with[] = {{"--parallel", o->parallel},
                {"--lines", o->lines},
                {"--resume", o->resume},
                {"--first-line", o->first_line}},
      without[] = {{"--prompt", o->prompt}, {"--prompt-file", o->prompt_file},
                   {"--json", o->json},     {"--no-echo", o->no_echo},
                   {"--digest", o->digest}, {mode, mode && !o->chat}};
    for (size_t i = 0; !o->batch && i < sizeof with / sizeof *with; i++) {
        if (with[i].given) {
            return error_set(err, ERROR_USAGE, "%s: expected --batch with it", with[i].name);
        }
    }
    for (size_t i = 0; o->batch && i < sizeof without / sizeof *without; i++) {
        if (without[i].given) {
            return error_set(err, ERROR_USAGE, "%s: not with --batch", without[i].name);
        }
    }
    if (o->resume && (!o->output || strcmp(o->output, "-") == 0)) {
        return error_set(err, ERROR_USAGE, "--resume: expected --output FILE with it");
    }
    o->parallel = o->parallel ? o->parallel : o->batch ? DEFAULT_PARALLEL : 1;
    o->first_line = o->first_line ? o->first_line : 1;
    return true;
}

static bool check_options(Options *o, Error *err)
{
    if (o->kv && strcmp(o->kv, "f32") != 0 && strcmp(o->kv, "f16") != 0) {
        return error_set(err, ERROR_USAGE, "--kv %s: expected f32 or f16", o->kv);
    }
    if (o->mode && strcmp(o->mode, "chat") != 0 && strcmp(o->mode, "generate") != 0) {
        return error_set(err, ERROR_USAGE, "--mode %s: expected generate or chat", o->mode);
    }
    o->chat |= o->mode && strcmp(o->mode, "chat") == 0;
    static const char *const names[] = {"--chat",  "--tokenize", "--score",
                                        "--bench", "--info",     "--verify"};
    const bool modes[] = {o->chat, o->tokenize, o->score, o->bench, o->info, o->verify};
    const char *mode = NULL;
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        if (modes[i] && mode) {
            return error_set(err, ERROR_USAGE, "%s: not with %s", names[i], mode);
        }
        mode = modes[i] ? names[i] : mode;
    }
    if (o->logprobs_set && (!o->json || (mode && !o->chat))) {
        return error_set(err, ERROR_USAGE, "--logprobs: expected --json with it, and no %s",
                         mode && !o->chat ? mode : "other mode");
    }
    if (o->system && !o->chat && !o->batch) {
        return error_set(err, ERROR_USAGE, "--system: expected --chat or --batch with it");
    }
    if (o->prompt_cache && mode && !o->chat) {
        return error_set(err, ERROR_USAGE, "--prompt-cache: not with %s", mode);
    }
    if (!check_batch_options(o, mode, err)) {
        return false;
    }
    if (o->quiet && o->stats) {
        return error_set(err, ERROR_USAGE, "--quiet: not with --stats");
    }
    if (!o->model) {
        return error_set(err, ERROR_USAGE,
                         "MODEL: missing; the one that comes along is models/stories.bin: ./run "
                         "models/stories.bin, or make demo (--help lists all)");
    }
    return true;
}

// --------------------------------------------------------------------------------------------
// Signals: the first asks for an end at the next token, the second ends at once

static volatile sig_atomic_t interrupted;

static void on_signal(int number) { interrupted = number; }

// Only while there is something to be flushed: before that, a signal ends the program by itself.
static void catch_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

// Makes descriptors 0 to 2 exist, so that no file of ours is taken for one of them. What was closed
// fails when used.
static void guard_standard_files(void)
{
    for (int fd = 0; fd <= 2; fd++) {
        if (fcntl(fd, F_GETFD) == -1 && open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY) != fd) {
            exit(ERROR_RUN);
        }
    }
}

// --------------------------------------------------------------------------------------------
// Output

// stdout, or a file that appears under its name only when it is complete.
typedef struct {
    int fd;
    const char *name;  // for messages
    char *temporary;   // owned; NULL: written in place
} Output;

static bool same_file(const char *a, const char *b)
{
    struct stat x, y;
    return a && b && stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev &&
           x.st_ino == y.st_ino;
}

static bool output_open(Output *out, const Options *o, Error *err)
{
    const char *path = o->output;
    *out = (Output){STDOUT_FILENO, "standard output", NULL};
    if (!path) {
        return true;
    }
    if (same_file(path, o->model) || same_file(path, o->tokenizer)) {
        return error_set(err, ERROR_USAGE, "--output %s: is the %s, expected another file", path,
                         same_file(path, o->model) ? "model" : "tokenizer");
    }
    out->name = path;
    struct stat st;
    const bool there = stat(path, &st) == 0;
    if (there && !S_ISREG(st.st_mode)) {  // a device or a pipe cannot be replaced
        out->fd = open(path, O_WRONLY | O_CLOEXEC);
        return out->fd >= 0 ||
               error_set(err, ERROR_RUN, "%s: cannot be created: %s", path, strerror(errno));
    }
    out->fd = create_beside(path, &out->temporary, err);
    if (out->fd >= 0 && there) {
        fchmod(out->fd, st.st_mode & 07777);
    }
    return out->fd >= 0;
}

// Completes the output (keep), or leaves no trace of an output file.
static bool output_close(Output *out, bool keep, Error *err)
{
    bool ok = true;
    if (out->temporary && keep) {
        if (fsync(out->fd) != 0 || rename(out->temporary, out->name) != 0) {
            ok = error_set(err, ERROR_RUN, "%s: cannot be written: %s", out->name, strerror(errno));
        }
    }
    if (out->temporary && (!keep || !ok)) {
        unlink(out->temporary);
    }
    if (out->fd != STDOUT_FILENO && out->fd >= 0 && close(out->fd) != 0 && ok && keep) {
        ok = error_set(err, ERROR_RUN, "%s: cannot be written: %s", out->name, strerror(errno));
    }
    free(out->temporary);
    *out = (Output){.fd = -1};
    return ok;
}

// --------------------------------------------------------------------------------------------
// The prompt and the model

static bool read_prompt(const Options *o, Buffer *prompt, Error *err)
{
    if (o->prompt && !buffer_append(prompt, o->prompt, strlen(o->prompt), err)) {
        return false;
    }
    if (o->prompt && o->prompt_file && !buffer_append(prompt, "\n\n", 2, err)) {
        return false;
    }
    if (o->prompt_file ? strcmp(o->prompt_file, "-") == 0 : !o->prompt && !isatty(STDIN_FILENO)) {
        return read_all(STDIN_FILENO, "standard input", MAX_PROMPT_BYTES, prompt, err);
    }
    return !o->prompt_file || read_file(o->prompt_file, MAX_PROMPT_BYTES, prompt, err);
}

// Inside a native checkpoint; of llama2.c's, tokenizer.bin beside the model, or here.
static bool open_tokenizer(Tokenizer **tokenizer, const Options *o, const Checkpoint *c, Error *err)
{
    const size_t vocab_size = c->config.vocab_size;
    if (!c->repacked) {
        return o->tokenizer ? error_set(err, ERROR_USAGE, "--tokenizer %s: %s has its own inside",
                                        o->tokenizer, o->model)
                            : tokenizer_open_section(tokenizer, o->model, c->tokenizer.data,
                                                     c->tokenizer.size, vocab_size, err);
    }
    if (o->tokenizer) {
        return tokenizer_open_llama2c(tokenizer, o->tokenizer, vocab_size, err);
    }
    const char *slash = strrchr(o->model, '/');
    const size_t folder = slash ? (size_t)(slash - o->model) + 1 : 0;
    Buffer path = {0};
    bool ok = buffer_append(&path, o->model, folder, err) &&
              buffer_append(&path, "tokenizer.bin", 13, err);
    const char *found = NULL;
    if (ok && access(path.data, F_OK) == 0) {
        found = path.data;
    } else if (ok && access("tokenizer.bin", F_OK) == 0) {
        found = "tokenizer.bin";
    } else if (ok) {
        ok = error_set(
            err, ERROR_INPUT,
            "%s: a llama2.c checkpoint has no tokenizer inside; expected -z FILE, or a file %s",
            o->model, path.data);
    }
    if (found && !tokenizer_open_llama2c(tokenizer, found, vocab_size, err)) {
        const Error why = *err;
        ok = error_set(err, why.kind, "%s%s", why.message,
                       why.kind == ERROR_INPUT ? " (another model's? -z FILE names this one's)"
                                               : "");
    }
    buffer_free(&path);
    return ok;
}

// All that a run holds, released together.
typedef struct {
    Options o;
    Checkpoint checkpoint;
    Tokenizer *tokenizer;
    Model model;
    Cache cache;
    Scratch scratch;
    Sequence sequence;
    Row *rows;
    Buffer prompt, json, tokens_json;
    Tokens tokens;
    ChatTemplate chat;
    Output out;
    PromptCache prompt_cache;
    size_t threads, context;
    uint64_t fingerprint;  // checkpoint_fingerprint, where a batch or a prompt cache wants it
    uint64_t digest;
} Run;

// The checkpoint and the prompt cache's file are read where they are mapped. Where another program
// cuts one short meanwhile, the pages past its new end are gone, and a thread that reads one gets
// SIGBUS: nothing can be computed any more. What the handler needs is made ready beforehand, since
// it may not format a message.
typedef struct {
    const Mapping *file;
    char message[sizeof(Error) + 16];
} WatchedFile;

static WatchedFile watched[2];
static const Output *watched_output;

static void on_bus_error(int number, siginfo_t *info, void *context)
{
    static atomic_flag first = ATOMIC_FLAG_INIT;
    const char *message = NULL;
    (void)context;
    for (size_t i = 0; i < sizeof watched / sizeof *watched; i++) {
        const Mapping *file = watched[i].file;
        const uintptr_t at = (uintptr_t)info->si_addr, begin = (uintptr_t)file->data;
        message = at >= begin && at - begin < round_up(file->size, 4096) ? watched[i].message
                                                                         : message;
    }
    if (!message) {
        signal(number, SIG_DFL);  // not ours to explain: it happens again when this returns
        return;
    }
    while (atomic_flag_test_and_set(&first)) {
        pause();  // another thread came first, and is about to end us all
    }
    if (watched_output->temporary) {
        unlink(watched_output->temporary);
    }
    const ssize_t written = write(STDERR_FILENO, message, strlen(message));
    (void)written;  // nobody is left to be told
    _exit(ERROR_INPUT);
}

static void watch_files(const Run *r)
{
    const char *paths[] = {r->o.model, r->o.prompt_cache ? r->o.prompt_cache : ""};
    watched[0].file = &r->checkpoint.file;
    watched[1].file = &r->prompt_cache.file;
    watched_output = &r->out;
    for (size_t i = 0; i < sizeof watched / sizeof *watched; i++) {
        Error err = {0};
        error_set(&err, ERROR_INPUT, "%s: was cut short by another program while it was used",
                  paths[i]);
        snprintf(watched[i].message, sizeof watched[i].message, "run: %s\n", err.message);
    }
    struct sigaction action = {.sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO};
    sigemptyset(&action.sa_mask);
    sigaction(SIGBUS, &action, NULL);
}

static void run_free(Run *r)
{
    sequence_free(&r->sequence);
    tokens_free(&r->tokens);
    buffer_free(&r->prompt);
    buffer_free(&r->json);
    buffer_free(&r->tokens_json);
    free(r->rows);
    scratch_free(&r->scratch);
    cache_free(&r->cache);
    prompt_cache_close(&r->prompt_cache);
    model_free(&r->model);
    tokenizer_free(r->tokenizer);
    checkpoint_close(&r->checkpoint);
}

// What keys and values may take of the machine's memory: half of it, all where it is not known.
static size_t most_cache_bytes(void)
{
    const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    return pages > 0 && page > 0 ? (size_t)pages / 2 * (size_t)page : SIZE_MAX;
}

static bool choose_context(Run *r, bool f16, Error *err)
{
    const Config *p = &r->checkpoint.config;
    r->context = r->o.context ? r->o.context : p->context_length;
    if (r->context > p->context_length) {
        return error_set(err, ERROR_USAGE, "--context %zu: expected at most %zu, the model's",
                         r->context, p->context_length);
    }
    if (r->o.context) {
        return true;
    }
    // Keys and values of the model's whole context may be more than the machine has.
    const size_t most = most_cache_bytes();
    size_t bytes;
    while (most < SIZE_MAX && r->context > 512 &&
           (!cache_sequence_bytes(p, r->context, f16, &bytes) || bytes > most)) {
        r->context /= 2;
    }
    return true;
}

// Opens the checkpoint and its tokenizer. To verify a file is to say what is damaged, which the
// tokenizer may be.
static bool open_checkpoint(Run *r, Error *err)
{
    const Options *o = &r->o;
    watch_files(r);
    return ops_select(o->simd ? o->simd : "auto", err) &&
           checkpoint_open(&r->checkpoint, o->model, team_max(), err) &&
           (o->verify || open_tokenizer(&r->tokenizer, o, &r->checkpoint, err));
}

// Type of the keys and values that are cached. llama2.c keeps f32: so do its files here, and tell
// the same stories.
static bool kv_f16(const Run *r)
{
    return r->o.kv ? strcmp(r->o.kv, "f16") == 0 : !r->checkpoint.repacked;
}

// Takes the weights, and decides how many positions and threads there are.
static bool open_model(Run *r, Error *err)
{
    const Options *o = &r->o;
    if (r->checkpoint.vocab_only) {
        return error_set(err, ERROR_INPUT,
                         "%s: holds a vocabulary only; it can be used with --tokenize", o->model);
    }
    if (!model_create(&r->model, &r->checkpoint, err) || !choose_context(r, kv_f16(r), err)) {
        return false;
    }
    const size_t shares = r->model.read_bytes / WEIGHTS_PER_THREAD, useful = shares ? shares : 1;
    r->threads = o->threads ? o->threads : team_max();
    if (!o->threads && !getenv("OMP_NUM_THREADS") && r->threads > useful) {
        r->threads = useful;
    }
    return true;
}

// Makes a cache and buffers for `rows` rows, `logits` of which ask for logits.
static bool open_cache(Run *r, size_t rows, size_t logits, Error *err)
{
    const Options *o = &r->o;
    r->rows = calloc(rows, sizeof *r->rows);
    if (!r->rows) {
        return error_memory(err, "rows", rows * sizeof *r->rows);
    }
    if (!cache_create(&r->cache, &r->model.config, r->context, o->parallel, kv_f16(r), err)) {
        return false;
    }
    cache_limit(&r->cache, most_cache_bytes() / r->cache.page_bytes);
    if (o->prompt_cache || o->batch) {  // reads all of a llama2.c file
        r->fingerprint = checkpoint_fingerprint(&r->checkpoint);
    }
    return prompt_cache_open(&r->prompt_cache, o->prompt_cache, r->fingerprint, &r->cache, err) &&
           scratch_create(&r->scratch, &r->model.config, &r->cache,
                          (ScratchSizes){rows, logits, r->threads}, err);
}

// --------------------------------------------------------------------------------------------
// What is printed

// FNV-1a over the 32-bit patterns of the logits.
static void add_to_digest(uint64_t *digest, const float *logits, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &logits[i], sizeof bits);
        *digest = hash_step(*digest, bits);
    }
}

// [1, 2, ..]
static bool bytes_json(Buffer *out, const char *bytes, size_t size, Error *err)
{
    bool ok = buffer_append(out, "[", 1, err);
    for (size_t i = 0; ok && i < size; i++) {
        ok = buffer_printf(out, err, "%s%d", i ? ", " : "", (unsigned char)bytes[i]);
    }
    return ok && buffer_append(out, "]", 1, err);
}

// {"id": .., "token": "..", "bytes": [..], "logprob": ..  -- the caller adds to it and closes it.
static bool logprob_json(Buffer *out, const Tokenizer *t, int id, double logprob, Error *err)
{
    size_t size;
    const char *piece = tokenizer_piece(t, id, &size);
    return buffer_printf(out, err, "{\"id\": %d, \"token\": ", id) &&
           json_string(out, piece, size, err) && buffer_printf(out, err, ", \"bytes\": ") &&
           bytes_json(out, piece, size, err) && buffer_printf(out, err, ", \"logprob\": ") &&
           json_number(out, logprob, 6, err);
}

static bool logprobs_json(Run *r, const float *logits, int id, Error *err)
{
    const size_t vocab_size = r->model.config.vocab_size;
    const size_t k = r->o.logprobs < vocab_size ? r->o.logprobs : vocab_size;
    const double log_sum = logits_log_sum(logits, vocab_size);
    Buffer *out = &r->tokens_json;
    int best[20];
    logits_best(logits, vocab_size, k, best);
    bool ok = buffer_printf(out, err, "%s", out->size ? ", " : "") &&
              logprob_json(out, r->tokenizer, id, logits[id] - log_sum, err) &&
              buffer_printf(out, err, ", \"top\": [");
    for (size_t i = 0; ok && i < k; i++) {
        ok = buffer_printf(out, err, "%s", i ? ", " : "") &&
             logprob_json(out, r->tokenizer, best[i], logits[best[i]] - log_sum, err) &&
             buffer_append(out, "}", 1, err);
    }
    return ok && buffer_append(out, "]}", 2, err);
}

static bool print_tokens(Run *r, Error *err)
{
    Buffer *out = &r->json;
    for (size_t i = 0; i < r->tokens.size; i++) {
        const int id = r->tokens.ids[i];
        bool ok;
        if (r->o.json) {
            size_t size;
            const char *piece = tokenizer_piece(r->tokenizer, id, &size);
            const bool special = tokenizer_is_special(r->tokenizer, id);
            ok = buffer_printf(out, err, "{\"id\": %d, \"bytes\": ", id) &&
                 bytes_json(out, piece, size, err) &&
                 buffer_printf(out, err, ", \"special\": %s}\n", special ? "true" : "false");
        } else {
            ok = buffer_printf(out, err, "%s%d", i ? " " : "", id);
        }
        if (!ok) {
            return false;
        }
    }
    return (r->o.json || buffer_append(out, "\n", 1, err)) &&
           write_all(r->out.fd, r->out.name, out->data, out->size, err);
}

typedef struct {
    double start, prompt_done, first_token, end;  // seconds
    size_t shared;  // tokens of the prompt that were in the cache: of a file, or of earlier turns
    bool drawn;     // there is a line of progress on the terminal
} Times;

static double rate(size_t tokens, double seconds)
{
    return seconds > 0 ? (double)tokens / seconds : 0;
}

static bool print_json(Run *r, const Times *t, uint64_t seed, Error *err)
{
    const Sequence *s = &r->sequence;
    const size_t n_new = s->tokens.size - s->n_prompt;
    const char *finish = finish_name(s->finish);
    Buffer *out = &r->json;
    bool ok =
        buffer_append(out, "{\"text\": ", 9, err) &&
        json_string(out, s->text.data, s->text.size, err) &&
        buffer_printf(
            out, err,
            ", \"finish_reason\": %s%s%s, \"prompt_tokens\": %zu, \"completion_tokens\": %zu",
            finish ? "\"" : "", finish ? finish : "null", finish ? "\"" : "", s->n_prompt, n_new) &&
        buffer_printf(out, err,
                      ", \"seed\": %llu, \"prompt_per_second\": ", (unsigned long long)seed) &&
        json_number(out, rate(s->n_prompt - t->shared, t->prompt_done - t->start), 2, err) &&
        buffer_printf(out, err, ", \"decode_per_second\": ") &&
        json_number(out, rate(n_new ? n_new - 1 : 0, t->end - t->first_token), 2, err) &&
        buffer_printf(out, err, ", \"first_token_ms\": ") &&
        json_number(out, (t->first_token - t->start) * 1e3, 3, err);
    if (ok && r->o.logprobs_set) {
        ok = buffer_printf(out, err, ", \"logprobs\": [") &&
             buffer_append(out, r->tokens_json.data, r->tokens_json.size, err) &&
             buffer_append(out, "]", 1, err);
    }
    return ok && buffer_append(out, "}\n", 2, err) &&
           write_all(r->out.fd, r->out.name, out->data, out->size, err);
}

static void print_repacked(const Run *r)
{
    if (r->checkpoint.repacked) {
        fprintf(stderr, "run: %s: a llama2.c checkpoint, repacked in memory at each start\n",
                r->o.model);
    }
}

static void print_stats(const Run *r, const Times *t, uint64_t seed)
{
    const Sequence *s = &r->sequence;
    const size_t n_new = s->tokens.size - s->n_prompt;
    char shared[48] = "";
    print_repacked(r);
    if (t->shared) {
        snprintf(shared, sizeof shared, ", %zu of them cached", t->shared);
    }
    fprintf(
        stderr,
        "prompt %zu tokens%s, %.1f tok/s; new %zu tokens, %.1f tok/s; first token %.1f ms; seed "
        "%llu; %zu thread%s, %s\n",
        s->n_prompt, shared, rate(s->n_prompt - t->shared, t->prompt_done - t->start), n_new,
        rate(n_new ? n_new - 1 : 0, t->end - t->first_token), (t->first_token - t->start) * 1e3,
        (unsigned long long)seed, r->threads, r->threads == 1 ? "" : "s", ops_name());
}

// How far a long prompt has come, on a terminal only; the line is wiped when it is done.
static void draw_progress(const Sequence *s, Times *t)
{
    if (sequence_n_past(s) < s->n_prompt && now_seconds() - t->start > 0.5) {
        fprintf(stderr, "\rreading the prompt: %zu of %zu tokens", sequence_n_past(s), s->n_prompt);
        t->drawn = true;
    } else if (sequence_n_past(s) >= s->n_prompt && t->drawn) {
        fprintf(stderr, "\r\033[K");
        t->drawn = false;
    }
}

// --------------------------------------------------------------------------------------------
// Generation

static bool write_text(Run *r, Error *err)
{
    Buffer *text = &r->sequence.text;
    const bool ok = write_all(r->out.fd, r->out.name, text->data, text->size, err);
    buffer_clear(text);
    return ok;
}

// Runs the sequence until it finishes or a signal comes, and streams its text.
static bool run_sequence(Run *r, Times *t, Error *err)
{
    Sequence *s = &r->sequence;
    const bool progress = !r->o.quiet && isatty(STDERR_FILENO);
    while (!s->finish && !interrupted) {
        const size_t n = sequence_rows(s, r->rows, r->o.chunk);
        if (!forward(&r->model, &r->cache, &r->scratch, r->rows, n, err)) {
            return false;
        }
        if (progress) {
            draw_progress(s, t);
        }
        const float *logits = r->rows[n - 1].logits;
        if (!logits) {
            continue;
        }
        if (r->o.digest) {
            add_to_digest(&r->digest, logits, r->model.config.vocab_size);
        }
        const size_t before = s->tokens.size;
        if (before == s->n_prompt) {
            t->prompt_done = now_seconds();
        }
        if (!sequence_accept(s, logits, err)) {
            return false;
        }
        if (before == s->n_prompt) {
            t->first_token = now_seconds();
        }
        if (r->o.logprobs_set && s->tokens.size > before &&
            !logprobs_json(r, logits, s->tokens.ids[before], err)) {
            return false;
        }
        if (!r->o.json && s->text.size && !write_text(r, err)) {
            return false;
        }
    }
    t->end = now_seconds();
    return true;
}

// Runs a sequence that has been started, and prints what there is beside its text.
static bool answer(Run *r, Times *t, uint64_t seed, Error *err)
{
    Sequence *s = &r->sequence;
    t->shared = cache_reuse_prefix(&r->cache, 0, s->tokens.ids, s->n_prompt - 1);
    if (!run_sequence(r, t, err)) {
        return false;
    }
    if (r->o.json ? !print_json(r, t, seed, err)
                  : !buffer_append(&r->sequence.text, "\n", 1, err) || !write_text(r, err)) {
        return false;
    }
    buffer_clear(&r->sequence.text);
    if (r->o.stats || (!r->o.quiet && isatty(STDERR_FILENO))) {
        print_stats(r, t, seed);
    }
    return sequence_n_past(s) < s->n_prompt ||
           prompt_cache_save(&r->prompt_cache, &r->cache, 0, s->n_prompt, t->shared, err);
}

static bool generate(Run *r, const GenerateOptions *options, uint64_t seed, Error *err)
{
    Times t = {.start = now_seconds()};
    const SequenceSetup setup = {r->tokenizer, options, &r->cache, 0, seed,
                                 !r->o.no_echo && !r->o.chat};
    return sequence_start(&r->sequence, &setup, &r->tokens, err) &&
           answer(r, &t, seed, err);
}

// Encodes the next message of a conversation, after the system message where it is the first.
static bool encode_message(Run *r, const char *text, size_t size, bool started, Error *err)
{
    const char *system = r->o.system;
    const Message messages[] = {{ROLE_SYSTEM, system, system ? strlen(system) : 0},
                                {ROLE_USER, text, size}};
    const size_t first = system && !started ? 0 : 1;
    const Conversation c = {messages + first, 2 - first, started, r->o.special};
    return prompt_encode_chat(r->tokenizer, &r->chat, &c, &r->tokens, err);
}

// A conversation, line by line until the end of input. The cache keeps all earlier turns.
static bool converse(Run *r, const GenerateOptions *options, uint64_t seed, Error *err)
{
    char *line = NULL;
    size_t capacity = 0;
    bool ok = true;
    for (bool started = false; ok && !interrupted; started = true) {
        fputs("> ", stderr);
        const ssize_t length = getline(&line, &capacity, stdin);
        if (length < 0) {
            fputs("\n", stderr);
            break;
        }
        const size_t size = (size_t)length - (line[length - 1] == '\n');
        Times t = {.start = now_seconds()};
        const SequenceSetup setup = {r->tokenizer, options, &r->cache, 0, seed, false};
        ok = encode_message(r, line, size, started, err) &&
             (started ? sequence_continue(&r->sequence, &r->tokens, err)
                      : sequence_start(&r->sequence, &setup, &r->tokens, err)) &&
             answer(r, &t, seed, err);
    }
    free(line);
    return ok;
}

// ---------------------------------------------------------------------------------------------------------------
// Scoring

// How probable the model finds the tokens: windows of the context's length, the first token of each
// unscored.
static bool score(Run *r, size_t max_rows, Error *err)
{
    const size_t vocab_size = r->model.config.vocab_size, n = r->tokens.size;
    const int *ids = r->tokens.ids;
    size_t scored = 0;
    double total = 0;
    Buffer *out = &r->json;
    for (size_t i = 0, rows; i < n && !interrupted; i += rows) {
        // NOLINTNEXTLINE(clang-analyzer-core.DivideZero): a context has one position at least
        const size_t window = i % r->context, left = n - i;
        if (window == 0) {
            cache_truncate(&r->cache, 0, 0);
        }
        rows = r->context - window < max_rows ? r->context - window : max_rows;
        rows = left < rows ? left : rows;
        for (size_t k = 0; k < rows; k++) {
            r->rows[k] = (Row){.token = ids[i + k], .wants_logits = true};
        }
        if (!forward(&r->model, &r->cache, &r->scratch, r->rows, rows, err)) {
            return false;
        }
        for (size_t k = 0; k < rows; k++) {
            const float *logits = r->rows[k].logits;
            const size_t next = i + k + 1;
            if (r->o.digest) {
                add_to_digest(&r->digest, logits, vocab_size);
            }
            if (r->o.json && window + k == 0 &&
                !buffer_printf(&r->tokens_json, err, "%snull", i + k ? ", " : "")) {
                return false;
            }
            if (next == n || window + k + 1 == r->context) {
                continue;
            }
            const double logprob = logits[ids[next]] - logits_log_sum(logits, vocab_size);
            total -= logprob;
            scored++;
            if (r->o.json && (!buffer_append(&r->tokens_json, ", ", 2, err) ||
                              !json_number(&r->tokens_json, logprob, 6, err))) {
                return false;
            }
        }
        if (!r->o.quiet && isatty(STDERR_FILENO)) {
            fprintf(stderr, "\rscored %zu of %zu tokens%s", i + rows, n,
                    i + rows == n ? "\r\033[K" : "");
        }
    }
    if (interrupted) {
        return true;
    }
    const double nll = scored ? total / (double)scored : (double)NAN;  // of nothing: no number
    bool ok;
    if (r->o.json) {
        ok = buffer_printf(out, err, "{\"tokens\": %zu, \"scored\": %zu, \"nll\": ", n, scored) &&
             json_number(out, nll, 6, err) && buffer_printf(out, err, ", \"perplexity\": ") &&
             json_number(out, exp(nll), 6, err) &&
             buffer_append(out, ", \"logprobs\": [", 15, err) &&
             buffer_append(out, r->tokens_json.data, r->tokens_json.size, err) &&
             buffer_append(out, "]}\n", 3, err);
    } else {
        ok = buffer_printf(out, err, "%zu tokens, %zu scored, nll %.6f, perplexity %.6f\n", n,
                           scored, nll, exp(nll));
    }
    return ok && write_all(r->out.fd, r->out.name, out->data, out->size, err);
}

// ---------------------------------------------------------------------------------------------------------------
// Information

static bool print_info(Run *r, Error *err)
{
    const Checkpoint *c = &r->checkpoint;
    const Config *p = &c->config;
    const bool json = r->o.json;
    size_t weights = 0, sequence = 0;
    Buffer *out = &r->json;
    for (size_t i = 0; i < c->n_tensors; i++) {
        weights += c->tensors[i].bytes;
    }
    if (!c->vocab_only && !cache_sequence_bytes(p, r->context, kv_f16(r), &sequence)) {
        return error_memory(err, "keys and values", SIZE_MAX);
    }
    static const char *const scalings[] = {"none", "linear", "llama3"};
    const struct {
        const char *name;
        double value;
    } fields[] = {{"dim", (double)p->dim},
                  {"hidden_dim", (double)p->hidden_dim},
                  {"n_layers", (double)p->n_layers},
                  {"n_heads", (double)p->n_heads},
                  {"n_kv_heads", (double)p->n_kv_heads},
                  {"head_dim", (double)p->head_dim},
                  {"vocab_size", (double)p->vocab_size},
                  {"context_length", (double)p->context_length},
                  {"sliding_window", (double)p->sliding_window},
                  {"rope_theta", p->rope_theta},
                  {"norm_eps", (double)p->norm_eps},
                  {"tied_head", p->tied_head},
                  {"qkv_bias", p->qkv_bias}};
    bool ok = !json || buffer_append(out, "{\"config\": {", 12, err);
    for (size_t i = 0; ok && i < sizeof fields / sizeof *fields; i++) {
        ok = buffer_printf(out, err, json ? "\"%s\": %.9g, " : "%-16s %.9g\n", fields[i].name,
                           fields[i].value);
    }
    const char *scaling = scalings[p->rope_scaling.kind];
    ok = ok &&
         buffer_printf(out, err, json ? "\"rope_scaling\": \"%s\"}, " : "rope_scaling     %s\n",
                       scaling) &&
         (json ? buffer_append(out, "\"file\": ", 8, err) &&
                     json_string(out, c->path, strlen(c->path), err) &&
                     buffer_printf(out, err,
                                   ", \"kind\": \"%s\", \"tokenizer\": \"%s\", \"chat\": %s, ",
                                   c->repacked ? "llama2.c" : "native",
                                   tokenizer_kind(r->tokenizer), c->chat.data ? "true" : "false") &&
                     buffer_printf(out, err,
                                   "\"weight_bytes\": %zu, \"context\": %zu, \"kv_bytes\": %zu, "
                                   "\"provenance\": ",
                                   weights, r->context, sequence) &&
                     json_string(out, (const char *)c->provenance.data, c->provenance.size, err) &&
                     buffer_append(out, ", \"tensors\": [", 14, err)
               : buffer_printf(out, err,
                               "kind             %s\ntokenizer        %s\nchat template    %s\n",
                               c->repacked ? "llama2.c" : "native", tokenizer_kind(r->tokenizer),
                               c->chat.data ? "yes" : "no") &&
                     buffer_printf(
                         out, err,
                         "weights          %.1f MB\nkeys and values  %.1f MB at a context of %zu\n",
                         (double)weights / 1e6, (double)sequence / 1e6, r->context) &&
                     buffer_append(out, c->provenance.data, c->provenance.size, err) &&
                     buffer_append(out, "\n", 1, err));
    for (size_t i = 0; ok && i < c->n_tensors; i++) {
        const Tensor *t = &c->tensors[i];
        const char *type = weight_types[t->matrix.type].name;
        ok = buffer_printf(out, err,
                           json ? "%s{\"name\": \"%s\", \"type\": \"%s\", \"rows\": %zu, \"cols\": "
                                  "%zu, \"bytes\": %zu}"
                                : "%s%-28s %-5s %7zu x %-7zu %12zu bytes\n",
                           json && i ? ", " : "", t->name, type, t->matrix.rows, t->matrix.cols,
                           t->bytes);
    }
    return ok && (!json || buffer_append(out, "]}\n", 3, err)) &&
           write_all(r->out.fd, r->out.name, out->data, out->size, err);
}

static bool verify(const Run *r, Error *err)
{
    const Checkpoint *c = &r->checkpoint;
    if (!checkpoint_verify(c, team_max(), err)) {
        return false;
    }
    if (r->o.stats || (!r->o.quiet && isatty(STDERR_FILENO))) {
        fprintf(stderr, "%s: %.1f MB, all checksums are right\n", r->o.model,
                (double)c->file.size / 1e6);
    }
    return true;
}

// --------------------------------------------------------------------------------------------
// Speed

static void draw_bench(const char *test) { fprintf(stderr, "\r\033[K%s", test); }

static bool is_interrupted(void) { return interrupted; }

static bool bench(Run *r, Error *err)
{
    const bool progress = !r->o.quiet && isatty(STDERR_FILENO);
    const BenchOptions options = {
        r->context,    r->o.chunk, r->threads, kv_f16(r), progress ? draw_bench : NULL,
        is_interrupted};
    BenchLimits limits;
    BenchResult results[BENCH_TESTS];
    size_t n;
    if (r->context <= BENCH_MIN_CONTEXT) {
        return error_set(err, ERROR_INPUT, "--bench: the context is %zu, expected more than %d",
                         r->context, BENCH_MIN_CONTEXT);
    }
    catch_signals();
    const bool done = bench_run(&r->model, &options, &limits, results, &n, err);
    if (progress) {
        fputs("\r\033[K", stderr);
    }
    Buffer *out = &r->json;
    const bool json = r->o.json;
    bool ok = done &&
              buffer_printf(out, err,
                            json ? "{\"threads\": %zu, \"simd\": \"%s\", " : "%zu thread(s), %s\n",
                            r->threads, ops_name()) &&
              buffer_printf(out, err,
                            json ? "\"limits\": {\"read_gbs\": %.2f, \"int8_gmacs\": %.2f, "
                                   "\"f32_gmacs\": %.2f}, \"results\": ["
                                 : "memory read %.1f GB/s, int8 %.0f and f32 %.0f billion "
                                   "multiply-adds/s\n\n",
                            limits.read_gbs, limits.int8_gmacs, limits.f32_gmacs) &&
              (json ||
               buffer_printf(out, err, "%-22s %12s %15s\n", "test", "tokens/s", "share of limit"));
    for (size_t i = 0; ok && i < n; i++) {
        ok = json ? buffer_printf(
                        out, err,
                        "%s{\"test\": \"%s\", \"tokens_per_second\": %.3f, \"share\": %.4f}",
                        i ? ", " : "", results[i].test, results[i].tokens_per_second,
                        results[i].share)
                  : buffer_printf(out, err, "%-22s %12.1f %13.0f %%\n", results[i].test,
                                  results[i].tokens_per_second, results[i].share * 100);
    }
    return ok && (!json || buffer_append(out, "]}\n", 3, err)) &&
           write_all(r->out.fd, r->out.name, out->data, out->size, err);
}

static uint64_t system_seed(void)
{
    uint64_t seed = 0;
    const int fd = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read(fd, &seed, sizeof seed) != (ssize_t)sizeof seed) {
        seed = (uint64_t)time(NULL) << 20 ^ (uint64_t)getpid();
    }
    if (fd >= 0) {
        close(fd);
    }
    return seed >> 16;  // short enough to type again
}

static GenerateOptions generate_options(const Options *o)
{
    GenerateOptions g = {
        .max_tokens = o->max_tokens,
        .stops.n = o->n_stops,
        .ignore_eos = o->ignore_eos,
        .sampler = {(float)o->temperature, o->top_k, (float)o->top_p, (float)o->min_p,
                    (float)o->repeat_penalty, o->repeat_last_n},
    };
    memcpy(g.stops.texts, o->stops, sizeof o->stops);
    return g;
}

static bool open_chat(Run *r, Error *err)
{
    const Bytes chat = r->checkpoint.chat;
    if (!chat.data && r->o.chat) {
        return error_set(err, ERROR_INPUT, "%s: has no chat template, expected one for --chat",
                         r->o.model);
    }
    return !chat.data || chat_open(&r->chat, r->o.model, chat.data, chat.size, err);
}

// --------------------------------------------------------------------------------------------
// Batches

static void draw_batch(const BatchStats *s)
{
    char of[32] = "", left[32] = "";
    const size_t done = s->done - s->kept;
    if (s->total) {
        snprintf(of, sizeof of, " of %zu", s->total);
    }
    if (s->total > s->done && done) {
        const double seconds = s->seconds / (double)done * (double)(s->total - s->done);
        snprintf(left, sizeof left, ", %.0f:%02.0f left", floor(seconds / 60),
                 floor(fmod(seconds, 60)));
    }
    fprintf(stderr, "\r\033[K%zu%s requests done, %.1f tok/s%s", s->done, of,
            rate(s->new_tokens, s->seconds), left);
}

static void print_batch_stats(const Run *r, const BatchStats *s)
{
    char kept[48] = "";
    print_repacked(r);
    if (r->o.resume) {
        snprintf(kept, sizeof kept, ", %zu of them kept", s->kept);
    }
    fprintf(stderr,
            "requests %zu%s, failed %zu; prompt %zu tokens, %zu of them cached; new %zu tokens, "
            "%.1f tok/s; %.1f s; seed %llu; %zu in parallel, %zu thread%s, %s\n",
            s->done, kept, s->failed, s->prompt_tokens, s->shared_tokens, s->new_tokens,
            rate(s->new_tokens, s->seconds), s->seconds, (unsigned long long)r->o.seed,
            r->o.parallel, r->threads, r->threads == 1 ? "" : "s", ops_name());
}

// Texts must not depend on when they were made: without --seed, seeds come from 0.
static bool run_batch(Run *r, Error *err)
{
    const Options *o = &r->o;
    const bool terminal = !o->quiet && isatty(STDERR_FILENO);
    const char *slash = strrchr(o->model, '/');
    BatchStats stats;
    if (!open_chat(r, err)) {
        return false;
    }
    BatchOptions options = {.input = o->batch,
                            .output = o->output,
                            .resume = o->resume,
                            .first_line = o->first_line,
                            .chunk = o->chunk,
                            .prompt_cache = &r->prompt_cache,
                            .interrupted = &interrupted,
                            .progress = terminal ? draw_batch : NULL,
                            .defaults = {.tokenizer = r->tokenizer,
                                         .chat = r->checkpoint.chat.data ? &r->chat : NULL,
                                         .model = slash ? slash + 1 : o->model,
                                         .context = r->context,
                                         .lines = o->lines,
                                         .through_chat = o->chat,
                                         .special = o->special,
                                         .truncate = o->truncate_prompt,
                                         .system = o->system,
                                         .generate = generate_options(o),
                                         .seed = o->seed}};
    options.defaults.fingerprint = request_fingerprint(&options.defaults, r->fingerprint,
                                                       kv_f16(r));
    catch_signals();
    bool ok = batch_run(&options, &r->model, &r->cache, &r->scratch, &stats, err);
    if (terminal) {
        fprintf(stderr, "\r\033[K");
    }
    if (ok && (o->stats || terminal)) {
        print_batch_stats(r, &stats);
    }
    if (ok && interrupted && o->output) {
        fprintf(stderr, "run: %s: interrupted after %zu requests; --resume goes on with it\n",
                o->output, stats.done);
    }
    if (ok && stats.failed && !interrupted) {
        ok = error_set(err, ERROR_RUN, "%s: %zu of %zu requests failed, the first in line %llu",
                       o->batch, stats.failed, stats.done, (unsigned long long)stats.first_failed);
    }
    return ok;
}

// Reads the prompt, encodes it and generates, chats or scores.
static bool run_prompt(Run *r, Error *err)
{
    const Options *o = &r->o;
    const GenerateOptions options = generate_options(o);
    const uint64_t seed = o->seed_set ? o->seed : system_seed();
    if (o->chat && !open_chat(r, err)) {
        return false;
    }
    if (o->chat && !o->prompt && !o->prompt_file && isatty(STDIN_FILENO)) {
        catch_signals();
        return converse(r, &options, seed, err);
    }
    if (!read_prompt(o, &r->prompt, err)) {
        return false;
    }
    const TextSpan span = {r->prompt.data, r->prompt.size, o->special};
    if (o->chat ? !encode_message(r, r->prompt.data, r->prompt.size, false, err)
                : !tokenizer_encode(r->tokenizer, &span, 1, true, &r->tokens, err)) {
        return false;
    }
    if (o->truncate_prompt && !o->tokenize && !o->score) {
        prompt_truncate(&r->tokens, tokenizer_bos(r->tokenizer), r->context, o->max_tokens);
    }
    catch_signals();
    return o->tokenize ? print_tokens(r, err)
           : o->score  ? score(r, r->scratch.max_logits, err)
                       : generate(r, &options, seed, err);
}

static bool run(Run *r, Error *err)
{
    Options *o = &r->o;
    if (!check_options(o, err) || !open_checkpoint(r, err)) {
        return false;
    }
    bool ok = true;
    if (!o->tokenize && !o->info && !o->verify) {
        const size_t vocab_bytes = r->checkpoint.config.vocab_size * sizeof(float);
        const size_t fit = SCORE_LOGITS_BYTES / vocab_bytes + 1;
        const size_t rows = o->score && fit < o->chunk ? fit : o->chunk;
        const size_t logits = o->batch ? o->parallel : o->score ? rows : 1;
        ok = open_model(r, err) &&
             (o->bench || open_cache(r, o->batch ? rows + o->parallel : rows, logits, err));
    } else if (o->info) {
        ok = r->checkpoint.vocab_only || choose_context(r, kv_f16(r), err);
    }
    if (ok && o->batch) {
        return run_batch(r, err);
    }
    if (!ok || !output_open(&r->out, o, err)) {
        return false;
    }
    ok = o->verify  ? verify(r, err)
         : o->info  ? print_info(r, err)
         : o->bench ? bench(r, err)
                    : run_prompt(r, err);
    if (ok && interrupted && r->out.temporary) {
        fprintf(stderr, "run: %s: interrupted, nothing is written there\n", r->out.name);
    }
    if (ok && o->digest) {
        fprintf(stderr, "digest: %016llx\n", (unsigned long long)r->digest);
    }
    return output_close(&r->out, ok && !interrupted, err) && ok;
}

int main(int argc, char **argv)
{
    static Run r = {.out = {.fd = -1}, .digest = HASH_BEGIN};
    Error err = {0};
    r.o = default_options;
    guard_standard_files();
    bool ok = parse_options(argc, argv, &r.o, &err);
    if (ok && (r.o.help || r.o.version)) {
        if (r.o.help) {
            print_help();
        } else {
            printf("run %s (kernels: %s)\n", VERSION,
                   ops_select("auto", &err) ? ops_name() : "none");
        }
        if (fflush(stdout) != 0) {
            fprintf(stderr, "run: standard output: cannot be written: %s\n", strerror(errno));
            return ERROR_RUN;
        }
        return 0;
    }
    signal(SIGPIPE, SIG_DFL);  // a reader that has gone ends us as any filter, whatever the parent
    ok = ok && run(&r, &err);
    run_free(&r);
    if (!ok) {
        fprintf(stderr, "run: %s\n", err.message);
        return (int)err.kind;
    }
    return interrupted ? 128 + interrupted : 0;
}
