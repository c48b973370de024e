// files.h - mapping, reading and writing of whole files.
#ifndef FILES_H
#define FILES_H

#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"

// The bytes of a file, mapped read-only. Mapping costs next to nothing whatever the file's size:
// the system reads a page when it is first touched, drops pages when memory runs short, and shares
// them with every other process that maps the same file.
typedef struct {
    const uint8_t *data;  // (size), aligned to 64
    size_t size;
    void *address;  // for mapping_close; NULL: the bytes are the caller's
} Mapping;

// Maps a whole regular file. Errors: ERROR_INPUT if it cannot be opened, is not a regular file, or
// is empty; ERROR_RUN if it cannot be mapped. On failure *m is empty.
bool mapping_open(Mapping *m, const char *path, Error *err);
void mapping_close(Mapping *m);

// Appends to *out all that can be read from a descriptor; `name` is for messages. Errors:
// ERROR_INPUT if reading fails or there are more than `limit` bytes; ERROR_RUN when out of memory.
bool read_all(int fd, const char *name, size_t limit, Buffer *out, Error *err);

// The same for a file, a pipe or a terminal, given by its path.
bool read_file(const char *path, size_t limit, Buffer *out, Error *err);

// Writes all bytes to a descriptor; `name` is for messages. Errors: ERROR_RUN.
bool write_all(int fd, const char *name, const void *data, size_t size, Error *err);

// Creates an empty file beside `path`, to be renamed to it once it is complete. It gets the
// permissions of any new file. Returns its descriptor, and its name in *temporary, which the caller
// frees. On failure: -1, *temporary is NULL. Errors: ERROR_RUN.
int create_beside(const char *path, char **temporary, Error *err);

#endif
