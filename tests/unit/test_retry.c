/* SPDX-License-Identifier: Apache-2.0 */
/* Which calls are tried again, how often, when, and what ends the trying. */
#include "intune_bed.h"

#include "base/clock.h"

#include <apr_general.h>
#include <apr_strings.h>
#include <apr_thread_proc.h>

#include <stdlib.h>

static const intune_certificate_t certificate = {"AB12", "0F", "2027-01-01T00:00:00.000Z", "CN=CA"};

static void retries(bed_t *bed, int count)
{
    bed->settings.retries = count;
    bed_attach(bed, &bed->settings);
}

static int asked(bed_t *bed)
{
    return fixture_count(bed->server, "/svc/", NULL);
}

#define STATUS(number)                                                                                                 \
    {                                                                                                                  \
        number, NULL, "{}", 0, 0, false                                                                                \
    }

/** The end of a call, twice in a row and then Success; how many calls there are with two retries, and the problem. */
static const struct {
    const char *name;
    fixture_reply_t reply;
    int calls;
    problem_t problem;
} ends[] = {
    {"again/500", STATUS(500), 3, PROBLEM_NONE},
    {"again/502", STATUS(502), 3, PROBLEM_NONE},
    {"again/503", STATUS(503), 3, PROBLEM_NONE},
    {"again/504", STATUS(504), 3, PROBLEM_NONE},
    {"again/408", STATUS(408), 3, PROBLEM_NONE},
    {"again/429", STATUS(429), 3, PROBLEM_NONE},
    {"again/500 with Success", {500, NULL, "{\"code\":\"Success\"}", 0, 0, false}, 3, PROBLEM_NONE},
    {"again/dropped", {200, NULL, NULL, 0, 0, true}, 3, PROBLEM_NONE},
    {"once/refusal", {200, NULL, "{\"code\":\"ChallengeExpired\"}", 0, 0, false}, 1, PROBLEM_INTUNE_REFUSED},
    {"once/Unknown", {200, NULL, "{\"code\":\"Unknown\"}", 0, 0, false}, 1, PROBLEM_INTUNE_REFUSED},
    {"once/no code", {200, NULL, "{}", 0, 0, false}, 1, PROBLEM_INTUNE_ANSWER},
    {"once/302", STATUS(302), 1, PROBLEM_INTUNE_ANSWER},
    {"once/400", STATUS(400), 1, PROBLEM_INTUNE_ANSWER},
    {"once/404", STATUS(404), 1, PROBLEM_INTUNE_ANSWER},
    {"once/410", STATUS(410), 1, PROBLEM_INTUNE_ANSWER},
    {"a new token/401", STATUS(401), 2, PROBLEM_INTUNE_DENIED},
    {"a new token/403", STATUS(403), 2, PROBLEM_INTUNE_DENIED},
};

static void ends_that_may_pass(void **state)
{
    bed_t *bed = *state;
    retries(bed, 2);
    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
        fixture_forget(bed->server);
        fixture_on(bed->server, "/svc/", NULL, -1, (fixture_reply_t){200, NULL, "{\"code\":\"Success\"}", 0, 0, false});
        /* libcurl itself repeats a request once whose pooled connection was dropped */
        fixture_on(bed->server, "/svc/", NULL, 2, ends[i].reply);
        bed_validate(bed);
        bool same = ends[i].reply.drop ? asked(bed) >= 2 : asked(bed) == ends[i].calls;
        if (bed->result->problem != ends[i].problem || !same) {
            fail_msg("%s: %s, %d calls", ends[i].name, problem_facts(bed->result->problem)->name, asked(bed));
        }
        if (ends[i].calls == 1) {
            assert_true(bed->call.duration < apr_time_from_msec(140)); /* nobody waited */
        }
    }
}

static void the_last_failure_is_told(void **state)
{
    bed_t *bed = *state;
    for (int count = 0; count <= 2; count++) {
        fixture_forget(bed->server);
        retries(bed, count);
        fixture_on(bed->server, "/svc/", NULL, -1, (fixture_reply_t)STATUS(502));
        fixture_on(bed->server, "/svc/", NULL, count, (fixture_reply_t)STATUS(500));
        bed_validate(bed);
        assert_int_equal(bed->result->problem, PROBLEM_INTUNE_ANSWER);
        assert_non_null(strstr(bed->result->detail, "HTTP 502"));
        assert_int_equal(strstr(bed->result->detail, "tried") != NULL, count > 0);
        assert_int_equal(asked(bed), count + 1);
    }
}

