/* SPDX-License-Identifier: Apache-2.0 */
#include "account.h"
#include "deliver.h"
#include "inquiry.h"

#include "base/fault.h"
#include "base/text.h"

#include <apr_strings.h>

enum { RETRY_AFTER_DEFAULT = 30, RETRY_AFTER_BUSY = 10 };

static void log_problem(const transaction_t *t)
{
    const result_t *result = t->result;
    const problem_facts_t *facts = problem_facts(result->problem);
    const certificate_facts_t *certificate = t->answer ? &t->answer->facts : &t->facts;
    const char *serial = certificate->serial;
    log_write_as(t->log, facts->id, facts->level, "%s%s%s%s%s%s%s%s%s%s%s; reference %s; answered HTTP %d%s%s",
                 facts->what, result->code ? ", code " : "", result->code ? result->code : "",
                 result->detail ? ": " : "", result->detail ? result->detail : "",
                 intune_code_told(result->code, t->pool),
                 serial ? "; certificate serial " : "", serial ? serial : "", serial ? " of issuer " : "",
                 serial ? text_escape(t->pool, certificate->issuer, 300) : "",
                 result->request_id ? apr_pstrcat(t->pool, "; request-id ", result->request_id, NULL) : "",
                 t->reference, t->reply.http_status, facts->remedy[0] ? "; " : "", facts->remedy);
}

static void log_success(const transaction_t *t)
{
    const char *subject = text_escape(t->pool, t->facts.subject, 300);
    const char *issuer = text_escape(t->pool, t->facts.issuer, 300);
    const char *knows = t->reported ? "knows" : "has not been told";
    if (!t->answer) {
        log_write(t->log, MSG_DELIVERED_AGAIN, "%s: certificate %s for %s by %s delivered again; Intune %s",
                  t->profile->name, t->facts.serial, subject, issuer, knows);
        return;
    }
    log_write(t->log, MSG_ENROLLED,
              "%s: certificate %s for %s by %s delivered; Intune %s; validation %d ms, report %d ms", t->profile->name,
              t->facts.serial, subject, issuer, knows, (int)apr_time_as_msec(t->validate_time),
              (int)apr_time_as_msec(t->report_time));
}

static void plain(transaction_t *t, int http_status, const char *text)
{
    t->reply.http_status = http_status;
    t->reply.content_type = "text/plain; charset=us-ascii";
    t->reply.body = bytes_of_text(text);
}

/* What a stranger may read: no word of Intune's, Entra's or the CA's. */
static void plain_problem(transaction_t *t, const problem_facts_t *facts)
{
    switch (facts->http_status) {
    case 503:
        t->reply.retry_after = (int)apr_time_sec(t->result->retry_after + APR_USEC_PER_SEC - 1);
        if (t->reply.retry_after <= 0) {
            t->reply.retry_after = t->result->problem == PROBLEM_TOO_MANY ? RETRY_AFTER_BUSY : RETRY_AFTER_DEFAULT;
        }
        plain(t, 503, apr_psprintf(t->pool, "Enrolment is not possible at the moment. Reference: %s\n", t->reference));
        break;
    case 502:
        plain(
            t, 502,
            apr_psprintf(t->pool, "The certification authority's answer is not usable. Reference: %s\n", t->reference));
        break;
    default:
        plain(t, facts->http_status, apr_psprintf(t->pool, "Not served: %s.\n", facts->what));
    }
}

/* failInfoText. A failure that could be an oracle for the RA key says nothing; a refusal by Intune or the CA gives no
 * reason away. */
static const char *failure_text(const transaction_t *t, const problem_facts_t *facts)
{
    switch (t->result->problem) {
    case PROBLEM_BAD_ENVELOPE:
        return NULL;
    case PROBLEM_INTUNE_REFUSED:
    case PROBLEM_CA_REFUSED:
    case PROBLEM_CA_PENDING:
    case PROBLEM_REPORT_REFUSED:
    case PROBLEM_GIVEN_UP:
        return apr_psprintf(t->pool, "The request was refused. Reference: %s", t->reference);
    default:
        return facts->what;
    }
}

static void certrep_reply(transaction_t *t)
{
    t->reply.http_status = 200;
    t->reply.content_type = SCEP_TYPE_MESSAGE;
}

static void certrep_failure(transaction_t *t, const problem_facts_t *facts)
{
    int fail_info = facts->fail_info == FAIL_INFO_OF_CA ? t->result->ca_fail_info : facts->fail_info;
    result_t *building = result_make(t->pool);
    if (!t->request) {
        plain(t, 400, "Not served: the body is not a SCEP message.\n");
    } else if (scep_failure_build(&t->reply.body, t->profile->identity, t->request, (scep_fail_info_t)fail_info,
                                  failure_text(t, facts), t->pool, building)) {
        t->result->detail = apr_pstrcat(
            t->pool, t->result->detail ? t->result->detail : "",
            " (and the CertRep could not be made: ", building->detail ? building->detail : "no memory", ")", NULL);
        plain_problem(t, problem_facts(PROBLEM_INTERNAL));
    } else {
        certrep_reply(t);
    }
}

static apr_status_t certrep_success(transaction_t *t)
{
    const scep_identity_t *identity = t->profile->identity;
    apr_status_t rv = APR_SUCCESS;
    if (transaction_is_inquiry(t)) {
        rv = inquiry_answer(t);
    } else if (t->answer) {
        rv = scep_success_build(&t->reply.body, identity, t->request, t->answer->certificate, t->pool, t->result);
    } else {
        rv = scep_stored_success_build(&t->reply.body, identity, t->request, t->certificate, t->pool, t->result);
    }
    if (!rv) {
        certrep_reply(t);
        (transaction_is_inquiry(t) ? inquiry_log : log_success)(t);
    }
    return rv;
}

/* The protocol's own "come back": the device polls, and the journal answers. */
static bool certrep_pending(transaction_t *t)
{
    result_t *building = result_make(t->pool);
    if (scep_pending_build(&t->reply.body, t->profile->identity, t->request, t->pool, building)) {
        return false;
    }
    certrep_reply(t);
    return true;
}

static void answer_problem(transaction_t *t)
{
    const problem_facts_t *facts = problem_facts(t->result->problem);
    /* Only what is in the journal can be polled for. */
    bool poll = t->row && facts->http_status == 503 && t->profile->come_back == COME_BACK_PENDING;
    if (facts->http_status == 200) {
        certrep_failure(t, facts);
    } else if (!poll || !certrep_pending(t)) {
        plain_problem(t, facts);
    }
    log_problem(t);
}

void deliver(transaction_t *t)
{
    if (t->result->problem != PROBLEM_NONE || (t->pending ? !certrep_pending(t) : certrep_success(t) != APR_SUCCESS)) {
        result_set(t->result, PROBLEM_INTERNAL, "the answer could not be made");
        answer_problem(t);
    }
    account(t);
    fault_point("deliver-before");
}
