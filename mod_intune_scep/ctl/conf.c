/* SPDX-License-Identifier: Apache-2.0 */
/* From directives to the locations that are served: what httpd/setup.c does with httpd's own sections. */
#include "ctl/conf.h"

#include "base/text.h"

#include <apr_cstr.h>
#include <apr_file_info.h>
#include <apr_strings.h>
#include <apr_uri.h>

enum { VALUES_MOST = 16, SHOWN = 200 };

typedef struct section_t {
    const char *path;
    settings_t *settings;
} section_t;

/** The main server or a virtual host. */
typedef struct host_t {
    const char *name;
    settings_t *settings;
    apr_array_header_t *sections; /* of section_t */
    conf_tls_t tls;
} host_t;

typedef struct builder_t {
    apr_pool_t *pool;
    conf_t *conf;
    apr_array_header_t *hosts; /* of host_t *, the main server first */
    host_t *host;              /* where the reading is */
    settings_t *settings;      /* likewise: the host's or a section's */
    const char *balancer;      /* of the <Proxy> that is open, or NULL */
    apr_hash_t *members;       /* from a balancer's URL to its first member */
} builder_t;

static host_t *host_make(builder_t *builder, const char *name)
{
    host_t *host = apr_pcalloc(builder->pool, sizeof(*host));
    host->name = name;
    host->settings = settings_create(builder->pool, NULL);
    host->sections = apr_array_make(builder->pool, 4, sizeof(section_t));
    APR_ARRAY_PUSH(builder->hosts, host_t *) = host;
    return host;
}

static host_t *main_of(const builder_t *builder)
{
    return APR_ARRAY_IDX(builder->hosts, 0, host_t *);
}

static void location_open(builder_t *builder, const char *arguments, const conf_reader_t *reader)
{
    section_t *section = apr_array_push(builder->host->sections);
    const char *path = conf_word(reader, &arguments);
    section->path = !strcmp(path, "~") ? conf_word(reader, &arguments) : path;
    section->settings = settings_create(builder->pool, NULL);
    builder->settings = section->settings;
}

static bool section_open(void *baton, const char *name, const char *arguments, const conf_reader_t *reader)
{
    builder_t *builder = baton;
    bool in_host = builder->settings == builder->host->settings;
    if (!apr_cstr_casecmp(name, "VirtualHost")) {
        builder->host = host_make(builder, NULL);
        builder->settings = builder->host->settings;
        return true;
    }
    if (in_host && (!apr_cstr_casecmp(name, "Location") || !apr_cstr_casecmp(name, "LocationMatch"))) {
        location_open(builder, arguments, reader);
        return true;
    }
    if (in_host && !apr_cstr_casecmp(name, "Proxy")) {
        builder->balancer = conf_word(reader, &arguments);
        return true;
    }
    /* This module's directives have no place in any other. */
    return false;
}

static void section_close(void *baton, const char *name)
{
    builder_t *builder = baton;
    if (!apr_cstr_casecmp(name, "VirtualHost")) {
        builder->host = main_of(builder);
    }
    builder->settings = builder->host->settings;
    builder->balancer = NULL;
}

static void setting_read(builder_t *builder, const char *name, const char *arguments, const conf_reader_t *reader)
{
    setting_id_t id = setting_find(name);
    const char *values[VALUES_MOST];
    setting_place_t place = {reader->root, reader->file, reader->line};
    const char *wrong = NULL;
    int count = 0;
    while (*arguments && count < VALUES_MOST) {
        values[count++] = conf_word(reader, &arguments);
    }
    if (id == SETTING_COUNT) {
        wrong = "there is no such directive";
    } else if (setting_scope(id) == SETTING_OF_SERVER && builder->settings != main_of(builder)->settings) {
        wrong = "it has no place in a virtual host or section";
    } else {
        wrong = setting_take(builder->settings, id, count, values, &place, builder->pool);
    }
    if (wrong) {
        APR_ARRAY_PUSH(builder->conf->faults, const char *) =
            apr_psprintf(builder->pool, "%s (%s line %d): %s", text_escape(builder->pool, name, SHOWN),
                         text_escape(builder->pool, reader->file, SHOWN), reader->line, wrong);
    }
}

static const char *path_argument(const conf_reader_t *reader, const char **arguments)
{
    return setting_path(reader->root, conf_word(reader, arguments), reader->pool);
}

static void member_read(builder_t *builder, const char *arguments, const conf_reader_t *reader)
{
    const char *word = conf_word(reader, &arguments);
    const char *balancer = builder->balancer;
    if (!apr_cstr_casecmpn(word, "balancer://", 11)) {
        balancer = word;
        word = conf_word(reader, &arguments);
    }
    if (balancer && *word && !apr_hash_get(builder->members, balancer, APR_HASH_KEY_STRING)) {
        apr_hash_set(builder->members, balancer, APR_HASH_KEY_STRING, word);
    }
}

static void directive_read(void *baton, const char *name, const char *arguments, const conf_reader_t *reader)
{
    builder_t *builder = baton;
    conf_tls_t *tls = &builder->host->tls;
    if (!apr_cstr_casecmpn(name, "IntuneScep", 10)) {
        setting_read(builder, name, arguments, reader);
    } else if (!apr_cstr_casecmp(name, "ServerName")) {
        builder->host->name = conf_word(reader, &arguments);
    } else if (!apr_cstr_casecmp(name, "BalancerMember")) {
        member_read(builder, arguments, reader);
    } else if (!apr_cstr_casecmp(name, "SSLProxyCACertificateFile")) {
        tls->ca_file = path_argument(reader, &arguments);
    } else if (!apr_cstr_casecmp(name, "SSLProxyMachineCertificateFile")) {
        tls->certificate = path_argument(reader, &arguments);
    } else if (!apr_cstr_casecmp(name, "SSLProxyVerify")) {
        tls->verified = !apr_cstr_casecmp(conf_word(reader, &arguments), "require");
    }
}

