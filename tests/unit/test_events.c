/* SPDX-License-Identifier: Apache-2.0 */
/* gateway/events.c: who tells the operator what, how often, and what becomes of it where the command fails. */
#include "gateway/events.h"

#include "base/clock.h"

#include "gateway_fixture.h"

#include <apr_strings.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

enum { HOUR = 3600, DAY = 24 * HOUR };

/* A process that tells events; `told` is a file to which the command writes name and JSON. */
typedef struct teller_t {
    gate_t gate;
    events_t events;
    const char *told;
    const char *script;
    int stop_at; /* how often it may be asked whether it stops; 0: always */
    int asked;
} teller_t;

static bool stopping(void *baton)
{
    teller_t *teller = baton;
    return teller->stop_at && ++teller->asked >= teller->stop_at;
}

static void script_write(const teller_t *teller, const char *text)
{
    unlink(teller->script);
    int file = open(teller->script, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0700);
    assert_true(file >= 0);
    assert_int_equal(write(file, text, strlen(text)), (ssize_t)strlen(text));
    close(file);
}

static void command_works(const teller_t *teller, bool works)
{
    script_write(teller, works ? "#!/bin/sh\necho \"$2\" >> \"$1\"\ncat >> \"$1\"\n" : "#!/bin/sh\nexit 3\n");
}

static void teller_begin(teller_t *teller, void **state)
{
    *teller = (teller_t){.gate = gate_begin(state)};
    apr_pool_t *pool = teller->gate.bed->pool;
    teller->told = apr_pstrcat(pool, teller->gate.journal->folder, "/told", NULL);
    teller->script = apr_pstrcat(pool, teller->gate.journal->folder, "/script", NULL);
    teller->events = (events_t){.command = apr_pstrcat(pool, teller->script, " ", teller->told, NULL),
                                .log = &teller->gate.log, .stopping = stopping, .baton = teller};
    command_works(teller, true);
}

/* What was told since the last look. */
static const char *told(const teller_t *teller)
{
    char *text = apr_pcalloc(teller->gate.bed->pool, 65536);
    int file = open(teller->told, O_RDONLY | O_CLOEXEC);
    if (file >= 0) {
        assert_true(read(file, text, 65535) >= 0);
        close(file);
        unlink(teller->told);
    }
    return text;
}

static int count(const char *text, const char *word)
{
    int n = 0;
    for (const char *at = text; (at = strstr(at, word)); at += strlen(word)) {
        n++;
    }
    return n;
}

/* A row with an event that waits. */
static void row_with_event(teller_t *teller, const char *transaction, const char *event, const char *detail)
{
    const char *message = "";
    journal_row_t *row = NULL;
    apr_pool_t *pool = teller->gate.bed->pool;
    journal_intent_t intent = {.id = apr_pstrcat(pool, "ID ", transaction, NULL), .location = "some location",
                               .transaction_id = transaction, .key_fp = "4B", .ra_fp = GATE_RA_FP,
                               .request_id = "id", .csr = bed_csr()};
    assert_int_equal(journal_begin(teller->gate.profile.journal, &intent, &row, pool, &message), APR_SUCCESS);
    assert_int_equal(journal_raise(teller->gate.profile.journal, intent.id, event, detail, pool, &message), APR_SUCCESS);
    raw_run(teller->gate.raw, "UPDATE iscep_journal SET serial = '0A0B', event_due = event_due - 1000 WHERE id = '%s'", intent.id);
}

static int waiting(teller_t *teller)
{
    return raw_number(teller->gate.raw, "SELECT COUNT(*) FROM iscep_journal WHERE event IS NOT NULL");
}

static void tell(teller_t *teller)
{
    teller->asked = 0;
    events_of_journal(&teller->gate.profile, &teller->events, teller->gate.bed->pool);
}

