// jinja_filters.c - filters, tests and global functions of templates, as Jinja2 and transformers
// define them. See jinja_value.h.
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "text/case_tables.h"
#include "text/jinja_value.h"

#define FILTER(name) static JValue filter_##name(Jinja *j, JValue v, const JArgs *a)
#define TEST(name)   static JValue test_##name(Jinja *j, JValue v, const JArgs *a)

// --------------------------------------------------------------------------------------------
// Arguments

static JValue soft_str(Jinja *j, JValue v) { return v.kind == J_STRING ? v : jinja_str(j, v); }

// An argument that is a string; `otherwise` if it is not given.
static JValue text_or(Jinja *j, const JArgs *a, size_t i, const char *otherwise)
{
    return jinja_given(a, i) ? jinja_text_arg(j, a, i) : jinja_literal(j, otherwise);
}

static JValue nothing(void)
{
    static char empty[1];
    static JText no_name = {.bytes = empty};
    return (JValue){.kind = J_UNDEFINED, .owner = J_MISSING, .text = &no_name};
}

// item.a.b.0 for the path "a.b.0"; what is undefined on the way becomes `otherwise`, unless that is
// missing. A path that is not a string is a key.
static JValue get_path(Jinja *j, JValue item, JValue path, JValue otherwise)
{
    const bool keyed = path.kind != J_STRING;
    if (path.kind == J_MISSING || path.kind == J_NONE) {
        return item;
    }
    for (size_t at = 0; !j->failed && (keyed ? at == 0 : at <= path.size); at++) {
        JValue part = path;
        if (!keyed) {
            const char *p = jinja_bytes(path) + at, *dot = memchr(p, '.', path.size - at);
            const size_t n = dot ? (size_t)(dot - p) : path.size - at;
            part = jinja_slice(path, at, n);
            at += n;
            if (memchr(p, ',', n)) {
                return jinja_fail(j, "several attributes are not supported");
            }
            if (n && n < 18 && strspn(p, "0123456789") >= n) {
                part = jinja_int(strtoll(p, NULL, 10));
            }
        }
        item = jinja_item(j, item, part);
        item = item.kind == J_UNDEFINED && otherwise.kind > J_NONE ? otherwise : item;
    }
    return item;
}

// A string in lower case, for comparisons that ignore it.
static JValue fold(Jinja *j, JValue key, bool case_sensitive)
{
    return key.kind == J_STRING && !case_sensitive ? jinja_recase(j, key, 'l') : key;
}

// The keys by which to sort or compare: items, or an attribute of them.
static JList *keys_of(Jinja *j, const JList *items, JValue path, bool case_sensitive)
{
    JList *keys = jinja_list(j, items->n);
    for (size_t i = 0; i < items->n && jinja_step(j, 1); i++) {
        jinja_push(j, keys,
                   fold(j, get_path(j, items->items[i], path, jinja_none()), case_sensitive));
    }
    return keys;
}

static JList *copy_list(Jinja *j, JValue v)
{
    const JList *items = jinja_items(j, v);
    JList *l = jinja_list(j, items->n);
    for (size_t i = 0; i < items->n && jinja_step(j, 1); i++) {
        jinja_push(j, l, items->items[i]);
    }
    return l;
}

// Calls a method of a string or dictionary.
static JValue method(Jinja *j, JValue v, const char *name, JValue *args, size_t n)
{
    bool forbidden;
    const JBuiltin *b = jinja_method(j, v, jinja_literal(j, name), &forbidden);
    return b ? jinja_invoke(j, b, v, &(JArgs){args, n, NULL, 0})
             : jinja_fail(j, "%s of a %s", name, jinja_kind(v));
}

// --------------------------------------------------------------------------------------------
// Numbers

// Reads what Python's int() and float() do: white space at both ends, underscores between digits.
static bool text_to_real(Jinja *j, JValue s, char *text, size_t room, double *out)
{
    const JValue t = jinja_strip(j, s, jinja_none(), true, true);
    size_t n = 0;
    char *end;
    for (size_t i = 0; i < t.size; i++) {
        const char c = jinja_bytes(t)[i];
        const bool between = i && i + 1 < t.size && jinja_bytes(t)[i - 1] != '_';
        if (n + 1 >= room ||
            (c == '_' ? !between : !c || !strchr("+-.0123456789eEinfINFatyATY", c))) {
            return false;
        }
        text[n] = c;
        n += c != '_';
    }
    text[n] = '\0';
    *out = strtod(text, &end);
    return !*end && end != text;
}

