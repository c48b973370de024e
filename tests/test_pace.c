// test_pace.c - the number of threads follows a simulated machine that is idle or busy.
#include "base/pace.h"

#include "tests/unit.h"

#define UNIT_SECONDS 0.0001  // of a unit on one thread of an idle machine

// A machine whose other work puts a thread aside for `stall` seconds, `every` so many; a single thread
// in `alone` of the cases. With 0, there is a processor that has no other work.
typedef struct {
    double stall, every, alone;
    size_t processors;  // that are of use
    double clock, next_stall, left;
    double work;  // done so far, in UNIT_SECONDS
} Machine;

// Runs a unit of so many rows.
static PaceUnit run_unit(Machine *m, size_t threads, size_t rows)
{
    const size_t useful = threads < m->processors ? threads : m->processors;
    double seconds = UNIT_SECONDS * (double)rows / (double)useful;
    PaceUnit unit = {.rows = rows, .own = 1 / (double)threads};
    if (m->every > 0 && m->clock >= m->next_stall) {
        m->left += threads > 1 ? 1 : m->alone;
        // Threads beyond the processors put one another aside.
        m->next_stall += m->every * (double)useful / (double)threads;
    }
    if (m->left >= 1) {
        m->left -= 1;
        seconds += m->stall;
        unit.slept = m->stall * (double)(threads - 1);
        unit.late = m->alone;
    }
    unit.spare = m->every > 0 ? 0 : (double)(m->processors - useful);
    m->clock += seconds;
    m->work += (double)rows;
    unit.seconds = seconds;
    return unit;
}

// Runs units of 1 to 3 rows for so long; returns the work per UNIT_SECONDS.
static double simulate(Machine *m, Pace *p, double seconds)
{
    const double start = m->clock, work = m->work;
    for (size_t i = 0; m->clock - start < seconds; i++) {
        const size_t rows = 1 + i / 30 % 3;
        const PaceUnit unit = run_unit(m, p->threads, rows);
        pace_note(p, &unit);
    }
    return (m->work - work) * UNIT_SECONDS / (m->clock - start);
}

// The same with a fixed number of threads.
static double fixed_speed(Machine m, size_t threads, double seconds)
{
    for (size_t i = 0; m.clock < seconds; i++) {
        run_unit(&m, threads, 1 + i / 30 % 3);
    }
    return m.work * UNIT_SECONDS / m.clock;
}

static Pace new_pace(size_t most) { return (Pace){.most = most, .threads = most}; }

TEST(test_nothing_is_tried_on_an_idle_machine)
{
    Machine m = {.processors = 4};
    Pace p = new_pace(4);
    const double speed = simulate(&m, &p, 5);
    CHECK(pace_mean(&p) == 4, "a mean of %g threads, expected 4", pace_mean(&p));
    CHECK(speed > 3.99 && speed < 4.01, "speed %g, expected 4", speed);
}

TEST(test_a_busy_machine_gets_the_fastest_number)
{
    const Machine machines[] = {
        {.processors = 2, .stall = 0.004, .every = 0.008},                // one neighbour
        {.processors = 2, .stall = 0.004, .every = 0.008, .alone = 1.0},  // two
        {.processors = 2, .stall = 0.0002, .every = 0.004, .alone = 1.0}  // nice ones
    };
    for (size_t i = 0; i < sizeof machines / sizeof *machines; i++) {
        Machine m = machines[i];
        Pace p = new_pace(2);
        simulate(&m, &p, 0.5);
        const double one = fixed_speed(machines[i], 1, 10), two = fixed_speed(machines[i], 2, 10);
        const double best = one > two ? one : two, speed = simulate(&m, &p, 10);
        CHECK(speed > 0.97 * best, "machine %zu: speed %g, one thread %g, two %g", i, speed, one,
              two);
    }
}

