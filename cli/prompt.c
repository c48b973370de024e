// prompt.c - the prompt of a single run. See prompt.h.
#include "cli/prompt.h"

#include <string.h>
#include <unistd.h>

// Larger prompts are mistakes, and would be encoded for minutes before the context refuses them.
#define MAX_PROMPT_BYTES ((size_t)1 << 30)

bool prompt_is_typed(const Options *o) { return !o->prompt.n && isatty(STDIN_FILENO); }

// A prompt's text, and the part of it that --truncate-prompt may shorten in a chat: what comes from
// files, or all of it where nothing does.
typedef struct {
    Buffer text;  // owned
    struct {
        size_t begin, end;
    } files[MAX_PROMPT_PARTS];
    size_t n_files;
} PromptText;

static bool read_prompt_part(const PromptPart *part, Buffer *prompt, Error *err)
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
static bool read_prompt_text(const Options *o, PromptText *prompt, Error *err)
{
    static const PromptPart standard_input = {"-", true};
    const PromptParts *p = &o->prompt;
    Buffer *text = &prompt->text;
    buffer_add_text(text, "");  // its data is not NULL, however little is read
    for (size_t i = 0; i < p->n; i++) {
        if (i) {
            buffer_add_text(text, "\n\n");
        }
        const size_t begin = text->size;
        if (!read_prompt_part(&p->parts[i], text, err)) {
            return false;
        }
        if (p->parts[i].is_file) {
            prompt->files[prompt->n_files].begin = begin;
            prompt->files[prompt->n_files++].end = text->size;
        }
    }
    if (!p->n && !isatty(STDIN_FILENO) && !read_prompt_part(&standard_input, text, err)) {
        return false;
    }
    if (!prompt->n_files) {
        prompt->files[prompt->n_files++].end = text->size;
    }
    return true;
}

// Appends the tokens of a user's message, after the system message if there is one.
static bool encode_message(const Engine *e, const Options *o, const Buffer *message, Prompt *out,
                           Error *err)
{
    JsonBuilder messages = {0};
    const size_t list = build_open(&messages, NULL, JSON_ARRAY);
    if (o->system) {
        chat_add_message(&messages, ROLE_SYSTEM, o->system, strlen(o->system));
    }
    chat_add_message(&messages, ROLE_USER, message->data, message->size);
    build_close(&messages, list);
    const ChatPrompt chat = {.conversation = {.messages = messages.values,
                                              .settings = e->chat_settings,
                                              .think = o->generate.think.mode,
                                              .special = o->special}};
    const bool ok = build_check(&messages, err) &&
                    prompt_encode_chat(e->tokenizer, &e->chat, &chat, out, err);
    build_free(&messages);
    return ok;
}

static PromptLimit prompt_limit(const Engine *e, const Options *o)
{
    return (PromptLimit){o->truncate_prompt ? e->context : 0, o->generate.max_tokens};
}

// A chat's only message, for prompt_shorten.
typedef struct {
    const Engine *engine;
    const Options *options;
    const PromptText *prompt;
} FilesPrompt;

// See ShortenedPrompt: the files are shortened as if they were one, from the start of the first.
static bool encode_files(void *arg, size_t skip, Prompt *out, Error *err)
{
    const FilesPrompt *p = arg;
    const Buffer *text = &p->prompt->text;
    Buffer message = {0};
    size_t at = 0;  // of the text: up to here it is in the message, or left out
    for (size_t i = 0; i < p->prompt->n_files; i++) {
        const size_t begin = p->prompt->files[i].begin, end = p->prompt->files[i].end;
        const size_t n = skip < end - begin ? skip : end - begin;
        buffer_add(&message, text->data + at, begin - at);
        at = begin + utf8_boundary(text->data + begin, end - begin, n);
        skip -= n;
    }
    buffer_add(&message, text->data + at, text->size - at);
    const bool ok = buffer_check(&message, err) &&
                    encode_message(p->engine, p->options, &message, out, err);
    buffer_free(&message);
    return ok;
}

bool prompt_check_system(const Engine *e, const Options *o, Error *err)
{
    return !o->system || e->chat.has_system ||
           error_set(err, ERROR_INPUT,
                     "%s: the model's chat template has no place for a system message",
                     o->engine.model);
}

static bool encode_for_chat(const Engine *e, const Options *o, const PromptText *prompt,
                            Prompt *out, Error *err)
{
    if (!prompt_check_system(e, o, err)) {
        return false;
    }
    FilesPrompt chat = {e, o, prompt};
    ShortenedPrompt shortened = {.encode = encode_files, .arg = &chat};
    for (size_t i = 0; i < prompt->n_files; i++) {
        shortened.size += prompt->files[i].end - prompt->files[i].begin;
    }
    return prompt_shorten(&shortened, prompt_limit(e, o), out, err);
}

bool prompt_read(const Engine *e, const Options *o, Prompt *out, Error *err)
{
    PromptText prompt = {.n_files = 0};
    bool ok = read_prompt_text(o, &prompt, err);
    if (ok && o->chat) {
        ok = encode_for_chat(e, o, &prompt, out, err);
    } else if (ok) {
        const TextSpan span = {prompt.text.data, prompt.text.size, o->special, false};
        ok = prompt_encode_text(e->tokenizer, &span, prompt_limit(e, o), out, err);
    }
    buffer_free(&prompt.text);
    if (ok && !out->tokens.size && prompt_is_typed(o)) {
        return error_set(err, ERROR_USAGE,
                         "no prompt, and %s has no token to begin a text with; expected -i TEXT, "
                         "-f FILE or standard input",
                         o->engine.model);
    }
    return ok;
}

bool prompt_cache_attach(PromptCache *p, Engine *e, const Options *o, Error *err)
{
    CachedModel model = {o->engine.model, 0};
    *p = (PromptCache){0};
    // The fingerprint of a file without checksums reads all weights: only where it is needed.
    if (o->prompt_cache && !checkpoint_fingerprint(&e->checkpoint, &model.fingerprint, err)) {
        return false;
    }
    output_watch_cache(&p->file, o->prompt_cache);
    return prompt_cache_open(p, o->prompt_cache, model, &e->cache, err);
}

void prompt_cache_detach(PromptCache *p, Engine *e, const Output *out)
{
    if (out->stats && p->use == CACHE_FILE_REPLACED) {
        output_note("run: %s: replaced: its prompt differs from this one from token %zu on, within "
                    "the first %d",
                    p->path, p->n_common + 1, PAGE_POSITIONS);
    } else if (out->stats && p->use == CACHE_FILE_NO_PAGE) {
        output_note("run: %s: neither used nor written: the prompt has fewer than %d tokens",
                    p->path, PAGE_POSITIONS);
    }
    engine_close_cache(e);
    output_watch_cache(NULL, NULL);
    prompt_cache_close(p);
}
