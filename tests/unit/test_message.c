/* SPDX-License-Identifier: Apache-2.0 */
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

/* Opens a message and expects a problem; whether the device can be told is in `answerable`. */
static scep_request_t *open_expecting(const char *name, bytes_t der, problem_t problem, bool answerable)
{
    scep_request_t *request = NULL;
    result_t *result = result_make(pool);
    apr_status_t status = scep_request_open(&request, pki->identity, &pki->policy, der, pool, result);

    pki_look(pki, der);

    print_message("%s: %s %s\n", name, problem_facts(result->problem)->name, result->detail ? result->detail : "");
    assert_int_equal(result->problem, problem);
    assert_int_equal(status, problem ? APR_EGENERAL : APR_SUCCESS);
    assert_int_equal(request != NULL, answerable);
    assert_int_equal(ERR_peek_error(), 0);
    return request;
}

static void a_good_request(void **state)
{
    pki_message_t message = pki_request(pki, csr);
    scep_request_t *request = open_expecting("ok/PKCSReq", pki_message_make(pki, &message, pool), PROBLEM_NONE, true);

    (void)state;
    assert_string_equal(request->transaction_id, "6F1D2C3B4A59687706F1D2C3B4A5968770123456");
    assert_true(bytes_equal(request->sender_nonce, bytes_of_text("0123456789abcdef")));
    assert_int_equal(request->type, SCEP_PKCSREQ);
    assert_int_equal(request->digest, SCEP_SHA256);
    assert_int_equal(request->cipher, SCEP_AES128);
    assert_int_equal(X509_cmp(request->signer, pki->device), 0);
    assert_true(bytes_equal(request->csr.der, csr));
    assert_int_equal(request->csr.challenges, 1);
    assert_string_equal(secret_reveal(request->csr.challenge), "secret");
}

static void forms_of_good_requests(void **state)
{
    pki_certificate_t strange = {.subject = "strange", .key = pki->device_key, .critical = "1.2.3.4"};
    pki_certificate_t unusable = {.subject = "unusable", .key = pki->device_key, .usage = "critical,cRLSign"};
    pki_certificate_t expired = {.subject = "expired", .key = pki->device_key, .from = -1000, .until = -100};
    pki_certificate_t old = {.subject = "old", .key = pki->device_key, .digest = "MD5"};
    pki_message_t good = pki_request(pki, csr);
    struct {
        const char *name;
        pki_message_t message;
        unsigned cipher;
        unsigned digest;
    } cases[] = {
        {"ok/BER", good, SCEP_AES128, SCEP_SHA256},
        {"ok/OAEP", good, SCEP_AES128, SCEP_SHA256},
        {"ok/3DES and SHA-1", good, SCEP_DES3, SCEP_SHA1},
        {"ok/AES-256 and SHA-512", good, SCEP_AES256, SCEP_SHA512},
        {"ok/several recipients", good, SCEP_AES128, SCEP_SHA256},
        {"ok/signer with unknown critical extension", good, SCEP_AES128, SCEP_SHA256},
        {"ok/signer with odd usage", good, SCEP_AES128, SCEP_SHA256},
        {"ok/expired signer", good, SCEP_AES128, SCEP_SHA256},
        {"ok/signer signed with MD5", good, SCEP_AES128, SCEP_SHA256},
        {"ok/another certificate in it", good, SCEP_AES128, SCEP_SHA256},
        {"ok/one-byte nonce", good, SCEP_AES128, SCEP_SHA256},
        {"ok/BER, OAEP, 3DES", good, SCEP_DES3, SCEP_SHA256},
    };
    unsigned i = 0;

    (void)state;
    cases[0].message.ber = true;
    cases[1].message.oaep = true;
    cases[2].message.cipher = "DES-EDE3-CBC";
    cases[2].message.digest = "SHA-1";
    cases[3].message.cipher = "AES-256-CBC";
    cases[3].message.digest = "SHA-512";
    cases[4].message.first_recipient = pki->other;
    cases[5].message.signer = pki_certificate_make(pki, &strange);
    cases[6].message.signer = pki_certificate_make(pki, &unusable);
    cases[7].message.signer = pki_certificate_make(pki, &expired);
    cases[8].message.signer = pki_certificate_make(pki, &old);
    cases[9].message.extra_certificate = pki->ca;
    cases[10].message.sender_nonce = bytes_of_text("x");
    cases[11].message.ber = cases[11].message.oaep = true;
    cases[11].message.cipher = "DES-EDE3-CBC";
    for (i = 0; i < COUNT(cases); i++) {
        bytes_t der = pki_message_make(pki, &cases[i].message, pool);
        scep_request_t *request = open_expecting(cases[i].name, der, PROBLEM_NONE, true);

        /* That the fixture really writes indefinite lengths. */
        assert_int_equal(der.data[1] == 0x80, cases[i].message.ber);
        assert_int_equal(request->cipher, cases[i].cipher);
        assert_int_equal(request->digest, cases[i].digest);
        assert_true(bytes_equal(request->csr.der, csr));
    }
}

