/* SPDX-License-Identifier: Apache-2.0 */
#include "outside_fixture.h"

#include "store/aside_provider.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <apr_general.h>
#include <apr_strings.h>
#include <apr_thread_proc.h>

enum { THREADS = 8 };

#define PATIENCE apr_time_from_msec(200)

static apr_pool_t *pool;
static outside_t *outside;
static cache_provider_t *aside;
static const unsigned char id[CACHE_ID_BYTES] = "a";

static int begin(void **state)
{
    (void)state;
    if (apr_pool_create(&pool, NULL) != APR_SUCCESS)
        return -1;
    outside = outside_make(pool);
    return aside_provider_make(&aside, &outside->provider, PATIENCE, pool) == APR_SUCCESS ? 0 : -1;
}

static int end(void **state)
{
    (void)state;
    atomic_store(&outside->hang, false);
    aside_provider_stop(aside);
    apr_pool_destroy(pool);
    return 0;
}

static apr_status_t get(unsigned char *value, unsigned int room, unsigned int *length)
{
    *length = room;
    return aside->retrieve(aside->baton, id, value, length, pool);
}

static apr_status_t put(const char *text)
{
    return aside->store(aside->baton, id, (const unsigned char *)text, (unsigned int)strlen(text), 77, pool);
}

static void ok_passes_on(void **state)
{
    unsigned char value[100];
    unsigned int length = 0;

    (void)state;
    assert_int_equal(get(value, sizeof(value), &length), APR_NOTFOUND);
    assert_int_equal(put("one"), APR_SUCCESS);
    assert_true(outside_entry(outside, 0)->expires == 77);
    assert_int_equal(get(value, sizeof(value), &length), APR_SUCCESS);
    assert_int_equal(length, 3);
    assert_memory_equal(value, "one", 3);
    assert_int_equal(get(value, 2, &length), APR_SUCCESS);
    assert_int_equal(length, 2);
    assert_int_equal(aside->remove(aside->baton, id, pool), APR_SUCCESS);
    assert_int_equal(aside->remove(aside->baton, id, pool), APR_NOTFOUND);
    outside->rv = APR_ECONNREFUSED;
    assert_int_equal(put("one"), APR_ECONNREFUSED);
    assert_int_equal(aside->store(aside->baton, id, value, ASIDE_VALUE_MAX + 1, 0, pool), APR_ENOSPC);
}

static void fail_patience_ends(void **state)
{
    unsigned char value[100];
    unsigned int length = 0;
    apr_time_t began = apr_time_now(), took;
    int i;

    (void)state;
    atomic_store(&outside->hang, true);
    assert_int_equal(get(value, sizeof(value), &length), APR_TIMEUP);
    took = apr_time_now() - began;
    assert_true(took >= PATIENCE && took < 10 * PATIENCE);
    /* nobody else waits while it hangs, nor is there a second thread that hangs */
    began = apr_time_now();
    for (i = 0; i < 100; i++)
        assert_int_equal(put("x"), APR_TIMEUP);
    assert_true(apr_time_now() - began < PATIENCE);
    assert_int_equal(atomic_load(&outside->calls), 1);
    atomic_store(&outside->hang, false);
    for (i = 0; i < 1000 && put("one") != APR_SUCCESS; i++)
        apr_sleep(1000);
    assert_int_equal(get(value, sizeof(value), &length), APR_SUCCESS);
    assert_int_equal(length, 3);
}

static void *APR_THREAD_FUNC get_in_thread(apr_thread_t *thread, void *data)
{
    unsigned char value[100];
    unsigned int length = sizeof(value);
    apr_pool_t *own = apr_thread_pool_get(thread);

    *(apr_status_t *)data = aside->retrieve(aside->baton, id, value, &length, own);
    return NULL;
}

static void crowd(apr_status_t *results)
{
    apr_thread_t *threads[THREADS];
    apr_status_t rv;
    int i;

    for (i = 0; i < THREADS; i++)
        assert_int_equal(apr_thread_create(&threads[i], NULL, get_in_thread, &results[i], pool), APR_SUCCESS);
    for (i = 0; i < THREADS; i++)
        apr_thread_join(&rv, threads[i]);
}

static void ok_many_threads(void **state)
{
    apr_status_t results[THREADS];
    apr_time_t began;
    int i;

    (void)state;
    assert_int_equal(put("one"), APR_SUCCESS);
    crowd(results);
    for (i = 0; i < THREADS; i++)
        assert_int_equal(results[i], APR_SUCCESS);
    /* those who wait behind a call that hangs leave the queue */
    atomic_store(&outside->hang, true);
    began = apr_time_now();
    crowd(results);
    assert_true(apr_time_now() - began < 10 * PATIENCE);
    for (i = 0; i < THREADS; i++)
        assert_int_equal(results[i], APR_TIMEUP);
    assert_int_equal(atomic_load(&outside->calls), 1 + THREADS + 1);
    atomic_store(&outside->hang, false);
}

static void ok_stop(void **state)
{
    apr_time_t began;

    (void)state;
    assert_int_equal(put("one"), APR_SUCCESS);
    aside_provider_stop(aside);
    assert_int_not_equal(put("one"), APR_SUCCESS);
    assert_int_equal(aside_provider_make(&aside, &outside->provider, PATIENCE, pool), APR_SUCCESS);
    aside_provider_stop(aside); /* without any call before */
    assert_int_equal(aside_provider_make(&aside, &outside->provider, PATIENCE, pool), APR_SUCCESS);
    atomic_store(&outside->hang, true);
    assert_int_equal(put("one"), APR_TIMEUP);
    began = apr_time_now();
    aside_provider_stop(aside);
    assert_true(apr_time_now() - began < 10 * PATIENCE);
    atomic_store(&outside->hang, false);
}

#define ASIDE_TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ASIDE_TEST(ok_passes_on),
        ASIDE_TEST(fail_patience_ends),
        ASIDE_TEST(ok_many_threads),
        ASIDE_TEST(ok_stop),
    };
    int failed;

    apr_initialize();
    failed = cmocka_run_group_tests_name("aside_provider", tests, NULL, NULL);
    apr_terminate();
    return failed;
}
