// converse.c - a conversation at a terminal. See modes.h.
//
//     editor -> message -> dialogue -> tokens -> answer -> dialogue
//            -> /command
//
// An error of the input is reported in one line, and the conversation goes on. Any other error ends
// it: out of memory, or output that cannot be written.
#include <string.h>
#include <unistd.h>

#include "cli/answer.h"
#include "cli/dialogue.h"
#include "cli/editor.h"
#include "cli/modes.h"

#define PROMPT      "> "
#define PROMPT_MORE "... "    // in a message of several lines
#define QUOTES      "\"\"\""  // around such a message

typedef struct {
    Engine *engine;
    const Options *options;
    Output *out;
    Answer answer;
    Dialogue dialogue;
    Editor editor;
    Buffer message;  // the lines so far of a message of several
    bool cancelled;  // the last input was a Ctrl-C
    bool done;       // the user wants to leave
} Talk;

// --------------------------------------------------------------------------------------------
// Answers

// Stores the answer to the last message. If it was stopped before its first token, there is none to
// store: the old answer stays, or the message goes if it has never had one.
static bool keep_answer(Talk *t, Error *err)
{
    const Sequence *s = &t->answer.sequence;
    const size_t n = s->tokens.size - s->n_prompt;
    if (!n && !s->finish) {
        if (!t->dialogue.turns[t->dialogue.n - 1].answered) {
            dialogue_drop_last(&t->dialogue);
            output_note("(stopped before the answer began; the message was dropped)");
        }
        return true;
    }
    const char *what = sequence_is_thinking(s) ? "thought" : "answer";
    if (s->finish == FINISH_LENGTH && s->tokens.size == t->engine->cache.context) {
        output_note("(the %s ends here: the context of %zu tokens is full)", what,
                    t->engine->cache.context);
    } else if (s->finish == FINISH_LENGTH && sequence_is_thinking(s)) {
        output_note("(the thought was cut at %zu tokens by -n: there is no answer)", n);
    }
    return dialogue_answer(&t->dialogue, s, err);
}

// Answers the last turn. On failure the turn is dropped, unless it has an old answer.
static bool answer_turn(Talk *t, Error *err)
{
    Prompt prompt = {0};
    size_t dropped;
    bool ok = dialogue_encode(&t->dialogue, t->engine, t->options, &prompt, &dropped, err);
    if (ok && dropped && !t->options->quiet) {
        output_note("(the context of %zu tokens is full: the model no longer sees the oldest %s)",
                    t->engine->cache.context, dropped == 1 ? "turn" : "turns");
    }
    ok = ok && answer_prompt(&t->answer, &prompt, false, err) && keep_answer(t, err);
    prompt_free(&prompt);
    if (!ok && !t->dialogue.turns[t->dialogue.n - 1].answered) {
        dialogue_drop_last(&t->dialogue);
    }
    return ok;
}

// Adds a message of the user and answers it.
static bool say(Talk *t, const char *message, size_t size, Error *err)
{
    return dialogue_add(&t->dialogue, message, size, err) && answer_turn(t, err);
}

// --------------------------------------------------------------------------------------------
// Commands

// Runs a command. `text` is what follows its name, without the white space around it.
typedef bool CommandFunction(Talk *t, const char *text, Error *err);
static CommandFunction show_help, clear, set_system, regenerate, save, leave;

static const struct {
    const char *name, *argument, *help;
    CommandFunction *run;
} commands[] = {
    {"/help", "", "show this help", show_help},
    {"/clear", "", "forget the conversation, except the system message", clear},
    {"/system", "TEXT", "set the system message; without TEXT, the model's own", set_system},
    {"/regenerate", "", "answer the last message again, with new random numbers", regenerate},
    {"/save", "FILE", "write the conversation to FILE, as JSON", save},
    {"/exit", "", "leave, as Ctrl-D does", leave},
};
#define N_COMMANDS (sizeof commands / sizeof *commands)

static bool show_help(Talk *t, const char *text, Error *err)
{
    (void)text;
    (void)err;
    for (size_t i = 0; i < N_COMMANDS; i++) {
        output_note("  %s %-*s  %s", commands[i].name, (int)(16 - strlen(commands[i].name)),
                    commands[i].argument, commands[i].help);
    }
    output_note("  " QUOTES "                begin and end a message of several lines");
    output_note("  Ctrl-C             stop the answer or clear the line; twice to leave");
    if (t->editor.edits) {
        output_note("  Up, Down           earlier lines; other keys work as in a shell");
    }
    return true;
}

static bool clear(Talk *t, const char *text, Error *err)
{
    (void)text;
    (void)err;
    dialogue_clear(&t->dialogue);
    output_note("(conversation cleared)");
    return true;
}

static bool set_system(Talk *t, const char *text, Error *err)
{
    if (!dialogue_set_system(&t->dialogue, t->engine, *text ? text : NULL, err)) {
        return false;
    }
    output_note(*text ? "(the system message is set)"
                      : "(the system message is the model's own again)");
    return true;
}

static bool regenerate(Talk *t, const char *text, Error *err)
{
    (void)text;
    return t->dialogue.n ? answer_turn(t, err)
                         : error_set(err, ERROR_INPUT, "/regenerate: there is no answer yet");
}

static bool save(Talk *t, const char *text, Error *err)
{
    if (!*text) {
        return error_set(err, ERROR_INPUT, "/save: expected a file name");
    }
    Buffer path = {0}, json = {0};
    Error why;
    dialogue_write(&t->dialogue, &json);
    const bool ok = expand_home(text, &path, &why) &&
                    output_save(t->options, &t->engine->checkpoint, path.data, &json, &why);
    if (ok) {
        output_note("(saved to %s)", path.data);
    }
    buffer_free(&path);
    buffer_free(&json);
    // ERROR_INPUT whatever the reason, so that the conversation goes on.
    return ok || error_set(err, ERROR_INPUT, "/save: %s", why.message);
}

