// messages.c - the messages of a chat request. See messages.h.
//
// A message reaches the template as the request has it, but for four things that clients and
// templates disagree about:
//
//     content             several parts of text are joined to one; a missing one is empty
//     role "developer"    the system's, where the template does not know it
//     reasoning_content   has the name that the template takes
//     arguments           of tool calls, strings in OpenAI's API, are the objects in them
#include "batch/messages.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "batch/fields.h"
#include "options.h"

typedef struct {
    Messages *m;
    const MessageRules *rules;
    size_t number;  // of the message, from 0
    Error *err;
} MessageReader;

// field_unexpected for a part of the message (".content"), or for the message itself (""). A value
// of NULL is missing.
static bool message_unexpected(const MessageReader *r, const char *part, const JsonValue *v,
                               const char *expected)
{
    char field[96];
    snprintf(field, sizeof field, "messages[%zu]%s", r->number, part);
    return v ? field_unexpected(r->err, field, v, expected)
             : error_set(r->err, ERROR_INPUT, "%s is missing, expected %s", field, expected);
}

// --------------------------------------------------------------------------------------------
// Content

// The text of part k of the message's content, {"type": "text", "text": ..}: a string or null.
// Returns NULL after an error.
static const JsonValue *read_content_part(const MessageReader *r, const JsonValue *part, size_t k)
{
    char where[48];
    const int n = snprintf(where, sizeof where, ".content[%zu]", k);
    if (part->kind != JSON_OBJECT) {
        message_unexpected(r, where, part, "an object");
        return NULL;
    }
    const JsonValue *type = json_member(part, "type"), *text = json_member(part, "text");
    const bool known = is_text(type, "text");
    snprintf(where + n, sizeof where - (size_t)n, known ? ".text" : ".type");
    if (!known) {
        message_unexpected(r, where, type, "text (we support no other type of content)");
        return NULL;
    }
    if (!text || (text->kind != JSON_STRING && text->kind != JSON_NULL)) {
        message_unexpected(r, where, text, "a string");
        return NULL;
    }
    return text;
}

// Joins the parts of the message's content with a newline between them, and leaves out those
// without a text: the same as vLLM (renderers/chat_utils.py, version 0.32) and llama.cpp
// (common/chat.cpp, common_chat_msgs_to_json_oaicompat) do for templates that expect one string.
// Its text stays NULL, and its offset is where it begins in the joined texts: those may move yet.
static bool join_content(const MessageReader *r, const JsonValue *parts)
{
    Buffer *joined = &r->m->joined;
    const size_t begin = joined->size;
    const JsonValue *part = json_first(parts);
    for (size_t k = 0; k < parts->count; k++, part = json_next(part)) {
        const JsonValue *text = read_content_part(r, part, k);
        if (!text) {
            return false;
        }
        if (!says_nothing(text)) {
            buffer_add(joined, "\n", joined->size > begin);
            buffer_add(joined, text->text, text->size);
        }
    }
    r->m->last = build_text(&r->m->list, "content", NULL, joined->size - begin);
    if (!build_check(&r->m->list, r->err) || !buffer_check(joined, r->err)) {
        return false;
    }
    r->m->list.values[r->m->last].offset = begin;
    return true;
}

// Reads the content of the message: a string or an array of parts. An assistant's may be missing:
// that is how an answer without a text is written.
static bool read_content(const MessageReader *r, const JsonValue *message, Role role)
{
    const JsonValue *v = json_member(message, "content");
    if (v && v->kind == JSON_ARRAY) {
        return join_content(r, v);
    }
    const bool missing = is_null(v) && role == ROLE_ASSISTANT;
    if (!missing && (!v || v->kind != JSON_STRING)) {
        return message_unexpected(r, ".content", v, "a text");
    }
    r->m->last = build_text(&r->m->list, "content", missing ? "" : v->text, missing ? 0 : v->size);
    return true;
}

// --------------------------------------------------------------------------------------------
// Tool calls

// Parses arguments that are the text of an object; *object is NULL if they are not.
static bool read_call_arguments(const MessageReader *r, const JsonValue *text,
                                const JsonValue **object)
{
    Messages *m = r->m;
    Json *parsed = realloc(m->parsed, (m->n_parsed + 1) * sizeof *parsed);
    *object = NULL;
    if (!parsed) {
        return error_memory(r->err, "tool calls", (m->n_parsed + 1) * sizeof *parsed);
    }
    m->parsed = parsed;
    Json *json = &m->parsed[m->n_parsed++];
    Error why = {0};
    *json = (Json){0};
    if (json_read(json, text->text, text->size, &why) && json->values->kind == JSON_OBJECT) {
        *object = json->values;
    }
    return why.kind != ERROR_RUN || error_set(r->err, ERROR_RUN, "%s", why.message);
}

static bool copy_value(const MessageReader *r, const JsonValue *v);

// Copies the members or elements of v.
static bool copy_children(const MessageReader *r, const JsonValue *v)
{
    const JsonValue *child = json_first(v);
    for (size_t i = 0; i < v->count; i++, child = json_next(child)) {
        if (!copy_value(r, child)) {
            return false;
        }
    }
    return true;
}

