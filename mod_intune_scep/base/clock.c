/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"

#include <stdatomic.h>

static _Atomic apr_interval_time_t shift;

apr_time_t clock_now(void)
{
    return apr_time_now() + atomic_load_explicit(&shift, memory_order_relaxed);
}

void clock_shift(apr_interval_time_t offset)
{
    atomic_store_explicit(&shift, offset, memory_order_relaxed);
}

struct timespec clock_after(clockid_t clock, apr_interval_time_t interval)
{
    struct timespec time = {0};
    clock_gettime(clock, &time);
    long nanoseconds = time.tv_nsec + (long)apr_time_usec(interval) * 1000;
    time.tv_sec += (time_t)apr_time_sec(interval) + nanoseconds / 1000000000;
    time.tv_nsec = nanoseconds % 1000000000;
    return time;
}
