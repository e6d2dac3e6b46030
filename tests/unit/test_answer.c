/* SPDX-License-Identifier: Apache-2.0 */
/* The CA's answers: scep_answer_open(). */
#include "pki_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <apr_strings.h>
#include <cmocka.h>
#include <openssl/err.h>
#include <openssl/objects.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static apr_pool_t *pool;
static pki_t *pki;
static scep_relay_t *relay;
static X509 *issued;
static bytes_t inner;

static pki_certificate_t leaf(void)
{
    pki_certificate_t wanted = {
        .subject = "device", .key = pki->device_key, .issuer = pki->ca, .issuer_key = pki->ca_key, .serial = 0x1234};

    return wanted;
}

static int setup(void **state)
{
    pki_csr_t csr = {.key = NULL};
    pki_certificate_t wanted;
    pki_message_t message;
    scep_request_t *request = NULL;
    scep_algorithms_t use = {SCEP_AES128, SCEP_SHA256};
    result_t *result = NULL;

    (void)state;
    apr_pool_create(&pool, NULL);
    pki = pki_make(pool);
    result = result_make(pool);
    csr.key = pki->device_key;
    message = pki_request(pki, pki_csr_make(pki, &csr, pool));
    if (scep_request_open(&request, pki->identity, &pki->policy, pki_message_make(pki, &message, pool), pool, result) ||
        scep_relay_build(&relay, pki->identity, request, use, pool, result)) {
        return 1;
    }
    wanted = leaf();
    issued = pki_certificate_make(pki, &wanted);
    inner = pki_degenerate_make(pki, issued, NULL, NULL, pool);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    apr_pool_destroy(pool);
    return 0;
}

static scep_answer_t *open_bytes(const char *name, bytes_t der, problem_t problem)
{
    scep_answer_t *answer = NULL;
    result_t *result = result_make(pool);
    apr_status_t status = scep_answer_open(&answer, pki->identity, &pki->policy, relay, der, pool, result);

    pki_look(pki, der);

    print_message("%s: %s %s\n", name, problem_facts(result->problem)->name, result->detail ? result->detail : "");
    assert_int_equal(result->problem, problem);
    assert_int_equal(status, problem ? APR_EGENERAL : APR_SUCCESS);
    assert_non_null(answer);
    assert_int_equal(ERR_peek_error(), 0);
    if (problem) {
        assert_null(answer->certificate);
    }
    return answer;
}

static scep_answer_t *open_expecting(const char *name, const pki_message_t *message, problem_t problem)
{
    return open_bytes(name, pki_message_make(pki, message, pool), problem);
}

static void forms_of_success(void **state)
{
    pki_message_t good = pki_answer(pki, relay, inner);
    struct {
        const char *name;
        pki_message_t message;
    } cases[] = {{"ok/plain", good},
                 {"ok/BER", good},
                 {"ok/OAEP", good},
                 {"ok/DES and SHA-1, as micromdm answers", good},
                 {"ok/CA certificates too", good},
                 {"ok/no signer's certificate", good},
                 {"ok/no senderNonce", good},
                 {"ok/a foreign certificate outside", good},
                 {"ok/failInfo of another type, unused", good},
                 {"ok/several recipients", good},
                 {"ok/BER, OAEP, 3DES, SHA-1", good},
                 {"ok/texts as UTF8String, as Go writes some", good},
                 {"ok/texts as IA5String", good},
                 {"ok/the certificate twice", good}};
    unsigned i = 0;

    (void)state;
    cases[1].message.ber = true;
    cases[2].message.oaep = true;
    cases[3].message.cipher = "DES-CBC";
    cases[3].message.digest = "SHA-1";
    cases[4].message.plain = pki_degenerate_make(pki, pki->root, pki->ca, issued, pool);
    cases[5].message.no_certificate = true;
    cases[6].message.without = PKI_SENDER_NONCE;
    cases[7].message.extra_certificate = pki->other;
    cases[8].message.fail_info = "2";
    cases[8].message.wrong_type = PKI_FAIL_INFO;
    cases[9].message.first_recipient = pki->other;
    cases[10].message.ber = cases[10].message.oaep = true;
    cases[10].message.cipher = "DES-EDE3-CBC";
    cases[10].message.digest = "SHA-1";
    cases[11].message.texts_type = V_ASN1_UTF8STRING;
    cases[12].message.texts_type = V_ASN1_IA5STRING;
    cases[13].message.plain = pki_degenerate_make(pki, issued, pki->ca, issued, pool);
    for (i = 0; i < COUNT(cases); i++) {
        scep_answer_t *answer = open_expecting(cases[i].name, &cases[i].message, PROBLEM_NONE);

        assert_int_equal(answer->status, SCEP_SUCCESS);
        assert_int_equal(X509_cmp(answer->certificate, issued), 0);
        assert_true(bytes_equal(answer->certificate_der, pki_certificate_der(issued, pool)));
        assert_string_equal(answer->facts.serial, "1234");
        assert_string_equal(answer->facts.issuer, "CN=issuing CA");
    }
}

