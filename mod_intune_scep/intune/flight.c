/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Single flight over the shared cache: one claims a lease and does the work, the others look for its result, for its
 * failure, or for the end of the lease. Nobody holds a mutex meanwhile.
 */
#include "intune/intune_internal.h"

#include "base/clock.h"

#include <apr_strings.h>

#include <string.h>

#define FAILURE_LIFE apr_time_from_sec(2)
#define REFUSAL_LIFE apr_time_from_sec(30)
#define LEASE_MARGIN apr_time_from_sec(2)
#define POLL_FIRST apr_time_from_msec(10)
#define POLL_LAST apr_time_from_msec(50)

apr_time_t flight_lease_end(const errand_t *errand)
{
    return clock_now() + errand->intune->settings.timeout + LEASE_MARGIN;
}

bool note_present(errand_t *errand, const char *key, apr_pool_t *scratch)
{
    bytes_t value = {NULL, 0};
    return errand->intune->cache->get(errand->intune->cache, key, &value, scratch) == APR_SUCCESS;
}

void note_put(errand_t *errand, const char *key, apr_interval_time_t life)
{
    errand->intune->cache->put(errand->intune->cache, key, bytes_of_text("1"), clock_now() + life);
}

static const char *failure_key(const char *key, apr_pool_t *pool)
{
    return apr_pstrcat(pool, "failure ", key, NULL);
}

/** One for each credential: another one is not held up by it, wherever both are in use. */
static const char *refusal_key(const char *key, const char *stamp, apr_pool_t *pool)
{
    return apr_pstrcat(pool, "failure ", key, " of ", stamp, NULL);
}

/** One line each: problem, Retry-After, code, request id; the rest is the detail. All texts are escaped already. */
static void record_put(errand_t *errand, const char *key, apr_interval_time_t life)
{
    cache_t *cache = errand->intune->cache;
    const result_t *result = errand->result;
    apr_pool_t *pool = errand->call->pool;
    const char *record = apr_psprintf(pool, "%s\n%" APR_TIME_T_FMT "\n%s\n%s\n%s", problem_facts(result->problem)->name,
                                      result->retry_after, result->code != NULL ? result->code : "",
                                      result->request_id != NULL ? result->request_id : "",
                                      result->detail != NULL ? result->detail : "");
    cache->put(cache, key, bytes_of_text(record), clock_now() + life);
}

void refusal_put(errand_t *errand, const char *key, const char *stamp)
{
    record_put(errand, refusal_key(key, stamp, errand->call->pool), REFUSAL_LIFE);
}

static const char *line_take(const char **rest, apr_pool_t *pool)
{
    apr_size_t len = strcspn(*rest, "\n");
    const char *line = apr_pstrmemdup(pool, *rest, len);
    *rest += len;
    if (**rest == '\n') {
        (*rest)++;
    }
    return line;
}

/** Whether somebody has just failed at this: then with the same words. */
static bool record_taken(errand_t *errand, const char *key, apr_pool_t *scratch)
{
    cache_t *cache = errand->intune->cache;
    bytes_t value = {NULL, 0};
    if (cache->get(cache, key, &value, scratch) != APR_SUCCESS || value.len == 0) {
        return false;
    }
    const char *rest = apr_pstrmemdup(scratch, (const char *)value.data, value.len);
    problem_t problem = problem_named(line_take(&rest, scratch));
    apr_interval_time_t retry_after = apr_strtoi64(line_take(&rest, scratch), NULL, 10);
    const char *code = line_take(&rest, scratch);
    const char *request_id = line_take(&rest, scratch);
    if (problem == PROBLEM_NONE) {
        return false;
    }
    if (*request_id != '\0') {
        errand->call->request_id = apr_pstrdup(errand->call->pool, request_id);
        errand->result->request_id = apr_pstrdup(errand->result->pool, request_id);
    }
    errand_fail(errand, problem, *code != '\0' ? code : NULL, retry_after, rest);
    errand->trial = TRIAL_NONE; /* whose call it was counts it */
    return true;
}

