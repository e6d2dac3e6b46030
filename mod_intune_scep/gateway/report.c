/* SPDX-License-Identifier: Apache-2.0 */
#include "report.h"

#include "base/clock.h"
#include "base/fault.h"
#include "base/text.h"
#include "failure.h"

#include <apr_strings.h>
#include <apr_general.h>

/* Pauses of one report: 5 s, 10 s, … 15 minutes; of the probes while none is taken: 1 s, 2 s, … 10 s. */
static const apr_interval_time_t PAUSE_FIRST = apr_time_from_sec(5);
static const apr_interval_time_t PAUSE_MOST = apr_time_from_sec(900);
static const apr_interval_time_t PROBE_FIRST = apr_time_from_sec(1);
static const apr_interval_time_t PROBE_MOST = apr_time_from_sec(10);
/* Longer than the longest pause, so that the report that is taken at last finds the note. */
static const apr_interval_time_t TROUBLE_LIFE = apr_time_from_sec(1800);

static const char *trouble_key(const profile_t *profile, apr_pool_t *pool)
{
    return apr_pstrcat(pool, "reports not taken\n", profile->name, NULL);
}

/* What lies in the cache: how often in a row, and when the next probe may go. */
typedef struct trouble_t {
    apr_int64_t failures;
    apr_time_t until;
} trouble_t;

static bool trouble_read(const profile_t *profile, trouble_t *trouble, bytes_t *value, apr_pool_t *pool)
{
    cache_t *cache = profile->cache;
    if (!cache || cache->get(cache, trouble_key(profile, pool), value, pool) || value->len != sizeof(*trouble)) {
        return false;
    }
    memcpy(trouble, value->data, sizeof(*trouble));
    return true;
}

static apr_interval_time_t doubled(apr_interval_time_t first, apr_int64_t times, apr_interval_time_t most)
{
    apr_interval_time_t pause = times < 20 ? first << (times > 0 ? times : 0) : most;
    return pause < most ? pause : most;
}

static void trouble_note(const profile_t *profile, apr_pool_t *pool)
{
    trouble_t trouble = {0, 0};
    bytes_t value = {NULL, 0};
    cache_t *cache = profile->cache;
    if (!cache) {
        return;
    }
    trouble_read(profile, &trouble, &value, pool);
    /* Many devices fail at once: they are one failure. */
    if (clock_now() < trouble.until) {
        return;
    }
    trouble.until = clock_now() + doubled(PROBE_FIRST, trouble.failures, PROBE_MOST);
    trouble.failures++;
    value = (bytes_t){(const unsigned char *)&trouble, sizeof(trouble)};
    cache->put(cache, trouble_key(profile, pool), value, clock_now() + TROUBLE_LIFE);
}

/* Intune takes reports again. */
static void trouble_end(const report_t *report)
{
    trouble_t trouble;
    bytes_t value = {NULL, 0};
    const char *message = NULL;
    const profile_t *profile = report->profile;
    cache_t *cache = profile->cache;
    if (!profile->journal || !trouble_read(profile, &trouble, &value, report->pool)) {
        return;
    }
    cache->drop(cache, trouble_key(profile, report->pool), value);
    /* One failure with others taken before and after may be that report's own: brought forward it would be sent again
     * with each one that is taken. */
    if (trouble.failures > 1 && !journal_bring_forward(profile->journal, profile->name, report->pool, &message)) {
        log_write(report->log, MSG_REPORTS_TAKEN,
                  "%s: Intune takes reports again; those that were put off are sent now", profile->name);
    }
}

bool report_may_go(const profile_t *profile, apr_pool_t *pool)
{
    trouble_t trouble;
    bytes_t value = {NULL, 0};
    const char *owner = NULL;
    cache_t *cache = profile->cache;
    if (!trouble_read(profile, &trouble, &value, pool)) {
        return true;
    }
    /* One probe at a time, in all processes: the lease is left to run out. */
    return clock_now() >= trouble.until &&
           !cache->claim(cache, trouble_key(profile, pool), clock_now() + PROBE_FIRST, &owner, pool);
}

/* Two fifths of it at random, so that reports that failed together do not come again together. */
static apr_interval_time_t pause_of(const report_t *report)
{
    const journal_row_t *row = *report->row;
    unsigned char random = 128;
    apr_interval_time_t pause = doubled(PAUSE_FIRST, row->tries - 1, PAUSE_MOST);
    apr_generate_random_bytes(&random, 1);
    pause = pause * 4 / 5 + pause * 2 / 5 * random / 255;
    return report->result->retry_after > pause ? report->result->retry_after : pause;
}

static journal_verdict_t verdict_of(const report_t *report, apr_status_t rv)
{
    if (!rv) {
        return JOURNAL_ACCEPTED;
    }
    if (report->result->problem == PROBLEM_REPORT_REFUSED) {
        return JOURNAL_REFUSAL;
    }
    /* A row may be old before its first try, which is where its limit begins: a pending one, or the server was down. */
    const journal_row_t *row = report->row ? *report->row : NULL;
    return row && row->tries > 1 && row->idle > report->profile->report_limit ? JOURNAL_GIVEN_UP : JOURNAL_RETRY;
}

