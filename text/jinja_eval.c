// jinja_eval.c - runs a template. See jinja.h.
//
// A frame holds the variables of a scope (jinja_scope.c) while it runs; a name is a number of frames
// outwards and a slot. Text goes to j->out: the output, or what a macro or block collects.
#include <stdlib.h>

#include "text/jinja_ast.h"

typedef struct JFrame {
    struct JFrame *parent;
    JValue *slots;  // (scope->n)
} JFrame;

typedef enum { FLOW_ON, FLOW_BREAK, FLOW_CONTINUE } Flow;

typedef struct JMacro {
    const JNode *node;  // N_MACRO, N_CALL_BLOCK
    JFrame *frame;      // in which it was defined
} JMacro;

typedef struct JLoop {
    const JNode *node;
    JFrame *outer;  // around the loop
    JFrame *test;   // of the filter, or NULL
    JList *items;   // read up to `next`
    size_t next, index0, depth0;
    JValue before, now, after;  // `after` is J_MISSING unless it was looked at
    JValue changed;             // what loop.changed() saw last
} JLoop;

static JValue eval(Jinja *j, JFrame *f, const JNode *n);
static Flow run_body(Jinja *j, JFrame *f, const JNode *list);
static JValue run_loop(Jinja *j, JFrame *f, const JNode *n, JValue over, size_t depth0);

// --------------------------------------------------------------------------------------------
// Variables

static JFrame *frame_up(JFrame *f, uint32_t hops)
{
    for (; hops > 0 && f->parent; hops--) {
        f = f->parent;
    }
    return f;
}

static JFrame *new_frame(Jinja *j, const JScope *s, JFrame *parent)
{
    JFrame *f = jinja_take(j, 1, sizeof *f);
    JValue *slots = jinja_take(j, s->n, sizeof *slots);
    if (!f || !slots) {
        return NULL;
    }
    *f = (JFrame){parent, slots};
    return f;
}

// Gives all variables but parameters what they are before they are set.
static void enter_scope(Jinja *j, JFrame *f, const JScope *s)
{
    for (size_t i = 0; i < s->n; i++) {
        const JSymbol *symbol = &s->symbols[i];
        if (symbol->load == LOAD_GLOBAL) {
            f->slots[i] = j->globals[symbol->from];
        } else if (symbol->load == LOAD_OUTER) {
            f->slots[i] = frame_up(f, symbol->hops)->slots[symbol->from];
        } else if (symbol->load == LOAD_NOTHING) {
            f->slots[i] = (JValue){.kind = J_MISSING};
        }
    }
}

// Stands for what `name` should have been.
static JValue undefined(JValue name, JKind owner)
{
    name.kind = J_UNDEFINED;
    name.owner = (uint8_t)owner;
    name.safe = false;
    return name;
}

static void assign(Jinja *j, JFrame *f, const JNode *target, JValue v)
{
    if (target->kind == N_NAME) {
        frame_up(f, target->hops)->slots[target->slot] = v;
    } else if (target->kind == N_ATTRIBUTE_TARGET) {
        const JValue owner = eval(j, f, target->a);
        if (owner.kind != J_NAMESPACE) {
            jinja_fail(j, "an attribute is assigned to a %s, expected a namespace",
                       jinja_kind(owner));
        } else if (target->value.size && *jinja_bytes(target->value) == '_') {
            jinja_fail(j, "an attribute of a namespace begins with an underscore");
        } else {
            jinja_put(j, owner.dict, target->value, v);
        }
    } else {
        const JList *items = jinja_items(j, v);
        size_t n = 0;
        for (const JNode *t = target->a; t && !j->failed; t = t->next, n++) {
            if (n < items->n) {
                assign(j, f, t, items->items[n]);
            }
        }
        if (n != items->n) {
            jinja_fail(j, "%zu values are assigned to %zu names", items->n, n);
        }
    }
}

// --------------------------------------------------------------------------------------------
// Calls

