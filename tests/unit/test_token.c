/* SPDX-License-Identifier: Apache-2.0 */
/* Tokens: what Entra answers, one flight for many threads, 401 and 403, renewal ahead of the expiry. */
#include "intune_bed.h"

#include "base/clock.h"

#include <apr_general.h>
#include <apr_strings.h>

#include <stdlib.h>
#include <string.h>

enum { THREADS = 64 };

static int token_count(bed_t *bed, const char *scope)
{
    return fixture_count(bed->server, BED_TOKEN_PATH, scope);
}

/* Entra's answers */

static const struct {
    const char *name;
    const char *expires_in;
    int renew; /* seconds after the request */
    int usable;
} lives[] = {
    {"number", ",\"expires_in\":3599", 3299, 3539},
    {"numeric text", ",\"expires_in\":\"3599\"", 3299, 3539},
    {"short", ",\"expires_in\":100", 50, 90},
    {"shortest that tests use", ",\"expires_in\":10", 5, 9},
    {"a day", ",\"expires_in\":86400", 86100, 86340},
    {"more than a day", ",\"expires_in\":864000000000", 86100, 86340},
    {"more than a number holds", ",\"expires_in\":99999999999999999999999", 86100, 86340},
    {"missing", "", 150, 270},
    {"null", ",\"expires_in\":null", 150, 270},
    {"zero", ",\"expires_in\":0", 150, 270},
    {"negative", ",\"expires_in\":-5", 150, 270},
    {"words", ",\"expires_in\":\"soon\"", 150, 270},
    {"number and words", ",\"expires_in\":\"5 days\"", 150, 270},
};

static void token_lives(void **state)
{
    bed_t *bed = *state;
    for (size_t i = 0; i < sizeof(lives) / sizeof(lives[0]); i++) {
        errand_t errand;
        const token_t *token = NULL;
        bed_token(bed, BED_INTUNE_SCOPE, 1, 200,
                  apr_psprintf(bed->pool, "{\"access_token\":\"abc\"%s}", lives[i].expires_in));
        bed_call(bed);
        assert_int_equal(errand_begin(&errand, bed->intune, &bed->call), APR_SUCCESS);
        assert_int_equal(token_fetch(&errand, token_scope_intune(bed->intune, bed->pool), &token), APR_SUCCESS);
        assert_string_equal(token->text, "abc");
        apr_interval_time_t renew = token->renew_at - token->fetched_at;
        apr_interval_time_t usable = token->usable_until - token->fetched_at;
        if (renew != apr_time_from_sec(lives[i].renew) || usable != apr_time_from_sec(lives[i].usable)) {
            fail_msg("%s: %ld %ld", lives[i].name, (long)apr_time_sec(renew), (long)apr_time_sec(usable));
        }
    }
}

#define AADSTS_BODY                                                                                                    \
    "{\"error\":\"invalid_client\",\"error_description\":\"AADSTS7000215: Invalid client secret "                      \
    "provided.\\r\\nTrace\"}"

