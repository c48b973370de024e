// constraint_keywords.c - what the keywords of JSON Schema say. See constraint_keywords.h.
//
// A schema is the intersection of what its keywords say, so it is read keyword by keyword, each a
// row of the table below with the function that narrows the set. Subschemas of the same value ($ref,
// allOf, anyOf, not, ..) are read at once; those of the values inside it become expressions.
#include "text/constraint_keywords.h"

#include <string.h>

#include "text/constraint_chars.h"
#include "text/constraint_format.h"
#include "text/constraint_number.h"
#include "text/constraint_regex.h"
#include "text/constraint_shape.h"

// --------------------------------------------------------------------------------------------
// Keywords of scalars

// The whole number of a keyword; a very large one as REPEAT_FOREVER - 1.
static bool read_bound(Schema *s, const JsonValue *v, uint32_t *out)
{
    uint64_t n;
    if (!json_whole(v, &n)) {
        return schema_malformed(s, v, "a whole number");
    }
    *out = n < REPEAT_FOREVER ? (uint32_t)n : REPEAT_FOREVER - 1;
    return true;
}

// Narrows one part of a norm.
static void narrow_string(Schema *s, Norm *n, Term t)
{
    n->string = n->string == schema_basics(s)->text ? t : term_and2(schema_pool(s), n->string, t);
}

static void narrow_number(Schema *s, Norm *n, Term t)
{
    n->number = n->number == schema_basics(s)->number ? t : term_and2(schema_pool(s), n->number, t);
}

static Norm *apply_length(Schema *s, const JsonValue *schema, Norm *n)
{
    const JsonValue *min = json_member(schema, "minLength"),
                    *max = json_member(schema, "maxLength");
    uint32_t low = 0, high = REPEAT_FOREVER;
    if ((min && !read_bound(s, min, &low)) || (max && !read_bound(s, max, &high))) {
        return NULL;
    }
    narrow_string(s, n,
                  low > high ? TERM_NONE
                             : term_repeat(schema_pool(s), schema_basics(s)->character, low, high));
    return n;
}

// A regular expression of a schema, which may match anywhere in a text.
static bool read_pattern(Schema *s, const JsonValue *at, const char *text, size_t size, Term *out)
{
    const RegexOptions options = {REGEX_ECMA, SPELL_JSON, .whole = false};
    Error err = {0};
    if (regex_compile(schema_pool(s), &options, text, size, out, &err)) {
        return true;
    }
    return schema_fail(s, at, err.kind, "%s", err.message);
}

static Norm *apply_pattern(Schema *s, const JsonValue *schema, Norm *n)
{
    const JsonValue *v = json_member(schema, "pattern");
    Term t;
    if (v->kind != JSON_STRING) {
        return schema_malformed(s, v, "a string") ? n : NULL;
    }
    if (!read_pattern(s, v, v->text, v->size, &t)) {
        return NULL;
    }
    narrow_string(s, n, t);
    return n;
}

static Norm *apply_format(Schema *s, const JsonValue *schema, Norm *n)
{
    const JsonValue *v = json_member(schema, "format");
    if (v->kind != JSON_STRING) {
        return n;
    }
    Term t;
    Error err = {0};
    switch (format_term(schema_pool(s), v->text, v->size, &t, &err)) {
    case FORMAT_ENFORCED:
        narrow_string(s, n, t);
        break;
    case FORMAT_REFUSED:
        return schema_refuse(s, v, "this format");
    default:
        schema_note(s, v->text, v->size);
    }
    return n;
}

static bool read_decimal(Schema *s, const JsonValue *v, Decimal *d)
{
    if (v->kind != JSON_NUMBER) {
        return schema_malformed(s, v, "a number");
    }
    return decimal_read(d, v->text, v->size) || schema_refuse(s, v, "a number of this size");
}

// Lower and upper bounds, both of them, as draft 4 and later drafts write them.
static Norm *apply_bounds(Schema *s, const JsonValue *schema, Norm *n)
{
    static const char *const names[2][2] = {{"minimum", "exclusiveMinimum"},
                                            {"maximum", "exclusiveMaximum"}};
    for (size_t k = 0; k < 2; k++) {
        const JsonValue *bound = json_member(schema, names[k][0]);
        const JsonValue *strict = json_member(schema, names[k][1]);
        Term (*make)(TermPool *, const Decimal *, bool) = k ? number_at_most : number_at_least;
        Decimal d;
        if (bound) {
            if (!read_decimal(s, bound, &d)) {
                return NULL;
            }
            narrow_number(s, n, make(schema_pool(s), &d, strict && strict->kind == JSON_TRUE));
        }
        if (strict && strict->kind != JSON_TRUE && strict->kind != JSON_FALSE) {
            if (!read_decimal(s, strict, &d)) {
                return NULL;
            }
            narrow_number(s, n, make(schema_pool(s), &d, true));
        }
    }
    return n;
}

