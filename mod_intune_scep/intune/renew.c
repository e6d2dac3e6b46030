/* SPDX-License-Identifier: Apache-2.0 */
/* Renewal of tokens, and of the service's location, ahead of their expiry, by whichever process comes first. */
#include "intune/intune_internal.h"

#include "base/clock.h"

#include <apr_strings.h>

#define BACK_OFF_MIN apr_time_from_sec(5)
#define BACK_OFF_MAX apr_time_from_sec(60)
#define LOG_PAUSE apr_time_from_sec(60)

static const token_t *token_due(errand_t *errand, const char *key)
{
    const token_t *token = token_cached(errand, key, errand->call->pool);
    return token != NULL && clock_now() >= token->renew_at ? token : NULL;
}

static void failure_tell(errand_t *errand, const char *key, const char *scope)
{
    const result_t *result = errand->result;
    apr_pool_t *pool = errand->call->pool;
    const char *told = apr_pstrcat(pool, "renewal told ", key, NULL);

    if (note_present(errand, told, pool)) {
        return;
    }
    note_put(errand, told, LOG_PAUSE);
    log_write(errand->call->log, MSG_RENEWAL_FAILED, "token for %s: %s%s%s: %s%s", scope,
              problem_facts(result->problem)->what, result->code != NULL ? ", code " : "",
              result->code != NULL ? result->code : "", result->detail != NULL ? result->detail : "-",
              intune_code_told(result->code, pool));
}

/** The next try, of any process, comes sooner as the old token's end draws near. */
static void back_off(errand_t *errand, const char *note, const token_t *token)
{
    apr_interval_time_t pause = (token->usable_until - clock_now()) / 8;
    pause = pause > BACK_OFF_MIN ? pause : BACK_OFF_MIN;
    note_put(errand, note, pause < BACK_OFF_MAX ? pause : BACK_OFF_MAX);
}

/** A pause is over once there is another credential. */
static const char *pause_key(errand_t *errand, const char *key)
{
    apr_pool_t *pool = errand->call->pool;
    return apr_pstrcat(pool, "renewal failed ", key, " of ", credential_stamp(errand, pool), NULL);
}

static bool paused(errand_t *errand, const char *key)
{
    apr_pool_t *pool = errand->call->pool;
    return note_present(errand, pause_key(errand, key), pool) || refusal_taken(errand, key, pool);
}

static void renew(errand_t *errand, const char *scope)
{
    apr_pool_t *pool = errand->call->pool;
    cache_t *cache = errand->intune->cache;
    const char *key = token_key(errand->intune, scope, pool);
    const char *owner = NULL;
    const token_t *fresh = NULL;

    if (token_due(errand, key) == NULL || paused(errand, key) ||
        cache->claim(cache, key, flight_lease_end(errand), &owner, pool) != APR_SUCCESS) {
        return;
    }
    const token_t *old = token_due(errand, key);
    /* another machine may have renewed it */
    if (old != NULL && token_shared(errand, scope, old) != NULL) {
        old = token_due(errand, key);
    }
    if (old != NULL && !paused(errand, key) && token_fetch(errand, scope, &fresh) != APR_SUCCESS &&
        !errand_stopping(errand)) {
        back_off(errand, pause_key(errand, key), old);
        failure_tell(errand, key, scope);
    }
    cache->release(cache, key, owner);
}

void intune_renew_due(intune_t *intune, apr_pool_t *pool, const log_t *log)
{
    if (intune->http != NULL) {
        http_client_tidy(intune->http);
    }
    for (int i = 0; i < 3; i++) {
        apr_pool_t *scratch = NULL;
        errand_t errand;
        apr_pool_create(&scratch, pool);
        intune_call_t call = {.pool = scratch, .log = log, .result = result_make(scratch)};
        if (errand_begin(&errand, intune, &call) == APR_SUCCESS && !errand_stopping(&errand)) {
            errand.retries = 0; /* the next tick is soon enough */
            if (i == 2) {
                location_renew(&errand);
            } else {
                renew(&errand, i == 0 ? token_scope_intune(intune, scratch) : token_scope_graph(intune, scratch));
            }
        }
        apr_pool_destroy(scratch);
    }
}
