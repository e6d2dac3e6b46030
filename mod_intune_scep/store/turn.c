/* SPDX-License-Identifier: Apache-2.0 */
#include "store/turn.h"

#include "base/clock.h"

#include <errno.h>
#include <pthread.h>
#include <sys/mman.h>

struct turn_t {
    pthread_mutex_t mutex;
};

static bool mutex_make(pthread_mutex_t *mutex)
{
    pthread_mutexattr_t shared;
    if (pthread_mutexattr_init(&shared)) {
        return false;
    }
    bool made = !pthread_mutexattr_setpshared(&shared, PTHREAD_PROCESS_SHARED) &&
                !pthread_mutexattr_setrobust(&shared, PTHREAD_MUTEX_ROBUST) && !pthread_mutex_init(mutex, &shared);
    pthread_mutexattr_destroy(&shared);
    return made;
}

turn_t *turn_make(void)
{
    /* Linux looks at no file here, whatever its number. */
    turn_t *turn = mmap(NULL, sizeof(*turn), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, 0, 0);
    if (turn == MAP_FAILED) {
        return NULL;
    }
    if (!mutex_make(&turn->mutex)) {
        munmap(turn, sizeof(*turn));
        return NULL;
    }
    return turn;
}

static int lock_within(pthread_mutex_t *mutex, apr_interval_time_t limit)
{
    int rv = pthread_mutex_trylock(mutex);
    if (rv != EBUSY) {
        return rv;
    }
    /* By the wall clock, for want of another: one that is set back makes only those wait longer whose holder stands still. */
    struct timespec end = clock_after(CLOCK_REALTIME, limit);
    return pthread_mutex_timedlock(mutex, &end);
}

bool turn_take(turn_t *turn, apr_interval_time_t limit)
{
    if (!turn) {
        return false;
    }
    int rv = lock_within(&turn->mutex, limit);
    /* Nothing is guarded that a holder could have left half done. */
    if (rv == EOWNERDEAD) {
        rv = pthread_mutex_consistent(&turn->mutex);
    }
    return !rv;
}

void turn_give(turn_t *turn)
{
    pthread_mutex_unlock(&turn->mutex);
}
