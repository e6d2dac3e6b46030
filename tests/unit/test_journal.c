/* SPDX-License-Identifier: Apache-2.0 */
#include "journal_steps.h"

#include "base/clock.h"
#include "base/text.h"

#include <apr_strings.h>

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
    assert_int_equal(row_begin(bed, &intent, &row), APR_SUCCESS);
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
    assert_int_equal(row_begin(bed, &first, &row), APR_SUCCESS);
    assert_int_equal(row_begin(bed, &first, &row), APR_EEXIST);
    assert_int_equal(row_begin(bed, &other, &row), APR_EEXIST);
    /* Another location's is none of its business. */
    journal_intent_t elsewhere = other;
    elsewhere.location = "elsewhere";
    elsewhere.id = journal_id("elsewhere", "T1", other.csr, bed->pool);
    journal_row_t *there = NULL;
    assert_int_equal(row_begin(bed, &elsewhere, &there), APR_SUCCESS);
    /* Once the first is decided, the other is a transaction of its own; the same never. */
    assert_int_equal(row_outcome(bed, &row, JOURNAL_FAILED), APR_SUCCESS);
    assert_int_equal(row_begin(bed, &first, &row), APR_EEXIST);
    assert_int_equal(row_begin(bed, &other, &row), APR_SUCCESS);
    assert_int_equal(row_begin(bed, &third, &row), APR_EEXIST);
    /* And once nobody is at it. */
    row_lease_ends(bed, other.id);
    assert_int_equal(row_begin(bed, &third, &row), APR_SUCCESS);
}

static void a_poll_finds_its_row(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    const char *message = "";
    journal_row_t *row = NULL;
    journal_intent_t first = journal_bed_intent(bed, "T1", "the request");
    journal_intent_t second = journal_bed_intent(bed, "T1", "another request");
    assert_int_equal(row_begin(bed, &first, &row), APR_SUCCESS);
    row_lease_ends(bed, row->id);
    apr_sleep(apr_time_from_msec(20));
    assert_int_equal(row_begin(bed, &second, &row), APR_SUCCESS);
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
    assert_int_equal(row_begin(bed, &intent, &row), APR_SUCCESS);
    clock_shift(SECONDS(3600));
    row = journal_bed_find(bed, intent.id);
    assert_true(row->leased);
    assert_int_equal(row_claim(bed, &row, JOURNAL_TO_ISSUE), APR_EBUSY);
    apr_sleep(apr_time_from_msec(800));
    row = journal_bed_find(bed, intent.id);
    assert_false(row->leased);
    assert_int_equal(row_claim(bed, &row, JOURNAL_TO_ISSUE), APR_SUCCESS);
    assert_true(journal_bed_find(bed, intent.id)->leased);
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
    assert_int_equal(row_claim(bed, &ours, JOURNAL_TO_ISSUE), APR_SUCCESS);
    assert_int_equal(row_claim(bed, &before, JOURNAL_TO_ISSUE), APR_EBUSY);
    assert_int_equal(row_claim(bed, &theirs, JOURNAL_TO_ISSUE), APR_EBUSY);
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
    assert_int_equal(row_outcome(bed, &row, JOURNAL_FAILED), APR_SUCCESS);
    assert_int_equal(row_settle(bed, &row, JOURNAL_ACCEPTED, JOURNAL_FAILED), APR_SUCCESS);
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
    row_lease_ends(bed, row->id);
    row = journal_bed_find(bed, row->id);
    intent.csr = bytes_of_text("signed once more");
    assert_int_equal(journal_claim(bed->journal, &row, JOURNAL_TO_ISSUE, &intent, bed->pool, &message), APR_SUCCESS);
    assert_true(bytes_equal(row->csr, bytes_of_text("signed anew")));
    assert_true(bytes_equal(journal_bed_find(bed, row->id)->csr, bytes_of_text("signed anew")));
}

/* The CA is not asked where the row could not tell Intune of it: an id that long makes the request's seal fail. */
static void no_try_without_its_request(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    const char *message = "";
    raw_t *raw = raw_open(bed);
    journal_row_t *row = journal_bed_row(bed, "T1");
    assert_int_equal(row_outcome(bed, &row, JOURNAL_FAILED), APR_SUCCESS);
    assert_int_equal(row_settle(bed, &row, JOURNAL_ACCEPTED, JOURNAL_FAILED), APR_SUCCESS);
    raw_run(raw, "UPDATE iscep_journal SET id = id || id");
    row = journal_bed_find(bed, apr_pstrcat(bed->pool, row->id, row->id, NULL));
    journal_intent_t intent = journal_bed_intent(bed, "T1", "signed anew");
    assert_int_equal(journal_claim(bed->journal, &row, JOURNAL_TO_ISSUE, &intent, bed->pool, &message), APR_EGENERAL);
    assert_non_null(strstr(message, "for the request"));
    assert_string_equal(raw_text(raw, "SELECT state FROM iscep_journal"), "failed");
    raw_close(raw);
}

