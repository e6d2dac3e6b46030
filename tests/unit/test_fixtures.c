/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages that real clients sent (tests/fixtures/README.md), opened whole. The RA key that they are encrypted to is
 * gone; what it made of each message's encrypted content key was written down, and a key that remembers takes its place.
 */
/* A key with a decryption of its own is an RSA_METHOD, or else a whole provider. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "pki_fixture.h"

#include "base/clock.h"
#include "scep/http_side.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <apr_file_io.h>
#include <apr_strings.h>
#include <cmocka.h>
#include <openssl/err.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

enum { FILE_MAX = 20000 };

typedef struct fixture_t {
    const char *name;
    const char *transaction_id;
    const char *signer; /* common name */
    scep_message_type_t type;
    unsigned cipher;
    unsigned digest;
    bool self_signed;
    problem_t problem; /* in the end */
} fixture_t;

static const fixture_t fixtures[] = {
    {"certmonger-pkcsreq", "78001478299366230447110860656253581144822744157350800374214976112663101645297",
     "certmonger-5", SCEP_PKCSREQ, SCEP_AES256, SCEP_SHA256, true, PROBLEM_NONE},
    {"certmonger-rekey", "55319663936581889790159072785419687641629733755717840959572656002631727357336",
     "certmonger-7", SCEP_PKCSREQ, SCEP_AES256, SCEP_SHA256, false, PROBLEM_BAD_ENVELOPE},
    {"certmonger-resubmit", "44814689922874451994925765130859504464900233675492375842047199060590169188953",
     "certmonger-6", SCEP_PKCSREQ, SCEP_AES256, SCEP_SHA256, false, PROBLEM_NONE},
    {"scepclient-pkcsreq", "SjEoakv9PZMGWnbJhLipq65zD/A=", "SCEP SIGNER", SCEP_PKCSREQ, SCEP_DES, SCEP_SHA1, true,
     PROBLEM_NONE},
    {"strongswan-pkcsreq", "2C2AAFAE423D78017D4D4454D9B6F9D169C57A2A", "strongSwan-3", SCEP_PKCSREQ, SCEP_DES3,
     SCEP_SHA256, true, PROBLEM_NONE},
    {"strongswan-renewalreq", "153A488FBF162F2428863BC9DEF99E0ECF6B2E7A", "strongSwan-4", SCEP_RENEWALREQ, SCEP_DES3,
     SCEP_SHA256, false, PROBLEM_NONE},
};

static apr_pool_t *pool;
static pki_t *pki;
static scep_policy_t lenient; /* the fixture's policy, and single DES */

static int setup(void **state)
{
    (void)state;
    apr_pool_create(&pool, NULL);
    pki = pki_make(pool);
    lenient = pki->policy;
    lenient.device.ciphers |= SCEP_DES;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    apr_pool_destroy(pool);
    return 0;
}

static bytes_t fixture_read(const char *name)
{
    const char *source = getenv("ISCEP_SOURCE");
    const char *path = apr_psprintf(pool, "%s/tests/fixtures/%s", source ? source : ".", name);
    unsigned char *data = apr_palloc(pool, FILE_MAX);
    bytes_t bytes = {data, 0};
    apr_file_t *file = NULL;

    if (apr_file_open(&file, path, APR_FOPEN_READ | APR_FOPEN_BINARY, APR_FPROT_OS_DEFAULT, pool)) {
        fail_msg("cannot open %s", path);
    }
    assert_int_equal(apr_file_read_full(file, data, FILE_MAX, &bytes.len), APR_EOF);
    apr_file_close(file);
    return bytes;
}

static bytes_t message_read(const fixture_t *fixture)
{
    return fixture_read(apr_pstrcat(pool, fixture->name, ".der", NULL));
}

static const char *common_name(const X509 *certificate)
{
    char *text = apr_pcalloc(pool, 256);

    assert_true(X509_NAME_get_text_by_NID(X509_get_subject_name(certificate), NID_commonName, text, 256) > 0);
    return text;
}