static JValue to_int(Jinja *j, double d, JValue otherwise)
{
    return isnan(d)           ? otherwise
           : fabs(d) < 9.2e18 ? jinja_int((int64_t)d)
                              : jinja_fail(j, "a number does not fit 64 bits");
}

FILTER(int)
{
    const JValue otherwise = a->values[0].kind != J_MISSING ? a->values[0] : jinja_int(0);
    char text[400];
    double d;
    if (v.kind == J_UNDEFINED) {
        return jinja_fail_undefined(j, v);
    }
    if (v.kind != J_STRING) {
        const bool number = jinja_number(v, &d);
        return !number             ? otherwise
               : v.kind == J_FLOAT ? to_int(j, d, otherwise)
                                   : jinja_int(v.integer);
    }
    if (!text_to_real(j, v, text, sizeof text, &d) || isinf(d)) {
        return otherwise;
    }
    errno = 0;
    const long long n = strtoll(text, NULL, 10);
    return text[strspn(text, "+-0123456789")] ? to_int(j, d, otherwise)
           : errno                            ? jinja_fail(j, "'%s' does not fit 64 bits", text)
                                              : jinja_int(n);
}

FILTER(float)
{
    char text[400];
    double d;
    if (v.kind == J_UNDEFINED) {
        return jinja_fail_undefined(j, v);
    }
    const bool ok = v.kind == J_STRING ? text_to_real(j, v, text, sizeof text, &d)
                                       : jinja_number(v, &d);
    return ok ? jinja_real(d) : a->values[0].kind != J_MISSING ? a->values[0] : jinja_real(0);
}

// --------------------------------------------------------------------------------------------
// Strings

// Where the word ends that a text begins with: after white space and any of -({[<, which a run of
// such characters is too.
static size_t title_word_end(JValue s, size_t from)
{
    size_t at = from;
    bool ended = false;
    for (uint32_t c; at < s.size;) {
        const size_t n = jinja_char(s, at, &c);
        const bool ends = jinja_is_space(c) || (c < 0x80 && c && strchr("-({[<", (int)c));
        if (ended && !ends) {
            break;
        }
        ended = ends;
        at += n;
    }
    return at;
}

FILTER(title)
{
    (void)a;
    const JValue s = soft_str(j, v);
    JText *out = jinja_text(j);
    for (size_t at = 0, end; at < s.size && jinja_step(j, 1); at = end) {
        uint32_t c;
        const size_t first = at + jinja_char(s, at, &c);
        end = title_word_end(s, at);
        end = end > first ? end : first;
        jinja_add_string(j, out, jinja_recase(j, jinja_slice(s, at, first - at), 'u'));
        jinja_add_string(j, out, jinja_recase(j, jinja_slice(s, first, end - first), 'l'));
    }
    return jinja_string(out);
}

// upper, lower and capitalize.
FILTER(recase) { return jinja_recase(j, soft_str(j, v), a->how); }

FILTER(string) { return (void)a, soft_str(j, v); }

FILTER(safe)
{
    (void)a;
    v = jinja_str(j, v);
    v.safe = true;
    return v;
}

FILTER(trim)
{
    const bool given = jinja_given(a, 0);
    const JValue characters = given ? jinja_text_arg(j, a, 0) : jinja_none();
    return jinja_strip(j, soft_str(j, v), characters, true, true);
}

FILTER(replace)
{
    JValue args[] = {jinja_str(j, a->values[0]), jinja_str(j, a->values[1]),
                     jinja_int(jinja_given(a, 2) ? jinja_whole(j, a, 2, -1) : -1)};
    return method(j, jinja_str(j, v), "replace", args, 3);
}

