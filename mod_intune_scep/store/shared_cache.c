/* SPDX-License-Identifier: Apache-2.0 */
#include "store/shared_cache.h"

#include "base/clock.h"
#include "base/secret.h"
#include "base/text.h"

#include <apr_strings.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>

/*
 * A record: "ISC2", its kind, the times when it was stored and when it expires (8 bytes each), the length of what follows
 * (4 bytes), all big-endian, then the value or the lease's owner. A provider may hand back anything (another version's
 * records, cut ones): what does not fit is not there.
 */
enum {
    MAGIC_BYTES = 4,
    KIND_AT = MAGIC_BYTES,
    STORED_AT = KIND_AT + 1,
    EXPIRES_AT = STORED_AT + 8,
    LENGTH_AT = EXPIRES_AT + 8,
    HEADER_BYTES = LENGTH_AT + 4,
    RECORD_MAX = SHARED_CACHE_RECORD_MAX,
    OWNER_RANDOM_BYTES = 16
};

_Static_assert(HEADER_BYTES + SHARED_CACHE_VALUE_MAX == SHARED_CACHE_RECORD_MAX, "a record is a header and a value");

typedef enum kind_t { KIND_VALUE = 'V', KIND_LEASE = 'L' } kind_t;

typedef struct cache_id_t {
    unsigned char bytes[EVP_MAX_MD_SIZE];
} cache_id_t;

/* Room for one record; what was in it may be a token, so it is cleansed after use. */
typedef struct record_t {
    unsigned char bytes[RECORD_MAX];
    unsigned int size;
} record_t;

typedef struct shared_t {
    const cache_provider_t *provider;
    EVP_MD *digest; /* looked up once: every key is hashed */
} shared_t;

static const unsigned char magic[MAGIC_BYTES] = {'I', 'S', 'C', '2'};

/* How far another machine's clock may be ahead. */
static const apr_interval_time_t clock_slack = apr_time_from_sec(60);

static const cache_provider_t *provider_of(const cache_t *cache)
{
    const shared_t *shared = cache->baton;

    return shared->provider;
}

static void put_number(unsigned char *at, apr_uint64_t number, int bytes)
{
    while (bytes-- > 0) {
        at[bytes] = (unsigned char)number;
        number >>= 8;
    }
}

static apr_uint64_t get_number(const unsigned char *at, int bytes)
{
    apr_uint64_t number = 0;
    int i;

    for (i = 0; i < bytes; i++)
        number = number << 8 | at[i];
    return number;
}

/*
 * httpd's shmcb appends every store, the next lease as well as the next value, to a ring that the low bits of an id's first
 * byte choose, and what falls out of the ring is lost. Leases come and go by the hundred: they have rings of their own, so
 * that they push out neither a token nor the breaker's state.
 */
static apr_status_t make_id(cache_id_t *id, const cache_t *cache, kind_t kind, const char *key)
{
    const shared_t *shared = cache->baton;
    EVP_MD_CTX *digest = EVP_MD_CTX_new();
    unsigned char first = (unsigned char)kind;
    apr_status_t rv = APR_EGENERAL;

    if (digest && EVP_DigestInit_ex2(digest, shared->digest, NULL) == 1 && EVP_DigestUpdate(digest, &first, 1) == 1 &&
        EVP_DigestUpdate(digest, key, strlen(key)) == 1 && EVP_DigestFinal_ex(digest, id->bytes, NULL) == 1)
        rv = APR_SUCCESS;
    EVP_MD_CTX_free(digest);
    if (rv != APR_SUCCESS)
        return rv;
    id->bytes[0] = (unsigned char)((id->bytes[0] & 0xfe) | (kind == KIND_LEASE));
    return APR_SUCCESS;
}

static void record_build(record_t *record, kind_t kind, bytes_t value, apr_time_t expires)
{
    memcpy(record->bytes, magic, MAGIC_BYTES);
    record->bytes[KIND_AT] = (unsigned char)kind;
    put_number(record->bytes + STORED_AT, (apr_uint64_t)clock_now(), 8);
    put_number(record->bytes + EXPIRES_AT, (apr_uint64_t)expires, 8);
    put_number(record->bytes + LENGTH_AT, value.len, 4);
    if (value.len > 0)
        memcpy(record->bytes + HEADER_BYTES, value.data, value.len);
    record->size = HEADER_BYTES + (unsigned int)value.len;
}

/*
 * A clock that was set back must not keep a lease or a failure for as long: what was stored in the future is gone, but for
 * its own life and a minute at most.
 */
static bool is_present(const record_t *record)
{
    apr_time_t stored = (apr_time_t)get_number(record->bytes + STORED_AT, 8);
    apr_time_t expires = (apr_time_t)get_number(record->bytes + EXPIRES_AT, 8);
    apr_time_t now = clock_now();

    if (expires <= now)
        return false;
    return stored <= now || (stored - now <= clock_slack && stored - now <= expires - stored);
}

