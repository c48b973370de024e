// constraint_chars.c - sets of characters, and the bytes that spell them. See constraint_chars.h.
//
// The spellings of a set are a tree of bytes: below each lead byte, the continuation bytes that may
// follow it. Leads with the same continuation share it, so that even \p{L} makes only a few hundred
// terms.
#include "text/constraint_chars.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "text/unicode_categories.h"

#define LAST_CODE_POINT 0x10ffffu

void chars_add(Chars *c, uint32_t low, uint32_t high)
{
    if (c->n == c->capacity) {
        const size_t capacity = c->capacity ? 2 * c->capacity : 16;
        CharRange *ranges = realloc(c->ranges, capacity * sizeof *ranges);
        if (!ranges) {
            c->lacks_memory = true;
            return;
        }
        c->ranges = ranges;
        c->capacity = capacity;
    }
    c->ranges[c->n++] = (CharRange){low, high};
}

void chars_add_all(Chars *c, const Chars *other)
{
    for (size_t i = 0; i < other->n; i++) {
        chars_add(c, other->ranges[i].low, other->ranges[i].high);
    }
}

static int compare_ranges(const void *a, const void *b)
{
    const CharRange *x = a, *y = b;
    return (x->low > y->low) - (x->low < y->low);
}

void chars_sort(Chars *c)
{
    if (!c->n) {
        return;
    }
    qsort(c->ranges, c->n, sizeof *c->ranges, compare_ranges);
    size_t n = 1;
    for (size_t i = 1; i < c->n; i++) {
        CharRange *last = &c->ranges[n - 1], next = c->ranges[i];
        if (next.low > last->high + 1) {
            c->ranges[n++] = next;
        } else if (next.high > last->high) {
            last->high = next.high;
        }
    }
    c->n = n;
}

void chars_negate(Chars *c)
{
    chars_sort(c);
    Chars other = {.lacks_memory = c->lacks_memory};
    uint32_t low = 0;
    for (size_t i = 0; i < c->n; i++) {
        if (c->ranges[i].low > low) {
            chars_add(&other, low, c->ranges[i].low - 1);
        }
        low = c->ranges[i].high + 1;
    }
    if (low <= LAST_CODE_POINT) {
        chars_add(&other, low, LAST_CODE_POINT);
    }
    chars_free(c);
    *c = other;
}

void chars_free(Chars *c)
{
    free(c->ranges);
    *c = (Chars){0};
}

bool chars_add_category(Chars *c, const char *name, size_t size)
{
    bool known = false;
    if (size < 1 || size > 2) {
        return false;
    }
    for (size_t i = 0; i < N_CATEGORY_RUNS; i++) {
        const char *category = category_names[category_runs[i] & 31];
        if (memcmp(category, name, size) != 0) {
            continue;
        }
        const uint32_t end = i + 1 < N_CATEGORY_RUNS ? category_runs[i + 1] >> 5
                                                     : LAST_CODE_POINT + 1;
        chars_add(c, category_runs[i] >> 5, end - 1);
        known = true;
    }
    return known;
}

// --------------------------------------------------------------------------------------------
// Spellings

// The ranges of a set that lie within low .. high.
static Chars clip(const Chars *c, uint32_t low, uint32_t high)
{
    Chars out = {0};
    for (size_t i = 0; i < c->n; i++) {
        const CharRange r = c->ranges[i];
        if (r.low <= high && r.high >= low) {
            chars_add(&out, r.low > low ? r.low : low, r.high < high ? r.high : high);
        }
    }
    return out;
}

// One byte of a spelling: those bytes that have the same continuation.
typedef struct {
    Term rest;
    ByteSet bytes;
} ByteBranch;

typedef struct {
    ByteBranch branches[64];
    size_t n;
} ByteBranches;

static void add_byte(ByteBranches *b, unsigned byte, Term rest)
{
    size_t i = 0;
    while (i < b->n && b->branches[i].rest != rest) {
        i++;
    }
    if (rest == TERM_NONE) {
        return;
    }
    if (i == b->n) {
        b->branches[b->n++] = (ByteBranch){.rest = rest};
    }
    byteset_add(&b->branches[i].bytes, byte);
}

static Term join_branches(TermPool *p, const ByteBranches *b)
{
    Term terms[64];
    for (size_t i = 0; i < b->n; i++) {
        terms[i] = term_seq(p, term_bytes(p, &b->branches[i].bytes), b->branches[i].rest);
    }
    return term_or(p, terms, b->n);
}

