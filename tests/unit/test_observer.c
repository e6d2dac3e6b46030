/* SPDX-License-Identifier: Apache-2.0 */
/* How ends of calls to Microsoft are told to whoever counts them. */
#include "intune_bed.h"

#include <apr_general.h>
#include <apr_strings.h>

#include <stdlib.h>

enum { SEEN_MAX = 32 };

typedef struct seen_t {
    int count;
    call_seen_t seen[SEEN_MAX];
    const char *words[SEEN_MAX];
    apr_pool_t *pool;
} seen_t;

static seen_t all;

static void note(void *baton, const call_seen_t *seen)
{
    assert_ptr_equal(baton, &all);
    assert_true(all.count < SEEN_MAX);
    all.words[all.count] = apr_pstrdup(all.pool, seen->words);
    all.seen[all.count++] = *seen;
}

static bed_t *begin(void **state)
{
    bed_t *bed = *state;
    all = (seen_t){.pool = bed->pool};
    intune_observe(bed->intune, (observer_t){note, &all});
    return bed;
}

static const call_seen_t *last(call_kind_t kind)
{
    for (int i = all.count - 1; i >= 0; i--) {
        if (all.seen[i].kind == kind) {
            return &all.seen[i];
        }
    }
    fail();
    return NULL;
}

static const char *last_words(call_kind_t kind)
{
    return all.words[last(kind) - all.seen];
}

static void ok_each_exchange_is_told(void **state)
{
    bed_t *bed = begin(state);
    assert_int_equal(bed_validate(bed), APR_SUCCESS);
    assert_int_equal(all.count, 4);
    for (int i = 0; i < all.count; i++) {
        assert_int_equal(all.seen[i].end, CALL_SUCCESS);
        assert_true(all.seen[i].duration >= 0);
    }
    assert_int_equal(last(CALL_TOKEN)->kind, CALL_TOKEN);
    assert_int_equal(last(CALL_ENDPOINTS)->kind, CALL_ENDPOINTS);
    assert_int_equal(last(CALL_VALIDATE)->kind, CALL_VALIDATE);
    bed_call(bed);
    assert_int_equal(intune_report_failure(bed->intune, &bed->call, "tx/1", bed_csr(), 0x80094014u, "no"), APR_SUCCESS);
    assert_int_equal(last(CALL_REPORT)->end, CALL_SUCCESS);
}

static void answers(void **state)
{
    static const struct {
        const char *name;
        fixture_reply_t reply;
        call_end_t end;
        const char *words;
    } CASES[] = {
        {"refused", {200, NULL, "{\"code\":\"ChallengeExpired\"}", 0, 0, false}, CALL_REFUSED, "HTTP 200, code ChallengeExpired"},
        {"no code", {200, NULL, "{}", 0, 0, false}, CALL_GARBAGE, "HTTP 200, not understood"},
        {"no JSON", {200, NULL, "<html>", 0, 0, false}, CALL_GARBAGE, "not understood"},
        {"not said to be JSON", {200, "Content-Type: text/html\r\n", "{\"code\":\"Success\"}", 0, 0, false}, CALL_GARBAGE, "HTTP 200"},
        {"401", {401, NULL, "{}", 0, 0, false}, CALL_DENIED, "HTTP 401"},
        {"403", {403, NULL, "{}", 0, 0, false}, CALL_DENIED, "HTTP 403"},
        {"400", {400, NULL, "{}", 0, 0, false}, CALL_REFUSED, "HTTP 400"},
        {"429", {429, "Retry-After: 100\r\n", "{}", 0, 0, false}, CALL_THROTTLED, "HTTP 429"},
        {"503", {503, NULL, "{}", 0, 0, false}, CALL_FAILED, "HTTP 503"},
        {"404", {404, NULL, "{}", 0, 0, false}, CALL_FAILED, "HTTP 404"},
        {"dropped", {0, NULL, NULL, 0, 0, true}, CALL_BROKEN, "connection dropped"},
    };
    for (size_t i = 0; i < sizeof(CASES) / sizeof(CASES[0]); i++) {
        bed_t *bed = begin(state);
        fixture_on(bed->server, BED_VALIDATE_PATH, NULL, -1, CASES[i].reply);
        assert_int_not_equal(bed_validate(bed), APR_SUCCESS);
        if (last(CALL_VALIDATE)->end != CASES[i].end || !strstr(last_words(CALL_VALIDATE), CASES[i].words)) {
            fail_msg("%s: %d, %s", CASES[i].name, last(CALL_VALIDATE)->end, last_words(CALL_VALIDATE));
        }
    }
}

static void entra_refuses(void **state)
{
    bed_t *bed = begin(state);
    bed_token(bed, NULL, -1, 400, "{\"error\":\"invalid_client\",\"error_description\":\"AADSTS7000215: x\"}");
    assert_int_not_equal(bed_validate(bed), APR_SUCCESS);
    assert_int_equal(last(CALL_TOKEN)->end, CALL_DENIED);
    assert_string_equal(last_words(CALL_TOKEN), "Entra token: HTTP 400, code AADSTS7000215");
}

static void nobody_is_there(void **state)
{
    bed_t *bed = *state;
    intune_settings_t settings = bed->settings;
    settings.authority = apr_psprintf(bed->pool, "http://127.0.0.1:%d/", fixture_closed_port());
    settings.retries = 0;
    bed_attach(bed, &settings);
    begin(state);
    assert_int_not_equal(bed_validate(bed), APR_SUCCESS);
    assert_int_equal(last(CALL_TOKEN)->end, CALL_UNREACHABLE);
    assert_non_null(strstr(last_words(CALL_TOKEN), "connection refused"));
}

static void too_slow(void **state)
{
    bed_t *bed = *state;
    intune_settings_t settings = bed->settings;
    settings.timeout = apr_time_from_msec(300);
    bed_attach(bed, &settings);
    begin(state);
    fixture_on(bed->server, BED_VALIDATE_PATH, NULL, -1, (fixture_reply_t){200, NULL, "{}", 0, 800, false});
    assert_int_not_equal(bed_validate(bed), APR_SUCCESS);
    assert_int_equal(last(CALL_VALIDATE)->end, CALL_TIMEOUT);
}

/* What we ended ourselves says nothing about Microsoft. */
static void stopped(void **state)
{
    bed_t *bed = begin(state);
    intune_stop(bed->intune);
    assert_int_not_equal(bed_validate(bed), APR_SUCCESS);
    assert_int_equal(all.count, 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, bed_up, bed_down)
    const struct CMUnitTest tests[] = {TEST(ok_each_exchange_is_told), TEST(answers),  TEST(entra_refuses),
                                       TEST(nobody_is_there),          TEST(too_slow), TEST(stopped)};
    if (bed_start() != 0) {
        return EXIT_FAILURE;
    }
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    apr_terminate();
    return failed;
}
