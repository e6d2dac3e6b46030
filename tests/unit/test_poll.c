/* SPDX-License-Identifier: Apache-2.0 */
/* A device's CertPoll through scep/. */
#include "pki_fixture.h"

#include "scep/parts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <apr_strings.h>
#include <cmocka.h>
#include <openssl/err.h>
#include <openssl/evp.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static apr_pool_t *pool;
static pki_t *pki;
static bytes_t csr;
static bytes_t names;

static int setup(void **state)
{
    pki_csr_t wanted = {.challenges = {{V_ASN1_PRINTABLESTRING, "secret", 6}}};

    (void)state;
    apr_pool_create(&pool, NULL);
    pki = pki_make(pool);
    wanted.key = pki->device_key;
    csr = pki_csr_make(pki, &wanted, pool);
    names = pki_poll_make(X509_get_subject_name(pki->ca), X509_get_subject_name(pki->device), pool);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    apr_pool_destroy(pool);
    return 0;
}

static bytes_t bytes_of(const char *data, apr_size_t len)
{
    bytes_t bytes = {(const unsigned char *)data, len};

    return bytes;
}

static bytes_t with_a_byte_behind(bytes_t der)
{
    unsigned char *longer = apr_pcalloc(pool, der.len + 1);
    bytes_t bytes = {longer, der.len + 1};

    memcpy(longer, der.data, der.len);
    return bytes;
}

static pki_message_t poll(void)
{
    pki_message_t message = pki_request(pki, names);

    message.type = "20";
    return message;
}

static scep_request_t *open_expecting(const char *name, const pki_message_t *message, problem_t problem)
{
    bytes_t der = pki_message_make(pki, message, pool);
    scep_request_t *request = NULL;
    result_t *result = result_make(pool);
    apr_status_t status = scep_request_open(&request, pki->identity, &pki->policy, der, pool, result);

    pki_look(pki, der);

    print_message("%s: %s %s\n", name, problem_facts(result->problem)->name, result->detail ? result->detail : "");
    assert_int_equal(result->problem, problem);
    assert_int_equal(status, problem ? APR_EGENERAL : APR_SUCCESS);
    assert_int_equal(ERR_peek_error(), 0);
    assert_non_null(request);
    return request;
}

static bytes_t key_hash(X509 *certificate)
{
    unsigned char *der = NULL;
    int len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(certificate), &der);
    unsigned char *hash = apr_palloc(pool, 32);
    EVP_MD *digest = EVP_MD_fetch(pki->engine->context, "SHA-256", NULL);
    bytes_t bytes = {hash, 32};

    assert_true(len > 0 && EVP_Digest(der, (size_t)len, hash, NULL, digest, NULL));
    EVP_MD_free(digest);
    OPENSSL_free(der);
    return bytes;
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

static void a_good_poll(void **state)
{
    pki_message_t message = poll();
    scep_request_t *request = open_expecting("ok/self-signed", &message, PROBLEM_NONE);

    (void)state;
    assert_int_equal(request->type, SCEP_CERTPOLL);
    assert_false(scep_type_is_inquiry(request->type));
    assert_false(scep_type_has_csr(request->type));
    assert_string_equal(request->transaction_id, "6F1D2C3B4A59687706F1D2C3B4A5968770123456");
    assert_true(bytes_equal(request->signer_key_sha256, key_hash(pki->device)));
    assert_int_equal(X509_cmp(request->signer, pki->device), 0);
    assert_int_equal(request->cipher, SCEP_AES128);
    assert_null(request->csr.der.data);
    assert_null(request->inquiry.der.data);
}

static void forms_of_good_polls(void **state)
{
    pki_message_t good = poll();
    X509_NAME *empty = X509_NAME_new();
    struct {
        const char *name;
        pki_message_t message;
    } cases[] = {{"ok/BER", good},
                 {"ok/OAEP", good},
                 {"ok/3DES and SHA-1", good},
                 {"ok/several recipients", good},
                 {"ok/RSASSA-PSS", good},
                 {"ok/signer with a certificate of the CA", good},
                 {"ok/signer with an expired one", good},
                 {"ok/names that nobody knows", good},
                 {"ok/empty names", good}};
    unsigned i = 0;

    (void)state;
    cases[0].message.ber = true;
    cases[1].message.oaep = true;
    cases[2].message.cipher = "DES-EDE3-CBC";
    cases[2].message.digest = "SHA-1";
    cases[3].message.first_recipient = pki->other;
    cases[4].message.pss = true;
    cases[5].message.signer = issued(pki->device_key, 1000);
    cases[6].message.signer = issued(pki->device_key, -1000);
    cases[7].message.plain = pki_poll_make(X509_get_subject_name(pki->other), X509_get_subject_name(pki->other), pool);
    cases[8].message.plain = pki_poll_make(empty, empty, pool);
    for (i = 0; i < COUNT(cases); i++) {
        scep_request_t *request = open_expecting(cases[i].name, &cases[i].message, PROBLEM_NONE);

        assert_true(bytes_equal(request->signer_key_sha256, key_hash(pki->device)));
    }
    X509_NAME_free(empty);
}

