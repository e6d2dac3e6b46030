/* SPDX-License-Identifier: Apache-2.0 */
#include "pki_fixture.h"

#include "base/clock.h"
#include "scep/parts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <apr_strings.h>
#include <cmocka.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

static apr_pool_t *pool;
static pki_t *pki;
static char directory[] = "/tmp/iscep-identity-XXXXXX";

static int setup(void **state)
{
    (void)state;
    apr_pool_create(&pool, NULL);
    pki = pki_make(pool);
    return mkdtemp(directory) ? 0 : 1;
}

static int teardown(void **state)
{
    (void)state;
    apr_pool_destroy(pool);
    return rmdir(directory);
}

static const char *path_make(void)
{
    return apr_pstrcat(pool, directory, "/file", NULL);
}

static void bio_write(BIO *bio)
{
    char *data = NULL;
    long len = BIO_get_mem_data(bio, &data);
    FILE *file = fopen(path_make(), "wb");

    assert_non_null(file);
    assert_true(len == 0 || fwrite(data, (size_t)len, 1, file) == 1);
    assert_int_equal(fclose(file), 0);
    BIO_free(bio);
}

static void certificate_files(void **state)
{
    static const struct {
        const char *name;
        int count; /* -1: failure */
    } cases[] = {{"ok/PEM with two, text and a key between", 2},
                 {"ok/DER", 1},
                 {"fail/DER with a byte behind", -1},
                 {"fail/empty", -1},
                 {"fail/text", -1},
                 {"fail/a good and a broken one", -1},
                 {"fail/key only", -1}};
    unsigned i = 0;

    (void)state;
    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        BIO *bio = BIO_new(BIO_s_mem());
        STACK_OF(X509) *certificates = NULL;
        const char *message = NULL;
        apr_status_t status = APR_SUCCESS;

        print_message("%s\n", cases[i].name);
        switch (i) {
        case 0:
            BIO_puts(bio, "issuing CA\n");
            PEM_write_bio_X509(bio, pki->ca);
            PEM_write_bio_PrivateKey(bio, pki->ec_key, NULL, NULL, 0, NULL, NULL);
            PEM_write_bio_X509(bio, pki->root);
            break;
        case 1:
        case 2:
            i2d_X509_bio(bio, pki->ca);
            BIO_write(bio, "x", (int)i - 1);
            break;
        case 4:
            BIO_puts(bio, "no certificate\n");
            break;
        case 5:
            PEM_write_bio_X509(bio, pki->ca);
            BIO_puts(bio, "-----BEGIN CERTIFICATE-----\nMAAA\n-----END CERTIFICATE-----\n");
            break;
        case 6:
            PEM_write_bio_PrivateKey(bio, pki->ec_key, NULL, NULL, 0, NULL, NULL);
            break;
        default:
            break;
        }
        bio_write(bio);
        status = scep_certificates_load(&certificates, pki->engine, path_make(), pool, &message);
        if (cases[i].count < 0) {
            assert_int_equal(status, APR_EGENERAL);
            assert_non_null(strstr(message, directory));
        } else {
            assert_int_equal(status, APR_SUCCESS);
            assert_int_equal(sk_X509_num(certificates), cases[i].count);
            assert_int_equal(X509_cmp(sk_X509_value(certificates, 0), pki->ca), 0);
            assert_non_null(X509_get0_pubkey(sk_X509_value(certificates, 0)));
        }
        assert_int_equal(ERR_peek_error(), 0);
        unlink(path_make());
    }
}

static void missing_files(void **state)
{
    STACK_OF(X509) *certificates = NULL;
    EVP_PKEY *key = NULL;
    const char *message = NULL;

    (void)state;
    assert_true(APR_STATUS_IS_ENOENT(scep_certificates_load(&certificates, pki->engine, path_make(), pool, &message)));
    assert_non_null(strstr(message, path_make()));
    message = NULL;
    assert_true(APR_STATUS_IS_ENOENT(scep_key_load(&key, pki->engine, path_make(), pool, &message)));
    assert_non_null(strstr(message, path_make()));
}

