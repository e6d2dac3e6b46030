/* SPDX-License-Identifier: Apache-2.0 */
/* gateway/ with a journal that fails at some step, or whose row goes to somebody else meanwhile: nothing is delivered or said
 * for good that is not written, and a certificate that nobody gets is told with its serial. */
#include "base/clock.h"

#include "gateway_fixture.h"

#include <apr_strings.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void ca_issues(gate_t *gate)
{
    gate_answer(gate, gate_certrep(gate, gate_leaf(gate_pki->device_key)));
}

/* "come back", and not a word more. */
static void assert_come_back(gate_t *gate, problem_t problem)
{
    if (gate->t->result->problem != problem || gate->t->reply.http_status != 503) {
        fail_msg("%s: %s, HTTP %d", problem_facts(gate->t->result->problem)->name,
                 gate->t->result->detail ? gate->t->result->detail : "", gate->t->reply.http_status);
    }
}

static void assert_orphan(gate_t *gate, int lines)
{
    assert_int_equal(bed_logged(gate->bed, "ISCEP0405"), lines);
    assert_int_equal(bed_logged(gate->bed, apr_pstrcat(gate->bed->pool, "serial ", gate->t->answer->facts.serial, NULL)) > 0, 1);
}

/* Before the CA: without its row nothing is sent. */
static void no_intent(void **state)
{
    gate_t gate = gate_begin(state);
    bytes_t message = gate_message(&gate, GATE_CHALLENGE);
    gate_journal_away(&gate, true);
    assert_int_not_equal(gate_enroll(&gate, message), APR_SUCCESS);
    assert_come_back(&gate, PROBLEM_JOURNAL_UNAVAILABLE);
    assert_int_equal(fixture_count(gate.bed->server, "/", NULL), 0);
    gate_journal_away(&gate, false);

    gate_break(&gate, GATE_BEGIN);
    assert_int_not_equal(gate_enroll(&gate, message), APR_SUCCESS);
    assert_come_back(&gate, PROBLEM_JOURNAL_UNAVAILABLE);
    assert_null(gate.t->relay);
    assert_string_equal(gate_row(&gate), "");
    gate_mend(&gate);

    gate_journal_locked(&gate, true);
    assert_int_not_equal(gate_enroll(&gate, message), APR_SUCCESS);
    assert_come_back(&gate, PROBLEM_JOURNAL_UNAVAILABLE);
    gate_journal_locked(&gate, false);

    assert_int_equal(gate_enroll(&gate, message), APR_SUCCESS);
    transaction_failed(gate.t, PROBLEM_CA_TIMEOUT, "silent");
    gate_break(&gate, GATE_CLAIM);
    assert_int_not_equal(gate_enroll(&gate, message), APR_SUCCESS);
    assert_come_back(&gate, PROBLEM_JOURNAL_UNAVAILABLE);
    assert_null(gate.t->relay);
    assert_string_equal(gate_row(&gate), "unknown/failure");
    assert_int_equal(gate_reports(&gate), 0);
}

/* After the CA: a certificate that cannot be written is not delivered, nor reported, and its serial is in the log. */
static void no_outcome(void **state)
{
    static const struct {
        const char *name, *reason;
        bool away, locked;
    } CASES[] = {{"fail/statement", "the test breaks it", false, false},
                 {"fail/table", "no such table", true, false},
                 {"fail/locked", "locked", false, true}};
    gate_t gate = gate_begin(state);
    for (size_t i = 0; i < COUNT(CASES); i++) {
        raw_run(gate.raw, "DELETE FROM iscep_journal");
        gate_enrolled(&gate);
        if (CASES[i].away) {
            gate_journal_away(&gate, true);
        } else if (CASES[i].locked) {
            gate_journal_locked(&gate, true);
        } else {
            gate_break(&gate, GATE_OUTCOME);
        }
        ca_issues(&gate);
        if (CASES[i].away) {
            gate_journal_away(&gate, false);
        } else if (CASES[i].locked) {
            gate_journal_locked(&gate, false);
        }
        gate_mend(&gate);
        assert_come_back(&gate, PROBLEM_NOT_JOURNALED);
        assert_orphan(&gate, (int)i + 1);
        /* The reason, since the line names the certificate by itself. */
        assert_null(strstr(gate.t->result->detail, gate.t->answer->facts.serial));
        if (!strstr(gate.t->result->detail, CASES[i].reason)) {
            fail_msg("%s: %s", CASES[i].name, gate.t->result->detail);
        }
        assert_int_equal(gate_reports(&gate), 0);
        assert_string_equal(gate_row(&gate), "intent/failure");
        /* The row is driven on once its lease is over. */
        gate_lease_ends(&gate);
        gate_enrolled(&gate);
        ca_issues(&gate);
        assert_string_equal(gate_reply(&gate)->status, "0");
        fixture_forget(gate.bed->server);
    }
}

