// jinja_methods.c - characters and their cases, and the methods of strings and dictionaries, as
// Python has them. See jinja_value.h.
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

// The last run that begins at or before a character; the first one if all begin after it.
static const CaseRun *find_run(const CaseRun *runs, size_t n, uint32_t c)
{
    size_t low = 0, high = n;
    while (high - low > 1) {
        const size_t middle = (low + high) / 2;
        if (runs[middle].first <= c) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return &runs[low];
}

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
    const CaseRun *r = find_run(tables[t].runs, tables[t].n_runs, c);
    const bool cased = c >= r->first && c <= r->last && (c - r->first) % r->stride == 0;
    jinja_add_code(j, to, cased ? (uint32_t)((int32_t)c + r->delta) : c, mark);
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
        }
        const uint32_t mark = jinja_mark_at(s, at);
        if (to == 'l' && c == 0x3a3) {
            jinja_add_code(j, t, final_sigma(s, at, cased) ? 0x3c2 : 0x3c3, mark);
        } else if (c < 0xdc80 || c > 0xdcff) {
            add_case(j, t, c, to, mark);
        } else {  // a byte that is not UTF-8
            jinja_add(j, t, jinja_bytes(s) + at, n, mark);
        }
        word = flags & CASED;
        cased = flags & CASE_IGNORABLE ? cased : flags & CASED;
    }
    return jinja_string(t);
}

// Is a character one of these or, if they are not a string, white space?
static bool is_one_of(Jinja *j, JValue set, uint32_t c)
{
    uint32_t member;
    if (set.kind != J_STRING) {
        return jinja_is_space(c);
    }
    jinja_step(j, set.size / BYTES_PER_STEP);
    for (size_t at = 0; at < set.size && !j->failed;) {
        at += jinja_char(set, at, &member);
        if (member == c) {
            return true;
        }
    }
    return false;
}