static void refusals(void **state)
{
    pki_message_t message = pki_answer(pki, relay, inner);
    scep_answer_t *answer = NULL;

    (void)state;
    message.status = "2";
    message.no_content = true;
    message.fail_info = "4";
    message.text = "not today \xc3\xbc";
    answer = open_expecting("ok/FAILURE with text", &message, PROBLEM_NONE);
    assert_int_equal(answer->status, SCEP_FAILURE);
    assert_int_equal(answer->fail_info, SCEP_BAD_CERT_ID);
    assert_string_equal(answer->fail_info_text, "not today \xc3\xbc");
    assert_null(answer->certificate);
    message.text = "invalid challenge password";
    message.text_type = V_ASN1_PRINTABLESTRING;
    answer = open_expecting("ok/FAILURE with text as step-ca writes it", &message, PROBLEM_NONE);
    assert_string_equal(answer->fail_info_text, "invalid challenge password");
    message.text_type = V_ASN1_OCTET_STRING;
    assert_null(open_expecting("ok/FAILURE with text of another type", &message, PROBLEM_NONE)->fail_info_text);
    message.texts_type = V_ASN1_UTF8STRING;
    answer = open_expecting("ok/FAILURE in UTF8Strings", &message, PROBLEM_NONE);
    assert_int_equal(answer->fail_info, SCEP_BAD_CERT_ID);
    message.texts_type = 0;
    message.fail_info = "0";
    message.text = NULL;
    answer = open_expecting("ok/FAILURE without text", &message, PROBLEM_NONE);
    assert_int_equal(answer->fail_info, SCEP_BAD_ALG);
    assert_null(answer->fail_info_text);
    message.fail_info = NULL;
    assert_int_equal(open_expecting("ok/FAILURE without failInfo", &message, PROBLEM_NONE)->fail_info,
                     SCEP_BAD_REQUEST);
    message.fail_info = "5";
    assert_int_equal(open_expecting("ok/unknown failInfo", &message, PROBLEM_NONE)->fail_info, SCEP_BAD_REQUEST);
    message.fail_info = "1";
    message.twice = PKI_FAIL_INFO;
    assert_int_equal(open_expecting("ok/failInfo twice", &message, PROBLEM_NONE)->fail_info, SCEP_BAD_REQUEST);
    message.twice = 0;
    message.no_content = false;
    message.content = bytes_of_text("something");
    assert_int_equal(open_expecting("ok/FAILURE with content", &message, PROBLEM_NONE)->fail_info, 1);
}

static void pending(void **state)
{
    pki_message_t message = pki_answer(pki, relay, inner);

    (void)state;
    message.status = "3";
    message.no_content = true;
    assert_int_equal(open_expecting("ok/PENDING", &message, PROBLEM_NONE)->status, SCEP_PENDING);
}

static void foreign_signers(void **state)
{
    pki_certificate_t twin = {
        .subject = "issuing CA", .key = pki->other_key, .issuer = pki->root, .issuer_key = pki->other_key};
    pki_message_t message = pki_answer(pki, relay, inner);
    pki_message_t by_ra = message;
    pki_message_t failure = message;

    (void)state;
    message.signer = pki->other;
    message.signer_key = pki->other_key;
    open_expecting("fail/stranger", &message, PROBLEM_CA_FOREIGN_SIGNER);
    twin.serial = ASN1_INTEGER_get(X509_get0_serialNumber(pki->ca));
    message.signer = pki_certificate_make(pki, &twin);
    open_expecting("fail/stranger of the CA's name and number", &message, PROBLEM_CA_FOREIGN_SIGNER);
    by_ra.signer = pki->ra;
    by_ra.signer_key = pki->ra_key;
    open_expecting("fail/the RA itself", &by_ra, PROBLEM_CA_FOREIGN_SIGNER);
    failure.status = "2";
    failure.no_content = true;
    failure.signer = pki->other;
    failure.signer_key = pki->other_key;
    open_expecting("fail/FAILURE by a stranger", &failure, PROBLEM_CA_FOREIGN_SIGNER);
}

