/* SPDX-License-Identifier: Apache-2.0 */
/* One profile from its directives: everything is read, loaded and held against the rest before the server starts. */
#include "setup.h"

#include <apr_strings.h>
#include <apr_uri.h>
#include <ap_mpm.h>
#include <errno.h>
#include <grp.h>
#include <sys/wait.h>
#include <unistd.h>
#include <unixd.h>

APLOG_USE_MODULE(intune_scep);

typedef struct maker_t {
    apr_pool_t *pool;
    const settings_t *settings;
    server_rec *server;
    profile_t *profile;
    const char *wrong; /* the first mistake found, as a whole sentence */
} maker_t;

static bool complain(maker_t *m, setting_id_t id, const char *what)
{
    if (!m->wrong) {
        m->wrong = apr_pstrcat(m->pool, setting_place(m->settings, id, m->pool), ": ", what, NULL);
    }
    return false;
}

static const char *text(const maker_t *m, setting_id_t id)
{
    return setting_text(m->settings, id);
}

static bool need_all(maker_t *m)
{
    static const setting_id_t NEEDED[] = {SETTING_TENANT, SETTING_APP_ID,   SETTING_RA_CERTIFICATE,
                                          SETTING_RA_KEY, SETTING_CA_CHAIN, SETTING_BACKEND};
    for (size_t i = 0; i < sizeof(NEEDED) / sizeof(NEEDED[0]); i++) {
        if (!text(m, NEEDED[i])) {
            m->wrong = apr_psprintf(m->pool, "%s is missing for the location that %s switches on",
                                    setting_name(NEEDED[i]), setting_place(m->settings, SETTING_ENABLED, m->pool));
            return false;
        }
    }
    return true;
}

static const char *with_slash(const maker_t *m, setting_id_t id, const char *of_cloud)
{
    const char *url = text(m, id) ? text(m, id) : of_cloud;
    return url[strlen(url) - 1] == '/' ? url : apr_pstrcat(m->pool, url, "/", NULL);
}

/* In a process that has become the server's user; false where that process came to no end of its own. */
static bool try_as_server(const char *path, int what, bool *can)
{
    int status = 0;
    pid_t pid = fork();
    pid_t ended = pid;
    if (pid == 0) {
        const char *user = ap_unixd_config.user_name;
        bool became = !setgid(ap_unixd_config.group_id) && (!user || !initgroups(user, ap_unixd_config.group_id)) &&
                      !setuid(ap_unixd_config.user_id);
        _exit(became && !access(path, what) ? 0 : 1);
    }
    while (pid > 0 && (ended = waitpid(pid, &status, 0)) < 0 && errno == EINTR) {
    }
    bool whole = ended > 0 && WIFEXITED(status);
    *can = whole && !WEXITSTATUS(status);
    return whole;
}

/* A trial that somebody killed, or that could not begin, says nothing about the file. */
bool setup_server_can(const char *path, int what)
{
    bool can = false;
    if (geteuid()) {
        return !access(path, what);
    }
    for (int trial = 0; trial < 3 && !try_as_server(path, what, &can); trial++) {
    }
    return can;
}

/* curl reads these files in the worker processes, with each new connection. */
static bool check_worker_reads(maker_t *m, setting_id_t id)
{
    const char *path = text(m, id);
    return setup_server_can(path, R_OK) ||
           complain(m, id,
                    apr_psprintf(m->pool,
                                 "%s cannot be read by the server's user, whose processes need it for each "
                                 "connection to Microsoft: see its permissions and those of its directories",
                                 path));
}

static bool make_tls(maker_t *m, http_settings_t *http)
{
    const char *message = NULL;
    http->ca_file = text(m, SETTING_TLS_CA_FILE);
    http->client_certificate = text(m, SETTING_TLS_CERTIFICATE);
    if (http->ca_file) {
        if (http_trust_check(http->ca_file, m->pool, &message)) {
            return complain(m, SETTING_TLS_CA_FILE, message);
        }
        if (!check_worker_reads(m, SETTING_TLS_CA_FILE)) {
            return false;
        }
    }
    if (http->client_certificate) {
        if (secret_path_check(http->client_certificate, false, m->pool, &message) ||
            http_certificate_check(http->client_certificate, m->pool, &message)) {
            return complain(m, SETTING_TLS_CERTIFICATE, message);
        }
        return check_worker_reads(m, SETTING_TLS_CERTIFICATE);
    }
    return true;
}

