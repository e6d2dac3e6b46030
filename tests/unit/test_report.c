/* SPDX-License-Identifier: Apache-2.0 */
/* gateway/report.c: what Intune's answer means for the row, when a report is sent again, and what all processes know. */
#include "gateway/report.h"

#include "base/clock.h"
#include "base/text.h"

#include "gateway_fixture.h"

#include <apr_strings.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* A row that is owned and owes a report, and the report. */
typedef struct sending_t {
    gate_t gate;
    journal_row_t *row;
    certificate_facts_t facts;
    report_t report;
} sending_t;

static journal_row_t *row_in(gate_t *gate, journal_state_t state)
{
    const char *message = "";
    journal_row_t *row = NULL;
    journal_intent_t intent = {.id = "ID",
                               .location = GATE_NAME,
                               .transaction_id = "TX",
                               .key_fp = "4B",
                               .ra_fp = GATE_RA_FP,
                               .request_id = text_uuid(gate->bed->pool),
                               .csr = bed_csr(),
                               .lease = apr_time_from_sec(60)};
    journal_outcome_t outcome = {.state = state, .report_now = state != JOURNAL_UNKNOWN && state != JOURNAL_PENDING,
                                 .lease = apr_time_from_sec(60), .due_in = 0, .fail = "CA_REFUSED 2 no"};
    raw_run(gate->raw, "DELETE FROM iscep_journal");
    assert_int_equal(journal_begin(gate->profile.journal, &intent, &row, gate->bed->pool, &message), APR_SUCCESS);
    if (state == JOURNAL_ISSUED) {
        outcome.certificate = bytes_of_text("certificate");
        outcome.certificate_fp = "AB12";
        outcome.serial = "0F";
        outcome.fail = NULL;
    }
    if (state != JOURNAL_INTENT) {
        assert_int_equal(journal_outcome(gate->profile.journal, &row, &outcome, gate->bed->pool, &message), APR_SUCCESS);
    }
    return row;
}

/* What the outbox does before it sends. */
static void claim(sending_t *s)
{
    const char *message = "";
    journal_intent_t lease = {.lease = apr_time_from_sec(60)};
    raw_run(s->gate.raw, "UPDATE iscep_journal SET lease_until = 0, due = 0");
    assert_int_equal(journal_find(s->gate.profile.journal, s->row->id, &s->row, s->gate.bed->pool, &message), APR_SUCCESS);
    assert_int_equal(journal_claim(s->gate.profile.journal, &s->row, JOURNAL_TO_REPORT, &lease, s->gate.bed->pool, &message),
                     APR_SUCCESS);
}

static void prepare(sending_t *s, journal_state_t state)
{
    s->row = row_in(&s->gate, state);
    s->facts = (certificate_facts_t){.thumbprint = "AB12", .serial = "0F", .not_after = "2027-01-01T00:00:00.000Z",
                                     .issuer = "CN=CA"};
    result_t *failure = result_make(s->gate.bed->pool);
    result_set(failure, state == JOURNAL_PENDING ? PROBLEM_PENDING_EXPIRED : PROBLEM_CA_REFUSED, "why");
    s->report = (report_t){.profile = &s->gate.profile, .pool = s->gate.bed->pool, .log = &s->gate.log, .row = &s->row,
                           .transaction_id = "TX", .csr = bed_csr(),
                           .facts = state == JOURNAL_ISSUED ? &s->facts : NULL,
                           .failure = state == JOURNAL_ISSUED ? NULL : failure};
}

static apr_status_t report_it(sending_t *s)
{
    s->report.result = result_make(s->gate.bed->pool);
    return report_send(&s->report);
}

/* Intune's answers. */
typedef struct answer_t {
    int http_status;
    const char *code;
} answer_t;

static const answer_t TAKEN = {200, "Success"};
static const answer_t REFUSED = {200, "Duplicate"};
static const answer_t REFUSED_BADLY = {400, NULL};
static const answer_t NOT_TAKEN = {503, NULL};

static void intune_says(sending_t *s, answer_t answer)
{
    gate_intune(&s->gate, "/svc/ScepActions/", answer.http_status, answer.code);
}

