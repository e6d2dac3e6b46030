/* SPDX-License-Identifier: Apache-2.0 */
/* GetCert and GetCRL through scep/: who may ask, what the CA gets, what of its answers the device gets. */
#include "pki_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <apr_strings.h>
#include <cmocka.h>
#include <openssl/err.h>
#include <openssl/objects.h>

static apr_pool_t *pool;
static pki_t *pki;
static X509 *holder;
static X509 *wanted;

static X509 *leaf(long serial, X509 *issuer, EVP_PKEY *issuer_key)
{
    pki_certificate_t certificate = {
        .subject = "leaf", .key = pki->device_key, .issuer = issuer, .issuer_key = issuer_key, .serial = serial};

    return pki_certificate_make(pki, &certificate);
}

static int setup(void **state)
{
    (void)state;
    apr_pool_create(&pool, NULL);
    pki = pki_make(pool);
    holder = leaf(0x51, pki->ca, pki->ca_key);
    wanted = leaf(0xabc, pki->ca, pki->ca_key);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    apr_pool_destroy(pool);
    return 0;
}

static pki_message_t asking(const char *type)
{
    pki_message_t message = pki_request(pki, pki_inquiry_make(wanted, pool));

    message.type = type;
    message.signer = holder;
    return message;
}

static scep_request_t *open_expecting(const char *name, const pki_message_t *message, problem_t problem)
{
    scep_request_t *request = NULL;
    result_t *result = result_make(pool);
    apr_status_t status =
        scep_request_open(&request, pki->identity, &pki->policy, pki_message_make(pki, message, pool), pool, result);

    print_message("%s: %s %s\n", name, problem_facts(result->problem)->name, result->detail ? result->detail : "");
    assert_int_equal(result->problem, problem);
    assert_int_equal(status, problem ? APR_EGENERAL : APR_SUCCESS);
    assert_int_equal(ERR_peek_error(), 0);
    assert_non_null(request);
    return request;
}

static void who_may_ask(void **state)
{
    static const char *const types[] = {"21", "22"};
    pki_certificate_t issued = {
        .subject = "device", .key = pki->device_key, .issuer = pki->ca, .issuer_key = pki->ca_key};
    pki_certificate_t expired = issued;
    pki_certificate_t forged = issued;
    unsigned i = 0;

    (void)state;
    expired.from = -1000;
    expired.until = -100;
    forged.issuer_key = pki->other_key;
    for (i = 0; i < 2; i++) {
        pki_message_t message = asking(types[i]);
        scep_request_t *request = open_expecting("ok/a holder", &message, PROBLEM_NONE);

        assert_string_equal(request->inquiry.serial, "0ABC");
        assert_string_equal(request->inquiry.issuer, "CN=issuing CA");
        assert_null(request->csr.der.data);
        message.signer = pki->device;
        open_expecting("fail/self-signed", &message, PROBLEM_BAD_SIGNER);
        message.signer = pki_certificate_make(pki, &expired);
        open_expecting("fail/expired", &message, PROBLEM_BAD_SIGNER);
        message.signer = pki_certificate_make(pki, &forged);
        open_expecting("fail/forged", &message, PROBLEM_BAD_SIGNER);
        message.signer = pki->ra;
        message.signer_key = pki->ra_key;
        open_expecting("fail/the RA's own", &message, PROBLEM_BAD_SIGNER);
    }
}

/* One answer for whatever is not right within the envelope, as for a CSR. */
static void contents(void **state)
{
    pki_csr_t csr = {.key = pki->device_key};
    bytes_t good = pki_inquiry_make(wanted, pool);
    unsigned char *longer = apr_pcalloc(pool, good.len + 1);
    struct {
        const char *name;
        bytes_t plain;
    } cases[] = {{"fail/a CSR", pki_csr_make(pki, &csr, pool)},  {"fail/nothing", {NULL, 0}},
                 {"fail/text", bytes_of_text("hello")},          {"fail/a byte short", {good.data, good.len - 1}},
                 {"fail/a byte behind", {longer, good.len + 1}}, {"fail/no name", {NULL, 0}}};
    pki_message_t message = asking("21");
    unsigned i = 0;

    (void)state;
    memcpy(longer, good.data, good.len);
    cases[5].plain.data = (const unsigned char *)"\x30\x05\x30\x00\x02\x01\x01";
    cases[5].plain.len = 7;
    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        message.plain = cases[i].plain;
        open_expecting(cases[i].name, &message, PROBLEM_BAD_ENVELOPE);
    }
    message = asking("21");
    message.plain = pki_inquiry_make(pki->ca, pool);
    open_expecting("ok/of the root", &message, PROBLEM_NONE);
    message.plain = pki_inquiry_make(pki->other, pool);
    open_expecting("fail/of a CA that is not in the chain", &message, PROBLEM_BAD_ENVELOPE);
    message = asking("21");
    message.recipient = pki->other;
    open_expecting("fail/other recipient", &message, PROBLEM_BAD_ENVELOPE);
}

