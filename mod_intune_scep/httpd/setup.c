/* SPDX-License-Identifier: Apache-2.0 */
/* From the sections of the configuration to the sites that are served. */
#include "setup.h"

#include "base/clock.h"
#include "base/command.h"
#include "base/text.h"

#include <apr_fnmatch.h>
#include <apr_hash.h>
#include <apr_strings.h>
#include <http_core.h>
#include <sys/stat.h>
#include <unixd.h>

APLOG_USE_MODULE(intune_scep);

gateway_t *the_gateway;

/** Per server: from the innermost section (a settings_t *) to its site. */
typedef struct server_sites_t {
    apr_hash_t *by_section;
} server_sites_t;

typedef struct setup_t {
    apr_pool_t *pool;
    apr_pool_t *scratch;
    server_rec *main_server;
    server_rec *server;
    gateway_t *gateway;
    scep_engine_t *engine;
    int faults;
} setup_t;

void *setup_create_server(apr_pool_t *pool, server_rec *server)
{
    server_sites_t *sites = apr_pcalloc(pool, sizeof(*sites));
    (void)server;
    sites->by_section = apr_hash_make(pool);
    return sites;
}

static apr_hash_t *sites_of(const server_rec *server)
{
    const server_sites_t *sites = ap_get_module_config(server->module_config, &intune_scep_module);
    return sites->by_section;
}

static site_t *site_of(const server_rec *server, const settings_t *section)
{
    return apr_hash_get(sites_of(server), &section, sizeof(section));
}

const site_t *setup_site(const request_rec *r, const settings_t *settings)
{
    const site_t *site = the_gateway ? site_of(r->server, settings->section) : NULL;
    /* A section that only this request showed to be one of its own (a regular expression) has a say, too. */
    return site && settings_are_same(site->settings, settings) ? site : NULL;
}

static void fault(setup_t *setup, const char *sentence)
{
    setup->faults++;
    ap_log_error(APLOG_MARK, APLOG_EMERG, 0, setup->server, "ISCEP0500: %s", sentence);
}

static const settings_t *base_of(const server_rec *server)
{
    return ap_get_module_config(server->lookup_defaults, &intune_scep_module);
}

/* UTF-8 like IntuneScepName, whatever the path is in: PostgreSQL takes nothing else. */
static const char *default_name(const setup_t *setup, const char *path)
{
    const char *host = setup->server->server_hostname ? setup->server->server_hostname : "localhost";
    const char *name = apr_pstrcat(
        setup->pool, host,
        setup->server->port && setup->server->is_virtual ? apr_psprintf(setup->pool, ":%d", setup->server->port) : "",
        path, NULL);
    return text_cut_utf8(setup->pool, name, strlen(name));
}

static const site_t *site_named(const setup_t *setup, const char *name)
{
    for (int i = 0; i < setup->gateway->sites->nelts; i++) {
        const site_t *other = APR_ARRAY_IDX(setup->gateway->sites, i, const site_t *);
        if (!strcmp(other->profile->name, name)) {
            return other;
        }
    }
    return NULL;
}

/* The directive that gives a location its name. */
static setting_id_t taker_of(const settings_t *settings)
{
    return settings->set[SETTING_NAME].value ? SETTING_NAME : SETTING_ENABLED;
}

static const char *host_of(const setup_t *setup)
{
    const server_rec *server = setup->server;
    return server->is_virtual && server->defn_name
               ? apr_psprintf(setup->pool, "the virtual host at %s line %u", server->defn_name, server->defn_line_number)
               : "the server";
}

/* The section adds to another one, from which it has the name. */
static const char *name_inherited(const setup_t *setup, const site_t *other, const settings_t *effective)
{
    int id = 0;
    while (id + 1 < SETTING_COUNT && !effective->section->set[id].value) {
        id++;
    }
    return apr_psprintf(setup->pool,
                        "%s: it makes another location of the one that has the name \"%s\" from %s, but names must be "
                        "unique: set IntuneScepName beside it",
                        setting_place(effective->section, (setting_id_t)id, setup->pool), other->profile->name,
                        setting_place(effective, taker_of(effective), setup->pool));
}

