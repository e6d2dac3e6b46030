/* SPDX-License-Identifier: Apache-2.0 */
#include "base/result.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <apr_general.h>
#include <string.h>

static apr_pool_t *pool;

static void fresh_result_has_no_problem(void **state)
{
    result_t *result = result_make(pool);

    (void)state;
    assert_ptr_equal(result->pool, pool);
    assert_int_equal(result->problem, PROBLEM_NONE);
    assert_null(result->detail);
    assert_null(result->code);
    assert_null(result->request_id);
    assert_int_equal(result->ca_fail_info, FAIL_INFO_NONE);
    assert_int_equal(result->retry_after, 0);
}

static void first_problem_stays(void **state)
{
    result_t *result = result_make(pool);

    (void)state;
    assert_int_equal(result_set(result, PROBLEM_CA_TIMEOUT, "waited %zu of %s", (size_t)7, "8"), APR_EGENERAL);
    assert_int_equal(result_set(result, PROBLEM_INTERNAL, "later"), APR_EGENERAL);
    assert_int_equal(result->problem, PROBLEM_CA_TIMEOUT);
    assert_string_equal(result->detail, "waited 7 of 8");
}

static void detail_may_be_long(void **state)
{
    result_t *result = result_make(pool);
    char text[20001];

    (void)state;
    memset(text, 'd', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    result_set(result, PROBLEM_INTERNAL, "%s", text);
    assert_string_equal(result->detail, text);
}

static void no_problem_cannot_be_set(void **state)
{
    result_t *result = result_make(pool);

    (void)state;
    assert_int_equal(result_set(result, PROBLEM_NONE, "a slip of the caller"), APR_EGENERAL);
    assert_int_equal(result->problem, PROBLEM_INTERNAL);
}

static void facts_of_no_problem(void **state)
{
    const problem_facts_t *facts = problem_facts(PROBLEM_NONE);

    (void)state;
    assert_int_equal(facts->http_status, 200);
    assert_string_equal(facts->what, "");
    assert_string_equal(facts->remedy, "");
    assert_ptr_equal(problem_facts(PROBLEM_COUNT), problem_facts(PROBLEM_INTERNAL));
}

static bool row_is_sound(const problem_facts_t *facts)
{
    bool cert_rep = facts->http_status == 200;
    bool fail_info = facts->fail_info == FAIL_INFO_OF_CA || (facts->fail_info >= 0 && facts->fail_info <= 4);

    if (!facts->name || !facts->name[0] || facts->id < 1000 || facts->level > LOG_LEVEL_INFO)
        return false;
    if (!facts->what || !facts->what[0] || !facts->remedy || !facts->remedy[0])
        return false;
    if (cert_rep ? !fail_info : facts->fail_info != FAIL_INFO_NONE)
        return false;
    if (!cert_rep && (facts->http_status < 400 || facts->http_status > 599))
        return false;
    /* An HRESULT is a failure: its highest bit is set. */
    return facts->hresult == 0 || (facts->hresult & 0x80000000u);
}

static void every_problem_has_facts(void **state)
{
    int i;

    (void)state;
    for (i = PROBLEM_NONE + 1; i < PROBLEM_COUNT; i++) {
        const problem_facts_t *facts = problem_facts((problem_t)i);

        if (!row_is_sound(facts))
            fail_msg("problem %s (id %u) is not sound", facts->name, facts->id);
    }
}

/* The answers that the design fixes, so that an edit of the table is noticed. */
static void answers_are_as_designed(void **state)
{
    static const struct {
        problem_t problem;
        const char *name;
        int http, fail_info;
        apr_uint32_t hresult;
    } rows[] = {
        {PROBLEM_NOT_SCEP, "NOT_SCEP", 400, FAIL_INFO_NONE, 0},
        {PROBLEM_TOO_LARGE, "TOO_LARGE", 413, FAIL_INFO_NONE, 0},
        {PROBLEM_TOO_MANY, "TOO_MANY", 503, FAIL_INFO_NONE, 0},
        {PROBLEM_BAD_ALGORITHM, "BAD_ALGORITHM", 200, 0, 0},
        {PROBLEM_BAD_SIGNATURE, "BAD_SIGNATURE", 200, 1, 0},
        {PROBLEM_BAD_ENVELOPE, "BAD_ENVELOPE", 200, 1, 0},
        {PROBLEM_NO_CHALLENGE, "NO_CHALLENGE", 200, 2, 0},
        {PROBLEM_INTUNE_REFUSED, "INTUNE_REFUSED", 200, 2, 0},
        {PROBLEM_INTUNE_UNREACHABLE, "INTUNE_UNREACHABLE", 503, FAIL_INFO_NONE, 0},
        {PROBLEM_CA_UNREACHABLE, "CA_UNREACHABLE", 503, FAIL_INFO_NONE, 0x80072EFD},
        {PROBLEM_CA_TIMEOUT, "CA_TIMEOUT", 503, FAIL_INFO_NONE, 0x80072EE2},
        {PROBLEM_CA_REFUSED, "CA_REFUSED", 200, FAIL_INFO_OF_CA, 0x80094014},
        {PROBLEM_CA_GARBAGE, "CA_GARBAGE", 502, FAIL_INFO_NONE, 0x8007000D},
        {PROBLEM_CA_WRONG_KEY, "CA_WRONG_KEY", 502, FAIL_INFO_NONE, 0x80090006},
        {PROBLEM_REPORT_REFUSED, "REPORT_REFUSED", 200, 2, 0},
        {PROBLEM_REPORT_UNAVAILABLE, "REPORT_UNAVAILABLE", 503, FAIL_INFO_NONE, 0},
    };
    apr_size_t i;

    (void)state;
    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const problem_facts_t *facts = problem_facts(rows[i].problem);

        assert_string_equal(facts->name, rows[i].name);
        if (facts->http_status != rows[i].http || facts->fail_info != rows[i].fail_info ||
            facts->hresult != rows[i].hresult)
            fail_msg("%s has another answer than the design", facts->name);
    }
}

static int begin(void **state)
{
    (void)state;
    return apr_pool_create(&pool, NULL);
}

static int end(void **state)
{
    (void)state;
    apr_pool_destroy(pool);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(fresh_result_has_no_problem, begin, end),
        cmocka_unit_test_setup_teardown(first_problem_stays, begin, end),
        cmocka_unit_test_setup_teardown(detail_may_be_long, begin, end),
        cmocka_unit_test_setup_teardown(no_problem_cannot_be_set, begin, end),
        cmocka_unit_test(facts_of_no_problem),
        cmocka_unit_test(every_problem_has_facts),
        cmocka_unit_test(answers_are_as_designed),
    };
    int failed;

    apr_initialize();
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    apr_terminate();
    return failed;
}
