/* SPDX-License-Identifier: Apache-2.0 */
#include "journal_fixture.h"

#include "base/clock.h"
#include "base/text.h"

#include <apr_strings.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define SECONDS(n) apr_time_from_sec(n)
#define CERTIFICATE_FP "AB12"

static apr_status_t begin(journal_bed_t *bed, const journal_intent_t *intent, journal_row_t **row)
{
    const char *message = "";
    return journal_begin(bed->journal, intent, row, bed->pool, &message);
}

static apr_status_t claim(journal_bed_t *bed, journal_row_t **row, journal_purpose_t purpose)
{
    const char *message = "";
    journal_intent_t intent = journal_bed_intent(bed, (*row)->transaction_id, "csr of the claim");
    intent.id = (*row)->id;
    return journal_claim(bed->journal, row, purpose, &intent, bed->pool, &message);
}

static journal_outcome_t outcome_of(journal_state_t state)
{
    journal_outcome_t outcome = {.state = state, .due_in = SECONDS(30)};
    if (state == JOURNAL_ISSUED) {
        outcome.certificate = bytes_of_text("certificate");
        outcome.certificate_fp = CERTIFICATE_FP;
        outcome.serial = "5E41A1";
        outcome.report_now = true;
        outcome.lease = SECONDS(60);
    } else if (state != JOURNAL_PENDING) {
        outcome.fail = "the CA said no";
    }
    return outcome;
}

static apr_status_t outcome(journal_bed_t *bed, journal_row_t **row, journal_state_t state)
{
    const char *message = "";
    journal_outcome_t said = outcome_of(state);
    return journal_outcome(bed->journal, row, &said, bed->pool, &message);
}

static apr_status_t settle(journal_bed_t *bed, journal_row_t **row, journal_verdict_t verdict, journal_state_t state)
{
    const char *message = "";
    journal_settlement_t settlement = {.verdict = verdict, .state = state, .due_in = SECONDS(30)};
    return journal_settle(bed->journal, row, &settlement, bed->pool, &message);
}

static journal_row_t *issued_row(journal_bed_t *bed, const char *transaction)
{
    journal_row_t *row = journal_bed_row(bed, transaction);
    assert_int_equal(outcome(bed, &row, JOURNAL_ISSUED), APR_SUCCESS);
    return row;
}

/* A process id that nobody has. */
static long dead_process(void)
{
    pid_t child = fork();
    if (!child) {
        _exit(0);
    }
    waitpid(child, NULL, 0);
    return child;
}

static void lease_ends(journal_bed_t *bed, const char *id)
{
    raw_t *raw = raw_open(bed);
    raw_run(raw, "UPDATE iscep_journal SET lease_until = 0 WHERE id = '%s'", id);
    raw_close(raw);
}

static void ids_tell_apart(void **state)
{
    static const struct {
        const char *location, *transaction, *info;
    } rows[] = {{"a", "b", "c"}, {"ab", "", "c"}, {"a", "bc", ""}, {"", "ab", "c"}, {"a", "b", "C"}, {"A", "b", "c"}};
    enum { COUNT = sizeof(rows) / sizeof(rows[0]) };
    const char *ids[COUNT];
    journal_bed_t *bed = journal_bed(state);
    for (int i = 0; i < COUNT; i++) {
        ids[i] = journal_id(rows[i].location, rows[i].transaction, bytes_of_text(rows[i].info), bed->pool);
        assert_int_equal(strlen(ids[i]), 64);
        for (int n = 0; n < i; n++) {
            assert_string_not_equal(ids[i], ids[n]);
        }
    }
    /* Computed by hand: rows are found again by it. */
    assert_string_equal(ids[0], "DB0A8B920D42F074B0A75E382383D31FE730DD7D49E915A452F71B020E8417DC");
}

static void begin_makes_what_it_says(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    journal_intent_t intent = journal_bed_intent(bed, "T1", "the request");
    journal_row_t *row = NULL;
    assert_int_equal(begin(bed, &intent, &row), APR_SUCCESS);
    const journal_row_t *rows[] = {row, journal_bed_find(bed, intent.id)};
    for (int i = 0; i < 2; i++) {
        assert_string_equal(rows[i]->id, intent.id);
        assert_string_equal(rows[i]->location, "profile");
        assert_string_equal(rows[i]->transaction_id, "T1");
        assert_string_equal(rows[i]->key_fp, intent.key_fp);
        assert_string_equal(rows[i]->ra_fp, intent.ra_fp);
        assert_string_equal(rows[i]->request_id, intent.request_id);
        assert_int_equal(rows[i]->state, JOURNAL_INTENT);
        assert_int_equal(rows[i]->report, JOURNAL_OWED_FAILURE);
        assert_true(rows[i]->leased);
        assert_false(rows[i]->owner_gone);
        assert_in_range(rows[i]->due_in, SECONDS(115), SECONDS(120));
        assert_int_equal(rows[i]->tries, 0);
        assert_true(bytes_equal(rows[i]->csr, bytes_of_text("the request")));
        assert_int_equal(rows[i]->certificate.len, 0);
        assert_null(rows[i]->certificate_fp);
        assert_null(rows[i]->serial);
        assert_null(rows[i]->fail);
        assert_null(rows[i]->node);
        assert_null(rows[i]->event);
        assert_null(rows[i]->event_detail);
        assert_in_range(rows[i]->age, 0, SECONDS(5));
        assert_in_range(rows[i]->idle, 0, SECONDS(5));
        assert_string_equal(rows[i]->owner, row->owner);
    }
}

