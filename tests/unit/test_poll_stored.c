/* SPDX-License-Identifier: Apache-2.0 */
/* What a journal has stored put into messages again: the gateway's own CertPoll and PKCSReq, a device's certificate. */
#include "pki_fixture.h"

#include "scep/message_cms.h"
#include "scep/parts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <apr_strings.h>
#include <cmocka.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/objects.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* T61String and BMPString in one RDN, in the order that DER does not have. */
#define ODD_NAME "\x30\x17\x31\x15\x30\x09\x06\x03\x55\x04\x0a\x1e\x02\x00\x62\x30\x08\x06\x03\x55\x04\x03\x14\x01\x61"

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

static bytes_t odd_name(void)
{
    bytes_t bytes = {(const unsigned char *)ODD_NAME, sizeof(ODD_NAME) - 1};

    return bytes;
}

static scep_request_t *open_as(const scep_identity_t *identity, const char *name, bytes_t der)
{
    scep_request_t *request = NULL;
    result_t *result = result_make(pool);
    apr_status_t status = scep_request_open(&request, identity, &pki->policy, der, pool, result);

    pki_look(pki, der);

    print_message("%s: %s %s\n", name, problem_facts(result->problem)->name, result->detail ? result->detail : "");
    assert_int_equal(result->problem, PROBLEM_NONE);
    assert_int_equal(status, APR_SUCCESS);
    assert_int_equal(ERR_peek_error(), 0);
    assert_non_null(request);
    return request;
}

/* A device's CertPoll, opened. */
static scep_request_t *poll(const char *cipher, const char *digest)
{
    pki_message_t message = pki_request(
        pki, pki_poll_make(X509_get_subject_name(pki->ca), X509_get_subject_name(pki->device), pool));

    message.type = "20";
    message.cipher = cipher;
    message.digest = digest;
    return open_as(pki->identity, "ok/CertPoll", pki_message_make(pki, &message, pool));
}

static X509 *issued(EVP_PKEY *key, long until)
{
    pki_certificate_t wanted = {.subject = "device",
                                .key = key,
                                .issuer = pki->ca,
                                .issuer_key = pki->ca_key,
                                .from = until < 0 ? until - 1000 : 0,
                                .until = until};

    return pki_certificate_make(pki, &wanted);
}

/* A CSR whose subject stands there as the bytes say, as it comes out of a journal. */
static csr_t stored_csr(EVP_PKEY *key, bytes_t name)
{
    const unsigned char *at = name.data;
    X509_NAME *subject = d2i_X509_NAME(NULL, &at, (long)name.len);
    X509_REQ *request = X509_REQ_new_ex(pki->engine->context, NULL);
    EVP_MD *digest = EVP_MD_fetch(pki->engine->context, "SHA-256", NULL);
    BIO *out = BIO_new(BIO_s_mem());
    csr_t opened;
    const char *why = NULL;

    must(subject && request && digest && out && X509_REQ_set_subject_name(request, subject));
    must(X509_REQ_set_pubkey(request, key) && X509_REQ_sign(request, key, digest) && i2d_X509_REQ_bio(out, request));
    assert_int_equal(csr_open(&opened, pki->engine, pki_bio_take(out, pool), pool, &why), APR_SUCCESS);
    assert_true(bytes_equal(opened.subject_der, name));
    X509_NAME_free(subject);
    X509_REQ_free(request);
    EVP_MD_free(digest);
    return opened;
}

/* The CA's view: it is as good a recipient as a gateway. */
static scep_request_t *open_as_ca(const char *name, bytes_t der)
{
    scep_identity_t ca = *pki->identity;

    ca.ra_certificate = ca.device_certificate = pki->ca;
    ca.ra_key = ca.device_key = pki->ca_key;
    return open_as(&ca, name, der);
}

static scep_relay_t *own_poll(const csr_t *of, scep_algorithms_t use)
{
    scep_relay_t *relay = NULL;

    assert_int_equal(scep_poll_build(&relay, pki->identity, "transaction 1", of, use, pool, result_make(pool)),
                     APR_SUCCESS);
    assert_int_equal(ERR_peek_error(), 0);
    return relay;
}

/* What it holds, read as the CA reads it. */
static scep_poll_t poll_for_ca(bytes_t der)
{
    outer_t outer = {.cms = NULL};
    scep_poll_t read = {.issuer = NULL};
    const char *why = NULL;
    CMS_ContentInfo *envelope = NULL;
    BIO *plain = NULL;

    assert_null(scep_outer_read(&outer, pki->engine, der, pool));
    envelope = scep_envelope_read(pki->engine, outer.content);
    plain = scep_envelope_decrypt(envelope, pki->engine, pki->ca, pki->ca_key, &why);
    assert_null(scep_poll_open(&read, scep_bio_peek(plain), pool));
    BIO_free(plain);
    CMS_ContentInfo_free(envelope);
    CMS_ContentInfo_free(outer.cms);
    return read;
}