JValue jinja_strip(Jinja *j, JValue s, JValue characters, bool left, bool right)
{
    uint32_t c;
    while (left && s.size) {
        const size_t n = jinja_char(s, 0, &c);
        if (!is_one_of(j, characters, c)) {
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
        if (!is_one_of(j, characters, c)) {
            break;
        }
        s.size = (uint32_t)start;
    }
    return s;
}

// --------------------------------------------------------------------------------------------
// Case and kind

// upper, lower, title and capitalize.
METHOD(recase) { return jinja_recase(j, s, a->how); }

// isalpha, isdecimal, isdigit, isnumeric and isalnum: has the string characters, all of a kind?
METHOD(is_all)
{
    bool all = s.size > 0;
    uint32_t c;
    for (size_t at = 0; all && at < s.size && jinja_step(j, 1);) {
        at += jinja_char(s, at, &c);
        all = (jinja_flags(c) & a->how) && !(c >= 0xdc80 && c <= 0xdcff);
    }
    return jinja_bool(all);
}

// --------------------------------------------------------------------------------------------
// Searching

enum { FIRST = 0, LAST = 1 };

// The first or last place of a text; NULL: none. An empty one is at the end that is asked for.
static const char *find(Jinja *j, JValue in, JValue what, int which)
{
    const char *text = jinja_bytes(in), *w = jinja_bytes(what);
    if (which == FIRST && what.size) {
        return jinja_search(j, in, 0, what);
    }
    if (what.size == 0 || what.size > in.size || !jinja_step(j, in.size / BYTES_PER_STEP)) {
        return what.size ? NULL : text + (which == FIRST ? 0 : in.size);
    }
    for (size_t left = in.size - what.size + 1u; left > 0; left--) {
        const char *p = text + left - 1;
        if (*p == *w &&
            (!jinja_step(j, 1 + what.size / BYTES_PER_STEP) || memcmp(p, w, what.size) == 0)) {
            return j->failed ? NULL : p;
        }
    }
    return NULL;
}

// find and rfind.
METHOD(find)
{
    const char *found = find(j, s, jinja_text_arg(j, a, 0), a->how);
    const size_t before = found ? (size_t)(found - jinja_bytes(s)) : 0;
    return jinja_int(found ? (int64_t)jinja_length(jinja_slice(s, 0, before)) : -1);
}

METHOD(count)
{
    const JValue what = jinja_text_arg(j, a, 0);
    int64_t n = 0;
    if (what.size == 0) {
        return jinja_int((int64_t)jinja_length(s) + 1);
    }
    for (const char *p = jinja_search(j, s, 0, what); p && jinja_step(j, 1); n++) {
        p = jinja_search(j, s, (size_t)(p - jinja_bytes(s)) + what.size, what);
    }
    return jinja_int(n);
}

static bool has_affix(JValue s, JValue affix, bool end)
{
    const size_t at = end && affix.size <= s.size ? s.size - affix.size : 0;
    return affix.size <= s.size && memcmp(jinja_bytes(s) + at, jinja_bytes(affix), affix.size) == 0;
}

// startswith and endswith.
METHOD(has_affix)
{
    const JValue affix = a->values[0];
    const JList *l = affix.kind == J_TUPLE ? affix.list : NULL;
    for (size_t i = 0; i < (l ? l->n : 1) && jinja_step(j, 1); i++) {
        const JValue x = l ? l->items[i] : affix;
        if (x.kind != J_STRING) {
            return jinja_fail(j, "startswith or endswith of a %s", jinja_kind(x));
        }
        if (jinja_step(j, x.size / BYTES_PER_STEP) && has_affix(s, x, a->how)) {
            return jinja_bool(true);
        }
    }
    return jinja_bool(false);
}

// removeprefix and removesuffix.
METHOD(remove)
{
    const JValue x = jinja_text_arg(j, a, 0);
    return has_affix(s, x, a->how) ? jinja_slice(s, a->how ? 0 : x.size, s.size - x.size) : s;
}

// --------------------------------------------------------------------------------------------
// Taking apart and putting together

enum { LEFT = 1, RIGHT = 2 };

// strip, lstrip and rstrip.
METHOD(strip)
{
    const JValue characters = jinja_given(a, 0) ? jinja_text_arg(j, a, 0) : jinja_none();
    return jinja_strip(j, s, characters, a->how & LEFT, a->how & RIGHT);
}

// Splits at white space, at most `most` times.
static void split_space(Jinja *j, JValue s, JList *l, int64_t most)
{
    const JValue space = jinja_none();
    for (s = jinja_strip(j, s, space, true, false); s.size && jinja_step(j, 1); most--) {
        size_t end = 0;  // of the next word
        uint32_t c;
        for (size_t n; end < s.size && most; end += n) {
            n = jinja_char(s, end, &c);
            if (jinja_is_space(c)) {
                break;
            }
        }
        jinja_step(j, end / BYTES_PER_STEP);
        jinja_push(j, l, most ? jinja_slice(s, 0, end) : jinja_strip(j, s, space, false, true));
        s = most ? jinja_strip(j, jinja_slice(s, end, s.size - end), space, true, false)
                 : jinja_slice(s, 0, 0);
    }
}

// Splits at a text, from the left or from the right, at most `most` times.
static void split_text(Jinja *j, JValue s, JValue by, JList *l, int64_t most, bool right)
{
    for (const char *p; most && jinja_step(j, 1 + s.size / 64); most--) {
        p = find(j, s, by, right ? LAST : FIRST);
        if (!p) {
            break;
        }
        const size_t at = (size_t)(p - jinja_bytes(s)), after = at + by.size;
        const JValue before = jinja_slice(s, 0, at), rest = jinja_slice(s, after, s.size - after);
        jinja_push(j, l, right ? rest : before);
        s = right ? before : rest;
    }
    jinja_push(j, l, s);
}

// split and rsplit.
METHOD(split)
{
    const bool right = a->how == RIGHT;
    JList *l = jinja_list(j, 4);
    int64_t most = jinja_whole(j, a, 1, -1);
    most = most < 0 ? INT64_MAX : most;
    if (jinja_given(a, 0)) {
        const JValue by = jinja_text_arg(j, a, 0);
        if (by.size == 0) {
            return jinja_fail(j, "split by an empty str");
        }
        split_text(j, s, by, l, most, right);
    } else if (right) {
        return jinja_fail(j, "rsplit at white space is not supported");
    } else {
        split_space(j, s, l, most);
    }
    if (right) {
        jinja_reverse(l);
    }
    return jinja_list_value(J_LIST, l);
}

METHOD(splitlines)
{
    JList *l = jinja_list(j, 4);
    size_t start = 0;
    uint32_t c;
    for (size_t at = 0; at < s.size && jinja_step(j, 1);) {
        const size_t end = at;
        at += jinja_char(s, at, &c);
        if (ends_line(c)) {
            at += c == '\r' && at < s.size && jinja_bytes(s)[at] == '\n';
            jinja_push(j, l, jinja_slice(s, start, (jinja_flag(a, 0) ? at : end) - start));
            start = at;
        }
    }
    if (start < s.size) {
        jinja_push(j, l, jinja_slice(s, start, s.size - start));
    }
    return jinja_list_value(J_LIST, l);
}

METHOD(replace)
{
    const JValue old = jinja_text_arg(j, a, 0), new = jinja_text_arg(j, a, 1);
    int64_t most = jinja_whole(j, a, 2, -1);
    JText *t = jinja_text(j);
    size_t at = 0;
    uint32_t c;
    for (; most != 0 && at <= s.size && jinja_step(j, 1); most -= most > 0) {
        // An empty text is before each character and at the end.
        const char *p = old.size ? jinja_search(j, s, at, old) : jinja_bytes(s) + at;
        const size_t found = p ? (size_t)(p - jinja_bytes(s)) : s.size;
        if (!p) {
            break;
        }
        jinja_add_string(j, t, jinja_slice(s, at, found - at));
        jinja_add_string(j, t, new);
        const size_t kept = old.size || found == s.size ? 0 : jinja_char(s, found, &c);
        jinja_add_string(j, t, jinja_slice(s, found, kept));
        at = found + (old.size ? old.size : kept ? kept : 1);
    }
    if (at < s.size) {
        jinja_add_string(j, t, jinja_slice(s, at, s.size - at));
    }
    return jinja_string(t);
}

METHOD(join)
{
    const JList *l = jinja_items(j, a->values[0]);
    JText *t = jinja_text(j);
    for (size_t i = 0; i < l->n && jinja_step(j, 1); i++) {
        if (l->items[i].kind != J_STRING) {
            return jinja_fail(j, "join has a %s, expected strings", jinja_kind(l->items[i]));
        }
        jinja_add_string(j, t, i ? s : jinja_slice(s, 0, 0));
        jinja_add_string(j, t, l->items[i]);
    }
    return jinja_string(t);
}

// The value of a format's field {}, {0} or {name}; *next counts those without a name, and is
// SIZE_MAX after one with a number.
static JValue format_field(Jinja *j, JValue name, const JArgs *a, size_t *next)
{
    const char *p = jinja_bytes(name);
    const JValue *named = a->named ? jinja_find(j, a->named, name) : NULL;
    size_t i = 0, n = 0;
    while (n < name.size && n < 9 && p[n] >= '0' && p[n] <= '9') {
        i = 10 * i + (size_t)(p[n++] - '0');
    }
    if (n < name.size && !named) {
        return jinja_fail(j, "the format field {%.*s} is missing or not supported",
                          (int)(name.size < 80 ? name.size : 80), p);
    }
    if (n < name.size) {
        return *named;
    }
    if (n ? *next && *next != SIZE_MAX : *next == SIZE_MAX) {
        return jinja_fail(j, "a format has fields with and without numbers");
    }
    i = n ? i : *next;
    *next = n ? SIZE_MAX : *next + 1;
    return i < a->n ? a->values[i] : jinja_fail(j, "a format has no value for field %zu", i);
}

// The text up to the next brace, or a doubled one, at *at, which it passes.
static JValue format_text(JValue s, size_t *at)
{
    const char *p = jinja_bytes(s);
    const size_t from = *at;
    while (*at < s.size && p[*at] != '{' && p[*at] != '}') {
        ++*at;
    }
    const bool doubled = *at == from && *at + 1 < s.size && p[*at] == p[*at + 1];
    *at += doubled ? 2 : 0;
    return jinja_slice(s, from, doubled ? 1 : *at - from);
}

// Fields with formats, conversions, attributes or items are not supported.
METHOD(format)
{
    JText *t = jinja_text(j);
    size_t next = 0;
    for (size_t at = 0; at < s.size && jinja_step(j, 1);) {
        const JValue text = format_text(s, &at);
        jinja_add_string(j, t, text);
        if (text.size) {
            continue;
        }
        const char *p = jinja_bytes(s) + at, *close = memchr(p, '}', s.size - at);
        if (*p == '}' || !close) {
            return jinja_fail(j, "a format has a single '%c'", *p);
        }
        const JValue name = jinja_slice(s, at + 1, (size_t)(close - p) - 1);
        jinja_write(j, t, format_field(j, name, a, &next), false);
        at += name.size + 2u;
    }
    return jinja_string(t);
}

// --------------------------------------------------------------------------------------------
// Dictionaries

METHOD(get)
{
    const JValue *found = jinja_find_key(j, s.dict, a->values[0]);
    return found ? *found : a->values[1].kind == J_MISSING ? jinja_none() : a->values[1];
}

enum { KEYS = 1, VALUES = 2 };

// keys, values and items.
METHOD(view)
{
    const JDict *d = s.dict;
    const bool keys = a->how & KEYS, values = a->how & VALUES;
    JList *l = jinja_list(j, d->n);
    for (size_t i = 0; i < d->n && jinja_step(j, 1); i++) {
        jinja_push(j, l,
                   !values ? d->keys[i]
                   : !keys ? d->values[i]
                           : jinja_pair(j, d->keys[i], d->values[i]));
    }
    return jinja_list_value(J_VIEW, l);
}

// --------------------------------------------------------------------------------------------
// Tables

static const JBuiltin string_methods[] = {
    {"capitalize", method_recase, "", 0, 'c', false},
    {"count", method_count, "/ sub", 1, 0, false},
    {"endswith", method_has_affix, "/ suffix", 1, true, false},
    {"find", method_find, "/ sub", 1, FIRST, false},
    {"format", method_format, NULL, 0, 0, false},
    {"isalnum", method_is_all, "", 0, CASE_ALPHA | CASE_DECIMAL | CASE_DIGIT | CASE_NUMERIC, false},
    {"isalpha", method_is_all, "", 0, CASE_ALPHA, false},
    {"isdecimal", method_is_all, "", 0, CASE_DECIMAL, false},
    {"isdigit", method_is_all, "", 0, CASE_DIGIT, false},
    {"isnumeric", method_is_all, "", 0, CASE_NUMERIC, false},
    {"join", method_join, "/ iterable", 1, 0, false},
    {"lower", method_recase, "", 0, 'l', false},
    {"lstrip", method_strip, "/ chars", 0, LEFT, false},
    {"removeprefix", method_remove, "/ prefix", 1, false, false},
    {"removesuffix", method_remove, "/ suffix", 1, true, false},
    {"replace", method_replace, "/ old new count", 2, 0, false},
    {"rfind", method_find, "/ sub", 1, LAST, false},
    {"rsplit", method_split, "sep maxsplit", 0, RIGHT, false},
    {"rstrip", method_strip, "/ chars", 0, RIGHT, false},
    {"split", method_split, "sep maxsplit", 0, LEFT, false},
    {"splitlines", method_splitlines, "keepends", 0, 0, false},
    {"startswith", method_has_affix, "/ prefix", 1, false, false},
    {"strip", method_strip, "/ chars", 0, LEFT | RIGHT, false},
    {"title", method_recase, "", 0, 't', false},
    {"upper", method_recase, "", 0, 'u', false},
};

static const JBuiltin dict_methods[] = {
    {"get", method_get, "/ key default", 1, 0, false},
    {"items", method_view, "", 0, KEYS | VALUES, false},
    {"keys", method_view, "", 0, KEYS, false},
    {"values", method_view, "", 0, VALUES, false},
};

// Names by spaces: is this one of them?
static bool listed(const char *names, const char *name, size_t size)
{
    for (size_t n; *names; names += n + (names[n] == ' ')) {
        n = strcspn(names, " ");
        if (n == size && memcmp(names, name, size) == 0) {
            return true;
        }
    }
    return false;
}

#define ROWS(table) table, sizeof table / sizeof *(table)
#define NUMBERS                                                                                \
    "as_integer_ratio bit_count bit_length conjugate denominator from_bytes fromhex hex imag " \
    "is_integer numerator real to_bytes"

const JBuiltin *jinja_method(Jinja *j, JValue self, JValue name, bool *forbidden)
{
    static const struct {
        JKind kind;
        const JBuiltin *methods;
        size_t n;
        const char *forbidden;    // that change the value, which the sandbox forbids
        const char *unsupported;  // the others that Python has
    } kinds[] = {
        {J_STRING, ROWS(string_methods), "",
         "casefold center encode expandtabs format_map index isascii isidentifier islower "
         "isprintable isspace istitle isupper ljust maketrans partition rindex rjust rpartition "
         "swapcase translate zfill"},
        {J_LIST, NULL, 0, "append clear extend insert pop remove reverse sort", "copy count index"},
        {J_TUPLE, NULL, 0, "", "count index"},
        {J_RANGE, NULL, 0, "", "count index start step stop"},
        {J_VIEW, NULL, 0, "", "isdisjoint mapping"},
        {J_DICT, ROWS(dict_methods), "clear pop popitem setdefault update", "copy fromkeys"},
        {J_BOOL, NULL, 0, "", NUMBERS},
        {J_INT, NULL, 0, "", NUMBERS},
        {J_FLOAT, NULL, 0, "", NUMBERS},
    };
    size_t k = 0;
    while (k < sizeof kinds / sizeof *kinds && kinds[k].kind != self.kind) {
        k++;
    }
    if (k == sizeof kinds / sizeof *kinds) {
        return NULL;
    }
    const char *text = jinja_bytes(name);
    *forbidden = listed(kinds[k].forbidden, text, name.size);
    if (listed(kinds[k].unsupported, text, name.size)) {
        jinja_fail(j, "'%.*s' of a %s is not supported", (int)name.size, text, jinja_kind(self));
    }
    return jinja_builtin(kinds[k].methods, kinds[k].n, text, name.size);
}