static void begin_refuses_a_second(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    journal_row_t *row = NULL;
    journal_intent_t first = journal_bed_intent(bed, "T1", "the request");
    journal_intent_t other = journal_bed_intent(bed, "T1", "another request");
    journal_intent_t third = journal_bed_intent(bed, "T1", "a third request");
    assert_int_equal(begin(bed, &first, &row), APR_SUCCESS);
    assert_int_equal(begin(bed, &first, &row), APR_EEXIST);
    assert_int_equal(begin(bed, &other, &row), APR_EEXIST);
    /* Another location's is none of its business. */
    journal_intent_t elsewhere = other;
    elsewhere.location = "elsewhere";
    elsewhere.id = journal_id("elsewhere", "T1", other.csr, bed->pool);
    journal_row_t *there = NULL;
    assert_int_equal(begin(bed, &elsewhere, &there), APR_SUCCESS);
    /* Once the first is decided, the other is a transaction of its own; the same never. */
    assert_int_equal(outcome(bed, &row, JOURNAL_FAILED), APR_SUCCESS);
    assert_int_equal(begin(bed, &first, &row), APR_EEXIST);
    assert_int_equal(begin(bed, &other, &row), APR_SUCCESS);
    assert_int_equal(begin(bed, &third, &row), APR_EEXIST);
    /* And once nobody is at it. */
    lease_ends(bed, other.id);
    assert_int_equal(begin(bed, &third, &row), APR_SUCCESS);
}

static void a_poll_finds_its_row(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    const char *message = "";
    journal_row_t *row = NULL;
    journal_intent_t first = journal_bed_intent(bed, "T1", "the request");
    journal_intent_t second = journal_bed_intent(bed, "T1", "another request");
    assert_int_equal(begin(bed, &first, &row), APR_SUCCESS);
    journal_release(bed->journal, row, bed->pool);
    apr_sleep(apr_time_from_msec(20));
    assert_int_equal(begin(bed, &second, &row), APR_SUCCESS);
    assert_int_equal(journal_find_poll(bed->journal, "profile", "T1", first.key_fp, &row, bed->pool, &message), 0);
    assert_string_equal(row->id, second.id);
    assert_int_equal(journal_find_poll(bed->journal, "profile", "T1", "00", &row, bed->pool, &message), APR_NOTFOUND);
    assert_int_equal(journal_find_poll(bed->journal, "other", "T1", "00", &row, bed->pool, &message), APR_NOTFOUND);
    assert_int_equal(journal_find(bed->journal, "T1", &row, bed->pool, &message), APR_NOTFOUND);
}

static void leases_run_by_the_databases_clock(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    journal_row_t *row = NULL;
    journal_intent_t intent = journal_bed_intent(bed, "T1", "the request");
    intent.lease = apr_time_from_msec(700);
    assert_int_equal(begin(bed, &intent, &row), APR_SUCCESS);
    clock_shift(SECONDS(3600));
    row = journal_bed_find(bed, intent.id);
    assert_true(row->leased);
    assert_int_equal(claim(bed, &row, JOURNAL_TO_ISSUE), APR_EBUSY);
    apr_sleep(apr_time_from_msec(800));
    row = journal_bed_find(bed, intent.id);
    assert_false(row->leased);
    assert_int_equal(claim(bed, &row, JOURNAL_TO_ISSUE), APR_SUCCESS);
    assert_true(journal_bed_find(bed, intent.id)->leased);
}

/* What a statement needs of the row, as docs/journal.md has it. Everything else must change nothing. */
typedef enum situation_t { OVER = 1, RUNNING = 2, GONE = 4, ANY = 7 } situation_t;

typedef struct act_t {
    const char *name;
    apr_status_t (*run)(journal_bed_t *bed, journal_row_t **row);
    const char *states;     /* in which it is done */
    unsigned situations;    /* of the lease */
    bool fenced;            /* only by the owner that was read */
    const char *after;      /* state and report; "=": as it was */
} act_t;

static apr_status_t act_issue(journal_bed_t *bed, journal_row_t **row)
{
    return claim(bed, row, JOURNAL_TO_ISSUE);
}

static apr_status_t act_poll(journal_bed_t *bed, journal_row_t **row)
{
    return claim(bed, row, JOURNAL_TO_POLL);
}

static apr_status_t act_report(journal_bed_t *bed, journal_row_t **row)
{
    return claim(bed, row, JOURNAL_TO_REPORT);
}

static apr_status_t act_issued(journal_bed_t *bed, journal_row_t **row)
{
    return outcome(bed, row, JOURNAL_ISSUED);
}

static apr_status_t act_failed(journal_bed_t *bed, journal_row_t **row)
{
    return outcome(bed, row, JOURNAL_FAILED);
}

static apr_status_t act_unknown(journal_bed_t *bed, journal_row_t **row)
{
    return outcome(bed, row, JOURNAL_UNKNOWN);
}

static apr_status_t act_pending(journal_bed_t *bed, journal_row_t **row)
{
    return outcome(bed, row, JOURNAL_PENDING);
}

static apr_status_t act_adopt(journal_bed_t *bed, journal_row_t **row)
{
    const char *message = "";
    journal_outcome_t late = outcome_of(JOURNAL_ISSUED);
    return journal_adopt(bed->journal, row, &late, bytes_of_text("late csr"), bed->pool, &message);
}

static journal_state_t after_failure(const journal_row_t *row)
{
    return row->report == JOURNAL_OWED_FAILURE ? JOURNAL_FAILED : row->state;
}

static apr_status_t act_accepted(journal_bed_t *bed, journal_row_t **row)
{
    return settle(bed, row, JOURNAL_ACCEPTED, after_failure(*row));
}

static apr_status_t act_refused(journal_bed_t *bed, journal_row_t **row)
{
    return settle(bed, row, JOURNAL_REFUSAL, JOURNAL_WITHHELD);
}

static apr_status_t act_retry(journal_bed_t *bed, journal_row_t **row)
{
    return settle(bed, row, JOURNAL_RETRY, (*row)->state);
}

static apr_status_t act_given_up(journal_bed_t *bed, journal_row_t **row)
{
    return settle(bed, row, JOURNAL_GIVEN_UP, (*row)->state);
}

static apr_status_t act_waive(journal_bed_t *bed, journal_row_t **row)
{
    const char *message = "";
    return journal_waive(bed->journal, (*row)->id, bed->pool, &message);
}

static apr_status_t act_again(journal_bed_t *bed, journal_row_t **row)
{
    const char *message = "";
    return journal_report_again(bed->journal, (*row)->id, bed->pool, &message);
}

static apr_status_t act_drop(journal_bed_t *bed, journal_row_t **row)
{
    const char *message = "";
    return journal_drop(bed->journal, (*row)->id, bed->pool, &message);
}

