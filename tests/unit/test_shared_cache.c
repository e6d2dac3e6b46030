/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "store/shared_cache.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <apr_general.h>
#include <apr_strings.h>
#include <apr_thread_proc.h>
#include <openssl/evp.h>
#include <stdatomic.h>

enum { THREADS = 8 };

/* Passes everything on to the provider in memory, remembers the last record and may spoil what is read. */
typedef struct spoiler_t {
    cache_provider_t *inner;
    unsigned char last_id[32];
    unsigned char last[16384];
    unsigned int last_length;
    bool serve;         /* retrieve() gives `last`, whatever is asked for */
    unsigned int claim; /* and says that it has this length, if it is not 0 */
    apr_status_t rv;    /* what store() and retrieve() give, if not APR_SUCCESS */
    int depth;          /* of lock() */
    int unlocked_calls;
} spoiler_t;

static apr_pool_t *pool;
static spoiler_t spoiler;
static cache_t *cache;

static apr_status_t spoiled_retrieve(void *baton, const unsigned char *id, unsigned char *value, unsigned int *length,
                                     apr_pool_t *p)
{
    spoiler_t *s = baton;
    unsigned int room = *length;

    s->unlocked_calls += s->depth != 1;
    if (s->rv != APR_SUCCESS)
        return s->rv;
    if (!s->serve)
        return s->inner->retrieve(s->inner->baton, id, value, length, p);
    memcpy(value, s->last, s->last_length < room ? s->last_length : room);
    *length = s->claim ? s->claim : s->last_length;
    return APR_SUCCESS;
}

static apr_status_t spoiled_store(void *baton, const unsigned char *id, const unsigned char *value, unsigned int length,
                                  apr_time_t expires, apr_pool_t *p)
{
    spoiler_t *s = baton;

    s->unlocked_calls += s->depth != 1;
    if (s->rv != APR_SUCCESS)
        return s->rv;
    memcpy(s->last_id, id, sizeof(s->last_id));
    memcpy(s->last, value, length);
    s->last_length = length;
    return s->inner->store(s->inner->baton, id, value, length, expires, p);
}

static apr_status_t spoiled_remove(void *baton, const unsigned char *id, apr_pool_t *p)
{
    spoiler_t *s = baton;

    s->unlocked_calls += s->depth != 1;
    return s->inner->remove(s->inner->baton, id, p);
}

static apr_status_t spoiled_lock(void *baton)
{
    spoiler_t *s = baton;
    apr_status_t rv = s->inner->lock(s->inner->baton);

    s->depth++;
    return rv;
}

static void spoiled_unlock(void *baton)
{
    spoiler_t *s = baton;

    s->depth--;
    s->inner->unlock(s->inner->baton);
}

static const cache_provider_t spoiling = {spoiled_retrieve, spoiled_store,  spoiled_remove,
                                          spoiled_lock,     spoiled_unlock, &spoiler};

static int begin(void **state)
{
    (void)state;
    memset(&spoiler, 0, sizeof(spoiler));
    if (apr_pool_create(&pool, NULL) != APR_SUCCESS || memory_provider_make(&spoiler.inner, pool) != APR_SUCCESS)
        return -1;
    cache = shared_cache_make(&spoiling, pool);
    return 0;
}

static int end(void **state)
{
    (void)state;
    clock_shift(0);
    apr_pool_destroy(pool);
    return spoiler.unlocked_calls != 0 || spoiler.depth != 0;
}

static apr_time_t in_seconds(int seconds)
{
    return clock_now() + apr_time_from_sec(seconds);
}

static void assert_value(const char *key, const char *expected)
{
    bytes_t value = {NULL, 0};

    assert_int_equal(cache->get(cache, key, &value, pool), APR_SUCCESS);
    assert_true(bytes_equal(value, bytes_of_text(expected)));
}

static void assert_absent(const char *key)
{
    bytes_t value = {NULL, 0};

    assert_int_equal(cache->get(cache, key, &value, pool), APR_NOTFOUND);
}

static void value_comes_back(void **state)
{
    (void)state;
    assert_absent("a");
    assert_int_equal(cache->put(cache, "a", bytes_of_text("one"), in_seconds(10)), APR_SUCCESS);
    assert_int_equal(cache->put(cache, "b", bytes_of_text("two"), in_seconds(10)), APR_SUCCESS);
    assert_value("a", "one");
    assert_value("b", "two");
    assert_int_equal(cache->put(cache, "a", bytes_of_text("longer than before"), in_seconds(10)), APR_SUCCESS);
    assert_value("a", "longer than before");
    assert_int_equal(cache->put(cache, "a", bytes_of_text(""), in_seconds(10)), APR_SUCCESS);
    assert_value("a", "");
}

