// constraint_file.c - a constraint of the command line. See constraint_file.h.
#include "cli/constraint_file.h"

#include <string.h>

#include "base/files.h"

// The most bytes of a schema.
#define MAX_SCHEMA_BYTES ((size_t)16 << 20)

bool constraint_load(ConstraintSpec *spec, Buffer *file, Error *err)
{
    const char *text = spec->text;
    if (spec->kind != CONSTRAINT_SCHEMA || text[strspn(text, " \t\r\n")] == '{') {
        return true;
    }
    buffer_add_text(file, "");  // its data is not NULL, however little is read
    Error why = {0};
    if (!read_file(text, MAX_SCHEMA_BYTES, file, &why)) {
        return error_set(err, why.kind,
                         "--json-schema: %.800s (a value that begins with { is the schema itself)",
                         why.message);
    }
    spec->name = text;
    spec->text = file->data;
    return strlen(file->data) == file->size ||
           error_set(err, ERROR_INPUT, "%s: a NUL at byte %zu, expected JSON", text,
                     strlen(file->data));
}

bool constraint_refused(const ConstraintSpec *spec, const Buffer *file, const Error *why,
                        Error *err)
{
    const bool usage = spec->text != file->data && why->kind == ERROR_INPUT;
    return error_set(err, usage ? ERROR_USAGE : why->kind, "%s: %.500s", spec->name, why->message);
}

bool constraint_compiles(const ConstraintSpec *spec, const Buffer *file, Error *err)
{
    const ConstraintText text = {spec->text, strlen(spec->text)};
    Constraint *c;
    Error why = {0};
    const bool ok = spec->kind == CONSTRAINT_REGEX ? constraint_of_regex(&c, text, &why)
                                                   : constraint_of_schema(&c, text, &why);
    constraint_free(c);
    return ok || constraint_refused(spec, file, &why, err);
}
