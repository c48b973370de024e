// engine.c - a model that is ready to run. See engine.h.
//
// The parts are opened in the order of their dependencies and closed in the opposite order:
//
//     kernels -> checkpoint -> tokenizer, chat template
//                           -> model -> context, type of keys and values -> threads
//                                                                        -> cache -> scratch, rows
#include "engine.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "base/threads.h"

// A thread must have this many bytes of weights to read per token, or waiting for it costs more
// than it saves. Measured on stories260K (1 MB): one thread generates a short story 1.4 times as
// fast as two.
#define WEIGHTS_PER_THREAD ((size_t)1 << 20)

// Pages for each lane, which shares the prompt's: its last, which it copies, and one for what follows.
#define LANE_PAGES 2

// A context that is halved to save memory stays at least this long, which is enough for a chat.
#define MIN_HALVED_CONTEXT 512

// --------------------------------------------------------------------------------------------
// The tokenizer

// Opens a file that the user did not name: the message says how to name another.
static bool open_found_tokenizer(Engine *e, const char *path, Error *err)
{
    Error why;
    if (tokenizer_open_llama2c(&e->tokenizer, path, e->checkpoint.config.vocab_size, &why)) {
        return true;
    }
    return error_set(err, why.kind, "%s%s", why.message,
                     why.kind == ERROR_INPUT ? " (another model's? -z FILE names this one's)" : "");
}

// A llama2.c checkpoint's tokenizer: the file named, else tokenizer.bin beside the model, or here.
static bool open_llama2c_tokenizer(Engine *e, Error *err)
{
    const EngineOptions *o = e->options;
    if (o->tokenizer) {
        return tokenizer_open_llama2c(&e->tokenizer, o->tokenizer, e->checkpoint.config.vocab_size,
                                      err);
    }
    const char *slash = strrchr(o->model, '/');
    Buffer beside = {0};
    buffer_add(&beside, o->model, slash ? (size_t)(slash - o->model) + 1 : 0);
    buffer_add_text(&beside, "tokenizer.bin");
    bool ok = buffer_check(&beside, err);
    if (ok && access(beside.data, F_OK) == 0) {
        ok = open_found_tokenizer(e, beside.data, err);
    } else if (ok && access("tokenizer.bin", F_OK) == 0) {
        ok = open_found_tokenizer(e, "tokenizer.bin", err);
    } else if (ok) {
        ok = error_set(
            err, ERROR_INPUT,
            "%s: a llama2.c checkpoint has no tokenizer inside; expected -z FILE, or a file %s",
            o->model, beside.data);
    }
    buffer_free(&beside);
    return ok;
}

static bool open_tokenizer(Engine *e, Error *err)
{
    const EngineOptions *o = e->options;
    const Checkpoint *c = &e->checkpoint;
    if (c->kind == CHECKPOINT_LLAMA2C) {
        return open_llama2c_tokenizer(e, err);
    }
    if (o->tokenizer) {
        return error_set(err, ERROR_USAGE, "--tokenizer %s: %s has its own inside", o->tokenizer,
                         o->model);
    }
    return tokenizer_open_section(&e->tokenizer, o->model, c->tokenizer.data, c->tokenizer.size,
                                  c->config.vocab_size, err);
}

bool template_variable_read(const char *text, size_t *n, Json *json, Error *err)
{
    *n = strcspn(text, "=");
    if (!*n || !text[*n]) {
        return error_set(err, ERROR_INPUT, "expected NAME=JSON");
    }
    const char *value = text + *n + 1;
    return json_read(json, value, strlen(value), err);
}

