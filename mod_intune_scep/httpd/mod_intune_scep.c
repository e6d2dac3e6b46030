/* SPDX-License-Identifier: Apache-2.0 */
/* The module: its hooks, and nothing else. */
#include "module.h"

#include <http_core.h>
#include <http_protocol.h>
#include <http_request.h>
#include <mpm_common.h>
#include <sys/prctl.h>

APLOG_USE_MODULE(intune_scep);

#ifdef ISCEP_SANITIZERS
#include <sanitizer/lsan_interface.h>

/*
 * What is made with the configuration, by all modules, lives in its pool, which a worker process leaves to exit().
 * LeakSanitizer does not look into pools (Debian's APR has their memory from mmap()), so it is told not to count that.
 */
static int leaks_begin(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp)
{
    (void)pconf;
    (void)plog;
    (void)ptemp;
    __lsan_disable();
    return OK;
}

static int leaks_end(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp, server_rec *server)
{
    (void)pconf;
    (void)plog;
    (void)ptemp;
    (void)server;
    __lsan_enable();
    return OK;
}

static void register_leaks(void)
{
    ap_hook_pre_config(leaks_begin, NULL, NULL, APR_HOOK_REALLY_FIRST - 10);
    ap_hook_post_config(leaks_end, NULL, NULL, APR_HOOK_REALLY_LAST + 10);
}
#endif

static int pre_config(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp)
{
    (void)plog;
    (void)ptemp;
    the_gateway = NULL;
    socache_register(pconf);
    relay_watch_attempts();
    return OK;
}

static int post_config(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp, server_rec *server)
{
    (void)plog;
    if (!the_gateway || ap_state_query(AP_SQ_MAIN_STATE) == AP_SQ_MS_CREATE_PRE_CONFIG) {
        return OK;
    }
    if (counting_start(the_gateway, server) || socache_start(the_gateway, server, pconf, ptemp) || limit_start(the_gateway, server, pconf) ||
        journal_start(the_gateway, server, pconf)) {
        return HTTP_INTERNAL_SERVER_ERROR;
    }
    if (pace_start(
            setting_number(ap_get_module_config(server->lookup_defaults, &intune_scep_module), SETTING_REPORT_RATE),
            server, pconf)) {
        return HTTP_INTERNAL_SERVER_ERROR;
    }
    background_start(the_gateway, server, pconf);
    return OK;
}

static void stop_calls(const gateway_t *gateway)
{
    for (int i = 0; i < gateway->sites->nelts; i++) {
        intune_stop(APR_ARRAY_IDX(gateway->sites, i, const site_t *)->profile->intune);
    }
}

/* Before the process's pools go: calls in the background are told to end, and waited for. */
static apr_status_t stop_background(void *data)
{
    stop_calls(data);
    background_stop();
    background_last_words(data);
    return APR_SUCCESS;
}

/* A plain stop does not wait for Microsoft. A graceful one does: its requests were accepted. */
static void child_stopping(apr_pool_t *pchild, int graceful)
{
    (void)pchild;
    if (the_gateway && !graceful) {
        stop_calls(the_gateway);
    }
}

static void child_init(apr_pool_t *pchild, server_rec *server)
{
    if (!the_gateway) {
        return;
    }
#ifndef ISCEP_SANITIZERS
    /* The RA key lives here: no core file, no debugger of another user. (LeakSanitizer is such a debugger.) */
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
#endif
    const char *message = "the shared cache cannot be used";
    journal_t *journal = NULL;
    apr_status_t rv = socache_child(the_gateway, server, pchild);
    if (!rv) {
        rv = http_global_init();
    }
    if (!rv && the_gateway->journal) {
        rv = journal_open(&journal, the_gateway->journal, pchild, &message);
    }
    for (int i = 0; !rv && i < the_gateway->sites->nelts; i++) {
        site_t *site = APR_ARRAY_IDX(the_gateway->sites, i, site_t *);
        rv = profile_attach(site->profile, the_gateway->cache, journal, pchild, &message);
    }
    apr_pool_pre_cleanup_register(pchild, the_gateway, stop_background);
    limit_child(pchild);
    if (rv) {
        ap_log_error(APLOG_MARK, APLOG_CRIT, rv, server, "ISCEP0501: a worker process cannot serve SCEP: %s", message);
        the_gateway = NULL;
        return;
    }
    background_child();
}

static void child_status(server_rec *server, pid_t pid, ap_generation_t generation, int slot, mpm_child_status status)
{
    (void)server;
    (void)generation;
    (void)slot;
    if (status != MPM_CHILD_STARTED) {
        limit_child_ended(pid);
    }
}

static void register_hooks(apr_pool_t *pool)
{
    static const char *const before_proxy[] = {"mod_proxy.c", NULL};
    (void)pool;
#ifdef ISCEP_SANITIZERS
    register_leaks();
#endif
    ap_hook_pre_config(pre_config, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_check_config(setup_check_config, NULL, NULL, APR_HOOK_LAST);
    ap_hook_post_config(post_config, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_child_init(child_init, NULL, NULL, APR_HOOK_LAST);
    ap_hook_child_stopping(child_stopping, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_child_status(child_status, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_translate_name(handler_translate_name, NULL, NULL, APR_HOOK_REALLY_FIRST);
    ap_hook_map_to_storage(handler_map_to_storage, NULL, NULL, APR_HOOK_FIRST);
    ap_hook_type_checker(handler_type_checker, NULL, NULL, APR_HOOK_REALLY_FIRST);
    ap_hook_fixups(handler_fixups, NULL, NULL, APR_HOOK_REALLY_FIRST);
    ap_hook_handler(status_handler, NULL, before_proxy, APR_HOOK_REALLY_FIRST);
    ap_hook_handler(handler, NULL, before_proxy, APR_HOOK_FIRST);
    ap_hook_log_transaction(relay_log_transaction, NULL, NULL, APR_HOOK_FIRST);
    relay_register();
    status_register();
}

module AP_MODULE_DECLARE_DATA intune_scep_module = {
    STANDARD20_MODULE_STUFF, settings_create, settings_merge,     setup_create_server, NULL,
    directives,              register_hooks,  AP_MODULE_FLAG_NONE};
