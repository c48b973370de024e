// files.c - mapping, reading and writing whole files. See files.h.
//
// A regular file is written under a temporary name in the same folder, and renamed when complete:
//
//     -o link      link -> texts/new.txt          follow_links
//                  texts/new.txt.Xa3f9Q           written, synced
//                  texts/new.txt                  renamed; the link is unchanged
#include "base/files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

// The last page of a mapping is padded with zeros, so the address sanitizer would miss a read past
// the end of the file. With the sanitizer, a file is read into a block of exactly its size instead.
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

void mapping_drop(const Mapping *m, const uint8_t *data, size_t size)
{
    (void)m;
    (void)data;
    (void)size;
}
#else
static void *map_file(int fd, size_t size)
{
    void *data = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
    return data == MAP_FAILED ? NULL : data;
}

static void unmap_file(void *address, size_t size) { munmap(address, size); }

void mapping_drop(const Mapping *m, const uint8_t *data, size_t size)
{
    // Only whole pages: their neighbours may be in use.
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), at = (uintptr_t)data;
    const uintptr_t begin = (at + page - 1) / page * page, end = (at + size) / page * page;
    if (m->address && begin < end) {
        madvise((char *)data + (begin - at), end - begin, MADV_DONTNEED);
    }
}
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

bool is_directory(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

bool mapping_open(Mapping *m, const char *path, Error *err)
{
    *m = (Mapping){0};
    // O_NONBLOCK: opening a FIFO would otherwise wait for a writer instead of refusing it.
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

bool expand_home(const char *path, Buffer *out, Error *err)
{
    if (path[0] == '~' && (path[1] == '/' || path[1] == '\0')) {
        const char *home = getenv("HOME");
        if (!home || !*home) {
            return error_set(err, ERROR_INPUT,
                             "%s: HOME is %s, expected the folder that ~ stands for", path,
                             home ? "empty" : "not set");
        }
        buffer_add_text(out, home);
        path++;
    }
    buffer_add_text(out, path);
    return buffer_check(out, err);
}

// --------------------------------------------------------------------------------------------
// Files that are written

// The number of links that Linux follows in a path.
#define MAX_LINKS 40

// The number N of /dev/fd/N, or -1.
static int descriptor_named(const char *path)
{
    static const char *const folders[] = {"/proc/self/fd/", "/dev/fd/"};
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        const size_t length = strlen(folders[i]);
        const char *number = path + length;
        if (strncmp(path, folders[i], length) == 0 && *number && strlen(number) < 9 &&
            strspn(number, "0123456789") == strlen(number)) {
            return (int)strtol(number, NULL, 10);
        }
    }
    return -1;
}

// Replaces the path of a symbolic link by the one in it, which may begin at the link's folder.
static bool read_link(Buffer *path)
{
    char link[4096];
    const ssize_t size = readlink(path->data, link, sizeof link);
    const char *slash = strrchr(path->data, '/');
    if (size <= 0 || (size_t)size == sizeof link) {
        errno = size < 0 ? errno : ENAMETOOLONG;
        return false;
    }
    path->size = slash && link[0] != '/' ? (size_t)(slash - path->data) + 1 : 0;
    buffer_add(path, link, (size_t)size);
    return true;
}

// follow_links with a Buffer as target: false, with errno set, if there is nothing to write to.
static bool follow_path(Buffer *path, int *fd)
{
    struct stat st;
    for (int links = 0; links <= MAX_LINKS; links++) {
        if (path->lacking) {
            errno = ENOMEM;
            return false;
        }
        const int named = descriptor_named(path->data);
        if (named >= 0) {
            // Not by open, which would write from the start of a file.
            *fd = fcntl(named, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
            return *fd >= 0;
        }
        if (lstat(path->data, &st) != 0) {
            return errno == ENOENT;
        }
        if (S_ISREG(st.st_mode)) {
            return true;
        }
        // The text of a link in /proc is not always a path: the link may lead to a pipe, or to a
        // file that no longer has a name.
        if (!S_ISLNK(st.st_mode) || strncmp(path->data, "/proc/", 6) == 0) {
            *fd = open(path->data, O_WRONLY | O_CLOEXEC);
            return *fd >= 0;
        }
        if (!read_link(path)) {
            return false;
        }
    }
    errno = ELOOP;
    return false;
}

bool follow_links(const char *path, char **target, int *fd, Error *err)
{
    Buffer followed = {0};
    *target = NULL;
    *fd = -1;
    buffer_add(&followed, path, strlen(path) + 1);  // with the NUL: never empty
    followed.size -= !followed.lacking;
    const bool ok = follow_path(&followed, fd);
    if (ok && *fd < 0) {
        *target = followed.data;
        return true;
    }
    const int why = errno;
    buffer_free(&followed);
    return ok || error_set(err, ERROR_RUN, "%s: cannot be created: %s", path, strerror(why));
}

// Gives a file that will replace another the same owner and permissions, as far as allowed. Any
// other file gets the permissions of a new file.
static void set_permissions(int fd, const struct stat *replaced)
{
    if (replaced) {
        const int ignored = fchown(fd, replaced->st_uid, replaced->st_gid);
        (void)ignored;  // only the superuser may give files away
        fchmod(fd, replaced->st_mode & 0777);
        return;
    }
    // mkstemp gives 0600; the umask can only be read by setting it.
    const mode_t mask = umask(0);
    umask(mask);
    fchmod(fd, 0666 & ~mask);
}

// Creates the temporary file beside the target.
static bool create_beside(NewFile *f, Error *err)
{
    struct stat st;
    const bool exists = stat(f->target, &st) == 0;
    if (exists && access(f->target, W_OK) != 0) {
        return error_set(err, ERROR_RUN, "%s: cannot be written: %s", f->name, strerror(errno));
    }
    const size_t size = strlen(f->target) + sizeof ".XXXXXX";
    char *name = malloc(size);
    if (!name) {
        return error_memory(err, "a file's name", size);
    }
    snprintf(name, size, "%s.XXXXXX", f->target);
    f->temporary = name;  // complete: a signal handler may unlink it from now on
    f->fd = mkstemp(name);
    if (f->fd < 0) {
        return error_set(err, ERROR_RUN, "%s: cannot be created: %s", f->name, strerror(errno));
    }
    set_permissions(f->fd, exists ? &st : NULL);
    return true;
}

static void forget_file(NewFile *f)
{
    char *target = f->target, *temporary = f->temporary;
    *f = (NewFile){.fd = -1};  // first: a signal handler may look at it
    free(target);
    free(temporary);
}

bool new_file_create(NewFile *f, const char *path, Error *err)
{
    *f = (NewFile){.fd = -1, .name = path};
    if (!follow_links(path, &f->target, &f->fd, err) || (f->target && !create_beside(f, err))) {
        forget_file(f);
        return false;
    }
    return true;
}

bool new_file_close(NewFile *f, bool keep, Error *err)
{
    int why = keep && f->temporary && fsync(f->fd) != 0 ? errno : 0;
    if (close(f->fd) != 0 && keep && !why) {
        why = errno;
    }
    if (f->temporary && keep && !why && rename(f->temporary, f->target) != 0) {
        why = errno;
    }
    if (f->temporary && (!keep || why)) {
        unlink(f->temporary);
    }
    if (why) {
        error_set(err, ERROR_RUN, "%s: cannot be written: %s", f->name, strerror(why));
    }
    forget_file(f);
    return !why;
}
