/* SPDX-License-Identifier: Apache-2.0 */
/* The circuit breaker: what opens it, who may pass while it is open, what closes it, and what it costs while it is closed. */
#include "intune_bed.h"

#include "base/clock.h"

#include <apr_general.h>
#include <apr_strings.h>

#include <stdlib.h>

enum { ROW = 5, THREADS = 32 };

static const intune_certificate_t certificate = {"AB12", "0F", "2027-01-01T00:00:00.000Z", "CN=CA"};

static int asked(bed_t *bed)
{
    return fixture_count(bed->server, BED_VALIDATE_PATH, NULL);
}

static void intune_answers(bed_t *bed, fixture_reply_t reply)
{
    fixture_on(bed->server, "/svc/", NULL, -1, reply);
}

static void intune_is_down(bed_t *bed)
{
    intune_answers(bed, (fixture_reply_t){503, NULL, "{}", 0, 0, false});
}

static void intune_is_well(bed_t *bed)
{
    intune_answers(bed, (fixture_reply_t){200, NULL, "{\"code\":\"Success\"}", 0, 0, false});
}

static intune_breaker_t state_of(bed_t *bed)
{
    intune_breaker_t state;
    intune_breaker_state(bed->intune, bed->pool, &state);
    return state;
}

static problem_t validate(bed_t *bed)
{
    apr_status_t rv = bed_validate(bed);
    assert_int_equal(rv == APR_SUCCESS, bed->result->problem == PROBLEM_NONE);
    return bed->result->problem;
}

static apr_status_t report(bed_t *bed)
{
    bed_call(bed);
    return intune_report_success(bed->intune, &bed->call, "tx/1", bed_csr(), &certificate);
}

/** Fails as often as it takes. */
static void open_it(bed_t *bed)
{
    intune_is_down(bed);
    for (int i = 0; i < ROW; i++) {
        assert_int_equal(state_of(bed).state, INTUNE_BREAKER_CLOSED);
        assert_int_equal(state_of(bed).failures, i);
        assert_int_equal(validate(bed), PROBLEM_INTUNE_ANSWER);
    }
    assert_int_equal(state_of(bed).state, INTUNE_BREAKER_OPEN);
    assert_int_equal(bed_logged(bed, "ISCEP0320"), 1);
}

static void opens_after_five_and_asks_no_more(void **state)
{
    bed_t *bed = *state;
    apr_time_t before = clock_now();
    open_it(bed);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(validate(bed), PROBLEM_INTUNE_PAUSED);
        assert_true(bed->result->retry_after >= apr_time_from_sec(1));
        assert_true(bed->result->retry_after <= apr_time_from_sec(6));
        assert_true(bed->call.duration < apr_time_from_msec(50));
        assert_non_null(strstr(bed->result->detail, "validateRequest: HTTP 503"));
    }
    assert_int_equal(asked(bed), ROW);
    assert_int_equal(bed_logged(bed, "ISCEP0320"), 1);
    intune_breaker_t breaker = state_of(bed);
    assert_true(breaker.since >= before && breaker.since <= clock_now());
    assert_true(breaker.until - breaker.since >= apr_time_from_sec(5));
    assert_true(breaker.until - breaker.since <= apr_time_from_sec(6));
    assert_string_equal(breaker.reason, "Intune validateRequest: HTTP 503");
    assert_int_equal(breaker.failures, ROW);
    assert_int_equal(problem_facts(PROBLEM_INTUNE_PAUSED)->http_status, 503);
    assert_int_equal(problem_facts(PROBLEM_INTUNE_PAUSED)->level, LOG_LEVEL_INFO);
}

/** What ends a call, and whether five of it open the breaker. */
static const struct {
    const char *name;
    fixture_reply_t reply;
    bool opens;
} ends[] = {
    {"500", {500, NULL, "{}", 0, 0, false}, true},
    {"503 with a code", {503, NULL, "{\"code\":\"Success\"}", 0, 0, false}, true},
    {"429", {429, NULL, "{}", 0, 0, false}, true},
    {"408", {408, NULL, "{}", 0, 0, false}, true},
    {"dropped", {200, NULL, NULL, 0, 0, true}, true},
    {"timed out", {200, NULL, "{}", 0, 1000, false}, true},
    {"refusal", {200, NULL, "{\"code\":\"ChallengeExpired\"}", 0, 0, false}, false},
    {"no code", {200, NULL, "{}", 0, 0, false}, false},
    {"HTML", {200, "Content-Type: text/html\r\n", "<html>", 0, 0, false}, false},
    {"400", {400, NULL, "{}", 0, 0, false}, false},
    {"401", {401, NULL, "{}", 0, 0, false}, false},
    {"403", {403, NULL, "{}", 0, 0, false}, false},
    {"404", {404, NULL, "{}", 0, 0, false}, false},
};

