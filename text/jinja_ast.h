// jinja_ast.h - a parsed template: its nodes. Internal to text/jinja_*.c.
#ifndef JINJA_AST_H
#define JINJA_AST_H

#include "text/jinja_value.h"

typedef enum {
    // Expressions; what a, b, c and d are.
    N_CONST,             // value
    N_NAME,              // id
    N_TUPLE,             // a: items
    N_LIST,              // a: items
    N_DICT,              // a: N_PAIR ..
    N_PAIR,              // a: key, b: value
    N_COND,              // a: test, b: then, c: else or NULL
    N_AND,               // a, b
    N_OR,                // a, b
    N_NOT,               // a
    N_NEGATE,            // a
    N_PLUS,              // a
    N_BINARY,            // op, a, b
    N_COMPARE,           // a: first, b: N_OPERAND ..
    N_OPERAND,           // op: e(==) n(!=) < > l(<=) g(>=) i(in) o(not in), a
    N_ATTRIBUTE,         // a, value: the name
    N_ITEM,              // a, b
    N_SLICE,             // of a: b, c, d: begin, stop, step, each may be NULL
    N_CALL,              // a: callee, b: arguments
    N_FILTER,            // a: input, value: the name, builtin, b: arguments
    N_TEST,              // a: input, value: the name, builtin, b: arguments
    N_KEYWORD,           // an argument: value: its name, a
    N_STAR,              // arguments: a: their list
    N_COLLECTED,         // what a block collected, as the input of its filter
    N_ATTRIBUTE_TARGET,  // a: N_NAME of a namespace, value: the attribute
    // Statements; each list is linked by `next`.
    N_DATA,    // value
    N_OUTPUT,  // a: expression
    N_IF,      // a: test, c: body, d: else
    N_SET,     // a: target, b: expression
    N_BREAK,
    N_CONTINUE,
    // Those with a scope of their own for the body.
    N_FOR,           // a: target, b: iterable, e: test or NULL, c: body, d: N_BLOCK or NULL: else
    N_SET_BLOCK,     // a: target, b: filter or NULL, c: body
    N_MACRO,         // id, a: N_PARAM .., c: body, d: N_PARAM of `caller` or NULL
    N_CALL_BLOCK,    // a: N_PARAM .., b: N_CALL, c: body, d: as of N_MACRO
    N_PARAM,         // id, a: default or NULL
    N_FILTER_BLOCK,  // b: filter, c: body
    N_BLOCK,         // c: body; the template itself, {% generation %}
} JNodeKind;

typedef struct JNode {
    uint8_t kind, op;
    uint32_t line;
    uint32_t id;  // N_NAME, N_PARAM, N_MACRO: the number of the name (JinjaTemplate.names)
    struct JNode *a, *b, *c, *d, *e, *next;
    JValue value;             // a string or number; of a named node its name
    const JBuiltin *builtin;  // N_FILTER, N_TEST; NULL: there is none of that name
    uint32_t *hidden;         // (n_hidden) names that are undefined where the scope begins
    uint32_t n_hidden;
} JNode;

struct JinjaTemplate {
    JinjaArena *arena;  // owns what follows
    char *name;         // owned
    JNode *body;        // N_BLOCK
    JList names;        // of variables, by number
    uint32_t loop;      // the number of "loop"
};

// Sets t->body to the tree of a source, and t->names.
void jinja_parse(Jinja *j, struct JinjaTemplate *t, const char *source, size_t size);

// Finds the names that each scope hides.
void jinja_find_hidden(Jinja *j, struct JinjaTemplate *t);

#endif
