/* SPDX-License-Identifier: Apache-2.0 */
/* base/cache.h over any key-value provider that all worker processes share. */
#ifndef ISCEP_STORE_SHARED_CACHE_H
#define ISCEP_STORE_SHARED_CACHE_H

#include "base/cache.h"

/**
 * A provider: httpd's socache in the module, a table in memory in tests. Ids are 32 bytes, well mixed. retrieve()
 * copies at most *length bytes to `value` and sets *length; APR_NOTFOUND without, and then it has copied nothing.
 * lock() and unlock() exclude all processes; calls between them are short. A provider outside the machine excludes
 * nobody: its lock() does nothing.
 */
typedef struct cache_provider_t {
    apr_status_t (*retrieve)(void *baton, const unsigned char *id, unsigned char *value, unsigned int *length,
                             apr_pool_t *pool);
    apr_status_t (*store)(void *baton, const unsigned char *id, const unsigned char *value, unsigned int length,
                          apr_time_t expires, apr_pool_t *pool);
    apr_status_t (*remove)(void *baton, const unsigned char *id, apr_pool_t *pool);
    apr_status_t (*lock)(void *baton);
    void (*unlock)(void *baton);
    void *baton;
} cache_provider_t;

/** The largest value; a longer one is not kept (APR_ENOSPC). A provider's records are a little longer. */
enum { CACHE_ID_BYTES = 32, SHARED_CACHE_VALUE_MAX = 8192, SHARED_CACHE_RECORD_MAX = SHARED_CACHE_VALUE_MAX + 25 };

/**
 * Makes the interface, of one tier: get_shared() and put_shared() are get() and put(). Keys are hashed (SHA-256)
 * together with their kind, so that a lease and a value never meet; an OpenSSL that has no SHA-256 at this moment makes
 * a cache that keeps nothing.
 */
cache_t *shared_cache_make(const cache_provider_t *provider, apr_pool_t *pool);

/** get() of a cache of shared_cache_make(), with the time at which the value expires. */
apr_status_t shared_cache_look(cache_t *cache, const char *key, bytes_t *value, apr_time_t *expires, apr_pool_t *pool);

/** A provider in this process's memory, with a mutex: for tests and for command-line tools. */
apr_status_t memory_provider_make(cache_provider_t **provider, apr_pool_t *pool);

#endif
