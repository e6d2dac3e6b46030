/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The journal: one row for each transaction that Intune validated, and the outbox of the reports that Intune is owed.
 * docs/journal.md has the states and the rules.
 *
 * Durable points, each one statement and on the disk when the call returns:
 *   journal_begin(), journal_claim()   the intent, before the CA is asked
 *   journal_outcome()                  what the CA said, the certificate included, before Intune or the device hears of it
 *   journal_adopt()                    a certificate that came late
 *   journal_settle()                   but for an accepted report: a refusal, a report given up, what is due when
 * May be lost with the machine, and is then done again: that Intune accepted a report (JOURNAL_ACCEPTED), the outbox's
 * claims, events that were handed on.
 *
 * All times are the database's clock's. Every change names the owner that it belongs to (a random text for each claim,
 * compared for equality) and changes nothing where somebody else was first: APR_EBUSY, read the row again. Other errors
 * say that the database could not be used, and `message` why; a write may then have happened or not. On PostgreSQL, whose
 * connection can be lost after the commit, it was looked for: where it is there, the call succeeds.
 */
#ifndef ISCEP_STORE_JOURNAL_H
#define ISCEP_STORE_JOURNAL_H

#include "base/state_key.h"
#include "store/database.h"
#include "store/journal_row.h"

typedef struct journal_settings_t {
    const char *place;           /**< "sqlite3:/…" or "pgsql:…" */
    const state_key_t *state_key;
    const char *tag;             /**< of this server's generation, from journal_tag(): tells whose processes owners are */
    turn_t *turn;                /**< of the server's processes to write to SQLite, made before the fork; or NULL */
    const char *id;              /**< what journal_prepare() gave; NULL with `unprepared` */
    bool unprepared;             /**< journal_prepare() could not reach it: each process does so before it uses it */
} journal_settings_t;

typedef struct journal_t journal_t;
/** See journal_prepare(). */
#define JOURNAL_MISMATCH APR_EMISMATCH

/** 16 random hexadecimal digits; NULL without random numbers. */
const char *journal_tag(apr_pool_t *pool);

/**
 * Before children are there: makes or migrates the schema, compares the state key's check value with the journal's, and
 * closes the database again. A new SQLite file and its companions are given to user and group.
 * @param journal_id set: the journal's own id, for people.
 * @param message on failure one sentence without the directive.
 * @return JOURNAL_MISMATCH where waiting does not help: another key, a newer schema, a file that must not be used.
 * Anything else: the database could not be used now.
 */
apr_status_t journal_prepare(const journal_settings_t *settings, uid_t user, gid_t group, const char **journal_id,
                             apr_pool_t *pool, const char **message);

/**
 * For a tool beside the server: whether there is a journal of this module's version and with this state key. Makes and
 * changes nothing.
 * @param message on failure one sentence.
 */
apr_status_t journal_check(const journal_settings_t *settings, apr_pool_t *pool, const char **message);

/** In the process that uses it, after the fork. Opens nothing yet. */
apr_status_t journal_open(journal_t **journal, const journal_settings_t *settings, apr_pool_t *pool,
                          const char **message);

/** SHA-256 over the length-prefixed parts, in hexadecimal. NULL without memory. */
const char *journal_id(const char *location, const char *transaction_id, bytes_t info_sha256, apr_pool_t *pool);

/** APR_NOTFOUND where there is none. */
apr_status_t journal_find(journal_t *journal, const char *id, journal_row_t **row, apr_pool_t *pool,
                          const char **message);

/** For CertPoll, which carries no CSR: the newest row of that transaction and signer's key. */
apr_status_t journal_find_poll(journal_t *journal, const char *location, const char *transaction_id, const char *key_fp,
                               journal_row_t **row, apr_pool_t *pool, const char **message);

/** A new transaction. */
typedef struct journal_intent_t {
    const char *id, *location, *transaction_id, *key_fp, *ra_fp;
    const char *request_id;
    bytes_t csr;
    apr_interval_time_t lease; /**< the CA leg and the reporting */
    apr_interval_time_t grace; /**< after the lease: then a failure is reported, whatever happens */
} journal_intent_t;

/**
 * Makes the row in state `intent`, owing a failureNotification at lease + grace, and reads it. APR_EEXIST where there is
 * such a row, or one of the same transactionID with another CSR is being worked on just now.
 */
apr_status_t journal_begin(journal_t *journal, const journal_intent_t *intent, journal_row_t **row, apr_pool_t *pool,
                           const char **message);

typedef enum journal_purpose_t {
    JOURNAL_TO_ISSUE,  /**< ask the CA again: intent, unknown or failed becomes intent, as by journal_begin() */
    JOURNAL_TO_POLL,   /**< ask the CA for a pending one: it stays pending */
    JOURNAL_TO_REPORT  /**< send the report that is due: it is counted; not durable */
} journal_purpose_t;

