/* SPDX-License-Identifier: Apache-2.0 */
/* gateway/ with a journal: what the CA's answer means for row, device and Intune; and what is said when the journal fails
 * at any step, or the row goes to somebody else. */
#include "base/clock.h"

#include "gateway_fixture.h"
#include "gateway/failure.h"

#include <apr_strings.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* What the CA does. */
typedef enum ca_t {
    CA_ISSUES,
    CA_WRONG_KEY,
    CA_REFUSES,
    CA_SAYS_PENDING,
    CA_HTTP_500,
    CA_CUT_OFF,
    CA_HTTP_404,
    CA_HTML,
    CA_FOREIGN,
    CA_UNREACHABLE,
    CA_TIMEOUT,
    GATEWAY_FAILS
} ca_t;

/* How the CA came to be asked. */
typedef enum leg_t {
    FIRST,  /* a new transaction */
    RESENT, /* the answer was lost: once more */
    LOST,   /* the answer was lost: CertPoll */
    POLLED  /* PENDING: CertPoll */
} leg_t;

static void ca_answers(gate_t *gate, ca_t ca)
{
    pki_message_t answer;
    bytes_t html = bytes_of_text("<html>");
    switch (ca) {
    case CA_ISSUES:
        gate_answer(gate, gate_certrep(gate, gate_leaf(gate_pki->device_key)));
        break;
    case CA_WRONG_KEY:
        gate_answer(gate, gate_certrep(gate, gate_leaf(gate_pki->other_key)));
        break;
    case CA_REFUSES:
        gate_answer(gate, gate_refusal(gate));
        break;
    case CA_SAYS_PENDING:
        gate_answer(gate, gate_pending(gate));
        break;
    case CA_HTTP_500:
        transaction_issued(gate->t, 500, html, true);
        break;
    case CA_CUT_OFF:
        transaction_issued(gate->t, 200, html, false);
        break;
    case CA_HTTP_404:
        transaction_issued(gate->t, 404, html, true);
        break;
    case CA_HTML:
        gate_answer(gate, html);
        break;
    case CA_FOREIGN:
        answer = pki_answer(gate_pki, gate->t->relay,
                            pki_degenerate_make(gate_pki, gate_leaf(gate_pki->device_key), NULL, NULL, gate->bed->pool));
        answer.signer = gate_pki->other;
        answer.signer_key = gate_pki->other_key;
        gate_answer(gate, pki_message_make(gate_pki, &answer, gate->bed->pool));
        break;
    case CA_UNREACHABLE:
        transaction_failed(gate->t, PROBLEM_CA_UNREACHABLE, "refused");
        break;
    case CA_TIMEOUT:
        transaction_failed(gate->t, PROBLEM_CA_TIMEOUT, "silent");
        break;
    case GATEWAY_FAILS:
        transaction_failed(gate->t, PROBLEM_INTERNAL, "no memory");
        break;
    }
    assert_true(gate->t->settled);
}

/* A transaction of which the CA is asked in that way now, and nobody has told Intune anything. */
static void ask(gate_t *gate, leg_t leg)
{
    raw_run(gate->raw, "DELETE FROM iscep_journal");
    gate->profile.resync = leg == LOST ? RESYNC_POLL : RESYNC_RESEND;
    gate_enrolled(gate);
    assert_string_equal(gate_row(gate), "intent/failure");
    if (leg == FIRST) {
        fixture_forget(gate->bed->server);
        return;
    }
    ca_answers(gate, leg == POLLED ? CA_SAYS_PENDING : CA_TIMEOUT);
    assert_string_equal(gate_row(gate), leg == POLLED ? "pending/failure" : "unknown/failure");
    fixture_forget(gate->bed->server);
    assert_int_equal(gate_enroll(gate, gate_message(gate, GATE_CHALLENGE)), APR_SUCCESS);
    assert_int_equal(gate->t->polling, leg != RESENT);
    assert_int_equal(gate->t->relay->type, leg == RESENT ? SCEP_PKCSREQ : SCEP_CERTPOLL);
    /* Sent again only with a fresh word of Intune's; polled without. */
    assert_int_equal(fixture_count(gate->bed->server, BED_VALIDATE_PATH, NULL), leg == RESENT);
    assert_string_equal(gate_row(gate), leg == POLLED ? "pending/failure" : "intent/failure");
}

