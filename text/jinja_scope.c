// jinja_scope.c - which names are undefined where a scope begins. See jinja_ast.h.
//
// The template, each macro, loop and block that collects text has a scope. A name means the variable
// of the innermost scope that has set it, else what the caller gave the template. But Jinja2 decides
// before a template runs which scope a name belongs to, so a name that a scope sets later hides what
// the caller gave:
//
//     {{ x }} {% set x = 1 %}                    the caller's x: it is read first
//     {% if a %}{% set x = 1 %}{% endif %}       the caller's x, as it may not be set
//     {% macro m() %}{{ x }}{% endmacro %}
//     {{ m() }}{% set x = 1 %}                   undefined: hidden from the start
//
// Names of outer scopes are not hidden: a scope begins with what they are there.
#include "text/jinja_ast.h"

typedef struct Scope {
    Jinja *j;
    const struct Scope *outer;
    uint8_t *seen;  // (n_names): the scope reads or sets it
    size_t n_names;
    JNode *node;  // gets the hidden names
} Scope;

static bool seen_outside(const Scope *s, uint32_t id)
{
    for (s = s->outer; s; s = s->outer) {
        if (s->seen[id]) {
            return true;
        }
    }
    return false;
}

// `sure`: the name is set whenever the scope's body is run.
static void set_name(Scope *s, uint32_t id, bool sure)
{
    if (!s->seen[id] && sure && !seen_outside(s, id)) {
        s->node->hidden[s->node->n_hidden++] = id;
    }
    s->seen[id] = 1;
}

static void set_target(Scope *s, const JNode *target, bool sure)
{
    if (target->kind == N_NAME) {
        set_name(s, target->id, sure);
    } else if (target->kind == N_ATTRIBUTE_TARGET) {
        s->seen[target->a->id] = 1;
    }
    for (const JNode *i = target->kind == N_TUPLE ? target->a : NULL; i; i = i->next) {
        set_target(s, i, sure);
    }
}

// Reads statements or expressions in the order in which they run, without the scopes inside.
static void visit(Scope *s, const JNode *n, bool sure)
{
    if (!jinja_enter(s->j)) {
        return;
    }
    for (; n && jinja_step(s->j, 1); n = n->next) {
        if (n->kind == N_NAME) {
            s->seen[n->id] = 1;
        } else if (n->kind == N_MACRO) {
            set_name(s, n->id, sure);
        } else if (n->kind == N_IF) {
            visit(s, n->a, sure);
            visit(s, n->c, false);
            visit(s, n->d, false);
        } else if (n->kind == N_FOR || n->kind == N_FILTER_BLOCK || n->kind == N_CALL_BLOCK) {
            visit(s, n->b, sure);
        } else if (n->kind < N_SET) {
            visit(s, n->a, sure);
            visit(s, n->b, sure);
            visit(s, n->c, sure);
            visit(s, n->d, sure);
        }
        if (n->kind == N_SET || n->kind == N_SET_BLOCK) {
            visit(s, n->kind == N_SET ? n->b : NULL, sure);
            set_target(s, n->a, sure);
        }
    }
    jinja_leave(s->j);
}

static void open_scope(const Scope *outer, JNode *n, uint32_t loop);

static void open_scopes(const Scope *s, JNode *list, uint32_t loop)
{
    if (!jinja_enter(s->j)) {
        return;
    }
    for (; list && !s->j->failed; list = list->next) {
        if (list->kind == N_IF) {
            open_scopes(s, list->c, loop);
            open_scopes(s, list->d, loop);
        } else if (list->kind >= N_FOR) {
            open_scope(s, list, loop);
        }
    }
    jinja_leave(s->j);
}

// Finds what the scope of a node hides, and then those inside, which need all names of this one.
static void open_scope(const Scope *outer, JNode *n, uint32_t loop)
{
    Scope s = {outer->j, outer->seen ? outer : NULL, NULL, outer->n_names, n};
    s.seen = jinja_take(s.j, s.n_names, 1);
    n->hidden = jinja_take(s.j, s.n_names, sizeof *n->hidden);
    if (!s.seen || !n->hidden) {
        return;
    }
    if (n->kind == N_FOR) {
        set_target(&s, n->a, false);
        s.seen[loop] = 1;
    }
    const bool macro = n->kind == N_MACRO || n->kind == N_CALL_BLOCK;
    if (macro && n->d) {
        s.seen[n->d->id] = 1;
    }
    for (const JNode *p = macro ? n->a : NULL; p; p = p->next) {
        s.seen[p->id] = 1;
    }
    for (const JNode *p = macro ? n->a : NULL; p; p = p->next) {
        visit(&s, p->a, true);
    }
    visit(&s, n->c, true);
    open_scopes(&s, n->c, loop);
    if (n->kind == N_FOR) {
        open_scopes(outer, n->d, loop);
    }
}

void jinja_find_hidden(Jinja *j, struct JinjaTemplate *t)
{
    const Scope none = {.j = j, .n_names = t->names.n};
    open_scope(&none, t->body, t->loop);
}