static bool record_parse(const record_t *record, kind_t kind, bytes_t *value)
{
    if (record->size < HEADER_BYTES || record->size > RECORD_MAX || memcmp(record->bytes, magic, MAGIC_BYTES) != 0 ||
        record->bytes[KIND_AT] != (unsigned char)kind ||
        get_number(record->bytes + LENGTH_AT, 4) != record->size - HEADER_BYTES)
        return false;
    if (!is_present(record))
        return false;
    value->data = record->bytes + HEADER_BYTES;
    value->len = record->size - HEADER_BYTES;
    return true;
}

/* Gives APR_NOTFOUND also for a record that is broken, of another kind or expired. `value` points into `record`. */
static apr_status_t record_retrieve(const cache_provider_t *provider, const cache_id_t *id, kind_t kind,
                                    record_t *record, bytes_t *value, apr_pool_t *pool)
{
    apr_status_t rv;

    record->size = RECORD_MAX;
    rv = provider->retrieve(provider->baton, id->bytes, record->bytes, &record->size, pool);
    if (rv != APR_SUCCESS) {
        if (APR_STATUS_IS_NOTFOUND(rv))
            record->size = 0;
        return rv;
    }
    return record_parse(record, kind, value) ? APR_SUCCESS : APR_NOTFOUND;
}

apr_status_t shared_cache_look(cache_t *cache, const char *key, bytes_t *value, apr_time_t *expires, apr_pool_t *pool)
{
    const cache_provider_t *provider = provider_of(cache);
    bytes_t found = {NULL, 0};
    record_t record;
    cache_id_t id;
    apr_status_t rv;

    if ((rv = make_id(&id, cache, KIND_VALUE, key)) != APR_SUCCESS ||
        (rv = provider->lock(provider->baton)) != APR_SUCCESS)
        return rv;
    rv = record_retrieve(provider, &id, KIND_VALUE, &record, &found, pool);
    provider->unlock(provider->baton);
    if (rv == APR_SUCCESS) {
        /* It may be a token: as a secret the copy is cleansed with the pool. */
        const secret_t *copy = secret_make(pool, (const char *)found.data, found.len);

        value->data = (const unsigned char *)secret_reveal(copy);
        value->len = found.len;
        *expires = (apr_time_t)get_number(record.bytes + EXPIRES_AT, 8);
    }
    /* Most records are far smaller than the room for them, and most looks find none. */
    OPENSSL_cleanse(record.bytes, record.size < RECORD_MAX ? record.size : RECORD_MAX);
    return rv;
}

static apr_status_t cache_get(cache_t *cache, const char *key, bytes_t *value, apr_pool_t *pool)
{
    apr_time_t expires = 0;

    return shared_cache_look(cache, key, value, &expires, pool);
}

static apr_status_t cache_get_shared(cache_t *cache, const char *key, bytes_t *value, const log_t *log,
                                     apr_pool_t *pool)
{
    (void)log;
    return cache_get(cache, key, value, pool);
}

static apr_status_t cache_put(cache_t *cache, const char *key, bytes_t value, apr_time_t expires)
{
    const cache_provider_t *provider = provider_of(cache);
    apr_pool_t *scratch = NULL;
    record_t record;
    cache_id_t id;
    apr_status_t rv;

    if (value.len > SHARED_CACHE_VALUE_MAX)
        return APR_ENOSPC;
    if ((rv = make_id(&id, cache, KIND_VALUE, key)) != APR_SUCCESS ||
        (rv = apr_pool_create(&scratch, NULL)) != APR_SUCCESS)
        return rv;
    record_build(&record, KIND_VALUE, value, expires);
    if ((rv = provider->lock(provider->baton)) == APR_SUCCESS) {
        rv = provider->store(provider->baton, id.bytes, record.bytes, record.size, expires, scratch);
        provider->unlock(provider->baton);
    }
    OPENSSL_cleanse(record.bytes, record.size);
    apr_pool_destroy(scratch);
    return rv;
}

static apr_status_t cache_put_shared(cache_t *cache, const char *key, bytes_t value, apr_time_t expires,
                                     const log_t *log)
{
    (void)log;
    return cache_put(cache, key, value, expires);
}

