// quota.c - how many threads the CPU quota of a container keeps busy. See quota.h.
//
// A container with a quota of four of eight processors (docker --cpus 4, a Kubernetes limit) sees
// all eight, since the quota limits time: when its threads have used 400 ms in a period of 100 ms,
// all of them are stopped until the next period. Eight threads that wait for each other use the
// quota up by spinning, and are slower than four.
//
// The quota is in files of the process's cgroup and of its ancestors; the smallest one counts:
//
//     /proc/self/cgroup                     4:cpu,cpuacct:/a/b         0::/a/b
//     /sys/fs/cgroup/cpu/a/b, /a and /      cpu.cfs_quota_us, cpu.cfs_period_us
//     /sys/fs/cgroup/a/b, /a and /                                     cpu.max
#include "base/quota.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/files.h"

// Where a version of cgroups is mounted, and the files in a cgroup that hold its quota and period
// in microseconds: "150000 100000", or one number in each of two files. If the first is not a
// number or is below 0, there is no quota.
typedef struct {
    const char *mount;
    const char *controller;  // its name in /proc/self/cgroup
    const char *files[2];
} Hierarchy;

static const Hierarchy hierarchies[] = {
    {"/sys/fs/cgroup", "", {"cpu.max", NULL}},  // version 2
    {"/sys/fs/cgroup/cpu", "cpu", {"cpu.cfs_quota_us", "cpu.cfs_period_us"}},
};

// More bytes than a cgroup's files, or /proc/self/cgroup, ever have.
#define MAX_CGROUP_BYTES ((size_t)1 << 20)

// Appends a file below a folder to a text, or nothing if it cannot be read.
static void read_below(const char *folder, const char *name, Buffer *text)
{
    Error ignored;
    Buffer path = {0};
    buffer_addf(&path, "%s/%s", folder, name);
    if (buffer_check(&path, &ignored)) {
        read_file(path.data, MAX_CGROUP_BYTES, text, &ignored);
    }
    buffer_free(&path);
}

// The quota of one cgroup in processors, or infinity.
static double folder_quota(const Hierarchy *h, const char *folder)
{
    Buffer text = {0};
    long long quota = 0, period = 0;
    for (size_t i = 0; i < 2 && h->files[i]; i++) {
        read_below(folder, h->files[i], &text);
    }
    if (text.size) {
        char *end;
        quota = strtoll(text.data, &end, 10);  // 0 if it is "max"
        period = strtoll(end, NULL, 10);
    }
    buffer_free(&text);
    return quota > 0 && period > 0 ? (double)quota / (double)period : (double)INFINITY;
}

// Is a controller one of the first `size` bytes of a list, "cpu,cpuacct"?
static bool is_listed(const char *controller, const char *list, size_t size)
{
    const size_t length = strlen(controller);
    for (size_t at = 0; at <= size; at += strcspn(list + at, ",:") + 1) {
        if (strcspn(list + at, ",:") == length && memcmp(list + at, controller, length) == 0) {
            return true;
        }
    }
    return false;
}

// Adds the path of this process's cgroup, without a slash at its end, from the lines of
// /proc/self/cgroup: "4:cpu,cpuacct:/a/b", in version 2 "0::/a/b". Adds nothing if it has none.
static void add_own_cgroup(const Hierarchy *h, const char *lines, Buffer *path)
{
    for (const char *line = lines; *line; line += strcspn(line, "\n"), line += *line == '\n') {
        const char *list = line + strcspn(line, ":\n");
        const char *end = *list == ':' ? list + 1 + strcspn(list + 1, ":\n") : list;
        if (*end == ':' && is_listed(h->controller, list + 1, (size_t)(end - list - 1))) {
            const size_t size = strcspn(end + 1, "\n");
            buffer_add(path, end + 1, size - (size && end[size] == '/'));
            return;
        }
    }
}

// The smallest quota of this process's cgroup and its ancestors. A container may see its own cgroup
// at the mount point and not at the path that the kernel reports: a missing one has no quota.
static double hierarchy_quota(const Hierarchy *h, const char *root, const char *lines)
{
    Buffer folder = {0};
    Error ignored;
    buffer_addf(&folder, "%s%s", root, h->mount);
    const size_t mount = folder.size;
    add_own_cgroup(h, lines, &folder);
    double least = (double)INFINITY;
    while (buffer_check(&folder, &ignored)) {
        least = fmin(least, folder_quota(h, folder.data));
        char *slash = strrchr(folder.data + mount, '/');
        if (!slash) {
            break;
        }
        *slash = 0;
    }
    buffer_free(&folder);
    return least;
}

size_t quota_threads(const char *root)
{
    Buffer folder = {0}, lines = {0};
    Error ignored;
    double least = (double)INFINITY;
    buffer_addf(&folder, "%s/proc/self", root);
    if (buffer_check(&folder, &ignored)) {
        read_below(folder.data, "cgroup", &lines);
    }
    for (size_t i = 0; i < sizeof hierarchies / sizeof *hierarchies; i++) {
        least = fmin(least, hierarchy_quota(&hierarchies[i], root, lines.size ? lines.data : ""));
    }
    buffer_free(&folder);
    buffer_free(&lines);
    // Rounded up: with 1.5 processors, two threads are stopped for a quarter of the time, but one
    // would leave a third of the quota unused.
    return least < (double)SIZE_MAX ? (size_t)ceil(least) : SIZE_MAX;
}
