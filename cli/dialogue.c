// dialogue.c - what was said in a conversation, and what of it the model is shown. See dialogue.h.
//
//     system  turn 0  turn 1 | turn 2  turn 3  turn 4     -> template -> tokens
//             ^^^^^^^^^^^^^^   first            its message waits for an answer
//             dropped
//
// The dialogue is rendered and encoded anew for each answer, because a template may write earlier
// turns differently as the dialogue grows: many drop earlier thoughts. The cache keeps the tokens
// that the old and the new encoding begin with (sequence_restart), so only the rest is run. Thoughts
// and answers keep the tokens that the model generated: encoding their text might give others, and
// all that follows would have to be run again.
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
    buffer_free(&t->thought);
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

bool dialogue_answer(Dialogue *d, const Sequence *s, Error *err)
{
    Turn *t = &d->turns[d->n - 1];
    buffer_clear(&t->thought);
    buffer_clear(&t->answer);
    buffer_add(&t->thought, s->thought.all.data, s->thought.all.size);
    buffer_add(&t->answer, s->text.all.data, s->text.all.size);
    t->ids.size = 0;
    for (size_t i = s->n_prompt; i < s->tokens.size; i++) {
        if (!tokens_append(&t->ids, s->tokens.ids[i], err)) {
            return false;
        }
    }
    t->thought_begin = s->thought_begin;
    t->thought_end = s->thought_end;
    t->answer_begin = s->answer_begin;
    t->previous = s->tokens.ids[s->n_prompt - 1];
    t->answered = true;
    return buffer_check(&t->thought, err) && buffer_check(&t->answer, err);
}

// --------------------------------------------------------------------------------------------
// Tokens

// The messages that the model is shown, and what in them it has said itself. Owned.
typedef struct {
    JsonBuilder messages;
    SpokenText *spoken;  // (n_spoken)
    size_t n_spoken;
    size_t *places;  // (n_spoken): the index of each one's value in the messages
} Shown;

static void shown_free(Shown *s)
{
    build_free(&s->messages);
    free(s->spoken);
    free(s->places);
}

// Adds a text that was made of the ids begin .. end of a turn.
static size_t add_spoken(Shown *s, const char *member, const Buffer *text, const Turn *t,
                         const size_t range[2])
{
    const size_t place = build_text(&s->messages, member, text->size ? text->data : "", text->size);
    s->spoken[s->n_spoken] = (SpokenText){
        .ids = t->ids.ids + range[0],
        .n = range[1] - range[0],
        .previous = range[0] ? t->ids.ids[range[0] - 1] : t->previous,
    };
    s->places[s->n_spoken++] = place;
    return place;
}

// Adds the answer of a turn, with its thought where the template takes one.
static void add_answer_message(Shown *s, const ThinkingTexts *think, const Turn *t)
{
    const char *role = role_names[ROLE_ASSISTANT];
    const size_t message = build_open(&s->messages, NULL, JSON_OBJECT);
    build_text(&s->messages, "role", role, strlen(role));
    if (think->member && t->thought.size) {
        add_spoken(s, think->member, &t->thought, t,
                   (const size_t[2]){t->thought_begin, t->thought_end});
    }
    add_spoken(s, "content", &t->answer, t, (const size_t[2]){t->answer_begin, t->ids.size});
    s->spoken[s->n_spoken - 1].has_ends = true;
    build_close(&s->messages, message);
}

