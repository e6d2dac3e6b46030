/* SPDX-License-Identifier: Apache-2.0 */
#include "journal_fixture.h"

#include "base/clock.h"
#include "store/database_internal.h"

#include <apr_strings.h>
#include <apr_thread_proc.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { THREADS = 20, ROUNDS = 10, CONNECTIONS_MOST = 16, PROCESSES = 3 };

/* These take the place of the C library's, for SQLite too: what reaches the disk is counted, or refused. */
static atomic_int syncs;
static atomic_bool sync_fails;
static atomic_int sync_takes; /* milliseconds */

__attribute__((visibility("default"))) int fdatasync(int fd)
{
    atomic_fetch_add(&syncs, 1);
    apr_sleep(apr_time_from_msec(atomic_load(&sync_takes)));
    if (atomic_load(&sync_fails)) {
        errno = EIO;
        return -1;
    }
    return (int)syscall(SYS_fdatasync, fd);
}

__attribute__((visibility("default"))) int fsync(int fd)
{
    return fdatasync(fd);
}

typedef enum query_t {
    PUT,
    COUNT,
    ECHO,
    PERCENT,
    NOW,
    ADD,
    ADD_ALL,
    ABSENT_NAME,
    NULLS,
    SLOW,
    PUT_SETTING,
    ISOLATION,
    PUT_NEW,
    COUNT_UP,
    QUERIES
} query_t;

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

static database_t *make_with(journal_bed_t *bed, const char *text, turn_t *turn)
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

static database_t *make(journal_bed_t *bed, const char *text)
{
    return make_with(bed, text, NULL);
}

/* With a table `plain`. */
static database_t *begin_with(journal_bed_t *bed, turn_t *turn)
{
    raw_t *raw = raw_open(bed);
    raw_run(raw, "CREATE TABLE plain (name TEXT PRIMARY KEY NOT NULL, value TEXT)");
    raw_close(raw);
    return make_with(bed, bed->settings.place, turn);
}

static database_t *begin(journal_bed_t *bed)
{
    return begin_with(bed, NULL);
}

static int change(journal_bed_t *bed, database_t *database, query_t query, const char *first, const char *second)
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

/* The message, or NULL where it worked. */
static const char *try_put(journal_bed_t *bed, database_t *database, const char *name)
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

static const char *const *only_row(journal_bed_t *bed, database_t *database, query_t query, const char *argument,
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

static void places(void **state)
{
    static const struct {
        const char *name;
        const char *text;
        const char *words;  /* of the message; NULL: accepted */
        const char *params; /* what must be in the driver's */
    } rows[] = {
        {"ok/sqlite", "sqlite3:/a/b", NULL, "/a/b"},
        {"ok/pgsql", "pgsql:host=a", NULL, "host=a connect_timeout=3"},
        {"ok/pgsql, own limits", "pgsql:host=a connect_timeout=9 options=''", NULL, "connect_timeout=9"},
        {"fail/relative", "sqlite3:b", "sqlite3:/PATH", NULL},
        {"fail/no file", "sqlite3:", "sqlite3:/PATH", NULL},
        {"fail/no connection", "pgsql:", "pgsql:CONNECTION", NULL},
        {"fail/another", "mysql:host=a", "pgsql:CONNECTION", NULL},
        {"fail/empty", "", "pgsql:CONNECTION", NULL},
        /* What is appended to keywords would break an address. */
        {"fail/address", "pgsql:postgresql://u:geheim@a/b", "keywords", NULL},
        {"fail/short address", "pgsql:postgres://u:geheim@a/b", "keywords", NULL},
    };
    journal_bed_t *bed = journal_bed(state);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        database_place_t place;
        const char *message = "";
        apr_status_t rv = database_place_parse(&place, rows[i].text, bed->pool, &message);
        if ((rv == APR_SUCCESS) != !rows[i].words || (rows[i].words && !strstr(message, rows[i].words)) ||
            (rows[i].params && !strstr(place.params, rows[i].params))) {
            fail_msg("%s: %d %s", rows[i].name, rv, message);
        }
        assert_null(strstr(message, "geheim"));
    }
}

static void texts_come_back(void **state)
{
    static const char *const texts[] = {"plain",
                                        "'",
                                        "''",
                                        "\"",
                                        "\\",
                                        "\\'",
                                        "%",
                                        "%s %d %% %n",
                                        "{now}",
                                        "$1 ? :a @b",
                                        "'; DROP TABLE plain; --",
                                        "\xc3\x9f \xe2\x82\xac \xf0\x9f\x94\x91",
                                        "two\nlines\r\n\ttab",
                                        "",
                                        "  "};
    journal_bed_t *bed = journal_bed(state);
    database_t *database = begin(bed);
    char *much = apr_pcalloc(bed->pool, 300001);
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        const char *name = apr_psprintf(bed->pool, "%d%s", (int)i, texts[i]);
        assert_int_equal(change(bed, database, PUT, name, texts[i]), 1);
        const char *const *row = only_row(bed, database, ECHO, name, 2);
        assert_string_equal(row[0], name);
        assert_string_equal(row[1], texts[i]);
    }
    memset(much, 'x', 300000);
    assert_int_equal(change(bed, database, PUT, "much", much), 1);
    assert_string_equal(only_row(bed, database, ECHO, "much", 2)[1], much);
    assert_string_equal(only_row(bed, database, PERCENT, "%s", 2)[0], "100%");
    assert_string_equal(only_row(bed, database, PERCENT, "%s", 2)[1], "%s");
}

