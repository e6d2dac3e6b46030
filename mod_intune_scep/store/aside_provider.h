/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A provider over a network, whose calls may take for ever (apr_memcache reads without a limit of time, a name may not
 * resolve): they are made in a thread of their own, aside, and whoever waits for them loses patience.
 */
#ifndef ISCEP_STORE_ASIDE_PROVIDER_H
#define ISCEP_STORE_ASIDE_PROVIDER_H

#include "store/shared_cache.h"

/** The longest value that a call can carry. */
enum { ASIDE_VALUE_MAX = 16384 };

/**
 * Makes a provider over `outside`. A call that takes longer than `patience` gives APR_TIMEUP; while it is still
 * running, all others give it at once. lock() and unlock() do nothing.
 *
 * May be made before a fork: each process starts its thread with its first call.
 */
apr_status_t aside_provider_make(cache_provider_t **provider, const cache_provider_t *outside,
                                 apr_interval_time_t patience, apr_pool_t *pool);

/**
 * For a process that ends, before `pool` and what `outside` needs go: later calls fail. Waits for the thread, but no
 * longer than twice the patience; a thread that hangs stays, and nothing may be unloaded under it but by the process's
 * end.
 */
void aside_provider_stop(const cache_provider_t *provider);

#endif
