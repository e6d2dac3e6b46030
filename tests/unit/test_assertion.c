/* SPDX-License-Identifier: Apache-2.0 */
/* The assertion is taken apart and verified with other code than it was made with. */
#include "intune/assertion.h"

#include "base/clock.h"
#include "base/text.h"
#include "credential_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <apr_general.h>
#include <apr_strings.h>
#include <json-c/json.h>
#include <openssl/rsa.h>
#include <stdlib.h>
#include <unistd.h>

#define AUDIENCE "https://login.microsoftonline.com/tenant-1/oauth2/v2.0/token"
#define APP_ID "11111111-2222-3333-4444-555555555555"

static char folder[] = "/tmp/iscep-jwt-XXXXXX";
static apr_pool_t *pool;
static const char *path;
static EVP_PKEY *key;
static X509 *certificate;
static app_certificate_t *application;

static const char *assertion(void)
{
    const char *kept = NULL, *message = NULL;
    const app_pair_t *pair = app_certificate_take(application, pool, &kept);
    const char *text = assertion_make(pair, AUDIENCE, APP_ID, pool, &message);

    if (!text)
        fail_msg("%s", message);
    return text;
}

static unsigned char *decode(const char *part, size_t *len)
{
    size_t size = strlen(part), padded = (size + 3) / 4 * 4;
    char *copy = apr_pcalloc(pool, padded + 1);
    unsigned char *bytes = apr_pcalloc(pool, padded + 1);

    assert_null(strpbrk(part, "+/="));
    memset(copy, '=', padded);
    for (size_t i = 0; i < size; i++)
        copy[i] = (char)(part[i] == '-' ? '+' : part[i] == '_' ? '/' : part[i]);
    assert_int_equal(EVP_DecodeBlock(bytes, (const unsigned char *)copy, (int)padded), (int)(padded / 4 * 3));
    *len = size * 3 / 4;
    bytes[*len] = '\0';
    return bytes;
}

/* Splits at the dots; there are three parts. */
static void split(const char *text, const char *parts[3])
{
    char *rest = apr_pstrdup(pool, text);

    for (int i = 0; i < 3; i++)
        parts[i] = strsep(&rest, ".");
    assert_null(rest);
    assert_non_null(parts[2]);
}

static json_object *claims_of(const char *text)
{
    const char *parts[3];
    size_t len;

    split(text, parts);
    return json_tokener_parse((const char *)decode(parts[1], &len));
}

static const char *member(json_object *object, const char *name)
{
    json_object *found = NULL;

    assert_true(json_object_object_get_ex(object, name, &found));
    return json_object_get_string(found);
}

static void header_is_what_entra_wants(void **state)
{
    const char *parts[3];
    unsigned char digest[32];
    bytes_t bytes = {digest, sizeof(digest)};
    size_t len;

    (void)state;
    split(assertion(), parts);
    assert_int_equal(X509_digest(certificate, EVP_sha256(), digest, NULL), 1);
    assert_string_equal(
        decode(parts[0], &len),
        apr_psprintf(pool, "{\"alg\":\"PS256\",\"typ\":\"JWT\",\"x5t#S256\":\"%s\"}", text_base64url(pool, bytes)));
}

static void claims_are_fresh(void **state)
{
    json_object *first, *second;
    long now = (long)apr_time_sec(clock_now()), nbf;

    (void)state;
    first = claims_of(assertion());
    assert_int_equal(json_object_object_length(first), 7);
    assert_string_equal(member(first, "aud"), AUDIENCE);
    assert_string_equal(member(first, "iss"), APP_ID);
    assert_string_equal(member(first, "sub"), APP_ID);
    nbf = strtol(member(first, "nbf"), NULL, 10);
    assert_in_range(nbf, now, now + 5);
    assert_int_equal(strtol(member(first, "iat"), NULL, 10), nbf);
    assert_int_equal(strtol(member(first, "exp"), NULL, 10), nbf + 300);
    second = claims_of(assertion());
    assert_true(strlen(member(first, "jti")) >= 32);
    assert_string_not_equal(member(first, "jti"), member(second, "jti"));
    json_object_put(second);
    clock_shift(apr_time_from_sec(1000));
    second = claims_of(assertion());
    assert_in_range(strtol(member(second, "nbf"), NULL, 10), now + 1000, now + 1005);
    clock_shift(0);
    json_object_put(first);
    json_object_put(second);
}

