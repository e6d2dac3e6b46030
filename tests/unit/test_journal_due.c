/* SPDX-License-Identifier: Apache-2.0 */
/* What the watchdog asks the journal for: reports and events that are due, rows that are old. */
#include "journal_steps.h"

#include <apr_strings.h>

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
    assert_int_equal(journal_event_claim(bed->journal, row, SECONDS(20), bed->pool, &message), APR_SUCCESS);
    assert_int_equal(row_claim(bed, &row, JOURNAL_TO_REPORT), APR_SUCCESS);
    raw_run(raw, "UPDATE iscep_journal SET lease_until = lease_until + 315360000000");
    row = journal_bed_find(bed, row->id);
    assert_int_equal(row_claim(bed, &row, JOURNAL_TO_ISSUE), APR_SUCCESS);
    raw_run(raw, "UPDATE iscep_journal SET lease_until = lease_until + 315360000000");
    /* Another request of the same transactionID is not in its way either. */
    journal_intent_t second = journal_bed_intent(bed, "T1", "another request");
    assert_int_equal(row_begin(bed, &second, &row), APR_SUCCESS);
    raw_run(raw, "UPDATE iscep_journal SET lease_until = lease_until + 315360000000");
    assert_int_equal(journal_drop(bed->journal, row->id, bed->pool, &message), APR_SUCCESS);
    raw_close(raw);
}

static void what_is_put_off_is_brought_forward(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    const char *message = "";
    journal_row_t *tried = row_issued(bed, "tried");
    assert_int_equal(row_settle(bed, &tried, JOURNAL_RETRY, JOURNAL_ISSUED), APR_SUCCESS);
    journal_row_t *grace = journal_bed_row(bed, "in its grace");
    assert_int_equal(row_outcome(bed, &grace, JOURNAL_UNKNOWN), APR_SUCCESS);
    journal_row_t *pending = journal_bed_row(bed, "pending");
    assert_int_equal(row_outcome(bed, &pending, JOURNAL_PENDING), APR_SUCCESS);
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
    assert_int_equal(journal_event_claim(bed->journal, row, SECONDS(20), bed->pool, &message), APR_SUCCESS);
    assert_int_equal(journal_event_claim(bed->journal, row, SECONDS(20), bed->pool, &message), APR_EBUSY);
    assert_int_equal(events(bed)->nelts, 0);
    /* Whoever claimed it has died: a minute later it is there again. */
    raw_t *raw = raw_open(bed);
    raw_run(raw, "UPDATE iscep_journal SET event_due = event_due - 60001");
    raw_close(raw);
    assert_int_equal(events(bed)->nelts, 1);
    assert_int_equal(journal_event_claim(bed->journal, row, SECONDS(20), bed->pool, &message), APR_SUCCESS);
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
    assert_int_equal(journal_event_claim(bed->journal, event, SECONDS(20), bed->pool, &message), APR_SUCCESS);
    assert_int_equal(row_outcome(bed, &row, JOURNAL_ISSUED), APR_SUCCESS);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        JOURNAL_TEST(due_ones_oldest_first),
        JOURNAL_TEST(due_ones_nobody_sends),
        JOURNAL_TEST(a_clock_that_is_set_back),
        JOURNAL_TEST(what_is_put_off_is_brought_forward),
        JOURNAL_TEST(the_old_are_pruned),
        JOURNAL_TEST(events_are_told_once),
        JOURNAL_TEST(events_are_not_mixed_up),
    };
    int failed;

    apr_initialize();
    failed = cmocka_run_group_tests_name("journal_due", tests, NULL, journal_beds_end);
    apr_terminate();
    return failed;
}
