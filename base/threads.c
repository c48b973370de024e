// threads.c - a team of OpenMP threads, with our own barrier.
//
// The threads of a forward pass meet a few hundred times, microseconds apart. OpenMP's barrier may
// enter the kernel each time; here threads spin, and only yield the processor after a while, in
// case there are fewer processors than threads.
//
// A round of the barrier, with three threads:
//
//     thread 0   arrived 0 -> 1   reads `round` until it changes . . . . . . . . goes on
//     thread 1        arrived 1 -> 2   reads `round` until it changes  . . . . . goes on
//     thread 2                 arrived 2 -> 3, the last: arrived = 0, round + 1; goes on
//
// `round` distinguishes the waiting threads from those of the next round: a fast thread may arrive
// there before a slow one has seen that this round is over. It cannot be further ahead, since the
// next round cannot end without the slow thread.
#include "base/threads.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/quota.h"

#ifdef _OPENMP
#include <omp.h>
#endif

struct Barrier {
    atomic_size_t arrived;  // threads of this round
    atomic_size_t round;    // rounds that are over
};

// A few to some tens of microseconds: longer than the threads of a pass wait for each other if each
// has a processor.
#define SPINS_BEFORE_YIELD 1000

void team_barrier(Team team)
{
    if (team.size == 1) {
        return;
    }
    Barrier *b = team.barrier;
    // Read before arriving: afterwards the round might be over already.
    const size_t round = atomic_load_explicit(&b->round, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&b->arrived, 1, memory_order_acq_rel) == team.size - 1) {
        // The last to arrive has acquired what the others released by arriving, and releases it to
        // them with the new round. `arrived` is reset first: they may arrive again at once.
        atomic_store_explicit(&b->arrived, 0, memory_order_relaxed);
        atomic_store_explicit(&b->round, round + 1, memory_order_release);
        return;
    }
    for (size_t spins = 0; atomic_load_explicit(&b->round, memory_order_acquire) == round;
         spins++) {
        if (spins < SPINS_BEFORE_YIELD) {
#if defined(__x86_64__)
            __builtin_ia32_pause();
#endif
        } else {
            sched_yield();
        }
    }
}

void team_run(size_t threads, void (*work)(Team team, void *arg), void *arg)
{
#ifdef _OPENMP
    if (threads > 1) {
        Barrier barrier;
        atomic_init(&barrier.arrived, 0);
        atomic_init(&barrier.round, 0);
#pragma omp parallel num_threads((int)threads)
        work((Team){(size_t)omp_get_thread_num(), (size_t)omp_get_num_threads(), &barrier}, arg);
        return;
    }
#endif
    (void)threads;
    work((Team){0, 1, NULL}, arg);
}

size_t team_max(void)
{
#ifdef _OPENMP
    const size_t processors = (size_t)omp_get_max_threads();
    const size_t quota = getenv("OMP_NUM_THREADS") ? SIZE_MAX : quota_threads("");
    return processors < quota ? processors : quota;
#else
    return 1;
#endif
}

void team_share(Team team, size_t n, size_t *begin, size_t *end)
{
    // The first `rest` threads take one unit more.
    const size_t share = n / team.size, rest = n % team.size;
    *begin = team.id * share + (team.id < rest ? team.id : rest);
    *end = *begin + share + (team.id < rest);
}
