/* SPDX-License-Identifier: Apache-2.0 */
#include "account.h"

#include "base/clock.h"
#include "base/text.h"
#include "inquiry.h"

#include <apr_strings.h>

static call_end_t end_of(const transaction_t *t)
{
    switch (t->result->problem) {
    case PROBLEM_NONE:
        return CALL_SUCCESS;
    case PROBLEM_CA_PENDING:
        return CALL_PENDING;
    case PROBLEM_CA_REFUSED:
        return CALL_REFUSED;
    case PROBLEM_CA_UNREACHABLE:
        return CALL_UNREACHABLE;
    case PROBLEM_CA_TIMEOUT:
        return CALL_TIMEOUT;
    case PROBLEM_CA_ERROR:
        return CALL_FAILED;
    case PROBLEM_CA_TRUNCATED:
        return CALL_BROKEN;
    default:
        return CALL_GARBAGE;
    }
}

void account_ca(transaction_t *t)
{
    const result_t *result = t->result;
    call_seen_t seen = {.kind = CALL_CA, .end = end_of(t)};
    if (!t->ca_began) {
        return;
    }
    t->ca_time = clock_now() - t->ca_began;
    seen.duration = t->ca_time;
    if (call_end_is_trouble(seen.end)) {
        seen.words = apr_pstrcat(t->pool, problem_facts(result->problem)->what, result->detail ? ": " : "",
                                 result->detail ? result->detail : "", NULL);
    }
    counters_call(t->profile->counters, &seen);
}

static int outcome_of(const transaction_t *t)
{
    return t->result->problem != PROBLEM_NONE ? outcome_of_problem(t->result->problem)
           : t->pending                       ? (int)ENDING_PENDING
           : transaction_is_inquiry(t)        ? (int)ENDING_INQUIRY
           : t->answer                        ? (int)ENDING_ENROLLED
                                              : (int)ENDING_DELIVERED_AGAIN;
}

const char *account_outcome(const transaction_t *t)
{
    return outcome_name(outcome_of(t));
}

const char *account_platform(const char *agent)
{
    /* The first that is found counts: Windows' own client calls itself Mozilla, mdmclient is
     * on all of Apple's systems. */
    static const struct {
        const char *part, *platform;
    } KNOWN[] = {{"NDES client", "Windows"}, {"Windows", "Windows"},    {"Win32", "Windows"},       {"Android", "Android"},
                 {"Dalvik", "Android"},      {"okhttp", "Android"},     {"iPhone", "iOS"},          {"iPad", "iOS"},
                 {"profiled", "iOS"},        {"Macintosh", "macOS"},    {"mdmclient", "Apple"},     {"CFNetwork", "Apple"},
                 {"Darwin", "Apple"},        {"micromdm", "Linux"},     {"certmonger", "Linux"},    {"strongSwan", "Linux"},
                 {"sscep", "Linux"},         {"Go-http-client", "Linux"}, {"Linux", "Linux"}};
    for (size_t i = 0; agent && i < sizeof(KNOWN) / sizeof(KNOWN[0]); i++) {
        if (strstr(agent, KNOWN[i].part)) {
            return KNOWN[i].platform;
        }
    }
    return "";
}

static void fill(char *field, apr_size_t size, const char *text)
{
    apr_cpystrn(field, text ? text : "", size);
}

/* The certificate's subject, or what was asked for. */
static const char *subject_of(const transaction_t *t)
{
    return t->facts.subject ? t->facts.subject : t->csr ? t->csr->subject : NULL;
}

static const char *serial_of(const transaction_t *t)
{
    return t->facts.serial ? t->facts.serial : t->answer ? t->answer->facts.serial : NULL;
}

static void journal_seen(const transaction_t *t)
{
    problem_t problem = t->result->problem;
    if (problem == PROBLEM_JOURNAL_UNAVAILABLE || problem == PROBLEM_NOT_JOURNALED) {
        counters_service(t->profile->counters, SERVICE_JOURNAL, false, t->result->detail);
    } else if (t->row && t->ca_time) {
        /* It was written, before and after the CA; an answer from the journal was only read. */
        counters_service(t->profile->counters, SERVICE_JOURNAL, true, NULL);
    }
}

void account(const transaction_t *t)
{
    counters_record_t record;
    if (!t->profile->counters) {
        return;
    }
    memset(&record, 0, sizeof(record));
    record.time = clock_now();
    record.whole = record.time - t->began;
    record.validate = t->validate_time;
    record.report = t->report_time;
    record.ca = t->ca_time;
    record.outcome = outcome_of(t);
    record.http_status = t->reply.http_status;
    fill(record.platform, sizeof(record.platform), account_platform(t->client));
    if (t->request) {
        fill(record.transaction, sizeof(record.transaction), t->request->transaction_id);
        fill(record.subject, sizeof(record.subject), text_cut_utf8(t->pool, subject_of(t), sizeof(record.subject) - 1));
        fill(record.serial, sizeof(record.serial), serial_of(t));
    }
    fill(record.code, sizeof(record.code), t->result->code);
    fill(record.reference, sizeof(record.reference), t->reference);
    fill(record.request_id, sizeof(record.request_id), t->result->request_id);
    fill(record.detail, sizeof(record.detail), t->result->detail);
    journal_seen(t);
    counters_ended(t->profile->counters, &record);
}