static const act_t ACTS[] = {
    {"claim to issue", act_issue, "intent unknown failed", OVER | GONE, true, "intent/failure"},
    {"claim to poll", act_poll, "pending", OVER | GONE, true, "pending/failure"},
    {"claim to report", act_report, "intent unknown pending failed issued", OVER | GONE, true, "="},
    {"outcome issued", act_issued, "intent pending", ANY, true, "issued/success"},
    {"outcome failed", act_failed, "intent pending", ANY, true, "failed/failure"},
    {"outcome unknown", act_unknown, "intent pending", ANY, true, "unknown/failure"},
    {"outcome pending", act_pending, "intent pending", ANY, true, "pending/failure"},
    {"adopt", act_adopt, "intent unknown pending failed", OVER, false, "issued/success"},
    {"accepted success", act_accepted, "issued", ANY, false, "issued/done"},
    {"accepted failure", act_accepted, "intent unknown pending failed", ANY, true, "failed/done"},
    {"refused", act_refused, "intent unknown pending failed issued", ANY, true, "withheld/refused"},
    {"retry", act_retry, "intent unknown pending failed issued", ANY, true, "="},
    {"given up", act_given_up, "issued", ANY, true, "issued/dead"},
    {"waive", act_waive, "withheld", OVER, false, "issued/waived"},
    {"report again", act_again, "withheld issued", OVER, false, "issued/success"},
    {"drop", act_drop, "intent unknown pending issued failed withheld", OVER, false, ""},
};

/* The whole row but the clock's columns, as text. */
static const char *dump(raw_t *raw, const char *id)
{
    return raw_text(raw,
                    "SELECT state || '/' || report || '|' || owner || '|' || CAST(tries AS TEXT) || '|' || request_id || '|' "
                    "|| COALESCE(csr, '-') || '|' || COALESCE(cert, '-') || '|' || COALESCE(cert_fp, '-') || '|' || "
                    "COALESCE(fail, '-') || '|' || ra_fp || '|' || CAST(due AS TEXT) || '|' || CAST(lease_until AS TEXT) "
                    "|| '|' || CAST(updated AS TEXT) FROM iscep_journal WHERE id = '%s'",
                    id);
}

static void put_row(journal_bed_t *bed, raw_t *raw, const char *id, journal_state_t state, unsigned situation, long dead)
{
    bool certificate = state == JOURNAL_ISSUED || state == JOURNAL_WITHHELD;
    const char *owner = situation == GONE ? apr_psprintf(bed->pool, "%s-%ld-AAAA", bed->settings.tag, dead)
                                          : apr_psprintf(bed->pool, "%s-%ld-AAAA", bed->settings.tag, (long)getpid());
    raw_run(raw,
            "UPDATE iscep_journal SET state = '%s', report = '%s', owner = '%s', lease_until = %s, due = 5, updated = 7%s "
            "WHERE id = '%s'",
            journal_state_name(state),
            journal_report_name(state == JOURNAL_ISSUED     ? JOURNAL_OWED_SUCCESS
                                : state == JOURNAL_WITHHELD ? JOURNAL_REFUSED
                                                            : JOURNAL_OWED_FAILURE),
            owner, situation == OVER ? "5" : apr_pstrcat(bed->pool, database_now(bed->kind), " + 60000", NULL),
            certificate ? ", cert = 'Y2VydA==', cert_fp = '" CERTIFICATE_FP "'" : ", cert = NULL, cert_fp = NULL", id);
}

static void try_act(journal_bed_t *bed, raw_t *raw, const act_t *act, journal_state_t state, unsigned situation,
                    bool stolen, long dead)
{
    const char *name = apr_psprintf(bed->pool, "%s, %s, lease %s%s", act->name, journal_state_name(state),
                                    situation == OVER      ? "over"
                                    : situation == RUNNING ? "running"
                                                           : "of a dead process",
                                    stolen ? ", somebody else's now" : "");
    bool may = strstr(act->states, journal_state_name(state)) && (act->situations & situation) &&
               !(act->fenced && stolen);
    const char *id = journal_bed_row(bed, name)->id;
    put_row(bed, raw, id, state, situation, dead);
    journal_row_t *row = journal_bed_find(bed, id);
    if (stolen) {
        raw_run(raw, "UPDATE iscep_journal SET owner = 'somebody else' WHERE id = '%s'", id);
    }
    const char *before = dump(raw, id);
    apr_status_t rv = act->run(bed, &row);
    const char *after = dump(raw, id);
    if (rv != (may ? APR_SUCCESS : APR_EBUSY)) {
        fail_msg("%s: gives %d", name, rv);
    }
    if (!may) {
        if (!after || strcmp(before, after)) {
            fail_msg("%s: changed\n%s to\n%s", name, before, after);
        }
        return;
    }
    apr_size_t same = strcspn(before, "|");
    const char *expected = *act->after == '=' ? apr_pstrmemdup(bed->pool, before, same) : act->after;
    if (!after ? *expected != 0 : strncmp(after, expected, strlen(expected)) != 0) {
        fail_msg("%s: %s, not %s", name, after ? after : "gone", expected);
    }
    /* Whoever claims and adopts has the row in his hands as the database has it. */
    if (after && !strstr("waive report again", act->name)) {
        const char *held = apr_psprintf(bed->pool, "%s/%s|%s|%d|", journal_state_name(row->state),
                                        journal_report_name(row->report), row->owner, row->tries);
        if (strncmp(after, held, strlen(held)) && !(stolen && !act->fenced)) {
            fail_msg("%s: held is %s, in the database %s", name, held, after);
        }
    }
}

static void transitions(void **state)
{
    static const unsigned situations[] = {OVER, RUNNING, GONE};
    journal_bed_t *bed = journal_bed(state);
    raw_t *raw = raw_open(bed);
    long dead = dead_process();
    if (bed->kind == DATABASE_SQLITE) {
        raw_run(raw, "PRAGMA synchronous = OFF");
    }
    for (size_t i = 0; i < sizeof(ACTS) / sizeof(ACTS[0]); i++) {
        for (int from = JOURNAL_INTENT; from <= JOURNAL_WITHHELD; from++) {
            /* The two words for a row that owes no success: settled either way they are one statement. */
            if (ACTS[i].run == act_accepted && (from == JOURNAL_ISSUED) != !strcmp(ACTS[i].states, "issued")) {
                continue;
            }
            /* "given up" and "again" are told for certificates here; for failures in tables of their own. */
            if ((ACTS[i].run == act_given_up || ACTS[i].run == act_again) && from != JOURNAL_ISSUED &&
                from != JOURNAL_WITHHELD) {
                continue;
            }
            for (int n = 0; n < 6; n++) {
                try_act(bed, raw, &ACTS[i], (journal_state_t)from, situations[n / 2], n % 2 != 0, dead);
            }
        }
    }
    raw_close(raw);
}