bool jinja_bind(Jinja *j, const JBuiltin *b, const JArgs *args, JValue *out)
{
    size_t n = 0, used = 0;
    bool by_name = true;
    for (const char *p = b->params; *p; p += strspn(p, " ")) {
        const size_t size = strcspn(p, " ");
        if (*p == '/') {
            by_name = false;
        } else {
            JValue *named = by_name && args->named ? jinja_find_name(args->named, p, size) : NULL;
            out[n] = n < args->n ? args->values[n] : named ? *named : (JValue){.kind = J_MISSING};
            used += n >= args->n && named;
            if (n < b->least && out[n].kind == J_MISSING) {
                jinja_fail(j, "%s needs a value for '%.*s'", b->name, (int)size, p);
            }
            n++;
        }
        p += size;
    }
    if (args->n > n || (args->named && used < args->named->n)) {
        jinja_fail(j, "%s has arguments that it does not take", b->name);
    }
    return !j->failed;
}

JValue jinja_invoke(Jinja *j, const JBuiltin *b, JValue self, const JArgs *args)
{
    JValue bound[JINJA_MAX_PARAMS] = {{0}};
    if (!jinja_step(j, self.kind == J_STRING ? self.size / BYTES_PER_STEP : 0)) {
        return jinja_none();
    }
    JArgs list = *args;
    if (b->params) {
        list = (JArgs){bound, JINJA_MAX_PARAMS, NULL, 0};
        jinja_bind(j, b, args, bound);
    }
    list.how = b->how;
    return j->failed ? jinja_none() : b->call(j, self, &list);
}

// Evaluates arguments; `space` (n_space) holds the first ones by position, if they fit.
static bool eval_args(Jinja *j, JFrame *f, const JNode *list, JArgs *args, JValue *space)
{
    JList values = {space, 0, JINJA_MAX_PARAMS, 0, 0, 0, 0, NULL};
    *args = (JArgs){0};
    for (const JNode *n = list; n && !j->failed; n = n->next) {
        const bool named = n->kind == N_KEYWORD || n->kind == N_STARS;
        const JValue v = eval(j, f, named || n->kind == N_STAR ? n->a : n);
        if (named && !args->named) {
            args->named = jinja_dict(j, 4);
        }
        if (n->kind == N_KEYWORD) {
            jinja_put(j, args->named, n->value, v);
        } else if (n->kind == N_STARS) {
            if (v.kind != J_DICT) {
                jinja_fail(j, "** needs a dict, not a %s", jinja_kind(v));
            }
            for (size_t i = 0; !j->failed && i < v.dict->n; i++) {
                jinja_put(j, args->named, v.dict->keys[i], v.dict->values[i]);
            }
        } else {
            const JList *items = n->kind == N_STAR ? jinja_items(j, v) : NULL;
            for (size_t i = 0; i < (items ? items->n : 1) && !j->failed; i++) {
                jinja_push(j, &values, items ? items->items[i] : v);
            }
        }
    }
    args->values = values.items;
    args->n = values.n;
    return !j->failed;
}

// Runs a body, and returns the text that it writes.
static JValue collect(Jinja *j, JFrame *f, const JNode *body, Flow *flow)
{
    JText *outer = j->out;
    j->out = jinja_text(j);
    *flow = run_body(j, f, body);
    const JValue text = jinja_string(j->out);
    j->out = outer;
    return text;
}

// Binds the arguments of a macro to the slots of its frame.
static void bind_macro(Jinja *j, const JNode *n, JFrame *f, const JArgs *args)
{
    size_t i = 0, used = 0;
    for (const JNode *p = n->a; p; p = p->next, i++) {
        JValue *named = args->named && i >= args->n ? jinja_find(j, args->named, p->value) : NULL;
        f->slots[i] = i < args->n ? args->values[i] : named ? *named : (JValue){.kind = J_MISSING};
        used += named != NULL;
    }
    JValue *caller = args->named ? jinja_find_name(args->named, "caller", 6) : NULL;
    if (n->caller >= 0) {
        f->slots[n->caller] = caller ? *caller : undefined(jinja_literal(j, "caller"), J_MISSING);
        used += caller != NULL;
    }
    JDict *rest = jinja_dict(j, 0);
    for (size_t k = 0; args->named && used < args->named->n && n->kwargs >= 0 && k < args->named->n;
         k++) {
        bool parameter = n->caller >= 0 && jinja_is(args->named->keys[k], "caller");
        for (const JNode *p = n->a; p; p = p->next) {
            parameter |= jinja_equal(j, p->value, args->named->keys[k]);
        }
        if (!parameter) {
            jinja_put(j, rest, args->named->keys[k], args->named->values[k]);
            used++;
        }
    }
    JList *more = jinja_list(j, 0);
    for (size_t k = i; k < args->n; k++) {
        jinja_push(j, more, args->values[k]);
    }
    if ((args->named && used < args->named->n) || (more->n && n->varargs < 0)) {
        jinja_fail(j, "a macro has arguments that it does not take");
    }
    if (n->kwargs >= 0) {
        f->slots[n->kwargs] = jinja_dict_value(rest);
    }
    if (n->varargs >= 0) {
        f->slots[n->varargs] = jinja_list_value(J_TUPLE, more);
    }
}

