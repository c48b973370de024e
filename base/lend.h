// lend.h - a thread that waits for another one lends it its processor.
//
// A neighbour, a process that also wants the processor, puts a thread aside in the middle of its
// work, for a time slice of some milliseconds. Those that wait for the thread have processors that
// they do not need. One of them changes places with it:
//
//     processor 0   computes . . . waits | the late thread goes on . . . . . .
//     processor 1   late | neighbour . . | neighbour . . . . | computes . . .
//
// Now it is the other thread that the neighbour holds up; but it holds nothing that others need.
#ifndef LEND_H
#define LEND_H

#include <stdbool.h>
#include <stddef.h>

// A set of processors: bit i % 64 of word i / 64. On systems with more of them nothing is lent.
#define MOST_PROCESSORS 1024
typedef struct {
    unsigned long words[MOST_PROCESSORS / 8 / sizeof(unsigned long)];
} ProcessorSet;

// The system's number of this thread; 0 where nothing can be lent (only Linux can).
int thread_number(void);

// Seconds of processor time that a thread of this process has had. If they do not grow, it sleeps or
// was put aside. Takes a system call. Negative if unknown.
double thread_seconds(int number);

// The processors that this thread may use; empty if unknown.
ProcessorSet thread_processors(void);

// Moves a thread that was put aside to this thread's processor, and this one to the processor that
// the other thread waited for, where it may have to wait itself: for so long it does not return. Both
// may use all `allowed` processors afterwards. False if the other one sleeps, or if this one may use
// other processors, because somebody has bound it; then nothing happens.
bool lend_processor(int number, const ProcessorSet *allowed);

#endif
