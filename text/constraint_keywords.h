// constraint_keywords.h - what the keywords of JSON Schema say about a value.
#ifndef CONSTRAINT_KEYWORDS_H
#define CONSTRAINT_KEYWORDS_H

#include "base/json.h"
#include "text/constraint_schema.h"

// The norm of a schema that is an object: all its keywords together. NULL if the schema has failed.
// Unknown keywords are noted; those that cannot be enforced are refused.
Norm *keywords_norm(Schema *s, const JsonValue *schema);

// The norm of one value.
Norm *constant_norm(Schema *s, const JsonValue *v);

#endif