static JValue call_macro(Jinja *j, const JMacro *m, const JArgs *args)
{
    const JNode *n = m->node;
    JFrame *f = new_frame(j, n->scope, m->frame);
    if (!f) {
        return jinja_none();
    }
    enter_scope(j, f, n->scope);
    bind_macro(j, n, f, args);
    size_t i = 0;
    for (const JNode *p = n->a; p && !j->failed; p = p->next, i++) {
        if (f->slots[i].kind == J_MISSING) {
            f->slots[i] = p->a ? eval(j, f, p->a) : undefined(p->value, J_MISSING);
        }
    }
    Flow flow;
    return collect(j, f, n->c, &flow);
}

JValue jinja_call(Jinja *j, JValue callee, const JArgs *args)
{
    JValue v = jinja_none();
    if (!jinja_step(j, 1) || !jinja_enter(j)) {
        return v;
    }
    if (callee.kind == J_FUNCTION) {
        v = jinja_invoke(j, callee.function, callee, args);
    } else if (callee.kind == J_METHOD) {
        v = jinja_invoke(j, callee.method->builtin, callee.method->self, args);
    } else if (callee.kind == J_MACRO) {
        v = call_macro(j, callee.macro, args);
    } else if (callee.kind == J_LOOP && callee.loop->node->recursive && args->n == 1) {
        const JLoop *l = callee.loop;
        JText *outer = j->out;
        j->out = jinja_text(j);
        run_loop(j, l->outer, l->node, args->values[0], l->depth0 + 1);
        v = jinja_string(j->out);
        j->out = outer;
    } else if (callee.kind == J_JOINER && args->n == 0) {
        v = callee.list->next++ ? callee.list->items[0] : jinja_literal(j, "");
    } else if (callee.kind == J_UNDEFINED) {
        v = jinja_fail_undefined(j, callee);
    } else {
        v = jinja_fail(j, "a %s cannot be called like this", jinja_kind(callee));
    }
    jinja_leave(j);
    return v;
}

static JValue eval_call(Jinja *j, JFrame *f, const JNode *n, const JValue *caller)
{
    JValue space[JINJA_MAX_PARAMS];
    JArgs args;
    bool forbidden = false;
    JValue callee;
    const JBuiltin *method = NULL;
    if (n->a->kind == N_ATTRIBUTE) {
        callee = eval(j, f, n->a->a);
        method = jinja_method(callee, jinja_bytes(n->a->value), n->a->value.size, &forbidden);
        callee = method || j->failed ? callee : jinja_attribute(j, callee, n->a->value);
    } else {
        callee = eval(j, f, n->a);
    }
    if (!eval_args(j, f, n->b, &args, space)) {
        return jinja_none();
    }
    if (caller) {
        args.named = args.named ? args.named : jinja_dict(j, 1);
        jinja_put(j, args.named, jinja_literal(j, "caller"), *caller);
    }
    j->line = n->line;
    return method ? jinja_invoke(j, method, callee, &args) : jinja_call(j, callee, &args);
}