/* Per leg: FIRST and RESENT are one. */
static const struct {
    const char *name;
    ca_t ca;
    leg_t leg;
    int http_status;         /* the device's answer */
    const char *pki_status;  /* with HTTP 200 */
    const char *row;
    int told;                /* reports of failure that Intune got */
    const char *hresult;
    const char *fail;        /* what the row's begins with, or NULL for none */
} OUTCOMES[] = {
    {"ok/issued", CA_ISSUES, FIRST, 200, "0", "issued/done", 0, NULL, NULL},
    {"ok/issued to a poll", CA_ISSUES, POLLED, 200, "0", "issued/done", 0, NULL, NULL},
    {"ok/issued, and found by a poll", CA_ISSUES, LOST, 200, "0", "issued/done", 0, NULL, NULL},
    {"fail/wrong key", CA_WRONG_KEY, FIRST, 502, NULL, "failed/done", 1, "-2146893818", "CA_WRONG_KEY"},
    {"fail/wrong key to a poll", CA_WRONG_KEY, POLLED, 502, NULL, "failed/done", 1, "-2146893818", "CA_WRONG_KEY"},
    {"fail/wrong key, found by a poll", CA_WRONG_KEY, LOST, 502, NULL, "failed/done", 1, "-2146893818", "CA_WRONG_KEY"},
    {"fail/refused", CA_REFUSES, FIRST, 200, "2", "failed/done", 1, "-2146877420", "CA_REFUSED 4"},
    {"fail/refused to a poll", CA_REFUSES, POLLED, 200, "2", "failed/done", 1, "-2146877420", "CA_REFUSED 4"},
    {"fail/not known to the CA", CA_REFUSES, LOST, 503, NULL, "unknown/failure", 0, NULL, "CA_ERROR -1 " FAILURE_POLLED},
    {"ok/pending", CA_SAYS_PENDING, FIRST, 200, "3", "pending/failure", 0, NULL, NULL},
    {"ok/pending still", CA_SAYS_PENDING, POLLED, 200, "3", "pending/failure", 0, NULL, NULL},
    {"ok/pending, found by a poll", CA_SAYS_PENDING, LOST, 200, "3", "pending/failure", 0, NULL, NULL},
    {"fail/500", CA_HTTP_500, FIRST, 503, NULL, "unknown/failure", 0, NULL, "CA_ERROR"},
    {"fail/500 to a poll", CA_HTTP_500, POLLED, 200, "3", "pending/failure", 0, NULL, NULL},
    {"fail/500 to a poll for what was lost", CA_HTTP_500, LOST, 503, NULL, "unknown/failure", 0, NULL, "CA_ERROR -1 " FAILURE_POLLED},
    {"fail/cut off", CA_CUT_OFF, FIRST, 503, NULL, "unknown/failure", 0, NULL, "CA_TRUNCATED"},
    {"fail/cut off to a poll", CA_CUT_OFF, POLLED, 200, "3", "pending/failure", 0, NULL, NULL},
    {"fail/cut off to a poll for what was lost", CA_CUT_OFF, LOST, 503, NULL, "unknown/failure", 0, NULL, "CA_TRUNCATED"},
    {"fail/404", CA_HTTP_404, FIRST, 502, NULL, "failed/done", 1, "-2147024883", "CA_GARBAGE"},
    {"fail/404 to a poll", CA_HTTP_404, POLLED, 200, "3", "pending/failure", 0, NULL, NULL},
    {"fail/404 to a poll for what was lost", CA_HTTP_404, LOST, 503, NULL, "unknown/failure", 0, NULL, "CA_ERROR -1 " FAILURE_POLLED},
    {"fail/html", CA_HTML, FIRST, 502, NULL, "failed/done", 1, "-2147024883", "CA_GARBAGE"},
    {"fail/html to a poll", CA_HTML, POLLED, 200, "3", "pending/failure", 0, NULL, NULL},
    {"fail/html to a poll for what was lost", CA_HTML, LOST, 503, NULL, "unknown/failure", 0, NULL, "CA_ERROR -1 " FAILURE_POLLED},
    {"fail/foreign", CA_FOREIGN, FIRST, 502, NULL, "failed/done", 1, "-2146893818", "CA_FOREIGN_SIGNER"},
    {"fail/foreign to a poll", CA_FOREIGN, POLLED, 200, "3", "pending/failure", 0, NULL, NULL},
    {"fail/foreign to a poll for what was lost", CA_FOREIGN, LOST, 503, NULL, "unknown/failure", 0, NULL, "CA_ERROR -1 " FAILURE_POLLED},
    {"fail/unreachable", CA_UNREACHABLE, FIRST, 503, NULL, "failed/failure", 0, NULL, "CA_UNREACHABLE"},
    {"fail/unreachable for a poll", CA_UNREACHABLE, POLLED, 200, "3", "pending/failure", 0, NULL, NULL},
    {"fail/unreachable for a poll for what was lost", CA_UNREACHABLE, LOST, 503, NULL, "unknown/failure", 0, NULL, "CA_UNREACHABLE"},
    {"fail/silent", CA_TIMEOUT, FIRST, 503, NULL, "unknown/failure", 0, NULL, "CA_TIMEOUT"},
    {"fail/silent to a poll", CA_TIMEOUT, POLLED, 200, "3", "pending/failure", 0, NULL, NULL},
    {"fail/silent to a poll for what was lost", CA_TIMEOUT, LOST, 503, NULL, "unknown/failure", 0, NULL, "CA_TIMEOUT"},
    {"fail/ourselves", GATEWAY_FAILS, FIRST, 503, NULL, "unknown/failure", 0, NULL, "INTERNAL"},
    {"fail/ourselves at a poll", GATEWAY_FAILS, POLLED, 200, "3", "pending/failure", 0, NULL, NULL},
    {"fail/ourselves at a poll for what was lost", GATEWAY_FAILS, LOST, 503, NULL, "unknown/failure", 0, NULL, "INTERNAL"},
};

