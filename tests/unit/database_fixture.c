/* SPDX-License-Identifier: Apache-2.0 */
#include "database_fixture.h"

#include <apr_strings.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

atomic_int disk_syncs;
atomic_bool disk_fails;
atomic_int disk_takes;

__attribute__((visibility("default"))) int fdatasync(int fd)
{
    atomic_fetch_add(&disk_syncs, 1);
    apr_sleep(apr_time_from_msec(atomic_load(&disk_takes)));
    if (atomic_load(&disk_fails)) {
        errno = EIO;
        return -1;
    }
    return (int)syscall(SYS_fdatasync, fd);
}

__attribute__((visibility("default"))) int fsync(int fd)
{
    return fdatasync(fd);
}

static const char *const SQLITE[QUERIES] = {
    [PUT] = "INSERT INTO plain (name, value) VALUES (%s, %s)",
    [COUNT] = "SELECT COUNT(*) FROM plain",
    [ECHO] = "SELECT name, value FROM plain WHERE name = %s",
    [PERCENT] = "SELECT '100%%', CAST(%s AS TEXT)",
    [NOW] = "SELECT {now}, {now}",
    [ADD] = "UPDATE plain SET value = value || %s WHERE name = %s",
    [ADD_ALL] = "UPDATE plain SET value = value || %s",
    [ABSENT_NAME] = "INSERT INTO plain (name, value) VALUES (NULL, %s)",
    [NULLS] = "SELECT CAST(NULL AS TEXT), '', value FROM plain",
    [SLOW] = "SELECT 1",
    [PUT_SETTING] = "SELECT 1",
    [ISOLATION] = "SELECT 1",
    [PUT_NEW] = "INSERT INTO plain (name, value) VALUES (%s, %s) ON CONFLICT (name) DO NOTHING",
    [COUNT_UP] = "UPDATE plain SET value = CAST(CAST(value AS BIGINT) + 1 AS TEXT) WHERE name = %s",
};

static const char *const *statements(database_kind_t kind, apr_pool_t *pool)
{
    const char **texts = apr_pmemdup(pool, SQLITE, sizeof(SQLITE));
    if (kind == DATABASE_PGSQL) {
        texts[SLOW] = "SELECT CAST(pg_sleep(CAST(%s AS DOUBLE PRECISION)) AS TEXT)";
        texts[PUT_SETTING] = "INSERT INTO plain SELECT %s, current_setting('synchronous_commit')";
        texts[ISOLATION] = "SELECT current_setting('transaction_isolation')";
    }
    return texts;
}

database_t *plain_make_with(journal_bed_t *bed, const char *text, turn_t *turn)
{
    database_t *database = NULL;
    database_place_t place;
    const char *message = "";
    if (database_place_parse(&place, text, bed->pool, &message)) {
        fail_msg("%s", message);
    }
    assert_int_equal(database_make(&database, &place, turn, statements(bed->kind, bed->pool), QUERIES, bed->pool),
                     APR_SUCCESS);
    return database;
}

database_t *plain_make(journal_bed_t *bed, const char *text)
{
    return plain_make_with(bed, text, NULL);
}

database_t *plain_begin_with(journal_bed_t *bed, turn_t *turn)
{
    raw_t *raw = raw_open(bed);
    raw_run(raw, "CREATE TABLE plain (name TEXT PRIMARY KEY NOT NULL, value TEXT)");
    raw_close(raw);
    return plain_make_with(bed, bed->settings.place, turn);
}

database_t *plain_begin(journal_bed_t *bed)
{
    return plain_begin_with(bed, NULL);
}

int plain_change(journal_bed_t *bed, database_t *database, query_t query, const char *first, const char *second)
{
    int changed = -1;
    const char *message = "";
    const char *arguments[] = {first, second};
    apr_status_t rv = database_change(database, DATABASE_DURABLE, query, arguments,
                                      first == NULL ? 0 : second == NULL ? 1 : 2, &changed, bed->pool, &message);
    if (rv) {
        fail_msg("%d %s", rv, message);
    }
    return changed;
}

const char *plain_try_put(journal_bed_t *bed, database_t *database, const char *name)
{
    int changed = -7;
    const char *message = NULL;
    const char *arguments[] = {name, "value"};
    apr_status_t rv = database_change(database, DATABASE_DURABLE, PUT, arguments, 2, &changed, bed->pool, &message);
    assert_int_equal(changed, rv ? -7 : 1);
    assert_true(rv ? message != NULL : message == NULL);
    for (const char *c = message; c && *c; c++) {
        assert_in_range(*c, ' ', '~');
    }
    return message;
}

const char *const *plain_only_row(journal_bed_t *bed, database_t *database, query_t query, const char *argument,
                                  int columns)
{
    apr_array_header_t *rows = NULL;
    const char *message = "";
    const char *arguments[] = {argument};
    apr_status_t rv = database_select(database, query, arguments, argument != NULL, columns, &rows, bed->pool, &message);
    if (rv) {
        fail_msg("%d %s", rv, message);
    }
    assert_int_equal(rows->nelts, 1);
    return APR_ARRAY_IDX(rows, 0, const char *const *);
}

int plain_open_files(void)
{
    int count = 0;
    for (int i = 0; i < 1024; i++) {
        count += fcntl(i, F_GETFD) >= 0;
    }
    return count;
}

void plain_run_threads(journal_bed_t *bed, database_t *database, int count, apr_thread_start_t function)
{
    apr_thread_t *threads[THREADS];
    worker_t workers[THREADS];
    apr_status_t rv = APR_SUCCESS;
    for (int i = 0; i < count; i++) {
        workers[i] = (worker_t){bed, database, i};
        assert_int_equal(apr_thread_create(&threads[i], NULL, function, &workers[i], bed->pool), APR_SUCCESS);
    }
    for (int i = 0; i < count; i++) {
        apr_thread_join(&rv, threads[i]);
    }
}

int plain_syncs_of(journal_bed_t *bed, database_t *database, database_commit_t commit, int count)
{
    int changed = 0;
    const char *message = "";
    int before = atomic_load(&disk_syncs);
    for (int i = 0; i < count; i++) {
        const char *arguments[] = {apr_psprintf(bed->pool, "%d %d", (int)commit, i), "v"};
        assert_int_equal(database_change(database, commit, PUT, arguments, 2, &changed, bed->pool, &message), 0);
    }
    return atomic_load(&disk_syncs) - before;
}
