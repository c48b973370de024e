// quota.h - how many threads the CPU quota of a container keeps busy.
#ifndef QUOTA_H
#define QUOTA_H

#include <stddef.h>

// The number of threads that the quotas of this process's cgroup and its ancestors keep busy, at
// least 1; SIZE_MAX if there is no quota. `root` precedes the paths of all files that are read: "",
// or in a test a folder that stands for the file system. What cannot be read counts as no quota.
size_t quota_threads(const char *root);

#endif
