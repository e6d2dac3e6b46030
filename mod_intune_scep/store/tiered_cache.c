/* SPDX-License-Identifier: Apache-2.0 */
#include "store/tiered_cache.h"

#include "base/clock.h"

#include <apr_strings.h>
#include <openssl/evp.h>

#define REST apr_time_from_sec(10)
#define LOG_PAUSE apr_time_from_sec(60)
#define DROPPED_LIFE apr_time_from_sec(24 * 3600)

/* Remarks in the first tier. */
#define NOTE_REST "outside rests"
#define NOTE_DOWN_TOLD "outside down told"
#define NOTE_KEY_TOLD "outside key told"

enum { DIGEST_BYTES = 32 };

typedef struct tiers_t {
    cache_t *local;
    cache_t *remote;
    const cache_provider_t *sealed;
} tiers_t;

static void note_put(const tiers_t *tiers, const char *note, apr_interval_time_t life)
{
    tiers->local->put(tiers->local, note, bytes_of_text("1"), clock_now() + life);
}

/* A first tier that does not work cannot say how the second is: then it is as if there were none. */
static bool note_absent(const tiers_t *tiers, const char *note, apr_pool_t *pool)
{
    bytes_t value = {NULL, 0};

    return APR_STATUS_IS_NOTFOUND(tiers->local->get(tiers->local, note, &value, pool));
}

static void failure_tell(const tiers_t *tiers, apr_status_t rv, const log_t *log, apr_pool_t *pool)
{
    char text[128];

    note_put(tiers, NOTE_REST, REST);
    if (!note_absent(tiers, NOTE_DOWN_TOLD, pool))
        return;
    note_put(tiers, NOTE_DOWN_TOLD, LOG_PAUSE);
    log_write(log, MSG_OUTSIDE_DOWN,
              "the cache that is shared with other machines failed (%s): this machine gets its tokens itself, and asks "
              "there again after %d s; see IntuneScepSharedCache",
              APR_STATUS_IS_TIMEUP(rv) ? "no answer in time" : apr_strerror(rv, text, sizeof(text)),
              (int)apr_time_sec(REST));
}

static void key_tell(const tiers_t *tiers, const char *found, const log_t *log, apr_pool_t *pool)
{
    if (!note_absent(tiers, NOTE_KEY_TOLD, pool))
        return;
    note_put(tiers, NOTE_KEY_TOLD, LOG_PAUSE);
    log_write(log, MSG_OUTSIDE_KEY,
              "the cache that is shared with other machines %s: it is not used; IntuneScepStateKey must be the same on "
              "all machines",
              found);
}

static bool digest_make(bytes_t value, unsigned char *digest)
{
    size_t len = 0;

    return EVP_Q_digest(NULL, "SHA256", NULL, value.data, value.len, digest, &len) == 1 && len == DIGEST_BYTES;
}

static const char *dropped_key(const char *key, apr_pool_t *pool)
{
    return apr_pstrcat(pool, "dropped ", key, NULL);
}

/* Whether it is the value that was dropped here last. */
static bool was_dropped(const tiers_t *tiers, const char *key, bytes_t value, apr_pool_t *pool)
{
    unsigned char digest[DIGEST_BYTES];
    bytes_t own = {digest, sizeof(digest)}, found = {NULL, 0};

    return digest_make(value, digest) &&
           tiers->local->get(tiers->local, dropped_key(key, pool), &found, pool) == APR_SUCCESS &&
           bytes_equal(own, found);
}

/* What others have put there; all that may go wrong is told here. */
static bool outside_look(const tiers_t *tiers, const char *key, bytes_t *value, apr_time_t *expires, const log_t *log,
                         apr_pool_t *pool)
{
    apr_status_t rv = shared_cache_look(tiers->remote, key, value, expires, pool);

    if (rv == APR_SUCCESS)
        return !was_dropped(tiers, key, *value, pool);
    if (rv == SEALED_BROKEN) {
        key_tell(tiers, "holds a value that was altered or sealed with another key", log, pool);
        return false;
    }
    if (APR_STATUS_IS_NOTFOUND(rv)) {
        rv = sealed_provider_check(tiers->sealed, pool);
        if (rv == SEALED_BROKEN) {
            key_tell(tiers, "is used by machines with another key", log, pool);
            return false;
        }
    }
    if (rv != APR_SUCCESS)
        failure_tell(tiers, rv, log, pool);
    return false;
}

