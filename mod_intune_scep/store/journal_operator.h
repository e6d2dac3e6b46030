/* SPDX-License-Identifier: Apache-2.0 */
/* What an operator asks of the journal and decides about it; threads and errors as in store/journal.h. */
#ifndef ISCEP_STORE_JOURNAL_OPERATOR_H
#define ISCEP_STORE_JOURNAL_OPERATOR_H

#include "store/journal.h"

/** Its own id, by which people tell that two machines share it; NULL until it could be used. */
const char *journal_own_id(const journal_t *journal);

/** What Intune is owed now, without the failures in their grace. */
typedef struct journal_owed_t {
    const char *location;
    int rows;
    apr_interval_time_t oldest; /**< how long one of them is owed at the most */
} journal_owed_t;

/** Of `journal_owed_t`, one for each location that owes something. */
apr_status_t journal_owed(journal_t *journal, apr_array_header_t **owed, apr_pool_t *pool, const char **message);

/**
 * Rows whose id begins with `word` (12 digits at least), or whose transactionID or serial it is, ids and serials in upper or
 * lower case; NULL: those that need somebody, so not those that a server asks the CA about just now. At most 100, the
 * newest of them, and with NULL the oldest.
 */
apr_status_t journal_list(journal_t *journal, const char *word, apr_array_header_t **rows, apr_pool_t *pool,
                          const char **message);

/** A withheld certificate, or one whose report is dead, may go to the device without the report. */
apr_status_t journal_waive(journal_t *journal, const char *id, apr_pool_t *pool, const char **message);

/** It is reported again; and what is put off is due now. */
apr_status_t journal_report_again(journal_t *journal, const char *id, apr_pool_t *pool, const char **message);

/** The row goes, whatever it owes, unless somebody is at it. */
apr_status_t journal_drop(journal_t *journal, const char *id, apr_pool_t *pool, const char **message);

/** The serials of all certificates of a location; of `const char *`. */
apr_status_t journal_serials(journal_t *journal, const char *location, apr_array_header_t **serials, apr_pool_t *pool,
                             const char **message);

#endif