/**
 * Takes over a row that nobody has a lease of, if it is still as it was read; reads it again into `row`.
 * @param intent lease, and for JOURNAL_TO_ISSUE everything.
 */
apr_status_t journal_claim(journal_t *journal, journal_row_t **row, journal_purpose_t purpose,
                           const journal_intent_t *intent, apr_pool_t *pool, const char **message);

/** What the CA said. */
typedef struct journal_outcome_t {
    journal_state_t state;
    bool report_now;             /**< the caller reports at once: it is counted as sent, and the lease goes on */
    apr_interval_time_t lease;   /**< with report_now */
    apr_interval_time_t due_in;  /**< without; JOURNAL_PENDING: only for one that was not pending */
    bytes_t certificate;         /**< with JOURNAL_ISSUED */
    const char *certificate_fp, *serial;
    const char *fail;
    const char *node;
    const char *event, *event_detail;
} journal_outcome_t;

/**
 * By the owner, from intent or pending. Reads the row anew. APR_EBUSY: somebody took it over. With a certificate it is
 * tried for ten seconds where the database is only taken, or away.
 */
apr_status_t journal_outcome(journal_t *journal, journal_row_t **row, const journal_outcome_t *outcome,
                             apr_pool_t *pool, const char **message);

/**
 * A certificate whose row was taken over meanwhile: recorded where the row has none and nobody is at it, and owned by
 * the caller then, who reports. APR_EBUSY: it stays an orphan.
 */
apr_status_t journal_adopt(journal_t *journal, journal_row_t **row, const journal_outcome_t *outcome, bytes_t csr,
                           apr_pool_t *pool, const char **message);

/** An event for the operator on a row, whoever owns it. Durable. */
apr_status_t journal_raise(journal_t *journal, const char *id, const char *event, const char *detail, apr_pool_t *pool,
                           const char **message);

/** How a report ended. */
typedef enum journal_verdict_t { JOURNAL_ACCEPTED, JOURNAL_REFUSAL, JOURNAL_RETRY, JOURNAL_GIVEN_UP } journal_verdict_t;

typedef struct journal_settlement_t {
    journal_verdict_t verdict;
    journal_state_t state;      /**< that the row gets with it, or keeps */
    apr_interval_time_t due_in; /**< with JOURNAL_RETRY */
    const char *fail;           /**< or NULL: as it was */
    const char *event, *event_detail;
} journal_settlement_t;

/**
 * By the owner; an accepted success by anybody who sent it, for it is a fact about the certificate. The CSR is
 * forgotten with JOURNAL_ACCEPTED and with a failure's refusal; for a refused or dead success it stays, so that an
 * operator can have it reported again.
 */
apr_status_t journal_settle(journal_t *journal, journal_row_t **row, const journal_settlement_t *settlement,
                            apr_pool_t *pool, const char **message);

/**
 * The reports of a location that are due and that nobody is sending, oldest transaction first, at most `limit`; of
 * `journal_row_t *`.
 */
apr_status_t journal_due(journal_t *journal, const char *location, int limit, apr_array_header_t **rows,
                         apr_pool_t *pool, const char **message);

/** Intune takes reports again: those that were put off are due now. Not the failures in their grace. */
apr_status_t journal_bring_forward(journal_t *journal, const char *location, apr_pool_t *pool, const char **message);

/** Removes some old rows that owe nothing; how many, in `removed`. Withheld ones stay. */
apr_status_t journal_prune(journal_t *journal, apr_interval_time_t older_than, int *removed, apr_pool_t *pool,
                           const char **message);

/** Whether a transaction could be written: a journal can be read on a disk that is full or read-only. Leaves nothing. */
apr_status_t journal_try(journal_t *journal, apr_pool_t *pool, const char **message);

/** Rows with an event that nobody has told yet; of `journal_row_t *`. */
apr_status_t journal_events(journal_t *journal, apr_array_header_t **rows, apr_pool_t *pool, const char **message);

/** Takes the row's events, which are due again after the lease; APR_EBUSY where somebody else has. */
apr_status_t journal_event_claim(journal_t *journal, const journal_row_t *row, apr_interval_time_t lease,
                                 apr_pool_t *pool, const char **message);

/** They were told, while the lease went on; otherwise APR_EBUSY. */
apr_status_t journal_event_done(journal_t *journal, const journal_row_t *row, apr_pool_t *pool, const char **message);

/** How many rows are in a state and owe a report. */
typedef struct journal_count_t {
    const char *location;
    journal_state_t state;
    journal_report_t report;
    int rows;
    apr_interval_time_t oldest;
} journal_count_t;

/** Of `journal_count_t`. */
apr_status_t journal_counts(journal_t *journal, apr_array_header_t **counts, apr_pool_t *pool, const char **message);

/** How many pending rows of a location were made with another RA certificate. */
apr_status_t journal_foreign_pending(journal_t *journal, const char *location, const char *ra_fp, int *rows,
                                     apr_pool_t *pool, const char **message);

#endif
