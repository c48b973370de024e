// util.c - the error type, checked size arithmetic, memory and files. See util.h.
#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

bool error_set(Error *err, ErrorKind kind, const char *format, ...)
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
    return false;
}

bool error_memory(Error *err, const char *what, size_t bytes)
{
    return error_set(err, ERROR_RUN, "out of memory: %zu bytes for %s", bytes, what);
}

bool size_mul(size_t a, size_t b, size_t *out)
{
    if (a != 0 && b > SIZE_MAX / a) {
        return false;
    }
    *out = a * b;
    return true;
}

bool size_add(size_t a, size_t b, size_t *out)
{
    if (b > SIZE_MAX - a) {
        return false;
    }
    *out = a + b;
    return true;
}

void crc32_init(Crc32 *c)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t crc = i;
        for (int bit = 0; bit < 8; bit++) {
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
        }
        c->t[0][i] = crc;
    }
    for (size_t k = 1; k < 8; k++) {
        for (size_t i = 0; i < 256; i++) {
            c->t[k][i] = c->t[k - 1][i] >> 8 ^ c->t[0][c->t[k - 1][i] & 255];
        }
    }
}

uint32_t crc32_update(const Crc32 *c, uint32_t crc, const uint8_t *p, size_t size)
{
    crc = ~crc;
    for (; size >= 8; size -= 8, p += 8) {
        uint32_t low, high;
        memcpy(&low, p, 4);
        memcpy(&high, p + 4, 4);
        low ^= crc;
        crc = c->t[7][low & 255] ^ c->t[6][low >> 8 & 255] ^ c->t[5][low >> 16 & 255] ^
              c->t[4][low >> 24] ^ c->t[3][high & 255] ^ c->t[2][high >> 8 & 255] ^
              c->t[1][high >> 16 & 255] ^ c->t[0][high >> 24];
    }
    for (; size; size--, p++) {
        crc = crc >> 8 ^ c->t[0][(crc ^ *p) & 255];
    }
    return ~crc;
}

void *alloc_zeroed(size_t count, size_t size)
{
    size_t bytes;
    if (!size_mul(count, size, &bytes) || bytes > SIZE_MAX - 128) {
        return NULL;
    }
    bytes = round_up(bytes ? bytes : 1, 64);
    void *p = aligned_alloc(64, bytes);
    if (p) {
        memset(p, 0, bytes);
    }
    return p;
}

void *memory_map(size_t bytes)
{
    void *p = mmap(NULL, bytes ? bytes : 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                   0);
    if (p == MAP_FAILED) {
        return NULL;
    }
#ifdef MADV_HUGEPAGE
    if (bytes >= (size_t)4 << 20) {
        madvise(p, bytes, MADV_HUGEPAGE);  // only advice: a refusal changes nothing
    }
#endif
    return p;
}

void memory_unmap(void *p, size_t bytes)
{
    if (p) {
        munmap(p, bytes ? bytes : 1);
    }
}

static bool buffer_reserve(Buffer *b, size_t extra, Error *err)
{
    size_t need;
    if (!size_add(b->size, extra, &need) || need > SIZE_MAX / 2) {
        return error_memory(err, "text", extra);
    }
    if (need < b->capacity) {
        return true;  // strictly less: there is always room for the NUL
    }
    size_t capacity = need < 128 ? 256 : need * 2;
    char *data = realloc(b->data, capacity);
    if (!data) {
        return error_memory(err, "text", capacity);
    }
    b->data = data;
    b->capacity = capacity;
    return true;
}

bool buffer_append(Buffer *b, const void *data, size_t size, Error *err)
{
    if (!buffer_reserve(b, size, err)) {
        return false;
    }
    if (size) {
        memcpy(b->data + b->size, data, size);
    }
    b->size += size;
    b->data[b->size] = '\0';
    return true;
}

bool buffer_printf(Buffer *b, Error *err, const char *format, ...)
{
    char text[256];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (n < 0 || (size_t)n >= sizeof text) {
        return error_set(err, ERROR_RUN, "a formatted text has %d bytes, at most %zu fit", n,
                         sizeof text - 1);
    }
    return buffer_append(b, text, (size_t)n, err);
}

void buffer_clear(Buffer *b)
{
    b->size = 0;
    if (b->data) {
        b->data[0] = '\0';
    }
}

void buffer_free(Buffer *b)
{
    free(b->data);
    *b = (Buffer){0};
}