static Norm *apply_multiple(Schema *s, const JsonValue *schema, Norm *n)
{
    const JsonValue *v = json_member(schema, "multipleOf");
    Decimal d;
    if (!read_decimal(s, v, &d)) {
        return NULL;
    }
    const Term t = number_multiple(schema_pool(s), &d);
    if (t == TERM_NONE) {
        return schema_refuse(s, v,
                             "a multipleOf of zero, or of more than 10000 units of its last digit");
    }
    narrow_number(s, n, t);
    return n;
}

// --------------------------------------------------------------------------------------------
// Types and constants

// Adds a type to those that `allowed` has.
static bool allow_type(Schema *s, const JsonValue *v, const Norm *from, Norm *allowed)
{
    const char *type = v->kind == JSON_STRING ? v->text : "";
    if (strcmp(type, "null") == 0) {
        allowed->null = from->null;
    } else if (strcmp(type, "boolean") == 0) {
        allowed->bools = from->bools;
    } else if (strcmp(type, "number") == 0) {
        allowed->number = from->number;
    } else if (strcmp(type, "integer") == 0) {
        if (allowed->number == TERM_NONE) {
            allowed->number = from->number == schema_basics(s)->number
                                  ? schema_basics(s)->integer
                                  : term_and2(schema_pool(s), from->number,
                                              schema_basics(s)->integer);
        }
    } else if (strcmp(type, "string") == 0) {
        allowed->string = from->string;
    } else if (strcmp(type, "object") == 0) {
        allowed->objects = from->objects;
        allowed->n_objects = from->n_objects;
    } else if (strcmp(type, "array") == 0) {
        allowed->arrays = from->arrays;
        allowed->n_arrays = from->n_arrays;
    } else if (strcmp(type, "any") == 0) {
        *allowed = *from;
    } else {
        return schema_malformed(s, v, "null, boolean, number, integer, string, object or array");
    }
    return true;
}

static Norm *apply_type(Schema *s, const JsonValue *schema, Norm *n)
{
    const JsonValue *v = json_member(schema, "type");
    Norm *allowed = norm_nothing(s);
    const bool list = v->kind == JSON_ARRAY;
    const JsonValue *type = list ? json_first(v) : v;
    for (size_t i = 0; allowed && i < (list ? v->count : 1); i++, type = json_next(type)) {
        if (!allow_type(s, type, n, allowed)) {
            return NULL;
        }
    }
    return allowed;
}

// The properties of a constant have no order.
static Norm *constant_object(Schema *s, const JsonValue *v)
{
    ObjectShape *shape = schema_alloc(s, 1, sizeof *shape);
    Property *properties = schema_alloc(s, v->count + (size_t)1, sizeof *properties);
    NameClass *rest = schema_alloc(s, 1, sizeof *rest);
    if (!shape || !properties || !rest) {
        return NULL;
    }
    const JsonValue *member = json_first(v);
    for (size_t i = 0; i < v->count; i++, member = json_next(member)) {
        const Expression value = schema_constant(s, member);
        properties[i] = (Property){member->name, member->name_size, value, true, false};
    }
    *rest = (NameClass){schema_basics(s)->text, NOTHING};
    *shape = (ObjectShape){properties, v->count, rest, 1, 0, REPEAT_FOREVER};
    return norm_of_object(s, shape);
}

static Norm *constant_array(Schema *s, const JsonValue *v)
{
    ArrayShape *shape = schema_alloc(s, 1, sizeof *shape);
    Expression *prefix = schema_alloc(s, v->count + (size_t)1, sizeof *prefix);
    if (!shape || !prefix) {
        return NULL;
    }
    const JsonValue *item = json_first(v);
    for (size_t i = 0; i < v->count; i++, item = json_next(item)) {
        prefix[i] = schema_constant(s, item);
    }
    *shape = (ArrayShape){.prefix = prefix,
                          .n_prefix = v->count,
                          .items = NOTHING,
                          .min = v->count,
                          .max = v->count,
                          .max_contains = REPEAT_FOREVER};
    return norm_of_array(s, shape);
}

