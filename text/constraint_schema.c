// constraint_schema.c - JSON Schema read into sets of values. See constraint_schema.h.
//
// A schema is the intersection of what its keywords say, so it is read keyword by keyword, each a
// row of a table with the function that narrows the set. Subschemas of the same value ($ref, allOf,
// anyOf, not, ..) are read at once; those of the values inside it become expressions, which are read
// when something asks for their norm. schema_read asks for all that can be reached, so that what
// cannot be enforced is refused before anything is generated.
#include "text/constraint_schema.h"

#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/checksum.h"
#include "base/memory.h"
#include "text/constraint_chars.h"
#include "text/constraint_format.h"
#include "text/constraint_number.h"
#include "text/constraint_refs.h"
#include "text/constraint_regex.h"
#include "text/constraint_shape.h"

typedef enum { EXPR_ANYTHING, EXPR_NOTHING, EXPR_SCHEMA, EXPR_CONST, EXPR_AND, EXPR_NOT } ExprKind;

typedef struct {
    ExprKind kind;
    uint32_t a, b;  // SCHEMA, CONST: index of a JSON value; AND: a < b; NOT: a
    const Norm *norm;
    bool reading;  // its norm is being made
} Expr;

// Memory that is freed all at once.
typedef struct SchemaBlock {
    struct SchemaBlock *next;
    size_t used;
    char data[1 << 14];
} SchemaBlock;

struct Schema {
    TermPool *pool;
    Json json;
    References references;
    bool ref_alone;       // up to draft 7, nothing beside $ref counts
    bool integers_exact;  // in draft 4, 1.0 is no integer
    Expr *exprs;          // (capacity), owned
    size_t n, capacity;
    uint32_t *table;  // (places): index + 1 of expressions by hash
    size_t places;
    SchemaBlock *blocks;
    size_t allocated;
    BasicTerms basics;
    unsigned depth;    // of norms that are being made
    unsigned probing;  // of these, made to see whether a property has a value
    bool gave_up;      // a probe came upon a norm that is being made
    size_t n_probes;
    Buffer notes;
    Expression root;
    bool failed;
    Error *err;
};

// Nested norms, and probes: beyond these limits, a property is assumed to have values.
enum { MAX_NORM_DEPTH = 24, MAX_PROBES = 1 << 16, MAX_BYTES = 1 << 28 };

TermPool *schema_pool(const Schema *s) { return s->pool; }
const BasicTerms *schema_basics(const Schema *s) { return &s->basics; }
Expression schema_root(const Schema *s) { return s->root; }
const char *schema_notes(const Schema *s) { return s->notes.size ? s->notes.data : NULL; }
size_t schema_count(const Schema *s) { return s->n; }

// --------------------------------------------------------------------------------------------
// Memory and errors

void *schema_alloc(Schema *s, size_t count, size_t size)
{
    size_t bytes;
    if (!size_mul(count, size, &bytes) || bytes > MAX_BYTES || s->allocated > MAX_BYTES) {
        return schema_refuse(s, NULL, "the schema takes more than 256 MiB");
    }
    bytes = round_up(bytes ? bytes : 1, 16);
    s->allocated += bytes;
    if (!s->blocks || s->blocks->used + bytes > sizeof s->blocks->data) {
        const size_t room = bytes > sizeof s->blocks->data ? bytes - sizeof s->blocks->data : 0;
        SchemaBlock *b = malloc(sizeof *b + room);
        if (!b) {
            s->failed = true;
            error_memory(s->err, "a schema", bytes);
            return NULL;
        }
        b->used = 0;
        b->next = s->blocks;
        s->blocks = b;
    }
    void *p = s->blocks->data + s->blocks->used;
    s->blocks->used += bytes;
    memset(p, 0, bytes);
    return p;
}

bool schema_failed(const Schema *s)
{
    Error ignored;
    return s->failed || !term_pool_check(s->pool, &ignored);
}

void *schema_refuse(Schema *s, const JsonValue *at, const char *why)
{
    if (s->failed) {
        return NULL;
    }
    s->failed = true;
    Buffer path = {0};
    if (at) {
        reference_path(&s->json, at, &path);
    }
    error_set(s->err, ERROR_INPUT, "schema, #%.300s: %s is not supported",
              path.size ? path.data : "", why);
    buffer_free(&path);
    return NULL;
}