static bytes_t repeat(char letter, apr_size_t count)
{
    char *text = apr_palloc(pool, count);
    bytes_t bytes = {(unsigned char *)text, count};

    memset(text, letter, count);
    return bytes;
}

typedef struct attribute_case_t {
    const char *name;
    unsigned without;
    unsigned twice;
    unsigned two_values;
    unsigned wrong_type;
    const char *type;
    bytes_t transaction_id;
    bytes_t sender_nonce;
    bool answerable;
} attribute_case_t;

static void attributes(void **state)
{
    const attribute_case_t cases[] = {
        {.name = "fail/no messageType", .without = PKI_MESSAGE_TYPE, .answerable = true},
        {.name = "fail/no transactionID", .without = PKI_TRANSACTION_ID},
        {.name = "fail/no senderNonce", .without = PKI_SENDER_NONCE},
        {.name = "fail/messageType twice", .twice = PKI_MESSAGE_TYPE, .answerable = true},
        {.name = "fail/transactionID twice", .twice = PKI_TRANSACTION_ID},
        {.name = "fail/senderNonce twice", .twice = PKI_SENDER_NONCE},
        {.name = "fail/two messageTypes in one", .two_values = PKI_MESSAGE_TYPE, .answerable = true},
        {.name = "fail/two transactionIDs in one", .two_values = PKI_TRANSACTION_ID},
        {.name = "fail/two senderNonces in one", .two_values = PKI_SENDER_NONCE},
        {.name = "fail/messageType of another ASN.1 type", .wrong_type = PKI_MESSAGE_TYPE, .answerable = true},
        {.name = "fail/transactionID of another ASN.1 type", .wrong_type = PKI_TRANSACTION_ID},
        {.name = "fail/senderNonce of another ASN.1 type", .wrong_type = PKI_SENDER_NONCE},
        {.name = "fail/messageType no number", .type = "PKCSReq", .answerable = true},
        {.name = "fail/messageType empty", .type = "", .answerable = true},
        {.name = "fail/messageType 019", .type = "019", .answerable = true},
        {.name = "fail/messageType with a blank", .type = "19 ", .answerable = true},
        {.name = "fail/messageType -9", .type = "-9", .answerable = true},
        {.name = "fail/transactionID with NUL", .transaction_id = {(const unsigned char *)"abc\0d", 5}},
        {.name = "fail/transactionID with line break", .transaction_id = {(const unsigned char *)"abc\n", 4}},
        {.name = "fail/transactionID not ASCII", .transaction_id = {(const unsigned char *)"\xc3\xbc", 2}},
        {.name = "fail/transactionID empty", .transaction_id = {(const unsigned char *)"", 0}},
        {.name = "fail/transactionID of 256", .transaction_id = repeat('a', 256)},
        {.name = "fail/senderNonce of 65", .sender_nonce = repeat('n', 65)},
        {.name = "fail/senderNonce empty", .sender_nonce = {(const unsigned char *)"", 0}},
    };
    unsigned i = 0;

    (void)state;
    for (i = 0; i < COUNT(cases); i++) {
        pki_message_t message = pki_request(pki, csr);

        message.without = cases[i].without;
        message.twice = cases[i].twice;
        message.two_values = cases[i].two_values;
        message.wrong_type = cases[i].wrong_type;
        message.type = cases[i].type ? cases[i].type : message.type;
        message.transaction_id = cases[i].transaction_id.data ? cases[i].transaction_id : message.transaction_id;
        message.sender_nonce = cases[i].sender_nonce.data ? cases[i].sender_nonce : message.sender_nonce;
        open_expecting(cases[i].name, pki_message_make(pki, &message, pool), PROBLEM_NOT_SCEP, cases[i].answerable);
    }
}

static void longest_values(void **state)
{
    pki_message_t message = pki_request(pki, csr);

    (void)state;
    message.transaction_id = repeat('~', 255);
    message.sender_nonce = repeat('n', 64);
    open_expecting("ok/longest", pki_message_make(pki, &message, pool), PROBLEM_NONE, true);
}

