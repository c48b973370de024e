// jinja_scope.c - which variable each name of a template means. See jinja_ast.h.
//
// Jinja2 decides this before a template runs, and so do we. The template, each macro, loop, with
// and block that collects text has a scope. Its variables are found by reading it in order, without
// the scopes inside of it:
//
//     read, set nowhere      a global: a variable of the caller or a function
//     set                    its own; nothing before that, even if an outer scope has the name ..
//     set in an if           .. but if it may stay unset, it starts as what it is further out
//
// Only then are the names inside looked up, from the innermost scope outwards.
#include "text/jinja_ast.h"

typedef struct {
    Jinja *j;
    struct JinjaTemplate *t;
} Binder;

static void visit(Binder *b, JScope *s, const JNode *n);

static void visit_all(Binder *b, JScope *s, const JNode *list)
{
    for (; list && !b->j->failed; list = list->next) {
        visit(b, s, list);
    }
}

static bool same_name(JValue a, JValue b)
{
    return a.size == b.size && memcmp(jinja_bytes(a), jinja_bytes(b), a.size) == 0;
}

// The slot of a name in a scope or further out, after *hops scopes; -1 if none of them has it.
static int64_t lookup(Binder *b, const JScope *s, JValue name, uint32_t *hops)
{
    for (*hops = 0; s; s = s->parent, ++*hops) {
        for (size_t i = 0; i < s->n && jinja_step(b->j, 1); i++) {
            if (same_name(s->symbols[i].name, name)) {
                return (int64_t)i;
            }
        }
    }
    return -1;
}

static uint32_t global_slot(Binder *b, JValue name)
{
    struct JinjaTemplate *t = b->t;
    for (size_t i = 0; i < t->n_globals && jinja_step(b->j, 1); i++) {
        if (same_name(t->globals[i], name)) {
            return (uint32_t)i;
        }
    }
    JList l = {t->globals, t->n_globals, t->globals_capacity, 0, 0, 0, 0, NULL};
    jinja_push(b->j, &l, name);
    t->globals = l.items;
    t->globals_capacity = l.capacity;
    t->n_globals = l.n;
    return (uint32_t)l.n - 1;
}

static JSymbol *own_symbol(Binder *b, JScope *s, JValue name)
{
    uint32_t hops;
    const int64_t i = lookup(b, s, name, &hops);
    return i >= 0 && hops == 0 ? &s->symbols[i] : NULL;
}

static JSymbol *new_symbol(Binder *b, JScope *s, JSymbol symbol)
{
    if (s->n == s->capacity) {
        const size_t capacity = 2 * s->capacity + 8;
        JSymbol *symbols = jinja_take(b->j, capacity, sizeof *symbols);
        if (symbols && s->symbols) {
            memcpy(symbols, s->symbols, s->n * sizeof *symbols);
        }
        s->symbols = symbols ? symbols : s->symbols;
        s->capacity = symbols ? capacity : s->capacity;
    }
    if (!s->symbols || s->n == s->capacity) {
        return NULL;
    }
    s->symbols[s->n] = symbol;
    return &s->symbols[s->n++];
}

// What a variable is before it is set here: what it is further out.
static void load_from_outside(Binder *b, const JScope *s, JSymbol *symbol)
{
    uint32_t hops;
    const int64_t slot = s->parent ? lookup(b, s->parent, symbol->name, &hops) : -1;
    symbol->load = slot >= 0 ? LOAD_OUTER : LOAD_GLOBAL;
    symbol->hops = slot >= 0 ? hops + 1 : 0;
    symbol->from = slot >= 0 ? (uint32_t)slot : global_slot(b, symbol->name);
}

static void declare_parameter(Binder *b, JScope *s, JValue name)
{
    const JSymbol parameter = {name, LOAD_PARAMETER, true, 0, 0};
    JSymbol *own = own_symbol(b, s, name);
    if (own) {
        *own = parameter;
    } else {
        new_symbol(b, s, parameter);
    }
}

static void store_name(Binder *b, JScope *s, JValue name)
{
    JSymbol *own = own_symbol(b, s, name);
    if (!own && (own = new_symbol(b, s, (JSymbol){name, LOAD_NOTHING, true, 0, 0}))) {
        load_from_outside(b, s, own);
        own->load = own->load == LOAD_OUTER ? LOAD_OUTER : LOAD_NOTHING;
    }
    if (own) {
        own->stored = true;
    }
}

