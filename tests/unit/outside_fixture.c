/* SPDX-License-Identifier: Apache-2.0 */
#include "outside_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <apr_strings.h>

static outside_entry_t *find(outside_t *outside, const unsigned char *id)
{
    int i;

    for (i = 0; i < OUTSIDE_MAX; i++) {
        if (outside->entries[i].length > 0 && memcmp(outside->entries[i].id, id, CACHE_ID_BYTES) == 0)
            return &outside->entries[i];
    }
    return NULL;
}

static apr_status_t enter(outside_t *outside)
{
    atomic_fetch_add(&outside->calls, 1);
    atomic_fetch_add(&outside->inside, 1);
    while (atomic_load(&outside->hang))
        apr_sleep(1000);
    atomic_fetch_sub(&outside->inside, 1);
    return outside->rv;
}

static apr_status_t outside_retrieve(void *baton, const unsigned char *id, unsigned char *value, unsigned int *length,
                                     apr_pool_t *pool)
{
    outside_t *outside = baton;
    outside_entry_t *entry;
    apr_status_t rv = enter(outside);

    (void)pool;
    if (rv != APR_SUCCESS)
        return rv;
    if (!(entry = find(outside, id)))
        return APR_NOTFOUND;
    if (*length > entry->length)
        *length = entry->length;
    memcpy(value, entry->value, *length);
    return APR_SUCCESS;
}

static apr_status_t outside_store(void *baton, const unsigned char *id, const unsigned char *value, unsigned int length,
                                  apr_time_t expires, apr_pool_t *pool)
{
    outside_t *outside = baton;
    outside_entry_t *entry = find(outside, id);
    apr_status_t rv = enter(outside);
    int i;

    (void)pool;
    if (rv != APR_SUCCESS)
        return rv;
    for (i = 0; !entry && i < OUTSIDE_MAX; i++)
        entry = outside->entries[i].length == 0 ? &outside->entries[i] : NULL;
    assert_non_null(entry);
    assert_in_range(length, 1, OUTSIDE_VALUE_MAX);
    memcpy(entry->id, id, CACHE_ID_BYTES);
    memcpy(entry->value, value, length);
    entry->length = length;
    entry->expires = expires;
    return APR_SUCCESS;
}

static apr_status_t outside_remove(void *baton, const unsigned char *id, apr_pool_t *pool)
{
    outside_t *outside = baton;
    outside_entry_t *entry = find(outside, id);
    apr_status_t rv = enter(outside);

    (void)pool;
    if (rv == APR_SUCCESS && entry)
        entry->length = 0;
    return rv != APR_SUCCESS ? rv : entry ? APR_SUCCESS : APR_NOTFOUND;
}

static apr_status_t outside_lock(void *baton)
{
    (void)baton;
    return APR_SUCCESS;
}

static void outside_unlock(void *baton)
{
    (void)baton;
}

outside_t *outside_make(apr_pool_t *pool)
{
    outside_t *outside = apr_pcalloc(pool, sizeof(*outside));

    outside->provider.retrieve = outside_retrieve;
    outside->provider.store = outside_store;
    outside->provider.remove = outside_remove;
    outside->provider.lock = outside_lock;
    outside->provider.unlock = outside_unlock;
    outside->provider.baton = outside;
    return outside;
}

int outside_count(const outside_t *outside)
{
    int i, count = 0;

    for (i = 0; i < OUTSIDE_MAX; i++)
        count += outside->entries[i].length > 0;
    return count;
}

outside_entry_t *outside_entry(outside_t *outside, int n)
{
    int i;

    for (i = 0; i < OUTSIDE_MAX; i++) {
        if (outside->entries[i].length > 0 && n-- == 0)
            return &outside->entries[i];
    }
    fail_msg("there is no such entry");
    return NULL;
}

bool outside_holds(const outside_t *outside, const char *bytes)
{
    const char *all = (const char *)outside->entries;
    apr_size_t i, len = strlen(bytes);

    for (i = 0; i + len <= sizeof(outside->entries); i++) {
        if (memcmp(all + i, bytes, len) == 0)
            return true;
    }
    return false;
}

state_key_t *outside_key(char letter, apr_pool_t *pool)
{
    char *text = apr_pcalloc(pool, STATE_KEY_MIN + 1);
    const char *message = NULL;
    state_key_t *key = NULL;

    memset(text, letter, STATE_KEY_MIN);
    assert_int_equal(state_key_from_source(&key, text, pool, &message), APR_SUCCESS);
    return key;
}