/** Opens a fixture as the holder of this RA certificate and our key; it cannot succeed. */
static scep_request_t *open_as(const fixture_t *fixture, X509 *ra, const scep_policy_t *policy, problem_t problem)
{
    scep_identity_t identity = *pki->identity;
    scep_request_t *request = NULL;
    result_t *result = result_make(pool);

    identity.ra_certificate = ra;
    assert_int_equal(scep_request_open(&request, &identity, policy, message_read(fixture), pool, result), APR_EGENERAL);
    print_message("%s: %s %s\n", fixture->name, problem_facts(result->problem)->name, result->detail);
    assert_int_equal(result->problem, problem);
    assert_non_null(request);
    assert_int_equal(ERR_peek_error(), 0);
    assert_null(request->csr.der.data);
    return request;
}

/** The outer layer is what the client said it is. */
static void expect_outside(const fixture_t *fixture, const scep_request_t *request)
{
    assert_string_equal(request->transaction_id, fixture->transaction_id);
    assert_int_equal(request->sender_nonce.len, SCEP_NONCE_LENGTH);
    assert_int_equal(request->type, fixture->type);
    assert_int_equal(request->digest, fixture->digest);
    assert_non_null(request->signer);
    assert_string_equal(common_name(request->signer), fixture->signer);
    assert_int_equal(X509_NAME_cmp(X509_get_subject_name(request->signer), X509_get_issuer_name(request->signer)) == 0,
                     fixture->self_signed);
}

/** A CertRep that the RA signs and that names the client's transaction. */
static void expect_answerable(const scep_request_t *request)
{
    bytes_t body = {NULL, 0};
    pki_certrep_t *rep = NULL;

    assert_int_equal(
        scep_failure_build(&body, pki->identity, request, SCEP_BAD_MESSAGE_CHECK, NULL, pool, result_make(pool)),
        APR_SUCCESS);
    rep = pki_certrep_open(pki, body, pki->device, pki->device_key, pool);
    assert_non_null(rep);
    assert_string_equal(rep->fail_info, "1");
    assert_string_equal(rep->transaction_id, request->transaction_id);
    assert_true(bytes_equal(rep->recipient_nonce, request->sender_nonce));
}

/* For somebody else. */
static void the_outside_opens(void **state)
{
    unsigned i = 0;

    (void)state;
    for (i = 0; i < COUNT(fixtures); i++) {
        const fixture_t *fixture = &fixtures[i];
        bool renewal = fixture->type == SCEP_RENEWALREQ;
        scep_request_t *request =
            open_as(fixture, pki->ra, &lenient, renewal ? PROBLEM_BAD_SIGNER : PROBLEM_BAD_ENVELOPE);

        expect_outside(fixture, request);
        assert_int_equal(request->cipher, renewal ? 0 : fixture->cipher);
        expect_answerable(request);
    }
}

static STACK_OF(X509) * certificates_read(const char *name)
{
    const char *source = getenv("ISCEP_SOURCE");
    const char *path = apr_psprintf(pool, "%s/tests/fixtures/%s", source ? source : ".", name);
    const char *message = NULL;
    STACK_OF(X509) *certificates = NULL;

    if (scep_certificates_load(&certificates, pki->engine, path, pool, &message)) {
        fail_msg("%s", message);
    }
    return certificates;
}

/* Now the RA key has to try: what comes out is noise, and nobody is told so. */
static void the_wrong_key_gets_nothing(void **state)
{
    unsigned i = 0;

    (void)state;
    for (i = 0; i < COUNT(fixtures); i++) {
        const fixture_t *fixture = &fixtures[i];
        scep_request_t *request = NULL;

        if (fixture->type != SCEP_RENEWALREQ) {
            request = open_as(fixture, sk_X509_value(certificates_read("ra.pem"), 0), &lenient, PROBLEM_BAD_ENVELOPE);
            assert_int_equal(request->cipher, fixture->cipher);
            expect_answerable(request);
        }
    }
}

/* A key that decrypts nothing, but knows what came of it when the RA's key did. */

static bytes_t remembered;

