// threads.h - a team of threads that run one function: how they start, meet and share work.
#ifndef THREADS_H
#define THREADS_H

#include <stddef.h>

typedef struct Barrier Barrier;

// One thread's place in the team that runs a function together.
typedef struct {
    size_t id, size;   // 0 .. size - 1
    Barrier *barrier;  // of the team, on team_run's stack; NULL for a team of one
} Team;

// Runs work(team, arg) once on each of `threads` threads, or on fewer if the system provides fewer
// (team.size says how many), and returns when all have finished.
void team_run(size_t threads, void (*work)(Team team, void *arg), void *arg);

// Returns when all threads of the team have called it. All then see what any of them wrote before.
void team_barrier(Team team);

// The number of threads worth starting: OMP_NUM_THREADS, else the processors that this process may
// use, but no more than its CPU quota keeps busy; 1 without OpenMP.
size_t team_max(void);

// This thread's share of n units, *begin .. *end - 1: consecutive, and equal to within one unit.
void team_share(Team team, size_t n, size_t *begin, size_t *end);

#endif