static const struct {
    const char *name;
    fixture_reply_t reply;
    problem_t problem;
    const char *code;
    const char *detail;
} refusals[] = {
    {"401",
     {401, NULL, AADSTS_BODY, 0, 0, false},
     PROBLEM_TOKEN_REFUSED,
     "AADSTS7000215",
     "Invalid client secret provided.\\x0d"},
    {"400", {400, NULL, AADSTS_BODY, 0, 0, false}, PROBLEM_TOKEN_REFUSED, "AADSTS7000215", "invalid_client"},
    {"no AADSTS code",
     {400, NULL, "{\"error\":\"invalid_scope\"}", 0, 0, false},
     PROBLEM_TOKEN_REFUSED,
     "invalid_scope",
     "invalid_scope: -"},
    {"400 HTML", {400, NULL, "<html>", 0, 0, false}, PROBLEM_TOKEN_UNAVAILABLE, NULL, "HTTP 400"},
    {"503",
     {503, "Retry-After: 9\r\n", AADSTS_BODY, 0, 0, false},
     PROBLEM_TOKEN_UNAVAILABLE,
     "AADSTS7000215",
     "HTTP 503"},
    {"200 without a token",
     {200, NULL, "{\"expires_in\":3599}", 0, 0, false},
     PROBLEM_TOKEN_UNAVAILABLE,
     NULL,
     "without an access_token"},
    {"200 empty token", {200, NULL, "{\"access_token\":\"\"}", 0, 0, false}, PROBLEM_TOKEN_UNAVAILABLE, NULL, NULL},
    {"200 token with a line end",
     {200, NULL, "{\"access_token\":\"a\\r\\nX: y\"}", 0, 0, false},
     PROBLEM_TOKEN_UNAVAILABLE,
     NULL,
     NULL},
    {"200 token is a number", {200, NULL, "{\"access_token\":5}", 0, 0, false}, PROBLEM_TOKEN_UNAVAILABLE, NULL, NULL},
    {"200 HTML", {200, NULL, "<html>", 0, 0, false}, PROBLEM_TOKEN_UNAVAILABLE, NULL, NULL},
    {"302", {302, "Location: /x\r\n", "", 0, 0, false}, PROBLEM_TOKEN_UNAVAILABLE, NULL, "HTTP 302"},
    {"dropped", {200, NULL, "", 0, 0, true}, PROBLEM_TOKEN_UNAVAILABLE, NULL, "dropped"},
};

static void token_refusals(void **state)
{
    bed_t *bed = *state;
    for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
        fixture_on(bed->server, BED_TOKEN_PATH, NULL, -1, refusals[i].reply);
        bed_check(bed, refusals[i].name, bed_validate(bed), refusals[i].problem, refusals[i].code,
                     refusals[i].detail);
        assert_int_equal(bed->result->retry_after, refusals[i].reply.status == 503 ? apr_time_from_sec(9) : 0);
        clock_shift(apr_time_from_sec(31 * ((int)i + 1))); /* past the failure record */
    }
    assert_int_equal(fixture_count(bed->server, "/svc/", NULL) + fixture_count(bed->server, BED_GRAPH_PATH, NULL), 0);
}

static void fail_newcomers_share_a_fresh_failure(void **state)
{
    bed_t *bed = *state;
    fixture_on(bed->server, BED_TOKEN_PATH, NULL, 1,
               (fixture_reply_t){503, "Retry-After: 9\r\n", AADSTS_BODY, 0, 0, false});
    for (int i = 0; i < 3; i++) {
        bed_check(bed, "newcomer", bed_validate(bed), PROBLEM_TOKEN_UNAVAILABLE, "AADSTS7000215", "HTTP 503");
        assert_int_equal(bed->result->retry_after, apr_time_from_sec(9));
        assert_non_null(bed->result->request_id);
    }
    assert_int_equal(token_count(bed, NULL), 1);
    clock_shift(apr_time_from_sec(3));
    assert_int_equal(bed_validate(bed), APR_SUCCESS);
}

/* A clock that is set right by an hour, as soon after a start: what failed just before does not hold for an hour. */
static void ok_failure_ends_though_the_clock_was_set_back(void **state)
{
    bed_t *bed = *state;
    bed_token(bed, NULL, 1, 503, AADSTS_BODY);
    clock_shift(apr_time_from_sec(3600));
    assert_int_not_equal(bed_validate(bed), APR_SUCCESS);
    clock_shift(0);
    assert_int_equal(bed_validate(bed), APR_SUCCESS);
}

static void ok_tenants_share_nothing(void **state)
{
    bed_t *bed = *state;
    assert_int_equal(bed_validate(bed), APR_SUCCESS);
    fixture_on(bed->server, "/tenant-2/", NULL, -1,
               (fixture_reply_t){200, NULL, "{\"access_token\":\"two\"}", 0, 0, false});
    bed->settings.tenant = "tenant-2";
    bed_attach(bed, &bed->settings);
    assert_int_equal(bed_validate(bed), APR_SUCCESS);
    assert_int_equal(fixture_count(bed->server, "/tenant-2/", NULL), 2);
    assert_int_equal(fixture_count(bed->server, BED_GRAPH_PATH, NULL), 2);
    assert_string_equal(fixture_header(fixture_last(bed->server, BED_VALIDATE_PATH, NULL), "Authorization", bed->pool),
                        "Bearer two");
    bed->settings.app_id = "app-2";
    bed_attach(bed, &bed->settings);
    assert_int_equal(bed_validate(bed), APR_SUCCESS);
    assert_int_equal(fixture_count(bed->server, "/tenant-2/", NULL), 4);
}