FILTER(indent)
{
    JValue by = jinja_given(a, 0) ? a->values[0] : jinja_int(4);
    if (v.kind != J_STRING) {
        return v.kind == J_UNDEFINED ? jinja_fail_undefined(j, v)
                                     : jinja_fail(j, "indent of a %s", jinja_kind(v));
    }
    by = by.kind == J_STRING ? by : jinja_binary(j, '*', jinja_literal(j, " "), by);
    const JValue newline = jinja_literal(j, "\n");
    const JValue lines = method(j, jinja_concat(j, v, newline), "splitlines", NULL, 0);
    JText *t = jinja_text(j);
    for (size_t i = 0; !j->failed && i < lines.list->n; i++) {
        const JValue line = lines.list->items[i];
        jinja_add_string(j, t, i ? newline : jinja_slice(line, 0, 0));
        if (i ? jinja_flag(a, 2) || line.size : jinja_flag(a, 1)) {
            jinja_add_string(j, t, by);
        }
        jinja_add_string(j, t, line);
    }
    return jinja_string(t);
}

FILTER(length)
{
    (void)a;
    if (v.kind == J_STRING) {
        return jinja_step(j, v.size / BYTES_PER_STEP) ? jinja_int((int64_t)jinja_length(v)) : v;
    }
    if (jinja_has_list(v) && v.kind != J_ITERATOR) {
        return jinja_int((int64_t)v.list->n);
    }
    return v.kind == J_DICT        ? jinja_int((int64_t)v.dict->n)
           : v.kind == J_UNDEFINED ? jinja_int(0)
                                   : jinja_fail(j, "a %s has no length", jinja_kind(v));
}

// --------------------------------------------------------------------------------------------
// Lists and dictionaries

FILTER(default)
{
    const bool use = v.kind == J_UNDEFINED || (jinja_flag(a, 1) && !jinja_truth(v));
    return !use ? v : a->values[0].kind != J_MISSING ? a->values[0] : jinja_literal(j, "");
}

FILTER(list)
{
    (void)a;
    return jinja_list_value(J_LIST, copy_list(j, v));
}

// first and last.
FILTER(end)
{
    const bool first = a->how == '<';
    if (v.kind == J_ITERATOR) {
        return !first                     ? jinja_fail(j, "last of a generator")
               : v.list->next < v.list->n ? v.list->items[v.list->next++]
                                          : nothing();
    }
    const JList *l = jinja_items(j, v);
    return l->n ? l->items[first ? 0 : l->n - 1] : nothing();
}

FILTER(reverse)
{
    (void)a;
    JList *l = copy_list(j, v);
    if (v.kind == J_STRING) {
        return jinja_fail(j, "reverse of a str is not supported");
    }
    jinja_reverse(l);
    return jinja_list_value(v.kind == J_ITERATOR ? J_LIST : J_ITERATOR, l);
}

FILTER(join)
{
    const JList *l = jinja_items(j, v);
    const JValue between = a->values[0].kind == J_MISSING ? jinja_literal(j, "")
                                                          : jinja_str(j, a->values[0]);
    JText *t = jinja_text(j);
    for (size_t i = 0; i < l->n && jinja_step(j, 1); i++) {
        jinja_add_string(j, t, i ? between : jinja_slice(between, 0, 0));
        jinja_write(j, t, get_path(j, l->items[i], a->values[1], nothing()), false);
    }
    return jinja_string(t);
}

FILTER(sort)
{
    JList *l = copy_list(j, v);
    jinja_sort(j, l, keys_of(j, l, a->values[2], jinja_flag(a, 1)), jinja_flag(a, 0));
    return jinja_list_value(J_LIST, l);
}

FILTER(unique)
{
    const JList *l = jinja_items(j, v), *keys = keys_of(j, l, a->values[1], jinja_flag(a, 0));
    JDict *seen = jinja_dict(j, 8);
    JList *out = jinja_list(j, 0);
    for (size_t i = 0; i < l->n && jinja_step(j, 1); i++) {
        const size_t n = seen->n;
        jinja_put(j, seen, keys->items[i], jinja_none());
        if (seen->n > n) {
            jinja_push(j, out, l->items[i]);
        }
    }
    return jinja_list_value(J_ITERATOR, out);
}

