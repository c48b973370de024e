// progress.h - how a function that takes long says how far it is.
#ifndef PROGRESS_H
#define PROGRESS_H

#include <stddef.h>

// `report` may be NULL; it is called from one thread at a time, with `done` from 0 to `total`, in
// bytes.
typedef struct {
    void (*report)(void *arg, size_t done, size_t total);
    void *arg;
} Progress;

static inline void progress_report(const Progress *p, size_t done, size_t total)
{
    if (p && p->report) {
        p->report(p->arg, done, total);
    }
}

#endif
