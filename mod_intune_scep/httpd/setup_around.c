/* SPDX-License-Identifier: Apache-2.0 */
/* A ProxyPass that was there before: whoever asks for its path reaches the CA, and Intune is not asked. */
#include "setup.h"

#include <apr_hash.h>
#include <apr_strings.h>
#include <http_core.h>
#include <mod_proxy.h>

APLOG_USE_MODULE(intune_scep);

typedef struct search_t {
    const site_t *site;
    const char *backend;
    server_rec *server; /* in which it is looked */
    apr_hash_t *told;   /* paths: virtual hosts inherit those of the main server */
    apr_pool_t *pool;
} search_t;

/* What of the backend's URL is behind a ProxyPass's URL, "" included; NULL where it leads elsewhere. */
static const char *rest_of(const char *backend, const char *real)
{
    apr_size_t length = strlen(real);
    if (ap_cstr_casecmpn(backend, real, length)) {
        return NULL;
    }
    const char *rest = backend + length;
    return !*rest || *rest == '/' || (length && real[length - 1] == '/') ? rest : NULL;
}

static void tell(const search_t *search, const char *path)
{
    const settings_t *settings = search->site->settings;
    if (apr_hash_get(search->told, path, APR_HASH_KEY_STRING)) {
        return;
    }
    apr_hash_set(search->told, path, APR_HASH_KEY_STRING, path);
    ap_log_error(APLOG_MARK, APLOG_WARNING, 0, search->server,
                 "ISCEP0561: %s: a ProxyPass of %s leads from %s to the CA: whoever asks there bypasses Intune; take it away",
                 setting_place(settings, SETTING_BACKEND, search->pool),
                 search->server->server_hostname ? search->server->server_hostname : "the server", path);
}

/* By ProxyPass PATH "!" among the first so many of the server's: one that stands behind the one that leads on is of no use. */
static bool is_excluded(const search_t *search, const char *path, int before)
{
    const proxy_server_conf *conf =
        ap_get_module_config(search->server->module_config, ap_find_linked_module("mod_proxy.c"));
    for (int i = 0; i < before; i++) {
        const struct proxy_alias *alias = &APR_ARRAY_IDX(conf->aliases, i, const struct proxy_alias);
        if (!alias->regex && !strcmp(alias->real, "!") && setting_path_contains(alias->fake, path)) {
            return true;
        }
    }
    return false;
}

/* An expression, or "!" in place of a URL, leads nowhere that could be told. */
static void look_at(const search_t *search, const struct proxy_alias *alias, const char *fake, int before)
{
    const char *rest = alias->regex ? NULL : rest_of(search->backend, alias->real);
    const char *path = rest ? apr_pstrcat(search->pool, fake, rest, NULL) : NULL;
    if (path && !setup_path_is_served(search->server, path) && !is_excluded(search, path, before)) {
        tell(search, path);
    }
}

static void look_in_server(const search_t *search, const module *proxy)
{
    const proxy_server_conf *conf = ap_get_module_config(search->server->module_config, proxy);
    const core_server_config *core = ap_get_core_module_config(search->server->module_config);
    for (int i = 0; i < conf->aliases->nelts; i++) {
        const struct proxy_alias *alias = &APR_ARRAY_IDX(conf->aliases, i, const struct proxy_alias);
        look_at(search, alias, alias->fake, i);
    }
    for (int i = 0; i < core->sec_url->nelts; i++) {
        const ap_conf_vector_t *section = APR_ARRAY_IDX(core->sec_url, i, const ap_conf_vector_t *);
        const proxy_dir_conf *own = ap_get_module_config(section, proxy);
        const core_dir_config *place = ap_get_core_module_config(section);
        if (own && own->alias && own->alias_set && !place->r && !place->d_is_fnmatch) {
            /* Of a request mod_proxy looks at this first. */
            look_at(search, own->alias, place->d, 0);
        }
    }
}

/* Who may use it is a matter of <Proxy> sections, which are not looked at. */
static void tell_of_forward_proxy(const search_t *search, const module *proxy)
{
    const proxy_server_conf *conf = ap_get_module_config(search->server->module_config, proxy);
    if (conf->req && !apr_hash_get(search->told, "", APR_HASH_KEY_STRING)) {
        apr_hash_set(search->told, "", APR_HASH_KEY_STRING, "");
        ap_log_error(APLOG_MARK, APLOG_NOTICE, 0, search->server,
                     "ISCEP0564: %s: with ProxyRequests On, whoever may use this server as a forward proxy reaches the CA "
                     "by it and bypasses Intune: a <Proxy \"URL*\"> of the CA's URL with Require all denied keeps them away",
                     setting_place(search->site->settings, SETTING_BACKEND, search->pool));
    }
}

void setup_around_check(const site_t *site, server_rec *main_server, apr_pool_t *pool)
{
    const module *proxy = ap_find_linked_module("mod_proxy.c");
    search_t search = {.site = site,
                       .backend = site->profile->backend,
                       .told = apr_hash_make(pool),
                       .pool = pool};
    for (search.server = main_server; search.server; search.server = search.server->next) {
        look_in_server(&search, proxy);
        tell_of_forward_proxy(&search, proxy);
    }
}
