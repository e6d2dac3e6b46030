/* SPDX-License-Identifier: Apache-2.0 */
#include "journal_steps.h"

#include <apr_strings.h>

static journal_row_t *decided(journal_bed_t *bed, const char *transaction, journal_state_t state, const char *serial)
{
    const char *message = "";
    journal_row_t *row = journal_bed_row(bed, transaction);
    journal_outcome_t said = {.state = state, .fail = "why"};
    if (state == JOURNAL_ISSUED) {
        said = (journal_outcome_t){.state = state, .certificate = bytes_of_text("certificate"), .certificate_fp = "AB",
                                   .serial = serial};
    }
    assert_int_equal(journal_outcome(bed->journal, &row, &said, bed->pool, &message), APR_SUCCESS);
    return row;
}

static journal_row_t *settled(journal_bed_t *bed, journal_row_t *row, journal_verdict_t verdict, journal_state_t state)
{
    const char *message = "";
    journal_settlement_t settlement = {.verdict = verdict, .state = state, .due_in = apr_time_from_sec(500)};
    assert_int_equal(journal_settle(bed->journal, &row, &settlement, bed->pool, &message), APR_SUCCESS);
    return row;
}

static void rows_are_counted(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    const char *message = "";
    apr_array_header_t *counts = NULL;
    assert_int_equal(journal_counts(bed->journal, &counts, bed->pool, &message), APR_SUCCESS);
    assert_int_equal(counts->nelts, 0);
    journal_bed_row(bed, "T1");
    journal_bed_row(bed, "T2");
    settled(bed, decided(bed, "T3", JOURNAL_ISSUED, "01"), JOURNAL_REFUSAL, JOURNAL_WITHHELD);
    raw_t *raw = raw_open(bed);
    raw_run(raw, "UPDATE iscep_journal SET created = created - 100000 WHERE txid = 'T2'");
    raw_close(raw);
    assert_int_equal(journal_counts(bed->journal, &counts, bed->pool, &message), APR_SUCCESS);
    assert_int_equal(counts->nelts, 2);
    for (int i = 0; i < 2; i++) {
        const journal_count_t *count = &APR_ARRAY_IDX(counts, i, journal_count_t);
        bool intent = count->state == JOURNAL_INTENT;
        assert_string_equal(count->location, "profile");
        assert_int_equal(count->state, intent ? JOURNAL_INTENT : JOURNAL_WITHHELD);
        assert_int_equal(count->report, intent ? JOURNAL_OWED_FAILURE : JOURNAL_REFUSED);
        assert_int_equal(count->rows, intent ? 2 : 1);
        assert_in_range(count->oldest, apr_time_from_sec(intent ? 100 : 0), apr_time_from_sec(intent ? 110 : 10));
    }
}

/* T1: its failure is in its grace; T2: that is over; T3: it was tried; T4: issued of late; T5: reported. */
static void what_is_owed_is_counted(void **state)
{
    static const struct {
        const char *sql;
        int rows, oldest;
    } STEPS[] = {{"UPDATE iscep_journal SET created = created - 900000", 1, 0},
                 {"UPDATE iscep_journal SET due = due - 7200000 WHERE txid = 'T2'", 2, 7080},
                 {"UPDATE iscep_journal SET tries = 1, updated = updated - 9000000 WHERE txid = 'T3'", 3, 9000},
                 {"UPDATE iscep_journal SET updated = updated + 90000000", 3, 7080}};
    journal_bed_t *bed = journal_bed(state);
    const char *message = "";
    apr_array_header_t *owed = NULL;
    assert_int_equal(journal_owed(bed->journal, &owed, bed->pool, &message), APR_SUCCESS);
    assert_int_equal(owed->nelts, 0);
    journal_bed_row(bed, "T1");
    journal_bed_row(bed, "T2");
    journal_bed_row(bed, "T3");
    decided(bed, "T4", JOURNAL_ISSUED, "01");
    settled(bed, decided(bed, "T5", JOURNAL_ISSUED, "02"), JOURNAL_ACCEPTED, JOURNAL_ISSUED);
    for (size_t i = 0; i < sizeof(STEPS) / sizeof(STEPS[0]); i++) {
        raw_t *raw = raw_open(bed);
        raw_run(raw, "%s", STEPS[i].sql);
        raw_close(raw);
        assert_int_equal(journal_owed(bed->journal, &owed, bed->pool, &message), APR_SUCCESS);
        assert_int_equal(owed->nelts, 1);
        const journal_owed_t *one = &APR_ARRAY_IDX(owed, 0, const journal_owed_t);
        print_message("%s: %d rows, %d s\n", STEPS[i].sql, one->rows, (int)apr_time_sec(one->oldest));
        assert_string_equal(one->location, "profile");
        assert_int_equal(one->rows, STEPS[i].rows);
        assert_in_range(apr_time_sec(one->oldest), STEPS[i].oldest, STEPS[i].oldest + 10);
    }
}