/* What an IssuerAndSubject is. A CertPoll is taken whatever it holds, but with an envelope it must come. */
static void contents(void **state)
{
    pki_message_t message = poll();
    bytes_t one_byte_less = {names.data, names.len - 1};
    struct {
        const char *name;
        bytes_t plain;
    } cases[] = {
        {"fail/empty envelope", bytes_of("", 0)},
        {"fail/text", bytes_of_text("hello")},
        {"fail/a CSR", csr},
        {"fail/an IssuerAndSerialNumber", pki_inquiry_make(pki->ra, pool)},
        {"fail/a certificate", pki_certificate_der(pki->device, pool)},
        {"fail/a byte short", one_byte_less},
        {"fail/a byte behind", with_a_byte_behind(names)},
        {"fail/NULL", bytes_of("\x05\x00", 2)},
        {"fail/empty SEQUENCE", bytes_of("\x30\x00", 2)},
        {"fail/one name", bytes_of("\x30\x02\x30\x00", 4)},
        {"fail/three names", bytes_of("\x30\x06\x30\x00\x30\x00\x30\x00", 8)},
        {"fail/a byte behind the names, inside", bytes_of("\x30\x05\x30\x00\x30\x00\x00", 7)},
        {"fail/a SET", bytes_of("\x31\x04\x30\x00\x30\x00", 6)},
        {"fail/not universal", bytes_of("\xb0\x04\x30\x00\x30\x00", 6)},
        {"fail/primitive", bytes_of("\x10\x04\x30\x00\x30\x00", 6)},
        {"fail/first name is primitive", bytes_of("\x30\x04\x10\x00\x30\x00", 6)},
        {"fail/indefinite length", bytes_of("\x30\x80\x30\x00\x30\x00\x00\x00", 8)},
        {"fail/longer than it is", bytes_of("\x30\x84\x7f\xff\xff\xff\x30\x00\x30\x00", 10)},
        {"fail/second name longer than the rest", bytes_of("\x30\x04\x30\x00\x30\x02", 6)},
        {"fail/second name is none", bytes_of("\x30\x05\x30\x00\x02\x01\x01", 7)},
    };
    unsigned i = 0;

    (void)state;
    for (i = 0; i < COUNT(cases); i++) {
        scep_poll_t read = {.issuer = NULL};

        print_message("%s\n", cases[i].name);
        assert_non_null(scep_poll_open(&read, cases[i].plain, pool));
        assert_null(read.der.data);
        message.plain = cases[i].plain;
        open_expecting("ok/in a CertPoll", &message, PROBLEM_NONE);
    }
    message = poll();
    message.recipient = pki->other;
    open_expecting("ok/other recipient", &message, PROBLEM_NONE);
    message = poll();
    message.no_content = true;
    open_expecting("fail/no envelope", &message, PROBLEM_BAD_ENVELOPE);
    message = poll();
    message.content = with_a_byte_behind(pki_envelope_make(pki, &message, pool));
    open_expecting("fail/a byte behind the envelope", &message, PROBLEM_BAD_ENVELOPE);
    message = poll();
    message.type = "19";
    open_expecting("fail/an IssuerAndSubject in a PKCSReq", &message, PROBLEM_BAD_ENVELOPE);
    message.type = "21";
    message.signer = issued(pki->device_key, 1000);
    open_expecting("fail/an IssuerAndSubject in a GetCert", &message, PROBLEM_BAD_ENVELOPE);
}

/*
 * What somebody else sent, in a message of one's own: its first block, which begins like everybody's, gets another head
 * by means of the IV; its second one comes last, behind a block of one's choice. Were it told whether that has good
 * padding, 256 messages would tell one byte of a challenge (Vaudenay 2002).
 */
enum { BLOCK = 16, BLOCKS = 4 };
static const char OF_ANOTHER[] = "known beginning;and a secret that nobody but the RA may read";

static bytes_t tampered(bytes_t envelope, const char *head, int chosen)
{
    unsigned char *der = apr_pmemdup(pool, envelope.data, envelope.len);
    unsigned char *content = der + envelope.len - (apr_size_t)BLOCKS * BLOCK;
    unsigned char *iv = content - 2 - BLOCK;
    int i = 0;

    for (i = 0; i < BLOCK - 1; i++) {
        iv[i] ^= (unsigned char)(OF_ANOTHER[i] ^ head[i]);
    }
    memcpy(content + (BLOCKS - 1) * BLOCK, content + BLOCK, BLOCK);
    content[(BLOCKS - 1) * BLOCK - 1] = (unsigned char)chosen;
    return (bytes_t){der, envelope.len};
}

