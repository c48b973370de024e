// pace.c - how many threads are fastest at the moment. See pace.h.
//
//     threads  2 ========.                        .====.          .=========
//              1         '====|===================     |==========
//                        trial  kept              trial, not kept  trial, kept
//     gain               1.5                      0.7              1.6
//                     a neighbour comes                            it has gone
//
// The gain is how long the runs of the trial would usually have taken with the number before, divided
// by how long they took. It is computed per kind, so it does not matter which kinds a trial meets.
//
// Fewer threads are tried when it is likely that they are faster: when threads sleep so much,
// waiting for one that was preempted, that without it the others would do about as much. On an idle
// machine that never happens, so nothing is tried. More threads are tried when processors are idle.
//
// These are hints; only a trial decides. The interval between trials in a direction doubles with
// each failed one, and is reset when something has changed: when the same work suddenly takes
// longer, or resumes after a pause. A trial that goes badly is given up after 16 ms.
#include "base/pace.h"

#include <math.h>
#include <stdbool.h>

#define LONG_RUN       0.005  // seconds of a run: units of one kind, measured together
#define WINDOW         0.05   // seconds: several time slices of the system's scheduler
#define FIRST_TRIAL    0.1    // not before so many seconds: files are read, and the caches fill
#define SETTLING       0.01   // of a trial: who has slept before may run for longer than usual
#define SHORTEST_TRIAL 0.006  // after that, before it is given up
#define LONGEST_TRIAL  0.15   // if few of its runs are of a kind whose usual time is known
#define PROMISING      1.0    // the least expected gain with which fewer threads are tried
#define ALL_LATE       0.08   // but not if no thread has a processor for itself
#define HOPELESS       0.8    // a gain with which a trial is given up
#define GAIN           1.04   // the least gain with which a trial is kept
#define NEWS           1.25   // times the usual time of a window: something has changed
#define MEMORY         0.2    // about so many seconds of a kind count towards its usual time
#define SPARE          0.3    // idle processors that call for a trial of more threads
#define SHORT_INTERVAL 0.05   // seconds between trials in a direction that has just helped
#define LONG_INTERVAL  0.4    // in the other direction; also the maximum while processors are idle
#define MOST_INTERVAL  3.2    // the maximum otherwise

static size_t kind_of(size_t rows)
{
    size_t kind = rows;
    if (rows > 32) {
        for (kind = 32; rows > 32 && kind < PACE_KINDS - 1; rows /= 2) {
            kind++;
        }
    }
    return kind;
}

static void begin_window(Pace *p)
{
    p->usual_seconds = p->seconds = p->slept = p->own = p->late = 0;
    p->window_start = p->clock;
}

// By how many threads the number changes: a quarter, at least one.
static size_t change_of(size_t threads) { return threads / 4 ? threads / 4 : 1; }

static void begin_trial(Pace *p, int direction)
{
    const size_t change = change_of(p->threads);
    p->before = p->threads;
    p->direction = direction;
    p->threads = direction < 0 ? p->threads - change : p->threads + change;
    p->threads = p->threads > p->most ? p->most : p->threads;
}

// What fewer threads would gain if those that are left did as much as now and never slept. Of two
// threads, the one that does more is left.
static double expected_gain(const Pace *p)
{
    const double elapsed = p->clock - p->window_start, own = p->own / elapsed;
    const double left = p->threads == 2 ? fmax(own, 1 - own)
                                        : 1 - (double)change_of(p->threads) / (double)p->threads;
    return left / fmax(1 - p->slept / elapsed, 0.1);
}

// A change seen in the kinds of the window is taken to hold for all kinds.
static void scale_usual(Pace *p, double factor)
{
    for (size_t i = 0; i < PACE_KINDS; i++) {
        p->usual[i].seconds *= factor;
    }
}

// The machine is `slower` times as slow as before: the search starts afresh.
static void hear_news(Pace *p, double slower)
{
    scale_usual(p, slower);
    p->up_interval = p->down_interval = SHORT_INTERVAL;
    p->news_at = p->last_trial = p->clock;
}