/* many threads */

static void ok_cold_cache_costs_two_tokens_and_one_discovery(void **state)
{
    bed_t *bed = *state;
    static const char body[] = "{\"access_token\":\"abc\",\"expires_in\":3599}";
    fixture_on(bed->server, BED_TOKEN_PATH, NULL, -1, (fixture_reply_t){200, NULL, body, 0, 150, false});
    const bed_crowd_t *crowd = bed_crowd(bed, THREADS);
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(crowd[i].rv, APR_SUCCESS);
    }
    assert_int_equal(token_count(bed, NULL), 2);
    assert_int_equal(fixture_count(bed->server, BED_GRAPH_PATH, NULL), 1);
    assert_int_equal(fixture_count(bed->server, BED_VALIDATE_PATH, NULL), THREADS);
}

static void fail_crowd_shares_one_refusal(void **state)
{
    bed_t *bed = *state;
    fixture_on(bed->server, BED_TOKEN_PATH, NULL, -1, (fixture_reply_t){401, NULL, AADSTS_BODY, 0, 200, false});
    const bed_crowd_t *crowd = bed_crowd(bed, THREADS);
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(crowd[i].result->problem, PROBLEM_TOKEN_REFUSED);
        assert_string_equal(crowd[i].result->code, "AADSTS7000215");
        assert_true(crowd[i].duration < apr_time_from_sec(3));
    }
    assert_int_equal(token_count(bed, NULL), 1);
}

static void ok_crowd_with_a_dead_token_fetches_one(void **state)
{
    bed_t *bed = *state;
    assert_int_equal(bed_validate(bed), APR_SUCCESS);
    fixture_on(bed->server, BED_VALIDATE_PATH, NULL, THREADS, (fixture_reply_t){401, NULL, "", 0, 500, false});
    bed_token(bed, BED_INTUNE_SCOPE, -1, 200, "{\"access_token\":\"better\",\"expires_in\":3599}");
    const bed_crowd_t *crowd = bed_crowd(bed, THREADS);
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(crowd[i].rv, APR_SUCCESS);
    }
    assert_int_equal(token_count(bed, BED_INTUNE_SCOPE), 2);
}

static void ok_moved_service_costs_a_crowd_one_discovery(void **state)
{
    bed_t *bed = *state;
    assert_int_equal(bed_validate(bed), APR_SUCCESS);
    fixture_on(bed->server, "/svc/", NULL, -1, (fixture_reply_t){404, NULL, "", 0, 100, false});
    bed_endpoints(bed, "providerName", BED_SERVICE, apr_pstrcat(bed->pool, fixture_url(bed->server), "new", NULL));
    const bed_crowd_t *crowd = bed_crowd(bed, THREADS);
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(crowd[i].rv, APR_SUCCESS);
    }
    assert_int_equal(fixture_count(bed->server, BED_GRAPH_PATH, NULL), 2);
}

/* leases of others */

static void fail_waiting_ends_with_the_budget(void **state)
{
    bed_t *bed = *state;
    const char *owner = NULL;
    const char *key = token_key(bed->intune, token_scope_intune(bed->intune, bed->pool), bed->pool);
    assert_int_equal(bed->cache->claim(bed->cache, key, clock_now() + apr_time_from_sec(60), &owner, bed->pool),
                     APR_SUCCESS);
    bed->settings.timeout = apr_time_from_msec(300);
    bed_attach(bed, &bed->settings);
    bed_check(bed, "lease", bed_validate(bed), PROBLEM_TOKEN_UNAVAILABLE, NULL, "waited in vain");
    assert_true(bed->call.duration <= apr_time_from_msec(600));
    assert_int_equal(token_count(bed, NULL), 0);
}

