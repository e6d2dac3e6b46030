/* SPDX-License-Identifier: Apache-2.0 */
/* Strangers: nothing crashes, nothing changed is taken, and the RA key is no oracle. */
#include "pki_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <apr_strings.h>
#include <cmocka.h>
#include <openssl/err.h>
#include <openssl/objects.h>

enum { MUTANTS = 3000, SIGNED_MUTANTS = 300 };

static apr_pool_t *pool;
static pki_t *pki;
static bytes_t csr;
static apr_uint64_t seed;

static int setup(void **state)
{
    pki_csr_t wanted = {.challenges = {{V_ASN1_PRINTABLESTRING, "secret", 6}}, .extension = "1.2.3.4"};

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

/* The same numbers in each run, so that a failure can be had again (the keys are other ones, though). */
static unsigned number(unsigned below)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(seed >> 33) % below;
}

static bytes_t mutate(bytes_t good, apr_pool_t *scratch)
{
    unsigned char *changed = apr_pcalloc(scratch, good.len + 8);
    bytes_t mutant = {changed, good.len};
    unsigned at = number((unsigned)good.len);
    unsigned i = 0;

    memcpy(changed, good.data, good.len);
    switch (number(6)) {
    case 0: /* one bit */
        changed[at] ^= (unsigned char)(1u << number(8));
        break;
    case 1: /* one byte */
        changed[at] = (unsigned char)number(256);
        break;
    case 2: /* several bytes */
        for (i = 0; i < 8; i++) {
            changed[number((unsigned)good.len)] = (unsigned char)number(256);
        }
        break;
    case 3: /* cut */
        mutant.len = at;
        break;
    case 4: /* something behind */
        mutant.len += 1 + number(8);
        break;
    default: /* a piece twice */
        memmove(changed + at, changed + number((unsigned)good.len - 64), at + 64 < good.len ? 64 : good.len - at);
        break;
    }
    return mutant;
}

static void mutants_of_a_request(void **state)
{
    pki_message_t message = pki_request(pki, csr);
    bytes_t good = pki_message_make(pki, &message, pool);
    unsigned taken = 0;
    unsigned i = 0;

    (void)state;
    seed = 1;
    for (i = 0; i < MUTANTS; i++) {
        apr_pool_t *scratch = NULL;
        scep_request_t *request = NULL;
        result_t *result = NULL;
        apr_status_t status = APR_SUCCESS;
        bytes_t mutant;

        apr_pool_create(&scratch, pool);
        result = result_make(scratch);
        mutant = mutate(good, scratch);
        status = scep_request_open(&request, pki->identity, &pki->policy, mutant, scratch, result);
        pki_look(pki, mutant);
        assert_int_equal(status == APR_SUCCESS, result->problem == PROBLEM_NONE);
        assert_true(request || result->problem == PROBLEM_NOT_SCEP);
        if (status == APR_SUCCESS) {
            taken++;
            assert_true(bytes_equal(request->csr.der, csr));
            assert_true(bytes_equal(request->sender_nonce, message.sender_nonce));
            assert_true(bytes_equal(bytes_of_text(request->transaction_id), message.transaction_id));
        }
        apr_pool_destroy(scratch);
    }
    print_message("%u of %u still held the same request\n", taken, (unsigned)MUTANTS);
    assert_true(taken < MUTANTS / 10);
}

/* A stranger who signs what he changed in the envelope of another. */
static void mutants_of_an_envelope(void **state)
{
    pki_message_t message = pki_request(pki, csr);
    bytes_t good = pki_envelope_make(pki, &message, pool);
    unsigned i = 0;

    (void)state;
    seed = 2;
    for (i = 0; i < SIGNED_MUTANTS; i++) {
        apr_pool_t *scratch = NULL;
        scep_request_t *request = NULL;
        result_t *result = NULL;
        bytes_t der;

        apr_pool_create(&scratch, pool);
        result = result_make(scratch);
        message.content = mutate(good, scratch);
        if (!message.content.len) {
            continue;
        }
        der = pki_message_make(pki, &message, scratch);
        pki_look(pki, der);
        if (scep_request_open(&request, pki->identity, &pki->policy, der, scratch, result) == APR_SUCCESS) {
            assert_true(bytes_equal(request->csr.der, csr));
        } else {
            assert_true(result->problem == PROBLEM_BAD_ENVELOPE || result->problem == PROBLEM_BAD_ALGORITHM);
        }
        apr_pool_destroy(scratch);
    }
}

