/* SPDX-License-Identifier: Apache-2.0 */
#include "outside_fixture.h"

#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <apr_general.h>
#include <apr_strings.h>

enum { OVERHEAD = 4 + 12 + 16 };

static apr_pool_t *pool;
static outside_t *outside;
static cache_provider_t *sealed;
static const unsigned char id_a[CACHE_ID_BYTES] = "a", id_b[CACHE_ID_BYTES] = "b";

static cache_provider_t *seal_with(char letter)
{
    cache_provider_t *made = NULL;

    assert_int_equal(sealed_provider_make(&made, &outside->provider, outside_key(letter, pool), pool), APR_SUCCESS);
    return made;
}

static int begin(void **state)
{
    (void)state;
    if (apr_pool_create(&pool, NULL) != APR_SUCCESS)
        return -1;
    outside = outside_make(pool);
    sealed = seal_with('k');
    return 0;
}

static int end(void **state)
{
    (void)state;
    clock_shift(0);
    apr_pool_destroy(pool);
    return 0;
}

static void put(const cache_provider_t *provider, const unsigned char *id, const char *text)
{
    assert_int_equal(provider->store(provider->baton, id, (const unsigned char *)text, (unsigned int)strlen(text),
                                     clock_now() + apr_time_from_sec(10), pool), APR_SUCCESS);
}

static apr_status_t get(const cache_provider_t *provider, const unsigned char *id, const char **text)
{
    unsigned char value[SHARED_CACHE_RECORD_MAX];
    unsigned int length = sizeof(value);
    apr_status_t rv = provider->retrieve(provider->baton, id, value, &length, pool);

    *text = rv == APR_SUCCESS ? apr_pstrmemdup(pool, (const char *)value, length) : NULL;
    return rv;
}

static void ok_comes_back(void **state)
{
    const char *text = NULL;
    unsigned char largest[SHARED_CACHE_RECORD_MAX], back[SHARED_CACHE_RECORD_MAX];
    unsigned int length = sizeof(back);

    (void)state;
    put(sealed, id_a, "one");
    put(sealed, id_b, "two");
    assert_int_equal(get(sealed, id_a, &text), APR_SUCCESS);
    assert_string_equal(text, "one");
    assert_int_equal(get(seal_with('k'), id_b, &text), APR_SUCCESS);
    assert_string_equal(text, "two");
    memset(largest, 7, sizeof(largest));
    assert_int_equal(sealed->store(sealed->baton, id_a, largest, sizeof(largest), 0, pool), APR_SUCCESS);
    assert_int_equal(sealed->retrieve(sealed->baton, id_a, back, &length, pool), APR_SUCCESS);
    assert_int_equal(length, sizeof(largest));
    assert_memory_equal(largest, back, sizeof(back));
    length = 5;
    assert_int_equal(sealed->retrieve(sealed->baton, id_a, back, &length, pool), APR_SUCCESS);
    assert_int_equal(length, 5);
    assert_int_equal(sealed->store(sealed->baton, id_a, largest, sizeof(largest) + 1, 0, pool), APR_ENOSPC);
    assert_int_equal(sealed->remove(sealed->baton, id_a, pool), APR_SUCCESS);
    assert_int_equal(get(sealed, id_a, &text), APR_NOTFOUND);
    assert_int_equal(outside_count(outside), 1);
}

static void ok_outsiders_learn_nothing(void **state)
{
    unsigned char before[CACHE_ID_BYTES + OVERHEAD + 8];

    (void)state;
    put(sealed, id_a, "eyJtoken");
    assert_int_equal(outside_entry(outside, 0)->length, 8 + OVERHEAD);
    assert_false(outside_holds(outside, "eyJtoken"));
    assert_memory_not_equal(outside_entry(outside, 0)->id, id_a, CACHE_ID_BYTES);
    memcpy(before, outside_entry(outside, 0)->value, 8 + OVERHEAD);
    /* the same value again is other bytes: another nonce, thus another text and tag */
    put(sealed, id_a, "eyJtoken");
    assert_int_equal(outside_count(outside), 1);
    assert_memory_not_equal(before + 4, outside_entry(outside, 0)->value + 4, 12);
    assert_memory_not_equal(before + 16, outside_entry(outside, 0)->value + 16, 8);
    /* ids of another key are others */
    put(seal_with('x'), id_a, "eyJtoken");
    assert_int_equal(outside_count(outside), 2);
}