Norm *constant_norm(Schema *s, const JsonValue *v)
{
    if (v->kind == JSON_OBJECT || v->kind == JSON_ARRAY) {
        return v->kind == JSON_OBJECT ? constant_object(s, v) : constant_array(s, v);
    }
    Norm *n = norm_nothing(s);
    Decimal d;
    if (!n) {
        return NULL;
    }
    switch (v->kind) {
    case JSON_NULL:
        n->null = true;
        break;
    case JSON_TRUE:
    case JSON_FALSE:
        n->bools = v->kind == JSON_TRUE ? BOOL_TRUE : BOOL_FALSE;
        break;
    case JSON_NUMBER:
        if (!read_decimal(s, v, &d)) {
            return NULL;
        }
        n->number = number_equal(schema_pool(s), &d);
        break;
    default:
        n->string = spelled_text(schema_pool(s), v->text, v->size, SPELL_JSON);
    }
    return n;
}

static Norm *apply_const(Schema *s, const JsonValue *schema, Norm *n)
{
    return norm_and(s, n, constant_norm(s, json_member(schema, "const")));
}

// The strings and numbers of an enum are joined at once: there may be thousands.
static Norm *apply_enum(Schema *s, const JsonValue *schema, Norm *n)
{
    const JsonValue *v = json_member(schema, "enum");
    if (v->kind != JSON_ARRAY) {
        return schema_malformed(s, v, "an array") ? n : NULL;
    }
    if (v->count > TERM_MAX_WIDTH) {
        return schema_refuse(s, v, "an enum of more than 65536 values");
    }
    Term *strings = schema_alloc(s, v->count + (size_t)1, sizeof *strings);
    Term *numbers = schema_alloc(s, v->count + (size_t)1, sizeof *numbers);
    Norm *all = norm_nothing(s);
    const JsonValue *item = json_first(v);
    for (size_t i = 0; strings && numbers && all && i < v->count; i++, item = json_next(item)) {
        Norm *one = constant_norm(s, item);
        if (!one) {
            return NULL;
        }
        strings[i] = one->string;
        numbers[i] = one->number;
        one->string = one->number = TERM_NONE;
        all = item->kind == JSON_STRING || item->kind == JSON_NUMBER ? all : norm_or(s, all, one);
    }
    if (!strings || !numbers || !all) {
        return NULL;
    }
    all->string = term_or(schema_pool(s), strings, v->count);
    all->number = term_or(schema_pool(s), numbers, v->count);
    return norm_and(s, n, all);
}

// --------------------------------------------------------------------------------------------
// Objects

// The value of a class of names that no pattern has matched yet.
#define UNMATCHED UINT32_MAX

// Refines the classes of names by a pattern: names that match it have its value too.
static bool add_pattern(Schema *s, ObjectShape *shape, const NameClass *pattern)
{
    NameClass *classes = schema_alloc(s, 2 * shape->n_classes + 1, sizeof *classes);
    if (!classes) {
        return false;
    }
    size_t n = 0;
    const Term others = term_not(schema_pool(s), pattern->names);
    for (size_t i = 0; i < shape->n_classes; i++) {
        const NameClass c = shape->classes[i];
        const bool all = c.names == schema_basics(s)->text;
        const Term in = all ? pattern->names : term_and2(schema_pool(s), c.names, pattern->names);
        const Term out = term_and2(schema_pool(s), c.names, others);
        if (term_shortest(schema_pool(s), in) != NEVER) {
            const Expression old = c.value == UNMATCHED ? ANYTHING : c.value;
            classes[n++] = (NameClass){in, expression_and(s, old, pattern->value)};
        }
        if (term_shortest(schema_pool(s), out) != NEVER) {
            classes[n++] = (NameClass){out, c.value};
        }
    }
    shape->classes = classes;
    shape->n_classes = n;
    return n <= 64 || schema_refuse(s, NULL, "patternProperties with more than 64 overlaps");
}

// patternProperties, each with its language: *patterns (n).
static bool read_patterns(Schema *s, const JsonValue *schema, NameClass **patterns, size_t *n)
{
    const JsonValue *all = json_member(schema, "patternProperties");
    *patterns = NULL;
    *n = 0;
    if (all && all->kind != JSON_OBJECT) {
        return schema_malformed(s, all, "an object");
    }
    *n = all ? all->count : 0;
    *patterns = schema_alloc(s, *n + 1, sizeof **patterns);
    const JsonValue *v = all ? json_first(all) : NULL;
    for (size_t i = 0; *patterns && i < *n; i++, v = json_next(v)) {
        NameClass *p = &(*patterns)[i];
        p->value = schema_expression(s, v);
        if (!read_pattern(s, v, v->name, v->name_size, &p->names)) {
            return false;
        }
    }
    return *patterns && !schema_failed(s);
}