static int begin_and_die(journal_bed_t *bed, void *data)
{
    const char *message = "";
    journal_t *journal = NULL;
    journal_row_t *row = NULL;
    journal_settings_t settings = bed->settings;
    settings.tag = data ? data : settings.tag;
    journal_intent_t intent = journal_bed_intent(bed, data ? data : "T1", "the request");
    return journal_open(&journal, &settings, bed->pool, &message) ||
           journal_begin(journal, &intent, &row, bed->pool, &message);
}

static void the_dead_give_way(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    static char other[] = "FEDCBA9876543210";
    assert_int_equal(in_other_process(bed, begin_and_die, NULL), 0);
    assert_int_equal(in_other_process(bed, begin_and_die, other), 0);
    journal_row_t *ours = journal_bed_find(bed, journal_bed_intent(bed, "T1", "the request").id);
    journal_row_t *theirs = journal_bed_find(bed, journal_bed_intent(bed, other, "the request").id);
    assert_true(ours->leased);
    assert_true(ours->owner_gone);
    /* It may be another machine's. */
    assert_true(theirs->leased);
    assert_false(theirs->owner_gone);
    journal_row_t *before = ours;
    assert_int_equal(claim(bed, &ours, JOURNAL_TO_ISSUE), APR_SUCCESS);
    assert_int_equal(claim(bed, &before, JOURNAL_TO_ISSUE), APR_EBUSY);
    assert_int_equal(claim(bed, &theirs, JOURNAL_TO_ISSUE), APR_EBUSY);
    assert_true(ours->leased);
    assert_false(ours->owner_gone);
    ours = journal_bed_find(bed, ours->id);
    assert_true(ours->leased);
    assert_false(ours->owner_gone);
}

static void a_new_try_starts_afresh(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    const char *message = "";
    journal_row_t *row = journal_bed_row(bed, "T1");
    assert_int_equal(outcome(bed, &row, JOURNAL_FAILED), APR_SUCCESS);
    assert_int_equal(settle(bed, &row, JOURNAL_ACCEPTED, JOURNAL_FAILED), APR_SUCCESS);
    row = journal_bed_find(bed, row->id);
    assert_int_equal(row->csr.len, 0);
    journal_intent_t intent = journal_bed_intent(bed, "T1", "signed anew");
    intent.ra_fp = "5242";
    assert_int_equal(journal_claim(bed->journal, &row, JOURNAL_TO_ISSUE, &intent, bed->pool, &message), APR_SUCCESS);
    const journal_row_t *rows[] = {row, journal_bed_find(bed, row->id)};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(rows[i]->state, JOURNAL_INTENT);
        assert_int_equal(rows[i]->report, JOURNAL_OWED_FAILURE);
        assert_int_equal(rows[i]->tries, 0);
        assert_null(rows[i]->fail);
        assert_string_equal(rows[i]->request_id, intent.request_id);
        assert_string_equal(rows[i]->ra_fp, "5242");
        assert_true(bytes_equal(rows[i]->csr, bytes_of_text("signed anew")));
        assert_in_range(rows[i]->due_in, SECONDS(110), SECONDS(120));
    }
    /* The first CSR's bytes are what is sent again. */
    lease_ends(bed, row->id);
    row = journal_bed_find(bed, row->id);
    intent.csr = bytes_of_text("signed once more");
    assert_int_equal(journal_claim(bed->journal, &row, JOURNAL_TO_ISSUE, &intent, bed->pool, &message), APR_SUCCESS);
    assert_true(bytes_equal(row->csr, bytes_of_text("signed anew")));
    assert_true(bytes_equal(journal_bed_find(bed, row->id)->csr, bytes_of_text("signed anew")));
}

static void outcome_is_kept(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    const char *message = "";
    journal_row_t *row = journal_bed_row(bed, "T1");
    journal_outcome_t said = outcome_of(JOURNAL_ISSUED);
    said.node = "ca-2";
    said.event = "orphan";
    said.event_detail = "what";
    assert_int_equal(journal_outcome(bed->journal, &row, &said, bed->pool, &message), APR_SUCCESS);
    const journal_row_t *rows[] = {row, journal_bed_find(bed, row->id)};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(rows[i]->state, JOURNAL_ISSUED);
        assert_int_equal(rows[i]->report, JOURNAL_OWED_SUCCESS);
        assert_true(rows[i]->leased);
        assert_true(rows[i]->due_in <= 0);
        assert_int_equal(rows[i]->tries, 1);
        assert_true(bytes_equal(rows[i]->certificate, bytes_of_text("certificate")));
        assert_string_equal(rows[i]->certificate_fp, CERTIFICATE_FP);
        assert_string_equal(rows[i]->serial, "5E41A1");
        assert_null(rows[i]->fail);
        assert_string_equal(rows[i]->node, "ca-2");
        assert_true(bytes_equal(rows[i]->csr, bytes_of_text("csr of T1")));
    }
    assert_string_equal(rows[1]->event, "orphan");
    assert_string_equal(rows[1]->event_detail, "what");
}

static void pending_keeps_its_deadline(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    const char *message = "";
    journal_row_t *row = journal_bed_row(bed, "T1");
    journal_outcome_t said = {.state = JOURNAL_PENDING, .due_in = SECONDS(1000), .node = "ca-1"};
    assert_int_equal(journal_outcome(bed->journal, &row, &said, bed->pool, &message), APR_SUCCESS);
    assert_false(row->leased);
    row = journal_bed_find(bed, row->id);
    assert_false(row->leased);
    assert_in_range(row->due_in, SECONDS(990), SECONDS(1000));
    assert_int_equal(claim(bed, &row, JOURNAL_TO_POLL), APR_SUCCESS);
    assert_true(row->leased);
    said.due_in = SECONDS(5000);
    said.node = NULL;
    assert_int_equal(journal_outcome(bed->journal, &row, &said, bed->pool, &message), APR_SUCCESS);
    assert_in_range(row->due_in, SECONDS(980), SECONDS(1000));
    row = journal_bed_find(bed, row->id);
    assert_in_range(row->due_in, SECONDS(980), SECONDS(1000));
    assert_string_equal(row->node, "ca-1");
}