static void load_name(Binder *b, JScope *s, JValue name)
{
    uint32_t hops;
    if (lookup(b, s, name, &hops) < 0) {
        new_symbol(b, s, (JSymbol){name, LOAD_GLOBAL, false, 0, global_slot(b, name)});
    }
}

static void store_target(Binder *b, JScope *s, const JNode *target, bool parameter)
{
    if (target->kind == N_NAME) {
        (parameter ? declare_parameter : store_name)(b, s, target->value);
    } else if (target->kind == N_ATTRIBUTE_TARGET) {
        load_name(b, s, target->a->value);
    }
    for (const JNode *i = target->kind == N_TUPLE ? target->a : NULL; i; i = i->next) {
        store_target(b, s, i, parameter);
    }
}

// Adds what one branch of an if reads and sets.
static void merge_branch(Binder *b, JScope *s, const JScope *branch)
{
    for (size_t i = 0; i < branch->n; i++) {
        const JSymbol symbol = branch->symbols[i];
        JSymbol *own = own_symbol(b, s, symbol.name);
        const bool was_stored = own && own->stored;
        own = own ? own : new_symbol(b, s, symbol);
        if (own && symbol.stored && !was_stored) {
            own->stored = true;
            load_from_outside(b, s, own);
        }
    }
}

static void visit_if(Binder *b, JScope *s, const JNode *n)
{
    visit(b, s, n->a);
    const JNode *bodies[] = {n->c, n->d};
    JScope branches[2] = {{.parent = s->parent}, {.parent = s->parent}};
    for (int i = 0; i < 2; i++) {
        for (size_t k = 0; k < s->n && jinja_step(b->j, 1); k++) {
            new_symbol(b, &branches[i], s->symbols[k]);
        }
        visit_all(b, &branches[i], bodies[i]);
    }
    merge_branch(b, s, &branches[0]);
    merge_branch(b, s, &branches[1]);
}

// Reads a statement or expression of a scope for its variables.
static void visit(Binder *b, JScope *s, const JNode *n)
{
    if (!n || !jinja_enter(b->j)) {
        return;
    }
    if (n->kind == N_NAME) {
        load_name(b, s, n->value);
    } else if (n->kind == N_IF) {
        visit_if(b, s, n);
    } else if (n->kind == N_MACRO) {
        store_name(b, s, n->value);
    } else if (n->kind == N_WITH) {
        for (const JNode *set = n->a; set; set = set->next) {
            visit(b, s, set->b);
        }
    } else if (n->kind == N_SET || n->kind == N_SET_BLOCK) {
        visit(b, s, n->kind == N_SET ? n->b : NULL);
        store_target(b, s, n->a, false);
    } else if (n->kind >= N_FOR) {
        visit(b, s, n->b);  // the iterable, call or filter; the rest has a scope of its own
    } else {
        visit_all(b, s, n->a);
        visit_all(b, s, n->b);
        visit_all(b, s, n->c);
    }
    jinja_leave(b->j);
}

// --------------------------------------------------------------------------------------------
// Names

static void resolve(Binder *b, JScope *s, JNode *n, bool soft);

static void resolve_all(Binder *b, JScope *s, JNode *list, bool soft)
{
    for (; list && !b->j->failed; list = list->next) {
        resolve(b, s, list, soft);
    }
}

static JScope *open_scope(Binder *b, JScope *parent)
{
    static JScope no_scope;
    JScope *s = jinja_take(b->j, 1, sizeof *s);
    if (!s) {
        return &no_scope;
    }
    s->parent = parent;
    return s;
}

// Does a body mention a name?
static bool mentions(const JNode *n, const char *name)
{
    for (; n; n = n->next) {
        if ((n->kind == N_NAME && jinja_is(n->value, name)) || mentions(n->a, name) ||
            mentions(n->b, name) || mentions(n->c, name) || mentions(n->d, name) ||
            mentions(n->e, name)) {
            return true;
        }
    }
    return false;
}

// The slot of a macro's special parameter; -1 if its body has no use for it.
static int32_t special_parameter(Binder *b, JNode *n, const char *name)
{
    const JValue literal = jinja_literal(b->j, name);
    for (const JNode *p = n->a; p; p = p->next) {
        if (jinja_is(p->value, name)) {
            return -1;
        }
    }
    if (b->j->failed || !mentions(n->c, name)) {
        return -1;
    }
    declare_parameter(b, n->scope, literal);
    const JSymbol *own = own_symbol(b, n->scope, literal);
    return own ? (int32_t)(own - n->scope->symbols) : -1;
}