/* PostgreSQL's driver makes an empty text of it. */
static void nothing_is_not_an_empty_text(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    database_t *database = begin(bed);
    int changed = 0;
    const char *message = "";
    const char *arguments[] = {"a", NULL};
    assert_int_equal(database_change(database, DATABASE_DURABLE, PUT, arguments, 2, &changed, bed->pool, &message),
                     APR_SUCCESS);
    const char *const *row = only_row(bed, database, NULLS, NULL, 3);
    assert_null(row[0]);
    assert_string_equal(row[1], "");
    assert_null(row[2]);
}

static void clock_is_the_databases(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    database_t *database = begin(bed);
    clock_shift(apr_time_from_sec(100000));
    const char *const *row = only_row(bed, database, NOW, NULL, 2);
    apr_int64_t now = apr_time_now() / 1000;
    assert_in_range(now + 1 - apr_strtoi64(row[0], NULL, 10), 0, 5000); /* one rounds */
    assert_in_range(now + 1 - apr_strtoi64(row[1], NULL, 10), 0, 5000); /* one rounds */
}

static void changes_are_counted(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    database_t *database = begin(bed);
    apr_array_header_t *rows = NULL;
    const char *message = "";
    const char *nobody[] = {"nobody"};
    assert_int_equal(change(bed, database, ADD_ALL, "x", NULL), 0);
    assert_int_equal(change(bed, database, PUT, "a", "1"), 1);
    assert_int_equal(change(bed, database, PUT, "b", "2"), 1);
    assert_int_equal(change(bed, database, ADD, "x", "a"), 1);
    assert_int_equal(change(bed, database, ADD, "x", "nobody"), 0);
    assert_int_equal(change(bed, database, ADD_ALL, "y", NULL), 2);
    assert_string_equal(only_row(bed, database, ECHO, "a", 2)[1], "1xy");
    assert_int_equal(database_select(database, ECHO, nobody, 1, 2, &rows, bed->pool, &message), APR_SUCCESS);
    assert_int_equal(rows->nelts, 0);
}

/* An error says what was wrong, not what is in the row, and the next call works. */
static void errors_are_one_line(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    database_t *database = begin(bed);
    assert_null(try_put(bed, database, "a \"secret\" name"));
    const char *message = try_put(bed, database, "a \"secret\" name");
    assert_non_null(message);
    assert_null(strstr(message, "secret"));
    assert_null(try_put(bed, database, "b"));
    int changed = -7;
    const char *arguments[] = {"geheim"};
    assert_int_not_equal(database_change(database, DATABASE_RELAXED, ABSENT_NAME, arguments, 1, &changed, bed->pool,
                                         &message),
                         APR_SUCCESS);
    assert_int_equal(changed, -7);
    assert_null(strstr(message, "geheim"));
    assert_null(strchr(message, '\n'));
    assert_string_equal(only_row(bed, database, COUNT, NULL, 1)[0], "2");
}

static int open_files(void)
{
    int count = 0;
    for (int i = 0; i < 1024; i++) {
        count += fcntl(i, F_GETFD) >= 0;
    }
    return count;
}

static void errors_leave_no_connection_behind(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    database_t *database = begin(bed);
    assert_null(try_put(bed, database, "a"));
    int before = open_files();
    for (int i = 0; i < 50; i++) {
        assert_non_null(try_put(bed, database, "a"));
    }
    assert_null(try_put(bed, database, "b"));
    assert_in_range(open_files(), before - 2, before + 1);
}

typedef struct worker_t {
    journal_bed_t *bed;
    database_t *database;
    int number;
} worker_t;

static atomic_int failures;