static void key_write(unsigned kind)
{
    EVP_CIPHER *cipher = EVP_CIPHER_fetch(pki->engine->context, "AES-128-CBC", NULL);
    BIO *bio = BIO_new(BIO_s_mem());
    char word[] = "secret";

    switch (kind) {
    case 0:
        PEM_write_bio_PrivateKey(bio, pki->ra_key, NULL, NULL, 0, NULL, NULL);
        break;
    case 1:
        PEM_write_bio_PrivateKey_traditional(bio, pki->ra_key, NULL, NULL, 0, NULL, NULL);
        break;
    case 2:
        i2d_PrivateKey_bio(bio, pki->ra_key);
        break;
    case 3:
        assert_true(
            PEM_write_bio_PrivateKey_ex(bio, pki->ra_key, cipher, NULL, 0, NULL, word, pki->engine->context, NULL));
        break;
    case 4:
        PEM_write_bio_PrivateKey(bio, pki->ec_key, NULL, NULL, 0, NULL, NULL);
        break;
    case 5:
        PEM_write_bio_PUBKEY(bio, pki->ra_key);
        break;
    case 6:
        PEM_write_bio_X509(bio, pki->ra);
        break;
    default:
        break;
    }
    bio_write(bio);
    EVP_CIPHER_free(cipher);
}

static void key_files(void **state)
{
    static const struct {
        const char *name;
        const char *why; /* NULL: good */
    } cases[] = {{"ok/PKCS #8 PEM", NULL},
                 {"ok/PKCS #1 PEM", NULL},
                 {"ok/DER", NULL},
                 {"fail/encrypted", "passphrase"},
                 {"fail/EC", "not RSA"},
                 {"fail/public key", "no private key"},
                 {"fail/certificate", "no private key"},
                 {"fail/empty", "empty"}};
    unsigned i = 0;

    (void)state;
    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        EVP_PKEY *key = NULL;
        const char *message = NULL;
        apr_status_t status = APR_SUCCESS;

        print_message("%s\n", cases[i].name);
        key_write(i);
        status = scep_key_load(&key, pki->engine, path_make(), pool, &message);
        if (cases[i].why) {
            assert_int_equal(status, APR_EGENERAL);
            assert_non_null(strstr(message, cases[i].why));
            assert_non_null(strstr(message, directory));
        } else {
            assert_int_equal(status, APR_SUCCESS);
            assert_null(scep_key_check(pki->ra, key, pool));
            assert_non_null(scep_key_check(pki->ca, key, pool));
        }
        assert_int_equal(ERR_peek_error(), 0);
        unlink(path_make());
    }
}

static STACK_OF(X509) * stack(X509 *first, X509 *second, X509 *third)
{
    STACK_OF(X509) *certificates = sk_X509_new_null();

    if (first) {
        sk_X509_push(certificates, first);
    }
    if (second) {
        sk_X509_push(certificates, second);
    }
    if (third) {
        sk_X509_push(certificates, third);
    }
    return certificates;
}

static void expect(const char *name, const char *why, const char *expected)
{
    print_message("%s: %s\n", name, why ? why : "good");
    if (expected) {
        assert_non_null(why);
        assert_non_null(strstr(why, expected));
    } else {
        assert_null(why);
    }
}

