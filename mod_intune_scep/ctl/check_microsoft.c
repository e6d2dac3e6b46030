/* SPDX-License-Identifier: Apache-2.0 */
/* Microsoft's side, one step after the other as a validation takes them. */
#include "ctl/check.h"

#include "base/clock.h"
#include "base/text.h"
#include "intune/app_certificate.h"
#include "intune/probe.h"
#include "store/shared_cache.h"

#include <apr_strings.h>
#include <apr_uri.h>
#include <sys/stat.h>
#include <unistd.h>

enum { THROW_AWAY_BITS = 2048, ID_BYTES = 20 };

#define THROW_AWAY_SUBJECT "/O=intune-scepctl/CN=throw-away request of a check"
#define MADE_UP_CHALLENGE "this is not a challenge of Intune's, but a check of the way to it"

/* What earlier steps found. */
typedef struct microsoft_t {
    check_t *check;
    intune_settings_t settings;
    intune_t *intune;
    intune_token_facts_t graph;
    intune_token_facts_t service;
    bool has_graph;
    bool has_service;
    bool is_located;
    problem_t location_problem;
    problem_t validation_problem;
    bool is_validated; /* Intune answered as it should */
} microsoft_t;

static void step(microsoft_t *m, const char *name, ctl_colour_t colour, const char *remedy, const char *text)
{
    ctl_step(m->check->steps, name, colour, remedy, "%s", text);
}

/* The credential. */

static ctl_colour_t key_take(microsoft_t *m, const char **text)
{
    const char *message = NULL;
    if (secret_source_make(&m->settings.app_key, check_specification(m->check, SETTING_APP_KEY), m->check->pool,
                           &message)) {
        *text = apr_pstrcat(m->check->pool, "IntuneScepAppKey: ", message, NULL);
        return CTL_RED;
    }
    *text = "the application key can be read";
    return CTL_GREEN;
}

static ctl_colour_t certificate_take(microsoft_t *m, const char **text)
{
    check_t *check = m->check;
    app_certificate_settings_t from = {.certificate = check_text(check, SETTING_APP_CERTIFICATE)};
    const char *key = check->settings->set[SETTING_APP_CERTIFICATE].second;
    const char *message = NULL;
    from.key = !key || app_certificate_key_is_uri(key) ? key : check_path(check, SETTING_APP_CERTIFICATE, key);
    if (check_text(check, SETTING_APP_CERTIFICATE_PASSWORD) &&
        secret_source_make(&from.password, check_specification(check, SETTING_APP_CERTIFICATE_PASSWORD), check->pool,
                           &message)) {
        *text = apr_pstrcat(check->pool, "IntuneScepAppCertificatePassword: ", message, NULL);
        return CTL_RED;
    }
    if (app_certificate_make(&m->settings.app_certificate, &from, check->pool, &message)) {
        *text = apr_pstrcat(check->pool, "IntuneScepAppCertificate: ", message, NULL);
        return CTL_RED;
    }
    apr_int64_t days = apr_time_sec(app_certificate_expires(m->settings.app_certificate) - clock_now()) / 86400;
    *text = apr_psprintf(check->pool, "the application's certificate and key can be read, and expire in %d days",
                         (int)days);
    return days < CHECK_RED_DAYS ? CTL_RED : days < CHECK_YELLOW_DAYS ? CTL_YELLOW : CTL_GREEN;
}

static ctl_colour_t token_file_take(microsoft_t *m, const char **text)
{
    const char *path = check_text(m->check, SETTING_APP_TOKEN_FILE);
    struct stat facts;
    bool good = !stat(path, &facts) && S_ISREG(facts.st_mode) && !access(path, R_OK);
    m->settings.app_token_file = path;
    *text = apr_pstrcat(m->check->pool, "the federated token's file ", text_escape(m->check->pool, path, CHECK_SHOWN),
                        good ? " can be read" : " cannot be read, or is not a regular file", NULL);
    return good ? CTL_GREEN : CTL_RED;
}

