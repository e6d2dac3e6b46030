/* SPDX-License-Identifier: Apache-2.0 */
#include "intune/breaker.h"

#include "intune/intune_internal.h"
#include "intune/retry.h"

#include "base/clock.h"
#include "base/text.h"

#include <apr_strings.h>
#include <limits.h>

enum { ROW_MAX = 5, TURN_TRIES = 10, TURN_TRIES_OF_PROBE = 200, CLOSE_TRIES = 3 };

#define ROW_SPAN apr_time_from_sec(60)
#define PAUSE_FIRST apr_time_from_sec(5)
#define PAUSE_MAX apr_time_from_sec(60)
#define OPEN_LIFE apr_time_from_sec(24 * 3600)
#define TURN_LIFE apr_time_from_sec(2)
#define TURN_NAP apr_time_from_msec(5)

/** In the cache as text: the numbers in this order, then the reason. */
typedef struct breaker_t {
    apr_time_t opened;         /* 0: closed */
    apr_time_t until;          /* no validation before */
    apr_interval_time_t pause; /* the present one, without jitter */
    int row;                   /* failures in a row, while closed */
    apr_time_t failed[ROW_MAX];
    const char *reason;
    bytes_t record; /* as it was read */
} breaker_t;

static const char *breaker_key(const intune_t *intune, apr_pool_t *pool)
{
    const intune_settings_t *settings = &intune->settings;
    return apr_pstrcat(pool, "breaker ", key_part(pool, settings->tenant), key_part(pool, settings->app_id),
                       key_part(pool, settings->authority), key_part(pool, settings->graph_url),
                       key_part(pool, settings->intune_url), key_part(pool, settings->intune_app_id),
                       key_part(pool, settings->service_version), NULL);
}

/* Times are of this age of the world, whatever the record says: none overflows when another is added or taken away. */
static apr_int64_t number_take(char **rest)
{
    static const apr_int64_t MOST = APR_INT64_MAX / 4;
    char *end = *rest;
    apr_int64_t number = apr_strtoi64(*rest, &end, 10);
    *rest = end;
    return number < 0 ? 0 : number < MOST ? number : MOST;
}

static bool breaker_read(const intune_t *intune, breaker_t *breaker, apr_pool_t *pool)
{
    memset(breaker, 0, sizeof(*breaker));
    breaker->reason = "";
    if (intune->cache->get(intune->cache, breaker_key(intune, pool), &breaker->record, pool) != APR_SUCCESS ||
        breaker->record.len == 0) {
        return false;
    }
    char *rest = apr_pstrmemdup(pool, (const char *)breaker->record.data, breaker->record.len);
    breaker->opened = number_take(&rest);
    breaker->until = number_take(&rest);
    breaker->pause = number_take(&rest);
    apr_int64_t row = number_take(&rest);
    breaker->row = row >= 0 && row <= ROW_MAX ? (int)row : 0;
    for (int i = 0; i < breaker->row; i++) {
        breaker->failed[i] = number_take(&rest);
    }
    breaker->reason = *rest == ' ' ? rest + 1 : rest;
    return true;
}

/** Only with the turn. False where the record has changed meanwhile: then somebody was answered. */
static bool breaker_write(const intune_t *intune, const breaker_t *breaker, bool replaces, apr_pool_t *pool)
{
    cache_t *cache = intune->cache;
    const char *key = breaker_key(intune, pool);
    const char *text = apr_psprintf(pool, "%" APR_TIME_T_FMT " %" APR_TIME_T_FMT " %" APR_TIME_T_FMT " %d",
                                    breaker->opened, breaker->until, breaker->pause, breaker->row);
    for (int i = 0; i < breaker->row; i++) {
        text = apr_psprintf(pool, "%s %" APR_TIME_T_FMT, text, breaker->failed[i]);
    }
    text = apr_pstrcat(pool, text, " ", breaker->reason, NULL);
    apr_time_t expires = clock_now() + (breaker->opened != 0 ? OPEN_LIFE : ROW_SPAN);
    apr_status_t rv = replaces ? cache->replace(cache, key, breaker->record, bytes_of_text(text), expires)
                               : cache->put(cache, key, bytes_of_text(text), expires);
    return rv == APR_SUCCESS;
}

static const char *lease_name(const intune_t *intune, const char *kind, apr_pool_t *pool)
{
    return apr_pstrcat(pool, kind, " ", breaker_key(intune, pool), NULL);
}

/** Seconds, rounded up, for people. */
static int seconds(apr_interval_time_t time)
{
    apr_int64_t rounded = apr_time_sec(time + APR_USEC_PER_SEC - 1);
    return rounded > 0 ? rounded < INT_MAX ? (int)rounded : INT_MAX : 0;
}

