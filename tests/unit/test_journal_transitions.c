/* SPDX-License-Identifier: Apache-2.0 */
/* Each statement of the journal on a row in each state, under each kind of lease. */
#include "journal_steps.h"

#include <apr_strings.h>
#include <unistd.h>

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
    return row_claim(bed, row, JOURNAL_TO_ISSUE);
}

static apr_status_t act_poll(journal_bed_t *bed, journal_row_t **row)
{
    return row_claim(bed, row, JOURNAL_TO_POLL);
}

static apr_status_t act_report(journal_bed_t *bed, journal_row_t **row)
{
    return row_claim(bed, row, JOURNAL_TO_REPORT);
}

static apr_status_t act_issued(journal_bed_t *bed, journal_row_t **row)
{
    return row_outcome(bed, row, JOURNAL_ISSUED);
}

static apr_status_t act_failed(journal_bed_t *bed, journal_row_t **row)
{
    return row_outcome(bed, row, JOURNAL_FAILED);
}

static apr_status_t act_unknown(journal_bed_t *bed, journal_row_t **row)
{
    return row_outcome(bed, row, JOURNAL_UNKNOWN);
}

static apr_status_t act_pending(journal_bed_t *bed, journal_row_t **row)
{
    return row_outcome(bed, row, JOURNAL_PENDING);
}

static journal_state_t after_failure(const journal_row_t *row)
{
    return row->report == JOURNAL_OWED_FAILURE ? JOURNAL_FAILED : row->state;
}

static apr_status_t act_accepted(journal_bed_t *bed, journal_row_t **row)
{
    return row_settle(bed, row, JOURNAL_ACCEPTED, after_failure(*row));
}

static apr_status_t act_refused(journal_bed_t *bed, journal_row_t **row)
{
    return row_settle(bed, row, JOURNAL_REFUSAL, JOURNAL_WITHHELD);
}

static apr_status_t act_retry(journal_bed_t *bed, journal_row_t **row)
{
    return row_settle(bed, row, JOURNAL_RETRY, (*row)->state);
}

static apr_status_t act_given_up(journal_bed_t *bed, journal_row_t **row)
{
    return row_settle(bed, row, JOURNAL_GIVEN_UP, (*row)->state);
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
    {"adopt", row_adopt, "intent unknown pending failed", OVER, false, "issued/success"},
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        JOURNAL_TEST(transitions),
    };
    int failed;

    apr_initialize();
    failed = cmocka_run_group_tests_name("journal_transitions", tests, NULL, journal_beds_end);
    apr_terminate();
    return failed;
}