static void check_outcome(gate_t *gate, size_t i, leg_t leg)
{
    const reply_t *reply = &gate->t->reply;
    const char *fail = gate_column(gate, "fail");
    const char *pki_status = reply->http_status == 200 ? gate_reply(gate)->status : "-";
    int failures = fixture_count(gate->bed->server, GATE_FAILURE_PATH, OUTCOMES[i].hresult);
    bool issued = OUTCOMES[i].ca == CA_ISSUES;
    bool told = failures == OUTCOMES[i].told && gate_reports(gate) == OUTCOMES[i].told + (issued ? 1 : 0);
    bool fits = OUTCOMES[i].fail ? fail && !strncmp(fail, OUTCOMES[i].fail, strlen(OUTCOMES[i].fail)) : !fail;
    if (reply->http_status != OUTCOMES[i].http_status || !told || !fits || strcmp(gate_row(gate), OUTCOMES[i].row) ||
        (OUTCOMES[i].pki_status && strcmp(pki_status, OUTCOMES[i].pki_status))) {
        fail_msg("%s (%d): HTTP %d, status %s, row %s, fail \"%s\", Intune told of %d failures, %d reports", OUTCOMES[i].name,
                 (int)leg, reply->http_status, pki_status, gate_row(gate), fail ? fail : "-", failures, gate_reports(gate));
    }
    /* A certificate that nobody gets is the operator's business. */
    const char *event = gate_column(gate, "event");
    assert_string_equal(event ? event : "-", OUTCOMES[i].ca == CA_WRONG_KEY ? "orphan" : "-");
    /* Nobody has it any more, and the request is kept just as long as it is needed. */
    assert_true(gate_milliseconds(gate, "lease_until") <= 0);
    assert_int_equal(gate_column(gate, "csr") != NULL, strstr(OUTCOMES[i].row, "/failure") != NULL);
}

