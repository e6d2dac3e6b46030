/* SPDX-License-Identifier: Apache-2.0 */
#include "journal_fixture.h"

#include "outside_fixture.h"

#include <apr_strings.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ROUNDS = 8, PROCESSES = 4, SERVER_USER = 54321, OTHER_USER = 54322 };

static apr_status_t prepare_as(journal_bed_t *bed, uid_t user, const char **id, const char **message)
{
    return journal_prepare(&bed->settings, user, (gid_t)user, id, bed->pool, message);
}

static apr_status_t prepare(journal_bed_t *bed, const char **id, const char **message)
{
    return prepare_as(bed, geteuid(), id, message);
}

/* As if it had never been prepared. */
static void forget(journal_bed_t *bed)
{
    journal_bed_close(bed);
    if (bed->kind == DATABASE_SQLITE) {
        unlink(bed->file);
        return;
    }
    raw_t *raw = raw_open(bed);
    raw_run(raw, "DROP TABLE IF EXISTS iscep_journal, iscep_meta");
    raw_close(raw);
}

static void ok_made_once(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    const char *first = NULL, *second = NULL, *third = NULL;
    const char *message = "";
    assert_int_equal(prepare(bed, &first, &message), APR_SUCCESS);
    const char *row = journal_bed_row(bed, "T1")->id;
    assert_int_equal(prepare(bed, &second, &message), APR_SUCCESS);
    assert_string_equal(first, second);
    /* And the connections that were there go on. */
    journal_bed_find(bed, row);
    journal_bed_row(bed, "T2");
    forget(bed);
    assert_int_equal(prepare(bed, &third, &message), APR_SUCCESS);
    assert_string_not_equal(first, third);
    assert_int_equal(strlen(third), 16);
}

static void fail_another_key(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    const char *id = NULL;
    const char *message = "";
    bed->settings.state_key = outside_key('o', bed->pool);
    assert_int_not_equal(prepare(bed, &id, &message), APR_SUCCESS);
    assert_non_null(strstr(message, "another state key"));
    bed->settings.state_key = outside_key('k', bed->pool);
    assert_int_equal(prepare(bed, &id, &message), APR_SUCCESS);
}

static void versions(void **state)
{
    static const struct {
        const char *name;
        const char *before;
        const char *words; /* NULL: accepted */
    } rows[] = {
        {"ok/the same", "UPDATE iscep_meta SET value = '2' WHERE name = 'schema_version'", NULL},
        {"ok/older", "UPDATE iscep_meta SET value = '1' WHERE name = 'schema_version'", NULL},
        {"ok/a crash before the version", "DELETE FROM iscep_meta WHERE name = 'schema_version'", NULL},
        {"ok/a crash after the first table", "DROP TABLE iscep_journal", NULL},
        {"fail/newer", "UPDATE iscep_meta SET value = '3' WHERE name = 'schema_version'", "newer version"},
    };
    journal_bed_t *bed = journal_bed(state);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const char *id = NULL;
        const char *message = "";
        journal_bed_close(bed);
        raw_t *raw = raw_open(bed);
        raw_run(raw, "%s", rows[i].before);
        if (strstr(rows[i].before, "DROP")) {
            raw_run(raw, "DELETE FROM iscep_meta");
        }
        raw_close(raw);
        apr_status_t rv = prepare(bed, &id, &message);
        if ((rv == APR_SUCCESS) != !rows[i].words || (rows[i].words && !strstr(message, rows[i].words))) {
            fail_msg("%s: %d %s", rows[i].name, rv, message);
        }
        if (!rv) {
            journal_bed_open(bed);
            journal_bed_row(bed, rows[i].name);
        }
    }
}

/* The first version's indexes give way to the second's, and the rows stay. */
static void ok_from_version_1(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    const char *id = NULL;
    const char *message = "";
    const char *row = journal_bed_row(bed, "T1")->id;
    journal_bed_close(bed);
    raw_t *raw = raw_open(bed);
    raw_run(raw, "DROP INDEX iscep_journal_owed");
    raw_run(raw, "DROP INDEX iscep_journal_counts");
    raw_run(raw, "CREATE INDEX iscep_journal_due ON iscep_journal (due) WHERE report IN ('success', 'failure')");
    raw_run(raw, "UPDATE iscep_meta SET value = '1' WHERE name = 'schema_version'");
    raw_close(raw);
    assert_int_equal(prepare(bed, &id, &message), APR_SUCCESS);
    raw = raw_open(bed);
    assert_string_equal(raw_text(raw, "SELECT value FROM iscep_meta WHERE name = 'schema_version'"), "2");
    assert_int_equal(raw_try(raw, "DROP INDEX iscep_journal_owed"), 0);
    assert_int_equal(raw_try(raw, "DROP INDEX iscep_journal_counts"), 0);
    assert_int_not_equal(raw_try(raw, "DROP INDEX iscep_journal_due"), 0);
    raw_close(raw);
    journal_bed_open(bed);
    journal_bed_find(bed, row);
}

