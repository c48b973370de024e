// error.c - the error that every function fills when it fails. See error.h.
#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>

void error_fill(Error *err, ErrorKind kind, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(err->message, sizeof err->message, format, args);
    va_end(args);
    err->kind = kind;
    for (char *c = err->message; *c; c++) {
        if ((unsigned char)*c < 0x20 || *c == 0x7f) {
            *c = '?';
        }
    }
}
