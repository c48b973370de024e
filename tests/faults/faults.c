// faults.c - a library for LD_PRELOAD whose n-th call of a kind fails.
//
//     FAULT="memory 3 once"    only the third malloc, calloc, realloc or aligned_alloc fails
//     FAULT="write 1 on"       every write fails, from the first on
//
// Kinds: memory, open, read, mmap, write, short (a write that writes half), seek, fsync, rename. Counting starts with main, so that the
// calls of the loader and of constructors are left out. A run that ends before its n-th call prints
// "[no fault]" to stderr: tests/test_faults.py then knows that it has tried every n.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *p, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);

static char kind[16], rest[8];
static long target;  // the number of the call that fails
static atomic_long seen;
static bool armed;

static bool fails(const char *call, int error)
{
    if (!armed || strcmp(call, kind) != 0) {
        return false;
    }
    const long n = atomic_fetch_add(&seen, 1) + 1;
    if (n == target || (n > target && strcmp(rest, "on") == 0)) {
        errno = error;
        return true;
    }
    return false;
}

void *malloc(size_t size) { return fails("memory", ENOMEM) ? NULL : __libc_malloc(size); }

void *calloc(size_t count, size_t size)
{
    return fails("memory", ENOMEM) ? NULL : __libc_calloc(count, size);
}

void *realloc(void *p, size_t size)
{
    return fails("memory", ENOMEM) ? NULL : __libc_realloc(p, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return fails("memory", ENOMEM) ? NULL : __libc_memalign(alignment, size);
}

int open(const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    const mode_t mode = flags & O_CREAT ? va_arg(args, mode_t) : 0;
    va_end(args);
    return fails("open", EMFILE) ? -1 : (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

// glibc's mkstemp does not call the open above.
int mkstemp(char *template)
{
    static int (*next)(char *);
    next = next ? next : (int (*)(char *))dlsym(RTLD_NEXT, "mkstemp");
    return fails("open", EMFILE) ? -1 : next(template);
}

ssize_t read(int fd, void *data, size_t size)
{
    return fails("read", EIO) ? -1 : syscall(SYS_read, fd, data, size);
}

// Replaces read where the compiler knows the size of the buffer (_FORTIFY_SOURCE).
ssize_t __read_chk(int fd, void *data, size_t size, size_t room)
{
    return size > room ? (abort(), -1) : read(fd, data, size);
}

void *mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
    return fails("mmap", ENOMEM)
               ? MAP_FAILED
               : (void *)syscall(SYS_mmap, at, size, protection, flags, fd, offset);
}

ssize_t write(int fd, const void *data, size_t size)
{
    if (size > 1 && fails("short", 0)) {
        size /= 2;
    }
    return fails("write", ENOSPC) ? -1 : syscall(SYS_write, fd, data, size);
}

off_t lseek(int fd, off_t offset, int from)
{
    return fails("seek", EIO) ? -1 : (off_t)syscall(SYS_lseek, fd, offset, from);
}

int fsync(int fd) { return fails("fsync", EIO) ? -1 : (int)syscall(SYS_fsync, fd); }

int rename(const char *from, const char *to)
{
    return fails("rename", EACCES) ? -1
                                   : (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}

static int (*program)(int, char **, char **);

static int armed_main(int argc, char **argv, char **environment)
{
    const char *fault = getenv("FAULT");
    if (fault && sscanf(fault, "%15s %ld %7s", kind, &target, rest) != 3) {
        return 99;
    }
    armed = fault;
    const int status = program(argc, argv, environment);
    armed = false;
    if (fault && seen < target) {
        fputs("[no fault]\n", stderr);
    }
    return status;
}

int __libc_start_main(int (*run)(int, char **, char **), int argc, char **argv, void (*init)(void),
                      void (*fini)(void), void (*loader_fini)(void), void *stack)
{
    int (*start)(int (*)(int, char **, char **), int, char **, void (*)(void), void (*)(void),
                 void (*)(void), void *) = dlsym(RTLD_NEXT, "__libc_start_main");
    program = run;
    return start(armed_main, argc, argv, init, fini, loader_fini, stack);
}