/* A refusal of the CA's that cannot be written is not told either: neither to the device nor to Intune. */
static void no_outcome_of_a_failure(void **state)
{
    gate_t gate = gate_begin(state);
    gate_enrolled(&gate);
    gate_break(&gate, GATE_OUTCOME);
    gate_answer(&gate, gate_refusal(&gate));
    assert_come_back(&gate, PROBLEM_NOT_JOURNALED);
    assert_int_equal(gate_reports(&gate), 0);
    assert_int_equal(bed_logged(gate.bed, "ISCEP0405"), 0);
    gate_mend(&gate);

    gate_lease_ends(&gate);
    gate_enrolled(&gate);
    gate_break(&gate, GATE_OUTCOME);
    gate_answer(&gate, gate_pending(&gate));
    assert_come_back(&gate, PROBLEM_NOT_JOURNALED);
    assert_false(gate.t->pending);
}

/* Somebody else has the row when the CA answers. */
static void taken_over(void **state)
{
    gate_t gate = gate_begin(state);
    gate_enrolled(&gate);
    gate_take_over(&gate);
    ca_issues(&gate);
    assert_come_back(&gate, PROBLEM_TAKEN_OVER);
    assert_orphan(&gate, 1);
    assert_string_equal(gate_column(&gate, "event"), "orphan");
    assert_non_null(strstr(gate_column(&gate, "event_detail"), gate.t->answer->facts.serial));
    assert_int_equal(gate_reports(&gate), 0);
    assert_string_equal(gate_row(&gate), "intent/failure");

    /* A refusal changes nothing of his, and Intune hears nothing. */
    raw_run(gate.raw, "DELETE FROM iscep_journal");
    gate_enrolled(&gate);
    gate_take_over(&gate);
    gate_answer(&gate, gate_refusal(&gate));
    assert_come_back(&gate, PROBLEM_TAKEN_OVER);
    assert_int_equal(bed_logged(gate.bed, "ISCEP0405"), 1);
    assert_string_equal(gate_row(&gate), "intent/failure");
    assert_int_equal(gate_reports(&gate), 0);
    assert_null(gate_column(&gate, "event"));

    /* The event cannot be written: there is the line. */
    raw_run(gate.raw, "DELETE FROM iscep_journal");
    gate_enrolled(&gate);
    gate_take_over(&gate);
    gate_break(&gate, GATE_RAISE);
    ca_issues(&gate);
    assert_come_back(&gate, PROBLEM_TAKEN_OVER);
    assert_orphan(&gate, 2);
}

/* Who had it has given up, or got no certificate: the late one is taken in, reported and delivered. */
static void late_and_adopted(void **state)
{
    static const char *const STATES[] = {"intent", "unknown", "failed", "pending"};
    gate_t gate = gate_begin(state);
    for (size_t i = 0; i < COUNT(STATES); i++) {
        raw_run(gate.raw, "DELETE FROM iscep_journal");
        fixture_forget(gate.bed->server);
        gate_enrolled(&gate);
        gate_take_over(&gate);
        gate_lease_ends(&gate);
        raw_run(gate.raw, "UPDATE iscep_journal SET state = '%s'", STATES[i]);
        ca_issues(&gate);
        if (strcmp(gate_row(&gate), "issued/done")) {
            fail_msg("%s: %s", STATES[i], gate_row(&gate));
        }
        assert_string_equal(gate_reply(&gate)->status, "0");
        assert_int_equal(fixture_count(gate.bed->server, GATE_SUCCESS_PATH, gate.t->answer->facts.thumbprint), 1);
        assert_string_equal(gate_column(&gate, "cert_fp"), gate.t->answer->facts.thumbprint);
    }
    assert_int_equal(bed_logged(gate.bed, "ISCEP0405"), 0);

    raw_run(gate.raw, "DELETE FROM iscep_journal");
    gate_enrolled(&gate);
    gate_take_over(&gate);
    gate_lease_ends(&gate);
    gate_break(&gate, GATE_ADOPT);
    ca_issues(&gate);
    assert_come_back(&gate, PROBLEM_NOT_JOURNALED);
    assert_orphan(&gate, 1);
}

