// constraint_grammar.h - the JSON texts of a schema's values, as rules that terms call.
//
// Texts are compact, with one space after a colon and a comma, and the properties of an object come
// in the order of the schema: those it declares, then those it only requires, then others, which may
// also stand between the latter.
#ifndef CONSTRAINT_GRAMMAR_H
#define CONSTRAINT_GRAMMAR_H

#include "base/error.h"
#include "text/constraint_schema.h"
#include "text/constraint_term.h"

typedef struct Grammar Grammar;

// Reads everything that can be reached from the schema's root, and sets *root to the language of
// its texts. The schema and the pool must outlive the grammar; the grammar sets the pool's rules.
// Errors: ERROR_INPUT for what cannot be enforced, and for a schema without a value; ERROR_RUN if
// out of memory. *out is NULL on failure.
bool grammar_create(Grammar **out, Schema *s, Term *root, Error *err);
void grammar_free(Grammar *g);

size_t grammar_bytes(const Grammar *g);  // allocated

#endif