static void events_of_rows(void **state)
{
    teller_t teller;
    teller_begin(&teller, state);
    tell(&teller);
    assert_string_equal(told(&teller), "");
    row_with_event(&teller, "T1", "withheld", "why \"it\" is");
    row_with_event(&teller, "T2", "report-dead", NULL);
    tell(&teller);
    const char *text = told(&teller);
    assert_int_equal(count(text, "\"event\":"), 2);
    assert_non_null(strstr(text, "withheld\n{\"event\":\"withheld\""));
    assert_non_null(strstr(text, "\"location\":\"some location\",\"transaction\":\"T1\",\"serial\":\"0A0B\",\"detail\":\"why \\\"it\\\" is\"}"));
    assert_non_null(strstr(text, "report-dead\n{"));
    assert_int_equal(waiting(&teller), 0);
    tell(&teller);
    assert_string_equal(told(&teller), "");
    assert_int_equal(bed_logged(teller.gate.bed, "ISCEP0416"), 2);
}

/* What comes before the first was told does not take its place. */
static void events_of_one_row(void **state)
{
    teller_t teller;
    const char *message = "";
    teller_begin(&teller, state);
    journal_t *journal = teller.gate.profile.journal;
    apr_pool_t *pool = teller.gate.bed->pool;
    row_with_event(&teller, "T1", "orphan", EVENTS_ORPHAN "01FF of issuer CN=0A0B");
    command_works(&teller, false);
    tell(&teller);
    assert_int_equal(journal_raise(journal, "ID T1", "report-dead", NULL, pool, &message), APR_SUCCESS);
    assert_int_equal(journal_raise(journal, "ID T1", "withheld", "why", pool, &message), APR_SUCCESS);
    command_works(&teller, true);
    tell(&teller);
    const char *text = told(&teller);
    assert_int_equal(count(text, "\"event\":"), 3);
    assert_non_null(strstr(text, "\"serial\":\"01FF\",\"detail\":\"" EVENTS_ORPHAN "01FF of issuer CN=0A0B\"}"));
    assert_non_null(strstr(text, "report-dead\n{"));
    assert_non_null(strstr(text, "\"serial\":\"0A0B\",\"detail\":\"why\"}"));
    assert_int_equal(waiting(&teller), 0);
    /* Where nobody is ever told they do not grow without end. */
    for (int i = 0; i < 100; i++) {
        assert_int_equal(journal_raise(journal, "ID T1", "orphan", "01FF", pool, &message), APR_SUCCESS);
    }
    assert_in_range(raw_number(teller.gate.raw, "SELECT length(event) + length(event_detail) FROM iscep_journal"), 1, 500);
}

/* An orphan's event names the orphan, not the certificate that the device has. */
static void serial_of_an_orphan(void **state)
{
    static const struct {
        const char *detail, *serial;
    } CASES[] = {{EVENTS_ORPHAN "01FF of issuer CN=0A0B", "\"serial\":\"01FF\""},
                 {"other words", NULL},
                 {NULL, NULL}};
    teller_t teller;
    teller_begin(&teller, state);
    for (size_t i = 0; i < COUNT(CASES); i++) {
        raw_run(teller.gate.raw, "DELETE FROM iscep_journal");
        row_with_event(&teller, "T", "orphan", CASES[i].detail);
        tell(&teller);
        const char *text = told(&teller);
        assert_null(strstr(text, "\"serial\":\"0A0B\""));
        assert_true(CASES[i].serial ? strstr(text, CASES[i].serial) != NULL : !strstr(text, "\"serial\""));
    }
}

/* Not told: it stays, and is tried again, but not at once. */
static void not_told(void **state)
{
    teller_t teller;
    teller_begin(&teller, state);
    row_with_event(&teller, "T", "withheld", "why");
    command_works(&teller, false);
    tell(&teller);
    tell(&teller);
    assert_int_equal(bed_logged(teller.gate.bed, "ISCEP0417"), 1);
    assert_int_equal(waiting(&teller), 1);
    int again = gate_milliseconds(&teller.gate, "event_due");
    assert_true(again > 10000 && again <= 20000);
    raw_run(teller.gate.raw, "UPDATE iscep_journal SET event_due = event_due - 20000");
    command_works(&teller, true);
    tell(&teller);
    assert_int_equal(count(told(&teller), "\"event\""), 1);
    assert_int_equal(waiting(&teller), 0);
}