static JValue eval_builtin(Jinja *j, JFrame *f, const JNode *n, JValue self)
{
    JValue space[JINJA_MAX_PARAMS];
    JArgs args;
    if (!eval_args(j, f, n->b, &args, space)) {
        return jinja_none();
    }
    j->line = n->line;
    return n->builtin
               ? jinja_invoke(j, n->builtin, self, &args)
               : jinja_fail(j, "there is no %s '%.*s'", n->kind == N_FILTER ? "filter" : "test",
                            (int)n->value.size, jinja_bytes(n->value));
}

// --------------------------------------------------------------------------------------------
// Attributes, items and slices

static bool fetch(Jinja *j, JLoop *l, JValue *v);

// The length of a loop: what was read of it, and what is left.
static size_t loop_length(Jinja *j, JLoop *l)
{
    if (l->test) {
        JList *rest = jinja_list(j, 0);
        JValue v;
        while (fetch(j, l, &v)) {
            jinja_push(j, rest, v);
        }
        l->test = NULL;
        l->items = rest;
        l->next = 0;
    }
    return l->index0 + 1 + (l->after.kind != J_MISSING) + l->items->n - l->next;
}

static bool peek(Jinja *j, JLoop *l)
{
    return l->after.kind != J_MISSING || fetch(j, l, &l->after);
}

static JValue loop_cycle(Jinja *j, JValue self, const JArgs *args)
{
    return args->n ? args->values[self.loop->index0 % args->n]
                   : jinja_fail(j, "loop.cycle has no items");
}

static JValue loop_changed(Jinja *j, JValue self, const JArgs *args)
{
    JList *seen = jinja_list(j, args->n);
    for (size_t i = 0; i < args->n; i++) {
        jinja_push(j, seen, args->values[i]);
    }
    const JValue now = jinja_list_value(J_TUPLE, seen);
    const bool changed = !jinja_equal(j, self.loop->changed, now);
    self.loop->changed = now;
    return jinja_bool(changed);
}

static JValue loop_attribute(Jinja *j, JValue v, JValue name)
{
    static const JBuiltin cycle = {"loop.cycle", loop_cycle, NULL, 0, 0};
    static const JBuiltin changed = {"loop.changed", loop_changed, NULL, 0, 0};
    JLoop *l = v.loop;
    const int64_t index0 = (int64_t)l->index0;
    const bool reversed = jinja_is(name, "revindex") || jinja_is(name, "revindex0");
    if (jinja_is(name, "index0") || jinja_is(name, "index")) {
        return jinja_int(index0 + (name.size == 5));
    }
    if (jinja_is(name, "first")) {
        return jinja_bool(index0 == 0);
    }
    if (jinja_is(name, "last")) {
        return jinja_bool(!peek(j, l));
    }
    if (reversed || jinja_is(name, "length")) {
        const int64_t n = (int64_t)loop_length(j, l);
        return jinja_int(reversed ? n - index0 - (name.size == 9) : n);
    }
    if (jinja_is(name, "depth") || jinja_is(name, "depth0")) {
        return jinja_int((int64_t)l->depth0 + (name.size == 5));
    }
    if (jinja_is(name, "previtem") || jinja_is(name, "nextitem")) {
        const bool next = *jinja_bytes(name) == 'n';
        const bool there = next ? peek(j, l) : index0 > 0;
        return there ? (next ? l->after : l->before) : undefined(name, J_LOOP);
    }
    if (jinja_is(name, "cycle") || jinja_is(name, "changed")) {
        JMethod *m = jinja_take(j, 1, sizeof *m);
        if (m) {
            *m = (JMethod){v, name.size == 5 ? &cycle : &changed};
            return (JValue){.kind = J_METHOD, .method = m};
        }
    }
    return undefined(name, J_LOOP);
}

// A method of a value, or what stands for none.
static JValue method_of(Jinja *j, JValue v, JValue name)
{
    bool forbidden = false;
    const JBuiltin *b = jinja_method(v, jinja_bytes(name), name.size, &forbidden);
    JMethod *m = b ? jinja_take(j, 1, sizeof *m) : NULL;
    if (!m) {
        JValue none = undefined(name, (JKind)v.kind);
        none.safe = forbidden;
        return none;
    }
    *m = (JMethod){v, b};
    return (JValue){.kind = J_METHOD, .method = m};
}

