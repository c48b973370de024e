// jinja_value.c - values of a rendering, and what Python does with them. See jinja_value.h.
//
// A string is a part of a text. Concatenation appends to the left one's text when that ends there,
// as Go's append does, so a template that builds its output piece by piece takes linear time:
//
//     text    | s y s t e m \n u s e r |     |      used 11, capacity 13
//     runs      6: template   11: value 3
//     strings   [---- a ----]
//               [-------- a + b ------]
#include "text/jinja_value.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "text/case_tables.h"

// --------------------------------------------------------------------------------------------
// Errors, limits, memory

JValue jinja_fail(Jinja *j, const char *format, ...)
{
    char text[sizeof j->err->message];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (!j->failed) {
        error_set(j->err, ERROR_INPUT, "%s: line %u: %s", j->name, (unsigned)j->line, text);
    }
    j->failed = true;
    return (JValue){.kind = J_NONE};
}

JValue jinja_fail_undefined(Jinja *j, JValue u)
{
    if (j->failed) {  // after an error, a value may be of any kind
        return jinja_none();
    }
    const int n = (int)(u.size < 200 ? u.size : 200);
    const char *name = u.text ? jinja_bytes(u) : "";
    if (u.owner == J_MISSING) {
        return jinja_fail(j, "'%.*s' is undefined", n, name);
    }
    const JValue owner = {.kind = u.owner};
    return u.safe ? jinja_fail(j, "access to '%.*s' of a %s is not allowed", n, name,
                               jinja_kind(owner))
                  : jinja_fail(j, "a %s has no attribute '%.*s'", jinja_kind(owner), n, name);
}

bool jinja_step(Jinja *j, size_t n)
{
    if (n > j->left.steps && !j->failed) {
        jinja_fail(j, "the template takes too many steps");
    }
    j->left.steps -= j->failed ? 0 : n;
    return !j->failed;
}

bool jinja_enter(Jinja *j)
{
    if (j->left.depth == 0) {
        jinja_fail(j, "calls, loops or values are nested too deeply");
    }
    j->left.depth -= !j->failed;
    return !j->failed;
}

void jinja_leave(Jinja *j) { j->left.depth++; }

// Memory in blocks, each larger than all before it; the newest comes first.
struct JinjaArena {
    struct Block {
        struct Block *older;
        size_t size, used;
        _Alignas(16) char bytes[];
    } * newest;
};

#define FIRST_BLOCK ((size_t)1 << 13)

JinjaArena *jinja_arena_new(void) { return calloc(1, sizeof(JinjaArena)); }

void jinja_arena_reset(JinjaArena *a)
{
    while (a->newest && a->newest->older) {
        struct Block *older = a->newest->older;
        a->newest->older = older->older;
        free(older);
    }
    if (a->newest) {
        a->newest->used = 0;
    }
}

void jinja_arena_free(JinjaArena *a)
{
    if (a) {
        jinja_arena_reset(a);
        free(a->newest);
        free(a);
    }
}

void *jinja_take(Jinja *j, size_t count, size_t size)
{
    size_t bytes;
    struct Block *b = j->arena->newest;
    if (j->failed || !size_mul(count, size, &bytes) || bytes > j->left.memory) {
        jinja_fail(j, "the template takes too much memory");
        return NULL;
    }
    bytes = round_up(bytes, 16);
    if (!b || b->size - b->used < bytes) {
        const size_t doubled = b ? 2 * b->size : FIRST_BLOCK;
        const size_t room = doubled > bytes ? doubled : bytes;
        b = malloc(sizeof *b + room);
        if (!b) {
            j->failed = true;
            error_memory(j->err, "a chat template", room);
            return NULL;
        }
        *b = (struct Block){j->arena->newest, room, 0};
        j->arena->newest = b;
    }
    j->left.memory -= bytes < j->left.memory ? bytes : j->left.memory;
    char *p = b->bytes + b->used;
    b->used += bytes;
    return memset(p, 0, bytes);
}