static void a_late_certificate_is_adopted(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    const char *message = "";
    journal_row_t *slow = journal_bed_row(bed, "T1");
    lease_ends(bed, slow->id);
    journal_row_t *quick = journal_bed_find(bed, slow->id);
    assert_int_equal(claim(bed, &quick, JOURNAL_TO_ISSUE), APR_SUCCESS);
    /* Somebody is at it. */
    journal_row_t *row = slow;
    assert_int_equal(outcome(bed, &row, JOURNAL_ISSUED), APR_EBUSY);
    assert_int_equal(act_adopt(bed, &row), APR_EBUSY);
    assert_int_equal(outcome(bed, &quick, JOURNAL_FAILED), APR_SUCCESS);
    assert_int_equal(settle(bed, &quick, JOURNAL_ACCEPTED, JOURNAL_FAILED), APR_SUCCESS);
    assert_int_equal(journal_bed_find(bed, slow->id)->csr.len, 0);
    row = slow;
    assert_int_equal(act_adopt(bed, &row), APR_SUCCESS);
    const journal_row_t *rows[] = {row, journal_bed_find(bed, slow->id)};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(rows[i]->state, JOURNAL_ISSUED);
        assert_int_equal(rows[i]->report, JOURNAL_OWED_SUCCESS);
        assert_true(rows[i]->leased);
        assert_string_equal(rows[i]->owner, row->owner);
        assert_null(rows[i]->fail);
        assert_string_equal(rows[i]->certificate_fp, CERTIFICATE_FP);
        assert_true(bytes_equal(rows[i]->certificate, bytes_of_text("certificate")));
    }
    assert_true(bytes_equal(rows[1]->csr, bytes_of_text("late csr")));
    assert_string_not_equal(row->owner, slow->owner);
    /* The next late one is an orphan, and so is one whose row has been dropped. */
    journal_row_t *next = slow;
    assert_int_equal(act_adopt(bed, &next), APR_EBUSY);
    lease_ends(bed, slow->id);
    assert_int_equal(journal_drop(bed->journal, slow->id, bed->pool, &message), APR_SUCCESS);
    assert_int_equal(act_adopt(bed, &next), APR_EBUSY);
}

/* Whoever sent it, and only for that certificate. */
static void accepted_is_a_fact(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    journal_row_t *sent = issued_row(bed, "T1");
    lease_ends(bed, sent->id);
    journal_row_t *next = journal_bed_find(bed, sent->id);
    assert_int_equal(claim(bed, &next, JOURNAL_TO_REPORT), APR_SUCCESS);
    journal_row_t *other = apr_pmemdup(bed->pool, sent, sizeof(*sent));
    other->certificate_fp = "another";
    assert_int_equal(settle(bed, &other, JOURNAL_ACCEPTED, JOURNAL_ISSUED), APR_EBUSY);
    /* What the first sender does not know: that somebody else has it now. */
    journal_row_t *late = sent;
    assert_int_equal(settle(bed, &late, JOURNAL_REFUSAL, JOURNAL_WITHHELD), APR_EBUSY);
    late = sent;
    assert_int_equal(settle(bed, &late, JOURNAL_RETRY, JOURNAL_ISSUED), APR_EBUSY);
    late = sent;
    assert_int_equal(settle(bed, &late, JOURNAL_ACCEPTED, JOURNAL_ISSUED), APR_SUCCESS);
    assert_int_equal(late->report, JOURNAL_DONE);
    /* The second sender's refusal comes too late; he sees what holds. */
    assert_int_equal(settle(bed, &next, JOURNAL_REFUSAL, JOURNAL_WITHHELD), APR_EBUSY);
    assert_int_equal(next->report, JOURNAL_DONE);
    assert_int_equal(next->state, JOURNAL_ISSUED);

    /* And the other way round: the device of the first sender has the certificate, and gets it again. */
    late = issued_row(bed, "T2");
    lease_ends(bed, late->id);
    next = journal_bed_find(bed, late->id);
    assert_int_equal(claim(bed, &next, JOURNAL_TO_REPORT), APR_SUCCESS);
    assert_int_equal(settle(bed, &next, JOURNAL_REFUSAL, JOURNAL_WITHHELD), APR_SUCCESS);
    assert_int_equal(settle(bed, &late, JOURNAL_ACCEPTED, JOURNAL_ISSUED), APR_SUCCESS);
    next = journal_bed_find(bed, late->id);
    assert_int_equal(next->report, JOURNAL_DONE);
    assert_int_equal(next->state, JOURNAL_ISSUED);
}

