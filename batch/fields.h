// fields.h - what the readers of requests ask of a JSON value.
#ifndef FIELDS_H
#define FIELDS_H

#include <stdbool.h>
#include <string.h>

#include "base/json.h"

static inline bool is_null(const JsonValue *v) { return !v || v->kind == JSON_NULL; }

// Is a field missing, null or empty? Clients write down every field of their data types, so an
// answer that is put into the next request's history has "annotations": [] and "tool_calls": null.
// Such a field asks for nothing, whatever its name: so it is never a reason to refuse a request.
// Where the empty text is a value (prompt, content), the reader of that field looks for itself.
static inline bool says_nothing(const JsonValue *v)
{
    return is_null(v) || (v->kind == JSON_STRING && !v->size) ||
           (v->kind > JSON_STRING && !v->count);
}

static inline bool is_text(const JsonValue *v, const char *text)
{
    return v && v->kind == JSON_STRING && v->size == strlen(text) &&
           memcmp(v->text, text, v->size) == 0;
}

// Is the member's name one of `names`, which end with NULL?
static inline bool is_named(const JsonValue *member, const char *const *names)
{
    for (; *names; names++) {
        if (member->name_size == strlen(*names) &&
            memcmp(member->name, *names, member->name_size) == 0) {
            return true;
        }
    }
    return false;
}

#endif
