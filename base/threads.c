// threads.c - the threads of a parallel region. See threads.h.
#include "base/threads.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>

#ifdef _OPENMP
#include <omp.h>
#endif

// The threads of a forward pass meet some hundred times, microseconds apart: they spin, and only
// yield the processor after a while, in case there are fewer processors than threads. (OpenMP's own
// barrier enters the kernel each time.)
struct Barrier {
    atomic_size_t arrived;  // in this round
    atomic_size_t round;
};

#define SPINS_BEFORE_YIELD 1000

void team_barrier(Team team)
{
    if (team.size == 1) {
        return;
    }
    Barrier *b = team.barrier;
    const size_t round = atomic_load_explicit(&b->round, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&b->arrived, 1, memory_order_acq_rel) == team.size - 1) {
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
    return (size_t)omp_get_max_threads();
#else
    return 1;
#endif
}

void team_split(Team team, size_t n, size_t *begin, size_t *end)
{
    size_t share = n / team.size, rest = n % team.size;  // the first `rest` threads take one more
    *begin = team.id * share + (team.id < rest ? team.id : rest);
    *end = *begin + share + (team.id < rest);
}