/* The sections. */

static conf_tls_t tls_merge(const conf_tls_t *base, const conf_tls_t *over)
{
    conf_tls_t merged = {over->ca_file ? over->ca_file : base->ca_file,
                         over->certificate ? over->certificate : base->certificate, base->verified || over->verified};
    return merged;
}

/* Of a balancer the first member, with the path behind the balancer's name. */
static const char *backend_of(const builder_t *builder, const char *url, bool *balanced)
{
    *balanced = url && !apr_cstr_casecmpn(url, "balancer://", 11);
    if (!*balanced) {
        return url;
    }
    apr_size_t len = 11 + strcspn(url + 11, "/");
    const char *member = apr_hash_get(builder->members, url, (apr_ssize_t)len);
    if (!member) {
        return NULL;
    }
    apr_size_t end = strlen(member);
    while (url[len] && end && member[end - 1] == '/') {
        end--;
    }
    return apr_pstrcat(builder->pool, apr_pstrmemdup(builder->pool, member, end), url + len, NULL);
}

static void serve(builder_t *builder, const host_t *host, const settings_t *effective, const char *path)
{
    conf_location_t *location = apr_pcalloc(builder->pool, sizeof(*location));
    const char *name = setting_text(effective, SETTING_NAME);
    const char *server = host->name ? host->name : main_of(builder)->name;
    location->name = name ? name : apr_pstrcat(builder->pool, server ? server : "localhost", path, NULL);
    location->path = path;
    location->settings = effective;
    location->tls = tls_merge(&main_of(builder)->tls, &host->tls);
    location->backend = backend_of(builder, setting_text(effective, SETTING_BACKEND), &location->balanced);
    APR_ARRAY_PUSH(builder->conf->locations, conf_location_t *) = location;
}

static bool is_served(const builder_t *builder, const settings_t *section)
{
    for (int i = 0; i < builder->conf->locations->nelts; i++) {
        if (APR_ARRAY_IDX(builder->conf->locations, i, conf_location_t *)->settings->section == section) {
            return true;
        }
    }
    return false;
}

static void serve_once(builder_t *builder, const host_t *host, settings_t *effective, const char *path)
{
    /* A section of the main server is seen again in each virtual host, which adds nothing to it. */
    bool again = host != main_of(builder) && !host->settings->touched && is_served(builder, effective->section);
    if (setting_flag(effective, SETTING_ENABLED) && !again) {
        serve(builder, host, effective, path);
    }
}

static void host_walk(builder_t *builder, const host_t *host)
{
    const host_t *outside = main_of(builder);
    bool virtual = host != outside;
    settings_t *base = virtual ? settings_merge(builder->pool, outside->settings, host->settings) : host->settings;
    const apr_array_header_t *sections = virtual ? apr_array_append(builder->pool, outside->sections, host->sections)
                                                 : host->sections;
    serve_once(builder, host, base, "/");
    for (int i = 0; i < sections->nelts; i++) {
        const section_t *own = &APR_ARRAY_IDX(sections, i, section_t);
        settings_t *effective = base;
        if (!own->settings->touched) {
            continue;
        }
        for (int j = 0; j < i; j++) {
            const section_t *outer = &APR_ARRAY_IDX(sections, j, section_t);
            if (outer->settings->touched && setting_path_contains(outer->path, own->path)) {
                effective = settings_merge(builder->pool, effective, outer->settings);
            }
        }
        serve_once(builder, host, settings_merge(builder->pool, effective, own->settings), own->path);
    }
}

apr_status_t conf_read(conf_t **conf, const char *file, const char *root, apr_pool_t *pool, const char **message)
{
    conf_t *made = apr_pcalloc(pool, sizeof(*made));
    builder_t builder = {.pool = pool, .conf = made};
    char *path = NULL;
    if (apr_filepath_merge(&path, NULL, file, APR_FILEPATH_TRUENAME, pool)) {
        *message = apr_pstrcat(pool, text_escape(pool, file, SHOWN), " is no path of a file", NULL);
        return APR_EGENERAL;
    }
    made->locations = apr_array_make(pool, 4, sizeof(conf_location_t *));
    made->faults = apr_array_make(pool, 4, sizeof(const char *));
    builder.hosts = apr_array_make(pool, 4, sizeof(host_t *));
    builder.members = apr_hash_make(pool);
    builder.host = host_make(&builder, NULL);
    builder.settings = builder.host->settings;
    made->server = builder.host->settings;
    conf_sink_t sink = {section_open, section_close, directive_read, &builder};
    conf_reader_t reader = {.pool = pool, .sink = &sink};
    reader.root = root ? root : apr_pstrmemdup(pool, path, (apr_size_t)(strrchr(path, '/') + 1 - path));
    *message = conf_lines_read(&reader, path);
    if (*message) {
        return APR_EGENERAL;
    }
    made->root = reader.root;
    for (int i = 0; i < builder.hosts->nelts; i++) {
        host_walk(&builder, APR_ARRAY_IDX(builder.hosts, i, host_t *));
    }
    *conf = made;
    return APR_SUCCESS;
}
