/* SPDX-License-Identifier: Apache-2.0 */
/* A row of the journal: the states of a transaction and of its report, as docs/journal.md has them. */
#ifndef ISCEP_STORE_JOURNAL_ROW_H
#define ISCEP_STORE_JOURNAL_ROW_H

#include "base/bytes.h"

#include <apr_time.h>
#include <stdbool.h>

typedef enum journal_state_t {
    JOURNAL_INTENT,  /**< the CA is being asked, or was when a process died */
    JOURNAL_UNKNOWN, /**< the CA may have issued, its answer was lost */
    JOURNAL_PENDING, /**< the CA said PENDING */
    JOURNAL_ISSUED,
    JOURNAL_FAILED,
    JOURNAL_WITHHELD /**< issued, but Intune refused the report before the device had it */
} journal_state_t;

typedef enum journal_report_t {
    JOURNAL_OWED_SUCCESS,
    JOURNAL_OWED_FAILURE,
    JOURNAL_DONE,
    JOURNAL_REFUSED, /**< by Intune, for good */
    JOURNAL_DEAD,    /**< not accepted for so long that it was given up */
    JOURNAL_WAIVED   /**< an operator delivers without it */
} journal_report_t;

/** The words of both in the database, for people. */
const char *journal_state_name(journal_state_t state);
const char *journal_report_name(journal_report_t report);

/** A row as it was read. Texts live in the pool of the call; times are relative to then. */
typedef struct journal_row_t {
    const char *id;             /**< 64 hexadecimal digits */
    const char *location;       /**< IntuneScepName */
    const char *transaction_id;
    const char *key_fp;         /**< SHA-256 of the first signer's SubjectPublicKeyInfo, hexadecimal */
    journal_state_t state;
    journal_report_t report;
    const char *owner;
    bool leased;                /**< somebody is at it now */
    bool owner_gone;            /**< by a lease that runs, but the process that held it has died */
    apr_interval_time_t due_in; /**< until the report may be sent; negative: since */
    int tries;                  /**< reports sent so far, answered or not */
    const char *request_id;     /**< client-request-id of the report */
    bytes_t csr;                /**< DER; overwritten with the pool; empty once no report is owed, or not readable */
    bytes_t certificate;        /**< DER, or empty */
    const char *certificate_fp; /**< SHA-1, upper-case hex, or NULL */
    const char *serial;         /**< upper-case hex, or NULL */
    const char *fail;           /**< what failed, in the gateway's words, or NULL */
    const char *ra_fp;          /**< of the RA certificate that asked the CA */
    const char *node;           /**< the CA's node that answered, or NULL */
    apr_interval_time_t age;    /**< since it was made */
    apr_interval_time_t idle;   /**< since its state changed, or its report was first tried */
    const char *event;          /**< that waits to be told, or several with a blank between, or NULL */
    const char *event_detail;   /**< a line for each, or NULL */
} journal_row_t;

#endif
