// jinja_ast.h - a parsed template: nodes, and the scopes of its variables. Internal to
// text/jinja_*.c.
#ifndef JINJA_AST_H
#define JINJA_AST_H

#include "text/jinja_value.h"

typedef enum {
    // Expressions; what a, b, c and d are.
    N_CONST,             // value
    N_NAME,              // name
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
    N_CONCAT,            // a: items
    N_COMPARE,           // a: first, b: N_OPERAND ..
    N_OPERAND,           // op: = ! < > l(<=) g(>=) i(in) n(not in), a
    N_ATTRIBUTE,         // a, value: the name
    N_ITEM,              // a, b
    N_SLICE,             // a, b, c: begin, stop, step, each may be NULL
    N_CALL,              // a: callee, b: arguments
    N_FILTER,            // a: input, NULL for what a block collected; name, builtin, b: arguments
    N_TEST,              // a: input, name, builtin, b: arguments
    N_KEYWORD,           // an argument: value: its name, a
    N_STAR,              // *a
    N_STARS,             // **a
    N_ATTRIBUTE_TARGET,  // name: of a namespace, value: the attribute
    // Statements; each list is linked by `next`.
    N_DATA,          // value
    N_OUTPUT,        // a: expressions
    N_IF,            // a: test, c: body, d: else
    N_FOR,           // a: target, b: iterable, e: test or NULL, c: body, d: else
    N_SET,           // a: target, b: expression
    N_SET_BLOCK,     // a: target, b: filter or NULL, c: body
    N_MACRO,         // name, a: N_PARAM .., c: body
    N_PARAM,         // name, a: default or NULL
    N_CALL_BLOCK,    // a: N_PARAM .., b: N_CALL, c: body
    N_GENERATION,    // c: body
    N_FILTER_BLOCK,  // b: filter, c: body
    N_WITH,          // a: N_SET .., c: body
    N_BREAK,
    N_CONTINUE,
} JNodeKind;

struct JScope;

typedef struct JNode {
    uint8_t kind, op;
    bool recursive;  // N_FOR
    uint32_t line;
    struct JNode *a, *b, *c, *d, *e, *next;
    JValue value;                     // a string or number; of a named node its name
    const JBuiltin *builtin;          // N_FILTER, N_TEST; NULL: there is none of that name
    struct JScope *scope;             // that the node opens
    struct JScope *other;             // N_FOR: of the else branch
    struct JScope *test_scope;        // N_FOR: of the test
    uint32_t hops, slot;              // N_NAME, N_ATTRIBUTE_TARGET, N_MACRO: where the variable is
    int32_t caller, kwargs, varargs;  // N_MACRO, N_CALL_BLOCK: slots of these parameters, or -1;
                                      // .. N_FOR: caller is that of `loop`
} JNode;

// What a variable is when its scope is entered.
typedef enum {
    LOAD_PARAMETER,  // set by whoever enters
    LOAD_GLOBAL,     // slot `from` of the globals
    LOAD_OUTER,      // slot `from` of the frame `hops` further out
    LOAD_NOTHING,
} JLoad;

typedef struct {
    JValue name;
    uint8_t load;
    bool stored;
    uint32_t hops, from;
} JSymbol;

typedef struct JScope {
    struct JScope *parent;
    JSymbol *symbols;  // (capacity): n in use, which are the slots of a frame
    size_t n, capacity;
} JScope;

struct JinjaTemplate {
    JinjaArena *arena;  // owns what follows
    char *name;         // owned
    JNode *body;
    JScope *scope;
    JValue *globals;  // (n_globals) names of what no scope sets
    size_t n_globals, globals_capacity;
};

// Sets t->body to the tree of a source.
void jinja_parse(Jinja *j, struct JinjaTemplate *t, const char *source, size_t size);

// Finds the scopes of a tree, and which variable each name means.
void jinja_bind_names(Jinja *j, struct JinjaTemplate *t);

// The nodes directly inside a node, in the order in which they are run; NULL for absent ones.
#define JNODE_KIDS 5

#endif