static void a_row_from_the_dawn_of_time_is_old(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    const char *message = "";
    apr_array_header_t *counts = NULL;
    journal_bed_row(bed, "T1");
    raw_t *raw = raw_open(bed);
    raw_run(raw, "UPDATE iscep_journal SET created = -9000000000000000000");
    raw_close(raw);
    assert_int_equal(journal_counts(bed->journal, &counts, bed->pool, &message), APR_SUCCESS);
    assert_int_equal(counts->nelts, 1);
    assert_true(APR_ARRAY_IDX(counts, 0, journal_count_t).oldest > apr_time_from_sec(86400));
}

static void foreign_pending_ones_are_counted(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    const char *message = "";
    int rows = -1;
    decided(bed, "T1", JOURNAL_PENDING, NULL);
    decided(bed, "T2", JOURNAL_FAILED, NULL);
    assert_int_equal(journal_foreign_pending(bed->journal, "profile", "5241", &rows, bed->pool, &message), APR_SUCCESS);
    assert_int_equal(rows, 0);
    assert_int_equal(journal_foreign_pending(bed->journal, "profile", "new", &rows, bed->pool, &message), APR_SUCCESS);
    assert_int_equal(rows, 1);
    assert_int_equal(journal_foreign_pending(bed->journal, "other", "new", &rows, bed->pool, &message), APR_SUCCESS);
    assert_int_equal(rows, 0);
}

static int listed(journal_bed_t *bed, const char *word)
{
    const char *message = "";
    apr_array_header_t *rows = NULL;
    assert_int_equal(journal_list(bed->journal, word, &rows, bed->pool, &message), APR_SUCCESS);
    return rows->nelts;
}

static void rows_are_found_by_a_word(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    const char *id = decided(bed, "a transaction", JOURNAL_ISSUED, "0A1B2C")->id;
    decided(bed, "100%", JOURNAL_ISSUED, "0A1B2D");
    const char *short_serial = apr_pstrmemdup(bed->pool, id, 2);
    decided(bed, "of a CA that counts", JOURNAL_ISSUED, short_serial);
    const struct {
        const char *name;
        const char *word;
        int rows;
    } rows[] = {
        {"ok/id", id, 1},
        {"ok/its beginning", apr_pstrmemdup(bed->pool, id, 12), 1},
        {"ok/more of it", apr_pstrmemdup(bed->pool, id, 50), 1},
        {"ok/transaction", "a transaction", 1},
        {"ok/serial", "0A1B2C", 1},
        {"ok/serial in lower case", "0a1b2c", 1},
        {"ok/serial with which an id begins", short_serial, 1},
        {"ok/no pattern", "100%", 1},
        {"fail/pattern", "%", 0},
        {"fail/its middle", id + 5, 0},
        {"fail/less of it", apr_pstrmemdup(bed->pool, id, 11), 0},
        {"fail/a part of a transaction", "a trans", 0},
        {"fail/longer than an id", apr_pstrcat(bed->pool, id, "0", NULL), 0},
        {"fail/quotes", "' OR 1 = 1 --", 0},
        {"fail/not UTF-8", "\xff", 0},
        {"fail/beyond ASCII", "T\xc3\xbcr", 0},
        {"fail/a line end", "100%\n", 0},
        {"fail/longer than anything", apr_psprintf(bed->pool, "%0300d", 1), 0},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (listed(bed, rows[i].word) != rows[i].rows) {
            fail_msg("%s: %d", rows[i].name, listed(bed, rows[i].word));
        }
    }
}

