// constraint_schema.c - JSON Schema read into sets of values. See constraint_schema.h.
//
// Sets are numbered expressions; what one contains, its norm, is found when something asks for it, by
// reading keywords (constraint_keywords.c) or by combining other norms (constraint_shape.c). The grammar
// asks for all norms that can be reached, so that what cannot be enforced is refused before anything
// is generated.
#include "text/constraint_schema.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/checksum.h"
#include "base/memory.h"
#include "text/constraint_chars.h"
#include "text/constraint_keywords.h"
#include "text/constraint_number.h"
#include "text/constraint_refs.h"
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
    size_t allocated;    // bytes handed out by schema_alloc
    size_t block_bytes;  // of all blocks, with their headers
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
bool schema_ref_is_alone(const Schema *s) { return s->ref_alone; }

const JsonValue *schema_target(const Schema *s, const JsonValue *ref)
{
    return reference_find(&s->references, &s->json, ref);
}

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
        s->block_bytes += sizeof *b + room;
        b->used = 0;
        b->next = s->blocks;
        s->blocks = b;
    }
    void *p = s->blocks->data + s->blocks->used;
    s->blocks->used += bytes;
    memset(p, 0, bytes);
    return p;
}

size_t schema_bytes(const Schema *s)
{
    return sizeof *s + s->block_bytes + s->capacity * sizeof *s->exprs +
           s->places * sizeof *s->table + s->notes.capacity +
           s->json.capacity * sizeof *s->json.values + s->json.text_capacity +
           s->json.names_capacity * sizeof *s->json.names +
           s->references.capacity * sizeof *s->references.resources;
}

bool schema_failed(const Schema *s)
{
    Error ignored;
    return s->failed || !term_pool_check(s->pool, &ignored);
}

bool schema_fail(Schema *s, const JsonValue *at, ErrorKind kind, const char *format, ...)
{
    if (s->failed) {
        return false;
    }
    char message[sizeof s->err->message];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    s->failed = true;
    Buffer path = {0};
    if (at) {
        reference_path(&s->json, at, &path);
    }
    error_set(s->err, kind, "schema, #%.300s: %s", path.size ? path.data : "", message);
    buffer_free(&path);
    return false;
}

void *schema_refuse(Schema *s, const JsonValue *at, const char *why)
{
    schema_fail(s, at, ERROR_INPUT, "%s is not supported", why);
    return NULL;
}

bool schema_malformed(Schema *s, const JsonValue *at, const char *expected)
{
    return at->kind == JSON_STRING
               ? schema_fail(s, at, ERROR_INPUT, "found \"%.80s\", expected %s", at->text, expected)
               : schema_fail(s, at, ERROR_INPUT, "found %s, expected %s", json_kind(at), expected);
}

void schema_note(Schema *s, const char *name, size_t size)
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

Expression schema_expression(Schema *s, const JsonValue *v)
{
    if (v->kind == JSON_TRUE || (v->kind == JSON_OBJECT && !v->count)) {
        return ANYTHING;
    }
    if (v->kind == JSON_FALSE) {
        return NOTHING;
    }
    if (v->kind != JSON_OBJECT) {
        schema_malformed(s, v, "a schema: an object, true or false");
        return NOTHING;
    }
    return intern_expr(s, EXPR_SCHEMA, index_of(s, v), 0);
}

Expression schema_constant(Schema *s, const JsonValue *v)
{
    return intern_expr(s, EXPR_CONST, index_of(s, v), 0);
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

static const Norm *make_norm(Schema *s, Expr e)
{
    switch (e.kind) {
    case EXPR_ANYTHING:
        return norm_universe(s);
    case EXPR_NOTHING:
        return norm_nothing(s);
    case EXPR_SCHEMA:
        return keywords_norm(s, &s->json.values[e.a]);
    case EXPR_CONST:
        return constant_norm(s, &s->json.values[e.a]);
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
        s->root = schema_expression(s, s->json.values);
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
