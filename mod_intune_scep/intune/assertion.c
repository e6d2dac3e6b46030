/* SPDX-License-Identifier: Apache-2.0 */
#include "intune/assertion.h"

#include "base/clock.h"
#include "base/text.h"
#include "intune/intune_internal.h"

#include <apr_strings.h>

#include <json-c/json.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>

enum { JTI_LEN = 16 };

static const char *errors_take(apr_pool_t *pool)
{
    char text[256];
    unsigned long error = ERR_get_error();

    ERR_error_string_n(error, text, sizeof(text));
    ERR_clear_error();
    return error != 0 ? text_escape(pool, text, sizeof(text)) : "memory ran out";
}

static const char *part_print(struct json_object *object, apr_pool_t *pool)
{
    apr_size_t len = 0;
    const char *text = json_print(object, pool, &len);
    bytes_t bytes = {(const unsigned char *)text, len};
    return text != NULL ? text_base64url(pool, bytes) : NULL;
}

static void text_add(struct json_object *object, const char *name, const char *value)
{
    json_object_object_add(object, name, json_object_new_string(value));
}

static const char *header_make(const app_pair_t *pair, apr_pool_t *pool)
{
    struct json_object *header = json_object_new_object();
    text_add(header, "alg", "PS256");
    text_add(header, "typ", "JWT");
    text_add(header, "x5t#S256", pair->thumbprint);
    return part_print(header, pool);
}

static const char *claims_make(const app_pair_t *pair, const char *audience, const char *app_id, apr_pool_t *pool)
{
    apr_int64_t now = apr_time_sec(clock_now());
    unsigned char random[JTI_LEN];
    bytes_t jti = {random, sizeof(random)};
    struct json_object *claims = NULL;

    if (RAND_bytes_ex(pair->context, random, sizeof(random), 0) != 1) {
        return NULL;
    }
    claims = json_object_new_object();
    text_add(claims, "aud", audience);
    text_add(claims, "iss", app_id);
    text_add(claims, "sub", app_id);
    text_add(claims, "jti", text_hex(pool, jti));
    json_object_object_add(claims, "nbf", json_object_new_int64(now));
    json_object_object_add(claims, "iat", json_object_new_int64(now));
    json_object_object_add(claims, "exp", json_object_new_int64(now + ASSERTION_LIFE));
    return part_print(claims, pool);
}

/** RFC 7518 section 3.5: MGF1 with the same digest, a salt as long as the digest. */
static const char *sign(const app_pair_t *pair, const char *input, apr_pool_t *pool)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    EVP_PKEY_CTX *options = NULL; /* the digest context's own */
    unsigned char *signature = NULL;
    size_t len = 0;
    size_t room = strlen(input);
    const unsigned char *bytes = (const unsigned char *)input;
    const char *text = NULL;

    if (context != NULL &&
        EVP_DigestSignInit_ex(context, &options, "SHA256", pair->context, NULL, pair->key, NULL) == 1 &&
        EVP_PKEY_CTX_set_rsa_padding(options, RSA_PKCS1_PSS_PADDING) == 1 &&
        EVP_PKEY_CTX_set_rsa_pss_saltlen(options, RSA_PSS_SALTLEN_DIGEST) == 1 &&
        EVP_DigestSign(context, NULL, &len, bytes, room) == 1) {
        signature = apr_palloc(pool, len);
        if (EVP_DigestSign(context, signature, &len, bytes, room) == 1) {
            bytes_t made = {signature, len};
            text = text_base64url(pool, made);
        }
    }
    EVP_MD_CTX_free(context);
    return text;
}

const char *assertion_make(const app_pair_t *pair, const char *audience, const char *app_id, apr_pool_t *pool,
                           const char **message)
{
    const char *header = header_make(pair, pool);
    const char *claims = claims_make(pair, audience, app_id, pool);
    const char *signature = NULL;
    const char *text = NULL;

    ERR_clear_error();
    if (header != NULL && claims != NULL) {
        text = apr_pstrcat(pool, header, ".", claims, NULL);
        signature = sign(pair, text, pool);
    }
    if (signature == NULL) {
        *message = errors_take(pool);
        return NULL;
    }
    text = apr_pstrcat(pool, text, ".", signature, NULL);
    secret_guard(pool, text, strlen(text));
    secret_guard(pool, signature, strlen(signature));
    return text;
}