static void *APR_THREAD_FUNC work(apr_thread_t *thread, void *data)
{
    const worker_t *worker = data;
    apr_pool_t *pool = NULL;
    (void)thread;
    apr_pool_create(&pool, NULL);
    for (int i = 0; i < ROUNDS; i++) {
        int changed = 0;
        const char *message = NULL;
        apr_array_header_t *rows = NULL;
        const char *arguments[] = {apr_psprintf(pool, "%d/%d", worker->number, i), "v"};
        bool wrong = database_change(worker->database, i % 2 ? DATABASE_DURABLE : DATABASE_RELAXED, PUT, arguments, 2,
                                     &changed, pool, &message) ||
                     changed != 1 ||
                     database_select(worker->database, ECHO, arguments, 1, 2, &rows, pool, &message) ||
                     rows->nelts != 1 || strcmp(APR_ARRAY_IDX(rows, 0, const char *const *)[0], arguments[0]);
        if (wrong) {
            print_message("%s\n", message ? message : "wrong answer");
        }
        atomic_fetch_add(&failures, wrong);
    }
    apr_pool_destroy(pool);
    return NULL;
}

static void *APR_THREAD_FUNC work_once(apr_thread_t *thread, void *data)
{
    const worker_t *worker = data;
    (void)thread;
    atomic_fetch_add(&failures, try_put(worker->bed, worker->database, "a") != NULL);
    return NULL;
}

static void run_threads(journal_bed_t *bed, database_t *database, int count, apr_thread_start_t function)
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

static void threads_share_few_connections(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    database_t *database = begin(bed);
    int before = open_files();
    atomic_store(&failures, 0);
    run_threads(bed, database, THREADS, work);
    assert_int_equal(atomic_load(&failures), 0);
    assert_int_equal(atoi(only_row(bed, database, COUNT, NULL, 1)[0]), THREADS * ROUNDS);
    /* A connection of SQLite's has three files. */
    assert_in_range(open_files() - before, 1, CONNECTIONS_MOST * 3);
}

/* A process that ends while a call hangs must not end in abort(). */
static void *APR_THREAD_FUNC hang(apr_thread_t *thread, void *data)
{
    const worker_t *worker = data;
    apr_array_header_t *rows = NULL;
    apr_pool_t *pool = NULL;
    const char *message = NULL;
    const char *arguments[] = {"1.5"};
    (void)thread;
    apr_pool_create(&pool, NULL);
    database_select(worker->database, SLOW, arguments, 1, 1, &rows, pool, &message);
    apr_pool_destroy(pool);
    return NULL;
}

static int end_during_a_call(journal_bed_t *bed, void *data)
{
    apr_thread_t *thread = NULL;
    apr_pool_t *pool = bed->pool;
    (void)data;
    apr_pool_create(&bed->pool, pool);
    worker_t worker = {bed, begin(bed), 0};
    if (apr_thread_create(&thread, NULL, hang, &worker, pool)) {
        return 1;
    }
    apr_sleep(apr_time_from_msec(500));
    apr_pool_destroy(bed->pool);
    apr_status_t ended = APR_SUCCESS;
    apr_thread_join(&ended, thread);
    apr_terminate();
    return 0;
}

static void ok_pool_goes_during_a_call(void **state)
{
    assert_int_equal(in_other_process(journal_bed(state), end_during_a_call, NULL), 0);
}

static int syncs_of(journal_bed_t *bed, database_t *database, database_commit_t commit, int count)
{
    int changed = 0;
    const char *message = "";
    int before = atomic_load(&syncs);
    for (int i = 0; i < count; i++) {
        const char *arguments[] = {apr_psprintf(bed->pool, "%d %d", (int)commit, i), "v"};
        assert_int_equal(database_change(database, commit, PUT, arguments, 2, &changed, bed->pool, &message), 0);
    }
    return atomic_load(&syncs) - before;
}

/* fdatasync() is counted here; nothing but the call itself tells. */
static void durable_is_on_the_disk_on_sqlite(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    database_t *database = begin(bed);
    syncs_of(bed, database, DATABASE_DURABLE, 1);
    try_put(bed, database, "first");
    assert_in_range(syncs_of(bed, make(bed, bed->settings.place), DATABASE_RELAXED, 100), 0, 3);
    database = make(bed, bed->settings.place);
    raw_t *raw = raw_open(bed);
    raw_run(raw, "DELETE FROM plain");
    raw_close(raw);
    assert_in_range(syncs_of(bed, database, DATABASE_DURABLE, 100), 100, 110);
}

static void fail_what_the_disk_refused(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    database_t *database = begin(bed);
    assert_null(try_put(bed, database, "a"));
    atomic_store(&sync_fails, true);
    const char *message = try_put(bed, database, "b");
    atomic_store(&sync_fails, false);
    assert_non_null(message);
    assert_non_null(strstr(message, "disk I/O error"));
    /* Whether the second is there nobody can say. */
    assert_null(try_put(bed, database, "c"));
    assert_in_range(atoi(only_row(bed, database, COUNT, NULL, 1)[0]), 2, 3);
}

