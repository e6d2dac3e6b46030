/* SPDX-License-Identifier: Apache-2.0 */
/* The connections of a process: lists of those that are open, how one is opened, and when one is not used again. */
#include "store/database_internal.h"

#include "base/clock.h"
#include "base/text.h"

#include <apr_strings.h>
#include <errno.h>

enum { ERROR_TEXT_MAX = 200, SQLITE_IS_BUSY = 5 };
/* Escaped, each character may take four. */
_Static_assert(DATABASE_WORDS_MAX >= 4 * ERROR_TEXT_MAX + 4, "words fit");

/* SQLite's driver lets one thread of a process at the library at a time, and groups have one leader. PostgreSQL's servers
 * have places for some hundred connections, and reads go where the durable changes go. Few reports are settled at once, and
 * what is lost with a relaxed commit is only done again. */
static const int CONNECTIONS_MAX[][USES] = {
    [DATABASE_SQLITE] = {[USE_DURABLE] = 2, [USE_RELAXED] = 2, [USE_READ] = 4},
    [DATABASE_PGSQL] = {[USE_DURABLE] = 8, [USE_RELAXED] = 3},
};
static const apr_interval_time_t IDLE_LIFE = apr_time_from_sec(60);
static const apr_interval_time_t ACQUIRE_LIMIT = apr_time_from_sec(5);
/* After a connection that failed, the others do not try for so long. */
static const apr_interval_time_t DOWN_PAUSE = apr_time_from_msec(500);

/* What a reslist's constructor is given. */
typedef struct maker_t {
    database_t *database;
    use_t use;
} maker_t;

/* The first line only: PostgreSQL's further ones quote what is in a row. */
static const char *first_line(const char *text, apr_pool_t *pool)
{
    return text_escape(pool, apr_pstrmemdup(pool, text, strcspn(text, "\r\n")), ERROR_TEXT_MAX);
}

static const char *words(const database_t *database, apr_dbd_t *handle, int rv, apr_pool_t *pool)
{
    const char *text = handle ? apr_dbd_error(database->driver, handle, rv) : NULL;
    if (!text || !*text) {
        return apr_psprintf(pool, "the driver's error %d", rv);
    }
    return first_line(text, pool);
}

/* What libpq says of a connection text that it cannot parse quotes it, with a password that stands in it. */
static const char *open_words(const database_t *database, const char *text, apr_pool_t *pool)
{
    static const char *const HARMLESS[] = {"connection to server ", "could not connect ", "could not translate host ",
                                           "FATAL:"};
    bool harmless = text && database->place.kind == DATABASE_SQLITE;
    for (size_t i = 0; text && i < sizeof(HARMLESS) / sizeof(HARMLESS[0]); i++) {
        harmless = harmless || !strncmp(text, HARMLESS[i], strlen(HARMLESS[i]));
    }
    return harmless ? first_line(text, pool) : NULL;
}

/* PATH_MAX may be longer than what is shown. */
static const char *shown(const char *path, apr_pool_t *pool)
{
    return text_escape(pool, path, ERROR_TEXT_MAX / 2);
}

static apr_status_t connection_close(void *resource, void *params, apr_pool_t *pool)
{
    connection_t *connection = resource;
    const maker_t *maker = params;
    (void)pool;
    if (connection->handle) {
        apr_dbd_close(maker->database->driver, connection->handle);
    }
    apr_pool_destroy(connection->pool);
    return APR_SUCCESS;
}

/* A PRAGMA that answers with a row gives an error code of the driver's although it worked. */
static void pragma(const database_t *database, const connection_t *connection, const char *sql)
{
    int rows = 0;
    apr_dbd_query(database->driver, connection->handle, &rows, sql);
}

static int set_up(const maker_t *maker, const connection_t *connection)
{
    int rows = 0;
    const database_t *database = maker->database;
    bool durable = maker->use == USE_DURABLE;
    if (database->place.kind == DATABASE_PGSQL) {
        /* Under a stricter isolation whoever comes second has an error, where the statements want to find no row. */
        return apr_dbd_query(
            database->driver, connection->handle, &rows,
            durable ? "SET default_transaction_isolation = 'read committed'; SET synchronous_commit = on"
                    : "SET default_transaction_isolation = 'read committed'; SET synchronous_commit = off");
    }
    /* Short, because the driver holds a mutex of the whole process while SQLite waits; without it, it tries for 1.5 s. */
    pragma(database, connection, "PRAGMA busy_timeout = 50");
    /* Kibibytes. SQLite's own 2 MiB for each connection would be the most of what a process holds, and save little: rows are
     * found by a key that is random. */
    pragma(database, connection, "PRAGMA cache_size = -256");
    return apr_dbd_query(database->driver, connection->handle, &rows,
                         durable ? "PRAGMA synchronous = FULL" : "PRAGMA synchronous = NORMAL");
}

static int prepare_all(const database_t *database, connection_t *connection)
{
    int rv = 0;
    connection->prepared = apr_pcalloc(connection->pool, (apr_size_t)database->count * sizeof(apr_dbd_prepared_t *));
    for (int i = 0; !rv && i < database->count; i++) {
        /* Without a label PostgreSQL's driver keeps the text and prepares nothing that could be lost. */
        rv = apr_dbd_prepare(database->driver, connection->pool, connection->handle, database->statements[i], NULL,
                             &connection->prepared[i]);
    }
    return rv;
}

/* SQLite makes a file where there is none, and goes on with one that has lost its name: both forget what was journaled. */
static bool file_is_there(const database_t *database, struct stat *facts)
{
    return database->place.kind != DATABASE_SQLITE || !stat(database->place.params, facts);
}

