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

static bool given(const JArgs *a, size_t i) { return a->values[i].kind != J_MISSING; }
static bool flag(const JArgs *a, size_t i) { return given(a, i) && jinja_truth(a->values[i]); }

// An argument that is a whole number.
static int64_t whole(Jinja *j, const JArgs *a, size_t i, int64_t otherwise)
{
    const JValue v = a->values[i];
    if (v.kind == J_MISSING || v.kind == J_NONE) {
        return otherwise;
    }
    if (v.kind != J_INT && v.kind != J_BOOL) {
        jinja_fail(j, "a filter has a %s for a number", jinja_kind(v));
    }
    return v.integer;
}

static JValue soft_str(Jinja *j, JValue v) { return v.kind == J_STRING ? v : jinja_str(j, v); }

static JValue none_of(void)
{
    static JText nothing;
    return (JValue){.kind = J_UNDEFINED, .owner = J_MISSING, .text = &nothing};
}

// item.a.b.0 for the path "a.b.0"; what is undefined on the way becomes `otherwise`, unless that is
// missing.
static JValue get_path(Jinja *j, JValue item, JValue path, JValue otherwise)
{
    if (path.kind == J_MISSING || path.kind == J_NONE) {
        return item;
    }
    const bool one = path.kind != J_STRING;
    for (size_t at = 0; !j->failed && (one ? at == 0 : at <= path.size);) {
        JValue part = path;
        if (!one) {
            const char *p = jinja_bytes(path) + at, *dot = memchr(p, '.', path.size - at);
            const size_t n = dot ? (size_t)(dot - p) : path.size - at;
            part = jinja_slice(path, at, n);
            at += n;
            if (n && n < 18 && strspn(p, "0123456789") >= n) {
                part = jinja_int(strtoll(p, NULL, 10));
            }
        }
        at++;
        item = jinja_item(j, item, part);
        if (item.kind == J_UNDEFINED && otherwise.kind > J_NONE) {
            item = otherwise;
        }
    }
    return item;
}