static void durable_is_on_the_disk_on_postgresql(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    database_t *database = begin(bed);
    int changed = 0;
    const char *message = "";
    const char *durable[] = {"durable"};
    const char *relaxed[] = {"relaxed"};
    assert_int_equal(database_change(database, DATABASE_DURABLE, PUT_SETTING, durable, 1, &changed, bed->pool, &message),
                     APR_SUCCESS);
    assert_int_equal(database_change(database, DATABASE_RELAXED, PUT_SETTING, relaxed, 1, &changed, bed->pool, &message),
                     APR_SUCCESS);
    assert_string_equal(only_row(bed, database, ECHO, "durable", 2)[1], "on");
    assert_string_equal(only_row(bed, database, ECHO, "relaxed", 2)[1], "off");
}

/* With another isolation, whoever comes second has an error instead of no row. */
static void isolation_is_the_journals_own(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    database_t *database = begin(bed);
    raw_t *raw = raw_open(bed);
    raw_run(raw, "ALTER ROLE postgres SET default_transaction_isolation = 'serializable'");
    const char *isolation = only_row(bed, database, ISOLATION, NULL, 1)[0];
    raw_run(raw, "ALTER ROLE postgres RESET default_transaction_isolation");
    raw_close(raw);
    assert_string_equal(isolation, "read committed");
}

static void unreachable_says_why(void **state)
{
    static const struct {
        const char *name;
        const char *place;
        const char *words;
    } rows[] = {
        {"nobody listens", "pgsql:host=127.0.0.1 port=1 password=geheim", "Connection refused"},
        {"no socket", "pgsql:host=/nowhere password=geheim", "No such file"},
        {"not keywords", "pgsql:host=127.0.0.1 geheim", "could be opened"},
        {"no keyword", "pgsql:host=127.0.0.1 geheim=1", "could be opened"},
    };
    journal_bed_t *bed = journal_bed(state);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        database_t *database = make(bed, rows[i].place);
        /* The second one did not try itself. */
        for (int n = 0; n < 2; n++) {
            const char *message = try_put(bed, database, "a");
            if (!message || !strstr(message, rows[i].words) || strstr(message, "geheim")) {
                fail_msg("%s: %s", rows[i].name, message);
            }
        }
    }
}

static void a_file_that_is_no_database_says_so(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    const char *path = apr_pstrcat(bed->pool, bed->folder, "/garbage", NULL);
    FILE *file = fopen(path, "w");
    for (int i = 0; i < 1000; i++) {
        fputs("this is not a database\n", file);
    }
    fclose(file);
    database_t *database = make(bed, apr_pstrcat(bed->pool, "sqlite3:", path, NULL));
    const char *message = try_put(bed, database, "a");
    assert_non_null(message);
    assert_non_null(strstr(message, "not a database"));
}

/* Not again at once, but soon; and a clock that is set back does not make it later. */
static void down_for_a_moment_only(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    database_t *database = begin(bed);
    const char *aside = apr_pstrcat(bed->pool, bed->file, ".aside", NULL);
    assert_int_equal(rename(bed->file, aside), 0);
    assert_non_null(try_put(bed, database, "a"));
    assert_int_equal(rename(aside, bed->file), 0);
    assert_non_null(try_put(bed, database, "a"));
    clock_shift(apr_time_from_msec(600));
    assert_null(try_put(bed, database, "a"));

    database = make(bed, bed->settings.place);
    assert_int_equal(rename(bed->file, aside), 0);
    assert_non_null(try_put(bed, database, "b"));
    assert_int_equal(rename(aside, bed->file), 0);
    clock_shift(apr_time_from_sec(-3600));
    assert_null(try_put(bed, database, "b"));
}

/* What is written to a file without a name is lost; and an empty one in its place is not a journal. */
static void a_file_that_is_gone_is_noticed(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    database_t *database = begin(bed);
    const char *aside = apr_pstrcat(bed->pool, bed->file, ".aside", NULL);
    assert_null(try_put(bed, database, "a"));
    assert_int_equal(rename(bed->file, aside), 0);
    const char *message = try_put(bed, database, "b");
    assert_non_null(message);
    assert_non_null(strstr(message, bed->file));
    assert_int_not_equal(access(bed->file, F_OK), 0);
    assert_int_equal(rename(aside, bed->file), 0);
    apr_sleep(apr_time_from_msec(600));
    assert_null(try_put(bed, database, "c"));
    assert_string_equal(only_row(bed, database, COUNT, NULL, 1)[0], "2");
}

/* One change of one thread, which waits with the others. */
typedef struct mate_t {
    database_t *database;
    database_commit_t commit;
    query_t query;
    const char *name;
    atomic_int *arrived;
    apr_pool_t *pool;
    apr_status_t rv; /* what came of it */
    int changed;
    const char *message;
} mate_t;

static void *APR_THREAD_FUNC mate_run(apr_thread_t *thread, void *data)
{
    mate_t *mate = data;
    const char *arguments[] = {mate->name, "v"};
    (void)thread;
    atomic_fetch_add(mate->arrived, 1);
    mate->changed = -7;
    mate->rv = database_change(mate->database, mate->commit, mate->query, arguments, mate->query == COUNT_UP ? 1 : 2,
                               &mate->changed, mate->pool, &mate->message);
    return NULL;
}