/* The processes of before a restart that brings the tables forward go on with their connections. */
static void ok_while_another_goes_on(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    const char *id = NULL;
    const char *message = "";
    raw_t *raw = raw_open(bed);
    raw_run(raw, "DROP INDEX iscep_journal_owed");
    raw_run(raw, "UPDATE iscep_meta SET value = '1' WHERE name = 'schema_version'");
    const char *row = journal_bed_row(bed, "T1")->id;
    journal_bed_find(bed, row);
    assert_int_equal(prepare(bed, &id, &message), APR_SUCCESS);
    journal_bed_find(bed, row);
    raw_close(raw);
    raw = raw_open(bed);
    for (int i = 0, removed = 0; i < 2; i++) {
        assert_int_equal(journal_prune(bed->journal, apr_time_from_sec(86400), &removed, bed->pool, &message),
                         APR_SUCCESS);
        assert_int_equal(raw_try(raw, "CREATE INDEX one_more ON iscep_journal (txid)") == 0, i == 0);
    }
    journal_bed_row(bed, "T2");
    raw_close(raw);
}

/* A restart of a server whose journal somebody writes to all the time, or holds. */
static void ok_while_another_writes(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    const char *first = NULL, *second = NULL;
    const char *message = "";
    assert_int_equal(prepare(bed, &first, &message), APR_SUCCESS);
    raw_t *raw = raw_open(bed);
    raw_run(raw, "BEGIN IMMEDIATE");
    if (prepare(bed, &second, &message)) {
        fail_msg("%s", message);
    }
    assert_string_equal(first, second);
    raw_run(raw, "ROLLBACK");
    raw_close(raw);
}

static int places_in(const char *sql)
{
    int count = 0;
    for (const char *place = sql; (place = strstr(place, "%s")); place += 2) {
        count++;
    }
    return count;
}

/* A part of a plan: one row if it is known by its key, or a part of an index that grows with what is to be done. */
static bool is_short(const char *part)
{
    static const char *const WHOLE[] = {"USING INDEX iscep_journal_poll (loc=?)", "SCAN iscep_journal"};
    for (size_t i = 0; i < sizeof(WHOLE) / sizeof(WHOLE[0]); i++) {
        if (strstr(part, WHOLE[i]) && !strstr(part, "COVERING INDEX") && !strstr(part, "iscep_journal_events")) {
            return false;
        }
    }
    return true;
}

/* While SQLite goes through a journal of some 100,000 rows, no thread of the process gets at it. */
static void what_a_server_asks_is_short(void **state)
{
    static const journal_statement_t OPERATORS[] = {STATEMENT_LIST, STATEMENT_LIST_OPEN, STATEMENT_SERIALS};
    journal_bed_t *bed = journal_bed(state);
    database_place_t place;
    database_t *database = NULL;
    const char *message = "";
    const char *texts[STATEMENT_COUNT];
    const char *arguments[] = {"1", "1", "1", "1", "1", "1", "1", "1", "1", "1", "1", "1", "1", "1", "1", "1"};
    for (int i = 0; i < STATEMENT_COUNT; i++) {
        texts[i] = apr_pstrcat(bed->pool, "EXPLAIN QUERY PLAN ", journal_statements[i], NULL);
    }
    assert_int_equal(database_place_parse(&place, bed->settings.place, bed->pool, &message), APR_SUCCESS);
    assert_int_equal(database_make(&database, &place, NULL, texts, STATEMENT_COUNT, bed->pool), APR_SUCCESS);
    for (int i = 0; i < STATEMENT_COUNT; i++) {
        apr_array_header_t *parts = NULL;
        bool is_operators = false;
        for (size_t n = 0; n < sizeof(OPERATORS) / sizeof(OPERATORS[0]); n++) {
            is_operators = is_operators || i == (int)OPERATORS[n];
        }
        if (database_select(database, i, arguments, places_in(journal_statements[i]), 4, &parts, bed->pool, &message)) {
            fail_msg("%s: %s", journal_statements[i], message);
        }
        for (int n = 0; !is_operators && n < parts->nelts; n++) {
            const char *part = APR_ARRAY_IDX(parts, n, const char *const *)[3];
            if (!is_short(part)) {
                fail_msg("%s: %s", journal_statements[i], part);
            }
        }
    }
}

