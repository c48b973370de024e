// chat.c - a model's chat template. See chat.h.
//
// The section of a checkpoint that holds it, none of which is aligned:
//
//     +-----------+------------+-------+------------+-------+-- - -
//     | u32 flags | u32 length | bytes | u32 length | bytes | ...      five texts
//     +-----------+------------+-------+------------+-------+-- - -
#include "text/chat.h"

#include <stdlib.h>
#include <string.h>

enum { CHAT_TRIM = 1, CHAT_SYSTEM = 2, CHAT_ANSWER_SPACE = 4, ALL_CHAT_FLAGS = 7 };

// Takes the next u32 of a section of `size` bytes, at *at; false, with *value zero, at its end.
static bool take_u32(const uint8_t *data, size_t size, size_t *at, uint32_t *value)
{
    *value = 0;
    if (size - *at < sizeof *value) {
        return false;
    }
    memcpy(value, data + *at, sizeof *value);
    *at += sizeof *value;
    return true;
}

bool chat_open(ChatTemplate *t, const char *name, const uint8_t *data, size_t size, Error *err)
{
    *t = (ChatTemplate){0};
    const struct {
        const char *name;
        TextSpan *to;
    } texts[] = {{"start_user", &t->start_user},
                 {"start_system", &t->start_system},
                 {"system_user", &t->system_user},
                 {"user_assistant", &t->user_assistant},
                 {"assistant_user", &t->assistant_user}};
    size_t at = 0;
    uint32_t flags;
    if (!take_u32(data, size, &at, &flags) || flags > ALL_CHAT_FLAGS) {
        return error_set(err, ERROR_INPUT, "%s: the flags of section chat are %u, expected 0 to %d",
                         name, (unsigned)flags, ALL_CHAT_FLAGS);
    }
    t->trim = flags & CHAT_TRIM;
    t->has_system = flags & CHAT_SYSTEM;
    t->answer_space = flags & CHAT_ANSWER_SPACE;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        uint32_t length;
        if (!take_u32(data, size, &at, &length) || length > size - at) {
            return error_set(err, ERROR_INPUT,
                             "%s: section chat has %zu bytes, too few for its text %s", name, size,
                             texts[i].name);
        }
        *texts[i].to = (TextSpan){(const char *)data + at, length, true};
        at += length;
    }
    if (at != size) {
        return error_set(err, ERROR_INPUT, "%s: section chat has %zu bytes, expected %zu", name,
                         size, at);
    }
    return true;
}

// White space of ASCII, which Jinja's `trim` takes off the ends of a message.
static bool is_white(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

static TextSpan message_span(const ChatTemplate *t, const Message *m, bool special)
{
    TextSpan s = {m->text, m->size, special};
    const bool trim = t->trim && !m->ids;
    while (trim && s.size && is_white(s.text[0])) {
        s.text++;
        s.size--;
    }
    while (trim && s.size && is_white(s.text[s.size - 1])) {
        s.size--;
    }
    return s;
}

// The template's text between message i and what precedes it; NULL if the message is out of order.
static const TextSpan *text_before(const ChatTemplate *t, const Conversation *c, size_t i)
{
    const bool first = i == 0;
    const bool after_answer = i && c->messages[i - 1].role == ROLE_ASSISTANT;
    const bool after_user = i && c->messages[i - 1].role == ROLE_USER;
    const bool after_system = i && c->messages[i - 1].role == ROLE_SYSTEM;
    switch (c->messages[i].role) {
    case ROLE_SYSTEM:
        return first ? &t->start_system : NULL;
    case ROLE_USER:
        return first          ? &t->start_user
               : after_system ? &t->system_user
               : after_answer ? &t->assistant_user
                              : NULL;
    case ROLE_ASSISTANT:
        return after_user ? &t->user_assistant : NULL;
    }
    return NULL;
}

// Checks that a template can render these messages.
static bool check_messages(const ChatTemplate *t, const Conversation *c, Error *err)
{
    for (size_t i = 0; i < c->n; i++) {
        if (!text_before(t, c, i)) {
            return error_set(err, ERROR_INPUT,
                             "message %zu is out of order: expected at most one system message, "
                             "first, then messages of user and assistant in turn",
                             i);
        }
        if (c->messages[i].role == ROLE_SYSTEM && !t->has_system) {
            return error_set(err, ERROR_INPUT,
                             "the model's chat template has no place for a system message");
        }
    }
    if (c->n == 0 || c->messages[c->n - 1].role != ROLE_USER) {
        return error_set(err, ERROR_INPUT,
                         "the last message is not the user's: there is nothing to answer");
    }
    return true;
}

bool chat_render(const ChatTemplate *t, const Conversation *c, TextSpan **out, size_t *n_out,
                 Error *err)
{
    if (!check_messages(t, c, err)) {
        return false;
    }
    // A message has the template's text before it, perhaps a space, and its own text.
    const size_t most = 3 * c->n + 1;
    TextSpan *spans = calloc(most, sizeof *spans);
    if (!spans) {
        return error_memory(err, "messages", most * sizeof *spans);
    }
    size_t n = 0;
    for (size_t i = 0; i < c->n; i++) {
        spans[n++] = *text_before(t, c, i);
        if (c->messages[i].role == ROLE_ASSISTANT && t->answer_space && !c->messages[i].ids) {
            spans[n++] = (TextSpan){" ", 1, false};
        }
        spans[n++] = message_span(t, &c->messages[i], c->special);
    }
    spans[n++] = t->user_assistant;
    *out = spans;
    *n_out = n;
    return true;
}