static void a_configured_backend_certificate_may_sign(void **state)
{
    pki_message_t message = pki_answer(pki, relay, inner);
    scep_identity_t *plain = pki->identity;
    STACK_OF(X509) *backend = sk_X509_new_null();

    (void)state;
    message.signer = pki->other;
    message.signer_key = pki->other_key;
    sk_X509_push(backend, pki->other);
    assert_int_equal(scep_identity_make(&pki->identity, pki->engine, pki->ra, pki->ra_key, pki->chain, backend, pool,
                                        result_make(pool)),
                     APR_SUCCESS);
    open_expecting("ok/configured", &message, PROBLEM_NONE);
    message.signer = pki->ca;
    message.signer_key = pki->ca_key;
    open_expecting("ok/issuing CA too", &message, PROBLEM_NONE);
    pki->identity = plain;
    sk_X509_free(backend);
}

static void other_transactions(void **state)
{
    pki_message_t good = pki_answer(pki, relay, inner);
    bytes_t shorter_nonce = {relay->sender_nonce.data, relay->sender_nonce.len - 1};
    struct {
        const char *name;
        pki_message_t message;
    } cases[] = {{"fail/other transactionID", good},
                 {"fail/prefix of it", good},
                 {"fail/longer", good},
                 {"fail/none", good},
                 {"fail/twice", good},
                 {"fail/of another type", good},
                 {"fail/other nonce", good},
                 {"fail/prefix of nonce", good},
                 {"fail/no nonce", good},
                 {"fail/nonce twice", good},
                 {"fail/nonce of another type", good}};
    unsigned i = 0;

    (void)state;
    cases[0].message.transaction_id = bytes_of_text("another");
    cases[1].message.transaction_id.len--;
    cases[2].message.transaction_id = bytes_of_text(apr_pstrcat(pool, relay->transaction_id, "x", NULL));
    cases[3].message.without = PKI_TRANSACTION_ID;
    cases[4].message.twice = PKI_TRANSACTION_ID;
    cases[5].message.wrong_type = PKI_TRANSACTION_ID;
    cases[6].message.recipient_nonce = bytes_of_text("0123456789abcdef");
    cases[7].message.recipient_nonce = shorter_nonce;
    cases[8].message.without = PKI_RECIPIENT_NONCE;
    cases[9].message.twice = PKI_RECIPIENT_NONCE;
    cases[10].message.wrong_type = PKI_RECIPIENT_NONCE;
    for (i = 0; i < COUNT(cases); i++) {
        open_expecting(cases[i].name, &cases[i].message, PROBLEM_CA_WRONG_TRANSACTION);
        cases[i].message.status = "2";
        cases[i].message.no_content = true;
        open_expecting("  with FAILURE", &cases[i].message, PROBLEM_CA_WRONG_TRANSACTION);
    }
}

static void garbage(void **state)
{
    pki_message_t good = pki_answer(pki, relay, inner);
    pki_csr_t csr = {.key = pki->device_key};
    struct {
        const char *name;
        pki_message_t message;
    } cases[] = {{"fail/a request", good},
                 {"fail/no messageType", good},
                 {"fail/no pkiStatus", good},
                 {"fail/pkiStatus 1", good},
                 {"fail/pkiStatus 00", good},
                 {"fail/pkiStatus twice", good},
                 {"fail/no content", good},
                 {"fail/text for envelope", good},
                 {"fail/not encrypted", good},
                 {"fail/for another", good},
                 {"fail/a CSR inside", good},
                 {"fail/empty inside", good},
                 {"fail/cipher not allowed", good},
                 {"fail/MD5", good},
                 {"fail/two signers", good},
                 {"fail/inner type", good},
                 {"fail/a byte behind the inner", good},
                 {"fail/texts as T61String", good},
                 {"fail/relative names", good}};
    pki_certificate_t swelling = leaf();
    unsigned char *longer = apr_pcalloc(pool, inner.len + 1);
    unsigned i = 0;

    (void)state;
    memcpy(longer, inner.data, inner.len);
    cases[0].message.type = "19";
    cases[1].message.without = PKI_MESSAGE_TYPE;
    cases[2].message.status = NULL;
    cases[3].message.status = "1";
    cases[4].message.status = "00";
    cases[5].message.twice = PKI_STATUS;
    cases[6].message.no_content = true;
    cases[7].message.content = bytes_of_text("hello");
    cases[8].message.content = inner;
    cases[9].message.recipient = pki->other;
    cases[10].message.plain = pki_csr_make(pki, &csr, pool);
    cases[11].message.plain.len = 0;
    cases[12].message.cipher = "CAMELLIA-128-CBC";
    cases[13].message.digest = "MD5";
    cases[14].message.two_signers = true;
    cases[15].message.inner_type = NID_pkcs7_signed;
    cases[16].message.plain.data = longer;
    cases[16].message.plain.len = inner.len + 1;
    cases[17].message.texts_type = V_ASN1_T61STRING;
    swelling.relative_points = 5000;
    cases[18].message.plain = pki_degenerate_make(pki, pki_certificate_make(pki, &swelling), NULL, NULL, pool);
    for (i = 0; i < COUNT(cases); i++) {
        assert_null(open_expecting(cases[i].name, &cases[i].message, PROBLEM_CA_GARBAGE)->facts.serial);
    }
    open_bytes("fail/HTML", bytes_of_text("<html>"), PROBLEM_CA_GARBAGE);
    open_bytes("fail/degenerate", inner, PROBLEM_CA_GARBAGE);
}

