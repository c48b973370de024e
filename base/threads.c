// threads.c - a team of OpenMP threads, with our own way of sharing work and of waiting.
//
// CLAIMING. The units of a step are divided into equal shares, one per thread. A thread claims
// pieces of its own share from the front, each half of what is left (all of it if there are no
// other shares). Then it claims pieces of the other shares, beginning with the next one. So each
// thread works on the same outputs each time, whose weights may still be in its cache, and the
// others help it when it is slow:
//
//     units       0  1  2  3  4  5  6  7  8  9 10 11 | 12 13 14 15 16 17 18 19 20 21 22 23
//     share       of thread 0                        | of thread 1, which is slow or preempted
//     claimed by  0  0  0  0  0  0  0  0  0  0  0  0 |  1  1  1  1  1  1  0  0  0  0  0  0
//     pieces      1                 2        3     4 |  1                 5        6     7
//
// `claimed`, one word per share, says how many units are gone, and in which step. A word of an
// earlier step counts as zero: nobody has to reset it. In a step that is over, all words have reached
// their ends or belong to later steps, so a thread that comes late can claim nothing in it.
//
// A STEP ENDS when all its units are done, not when all threads have arrived: each thread adds what it
// has finished to `done` when it finds nothing more to claim, and whoever completes the sum opens the
// next step by writing its number to `now`. A thread that holds a piece has not added it yet, so
// the step cannot end without it; one that holds none is not needed:
//
//     thread 0   claims . . . . done += 14 . . . . . . . . . . . . . . . sees step 2, claims
//     thread 1   preempted . . . . . . . . . . . . finds step 1 over, looks for the present one
//     thread 2   claims . . . . . . . . done += 10, that is all: now = 2, claims
//
// WAITING. A thread that finds nothing to claim spins for a few dozen microseconds, longer than it
// waits on an idle machine. Then the caller of team_run sleeps until the step is over. Others leave
// the job, sleep outside, and return to it when a step is over or a job begins; they run through
// the function again, claim nothing in the steps that are over, and so arrive at the present one.
//
//     wait:  asleep = 1;  look again, go on if the wait is over;  sleep while asleep is 1
//     wake:  end the wait;  if asleep was 1: asleep = 0 and wake
//
// Either the sleeper's second look sees that the wait has ended, or the other one sees `asleep`:
// both are sequentially consistent. tests/threads_model.py tries all interleavings. A write before
// such a look is an exchange and not a store, because emulators of aarch64 may let a load overtake
// a store (qemu 7.2 did in 0.1 % of 300,000 tries); the exchange costs no more.
//
// LENDING. Before a thread sleeps, it looks for one that it may be waiting for and that another
// process has preempted: one that is in the job and awake, but whose processor time stands still. It
// changes places with that one (lend.h). This takes some tens of microseconds, while the neighbour's
// time slice may go on for milliseconds. The thread that now waits there holds no piece, so nobody
// needs it. This works as long as there are few neighbours: a thread that has to wait long before it
// runs again lends more rarely.
//
// HOW MANY threads are used may change with every step: a step has as many shares, and threads with
// higher numbers leave the job and sleep until there are more.
//
// `gate` counts the threads in the job. The caller of team_run closes it when its steps are done,
// and waits until the count is zero, before what the job uses goes away.
#include "base/threads.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/futex.h"
#include "base/idle.h"
#include "base/lend.h"
#include "base/memory.h"
#include "base/pace.h"
#include "base/quota.h"

#ifdef _OPENMP
#include <omp.h>
#endif

// Some tens of microseconds: longer than threads with a processor of their own wait for each other.
#define SPINS 1000

// Seconds between two readings of the processor time, which take system calls, and between two of
// the idle time, which the system counts in hundredths of a second.
#define USAGE_INTERVAL 0.01
#define SPARE_INTERVAL 0.1

// Seconds between two jobs that count as a pause, after which measuring starts afresh.
#define PAUSE 0.01

// A thread that has lent its processor usually gets another one within LONG_LEND seconds, when its new
// neighbour's time slice ends. If that took longer, it lends nothing for LEND_PAUSE times as long.
#define LONG_LEND  0.01
#define LEND_PAUSE 50

