/* SPDX-License-Identifier: Apache-2.0 */
/* Which ends of a call may pass, and the waiting before it is tried again: exponential back-off with jitter, or
 * Retry-After. */
#include "intune/retry.h"

#include "base/clock.h"

#include <apr_general.h>
#include <apr_strings.h>

#define BACK_OFF_FIRST apr_time_from_msec(200)
#define BACK_OFF_MAX apr_time_from_sec(10)
#define NAP apr_time_from_msec(50)
/* what must be left of the budget for another attempt to make sense */
#define REST_MIN apr_time_from_msec(50)

apr_interval_time_t retry_random(apr_interval_time_t below)
{
    apr_uint32_t number = 0;
    if (below <= 0 || apr_generate_random_bytes((unsigned char *)&number, sizeof(number)) != APR_SUCCESS) {
        return 0;
    }
    return (apr_interval_time_t)number % below;
}

static bool status_may_pass(int status)
{
    return status == 408 || status == 429 || status / 100 == 5;
}

/**
 * The same call may go well in a moment. A wrong certificate or a proxy that says no will not mend itself, but one that is away,
 * or does not get through, may.
 */
static bool may_pass(const http_answer_t *answer)
{
    switch (answer->failure) {
    case HTTP_OK:
        return status_may_pass(answer->status);
    case HTTP_FAILED_RESOLVE:
    case HTTP_FAILED_CONNECT:
    case HTTP_FAILED_TIMEOUT:
    case HTTP_FAILED_DROPPED:
        return true;
    case HTTP_FAILED_PROXY:
        return answer->tunnel_status == 0 || status_may_pass(answer->tunnel_status);
    default:
        return false;
    }
}

static trial_t trial_of(const http_answer_t *answer)
{
    switch (answer->failure) {
    case HTTP_FAILED_STOPPED:
    case HTTP_FAILED_INTERNAL:
        return TRIAL_NONE; /* our own doing */
    case HTTP_FAILED_TLS:
    case HTTP_FAILED_UNTRUSTED:
    case HTTP_FAILED_CLIENT_CERTIFICATE:
    case HTTP_FAILED_PROXY:
    case HTTP_FAILED_PROXY_PASSWORD:
        return TRIAL_FAILED;
    default:
        return may_pass(answer) ? TRIAL_FAILED : TRIAL_ANSWERED;
    }
}

void retry_note(errand_t *errand, const exchange_t *exchange)
{
    errand->trial = trial_of(&exchange->answer);
    errand->trouble = apr_psprintf(errand->call->pool, "%s: %s", exchange->service, exchange->outcome);
    errand->asked_to_wait = exchange->answer.retry_after;
}

/** 200 ms, 400 ms … give or take a quarter; never before Microsoft wants to be asked. */
static apr_interval_time_t pause_for(const exchange_t *exchange)
{
    apr_interval_time_t pause = BACK_OFF_FIRST << exchange->retried;
    pause = pause < BACK_OFF_MAX ? pause : BACK_OFF_MAX;
    pause = pause - pause / 4 + retry_random(pause / 2);
    apr_interval_time_t wanted = exchange->answer.retry_after;
    return wanted > pause ? wanted + retry_random(BACK_OFF_FIRST) : pause;
}

/** Counted as well, for a clock that is set back meanwhile must not make it longer. */
static bool nap(const errand_t *errand, apr_interval_time_t pause)
{
    apr_time_t end = clock_now() + pause;
    for (apr_time_t now = clock_now(); pause > 0 && now < end && !errand_stopping(errand); now = clock_now()) {
        apr_sleep(end - now < NAP ? end - now : NAP);
        pause -= NAP;
    }
    return !errand_stopping(errand);
}

bool retry_again(errand_t *errand, exchange_t *exchange)
{
    if (exchange->retried >= errand->retries || !may_pass(&exchange->answer) || errand_stopping(errand) ||
        breaker_forbids_retry(errand)) {
        return false;
    }
    apr_interval_time_t pause = pause_for(exchange);
    if (clock_now() + pause + REST_MIN >= errand->deadline || !nap(errand, pause) || breaker_forbids_retry(errand)) {
        return false;
    }
    exchange->retried++;
    log_write(errand->call->log, MSG_CALL_AGAIN, "%s: %s; tried again after %" APR_TIME_T_FMT " ms", exchange->service,
              exchange->outcome, apr_time_as_msec(pause));
    return true;
}