// patternProperties and additionalProperties: the classes of names.
static bool read_classes(Schema *s, const JsonValue *schema, ObjectShape *shape)
{
    const JsonValue *additional = json_member(schema, "additionalProperties");
    NameClass *patterns;
    size_t n;
    shape->classes = schema_alloc(s, 1, sizeof *shape->classes);
    if (!shape->classes || !read_patterns(s, schema, &patterns, &n)) {
        return false;
    }
    shape->classes[0] = (NameClass){schema_basics(s)->text, UNMATCHED};
    shape->n_classes = 1;
    for (size_t i = 0; i < n; i++) {
        if (!add_pattern(s, shape, &patterns[i])) {
            return false;
        }
    }
    const Expression rest = additional ? schema_expression(s, additional) : ANYTHING;
    for (size_t i = 0; i < shape->n_classes; i++) {
        NameClass *c = &shape->classes[i];
        c->value = c->value == UNMATCHED ? rest : c->value;
    }
    return !schema_failed(s);
}

// What patterns say of the value of a declared property; additional properties say nothing of it.
static Expression pattern_value(Schema *s, const NameClass *patterns, size_t n,
                                const JsonValue *property)
{
    if (!n) {
        return ANYTHING;
    }
    const Term name = spelled_text(schema_pool(s), property->name, property->name_size, SPELL_JSON);
    Expression value = ANYTHING;
    for (size_t i = 0; i < n; i++) {
        if (term_shortest(schema_pool(s), term_and2(schema_pool(s), name, patterns[i].names)) !=
            NEVER) {
            value = expression_and(s, value, patterns[i].value);
        }
    }
    return value;
}

// Adds the names of `required` that are not declared, and marks those that are.
static bool read_required(Schema *s, const JsonValue *required, ObjectShape *shape)
{
    if (required->kind == JSON_TRUE || required->kind == JSON_FALSE) {
        return true;  // of draft 3, on the property itself: says nothing here
    }
    if (required->kind != JSON_ARRAY) {
        return schema_malformed(s, required, "an array");
    }
    const size_t n_declared = shape->n_properties;
    const JsonValue *v = json_first(required);
    for (size_t i = 0; i < required->count; i++, v = json_next(v)) {
        if (v->kind != JSON_STRING) {
            return schema_malformed(s, v, "a string");
        }
        Property *p = NULL;
        for (size_t k = 0; k < shape->n_properties && !p; k++) {
            Property *q = &shape->properties[k];
            p = q->size == v->size && !memcmp(q->name, v->text, v->size) ? q : NULL;
        }
        if (p) {
            p->required = true;
            continue;
        }
        ObjectShape without = *shape;
        without.n_properties = n_declared;
        const Expression value = shape_value(s, &without, v->text, v->size);
        shape->properties[shape->n_properties++] = (Property){v->text, v->size, value, true, false};
    }
    return !schema_failed(s);
}

static bool read_properties(Schema *s, const JsonValue *schema, ObjectShape *shape)
{
    const JsonValue *properties = json_member(schema, "properties");
    const JsonValue *required = json_member(schema, "required");
    if (properties && properties->kind != JSON_OBJECT) {
        return schema_malformed(s, properties, "an object");
    }
    const size_t n = (properties ? properties->count : 0) +
                     (required && required->kind == JSON_ARRAY ? required->count : 0);
    if (n > SCHEMA_MAX_PROPERTIES) {
        return schema_refuse(s, properties ? properties : required,
                             "an object with more than 8192 properties and required names");
    }
    NameClass *patterns;
    size_t n_patterns;
    shape->properties = schema_alloc(s, n + 1, sizeof *shape->properties);
    if (!shape->properties || !read_patterns(s, schema, &patterns, &n_patterns)) {
        return false;
    }
    const JsonValue *p = properties ? json_first(properties) : NULL;
    for (size_t i = 0; properties && i < properties->count; i++, p = json_next(p)) {
        const Expression value = expression_and(s, schema_expression(s, p),
                                                pattern_value(s, patterns, n_patterns, p));
        shape->properties[shape->n_properties++] = (Property){p->name, p->name_size, value, false,
                                                              true};
    }
    return !schema_failed(s) && (!required || read_required(s, required, shape));
}

