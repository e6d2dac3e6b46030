/* SPDX-License-Identifier: Apache-2.0 */
/* Two machines with a first tier each, and one provider outside. */
#include "outside_fixture.h"

#include "base/clock.h"
#include "store/tiered_cache.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <apr_general.h>
#include <apr_strings.h>

static apr_pool_t *pool;
static outside_t *outside;
static cache_t *one, *two, *local_one;
static int lines;
static char last_line[1000];
static apr_status_t local_rv; /* of the first machine's own provider, if not APR_SUCCESS */
static cache_provider_t *memory;

static void keep_line(void *baton, log_level_t level, const char *line)
{
    (void)baton;
    assert_int_equal(level, LOG_LEVEL_NOTICE);
    lines++;
    apr_cpystrn(last_line, line, sizeof(last_line));
}

static bool enabled(void *baton, log_level_t level)
{
    (void)baton;
    (void)level;
    return true;
}

static const log_t log_of_test = {.write = keep_line, .enabled = enabled};

static apr_status_t lock_or_fail(void *baton)
{
    return local_rv != APR_SUCCESS ? local_rv : memory->lock(baton);
}

static cache_t *machine(char letter, cache_t **local)
{
    cache_provider_t *sealed = NULL, provider;

    assert_int_equal(memory_provider_make(&memory, pool), APR_SUCCESS);
    provider = *memory;
    provider.lock = lock_or_fail;
    *local = shared_cache_make(&provider, pool);
    assert_int_equal(sealed_provider_make(&sealed, &outside->provider, outside_key(letter, pool), pool), APR_SUCCESS);
    return tiered_cache_make(*local, sealed, pool);
}

static int begin(void **state)
{
    cache_t *local_two;

    (void)state;
    if (apr_pool_create(&pool, NULL) != APR_SUCCESS)
        return -1;
    lines = 0;
    last_line[0] = '\0';
    local_rv = APR_SUCCESS;
    outside = outside_make(pool);
    two = machine('k', &local_two);
    one = machine('k', &local_one);
    return 0;
}

static int end(void **state)
{
    (void)state;
    clock_shift(0);
    apr_pool_destroy(pool);
    return 0;
}

static apr_time_t in_seconds(int seconds)
{
    return clock_now() + apr_time_from_sec(seconds);
}

static void put_shared(cache_t *cache, const char *text, int seconds)
{
    assert_int_equal(cache->put_shared(cache, "key", bytes_of_text(text), in_seconds(seconds), &log_of_test),
                     APR_SUCCESS);
}

/* "-" stands for nothing. */
static const char *got(apr_status_t rv, bytes_t value)
{
    if (rv == APR_NOTFOUND)
        return "-";
    assert_int_equal(rv, APR_SUCCESS);
    return apr_pstrmemdup(pool, (const char *)value.data, value.len);
}

static const char *shared(cache_t *cache)
{
    bytes_t value = {NULL, 0};
    apr_status_t rv = cache->get_shared(cache, "key", &value, &log_of_test, pool);

    return got(rv, value);
}

static const char *own(cache_t *cache)
{
    bytes_t value = {NULL, 0};
    apr_status_t rv = cache->get(cache, "key", &value, pool);

    return got(rv, value);
}

static void ok_only_what_is_shared_goes_out(void **state)
{
    const char *owner = NULL;

    (void)state;
    assert_int_equal(one->put(one, "key", bytes_of_text("mine"), in_seconds(10)), APR_SUCCESS);
    assert_int_equal(one->claim(one, "key", in_seconds(10), &owner, pool), APR_SUCCESS);
    assert_int_equal(two->claim(two, "key", in_seconds(10), &owner, pool), APR_SUCCESS);
    assert_int_equal(two->claim(two, "key", in_seconds(10), &owner, pool), APR_EBUSY);
    assert_int_equal(two->release(two, "key", owner), APR_SUCCESS);
    assert_string_equal(own(one), "mine");
    assert_string_equal(own(two), "-");
    assert_int_equal(atomic_load(&outside->calls), 0);
    put_shared(one, "token", 10);
    assert_int_equal(outside_count(outside), 1);
    assert_false(outside_holds(outside, "token"));
}

static void ok_other_machine_finds_it(void **state)
{
    int calls;

    (void)state;
    put_shared(one, "token", 10);
    assert_string_equal(own(two), "-");
    assert_string_equal(shared(two), "token");
    calls = atomic_load(&outside->calls);
    assert_string_equal(own(two), "token"); /* now in its own tier */
    assert_int_equal(atomic_load(&outside->calls), calls);
    clock_shift(apr_time_from_sec(11));
    assert_string_equal(own(two), "-");
    assert_string_equal(shared(two), "-");
    assert_int_equal(lines, 0);
}

static void ok_later_expiry_wins(void **state)
{
    (void)state;
    put_shared(one, "older", 10);
    assert_string_equal(shared(two), "older");
    put_shared(two, "newer", 20);
    assert_string_equal(own(one), "older");
    assert_string_equal(shared(one), "newer");
    assert_string_equal(own(one), "newer");
    /* what is out there may be older than what is here */
    assert_int_equal(one->put(one, "key", bytes_of_text("newest"), in_seconds(30)), APR_SUCCESS);
    assert_string_equal(shared(one), "newest");
}

static void ok_dropped_in_both(void **state)
{
    (void)state;
    put_shared(one, "token", 10);
    assert_string_equal(shared(two), "token");
    assert_int_equal(one->drop(one, "key", bytes_of_text("another")), APR_NOTFOUND);
    assert_string_equal(shared(one), "token");
    assert_int_equal(one->drop(one, "key", bytes_of_text("token")), APR_SUCCESS);
    assert_string_equal(shared(one), "-");
    assert_string_equal(own(two), "token"); /* it finds out itself */
}

