/* SPDX-License-Identifier: Apache-2.0 */
#include "pki_fixture.h"

#include "base/clock.h"
#include "scep/parts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>
#include <openssl/bn.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509.h>

static apr_pool_t *pool;
static pki_t *pki;

static int setup(void **state)
{
    (void)state;
    apr_pool_create(&pool, NULL);
    pki = pki_make(pool);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    apr_pool_destroy(pool);
    return 0;
}

static void facts(void **state)
{
    pki_certificate_t wanted = {.subject = "Gerät \"1\", A+B",
                                .key = pki->ec_key,
                                .issuer = pki->ca,
                                .issuer_key = pki->ca_key,
                                .serial = 0xabcde};
    X509 *certificate = pki_certificate_make(pki, &wanted);
    bytes_t der = {NULL, 0};
    EVP_MD *sha1 = EVP_MD_fetch(pki->engine->context, "SHA-1", NULL);
    EVP_MD *sha256 = EVP_MD_fetch(pki->engine->context, "SHA-256", NULL);
    unsigned char hash[20];
    char hex[41];
    certificate_facts_t found;
    unsigned i = 0;

    (void)state;
    assert_true(ASN1_TIME_set_string_X509(X509_getm_notAfter(certificate), "20310228235959Z"));
    assert_true(X509_sign(certificate, pki->ca_key, sha256) > 0);
    der = pki_certificate_der(certificate, pool);
    assert_true(EVP_Digest(der.data, der.len, hash, NULL, sha1, NULL));
    for (i = 0; i < sizeof(hash); i++) {
        snprintf(hex + 2 * i, 3, "%02X", (unsigned)hash[i]);
    }
    assert_int_equal(certificate_facts(&found, certificate, pool), APR_SUCCESS);
    assert_string_equal(found.thumbprint, hex);
    assert_string_equal(found.serial, "0ABCDE");
    assert_string_equal(found.subject, "CN=Gerät \\\"1\\\"\\, A\\+B");
    assert_string_equal(found.issuer, "CN=issuing CA");
    assert_string_equal(found.not_after, "2031-02-28T23:59:59.000Z");
    assert_int_equal(apr_time_sec(found.expires), 1930089599);
    EVP_MD_free(sha1);
    EVP_MD_free(sha256);
}

/* As it comes from the journal: the same facts, and none of what is not exactly one certificate. */
static void facts_of_der(void **state)
{
    pki_certificate_t wanted = {.subject = "stored", .key = pki->ec_key, .issuer = pki->ca, .issuer_key = pki->ca_key};
    X509 *certificate = pki_certificate_make(pki, &wanted);
    bytes_t der = pki_certificate_der(certificate, pool);
    unsigned char *longer = apr_pcalloc(pool, der.len + 1);
    const struct {
        const char *name;
        bytes_t der;
    } bad[] = {{"fail/nothing", {NULL, 0}},
               {"fail/text", bytes_of_text("hello")},
               {"fail/a byte short", {der.data, der.len - 1}},
               {"fail/a byte behind", {longer, der.len + 1}}};
    certificate_facts_t of_certificate;
    certificate_facts_t found = {0};
    unsigned i = 0;

    (void)state;
    memcpy(longer, der.data, der.len);
    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        print_message("%s\n", bad[i].name);
        assert_int_equal(certificate_facts_of_der(&found, pki->engine, bad[i].der, pool), APR_EGENERAL);
        assert_null(found.thumbprint);
        assert_int_equal(ERR_peek_error(), 0);
    }
    assert_int_equal(certificate_facts(&of_certificate, certificate, pool), APR_SUCCESS);
    assert_int_equal(certificate_facts_of_der(&found, pki->engine, der, pool), APR_SUCCESS);
    assert_string_equal(found.thumbprint, of_certificate.thumbprint);
    assert_string_equal(found.serial, of_certificate.serial);
    assert_string_equal(found.not_after, of_certificate.not_after);
    assert_string_equal(found.issuer, "CN=issuing CA");
    assert_string_equal(found.subject, "CN=stored");
    assert_int_equal(found.expires, of_certificate.expires);
}