// The most threads that one that is about to sleep looks at: each look takes a system call.
#define MOST_LOOKS 16

// The parts of Crew.gate: the number of the job, whether it can be entered, who is in it.
#define GATE_JOB    ((uint64_t)1 << 32)
#define GATE_OPEN   ((uint64_t)1 << 31)
#define GATE_INSIDE (GATE_OPEN - 1)

// What belongs to one thread, on cache lines of its own.
typedef struct {
    _Alignas(64) _Atomic uint64_t claimed;  // of its share: number of the step << 32 | units
    _Alignas(64) Futex asleep;              // 1: is about to sleep, or sleeps
    atomic_bool inside;                     // it is in the job, or the first thread
    _Atomic int thread;                     // its thread_number; 0 until it has started
    // Read and written by the thread itself.
    _Alignas(64) uint32_t step;  // that it begins next, from 1 in each job
    uint32_t job;                // that it was in last
    uint32_t back_at;            // the step in which it returns to that job; UINT32_MAX: never
    bool left;                   // it has left the job before the end
    double lends_from;           // when it may lend its processor again
    double left_at;              // when it did so because another one was late; else 0
} Seat;

struct Crew {
    size_t size;           // threads
    size_t capacity;       // of seats
    size_t processors;     // more threads than these are not woken
    Seat *seats;           // (capacity); some stay empty if the system provides fewer threads
    ProcessorSet allowed;  // that the threads may use
    bool lends;            // false if OMP_PROC_BIND binds them, or there is nothing to lend
    // The job, written while nobody is in it.
    void (*work)(Team team, void *arg);
    void *arg;
    size_t threads;  // that may take part: those with lower numbers
    // Of the first thread, which tells the pace.
    bool adapts;
    Pace pace;
    double unit_start;       // between jobs: when the last one ended
    double own;              // parts of the unit's steps that it has done, summed
    size_t n_steps;          // of the unit
    uint64_t own_slept;      // nanoseconds that it slept in the unit
    _Atomic uint64_t slept;  // and the others
    struct Usage {
        double now, own, all;  // time, and seconds of processors: of this thread, and of all
        double own_slept, slept;
    } usage;  // since the last time that `late` was computed
    struct Idle {
        double now, seconds;  // time, and idle_seconds; 0: not yet
    } idle;                   // since the last time that `spare` was computed
    double late, spare;       // see PaceUnit
    _Alignas(64) _Atomic uint64_t gate;
    _Alignas(64) _Atomic uint64_t now;  // number of the step << 32 | its shares
    _Alignas(64) atomic_size_t done;    // units of the step
    _Alignas(64) atomic_size_t sleepers;
    atomic_size_t limit;  // threads in use, from the next step
    atomic_bool disbanded;
};

// The crew that this process keeps (team_host), or NULL.
static Crew *hosted;

static void pause_briefly(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb");
#endif
}

// --------------------------------------------------------------------------------------------
// Waiting

static uint32_t step_now(const Crew *crew) { return (uint32_t)(atomic_load(&crew->now) >> 32); }

// Is this wait of a thread over?
typedef bool IsOver(const Crew *crew, const Seat *seat);

// The caller of team_run waits for the end of its step.
static bool step_is_over(const Crew *crew, const Seat *seat)
{
    return step_now(crew) >= seat->step;
}

// It waits until the other threads have left the job.
static bool job_is_left(const Crew *crew, const Seat *seat)
{
    (void)seat;
    return (atomic_load(&crew->gate) & GATE_INSIDE) == 0;
}

static bool spin(const Crew *crew, const Seat *seat, IsOver *is_over)
{
    for (size_t i = 0; i < SPINS; i++) {
        if (is_over(crew, seat)) {
            return true;
        }
        pause_briefly();
    }
    return false;
}

// A thread has slept since `start` because another one is late.
static void note_sleep(Crew *crew, size_t id, double start)
{
    const uint64_t slept = crew->adapts ? (uint64_t)((now_seconds() - start) * 1e9) : 0;
    if (id == 0) {
        crew->own_slept += slept;
    } else {
        atomic_fetch_add(&crew->slept, slept);
    }
}