static void the_request_is_forgotten(void **state)
{
    static const struct {
        const char *name;
        journal_state_t state;
        journal_verdict_t verdict;
        journal_state_t after;
        bool kept;
    } rows[] = {
        {"success accepted", JOURNAL_ISSUED, JOURNAL_ACCEPTED, JOURNAL_ISSUED, false},
        {"success refused", JOURNAL_ISSUED, JOURNAL_REFUSAL, JOURNAL_WITHHELD, true},
        {"success refused, delivered", JOURNAL_ISSUED, JOURNAL_REFUSAL, JOURNAL_ISSUED, true},
        {"success put off", JOURNAL_ISSUED, JOURNAL_RETRY, JOURNAL_ISSUED, true},
        {"success given up", JOURNAL_ISSUED, JOURNAL_GIVEN_UP, JOURNAL_ISSUED, true},
        {"failure accepted", JOURNAL_FAILED, JOURNAL_ACCEPTED, JOURNAL_FAILED, false},
        {"failure refused", JOURNAL_FAILED, JOURNAL_REFUSAL, JOURNAL_FAILED, false},
        {"failure put off", JOURNAL_FAILED, JOURNAL_RETRY, JOURNAL_FAILED, true},
        {"failure given up", JOURNAL_FAILED, JOURNAL_GIVEN_UP, JOURNAL_FAILED, false},
        {"unknown accepted", JOURNAL_UNKNOWN, JOURNAL_ACCEPTED, JOURNAL_FAILED, false},
    };
    static const journal_report_t reports[] = {[JOURNAL_ACCEPTED] = JOURNAL_DONE,
                                               [JOURNAL_REFUSAL] = JOURNAL_REFUSED,
                                               [JOURNAL_GIVEN_UP] = JOURNAL_DEAD};
    journal_bed_t *bed = journal_bed(state);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const char *message = "";
        journal_row_t *row = journal_bed_row(bed, rows[i].name);
        assert_int_equal(outcome(bed, &row, rows[i].state), APR_SUCCESS);
        journal_report_t owed = row->report;
        journal_settlement_t settlement = {rows[i].verdict, rows[i].after, SECONDS(500), "why", NULL, NULL};
        assert_int_equal(journal_settle(bed->journal, &row, &settlement, bed->pool, &message), APR_SUCCESS);
        const journal_row_t *now = journal_bed_find(bed, row->id);
        journal_report_t report = rows[i].verdict == JOURNAL_RETRY ? owed : reports[rows[i].verdict];
        if ((now->csr.len > 0) != rows[i].kept || now->state != rows[i].after || row->state != now->state ||
            now->report != report || row->report != report || now->leased || row->leased) {
            fail_msg("%s: %s %s, a CSR of %d bytes", rows[i].name, journal_state_name(now->state),
                     journal_report_name(now->report), (int)now->csr.len);
        }
        if (rows[i].verdict == JOURNAL_RETRY) {
            assert_in_range(now->due_in, SECONDS(490), SECONDS(500));
        }
    }
}

static void release_gives_back(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    journal_row_t *row = journal_bed_row(bed, "T1");
    journal_row_t *stranger = apr_pmemdup(bed->pool, row, sizeof(*row));
    stranger->owner = "stranger";
    journal_release(bed->journal, stranger, bed->pool);
    assert_true(journal_bed_find(bed, row->id)->leased);
    journal_release(bed->journal, row, bed->pool);
    row = journal_bed_find(bed, row->id);
    assert_false(row->leased);
    assert_int_equal(claim(bed, &row, JOURNAL_TO_ISSUE), APR_SUCCESS);
}

static int due(journal_bed_t *bed, int limit, const char *expected)
{
    const char *message = "";
    const char *found = "";
    apr_array_header_t *rows = NULL;
    assert_int_equal(journal_due(bed->journal, "profile", limit, &rows, bed->pool, &message), APR_SUCCESS);
    for (int i = 0; i < rows->nelts; i++) {
        found = apr_pstrcat(bed->pool, found, i ? " " : "", APR_ARRAY_IDX(rows, i, journal_row_t *)->transaction_id, NULL);
    }
    assert_string_equal(found, expected);
    return rows->nelts;
}

static void due_ones_oldest_first(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    raw_t *raw = raw_open(bed);
    for (int i = 0; i < 5; i++) {
        journal_bed_row(bed, apr_psprintf(bed->pool, "T%d", i));
    }
    due(bed, 10, "");
    raw_run(raw, "UPDATE iscep_journal SET due = 1, lease_until = 0");
    raw_run(raw, "UPDATE iscep_journal SET created = 100 - due WHERE txid = 'T3'");
    raw_run(raw, "UPDATE iscep_journal SET created = 50 WHERE txid = 'T1'");
    raw_run(raw, "UPDATE iscep_journal SET report = 'done' WHERE txid = 'T2'");
    raw_run(raw, "UPDATE iscep_journal SET loc = 'elsewhere' WHERE txid = 'T4'");
    due(bed, 10, "T1 T3 T0");
    due(bed, 2, "T1 T3");
    raw_run(raw, "UPDATE iscep_journal SET due = %s + 60000 WHERE txid = 'T1'", database_now(bed->kind));
    due(bed, 10, "T3 T0");
    raw_close(raw);
}

/* What the other processes of this machine are sending just now neither counts nor hides what waits. */
static void due_ones_nobody_sends(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    raw_t *raw = raw_open(bed);
    for (int i = 0; i < 6; i++) {
        journal_bed_row(bed, apr_psprintf(bed->pool, "T%d", i));
    }
    raw_run(raw, "UPDATE iscep_journal SET due = 1, created = 1 WHERE txid <> 'T5'");
    raw_run(raw, "UPDATE iscep_journal SET due = 1, lease_until = 0 WHERE txid = 'T5'");
    due(bed, 3, "T5");
    raw_run(raw, "UPDATE iscep_journal SET owner = '%s-%ld-AAAA', created = 0 WHERE txid = 'T2'", bed->settings.tag,
            dead_process());
    raw_run(raw, "UPDATE iscep_journal SET owner = '0000000000000000-%ld-AAAA', created = 0 WHERE txid = 'T3'",
            dead_process());
    due(bed, 3, "T5 T2");
    raw_close(raw);
}

/* Written while the clock was years ahead: nothing waits until then. */
static void a_clock_that_is_set_back(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    const char *message = "";
    apr_array_header_t *rows = NULL;
    raw_t *raw = raw_open(bed);
    journal_row_t *row = journal_bed_row(bed, "T1");
    assert_int_equal(journal_raise(bed->journal, row->id, "orphan", "serial 1", bed->pool, &message), APR_SUCCESS);
    raw_run(raw, "UPDATE iscep_journal SET lease_until = lease_until + 315360000000, due = due + 315360000000, "
                 "event_due = event_due + 315360000000");
    due(bed, 10, "T1");
    assert_int_equal(journal_events(bed->journal, &rows, bed->pool, &message), APR_SUCCESS);
    assert_int_equal(rows->nelts, 1);
    row = APR_ARRAY_IDX(rows, 0, journal_row_t *);
    assert_false(row->leased);
    assert_int_equal(journal_event_claim(bed->journal, row, bed->pool, &message), APR_SUCCESS);
    assert_int_equal(claim(bed, &row, JOURNAL_TO_REPORT), APR_SUCCESS);
    raw_run(raw, "UPDATE iscep_journal SET lease_until = lease_until + 315360000000");
    row = journal_bed_find(bed, row->id);
    assert_int_equal(claim(bed, &row, JOURNAL_TO_ISSUE), APR_SUCCESS);
    raw_run(raw, "UPDATE iscep_journal SET lease_until = lease_until + 315360000000");
    /* Another request of the same transactionID is not in its way either. */
    journal_intent_t second = journal_bed_intent(bed, "T1", "another request");
    assert_int_equal(begin(bed, &second, &row), APR_SUCCESS);
    raw_run(raw, "UPDATE iscep_journal SET lease_until = lease_until + 315360000000");
    assert_int_equal(journal_drop(bed->journal, row->id, bed->pool, &message), APR_SUCCESS);
    raw_close(raw);
}