/* Removes the record if it holds exactly `value`; APR_NOTFOUND where it does not. */
static apr_status_t remove_if(cache_t *cache, kind_t kind, const char *key, bytes_t value)
{
    const cache_provider_t *provider = provider_of(cache);
    apr_pool_t *scratch = NULL;
    bytes_t found = {NULL, 0};
    record_t record;
    cache_id_t id;
    apr_status_t rv;

    if ((rv = make_id(&id, cache, kind, key)) != APR_SUCCESS ||
        (rv = apr_pool_create(&scratch, NULL)) != APR_SUCCESS)
        return rv;
    if ((rv = provider->lock(provider->baton)) == APR_SUCCESS) {
        rv = record_retrieve(provider, &id, kind, &record, &found, scratch);
        if (rv == APR_SUCCESS)
            rv = bytes_equal(found, value) ? provider->remove(provider->baton, id.bytes, scratch) : APR_NOTFOUND;
        provider->unlock(provider->baton);
        OPENSSL_cleanse(record.bytes, sizeof(record.bytes));
    }
    apr_pool_destroy(scratch);
    return rv;
}

static apr_status_t cache_drop(cache_t *cache, const char *key, bytes_t value)
{
    return remove_if(cache, KIND_VALUE, key, value);
}

static apr_status_t cache_replace(cache_t *cache, const char *key, bytes_t old, bytes_t value, apr_time_t expires)
{
    const cache_provider_t *provider = provider_of(cache);
    apr_pool_t *scratch = NULL;
    bytes_t found = {NULL, 0};
    record_t record;
    cache_id_t id;
    apr_status_t rv;

    if (value.len > SHARED_CACHE_VALUE_MAX)
        return APR_ENOSPC;
    if ((rv = make_id(&id, cache, KIND_VALUE, key)) != APR_SUCCESS ||
        (rv = apr_pool_create(&scratch, NULL)) != APR_SUCCESS)
        return rv;
    if ((rv = provider->lock(provider->baton)) == APR_SUCCESS) {
        rv = record_retrieve(provider, &id, KIND_VALUE, &record, &found, scratch);
        if (rv == APR_SUCCESS && !bytes_equal(found, old))
            rv = APR_NOTFOUND;
        if (rv == APR_SUCCESS) {
            record_build(&record, KIND_VALUE, value, expires);
            rv = provider->store(provider->baton, id.bytes, record.bytes, record.size, expires, scratch);
        }
        provider->unlock(provider->baton);
        OPENSSL_cleanse(record.bytes, sizeof(record.bytes));
    }
    apr_pool_destroy(scratch);
    return rv;
}

static apr_status_t cache_claim(cache_t *cache, const char *lease, apr_time_t until, const char **owner,
                                apr_pool_t *pool)
{
    const cache_provider_t *provider = provider_of(cache);
    const char *mine = text_random_hex(pool, OWNER_RANDOM_BYTES);
    bytes_t found = {NULL, 0};
    record_t record;
    cache_id_t id;
    apr_status_t rv;

    if (!mine)
        return APR_EGENERAL;
    if ((rv = make_id(&id, cache, KIND_LEASE, lease)) != APR_SUCCESS ||
        (rv = provider->lock(provider->baton)) != APR_SUCCESS)
        return rv;
    rv = record_retrieve(provider, &id, KIND_LEASE, &record, &found, pool);
    if (rv == APR_SUCCESS && found.len == 2 * OWNER_RANDOM_BYTES) {
        rv = APR_EBUSY;
    } else if (rv == APR_SUCCESS || APR_STATUS_IS_NOTFOUND(rv)) {
        record_build(&record, KIND_LEASE, bytes_of_text(mine), until);
        rv = provider->store(provider->baton, id.bytes, record.bytes, record.size, until, pool);
    }
    provider->unlock(provider->baton);
    if (rv == APR_SUCCESS)
        *owner = mine;
    return rv;
}

static apr_status_t cache_release(cache_t *cache, const char *lease, const char *owner)
{
    return remove_if(cache, KIND_LEASE, lease, bytes_of_text(owner));
}

static apr_status_t shared_free(void *data)
{
    shared_t *shared = data;

    EVP_MD_free(shared->digest);
    return APR_SUCCESS;
}

cache_t *shared_cache_make(const cache_provider_t *provider, apr_pool_t *pool)
{
    cache_t *cache = apr_pcalloc(pool, sizeof(*cache));
    shared_t *shared = apr_pcalloc(pool, sizeof(*shared));

    shared->provider = apr_pmemdup(pool, provider, sizeof(*provider));
    shared->digest = EVP_MD_fetch(NULL, "SHA256", NULL);
    apr_pool_cleanup_register(pool, shared, shared_free, apr_pool_cleanup_null);

    cache->get = cache_get;
    cache->get_shared = cache_get_shared;
    cache->put = cache_put;
    cache->put_shared = cache_put_shared;
    cache->replace = cache_replace;
    cache->drop = cache_drop;
    cache->claim = cache_claim;
    cache->release = cache_release;
    cache->baton = shared;
    return cache;
}