// Sets what all chats have in common.
static bool open_chat_settings(Engine *e, Error *err)
{
    const TemplateVariables *given = &e->options->variables;
    e->chat_settings.date = e->options->date.month ? e->options->date : date_today();
    for (size_t i = 0; i < given->n; i++) {
        size_t n;
        if (!template_variable_read(given->texts[i], &n, &e->variable_values[i], err)) {
            return false;
        }
        buffer_add(&e->variable_names, given->texts[i], n);
        buffer_add(&e->variable_names, "", 1);
    }
    if (!buffer_check(&e->variable_names, err)) {
        return false;
    }
    const char *names = e->variable_names.data;
    for (size_t i = 0; i < given->n; i++, names += strlen(names) + 1) {
        e->variables[i] = (JinjaVariable){names, e->variable_values[i].values, false};
    }
    e->chat_settings.variables = e->variables;
    e->chat_settings.n_variables = given->n;
    return true;
}

// Opens the template, and tells the tokenizer which names no message may forge. What a converter
// wrote must compile; that of another file is not needed for all that can be done with it, so why it
// cannot be used is only kept.
static bool open_chat(Engine *e, Error *err)
{
    const Bytes chat = e->checkpoint.chat;
    if (!chat.data) {
        return true;
    }
    if (!open_chat_settings(e, err)) {
        return false;
    }
    const ChatSource source = {.name = e->options->model,
                               .source = (const char *)chat.data,
                               .size = chat.size,
                               .bos = tokenizer_name(e->tokenizer, tokenizer_bos(e->tokenizer)),
                               .eos = tokenizer_name(e->tokenizer, tokenizer_eos(e->tokenizer))};
    if (chat_open(&e->chat, &source, err)) {
        e->has_chat = true;
        return tokenizer_guard(e->tokenizer, source.source, source.size, err) &&
               tokenizer_guard(e->tokenizer, e->chat.written.data, e->chat.written.size, err);
    }
    e->chat_error = *err;
    return e->checkpoint.kind != CHECKPOINT_NATIVE && err->kind == ERROR_INPUT;
}

// --------------------------------------------------------------------------------------------
// Context, keys and values, threads

// How much memory keys and values may take: half of the machine's, or any amount if it is unknown.
static size_t most_cache_bytes(void)
{
    const size_t memory = memory_of_machine();
    return memory < SIZE_MAX ? memory / 2 : SIZE_MAX;
}

// The requested context; else the model's, halved until one sequence fits into memory. LongRoPE
// rotates by other angles in a context longer than the original one, at the expense of short texts:
// such a model has its original context unless a longer one is requested.
static bool choose_context(Engine *e, Error *err)
{
    const Config *p = &e->checkpoint.config;
    const size_t asked = e->options->context, most = most_cache_bytes();
    const bool f16 = e->checkpoint.kind != CHECKPOINT_LLAMA2C;
    e->f16 = e->options->kv == KV_AUTO ? f16 : e->options->kv == KV_F16;
    if (asked > p->context_length) {
        return error_set(err, ERROR_USAGE, "--context %zu: expected at most %zu, the model's",
                         asked, p->context_length);
    }
    e->context = asked ? asked : p->context_length;
    if (!asked && rope_is_long(&p->rope_scaling, e->context)) {
        e->context = p->rope_scaling.original_context;
    }
    size_t bytes;
    while (!asked && most < SIZE_MAX && e->context > MIN_HALVED_CONTEXT &&
           (!cache_sequence_bytes(p, e->context, e->f16, &bytes) || bytes > most)) {
        e->context /= 2;
    }
    return true;
}

// The number of threads that an option or OMP_NUM_THREADS requests; else as many as are useful.
static size_t choose_threads(const Engine *e)
{
    const size_t asked = e->options->threads, most = team_max();
    const size_t useful = e->model.read_bytes / WEIGHTS_PER_THREAD;
    if (asked) {
        return asked;
    }
    if (getenv("OMP_NUM_THREADS") || most <= useful) {
        return most;
    }
    return useful ? useful : 1;
}