// propertyNames: names outside its strings have no value.
static bool read_names(Schema *s, const JsonValue *v, ObjectShape *shape)
{
    const Norm *n = v->kind == JSON_TRUE ? NULL : schema_norm(s, schema_expression(s, v));
    if (!n || n->string == schema_basics(s)->text) {
        return v->kind == JSON_TRUE || n;
    }
    NameClass *classes = schema_alloc(s, shape->n_classes + 1, sizeof *classes);
    size_t count = 0;
    for (size_t i = 0; classes && i < shape->n_classes; i++) {
        const Term names = term_and2(schema_pool(s), shape->classes[i].names, n->string);
        if (term_shortest(schema_pool(s), names) != NEVER) {
            classes[count++] = (NameClass){names, shape->classes[i].value};
        }
    }
    if (!classes) {
        return false;
    }
    classes[count++] = (NameClass){
        term_and2(schema_pool(s), schema_basics(s)->text, term_not(schema_pool(s), n->string)),
        NOTHING};
    shape->classes = classes;
    shape->n_classes = count;
    for (size_t i = 0; i < shape->n_properties; i++) {
        Property *p = &shape->properties[i];
        const Term name = spelled_text(schema_pool(s), p->name, p->size, SPELL_JSON);
        if (term_shortest(schema_pool(s), term_and2(schema_pool(s), name, n->string)) == NEVER) {
            p->value = NOTHING;
        }
    }
    return !schema_failed(s);
}

// Names that are not in the schema may occur twice in a text, so they cannot be counted.
static bool can_count(Schema *s, const JsonValue *min, const ObjectShape *shape)
{
    for (size_t i = 0; shape->min > 1 && i < shape->n_classes; i++) {
        if (shape->classes[i].value != NOTHING) {
            return schema_refuse(s, min, "minProperties above 1 where other names are allowed");
        }
    }
    return true;
}

static Norm *apply_object(Schema *s, const JsonValue *schema, Norm *n)
{
    ObjectShape *shape = schema_alloc(s, 1, sizeof *shape);
    const JsonValue *names = json_member(schema, "propertyNames");
    const JsonValue *min = json_member(schema, "minProperties");
    const JsonValue *max = json_member(schema, "maxProperties");
    if (!shape) {
        return NULL;
    }
    shape->max = REPEAT_FOREVER;
    if (!read_classes(s, schema, shape) || !read_properties(s, schema, shape) ||
        (names && !read_names(s, names, shape)) || (min && !read_bound(s, min, &shape->min)) ||
        (max && !read_bound(s, max, &shape->max)) || !can_count(s, min, shape)) {
        return NULL;
    }
    const Norm *one = norm_of_object(s, shape);
    Norm *all = one ? norm_universe(s) : NULL;
    if (all) {
        all->objects = one->objects;
        all->n_objects = one->n_objects;
    }
    return norm_and(s, n, all);
}

// The values that are no objects, or objects in which a property is absent or forbidden.
static Norm *without_property(Schema *s, const JsonValue *name)
{
    Norm *n = norm_universe(s);
    const Property absent = {name->name, name->name_size, NOTHING, false, false};
    const ObjectShape *shape = n ? shape_with(s, n->objects[0], absent) : NULL;
    if (!shape) {
        return NULL;
    }
    n->objects[0] = shape;
    return n;
}

// One dependency: without the property, or with it and what it asks for.
static Norm *dependency(Schema *s, const JsonValue *v)
{
    Norm *with = NULL;
    if (v->kind != JSON_ARRAY) {
        const Expression e = schema_expression(s, v);
        const Norm *n = schema_failed(s) ? NULL : schema_norm(s, e);
        with = n ? schema_alloc(s, 1, sizeof *with) : NULL;
        if (with) {
            *with = *n;
        }
    } else {
        with = norm_universe(s);
        const JsonValue *name = json_first(v);
        for (size_t i = 0; with && i < v->count; i++, name = json_next(name)) {
            const Property p = {name->text, name->size, ANYTHING, true, false};
            if (name->kind != JSON_STRING) {
                return schema_malformed(s, name, "a string") ? with : NULL;
            }
            with->objects[0] = shape_with(s, with->objects[0], p);
            with = with->objects[0] ? with : NULL;
        }
    }
    Norm *present = norm_universe(s);
    const Property p = {v->name, v->name_size, ANYTHING, true, false};
    if (!with || !present || !(present->objects[0] = shape_with(s, present->objects[0], p))) {
        return NULL;
    }
    return norm_or(s, without_property(s, v), norm_and(s, with, present));
}

