/* SPDX-License-Identifier: Apache-2.0 */
/* The way back: the CA's answer, or the lack of one, is judged, journaled and reported to Intune, and only then
 * delivered. */
#include "account.h"
#include "deliver.h"
#include "events.h"
#include "failure.h"
#include "inquiry.h"
#include "issued.h"
#include "recall.h"
#include "report.h"

#include "base/fault.h"
#include "base/text.h"

#include <apr_strings.h>

static void judge_certrep(transaction_t *t, bytes_t body)
{
    if (scep_answer_open(&t->answer, t->ra, &t->profile->policy, t->relay, body, t->pool, t->result)) {
        return;
    }
    switch (t->answer->status) {
    case SCEP_SUCCESS:
        return;
    case SCEP_PENDING:
        result_set(t->result, PROBLEM_CA_PENDING, "pkiStatus PENDING instead of SUCCESS or FAILURE");
        return;
    case SCEP_FAILURE:
        t->result->ca_fail_info = t->answer->fail_info;
        result_set(t->result, PROBLEM_CA_REFUSED, "failInfo %s%s%s", SCEP_FAIL_INFO_NAMES[t->answer->fail_info],
                   t->answer->fail_info_text ? ", " : "",
                   t->answer->fail_info_text ? text_escape(t->pool, t->answer->fail_info_text, 200) : "");
        return;
    }
}

/* Its own trouble, or that of something before it: 408 is a time-out, 429 comes of too many requests. */
static bool may_pass(int http_status)
{
    return http_status >= 500 || http_status == 408 || http_status == 429;
}

static void judge(transaction_t *t, int http_status, bytes_t body, bool complete)
{
    if (may_pass(http_status)) {
        result_set(t->result, PROBLEM_CA_ERROR, "HTTP %d", http_status);
    } else if (!complete) {
        result_set(t->result, PROBLEM_CA_TRUNCATED, "after %" APR_SIZE_T_FMT " bytes", body.len);
    } else if (http_status != 200) {
        result_set(t->result, PROBLEM_CA_GARBAGE, "HTTP %d instead of 200", http_status);
    } else if (scep_is_cut_short(body)) {
        result_set(t->result, PROBLEM_CA_TRUNCATED, "after %" APR_SIZE_T_FMT " bytes, by what they say", body.len);
    } else {
        judge_certrep(t, body);
    }
}

/* What an outcome means for the row, and when Intune hears of it. */
typedef struct fate_t {
    journal_state_t state;
    bool report_now;
    apr_interval_time_t due_in;
} fate_t;

static bool is_pending(const transaction_t *t)
{
    return t->polling && t->row && t->row->state == JOURNAL_PENDING;
}

/* A CertPoll for an answer that was lost finds nothing, or the CA serves none: that is not its word on the request. */
static bool polled_in_vain(const transaction_t *t)
{
    if (!t->polling || is_pending(t)) {
        return false;
    }
    switch (t->result->problem) {
    case PROBLEM_CA_REFUSED:
    case PROBLEM_CA_ERROR:
    case PROBLEM_CA_GARBAGE:
    case PROBLEM_CA_FOREIGN_SIGNER:
    case PROBLEM_CA_WRONG_TRANSACTION:
        return true;
    default:
        return false;
    }
}

static fate_t fate_of(const transaction_t *t)
{
    const profile_t *profile = t->profile;
    /* A pending one is not over because a poll failed. */
    bool pending = is_pending(t);
    switch (t->result->problem) {
    case PROBLEM_NONE:
        return (fate_t){JOURNAL_ISSUED, true, 0};
    case PROBLEM_CA_PENDING:
        return (fate_t){JOURNAL_PENDING, false, profile->pending_limit};
    case PROBLEM_CA_UNREACHABLE:
        return (fate_t){pending      ? JOURNAL_PENDING
                        : t->polling ? JOURNAL_UNKNOWN
                                     : JOURNAL_FAILED,
                        false, profile->grace};
    case PROBLEM_CA_TIMEOUT:
    case PROBLEM_CA_ERROR:
    case PROBLEM_CA_TRUNCATED:
        return (fate_t){pending ? JOURNAL_PENDING : JOURNAL_UNKNOWN, false, profile->grace};
    case PROBLEM_INTERNAL:
        return (fate_t){pending                  ? JOURNAL_PENDING
                        : t->polling || t->relay ? JOURNAL_UNKNOWN
                                                 : JOURNAL_FAILED,
                        false, profile->grace};
    case PROBLEM_CA_GARBAGE:
    case PROBLEM_CA_FOREIGN_SIGNER:
    case PROBLEM_CA_WRONG_TRANSACTION:
        return pending ? (fate_t){JOURNAL_PENDING, false, 0} : (fate_t){JOURNAL_FAILED, true, 0};
    default:
        return (fate_t){JOURNAL_FAILED, true, 0};
    }
}