/* With indefinite lengths wherever BER lets them be; `depth` 3 is SignedData's, with the certificates that must stay DER. */
static apr_size_t open_all(unsigned char *to, const unsigned char *at, const unsigned char *end, int depth)
{
    apr_size_t made = 0;

    while (at < end) {
        const unsigned char *start = at;
        long len = 0;
        int tag = 0;
        int class = 0;
        int form = ASN1_get_object(&at, &len, &tag, &class, end - at);

        if (!(form & V_ASN1_CONSTRUCTED) || (depth == 3 && class == V_ASN1_CONTEXT_SPECIFIC)) {
            memcpy(to + made, start, (apr_size_t)(at + len - start));
            made += (apr_size_t)(at + len - start);
        } else {
            to[made] = *start;
            to[made + 1] = 0x80;
            made += 2 + open_all(to + made + 2, at, at + len, depth + 1);
            to[made] = to[made + 1] = 0;
            made += 2;
        }
        at += len;
    }
    return made;
}

static void good_answers_are_whole(void **state)
{
    pki_message_t message = pki_answer(pki, relay, inner);
    bytes_t der = pki_message_make(pki, &message, pool);
    unsigned char *open = apr_palloc(pool, 4 * der.len);
    bytes_t ber = {open, open_all(open, der.data, der.data + der.len, 0)};

    (void)state;
    assert_non_null(open_bytes("ok/indefinite lengths", ber, PROBLEM_NONE)->certificate);
    assert_false(scep_is_cut_short(ber));
    assert_false(scep_is_cut_short(der));
}

static void beginnings(void **state)
{
    static const unsigned char open_ended[] = {0x30, 0x80, 0x02, 0x01, 0x01, 0x00, 0x00};
    bytes_t whole = inner;
    bytes_t ber = {open_ended, sizeof(open_ended)};

    (void)state;
    assert_false(scep_is_cut_short(whole));
    assert_false(scep_is_cut_short(ber));
    assert_false(scep_is_cut_short(bytes_of_text("<html>")));
    assert_false(scep_is_cut_short((bytes_t){NULL, 0}));
    while (--whole.len) {
        assert_true(scep_is_cut_short(whole));
    }
    while (--ber.len) {
        assert_true(scep_is_cut_short(ber));
    }
}

static void wrong_keys(void **state)
{
    pki_message_t message = pki_answer(pki, relay, inner);
    pki_certificate_t other = leaf();
    pki_certificate_t second = leaf();
    X509 *foreign = NULL;

    (void)state;
    other.key = pki->other_key;
    other.serial = 0x99;
    foreign = pki_certificate_make(pki, &other);
    message.plain = pki_degenerate_make(pki, foreign, NULL, NULL, pool);
    assert_string_equal(open_expecting("fail/another key", &message, PROBLEM_CA_WRONG_KEY)->facts.serial, "99");
    message.plain = pki_degenerate_make(pki, pki->ca, pki->root, foreign, pool);
    assert_string_equal(open_expecting("fail/another key and CAs", &message, PROBLEM_CA_WRONG_KEY)->facts.serial, "99");
    second.serial = 0x5678;
    message.plain = pki_degenerate_make(pki, issued, pki_certificate_make(pki, &second), NULL, pool);
    assert_non_null(open_expecting("fail/two with the key", &message, PROBLEM_CA_WRONG_KEY)->facts.serial);
    message.plain = pki_degenerate_make(pki, NULL, NULL, NULL, pool);
    assert_null(open_expecting("fail/none at all", &message, PROBLEM_CA_WRONG_KEY)->facts.serial);
}