static int remember(int len, const unsigned char *from, unsigned char *to, RSA *rsa, int padding)
{
    (void)from;
    assert_int_equal(len, RSA_size(rsa));
    assert_int_equal(padding, RSA_PKCS1_PADDING);
    memcpy(to, remembered.data, remembered.len);
    return (int)remembered.len;
}

static apr_status_t method_end(void *data)
{
    RSA_meth_free(data);
    return APR_SUCCESS;
}

static apr_status_t key_end(void *data)
{
    EVP_PKEY_free(data);
    return APR_SUCCESS;
}

/** With the modulus of the certificate, so that all lengths are right. */
static EVP_PKEY *key_that_remembers(X509 *certificate)
{
    RSA_METHOD *method = RSA_meth_dup(RSA_get_default_method());
    RSA *rsa = RSA_new();
    EVP_PKEY *key = EVP_PKEY_new();
    BIGNUM *n = NULL;
    BIGNUM *e = NULL;

    assert_true(method && rsa && key);
    assert_true(EVP_PKEY_get_bn_param(X509_get0_pubkey(certificate), "n", &n) == 1);
    assert_true(EVP_PKEY_get_bn_param(X509_get0_pubkey(certificate), "e", &e) == 1);
    assert_true(RSA_meth_set_priv_dec(method, remember) == 1 && RSA_set_method(rsa, method) == 1);
    assert_true(RSA_set0_key(rsa, n, e, NULL) == 1 && EVP_PKEY_assign_RSA(key, rsa) == 1);
    apr_pool_cleanup_register(pool, method, method_end, apr_pool_cleanup_null);
    apr_pool_cleanup_register(pool, key, key_end, apr_pool_cleanup_null);
    return key;
}

static void content_key_read(const fixture_t *fixture)
{
    bytes_t text = fixture_read(apr_pstrcat(pool, fixture->name, ".cek", NULL));
    unsigned char *bytes = apr_palloc(pool, text.len / 2);
    apr_size_t i = 0;

    for (i = 0; i < text.len / 2; i++) {
        unsigned byte = 0;

        assert_int_equal(sscanf((const char *)text.data + 2 * i, "%2x", &byte), 1);
        bytes[i] = (unsigned char)byte;
    }
    remembered.data = bytes;
    remembered.len = text.len / 2;
}

static scep_identity_t *identity_of_that_run(void)
{
    X509 *ra = sk_X509_value(certificates_read("ra.pem"), 0);
    STACK_OF(X509) *chain = certificates_read("ca.pem");
    scep_identity_t *identity = NULL;

    assert_int_equal(
        scep_identity_make(&identity, pki->engine, pki->ra, pki->ra_key, chain, NULL, pool, result_make(pool)),
        APR_SUCCESS);
    scep_identity_separate(identity, ra, key_that_remembers(ra));
    return identity;
}

/** Back to when the signer's certificate was new. */
static void clock_set(const fixture_t *fixture)
{
    X509 *signer = open_as(fixture, pki->ra, &lenient,
                           fixture->type == SCEP_RENEWALREQ ? PROBLEM_BAD_SIGNER : PROBLEM_BAD_ENVELOPE)
                       ->signer;
    struct tm tm;

    assert_int_equal(ASN1_TIME_to_tm(X509_get0_notBefore(signer), &tm), 1);
    clock_shift(0);
    clock_shift(apr_time_from_sec(timegm(&tm) + 60) - clock_now());
}

/** The certificate request is the client's: its name, the signer's key but for a renewal, one challenge of Intune's. */
static void expect_inside(const fixture_t *fixture, const scep_request_t *request)
{
    const csr_t *csr = &request->csr;
    const char *challenge = NULL;

    assert_int_equal(request->cipher, fixture->cipher);
    assert_true(csr->key_is_rsa && csr->key_bits == 2048);
    assert_int_equal(csr->challenges, 1);
    challenge = secret_reveal(csr->challenge);
    assert_true(secret_length(csr->challenge) > 4000 && !strncmp(challenge, "MII", 3));
    if (strncmp(fixture->name, "scepclient", 10)) {
        assert_string_equal(csr->subject, apr_pstrcat(pool, "CN=", fixture->signer, NULL));
    } else {
        assert_non_null(strstr(csr->subject, "CN=scepclient-"));
    }
}

