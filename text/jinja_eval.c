// jinja_eval.c - runs a template. See jinja.h.
//
// A scope holds the variables that have been set in it. Text goes to j->out: the output, or what a
// macro or block collects.
#include <stdlib.h>

#include "text/jinja_ast.h"

typedef struct {
    uint32_t id;
    JValue value;  // J_MISSING: undefined here, whatever it is further out
} JVariable;

typedef struct JScope {
    struct JScope *outer;
    JVariable *variables;  // (capacity)
    size_t n, capacity;
} JScope;

typedef enum { FLOW_ON, FLOW_BREAK, FLOW_CONTINUE } Flow;

typedef struct JMacro {
    const JNode *node;
    JScope *scope;  // in which it was defined
} JMacro;

typedef struct JLoop {
    const JNode *node;
    JScope *test;  // of the filter, or NULL
    JList *items;  // read up to `next`
    size_t next, index0;
    JValue before, now, after;  // `after` is J_MISSING unless it was looked at
} JLoop;

static JValue eval(Jinja *j, JScope *s, const JNode *n);
static Flow run_body(Jinja *j, JScope *s, const JNode *list);

// --------------------------------------------------------------------------------------------
// Variables

static JScope *new_scope(Jinja *j, JScope *outer)
{
    JScope *s = jinja_take(j, 1, sizeof *s);
    if (s) {
        s->outer = outer;
    }
    return s;
}

static JVariable *find_own(Jinja *j, const JScope *s, uint32_t id)
{
    for (size_t i = 0; i < s->n; i++) {
        if (s->variables[i].id == id) {
            return &s->variables[i];
        }
    }
    jinja_step(j, s->n / BYTES_PER_STEP);
    return NULL;
}

static void set_variable(Jinja *j, JScope *s, uint32_t id, JValue value)
{
    JVariable *own = find_own(j, s, id);
    if (!own && s->n == s->capacity) {
        s->variables = jinja_grow(j, s->variables, s->n, &s->capacity, sizeof *s->variables);
    }
    if (j->failed) {
        s->n = 0;
        return;
    }
    own = own ? own : &s->variables[s->n++];
    *own = (JVariable){id, value};
}

// Begins a scope anew, with what its node hides.
static void begin_scope(Jinja *j, JScope *s, const JNode *n)
{
    s->n = 0;
    for (size_t i = 0; i < n->n_hidden; i++) {
        set_variable(j, s, n->hidden[i], (JValue){.kind = J_MISSING});
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

static JValue eval_name(Jinja *j, const JScope *s, const JNode *n)
{
    const JVariable *found = NULL;
    for (; s && !found; s = s->outer) {
        found = find_own(j, s, n->id);
    }
    const JValue v = found ? found->value : j->globals[n->id];
    return v.kind == J_MISSING ? undefined(n->value, J_MISSING) : v;
}

static void assign(Jinja *j, JScope *s, const JNode *target, JValue v)
{
    if (target->kind == N_NAME) {
        set_variable(j, s, target->id, v);
    } else if (target->kind == N_ATTRIBUTE_TARGET) {
        const JValue owner = eval_name(j, s, target->a);
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
                assign(j, s, t, items->items[n]);
            }
        }
        if (n != items->n) {
            jinja_fail(j, "%zu values are assigned to %zu names", items->n, n);
        }
    }
}

// --------------------------------------------------------------------------------------------
// Calls

bool jinja_flag(const JArgs *a, size_t i)
{
    return a->values[i].kind != J_MISSING && jinja_truth(a->values[i]);
}

int64_t jinja_whole(Jinja *j, const JArgs *a, size_t i, int64_t otherwise)
{
    const JValue v = a->values[i];
    if (v.kind != J_INT && v.kind != J_BOOL && v.kind != J_MISSING) {
        jinja_fail(j, "an argument is a %s, expected an int", jinja_kind(v));
    }
    return v.kind == J_MISSING ? otherwise : v.integer;
}