FILTER(items)
{
    (void)a;
    if (v.kind != J_DICT && v.kind != J_UNDEFINED) {
        return jinja_fail(j, "items of a %s", jinja_kind(v));
    }
    JList *l = v.kind == J_DICT ? method(j, v, "items", NULL, 0).list : jinja_list(j, 0);
    return jinja_list_value(J_ITERATOR, l);
}

FILTER(dictsort)
{
    if (v.kind != J_DICT) {
        return v.kind == J_UNDEFINED ? jinja_fail_undefined(j, v)
                                     : jinja_fail(j, "dictsort of a %s", jinja_kind(v));
    }
    const JValue by = text_or(j, a, 1, "key");
    if (!jinja_is(by, "value") && !jinja_is(by, "key")) {
        return jinja_fail(j, "dictsort's by is not 'key' or 'value'");
    }
    JList *l = copy_list(j, method(j, v, "items", NULL, 0));
    const JValue place = jinja_int(jinja_is(by, "value"));
    jinja_sort(j, l, keys_of(j, l, place, jinja_flag(a, 0)), jinja_flag(a, 2));
    return jinja_list_value(J_LIST, l);
}

// The arguments after the first `skip` ones, for a filter or test that is called by its name.
static JArgs rest_of(const JArgs *a, size_t skip)
{
    return (JArgs){a->values + skip, a->n - skip, a->named, 0};
}

FILTER(map)
{
    const JList *l = jinja_truth(v) ? jinja_items(j, v) : jinja_list(j, 0);
    JList *out = jinja_list(j, l->n);
    const JValue *path = a->n == 0 && a->named ? jinja_find_name(a->named, "attribute", 9) : NULL;
    const JValue *otherwise = path ? jinja_find_name(a->named, "default", 7) : NULL;
    const JBuiltin *filter = NULL;
    if (a->n && a->values[0].kind == J_STRING) {
        filter = jinja_filter(jinja_bytes(a->values[0]), a->values[0].size);
    }
    if (l->n && ((!path && !filter) || (path && a->named->n > 1u + (otherwise != NULL)))) {
        return jinja_fail(j, "map needs the name of a filter or an attribute");
    }
    for (size_t i = 0; i < l->n && jinja_step(j, 1); i++) {
        const JArgs rest = path ? *a : rest_of(a, 1);
        jinja_push(j, out,
                   path ? get_path(j, l->items[i], *path, otherwise ? *otherwise : jinja_none())
                        : jinja_invoke(j, filter, l->items[i], &rest));
    }
    return jinja_list_value(J_ITERATOR, out);
}

enum { WANTED = 1, BY_ATTRIBUTE = 2 };

// select, reject, selectattr and rejectattr.
FILTER(select)
{
    const bool wanted = a->how & WANTED, by_attribute = a->how & BY_ATTRIBUTE;
    const JList *l = jinja_truth(v) ? jinja_items(j, v) : jinja_list(j, 0);
    JList *out = jinja_list(j, 0);
    const JBuiltin *test = NULL;
    if (by_attribute && a->n == 0 && l->n) {
        return jinja_fail(j, "selectattr and rejectattr need the name of an attribute");
    }
    if (a->n > by_attribute && a->values[by_attribute].kind == J_STRING) {
        test = jinja_test(jinja_bytes(a->values[by_attribute]), a->values[by_attribute].size);
    }
    if (l->n && a->n > by_attribute && !test) {
        return jinja_fail(j, "select and reject need the name of a test");
    }
    for (size_t i = 0; i < l->n && jinja_step(j, 1); i++) {
        JValue tried = by_attribute ? get_path(j, l->items[i], a->values[0], jinja_none())
                                    : l->items[i];
        if (test) {
            const JArgs rest = rest_of(a, 1u + by_attribute);
            tried = jinja_invoke(j, test, tried, &rest);
        }
        if (jinja_truth(tried) == wanted) {
            jinja_push(j, out, l->items[i]);
        }
    }
    return jinja_list_value(J_ITERATOR, out);
}

// --------------------------------------------------------------------------------------------
// JSON

typedef struct {
    JText *to;
    JValue indent;     // what a level is indented by; J_NONE: all on one line
    JValue item, key;  // separators
    bool ascii;
} Dump;

