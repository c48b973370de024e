// constraint_shape.h - sets of JSON values, and what union, intersection and complement make of them.
//
// A Norm has one part for each type of JSON. Of null, booleans, numbers and strings it is a language
// of spellings, so every operation on them is exact. Objects and arrays are a union of shapes, each
// a list of conditions that all hold. What a shape says of the values inside it are expressions over
// schemas (constraint_schema.h), which become norms only when they are needed: so schemas may be
// recursive.
#ifndef CONSTRAINT_SHAPE_H
#define CONSTRAINT_SHAPE_H

#include "base/json.h"
#include "text/constraint_schema.h"
#include "text/constraint_term.h"

typedef struct {
    const char *name;  // (size) bytes, decoded; in the schema's memory
    size_t size;
    Expression value;
    bool required;
    bool declared;  // by `properties`; the others are only required, and follow those
} Property;

// The names of a language, other than those of the properties, and what their values are.
typedef struct {
    Term names;  // as they are spelled between quotes
    Expression value;
} NameClass;

typedef struct {
    Property *properties;  // (n_properties), in the order of the text, declared ones first
    size_t n_properties;
    NameClass *classes;  // (n_classes): disjoint; together all names
    size_t n_classes;
    uint32_t min, max;  // properties; REPEAT_FOREVER: no maximum
} ObjectShape;

typedef struct {
    Expression *prefix;  // (n_prefix): the first items
    size_t n_prefix;
    Expression items;   // the others
    uint32_t min, max;  // items
    Expression
        contains;  // min_contains to max_contains items are this; ANYTHING: no such condition
    uint32_t min_contains, max_contains;
} ArrayShape;

enum { BOOL_FALSE = 1, BOOL_TRUE = 2 };

struct Norm {
    bool null;
    unsigned bools;               // BOOL_FALSE | BOOL_TRUE
    Term number;                  // as spelled
    Term string;                  // as spelled between quotes
    const ObjectShape **objects;  // (n_objects)
    size_t n_objects;
    const ArrayShape **arrays;  // (n_arrays)
    size_t n_arrays;
};

// All of these return NULL when the schema has failed (schema_failed).
Norm *norm_universe(Schema *s);
Norm *norm_nothing(Schema *s);
Norm *norm_and(Schema *s, const Norm *a, const Norm *b);
Norm *norm_or(Schema *s, const Norm *a, const Norm *b);

// Fails, naming the keyword `at`, if the complement is not a union of shapes.
Norm *norm_not(Schema *s, const Norm *n, const JsonValue *at);

bool norm_is_empty(Schema *s, const Norm *n);

Norm *norm_of_object(Schema *s, const ObjectShape *shape);  // only these objects
Norm *norm_of_array(Schema *s, const ArrayShape *shape);

// The shape with a name as a property, whose value is also `value`.
const ObjectShape *shape_with(Schema *s, const ObjectShape *shape, Property property);

// What a shape says of the value of a name, given as it is spelled.
Expression shape_value(Schema *s, const ObjectShape *shape, const char *name, size_t size);

// Does a shape have no conditions?
bool object_is_free(const ObjectShape *shape);
bool array_is_free(const ArrayShape *shape);

#endif