static Norm *apply_dependencies(Schema *s, const JsonValue *schema, Norm *n)
{
    static const char *const names[] = {"dependencies", "dependentRequired", "dependentSchemas"};
    for (size_t k = 0; k < 3; k++) {
        const JsonValue *all = json_member(schema, names[k]);
        if (all && all->kind != JSON_OBJECT) {
            return schema_malformed(s, all, "an object") ? n : NULL;
        }
        const JsonValue *v = all ? json_first(all) : NULL;
        for (size_t i = 0; all && n && i < all->count; i++, v = json_next(v)) {
            n = norm_and(s, n, dependency(s, v));
        }
    }
    return n;
}

// --------------------------------------------------------------------------------------------
// Arrays

static bool read_contains(Schema *s, const JsonValue *schema, ArrayShape *shape)
{
    const JsonValue *contains = json_member(schema, "contains");
    const JsonValue *min = json_member(schema, "minContains");
    const JsonValue *max = json_member(schema, "maxContains");
    if (!contains) {
        return true;
    }
    shape->contains = schema_expression(s, contains);
    shape->min_contains = 1;
    if ((min && !read_bound(s, min, &shape->min_contains)) ||
        (max && !read_bound(s, max, &shape->max_contains))) {
        return false;
    }
    if (shape->min > 1000 || shape->min_contains > 1000) {
        return schema_refuse(s, contains, "contains with more than 1000 items");
    }
    if (shape->contains == ANYTHING) {  // then every item counts
        shape->min = shape->min > shape->min_contains ? shape->min : shape->min_contains;
        shape->max = shape->max < shape->max_contains ? shape->max : shape->max_contains;
        shape->min_contains = 0;
        shape->max_contains = REPEAT_FOREVER;
    }
    if (shape->contains == NOTHING) {
        shape->contains = ANYTHING;
        shape->max = shape->min_contains ? 0 : shape->max;
        shape->min = shape->min_contains ? 1 : shape->min;  // min > max: no array
    } else if (shape->min_contains == 0 && shape->max_contains == REPEAT_FOREVER) {
        shape->contains = ANYTHING;
    }
    return true;
}

static bool read_items(Schema *s, const JsonValue *schema, ArrayShape *shape)
{
    const JsonValue *items = json_member(schema, "items");
    const JsonValue *prefix = json_member(schema, "prefixItems");
    const JsonValue *rest = items;
    if (items && items->kind == JSON_ARRAY) {  // up to 2019-09
        prefix = items;
        rest = json_member(schema, "additionalItems");
    }
    if (prefix && prefix->kind != JSON_ARRAY) {
        return schema_malformed(s, prefix, "an array");
    }
    shape->items = rest ? schema_expression(s, rest) : ANYTHING;
    shape->n_prefix = prefix ? prefix->count : 0;
    shape->prefix = schema_alloc(s, shape->n_prefix + 1, sizeof *shape->prefix);
    const JsonValue *v = prefix ? json_first(prefix) : NULL;
    for (size_t i = 0; shape->prefix && i < shape->n_prefix; i++, v = json_next(v)) {
        shape->prefix[i] = schema_expression(s, v);
    }
    return shape->prefix && !schema_failed(s);
}

static Norm *apply_array(Schema *s, const JsonValue *schema, Norm *n)
{
    ArrayShape *shape = schema_alloc(s, 1, sizeof *shape);
    const JsonValue *min = json_member(schema, "minItems"), *max = json_member(schema, "maxItems");
    const JsonValue *unique = json_member(schema, "uniqueItems");
    if (!shape) {
        return NULL;
    }
    shape->max = shape->max_contains = REPEAT_FOREVER;
    if ((min && !read_bound(s, min, &shape->min)) || (max && !read_bound(s, max, &shape->max)) ||
        !read_items(s, schema, shape) || !read_contains(s, schema, shape)) {
        return NULL;
    }
    const uint32_t most = shape->items == NOTHING && shape->n_prefix < shape->max
                              ? (uint32_t)shape->n_prefix
                              : shape->max;
    if (unique && unique->kind == JSON_TRUE && most > 1) {
        return schema_refuse(s, unique, "uniqueItems");
    }
    const Norm *one = norm_of_array(s, shape);
    Norm *all = one ? norm_universe(s) : NULL;
    if (all) {
        all->arrays = one->arrays;
        all->n_arrays = one->n_arrays;
    }
    return norm_and(s, n, all);
}

