/* SPDX-License-Identifier: Apache-2.0 */
/* The journal on PostgreSQL, whose server keeps rows locked or cuts connections before or after a statement is done. */
#include "journal_steps.h"

#include "base/text.h"

#include <apr_strings.h>
#include <apr_thread_proc.h>

/* A row that somebody else holds, for longer than a statement may take. */
static void row_locked_for_long(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    const char *message = "";
    journal_row_t *row = row_free(bed, "T1");
    journal_intent_t intent = journal_bed_intent(bed, "T1", "csr of T1");
    raw_t *raw = raw_open(bed);
    raw_run(raw, "BEGIN");
    raw_run(raw, "SELECT * FROM iscep_journal FOR UPDATE");
    apr_time_t begun = apr_time_now();
    apr_status_t rv = journal_claim(bed->journal, &row, JOURNAL_TO_ISSUE, &intent, bed->pool, &message);
    assert_int_not_equal(rv, APR_SUCCESS);
    assert_int_not_equal(rv, APR_EBUSY);
    assert_non_null(strstr(message, "timeout"));
    assert_true(apr_time_now() - begun < SECONDS(8));
    raw_run(raw, "COMMIT");
    raw_close(raw);
    assert_int_equal(journal_claim(bed->journal, &row, JOURNAL_TO_ISSUE, &intent, bed->pool, &message), APR_SUCCESS);
}

/* Cuts the journal's connections as soon as one of them waits for that. */
typedef struct killer_t {
    journal_bed_t *bed;
    const char *wait; /* of pg_stat_activity */
    int killed;
} killer_t;

static void *APR_THREAD_FUNC kill_waiting(apr_thread_t *thread, void *data)
{
    killer_t *killer = data;
    journal_bed_t bed = *killer->bed;
    (void)thread;
    apr_pool_create(&bed.pool, NULL);
    raw_t *raw = raw_open(&bed);
    for (int i = 0; i < 100 && !killer->killed; i++) {
        killer->killed = raw_number(raw,
                                    "SELECT COUNT(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE wait_event = '%s' "
                                    "AND pid <> pg_backend_pid()",
                                    killer->wait);
        apr_sleep(apr_time_from_msec(20));
    }
    raw_close(raw);
    apr_pool_destroy(bed.pool);
    return NULL;
}

static apr_thread_t *kill_when(killer_t *killer)
{
    apr_thread_t *thread = NULL;
    assert_int_equal(apr_thread_create(&thread, NULL, kill_waiting, killer, killer->bed->pool), APR_SUCCESS);
    return thread;
}

static void killed_before_it_was_done(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    const char *message = "";
    apr_status_t rv = APR_SUCCESS;
    journal_row_t *row = row_free(bed, "T1");
    const char *owner = row->owner;
    journal_intent_t intent = journal_bed_intent(bed, "T1", "csr of T1");
    raw_t *raw = raw_open(bed);
    raw_run(raw, "BEGIN");
    raw_run(raw, "SELECT * FROM iscep_journal FOR UPDATE");
    killer_t killer = {bed, "transactionid", 0};
    apr_thread_t *thread = kill_when(&killer);
    apr_status_t claimed = journal_claim(bed->journal, &row, JOURNAL_TO_ISSUE, &intent, bed->pool, &message);
    apr_thread_join(&rv, thread);
    assert_int_equal(killer.killed, 1);
    assert_int_not_equal(claimed, APR_SUCCESS);
    assert_int_not_equal(claimed, APR_EBUSY);
    assert_non_null(strstr(message, "terminating connection"));
    assert_string_equal(row->owner, owner);
    raw_run(raw, "COMMIT");
    raw_close(raw);
    assert_int_equal(journal_claim(bed->journal, &row, JOURNAL_TO_ISSUE, &intent, bed->pool, &message), APR_SUCCESS);
}

typedef apr_status_t (*write_t)(journal_bed_t *bed, journal_row_t **row);

static apr_status_t write_begin(journal_bed_t *bed, journal_row_t **row)
{
    const char *message = "";
    journal_intent_t intent = journal_bed_intent(bed, "begun", "the request");
    return journal_begin(bed->journal, &intent, row, bed->pool, &message);
}

static apr_status_t write_claim(journal_bed_t *bed, journal_row_t **row)
{
    const char *message = "";
    journal_intent_t intent = journal_bed_intent(bed, "T1", "csr of T1");
    return journal_claim(bed->journal, row, JOURNAL_TO_ISSUE, &intent, bed->pool, &message);
}