static void value_is_a_copy(void **state)
{
    bytes_t value = {NULL, 0};

    (void)state;
    cache->put(cache, "a", bytes_of_text("one"), in_seconds(10));
    assert_int_equal(cache->get(cache, "a", &value, pool), APR_SUCCESS);
    cache->put(cache, "a", bytes_of_text("two"), in_seconds(10));
    assert_memory_equal(value.data, "one", 3);
}

static void value_expires(void **state)
{
    (void)state;
    cache->put(cache, "a", bytes_of_text("one"), in_seconds(10));
    clock_shift(apr_time_from_sec(9));
    assert_value("a", "one");
    clock_shift(apr_time_from_sec(11));
    assert_absent("a");
}

/* What was stored before a clock was set back does not stay for as long; another machine's may be a little ahead. */
static void clock_that_was_set_back_keeps_nothing(void **state)
{
    const char *owner = NULL;

    (void)state;
    clock_shift(apr_time_from_sec(3600));
    cache->put(cache, "long", bytes_of_text("one"), in_seconds(1000));
    cache->put(cache, "short", bytes_of_text("two"), in_seconds(2));
    assert_int_equal(cache->claim(cache, "l", in_seconds(10), &owner, pool), APR_SUCCESS);
    clock_shift(apr_time_from_sec(3600 - 58));
    assert_value("long", "one");
    assert_absent("short");
    clock_shift(0);
    assert_absent("long");
    assert_absent("short");
    assert_int_equal(cache->claim(cache, "l", in_seconds(10), &owner, pool), APR_SUCCESS);
    clock_shift(-apr_time_from_sec(5));
    assert_int_equal(cache->claim(cache, "l", in_seconds(10), &owner, pool), APR_EBUSY);
}

/* A provider that keeps what has expired (its clock, not ours) is not believed. */
static void expiry_does_not_rest_on_the_provider(void **state)
{
    (void)state;
    cache->put(cache, "a", bytes_of_text("one"), in_seconds(10));
    spoiler.serve = true;
    assert_value("a", "one");
    clock_shift(apr_time_from_sec(11));
    assert_absent("a");
}

static void value_size_is_limited(void **state)
{
    static unsigned char data[SHARED_CACHE_VALUE_MAX + 1];
    bytes_t much = {data, sizeof(data)}, value = {NULL, 0};

    (void)state;
    memset(data, 'x', sizeof(data));
    assert_int_equal(cache->put(cache, "a", much, in_seconds(10)), APR_ENOSPC);
    assert_absent("a");
    much.len--;
    assert_int_equal(cache->put(cache, "a", much, in_seconds(10)), APR_SUCCESS);
    assert_int_equal(cache->get(cache, "a", &value, pool), APR_SUCCESS);
    assert_true(bytes_equal(value, much));
}

static void drop_spares_a_newer_value(void **state)
{
    (void)state;
    cache->put(cache, "a", bytes_of_text("old"), in_seconds(10));
    cache->put(cache, "a", bytes_of_text("new"), in_seconds(10));
    cache->drop(cache, "a", bytes_of_text("old"));
    assert_value("a", "new");
    assert_int_equal(cache->drop(cache, "a", bytes_of_text("new")), APR_SUCCESS);
    assert_absent("a");
    assert_int_equal(cache->drop(cache, "a", bytes_of_text("new")), APR_NOTFOUND);
}

static void replace_takes_the_place_of_one_value(void **state)
{
    (void)state;
    assert_int_equal(cache->replace(cache, "a", bytes_of_text(""), bytes_of_text("new"), in_seconds(10)), APR_NOTFOUND);
    assert_absent("a");
    cache->put(cache, "a", bytes_of_text("old"), in_seconds(10));
    assert_int_equal(cache->replace(cache, "a", bytes_of_text("ol"), bytes_of_text("new"), in_seconds(10)),
                     APR_NOTFOUND);
    assert_value("a", "old");
    assert_int_equal(cache->replace(cache, "a", bytes_of_text("old"), bytes_of_text("new"), in_seconds(20)),
                     APR_SUCCESS);
    assert_value("a", "new");
    clock_shift(apr_time_from_sec(15));
    assert_value("a", "new");
    clock_shift(apr_time_from_sec(25));
    assert_int_equal(cache->replace(cache, "a", bytes_of_text("new"), bytes_of_text("late"), in_seconds(50)),
                     APR_NOTFOUND);
}

