/* SPDX-License-Identifier: Apache-2.0 */
/* gateway/outbox.c: which reports go out in the background, when, in which order, and in whose words. */
#include "gateway/outbox.h"

#include "base/clock.h"
#include "base/text.h"

#include "gateway_fixture.h"
#include "journal_steps.h"

#include <apr_strings.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* The process that lends itself. */
typedef struct host_t {
    gate_t gate;
    outbox_t outbox;
    int places;               /* so many reports may go; then none */
    apr_interval_time_t wait; /* for each place */
    int seconds;              /* pass with each place */
    int stop_at;              /* how often it may be asked whether it stops; 0: always */
    const char *sql;          /* is run when the first place is taken */
    int paced, asked;
} host_t;

static apr_interval_time_t pace(void *baton)
{
    host_t *host = baton;
    if (host->sql && !host->paced) {
        raw_run(host->gate.raw, "%s", host->sql);
    }
    if (host->seconds) {
        gate_wait(&host->gate, host->seconds);
    }
    return host->paced++ < host->places ? host->wait : -1;
}

static bool stopping(void *baton)
{
    host_t *host = baton;
    return host->stop_at && ++host->asked >= host->stop_at;
}

static void host_begin(host_t *host, void **state)
{
    *host = (host_t){.gate = gate_begin(state), .places = 1000};
    host->outbox = (outbox_t){.log = &host->gate.log, .pace = pace, .stopping = stopping, .baton = host};
}

static void run(host_t *host)
{
    host->paced = 0;
    host->asked = 0;
    outbox_run(&host->gate.profile, &host->outbox, host->gate.bed->pool);
}

/* A row that owes a report which is due; made so many seconds ago. */
static journal_row_t *owed(host_t *host, const char *transaction, journal_state_t state, int age)
{
    gate_t *gate = &host->gate;
    apr_pool_t *pool = gate->bed->pool;
    const char *message = "";
    journal_row_t *row = NULL;
    journal_intent_t intent = {.id = apr_pstrcat(pool, "ID ", transaction, NULL),
                               .location = gate->profile.name,
                               .transaction_id = transaction,
                               .key_fp = "4B",
                               .ra_fp = GATE_RA_FP,
                               .request_id = text_uuid(pool),
                               .csr = bed_csr(),
                               .lease = apr_time_from_sec(60)};
    journal_outcome_t outcome = {.state = state, .certificate = pki_certificate_der(gate_leaf(gate_pki->device_key), pool),
                                 .certificate_fp = "AB12", .serial = "0F", .fail = "CA_TIMEOUT -1 silent"};
    assert_int_equal(journal_begin(gate->profile.journal, &intent, &row, pool, &message), APR_SUCCESS);
    if (state != JOURNAL_INTENT) {
        assert_int_equal(journal_outcome(gate->profile.journal, &row, &outcome, pool, &message), APR_SUCCESS);
    }
    raw_run(gate->raw, "UPDATE iscep_journal SET lease_until = 0, due = due - 100000000, created = created - %d WHERE id = '%s'",
            age * 1000, intent.id);
    return row;
}

/* The transactions of which Intune has taken the report, in the order of their making. */
static const char *done(host_t *host)
{
    const char *rows = raw_text(host->gate.raw, "SELECT group_concat(txid, ' ') FROM (SELECT txid FROM iscep_journal WHERE "
                                                "report = 'done' ORDER BY created)");
    return rows ? rows : "";
}

static int due(host_t *host)
{
    return raw_number(host->gate.raw, "SELECT COUNT(*) FROM iscep_journal WHERE report IN ('success', 'failure')");
}

static void nothing_to_do(void **state)
{
    host_t host;
    host_begin(&host, state);
    run(&host);
    assert_int_equal(host.paced, 0);
    owed(&host, "T", JOURNAL_ISSUED, 0);
    raw_run(host.gate.raw, "UPDATE iscep_journal SET due = due + 200000000");
    run(&host);
    assert_int_equal(host.paced, 0);
    host.gate.profile.journal = NULL;
    run(&host);
    assert_int_equal(fixture_count(host.gate.bed->server, "/", NULL), 0);
}

