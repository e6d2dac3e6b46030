/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the core asks of the cache that all worker processes share. It is an interface: store/shared_cache.h implements
 * it over any key-value provider. Values may vanish at any time; nothing here is a truth.
 *
 * It may have a second tier, outside the machine (store/tiered_cache.h), which only the calls named `_shared` and
 * drop() know: they are for what other machines can use, and may take as long as a call over the network that is given
 * up soon.
 */
#ifndef ISCEP_BASE_CACHE_H
#define ISCEP_BASE_CACHE_H

#include "bytes.h"
#include "log.h"

#include <apr_errno.h>
#include <apr_pools.h>
#include <apr_time.h>

typedef struct cache_t cache_t;

/**
 * All calls may come from any thread of any process; where nothing else is said, none blocks for longer than a memory
 * copy. Keys are texts.
 */
struct cache_t {
    /** Copies the value into `pool`. APR_NOTFOUND where there is none or it has expired. */
    apr_status_t (*get)(cache_t *cache, const char *key, bytes_t *value, apr_pool_t *pool);
    /**
     * The same, but other machines are asked too, even where there is a value here: of two values the one that expires
     * later is given, and kept here. For the holder of a lease. What goes wrong outside counts as "nothing there" and
     * is logged once in a while.
     */
    apr_status_t (*get_shared)(cache_t *cache, const char *key, bytes_t *value, const log_t *log, apr_pool_t *pool);
    /** Stores a value until `expires` (absolute). */
    apr_status_t (*put)(cache_t *cache, const char *key, bytes_t value, apr_time_t expires);
    /** The same, for other machines too. The result is this machine's. */
    apr_status_t (*put_shared)(cache_t *cache, const char *key, bytes_t value, apr_time_t expires, const log_t *log);
    /**
     * Stores `value` in place of `old`, without a moment in which there is neither; APR_NOTFOUND where something else, or
     * nothing, is there by now. Other machines do not hear of it.
     */
    apr_status_t (*replace)(cache_t *cache, const char *key, bytes_t old, bytes_t value, apr_time_t expires);
    /**
     * Removes the value if it still equals `value`: a newer one of somebody else's stays. The one caller that has
     * removed it here removes it outside as well; get_shared() does not bring it back.
     */
    apr_status_t (*drop)(cache_t *cache, const char *key, bytes_t value);
    /**
     * Takes the lease of that name until `until`. APR_EBUSY while somebody else's is running. An expired lease is taken
     * over. The lease shares no name with a value. `owner` is set to a random text that release() wants back.
     */
    apr_status_t (*claim)(cache_t *cache, const char *lease, apr_time_t until, const char **owner, apr_pool_t *pool);
    /** Gives the lease back, if it is still the owner's. */
    apr_status_t (*release)(cache_t *cache, const char *lease, const char *owner);
    void *baton;
};

#endif
