/* SPDX-License-Identifier: Apache-2.0 */
#include "database_fixture.h"

#include "base/clock.h"

#include <apr_strings.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { CONNECTIONS_MOST = 16 };

static atomic_int failures;

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
    database_t *database = plain_begin(bed);
    char *much = apr_pcalloc(bed->pool, 300001);
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        const char *name = apr_psprintf(bed->pool, "%d%s", (int)i, texts[i]);
        assert_int_equal(plain_change(bed, database, PUT, name, texts[i]), 1);
        const char *const *row = plain_only_row(bed, database, ECHO, name, 2);
        assert_string_equal(row[0], name);
        assert_string_equal(row[1], texts[i]);
    }
    memset(much, 'x', 300000);
    assert_int_equal(plain_change(bed, database, PUT, "much", much), 1);
    assert_string_equal(plain_only_row(bed, database, ECHO, "much", 2)[1], much);
    assert_string_equal(plain_only_row(bed, database, PERCENT, "%s", 2)[0], "100%");
    assert_string_equal(plain_only_row(bed, database, PERCENT, "%s", 2)[1], "%s");
}

/* PostgreSQL's driver makes an empty text of it. */
static void nothing_is_not_an_empty_text(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    database_t *database = plain_begin(bed);
    int changed = 0;
    const char *message = "";
    const char *arguments[] = {"a", NULL};
    assert_int_equal(database_change(database, DATABASE_DURABLE, PUT, arguments, 2, &changed, bed->pool, &message),
                     APR_SUCCESS);
    const char *const *row = plain_only_row(bed, database, NULLS, NULL, 3);
    assert_null(row[0]);
    assert_string_equal(row[1], "");
    assert_null(row[2]);
}

static void clock_is_the_databases(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    database_t *database = plain_begin(bed);
    clock_shift(apr_time_from_sec(100000));
    const char *const *row = plain_only_row(bed, database, NOW, NULL, 2);
    apr_int64_t now = apr_time_now() / 1000;
    assert_in_range(now + 1 - apr_strtoi64(row[0], NULL, 10), 0, 5000); /* one rounds */
    assert_in_range(now + 1 - apr_strtoi64(row[1], NULL, 10), 0, 5000); /* one rounds */
}

static void changes_are_counted(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    database_t *database = plain_begin(bed);
    apr_array_header_t *rows = NULL;
    const char *message = "";
    const char *nobody[] = {"nobody"};
    assert_int_equal(plain_change(bed, database, ADD_ALL, "x", NULL), 0);
    assert_int_equal(plain_change(bed, database, PUT, "a", "1"), 1);
    assert_int_equal(plain_change(bed, database, PUT, "b", "2"), 1);
    assert_int_equal(plain_change(bed, database, ADD, "x", "a"), 1);
    assert_int_equal(plain_change(bed, database, ADD, "x", "nobody"), 0);
    assert_int_equal(plain_change(bed, database, ADD_ALL, "y", NULL), 2);
    assert_string_equal(plain_only_row(bed, database, ECHO, "a", 2)[1], "1xy");
    assert_int_equal(database_select(database, ECHO, nobody, 1, 2, &rows, bed->pool, &message), APR_SUCCESS);
    assert_int_equal(rows->nelts, 0);
}

/* An error says what was wrong, not what is in the row, and the next call works. */
static void errors_are_one_line(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    database_t *database = plain_begin(bed);
    assert_null(plain_try_put(bed, database, "a \"secret\" name"));
    const char *message = plain_try_put(bed, database, "a \"secret\" name");
    assert_non_null(message);
    assert_null(strstr(message, "secret"));
    assert_null(plain_try_put(bed, database, "b"));
    int changed = -7;
    const char *arguments[] = {"geheim"};
    assert_int_not_equal(database_change(database, DATABASE_RELAXED, ABSENT_NAME, arguments, 1, &changed, bed->pool,
                                         &message),
                         APR_SUCCESS);
    assert_int_equal(changed, -7);
    assert_null(strstr(message, "geheim"));
    assert_null(strchr(message, '\n'));
    assert_string_equal(plain_only_row(bed, database, COUNT, NULL, 1)[0], "2");
}

static void errors_leave_no_connection_behind(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    database_t *database = plain_begin(bed);
    assert_null(plain_try_put(bed, database, "a"));
    int before = plain_open_files();
    for (int i = 0; i < 50; i++) {
        assert_non_null(plain_try_put(bed, database, "a"));
    }
    assert_null(plain_try_put(bed, database, "b"));
    assert_in_range(plain_open_files(), before - 2, before + 1);
}

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

static void threads_share_few_connections(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    database_t *database = plain_begin(bed);
    int before = plain_open_files();
    atomic_store(&failures, 0);
    plain_run_threads(bed, database, THREADS, work);
    assert_int_equal(atomic_load(&failures), 0);
    assert_int_equal(atoi(plain_only_row(bed, database, COUNT, NULL, 1)[0]), THREADS * ROUNDS);
    /* A connection of SQLite's has three files. */
    assert_in_range(plain_open_files() - before, 1, CONNECTIONS_MOST * 3);
}

