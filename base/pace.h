// pace.h - how many threads are fastest at the moment, found by trying.
//
// A machine that is busy with other work puts a thread aside in the middle of a piece, and the others
// wait for it. Fewer threads may then be faster. Work comes in units, like the layers of a pass,
// whose speed with one number of threads is compared with that of another. This is arithmetic only:
// base/threads.c tells the time and changes the number.
#ifndef PACE_H
#define PACE_H

#include <stddef.h>

// Kinds of units: by their rows, exactly up to 32 and then by powers of two.
#define PACE_KINDS 64

// Initialise to zero, then set most and threads to the largest number.
typedef struct {
    size_t most;     // threads
    size_t threads;  // to use now
    size_t before;   // in a trial: the number that was used before it; else 0
    int direction;   // of the last trial: 1 more threads, -1 fewer
    // Seconds per row that each kind usually takes with so many threads (in a trial: with as many as
    // before it). 0: none yet.
    double usual[PACE_KINDS];
    // The present run: units of one kind.
    size_t kind;
    double run_rows, run_seconds;
    // Of the runs since the window or trial began: the usual seconds, and the real ones.
    double usual_seconds, seconds;
    // Sums over the units since then, of what PaceUnit says; own and late times seconds.
    double slept, own, late;
    double window_start;  // on the clock
    double clock;         // sum of all seconds
    double next_trial;    // on that clock
    double interval;      // between trials
    double used;          // threads * seconds, for their mean
} Pace;

// A unit that has been done.
typedef struct {
    size_t rows;
    double seconds;
    double slept;  // seconds that its threads slept, waiting for one another, all together
    double own;    // the part of the work that one thread did, 0 to 1
    double late;   // the part of the time in which even the luckiest thread lacked a processor
} PaceUnit;

// Takes note of a unit. May change p->threads.
void pace_note(Pace *p, const PaceUnit *unit);

// The mean number of threads over all units; `most` if there was none.
double pace_mean(const Pace *p);

#endif