/*
 * All at once: they queue up while the test has the turn, and for so long after. Whoever is not there yet when it is
 * given goes in a second group, so that a busy machine makes two of one, or three.
 */
static void run_mates_for(journal_bed_t *bed, mate_t *mates, database_t *database, turn_t *turn, apr_interval_time_t more)
{
    apr_thread_t *threads[THREADS];
    atomic_int arrived = 0;
    apr_status_t rv = APR_SUCCESS;
    assert_true(turn_take(turn, apr_time_from_sec(20)));
    for (int i = 0; i < THREADS; i++) {
        mates[i].database = database;
        mates[i].arrived = &arrived;
        mates[i].rv = APR_EINVAL;
        apr_pool_create(&mates[i].pool, bed->pool);
    }
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(apr_thread_create(&threads[i], NULL, mate_run, &mates[i], bed->pool), APR_SUCCESS);
    }
    while (atomic_load(&arrived) < THREADS) {
        apr_sleep(1000);
    }
    apr_sleep(more);
    turn_give(turn);
    for (int i = 0; i < THREADS; i++) {
        apr_thread_join(&rv, threads[i]);
    }
}

static void run_mates(journal_bed_t *bed, mate_t *mates, database_t *database, turn_t *turn)
{
    run_mates_for(bed, mates, database, turn, apr_time_from_msec(20));
}

static void group_has_one_sync(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    turn_t *turn = turn_make();
    database_t *database = begin_with(bed, turn);
    mate_t mates[THREADS] = {0};
    try_put(bed, database, "first");
    int before = atomic_load(&syncs);
    for (int i = 0; i < THREADS; i++) {
        /* What is relaxed goes along. */
        mates[i].commit = i % 4 == 3 ? DATABASE_RELAXED : DATABASE_DURABLE;
        mates[i].query = PUT;
        mates[i].name = apr_psprintf(bed->pool, "%d", i);
    }
    run_mates(bed, mates, database, turn);
    assert_in_range(atomic_load(&syncs) - before, 1, 5);
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(mates[i].rv, APR_SUCCESS);
        assert_int_equal(mates[i].changed, 1);
    }
    assert_int_equal(atoi(only_row(bed, database, COUNT, NULL, 1)[0]), THREADS + 1);
}

static void relaxed_group_has_none(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    turn_t *turn = turn_make();
    database_t *database = begin_with(bed, turn);
    mate_t mates[THREADS] = {0};
    syncs_of(bed, database, DATABASE_RELAXED, 1);
    int before = atomic_load(&syncs);
    for (int i = 0; i < THREADS; i++) {
        mates[i] = (mate_t){.commit = DATABASE_RELAXED, .query = PUT, .name = apr_psprintf(bed->pool, "%d", i)};
    }
    run_mates(bed, mates, database, turn);
    assert_int_equal(atomic_load(&syncs), before);
    assert_int_equal(atoi(only_row(bed, database, COUNT, NULL, 1)[0]), THREADS + 1);
}

/* Each its own count: of those that want the same one has it, and all counts are there. */
static void group_counts_for_each(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    turn_t *turn = turn_make();
    database_t *database = begin_with(bed, turn);
    int won[3] = {0};
    assert_int_equal(change(bed, database, PUT, "sum", "0"), 1);
    for (int round = 0; round < ROUNDS; round++) {
        mate_t mates[THREADS] = {0};
        memset(won, 0, sizeof(won));
        for (int i = 0; i < THREADS; i++) {
            mates[i].query = i % 3 ? PUT_NEW : COUNT_UP;
            mates[i].name = i % 3 ? apr_psprintf(bed->pool, "%d %d", round, i % 3) : i % 2 ? "nobody" : "sum";
        }
        run_mates(bed, mates, database, turn);
        for (int i = 0; i < THREADS; i++) {
            assert_int_equal(mates[i].rv, APR_SUCCESS);
            if (i % 3) {
                won[i % 3] += mates[i].changed;
            } else {
                assert_int_equal(mates[i].changed, i % 2 ? 0 : 1);
            }
        }
        assert_int_equal(won[1], 1);
        assert_int_equal(won[2], 1);
    }
    assert_int_equal(atoi(only_row(bed, database, ECHO, "sum", 2)[1]), ROUNDS * ((THREADS + 5) / 6));
}