// --------------------------------------------------------------------------------------------
// Subschemas of the same value

// The norm of a subschema.
static const Norm *norm_at(Schema *s, const JsonValue *v)
{
    const Expression e = schema_expression(s, v);
    return schema_failed(s) ? NULL : schema_norm(s, e);
}

static bool is_list(Schema *s, const JsonValue *v)
{
    return (v->kind == JSON_ARRAY && v->count) || schema_malformed(s, v, "an array of schemas");
}

static Norm *apply_all_of(Schema *s, const JsonValue *schema, Norm *n)
{
    const JsonValue *all = json_member(schema, "allOf");
    const JsonValue *v = json_first(all);
    n = is_list(s, all) ? n : NULL;
    for (size_t i = 0; n && i < all->count; i++, v = json_next(v)) {
        n = norm_and(s, n, norm_at(s, v));
    }
    return n;
}

static Norm *apply_any_of(Schema *s, const JsonValue *schema, Norm *n)
{
    const JsonValue *all = json_member(schema, "anyOf");
    const JsonValue *v = json_first(all);
    Norm *any = is_list(s, all) ? norm_nothing(s) : NULL;
    for (size_t i = 0; any && i < all->count; i++, v = json_next(v)) {
        any = norm_or(s, any, norm_and(s, n, norm_at(s, v)));
    }
    return any;
}

// Exactly one: each minus the others that have a value in common with it.
static Norm *apply_one_of(Schema *s, const JsonValue *schema, Norm *n)
{
    const JsonValue *all = json_member(schema, "oneOf");
    if (!is_list(s, all)) {
        return NULL;
    }
    const Norm **parts = schema_alloc(s, all->count, sizeof *parts);
    const JsonValue *v = json_first(all);
    for (size_t i = 0; parts && i < all->count; i++, v = json_next(v)) {
        parts[i] = norm_and(s, n, norm_at(s, v));
        parts = parts[i] ? parts : NULL;
    }
    Norm *any = parts ? norm_nothing(s) : NULL;
    for (size_t i = 0; any && i < all->count; i++) {
        const Norm *only = parts[i];
        for (size_t k = 0; only && k < all->count; k++) {
            const Norm *both = k == i ? NULL : norm_and(s, parts[i], parts[k]);
            if (k != i && (!both || !norm_is_empty(s, both))) {
                only = both ? norm_and(s, only, norm_not(s, parts[k], all)) : NULL;
            }
        }
        any = only && !schema_failed(s) ? norm_or(s, any, only) : NULL;
    }
    return any;
}

static Norm *apply_not(Schema *s, const JsonValue *schema, Norm *n)
{
    const JsonValue *v = json_member(schema, "not");
    const Norm *inner = norm_at(s, v);
    return inner ? norm_and(s, n, norm_not(s, inner, v)) : NULL;
}

static Norm *apply_if(Schema *s, const JsonValue *schema, Norm *n)
{
    const JsonValue *condition = json_member(schema, "if");
    const JsonValue *then = json_member(schema, "then"), *other = json_member(schema, "else");
    if (!then && !other) {
        return n;
    }
    const Norm *inner = norm_at(s, condition);
    Norm *yes = inner ? norm_and(s, n, inner) : NULL;
    Norm *no = inner ? norm_and(s, n, norm_not(s, inner, condition)) : NULL;
    yes = then && yes ? norm_and(s, yes, norm_at(s, then)) : yes;
    no = other && no ? norm_and(s, no, norm_at(s, other)) : no;
    return norm_or(s, yes, no);
}

static Norm *apply_ref(Schema *s, const JsonValue *schema, Norm *n)
{
    const JsonValue *v = json_member(schema, "$ref");
    if (v->kind != JSON_STRING) {
        return schema_malformed(s, v, "a string") ? n : NULL;
    }
    const JsonValue *target = schema_target(s, v);
    if (!target) {
        schema_fail(s, v, ERROR_INPUT, "refers to \"%.80s\", expected a subschema in this text",
                    v->text);
        return NULL;
    }
    const Norm *there = norm_at(s, target);
    return there ? norm_and(s, n, there) : NULL;
}

// --------------------------------------------------------------------------------------------
// The table of keywords

typedef Norm *Apply(Schema *s, const JsonValue *schema, Norm *n);