static void ok_dropped_does_not_come_back(void **state)
{
    outside_entry_t old;

    (void)state;
    put_shared(one, "revoked", 10);
    old = *outside_entry(outside, 0);
    assert_int_equal(one->drop(one, "key", bytes_of_text("revoked")), APR_SUCCESS);
    outside->entries[0] = old; /* somebody puts it back */
    assert_string_equal(shared(one), "-");
    put_shared(two, "good", 10);
    assert_string_equal(shared(one), "good");
}

static void ok_drop_spares_what_others_put(void **state)
{
    (void)state;
    put_shared(one, "revoked", 10);
    assert_string_equal(shared(two), "revoked");
    put_shared(one, "good", 10);
    assert_int_equal(two->drop(two, "key", bytes_of_text("revoked")), APR_SUCCESS);
    assert_string_equal(shared(two), "good");
}

static void ok_replace_stays_on_this_machine(void **state)
{
    (void)state;
    put_shared(two, "old", 1000);
    assert_string_equal(shared(one), "old");
    assert_int_equal(one->replace(one, "key", bytes_of_text("another"), bytes_of_text("new"), in_seconds(10)),
                     APR_NOTFOUND);
    assert_int_equal(one->replace(one, "key", bytes_of_text("old"), bytes_of_text("new"), in_seconds(2000)),
                     APR_SUCCESS);
    assert_string_equal(own(one), "new");
    assert_string_equal(shared(two), "old");
}

static void fail_outside_is_left_alone_for_a_while(void **state)
{
    int calls;

    (void)state;
    put_shared(two, "token", 1000);
    outside->rv = APR_ECONNREFUSED;
    assert_string_equal(shared(one), "-");
    assert_int_equal(lines, 1);
    assert_non_null(strstr(last_line, "ISCEP0341"));
    calls = atomic_load(&outside->calls);
    put_shared(one, "mine", 100);
    assert_string_equal(own(one), "mine");
    assert_string_equal(shared(one), "mine");
    assert_int_equal(one->drop(one, "key", bytes_of_text("mine")), APR_SUCCESS);
    assert_string_equal(own(one), "-");
    assert_int_equal(atomic_load(&outside->calls), calls); /* resting */
    clock_shift(apr_time_from_sec(11));
    assert_string_equal(shared(one), "-");
    assert_true(atomic_load(&outside->calls) > calls);
    assert_int_equal(lines, 1); /* once a minute */
    clock_shift(apr_time_from_sec(62));
    put_shared(one, "mine", 100);
    assert_int_equal(lines, 2);
    outside->rv = APR_SUCCESS;
    assert_string_equal(shared(one), "mine");
    clock_shift(apr_time_from_sec(80));
    assert_string_equal(shared(one), "token");
}

static void fail_another_key_is_told(void **state)
{
    cache_t *local, *stranger = machine('x', &local);

    (void)state;
    assert_string_equal(shared(one), "-"); /* leaves its mark */
    put_shared(one, "token", 1000);
    assert_string_equal(shared(stranger), "-");
    assert_int_equal(lines, 1);
    assert_non_null(strstr(last_line, "ISCEP0340"));
    assert_non_null(strstr(last_line, "IntuneScepStateKey"));
    put_shared(stranger, "theirs", 1000);
    assert_string_equal(shared(stranger), "theirs");
    assert_string_equal(shared(one), "token");
    assert_int_equal(lines, 1);
}

static void fail_tampered_value_is_told(void **state)
{
    (void)state;
    put_shared(one, "token", 1000);
    outside_entry(outside, 0)->value[20] ^= 1;
    assert_string_equal(shared(two), "-");
    assert_string_equal(shared(two), "-");
    assert_string_equal(shared(one), "token");
    assert_int_equal(lines, 2); /* one of each machine */
    assert_non_null(strstr(last_line, "ISCEP0340"));
    clock_shift(apr_time_from_sec(61));
    assert_string_equal(shared(two), "-");
    assert_int_equal(lines, 3);
    /* it is mended by who has a value */
    put_shared(one, "newer", 1000);
    assert_string_equal(shared(two), "newer");
}

static void fail_broken_first_tier_asks_nobody(void **state)
{
    bytes_t value = {NULL, 0};

    (void)state;
    local_rv = APR_EGENERAL;
    assert_int_not_equal(one->get_shared(one, "key", &value, &log_of_test, pool), APR_SUCCESS);
    assert_int_not_equal(one->put_shared(one, "key", bytes_of_text("x"), in_seconds(10), &log_of_test), APR_SUCCESS);
    assert_int_equal(atomic_load(&outside->calls), 0);
}

#define TIER_TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TIER_TEST(ok_only_what_is_shared_goes_out),
        TIER_TEST(ok_other_machine_finds_it),
        TIER_TEST(ok_later_expiry_wins),
        TIER_TEST(ok_dropped_in_both),
        TIER_TEST(ok_dropped_does_not_come_back),
        TIER_TEST(ok_drop_spares_what_others_put),
        TIER_TEST(ok_replace_stays_on_this_machine),
        TIER_TEST(fail_outside_is_left_alone_for_a_while),
        TIER_TEST(fail_another_key_is_told),
        TIER_TEST(fail_tampered_value_is_told),
        TIER_TEST(fail_broken_first_tier_asks_nobody),
    };
    int failed;

    apr_initialize();
    failed = cmocka_run_group_tests_name("tiered_cache", tests, NULL, NULL);
    apr_terminate();
    return failed;
}
