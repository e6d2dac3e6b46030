/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records in memory that several processes share, which nobody waits for: a writer that finds another one at the record
 * drops what it has; a reader that meets a writer tries again, a few times. A writer that was killed in the middle is
 * forgotten after two seconds. A record is a struct without pointers, whose texts a reader must end himself, for the two
 * seconds are a guess: a writer that slept for longer may mix its bytes in.
 */
#ifndef ISCEP_BASE_SEQLOCK_H
#define ISCEP_BASE_SEQLOCK_H

#include <apr_time.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "64-bit atomics are lock-free, and so work between processes");

typedef _Atomic uint64_t shared_word_t;

/** Zeroed memory is an empty one. */
typedef struct seqlock_t {
    shared_word_t version; /**< odd while somebody writes; 0: nothing was written yet */
    shared_word_t since;   /**< when the writer came */
} seqlock_t;

/** How many words a record of that size takes. */
#define SEQLOCK_WORDS(size) (((size) + 7) / 8)

/** Copies `size` bytes in; false where somebody else is at it. */
bool seqlock_write(seqlock_t *lock, shared_word_t *words, const void *record, size_t size);

/** Copies `size` bytes out; false where nothing was written yet, or a writer is always at it. */
bool seqlock_read(const seqlock_t *lock, const shared_word_t *words, void *record, size_t size);

#endif