static void ends_that_count(void **state)
{
    bed_t *bed = *state;
    bed->settings.timeout = apr_time_from_msec(300);
    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
        bed->settings.tenant = apr_psprintf(bed->pool, "tenant-1%d", (int)i);
        fixture_on(bed->server, "/tenant-1", NULL, -1,
                   (fixture_reply_t){200, NULL, "{\"access_token\":\"abc\",\"expires_in\":3599}", 0, 0, false});
        bed_attach(bed, &bed->settings);
        intune_answers(bed, ends[i].reply);
        for (int n = 0; n < ROW; n++) {
            validate(bed);
        }
        if ((state_of(bed).state == INTUNE_BREAKER_OPEN) != ends[i].opens ||
            (validate(bed) == PROBLEM_INTUNE_PAUSED) != ends[i].opens) {
            fail_msg("%s: %s", ends[i].name, state_of(bed).reason);
        }
    }
}

static void an_answer_ends_the_row(void **state)
{
    bed_t *bed = *state;
    for (int i = 0; i < 3; i++) {
        intune_is_down(bed);
        for (int n = 0; n < ROW - 1; n++) {
            assert_int_equal(validate(bed), PROBLEM_INTUNE_ANSWER);
        }
        intune_is_well(bed);
        if (i == 0) {
            assert_int_equal(report(bed), APR_SUCCESS); /* reports count as well */
        } else {
            assert_int_equal(validate(bed), PROBLEM_NONE);
        }
        assert_int_equal(state_of(bed).failures, 0);
    }
}

static void failures_of_more_than_a_minute_are_no_row(void **state)
{
    bed_t *bed = *state;
    intune_is_down(bed);
    for (int n = 0; n < 2 * ROW; n++) {
        clock_shift(apr_time_from_sec(16 * n));
        assert_int_equal(validate(bed), PROBLEM_INTUNE_ANSWER);
    }
    assert_int_equal(state_of(bed).failures, ROW - 1);
    assert_int_equal(validate(bed), PROBLEM_INTUNE_ANSWER);
    assert_int_equal(validate(bed), PROBLEM_INTUNE_PAUSED);
}

static void success_of_the_probe_closes(void **state)
{
    bed_t *bed = *state;
    open_it(bed);
    intune_is_well(bed);
    assert_int_equal(validate(bed), PROBLEM_INTUNE_PAUSED);
    clock_shift(apr_time_from_sec(7));
    assert_int_equal(state_of(bed).state, INTUNE_BREAKER_HALF_OPEN);
    assert_int_equal(validate(bed), PROBLEM_NONE);
    assert_int_equal(asked(bed), ROW + 1);
    assert_int_equal(state_of(bed).state, INTUNE_BREAKER_CLOSED);
    assert_int_equal(bed_logged(bed, "ISCEP0321"), 1);
    assert_int_equal(validate(bed), PROBLEM_NONE);
    assert_int_equal(bed_logged(bed, "ISCEP0321"), 1);
}

static void pauses_double_to_a_minute(void **state)
{
    bed_t *bed = *state;
    static const int pauses[] = {10, 20, 40, 60, 60, 60};
    apr_interval_time_t shifted = 0;
    open_it(bed);
    for (size_t i = 0; i < sizeof(pauses) / sizeof(pauses[0]); i++) {
        shifted += state_of(bed).until - clock_now() + 1000;
        clock_shift(shifted);
        assert_int_equal(validate(bed), PROBLEM_INTUNE_ANSWER);
        apr_interval_time_t pause = state_of(bed).until - clock_now();
        assert_true(pause > apr_time_from_sec(pauses[i]) - apr_time_from_msec(500));
        assert_true(pause <= apr_time_from_sec(pauses[i] + pauses[i] / 5));
        assert_true(pause <= apr_time_from_sec(60));
        assert_int_equal(validate(bed), PROBLEM_INTUNE_PAUSED);
    }
    assert_int_equal(asked(bed), ROW + (int)(sizeof(pauses) / sizeof(pauses[0])));
    assert_int_equal(bed_logged(bed, "ISCEP0320"), 1);
    assert_int_equal(bed_logged(bed, "ISCEP0322"), 6);
}

