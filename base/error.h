// error.h - the error type that every function which can fail fills.
//
// Library code never prints and never exits: a function that can fail returns false and fills the
// Error that its caller gave it; run.c prints the message and exits with the kind.
#ifndef ERROR_H
#define ERROR_H

#include <stdbool.h>
#include <stddef.h>

#if defined(__GNUC__)
#define PRINTF_LIKE(string, first) __attribute__((format(printf, string, first)))
#else
#define PRINTF_LIKE(string, first)
#endif

// The kinds are the exit statuses of the program.
typedef enum {
    ERROR_NONE = 0,
    ERROR_RUN = 1,    // it failed while running: output could not be written, out of memory
    ERROR_USAGE = 2,  // an option or its value
    ERROR_INPUT = 3,  // the model, tokenizer or input cannot be used
} ErrorKind;

typedef struct {
    ErrorKind kind;
    char message[600];  // one line, no control characters: names the file, the field, the value
                        // found and wanted
} Error;

// Fills *err and returns false, so that a function can `return error_set(...)`. Bytes of the
// message that are control characters become '?': a file's name or contents cannot break the line
// or drive the terminal.
bool error_set(Error *err, ErrorKind kind, const char *format, ...) PRINTF_LIKE(3, 4);

// error_set for a failed allocation of `bytes` for `what`.
bool error_memory(Error *err, const char *what, size_t bytes);

#endif