// The keys by which to sort or compare: items, or an attribute of them; strings in lower case.
static JList *keys_of(Jinja *j, const JList *items, JValue path, bool case_sensitive,
                      JValue otherwise)
{
    JList *keys = jinja_list(j, items->n);
    for (size_t i = 0; i < items->n && jinja_step(j, 1); i++) {
        const JValue key = get_path(j, items->items[i], path, otherwise);
        jinja_push(j, keys,
                   key.kind == J_STRING && !case_sensitive ? jinja_recase(j, key, 'l') : key);
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

// --------------------------------------------------------------------------------------------
// Numbers

// Passes white space, as Python's int() and float() do, at both ends; copies the rest without
// underscores between digits. False if it does not fit or an underscore stands elsewhere.
static bool number_text(JValue s, char *out, size_t room)
{
    const JValue t = jinja_strip(s, jinja_none(), true, true);
    size_t n = 0;
    for (size_t i = 0; i < t.size; i++) {
        const char c = jinja_bytes(t)[i];
        const bool between = i && i + 1 < t.size && jinja_bytes(t)[i - 1] != '_';
        if (c == '\0' || n + 1 >= room || (c == '_' && !between)) {
            return false;
        }
        out[n] = c;
        n += c != '_';
    }
    out[n] = '\0';
    return n > 0;
}

static bool text_to_int(Jinja *j, JValue s, int64_t base, int64_t *out)
{
    char text[80], *end;
    if (!number_text(s, text, sizeof text) || strchr(text, '.') || base < 0 || base > 36 ||
        base == 1) {
        return false;
    }
    char *digits = text + strspn(text, "+-");
    const char prefix = (char)(digits[0] == '0' ? digits[1] | 32 : 0);
    const int named = prefix == 'x' ? 16 : prefix == 'o' ? 8 : prefix == 'b' ? 2 : 0;
    if (digits > text + 1 || !*digits) {
        return false;
    }
    if (named && (base == 0 || base == named)) {
        base = named;
        memmove(digits, digits + 2, strlen(digits + 2) + 1);
    } else if (base == 0) {
        base = 10;
    }
    if (!strchr("0123456789abcdefghijklmnopqrstuvwxyz", *digits | 32) || !*digits) {
        return false;
    }
    errno = 0;
    *out = strtoll(text, &end, (int)base);
    if (!*end && errno) {
        jinja_fail(j, "'%s' does not fit 64 bits", text);
    }
    return !*end;
}

static bool text_to_real(JValue s, double *out)
{
    char text[400], *end;
    if (!number_text(s, text, sizeof text) || strpbrk(text, "xXpP(")) {
        return false;
    }
    *out = strtod(text, &end);
    return !*end && end != text;
}

static JValue to_int(Jinja *j, double d, JValue otherwise)
{
    if (isnan(d)) {
        return otherwise;
    }
    return fabs(d) < 9.2e18 ? jinja_int((int64_t)d)
                            : jinja_fail(j, "a number does not fit 64 bits");
}

FILTER(int)
{
    const JValue otherwise = given(a, 0) ? a->values[0] : jinja_int(0);
    int64_t n;
    double d;
    if (v.kind == J_UNDEFINED) {
        return jinja_fail_undefined(j, v);
    }
    if (v.kind == J_STRING) {
        const bool ok = text_to_int(j, v, whole(j, a, 1, 10), &n);
        return ok                                 ? jinja_int(n)
               : !text_to_real(v, &d) || isinf(d) ? otherwise
                                                  : to_int(j, d, otherwise);
    }
    return jinja_number(v, &d)
               ? (v.kind == J_FLOAT ? to_int(j, d, otherwise) : jinja_int(v.integer))
               : otherwise;
}

FILTER(float)
{
    double d;
    if (v.kind == J_UNDEFINED) {
        return jinja_fail_undefined(j, v);
    }
    const bool ok = v.kind == J_STRING ? text_to_real(v, &d) : jinja_number(v, &d);
    return ok ? jinja_real(d) : given(a, 0) ? a->values[0] : jinja_real(0);
}

FILTER(abs)
{
    (void)a;
    double d;
    if (!jinja_number(v, &d)) {
        return jinja_fail(j, "abs of a %s", jinja_kind(v));
    }
    return v.kind == J_FLOAT ? jinja_real(fabs(d))
           : v.integer < 0   ? jinja_binary(j, '-', jinja_int(0), v)
                             : jinja_int(v.integer);
}

FILTER(round)
{
    double d;
    const int64_t places = whole(j, a, 0, 0);
    const JValue method = given(a, 1) ? a->values[1] : jinja_literal(j, "common");
    const bool common = jinja_is(method, "common");
    if (!jinja_number(v, &d) || places < -300 || places > 300) {
        return jinja_fail(j, "round of a %s to %lld places", jinja_kind(v), (long long)places);
    }
    if (!common && !jinja_is(method, "ceil") && !jinja_is(method, "floor")) {
        return jinja_fail(j, "round's method is not common, ceil or floor");
    }
    const double scale = pow(10, (double)places);
    if (!common) {
        return jinja_real((jinja_is(method, "ceil") ? ceil : floor)(d * scale) / scale);
    }
    if (v.kind != J_FLOAT && places >= 0) {
        return jinja_int(v.integer);
    }
    char text[700];
    snprintf(text, sizeof text, "%.*f", (int)(places > 0 ? places : 0), d);
    const double rounded = places >= 0 && isfinite(d) ? strtod(text, NULL)
                                                      : rint(d * scale) / scale;
    return v.kind == J_FLOAT ? jinja_real(rounded) : to_int(j, rounded, v);
}

// --------------------------------------------------------------------------------------------
// Strings

// upper, lower and capitalize.
FILTER(recase) { return jinja_recase(j, soft_str(j, v), a->how); }

FILTER(string) { return (void)a, soft_str(j, v); }

// safe, escape and forceescape.
FILTER(markup)
{
    if (a->how == 'e') {
        return jinja_escape(j, v);
    }
    v = jinja_str(j, v);
    v.safe = a->how == 's';
    return jinja_escape(j, v);
}

// Does a word begin after this character, for title?
static bool begins_word(uint32_t c)
{
    return jinja_is_space(c) || (c && c < 0x80 && strchr("-({[<", (int)c));
}

FILTER(title)
{
    (void)a;
    const JValue s = soft_str(j, v);
    JText *t = jinja_text(j);
    uint32_t c;
    for (size_t at = 0; at < s.size && jinja_step(j, 1);) {
        const size_t first = jinja_char(s, at, &c);
        const bool separates = begins_word(c);
        size_t n = first;  // of the word, or of the separators between two
        while (at + n < s.size) {
            const size_t size = jinja_char(s, at + n, &c);
            if (begins_word(c) != separates) {
                break;
            }
            n += size;
        }
        jinja_add_string(j, t, jinja_recase(j, jinja_slice(s, at, first), 'u'));
        jinja_add_string(j, t, jinja_recase(j, jinja_slice(s, at + first, n - first), 'l'));
        at += n;
    }
    return jinja_string(t);
}

FILTER(trim)
{
    const JValue s = soft_str(j, v);
    if (given(a, 0) && a->values[0].kind != J_NONE && a->values[0].kind != J_STRING) {
        return jinja_fail(j, "trim of a %s", jinja_kind(a->values[0]));
    }
    return jinja_strip(s, a->values[0], true, true);
}

FILTER(replace)
{
    bool forbidden;
    const JBuiltin *method = jinja_method(jinja_string(jinja_text(j)), "replace", 7, &forbidden);
    JValue args[] = {jinja_str(j, a->values[0]), jinja_str(j, a->values[1]),
                     jinja_int(whole(j, a, 2, -1))};
    return jinja_invoke(j, method, jinja_str(j, v), &(JArgs){args, 3, NULL, 0});
}

FILTER(format)
{
    if (a->n && a->named) {
        return jinja_fail(j, "format takes values by position or by name");
    }
    JList *l = jinja_list(j, a->n);
    for (size_t i = 0; i < a->n; i++) {
        jinja_push(j, l, a->values[i]);
    }
    const JValue args = a->named ? jinja_dict_value(a->named) : jinja_list_value(J_TUPLE, l);
    return jinja_format(j, soft_str(j, v), args);
}

// Calls a method of a string.
static JValue method(Jinja *j, JValue s, const char *name, JValue *args, size_t n)
{
    bool forbidden;
    const JBuiltin *b = jinja_method(s, name, strlen(name), &forbidden);
    return b ? jinja_invoke(j, b, s, &(JArgs){args, n, NULL, 0})
             : jinja_fail(j, "%s of a %s", name, jinja_kind(s));
}

FILTER(indent)
{
    JValue by = given(a, 0) ? a->values[0] : jinja_int(4);
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
        if (i ? flag(a, 2) || line.size : flag(a, 1)) {
            jinja_add_string(j, t, by);
        }
        jinja_add_string(j, t, line);
    }
    JValue s = jinja_string(t);
    s.safe = v.safe;
    return s;
}

FILTER(length)
{
    (void)a;
    if (v.kind == J_STRING) {
        return jinja_step(j, v.size / 16) ? jinja_int((int64_t)jinja_length(v)) : v;
    }
    if (jinja_has_list(v) && v.kind != J_ITERATOR) {
        return jinja_int((int64_t)v.list->n);
    }
    return v.kind == J_DICT        ? jinja_int((int64_t)v.dict->n)
           : v.kind == J_UNDEFINED ? jinja_int(0)
                                   : jinja_fail(j, "a %s has no length", jinja_kind(v));
}

FILTER(truncate)
{
    const JValue end = given(a, 2) ? a->values[2] : jinja_literal(j, "...");
    const int64_t length = whole(j, a, 0, 255), leeway = whole(j, a, 3, 5);
    if (v.kind == J_UNDEFINED || j->failed) {
        return v;
    }
    if (end.kind != J_STRING || leeway < 0 || length < (int64_t)jinja_length(end)) {
        return jinja_fail(j, "truncate's arguments do not fit");
    }
    const int64_t n = filter_length(j, v, a).integer;
    if (n <= length + leeway || v.kind != J_STRING) {
        return n <= length + leeway ? v : jinja_fail(j, "truncate of a %s", jinja_kind(v));
    }
    JValue s = jinja_slice(v, 0, jinja_offset(v, (size_t)length - jinja_length(end)));
    size_t space = s.size;  // after the last one
    while (space > 0 && jinja_bytes(s)[space - 1] != ' ') {
        space--;
    }
    s = space && !flag(a, 1) ? jinja_slice(s, 0, space - 1) : s;
    return jinja_binary(j, '+', s, end);
}

FILTER(center)
{
    JValue width = jinja_int(whole(j, a, 0, 80));
    return method(j, soft_str(j, v), "center", &width, 1);
}

FILTER(wordcount)
{
    (void)a;
    const JValue s = soft_str(j, v);
    int64_t n = 0;
    uint32_t c;
    bool in_word = false;
    for (size_t at = 0; at < s.size; n += in_word) {
        at += jinja_char(s, at, &c);
        const bool word = c == '_' ||
                          jinja_flags(c) & (CASE_ALPHA | CASE_DECIMAL | CASE_DIGIT | CASE_NUMERIC);
        n -= in_word && word;
        in_word = word;
    }
    return jinja_int(n);
}

// Adds a text as part of a URL; in a query, slashes are escaped too and spaces become plus signs.
static void add_url_quoted(Jinja *j, JText *to, JValue v, bool query)
{
    const JValue s = jinja_str(j, v);
    for (size_t i = 0; i < s.size && jinja_step(j, 1); i++) {
        const uint8_t c = (uint8_t)jinja_bytes(s)[i];
        const bool letter = ((c | 32) >= 'a' && (c | 32) <= 'z') || (c >= '0' && c <= '9');
        char code[4] = {(char)(query && c == ' ' ? '+' : c)};
        if (!letter && !(c && strchr(query ? "_.-~ " : "_.-~/", c))) {
            snprintf(code, sizeof code, "%%%02X", c);
        }
        jinja_add_text(j, to, code, jinja_mark_at(s, i));
    }
}

FILTER(urlencode)
{
    (void)a;
    JText *t = jinja_text(j);
    if (v.kind == J_STRING || (v.kind != J_DICT && !jinja_has_list(v))) {
        add_url_quoted(j, t, v, false);
        return jinja_string(t);
    }
    const JList *l = jinja_items(j, v.kind == J_DICT ? method(j, v, "items", NULL, 0) : v);
    for (size_t i = 0; i < l->n && jinja_step(j, 1); i++) {
        const JList *pair = jinja_items(j, l->items[i]);
        if (pair->n != 2) {
            return jinja_fail(j, "urlencode has an item of %zu values, expected 2", pair->n);
        }
        jinja_add_text(j, t, i ? "&" : "", v.mark);
        add_url_quoted(j, t, pair->items[0], true);
        jinja_add_text(j, t, "=", v.mark);
        add_url_quoted(j, t, pair->items[1], true);
    }
    return jinja_string(t);
}

FILTER(default)
{
    (void)j;
    const bool use = v.kind == J_UNDEFINED || (flag(a, 1) && !jinja_truth(v));
    return !use ? v : given(a, 0) ? a->values[0] : jinja_literal(j, "");
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
                                          : none_of();
    }
    const JList *l = jinja_items(j, v);
    JValue item = l->n ? l->items[first ? 0 : l->n - 1] : none_of();
    item.safe |= v.kind == J_STRING && v.safe && !first;
    return item;
}

