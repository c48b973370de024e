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

// Sums over the last few tenths of a second of one kind; older units count less and less.
typedef struct {
    double seconds, rows;  // 0: none yet
} PaceUsual;

// Initialise to zero, then set most and threads to the largest number.
typedef struct {
    size_t most;     // threads
    size_t threads;  // to use now
    size_t before;   // in a trial: the number that was used before it; else 0
    int direction;   // of the last trial: 1 more threads, -1 fewer
    // What each kind usually takes with this number of threads; in a trial, with the number before
    // it.
    PaceUsual usual[PACE_KINDS];
    // The present run: units of one kind.
    size_t kind;
    double run_rows, run_seconds;
    // Of the runs since the window or trial began: the usual seconds, and the real ones.
    double usual_seconds, seconds;
    // Sums over the units since then, of what PaceUnit says; own and late times seconds.
    double slept, own, late;
    double spare;         // of the last unit
    double window_start;  // on the clock
    double clock;         // sum of all seconds
    double last_trial;    // when it ended, on that clock
    double news_at;       // when the machine changed, as far as we know
    // Seconds between a trial and the next one with more threads, or with fewer.
    double up_interval, down_interval;
    double used;  // threads * seconds, for their mean
} Pace;

// A unit that has been done.
typedef struct {
    size_t rows;
    double seconds;
    double slept;  // seconds that its threads slept, waiting for one another, all together
    double own;    // the part of the work that one thread did, 0 to 1
    double late;   // the part of the time in which even the luckiest thread lacked a processor
    double spare;  // processors that were idle lately; negative if unknown
} PaceUnit;

// Takes note of a unit. May change p->threads.
void pace_note(Pace *p, const PaceUnit *unit);

// The next unit comes after a pause, in which the machine may have changed.
void pace_resume(Pace *p);

// The mean number of threads over all units; `most` if there was none.
double pace_mean(const Pace *p);

#endif
