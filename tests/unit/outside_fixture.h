/* SPDX-License-Identifier: Apache-2.0 */
/* A provider outside the machine, for tests: a table in memory that remembers, spoils, fails, and may hang. */
#ifndef ISCEP_TESTS_OUTSIDE_FIXTURE_H
#define ISCEP_TESTS_OUTSIDE_FIXTURE_H

#include "base/state_key.h"
#include "store/sealed_provider.h"

#include <stdatomic.h>

enum { OUTSIDE_MAX = 32, OUTSIDE_VALUE_MAX = 9000 };

typedef struct outside_entry_t {
    unsigned char id[CACHE_ID_BYTES];
    unsigned char value[OUTSIDE_VALUE_MAX];
    unsigned int length; /* 0: free */
    apr_time_t expires;  /* as told; the table itself forgets nothing */
} outside_entry_t;

typedef struct outside_t {
    cache_provider_t provider;
    outside_entry_t entries[OUTSIDE_MAX];
    apr_status_t rv;         /* what calls give, if not APR_SUCCESS */
    atomic_bool hang;        /* calls do not come back while it is set */
    atomic_int calls;
    atomic_int inside;       /* calls running now */
} outside_t;

/** Makes an empty one. */
outside_t *outside_make(apr_pool_t *pool);

/** How many values there are. */
int outside_count(const outside_t *outside);

/** The n-th value. */
outside_entry_t *outside_entry(outside_t *outside, int n);

/** Whether the bytes stand anywhere in ids and values. */
bool outside_holds(const outside_t *outside, const char *bytes);

/** A key of 32 times that letter. */
state_key_t *outside_key(char letter, apr_pool_t *pool);

#endif
