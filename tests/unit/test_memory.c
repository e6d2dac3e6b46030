/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scep_request_open() and scep_answer_open() where memory runs out: that is nobody's fault but ours, and opens no door. Each
 * place where OpenSSL asks for memory is tried, with all that follow it, and alone.
 */
#include "pki_fixture.h"

#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/crypto.h>
#include <openssl/err.h>

/* Counts what OpenSSL asks for: from `first` up to `last` there is none. */
static long asked, first, last;

static bool is_refused(void)
{
    asked++;
    return first && asked >= first && asked <= last;
}

static void *take(size_t size, const char *file, int line)
{
    (void)file;
    (void)line;
    return is_refused() ? NULL : malloc(size);
}

static void *take_again(void *old, size_t size, const char *file, int line)
{
    (void)file;
    (void)line;
    return is_refused() ? NULL : realloc(old, size);
}

static void give(void *memory, const char *file, int line)
{
    (void)file;
    (void)line;
    free(memory);
}

static apr_pool_t *pool;
static pki_t *pki;
static scep_relay_t *relay;
static bytes_t request, forged_request, sid_request, double_request, answer, forged_answer;

static int setup(void **state)
{
    pki_csr_t csr = {.key = NULL};
    pki_certificate_t leaf;
    pki_message_t message;
    scep_request_t *opened = NULL;
    scep_algorithms_t use = {SCEP_AES128, SCEP_SHA256};

    (void)state;
    apr_pool_create(&pool, NULL);
    pki = pki_make(pool);
    csr.key = pki->device_key;
    message = pki_request(pki, pki_csr_make(pki, &csr, pool));
    request = pki_message_make(pki, &message, pool);
    if (scep_request_open(&opened, pki->identity, &pki->policy, request, pool, result_make(pool)) ||
        scep_relay_build(&relay, pki->identity, opened, use, pool, result_make(pool))) {
        return 1;
    }
    csr.signer = pki->other_key;
    message = pki_request(pki, pki_csr_make(pki, &csr, pool));
    forged_request = pki_message_make(pki, &message, pool);
    csr.signer = NULL;
    csr.extension = "1.3.6.1.4.1.311.25.2";
    message = pki_request(pki, pki_csr_make(pki, &csr, pool));
    sid_request = pki_message_make(pki, &message, pool);
    csr.extension = NULL;
    csr.challenges[0] = csr.challenges[1] = (pki_value_t){V_ASN1_UTF8STRING, "challenge", 9};
    message = pki_request(pki, pki_csr_make(pki, &csr, pool));
    double_request = pki_message_make(pki, &message, pool);
    pki->policy.refuse_sid = true;
    leaf = (pki_certificate_t){.subject = "device", .key = pki->device_key, .issuer = pki->ca, .issuer_key = pki->ca_key, .serial = 0x1234};
    message = pki_answer(pki, relay, pki_degenerate_make(pki, pki_certificate_make(pki, &leaf), NULL, NULL, pool));
    answer = pki_message_make(pki, &message, pool);
    leaf.issuer_key = pki->other_key;
    message = pki_answer(pki, relay, pki_degenerate_make(pki, pki_certificate_make(pki, &leaf), NULL, NULL, pool));
    forged_answer = pki_message_make(pki, &message, pool);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    apr_pool_destroy(pool);
    return 0;
}

static problem_t open_request(bytes_t der, apr_pool_t *scratch)
{
    scep_request_t *opened = NULL;
    result_t *result = result_make(scratch);
    apr_status_t status = scep_request_open(&opened, pki->identity, &pki->policy, der, scratch, result);

    assert_int_equal(status, result->problem ? APR_EGENERAL : APR_SUCCESS);
    return result->problem;
}

