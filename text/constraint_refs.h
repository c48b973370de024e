// constraint_refs.h - where the references of a JSON schema lead.
#ifndef CONSTRAINT_REFS_H
#define CONSTRAINT_REFS_H

#include "base/json.h"

// A subschema with an identifier of its own ($id), and all inside it that has none.
typedef struct {
    size_t first, end;  // its values: json->values[first .. end)
    char *uri;          // resolved, without a fragment; owned
} Resource;

typedef struct {
    Resource *resources;  // (n), in the order of the text; the first is the whole schema; owned
    size_t n, capacity;
} References;

// Finds the resources of a schema. `keyword`: "$id", or "id" in draft 4; with `ref_alone` it says
// nothing beside a $ref (up to draft 7). False: out of memory.
bool references_read(References *r, const Json *json, const char *keyword, bool ref_alone);
void references_free(References *r);

// What a reference, a string of the schema, leads to; NULL if it is not in this text.
const JsonValue *reference_find(const References *r, const Json *json, const JsonValue *ref);

// Appends the JSON pointer of a value, "/properties/a/items".
void reference_path(const Json *json, const JsonValue *v, Buffer *out);

#endif