/* Commands of ten seconds each: nobody tells them a second time meanwhile. */
static void many_that_take_long(void **state)
{
    teller_t teller;
    const char *message = "";
    teller_begin(&teller, state);
    row_with_event(&teller, "T", "orphan", EVENTS_ORPHAN "01FF");
    for (int i = 0; i < 2; i++) {
        assert_int_equal(journal_raise(teller.gate.profile.journal, "ID T", "withheld", "why", teller.gate.bed->pool,
                                       &message), APR_SUCCESS);
    }
    command_works(&teller, false);
    tell(&teller);
    assert_int_equal(bed_logged(teller.gate.bed, "ISCEP0417"), 1);
    assert_in_range(gate_milliseconds(&teller.gate, "event_due"), 30001, 40000);
    /* Nor does a process that is about to end wait for all of them. */
    raw_run(teller.gate.raw, "UPDATE iscep_journal SET event_due = event_due - 40000");
    command_works(&teller, true);
    teller.stop_at = 2;
    tell(&teller);
    assert_int_equal(count(told(&teller), "\"event\""), 1);
    assert_int_equal(waiting(&teller), 1);
}

/* What cannot be claimed is not told; a process that is about to end runs no more commands. */
static void left_alone(void **state)
{
    teller_t teller;
    teller_begin(&teller, state);
    row_with_event(&teller, "T1", "withheld", "why");
    row_with_event(&teller, "T2", "withheld", "why");
    gate_break(&teller.gate, GATE_RAISE);
    tell(&teller);
    assert_string_equal(told(&teller), "");
    gate_mend(&teller.gate);
    teller.stop_at = 2;
    tell(&teller);
    assert_int_equal(count(told(&teller), "\"event\""), 1);
    teller.stop_at = 1;
    tell(&teller);
    assert_int_equal(waiting(&teller), 1);
    teller.gate.profile.journal = NULL;
    tell(&teller);
    assert_string_equal(told(&teller), "");
}

static void breaker_opens(teller_t *teller)
{
    gate_intune(&teller->gate, "/svc/", 503, NULL);
    for (int i = 0; i < 5; i++) {
        bed_validate(teller->gate.bed);
    }
}

static void breaker_closes(teller_t *teller)
{
    gate_intune(&teller->gate, "/svc/", 200, "Success");
    gate_wait(&teller->gate, 61);
    assert_int_equal(bed_validate(teller->gate.bed), APR_SUCCESS);
}

static void watch(teller_t *teller, const profile_t *profile, events_watch_t *watches)
{
    teller->asked = 0;
    watches->expiry_at = clock_now() + apr_time_from_sec(HOUR);
    events_watch(profile, &teller->events, watches, teller->gate.bed->pool);
}

static void breaker(void **state)
{
    teller_t teller;
    events_watch_t one = {0};
    events_watch_t two = {0};
    events_watch_t young = {0};
    teller_begin(&teller, state);
    const profile_t *profile = &teller.gate.profile;
    watch(&teller, profile, &one);
    watch(&teller, profile, &two);
    assert_string_equal(told(&teller), "");
    breaker_opens(&teller);
    for (int i = 0; i < 2; i++) {
        watch(&teller, profile, &one);
        watch(&teller, profile, &two);
    }
    const char *text = told(&teller);
    assert_int_equal(count(text, "\"event\""), 1);
    assert_non_null(strstr(text, "breaker-open\n"));
    assert_non_null(strstr(text, "\"location\":\"" GATE_NAME "\",\"detail\":\"Intune validateRequest: HTTP 503"));
    /* A process that is born in a long outage. */
    gate_wait(&teller.gate, 5 * HOUR);
    watch(&teller, profile, &young);
    assert_string_equal(told(&teller), "");
    breaker_closes(&teller);
    watch(&teller, profile, &two);
    watch(&teller, profile, &one);
    watch(&teller, profile, &young);
    text = told(&teller);
    assert_int_equal(count(text, "\"event\""), 1);
    assert_non_null(strstr(text, "breaker-closed\n"));
    /* Between two looks of one process it closes and opens again. */
    breaker_opens(&teller);
    watch(&teller, profile, &one);
    breaker_closes(&teller);
    breaker_opens(&teller);
    watch(&teller, profile, &one);
    watch(&teller, profile, &two);
    breaker_closes(&teller);
    watch(&teller, profile, &one);
    watch(&teller, profile, &two);
    text = told(&teller);
    assert_int_equal(count(text, "breaker-open\n"), 2);
    assert_int_equal(count(text, "breaker-closed\n"), 1);
}

