/* SPDX-License-Identifier: Apache-2.0 */
#include "store/database_internal.h"

#include "base/clock.h"

#include <apr_allocator.h>
#include <apr_strings.h>
#include <apr_thread_mutex.h>

static const apr_interval_time_t QUEUE_LIMIT = apr_time_from_sec(5);
static const apr_interval_time_t AGAIN_LIMIT = apr_time_from_sec(5);
/* A migration is several statements. */
enum { OUTDATED_TRIES = 5 };
static const char TOO_LONG[] = "the changes before it took too long";

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
    char message[DATABASE_WORDS_MAX];
} change_t;

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
    made->queue_limit = QUEUE_LIMIT;
    made->again_limit = AGAIN_LIMIT;
    apr_pool_cleanup_register(pool, made, database_end, apr_pool_cleanup_null);
    rv = apr_dbd_get_driver(pool, place->driver, &made->driver);
    *database = made;
    if (!rv && place->kind == DATABASE_SQLITE) {
        rv = group_make(&made->group, change_together, turn, own);
    }
    return rv ? rv : connection_lists_make(made);
}

/*
 * Somebody has brought the tables forward since, or packed the file. Nothing was done: SQLite's driver does not prepare its
 * statements anew, but the next connection has new ones.
 */
static bool is_outdated(const database_t *database, apr_status_t rv, const char *message)
{
    return rv && database->place.kind == DATABASE_SQLITE && strstr(message, "schema has changed");
}

static void change_once(change_t *change, apr_pool_t *pool, const char **message)
{
    database_t *database = change->database;
    connection_t *connection = NULL;
    int rows = 0;
    change->rv = connection_acquire(database, (use_t)change->commit, &connection, pool, message);
    if (change->rv) {
        return;
    }
    int wrong = apr_dbd_pquery(database->driver, pool, connection->handle, &rows, connection->prepared[change->statement],
                               change->count, change->values);
    change->rv = connection_leave(database, (use_t)change->commit, connection, wrong, pool, message);
    /* After an error SQLite's driver leaves an old count here. */
    change->changed = change->rv ? 0 : rows;
}

/* One statement, committed by itself. */
static void change_alone(change_t *change, apr_pool_t *pool, const char **message)
{
    change_once(change, pool, message);
    for (int i = 0; i < OUTDATED_TRIES && is_outdated(change->database, change->rv, *message); i++) {
        change_once(change, pool, message);
    }
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
        if (clock_now() - begin > change->database->again_limit) {
            end_all(members + i, count - i, APR_TIMEUP, TOO_LONG);
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
    apr_status_t rv = connection_acquire(database, use, &connection, pool, &message);
    if (rv) {
        end_all(members, count, rv, message);
        return;
    }
    int wrong = apr_dbd_query(database->driver, connection->handle, &rows, "BEGIN IMMEDIATE");
    if (!wrong && run_all(database, connection, members, count, pool)) {
        /* Nothing is committed without its COMMIT: each may try again, and fail by itself. */
        apr_dbd_query(database->driver, connection->handle, &rows, "ROLLBACK");
        connection_leave(database, use, connection, APR_EGENERAL, pool, &message);
        change_each(members, count, pool);
        return;
    }
    if (!wrong) {
        wrong = apr_dbd_query(database->driver, connection->handle, &rows, "COMMIT");
    }
    rv = connection_leave(database, use, connection, wrong, pool, &message);
    end_all(members, count, rv, message);
}

static void change_in_group(database_t *database, change_t *change, const char **message)
{
    atomic_fetch_add(&database->in_group, 1);
    apr_status_t rv = group_do(database->group, &change->member, database->queue_limit);
    atomic_fetch_sub(&database->in_group, 1);
    if (rv) {
        change->rv = rv;
        *message = TOO_LONG;
    } else if (change->rv) {
        *message = apr_pstrdup(change->pool, change->message);
    }
}

apr_status_t database_change(database_t *database, database_commit_t commit, int statement,
                             const char *const *arguments, int count, int *changed, apr_pool_t *pool,
                             const char **message)
{
    /* The interface forgot a const: no driver changes the arguments. */
    const char **values = count ? apr_pmemdup(pool, arguments, (apr_size_t)count * sizeof(*arguments)) : NULL;
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

static apr_status_t select_once(database_t *database, int statement, const char *const *arguments, int count,
                                int columns, apr_array_header_t **rows, apr_pool_t *pool, const char **message)
{
    use_t use = database->connections[USE_READ] ? USE_READ : USE_DURABLE;
    connection_t *connection = NULL;
    apr_dbd_results_t *results = NULL;
    apr_status_t rv = connection_acquire(database, use, &connection, pool, message);
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
    return connection_leave(database, use, connection, wrong, pool, message);
}

apr_status_t database_select(database_t *database, int statement, const char *const *arguments, int count, int columns,
                             apr_array_header_t **rows, apr_pool_t *pool, const char **message)
{
    apr_status_t rv = select_once(database, statement, arguments, count, columns, rows, pool, message);
    for (int i = 0; i < OUTDATED_TRIES && is_outdated(database, rv, *message); i++) {
        rv = select_once(database, statement, arguments, count, columns, rows, pool, message);
    }
    return rv;
}

apr_status_t database_run(database_t *database, const char *sql, apr_pool_t *pool, const char **message)
{
    connection_t *connection = NULL;
    int rows = 0;
    apr_status_t rv = connection_acquire(database, USE_DURABLE, &connection, pool, message);
    if (rv) {
        return rv;
    }
    return connection_leave(database, USE_DURABLE, connection,
                 apr_dbd_query(database->driver, connection->handle, &rows, sql), pool, message);
}