static void each_call_has_its_own_id_and_line(void **state)
{
    bed_t *bed = *state;
    retries(bed, 2);
    assert_int_equal(bed_validate(bed), APR_SUCCESS);
    fixture_forget(bed->server);
    fixture_on(bed->server, "/svc/", NULL, 2, (fixture_reply_t)STATUS(500));
    bed_call(bed);
    assert_int_equal(intune_report_success(bed->intune, &bed->call, "tx/1", bed_csr(), &certificate), APR_SUCCESS);
    assert_int_equal(asked(bed), 3);
    assert_int_equal(bed_logged(bed, "Intune successNotification: HTTP 500, "), 2);
    assert_int_equal(bed_logged(bed, "Intune successNotification: HTTP 200"), 1);
    assert_int_equal(bed_logged(bed, "ISCEP0323"), 2);
    const char *last = fixture_header(fixture_last(bed->server, "/svc/", NULL), "client-request-id", bed->pool);
    assert_string_equal(last, bed->result->request_id);
    assert_int_equal(bed_logged(bed, last), 1);
}

static void the_pause_doubles(void **state)
{
    bed_t *bed = *state;
    retries(bed, 3);
    fixture_on(bed->server, "/svc/", NULL, -1, (fixture_reply_t)STATUS(500));
    bed_validate(bed);
    /* 200 + 400 + 800 ms, give or take a quarter */
    assert_true(bed->call.duration >= apr_time_from_msec(1050));
    assert_true(bed->call.duration < apr_time_from_msec(2500));
    assert_int_equal(asked(bed), 4);
}

static void retry_after_is_honoured(void **state)
{
    bed_t *bed = *state;
    retries(bed, 2);
    fixture_on(bed->server, "/svc/", NULL, 1,
               (fixture_reply_t){429, "Retry-After: 1\r\n", "{}", 0, 0, false});
    assert_int_equal(bed_validate(bed), APR_SUCCESS);
    assert_true(bed->call.duration >= apr_time_from_sec(1));
    assert_int_equal(asked(bed), 2);
}

static void retry_after_beyond_the_budget_ends_the_call(void **state)
{
    bed_t *bed = *state;
    retries(bed, 2);
    fixture_on(bed->server, "/svc/", NULL, 1,
               (fixture_reply_t){503, "Retry-After: 11\r\n", "{}", 0, 0, false});
    assert_int_not_equal(bed_validate(bed), APR_SUCCESS);
    assert_int_equal(bed->result->retry_after, apr_time_from_sec(11));
    assert_true(bed->call.duration < apr_time_from_msec(500));
    assert_int_equal(asked(bed), 1);
}

static void all_tries_share_one_budget(void **state)
{
    bed_t *bed = *state;
    bed->settings.timeout = apr_time_from_msec(700);
    retries(bed, 10);
    fixture_on(bed->server, "/svc/", NULL, -1, (fixture_reply_t){500, NULL, "{}", 0, 150, false});
    bed_validate(bed);
    assert_true(bed->call.duration <= apr_time_from_msec(900));
    assert_in_range(asked(bed), 2, 3);
}

static void a_time_out_takes_the_whole_budget(void **state)
{
    bed_t *bed = *state;
    assert_int_equal(bed_validate(bed), APR_SUCCESS);
    bed->settings.timeout = apr_time_from_msec(300);
    retries(bed, 2);
    fixture_on(bed->server, "/svc/", NULL, -1, (fixture_reply_t){200, NULL, "{\"code\":\"Success\"}", 0, 3000, false});
    bed_validate(bed);
    assert_int_equal(bed->result->problem, PROBLEM_INTUNE_UNREACHABLE);
    assert_true(bed->call.duration < apr_time_from_msec(600));
    assert_int_equal(asked(bed), 2);
}

static void entra_and_graph_are_tried_again(void **state)
{
    bed_t *bed = *state;
    retries(bed, 2);
    fixture_on(bed->server, BED_TOKEN_PATH, BED_INTUNE_SCOPE, 2, (fixture_reply_t)STATUS(500));
    fixture_on(bed->server, BED_GRAPH_PATH, NULL, 2, (fixture_reply_t)STATUS(503));
    assert_int_equal(bed_validate(bed), APR_SUCCESS);
    assert_int_equal(fixture_count(bed->server, BED_TOKEN_PATH, BED_INTUNE_SCOPE), 3);
    assert_int_equal(fixture_count(bed->server, BED_GRAPH_PATH, NULL), 3);
}

static void a_refused_connection_is_looked_up_first(void **state)
{
    bed_t *bed = *state;
    retries(bed, 2);
    bed_endpoints(bed, "providerName", BED_SERVICE,
                  apr_psprintf(bed->pool, "http://127.0.0.1:%d/svc", fixture_closed_port()));
    assert_int_not_equal(bed_validate(bed), APR_SUCCESS);
    assert_non_null(strstr(bed->result->detail, "tried 3 times"));
    assert_int_equal(fixture_count(bed->server, BED_GRAPH_PATH, NULL), 2);
    assert_int_equal(bed_logged(bed, "connection refused"), 3 + 2 + 0);
}

