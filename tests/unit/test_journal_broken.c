/* SPDX-License-Identifier: Apache-2.0 */
/* The journal on a database that fails: an error in bounded time, nothing half done, and recovery without a restart. */
#include "journal_steps.h"

#include <apr_strings.h>
#include <apr_thread_proc.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { THREADS = 12, SERVER_USER = 54321 };

/* After a connection that could not be opened the next try is half a second later. */
#define PAUSE apr_time_from_msec(600)

static atomic_bool sync_fails;

/* Takes the C library's place, for SQLite too. */
__attribute__((visibility("default"))) int fdatasync(int fd)
{
    if (atomic_load(&sync_fails)) {
        errno = EIO;
        return -1;
    }
    return (int)syscall(SYS_fdatasync, fd);
}

/* The message where it fails, else NULL; one line, and within the time. */
static const char *try_begin(journal_bed_t *bed, const char *transaction, apr_interval_time_t limit)
{
    const char *message = NULL;
    journal_row_t *row = NULL;
    journal_intent_t intent = journal_bed_intent(bed, transaction, "the request");
    apr_time_t begun = apr_time_now();
    apr_status_t rv = journal_begin(bed->journal, &intent, &row, bed->pool, &message);
    if (apr_time_now() - begun > limit) {
        fail_msg("%s took %d ms", transaction, (int)((apr_time_now() - begun) / 1000));
    }
    assert_int_not_equal(rv, APR_EEXIST);
    assert_true(rv ? message != NULL : row != NULL);
    for (const char *c = rv ? message : ""; *c; c++) {
        assert_in_range(*c, ' ', '~');
    }
    return rv ? message : NULL;
}

/* Another process keeps the file for that long. */
static pid_t lock_file(journal_bed_t *bed, apr_interval_time_t time)
{
    int ready[2];
    char go = 0;
    journal_bed_close(bed);
    assert_int_equal(pipe(ready), 0);
    pid_t child = fork();
    if (!child) {
        raw_t *raw = raw_open(bed);
        int failed = raw_try(raw, "BEGIN EXCLUSIVE") || write(ready[1], "x", 1) != 1;
        apr_sleep(time);
        _exit(failed || raw_try(raw, "COMMIT"));
    }
    assert_int_equal(read(ready[0], &go, 1), 1);
    close(ready[0]);
    close(ready[1]);
    journal_bed_open(bed);
    return child;
}

static void assert_ended(pid_t child)
{
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static void locked_for_a_moment(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    pid_t child = lock_file(bed, apr_time_from_msec(1000));
    assert_null(try_begin(bed, "T1", SECONDS(4)));
    assert_ended(child);
}

static void locked_for_long(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    pid_t child = lock_file(bed, apr_time_from_msec(4000));
    const char *message = try_begin(bed, "T1", SECONDS(4));
    assert_non_null(message);
    assert_non_null(strstr(message, "locked"));
    assert_ended(child);
    assert_null(try_begin(bed, "T1", SECONDS(2)));
}

static const journal_outcome_t ISSUED = {.state = JOURNAL_ISSUED,
                                         .report_now = true,
                                         .lease = SECONDS(60),
                                         .certificate = {(const unsigned char *)"a certificate", 13},
                                         .certificate_fp = "AB",
                                         .serial = "0C"};

/* Longer than one try: a certificate would be an orphan, and an operator would have to ask again. */
static void locked_while_a_certificate_comes(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    const char *message = "";
    journal_row_t *row = journal_bed_row(bed, "T1");
    const char *id = row->id;
    pid_t child = lock_file(bed, apr_time_from_msec(4000));
    if (journal_outcome(bed->journal, &row, &ISSUED, bed->pool, &message)) {
        fail_msg("%s", message);
    }
    assert_ended(child);
    assert_int_equal(journal_bed_find(bed, id)->state, JOURNAL_ISSUED);

    raw_t *raw = raw_open(bed);
    raw_run(raw, "UPDATE iscep_journal SET state = 'withheld', report = 'refused', lease_until = 0");
    raw_close(raw);
    child = lock_file(bed, apr_time_from_msec(4000));
    if (journal_waive(bed->journal, id, bed->pool, &message)) {
        fail_msg("%s", message);
    }
    assert_ended(child);
    assert_int_equal(journal_bed_find(bed, id)->report, JOURNAL_WAIVED);
}

/* A restart that brings a newer schema, while the processes before it write all the time. */
static void locked_while_the_schema_changes(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    const char *message = "";
    const char *id = NULL;
    raw_t *raw = raw_open(bed);
    raw_run(raw, "DROP INDEX iscep_journal_owed");
    raw_run(raw, "UPDATE iscep_meta SET value = '1' WHERE name = 'schema_version'");
    raw_close(raw);
    pid_t child = lock_file(bed, SECONDS(16));
    if (journal_prepare(&bed->settings, geteuid(), getegid(), &id, bed->pool, &message)) {
        fail_msg("%s", message);
    }
    assert_ended(child);
}

static atomic_int failed, worst;

static void *APR_THREAD_FUNC begin_in_thread(apr_thread_t *thread, void *data)
{
    journal_bed_t bed = *(journal_bed_t *)data;
    const char *message = NULL;
    journal_row_t *row = NULL;
    apr_pool_create(&bed.pool, NULL);
    journal_intent_t intent = journal_bed_intent(&bed, apr_psprintf(bed.pool, "%pp", (void *)thread), "the request");
    apr_time_t begun = apr_time_now();
    atomic_fetch_add(&failed, journal_begin(bed.journal, &intent, &row, bed.pool, &message) != APR_SUCCESS);
    int took = (int)((apr_time_now() - begun) / 1000);
    for (int old = atomic_load(&worst); took > old && !atomic_compare_exchange_weak(&worst, &old, took);) {
    }
    apr_pool_destroy(bed.pool);
    return NULL;
}

static void run_threads(journal_bed_t *bed)
{
    apr_thread_t *threads[THREADS];
    apr_status_t rv = APR_SUCCESS;
    atomic_store(&failed, 0);
    atomic_store(&worst, 0);
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(apr_thread_create(&threads[i], NULL, begin_in_thread, bed, bed->pool), APR_SUCCESS);
    }
    for (int i = 0; i < THREADS; i++) {
        apr_thread_join(&rv, threads[i]);
    }
}

