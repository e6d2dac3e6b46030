/* SPDX-License-Identifier: Apache-2.0 */
/* What mod_proxy and mod_ssl must offer for the backend. Their own settings are private: the configuration tree
 * tells. */
#include "setup.h"

#include <apr_strings.h>
#include <apr_uri.h>
#include <arpa/inet.h>
#include <http_core.h>
#include <mod_proxy.h>

APLOG_USE_MODULE(intune_scep);

typedef bool (*node_test_t)(const ap_directive_t *node);

/* The tree has arguments as they were written, with their quotes. */
static bool has_value(const ap_directive_t *node, const char *wanted)
{
    const char *value = node->args;
    apr_size_t length = strlen(wanted);
    bool quoted = *value == '"' || *value == '\'';
    value += quoted ? 1 : 0;
    return !ap_cstr_casecmpn(value, wanted, length) && (!value[length] || (quoted && value[length] == value[-1]));
}

static bool is_engine_on(const ap_directive_t *node)
{
    return !ap_cstr_casecmp(node->directive, "SSLProxyEngine") && has_value(node, "on");
}

static bool is_verify_required(const ap_directive_t *node)
{
    return !ap_cstr_casecmp(node->directive, "SSLProxyVerify") && (has_value(node, "require") || has_value(node, "on"));
}

static bool is_client_certificate(const ap_directive_t *node)
{
    return !ap_cstr_casecmp(node->directive, "SSLProxyMachineCertificateFile") ||
           !ap_cstr_casecmp(node->directive, "SSLProxyMachineCertificatePath");
}

/* Whether a directive stands where it counts for the server: outside all virtual hosts, or in its own. */
static bool tree_has(const ap_directive_t *node, const server_rec *server, node_test_t test)
{
    for (; node; node = node->next) {
        if (!ap_cstr_casecmp(node->directive, "<VirtualHost")) {
            bool own = server->defn_name && !strcmp(server->defn_name, node->filename) &&
                       (int)server->defn_line_number == node->line_num;
            if (!own) {
                continue;
            }
        }
        if (test(node) || (node->first_child && tree_has(node->first_child, server, test))) {
            return true;
        }
    }
    return false;
}

static const char *sentence(const settings_t *settings, apr_pool_t *pool, const char *what)
{
    return apr_pstrcat(pool, setting_place(settings, SETTING_BACKEND, pool), ": ", what, NULL);
}

/* "127.example.com" is a name. */
static bool is_loopback(const char *host)
{
    struct in_addr address;
    return !ap_cstr_casecmp(host, "localhost") || !strcmp(host, "::1") ||
           (inet_pton(AF_INET, host, &address) == 1 && ntohl(address.s_addr) >> 24 == 127);
}

/* As mod_proxy finds a worker: its name is the URL's beginning, and has all of the authority. */
static bool begins_with(const char *url, const char *name)
{
    const char *authority = strstr(url, "://");
    apr_size_t least = authority ? strcspn(authority + 3, "/") + (apr_size_t)(authority + 3 - url) : 0;
    apr_size_t length = strlen(name);
    return length >= least && !ap_cstr_casecmpn(url, name, length);
}

static const proxy_server_conf *proxy_conf(const server_rec *server)
{
    return ap_get_module_config(server->module_config, ap_find_linked_module("mod_proxy.c"));
}

/* How the CA, or one of a balancer's members, is reached. */
typedef struct ways_t {
    bool https;
    bool open; /* neither on this machine nor behind client TLS */
} ways_t;

static void add_way(ways_t *ways, const char *scheme, const char *host, bool client_tls)
{
    bool https = !ap_cstr_casecmp(scheme, "https");
    ways->https = ways->https || https;
    ways->open = ways->open || (!is_loopback(host) && !(https && client_tls));
}

/* A worker whose URL only names what a socket of this machine leads to. */
static bool is_by_socket(const char *url, const proxy_server_conf *conf)
{
    for (int i = 0; i < conf->workers->nelts; i++) {
        const proxy_worker *worker = &APR_ARRAY_IDX(conf->workers, i, const proxy_worker);
        if (*worker->s->uds_path && begins_with(url, worker->s->name)) {
            return true;
        }
    }
    return false;
}

