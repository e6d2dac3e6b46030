/* SPDX-License-Identifier: Apache-2.0 */
#include "journal_fixture.h"

#include "base/clock.h"
#include "base/text.h"
#include "outside_fixture.h"

#include <apr_dbd.h>
#include <apr_strings.h>
#include <dirent.h>
#include <fcntl.h>
#include <glob.h>
#include <grp.h>
#include <netinet/in.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { START_TRIES = 200 };

struct raw_t {
    apr_pool_t *pool;
    const apr_dbd_driver_t *driver;
    apr_dbd_t *handle;
};

/* The cluster of this program. */
static struct {
    bool tried;
    const char *missing; /* why there is none */
    char bin[200];
    char folder[40];
    int port;
    pid_t server;
    uid_t user;
    gid_t group;
} cluster;

static void folder_remove(const char *path)
{
    char command[300];
    snprintf(command, sizeof(command), "rm -rf '%s'", path);
    if (system(command)) {
        print_message("%s was left behind\n", path);
    }
}

static int free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(address);
    int one = socket(AF_INET, SOCK_STREAM, 0);
    int bad = bind(one, (struct sockaddr *)&address, length) || getsockname(one, (struct sockaddr *)&address, &length);
    close(one);
    return bad ? 0 : ntohs(address.sin_port);
}

/* The server refuses to run as root. */
static pid_t run_as_postgres(char *const *argv)
{
    pid_t parent = getpid();
    pid_t child = fork();
    if (child) {
        return child;
    }
    char path[60];
    snprintf(path, sizeof(path), "%s/log", cluster.folder);
    int log = open(path, O_WRONLY | O_CREAT | O_APPEND, 0666);
    dup2(open("/dev/null", O_RDONLY), 0);
    dup2(log, 1);
    dup2(log, 2);
    if (!geteuid() && (setgroups(0, NULL) || setgid(cluster.group) || setuid(cluster.user))) {
        _exit(126);
    }
    setenv("LC_ALL", "C", 1);
    /* A test program that dies leaves no server behind. */
    prctl(PR_SET_PDEATHSIG, SIGQUIT);
    if (getppid() == parent) {
        execv(argv[0], argv);
    }
    _exit(127);
}

static bool answers(void)
{
    apr_pool_t *pool = NULL;
    const apr_dbd_driver_t *driver = NULL;
    apr_dbd_t *handle = NULL;
    apr_pool_create(&pool, NULL);
    bool good = !apr_dbd_get_driver(pool, "pgsql", &driver) &&
                !apr_dbd_open(driver, pool,
                              apr_psprintf(pool, "host=%s port=%d user=postgres dbname=postgres connect_timeout=2",
                                           cluster.folder, cluster.port),
                              &handle);
    if (good) {
        apr_dbd_close(driver, handle);
    }
    apr_pool_destroy(pool);
    return good;
}

static bool wait_for_server(void)
{
    for (int i = 0; i < START_TRIES; i++) {
        if (answers()) {
            return true;
        }
        if (waitpid(cluster.server, NULL, WNOHANG) == cluster.server) {
            cluster.server = 0;
            return false;
        }
        apr_sleep(apr_time_from_msec(50));
    }
    return false;
}

static bool server_start(void)
{
    char program[220], data[60], port[12], sockets[80];
    snprintf(program, sizeof(program), "%s/postgres", cluster.bin);
    snprintf(data, sizeof(data), "%s/data", cluster.folder);
    snprintf(port, sizeof(port), "%d", cluster.port);
    snprintf(sockets, sizeof(sockets), "unix_socket_directories=%s", cluster.folder);
    char *argv[] = {program, (char[]){"-D"}, data, (char[]){"-p"}, port, (char[]){"-c"}, sockets,
                    (char[]){"-c"}, (char[]){"listen_addresses=127.0.0.1"}, (char[]){"-c"},
                    (char[]){"shared_buffers=16MB"}, (char[]){"-c"}, (char[]){"fsync=off"}, NULL};
    cluster.server = run_as_postgres(argv);
    return wait_for_server();
}

static bool cluster_make(void)
{
    char program[220], data[60];
    int status = 0;
    snprintf(program, sizeof(program), "%s/initdb", cluster.bin);
    snprintf(data, sizeof(data), "%s/data", cluster.folder);
    char *argv[] = {program, (char[]){"-D"}, data, (char[]){"-A"}, (char[]){"trust"}, (char[]){"-U"},
                    (char[]){"postgres"}, (char[]){"-E"}, (char[]){"UTF8"}, (char[]){"--locale=C"},
                    (char[]){"--no-sync"}, NULL};
    return waitpid(run_as_postgres(argv), &status, 0) > 0 && !status && server_start();
}