static void those_that_need_somebody_are_listed(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    settled(bed, decided(bed, "done", JOURNAL_ISSUED, "01"), JOURNAL_ACCEPTED, JOURNAL_ISSUED);
    settled(bed, decided(bed, "failed and refused", JOURNAL_FAILED, NULL), JOURNAL_REFUSAL, JOURNAL_FAILED);
    assert_int_equal(listed(bed, NULL), 0);
    settled(bed, decided(bed, "withheld", JOURNAL_ISSUED, "02"), JOURNAL_REFUSAL, JOURNAL_WITHHELD);
    settled(bed, decided(bed, "dead", JOURNAL_ISSUED, "03"), JOURNAL_GIVEN_UP, JOURNAL_ISSUED);
    decided(bed, "pending", JOURNAL_PENDING, NULL);
    decided(bed, "unknown", JOURNAL_UNKNOWN, NULL);
    decided(bed, "owed", JOURNAL_ISSUED, "04");
    assert_int_equal(listed(bed, NULL), 5);
}

static void waive_delivers_without_the_report(void **state)
{
    static const struct {
        const char *name;
        journal_state_t state;
        journal_verdict_t verdict;
        journal_state_t after;
        apr_status_t rv;
    } rows[] = {
        {"ok/withheld", JOURNAL_ISSUED, JOURNAL_REFUSAL, JOURNAL_WITHHELD, APR_SUCCESS},
        {"ok/dead", JOURNAL_ISSUED, JOURNAL_GIVEN_UP, JOURNAL_ISSUED, APR_SUCCESS},
        {"fail/done", JOURNAL_ISSUED, JOURNAL_ACCEPTED, JOURNAL_ISSUED, APR_EBUSY},
        {"fail/put off", JOURNAL_ISSUED, JOURNAL_RETRY, JOURNAL_ISSUED, APR_EBUSY},
        {"fail/refused, but delivered", JOURNAL_ISSUED, JOURNAL_REFUSAL, JOURNAL_ISSUED, APR_EBUSY},
        {"fail/failure refused", JOURNAL_FAILED, JOURNAL_REFUSAL, JOURNAL_FAILED, APR_EBUSY},
        {"fail/failure dead", JOURNAL_FAILED, JOURNAL_GIVEN_UP, JOURNAL_FAILED, APR_EBUSY},
    };
    journal_bed_t *bed = journal_bed(state);
    const char *message = "";
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        journal_row_t *row = settled(bed, decided(bed, rows[i].name, rows[i].state, "01"), rows[i].verdict, rows[i].after);
        apr_status_t rv = journal_waive(bed->journal, row->id, bed->pool, &message);
        row = journal_bed_find(bed, row->id);
        if (rv != rows[i].rv || (!rv && (row->state != JOURNAL_ISSUED || row->report != JOURNAL_WAIVED || row->csr.len))) {
            fail_msg("%s: %d, %s %s", rows[i].name, rv, journal_state_name(row->state), journal_report_name(row->report));
        }
    }
    assert_int_equal(journal_waive(bed->journal, "no such row", bed->pool, &message), APR_EBUSY);
}

