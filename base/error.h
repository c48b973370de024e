// error.h - the error that every function fills when it fails.
//
// Library code never prints and never exits: a function that fails returns false and fills the
// Error that its caller passed; run.c prints the message and exits with the kind.
#ifndef ERROR_H
#define ERROR_H

#include <stdbool.h>
#include <stddef.h>

#if defined(__GNUC__)
#define PRINTF_LIKE(string, first) __attribute__((format(printf, string, first)))
#else
#define PRINTF_LIKE(string, first)
#endif

// The values are the program's exit statuses.
typedef enum {
    ERROR_NONE = 0,
    ERROR_RUN = 1,    // a failure while running: output could not be written, out of memory
    ERROR_USAGE = 2,  // an unknown option or a value out of range
    ERROR_INPUT = 3,  // the model, tokenizer or input cannot be used
} ErrorKind;

typedef struct {
    ErrorKind kind;
    // One line without control characters, which names the file, the field, the value found and the
    // value expected; cut off if it does not fit.
    char message[600];
} Error;

// Fills *err. Control characters in the message become '?', so that the name or the contents of a
// file can neither break the line nor control the terminal.
void error_fill(Error *err, ErrorKind kind, const char *format, ...) PRINTF_LIKE(3, 4);

// error_fill, then false: a caller can `return error_set(err, kind, format, ...)`. A macro, because C
// has no inline functions of variable arguments, and because compilers and analyzers, which look at
// one file at a time, then see that what is returned is false.
#define error_set(...) (error_fill(__VA_ARGS__), error_false())
static inline bool error_false(void) { return false; }

// error_set for a failed allocation of `bytes` bytes for `what`.
static inline bool error_memory(Error *err, const char *what, size_t bytes)
{
    return error_set(err, ERROR_RUN, "out of memory: %zu bytes for %s", bytes, what);
}

#endif