static void own_polls(void **state)
{
    static const unsigned char issuer[] = "\x30\x15\x31\x13\x30\x11\x06\x03\x55\x04\x03\x0c\x0aissuing CA";
    scep_algorithms_t use = {SCEP_AES256, SCEP_SHA512};
    scep_algorithms_t unset = {0, 0};
    csr_t of = stored_csr(pki->device_key, odd_name());
    scep_relay_t *relay = own_poll(&of, use);
    scep_relay_t *second = own_poll(&of, unset);
    scep_request_t *opened = open_as_ca("ok/the gateway's own", relay->body);
    scep_poll_t read = poll_for_ca(relay->body);
    bytes_t content = read.der;
    apr_size_t issuer_len = sizeof(issuer) - 1;
    result_t *result = result_make(pool);
    csr_t nothing = {.challenges = 0};

    (void)state;
    assert_int_equal(relay->type, SCEP_CERTPOLL);
    assert_true(bytes_equal(relay->spki, of.spki));
    assert_string_equal(relay->transaction_id, "transaction 1");
    assert_int_equal(relay->sender_nonce.len, SCEP_NONCE_LENGTH);
    assert_false(bytes_equal(relay->sender_nonce, second->sender_nonce));
    assert_int_equal(opened->type, SCEP_CERTPOLL);
    assert_string_equal(opened->transaction_id, "transaction 1");
    assert_true(bytes_equal(opened->sender_nonce, relay->sender_nonce));
    assert_int_equal(X509_cmp(opened->signer, pki->ra), 0);
    assert_int_equal(opened->cipher, SCEP_AES256);
    assert_int_equal(opened->digest, SCEP_SHA512);
    assert_string_equal(read.issuer, "CN=issuing CA");
    assert_non_null(strstr(read.subject, "CN=a"));
    assert_int_equal(content.len, 2 + issuer_len + odd_name().len);
    assert_memory_equal(content.data, "\x30\x30", 2);
    assert_memory_equal(content.data + 2, issuer, issuer_len);
    assert_memory_equal(content.data + 2 + issuer_len, ODD_NAME, odd_name().len);
    assert_int_equal(scep_poll_build(&relay, pki->identity, "transaction 1", &nothing, use, pool, result),
                     APR_EGENERAL);
    assert_int_equal(result->problem, PROBLEM_INTERNAL);
    assert_null(relay);
}

static scep_answer_t *answer_expecting(const char *name, const scep_relay_t *relay, const pki_message_t *message,
                                       problem_t problem)
{
    scep_answer_t *answer = NULL;
    result_t *result = result_make(pool);

    scep_answer_open(&answer, pki->identity, &pki->policy, relay, pki_message_make(pki, message, pool), pool, result);
    print_message("%s: %s %s\n", name, problem_facts(result->problem)->name, result->detail ? result->detail : "");
    assert_int_equal(result->problem, problem);
    assert_int_equal(ERR_peek_error(), 0);
    assert_true(!problem || !answer->certificate);
    return answer;
}

/* Held against the CSR, as the answer to a PKCSReq is. */
static void answers_to_own_polls(void **state)
{
    scep_algorithms_t use = {SCEP_AES128, SCEP_SHA256};
    csr_t of = stored_csr(pki->device_key, odd_name());
    scep_relay_t *relay = own_poll(&of, use);
    X509 *leaf = issued(pki->device_key, 1000);
    pki_message_t good = pki_answer(pki, relay, pki_degenerate_make(pki, pki->ca, leaf, NULL, pool));
    pki_message_t message = good;
    scep_answer_t *answer = answer_expecting("ok/SUCCESS", relay, &message, PROBLEM_NONE);

    (void)state;
    assert_int_equal(answer->status, SCEP_SUCCESS);
    assert_int_equal(X509_cmp(answer->certificate, leaf), 0);
    message.plain = pki_degenerate_make(pki, issued(pki->other_key, 1000), NULL, NULL, pool);
    answer_expecting("fail/another key", relay, &message, PROBLEM_CA_WRONG_KEY);
    message.plain = pki_degenerate_make(pki, leaf, issued(pki->device_key, 1000), NULL, pool);
    answer_expecting("fail/two with the key", relay, &message, PROBLEM_CA_WRONG_KEY);
    message.plain = pki_degenerate_make(pki, issued(pki->device_key, -1000), NULL, NULL, pool);
    answer_expecting("fail/expired", relay, &message, PROBLEM_CA_BAD_CERTIFICATE);
    message = good;
    message.transaction_id = bytes_of_text("transaction 2");
    answer_expecting("fail/another transaction", relay, &message, PROBLEM_CA_WRONG_TRANSACTION);
    message = good;
    message.recipient_nonce = bytes_of_text("0123456789abcdef");
    answer_expecting("fail/the nonce of another message", relay, &message, PROBLEM_CA_WRONG_TRANSACTION);
    message = good;
    message.no_content = true;
    message.status = "3";
    assert_int_equal(answer_expecting("ok/PENDING", relay, &message, PROBLEM_NONE)->status, SCEP_PENDING);
    message.status = "2";
    message.fail_info = "4";
    answer = answer_expecting("ok/FAILURE", relay, &message, PROBLEM_NONE);
    assert_int_equal(answer->status, SCEP_FAILURE);
    assert_int_equal(answer->fail_info, SCEP_BAD_CERT_ID);
}