static void chains(void **state)
{
    apr_time_t now = clock_now();
    pki_certificate_t namesake = {.subject = "root", .key = pki->other_key, .ca = true};
    X509 *false_root = pki_certificate_make(pki, &namesake);
    const struct {
        const char *name;
        STACK_OF(X509) * chain;
        apr_time_t now;
        const char *why;
    } cases[] = {
        {"ok/issuing and root", stack(pki->ca, pki->root, NULL), now, NULL},
        {"ok/issuing only", stack(pki->ca, NULL, NULL), now, NULL},
        {"fail/empty", stack(NULL, NULL, NULL), now, "no certificate"},
        {"fail/root first", stack(pki->root, pki->ca, NULL), now, "not signed by the next"},
        {"fail/same name, other key", stack(pki->ca, false_root, NULL), now, "not signed by the next"},
        {"fail/no CA", stack(pki->ra, pki->ca, pki->root), now, "not a CA"},
        {"fail/expired", stack(pki->ca, pki->root, NULL), now + apr_time_from_sec(100000), "expired"},
        {"fail/not yet", stack(pki->ca, pki->root, NULL), now - apr_time_from_sec(100000), "not valid before"},
    };
    unsigned i = 0;

    (void)state;
    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        expect(cases[i].name, scep_chain_check(cases[i].chain, cases[i].now, pool), cases[i].why);
        sk_X509_free(cases[i].chain);
    }
}

static X509 *issued(EVP_PKEY *key, const char *usage, EVP_PKEY *issuer_key)
{
    pki_certificate_t wanted = {
        .subject = "RA \"x\"\n", .key = key, .issuer = pki->ca, .issuer_key = issuer_key, .usage = usage};

    return pki_certificate_make(pki, &wanted);
}

static void ra_certificates(void **state)
{
    apr_time_t now = clock_now();
    pki_certificate_t alone = {.subject = "CA and RA", .key = pki->ca_key, .ca = true};
    X509 *both = pki_certificate_make(pki, &alone);
    STACK_OF(X509) *single = stack(both, NULL, NULL);

    (void)state;
    expect("ok/both usages", scep_ra_check(pki->ra, RA_DOES_BOTH, pki->chain, now, pool), NULL);
    expect("ok/no usage", scep_ra_check(issued(pki->ra_key, NULL, pki->ca_key), RA_DOES_BOTH, pki->chain, now, pool), NULL);
    expect("ok/the CA itself", scep_ra_check(both, RA_DOES_BOTH, single, now, pool), NULL);
    expect("fail/signing only",
           scep_ra_check(issued(pki->ra_key, "digitalSignature", pki->ca_key), RA_DOES_BOTH, pki->chain, now, pool), "key usage");
    expect("fail/encryption only",
           scep_ra_check(issued(pki->ra_key, "keyEncipherment", pki->ca_key), RA_DOES_BOTH, pki->chain, now, pool), "key usage");
    expect("ok/signing only", scep_ra_check(issued(pki->ra_key, "digitalSignature", pki->ca_key), RA_SIGNS, pki->chain, now, pool),
           NULL);
    expect("ok/encryption only",
           scep_ra_check(issued(pki->ra_key, "keyEncipherment", pki->ca_key), RA_DECRYPTS, pki->chain, now, pool), NULL);
    expect("fail/encryption to sign",
           scep_ra_check(issued(pki->ra_key, "keyEncipherment", pki->ca_key), RA_SIGNS, pki->chain, now, pool),
           "digitalSignature");
    expect("fail/signing to decrypt",
           scep_ra_check(issued(pki->ra_key, "digitalSignature", pki->ca_key), RA_DECRYPTS, pki->chain, now, pool),
           "keyEncipherment");
    expect("ok/a CA with a CA's usage", scep_ra_check(pki->ca, RA_DOES_BOTH, pki->chain, now, pool), NULL);
    expect("ok/which is said", scep_ra_usage_check(pki->ca, RA_DOES_BOTH, pool), "both digitalSignature and keyEncipherment");
    expect("fail/EC", scep_ra_check(issued(pki->ec_key, NULL, pki->ca_key), RA_DOES_BOTH, pki->chain, now, pool), "not RSA");
    expect("fail/forged issuer", scep_ra_check(issued(pki->ra_key, NULL, pki->other_key), RA_DOES_BOTH, pki->chain, now, pool),
           "not signed by a certificate of the chain");
    expect("fail/stranger", scep_ra_check(pki->other, RA_DOES_BOTH, pki->chain, now, pool), "not signed by");
    expect("fail/expired", scep_ra_check(pki->ra, RA_DOES_BOTH, pki->chain, now + apr_time_from_sec(100000), pool), "expired");
    sk_X509_free(single);
}