static void what_is_put_off_is_brought_forward(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    const char *message = "";
    journal_row_t *tried = issued_row(bed, "tried");
    assert_int_equal(settle(bed, &tried, JOURNAL_RETRY, JOURNAL_ISSUED), APR_SUCCESS);
    journal_row_t *grace = journal_bed_row(bed, "in its grace");
    assert_int_equal(outcome(bed, &grace, JOURNAL_UNKNOWN), APR_SUCCESS);
    journal_row_t *pending = journal_bed_row(bed, "pending");
    assert_int_equal(outcome(bed, &pending, JOURNAL_PENDING), APR_SUCCESS);
    due(bed, 10, "");
    assert_int_equal(journal_bring_forward(bed->journal, "elsewhere", bed->pool, &message), APR_SUCCESS);
    due(bed, 10, "");
    assert_int_equal(journal_bring_forward(bed->journal, "profile", bed->pool, &message), APR_SUCCESS);
    due(bed, 10, "tried");
    /* Once more, and nothing to do. */
    assert_int_equal(journal_bring_forward(bed->journal, "profile", bed->pool, &message), APR_SUCCESS);
}

static void the_old_are_pruned(void **state)
{
    enum { MANY = 450, STEP = 200 };
    journal_bed_t *bed = journal_bed(state);
    const char *message = "";
    int removed = 0;
    raw_t *raw = raw_open(bed);
    journal_bed_row(bed, "seed");
    raw_run(raw, "UPDATE iscep_journal SET updated = 1, report = 'done', state = 'issued', lease_until = 0");
    if (bed->kind == DATABASE_SQLITE) {
        raw_run(raw, "PRAGMA synchronous = OFF");
    }
    for (int i = 0; i < MANY; i++) {
        const char *report = i == 0 ? "success" : i == 1 ? "failure" : i % 3 ? "done" : "refused";
        raw_run(raw,
                "INSERT INTO iscep_journal SELECT 'n%d', loc, 'n%d', key_fp, '%s', owner, lease_until, '%s', due, tries, "
                "request_id, csr, cert, cert_fp, serial, fail, ra_fp, node, event, event_detail, event_due, created, "
                "updated FROM iscep_journal WHERE txid = 'seed'",
                i, i, i == 2 ? "withheld" : "failed", report);
    }
    journal_bed_row(bed, "young");
    raw_run(raw, "UPDATE iscep_journal SET report = 'done' WHERE txid = 'young'");
    int total = 0;
    for (int i = 0; i < 4; i++) {
        assert_int_equal(journal_prune(bed->journal, SECONDS(3600), &removed, bed->pool, &message), APR_SUCCESS);
        assert_in_range(removed, 0, STEP);
        total += removed;
    }
    assert_int_equal(removed, 0);
    assert_int_equal(total, MANY + 1 - 3);
    assert_int_equal(raw_number(raw, "SELECT COUNT(*) FROM iscep_journal WHERE txid IN ('n0', 'n1', 'n2', 'young')"), 4);
    assert_int_equal(raw_number(raw, "SELECT COUNT(*) FROM iscep_journal"), 4);
    raw_close(raw);
}

static apr_array_header_t *events(journal_bed_t *bed)
{
    const char *message = "";
    apr_array_header_t *rows = NULL;
    assert_int_equal(journal_events(bed->journal, &rows, bed->pool, &message), APR_SUCCESS);
    return rows;
}

static void events_are_told_once(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    const char *message = "";
    const char *id = journal_bed_row(bed, "T1")->id;
    assert_int_equal(events(bed)->nelts, 0);
    assert_int_equal(journal_raise(bed->journal, "no such row", "orphan", NULL, bed->pool, &message), APR_EBUSY);
    assert_int_equal(journal_raise(bed->journal, id, "orphan", "serial 1", bed->pool, &message), APR_SUCCESS);
    apr_array_header_t *rows = events(bed);
    assert_int_equal(rows->nelts, 1);
    journal_row_t *row = APR_ARRAY_IDX(rows, 0, journal_row_t *);
    assert_string_equal(row->event, "orphan");
    assert_string_equal(row->event_detail, "serial 1");
    assert_int_equal(journal_event_claim(bed->journal, row, bed->pool, &message), APR_SUCCESS);
    assert_int_equal(journal_event_claim(bed->journal, row, bed->pool, &message), APR_EBUSY);
    assert_int_equal(events(bed)->nelts, 0);
    /* Whoever claimed it has died: a minute later it is there again. */
    raw_t *raw = raw_open(bed);
    raw_run(raw, "UPDATE iscep_journal SET event_due = event_due - 60001");
    raw_close(raw);
    assert_int_equal(events(bed)->nelts, 1);
    assert_int_equal(journal_event_claim(bed->journal, row, bed->pool, &message), APR_SUCCESS);
    assert_int_equal(journal_event_done(bed->journal, row, bed->pool, &message), APR_SUCCESS);
    assert_int_equal(journal_event_done(bed->journal, row, bed->pool, &message), APR_EBUSY);
    assert_null(journal_bed_find(bed, id)->event);
    assert_null(journal_bed_find(bed, id)->event_detail);
}

