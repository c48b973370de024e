// futex.h - a thread sleeps on a word of memory until another one changes and signals it.
//
// On Linux this is the system call of that name; elsewhere a mutex and a condition variable stand
// in for it. Both calls may be slow (microseconds): callers spin for a while first, and call
// futex_wake only if a thread may be asleep.
#ifndef FUTEX_H
#define FUTEX_H

#include <stdatomic.h>
#include <stdint.h>

typedef _Atomic uint32_t Futex;

// Sleeps until futex_wake(word), or returns at once if *word is not `expected`. May also return for
// no reason: callers look again whether they still have to wait.
void futex_wait(Futex *word, uint32_t expected);

// Wakes all threads that sleep on *word, which has been changed before. No thread can fall asleep on
// the old value in between.
void futex_wake(Futex *word);

#endif
