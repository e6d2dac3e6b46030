/* SPDX-License-Identifier: Apache-2.0 */
#include "pki_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <apr_strings.h>
#include <cmocka.h>
#include <openssl/evp.h>

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

static void facts_of_a_good_one(void **state)
{
    pki_csr_t wanted = {
        .key = pki->device_key, .subject = "Müller, \"A\"", .challenges = {{V_ASN1_PRINTABLESTRING, "secret", 6}}};
    bytes_t der = pki_csr_make(pki, &wanted, pool);
    X509_REQ *request = X509_REQ_new_ex(pki->engine->context, NULL);
    const unsigned char *at = der.data;
    unsigned char *info = NULL;
    unsigned char hash[32];
    EVP_MD *digest = EVP_MD_fetch(pki->engine->context, "SHA-256", NULL);
    unsigned len = 0;
    int info_len = 0;
    csr_t csr;
    const char *why = "";

    (void)state;
    assert_int_equal(csr_open(&csr, pki->engine, der, pool, &why), APR_SUCCESS);
    assert_null(why);
    assert_true(bytes_equal(csr.der, der));
    assert_ptr_not_equal(csr.der.data, der.data);
    assert_string_equal(csr.subject, "CN=Müller\\, \\\"A\\\"");
    assert_true(csr.subject_der.len > 10 && csr.subject_der.data[0] == 0x30);
    assert_int_equal(csr.subject_der.data[1], csr.subject_der.len - 2);
    assert_non_null(memmem(der.data, der.len, csr.subject_der.data, csr.subject_der.len));
    assert_int_equal(csr.key_bits, 2048);
    assert_true(csr.key_is_rsa);
    assert_int_equal(csr.challenges, 1);
    assert_string_equal(secret_reveal(csr.challenge), "secret");
    assert_false(csr.has_sid);
    assert_non_null(d2i_X509_REQ(&request, &at, (long)der.len));
    info_len = i2d_re_X509_REQ_tbs(request, &info);
    assert_true(info_len > 0);
    assert_true(EVP_Digest(info, (size_t)info_len, hash, &len, digest, NULL));
    assert_int_equal(csr.info_sha256.len, 32);
    assert_memory_equal(csr.info_sha256.data, hash, 32);
    OPENSSL_free(info);
    X509_REQ_free(request);
    EVP_MD_free(digest);
}

/* Of random signatures: the same request signed twice is another CSR with the same identity. */
static void identity_outlives_a_new_signature(void **state)
{
    pki_csr_t wanted = {.key = pki->ec_key};
    csr_t first;
    csr_t second;
    const char *why = NULL;

    (void)state;
    assert_int_equal(csr_open(&first, pki->engine, pki_csr_make(pki, &wanted, pool), pool, &why), APR_SUCCESS);
    assert_int_equal(csr_open(&second, pki->engine, pki_csr_make(pki, &wanted, pool), pool, &why), APR_SUCCESS);
    assert_false(bytes_equal(first.der, second.der));
    assert_true(bytes_equal(first.info_sha256, second.info_sha256));
    assert_true(bytes_equal(first.spki, second.spki));
    assert_false(first.key_is_rsa);
    assert_int_equal(first.key_bits, 256);
    assert_int_equal(first.challenges, 0);
    assert_null(first.challenge);
}

static void sign_again(unsigned char *der, apr_size_t len, apr_size_t info_len)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    size_t size = 256;

    assert_true(EVP_DigestSignInit_ex(context, NULL, "SHA-256", pki->engine->context, NULL, pki->device_key, NULL));
    assert_true(EVP_DigestSign(context, der + len - size, &size, der + 4, info_len));
    EVP_MD_CTX_free(context);
}

/* Some clients write attributes in an order that DER forbids; hash and signature are over what was sent. */
static void unsorted_attributes_are_hashed_as_sent(void **state)
{
    pki_csr_t wanted = {.key = pki->device_key,
                        .challenges = {{V_ASN1_UTF8STRING, "aa", 2}, {V_ASN1_UTF8STRING, "bb", 2}}};
    bytes_t der = pki_csr_make(pki, &wanted, pool);
    unsigned char *changed = apr_pmemdup(pool, der.data, der.len);
    apr_size_t info_len = 4 + (apr_size_t)changed[6] * 256 + changed[7];
    EVP_MD *digest = EVP_MD_fetch(pki->engine->context, "SHA-256", NULL);
    unsigned char hash[32];
    csr_t csr;
    const char *why = NULL;
    apr_size_t i = 0;

    (void)state;
    for (i = 0; i + 4 < der.len; i++) {
        if (changed[i] == 0x0c && changed[i + 1] == 2) {
            memset(changed + i + 2, changed[i + 2] == 'a' ? 'b' : 'a', 2);
        }
    }
    der.data = changed;
    assert_int_equal(csr_open(&csr, pki->engine, der, pool, &why), APR_EGENERAL);
    assert_non_null(strstr(why, "signature"));
    sign_again(changed, der.len, info_len);
    assert_int_equal(csr_open(&csr, pki->engine, der, pool, &why), APR_SUCCESS);
    assert_string_equal(secret_reveal(csr.challenge), "bb");
    assert_true(EVP_Digest(changed + 4, info_len, hash, NULL, digest, NULL));
    assert_memory_equal(csr.info_sha256.data, hash, sizeof(hash));
    EVP_MD_free(digest);
}