static void the_whole_opens(void **state)
{
    scep_identity_t *identity = identity_of_that_run();
    unsigned i = 0;

    (void)state;
    for (i = 0; i < COUNT(fixtures); i++) {
        const fixture_t *fixture = &fixtures[i];
        scep_request_t *request = NULL;
        result_t *result = result_make(pool);
        apr_status_t rv = APR_SUCCESS;

        content_key_read(fixture);
        clock_set(fixture);
        rv = scep_request_open(&request, identity, &lenient, message_read(fixture), pool, result);
        print_message("%s: %s\n", fixture->name, result->detail ? result->detail : request->csr.subject);
        assert_int_equal(result->problem, fixture->problem);
        assert_int_equal(rv == APR_SUCCESS, fixture->problem == PROBLEM_NONE);
        expect_outside(fixture, request);
        if (fixture->problem == PROBLEM_NONE) {
            expect_inside(fixture, request);
        } else {
            /* certmonger's rekey: the new key's request is signed with the old one */
            assert_string_equal(result->detail, "the key of the certificate request is not the signer's");
        }
        /* and with another content key there is nothing */
        memset((unsigned char *)(apr_uintptr_t)remembered.data, 0x5a, remembered.len);
        assert_int_equal(
            scep_request_open(&request, identity, &lenient, message_read(fixture), pool, result = result_make(pool)),
            APR_EGENERAL);
        assert_int_equal(result->problem, PROBLEM_BAD_ENVELOPE);
        clock_shift(0);
    }
}

static void single_des_takes_a_word_of_the_operator(void **state)
{
    unsigned i = 0;

    (void)state;
    for (i = 0; i < COUNT(fixtures); i++) {
        if (fixtures[i].cipher == SCEP_DES) {
            open_as(&fixtures[i], pki->ra, &pki->policy, PROBLEM_BAD_ALGORITHM);
        }
    }
}

/* One changed bit in the middle, and the outer layer says so. */
static void a_changed_fixture_does_not_verify(void **state)
{
    unsigned i = 0;

    (void)state;
    for (i = 0; i < COUNT(fixtures); i++) {
        bytes_t der = message_read(&fixtures[i]);
        unsigned char *changed = apr_pmemdup(pool, der.data, der.len);
        scep_request_t *request = NULL;
        result_t *result = result_make(pool);

        changed[der.len / 2] ^= 1;
        der.data = changed;
        assert_int_equal(scep_request_open(&request, pki->identity, &lenient, der, pool, result), APR_EGENERAL);
        print_message("%s: %s\n", fixtures[i].name, problem_facts(result->problem)->name);
        assert_int_equal(result->problem, PROBLEM_BAD_SIGNATURE);
    }
}

static void the_query_holds_the_message(void **state)
{
    bytes_t text = fixture_read("certmonger-pkcsreq.query");
    bytes_t wanted = fixture_read("certmonger-pkcsreq.der");
    char *query = apr_pstrmemdup(pool, (const char *)text.data, text.len);
    const char *message = NULL;
    bytes_t der = {NULL, 0};

    (void)state;
    query[strcspn(query, "\n")] = '\0';
    assert_int_equal(scep_query_parse(query, &message, pool), SCEP_OP_PKIOPERATION);
    assert_int_equal(scep_get_message_decode(&der, message, 131072, pool), APR_SUCCESS);
    assert_true(bytes_equal(der, wanted));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_outside_opens),
        cmocka_unit_test(the_whole_opens),
        cmocka_unit_test(the_wrong_key_gets_nothing),
        cmocka_unit_test(single_des_takes_a_word_of_the_operator),
        cmocka_unit_test(a_changed_fixture_does_not_verify),
        cmocka_unit_test(the_query_holds_the_message),
    };
    int failed = 0;

    pki_global_init();
    failed = cmocka_run_group_tests(tests, setup, teardown);
    pki_global_end();
    return failed;
}