static void verdicts(void **state)
{
    static const struct {
        const char *name;
        journal_state_t state;
        const answer_t *answer;
        notify_t notify;
        resync_t resync;
        bool old; /* beyond IntuneScepReportLimit */
        journal_verdict_t verdict;
        const char *row, *event;
    } CASES[] = {
        {"ok/success", JOURNAL_ISSUED, &TAKEN, NOTIFY_BEFORE, RESYNC_RESEND, false, JOURNAL_ACCEPTED, "issued/done", NULL},
        {"ok/success after the limit", JOURNAL_ISSUED, &TAKEN, NOTIFY_BEFORE, RESYNC_RESEND, true, JOURNAL_ACCEPTED, "issued/done", NULL},
        {"fail/success refused", JOURNAL_ISSUED, &REFUSED, NOTIFY_BEFORE, RESYNC_RESEND, false, JOURNAL_REFUSAL, "withheld/refused", "withheld"},
        {"fail/success refused by HTTP", JOURNAL_ISSUED, &REFUSED_BADLY, NOTIFY_BEFORE, RESYNC_RESEND, true, JOURNAL_REFUSAL, "withheld/refused", "withheld"},
        {"fail/success refused, after", JOURNAL_ISSUED, &REFUSED, NOTIFY_AFTER, RESYNC_RESEND, false, JOURNAL_REFUSAL, "issued/refused", NULL},
        {"again/success", JOURNAL_ISSUED, &NOT_TAKEN, NOTIFY_BEFORE, RESYNC_RESEND, false, JOURNAL_RETRY, "issued/success", NULL},
        {"dead/success", JOURNAL_ISSUED, &NOT_TAKEN, NOTIFY_BEFORE, RESYNC_RESEND, true, JOURNAL_GIVEN_UP, "issued/dead", "report-dead"},
        {"dead/success, after", JOURNAL_ISSUED, &NOT_TAKEN, NOTIFY_AFTER, RESYNC_RESEND, true, JOURNAL_GIVEN_UP, "issued/dead", "report-dead"},
        {"ok/failure", JOURNAL_FAILED, &TAKEN, NOTIFY_BEFORE, RESYNC_RESEND, false, JOURNAL_ACCEPTED, "failed/done", NULL},
        {"fail/failure refused", JOURNAL_FAILED, &REFUSED, NOTIFY_BEFORE, RESYNC_RESEND, false, JOURNAL_REFUSAL, "failed/refused", NULL},
        {"again/failure", JOURNAL_FAILED, &NOT_TAKEN, NOTIFY_BEFORE, RESYNC_RESEND, false, JOURNAL_RETRY, "failed/failure", NULL},
        {"dead/failure", JOURNAL_FAILED, &NOT_TAKEN, NOTIFY_BEFORE, RESYNC_RESEND, true, JOURNAL_GIVEN_UP, "failed/dead", "report-dead"},
        {"ok/intent", JOURNAL_INTENT, &TAKEN, NOTIFY_BEFORE, RESYNC_RESEND, false, JOURNAL_ACCEPTED, "failed/done", NULL},
        {"ok/intent, none", JOURNAL_INTENT, &TAKEN, NOTIFY_BEFORE, RESYNC_NONE, false, JOURNAL_ACCEPTED, "unknown/done", NULL},
        {"again/intent", JOURNAL_INTENT, &NOT_TAKEN, NOTIFY_BEFORE, RESYNC_NONE, false, JOURNAL_RETRY, "intent/failure", NULL},
        {"ok/unknown", JOURNAL_UNKNOWN, &TAKEN, NOTIFY_BEFORE, RESYNC_POLL, false, JOURNAL_ACCEPTED, "failed/done", NULL},
        {"ok/unknown, none", JOURNAL_UNKNOWN, &TAKEN, NOTIFY_BEFORE, RESYNC_NONE, false, JOURNAL_ACCEPTED, "unknown/done", NULL},
        {"fail/unknown, none", JOURNAL_UNKNOWN, &REFUSED, NOTIFY_BEFORE, RESYNC_NONE, false, JOURNAL_REFUSAL, "unknown/refused", NULL},
        {"dead/unknown, none", JOURNAL_UNKNOWN, &NOT_TAKEN, NOTIFY_BEFORE, RESYNC_NONE, true, JOURNAL_GIVEN_UP, "unknown/dead", "report-dead"},
        {"ok/pending", JOURNAL_PENDING, &TAKEN, NOTIFY_BEFORE, RESYNC_NONE, false, JOURNAL_ACCEPTED, "failed/done", "pending-expired"},
        {"fail/pending", JOURNAL_PENDING, &REFUSED, NOTIFY_BEFORE, RESYNC_RESEND, false, JOURNAL_REFUSAL, "failed/refused", "pending-expired"},
        {"again/pending", JOURNAL_PENDING, &NOT_TAKEN, NOTIFY_BEFORE, RESYNC_RESEND, false, JOURNAL_RETRY, "pending/failure", NULL},
        {"dead/pending", JOURNAL_PENDING, &NOT_TAKEN, NOTIFY_BEFORE, RESYNC_RESEND, true, JOURNAL_GIVEN_UP, "failed/dead", "pending-expired"},
    };
    sending_t s = {.gate = gate_begin(state)};
    for (size_t i = 0; i < COUNT(CASES); i++) {
        s.gate.profile.notify = CASES[i].notify;
        s.gate.profile.resync = CASES[i].resync;
        prepare(&s, CASES[i].state);
        intune_says(&s, CASES[i].answer ? *CASES[i].answer : TAKEN);
        if (CASES[i].old) {
            /* It was tried before: only then has the limit any meaning. */
            raw_run(s.gate.raw, "UPDATE iscep_journal SET tries = 1");
            gate_age(&s.gate, 86401);
        }
        claim(&s);
        apr_status_t rv = report_it(&s);
        const char *event = gate_column(&s.gate, "event");
        bool kept = gate_column(&s.gate, "csr") != NULL;
        bool wanted = s.report.verdict == JOURNAL_RETRY || (CASES[i].state == JOURNAL_ISSUED && s.report.verdict != JOURNAL_ACCEPTED);
        if ((rv == APR_SUCCESS) != (CASES[i].verdict == JOURNAL_ACCEPTED) || s.report.verdict != CASES[i].verdict ||
            strcmp(gate_row(&s.gate), CASES[i].row) || strcmp(event ? event : "-", CASES[i].event ? CASES[i].event : "-") ||
            kept != wanted || raw_number(s.gate.raw, "SELECT lease_until FROM iscep_journal") ||
            (s.row->report == JOURNAL_OWED_SUCCESS) != !strcmp(CASES[i].row, "issued/success")) {
            fail_msg("%s: %d, %s, event %s, csr %d", CASES[i].name, (int)s.report.verdict, gate_row(&s.gate),
                     event ? event : "-", kept);
        }
    }
}