static void a_clock_set_back_does_not_prolong_it(void **state)
{
    bed_t *bed = *state;
    clock_shift(apr_time_from_sec(600));
    open_it(bed);
    clock_shift(apr_time_from_sec(600 - 58));
    assert_int_equal(validate(bed), PROBLEM_INTUNE_ANSWER); /* a probe */
    assert_int_equal(validate(bed), PROBLEM_INTUNE_PAUSED);
    assert_true(state_of(bed).until - clock_now() <= apr_time_from_sec(12));
    intune_is_well(bed);
    clock_shift(apr_time_from_sec(600 - 58 + 13));
    assert_int_equal(validate(bed), PROBLEM_NONE);
    assert_int_equal(state_of(bed).state, INTUNE_BREAKER_CLOSED);
}

/* By more than the cache puts up with: as if there had been no trouble. */
static void a_clock_set_far_back_closes_it(void **state)
{
    bed_t *bed = *state;
    clock_shift(apr_time_from_sec(3600));
    open_it(bed);
    clock_shift(0);
    assert_int_equal(state_of(bed).state, INTUNE_BREAKER_CLOSED);
    intune_is_well(bed);
    assert_int_equal(validate(bed), PROBLEM_NONE);
}

static void a_probe_is_one_call(void **state)
{
    bed_t *bed = *state;
    open_it(bed);
    bed->settings.retries = 5;
    bed_attach(bed, &bed->settings);
    clock_shift(apr_time_from_sec(7));
    intune_answers(bed, (fixture_reply_t){503, "Retry-After: 3\r\n", "{}", 0, 0, false});
    assert_int_equal(validate(bed), PROBLEM_INTUNE_ANSWER);
    assert_int_equal(asked(bed), ROW + 1);
    /* nor does it wait for one that will not be */
    assert_true(bed->call.duration < apr_time_from_sec(2));
}

static void retry_after_prolongs_the_pause(void **state)
{
    bed_t *bed = *state;
    intune_answers(bed, (fixture_reply_t){429, "Retry-After: 30\r\n", "{}", 0, 0, false});
    for (int i = 0; i < ROW; i++) {
        assert_int_equal(validate(bed), PROBLEM_INTUNE_ANSWER);
    }
    apr_interval_time_t rest = state_of(bed).until - clock_now();
    assert_true(rest > apr_time_from_sec(29) && rest <= apr_time_from_sec(30));
    /* a report is not held back, and what it is told counts; an hour is a minute here */
    intune_answers(bed, (fixture_reply_t){503, "Retry-After: 3600\r\n", "{}", 0, 0, false});
    assert_int_not_equal(report(bed), APR_SUCCESS);
    rest = state_of(bed).until - clock_now();
    assert_true(rest > apr_time_from_sec(59) && rest <= apr_time_from_sec(60));
}

static void reports_pass_and_count(void **state)
{
    bed_t *bed = *state;
    intune_is_down(bed);
    for (int i = 0; i < ROW; i++) {
        assert_int_not_equal(report(bed), APR_SUCCESS);
    }
    assert_int_equal(validate(bed), PROBLEM_INTUNE_PAUSED);
    assert_int_not_equal(report(bed), APR_SUCCESS);
    assert_int_equal(bed->result->problem, PROBLEM_REPORT_UNAVAILABLE);
    assert_int_equal(fixture_count(bed->server, "/svc/", NULL), ROW + 1);
    intune_is_well(bed);
    assert_int_equal(report(bed), APR_SUCCESS);
    assert_int_equal(bed_logged(bed, "ISCEP0321"), 1);
    assert_int_equal(validate(bed), PROBLEM_NONE);
}