static scep_relay_t *relay_for(const char *type, scep_request_t **request)
{
    pki_message_t message = asking(type);
    scep_algorithms_t use = {SCEP_AES128, SCEP_SHA256};
    scep_relay_t *relay = NULL;

    *request = open_expecting("ok/asked", &message, PROBLEM_NONE);
    assert_int_equal(scep_relay_build(&relay, pki->identity, *request, use, pool, result_make(pool)), APR_SUCCESS);
    return relay;
}

/* The message to the CA, opened as the CA would: the RA's, of the same type, with the same question. */
static void relayed(void **state)
{
    static const scep_message_type_t types[] = {SCEP_GETCERT, SCEP_GETCRL};
    scep_identity_t ca = *pki->identity;
    unsigned i = 0;

    (void)state;
    ca.ra_certificate = ca.device_certificate = pki->ca;
    ca.ra_key = ca.device_key = pki->ca_key;
    for (i = 0; i < 2; i++) {
        scep_request_t *request = NULL;
        scep_request_t *opened = NULL;
        scep_relay_t *relay = relay_for(types[i] == SCEP_GETCERT ? "21" : "22", &request);

        assert_int_equal(scep_request_open(&opened, &ca, &pki->policy, relay->body, pool, result_make(pool)),
                         APR_SUCCESS);
        assert_int_equal(opened->type, types[i]);
        assert_int_equal(relay->type, types[i]);
        assert_true(bytes_equal(opened->inquiry.der, request->inquiry.der));
        assert_true(bytes_equal(opened->inquiry.der, pki_inquiry_make(wanted, pool)));
        assert_int_equal(X509_cmp(opened->signer, pki->ra), 0);
        assert_string_equal(opened->transaction_id, request->transaction_id);
        assert_false(bytes_equal(opened->sender_nonce, request->sender_nonce));
        assert_true(bytes_equal(opened->sender_nonce, relay->sender_nonce));
    }
}

static scep_answer_t *answer_expecting(const char *name, const scep_relay_t *relay, bytes_t inner, problem_t problem)
{
    pki_message_t message = pki_answer(pki, relay, inner);
    scep_answer_t *answer = NULL;
    result_t *result = result_make(pool);

    scep_answer_open(&answer, pki->identity, &pki->policy, relay, pki_message_make(pki, &message, pool), pool, result);
    print_message("%s: %s %s\n", name, problem_facts(result->problem)->name, result->detail ? result->detail : "");
    assert_int_equal(result->problem, problem);
    assert_int_equal(ERR_peek_error(), 0);
    assert_true(!problem || (!answer->certificate && !answer->crl.len));
    return answer;
}