static void structures(void **state)
{
    pki_message_t good = pki_request(pki, csr);
    pki_message_t two = good;
    pki_message_t no_certificate = good;
    pki_message_t foreign_certificate = good;
    bytes_t der = pki_message_make(pki, &good, pool);
    unsigned char *longer = apr_pcalloc(pool, der.len + 1);
    bytes_t behind = {longer, der.len + 1};
    bytes_t shorter = {der.data, der.len - 1};
    bytes_t nothing = {NULL, 0};

    (void)state;
    memcpy(longer, der.data, der.len);
    two.two_signers = true;
    no_certificate.no_certificate = true;
    foreign_certificate.no_certificate = true;
    foreign_certificate.extra_certificate = pki->other;
    open_expecting("fail/nothing", nothing, PROBLEM_NOT_SCEP, false);
    open_expecting("fail/text", bytes_of_text("hello"), PROBLEM_NOT_SCEP, false);
    open_expecting("fail/a byte behind", behind, PROBLEM_NOT_SCEP, false);
    open_expecting("fail/a byte short", shorter, PROBLEM_NOT_SCEP, false);
    open_expecting("fail/an envelope alone", pki_envelope_make(pki, &good, pool), PROBLEM_NOT_SCEP, false);
    open_expecting("fail/a CSR alone", csr, PROBLEM_NOT_SCEP, false);
    open_expecting("fail/two signers", pki_message_make(pki, &two, pool), PROBLEM_NOT_SCEP, false);
    open_expecting("fail/no signer", pki_degenerate_make(pki, pki->device, NULL, NULL, pool), PROBLEM_NOT_SCEP, false);
    open_expecting("fail/no certificate", pki_message_make(pki, &no_certificate, pool), PROBLEM_NOT_SCEP, false);
    open_expecting("fail/another's certificate", pki_message_make(pki, &foreign_certificate, pool), PROBLEM_NOT_SCEP,
                   false);
}

/* Another key under the signer's name and number: found as the signer's certificate, but it does not verify. */
static void a_signature_by_another_key(void **state)
{
    pki_certificate_t first = {.subject = "twin", .key = pki->device_key, .serial = 77};
    pki_certificate_t second = {.subject = "twin", .key = pki->other_key, .serial = 77};
    pki_message_t message = pki_request(pki, csr);
    scep_request_t *request = NULL;

    (void)state;
    message.signer = pki_certificate_make(pki, &first);
    message.no_certificate = true;
    message.extra_certificate = pki_certificate_make(pki, &second);
    request = open_expecting("fail/another key", pki_message_make(pki, &message, pool), PROBLEM_BAD_SIGNATURE, true);
    assert_int_equal(request->digest, SCEP_SHA256);
}

static void forbidden_algorithms(void **state)
{
    pki_certificate_t elliptic = {.subject = "elliptic", .key = pki->ec_key};
    pki_message_t message = pki_request(pki, csr);
    scep_request_t *request = NULL;

    (void)state;
    message.digest = "MD5";
    request = open_expecting("fail/MD5", pki_message_make(pki, &message, pool), PROBLEM_BAD_ALGORITHM, true);
    assert_int_equal(request->digest, 0);
    message.digest = NULL;
    message.cipher = "DES-CBC";
    request = open_expecting("fail/DES", pki_message_make(pki, &message, pool), PROBLEM_BAD_ALGORITHM, true);
    assert_int_equal(request->digest, SCEP_SHA256);
    assert_int_equal(request->cipher, 0);
    message.cipher = "AES-128-CFB";
    open_expecting("fail/CFB", pki_message_make(pki, &message, pool), PROBLEM_BAD_ALGORITHM, true);
    message.cipher = "CAMELLIA-128-CBC";
    open_expecting("fail/Camellia", pki_message_make(pki, &message, pool), PROBLEM_BAD_ALGORITHM, true);
    message.cipher = NULL;
    message.signer = pki_certificate_make(pki, &elliptic);
    message.signer_key = pki->ec_key;
    open_expecting("fail/elliptic signer", pki_message_make(pki, &message, pool), PROBLEM_KEY_CANNOT_DECRYPT, true);
}

static void other_message_types(void **state)
{
    static const char *const types[] = {"0", "3", "18", "23", "99"};
    pki_message_t message = pki_request(pki, csr);
    unsigned i = 0;

    (void)state;
    for (i = 0; i < COUNT(types); i++) {
        message.type = types[i];
        open_expecting(apr_pstrcat(pool, "fail/", types[i], NULL), pki_message_make(pki, &message, pool),
                       PROBLEM_UNSUPPORTED_MESSAGE, true);
    }
}

