/* SPDX-License-Identifier: Apache-2.0 */
/* The credential of one location: an application key, a certificate or a federated token, and exactly one of them. */
#include "setup.h"

#include "intune/app_certificate.h"

#include <apr_strings.h>
#include <http_core.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

APLOG_USE_MODULE(intune_scep);

static const setting_id_t CREDENTIALS[] = {SETTING_APP_KEY, SETTING_APP_CERTIFICATE, SETTING_APP_TOKEN_FILE};

static const char *at(const settings_t *settings, setting_id_t id, const char *what, apr_pool_t *pool)
{
    return apr_pstrcat(pool, setting_place(settings, id, pool), ": ", what, NULL);
}

static const char *unreadable(const settings_t *settings, setting_id_t id, const char *path, apr_pool_t *pool)
{
    return at(
        settings, id,
        apr_psprintf(pool,
                     "%s cannot be read by the server's user, who reads it again when it is rotated: chgrp it to the "
                     "server's group and chmod 640, and let that group into its directories",
                     path),
        pool);
}

/* httpd reads its configuration twice at start: a warning is for the second time, or for a test of the
 * configuration. */
static bool is_time_to_warn(void)
{
    return ap_state_query(AP_SQ_MAIN_STATE) != AP_SQ_MS_CREATE_PRE_CONFIG ||
           ap_state_query(AP_SQ_RUN_MODE) == AP_SQ_RM_CONFIG_TEST;
}

static void warn_of_literal(const settings_t *settings, setting_id_t id, server_rec *server, apr_pool_t *pool)
{
    if (is_time_to_warn()) {
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, server,
                     "ISCEP0531: %s: the secret itself stands in the configuration, for everybody who may read that: "
                     "put it in a "
                     "file and say file:PATH",
                     setting_place(settings, id, pool));
    }
}

/* A forgotten or capitalized "file:" would make the path itself the secret, which Microsoft or a proxy then refuses. */
static bool is_mistaken(const char *literal)
{
    static const char *const WORDS[] = {"file:", "exec:", "env:"};
    struct stat facts;
    for (size_t i = 0; i < sizeof(WORDS) / sizeof(WORDS[0]); i++) {
        if (!strncasecmp(literal, WORDS[i], strlen(WORDS[i]))) {
            return true;
        }
    }
    return *literal == '/' && !stat(literal, &facts);
}

const char *setup_secret(secret_source_t **source, const settings_t *settings, setting_id_t id, server_rec *server,
                         apr_pool_t *pool)
{
    const char *specification = setting_text(settings, id);
    const char *message = NULL;
    const char *path = NULL;
    if (secret_is_literal(specification) && is_mistaken(specification)) {
        return at(settings, id,
                  "this would be the secret itself, but looks like the place of one: a file is given as file:PATH, a "
                  "command as exec:COMMAND, a variable as env:NAME, in small letters",
                  pool);
    }
    if (!strncmp(specification, "file:", 5)) {
        path = ap_server_root_relative(pool, specification + 5);
        specification = path ? apr_pstrcat(pool, "file:", path, NULL) : specification;
    }
    if (secret_source_make(source, specification, pool, &message)) {
        return at(settings, id, message, pool);
    }
    if (path && !setup_server_can(path, R_OK)) {
        return unreadable(settings, id, path, pool);
    }
    if (secret_is_literal(specification)) {
        warn_of_literal(settings, id, server, pool);
    }
    return NULL;
}

static const char *make_key(intune_settings_t *intune, const settings_t *settings, server_rec *server, apr_pool_t *pool)
{
    return setup_secret(&intune->app_key, settings, SETTING_APP_KEY, server, pool);
}

/* The second argument: a file below ServerRoot like every other path, or a URI as it stands. */
static const char *key_of(const settings_t *settings, apr_pool_t *pool)
{
    const char *key = settings->set[SETTING_APP_CERTIFICATE].second;
    if (!key || app_certificate_key_is_uri(key)) {
        return key;
    }
    const char *path = ap_server_root_relative(pool, !strncasecmp(key, "file:", 5) ? key + 5 : key);
    return path ? path : key;
}