static void dump(Jinja *j, const Dump *d, JValue v, size_t level);

static void dump_string(Jinja *j, const Dump *d, JValue s)
{
    jinja_add_text(j, d->to, "\"", jinja_mark_at(s, 0));
    uint32_t c;
    for (size_t at = 0, n; at < s.size && jinja_step(j, 1); at += n) {
        n = jinja_char(s, at, &c);
        const char *letter = c && c < 0x80 ? strchr("\nn\rr\tt\bb\ff\"\"\\\\", (int)c) : NULL;
        char code[16] = "";
        if (letter && (c < 'a' || c > 'z')) {
            snprintf(code, sizeof code, "\\%c", letter[1]);
        } else if (d->ascii && c >= 0x10000) {
            snprintf(code, sizeof code, "\\u%04x\\u%04x", (unsigned)(0xd7c0 + (c >> 10)),
                     (unsigned)(0xdc00 + (c & 0x3ff)));
        } else if (c < ' ' || (d->ascii && c > 0x7e)) {
            snprintf(code, sizeof code, "\\u%04x", (unsigned)c);
        }
        jinja_add(j, d->to, *code ? code : jinja_bytes(s) + at, *code ? strlen(code) : n,
                  jinja_mark_at(s, at));
    }
    jinja_add_text(j, d->to, "\"", jinja_mark_at(s, s.size));
}

static void new_line(Jinja *j, const Dump *d, size_t level, uint32_t mark)
{
    if (d->indent.kind == J_STRING) {
        jinja_add_text(j, d->to, "\n", mark);
        for (size_t i = 0; i < level && !j->failed; i++) {
            jinja_add(j, d->to, jinja_bytes(d->indent), d->indent.size, mark);
        }
    }
}

static void dump_key(Jinja *j, const Dump *d, JValue key)
{
    const bool number = key.kind == J_INT || key.kind == J_FLOAT;
    if (key.kind == J_STRING) {
        dump_string(j, d, key);
    } else if (number || key.kind == J_BOOL || key.kind == J_NONE) {
        jinja_add_text(j, d->to, "\"", 0);
        dump(j, d, key, 0);
        jinja_add_text(j, d->to, "\"", 0);
    } else {
        jinja_fail(j, "a %s cannot be the name of a member in JSON", jinja_kind(key));
    }
}

static void dump_members(Jinja *j, const Dump *d, JValue v, size_t level)
{
    const bool dict = v.kind == J_DICT;
    const size_t n = dict ? v.dict->n : v.list->n;
    jinja_add_text(j, d->to, dict ? "{" : "[", v.mark);
    for (size_t i = 0; i < n && jinja_step(j, 1); i++) {
        jinja_add(j, d->to, jinja_bytes(d->item), i ? d->item.size : 0, v.mark);
        new_line(j, d, level + 1, v.mark);
        if (dict) {
            dump_key(j, d, v.dict->keys[i]);
            jinja_add(j, d->to, jinja_bytes(d->key), d->key.size, v.mark);
        }
        dump(j, d, dict ? v.dict->values[i] : v.list->items[i], level + 1);
    }
    if (n) {
        new_line(j, d, level, v.mark);
    }
    jinja_add_text(j, d->to, dict ? "}" : "]", v.mark);
}

static void dump(Jinja *j, const Dump *d, JValue v, size_t level)
{
    if (!jinja_enter(j)) {
        return;
    }
    if (v.kind == J_STRING) {
        dump_string(j, d, v);
    } else if (v.kind == J_LIST || v.kind == J_TUPLE || v.kind == J_DICT) {
        dump_members(j, d, v, level);
    } else if (v.kind == J_NONE || v.kind == J_BOOL) {
        jinja_add_text(j, d->to, v.kind == J_NONE ? "null" : v.integer ? "true" : "false", v.mark);
    } else if (v.kind == J_FLOAT && !isfinite(v.real)) {
        jinja_add_text(j, d->to,
                       isnan(v.real) ? "NaN"
                       : v.real > 0  ? "Infinity"
                                     : "-Infinity",
                       v.mark);
    } else if (v.kind == J_INT || v.kind == J_FLOAT) {
        jinja_write(j, d->to, v, false);
    } else {
        jinja_fail(j, "a %s cannot be written as JSON", jinja_kind(v));
    }
    jinja_leave(j);
}

