/* SPDX-License-Identifier: Apache-2.0 */
/* The journal for people: counts, lists, and an operator's decisions. */
#include "store/journal_operator.h"

#include "base/clock.h"
#include "store/journal_internal.h"

#include <apr_strings.h>
#include <limits.h>

/* An operator waits, and would only ask again. */
static const apr_interval_time_t DECISION_LIMIT = apr_time_from_sec(30);

const char *journal_own_id(const journal_t *journal)
{
    return atomic_load(&journal->id_state) == ID_KNOWN ? journal->id : NULL;
}

static int index_of(const char *name, const char *(*name_of)(int), int count)
{
    for (int i = 0; name && i < count; i++) {
        if (!strcmp(name_of(i), name)) {
            return i;
        }
    }
    return 0;
}

static const char *state_name_of(int state)
{
    return journal_state_name((journal_state_t)state);
}

static const char *report_name_of(int report)
{
    return journal_report_name((journal_report_t)report);
}

apr_status_t journal_counts(journal_t *journal, apr_array_header_t **counts, apr_pool_t *pool, const char **message)
{
    apr_array_header_t *rows = apr_array_make(pool, 1, sizeof(const char **));
    apr_status_t rv = journal_ready(journal, pool, message);
    rv = rv ? rv : database_select(journal->database, STATEMENT_COUNTS, NULL, 0, 5, &rows, pool, message);
    *counts = apr_array_make(pool, rows->nelts + 1, sizeof(journal_count_t));
    for (int i = 0; !rv && i < rows->nelts; i++) {
        const char *const *column = APR_ARRAY_IDX(rows, i, const char *const *);
        journal_count_t *count = &APR_ARRAY_PUSH(*counts, journal_count_t);
        count->location = column[0];
        count->state = (journal_state_t)index_of(column[1], state_name_of, JOURNAL_WITHHELD + 1);
        count->report = (journal_report_t)index_of(column[2], report_name_of, JOURNAL_WAIVED + 1);
        count->rows = (int)journal_number(column[3], 0, INT_MAX);
        count->oldest = journal_time_of(column[4]);
    }
    return rv;
}

apr_status_t journal_owed(journal_t *journal, apr_array_header_t **owed, apr_pool_t *pool, const char **message)
{
    apr_array_header_t *rows = apr_array_make(pool, 1, sizeof(const char **));
    apr_status_t rv = journal_ready(journal, pool, message);
    rv = rv ? rv : database_select(journal->database, STATEMENT_OWED_NOW, NULL, 0, 3, &rows, pool, message);
    *owed = apr_array_make(pool, rows->nelts + 1, sizeof(journal_owed_t));
    for (int i = 0; !rv && i < rows->nelts; i++) {
        const char *const *column = APR_ARRAY_IDX(rows, i, const char *const *);
        APR_ARRAY_PUSH(*owed, journal_owed_t) = (journal_owed_t){
            column[0], (int)journal_number(column[1], 0, INT_MAX), journal_time_of(column[2])};
    }
    return rv;
}

apr_status_t journal_foreign_pending(journal_t *journal, const char *location, const char *ra_fp, int *rows,
                                     apr_pool_t *pool, const char **message)
{
    apr_array_header_t *found = NULL;
    const char *arguments[] = {location, ra_fp};
    apr_status_t rv = journal_ready(journal, pool, message);
    rv =
        rv ? rv : database_select(journal->database, STATEMENT_FOREIGN_PENDING, arguments, 2, 1, &found, pool, message);
    *rows = !rv && found->nelts ? (int)journal_number(APR_ARRAY_IDX(found, 0, const char *const *)[0], 0, INT_MAX) : 0;
    return rv;
}

/* Only such characters are in what is searched. PostgreSQL would find an error in bytes that are no UTF-8, and with an error
 * all connections of the process are thrown away. */
static bool may_be_found(const char *word)
{
    while (*word >= ' ' && *word <= '~') {
        word++;
    }
    return !*word;
}

apr_status_t journal_list(journal_t *journal, const char *word, apr_array_header_t **rows, apr_pool_t *pool,
                          const char **message)
{
    const char *arguments[] = {word, word, word, word, word};
    if (word && !may_be_found(word)) {
        *rows = apr_array_make(pool, 1, sizeof(journal_row_t *));
        return journal_ready(journal, pool, message);
    }
    return word ? journal_select(journal, STATEMENT_LIST, arguments, 5, rows, pool, message)
                : journal_select(journal, STATEMENT_LIST_OPEN, NULL, 0, rows, pool, message);
}

static apr_status_t decide(journal_t *journal, journal_statement_t statement, const char *id, apr_pool_t *pool,
                           const char **message)
{
    const char *arguments[] = {id};
    apr_time_t until = clock_now() + DECISION_LIMIT;
    apr_status_t rv = journal_change(journal, DATABASE_DURABLE, statement, arguments, 1, pool, message);
    /* A server under load leaves SQLite's file for moments only, and who has no turn of its own has to meet one. */
    while (APR_STATUS_IS_TIMEUP(rv) && clock_now() < until) {
        rv = journal_change(journal, DATABASE_DURABLE, statement, arguments, 1, pool, message);
    }
    return rv;
}

apr_status_t journal_waive(journal_t *journal, const char *id, apr_pool_t *pool, const char **message)
{
    return decide(journal, STATEMENT_WAIVE, id, pool, message);
}

apr_status_t journal_report_again(journal_t *journal, const char *id, apr_pool_t *pool, const char **message)
{
    return decide(journal, STATEMENT_AGAIN, id, pool, message);
}

apr_status_t journal_drop(journal_t *journal, const char *id, apr_pool_t *pool, const char **message)
{
    return decide(journal, STATEMENT_DROP, id, pool, message);
}

apr_status_t journal_serials(journal_t *journal, const char *location, apr_array_header_t **serials, apr_pool_t *pool,
                             const char **message)
{
    apr_array_header_t *rows = apr_array_make(pool, 1, sizeof(const char **));
    const char *arguments[] = {location};
    apr_status_t rv = journal_ready(journal, pool, message);
    rv = rv ? rv : database_select(journal->database, STATEMENT_SERIALS, arguments, 1, 1, &rows, pool, message);
    *serials = apr_array_make(pool, rows->nelts + 1, sizeof(const char *));
    for (int i = 0; !rv && i < rows->nelts; i++) {
        APR_ARRAY_PUSH(*serials, const char *) = APR_ARRAY_IDX(rows, i, const char *const *)[0];
    }
    return rv;
}