static void ok_lease_of_a_dead_process_is_taken_over(void **state)
{
    bed_t *bed = *state;
    const char *owner = NULL;
    const char *key = token_key(bed->intune, token_scope_intune(bed->intune, bed->pool), bed->pool);
    assert_int_equal(bed->cache->claim(bed->cache, key, clock_now() + apr_time_from_msec(200), &owner, bed->pool),
                     APR_SUCCESS);
    assert_int_equal(bed_validate(bed), APR_SUCCESS);
    assert_true(bed->call.duration >= apr_time_from_msec(150));
}

static void fail_stop_ends_the_waiting(void **state)
{
    bed_t *bed = *state;
    const char *owner = NULL;
    const char *key = token_key(bed->intune, token_scope_intune(bed->intune, bed->pool), bed->pool);
    assert_int_equal(bed->cache->claim(bed->cache, key, clock_now() + apr_time_from_sec(60), &owner, bed->pool),
                     APR_SUCCESS);
    intune_stop(bed->intune);
    bed_check(bed, "stopped", bed_validate(bed), PROBLEM_TOKEN_UNAVAILABLE, NULL, "process ends");
    assert_true(bed->call.duration < apr_time_from_sec(2));
    /* and tells the other processes nothing */
    bed->cache->release(bed->cache, key, owner);
    bed_validate(bed);
    bed_attach(bed, &bed->settings);
    assert_int_equal(bed_validate(bed), APR_SUCCESS);
}

static void fail_before_attach(void **state)
{
    bed_t *bed = *state;
    assert_int_equal(intune_make(&bed->intune, &bed->settings, bed->pool), APR_SUCCESS);
    bed_check(bed, "not attached", bed_validate(bed), PROBLEM_INTERNAL, NULL, NULL);
    intune_renew_due(bed->intune, bed->pool, &bed->log);
    intune_stop(bed->intune);
}

/* 401 and 403 */

static void ok_denied_once_is_tried_with_a_new_token(void **state)
{
    bed_t *bed = *state;
    for (int status = 401; status <= 403; status += 2) {
        fixture_forget(bed->server);
        fixture_on(bed->server, BED_VALIDATE_PATH, NULL, 1, (fixture_reply_t){status, NULL, "", 0, 0, false});
        assert_int_equal(bed_validate(bed), APR_SUCCESS);
        assert_int_equal(token_count(bed, BED_INTUNE_SCOPE), status == 401 ? 2 : 1);
        assert_int_equal(fixture_count(bed->server, BED_VALIDATE_PATH, NULL), 2);
    }
    assert_int_equal(bed_logged(bed, "ISCEP0303"), 2);
}

static void fail_denied_twice(void **state)
{
    bed_t *bed = *state;
    fixture_on(bed->server, BED_VALIDATE_PATH, NULL, -1,
               (fixture_reply_t){403, NULL, "{\"code\":\"Success\"}", 0, 0, false});
    bed_check(bed, "denied", bed_validate(bed), PROBLEM_INTUNE_DENIED, "Success", "HTTP 403");
    assert_int_equal(fixture_count(bed->server, BED_VALIDATE_PATH, NULL), 2);
    assert_int_equal(token_count(bed, BED_INTUNE_SCOPE), 2);
}

static void fail_graph_denied_twice(void **state)
{
    bed_t *bed = *state;
    fixture_on(bed->server, BED_GRAPH_PATH, NULL, -1,
               (fixture_reply_t){403, NULL, "{\"error\":{\"code\":\"Authorization_RequestDenied\"}}", 0, 0, false});
    bed_check(bed, "denied", bed_validate(bed), PROBLEM_LOCATION_UNAVAILABLE, "Authorization_RequestDenied",
                 "HTTP 403");
    assert_int_equal(fixture_count(bed->server, BED_GRAPH_PATH, NULL), 2);
    assert_int_equal(token_count(bed, BED_GRAPH_SCOPE), 2);
    assert_int_equal(token_count(bed, BED_INTUNE_SCOPE), 1);
}

static cache_t *real_cache;

static void renewed_put(const char *key)
{
    apr_time_t now = clock_now();
    char text[128];
    apr_snprintf(text, sizeof(text), "%" APR_TIME_T_FMT " %" APR_TIME_T_FMT " %" APR_TIME_T_FMT " renewed", now,
                 now + apr_time_from_sec(500), now + apr_time_from_sec(900));
    real_cache->put(real_cache, key, bytes_of_text(text), now + apr_time_from_sec(900));
}