bool refusal_taken(errand_t *errand, const char *key, apr_pool_t *scratch)
{
    const char *stamp = credential_stamp(errand, scratch);
    const char *record = refusal_key(key, stamp, scratch);
    if (!note_present(errand, record, scratch)) {
        return false;
    }
    /* another process may have the command's newer value already */
    if (credential_changed(errand, stamp, scratch)) {
        record = refusal_key(key, credential_stamp(errand, scratch), scratch);
    }
    return record_taken(errand, record, scratch);
}

static bool failure_taken(errand_t *errand, const flight_t *flight, apr_pool_t *scratch)
{
    return record_taken(errand, failure_key(flight->key, scratch), scratch) ||
           (flight->by_credential && refusal_taken(errand, flight->key, scratch));
}

/**
 * Whether a failure says something about the service: not where this process ends, nor where its errand ran out of time
 * and had used up most of it before. What the credential is to blame for has records of its own, or costs no call.
 */
static bool failure_is_common(const errand_t *errand, apr_time_t began)
{
    problem_t problem = errand->result->problem;
    if (errand_stopping(errand) || errand->failure == HTTP_FAILED_STOPPED || problem == PROBLEM_TOKEN_REFUSED ||
        problem == PROBLEM_CREDENTIAL_UNUSABLE) {
        return false;
    }
    return clock_now() + 2 * POLL_LAST < errand->deadline ||
           errand->deadline - began >= errand->intune->settings.timeout / 2;
}

/** Ready, or failed: nothing more to wait for. */
static bool settled(errand_t *errand, const flight_t *flight, apr_pool_t *scratch, apr_status_t *rv)
{
    bool done = true;
    if (flight->ready(errand, flight->baton, scratch)) {
        *rv = APR_SUCCESS;
    } else if (failure_taken(errand, flight, scratch)) {
        *rv = APR_EGENERAL;
    } else {
        done = false;
    }
    apr_pool_clear(scratch);
    return done;
}

static apr_status_t lease_use(errand_t *errand, const flight_t *flight, const char *owner, apr_pool_t *scratch)
{
    cache_t *cache = errand->intune->cache;
    apr_status_t rv = APR_SUCCESS;
    /* the holder before may have ended between our last look and the claim */
    if (!settled(errand, flight, scratch, &rv)) {
        apr_time_t began = clock_now();
        rv = flight->work(errand, flight->baton);
        /* before the release, so that those who wait see it instead of trying one after another */
        if (rv != APR_SUCCESS && failure_is_common(errand, began)) {
            record_put(errand, failure_key(flight->key, errand->call->pool), FAILURE_LIFE);
        }
    }
    cache->release(cache, flight->lease, owner);
    return rv;
}

static apr_status_t waiting_ended(errand_t *errand, const flight_t *flight)
{
    bool stopping = errand_stopping(errand);
    const char *why = stopping ? "this process ends and waits no more" : "waited in vain";
    errand->trial = stopping ? TRIAL_NONE : TRIAL_FAILED;
    errand->trouble = apr_pstrcat(errand->call->pool, flight->what, ": ", why, NULL);
    return errand_fail(
        errand, flight->late, NULL, 0,
        apr_psprintf(errand->call->pool, "%s for %s, which another thread or process was to get", why, flight->what));
}

apr_status_t flight_run(errand_t *errand, const flight_t *flight)
{
    cache_t *cache = errand->intune->cache;
    apr_interval_time_t pause = POLL_FIRST;
    apr_pool_t *scratch = NULL;
    apr_status_t rv = APR_SUCCESS;

    apr_pool_create(&scratch, errand->call->pool);
    while (!settled(errand, flight, scratch, &rv)) {
        const char *owner = NULL;
        rv = cache->claim(cache, flight->lease, flight_lease_end(errand), &owner, errand->call->pool);
        if (rv == APR_SUCCESS) {
            rv = lease_use(errand, flight, owner, scratch);
            break;
        }
        if (!APR_STATUS_IS_EBUSY(rv)) {
            /* a broken cache costs calls, not enrolments */
            rv = flight->work(errand, flight->baton);
            break;
        }
        if (errand_stopping(errand) || clock_now() + pause >= errand->deadline) {
            rv = waiting_ended(errand, flight);
            break;
        }
        apr_sleep(pause);
        pause = pause + pause / 2 < POLL_LAST ? pause + pause / 2 : POLL_LAST;
    }
    apr_pool_destroy(scratch);
    return rv;
}