static void challenges(void **state)
{
    static const struct {
        const char *name;
        pki_value_t values[4];
        bool one_attribute;
        int count;
        const char *text;
    } cases[] = {
        {"ok/PrintableString", {{V_ASN1_PRINTABLESTRING, "abc", 3}}, false, 1, "abc"},
        {"ok/UTF8String", {{V_ASN1_UTF8STRING, "ab\xc3\xbc", 4}}, false, 1, "ab\xc3\xbc"},
        {"ok/T61String", {{V_ASN1_T61STRING, "a+/=", 4}}, false, 1, "a+/="},
        {"ok/IA5String", {{V_ASN1_IA5STRING, "abc", 3}}, false, 1, "abc"},
        {"ok/BMPString", {{V_ASN1_BMPSTRING, "\0a\0b\0c", 6}}, false, 1, "abc"},
        {"ok/line breaks and blanks", {{V_ASN1_IA5STRING, " ab\r\nc\td ", 9}}, false, 1, "abcd"},
        {"ok/empty", {{V_ASN1_UTF8STRING, "", 0}}, false, 1, ""},
        {"ok/not text", {{V_ASN1_OCTET_STRING, "abc", 3}}, false, 1, ""},
        {"ok/NUL inside", {{V_ASN1_UTF8STRING, "ab\0c", 4}}, false, 1, ""},
        {"ok/broken UTF-8", {{V_ASN1_UTF8STRING, "ab\xff", 3}}, false, 1, ""},
        {"ok/two attributes", {{V_ASN1_UTF8STRING, "a", 1}, {V_ASN1_UTF8STRING, "b", 1}}, false, 2, NULL},
        {"ok/two values", {{V_ASN1_UTF8STRING, "a", 1}, {V_ASN1_UTF8STRING, "b", 1}}, true, 2, NULL},
        {"ok/three attributes",
         {{V_ASN1_UTF8STRING, "a", 1}, {V_ASN1_OCTET_STRING, "b", 1}, {V_ASN1_IA5STRING, "c", 1}},
         false,
         3,
         NULL},
    };
    unsigned i = 0;

    (void)state;
    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        pki_csr_t wanted = {.key = pki->ec_key, .one_attribute = cases[i].one_attribute};
        csr_t csr;
        const char *why = NULL;

        print_message("%s\n", cases[i].name);
        memcpy(wanted.challenges, cases[i].values, sizeof(wanted.challenges));
        assert_int_equal(csr_open(&csr, pki->engine, pki_csr_make(pki, &wanted, pool), pool, &why), APR_SUCCESS);
        assert_int_equal(csr.challenges, cases[i].count);
        assert_non_null(csr.challenge);
        if (cases[i].text) {
            assert_string_equal(secret_reveal(csr.challenge), cases[i].text);
        }
    }
}

/* Intune's are some 5 kB long, far over PKCS #9's limit of 255. */
static void a_long_challenge(void **state)
{
    char *text = apr_palloc(pool, 6000);
    pki_csr_t wanted = {.key = pki->ec_key, .challenges = {{V_ASN1_PRINTABLESTRING, text, 6000}}};
    csr_t csr;
    const char *why = NULL;

    (void)state;
    memset(text, 'A', 6000);
    assert_int_equal(csr_open(&csr, pki->engine, pki_csr_make(pki, &wanted, pool), pool, &why), APR_SUCCESS);
    assert_int_equal(secret_length(csr.challenge), 6000);
}

static void sid(void **state)
{
    const struct {
        const char *name;
        pki_csr_t wanted;
        bool has_sid;
    } cases[] = {
        {"ok/no extensions", {.key = pki->ec_key}, false},
        {"ok/another extension", {.key = pki->ec_key, .extension = "1.3.6.1.4.1.311.25.1"}, false},
        {"ok/longer identifier", {.key = pki->ec_key, .extension = "1.3.6.1.4.1.311.25.2.1"}, false},
        {"ok/SID", {.key = pki->ec_key, .extension = SCEP_OID_SID_EXTENSION}, true},
        {"ok/SID, Microsoft's attribute",
         {.key = pki->ec_key, .extension = SCEP_OID_SID_EXTENSION, .microsoft = true},
         true},
        {"ok/SID, behind a harmless attribute",
         {.key = pki->ec_key, .extension = SCEP_OID_SID_EXTENSION, .list_too = PKI_HARMLESS_LIST},
         true},
        {"ok/SID, Microsoft's behind a harmless one",
         {.key = pki->ec_key, .extension = SCEP_OID_SID_EXTENSION, .list_too = PKI_HARMLESS_LIST, .microsoft = true},
         true},
    };
    unsigned i = 0;

    (void)state;
    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        csr_t csr;
        const char *why = NULL;

        print_message("%s\n", cases[i].name);
        assert_int_equal(csr_open(&csr, pki->engine, pki_csr_make(pki, &cases[i].wanted, pool), pool, &why),
                         APR_SUCCESS);
        assert_int_equal(csr.has_sid, cases[i].has_sid);
    }
}

