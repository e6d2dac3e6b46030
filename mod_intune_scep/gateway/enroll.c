/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The way in: open, look into the journal, ask Intune, claim the transaction, prepare the request to the CA. A GetCert or
 * GetCRL (inquiry.h) takes it without journal and Intune.
 */
#include "deliver.h"
#include "inquiry.h"
#include "issued.h"
#include "recall.h"
#include "refusal.h"

#include "base/clock.h"
#include "base/fault.h"
#include "base/text.h"

#include <apr_strings.h>

/* How long a device waits for another copy of its message to be answered, and how often it looks. */
static const apr_interval_time_t COPY_WAIT = apr_time_from_sec(5);
static const apr_interval_time_t COPY_POLL = apr_time_from_msec(50);

transaction_t *transaction_make(const profile_t *profile, log_t *log, apr_pool_t *pool)
{
    transaction_t *t = apr_pcalloc(pool, sizeof(*t));
    t->pool = pool;
    t->profile = profile;
    t->ra = profile->identity;
    t->log = log;
    t->result = result_make(pool);
    t->began = clock_now();
    const char *reference = text_random_hex(pool, 4);
    t->reference = reference ? reference : "none";
    return t;
}

static apr_status_t open_message(transaction_t *t, bytes_t message)
{
    apr_status_t rv =
        scep_request_open(&t->request, t->profile->identity, &t->profile->policy, message, t->pool, t->result);
    if (t->request) {
        t->log->transaction = text_escape(t->pool, t->request->transaction_id, SCEP_TRANSACTION_ID_MAX);
        t->csr = &t->request->csr;
    }
    return rv;
}

static apr_status_t find_challenge(transaction_t *t)
{
    const csr_t *csr = t->csr;
    if (!csr->challenges) {
        return result_set(t->result, PROBLEM_NO_CHALLENGE, "subject \"%s\" carries no challengePassword",
                          text_escape(t->pool, csr->subject, 200));
    }
    if (!profile_challenge_matches(t->profile, csr->challenge, t->pool)) {
        return result_set(t->result, PROBLEM_NO_CHALLENGE,
                          "subject \"%s\" carries a challengePassword of %" APR_SIZE_T_FMT
                          " characters that does not look like Intune's",
                          text_escape(t->pool, csr->subject, 200), csr->challenge ? secret_length(csr->challenge) : 0);
    }
    return APR_SUCCESS;
}

static apr_status_t ask_intune(transaction_t *t)
{
    if (find_challenge(t)) {
        return APR_EGENERAL;
    }
    intune_call_t call = {.pool = t->pool, .log = t->log, .result = t->result};
    apr_status_t rv = refusal_recall(t);
    if (rv) {
        return rv;
    }
    rv = intune_validate(t->profile->intune, &call, t->request->transaction_id, t->csr->der);
    t->validate_time = call.duration;
    t->validated = rv == APR_SUCCESS && t->result->problem == PROBLEM_NONE;
    refusal_keep(t);
    fault_point("validated");
    return t->validated ? APR_SUCCESS : rv ? rv : APR_EGENERAL;
}

static apr_status_t unavailable(transaction_t *t, const char *message)
{
    return result_set(t->result, PROBLEM_JOURNAL_UNAVAILABLE, "%s", message);
}

static journal_intent_t intent_of(const transaction_t *t, const char *id)
{
    const profile_t *profile = t->profile;
    journal_intent_t intent = {.id = id,
                               .location = profile->name,
                               .transaction_id = t->request->transaction_id,
                               .key_fp = text_hex(t->pool, t->request->signer_key_sha256),
                               .ra_fp = t->ra == profile->identity ? profile->ra_fp : profile->former_fp,
                               .request_id = text_uuid(t->pool),
                               .csr = t->csr->der,
                               .lease = profile_lease(profile),
                               .grace = profile->grace};
    return intent;
}

/* A transaction that nobody knows: Intune first, then the row. APR_EEXIST: somebody else was quicker. */
static apr_status_t begin(transaction_t *t, const char *id)
{
    const char *message = "no reason was given";
    if (t->csr != &t->request->csr) {
        t->csr = &t->request->csr;
        t->validated = false;
    }
    /* A row may have been there at the last look, and been something to poll for. */
    t->polling = false;
    t->node = NULL;
    t->ra = t->profile->identity;
    if (!t->validated && ask_intune(t)) {
        return APR_EGENERAL;
    }
    journal_intent_t intent = intent_of(t, id);
    t->answer_by = clock_now() + t->profile->ca_time;
    apr_status_t rv = journal_begin(t->profile->journal, &intent, &t->row, t->pool, &message);
    return rv && !APR_STATUS_IS_EEXIST(rv) ? unavailable(t, message) : rv;
}

/* One that is known and has to go on. A re-send needs a fresh word of Intune's, a poll does not. APR_EBUSY: somebody else
 * was quicker. */
static apr_status_t drive(transaction_t *t, journal_row_t *row)
{
    const char *message = "no reason was given";
    journal_purpose_t purpose = row->state == JOURNAL_PENDING ? JOURNAL_TO_POLL : JOURNAL_TO_ISSUE;
    /* Also where it goes no further: what is in the journal can be polled for. */
    t->row = row;
    if (!t->polling && !t->validated && ask_intune(t)) {
        return APR_EGENERAL;
    }
    journal_intent_t intent = intent_of(t, row->id);
    t->answer_by = clock_now() + t->profile->ca_time;
    apr_status_t rv = journal_claim(t->profile->journal, &t->row, purpose, &intent, t->pool, &message);
    return rv && !APR_STATUS_IS_EBUSY(rv) ? unavailable(t, message) : rv;
}