// Several keywords that are read together have the same function, and are together here.
typedef struct {
    const char *name;
    Apply *apply;  // NULL: an annotation, or read with another keyword
    bool refused;
} Keyword;

static const Keyword keywords[] = {
    {"type", apply_type, false},
    {"enum", apply_enum, false},
    {"const", apply_const, false},
    {"minLength", apply_length, false},
    {"maxLength", apply_length, false},
    {"pattern", apply_pattern, false},
    {"format", apply_format, false},
    {"minimum", apply_bounds, false},
    {"maximum", apply_bounds, false},
    {"exclusiveMinimum", apply_bounds, false},
    {"exclusiveMaximum", apply_bounds, false},
    {"multipleOf", apply_multiple, false},
    {"properties", apply_object, false},
    {"required", apply_object, false},
    {"patternProperties", apply_object, false},
    {"additionalProperties", apply_object, false},
    {"propertyNames", apply_object, false},
    {"minProperties", apply_object, false},
    {"maxProperties", apply_object, false},
    {"items", apply_array, false},
    {"prefixItems", apply_array, false},
    {"minItems", apply_array, false},
    {"maxItems", apply_array, false},
    {"contains", apply_array, false},
    {"uniqueItems", apply_array, false},
    {"$ref", apply_ref, false},
    {"allOf", apply_all_of, false},
    {"not", apply_not, false},
    {"if", apply_if, false},
    {"dependencies", apply_dependencies, false},
    {"dependentRequired", apply_dependencies, false},
    {"dependentSchemas", apply_dependencies, false},
    {"oneOf", apply_one_of, false},
    {"anyOf", apply_any_of, false},
    {"unevaluatedProperties", NULL, true},
    {"unevaluatedItems", NULL, true},
    {"$dynamicRef", NULL, true},
    {"$recursiveRef", NULL, true},
};

// Keywords that do not constrain the value, or that the functions above read.
static const char *const silent[] = {
    "$schema",
    "$id",
    "id",
    "$anchor",
    "$dynamicAnchor",
    "$recursiveAnchor",
    "$comment",
    "$defs",
    "$vocabulary",
    "definitions",
    "title",
    "description",
    "default",
    "examples",
    "example",
    "readOnly",
    "writeOnly",
    "deprecated",
    "contentEncoding",
    "contentMediaType",
    "contentSchema",
    "then",
    "else",
    "additionalItems",
    "minContains",
    "maxContains",
};

static bool is_silent(const char *name)
{
    for (size_t i = 0; i < sizeof silent / sizeof *silent; i++) {
        if (strcmp(silent[i], name) == 0) {
            return true;
        }
    }
    return false;
}

static const Keyword *find_keyword(const char *name)
{
    for (size_t i = 0; i < sizeof keywords / sizeof *keywords; i++) {
        if (strcmp(keywords[i].name, name) == 0) {
            return &keywords[i];
        }
    }
    return NULL;
}

// Refuses what cannot be enforced, and notes what is unknown.
static bool check_keywords(Schema *s, const JsonValue *schema)
{
    const JsonValue *v = json_first(schema);
    for (size_t i = 0; i < schema->count; i++, v = json_next(v)) {
        const Keyword *k = find_keyword(v->name);
        if (k && k->refused && v->kind != JSON_TRUE) {
            return schema_refuse(s, v, k->name);
        }
        if (!k && !is_silent(v->name)) {
            schema_note(s, v->name, v->name_size);
        }
    }
    return true;
}

// Keywords are read in the table's order, so that what multiplies alternatives comes last.
Norm *keywords_norm(Schema *s, const JsonValue *schema)
{
    Norm *n = norm_universe(s);
    const JsonValue *ref = json_member(schema, "$ref");
    if (n && schema_ref_is_alone(s) && ref && ref->kind == JSON_STRING) {
        return apply_ref(s, schema, n);
    }
    if (!n || !check_keywords(s, schema)) {
        return NULL;
    }
    for (size_t i = 0; n && i < sizeof keywords / sizeof *keywords; i++) {
        const Keyword *k = &keywords[i];
        bool due = k->apply && json_member(schema, k->name);
        // Keywords that are read together have one function, which the first of them has called.
        for (size_t d = 0; due && d < i; d++) {
            due = keywords[d].apply != k->apply || !json_member(schema, keywords[d].name);
        }
        if (due) {
            n = k->apply(s, schema, n);
        }
    }
    return schema_failed(s) ? NULL : n;
}