JValue jinja_attribute(Jinja *j, JValue v, JValue name)
{
    if (v.kind == J_UNDEFINED) {
        return jinja_fail_undefined(j, v);
    }
    if (v.kind == J_LOOP) {
        return loop_attribute(j, v, name);
    }
    if (v.kind == J_CYCLER && jinja_is(name, "current")) {
        return v.list->items[v.list->next];
    }
    if (v.kind == J_NAMESPACE) {
        const JValue *found = jinja_find(j, v.dict, name);
        return found ? *found : undefined(name, J_NAMESPACE);
    }
    const JValue method = method_of(j, v, name);
    const JValue *found = method.kind == J_UNDEFINED && !method.safe && v.kind == J_DICT
                              ? jinja_find(j, v.dict, name)
                              : NULL;
    return found ? *found : method;
}

JValue jinja_item(Jinja *j, JValue v, JValue key)
{
    const bool whole = key.kind == J_INT || key.kind == J_BOOL;
    if (v.kind == J_UNDEFINED) {
        return jinja_fail_undefined(j, v);
    }
    if (v.kind == J_DICT) {
        const JValue *found = jinja_find(j, v.dict, key);
        if (found) {
            return *found;
        }
    }
    if (v.kind == J_STRING && whole) {
        const int64_t n = key.integer < 0 ? (int64_t)jinja_length(v) + key.integer : key.integer;
        const size_t at = n >= 0 ? jinja_offset(v, (size_t)n) : v.size;
        uint32_t c;
        jinja_step(j, v.size / 64);
        if (at < v.size) {
            return jinja_slice(v, at, jinja_char(v, at, &c));
        }
    } else if (whole && v.kind >= J_LIST && v.kind <= J_RANGE) {
        const int64_t n = key.integer + (key.integer < 0 ? (int64_t)v.list->n : 0);
        if (n >= 0 && (uint64_t)n < v.list->n) {
            return v.list->items[n];
        }
    }
    return key.kind == J_STRING
               ? (v.kind == J_DICT ? method_of(j, v, key) : jinja_attribute(j, v, key))
               : undefined(jinja_str(j, key), (JKind)v.kind);
}

// A bound of a slice: a whole number, or `otherwise` where it is left out.
static int64_t bound(Jinja *j, JFrame *f, const JNode *n, int64_t otherwise)
{
    const JValue v = n ? eval(j, f, n) : jinja_none();
    if (v.kind != J_NONE && v.kind != J_INT && v.kind != J_BOOL) {
        jinja_fail(j, "a slice has a %s, expected an integer", jinja_kind(v));
    }
    return v.kind == J_NONE ? otherwise : v.integer;
}

// A bound counted from the end if negative, and brought into range.
static int64_t clamp(int64_t i, int64_t n, int64_t low, int64_t high)
{
    i += i < 0 ? n : 0;
    return i < low ? low : i > high ? high : i;
}

static JValue eval_slice(Jinja *j, JFrame *f, JValue v, const JNode *slice)
{
    const bool string = v.kind == J_STRING;
    if (v.kind == J_UNDEFINED) {
        return jinja_fail_undefined(j, v);
    }
    if (!string && (v.kind < J_LIST || v.kind > J_RANGE)) {
        return jinja_fail(j, "a %s cannot be sliced", jinja_kind(v));
    }
    const int64_t n = (int64_t)(string ? jinja_length(v) : v.list->n);
    const int64_t step = bound(j, f, slice->c, 1), low = step < 0 ? -1 : 0,
                  high = step < 0 ? n - 1 : n;
    int64_t at = bound(j, f, slice->a, INT64_MAX), end = bound(j, f, slice->b, INT64_MAX);
    // Left out, the bounds are the ends; INT64_MAX is as good as the length otherwise.
    at = at == INT64_MAX && !slice->a ? (step < 0 ? high : 0) : clamp(at, n, low, high);
    end = end == INT64_MAX && !slice->b ? (step < 0 ? -1 : n) : clamp(end, n, low, high);
    if (step == 0) {
        return jinja_fail(j, "a slice has the step 0");
    }
    if (!jinja_step(j, (size_t)n / 16)) {
        return jinja_none();
    }
    if (string && step == 1) {
        const size_t from = jinja_offset(v, (size_t)at),
                     to = at < end ? jinja_offset(v, (size_t)end) : from;
        return jinja_slice(v, from, to - from);
    }
    const JList *items = jinja_items(j, v);
    JList *l = jinja_list(j, 0);
    JText *t = jinja_text(j);
    for (; (step < 0 ? at > end : at < end) && jinja_step(j, 1);
         at = __builtin_add_overflow(at, step, &at) ? end : at) {
        if (string) {
            jinja_add_string(j, t, items->items[at]);
        } else {
            jinja_push(j, l, items->items[at]);
        }
    }
    JValue result = string ? jinja_string(t)
                           : jinja_list_value(v.kind == J_TUPLE ? J_TUPLE : J_LIST, l);
    result.safe = v.safe;
    result.mark = v.mark;
    return result;
}