/* One that is issued, and whose report nobody sends. The reply is decided, unless somebody else was quicker: APR_EBUSY. */
static apr_status_t report(transaction_t *t, journal_row_t *row)
{
    const char *message = "no reason was given";
    journal_intent_t lease = {.lease = t->profile->report_time + apr_time_from_sec(2)};
    t->row = row;
    apr_status_t rv = journal_claim(t->profile->journal, &t->row, JOURNAL_TO_REPORT, &lease, t->pool, &message);
    if (!rv) {
        issued_report(t);
        return APR_EGENERAL;
    }
    t->certificate = (bytes_t){NULL, 0};
    return APR_STATUS_IS_EBUSY(rv) ? rv : unavailable(t, message);
}

static apr_status_t look_up(transaction_t *t, const char *id, journal_row_t **row)
{
    const char *message = "no reason was given";
    const profile_t *profile = t->profile;
    apr_status_t rv = id ? journal_find(profile->journal, id, row, t->pool, &message)
                         : journal_find_poll(profile->journal, profile->name, t->request->transaction_id,
                                             text_hex(t->pool, t->request->signer_key_sha256), row, t->pool, &message);
    return rv && !APR_STATUS_IS_NOTFOUND(rv) ? unavailable(t, message) : rv;
}

/*
 * One look at the journal and one step. APR_SUCCESS: the row is ours, go to the CA. APR_EAGAIN: look again. Anything
 * else: the reply is decided.
 */
static apr_status_t step(transaction_t *t, const char *id, bool patient)
{
    journal_row_t *row = NULL;
    apr_status_t rv = look_up(t, id, &row);
    if (APR_STATUS_IS_NOTFOUND(rv)) {
        if (!id) {
            return result_set(t->result, PROBLEM_UNKNOWN_TRANSACTION, NULL);
        }
        rv = begin(t, id);
    } else if (!rv) {
        switch (recall(t, row)) {
        case RECALL_ANSWERED:
            t->row = row;
            return APR_EGENERAL;
        case RECALL_WAIT:
            rv = APR_EBUSY;
            break;
        case RECALL_ISSUE:
        case RECALL_POLL:
            rv = drive(t, row);
            break;
        case RECALL_REPORT:
            rv = report(t, row);
            break;
        }
    }
    if (!APR_STATUS_IS_EBUSY(rv) && !APR_STATUS_IS_EEXIST(rv)) {
        return rv;
    }
    t->row = patient ? NULL : row;
    return patient ? APR_EAGAIN
                   : recall_come_back(t, "another message of it, or of the same transactionID, is being worked on");
}

static apr_status_t decide(transaction_t *t)
{
    apr_time_t until = clock_now() + COPY_WAIT;
    const char *id = NULL;
    if (!t->profile->journal) {
        return scep_type_has_csr(t->request->type)
                   ? ask_intune(t)
                   : result_set(t->result, PROBLEM_UNSUPPORTED_MESSAGE, "CertPoll needs a journal");
    }
    if (scep_type_has_csr(t->request->type)) {
        id = journal_id(t->profile->name, t->request->transaction_id, t->request->csr.info_sha256, t->pool);
        if (!id) {
            return result_set(t->result, PROBLEM_INTERNAL, "no memory");
        }
    }
    for (;;) {
        apr_status_t rv = step(t, id, clock_now() < until);
        if (!APR_STATUS_IS_EAGAIN(rv)) {
            return rv;
        }
        apr_sleep(COPY_POLL);
    }
}

static apr_status_t prepare_relay(transaction_t *t)
{
    const profile_t *profile = t->profile;
    t->ca_capabilities = profile_backend_capabilities(profile, NULL, t->pool);
    scep_algorithms_t use = scep_backend_choose(t->ca_capabilities, profile->policy.backend);
    if (transaction_is_inquiry(t)) {
        return scep_relay_build(&t->relay, t->ra, t->request, use, t->pool, t->result);
    }
    return (t->polling ? scep_poll_build : scep_pkcsreq_build)(&t->relay, t->ra, t->request->transaction_id, t->csr,
                                                               use, t->pool, t->result);
}

apr_status_t transaction_enroll(transaction_t *t, bytes_t message)
{
    apr_status_t rv = open_message(t, message);
    if (!rv && !transaction_is_inquiry(t)) {
        rv = decide(t);
    }
    if (!rv) {
        rv = prepare_relay(t);
        if (rv) {
            transaction_failed(t, PROBLEM_INTERNAL, "the request to the CA could not be made");
            return rv;
        }
    }
    if (rv) {
        if (!t->certificate.len && !t->pending) {
            result_set(t->result, PROBLEM_INTERNAL, "a step failed without a reason");
        }
        deliver(t);
        return rv;
    }
    t->ca_began = clock_now();
    /* Without a row nobody else comes, but nobody waits for ever either. */
    if (!t->answer_by) {
        t->answer_by = t->ca_began + t->profile->ca_time;
    }
    return APR_SUCCESS;
}

bool transaction_is_late(const transaction_t *t)
{
    return t->answer_by && clock_now() > t->answer_by;
}

void transaction_refuse(transaction_t *t, problem_t problem, const char *detail)
{
    result_set(t->result, problem, "%s", detail);
    deliver(t);
}