static void resolve_macro(Binder *b, JScope *s, JNode *n)
{
    n->scope = open_scope(b, s);
    for (const JNode *p = n->a; p; p = p->next) {
        if (own_symbol(b, n->scope, p->value)) {
            b->j->line = p->line;
            jinja_fail(b->j, "duplicate parameter '%.*s'", (int)p->value.size,
                       jinja_bytes(p->value));
        }
        declare_parameter(b, n->scope, p->value);
    }
    for (const JNode *p = n->a; p; p = p->next) {
        visit(b, n->scope, p->a);
    }
    visit_all(b, n->scope, n->c);
    n->caller = special_parameter(b, n, "caller");
    n->kwargs = special_parameter(b, n, "kwargs");
    n->varargs = special_parameter(b, n, "varargs");
    for (JNode *p = n->a; p; p = p->next) {
        resolve(b, n->scope, p->a, false);
    }
    resolve_all(b, n->scope, n->c, false);
}

static void resolve_for(Binder *b, JScope *s, JNode *n, bool soft)
{
    resolve(b, s, n->b, soft);
    n->scope = open_scope(b, s);
    store_target(b, n->scope, n->a, true);
    const JValue loop = jinja_literal(b->j, "loop");
    uint32_t hops;
    declare_parameter(b, n->scope, loop);
    n->caller = (int32_t)lookup(b, n->scope, loop, &hops);
    visit_all(b, n->scope, n->c);
    resolve(b, n->scope, n->a, false);
    resolve_all(b, n->scope, n->c, false);
    n->other = open_scope(b, s);
    visit_all(b, n->other, n->d);
    resolve_all(b, n->other, n->d, false);
    // The targets come first in both scopes, hence have the same slots.
    n->test_scope = open_scope(b, s);
    store_target(b, n->test_scope, n->a, true);
    visit(b, n->test_scope, n->e);
    resolve(b, n->test_scope, n->e, false);
}

static void resolve_block(Binder *b, JScope *s, JNode *n, bool soft)
{
    n->scope = open_scope(b, s);
    for (JNode *set = n->kind == N_WITH ? n->a : NULL; set; set = set->next) {
        resolve(b, s, set->b, soft);
        store_target(b, n->scope, set->a, true);
        resolve(b, n->scope, set->a, false);
    }
    visit_all(b, n->scope, n->c);
    visit(b, n->scope, n->b);
    resolve_all(b, n->scope, n->c, false);
    resolve(b, n->scope, n->b, false);
    if (n->kind == N_SET_BLOCK) {
        resolve(b, s, n->a, soft);
    }
}

static void resolve_kids(Binder *b, JScope *s, JNode *n, bool soft)
{
    if ((n->kind == N_FILTER || n->kind == N_TEST) && !n->builtin && !soft) {
        b->j->line = n->line;
        jinja_fail(b->j, "there is no %s '%.*s'", n->kind == N_FILTER ? "filter" : "test",
                   (int)n->value.size, jinja_bytes(n->value));
    }
    // What an if may leave out fails only when it is run.
    soft |= n->kind == N_COND || n->kind == N_IF;
    resolve_all(b, s, n->a, soft);
    resolve_all(b, s, n->b, soft);
    resolve_all(b, s, n->c, soft);
    resolve_all(b, s, n->d, soft);
}

static void resolve(Binder *b, JScope *s, JNode *n, bool soft)
{
    if (!n || !jinja_enter(b->j)) {
        return;
    }
    if (n->kind == N_NAME || n->kind == N_MACRO) {
        n->slot = (uint32_t)lookup(b, s, n->value, &n->hops);
    }
    if (n->kind == N_FOR) {
        resolve_for(b, s, n, soft);
    } else if (n->kind == N_MACRO || n->kind == N_CALL_BLOCK) {
        resolve(b, s, n->b, soft);
        resolve_macro(b, s, n);
    } else if (n->kind == N_SET_BLOCK || n->kind == N_FILTER_BLOCK || n->kind == N_WITH ||
               n->kind == N_GENERATION) {
        resolve_block(b, s, n, soft);
    } else {
        resolve_kids(b, s, n, soft);
    }
    jinja_leave(b->j);
}

void jinja_bind_names(Jinja *j, struct JinjaTemplate *t)
{
    Binder b = {j, t};
    t->scope = open_scope(&b, NULL);
    visit_all(&b, t->scope, t->body);
    resolve_all(&b, t->scope, t->body, false);
}