// Is a thread awake and in the job? Then another one may be waiting for it.
static bool is_at_work(const Seat *seat)
{
    return atomic_load_explicit(&seat->thread, memory_order_relaxed) &&
           atomic_load_explicit(&seat->inside, memory_order_relaxed) &&
           !atomic_load_explicit(&seat->asleep, memory_order_relaxed);
}

// A thread at work whose processor time stands still while this one spins; NULL: none. Looks at those
// with the next higher numbers.
static const Seat *find_preempted(const Crew *crew, const Seat *own, IsOver *is_over)
{
    const size_t id = (size_t)(own - crew->seats);
    const Seat *seats[MOST_LOOKS];
    double seconds[MOST_LOOKS];
    size_t n = 0;
    for (size_t i = 1; i < crew->capacity && n < MOST_LOOKS; i++) {
        seats[n] = &crew->seats[(id + i) % crew->capacity];
        if (is_at_work(seats[n])) {
            seconds[n] = thread_seconds(seats[n]->thread);
            n++;
        }
    }
    if (n == 0 || spin(crew, own, is_over)) {
        return NULL;
    }
    for (size_t i = 0; i < n; i++) {
        if (seconds[i] >= 0 && is_at_work(seats[i]) &&
            thread_seconds(seats[i]->thread) == seconds[i]) {
            return seats[i];
        }
    }
    return NULL;
}

// Lends the processor of a thread that is about to sleep to one that was preempted. Returns when the
// thread has a processor again.
static void lend(const Crew *crew, Seat *own, IsOver *is_over)
{
    const double start = now_seconds();
    if (!crew->lends || start < own->lends_from) {
        return;
    }
    const Seat *late = find_preempted(crew, own, is_over);
    if (late && lend_processor(late->thread, &crew->allowed)) {
        const double end = now_seconds();
        own->lends_from = end - start > LONG_LEND ? end + LEND_PAUSE * (end - start) : 0;
    }
}

static void sleep_until(Crew *crew, Seat *seat, IsOver *is_over)
{
    do {
        lend(crew, seat, is_over);
        atomic_fetch_add(&crew->sleepers, 1);
        atomic_exchange(&seat->asleep, 1);
        if (!is_over(crew, seat)) {
            futex_wait(&seat->asleep, 1);
        }
        atomic_store(&seat->asleep, 0);
        atomic_fetch_sub(&crew->sleepers, 1);
    } while (!spin(crew, seat, is_over));
}

static void wait_until(Crew *crew, Seat *seat, IsOver *is_over)
{
    if (!spin(crew, seat, is_over)) {
        sleep_until(crew, seat, is_over);
    }
}

static void wake(Seat *seat)
{
    if (atomic_load(&seat->asleep) && atomic_exchange(&seat->asleep, 0)) {
        futex_wake(&seat->asleep);
    }
}

// Wakes the threads from first to end - 1 that sleep.
static void wake_range(Crew *crew, size_t first, size_t end)
{
    if (atomic_load(&crew->sleepers)) {
        for (size_t id = first; id < end; id++) {
            wake(&crew->seats[id]);
        }
    }
}

static size_t least_of(size_t a, size_t b) { return a < b ? a : b; }

// --------------------------------------------------------------------------------------------
// Steps

static void begin_step(Crew *crew, uint32_t number)
{
    atomic_store_explicit(&crew->done, 0, memory_order_relaxed);
    const size_t limit = atomic_load_explicit(&crew->limit, memory_order_relaxed);
    atomic_exchange(&crew->now, (uint64_t)number << 32 | least_of(limit, crew->threads));
}

TeamStep team_step(Team team, size_t n)
{
    TeamStep s = {.team = team, .n = n, .n_shares = 1};
    if (!team.crew || n == 0) {
        return s;
    }
    Seat *own = &team.crew->seats[team.id];
    s.number = own->step++;
    const uint64_t now = atomic_load_explicit(&team.crew->now, memory_order_acquire);
    const bool present = !own->left && (uint32_t)(now >> 32) == s.number;
    if (present && team.id >= (uint32_t)now) {
        own->left = true;
        own->back_at = s.number;
    }
    s.n_shares = present && !own->left ? (uint32_t)now : 0;
    return s;
}

