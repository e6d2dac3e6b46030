/* SPDX-License-Identifier: Apache-2.0 */
#include "store/database.h"

#include "base/clock.h"
#include "base/text.h"
#include "store/group.h"

#include <apr_allocator.h>
#include <apr_dbd.h>
#include <apr_reslist.h>
#include <apr_strings.h>
#include <apr_thread_mutex.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/stat.h>

enum { ERROR_TEXT_MAX = 200 };

/* What a connection is for: the first two are database_commit_t. Whoever writes to SQLite does not wait behind those who read. */
typedef enum use_t { USE_DURABLE = DATABASE_DURABLE, USE_RELAXED = DATABASE_RELAXED, USE_READ, USES } use_t;

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

struct database_t {
    apr_pool_t *pool; /* its own, with reslists and connections in it: see database_end() */
    database_place_t place;
    const apr_dbd_driver_t *driver;
    const char *const *statements;
    int count;
    apr_reslist_t *connections[USES]; /* NULL: for nothing of its own */
    group_t *group;                /* SQLite's changes; PostgreSQL groups its commits itself */
    atomic_int in_group;           /* calls */
    atomic_uint errors;            /* so far: a connection that was opened before the last one is not used again */
    apr_thread_mutex_t *lock;      /* of the rest */
    apr_time_t down_until;
    char reason[4 * ERROR_TEXT_MAX + 4]; /* why the last connection could not be opened */
};

typedef struct connection_t {
    apr_pool_t *pool;
    apr_dbd_t *handle;
    apr_dbd_prepared_t **prepared;
    unsigned errors;  /* when it was opened */
    struct stat file; /* SQLite's */
} connection_t;

/* A change on its way through the group. What it points to is its caller's, who waits; only he allocates in his pool. */
typedef struct change_t {
    group_member_t member;
    database_t *database;
    database_commit_t commit;
    int statement;
    const char **values;
    int count;
    apr_pool_t *pool;
    apr_status_t rv; /* what became of it */
    int changed;
    char message[4 * ERROR_TEXT_MAX + 4];
} change_t;

/* What a reslist's constructor is given. */
typedef struct maker_t {
    database_t *database;
    use_t use;
} maker_t;

const char *database_now(database_kind_t kind)
{
    return kind == DATABASE_PGSQL ? "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)"
                                  : "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)";
}

database_kind_t database_kind(const database_t *database)
{
    return database->place.kind;
}

/* libpq waits for ever unless told otherwise. */
static const char *with_limits(const char *conninfo, apr_pool_t *pool)
{
    const char *text = conninfo;
    if (!strstr(text, "connect_timeout")) {
        text = apr_pstrcat(pool, text, " connect_timeout=3", NULL);
    }
    if (!strstr(text, "tcp_user_timeout")) {
        text = apr_pstrcat(pool, text,
                           " tcp_user_timeout=5000 keepalives_idle=5 keepalives_interval=2 keepalives_count=2", NULL);
    }
    if (!strstr(text, "options=")) {
        text = apr_pstrcat(pool, text, " options='-c statement_timeout=5000'", NULL);
    }
    return text;
}

apr_status_t database_place_parse(database_place_t *place, const char *text, apr_pool_t *pool, const char **message)
{
    const apr_dbd_driver_t *driver = NULL;
    const char *package = NULL;
    if (!strncmp(text, "sqlite3:", 8) && text[8] == '/') {
        *place = (database_place_t){DATABASE_SQLITE, "sqlite3", apr_pstrdup(pool, text + 8)};
        package = "libaprutil1-dbd-sqlite3";
    } else if (!strncmp(text, "pgsql:postgres://", 17) || !strncmp(text, "pgsql:postgresql://", 19)) {
        *message =
            "the journal's connection must be given in libpq's keywords (host=... dbname=...), not as an address";
        return APR_EINVAL;
    } else if (!strncmp(text, "pgsql:", 6) && text[6]) {
        *place = (database_place_t){DATABASE_PGSQL, "pgsql", with_limits(text + 6, pool)};
        package = "libaprutil1-dbd-pgsql";
    } else {
        *message = "the journal must be sqlite3:/PATH/OF/FILE or pgsql:CONNECTION";
        return APR_EINVAL;
    }
    apr_status_t rv = apr_dbd_init(pool);
    if (!rv) {
        rv = apr_dbd_get_driver(pool, place->driver, &driver);
    }
    if (rv) {
        *message = apr_psprintf(pool, "the database driver %s cannot be loaded: install Debian's package %s",
                                place->driver, package);
    }
    return rv;
}

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
    (void)pool;
    if (is_down(maker->database)) {
        return APR_ECONNREFUSED;
    }
    apr_status_t rv = apr_pool_create(&own, maker->database->pool);
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