// The continuation bytes, n of them, of the members among the 64^n code points from `base` on.
static Term continuation(TermPool *p, const Chars *c, uint32_t base, int n)
{
    const uint32_t last = base + ((uint32_t)1 << 6 * n) - 1;
    size_t first = 0, end = c->n;
    while (first < end) {  // the first range that ends at or after base
        const size_t middle = first + (end - first) / 2;
        if (c->ranges[middle].high < base) {
            first = middle + 1;
        } else {
            end = middle;
        }
    }
    if (first == c->n || c->ranges[first].low > last) {
        return TERM_NONE;
    }
    if (n == 0) {
        return TERM_EMPTY;
    }
    if (c->ranges[first].low <= base && c->ranges[first].high >= last) {
        const Term byte = term_range(p, 0x80, 0xbf);
        return term_repeat(p, byte, (uint32_t)n, (uint32_t)n);
    }
    ByteBranches b = {.n = 0};
    for (uint32_t i = 0; i < 64; i++) {
        add_byte(&b, 0x80 + i, continuation(p, c, base + (i << 6 * (n - 1)), n - 1));
    }
    return join_branches(p, &b);
}

// The members that take n + 1 bytes, whose leads begin at `lead` and cover `low` .. `high`.
static Term long_spellings(TermPool *p, const Chars *c, unsigned lead, int n, CharRange span)
{
    Chars part = clip(c, span.low, span.high);
    ByteBranches b = {.n = 0};
    for (uint32_t i = span.low >> 6 * n; i <= span.high >> 6 * n; i++) {
        add_byte(&b, lead + i, continuation(p, &part, i << 6 * n, n));
    }
    chars_free(&part);
    return join_branches(p, &b);
}

// The escape of a character in JSON; NULL if it stands for itself.
static const char *json_escape(uint32_t c, char space[8])
{
    static const char named[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";
    const char *found = c && c < 0x80 ? strchr(named, (int)c) : NULL;
    if (found) {
        snprintf(space, 8, "\\%c", letters[found - named]);
        return space;
    }
    if (c < 0x20) {
        snprintf(space, 8, "\\u%04x", (unsigned)c);
        return space;
    }
    return NULL;
}

// The members below U+0080.
static Term short_spellings(TermPool *p, const Chars *c, Spelling spelling)
{
    ByteSet plain = {{0}};
    Term terms[0x23];
    size_t n = 0;
    for (size_t i = 0; i < c->n; i++) {
        for (uint32_t x = c->ranges[i].low; x <= c->ranges[i].high && x < 0x80; x++) {
            char space[8];
            const char *escape = spelling == SPELL_JSON ? json_escape(x, space) : NULL;
            if (escape) {
                terms[n++] = term_text(p, escape);
            } else {
                byteset_add(&plain, x);
            }
        }
    }
    terms[n++] = term_bytes(p, &plain);
    return term_or(p, terms, n);
}

Term chars_term(TermPool *p, const Chars *c, Spelling spelling)
{
    const Term terms[] = {
        short_spellings(p, c, spelling),
        long_spellings(p, c, 0xc0, 1, (CharRange){0x80, 0x7ff}),
        term_or2(p, long_spellings(p, c, 0xe0, 2, (CharRange){0x800, 0xd7ff}),
                 long_spellings(p, c, 0xe0, 2, (CharRange){0xe000, 0xffff})),
        long_spellings(p, c, 0xf0, 3, (CharRange){0x10000, LAST_CODE_POINT}),
    };
    return term_or(p, terms, sizeof terms / sizeof *terms);
}

Term any_char(TermPool *p, Spelling spelling)
{
    CharRange all[] = {{0, LAST_CODE_POINT}};
    return chars_term(p, &(Chars){.ranges = all, .n = 1}, spelling);
}

Term any_text(TermPool *p, Spelling spelling) { return term_star(p, any_char(p, spelling)); }

Term spelled_text(TermPool *p, const char *text, size_t size, Spelling spelling)
{
    if (spelling == SPELL_UTF8) {
        return term_literal(p, text, size);
    }
    Buffer spelled = {0};
    bool valid = true;
    for (size_t i = 0; i < size && valid;) {
        const int length = utf8_scan(text + i, size - i);
        valid = length > 0;
        if (valid) {
            char space[8];
            const char *escape = json_escape(utf8_code_point(text + i, length), space);
            buffer_add(&spelled, escape ? escape : text + i,
                       escape ? strlen(escape) : (size_t)length);
            i += (size_t)length;
        }
    }
    const Term t = valid && !spelled.lacking ? term_literal(p, spelled.data, spelled.size)
                                             : TERM_NONE;
    buffer_free(&spelled);
    return t;
}
