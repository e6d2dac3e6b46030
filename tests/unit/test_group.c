/* SPDX-License-Identifier: Apache-2.0 */
#include "store/group.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <apr_general.h>
#include <stdatomic.h>
#include <string.h>

enum { THREADS = 70, ROUNDS = 100, MANY = 12 };

static const apr_interval_time_t LONG = apr_time_from_sec(60);

/* What one thread wants. */
typedef struct wish_t {
    group_member_t member;
    struct hall_t *hall;
    apr_interval_time_t limit;
    apr_status_t rv;
    int worked; /* times that it was worked at */
    pthread_t thread;
} wish_t;

/* Where they meet. The gate holds up whoever works. */
typedef struct hall_t {
    group_t *group;
    pthread_mutex_t gate;
    atomic_int working; /* at a time: 1 at most */
    atomic_int begun, most_at_once, largest, groups, foreign;
} hall_t;

static hall_t hall;

static void work(group_member_t *const *members, int count)
{
    const wish_t *leader = (const wish_t *)members[0];
    atomic_fetch_add(&hall.begun, 1);
    pthread_mutex_lock(&hall.gate);
    pthread_mutex_unlock(&hall.gate);
    int at_once = atomic_fetch_add(&hall.working, 1) + 1;
    if (at_once > atomic_load(&hall.most_at_once)) {
        atomic_store(&hall.most_at_once, at_once);
    }
    if (count > atomic_load(&hall.largest)) {
        atomic_store(&hall.largest, count);
    }
    atomic_fetch_add(&hall.groups, 1);
    atomic_fetch_add(&hall.foreign, !pthread_equal(leader->thread, pthread_self()));
    for (int i = 0; i < count; i++) {
        ((wish_t *)members[i])->worked++;
    }
    atomic_fetch_sub(&hall.working, 1);
}

static int begin(void **state)
{
    apr_pool_t *pool = NULL;
    apr_pool_create(&pool, NULL);
    memset(&hall, 0, sizeof(hall));
    pthread_mutex_init(&hall.gate, NULL);
    *state = pool;
    return group_make(&hall.group, work, NULL, pool);
}

static int end(void **state)
{
    apr_pool_destroy(*state);
    pthread_mutex_destroy(&hall.gate);
    return 0;
}

static void *ask(void *data)
{
    wish_t *wish = data;
    wish->thread = pthread_self();
    wish->rv = group_do(hall.group, &wish->member, wish->limit);
    return NULL;
}

static pthread_t start(wish_t *wish, apr_interval_time_t limit)
{
    pthread_t thread;
    memset(wish, 0, sizeof(*wish));
    wish->limit = limit;
    assert_int_equal(pthread_create(&thread, NULL, ask, wish), 0);
    return thread;
}

static void await_begun(int count)
{
    while (atomic_load(&hall.begun) < count) {
        apr_sleep(1000);
    }
}

static void await_queued(int count)
{
    while (group_queued(hall.group) < count) {
        apr_sleep(1000);
    }
}

static void ok_alone(void **state)
{
    (void)state;
    for (int i = 1; i <= 3; i++) {
        wish_t wish = {.thread = pthread_self()};
        assert_int_equal(group_do(hall.group, &wish.member, LONG), APR_SUCCESS);
        assert_int_equal(wish.worked, 1);
        assert_int_equal(atomic_load(&hall.groups), i);
    }
    assert_int_equal(atomic_load(&hall.largest), 1);
    assert_int_equal(atomic_load(&hall.foreign), 0);
}

/* What queued up behind the first goes in groups of GROUP_MAX, each led by one of its own. */
static void ok_what_came_meanwhile(void **state)
{
    static wish_t wishes[THREADS];
    pthread_t threads[THREADS];
    (void)state;
    pthread_mutex_lock(&hall.gate);
    threads[0] = start(&wishes[0], LONG);
    await_begun(1);
    for (int i = 1; i < THREADS; i++) {
        threads[i] = start(&wishes[i], LONG);
    }
    await_queued(THREADS - 1);
    pthread_mutex_unlock(&hall.gate);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(wishes[i].rv, APR_SUCCESS);
        assert_int_equal(wishes[i].worked, 1);
    }
    assert_int_equal(atomic_load(&hall.groups), 1 + (THREADS - 1 + GROUP_MAX - 1) / GROUP_MAX);
    assert_int_equal(atomic_load(&hall.largest), GROUP_MAX);
    assert_int_equal(atomic_load(&hall.most_at_once), 1);
    assert_int_equal(atomic_load(&hall.foreign), 0);
    assert_int_equal(group_queued(hall.group), 0);
}