// Copies a part of a tool call. What is nested deeper than the arguments is copied as it is.
static bool copy_value(const MessageReader *r, const JsonValue *v)
{
    static const char *const arguments[] = {"arguments", NULL}, *const function[] = {"function",
                                                                                     NULL};
    JsonBuilder *list = &r->m->list;
    const JsonValue *object = NULL;
    const bool named = v->name && is_named(v, arguments);
    if (named && v->kind == JSON_STRING && !r->rules->keeps_arguments &&
        !read_call_arguments(r, v, &object)) {
        return false;
    }
    if (object) {
        const size_t at = list->n;
        build_copy(list, object);
        if (!build_check(list, r->err)) {
            return false;
        }
        list->values[at].name = v->name;
        list->values[at].name_size = v->name_size;
        return true;
    }
    if (v->kind != JSON_OBJECT || named || (v->name && !is_named(v, function))) {
        build_copy(list, v);
        return true;
    }
    const size_t index = build_open(list, v->name, JSON_OBJECT);
    if (!copy_children(r, v)) {
        return false;
    }
    build_close(list, index);
    return true;
}

// --------------------------------------------------------------------------------------------
// Messages

static bool read_role(const MessageReader *r, const JsonValue *message, Role *role)
{
    const JsonValue *v = json_member(message, "role");
    for (size_t k = 0; k < N_ROLES; k++) {
        if (is_text(v, role_names[k])) {
            *role = k == ROLE_DEVELOPER && !r->rules->chat->has_developer ? ROLE_SYSTEM : (Role)k;
            return true;
        }
    }
    return message_unexpected(r, ".role", v, "system, developer, user, assistant or tool");
}

// Adds a member other than role and content.
static bool read_member(const MessageReader *r, const JsonValue *v)
{
    static const char *const texts[] = {"name", "tool_call_id", NULL};
    static const char *const thoughts[] = {"reasoning_content", "reasoning", NULL};
    static const char *const calls[] = {"tool_calls", NULL};
    JsonBuilder *list = &r->m->list;
    char part[80];
    snprintf(part, sizeof part, ".%.60s", v->name);
    if (is_named(v, texts) || is_named(v, thoughts)) {
        const char *renamed = is_named(v, thoughts) ? r->rules->chat->think.member : NULL;
        build_text(list, renamed ? renamed : v->name, v->text, v->size);
        return v->kind == JSON_STRING || message_unexpected(r, part, v, "a string");
    }
    if (!is_named(v, calls)) {
        return error_set(r->err, ERROR_INPUT, "messages[%zu].%.100s: not supported", r->number,
                         v->name);
    }
    if (v->kind != JSON_ARRAY) {
        return message_unexpected(r, part, v, "an array of calls");
    }
    const size_t index = build_open(list, v->name, JSON_ARRAY);
    if (!copy_children(r, v)) {
        return false;
    }
    build_close(list, index);
    return true;
}

// Reads the message.
static bool read_message(const MessageReader *r, const JsonValue *v)
{
    static const char *const others[] = {"role", "content", NULL};
    JsonBuilder *list = &r->m->list;
    Role role;
    if (v->kind != JSON_OBJECT) {
        return message_unexpected(r, "", v, "an object");
    }
    if (!read_role(r, v, &role)) {
        return false;
    }
    const size_t message = build_open(list, NULL, JSON_OBJECT);
    build_text(list, "role", role_names[role], strlen(role_names[role]));
    if (!read_content(r, v, role)) {
        return false;
    }
    const JsonValue *member = json_first(v);
    for (size_t k = 0; k < v->count; k++, member = json_next(member)) {
        if (!says_nothing(member) && !is_named(member, others) && !read_member(r, member)) {
            return false;
        }
    }
    build_close(list, message);
    return true;
}

// Begins the list, with the system message of the rules if `adds_system`.
static size_t begin_list(Messages *m, const MessageRules *rules, bool adds_system)
{
    const size_t list = build_open(&m->list, NULL, JSON_ARRAY);
    if (rules->system && adds_system) {
        chat_add_message(&m->list, ROLE_SYSTEM, rules->system, strlen(rules->system));
    }
    return list;
}

bool messages_of_prompt(Messages *m, const char *text, size_t size, const MessageRules *rules,
                        Error *err)
{
    const size_t list = begin_list(m, rules, true);
    m->last = chat_add_message(&m->list, ROLE_USER, text, size);
    build_close(&m->list, list);
    return build_check(&m->list, err);
}

bool messages_read(Messages *m, const JsonValue *array, const MessageRules *rules, Error *err)
{
    const JsonValue *v = json_first(array);
    MessageReader r = {m, rules, 0, err};
    Role first = ROLE_USER;
    if (v->kind == JSON_OBJECT && !read_role(&r, v, &first)) {
        return false;
    }
    const size_t list = begin_list(m, rules, first != ROLE_SYSTEM && first != ROLE_DEVELOPER);
    for (; r.number < array->count; r.number++, v = json_next(v)) {
        if (!read_message(&r, v)) {
            return false;
        }
    }
    build_close(&m->list, list);
    if (!build_check(&m->list, err)) {
        return false;
    }
    // Only now: adding to the buffer may have moved it.
    const char *joined = m->joined.size ? m->joined.data : "";
    for (size_t i = 0; i < m->list.n; i++) {
        JsonValue *text = &m->list.values[i];
        if (text->kind == JSON_STRING && !text->text) {
            text->text = joined + text->offset;
        }
    }
    return true;
}

void messages_free(Messages *m)
{
    build_free(&m->list);
    buffer_free(&m->joined);
    for (size_t i = 0; i < m->n_parsed; i++) {
        json_free(&m->parsed[i]);
    }
    free(m->parsed);
    *m = (Messages){0};
}
