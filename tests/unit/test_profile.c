/* SPDX-License-Identifier: Apache-2.0 */
/* gateway/profile.c: what counts as an Intune challenge, and the CA's capabilities in the shared cache. */
#include "gateway/profile.h"

#include "base/clock.h"
#include "base/text.h"
#include "store/shared_cache.h"

#include <apr_general.h>
#include <apr_strings.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

static apr_pool_t *pool;

static bool matches(const profile_t *profile, const char *text)
{
    return profile_challenge_matches(profile, text ? secret_make(pool, text, strlen(text)) : NULL, pool);
}

static void shape(void **state)
{
    /* SEQUENCE { OBJECT IDENTIFIER pkcs7-signedData, [0] { … } } and what is nearly that */
    static const unsigned char GOOD[] = {0x30, 0x0f, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02, 0xa0, 0x02, 0x05, 0x00};
    static const unsigned char INDEFINITE[] = {0x30, 0x80, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02, 0xa0, 0x80, 0, 0, 0, 0};
    static const unsigned char SHORT[] = {0x30, 0x0f, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02, 0xa0, 0x02, 0x05};
    static const unsigned char LONG[] = {0x30, 0x0f, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02, 0xa0, 0x02, 0x05, 0x00, 0x00};
    static const unsigned char NO_OID[] = {0x30, 0x06, 0x02, 0x01, 0x01, 0x02, 0x01, 0x02};
    static const unsigned char NO_SEQUENCE[] = {0x04, 0x06, 1, 2, 3, 4, 5, 6};
    static const struct {
        const char *name;
        const unsigned char *bytes;
        apr_size_t len;
        bool expected;
    } CASES[] = {{"ok/content info", GOOD, sizeof(GOOD), true},          {"ok/indefinite length", INDEFINITE, sizeof(INDEFINITE), true},
                 {"fail/cut off", SHORT, sizeof(SHORT), false},          {"fail/bytes behind", LONG, sizeof(LONG), false},
                 {"fail/no identifier", NO_OID, sizeof(NO_OID), false},  {"fail/no sequence", NO_SEQUENCE, sizeof(NO_SEQUENCE), false}};
    profile_t profile = {.challenge_match = CHALLENGE_SHAPE};
    (void)state;
    for (size_t i = 0; i < sizeof(CASES) / sizeof(CASES[0]); i++) {
        bool found = matches(&profile, text_base64(pool, (bytes_t){CASES[i].bytes, CASES[i].len}));
        if (found != CASES[i].expected) {
            fail_msg("%s", CASES[i].name);
        }
    }
    assert_false(matches(&profile, NULL));
    assert_false(matches(&profile, ""));
    assert_false(matches(&profile, "secret"));
    assert_false(matches(&profile, "MA8GCSqGSIb3DQEHAqACBQA"));
    assert_false(matches(&profile, "MA8GCSqGSIb3DQEHAqAC*QA="));
}

static void always(void **state)
{
    profile_t profile = {.challenge_match = CHALLENGE_ALWAYS};
    (void)state;
    assert_true(matches(&profile, "x"));
    assert_false(matches(&profile, ""));
    assert_false(matches(&profile, NULL));
}

static void regex(void **state)
{
    regex_t compiled;
    profile_t profile = {.challenge_match = CHALLENGE_REGEX, .challenge_regex = &compiled};
    (void)state;
    assert_int_equal(regcomp(&compiled, "^intune-[0-9]+$", REG_EXTENDED | REG_NOSUB), 0);
    assert_true(matches(&profile, "intune-42"));
    assert_false(matches(&profile, "intune-42x"));
    regfree(&compiled);
}

static void capabilities(void **state)
{
    cache_provider_t *provider = NULL;
    profile_t one = {.name = "one", .backend = "http://127.0.0.1/"};
    profile_t two = {.name = "two", .backend = "http://127.0.0.1/"};
    bool due = false;
    (void)state;
    assert_int_equal(memory_provider_make(&provider, pool), APR_SUCCESS);
    assert_int_equal(profile_backend_capabilities(&one, &due, pool), 0);
    assert_true(due);
    assert_false(profile_backend_capabilities_claim(&one, pool));
    one.cache = two.cache = shared_cache_make(provider, pool);
    assert_true(profile_backend_capabilities_claim(&one, pool));
    assert_false(profile_backend_capabilities_claim(&one, pool));
    assert_true(profile_backend_capabilities_claim(&two, pool));
    profile_backend_capabilities_keep(&one, SCEP_CAP_AES);
    assert_int_equal(profile_backend_capabilities(&one, &due, pool), SCEP_CAP_AES | SCEP_CAP_ASKED);
    assert_false(due);
    assert_int_equal(profile_backend_capabilities(&two, &due, pool), 0);
    assert_true(due);
    /* Old news are better than none, and are asked for again. */
    clock_shift(apr_time_from_sec(601));
    assert_int_equal(profile_backend_capabilities(&one, &due, pool), SCEP_CAP_AES | SCEP_CAP_ASKED);
    assert_true(due);
    assert_true(profile_backend_capabilities_claim(&one, pool));
    clock_shift(apr_time_from_sec(86401));
    assert_int_equal(profile_backend_capabilities(&one, &due, pool), 0);
    assert_true(due);
    clock_shift(0);
}

/* A CA that is silent: what it said before stays, and it has half a minute's peace. */
static void capabilities_of_a_silent_ca(void **state)
{
    cache_provider_t *provider = NULL;
    profile_t profile = {.name = "one", .backend = "http://127.0.0.1/"};
    bool due = true;
    (void)state;
    assert_int_equal(memory_provider_make(&provider, pool), APR_SUCCESS);
    profile.cache = shared_cache_make(provider, pool);
    profile_backend_capabilities_keep(&profile, 0);
    assert_int_equal(profile_backend_capabilities(&profile, &due, pool), SCEP_CAP_SILENT);
    assert_false(due);
    clock_shift(apr_time_from_sec(31));
    profile_backend_capabilities(&profile, &due, pool);
    assert_true(due);
    profile_backend_capabilities_keep(&profile, SCEP_CAP_DES3);
    profile_backend_capabilities_keep(&profile, 0);
    assert_int_equal(profile_backend_capabilities(&profile, &due, pool), SCEP_CAP_DES3 | SCEP_CAP_ASKED);
    assert_false(due);
    clock_shift(0);
}

static void capabilities_by_the_operator(void **state)
{
    profile_t profile = {.name = "one", .backend = "http://127.0.0.1/", .backend_capabilities = SCEP_CAP_DES3};
    bool due = true;
    (void)state;
    assert_int_equal(profile_backend_capabilities(&profile, &due, pool), SCEP_CAP_DES3 | SCEP_CAP_ASKED);
    assert_false(due);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(shape), cmocka_unit_test(always), cmocka_unit_test(regex),
                                       cmocka_unit_test(capabilities), cmocka_unit_test(capabilities_of_a_silent_ca),
                                       cmocka_unit_test(capabilities_by_the_operator)};
    apr_initialize();
    apr_pool_create(&pool, NULL);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    apr_pool_destroy(pool);
    apr_terminate();
    return failed;
}
