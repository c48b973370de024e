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

// Reads all that the schema's root leads to, and makes *root the language of its texts. The schema
// has to outlive the grammar, the pool too; the pool's rules become those of the grammar. Errors:
// ERROR_INPUT for what cannot be enforced, and for a schema without a value; ERROR_RUN if out of
// memory. *out is NULL on failure.
bool grammar_create(Grammar **out, Schema *s, Term *root, Error *err);
void grammar_free(Grammar *g);

#endif
