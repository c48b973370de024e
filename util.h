// util.h - the error type, checked size arithmetic, memory and files.
//
// Library code never prints and never exits: a function that can fail returns false and fills the
// Error that its caller gave it; run.c prints the message and exits with the kind.
#ifndef UTIL_H
#define UTIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "checkpoints are little-endian and are read in place: this machine cannot run them"
#endif

_Static_assert(sizeof(size_t) == 8, "sizes of files and of memory are computed in 64 bits");

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

// *out = a * b (or a + b); false, with *out untouched, where that overflows.
bool size_mul(size_t a, size_t b, size_t *out);
bool size_add(size_t a, size_t b, size_t *out);

// n rounded up to a multiple of `multiple`; the caller knows that it does not overflow.
static inline size_t round_up(size_t n, size_t multiple)
{
    return (n + multiple - 1) / multiple * multiple;
}

// FNV-1a (Fowler, Noll, Vo): begins at HASH_BEGIN, and takes a byte or a larger unit a step. A
// product's low bits know nothing of the higher ones: a table's place is of `h ^ h >> 32`.
#define HASH_BEGIN 0xcbf29ce484222325u
static inline uint64_t hash_step(uint64_t h, uint64_t unit) { return (h ^ unit) * 0x100000001b3u; }

static inline uint64_t hash_bytes(uint64_t h, const void *bytes, size_t size)
{
    const uint8_t *p = bytes;
    for (size_t i = 0; i < size; i++) {
        h = hash_step(h, p[i]);
    }
    return h;
}

// CRC-32 as zlib and PNG have it (polynomial 0xedb88320, reflected), eight bytes a step through
// eight tables: table k advances a byte by k further bytes (M. Kounavis, F. Berry, ISCC 2005).
typedef struct {
    uint32_t t[8][256];
} Crc32;

void crc32_init(Crc32 *c);
// Continues a checksum (0 at the start) over more bytes.
uint32_t crc32_update(const Crc32 *c, uint32_t crc, const uint8_t *p, size_t size);

// Zeroed memory for count * size bytes, aligned to 64 (a cache line, a 512-bit register), or NULL
// when the product overflows or there is none. Freed with free().
void *alloc_zeroed(size_t count, size_t size);

// Large zeroed memory straight from the system: pages cost nothing until touched, and huge pages
// are asked for. NULL where there is none.
void *memory_map(size_t bytes);
void memory_unmap(void *p, size_t bytes);

// A growing byte buffer. Always NUL-terminated once anything was appended, so data can be used as a
// string.
typedef struct {
    char *data;       // owned; NULL while empty
    size_t size;      // bytes in use
    size_t capacity;  // bytes allocated
} Buffer;

bool buffer_append(Buffer *b, const void *data, size_t size, Error *err);
bool buffer_printf(Buffer *b, Error *err, const char *format, ...) PRINTF_LIKE(3, 4);
void buffer_clear(Buffer *b);  // size = 0, memory kept
void buffer_free(Buffer *b);

// Looks at the first character of n > 0 bytes of UTF-8 (Unicode's table 3-7). Positive: its length,
// it is whole. Zero: the bytes are the beginning of one. Negative: so many bytes are not UTF-8; one
// U+FFFD stands for them.
int utf8_scan(const char *bytes, size_t n);
#define UTF8_REPLACEMENT "\xef\xbf\xbd"

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

double now_seconds(void);  // a monotonic clock

#endif
