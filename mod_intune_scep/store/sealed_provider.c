/* SPDX-License-Identifier: Apache-2.0 */
#include "store/sealed_provider.h"

#include "base/clock.h"
#include "base/seal.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

enum { PLAIN_MAX = SHARED_CACHE_RECORD_MAX, SEALED_MAX = PLAIN_MAX + SEAL_OVERHEAD };

static const apr_interval_time_t mark_life = (apr_interval_time_t)24 * 3600 * APR_USEC_PER_SEC;
static const char mark_text[] = "mod_intune_scep mark";

typedef struct sealed_t {
    const cache_provider_t *outside;
    unsigned char value_key[STATE_KEY_DERIVED];
    unsigned char id_key[STATE_KEY_DERIVED];
} sealed_t;

typedef struct outer_t {
    unsigned char id[CACHE_ID_BYTES];
    unsigned char bytes[SEALED_MAX + 1]; /* one more tells that there is too much */
    unsigned int size;
} outer_t;

static apr_status_t id_key(const sealed_t *sealed, const unsigned char *id, unsigned char *keyed)
{
    size_t len = 0;

    if (!EVP_Q_mac(NULL, "HMAC", NULL, "SHA256", NULL, sealed->id_key, sizeof(sealed->id_key), id, CACHE_ID_BYTES,
                   keyed, CACHE_ID_BYTES, &len))
        return APR_EGENERAL;
    return len == CACHE_ID_BYTES ? APR_SUCCESS : APR_EGENERAL;
}

static bytes_t place_of(const outer_t *outer)
{
    bytes_t place = {outer->id, CACHE_ID_BYTES};

    return place;
}

static apr_status_t seal(const sealed_t *sealed, outer_t *outer, const unsigned char *plain, unsigned int length)
{
    bytes_t text = {plain, length};

    outer->size = length + SEAL_OVERHEAD;
    return seal_close(sealed->value_key, place_of(outer), text, outer->bytes);
}

/* `plain` has room for PLAIN_MAX bytes. */
static apr_status_t open_sealed(const sealed_t *sealed, outer_t *outer, unsigned char *plain, unsigned int *length)
{
    bytes_t bytes = {outer->bytes, outer->size};
    apr_size_t len = 0;
    apr_status_t rv =
        outer->size > SEALED_MAX ? SEALED_BROKEN : seal_open(sealed->value_key, place_of(outer), bytes, plain, &len);

    *length = (unsigned int)len;
    return rv;
}

/* Reads what is at outer->id, and opens it. */
static apr_status_t outer_read(const sealed_t *sealed, outer_t *outer, unsigned char *plain, unsigned int *length,
                               apr_pool_t *pool)
{
    const cache_provider_t *outside = sealed->outside;
    apr_status_t rv;

    outer->size = sizeof(outer->bytes);
    rv = outside->retrieve(outside->baton, outer->id, outer->bytes, &outer->size, pool);
    return rv == APR_SUCCESS ? open_sealed(sealed, outer, plain, length) : rv;
}

static apr_status_t outer_write(const sealed_t *sealed, outer_t *outer, const unsigned char *plain, unsigned int length,
                                apr_time_t expires, apr_pool_t *pool)
{
    const cache_provider_t *outside = sealed->outside;
    apr_status_t rv;

    if (length > PLAIN_MAX)
        return APR_ENOSPC;
    if ((rv = seal(sealed, outer, plain, length)) != APR_SUCCESS)
        return rv;
    return outside->store(outside->baton, outer->id, outer->bytes, outer->size, expires, pool);
}

static apr_status_t sealed_retrieve(void *baton, const unsigned char *id, unsigned char *value, unsigned int *length,
                                    apr_pool_t *pool)
{
    unsigned char plain[PLAIN_MAX];
    unsigned int found = 0;
    outer_t outer;
    apr_status_t rv = id_key(baton, id, outer.id);

    if (rv == APR_SUCCESS)
        rv = outer_read(baton, &outer, plain, &found, pool);
    if (rv == APR_SUCCESS) {
        if (*length > found)
            *length = found;
        memcpy(value, plain, *length);
    }
    /* also where it did not authenticate: by then it is decrypted */
    OPENSSL_cleanse(plain, sizeof(plain));
    return rv;
}

static apr_status_t sealed_store(void *baton, const unsigned char *id, const unsigned char *value, unsigned int length,
                                 apr_time_t expires, apr_pool_t *pool)
{
    outer_t outer;
    apr_status_t rv = id_key(baton, id, outer.id);

    return rv == APR_SUCCESS ? outer_write(baton, &outer, value, length, expires, pool) : rv;
}

static apr_status_t sealed_remove(void *baton, const unsigned char *id, apr_pool_t *pool)
{
    const sealed_t *sealed = baton;
    unsigned char keyed[CACHE_ID_BYTES];
    apr_status_t rv = id_key(sealed, id, keyed);

    return rv == APR_SUCCESS ? sealed->outside->remove(sealed->outside->baton, keyed, pool) : rv;
}

static apr_status_t sealed_lock(void *baton)
{
    const sealed_t *sealed = baton;

    return sealed->outside->lock(sealed->outside->baton);
}

static void sealed_unlock(void *baton)
{
    const sealed_t *sealed = baton;

    sealed->outside->unlock(sealed->outside->baton);
}

static apr_status_t sealed_forget(void *data)
{
    sealed_t *sealed = data;

    OPENSSL_cleanse(sealed->value_key, sizeof(sealed->value_key));
    OPENSSL_cleanse(sealed->id_key, sizeof(sealed->id_key));
    return APR_SUCCESS;
}

apr_status_t sealed_provider_make(cache_provider_t **provider, const cache_provider_t *outside, const state_key_t *key,
                                  apr_pool_t *pool)
{
    sealed_t *sealed = apr_pcalloc(pool, sizeof(*sealed));
    cache_provider_t *made = apr_pcalloc(pool, sizeof(*made));
    apr_status_t rv;

    apr_pool_cleanup_register(pool, sealed, sealed_forget, apr_pool_cleanup_null);
    if ((rv = state_key_derive(key, "mod_intune_scep cache values 1", sealed->value_key)) != APR_SUCCESS ||
        (rv = state_key_derive(key, "mod_intune_scep cache ids 1", sealed->id_key)) != APR_SUCCESS)
        return rv;
    sealed->outside = outside;
    made->retrieve = sealed_retrieve;
    made->store = sealed_store;
    made->remove = sealed_remove;
    made->lock = sealed_lock;
    made->unlock = sealed_unlock;
    made->baton = sealed;
    *provider = made;
    return APR_SUCCESS;
}

apr_status_t sealed_provider_check(const cache_provider_t *provider, apr_pool_t *pool)
{
    const sealed_t *sealed = provider->baton;
    const unsigned char *mark = (const unsigned char *)mark_text;
    unsigned char plain[PLAIN_MAX];
    unsigned int length = 0;
    size_t len = 0;
    outer_t outer;
    apr_status_t rv;

    if (!EVP_Q_digest(NULL, "SHA256", NULL, mark_text, sizeof(mark_text), outer.id, &len))
        return APR_EGENERAL;
    rv = outer_read(sealed, &outer, plain, &length, pool);
    if (APR_STATUS_IS_NOTFOUND(rv))
        rv = outer_write(sealed, &outer, mark, sizeof(mark_text), clock_now() + mark_life, pool);
    return rv;
}
