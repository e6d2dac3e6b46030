/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway_fixture.h"

#include "base/clock.h"

#include <apr_general.h>
#include <apr_strings.h>
#include <string.h>

pki_t *gate_pki;
static apr_pool_t *pki_pool;

int gate_start(void)
{
    if (bed_start() || apr_pool_create(&pki_pool, NULL)) {
        return -1;
    }
    gate_pki = pki_make(pki_pool);
    return 0;
}

void gate_end(void)
{
    apr_pool_destroy(pki_pool);
    apr_terminate();
}

/* Triggers tell the journal's statements apart by what they change; all of them are there before the journal connects. */
static void breakages_make(gate_t *gate)
{
    static const struct {
        const char *step, *when;
    } STEPS[] = {
        {GATE_CLAIM, "NEW.owner <> OLD.owner AND (NEW.cert IS NULL OR OLD.cert IS NOT NULL)"},
        {GATE_ADOPT, "NEW.owner <> OLD.owner AND NEW.cert IS NOT NULL AND OLD.cert IS NULL"},
        {GATE_OUTCOME, "NEW.owner = OLD.owner AND OLD.state IN ('intent', 'pending') AND NEW.report IN ('success', "
                       "'failure') AND (NEW.state <> OLD.state OR NEW.lease_until <> OLD.lease_until)"},
        {GATE_SETTLE, "NEW.owner = OLD.owner AND (NEW.report NOT IN ('success', 'failure') OR (OLD.state = NEW.state AND "
                      "NEW.lease_until = 0 AND OLD.lease_until <> 0))"},
        {GATE_RAISE, "NEW.owner = OLD.owner AND NEW.event IS NOT NULL AND NEW.event_due <> COALESCE(OLD.event_due, 0) "
                     "AND NEW.updated = OLD.updated"},
    };
    raw_run(gate->raw, "CREATE TABLE broken (step TEXT NOT NULL)");
    for (size_t i = 0; i < sizeof(STEPS) / sizeof(STEPS[0]); i++) {
        raw_run(gate->raw,
                "CREATE TRIGGER break_%s BEFORE UPDATE ON iscep_journal WHEN EXISTS (SELECT 1 FROM broken WHERE step = "
                "'%s') AND %s BEGIN SELECT RAISE(ABORT, 'the test breaks it'); END",
                STEPS[i].step, STEPS[i].step, STEPS[i].when);
    }
    raw_run(gate->raw, "CREATE TRIGGER break_begin BEFORE INSERT ON iscep_journal WHEN EXISTS (SELECT 1 FROM broken WHERE "
                       "step = 'begin') BEGIN SELECT RAISE(ABORT, 'the test breaks it'); END");
    raw_run(gate->raw, "CREATE TRIGGER steal AFTER UPDATE ON iscep_journal WHEN EXISTS (SELECT 1 FROM broken WHERE step = "
                       "'steal') AND NEW.owner = OLD.owner AND NEW.state <> OLD.state BEGIN UPDATE iscep_journal SET "
                       "owner = 'thief' WHERE id = NEW.id; END");
    raw_run(gate->raw, "CREATE TRIGGER vanish BEFORE UPDATE ON iscep_journal WHEN EXISTS (SELECT 1 FROM broken WHERE step = "
                       "'vanish') AND NEW.state = 'pending' AND NEW.owner <> OLD.owner BEGIN DELETE FROM iscep_journal; "
                       "SELECT RAISE(IGNORE); END");
}

static profile_t profile_of(const gate_t *gate)
{
    return (profile_t){.name = GATE_NAME,
                       .identity = gate_pki->identity,
                       .policy = gate_pki->policy,
                       .intune = gate->bed->intune,
                       .notify = NOTIFY_BEFORE,
                       .resync = RESYNC_RESEND,
                       .come_back = COME_BACK_503,
                       .ca_time = apr_time_from_sec(60),
                       .report_time = apr_time_from_sec(30),
                       .grace = apr_time_from_sec(600),
                       .pending_limit = apr_time_from_sec(3600),
                       .report_limit = apr_time_from_sec(86400),
                       .ra_fp = GATE_RA_FP,
                       .backend = "http://127.0.0.1/",
                       .max_message = 65536,
                       .cache = gate->bed->cache,
                       .journal = gate->journal ? gate->journal->journal : NULL};
}