/* The CSR's key is the RA's here: of any other the CA, being played by a gateway, would refuse it. */
static void a_stored_csr_again(void **state)
{
    scep_algorithms_t use = {SCEP_AES192, SCEP_SHA1};
    scep_request_t *request = poll(NULL, NULL);
    csr_t of = stored_csr(pki->ra_key, odd_name());
    scep_relay_t *relay = NULL;
    scep_request_t *opened = NULL;
    result_t *result = result_make(pool);

    (void)state;
    assert_int_equal(scep_pkcsreq_build(&relay, pki->identity, "transaction 2", &of, use, pool, result), APR_SUCCESS);
    assert_int_equal(relay->type, SCEP_PKCSREQ);
    assert_string_equal(relay->transaction_id, "transaction 2");
    assert_true(bytes_equal(relay->spki, of.spki));
    opened = open_as_ca("ok/PKCSReq", relay->body);
    assert_int_equal(opened->type, SCEP_PKCSREQ);
    assert_string_equal(opened->transaction_id, "transaction 2");
    assert_true(bytes_equal(opened->csr.der, of.der));
    assert_true(bytes_equal(opened->sender_nonce, relay->sender_nonce));
    assert_int_equal(opened->cipher, SCEP_AES192);
    assert_int_equal(opened->digest, SCEP_SHA1);
    /* A CertPoll itself has nothing for the CA. */
    assert_int_equal(scep_relay_build(&relay, pki->identity, request, use, pool, result), APR_EGENERAL);
    assert_int_equal(result->problem, PROBLEM_INTERNAL);
    assert_null(relay);
    assert_int_equal(ERR_peek_error(), 0);
}

static void a_stored_certificate(void **state)
{
    X509 *leaf = issued(pki->device_key, 1000);
    bytes_t der = pki_certificate_der(leaf, pool);
    scep_request_t *request = poll("DES-EDE3-CBC", "SHA-1");
    pki_certrep_t *rep = NULL;
    bytes_t body;

    (void)state;
    assert_int_equal(scep_stored_success_build(&body, pki->identity, request, der, pool, result_make(pool)),
                     APR_SUCCESS);
    assert_int_equal(ERR_peek_error(), 0);
    rep = pki_certrep_open(pki, body, pki->device, pki->device_key, pool);
    assert_non_null(rep);
    assert_string_equal(rep->type, "3");
    assert_string_equal(rep->status, "0");
    assert_string_equal(rep->transaction_id, request->transaction_id);
    assert_true(bytes_equal(rep->recipient_nonce, request->sender_nonce));
    assert_string_equal(rep->cipher, OBJ_nid2sn(NID_des_ede3_cbc));
    assert_string_equal(rep->digest, OBJ_nid2sn(NID_sha1));
    assert_int_equal(sk_X509_num(rep->certificates), 1);
    assert_true(bytes_equal(pki_certificate_der(sk_X509_value(rep->certificates, 0), pool), der));
}

static void a_damaged_certificate(void **state)
{
    bytes_t der = pki_certificate_der(issued(pki->device_key, 1000), pool);
    scep_request_t *request = poll(NULL, NULL);
    unsigned char *longer = apr_palloc(pool, der.len + 1);
    const unsigned char *copy = (const unsigned char *)apr_pstrmemdup(pool, (const char *)der.data, der.len);
    pki_csr_t wanted = {.key = pki->device_key};
    const struct {
        const char *name;
        bytes_t der;
    } cases[] = {{"fail/nothing", {NULL, 0}},
                 {"fail/text", bytes_of_text("hello")},
                 {"fail/a byte short", {der.data, der.len - 1}},
                 {"fail/a byte behind", {copy, der.len + 1}},
                 {"fail/a length in more bytes than it needs", {longer, der.len + 1}},
                 {"fail/a CSR", pki_csr_make(pki, &wanted, pool)}};
    unsigned i = 0;

    (void)state;
    assert_memory_equal(der.data, "\x30\x82", 2);
    memcpy(longer, "\x30\x83\x00", 3);
    memcpy(longer + 3, der.data + 2, der.len - 2);
    for (i = 0; i < COUNT(cases); i++) {
        result_t *result = result_make(pool);
        bytes_t body = {NULL, 0};

        assert_int_equal(scep_stored_success_build(&body, pki->identity, request, cases[i].der, pool, result),
                         APR_EGENERAL);
        print_message("%s: %s\n", cases[i].name, result->detail);
        assert_int_equal(result->problem, PROBLEM_INTERNAL);
        assert_int_equal(body.len, 0);
        assert_int_equal(ERR_peek_error(), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(own_polls),
        cmocka_unit_test(answers_to_own_polls),
        cmocka_unit_test(a_stored_csr_again),
        cmocka_unit_test(a_stored_certificate),
        cmocka_unit_test(a_damaged_certificate),
    };
    int failed = 0;

    pki_global_init();
    failed = cmocka_run_group_tests(tests, setup, teardown);
    pki_global_end();
    return failed;
}