static void entra_counts_and_a_shared_failure_once(void **state)
{
    bed_t *bed = *state;
    fixture_on(bed->server, BED_TOKEN_PATH, NULL, -1, (fixture_reply_t){503, NULL, "{}", 0, 0, false});
    for (int i = 1; i <= ROW; i++) {
        assert_int_equal(validate(bed), PROBLEM_TOKEN_UNAVAILABLE);
        for (int n = 0; n < 3 && i < ROW; n++) {
            assert_int_equal(validate(bed), PROBLEM_TOKEN_UNAVAILABLE); /* from memory */
        }
        assert_int_equal(state_of(bed).failures, i);
        clock_shift(apr_time_from_sec(3 * (i < ROW ? i : i - 1)));
    }
    assert_int_equal(fixture_count(bed->server, BED_TOKEN_PATH, NULL), ROW);
    assert_int_equal(state_of(bed).state, INTUNE_BREAKER_OPEN);
    assert_string_equal(state_of(bed).reason, "Entra token: HTTP 503");
}

static void tenants_and_applications_are_apart(void **state)
{
    bed_t *bed = *state;
    open_it(bed);
    bed->settings.app_id = "app-2";
    bed_attach(bed, &bed->settings);
    assert_int_equal(validate(bed), PROBLEM_INTUNE_ANSWER);
    bed->settings.app_id = "app-1";
    bed_attach(bed, &bed->settings); /* another process, the same breaker */
    assert_int_equal(validate(bed), PROBLEM_INTUNE_PAUSED);
}

static void a_process_that_ends_counts_nothing(void **state)
{
    bed_t *bed = *state;
    intune_stop(bed->intune);
    for (int i = 0; i <= ROW; i++) {
        assert_int_equal(validate(bed), PROBLEM_TOKEN_UNAVAILABLE);
    }
    assert_int_equal(state_of(bed).failures, 0);
}

/** Many validations at once; how many of them ended so. */
static int crowd(bed_t *bed, problem_t problem)
{
    const bed_crowd_t *all = bed_crowd(bed, THREADS);
    int n = 0;
    for (int i = 0; i < THREADS; i++) {
        n += all[i].result->problem == problem ? 1 : 0;
    }
    return n;
}

static void one_probe_for_a_crowd(void **state)
{
    bed_t *bed = *state;
    open_it(bed);
    clock_shift(apr_time_from_sec(7));
    intune_answers(bed, (fixture_reply_t){503, NULL, "{}", 0, 300, false});
    assert_int_equal(crowd(bed, PROBLEM_INTUNE_PAUSED), THREADS - 1);
    assert_int_equal(asked(bed), ROW + 1);
    clock_shift(apr_time_from_sec(30));
    intune_answers(bed, (fixture_reply_t){200, NULL, "{\"code\":\"Success\"}", 0, 300, false});
    assert_int_equal(crowd(bed, PROBLEM_NONE), 1);
    assert_int_equal(state_of(bed).state, INTUNE_BREAKER_CLOSED);
    assert_int_equal(crowd(bed, PROBLEM_NONE), THREADS);
}

static void a_crowd_opens_it_once(void **state)
{
    bed_t *bed = *state;
    assert_int_equal(validate(bed), PROBLEM_NONE);
    intune_answers(bed, (fixture_reply_t){500, NULL, "{}", 0, 500, false});
    assert_int_equal(crowd(bed, PROBLEM_INTUNE_ANSWER), THREADS);
    assert_int_equal(state_of(bed).state, INTUNE_BREAKER_OPEN);
    assert_int_equal(asked(bed), THREADS + 1);
    assert_true(state_of(bed).until - state_of(bed).since <= apr_time_from_sec(6));
}

/* what a closed breaker costs */

static cache_t *real_cache;
static int looks;
static int writes;

static apr_status_t get_counted(cache_t *cache, const char *key, bytes_t *value, apr_pool_t *pool)
{
    (void)cache;
    looks += strncmp(key, "breaker ", 8) == 0 ? 1 : 0;
    return real_cache->get(real_cache, key, value, pool);
}

static apr_status_t put_counted(cache_t *cache, const char *key, bytes_t value, apr_time_t expires)
{
    (void)cache;
    writes += strncmp(key, "breaker ", 8) == 0 ? 1 : 0;
    return real_cache->put(real_cache, key, value, expires);
}