/* False: there is none to go on with. */
static bool credential_check(microsoft_t *m)
{
    const check_t *check = m->check;
    const char *text = NULL;
    const char *remedy = "mend the file; the server's user must be able to read it, and nobody else";
    ctl_colour_t colour = CTL_SKIPPED;
    if (check_text(check, SETTING_APP_KEY)) {
        colour = key_take(m, &text);
    } else if (check_text(check, SETTING_APP_CERTIFICATE)) {
        colour = certificate_take(m, &text);
        remedy = m->settings.app_certificate ? "upload a new certificate in Entra, and exchange the files" : remedy;
    } else if (check_text(check, SETTING_APP_TOKEN_FILE)) {
        colour = token_file_take(m, &text);
    } else {
        colour = check->configured ? CTL_RED : CTL_SKIPPED;
        text = "IntuneScepAppKey, IntuneScepAppCertificate or IntuneScepAppTokenFile is missing";
        remedy = "set one of them";
    }
    step(m, "credential", colour, colour == CTL_GREEN || colour == CTL_SKIPPED ? NULL : remedy, text);
    return m->settings.app_key || m->settings.app_certificate || (m->settings.app_token_file && colour == CTL_GREEN);
}

/* The client. */

static const char *with_slash(const check_t *check, setting_id_t id, const char *of_cloud)
{
    const char *url = check_text(check, id) ? check_text(check, id) : of_cloud;
    return url[strlen(url) - 1] == '/' ? url : apr_pstrcat(check->pool, url, "/", NULL);
}

static void urls_take(microsoft_t *m)
{
    const check_t *check = m->check;
    const cloud_t *cloud = setting_cloud(check_text(check, SETTING_CLOUD));
    intune_settings_t *settings = &m->settings;
    settings->tenant = check_text(check, SETTING_TENANT);
    settings->app_id = check_text(check, SETTING_APP_ID);
    settings->provider = check_text(check, SETTING_PROVIDER);
    settings->authority = with_slash(check, SETTING_AUTHORITY, cloud->authority);
    settings->graph_url = with_slash(check, SETTING_GRAPH_URL, cloud->graph_url);
    settings->graph_version = check_text(check, SETTING_GRAPH_VERSION);
    settings->intune_url = with_slash(check, SETTING_INTUNE_URL, cloud->intune_url);
    settings->intune_app_id = check_text(check, SETTING_INTUNE_APP_ID);
    settings->service_version = check_text(check, SETTING_SERVICE_VERSION);
    settings->timeout = setting_duration(check->settings, SETTING_TIMEOUT);
    settings->retries = setting_number(check->settings, SETTING_RETRIES);
}

/* Without a port it is that of the scheme; curl would take 1080. */
static const char *proxy_url(const check_t *check, const char *url)
{
    apr_uri_t uri;
    if (!url || apr_uri_parse(check->pool, url, &uri)) {
        return url;
    }
    bool has_port = uri.port_str && *uri.port_str;
    return apr_psprintf(check->pool, "%s://%s%s%s", uri.scheme, uri.hostinfo, has_port ? "" : ":",
                        has_port ? "" : apr_itoa(check->pool, apr_uri_port_of_scheme(uri.scheme)));
}

/* NULL, or what is wrong. */
static const char *network_take(microsoft_t *m)
{
    const check_t *check = m->check;
    http_settings_t *http = &m->settings.http;
    const char *proxy = check_text(check, SETTING_HTTP_PROXY);
    const char *message = NULL;
    http->max_handles = 1;
    http->ca_file = check_text(check, SETTING_TLS_CA_FILE);
    http->client_certificate = check_text(check, SETTING_TLS_CERTIFICATE);
    http->proxy = proxy && !strcmp(proxy, "none") ? "" : proxy_url(check, proxy);
    http->proxy_user = http->proxy && !*http->proxy ? NULL : check_text(check, SETTING_HTTP_PROXY_USER);
    if (http->ca_file && http_trust_check(http->ca_file, check->pool, &message)) {
        return apr_pstrcat(check->pool, "IntuneScepTLSCAFile: ", message, NULL);
    }
    if (http->client_certificate &&
        (secret_path_check(http->client_certificate, false, check->pool, &message) ||
         http_certificate_check(http->client_certificate, check->pool, &message))) {
        return apr_pstrcat(check->pool, "IntuneScepTLSCertificate: ", message, NULL);
    }
    if (http->proxy_user && check_text(check, SETTING_HTTP_PROXY_PASSWORD) &&
        secret_source_make(&http->proxy_password, check_specification(check, SETTING_HTTP_PROXY_PASSWORD), check->pool,
                           &message)) {
        return apr_pstrcat(check->pool, "IntuneScepHTTPProxyPassword: ", message, NULL);
    }
    return NULL;
}