int utf8_scan(const char *bytes, size_t n)
{
    const uint8_t *b = (const uint8_t *)bytes, first = b[0];
    const int length = first < 0x80   ? 1
                       : first < 0xc2 ? 0
                       : first < 0xe0 ? 2
                       : first < 0xf0 ? 3
                       : first < 0xf5 ? 4
                                      : 0;
    if (length == 0) {
        return -1;
    }
    for (int i = 1; i < length; i++) {
        if ((size_t)i == n) {
            return 0;
        }
        uint8_t low = 0x80, high = 0xbf;
        if (i == 1) {  // no overlong forms, no surrogates, nothing beyond U+10FFFF
            low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : low;
            high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : high;
        }
        if (b[i] < low || b[i] > high) {
            return -i;
        }
    }
    return length;
}

// The address sanitizer does not see a read past the end of a mapping, which is filled up to whole
// pages: under it a file is read into a block of exactly its size.
#if defined(__SANITIZE_ADDRESS__)
#define MAPPING_IS_BLOCK 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define MAPPING_IS_BLOCK 1
#endif
#endif

#ifdef MAPPING_IS_BLOCK
static void *map_file(int fd, size_t size)
{
    void *data = NULL;
    if (posix_memalign(&data, 64, size) != 0) {
        return NULL;
    }
    size_t done = 0;
    while (done < size) {
        const ssize_t n = read(fd, (char *)data + done, size - done);
        if (n <= 0) {
            free(data);
            return NULL;
        }
        done += (size_t)n;
    }
    return data;
}

static void unmap_file(void *address, size_t size)
{
    (void)size;
    free(address);
}
#else
static void *map_file(int fd, size_t size)
{
    void *data = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
    return data == MAP_FAILED ? NULL : data;
}

static void unmap_file(void *address, size_t size) { munmap(address, size); }
#endif

bool mapping_open(Mapping *m, const char *path, Error *err)
{
    *m = (Mapping){0};
    // O_NONBLOCK: a FIFO without a writer must be refused, not waited for.
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        return error_set(err, ERROR_INPUT, "%s: cannot be opened: %s", path, strerror(errno));
    }
    bool ok = false;
    struct stat st;
    if (fstat(fd, &st) != 0) {
        error_set(err, ERROR_INPUT, "%s: cannot be examined: %s", path, strerror(errno));
    } else if (!S_ISREG(st.st_mode)) {
        error_set(err, ERROR_INPUT, "%s: is not a regular file%s", path,
                  S_ISDIR(st.st_mode) ? " but a directory" : "");
    } else if (st.st_size <= 0) {
        error_set(err, ERROR_INPUT, "%s: is empty", path);
    } else {
        void *data = map_file(fd, (size_t)st.st_size);
        if (!data) {
            error_set(err, ERROR_RUN, "%s: cannot be mapped: %s", path, strerror(errno));
        } else {
            *m = (Mapping){data, (size_t)st.st_size, data};
            ok = true;
        }
    }
    close(fd);
    return ok;
}

void mapping_close(Mapping *m)
{
    if (m->address) {
        unmap_file(m->address, m->size);
    }
    *m = (Mapping){0};
}

bool read_all(int fd, const char *name, size_t limit, Buffer *out, Error *err)
{
    size_t start = out->size;
    for (;;) {
        char chunk[65536];
        ssize_t n = read(fd, chunk, sizeof chunk);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return error_set(err, ERROR_INPUT, "%s: cannot be read: %s", name, strerror(errno));
        }
        if (n == 0) {
            return true;
        }
        if ((size_t)n > limit - (out->size - start)) {
            return error_set(err, ERROR_INPUT, "%s: has more than %zu bytes, the most allowed",
                             name, limit);
        }
        if (!buffer_append(out, chunk, (size_t)n, err)) {
            return false;
        }
    }
}

bool read_file(const char *path, size_t limit, Buffer *out, Error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return error_set(err, ERROR_INPUT, "%s: cannot be opened: %s", path, strerror(errno));
    }
    bool ok = read_all(fd, path, limit, out, err);
    close(fd);
    return ok;
}

bool write_all(int fd, const char *name, const void *data, size_t size, Error *err)
{
    const char *p = data;
    while (size) {
        ssize_t n = write(fd, p, size);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return error_set(err, ERROR_RUN, "%s: cannot be written: %s", name, strerror(errno));
        }
        p += n;
        size -= (size_t)n;
    }
    return true;
}

int create_beside(const char *path, char **temporary, Error *err)
{
    const size_t size = strlen(path) + sizeof ".XXXXXX";
    char *name = *temporary = malloc(size);
    if (!name) {
        error_memory(err, "a file's name", size);
        return -1;
    }
    snprintf(name, size, "%s.XXXXXX", path);
    const int fd = mkstemp(name);
    if (fd < 0) {
        error_set(err, ERROR_RUN, "%s: cannot be created: %s", path, strerror(errno));
        free(name);
        *temporary = NULL;
        return -1;
    }
    const mode_t mask = umask(0);
    umask(mask);
    fchmod(fd, 0666 & ~mask);
    return fd;
}

double now_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}