static problem_t open_answer(bytes_t der, apr_pool_t *scratch)
{
    scep_answer_t *opened = NULL;
    result_t *result = result_make(scratch);
    apr_status_t status = scep_answer_open(&opened, pki->identity, &pki->policy, relay, der, scratch, result);

    assert_int_equal(status, result->problem ? APR_EGENERAL : APR_SUCCESS);
    if (!result->problem) {
        assert_non_null(opened->certificate);
        assert_string_equal(opened->facts.serial, "1234");
        assert_string_equal(opened->facts.issuer, "CN=issuing CA");
        assert_int_equal(strlen(opened->facts.thumbprint), 40);
    }
    return result->problem;
}

typedef problem_t open_t(bytes_t der, apr_pool_t *scratch);

/* What comes of it while the n-th wish and all up to `until` are refused; `*all`: how many wishes there were. */
static problem_t open_without(open_t *open, bytes_t der, long n, long until, long *all)
{
    apr_pool_t *scratch = NULL;
    problem_t problem;

    assert_int_equal(apr_pool_create(&scratch, pool), APR_SUCCESS);
    asked = 0;
    first = n;
    last = until;
    problem = open(der, scratch);
    first = 0;
    *all = asked;
    apr_pool_destroy(scratch);
    assert_int_equal(ERR_peek_error(), 0);
    return problem;
}

static const struct {
    const char *name;
    open_t *open;
    bytes_t *message;
} GOOD[] = {{"request", open_request, &request}, {"answer", open_answer, &answer}},
  BAD[] = {{"request that another key has signed", open_request, &forged_request},
           {"request for a SID", open_request, &sid_request},
           {"request with two challenges", open_request, &double_request},
           {"certificate that another key has signed", open_answer, &forged_answer}};
#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

static void none_is_left(void **state)
{
    (void)state;
    for (int i = 0; i < COUNT(GOOD); i++) {
        long all = 0, ignored = 0;

        assert_int_equal(open_without(GOOD[i].open, *GOOD[i].message, 0, 0, &all), PROBLEM_NONE);
        assert_true(all > 100);
        for (long n = 1; n <= all; n++) {
            problem_t problem = open_without(GOOD[i].open, *GOOD[i].message, n, LONG_MAX, &ignored);

            /* In the end there is what can be done without. */
            if (problem != PROBLEM_INTERNAL && problem != PROBLEM_NONE) {
                fail_msg("%s, none from wish %ld of %ld on: %s", GOOD[i].name, n, all, problem_facts(problem)->name);
            }
        }
        assert_int_equal(open_without(GOOD[i].open, *GOOD[i].message, 0, 0, &all), PROBLEM_NONE);
    }
}

/* One wish that is refused makes nothing good that is not. */
static void one_is_refused(void **state)
{
    (void)state;
    for (int i = 0; i < COUNT(BAD); i++) {
        long all = 0, ignored = 0;

        assert_int_not_equal(open_without(BAD[i].open, *BAD[i].message, 0, 0, &all), PROBLEM_NONE);
        for (long n = 1; n <= all; n++) {
            if (!open_without(BAD[i].open, *BAD[i].message, n, n, &ignored)) {
                fail_msg("%s, without wish %ld of %ld: taken for good", BAD[i].name, n, all);
            }
        }
    }
}

/* What comes through all the same has all that Intune is told of it. */
static void what_is_good_is_whole(void **state)
{
    (void)state;
    long all = 0, ignored = 0;

    open_without(open_answer, answer, 0, 0, &all);
    for (long n = 1; n <= all; n++) {
        open_without(open_answer, answer, n, n, &ignored);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(none_is_left), cmocka_unit_test(one_is_refused),
                                       cmocka_unit_test(what_is_good_is_whole)};

    /* Before anything else of OpenSSL's. */
    if (CRYPTO_set_mem_functions(take, take_again, give) != 1) {
        return 1;
    }
    pki_global_init();
    int failed = cmocka_run_group_tests(tests, setup, teardown);
    pki_global_end();
    return failed;
}
