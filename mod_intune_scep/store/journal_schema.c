/* SPDX-License-Identifier: Apache-2.0 */
/* The journal's schema, its versions, and what must agree between all that use it. */
#include "store/journal_internal.h"

#include "base/clock.h"
#include "base/text.h"

#include <apr_file_info.h>
#include <apr_strings.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

enum { CHECK_BYTES = 16, ID_BYTES = 8, TRIES = 5, PATH_SHOWN = 512 };
static const apr_interval_time_t MIGRATION_LIMIT = apr_time_from_sec(30);

static const char META_TABLE[] =
    "CREATE TABLE IF NOT EXISTS iscep_meta (name TEXT PRIMARY KEY NOT NULL, value TEXT NOT NULL)";

/* What leads from each version of the schema to the next; the first from nothing to 1. Never changed, only added to. */
static const char *const VERSION_1[] = {
    "CREATE TABLE IF NOT EXISTS iscep_journal (id TEXT PRIMARY KEY NOT NULL, loc TEXT NOT NULL, txid TEXT NOT NULL, "
    "key_fp TEXT NOT NULL, state TEXT NOT NULL, owner TEXT NOT NULL, lease_until BIGINT NOT NULL, report TEXT NOT "
    "NULL, "
    "due BIGINT NOT NULL, tries BIGINT NOT NULL, request_id TEXT NOT NULL, csr TEXT, cert TEXT, cert_fp TEXT, "
    "serial TEXT, fail TEXT, ra_fp TEXT NOT NULL, node TEXT, event TEXT, event_detail TEXT, event_due BIGINT, "
    "created BIGINT NOT NULL, updated BIGINT NOT NULL)",
    "CREATE INDEX IF NOT EXISTS iscep_journal_poll ON iscep_journal (loc, txid)",
    "CREATE INDEX IF NOT EXISTS iscep_journal_due ON iscep_journal (due) WHERE report IN ('success', 'failure')",
    "CREATE INDEX IF NOT EXISTS iscep_journal_events ON iscep_journal (event_due) WHERE event IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS iscep_journal_updated ON iscep_journal (updated)",
    "CREATE INDEX IF NOT EXISTS iscep_journal_serial ON iscep_journal (serial)",
    NULL,
};
/* What is done every second, and for each look at the status, does not go through the whole journal. */
static const char *const VERSION_2[] = {
    "CREATE INDEX IF NOT EXISTS iscep_journal_owed ON iscep_journal (loc, created, due) "
    "WHERE report IN ('success', 'failure')",
    "DROP INDEX IF EXISTS iscep_journal_due",
    "CREATE INDEX IF NOT EXISTS iscep_journal_counts ON iscep_journal (report, state, loc, created)",
    NULL,
};
static const char *const *const VERSIONS[] = {VERSION_1, VERSION_2};
enum { VERSION = sizeof(VERSIONS) / sizeof(VERSIONS[0]) };

typedef struct preparation_t {
    const journal_settings_t *settings;
    database_place_t place;
    database_t *plain; /* without statements, for the schema */
    database_t *database;
    apr_pool_t *pool;
    const char **message;
} preparation_t;

static apr_status_t refuse(const preparation_t *p, const char *what)
{
    *p->message = what;
    return JOURNAL_MISMATCH;
}

/* SQLite's locks and its shared memory do not work there. */
static bool is_network_file_system(const char *path)
{
    static const unsigned long MAGIC[] = {0x6969 /* NFS */,      0x517B /* SMB */,      0xFF534D42 /* CIFS */,
                                          0xFE534D42 /* SMB2 */, 0x65735546 /* FUSE */, 0x00C36400 /* Ceph */,
                                          0x01021997 /* 9p */,   0x5346414F /* AFS */,  0x013111A8 /* IBRIX */};
    struct statfs facts;
    for (size_t i = 0; !statfs(path, &facts) && i < sizeof(MAGIC) / sizeof(MAGIC[0]); i++) {
        if ((unsigned long)facts.f_type == MAGIC[i]) {
            return true;
        }
    }
    return false;
}

/*
 * Root gives the server a file that is root's own: a new one, or a backup that was put back. Not one that somebody has
 * linked to this name.
 */
