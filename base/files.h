// files.h - mapping, reading and writing whole files.
#ifndef FILES_H
#define FILES_H

#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"

// The bytes of a file, mapped read-only. Mapping costs next to nothing, whatever the file's size:
// the system reads a page when it is first touched, drops pages when memory runs short, and shares
// them with every other process that maps the same file.
typedef struct {
    const uint8_t *data;  // (size), aligned to 64
    size_t size;
    void *address;  // for mapping_close; NULL: the bytes are the caller's
} Mapping;

bool is_directory(const char *path);  // false also if it does not exist or cannot be examined

// Maps a whole regular file. Errors: ERROR_INPUT if it cannot be opened, is not a regular file, or
// is empty; ERROR_RUN if it cannot be mapped. On failure *m is empty.
bool mapping_open(Mapping *m, const char *path, Error *err);
void mapping_close(Mapping *m);

// Tells the system that `size` bytes at `data` in a mapping are not needed for now: they no longer
// count as this process's memory. Reading them again is allowed. Does nothing to bytes that are the
// caller's.
void mapping_drop(const Mapping *m, const uint8_t *data, size_t size);

// Appends to *out all that can be read from a descriptor; `name` is for messages. Errors:
// ERROR_INPUT if reading fails or there are more than `limit` bytes; ERROR_RUN if out of memory.
bool read_all(int fd, const char *name, size_t limit, Buffer *out, Error *err);

// The same for a file, a pipe or a terminal, given by its path.
bool read_file(const char *path, size_t limit, Buffer *out, Error *err);

// Appends to *out a file name that the program itself read, from which no shell has replaced a leading
// "~": "~/" begins at the folder in HOME, the rest is unchanged. Errors: ERROR_INPUT if HOME is not set;
// ERROR_RUN if out of memory.
bool expand_home(const char *path, Buffer *out, Error *err);

// Writes all bytes to a descriptor; `name` is for messages. Errors: ERROR_RUN.
bool write_all(int fd, const char *name, const void *data, size_t size, Error *err);

// Follows the symbolic links of an output file's name. If they lead to a regular file, or to a name
// that does not exist yet, *target is that path, which the caller frees, and *fd is -1. Anything
// else (a device, a pipe, an open descriptor such as /dev/stdout or /dev/fd/3) cannot be replaced:
// *target is NULL, and *fd is open for writing. Error: ERROR_RUN, *target is NULL.
bool follow_links(const char *path, char **target, int *fd, Error *err);

// A file that is being written. A regular file has a temporary name until it is complete, so it
// exists completely or not at all. Anything else is written in place.
typedef struct {
    int fd;            // to write to; -1: closed
    const char *name;  // as the user gave it, for messages; the caller's
    char *target;      // the end of its links, owned; NULL: written in place
    char *temporary;   // the target's name until it is complete, owned; NULL: written in place
} NewFile;

// Begins a file. If it replaces one, it gets its permissions. Error: ERROR_RUN; nothing is left.
bool new_file_create(NewFile *f, const char *path, Error *err);

// Completes a file (keep), or else removes it unless it was written in place. Always closes it.
// Error: ERROR_RUN, only if it was to be kept.
bool new_file_close(NewFile *f, bool keep, Error *err);

#endif