/** Just before the drop another process has renewed the token. */
static apr_status_t drop_too_late(cache_t *cache, const char *key, bytes_t value)
{
    (void)cache;
    renewed_put(key);
    return real_cache->drop(real_cache, key, value);
}

/** Just before the claim another process has put its result there and gone. */
static apr_status_t claim_too_late(cache_t *cache, const char *lease, apr_time_t until, const char **owner,
                                   apr_pool_t *pool)
{
    (void)cache;
    if (strncmp(lease, "token", 5) == 0) {
        renewed_put(lease);
    }
    return real_cache->claim(real_cache, lease, until, owner, pool);
}

static void ok_result_between_look_and_claim_counts(void **state)
{
    bed_t *bed = *state;
    real_cache = bed->cache;
    cache_t spying = *real_cache;
    spying.claim = claim_too_late;
    bed->cache = &spying;
    bed_attach(bed, &bed->settings);
    assert_int_equal(bed_validate(bed), APR_SUCCESS);
    assert_int_equal(token_count(bed, NULL), 0);
    bed->cache = real_cache;
}

static apr_status_t claim_broken(cache_t *cache, const char *lease, apr_time_t until, const char **owner,
                                 apr_pool_t *pool)
{
    (void)cache;
    (void)lease;
    (void)until;
    (void)owner;
    (void)pool;
    return APR_EGENERAL;
}

static apr_status_t put_broken(cache_t *cache, const char *key, bytes_t value, apr_time_t expires)
{
    (void)cache;
    (void)key;
    (void)value;
    (void)expires;
    return APR_ENOSPC;
}

static apr_status_t put_shared_broken(cache_t *cache, const char *key, bytes_t value, apr_time_t expires,
                                      const log_t *log)
{
    (void)log;
    return put_broken(cache, key, value, expires);
}

static void ok_broken_cache_costs_calls_only(void **state)
{
    bed_t *bed = *state;
    real_cache = bed->cache;
    cache_t broken = *real_cache;
    broken.claim = claim_broken;
    broken.put = put_broken;
    broken.put_shared = put_shared_broken;
    bed->cache = &broken;
    bed_attach(bed, &bed->settings);
    assert_int_equal(bed_validate(bed), APR_SUCCESS);
    assert_int_equal(bed_validate(bed), APR_SUCCESS);
    assert_int_equal(token_count(bed, NULL), 4);
    bed->cache = real_cache;
}

static void ok_token_too_large_to_be_kept(void **state)
{
    enum { LARGE = 9000 };
    bed_t *bed = *state;
    char *text = apr_palloc(bed->pool, LARGE + 1);
    memset(text, 'x', LARGE);
    text[LARGE] = 0;
    bed_token(bed, BED_INTUNE_SCOPE, -1, 200,
              apr_pstrcat(bed->pool, "{\"access_token\":\"", text, "\",\"expires_in\":3599}", NULL));
    assert_int_equal(bed_validate(bed), APR_SUCCESS);
    assert_int_equal(bed_validate(bed), APR_SUCCESS);
    assert_int_equal(token_count(bed, BED_GRAPH_SCOPE), 1);
    assert_int_equal(token_count(bed, BED_INTUNE_SCOPE), 2);
    assert_int_equal(bed_logged(bed, "of 9000 bytes, could not be kept"), 2);
    assert_int_equal(bed_logged(bed, "xxxx"), 0);
}

static void ok_denied_uses_what_somebody_else_renewed(void **state)
{
    bed_t *bed = *state;
    real_cache = bed->cache;
    cache_t spying = *real_cache;
    spying.drop = drop_too_late;
    bed->cache = &spying;
    bed_attach(bed, &bed->settings);
    fixture_on(bed->server, BED_VALIDATE_PATH, NULL, 1, (fixture_reply_t){401, NULL, "", 0, 0, false});
    assert_int_equal(bed_validate(bed), APR_SUCCESS);
    assert_int_equal(token_count(bed, BED_INTUNE_SCOPE), 1);
    assert_string_equal(fixture_header(fixture_last(bed->server, BED_VALIDATE_PATH, NULL), "Authorization", bed->pool),
                        "Bearer renewed");
    bed->cache = real_cache;
}