static void oldest_first(void **state)
{
    host_t host;
    host_begin(&host, state);
    owed(&host, "second", JOURNAL_UNKNOWN, 200);
    owed(&host, "fourth", JOURNAL_ISSUED, 50);
    owed(&host, "first", JOURNAL_ISSUED, 300);
    owed(&host, "third", JOURNAL_FAILED, 100);
    host.places = 1;
    run(&host);
    assert_string_equal(done(&host), "first");
    host.places = 2;
    run(&host);
    assert_string_equal(done(&host), "first second third");
    host.places = 0;
    run(&host);
    assert_int_equal(due(&host), 1);
    assert_int_equal(bed_logged(host.gate.bed, "ISCEP0410"), 3);
}

static void all_of_many(void **state)
{
    host_t host;
    host_begin(&host, state);
    for (int i = 0; i < 20; i++) {
        owed(&host, apr_psprintf(host.gate.bed->pool, "T%d", i), i & 1 ? JOURNAL_ISSUED : JOURNAL_UNKNOWN, i);
    }
    host.gate.profile.name = "another location";
    owed(&host, "other", JOURNAL_ISSUED, 1000);
    host.gate.profile.name = GATE_NAME;
    run(&host);
    assert_int_equal(due(&host), 1);
    assert_int_equal(fixture_count(host.gate.bed->server, GATE_SUCCESS_PATH, NULL), 10);
    assert_int_equal(fixture_count(host.gate.bed->server, GATE_FAILURE_PATH, NULL), 10);
    assert_int_equal(fixture_count(host.gate.bed->server, "/svc/", "\"other\""), 0);
}

static void paced(void **state)
{
    host_t host;
    host_begin(&host, state);
    for (int i = 0; i < 5; i++) {
        owed(&host, apr_psprintf(host.gate.bed->pool, "T%d", i), JOURNAL_ISSUED, i);
    }
    host.wait = apr_time_from_msec(100);
    host.places = 3;
    apr_time_t before = apr_time_now();
    run(&host);
    assert_true(apr_time_now() - before >= apr_time_from_msec(300));
    assert_int_equal(due(&host), 2);
}

/* A process that is about to end sends no more, and a turn ends after five seconds. */
static void ends_early(void **state)
{
    host_t host;
    host_begin(&host, state);
    for (int i = 0; i < 20; i++) {
        owed(&host, apr_psprintf(host.gate.bed->pool, "T%d", i), JOURNAL_ISSUED, i);
    }
    host.stop_at = 1;
    run(&host);
    assert_int_equal(due(&host), 20);
    host.stop_at = 4;
    run(&host);
    assert_int_equal(due(&host), 18);
    host.stop_at = 0;
    host.seconds = 2;
    run(&host);
    assert_int_equal(due(&host), 15);
}

/* Rows that somebody has are left to him, unless his process has died on this machine. */
static void owners(void **state)
{
    host_t host;
    host_begin(&host, state);
    raw_t *raw = host.gate.raw;
    const char *tag = host.gate.journal->settings.tag;
    owed(&host, "free", JOURNAL_ISSUED, 1);
    owed(&host, "dead", JOURNAL_ISSUED, 2);
    owed(&host, "alive", JOURNAL_ISSUED, 3);
    owed(&host, "elsewhere", JOURNAL_ISSUED, 4);
    raw_run(raw, "UPDATE iscep_journal SET lease_until = due + 200000000 WHERE txid <> 'free'");
    raw_run(raw, "UPDATE iscep_journal SET owner = '%s-%ld-AA' WHERE txid = 'dead'", tag, dead_process());
    raw_run(raw, "UPDATE iscep_journal SET owner = '%s-%ld-AA' WHERE txid = 'alive'", tag, (long)getpid());
    raw_run(raw, "UPDATE iscep_journal SET owner = '0123456789ABCDEF-%ld-AA' WHERE txid = 'elsewhere'", dead_process());
    run(&host);
    assert_string_equal(done(&host), "dead free");
    assert_int_equal(fixture_count(host.gate.bed->server, GATE_SUCCESS_PATH, NULL), 2);
}