/* Two locations with one credential: each is told of, by its name. Without a shared cache nobody can be the one. */
static void breaker_of_two_locations(void **state)
{
    teller_t teller;
    events_watch_t watches[3] = {{0}, {0}, {0}};
    teller_begin(&teller, state);
    profile_t other = teller.gate.profile;
    profile_t alone = teller.gate.profile;
    other.name = "other";
    alone.cache = NULL;
    breaker_opens(&teller);
    watch(&teller, &alone, &watches[0]);
    assert_string_equal(told(&teller), "");
    watch(&teller, &teller.gate.profile, &watches[1]);
    watch(&teller, &other, &watches[2]);
    const char *text = told(&teller);
    assert_int_equal(count(text, "\"event\""), 2);
    assert_int_equal(count(text, "\"location\":\"other\""), 1);
}

static X509 *certificate(long left)
{
    pki_certificate_t wanted = {.subject = "expiring", .key = gate_pki->ra_key, .issuer = gate_pki->ca,
                                .issuer_key = gate_pki->ca_key, .from = left - 365L * DAY, .until = left};
    return pki_certificate_make(gate_pki, &wanted);
}

static void look(teller_t *teller, const scep_identity_t *identity)
{
    events_watch_t watches = {0};
    teller->asked = 0;
    teller->gate.profile.identity = identity;
    events_watch(&teller->gate.profile, &teller->events, &watches, teller->gate.bed->pool);
}

static void expiry(void **state)
{
    static const struct {
        const char *name;
        long left; /* seconds */
        const char *words;
    } CASES[] = {{"ok/a year", 365L * DAY, NULL},
                 {"ok/30 days", 30L * DAY + HOUR, NULL},
                 {"fail/29 days", 30L * DAY - HOUR, "the RA's certificate expires in 29 days, on "},
                 {"fail/hours", 12L * HOUR, "the RA's certificate expires in 0 days, on "},
                 {"fail/hours ago", -5L * HOUR, "the RA's certificate expired on "},
                 {"fail/days ago", -50L * DAY, "the RA's certificate expired on "}};
    teller_t teller;
    teller_begin(&teller, state);
    for (size_t i = 0; i < COUNT(CASES); i++) {
        scep_identity_t identity = *gate_pki->identity;
        identity.chain = NULL;
        identity.backend = NULL;
        identity.ra_certificate = identity.device_certificate = certificate(CASES[i].left);
        teller.gate.profile.name = CASES[i].name;
        look(&teller, &identity);
        const char *text = told(&teller);
        if (CASES[i].words ? !strstr(text, CASES[i].words) || count(text, "\"event\"") != 1 : *text != '\0') {
            fail_msg("%s: %s", CASES[i].name, text);
        }
    }
}