static void a_proxy_that_is_away_is_tried_again(void **state)
{
    bed_t *bed = *state;
    bed->settings.http.proxy = apr_psprintf(bed->pool, "http://127.0.0.1:%d", fixture_closed_port());
    retries(bed, 2);
    assert_int_not_equal(bed_validate(bed), APR_SUCCESS);
    assert_int_equal(bed->result->problem, PROBLEM_TOKEN_UNAVAILABLE);
    assert_int_equal(bed_logged(bed, "Entra token: proxy failed; tried again"), 2);
}

static void *APR_THREAD_FUNC stop_soon(apr_thread_t *thread, void *baton)
{
    bed_t *bed = baton;
    (void)thread;
    for (int i = 0; asked(bed) == 0 && i < 1000; i++) {
        apr_sleep(2000);
    }
    intune_stop(bed->intune);
    return NULL;
}

static void a_process_that_ends_waits_no_more(void **state)
{
    bed_t *bed = *state;
    apr_thread_t *thread = NULL;
    apr_status_t ended = APR_SUCCESS;
    retries(bed, 2);
    fixture_on(bed->server, "/svc/", NULL, -1, (fixture_reply_t){503, "Retry-After: 8\r\n", "{}", 0, 0, false});
    assert_int_equal(apr_thread_create(&thread, NULL, stop_soon, bed, bed->pool), APR_SUCCESS);
    assert_int_not_equal(bed_validate(bed), APR_SUCCESS);
    assert_true(bed->call.duration < apr_time_from_sec(4));
    apr_thread_join(&ended, thread);
    assert_int_equal(asked(bed), 1);
}

static void *APR_THREAD_FUNC set_back_soon(apr_thread_t *thread, void *baton)
{
    (void)thread;
    for (int i = 0; asked(baton) == 0 && i < 1000; i++) {
        apr_sleep(2000);
    }
    apr_sleep(apr_time_from_msec(100));
    clock_shift(-apr_time_from_sec(20));
    return NULL;
}

/* During the pause: neither the rest of it nor the call after it lasts longer for that. */
static void a_clock_set_back_prolongs_nothing(void **state)
{
    bed_t *bed = *state;
    apr_thread_t *thread = NULL;
    apr_status_t ended = APR_SUCCESS;
    bed->settings.timeout = apr_time_from_sec(3);
    retries(bed, 1);
    fixture_on(bed->server, "/svc/", NULL, -1, (fixture_reply_t){200, NULL, "{}", 0, 60000, false});
    fixture_on(bed->server, "/svc/", NULL, 1, (fixture_reply_t){503, "Retry-After: 1\r\n", "{}", 0, 0, false});
    apr_time_t began = apr_time_now();
    assert_int_equal(apr_thread_create(&thread, NULL, set_back_soon, bed, bed->pool), APR_SUCCESS);
    assert_int_not_equal(bed_validate(bed), APR_SUCCESS);
    apr_thread_join(&ended, thread);
    assert_int_equal(asked(bed), 2);
    assert_non_null(strstr(bed->result->detail, "timed out"));
    assert_true(apr_time_now() - began < apr_time_from_sec(10));
}

static void the_background_does_not_try_again(void **state)
{
    bed_t *bed = *state;
    retries(bed, 2);
    bed_token(bed, BED_INTUNE_SCOPE, 1, 200, "{\"access_token\":\"short\",\"expires_in\":100}");
    assert_int_equal(bed_validate(bed), APR_SUCCESS);
    fixture_forget(bed->server);
    fixture_on(bed->server, BED_TOKEN_PATH, NULL, -1, (fixture_reply_t)STATUS(503));
    clock_shift(apr_time_from_sec(60));
    intune_renew_due(bed->intune, bed->pool, &bed->log);
    assert_int_equal(fixture_count(bed->server, BED_TOKEN_PATH, NULL), 1);
}

#define BED_TEST(name) cmocka_unit_test_setup_teardown(name, bed_up, bed_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        BED_TEST(ends_that_may_pass),
        BED_TEST(the_last_failure_is_told),
        BED_TEST(each_call_has_its_own_id_and_line),
        BED_TEST(the_pause_doubles),
        BED_TEST(retry_after_is_honoured),
        BED_TEST(retry_after_beyond_the_budget_ends_the_call),
        BED_TEST(all_tries_share_one_budget),
        BED_TEST(a_time_out_takes_the_whole_budget),
        BED_TEST(entra_and_graph_are_tried_again),
        BED_TEST(a_refused_connection_is_looked_up_first),
        BED_TEST(a_proxy_that_is_away_is_tried_again),
        BED_TEST(a_process_that_ends_waits_no_more),
        BED_TEST(a_clock_set_back_prolongs_nothing),
        BED_TEST(the_background_does_not_try_again),
    };
    if (bed_start() != 0) {
        return EXIT_FAILURE;
    }
    int failed = cmocka_run_group_tests_name("retry", tests, NULL, NULL);
    apr_terminate();
    return failed;
}