/* Without a port it is that of the scheme; curl would take 1080. */
static const char *proxy_url(const maker_t *m)
{
    apr_uri_t uri;
    const char *url = text(m, SETTING_HTTP_PROXY);
    if (!url || !strcmp(url, "none")) {
        return url ? "" : NULL;
    }
    apr_uri_parse(m->pool, url, &uri);
    if (uri.port_str && *uri.port_str) {
        return apr_pstrcat(m->pool, uri.scheme, "://", uri.hostinfo, NULL);
    }
    return apr_psprintf(m->pool, "%s://%s:%d", uri.scheme, uri.hostinfo, (int)apr_uri_port_of_scheme(uri.scheme));
}

/* A section that says none need not take back the user and the password of the sections around it. */
static bool proxy_is_declined(const maker_t *m, const char *proxy)
{
    const settings_t *own = m->settings->section;
    return proxy && !*proxy && own->set[SETTING_HTTP_PROXY].value && !own->set[SETTING_HTTP_PROXY_USER].value &&
           !own->set[SETTING_HTTP_PROXY_PASSWORD].value;
}

static bool make_proxy(maker_t *m, http_settings_t *http)
{
    const char *user = text(m, SETTING_HTTP_PROXY_USER);
    const char *password = text(m, SETTING_HTTP_PROXY_PASSWORD);
    http->proxy = proxy_url(m);
    if (proxy_is_declined(m, http->proxy)) {
        return true;
    }
    http->proxy_user = user;
    if (http->proxy && !http_proxy_is_possible(http->proxy)) {
        return complain(m, SETTING_HTTP_PROXY, "this libcurl cannot speak TLS to a proxy: use an http:// URL");
    }
    if (user && !password) {
        return complain(m, SETTING_HTTP_PROXY_USER, "IntuneScepHTTPProxyPassword is missing beside it");
    }
    if (password && !user) {
        return complain(m, SETTING_HTTP_PROXY_PASSWORD, "IntuneScepHTTPProxyUser is missing beside it");
    }
    if (user && http->proxy && !*http->proxy) {
        return complain(m, SETTING_HTTP_PROXY_USER, "IntuneScepHTTPProxy none leaves no proxy to tell it to");
    }
    /* It would end the name in the header that carries both (RFC 7617 section 2). */
    if (user && strchr(user, ':')) {
        return complain(m, SETTING_HTTP_PROXY_USER, "a user's name cannot have a colon");
    }
    if (password) {
        m->wrong = setup_secret(&http->proxy_password, m->settings, SETTING_HTTP_PROXY_PASSWORD, m->server, m->pool);
    }
    return !m->wrong;
}

static bool make_intune(maker_t *m)
{
    const cloud_t *cloud = setting_cloud(text(m, SETTING_CLOUD));
    intune_settings_t settings = {.tenant = text(m, SETTING_TENANT),
                                  .app_id = text(m, SETTING_APP_ID),
                                  .provider = text(m, SETTING_PROVIDER),
                                  .authority = with_slash(m, SETTING_AUTHORITY, cloud->authority),
                                  .graph_url = with_slash(m, SETTING_GRAPH_URL, cloud->graph_url),
                                  .graph_version = text(m, SETTING_GRAPH_VERSION),
                                  .intune_url = with_slash(m, SETTING_INTUNE_URL, cloud->intune_url),
                                  .intune_app_id = text(m, SETTING_INTUNE_APP_ID),
                                  .service_version = text(m, SETTING_SERVICE_VERSION),
                                  .ca_configuration = text(m, SETTING_CA_CONFIGURATION),
                                  .certificate_authority = text(m, SETTING_CERTIFICATE_AUTHORITY),
                                  .timeout = setting_duration(m->settings, SETTING_TIMEOUT),
                                  .retries = setting_number(m->settings, SETTING_RETRIES)};
    int threads = 0;
    settings.ca_configuration = settings.ca_configuration ? settings.ca_configuration : "";
    settings.certificate_authority = settings.certificate_authority ? settings.certificate_authority : "";
    ap_mpm_query(AP_MPMQ_MAX_THREADS, &threads);
    /* One for each thread that can be at it, the background's two among them. */
    settings.http.max_handles = (threads > 0 ? threads : 1) + 2;
    if (!make_tls(m, &settings.http) || !make_proxy(m, &settings.http)) {
        return false;
    }
    m->wrong = setup_credential(&settings, m->settings, m->server, m->pool);
    if (m->wrong) {
        return false;
    }
    if (intune_make(&m->profile->intune, &settings, m->pool)) {
        return complain(m, SETTING_TENANT, "the client to Microsoft cannot be made");
    }
    return true;
}