/* While SQLite waits, the driver lets no other thread of the process in: that must not add up. */
static void locked_for_long_with_many_threads(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    pid_t child = lock_file(bed, SECONDS(60));
    run_threads(bed);
    print_message("%d threads, the slowest took %d ms\n", THREADS, atomic_load(&worst));
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    assert_int_equal(atomic_load(&failed), THREADS);
    assert_in_range(atomic_load(&worst), 0, 20000);
    assert_null(try_begin(bed, "T1", SECONDS(2)));
}

static int read_only(journal_bed_t *bed, void *data)
{
    const int *pipes = data;
    char go = 0;
    if (!geteuid() && (setgroups(0, NULL) || setgid(SERVER_USER) || setuid(SERVER_USER))) {
        return 1;
    }
    journal_bed_open(bed);
    const char *message = try_begin(bed, "T1", SECONDS(4));
    if (!message || !strstr(message, "readonly")) {
        print_message("%s\n", message ? message : "it was written");
        return 2;
    }
    if (write(pipes[1], "x", 1) != 1 || read(pipes[2], &go, 1) != 1) {
        return 3;
    }
    message = try_begin(bed, "T1", SECONDS(4));
    return message ? 4 : 0;
}

static void read_only_file(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    int down[2], up[2], status = -1;
    char go = 0;
    assert_int_equal(pipe(down), 0);
    assert_int_equal(pipe(up), 0);
    int pipes[] = {0, down[1], up[0]};
    journal_bed_close(bed);
    assert_int_equal(geteuid() ? 0 : chown(bed->folder, SERVER_USER, SERVER_USER), 0);
    assert_int_equal(geteuid() ? 0 : chown(bed->file, SERVER_USER, SERVER_USER), 0);
    assert_int_equal(chmod(bed->file, 0400), 0);
    pid_t child = fork();
    if (!child) {
        _exit(read_only(bed, pipes));
    }
    assert_int_equal(read(down[0], &go, 1), 1);
    /* SQLite gives its companions the file's mode. */
    assert_int_equal(chmod(bed->file, 0600), 0);
    chmod(apr_pstrcat(bed->pool, bed->file, "-wal", NULL), 0600);
    chmod(apr_pstrcat(bed->pool, bed->file, "-shm", NULL), 0600);
    apr_sleep(PAUSE);
    assert_int_equal(write(up[1], "x", 1), 1);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static int no_room(journal_bed_t *bed, void *data)
{
    struct rlimit limit, none;
    (void)data;
    signal(SIGXFSZ, SIG_IGN);
    journal_bed_open(bed);
    const char *message = try_begin(bed, "T1", SECONDS(4));
    if (message || getrlimit(RLIMIT_FSIZE, &limit)) {
        return 1;
    }
    none = limit;
    none.rlim_cur = 1;
    setrlimit(RLIMIT_FSIZE, &none);
    message = try_begin(bed, "T2", SECONDS(4));
    if (!message || !(strstr(message, "full") || strstr(message, "I/O"))) {
        return 2;
    }
    setrlimit(RLIMIT_FSIZE, &limit);
    apr_sleep(PAUSE);
    journal_row_t *row = NULL;
    if (journal_find(bed->journal, journal_bed_intent(bed, "T1", "the request").id, &row, bed->pool, &message)) {
        return 3;
    }
    return try_begin(bed, "T2", SECONDS(4)) ? 4 : 0;
}

static void disk_full(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    assert_int_equal(in_other_process(bed, no_room, NULL), 0);
}

/* It can be read back, but it is not on the disk: nobody may go on with it. */
static void disk_that_refuses(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    const char *message = "";
    journal_row_t *row = row_free(bed, "T1");
    journal_intent_t intent = journal_bed_intent(bed, "T1", "csr of T1");
    atomic_store(&sync_fails, true);
    assert_non_null(try_begin(bed, "T2", SECONDS(4)));
    apr_status_t rv = journal_claim(bed->journal, &row, JOURNAL_TO_ISSUE, &intent, bed->pool, &message);
    atomic_store(&sync_fails, false);
    assert_int_not_equal(rv, APR_SUCCESS);
    assert_int_not_equal(rv, APR_EBUSY);
    assert_null(try_begin(bed, "T3", SECONDS(4)));
}

static void damaged_file(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    static char kept[1 << 20], garbage[1 << 20];
    journal_bed_row(bed, "T1");
    journal_bed_close(bed);
    int file = open(bed->file, O_RDWR);
    ssize_t length = read(file, kept, sizeof(kept));
    assert_in_range(length, 4096, sizeof(kept) - 1);
    memset(garbage, 'g', sizeof(garbage));
    /* From the first byte, and behind a header that is whole. */
    for (int i = 0; i < 2; i++) {
        int skip_bytes = i ? 100 : 0;
        assert_int_equal(pwrite(file, garbage, (size_t)(length - skip_bytes), skip_bytes), length - skip_bytes);
        journal_bed_open(bed);
        const char *message = try_begin(bed, "T2", SECONDS(4));
        assert_non_null(message);
        assert_non_null(i ? strstr(message, "malformed") : strstr(message, "not a database"));
        assert_int_equal(pwrite(file, kept, (size_t)length, 0), length);
        assert_int_equal(ftruncate(file, length), 0);
        apr_sleep(PAUSE);
        assert_null(try_begin(bed, i ? "T4" : "T3", SECONDS(4)));
        journal_bed_close(bed);
        length = pread(file, kept, sizeof(kept), 0);
    }
    close(file);
    journal_bed_open(bed);
    journal_bed_find(bed, journal_bed_intent(bed, "T1", "csr of T1").id);
}

/* By another version's migration, or by an operator who thinks that an index helps. */
static void schema_that_changes(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    int errors = 0;
    assert_null(try_begin(bed, "T0", SECONDS(4)));
    raw_t *raw = raw_open(bed);
    raw_run(raw, "CREATE INDEX another ON iscep_journal (created)");
    raw_close(raw);
    for (int i = 1; i < 4; i++) {
        errors += try_begin(bed, apr_psprintf(bed->pool, "T%d", i), SECONDS(4)) != NULL;
    }
    assert_in_range(errors, 0, 1);
}

static void stopped_and_started(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    const char *message = "";
    journal_row_t *row = row_free(bed, "T1");
    journal_intent_t intent = journal_bed_intent(bed, "T1", "csr of T1");
    postgres_stop();
    assert_non_null(try_begin(bed, "T2", SECONDS(4)));
    assert_non_null(message = try_begin(bed, "T2", SECONDS(1)));
    if (!strstr(message, "No such file") && !strstr(message, "refused")) {
        fail_msg("%s", message);
    }
    apr_status_t rv = journal_claim(bed->journal, &row, JOURNAL_TO_ISSUE, &intent, bed->pool, &message);
    assert_int_not_equal(rv, APR_SUCCESS);
    assert_int_not_equal(rv, APR_EBUSY);
    assert_int_not_equal(journal_find(bed->journal, row->id, &row, bed->pool, &message), APR_NOTFOUND);
    postgres_start();
    apr_sleep(PAUSE);
    assert_null(try_begin(bed, "T2", SECONDS(2)));
    assert_int_equal(journal_claim(bed->journal, &row, JOURNAL_TO_ISSUE, &intent, bed->pool, &message), APR_SUCCESS);
}

/* The connections that wait there are all dead at once. */
static void restarted(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    int errors = 0;
    run_threads(bed);
    assert_int_equal(atomic_load(&failed), 0);
    postgres_stop();
    postgres_start();
    for (int i = 0; i < 10; i++) {
        errors += try_begin(bed, apr_psprintf(bed->pool, "T%d", i), SECONDS(4)) != NULL;
    }
    assert_in_range(errors, 0, 1);
}

static void *APR_THREAD_FUNC thaw_later(apr_thread_t *thread, void *data)
{
    (void)thread;
    apr_sleep(*(apr_interval_time_t *)data);
    postgres_freeze(false);
    return NULL;
}

/* A server that stands still and whose machine does not: the call that runs waits for it, new connections do not. */
static void frozen(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    apr_thread_t *thread = NULL;
    apr_status_t rv = APR_SUCCESS;
    apr_interval_time_t time = SECONDS(2);
    assert_null(try_begin(bed, "T1", SECONDS(2)));
    postgres_freeze(true);
    assert_int_equal(apr_thread_create(&thread, NULL, thaw_later, &time, bed->pool), APR_SUCCESS);
    assert_null(try_begin(bed, "T2", SECONDS(4)));
    apr_thread_join(&rv, thread);
    journal_bed_close(bed);
    journal_bed_open(bed);
    postgres_freeze(true);
    const char *message = try_begin(bed, "T3", SECONDS(9));
    const char *again = try_begin(bed, "T3", SECONDS(9));
    postgres_freeze(false);
    assert_non_null(message);
    assert_non_null(again);
    assert_non_null(strstr(message, "timeout"));
    apr_sleep(PAUSE);
    assert_null(try_begin(bed, "T3", SECONDS(2)));
}

typedef struct writer_t {
    journal_t *journal;
    journal_row_t *row;
    apr_status_t rv;
} writer_t;

static void *APR_THREAD_FUNC issue_in_thread(apr_thread_t *thread, void *data)
{
    writer_t *writer = data;
    const char *message = NULL;
    writer->rv = journal_outcome(writer->journal, &writer->row, &ISSUED, apr_thread_pool_get(thread), &message);
    return NULL;
}

/* An update of the server's takes some seconds, in which CAs answer. */
static void restarted_while_a_certificate_comes(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    writer_t writer = {bed->journal, journal_bed_row(bed, "T1"), APR_EGENERAL};
    const char *id = writer.row->id;
    apr_thread_t *thread = NULL;
    apr_status_t rv = APR_SUCCESS;
    postgres_stop();
    assert_int_equal(apr_thread_create(&thread, NULL, issue_in_thread, &writer, bed->pool), APR_SUCCESS);
    apr_sleep(SECONDS(2));
    postgres_start();
    apr_thread_join(&rv, thread);
    assert_int_equal(writer.rv, APR_SUCCESS);
    assert_int_equal(journal_bed_find(bed, id)->state, JOURNAL_ISSUED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        JOURNAL_TEST_SQLITE(locked_for_a_moment),
        JOURNAL_TEST_SQLITE(locked_for_long),
        JOURNAL_TEST_SQLITE(locked_while_a_certificate_comes),
        JOURNAL_TEST_SQLITE(locked_while_the_schema_changes),
        JOURNAL_TEST_SQLITE(locked_for_long_with_many_threads),
        JOURNAL_TEST_SQLITE(read_only_file),
        JOURNAL_TEST_SQLITE(disk_full),
        JOURNAL_TEST_SQLITE(disk_that_refuses),
        JOURNAL_TEST_SQLITE(damaged_file),
        JOURNAL_TEST(schema_that_changes),
        JOURNAL_TEST_PGSQL(stopped_and_started),
        JOURNAL_TEST_PGSQL(restarted),
        JOURNAL_TEST_PGSQL(restarted_while_a_certificate_comes),
        JOURNAL_TEST_PGSQL(frozen),
    };
    int result;

    apr_initialize();
    result = cmocka_run_group_tests_name("journal_broken", tests, NULL, journal_beds_end);
    apr_terminate();
    return result;
}
