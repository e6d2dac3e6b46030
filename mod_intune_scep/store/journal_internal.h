/* SPDX-License-Identifier: Apache-2.0 */
/* What the journal's files share. */
#ifndef ISCEP_STORE_JOURNAL_INTERNAL_H
#define ISCEP_STORE_JOURNAL_INTERNAL_H

#include "base/seal.h"
#include "store/journal.h"

#include <stdatomic.h>

enum { JOURNAL_COLUMNS = 22, JOURNAL_TAG_DIGITS = 16, JOURNAL_ID_SIZE = 33 };

/** No lease is longer: journal_statements.def. */
#define JOURNAL_LEASE_MOST apr_time_from_sec(172800)

typedef enum journal_statement_t {
#define STATEMENT(symbol, sql) STATEMENT_##symbol,
#include "store/journal_statements.def"
#undef STATEMENT
    STATEMENT_COUNT
} journal_statement_t;

/** Of journal_t's id, which one thread writes, once. */
enum { ID_MISSING, ID_WRITTEN, ID_KNOWN };

struct journal_t {
    database_t *database;
    const char *tag;
    journal_settings_t settings;   /**< for journal_ready() */
    char id[JOURNAL_ID_SIZE];      /**< once `id_state` is ID_KNOWN */
    atomic_int id_state;
    atomic_bool is_ready;
    _Atomic apr_time_t try_again;
    unsigned char csr_key[STATE_KEY_DERIVED];
};

/** The texts, for database_make(). */
extern const char *const journal_statements[STATEMENT_COUNT];

/* journal.c */

/**
 * Before anything else is done with the journal: schema and key are right. Only where the server could not find out at
 * start this is more than a look at a flag: then one thread tries, once in a second, and the others fail.
 */
apr_status_t journal_ready(journal_t *journal, apr_pool_t *pool, const char **message);

/** Whether a change that failed may be made in a moment: nobody holds against it but that the database was taken, or away. */
bool journal_may_pass(const journal_t *journal, apr_status_t rv);

/* journal_row.c */

/** A CSR as it is kept: sealed to the row's id, in base64. NULL where there is nothing to keep, or it failed. */
const char *journal_csr_seal(const journal_t *journal, const char *id, bytes_t csr, apr_pool_t *pool);

/** Runs a SELECT of whole rows; of `journal_row_t *`. */
apr_status_t journal_select(journal_t *journal, journal_statement_t statement, const char *const *arguments, int count,
                            apr_array_header_t **rows, apr_pool_t *pool, const char **message);

/** The one row of such a SELECT; APR_NOTFOUND without. */
apr_status_t journal_select_one(journal_t *journal, journal_statement_t statement, const char *const *arguments,
                                int count, journal_row_t **row, apr_pool_t *pool, const char **message);

/** A row from its JOURNAL_COLUMNS columns, in the order of journal_statements.def; NULL is SQL's. It borrows their texts. */
journal_row_t *journal_row_make(const journal_t *journal, const char *const *column, apr_pool_t *pool);

/** A column's number, or the bound that is nearer; 0 for NULL and for what is no number. */
apr_int64_t journal_number(const char *text, apr_int64_t low, apr_int64_t high);

/** A column's milliseconds, a thousand years either way at most. */
apr_interval_time_t journal_time_of(const char *milliseconds);

/** Milliseconds, as an argument. */
const char *journal_time(apr_interval_time_t time, apr_pool_t *pool);

/** APR_SUCCESS where exactly one row changed, APR_EBUSY where none did. */
apr_status_t journal_change(journal_t *journal, database_commit_t commit, journal_statement_t statement,
                            const char *const *arguments, int count, apr_pool_t *pool, const char **message);

#endif