static const char *certificate_words(const transaction_t *t)
{
    const certificate_facts_t *facts = &t->answer->facts;
    return apr_psprintf(t->pool, EVENTS_ORPHAN "%s of issuer %s", facts->serial,
                        text_escape(t->pool, facts->issuer, 300));
}

static void fail_with(transaction_t *t, problem_t problem, const char *detail)
{
    t->result = result_make(t->pool);
    result_set(t->result, problem, "%s", detail);
}

/* A CA may give the same certificate to everybody who asks for a transaction: then somebody has written it down. */
static bool is_recorded(const transaction_t *t)
{
    const char *ignored = NULL;
    journal_row_t *row = NULL;
    return t->answer && t->answer->certificate &&
           !journal_find(t->profile->journal, t->row->id, &row, t->pool, &ignored) && row->certificate_fp &&
           !strcmp(row->certificate_fp, t->answer->facts.thumbprint);
}

/* A certificate that nobody gets is live at the CA: the operator is told, whatever becomes of the row. */
static void orphan(transaction_t *t, const char *message)
{
    const char *ignored = NULL;
    if (t->answer && t->answer->certificate) {
        journal_raise(t->profile->journal, t->row->id, "orphan", certificate_words(t), t->pool, &ignored);
        log_write(t->log, MSG_ORPHAN, "%s: %s was issued, and nobody gets it: %s", t->profile->name,
                  certificate_words(t), message);
    }
}

/* Writes down what the CA said, before anybody hears of it. False: nothing may be told but "come back". */
static bool record(transaction_t *t, fate_t fate)
{
    const char *message = "no reason was given";
    bool issued = fate.state == JOURNAL_ISSUED;
    journal_outcome_t outcome = {.state = fate.state,
                                 .report_now = fate.report_now,
                                 .lease = t->profile->report_time + apr_time_from_sec(2),
                                 .due_in = fate.due_in,
                                 .node = t->node};
    if (issued) {
        outcome.certificate = t->answer->certificate_der;
        outcome.certificate_fp = t->answer->facts.thumbprint;
        outcome.serial = t->answer->facts.serial;
    } else if (fate.state != JOURNAL_PENDING) {
        outcome.fail = failure_print(t->result, t->pool);
    }
    if (t->answer && t->answer->facts.serial && !issued) {
        outcome.event = "orphan";
        outcome.event_detail = certificate_words(t);
    }
    apr_status_t rv = journal_outcome(t->profile->journal, &t->row, &outcome, t->pool, &message);
    if (APR_STATUS_IS_EBUSY(rv) && issued) {
        rv = journal_adopt(t->profile->journal, &t->row, &outcome, t->csr->der, t->pool, &message);
    }
    if (!rv) {
        return true;
    }
    bool taken = APR_STATUS_IS_EBUSY(rv);
    if (taken && is_recorded(t)) {
        recall_come_back(t, "another process has taken the transaction over, and has this certificate");
        return false;
    }
    orphan(t, taken ? "another process has taken the transaction over" : message);
    /* The line names the certificate by itself. */
    fail_with(t, taken ? PROBLEM_TAKEN_OVER : PROBLEM_NOT_JOURNALED,
              !taken                                ? message
              : t->answer && t->answer->certificate ? "another process has it now"
                                                    : "there is no certificate");
    return false;
}

static void report_make(transaction_t *t, report_t *report, result_t *result)
{
    *report = (report_t){.profile = t->profile,
                         .pool = t->pool,
                         .log = t->log,
                         .row = t->row ? &t->row : NULL,
                         .transaction_id = t->request->transaction_id,
                         .csr = t->csr->der,
                         .result = result};
}

static const char *report_words(const report_t *report)
{
    const result_t *result = report->result;
    return apr_pstrcat(report->pool, result->code ? ", code " : "", result->code ? result->code : "",
                       result->detail ? ": " : "", result->detail ? result->detail : "",
                       intune_code_told(result->code, report->pool), "; request-id ",
                       report->request_id ? report->request_id : "-", NULL);
}

/* Tells Intune that a validated request ended without a certificate. What goes wrong here does not change the reply. */
static void report_failure(transaction_t *t)
{
    report_t report;
    if (!problem_facts(t->result->problem)->hresult || (!t->validated && !t->row)) {
        return;
    }
    report_make(t, &report, result_make(t->pool));
    report.failure = t->result;
    t->reported = report_send(&report) == APR_SUCCESS;
    t->report_time = report.duration;
    if (!t->reported) {
        bool again = t->row && report.verdict == JOURNAL_RETRY;
        log_write(t->log, again ? MSG_FAILURE_REPORTED_LATER : MSG_FAILURE_NOT_REPORTED,
                  "Intune did not take the failure notification%s%s", report_words(&report),
                  again ? "; it is sent again" : "");
    }
    if (!t->result->request_id) {
        t->result->request_id = report.request_id;
    }
}

