/* SPDX-License-Identifier: Apache-2.0 */
/* What the server looks at before it starts, as far as the configuration and its files tell: httpd/setup*.c. */
#include "ctl/check.h"

#include "base/text.h"

#include <apr_cstr.h>
#include <apr_strings.h>
#include <apr_user.h>
#include <grp.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static const setting_id_t NEEDED[] = {SETTING_TENANT, SETTING_APP_ID,   SETTING_RA_CERTIFICATE,
                                      SETTING_RA_KEY, SETTING_CA_CHAIN, SETTING_BACKEND};
static const setting_id_t CREDENTIALS[] = {SETTING_APP_KEY, SETTING_APP_CERTIFICATE, SETTING_APP_TOKEN_FILE};

static bool has(const check_t *check, setting_id_t id)
{
    return check_text(check, id) != NULL;
}

static const char *missing_settings(const check_t *check)
{
    const char *missing = "";
    for (size_t i = 0; i < sizeof(NEEDED) / sizeof(NEEDED[0]); i++) {
        if (!has(check, NEEDED[i])) {
            missing = apr_pstrcat(check->pool, missing, *missing ? ", " : "", setting_name(NEEDED[i]), NULL);
        }
    }
    return missing;
}

static int credentials(const check_t *check)
{
    int count = 0;
    for (size_t i = 0; i < sizeof(CREDENTIALS) / sizeof(CREDENTIALS[0]); i++) {
        count += has(check, CREDENTIALS[i]);
    }
    return count;
}

static const char *at(const check_t *check, setting_id_t id, const char *what)
{
    return apr_pstrcat(check->pool, setting_place(check->settings, id, check->pool), ": ", what, NULL);
}

/* Directives that are nothing one without the other. Each gives NULL, or what is wrong. */

static const char *wrong_pair(const check_t *check, setting_id_t one, setting_id_t other)
{
    if (has(check, one) == has(check, other)) {
        return NULL;
    }
    setting_id_t given = has(check, one) ? one : other;
    return at(check, given,
              apr_pstrcat(check->pool, setting_name(given == one ? other : one), " is missing beside it", NULL));
}

static const char *wrong_proxy(const check_t *check)
{
    const settings_t *own = check->settings->section;
    const char *proxy = check_text(check, SETTING_HTTP_PROXY);
    const char *user = check_text(check, SETTING_HTTP_PROXY_USER);
    bool none = proxy && !strcmp(proxy, "none");
    if (none && own->set[SETTING_HTTP_PROXY].value && !own->set[SETTING_HTTP_PROXY_USER].value &&
        !own->set[SETTING_HTTP_PROXY_PASSWORD].value) {
        return NULL;
    }
    const char *wrong = wrong_pair(check, SETTING_HTTP_PROXY_USER, SETTING_HTTP_PROXY_PASSWORD);
    return wrong          ? wrong
           : user && none ? at(check, SETTING_HTTP_PROXY_USER, "IntuneScepHTTPProxy none leaves no proxy to tell it to")
           : user && strchr(user, ':') ? at(check, SETTING_HTTP_PROXY_USER, "a user's name cannot have a colon")
                                       : NULL;
}

static const char *wrong_password(const check_t *check)
{
    return has(check, SETTING_APP_CERTIFICATE_PASSWORD) && credentials(check) && !has(check, SETTING_APP_CERTIFICATE)
               ? at(check, SETTING_APP_CERTIFICATE_PASSWORD,
                    "there is no IntuneScepAppCertificate that it could be for")
               : NULL;
}

static const char *wrong_cache(const check_t *check)
{
    const char *cache = check_text(check, SETTING_SHARED_CACHE);
    apr_size_t len = strcspn(cache, ":");
    const char *name = apr_pstrmemdup(check->pool, cache, len);
    bool remote = !strcmp(name, "redis") || !strcmp(name, "memcache");
    if (!remote && strcmp(name, "shmcb")) {
        return at(check, SETTING_SHARED_CACHE, "it is not one of shmcb, redis:HOST:PORT and memcache:HOST:PORT");
    }
    return remote && !cache[len] ? at(check, SETTING_SHARED_CACHE, "HOST:PORT is missing behind it") : NULL;
}

static const char *wrong_engine(const check_t *check)
{
    return check->configured && has(check, SETTING_BACKEND) && !check->balanced && !check->engine_on &&
                   !apr_cstr_casecmpn(check_text(check, SETTING_BACKEND), "https:", 6)
               ? at(check, SETTING_BACKEND, "the CA's URL is https, but SSLProxyEngine is not On in this server")
               : NULL;
}

/* What the server's user must be able to read or run. */

/* In a process that has become that user. Nothing is wrong where nobody can tell. */
static bool user_can(const check_t *check, const char *path, int what)
{
    apr_uid_t user = 0;
    apr_gid_t users = 0;
    apr_gid_t group = 0;
    int status = 0;
    if (geteuid() || !check->user || apr_uid_get(&user, &users, check->user, check->pool) || !check->group ||
        apr_gid_get(&group, check->group, check->pool)) {
        return true;
    }
    pid_t pid = fork();
    if (!pid) {
        bool became = !setgid(group) && !initgroups(check->user, group) && !setuid(user);
        _exit(!became || !access(path, what) ? 0 : 1);
    }
    return pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status) || !WEXITSTATUS(status);
}

/* What is not there at all is said by the step that reads it. */
static const char *unreadable(const check_t *check, setting_id_t id, const char *path)
{
    return access(path, F_OK) || user_can(check, path, R_OK)
               ? NULL
               : at(check, id,
                    apr_psprintf(check->pool,
                                 "%s cannot be read by the server's user %s: see its permissions and those of its "
                                 "directories",
                                 text_escape(check->pool, path, CHECK_SHOWN), check->user));
}