// --------------------------------------------------------------------------------------------
// Expressions

static JValue eval_compare(Jinja *j, JFrame *f, const JNode *n)
{
    JValue left = eval(j, f, n->a);
    bool holds = true;
    for (const JNode *o = n->b; o && holds && !j->failed; o = o->next) {
        const JValue right = eval(j, f, o->a);
        if (o->op == 'e' || o->op == 'n') {
            holds = jinja_equal(j, left, right) == (o->op == 'e');
        } else if (o->op == 'i' || o->op == 'o') {
            holds = jinja_contains(j, right, left) == (o->op == 'i');
        } else {
            const int order = jinja_compare(j, left, right);
            holds = order == 2     ? false
                    : o->op == '<' ? order < 0
                    : o->op == '>' ? order > 0
                    : o->op == 'l' ? order <= 0
                                   : order >= 0;
        }
        left = right;
    }
    return jinja_bool(holds);
}

static JValue eval_items(Jinja *j, JFrame *f, const JNode *n)
{
    JList *l = jinja_list(j, 0);
    for (const JNode *i = n->a; i && !j->failed; i = i->next) {
        jinja_push(j, l, eval(j, f, i));
    }
    return jinja_list_value(n->kind == N_LIST ? J_LIST : J_TUPLE, l);
}

static JValue eval_dict(Jinja *j, JFrame *f, const JNode *n)
{
    JDict *d = jinja_dict(j, 0);
    for (const JNode *i = n->a; i && !j->failed; i = i->next) {
        const JValue key = eval(j, f, i->a);
        jinja_put(j, d, key, eval(j, f, i->b));
    }
    return jinja_dict_value(d);
}

static JValue eval_sign(Jinja *j, JFrame *f, const JNode *n)
{
    const JValue v = eval(j, f, n->a);
    double x;
    if (!jinja_number(v, &x)) {
        return v.kind == J_UNDEFINED ? jinja_fail_undefined(j, v)
                                     : jinja_fail(j, "a %s has no sign", jinja_kind(v));
    }
    if (n->kind == N_PLUS) {
        return v.kind == J_BOOL ? jinja_int(v.integer) : v;
    }
    return v.kind == J_FLOAT ? jinja_real(-x) : jinja_binary(j, '-', jinja_int(0), v);
}

static JValue eval_binary(Jinja *j, JFrame *f, const JNode *n)
{
    const JValue a = eval(j, f, n->a), b = eval(j, f, n->b);
    j->line = n->line;
    if (j->failed) {
        return jinja_none();
    }
    if (n->op == '~') {
        return jinja_concat(j, jinja_str(j, a), jinja_str(j, b));
    }
    return jinja_binary(j, n->op, a, b);
}

static JValue eval_name(JFrame *f, const JNode *n)
{
    const JValue v = frame_up(f, n->hops)->slots[n->slot];
    return v.kind == J_MISSING ? undefined(n->value, J_MISSING) : v;
}

