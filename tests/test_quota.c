// The CPU quota of a cgroup, read from folders that stand for the file system.
#include <errno.h>
#include <stdint.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/quota.h"
#include "unit.h"

typedef struct {
    const char *path, *text;
} File;

// Writes a file below a folder, with the folders that it is in.
static void write_file(const char *root, const File *file)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", root, file->path);
    for (char *slash = strchr(path + strlen(root) + 1, '/'); slash;
         slash = strchr(slash + 1, '/')) {
        *slash = 0;
        CHECK(mkdir(path, 0700) == 0 || errno == EEXIST, "%s: %s", path, strerror(errno));
        *slash = '/';
    }
    FILE *out = fopen(path, "w");
    CHECK(out && fputs(file->text, out) >= 0 && fclose(out) == 0, "%s: %s", path, strerror(errno));
}

// Removes a file, and the folders above it that are empty then, up to the root.
static void remove_file(const char *root, const File *file)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", root, file->path);
    while (remove(path) == 0 && strlen(path) > strlen(root)) {
        *strrchr(path, '/') = 0;
    }
}

// The threads for a file system of these files (up to one without a path).
static size_t threads_of(const File *files)
{
    char root[] = "/tmp/test_quota.XXXXXX";
    CHECK(mkdtemp(root), "%s", strerror(errno));
    for (const File *file = files; file->path; file++) {
        write_file(root, file);
    }
    const size_t threads = quota_threads(root);
    for (const File *file = files; file->path; file++) {
        remove_file(root, file);
    }
    rmdir(root);  // where there was no file
    return threads;
}

#define CGROUP "proc/self/cgroup"
#define V1     "sys/fs/cgroup/cpu/"
#define V2     "sys/fs/cgroup/"

typedef struct {
    const char *name;
    File files[6];
    size_t expected;
} Case;

static void check_cases(const Case *cases, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const size_t threads = threads_of(cases[i].files);
        CHECK(threads == cases[i].expected, "%s: %zu threads, expected %zu", cases[i].name, threads,
              cases[i].expected);
    }
}

TEST(test_quota_of_version_2)
{
    static const Case cases[] = {
        {"own", {{CGROUP, "0::/a/b\n"}, {V2 "a/b/cpu.max", "400000 100000\n"}}, 4},
        {"none", {{CGROUP, "0::/a/b\n"}, {V2 "a/b/cpu.max", "max 100000\n"}}, SIZE_MAX},
        {"above",
         {{CGROUP, "0::/a/b\n"},
          {V2 "a/b/cpu.max", "max 100000\n"},
          {V2 "a/cpu.max", "200000 100000\n"}},
         2},
        {"the least",
         {{CGROUP, "0::/a/b\n"},
          {V2 "a/b/cpu.max", "300000 100000\n"},
          {V2 "a/cpu.max", "200000 100000\n"},
          {V2 "cpu.max", "800000 100000\n"}},
         2},
        {"a container's own view", {{CGROUP, "0::/\n"}, {V2 "cpu.max", "300000 100000\n"}}, 3},
        {"a path outside the container",
         {{CGROUP, "0::/../../x\n"}, {V2 "cpu.max", "300000 100000\n"}},
         3},
        {"another's", {{CGROUP, "0::/a\n"}, {V2 "ab/cpu.max", "100000 100000\n"}}, SIZE_MAX},
    };
    check_cases(cases, sizeof cases / sizeof *cases);
}

TEST(test_quota_of_version_1)
{
    static const Case cases[] = {
        {"own",
         {{CGROUP, "5:memory:/x\n4:cpu,cpuacct:/a:b\n3:cpuset:/y\n"},
          {V1 "a:b/cpu.cfs_quota_us", "200000\n"},
          {V1 "a:b/cpu.cfs_period_us", "100000\n"},
          {V1 "y/cpu.cfs_quota_us", "100000\n"},
          {V1 "y/cpu.cfs_period_us", "100000\n"}},
         2},
        {"listed last",
         {{CGROUP, "4:cpuacct,cpu:/a"},
          {V1 "a/cpu.cfs_quota_us", "50000\n"},
          {V1 "a/cpu.cfs_period_us", "10000\n"}},
         5},
        {"none",
         {{CGROUP, "4:cpu:/a\n"},
          {V1 "a/cpu.cfs_quota_us", "-1\n"},
          {V1 "a/cpu.cfs_period_us", "100000\n"}},
         SIZE_MAX},
        {"a container that sees its own cgroup at the mount, beside version 2 without controllers",
         {{CGROUP, "4:cpu:/docker/0123\n0::/docker/0123\n"},
          {V1 "cpu.cfs_quota_us", "300000\n"},
          {V1 "cpu.cfs_period_us", "100000\n"}},
         3},
    };
    check_cases(cases, sizeof cases / sizeof *cases);
}

TEST(test_quota_is_rounded_up)
{
    static const Case cases[] = {
        {"a tenth", {{CGROUP, "0::/\n"}, {V2 "cpu.max", "10000 100000\n"}}, 1},
        {"one", {{CGROUP, "0::/\n"}, {V2 "cpu.max", "100000 100000\n"}}, 1},
        {"one and a half", {{CGROUP, "0::/\n"}, {V2 "cpu.max", "150000 100000\n"}}, 2},
        {"two, of another period", {{CGROUP, "0::/\n"}, {V2 "cpu.max", "20000 10000\n"}}, 2},
    };
    check_cases(cases, sizeof cases / sizeof *cases);
}

TEST(test_what_says_nothing_is_no_quota)
{
    static const Case cases[] = {
        {"no files", {{0}}, SIZE_MAX},
        {"no cgroup of its own", {{CGROUP, ""}, {V1 "x", ""}}, SIZE_MAX},
        {"nothing", {{CGROUP, "0::/\n"}, {V2 "cpu.max", ""}}, SIZE_MAX},
        {"no numbers", {{CGROUP, "0::/\n"}, {V2 "cpu.max", "a lot\n"}}, SIZE_MAX},
        {"one number", {{CGROUP, "0::/\n"}, {V2 "cpu.max", "100000\n"}}, SIZE_MAX},
        {"no time", {{CGROUP, "0::/\n"}, {V2 "cpu.max", "0 100000\n"}}, SIZE_MAX},
        {"no period", {{CGROUP, "0::/\n"}, {V2 "cpu.max", "100000 0\n"}}, SIZE_MAX},
        {"no period's file",
         {{CGROUP, "4:cpu:/\n"}, {V1 "cpu.cfs_quota_us", "100000\n"}},
         SIZE_MAX},
        {"lines that are none", {{CGROUP, "\n:\n::\n4\n4:cpu\ncpu"}, {V1 "x", ""}}, SIZE_MAX},
    };
    check_cases(cases, sizeof cases / sizeof *cases);
}

int main(int argc, char **argv)
{
    return unit_main(argc, argv,
                     (UnitTest[]){
                         UNIT(test_quota_of_version_2),
                         UNIT(test_quota_of_version_1),
                         UNIT(test_quota_is_rounded_up),
                         UNIT(test_what_says_nothing_is_no_quota),
                         {0},
                     });
}