static const char *wrong_rights(const check_t *check)
{
    static const setting_id_t SECRETS[] = {SETTING_APP_KEY, SETTING_APP_CERTIFICATE_PASSWORD,
                                           SETTING_HTTP_PROXY_PASSWORD};
    static const setting_id_t FILES[] = {SETTING_APP_CERTIFICATE, SETTING_APP_TOKEN_FILE, SETTING_TLS_CA_FILE,
                                         SETTING_TLS_CERTIFICATE, SETTING_CRL};
    const char *wrong = NULL;
    for (size_t i = 0; !wrong && i < sizeof(SECRETS) / sizeof(SECRETS[0]); i++) {
        if (has(check, SECRETS[i]) && !strncmp(check_text(check, SECRETS[i]), "file:", 5)) {
            wrong = unreadable(check, SECRETS[i], check_specification(check, SECRETS[i]) + 5);
        }
    }
    for (size_t i = 0; !wrong && i < sizeof(FILES) / sizeof(FILES[0]); i++) {
        wrong = has(check, FILES[i]) ? unreadable(check, FILES[i], check_text(check, FILES[i])) : NULL;
    }
    return wrong;
}

/* The server makes one that is not there. Only root, and its owner, can tell whose it should be. */
static const char *wrong_state_dir(const check_t *check)
{
    const char *directory = check_text(check, SETTING_STATE_DIR);
    const char *message = NULL;
    struct stat facts;
    bool used = check->settings->set[SETTING_STATE_DIR].value || (check->configured && !has(check, SETTING_JOURNAL));
    if (!used || stat(directory, &facts) || (geteuid() && facts.st_uid != geteuid())) {
        return NULL;
    }
    secret_path_check(directory, true, check->pool, &message);
    if (!message && !has(check, SETTING_JOURNAL) && !user_can(check, directory, W_OK)) {
        message = apr_pstrcat(check->pool, "the server's user cannot write in ", text_escape(check->pool, directory, CHECK_SHOWN),
                              NULL);
    }
    return message ? at(check, SETTING_STATE_DIR, message) : NULL;
}

static const char *wrong_command(const check_t *check)
{
    const char *command = check_text(check, SETTING_EVENT_COMMAND);
    const char *path = command ? apr_pstrmemdup(check->pool, command, strcspn(command, " ")) : NULL;
    struct stat facts;
    return path && (*path != '/' || stat(path, &facts) || !S_ISREG(facts.st_mode) || access(path, X_OK) ||
                    !user_can(check, path, X_OK))
               ? at(check, SETTING_EVENT_COMMAND,
                    "it is not the absolute path of a file that the server's user can run")
               : NULL;
}

static const char *wrong_relation(const check_t *check)
{
    static const char *(*const RELATIONS[])(const check_t *) = {
        wrong_password, wrong_proxy, wrong_cache, wrong_engine, wrong_rights, wrong_state_dir, wrong_command};
    const char *wrong = wrong_pair(check, SETTING_RA_ENCRYPTION_CERTIFICATE, SETTING_RA_ENCRYPTION_KEY);
    for (size_t i = 0; !wrong && i < sizeof(RELATIONS) / sizeof(RELATIONS[0]); i++) {
        wrong = RELATIONS[i](check);
    }
    return wrong;
}

/* Of modules that the location needs, one without a LoadModule. */
static const char *missing_module(const check_t *check)
{
    static const char *const NAMES[] = {"proxy",         "proxy_http",       "socache_shmcb", "proxy_balancer",
                                        "socache_redis", "socache_memcache", "ssl"};
    const char *cache = check_text(check, SETTING_SHARED_CACHE);
    bool https = check->backend && !apr_cstr_casecmpn(check->backend, "https:", 6);
    const bool needed[] = {true, true, true, check->balanced, !strncmp(cache, "redis", 5),
                           !strncmp(cache, "memcache", 8), https};
    for (size_t i = 0; check->modules && i < sizeof(NAMES) / sizeof(NAMES[0]); i++) {
        const char *name = apr_pstrcat(check->pool, NAMES[i], "_module", NULL);
        if (needed[i] && !apr_hash_get(check->modules, name, APR_HASH_KEY_STRING)) {
            return name;
        }
    }
    return NULL;
}

void check_settings(check_t *check, const apr_array_header_t *faults)
{
    static const char REMEDY[] = "mend it: the server does not start like this";
    const char *missing = missing_settings(check);
    const char *relation = wrong_relation(check);
    const char *module = missing_module(check);
    if (faults && faults->nelts) {
        ctl_step(check->steps, "settings", CTL_RED, REMEDY, "%s%s", APR_ARRAY_IDX(faults, 0, const char *),
                 faults->nelts > 1 ? apr_psprintf(check->pool, " (and %d more)", faults->nelts - 1) : "");
    } else if (credentials(check) > 1) {
        ctl_step(check->steps, "settings", CTL_RED, "give exactly one", "there are %d credentials for Entra",
                 credentials(check));
    } else if (*missing && check->configured) {
        ctl_step(check->steps, "settings", CTL_RED, "set it: the server does not start like this", "missing: %s%s",
                 missing, check->macros ? ", unless a macro has it: Use is not followed" : "");
    } else if (relation) {
        ctl_step(check->steps, "settings", CTL_RED, REMEDY, "%s", relation);
    } else if (module) {
        ctl_step(check->steps, "settings", CTL_YELLOW,
                 "add it: the server does not start without, unless the module is built into httpd",
                 "there is no LoadModule %s", module);
    } else {
        ctl_step(check->steps, "settings", CTL_GREEN, NULL,
                 *missing ? "good as far as they go; not given, so not checked: %s" : "all that is needed is there%s",
                 missing);
    }
}