/* The other location may be the same section: a virtual host with directives of its own makes another one of it. */
static const char *name_taken(const setup_t *setup, const site_t *other, const settings_t *effective)
{
    const char *place = setting_place(effective, taker_of(effective), setup->pool);
    if (other->settings->section == effective->section) {
        return apr_psprintf(setup->pool,
                            "%s: the name \"%s\" is taken by this section itself, which is another location in the "
                            "virtual host %s, for that has directives of its own: put one section, with its own "
                            "IntuneScepName, into each virtual host",
                            place, other->profile->name, setup->server->server_hostname);
    }
    if (!effective->section->set[taker_of(effective)].value) {
        return name_inherited(setup, other, effective);
    }
    if (!strcmp(place, setting_place(other->settings, taker_of(other->settings), setup->pool))) {
        return apr_psprintf(setup->pool,
                            "%s: the name \"%s\" is taken by this very section, which is included once more in %s: "
                            "include it once, outside of all virtual hosts, and each of them serves the location",
                            place, other->profile->name, host_of(setup));
    }
    return apr_psprintf(setup->pool,
                        "%s: the name \"%s\" is taken by the location of %s, but names must be unique: set "
                        "IntuneScepName",
                        place, other->profile->name,
                        setting_place(other->settings, SETTING_ENABLED, setup->pool));
}

static void serve(setup_t *setup, const settings_t *effective, const char *path)
{
    site_t *site = NULL;
    /* A section of the main server is seen again in each virtual host: the same site, unless that host adds something
     * of its own. */
    if (setup->server != setup->main_server &&
        base_of(setup->server)->section == base_of(setup->main_server)->section) {
        site = site_of(setup->main_server, effective->section);
    }
    if (!site) {
        const char *wrong =
            setup_site_make(&site, effective, default_name(setup, path), setup->engine, setup->server, setup->pool);
        if (wrong) {
            fault(setup, wrong);
            return;
        }
        const site_t *other = site_named(setup, site->profile->name);
        if (other) {
            fault(setup, name_taken(setup, other, effective));
            return;
        }
        site->profile->index = setup->gateway->sites->nelts;
        APR_ARRAY_PUSH(setup->gateway->sites, site_t *) = site;
    }
    const settings_t **key = apr_pmemdup(setup->pool, &effective->section, sizeof(effective->section));
    apr_hash_set(sites_of(setup->server), key, sizeof(*key), site);
    setup_host_check(effective, path, setup->server, setup->scratch);
}

static const settings_t *settings_of(const apr_array_header_t *sections, int i)
{
    const settings_t *settings =
        ap_get_module_config(APR_ARRAY_IDX(sections, i, ap_conf_vector_t *), &intune_scep_module);
    return settings && settings->touched ? settings : NULL;
}

static const char *path_of(const apr_array_header_t *sections, int i)
{
    const core_dir_config *core = ap_get_core_module_config(APR_ARRAY_IDX(sections, i, ap_conf_vector_t *));
    return core->d;
}

/* httpd takes any text for a path. Some devices ask the profile's URL as it is, others something below it. */
static void advise_path(const setup_t *setup, const core_dir_config *section, const settings_t *effective)
{
    const char *path = section->d;
    apr_size_t length = strlen(path);
    const char *place = setting_place(effective, SETTING_ENABLED, setup->scratch);
    if (section->r || section->d_is_fnmatch || setup->faults) {
        return;
    }
    if (*path != '/') {
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, setup->server,
                     "ISCEP0562: %s: no request is in the <Location \"%s\">: its path must begin with /", place, path);
    } else if (length > 1 && path[length - 1] == '/') {
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, setup->server,
                     "ISCEP0563: %s: the <Location \"%s\"> does not serve %.*s itself, which most devices ask for: take "
                     "the / at its end away",
                     place, path, (int)length - 1, path);
    }
}

