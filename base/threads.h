// threads.h - the threads of a parallel region: who they are, where they meet, what each takes.
#ifndef THREADS_H
#define THREADS_H

#include <stddef.h>

// One thread's place among those that run a parallel region together.
typedef struct Barrier Barrier;
typedef struct {
    size_t id, size;
    Barrier *barrier;  // NULL for a team of one
} Team;

// Runs work(team, arg) once on each of `threads` threads, as far as the system gives them, and
// waits for all.
void team_run(size_t threads, void (*work)(Team team, void *arg), void *arg);

// All of the team arrive before any goes on.
void team_barrier(Team team);

// As many threads as there are processors for this process (or as OMP_NUM_THREADS says); 1 without
// OpenMP.
size_t team_max(void);

// This thread's share, *begin .. *end - 1, of n units.
void team_split(Team team, size_t n, size_t *begin, size_t *end);

#endif
