/* SPDX-License-Identifier: Apache-2.0 */
/* Where the journal is, and that it can be used. */
#include "setup.h"

#include <ap_mpm.h>
#include <apr_strings.h>
#include <unistd.h>
#include <unixd.h>

APLOG_USE_MODULE(intune_scep);

static const char JOURNAL_FILE[] = "journal.sqlite";
/* With a number for what is in it: the module is loaded anew by a restart, and may then be another version. */
static const char KEEP_KEY[] = "mod_intune_scep turn 1";
static const char FORMER_ID_KEY[] = "mod_intune_scep journal id 1";

bool setup_journal_wanted(const settings_t *base)
{
    const char *given = setting_text(base, SETTING_JOURNAL);
    return !given || strcmp(given, "none") != 0;
}

/* A place that holds a password can be kept elsewhere. */
static const char *place_of(const settings_t *base, apr_pool_t *pool, const char **message)
{
    const char *given = setting_text(base, SETTING_JOURNAL);
    secret_source_t *source = NULL;
    if (!given) {
        return apr_pstrcat(pool, "sqlite3:", setting_text(base, SETTING_STATE_DIR), "/", JOURNAL_FILE, NULL);
    }
    if (!strncmp(given, "file:", 5)) {
        const char *path = ap_server_root_relative(pool, given + 5);
        given = path ? apr_pstrcat(pool, "file:", path, NULL) : given;
    } else if (secret_is_literal(given)) {
        return given;
    }
    return secret_source_make(&source, given, pool, message) ? NULL : secret_reveal(secret_source_read(source, pool));
}

static const char *directory_of(const char *path, apr_pool_t *pool)
{
    const char *slash = strrchr(path, '/');
    return slash == path ? "/" : apr_pstrmemdup(pool, path, (apr_size_t)(slash - path));
}

const char *setup_journal(gateway_t *gateway, const settings_t *base, server_rec *server, apr_pool_t *pool)
{
    const char *message = "it cannot be used";
    database_place_t place;
    gateway->journal_place = setting_place(base, SETTING_JOURNAL, pool);
    if (!setup_journal_wanted(base)) {
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, server,
                     "ISCEP0541: %s: without a journal a report is lost when Intune does not take it at once, and a "
                     "device that comes again gets a second certificate",
                     gateway->journal_place);
        return NULL;
    }
    const char *text = place_of(base, pool, &message);
    journal_settings_t *settings = apr_pcalloc(pool, sizeof(*settings));
    if (!text || database_place_parse(&place, text, pool, &message)) {
        return apr_pstrcat(pool, gateway->journal_place, ": ", message, NULL);
    }
    if (place.kind == DATABASE_SQLITE && !setup_server_can(directory_of(place.params, pool), W_OK | X_OK)) {
        return apr_psprintf(
            pool,
            "%s: the server's user cannot write in %s, where SQLite keeps files beside the journal: see its "
            "permissions and those of the directories above",
            gateway->journal_place, directory_of(place.params, pool));
    }
    settings->place = text;
    settings->state_key = gateway->state_key;
    settings->tag = journal_tag(pool);
    if (!settings->tag) {
        return "OpenSSL has no random numbers";
    }
    gateway->journal = settings;
    return NULL;
}

static bool is_restart(void)
{
    int generation = 0;
    return !ap_mpm_query(AP_MPMQ_GENERATION, &generation) && generation > 0;
}

/* One for the life of the server, so that the processes before and after a graceful restart share it. */
static turn_t *turn_of(const server_rec *server)
{
    void *turn = NULL;
    apr_pool_userdata_get(&turn, KEEP_KEY, server->process->pool);
    if (!turn) {
        turn = turn_make();
        apr_pool_userdata_set(turn, apr_pstrdup(server->process->pool, KEEP_KEY), apr_pool_cleanup_null,
                              server->process->pool);
    }
    return turn;
}

/* Another file, or the same one that was removed: nobody looks into the former journal any more. */
static void tell_of_former(const gateway_t *gateway, const char *id, server_rec *server)
{
    apr_pool_t *pool = server->process->pool;
    void *former = NULL;
    apr_pool_userdata_get(&former, FORMER_ID_KEY, pool);
    if (former && strcmp(former, id)) {
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, server,
                     "ISCEP0565: %s: before this restart the journal was %s, now it is %s: reports that are owed in the "
                     "former one are not sent, and devices that come again get a second certificate",
                     gateway->journal_place, (const char *)former, id);
    }
    if (!former || strcmp(former, id)) {
        apr_pool_userdata_set(apr_pstrdup(pool, id), apr_pstrdup(pool, FORMER_ID_KEY), apr_pool_cleanup_null, pool);
    }
}

apr_status_t journal_start(gateway_t *gateway, server_rec *server, apr_pool_t *pconf)
{
    const char *message = NULL;
    const char *id = NULL;
    bool is_root = geteuid() == 0;
    if (!gateway->journal) {
        return APR_SUCCESS;
    }
    gateway->journal->turn = turn_of(server);
    apr_status_t rv = journal_prepare(gateway->journal, is_root ? ap_unixd_config.user_id : geteuid(),
                                      is_root ? ap_unixd_config.group_id : getegid(), &id, pconf, &message);
    /* A restart must not end the server because a database is away; nor must a start, where waiting may help. */
    if (rv && rv != JOURNAL_MISMATCH && (is_restart() || !strncmp(gateway->journal->place, "pgsql:", 6))) {
        gateway->journal->unprepared = true;
        ap_log_error(APLOG_MARK, APLOG_ERR, 0, server,
                     "ISCEP0544: %s: the journal cannot be used now: %s; enrolments get 503 until it can",
                     gateway->journal_place, message);
        return APR_SUCCESS;
    }
    if (rv) {
        ap_log_error(APLOG_MARK, APLOG_EMERG, 0, server, "ISCEP0540: %s: %s", gateway->journal_place, message);
        return rv;
    }
    gateway->journal->id = id;
    ap_log_error(APLOG_MARK, APLOG_INFO, 0, server,
                 "ISCEP0542: the journal %s is used; machines that show another id "
                 "are gateways of their own",
                 id);
    tell_of_former(gateway, id, server);
    return APR_SUCCESS;
}
