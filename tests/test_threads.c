// test_threads.c - teams of threads: steps, pieces, jobs, and what they do when there is nothing to do.
#include "base/threads.h"

#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/idle.h"
#include "base/memory.h"
#include "tests/unit.h"

#define STEPS     200
#define MAX_UNITS 64

// In each step, unit i adds up all units of the step before and itself: a unit that was computed
// twice, too early or not at all changes all later ones.
typedef struct {
    uint64_t values[STEPS + 1][MAX_UNITS];
    size_t units[STEPS + 1];
    atomic_size_t pieces;
    size_t most_size;  // of the teams, as thread 0 sees it
} Sums;

static uint64_t sum_before(const Sums *s, size_t step)
{
    uint64_t sum = 1;
    for (size_t i = 0; i < s->units[step]; i++) {
        sum = (sum * 31 + s->values[step][i]) % 1000003;
    }
    return sum;
}

static void add_piece(Sums *s, size_t step, const TeamStep *piece)
{
    const uint64_t sum = sum_before(s, step - 1);
    for (size_t i = piece->begin; i < piece->end; i++) {
        s->values[step][i] += sum + i;
    }
}

static void add_up(Team team, void *arg)
{
    Sums *s = arg;
    for (size_t n = 1; n <= STEPS; n++) {
        TeamStep step = team_step(team, s->units[n]);
        while (team_claim(&step)) {
            add_piece(s, n, &step);
            atomic_fetch_add(&s->pieces, 1);
        }
    }
    if (team.id == 0) {
        s->most_size = team.size > s->most_size ? team.size : s->most_size;
    }
}

static void reset(Sums *s)
{
    memset(s, 0, sizeof *s);
    for (size_t n = 1; n <= STEPS; n++) {
        s->units[n] = n * n % MAX_UNITS;  // 0 to 63; a step of 0 units is none
    }
}

static void check_sums(const Sums *s, const char *what)
{
    static Sums want;
    reset(&want);
    add_up((Team){0, 1, NULL}, &want);
    CHECK(memcmp(s->values, want.values, sizeof want.values) == 0, "%s: other sums", what);
}

TEST(test_every_unit_is_computed_once_after_the_step_before)
{
    static Sums s;
    for (size_t threads = 1; threads <= 9; threads++) {
        reset(&s);
        team_run(threads, add_up, &s);
        check_sums(&s, "a team of its own");
        CHECK(s.most_size <= threads, "a team of %zu, expected at most %zu", s.most_size, threads);
    }
}

static void run_jobs(void *arg)
{
    Sums *s = arg;
    for (size_t round = 0; round < 100; round++) {
        reset(s);
        team_run(1 + round % 5, add_up, s);
        check_sums(s, "a hosted team");
        CHECK(s->most_size <= 1 + round % 5, "a team of %zu", s->most_size);
        if (round % 10 == 0) {  // long enough for the others to fall asleep
            nanosleep(&(struct timespec){0, 2000000}, NULL);
        }
    }
}

TEST(test_a_hosted_team_runs_one_job_after_another)
{
    static Sums s;
    team_host(4, false, run_jobs, &s);
}

static void host_jobs(void *arg) { team_host(2, false, run_jobs, arg); }

TEST(test_a_host_in_a_host_lends_its_threads)
{
    static Sums s;
    team_host(4, false, host_jobs, &s);
    reset(&s);
    team_run(4, add_up, &s);
    check_sums(&s, "a team after both");
}

TEST(test_a_thread_alone_takes_a_step_in_one_piece)
{
    static Sums s;
    reset(&s);
    team_run(1, add_up, &s);
    size_t steps = 0;
    for (size_t n = 1; n <= STEPS; n++) {
        steps += s.units[n] > 0;
    }
    CHECK(s.pieces == steps, "%zu pieces, expected %zu", (size_t)s.pieces, steps);
}

// Units that only the first thread does quickly: the others sleep while they hold a piece.
static void add_up_slowly(Team team, void *arg)
{
    Sums *s = arg;
    for (size_t n = 1; n <= STEPS; n++) {
        TeamStep step = team_step(team, s->units[n]);
        while (team_claim(&step)) {
            add_piece(s, n, &step);
            if (team.id > 0) {
                nanosleep(&(struct timespec){0, 300000}, NULL);
            }
        }
        team_adapt(team, 1 + n / 40 % 2);
    }
}

// Runs until fewer threads have been tried, for at most 2 s: if other processes hold up the first
// thread too, this may never happen.
static void run_adapting_jobs(void *arg)
{
    Sums *s = arg;
    for (const double start = now_seconds(); team_mean() == 4 && now_seconds() - start < 2;) {
        reset(s);
        team_run(4, add_up_slowly, s);
        check_sums(s, "a team that adapts");
    }
}

TEST(test_a_team_adapts_while_it_runs)
{
    static Sums s;
    team_host(4, true, run_adapting_jobs, &s);
}

static double processor_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void one_works_long(Team team, void *arg)
{
    (void)arg;
    TeamStep step = team_step(team, 1);
    while (team_claim(&step)) {
        nanosleep(&(struct timespec){0, 200000000}, NULL);
    }
}

static void measure_idleness(void *arg)
{
    double *seconds = arg;
    Sums *s = alloc_zeroed(1, sizeof *s);
    reset(s);
    team_run(4, add_up, s);
    const double start = processor_seconds();
    nanosleep(&(struct timespec){0, 200000000}, NULL);
    const double between = processor_seconds();
    team_run(4, one_works_long, NULL);
    seconds[0] = between - start;
    seconds[1] = processor_seconds() - between;
    reset(s);
    team_run(4, add_up, s);  // all wake up again
    check_sums(s, "after a long step");
    free(s);
}

TEST(test_nobody_spins_while_one_thread_works_alone)
{
    double seconds[2] = {0};
    team_host(4, false, measure_idleness, seconds);
    CHECK(seconds[0] < 0.05, "%g s of processor time in 0.2 s between jobs", seconds[0]);
    CHECK(seconds[1] < 0.05, "%g s of processor time in a step of 0.2 s", seconds[1]);
}

TEST(test_idle_processors_are_counted)
{
    const double start = idle_seconds();
    nanosleep(&(struct timespec){0, 100000000}, NULL);
    const double idle = idle_seconds() - start;
    CHECK(start < 0 || idle >= 0, "%g s without work in 0.1 s", idle);
#if defined(__linux__)
    CHECK(start > 0, "%g s without work since the start", start);
#endif
}

int main(int argc, char **argv)
{
    return unit_main(argc, argv,
                     (UnitTest[]){UNIT(test_every_unit_is_computed_once_after_the_step_before),
                                  UNIT(test_a_hosted_team_runs_one_job_after_another),
                                  UNIT(test_a_host_in_a_host_lends_its_threads),
                                  UNIT(test_a_thread_alone_takes_a_step_in_one_piece),
                                  UNIT(test_a_team_adapts_while_it_runs),
                                  UNIT(test_idle_processors_are_counted),
                                  UNIT(test_nobody_spins_while_one_thread_works_alone),
                                  {0}});
}