static apr_status_t give_file(const preparation_t *p, int file, uid_t user, gid_t group)
{
    const char *path = p->place.params;
    struct stat facts;
    if (fstat(file, &facts) || !S_ISREG(facts.st_mode) || facts.st_nlink != 1) {
        return refuse(p, apr_psprintf(p->pool, "the journal's file %s is not a regular file with one name", path));
    }
    if (geteuid() || facts.st_uid == user) {
        return APR_SUCCESS;
    }
    if (facts.st_uid) {
        return refuse(p,
                      apr_psprintf(p->pool,
                                   "the journal's file %s is owned by user %lu, not by root or the server's user %lu: "
                                   "chown mends it",
                                   path, (unsigned long)facts.st_uid, (unsigned long)user));
    }
    return !fchown(file, user, group)
               ? APR_SUCCESS
               : refuse(p, apr_psprintf(p->pool, "the journal's file %s cannot be given to the server's user", path));
}

/* The file is there before SQLite opens it, so that nobody else can ever read it; its companions get the same owner. */
static apr_status_t make_file(const preparation_t *p, uid_t user, gid_t group)
{
    const char *path = p->place.params;
    const char *message = NULL;
    int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, S_IRUSR | S_IWUSR);
    if (file < 0) {
        apr_status_t rv = APR_FROM_OS_ERROR(errno);
        *p->message = apr_psprintf(p->pool, "the journal's file %s cannot be made or opened: %s", path,
                                   apr_strerror(rv, apr_palloc(p->pool, 200), 200));
        return rv;
    }
    apr_status_t rv = give_file(p, file, user, group);
    close(file);
    if (rv) {
        return rv;
    }
    if (secret_path_check(path, false, p->pool, &message)) {
        return refuse(p, message);
    }
    if (is_network_file_system(path)) {
        return refuse(p,
                      apr_psprintf(p->pool,
                                   "the journal's file %s is on a network file system, where SQLite loses data: use a "
                                   "local disk, or pgsql: for several machines",
                                   path));
    }
    return APR_SUCCESS;
}

static apr_status_t meta_get(const preparation_t *p, const char *name, const char **value)
{
    apr_array_header_t *rows = NULL;
    const char *arguments[] = {name};
    apr_status_t rv = database_select(p->database, STATEMENT_META, arguments, 1, 1, &rows, p->pool, p->message);
    *value = !rv && rows->nelts ? APR_ARRAY_IDX(rows, 0, const char *const *)[0] : NULL;
    return rv;
}

/*
 * The value that is there, or else this one; of several machines at once, one's. What is there is only read: a restart
 * needs no place among those that write.
 */
static apr_status_t meta_agree(const preparation_t *p, const char *name, const char *wanted, const char **value)
{
    int changed = 0;
    const char *arguments[] = {name, wanted};
    apr_status_t rv = meta_get(p, name, value);
    if (rv || *value) {
        return rv;
    }
    rv = database_change(p->database, DATABASE_DURABLE, STATEMENT_META_PUT, arguments, 2, &changed, p->pool, p->message);
    return rv ? rv : meta_get(p, name, value);
}

static apr_status_t run_all(const preparation_t *p, const char *const *sql)
{
    apr_status_t rv = APR_SUCCESS;
    for (; !rv && *sql; sql++) {
        rv = database_run(p->plain, *sql, p->pool, p->message);
    }
    return rv;
}

/* From a connection of its own, whose only statement is a constant: before the tables are there, no other can be prepared. */
static apr_status_t number_read(const preparation_t *p, const char *const *sql, int *number)
{
    database_t *database = NULL;
    apr_array_header_t *rows = NULL;
    apr_status_t rv = database_make(&database, &p->place, NULL, sql, 1, p->pool);
    if (!rv) {
        rv = database_select(database, 0, NULL, 0, 1, &rows, p->pool, p->message);
    }
    *number = !rv && rows->nelts ? (int)apr_strtoi64(APR_ARRAY_IDX(rows, 0, const char *const *)[0], NULL, 10) : 0;
    return rv;
}

