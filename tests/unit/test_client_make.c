/* SPDX-License-Identifier: Apache-2.0 */
/* What a client makes: requests, its own certificate, messages that a gateway and a CA take. */
#include "pki_fixture.h"

#include "base/clock.h"
#include "scep/client.h"
#include "scep/parts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <apr_strings.h>
#include <cmocka.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

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

static const apr_array_header_t *list(const char *first, const char *second)
{
    apr_array_header_t *made = apr_array_make(pool, 2, sizeof(const char *));
    if (first) {
        APR_ARRAY_PUSH(made, const char *) = first;
    }
    if (second) {
        APR_ARRAY_PUSH(made, const char *) = second;
    }
    return made;
}

typedef struct case_t {
    const char *name;
    const char *subject;
    const char *san;
    const char *purpose;
    const char *wanted; /* ok/: the subject in RFC 4514; fail/: words of the sentence */
} case_t;

static const case_t cases[] = {
    {"ok/plain", "/CN=device", NULL, NULL, "CN=device"},
    {"ok/two parts", "/O=Example/CN=device 1", "dns:a.example", "1.3.6.1.5.5.7.3.2", "CN=device 1,O=Example"},
    {"ok/escaped slash", "/CN=a\\/b", NULL, NULL, "CN=a/b"},
    {"ok/UTF-8", "/CN=Ger\xc3\xa4t", "upn:j\xc3\xbcrgen@example.org", NULL, "CN=Ger\xc3\xa4t"},
    {"ok/none", "", "email:a@b", NULL, ""},
    {"ok/addresses", "/CN=x", "ip:192.0.2.1", "clientAuth", "CN=x"},
    {"ok/URI", "/CN=x", "URI:urn:uuid:1", NULL, "CN=x"},
    {"fail/no slash", "CN=device", NULL, NULL, "must look like"},
    {"fail/no value", "/CN", NULL, NULL, "\"CN\" cannot be used"},
    {"fail/unknown attribute", "/XYZ=1", NULL, NULL, "\"XYZ\" cannot be used"},
    {"fail/alternative name", "/CN=x", "phone:1", NULL, "\"phone:1\" must be dns:"},
    {"fail/empty alternative name", "/CN=x", "dns:", NULL, "\"dns:\" must be"},
    {"fail/address", "/CN=x", "ip:none", NULL, "\"ip:none\" must be"},
    {"fail/purpose", "/CN=x", NULL, "no such", "\"no such\" is no object identifier"},
};

static void requests_say_what_is_wished(void **state)
{
    (void)state;
    for (unsigned i = 0; i < COUNT(cases); i++) {
        const case_t *one = &cases[i];
        scep_wish_t wish = {.subject = one->subject,
                            .names = list(one->san, NULL),
                            .challenge = secret_make(pool, "secret", 6),
                            .usage = CLIENT_SIGNS,
                            .purposes = list(one->purpose, NULL)};
        csr_t csr;
        const char *why = NULL;
        apr_status_t rv = scep_client_csr_make(&csr, pki->engine, pki->device_key, &wish, pool, &why);
        print_message("%s: %s\n", one->name, why ? why : csr.subject);
        assert_int_equal(ERR_peek_error(), 0);
        assert_int_equal(rv == APR_SUCCESS, !strncmp(one->name, "ok/", 3));
        if (rv) {
            assert_non_null(strstr(why, one->wanted));
            continue;
        }
        assert_string_equal(csr.subject, one->wanted);
        assert_int_equal(csr.challenges, 1);
        assert_string_equal(secret_reveal(csr.challenge), "secret");
    }
}

static X509_REQ *request_of(const csr_t *csr)
{
    const unsigned char *at = csr->der.data;
    X509_REQ *request = d2i_X509_REQ(NULL, &at, (long)csr->der.len);
    assert_non_null(request);
    return request;
}