/* A limit that is over before the first try says nothing: the first try is where it begins. */
static void the_limit_begins_with_the_first_try(void **state)
{
    static const journal_state_t STATES[] = {JOURNAL_PENDING, JOURNAL_UNKNOWN, JOURNAL_INTENT};
    sending_t s = {.gate = gate_begin(state)};
    intune_says(&s, NOT_TAKEN);
    for (size_t i = 0; i < COUNT(STATES); i++) {
        prepare(&s, STATES[i]);
        gate_age(&s.gate, 10 * 86400);
        claim(&s);
        report_it(&s);
        assert_int_equal(s.report.verdict, JOURNAL_RETRY);
        gate_age(&s.gate, 86000);
        claim(&s);
        report_it(&s);
        assert_int_equal(s.report.verdict, JOURNAL_RETRY);
        gate_age(&s.gate, 500);
        claim(&s);
        report_it(&s);
        assert_int_equal(s.report.verdict, JOURNAL_GIVEN_UP);
        assert_int_equal(s.row->tries, 3);
    }
}

static void back_off(void **state)
{
    sending_t s = {.gate = gate_begin(state)};
    intune_says(&s, NOT_TAKEN);
    prepare(&s, JOURNAL_ISSUED);
    int spread = 0;
    for (int tries = 1; tries <= 30; tries++) {
        /* 5 s, 10 s … 15 minutes, give or take a fifth. */
        long long middle = tries < 9 ? 5000LL << (tries - 1) : 900000;
        middle = middle < 900000 ? middle : 900000;
        raw_run(s.gate.raw, "UPDATE iscep_journal SET tries = %d", tries - 1);
        claim(&s);
        assert_int_equal(s.row->tries, tries);
        report_it(&s);
        int due = gate_milliseconds(&s.gate, "due");
        if (due < middle * 4 / 5 - 2000 || due > middle * 6 / 5 + 100) {
            fail_msg("try %d: due in %d ms, expected about %lld", tries, due, middle);
        }
        spread |= due > middle ? 1 : 2;
    }
    assert_int_equal(spread, 3);
}

