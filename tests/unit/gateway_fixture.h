/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A gateway without httpd, for the tests of gateway/: a profile before Intune's stand-in and a CA that is the test itself,
 * with a journal on SQLite or without one. Each step on a row can be made to fail, or to lose the row to somebody else.
 */
#ifndef ISCEP_TESTS_GATEWAY_FIXTURE_H
#define ISCEP_TESTS_GATEWAY_FIXTURE_H

#include "gateway/transaction.h"

#include "intune_bed.h"
#include "journal_fixture.h"
#include "pki_fixture.h"

#define GATE_SUCCESS_PATH "/svc/ScepActions/successNotification"
#define GATE_FAILURE_PATH "/svc/ScepActions/failureNotification"
#define GATE_NAME "test"
#define GATE_RA_FP "5241"
#define GATE_FORMER_FP "464F"

/** base64 of a ContentInfo's beginning: the shape of an Intune challenge. */
#define GATE_CHALLENGE "MA8GCSqGSIb3DQEHAqACBQA="

typedef struct gate_t {
    bed_t *bed;
    journal_bed_t *journal; /* NULL without */
    raw_t *raw;             /* the test's own connection to it */
    profile_t profile;
    log_t log;
    transaction_t *t;
    apr_interval_time_t passed; /* by gate_wait() */
} gate_t;

/** Keys and certificates of all tests. */
extern pki_t *gate_pki;

/** Once, before the tests, and after them. */
int gate_start(void);
void gate_end(void);

/** The test's state is a gate_t; gate_begin() gives a copy, with a profile to change. */
int gate_up(void **state);
int gate_up_journaled(void **state);
int gate_down(void **state);
gate_t gate_begin(void **state);

#define GATE_TEST(name) cmocka_unit_test_setup_teardown(name, gate_up, gate_down)
#define GATE_TEST_JOURNALED(name) cmocka_unit_test_setup_teardown(name, gate_up_journaled, gate_down)

/* What a device sends: a PKCSReq with that challenge (or none), a RenewalReq, a CertPoll. */
bytes_t gate_csr(const gate_t *gate, const char *challenge);
bytes_t gate_message(const gate_t *gate, const char *challenge);
bytes_t gate_renewal(const gate_t *gate);
bytes_t gate_poll(const gate_t *gate, X509 *signer, EVP_PKEY *key);

/** A new transaction takes the message. */
apr_status_t gate_enroll(gate_t *gate, bytes_t message);

/** The same, and it must go to the CA. */
void gate_enrolled(gate_t *gate);

/** A certificate of the CA for that key. */
X509 *gate_leaf(EVP_PKEY *key);

/* What the CA answers: SUCCESS with that certificate, FAILURE badCertId, PENDING. */
bytes_t gate_certrep(const gate_t *gate, X509 *leaf);
bytes_t gate_refusal(const gate_t *gate);
bytes_t gate_pending(const gate_t *gate);

/** The CA's answer comes, with HTTP 200 and whole. */
void gate_answer(gate_t *gate, bytes_t body);

/** What the device finds in the CertRep. */
pki_certrep_t *gate_reply(const gate_t *gate);

/** What Intune says to one kind of call from now on; the body may be NULL. */
void gate_intune(const gate_t *gate, const char *path, int http_status, const char *code);

/** How many reports Intune got. */
int gate_reports(const gate_t *gate);

/* The journal. */

/** The steps that gate_break() can let fail, by what the statement does to the row. */
#define GATE_BEGIN "begin"
#define GATE_CLAIM "claim"
#define GATE_OUTCOME "outcome"
#define GATE_ADOPT "adopt"
#define GATE_SETTLE "settle"
#define GATE_RAISE "raise"
/** Not a failure: as soon as the outcome is written, somebody else has the row. */
#define GATE_STEAL "steal"
/** Likewise: a pending row is gone as soon as it was read. */
#define GATE_VANISH "vanish"

void gate_break(gate_t *gate, const char *step);
void gate_mend(gate_t *gate);

/** The table is not there, and is there again; or somebody locks the file, and unlocks it. */
void gate_journal_away(gate_t *gate, bool away);
void gate_journal_locked(gate_t *gate, bool locked);

/** So many seconds pass for the gateway, and for the database nothing does. */
void gate_wait(gate_t *gate, int seconds);

/** "state/report" of the transaction's row; "" where there is none. */
const char *gate_row(gate_t *gate);

/** A column of it as text, NULL where it is NULL. */
const char *gate_column(gate_t *gate, const char *column);

/** How far ahead a time of it is, by the database's clock. */
int gate_milliseconds(gate_t *gate, const char *column);

/** The lease of the row is over, and whoever had it goes on. */
void gate_lease_ends(gate_t *gate);

/** Somebody else claims the row, with a lease of a minute. */
void gate_take_over(gate_t *gate);

/** So many seconds have passed for the row: its times of making and changing, and when its report is due, are moved. */
void gate_age(gate_t *gate, int seconds);

#endif