static void serials(void **state)
{
    static const struct {
        const char *name;
        const char *hex; /* as OpenSSL reads it */
        const char *text;
    } cases[] = {
        {"ok/zero", "0", "00"},
        {"ok/odd digits", "F", "0F"},
        {"ok/high bit", "80", "80"},
        {"ok/twenty bytes", "7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF", "7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF"},
        {"ok/negative", "-1A", "1A"},
    };
    pki_certificate_t wanted = {.subject = "a", .key = pki->ec_key};
    X509 *certificate = pki_certificate_make(pki, &wanted);
    unsigned i = 0;

    (void)state;
    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        BIGNUM *number = NULL;
        certificate_facts_t found;

        print_message("%s\n", cases[i].name);
        assert_true(BN_hex2bn(&number, cases[i].hex));
        assert_non_null(BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate)));
        assert_int_equal(certificate_facts(&found, certificate, pool), APR_SUCCESS);
        assert_string_equal(found.serial, cases[i].text);
        BN_free(number);
    }
}

static void dates(void **state)
{
    static const struct {
        const char *name;
        long from;
        long until;
        long ahead;
        const char *why;
    } cases[] = {
        {"ok/now", -100, 100, 0, NULL},
        {"ok/ahead within tolerance", 200, 1000, 300, NULL},
        {"fail/ahead without tolerance", 200, 1000, 0, "not valid before"},
        {"fail/ahead of tolerance", 400, 1000, 300, "not valid before"},
        {"fail/expired", -1000, -100, 300, "expired"},
    };
    unsigned i = 0;

    (void)state;
    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        pki_certificate_t wanted = {.subject = "a", .key = pki->ec_key, .from = cases[i].from, .until = cases[i].until};
        const char *why =
            scep_dates_check(pki_certificate_make(pki, &wanted), clock_now(), apr_time_from_sec(cases[i].ahead), pool);

        print_message("%s\n", cases[i].name);
        if (cases[i].why) {
            assert_non_null(why);
            assert_non_null(strstr(why, cases[i].why));
        } else {
            assert_null(why);
        }
    }
}

/* notAfter names the last second in which the certificate is valid. */
static void last_second(void **state)
{
    pki_certificate_t wanted = {.subject = "a", .key = pki->ec_key};
    X509 *certificate = pki_certificate_make(pki, &wanted);
    certificate_facts_t found;

    (void)state;
    assert_int_equal(certificate_facts(&found, certificate, pool), APR_SUCCESS);
    assert_null(scep_dates_check(certificate, found.expires, 0, pool));
    assert_null(scep_dates_check(certificate, found.expires + 999999, 0, pool));
    assert_non_null(scep_dates_check(certificate, found.expires + 1000000, 0, pool));
}

static void a_name_that_is_not_utf8(void **state)
{
    X509_NAME *name = X509_NAME_new();
    static const unsigned char bytes[] = {'a', 0xff, 'b', 0, 'c'};
    ASN1_STRING *value = NULL;

    (void)state;
    assert_true(
        X509_NAME_add_entry_by_NID(name, NID_commonName, V_ASN1_UTF8STRING, (const unsigned char *)"x", 1, -1, 0));
    value = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, 0));
    assert_true(ASN1_STRING_set(value, bytes, sizeof(bytes)));
    assert_string_equal(scep_name_print(name, pool), "CN=a\\FFb\\00c");
    X509_NAME_free(name);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(facts), cmocka_unit_test(facts_of_der), cmocka_unit_test(serials),
        cmocka_unit_test(dates), cmocka_unit_test(last_second),  cmocka_unit_test(a_name_that_is_not_utf8),
    };
    int failed = 0;

    pki_global_init();
    failed = cmocka_run_group_tests(tests, setup, teardown);
    pki_global_end();
    return failed;
}