/* Those that fail do so by themselves, each for its own reason. */
static void group_with_bad_ones(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    turn_t *turn = turn_make();
    database_t *database = begin_with(bed, turn);
    mate_t mates[THREADS] = {0};
    int before = 0;
    assert_int_equal(change(bed, database, PUT, "there", "v"), 1);
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < THREADS; i++) {
            mates[i] = (mate_t){.query = PUT, .name = i % 7 == 2   ? "there"
                                                      : i % 7 == 4 ? NULL
                                                                   : apr_psprintf(bed->pool, "%d %d", round, i)};
        }
        run_mates(bed, mates, database, turn);
        for (int i = 0; i < THREADS; i++) {
            const char *words = i % 7 == 2 ? "UNIQUE constraint" : i % 7 == 4 ? "NOT NULL constraint" : NULL;
            assert_int_equal(mates[i].rv == APR_SUCCESS, words == NULL);
            assert_int_equal(mates[i].changed, words ? -7 : 1);
            assert_true(words ? strstr(mates[i].message, words) != NULL : mates[i].message == NULL);
        }
        before = round ? before : open_files();
    }
    assert_true(open_files() <= before + 6);
    assert_int_equal(atoi(only_row(bed, database, COUNT, NULL, 1)[0]), 1 + ROUNDS * (THREADS - 6));
}

/* Whatever was done to the database makes all of them fail with these words. */
static void all_fail(journal_bed_t *bed, database_t *database, turn_t *turn, const char *words)
{
    mate_t mates[THREADS] = {0};
    for (int i = 0; i < THREADS; i++) {
        mates[i] = (mate_t){.query = PUT, .name = apr_psprintf(bed->pool, "%d", i)};
    }
    run_mates(bed, mates, database, turn);
    for (int i = 0; i < THREADS; i++) {
        assert_int_not_equal(mates[i].rv, APR_SUCCESS);
        assert_int_equal(mates[i].changed, -7);
        if (!strstr(mates[i].message, words)) {
            fail_msg("%d: %s", i, mates[i].message);
        }
    }
}

static void fail_a_group_that_the_disk_refused(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    turn_t *turn = turn_make();
    database_t *database = begin_with(bed, turn);
    assert_null(try_put(bed, database, "first"));
    atomic_store(&sync_fails, true);
    all_fail(bed, database, turn, "disk I/O error");
    atomic_store(&sync_fails, false);
    assert_null(try_put(bed, database, "last"));
    assert_in_range(atoi(only_row(bed, database, COUNT, NULL, 1)[0]), 2, THREADS + 2);
}

static void fail_a_group_whose_file_is_gone(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    turn_t *turn = turn_make();
    database_t *database = begin_with(bed, turn);
    const char *aside = apr_pstrcat(bed->pool, bed->file, ".aside", NULL);
    assert_null(try_put(bed, database, "first"));
    assert_int_equal(rename(bed->file, aside), 0);
    all_fail(bed, database, turn, bed->file);
    assert_int_equal(rename(aside, bed->file), 0);
    clock_shift(apr_time_from_msec(600));
    assert_null(try_put(bed, database, "last"));
    assert_int_equal(atoi(only_row(bed, database, COUNT, NULL, 1)[0]), 2);
}

/* By a process that takes no turns, for longer than one waits: nothing is done, and nobody told so. */
static void fail_a_group_while_another_writes(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    turn_t *turn = turn_make();
    database_t *database = begin_with(bed, turn);
    raw_t *raw = raw_open(bed);
    assert_null(try_put(bed, database, "first"));
    raw_run(raw, "BEGIN IMMEDIATE");
    apr_time_t begun = apr_time_now();
    all_fail(bed, database, turn, "database is locked");
    /* One after the other would be twenty times as long. */
    assert_in_range(apr_time_now() - begun, apr_time_from_msec(1500), apr_time_from_sec(20));
    raw_run(raw, "ROLLBACK");
    raw_close(raw);
    assert_null(try_put(bed, database, "last"));
    assert_int_equal(atoi(only_row(bed, database, COUNT, NULL, 1)[0]), 2);
}

/* Each was done and told so, or was not touched and told that it took too long, but for those without a name, which are
 * bad; how many were not touched. */
static int untouched_ones(journal_bed_t *bed, database_t *database, const mate_t *mates)
{
    int untouched = 0;
    for (int i = 0; i < THREADS; i++) {
        if (!mates[i].name) {
            assert_int_not_equal(mates[i].rv, APR_SUCCESS);
            continue;
        }
        bool late = mates[i].rv == APR_TIMEUP;
        if (mates[i].rv && !late) {
            fail_msg("%d: %d %s", i, mates[i].rv, mates[i].message);
        }
        assert_int_equal(mates[i].changed, late ? -7 : 1);
        assert_true(late ? strstr(mates[i].message, "took too long") != NULL : mates[i].message == NULL);
        apr_array_header_t *rows = NULL;
        const char *message = "";
        const char *arguments[] = {mates[i].name};
        assert_int_equal(database_select(database, ECHO, arguments, 1, 2, &rows, bed->pool, &message), APR_SUCCESS);
        assert_int_equal(rows->nelts, late ? 0 : 1);
        untouched += late;
    }
    return untouched;
}

