// lend.c - moves threads between processors. See lend.h.
//
// To move a thread, we restrict its affinity and then restore it. The processor in
// whose queue a thread waits is the 39th field of /proc/self/task/NUMBER/stat. The third field is the
// thread's state; the second, its name, may contain spaces and parentheses:
//
//     4711 (run) R 4700 4711 ... 17 0 1 0 ...
//                |                    39: processor 1
//                3: R runs or waits for a processor; S and D sleep
#include "base/lend.h"

#include "base/buffer.h"
#include "base/files.h"

#if defined(__linux__)

#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define WORD_BITS (sizeof(unsigned long) * CHAR_BIT)

// More than such a file can have.
#define MAX_STAT_BYTES ((size_t)1 << 12)

enum { STATE_FIELD = 3, PROCESSOR_FIELD = 39 };

int thread_number(void) { return (int)syscall(SYS_gettid); }

// The id that Linux gives to the processor-time clock of a thread: ~number * 8, plus 2 for the time
// for which it ran, plus 4 for a thread rather than a process.
static clockid_t clock_of(int number) { return -8 * number - 8 + 2 + 4; }

double thread_seconds(int number)
{
    struct timespec t;
    if (clock_gettime(clock_of(number), &t) != 0) {
        return -1;
    }
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

// Thread 0 is the calling thread.
static ProcessorSet get_processors(int number)
{
    ProcessorSet set = {{0}};
    syscall(SYS_sched_getaffinity, number, sizeof set, &set);
    return set;
}

ProcessorSet thread_processors(void) { return get_processors(0); }

static bool set_processors(int number, const ProcessorSet *set)
{
    return syscall(SYS_sched_setaffinity, number, sizeof *set, set) == 0;
}

static bool contains(const ProcessorSet *set, unsigned processor)
{
    return processor < MOST_PROCESSORS &&
           set->words[processor / WORD_BITS] >> processor % WORD_BITS & 1;
}

static ProcessorSet only(unsigned processor)
{
    ProcessorSet set = {{0}};
    set.words[processor / WORD_BITS] = 1UL << processor % WORD_BITS;
    return set;
}

static ProcessorSet without(ProcessorSet set, unsigned processor)
{
    set.words[processor / WORD_BITS] &= ~(1UL << processor % WORD_BITS);
    return set;
}

// The processor that a thread runs on or waits for, according to its line in stat; -1 if it sleeps.
static int awaited_processor(const char *line)
{
    const char *field = strrchr(line, ')');
    if (!field || strncmp(field, ") R ", 4) != 0) {
        return -1;
    }
    for (size_t i = STATE_FIELD - 1; field && i < PROCESSOR_FIELD; i++) {
        field = strchr(field + 1, ' ');
    }
    return field ? (int)strtol(field, NULL, 10) : -1;
}

static int find_processor(int number)
{
    char path[64];
    Error ignored;
    Buffer line = {0};
    int processor = -1;
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", number);
    if (read_file(path, MAX_STAT_BYTES, &line, &ignored) && line.size) {
        processor = awaited_processor(line.data);
    }
    buffer_free(&line);
    return processor;
}

bool lend_processor(int number, const ProcessorSet *allowed)
{
    const ProcessorSet own = get_processors(0), other = get_processors(number);
    const int from = find_processor(number);
    unsigned processor = 0;
    if (from < 0 || from >= MOST_PROCESSORS || syscall(SYS_getcpu, &processor, NULL, NULL) != 0 ||
        !contains(allowed, processor) || memcmp(&own, allowed, sizeof own) != 0 ||
        memcmp(&other, allowed, sizeof other) != 0) {
        return false;
    }
    const ProcessorSet here = only(processor);
    // If both are on the same processor, this thread moves to any other.
    const ProcessorSet there = (unsigned)from == processor ? without(*allowed, processor)
                                                           : only((unsigned)from);
    if (!set_processors(number, &here)) {
        return false;
    }
    set_processors(number, allowed);
    // This thread may now have to wait as long as the other one would have.
    set_processors(0, &there);
    set_processors(0, allowed);
    return true;
}

#else

int thread_number(void) { return 0; }

double thread_seconds(int number)
{
    (void)number;
    return -1;
}

ProcessorSet thread_processors(void) { return (ProcessorSet){{0}}; }

bool lend_processor(int number, const ProcessorSet *allowed)
{
    (void)number;
    (void)allowed;
    return false;
}

#endif
