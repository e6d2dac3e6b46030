/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every worker process does beside its requests, about once a second: in one thread tokens are renewed, in another
 * the reports that are owed go out, in a third the operator hears of events and of what expires, so that a slow one does
 * not hold up the others; whichever has time sums up what repeats itself in the log, and the first gives memory back. All
 * may be cut off at any time: all of it can be done again.
 */
#include "module.h"
#include "base/clock.h"
#include "gateway/events.h"
#include "gateway/outbox.h"

#include <ap_mpm.h>
#include <malloc.h>
#include <mod_watchdog.h>
#include <openssl/crypto.h>
#include <stdatomic.h>

APLOG_USE_MODULE(intune_scep);

/*
 * mod_watchdog's threads are not joined when a worker process ends (their cleanup is in a pool that only the parent
 * destroys): they may call from before child_init until exit(), but are let in only between background_child() and
 * background_stop().
 */
static atomic_bool is_open;
static atomic_int inside;
/* A call to Microsoft that is told to end does so within a second or so, an event's command within ten. */
static const apr_interval_time_t PATIENCE = apr_time_from_sec(12);
static const apr_interval_time_t POLL = apr_time_from_msec(5);
static const apr_interval_time_t TRIM_PAUSE = apr_time_from_sec(10);

static void leave(void)
{
    /* What OpenSSL keeps for this thread would still be there when exit() takes OpenSSL down. */
    OPENSSL_thread_stop();
    atomic_fetch_sub(&inside, 1);
}

/* Who is not let in touches nothing more, OpenSSL least of all: exit() may be taking it down at this moment. */
static bool enter(void)
{
    atomic_fetch_add(&inside, 1);
    if (!atomic_load(&is_open)) {
        atomic_fetch_sub(&inside, 1);
        return false;
    }
    return true;
}

void background_child(void)
{
    atomic_store(&is_open, true);
}

void background_stop(void)
{
    atomic_store(&is_open, false);
    for (apr_interval_time_t waited = 0; waited < PATIENCE && atomic_load(&inside); waited += POLL) {
        apr_sleep(POLL);
    }
}

void background_last_words(const gateway_t *gateway)
{
    apr_pool_t *scratch = NULL;
    if (apr_pool_create(&scratch, NULL)) {
        return;
    }
    for (int i = 0; i < gateway->sites->nelts; i++) {
        counting_sum_up(APR_ARRAY_IDX(gateway->sites, i, const site_t *), true, scratch);
    }
    apr_pool_destroy(scratch);
}

typedef struct background_t {
    gateway_t *gateway;
    server_rec *server;
    apr_interval_time_t retention;
    const char *event_command; /* or NULL */
    apr_time_t started;
    events_watch_t *watches;   /* by profile->index, of this process */
    apr_time_t trimmed;        /* in this process, by the first thread */
} background_t;

typedef void (*task_t)(const background_t *background, const profile_t *profile, apr_pool_t *pool);

/* Does the task for each profile of the gateway that this process serves, if the call is for that one. */
static apr_status_t for_each_profile(int state, const background_t *background, task_t task)
{
    if (state != AP_WATCHDOG_STATE_RUNNING || !enter()) {
        return APR_SUCCESS;
    }
    bool ours = the_gateway && the_gateway == background->gateway;
    const apr_array_header_t *sites = background->gateway->sites;
    for (int i = 0; ours && atomic_load(&is_open) && i < sites->nelts; i++) {
        apr_pool_t *scratch = NULL;
        if (apr_pool_create(&scratch, NULL)) {
            break;
        }
        const site_t *site = APR_ARRAY_IDX(sites, i, const site_t *);
        counting_sum_up(site, false, scratch);
        task(background, site->profile, scratch);
        apr_pool_destroy(scratch);
    }
    leave();
    return APR_SUCCESS;
}

static void renew(const background_t *background, const profile_t *profile, apr_pool_t *pool)
{
    intune_renew_due(profile->intune, pool, error_log_of_server(background->server, profile, pool));
}

/*
 * What a crowd of devices needed goes back to the system. By itself malloc keeps each page that it has once had between
 * blocks in use, so that a process would go on growing, though ever slower, with each crowd that is the largest so far.
 */
static void memory_trim(background_t *background)
{
#ifdef __GLIBC__
    apr_time_t now = clock_now();
    if (now - background->trimmed >= TRIM_PAUSE || now < background->trimmed) {
        background->trimmed = now;
        malloc_trim(0);
    }
#else
    (void)background;
#endif
}

