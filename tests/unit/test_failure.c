/* SPDX-License-Identifier: Apache-2.0 */
/* gateway/failure.c: what is kept of a failure, and told again. */
#include "gateway/failure.h"

#include "base/text.h"

#include <apr_general.h>
#include <apr_strings.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static apr_pool_t *pool;

static result_t *result_of(problem_t problem, const char *detail, int ca_fail_info)
{
    result_t *result = result_make(pool);
    result->ca_fail_info = ca_fail_info;
    result_set(result, problem, detail ? "%s" : NULL, detail);
    return result;
}

static result_t *read_back(const char *text, bool again)
{
    result_t *result = result_make(pool);
    failure_read(result, text, again);
    return result;
}

/* Every problem of the table comes back as itself. */
static void round_trip(void **state)
{
    (void)state;
    for (int problem = PROBLEM_NONE + 1; problem < PROBLEM_COUNT; problem++) {
        const result_t *back = read_back(failure_print(result_of((problem_t)problem, "why it was", 4), pool), false);
        if ((int)back->problem != problem || back->ca_fail_info != 4 || strcmp(back->detail, "why it was")) {
            fail_msg("%s came back as %s, %d, \"%s\"", problem_facts((problem_t)problem)->name,
                     problem_facts(back->problem)->name, back->ca_fail_info, back->detail);
        }
    }
}

/* What others say goes through result_t escaped, but the journal must not depend on it. */
static void hostile_details(void **state)
{
    static const struct {
        const char *name, *detail, *back;
    } CASES[] = {
        {"ok/none", NULL, ""},
        {"ok/empty", "", ""},
        {"ok/one blank", " ", " "},
        {"ok/blanks around", "  two  ", "  two  "},
        {"ok/like a record", "CA_REFUSED 4 as before", "CA_REFUSED 4 as before"},
        {"ok/percents", "%s%n%d", "%s%n%d"},
        {"ok/quotes", "'; DROP TABLE iscep_journal; --", "'; DROP TABLE iscep_journal; --"},
        {"ok/escaped by who met it", "caf\\xc3\\xa9", "caf\\xc3\\xa9"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(CASES) / sizeof(CASES[0]); i++) {
        const result_t *back = read_back(failure_print(result_of(PROBLEM_CA_TIMEOUT, CASES[i].detail, -1), pool), false);
        if (back->problem != PROBLEM_CA_TIMEOUT || !back->detail || strcmp(back->detail, CASES[i].back)) {
            fail_msg("%s: \"%s\"", CASES[i].name, back->detail);
        }
    }
}

/* The header's promise, whatever is in the result: at most 600 bytes of printable ASCII. */
static void bounds(void **state)
{
    static const char *const PIECES[] = {"x", "\n", "\x1b[31m", "\xc3\xa9", "\xff", "\xe2\x82\xac", "\x7f"};
    char *detail = apr_palloc(pool, 10001);
    (void)state;
    for (size_t i = 0; i < sizeof(PIECES) / sizeof(PIECES[0]); i++) {
        size_t len = strlen(PIECES[i]);
        for (size_t at = 0; at + len <= 10000; at += len) {
            memcpy(detail + at, PIECES[i], len + 1);
        }
        const char *text = failure_print(result_of(PROBLEM_CA_BAD_CERTIFICATE, detail, 4), pool);
        assert_true(strlen(text) <= 600);
        for (const char *c = text; *c; c++) {
            if ((unsigned char)*c < 0x20 || (unsigned char)*c > 0x7e) {
                fail_msg("piece %d: byte %02x is kept", (int)i, (unsigned char)*c);
            }
        }
        assert_int_equal(read_back(text, false)->problem, PROBLEM_CA_BAD_CERTIFICATE);
    }
}

/* Texts that no version of ours has written. */
static void hostile_records(void **state)
{
    static const struct {
        const char *text;
        problem_t problem;
        int fail_info;
    } CASES[] = {
        {NULL, PROBLEM_GIVEN_UP, FAIL_INFO_NONE},
        {"", PROBLEM_GIVEN_UP, FAIL_INFO_NONE},
        {"   ", PROBLEM_GIVEN_UP, FAIL_INFO_NONE},
        {"CA_REFUSED", PROBLEM_GIVEN_UP, FAIL_INFO_NONE},
        {"NONE 0 nothing", PROBLEM_GIVEN_UP, FAIL_INFO_NONE},
        {"NOBODY_KNOWS 1 it", PROBLEM_GIVEN_UP, FAIL_INFO_NONE},
        {"ca_refused 1 lower case", PROBLEM_GIVEN_UP, FAIL_INFO_NONE},
        {"CA_REFUSED 0 least", PROBLEM_CA_REFUSED, 0},
        {"CA_REFUSED 4 most", PROBLEM_CA_REFUSED, 4},
        {"CA_REFUSED 5 beyond", PROBLEM_CA_REFUSED, 2},
        {"CA_REFUSED -1 before", PROBLEM_CA_REFUSED, 2},
        {"CA_REFUSED 99999999999999999999 far", PROBLEM_CA_REFUSED, 2},
        {"CA_REFUSED 4294967300 wraps to four", PROBLEM_CA_REFUSED, 2},
        {"CA_REFUSED four words", PROBLEM_CA_REFUSED, 0},
        {"CA_TIMEOUT -1", PROBLEM_CA_TIMEOUT, -1},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(CASES) / sizeof(CASES[0]); i++) {
        const result_t *back = read_back(CASES[i].text, true);
        if (back->problem != CASES[i].problem || back->ca_fail_info != CASES[i].fail_info) {
            fail_msg("\"%s\": %s, %d", CASES[i].text ? CASES[i].text : "-", problem_facts(back->problem)->name,
                     back->ca_fail_info);
        }
    }
}

static void told_again(void **state)
{
    (void)state;
    assert_string_equal(read_back("CA_REFUSED 2 no", true)->detail, "no; answered from the journal");
    assert_string_equal(read_back("CA_REFUSED 2 ", true)->detail, "answered from the journal");
    assert_string_equal(read_back("CA_REFUSED 2", true)->detail, "answered from the journal");
}

static void words(void **state)
{
    const char *what = problem_facts(PROBLEM_CA_TIMEOUT)->what;
    (void)state;
    assert_string_equal(failure_words(result_of(PROBLEM_CA_TIMEOUT, NULL, -1)), what);
    assert_string_equal(failure_words(result_of(PROBLEM_CA_TIMEOUT, "", -1)), what);
    assert_string_equal(failure_words(result_of(PROBLEM_CA_TIMEOUT, "HTTP 500", -1)),
                        apr_pstrcat(pool, what, ": HTTP 500", NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(round_trip),      cmocka_unit_test(hostile_details),
                                       cmocka_unit_test(bounds),          cmocka_unit_test(hostile_records),
                                       cmocka_unit_test(told_again),      cmocka_unit_test(words)};
    if (apr_initialize() || apr_pool_create(&pool, NULL)) {
        return 1;
    }
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    apr_pool_destroy(pool);
    apr_terminate();
    return failed;
}