static void no_padding_oracle(void **state)
{
    struct {
        const char *name;
        const char *type;
        const char *head;
    } cases[] = {{"CertPoll", "20", "\x30\x3d\x30\x00\x30\x39\x31\x37\x30\x35\x06\x01\x2a\x14\x30"},
                 {"GetCert", "21", "\x30\x3d\x30\x09\x31\x07\x30\x05\x06\x01\x2a\x14\x00\x02\x30"},
                 {"GetCRL", "22", "\x30\x3d\x30\x09\x31\x07\x30\x05\x06\x01\x2a\x14\x00\x02\x30"}};
    pki_message_t message = poll();
    bytes_t envelope = {NULL, 0};
    unsigned i = 0;

    (void)state;
    message.plain = bytes_of(OF_ANOTHER, sizeof(OF_ANOTHER) - 1);
    envelope = pki_envelope_make(pki, &message, pool);
    message.signer = issued(pki->device_key, 1000);
    for (i = 0; i < COUNT(cases); i++) {
        int taken = 0;
        int chosen = 0;

        message.type = cases[i].type;
        for (chosen = 0; chosen < 256; chosen++) {
            scep_request_t *request = NULL;

            message.content = tampered(envelope, cases[i].head, chosen);
            taken += scep_request_open(&request, pki->identity, &pki->policy, pki_message_make(pki, &message, pool),
                                       pool, result_make(pool)) == APR_SUCCESS;
        }
        print_message("%s: %d of 256 taken\n", cases[i].name, taken);
        assert_true(taken == 0 || taken == 256);
    }
}

static void signers(void **state)
{
    pki_certificate_t elliptic = {.subject = "elliptic", .key = pki->ec_key};
    pki_certificate_t real = {
        .subject = "twin", .key = pki->device_key, .issuer = pki->ca, .issuer_key = pki->ca_key, .serial = 4711};
    pki_certificate_t shown = real;
    pki_message_t message = poll();
    scep_request_t *request = NULL;

    (void)state;
    message.digest = "MD5";
    open_expecting("fail/MD5", &message, PROBLEM_BAD_ALGORITHM);
    message = poll();
    message.cipher = "DES-CBC";
    open_expecting("fail/DES", &message, PROBLEM_BAD_ALGORITHM);
    message = poll();
    message.signer = pki_certificate_make(pki, &elliptic);
    message.signer_key = pki->ec_key;
    open_expecting("fail/elliptic", &message, PROBLEM_KEY_CANNOT_DECRYPT);
    shown.key = pki->other_key;
    message = poll();
    message.signer = pki_certificate_make(pki, &real);
    message.no_certificate = true;
    message.extra_certificate = pki_certificate_make(pki, &shown);
    request = open_expecting("fail/signed by another key", &message, PROBLEM_BAD_SIGNATURE);
    assert_int_equal(request->signer_key_sha256.len, 0);
    shown.key = pki_public_rsa_make(pki, 8193, 0);
    message.extra_certificate = pki_certificate_make(pki, &shown);
    open_expecting("fail/8193 bits", &message, PROBLEM_KEY_NOT_SERVED);
}

/* It names the key, whatever certificate is around it and whatever type the message has. */
static void signer_keys(void **state)
{
    pki_message_t message = pki_request(pki, csr);
    pki_csr_t fresh = {.key = pki->other_key};
    X509 *holder = issued(pki->device_key, 1000);
    bytes_t hash = key_hash(pki->device);
    scep_request_t *request = open_expecting("ok/PKCSReq", &message, PROBLEM_NONE);

    (void)state;
    assert_int_equal(hash.len, 32);
    assert_true(bytes_equal(request->signer_key_sha256, hash));
    message.type = "17";
    message.signer = holder;
    message.plain = pki_csr_make(pki, &fresh, pool);
    request = open_expecting("ok/RenewalReq with a new key", &message, PROBLEM_NONE);
    assert_true(bytes_equal(request->signer_key_sha256, hash));
    message.type = "21";
    message.plain = pki_inquiry_make(holder, pool);
    request = open_expecting("ok/GetCert", &message, PROBLEM_NONE);
    assert_true(bytes_equal(request->signer_key_sha256, hash));
    message = poll();
    message.signer = pki->other;
    message.signer_key = pki->other_key;
    request = open_expecting("ok/CertPoll by another key", &message, PROBLEM_NONE);
    assert_true(bytes_equal(request->signer_key_sha256, key_hash(pki->other)));
    assert_false(bytes_equal(request->signer_key_sha256, hash));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_poll),
        cmocka_unit_test(forms_of_good_polls),
        cmocka_unit_test(contents),
        cmocka_unit_test(no_padding_oracle),
        cmocka_unit_test(signers),
        cmocka_unit_test(signer_keys),
    };
    int failed = 0;

    pki_global_init();
    failed = cmocka_run_group_tests(tests, setup, teardown);
    pki_global_end();
    return failed;
}