/* Under `before`: what the device hears where Intune did not take the report of its certificate. */
static void keep_back(transaction_t *t, const report_t *report)
{
    t->result = report->result;
    result_set(t->result, PROBLEM_REPORT_UNAVAILABLE, "no reason was given");
    if (!t->row) {
        return;
    }
    if (t->result->problem == PROBLEM_REPORT_REFUSED && !report->is_settled) {
        /* Not for good while the row says otherwise: somebody reports it once more. */
        fail_with(t, PROBLEM_REPORT_UNAVAILABLE,
                  apr_pstrcat(t->pool, "refused, which could not be journaled", report_words(report), NULL));
    } else if (report->verdict == JOURNAL_GIVEN_UP && report->is_settled) {
        log_write(t->log, MSG_OUTBOX_ENDED,
                  "%s: the success notification for %s was not taken for so long that it is given up (try %d)%s",
                  t->profile->name, report_about(report), t->row->tries, report_words(report));
        fail_with(t, PROBLEM_GIVEN_UP, "Intune did not take the report in time");
    }
}

/* Under `before` a certificate that Intune did not take waits, or is withheld; under `after` it is delivered all the
 * same. */
void issued_report(transaction_t *t)
{
    report_t report;
    report_make(t, &report, result_make(t->pool));
    report.facts = &t->facts;
    t->reported = report_send(&report) == APR_SUCCESS;
    t->report_time = report.duration;
    if (t->reported) {
        return;
    }
    if (t->profile->notify == NOTIFY_BEFORE) {
        keep_back(t, &report);
        return;
    }
    bool again = t->row && report.verdict == JOURNAL_RETRY;
    log_write(
        t->log, again ? MSG_SUCCESS_REPORTED_LATER : MSG_SUCCESS_NOT_REPORTED,
        "Intune did not take the success notification for certificate %s of issuer %s, which is delivered because of "
        "IntuneScepNotify after%s%s",
        t->facts.serial, text_escape(t->pool, t->facts.issuer, 300), report_words(&report),
        again ? "; it is sent again" : "");
}

static void keep_certificate(transaction_t *t)
{
    t->facts = t->answer->facts;
    t->certificate = t->answer->certificate_der;
}

/* Without a journal nothing can be done later: Intune hears of everything at once. */
static void settle_unjournaled(transaction_t *t)
{
    if (t->result->problem == PROBLEM_NONE) {
        keep_certificate(t);
        issued_report(t);
    } else {
        report_failure(t);
    }
}

static void settle_journaled(transaction_t *t)
{
    if (polled_in_vain(t)) {
        fail_with(t, PROBLEM_CA_ERROR,
                  apr_psprintf(t->pool, FAILURE_POLLED " (%s); the request is sent again",
                               t->result->detail ? t->result->detail : problem_facts(t->result->problem)->what));
    }
    fate_t fate = fate_of(t);
    if (!record(t, fate)) {
        return;
    }
    if (fate.state == JOURNAL_PENDING) {
        bool decided_not = t->result->problem == PROBLEM_CA_PENDING;
        log_write(t->log, decided_not ? MSG_PENDING : MSG_POLL_FAILED, "%s: %s%s%s; the transaction stays pending",
                  t->profile->name,
                  decided_not ? "the CA has not decided yet" : problem_facts(t->result->problem)->what,
                  t->result->detail ? ": " : "", t->result->detail ? t->result->detail : "");
        t->pending = true;
        t->result = result_make(t->pool);
    } else if (fate.state == JOURNAL_ISSUED) {
        keep_certificate(t);
        issued_report(t);
    } else if (fate.report_now) {
        report_failure(t);
    }
}

static void settle(transaction_t *t)
{
    account_ca(t);
    if (!transaction_is_inquiry(t)) {
        (t->row ? settle_journaled : settle_unjournaled)(t);
    }
    deliver(t);
}

void transaction_issued(transaction_t *t, int http_status, bytes_t body, bool complete)
{
    t->settled = true;
    fault_point("ca-after");
    judge(t, http_status, body, complete);
    settle(t);
}

void transaction_failed(transaction_t *t, problem_t problem, const char *detail)
{
    t->settled = true;
    result_set(t->result, problem, "%s", detail);
    settle(t);
}