/* Why there can be none, or NULL. */
static const char *cluster_find(void)
{
    const apr_dbd_driver_t *driver = NULL;
    apr_pool_t *pool = NULL;
    glob_t found;
    apr_pool_create(&pool, NULL);
    apr_status_t rv = apr_dbd_get_driver(pool, "pgsql", &driver);
    apr_pool_destroy(pool);
    if (rv) {
        return "the package libaprutil1-dbd-pgsql is missing";
    }
    if (glob("/usr/lib/postgresql/*/bin/initdb", 0, NULL, &found)) {
        return "the package postgresql is missing";
    }
    snprintf(cluster.bin, sizeof(cluster.bin), "%.*s", (int)(strlen(found.gl_pathv[found.gl_pathc - 1]) - 7),
             found.gl_pathv[found.gl_pathc - 1]);
    globfree(&found);
    const struct passwd *user = geteuid() ? getpwuid(geteuid()) : getpwnam("postgres");
    if (!user) {
        return "there is no user postgres";
    }
    cluster.user = user->pw_uid;
    cluster.group = user->pw_gid;
    return NULL;
}

static bool cluster_begin(void)
{
    if (cluster.tried) {
        return !cluster.missing;
    }
    cluster.tried = true;
    cluster.missing = cluster_find();
    if (cluster.missing) {
        return false;
    }
    strcpy(cluster.folder, "/tmp/iscep-postgres-XXXXXX");
    cluster.port = free_port();
    assert_non_null(mkdtemp(cluster.folder));
    assert_int_equal(chown(cluster.folder, cluster.user, cluster.group), 0);
    if (!cluster_make()) {
        fail_msg("PostgreSQL does not start: see %s/log", cluster.folder);
    }
    return true;
}

/* The test's own; others on this machine are not ours. */
static void signal_all(int number)
{
    char path[64];
    DIR *processes = opendir("/proc");
    const struct dirent *entry = NULL;
    while ((entry = readdir(processes))) {
        int pid = atoi(entry->d_name);
        int parent = 0;
        snprintf(path, sizeof(path), "/proc/%d/stat", pid);
        FILE *file = pid > 0 ? fopen(path, "r") : NULL;
        if (file && fscanf(file, "%*d (%*[^)]) %*c %d", &parent) == 1 && parent == cluster.server) {
            kill(pid, number);
        }
        if (file) {
            fclose(file);
        }
    }
    closedir(processes);
    kill(cluster.server, number);
}

void postgres_freeze(bool frozen)
{
    signal_all(frozen ? SIGSTOP : SIGCONT);
}

void postgres_stop(void)
{
    if (cluster.server > 0) {
        kill(cluster.server, SIGQUIT);
        waitpid(cluster.server, NULL, 0);
        cluster.server = 0;
    }
}

void postgres_start(void)
{
    assert_true(server_start());
}

int journal_beds_end(void **state)
{
    (void)state;
    if (cluster.server > 0) {
        postgres_freeze(false);
    }
    postgres_stop();
    if (*cluster.folder) {
        folder_remove(cluster.folder);
    }
    return 0;
}

void journal_bed_open(journal_bed_t *bed)
{
    const char *message = "";
    apr_pool_create(&bed->journal_pool, bed->pool);
    if (journal_open(&bed->journal, &bed->settings, bed->journal_pool, &message)) {
        fail_msg("%s", message);
    }
}

void journal_bed_close(journal_bed_t *bed)
{
    if (bed->journal_pool) {
        apr_pool_destroy(bed->journal_pool);
    }
    bed->journal_pool = NULL;
    bed->journal = NULL;
}

journal_t *journal_bed_other(journal_bed_t *bed, const journal_settings_t *settings)
{
    journal_t *other = NULL;
    const char *message = "";
    if (journal_open(&other, settings, bed->pool, &message)) {
        fail_msg("%s", message);
    }
    return other;
}

static int bed_make(journal_bed_t *bed)
{
    const char *id = NULL;
    const char *message = "";
    char *folder = apr_pstrdup(bed->pool, "/tmp/iscep-journal-XXXXXX");
    bed->folder = mkdtemp(folder);
    bed->file = apr_pstrcat(bed->pool, folder, "/journal.sqlite", NULL);
    bed->settings.tag = journal_tag(bed->pool);
    bed->settings.state_key = outside_key('k', bed->pool);
    bed->settings.place = apr_pstrcat(bed->pool, "sqlite3:", bed->file, NULL);
    if (bed->kind == DATABASE_PGSQL) {
        bed->settings.place = apr_psprintf(bed->pool, "pgsql:host=%s port=%d user=postgres dbname=postgres",
                                           cluster.folder, cluster.port);
        raw_t *raw = raw_open(bed);
        raw_run(raw, "DROP TABLE IF EXISTS iscep_journal, iscep_meta, plain");
        raw_close(raw);
    }
    if (journal_prepare(&bed->settings, geteuid(), getegid(), &id, bed->pool, &message)) {
        print_message("%s\n", message);
        return -1;
    }
    journal_bed_open(bed);
    return 0;
}

