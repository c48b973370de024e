// generate.c - one sequence's life. Text passes two filters on its way out, each of which holds
// back what it cannot decide yet:
//
//     token -> bytes -> [stop texts: hold what may be the beginning of one]
//                    -> [UTF-8: hold half characters] -> text
//
// The prompt's own text, where it is echoed, passes only the second.
#include "generate.h"

#include <stdlib.h>
#include <string.h>

// Passes bytes on as whole characters; what cannot be one becomes U+FFFD.
static bool add_text(Sequence *s, const char *bytes, size_t size, Error *err)
{
    for (size_t i = 0; i < size; i++) {
        s->partial[s->n_partial++] = bytes[i];
        int length;
        while (s->n_partial && (length = utf8_scan(s->partial, s->n_partial)) != 0) {
            const bool whole = length > 0;
            const size_t n = (size_t)(whole ? length : -length);
            if (!buffer_append(&s->text, whole ? s->partial : UTF8_REPLACEMENT, whole ? n : 3,
                               err)) {
                return false;
            }
            s->n_partial -= n;
            memmove(s->partial, s->partial + n, s->n_partial);
        }
    }
    return true;
}

// Adds bytes of the continuation: releases what cannot be part of a stop text, cuts at the first
// that is complete.
static bool add_continuation(Sequence *s, const char *bytes, size_t size, Error *err)
{
    const GenerateOptions *o = s->options;
    if (!buffer_append(&s->held, bytes, size, err)) {
        return false;
    }
    const char *held = s->held.data;
    size_t release = s->held.size,
           end = release;  // bytes before release are decided, those from end on dropped
    for (size_t k = 0; k < o->n_stops; k++) {
        const size_t length = strlen(o->stops[k]);
        for (size_t i = 0; i + length <= s->held.size && i < end; i++) {
            if (memcmp(held + i, o->stops[k], length) == 0) {
                s->finish = FINISH_STOP;
                release = end = i;
            }
        }
        for (size_t i = 0; !s->finish && i < release; i++) {
            const size_t left = s->held.size - i;
            if (left < length && memcmp(held + i, o->stops[k], left) == 0) {
                release = i;
            }
        }
    }
    if (s->finish) {
        s->held.size = release = end;
    }
    if (!add_text(s, held, release, err)) {
        return false;
    }
    memmove(s->held.data, s->held.data + release, s->held.size - release);
    s->held.size -= release;
    return true;
}

bool sequence_start(Sequence *s, const Tokenizer *tokenizer, const GenerateOptions *options,
                    uint64_t seed, size_t slot, size_t context, Tokens *prompt, bool echo,
                    Error *err)
{
    *s = (Sequence){.tokenizer = tokenizer,
                    .options = options,
                    .slot = slot,
                    .context = context,
                    .tokens = *prompt,
                    .n_prompt = prompt->size};
    *prompt = (Tokens){0};
    if (s->n_prompt == 0) {
        error_set(err, ERROR_INPUT,
                  "the prompt is empty, and the model has no token to begin with");
        goto fail;
    }
    if (s->n_prompt >= context) {
        error_set(
            err, ERROR_INPUT,
            "the prompt has %zu tokens, expected at most %zu, which leaves one new token in the "
            "context of %zu (--truncate-prompt keeps its end)",
            s->n_prompt, context - 1, context);
        goto fail;
    }
    if (!sampler_create(&s->sampler, tokenizer_vocab_size(tokenizer), &options->sampler, seed,
                        err)) {
        goto fail;
    }
    for (size_t i = 0; echo && i < s->n_prompt; i++) {
        size_t size;
        const char *bytes = tokenizer_decode(tokenizer, i ? s->tokens.ids[i - 1] : -1,
                                             s->tokens.ids[i], &size);
        if (!add_text(s, bytes, size, err)) {
            goto fail;
        }
    }
    return true;
fail:
    sequence_free(s);
    return false;
}