/* Each of them once in a day, whichever process looks; a process looks once in an hour. */
static void expiry_once_a_day(void **state)
{
    teller_t teller;
    events_watch_t watches = {0};
    scep_identity_t identity = *gate_pki->identity;
    teller_begin(&teller, state);
    identity.ra_certificate = certificate(20L * DAY);
    identity.device_certificate = certificate(10L * DAY);
    look(&teller, &identity); /* the chain's two last for a day */
    const char *text = told(&teller);
    assert_int_equal(count(text, "expiring\n"), 4);
    assert_int_equal(count(text, "the RA's encryption certificate expires in 9 days"), 1);
    assert_int_equal(count(text, "the CA's certificate expires in 0 days"), 1);
    assert_int_equal(count(text, "certificate 2 of the CA's chain"), 1);
    look(&teller, &identity);
    gate_wait(&teller.gate, DAY - HOUR);
    look(&teller, &identity);
    assert_string_equal(told(&teller), "");
    gate_wait(&teller.gate, 2 * HOUR);
    teller.stop_at = 3; /* the breaker does not ask; two are told */
    events_watch(&teller.gate.profile, &teller.events, &watches, teller.gate.bed->pool);
    assert_int_equal(count(told(&teller), "expiring\n"), 2);
    teller.stop_at = 0;
    events_watch(&teller.gate.profile, &teller.events, &watches, teller.gate.bed->pool);
    assert_string_equal(told(&teller), "");
    gate_wait(&teller.gate, HOUR + 1);
    events_watch(&teller.gate.profile, &teller.events, &watches, teller.gate.bed->pool);
    assert_int_equal(count(told(&teller), "expiring\n"), 2);
    /* The last look was by a clock that was years ahead. */
    gate_wait(&teller.gate, 2 * DAY);
    watches.expiry_at += apr_time_from_sec(3650L * DAY);
    events_watch(&teller.gate.profile, &teller.events, &watches, teller.gate.bed->pool);
    assert_int_equal(count(told(&teller), "expiring\n"), 4);
}

/* What the start has told the log is told again after a day, not at the first look; what began since is not of the start. */
static void expiry_after_a_start(void **state)
{
    teller_t teller;
    events_watch_t watches = {0};
    scep_identity_t identity = *gate_pki->identity;
    teller_begin(&teller, state);
    identity.chain = NULL;
    identity.backend = NULL;
    identity.ra_certificate = certificate(20L * DAY);
    identity.device_certificate = certificate(30L * DAY + HOUR / 2);
    teller.gate.profile.identity = &identity;
    teller.events.started = clock_now();
    events_watch(&teller.gate.profile, &teller.events, &watches, teller.gate.bed->pool);
    assert_int_equal(count(told(&teller), "expiring\n"), 1);
    assert_int_equal(bed_logged(teller.gate.bed, "ISCEP0419"), 0);
    /* Another process's first look. */
    watches = (events_watch_t){0};
    gate_wait(&teller.gate, HOUR - 60);
    events_watch(&teller.gate.profile, &teller.events, &watches, teller.gate.bed->pool);
    assert_int_equal(bed_logged(teller.gate.bed, "ISCEP0419"), 1);
    assert_int_equal(bed_logged(teller.gate.bed, "the RA's encryption certificate expires in 29 days"), 1);
    gate_wait(&teller.gate, DAY + HOUR);
    events_watch(&teller.gate.profile, &teller.events, &watches, teller.gate.bed->pool);
    assert_int_equal(bed_logged(teller.gate.bed, "the RA's certificate expires in 18 days"), 1);
    assert_int_equal(bed_logged(teller.gate.bed, "ISCEP0419"), 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        GATE_TEST_JOURNALED(events_of_rows), GATE_TEST_JOURNALED(serial_of_an_orphan),
        GATE_TEST_JOURNALED(events_of_one_row),
        GATE_TEST_JOURNALED(not_told),       GATE_TEST_JOURNALED(left_alone),
        GATE_TEST_JOURNALED(many_that_take_long),
        GATE_TEST_JOURNALED(breaker),        GATE_TEST_JOURNALED(breaker_of_two_locations),
        GATE_TEST_JOURNALED(expiry),         GATE_TEST_JOURNALED(expiry_once_a_day),
        GATE_TEST_JOURNALED(expiry_after_a_start),
    };
    if (gate_start()) {
        return 1;
    }
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    gate_end();
    return failed;
}