/* The first, one in the middle or the last of the queue; what is behind it, and what comes later, is done. */
static void ok_who_gives_up_is_not_touched(void **state)
{
    static const int IMPATIENT[][3] = {{1, 0, 0}, {0, 1, 0}, {0, 0, 1}, {1, 0, 1}, {1, 1, 1}};
    (void)state;
    for (size_t row = 0; row < sizeof(IMPATIENT) / sizeof(IMPATIENT[0]); row++) {
        wish_t wishes[5];
        pthread_t threads[5];
        int left = 3;
        int begun = atomic_load(&hall.begun);
        pthread_mutex_lock(&hall.gate);
        threads[0] = start(&wishes[0], LONG);
        await_begun(begun + 1);
        for (int i = 0; i < 3; i++) {
            /* One after the other: the queue is in that order. */
            threads[i + 1] = start(&wishes[i + 1], IMPATIENT[row][i] ? apr_time_from_msec(300) : LONG);
            await_queued(i + 1);
        }
        for (int i = 0; i < 3; i++) {
            if (IMPATIENT[row][i]) {
                pthread_join(threads[i + 1], NULL);
                assert_int_equal(wishes[i + 1].rv, APR_TIMEUP);
                left--;
            }
        }
        assert_int_equal(group_queued(hall.group), left);
        threads[4] = start(&wishes[4], LONG);
        await_queued(left + 1);
        pthread_mutex_unlock(&hall.gate);
        for (int i = 0; i < 5; i++) {
            bool gave_up = i > 0 && i < 4 && IMPATIENT[row][i - 1];
            if (!gave_up) {
                pthread_join(threads[i], NULL);
            }
            assert_int_equal(wishes[i].rv, gave_up ? APR_TIMEUP : APR_SUCCESS);
            assert_int_equal(wishes[i].worked, !gave_up);
        }
    }
    assert_int_equal(atomic_load(&hall.foreign), 0);
}

/* Work that has begun is waited for, however long it takes: it uses what lies on the waiter's stack. */
static void ok_nobody_leaves_once_taken(void **state)
{
    wish_t wish;
    (void)state;
    pthread_mutex_lock(&hall.gate);
    pthread_t thread = start(&wish, 1);
    await_begun(1);
    apr_sleep(apr_time_from_msec(20));
    pthread_mutex_unlock(&hall.gate);
    pthread_join(thread, NULL);
    assert_int_equal(wish.rv, APR_SUCCESS);
    assert_int_equal(wish.worked, 1);
}

/* With limits that are always about to be reached, so that giving up meets being taken and being made the leader. */
static void *ask_often(void *data)
{
    wish_t *sum = data;
    for (int i = 0; i < ROUNDS; i++) {
        wish_t wish = {.thread = pthread_self()};
        apr_status_t rv = group_do(hall.group, &wish.member, i % 3 ? LONG : i);
        sum->worked += wish.worked;
        if (wish.worked != !rv || (rv && rv != APR_TIMEUP) || (rv && i % 3)) {
            sum->rv = APR_EGENERAL;
        }
    }
    return NULL;
}

static void ok_a_crowd(void **state)
{
    wish_t sums[MANY];
    pthread_t threads[MANY];
    (void)state;
    memset(sums, 0, sizeof(sums));
    for (int i = 0; i < MANY; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, ask_often, &sums[i]), 0);
    }
    for (int i = 0; i < MANY; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(sums[i].rv, APR_SUCCESS);
        assert_in_range(sums[i].worked, ROUNDS - (ROUNDS + 2) / 3, ROUNDS);
    }
    assert_int_equal(atomic_load(&hall.most_at_once), 1);
    assert_int_equal(atomic_load(&hall.foreign), 0);
    assert_int_equal(group_queued(hall.group), 0);
}

/* The turn is another's: the leader waits for it, and what comes meanwhile goes along; in the end he goes on without. */
static void ok_with_a_turn(void **state)
{
    wish_t wishes[3];
    pthread_t threads[3];
    turn_t *turn = turn_make();
    assert_int_equal(group_make(&hall.group, work, turn, *state), APR_SUCCESS);
    for (int given = 0; given < 2; given++) {
        int groups = atomic_load(&hall.groups);
        assert_true(turn_take(turn, LONG));
        for (int i = 0; i < 3; i++) {
            threads[i] = start(&wishes[i], LONG);
            await_queued(i + 1);
        }
        assert_int_equal(atomic_load(&hall.groups), groups);
        if (given) {
            turn_give(turn);
        }
        for (int i = 0; i < 3; i++) {
            pthread_join(threads[i], NULL);
            assert_int_equal(wishes[i].worked, 1);
        }
        assert_int_equal(atomic_load(&hall.groups), groups + 1);
        if (!given) {
            turn_give(turn);
        }
    }
    /* It was given back. */
    assert_true(turn_take(turn, 0));
    turn_give(turn);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(ok_alone, begin, end),
        cmocka_unit_test_setup_teardown(ok_what_came_meanwhile, begin, end),
        cmocka_unit_test_setup_teardown(ok_who_gives_up_is_not_touched, begin, end),
        cmocka_unit_test_setup_teardown(ok_nobody_leaves_once_taken, begin, end),
        cmocka_unit_test_setup_teardown(ok_a_crowd, begin, end),
        cmocka_unit_test_setup_teardown(ok_with_a_turn, begin, end),
    };
    apr_initialize();
    int failed = cmocka_run_group_tests_name("group", tests, NULL, NULL);
    apr_terminate();
    return failed;
}