FILTER(reverse)
{
    (void)a;
    JList *l = copy_list(j, v);
    JText *t = jinja_text(j);
    for (size_t i = 0; i < l->n / 2; i++) {
        const JValue swap = l->items[i];
        l->items[i] = l->items[l->n - 1 - i];
        l->items[l->n - 1 - i] = swap;
    }
    for (size_t i = 0; v.kind == J_STRING && i < l->n; i++) {
        jinja_add_string(j, t, l->items[i]);
    }
    JValue s = jinja_string(t);
    s.safe = v.safe;
    return v.kind == J_STRING ? s : jinja_list_value(v.kind == J_ITERATOR ? J_LIST : J_ITERATOR, l);
}

FILTER(join)
{
    const JList *l = jinja_items(j, v);
    const JValue between = given(a, 0) ? jinja_str(j, a->values[0]) : jinja_literal(j, "");
    JText *t = jinja_text(j);
    for (size_t i = 0; i < l->n && jinja_step(j, 1); i++) {
        jinja_add_string(j, t, i ? between : jinja_slice(between, 0, 0));
        jinja_write(j, t, get_path(j, l->items[i], a->values[1], none_of()), false);
    }
    return jinja_string(t);
}

FILTER(sum)
{
    const JList *l = jinja_items(j, v);
    JValue sum = given(a, 1) ? a->values[1] : jinja_int(0);
    if (sum.kind == J_STRING) {
        return jinja_fail(j, "sum of strings");
    }
    for (size_t i = 0; i < l->n && jinja_step(j, 1); i++) {
        sum = jinja_binary(j, '+', sum, get_path(j, l->items[i], a->values[0], none_of()));
    }
    return sum;
}

