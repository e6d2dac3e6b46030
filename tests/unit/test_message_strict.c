/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The strictness table: each way in which a message can be odd, and the one answer it gets. What strangers' keys may be
 * is here, too. test_message.c has the good messages and the rest.
 */
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
static bytes_t csr;

static int setup(void **state)
{
    pki_csr_t wanted = {.challenges = {{V_ASN1_PRINTABLESTRING, "secret", 6}}};

    (void)state;
    apr_pool_create(&pool, NULL);
    pki = pki_make(pool);
    wanted.key = pki->device_key;
    csr = pki_csr_make(pki, &wanted, pool);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    apr_pool_destroy(pool);
    return 0;
}

/* What a device is told: nothing but HTTP 400, or a CertRep FAILURE with this failInfo. */
enum { HTTP_400 = -1, GOOD = -2 };

static scep_request_t *expect(const char *name, bytes_t der, problem_t problem, int answer)
{
    scep_request_t *request = NULL;
    result_t *result = result_make(pool);
    apr_status_t status = scep_request_open(&request, pki->identity, &pki->policy, der, pool, result);

    pki_look(pki, der);
    const problem_facts_t *facts = problem_facts(result->problem);

    print_message("%s: %s %s\n", name, facts->name, result->detail ? result->detail : "");
    assert_int_equal(result->problem, problem);
    assert_int_equal(status, problem ? APR_EGENERAL : APR_SUCCESS);
    assert_int_equal(ERR_peek_error(), 0);
    if (answer == HTTP_400) {
        assert_true(!request || facts->http_status == 400);
    } else if (answer != GOOD) {
        assert_non_null(request);
        assert_int_equal(facts->http_status, 200);
        assert_int_equal(facts->fail_info, answer);
    }
    return request;
}

static bytes_t with_bytes_behind(bytes_t der)
{
    unsigned char *longer = apr_pcalloc(pool, der.len + 2);
    bytes_t bytes = {longer, der.len + 2};

    memcpy(longer, der.data, der.len);
    return bytes;
}