static void outcome_is_kept(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    const char *message = "";
    journal_row_t *row = journal_bed_row(bed, "T1");
    journal_outcome_t said = row_outcome_of(JOURNAL_ISSUED);
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
    assert_int_equal(row_claim(bed, &row, JOURNAL_TO_POLL), APR_SUCCESS);
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
    row_lease_ends(bed, slow->id);
    journal_row_t *quick = journal_bed_find(bed, slow->id);
    assert_int_equal(row_claim(bed, &quick, JOURNAL_TO_ISSUE), APR_SUCCESS);
    /* Somebody is at it. */
    journal_row_t *row = slow;
    assert_int_equal(row_outcome(bed, &row, JOURNAL_ISSUED), APR_EBUSY);
    assert_int_equal(row_adopt(bed, &row), APR_EBUSY);
    assert_int_equal(row_outcome(bed, &quick, JOURNAL_FAILED), APR_SUCCESS);
    assert_int_equal(row_settle(bed, &quick, JOURNAL_ACCEPTED, JOURNAL_FAILED), APR_SUCCESS);
    assert_int_equal(journal_bed_find(bed, slow->id)->csr.len, 0);
    row = slow;
    assert_int_equal(row_adopt(bed, &row), APR_SUCCESS);
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
    assert_int_equal(row_adopt(bed, &next), APR_EBUSY);
    row_lease_ends(bed, slow->id);
    assert_int_equal(journal_drop(bed->journal, slow->id, bed->pool, &message), APR_SUCCESS);
    assert_int_equal(row_adopt(bed, &next), APR_EBUSY);
}

/* Whoever sent it, and only for that certificate. */
static void accepted_is_a_fact(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    journal_row_t *sent = row_issued(bed, "T1");
    row_lease_ends(bed, sent->id);
    journal_row_t *next = journal_bed_find(bed, sent->id);
    assert_int_equal(row_claim(bed, &next, JOURNAL_TO_REPORT), APR_SUCCESS);
    journal_row_t *other = apr_pmemdup(bed->pool, sent, sizeof(*sent));
    other->certificate_fp = "another";
    assert_int_equal(row_settle(bed, &other, JOURNAL_ACCEPTED, JOURNAL_ISSUED), APR_EBUSY);
    /* What the first sender does not know: that somebody else has it now. */
    journal_row_t *late = sent;
    assert_int_equal(row_settle(bed, &late, JOURNAL_REFUSAL, JOURNAL_WITHHELD), APR_EBUSY);
    late = sent;
    assert_int_equal(row_settle(bed, &late, JOURNAL_RETRY, JOURNAL_ISSUED), APR_EBUSY);
    late = sent;
    assert_int_equal(row_settle(bed, &late, JOURNAL_ACCEPTED, JOURNAL_ISSUED), APR_SUCCESS);
    assert_int_equal(late->report, JOURNAL_DONE);
    /* The second sender's refusal comes too late; he sees what holds. */
    assert_int_equal(row_settle(bed, &next, JOURNAL_REFUSAL, JOURNAL_WITHHELD), APR_EBUSY);
    assert_int_equal(next->report, JOURNAL_DONE);
    assert_int_equal(next->state, JOURNAL_ISSUED);

    /* And the other way round: the device of the first sender has the certificate, and gets it again. */
    late = row_issued(bed, "T2");
    row_lease_ends(bed, late->id);
    next = journal_bed_find(bed, late->id);
    assert_int_equal(row_claim(bed, &next, JOURNAL_TO_REPORT), APR_SUCCESS);
    assert_int_equal(row_settle(bed, &next, JOURNAL_REFUSAL, JOURNAL_WITHHELD), APR_SUCCESS);
    assert_int_equal(row_settle(bed, &late, JOURNAL_ACCEPTED, JOURNAL_ISSUED), APR_SUCCESS);
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
        assert_int_equal(row_outcome(bed, &row, rows[i].state), APR_SUCCESS);
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
        assert_int_equal(row_begin(bed, &intent, &row), APR_SUCCESS);
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
    apr_status_t rv = row_begin(bed, &intent, &row);
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
        JOURNAL_TEST(the_dead_give_way),
        JOURNAL_TEST(a_new_try_starts_afresh),
        JOURNAL_TEST(no_try_without_its_request),
        JOURNAL_TEST(outcome_is_kept),
        JOURNAL_TEST(pending_keeps_its_deadline),
        JOURNAL_TEST(a_late_certificate_is_adopted),
        JOURNAL_TEST(accepted_is_a_fact),
        JOURNAL_TEST(the_request_is_forgotten),
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