static bool open_model(Engine *e, Error *err)
{
    if (e->checkpoint.config.vocab_only) {
        return error_set(err, ERROR_INPUT,
                         "%s: holds a vocabulary only; it can be used with --tokenize",
                         e->options->model);
    }
    const size_t threads = e->options->threads ? e->options->threads : team_max();
    if (!checkpoint_load(&e->checkpoint, threads, &e->options->progress, err) ||
        !model_create(&e->model, &e->checkpoint, err) || !choose_context(e, err)) {
        return false;
    }
    e->threads = choose_threads(e);
    e->threads_adapt = e->threads > 1 && !e->options->threads && !getenv("OMP_NUM_THREADS");
    return true;
}

// --------------------------------------------------------------------------------------------
// Opening and closing

// Refuses what a converter wrote for --convert, unless that is what opens it.
static bool check_runnable(const Engine *e, unsigned parts, Error *err)
{
    const Tensor *t = parts & ENGINE_ROW_MAJOR ? NULL : checkpoint_row_major(&e->checkpoint);
    return !t || error_set(err, ERROR_INPUT,
                           "%s: section %s is a matrix row by row, which only --convert can read: "
                           "run %s --convert FILE, then use FILE",
                           e->options->model, t->name, e->options->model);
}

static bool open_checkpoint(Engine *e, unsigned parts, Error *err)
{
    const EngineOptions *o = e->options;
    return ops_select(o->simd ? o->simd : "auto", err) &&
           checkpoint_open(&e->checkpoint, o->model, team_max(), err) &&
           check_runnable(e, parts, err);
}

bool engine_open_parts(Engine *e, unsigned parts, Error *err)
{
    const bool weights = !e->checkpoint.config.vocab_only;
    const bool ok = (!(parts & ENGINE_TOKENIZER) || open_tokenizer(e, err)) &&
                    (!(parts & ENGINE_CHAT) || open_chat(e, err)) &&
                    (!(parts & ENGINE_CONTEXT) || !weights || choose_context(e, err)) &&
                    (!(parts & ENGINE_MODEL) || open_model(e, err));
    if (!ok) {
        engine_close(e);
    }
    return ok;
}

bool engine_open(Engine *e, const EngineOptions *options, unsigned parts, Error *err)
{
    *e = (Engine){.options = options};
    if (!open_checkpoint(e, parts, err)) {
        engine_close(e);
        return false;
    }
    return engine_open_parts(e, parts, err);
}

bool engine_open_cache(Engine *e, size_t n_sequences, size_t max_rows, size_t max_logits,
                       Error *err)
{
    if (!cache_create(&e->cache, &e->model.config, e->context, n_sequences + e->n_lanes, e->f16,
                      err)) {
        return false;
    }
    const size_t fit = most_cache_bytes() / e->cache.page_bytes;
    const size_t used = n_sequences * pages_for(e->context) + e->n_lanes * LANE_PAGES;
    cache_limit(&e->cache, used < fit ? used : fit);
    e->rows = calloc(max_rows, sizeof *e->rows);
    if (!e->rows) {
        return error_memory(err, "rows", max_rows * sizeof *e->rows);
    }
    return scratch_create(&e->scratch, &e->model.config, &e->cache,
                          (ScratchSizes){max_rows, max_logits, e->threads}, err);
}

void engine_close_cache(Engine *e)
{
    free(e->rows);
    e->rows = NULL;
    scratch_free(&e->scratch);
    cache_free(&e->cache);
}

void engine_close(Engine *e)
{
    engine_close_cache(e);
    model_free(&e->model);
    chat_close(&e->chat);
    buffer_free(&e->variable_names);
    for (size_t i = 0; i < MAX_TEMPLATE_VARIABLES; i++) {
        json_free(&e->variable_values[i]);
    }
    tokenizer_free(e->tokenizer);
    checkpoint_close(&e->checkpoint);
    *e = (Engine){0};
}

bool engine_sequence_bytes(const Engine *e, size_t *bytes, Error *err)
{
    *bytes = 0;
    return e->checkpoint.config.vocab_only ||
           cache_sequence_bytes(&e->checkpoint.config, e->context, e->f16, bytes) ||
           error_memory(err, "keys and values", SIZE_MAX);
}