static void fail_every_flipped_bit(void **state)
{
    outside_entry_t *entry;
    const char *text = NULL;
    unsigned int bit;

    (void)state;
    put(sealed, id_a, "token");
    entry = outside_entry(outside, 0);
    for (bit = 0; bit < 8 * entry->length; bit++) {
        entry->value[bit / 8] ^= (unsigned char)(1 << bit % 8);
        if (get(sealed, id_a, &text) != SEALED_BROKEN)
            fail_msg("bit %u may be flipped", bit);
        entry->value[bit / 8] ^= (unsigned char)(1 << bit % 8);
    }
    assert_int_equal(get(sealed, id_a, &text), APR_SUCCESS);
}

static void fail_every_other_length(void **state)
{
    outside_entry_t *entry;
    const char *text = NULL;
    unsigned int full;

    (void)state;
    put(sealed, id_a, "token");
    entry = outside_entry(outside, 0);
    full = entry->length;
    for (entry->length = 1; entry->length < full + 20; entry->length++) {
        if (entry->length != full && get(sealed, id_a, &text) != SEALED_BROKEN)
            fail_msg("%u bytes are accepted instead of %u", entry->length, full);
    }
    entry->length = OUTSIDE_VALUE_MAX;
    assert_int_equal(get(sealed, id_a, &text), SEALED_BROKEN);
}

static void fail_moved_to_another_id(void **state)
{
    outside_entry_t *a, *b;
    const char *text = NULL;

    (void)state;
    put(sealed, id_a, "of a");
    put(sealed, id_b, "of b");
    a = outside_entry(outside, 0);
    b = outside_entry(outside, 1);
    memcpy(a->value, b->value, b->length);
    assert_int_equal(get(sealed, id_a, &text), SEALED_BROKEN);
    assert_int_equal(get(sealed, id_b, &text), APR_SUCCESS);
}

static void fail_sealed_with_another_key(void **state)
{
    cache_provider_t *other = seal_with('x');
    const char *text = NULL;
    unsigned char *theirs, *ours;

    (void)state;
    put(other, id_a, "theirs");
    assert_int_equal(get(sealed, id_a, &text), APR_NOTFOUND);
    put(sealed, id_a, "ours!!");
    theirs = outside_entry(outside, 0)->value;
    ours = outside_entry(outside, 1)->value;
    memcpy(ours, theirs, outside_entry(outside, 0)->length);
    assert_int_equal(get(sealed, id_a, &text), SEALED_BROKEN);
}

static void fail_old_value_put_back(void **state)
{
    cache_t *cache = shared_cache_make(sealed, pool);
    outside_entry_t old;
    bytes_t value = {NULL, 0};

    (void)state;
    cache->put(cache, "token", bytes_of_text("old"), clock_now() + apr_time_from_sec(10));
    old = *outside_entry(outside, 0);
    clock_shift(apr_time_from_sec(11));
    cache->put(cache, "token", bytes_of_text("new"), clock_now() + apr_time_from_sec(10));
    assert_int_equal(cache->get(cache, "token", &value, pool), APR_SUCCESS);
    assert_true(bytes_equal(value, bytes_of_text("new")));
    *outside_entry(outside, 0) = old;
    assert_int_equal(cache->get(cache, "token", &value, pool), APR_NOTFOUND);
}

static void mark_tells_of_another_key(void **state)
{
    cache_provider_t *other = seal_with('x');

    (void)state;
    assert_int_equal(sealed_provider_check(sealed, pool), APR_SUCCESS);
    assert_int_equal(outside_count(outside), 1);
    assert_true(outside_entry(outside, 0)->expires > clock_now());
    assert_int_equal(sealed_provider_check(sealed, pool), APR_SUCCESS);
    assert_int_equal(sealed_provider_check(seal_with('k'), pool), APR_SUCCESS);
    assert_int_equal(sealed_provider_check(other, pool), SEALED_BROKEN);
    assert_int_equal(sealed_provider_check(sealed, pool), APR_SUCCESS);
    assert_int_equal(outside_count(outside), 1);
    outside->rv = APR_ECONNREFUSED;
    assert_int_equal(sealed_provider_check(sealed, pool), APR_ECONNREFUSED);
}

#define SEALED_TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SEALED_TEST(ok_comes_back),
        SEALED_TEST(ok_outsiders_learn_nothing),
        SEALED_TEST(fail_every_flipped_bit),
        SEALED_TEST(fail_every_other_length),
        SEALED_TEST(fail_moved_to_another_id),
        SEALED_TEST(fail_sealed_with_another_key),
        SEALED_TEST(fail_old_value_put_back),
        SEALED_TEST(mark_tells_of_another_key),
    };
    int failed;

    apr_initialize();
    failed = cmocka_run_group_tests_name("sealed_provider", tests, NULL, NULL);
    apr_terminate();
    return failed;
}
