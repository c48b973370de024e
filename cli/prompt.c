// prompt.c - the prompt of a single run. See prompt.h.
#include "cli/prompt.h"

#include <string.h>
#include <unistd.h>

// Larger prompts are mistakes, and would be encoded for minutes before the context refuses them.
#define MAX_PROMPT_BYTES ((size_t)1 << 30)

bool prompt_is_typed(const Options *o) { return !o->prompt.n && isatty(STDIN_FILENO); }

static bool read_part(const PromptPart *part, Buffer *prompt, Error *err)
{
    if (!part->is_file) {
        buffer_add_text(prompt, part->text);
        return buffer_check(prompt, err);
    }
    return strcmp(part->text, "-") == 0
               ? read_all(STDIN_FILENO, "standard input", MAX_PROMPT_BYTES, prompt, err)
               : read_file(part->text, MAX_PROMPT_BYTES, prompt, err);
}

// The texts of -i and the files of -f in the order of the command line, with a blank line between
// two of them; without any, standard input unless it is a terminal.
static bool read_prompt(const Options *o, Buffer *prompt, Error *err)
{
    static const PromptPart standard_input = {"-", true};
    const PromptParts *p = &o->prompt;
    for (size_t i = 0; i < p->n; i++) {
        if (i) {
            buffer_add_text(prompt, "\n\n");
        }
        if (!read_part(&p->parts[i], prompt, err)) {
            return false;
        }
    }
    return p->n || isatty(STDIN_FILENO) || read_part(&standard_input, prompt, err);
}

bool prompt_encode_message(const Engine *e, const Options *o, TextSpan message, bool started,
                           Tokens *out, Error *err)
{
    const char *system = o->system;
    const Message messages[] = {{ROLE_SYSTEM, system, system ? strlen(system) : 0},
                                {ROLE_USER, message.text, message.size}};
    const size_t first = system && !started ? 0 : 1;
    const Conversation c = {messages + first, 2 - first, started, message.special};
    return prompt_encode_chat(e->tokenizer, &e->chat, &c, out, err);
}

bool prompt_tokens(const Engine *e, const Options *o, Tokens *out, Error *err)
{
    Buffer prompt = {0};
    bool ok = read_prompt(o, &prompt, err);
    const TextSpan span = {prompt.data, prompt.size, o->special};
    if (ok) {
        ok = o->chat ? prompt_encode_message(e, o, span, false, out, err)
                     : tokenizer_encode(e->tokenizer, &span, 1, true, out, err);
    }
    buffer_free(&prompt);
    if (ok && !out->size && prompt_is_typed(o)) {
        return error_set(
            err, ERROR_USAGE,
            "no prompt, and %s has no token to begin a text with; expected -i TEXT, -f "
            "FILE or standard input",
            o->engine.model);
    }
    return ok;
}

bool prompt_cache_attach(PromptCache *p, Engine *e, const Options *o, const Output *out, Error *err)
{
    // The fingerprint reads all of a llama2.c file: only where it is needed.
    const uint64_t model = o->prompt_cache ? checkpoint_fingerprint(&e->checkpoint) : 0;
    *p = (PromptCache){0};
    output_watch(out, &p->file, o->prompt_cache ? o->prompt_cache : "");
    return prompt_cache_open(p, o->prompt_cache, model, &e->cache, err);
}

void prompt_cache_detach(PromptCache *p, Engine *e)
{
    engine_close_cache(e);
    output_unwatch(&p->file);
    prompt_cache_close(p);
}