static apr_status_t write_outcome(journal_bed_t *bed, journal_row_t **row)
{
    const char *message = "";
    journal_outcome_t said = {.state = JOURNAL_ISSUED, .certificate = bytes_of_text("c"), .certificate_fp = "AB",
                              .serial = "01", .report_now = true, .lease = SECONDS(60)};
    return journal_outcome(bed->journal, row, &said, bed->pool, &message);
}

static apr_status_t write_retry(journal_bed_t *bed, journal_row_t **row)
{
    const char *message = "";
    journal_settlement_t settlement = {.verdict = JOURNAL_RETRY, .state = JOURNAL_ISSUED, .due_in = SECONDS(60)};
    return journal_settle(bed->journal, row, &settlement, bed->pool, &message);
}

static apr_status_t write_refusal(journal_bed_t *bed, journal_row_t **row)
{
    const char *message = "";
    journal_settlement_t settlement = {.verdict = JOURNAL_REFUSAL, .state = JOURNAL_WITHHELD, .fail = "no"};
    return journal_settle(bed->journal, row, &settlement, bed->pool, &message);
}

static apr_status_t write_adopt(journal_bed_t *bed, journal_row_t **row)
{
    const char *message = "";
    journal_outcome_t said = {.state = JOURNAL_ISSUED, .certificate = bytes_of_text("c"), .certificate_fp = "AB",
                              .serial = "01", .report_now = true, .lease = SECONDS(60)};
    return journal_adopt(bed->journal, row, &said, bytes_of_text("csr"), bed->pool, &message);
}

/*
 * The commit waits for a standby that does not exist, and there its connection is cut: the row is written, and nobody has
 * said so.
 */
static void killed_after_it_was_done(void **state)
{
    static const struct {
        const char *name;
        write_t write;
        const char *after; /* state and report */
    } rows[] = {
        {"begin", write_begin, "intent failure"},
        {"claim", write_claim, "intent failure"},
        {"outcome", write_outcome, "issued success"},
        {"retry", write_retry, "issued success"},
        {"refusal", write_refusal, "withheld refused"},
        {"adopt", write_adopt, "issued success"},
    };
    journal_bed_t *bed = journal_bed(state);
    const char *adopted = row_free(bed, "T2")->id;
    journal_row_t *row = row_free(bed, "T1");
    raw_t *raw = raw_open(bed);
    raw_run(raw, "SET synchronous_commit = local");
    raw_run(raw, "ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
    raw_run(raw, "SELECT pg_reload_conf()");
    apr_sleep(apr_time_from_msec(300));
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        journal_row_t *begun = NULL;
        journal_row_t **used = rows[i].write == write_begin ? &begun : &row;
        killer_t killer = {bed, "SyncRep", 0};
        if (rows[i].write == write_adopt) {
            row = journal_bed_find(bed, adopted);
        }
        apr_status_t rv = APR_SUCCESS;
        apr_thread_t *thread = kill_when(&killer);
        apr_status_t written = rows[i].write(bed, used);
        apr_thread_join(&rv, thread);
        if (!killer.killed || written) {
            fail_msg("%s: %d connections killed, %d", rows[i].name, killer.killed, written);
        }
        const char *held = apr_psprintf(bed->pool, "%s %s", journal_state_name((*used)->state),
                                        journal_report_name((*used)->report));
        const char *kept = raw_text(raw, "SELECT state || ' ' || report FROM iscep_journal WHERE id = '%s' AND owner = '%s'",
                                    (*used)->id, (*used)->owner);
        assert_string_equal(held, rows[i].after);
        assert_string_equal(kept, rows[i].after);
    }
    raw_run(raw, "ALTER SYSTEM RESET synchronous_standby_names");
    raw_run(raw, "SELECT pg_reload_conf()");
    raw_close(raw);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        JOURNAL_TEST_PGSQL(row_locked_for_long),
        JOURNAL_TEST_PGSQL(killed_before_it_was_done),
        JOURNAL_TEST_PGSQL(killed_after_it_was_done),
    };
    int failed;

    apr_initialize();
    failed = cmocka_run_group_tests_name("journal_killed", tests, NULL, journal_beds_end);
    apr_terminate();
    return failed;
}