static void renewals(void **state)
{
    pki_certificate_t issued = {
        .subject = "device", .key = pki->device_key, .issuer = pki->ca, .issuer_key = pki->ca_key};
    pki_certificate_t expired = issued;
    pki_certificate_t early = issued;
    pki_certificate_t forged = issued;
    pki_csr_t fresh = {.key = pki->other_key};
    pki_csr_t false_proof = {.key = pki->other_key, .signer = pki->device_key};
    pki_message_t message = pki_request(pki, csr);
    pki_message_t by_ra = message;

    (void)state;
    expired.from = -1000;
    expired.until = -100;
    early.from = 100;
    forged.issuer_key = pki->other_key;
    message.type = "17";
    by_ra.type = "17";
    by_ra.signer = pki->ra;
    by_ra.signer_key = pki->ra_key;
    message.signer = pki_certificate_make(pki, &issued);
    open_expecting("ok/same key", pki_message_make(pki, &message, pool), PROBLEM_NONE, true);
    message.plain = pki_csr_make(pki, &fresh, pool);
    open_expecting("ok/new key", pki_message_make(pki, &message, pool), PROBLEM_NONE, true);
    message.plain = pki_csr_make(pki, &false_proof, pool);
    open_expecting("fail/CSR signed by the old key", pki_message_make(pki, &message, pool), PROBLEM_BAD_ENVELOPE, true);
    message.plain = csr;
    message.signer = pki_certificate_make(pki, &expired);
    open_expecting("fail/expired", pki_message_make(pki, &message, pool), PROBLEM_BAD_SIGNER, true);
    message.signer = pki_certificate_make(pki, &early);
    open_expecting("fail/not yet valid", pki_message_make(pki, &message, pool), PROBLEM_BAD_SIGNER, true);
    message.signer = pki_certificate_make(pki, &forged);
    open_expecting("fail/forged", pki_message_make(pki, &message, pool), PROBLEM_BAD_SIGNER, true);
    message.signer = pki->device;
    open_expecting("fail/self-signed", pki_message_make(pki, &message, pool), PROBLEM_BAD_SIGNER, true);
    open_expecting("fail/the RA's own", pki_message_make(pki, &by_ra, pool), PROBLEM_BAD_SIGNER, true);
}

static void policies(void **state)
{
    pki_certificate_t small = {.subject = "small", .key = pki->small_key};
    pki_csr_t small_csr = {.key = pki->small_key};
    pki_csr_t sid = {.key = pki->device_key, .extension = SCEP_OID_SID_EXTENSION};
    pki_csr_t twice = {.key = pki->device_key,
                       .challenges = {{V_ASN1_UTF8STRING, "a", 1}, {V_ASN1_UTF8STRING, "a", 1}}};
    pki_csr_t lists = {.key = pki->device_key, .extension = "1.2.3.4", .list_too = PKI_LIST_IN_IT};
    pki_csr_t extension_twice = {.key = pki->device_key, .extension = "1.2.3.4", .extension_twice = true};
    pki_csr_t none = {.key = pki->device_key};
    pki_message_t message = pki_request(pki, csr);

    (void)state;
    message.plain = pki_csr_make(pki, &none, pool);
    open_expecting("ok/no challenge", pki_message_make(pki, &message, pool), PROBLEM_NONE, true);
    message.plain = pki_csr_make(pki, &twice, pool);
    open_expecting("fail/two challenges", pki_message_make(pki, &message, pool), PROBLEM_CHALLENGE_TWICE, true);
    message.plain = pki_csr_make(pki, &lists, pool);
    open_expecting("fail/two lists", pki_message_make(pki, &message, pool), PROBLEM_EXTENSIONS_TWICE, true);
    message.plain = pki_csr_make(pki, &extension_twice, pool);
    open_expecting("fail/twice in a list", pki_message_make(pki, &message, pool), PROBLEM_EXTENSIONS_TWICE, true);
    message.plain = pki_csr_make(pki, &sid, pool);
    open_expecting("fail/SID", pki_message_make(pki, &message, pool), PROBLEM_SID_EXTENSION, true);
    pki->policy.refuse_sid = false;
    open_expecting("ok/SID allowed", pki_message_make(pki, &message, pool), PROBLEM_NONE, true);
    pki->policy.refuse_sid = true;
    message.plain = pki_csr_make(pki, &small_csr, pool);
    message.signer = pki_certificate_make(pki, &small);
    message.signer_key = pki->small_key;
    open_expecting("fail/small key", pki_message_make(pki, &message, pool), PROBLEM_KEY_TOO_SMALL, true);
    pki->policy.min_key_bits = 1024;
    open_expecting("ok/small key allowed", pki_message_make(pki, &message, pool), PROBLEM_NONE, true);
    pki->policy.min_key_bits = 2048;
}

