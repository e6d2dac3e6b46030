/* SPDX-License-Identifier: Apache-2.0 */
#include "database_fixture.h"

#include "base/clock.h"

#include <apr_strings.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PROCESSES = 3 };

static atomic_int failures;

static void *APR_THREAD_FUNC work_once(apr_thread_t *thread, void *data)
{
    const worker_t *worker = data;
    (void)thread;
    atomic_fetch_add(&failures, plain_try_put(worker->bed, worker->database, "a") != NULL);
    return NULL;
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
    database_t *database = plain_begin_with(bed, turn);
    mate_t mates[THREADS] = {0};
    plain_try_put(bed, database, "first");
    int before = atomic_load(&disk_syncs);
    for (int i = 0; i < THREADS; i++) {
        /* What is relaxed goes along. */
        mates[i].commit = i % 4 == 3 ? DATABASE_RELAXED : DATABASE_DURABLE;
        mates[i].query = PUT;
        mates[i].name = apr_psprintf(bed->pool, "%d", i);
    }
    run_mates(bed, mates, database, turn);
    assert_in_range(atomic_load(&disk_syncs) - before, 1, 5);
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(mates[i].rv, APR_SUCCESS);
        assert_int_equal(mates[i].changed, 1);
    }
    assert_int_equal(atoi(plain_only_row(bed, database, COUNT, NULL, 1)[0]), THREADS + 1);
}

static void relaxed_group_has_none(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    turn_t *turn = turn_make();
    database_t *database = plain_begin_with(bed, turn);
    mate_t mates[THREADS] = {0};
    plain_syncs_of(bed, database, DATABASE_RELAXED, 1);
    int before = atomic_load(&disk_syncs);
    for (int i = 0; i < THREADS; i++) {
        mates[i] = (mate_t){.commit = DATABASE_RELAXED, .query = PUT, .name = apr_psprintf(bed->pool, "%d", i)};
    }
    run_mates(bed, mates, database, turn);
    assert_int_equal(atomic_load(&disk_syncs), before);
    assert_int_equal(atoi(plain_only_row(bed, database, COUNT, NULL, 1)[0]), THREADS + 1);
}

/* Each its own count: of those that want the same one has it, and all counts are there. */
static void group_counts_for_each(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    turn_t *turn = turn_make();
    database_t *database = plain_begin_with(bed, turn);
    int won[3] = {0};
    assert_int_equal(plain_change(bed, database, PUT, "sum", "0"), 1);
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
    assert_int_equal(atoi(plain_only_row(bed, database, ECHO, "sum", 2)[1]), ROUNDS * ((THREADS + 5) / 6));
}

/* Those that fail do so by themselves, each for its own reason. */
static void group_with_bad_ones(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    turn_t *turn = turn_make();
    database_t *database = plain_begin_with(bed, turn);
    mate_t mates[THREADS] = {0};
    int before = 0;
    assert_int_equal(plain_change(bed, database, PUT, "there", "v"), 1);
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
        before = round ? before : plain_open_files();
    }
    assert_true(plain_open_files() <= before + 6);
    assert_int_equal(atoi(plain_only_row(bed, database, COUNT, NULL, 1)[0]), 1 + ROUNDS * (THREADS - 6));
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
    database_t *database = plain_begin_with(bed, turn);
    assert_null(plain_try_put(bed, database, "first"));
    atomic_store(&disk_fails, true);
    all_fail(bed, database, turn, "disk I/O error");
    atomic_store(&disk_fails, false);
    assert_null(plain_try_put(bed, database, "last"));
    assert_in_range(atoi(plain_only_row(bed, database, COUNT, NULL, 1)[0]), 2, THREADS + 2);
}

static void fail_a_group_whose_file_is_gone(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    turn_t *turn = turn_make();
    database_t *database = plain_begin_with(bed, turn);
    const char *aside = apr_pstrcat(bed->pool, bed->file, ".aside", NULL);
    assert_null(plain_try_put(bed, database, "first"));
    assert_int_equal(rename(bed->file, aside), 0);
    all_fail(bed, database, turn, bed->file);
    assert_int_equal(rename(aside, bed->file), 0);
    clock_shift(apr_time_from_msec(600));
    assert_null(plain_try_put(bed, database, "last"));
    assert_int_equal(atoi(plain_only_row(bed, database, COUNT, NULL, 1)[0]), 2);
}

/* By a process that takes no turns, for longer than one waits: nothing is done, and nobody told so. */
static void fail_a_group_while_another_writes(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    turn_t *turn = turn_make();
    database_t *database = plain_begin_with(bed, turn);
    raw_t *raw = raw_open(bed);
    assert_null(plain_try_put(bed, database, "first"));
    raw_run(raw, "BEGIN IMMEDIATE");
    apr_time_t begun = apr_time_now();
    all_fail(bed, database, turn, "database is locked");
    /* One after the other would be twenty times as long. */
    assert_in_range(apr_time_now() - begun, apr_time_from_msec(1500), apr_time_from_sec(20));
    raw_run(raw, "ROLLBACK");
    raw_close(raw);
    assert_null(plain_try_put(bed, database, "last"));
    assert_int_equal(atoi(plain_only_row(bed, database, COUNT, NULL, 1)[0]), 2);
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
    database_t *database = plain_begin_with(bed, turn);
    mate_t mates[THREADS] = {0};
    assert_null(plain_try_put(bed, database, "first"));
    database->queue_limit = apr_time_from_msec(50);
    for (int i = 0; i < THREADS; i++) {
        mates[i] = (mate_t){.query = PUT, .name = apr_psprintf(bed->pool, "%d", i)};
    }
    run_mates_for(bed, mates, database, turn, apr_time_from_msec(300));
    assert_in_range(untouched_ones(bed, database, mates), 1, THREADS - 1);
    assert_null(plain_try_put(bed, database, "last"));
}

/* A group with a bad one on a slow disk: one by one they have a sync each, and those that are left are not waited for. */
static void fail_who_is_left_of_a_slow_group(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    turn_t *turn = turn_make();
    database_t *database = plain_begin_with(bed, turn);
    mate_t mates[THREADS] = {0};
    assert_null(plain_try_put(bed, database, "first"));
    database->again_limit = apr_time_from_msec(100);
    for (int i = 0; i < THREADS; i++) {
        mates[i] = (mate_t){.query = PUT, .name = i % 5 == 2 ? NULL : apr_psprintf(bed->pool, "%d", i)};
    }
    atomic_store(&disk_takes, 30);
    run_mates(bed, mates, database, turn);
    atomic_store(&disk_takes, 0);
    assert_in_range(untouched_ones(bed, database, mates), 1, THREADS - 5);
    database->again_limit = apr_time_from_sec(5);
    assert_null(plain_try_put(bed, database, "last"));
}

/* Another has the turn and does not give it: then it goes without. */
static void turn_is_politeness(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    turn_t *turn = turn_make();
    worker_t worker = {bed, plain_begin_with(bed, turn), 0};
    assert_true(turn_take(turn, 0));
    atomic_store(&failures, 0);
    plain_run_threads(bed, worker.database, 1, work_once);
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
    database_t *database = plain_make_with(bed, bed->settings.place, turn);
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
    database_t *database = plain_begin_with(bed, turn);
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
    };
    int failed;

    apr_initialize();
    failed = cmocka_run_group_tests_name("database_group", tests, NULL, journal_beds_end);
    apr_terminate();
    return failed;
}
