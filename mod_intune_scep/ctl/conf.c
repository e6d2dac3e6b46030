/* SPDX-License-Identifier: Apache-2.0 */
/* From directives to the locations that are served: what httpd/setup.c does with httpd's own sections. */
#include "ctl/conf.h"

#include "base/text.h"

#include <apr_cstr.h>
#include <apr_file_info.h>
#include <apr_strings.h>
#include <apr_uri.h>

enum { SHOWN = 200 };

typedef struct section_t {
    const char *path;
    bool regex; /* the path is a regular expression */
    settings_t *settings;
} section_t;

/** The main server or a virtual host. */
typedef struct host_t {
    const char *name; /* of its ServerName, or NULL */
    const char *port; /* likewise; of a virtual host without ServerName that of its address. NULL without */
    settings_t *settings;
    apr_array_header_t *sections; /* of section_t */
    conf_tls_t tls;
} host_t;

/** A section that is open. */
typedef struct place_t {
    const char *name;
    settings_t *settings; /* NULL: this module's directives have no place in it */
} place_t;

typedef struct builder_t {
    apr_pool_t *pool;
    conf_t *conf;
    apr_array_header_t *hosts;  /* of host_t *, the main server first */
    host_t *host;               /* where the reading is */
    apr_array_header_t *places; /* of place_t: likewise, the innermost last */
    const char *balancer;      /* of the <Proxy> that is open, or NULL */
    apr_hash_t *members;       /* from a balancer's URL to its first member */
} builder_t;

static host_t *host_make(builder_t *builder, const char *port)
{
    host_t *host = apr_pcalloc(builder->pool, sizeof(*host));
    host->port = port;
    host->settings = settings_create(builder->pool, NULL);
    host->sections = apr_array_make(builder->pool, 4, sizeof(section_t));
    APR_ARRAY_PUSH(builder->hosts, host_t *) = host;
    return host;
}

static host_t *main_of(const builder_t *builder)
{
    return APR_ARRAY_IDX(builder->hosts, 0, host_t *);
}

static void fault(builder_t *builder, const char *name, const conf_reader_t *reader, const char *wrong)
{
    APR_ARRAY_PUSH(builder->conf->faults, const char *) =
        apr_psprintf(builder->pool, "%s (%s line %d): %s", text_escape(builder->pool, name, SHOWN),
                     text_escape(builder->pool, reader->file, SHOWN), reader->line, wrong);
}

/* The section that is open, NULL outside of all. */
static const place_t *place_of(const builder_t *builder)
{
    int count = builder->places->nelts;
    return count ? &APR_ARRAY_IDX(builder->places, count - 1, place_t) : NULL;
}

static settings_t *settings_here(const builder_t *builder)
{
    const place_t *place = place_of(builder);
    return place ? place->settings : main_of(builder)->settings;
}

/* Of a virtual host's first address: "443" of "*:443" and "[::1]:443". */
static const char *port_of(apr_pool_t *pool, const char *address)
{
    const char *colon = strrchr(address, ':');
    const char *port = colon ? colon + 1 : "";
    return *port && !port[strspn(port, "0123456789")] ? apr_pstrdup(pool, port) : NULL;
}

static void server_name_read(builder_t *builder, const char *word)
{
    const char *scheme = strstr(word, "://");
    word = scheme ? scheme + 3 : word;
    builder->host->port = port_of(builder->pool, word);
    builder->host->name =
        builder->host->port ? apr_pstrmemdup(builder->pool, word, (apr_size_t)(strrchr(word, ':') - word)) : word;
}

static settings_t *host_open(builder_t *builder, const char *arguments, const conf_reader_t *reader)
{
    const char *address = conf_word(reader, &arguments);
    if (!*address) {
        fault(builder, "<VirtualHost", reader, "an address is missing");
    }
    builder->host = host_make(builder, port_of(builder->pool, address));
    return builder->host->settings;
}

static settings_t *location_open(builder_t *builder, const char *name, const char *arguments,
                                 const conf_reader_t *reader)
{
    section_t *section = apr_array_push(builder->host->sections);
    const char *path = conf_word(reader, &arguments);
    bool tilde = !apr_cstr_casecmp(name, "Location") && !strcmp(path, "~");
    section->path = tilde ? conf_word(reader, &arguments) : path;
    section->regex = tilde || apr_cstr_casecmp(name, "Location");
    section->settings = settings_create(builder->pool, NULL);
    if (!*section->path || *arguments) {
        fault(builder, apr_pstrcat(builder->pool, "<", name, NULL), reader, "it takes one path");
    }
    return section->settings;
}

