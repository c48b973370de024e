// futex.c - sleeping on a word of memory. See futex.h.
#include "base/futex.h"

#if defined(__linux__)

#include <limits.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

// From linux/futex.h, which not every libc can find: for words of this process only.
enum { WAIT_PRIVATE = 128, WAKE_PRIVATE = 129 };

void futex_wait(Futex *word, uint32_t expected)
{
    syscall(SYS_futex, word, WAIT_PRIVATE, expected, NULL, NULL, 0);
}

void futex_wake(Futex *word) { syscall(SYS_futex, word, WAKE_PRIVATE, INT_MAX, NULL, NULL, 0); }

#elif defined(_OPENMP)

#include <pthread.h>

// One pair for all words: threads that are woken for another word look at theirs and sleep again.
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

void futex_wait(Futex *word, uint32_t expected)
{
    pthread_mutex_lock(&mutex);
    if (atomic_load(word) == expected) {
        pthread_cond_wait(&changed, &mutex);
    }
    pthread_mutex_unlock(&mutex);
}

void futex_wake(Futex *word)
{
    (void)word;
    pthread_mutex_lock(&mutex);
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&mutex);
}

#else

// A single thread has nobody to wait for.
void futex_wait(Futex *word, uint32_t expected)
{
    (void)word;
    (void)expected;
}
void futex_wake(Futex *word) { (void)word; }

#endif