/* Somebody is quicker between the look and the claim: the next one is sent. */
static void quicker_ones(void **state)
{
    host_t host;
    host_begin(&host, state);
    owed(&host, "lost", JOURNAL_ISSUED, 3);
    owed(&host, "reported", JOURNAL_ISSUED, 2);
    owed(&host, "ours", JOURNAL_ISSUED, 1);
    host.sql = "UPDATE iscep_journal SET owner = 'quicker', lease_until = due + 200000000, report = CASE WHEN txid = 'lost' "
               "THEN report ELSE 'done' END WHERE txid <> 'ours'";
    run(&host);
    assert_string_equal(done(&host), "reported ours");
    assert_int_equal(fixture_count(host.gate.bed->server, GATE_SUCCESS_PATH, NULL), 1);
    assert_int_equal(bed_logged(host.gate.bed, "ISCEP0413"), 0);
}

/* Why there is no certificate: the row's word where it has one that Intune can be told, else that it was abandoned. */
static void words_for_intune(void **state)
{
    static const struct {
        const char *name;
        journal_state_t state;
        const char *fail, *hresult, *words, *event;
    } CASES[] = {
        {"intent", JOURNAL_INTENT, NULL, "-2147023661", "the gateway ended", NULL},
        {"unknown", JOURNAL_UNKNOWN, "CA_TIMEOUT -1 silent", "-2147012894", "did not answer in time; it may have issued a certificate: silent", NULL},
        {"failed", JOURNAL_FAILED, "CA_REFUSED 4 failInfo badCertId", "-2146877420", "the CA refused the request: failInfo badCertId", NULL},
        {"unreadable", JOURNAL_FAILED, "what is that", "-2147023661", "the gateway ended", NULL},
        {"nothing for Intune", JOURNAL_FAILED, "BAD_SIGNER -1 who", "-2147023661", "the gateway ended", NULL},
        {"pending", JOURNAL_PENDING, NULL, "-2147023436", "the CA did not decide in time", "pending-expired"},
    };
    host_t host;
    host_begin(&host, state);
    for (size_t i = 0; i < COUNT(CASES); i++) {
        raw_run(host.gate.raw, "DELETE FROM iscep_journal");
        fixture_forget(host.gate.bed->server);
        owed(&host, "T", CASES[i].state, 1);
        raw_run(host.gate.raw, "UPDATE iscep_journal SET fail = %s",
                CASES[i].fail ? apr_pstrcat(host.gate.bed->pool, "'", CASES[i].fail, "'", NULL) : "NULL");
        run(&host);
        const char *event = gate_column(&host.gate, "event");
        if (fixture_count(host.gate.bed->server, GATE_FAILURE_PATH, CASES[i].hresult) != 1 ||
            fixture_count(host.gate.bed->server, GATE_FAILURE_PATH, CASES[i].words) != 1 ||
            strcmp(gate_row(&host.gate), "failed/done") ||
            strcmp(event ? event : "-", CASES[i].event ? CASES[i].event : "-")) {
            fail_msg("%s: %s, \"%s\"", CASES[i].name, gate_row(&host.gate),
                     fixture_last(host.gate.bed->server, GATE_FAILURE_PATH, NULL)->body);
        }
    }
}

static void success_in_full(void **state)
{
    host_t host;
    certificate_facts_t facts;
    host_begin(&host, state);
    const journal_row_t *row = owed(&host, "T", JOURNAL_ISSUED, 1);
    assert_int_equal(certificate_facts_of_der(&facts, gate_pki->engine, row->certificate, host.gate.bed->pool), APR_SUCCESS);
    run(&host);
    const fixture_seen_t *seen = fixture_last(host.gate.bed->server, GATE_SUCCESS_PATH, "\"T\"");
    assert_non_null(strstr(seen->body, facts.thumbprint));
    assert_non_null(strstr(seen->body, facts.not_after));
    assert_non_null(strstr(seen->body, text_base64(host.gate.bed->pool, bed_csr())));
    assert_string_equal(fixture_header(seen, "client-request-id", host.gate.bed->pool), row->request_id);
}