/* A later section of the same path is the innermost one for all requests of this one, and has what stands in it. */
static bool is_repeated(const apr_array_header_t *sections, int i)
{
    const core_dir_config *own = ap_get_core_module_config(APR_ARRAY_IDX(sections, i, ap_conf_vector_t *));
    for (int j = i + 1; j < sections->nelts; j++) {
        const core_dir_config *later = ap_get_core_module_config(APR_ARRAY_IDX(sections, j, ap_conf_vector_t *));
        if (settings_of(sections, j) && !later->r == !own->r && !strcmp(later->d, own->d)) {
            return true;
        }
    }
    return false;
}

static void walk_sections(setup_t *setup)
{
    const core_server_config *core = ap_get_core_module_config(setup->server->module_config);
    const apr_array_header_t *sections = core->sec_url;
    const settings_t *base = base_of(setup->server);
    if (setting_flag(base, SETTING_ENABLED)) {
        serve(setup, base, "/");
    }
    for (int i = 0; i < sections->nelts; i++) {
        const settings_t *own = settings_of(sections, i);
        const settings_t *effective = base;
        if (!own || is_repeated(sections, i)) {
            continue;
        }
        for (int j = 0; j < i; j++) {
            const settings_t *outer = settings_of(sections, j);
            if (outer && setting_path_contains(path_of(sections, j), path_of(sections, i))) {
                effective = settings_merge(setup->pool, (void *)(apr_uintptr_t)effective, (void *)(apr_uintptr_t)outer);
            }
        }
        effective = settings_merge(setup->pool, (void *)(apr_uintptr_t)effective, (void *)(apr_uintptr_t)own);
        if (setting_flag(effective, SETTING_ENABLED)) {
            serve(setup, effective, path_of(sections, i));
            const site_t *site = site_of(setup->server, effective->section);
            if (!site || site->server != setup->server) {
                continue; /* each virtual host sees those of the main server again */
            }
            advise_path(setup, ap_get_core_module_config(APR_ARRAY_IDX(sections, i, ap_conf_vector_t *)), effective);
        }
    }
}

/* As httpd finds the sections of a request. */
static bool section_has(const apr_array_header_t *sections, int i, const char *path)
{
    const core_dir_config *core = ap_get_core_module_config(APR_ARRAY_IDX(sections, i, ap_conf_vector_t *));
    if (core->r) {
        return !ap_regexec(core->r, path, 0, NULL, 0);
    }
    return core->d_is_fnmatch ? !apr_fnmatch(core->d, path, APR_FNM_PATHNAME) : setting_path_contains(core->d, path);
}

bool setup_path_is_served(const server_rec *server, const char *path)
{
    const core_server_config *core = ap_get_core_module_config(server->module_config);
    const settings_t *innermost = base_of(server);
    for (int i = 0; i < core->sec_url->nelts; i++) {
        const settings_t *own = settings_of(core->sec_url, i);
        if (own && section_has(core->sec_url, i, path)) {
            innermost = own;
        }
    }
    return site_of(server, innermost->section) != NULL;
}

static void check_state_dir(setup_t *setup)
{
    const settings_t *base = base_of(setup->main_server);
    const char *directory = setting_text(base, SETTING_STATE_DIR);
    const char *wrong = NULL;
    bool needed = setup->gateway->remote_name || setup_journal_wanted(base);
    if (!needed && !base->set[SETTING_STATE_DIR].value) {
        return;
    }
    apr_status_t rv = apr_dir_make(directory, APR_FPROT_UREAD | APR_FPROT_UWRITE | APR_FPROT_UEXECUTE, setup->scratch);
    if (rv && !APR_STATUS_IS_EEXIST(rv)) {
        wrong = apr_psprintf(setup->pool, "the directory %s does not exist and cannot be made: %s", directory,
                             apr_strerror(rv, apr_palloc(setup->pool, 200), 200));
    } else if (!rv && !geteuid() && lchown(directory, ap_unixd_config.user_id, ap_unixd_config.group_id)) {
        /* lchown(): whoever may write to its parent could have put a link in its place meanwhile. */
        wrong = apr_psprintf(setup->pool, "the directory %s cannot be given to the server's user", directory);
    } else {
        secret_path_check(directory, true, setup->pool, &wrong);
    }
    if (wrong) {
        fault(setup, apr_pstrcat(setup->pool, setting_place(base, SETTING_STATE_DIR, setup->pool), ": ", wrong, NULL));
    }
}