static scep_request_t *good_request(pki_message_t message)
{
    scep_request_t *request = NULL;

    assert_int_equal(scep_request_open(&request, pki->identity, &pki->policy, pki_message_make(pki, &message, pool),
                                       pool, result_make(pool)),
                     APR_SUCCESS);
    return request;
}

/* The RA's message to the CA, opened with the CA's key as if the CA were a gateway itself. */
static void relay_for_the_ca(void **state)
{
    scep_request_t *request = good_request(pki_request(pki, csr));
    scep_identity_t ca = *pki->identity;
    pki_csr_t same = {.key = pki->ra_key};
    scep_algorithms_t use = {SCEP_AES256, SCEP_SHA512};
    scep_algorithms_t unset = {0, 0};
    scep_relay_t *first = NULL;
    scep_relay_t *second = NULL;
    scep_request_t *opened = NULL;
    result_t *result = result_make(pool);

    (void)state;
    ca.ra_certificate = ca.device_certificate = pki->ca;
    ca.ra_key = ca.device_key = pki->ca_key;
    assert_int_equal(scep_relay_build(&first, pki->identity, request, use, pool, result), APR_SUCCESS);
    assert_int_equal(scep_relay_build(&second, pki->identity, request, unset, pool, result), APR_SUCCESS);
    assert_string_equal(first->transaction_id, request->transaction_id);
    assert_int_equal(first->sender_nonce.len, SCEP_NONCE_LENGTH);
    assert_false(bytes_equal(first->sender_nonce, second->sender_nonce));
    assert_false(bytes_equal(first->sender_nonce, request->sender_nonce));
    assert_true(bytes_equal(first->spki, request->csr.spki));
    /* The CSR's key is not the signer's: a gateway refuses that, a CA that trusts the RA does not. */
    assert_int_equal(scep_request_open(&opened, &ca, &pki->policy, first->body, pool, result), APR_EGENERAL);
    assert_int_equal(result->problem, PROBLEM_BAD_ENVELOPE);
    assert_string_equal(result->detail, "the key of the certificate request is not the signer's");
    assert_string_equal(opened->transaction_id, request->transaction_id);
    assert_true(bytes_equal(opened->sender_nonce, first->sender_nonce));
    assert_int_equal(opened->type, SCEP_PKCSREQ);
    assert_int_equal(opened->cipher, SCEP_AES256);
    assert_int_equal(opened->digest, SCEP_SHA512);
    assert_int_equal(X509_cmp(opened->signer, pki->ra), 0);
    /* With a CSR of the RA's own key all of it opens. */
    request->csr.der = pki_csr_make(pki, &same, pool);
    result = result_make(pool);
    assert_int_equal(scep_relay_build(&second, pki->identity, request, unset, pool, result), APR_SUCCESS);
    assert_int_equal(scep_request_open(&opened, &ca, &pki->policy, second->body, pool, result), APR_SUCCESS);
    assert_true(bytes_equal(opened->csr.der, request->csr.der));
    assert_int_equal(opened->cipher, SCEP_AES128);
    assert_int_equal(opened->digest, SCEP_SHA256);
}

static void check_certrep(const pki_certrep_t *rep, const scep_request_t *request, const char *status)
{
    assert_non_null(rep);
    assert_string_equal(rep->type, "3");
    assert_string_equal(rep->status, status);
    assert_string_equal(rep->transaction_id, request->transaction_id);
    assert_true(bytes_equal(rep->recipient_nonce, request->sender_nonce));
    assert_int_equal(rep->sender_nonce.len, 16);
    assert_int_equal(rep->outer_certificates, 1);
}

