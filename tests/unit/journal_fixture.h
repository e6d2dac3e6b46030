/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A fresh journal for each test, on SQLite in a temporary directory and on PostgreSQL. The first test that needs it starts
 * a cluster of its own; where PostgreSQL's server is not installed, those tests are skipped.
 */
#ifndef ISCEP_TESTS_JOURNAL_FIXTURE_H
#define ISCEP_TESTS_JOURNAL_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store/journal_internal.h"
#include "store/journal_operator.h"

typedef struct journal_bed_t {
    database_kind_t kind;
    bool absent;                 /* there is no such database here */
    apr_pool_t *pool;
    const char *folder;          /* empty but for SQLite's files */
    const char *file;            /* SQLite's */
    journal_settings_t settings;
    apr_pool_t *journal_pool;    /* NULL while the journal is closed */
    journal_t *journal;
} journal_bed_t;

/** Two tests, one for each database: the state is the bed, with a prepared and opened journal. */
#define JOURNAL_TEST(function)                                                                                         \
    {#function " on SQLite", function, journal_bed_begin, journal_bed_end, (void *)"sqlite3"},                         \
        {#function " on PostgreSQL", function, journal_bed_begin, journal_bed_end, (void *)"pgsql"}
#define JOURNAL_TEST_SQLITE(function) {#function, function, journal_bed_begin, journal_bed_end, (void *)"sqlite3"}
#define JOURNAL_TEST_PGSQL(function) {#function, function, journal_bed_begin, journal_bed_end, (void *)"pgsql"}

int journal_bed_begin(void **state);
int journal_bed_end(void **state);

/** For the whole program: stops what was started. */
int journal_beds_end(void **state);

/** The test's bed; skips the test where there is no such database. */
journal_bed_t *journal_bed(void **state);

/** The journal of the bed, prepared: opened and closed, as before and after a fork. */
void journal_bed_open(journal_bed_t *bed);
void journal_bed_close(journal_bed_t *bed);

/** Another journal on the same database, in the bed's pool. */
journal_t *journal_bed_other(journal_bed_t *bed, const journal_settings_t *settings);

/** A new row of that transaction, with a lease of a minute and as long a grace; the CSR is "csr of TRANSACTION". */
journal_row_t *journal_bed_row(journal_bed_t *bed, const char *transaction);

/** What journal_bed_row() asks for. */
journal_intent_t journal_bed_intent(journal_bed_t *bed, const char *transaction, const char *csr);

/** A row as it is now. */
journal_row_t *journal_bed_find(journal_bed_t *bed, const char *id);

/* A connection of the test's own, past the journal. */
typedef struct raw_t raw_t;

raw_t *raw_open(journal_bed_t *bed);
void raw_close(raw_t *raw);

/** Runs SQL, made as by printf: the driver's code. */
int raw_try(raw_t *raw, const char *format, ...) __attribute__((format(printf, 2, 3)));

/** The same, and it must work. */
void raw_run(raw_t *raw, const char *format, ...) __attribute__((format(printf, 2, 3)));

/** The first column of the first row, in the bed's pool; NULL where there is none, or it is NULL or empty. */
const char *raw_text(raw_t *raw, const char *format, ...) __attribute__((format(printf, 2, 3)));
int raw_number(raw_t *raw, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The cluster. */

/** Stops and starts it; connections are cut. */
void postgres_stop(void);
void postgres_start(void);

/** All its processes stand still, or go on. */
void postgres_freeze(bool frozen);

/** Runs the function in another process without the bed's journal, which is opened again afterwards: its exit code. */
int in_other_process(journal_bed_t *bed, int (*function)(journal_bed_t *bed, void *data), void *data);

#endif
