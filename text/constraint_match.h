// constraint_match.h - the internals of a constraint, for constraint_mask.c.
#ifndef CONSTRAINT_MATCH_H
#define CONSTRAINT_MATCH_H

#include "text/constraint.h"
#include "text/constraint_term.h"

// One way to read the text so far: the state of the innermost language, and a stack of what follows
// it. A stack is a number, for a term and the stack below it; 0 is the empty stack.
typedef struct {
    Term head;
    uint32_t stack;
} Thread;

// All the ways to read a text, each with a different stack. A constraint with more ways fails:
// which of them to drop would depend on what was read before.
enum { MAX_THREADS = 256 };

typedef struct {
    Thread threads[MAX_THREADS];
    size_t n;
    bool complete;  // one of the ways is at the end of the text
} ThreadSet;

TermPool *constraint_pool(Constraint *c);
bool constraint_has_calls(const Constraint *c);  // else every stack is empty

void thread_set_load(const Constraint *c, MatchState state, ThreadSet *set);

// Adds what a head leads to without reading a byte: ends of languages, and calls. If `inside`, also
// adds the ways that continue within the head.
void thread_set_add(Constraint *c, ThreadSet *set, Thread thread, bool inside);

// The fewest bytes to the end of the text.
uint32_t thread_shortest(Constraint *c, Thread thread);

// The states of a text after one more byte.
void thread_set_step(Constraint *c, const ThreadSet *from, unsigned byte, ThreadSet *to);

#endif