static void lease_excludes_until_released(void **state)
{
    const char *first = NULL, *second = "untouched";

    (void)state;
    assert_int_equal(cache->claim(cache, "l", in_seconds(10), &first, pool), APR_SUCCESS);
    assert_non_null(first);
    assert_int_equal(cache->claim(cache, "l", in_seconds(10), &second, pool), APR_EBUSY);
    assert_string_equal(second, "untouched");
    assert_int_equal(cache->claim(cache, "other", in_seconds(10), &second, pool), APR_SUCCESS);
    assert_int_equal(cache->release(cache, "l", second), APR_NOTFOUND);
    assert_int_equal(cache->claim(cache, "l", in_seconds(10), &second, pool), APR_EBUSY);
    assert_int_equal(cache->release(cache, "l", first), APR_SUCCESS);
    assert_int_equal(cache->claim(cache, "l", in_seconds(10), &second, pool), APR_SUCCESS);
    assert_string_not_equal(first, second);
}

static void expired_lease_is_taken_over(void **state)
{
    const char *first = NULL, *second = NULL, *third = NULL;

    (void)state;
    assert_int_equal(cache->claim(cache, "l", in_seconds(10), &first, pool), APR_SUCCESS);
    clock_shift(apr_time_from_sec(11));
    assert_int_equal(cache->claim(cache, "l", in_seconds(10), &second, pool), APR_SUCCESS);
    /* The late first owner must not give away what is the second's. */
    cache->release(cache, "l", first);
    assert_int_equal(cache->claim(cache, "l", in_seconds(10), &third, pool), APR_EBUSY);
}

static void lease_and_value_never_meet(void **state)
{
    const char *owner = NULL;

    (void)state;
    cache->put(cache, "same", bytes_of_text("value"), in_seconds(10));
    assert_int_equal(cache->claim(cache, "same", in_seconds(10), &owner, pool), APR_SUCCESS);
    assert_value("same", "value");
    cache->drop(cache, "same", bytes_of_text(owner));
    assert_int_equal(cache->claim(cache, "same", in_seconds(10), &owner, pool), APR_EBUSY);
}

static void ids_are_mixed(void **state)
{
    unsigned char first[32];

    (void)state;
    cache->put(cache, "token:a", bytes_of_text("x"), in_seconds(10));
    memcpy(first, spoiler.last_id, sizeof(first));
    cache->put(cache, "token:b", bytes_of_text("x"), in_seconds(10));
    assert_memory_not_equal(first, spoiler.last_id, 4);
}

static void garbage_is_not_there(void **state)
{
    static const struct {
        const char *name;
        unsigned int length; /* 0: as stored */
        unsigned int at;     /* the byte that is changed, if length is 0 */
    } rows[] = {
        {"nothing", 0, 999},     {"cut in the header", 24, 0}, {"cut in the value", 27, 0},
        {"too long", 29, 0},     {"other magic", 0, 0},        {"a lease", 0, 4},
        {"other length", 0, 24},
    };
    apr_size_t i;

    (void)state;
    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        bytes_t value = {NULL, 0};
        apr_status_t rv;

        spoiler.serve = false;
        cache->put(cache, "a", bytes_of_text("one"), in_seconds(10));
        assert_int_equal(spoiler.last_length, 28);
        spoiler.serve = true;
        if (rows[i].length > 0)
            spoiler.last_length = rows[i].length;
        else if (rows[i].at < 28)
            spoiler.last[rows[i].at] ^= 1;
        else
            spoiler.last_length = 0;
        rv = cache->get(cache, "a", &value, pool);
        if (rv != APR_NOTFOUND || value.data)
            fail_msg("%s: gave %d", rows[i].name, rv);
    }
}

static void lying_length_is_not_believed(void **state)
{
    (void)state;
    cache->put(cache, "a", bytes_of_text("one"), in_seconds(10));
    spoiler.serve = true;
    spoiler.claim = 100000;
    assert_absent("a");
    /* The record itself tells the same lie: 100,000 bytes less its header. */
    memcpy(spoiler.last + 21, "\x00\x01\x86\x87", 4);
    assert_absent("a");
    /* And the one that a subtraction below zero would take for true. */
    memset(spoiler.last + 21, 0xff, 4);
    spoiler.claim = 24;
    assert_absent("a");
}

static void garbage_lease_is_taken_over(void **state)
{
    const char *owner = NULL;

    (void)state;
    spoiler.serve = true;
    spoiler.last_length = 40;
    memset(spoiler.last, 0xee, 40);
    assert_int_equal(cache->claim(cache, "l", in_seconds(10), &owner, pool), APR_SUCCESS);
    assert_non_null(owner);
}

static void provider_failure_is_told(void **state)
{
    bytes_t value = {NULL, 0};
    const char *owner = NULL;

    (void)state;
    spoiler.rv = APR_EGENERAL;
    assert_int_equal(cache->get(cache, "a", &value, pool), APR_EGENERAL);
    assert_int_equal(cache->put(cache, "a", bytes_of_text("x"), in_seconds(10)), APR_EGENERAL);
    assert_int_equal(cache->claim(cache, "l", in_seconds(10), &owner, pool), APR_EGENERAL);
    assert_null(owner);
    assert_int_equal(cache->release(cache, "l", "x"), APR_EGENERAL);
}