FILTER(tojson)
{
    const JValue indent = a->values[1], separators = a->values[2];
    const bool lines = jinja_given(a, 1);
    Dump d = {.to = jinja_text(j), .indent = jinja_none(), .ascii = jinja_flag(a, 0)};
    if (jinja_flag(a, 3)) {
        return jinja_fail(j, "sort_keys of tojson is not supported");
    }
    d.item = jinja_literal(j, lines ? "," : ", ");
    d.key = jinja_literal(j, ": ");
    if (lines) {
        d.indent = indent.kind == J_STRING ? indent
                                           : jinja_binary(j, '*', jinja_literal(j, " "), indent);
    }
    if (jinja_given(a, 2)) {
        const JList *l = jinja_items(j, separators);
        if (l->n != 2 || l->items[0].kind != J_STRING || l->items[1].kind != J_STRING) {
            return jinja_fail(j, "tojson's separators are not two strings");
        }
        d.item = l->items[0];
        d.key = l->items[1];
    }
    if (!j->failed) {
        dump(j, &d, v, 0);
    }
    return jinja_string(d.to);
}

// --------------------------------------------------------------------------------------------
// Tests

#define KIND(kind) (1 << J_##kind)
enum {
    ANY_NUMBER = KIND(BOOL) | KIND(INT) | KIND(FLOAT),
    SEQUENCES = KIND(STRING) | KIND(LIST) | KIND(TUPLE) | KIND(RANGE) | KIND(DICT) |
                KIND(UNDEFINED),
    ITERABLES = SEQUENCES | KIND(VIEW) | KIND(ITERATOR) | KIND(LOOP),
    CALLABLES = KIND(MACRO) | KIND(METHOD) | KIND(FUNCTION) | KIND(LOOP) | KIND(UNDEFINED),
};

// Is the value's kind one of those of `how`?
TEST(kind) { return (void)j, jinja_bool(a->how >> v.kind & 1); }

// true and false.
TEST(bool) { return (void)j, jinja_bool(v.kind == J_BOOL && v.integer == a->how); }

// odd, even and divisibleby; how: the rest.
TEST(rest)
{
    const JValue by = jinja_given(a, 0) ? a->values[0] : jinja_int(2);
    return jinja_bool(jinja_equal(j, jinja_binary(j, '%', v, by), jinja_int(a->how)));
}

// The comparisons; how: = ! < > l(<=) g(>=) i(in). NaN is neither less nor greater: its order is 2.
TEST(compare)
{
    const JValue b = a->values[0];
    if (a->how == '=' || a->how == '!') {
        return jinja_bool(jinja_equal(j, v, b) == (a->how == '='));
    }
    if (a->how == 'i') {
        return jinja_bool(jinja_contains(j, b, v));
    }
    const int order = jinja_compare(j, v, b);
    return jinja_bool(a->how == '<'   ? order == -1
                      : a->how == '>' ? order == 1
                      : a->how == 'l' ? order <= 0
                                      : order == 0 || order == 1);
}

TEST(sameas)
{
    (void)j;
    const JValue b = a->values[0];
    const bool scalar = v.kind <= J_FLOAT;
    return jinja_bool(v.kind == b.kind && v.at == b.at && v.size == b.size &&
                      (v.integer == b.integer || (scalar && v.kind <= J_NONE)));
}

// --------------------------------------------------------------------------------------------
// Functions

#define FUNCTION(name) static JValue function_##name(Jinja *j, JValue v, const JArgs *a)

// The longest range, which is that of Jinja2's sandbox.
#define MAX_RANGE 100000

static bool is_small(int64_t n) { return n >= -INT32_MAX && n <= INT32_MAX; }

