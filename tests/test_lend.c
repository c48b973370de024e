// test_lend.c - a preempted thread moves to the processor of one that waits.
#include "base/lend.h"

#include <stdatomic.h>
#include <time.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "base/clock.h"
#include "tests/unit.h"

static void compute_for(double seconds)
{
    for (const double end = now_seconds() + seconds; now_seconds() < end;) {
    }
}

static void sleep_for(double seconds)
{
    nanosleep(&(struct timespec){0, (long)(seconds * 1e9)}, NULL);
}

TEST(test_the_time_of_a_thread_stands_still_while_it_sleeps)
{
    const int self = thread_number();
    if (!self) {
        CHECK(thread_seconds(self) < 0, "%g s of no thread", thread_seconds(self));
        return;
    }
    const double start = thread_seconds(self);
    sleep_for(0.1);
    const double slept = thread_seconds(self);
    compute_for(0.1);
    const double computed = thread_seconds(self);
    CHECK(slept - start < 0.02, "%g s of processor time in 0.1 s asleep", slept - start);
    CHECK(computed > slept, "no processor time in 0.1 s of work");
    CHECK(thread_seconds(1 << 25) < 0, "%g s of a thread that does not exist",
          thread_seconds(1 << 25));
}

#ifdef _OPENMP
// False where the system refuses it, as in some containers.
static bool set_processors(const ProcessorSet *set)
{
#if defined(__linux__)
    return syscall(SYS_sched_setaffinity, 0, sizeof *set, set) == 0;
#else
    (void)set;
    return false;
#endif
}

static ProcessorSet first_of(const ProcessorSet *set)
{
    ProcessorSet first = {{0}};
    size_t i = 0;
    while (!set->words[i]) {
        i++;
    }
    first.words[i] = set->words[i] & (~set->words[i] + 1);
    return first;
}

// Two threads: one lends its processor; the other one computes or sleeps meanwhile, and borrows it.
typedef struct {
    bool sleeps;
    bool is_bound;  // the borrower, to the first processor
    _Atomic int borrower;
    atomic_bool done;
    ProcessorSet allowed;
    bool lent;
    ProcessorSet lender_after, borrower_after;
} Loan;

static bool same(const ProcessorSet *a, const ProcessorSet *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}

static void borrow(Loan *l)
{
    const ProcessorSet before = thread_processors();
    if (l->is_bound) {
        const ProcessorSet first = first_of(&before);
        set_processors(&first);
    }
    atomic_store(&l->borrower, thread_number());
    while (!atomic_load(&l->done)) {
        l->sleeps ? sleep_for(0.3) : compute_for(0.0001);
    }
    l->borrower_after = thread_processors();
    set_processors(&before);
}

static void lend(Loan *l)
{
    while (!atomic_load(&l->borrower)) {
        sleep_for(0.001);
    }
    // A borrower that sleeps may be awake for a moment: try again until it is asleep.
    for (size_t tries = 0; tries < 100; tries++) {
        sleep_for(0.01);
        l->lent = lend_processor(atomic_load(&l->borrower), &l->allowed);
        if (!l->sleeps || !l->lent) {
            break;
        }
    }
    l->lender_after = thread_processors();
    atomic_store(&l->done, true);
}

static void run_loan(Loan *l)
{
#pragma omp parallel sections num_threads(2)
    {
#pragma omp section
        borrow(l);
#pragma omp section
        lend(l);
    }
}

TEST(test_who_has_lent_and_borrowed_may_use_all_processors_again)
{
    const ProcessorSet allowed = thread_processors();
    Loan l = {.allowed = allowed};
    if (!thread_number() || !set_processors(&allowed)) {
        return;
    }
    run_loan(&l);
    CHECK(l.lent, "nothing was lent");
    CHECK(same(&l.lender_after, &allowed), "the lender may use other processors");
    CHECK(same(&l.borrower_after, &allowed), "the borrower may use other processors");
}

TEST(test_who_sleeps_or_is_bound_is_not_moved)
{
    const ProcessorSet allowed = thread_processors();
    ProcessorSet more = allowed;
    more.words[sizeof more.words / sizeof *more.words - 1] ^= 1;
    Loan asleep = {.sleeps = true, .allowed = allowed}, bound = {.allowed = more};
    if (!thread_number()) {
        return;
    }
    run_loan(&asleep);
    run_loan(&bound);
    CHECK(!asleep.lent, "a thread that slept was moved");
    CHECK(!bound.lent, "a thread was moved though the lender may use other processors");
    CHECK(same(&bound.borrower_after, &allowed), "the borrower may use other processors");
}

TEST(test_whom_somebody_has_bound_stays_bound)
{
    if (!thread_number()) {
        return;
    }
    const ProcessorSet allowed = thread_processors(), first = first_of(&allowed);
    Loan l = {.is_bound = true, .allowed = allowed};
    if (same(&first, &allowed)) {
        return;  // there is one processor only
    }
    run_loan(&l);
    CHECK(!l.lent, "a thread was moved though it was bound");
    CHECK(same(&l.borrower_after, &first), "the borrower may use other processors");
}
#endif

int main(int argc, char **argv)
{
    return unit_main(argc, argv,
                     (UnitTest[]){UNIT(test_the_time_of_a_thread_stands_still_while_it_sleeps),
#ifdef _OPENMP
                                  UNIT(test_who_has_lent_and_borrowed_may_use_all_processors_again),
                                  UNIT(test_who_sleeps_or_is_bound_is_not_moved),
                                  UNIT(test_whom_somebody_has_bound_stays_bound),
#endif
                                  {0}});
}
