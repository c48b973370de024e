// constraint_keywords.h - what the keywords of JSON Schema say of a value.
#ifndef CONSTRAINT_KEYWORDS_H
#define CONSTRAINT_KEYWORDS_H

#include "base/json.h"
#include "text/constraint_schema.h"

// The norm of a schema that is an object: that of all its keywords together. NULL: the schema has
// failed; an unknown keyword is noted, one that cannot be enforced refused.
Norm *keywords_norm(Schema *s, const JsonValue *schema);

// The norm of one value.
Norm *constant_norm(Schema *s, const JsonValue *v);

#endif