/* What Intune asks for counts where it is longer, and only then. */
static void retry_after(void **state)
{
    sending_t s = {.gate = gate_begin(state)};
    for (int i = 0; i < 2; i++) {
        fixture_on(s.gate.bed->server, "/svc/ScepActions/", NULL, -1,
                   (fixture_reply_t){429, i ? "Retry-After: 100\r\n" : "Retry-After: 1\r\n", "{}", 0, 0, false});
        prepare(&s, JOURNAL_ISSUED);
        claim(&s);
        report_it(&s);
        int due = gate_milliseconds(&s.gate, "due");
        if (due < (i ? 95000 : 2000) || due > (i ? 101000 : 12100)) {
            fail_msg("due in %d ms", due);
        }
    }
}

/* Each try has the same client-request-id, the row's. */
static void one_request_id(void **state)
{
    sending_t s = {.gate = gate_begin(state)};
    prepare(&s, JOURNAL_ISSUED);
    intune_says(&s, NOT_TAKEN);
    const char *id = gate_column(&s.gate, "request_id");
    for (int i = 0; i < 3; i++) {
        claim(&s);
        report_it(&s);
        assert_string_equal(s.report.request_id, id);
        const fixture_seen_t *seen = fixture_last(s.gate.bed->server, GATE_SUCCESS_PATH, "AB12");
        assert_string_equal(fixture_header(seen, "client-request-id", s.gate.bed->pool), id);
    }
    s.report.row = NULL;
    report_it(&s);
    assert_string_not_equal(s.report.request_id, id);
}

static void possibly_accepted(void **state)
{
    sending_t s = {.gate = gate_begin(state)};
    intune_says(&s, REFUSED);
    for (int before = 0; before < 2; before++) {
        prepare(&s, JOURNAL_ISSUED);
        raw_run(s.gate.raw, "UPDATE iscep_journal SET tries = %d", before);
        claim(&s);
        report_it(&s);
        const char *detail = gate_column(&s.gate, "event_detail");
        assert_int_equal(strstr(detail, "possibly accepted") != NULL, before);
        assert_non_null(strstr(detail, "code Duplicate"));
    }
}

/* The row cannot be written, or has gone to somebody else: what Intune said stands, and the caller knows that it is nowhere. */
static void not_settled(void **state)
{
    sending_t s = {.gate = gate_begin(state)};
    prepare(&s, JOURNAL_ISSUED);
    intune_says(&s, TAKEN);
    claim(&s);
    gate_break(&s.gate, GATE_SETTLE);
    assert_int_equal(report_it(&s), APR_SUCCESS);
    assert_false(s.report.is_settled);
    assert_string_equal(gate_row(&s.gate), "issued/success");
    assert_int_equal(bed_logged(s.gate.bed, "ISCEP0409"), 1);
    gate_mend(&s.gate);

    intune_says(&s, REFUSED);
    claim(&s);
    gate_take_over(&s.gate);
    assert_int_not_equal(report_it(&s), APR_SUCCESS);
    assert_false(s.report.is_settled);
    assert_string_equal(gate_row(&s.gate), "issued/success");
    assert_int_equal(bed_logged(s.gate.bed, "ISCEP0409"), 1);

    /* That it is taken is a fact about the certificate, whoever has the row. */
    intune_says(&s, TAKEN);
    assert_int_equal(report_it(&s), APR_SUCCESS);
    assert_true(s.report.is_settled);
    assert_string_equal(gate_row(&s.gate), "issued/done");
}