// Claims a piece of a share.
static bool claim_from(TeamStep *s, size_t share)
{
    _Atomic uint64_t *claimed = &s->team.crew->seats[share].claimed;
    // The first `rest` shares have one unit more.
    const size_t size = s->n / s->n_shares, rest = s->n % s->n_shares;
    const size_t begin = share * size + least_of(share, rest);
    const size_t units = size + (share < rest);
    uint64_t old = atomic_load_explicit(claimed, memory_order_relaxed);
    for (;;) {
        const uint32_t number = (uint32_t)(old >> 32);
        const size_t gone = number == s->number ? (uint32_t)old : 0;
        if (number > s->number || gone == units) {
            return false;
        }
        const size_t next = s->n_shares == 1 ? units : gone + (units - gone + 1) / 2;
        if (atomic_compare_exchange_weak_explicit(claimed, &old, (uint64_t)s->number << 32 | next,
                                                  memory_order_relaxed, memory_order_relaxed)) {
            s->begin = begin + gone;
            s->end = begin + next;
            return true;
        }
    }
}

// Adds what this thread has finished; whoever completes the step begins the next one.
static void end_step(const TeamStep *s)
{
    Crew *crew = s->team.crew;
    Seat *own = &crew->seats[s->team.id];
    if (s->team.id == 0) {
        crew->own += (double)s->finished / (double)s->n;
        crew->n_steps++;
    }
    if (s->finished &&
        atomic_fetch_add_explicit(&crew->done, s->finished, memory_order_acq_rel) + s->finished ==
            s->n) {
        begin_step(crew, s->number + 1);
        wake_range(crew, 0, least_of(atomic_load(&crew->limit), crew->processors));
    } else if (!spin(crew, own, step_is_over)) {
        const double start = crew->adapts ? now_seconds() : 0;
        if (s->team.id == 0) {
            sleep_until(crew, own, step_is_over);
            note_sleep(crew, 0, start);
        } else {
            own->left = true;
            own->back_at = own->step;
            own->left_at = start;
        }
    }
}

bool team_claim(TeamStep *s)
{
    if (!s->team.crew) {
        s->begin = 0;
        s->end = s->n_shares ? s->n : 0;
        s->n_shares = 0;
        return s->end > 0;
    }
    if (!s->n_shares || !s->n) {
        return false;
    }
    s->finished += s->end - s->begin;
    for (; s->visited < s->n_shares; s->visited++) {
        if (claim_from(s, (s->team.id + s->visited) % s->n_shares)) {
            return true;
        }
    }
    end_step(s);
    s->n_shares = 0;
    return false;
}

// --------------------------------------------------------------------------------------------
// Jobs

// A job begins: the time since the last one belongs to no unit.
static void begin_first_unit(Crew *crew)
{
    const double now = crew->adapts ? now_seconds() : 0;
    if (crew->unit_start > 0 && now - crew->unit_start >= PAUSE) {
        crew->usage = (struct Usage){0};
        crew->idle = (struct Idle){0};
        crew->late = 0;
        pace_resume(&crew->pace);
        atomic_store_explicit(&crew->limit, crew->pace.threads, memory_order_relaxed);
    }
    crew->unit_start = now;
}

static void run_job(Crew *crew, size_t threads, void (*work)(Team team, void *arg), void *arg)
{
    Seat *own = &crew->seats[0];
    for (size_t i = 0; i < crew->size; i++) {
        atomic_store_explicit(&crew->seats[i].claimed, 0, memory_order_relaxed);
    }
    crew->work = work;
    crew->arg = arg;
    crew->threads = least_of(threads, crew->size);
    own->step = 1;
    begin_step(crew, 1);
    atomic_fetch_add(&crew->gate, GATE_JOB + GATE_OPEN);
    wake_range(crew, 1, least_of(atomic_load(&crew->limit), crew->processors));
    begin_first_unit(crew);
    work((Team){0, crew->threads, crew}, arg);
    atomic_fetch_and(&crew->gate, ~GATE_OPEN);
    wait_until(crew, own, job_is_left);
    crew->unit_start = crew->adapts ? now_seconds() : 0;
}

