/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the counters are: shared memory in the pool of the parent process, which a graceful restart leaves alone. A new
 * generation of the same module with the same locations goes on with it, while processes of the old one still count in it;
 * any other begins anew. Those of the old one then go on in their own mapping, for nobody to see.
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

/* The module's version, how its memory is laid out, and whose counters are in it. */
static const char *key_of(const gateway_t *gateway, apr_pool_t *pool)
{
    const char *key = apr_psprintf(pool, "%s %d %" APR_SIZE_T_FMT, ISCEP_VERSION, (int)OUTCOME_COUNT,
                                   counters_size(gateway->sites->nelts));
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
        rv = apr_shm_create(&shm, counters_size(locations), NULL, kept->pool);
    }
    if (rv) {
        return rv;
    }
    kept->key = apr_pstrdup(kept->pool, key);
    kept->memory = apr_shm_baseaddr_get(shm);
    counters_begin(kept->memory, locations);
    return APR_SUCCESS;
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
    for (int i = 0; i < gateway->sites->nelts; i++) {
        profile_t *profile = APR_ARRAY_IDX(gateway->sites, i, const site_t *)->profile;
        profile->counters = counters_of(kept->memory, profile->index, gateway->pool);
        intune_observe(profile->intune, counters_observer(profile->counters));
    }
    return APR_SUCCESS;
}
