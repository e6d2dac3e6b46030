/* SPDX-License-Identifier: Apache-2.0 */
#include "outbox.h"

#include "base/clock.h"
#include "base/text.h"
#include "failure.h"
#include "report.h"
#include "store/journal_operator.h"

#include <apr_strings.h>

enum { ROWS_AT_ONCE = 8, PRUNE_STEPS = 20 };
static const apr_interval_time_t TURN = apr_time_from_sec(5);
static const apr_interval_time_t PRUNE_EVERY = apr_time_from_sec(60);
static const apr_interval_time_t LOOK_EVERY = apr_time_from_sec(3600);
static const apr_interval_time_t COMPLAINT_EVERY = apr_time_from_sec(60);

/* One line a minute, from whichever process. */
static void complain(const profile_t *profile, const outbox_t *outbox, const char *message, apr_pool_t *pool)
{
    const char *owner = NULL;
    if (!profile->cache || !profile->cache->claim(profile->cache, "complaint about the journal",
                                                  clock_now() + COMPLAINT_EVERY, &owner, pool)) {
        log_write(outbox->log, MSG_JOURNAL_FAILS, "%s: the journal cannot be used: %s", profile->name, message);
    }
}

/* Why there is no certificate: what the row says, else what its state tells. */
static const result_t *failure_of(const journal_row_t *row, apr_pool_t *pool)
{
    result_t *failure = result_make(pool);
    if (row->state == JOURNAL_PENDING) {
        result_set(failure, PROBLEM_PENDING_EXPIRED, NULL);
    } else if (row->fail) {
        failure_read(failure, row->fail, false);
    } else {
        result_set(failure, PROBLEM_ABANDONED, NULL);
    }
    if (!problem_facts(failure->problem)->hresult) {
        failure = result_make(pool);
        result_set(failure, PROBLEM_ABANDONED, NULL);
    }
    return failure;
}

static void log_end(const report_t *report, const log_t *log, apr_status_t rv)
{
    const journal_row_t *row = *report->row;
    const result_t *result = report->result;
    const char *what = report->facts ? "success" : "failure";
    const char *code = result->code ? apr_pstrcat(report->pool, ", code ", result->code, NULL) : "";
    const char *detail = apr_pstrcat(report->pool, result->detail ? ": " : "", result->detail ? result->detail : "",
                                     intune_code_told(result->code, report->pool), NULL);
    const char *about = report_about(report);
    about = about ? apr_pstrcat(report->pool, " for ", about, NULL) : "";
    const char *request_id = report->request_id ? report->request_id : "-";
    if (!rv) {
        log_write(log, MSG_OUTBOX_DONE, "%s: the %s notification%s that was owed is taken by Intune; request-id %s",
                  report->profile->name, what, about, request_id);
    } else {
        bool ended = report->verdict != JOURNAL_RETRY;
        bool withheld = ended && row->state == JOURNAL_WITHHELD;
        log_write(log, ended ? MSG_OUTBOX_ENDED : MSG_OUTBOX_PUT_OFF,
                  "%s: the %s notification%s was %s (try %d)%s%s%s; request-id %s", report->profile->name, what, about,
                  report->verdict == JOURNAL_REFUSAL ? "refused by Intune for good"
                  : ended                            ? "not taken for so long that it is given up"
                                                     : "not taken, and is sent again",
                  row->tries, withheld ? "; the certificate is withheld but live at the CA" : "", code, detail, request_id);
    }
}

/* Nothing can be reported without the request: the key is another one, or the database was tampered with. */
static void give_up(const report_t *report)
{
    const char *message = NULL;
    const journal_row_t *row = *report->row;
    journal_settlement_t settlement = {.verdict = JOURNAL_GIVEN_UP,
                                       .state = row->certificate.len ? row->state
                                                                     : report_failed_state(report->profile, row),
                                       .event = "report-dead",
                                       .event_detail = "its certificate request in the journal cannot be read"};
    journal_settle(report->profile->journal, report->row, &settlement, report->pool, &message);
    log_write(report->log, MSG_OUTBOX_ENDED,
              "%s: the report of row %.12s is given up: its certificate request cannot be read", report->profile->name,
              row->id);
}

/* A row that is ours: its report goes out. */
static void deliver_report(const profile_t *profile, const outbox_t *outbox, journal_row_t *row, apr_pool_t *pool)
{
    certificate_facts_t facts;
    log_t log = *outbox->log;
    log.transaction = text_escape(pool, row->transaction_id, SCEP_TRANSACTION_ID_MAX);
    report_t report = {.profile = profile,
                       .pool = pool,
                       .log = &log,
                       .row = &row,
                       .transaction_id = row->transaction_id,
                       .csr = row->csr,
                       .result = result_make(pool)};
    if (row->report == JOURNAL_OWED_FAILURE) {
        report.failure = failure_of(row, pool);
    } else if (!certificate_facts_of_der(&facts, profile->identity->engine, row->certificate, pool)) {
        report.facts = &facts;
    }
    if (!row->csr.len || (!report.facts && !report.failure)) {
        /* For want of memory nothing can be read: then it is tried again when the claim has run out. */
        if (!scep_engine_memory_is_short()) {
            give_up(&report);
        }
        return;
    }
    log_end(&report, &log, report_send(&report));
}

