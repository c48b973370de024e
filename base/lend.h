// lend.h - a thread that waits for another one lends it its processor.
//
// A neighbour, a process that wants the same processor, preempts a thread in the middle of its work
// for a time slice of some milliseconds. The threads that wait for it have processors that they do not
// need, so one of them changes places with it:
//
//     processor 0   computes . . . waits | the late thread goes on . . . . . .
//     processor 1   late | neighbour . . | neighbour . . . . | computes . . .
//
// The neighbour now holds up the other thread, but nobody needs that one.
#ifndef LEND_H
#define LEND_H

#include <stdbool.h>
#include <stddef.h>

// A set of processors, one bit each, lowest first. Nothing is lent on systems with more processors.
#define MOST_PROCESSORS 1024
typedef struct {
    unsigned long words[MOST_PROCESSORS / 8 / sizeof(unsigned long)];
} ProcessorSet;

// The system's number of the calling thread; 0 on systems other than Linux, where nothing is lent.
int thread_number(void);

// Seconds of processor time that a thread of this process has used; negative if unknown. If they do
// not grow, the thread sleeps or was preempted. Takes a system call.
double thread_seconds(int number);

// The processors that the calling thread may use; empty if unknown.
ProcessorSet thread_processors(void);

// Moves a preempted thread to the calling thread's processor, and the calling thread to the processor
// that the other one waited for. It may have to wait there itself, and returns only after that. Both
// may use all `allowed` processors afterwards. Returns false and does nothing if the other thread
// sleeps, if either may use other processors than the `allowed` ones (because it was bound, as by
// taskset, or its cpuset changed), or if the system refuses.
bool lend_processor(int number, const ProcessorSet *allowed);

#endif
