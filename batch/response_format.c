// response_format.c - what an answer has to be. See response_format.h.
#include "batch/response_format.h"

#include "batch/fields.h"
#include "options.h"

// Sets the constraint that the field `as` stands for; `name` is what the request calls it.
static bool set_constraint(GenerateOptions *g, const char *as, const char *name, const JsonValue *v,
                           Error *err)
{
    const RequestField field = {name, 0};
    return option_set_json(option_for_request(as), g, v, &field, err);
}

// Refuses members that are not among `names` (up to NULL), unless they say nothing.
static bool check_members(const JsonValue *object, const char *field, const char *const *names,
                          Error *err)
{
    const JsonValue *member = json_first(object);
    for (size_t i = 0; i < object->count; i++, member = json_next(member)) {
        if (!says_nothing(member) && !is_named(member, names)) {
            return error_set(err, ERROR_INPUT, "%s.%.100s: unsupported parameter", field,
                             member->name);
        }
    }
    return true;
}

// A schema is enforced whether it is `strict` or not.
static bool read_json_schema(GenerateOptions *g, const JsonValue *v, Error *err)
{
    static const char field[] = "response_format.json_schema";
    static const char *const names[] = {"name", "description", "schema", "strict", NULL};
    if (!v || v->kind != JSON_OBJECT) {
        return v ? field_unexpected(err, field, v, "an object")
                 : error_set(err, ERROR_INPUT, "%s is missing", field);
    }
    const JsonValue *schema = json_member(v, "schema");
    if (!schema) {
        return error_set(err, ERROR_INPUT, "%s.schema is missing", field);
    }
    return check_members(v, field, names, err) &&
           set_constraint(g, "guided_json", "response_format.json_schema.schema", schema, err);
}

bool read_response_format(GenerateOptions *g, const JsonValue *v, Error *err)
{
    static const char *const with_schema[] = {"type", "json_schema", NULL};
    static const char *const without[] = {"type", NULL};
    static const JsonValue yes = {.kind = JSON_TRUE};
    const bool object = v->kind == JSON_OBJECT;
    const JsonValue *type = object ? json_member(v, "type") : v;
    const bool schema = object && is_text(type, "json_schema");
    if (object && !check_members(v, "response_format", schema ? with_schema : without, err)) {
        return false;
    }
    if (schema) {
        return read_json_schema(g, json_member(v, "json_schema"), err);
    }
    if (is_text(type, "json_object")) {
        return set_constraint(g, "guided_json_object", "response_format", &yes, err);
    }
    if (!is_text(type, "text")) {
        return field_unexpected(err, object && type ? "response_format.type" : "response_format",
                                object && type ? type : v, "text, json_object or json_schema");
    }
    if (!g->constraint.requested) {
        g->choices.n = 0;
        g->constraint = (ConstraintSpec){.kind = CONSTRAINT_NONE};
    }
    return true;
}

bool read_structured_outputs(GenerateOptions *g, const JsonValue *v, Error *err)
{
    static const struct {
        const char *member, *as, *name;
    } rules[] = {{"json", "guided_json", "structured_outputs.json"},
                 {"regex", "guided_regex", "structured_outputs.regex"},
                 {"choice", "guided_choice", "structured_outputs.choice"},
                 {"json_object", "guided_json_object", "structured_outputs.json_object"}};
    // The others cannot change our texts: there is no other backend, and white space is fixed.
    static const char *const names[] = {
        "json", "regex", "choice", "json_object", "disable_fallback", "disable_any_whitespace",
        NULL};
    if (v->kind != JSON_OBJECT) {
        return field_unexpected(err, "structured_outputs", v, "an object");
    }
    bool ok = check_members(v, "structured_outputs", names, err);
    for (size_t i = 0; ok && i < sizeof rules / sizeof *rules; i++) {
        const JsonValue *member = json_member(v, rules[i].member);
        ok = says_nothing(member) || set_constraint(g, rules[i].as, rules[i].name, member, err);
    }
    return ok;
}