static int prepare_once(journal_bed_t *bed, int start, int end)
{
    const char *id = "";
    const char *message = "";
    char go = 0;
    if (read(start, &go, 1) < 0) {
        return 1;
    }
    if (prepare(bed, &id, &message)) {
        print_message("%s\n", message);
        return 1;
    }
    return write(end, id, 16) != 16;
}

/* Of several machines that start at once one makes the tables, and all get the same journal. */
static void ok_several_at_once(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    for (int round = 0; round < ROUNDS; round++) {
        int start[2], ends[2];
        char ids[PROCESSES][17] = {{0}};
        forget(bed);
        assert_int_equal(pipe(start), 0);
        assert_int_equal(pipe(ends), 0);
        for (int i = 0; i < PROCESSES; i++) {
            if (!fork()) {
                close(start[1]);
                _exit(prepare_once(bed, start[0], ends[1]));
            }
        }
        close(start[1]); /* now all of them run */
        for (int i = 0; i < PROCESSES; i++) {
            int status = -1;
            assert_true(wait(&status) > 0);
            assert_int_equal(status, 0);
        }
        for (int i = 0; i < PROCESSES; i++) {
            assert_int_equal(read(ends[0], ids[i], 16), 16);
            assert_string_equal(ids[i], ids[0]);
        }
        close(start[0]);
        close(ends[0]);
        close(ends[1]);
    }
    journal_bed_open(bed);
    journal_bed_row(bed, "T1");
}

static void ok_file_is_the_servers_alone(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    struct stat facts;
    raw_t *raw = raw_open(bed);
    assert_string_equal(raw_text(raw, "PRAGMA journal_mode"), "wal");
    raw_close(raw);
    assert_int_equal(stat(bed->file, &facts), 0);
    assert_int_equal(facts.st_mode & 07777, 0600);
    journal_bed_row(bed, "T1");
    const char *wal = apr_pstrcat(bed->pool, bed->file, "-wal", NULL);
    const char *shm = apr_pstrcat(bed->pool, bed->file, "-shm", NULL);
    assert_int_equal(stat(wal, &facts), 0);
    assert_int_equal(facts.st_mode & 07777, 0600);
    assert_int_equal(stat(shm, &facts), 0);
    assert_int_equal(facts.st_mode & 07777, 0600);
}

static void files(void **state)
{
    static const struct {
        const char *name;
        const char *words; /* NULL: accepted */
        mode_t mode;
        int links; /* other names; -1: a symbolic link */
        bool folder;
        uid_t owner; /* for root only */
    } rows[] = {
        {"ok/as it was", NULL, 0600, 0, false, 0},
        {"ok/the server's already", NULL, 0600, 0, false, SERVER_USER},
        {"fail/readable by all", "open to others", 0644, 0, false, 0},
        {"fail/another name", "one name", 0600, 1, false, 0},
        {"fail/a link", "cannot be made or opened", 0600, -1, false, 0},
        {"fail/a directory", "journal.sqlite", 0700, 0, true, 0},
        {"fail/somebody else's", "owned by user 54322", 0600, 0, false, OTHER_USER},
    };
    journal_bed_t *bed = journal_bed(state);
    const char *elsewhere = apr_pstrcat(bed->pool, bed->folder, "/elsewhere", NULL);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const char *id = NULL;
        const char *message = "";
        if (rows[i].owner && geteuid()) {
            continue;
        }
        forget(bed);
        const char *target = rows[i].links < 0 ? elsewhere : bed->file;
        int file = rows[i].folder ? mkdir(bed->file, 0700) : open(target, O_CREAT | O_WRONLY, 0600);
        assert_true(file >= 0);
        assert_int_equal(chmod(target, rows[i].mode), 0);
        assert_int_equal(rows[i].owner ? chown(target, rows[i].owner, rows[i].owner) : 0, 0);
        if (rows[i].links) {
            assert_int_equal(rows[i].links < 0 ? symlink(elsewhere, bed->file) : link(bed->file, elsewhere), 0);
        }
        apr_status_t rv = prepare_as(bed, geteuid() ? geteuid() : SERVER_USER, &id, &message);
        if ((rv == APR_SUCCESS) != !rows[i].words || (rows[i].words && !strstr(message, rows[i].words))) {
            fail_msg("%s: %d %s", rows[i].name, rv, message);
        }
        struct stat facts = {0};
        if (rows[i].links && !lstat(target, &facts)) {
            assert_int_equal(facts.st_uid, geteuid());
        }
        unlink(bed->file);
        unlink(elsewhere);
        rmdir(bed->file);
    }
}