/* While the leader waits, or works for long, the others do not wait with him for ever. */
static void fail_who_queues_for_too_long(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    turn_t *turn = turn_make();
    database_t *database = begin_with(bed, turn);
    mate_t mates[THREADS] = {0};
    assert_null(try_put(bed, database, "first"));
    database->queue_limit = apr_time_from_msec(50);
    for (int i = 0; i < THREADS; i++) {
        mates[i] = (mate_t){.query = PUT, .name = apr_psprintf(bed->pool, "%d", i)};
    }
    run_mates_for(bed, mates, database, turn, apr_time_from_msec(300));
    assert_in_range(untouched_ones(bed, database, mates), 1, THREADS - 1);
    assert_null(try_put(bed, database, "last"));
}

/* A group with a bad one on a slow disk: one by one they have a sync each, and those that are left are not waited for. */
static void fail_who_is_left_of_a_slow_group(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    turn_t *turn = turn_make();
    database_t *database = begin_with(bed, turn);
    mate_t mates[THREADS] = {0};
    assert_null(try_put(bed, database, "first"));
    database->again_limit = apr_time_from_msec(100);
    for (int i = 0; i < THREADS; i++) {
        mates[i] = (mate_t){.query = PUT, .name = i % 5 == 2 ? NULL : apr_psprintf(bed->pool, "%d", i)};
    }
    atomic_store(&sync_takes, 30);
    run_mates(bed, mates, database, turn);
    atomic_store(&sync_takes, 0);
    assert_in_range(untouched_ones(bed, database, mates), 1, THREADS - 5);
    database->again_limit = apr_time_from_sec(5);
    assert_null(try_put(bed, database, "last"));
}

/* Another has the turn and does not give it: then it goes without. */
static void turn_is_politeness(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    turn_t *turn = turn_make();
    worker_t worker = {bed, begin_with(bed, turn), 0};
    assert_true(turn_take(turn, 0));
    atomic_store(&failures, 0);
    run_threads(bed, worker.database, 1, work_once);
    assert_int_equal(atomic_load(&failures), 0);
    turn_give(turn);
}

static void *APR_THREAD_FUNC count_up(apr_thread_t *thread, void *data)
{
    const worker_t *worker = data;
    apr_pool_t *pool = NULL;
    (void)thread;
    apr_pool_create(&pool, NULL);
    for (int i = 0; i < ROUNDS; i++) {
        int changed = 0;
        const char *message = NULL;
        const char *arguments[] = {apr_psprintf(pool, "sum %d", worker->number / THREADS)};
        apr_status_t rv = database_change(worker->database, i % 3 ? DATABASE_DURABLE : DATABASE_RELAXED, COUNT_UP,
                                          arguments, 1, &changed, pool, &message);
        if (rv || changed != 1) {
            print_message("%d %d %s\n", rv, changed, message ? message : "");
            atomic_fetch_add(&failures, 1);
        }
    }
    apr_pool_destroy(pool);
    return NULL;
}

/* ThreadSanitizer takes what pthread_mutex_timedlock() gives after a dead holder for a mutex that is not held. */
#ifdef __SANITIZE_THREAD__
enum { KILLED = 0 };
#else
enum { KILLED = 1 };
#endif

/* One that is to be killed never ends by itself. */
static int count_in_process(journal_bed_t *bed, turn_t *turn, int number)
{
    database_t *database = make_with(bed, bed->settings.place, turn);
    apr_thread_t *threads[THREADS];
    worker_t workers[THREADS];
    apr_status_t rv = APR_SUCCESS;
    atomic_store(&failures, 0);
    do {
        for (int i = 0; i < THREADS; i++) {
            workers[i] = (worker_t){bed, database, number * THREADS + i};
            if (apr_thread_create(&threads[i], NULL, count_up, &workers[i], bed->pool)) {
                return 1;
            }
        }
        for (int i = 0; i < THREADS; i++) {
            apr_thread_join(&rv, threads[i]);
        }
    } while (number == PROCESSES);
    return atomic_load(&failures) != 0;
}