JValue jinja_text_arg(Jinja *j, const JArgs *a, size_t i)
{
    if (a->values[i].kind != J_STRING) {
        jinja_fail(j, "an argument is a %s, expected a str", jinja_kind(a->values[i]));
        return jinja_string(jinja_text(j));
    }
    return a->values[i];
}

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
    if (self.kind == J_STRING && self.safe && !b->safe) {
        return jinja_fail(j, "%s of a safe str is not supported", b->name);
    }
    JArgs list = *args;
    if (b->params) {
        list = (JArgs){bound, JINJA_MAX_PARAMS, NULL, 0};
        jinja_bind(j, b, args, bound);
    }
    list.how = b->how;
    return j->failed ? jinja_none() : b->call(j, self, &list);
}

// Evaluates arguments; `space` (JINJA_MAX_PARAMS) holds those by position, if they fit.
static bool eval_args(Jinja *j, JScope *s, const JNode *list, JArgs *args, JValue *space)
{
    JList values = {space, 0, JINJA_MAX_PARAMS, 0};
    *args = (JArgs){0};
    for (const JNode *n = list; n && !j->failed; n = n->next) {
        const JValue v = eval(j, s, n->kind == N_KEYWORD || n->kind == N_STAR ? n->a : n);
        if (n->kind == N_KEYWORD) {
            args->named = args->named ? args->named : jinja_dict(j, 4);
            jinja_put(j, args->named, n->value, v);
        } else if (n->kind == N_STAR) {
            const JList *items = j->failed ? NULL : jinja_items(j, v);
            for (size_t i = 0; !j->failed && i < items->n; i++) {
                jinja_push(j, &values, items->items[i]);
            }
        } else {
            jinja_push(j, &values, v);
        }
    }
    args->values = values.items;
    args->n = values.n;
    return !j->failed;
}

// Runs a body, and returns the text that it writes.
static JValue collect(Jinja *j, JScope *s, const JNode *body, Flow *flow)
{
    JText *outer = j->out;
    j->out = jinja_text(j);
    *flow = run_body(j, s, body);
    const JValue text = jinja_string(j->out);
    j->out = outer;
    return text;
}

// Sets `caller` in the scope of a macro that takes it. Returns how many named arguments that uses.
static size_t set_caller(Jinja *j, JScope *s, const JNode *caller, const JArgs *args)
{
    if (!caller) {
        return 0;
    }
    const JValue *given = args->named ? jinja_find(j, args->named, caller->value) : NULL;
    set_variable(j, s, caller->id, given ? *given : undefined(caller->value, J_MISSING));
    return given != NULL;
}

static JValue call_macro(Jinja *j, const JMacro *m, const JArgs *args)
{
    JScope *s = new_scope(j, m->scope);
    size_t i = 0;
    if (!s) {
        return jinja_none();
    }
    begin_scope(j, s, m->node);
    size_t used = set_caller(j, s, m->node->d, args);
    for (const JNode *p = m->node->a; p; p = p->next, i++) {
        JValue *named = args->named && i >= args->n ? jinja_find(j, args->named, p->value) : NULL;
        used += named != NULL;
        set_variable(j, s, p->id,
                     i < args->n ? args->values[i]
                     : named     ? *named
                                 : (JValue){.kind = J_MISSING});
    }
    if (i < args->n || (args->named && used < args->named->n)) {
        return jinja_fail(j, "a macro has arguments that it does not take");
    }
    for (const JNode *p = m->node->a; p && !j->failed; p = p->next) {
        if (find_own(j, s, p->id)->value.kind == J_MISSING) {
            const JValue v = p->a ? eval(j, s, p->a) : undefined(p->value, J_MISSING);
            set_variable(j, s, p->id, v);
        }
    }
    Flow flow;
    return collect(j, s, m->node->c, &flow);
}

static JValue call(Jinja *j, JValue callee, const JArgs *args)
{
    JValue v = jinja_none();
    if (!jinja_step(j, 1) || !jinja_enter(j)) {
        return v;
    }
    if (callee.kind == J_FUNCTION) {
        v = jinja_invoke(j, callee.function, callee, args);
    } else if (callee.kind == J_MACRO) {
        v = call_macro(j, callee.macro, args);
    } else if (callee.kind == J_UNDEFINED) {
        v = jinja_fail_undefined(j, callee);
    } else {
        v = jinja_fail(j, "a call of a %s is not supported here", jinja_kind(callee));
    }
    jinja_leave(j);
    return v;
}