static void outcomes(void **state)
{
    gate_t gate = gate_begin(state);
    for (size_t i = 0; i < COUNT(OUTCOMES); i++) {
        ask(&gate, OUTCOMES[i].leg);
        ca_answers(&gate, OUTCOMES[i].ca);
        check_outcome(&gate, i, OUTCOMES[i].leg);
        if (OUTCOMES[i].leg == FIRST) {
            ask(&gate, RESENT);
            fixture_forget(gate.bed->server);
            ca_answers(&gate, OUTCOMES[i].ca);
            check_outcome(&gate, i, RESENT);
        }
    }
}

/* When a failure is due: after the grace, or at the pending limit, which the first PENDING sets. */
static void due_times(void **state)
{
    static const struct {
        ca_t ca;
        leg_t leg;
        int due; /* seconds */
    } CASES[] = {{CA_TIMEOUT, FIRST, 600},        {CA_UNREACHABLE, FIRST, 600}, {CA_SAYS_PENDING, FIRST, 3600},
                 {CA_SAYS_PENDING, LOST, 3600},   {CA_SAYS_PENDING, POLLED, 2600}, {CA_TIMEOUT, POLLED, 2600},
                 {CA_HTTP_404, POLLED, 2600}};
    gate_t gate = gate_begin(state);
    for (size_t i = 0; i < COUNT(CASES); i++) {
        ask(&gate, CASES[i].leg);
        if (CASES[i].leg == POLLED) {
            gate_age(&gate, 1000);
        }
        ca_answers(&gate, CASES[i].ca);
        int due = gate_milliseconds(&gate, "due") / 1000;
        if (due < CASES[i].due - 10 || due > CASES[i].due) {
            fail_msg("%d on leg %d: %d s", (int)CASES[i].ca, (int)CASES[i].leg, due);
        }
    }
}

/* A device comes again: the same certificate, encrypted anew, without Intune and without the CA. */
static void delivered_again(void **state)
{
    gate_t gate = gate_begin(state);
    ask(&gate, FIRST);
    ca_answers(&gate, CA_ISSUES);
    bytes_t first = gate.t->certificate;
    fixture_forget(gate.bed->server);
    for (int i = 0; i < 2; i++) {
        assert_int_not_equal(gate_enroll(&gate, i ? gate_poll(&gate, gate_pki->device, gate_pki->device_key)
                                                  : gate_message(&gate, GATE_CHALLENGE)), APR_SUCCESS);
        pki_certrep_t *reply = gate_reply(&gate);
        assert_string_equal(reply->status, "0");
        assert_true(bytes_equal(pki_certificate_der(sk_X509_value(reply->certificates, 0), gate.bed->pool), first));
        assert_int_equal(fixture_count(gate.bed->server, "/", NULL), 0);
        assert_int_equal(bed_logged(gate.bed, "ISCEP0403"), i + 1);
    }
}

/* CertPoll is answered from the row of its key only. */
static void polls_of_strangers(void **state)
{
    gate_t gate = gate_begin(state);
    bytes_t own = gate_poll(&gate, gate_pki->device, gate_pki->device_key);
    assert_int_not_equal(gate_enroll(&gate, own), APR_SUCCESS);
    assert_int_equal(gate.t->result->problem, PROBLEM_UNKNOWN_TRANSACTION);
    assert_string_equal(gate_reply(&gate)->fail_info, "4");
    ask(&gate, FIRST);
    ca_answers(&gate, CA_ISSUES);
    assert_int_not_equal(gate_enroll(&gate, gate_poll(&gate, gate_pki->other, gate_pki->other_key)), APR_SUCCESS);
    assert_int_equal(gate.t->result->problem, PROBLEM_UNKNOWN_TRANSACTION);
    assert_int_equal(gate.t->certificate.len, 0);
}