static ways_t ways_to(const char *url, const server_rec *server, apr_pool_t *pool)
{
    ways_t ways = {false, false};
    apr_uri_t uri;
    bool client_tls = tree_has(ap_conftree, server, is_client_certificate);
    const apr_array_header_t *balancers = proxy_conf(server)->balancers;
    apr_uri_parse(pool, url, &uri);
    if (ap_cstr_casecmp(uri.scheme, "balancer")) {
        if (!is_by_socket(url, proxy_conf(server))) {
            add_way(&ways, uri.scheme, uri.hostname, client_tls);
        }
        return ways;
    }
    for (int i = 0; i < balancers->nelts; i++) {
        const proxy_balancer *balancer = &APR_ARRAY_IDX(balancers, i, const proxy_balancer);
        for (int j = 0; begins_with(url, balancer->s->name) && j < balancer->workers->nelts; j++) {
            const proxy_worker *member = APR_ARRAY_IDX(balancer->workers, j, const proxy_worker *);
            if (!*member->s->uds_path) {
                add_way(&ways, member->s->scheme, member->s->hostname, client_tls);
            }
        }
    }
    return ways;
}

bool setup_backend_has_urls(const settings_t *settings, const server_rec *server)
{
    const char *url = setting_text(settings, SETTING_BACKEND);
    const apr_array_header_t *balancers = proxy_conf(server)->balancers;
    bool urls = true;
    for (int i = 0; i < balancers->nelts; i++) {
        const proxy_balancer *balancer = &APR_ARRAY_IDX(balancers, i, const proxy_balancer);
        for (int j = 0; begins_with(url, balancer->s->name) && j < balancer->workers->nelts; j++) {
            urls = urls && !*APR_ARRAY_IDX(balancer->workers, j, const proxy_worker *)->s->uds_path;
        }
    }
    return urls;
}

static void warn_if_open(const settings_t *settings, server_rec *server, const ways_t *ways, apr_pool_t *pool)
{
    if (ways->https && !tree_has(ap_conftree, server, is_verify_required)) {
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, server,
                     "ISCEP0503: %s: the CA's TLS certificate is not verified: set SSLProxyVerify require and "
                     "SSLProxyCACertificateFile",
                     setting_place(settings, SETTING_BACKEND, pool));
    }
    if (ways->open) {
        ap_log_error(
            APLOG_MARK, APLOG_WARNING, 0, server,
            "ISCEP0504: %s: the CA is neither on loopback nor behind client TLS (SSLProxyMachineCertificateFile): "
            "whoever "
            "reaches it directly bypasses Intune, unless it accepts this RA's signature only or a firewall guards it",
            setting_place(settings, SETTING_BACKEND, pool));
    }
}

static void take_longer(const proxy_worker *worker, apr_interval_time_t *longest)
{
    if (worker->s->timeout_set && worker->s->timeout > *longest) {
        *longest = worker->s->timeout;
    }
}

/* The time-out that the backend's worker has of its own, of a balancer's members the longest; 0 without. */
static apr_interval_time_t worker_time(const char *url, const proxy_server_conf *conf)
{
    apr_interval_time_t longest = 0;
    const proxy_worker *own = NULL;
    for (int i = 0; i < conf->workers->nelts; i++) {
        const proxy_worker *worker = &APR_ARRAY_IDX(conf->workers, i, const proxy_worker);
        /* mod_proxy takes the one with the longest name. */
        if (begins_with(url, worker->s->name) && (!own || strlen(worker->s->name) > strlen(own->s->name))) {
            own = worker;
        }
    }
    if (own) {
        take_longer(own, &longest);
    }
    for (int i = 0; i < conf->balancers->nelts; i++) {
        const proxy_balancer *balancer = &APR_ARRAY_IDX(conf->balancers, i, const proxy_balancer);
        for (int j = 0; begins_with(url, balancer->s->name) && j < balancer->workers->nelts; j++) {
            take_longer(APR_ARRAY_IDX(balancer->workers, j, const proxy_worker *), &longest);
        }
    }
    return longest;
}

/* mod_proxy's time-out for one read or write, and where it comes from. */
static apr_interval_time_t proxy_time(const settings_t *settings, const server_rec *server, const char **whence)
{
    const module *proxy = ap_find_linked_module("mod_proxy.c");
    const proxy_server_conf *conf = proxy ? ap_get_module_config(server->module_config, proxy) : NULL;
    apr_interval_time_t own = conf ? worker_time(setting_text(settings, SETTING_BACKEND), conf) : 0;
    if (own) {
        *whence = "timeout of the CA's worker";
        return own;
    }
    *whence = conf && conf->timeout_set ? "ProxyTimeout" : "Timeout, as ProxyTimeout is not set";
    return conf && conf->timeout_set ? conf->timeout : server->timeout;
}