static apr_status_t version_read(const preparation_t *p, int *version)
{
    static const char *const SQL[] = {"SELECT value FROM iscep_meta WHERE name = 'schema_version'"};
    return number_read(p, SQL, version);
}

static apr_status_t refuse_newer(const preparation_t *p, int version)
{
    return refuse(p, apr_psprintf(p->pool,
                                  "the journal was written by a newer version of the module (schema %d, this one knows "
                                  "%d): do not go back, or use another journal",
                                  version, (int)VERSION));
}

static apr_status_t migrate(const preparation_t *p)
{
    int version = 0;
    apr_status_t rv = database_run(p->plain, META_TABLE, p->pool, p->message);
    if (!rv) {
        rv = version_read(p, &version);
    }
    if (!rv && version > VERSION) {
        return refuse_newer(p, version);
    }
    for (int next = version; !rv && next < VERSION; next++) {
        rv = run_all(p, VERSIONS[next]);
        if (!rv) {
            const char *sql = apr_psprintf(p->pool,
                                           "INSERT INTO iscep_meta (name, value) VALUES ('schema_version', '%d') "
                                           "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                                           next + 1);
            rv = database_run(p->plain, sql, p->pool, p->message);
        }
    }
    return rv;
}

/*
 * Two machines that make the same tables at once get in each other's way once. The processes of before a restart go on
 * writing to SQLite's file, and leave it for moments only.
 */
static apr_status_t migrate_at_last(const preparation_t *p)
{
    apr_time_t until = clock_now() + MIGRATION_LIMIT;
    apr_status_t rv = migrate(p);
    for (int i = 1; rv && rv != JOURNAL_MISMATCH && (i < TRIES || (APR_STATUS_IS_TIMEUP(rv) && clock_now() < until)); i++) {
        apr_sleep(apr_time_from_msec(200));
        rv = migrate(p);
    }
    return rv;
}

static const char *key_check(const preparation_t *p)
{
    unsigned char derived[STATE_KEY_DERIVED];
    bytes_t check = {derived, CHECK_BYTES};
    return state_key_derive(p->settings->state_key, "mod_intune_scep journal check 1", derived)
               ? NULL
               : text_hex(p->pool, check);
}

static apr_status_t compare_keys(const preparation_t *p, const char *ours, const char *theirs)
{
    if (!theirs || strcmp(ours, theirs)) {
        return refuse(p,
                      "the journal was made with another state key: give all machines the same IntuneScepStateKey, or "
                      "put the journal's own key back");
    }
    return APR_SUCCESS;
}

static apr_status_t agree(const preparation_t *p, const char **journal_id)
{
    const char *check = key_check(p);
    const char *random = text_random_hex(p->pool, ID_BYTES);
    const char *theirs = NULL;
    if (!check || !random) {
        return refuse(p, "there are no random numbers, or no memory");
    }
    apr_status_t rv = meta_agree(p, "key_check", check, &theirs);
    if (!rv) {
        rv = compare_keys(p, check, theirs);
    }
    return rv ? rv : meta_agree(p, "journal_id", random, journal_id);
}

static apr_status_t prepare_in(preparation_t *p, uid_t user, gid_t group, const char **journal_id)
{
    apr_status_t rv = database_place_parse(&p->place, p->settings->place, p->pool, p->message);
    bool sqlite = !rv && p->place.kind == DATABASE_SQLITE;
    if (sqlite) {
        rv = make_file(p, user, group);
    }
    if (!rv) {
        rv = database_make(&p->plain, &p->place, NULL, NULL, 0, p->pool);
    }
    if (!rv && sqlite) {
        /* It answers with a row, which the driver takes for an error; whether it worked shows in the next statement. */
        database_run(p->plain, "PRAGMA journal_mode = WAL", p->pool, p->message);
    }
    rv = rv ? rv : migrate_at_last(p);
    if (!rv) {
        rv = database_make(&p->database, &p->place, NULL, journal_statements, STATEMENT_COUNT, p->pool);
    }
    return rv ? rv : agree(p, journal_id);
}

apr_status_t journal_prepare(const journal_settings_t *settings, uid_t user, gid_t group, const char **journal_id,
                             apr_pool_t *pool, const char **message)
{
    apr_pool_t *scratch = NULL;
    const char *why = "the journal cannot be opened";
    const char *id = NULL;
    apr_status_t rv = apr_pool_create(&scratch, pool);
    if (rv) {
        *message = why;
        return rv;
    }
    preparation_t preparation = {.settings = settings, .pool = scratch, .message = &why};
    rv = prepare_in(&preparation, user, group, &id);
    if (rv) {
        *message = apr_pstrdup(pool, why);
    } else {
        *journal_id = apr_pstrdup(pool, id);
    }
    /* Closes the connections: none of them crosses the fork. */
    apr_pool_destroy(scratch);
    return rv;
}

/* SQLite would make a file that is not there. It is not opened here: to close it again would end this process's locks. */
static apr_status_t find_file(const preparation_t *p)
{
    struct stat facts;
    const char *path = p->place.params;
    const char *shown = text_escape(p->pool, path, PATH_SHOWN);
    char reason[200];
    if (lstat(path, &facts)) {
        apr_status_t rv = APR_FROM_OS_ERROR(errno);
        *p->message =
            apr_psprintf(p->pool, "there is no journal at %s: %s", shown, apr_strerror(rv, reason, sizeof(reason)));
        return rv;
    }
    if (!S_ISREG(facts.st_mode)) {
        return refuse(p, apr_psprintf(p->pool, "the journal's file %s is not a regular file", shown));
    }
    if (faccessat(AT_FDCWD, path, R_OK | W_OK, AT_EACCESS)) {
        apr_status_t rv = APR_FROM_OS_ERROR(errno);
        *p->message = apr_psprintf(p->pool, "the journal's file %s cannot be opened: %s", shown,
                                   apr_strerror(rv, reason, sizeof(reason)));
        return rv;
    }
    return APR_SUCCESS;
}

static apr_status_t check_version(const preparation_t *p)
{
    static const char *const TABLES[][1] = {
        [DATABASE_SQLITE] = {"SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name = 'iscep_meta'"},
        [DATABASE_PGSQL] = {"SELECT COUNT(to_regclass('iscep_meta'))"},
    };
    int tables = 0;
    int version = 0;
    apr_status_t rv = number_read(p, TABLES[p->place.kind], &tables);
    if (!rv && tables) {
        rv = version_read(p, &version);
    }
    if (rv) {
        return rv;
    }
    if (!version) {
        return refuse(p, "there is no journal in this database");
    }
    if (version > VERSION) {
        return refuse_newer(p, version);
    }
    if (version < VERSION) {
        return refuse(p, apr_psprintf(p->pool,
                                      "the journal was written by an older version of the module (schema %d, this one "
                                      "knows %d): start the server once, which brings it up to date",
                                      version, (int)VERSION));
    }
    return APR_SUCCESS;
}

static apr_status_t check_key(preparation_t *p)
{
    const char *check = key_check(p);
    const char *theirs = NULL;
    if (!check) {
        return refuse(p, "there is no memory");
    }
    apr_status_t rv = database_make(&p->database, &p->place, NULL, journal_statements, STATEMENT_COUNT, p->pool);
    if (!rv) {
        rv = meta_get(p, "key_check", &theirs);
    }
    return rv ? rv : compare_keys(p, check, theirs);
}

apr_status_t journal_check(const journal_settings_t *settings, apr_pool_t *pool, const char **message)
{
    apr_pool_t *scratch = NULL;
    const char *why = "the journal cannot be opened";
    apr_status_t rv = apr_pool_create(&scratch, pool);
    if (rv) {
        *message = why;
        return rv;
    }
    preparation_t preparation = {.settings = settings, .pool = scratch, .message = &why};
    rv = database_place_parse(&preparation.place, settings->place, scratch, &why);
    if (!rv && preparation.place.kind == DATABASE_SQLITE) {
        rv = find_file(&preparation);
    }
    if (!rv) {
        rv = check_version(&preparation);
    }
    if (!rv) {
        rv = check_key(&preparation);
    }
    if (rv) {
        *message = apr_pstrdup(pool, why);
    }
    apr_pool_destroy(scratch);
    return rv;
}