/* How "come back" is said. What is not in the journal cannot be polled for. */
static void come_back(void **state)
{
    static const ca_t CAS[] = {CA_TIMEOUT, CA_HTTP_500, CA_UNREACHABLE, CA_CUT_OFF};
    gate_t gate = gate_begin(state);
    gate.profile.come_back = COME_BACK_PENDING;
    for (size_t i = 0; i < COUNT(CAS); i++) {
        ask(&gate, FIRST);
        ca_answers(&gate, CAS[i]);
        assert_string_equal(gate_reply(&gate)->status, "3");
        /* The poll drives it on, with the row's own request, as a retransmission would. */
        assert_int_equal(gate_enroll(&gate, gate_poll(&gate, gate_pki->device, gate_pki->device_key)), APR_SUCCESS);
        assert_int_equal(gate.t->relay->type, SCEP_PKCSREQ);
        ca_answers(&gate, CA_ISSUES);
        assert_string_equal(gate_reply(&gate)->status, "0");
    }
    /* What is there can be polled for, also while it cannot be written. */
    static const struct {
        ca_t ca;
        int report; /* HTTP status of Intune's answer */
    } THERE[] = {{CA_TIMEOUT, 200}, {CA_SAYS_PENDING, 200}, {CA_ISSUES, 503}};
    for (size_t i = 0; i < COUNT(THERE); i++) {
        gate_intune(&gate, GATE_SUCCESS_PATH, THERE[i].report, "Success");
        ask(&gate, FIRST);
        ca_answers(&gate, THERE[i].ca);
        gate_age(&gate, 60);
        gate_wait(&gate, 60);
        gate_break(&gate, GATE_CLAIM);
        assert_int_not_equal(gate_enroll(&gate, gate_poll(&gate, gate_pki->device, gate_pki->device_key)), APR_SUCCESS);
        assert_int_equal(gate.t->result->problem, PROBLEM_JOURNAL_UNAVAILABLE);
        assert_string_equal(gate_reply(&gate)->status, "3");
        gate_mend(&gate);
    }
    raw_run(gate.raw, "DELETE FROM iscep_journal");
    gate_intune(&gate, BED_VALIDATE_PATH, 503, NULL);
    gate_enroll(&gate, gate_message(&gate, GATE_CHALLENGE));
    assert_int_equal(gate.t->reply.http_status, 503);
    assert_string_equal(gate_row(&gate), "");
}

/* Under `before` nothing is delivered that Intune has not taken. */
static void reports(void **state)
{
    static const struct {
        const char *name;
        notify_t notify;
        int http_status;
        const char *code, *row, *event;
        int reply;
        const char *pki_status, *line;
    } CASES[] = {
        {"ok/before", NOTIFY_BEFORE, 200, "Success", "issued/done", NULL, 200, "0", "ISCEP0400"},
        {"fail/before, refused", NOTIFY_BEFORE, 200, "No", "withheld/refused", "withheld", 200, "2", "ISCEP1300"},
        {"fail/before, not taken", NOTIFY_BEFORE, 503, NULL, "issued/success", NULL, 503, NULL, "ISCEP1301"},
        {"ok/after", NOTIFY_AFTER, 200, "Success", "issued/done", NULL, 200, "0", "ISCEP0400"},
        {"ok/after, refused", NOTIFY_AFTER, 200, "No", "issued/refused", NULL, 200, "0", "ISCEP0402"},
        {"ok/after, not taken", NOTIFY_AFTER, 503, NULL, "issued/success", NULL, 200, "0", "ISCEP0407"},
    };
    gate_t gate = gate_begin(state);
    for (size_t i = 0; i < COUNT(CASES); i++) {
        gate.profile.notify = CASES[i].notify;
        gate_intune(&gate, GATE_SUCCESS_PATH, CASES[i].http_status, CASES[i].code);
        ask(&gate, FIRST);
        int lines = bed_logged(gate.bed, CASES[i].line);
        ca_answers(&gate, CA_ISSUES);
        const char *event = gate_column(&gate, "event");
        if (strcmp(gate_row(&gate), CASES[i].row) || gate.t->reply.http_status != CASES[i].reply ||
            (CASES[i].pki_status && strcmp(gate_reply(&gate)->status, CASES[i].pki_status)) ||
            strcmp(event ? event : "-", CASES[i].event ? CASES[i].event : "-") ||
            bed_logged(gate.bed, CASES[i].line) != lines + 1 || fixture_count(gate.bed->server, GATE_FAILURE_PATH, NULL)) {
            fail_msg("%s: %s, HTTP %d", CASES[i].name, gate_row(&gate), gate.t->reply.http_status);
        }
    }
}