apr_interval_time_t setup_backend_time(const settings_t *settings, const server_rec *server)
{
    const char *whence = NULL;
    apr_interval_time_t given = setting_duration(settings, SETTING_BACKEND_TIMEOUT);
    /* To connect, and to answer. */
    return given ? given : 2 * proxy_time(settings, server, &whence) + apr_time_from_sec(1);
}

/* A device waits for about a minute, and so long all of it may take: validation, CA, report. */
static void tell_if_slow(const settings_t *settings, server_rec *server, apr_pool_t *pool)
{
    const int minute = 60;
    const char *whence = NULL;
    int ca = (int)apr_time_sec(proxy_time(settings, server, &whence));
    int intune = (int)apr_time_sec(setting_duration(settings, SETTING_TIMEOUT) + APR_USEC_PER_SEC - 1);
    if (2 * intune + ca > minute) {
        ap_log_error(APLOG_MARK, APLOG_NOTICE, 0, server,
                     "ISCEP0534: %s: two calls to Intune of %d s each (IntuneScepTimeout) and %d s for the CA (%s) are "
                     "more than the "
                     "minute that a device waits: lower one of them",
                     setting_place(settings, SETTING_BACKEND, pool), intune, ca, whence);
    }
}

/* A worker is what keeps connections; without one each request connects anew. */
static bool has_worker(const server_rec *server, const char *url, bool balancer)
{
    const proxy_server_conf *conf = proxy_conf(server);
    const apr_array_header_t *list = balancer ? conf->balancers : conf->workers;
    for (int i = 0; i < list->nelts; i++) {
        const char *name =
            balancer ? ((const proxy_balancer *)list->elts)[i].s->name : ((const proxy_worker *)list->elts)[i].s->name;
        if (begins_with(url, name)) {
            return true;
        }
    }
    return false;
}

void setup_backend_advise(const settings_t *settings, server_rec *server, apr_pool_t *pool)
{
    const char *url = setting_text(settings, SETTING_BACKEND);
    bool balancer = !ap_cstr_casecmpn(url, "balancer:", 9);
    if (!has_worker(server, url, balancer)) {
        ap_log_error(APLOG_MARK, APLOG_NOTICE, 0, server,
                     "ISCEP0558: %s: mod_proxy has no %s for %s%s",
                     setting_place(settings, SETTING_BACKEND, pool), balancer ? "balancer" : "worker", url,
                     balancer ? ": nothing can be sent to the CA; define it with <Proxy> and BalancerMember"
                              : ": each request connects anew; <Proxy \"URL\"> with ProxySet ttl=30 in it keeps connections");
    }
}

const char *setup_backend_check(const settings_t *settings, server_rec *server, apr_pool_t *pool)
{
    const char *url = setting_text(settings, SETTING_BACKEND);
    bool balancer = !ap_cstr_casecmpn(url, "balancer:", 9);
    if (!ap_find_linked_module("mod_proxy.c")) {
        return sentence(settings, pool,
                        "mod_proxy is not loaded, but it owns the connection to the CA: add LoadModule proxy_module");
    }
    if (!ap_find_linked_module("mod_proxy_http.c")) {
        return sentence(settings, pool, "mod_proxy_http is not loaded: add LoadModule proxy_http_module");
    }
    if (balancer && !ap_find_linked_module("mod_proxy_balancer.c")) {
        return sentence(settings, pool, "mod_proxy_balancer is not loaded: add LoadModule proxy_balancer_module");
    }
    ways_t ways = ways_to(url, server, pool);
    if (ways.https && !ap_find_linked_module("mod_ssl.c")) {
        return sentence(settings, pool, "mod_ssl is not loaded, but the CA's URL is https: add LoadModule ssl_module");
    }
    if (ways.https && !tree_has(ap_conftree, server, is_engine_on)) {
        return sentence(settings, pool, "the CA's URL is https, but SSLProxyEngine is not On in this server");
    }
    warn_if_open(settings, server, &ways, pool);
    tell_if_slow(settings, server, pool);
    return NULL;
}