#ifdef _OPENMP
// Another thread waits for a job, or in the job that it has left for a step that is not over yet; in
// both cases until it has a share.
static bool work_is_there(const Crew *crew, const Seat *seat)
{
    const uint64_t gate = atomic_load(&crew->gate), now = atomic_load(&crew->now);
    return atomic_load(&crew->disbanded) ||
           (gate & GATE_OPEN && (size_t)(seat - crew->seats) < (uint32_t)now &&
            ((uint32_t)(gate / GATE_JOB) != seat->job || (uint32_t)(now >> 32) >= seat->back_at));
}

static void join_job(Crew *crew, size_t id)
{
    Seat *own = &crew->seats[id];
    const uint64_t gate = atomic_fetch_add(&crew->gate, 1);
    atomic_store_explicit(&own->inside, true, memory_order_relaxed);
    if (gate & GATE_OPEN) {
        if (own->left_at > 0 && own->job == (uint32_t)(gate / GATE_JOB)) {
            note_sleep(crew, id, own->left_at);
        }
        own->left_at = 0;
        own->job = (uint32_t)(gate / GATE_JOB);
        own->step = 1;
        own->back_at = UINT32_MAX;
        own->left = false;
        if (id < crew->threads) {
            crew->work((Team){id, crew->threads, crew}, crew->arg);
        }
    }
    atomic_store_explicit(&own->inside, false, memory_order_relaxed);
    if (((atomic_fetch_sub(&crew->gate, 1) - 1) & (GATE_OPEN | GATE_INSIDE)) == 0) {
        wake(&crew->seats[0]);
    }
}

// What the threads other than the first do until the crew disbands.
static void serve(Crew *crew, size_t id)
{
    for (;;) {
        wait_until(crew, &crew->seats[id], work_is_there);
        if (atomic_load(&crew->disbanded)) {
            return;
        }
        join_job(crew, id);
    }
}
#endif

// Runs body(crew, arg) with a crew; with NULL if there is no memory, or only one thread.
static void with_crew(size_t threads, void (*body)(Crew *crew, void *arg), void *arg)
{
#ifdef _OPENMP
    Crew *crew = threads > 1 ? alloc_zeroed(1, sizeof *crew) : NULL;
    Seat *seats = crew ? alloc_zeroed(threads, sizeof *seats) : NULL;
    if (seats) {
        *crew = (Crew){.size = threads,
                       .capacity = threads,
                       .processors = (size_t)omp_get_num_procs(),
                       .seats = seats,
                       .allowed = thread_processors(),
                       .lends = omp_get_num_procs() > 1 && thread_number() != 0 &&
                                omp_get_proc_bind() == omp_proc_bind_false};
        seats[0].inside = true;
#pragma omp parallel num_threads((int)threads)
        {
            const size_t id = (size_t)omp_get_thread_num();
            atomic_store(&seats[id].thread, thread_number());
            if (id > 0) {
                serve(crew, id);
            } else {
                crew->size = (size_t)omp_get_num_threads();
                crew->pace.most = crew->pace.threads = crew->size;
                atomic_store(&crew->limit, crew->size);
                body(crew, arg);
                atomic_exchange(&crew->disbanded, true);
                wake_range(crew, 1, crew->size);
            }
        }
        free(seats);
        free(crew);
        return;
    }
    free(crew);
#endif
    (void)threads;
    body(NULL, arg);
}

typedef struct {
    bool adapts;
    void (*body)(void *arg);
    void *arg;
} Hosting;

static void host(Crew *crew, void *arg)
{
    const Hosting *h = arg;
    hosted = crew;
    if (crew) {
        crew->adapts = h->adapts;
    }
    h->body(h->arg);
    hosted = NULL;
}

void team_host(size_t threads, bool adapts, void (*body)(void *arg), void *arg)
{
    if (hosted) {
        body(arg);
    } else {
        with_crew(threads, host, &(Hosting){adapts, body, arg});
    }
}