/* Each list takes memory of its pool under a lock of its own: two threads may be in two lists at the same moment. */
static void lists_have_pools_of_their_own(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    database_t *database = plain_begin(bed);
    apr_pool_t *pools[USES] = {NULL};
    for (int i = 0; i < USES; i++) {
        connection_t *connection = NULL;
        const char *message = NULL;
        if (!database->connections[i]) {
            continue;
        }
        assert_int_equal(connection_acquire(database, (use_t)i, &connection, bed->pool, &message), APR_SUCCESS);
        pools[i] = apr_pool_parent_get(connection->pool);
        assert_ptr_not_equal(pools[i], database->pool);
        assert_ptr_equal(apr_pool_parent_get(pools[i]), database->pool);
        for (int j = 0; j < i; j++) {
            assert_ptr_not_equal(pools[i], pools[j]);
        }
        assert_int_equal(connection_leave(database, (use_t)i, connection, 0, bed->pool, &message), APR_SUCCESS);
    }
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
    worker_t worker = {bed, plain_begin(bed), 0};
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

/* fdatasync() is counted here; nothing but the call itself tells. */
static void durable_is_on_the_disk_on_sqlite(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    database_t *database = plain_begin(bed);
    plain_syncs_of(bed, database, DATABASE_DURABLE, 1);
    plain_try_put(bed, database, "first");
    assert_in_range(plain_syncs_of(bed, plain_make(bed, bed->settings.place), DATABASE_RELAXED, 100), 0, 3);
    database = plain_make(bed, bed->settings.place);
    raw_t *raw = raw_open(bed);
    raw_run(raw, "DELETE FROM plain");
    raw_close(raw);
    assert_in_range(plain_syncs_of(bed, database, DATABASE_DURABLE, 100), 100, 110);
}

static void fail_what_the_disk_refused(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    database_t *database = plain_begin(bed);
    assert_null(plain_try_put(bed, database, "a"));
    atomic_store(&disk_fails, true);
    const char *message = plain_try_put(bed, database, "b");
    atomic_store(&disk_fails, false);
    assert_non_null(message);
    assert_non_null(strstr(message, "disk I/O error"));
    /* Whether the second is there nobody can say. */
    assert_null(plain_try_put(bed, database, "c"));
    assert_in_range(atoi(plain_only_row(bed, database, COUNT, NULL, 1)[0]), 2, 3);
}

static void durable_is_on_the_disk_on_postgresql(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    database_t *database = plain_begin(bed);
    int changed = 0;
    const char *message = "";
    const char *durable[] = {"durable"};
    const char *relaxed[] = {"relaxed"};
    assert_int_equal(database_change(database, DATABASE_DURABLE, PUT_SETTING, durable, 1, &changed, bed->pool, &message),
                     APR_SUCCESS);
    assert_int_equal(database_change(database, DATABASE_RELAXED, PUT_SETTING, relaxed, 1, &changed, bed->pool, &message),
                     APR_SUCCESS);
    assert_string_equal(plain_only_row(bed, database, ECHO, "durable", 2)[1], "on");
    assert_string_equal(plain_only_row(bed, database, ECHO, "relaxed", 2)[1], "off");
}

/* With another isolation, whoever comes second has an error instead of no row. */
static void isolation_is_the_journals_own(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    database_t *database = plain_begin(bed);
    raw_t *raw = raw_open(bed);
    raw_run(raw, "ALTER ROLE postgres SET default_transaction_isolation = 'serializable'");
    const char *isolation = plain_only_row(bed, database, ISOLATION, NULL, 1)[0];
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
        database_t *database = plain_make(bed, rows[i].place);
        /* The second one did not try itself. */
        for (int n = 0; n < 2; n++) {
            const char *message = plain_try_put(bed, database, "a");
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
    database_t *database = plain_make(bed, apr_pstrcat(bed->pool, "sqlite3:", path, NULL));
    const char *message = plain_try_put(bed, database, "a");
    assert_non_null(message);
    assert_non_null(strstr(message, "not a database"));
}

/* Not again at once, but soon; and a clock that is set back does not make it later. */
static void down_for_a_moment_only(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    database_t *database = plain_begin(bed);
    const char *aside = apr_pstrcat(bed->pool, bed->file, ".aside", NULL);
    assert_int_equal(rename(bed->file, aside), 0);
    assert_non_null(plain_try_put(bed, database, "a"));
    assert_int_equal(rename(aside, bed->file), 0);
    assert_non_null(plain_try_put(bed, database, "a"));
    clock_shift(apr_time_from_msec(600));
    assert_null(plain_try_put(bed, database, "a"));

    database = plain_make(bed, bed->settings.place);
    assert_int_equal(rename(bed->file, aside), 0);
    assert_non_null(plain_try_put(bed, database, "b"));
    assert_int_equal(rename(aside, bed->file), 0);
    clock_shift(apr_time_from_sec(-3600));
    assert_null(plain_try_put(bed, database, "b"));
}

/* What is written to a file without a name is lost; and an empty one in its place is not a journal. */
static void a_file_that_is_gone_is_noticed(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    database_t *database = plain_begin(bed);
    const char *aside = apr_pstrcat(bed->pool, bed->file, ".aside", NULL);
    assert_null(plain_try_put(bed, database, "a"));
    assert_int_equal(rename(bed->file, aside), 0);
    const char *message = plain_try_put(bed, database, "b");
    assert_non_null(message);
    assert_non_null(strstr(message, bed->file));
    assert_int_not_equal(access(bed->file, F_OK), 0);
    assert_int_equal(rename(aside, bed->file), 0);
    apr_sleep(apr_time_from_msec(600));
    assert_null(plain_try_put(bed, database, "c"));
    assert_string_equal(plain_only_row(bed, database, COUNT, NULL, 1)[0], "2");
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
        JOURNAL_TEST(lists_have_pools_of_their_own),
        JOURNAL_TEST_PGSQL(ok_pool_goes_during_a_call),
        JOURNAL_TEST_SQLITE(durable_is_on_the_disk_on_sqlite),
        JOURNAL_TEST_SQLITE(fail_what_the_disk_refused),
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
