/* SPDX-License-Identifier: Apache-2.0 */
#include "journal_steps.h"

#include "base/text.h"

#include <sys/wait.h>
#include <unistd.h>

apr_status_t row_begin(journal_bed_t *bed, const journal_intent_t *intent, journal_row_t **row)
{
    const char *message = "";
    return journal_begin(bed->journal, intent, row, bed->pool, &message);
}

apr_status_t row_claim(journal_bed_t *bed, journal_row_t **row, journal_purpose_t purpose)
{
    const char *message = "";
    journal_intent_t intent = journal_bed_intent(bed, (*row)->transaction_id, "csr of the claim");
    intent.id = (*row)->id;
    return journal_claim(bed->journal, row, purpose, &intent, bed->pool, &message);
}

journal_outcome_t row_outcome_of(journal_state_t state)
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

apr_status_t row_outcome(journal_bed_t *bed, journal_row_t **row, journal_state_t state)
{
    const char *message = "";
    journal_outcome_t said = row_outcome_of(state);
    return journal_outcome(bed->journal, row, &said, bed->pool, &message);
}

apr_status_t row_settle(journal_bed_t *bed, journal_row_t **row, journal_verdict_t verdict, journal_state_t state)
{
    const char *message = "";
    journal_settlement_t settlement = {.verdict = verdict, .state = state, .due_in = SECONDS(30)};
    return journal_settle(bed->journal, row, &settlement, bed->pool, &message);
}

journal_row_t *row_issued(journal_bed_t *bed, const char *transaction)
{
    journal_row_t *row = journal_bed_row(bed, transaction);
    assert_int_equal(row_outcome(bed, &row, JOURNAL_ISSUED), APR_SUCCESS);
    return row;
}

apr_status_t row_adopt(journal_bed_t *bed, journal_row_t **row)
{
    const char *message = "";
    journal_outcome_t late = row_outcome_of(JOURNAL_ISSUED);
    return journal_adopt(bed->journal, row, &late, bytes_of_text("late csr"), bed->pool, &message);
}

long dead_process(void)
{
    pid_t child = fork();
    if (!child) {
        _exit(0);
    }
    assert_int_equal(waitpid(child, NULL, 0), child);
    return child;
}

void row_lease_ends(journal_bed_t *bed, const char *id)
{
    raw_t *raw = raw_open(bed);
    raw_run(raw, "UPDATE iscep_journal SET lease_until = 0 WHERE id = '%s'", id);
    raw_close(raw);
}

journal_row_t *row_free(journal_bed_t *bed, const char *transaction)
{
    const char *id = journal_bed_row(bed, transaction)->id;
    row_lease_ends(bed, id);
    return journal_bed_find(bed, id);
}