/* What only some devices mind. */
static void ra_advice(void **state)
{
    static const char both[] = "digitalSignature,keyEncipherment";
    static const struct {
        const char *name;
        scep_ra_role_t role;
        const char *usage, *purpose;
        const char *minds_usage, *minds_purpose; /* NULL: nobody minds */
    } cases[] = {
        {"ok/both usages", RA_DOES_BOTH, both, NULL, NULL, NULL},
        {"ok/encryption only", RA_DECRYPTS, "keyEncipherment", NULL, NULL, NULL},
        {"ok/agent", RA_DOES_BOTH, both, "1.3.6.1.4.1.311.20.2.1", NULL, NULL},
        {"ok/agent among others", RA_DOES_BOTH, both, "clientAuth,1.3.6.1.4.1.311.20.2.1", NULL, NULL},
        {"fail/no key usage", RA_DOES_BOTH, NULL, NULL, "no key usage", NULL},
        {"fail/non-repudiation", RA_SIGNS, "nonRepudiation,keyEncipherment", NULL, "digitalSignature", NULL},
        {"fail/another agent", RA_DOES_BOTH, both, "1.3.6.1.4.1.311.20.2.11", NULL, "Certificate Request Agent"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        pki_certificate_t wanted = {.subject = "RA", .key = pki->ra_key, .issuer = pki->ca, .issuer_key = pki->ca_key,
                                    .usage = cases[i].usage, .purpose = cases[i].purpose};
        X509 *ra = pki_certificate_make(pki, &wanted);

        expect(cases[i].name, scep_ra_windows_usage(ra, cases[i].role, pki->chain), cases[i].minds_usage);
        expect(cases[i].name, scep_ra_windows_purpose(ra, pki->chain), cases[i].minds_purpose);
    }
    expect("ok/the CA itself", scep_ra_windows_usage(pki->ca, RA_DOES_BOTH, pki->chain), NULL);
}

static void ra_for_apple(void **state)
{
    pki_certificate_t below = {.subject = "Issuing", .key = pki->ra_key, .issuer = pki->ca, .issuer_key = pki->ca_key, .ca = true};
    scep_identity_t identity = *pki->identity;
    X509 *issuing = pki_certificate_make(pki, &below);
    STACK_OF(X509) *single = stack(issuing, NULL, NULL);
    STACK_OF(X509) *chain = stack(issuing, pki->ca, NULL);

    (void)state;
    expect("ok/an RA", scep_ra_apple(&identity), NULL);
    identity.ra_certificate = identity.device_certificate = issuing;
    identity.chain = single;
    expect("ok/one certificate", scep_ra_apple(&identity), NULL);
    identity.chain = chain;
    expect("fail/no RA among several", scep_ra_apple(&identity), "GetCACert");
    identity.device_certificate = pki->ra;
    expect("ok/an RA to encrypt to", scep_ra_apple(&identity), NULL);
    sk_X509_free(single);
    sk_X509_free(chain);
}

static void recipients(void **state)
{
    X509 *signing = issued(pki->other_key, "digitalSignature", pki->ca_key);
    X509 *encrypting = issued(pki->device_key, "keyEncipherment", pki->ca_key);
    X509 *elliptic = issued(pki->ec_key, NULL, pki->ca_key);
    const struct {
        const char *name;
        STACK_OF(X509) * backend;
        X509 *recipient; /* NULL: failure */
        int signers;
    } cases[] = {
        {"ok/none given", NULL, pki->ca, 1},
        {"ok/by usage", stack(signing, encrypting, NULL), encrypting, 3},
        {"ok/first RSA", stack(elliptic, signing, NULL), signing, 3},
        {"ok/issuing CA given too", stack(pki->ca, NULL, NULL), pki->ca, 1},
        {"fail/no RSA", stack(elliptic, NULL, NULL), NULL, 0},
    };
    unsigned i = 0;

    (void)state;
    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        scep_identity_t *identity = NULL;
        result_t *result = result_make(pool);
        apr_status_t status = scep_identity_make(&identity, pki->engine, pki->ra, pki->ra_key, pki->chain,
                                                 cases[i].backend, pool, result);

        print_message("%s\n", cases[i].name);
        if (cases[i].recipient) {
            assert_int_equal(status, APR_SUCCESS);
            assert_ptr_equal(identity->backend_recipient, cases[i].recipient);
            assert_int_equal(sk_X509_num(identity->backend), cases[i].signers);
        } else {
            assert_int_equal(status, APR_EGENERAL);
            assert_int_equal(result->problem, PROBLEM_INTERNAL);
            assert_null(identity);
        }
        sk_X509_free(cases[i].backend);
    }
}

