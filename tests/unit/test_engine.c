/* SPDX-License-Identifier: Apache-2.0 */
#include "pki_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <apr_strings.h>
#include <cmocka.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/objects.h>
#include <openssl/provider.h>
#include <openssl/rand.h>
#include <openssl/x509.h>

static apr_pool_t *pool;

static int setup(void **state)
{
    (void)state;
    return apr_pool_create(&pool, NULL);
}

static int teardown(void **state)
{
    (void)state;
    apr_pool_destroy(pool);
    return 0;
}

static void all_algorithms_are_in_the_context(void **state)
{
    scep_engine_t *engine = NULL;
    unsigned bit = 0;

    (void)state;
    assert_int_equal(scep_engine_make(&engine, pool, result_make(pool)), APR_SUCCESS);
    for (bit = SCEP_DES; bit <= SCEP_AES256; bit <<= 1) {
        EVP_CIPHER *cipher = EVP_CIPHER_fetch(engine->context, scep_cipher_name(bit), NULL);

        assert_non_null(cipher);
        assert_int_equal(scep_cipher_of_nid(EVP_CIPHER_get_nid(cipher)), bit);
        EVP_CIPHER_free(cipher);
    }
    for (bit = SCEP_MD5; bit <= SCEP_SHA512; bit <<= 1) {
        EVP_MD *digest = EVP_MD_fetch(engine->context, scep_digest_name(bit), NULL);

        assert_non_null(digest);
        assert_int_equal(scep_digest_of_nid(EVP_MD_get_type(digest)), bit);
        EVP_MD_free(digest);
    }
}

static void the_process_wide_context_is_left_alone(void **state)
{
    scep_engine_t *engine = NULL;
    EVP_MD *digest = NULL;

    (void)state;
    assert_int_equal(scep_engine_make(&engine, pool, result_make(pool)), APR_SUCCESS);
    digest = EVP_MD_fetch(NULL, "SHA-256", NULL);
    assert_null(digest);
    ERR_clear_error();
}

static EVP_PKEY *key_make(OSSL_LIB_CTX *context, const char *type)
{
    EVP_PKEY_CTX *making = EVP_PKEY_CTX_new_from_name(context, type, NULL);
    EVP_PKEY *key = NULL;

    assert_non_null(making);
    assert_int_equal(EVP_PKEY_keygen_init(making), 1);
    if (strcmp(type, "EC") == 0) {
        assert_int_equal(EVP_PKEY_CTX_set_group_name(making, "P-256"), 1);
    }
    assert_int_equal(EVP_PKEY_keygen(making, &key), 1);
    EVP_PKEY_CTX_free(making);
    return key;
}

/* Of the type, or nothing. */
static bool is_read(OSSL_LIB_CTX *context, const unsigned char *der, int len, const char *type)
{
    EVP_PKEY *read = d2i_PUBKEY_ex(NULL, &der, len, context, NULL);
    bool good = read != NULL;

    assert_true(!read || EVP_PKEY_is_a(read, type));
    EVP_PKEY_free(read);
    ERR_clear_error();
    return good;
}

/* Elsewhere made keys, as they are in certificates. */
static void only_keys_of_scep_are_read(void **state)
{
    static const struct {
        const char *type;
        bool read;
    } cases[] = {
        {"RSA", true}, {"RSA-PSS", true}, {"EC", true}, {"ED25519", true}, {"ED448", true}, {"X25519", false},
    };
    OSSL_LIB_CTX *elsewhere = OSSL_LIB_CTX_new();
    OSSL_PROVIDER *standard = OSSL_PROVIDER_load(elsewhere, "default");
    scep_engine_t *engine = NULL;
    unsigned i = 0;

    (void)state;
    assert_non_null(elsewhere);
    assert_int_equal(scep_engine_make(&engine, pool, result_make(pool)), APR_SUCCESS);
    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        EVP_PKEY *key = key_make(elsewhere, cases[i].type);
        unsigned char *der = NULL;
        int len = i2d_PUBKEY(key, &der);

        print_message("%s\n", cases[i].type);
        assert_true(len > 0);
        assert_int_equal(is_read(engine->context, der, len, cases[i].type), cases[i].read);
        assert_int_equal(is_read(engine->reading, der, len, cases[i].type), cases[i].read);
        EVP_PKEY_free(key);
        OPENSSL_free(der);
    }
    OSSL_PROVIDER_unload(standard);
    OSSL_LIB_CTX_free(elsewhere);
}

/* The more a context can do, the longer it takes to read a key in it: see engine_provider.h. */
static void in_the_reading_context_nothing_can_be_made(void **state)
{
    scep_engine_t *engine = NULL;
    unsigned char byte = 0;
    unsigned bit = 0;

    (void)state;
    assert_int_equal(scep_engine_make(&engine, pool, result_make(pool)), APR_SUCCESS);
    for (bit = SCEP_MD5; bit <= SCEP_SHA512; bit <<= 1) {
        EVP_MD *digest = EVP_MD_fetch(engine->reading, scep_digest_name(bit), NULL);

        assert_non_null(digest);
        EVP_MD_free(digest);
    }
    assert_null(EVP_CIPHER_fetch(engine->reading, scep_cipher_name(SCEP_AES128), NULL));
    assert_null(EVP_ASYM_CIPHER_fetch(engine->reading, "RSA", NULL));
    assert_int_not_equal(RAND_bytes_ex(engine->reading, &byte, 1, 0), 1);
    ERR_clear_error();
}