static int up(void **state, bool journaled)
{
    void *bed = NULL;
    void *journal = (void *)"sqlite3";
    if (bed_up(&bed) || (journaled && journal_bed_begin(&journal))) {
        return -1;
    }
    gate_t *gate = apr_pcalloc(((bed_t *)bed)->pool, sizeof(*gate));
    gate->bed = bed;
    gate->log = gate->bed->log;
    *state = gate;
    if (journaled) {
        gate->journal = journal;
        if (!gate->journal->absent) {
            gate->raw = raw_open(gate->journal);
            raw_run(gate->raw, "PRAGMA synchronous = OFF");
            breakages_make(gate);
        }
    }
    gate->profile = profile_of(gate);
    return 0;
}

int gate_up(void **state)
{
    return up(state, false);
}

int gate_up_journaled(void **state)
{
    return up(state, true);
}

int gate_down(void **state)
{
    const gate_t *gate = *state;
    void *bed = gate->bed;
    void *journal = gate->journal;
    if (gate->raw) {
        raw_close(gate->raw);
    }
    if (journal) {
        journal_bed_end(&journal);
    }
    return bed_down(&bed);
}

gate_t gate_begin(void **state)
{
    gate_t gate = *(const gate_t *)*state;
    if (gate.journal) {
        void *journal = gate.journal;
        journal_bed(&journal);
    }
    return gate;
}

bytes_t gate_csr(const gate_t *gate, const char *challenge)
{
    pki_csr_t csr = {.key = gate_pki->device_key};
    if (challenge) {
        csr.challenges[0] = (pki_value_t){V_ASN1_PRINTABLESTRING, challenge, (int)strlen(challenge)};
    }
    return pki_csr_make(gate_pki, &csr, gate->bed->pool);
}

bytes_t gate_message(const gate_t *gate, const char *challenge)
{
    pki_message_t message = pki_request(gate_pki, gate_csr(gate, challenge));
    return pki_message_make(gate_pki, &message, gate->bed->pool);
}

bytes_t gate_renewal(const gate_t *gate)
{
    pki_message_t message = pki_request(gate_pki, gate_csr(gate, GATE_CHALLENGE));
    message.type = "17";
    message.signer_key = gate_pki->other_key;
    message.signer = gate_leaf(gate_pki->other_key);
    return pki_message_make(gate_pki, &message, gate->bed->pool);
}

bytes_t gate_poll(const gate_t *gate, X509 *signer, EVP_PKEY *key)
{
    bytes_t names = pki_poll_make(X509_get_subject_name(gate_pki->ca), X509_get_subject_name(gate_pki->device),
                                  gate->bed->pool);
    pki_message_t message = pki_request(gate_pki, names);
    message.type = "20";
    message.signer = signer;
    message.signer_key = key;
    return pki_message_make(gate_pki, &message, gate->bed->pool);
}

apr_status_t gate_enroll(gate_t *gate, bytes_t message)
{
    gate->t = transaction_make(&gate->profile, &gate->log, gate->bed->pool);
    return transaction_enroll(gate->t, message);
}

void gate_enrolled(gate_t *gate)
{
    assert_int_equal(gate_enroll(gate, gate_message(gate, GATE_CHALLENGE)), APR_SUCCESS);
    assert_true(gate->t->validated);
    assert_true(gate->t->relay->body.len > 0);
}

X509 *gate_leaf(EVP_PKEY *key)
{
    pki_certificate_t wanted = {
        .subject = "device", .key = key, .issuer = gate_pki->ca, .issuer_key = gate_pki->ca_key};
    return pki_certificate_make(gate_pki, &wanted);
}

bytes_t gate_certrep(const gate_t *gate, X509 *leaf)
{
    pki_message_t answer = pki_answer(gate_pki, gate->t->relay, pki_degenerate_make(gate_pki, leaf, NULL, NULL, gate->bed->pool));
    return pki_message_make(gate_pki, &answer, gate->bed->pool);
}

