// constraint_schema.h - JSON Schema, drafts 4 to 2020-12, read into sets of values.
#ifndef CONSTRAINT_SCHEMA_H
#define CONSTRAINT_SCHEMA_H

#include <stddef.h>

#include "base/json.h"
#include "text/constraint_term.h"

// A set of values, as a number: a subschema, a constant, or a union, an intersection or a complement
// of such. Equal expressions have the same number.
typedef uint32_t Expression;

enum { ANYTHING, NOTHING };

typedef struct Norm Norm;
typedef struct Schema Schema;

// Bounds of a schema.
#define SCHEMA_MAX_EXPRESSIONS  ((size_t)1 << 16)  // over its subschemas
#define SCHEMA_MAX_ALTERNATIVES 256                // shapes of one value
#define SCHEMA_MAX_PROPERTIES   ((size_t)1 << 13)  // of one object, by `properties` and `required`

// Reads a schema. Its norms are computed on demand, and set *err when that fails, so *err must
// outlive the schema. Errors: ERROR_INPUT naming the keyword and the JSON pointer of what is
// malformed or cannot be enforced; ERROR_RUN if out of memory. *out is NULL on failure.
bool schema_read(Schema **out, TermPool *pool, const char *text, size_t size, Error *err);
void schema_free(Schema *s);

size_t schema_bytes(const Schema *s);  // allocated, approximately

// The unknown keywords and formats met so far, "a, b"; NULL: none.
const char *schema_notes(const Schema *s);

Expression schema_root(const Schema *s);

// The set of values of an expression; NULL: the schema has failed.
const Norm *schema_norm(Schema *s, Expression e);

size_t schema_count(const Schema *s);  // expressions are numbered below this

// --------------------------------------------------------------------------------------------
// For constraint_keywords.c, constraint_shape.c and constraint_grammar.c.

Expression schema_expression(Schema *s, const JsonValue *v);  // of a subschema
Expression schema_constant(Schema *s, const JsonValue *v);    // of the one value v of the schema

bool schema_ref_is_alone(const Schema *s);  // ignore what is beside $ref (up to draft 7)
const JsonValue *schema_target(const Schema *s, const JsonValue *ref);  // NULL: outside this text

Expression expression_and(Schema *s, Expression a, Expression b);
Expression expression_not(Schema *s, Expression e);
bool expression_is_empty(Schema *s, Expression e);  // judging by required properties

// Languages that every schema needs.
typedef struct {
    Term number, decimal, integer;  // all numbers, those without an exponent, whole ones of these
    Term character, text;           // of strings, as spelled between quotes
} BasicTerms;

const BasicTerms *schema_basics(const Schema *s);
TermPool *schema_pool(const Schema *s);
void *schema_alloc(Schema *s, size_t count, size_t size);  // freed with the schema; NULL: failed
bool schema_failed(const Schema *s);

// Fails because of the keyword `at`, a member of a schema (NULL: no particular one); the first
// failure counts. schema_refuse says that `why` is not supported and returns NULL; the others
// return false.
bool schema_fail(Schema *s, const JsonValue *at, ErrorKind kind, const char *format, ...)
    PRINTF_LIKE(4, 5);
void *schema_refuse(Schema *s, const JsonValue *at, const char *why);
bool schema_malformed(Schema *s, const JsonValue *at, const char *expected);

// Notes an unknown keyword or format, once.
void schema_note(Schema *s, const char *name, size_t size);

#endif
