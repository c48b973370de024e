// unit.h - a small test harness whose checks say what they saw and what they expected.
//
//     TEST(test_softmax_sums_to_one)
//     {
//         ...
//         CHECK(sum == 1.0f, "sum %g, expected 1", sum);
//     }
//     int main(int argc, char **argv)
//     {
//         return unit_main(argc, argv, (UnitTest[]){UNIT(test_softmax_sums_to_one), {0}});
//     }
//
// `test_x --list` prints the names of the tests, `test_x NAME` runs one, `test_x` runs all. A check
// that fails prints a line to stdout and the test goes on. Exit 0: all passed; 1: a test failed, or
// there was none of that name. tests/test_units.py runs every test of every executable by name.
#ifndef UNIT_H
#define UNIT_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *name;
    void (*run)(void);
} UnitTest;

#define TEST(name) static void name(void)
#define UNIT(name)  \
    {               \
#name, name \
    }

// Records a failure and goes on. The first ten of a test are printed.
#define CHECK(condition, ...)                                       \
    do {                                                            \
        if (!(condition)) {                                         \
            unit_fail(__FILE__, __LINE__, #condition, __VA_ARGS__); \
        }                                                           \
    } while (0)

static int unit_failures;  // failed checks of the running test

__attribute__((format(printf, 4, 5), unused)) static void
unit_fail(const char *file, int line, const char *condition, const char *format, ...)
{
    if (unit_failures++ >= 10) {
        return;
    }
    printf("  %s:%d: not (%s): ", file, line, condition);
    va_list args;
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    printf("\n");
}

static int unit_main(int argc, char **argv, const UnitTest *tests)
{
    int failed = 0, ran = 0;
    for (; tests->name; tests++) {
        if (argc > 1 && strcmp(argv[1], "--list") == 0) {
            printf("%s\n", tests->name);
            ran++;
            continue;
        }
        if (argc > 1 && strcmp(argv[1], tests->name) != 0) {
            continue;
        }
        unit_failures = 0;
        tests->run();
        printf("%s %s\n", unit_failures ? "FAIL" : "ok  ", tests->name);
        failed += unit_failures != 0;
        ran++;
    }
    return failed || !ran;
}

#endif