/* Nothing can be reported without the request, or of a certificate that is none. */
static void unreadable(void **state)
{
    static const struct {
        const char *name;
        journal_state_t state;
        resync_t resync;
        const char *sql, *row;
    } CASES[] = {
        {"success", JOURNAL_ISSUED, RESYNC_RESEND, "csr = 'AAAA'", "issued/dead"},
        {"success without", JOURNAL_ISSUED, RESYNC_RESEND, "csr = NULL", "issued/dead"},
        {"certificate", JOURNAL_ISSUED, RESYNC_RESEND, "cert = 'AAAA'", "issued/dead"},
        {"failure", JOURNAL_FAILED, RESYNC_RESEND, "csr = 'AAAA'", "failed/dead"},
        {"unknown", JOURNAL_UNKNOWN, RESYNC_RESEND, "csr = NULL", "failed/dead"},
        {"intent, none", JOURNAL_INTENT, RESYNC_NONE, "csr = NULL", "unknown/dead"},
        {"pending", JOURNAL_PENDING, RESYNC_NONE, "csr = NULL", "failed/dead"},
    };
    host_t host;
    host_begin(&host, state);
    for (size_t i = 0; i < COUNT(CASES); i++) {
        raw_run(host.gate.raw, "DELETE FROM iscep_journal");
        host.gate.profile.resync = CASES[i].resync;
        owed(&host, "T", CASES[i].state, 1);
        raw_run(host.gate.raw, "UPDATE iscep_journal SET %s", CASES[i].sql);
        run(&host);
        if (strcmp(gate_row(&host.gate), CASES[i].row) || strcmp(gate_column(&host.gate, "event"), "report-dead")) {
            fail_msg("%s: %s", CASES[i].name, gate_row(&host.gate));
        }
        assert_int_equal(bed_logged(host.gate.bed, "ISCEP0412"), (int)i + 1);
    }
    assert_int_equal(gate_reports(&host.gate), 0);
}

/* While Intune takes none one goes as a probe; once it is taken, all that were put off go. */
static void outage(void **state)
{
    host_t host;
    host_begin(&host, state);
    for (int i = 0; i < 5; i++) {
        owed(&host, apr_psprintf(host.gate.bed->pool, "T%d", i), JOURNAL_ISSUED, i);
    }
    gate_intune(&host.gate, "/svc/", 503, NULL);
    run(&host);
    run(&host);
    assert_int_equal(gate_reports(&host.gate), 1);
    assert_int_equal(bed_logged(host.gate.bed, "ISCEP0411"), 1);
    gate_wait(&host.gate, 2);
    run(&host);
    assert_int_equal(gate_reports(&host.gate), 2);
    assert_int_equal(raw_number(host.gate.raw, "SELECT SUM(tries) FROM iscep_journal"), 2);
    gate_intune(&host.gate, "/svc/", 200, "Success");
    gate_wait(&host.gate, 5);
    run(&host);
    run(&host);
    assert_int_equal(due(&host), 0);
    assert_int_equal(gate_reports(&host.gate), 7);
    assert_int_equal(bed_logged(host.gate.bed, "ISCEP0408"), 1);
}

/* A report that is never taken, while the others are, keeps its pauses: 5 s, 10 s, 20 s, 40 s, and is no outage. */
static void one_that_is_never_taken(void **state)
{
    host_t host;
    host_begin(&host, state);
    owed(&host, "P", JOURNAL_ISSUED, 100);
    fixture_on(host.gate.bed->server, GATE_SUCCESS_PATH, "\"P\"", -1, (fixture_reply_t){503, NULL, "{}", 0, 0, false});
    for (int i = 0; i < 20; i++) {
        owed(&host, apr_psprintf(host.gate.bed->pool, "T%d", i), JOURNAL_ISSUED, 1);
        run(&host);
        gate_wait(&host.gate, 2);
        raw_run(host.gate.raw, "UPDATE iscep_journal SET due = due - 2000");
    }
    run(&host);
    assert_int_equal(due(&host), 1);
    assert_true(fixture_count(host.gate.bed->server, GATE_SUCCESS_PATH, "\"P\"") <= 4);
    assert_int_equal(bed_logged(host.gate.bed, "ISCEP0408"), 0);
}