/* Those of httpd's own whose directives are for parts of what is served. */
static bool is_of_parts(const char *name)
{
    static const char *const NAMES[] = {"Directory", "DirectoryMatch", "Files",  "FilesMatch",  "If",    "ElseIf",
                                        "Else",      "Limit",          "Proxy",  "LimitExcept", "ProxyMatch"};
    for (size_t i = 0; i < sizeof(NAMES) / sizeof(NAMES[0]); i++) {
        if (!apr_cstr_casecmp(NAMES[i], name)) {
            return true;
        }
    }
    return false;
}

static bool section_open(void *baton, const char *name, const char *arguments, const conf_reader_t *reader)
{
    builder_t *builder = baton;
    const place_t *outer = place_of(builder);
    bool is_host = !apr_cstr_casecmp(name, "VirtualHost");
    bool is_location = !apr_cstr_casecmp(name, "Location") || !apr_cstr_casecmp(name, "LocationMatch");
    bool in_host = !outer || outer->settings == builder->host->settings;
    settings_t *settings = NULL;
    if (!is_host && !is_location && !is_of_parts(name)) {
        return false;
    }
    if (outer && ((is_host && outer->settings) || (is_location && !in_host))) {
        fault(builder, apr_pstrcat(builder->pool, "<", name, NULL), reader,
              apr_psprintf(builder->pool, "it cannot be within <%s>", text_escape(builder->pool, outer->name, SHOWN)));
    } else if (is_host && !outer) {
        settings = host_open(builder, arguments, reader);
    } else if (is_location) {
        settings = location_open(builder, name, arguments, reader);
    } else if (!apr_cstr_casecmp(name, "Proxy")) {
        builder->balancer = conf_word(reader, &arguments);
    }
    APR_ARRAY_PUSH(builder->places, place_t) = (place_t){name, settings};
    return true;
}

static void section_close(void *baton, const char *name)
{
    builder_t *builder = baton;
    const place_t *place = apr_array_pop(builder->places);
    if (!apr_cstr_casecmp(name, "VirtualHost") && place && place->settings) {
        builder->host = main_of(builder);
    }
    builder->balancer = NULL;
}

static void setting_read(builder_t *builder, const char *name, const char *arguments, const conf_reader_t *reader)
{
    setting_id_t id = setting_find(name);
    settings_t *settings = settings_here(builder);
    const place_t *section = place_of(builder);
    apr_array_header_t *values = apr_array_make(builder->pool, 4, sizeof(const char *));
    setting_place_t place = {reader->root, reader->file, reader->line};
    const char *wrong = NULL;
    while (*arguments) {
        APR_ARRAY_PUSH(values, const char *) = conf_word(reader, &arguments);
    }
    if (id == SETTING_COUNT) {
        wrong = "there is no such directive";
    } else if (section && !settings) {
        wrong = apr_psprintf(builder->pool, "it has no place in <%s>: use <Location> or a virtual host",
                             text_escape(builder->pool, section->name, SHOWN));
    } else if (setting_scope(id) == SETTING_OF_SERVER && settings != main_of(builder)->settings) {
        wrong = "it has no place in a virtual host or section";
    } else {
        wrong = setting_take(settings, id, values->nelts, (const char *const *)values->elts, &place, builder->pool);
    }
    if (wrong) {
        fault(builder, name, reader, wrong);
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
        server_name_read(builder, conf_word(reader, &arguments));
    } else if (!apr_cstr_casecmp(name, "User")) {
        builder->conf->user = conf_word(reader, &arguments);
    } else if (!apr_cstr_casecmp(name, "Group")) {
        builder->conf->group = conf_word(reader, &arguments);
    } else if (!apr_cstr_casecmp(name, "Use")) {
        builder->conf->macros = true;
    } else if (!apr_cstr_casecmp(name, "BalancerMember")) {
        member_read(builder, arguments, reader);
    } else if (!apr_cstr_casecmp(name, "SSLProxyCACertificateFile")) {
        tls->ca_file = path_argument(reader, &arguments);
    } else if (!apr_cstr_casecmp(name, "SSLProxyMachineCertificateFile")) {
        tls->certificate = path_argument(reader, &arguments);
    } else if (!apr_cstr_casecmp(name, "SSLProxyEngine")) {
        tls->engine_on = tls->engine_on || !apr_cstr_casecmp(conf_word(reader, &arguments), "on");
    } else if (!apr_cstr_casecmp(name, "SSLProxyVerify")) {
        const char *word = conf_word(reader, &arguments);
        tls->verified = !apr_cstr_casecmp(word, "require") || !apr_cstr_casecmp(word, "on");
    }
}

