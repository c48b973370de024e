// jinja_methods.c - methods of strings, lists and dictionaries, and formatting, as Python has them.
// See jinja_value.h.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "text/case_tables.h"
#include "text/jinja_value.h"

#define METHOD(name) static JValue method_##name(Jinja *j, JValue s, const JArgs *a)

// --------------------------------------------------------------------------------------------
// Characters

int jinja_flags(uint32_t c)
{
    size_t low = 0, high = N_CASE_FLAG_RUNS;
    while (high - low > 1) {
        const size_t middle = (low + high) / 2;
        if (case_flag_runs[middle] >> CASE_SHIFT <= c) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return (int)(case_flag_runs[low] & ((1u << CASE_SHIFT) - 1));
}

bool jinja_is_space(uint32_t c)
{
    return (c >= 9 && c <= 13) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 ||
           c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 ||
           c == 0x202f || c == 0x205f || c == 0x3000;
}

static bool ends_line(uint32_t c)
{
    return (c >= 10 && c <= 13) || (c >= 0x1c && c <= 0x1e) || c == 0x85 || c == 0x2028 ||
           c == 0x2029;
}

enum {
    CASED = CASE_UPPER | CASE_LOWER | CASE_TITLE,
    DIGITS = CASE_DECIMAL | CASE_DIGIT | CASE_NUMERIC,
};

// Adds the other case of a character.
static void add_case(Jinja *j, JText *to, uint32_t c, int how, uint32_t mark)
{
    static const struct {
        char how;
        const CaseRun *runs;
        size_t n_runs;
        const CaseSpecial *specials;
        size_t n_specials;
    } tables[] = {
        {'u', case_upper_runs, N_CASE_UPPER_RUNS, case_upper_specials, N_CASE_UPPER_SPECIALS},
        {'l', case_lower_runs, N_CASE_LOWER_RUNS, case_lower_specials, N_CASE_LOWER_SPECIALS},
        {'t', case_title_runs, N_CASE_TITLE_RUNS, case_title_specials, N_CASE_TITLE_SPECIALS},
        {'f', case_fold_runs, N_CASE_FOLD_RUNS, case_fold_specials, N_CASE_FOLD_SPECIALS},
    };
    size_t t = 0;
    while (tables[t].how != how) {
        t++;
    }
    for (size_t i = 0; c >= 0x80 && i < tables[t].n_specials; i++) {
        const CaseSpecial *special = &tables[t].specials[i];
        if (special->code_point == c) {
            for (size_t k = 0; k < 3 && special->to[k]; k++) {
                jinja_add_code(j, to, special->to[k], mark);
            }
            return;
        }
    }
    for (size_t i = 0; i < tables[t].n_runs && tables[t].runs[i].first <= c; i++) {
        const CaseRun r = tables[t].runs[i];
        if (c <= r.last && (c - r.first) % r.stride == 0) {
            jinja_add_code(j, to, (uint32_t)((int32_t)c + r.delta), mark);
            return;
        }
    }
    jinja_add_code(j, to, c, mark);
}

// Is the sigma at `at` the last letter of a word?
static bool final_sigma(JValue s, size_t at, bool cased_before)
{
    uint32_t c;
    for (size_t i = at + 2; cased_before && i < s.size;) {
        i += jinja_char(s, i, &c);
        const int flags = jinja_flags(c);
        if (!(flags & CASE_IGNORABLE)) {
            return !(flags & CASED);
        }
    }
    return cased_before;
}

JValue jinja_recase(Jinja *j, JValue s, int how)
{
    JText *t = jinja_text(j);
    bool cased = false;  // before, but for ignorable characters: of a word for titles
    bool word = false;   // the character before is cased
    uint32_t c;
    for (size_t at = 0, n; at < s.size && jinja_step(j, 1); at += n) {
        n = jinja_char(s, at, &c);
        const int flags = jinja_flags(c);
        int to = how;
        if (how == 't') {
            to = word ? 'l' : 't';
        } else if (how == 'c') {
            to = at ? 'l' : 't';
        } else if (how == 's') {
            to = flags & CASE_UPPER ? 'l' : flags & CASE_LOWER ? 'u' : 0;
        }
        const uint32_t mark = jinja_mark_at(s, at);
        if (to == 'l' && c == 0x3a3) {
            jinja_add_code(j, t, final_sigma(s, at, cased) ? 0x3c2 : 0x3c3, mark);
        } else if (to && (c < 0xdc80 || c > 0xdcff)) {
            add_case(j, t, c, to, mark);
        } else {
            jinja_add(j, t, jinja_bytes(s) + at, n, mark);
        }
        word = flags & CASED;
        cased = flags & CASE_IGNORABLE ? cased : flags & CASED;
    }
    JValue result = jinja_string(t);
    result.safe = s.safe;
    return result;
}

static bool in_set(JValue set, uint32_t c)
{
    uint32_t member;
    for (size_t at = 0; at < set.size;) {
        at += jinja_char(set, at, &member);
        if (member == c) {
            return true;
        }
    }
    return false;
}

JValue jinja_strip(JValue s, JValue characters, bool left, bool right)
{
    const bool space = characters.kind != J_STRING;
    uint32_t c;
    while (left && s.size) {
        const size_t n = jinja_char(s, 0, &c);
        if (!(space ? jinja_is_space(c) : in_set(characters, c))) {
            break;
        }
        s = jinja_slice(s, n, s.size - n);
    }
    while (right && s.size) {
        size_t start = s.size - 1;
        while (start > 0 && s.size - start < 4 && utf8_continues(jinja_bytes(s)[start])) {
            start--;
        }
        start = start + jinja_char(s, start, &c) == s.size ? start : s.size - 1u;
        jinja_char(s, start, &c);
        if (!(space ? jinja_is_space(c) : in_set(characters, c))) {
            break;
        }
        s.size = (uint32_t)start;
    }
    return s;
}

// --------------------------------------------------------------------------------------------
// Arguments

static JValue text_argument(Jinja *j, const JArgs *a, size_t i)
{
    if (a->values[i].kind != J_STRING) {
        jinja_fail(j, "a method has a %s, expected a str", jinja_kind(a->values[i]));
        return jinja_string(jinja_text(j));
    }
    return a->values[i];
}

static int64_t int_argument(Jinja *j, const JArgs *a, size_t i, int64_t otherwise)
{
    const JValue v = a->values[i];
    if (v.kind == J_MISSING || (v.kind == J_NONE && otherwise != -1)) {
        return otherwise;
    }
    if (v.kind != J_INT && v.kind != J_BOOL) {
        jinja_fail(j, "a method has a %s, expected an int", jinja_kind(v));
    }
    return v.integer;
}

static bool is_given(const JArgs *a, size_t i)
{
    return a->values[i].kind != J_MISSING && a->values[i].kind != J_NONE;
}

// Escapes an argument of a safe string's method.
static JValue as_safe(Jinja *j, JValue s, JValue argument)
{
    return s.safe ? jinja_escape(j, argument) : argument;
}

// The last place of a text, before the end.
static const char *find_last(JValue in, JValue what)
{
    for (size_t left = in.size + 1u; left > 0; left--) {
        const size_t at = left - 1;
        if (in.size - at >= what.size &&
            memcmp(jinja_bytes(in) + at, jinja_bytes(what), what.size) == 0) {
            return jinja_bytes(in) + at;
        }
    }
    return NULL;
}

// --------------------------------------------------------------------------------------------
// Case and kind

// upper, lower, title, capitalize, swapcase and casefold.
METHOD(recase) { return jinja_recase(j, s, a->how); }

// Has the string characters, all with one of the flags?
static JValue all_flagged(JValue s, int flags)
{
    bool all = s.size > 0;
    uint32_t c;
    for (size_t at = 0; all && at < s.size;) {
        at += jinja_char(s, at, &c);
        all = (jinja_flags(c) & flags) && !(c >= 0xdc80 && c <= 0xdcff);
    }
    return jinja_bool(all);
}

// isalpha, isdecimal, isdigit, isnumeric and isalnum.
METHOD(is_all) { return (void)j, all_flagged(s, a->how); }

// Has the string a character with one of `some`, and none with one of `none`?
static JValue some_flagged(JValue s, int some, int none)
{
    bool any = false;
    uint32_t c;
    for (size_t at = 0; at < s.size;) {
        at += jinja_char(s, at, &c);
        const int flags = jinja_flags(c);
        if (flags & none) {
            return jinja_bool(false);
        }
        any |= (flags & some) != 0;
    }
    return jinja_bool(any);
}

// isupper and islower.
METHOD(is_cased) { return (void)j, some_flagged(s, a->how, CASED & ~a->how); }

METHOD(istitle)
{
    (void)j, (void)a;
    bool word = false, any = false;
    uint32_t c;
    for (size_t at = 0; at < s.size;) {
        at += jinja_char(s, at, &c);
        const int flags = jinja_flags(c) & CASED;
        if (flags && word != ((flags & CASE_LOWER) != 0)) {
            return jinja_bool(false);
        }
        word = flags;
        any |= word;
    }
    return jinja_bool(any);
}

METHOD(isspace)
{
    (void)j, (void)a;
    return jinja_bool(s.size && jinja_strip(s, jinja_none(), true, false).size == 0);
}

METHOD(isascii)
{
    (void)j, (void)a;
    bool ascii = true;
    for (size_t i = 0; i < s.size; i++) {
        ascii &= (uint8_t)jinja_bytes(s)[i] < 0x80;
    }
    return jinja_bool(ascii);
}

METHOD(isprintable)
{
    (void)j, (void)a;
    return jinja_bool(!s.size || some_flagged(s, ~0, CASE_UNPRINTABLE).integer ||
                      !some_flagged(s, CASE_UNPRINTABLE, 0).integer);
}

METHOD(isidentifier)
{
    (void)j, (void)a;
    uint32_t c = 0;
    const size_t n = s.size ? jinja_char(s, 0, &c) : 0;
    const JValue rest = jinja_slice(s, n, s.size - n);
    return jinja_bool(n && (jinja_flags(c) & CASE_NAME_START) &&
                      (!rest.size || all_flagged(rest, CASE_NAME).integer));
}

// --------------------------------------------------------------------------------------------
// Searching. Bounds count characters, as those of slices do.

// The part of s between the bounds at arguments i and i + 1, and how many characters precede it;
// false if the first is after the end.
static bool bounded(Jinja *j, JValue *s, const JArgs *a, size_t i, int64_t *before)
{
    const bool bounds = is_given(a, i) || is_given(a, i + 1);
    const int64_t n = bounds ? (int64_t)jinja_length(*s) : 0;
    int64_t from = is_given(a, i) ? int_argument(j, a, i, 0) : 0;
    int64_t to = is_given(a, i + 1) ? int_argument(j, a, i + 1, 0) : n;
    from += from < 0 ? n : 0;
    to += to < 0 ? n : 0;
    *before = from = from < 0 ? 0 : from;
    if (!bounds || j->failed) {
        return !j->failed;
    }
    to = to < 0 ? 0 : to > n ? n : to;
    if (from > to) {
        return false;
    }
    const size_t at = jinja_offset(*s, (size_t)from);
    *s = jinja_slice(*s, at, jinja_offset(*s, (size_t)to) - at);
    return true;
}

enum { LAST = 1, MUST = 2 };

// find, rfind, index and rindex.
METHOD(find)
{
    const bool last = a->how & LAST, must = a->how & MUST;
    const JValue what = text_argument(j, a, 0);
    int64_t before;
    const bool inside = jinja_step(j, s.size / 16) && bounded(j, &s, a, 1, &before);
    const char *found = !inside ? NULL : last ? find_last(s, what) : jinja_search(j, s, 0, what);
    if (!found) {
        return must ? jinja_fail(j, "the text that index looks for is not there") : jinja_int(-1);
    }
    return jinja_int(before +
                     (int64_t)jinja_length(jinja_slice(s, 0, (size_t)(found - jinja_bytes(s)))));
}

METHOD(count)
{
    const JValue what = text_argument(j, a, 0);
    int64_t before, n = 0;
    if (!bounded(j, &s, a, 1, &before)) {
        return jinja_int(0);
    }
    if (what.size == 0) {
        return jinja_int((int64_t)jinja_length(s) + 1);
    }
    for (const char *p = jinja_search(j, s, 0, what); p && jinja_step(j, 1); n++) {
        p = jinja_search(j, s, (size_t)(p - jinja_bytes(s)) + what.size, what);
    }
    return jinja_int(n);
}

// startswith and endswith.
METHOD(has_affix)
{
    const bool end = a->how;
    const JValue affix = a->values[0];
    int64_t before;
    const bool inside = bounded(j, &s, a, 1, &before);
    const JList *l = affix.kind == J_TUPLE ? affix.list : NULL;
    for (size_t i = 0; i < (l ? l->n : 1) && jinja_step(j, 1); i++) {
        const JValue x = l ? l->items[i] : affix;
        if (x.kind != J_STRING) {
            return jinja_fail(j, "startswith or endswith of a %s", jinja_kind(x));
        }
        const size_t at = end && x.size <= s.size ? s.size - x.size : 0;
        if (inside && x.size <= s.size &&
            memcmp(jinja_bytes(s) + at, jinja_bytes(x), x.size) == 0) {
            return jinja_bool(true);
        }
    }
    return jinja_bool(false);
}

// removeprefix and removesuffix.
METHOD(remove)
{
    const JValue x = text_argument(j, a, 0);
    const JArgs all = {(JValue[]){x, {0}, {0}}, 3, NULL, a->how};
    const bool has = method_has_affix(j, s, &all).integer;
    return has ? jinja_slice(s, a->how ? 0 : x.size, s.size - x.size) : s;
}

// --------------------------------------------------------------------------------------------
// Taking apart and putting together

enum { LEFT = 1, RIGHT = 2 };

// strip, lstrip and rstrip.
METHOD(strip)
{
    const JValue characters = is_given(a, 0) ? text_argument(j, a, 0) : jinja_none();
    return jinja_strip(s, characters, a->how & LEFT, a->how & RIGHT);
}

// Splits at white space, from the left or from the right, at most `most` times.
static void split_space(Jinja *j, JValue s, JList *l, int64_t most, bool right)
{
    const JValue space = jinja_none();
    s = jinja_strip(s, space, !right, right);
    for (; s.size && jinja_step(j, 1); most--) {
        size_t at = right ? s.size : 0;  // where the word ends that comes next
        for (bool in = true; in && (right ? at > 0 : at < s.size);) {
            // White space begins with a byte that does not continue a character.
            const size_t from = right ? at - 1 : at;
            uint32_t c;
            const size_t n = jinja_char(s, from, &c);
            in = utf8_continues(jinja_bytes(s)[from]) || !jinja_is_space(c);
            at = !in ? (right ? at + n - 1 : at) : right ? at - 1 : at + n;
        }
        jinja_step(j, (right ? s.size - at : at) / 16);
        const JValue word = most == 0 ? jinja_strip(s, space, right, !right)
                            : right   ? jinja_slice(s, at, s.size - at)
                                      : jinja_slice(s, 0, at);
        jinja_push(j, l, word);
        s = most == 0 ? jinja_slice(s, 0, 0)
            : right   ? jinja_slice(s, 0, at)
                      : jinja_slice(s, at, s.size - at);
        s = jinja_strip(s, space, !right, right);
    }
}

// split and rsplit.
METHOD(split)
{
    const bool right = a->how == RIGHT;
    JList *l = jinja_list(j, 4);
    int64_t most = int_argument(j, a, 1, INT64_MAX);
    most = most < 0 ? INT64_MAX : most;
    if (!is_given(a, 0)) {
        split_space(j, s, l, most, right);
    } else {
        const JValue by = text_argument(j, a, 0);
        if (by.size == 0) {
            return jinja_fail(j, "split by an empty str");
        }
        for (const char *p; most && jinja_step(j, 1 + s.size / 64); most--) {
            p = right ? find_last(s, by) : jinja_search(j, s, 0, by);
            if (!p) {
                break;
            }
            const size_t at = (size_t)(p - jinja_bytes(s)), after = at + by.size;
            jinja_push(j, l, right ? jinja_slice(s, after, s.size - after) : jinja_slice(s, 0, at));
            s = right ? jinja_slice(s, 0, at) : jinja_slice(s, after, s.size - after);
        }
        jinja_push(j, l, s);
    }
    for (size_t i = 0; right && i < l->n / 2; i++) {
        const JValue swap = l->items[i];
        l->items[i] = l->items[l->n - 1 - i];
        l->items[l->n - 1 - i] = swap;
    }
    return jinja_list_value(J_LIST, l);
}

METHOD(splitlines)
{
    const bool keep = a->values[0].kind != J_MISSING && jinja_truth(a->values[0]);
    JList *l = jinja_list(j, 4);
    size_t start = 0;
    uint32_t c;
    for (size_t at = 0; at < s.size && !j->failed;) {
        const size_t begin = at;
        at += jinja_char(s, at, &c);
        if (!ends_line(c)) {
            continue;
        }
        at += c == '\r' && at < s.size && jinja_bytes(s)[at] == '\n';
        jinja_push(j, l, jinja_slice(s, start, (keep ? at : begin) - start));
        start = at;
    }
    if (start < s.size) {
        jinja_push(j, l, jinja_slice(s, start, s.size - start));
    }
    return jinja_list_value(J_LIST, l);
}

// partition and rpartition.
METHOD(partition)
{
    const bool right = a->how == RIGHT;
    const JValue by = text_argument(j, a, 0);
    JList *l = jinja_list(j, 3);
    if (by.size == 0) {
        return jinja_fail(j, "partition by an empty str");
    }
    const char *p = right ? find_last(s, by) : jinja_search(j, s, 0, by);
    const size_t at = p ? (size_t)(p - jinja_bytes(s)) : right ? 0 : s.size;
    const size_t after = p ? at + by.size : at;
    jinja_push(j, l, jinja_slice(s, 0, at));
    jinja_push(j, l, jinja_slice(s, at, after - at));
    jinja_push(j, l, jinja_slice(s, after, s.size - after));
    return jinja_list_value(J_TUPLE, l);
}

METHOD(replace)
{
    const JValue old = text_argument(j, a, 0), new = as_safe(j, s, text_argument(j, a, 1));
    int64_t most = int_argument(j, a, 2, -1);
    JText *t = jinja_text(j);
    size_t at = 0;
    uint32_t c;
    for (const char *p; most != 0 && jinja_step(j, 1); most -= most > 0) {
        p = jinja_search(j, s, at, old);
        if (!p) {
            break;
        }
        const size_t found = (size_t)(p - jinja_bytes(s));
        jinja_add_string(j, t, jinja_slice(s, at, found - at));
        jinja_add_string(j, t, new);
        at = found + old.size;
        if (old.size == 0) {  // before each character and at the end
            if (at == s.size) {
                at++;
                break;
            }
            const size_t n = jinja_char(s, at, &c);
            jinja_add_string(j, t, jinja_slice(s, at, n));
            at += n;
        }
    }
    if (at < s.size) {
        jinja_add_string(j, t, jinja_slice(s, at, s.size - at));
    }
    JValue result = jinja_string(t);
    result.safe = s.safe;
    return result;
}

METHOD(join)
{
    const JList *l = jinja_items(j, a->values[0]);
    JText *t = jinja_text(j);
    for (size_t i = 0; i < l->n && jinja_step(j, 1); i++) {
        if (l->items[i].kind != J_STRING && !s.safe) {
            return jinja_fail(j, "join has a %s, expected strings", jinja_kind(l->items[i]));
        }
        jinja_add_string(j, t, i ? s : jinja_slice(s, 0, 0));
        jinja_add_string(j, t, as_safe(j, s, l->items[i]));
    }
    JValue result = jinja_string(t);
    result.safe = s.safe;
    return result;
}

// Adds s with n characters in all, filled up with `fill`; `left` of them before it.
static void add_filled(Jinja *j, JText *t, JValue s, JValue fill, int64_t left, int64_t right)
{
    for (; left > 0 && jinja_step(j, 1); left--) {
        jinja_add_string(j, t, fill);
    }
    jinja_add_string(j, t, s);
    for (; right > 0 && jinja_step(j, 1); right--) {
        jinja_add_string(j, t, fill);
    }
}

// ljust, rjust and center.
METHOD(justify)
{
    const int how = a->how;
    const int64_t width = int_argument(j, a, 0, 0), missing = width - (int64_t)jinja_length(s);
    const JValue fill = a->values[1].kind == J_MISSING ? jinja_literal(j, " ")
                                                       : as_safe(j, s, text_argument(j, a, 1));
    if (j->failed || jinja_length(fill) != 1) {
        return jinja_fail(j, "a string is filled up with several characters");
    }
    if (missing <= 0) {
        return s;
    }
    const int64_t left = how == '<'   ? 0
                         : how == '>' ? missing
                                      : missing / 2 + (missing & width & 1);
    JText *t = jinja_text(j);
    add_filled(j, t, s, fill, left, missing - left);
    JValue result = jinja_string(t);
    result.safe = s.safe;
    return result;
}

METHOD(zfill)
{
    const int64_t missing = int_argument(j, a, 0, 0) - (int64_t)jinja_length(s);
    const bool sign = s.size && strchr("+-", *jinja_bytes(s)) && *jinja_bytes(s);
    JText *t = jinja_text(j);
    jinja_add_string(j, t, jinja_slice(s, 0, sign));
    add_filled(j, t, jinja_slice(s, sign, s.size - sign), jinja_literal(j, "0"), missing, 0);
    return jinja_string(t);
}

METHOD(expandtabs)
{
    const int64_t size = int_argument(j, a, 0, 8);
    JText *t = jinja_text(j);
    const JValue space = jinja_literal(j, " ");
    int64_t column = 0;
    uint32_t c;
    for (size_t at = 0, n; at < s.size && jinja_step(j, 1); at += n) {
        n = jinja_char(s, at, &c);
        const int64_t fill = c == '\t' ? (size > 0 ? size - column % size : 0) : 0;
        add_filled(j, t, jinja_slice(s, at, c == '\t' ? 0 : n), space, fill, 0);
        column = c == '\n' || c == '\r' ? 0 : column + (c == '\t' ? fill : 1);
    }
    return jinja_string(t);
}

// --------------------------------------------------------------------------------------------
// Formatting

// What stands after the colon of {:>+#010,.3f}, or between % and the letter of %-5.2f.
typedef struct {
    JValue fill;  // one character
    char align;   // < > = ^, or NUL for what the type has
    char sign;    // + or space, or NUL
    bool alternate;
    char comma;                // , or _, or NUL
    int64_t width, precision;  // -1: none
    char type;                 // NUL: none
} Spec;

// Writes a double without its sign.
static bool real_text(char *out, size_t room, double d, const Spec *spec)
{
    const char type = spec->type;
    char format[16];
    const int precision = spec->precision < 0 ? 6 : (int)spec->precision;
    if (precision > 300 || !strchr("eEfFgG%", type)) {
        return false;
    }
    snprintf(format, sizeof format, spec->alternate ? "%%#.*%c" : "%%.*%c",
             type == '%' ? 'f' : type);
    snprintf(out, room, format, precision, type == '%' ? d * 100 : d);
    if (type == '%') {
        strncat(out, "%", room - strlen(out) - 1);
    }
    return true;
}

// Writes the absolute value of an integer in base 2, 8, 10 or 16, with its prefix.
static bool int_text(char *out, uint64_t n, const Spec *spec)
{
    const char type = spec->type ? spec->type : 'd';
    const unsigned base = type == 'b' ? 2 : type == 'o' ? 8 : (type | 32) == 'x' ? 16 : 10;
    if (!strchr("bodxXniu", type)) {
        return false;
    }
    char digits[72];
    size_t at = sizeof digits - 1;
    digits[at] = '\0';
    do {
        digits[--at] = (type == 'X' ? "0123456789ABCDEF" : "0123456789abcdef")[n % base];
        n /= base;
    } while (n);
    const bool prefix = spec->alternate && base != 10;
    sprintf(out, "%s%s", prefix ? (char[]){'0', type, 0} : "", digits + at);
    return true;
}

// Puts separators between groups of digits of the whole part.
static void group_digits(char *text, char separator, size_t every)
{
    const size_t whole = strspn(text, "0123456789abcdefABCDEF"), size = strlen(text);
    size_t n = whole ? (whole - 1) / every : 0;
    memmove(text + whole + n, text + whole, size - whole + 1);
    for (size_t from = whole, to = whole + n, i = 0; n && from > 0;) {
        text[--to] = text[--from];
        if (++i % every == 0 && from) {
            text[--to] = separator;
            n--;
        }
    }
}

// Adds the text of a number with sign, filled up to the width.
static void add_number(Jinja *j, JText *to, bool negative, const char *text, const Spec *spec)
{
    const char *sign = negative ? "-" : spec->sign == '+' ? "+" : spec->sign == ' ' ? " " : "";
    const bool prefix = spec->alternate && text[0] == '0' && text[1] && strchr("bodxX", text[1]);
    const int64_t missing = spec->width - (int64_t)(strlen(sign) + strlen(text));
    const char align = spec->align ? spec->align : '>';
    const int64_t left = missing <= 0 || align == '<' ? 0 : align == '^' ? missing / 2 : missing;
    const JValue nothing = jinja_slice(spec->fill, 0, 0);
    add_filled(j, to, nothing, spec->fill, align == '=' ? 0 : left, 0);
    jinja_add_text(j, to, sign, 0);
    jinja_add(j, to, text, prefix ? 2 : 0, 0);
    add_filled(j, to, nothing, spec->fill, align == '=' ? left : 0, 0);
    jinja_add_text(j, to, text + (prefix ? 2 : 0), 0);
    add_filled(j, to, nothing, spec->fill, missing - left, 0);
}

static void format_string(Jinja *j, JText *to, JValue s, const Spec *spec)
{
    const size_t n = spec->precision < 0 ? s.size : jinja_offset(s, (size_t)spec->precision);
    s = jinja_slice(s, 0, n);
    const int64_t missing = spec->width - (int64_t)jinja_length(s);
    const int64_t left = missing <= 0 || spec->align == '<' || !spec->align ? 0
                         : spec->align == '^'                               ? missing / 2
                                                                            : missing;
    if (spec->align == '=' || spec->sign || spec->comma || spec->alternate ||
        (spec->type && spec->type != 's')) {
        jinja_fail(j, "a format does not fit a str");
    }
    add_filled(j, to, s, spec->fill, left, missing - left);
}

static void format_number(Jinja *j, JText *to, JValue v, const Spec *given)
{
    char text[2048];
    Spec spec = *given;
    double d;
    jinja_number(v, &d);
    const bool real = v.kind == J_FLOAT || (spec.type && strchr("eEfFgG%", spec.type));
    bool ok;
    if (real && !spec.type) {
        JText *plain = jinja_text(j);
        if (spec.precision >= 0) {
            spec.type = 'g';
            ok = real_text(text, sizeof text / 2, fabs(d), &spec);
            if (ok && !strpbrk(text, ".en")) {
                memcpy(text + strlen(text), ".0", 3);
            }
        } else {
            jinja_write(j, plain, jinja_real(fabs(d)), false);
            ok = plain->used < sizeof text / 2;
            memcpy(text, plain->bytes, ok ? plain->used : 0);
            text[ok ? plain->used : 0] = '\0';
        }
    } else if (real) {
        ok = real_text(text, sizeof text / 2, fabs(d), &spec);
    } else {
        const uint64_t magnitude = v.integer < 0 ? 0 - (uint64_t)v.integer : (uint64_t)v.integer;
        ok = int_text(text, magnitude, &spec) && spec.precision < 0;
    }
    if (!ok) {
        jinja_fail(j, "a format does not fit a number");
        return;
    }
    if (spec.comma) {
        group_digits(text, spec.comma, spec.type && strchr("boxX", spec.type) ? 4 : 3);
    }
    add_number(j, to, real ? signbit(d) && !isnan(d) : v.integer < 0, text, &spec);
}

// Reads digits at *at; -1 if there are none.
static int64_t read_count(JValue s, size_t *at)
{
    int64_t n = -1;
    for (; *at < s.size && jinja_bytes(s)[*at] >= '0' && jinja_bytes(s)[*at] <= '9'; ++*at) {
        n = (n < 0 ? 0 : n) * 10 + (jinja_bytes(s)[*at] - '0');
        n = n > INT32_MAX ? INT32_MAX : n;
    }
    return n;
}

// The byte at an offset; NUL after the end.
static char char_at(JValue s, size_t i) { return i < s.size ? jinja_bytes(s)[i] : '\0'; }

// format(v, text): text is a format specification of Python.
static void format_value(Jinja *j, JText *to, JValue v, JValue text)
{
    Spec spec = {.fill = jinja_literal(j, " "), .width = 0, .precision = -1};
    size_t at = 0;
    uint32_t c = 0;
    const size_t first = text.size ? jinja_char(text, 0, &c) : 0;
    if (first && char_at(text, first) && strchr("<>=^", char_at(text, first))) {
        spec.fill = jinja_slice(text, 0, first);
        spec.align = char_at(text, first);
        at = first + 1;
    } else if (char_at(text, 0) && strchr("<>=^", char_at(text, 0))) {
        spec.align = char_at(text, at++);
    }
    if (char_at(text, at) && strchr("+- ", char_at(text, at))) {
        spec.sign = char_at(text, at++);
    }
    spec.alternate = char_at(text, at) == '#';
    at += spec.alternate;
    if (char_at(text, at) == '0') {
        at++;
        spec.fill = at == 1 || !spec.align ? jinja_literal(j, "0") : spec.fill;
        spec.align = spec.align ? spec.align : v.kind == J_STRING ? '<' : '=';
    }
    spec.width = read_count(text, &at);
    spec.comma = char_at(text, at) && strchr(",_", char_at(text, at)) ? char_at(text, at++) : '\0';
    if (char_at(text, at) == '.') {
        at++;
        spec.precision = read_count(text, &at);
        spec.precision = spec.precision < 0 ? INT64_MAX : spec.precision;
    }
    spec.type = char_at(text, at) ? char_at(text, at++) : '\0';
    double d;
    if (text.size == 0) {
        jinja_write(j, to, v, false);
    } else if (at != text.size || spec.precision == INT64_MAX) {
        jinja_fail(j, "a format cannot be read");
    } else if (v.kind == J_STRING) {
        format_string(j, to, v, &spec);
    } else if (jinja_number(v, &d)) {
        format_number(j, to, v, &spec);
    } else {
        jinja_fail(j, "a %s takes no format", jinja_kind(v));
    }
}

// str.format: fields are {name.attribute[item]!r:format}; the format may have fields itself.
typedef struct {
    const JArgs *args;
    size_t next;     // field by position
    bool automatic;  // {} was used, hence {0} must not be
    bool manual;
    bool safe;
} Fields;

static void format_text(Jinja *j, JText *to, JValue s, Fields *fields, int depth);

// The value of a field's name, which is `name.attribute[item]..`.
static JValue field_value(Jinja *j, JValue name, Fields *fields)
{
    size_t at = 0;
    while (at < name.size && !strchr(".[", jinja_bytes(name)[at])) {
        at++;
    }
    size_t digits = 0;
    const JValue first = jinja_slice(name, 0, at);
    int64_t index = read_count(first, &digits);
    const JArgs *a = fields->args;
    JValue v;
    if (at == 0 || digits == at) {
        *(at ? &fields->manual : &fields->automatic) = true;
        index = at ? index : (int64_t)fields->next++;
        if (index < 0 || (size_t)index >= a->n || (fields->manual && fields->automatic)) {
            return jinja_fail(j, "a format has no value for a field by position");
        }
        v = a->values[index];
    } else {
        const JValue *named = a->named ? jinja_find(j, a->named, first) : NULL;
        if (!named) {
            return jinja_fail(j, "a format has no value for '%.*s'", (int)first.size,
                              jinja_bytes(first));
        }
        v = *named;
    }
    while (at < name.size && !j->failed) {
        const bool item = jinja_bytes(name)[at] == '[';
        size_t end = ++at;
        while (end < name.size &&
               (item ? jinja_bytes(name)[end] != ']' : !strchr(".[", jinja_bytes(name)[end]))) {
            end++;
        }
        const JValue key = jinja_slice(name, at, end - at);
        digits = 0;
        index = read_count(key, &digits);
        if (!key.size || (item && end == name.size)) {
            return jinja_fail(j, "a format's field has an empty attribute");
        }
        v = !item ? jinja_attribute(j, v, key)
                  : jinja_item(j, v, digits == key.size ? jinja_int(index) : key);
        at = end + item;
    }
    return v;
}

static void format_field(Jinja *j, JText *to, JValue field, Fields *fields, int depth)
{
    size_t end = 0;
    bool bracket = false;
    for (; end < field.size && (bracket || !strchr("!:", jinja_bytes(field)[end])); end++) {
        bracket = jinja_bytes(field)[end] == '[' || (bracket && jinja_bytes(field)[end] != ']');
    }
    JValue v = field_value(j, jinja_slice(field, 0, end), fields);
    if (end < field.size && jinja_bytes(field)[end] == '!') {
        const char how = end + 1 < field.size ? jinja_bytes(field)[end + 1] : '\0';
        JText *converted = jinja_text(j);
        if (how != 'r' && how != 's') {
            jinja_fail(j, "a format's conversion is not !r or !s");
        }
        jinja_write(j, converted, v, how == 'r');
        v = jinja_string(converted);
        end += 2;
        if (end < field.size && jinja_bytes(field)[end] != ':') {
            jinja_fail(j, "a format cannot be read");
        }
    }
    JText *spec = jinja_text(j);
    if (end < field.size && !j->failed) {
        format_text(j, spec, jinja_slice(field, end + 1, field.size - end - 1), fields, depth + 1);
    }
    JText *plain = jinja_text(j);
    if (!j->failed) {
        format_value(j, plain, v, jinja_string(spec));
    }
    JValue done = jinja_string(plain);
    done.safe = v.kind == J_STRING && v.safe;
    jinja_add_string(j, to, fields->safe ? jinja_escape(j, done) : done);
}

static void format_text(Jinja *j, JText *to, JValue s, Fields *fields, int depth)
{
    if (depth > 2) {
        jinja_fail(j, "a format's fields are nested too deeply");
    }
    for (size_t at = 0; at < s.size && jinja_step(j, 1);) {
        const char *p = jinja_bytes(s) + at;
        const bool doubled = at + 1 < s.size && p[0] == p[1];
        if ((*p == '{' || *p == '}') && doubled) {
            jinja_add_string(j, to, jinja_slice(s, at, 1));
            at += 2;
        } else if (*p == '}') {
            jinja_fail(j, "a format has a single '}'");
        } else if (*p == '{') {
            size_t end = ++at;
            for (int open = 1; end < s.size && open; end++) {
                open += jinja_bytes(s)[end] == '{';
                open -= jinja_bytes(s)[end] == '}';
                if (end + 1 == s.size && open) {
                    jinja_fail(j, "a format has a single '{'");
                }
            }
            if (end == at) {
                jinja_fail(j, "a format has a single '{'");
                return;
            }
            format_field(j, to, jinja_slice(s, at, end - at - 1), fields, depth);
            at = end;
        } else {
            size_t end = at;
            while (end < s.size && !strchr("{}", jinja_bytes(s)[end])) {
                end++;
            }
            end += end == at;  // a zero byte
            jinja_add_string(j, to, jinja_slice(s, at, end - at));
            at = end;
        }
    }
}

static JValue format_all(Jinja *j, JValue s, const JArgs *a)
{
    Fields fields = {.args = a, .safe = s.safe};
    JText *t = jinja_text(j);
    format_text(j, t, s, &fields, 0);
    JValue result = jinja_string(t);
    result.safe = s.safe;
    return result;
}

METHOD(format) { return format_all(j, s, a); }

METHOD(format_map)
{
    if (a->values[0].kind != J_DICT) {
        return jinja_fail(j, "format_map of a %s", jinja_kind(a->values[0]));
    }
    return format_all(j, s, &(JArgs){NULL, 0, a->values[0].dict, 0});
}

// The values that a % takes, one after the other.
typedef struct {
    JValue all;  // a tuple of them, a dictionary, or the only one
    size_t next;
} Taken;

static JValue next_value(Jinja *j, Taken *t)
{
    const size_t n = t->all.kind == J_TUPLE ? t->all.list->n : 1;
    if (t->next >= n) {
        return jinja_fail(j, "a format has too few values");
    }
    const JValue v = t->all.kind == J_TUPLE ? t->all.list->items[t->next] : t->all;
    t->next++;
    return v;
}

static int64_t take_count(Jinja *j, Taken *t, JValue s, size_t *at)
{
    if (*at < s.size && jinja_bytes(s)[*at] == '*') {
        ++*at;
        const JValue v = next_value(j, t);
        if (v.kind != J_INT || v.integer > INT32_MAX || v.integer < -INT32_MAX) {
            jinja_fail(j, "a format's * needs an int");
        }
        return v.integer;
    }
    return read_count(s, at);
}

// Adds one value as %[flags][width][.precision]type says.
static void format_percent(Jinja *j, JText *to, JValue v, Spec spec, bool zero)
{
    double d = 0;
    const bool number = jinja_number(v, &d);
    const char type = spec.type == 'i' || spec.type == 'u' ? 'd' : spec.type;
    spec.type = type;
    if (spec.width < -1) {
        spec.align = '<';
        spec.width = -spec.width;
    }
    if (type == 's' || type == 'r' || type == 'a') {
        JText *t = jinja_text(j);
        jinja_write(j, t, v, type != 's');
        spec.type = spec.sign = '\0';
        spec.alternate = false;
        spec.align = spec.align ? spec.align : '>';
        format_string(j, to, jinja_string(t), &spec);
    } else if (type == 'c' && v.kind == J_STRING && jinja_length(v) == 1) {
        jinja_add_string(j, to, v);
    } else if (!number || !type || !strchr("doxXeEfFgG", type) ||
               (strchr("oxX", type) && v.kind == J_FLOAT)) {
        jinja_fail(j, "a format's %%%c does not fit a %s", type ? type : ' ', jinja_kind(v));
    } else {
        if (type == 'd' && v.kind == J_FLOAT) {
            if (!(fabs(d) < 9.2e18)) {
                jinja_fail(j, "a number does not fit 64 bits");
                return;
            }
            v = jinja_int((int64_t)d);
        }
        if (zero && spec.align != '<') {
            spec.align = '=';
            spec.fill = jinja_literal(j, "0");
        }
        const int64_t digits = strchr("doxX", type) ? spec.precision : -1;
        spec.precision = digits >= 0 ? -1 : spec.precision;
        if (digits > 0) {
            jinja_fail(j, "a format's precision of an integer is not supported");
        }
        format_number(j, to, v, &spec);
    }
}

// Reads [flags][width][.precision]type at *at, after the name in parentheses. *zero: the flag 0.
static Spec read_percent(Jinja *j, JValue s, size_t *at, Taken *taken, bool *zero)
{
    Spec spec = {.fill = jinja_literal(j, " "), .precision = -1};
    for (char c; (c = char_at(s, *at)) && strchr("-+ #0", c); ++*at) {
        *zero |= c == '0';
        spec.align = c == '-' ? '<' : spec.align;
        spec.sign = c == '+' || (c == ' ' && spec.sign != '+') ? c : spec.sign;
        spec.alternate |= c == '#';
    }
    spec.width = take_count(j, taken, s, at);
    if (char_at(s, *at) == '.') {
        ++*at;
        const int64_t digits = take_count(j, taken, s, at);
        spec.precision = digits < 0 ? 0 : digits;
    }
    *at += char_at(s, *at) && strchr("hlL", char_at(s, *at));
    spec.type = char_at(s, *at);
    *at += *at < s.size;
    return spec;
}

// The value named in parentheses at *at, if there are any.
static const JValue *percent_name(Jinja *j, JValue s, size_t *at, JValue args)
{
    if (char_at(s, *at) != '(') {
        return NULL;
    }
    const char *close = memchr(jinja_bytes(s) + *at, ')', s.size - *at);
    const size_t stop = close ? (size_t)(close - jinja_bytes(s)) : *at;
    const JValue name = jinja_slice(s, *at + 1, close ? stop - *at - 1 : 0);
    const JValue *v = close && args.kind == J_DICT ? jinja_find(j, args.dict, name) : NULL;
    if (!v) {
        jinja_fail(j, "a format has no value for a name");
    }
    *at = stop + 1;
    return v;
}

JValue jinja_format(Jinja *j, JValue s, JValue args)
{
    Taken taken = {args, 0};
    JText *t = jinja_text(j);
    bool mapped = false;
    for (size_t at = 0; at < s.size && jinja_step(j, 1);) {
        const char *percent = memchr(jinja_bytes(s) + at, '%', s.size - at);
        const size_t end = percent ? (size_t)(percent - jinja_bytes(s)) : s.size;
        jinja_add_string(j, t, jinja_slice(s, at, end - at));
        at = end + 1;
        if (!percent) {
            break;
        }
        bool zero = false;
        const JValue *named = percent_name(j, s, &at, args);
        const Spec spec = read_percent(j, s, &at, &taken, &zero);
        mapped |= named != NULL;
        if (spec.type == '%') {
            jinja_add_text(j, t, "%", jinja_mark_at(s, at - 1));
        } else if (!j->failed) {
            const JValue v = named ? *named : next_value(j, &taken);
            const bool text = s.safe && spec.type == 's';
            format_percent(j, t, text ? jinja_escape(j, v) : v, spec, zero);
        }
    }
    const bool several = args.kind == J_DICT || args.kind == J_LIST || args.kind == J_UNDEFINED;
    const size_t n = args.kind == J_TUPLE ? args.list->n : several ? 0 : 1;
    if (!mapped && taken.next < n) {
        return jinja_fail(j, "a format has too many values");
    }
    JValue result = jinja_string(t);
    result.safe = s.safe;
    return result;
}

// --------------------------------------------------------------------------------------------
// Lists and dictionaries

METHOD(list_index)
{
    for (size_t i = 0; i < s.list->n && jinja_step(j, 1); i++) {
        if (jinja_equal(j, s.list->items[i], a->values[0])) {
            return jinja_int((int64_t)i);
        }
    }
    return jinja_fail(j, "the value that index looks for is not there");
}

METHOD(list_count)
{
    int64_t n = 0;
    for (size_t i = 0; i < s.list->n && jinja_step(j, 1); i++) {
        n += jinja_equal(j, s.list->items[i], a->values[0]);
    }
    return jinja_int(n);
}

METHOD(copy)
{
    (void)j, (void)a;
    return s;
}

METHOD(get)
{
    if (a->values[0].kind == J_LIST || a->values[0].kind == J_DICT) {
        return jinja_fail(j, "a %s cannot be the key of a dict", jinja_kind(a->values[0]));
    }
    const JValue *found = jinja_find(j, s.dict, a->values[0]);
    return found ? *found : a->values[1].kind == J_MISSING ? jinja_none() : a->values[1];
}

enum { KEYS = 1, VALUES = 2 };

// keys, values and items.
METHOD(view)
{
    static const char *const names[] = {"", "dict_keys", "dict_values", "dict_items"};
    const JDict *d = s.dict;
    const bool keys = a->how & KEYS, values = a->how & VALUES;
    JList *l = jinja_list(j, d->n);
    for (size_t i = 0; i < d->n && jinja_step(j, 1); i++) {
        JList *pair = keys && values ? jinja_list(j, 2) : NULL;
        if (pair) {
            jinja_push(j, pair, d->keys[i]);
            jinja_push(j, pair, d->values[i]);
        }
        jinja_push(j, l, pair ? jinja_list_value(J_TUPLE, pair) : keys ? d->keys[i] : d->values[i]);
    }
    if (!j->failed) {
        l->name = names[a->how];
    }
    return jinja_list_value(J_VIEW, l);
}

METHOD(cycler_next)
{
    (void)j, (void)a;
    const JValue v = s.list->items[s.list->next];
    s.list->next = (s.list->next + 1) % s.list->n;
    return v;
}

METHOD(cycler_reset)
{
    (void)j, (void)a;
    s.list->next = 0;
    return jinja_none();
}

// --------------------------------------------------------------------------------------------
// Tables

static const JBuiltin string_methods[] = {
    {"capitalize", method_recase, "", 0, 'c'},
    {"casefold", method_recase, "", 0, 'f'},
    {"center", method_justify, "/ width fillchar", 1, '^'},
    {"count", method_count, "/ sub start end", 1, 0},
    {"endswith", method_has_affix, "/ suffix start end", 1, true},
    {"expandtabs", method_expandtabs, "tabsize", 0, 0},
    {"find", method_find, "/ sub start end", 1, 0},
    {"format", method_format, NULL, 0, 0},
    {"format_map", method_format_map, "/ mapping", 1, 0},
    {"index", method_find, "/ sub start end", 1, MUST},
    {"isalnum", method_is_all, "", 0, CASE_ALPHA | DIGITS},
    {"isalpha", method_is_all, "", 0, CASE_ALPHA},
    {"isascii", method_isascii, "", 0, 0},
    {"isdecimal", method_is_all, "", 0, CASE_DECIMAL},
    {"isdigit", method_is_all, "", 0, CASE_DIGIT},
    {"isidentifier", method_isidentifier, "", 0, 0},
    {"islower", method_is_cased, "", 0, CASE_LOWER},
    {"isnumeric", method_is_all, "", 0, CASE_NUMERIC},
    {"isprintable", method_isprintable, "", 0, 0},
    {"isspace", method_isspace, "", 0, 0},
    {"istitle", method_istitle, "", 0, 0},
    {"isupper", method_is_cased, "", 0, CASE_UPPER},
    {"join", method_join, "/ iterable", 1, 0},
    {"ljust", method_justify, "/ width fillchar", 1, '<'},
    {"lower", method_recase, "", 0, 'l'},
    {"lstrip", method_strip, "/ chars", 0, LEFT},
    {"partition", method_partition, "/ sep", 1, LEFT},
    {"removeprefix", method_remove, "/ prefix", 1, false},
    {"removesuffix", method_remove, "/ suffix", 1, true},
    {"replace", method_replace, "/ old new count", 2, 0},
    {"rfind", method_find, "/ sub start end", 1, LAST},
    {"rindex", method_find, "/ sub start end", 1, LAST | MUST},
    {"rjust", method_justify, "/ width fillchar", 1, '>'},
    {"rpartition", method_partition, "/ sep", 1, RIGHT},
    {"rsplit", method_split, "sep maxsplit", 0, RIGHT},
    {"rstrip", method_strip, "/ chars", 0, RIGHT},
    {"split", method_split, "sep maxsplit", 0, LEFT},
    {"splitlines", method_splitlines, "keepends", 0, 0},
    {"startswith", method_has_affix, "/ prefix start end", 1, false},
    {"strip", method_strip, "/ chars", 0, LEFT | RIGHT},
    {"swapcase", method_recase, "", 0, 's'},
    {"title", method_recase, "", 0, 't'},
    {"upper", method_recase, "", 0, 'u'},
    {"zfill", method_zfill, "/ width", 1, 0},
};

static const JBuiltin list_methods[] = {
    {"copy", method_copy, "", 0, 0},
    {"count", method_list_count, "/ value", 1, 0},
    {"index", method_list_index, "/ value", 1, 0},
};

static const JBuiltin dict_methods[] = {
    {"copy", method_copy, "", 0, 0},
    {"get", method_get, "/ key default", 1, 0},
    {"items", method_view, "", 0, KEYS | VALUES},
    {"keys", method_view, "", 0, KEYS},
    {"values", method_view, "", 0, VALUES},
};

static const JBuiltin cycler_methods[] = {
    {"next", method_cycler_next, "", 0, 0},
    {"reset", method_cycler_reset, "", 0, 0},
};

#define ROWS(table) table, sizeof table / sizeof *(table)

const JBuiltin *jinja_method(JValue self, const char *name, size_t size, bool *forbidden)
{
    static const struct {
        JKind kind;
        const JBuiltin *methods;
        size_t n;
        const char *forbidden;  // by spaces
    } kinds[] = {
        {J_STRING, ROWS(string_methods), ""},
        {J_LIST, ROWS(list_methods), "append clear extend insert pop remove reverse sort"},
        {J_TUPLE, ROWS(list_methods), ""},
        {J_DICT, ROWS(dict_methods), "clear pop popitem setdefault update"},
        {J_CYCLER, ROWS(cycler_methods), ""},
    };
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        if (kinds[k].kind != self.kind) {
            continue;
        }
        for (size_t i = 0; i < kinds[k].n; i++) {
            const char *is = kinds[k].methods[i].name;
            if (strlen(is) == size && memcmp(is, name, size) == 0) {
                return &kinds[k].methods[i];
            }
        }
        for (const char *word = kinds[k].forbidden; *word; word += strcspn(word, " ")) {
            word += *word == ' ';
            *forbidden |= strcspn(word, " ") == size && size && memcmp(word, name, size) == 0;
        }
    }
    return NULL;
}