// Builds the messages of the system and of the turns from `first` on, up to where the answer to the
// last one begins. Its old answer, if any, is left out.
static bool build_shown(Shown *s, const Dialogue *d, const ChatTemplate *chat, size_t first,
                        Error *err)
{
    const size_t most = 2 * (d->n - first);
    *s = (Shown){.spoken = calloc(most, sizeof *s->spoken),
                 .places = calloc(most, sizeof *s->places)};
    if (!s->spoken || !s->places) {
        return error_memory(err, "messages", most * sizeof *s->spoken);
    }
    const size_t list = build_open(&s->messages, NULL, JSON_ARRAY);
    if (d->has_system) {
        chat_add_message(&s->messages, ROLE_SYSTEM, d->system.data, d->system.size);
    }
    for (size_t i = first; i < d->n; i++) {
        const Turn *t = &d->turns[i];
        chat_add_message(&s->messages, ROLE_USER, t->message.data, t->message.size);
        if (i + 1 < d->n) {
            add_answer_message(s, &chat->think, t);
        }
    }
    build_close(&s->messages, list);
    for (size_t i = 0; i < s->n_spoken; i++) {
        s->spoken[i].value = &s->messages.values[s->places[i]];
    }
    return build_check(&s->messages, err);
}

// Sets *out to the prompt of the turns from `first` on.
static bool encode_from(const Dialogue *d, const Engine *e, const Options *o, size_t first,
                        Prompt *out, Error *err)
{
    Shown shown;
    bool ok = build_shown(&shown, d, &e->chat, first, err);
    const ChatPrompt chat = {.conversation = {.messages = shown.messages.values,
                                              .settings = e->chat_settings,
                                              .think = o->generate.think.mode,
                                              .special = o->special},
                             .spoken = shown.spoken,
                             .n_spoken = shown.n_spoken};
    out->tokens.size = 0;
    ok = ok && prompt_encode_chat(e->tokenizer, &e->chat, &chat, out, err);
    shown_free(&shown);
    return ok;
}

bool dialogue_set_system(Dialogue *d, const Engine *e, const char *text, Error *err)
{
    if (text && !e->chat.has_system) {
        return error_set(err, ERROR_INPUT,
                         "the model's chat template has no place for a system message");
    }
    Buffer system = {0};
    buffer_add_text(&system, text ? text : "");
    if (!buffer_check(&system, err)) {
        buffer_free(&system);
        return false;
    }
    buffer_free(&d->system);
    d->system = system;
    d->has_system = text;
    return true;
}

bool dialogue_encode(Dialogue *d, const Engine *e, const Options *o, Prompt *out, size_t *n_dropped,
                     Error *err)
{
    const size_t context = e->cache.context, share = context / ANSWER_SHARE;
    const size_t asked = o->generate.max_tokens, room = asked && asked < share ? asked : share;
    size_t first = d->first;
    if (!encode_from(d, e, o, first, out, err)) {
        return false;
    }
    if (out->tokens.size + room > context) {
        while (first + 1 < d->n && out->tokens.size > context / KEPT_SHARE) {
            first++;
            if (!encode_from(d, e, o, first, out, err)) {
                return false;
            }
        }
    }
    if (out->tokens.size >= context) {
        return error_set(err, ERROR_INPUT,
                         "the message has %zu tokens with what the chat template puts around it, "
                         "expected at most %zu, which leaves one new token in the context of %zu",
                         out->tokens.size, context - 1, context);
    }
    *n_dropped = first - d->first;
    d->first = first;
    return true;
}

// --------------------------------------------------------------------------------------------
// JSON

static void write_message(JsonWriter *w, const char *role, const Buffer *text,
                          const Buffer *thought)
{
    json_open(w, NULL, '{');
    json_put_text(w, "role", role);
    if (thought && thought->size) {
        json_put_string(w, "reasoning_content", thought->data, thought->size);
    }
    json_put_string(w, "content", text->data, text->size);
    json_close(w, '}');
}

void dialogue_write(const Dialogue *d, Buffer *out)
{
    JsonWriter w = {out, false};
    json_open(&w, NULL, '{');
    json_open(&w, "messages", '[');
    if (d->has_system) {
        write_message(&w, "system", &d->system, NULL);
    }
    for (size_t i = 0; i < d->n; i++) {
        write_message(&w, "user", &d->turns[i].message, NULL);
        if (d->turns[i].answered) {
            write_message(&w, "assistant", &d->turns[i].answer, &d->turns[i].thought);
        }
    }
    json_close(&w, ']');
    json_close(&w, '}');
    buffer_add_text(out, "\n");
}