static double clock_seconds(clockid_t clock)
{
    struct timespec t = {0};
    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

// Computes `late` now and then: who neither ran nor slept wanted a processor and had none.
static void note_usage(Crew *crew, double now, double own_slept, double slept)
{
    struct Usage *u = &crew->usage;
    u->own_slept += own_slept;
    u->slept += slept;
    const double elapsed = now - u->now, others = (double)crew->pace.threads - 1;
    if (elapsed < USAGE_INTERVAL) {
        return;
    }
    const double own = clock_seconds(CLOCK_THREAD_CPUTIME_ID);
    const double all = clock_seconds(CLOCK_PROCESS_CPUTIME_ID);
    const double own_late = 1 - (own - u->own + u->own_slept) / elapsed;
    const double late = 1 -
                        (all - own - (u->all - u->own) + u->slept) / (elapsed * fmax(others, 1));
    crew->late = u->now > 0 && others > 0 ? fmax(fmin(own_late, late), 0) : 0;
    *u = (struct Usage){.now = now, .own = own, .all = all};
}

// Computes `spare` now and then, while more threads could be used.
static void note_idle(Crew *crew, double now)
{
    struct Idle *idle = &crew->idle;
    if (crew->pace.threads == crew->pace.most) {
        *idle = (struct Idle){0};
        return;
    }
    if (now - idle->now < SPARE_INTERVAL) {
        return;
    }
    const double seconds = idle_seconds();
    if (seconds < 0) {
        crew->spare = -1;
    } else if (idle->now > 0) {
        crew->spare = (seconds - idle->seconds) / (now - idle->now);
    }
    *idle = (struct Idle){now, seconds};
}

void team_adapt(Team team, size_t rows)
{
    Crew *crew = team.crew;
    if (team.id > 0 || !crew || !crew->adapts) {
        return;
    }
    const double now = now_seconds(), own_slept = (double)crew->own_slept * 1e-9;
    const double slept = (double)atomic_exchange(&crew->slept, 0) * 1e-9;
    note_usage(crew, now, own_slept, slept);
    note_idle(crew, now);
    const PaceUnit unit = {.rows = rows,
                           .seconds = now - crew->unit_start,
                           .slept = own_slept + slept,
                           .own = crew->n_steps ? crew->own / (double)crew->n_steps : 0,
                           .late = crew->late,
                           .spare = crew->spare};
    pace_note(&crew->pace, &unit);
    crew->unit_start = now;
    crew->own_slept = 0;
    crew->own = 0;
    crew->n_steps = 0;
    atomic_store_explicit(&crew->limit, crew->pace.threads, memory_order_relaxed);
}

double team_mean(void) { return hosted ? pace_mean(&hosted->pace) : 1; }

typedef struct {
    size_t threads;
    void (*work)(Team team, void *arg);
    void *arg;
} TeamJob;

static void run_alone(Crew *crew, void *arg)
{
    const TeamJob *job = arg;
    if (crew && job->threads > 1) {
        run_job(crew, job->threads, job->work, job->arg);
    } else {
        job->work((Team){0, 1, NULL}, job->arg);
    }
}

void team_run(size_t threads, void (*work)(Team team, void *arg), void *arg)
{
    TeamJob job = {threads, work, arg};
    if (hosted) {
        run_alone(hosted, &job);
    } else {
        with_crew(threads, run_alone, &job);
    }
}

// A thread that gave up spinning takes the lock with 2: others may sleep, and only 2 wakes them.
void lock_take(Lock *l)
{
    uint32_t expected = 0;
    for (size_t spins = 0; spins < SPINS; spins++, expected = 0) {
        if (atomic_compare_exchange_weak_explicit(&l->state, &expected, 1, memory_order_acquire,
                                                  memory_order_relaxed)) {
            return;
        }
        pause_briefly();
    }
    while (atomic_exchange_explicit(&l->state, 2, memory_order_acquire) != 0) {
        futex_wait(&l->state, 2);
    }
}

void lock_release(Lock *l)
{
    if (atomic_exchange_explicit(&l->state, 0, memory_order_release) == 2) {
        futex_wake(&l->state);
    }
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