static void mutants_of_an_answer(void **state)
{
    pki_certificate_t wanted = {
        .subject = "device", .key = pki->device_key, .issuer = pki->ca, .issuer_key = pki->ca_key};
    X509 *issued = pki_certificate_make(pki, &wanted);
    bytes_t der = pki_certificate_der(issued, pool);
    scep_algorithms_t use = {SCEP_AES128, SCEP_SHA256};
    pki_message_t message = pki_request(pki, csr);
    scep_request_t *request = NULL;
    scep_relay_t *relay = NULL;
    unsigned taken = 0;
    unsigned i = 0;
    bytes_t good;

    (void)state;
    assert_int_equal(scep_request_open(&request, pki->identity, &pki->policy, pki_message_make(pki, &message, pool),
                                       pool, result_make(pool)),
                     APR_SUCCESS);
    assert_int_equal(scep_relay_build(&relay, pki->identity, request, use, pool, result_make(pool)), APR_SUCCESS);
    message = pki_answer(pki, relay, pki_degenerate_make(pki, pki->ca, issued, NULL, pool));
    good = pki_message_make(pki, &message, pool);
    seed = 3;
    for (i = 0; i < MUTANTS; i++) {
        apr_pool_t *scratch = NULL;
        scep_answer_t *answer = NULL;
        result_t *result = NULL;
        apr_status_t status = APR_SUCCESS;
        bytes_t mutant;

        apr_pool_create(&scratch, pool);
        result = result_make(scratch);
        mutant = mutate(good, scratch);
        status = scep_answer_open(&answer, pki->identity, &pki->policy, relay, mutant, scratch, result);
        pki_look(pki, mutant);
        assert_int_equal(status == APR_SUCCESS, result->problem == PROBLEM_NONE);
        if (status == APR_SUCCESS) {
            taken++;
            assert_int_equal(answer->status, SCEP_SUCCESS);
            assert_true(bytes_equal(answer->certificate_der, der));
        } else {
            assert_null(answer->certificate);
        }
        apr_pool_destroy(scratch);
    }
    print_message("%u of %u still held the same certificate\n", taken, (unsigned)MUTANTS);
    assert_true(taken < MUTANTS);
}

static void expect_bad_envelope(const char *name, const pki_message_t *message)
{
    scep_request_t *request = NULL;
    result_t *result = result_make(pool);
    bytes_t der = pki_message_make(pki, message, pool);
    pki_certrep_t *rep = NULL;
    bytes_t body;

    assert_int_equal(scep_request_open(&request, pki->identity, &pki->policy, der, pool, result), APR_EGENERAL);
    print_message("%s: %s\n", name, result->detail);
    assert_int_equal(result->problem, PROBLEM_BAD_ENVELOPE);
    assert_non_null(request);
    assert_int_equal(request->digest, SCEP_SHA256);
    assert_null(request->csr.der.data);
    assert_int_equal(ERR_peek_error(), 0);
    assert_int_equal(scep_failure_build(&body, pki->identity, request,
                                        (scep_fail_info_t)problem_facts(result->problem)->fail_info, NULL, pool,
                                        result_make(pool)),
                     APR_SUCCESS);
    rep = pki_certrep_open(pki, body, pki->device, pki->device_key, pool);
    assert_non_null(rep);
    assert_string_equal(rep->fail_info, "1");
    assert_null(rep->text);
}

static apr_size_t find(bytes_t in, const char *what, apr_size_t len)
{
    apr_size_t i = 0;

    for (i = 0; i + len <= in.len; i++) {
        if (memcmp(in.data + i, what, len) == 0) {
            return i;
        }
    }
    fail_msg("not found");
    return 0;
}

/* 64 flipped bits of the encrypted key and 64 of the encrypted content: the same answer for all. */
static void flipped_bits_tell_nothing(void **state)
{
    pki_message_t message = pki_request(pki, csr);
    bytes_t good = pki_envelope_make(pki, &message, pool);
    apr_size_t key = find(good, "\x04\x82\x01\x00", 4) + 4;
    unsigned i = 0;

    (void)state;
    for (i = 0; i < 128; i++) {
        unsigned char *changed = apr_pmemdup(pool, good.data, good.len);
        apr_size_t at = i < 64 ? key + 4 * i : good.len - 1 - (i - 64) * 8;

        changed[at] ^= (unsigned char)(1u << (i % 8));
        message.content.data = changed;
        message.content.len = good.len;
        expect_bad_envelope(apr_psprintf(pool, "fail/bit %u", i), &message);
    }
}

