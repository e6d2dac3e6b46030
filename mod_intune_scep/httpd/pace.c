/* SPDX-License-Identifier: Apache-2.0 */
/* The rate of the background's reports: one shared word, the time of the next free place, moved on by whoever takes it. */
#include "module.h"

#include <apr_shm.h>
#include <stdatomic.h>

APLOG_USE_MODULE(intune_scep);

static const apr_interval_time_t FAR = APR_USEC_PER_SEC;

/* It lies in memory that several processes map, which a lock-free word allows. */
_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "64-bit atomics are lock-free");
static _Atomic long long *next_place;
static apr_interval_time_t distance;

apr_status_t pace_start(int per_second, server_rec *server, apr_pool_t *pconf)
{
    apr_shm_t *memory = NULL;
    apr_status_t rv = apr_shm_create(&memory, sizeof(*next_place), NULL, pconf);
    if (rv) {
        ap_log_error(APLOG_MARK, APLOG_EMERG, rv, server, "ISCEP0543: no shared memory for IntuneScepReportRate");
        return rv;
    }
    next_place = apr_shm_baseaddr_get(memory);
    atomic_init(next_place, 0);
    distance = APR_USEC_PER_SEC / per_second;
    return APR_SUCCESS;
}

apr_interval_time_t pace_take(void)
{
    long long now = apr_time_now();
    long long next = atomic_load(next_place);
    for (;;) {
        /* A clock that was set back must not stop the reports for as long. */
        long long place = next > now && next - now < 10 * FAR ? next : now;
        if (place - now > FAR) {
            return -1;
        }
        if (atomic_compare_exchange_weak(next_place, &next, place + distance)) {
            return place - now;
        }
    }
}