/* What follows neither takes another's words nor its place: it may have it told a second time. */
static void events_are_not_mixed_up(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    const char *message = "";
    journal_row_t *row = journal_bed_row(bed, "T1");
    assert_int_equal(journal_raise(bed->journal, row->id, "orphan", "serial 1", bed->pool, &message), APR_SUCCESS);
    journal_row_t *event = APR_ARRAY_IDX(events(bed), 0, journal_row_t *);
    assert_int_equal(journal_event_claim(bed->journal, event, bed->pool, &message), APR_SUCCESS);
    assert_int_equal(outcome(bed, &row, JOURNAL_ISSUED), APR_SUCCESS);
    assert_int_equal(events(bed)->nelts, 0);
    journal_settlement_t settlement = {JOURNAL_REFUSAL, JOURNAL_WITHHELD, 0, "no", "withheld", NULL};
    assert_int_equal(journal_settle(bed->journal, &row, &settlement, bed->pool, &message), APR_SUCCESS);
    assert_int_equal(events(bed)->nelts, 1);
    row = journal_bed_find(bed, row->id);
    assert_string_equal(row->event, "orphan withheld");
    assert_string_equal(row->event_detail, "serial 1\n");
    /* The first one's end does not end the second. */
    assert_int_equal(journal_event_done(bed->journal, event, bed->pool, &message), APR_EBUSY);
    assert_int_equal(events(bed)->nelts, 1);
}

static void any_words_are_kept(void **state)
{
    static const char *const words[] = {"'",
                                        "\\'; DROP TABLE iscep_journal; --",
                                        "100% %s %n {now}",
                                        "\"quoted\" $1 ?",
                                        "\xc3\x9f \xf0\x9f\x94\x91",
                                        "two\nlines",
                                        ""};
    journal_bed_t *bed = journal_bed(state);
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        const char *message = "";
        journal_row_t *row = NULL;
        journal_intent_t intent = journal_bed_intent(bed, words[i], "the request");
        intent.location = intent.key_fp = intent.ra_fp = words[i];
        assert_int_equal(begin(bed, &intent, &row), APR_SUCCESS);
        journal_outcome_t said = {.state = JOURNAL_FAILED, .fail = words[i], .node = words[i], .event = words[i],
                                  .event_detail = words[i]};
        assert_int_equal(journal_outcome(bed->journal, &row, &said, bed->pool, &message), APR_SUCCESS);
        row = NULL;
        assert_int_equal(
            journal_find_poll(bed->journal, words[i], words[i], words[i], &row, bed->pool, &message), APR_SUCCESS);
        assert_string_equal(row->transaction_id, words[i]);
        assert_string_equal(row->ra_fp, words[i]);
        assert_string_equal(row->fail, words[i]);
        assert_string_equal(row->node, words[i]);
        assert_string_equal(row->event, words[i]);
        assert_string_equal(row->event_detail, words[i]);
    }
}

/* They come from Intune and from the CA: an outcome must not be lost for their sake. */
static void strange_words_do_no_harm(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    const char *message = "";
    char *much = apr_palloc(bed->pool, 1000001);
    memset(much, 'w', 1000000);
    much[1000000] = 0;
    const char *const words[] = {much, "\xff\xfe broken \xc3", "\xed\xa0\x80 half a pair", "\xc0\x80"};
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        journal_row_t *row = journal_bed_row(bed, apr_psprintf(bed->pool, "T%d", (int)i));
        journal_outcome_t said = {.state = JOURNAL_FAILED, .fail = words[i], .event = "e", .event_detail = words[i],
                                  .report_now = true, .lease = SECONDS(10)};
        assert_int_equal(journal_outcome(bed->journal, &row, &said, bed->pool, &message), APR_SUCCESS);
        const journal_row_t *now = journal_bed_find(bed, row->id);
        assert_string_equal(now->fail, row->fail);
        assert_in_range(strlen(now->fail), 1, 3000);
        assert_in_range(strlen(now->event_detail), 1, 3000);
        journal_settlement_t settlement = {JOURNAL_RETRY, JOURNAL_FAILED, 0, words[i], "e", words[i]};
        assert_int_equal(journal_settle(bed->journal, &row, &settlement, bed->pool, &message), APR_SUCCESS);
        assert_string_equal(row->fail, now->fail);
        assert_int_equal(journal_raise(bed->journal, row->id, "e", words[i], bed->pool, &message), APR_SUCCESS);
    }
}

/* Who calls refuses such a transactionID himself; if he does not, it is an error and no "exists". */
static void fail_a_transaction_that_is_no_text(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    journal_row_t *row = NULL;
    journal_intent_t intent = journal_bed_intent(bed, "\xff", "the request");
    apr_status_t rv = begin(bed, &intent, &row);
    assert_int_not_equal(rv, APR_SUCCESS);
    assert_int_not_equal(rv, APR_EEXIST);
    journal_bed_row(bed, "T1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        JOURNAL_TEST_SQLITE(ids_tell_apart),
        JOURNAL_TEST(begin_makes_what_it_says),
        JOURNAL_TEST(begin_refuses_a_second),
        JOURNAL_TEST(a_poll_finds_its_row),
        JOURNAL_TEST(leases_run_by_the_databases_clock),
        JOURNAL_TEST(transitions),
        JOURNAL_TEST(the_dead_give_way),
        JOURNAL_TEST(a_new_try_starts_afresh),
        JOURNAL_TEST(outcome_is_kept),
        JOURNAL_TEST(pending_keeps_its_deadline),
        JOURNAL_TEST(a_late_certificate_is_adopted),
        JOURNAL_TEST(accepted_is_a_fact),
        JOURNAL_TEST(the_request_is_forgotten),
        JOURNAL_TEST(release_gives_back),
        JOURNAL_TEST(due_ones_oldest_first),
        JOURNAL_TEST(due_ones_nobody_sends),
        JOURNAL_TEST(a_clock_that_is_set_back),
        JOURNAL_TEST(what_is_put_off_is_brought_forward),
        JOURNAL_TEST(the_old_are_pruned),
        JOURNAL_TEST(events_are_told_once),
        JOURNAL_TEST(events_are_not_mixed_up),
        JOURNAL_TEST(any_words_are_kept),
        JOURNAL_TEST(strange_words_do_no_harm),
        JOURNAL_TEST_PGSQL(fail_a_transaction_that_is_no_text),
    };
    int failed;

    apr_initialize();
    failed = cmocka_run_group_tests_name("journal", tests, NULL, journal_beds_end);
    apr_terminate();
    return failed;
}
