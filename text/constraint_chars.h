// constraint_chars.h - sets of characters, and the bytes that spell them.
#ifndef CONSTRAINT_CHARS_H
#define CONSTRAINT_CHARS_H

#include <stddef.h>
#include <stdint.h>

#include "text/constraint_term.h"

// How a character is spelled: as UTF-8, or as it stands between the quotes of a JSON string, where
// quotes, backslashes and control characters are escaped, each in one way: the shortest one.
typedef enum { SPELL_UTF8, SPELL_JSON } Spelling;

typedef struct {
    uint32_t low, high;
} CharRange;

// A set of code points. Start from {0}. Ranges may be added in any order; chars_sort joins them.
typedef struct {
    CharRange *ranges;  // (capacity), owned; n in use
    size_t n, capacity;
    bool lacks_memory;
} Chars;

void chars_add(Chars *c, uint32_t low, uint32_t high);
void chars_add_all(Chars *c, const Chars *other);
void chars_sort(Chars *c);    // ascending, disjoint, not adjacent
void chars_negate(Chars *c);  // sorts too; among all code points to U+10FFFF
void chars_free(Chars *c);

// Adds the characters of one of Unicode's general categories ("L", "Lu", ..); false: no such name.
bool chars_add_category(Chars *c, const char *name, size_t size);

// The spellings of one character of the set, which is sorted. Surrogates have none.
Term chars_term(TermPool *p, const Chars *c, Spelling spelling);

// Any character, and any string of them.
Term any_char(TermPool *p, Spelling spelling);
Term any_text(TermPool *p, Spelling spelling);

// A text spelled so; bytes that are not UTF-8 have no spelling in JSON: TERM_NONE.
Term spelled_text(TermPool *p, const char *text, size_t size, Spelling spelling);

#endif