// `caller`: the macro that a call block passes; NULL: none.
static JValue eval_call(Jinja *j, JScope *s, const JNode *n, const JValue *caller)
{
    JValue space[JINJA_MAX_PARAMS];
    JArgs args;
    bool forbidden = false;
    const bool attribute = n->a->kind == N_ATTRIBUTE;
    JValue callee = eval(j, s, attribute ? n->a->a : n->a);
    const JBuiltin *method = attribute && !j->failed
                                 ? jinja_method(j, callee, n->a->value, &forbidden)
                                 : NULL;
    if (attribute && !method && !j->failed) {
        callee = jinja_attribute(j, callee, n->a->value);
    }
    if (j->failed || !eval_args(j, s, n->b, &args, space)) {
        return jinja_none();
    }
    if (caller) {
        args.named = args.named ? args.named : jinja_dict(j, 1);
        jinja_put(j, args.named, jinja_literal(j, "caller"), *caller);
    }
    j->line = n->line;
    return method ? jinja_invoke(j, method, callee, &args) : call(j, callee, &args);
}

// Applies a filter or test to a value.
static JValue eval_builtin(Jinja *j, JScope *s, const JNode *n)
{
    JValue space[JINJA_MAX_PARAMS];
    JArgs args;
    const JValue self = eval(j, s, n->a);
    if (j->failed || !eval_args(j, s, n->b, &args, space)) {
        return jinja_none();
    }
    j->line = n->line;
    return n->builtin ? jinja_invoke(j, n->builtin, self, &args)
                      : jinja_fail(j, JINJA_NO_BUILTIN, n->kind == N_FILTER ? "filter" : "test",
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

static JValue loop_attribute(Jinja *j, JLoop *l, JValue name)
{
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
    if (jinja_is(name, "previtem") || jinja_is(name, "nextitem")) {
        const bool next = *jinja_bytes(name) == 'n';
        const bool there = next ? peek(j, l) : index0 > 0;
        return there ? (next ? l->after : l->before) : undefined(name, J_LOOP);
    }
    return jinja_fail(j, "loop.%.*s is not supported", (int)name.size, jinja_bytes(name));
}

// A method of a value, or what stands for none.
static JValue method_of(Jinja *j, JValue v, JValue name)
{
    JValue method = undefined(name, (JKind)v.kind);
    method.kind = jinja_method(j, v, name, &method.safe) ? J_METHOD : J_UNDEFINED;
    return method;
}

JValue jinja_attribute(Jinja *j, JValue v, JValue name)
{
    if (v.kind == J_UNDEFINED) {
        return jinja_fail_undefined(j, v);
    }
    if (v.kind == J_LOOP) {
        return loop_attribute(j, v.loop, name);
    }
    const JValue method = method_of(j, v, name);
    const JValue *found = NULL;
    if (method.kind == J_UNDEFINED && !method.safe && (v.kind == J_DICT || v.kind == J_NAMESPACE)) {
        found = jinja_find(j, v.dict, name);
    }
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
static int64_t bound(Jinja *j, JScope *s, const JNode *n, int64_t otherwise)
{
    const JValue v = n ? eval(j, s, n) : jinja_none();
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

static JValue eval_slice(Jinja *j, JScope *s, const JNode *n)
{
    const JValue v = eval(j, s, n->a);
    const bool string = v.kind == J_STRING;
    if (j->failed || v.kind == J_UNDEFINED) {
        return jinja_fail_undefined(j, v);
    }
    if (!string && (v.kind < J_LIST || v.kind > J_RANGE)) {
        return jinja_fail(j, "a %s cannot be sliced", jinja_kind(v));
    }
    const int64_t size = (int64_t)(string ? jinja_length(v) : v.list->n);
    const int64_t step = bound(j, s, n->d, 1), low = step < 0 ? -1 : 0,
                  high = step < 0 ? size - 1 : size;
    // Left out, the bounds are the ends.
    int64_t at = bound(j, s, n->b, INT64_MAX), end = bound(j, s, n->c, INT64_MAX);
    at = at == INT64_MAX && step > 0 && !n->b ? 0 : clamp(at, size, low, high);
    end = end == INT64_MAX && step < 0 ? -1 : clamp(end, size, low, high);
    if (step == 0) {
        return jinja_fail(j, "a slice has the step 0");
    }
    if (!jinja_step(j, (size_t)size / BYTES_PER_STEP)) {
        return v;
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
    JValue part = string ? jinja_string(t)
                         : jinja_list_value(v.kind == J_TUPLE ? J_TUPLE : J_LIST, l);
    part.safe = v.safe;
    part.mark = v.mark;
    return part;
}

// --------------------------------------------------------------------------------------------
// Expressions

static JValue eval_compare(Jinja *j, JScope *s, const JNode *n)
{
    JValue left = eval(j, s, n->a);
    bool holds = true;
    for (const JNode *o = n->b; o && holds && !j->failed; o = o->next) {
        const JValue right = eval(j, s, o->a);
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

static JValue eval_items(Jinja *j, JScope *s, const JNode *n)
{
    JList *l = jinja_list(j, 0);
    for (const JNode *i = n->a; i && !j->failed; i = i->next) {
        jinja_push(j, l, eval(j, s, i));
    }
    return jinja_list_value(n->kind == N_LIST ? J_LIST : J_TUPLE, l);
}

static JValue eval_dict(Jinja *j, JScope *s, const JNode *n)
{
    JDict *d = jinja_dict(j, 0);
    for (const JNode *i = n->a; i && !j->failed; i = i->next) {
        const JValue key = eval(j, s, i->a);
        jinja_put(j, d, key, eval(j, s, i->b));
    }
    return jinja_dict_value(d);
}

static JValue eval_sign(Jinja *j, JScope *s, const JNode *n)
{
    const JValue v = eval(j, s, n->a);
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

static JValue eval_binary(Jinja *j, JScope *s, const JNode *n)
{
    const JValue a = eval(j, s, n->a), b = eval(j, s, n->b);
    j->line = n->line;
    if (j->failed) {
        return jinja_none();
    }
    if (n->op == '~') {
        return jinja_concat(j, jinja_str(j, a), jinja_str(j, b));
    }
    return jinja_binary(j, n->op, a, b);
}

static JValue eval_node(Jinja *j, JScope *s, const JNode *n)
{
    JValue v;
    switch (n->kind) {
    case N_CONST:
        return n->value;
    case N_NAME:
        return eval_name(j, s, n);
    case N_TUPLE:
    case N_LIST:
        return eval_items(j, s, n);
    case N_DICT:
        return eval_dict(j, s, n);
    case N_COND:
        v = eval(j, s, n->a);
        return jinja_truth(v) ? eval(j, s, n->b)
               : n->c         ? eval(j, s, n->c)
                      : undefined(jinja_literal(j, "the value of an if without else"), J_MISSING);
    case N_AND:
    case N_OR:
        v = eval(j, s, n->a);
        return jinja_truth(v) == (n->kind == N_OR) ? v : eval(j, s, n->b);
    case N_NOT:
        return jinja_bool(!jinja_truth(eval(j, s, n->a)));
    case N_NEGATE:
    case N_PLUS:
        return eval_sign(j, s, n);
    case N_BINARY:
        return eval_binary(j, s, n);
    case N_COMPARE:
        return eval_compare(j, s, n);
    case N_ATTRIBUTE:
        v = eval(j, s, n->a);
        return j->failed ? v : jinja_attribute(j, v, n->value);
    case N_ITEM:
        v = eval(j, s, n->a);
        return j->failed ? v : jinja_item(j, v, eval(j, s, n->b));
    case N_SLICE:
        return eval_slice(j, s, n);
    case N_CALL:
        return eval_call(j, s, n, NULL);
    case N_COLLECTED:
        return j->collected;
    default:
        return eval_builtin(j, s, n);
    }
}

static JValue eval(Jinja *j, JScope *s, const JNode *n)
{
    if (n->kind == N_CONST || n->kind == N_NAME) {
        return n->kind == N_NAME ? eval_name(j, s, n) : n->value;
    }
    if (!jinja_step(j, 1) || !jinja_enter(j)) {
        return jinja_none();
    }
    j->line = n->line;
    const JValue v = eval_node(j, s, n);
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
            l->test->n = 0;
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

static void run_loop(Jinja *j, JScope *s, const JNode *n)
{
    JLoop *l = jinja_take(j, 1, sizeof *l);
    JScope *inner = new_scope(j, s), *test = n->e ? new_scope(j, s) : NULL;
    JList *items = jinja_items(j, eval(j, s, n->b));
    if (!l || !inner || j->failed) {
        return;
    }
    *l = (JLoop){.node = n, .test = test, .items = items, .index0 = SIZE_MAX};
    bool ran = false;
    for (Flow flow = FLOW_ON; flow != FLOW_BREAK && !j->failed && advance(j, l);) {
        begin_scope(j, inner, n);
        set_variable(j, inner, j->template->loop, (JValue){.kind = J_LOOP, .loop = l});
        assign(j, inner, n->a, l->now);
        flow = run_body(j, inner, n->c);
        ran |= flow == FLOW_ON;
    }
    if (!ran && n->d && !j->failed) {
        run_body(j, s, n->d);
    }
}

// set and filter blocks, and {% generation %}: a scope, whose text may be collected.
static Flow run_block(Jinja *j, JScope *s, const JNode *n)
{
    JScope *inner = new_scope(j, s);
    Flow flow = FLOW_ON;
    if (!inner) {
        return flow;
    }
    begin_scope(j, inner, n);
    if (n->kind == N_BLOCK) {
        return run_body(j, inner, n->c);
    }
    JValue text = collect(j, inner, n->c, &flow);
    if (n->b && flow == FLOW_ON && !j->failed) {
        const JValue outer = j->collected;
        j->collected = text;
        text = eval(j, inner, n->b);
        j->collected = outer;
    }
    if (j->failed || flow != FLOW_ON) {
        return flow;
    }
    if (n->kind == N_SET_BLOCK) {
        assign(j, s, n->a, text);
    } else if (text.kind == J_STRING) {
        jinja_add_string(j, j->out, text);
    } else {
        jinja_fail(j, "a block gives a %s, expected a str", jinja_kind(text));
    }
    return FLOW_ON;
}

static void define_macro(Jinja *j, JScope *s, const JNode *n)
{
    JMacro *m = jinja_take(j, 1, sizeof *m);
    if (m) {
        *m = (JMacro){n, s};
        set_variable(j, s, n->id, (JValue){.kind = J_MACRO, .macro = m});
    }
}

static JValue run_call_block(Jinja *j, JScope *s, const JNode *n)
{
    JMacro *m = jinja_take(j, 1, sizeof *m);
    if (!m) {
        return jinja_none();
    }
    *m = (JMacro){n, s};
    const JValue caller = {.kind = J_MACRO, .macro = m};
    return eval_call(j, s, n->b, &caller);
}

static Flow run(Jinja *j, JScope *s, const JNode *n)
{
    JValue v;
    switch (n->kind) {
    case N_DATA:
        jinja_add_string(j, j->out, n->value);
        break;
    case N_OUTPUT:
        v = eval(j, s, n->a);
        jinja_write(j, j->out, v, false);
        break;
    case N_IF:
        v = eval(j, s, n->a);
        return j->failed ? FLOW_ON : run_body(j, s, jinja_truth(v) ? n->c : n->d);
    case N_FOR:
        run_loop(j, s, n);
        break;
    case N_SET:
        v = eval(j, s, n->b);
        if (!j->failed) {
            assign(j, s, n->a, v);
        }
        break;
    case N_MACRO:
        define_macro(j, s, n);
        break;
    case N_CALL_BLOCK:
        v = run_call_block(j, s, n);
        jinja_write(j, j->out, v, false);
        break;
    case N_BREAK:
        return FLOW_BREAK;
    case N_CONTINUE:
        return FLOW_CONTINUE;
    default:
        return run_block(j, s, n);
    }
    return FLOW_ON;
}

static Flow run_body(Jinja *j, JScope *s, const JNode *list)
{
    Flow flow = FLOW_ON;
    if (!jinja_enter(j)) {
        return flow;
    }
    for (; list && flow == FLOW_ON && jinja_step(j, 1); list = list->next) {
        j->line = list->line;
        flow = run(j, s, list);
    }
    jinja_leave(j);
    return flow;
}

void jinja_run(Jinja *j, const struct JinjaTemplate *t)
{
    JScope *s = new_scope(j, NULL);
    if (s) {
        begin_scope(j, s, t->body);
        run_body(j, s, t->body->c);
    }
}