static int verified(const char *input, const unsigned char *signature, size_t len)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    EVP_PKEY_CTX *options = NULL;
    int good;

    assert_int_equal(EVP_DigestVerifyInit(context, &options, EVP_sha256(), NULL, key), 1);
    assert_true(EVP_PKEY_CTX_set_rsa_padding(options, RSA_PKCS1_PSS_PADDING) > 0);
    assert_true(EVP_PKEY_CTX_set_rsa_pss_saltlen(options, 32) > 0);
    assert_true(EVP_PKEY_CTX_set_rsa_mgf1_md(options, EVP_sha256()) > 0);
    good = EVP_DigestVerify(context, signature, len, (const unsigned char *)input, strlen(input)) == 1;
    EVP_MD_CTX_free(context);
    return good;
}

static void signature_covers_header_and_claims(void **state)
{
    const char *text = assertion(), *parts[3];
    char *input;
    unsigned char *signature;
    size_t len;

    (void)state;
    split(text, parts);
    signature = decode(parts[2], &len);
    assert_int_equal(len, 256);
    input = apr_pstrcat(pool, parts[0], ".", parts[1], NULL);
    assert_true(verified(input, signature, len));
    input[strlen(input) / 2] ^= 1;
    assert_false(verified(input, signature, len));
}

static void fail_key_that_cannot_sign(void **state)
{
    const char *message = NULL, *kept = NULL;
    app_pair_t pair = *app_certificate_take(application, pool, &kept);
    unsigned char *der = NULL;
    int len = i2d_PUBKEY(key, &der);
    const unsigned char *at = der;
    EVP_PKEY *public = d2i_PUBKEY(NULL, &at, len);

    (void)state;
    assert_non_null(public);
    OPENSSL_free(der);
    pair.key = public;
    assert_null(assertion_make(&pair, AUDIENCE, APP_ID, pool, &message));
    assert_true(message && *message);
    EVP_PKEY_free(public);
}

static const char *kept_text;
static size_t kept_len;
static bool wiped;

/* A cleanup registered earlier runs later, while the pool's memory is still there. */
static apr_status_t look(void *data)
{
    (void)data;
    wiped = kept_len > 0 && kept_text[0] == '\0' && kept_text[kept_len - 1] == '\0';
    return APR_SUCCESS;
}

static void text_is_overwritten_with_its_pool(void **state)
{
    apr_pool_t *own = NULL;
    const char *kept = NULL, *message = NULL;

    (void)state;
    assert_int_equal(apr_pool_create(&own, NULL), APR_SUCCESS);
    apr_pool_cleanup_register(own, NULL, look, apr_pool_cleanup_null);
    kept_text = assertion_make(app_certificate_take(application, pool, &kept), AUDIENCE, APP_ID, own, &message);
    kept_len = strlen(kept_text);
    apr_pool_destroy(own);
    assert_true(wiped);
}

static int begin(void **state)
{
    const char *message = NULL;
    app_certificate_settings_t settings = {NULL, NULL, NULL};

    (void)state;
    if (apr_pool_create(&pool, NULL) != APR_SUCCESS)
        return -1;
    settings.certificate = path = apr_pstrcat(pool, folder, "/app.pem", NULL);
    key = credential_key(2048);
    certificate = credential_certificate(key, -3600, 86400);
    credential_pem(path, certificate, key, NULL);
    return app_certificate_make(&application, &settings, pool, &message) == APR_SUCCESS ? 0 : -1;
}

static int end(void **state)
{
    (void)state;
    unlink(path);
    apr_pool_destroy(pool);
    X509_free(certificate);
    EVP_PKEY_free(key);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(header_is_what_entra_wants),         cmocka_unit_test(claims_are_fresh),
        cmocka_unit_test(signature_covers_header_and_claims), cmocka_unit_test(fail_key_that_cannot_sign),
        cmocka_unit_test(text_is_overwritten_with_its_pool),
    };
    int failed;

    if (!mkdtemp(folder))
        return 1;
    apr_initialize();
    failed = cmocka_run_group_tests_name("assertion", tests, begin, end);
    apr_terminate();
    return rmdir(folder) != 0 ? 1 : failed;
}