static apr_status_t free_regex(void *data)
{
    regfree(data);
    return APR_SUCCESS;
}

static bool make_challenge_match(maker_t *m)
{
    const char *how = text(m, SETTING_CHALLENGE_MATCH);
    if (!strcmp(how, "shape")) {
        m->profile->challenge_match = CHALLENGE_SHAPE;
        return true;
    }
    if (!strcmp(how, "always")) {
        m->profile->challenge_match = CHALLENGE_ALWAYS;
        return true;
    }
    regex_t *regex = apr_palloc(m->pool, sizeof(*regex));
    if (regcomp(regex, how, REG_EXTENDED | REG_NOSUB)) {
        return complain(m, SETTING_CHALLENGE_MATCH, "is not a regular expression");
    }
    apr_pool_cleanup_register(m->pool, regex, free_regex, apr_pool_cleanup_null);
    m->profile->challenge_match = CHALLENGE_REGEX;
    m->profile->challenge_regex = regex;
    return true;
}

/* mod_proxy wants a path, and the query is ours. */
static const char *backend_url(const maker_t *m)
{
    apr_uri_t uri;
    const char *url = text(m, SETTING_BACKEND);
    apr_uri_parse(m->pool, url, &uri);
    return uri.path && *uri.path ? url : apr_pstrcat(m->pool, url, "/", NULL);
}

static void say_what_after_means(const maker_t *m)
{
    ap_log_error(APLOG_MARK, APLOG_NOTICE, 0, m->server,
                 "ISCEP0502: %s: certificates of \"%s\" are delivered even when Intune does not take their report",
                 setting_place(m->settings, SETTING_NOTIFY, m->pool), m->profile->name);
}

/* What the journal does for this profile. */
static void make_journaling(maker_t *m)
{
    profile_t *profile = m->profile;
    const char *resync = text(m, SETTING_RESYNC);
    certificate_facts_t ra;
    profile->resync = !strcmp(resync, "none") ? RESYNC_NONE : !strcmp(resync, "poll") ? RESYNC_POLL : RESYNC_RESEND;
    profile->come_back = strcmp(text(m, SETTING_COME_BACK), "pending") ? COME_BACK_503 : COME_BACK_PENDING;
    profile->ca_time = setup_backend_time(m->settings, m->server);
    profile->report_time = setting_duration(m->settings, SETTING_TIMEOUT);
    profile->grace = setting_duration(m->settings, SETTING_GRACE);
    profile->pending_limit = setting_duration(m->settings, SETTING_PENDING_LIMIT);
    profile->report_limit = setting_duration(m->settings, SETTING_REPORT_LIMIT);
    profile->ra_fp = certificate_facts(&ra, profile->identity->ra_certificate, m->pool) ? "" : ra.thumbprint;
}

const char *setup_site_make(site_t **made, const settings_t *settings, const char *default_name,
                            const scep_engine_t *engine, server_rec *server, apr_pool_t *pool)
{
    site_t *site = apr_pcalloc(pool, sizeof(*site));
    profile_t *profile = apr_pcalloc(pool, sizeof(*profile));
    result_t *result = result_make(pool);
    maker_t m = {.pool = pool, .settings = settings, .server = server, .profile = profile};
    site->profile = profile;
    site->settings = settings;
    site->server = server;
    profile->name = text(&m, SETTING_NAME) ? text(&m, SETTING_NAME) : default_name;
    if (need_all(&m)) {
        m.wrong = setup_scep_make(profile, settings, engine, server, pool);
    }
    if (m.wrong || !make_intune(&m) || !make_challenge_match(&m)) {
        return m.wrong;
    }
    profile->notify = strcmp(text(&m, SETTING_NOTIFY), "after") ? NOTIFY_BEFORE : NOTIFY_AFTER;
    profile->backend = backend_url(&m);
    profile->max_message = (apr_size_t)setting_number(settings, SETTING_MAX_MESSAGE);
    make_journaling(&m);
    m.wrong = setup_backend_check(settings, server, pool);
    if (m.wrong) {
        return m.wrong;
    }
    site->nodes_have_urls = setup_backend_has_urls(settings, server);
    if (scep_identity_publish(&site->ca_body, &site->ca_type, profile->identity, pool, result)) {
        return apr_pstrcat(pool, setting_place(settings, SETTING_CA_CHAIN, pool),
                           ": GetCACert's answer cannot be made: ", result->detail ? result->detail : "no memory",
                           NULL);
    }
    if (profile->notify == NOTIFY_AFTER) {
        say_what_after_means(&m);
    }
    *made = site;
    return NULL;
}
