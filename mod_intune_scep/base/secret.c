/* SPDX-License-Identifier: Apache-2.0 */
#include "base/secret.h"

#include <openssl/crypto.h>
#include <stdint.h>
#include <string.h>

struct secret_t {
    char *text;
    apr_size_t len;
};

static apr_status_t cleanse(void *data)
{
    secret_t *secret = data;

    OPENSSL_cleanse(secret->text, secret->len);
    secret->len = 0;
    return APR_SUCCESS;
}

secret_t *secret_make(apr_pool_t *pool, const char *text, apr_size_t len)
{
    secret_t *secret = apr_palloc(pool, sizeof(*secret));

    secret->text = apr_palloc(pool, len + 1);
    secret->len = len;
    if (len > 0)
        memcpy(secret->text, text, len);
    secret->text[len] = '\0';
    apr_pool_cleanup_register(pool, secret, cleanse, apr_pool_cleanup_null);
    return secret;
}

const char *secret_reveal(const secret_t *secret)
{
    return secret->text;
}

apr_size_t secret_length(const secret_t *secret)
{
    return secret->len;
}

const char *secret_print(const secret_t *secret)
{
    (void)secret;
    return "***";
}

void secret_wipe(const void *data, apr_size_t len)
{
    if (data != NULL && len > 0) {
        OPENSSL_cleanse((void *)(uintptr_t)data, len);
    }
}

typedef struct guarded_t {
    const void *data;
    apr_size_t len;
} guarded_t;

static apr_status_t guarded_wipe(void *baton)
{
    guarded_t *guarded = baton;
    secret_wipe(guarded->data, guarded->len);
    return APR_SUCCESS;
}

void secret_guard(apr_pool_t *pool, const void *data, apr_size_t len)
{
    guarded_t *guarded = apr_palloc(pool, sizeof(*guarded));
    guarded->data = data;
    guarded->len = len;
    apr_pool_cleanup_register(pool, guarded, guarded_wipe, apr_pool_cleanup_null);
}