/* A journal that fails is complained about once a minute, and reports wait. */
static void broken_journal(void **state)
{
    host_t host;
    host_begin(&host, state);
    owed(&host, "T", JOURNAL_ISSUED, 1);
    gate_journal_away(&host.gate, true);
    run(&host);
    run(&host);
    assert_int_equal(bed_logged(host.gate.bed, "ISCEP0413"), 1);
    gate_wait(&host.gate, 61);
    run(&host);
    assert_int_equal(bed_logged(host.gate.bed, "ISCEP0413"), 2);
    gate_journal_away(&host.gate, false);
    gate_break(&host.gate, GATE_CLAIM);
    gate_wait(&host.gate, 61);
    run(&host);
    assert_int_equal(bed_logged(host.gate.bed, "ISCEP0413"), 3);
    assert_int_equal(gate_reports(&host.gate), 0);
    gate_mend(&host.gate);
    run(&host);
    assert_int_equal(due(&host), 0);
}

static void pruning(void **state)
{
    host_t host;
    host_begin(&host, state);
    for (int i = 0; i < 3; i++) {
        owed(&host, apr_psprintf(host.gate.bed->pool, "T%d", i), JOURNAL_ISSUED, 1);
    }
    raw_run(host.gate.raw, "UPDATE iscep_journal SET updated = updated - 100000, report = CASE WHEN txid = 'T0' THEN report "
                           "ELSE 'done' END, state = CASE WHEN txid = 'T1' THEN 'withheld' ELSE state END");
    host.stop_at = 1;
    outbox_prune(&host.gate.profile, &host.outbox, apr_time_from_sec(50), host.gate.bed->pool);
    assert_int_equal(raw_number(host.gate.raw, "SELECT COUNT(*) FROM iscep_journal"), 3);
    host.stop_at = 0;
    gate_wait(&host.gate, 61);
    for (int i = 0; i < 2; i++) {
        outbox_prune(&host.gate.profile, &host.outbox, apr_time_from_sec(50), host.gate.bed->pool);
        assert_string_equal(raw_text(host.gate.raw, "SELECT group_concat(txid) FROM iscep_journal"), "T0,T1");
        assert_int_equal(bed_logged(host.gate.bed, "ISCEP0414"), 1);
    }
}

static void look(host_t *host)
{
    const profile_t *profile = &host->gate.profile;
    outbox_look(&profile, 1, &host->outbox, host->gate.bed->pool);
}

static void former_ra(void **state)
{
    host_t host;
    host_begin(&host, state);
    owed(&host, "T", JOURNAL_PENDING, 1);
    look(&host);
    assert_int_equal(bed_logged(host.gate.bed, "ISCEP0418"), 0);
    host.gate.profile.ra_fp = "4E4557";
    look(&host);
    assert_int_equal(bed_logged(host.gate.bed, "ISCEP0418"), 0); /* looked at within the hour */
    gate_wait(&host.gate, 3601);
    look(&host);
    look(&host);
    assert_int_equal(bed_logged(host.gate.bed, "ISCEP0418"), 1);
    gate_wait(&host.gate, 3601);
    host.gate.profile.former = gate_pki->identity;
    look(&host);
    assert_int_equal(bed_logged(host.gate.bed, "ISCEP0418"), 1);
}

/* Reports of a location that has another name now: once they are older than an hour, nobody else sends them either. */
static void reports_of_nobody(void **state)
{
    host_t host;
    host_begin(&host, state);
    owed(&host, "T", JOURNAL_ISSUED, 1);
    owed(&host, "U", JOURNAL_UNKNOWN, 1);
    raw_run(host.gate.raw, "UPDATE iscep_journal SET due = due + 100000000");
    host.gate.profile.name = "renamed";
    look(&host);
    assert_int_equal(bed_logged(host.gate.bed, "ISCEP0421"), 0);
    raw_run(host.gate.raw, "UPDATE iscep_journal SET updated = updated - 3601000, due = due - 3601000");
    gate_wait(&host.gate, 3601);
    look(&host);
    look(&host);
    assert_int_equal(bed_logged(host.gate.bed, "ISCEP0421"), 1);
    assert_int_equal(bed_logged(host.gate.bed, "2 reports are owed for the location \"" GATE_NAME "\""), 1);
    host.gate.profile.name = GATE_NAME;
    gate_wait(&host.gate, 3601);
    look(&host);
    assert_int_equal(bed_logged(host.gate.bed, "ISCEP0421"), 1);
}

