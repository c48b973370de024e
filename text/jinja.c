// jinja.c - compiles and renders templates. See jinja.h.
//
//     source --jinja_parse--> tree --jinja_find_hidden--> names hidden by scopes --jinja_run--> text
#include "text/jinja.h"

#include <errno.h>
#include <stdlib.h>

#include "base/memory.h"
#include "text/jinja_ast.h"

// Limits of a compilation: dozens of times what known templates need.
#define COMPILE_STEPS  ((size_t)1 << 20)
#define COMPILE_MEMORY ((size_t)16 << 20)
#define COMPILE_DEPTH  200

// What the limits grow by for each byte of the variables.
#define STEPS_PER_BYTE  16
#define MEMORY_PER_BYTE 64
#define OUTPUT_PER_BYTE 16

void jinja_free(JinjaTemplate *t)
{
    if (t) {
        jinja_arena_free(t->arena);
        free(t->name);
        free(t);
    }
}

bool jinja_compile(JinjaTemplate **out, const char *name, const char *source, size_t size,
                   Error *err)
{
    JinjaTemplate *t = calloc(1, sizeof *t);
    *out = NULL;
    if (t) {
        t->arena = jinja_arena_new();
        t->name = strdup(name);
    }
    if (!t || !t->arena || !t->name) {
        jinja_free(t);
        return error_memory(err, "a chat template", sizeof *t);
    }
    Jinja j = {.name = t->name, .arena = t->arena, .err = err, .line = 1};
    j.left = (JinjaLimits){COMPILE_STEPS, COMPILE_MEMORY, SIZE_MAX, COMPILE_DEPTH};
    jinja_parse(&j, t, source, size);
    if (!j.failed) {
        jinja_find_hidden(&j, t);
    }
    if (j.failed) {
        jinja_free(t);
        return false;
    }
    *out = t;
    return true;
}

static bool node_mentions(const JNode *n, const char *name)
{
    for (; n; n = n->next) {
        if ((n->kind != N_DATA && jinja_is(n->value, name)) || node_mentions(n->a, name) ||
            node_mentions(n->b, name) || node_mentions(n->c, name) || node_mentions(n->d, name) ||
            node_mentions(n->e, name)) {
            return true;
        }
    }
    return false;
}

bool jinja_mentions(const JinjaTemplate *t, const char *name)
{
    return node_mentions(t->body, name);
}

// --------------------------------------------------------------------------------------------
// Variables

// The size of a variable: about that of its JSON text.
static size_t variable_bytes(const JsonValue *root)
{
    size_t bytes = 0;
    for (size_t i = 0; i < root->extent; i++) {
        bytes += root[i].size + root[i].name_size + 8;
    }
    return bytes;
}

// A string that points into the caller's bytes.
static JValue borrowed(Jinja *j, const char *bytes, size_t size, uint32_t mark)
{
    JText *t = jinja_text(j);
    JRun *run = jinja_take(j, 1, sizeof *run);
    if (!run || size > INT32_MAX) {
        return size && run ? jinja_fail(j, "a string is too long") : jinja_string(t);
    }
    *run = (JRun){(uint32_t)size, mark};
    if (size) {
        memcpy(&t->bytes, &bytes, sizeof bytes);  // never written through: the text is full
    }
    t->used = t->capacity = (uint32_t)size;
    t->runs = run;
    t->n_runs = t->runs_capacity = size > 0;
    return jinja_string(t);
}

static JValue number(Jinja *j, const JsonValue *v)
{
    if (strpbrk(v->text, ".eE")) {
        return jinja_real(json_real(v));
    }
    errno = 0;
    const long long n = strtoll(v->text, NULL, 10);
    return errno ? jinja_fail(j, "the integer %s of a variable does not fit 64 bits", v->text)
                 : jinja_int(n);
}

// The value of root[at]; `base` is 0, or the mark of root[0].
static JValue load(Jinja *j, const JsonValue *root, size_t at, uint32_t base)
{
    const JsonValue *v = root + at;
    const uint32_t mark = base ? base + (uint32_t)at : 0;
    JValue out = jinja_none();
    if (!jinja_enter(j)) {
        return out;
    }
    if (v->kind == JSON_STRING) {
        out = borrowed(j, v->text, v->size, mark);
    } else if (v->kind == JSON_NUMBER) {
        out = number(j, v);
    } else if (v->kind == JSON_TRUE || v->kind == JSON_FALSE) {
        out = jinja_bool(v->kind == JSON_TRUE);
    } else if (v->kind != JSON_NULL) {
        const bool dict = v->kind == JSON_OBJECT;
        JDict *d = dict ? jinja_dict(j, v->count) : NULL;
        JList *l = dict ? NULL : jinja_list(j, v->count);
        const JsonValue *child = json_first(v);
        for (size_t i = 0; i < v->count && !j->failed; i++, child = json_next(child)) {
            const JValue value = load(j, root, (size_t)(child - root), base);
            if (dict && !j->failed) {
                d->keys[d->n] = borrowed(j, child->name, child->name_size, mark);
                d->values[d->n++] = value;
            } else if (!dict) {
                jinja_push(j, l, value);
            }
        }
        out = dict ? jinja_dict_value(d) : jinja_list_value(J_LIST, l);
    }
    out.mark = mark;
    jinja_leave(j);
    return out;
}