/* The first word of the event's command is a file that the worker processes run. */
static void check_event_command(setup_t *setup)
{
    const settings_t *base = base_of(setup->main_server);
    const char *command = setting_text(base, SETTING_EVENT_COMMAND);
    if (!command) {
        return;
    }
    const char *path = apr_pstrmemdup(setup->scratch, command, strcspn(command, " "));
    struct stat facts;
    if (*path != '/' || stat(path, &facts) || !S_ISREG(facts.st_mode) || !setup_server_can(path, X_OK)) {
        fault(setup,
              apr_psprintf(setup->pool, "%s: \"%s\" is not the absolute path of a file that the server's user can run",
                           setting_place(base, SETTING_EVENT_COMMAND, setup->pool), path));
    }
}

static void check_shared(setup_t *setup)
{
    const settings_t *base = base_of(setup->main_server);
    const char *wrong = socache_check(setup->gateway, setting_text(base, SETTING_SHARED_CACHE), setup->pool);
    if (wrong) {
        fault(setup,
              apr_pstrcat(setup->pool, setting_place(base, SETTING_SHARED_CACHE, setup->pool), ": ", wrong, NULL));
    }
    int before = setup->faults;
    check_event_command(setup);
    check_state_dir(setup);
    /* without the directory there is no key in it, and one complaint is enough */
    wrong = setup->faults == before ? setup_state_key(setup->gateway, base, setup->pool) : NULL;
    if (!wrong && setup->faults == before) {
        wrong = setup_journal(setup->gateway, base, setup->main_server, setup->pool);
    }
    if (wrong) {
        fault(setup, wrong);
    }
}

/* What can be used, but will cost somebody trouble: told when nothing is wrong, so that mistakes stand alone. */
static void advise(const setup_t *setup)
{
    for (int i = 0; i < setup->gateway->sites->nelts; i++) {
        const site_t *site = APR_ARRAY_IDX(setup->gateway->sites, i, const site_t *);
        setup_name_check(site, setup->scratch);
        setup_certificates_check(site, setup->scratch);
        setup_backend_advise(site->settings, site->server, setup->scratch);
        setup_around_check(site, setup->main_server, setup->scratch);
    }
}

int setup_check_config(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp, server_rec *main_server)
{
    setup_t setup = {.pool = pconf, .scratch = ptemp, .main_server = main_server, .server = main_server};
    (void)plog;
    secret_server_user(ap_unixd_config.user_id);
    command_server_user(ap_unixd_config.user_id, ap_unixd_config.group_id, ap_unixd_config.user_name);
    result_t *result = result_make(pconf);
    setup.gateway = apr_pcalloc(pconf, sizeof(*setup.gateway));
    setup.gateway->pool = pconf;
    setup.gateway->sites = apr_array_make(pconf, 4, sizeof(site_t *));
    if (scep_engine_make(&setup.engine, pconf, result)) {
        fault(&setup, result->detail ? result->detail : "OpenSSL cannot be used");
        return HTTP_INTERNAL_SERVER_ERROR;
    }
    for (; setup.server; setup.server = setup.server->next) {
        walk_sections(&setup);
        if (apr_hash_count(sites_of(setup.server))) {
            setup_request_line_check(main_server, setup.server, ptemp);
        }
    }
    setup.server = main_server;
    if (setup.gateway->sites->nelts || setup.faults) {
        setup_clock_check(main_server);
    }
    if (setup.gateway->sites->nelts) {
        check_shared(&setup);
    }
    if (setup.faults) {
        return HTTP_INTERNAL_SERVER_ERROR;
    }
    advise(&setup);
    the_gateway = setup.gateway->sites->nelts ? setup.gateway : NULL;
    return OK;
}