/* Each of these could be read in two ways. */
static void extensions_twice(void **state)
{
    static const char OID[] = "1.2.3.4";
    const struct {
        const char *name;
        pki_csr_t wanted;
        int lists;
        bool twice;
    } cases[] = {
        {"ok/none", {.key = pki->ec_key}, 0, false},
        {"ok/one", {.key = pki->ec_key, .extension = OID}, 1, false},
        {"ok/one, Microsoft's", {.key = pki->ec_key, .extension = OID, .microsoft = true}, 1, false},
        {"fail/both kinds", {.key = pki->ec_key, .extension = OID, .list_too = PKI_HARMLESS_LIST}, 2, false},
        {"fail/two of a kind", {.key = pki->ec_key, .extension = OID, .list_too = PKI_LIST_OF_THE_KIND}, 2, false},
        {"fail/one without a value",
         {.key = pki->ec_key, .extension = OID, .list_too = PKI_LIST_WITHOUT_VALUE},
         2,
         false},
        {"fail/two values", {.key = pki->ec_key, .extension = OID, .list_too = PKI_LIST_IN_IT}, 2, false},
        {"fail/an extension twice", {.key = pki->ec_key, .extension = OID, .extension_twice = true}, 1, true},
    };
    unsigned i = 0;

    (void)state;
    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        csr_t csr;
        const char *why = NULL;

        print_message("%s\n", cases[i].name);
        assert_int_equal(csr_open(&csr, pki->engine, pki_csr_make(pki, &cases[i].wanted, pool), pool, &why),
                         APR_SUCCESS);
        assert_int_equal(csr.extension_lists, cases[i].lists);
        assert_int_equal(csr.extension_twice, cases[i].twice);
    }
}

static void refused(void **state)
{
    pki_csr_t good = {.key = pki->ec_key};
    pki_csr_t foreign = {.key = pki->ec_key, .signer = pki->root_key};
    pki_csr_t broken = {.key = pki->ec_key, .extension = "1.2.3.4", .broken_extensions = true};
    pki_csr_t spelled_out = {.key = pki_explicit_ec_make(pki)};
    bytes_t der = pki_csr_make(pki, &good, pool);
    unsigned char *longer = apr_pcalloc(pool, der.len + 1);
    const struct {
        const char *name;
        bytes_t der;
        const char *why;
    } cases[] = {
        {"fail/nothing", {NULL, 0}, "there is no"},
        {"fail/garbage", bytes_of_text("0garbage"), "not a PKCS #10"},
        {"fail/a byte behind", {longer, der.len + 1}, "behind"},
        {"fail/a byte short", {der.data, der.len - 1}, "not a PKCS #10"},
        {"fail/signed by another key", pki_csr_make(pki, &foreign, pool), "signature"},
        {"fail/curve spelled out", pki_csr_make(pki, &spelled_out, pool), "not a named one"},
        {"fail/curve spelled out, nothing else", bytes_of_text("\x30\x09\x06\x07\x2a\x86\x48\xce\x3d\x02\x01"), "not a named one"},
        {"fail/extensions that are none", pki_csr_make(pki, &broken, pool), "extensions"},
    };
    unsigned i = 0;

    (void)state;
    memcpy(longer, der.data, der.len);
    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        csr_t csr;
        const char *why = NULL;

        print_message("%s\n", cases[i].name);
        assert_int_equal(csr_open(&csr, pki->engine, cases[i].der, pool, &why), APR_EGENERAL);
        assert_non_null(why);
        assert_non_null(strstr(why, cases[i].why));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(facts_of_a_good_one),
        cmocka_unit_test(identity_outlives_a_new_signature),
        cmocka_unit_test(unsorted_attributes_are_hashed_as_sent),
        cmocka_unit_test(challenges),
        cmocka_unit_test(a_long_challenge),
        cmocka_unit_test(sid),
        cmocka_unit_test(extensions_twice),
        cmocka_unit_test(refused),
    };
    int failed = 0;

    pki_global_init();
    failed = cmocka_run_group_tests(tests, setup, teardown);
    pki_global_end();
    return failed;
}