/* One report at most. False: nothing more is to be done now. */
static bool deliver_next(const profile_t *profile, const outbox_t *outbox, const apr_array_header_t *rows, int *at,
                         apr_pool_t *pool)
{
    const char *message = NULL;
    journal_row_t *row = APR_ARRAY_IDX(rows, (*at)++, journal_row_t *);
    journal_intent_t lease = {.lease = profile->report_time + apr_time_from_sec(2)};
    if (row->leased && !row->owner_gone) {
        return true;
    }
    if (!report_may_go(profile, pool)) {
        return false;
    }
    apr_interval_time_t wait = outbox->pace(outbox->baton);
    if (wait < 0) {
        return false;
    }
    apr_sleep(wait);
    apr_status_t rv = journal_claim(profile->journal, &row, JOURNAL_TO_REPORT, &lease, pool, &message);
    if (rv) {
        if (!APR_STATUS_IS_EBUSY(rv)) {
            complain(profile, outbox, message, pool);
        }
        return APR_STATUS_IS_EBUSY(rv);
    }
    deliver_report(profile, outbox, row, pool);
    return true;
}

/* What can be read may still not be written: a failure is over only once it can. Nobody else might try, for a load balancer
 * that asks ?health sends no device. */
static apr_status_t find_due(const profile_t *profile, apr_array_header_t **rows, apr_pool_t *pool, const char **message)
{
    apr_status_t rv = journal_due(profile->journal, profile->name, ROWS_AT_ONCE, rows, pool, message);
    if (!rv && counters_service_fails(profile->counters, SERVICE_JOURNAL)) {
        rv = journal_try(profile->journal, pool, message);
    }
    counters_service(profile->counters, SERVICE_JOURNAL, !rv, *message);
    return rv;
}

void outbox_run(const profile_t *profile, const outbox_t *outbox, apr_pool_t *pool)
{
    apr_time_t until = clock_now() + TURN;
    bool more = profile->journal != NULL;
    while (more && clock_now() < until && !outbox->stopping(outbox->baton)) {
        apr_pool_t *scratch = NULL;
        apr_array_header_t *rows = NULL;
        const char *message = NULL;
        int at = 0;
        if (apr_pool_create(&scratch, pool)) {
            return;
        }
        if (find_due(profile, &rows, scratch, &message)) {
            complain(profile, outbox, message, scratch);
            more = false;
        }
        int full = more && rows->nelts == ROWS_AT_ONCE;
        while (more && at < rows->nelts && clock_now() < until && !outbox->stopping(outbox->baton)) {
            more = deliver_next(profile, outbox, rows, &at, scratch);
        }
        more = more && full;
        apr_pool_destroy(scratch);
    }
}

static void look_for_former_ra(const profile_t *profile, const outbox_t *outbox, apr_pool_t *pool)
{
    const char *message = NULL;
    int rows = 0;
    if (!profile->former &&
        !journal_foreign_pending(profile->journal, profile->name, profile->ra_fp, &rows, pool, &message) && rows) {
        log_write(outbox->log, MSG_FORMER_RA,
                  "%s: %d requests wait at the CA that another RA certificate has asked: their polls are signed by the "
                  "present one, which the CA may refuse; name the former one in IntuneScepRAFormerCertificate",
                  profile->name, rows);
    }
}

static bool is_served(const char *location, const profile_t *const *profiles, int count)
{
    for (int i = 0; i < count; i++) {
        if (!strcmp(profiles[i]->name, location)) {
            return true;
        }
    }
    return false;
}

/* What another machine serves alone is not owed for that long, unless it is in trouble itself. */
static void look_for_strays(const profile_t *const *profiles, int count, const outbox_t *outbox, apr_pool_t *pool)
{
    apr_array_header_t *owed = NULL;
    const char *message = NULL;
    if (journal_owed(profiles[0]->journal, &owed, pool, &message)) {
        return;
    }
    for (int i = 0; i < owed->nelts; i++) {
        const journal_owed_t *one = &APR_ARRAY_IDX(owed, i, const journal_owed_t);
        if (one->oldest > LOOK_EVERY && !is_served(one->location, profiles, count)) {
            log_write(outbox->log, MSG_STRAY_REPORTS,
                      "%d reports are owed for the location \"%s\", the oldest for over an hour, and nobody sends them, "
                      "for no location of this server has that name: see IntuneScepName",
                      one->rows, text_escape(pool, one->location, 128));
        }
    }
}

void outbox_look(const profile_t *const *profiles, int count, const outbox_t *outbox, apr_pool_t *pool)
{
    const char *owner = NULL;
    cache_t *cache = profiles[0]->cache;
    /* One lease for all: a record for each of many locations would push tokens out of the cache. */
    if (!profiles[0]->journal || !cache ||
        cache->claim(cache, "a look at the journal", clock_now() + LOOK_EVERY, &owner, pool)) {
        return;
    }
    for (int i = 0; i < count && !outbox->stopping(outbox->baton); i++) {
        look_for_former_ra(profiles[i], outbox, pool);
    }
    look_for_strays(profiles, count, outbox, pool);
}

void outbox_prune(const profile_t *profile, const outbox_t *outbox, apr_interval_time_t retention, apr_pool_t *pool)
{
    const char *owner = NULL;
    const char *message = NULL;
    int removed = 1;
    int total = 0;
    /* The lease is left to run out: once in a minute, in all processes. */
    if (!profile->journal || !profile->cache ||
        profile->cache->claim(profile->cache, "pruning of the journal", clock_now() + PRUNE_EVERY, &owner, pool)) {
        return;
    }
    for (int i = 0; i < PRUNE_STEPS && removed && !outbox->stopping(outbox->baton); i++) {
        if (journal_prune(profile->journal, retention, &removed, pool, &message)) {
            complain(profile, outbox, message, pool);
            return;
        }
        total += removed;
    }
    if (total) {
        log_write(outbox->log, MSG_JOURNAL_PRUNED, "%d old rows of the journal were removed", total);
    }
}
