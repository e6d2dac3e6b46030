/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A database over apr_dbd: SQLite or PostgreSQL. Each process keeps a few connections, opened when they are first
 * needed; after any error they are thrown away, since a restart of PostgreSQL cuts all of them and check_conn does not
 * notice. Every statement is a transaction of its own for whoever wants it.
 *
 * PostgreSQL's server has one sync for several commits. For SQLite that is done here: what the threads of a process want to
 * change while a commit is under way goes into the next one together (store/group.h), and processes take turns
 * (store/turn.h). Nobody is told of a success before the commit was one. Where a statement of a group fails, the group is
 * rolled back and each of them is run and committed alone; where the commit fails, it failed for all of them.
 *
 * How long a call may take. SQLite, a change: 5 s for its place in the queue, which it gives up then, and nothing was
 * done. Once it was taken, as long as its group: 1 s for the turn, 2.4 s while somebody who takes no turns holds the file,
 * a commit by the disk; where a statement failed, 5 s more and one commit. A read: 5 s for a place among the connections,
 * and behind the commit of this process that is under way, for the driver lets one thread at the library at a time.
 * PostgreSQL: 5 s for a statement, 3 s to connect, 5 s for a place among the connections; but a server that stands still on
 * a machine that answers, or whose commit waits for a standby, holds the calls that have a connection until it goes on, at
 * most 8 of each kind.
 */
#ifndef ISCEP_STORE_DATABASE_H
#define ISCEP_STORE_DATABASE_H

#include "store/turn.h"

#include <apr_errno.h>
#include <apr_pools.h>
#include <apr_tables.h>
#include <stdbool.h>

typedef struct database_t database_t;

typedef enum database_kind_t { DATABASE_SQLITE, DATABASE_PGSQL } database_kind_t;

/** Where it is: "sqlite3:FILE" or "pgsql:CONNINFO" (libpq's keywords). */
typedef struct database_place_t {
    database_kind_t kind;
    const char *driver; /**< of apr_dbd */
    const char *params;
} database_place_t;

/** How a statement is committed. */
typedef enum database_commit_t {
    DATABASE_DURABLE, /**< on the disk when the call returns: synchronous=FULL, synchronous_commit=on */
    DATABASE_RELAXED  /**< may be lost with the machine: synchronous=NORMAL, synchronous_commit=off */
} database_commit_t;

/**
 * Parses a place and looks whether the driver can be loaded. Call it before threads are there.
 * @param message on failure one sentence that names the package or what is wrong, without the text itself, which may
 * hold a password.
 */
apr_status_t database_place_parse(database_place_t *place, const char *text, apr_pool_t *pool, const char **message);

/**
 * The connections of this process, none of them opened yet. `statements` are SQL texts with %s for each argument, %% for
 * a percent sign and {now} for the database's clock in milliseconds since 1970; array and texts must outlive `pool`.
 * @param turn of the processes that write to the same SQLite file, or NULL.
 */
apr_status_t database_make(database_t **database, const database_place_t *place, turn_t *turn,
                           const char *const *statements, int count, apr_pool_t *pool);

/**
 * Runs a statement that changes rows. Any thread. A failure leaves unknown whether it was done, but for APR_TIMEUP: then
 * it was not.
 * @param changed set only with APR_SUCCESS.
 * @param message on failure: the database's words, one line, escaped; in `pool`.
 */
apr_status_t database_change(database_t *database, database_commit_t commit, int statement, const char *const *arguments,
                             int count, int *changed, apr_pool_t *pool, const char **message);

/** Runs a statement that gives rows: an array of `const char *const *`, one text or NULL for each column. Any thread. */
apr_status_t database_select(database_t *database, int statement, const char *const *arguments, int count, int columns,
                             apr_array_header_t **rows, apr_pool_t *pool, const char **message);

/** Runs SQL that is no prepared statement: the schema, before threads are there. */
apr_status_t database_run(database_t *database, const char *sql, apr_pool_t *pool, const char **message);

database_kind_t database_kind(const database_t *database);

/** The kind's expression for {now}. */
const char *database_now(database_kind_t kind);

#endif