static apr_status_t tiered_get_shared(cache_t *cache, const char *key, bytes_t *value, const log_t *log,
                                      apr_pool_t *pool)
{
    const tiers_t *tiers = cache->baton;
    bytes_t theirs = {NULL, 0};
    apr_time_t expires = 0, their_expires = 0;
    apr_status_t rv = shared_cache_look(tiers->local, key, value, &expires, pool);

    if (rv != APR_SUCCESS && !APR_STATUS_IS_NOTFOUND(rv))
        return rv;
    if (!note_absent(tiers, NOTE_REST, pool) || !outside_look(tiers, key, &theirs, &their_expires, log, pool))
        return rv;
    if (rv == APR_SUCCESS && their_expires <= expires)
        return rv;
    tiers->local->put(tiers->local, key, theirs, their_expires);
    *value = theirs;
    return APR_SUCCESS;
}

static apr_status_t tiered_put_shared(cache_t *cache, const char *key, bytes_t value, apr_time_t expires,
                                      const log_t *log)
{
    const tiers_t *tiers = cache->baton;
    apr_status_t rv = tiers->local->put(tiers->local, key, value, expires), outside;
    apr_pool_t *scratch = NULL;

    if (apr_pool_create(&scratch, NULL) != APR_SUCCESS)
        return rv;
    if (note_absent(tiers, NOTE_REST, scratch)) {
        outside = tiers->remote->put(tiers->remote, key, value, expires);
        if (outside != APR_SUCCESS)
            failure_tell(tiers, outside, log, scratch);
    }
    apr_pool_destroy(scratch);
    return rv;
}

static apr_status_t tiered_drop(cache_t *cache, const char *key, bytes_t value)
{
    const tiers_t *tiers = cache->baton;
    unsigned char digest[DIGEST_BYTES];
    bytes_t remark = {digest, sizeof(digest)};
    apr_pool_t *scratch = NULL;
    apr_status_t rv = apr_pool_create(&scratch, NULL);

    if (rv != APR_SUCCESS)
        return rv;
    /* The remark is there before anybody misses the value: he must not get it from outside. */
    if (digest_make(value, digest))
        tiers->local->put(tiers->local, dropped_key(key, scratch), remark, clock_now() + DROPPED_LIFE);
    rv = tiers->local->drop(tiers->local, key, value);
    /* Without a lock out there, a newer value of another machine may go with it: that costs it one fetch. */
    if (rv == APR_SUCCESS && note_absent(tiers, NOTE_REST, scratch))
        tiers->remote->drop(tiers->remote, key, value);
    apr_pool_destroy(scratch);
    return rv;
}

static apr_status_t tiered_get(cache_t *cache, const char *key, bytes_t *value, apr_pool_t *pool)
{
    const tiers_t *tiers = cache->baton;

    return tiers->local->get(tiers->local, key, value, pool);
}

static apr_status_t tiered_put(cache_t *cache, const char *key, bytes_t value, apr_time_t expires)
{
    const tiers_t *tiers = cache->baton;

    return tiers->local->put(tiers->local, key, value, expires);
}

static apr_status_t tiered_replace(cache_t *cache, const char *key, bytes_t old, bytes_t value, apr_time_t expires)
{
    const tiers_t *tiers = cache->baton;

    return tiers->local->replace(tiers->local, key, old, value, expires);
}

static apr_status_t tiered_claim(cache_t *cache, const char *lease, apr_time_t until, const char **owner,
                                 apr_pool_t *pool)
{
    const tiers_t *tiers = cache->baton;

    return tiers->local->claim(tiers->local, lease, until, owner, pool);
}

static apr_status_t tiered_release(cache_t *cache, const char *lease, const char *owner)
{
    const tiers_t *tiers = cache->baton;

    return tiers->local->release(tiers->local, lease, owner);
}

cache_t *tiered_cache_make(cache_t *local, const cache_provider_t *sealed, apr_pool_t *pool)
{
    cache_t *cache = apr_pcalloc(pool, sizeof(*cache));
    tiers_t *tiers = apr_pcalloc(pool, sizeof(*tiers));

    tiers->local = local;
    tiers->remote = shared_cache_make(sealed, pool);
    tiers->sealed = sealed;
    cache->get = tiered_get;
    cache->get_shared = tiered_get_shared;
    cache->put = tiered_put;
    cache->put_shared = tiered_put_shared;
    cache->replace = tiered_replace;
    cache->drop = tiered_drop;
    cache->claim = tiered_claim;
    cache->release = tiered_release;
    cache->baton = tiers;
    return cache;
}
