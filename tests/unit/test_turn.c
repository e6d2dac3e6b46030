/* SPDX-License-Identifier: Apache-2.0 */
#include "store/turn.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PROCESSES = 3, THREADS = 4, ROUNDS = 200 };

static const apr_interval_time_t LONG = apr_time_from_sec(20);
static const apr_interval_time_t SHORT = apr_time_from_msec(20);

typedef struct taker_t {
    turn_t *turn;
    apr_interval_time_t limit;
    bool keeps; /* the thread ends with it */
    bool got;
} taker_t;

static void *take(void *data)
{
    taker_t *taker = data;
    taker->got = turn_take(taker->turn, taker->limit);
    if (taker->got && !taker->keeps) {
        turn_give(taker->turn);
    }
    return NULL;
}

/* In another thread. */
static bool taken(turn_t *turn, apr_interval_time_t limit, bool keeps)
{
    pthread_t thread;
    taker_t taker = {turn, limit, keeps, false};
    assert_int_equal(pthread_create(&thread, NULL, take, &taker), 0);
    pthread_join(thread, NULL);
    return taker.got;
}

static turn_t *make(void)
{
    turn_t *turn = turn_make();
    assert_non_null(turn);
    return turn;
}

static void ok_one_at_a_time(void **state)
{
    turn_t *turn = make();
    (void)state;
    assert_true(turn_take(turn, SHORT));
    assert_false(taken(turn, SHORT, false));
    turn_give(turn);
    assert_true(taken(turn, SHORT, false));
    assert_true(turn_take(turn, SHORT));
    turn_give(turn);
}

static void ok_the_limit_has_seconds_and_parts(void **state)
{
    static const apr_interval_time_t LIMITS[] = {0, 1, 999999, 1000000, 1000001};
    turn_t *turn = make();
    (void)state;
    assert_true(turn_take(turn, 0));
    for (size_t i = 0; i < sizeof(LIMITS) / sizeof(LIMITS[0]); i++) {
        apr_time_t begin = apr_time_now();
        assert_false(taken(turn, LIMITS[i], false));
        assert_true(apr_time_now() - begin >= LIMITS[i]);
    }
    turn_give(turn);
}

static void fail_there_is_none(void **state)
{
    (void)state;
    assert_false(turn_take(NULL, LONG));
}

static void ok_a_thread_ended_with_it(void **state)
{
    turn_t *turn = make();
    (void)state;
    assert_true(taken(turn, SHORT, true));
    assert_true(turn_take(turn, SHORT));
    assert_false(taken(turn, SHORT, false));
    turn_give(turn);
    assert_true(taken(turn, SHORT, false));
}

/* A process that has it, until it is killed. */
static pid_t holder(turn_t *turn)
{
    int ready[2];
    char byte = 0;
    assert_int_equal(pipe(ready), 0);
    pid_t child = fork();
    if (!child) {
        if (turn_take(turn, LONG) && write(ready[1], "x", 1) == 1) {
            for (;;) {
                pause();
            }
        }
        _exit(1);
    }
    close(ready[1]);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    return child;
}

static void end(pid_t child)
{
    int status = 0;
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
}

static void ok_a_process_was_killed_with_it(void **state)
{
    turn_t *turn = make();
    (void)state;
    for (int i = 0; i < 3; i++) {
        pid_t child = holder(turn);
        assert_false(turn_take(turn, SHORT));
        end(child);
        assert_true(turn_take(turn, LONG));
        assert_false(taken(turn, SHORT, false));
        turn_give(turn);
    }
}

static void ok_its_holder_is_killed_while_one_waits(void **state)
{
#ifdef __SANITIZE_THREAD__
    (void)state;
    print_message("SKIP: ThreadSanitizer does not know what pthread_mutex_timedlock() gives after a dead holder\n");
    skip();
#else
    turn_t *turn = make();
    pthread_t thread;
    taker_t taker = {turn, LONG, false, false};
    (void)state;
    pid_t child = holder(turn);
    assert_int_equal(pthread_create(&thread, NULL, take, &taker), 0);
    /* Whether it waits already is the kernel's to say; either way it must get it. */
    assert_false(turn_take(turn, SHORT));
    end(child);
    pthread_join(thread, NULL);
    assert_true(taker.got);
    assert_true(turn_take(turn, SHORT));
    turn_give(turn);
#endif
}

typedef struct sum_t {
    turn_t *turn;
    volatile int *number; /* guarded by nothing but the turn */
    atomic_int *refused;
} sum_t;

static void *add(void *data)
{
    const sum_t *sum = data;
    for (int i = 0; i < ROUNDS; i++) {
        if (!turn_take(sum->turn, LONG)) {
            atomic_fetch_add(sum->refused, 1);
            continue;
        }
        *sum->number = *sum->number + 1;
        turn_give(sum->turn);
    }
    return NULL;
}

static int add_in_threads(sum_t *sum)
{
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        if (pthread_create(&threads[i], NULL, add, sum)) {
            return 1;
        }
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    return 0;
}

static void ok_processes_and_threads(void **state)
{
    int status = 0;
    char *memory = mmap(NULL, 64, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    (void)state;
    assert_ptr_not_equal(memory, MAP_FAILED);
    sum_t sum = {make(), (volatile int *)memory, (atomic_int *)(memory + 32)};
    for (int i = 0; i < PROCESSES; i++) {
        if (!fork()) {
            _exit(add_in_threads(&sum));
        }
    }
    for (int i = 0; i < PROCESSES; i++) {
        assert_true(wait(&status) > 0);
        assert_int_equal(status, 0);
    }
    assert_int_equal(atomic_load(sum.refused), 0);
    assert_int_equal(*sum.number, PROCESSES * THREADS * ROUNDS);
    munmap(memory, 64);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ok_one_at_a_time),
        cmocka_unit_test(ok_the_limit_has_seconds_and_parts),
        cmocka_unit_test(fail_there_is_none),
        cmocka_unit_test(ok_a_thread_ended_with_it),
        cmocka_unit_test(ok_a_process_was_killed_with_it),
        cmocka_unit_test(ok_its_holder_is_killed_while_one_waits),
        cmocka_unit_test(ok_processes_and_threads),
    };
    return cmocka_run_group_tests_name("turn", tests, NULL, NULL);
}
