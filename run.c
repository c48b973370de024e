// run.c - main: options, engine, mode, exit code.
//
//     argv -> Options -> Engine, opened as the mode needs it -> the mode -> Output -> exit code
//
// The only file that ends the program.
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/threads.h"
#include "cli/modes.h"
#include "cli/output.h"
#include "cli/prompt.h"
#include "engine.h"
#include "options.h"

typedef bool ModeFunction(Engine *e, const Options *o, Output *out, Error *err);

// What each mode needs of the engine.
static const struct {
    ModeFunction *run;
    unsigned parts;
} modes[] = {
    [MODE_GENERATE] = {mode_complete, ENGINE_TOKENIZER | ENGINE_MODEL},
    [MODE_BATCH] = {mode_batch, ENGINE_TOKENIZER | ENGINE_CHAT | ENGINE_MODEL},
    [MODE_TOKENIZE] = {mode_tokenize, ENGINE_TOKENIZER | ENGINE_CONTEXT},
    [MODE_SCORE] = {mode_score, ENGINE_TOKENIZER | ENGINE_MODEL},
    [MODE_BENCH] = {mode_bench, ENGINE_TOKENIZER | ENGINE_MODEL},
    [MODE_INFO] = {mode_info, ENGINE_TOKENIZER | ENGINE_CHAT | ENGINE_CONTEXT},
    [MODE_CONVERT] = {mode_convert, ENGINE_TOKENIZER | ENGINE_CHAT | ENGINE_ROW_MAJOR},
    [MODE_VERIFY] = {mode_verify, 0},  // opens the rest after its checksums
};

// --help and --version: they need no model.
static bool print_about(const Options *o, Output *out, Error *err)
{
    Buffer text = {0};
    if (o->mode == MODE_HELP) {
        options_help(&text);
    } else {
        const bool runs = ops_select("auto", err);
        buffer_addf(&text, "run %s (kernels: %s)\n", PROGRAM_VERSION, runs ? ops_name() : "none");
    }
    const bool ok = output_write(out, &text, err);
    buffer_free(&text);
    return ok;
}

// Checks that the chat template can do what the options say.
static bool check_chat_options(const Engine *e, const Options *o, Error *err)
{
    for (size_t i = 0; i < e->chat_settings.n_variables; i++) {
        const char *name = e->chat_settings.variables[i].name;
        if (!jinja_mentions(e->chat.jinja, name)) {
            return error_set(err, ERROR_INPUT,
                             "%s: --template-var %s: its chat template does not use it",
                             o->engine.model, name);
        }
    }
    return !option_given(o, "think") || can_think(&e->chat.think) ||
           error_set(err, ERROR_INPUT,
                     "%s: --think: its chat template has no text that begins and ends a thought",
                     o->engine.model);
}

// Refuses a prompt in the place of MODEL, which is easily given there.
static bool check_model_named(const Options *o, Error *err)
{
    return o->mode != MODE_GENERATE || o->prompt.n || access(o->engine.model, F_OK) == 0 ||
           errno != ENOENT ||
           error_set(err, ERROR_INPUT, "%s: cannot be opened: %s (a prompt goes after -i)",
                     o->engine.model, strerror(errno));
}

// Opens what the mode needs; a chat also needs a template. Without any prompt, a terminal is there
// to type one: to a model that can answer, in a chat.
static bool open_engine(Engine *e, Options *o, Error *err)
{
    const bool may_chat = o->mode == MODE_GENERATE && prompt_is_typed(o) &&
                          !option_given(o, "mode");
    const unsigned chat = o->chat || may_chat ? ENGINE_CHAT : 0;
    if (!check_model_named(o, err) ||
        !engine_open(e, &o->engine, modes[o->mode].parts | chat, err)) {
        return false;
    }
    if (may_chat && e->has_chat) {
        options_choose_chat(o);
    }
    if (o->chat && !e->has_chat) {
        if (e->chat_error.kind) {
            *err = e->chat_error;
            return false;
        }
        return error_set(err, ERROR_INPUT, "%s: has no chat template, expected one for --chat",
                         o->engine.model);
    }
    return check_chat_options(e, o, err);
}

// A mode that is ready to run.
typedef struct {
    ModeFunction *run;
    Engine *engine;
    const Options *options;
    Output *out;
    Error *err;
    bool ok;
} ReadyMode;

static void run_ready(void *arg)
{
    ReadyMode *m = arg;
    m->ok = m->run(m->engine, m->options, m->out, m->err);
}

static bool run_mode(Engine *e, Options *o, Output *out, Error *err)
{
    ByteCount repacking = {out, "repacking"};
    output_watch(out, &e->checkpoint);
    output_configure(out, o);
    o->engine.progress = output_byte_progress(&repacking);
    bool ok = open_engine(e, o, err);
    output_wipe(out);
    ok = ok && options_override(o, &e->checkpoint.sampling, err) &&
         options_recommend(o, o->engine.model, &e->checkpoint.sampling, err) &&
         (!e->tokenizer || options_check_tokens(o, tokenizer_vocab_size(e->tokenizer), err)) &&
         output_open(out, o, &e->checkpoint, err);
    if (ok) {
        output_note_repacked(out, e);
        const bool converses = o->mode == MODE_GENERATE && o->chat && prompt_is_typed(o);
        ModeFunction *run = converses ? mode_converse : modes[o->mode].run;
        ReadyMode mode = {run, e, o, out, err, false};
        team_host(e->threads, e->threads_adapt, run_ready, &mode);
        ok = mode.ok;
    }
    if (ok && *output_interrupted() && out->file.temporary) {
        output_note("run: %s: interrupted, nothing was written", out->file.name);
    }
    if (ok && o->digest) {
        output_note("digest: %016llx", (unsigned long long)out->digest);
    }
    return output_close(out, ok && !*output_interrupted(), err) && ok;
}

int main(int argc, char **argv)
{
    // Static: handlers of signals may reach them to the very end.
    static Options options;
    static Engine engine;
    static Output out = {.file = STANDARD_OUTPUT};
    Error err = {0};
    if (!output_prepare(_exit)) {
        exit(ERROR_RUN);
    }
    bool ok = options_parse(&options, argc, argv, &err);
    if (ok) {
        ok = options.mode == MODE_HELP || options.mode == MODE_VERSION
                 ? print_about(&options, &out, &err)
                 : run_mode(&engine, &options, &out, &err);
    }
    engine_close(&engine);
    if (!ok) {
        output_error(&err);
        return (int)err.kind;
    }
    return *output_interrupted() ? 128 + (int)*output_interrupted() : 0;
}