void *jinja_grow(Jinja *j, const void *old, size_t n, size_t *capacity, size_t item)
{
    const size_t more = *capacity ? 2 * *capacity : 8;
    void *p = jinja_take(j, more, item);
    if (p && n) {
        memcpy(p, old, n * item);
    }
    *capacity = p ? more : *capacity;
    return p;
}

// --------------------------------------------------------------------------------------------
// Strings

// Stands for texts and lists for which there was no memory; nothing is ever added to it.
static char no_bytes[1];
static JText no_text = {.bytes = no_bytes};
static JList no_items;
static JDict no_members;

JText *jinja_text(Jinja *j)
{
    JText *t = jinja_take(j, 1, sizeof *t);
    if (!t) {
        return &no_text;
    }
    t->bytes = no_bytes;
    return t;
}

// Makes room for `size` more bytes and a run of them.
static bool text_reserve(Jinja *j, JText *t, size_t size)
{
    if (size > t->capacity - t->used) {
        size_t capacity = t->used + size;  // doubled by grow
        if (capacity > INT32_MAX) {
            jinja_fail(j, "a string is too long");
            return false;
        }
        char *bytes = jinja_grow(j, t->bytes, t->used, &capacity, 1);
        if (!bytes) {
            return false;
        }
        t->bytes = bytes;
        t->capacity = (uint32_t)capacity;
    }
    if (t->n_runs == t->runs_capacity) {
        size_t capacity = t->runs_capacity;
        JRun *runs = jinja_grow(j, t->runs, t->n_runs, &capacity, sizeof *runs);
        if (!runs) {
            return false;
        }
        t->runs = runs;
        t->runs_capacity = (uint32_t)capacity;
    }
    return true;
}

void jinja_add(Jinja *j, JText *t, const char *bytes, size_t size, uint32_t mark)
{
    if (size == 0 || !jinja_step(j, size / BYTES_PER_STEP) || !text_reserve(j, t, size)) {
        return;
    }
    memcpy(t->bytes + t->used, bytes, size);
    t->used += (uint32_t)size;
    if (t->n_runs && t->runs[t->n_runs - 1].mark == mark) {
        t->runs[t->n_runs - 1].end = t->used;
    } else {
        t->runs[t->n_runs++] = (JRun){t->used, mark};
    }
}

void jinja_add_text(Jinja *j, JText *t, const char *text, uint32_t mark)
{
    jinja_add(j, t, text, strlen(text), mark);
}