static void all_failures_after_decryption_are_one(void **state)
{
    pki_csr_t foreign = {.key = pki->other_key};
    pki_csr_t unproved = {.key = pki->device_key, .signer = pki->other_key};
    pki_csr_t elliptic = {.key = pki->ec_key};
    pki_csr_t broken = {.key = pki->device_key, .extension = "1.2.3.4", .broken_extensions = true};
    pki_message_t good = pki_request(pki, csr);
    unsigned char *longer = apr_pcalloc(pool, csr.len + 1);
    struct {
        const char *name;
        pki_message_t message;
    } cases[] = {{"fail/another recipient", good},
                 {"fail/empty", good},
                 {"fail/text", good},
                 {"fail/another's CSR", good},
                 {"fail/no proof", good},
                 {"fail/elliptic CSR", good},
                 {"fail/broken extensions", good},
                 {"fail/a byte behind", good},
                 {"fail/a byte short", good},
                 {"fail/inner type", good},
                 {"fail/OAEP, other recipient", good},
                 {"fail/the right recipient's name, another's key", good}};
    pki_certificate_t twin = {.subject = "RA", .key = pki->other_key, .issuer = pki->ca, .issuer_key = pki->ca_key};
    unsigned i = 0;

    (void)state;
    memcpy(longer, csr.data, csr.len);
    twin.serial = ASN1_INTEGER_get(X509_get0_serialNumber(pki->ra));
    cases[0].message.recipient = pki->other;
    cases[1].message.plain.len = 0;
    cases[2].message.plain = bytes_of_text("hello");
    cases[3].message.plain = pki_csr_make(pki, &foreign, pool);
    cases[4].message.plain = pki_csr_make(pki, &unproved, pool);
    cases[5].message.plain = pki_csr_make(pki, &elliptic, pool);
    cases[6].message.plain = pki_csr_make(pki, &broken, pool);
    cases[7].message.plain.data = longer;
    cases[7].message.plain.len = csr.len + 1;
    cases[8].message.plain.len--;
    cases[9].message.inner_type = NID_pkcs7_signed;
    cases[10].message.recipient = pki->other;
    cases[10].message.oaep = true;
    cases[11].message.recipient = pki_certificate_make(pki, &twin);
    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        expect_bad_envelope(cases[i].name, &cases[i].message);
    }
    good.no_content = true;
    expect_bad_envelope("fail/no content", &good);
    good.no_content = false;
    good.content = bytes_of_text("hello");
    expect_bad_envelope("fail/no envelope", &good);
}

static void open_expecting(const char *name, bytes_t der, problem_t problem)
{
    scep_request_t *request = NULL;
    result_t *result = result_make(pool);

    scep_request_open(&request, pki->identity, &pki->policy, der, pool, result);
    pki_look(pki, der);
    print_message("%s: %s\n", name, result->detail ? result->detail : "");
    assert_int_equal(result->problem, problem);
    assert_int_equal(ERR_peek_error(), 0);
}

/* A message in BER that names more digests, so many times SHA-512, behind the one that it needs. */
static bytes_t with_digests(bytes_t message, unsigned more, bool indefinite)
{
    static const unsigned char sha512[] = {0x30, 0x0b, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 3};
    enum { BEFORE = 20, HEAD = 6, END = 2 }; /* the lengths of what is around the SET are indefinite */
    apr_size_t first = message.data[BEFORE + 1];
    apr_size_t inside = first + more * sizeof(sha512);
    unsigned char *made = apr_palloc(pool, message.len + HEAD + more * sizeof(sha512) + END);
    unsigned char *at = made + BEFORE;
    bytes_t bytes = {made, 0};
    unsigned i = 0;

    assert_int_equal(message.data[BEFORE], 0x31);
    memcpy(made, message.data, BEFORE);
    *at++ = 0x31;
    *at++ = indefinite ? 0x80 : 0x83;
    for (i = 3; i-- > 0 && !indefinite;) {
        *at++ = (unsigned char)(inside >> (8 * i));
    }
    memcpy(at, message.data + BEFORE + 2, first);
    at += first;
    for (i = 0; i < more; i++, at += sizeof(sha512)) {
        memcpy(at, sha512, sizeof(sha512));
    }
    memset(at, 0, END);
    at += indefinite ? END : 0;
    memcpy(at, message.data + BEFORE + 2 + first, message.len - BEFORE - 2 - first);
    bytes.len = (apr_size_t)(at - made) + message.len - BEFORE - 2 - first;
    return bytes;
}