int journal_bed_begin(void **state)
{
    const char *kind = *state;
    apr_pool_t *pool = NULL;
    if (apr_pool_create(&pool, NULL) || apr_dbd_init(pool)) {
        return -1;
    }
    journal_bed_t *bed = apr_pcalloc(pool, sizeof(*bed));
    bed->pool = pool;
    bed->kind = strcmp(kind, "pgsql") ? DATABASE_SQLITE : DATABASE_PGSQL;
    *state = bed;
    const apr_dbd_driver_t *driver = NULL;
    bed->absent = bed->kind == DATABASE_PGSQL ? !cluster_begin() : apr_dbd_get_driver(pool, "sqlite3", &driver) != 0;
    return bed->absent ? 0 : bed_make(bed);
}

int journal_bed_end(void **state)
{
    journal_bed_t *bed = *state;
    clock_shift(0);
    journal_bed_close(bed);
    if (bed->folder) {
        folder_remove(bed->folder);
    }
    apr_pool_destroy(bed->pool);
    return 0;
}

journal_bed_t *journal_bed(void **state)
{
    journal_bed_t *bed = *state;
    if (bed->absent) {
        print_message("skipped: %s\n",
                      bed->kind == DATABASE_PGSQL ? cluster.missing : "the package libaprutil1-dbd-sqlite3 is missing");
        skip();
    }
    return bed;
}

journal_intent_t journal_bed_intent(journal_bed_t *bed, const char *transaction, const char *csr)
{
    journal_intent_t intent = {.location = "profile", .transaction_id = transaction, .key_fp = "4B4559",
                               .ra_fp = "5241", .lease = apr_time_from_sec(60), .grace = apr_time_from_sec(60)};
    intent.csr = bytes_of_text(csr);
    intent.id = journal_id(intent.location, transaction, intent.csr, bed->pool);
    intent.request_id = text_uuid(bed->pool);
    return intent;
}

journal_row_t *journal_bed_row(journal_bed_t *bed, const char *transaction)
{
    const char *message = "";
    journal_row_t *row = NULL;
    journal_intent_t intent =
        journal_bed_intent(bed, transaction, apr_pstrcat(bed->pool, "csr of ", transaction, NULL));
    if (journal_begin(bed->journal, &intent, &row, bed->pool, &message)) {
        fail_msg("%s", message);
    }
    return row;
}

journal_row_t *journal_bed_find(journal_bed_t *bed, const char *id)
{
    const char *message = "";
    journal_row_t *row = NULL;
    apr_status_t rv = journal_find(bed->journal, id, &row, bed->pool, &message);
    if (rv) {
        fail_msg("no row %s: %d %s", id, rv, message);
    }
    return row;
}

raw_t *raw_open(journal_bed_t *bed)
{
    raw_t *raw = apr_pcalloc(bed->pool, sizeof(*raw));
    raw->pool = bed->pool;
    assert_int_equal(
        apr_dbd_get_driver(bed->pool, bed->kind == DATABASE_PGSQL ? "pgsql" : "sqlite3", &raw->driver), 0);
    assert_int_equal(apr_dbd_open(raw->driver, bed->pool, strchr(bed->settings.place, ':') + 1, &raw->handle), 0);
    return raw;
}

void raw_close(raw_t *raw)
{
    apr_dbd_close(raw->driver, raw->handle);
}

int raw_try(raw_t *raw, const char *format, ...)
{
    int rows = 0;
    va_list list;
    va_start(list, format);
    int rv = apr_dbd_query(raw->driver, raw->handle, &rows, apr_pvsprintf(raw->pool, format, list));
    va_end(list);
    return rv;
}

void raw_run(raw_t *raw, const char *format, ...)
{
    int rows = 0;
    va_list list;
    va_start(list, format);
    const char *sql = apr_pvsprintf(raw->pool, format, list);
    va_end(list);
    int rv = apr_dbd_query(raw->driver, raw->handle, &rows, sql);
    if (rv) {
        fail_msg("%s: %s", sql, apr_dbd_error(raw->driver, raw->handle, rv));
    }
}

static const char *first(raw_t *raw, const char *sql)
{
    apr_dbd_results_t *results = NULL;
    apr_dbd_row_t *row = NULL;
    const char *text = NULL;
    int rv = apr_dbd_select(raw->driver, raw->pool, raw->handle, &results, sql, 1);
    if (rv) {
        fail_msg("%s: %s", sql, apr_dbd_error(raw->driver, raw->handle, rv));
    }
    while (!apr_dbd_get_row(raw->driver, raw->pool, results, &row, -1)) {
        const char *entry = apr_dbd_get_entry(raw->driver, row, 0);
        text = text ? text : entry && *entry ? apr_pstrdup(raw->pool, entry) : NULL;
    }
    return text;
}

const char *raw_text(raw_t *raw, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    const char *sql = apr_pvsprintf(raw->pool, format, list);
    va_end(list);
    return first(raw, sql);
}

int raw_number(raw_t *raw, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    const char *sql = apr_pvsprintf(raw->pool, format, list);
    va_end(list);
    const char *text = first(raw, sql);
    return text ? atoi(text) : 0;
}

int in_other_process(journal_bed_t *bed, int (*function)(journal_bed_t *bed, void *data), void *data)
{
    int status = 0;
    journal_bed_close(bed);
    pid_t child = fork();
    if (!child) {
        _exit(function(bed, data));
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    journal_bed_open(bed);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}