// Fails because a keyword's value is malformed.
static bool malformed(Schema *s, const JsonValue *at, const char *expected)
{
    if (s->failed) {
        return false;
    }
    s->failed = true;
    Buffer path = {0};
    reference_path(&s->json, at, &path);
    error_set(s->err, ERROR_INPUT, "schema, #%.300s: found %s, expected %s",
              path.size ? path.data : "", json_kind(at), expected);
    buffer_free(&path);
    return false;
}

// Notes an unknown keyword or format, once.
static void note(Schema *s, const char *name, size_t size)
{
    if (s->notes.size && strstr(s->notes.data, name)) {
        return;
    }
    if (s->notes.size < 200) {
        buffer_addf(&s->notes, "%s%.*s", s->notes.size ? ", " : "", (int)(size < 60 ? size : 60),
                    name);
    }
}

// --------------------------------------------------------------------------------------------
// Expressions

static bool grow_exprs(Schema *s)
{
    const size_t capacity = s->capacity ? 2 * s->capacity : 256, places = 2 * capacity;
    Expr *exprs = realloc(s->exprs, capacity * sizeof *exprs);
    if (exprs) {
        s->exprs = exprs;
    }
    uint32_t *table = calloc(places, sizeof *table);
    if (!exprs || !table) {
        free(table);
        s->failed = true;
        return error_memory(s->err, "a schema", capacity * sizeof *exprs);
    }
    s->capacity = capacity;
    for (size_t i = 0; i < s->n; i++) {
        const Expr *e = &s->exprs[i];
        const uint64_t h = hash_step(hash_step(hash_step(HASH_BEGIN, e->kind), e->a), e->b);
        size_t place = (h ^ h >> 32) & (places - 1);
        while (table[place]) {
            place = (place + 1) & (places - 1);
        }
        table[place] = (uint32_t)i + 1;
    }
    free(s->table);
    s->table = table;
    s->places = places;
    return true;
}

static Expression intern_expr(Schema *s, ExprKind kind, uint32_t a, uint32_t b)
{
    if (s->failed || (s->n == s->capacity && !grow_exprs(s))) {
        return NOTHING;
    }
    const uint64_t h = hash_step(hash_step(hash_step(HASH_BEGIN, kind), a), b);
    size_t place = (h ^ h >> 32) & (s->places - 1);
    for (; s->table[place]; place = (place + 1) & (s->places - 1)) {
        const Expr *e = &s->exprs[s->table[place] - 1];
        if (e->kind == kind && e->a == a && e->b == b) {
            return s->table[place] - 1;
        }
    }
    if (s->n == SCHEMA_MAX_EXPRESSIONS) {
        schema_refuse(s, NULL, "a schema of more than 65536 combinations of subschemas");
        return NOTHING;
    }
    s->exprs[s->n] = (Expr){.kind = kind, .a = a, .b = b};
    s->table[place] = (uint32_t)++s->n;
    return (Expression)s->n - 1;
}

static uint32_t index_of(const Schema *s, const JsonValue *v)
{
    return (uint32_t)(v - s->json.values);
}

// The expression of a subschema.
static Expression subschema(Schema *s, const JsonValue *v)
{
    if (v->kind == JSON_TRUE || (v->kind == JSON_OBJECT && !v->count)) {
        return ANYTHING;
    }
    if (v->kind == JSON_FALSE) {
        return NOTHING;
    }
    if (v->kind != JSON_OBJECT) {
        malformed(s, v, "a schema: an object, true or false");
        return NOTHING;
    }
    return intern_expr(s, EXPR_SCHEMA, index_of(s, v), 0);
}

Expression expression_and(Schema *s, Expression a, Expression b)
{
    if (a == NOTHING || b == NOTHING) {
        return NOTHING;
    }
    if (a == b || a == ANYTHING || b == ANYTHING) {
        return a == ANYTHING ? b : a;
    }
    return intern_expr(s, EXPR_AND, a < b ? a : b, a < b ? b : a);
}

Expression expression_not(Schema *s, Expression e)
{
    if (e == ANYTHING || e == NOTHING) {
        return e == ANYTHING ? NOTHING : ANYTHING;
    }
    return s->exprs[e].kind == EXPR_NOT ? s->exprs[e].a : intern_expr(s, EXPR_NOT, e, 0);
}