/* OpenSSL computes all that are named, and thousands would take seconds, and more stack than a thread has. */
static void digests_without_end(void **state)
{
    static const struct {
        const char *name;
        unsigned more;
        bool indefinite;
        problem_t problem;
    } cases[] = {
        {"ok/eight", 7, false, PROBLEM_NONE},         {"ok/eight, indefinite length", 7, true, PROBLEM_NONE},
        {"fail/nine", 8, false, PROBLEM_NOT_SCEP},    {"fail/nine, indefinite length", 8, true, PROBLEM_NOT_SCEP},
        {"fail/75000", 75000, false, PROBLEM_NOT_SCEP}, {"fail/75000, indefinite length", 75000, true, PROBLEM_NOT_SCEP},
    };
    pki_message_t message = pki_request(pki, csr);
    unsigned i = 0;

    (void)state;
    message.ber = true;
    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        open_expecting(cases[i].name, with_digests(pki_message_make(pki, &message, pool), cases[i].more, cases[i].indefinite),
                       cases[i].problem);
    }
}

static bytes_t with_certificates(bytes_t message, int more)
{
    CMS_ContentInfo *cms = CMS_ContentInfo_new_ex(pki->engine->context, NULL);
    pki_certificate_t wanted = {.subject = "more", .key = pki->ec_key};
    const unsigned char *at = message.data;
    BIO *out = BIO_new(BIO_s_mem());

    must(cms && out && d2i_CMS_ContentInfo(&cms, &at, (long)message.len));
    while (more-- > 0) {
        must(CMS_add1_cert(cms, pki_certificate_make(pki, &wanted)));
    }
    must(i2d_CMS_bio(out, cms));
    CMS_ContentInfo_free(cms);
    return pki_bio_take(out, pool);
}

/* OpenSSL decodes the keys of all of them as soon as it reads a message. */
static void certificates_without_end(void **state)
{
    static const struct {
        const char *name;
        int more;
        problem_t problem;
    } cases[] = {{"ok/32", 31, PROBLEM_NONE}, {"fail/33", 32, PROBLEM_NOT_SCEP}, {"fail/500", 499, PROBLEM_NOT_SCEP}};
    pki_message_t message = pki_request(pki, csr);
    bytes_t good = pki_message_make(pki, &message, pool);
    unsigned i = 0;

    (void)state;
    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        open_expecting(cases[i].name, with_certificates(good, cases[i].more), cases[i].problem);
    }
}

/* An envelope has certificates, too, where OpenSSL sees an originator. None is needed to read what is for an RSA key. */
static void originators(void **state)
{
    static const struct {
        const char *name;
        const char *bytes; /* behind the envelope's version */
        int len;
        problem_t problem;
    } cases[] = {{"ok/none", "", 0, PROBLEM_NONE},
                 {"fail/one", "\xa0\x02\xa0\x00", 4, PROBLEM_BAD_ENVELOPE},
                 {"fail/of indefinite length", "\xa0\x80\xa0\x80\x00\x00\x00\x00", 8, PROBLEM_BAD_ENVELOPE},
                 {"fail/with a long tag", "\xbf\x00\x02\xa0\x00", 5, PROBLEM_BAD_ENVELOPE},
                 {"fail/with a longer tag", "\xbf\x80\x00\x02\xa0\x00", 6, PROBLEM_BAD_ENVELOPE}};
    enum { BEFORE = 20 }; /* the lengths of what is around them are indefinite */
    pki_message_t message = pki_request(pki, csr);
    bytes_t envelope;
    unsigned i = 0;

    (void)state;
    message.ber = true;
    envelope = pki_envelope_make(pki, &message, pool);
    assert_int_equal(envelope.data[BEFORE], 0x31);
    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        apr_size_t len = (apr_size_t)cases[i].len;
        unsigned char *made = apr_palloc(pool, envelope.len + len);
        scep_request_t *request = NULL;
        result_t *result = result_make(pool);

        memcpy(made, envelope.data, BEFORE);
        memcpy(made + BEFORE, cases[i].bytes, len);
        memcpy(made + BEFORE + len, envelope.data + BEFORE, envelope.len - BEFORE);
        message.content = (bytes_t){made, envelope.len + len};
        scep_request_open(&request, pki->identity, &pki->policy, pki_message_make(pki, &message, pool), pool, result);
        print_message("%s: %s\n", cases[i].name, result->detail ? result->detail : "");
        assert_int_equal(result->problem, cases[i].problem);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mutants_of_a_request),
        cmocka_unit_test(mutants_of_an_envelope),
        cmocka_unit_test(mutants_of_an_answer),
        cmocka_unit_test(flipped_bits_tell_nothing),
        cmocka_unit_test(all_failures_after_decryption_are_one),
        cmocka_unit_test(digests_without_end),
        cmocka_unit_test(certificates_without_end),
        cmocka_unit_test(originators),
    };
    int failed = 0;

    pki_global_init();
    failed = cmocka_run_group_tests(tests, setup, teardown);
    pki_global_end();
    return failed;
}
