/* SPDX-License-Identifier: Apache-2.0 */
#include "recall.h"

#include "base/text.h"
#include "failure.h"
#include "report.h"

#include <apr_strings.h>

/* For so long a refusal is repeated; devices retry within seconds. */
static const apr_interval_time_t REFUSAL_LIFE = apr_time_from_sec(60);
/* The outbox looks every second. A report that is due for so long is one that it does not come to. */
static const apr_interval_time_t OVERDUE = apr_time_from_sec(3);
enum { RETRY_SOON = 5 };

apr_status_t recall_come_back(transaction_t *t, const char *detail)
{
    t->result->retry_after = apr_time_from_sec(RETRY_SOON);
    return result_set(t->result, PROBLEM_COME_BACK, "%s", detail);
}

static bool is_owed(const journal_row_t *row)
{
    return row->report == JOURNAL_OWED_SUCCESS || row->report == JOURNAL_OWED_FAILURE;
}

static recall_t answered(apr_status_t rv)
{
    (void)rv;
    return RECALL_ANSWERED;
}

static recall_t refuse(transaction_t *t, problem_t problem, const char *detail)
{
    return answered(result_set(t->result, problem, "%s", detail));
}

/* The CSR of the row is the one that Intune and the CA know; without it the device's own does, which has the same
 * content. */
static bool take_csr(transaction_t *t, const journal_row_t *row)
{
    const char *why = NULL;
    csr_t *kept = apr_pcalloc(t->pool, sizeof(*kept));
    const csr_t *csr = NULL;
    if (row->csr.len && !csr_open(kept, t->profile->identity->engine, row->csr, t->pool, &why)) {
        csr = kept;
    } else if (scep_type_has_csr(t->request->type)) {
        csr = &t->request->csr;
    } else {
        return false;
    }
    t->validated = t->validated && bytes_equal(t->csr->der, csr->der);
    t->csr = csr;
    return true;
}

static recall_t ask_again(transaction_t *t, const journal_row_t *row, bool poll)
{
    if (!take_csr(t, row)) {
        return refuse(t, PROBLEM_GIVEN_UP, "its certificate request is not kept any more");
    }
    t->polling = poll;
    t->node = poll ? row->node : NULL;
    bool former = poll && t->profile->former && !strcmp(row->ra_fp, t->profile->former_fp);
    t->ra = former ? t->profile->former : t->profile->identity;
    return poll ? RECALL_POLL : RECALL_ISSUE;
}

/* The CA may have issued, and its answer was lost. */
static recall_t uncertain(transaction_t *t, const journal_row_t *row)
{
    switch (t->profile->resync) {
    case RESYNC_RESEND:
        return ask_again(t, row, false);
    case RESYNC_POLL:
        return ask_again(t, row, !row->fail || !strstr(row->fail, FAILURE_POLLED));
    case RESYNC_NONE:
        break;
    }
    return is_owed(row) ? answered(recall_come_back(t, "the CA's answer was lost, and IntuneScepResync is none"))
                        : refuse(t, PROBLEM_GIVEN_UP, "the CA's answer was lost, and IntuneScepResync is none");
}

static recall_t deliver_stored(transaction_t *t, const journal_row_t *row)
{
    const scep_engine_t *engine = t->profile->identity->engine;
    if (!row->certificate.len || certificate_facts_of_der(&t->facts, engine, row->certificate, t->pool)) {
        return refuse(t, PROBLEM_INTERNAL, "the certificate in the journal cannot be read");
    }
    t->certificate = row->certificate;
    t->reported = row->report == JOURNAL_DONE;
    return RECALL_ANSWERED;
}

/*
 * The outbox may be held up by another tenant's report, processes that devices use up within a second
 * (MaxConnectionsPerChild) have no time for it, and without mod_watchdog there is none: then who waits for the report sends it.
 */
static bool is_overdue(const transaction_t *t, const journal_row_t *row)
{
    return row->report == JOURNAL_OWED_SUCCESS && row->csr.len && row->due_in < -OVERDUE && report_may_go(t->profile, t->pool);
}

static recall_t issued(transaction_t *t, const journal_row_t *row)
{
    if (t->profile->notify == NOTIFY_AFTER || row->report == JOURNAL_DONE || row->report == JOURNAL_WAIVED) {
        return deliver_stored(t, row);
    }
    if (!is_owed(row)) {
        return refuse(t, PROBLEM_GIVEN_UP, "Intune did not take the report in time");
    }
    if (row->leased && !row->owner_gone) {
        return RECALL_WAIT;
    }
    if (is_overdue(t, row) && take_csr(t, row)) {
        deliver_stored(t, row);
        return t->certificate.len ? RECALL_REPORT : RECALL_ANSWERED;
    }
    return answered(recall_come_back(t, "the certificate is issued, but Intune has not taken the report yet"));
}

static recall_t failed(transaction_t *t, const journal_row_t *row)
{
    result_t *told = result_make(t->pool);
    failure_read(told, row->fail, true);
    bool may_pass = problem_facts(told->problem)->http_status == 503;
    /* A device that polls has no new request: what is over stays so, and it does not hear "come back" for ever. */
    bool can_go_on = scep_type_has_csr(t->request->type) || row->csr.len;
    /* One that has yet to come is of a clock that was wrong. */
    bool is_fresh = row->idle >= 0 && row->idle < REFUSAL_LIFE;
    if (!may_pass && (is_fresh || !can_go_on)) {
        *t->result = *told;
        return RECALL_ANSWERED;
    }
    return row->leased && !row->owner_gone ? RECALL_WAIT : ask_again(t, row, false);
}

recall_t recall(transaction_t *t, const journal_row_t *row)
{
    bool busy = row->leased && !row->owner_gone;
    if (strcmp(row->key_fp, text_hex(t->pool, t->request->signer_key_sha256))) {
        return refuse(t, PROBLEM_BAD_SIGNER, "its key is not that of this transaction's first message");
    }
    switch (row->state) {
    case JOURNAL_INTENT:
    case JOURNAL_UNKNOWN:
        return busy ? RECALL_WAIT : uncertain(t, row);
    case JOURNAL_PENDING:
        return busy ? RECALL_WAIT : ask_again(t, row, true);
    case JOURNAL_ISSUED:
        return issued(t, row);
    case JOURNAL_FAILED:
        return failed(t, row);
    case JOURNAL_WITHHELD:
        return refuse(t, PROBLEM_REPORT_REFUSED, "answered from the journal");
    }
    return refuse(t, PROBLEM_INTERNAL, "the row has no state");
}
