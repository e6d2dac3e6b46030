/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the counters are, and behind them the counts of what repeats itself in the log: shared memory in the pool of the
 * parent process, which a graceful restart leaves alone. A new generation of the same module with the same locations goes
 * on with it, while processes of the old one still count in it; any other begins anew. Those of the old one then go on in
 * their own mapping, for nobody to see.
 */
#include "module.h"

#include <apr_shm.h>
#include <apr_strings.h>

APLOG_USE_MODULE(intune_scep);

static const char KEEP_KEY[] = "mod_intune_scep counters";

/* It lies in the parent's pool, for the module itself is unloaded and loaded again. */
typedef struct kept_t {
    apr_pool_t *pool;
    const char *key; /* what the memory was made for */
    void *memory;
} kept_t;

/* Words of 64 bits alone, so that one may follow the other. */
static apr_size_t size_of(int locations)
{
    return counters_size(locations) + repeats_size(locations);
}

static void *repeats_in(void *memory, int locations)
{
    return (char *)memory + counters_size(locations);
}

/* The module's version, how its memory is laid out, and whose counters are in it. */
static const char *key_of(const gateway_t *gateway, apr_pool_t *pool)
{
    const char *key = apr_psprintf(pool, "%s %d %" APR_SIZE_T_FMT, ISCEP_VERSION, (int)OUTCOME_COUNT,
                                   size_of(gateway->sites->nelts));
    for (int i = 0; i < gateway->sites->nelts; i++) {
        key = apr_pstrcat(pool, key, "\n", APR_ARRAY_IDX(gateway->sites, i, const site_t *)->profile->name, NULL);
    }
    return key;
}

static apr_status_t make(kept_t *kept, const char *key, int locations, apr_pool_t *parent)
{
    apr_shm_t *shm = NULL;
    apr_status_t rv = apr_pool_create(&kept->pool, parent);
    if (!rv) {
        rv = apr_shm_create(&shm, size_of(locations), NULL, kept->pool);
    }
    if (rv) {
        return rv;
    }
    kept->key = apr_pstrdup(kept->pool, key);
    kept->memory = apr_shm_baseaddr_get(shm);
    counters_begin(kept->memory, locations);
    repeats_begin(repeats_in(kept->memory, locations), locations);
    return APR_SUCCESS;
}

/* What each location counts in. */
static void hand_out(const gateway_t *gateway, void *memory, apr_interval_time_t interval)
{
    int locations = gateway->sites->nelts;
    for (int i = 0; i < locations; i++) {
        profile_t *profile = APR_ARRAY_IDX(gateway->sites, i, const site_t *)->profile;
        profile->counters = counters_of(memory, profile->index, gateway->pool);
        intune_observe(profile->intune, counters_observer(profile->counters));
        if (interval) {
            profile->repeats =
                repeats_of(repeats_in(memory, locations), profile->index, profile->name, interval, gateway->pool);
        }
    }
}

apr_status_t counting_start(gateway_t *gateway, server_rec *server)
{
    void *data = NULL;
    apr_pool_t *parent = server->process->pool;
    const char *key = key_of(gateway, gateway->pool);
    apr_status_t rv = APR_SUCCESS;
    apr_pool_userdata_get(&data, KEEP_KEY, parent);
    kept_t *kept = data;
    if (!kept) {
        kept = apr_pcalloc(parent, sizeof(*kept));
        apr_pool_userdata_set(kept, apr_pstrdup(parent, KEEP_KEY), apr_pool_cleanup_null, parent);
    }
    if (kept->pool && !strcmp(kept->key, key)) {
        counters_go_on(kept->memory);
    } else {
        if (kept->pool) {
            apr_pool_destroy(kept->pool);
            kept->pool = NULL;
        }
        rv = make(kept, key, gateway->sites->nelts, parent);
    }
    if (rv) {
        kept->pool = NULL;
        ap_log_error(APLOG_MARK, APLOG_EMERG, rv, server, "ISCEP0545: no shared memory for the counters");
        return rv;
    }
    const settings_t *base = ap_get_module_config(server->lookup_defaults, &intune_scep_module);
    hand_out(gateway, kept->memory, setting_duration(base, SETTING_REPEAT_INTERVAL));
    return APR_SUCCESS;
}

void counting_sum_up(const site_t *site, bool all, apr_pool_t *pool)
{
    repeats_sum_up(site->profile->repeats, error_log_of_server(site->server, NULL, pool), all);
}
