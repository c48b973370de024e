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

// Fills *err and returns false, so that a caller can `return error_set(...)`. Control characters in
// the message become '?', so that the name or the contents of a file can neither break the line nor
// control the terminal.
bool error_set(Error *err, ErrorKind kind, const char *format, ...) PRINTF_LIKE(3, 4);

// error_set for a failed allocation of `bytes` bytes for `what`.
bool error_memory(Error *err, const char *what, size_t bytes);

#endif
