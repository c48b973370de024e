// dialogue.c - what was said in a conversation, and what of it the model is shown. See dialogue.h.
//
//     system  turn 0  turn 1 | turn 2  turn 3  turn 4     -> template -> tokens
//             ^^^^^^^^^^^^^^   first            its message waits for an answer
//             dropped
//
// The dialogue is rendered and encoded anew for each answer. The cache keeps the tokens that the
// old and the new encoding begin with (sequence_restart), so only the rest is run. Answers keep the
// tokens that the model generated: encoding their text might give others, and all that follows
// would have to be run again.
#include "cli/dialogue.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"

// 1 / ANSWER_SHARE of the context is kept free for an answer, or less if -n requests less.
#define ANSWER_SHARE 4

// Turns are dropped until the rest takes at most 1 / KEPT_SHARE of the context. After that the rest
// has to be run again from the first turn on, so we make room for several answers at once.
#define KEPT_SHARE 2

static void turn_free(Turn *t)
{
    buffer_free(&t->message);
    buffer_free(&t->answer);
    tokens_free(&t->ids);
}

void dialogue_drop_last(Dialogue *d) { turn_free(&d->turns[--d->n]); }

void dialogue_clear(Dialogue *d)
{
    while (d->n) {
        dialogue_drop_last(d);
    }
    d->first = 0;
}

void dialogue_free(Dialogue *d)
{
    dialogue_clear(d);
    free(d->turns);
    buffer_free(&d->system);
    *d = (Dialogue){0};
}

bool dialogue_add(Dialogue *d, const char *message, size_t size, Error *err)
{
    if (d->n == d->capacity) {
        const size_t capacity = d->capacity ? 2 * d->capacity : 16;
        Turn *turns = realloc(d->turns, capacity * sizeof *turns);
        if (!turns) {
            return error_memory(err, "a conversation", capacity * sizeof *turns);
        }
        d->turns = turns;
        d->capacity = capacity;
    }
    Turn *t = &d->turns[d->n++];
    *t = (Turn){0};
    buffer_add(&t->message, message, size);
    if (!buffer_check(&t->message, err)) {
        dialogue_drop_last(d);
        return false;
    }
    return true;
}

bool dialogue_answer(Dialogue *d, const Buffer *text, const int *ids, size_t n, Error *err)
{
    Turn *t = &d->turns[d->n - 1];
    buffer_clear(&t->answer);
    buffer_add(&t->answer, text->data, text->size);
    t->ids.size = 0;
    for (size_t i = 0; i < n; i++) {
        if (!tokens_append(&t->ids, ids[i], err)) {
            return false;
        }
    }
    t->answered = true;
    return buffer_check(text, err) && buffer_check(&t->answer, err);
}

// --------------------------------------------------------------------------------------------
// Tokens

// Sets *out to the tokens of the system message and of the turns from `first` on, up to where the
// answer to the last one begins. Its old answer, if any, is left out.
static bool encode_from(const Dialogue *d, const Engine *e, bool special, size_t first, Tokens *out,
                        Error *err)
{
    static const int none[1];  // ids of an empty answer: NULL would encode its text
    const size_t most = 2 * (d->n - first) + 1;
    Message *messages = calloc(most, sizeof *messages);
    if (!messages) {
        return error_memory(err, "messages", most * sizeof *messages);
    }
    size_t n = 0;
    if (d->has_system) {
        messages[n++] = (Message){ROLE_SYSTEM, d->system.data, d->system.size, NULL, 0};
    }
    for (size_t i = first; i < d->n; i++) {
        const Turn *t = &d->turns[i];
        messages[n++] = (Message){ROLE_USER, t->message.data, t->message.size, NULL, 0};
        if (i + 1 < d->n) {
            messages[n++] = (Message){ROLE_ASSISTANT, t->answer.data, t->answer.size,
                                      t->ids.size ? t->ids.ids : none, t->ids.size};
        }
    }
    out->size = 0;
    const Conversation c = {messages, n, special};
    const bool ok = prompt_encode_chat(e->tokenizer, &e->chat, &c, out, err);
    free(messages);
    return ok;
}

bool dialogue_set_system(Dialogue *d, const Engine *e, const char *text, Error *err)
{
    // Try the template first: the old message stays if it refuses the new one.
    Dialogue trial = {.has_system = text};
    Tokens tokens = {0};
    buffer_add_text(&trial.system, text ? text : "");
    const bool ok = buffer_check(&trial.system, err) && dialogue_add(&trial, "", 0, err) &&
                    encode_from(&trial, e, false, 0, &tokens, err);
    if (ok) {
        const Buffer old = d->system;
        d->system = trial.system;
        d->has_system = trial.has_system;
        trial.system = old;
    }
    tokens_free(&tokens);
    dialogue_free(&trial);
    return ok;
}

bool dialogue_encode(Dialogue *d, const Engine *e, const Options *o, Tokens *out, size_t *n_dropped,
                     Error *err)
{
    const size_t context = e->cache.context, share = context / ANSWER_SHARE;
    const size_t asked = o->generate.max_tokens, room = asked && asked < share ? asked : share;
    size_t first = d->first;
    if (!encode_from(d, e, o->special, first, out, err)) {
        return false;
    }
    if (out->size + room > context) {
        while (first + 1 < d->n && out->size > context / KEPT_SHARE) {
            first++;
            if (!encode_from(d, e, o->special, first, out, err)) {
                return false;
            }
        }
    }
    if (out->size >= context) {
        return error_set(err, ERROR_INPUT,
                         "the message has %zu tokens with what the chat template puts around it, "
                         "expected at most %zu, which leaves one new token in the context of %zu",
                         out->size, context - 1, context);
    }
    *n_dropped = first - d->first;
    d->first = first;
    return true;
}

// --------------------------------------------------------------------------------------------
// JSON

static void write_message(JsonWriter *w, const char *role, const Buffer *text)
{
    json_open(w, NULL, '{');
    json_put_text(w, "role", role);
    json_put_string(w, "content", text->data, text->size);
    json_close(w, '}');
}

void dialogue_write(const Dialogue *d, Buffer *out)
{
    JsonWriter w = {out, false};
    json_open(&w, NULL, '{');
    json_open(&w, "messages", '[');
    if (d->has_system) {
        write_message(&w, "system", &d->system);
    }
    for (size_t i = 0; i < d->n; i++) {
        write_message(&w, "user", &d->turns[i].message);
        if (d->turns[i].answered) {
            write_message(&w, "assistant", &d->turns[i].answer);
        }
    }
    json_close(&w, ']');
    json_close(&w, '}');
    buffer_add_text(out, "\n");
}