static JValue eval_node(Jinja *j, JFrame *f, const JNode *n)
{
    JValue v;
    switch (n->kind) {
    case N_CONST:
        return n->value;
    case N_NAME:
        return eval_name(f, n);
    case N_TUPLE:
    case N_LIST:
        return eval_items(j, f, n);
    case N_DICT:
        return eval_dict(j, f, n);
    case N_COND:
        v = eval(j, f, n->a);
        return jinja_truth(v) ? eval(j, f, n->b)
               : n->c         ? eval(j, f, n->c)
                      : undefined(jinja_literal(j, "the value of an if without else"), J_MISSING);
    case N_AND:
    case N_OR:
        v = eval(j, f, n->a);
        return jinja_truth(v) == (n->kind == N_OR) ? v : eval(j, f, n->b);
    case N_NOT:
        return jinja_bool(!jinja_truth(eval(j, f, n->a)));
    case N_NEGATE:
    case N_PLUS:
        return eval_sign(j, f, n);
    case N_BINARY:
        return eval_binary(j, f, n);
    case N_COMPARE:
        return eval_compare(j, f, n);
    case N_ATTRIBUTE:
        v = eval(j, f, n->a);
        return j->failed ? v : jinja_attribute(j, v, n->value);
    case N_ITEM:
        v = eval(j, f, n->a);
        return j->failed               ? v
               : n->b->kind == N_SLICE ? eval_slice(j, f, v, n->b)
                                       : jinja_item(j, v, eval(j, f, n->b));
    case N_CALL:
        return eval_call(j, f, n, NULL);
    case N_FILTER:
    case N_TEST:
        v = eval(j, f, n->a);
        return eval_builtin(j, f, n, v);
    default:
        return jinja_fail(j, "a slice is not supported here");
    }
}

static JValue eval(Jinja *j, JFrame *f, const JNode *n)
{
    if (n->kind == N_CONST || n->kind == N_NAME) {
        return n->kind == N_NAME ? eval_name(f, n) : n->value;
    }
    if (!jinja_step(j, 1) || !jinja_enter(j)) {
        return jinja_none();
    }
    j->line = n->line;
    const JValue v = eval_node(j, f, n);
    jinja_leave(j);
    return v;
}

// --------------------------------------------------------------------------------------------
// Statements

// Reads the next item that the loop's test lets through; false at the end.
static bool fetch(Jinja *j, JLoop *l, JValue *v)
{
    while (l->next < l->items->n && jinja_step(j, 1)) {
        const JValue item = l->items->items[l->next++];
        if (l->test) {
            enter_scope(j, l->test, l->node->test_scope);
            assign(j, l->test, l->node->a, item);
        }
        if (!l->test || (!j->failed && jinja_truth(eval(j, l->test, l->node->e)))) {
            *v = item;
            return !j->failed;
        }
    }
    return false;
}

// Makes the next item the current one; false at the end.
static bool advance(Jinja *j, JLoop *l)
{
    JValue v = l->after;
    l->after = (JValue){.kind = J_MISSING};
    if (v.kind == J_MISSING && !fetch(j, l, &v)) {
        return false;
    }
    l->index0 = l->index0 == SIZE_MAX ? 0 : l->index0 + 1;  // SIZE_MAX: before the first item
    l->before = l->now;
    l->now = v;
    return true;
}

static JValue run_loop(Jinja *j, JFrame *f, const JNode *n, JValue over, size_t depth0)
{
    JLoop *l = jinja_take(j, 1, sizeof *l);
    JFrame *inner = new_frame(j, n->scope, f), *test = n->e ? new_frame(j, n->test_scope, f) : NULL;
    JList *items = jinja_items(j, over);
    if (!l || !inner || j->failed) {
        return jinja_none();
    }
    *l = (JLoop){
        .node = n, .outer = f, .test = test, .items = items, .index0 = SIZE_MAX, .depth0 = depth0};
    bool ran = false;
    for (Flow flow = FLOW_ON; flow != FLOW_BREAK && !j->failed && advance(j, l);) {
        enter_scope(j, inner, n->scope);
        assign(j, inner, n->a, l->now);
        inner->slots[n->caller] = (JValue){.kind = J_LOOP, .loop = l};
        flow = run_body(j, inner, n->c);
        ran |= flow == FLOW_ON;
    }
    JFrame *other = !ran && n->d ? new_frame(j, n->other, f) : NULL;
    if (other && !j->failed) {
        enter_scope(j, other, n->other);
        run_body(j, other, n->d);
    }
    return jinja_none();
}