/* Who waits for a report that nobody sends has it sent; what comes of it is told as of any other, and of which certificate. */
static void overdue_reports(void **state)
{
    static const struct {
        const char *name;
        int http_status;
        const char *code;
        int age; /* of the first try, in seconds */
        const char *row, *event;
        int reply;
        const char *pki_status, *line, *more;
    } CASES[] = {
        {"ok/taken", 200, "Success", 60, "issued/done", NULL, 200, "0", "ISCEP0403", "ISCEP0403"},
        {"fail/refused", 200, "No", 60, "withheld/refused", "withheld", 200, "2", "ISCEP1300", "ISCEP1300"},
        {"fail/not taken", 503, NULL, 60, "issued/success", NULL, 503, NULL, "ISCEP1301", "ISCEP1301"},
        {"fail/given up", 503, NULL, 90000, "issued/dead", "report-dead", 200, "2", "ISCEP1404", "ISCEP0412"},
    };
    gate_t gate = gate_begin(state);
    for (size_t i = 0; i < COUNT(CASES); i++) {
        gate_wait(&gate, 60);
        gate_intune(&gate, GATE_SUCCESS_PATH, 503, NULL);
        ask(&gate, FIRST);
        ca_answers(&gate, CA_ISSUES);
        const char *named = apr_pstrcat(gate.bed->pool, "certificate serial ", gate_column(&gate, "serial"), " of issuer CN=", NULL);
        gate_age(&gate, CASES[i].age);
        gate_wait(&gate, 60);
        gate_intune(&gate, GATE_SUCCESS_PATH, CASES[i].http_status, CASES[i].code);
        gate.bed->line_count = 0;
        assert_int_not_equal(gate_enroll(&gate, gate_message(&gate, GATE_CHALLENGE)), APR_SUCCESS);
        const char *event = gate_column(&gate, "event");
        if (strcmp(gate_row(&gate), CASES[i].row) || gate.t->reply.http_status != CASES[i].reply ||
            (CASES[i].pki_status && strcmp(gate_reply(&gate)->status, CASES[i].pki_status)) ||
            strcmp(event ? event : "-", CASES[i].event ? CASES[i].event : "-") || gate_milliseconds(&gate, "lease_until") > 0 ||
            !bed_logged(gate.bed, CASES[i].line) || !bed_logged(gate.bed, CASES[i].more) ||
            bed_logged(gate.bed, named) != (CASES[i].event || CASES[i].reply == 503)) {
            fail_msg("%s: %s, HTTP %d", CASES[i].name, gate_row(&gate), gate.t->reply.http_status);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        GATE_TEST_JOURNALED(outcomes),           GATE_TEST_JOURNALED(due_times), GATE_TEST_JOURNALED(delivered_again),
        GATE_TEST_JOURNALED(polls_of_strangers), GATE_TEST_JOURNALED(come_back), GATE_TEST_JOURNALED(reports),
        GATE_TEST_JOURNALED(overdue_reports),
    };
    if (gate_start()) {
        return 1;
    }
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    gate_end();
    return failed;
}