static void forms(void **state)
{
    pki_message_t good = pki_request(pki, csr);
    pki_message_t nested = good;
    pki_message_t envelope = good;
    bytes_t der = pki_message_make(pki, &good, pool);
    struct {
        const char *name;
        pki_message_t message;
        problem_t problem;
        int answer;
    } cases[] = {
        {"fail/several SignerInfos", good, PROBLEM_NOT_SCEP, HTTP_400},
        {"fail/messageType doubled", good, PROBLEM_NOT_SCEP, HTTP_400},
        {"fail/transactionID doubled", good, PROBLEM_NOT_SCEP, HTTP_400},
        {"fail/senderNonce doubled", good, PROBLEM_NOT_SCEP, HTTP_400},
        {"fail/pkiStatus doubled, which no request has", good, PROBLEM_NOT_SCEP, HTTP_400},
        {"fail/recipientNonce of a wrong type", good, PROBLEM_NOT_SCEP, HTTP_400},
        {"fail/nonce missing", good, PROBLEM_NOT_SCEP, HTTP_400},
        {"fail/transactionID missing", good, PROBLEM_NOT_SCEP, HTTP_400},
        {"fail/transactionID of 256 characters", good, PROBLEM_NOT_SCEP, HTTP_400},
        {"fail/transactionID unprintable", good, PROBLEM_NOT_SCEP, HTTP_400},
        {"fail/empty envelope", good, PROBLEM_BAD_ENVELOPE, SCEP_BAD_MESSAGE_CHECK},
        {"fail/no envelope", good, PROBLEM_BAD_ENVELOPE, SCEP_BAD_MESSAGE_CHECK},
        {"fail/other recipient", good, PROBLEM_BAD_ENVELOPE, SCEP_BAD_MESSAGE_CHECK},
        {"fail/compressed content in the envelope", good, PROBLEM_BAD_ENVELOPE, SCEP_BAD_MESSAGE_CHECK},
        {"fail/compressed content instead of the envelope", good, PROBLEM_BAD_ENVELOPE, SCEP_BAD_MESSAGE_CHECK},
        {"fail/a SignedData in the envelope", good, PROBLEM_BAD_ENVELOPE, SCEP_BAD_MESSAGE_CHECK},
        {"fail/declared a SignedData in the envelope", good, PROBLEM_BAD_ENVELOPE, SCEP_BAD_MESSAGE_CHECK},
        {"fail/an envelope in the envelope", good, PROBLEM_BAD_ENVELOPE, SCEP_BAD_MESSAGE_CHECK},
        {"fail/a SignedData instead of the envelope", good, PROBLEM_BAD_ENVELOPE, SCEP_BAD_MESSAGE_CHECK},
        {"fail/bytes behind the envelope", good, PROBLEM_BAD_ENVELOPE, SCEP_BAD_MESSAGE_CHECK},
        {"fail/bytes behind the CSR", good, PROBLEM_BAD_ENVELOPE, SCEP_BAD_MESSAGE_CHECK},
        {"fail/an IssuerAndSerialNumber instead of a CSR", good, PROBLEM_BAD_ENVELOPE, SCEP_BAD_MESSAGE_CHECK},
    };
    unsigned i = 0;

    (void)state;
    cases[0].message.two_signers = true;
    cases[1].message.twice = PKI_MESSAGE_TYPE;
    cases[2].message.twice = PKI_TRANSACTION_ID;
    cases[3].message.twice = PKI_SENDER_NONCE;
    cases[4].message.status = "0";
    cases[4].message.twice = PKI_STATUS;
    cases[5].message.recipient_nonce = bytes_of_text("nonce");
    cases[5].message.wrong_type = PKI_RECIPIENT_NONCE;
    cases[6].message.without = PKI_SENDER_NONCE;
    cases[7].message.without = PKI_TRANSACTION_ID;
    cases[8].message.transaction_id = bytes_of_text(apr_psprintf(pool, "%0256d", 1));
    cases[9].message.transaction_id = bytes_of_text("a\x1b[31m");
    cases[10].message.plain.len = 0;
    cases[11].message.no_content = true;
    cases[12].message.recipient = pki->other;
    cases[13].message.inner_type = NID_id_smime_ct_compressedData;
    cases[14].message.outer_type = NID_id_smime_ct_compressedData;
    cases[14].message.content = bytes_of_text("\x30\x03\x02\x01\x00");
    nested.content = csr;
    cases[15].message.plain = pki_message_make(pki, &nested, pool);
    cases[16].message.plain = cases[15].message.plain;
    cases[16].message.inner_type = NID_pkcs7_signed;
    cases[17].message.plain = pki_envelope_make(pki, &envelope, pool);
    cases[18].message.content = cases[15].message.plain;
    cases[19].message.content = with_bytes_behind(pki_envelope_make(pki, &envelope, pool));
    cases[20].message.plain = with_bytes_behind(csr);
    cases[21].message.plain = pki_inquiry_make(pki->ra, pool);
    expect("fail/bytes behind the message", with_bytes_behind(der), PROBLEM_NOT_SCEP, HTTP_400);
    for (i = 0; i < COUNT(cases); i++) {
        expect(cases[i].name, pki_message_make(pki, &cases[i].message, pool), cases[i].problem, cases[i].answer);
    }
}

/* As Go writes what does not fit into a PrintableString. The answer has what the RFC says. */
static void texts_of_other_types(void **state)
{
    static const int types[] = {V_ASN1_UTF8STRING, V_ASN1_IA5STRING};
    unsigned i = 0;

    (void)state;
    for (i = 0; i < COUNT(types); i++) {
        pki_message_t message = pki_request(pki, csr);
        result_t *result = result_make(pool);
        bytes_t body = {NULL, 0};
        scep_request_t *request = NULL;
        pki_certrep_t *certrep = NULL;

        message.texts_type = types[i];
        message.transaction_id = bytes_of_text("*&_");
        request = expect("ok/texts of another type", pki_message_make(pki, &message, pool), PROBLEM_NONE, GOOD);
        assert_int_equal(
            scep_failure_build(&body, pki->identity, request, SCEP_BAD_REQUEST, NULL, pool, result), APR_SUCCESS);
        certrep = pki_certrep_open(pki, body, pki->device, pki->device_key, pool);
        assert_non_null(certrep);
        assert_string_equal(certrep->transaction_id, "*&_");
    }
}

