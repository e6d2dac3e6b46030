/* SPDX-License-Identifier: Apache-2.0 */
#include "base/seqlock.h"

#include "base/clock.h"

#include <string.h>

enum { READ_TRIES = 64 };
static const apr_interval_time_t DEAD_AFTER = apr_time_from_sec(2);

/*
 * Each word is released and acquired by itself: whoever reads a word of a later record sees that the version has
 * changed. Fences would do as well, but ThreadSanitizer does not know them.
 */

/* The version under which the caller writes, or 0. */
static uint64_t enter(seqlock_t *lock)
{
    uint64_t version = atomic_load_explicit(&lock->version, memory_order_acquire);
    apr_time_t now = clock_now();
    uint64_t mine = version + 1;
    if (version & 1) {
        apr_time_t since = (apr_time_t)atomic_load_explicit(&lock->since, memory_order_relaxed);
        if (now - since < DEAD_AFTER && since <= now) {
            return 0;
        }
        mine = version + 2;
    }
    if (!atomic_compare_exchange_strong(&lock->version, &version, mine)) {
        return 0;
    }
    atomic_store_explicit(&lock->since, (uint64_t)now, memory_order_relaxed);
    return mine;
}

bool seqlock_write(seqlock_t *lock, shared_word_t *words, const void *record, size_t size)
{
    uint64_t mine = enter(lock);
    const unsigned char *from = record;
    if (!mine) {
        return false;
    }
    for (size_t at = 0; at < size; at += sizeof(uint64_t)) {
        uint64_t word = 0;
        memcpy(&word, from + at, size - at < sizeof(word) ? size - at : sizeof(word));
        atomic_store_explicit(&words[at / sizeof(word)], word, memory_order_release);
    }
    /* Fails where the record was taken over: then the other one ends it. */
    return atomic_compare_exchange_strong(&lock->version, &mine, mine + 1);
}

static bool read_once(const seqlock_t *lock, const shared_word_t *words, unsigned char *to, size_t size)
{
    uint64_t version = atomic_load_explicit(&lock->version, memory_order_acquire);
    if (version & 1) {
        return false;
    }
    for (size_t at = 0; at < size; at += sizeof(uint64_t)) {
        uint64_t word = atomic_load_explicit(&words[at / sizeof(word)], memory_order_acquire);
        memcpy(to + at, &word, size - at < sizeof(word) ? size - at : sizeof(word));
    }
    return atomic_load_explicit(&lock->version, memory_order_relaxed) == version;
}

bool seqlock_read(const seqlock_t *lock, const shared_word_t *words, void *record, size_t size)
{
    if (!atomic_load_explicit(&lock->version, memory_order_acquire)) {
        return false;
    }
    for (int i = 0; i < READ_TRIES; i++) {
        if (read_once(lock, words, record, size)) {
            return true;
        }
    }
    return false;
}