/* One after the other, as the server does it at each restart, and two at once. */
static void engines_do_not_depend_on_each_other(void **state)
{
    scep_engine_t *first = NULL;
    scep_engine_t *second = NULL;
    apr_pool_t *short_lived = NULL;
    EVP_PKEY *key = NULL;

    (void)state;
    assert_int_equal(apr_pool_create(&short_lived, pool), APR_SUCCESS);
    assert_int_equal(scep_engine_make(&first, short_lived, result_make(pool)), APR_SUCCESS);
    assert_int_equal(scep_engine_make(&second, pool, result_make(pool)), APR_SUCCESS);
    apr_pool_destroy(short_lived);
    key = key_make(second->context, "RSA");
    EVP_PKEY_free(key);
}

static void unknown_algorithms_have_no_bit(void **state)
{
    (void)state;
    assert_int_equal(scep_cipher_of_nid(NID_rc2_cbc), 0);
    assert_int_equal(scep_cipher_of_nid(NID_aes_128_gcm), 0);
    assert_int_equal(scep_cipher_of_nid(NID_undef), 0);
    assert_int_equal(scep_digest_of_nid(NID_md4), 0);
    assert_int_equal(scep_digest_of_nid(NID_undef), 0);
    assert_string_equal(scep_cipher_name(0), "unknown");
    assert_string_equal(scep_digest_name(SCEP_SHA1 | SCEP_MD5), "unknown");
}

static void words(void **state)
{
    static const struct {
        const char *name;
        const char *words;
        unsigned ciphers;
        unsigned digests;
        const char *unknown;
    } cases[] = {
        {"ok/AES is all three", "AES", SCEP_AES128 | SCEP_AES192 | SCEP_AES256, 0, NULL},
        {"ok/mixed", "AES-128 DES3 SHA-1 SHA-256", SCEP_AES128 | SCEP_DES3, SCEP_SHA1 | SCEP_SHA256, NULL},
        {"ok/any case", "des md5 sha-512 sha1", SCEP_DES, SCEP_MD5 | SCEP_SHA512 | SCEP_SHA1, NULL},
        {"ok/own names", "AES-256-CBC DES-EDE3-CBC SHA-384", SCEP_AES256 | SCEP_DES3, SCEP_SHA384, NULL},
        {"ok/blanks", "  SHA-224\t DES ", SCEP_DES, SCEP_SHA224, NULL},
        {"ok/none", "", 0, 0, NULL},
        {"fail/unknown", "AES RC4 MD4", 0, 0, "RC4"},
        {"fail/prefix only", "AE", 0, 0, "AE"},
        {"fail/longer", "DES33", 0, 0, "DES33"},
    };
    unsigned i = 0;

    (void)state;
    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        scep_algorithms_t found = {77, 77};
        const char *unknown = scep_algorithms_parse(&found, cases[i].words, pool);

        print_message("%s\n", cases[i].name);
        if (cases[i].unknown) {
            assert_non_null(unknown);
            assert_string_equal(unknown, cases[i].unknown);
            continue;
        }
        assert_null(unknown);
        assert_int_equal(found.ciphers, cases[i].ciphers);
        assert_int_equal(found.digests, cases[i].digests);
    }
}

static void errors_are_one_escaped_line(void **state)
{
    const char *line = NULL;

    (void)state;
    assert_string_equal(scep_engine_errors(pool), "");
    ERR_raise_data(ERR_LIB_CMS, CMS_R_NO_CONTENT, "from\noutside \"%s\"", "\x1b[31m");
    ERR_raise(ERR_LIB_CMS, CMS_R_NO_DIGEST_SET);
    line = scep_engine_errors(pool);
    assert_non_null(strstr(line, "from\\x0"));
    assert_non_null(strstr(line, "; "));
    assert_null(strchr(line, '\n'));
    assert_null(strchr(line, '\x1b'));
    assert_int_equal(ERR_peek_error(), 0);
    assert_string_equal(scep_engine_errors(pool), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(all_algorithms_are_in_the_context, setup, teardown),
        cmocka_unit_test_setup_teardown(the_process_wide_context_is_left_alone, setup, teardown),
        cmocka_unit_test_setup_teardown(only_keys_of_scep_are_read, setup, teardown),
        cmocka_unit_test_setup_teardown(in_the_reading_context_nothing_can_be_made, setup, teardown),
        cmocka_unit_test_setup_teardown(engines_do_not_depend_on_each_other, setup, teardown),
        cmocka_unit_test_setup_teardown(unknown_algorithms_have_no_bit, setup, teardown),
        cmocka_unit_test_setup_teardown(words, setup, teardown),
        cmocka_unit_test_setup_teardown(errors_are_one_escaped_line, setup, teardown),
    };
    int failed = 0;

    pki_global_init();
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    pki_global_end();
    return failed;
}