static void challenges(void **state)
{
    static const struct {
        const char *name;
        pki_value_t values[4];
        bool one_attribute;
        problem_t problem;
        const char *text;
    } cases[] = {
        {"ok/PrintableString", {{V_ASN1_PRINTABLESTRING, "MIIB+/=", 7}}, false, PROBLEM_NONE, "MIIB+/="},
        {"ok/UTF8String", {{V_ASN1_UTF8STRING, "MIIB+/=", 7}}, false, PROBLEM_NONE, "MIIB+/="},
        {"ok/T61String", {{V_ASN1_T61STRING, "MIIB+/=", 7}}, false, PROBLEM_NONE, "MIIB+/="},
        {"ok/IA5String", {{V_ASN1_IA5STRING, "MIIB+/=", 7}}, false, PROBLEM_NONE, "MIIB+/="},
        {"ok/BMPString", {{V_ASN1_BMPSTRING, "\0M\0I", 4}}, false, PROBLEM_NONE, "MI"},
        {"ok/with line breaks", {{V_ASN1_PRINTABLESTRING, "MI\r\nIB\n+/= ", 11}}, false, PROBLEM_NONE, "MIIB+/="},
        {"fail/twice",
         {{V_ASN1_PRINTABLESTRING, "a", 1}, {V_ASN1_PRINTABLESTRING, "a", 1}},
         false,
         PROBLEM_CHALLENGE_TWICE,
         NULL},
        {"fail/two values",
         {{V_ASN1_PRINTABLESTRING, "a", 1}, {V_ASN1_PRINTABLESTRING, "b", 1}},
         true,
         PROBLEM_CHALLENGE_TWICE,
         NULL},
    };
    unsigned i = 0;

    (void)state;
    for (i = 0; i < COUNT(cases); i++) {
        pki_csr_t wanted = {.key = pki->device_key, .one_attribute = cases[i].one_attribute};
        pki_message_t message;
        scep_request_t *request = NULL;

        memcpy(wanted.challenges, cases[i].values, sizeof(wanted.challenges));
        message = pki_request(pki, pki_csr_make(pki, &wanted, pool));
        request = expect(cases[i].name, pki_message_make(pki, &message, pool), cases[i].problem,
                         cases[i].problem ? SCEP_BAD_REQUEST : GOOD);
        if (cases[i].text) {
            assert_string_equal(secret_reveal(request->csr.challenge), cases[i].text);
        }
    }
}

/* As devices that leave out the NULL write it in one place and not in the other. */
static void same_key_in_other_bytes(void **state)
{
    pki_csr_t bare = {.key = pki->device_key, .no_null = true};
    pki_csr_t foreign = {.key = pki->other_key, .no_null = true};
    pki_message_t message = pki_request(pki, pki_csr_make(pki, &bare, pool));

    (void)state;
    expect("ok/CSR's key without NULL", pki_message_make(pki, &message, pool), PROBLEM_NONE, GOOD);
    message.plain = pki_csr_make(pki, &foreign, pool);
    expect("fail/another key without NULL", pki_message_make(pki, &message, pool), PROBLEM_BAD_ENVELOPE,
           SCEP_BAD_MESSAGE_CHECK);
}

/* A message whose signer's certificate has another key than the one that signed: what is refused for its key is refused
 * first. */
static void signer_key(const char *name, EVP_PKEY *key, problem_t problem, int answer)
{
    pki_certificate_t real = {
        .subject = "twin", .key = pki->device_key, .issuer = pki->ca, .issuer_key = pki->ca_key, .serial = 4711};
    pki_certificate_t shown = real;
    pki_message_t message = pki_request(pki, csr);

    shown.key = key;
    message.signer = pki_certificate_make(pki, &real);
    message.no_certificate = true;
    message.extra_certificate = pki_certificate_make(pki, &shown);
    expect(name, pki_message_make(pki, &message, pool), problem, answer);
}

static void keys_of_signers(void **state)
{
    pki_certificate_t pss = {.subject = "PSS", .key = pki_pss_key_make(pki)};
    pki_csr_t own = {.key = pss.key};
    pki_message_t message = pki_request(pki, pki_csr_make(pki, &own, pool));

    (void)state;
    signer_key("fail/8193 bits", pki_public_rsa_make(pki, 8193, 0), PROBLEM_KEY_NOT_SERVED, SCEP_BAD_ALG);
    signer_key("fail/8192 bits, wrong signature", pki_public_rsa_make(pki, 8192, 0), PROBLEM_BAD_SIGNATURE,
               SCEP_BAD_MESSAGE_CHECK);
    signer_key("fail/exponent of 65 bits", pki_public_rsa_make(pki, 2048, 65), PROBLEM_KEY_NOT_SERVED, SCEP_BAD_ALG);
    signer_key("fail/exponent of 64 bits, wrong signature", pki_public_rsa_make(pki, 2048, 64), PROBLEM_BAD_SIGNATURE,
               SCEP_BAD_MESSAGE_CHECK);
    signer_key("fail/curve spelled out", pki_explicit_ec_make(pki), PROBLEM_NOT_SCEP, HTTP_400);
    message.signer_key = pss.key;
    message.pss = true;
    message.signer = pki_certificate_make(pki, &pss);
    expect("fail/key for RSASSA-PSS only", pki_message_make(pki, &message, pool), PROBLEM_KEY_CANNOT_DECRYPT,
           SCEP_BAD_ALG);
    message = pki_request(pki, csr);
    message.pss = true;
    expect("ok/RSASSA-PSS by an RSA key", pki_message_make(pki, &message, pool), PROBLEM_NONE, GOOD);
    message.digest = "SHA-512";
    expect("ok/RSASSA-PSS with SHA-512", pki_message_make(pki, &message, pool), PROBLEM_NONE, GOOD);
}

