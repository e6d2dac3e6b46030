/* SPDX-License-Identifier: Apache-2.0 */
#include "store/shared_cache.h"

#include "base/clock.h"

#include <apr_hash.h>
#include <apr_thread_mutex.h>
#include <openssl/crypto.h>

enum { ID_BYTES = 32, ENTRIES_MAX = 4096 };

typedef struct entry_t {
    unsigned char id[ID_BYTES];
    apr_time_t expires;
    unsigned int length;
    unsigned char value[];
} entry_t;

/* Entries are on the heap, so a value written over and over does not grow the pool. Tokens in them are cleansed. */
typedef struct memory_t {
    apr_thread_mutex_t *mutex;
    apr_hash_t *entries;
} memory_t;

static void entry_free(entry_t *entry)
{
    if (entry)
        OPENSSL_clear_free(entry, sizeof(*entry) + entry->length);
}

static entry_t *entry_find(memory_t *memory, const unsigned char *id)
{
    return apr_hash_get(memory->entries, id, ID_BYTES);
}

static void entry_remove(memory_t *memory, entry_t *entry)
{
    apr_hash_set(memory->entries, entry->id, ID_BYTES, NULL);
    entry_free(entry);
}

static void sweep(memory_t *memory, apr_time_t now)
{
    apr_hash_index_t *index;
    void *value;

    for (index = apr_hash_first(NULL, memory->entries); index; index = apr_hash_next(index)) {
        apr_hash_this(index, NULL, NULL, &value);
        if (((entry_t *)value)->expires <= now)
            entry_remove(memory, value);
    }
}

static apr_status_t memory_retrieve(void *baton, const unsigned char *id, unsigned char *value, unsigned int *length,
                                    apr_pool_t *pool)
{
    entry_t *entry = entry_find(baton, id);

    (void)pool;
    if (!entry || entry->expires <= clock_now())
        return APR_NOTFOUND;
    if (*length > entry->length)
        *length = entry->length;
    if (*length > 0)
        memcpy(value, entry->value, *length);
    return APR_SUCCESS;
}

static apr_status_t memory_store(void *baton, const unsigned char *id, const unsigned char *value, unsigned int length,
                                 apr_time_t expires, apr_pool_t *pool)
{
    memory_t *memory = baton;
    entry_t *old = entry_find(memory, id), *entry;

    (void)pool;
    if (!old && apr_hash_count(memory->entries) >= ENTRIES_MAX) {
        sweep(memory, clock_now());
        if (apr_hash_count(memory->entries) >= ENTRIES_MAX)
            return APR_ENOSPC;
    }
    entry = OPENSSL_malloc(sizeof(*entry) + length);
    if (!entry)
        return APR_ENOMEM;
    memcpy(entry->id, id, ID_BYTES);
    entry->expires = expires;
    entry->length = length;
    if (length > 0)
        memcpy(entry->value, value, length);
    /* The table keeps the key's address: it must not stay that of the entry which goes. */
    if (old)
        entry_remove(memory, old);
    apr_hash_set(memory->entries, entry->id, ID_BYTES, entry);
    return APR_SUCCESS;
}

static apr_status_t memory_remove(void *baton, const unsigned char *id, apr_pool_t *pool)
{
    entry_t *entry = entry_find(baton, id);

    (void)pool;
    if (!entry)
        return APR_NOTFOUND;
    entry_remove(baton, entry);
    return APR_SUCCESS;
}

static apr_status_t memory_lock(void *baton)
{
    memory_t *memory = baton;

    return apr_thread_mutex_lock(memory->mutex);
}

static void memory_unlock(void *baton)
{
    memory_t *memory = baton;

    apr_thread_mutex_unlock(memory->mutex);
}

static apr_status_t memory_clear(void *baton)
{
    sweep(baton, APR_INT64_MAX);
    return APR_SUCCESS;
}

apr_status_t memory_provider_make(cache_provider_t **provider, apr_pool_t *pool)
{
    memory_t *memory = apr_pcalloc(pool, sizeof(*memory));
    cache_provider_t *made = apr_pcalloc(pool, sizeof(*made));
    apr_status_t rv = apr_thread_mutex_create(&memory->mutex, APR_THREAD_MUTEX_DEFAULT, pool);

    if (rv != APR_SUCCESS)
        return rv;
    memory->entries = apr_hash_make(pool);
    apr_pool_cleanup_register(pool, memory, memory_clear, apr_pool_cleanup_null);
    made->retrieve = memory_retrieve;
    made->store = memory_store;
    made->remove = memory_remove;
    made->lock = memory_lock;
    made->unlock = memory_unlock;
    made->baton = memory;
    *provider = made;
    return APR_SUCCESS;
}
