// files.h - files that are mapped, read and written whole.
#ifndef FILES_H
#define FILES_H

#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"

// A file's bytes, read-only and mapped: shared with every other process that maps the same file.
typedef struct {
    const uint8_t *data;
    size_t size;
    void *address;  // for mapping_close; NULL: the bytes are the caller's
} Mapping;

// Maps a whole regular file. Errors (ERROR_INPUT): it cannot be opened, is not a regular file, is
// empty.
bool mapping_open(Mapping *m, const char *path, Error *err);
void mapping_close(Mapping *m);

// Appends all that can be read from the descriptor to *out; `name` is for messages. Fails beyond
// `limit` bytes.
bool read_all(int fd, const char *name, size_t limit, Buffer *out, Error *err);

// Opens and reads a whole file (a pipe or a terminal is fine).
bool read_file(const char *path, size_t limit, Buffer *out, Error *err);

// Writes all bytes, however often the system takes only a part. Error: ERROR_RUN.
bool write_all(int fd, const char *name, const void *data, size_t size, Error *err);

// Creates an empty file beside `path` that is to be renamed to it once it is whole, with the
// permissions of any new file. Returns its descriptor, and its name in *temporary, which the caller
// frees; -1 and NULL on errors (ERROR_RUN).
int create_beside(const char *path, char **temporary, Error *err);

#endif