static void again_owes_the_report_anew(void **state)
{
    static const struct {
        const char *name;
        journal_state_t state;
        journal_verdict_t verdict;
        journal_state_t after;
        apr_status_t rv;
    } rows[] = {
        {"ok/withheld", JOURNAL_ISSUED, JOURNAL_REFUSAL, JOURNAL_WITHHELD, APR_SUCCESS},
        {"ok/refused, but delivered", JOURNAL_ISSUED, JOURNAL_REFUSAL, JOURNAL_ISSUED, APR_SUCCESS},
        {"ok/dead", JOURNAL_ISSUED, JOURNAL_GIVEN_UP, JOURNAL_ISSUED, APR_SUCCESS},
        {"ok/put off", JOURNAL_ISSUED, JOURNAL_RETRY, JOURNAL_ISSUED, APR_SUCCESS},
        {"ok/failure put off", JOURNAL_FAILED, JOURNAL_RETRY, JOURNAL_FAILED, APR_SUCCESS},
        {"fail/done", JOURNAL_ISSUED, JOURNAL_ACCEPTED, JOURNAL_ISSUED, APR_EBUSY},
        {"fail/failure refused", JOURNAL_FAILED, JOURNAL_REFUSAL, JOURNAL_FAILED, APR_EBUSY},
        {"fail/failure dead", JOURNAL_FAILED, JOURNAL_GIVEN_UP, JOURNAL_FAILED, APR_EBUSY},
    };
    journal_bed_t *bed = journal_bed(state);
    const char *message = "";
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        journal_row_t *row = settled(bed, decided(bed, rows[i].name, rows[i].state, "01"), rows[i].verdict, rows[i].after);
        apr_status_t rv = journal_report_again(bed->journal, row->id, bed->pool, &message);
        row = journal_bed_find(bed, row->id);
        if (rv != rows[i].rv || (!rv && (row->state != rows[i].state || row->due_in > 0 || !row->csr.len ||
                                         row->report != (row->certificate.len ? JOURNAL_OWED_SUCCESS
                                                                              : JOURNAL_OWED_FAILURE)))) {
            fail_msg("%s: %d, %s %s", rows[i].name, rv, journal_state_name(row->state), journal_report_name(row->report));
        }
    }
    assert_int_equal(journal_report_again(bed->journal, "no such row", bed->pool, &message), APR_EBUSY);
}

static void drop_spares_what_is_in_work(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    const char *message = "";
    journal_row_t *row = journal_bed_row(bed, "T1");
    assert_int_equal(journal_drop(bed->journal, row->id, bed->pool, &message), APR_EBUSY);
    row_lease_ends(bed, row->id);
    assert_int_equal(journal_drop(bed->journal, row->id, bed->pool, &message), APR_SUCCESS);
    assert_int_equal(journal_drop(bed->journal, row->id, bed->pool, &message), APR_EBUSY);
    assert_int_equal(journal_find(bed->journal, row->id, &row, bed->pool, &message), APR_NOTFOUND);
}

static void serials_of_a_location(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    const char *message = "";
    apr_array_header_t *serials = NULL;
    decided(bed, "T1", JOURNAL_ISSUED, "01");
    decided(bed, "T2", JOURNAL_FAILED, NULL);
    settled(bed, decided(bed, "T3", JOURNAL_ISSUED, "03"), JOURNAL_REFUSAL, JOURNAL_WITHHELD);
    assert_int_equal(journal_serials(bed->journal, "profile", &serials, bed->pool, &message), APR_SUCCESS);
    assert_int_equal(serials->nelts, 2);
    assert_string_not_equal(APR_ARRAY_IDX(serials, 0, const char *), APR_ARRAY_IDX(serials, 1, const char *));
    assert_int_equal(journal_serials(bed->journal, "elsewhere", &serials, bed->pool, &message), APR_SUCCESS);
    assert_int_equal(serials->nelts, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        JOURNAL_TEST(rows_are_counted),
        JOURNAL_TEST(what_is_owed_is_counted),
        JOURNAL_TEST(a_row_from_the_dawn_of_time_is_old),
        JOURNAL_TEST(foreign_pending_ones_are_counted),
        JOURNAL_TEST(rows_are_found_by_a_word),
        JOURNAL_TEST(those_that_need_somebody_are_listed),
        JOURNAL_TEST(waive_delivers_without_the_report),
        JOURNAL_TEST(again_owes_the_report_anew),
        JOURNAL_TEST(drop_spares_what_is_in_work),
        JOURNAL_TEST(serials_of_a_location),
    };
    int failed;

    apr_initialize();
    failed = cmocka_run_group_tests_name("journal_operator", tests, NULL, journal_beds_end);
    apr_terminate();
    return failed;
}
