// chat.c - a model's chat template. See chat.h.
#include "text/chat.h"

#include <stdlib.h>
#include <string.h>

#define FLAG_TRIM   1u
#define FLAG_SYSTEM 2u
#define FLAG_SPACE  4u

static uint32_t u32_at(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
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
    if (size < 4 || u32_at(data) > (FLAG_TRIM | FLAG_SYSTEM | FLAG_SPACE)) {
        return error_set(err, ERROR_INPUT, "%s: the flags of section chat are %u, expected 0 to 7",
                         name, size < 4 ? 0 : (unsigned)u32_at(data));
    }
    t->trim = u32_at(data) & FLAG_TRIM;
    t->has_system = u32_at(data) & FLAG_SYSTEM;
    t->answer_space = u32_at(data) & FLAG_SPACE;
    size_t at = 4;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        const size_t left = size - at;
        if (left < 4 || u32_at(data + at) > left - 4) {
            return error_set(err, ERROR_INPUT,
                             "%s: section chat has %zu bytes, too few for its text %s", name, size,
                             texts[i].name);
        }
        *texts[i].to = (TextSpan){(const char *)data + at + 4, u32_at(data + at), true};
        at += 4 + texts[i].to->size;
    }
    if (at != size) {
        return error_set(err, ERROR_INPUT, "%s: section chat has %zu bytes, expected %zu", name,
                         size, at);
    }
    return true;
}

static bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

static TextSpan message_span(const ChatTemplate *t, const Message *m, bool special)
{
    TextSpan s = {m->text, m->size, special};
    while (t->trim && s.size && is_space(s.text[0])) {
        s.text++;
        s.size--;
    }
    while (t->trim && s.size && is_space(s.text[s.size - 1])) {
        s.size--;
    }
    return s;
}

bool chat_render(const ChatTemplate *t, const Message *messages, size_t n, bool started,
                 bool special, TextSpan **out, size_t *n_out, Error *err)
{
    const size_t most = 3 * n + 1;
    TextSpan *spans = calloc(most, sizeof *spans);
    if (!spans) {
        return error_memory(err, "messages", most * sizeof *spans);
    }
    size_t n_spans = 0;
    bool ok = true;
    for (size_t i = 0; ok && i < n; i++) {
        const Role role = messages[i].role;
        const bool after_answer = i ? messages[i - 1].role == ROLE_ASSISTANT : started;
        const bool first = i == 0 && !started;
        const TextSpan *before = NULL;
        if (role == ROLE_SYSTEM && first) {
            before = &t->start_system;
        } else if (role == ROLE_USER && i && messages[i - 1].role == ROLE_SYSTEM) {
            before = &t->system_user;
        } else if (role == ROLE_USER && (first || after_answer)) {
            before = first ? &t->start_user : &t->assistant_user;
        } else if (role == ROLE_ASSISTANT && i && messages[i - 1].role == ROLE_USER) {
            before = &t->user_assistant;
        }
        if (!before) {
            ok = error_set(
                err, ERROR_INPUT,
                "message %zu is out of turn: expected at most one system message, first, then "
                "user and assistant in turn",
                i);
        } else if (role == ROLE_SYSTEM && !t->has_system) {
            ok = error_set(err, ERROR_INPUT,
                           "the model's chat template has no place for a system message");
        } else {
            spans[n_spans++] = *before;
            if (role == ROLE_ASSISTANT && t->answer_space) {
                spans[n_spans++] = (TextSpan){" ", 1, false};
            }
            spans[n_spans++] = message_span(t, &messages[i], special);
        }
    }
    if (ok && (n == 0 || messages[n - 1].role != ROLE_USER)) {
        ok = error_set(err, ERROR_INPUT,
                       "the last message is not the user's: there is nothing to answer");
    }
    if (!ok) {
        free(spans);
        return false;
    }
    // NOLINTNEXTLINE(clang-analyzer-core.NullDereference): `before` can be null, t cannot
    spans[n_spans++] = t->user_assistant;
    *out = spans;
    *n_out = n_spans;
    return true;
}