/* A CA that takes the CSR's key apart writes it as it likes. */
static void keys_encoded_anew(void **state)
{
    pki_csr_t wanted = {.key = pki->device_key, .no_null = true};
    pki_certificate_t second = leaf();
    pki_certificate_t other = leaf();
    pki_message_t message;
    scep_relay_t *usual = relay;
    scep_relay_t bare = *relay;
    csr_t csr;
    const char *why = NULL;

    (void)state;
    assert_int_equal(csr_open(&csr, pki->engine, pki_csr_make(pki, &wanted, pool), pool, &why), APR_SUCCESS);
    assert_false(bytes_equal(csr.spki, relay->spki));
    bare.spki = csr.spki;
    relay = &bare;
    message = pki_answer(pki, relay, pki_degenerate_make(pki, pki->ca, issued, NULL, pool));
    assert_string_equal(open_expecting("ok/with a NULL", &message, PROBLEM_NONE)->facts.serial, "1234");
    second.serial = 0x5678;
    message.plain = pki_degenerate_make(pki, issued, pki_certificate_make(pki, &second), NULL, pool);
    open_expecting("fail/two with a NULL", &message, PROBLEM_CA_WRONG_KEY);
    other.key = pki->other_key;
    message.plain = pki_degenerate_make(pki, pki_certificate_make(pki, &other), pki->root, NULL, pool);
    open_expecting("fail/another key", &message, PROBLEM_CA_WRONG_KEY);
    relay = usual;
}

static void certificates(void **state)
{
    struct {
        const char *name;
        problem_t problem;
        pki_certificate_t wanted;
    } cases[] = {{"ok/SHA-1", PROBLEM_NONE, leaf()},
                 {"ok/four minutes ahead", PROBLEM_NONE, leaf()},
                 {"ok/unknown critical extension", PROBLEM_NONE, leaf()},
                 {"ok/by the root", PROBLEM_NONE, leaf()},
                 {"fail/six minutes ahead", PROBLEM_CA_BAD_CERTIFICATE, leaf()},
                 {"fail/expired", PROBLEM_CA_BAD_CERTIFICATE, leaf()},
                 {"fail/forged", PROBLEM_CA_BAD_CERTIFICATE, leaf()},
                 {"fail/self-signed", PROBLEM_CA_BAD_CERTIFICATE, leaf()},
                 {"fail/by the RA", PROBLEM_CA_BAD_CERTIFICATE, leaf()}};
    unsigned i = 0;

    (void)state;
    cases[0].wanted.digest = "SHA-1";
    cases[1].wanted.from = 240;
    cases[2].wanted.critical = "1.3.6.1.4.1.311.21.10";
    cases[3].wanted.issuer = pki->root;
    cases[3].wanted.issuer_key = pki->root_key;
    cases[4].wanted.from = 360;
    cases[5].wanted.from = -100;
    cases[5].wanted.until = -10;
    cases[6].wanted.issuer_key = pki->other_key;
    cases[7].wanted.issuer = NULL;
    cases[8].wanted.issuer = pki->ra;
    cases[8].wanted.issuer_key = pki->ra_key;
    for (i = 0; i < COUNT(cases); i++) {
        X509 *certificate = pki_certificate_make(pki, &cases[i].wanted);
        pki_message_t message = pki_answer(pki, relay, pki_degenerate_make(pki, certificate, NULL, NULL, pool));

        assert_string_equal(open_expecting(cases[i].name, &message, cases[i].problem)->facts.serial, "1234");
    }
}

static void long_texts_are_cut(void **state)
{
    pki_message_t message = pki_answer(pki, relay, inner);
    char *text = apr_pcalloc(pool, 1001);
    scep_answer_t *answer = NULL;

    (void)state;
    memset(text, 't', 1000);
    message.status = "2";
    message.no_content = true;
    message.text = text;
    answer = open_expecting("ok/long text", &message, PROBLEM_NONE);
    assert_int_equal(strlen(answer->fail_info_text), 255);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forms_of_success),
        cmocka_unit_test(refusals),
        cmocka_unit_test(pending),
        cmocka_unit_test(foreign_signers),
        cmocka_unit_test(a_configured_backend_certificate_may_sign),
        cmocka_unit_test(other_transactions),
        cmocka_unit_test(garbage),
        cmocka_unit_test(good_answers_are_whole),
        cmocka_unit_test(beginnings),
        cmocka_unit_test(wrong_keys),
        cmocka_unit_test(keys_encoded_anew),
        cmocka_unit_test(certificates),
        cmocka_unit_test(long_texts_are_cut),
    };
    int failed = 0;

    pki_global_init();
    failed = cmocka_run_group_tests(tests, setup, teardown);
    pki_global_end();
    return failed;
}