static apr_status_t drop_counted(cache_t *cache, const char *key, bytes_t value)
{
    (void)cache;
    writes += strncmp(key, "breaker ", 8) == 0 ? 1 : 0;
    return real_cache->drop(real_cache, key, value);
}

static apr_status_t replace_counted(cache_t *cache, const char *key, bytes_t old, bytes_t value, apr_time_t expires)
{
    (void)cache;
    writes += strncmp(key, "breaker ", 8) == 0 ? 1 : 0;
    return real_cache->replace(real_cache, key, old, value, expires);
}

static void closed_it_costs_one_look(void **state)
{
    bed_t *bed = *state;
    real_cache = bed->cache;
    cache_t counting = *real_cache;
    counting.get = get_counted;
    counting.put = put_counted;
    counting.drop = drop_counted;
    counting.replace = replace_counted;
    looks = 0;
    writes = 0;
    bed->cache = &counting;
    bed_attach(bed, &bed->settings);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(validate(bed), PROBLEM_NONE);
    }
    assert_int_equal(looks, 10);
    assert_int_equal(writes, 0);
    bed->cache = real_cache;
}

/* while it is written anew */

static bed_t *bed_of_others;
static int others_asked;

/** Somebody else comes by just before anything is written to the breaker's record, and just after. */
static void somebody_comes_by(const char *key)
{
    static bool inside;
    if (strncmp(key, "breaker ", 8) != 0 || inside || bed_of_others == NULL) {
        return;
    }
    inside = true;
    int before = asked(bed_of_others);
    intune_call_t call = {.pool = bed_of_others->pool, .result = result_make(bed_of_others->pool)};
    intune_validate(bed_of_others->intune, &call, "tx/2", bed_csr());
    others_asked += asked(bed_of_others) - before;
    inside = false;
}

static apr_status_t put_watched(cache_t *cache, const char *key, bytes_t value, apr_time_t expires)
{
    (void)cache;
    somebody_comes_by(key);
    apr_status_t rv = real_cache->put(real_cache, key, value, expires);
    somebody_comes_by(key);
    return rv;
}

static apr_status_t drop_watched(cache_t *cache, const char *key, bytes_t value)
{
    (void)cache;
    somebody_comes_by(key);
    apr_status_t rv = real_cache->drop(real_cache, key, value);
    somebody_comes_by(key);
    return rv;
}

static apr_status_t replace_watched(cache_t *cache, const char *key, bytes_t old, bytes_t value, apr_time_t expires)
{
    (void)cache;
    somebody_comes_by(key);
    apr_status_t rv = real_cache->replace(real_cache, key, old, value, expires);
    somebody_comes_by(key);
    return rv;
}

static void it_is_open_at_every_moment(void **state)
{
    bed_t *bed = *state;
    open_it(bed);
    real_cache = bed->cache;
    cache_t watched = *real_cache;
    watched.put = put_watched;
    watched.drop = drop_watched;
    watched.replace = replace_watched;
    bed->cache = &watched;
    bed_attach(bed, &bed->settings);
    bed_of_others = bed;
    others_asked = 0;
    clock_shift(apr_time_from_sec(7));
    assert_int_equal(validate(bed), PROBLEM_INTUNE_ANSWER); /* a probe */
    bed_of_others = NULL;
    assert_int_equal(others_asked, 0);
    assert_int_equal(asked(bed), ROW + 1);
    assert_int_equal(validate(bed), PROBLEM_INTUNE_PAUSED);
    bed->cache = real_cache;
}

static int turns_refused;

static apr_status_t claim_busy(cache_t *cache, const char *lease, apr_time_t until, const char **owner,
                               apr_pool_t *pool)
{
    (void)cache;
    if (strncmp(lease, "turn ", 5) == 0 && turns_refused > 0) {
        turns_refused--;
        return APR_EBUSY;
    }
    return real_cache->claim(real_cache, lease, until, owner, pool);
}