bool sequence_continue(Sequence *s, Tokens *more, Error *err)
{
    if (more->size >= s->context - s->tokens.size) {
        return error_set(
            err, ERROR_INPUT,
            "the conversation has %zu tokens, expected at most %zu, which leaves one new "
            "token in the context of %zu",
            s->tokens.size + more->size, s->context - 1, s->context);
    }
    for (size_t i = 0; i < more->size; i++) {
        if (!tokens_append(&s->tokens, more->ids[i], err)) {
            return false;
        }
    }
    tokens_free(more);
    s->n_prompt = s->tokens.size;
    s->finish = FINISH_NONE;
    return true;
}

void sequence_free(Sequence *s)
{
    sampler_free(&s->sampler);
    tokens_free(&s->tokens);
    buffer_free(&s->text);
    buffer_free(&s->held);
    *s = (Sequence){0};
}

size_t sequence_rows(Sequence *s, Row *rows, size_t max)
{
    size_t n = 0;
    for (; n < max && s->n_run < s->tokens.size; n++, s->n_run++) {
        rows[n] = (Row){.token = s->tokens.ids[s->n_run],
                        .sequence = s->slot,
                        .wants_logits = s->n_run + 1 == s->tokens.size};
    }
    return n;
}

bool sequence_accept(Sequence *s, const float *logits, Error *err)
{
    const GenerateOptions *o = s->options;
    const int previous = s->tokens.ids[s->tokens.size - 1];
    const int token = sampler_next(&s->sampler, logits, s->tokens.ids, s->tokens.size);
    if (tokenizer_is_end(s->tokenizer, token) && !o->ignore_eos) {
        s->finish = FINISH_STOP;
    } else {
        size_t size;
        const char *bytes = tokenizer_decode(s->tokenizer, previous, token, &size);
        if (!tokens_append(&s->tokens, token, err) || !add_continuation(s, bytes, size, err)) {
            return false;
        }
        const size_t n_new = s->tokens.size - s->n_prompt;
        if (!s->finish && (n_new == o->max_tokens || s->tokens.size == s->context)) {
            s->finish = FINISH_LENGTH;
        }
    }
    if (!s->finish) {
        return true;
    }
    // Nothing more can complete a stop text or a character.
    const size_t held = s->held.size;
    s->held.size = 0;
    if (!add_text(s, s->held.data, held, err)) {
        return false;
    }
    const size_t unfinished = s->n_partial;
    s->n_partial = 0;
    return !unfinished || buffer_append(&s->text, UTF8_REPLACEMENT, 3, err);
}

bool prompt_encode_chat(const Tokenizer *tokenizer, const ChatTemplate *chat,
                        const Message *messages, size_t n, bool started, bool special, Tokens *out,
                        Error *err)
{
    TextSpan *spans;
    size_t n_spans;
    const Messages conversation = {messages, n, started, special};
    if (!chat_render(chat, &conversation, &spans, &n_spans, err)) {
        return false;
    }
    // What the template begins with is all there is: it names BOS itself where it wants one.
    const bool ok = tokenizer_encode(tokenizer, spans, n_spans, false, out, err);
    free(spans);
    return ok;
}

void prompt_truncate(Tokens *prompt, int bos, size_t context, size_t max_tokens)
{
    if (prompt->size < context) {
        return;
    }
    const size_t half = (context + 1) / 2;
    const size_t room = max_tokens && max_tokens < half ? max_tokens : half;
    const size_t keep = context > room ? context - room : 1;
    const size_t first = bos >= 0 && prompt->ids[0] == bos && keep > 1 ? 1 : 0;
    memmove(prompt->ids + first, prompt->ids + prompt->size - (keep - first),
            (keep - first) * sizeof *prompt->ids);
    prompt->size = keep;
}

const char *finish_name(FinishReason finish)
{
    return finish == FINISH_STOP ? "stop" : finish == FINISH_LENGTH ? "length" : NULL;
}