/** A clock that was set back must not make it longer than it ever is. */
static apr_interval_time_t pause_left(const breaker_t *breaker, apr_time_t now)
{
    apr_interval_time_t left = breaker->until - now;
    return left > 0 && left <= PAUSE_MAX ? left : 0;
}

static apr_status_t paused(errand_t *errand, const breaker_t *breaker, apr_interval_time_t rest)
{
    rest = rest > APR_USEC_PER_SEC ? rest : APR_USEC_PER_SEC;
    return errand_fail(errand, PROBLEM_INTUNE_PAUSED, NULL, rest,
                       apr_psprintf(errand->call->pool, "since %d s, next try in %d s; %s",
                                    seconds(clock_now() - breaker->opened), seconds(rest), breaker->reason));
}

static void probe_end(errand_t *errand)
{
    cache_t *cache = errand->intune->cache;
    if (errand->probe != NULL) {
        cache->release(cache, lease_name(errand->intune, "probe", errand->call->pool), errand->probe);
        errand->probe = NULL;
    }
}

/** The pause is over: one goes ahead, the others wait for what it finds. */
static apr_status_t probe_begin(errand_t *errand, breaker_t *breaker)
{
    cache_t *cache = errand->intune->cache;
    apr_pool_t *pool = errand->call->pool;
    apr_status_t rv =
        cache->claim(cache, lease_name(errand->intune, "probe", pool), flight_lease_end(errand), &errand->probe, pool);
    if (rv != APR_SUCCESS) {
        errand->probe = NULL;
        /* a broken cache costs calls, not enrolments */
        return APR_STATUS_IS_EBUSY(rv) ? paused(errand, breaker, PAUSE_FIRST) : APR_SUCCESS;
    }
    /* the probe before this one may have ended between our look and the claim */
    if (!breaker_read(errand->intune, breaker, pool) || breaker->opened == 0) {
        probe_end(errand);
    } else if (pause_left(breaker, clock_now()) > 0) {
        probe_end(errand);
        return paused(errand, breaker, pause_left(breaker, clock_now()));
    }
    return APR_SUCCESS;
}

apr_status_t breaker_enter(errand_t *errand)
{
    breaker_t breaker;
    errand->may_be_held = true;
    errand->saw_trouble = breaker_read(errand->intune, &breaker, errand->call->pool);
    if (!errand->saw_trouble || breaker.opened == 0) {
        return APR_SUCCESS;
    }
    apr_interval_time_t left = pause_left(&breaker, clock_now());
    return left > 0 ? paused(errand, &breaker, left) : probe_begin(errand, &breaker);
}

bool breaker_forbids_retry(errand_t *errand)
{
    breaker_t breaker;
    if (!errand->may_be_held) {
        return false;
    }
    if (errand->probe != NULL) {
        return true;
    }
    return breaker_read(errand->intune, &breaker, errand->call->pool) && breaker.opened != 0;
}

/** Up to a fifth more, so that several servers do not come back in step; and what Microsoft asked for. A minute at
 * most. */
static void pause_begin(const errand_t *errand, breaker_t *breaker, apr_time_t now)
{
    apr_interval_time_t pause = breaker->pause + retry_random(breaker->pause / 5);
    pause = pause > errand->asked_to_wait ? pause : errand->asked_to_wait;
    breaker->until = now + (pause < PAUSE_MAX ? pause : PAUSE_MAX);
}

/** One failure more while closed; the fifth in a row opens. */
static void row_add(errand_t *errand, breaker_t *breaker, apr_time_t now)
{
    apr_time_t answered = atomic_load_explicit(&errand->intune->answered_at, memory_order_relaxed);
    apr_time_t since = answered > now - ROW_SPAN ? answered : now - ROW_SPAN;
    int kept = 0;
    for (int i = 0; i < breaker->row; i++) {
        if (breaker->failed[i] > since && kept < ROW_MAX - 1) {
            breaker->failed[kept++] = breaker->failed[i];
        }
    }
    breaker->failed[kept++] = now;
    breaker->row = kept;
    if (kept == ROW_MAX) {
        breaker->opened = now;
        breaker->pause = PAUSE_FIRST;
        pause_begin(errand, breaker, now);
    }
}

/** One failure more while open. False where nothing changes. */
static bool pause_extend(errand_t *errand, breaker_t *breaker, apr_time_t now)
{
    /* who set out before the pause was over says nothing new, but what Microsoft asks for counts */
    if (errand->probe == NULL && errand->began < breaker->until) {
        apr_time_t wanted = now + (errand->asked_to_wait < PAUSE_MAX ? errand->asked_to_wait : PAUSE_MAX);
        if (wanted <= breaker->until) {
            return false;
        }
        breaker->until = wanted;
        return true;
    }
    breaker->pause = 2 * breaker->pause < PAUSE_MAX ? 2 * breaker->pause : PAUSE_MAX;
    pause_begin(errand, breaker, now);
    return true;
}