// The run of a text that holds byte `at`, which is before the end.
static const JRun *run_at(const JText *t, size_t at)
{
    size_t low = 0, high = t->n_runs - 1;
    while (low < high) {
        const size_t middle = (low + high) / 2;
        if (t->runs[middle].end > at) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return &t->runs[low];
}

uint32_t jinja_mark_at(JValue s, size_t at)
{
    if (s.text->n_runs == 0) {
        return 0;
    }
    at = at + s.at < s.text->used ? at + s.at : s.text->used - 1;
    return run_at(s.text, at)->mark;
}

void jinja_add_string(Jinja *j, JText *t, JValue s)
{
    const size_t end = (size_t)s.at + s.size;
    for (size_t at = s.at; at < end && jinja_step(j, 1);) {
        const JRun r = *run_at(s.text, at);
        const size_t stop = r.end < end ? r.end : end;
        jinja_add(j, t, s.text->bytes + at, stop - at, r.mark);
        at = stop;
    }
}

JValue jinja_string(JText *t) { return (JValue){.kind = J_STRING, .text = t, .size = t->used}; }

JValue jinja_literal(Jinja *j, const char *text)
{
    JText *t = jinja_text(j);
    jinja_add_text(j, t, text, 0);
    return jinja_string(t);
}

JValue jinja_concat(Jinja *j, JValue a, JValue b)
{
    if (a.size == 0 || b.size == 0) {
        return b.size ? b : a;
    }
    JValue sum = a;
    if (a.at + a.size != a.text->used || a.text->capacity - a.text->used < b.size) {
        sum = jinja_string(jinja_text(j));
        text_reserve(j, sum.text, (size_t)a.size + b.size);
        jinja_add_string(j, sum.text, a);
        sum.safe = a.safe;
    }
    jinja_add_string(j, sum.text, b);
    sum.size = j->failed ? 0 : a.size + b.size;
    return sum;
}

const char *jinja_search(Jinja *j, JValue in, size_t from, JValue what)
{
    if (from > in.size || what.size > in.size - from || !jinja_step(j, in.size / BYTES_PER_STEP)) {
        return NULL;
    }
    const char *p = jinja_bytes(in) + from, *w = jinja_bytes(what);
    const char *last = jinja_bytes(in) + in.size - what.size;
    while (what.size && p <= last && (p = memchr(p, *w, (size_t)(last - p) + 1))) {
        if (memcmp(p, w, what.size) == 0 || !jinja_step(j, 1 + what.size / BYTES_PER_STEP)) {
            break;
        }
        p++;
    }
    return !p || p > last || j->failed ? NULL : p;
}

size_t jinja_char(JValue s, size_t at, uint32_t *c)
{
    const char *p = jinja_bytes(s) + at;
    const int n = (uint8_t)*p < 0x80 ? 1 : utf8_scan(p, s.size - at);
    *c = n > 0 ? utf8_code_point(p, n) : 0xdc00u + (uint8_t)*p;
    return n > 0 ? (size_t)n : 1;
}

// How many of the `most` bytes from `at` are ASCII before the first that is not, rounded down to
// whole words.
static size_t ascii_words(JValue s, size_t at, size_t most)
{
    const char *p = jinja_bytes(s) + at;
    size_t n = 0;
    for (uint64_t word; most - n >= sizeof word; n += sizeof word) {
        memcpy(&word, p + n, sizeof word);
        if (word & 0x8080808080808080) {
            break;
        }
    }
    return n;
}

size_t jinja_length(JValue s)
{
    size_t n = 0;
    uint32_t c;
    for (size_t at = 0; at < s.size;) {
        const size_t words = ascii_words(s, at, s.size - at);
        n += words;
        at += words;
        if (at < s.size) {
            at += jinja_char(s, at, &c);
            n++;
        }
    }
    return n;
}

size_t jinja_offset(JValue s, size_t n)
{
    size_t at = 0;
    uint32_t c;
    while (n && at < s.size) {
        const size_t left = s.size - at, words = ascii_words(s, at, n < left ? n : left);
        at += words;
        n -= words;
        if (n && at < s.size) {
            at += jinja_char(s, at, &c);
            n--;
        }
    }
    return at;
}

void jinja_add_code(Jinja *j, JText *t, uint32_t c, uint32_t mark)
{
    char b[4];
    size_t n = 0;
    if (c < 0x80 || (c >= 0xdc80 && c <= 0xdcff)) {  // the latter: a byte that is not UTF-8
        b[n++] = (char)(c & 0xff);
    } else if (c < 0x800) {
        b[n++] = (char)(0xc0 | c >> 6);
    } else if (c < 0x10000) {
        b[n++] = (char)(0xe0 | c >> 12);
        b[n++] = (char)(0x80 | (c >> 6 & 63));
    } else {
        b[n++] = (char)(0xf0 | c >> 18);
        b[n++] = (char)(0x80 | (c >> 12 & 63));
        b[n++] = (char)(0x80 | (c >> 6 & 63));
    }
    if (n && (uint8_t)b[0] >= 0xc0) {
        b[n++] = (char)(0x80 | (c & 63));
    }
    jinja_add(j, t, b, n, mark);
}

// A safe string stays as it is; HTML's signs in others are escaped.
static JValue escape(Jinja *j, JValue s)
{
    static const char signs[] = "&<>'\"";
    static const char *const escapes[] = {"&amp;", "&lt;", "&gt;", "&#39;", "&#34;"};
    JText *t = jinja_text(j);
    for (size_t i = 0; i < s.size && !s.safe && !j->failed; i++) {
        const char *c = jinja_bytes(s) + i, *sign = *c ? strchr(signs, *c) : NULL;
        const char *text = sign ? escapes[sign - signs] : c;
        jinja_add(j, t, text, sign ? strlen(text) : 1, jinja_mark_at(s, i));
    }
    JValue escaped = s.safe ? s : jinja_string(t);
    escaped.safe = true;
    return escaped;
}

// --------------------------------------------------------------------------------------------
// Lists and dictionaries

JList *jinja_list(Jinja *j, size_t capacity)
{
    JList *l = jinja_take(j, 1, sizeof *l);
    JValue *items = jinja_take(j, capacity, sizeof *items);
    if (!l || !items) {
        return &no_items;
    }
    l->items = items;
    l->capacity = capacity;
    return l;
}

void jinja_push(Jinja *j, JList *l, JValue v)
{
    if (l->n == l->capacity) {
        JValue *items = jinja_grow(j, l->items, l->n, &l->capacity, sizeof *items);
        if (!items) {
            return;
        }
        l->items = items;
    }
    l->items[l->n++] = v;
}

JValue jinja_pair(Jinja *j, JValue a, JValue b)
{
    JList *l = jinja_list(j, 2);
    jinja_push(j, l, a);
    jinja_push(j, l, b);
    return jinja_list_value(J_TUPLE, l);
}

void jinja_reverse(JList *l)
{
    for (size_t i = 0; i < l->n / 2; i++) {
        const JValue swap = l->items[i];
        l->items[i] = l->items[l->n - 1 - i];
        l->items[l->n - 1 - i] = swap;
    }
}

JValue jinja_list_value(JKind kind, JList *l) { return (JValue){.kind = (uint8_t)kind, .list = l}; }

JDict *jinja_dict(Jinja *j, size_t capacity)
{
    JDict *d = jinja_take(j, 1, sizeof *d);
    JValue *both = jinja_take(j, 2 * capacity, sizeof *both);
    if (!d || !both) {
        return &no_members;
    }
    *d = (JDict){both, both + capacity, 0, capacity};
    return d;
}

JValue jinja_dict_value(JDict *d) { return (JValue){.kind = J_DICT, .dict = d}; }

JValue *jinja_find_name(const JDict *d, const char *name, size_t size)
{
    for (size_t i = 0; i < d->n; i++) {
        const JValue k = d->keys[i];
        if (k.kind == J_STRING && k.size == size && memcmp(jinja_bytes(k), name, size) == 0) {
            return &d->values[i];
        }
    }
    return NULL;
}

JValue *jinja_find(Jinja *j, const JDict *d, JValue key)
{
    if (!jinja_step(j, d->n / 4 + key.size / BYTES_PER_STEP)) {
        return NULL;
    }
    if (key.kind == J_STRING) {
        return jinja_find_name(d, jinja_bytes(key), key.size);
    }
    for (size_t i = 0; i < d->n; i++) {
        if (jinja_equal(j, d->keys[i], key)) {
            return &d->values[i];
        }
    }
    return NULL;
}

static bool hashable(Jinja *j, JValue v)
{
    bool ok = v.kind != J_LIST && v.kind != J_DICT && jinja_enter(j);
    for (size_t i = 0; ok && v.kind == J_TUPLE && i < v.list->n; i++) {
        ok = hashable(j, v.list->items[i]);
    }
    if (v.kind != J_LIST && v.kind != J_DICT && !j->failed) {
        jinja_leave(j);
    }
    return ok;
}

JValue *jinja_find_key(Jinja *j, const JDict *d, JValue key)
{
    if (!hashable(j, key)) {
        jinja_fail(j, "a %s cannot be the key of a dict", jinja_kind(key));
    }
    return jinja_find(j, d, key);
}

void jinja_put(Jinja *j, JDict *d, JValue key, JValue value)
{
    JValue *old = jinja_find_key(j, d, key);
    if (old) {
        *old = value;
    }
    if (old || j->failed) {
        return;
    }
    if (d->n == d->capacity) {
        size_t capacity = d->capacity;
        JValue *keys = jinja_grow(j, d->keys, d->n, &capacity, sizeof *keys);
        JValue *values = jinja_grow(j, d->values, d->n, &d->capacity, sizeof *values);
        if (!keys || !values) {
            return;
        }
        d->keys = keys;
        d->values = values;
    }
    d->keys[d->n] = key;
    d->values[d->n++] = value;
}

static JList *characters(Jinja *j, JValue s)
{
    JList *l = jinja_list(j, s.size);
    uint32_t c;
    s.safe = false;
    for (size_t at = 0, n; at < s.size && !j->failed; at += n) {
        n = jinja_char(s, at, &c);
        jinja_push(j, l, jinja_slice(s, at, n));
    }
    return l;
}

// A list of n items that belong to another list, beginning at `items`, which may be NULL if n is 0.
static JList *borrow_items(Jinja *j, JValue *items, size_t from, size_t n)
{
    JList *l = jinja_take(j, 1, sizeof *l);
    if (!l) {
        return &no_items;
    }
    *l = (JList){.items = n ? items + from : NULL, .n = n, .capacity = n};
    return l;
}

JList *jinja_items(Jinja *j, JValue v)
{
    if (v.kind == J_STRING) {
        return characters(j, v);
    }
    if (v.kind == J_DICT) {
        return borrow_items(j, v.dict->keys, 0, v.dict->n);
    }
    if (v.kind == J_ITERATOR) {
        const size_t from = v.list->next;
        v.list->next = v.list->n;
        return borrow_items(j, v.list->items, from, v.list->n - from);
    }
    if (!jinja_has_list(v) && v.kind != J_UNDEFINED) {
        jinja_fail(j, "a %s cannot be iterated", jinja_kind(v));
    }
    return jinja_has_list(v) && !j->failed ? v.list : &no_items;
}

// --------------------------------------------------------------------------------------------
// Comparison

const char *jinja_kind(JValue v)
{
    static const char *const names[] = {
        "missing value", "Undefined", "NoneType", "bool",   "int",      "float",
        "str",           "list",      "tuple",    "range",  "view",     "generator",
        "dict object",   "Namespace", "macro",    "method", "function", "loop"};
    return names[v.kind];
}

bool jinja_truth(JValue v)
{
    switch (v.kind) {
    case J_BOOL:
    case J_INT:
        return v.integer != 0;
    case J_FLOAT:
        return v.real != 0;
    case J_STRING:
        return v.size > 0;
    case J_LIST:
    case J_TUPLE:
    case J_RANGE:
    case J_VIEW:
        return v.list->n > 0;
    case J_DICT:
        return v.dict->n > 0;
    default:
        return v.kind > J_NONE;
    }
}

bool jinja_number(JValue v, double *real)
{
    *real = v.kind == J_FLOAT ? v.real : (double)v.integer;
    return v.kind >= J_BOOL && v.kind <= J_FLOAT;
}

// < 0, 0, > 0 of two numbers; exact where an integer does not fit a double. NaN: 2.
static int compare_numbers(JValue a, JValue b)
{
    double x, y;
    jinja_number(a, &x);
    jinja_number(b, &y);
    if (a.kind != J_FLOAT && b.kind != J_FLOAT) {
        return (a.integer > b.integer) - (a.integer < b.integer);
    }
    return isnan(x) || isnan(y) ? 2 : (x > y) - (x < y);
}

static int compare_strings(Jinja *j, JValue a, JValue b)
{
    const size_t n = a.size < b.size ? a.size : b.size;
    jinja_step(j, n / BYTES_PER_STEP);
    const int order = memcmp(jinja_bytes(a), jinja_bytes(b), n);
    return order ? (order > 0) - (order < 0) : (a.size > b.size) - (a.size < b.size);
}

static bool equal_dicts(Jinja *j, const JDict *a, const JDict *b)
{
    bool same = a->n == b->n;
    for (size_t i = 0; same && i < a->n; i++) {
        const JValue *other = jinja_find(j, b, a->keys[i]);
        same = other && jinja_equal(j, a->values[i], *other);
    }
    return same;
}

bool jinja_equal(Jinja *j, JValue a, JValue b)
{
    double x, y;
    if (jinja_number(a, &x) && jinja_number(b, &y)) {
        return compare_numbers(a, b) == 0;
    }
    if (a.kind != b.kind || !jinja_step(j, 1 + a.size / BYTES_PER_STEP) || !jinja_enter(j)) {
        return false;
    }
    bool same;
    if (a.kind == J_STRING) {
        same = a.size == b.size && memcmp(jinja_bytes(a), jinja_bytes(b), a.size) == 0;
    } else if (a.kind == J_DICT) {
        same = equal_dicts(j, a.dict, b.dict);
    } else if (a.kind == J_LIST || a.kind == J_TUPLE || a.kind == J_RANGE) {
        same = a.list->n == b.list->n;
        for (size_t i = 0; same && i < a.list->n; i++) {
            same = jinja_equal(j, a.list->items[i], b.list->items[i]);
        }
    } else {
        same = a.kind <= J_NONE || a.list == b.list;
    }
    jinja_leave(j);
    return same;
}

int jinja_compare(Jinja *j, JValue a, JValue b)
{
    double x, y;
    if (a.kind == J_UNDEFINED || b.kind == J_UNDEFINED) {
        jinja_fail_undefined(j, a.kind == J_UNDEFINED ? a : b);
    } else if (jinja_number(a, &x) && jinja_number(b, &y)) {
        return compare_numbers(a, b);
    } else if (a.kind == J_STRING && b.kind == J_STRING) {
        return compare_strings(j, a, b);
    } else {
        const bool lists = a.kind == b.kind && (a.kind == J_LIST || a.kind == J_TUPLE);
        jinja_fail(j, "a %s and a %s have no order%s", jinja_kind(a), jinja_kind(b),
                   lists ? ": that of lists is not supported" : "");
    }
    return 0;
}

bool jinja_contains(Jinja *j, JValue c, JValue item)
{
    if (c.kind == J_STRING) {
        if (item.kind != J_STRING) {
            jinja_fail(j, "'in <str>' needs a str, not a %s", jinja_kind(item));
            return false;
        }
        return jinja_search(j, c, 0, item) != NULL;
    }
    if (c.kind == J_DICT) {
        return jinja_find_key(j, c.dict, item);
    }
    const JList *l = jinja_items(j, c);
    bool found = false;
    for (size_t i = 0; i < l->n && !found && jinja_step(j, 1); i++) {
        found = jinja_equal(j, l->items[i], item);
    }
    return found;
}

void jinja_sort(Jinja *j, JList *l, JList *keys, bool reverse)
{
    for (size_t i = 1; i < l->n && !j->failed; i++) {
        const JValue item = l->items[i], key = keys->items[i];
        size_t to = i;  // equal ones keep their order
        for (; to > 0 && jinja_step(j, 1); to--) {
            const JValue before = keys->items[to - 1];
            if (reverse ? jinja_compare(j, before, key) >= 0 : jinja_compare(j, key, before) >= 0) {
                break;
            }
            l->items[to] = l->items[to - 1];
            keys->items[to] = before;
        }
        l->items[to] = item;
        keys->items[to] = key;
    }
}

// --------------------------------------------------------------------------------------------
// Arithmetic

static JValue repeat(Jinja *j, JValue s, int64_t times)
{
    JText *t = jinja_text(j);
    for (int64_t i = 0; i < times && s.size && jinja_step(j, 1); i++) {
        jinja_add_string(j, t, s);
    }
    JValue repeated = jinja_string(t);
    repeated.safe = s.safe;
    return repeated;
}

static JValue integers(Jinja *j, int op, int64_t a, int64_t b)
{
    int64_t n = 0;
    bool fits = true;
    if (op == '+') {
        fits = !__builtin_add_overflow(a, b, &n);
    } else if (op == '-') {
        fits = !__builtin_sub_overflow(a, b, &n);
    } else if (op == '*') {
        fits = !__builtin_mul_overflow(a, b, &n);
    } else if (b == 0) {
        return jinja_fail(j, "division by zero");
    } else if (b == -1) {
        fits = op == '%' || !__builtin_sub_overflow(0, a, &n);
    } else {  // rounds down, as Python does
        const int64_t rest = a % b, down = rest && (rest < 0) != (b < 0);
        n = op == '%' ? rest + down * b : a / b - down;
    }
    return fits ? jinja_int(n) : jinja_fail(j, "an integer does not fit 64 bits");
}

static JValue reals(Jinja *j, int op, double a, double b)
{
    if (op == '/' && b == 0) {
        return jinja_fail(j, "division by zero");
    }
    return op == '+'   ? jinja_real(a + b)
           : op == '-' ? jinja_real(a - b)
           : op == '*' ? jinja_real(a * b)
           : op == '/' ? jinja_real(a / b)
                       : jinja_fail(j, "// and %% of floats are not supported");
}

static JValue join_lists(Jinja *j, JValue a, JValue b)
{
    JList *l = jinja_list(j, a.list->n + b.list->n);
    for (size_t i = 0; i < a.list->n + b.list->n && jinja_step(j, 1); i++) {
        jinja_push(j, l, i < a.list->n ? a.list->items[i] : b.list->items[i - a.list->n]);
    }
    return jinja_list_value(a.kind, l);
}

JValue jinja_binary(Jinja *j, int op, JValue a, JValue b)
{
    double x, y;
    const bool left = jinja_number(a, &x), numbers = jinja_number(b, &y) && left;
    const bool whole = numbers && a.kind != J_FLOAT && b.kind != J_FLOAT;
    if (a.kind == J_UNDEFINED || b.kind == J_UNDEFINED) {
        return jinja_fail_undefined(j, a.kind == J_UNDEFINED ? a : b);
    }
    if (numbers) {
        return whole && op != '/' ? integers(j, op, a.integer, b.integer) : reals(j, op, x, y);
    }
    if (op == '+' && a.kind == J_STRING && b.kind == J_STRING) {
        return a.safe || b.safe ? jinja_concat(j, escape(j, a), escape(j, b))
                                : jinja_concat(j, a, b);
    }
    if (op == '+' && (a.kind == J_LIST || a.kind == J_TUPLE) && a.kind == b.kind) {
        return join_lists(j, a, b);
    }
    if (op == '*' && a.kind == J_STRING && (b.kind == J_INT || b.kind == J_BOOL)) {
        return repeat(j, a, b.integer);
    }
    const bool ours = op != '*' && (op != '%' || a.kind != J_STRING);  // Python has no other
    return jinja_fail(j, ours ? "%s of a %s and a %s" : "%s of a %s and a %s is not supported",
                      op == 'D' ? "//" : (char[]){(char)op, 0}, jinja_kind(a), jinja_kind(b));
}

// --------------------------------------------------------------------------------------------
// str and repr

// Writes a double as Python does: the fewest digits that give it back.
static void write_real(Jinja *j, JText *to, JValue v)
{
    char digits[32], out[40];
    int precision = 0;
    do {
        snprintf(digits, sizeof digits, "%.*e", precision, v.real);
    } while (precision++ < 17 && isfinite(v.real) && strtod(digits, NULL) != v.real);
    const char *e = strchr(digits, 'e');
    const int exponent = isfinite(v.real) && e ? (int)strtol(e + 1, NULL, 10) : 0;
    if (!isfinite(v.real)) {
        snprintf(out, sizeof out, "%s", isnan(v.real) ? "nan" : v.real < 0 ? "-inf" : "inf");
    } else if (exponent < -4 || exponent >= 16) {
        snprintf(out, sizeof out, "%.*se%+03d", (int)(e - digits), digits, exponent);
    } else {
        const int decimals = precision - 1 - exponent;
        snprintf(out, sizeof out, "%.*f", decimals > 1 ? decimals : 1, v.real);
    }
    jinja_add_text(j, to, out, v.mark);
}

static void write_quoted(Jinja *j, JText *to, JValue s)
{
    const bool single = memchr(jinja_bytes(s), '\'', s.size) &&
                        !memchr(jinja_bytes(s), '"', s.size);
    const char *quote = single ? "\"" : "'";
    jinja_add_text(j, to, s.safe ? "Markup(" : "", 0);
    jinja_add_text(j, to, quote, jinja_mark_at(s, 0));
    uint32_t c;
    for (size_t at = 0, n; at < s.size && !j->failed; at += n) {
        n = jinja_char(s, at, &c);
        char escape[12] = "";
        const char *letter = c && c < 0x20 ? strchr("\nn\rr\tt", (int)c) : NULL;
        if (letter || c == '\\' || c == (uint8_t)*quote) {
            snprintf(escape, sizeof escape, "\\%c", letter ? letter[1] : (int)c);
        } else if (jinja_flags(c) & CASE_UNPRINTABLE || (c >= 0xdc80 && c <= 0xdcff)) {
            snprintf(escape, sizeof escape,
                     c < 0x100     ? "\\x%02x"
                     : c < 0x10000 ? "\\u%04x"
                                   : "\\U%08x",
                     (unsigned)c);
        }
        const uint32_t mark = jinja_mark_at(s, at);
        jinja_add(j, to, *escape ? escape : jinja_bytes(s) + at, *escape ? strlen(escape) : n,
                  mark);
    }
    jinja_add_text(j, to, quote, jinja_mark_at(s, s.size));
    jinja_add_text(j, to, s.safe ? ")" : "", 0);
}

static void write_list(Jinja *j, JText *to, JValue v)
{
    const bool tuple = v.kind == J_TUPLE;
    jinja_add_text(j, to, tuple ? "(" : "[", v.mark);
    for (size_t i = 0; i < v.list->n && jinja_step(j, 1); i++) {
        jinja_add_text(j, to, i ? ", " : "", v.mark);
        jinja_write(j, to, v.list->items[i], true);
    }
    jinja_add_text(j, to, tuple && v.list->n == 1 ? ",)" : tuple ? ")" : "]", v.mark);
}

static void write_dict(Jinja *j, JText *to, JValue v)
{
    jinja_add_text(j, to, "{", v.mark);
    for (size_t i = 0; i < v.dict->n && jinja_step(j, 1); i++) {
        jinja_add_text(j, to, i ? ", " : "", v.mark);
        jinja_write(j, to, v.dict->keys[i], true);
        jinja_add_text(j, to, ": ", v.mark);
        jinja_write(j, to, v.dict->values[i], true);
    }
    jinja_add_text(j, to, "}", v.mark);
}

void jinja_write(Jinja *j, JText *to, JValue v, bool repr)
{
    char digits[24];
    if (!jinja_enter(j)) {
        return;
    }
    if (v.kind == J_UNDEFINED) {
        jinja_add_text(j, to, repr ? "Undefined" : "", 0);
    } else if (v.kind == J_STRING && !repr) {
        jinja_add_string(j, to, v);
    } else if (v.kind == J_STRING) {
        write_quoted(j, to, v);
    } else if (v.kind == J_INT) {
        snprintf(digits, sizeof digits, "%lld", (long long)v.integer);
        jinja_add_text(j, to, digits, v.mark);
    } else if (v.kind == J_FLOAT) {
        write_real(j, to, v);
    } else if (v.kind == J_NONE || v.kind == J_BOOL) {
        jinja_add_text(j, to, v.kind == J_NONE ? "None" : v.integer ? "True" : "False", v.mark);
    } else if (v.kind == J_LIST || v.kind == J_TUPLE) {
        write_list(j, to, v);
    } else if (v.kind == J_DICT) {
        write_dict(j, to, v);
    } else {
        jinja_fail(j, "the text of a %s is not supported", jinja_kind(v));
    }
    jinja_leave(j);
}

JValue jinja_str(Jinja *j, JValue v)
{
    if (v.kind != J_STRING) {
        JText *t = jinja_text(j);
        jinja_write(j, t, v, false);
        v = jinja_string(t);
    }
    v.safe = false;
    return v;
}
