/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A database past the journal, with a table `plain` of names and values; and the C library's fsync() and fdatasync(), whose
 * place is taken, for SQLite too: what reaches the disk is counted, slow, or refused.
 */
#ifndef ISCEP_TESTS_DATABASE_FIXTURE_H
#define ISCEP_TESTS_DATABASE_FIXTURE_H

#include "journal_fixture.h"
#include "store/database_internal.h"

#include <apr_thread_proc.h>
#include <stdatomic.h>

enum { THREADS = 20, ROUNDS = 10 };

extern atomic_int disk_syncs;
extern atomic_bool disk_fails;
extern atomic_int disk_takes; /**< milliseconds for each */

typedef enum query_t {
    PUT,
    COUNT,
    ECHO,
    PERCENT,
    NOW,
    ADD,
    ADD_ALL,
    ABSENT_NAME,
    NULLS,
    SLOW,
    PUT_SETTING,
    ISOLATION,
    PUT_NEW,
    COUNT_UP,
    QUERIES
} query_t;

/** At a place of its own. */
database_t *plain_make_with(journal_bed_t *bed, const char *text, turn_t *turn);
database_t *plain_make(journal_bed_t *bed, const char *text);

/** The bed's, with the table. */
database_t *plain_begin_with(journal_bed_t *bed, turn_t *turn);
database_t *plain_begin(journal_bed_t *bed);

/** A durable change that must work: how many rows. */
int plain_change(journal_bed_t *bed, database_t *database, query_t query, const char *first, const char *second);

/** The message, or NULL where it worked. */
const char *plain_try_put(journal_bed_t *bed, database_t *database, const char *name);

/** The columns of the one row that there must be. */
const char *const *plain_only_row(journal_bed_t *bed, database_t *database, query_t query, const char *argument, int columns);

/** The syncs that so many new rows cost. */
int plain_syncs_of(journal_bed_t *bed, database_t *database, database_commit_t commit, int count);

/** Of this process. */
int plain_open_files(void);

typedef struct worker_t {
    journal_bed_t *bed;
    database_t *database;
    int number;
} worker_t;

/** Runs it in so many threads, each with a worker_t, at most THREADS, and waits for them. */
void plain_run_threads(journal_bed_t *bed, database_t *database, int count, apr_thread_start_t function);

#endif
