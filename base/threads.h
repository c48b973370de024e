// threads.h - a team of threads that run one function together: how they start, share work and wait.
//
// The work is a sequence of steps. A step is a number of units, independent of each other, which the
// threads claim piece by piece; the next one begins when all units are done. Who computes a unit is
// left to chance, so a unit's result must not depend on it.
//
//     static void work(Team team, void *arg)          // every thread of the team runs this
//     {
//         TeamStep step = team_step(team, n_rows);
//         while (team_claim(&step)) {
//             compute rows step.begin .. step.end - 1
//         }
//         step = team_step(team, n_outputs);          // sees all rows of the step before
//         ..
//     }
//
// Nobody waits for a thread that has claimed nothing. One that the system preempted, or that was
// asleep, finds when it returns that steps are over, claims nothing in them and so catches up. Hence
// the rule of this house: what other threads write is read and written only while holding a piece,
// between a team_claim that returned true and the next one. Outside, `arg` and what nobody changes
// may be read.
#ifndef THREADS_H
#define THREADS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/futex.h"

typedef struct Crew Crew;

// One thread's place in the team that runs a function together.
typedef struct {
    size_t id, size;  // 0 .. size - 1: 0 is the thread that called team_run
    Crew *crew;       // all that the threads share; NULL for a team of one
} Team;

// One thread's view of a step.
typedef struct {
    size_t begin, end;  // the piece that it holds, units begin .. end - 1
    Team team;
    size_t n;         // units of the step
    size_t finished;  // units of earlier pieces
    size_t n_shares;  // into which the units are divided; 0 if nothing is left to be claimed
    size_t visited;   // shares in which this thread has found nothing left
    uint32_t number;  // of the step
} TeamStep;

// Runs body(arg) on this thread and keeps threads - 1 others for the team_run calls in it, asleep
// in between. Without it, each team_run starts and ends threads of its own. If the system provides
// fewer threads, there are fewer. If `adapts`, team_adapt chooses how many of them are used. Inside
// another team_host it only runs body(arg), on the threads of the outer one.
void team_host(size_t threads, bool adapts, void (*body)(void *arg), void *arg);

// Runs work(team, arg) on this thread and on up to threads - 1 others, and returns when all steps
// are done and no other thread is in `work` any more. All threads have to call team_step for the
// same steps in the same order, but not all need take part: only this one is certain to.
void team_run(size_t threads, void (*work)(Team team, void *arg), void *arg);

// Begins the next step of n units, fewer than 2^32.
TeamStep team_step(Team team, size_t n);

// Ends the piece that this thread holds, if any, and claims the next one: sets begin and end. False
// if the step is over; then all that the team wrote in it can be read in the next one.
bool team_claim(TeamStep *step);

// Ends a unit of work, which began with the job or at the last call: `rows` rows. Units with equal
// numbers of rows must have equal steps. In a team that adapts, the number of threads then moves
// towards what is fastest (pace.h).
void team_adapt(Team team, size_t rows);

// The mean number of threads that were used, of those of team_host; 1 without them.
double team_mean(void);

// The number of threads worth starting: OMP_NUM_THREADS, else the processors that this process may
// use, but no more than its CPU quota keeps busy; 1 without OpenMP.
size_t team_max(void);

// Lets one thread at a time through. Start from {0}. Threads that wait spin, then sleep: it is for
// work that usually takes microseconds.
typedef struct {
    Futex state;  // 0: free; 1: held; 2: held, and somebody may sleep on it
} Lock;

void lock_take(Lock *l);
void lock_release(Lock *l);

#endif