FUNCTION(range)
{
    (void)v;
    int64_t begin = jinja_whole(j, a, 0, 0), stop = jinja_whole(j, a, 1, 0);
    const int64_t step = jinja_whole(j, a, 2, 1);
    if (!jinja_given(a, 1)) {
        stop = begin;
        begin = 0;
    }
    if (step == 0 || !is_small(begin) || !is_small(stop) || !is_small(step)) {
        return jinja_fail(j, "a range has the step 0 or bounds that are not supported");
    }
    const int64_t n = (stop - begin + step - (step > 0 ? 1 : -1)) / step;
    if (n > MAX_RANGE) {
        return jinja_fail(j, "a range has %lld items, expected at most %d", (long long)n,
                          MAX_RANGE);
    }
    JList *l = jinja_list(j, n > 0 ? (size_t)n : 0);
    for (int64_t i = 0; i < n && jinja_step(j, 1); i++) {
        jinja_push(j, l, jinja_int(begin + i * step));
    }
    return jinja_list_value(J_RANGE, l);
}

// dict and namespace.
FUNCTION(dict)
{
    (void)v;
    JValue d = jinja_dict_value(a->named ? a->named : jinja_dict(j, 4));
    d.kind = (uint8_t)a->how;
    for (size_t i = 0; a->how == J_NAMESPACE && !j->failed && i < d.dict->n; i++) {
        if (*jinja_bytes(d.dict->keys[i]) == '_') {
            jinja_fail(j, "an attribute of a namespace begins with an underscore");
        }
    }
    return a->n ? jinja_fail(j, "values by position are not supported here") : d;
}

FUNCTION(raise_exception)
{
    (void)v;
    const JValue message = jinja_str(j, a->values[0]);
    if (!j->failed) {
        error_set(j->err, ERROR_INPUT, "%.*s", (int)message.size, jinja_bytes(message));
        j->failed = j->refused = true;
    }
    return message;
}

FUNCTION(strftime_now)
{
    (void)v;
    const JValue format = a->values[0];
    struct tm date = {
        .tm_year = j->input->year - 1900, .tm_mon = j->input->month - 1, .tm_mday = j->input->day};
    timegm(&date);  // sets the days of week and year
    j->used_date = true;
    JText *t = jinja_text(j);
    if (format.kind != J_STRING) {
        return jinja_fail(j, "strftime_now of a %s", jinja_kind(format));
    }
    for (size_t at = 0, n; at < format.size && jinja_step(j, 1); at += n) {
        const char *p = jinja_bytes(format) + at;
        char directive[8] = "", out[80] = "";
        n = 1;
        if (*p == '%' && at + 1 < format.size) {
            n = 2 + (size_t)(strchr("-_0^#", p[1]) && at + 2 < format.size);
            memcpy(directive, p, n);
            const char letter = directive[n - 1];
            if (letter == 'f') {
                memcpy(out, "000000", 7);
            } else if (letter != 'z' && letter != 'Z' && jinja_step(j, 2)) {
                strftime(out, sizeof out, directive, &date);
            }
        }
        jinja_add(j, t, *directive ? out : p, *directive ? strlen(out) : 1,
                  jinja_mark_at(format, at));
    }
    return jinja_string(t);
}

// --------------------------------------------------------------------------------------------
// Tables

static const JBuiltin filters[] = {
    {"capitalize", filter_recase, "", 0, 'c', false},
    {"count", filter_length, "", 0, 0, true},
    {"d", filter_default, "default_value boolean", 0, 0, true},
    {"default", filter_default, "default_value boolean", 0, 0, true},
    {"dictsort", filter_dictsort, "case_sensitive by reverse", 0, 0, false},
    {"first", filter_end, "", 0, '<', false},
    {"float", filter_float, "default", 0, 0, false},
    {"indent", filter_indent, "width first blank", 0, 0, false},
    {"int", filter_int, "default", 0, 0, false},
    {"items", filter_items, "", 0, 0, false},
    {"join", filter_join, "d attribute", 0, 0, false},
    {"last", filter_end, "", 0, '>', false},
    {"length", filter_length, "", 0, 0, true},
    {"list", filter_list, "", 0, 0, false},
    {"lower", filter_recase, "", 0, 'l', false},
    {"map", filter_map, NULL, 0, 0, false},
    {"reject", filter_select, NULL, 0, 0, false},
    {"rejectattr", filter_select, NULL, 0, BY_ATTRIBUTE, false},
    {"replace", filter_replace, "old new count", 2, 0, false},
    {"reverse", filter_reverse, "", 0, 0, false},
    {"safe", filter_safe, "", 0, 0, true},
    {"select", filter_select, NULL, 0, WANTED, false},
    {"selectattr", filter_select, NULL, 0, WANTED | BY_ATTRIBUTE, false},
    {"sort", filter_sort, "reverse case_sensitive attribute", 0, 0, false},
    {"string", filter_string, "", 0, 0, true},
    {"tojson", filter_tojson, "ensure_ascii indent separators sort_keys", 0, 0, true},
    {"title", filter_title, "", 0, 0, false},
    {"trim", filter_trim, "chars", 0, 0, false},
    {"unique", filter_unique, "case_sensitive attribute", 0, 0, false},
    {"upper", filter_recase, "", 0, 'u', false},
};