static void the_decoy_is_a_good_request(void **state)
{
    apr_size_t before = 0;

    (void)state;
    for (apr_size_t length = 500; length < 8000; length += 1500) {
        csr_t csr;
        const char *why = NULL;
        bytes_t decoy = scep_decoy_choose(pki->identity, length);

        assert_int_equal(csr_open(&csr, pki->engine, decoy, pool, &why), APR_SUCCESS);
        assert_true(decoy.len >= before);
        before = decoy.len;
    }
    assert_true(before > 5000);
    assert_true(scep_decoy_choose(pki->identity, 1000).len < 1000);
}

static void trust(void **state)
{
    apr_interval_time_t minutes = apr_time_from_sec(300);
    pki_certificate_t good = {
        .subject = "leaf", .key = pki->ec_key, .issuer = pki->ca, .issuer_key = pki->ca_key, .critical = "1.2.3.4"};
    pki_certificate_t old_digest = good;
    pki_certificate_t by_root = {
        .subject = "leaf", .key = pki->ec_key, .issuer = pki->root, .issuer_key = pki->root_key};
    pki_certificate_t by_leaf = {.subject = "leaf", .key = pki->ec_key, .issuer = pki->ra, .issuer_key = pki->ra_key};
    pki_certificate_t ahead = good;
    pki_certificate_t far_ahead = good;

    (void)state;
    old_digest.digest = "SHA-1";
    ahead.from = 250;
    far_ahead.from = 400;
    expect("ok/unknown critical extension", scep_trust_check(pki->identity, pki_certificate_make(pki, &good), 0, pool),
           NULL);
    expect("ok/SHA-1", scep_trust_check(pki->identity, pki_certificate_make(pki, &old_digest), 0, pool), NULL);
    expect("ok/by the root", scep_trust_check(pki->identity, pki_certificate_make(pki, &by_root), 0, pool), NULL);
    expect("ok/clock ahead", scep_trust_check(pki->identity, pki_certificate_make(pki, &ahead), minutes, pool), NULL);
    expect("fail/clock far ahead",
           scep_trust_check(pki->identity, pki_certificate_make(pki, &far_ahead), minutes, pool), "not valid before");
    expect("fail/by a certificate that is no CA",
           scep_trust_check(pki->identity, pki_certificate_make(pki, &by_leaf), 0, pool), "not signed");
    expect("fail/self-signed", scep_trust_check(pki->identity, pki->device, 0, pool), "not signed");
    expect("fail/forged", scep_trust_check(pki->identity, issued(pki->ec_key, NULL, pki->other_key), 0, pool),
           "not signed");
}