static bool leave(Talk *t, const char *text, Error *err)
{
    (void)text;
    (void)err;
    t->done = true;
    return true;
}

// Runs the command in a line that begins with '/' and ends with a NUL. Trims the line.
static bool run_command(Talk *t, char *line, size_t size, Error *err)
{
    const size_t length = strcspn(line, " \t\n");
    while (size > length && strchr(" \t\n", line[size - 1])) {
        line[--size] = '\0';
    }
    const char *text = line + length + strspn(line + length, " \t\n");
    for (size_t i = 0; i < N_COMMANDS; i++) {
        if (strlen(commands[i].name) != length || memcmp(commands[i].name, line, length) != 0) {
            continue;
        }
        return *text && !*commands[i].argument
                   ? error_set(err, ERROR_INPUT, "%s: expected no argument, found %s",
                               commands[i].name, text)
                   : commands[i].run(t, text, err);
    }
    return error_set(err, ERROR_INPUT,
                     "%.*s: unknown command (/help lists them; a leading space makes it a message)",
                     (int)(length < 40 ? length : 40), line);
}

// --------------------------------------------------------------------------------------------
// What is typed

static bool has_only_space(const Buffer *b)
{
    size_t n = 0;
    while (n < b->size && strchr(" \t\r\n", b->data[n])) {
        n++;
    }
    return n == b->size;
}

// Does a message that begins with QUOTES end with them, too? Then both are removed.
static bool complete(Buffer *message)
{
    const size_t n = sizeof QUOTES - 1;
    size_t size = message->size;
    while (size && strchr(" \t\r", message->data[size - 1])) {
        size--;
    }
    if (size < 2 * n || memcmp(message->data + size - n, QUOTES, n) != 0) {
        return false;
    }
    size -= 2 * n;
    memmove(message->data, message->data + n, size);
    message->size = size;
    // A newline next to the quotes belongs to them.
    if (message->size && message->data[message->size - 1] == '\n') {
        message->size--;
    }
    if (message->size && message->data[0] == '\n') {
        memmove(message->data, message->data + 1, --message->size);
    }
    return true;
}

// Handles a line that was entered: a command, a message, or a line of one.
static bool take_entered(Talk *t, Error *err)
{
    Buffer *line = &t->editor.line, *m = &t->message;
    const bool more = m->size;
    if (!more && has_only_space(line)) {
        return true;
    }
    if (!more && *line->data == '/') {
        return run_command(t, line->data, line->size, err);
    }
    const bool quoted = more || strncmp(line->data, QUOTES, sizeof QUOTES - 1) == 0;
    if (!quoted) {
        return say(t, line->data, line->size, err);
    }
    buffer_add_text(m, more ? "\n" : "");
    buffer_add(m, line->data, line->size);
    if (!buffer_check(m, err)) {
        return false;
    }
    if (!complete(m)) {
        return true;
    }
    const bool ok = has_only_space(m) || say(t, m->data, m->size, err);
    buffer_clear(m);
    return ok;
}

// A Ctrl-C clears what was typed. A second one in a row, with nothing typed, leaves.
static void cancel(Talk *t)
{
    const bool typed = t->editor.line.size || t->message.size;
    t->done = t->cancelled && !typed;
    t->cancelled = true;
    buffer_clear(&t->message);
    if (!t->done && !t->options->quiet) {
        output_note("(Ctrl-C again, Ctrl-D or /exit leaves)");
    }
}

// Reads and handles a line. Reports an ERROR_INPUT itself; any other error ends the conversation.
static bool converse_once(Talk *t, Error *err)
{
    EditResult got = editor_read(&t->editor, t->message.size ? PROMPT_MORE : PROMPT, err);
    if (got == EDIT_INTERRUPTED && output_go_on()) {
        got = EDIT_CANCEL;
    }
    if (got == EDIT_CANCEL) {
        cancel(t);
        return true;
    }
    t->cancelled = false;
    if (got != EDIT_LINE) {
        t->done = true;
        return got != EDIT_FAILED;
    }
    const bool ok = take_entered(t, err);
    output_go_on();  // a Ctrl-C stops what the line requested, not the conversation
    if (ok) {
        return true;
    }
    if (err->kind != ERROR_INPUT) {
        return false;
    }
    output_error(err);
    return true;
}

bool mode_converse(Engine *e, const Options *o, Output *out, Error *err)
{
    Talk t = {.engine = e, .options = o, .out = out};
    bool edits;
    const int screen = output_screen(&edits);
    if (!answer_open(&t.answer, e, o, out, err)) {
        return false;
    }
    // Only with --stats: after each answer, a line of statistics would be in the way.
    out->stats = o->stats;
    editor_open(&t.editor, STDIN_FILENO, screen, edits, output_interrupted());
    bool ok = !o->system || dialogue_set_system(&t.dialogue, e, o->system, err);
    if (ok && !o->quiet) {
        output_note("Type a message. /help lists commands and keys; Ctrl-D or /exit leaves.");
    }
    output_catch_interrupts();
    // A Ctrl-C between two lines counts as one at the prompt: the editor sees the flag.
    while (ok && !t.done && *output_interrupted() != SIGTERM) {
        ok = converse_once(&t, err);
    }
    editor_close(&t.editor);
    buffer_free(&t.message);
    dialogue_free(&t.dialogue);
    answer_close(&t.answer);
    return ok;
}