/* Somebody else was quicker with the very same certificate, as a CA gives it to who asks twice: it is nobody's orphan. */
static void late_but_known(void **state)
{
    gate_t gate = gate_begin(state);
    gate_t slow[2];
    X509 *leaf = gate_leaf(gate_pki->device_key);
    for (size_t i = 0; i < COUNT(slow); i++) {
        gate_enrolled(&gate);
        slow[i] = gate;
        gate_take_over(&gate);
        gate_lease_ends(&gate);
    }
    gate_enrolled(&gate);
    gate_answer(&gate, gate_certrep(&gate, leaf));
    assert_string_equal(gate_reply(&gate)->status, "0");
    gate_answer(&slow[0], gate_certrep(&slow[0], leaf));
    assert_come_back(&slow[0], PROBLEM_COME_BACK);
    assert_int_equal(bed_logged(gate.bed, "ISCEP0405"), 0);
    assert_null(gate_column(&gate, "event"));
    /* Another one is. */
    ca_issues(&slow[1]);
    assert_come_back(&slow[1], PROBLEM_TAKEN_OVER);
    assert_orphan(&slow[1], 1);
    assert_string_equal(gate_row(&gate), "issued/done");
    assert_string_equal(gate_column(&gate, "cert_fp"), gate.t->facts.thumbprint);
}

/* The row goes, or the database fails, while Intune has the report. */
static void after_the_report(void **state)
{
    static const struct {
        const char *name, *step;
        int http_status;
        const char *code;
        problem_t problem; /* PROBLEM_NONE: delivered */
        const char *row;
    } CASES[] = {
        {"ok/taken, stolen", GATE_STEAL, 200, "Success", PROBLEM_NONE, "issued/done"},
        {"ok/taken, not written", GATE_SETTLE, 200, "Success", PROBLEM_NONE, "issued/success"},
        /* A refusal for good is told once it is on the disk. */
        {"fail/refused, stolen", GATE_STEAL, 200, "No", PROBLEM_REPORT_UNAVAILABLE, "issued/success"},
        {"fail/refused, not written", GATE_SETTLE, 200, "No", PROBLEM_REPORT_UNAVAILABLE, "issued/success"},
        {"fail/not taken, stolen", GATE_STEAL, 503, NULL, PROBLEM_REPORT_UNAVAILABLE, "issued/success"},
        {"fail/not taken, not written", GATE_SETTLE, 503, NULL, PROBLEM_REPORT_UNAVAILABLE, "issued/success"},
    };
    gate_t gate = gate_begin(state);
    for (size_t i = 0; i < COUNT(CASES); i++) {
        raw_run(gate.raw, "DELETE FROM iscep_journal");
        gate_intune(&gate, GATE_SUCCESS_PATH, CASES[i].http_status, CASES[i].code);
        gate_enrolled(&gate);
        gate_break(&gate, CASES[i].step);
        ca_issues(&gate);
        gate_mend(&gate);
        if (gate.t->result->problem != CASES[i].problem || strcmp(gate_row(&gate), CASES[i].row)) {
            fail_msg("%s: %s, row %s", CASES[i].name, problem_facts(gate.t->result->problem)->name, gate_row(&gate));
        }
        if (CASES[i].problem == PROBLEM_NONE) {
            assert_string_equal(gate_reply(&gate)->status, "0");
        } else {
            assert_int_equal(gate.t->reply.http_status, 503);
        }
    }
    assert_int_equal(bed_logged(gate.bed, "ISCEP0405"), 0);
}

/* A failure was written before Intune was told: what becomes of the report is nothing to the device. */
static void after_the_report_of_a_failure(void **state)
{
    static const char *const STEPS[] = {GATE_STEAL, GATE_SETTLE};
    gate_t gate = gate_begin(state);
    for (size_t i = 0; i < COUNT(STEPS); i++) {
        raw_run(gate.raw, "DELETE FROM iscep_journal");
        gate_enrolled(&gate);
        gate_break(&gate, STEPS[i]);
        gate_answer(&gate, gate_refusal(&gate));
        gate_mend(&gate);
        assert_string_equal(gate_reply(&gate)->status, "2");
        assert_string_equal(gate_reply(&gate)->fail_info, "4");
        assert_string_equal(gate_row(&gate), "failed/failure");
    }
}

/* While somebody is at it a copy waits, and then is told to come back; a row that vanishes meanwhile is begun anew, as a
 * PKCSReq whatever the last step was about to do. */