/* Several processes take turns, and one that is killed in the middle of it holds nobody up. */
static void processes_take_turns(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    turn_t *turn = turn_make();
    pid_t children[PROCESSES + KILLED];
    int status = 0;
    raw_t *raw = raw_open(bed);
    raw_run(raw, "CREATE TABLE plain (name TEXT PRIMARY KEY NOT NULL, value TEXT)");
    for (int i = 0; i < PROCESSES + KILLED; i++) {
        raw_run(raw, "INSERT INTO plain (name, value) VALUES ('sum %d', '0')", i);
    }
    raw_close(raw);
    journal_bed_close(bed);
    for (int i = 0; i < PROCESSES + KILLED; i++) {
        children[i] = fork();
        if (!children[i]) {
            _exit(count_in_process(bed, turn, i));
        }
    }
    raw = raw_open(bed);
    while (raw_number(raw, "SELECT value FROM plain WHERE name = 'sum %d'", PROCESSES + KILLED - 1) < 10) {
        apr_sleep(1000);
    }
    if (KILLED) {
        assert_int_equal(kill(children[PROCESSES], SIGKILL), 0);
    }
    for (int i = 0; i < PROCESSES + KILLED; i++) {
        assert_int_equal(waitpid(children[i], &status, 0), children[i]);
        assert_true(i < PROCESSES ? status == 0 : WIFSIGNALED(status));
    }
    for (int i = 0; i < PROCESSES; i++) {
        assert_int_equal(raw_number(raw, "SELECT value FROM plain WHERE name = 'sum %d'", i), THREADS * ROUNDS);
    }
    assert_string_equal(raw_text(raw, "PRAGMA integrity_check"), "ok");
    raw_close(raw);
    journal_bed_open(bed);
}

/* A process that ends while calls wait in the queue: their queue is still there when they go on. */
static int end_during_a_group(journal_bed_t *bed, void *data)
{
    turn_t *turn = data;
    apr_pool_t *pool = bed->pool;
    mate_t mates[THREADS] = {0};
    apr_thread_t *threads[THREADS];
    atomic_int arrived = 0;
    int wrong = 0;
    apr_pool_create(&bed->pool, pool);
    database_t *database = begin_with(bed, turn);
    turn_take(turn, 0);
    for (int i = 0; i < THREADS; i++) {
        mates[i] = (mate_t){.database = database, .query = PUT, .name = apr_psprintf(pool, "%d", i), .arrived = &arrived};
        apr_pool_create(&mates[i].pool, pool);
        if (apr_thread_create(&threads[i], NULL, mate_run, &mates[i], pool)) {
            return 1;
        }
    }
    while (atomic_load(&arrived) < THREADS) {
        apr_sleep(1000);
    }
    apr_sleep(apr_time_from_msec(100));
    apr_pool_destroy(bed->pool);
    turn_give(turn);
    for (int i = 0; i < THREADS; i++) {
        apr_status_t ended = APR_SUCCESS;
        apr_thread_join(&ended, threads[i]);
        wrong += mates[i].rv != APR_SUCCESS;
    }
    apr_terminate();
    return wrong;
}

static void ok_pool_goes_during_a_group(void **state)
{
    assert_int_equal(in_other_process(journal_bed(state), end_during_a_group, turn_make()), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        JOURNAL_TEST_SQLITE(places),
        JOURNAL_TEST(texts_come_back),
        JOURNAL_TEST(nothing_is_not_an_empty_text),
        JOURNAL_TEST(clock_is_the_databases),
        JOURNAL_TEST(changes_are_counted),
        JOURNAL_TEST(errors_are_one_line),
        JOURNAL_TEST(errors_leave_no_connection_behind),
        JOURNAL_TEST(threads_share_few_connections),
        JOURNAL_TEST_PGSQL(ok_pool_goes_during_a_call),
        JOURNAL_TEST_SQLITE(durable_is_on_the_disk_on_sqlite),
        JOURNAL_TEST_SQLITE(fail_what_the_disk_refused),
        JOURNAL_TEST_SQLITE(group_has_one_sync),
        JOURNAL_TEST_SQLITE(relaxed_group_has_none),
        JOURNAL_TEST_SQLITE(group_counts_for_each),
        JOURNAL_TEST_SQLITE(group_with_bad_ones),
        JOURNAL_TEST_SQLITE(fail_a_group_that_the_disk_refused),
        JOURNAL_TEST_SQLITE(fail_a_group_whose_file_is_gone),
        JOURNAL_TEST_SQLITE(fail_a_group_while_another_writes),
        JOURNAL_TEST_SQLITE(fail_who_queues_for_too_long),
        JOURNAL_TEST_SQLITE(fail_who_is_left_of_a_slow_group),
        JOURNAL_TEST_SQLITE(turn_is_politeness),
        JOURNAL_TEST_SQLITE(processes_take_turns),
        JOURNAL_TEST_SQLITE(ok_pool_goes_during_a_group),
        JOURNAL_TEST_PGSQL(durable_is_on_the_disk_on_postgresql),
        JOURNAL_TEST_PGSQL(isolation_is_the_journals_own),
        JOURNAL_TEST_PGSQL(unreachable_says_why),
        JOURNAL_TEST_SQLITE(a_file_that_is_no_database_says_so),
        JOURNAL_TEST_SQLITE(down_for_a_moment_only),
        JOURNAL_TEST_SQLITE(a_file_that_is_gone_is_noticed),
    };
    int failed;

    apr_initialize();
    failed = cmocka_run_group_tests_name("database", tests, NULL, journal_beds_end);
    apr_terminate();
    return failed;
}