FILTER(sort)
{
    JList *l = copy_list(j, v);
    JValue path = a->values[2];
    JList *keys = keys_of(j, l, path, flag(a, 1), jinja_none());
    if (path.kind == J_STRING && memchr(jinja_bytes(path), ',', path.size)) {
        JValue comma = jinja_literal(j, ",");
        const JValue parts = method(j, path, "split", &comma, 1);
        for (size_t i = 0; !j->failed && i < l->n; i++) {
            JList *key = jinja_list(j, 2);
            for (size_t k = 0; k < parts.list->n && jinja_step(j, 1); k++) {
                JValue part = get_path(j, l->items[i], parts.list->items[k], jinja_none());
                part = part.kind == J_STRING && !flag(a, 1) ? jinja_recase(j, part, 'l') : part;
                jinja_push(j, key, part);
            }
            keys->items[i] = jinja_list_value(J_LIST, key);
        }
    }
    jinja_sort(j, l, keys, flag(a, 0));
    return jinja_list_value(J_LIST, l);
}

// min and max; how: -1 for the greatest.
FILTER(extreme)
{
    const JList *l = jinja_items(j, v),
                *keys = keys_of(j, l, a->values[1], flag(a, 0), jinja_none());
    size_t best = 0;
    for (size_t i = 1; i < keys->n && jinja_step(j, 1); i++) {
        best = jinja_compare(j, keys->items[i], keys->items[best]) * a->how < 0 ? i : best;
    }
    return l->n ? l->items[best] : none_of();
}