static void extensions_are_asked_for(void **state)
{
    scep_wish_t wish = {.subject = "/CN=x",
                        .names = list("dns:a.example", "upn:u@example.org"),
                        .usage = CLIENT_SIGNS | CLIENT_DECRYPTS,
                        .purposes = list("1.3.6.1.5.5.7.3.2", "1.3.6.1.4.1.311.20.2.1")};
    csr_t csr;
    const char *why = NULL;
    (void)state;
    assert_int_equal(scep_client_csr_make(&csr, pki->engine, pki->device_key, &wish, pool, &why), APR_SUCCESS);
    assert_null(csr.challenge);
    X509_REQ *request = request_of(&csr);
    STACK_OF(X509_EXTENSION) *extensions = X509_REQ_get_extensions(request);
    ASN1_BIT_STRING *usage = X509V3_get_d2i(extensions, NID_key_usage, NULL, NULL);
    GENERAL_NAMES *names = X509V3_get_d2i(extensions, NID_subject_alt_name, NULL, NULL);
    EXTENDED_KEY_USAGE *purposes = X509V3_get_d2i(extensions, NID_ext_key_usage, NULL, NULL);
    assert_true(usage && names && purposes);
    assert_true(ASN1_BIT_STRING_get_bit(usage, 0) && ASN1_BIT_STRING_get_bit(usage, 2));
    assert_false(ASN1_BIT_STRING_get_bit(usage, 1));
    assert_int_equal(sk_GENERAL_NAME_num(names), 2);
    assert_int_equal(sk_ASN1_OBJECT_num(purposes), 2);
    ASN1_BIT_STRING_free(usage);
    GENERAL_NAMES_free(names);
    EXTENDED_KEY_USAGE_free(purposes);
    sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
    X509_REQ_free(request);
}

static void a_challenge_that_is_not_printable_goes_as_utf8(void **state)
{
    scep_wish_t wish = {.subject = "/CN=x", .challenge = secret_make(pool, "\xc3\xa4@", 3)};
    csr_t csr;
    const char *why = NULL;
    (void)state;
    assert_int_equal(scep_client_csr_make(&csr, pki->engine, pki->device_key, &wish, pool, &why), APR_SUCCESS);
    assert_string_equal(secret_reveal(csr.challenge), "\xc3\xa4@");
}

typedef struct client_t {
    csr_t csr;
    X509 *signer;
    EVP_PKEY *key;
    scep_identity_t *identity;
} client_t;

/* Towards whoever has this certificate (the recipient and signer), below the fixture's chain. */
static client_t client_make(X509 *peer)
{
    client_t client = {.key = scep_client_key_make(pki->engine, 2048, pool)};
    scep_wish_t wish = {.subject = "/CN=client", .challenge = secret_make(pool, "c", 1)};
    STACK_OF(X509) *backend = sk_X509_new_null();
    const char *why = NULL;
    assert_non_null(client.key);
    assert_true(backend && sk_X509_push(backend, peer) > 0);
    assert_int_equal(scep_client_csr_make(&client.csr, pki->engine, client.key, &wish, pool, &why), APR_SUCCESS);
    assert_int_equal(scep_client_signer_make(&client.signer, pki->engine, client.key, &client.csr, pool, &why),
                     APR_SUCCESS);
    assert_int_equal(scep_identity_make(&client.identity, pki->engine, client.signer, client.key, pki->chain, backend,
                                        pool, result_make(pool)),
                     APR_SUCCESS);
    sk_X509_free(backend);
    return client;
}

static void a_signer_signs_itself(void **state)
{
    client_t client = client_make(pki->ra);
    scep_wish_t nameless = {.subject = ""};
    csr_t csr;
    X509 *signer = NULL;
    const char *why = NULL;
    (void)state;
    assert_int_equal(X509_verify(client.signer, X509_get0_pubkey(client.signer)), 1);
    assert_null(scep_validity_check(client.signer, clock_now(), pool));
    assert_null(scep_ra_usage_check(client.signer, RA_DOES_BOTH, pool));
    assert_string_equal(scep_name_print(X509_get_subject_name(client.signer), pool), "CN=client");
    assert_int_equal(scep_client_csr_make(&csr, pki->engine, client.key, &nameless, pool, &why), APR_SUCCESS);
    assert_int_equal(scep_client_signer_make(&signer, pki->engine, client.key, &csr, pool, &why), APR_SUCCESS);
    assert_string_equal(scep_name_print(X509_get_issuer_name(signer), pool), "CN=SCEP client");
    assert_true(X509_cmp(signer, client.signer) != 0);
    assert_int_equal(ERR_peek_error(), 0);
}

