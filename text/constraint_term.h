// constraint_term.h - languages of bytes as terms, and the automaton that their derivatives form.
//
// A Term is a set of byte strings. Terms are hash-consed: equal ones, after simplification, have the
// same number, so a term is also a state of a deterministic automaton. Its transition by a byte is
// the Brzozowski derivative (JACM 11, 1964): what may follow that byte. Transitions are computed
// when they are first taken. Intersection and complement cost no more than union.
//
// A call stands for the language of a rule, which may be recursive. Bytes never lead into a call: the
// matcher (constraint_match.h) follows it and keeps on a stack what comes after it.
#ifndef CONSTRAINT_TERM_H
#define CONSTRAINT_TERM_H

#include <stdint.h>

#include "base/error.h"

typedef uint32_t Term;

enum {
    TERM_NONE,   // no string at all
    TERM_EMPTY,  // only the empty string
};

#define REPEAT_FOREVER UINT32_MAX
#define NEVER          UINT32_MAX  // the length of the shortest string of a language that has none

// The sum of two lengths. NEVER plus anything is NEVER; other sums are at most LONGEST.
#define LONGEST (NEVER - 2)
static inline uint32_t length_plus(uint32_t a, uint64_t b)
{
    return a == NEVER || b == NEVER ? NEVER : a + b > LONGEST ? LONGEST : (uint32_t)(a + b);
}

// A set of bytes: bit b % 64 of word b / 64.
typedef struct {
    uint64_t words[4];
} ByteSet;

static inline bool byteset_has(const ByteSet *s, unsigned byte)
{
    return s->words[byte / 64] >> byte % 64 & 1;
}

static inline void byteset_add(ByteSet *s, unsigned byte)
{
    s->words[byte / 64] |= (uint64_t)1 << byte % 64;
}

// A call that may come next in a term, and the term that follows it.
typedef struct {
    Term callee;  // the rule's language
    Term rest;
} FrontCall;

// What a term may do before the next byte.
typedef struct {
    Term bytes;  // the strings that begin with a byte
    const FrontCall
        *calls;  // (n_calls), distinct callees; valid until the next call that makes terms
    size_t n_calls;
} TermFront;

typedef struct TermPool TermPool;

// The transitions so far, for term_step. It is the beginning of a TermPool.
typedef struct {
    const uint32_t *row;      // of each term: index + 1 of its row; 0: it has none yet
    const Term *transitions;  // row r's are [256 * r .. 256 * r + 256)
} TermTables;

// A transition that is not known, or with this bit, not known to lead to a string.
#define TERM_UNCHECKED 0x80000000u

// The meaning of calls. Both functions get `arg`; `term` may make terms, and is called once per
// rule.
typedef struct {
    Term (*term)(void *arg, uint32_t rule);
    uint32_t (*shortest)(void *arg, uint32_t rule);
    void *arg;
} Rules;

// Bounds on the memory and time that a hostile expression can take. A term takes about 40 bytes, a
// state with its 256 transitions 1 KiB. Each transition of a state with n parts takes n
// derivatives; about ten million are computed per second.
#define TERM_MAX_TERMS       ((size_t)1 << 21)
#define TERM_MAX_STATES      ((size_t)1 << 15)
#define TERM_MAX_DERIVATIVES ((size_t)1 << 22)
#define TERM_MAX_WIDTH       ((size_t)1 << 16)  // of one union or intersection

TermPool *term_pool_create(void);  // NULL: out of memory
void term_pool_free(TermPool *p);
void term_pool_set_rules(TermPool *p, Rules rules);

// Has the pool exceeded one of its bounds, or run out of memory? From then on every new term is
// TERM_NONE. Errors: ERROR_INPUT naming the bound, ERROR_RUN.
bool term_pool_check(const TermPool *p, Error *err);

size_t term_pool_bytes(const TermPool *p);  // allocated

// --------------------------------------------------------------------------------------------
// Making terms

Term term_byte(TermPool *p, unsigned byte);
Term term_bytes(TermPool *p, const ByteSet *set);
Term term_range(TermPool *p, unsigned low, unsigned high);
Term term_literal(TermPool *p, const void *bytes, size_t size);
Term term_text(TermPool *p, const char *text);
Term term_seq(TermPool *p, Term first, Term rest);
Term term_or(TermPool *p, const Term *terms, size_t n);
Term term_or2(TermPool *p, Term a, Term b);
Term term_and(TermPool *p, const Term *terms, size_t n);
Term term_and2(TermPool *p, Term a, Term b);
Term term_not(TermPool *p, Term t);  // all byte strings but these; t has no calls
Term term_repeat(TermPool *p, Term t, uint32_t min, uint32_t max);
Term term_optional(TermPool *p, Term t);
Term term_star(TermPool *p, Term t);
Term term_call(TermPool *p, uint32_t rule);

// The decimal spellings of multiples of `unit` * 10^-scale, with at most `scale` digits after the
// point, and then any zeros: "7.50" is a multiple of 25 * 10^-2. 1 <= unit < 2^31.
Term term_multiple(TermPool *p, uint32_t unit, uint32_t scale);

// --------------------------------------------------------------------------------------------
// Reading terms

// Is the empty string in the language, following no call?
bool term_nullable(const TermPool *p, Term t);

// The length of the shortest string, calls included; NEVER if there is none.
uint32_t term_shortest(TermPool *p, Term t);

// The state after a byte: TERM_NONE if and only if no string of the language begins with it.
Term term_next(TermPool *p, Term t, unsigned byte);

// May t be left without reading a byte: at its end, or into a call?
bool term_may_leave(const TermPool *p, Term t);

// The same as term_next; inline where the transition was taken before.
static inline Term term_step(TermPool *p, Term t, unsigned byte)
{
    const TermTables *tables = (const TermTables *)p;
    const uint32_t row = tables->row[t];
    const Term next = row ? tables->transitions[256 * (size_t)(row - 1) + byte] : TERM_UNCHECKED;
    return next < TERM_UNCHECKED ? next : term_next(p, t, byte);
}

TermFront term_front(TermPool *p, Term t);
Term term_rule(TermPool *p, uint32_t rule);

// Does the language contain exactly these bytes (and follow no call)?
bool term_matches(TermPool *p, Term t, const void *bytes, size_t size);

// If the term is x{min,max} followed by another term, its parts.
typedef struct {
    Term repeated;
    uint32_t min, max;
    Term rest;
} Repeat;
bool term_as_repeat(const TermPool *p, Term t, Repeat *out);

#endif