static void end_trial(Pace *p, bool keep)
{
    double *same = p->direction > 0 ? &p->up_interval : &p->down_interval;
    double *opposite = p->direction > 0 ? &p->down_interval : &p->up_interval;
    *same = keep ? SHORT_INTERVAL : fmin(fmax(2 * *same, SHORT_INTERVAL), MOST_INTERVAL);
    *opposite = keep ? LONG_INTERVAL : *opposite;
    if (keep) {
        scale_usual(p, p->seconds / p->usual_seconds);
    }
    p->threads = keep ? p->threads : p->before;
    p->last_trial = p->clock;
    p->before = 0;
    begin_window(p);
}

static void go_on_with_trial(Pace *p)
{
    const double gain = p->seconds > 0 ? p->usual_seconds / p->seconds : 0;
    if (p->seconds >= WINDOW) {
        end_trial(p, gain > GAIN);
    } else if ((p->seconds >= SHORTEST_TRIAL && gain < HOPELESS) ||
               p->clock - p->window_start >= LONGEST_TRIAL) {
        end_trial(p, false);
    }
}

// Decides at the end of a window whether another number is to be tried.
static void end_window(Pace *p)
{
    if (p->seconds > NEWS * p->usual_seconds) {
        hear_news(p, p->seconds / p->usual_seconds);
    }
    const double since = p->clock - p->last_trial;
    const double most_up = p->spare < 0 || p->spare > SPARE ? LONG_INTERVAL : MOST_INTERVAL;
    const bool up = p->threads < p->most && since >= fmin(p->up_interval, most_up);
    // Where all processors are busy, fewer threads only get less of them.
    const bool all_late = p->late > ALL_LATE * (p->clock - p->window_start);
    const bool down = p->threads > 1 && since >= p->down_interval && !all_late &&
                      expected_gain(p) > PROMISING;
    begin_window(p);
    if (p->clock < FIRST_TRIAL) {
        return;
    }
    // Between the ends, both directions take turns.
    if (up && (!down || p->direction < 0)) {
        begin_trial(p, 1);
    } else if (down) {
        begin_trial(p, -1);
    }
}

// Adds the finished run to the window or trial. Units are measured in runs, since one alone may seem
// to take no time: a thread that was preempted finds that the others have done the work.
static void end_run(Pace *p)
{
    PaceUsual *usual = &p->usual[p->kind];
    const bool settles = p->before && p->clock - p->window_start < SETTLING;
    if (usual->rows > 0 && !settles) {
        p->usual_seconds += usual->seconds / usual->rows * p->run_rows;
        p->seconds += p->run_seconds;
    }
    if (!p->before) {
        // Sums, and not a mean of runs: one in which a thread was preempted has fewer rows.
        const double memory = fmin(MEMORY, (p->clock - p->news_at) / 2),
                     kept = memory / (memory + p->run_seconds);
        usual->seconds = kept * usual->seconds + p->run_seconds;
        usual->rows = kept * usual->rows + p->run_rows;
    }
    p->run_rows = p->run_seconds = 0;
    if (p->before) {
        go_on_with_trial(p);
    } else if (p->clock - p->window_start >= WINDOW) {
        end_window(p);
    }
}

// Idle processors only matter while more threads could be used.
static void note_spare(Pace *p, double spare)
{
    if (p->threads == p->most) {
        return;
    }
    if (spare > SPARE && p->spare >= 0 && p->spare <= SPARE) {
        p->up_interval = SHORT_INTERVAL;  // a neighbour has gone
    }
    p->spare = spare;
}

void pace_note(Pace *p, const PaceUnit *unit)
{
    if (unit->rows == 0 || unit->seconds <= 0) {
        return;
    }
    const size_t kind = kind_of(unit->rows);
    if (kind != p->kind && p->run_seconds > 0) {
        end_run(p);
    }
    p->kind = kind;
    p->run_rows += (double)unit->rows;
    p->run_seconds += unit->seconds;
    p->slept += unit->slept;
    p->own += unit->own * unit->seconds;
    p->late += unit->late * unit->seconds;
    note_spare(p, unit->spare);
    p->clock += unit->seconds;
    p->used += (double)p->threads * unit->seconds;
    if (p->run_seconds >= LONG_RUN) {
        end_run(p);
    }
}

void pace_resume(Pace *p)
{
    p->threads = p->before ? p->before : p->threads;
    p->before = 0;
    p->run_rows = p->run_seconds = 0;
    hear_news(p, 1);
    begin_window(p);
}

double pace_mean(const Pace *p) { return p->clock > 0 ? p->used / p->clock : (double)p->most; }