static const JBuiltin tests[] = {
    {"!=", test_compare, "/ b", 1, '!', true},
    {"<", test_compare, "/ b", 1, '<', true},
    {"<=", test_compare, "/ b", 1, 'l', true},
    {"==", test_compare, "/ b", 1, '=', true},
    {">", test_compare, "/ b", 1, '>', true},
    {">=", test_compare, "/ b", 1, 'g', true},
    {"boolean", test_kind, "", 0, KIND(BOOL), true},
    {"callable", test_kind, "", 0, CALLABLES, true},
    {"defined", test_kind, "", 0, ~KIND(UNDEFINED), true},
    {"divisibleby", test_rest, "num", 1, 0, true},
    {"eq", test_compare, "/ b", 1, '=', true},
    {"equalto", test_compare, "/ b", 1, '=', true},
    {"even", test_rest, "/", 0, 0, true},
    {"false", test_bool, "", 0, 0, true},
    {"float", test_kind, "", 0, KIND(FLOAT), true},
    {"ge", test_compare, "/ b", 1, 'g', true},
    {"greaterthan", test_compare, "/ b", 1, '>', true},
    {"gt", test_compare, "/ b", 1, '>', true},
    {"in", test_compare, "seq", 1, 'i', true},
    {"integer", test_kind, "", 0, KIND(INT), true},
    {"iterable", test_kind, "", 0, ITERABLES, true},
    {"le", test_compare, "/ b", 1, 'l', true},
    {"lessthan", test_compare, "/ b", 1, '<', true},
    {"lt", test_compare, "/ b", 1, '<', true},
    {"mapping", test_kind, "", 0, KIND(DICT), true},
    {"ne", test_compare, "/ b", 1, '!', true},
    {"none", test_kind, "", 0, KIND(NONE), true},
    {"number", test_kind, "", 0, ANY_NUMBER, true},
    {"odd", test_rest, "/", 0, 1, true},
    {"sameas", test_sameas, "other", 1, 0, true},
    {"sequence", test_kind, "", 0, SEQUENCES, true},
    {"string", test_kind, "", 0, KIND(STRING), true},
    {"true", test_bool, "", 0, 1, true},
    {"undefined", test_kind, "", 0, KIND(UNDEFINED), true},
};

static const JBuiltin functions[] = {
    {"dict", function_dict, NULL, 0, J_DICT, false},
    {"namespace", function_dict, NULL, 0, J_NAMESPACE, false},
    {"raise_exception", function_raise_exception, "message", 1, 0, false},
    {"range", function_range, "/ start stop step", 1, 0, false},
    {"strftime_now", function_strftime_now, "format", 1, 0, false},
};

const JBuiltin *jinja_builtin(const JBuiltin *table, size_t n, const char *name, size_t size)
{
    for (size_t i = 0; i < n; i++) {
        if (strlen(table[i].name) == size && memcmp(table[i].name, name, size) == 0) {
            return &table[i];
        }
    }
    return NULL;
}

const JBuiltin *jinja_filter(const char *name, size_t size)
{
    return jinja_builtin(filters, sizeof filters / sizeof *filters, name, size);
}

const JBuiltin *jinja_test(const char *name, size_t size)
{
    return jinja_builtin(tests, sizeof tests / sizeof *tests, name, size);
}

const JBuiltin *jinja_function(const char *name, size_t size)
{
    return jinja_builtin(functions, sizeof functions / sizeof *functions, name, size);
}