static void an_expired_issuer_is_seen(void **state)
{
    pki_certificate_t longer = {
        .subject = "leaf", .key = pki->ec_key, .issuer = pki->ca, .issuer_key = pki->ca_key, .until = 1000000};
    X509 *certificate = pki_certificate_make(pki, &longer);

    (void)state;
    clock_shift(apr_time_from_sec(100000));
    expect("fail/expired issuer", scep_trust_check(pki->identity, certificate, 0, pool), "issuer");
    clock_shift(0);
    expect("ok/issuer valid again", scep_trust_check(pki->identity, certificate, 0, pool), NULL);
}

/* Two certificates of the RA's and two of the chain, in whatever order. */
static void published_with_two(void **state)
{
    scep_identity_t identity = *pki->identity;
    CMS_ContentInfo *cms = NULL;
    STACK_OF(X509) *certificates = NULL;
    bytes_t body;
    const char *type = NULL;

    (void)state;
    scep_identity_separate(&identity, issued(pki->device_key, "keyEncipherment", pki->ca_key), pki->device_key);
    assert_int_equal(scep_identity_publish(&body, &type, &identity, pool, result_make(pool)), APR_SUCCESS);
    assert_string_equal(type, "application/x-x509-ca-ra-cert");
    cms = scep_cms_read(pki->engine->reading, body);
    certificates = CMS_get1_certs(cms);
    assert_int_equal(sk_X509_num(certificates), 4);
    sk_X509_pop_free(certificates, X509_free);
    CMS_ContentInfo_free(cms);
}

static void published(void **state)
{
    pki_certificate_t alone = {.subject = "CA and RA", .key = pki->ca_key, .ca = true};
    X509 *both = pki_certificate_make(pki, &alone);
    STACK_OF(X509) *single = stack(both, NULL, NULL);
    scep_identity_t *identity = NULL;
    CMS_ContentInfo *cms = NULL;
    STACK_OF(X509) *certificates = NULL;
    bytes_t body;
    const char *type = NULL;

    (void)state;
    assert_int_equal(scep_identity_publish(&body, &type, pki->identity, pool, result_make(pool)), APR_SUCCESS);
    assert_string_equal(type, "application/x-x509-ca-ra-cert");
    cms = scep_cms_read(pki->engine->reading, body);
    assert_non_null(cms);
    assert_int_equal(sk_CMS_SignerInfo_num(CMS_get0_SignerInfos(cms)) > 0, 0);
    assert_null(*CMS_get0_content(cms));
    certificates = CMS_get1_certs(cms);
    assert_int_equal(sk_X509_num(certificates), 3);
    sk_X509_pop_free(certificates, X509_free);
    CMS_ContentInfo_free(cms);

    assert_int_equal(
        scep_identity_make(&identity, pki->engine, both, pki->ca_key, single, NULL, pool, result_make(pool)),
        APR_SUCCESS);
    assert_int_equal(scep_identity_publish(&body, &type, identity, pool, result_make(pool)), APR_SUCCESS);
    assert_string_equal(type, "application/x-x509-ca-cert");
    assert_true(bytes_equal(body, pki_certificate_der(both, pool)));
    sk_X509_free(single);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(certificate_files),
        cmocka_unit_test(missing_files),
        cmocka_unit_test(key_files),
        cmocka_unit_test(chains),
        cmocka_unit_test(ra_certificates),
        cmocka_unit_test(ra_advice),
        cmocka_unit_test(ra_for_apple),
        cmocka_unit_test(recipients),
        cmocka_unit_test(the_decoy_is_a_good_request),
        cmocka_unit_test(trust),
        cmocka_unit_test(an_expired_issuer_is_seen),
        cmocka_unit_test(published),
        cmocka_unit_test(published_with_two),
    };
    int failed = 0;

    pki_global_init();
    failed = cmocka_run_group_tests(tests, setup, teardown);
    pki_global_end();
    return failed;
}