static const char *with_clock(const char *sql, database_kind_t kind, apr_pool_t *pool)
{
    static const char MARK[] = "{now}";
    const char *mark = NULL;
    const char *text = "";
    while ((mark = strstr(sql, MARK))) {
        text = apr_pstrcat(pool, text, apr_pstrmemdup(pool, sql, (apr_size_t)(mark - sql)), database_now(kind), NULL);
        sql = mark + sizeof(MARK) - 1;
    }
    return apr_pstrcat(pool, text, sql, NULL);
}

/* A reslist that goes while a call hangs ends the process by an assertion: then it stays, as the process ends anyway. */
static apr_status_t database_end(void *data)
{
    database_t *database = data;
    apr_uint32_t used = (apr_uint32_t)atomic_load(&database->in_group);
    for (int i = 0; i < USES; i++) {
        used += database->connections[i] ? apr_reslist_acquired_count(database->connections[i]) : 0;
    }
    if (!used) {
        apr_pool_destroy(database->pool);
    }
    return APR_SUCCESS;
}

/* No child of another pool, whose end would be its own. Any thread may make children of it. */
static apr_status_t own_pool(apr_pool_t **pool)
{
    apr_allocator_t *allocator = NULL;
    apr_thread_mutex_t *mutex = NULL;
    apr_status_t rv = apr_allocator_create(&allocator);
    if (rv) {
        return rv;
    }
    rv = apr_pool_create_unmanaged_ex(pool, NULL, allocator);
    if (rv) {
        apr_allocator_destroy(allocator);
        return rv;
    }
    apr_allocator_owner_set(allocator, *pool);
    rv = apr_thread_mutex_create(&mutex, APR_THREAD_MUTEX_DEFAULT, *pool);
    if (rv) {
        apr_pool_destroy(*pool);
        return rv;
    }
    apr_allocator_mutex_set(allocator, mutex);
    return APR_SUCCESS;
}

static group_work_t change_together;

static apr_status_t make_lists(database_t *database)
{
    apr_status_t rv = apr_thread_mutex_create(&database->lock, APR_THREAD_MUTEX_DEFAULT, database->pool);
    for (int i = 0; !rv && i < USES; i++) {
        int most = CONNECTIONS_MAX[database->place.kind][i];
        maker_t *maker = apr_pcalloc(database->pool, sizeof(*maker));
        *maker = (maker_t){database, (use_t)i};
        if (most) {
            rv = apr_reslist_create(&database->connections[i], 0, 1, most, IDLE_LIFE, connection_open, connection_close,
                                    maker, database->pool);
        }
        if (!rv && most) {
            apr_reslist_timeout_set(database->connections[i], ACQUIRE_LIMIT);
            apr_reslist_cleanup_order_set(database->connections[i], APR_RESLIST_CLEANUP_FIRST);
        }
    }
    return rv;
}