static void success_for_the_device(void **state)
{
    static const struct {
        const char *cipher;
        const char *digest;
        int cipher_nid;
        int digest_nid;
    } cases[] = {{"AES-128-CBC", "SHA-256", NID_aes_128_cbc, NID_sha256},
                 {"AES-256-CBC", "SHA-512", NID_aes_256_cbc, NID_sha512},
                 {"DES-EDE3-CBC", "SHA-1", NID_des_ede3_cbc, NID_sha1}};
    pki_certificate_t issued = {
        .subject = "device", .key = pki->device_key, .issuer = pki->ca, .issuer_key = pki->ca_key};
    X509 *certificate = pki_certificate_make(pki, &issued);
    unsigned i = 0;

    (void)state;
    for (i = 0; i < COUNT(cases); i++) {
        pki_message_t message = pki_request(pki, csr);
        scep_request_t *request = NULL;
        pki_certrep_t *rep = NULL;
        bytes_t body;

        message.cipher = cases[i].cipher;
        message.digest = cases[i].digest;
        request = good_request(message);
        assert_int_equal(scep_success_build(&body, pki->identity, request, certificate, pool, result_make(pool)),
                         APR_SUCCESS);
        rep = pki_certrep_open(pki, body, pki->device, pki->device_key, pool);
        check_certrep(rep, request, "0");
        assert_null(rep->fail_info);
        assert_string_equal(rep->cipher, OBJ_nid2sn(cases[i].cipher_nid));
        assert_string_equal(rep->digest, OBJ_nid2sn(cases[i].digest_nid));
        assert_int_equal(sk_X509_num(rep->certificates), 1);
        assert_int_equal(X509_cmp(sk_X509_value(rep->certificates, 0), certificate), 0);
        /* DER: definite lengths. */
        assert_int_not_equal(body.data[1], 0x80);
    }
}

static void refusals_for_the_device(void **state)
{
    scep_request_t *request = good_request(pki_request(pki, csr));
    pki_certrep_t *rep = NULL;
    bytes_t first;
    bytes_t second;

    (void)state;
    assert_int_equal(
        scep_failure_build(&first, pki->identity, request, SCEP_BAD_MESSAGE_CHECK, "grüße", pool, result_make(pool)),
        APR_SUCCESS);
    rep = pki_certrep_open(pki, first, pki->device, pki->device_key, pool);
    check_certrep(rep, request, "2");
    assert_string_equal(rep->fail_info, "1");
    assert_string_equal(rep->text, "grüße");
    assert_false(rep->has_envelope);
    assert_int_equal(scep_failure_build(&second, pki->identity, request, SCEP_BAD_ALG, NULL, pool, result_make(pool)),
                     APR_SUCCESS);
    rep = pki_certrep_open(pki, second, pki->device, pki->device_key, pool);
    check_certrep(rep, request, "2");
    assert_string_equal(rep->fail_info, "0");
    assert_null(rep->text);
    assert_int_equal(scep_pending_build(&second, pki->identity, request, pool, result_make(pool)), APR_SUCCESS);
    rep = pki_certrep_open(pki, second, pki->device, pki->device_key, pool);
    check_certrep(rep, request, "3");
    assert_null(rep->fail_info);
    assert_false(rep->has_envelope);
}

/* A forbidden digest is not used for the refusal either. */
static void refusal_of_a_forbidden_digest(void **state)
{
    pki_message_t message = pki_request(pki, csr);
    scep_request_t *request = NULL;
    pki_certrep_t *rep = NULL;
    bytes_t body;

    (void)state;
    message.digest = "MD5";
    request = open_expecting("fail/MD5", pki_message_make(pki, &message, pool), PROBLEM_BAD_ALGORITHM, true);
    assert_int_equal(scep_failure_build(&body, pki->identity, request, SCEP_BAD_ALG, NULL, pool, result_make(pool)),
                     APR_SUCCESS);
    rep = pki_certrep_open(pki, body, pki->device, pki->device_key, pool);
    check_certrep(rep, request, "2");
    assert_string_equal(rep->digest, "SHA256");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_request),
        cmocka_unit_test(forms_of_good_requests),
        cmocka_unit_test(attributes),
        cmocka_unit_test(longest_values),
        cmocka_unit_test(structures),
        cmocka_unit_test(a_signature_by_another_key),
        cmocka_unit_test(forbidden_algorithms),
        cmocka_unit_test(other_message_types),
        cmocka_unit_test(renewals),
        cmocka_unit_test(policies),
        cmocka_unit_test(relay_for_the_ca),
        cmocka_unit_test(success_for_the_device),
        cmocka_unit_test(refusals_for_the_device),
        cmocka_unit_test(refusal_of_a_forbidden_digest),
    };
    int failed = 0;

    pki_global_init();
    failed = cmocka_run_group_tests(tests, setup, teardown);
    pki_global_end();
    return failed;
}
