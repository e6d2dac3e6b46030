/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of the journal, from and to the texts that a database keeps. */
#include "store/journal_internal.h"

#include "base/secret.h"
#include "base/text.h"

#include <apr_encode.h>
#include <apr_strings.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>

const char *const journal_statements[STATEMENT_COUNT] = {
#define STATEMENT(symbol, sql) sql,
#include "store/journal_statements.def"
#undef STATEMENT
};

static const char *const STATES[] = {"intent", "unknown", "pending", "issued", "failed", "withheld"};
static const char *const REPORTS[] = {"success", "failure", "done", "refused", "dead", "waived"};

const char *journal_state_name(journal_state_t state)
{
    return STATES[state];
}

const char *journal_report_name(journal_report_t report)
{
    return REPORTS[report];
}

/* What no version of ours has written counts as the first name: nobody acts on an intent or a report for nothing. */
static int named(const char *name, const char *const *names, int count)
{
    for (int i = 0; name && i < count; i++) {
        if (!strcmp(names[i], name)) {
            return i;
        }
    }
    return 0;
}

const char *journal_time(apr_interval_time_t time, apr_pool_t *pool)
{
    return apr_psprintf(pool, "%" APR_TIME_T_FMT, time / 1000);
}

apr_int64_t journal_number(const char *text, apr_int64_t low, apr_int64_t high)
{
    apr_int64_t number = text ? apr_strtoi64(text, NULL, 10) : 0;
    return number < low ? low : number > high ? high : number;
}

apr_interval_time_t journal_time_of(const char *milliseconds)
{
    /* a thousand years: no sum with a clock overflows */
    static const apr_int64_t MOST = APR_INT64_C(1000) * 365 * 86400 * 1000;
    return journal_number(milliseconds, -MOST, MOST) * 1000;
}

/* Only what text_base64() writes: anything else in a row is not ours, and counts as nothing. */
static bytes_t from_base64(const char *text, apr_pool_t *pool)
{
    bytes_t bytes = {NULL, 0};
    if (!text || !*text) {
        return bytes;
    }
    bytes.data = apr_pdecode_base64_binary(pool, text, APR_ENCODE_STRING, APR_ENCODE_NONE, &bytes.len);
    if (!bytes.data || !bytes.len || strcmp(text_base64(pool, bytes), text)) {
        return (bytes_t){NULL, 0};
    }
    return bytes;
}

const char *journal_csr_seal(const journal_t *journal, const char *id, bytes_t csr, apr_pool_t *pool)
{
    if (!csr.len) {
        return NULL;
    }
    bytes_t sealed = {NULL, csr.len + SEAL_OVERHEAD};
    unsigned char *bytes = apr_palloc(pool, sealed.len);
    sealed.data = bytes;
    return seal_close(journal->csr_key, bytes_of_text(id), csr, bytes) ? NULL : text_base64(pool, sealed);
}

/* One that does not authenticate counts as none. */
static bytes_t csr_open_sealed(const journal_t *journal, const char *id, const char *text, apr_pool_t *pool)
{
    bytes_t csr = {NULL, 0};
    bytes_t sealed = from_base64(text, pool);
    if (!sealed.len) {
        return csr;
    }
    unsigned char *plain = apr_palloc(pool, sealed.len);
    secret_guard(pool, plain, sealed.len);
    if (!seal_open(journal->csr_key, bytes_of_text(id), sealed, plain, &csr.len)) {
        csr.data = plain;
    }
    return csr;
}

/* An owner is "TAG-PID-RANDOM". Another generation's or machine's processes cannot be told from here. */
static bool owner_is_gone(const journal_t *journal, const char *owner)
{
    char *end = NULL;
    if (strncmp(owner, journal->tag, JOURNAL_TAG_DIGITS) || owner[JOURNAL_TAG_DIGITS] != '-') {
        return false;
    }
    apr_int64_t pid = apr_strtoi64(owner + JOURNAL_TAG_DIGITS + 1, &end, 10);
    return *end == '-' && pid > 1 && pid < INT32_MAX && kill((pid_t)pid, 0) && errno == ESRCH;
}

static const char *text_of(const char *column)
{
    return column ? column : "";
}

journal_row_t *journal_row_make(const journal_t *journal, const char *const *column, apr_pool_t *pool)
{
    journal_row_t *row = apr_pcalloc(pool, sizeof(*row));
    row->id = text_of(column[0]);
    row->location = text_of(column[1]);
    row->transaction_id = text_of(column[2]);
    row->key_fp = text_of(column[3]);
    row->state = (journal_state_t)named(column[4], STATES, sizeof(STATES) / sizeof(STATES[0]));
    row->owner = text_of(column[5]);
    apr_interval_time_t lease = journal_time_of(column[6]);
    row->leased = lease > 0 && lease <= JOURNAL_LEASE_MOST;
    row->owner_gone = row->leased && owner_is_gone(journal, row->owner);
    row->report = (journal_report_t)named(column[7], REPORTS, sizeof(REPORTS) / sizeof(REPORTS[0]));
    row->due_in = journal_time_of(column[8]);
    row->tries = (int)journal_number(column[9], 0, INT_MAX);
    row->request_id = text_of(column[10]);
    row->csr = csr_open_sealed(journal, row->id, column[11], pool);
    row->certificate = from_base64(column[12], pool);
    row->certificate_fp = column[13];
    row->serial = column[14];
    row->fail = column[15];
    row->ra_fp = text_of(column[16]);
    row->node = column[17];
    row->age = journal_time_of(column[18]);
    row->idle = journal_time_of(column[19]);
    row->event = column[20];
    row->event_detail = column[21];
    return row;
}

apr_status_t journal_select(journal_t *journal, journal_statement_t statement, const char *const *arguments, int count,
                            apr_array_header_t **rows, apr_pool_t *pool, const char **message)
{
    apr_array_header_t *found = apr_array_make(pool, 1, sizeof(const char **));
    apr_status_t rv = journal_ready(journal, pool, message);
    rv = rv ? rv
            : database_select(journal->database, (int)statement, arguments, count, JOURNAL_COLUMNS, &found, pool,
                              message);
    *rows = apr_array_make(pool, found->nelts + 1, sizeof(journal_row_t *));
    for (int i = 0; !rv && i < found->nelts; i++) {
        APR_ARRAY_PUSH(*rows, journal_row_t *) = journal_row_make(journal, APR_ARRAY_IDX(found, i, const char *const *), pool);
    }
    return rv;
}

apr_status_t journal_select_one(journal_t *journal, journal_statement_t statement, const char *const *arguments,
                                int count, journal_row_t **row, apr_pool_t *pool, const char **message)
{
    apr_array_header_t *rows = NULL;
    apr_status_t rv = journal_select(journal, statement, arguments, count, &rows, pool, message);
    if (!rv && !rows->nelts) {
        return APR_NOTFOUND;
    }
    if (!rv) {
        *row = APR_ARRAY_IDX(rows, 0, journal_row_t *);
    }
    return rv;
}

apr_status_t journal_change(journal_t *journal, database_commit_t commit, journal_statement_t statement,
                            const char *const *arguments, int count, apr_pool_t *pool, const char **message)
{
    int changed = 0;
    apr_status_t rv = journal_ready(journal, pool, message);
    rv =
        rv ? rv : database_change(journal->database, commit, (int)statement, arguments, count, &changed, pool, message);
    return rv ? rv : changed ? APR_SUCCESS : APR_EBUSY;
}