// The mark of the first value of variable i: marks number the values of all user variables.
static uint32_t first_mark(const JinjaInput *input, size_t i)
{
    size_t mark = 1;
    for (size_t k = 0; k < i; k++) {
        mark += input->variables[k].user ? input->variables[k].value->extent : 0;
    }
    return mark + input->variables[i].value->extent > UINT32_MAX ? 0 : (uint32_t)mark;
}

// Sets the globals of the template: variables of the input, else functions, else nothing.
static void load_globals(Jinja *j, const JinjaTemplate *t)
{
    j->globals = jinja_take(j, t->names.n, sizeof *j->globals);
    for (size_t g = 0; g < t->names.n && !j->failed; g++) {
        const char *name = jinja_bytes(t->names.items[g]);
        const size_t size = t->names.items[g].size;
        const JBuiltin *function = jinja_function(name, size);
        if (function) {
            j->globals[g] = (JValue){.kind = J_FUNCTION, .function = function};
        }
        for (size_t i = 0; i < j->input->n_variables; i++) {  // of two the last counts
            const JinjaVariable *v = &j->input->variables[i];
            if (strlen(v->name) == size && memcmp(v->name, name, size) == 0) {
                j->globals[g] = load(j, v->value, 0, v->user ? first_mark(j->input, i) : 0);
            }
        }
    }
}

// --------------------------------------------------------------------------------------------
// Rendering

static const JsonValue *source_of(const JinjaInput *input, uint32_t mark)
{
    for (size_t i = 0; mark && i < input->n_variables; i++) {
        const JinjaVariable *v = &input->variables[i];
        const uint32_t first = v->user ? first_mark(input, i) : 0;
        if (v->user && mark >= first && mark - first < v->value->extent) {
            return v->value + (mark - first);
        }
    }
    return NULL;
}

// Hands out the text in pieces of one origin each.
static void hand_out(Jinja *j, JinjaOutput *out, const JText *text)
{
    TextSpan *spans = jinja_take(j, text->n_runs, sizeof *spans);
    const JsonValue **sources = jinja_take(j, text->n_runs, sizeof *sources);
    if (!spans || !sources) {
        return;
    }
    size_t at = 0;
    for (size_t i = 0; i < text->n_runs; i++) {
        spans[i] = (TextSpan){.text = text->bytes + at,
                              .size = text->runs[i].end - at,
                              .special = text->runs[i].mark == 0};
        sources[i] = source_of(j->input, text->runs[i].mark);
        at = text->runs[i].end;
    }
    out->text = text->bytes;
    out->size = text->used;
    out->spans = spans;
    out->sources = sources;
    out->n_spans = text->n_runs;
}

bool jinja_render(const JinjaTemplate *t, const JinjaInput *input, JinjaOutput *out, Error *err)
{
    JinjaArena *arena = out->arena ? out->arena : jinja_arena_new();
    *out = (JinjaOutput){.arena = arena};
    if (!arena) {
        return error_memory(err, "a chat template", 1);
    }
    jinja_arena_reset(arena);
    Jinja j = {
        .name = t->name, .arena = arena, .err = err, .line = 1, .template = t, .input = input};
    size_t bytes = 0;
    for (size_t i = 0; i < input->n_variables; i++) {
        bytes += variable_bytes(input->variables[i].value);
    }
    j.left = input->limits;
    j.left.steps += bytes * STEPS_PER_BYTE;
    j.left.memory += bytes * MEMORY_PER_BYTE;
    j.left.output += bytes * OUTPUT_PER_BYTE;
    load_globals(&j, t);
    j.out = jinja_text(&j);
    JText *text = j.out;
    if (!j.failed) {
        jinja_run(&j, t);
    }
    if (text->used > j.left.output) {
        jinja_fail(&j, "the text has %u bytes, expected at most %zu", (unsigned)text->used,
                   j.left.output);
    }
    if (!j.failed) {
        hand_out(&j, out, text);
    }
    out->used_date = j.used_date;
    out->refused = j.refused;
    return !j.failed;
}

void jinja_output_free(JinjaOutput *out)
{
    jinja_arena_free(out->arena);
    *out = (JinjaOutput){0};
}
