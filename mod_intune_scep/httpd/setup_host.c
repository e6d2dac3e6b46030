/* SPDX-License-Identifier: Apache-2.0 */
/* What the configuration tree tells of a served host: its name, and what mod_ssl, whose settings are private, does with the
 * devices' connections. */
#include "setup.h"

#include <apr_strings.h>
#include <http_main.h>

APLOG_USE_MODULE(intune_scep);

/* The children of the server's own <VirtualHost>, or NULL. */
static const ap_directive_t *own_host(const server_rec *server)
{
    for (const ap_directive_t *node = ap_conftree; node; node = node->next) {
        if (!ap_cstr_casecmp(node->directive, "<VirtualHost") && server->defn_name &&
            !strcmp(server->defn_name, node->filename) && (int)server->defn_line_number == node->line_num) {
            return node->first_child;
        }
    }
    return NULL;
}

static bool covers(const ap_directive_t *section, const char *path, apr_pool_t *pool)
{
    const char *args = section->args;
    const char *outer = ap_getword_conf(pool, &args);
    apr_size_t length = strlen(outer);
    if (length && outer[length - 1] == '>') {
        outer = apr_pstrmemdup(pool, outer, --length);
    }
    return setting_path_contains(outer, path);
}

/* The last value among these directives, or in those of their <Location>s that cover the path. */
static void find(const char **value, const ap_directive_t *node, const char *name, const char *path, apr_pool_t *pool)
{
    for (; node; node = node->next) {
        if (!path && !ap_cstr_casecmp(node->directive, name)) {
            *value = node->args;
        } else if (path && !ap_cstr_casecmp(node->directive, "<Location") && covers(node, path, pool)) {
            find(value, node->first_child, name, NULL, pool);
        }
    }
}

/* What is in force for the server, and where there is a path, for that path. NULL where it is not set. */
static const char *value_of(const char *name, const server_rec *server, const char *path, apr_pool_t *pool)
{
    const char *value = NULL;
    find(&value, ap_conftree, name, NULL, pool);
    find(&value, own_host(server), name, NULL, pool);
    if (path) {
        find(&value, ap_conftree, name, path, pool);
        find(&value, own_host(server), name, path, pool);
    }
    return value;
}

/* The tree has arguments as they were written, with their quotes. */
static const char *first_word(const char *args, apr_pool_t *pool)
{
    return args ? ap_getword_conf(pool, &args) : NULL;
}

/* As mod_ssl reads SSLProtocol: from left to right, a name without a sign begins anew. */
static bool allows_tls12(const char *protocols, apr_pool_t *pool)
{
    bool allowed = false;
    while (*protocols) {
        const char *word = ap_getword_conf(pool, &protocols);
        char sign = *word == '+' || *word == '-' ? *word++ : 0;
        bool named = !ap_cstr_casecmp(word, "TLSv1.2") || !ap_cstr_casecmp(word, "all");
        if (named) {
            allowed = sign != '-';
        } else if (!sign) {
            allowed = false;
        }
    }
    return allowed;
}

void setup_host_check(const settings_t *settings, const char *path, server_rec *server, apr_pool_t *pool)
{
    const char *engine = first_word(value_of("SSLEngine", server, NULL, pool), pool);
    const char *client = first_word(value_of("SSLVerifyClient", server, path, pool), pool);
    const char *protocols = value_of("SSLProtocol", server, NULL, pool);
    if (!engine || !ap_cstr_casecmp(engine, "off")) {
        return;
    }
    if (client && ap_cstr_casecmp(client, "none") && ap_cstr_casecmp(client, "off")) {
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, server,
                     "ISCEP0555: %s: SSLVerifyClient %s asks devices for the certificate that they come to get: none of "
                     "them, or some of them only, will enrol; set SSLVerifyClient none for %s",
                     setting_place(settings, SETTING_ENABLED, pool), client, path);
    }
    if (protocols && !allows_tls12(protocols, pool)) {
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, server,
                     "ISCEP0556: %s: SSLProtocol %s leaves TLS 1.2 out, which Windows needs to enrol: add +TLSv1.2",
                     setting_place(settings, SETTING_ENABLED, pool), protocols);
    }
}

/* A virtual host without a name has the server's, or what DNS says of its address. */
static bool has_name(const server_rec *server, apr_pool_t *pool)
{
    const char *own = NULL;
    const char *outside = NULL;
    find(&own, own_host(server), "ServerName", NULL, pool);
    find(&outside, ap_conftree, "ServerName", NULL, pool);
    return own || (outside && server->server_hostname == ap_server_conf->server_hostname);
}

void setup_name_check(const site_t *site, apr_pool_t *pool)
{
    if (setting_text(site->settings, SETTING_NAME) || has_name(site->server, pool)) {
        return;
    }
    ap_log_error(APLOG_MARK, APLOG_NOTICE, 0, site->server,
                 "ISCEP0566: %s: without ServerName the journal knows this location by what the machine is called at the "
                 "moment, \"%s\": after a change of that, in DNS for one, a device that comes again gets a second "
                 "certificate, and reports that are owed are not sent; set IntuneScepName, or ServerName",
                 setting_place(site->settings, SETTING_ENABLED, pool), site->profile->name);
}