/* The sections. */

static conf_tls_t tls_merge(const conf_tls_t *base, const conf_tls_t *over)
{
    conf_tls_t merged = {over->ca_file ? over->ca_file : base->ca_file,
                         over->certificate ? over->certificate : base->certificate, base->verified || over->verified,
                         base->engine_on || over->engine_on};
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

/* As httpd/setup.c makes it. */
static const char *default_name(const builder_t *builder, const host_t *host, const char *path)
{
    const char *server = host->name ? host->name : main_of(builder)->name;
    const char *port = host != main_of(builder) ? host->port : NULL;
    const char *name =
        apr_pstrcat(builder->pool, server ? server : "localhost", port ? ":" : "", port ? port : "", path, NULL);
    return text_cut_utf8(builder->pool, name, strlen(name));
}

static void name_check(builder_t *builder, const conf_location_t *location)
{
    const settings_t *settings = location->settings;
    for (int i = 0; i < builder->conf->locations->nelts; i++) {
        if (!strcmp(APR_ARRAY_IDX(builder->conf->locations, i, const conf_location_t *)->name, location->name)) {
            APR_ARRAY_PUSH(builder->conf->faults, const char *) = apr_psprintf(
                builder->pool,
                "%s: the name \"%s\" is taken by another location, but names must be unique: set IntuneScepName, or, "
                "where it is the same section, include it once, outside of all virtual hosts",
                setting_place(settings, settings->set[SETTING_NAME].value ? SETTING_NAME : SETTING_ENABLED,
                              builder->pool),
                text_escape(builder->pool, location->name, SHOWN));
            return;
        }
    }
}

static void serve(builder_t *builder, const host_t *host, const settings_t *effective, const char *path)
{
    conf_location_t *location = apr_pcalloc(builder->pool, sizeof(*location));
    const char *name = setting_text(effective, SETTING_NAME);
    location->name = name ? name : default_name(builder, host, path);
    location->path = path;
    location->settings = effective;
    location->tls = tls_merge(&main_of(builder)->tls, &host->tls);
    location->backend = backend_of(builder, setting_text(effective, SETTING_BACKEND), &location->balanced);
    name_check(builder, location);
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

/* As in httpd/setup.c: a later section of the same path takes its place, with what stands in it. */
static bool is_repeated(const apr_array_header_t *sections, int i)
{
    for (int j = i + 1; j < sections->nelts; j++) {
        const section_t *own = &APR_ARRAY_IDX(sections, i, section_t);
        const section_t *later = &APR_ARRAY_IDX(sections, j, section_t);
        if (later->settings->touched && later->regex == own->regex && !strcmp(later->path, own->path)) {
            return true;
        }
    }
    return false;
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
        if (!own->settings->touched || is_repeated(sections, i)) {
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
    builder.places = apr_array_make(pool, 4, sizeof(place_t));
    made->server = builder.host->settings;
    conf_sink_t sink = {section_open, section_close, directive_read, &builder};
    conf_reader_t reader = {.pool = pool, .sink = &sink};
    reader.root = root ? root : apr_pstrmemdup(pool, path, (apr_size_t)(strrchr(path, '/') + 1 - path));
    *message = conf_lines_read(&reader, path);
    if (*message) {
        return APR_EGENERAL;
    }
    made->root = reader.root;
    made->modules = apr_hash_count(reader.modules) ? reader.modules : NULL;
    for (int i = 0; i < builder.hosts->nelts; i++) {
        host_walk(&builder, APR_ARRAY_IDX(builder.hosts, i, host_t *));
    }
    if (made->modules && made->locations->nelts &&
        !apr_hash_get(made->modules, "intune_scep_module", APR_HASH_KEY_STRING)) {
        APR_ARRAY_PUSH(made->faults, const char *) =
            "there is no LoadModule intune_scep_module: httpd does not know the directives";
    }
    *conf = made;
    return APR_SUCCESS;
}