static const char *client_make(microsoft_t *m)
{
    apr_pool_t *pool = m->check->pool;
    cache_provider_t *provider = NULL;
    const char *message = network_take(m);
    if (message) {
        return message;
    }
    if (http_global_init() || memory_provider_make(&provider, pool) || intune_make(&m->intune, &m->settings, pool)) {
        return "libcurl cannot be used, or memory ran out";
    }
    return intune_attach(m->intune, shared_cache_make(provider, pool), pool, &message) ? message : NULL;
}

/* The calls. */

static intune_call_t call_make(const microsoft_t *m)
{
    intune_call_t call = {.pool = m->check->pool, .result = result_make(m->check->pool)};
    return call;
}

/* What went wrong, as the log would say it; the remedy is the code's meaning where there is one. */
static void fault(microsoft_t *m, const char *name, const intune_call_t *call)
{
    const result_t *result = call->result;
    const problem_facts_t *facts = problem_facts(result->problem);
    const char *meaning = intune_code_meaning(result->code);
    ctl_step(m->check->steps, name, CTL_RED, meaning ? meaning : facts->remedy, "%s%s%s%s%s%s%s%s", facts->what,
             result->detail ? ": " : "", result->detail ? result->detail : "", result->code ? " (code " : "",
             result->code ? result->code : "", result->code ? ")" : "", call->request_id ? ", client-request-id " : "",
             call->request_id ? call->request_id : "");
}

static void skip(microsoft_t *m, const char *name, const char *why)
{
    step(m, name, CTL_SKIPPED, NULL, why);
}

static bool token_check(microsoft_t *m, const char *name, intune_resource_t resource, intune_token_facts_t *facts)
{
    intune_call_t call = call_make(m);
    if (intune_probe_token(m->intune, &call, resource, facts)) {
        fault(m, name, &call);
        return false;
    }
    ctl_step(m->check->steps, name, CTL_GREEN, NULL, "Entra gave a token for %s, usable for %d s",
             resource == INTUNE_RESOURCE_GRAPH ? "Graph" : "Intune",
             (int)apr_time_sec(facts->usable_until - clock_now()));
    return true;
}

static void location_check(microsoft_t *m)
{
    intune_call_t call = call_make(m);
    const char *uri = NULL;
    if (!m->has_graph) {
        skip(m, "discovery", "there is no token for Graph");
        return;
    }
    m->is_located = !intune_probe_location(m->intune, &call, &uri);
    m->location_problem = call.result->problem;
    if (m->is_located) {
        ctl_step(m->check->steps, "discovery", CTL_GREEN, NULL, "Graph says that the SCEP service is at %s", uri);
    } else {
        fault(m, "discovery", &call);
    }
}

static bool request_make(const microsoft_t *m, csr_t *csr, const char **why)
{
    apr_pool_t *pool = m->check->pool;
    const char *challenge = text_base64(pool, bytes_of_text(MADE_UP_CHALLENGE));
    scep_wish_t wish = {.subject = THROW_AWAY_SUBJECT,
                        .challenge = secret_make(pool, challenge, strlen(challenge)),
                        .usage = CLIENT_SIGNS};
    EVP_PKEY *key = scep_client_key_make(m->check->engine, THROW_AWAY_BITS, pool);
    *why = "no key can be made";
    return key && !scep_client_csr_make(csr, m->check->engine, key, &wish, pool, why);
}

/* Intune has read the request and looked at its challenge. */
static bool is_about_the_challenge(const char *code)
{
    return code && ((!strncmp(code, "Challenge", 9) && strcmp(code, "ChallengePasswordMissing")) ||
                    !strcmp(code, "SignatureValidationFailed"));
}