static bytes_t without_content(const gate_t *gate, const char *status, const char *fail_info)
{
    pki_message_t answer = pki_answer(gate_pki, gate->t->relay, bytes_of_text(""));
    answer.status = status;
    answer.fail_info = fail_info;
    answer.no_content = true;
    return pki_message_make(gate_pki, &answer, gate->bed->pool);
}

bytes_t gate_refusal(const gate_t *gate)
{
    return without_content(gate, "2", "4");
}

bytes_t gate_pending(const gate_t *gate)
{
    return without_content(gate, "3", NULL);
}

void gate_answer(gate_t *gate, bytes_t body)
{
    transaction_issued(gate->t, 200, body, true);
}

pki_certrep_t *gate_reply(const gate_t *gate)
{
    assert_int_equal(gate->t->reply.http_status, 200);
    assert_string_equal(gate->t->reply.content_type, SCEP_TYPE_MESSAGE);
    pki_certrep_t *reply =
        pki_certrep_open(gate_pki, gate->t->reply.body, gate_pki->device, gate_pki->device_key, gate->bed->pool);
    assert_non_null(reply);
    return reply;
}

void gate_intune(const gate_t *gate, const char *path, int http_status, const char *code)
{
    const char *body = code ? apr_psprintf(gate->bed->pool, "{\"code\":\"%s\"}", code) : "{}";
    fixture_on(gate->bed->server, path, NULL, -1, (fixture_reply_t){http_status, NULL, body, 0, 0, false});
}

int gate_reports(const gate_t *gate)
{
    return fixture_count(gate->bed->server, GATE_SUCCESS_PATH, NULL) +
           fixture_count(gate->bed->server, GATE_FAILURE_PATH, NULL);
}

void gate_break(gate_t *gate, const char *step)
{
    raw_run(gate->raw, "INSERT INTO broken (step) VALUES ('%s')", step);
}

void gate_mend(gate_t *gate)
{
    raw_run(gate->raw, "DELETE FROM broken");
}

/* A database that could not be opened is left alone for a moment. */
enum { DATABASE_DOWN = 5 };

void gate_wait(gate_t *gate, int seconds)
{
    gate->passed += apr_time_from_sec(seconds);
    clock_shift(gate->passed);
}

void gate_journal_away(gate_t *gate, bool away)
{
    raw_run(gate->raw, away ? "ALTER TABLE iscep_journal RENAME TO away" : "ALTER TABLE away RENAME TO iscep_journal");
    gate_wait(gate, away ? 0 : DATABASE_DOWN);
}

void gate_journal_locked(gate_t *gate, bool locked)
{
    raw_run(gate->raw, locked ? "BEGIN IMMEDIATE" : "ROLLBACK");
    gate_wait(gate, locked ? 0 : DATABASE_DOWN);
}

const char *gate_row(gate_t *gate)
{
    const char *row = raw_text(gate->raw, "SELECT state || '/' || report FROM iscep_journal");
    return row ? row : "";
}

const char *gate_column(gate_t *gate, const char *column)
{
    return raw_text(gate->raw, "SELECT CAST(%s AS TEXT) FROM iscep_journal", column);
}

int gate_milliseconds(gate_t *gate, const char *column)
{
    return raw_number(gate->raw,
                      "SELECT %s - CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER) FROM iscep_journal", column);
}

void gate_lease_ends(gate_t *gate)
{
    raw_run(gate->raw, "UPDATE iscep_journal SET lease_until = 0");
}

void gate_take_over(gate_t *gate)
{
    raw_run(gate->raw, "UPDATE iscep_journal SET owner = 'somebody else', lease_until = lease_until + 60000");
}

void gate_age(gate_t *gate, int seconds)
{
    raw_run(gate->raw, "UPDATE iscep_journal SET created = created - %d, updated = updated - %d, due = due - %d",
            seconds * 1000, seconds * 1000, seconds * 1000);
}