/* renewal */

static void ok_renewal_of_what_is_due(void **state)
{
    bed_t *bed = *state;
    intune_renew_due(bed->intune, bed->pool, &bed->log);
    assert_int_equal(token_count(bed, NULL), 0); /* nobody asked for a token yet */
    bed_token(bed, BED_INTUNE_SCOPE, 1, 200, "{\"access_token\":\"short\",\"expires_in\":4}");
    assert_int_equal(bed_validate(bed), APR_SUCCESS);
    intune_renew_due(bed->intune, bed->pool, &bed->log);
    assert_int_equal(token_count(bed, BED_INTUNE_SCOPE), 1); /* not due */
    clock_shift(apr_time_from_msec(2100));
    intune_renew_due(bed->intune, bed->pool, &bed->log);
    assert_int_equal(token_count(bed, BED_INTUNE_SCOPE), 2);
    intune_renew_due(bed->intune, bed->pool, &bed->log);
    assert_int_equal(token_count(bed, NULL), 3); /* Graph's is not due, Intune's not any more */
    fixture_forget(bed->server);
    clock_shift(apr_time_from_sec(60));
    assert_int_equal(bed_validate(bed), APR_SUCCESS);
    assert_int_equal(token_count(bed, NULL), 0);
    assert_string_equal(fixture_header(fixture_last(bed->server, BED_VALIDATE_PATH, NULL), "Authorization", bed->pool),
                        "Bearer intune-token");
}

static void fail_renewal_keeps_the_old_token_and_backs_off(void **state)
{
    bed_t *bed = *state;
    bed_token(bed, BED_INTUNE_SCOPE, 1, 200, "{\"access_token\":\"old\",\"expires_in\":100}");
    assert_int_equal(bed_validate(bed), APR_SUCCESS);
    bed_token(bed, BED_INTUNE_SCOPE, -1, 401, AADSTS_BODY);
    fixture_forget(bed->server);
    clock_shift(apr_time_from_sec(51));
    intune_renew_due(bed->intune, bed->pool, &bed->log);
    intune_renew_due(bed->intune, bed->pool, &bed->log);
    clock_shift(apr_time_from_sec(80));
    intune_renew_due(bed->intune, bed->pool, &bed->log);
    assert_int_equal(token_count(bed, NULL), 1);
    clock_shift(apr_time_from_sec(82));
    intune_renew_due(bed->intune, bed->pool, &bed->log);
    assert_int_equal(token_count(bed, NULL), 2);
    assert_int_equal(bed_logged(bed, "ISCEP0305"), 1);
    assert_int_equal(bed_logged(bed, "Entra refused the credential, code AADSTS7000215"), 1);
    /* the old one serves until its end, the failed renewal notwithstanding */
    assert_int_equal(bed_validate(bed), APR_SUCCESS);
    assert_string_equal(fixture_header(fixture_last(bed->server, BED_VALIDATE_PATH, NULL), "Authorization", bed->pool),
                        "Bearer old");
    clock_shift(apr_time_from_sec(113));
    intune_renew_due(bed->intune, bed->pool, &bed->log);
    assert_int_equal(token_count(bed, NULL), 2); /* what has expired is not renewed */
    bed_check(bed, "expired", bed_validate(bed), PROBLEM_TOKEN_REFUSED, "AADSTS7000215", NULL);
}

static void ok_renewal_leaves_it_to_the_one_who_is_at_it(void **state)
{
    bed_t *bed = *state;
    const char *owner = NULL;
    const char *key = token_key(bed->intune, token_scope_intune(bed->intune, bed->pool), bed->pool);
    bed_token(bed, BED_INTUNE_SCOPE, 1, 200, "{\"access_token\":\"old\",\"expires_in\":100}");
    assert_int_equal(bed_validate(bed), APR_SUCCESS);
    clock_shift(apr_time_from_sec(51));
    assert_int_equal(bed->cache->claim(bed->cache, key, clock_now() + apr_time_from_sec(60), &owner, bed->pool),
                     APR_SUCCESS);
    intune_renew_due(bed->intune, bed->pool, &bed->log);
    assert_int_equal(token_count(bed, BED_INTUNE_SCOPE), 1);
    /* nobody waits for the renewal while the old token is usable */
    assert_int_equal(bed_validate(bed), APR_SUCCESS);
    assert_true(bed->call.duration < apr_time_from_sec(1));
}