/* An elliptic key can be certified, if somebody else can decrypt the answer. */
static void elliptic_keys(void **state)
{
    pki_certificate_t issued = {
        .subject = "device", .key = pki->device_key, .issuer = pki->ca, .issuer_key = pki->ca_key};
    pki_certificate_t own = {.subject = "device", .key = pki->ec_key};
    pki_csr_t named = {.key = pki->ec_key};
    pki_csr_t spelled_out = {.key = pki_explicit_ec_make(pki)};
    pki_message_t message = pki_request(pki, pki_csr_make(pki, &named, pool));
    scep_request_t *request = NULL;

    (void)state;
    expect("fail/PKCSReq, RSA signer", pki_message_make(pki, &message, pool), PROBLEM_BAD_ENVELOPE,
           SCEP_BAD_MESSAGE_CHECK);
    message.signer = pki_certificate_make(pki, &own);
    message.signer_key = pki->ec_key;
    expect("fail/PKCSReq, the key itself", pki_message_make(pki, &message, pool), PROBLEM_KEY_CANNOT_DECRYPT,
           SCEP_BAD_ALG);
    assert_string_equal(problem_facts(PROBLEM_KEY_CANNOT_DECRYPT)->what, "an RSA key is needed to decrypt the answer");
    message.type = "17";
    message.signer = pki_certificate_make(pki, &issued);
    message.signer_key = pki->device_key;
    request = expect("ok/RenewalReq, RSA signer", pki_message_make(pki, &message, pool), PROBLEM_NONE, GOOD);
    assert_false(request->csr.key_is_rsa);
    message.plain = pki_csr_make(pki, &spelled_out, pool);
    expect("fail/RenewalReq, curve spelled out", pki_message_make(pki, &message, pool), PROBLEM_BAD_ENVELOPE,
           SCEP_BAD_MESSAGE_CHECK);
}

static void small_keys(void **state)
{
    pki_certificate_t own = {.subject = "small", .key = pki->small_key};
    pki_csr_t small = {.key = pki->small_key};
    pki_message_t message = pki_request(pki, pki_csr_make(pki, &small, pool));

    (void)state;
    message.signer = pki_certificate_make(pki, &own);
    message.signer_key = pki->small_key;
    expect("fail/1024 bits", pki_message_make(pki, &message, pool), PROBLEM_KEY_TOO_SMALL, SCEP_BAD_ALG);
}

/* Two certificates of the RA's: devices encrypt to one, the other signs; the CA's answers are for the one that signs.
 */
static void separate_certificates(void **state)
{
    pki_certificate_t wanted = {
        .subject = "RA encryption", .key = pki->other_key, .issuer = pki->ca, .issuer_key = pki->ca_key};
    pki_message_t message = pki_request(pki, csr);
    scep_identity_t both = *pki->identity;
    scep_request_t *request = NULL;
    result_t *result = result_make(pool);

    (void)state;
    scep_identity_separate(&both, pki_certificate_make(pki, &wanted), pki->other_key);
    assert_int_equal(
        scep_request_open(&request, &both, &pki->policy, pki_message_make(pki, &message, pool), pool, result),
        APR_EGENERAL);
    assert_int_equal(result->problem, PROBLEM_BAD_ENVELOPE);
    message.recipient = both.device_certificate;
    message.first_recipient = pki->ra;
    result = result_make(pool);
    assert_int_equal(
        scep_request_open(&request, &both, &pki->policy, pki_message_make(pki, &message, pool), pool, result),
        APR_SUCCESS);
    assert_true(bytes_equal(request->csr.der, csr));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forms),         cmocka_unit_test(challenges), cmocka_unit_test(keys_of_signers),
        cmocka_unit_test(elliptic_keys), cmocka_unit_test(small_keys), cmocka_unit_test(separate_certificates),
        cmocka_unit_test(texts_of_other_types), cmocka_unit_test(same_key_in_other_bytes),
    };
    int failed = 0;

    pki_global_init();
    failed = cmocka_run_group_tests(tests, setup, teardown);
    pki_global_end();
    return failed;
}
