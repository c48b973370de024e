// files.c - mapping, reading and writing of whole files. See files.h.
#include "base/files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

// A mapping is filled up with zeros to whole pages, so the address sanitizer would miss a read past
// the end of the file. Under it a file is read into a block of exactly its size instead.
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

// Maps the regular file that is open as fd.
static bool map_regular(Mapping *m, int fd, const char *path, Error *err)
{
    struct stat st;
    if (fstat(fd, &st) != 0) {
        return error_set(err, ERROR_INPUT, "%s: cannot be examined: %s", path, strerror(errno));
    }
    if (!S_ISREG(st.st_mode)) {
        return error_set(err, ERROR_INPUT, "%s: is %s", path,
                         S_ISDIR(st.st_mode) ? "a directory" : "not a regular file");
    }
    if (st.st_size <= 0) {
        return error_set(err, ERROR_INPUT, "%s: is empty", path);
    }
    const size_t size = (size_t)st.st_size;
    void *data = map_file(fd, size);
    if (!data) {
        return error_set(err, ERROR_RUN, "%s: cannot be mapped: %s", path, strerror(errno));
    }
    *m = (Mapping){data, size, data};
    return true;
}

bool mapping_open(Mapping *m, const char *path, Error *err)
{
    *m = (Mapping){0};
    // O_NONBLOCK: opening a FIFO would wait for a writer; it has to be refused instead.
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        return error_set(err, ERROR_INPUT, "%s: cannot be opened: %s", path, strerror(errno));
    }
    const bool ok = map_regular(m, fd, path, err);
    close(fd);  // the mapping stays
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
            return error_set(err, ERROR_INPUT, "%s: has more than %zu bytes, the limit", name,
                             limit);
        }
        buffer_add(out, chunk, (size_t)n);
        if (!buffer_check(out, err)) {
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
    // mkstemp gives 0600; the umask can only be read by setting it.
    const mode_t mask = umask(0);
    umask(mask);
    fchmod(fd, 0666 & ~mask);
    return fd;
}