TEST(test_a_change_is_noticed_within_half_a_second)
{
    Machine m = {.processors = 2};
    Pace p = new_pace(2);
    for (size_t round = 0; round < 10; round++) {
        m.every = 0;
        simulate(&m, &p, 0.5);
        CHECK(p.threads == 2 && !p.before, "round %zu: idle, %zu threads", round, p.threads);
        simulate(&m, &p, 0.1 * (double)round);
        m.every = 0.008;
        m.stall = 0.005;
        m.next_stall = m.clock;
        simulate(&m, &p, 0.5);
        CHECK((p.before ? p.before : p.threads) == 1, "round %zu: busy, %zu threads", round,
              p.threads);
    }
}

// The number of trials within a number of seconds.
static size_t count_trials(Machine *m, Pace *p, double seconds)
{
    size_t n = 0;
    for (const double end = m->clock + seconds; m->clock < end;) {
        const size_t before = p->before;
        const PaceUnit unit = run_unit(m, p->threads, 1);
        pace_note(p, &unit);
        n += p->before && !before;
    }
    return n;
}

TEST(test_trials_become_rare_while_nothing_changes)
{
    Machine m = {.processors = 2, .stall = 0.005, .every = 0.008};
    Pace p = new_pace(2);
    simulate(&m, &p, 1);
    const size_t first = count_trials(&m, &p, 10), second = count_trials(&m, &p, 10);
    CHECK(first <= 7 && second <= 4, "%zu trials in 10 s, then %zu, expected 7 and 4 at most",
          first, second);
}

// A machine that a neighbour has just left after some seconds, in which one thread was the fastest.
static Machine left_by_a_neighbour(Pace *p, double seconds)
{
    Machine m = {.processors = 2, .stall = 0.005, .every = 0.008};
    simulate(&m, p, seconds);
    CHECK((p->before ? p->before : p->threads) == 1, "%zu threads", p->threads);
    m.every = 0;
    return m;
}

TEST(test_where_the_system_tells_nothing_more_threads_are_tried_often)
{
    Pace p = new_pace(2);
    Machine m = left_by_a_neighbour(&p, 5);
    for (const double end = m.clock + 0.6; m.clock < end;) {
        PaceUnit unit = run_unit(&m, p.threads, 1);
        unit.spare = -1;
        pace_note(&p, &unit);
    }
    CHECK(p.threads == 2 && !p.before, "%zu threads", p.threads);
}

TEST(test_after_a_pause_a_short_request_finds_the_fastest_number)
{
    Pace p = new_pace(2);
    Machine m = left_by_a_neighbour(&p, 30);
    pace_resume(&p);
    simulate(&m, &p, 0.15);
    CHECK(p.threads == 2 && !p.before, "0.15 s after the pause, %zu threads", p.threads);
}

TEST(test_more_threads_than_processors_are_not_used_for_long)
{
    Machine m = {.processors = 1, .stall = 0.004, .every = 0.1};
    Pace p = new_pace(16);
    simulate(&m, &p, 5);
    CHECK((p.before ? p.before : p.threads) <= 8, "%zu threads, expected 8 at most", p.threads);
}

TEST(test_a_mean_without_units_is_the_largest_number)
{
    Pace p = new_pace(3);
    pace_note(&p, &(PaceUnit){.rows = 0, .seconds = 1});
    pace_note(&p, &(PaceUnit){.rows = 1});
    CHECK(pace_mean(&p) == 3 && p.threads == 3, "mean %g, %zu threads", pace_mean(&p), p.threads);
}

int main(int argc, char **argv)
{
    return unit_main(
        argc, argv,
        (UnitTest[]){UNIT(test_nothing_is_tried_on_an_idle_machine),
                     UNIT(test_a_busy_machine_gets_the_fastest_number),
                     UNIT(test_a_change_is_noticed_within_half_a_second),
                     UNIT(test_trials_become_rare_while_nothing_changes),
                     UNIT(test_where_the_system_tells_nothing_more_threads_are_tried_often),
                     UNIT(test_after_a_pause_a_short_request_finds_the_fastest_number),
                     UNIT(test_more_threads_than_processors_are_not_used_for_long),
                     UNIT(test_a_mean_without_units_is_the_largest_number),
                     {0}});
}
