/* SPDX-License-Identifier: Apache-2.0 */
/* What the database's files share. */
#ifndef ISCEP_STORE_DATABASE_INTERNAL_H
#define ISCEP_STORE_DATABASE_INTERNAL_H

#include "store/database.h"
#include "store/group.h"

#include <apr_dbd.h>
#include <apr_reslist.h>
#include <apr_thread_mutex.h>
#include <stdatomic.h>
#include <sys/stat.h>

enum { DATABASE_WORDS_MAX = 804 };

/** What a connection is for: the first two are database_commit_t. Whoever writes to SQLite does not wait behind those who
 * read. */
typedef enum use_t { USE_DURABLE = DATABASE_DURABLE, USE_RELAXED = DATABASE_RELAXED, USE_READ, USES } use_t;

struct database_t {
    apr_pool_t *pool; /* its own, with reslists and connections in it: see database_end() */
    database_place_t place;
    const apr_dbd_driver_t *driver;
    const char *const *statements;
    int count;
    apr_reslist_t *connections[USES]; /* NULL: for nothing of its own */
    group_t *group;                   /* SQLite's changes; PostgreSQL's server groups commits itself */
    atomic_int in_group;              /* calls */
    /* A change's place in the queue, and running a group once more, one by one: a test does not wait for seconds. */
    apr_interval_time_t queue_limit, again_limit;
    atomic_uint errors;               /* so far: a connection that was opened before the last one is not used again */
    apr_thread_mutex_t *lock;         /* of the rest */
    apr_time_t down_until;
    char reason[DATABASE_WORDS_MAX]; /* why the last connection could not be opened */
};

typedef struct connection_t {
    apr_pool_t *pool;
    apr_dbd_t *handle;
    apr_dbd_prepared_t **prepared;
    unsigned errors;  /* when it was opened */
    struct stat file; /* SQLite's */
} connection_t;

/* database_connection.c */

/** The lists, in a new database: nothing is opened yet. */
apr_status_t connection_lists_make(database_t *database);

/**
 * Waits for a place and opens a connection where none is there. Any thread.
 * @param message on failure, in `pool`.
 */
apr_status_t connection_acquire(database_t *database, use_t use, connection_t **connection, apr_pool_t *pool,
                                const char **message);

/**
 * Gives it back; with a driver's error in `rv` it is thrown away, and so will be all that are open now, for nobody knows
 * what state they are in.
 * @return with an error APR_TIMEUP where SQLite's file was somebody else's all the time, else APR_EGENERAL; and `message`
 * in `pool`.
 */
apr_status_t connection_leave(database_t *database, use_t use, connection_t *connection, int rv, apr_pool_t *pool,
                              const char **message);

#endif