static void certificates_from_the_ca(void **state)
{
    pki_certificate_t expired = {.subject = "leaf",
                                 .key = pki->other_key,
                                 .issuer = pki->ca,
                                 .issuer_key = pki->ca_key,
                                 .serial = 0xabc,
                                 .from = -1000,
                                 .until = -100};
    scep_request_t *request = NULL;
    scep_relay_t *relay = relay_for("21", &request);
    bytes_t good = pki_degenerate_make(pki, pki->ca, wanted, NULL, pool);
    X509 *past = pki_certificate_make(pki, &expired);
    scep_answer_t *answer = answer_expecting("ok/with the CA's", relay, good, PROBLEM_NONE);
    pki_certrep_t *rep = NULL;
    bytes_t body;

    (void)state;
    assert_int_equal(X509_cmp(answer->certificate, wanted), 0);
    assert_string_equal(answer->facts.serial, "0ABC");
    assert_int_equal(scep_success_build(&body, pki->identity, request, answer->certificate, pool, result_make(pool)),
                     APR_SUCCESS);
    rep = pki_certrep_open(pki, body, holder, pki->device_key, pool);
    assert_non_null(rep);
    assert_string_equal(rep->status, "0");
    assert_int_equal(sk_X509_num(rep->certificates), 1);
    assert_int_equal(X509_cmp(sk_X509_value(rep->certificates, 0), wanted), 0);
    assert_true(bytes_equal(rep->recipient_nonce, request->sender_nonce));
    answer_expecting("ok/expired", relay, pki_degenerate_make(pki, past, NULL, NULL, pool), PROBLEM_NONE);
    answer_expecting("fail/another serial", relay, pki_degenerate_make(pki, holder, NULL, NULL, pool),
                     PROBLEM_CA_WRONG_OBJECT);
    answer_expecting("fail/another issuer", relay,
                     pki_degenerate_make(pki, leaf(0xabc, pki->root, pki->root_key), NULL, NULL, pool),
                     PROBLEM_CA_WRONG_OBJECT);
    answer_expecting("fail/forged", relay,
                     pki_degenerate_make(pki, leaf(0xabc, pki->ca, pki->other_key), NULL, NULL, pool),
                     PROBLEM_CA_BAD_CERTIFICATE);
    answer_expecting("fail/none", relay, pki_degenerate_make(pki, NULL, NULL, NULL, pool), PROBLEM_CA_WRONG_OBJECT);
    answer_expecting("fail/no SignedData", relay, bytes_of_text("hello"), PROBLEM_CA_GARBAGE);
}

static void lists_from_the_ca(void **state)
{
    pki_crl_t plain = {.issuer = pki->ca, .issuer_key = pki->ca_key, .from = -10, .revoked = {wanted}};
    pki_crl_t root_list = {.issuer = pki->root, .issuer_key = pki->root_key, .from = -10};
    pki_crl_t forged = plain;
    bytes_t der = pki_crl_make(pki, &plain, pool);
    bytes_t of_root = pki_crl_make(pki, &root_list, pool);
    bytes_t nothing = {NULL, 0};
    scep_request_t *request = NULL;
    scep_relay_t *relay = relay_for("22", &request);
    scep_answer_t *answer = NULL;
    pki_certrep_t *rep = NULL;
    bytes_t body;

    (void)state;
    forged.issuer_key = pki->other_key;
    answer = answer_expecting("ok/with another list and a certificate", relay,
                              pki_crl_degenerate_make(pki, of_root, der, pki->ca, pool), PROBLEM_NONE);
    assert_true(bytes_equal(answer->crl, der));
    assert_int_equal(scep_crl_success_build(&body, pki->identity, request, answer->crl, pool, result_make(pool)),
                     APR_SUCCESS);
    rep = pki_certrep_open(pki, body, holder, pki->device_key, pool);
    assert_non_null(rep);
    assert_string_equal(rep->status, "0");
    assert_int_equal(rep->crls, 1);
    assert_true(bytes_equal(rep->crl, der));
    assert_int_equal(sk_X509_num(rep->certificates), 0);
    answer_expecting("fail/another issuer's", relay, pki_crl_degenerate_make(pki, of_root, nothing, NULL, pool),
                     PROBLEM_CA_WRONG_OBJECT);
    answer_expecting("fail/two", relay, pki_crl_degenerate_make(pki, der, pki_crl_make(pki, &forged, pool), NULL, pool),
                     PROBLEM_CA_WRONG_OBJECT);
    answer_expecting("fail/forged", relay,
                     pki_crl_degenerate_make(pki, pki_crl_make(pki, &forged, pool), nothing, NULL, pool),
                     PROBLEM_CA_BAD_CERTIFICATE);
    answer_expecting("fail/a certificate instead", relay, pki_degenerate_make(pki, wanted, NULL, NULL, pool),
                     PROBLEM_CA_WRONG_OBJECT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_may_ask),       cmocka_unit_test(contents),
        cmocka_unit_test(relayed),           cmocka_unit_test(certificates_from_the_ca),
        cmocka_unit_test(lists_from_the_ca),
    };
    int failed = 0;

    pki_global_init();
    failed = cmocka_run_group_tests(tests, setup, teardown);
    pki_global_end();
    return failed;
}