static void copies(void **state)
{
    gate_t gate = gate_begin(state);
    gate_enrolled(&gate);
    apr_time_t before = apr_time_now();
    assert_int_not_equal(gate_enroll(&gate, gate_message(&gate, GATE_CHALLENGE)), APR_SUCCESS);
    assert_true(apr_time_now() - before >= apr_time_from_sec(4));
    assert_come_back(&gate, PROBLEM_COME_BACK);
    assert_int_equal(gate.t->reply.retry_after, 5);
    assert_int_equal(fixture_count(gate.bed->server, BED_VALIDATE_PATH, NULL), 1);

    /* Another request of the same transactionID: not in the journal, so not to be polled for. */
    gate.profile.come_back = COME_BACK_PENDING;
    assert_int_not_equal(gate_enroll(&gate, gate_message(&gate, "MA8GCSqGSIb3DQEHAqACBQE=")), APR_SUCCESS);
    assert_come_back(&gate, PROBLEM_COME_BACK);
    assert_int_equal(raw_number(gate.raw, "SELECT COUNT(*) FROM iscep_journal"), 1);
}

static void a_pending_row_vanishes(void **state)
{
    gate_t gate = gate_begin(state);
    scep_identity_t former = *gate_pki->identity;
    gate_enrolled(&gate);
    gate_answer(&gate, gate_pending(&gate));
    gate.profile.former = &former;
    gate.profile.former_fp = GATE_RA_FP;
    gate.profile.ra_fp = "4E4557";
    /* The claim finds nothing, for the row is gone as soon as it was read. */
    gate_break(&gate, GATE_VANISH);
    gate_enrolled(&gate);
    gate_mend(&gate);
    assert_int_equal(gate.t->relay->type, SCEP_PKCSREQ);
    assert_false(gate.t->polling);
    assert_ptr_equal(gate.t->ra, gate_pki->identity);
    assert_string_equal(gate_column(&gate, "ra_fp"), "4E4557");
    ca_issues(&gate);
    assert_string_equal(gate_reply(&gate)->status, "0");
}

/* The RA that asked asks again, as long as the row is about what it asked. */
static void the_former_ra_asks_on(void **state)
{
    gate_t gate = gate_begin(state);
    scep_identity_t former = *gate_pki->identity;
    gate.profile.resync = RESYNC_POLL;
    gate_enrolled(&gate);
    transaction_failed(gate.t, PROBLEM_CA_TIMEOUT, "silent");
    gate.profile.former = &former;
    gate.profile.former_fp = GATE_RA_FP;
    gate.profile.ra_fp = "4E4557";
    for (int i = 0; i < 2; i++) {
        assert_int_equal(gate_enroll(&gate, gate_message(&gate, GATE_CHALLENGE)), APR_SUCCESS);
        assert_true(gate.t->polling);
        assert_ptr_equal(gate.t->ra, &former);
        gate_answer(&gate, gate_pending(&gate));
        assert_string_equal(gate_row(&gate), "pending/failure");
        assert_string_equal(gate_column(&gate, "ra_fp"), GATE_RA_FP);
    }
}

/* A poll that cannot be made does not undo that the CA may have issued: it is polled for again, and not asked anew. */
static void no_poll_can_be_made(void **state)
{
    gate_t gate = gate_begin(state);
    scep_identity_t former = *gate_pki->identity;
    gate.profile.resync = RESYNC_POLL;
    gate_enrolled(&gate);
    transaction_failed(gate.t, PROBLEM_CA_TIMEOUT, "silent");
    former.ra_key = gate_pki->other_key;
    gate.profile.former = &former;
    gate.profile.former_fp = GATE_RA_FP;
    gate.profile.ra_fp = "4E4557";
    assert_int_not_equal(gate_enroll(&gate, gate_message(&gate, GATE_CHALLENGE)), APR_SUCCESS);
    assert_come_back(&gate, PROBLEM_INTERNAL);
    assert_null(gate.t->relay);
    assert_string_equal(gate_row(&gate), "unknown/failure");
    former.ra_key = gate_pki->ra_key;
    assert_int_equal(gate_enroll(&gate, gate_message(&gate, GATE_CHALLENGE)), APR_SUCCESS);
    assert_int_equal(gate.t->relay->type, SCEP_CERTPOLL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        GATE_TEST_JOURNALED(no_intent),
        GATE_TEST_JOURNALED(no_outcome),
        GATE_TEST_JOURNALED(no_outcome_of_a_failure),
        GATE_TEST_JOURNALED(taken_over),
        GATE_TEST_JOURNALED(late_and_adopted),
        GATE_TEST_JOURNALED(late_but_known),
        GATE_TEST_JOURNALED(after_the_report),
        GATE_TEST_JOURNALED(after_the_report_of_a_failure),
        GATE_TEST_JOURNALED(copies),
        GATE_TEST_JOURNALED(a_pending_row_vanishes),
        GATE_TEST_JOURNALED(the_former_ra_asks_on),
        GATE_TEST_JOURNALED(no_poll_can_be_made),
    };
    if (gate_start()) {
        return 1;
    }
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    gate_end();
    return failed;
}