bool expression_is_empty(Schema *s, Expression e)
{
    if (e == NOTHING || e == ANYTHING || s->depth > MAX_NORM_DEPTH || s->n_probes > MAX_PROBES) {
        return e == NOTHING;
    }
    s->n_probes++;
    s->probing++;
    const Norm *n = schema_norm(s, e);
    s->probing--;
    s->gave_up = false;
    return n && norm_is_empty(s, n);
}

// --------------------------------------------------------------------------------------------
// Keywords of scalars

// The whole number of a keyword; a very large one as REPEAT_FOREVER - 1.
static bool read_bound(Schema *s, const JsonValue *v, uint32_t *out)
{
    uint64_t n;
    if (!json_whole(v, &n)) {
        return malformed(s, v, "a whole number");
    }
    *out = n < REPEAT_FOREVER ? (uint32_t)n : REPEAT_FOREVER - 1;
    return true;
}

// Narrows one part of a norm.
static void narrow_string(Schema *s, Norm *n, Term t)
{
    n->string = n->string == s->basics.text ? t : term_and2(s->pool, n->string, t);
}

static void narrow_number(Schema *s, Norm *n, Term t)
{
    n->number = n->number == s->basics.number ? t : term_and2(s->pool, n->number, t);
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
                  low > high ? TERM_NONE : term_repeat(s->pool, s->basics.character, low, high));
    return n;
}

// A regular expression of a schema, which may match anywhere in a text.
static bool read_pattern(Schema *s, const JsonValue *at, const char *text, size_t size, Term *out)
{
    const RegexOptions options = {REGEX_ECMA, SPELL_JSON, .whole = false};
    Error err = {0};
    if (regex_compile(s->pool, &options, text, size, out, &err)) {
        return true;
    }
    if (!s->failed) {
        schema_refuse(s, at, "");
        char message[sizeof err.message];
        memcpy(message, s->err->message, sizeof message);
        error_set(s->err, err.kind, "%.*s%.300s", (int)(strstr(message, " is not") - message),
                  message, err.message);
    }
    return false;
}

static Norm *apply_pattern(Schema *s, const JsonValue *schema, Norm *n)
{
    const JsonValue *v = json_member(schema, "pattern");
    Term t;
    if (v->kind != JSON_STRING) {
        return malformed(s, v, "a string") ? n : NULL;
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
    switch (format_term(s->pool, v->text, v->size, &t, &err)) {
    case FORMAT_ENFORCED:
        narrow_string(s, n, t);
        break;
    case FORMAT_REFUSED:
        return schema_refuse(s, v, "this format");
    default:
        note(s, v->text, v->size);
    }
    return n;
}

static bool read_decimal(Schema *s, const JsonValue *v, Decimal *d)
{
    if (v->kind != JSON_NUMBER) {
        return malformed(s, v, "a number");
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
            narrow_number(s, n, make(s->pool, &d, strict && strict->kind == JSON_TRUE));
        }
        if (strict && strict->kind != JSON_TRUE && strict->kind != JSON_FALSE) {
            if (!read_decimal(s, strict, &d)) {
                return NULL;
            }
            narrow_number(s, n, make(s->pool, &d, true));
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
    const Term t = number_multiple(s->pool, &d);
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
            allowed->number = from->number == s->basics.number
                                  ? s->basics.integer
                                  : term_and2(s->pool, from->number, s->basics.integer);
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
        return malformed(s, v, "null, boolean, number, integer, string, object or array");
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
        const Expression value = intern_expr(s, EXPR_CONST, index_of(s, member), 0);
        properties[i] = (Property){member->name, member->name_size, value, true, false};
    }
    *rest = (NameClass){s->basics.text, NOTHING};
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
        prefix[i] = intern_expr(s, EXPR_CONST, index_of(s, item), 0);
    }
    *shape = (ArrayShape){.prefix = prefix,
                          .n_prefix = v->count,
                          .items = NOTHING,
                          .min = v->count,
                          .max = v->count,
                          .max_contains = REPEAT_FOREVER};
    return norm_of_array(s, shape);
}