apr_status_t database_make(database_t **database, const database_place_t *place, turn_t *turn,
                           const char *const *statements, int count, apr_pool_t *pool)
{
    apr_pool_t *own = NULL;
    apr_status_t rv = own_pool(&own);
    if (rv) {
        return rv;
    }
    database_t *made = apr_pcalloc(own, sizeof(*made));
    const char **texts = apr_pcalloc(own, (apr_size_t)(count + 1) * sizeof(*texts));
    made->pool = own;
    made->place = *place;
    made->place.params = apr_pstrdup(own, place->params);
    for (int i = 0; i < count; i++) {
        texts[i] = with_clock(statements[i], place->kind, own);
    }
    made->statements = texts;
    made->count = count;
    apr_pool_cleanup_register(pool, made, database_end, apr_pool_cleanup_null);
    rv = apr_dbd_get_driver(pool, place->driver, &made->driver);
    *database = made;
    if (!rv && place->kind == DATABASE_SQLITE) {
        rv = group_make(&made->group, change_together, turn, own);
    }
    return rv ? rv : make_lists(made);
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

static apr_status_t acquire(database_t *database, use_t use, connection_t **connection, apr_pool_t *pool,
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

/* After an error nobody knows what state the connection is in. */
static apr_status_t leave(database_t *database, use_t use, connection_t *connection, int rv, apr_pool_t *pool,
                          const char **message)
{
    if (!rv) {
        apr_reslist_release(database->connections[use], connection);
        return APR_SUCCESS;
    }
    *message = words(database, connection->handle, rv, pool);
    atomic_fetch_add(&database->errors, 1);
    apr_reslist_invalidate(database->connections[use], connection);
    return APR_EGENERAL;
}

/* One statement, committed by itself. */
static void change_alone(change_t *change, apr_pool_t *pool, const char **message)
{
    database_t *database = change->database;
    connection_t *connection = NULL;
    int rows = 0;
    change->rv = acquire(database, (use_t)change->commit, &connection, pool, message);
    if (change->rv) {
        return;
    }
    int wrong = apr_dbd_pquery(database->driver, pool, connection->handle, &rows, connection->prepared[change->statement],
                               change->count, change->values);
    change->rv = leave(database, (use_t)change->commit, connection, wrong, pool, message);
    /* After an error SQLite's driver leaves an old count here. */
    change->changed = change->rv ? 0 : rows;
}

static void end_all(group_member_t *const *members, int count, apr_status_t rv, const char *message)
{
    for (int i = 0; i < count; i++) {
        change_t *change = (change_t *)members[i];
        change->rv = rv;
        apr_cpystrn(change->message, message, sizeof(change->message));
    }
}

/* By the leader of a group: in his pool, and the words into each one's own place. */
static void change_each(group_member_t *const *members, int count, apr_pool_t *pool)
{
    apr_time_t begin = clock_now();
    for (int i = 0; i < count; i++) {
        change_t *change = (change_t *)members[i];
        const char *message = "";
        if (clock_now() - begin > ACQUIRE_LIMIT) {
            end_all(members + i, count - i, APR_TIMEUP, "the changes before it took too long");
            return;
        }
        change_alone(change, pool, &message);
        apr_cpystrn(change->message, message, sizeof(change->message));
    }
}

/* The driver's code of the first statement that failed. */
static int run_all(const database_t *database, const connection_t *connection, group_member_t *const *members, int count,
                   apr_pool_t *pool)
{
    int wrong = 0;
    for (int i = 0; !wrong && i < count; i++) {
        change_t *change = (change_t *)members[i];
        wrong = apr_dbd_pquery(database->driver, pool, connection->handle, &change->changed,
                               connection->prepared[change->statement], change->count, change->values);
    }
    return wrong;
}

/* What is lost with the machine at most is what nobody wanted durable. */
static use_t use_of(group_member_t *const *members, int count)
{
    for (int i = 0; i < count; i++) {
        if (((const change_t *)members[i])->commit == DATABASE_DURABLE) {
            return USE_DURABLE;
        }
    }
    return USE_RELAXED;
}

/*
 * One commit for all of them. Plain statements instead of apr_dbd's transaction, which stalls with a busy_timeout. The
 * place in the file is taken first, so that no statement later finds it taken.
 */
static void change_together(group_member_t *const *members, int count)
{
    const change_t *leader = (const change_t *)members[0];
    database_t *database = leader->database;
    apr_pool_t *pool = leader->pool;
    use_t use = use_of(members, count);
    connection_t *connection = NULL;
    const char *message = "";
    int rows = 0;
    if (count == 1) {
        change_each(members, count, pool);
        return;
    }
    apr_status_t rv = acquire(database, use, &connection, pool, &message);
    if (rv) {
        end_all(members, count, rv, message);
        return;
    }
    int wrong = apr_dbd_query(database->driver, connection->handle, &rows, "BEGIN IMMEDIATE");
    if (!wrong && run_all(database, connection, members, count, pool)) {
        /* Nothing is committed without its COMMIT: each may try again, and fail by itself. */
        apr_dbd_query(database->driver, connection->handle, &rows, "ROLLBACK");
        leave(database, use, connection, APR_EGENERAL, pool, &message);
        change_each(members, count, pool);
        return;
    }
    if (!wrong) {
        wrong = apr_dbd_query(database->driver, connection->handle, &rows, "COMMIT");
    }
    rv = leave(database, use, connection, wrong, pool, &message);
    end_all(members, count, rv, message);
}

static void change_in_group(database_t *database, change_t *change, const char **message)
{
    atomic_fetch_add(&database->in_group, 1);
    apr_status_t rv = group_do(database->group, &change->member, ACQUIRE_LIMIT);
    atomic_fetch_sub(&database->in_group, 1);
    if (rv) {
        change->rv = refused(database, rv, change->pool, message);
    } else if (change->rv) {
        *message = apr_pstrdup(change->pool, change->message);
    }
}

apr_status_t database_change(database_t *database, database_commit_t commit, int statement,
                             const char *const *arguments, int count, int *changed, apr_pool_t *pool,
                             const char **message)
{
    /* The interface forgot a const: no driver changes the arguments. */
    const char **values = apr_pmemdup(pool, arguments, (apr_size_t)count * sizeof(*arguments));
    change_t change = {.database = database, .commit = commit, .statement = statement, .values = values,
                       .count = count, .pool = pool};
    if (database->group) {
        change_in_group(database, &change, message);
    } else {
        change_alone(&change, pool, message);
    }
    if (!change.rv) {
        *changed = change.changed;
    }
    return change.rv;
}

static int read_rows(const database_t *database, apr_dbd_results_t *results, int columns, apr_array_header_t *rows,
                     apr_pool_t *pool)
{
    apr_dbd_row_t *row = NULL;
    int rv = 0;
    while (!(rv = apr_dbd_get_row(database->driver, pool, results, &row, -1))) {
        const char **values = apr_pcalloc(pool, (apr_size_t)columns * sizeof(*values));
        for (int i = 0; i < columns; i++) {
            const char *text = NULL;
            /* get_entry() would give an empty text for PostgreSQL's NULL. */
            apr_status_t got = apr_dbd_datum_get(database->driver, row, i, APR_DBD_TYPE_STRING, &text);
            values[i] = got == APR_SUCCESS && text ? apr_pstrdup(pool, text) : NULL;
        }
        APR_ARRAY_PUSH(rows, const char **) = values;
    }
    return rv == -1 ? 0 : rv;
}

apr_status_t database_select(database_t *database, int statement, const char *const *arguments, int count, int columns,
                             apr_array_header_t **rows, apr_pool_t *pool, const char **message)
{
    use_t use = database->connections[USE_READ] ? USE_READ : USE_DURABLE;
    connection_t *connection = NULL;
    apr_dbd_results_t *results = NULL;
    apr_status_t rv = acquire(database, use, &connection, pool, message);
    *rows = apr_array_make(pool, 4, sizeof(const char **));
    if (rv) {
        return rv;
    }
    const char **values = count ? apr_pmemdup(pool, arguments, (apr_size_t)count * sizeof(*arguments)) : NULL;
    int wrong = apr_dbd_pselect(database->driver, pool, connection->handle, &results, connection->prepared[statement],
                                1, count, values);
    if (!wrong) {
        wrong = read_rows(database, results, columns, *rows, pool);
    }
    return leave(database, use, connection, wrong, pool, message);
}

apr_status_t database_run(database_t *database, const char *sql, apr_pool_t *pool, const char **message)
{
    connection_t *connection = NULL;
    int rows = 0;
    apr_status_t rv = acquire(database, USE_DURABLE, &connection, pool, message);
    if (rv) {
        return rv;
    }
    return leave(database, USE_DURABLE, connection,
                 apr_dbd_query(database->driver, connection->handle, &rows, sql), pool, message);
}