static void failure_log(const errand_t *errand, const breaker_t *breaker, bool was_open, apr_time_t now)
{
    const intune_settings_t *settings = &errand->intune->settings;
    if (breaker->opened == 0) {
        return;
    }
    if (was_open) {
        log_write(errand->call->log, MSG_BREAKER_STILL,
                  "tenant %s, application %s: Intune is not asked for %d s more, after %d s: %s", settings->tenant,
                  settings->app_id, seconds(breaker->until - now), seconds(now - breaker->opened), breaker->reason);
        return;
    }
    log_write(errand->call->log, MSG_BREAKER_OPENED,
              "tenant %s, application %s: Intune is not asked for %d s: %d failures in a row within %d s, the last: %s",
              settings->tenant, settings->app_id, seconds(breaker->until - now), breaker->row,
              seconds(now - breaker->failed[0]), breaker->reason);
}

static void failure_count(errand_t *errand, apr_pool_t *pool)
{
    breaker_t breaker;
    apr_time_t now = clock_now();
    bool there = breaker_read(errand->intune, &breaker, pool);
    bool was_open = breaker.opened != 0;
    if (was_open) {
        if (!pause_extend(errand, &breaker, now)) {
            return;
        }
    } else {
        row_add(errand, &breaker, now);
    }
    breaker.reason = errand->trouble;
    if (breaker_write(errand->intune, &breaker, there, pool)) {
        failure_log(errand, &breaker, was_open, now);
    }
}

static void failed(errand_t *errand)
{
    cache_t *cache = errand->intune->cache;
    apr_pool_t *pool = errand->call->pool;
    const char *turn = lease_name(errand->intune, "turn", pool);
    const char *owner = NULL;
    /* one failure more or less in a crowd's does not matter; but what a probe found must be kept, or the next one goes */
    int tries = errand->probe != NULL ? TURN_TRIES_OF_PROBE : TURN_TRIES;
    apr_status_t rv = cache->claim(cache, turn, clock_now() + TURN_LIFE, &owner, pool);
    for (int i = 0; APR_STATUS_IS_EBUSY(rv) && i < tries && !errand_stopping(errand); i++) {
        apr_sleep(TURN_NAP);
        rv = cache->claim(cache, turn, clock_now() + TURN_LIFE, &owner, pool);
    }
    if (rv == APR_SUCCESS) {
        failure_count(errand, pool);
        cache->release(cache, turn, owner);
    }
}

/** drop() removes the record for one caller only, so that one line tells of the closing. */
static void answered(errand_t *errand)
{
    cache_t *cache = errand->intune->cache;
    apr_pool_t *pool = errand->call->pool;
    breaker_t breaker;

    atomic_store_explicit(&errand->intune->answered_at, clock_now(), memory_order_relaxed);
    for (int i = 0; i < CLOSE_TRIES && breaker_read(errand->intune, &breaker, pool); i++) {
        if (cache->drop(cache, breaker_key(errand->intune, pool), breaker.record) != APR_SUCCESS) {
            continue;
        }
        if (breaker.opened != 0) {
            log_write(errand->call->log, MSG_BREAKER_CLOSED,
                      "tenant %s, application %s: Intune is asked again, after %d s: %s",
                      errand->intune->settings.tenant, errand->intune->settings.app_id,
                      seconds(clock_now() - breaker.opened), errand->trouble);
        }
        return;
    }
}

void breaker_leave(errand_t *errand)
{
    if (errand->trial == TRIAL_FAILED && !errand_stopping(errand)) {
        failed(errand);
    } else if (errand->trial == TRIAL_ANSWERED) {
        if (!errand->may_be_held || errand->saw_trouble) {
            answered(errand);
        } else {
            atomic_store_explicit(&errand->intune->answered_at, clock_now(), memory_order_relaxed);
        }
    }
    probe_end(errand);
}

void intune_breaker_state(intune_t *intune, apr_pool_t *pool, intune_breaker_t *state)
{
    breaker_t breaker;
    memset(state, 0, sizeof(*state));
    state->reason = "";
    if (intune->cache == NULL || !breaker_read(intune, &breaker, pool)) {
        return;
    }
    state->failures = breaker.row;
    state->reason = breaker.reason;
    if (breaker.opened != 0) {
        state->state = pause_left(&breaker, clock_now()) > 0 ? INTUNE_BREAKER_OPEN : INTUNE_BREAKER_HALF_OPEN;
        state->since = breaker.opened;
        state->until = breaker.until;
    }
}