/** Many failures are counted at the same time; the probe's waits for its turn. */
static void what_a_probe_found_is_kept(void **state)
{
    bed_t *bed = *state;
    open_it(bed);
    real_cache = bed->cache;
    cache_t busy = *real_cache;
    busy.claim = claim_busy;
    bed->cache = &busy;
    bed_attach(bed, &bed->settings);
    clock_shift(apr_time_from_sec(7));
    turns_refused = 50;
    assert_int_equal(validate(bed), PROBLEM_INTUNE_ANSWER);
    assert_int_equal(turns_refused, 0);
    assert_int_equal(validate(bed), PROBLEM_INTUNE_PAUSED);
    assert_int_equal(asked(bed), ROW + 1);
    bed->cache = real_cache;
}

static void before_attach_it_is_closed(void **state)
{
    bed_t *bed = *state;
    assert_int_equal(intune_make(&bed->intune, &bed->settings, bed->pool), APR_SUCCESS);
    assert_int_equal(state_of(bed).state, INTUNE_BREAKER_CLOSED);
    assert_string_equal(state_of(bed).reason, "");
}

/** Whatever a record's numbers are: nothing overflows, and validations go on. */
static void odd_records(void **state)
{
    static const char *const records[] = {
        "",
        "x",
        "-9223372036854775808 -9223372036854775808 -9223372036854775808 5 -1 -1 -1 -1 -9223372036854775808 why",
        "9223372036854775807 9223372036854775807 9223372036854775807 5 1 2 3 4 9223372036854775807 why",
        "1 99999999999999999999 99999999999999999999 99999999999999999999 why",
        "1 1 9223372036854775807 -1 why",
    };
    bed_t *bed = *state;
    const intune_settings_t *s = &bed->settings;
    const char *key =
        apr_pstrcat(bed->pool, "breaker ", key_part(bed->pool, s->tenant), key_part(bed->pool, s->app_id),
                    key_part(bed->pool, s->authority), key_part(bed->pool, s->graph_url),
                    key_part(bed->pool, s->intune_url), key_part(bed->pool, s->intune_app_id),
                    key_part(bed->pool, s->service_version), NULL);
    for (size_t i = 0; i < sizeof(records) / sizeof(records[0]); i++) {
        apr_time_t expires = clock_now() + apr_time_from_sec(3600);
        intune_is_down(bed);
        bed->cache->put(bed->cache, key, bytes_of_text(records[i]), expires);
        assert_int_equal(validate(bed), PROBLEM_INTUNE_ANSWER);
        intune_breaker_t breaker = state_of(bed);
        assert_true(breaker.until - clock_now() <= apr_time_from_sec(60));
        intune_is_well(bed);
        bed->cache->put(bed->cache, key, bytes_of_text(records[i]), expires);
        assert_int_equal(validate(bed), PROBLEM_NONE);
        assert_int_equal(state_of(bed).state, INTUNE_BREAKER_CLOSED);
    }
}

#define BED_TEST(name) cmocka_unit_test_setup_teardown(name, bed_up, bed_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        BED_TEST(opens_after_five_and_asks_no_more),
        BED_TEST(ends_that_count),
        BED_TEST(an_answer_ends_the_row),
        BED_TEST(failures_of_more_than_a_minute_are_no_row),
        BED_TEST(success_of_the_probe_closes),
        BED_TEST(pauses_double_to_a_minute),
        BED_TEST(a_clock_set_back_does_not_prolong_it),
        BED_TEST(a_clock_set_far_back_closes_it),
        BED_TEST(a_probe_is_one_call),
        BED_TEST(retry_after_prolongs_the_pause),
        BED_TEST(reports_pass_and_count),
        BED_TEST(entra_counts_and_a_shared_failure_once),
        BED_TEST(tenants_and_applications_are_apart),
        BED_TEST(a_process_that_ends_counts_nothing),
        BED_TEST(one_probe_for_a_crowd),
        BED_TEST(a_crowd_opens_it_once),
        BED_TEST(closed_it_costs_one_look),
        BED_TEST(it_is_open_at_every_moment),
        BED_TEST(what_a_probe_found_is_kept),
        BED_TEST(odd_records),
        BED_TEST(before_attach_it_is_closed),
    };
    if (bed_start() != 0) {
        return EXIT_FAILURE;
    }
    int ended = cmocka_run_group_tests_name("breaker", tests, NULL, NULL);
    apr_terminate();
    return ended;
}