/* OpenSSL has no SHA-256 to give: nothing is stored or found under an id that was never made. */
static void without_a_digest_nothing_is_kept(void **state)
{
    bytes_t found = {NULL, 0};
    const char *owner = NULL;

    (void)state;
    assert_int_equal(EVP_set_default_properties(NULL, "provider=none"), 1);
    cache_t *lacking = shared_cache_make(&spoiling, pool);
    assert_int_equal(EVP_set_default_properties(NULL, ""), 1);
    assert_int_not_equal(lacking->put(lacking, "a", bytes_of_text("one"), in_seconds(10)), APR_SUCCESS);
    assert_int_not_equal(lacking->get(lacking, "a", &found, pool), APR_SUCCESS);
    assert_int_not_equal(lacking->claim(lacking, "l", in_seconds(10), &owner, pool), APR_SUCCESS);
    assert_absent("a");
}

static void memory_provider_makes_room(void **state)
{
    int i;

    (void)state;
    for (i = 0; i < 4096; i++)
        assert_int_equal(cache->put(cache, apr_itoa(pool, i), bytes_of_text("x"), in_seconds(10)), APR_SUCCESS);
    assert_int_equal(cache->put(cache, "one more", bytes_of_text("x"), in_seconds(10)), APR_ENOSPC);
    assert_int_equal(cache->put(cache, "7", bytes_of_text("replaced"), in_seconds(10)), APR_SUCCESS);
    clock_shift(apr_time_from_sec(11));
    assert_int_equal(cache->put(cache, "one more", bytes_of_text("x"), in_seconds(10)), APR_SUCCESS);
    assert_value("one more", "x");
    assert_absent("7");
}

static atomic_int winners, losers;
static atomic_bool start;

static void *APR_THREAD_FUNC claim_once(apr_thread_t *thread, void *data)
{
    const char *owner = NULL;
    apr_pool_t *own = NULL;
    apr_status_t rv;

    (void)thread;
    (void)data;
    apr_pool_create(&own, NULL);
    while (!atomic_load(&start))
        apr_sleep(100);
    rv = cache->claim(cache, "raced", in_seconds(10), &owner, own);
    atomic_fetch_add(rv == APR_SUCCESS ? &winners : &losers, rv == APR_SUCCESS || rv == APR_EBUSY);
    apr_pool_destroy(own);
    return NULL;
}

static void one_of_many_threads_wins(void **state)
{
    int round;

    (void)state;
    for (round = 0; round < 20; round++) {
        apr_thread_t *threads[THREADS];
        apr_status_t rv;
        int i;

        atomic_store(&winners, 0);
        atomic_store(&losers, 0);
        atomic_store(&start, false);
        for (i = 0; i < THREADS; i++)
            assert_int_equal(apr_thread_create(&threads[i], NULL, claim_once, NULL, pool), APR_SUCCESS);
        atomic_store(&start, true);
        for (i = 0; i < THREADS; i++)
            apr_thread_join(&rv, threads[i]);
        assert_int_equal(atomic_load(&winners), 1);
        assert_int_equal(atomic_load(&losers), THREADS - 1);
        /* The next round: the lease has run out. */
        clock_shift(apr_time_from_sec(11) * (round + 1));
    }
}

#define CACHE_TEST(function) cmocka_unit_test_setup_teardown(function, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CACHE_TEST(value_comes_back),
        CACHE_TEST(value_is_a_copy),
        CACHE_TEST(value_expires),
        CACHE_TEST(clock_that_was_set_back_keeps_nothing),
        CACHE_TEST(expiry_does_not_rest_on_the_provider),
        CACHE_TEST(value_size_is_limited),
        CACHE_TEST(drop_spares_a_newer_value),
        CACHE_TEST(replace_takes_the_place_of_one_value),
        CACHE_TEST(lease_excludes_until_released),
        CACHE_TEST(expired_lease_is_taken_over),
        CACHE_TEST(lease_and_value_never_meet),
        CACHE_TEST(ids_are_mixed),
        CACHE_TEST(garbage_is_not_there),
        CACHE_TEST(lying_length_is_not_believed),
        CACHE_TEST(garbage_lease_is_taken_over),
        CACHE_TEST(provider_failure_is_told),
        CACHE_TEST(without_a_digest_nothing_is_kept),
        CACHE_TEST(memory_provider_makes_room),
        CACHE_TEST(one_of_many_threads_wins),
    };
    int failed;

    apr_initialize();
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    apr_terminate();
    return failed;
}