/* From the client through the gateway's own reader, and the gateway's answer back to the client. */
static void a_gateway_takes_the_message_and_the_client_its_answer(void **state)
{
    static const bool OAEP[] = {false, true};
    (void)state;
    for (unsigned i = 0; i < COUNT(OAEP); i++) {
        client_t client = client_make(pki->ra);
        scep_ask_t ask = {SCEP_PKCSREQ, "transaction-1", &client.csr, {SCEP_AES256, SCEP_SHA512}, OAEP[i]};
        scep_relay_t *relay = NULL;
        scep_request_t *request = NULL;
        scep_answer_t *answer = NULL;
        result_t *result = result_make(pool);
        bytes_t body = {NULL, 0};
        pki_certificate_t wanted = {
            .subject = "client", .key = client.key, .issuer = pki->ca, .issuer_key = pki->ca_key};
        assert_int_equal(scep_ask_build(&relay, client.identity, &ask, pool, result), APR_SUCCESS);
        assert_int_equal(scep_request_open(&request, pki->identity, &pki->policy, relay->body, pool, result),
                         APR_SUCCESS);
        assert_int_equal(request->type, SCEP_PKCSREQ);
        assert_int_equal(request->cipher, SCEP_AES256);
        assert_int_equal(request->digest, SCEP_SHA512);
        assert_true(bytes_equal(request->csr.der, client.csr.der));
        assert_int_equal(
            scep_success_build(&body, pki->identity, request, pki_certificate_make(pki, &wanted), pool, result),
            APR_SUCCESS);
        assert_int_equal(scep_answer_open(&answer, client.identity, &pki->policy, relay, body, pool, result),
                         APR_SUCCESS);
        assert_int_equal(answer->status, SCEP_SUCCESS);
        assert_non_null(answer->certificate);
        assert_int_equal(ERR_peek_error(), 0);
    }
}

static void a_renewal_is_signed_by_the_old_certificate(void **state)
{
    client_t client = client_make(pki->ra);
    pki_certificate_t old = {.subject = "old", .key = pki->device_key, .issuer = pki->ca, .issuer_key = pki->ca_key};
    scep_ask_t ask = {SCEP_RENEWALREQ, "renewal-1", &client.csr, {SCEP_AES128, SCEP_SHA256}, false};
    scep_relay_t *relay = NULL;
    scep_request_t *request = NULL;
    scep_identity_t *identity = apr_pmemdup(pool, client.identity, sizeof(*identity));
    result_t *result = result_make(pool);
    (void)state;
    identity->ra_certificate = pki_certificate_make(pki, &old);
    identity->ra_key = pki->device_key;
    assert_int_equal(scep_ask_build(&relay, identity, &ask, pool, result), APR_SUCCESS);
    assert_int_equal(scep_request_open(&request, pki->identity, &pki->policy, relay->body, pool, result), APR_SUCCESS);
    assert_int_equal(request->type, SCEP_RENEWALREQ);
}

static void keys_and_certificates_are_printed(void **state)
{
    bytes_t key = scep_client_key_print(pki->device_key, pool);
    bytes_t certificate = scep_client_certificate_print(pki->device, pool);
    BIO *bio = NULL;
    X509 *read = NULL;
    (void)state;
    assert_true(key.len > 22 && !memcmp(key.data, "-----BEGIN PRIVATE KEY", 22)); /* PKCS #8, not encrypted */
    bio = BIO_new_mem_buf(certificate.data, (int)certificate.len);
    read = X509_new_ex(pki->engine->context, NULL);
    assert_non_null(PEM_read_bio_X509(bio, &read, NULL, NULL));
    assert_int_equal(X509_cmp(read, pki->device), 0);
    X509_free(read);
    BIO_free(bio);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_say_what_is_wished),
        cmocka_unit_test(extensions_are_asked_for),
        cmocka_unit_test(a_challenge_that_is_not_printable_goes_as_utf8),
        cmocka_unit_test(a_signer_signs_itself),
        cmocka_unit_test(a_gateway_takes_the_message_and_the_client_its_answer),
        cmocka_unit_test(a_renewal_is_signed_by_the_old_certificate),
        cmocka_unit_test(keys_and_certificates_are_printed),
    };
    int failed = 0;

    pki_global_init();
    failed = cmocka_run_group_tests(tests, setup, teardown);
    pki_global_end();
    return failed;
}