static int shared_looks;

/** Another machine has renewed the token. */
static apr_status_t get_shared_renewed(cache_t *cache, const char *key, bytes_t *value, const log_t *log,
                                       apr_pool_t *pool)
{
    (void)cache;
    (void)log;
    shared_looks++;
    renewed_put(key);
    return real_cache->get(real_cache, key, value, pool);
}

static void ok_renewal_takes_what_another_machine_renewed(void **state)
{
    bed_t *bed = *state;
    real_cache = bed->cache;
    cache_t spying = *real_cache;
    spying.get_shared = get_shared_renewed;
    bed_token(bed, BED_INTUNE_SCOPE, 1, 200, "{\"access_token\":\"old\",\"expires_in\":100}");
    assert_int_equal(bed_validate(bed), APR_SUCCESS);
    bed->cache = &spying;
    bed_attach(bed, &bed->settings);
    shared_looks = 0;
    intune_renew_due(bed->intune, bed->pool, &bed->log);
    assert_int_equal(shared_looks, 0); /* nothing is due: nobody outside is asked */
    clock_shift(apr_time_from_sec(51));
    intune_renew_due(bed->intune, bed->pool, &bed->log);
    intune_renew_due(bed->intune, bed->pool, &bed->log);
    assert_int_equal(shared_looks, 1);
    assert_int_equal(token_count(bed, BED_INTUNE_SCOPE), 1);
    assert_int_equal(bed_logged(bed, "ISCEP0342"), 1);
    assert_int_equal(bed_validate(bed), APR_SUCCESS);
    assert_int_equal(shared_looks, 1); /* nor by a request that has its token */
    assert_string_equal(fixture_header(fixture_last(bed->server, BED_VALIDATE_PATH, NULL), "Authorization", bed->pool),
                        "Bearer renewed");
    bed->cache = real_cache;
}

#define BED_TEST(name) cmocka_unit_test_setup_teardown(name, bed_up, bed_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        BED_TEST(token_lives),
        BED_TEST(token_refusals),
        BED_TEST(fail_newcomers_share_a_fresh_failure),
        BED_TEST(ok_failure_ends_though_the_clock_was_set_back),
        BED_TEST(ok_tenants_share_nothing),
        BED_TEST(ok_cold_cache_costs_two_tokens_and_one_discovery),
        BED_TEST(fail_crowd_shares_one_refusal),
        BED_TEST(ok_crowd_with_a_dead_token_fetches_one),
        BED_TEST(ok_moved_service_costs_a_crowd_one_discovery),
        BED_TEST(fail_waiting_ends_with_the_budget),
        BED_TEST(ok_lease_of_a_dead_process_is_taken_over),
        BED_TEST(fail_stop_ends_the_waiting),
        BED_TEST(fail_before_attach),
        BED_TEST(ok_denied_once_is_tried_with_a_new_token),
        BED_TEST(fail_denied_twice),
        BED_TEST(fail_graph_denied_twice),
        BED_TEST(ok_denied_uses_what_somebody_else_renewed),
        BED_TEST(ok_result_between_look_and_claim_counts),
        BED_TEST(ok_broken_cache_costs_calls_only),
        BED_TEST(ok_token_too_large_to_be_kept),
        BED_TEST(ok_renewal_of_what_is_due),
        BED_TEST(fail_renewal_keeps_the_old_token_and_backs_off),
        BED_TEST(ok_renewal_leaves_it_to_the_one_who_is_at_it),
        BED_TEST(ok_renewal_takes_what_another_machine_renewed),
    };
    if (bed_start() != 0) {
        return EXIT_FAILURE;
    }
    int failed = cmocka_run_group_tests_name("token", tests, NULL, NULL);
    apr_terminate();
    return failed;
}