// Writes what a filter or call block gives, which must be a string.
static void write_string(Jinja *j, JValue v)
{
    if (v.kind == J_STRING) {
        jinja_add_string(j, j->out, v);
    } else {
        jinja_fail(j, "a block gives a %s, expected a str", jinja_kind(v));
    }
}

// with, filter and set blocks, and {% generation %}: a scope of its own, whose text may be
// collected.
static Flow run_block(Jinja *j, JFrame *f, const JNode *n)
{
    JFrame *inner = new_frame(j, n->scope, f);
    Flow flow = FLOW_ON;
    if (!inner) {
        return flow;
    }
    enter_scope(j, inner, n->scope);
    if (n->kind == N_WITH) {
        for (const JNode *set = n->a; set && !j->failed; set = set->next) {
            assign(j, inner, set->a, eval(j, f, set->b));
        }
        return run_body(j, inner, n->c);
    }
    if (n->kind == N_GENERATION) {
        return run_body(j, inner, n->c);
    }
    JValue text = collect(j, inner, n->c, &flow);
    // The innermost filter of a chain has no input: it takes the text.
    const JNode *chain[16];
    size_t depth = 0;
    for (const JNode *filter = n->b; filter && depth < 16; filter = filter->a) {
        chain[depth++] = filter;
    }
    while (depth && !j->failed && flow == FLOW_ON) {
        text = eval_builtin(j, inner, chain[--depth], text);
    }
    if (j->failed || flow != FLOW_ON) {
        return flow;
    }
    if (n->kind == N_SET_BLOCK) {
        assign(j, f, n->a, text);
    } else {
        write_string(j, text);
    }
    return FLOW_ON;
}

static JValue new_macro(Jinja *j, JFrame *f, const JNode *n)
{
    JMacro *m = jinja_take(j, 1, sizeof *m);
    if (!m) {
        return jinja_none();
    }
    *m = (JMacro){n, f};
    return (JValue){.kind = J_MACRO, .macro = m};
}

static Flow run(Jinja *j, JFrame *f, const JNode *n)
{
    JValue v;
    switch (n->kind) {
    case N_DATA:
        jinja_add_string(j, j->out, n->value);
        break;
    case N_OUTPUT:
        for (const JNode *i = n->a; i && !j->failed; i = i->next) {
            v = eval(j, f, i);
            jinja_write(j, j->out, v, false);
        }
        break;
    case N_IF:
        v = eval(j, f, n->a);
        return j->failed ? FLOW_ON : run_body(j, f, jinja_truth(v) ? n->c : n->d);
    case N_FOR:
        v = eval(j, f, n->b);
        run_loop(j, f, n, v, 0);
        break;
    case N_SET:
        v = eval(j, f, n->b);
        if (!j->failed) {
            assign(j, f, n->a, v);
        }
        break;
    case N_MACRO:
        f->slots[n->slot] = new_macro(j, f, n);
        break;
    case N_CALL_BLOCK:
        v = new_macro(j, f, n);
        v = eval_call(j, f, n->b, &v);
        write_string(j, v);
        break;
    case N_BREAK:
        return FLOW_BREAK;
    case N_CONTINUE:
        return FLOW_CONTINUE;
    default:
        return run_block(j, f, n);
    }
    return FLOW_ON;
}

static Flow run_body(Jinja *j, JFrame *f, const JNode *list)
{
    Flow flow = FLOW_ON;
    if (!jinja_enter(j)) {
        return flow;
    }
    for (; list && flow == FLOW_ON && jinja_step(j, 1); list = list->next) {
        j->line = list->line;
        flow = run(j, f, list);
    }
    jinja_leave(j);
    return flow;
}

void jinja_run(Jinja *j, const struct JinjaTemplate *t)
{
    JFrame *f = new_frame(j, t->scope, NULL);
    if (f) {
        enter_scope(j, f, t->scope);
        run_body(j, f, t->body);
    }
}