static int enroll_as_the_server(journal_bed_t *bed, void *data)
{
    if (setgroups(0, NULL) || setgid(SERVER_USER) || setuid(SERVER_USER)) {
        return 1;
    }
    journal_bed_open(bed);
    journal_intent_t intent = journal_bed_intent(bed, data, "the request");
    journal_row_t *row = NULL;
    const char *message = "";
    if (journal_begin(bed->journal, &intent, &row, bed->pool, &message)) {
        print_message("%s\n", message);
        return 2;
    }
    return 0;
}

/* Root prepares it, the server's user uses it, root prepares it again meanwhile. */
static void ok_root_gives_it_away(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    char first[] = "T1", second[] = "T2";
    const char *id = NULL;
    const char *message = "";
    if (geteuid()) {
        print_message("skipped: only root can give a file away\n");
        skip();
    }
    forget(bed);
    assert_int_equal(chown(bed->folder, SERVER_USER, SERVER_USER), 0);
    assert_int_equal(prepare_as(bed, SERVER_USER, &id, &message), APR_SUCCESS);
    assert_int_equal(in_other_process(bed, enroll_as_the_server, first), 0);
    /* Root's connection, as a command-line tool has one, leaves nothing that the server cannot use. */
    journal_bed_row(bed, "root's");
    assert_int_equal(prepare_as(bed, SERVER_USER, &id, &message), APR_SUCCESS);
    raw_t *raw = raw_open(bed);
    raw_run(raw, "DELETE FROM iscep_journal WHERE txid = 'root''s'");
    assert_int_equal(in_other_process(bed, enroll_as_the_server, second), 0);
    assert_int_equal(raw_number(raw, "SELECT COUNT(*) FROM iscep_journal"), 2);
    raw_close(raw);
}

static void fail_what_is_no_database(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    const char *id = NULL;
    const char *message = "";
    forget(bed);
    FILE *file = fopen(bed->file, "w");
    for (int i = 0; i < 1000; i++) {
        fputs("this is not a database\n", file);
    }
    fclose(file);
    assert_int_equal(chmod(bed->file, 0600), 0);
    apr_time_t begun = apr_time_now();
    assert_int_not_equal(prepare(bed, &id, &message), APR_SUCCESS);
    assert_non_null(strstr(message, "not a database"));
    assert_true(apr_time_now() - begun < apr_time_from_sec(10));
}

static void fail_what_is_not_there(void **state)
{
    static const struct {
        const char *name;
        const char *place;
        const char *words;
    } rows[] = {
        {"no folder", "sqlite3:/nowhere/at/all", "/nowhere/at/all"},
        {"nobody listens", "pgsql:host=127.0.0.1 port=1 password=geheim", "Connection refused"},
        {"no driver", "oracle:a", "pgsql:CONNECTION"},
    };
    journal_bed_t *bed = journal_bed(state);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const char *id = NULL;
        const char *message = "";
        apr_time_t begun = apr_time_now();
        bed->settings.place = rows[i].place;
        if (!prepare(bed, &id, &message) || !strstr(message, rows[i].words) || strstr(message, "geheim")) {
            fail_msg("%s: %s", rows[i].name, message);
        }
        assert_true(apr_time_now() - begun < apr_time_from_sec(10));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        JOURNAL_TEST(ok_made_once),
        JOURNAL_TEST(fail_another_key),
        JOURNAL_TEST(versions),
        JOURNAL_TEST(ok_from_version_1),
        JOURNAL_TEST(ok_while_another_goes_on),
        JOURNAL_TEST_SQLITE(ok_while_another_writes),
        JOURNAL_TEST_SQLITE(what_a_server_asks_is_short),
        JOURNAL_TEST(ok_several_at_once),
        JOURNAL_TEST_SQLITE(ok_file_is_the_servers_alone),
        JOURNAL_TEST_SQLITE(files),
        JOURNAL_TEST_SQLITE(ok_root_gives_it_away),
        JOURNAL_TEST_SQLITE(fail_what_is_no_database),
        JOURNAL_TEST_PGSQL(fail_what_is_not_there),
    };
    int failed;

    apr_initialize();
    failed = cmocka_run_group_tests_name("journal_schema", tests, NULL, journal_beds_end);
    apr_terminate();
    return failed;
}