/* While none is taken, one probe at a time goes, after pauses of 1 s to 10 s. */
static void trouble(void **state)
{
    sending_t s = {.gate = gate_begin(state)};
    apr_pool_t *pool = s.gate.bed->pool;
    apr_interval_time_t passed = 0;
    assert_true(report_may_go(&s.gate.profile, pool));
    intune_says(&s, NOT_TAKEN);
    s.report.row = NULL;
    prepare(&s, JOURNAL_ISSUED);
    for (int i = 0; i < 6; i++) {
        static const int PAUSES[] = {1, 2, 4, 8, 10, 10};
        report_it(&s);
        report_it(&s); /* many fail at once: one failure */
        clock_shift(passed + apr_time_from_msec(PAUSES[i] * 1000 - 500));
        assert_false(report_may_go(&s.gate.profile, pool));
        passed += apr_time_from_msec(PAUSES[i] * 1000 + 100);
        clock_shift(passed);
        assert_true(report_may_go(&s.gate.profile, pool));
        assert_false(report_may_go(&s.gate.profile, pool)); /* another process */
    }
    /* With a clock that is set back by hours it is as if nothing had failed yet. */
    clock_shift(passed - apr_time_from_sec(7200));
    assert_true(report_may_go(&s.gate.profile, pool));
    report_it(&s);
    assert_false(report_may_go(&s.gate.profile, pool));
    clock_shift(passed - apr_time_from_sec(7200) + apr_time_from_msec(1100));
    assert_true(report_may_go(&s.gate.profile, pool));
    assert_false(report_may_go(&s.gate.profile, pool));
    profile_t other = s.gate.profile;
    other.name = "other";
    assert_true(report_may_go(&other, pool));
    other = s.gate.profile;
    other.cache = NULL;
    assert_true(report_may_go(&other, pool));
}

/* Once one is answered, all that were put off are due; and that is so after the longest pause, too. But one failure alone
 * was no outage. */
static void trouble_ends(void **state)
{
    static const struct {
        const char *name;
        const answer_t *answer;
        int failures;
        int later; /* seconds */
        bool forward;
    } CASES[] = {{"ok/taken", &TAKEN, 2, 20, true},
                 {"ok/refused", &REFUSED, 2, 20, true},
                 {"fail/taken after one failure", &TAKEN, 1, 20, false},
                 {"fail/not taken", &NOT_TAKEN, 2, 20, false},
                 {"ok/taken after the longest pause of one report", &TAKEN, 2, 1100, true}};
    sending_t s = {.gate = gate_begin(state)};
    for (size_t i = 0; i < COUNT(CASES); i++) {
        clock_shift(0);
        prepare(&s, JOURNAL_FAILED);
        intune_says(&s, NOT_TAKEN);
        for (int failures = 0; failures < CASES[i].failures; failures++) {
            clock_shift(apr_time_from_sec(2 * failures));
            claim(&s);
            report_it(&s);
        }
        assert_true(raw_number(s.gate.raw, "SELECT COUNT(*) FROM iscep_journal WHERE due > updated + 1000"));
        int lines = bed_logged(s.gate.bed, "ISCEP0408");
        clock_shift(apr_time_from_sec(CASES[i].later));
        intune_says(&s, *CASES[i].answer);
        s.report.row = NULL;
        report_it(&s);
        bool forward = !raw_number(s.gate.raw, "SELECT COUNT(*) FROM iscep_journal WHERE due > updated + 1000");
        if (forward != CASES[i].forward || bed_logged(s.gate.bed, "ISCEP0408") - lines != (forward ? 1 : 0)) {
            fail_msg("%s", CASES[i].name);
        }
        assert_true(!forward || report_may_go(&s.gate.profile, s.gate.bed->pool));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {GATE_TEST_JOURNALED(verdicts),
                                       GATE_TEST_JOURNALED(the_limit_begins_with_the_first_try),
                                       GATE_TEST_JOURNALED(back_off),
                                       GATE_TEST_JOURNALED(retry_after),
                                       GATE_TEST_JOURNALED(one_request_id),
                                       GATE_TEST_JOURNALED(possibly_accepted),
                                       GATE_TEST_JOURNALED(not_settled),
                                       GATE_TEST_JOURNALED(trouble),
                                       GATE_TEST_JOURNALED(trouble_ends)};
    if (gate_start()) {
        return 1;
    }
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    gate_end();
    return failed;
}