/* What waits for days at the CA of a location that another machine serves, and is issued at last, is not owed for days. */
static void reports_of_another_machine(void **state)
{
    host_t host;
    host_begin(&host, state);
    owed(&host, "T", JOURNAL_ISSUED, 200000);
    owed(&host, "U", JOURNAL_PENDING, 200000);
    raw_run(host.gate.raw, "UPDATE iscep_journal SET due = due + 900000000 WHERE txid = 'U'");
    host.gate.profile.name = "mine";
    look(&host);
    assert_int_equal(bed_logged(host.gate.bed, "ISCEP0421"), 0);
}

static void count_from_here(gate_t *gate)
{
    void *memory = apr_palloc(gate->bed->pool, counters_size(1));
    counters_begin(memory, 1);
    gate->profile.counters = counters_of(memory, 0, gate->bed->pool);
}

/* What can still be read is well again only once it can be written, which nobody but the background may try. */
static void read_only(void **state)
{
    host_t host;
    host_begin(&host, state);
    gate_t *gate = &host.gate;
    count_from_here(gate);
    run(&host);
    assert_false(counters_service_fails(gate->profile.counters, SERVICE_JOURNAL));

    gate_journal_locked(gate, true);
    gate_enroll(gate, gate_message(gate, GATE_CHALLENGE));
    assert_int_equal(gate->t->result->problem, PROBLEM_JOURNAL_UNAVAILABLE);
    assert_true(counters_service_fails(gate->profile.counters, SERVICE_JOURNAL));
    run(&host);
    assert_true(counters_service_fails(gate->profile.counters, SERVICE_JOURNAL));
    assert_int_equal(bed_logged(gate->bed, "ISCEP0413"), 1);

    gate_journal_locked(gate, false);
    run(&host);
    assert_false(counters_service_fails(gate->profile.counters, SERVICE_JOURNAL));
}

/* A device that comes again has its certificate from a journal that can only be read. */
static void delivered_again_while_read_only(void **state)
{
    host_t host;
    host_begin(&host, state);
    gate_t *gate = &host.gate;
    count_from_here(gate);
    gate_enrolled(gate);
    gate_answer(gate, gate_certrep(gate, gate_leaf(gate_pki->device_key)));
    assert_int_equal(gate->t->reply.http_status, 200);
    counters_service(gate->profile.counters, SERVICE_JOURNAL, false, "the disk is full");
    gate_enroll(gate, gate_message(gate, GATE_CHALLENGE));
    assert_int_equal(gate->t->reply.http_status, 200);
    assert_true(counters_service_fails(gate->profile.counters, SERVICE_JOURNAL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        GATE_TEST_JOURNALED(nothing_to_do),   GATE_TEST_JOURNALED(oldest_first), GATE_TEST_JOURNALED(all_of_many),
        GATE_TEST_JOURNALED(paced),           GATE_TEST_JOURNALED(ends_early),   GATE_TEST_JOURNALED(owners),
        GATE_TEST_JOURNALED(quicker_ones),    GATE_TEST_JOURNALED(words_for_intune),
        GATE_TEST_JOURNALED(success_in_full), GATE_TEST_JOURNALED(unreadable),   GATE_TEST_JOURNALED(outage),
        GATE_TEST_JOURNALED(one_that_is_never_taken),
        GATE_TEST_JOURNALED(broken_journal),  GATE_TEST_JOURNALED(pruning),      GATE_TEST_JOURNALED(former_ra),
        GATE_TEST_JOURNALED(reports_of_nobody), GATE_TEST_JOURNALED(reports_of_another_machine),
        GATE_TEST_JOURNALED(read_only),
        GATE_TEST_JOURNALED(delivered_again_while_read_only),
    };
    if (gate_start()) {
        return 1;
    }
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    gate_end();
    return failed;
}