/* A server that was restarted has cut all connections, and a changed schema spoils the statements of all. */
static bool is_stale(database_t *database, const connection_t *connection)
{
    struct stat now = {0};
    return connection->errors != atomic_load(&database->errors) || !file_is_there(database, &now) ||
           now.st_dev != connection->file.st_dev || now.st_ino != connection->file.st_ino;
}

/* NULL, or why there is no connection. */
static const char *connection_try(const maker_t *maker, connection_t *connection)
{
    const database_t *database = maker->database;
    const char *error = NULL;
    if (!file_is_there(database, &connection->file)) {
        return apr_psprintf(
            connection->pool, "the file %s cannot be found: %s", shown(database->place.params, connection->pool),
            apr_strerror(APR_FROM_OS_ERROR(errno), apr_palloc(connection->pool, ERROR_TEXT_MAX), ERROR_TEXT_MAX));
    }
    if (apr_dbd_open_ex(database->driver, connection->pool, database->place.params, &connection->handle, &error)) {
        connection->handle = NULL;
        error = open_words(database, error, connection->pool);
        return error ? error : "no connection to the database could be opened";
    }
    int rv = set_up(maker, connection);
    if (!rv) {
        rv = prepare_all(database, connection);
    }
    return rv ? words(database, connection->handle, rv, connection->pool) : NULL;
}

/* A clock that was set back does not make the pause longer. */
static bool is_down(database_t *database)
{
    apr_thread_mutex_lock(database->lock);
    apr_interval_time_t left = database->down_until - clock_now();
    apr_thread_mutex_unlock(database->lock);
    return left > 0 && left <= DOWN_PAUSE;
}

static void set_down(database_t *database, const char *reason)
{
    apr_thread_mutex_lock(database->lock);
    database->down_until = clock_now() + DOWN_PAUSE;
    apr_cpystrn(database->reason, reason, sizeof(database->reason));
    apr_thread_mutex_unlock(database->lock);
}

static apr_status_t connection_open(void **resource, void *params, apr_pool_t *pool)
{
    const maker_t *maker = params;
    apr_pool_t *own = NULL;
    if (is_down(maker->database)) {
        return APR_ECONNREFUSED;
    }
    apr_status_t rv = apr_pool_create(&own, pool);
    if (rv) {
        return rv;
    }
    connection_t *connection = apr_pcalloc(own, sizeof(*connection));
    connection->pool = own;
    connection->errors = atomic_load(&maker->database->errors);
    const char *reason = connection_try(maker, connection);
    if (reason) {
        set_down(maker->database, reason);
        connection_close(connection, params, NULL);
        return APR_ECONNREFUSED;
    }
    *resource = connection;
    return APR_SUCCESS;
}

/* A reslist takes memory of its pool with each connection that is given back, under a lock that is its own: two of them in
 * one pool would be given the same bytes. */
static apr_status_t list_make(database_t *database, use_t use, int most)
{
    apr_pool_t *pool = NULL;
    apr_status_t rv = apr_pool_create(&pool, database->pool);
    if (rv) {
        return rv;
    }
    maker_t *maker = apr_pcalloc(pool, sizeof(*maker));
    *maker = (maker_t){database, use};
    rv = apr_reslist_create(&database->connections[use], 0, 1, most, IDLE_LIFE, connection_open, connection_close, maker,
                            pool);
    if (!rv) {
        apr_reslist_timeout_set(database->connections[use], ACQUIRE_LIMIT);
        apr_reslist_cleanup_order_set(database->connections[use], APR_RESLIST_CLEANUP_FIRST);
    }
    return rv;
}

apr_status_t connection_lists_make(database_t *database)
{
    apr_status_t rv = apr_thread_mutex_create(&database->lock, APR_THREAD_MUTEX_DEFAULT, database->pool);
    for (int i = 0; !rv && i < USES; i++) {
        int most = CONNECTIONS_MAX[database->place.kind][i];
        if (most) {
            rv = list_make(database, (use_t)i, most);
        }
    }
    return rv;
}

static apr_status_t refused(database_t *database, apr_status_t rv, apr_pool_t *pool, const char **message)
{
    char reason[ERROR_TEXT_MAX];
    if (rv == APR_ECONNREFUSED) {
        apr_thread_mutex_lock(database->lock);
        *message = apr_pstrdup(pool, database->reason);
        apr_thread_mutex_unlock(database->lock);
    } else {
        *message = apr_pstrcat(
            pool, "no connection to the database could be had: ", apr_strerror(rv, reason, sizeof(reason)), NULL);
    }
    return rv;
}

apr_status_t connection_acquire(database_t *database, use_t use, connection_t **connection, apr_pool_t *pool,
                                const char **message)
{
    apr_reslist_t *list = database->connections[use];
    void *resource = NULL;
    apr_status_t rv = apr_reslist_acquire(list, &resource);
    while (!rv && is_stale(database, resource)) {
        apr_reslist_invalidate(list, resource);
        rv = apr_reslist_acquire(list, &resource);
    }
    *connection = resource;
    return rv ? refused(database, rv, pool, message) : APR_SUCCESS;
}

apr_status_t connection_leave(database_t *database, use_t use, connection_t *connection, int rv, apr_pool_t *pool,
                              const char **message)
{
    if (!rv) {
        apr_reslist_release(database->connections[use], connection);
        return APR_SUCCESS;
    }
    *message = words(database, connection->handle, rv, pool);
    atomic_fetch_add(&database->errors, 1);
    apr_reslist_invalidate(database->connections[use], connection);
    return database->place.kind == DATABASE_SQLITE && rv == SQLITE_IS_BUSY ? APR_TIMEUP : APR_EGENERAL;
}