static Norm *constant(Schema *s, const JsonValue *v)
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
        n->number = number_equal(s->pool, &d);
        break;
    default:
        n->string = spelled_text(s->pool, v->text, v->size, SPELL_JSON);
    }
    return n;
}

static Norm *apply_const(Schema *s, const JsonValue *schema, Norm *n)
{
    return norm_and(s, n, constant(s, json_member(schema, "const")));
}

// The strings and numbers of an enum are joined at once: there may be thousands.
static Norm *apply_enum(Schema *s, const JsonValue *schema, Norm *n)
{
    const JsonValue *v = json_member(schema, "enum");
    if (v->kind != JSON_ARRAY) {
        return malformed(s, v, "an array") ? n : NULL;
    }
    Term *strings = schema_alloc(s, v->count + (size_t)1, sizeof *strings);
    Term *numbers = schema_alloc(s, v->count + (size_t)1, sizeof *numbers);
    Norm *all = norm_nothing(s);
    const JsonValue *item = json_first(v);
    for (size_t i = 0; strings && numbers && all && i < v->count; i++, item = json_next(item)) {
        Norm *one = constant(s, item);
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
    all->string = term_or(s->pool, strings, v->count);
    all->number = term_or(s->pool, numbers, v->count);
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
    const Term others = term_not(s->pool, pattern->names);
    for (size_t i = 0; i < shape->n_classes; i++) {
        const NameClass c = shape->classes[i];
        const bool all = c.names == s->basics.text;
        const Term in = all ? pattern->names : term_and2(s->pool, c.names, pattern->names);
        const Term out = term_and2(s->pool, c.names, others);
        if (term_shortest(s->pool, in) != NEVER) {
            const Expression old = c.value == UNMATCHED ? ANYTHING : c.value;
            classes[n++] = (NameClass){in, expression_and(s, old, pattern->value)};
        }
        if (term_shortest(s->pool, out) != NEVER) {
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
    if (all && all->kind != JSON_OBJECT) {
        return malformed(s, all, "an object");
    }
    *n = all ? all->count : 0;
    *patterns = schema_alloc(s, *n + 1, sizeof **patterns);
    const JsonValue *v = all ? json_first(all) : NULL;
    for (size_t i = 0; *patterns && i < *n; i++, v = json_next(v)) {
        NameClass *p = &(*patterns)[i];
        p->value = subschema(s, v);
        if (!read_pattern(s, v, v->name, v->name_size, &p->names)) {
            return false;
        }
    }
    return *patterns && !s->failed;
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
    shape->classes[0] = (NameClass){s->basics.text, UNMATCHED};
    shape->n_classes = 1;
    for (size_t i = 0; i < n; i++) {
        if (!add_pattern(s, shape, &patterns[i])) {
            return false;
        }
    }
    const Expression rest = additional ? subschema(s, additional) : ANYTHING;
    for (size_t i = 0; i < shape->n_classes; i++) {
        NameClass *c = &shape->classes[i];
        c->value = c->value == UNMATCHED ? rest : c->value;
    }
    return !s->failed;
}

// What patterns say of the value of a declared property; additional properties say nothing of it.
static Expression pattern_value(Schema *s, const NameClass *patterns, size_t n,
                                const JsonValue *property)
{
    if (!n) {
        return ANYTHING;
    }
    const Term name = spelled_text(s->pool, property->name, property->name_size, SPELL_JSON);
    Expression value = ANYTHING;
    for (size_t i = 0; i < n; i++) {
        if (term_shortest(s->pool, term_and2(s->pool, name, patterns[i].names)) != NEVER) {
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
        return malformed(s, required, "an array");
    }
    const size_t n_declared = shape->n_properties;
    const JsonValue *v = json_first(required);
    for (size_t i = 0; i < required->count; i++, v = json_next(v)) {
        if (v->kind != JSON_STRING) {
            return malformed(s, v, "a string");
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
    return !s->failed;
}

static bool read_properties(Schema *s, const JsonValue *schema, ObjectShape *shape)
{
    const JsonValue *properties = json_member(schema, "properties");
    const JsonValue *required = json_member(schema, "required");
    if (properties && properties->kind != JSON_OBJECT) {
        return malformed(s, properties, "an object");
    }
    const size_t n = (properties ? properties->count : 0) +
                     (required && required->kind == JSON_ARRAY ? required->count : 0);
    NameClass *patterns;
    size_t n_patterns;
    shape->properties = schema_alloc(s, n + 1, sizeof *shape->properties);
    if (!shape->properties || !read_patterns(s, schema, &patterns, &n_patterns)) {
        return false;
    }
    const JsonValue *p = properties ? json_first(properties) : NULL;
    for (size_t i = 0; properties && i < properties->count; i++, p = json_next(p)) {
        const Expression value = expression_and(s, subschema(s, p),
                                                pattern_value(s, patterns, n_patterns, p));
        shape->properties[shape->n_properties++] = (Property){p->name, p->name_size, value, false,
                                                              true};
    }
    return !s->failed && (!required || read_required(s, required, shape));
}

// propertyNames: names outside its strings have no value.
static bool read_names(Schema *s, const JsonValue *v, ObjectShape *shape)
{
    const Norm *n = v->kind == JSON_TRUE ? NULL : schema_norm(s, subschema(s, v));
    if (!n || n->string == s->basics.text) {
        return v->kind == JSON_TRUE || n;
    }
    NameClass *classes = schema_alloc(s, shape->n_classes + 1, sizeof *classes);
    size_t count = 0;
    for (size_t i = 0; classes && i < shape->n_classes; i++) {
        const Term names = term_and2(s->pool, shape->classes[i].names, n->string);
        if (term_shortest(s->pool, names) != NEVER) {
            classes[count++] = (NameClass){names, shape->classes[i].value};
        }
    }
    if (!classes) {
        return false;
    }
    classes[count++] = (NameClass){term_and2(s->pool, s->basics.text, term_not(s->pool, n->string)),
                                   NOTHING};
    shape->classes = classes;
    shape->n_classes = count;
    for (size_t i = 0; i < shape->n_properties; i++) {
        Property *p = &shape->properties[i];
        const Term name = spelled_text(s->pool, p->name, p->size, SPELL_JSON);
        if (term_shortest(s->pool, term_and2(s->pool, name, n->string)) == NEVER) {
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
        const Expression e = subschema(s, v);
        const Norm *n = s->failed ? NULL : schema_norm(s, e);
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
                return malformed(s, name, "a string") ? with : NULL;
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
            return malformed(s, all, "an object") ? n : NULL;
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
    shape->contains = subschema(s, contains);
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
        return malformed(s, prefix, "an array");
    }
    shape->items = rest ? subschema(s, rest) : ANYTHING;
    shape->n_prefix = prefix ? prefix->count : 0;
    shape->prefix = schema_alloc(s, shape->n_prefix + 1, sizeof *shape->prefix);
    const JsonValue *v = prefix ? json_first(prefix) : NULL;
    for (size_t i = 0; shape->prefix && i < shape->n_prefix; i++, v = json_next(v)) {
        shape->prefix[i] = subschema(s, v);
    }
    return shape->prefix && !s->failed;
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
    shape->unique = unique && unique->kind == JSON_TRUE;
    const uint32_t most = shape->items == NOTHING && shape->n_prefix < shape->max
                              ? (uint32_t)shape->n_prefix
                              : shape->max;
    if (shape->unique && most > 1) {
        return schema_refuse(s, unique, "uniqueItems");
    }
    shape->unique = false;
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
    const Expression e = subschema(s, v);
    return s->failed ? NULL : schema_norm(s, e);
}

static bool is_list(Schema *s, const JsonValue *v)
{
    return (v->kind == JSON_ARRAY && v->count) || malformed(s, v, "an array of schemas");
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
        return malformed(s, v, "a string") ? n : NULL;
    }
    const JsonValue *target = reference_find(&s->references, &s->json, v);
    if (!target) {
        return schema_refuse(s, v, "a reference to a schema outside this text");
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
            note(s, v->name, v->name_size);
        }
    }
    return true;
}

// The norm of a schema that is an object: that of all its keywords together, in the table's order,
// so that what multiplies alternatives comes last.
static Norm *read_object_schema(Schema *s, const JsonValue *schema)
{
    Norm *n = norm_universe(s);
    const JsonValue *ref = json_member(schema, "$ref");
    if (n && s->ref_alone && ref && ref->kind == JSON_STRING) {
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

static const Norm *make_norm(Schema *s, Expr e)
{
    switch (e.kind) {
    case EXPR_ANYTHING:
        return norm_universe(s);
    case EXPR_NOTHING:
        return norm_nothing(s);
    case EXPR_SCHEMA:
        return read_object_schema(s, &s->json.values[e.a]);
    case EXPR_CONST:
        return constant(s, &s->json.values[e.a]);
    case EXPR_NOT:
        return norm_not(s, schema_norm(s, e.a), NULL);
    default: {
        const Norm *a = schema_norm(s, e.a), *b = a ? schema_norm(s, e.b) : NULL;
        return b ? norm_and(s, a, b) : NULL;
    }
    }
}

const Norm *schema_norm(Schema *s, Expression e)
{
    if (s->failed || s->exprs[e].norm) {
        return s->failed ? NULL : s->exprs[e].norm;
    }
    if (s->exprs[e].reading && s->probing) {
        s->gave_up =
            true;  // the probe ends without an answer, and all norms on the way are made later
    }
    if (s->gave_up) {
        return NULL;
    }
    if (s->exprs[e].reading) {
        return schema_refuse(
            s, s->exprs[e].kind == EXPR_SCHEMA ? &s->json.values[s->exprs[e].a] : NULL,
            "a schema that refers to itself for the same value");
    }
    if (s->depth > 400) {
        return schema_refuse(s, NULL, "a schema nested more than 400 deep");
    }
    s->exprs[e].reading = true;
    s->depth++;
    const Norm *n = make_norm(s, s->exprs[e]);
    s->depth--;
    s->exprs[e].reading = false;
    s->exprs[e].norm = n;
    return n;
}

// --------------------------------------------------------------------------------------------
// Opening and closing

static bool contains_text(const JsonValue *v, const char *text)
{
    return v && v->kind == JSON_STRING && strstr(v->text, text);
}

// Sets what depends on the draft that $schema names; the default is 2020-12.
static bool read_draft(Schema *s)
{
    const JsonValue *root = s->json.values;
    const JsonValue *name = root->kind == JSON_OBJECT ? json_member(root, "$schema") : NULL;
    if (name && (!contains_text(name, "://json-schema.org/") || contains_text(name, "draft-03"))) {
        return schema_refuse(s, name, "a version other than drafts 4 to 2020-12 of JSON Schema");
    }
    s->integers_exact = contains_text(name, "draft-04");
    s->ref_alone = s->integers_exact || contains_text(name, "draft-06") ||
                   contains_text(name, "draft-07");
    return references_read(&s->references, &s->json, s->integers_exact ? "id" : "$id",
                           s->ref_alone) ||
           error_memory(s->err, "a schema", sizeof(Resource));
}

static void make_basics(Schema *s)
{
    TermPool *p = s->pool;
    s->basics = (BasicTerms){.number = number_any(p),
                             .decimal = number_decimal(p),
                             .integer = s->integers_exact ? number_integer_exact(p)
                                                          : number_integer(p),
                             .character = any_char(p, SPELL_JSON)};
    s->basics.text = term_star(p, s->basics.character);
}

bool schema_read(Schema **out, TermPool *pool, const char *text, size_t size, Error *err)
{
    *out = NULL;
    Schema *s = calloc(1, sizeof *s);
    if (!s) {
        return error_memory(err, "a schema", sizeof *s);
    }
    s->pool = pool;
    s->err = err;
    Error json = {0};
    if (!json_read(&s->json, text, size, &json)) {
        schema_free(s);
        return error_set(err, json.kind, "schema: %.500s", json.message);
    }
    bool ok = read_draft(s);
    if (ok) {
        make_basics(s);
        intern_expr(s, EXPR_ANYTHING, 0, 0);
        intern_expr(s, EXPR_NOTHING, 0, 0);
        s->root = subschema(s, s->json.values);
        ok = !schema_failed(s);
    }
    if (!ok) {
        schema_free(s);
        return false;
    }
    *out = s;
    return true;
}

void schema_free(Schema *s)
{
    if (!s) {
        return;
    }
    for (SchemaBlock *b = s->blocks; b;) {
        SchemaBlock *next = b->next;
        free(b);
        b = next;
    }
    references_free(&s->references);
    json_free(&s->json);
    buffer_free(&s->notes);
    free(s->exprs);
    free(s->table);
    free(s);
}