static apr_status_t renew_tick(int state, void *data, apr_pool_t *pool)
{
    (void)pool;
    apr_status_t rv = for_each_profile(state, data, renew);
    if (state == AP_WATCHDOG_STATE_RUNNING && enter()) {
        memory_trim(data);
        leave();
    }
    return rv;
}

static apr_interval_time_t pace(void *baton)
{
    (void)baton;
    return pace_take();
}

static bool is_stopping(void *baton)
{
    int state = AP_MPMQ_RUNNING;
    (void)baton;
    return !atomic_load(&is_open) || ap_mpm_query(AP_MPMQ_MPM_STATE, &state) || state == AP_MPMQ_STOPPING;
}

/* For all locations at once. */
static void look(const background_t *background, const outbox_t *outbox, apr_pool_t *pool)
{
    const apr_array_header_t *sites = background->gateway->sites;
    const profile_t **profiles = apr_palloc(pool, (apr_size_t)sites->nelts * sizeof(const profile_t *));
    for (int i = 0; i < sites->nelts; i++) {
        profiles[i] = APR_ARRAY_IDX(sites, i, const site_t *)->profile;
    }
    outbox_look(profiles, sites->nelts, outbox, pool);
}

static void send_reports(const background_t *background, const profile_t *profile, apr_pool_t *pool)
{
    outbox_t outbox = {.log = error_log_of_server(background->server, profile, pool), .pace = pace, .stopping = is_stopping};
    outbox_run(profile, &outbox, pool);
    if (profile->index == 0) {
        look(background, &outbox, pool);
    }
    outbox_prune(profile, &outbox, background->retention, pool);
}

static apr_status_t outbox_tick(int state, void *data, apr_pool_t *pool)
{
    (void)pool;
    return for_each_profile(state, data, send_reports);
}

static void tell_events(const background_t *background, const profile_t *profile, apr_pool_t *pool)
{
    events_t events = {.command = background->event_command,
                       .started = background->started,
                       .log = error_log_of_server(background->server, profile, pool),
                       .stopping = is_stopping};
    events_watch(profile, &events, &background->watches[profile->index], pool);
    if (background->event_command && profile->index == 0) {
        events_of_journal(profile, &events, pool);
    }
}

static apr_status_t events_tick(int state, void *data, apr_pool_t *pool)
{
    (void)pool;
    return for_each_profile(state, data, tell_events);
}

static void add_task(background_t *background, const char *name, ap_watchdog_callback_fn_t *tick, apr_pool_t *pconf)
{
    APR_OPTIONAL_FN_TYPE(ap_watchdog_get_instance) *get = APR_RETRIEVE_OPTIONAL_FN(ap_watchdog_get_instance);
    APR_OPTIONAL_FN_TYPE(ap_watchdog_register_callback) *add = APR_RETRIEVE_OPTIONAL_FN(ap_watchdog_register_callback);
    ap_watchdog_t *watchdog = NULL;
    apr_status_t rv = get && add ? get(&watchdog, name, 0, 0, pconf) : APR_ENOTIMPL;
    if (!rv) {
        rv = add(watchdog, AP_WD_TM_INTERVAL, background, tick);
    }
    if (rv) {
        ap_log_error(APLOG_MARK, APLOG_WARNING, rv, background->server,
                     "ISCEP0508: mod_watchdog cannot be used: tokens are renewed, and success reports that are owed are "
                     "sent, only when a device comes; failure reports that are owed, and events, wait; load mod_watchdog");
    }
}

void background_start(gateway_t *gateway, server_rec *server, apr_pool_t *pconf)
{
    background_t *background = apr_pcalloc(pconf, sizeof(*background));
    background->gateway = gateway;
    background->server = server;
    const settings_t *base = ap_get_module_config(server->lookup_defaults, &intune_scep_module);
    background->retention = setting_duration(base, SETTING_RETENTION);
    background->event_command = setting_text(base, SETTING_EVENT_COMMAND);
    background->started = clock_now();
    background->watches = apr_pcalloc(pconf, (apr_size_t)gateway->sites->nelts * sizeof(*background->watches));
    add_task(background, "_intune_scep_", renew_tick, pconf);
    if (gateway->journal) {
        add_task(background, "_intune_scep_outbox_", outbox_tick, pconf);
    }
    add_task(background, "_intune_scep_events_", events_tick, pconf);
}