static const char *make_certificate(intune_settings_t *intune, const settings_t *settings, server_rec *server,
                                    apr_pool_t *pool)
{
    app_certificate_settings_t from = {.certificate = setting_text(settings, SETTING_APP_CERTIFICATE),
                                       .key = key_of(settings, pool)};
    const char *message = NULL;
    if (setting_text(settings, SETTING_APP_CERTIFICATE_PASSWORD)) {
        const char *wrong = setup_secret(&from.password, settings, SETTING_APP_CERTIFICATE_PASSWORD, server, pool);
        if (wrong) {
            return wrong;
        }
    }
    if (app_certificate_make(&intune->app_certificate, &from, pool, &message)) {
        return at(settings, SETTING_APP_CERTIFICATE, message, pool);
    }
    if (!setup_server_can(from.certificate, R_OK)) {
        return unreadable(settings, SETTING_APP_CERTIFICATE, from.certificate, pool);
    }
    if (from.key && !app_certificate_key_is_uri(from.key) && !setup_server_can(from.key, R_OK)) {
        return unreadable(settings, SETTING_APP_CERTIFICATE, from.key, pool);
    }
    return NULL;
}

/* Whoever renews the file sets its rights, and may be neither root nor the server's user: so they are only told. */
static const char *make_token_file(intune_settings_t *intune, const settings_t *settings, server_rec *server,
                                   apr_pool_t *pool)
{
    struct stat facts;
    intune->app_token_file = setting_text(settings, SETTING_APP_TOKEN_FILE);
    if (stat(intune->app_token_file, &facts) || !S_ISREG(facts.st_mode)) {
        return at(settings, SETTING_APP_TOKEN_FILE,
                  apr_pstrcat(pool, intune->app_token_file, " is not there, or not a regular file", NULL), pool);
    }
    if (!setup_server_can(intune->app_token_file, R_OK)) {
        return unreadable(settings, SETTING_APP_TOKEN_FILE, intune->app_token_file, pool);
    }
    if (is_time_to_warn() && (facts.st_mode & S_IRWXO)) {
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, server,
                     "ISCEP0533: %s: %s is open to others (mode %04o): each of them can act as the application while "
                     "the token lasts",
                     setting_place(settings, SETTING_APP_TOKEN_FILE, pool), intune->app_token_file,
                     (unsigned)facts.st_mode & 07777u);
    }
    return NULL;
}

static const char *judge_number(const settings_t *settings, setting_id_t *chosen, apr_pool_t *pool)
{
    int count = 0;
    for (size_t i = 0; i < sizeof(CREDENTIALS) / sizeof(CREDENTIALS[0]); i++) {
        if (!setting_text(settings, CREDENTIALS[i])) {
            continue;
        }
        if (count++) {
            return at(settings, CREDENTIALS[i],
                      apr_pstrcat(pool, "the same location has ", setting_name(*chosen),
                                  ": give exactly one credential", NULL),
                      pool);
        }
        *chosen = CREDENTIALS[i];
    }
    if (!count) {
        return apr_psprintf(pool, "%s, %s or %s is missing for the location that %s switches on",
                            setting_name(CREDENTIALS[0]), setting_name(CREDENTIALS[1]), setting_name(CREDENTIALS[2]),
                            setting_place(settings, SETTING_ENABLED, pool));
    }
    if (*chosen != SETTING_APP_CERTIFICATE && setting_text(settings, SETTING_APP_CERTIFICATE_PASSWORD)) {
        return at(settings, SETTING_APP_CERTIFICATE_PASSWORD,
                  "there is no IntuneScepAppCertificate that it could be for", pool);
    }
    return NULL;
}

const char *setup_credential(intune_settings_t *intune, const settings_t *settings, server_rec *server,
                             apr_pool_t *pool)
{
    setting_id_t chosen = SETTING_APP_KEY;
    const char *wrong = judge_number(settings, &chosen, pool);
    if (wrong) {
        return wrong;
    }
    return chosen == SETTING_APP_KEY           ? make_key(intune, settings, server, pool)
           : chosen == SETTING_APP_CERTIFICATE ? make_certificate(intune, settings, server, pool)
                                               : make_token_file(intune, settings, server, pool);
}