FILTER(unique)
{
    const JList *l = jinja_items(j, v),
                *keys = keys_of(j, l, a->values[1], flag(a, 0), jinja_none());
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

FILTER(groupby)
{
    JList *l = copy_list(j, v), *out = jinja_list(j, 0);
    JList *keys = keys_of(j, l, a->values[0], flag(a, 2), a->values[1]);
    JValue last = jinja_none();
    JList *group = NULL, *sorted = jinja_list(j, keys->n);
    for (size_t i = 0; i < keys->n; i++) {
        jinja_push(j, sorted, keys->items[i]);
    }
    jinja_sort(j, l, keys, false);
    jinja_sort(j, sorted, keys, false);
    for (size_t i = 0; i < l->n && jinja_step(j, 1); i++) {
        if (!group || !jinja_equal(j, last, sorted->items[i])) {
            JList *pair = jinja_list(j, 2);
            group = jinja_list(j, 0);
            last = sorted->items[i];
            jinja_push(j, pair, get_path(j, l->items[i], a->values[0], a->values[1]));
            jinja_push(j, pair, jinja_list_value(J_LIST, group));
            jinja_push(j, out, jinja_list_value(J_TUPLE, pair));
        }
        jinja_push(j, group, l->items[i]);
    }
    return jinja_list_value(J_LIST, out);
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
    const bool by_value = given(a, 1) && jinja_is(a->values[1], "value");
    if (given(a, 1) && !by_value && !jinja_is(a->values[1], "key")) {
        return jinja_fail(j, "dictsort's by is not 'key' or 'value'");
    }
    JList *l = copy_list(j, method(j, v, "items", NULL, 0));
    jinja_sort(j, l, keys_of(j, l, jinja_int(by_value), flag(a, 0), jinja_none()), flag(a, 2));
    return jinja_list_value(J_LIST, l);
}

FILTER(batch)
{
    const int64_t size = whole(j, a, 0, 0);
    const JList *l = jinja_items(j, v);
    JList *out = jinja_list(j, 0), *row = NULL;
    for (size_t i = 0; i < l->n && jinja_step(j, 1); i++) {
        if (!row || (int64_t)row->n == size) {
            row = jinja_list(j, 0);
            jinja_push(j, out, jinja_list_value(J_LIST, row));
        }
        jinja_push(j, row, l->items[i]);
    }
    while (row && given(a, 1) && a->values[1].kind != J_NONE && (int64_t)row->n < size &&
           jinja_step(j, 1)) {
        jinja_push(j, row, a->values[1]);
    }
    return jinja_list_value(J_ITERATOR, out);
}

FILTER(slice)
{
    const int64_t slices = whole(j, a, 0, 0);
    const JList *l = jinja_items(j, v);
    JList *out = jinja_list(j, 0);
    if (slices == 0) {
        return jinja_fail(j, "slice into 0 parts");
    }
    size_t at = 0;
    for (int64_t i = 0; i < slices && jinja_step(j, 1); i++) {
        const size_t each = l->n / (size_t)slices, extra = l->n % (size_t)slices;
        JList *part = jinja_list(j, 0);
        for (size_t k = 0; k < each + ((size_t)i < extra) && jinja_step(j, 1); k++) {
            jinja_push(j, part, l->items[at++]);
        }
        if (given(a, 1) && a->values[1].kind != J_NONE && (size_t)i >= extra) {
            jinja_push(j, part, a->values[1]);
        }
        jinja_push(j, out, jinja_list_value(J_LIST, part));
    }
    return jinja_list_value(J_ITERATOR, out);
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

FILTER(attr)
{
    bool forbidden;
    const JValue name = a->values[0];
    if (name.kind != J_STRING) {
        return jinja_fail(j, "attr needs the name of an attribute");
    }
    const bool has = v.kind != J_DICT || jinja_method(v, jinja_bytes(name), name.size, &forbidden);
    return has ? jinja_attribute(j, v, name) : none_of();
}

// --------------------------------------------------------------------------------------------
// JSON

typedef struct {
    JText *to;
    JValue indent;     // what a level is indented by; J_NONE: all on one line
    JValue item, key;  // separators
    bool ascii, sorted;
} Dump;

static void dump(Jinja *j, const Dump *d, JValue v, size_t level);

static void dump_string(Jinja *j, const Dump *d, JValue s)
{
    jinja_add_text(j, d->to, "\"", jinja_mark_at(s, 0));
    uint32_t c;
    for (size_t at = 0, n; at < s.size && jinja_step(j, 1); at += n) {
        n = jinja_char(s, at, &c);
        const char *letter = c && c < 0x20 ? strchr("\nn\rr\tt\bb\ff", (int)c) : NULL;
        char code[16] = "";
        if (letter || c == '"' || c == '\\') {
            snprintf(code, sizeof code, "\\%c", letter ? letter[1] : (int)c);
        } else if (d->ascii && c >= 0x10000) {
            snprintf(code, sizeof code, "\\u%04x\\u%04x", (unsigned)(0xd7c0 + (c >> 10)),
                     (unsigned)(0xdc00 + (c & 0x3ff)));
        } else if (c < 0x20 || (d->ascii && c > 0x7e)) {
            snprintf(code, sizeof code, "\\u%04x", (unsigned)c);
        }
        code[1] = d->ascii && c == 0x7f ? '\0' : code[1];
        const bool plain = !*code || (d->ascii && c == 0x7f);
        jinja_add(j, d->to, plain ? jinja_bytes(s) + at : code, plain ? n : strlen(code),
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
    JList *keys = dict ? copy_list(j, v) : v.list;
    if (dict && d->sorted) {
        jinja_sort(j, keys, copy_list(j, v), false);
    }
    jinja_add_text(j, d->to, dict ? "{" : "[", v.mark);
    for (size_t i = 0; i < n && jinja_step(j, 1); i++) {
        jinja_add(j, d->to, jinja_bytes(d->item), i ? d->item.size : 0, v.mark);
        new_line(j, d, level + 1, v.mark);
        if (dict) {
            dump_key(j, d, keys->items[i]);
            jinja_add(j, d->to, jinja_bytes(d->key), d->key.size, v.mark);
        }
        const JValue *value = dict ? jinja_find(j, v.dict, keys->items[i]) : &keys->items[i];
        if (value) {
            dump(j, d, *value, level + 1);
        }
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
    const bool lines = given(a, 1) && indent.kind != J_NONE;
    Dump d = {
        .to = jinja_text(j), .ascii = flag(a, 0), .sorted = flag(a, 3), .indent = jinja_none()};
    d.item = jinja_literal(j, lines ? "," : ", ");
    d.key = jinja_literal(j, ": ");
    if (lines) {
        d.indent = indent.kind == J_STRING ? indent
                                           : jinja_binary(j, '*', jinja_literal(j, " "), indent);
    }
    if (given(a, 2) && separators.kind != J_NONE) {
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
    CALLABLES = KIND(MACRO) | KIND(METHOD) | KIND(FUNCTION) | KIND(LOOP) | KIND(JOINER) |
                KIND(UNDEFINED),
};

// Is the value's kind one of those of `how`?
TEST(kind) { return (void)j, jinja_bool(a->how >> v.kind & 1); }

// true and false.
TEST(bool) { return (void)j, jinja_bool(v.kind == J_BOOL && v.integer == a->how); }

TEST(escaped) { return (void)j, (void)a, jinja_bool(v.kind == J_STRING && v.safe); }

// odd, even and divisibleby; how: the rest.
TEST(rest)
{
    const JValue by = given(a, 0) ? a->values[0] : jinja_int(2);
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

// lower and upper.
TEST(case) { return method(j, jinja_str(j, v), a->how == 'l' ? "islower" : "isupper", NULL, 0); }

// Is the value the name of a filter, or of a test? As a key it must be one that a dict takes.
TEST(name)
{
    jinja_put(j, jinja_dict(j, 1), v, jinja_none());
    return jinja_bool(v.kind == J_STRING &&
                      (a->how == 'f' ? jinja_filter : jinja_test)(jinja_bytes(v), v.size));
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

FUNCTION(range)
{
    (void)v;
    int64_t begin = whole(j, a, 0, 0), stop = whole(j, a, 1, 0);
    const int64_t step = whole(j, a, 2, 1);
    if (!given(a, 1)) {
        stop = begin;
        begin = 0;
    }
    if (step == 0 || llabs(begin / 2) > INT64_MAX / 4 || llabs(stop / 2) > INT64_MAX / 4) {
        return jinja_fail(j, "a range has the step 0 or bounds out of range");
    }
    const int64_t span = step > 0 ? stop - begin : begin - stop;
    const uint64_t by = step > 0 ? (uint64_t)step : 0 - (uint64_t)step;
    const uint64_t n = span > 0 ? ((uint64_t)span + by - 1) / by : 0;
    if (n > MAX_RANGE) {
        return jinja_fail(j, "a range has %llu items, expected at most %d", (unsigned long long)n,
                          MAX_RANGE);
    }
    JList *l = jinja_list(j, (size_t)n);
    for (uint64_t i = 0; i < n && jinja_step(j, 1); i++) {
        jinja_push(j, l, jinja_int(begin + (int64_t)i * step));
    }
    if (!j->failed) {
        l->begin = begin;
        l->stop = stop;
        l->step = step;
    }
    return jinja_list_value(J_RANGE, l);
}

FUNCTION(dict)
{
    (void)v;
    JDict *d = jinja_dict(j, 4);
    const JDict *from = a->n && a->values[0].kind == J_DICT ? a->values[0].dict : NULL;
    const JList *pairs = a->n && !from ? jinja_items(j, a->values[0]) : NULL;
    if (a->n > 1) {
        return jinja_fail(j, "dict takes one value by position");
    }
    for (size_t i = 0; !j->failed && i < (from ? from->n : 0); i++) {
        jinja_put(j, d, from->keys[i], from->values[i]);
    }
    for (size_t i = 0; !j->failed && i < (pairs ? pairs->n : 0); i++) {
        const JList *pair = jinja_items(j, pairs->items[i]);
        if (pair->n != 2) {
            return jinja_fail(j, "dict has an item of %zu values, expected 2", pair->n);
        }
        jinja_put(j, d, pair->items[0], pair->items[1]);
    }
    for (size_t i = 0; !j->failed && i < (a->named ? a->named->n : 0); i++) {
        jinja_put(j, d, a->named->keys[i], a->named->values[i]);
    }
    return jinja_dict_value(d);
}

FUNCTION(namespace)
{
    JValue space = function_dict(j, v, a);
    for (size_t i = 0; !j->failed && i < space.dict->n; i++) {
        const JValue key = space.dict->keys[i];
        if (key.kind == J_STRING && key.size && *jinja_bytes(key) == '_') {
            jinja_fail(j, "an attribute of a namespace begins with an underscore");
        }
    }
    space.kind = J_NAMESPACE;
    return space;
}

FUNCTION(cycler)
{
    (void)v;
    JList *l = jinja_list(j, a->n);
    for (size_t i = 0; i < a->n; i++) {
        jinja_push(j, l, a->values[i]);
    }
    return a->n ? jinja_list_value(J_CYCLER, l) : jinja_fail(j, "a cycler needs an item");
}

FUNCTION(joiner)
{
    (void)v;
    JList *l = jinja_list(j, 1);
    jinja_push(j, l, given(a, 0) ? a->values[0] : jinja_literal(j, ", "));
    return jinja_list_value(J_JOINER, l);
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
    for (size_t at = 0, n; at < format.size && !j->failed; at += n) {
        const char *p = jinja_bytes(format) + at;
        char directive[8] = "", out[80] = "";
        n = 1;
        if (*p == '%' && at + 1 < format.size) {
            n = 2 + (size_t)(strchr("-_0^#", p[1]) && at + 2 < format.size);
            memcpy(directive, p, n);
            const char letter = directive[n - 1];
            if (letter == 'f') {
                memcpy(out, "000000", 7);
            } else if (letter != 'z' && letter != 'Z') {
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
    {"abs", filter_abs, "", 0, 0},
    {"attr", filter_attr, "name", 1, 0},
    {"batch", filter_batch, "linecount fill_with", 1, 0},
    {"capitalize", filter_recase, "", 0, 'c'},
    {"center", filter_center, "width", 0, 0},
    {"count", filter_length, "", 0, 0},
    {"d", filter_default, "default_value boolean", 0, 0},
    {"default", filter_default, "default_value boolean", 0, 0},
    {"dictsort", filter_dictsort, "case_sensitive by reverse", 0, 0},
    {"e", filter_markup, "", 0, 'e'},
    {"escape", filter_markup, "", 0, 'e'},
    {"first", filter_end, "", 0, '<'},
    {"float", filter_float, "default", 0, 0},
    {"forceescape", filter_markup, "", 0, 'f'},
    {"format", filter_format, NULL, 0, 0},
    {"groupby", filter_groupby, "attribute default case_sensitive", 1, 0},
    {"indent", filter_indent, "width first blank", 0, 0},
    {"int", filter_int, "default base", 0, 0},
    {"items", filter_items, "", 0, 0},
    {"join", filter_join, "d attribute", 0, 0},
    {"last", filter_end, "", 0, '>'},
    {"length", filter_length, "", 0, 0},
    {"list", filter_list, "", 0, 0},
    {"lower", filter_recase, "", 0, 'l'},
    {"map", filter_map, NULL, 0, 0},
    {"max", filter_extreme, "case_sensitive attribute", 0, -1},
    {"min", filter_extreme, "case_sensitive attribute", 0, 1},
    {"reject", filter_select, NULL, 0, 0},
    {"rejectattr", filter_select, NULL, 0, BY_ATTRIBUTE},
    {"replace", filter_replace, "old new count", 2, 0},
    {"reverse", filter_reverse, "", 0, 0},
    {"round", filter_round, "precision method", 0, 0},
    {"safe", filter_markup, "", 0, 's'},
    {"select", filter_select, NULL, 0, WANTED},
    {"selectattr", filter_select, NULL, 0, WANTED | BY_ATTRIBUTE},
    {"slice", filter_slice, "slices fill_with", 1, 0},
    {"sort", filter_sort, "reverse case_sensitive attribute", 0, 0},
    {"string", filter_string, "", 0, 0},
    {"sum", filter_sum, "attribute start", 0, 0},
    {"title", filter_title, "", 0, 0},
    {"tojson", filter_tojson, "ensure_ascii indent separators sort_keys", 0, 0},
    {"trim", filter_trim, "chars", 0, 0},
    {"truncate", filter_truncate, "length killwords end leeway", 0, 0},
    {"unique", filter_unique, "case_sensitive attribute", 0, 0},
    {"upper", filter_recase, "", 0, 'u'},
    {"urlencode", filter_urlencode, "", 0, 0},
    {"wordcount", filter_wordcount, "", 0, 0},
};

static const JBuiltin tests[] = {
    {"!=", test_compare, "/ b", 1, '!'},
    {"<", test_compare, "/ b", 1, '<'},
    {"<=", test_compare, "/ b", 1, 'l'},
    {"==", test_compare, "/ b", 1, '='},
    {">", test_compare, "/ b", 1, '>'},
    {">=", test_compare, "/ b", 1, 'g'},
    {"boolean", test_kind, "", 0, KIND(BOOL)},
    {"callable", test_kind, "", 0, CALLABLES},
    {"defined", test_kind, "", 0, ~KIND(UNDEFINED)},
    {"divisibleby", test_rest, "num", 1, 0},
    {"eq", test_compare, "/ b", 1, '='},
    {"equalto", test_compare, "/ b", 1, '='},
    {"escaped", test_escaped, "", 0, 0},
    {"even", test_rest, "/", 0, 0},
    {"false", test_bool, "", 0, 0},
    {"filter", test_name, "", 0, 'f'},
    {"float", test_kind, "", 0, KIND(FLOAT)},
    {"ge", test_compare, "/ b", 1, 'g'},
    {"greaterthan", test_compare, "/ b", 1, '>'},
    {"gt", test_compare, "/ b", 1, '>'},
    {"in", test_compare, "seq", 1, 'i'},
    {"integer", test_kind, "", 0, KIND(INT)},
    {"iterable", test_kind, "", 0, ITERABLES},
    {"le", test_compare, "/ b", 1, 'l'},
    {"lessthan", test_compare, "/ b", 1, '<'},
    {"lower", test_case, "", 0, 'l'},
    {"lt", test_compare, "/ b", 1, '<'},
    {"mapping", test_kind, "", 0, KIND(DICT)},
    {"ne", test_compare, "/ b", 1, '!'},
    {"none", test_kind, "", 0, KIND(NONE)},
    {"number", test_kind, "", 0, ANY_NUMBER},
    {"odd", test_rest, "/", 0, 1},
    {"sameas", test_sameas, "other", 1, 0},
    {"sequence", test_kind, "", 0, SEQUENCES},
    {"string", test_kind, "", 0, KIND(STRING)},
    {"test", test_name, "", 0, 't'},
    {"true", test_bool, "", 0, 1},
    {"undefined", test_kind, "", 0, KIND(UNDEFINED)},
    {"upper", test_case, "", 0, 'u'},
};

static const JBuiltin functions[] = {
    {"cycler", function_cycler, NULL, 0, 0},
    {"dict", function_dict, NULL, 0, 0},
    {"joiner", function_joiner, "sep", 0, 0},
    {"namespace", function_namespace, NULL, 0, 0},
    {"raise_exception", function_raise_exception, "message", 1, 0},
    {"range", function_range, "/ start stop step", 1, 0},
    {"strftime_now", function_strftime_now, "format", 1, 0},
};

static const JBuiltin *find_builtin(const JBuiltin *table, size_t n, const char *name, size_t size)
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
    return find_builtin(filters, sizeof filters / sizeof *filters, name, size);
}

const JBuiltin *jinja_test(const char *name, size_t size)
{
    return find_builtin(tests, sizeof tests / sizeof *tests, name, size);
}

const JBuiltin *jinja_function(const char *name, size_t size)
{
    return find_builtin(functions, sizeof functions / sizeof *functions, name, size);
}