static void answer_judge(microsoft_t *m, const intune_call_t *call, apr_status_t rv)
{
    const result_t *result = call->result;
    if (!rv) {
        step(m, "validation", CTL_RED,
             "find out what answers in Intune's place: see IntuneScepAuthority, IntuneScepGraphURL and "
             "IntuneScepIntuneURL",
             "Intune answered Success to a made-up challenge: whatever it is, it does not validate");
    } else if (result->problem != PROBLEM_INTUNE_REFUSED) {
        fault(m, "validation", call);
    } else if (is_about_the_challenge(result->code)) {
        m->is_validated = true;
        ctl_step(m->check->steps, "validation", CTL_GREEN, NULL,
                 "Intune looked at a made-up challenge and answered %s, as it should, after %d ms", result->code,
                 (int)apr_time_as_msec(call->duration));
    } else {
        ctl_step(m->check->steps, "validation", CTL_YELLOW, intune_code_meaning(result->code),
                 "Intune answered %s where a challenge error was expected", result->code);
    }
}

static void validation_check(microsoft_t *m)
{
    intune_call_t call = call_make(m);
    csr_t csr;
    const char *why = NULL;
    if (!m->has_service || !m->is_located) {
        skip(m, "validation",
             m->has_service ? "it is not known where the SCEP service is" : "there is no token for Intune");
        return;
    }
    if (!request_make(m, &csr, &why)) {
        step(m, "validation", CTL_RED, NULL, why);
        return;
    }
    apr_status_t rv = intune_validate(m->intune, &call, text_random_hex(m->check->pool, ID_BYTES), csr.der);
    m->validation_problem = call.result->problem;
    answer_judge(m, &call, rv);
}

/* The permissions: told by the tokens, where they let themselves be read, and by what Graph and Intune did. */

static bool has_role(const intune_token_facts_t *facts, const char *role)
{
    return strstr(facts->roles, role) != NULL;
}

static void permissions_check(microsoft_t *m)
{
    static const char REMEDY[] = "grant the application Graph Application.Read.All and Intune scep_challenge_provider, "
                                 "both as application permissions with admin consent";
    apr_pool_t *pool = m->check->pool;
    bool denied = m->validation_problem == PROBLEM_INTUNE_DENIED;
    bool lacks_intune = m->has_service && m->service.has_roles && !has_role(&m->service, "scep_challenge_provider");
    bool lacks_graph =
        m->has_graph && m->graph.has_roles && !m->is_located && !has_role(&m->graph, "Application.Read.All");
    bool unlocated = m->has_graph && !m->is_located && m->location_problem == PROBLEM_LOCATION_UNAVAILABLE;
    if (!m->has_graph && !m->has_service) {
        skip(m, "permissions", "there are no tokens");
    } else if (denied || lacks_intune || lacks_graph) {
        step(m, "permissions", CTL_RED, REMEDY,
             apr_pstrcat(pool, "the application lacks a permission:", lacks_graph ? " Graph Application.Read.All" : "",
                         lacks_intune || denied ? " Intune scep_challenge_provider" : "", NULL));
    } else if (unlocated || !m->has_graph || !m->has_service) {
        step(m, "permissions", unlocated ? CTL_YELLOW : CTL_SKIPPED, unlocated ? REMEDY : NULL,
             "cannot be told: see the steps before");
    } else if (m->is_validated || m->service.has_roles) {
        step(m, "permissions", CTL_GREEN, NULL, "Graph and Intune let the application in");
    } else {
        skip(m, "permissions", "cannot be told: see the steps before");
    }
}

void check_microsoft(check_t *check)
{
    static const char *const STEPS[] = {"graph-token", "intune-token", "discovery", "validation", "permissions"};
    microsoft_t m = {.check = check};
    const char *wrong = NULL;
    if (!check_text(check, SETTING_TENANT) || !check_text(check, SETTING_APP_ID)) {
        wrong = "IntuneScepTenant or IntuneScepAppID is missing";
    }
    bool credible = credential_check(&m);
    if (!wrong && credible) {
        urls_take(&m);
        wrong = client_make(&m);
        if (wrong) {
            step(&m, "network", CTL_RED, "mend it: the server does not start like this", wrong);
        }
    }
    if (wrong || !credible) {
        for (size_t i = 0; i < sizeof(STEPS) / sizeof(STEPS[0]); i++) {
            skip(&m, STEPS[i], wrong ? wrong : "there is no credential");
        }
        return;
    }
    m.has_graph = token_check(&m, "graph-token", INTUNE_RESOURCE_GRAPH, &m.graph);
    m.has_service = token_check(&m, "intune-token", INTUNE_RESOURCE_INTUNE, &m.service);
    location_check(&m);
    validation_check(&m);
    permissions_check(&m);
}
