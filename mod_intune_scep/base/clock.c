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