static const char *refusal_words(const report_t *report)
{
    return apr_psprintf(report->pool, "%s%s%s%s", report->result->code ? "code " : "",
                        report->result->code ? report->result->code : "refused", report->result->detail ? ": " : "",
                        report->result->detail ? report->result->detail : "");
}

const char *report_about(const report_t *report)
{
    const certificate_facts_t *facts = report->facts;
    return facts ? apr_psprintf(report->pool, "certificate %s of issuer %s", facts->serial,
                                text_escape(report->pool, facts->issuer, 300))
                 : NULL;
}

/* What becomes of a row whose success report was sent. */
static void settle_success(const report_t *report, journal_settlement_t *settlement)
{
    settlement->state = JOURNAL_ISSUED;
    if (report->verdict == JOURNAL_REFUSAL && report->profile->notify == NOTIFY_BEFORE) {
        settlement->state = JOURNAL_WITHHELD;
        settlement->event = "withheld";
        /* An earlier one may have been taken, and its answer lost. */
        settlement->event_detail = apr_psprintf(
            report->pool, "Intune refused the success notification for %s%s, %s", report_about(report),
            (*report->row)->tries > 1 ? " (an earlier one was possibly accepted)" : "", refusal_words(report));
    } else if (report->verdict == JOURNAL_GIVEN_UP) {
        settlement->event = "report-dead";
        settlement->event_detail = apr_pstrcat(report->pool, report_about(report), ": ", refusal_words(report), NULL);
    }
}

/* With its report a failure is over, but where only the operator may ask the CA again. */
journal_state_t report_failed_state(const profile_t *profile, const journal_row_t *row)
{
    bool uncertain = row->state == JOURNAL_INTENT || row->state == JOURNAL_UNKNOWN;
    return uncertain && profile->resync == RESYNC_NONE ? JOURNAL_UNKNOWN : JOURNAL_FAILED;
}

/* What becomes of one whose failure report was sent. */
static void settle_failure(const report_t *report, journal_settlement_t *settlement)
{
    const journal_row_t *row = *report->row;
    settlement->state = report_failed_state(report->profile, row);
    if (report->verdict == JOURNAL_RETRY) {
        settlement->state = row->state;
        return;
    }
    settlement->fail = failure_print(report->failure, report->pool);
    if (row->state == JOURNAL_PENDING) {
        settlement->event = "pending-expired";
        settlement->event_detail = failure_words(report->failure);
    } else if (report->verdict == JOURNAL_GIVEN_UP) {
        settlement->event = "report-dead";
        settlement->event_detail = refusal_words(report);
    }
}

static void settle(report_t *report)
{
    const char *message = NULL;
    journal_settlement_t settlement = {.verdict = report->verdict};
    if (report->facts) {
        settle_success(report, &settlement);
    } else {
        settle_failure(report, &settlement);
    }
    if (report->verdict == JOURNAL_RETRY) {
        settlement.due_in = pause_of(report);
    }
    apr_status_t rv = journal_settle(report->profile->journal, report->row, &settlement, report->pool, &message);
    report->is_settled = rv == APR_SUCCESS;
    if (rv && !APR_STATUS_IS_EBUSY(rv)) {
        log_write(report->log, MSG_REPORT_NOT_JOURNALED,
                  "how the report ended could not be written to the journal: %s; it is sent again", message);
    }
}

apr_status_t report_send(report_t *report)
{
    const profile_t *profile = report->profile;
    intune_call_t call = {.pool = report->pool, .log = report->log, .result = report->result};
    apr_status_t rv = APR_EGENERAL;
    call.report_id = report->row && *(*report->row)->request_id ? (*report->row)->request_id : NULL;
    fault_point("report-before");
    if (report->facts) {
        const certificate_facts_t *facts = report->facts;
        intune_certificate_t certificate = {facts->thumbprint, facts->serial, facts->not_after, facts->issuer};
        rv = intune_report_success(profile->intune, &call, report->transaction_id, report->csr, &certificate);
    } else {
        rv = intune_report_failure(profile->intune, &call, report->transaction_id, report->csr,
                                   problem_facts(report->failure->problem)->hresult,
                                   text_unescape(report->pool, failure_words(report->failure)));
    }
    fault_point("report-after");
    report->request_id = call.request_id;
    report->duration = call.duration;
    report->verdict = verdict_of(report, rv);
    if (report->verdict == JOURNAL_RETRY || report->verdict == JOURNAL_GIVEN_UP) {
        trouble_note(profile, report->pool);
    } else {
        trouble_end(report);
    }
    if (report->row) {
        settle(report);
    }
    return rv;
}
