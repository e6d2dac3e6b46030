/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How many enrolments run at once, over all processes. Each process counts its own in a row of shared memory; the sum
 * decides. A row of a killed process is given back by the parent, so that nothing leaks.
 *
 * Where several locations are served, one of them may take three quarters of the places at most, so that a tenant whose
 * Entra is stalled leaves room for the others.
 */
#include "module.h"

#include <ap_mpm.h>
#include <apr_atomic.h>
#include <apr_shm.h>
#include <unistd.h>

APLOG_USE_MODULE(intune_scep);

typedef struct limits_t {
    int sites;
    int rows;
    int total;
    volatile apr_uint32_t *pids;   /* rows */
    volatile apr_uint32_t *counts; /* rows × sites */
    int own;                       /* this process's row, or -1 */
} limits_t;

static limits_t limits;

static int server_threads(void)
{
    int daemons = 0;
    int threads = 0;
    ap_mpm_query(AP_MPMQ_MAX_DAEMONS, &daemons);
    ap_mpm_query(AP_MPMQ_MAX_THREADS, &threads);
    return (daemons > 0 ? daemons : 1) * (threads > 0 ? threads : 1);
}

static bool is_set_in_location(const settings_t *effective, const settings_t *base)
{
    const setting_t *own = &effective->set[SETTING_MAX_CONCURRENT];
    return own->value && own->value != base->set[SETTING_MAX_CONCURRENT].value;
}

static void share_out(gateway_t *gateway, const settings_t *base)
{
    int total = setting_number(base, SETTING_MAX_CONCURRENT);
    bool given = total > 0;
    if (!given) {
        total = server_threads() / 2;
        total = total > 0 ? total : 1;
    }
    for (int i = 0; i < gateway->sites->nelts; i++) {
        const site_t *site = APR_ARRAY_IDX(gateway->sites, i, const site_t *);
        int own = setting_number(site->settings, SETTING_MAX_CONCURRENT);
        if (!given && is_set_in_location(site->settings, base) && own > total) {
            total = own;
        }
    }
    int share = gateway->sites->nelts > 1 ? total - (total + 3) / 4 : total;
    for (int i = 0; i < gateway->sites->nelts; i++) {
        site_t *site = APR_ARRAY_IDX(gateway->sites, i, site_t *);
        bool own = is_set_in_location(site->settings, base);
        site->profile->max_concurrent = own         ? setting_number(site->settings, SETTING_MAX_CONCURRENT)
                                        : share > 0 ? share
                                                    : 1;
    }
    limits.total = total;
}

apr_status_t limit_start(gateway_t *gateway, server_rec *server, apr_pool_t *pconf)
{
    int daemons = 0;
    apr_shm_t *memory = NULL;
    ap_mpm_query(AP_MPMQ_HARD_LIMIT_DAEMONS, &daemons);
    memset(&limits, 0, sizeof(limits));
    limits.own = -1;
    limits.sites = gateway->sites->nelts;
    limits.rows = (daemons > 0 ? daemons : 1) * 2;
    share_out(gateway, ap_get_module_config(server->lookup_defaults, &intune_scep_module));
    apr_size_t cells = (apr_size_t)limits.rows * (apr_size_t)(1 + limits.sites);
    apr_status_t rv = apr_shm_create(&memory, cells * sizeof(apr_uint32_t), NULL, pconf);
    if (rv) {
        ap_log_error(APLOG_MARK, APLOG_EMERG, rv, server, "ISCEP0507: no shared memory for IntuneScepMaxConcurrent");
        return rv;
    }
    memset(apr_shm_baseaddr_get(memory), 0, cells * sizeof(apr_uint32_t));
    limits.pids = apr_shm_baseaddr_get(memory);
    limits.counts = limits.pids + limits.rows;
    return APR_SUCCESS;
}

static void clear_row(int row)
{
    for (int site = 0; site < limits.sites; site++) {
        apr_atomic_set32(&limits.counts[row * limits.sites + site], 0);
    }
    apr_atomic_set32(&limits.pids[row], 0);
}

static apr_status_t give_row_back(void *data)
{
    (void)data;
    if (limits.own >= 0) {
        clear_row(limits.own);
        limits.own = -1;
    }
    return APR_SUCCESS;
}

void limit_child(apr_pool_t *pchild)
{
    for (int row = 0; limits.pids && row < limits.rows; row++) {
        if (apr_atomic_cas32(&limits.pids[row], (apr_uint32_t)getpid(), 0) == 0) {
            limits.own = row;
            apr_pool_cleanup_register(pchild, NULL, give_row_back, apr_pool_cleanup_null);
            return;
        }
    }
}

void limit_child_ended(pid_t pid)
{
    for (int row = 0; limits.pids && row < limits.rows; row++) {
        if (apr_atomic_read32(&limits.pids[row]) == (apr_uint32_t)pid) {
            clear_row(row);
        }
    }
}

static volatile apr_uint32_t *own_count(const profile_t *profile)
{
    return &limits.counts[limits.own * limits.sites + profile->index];
}

static apr_status_t release(void *data)
{
    if (limits.own >= 0) {
        apr_atomic_dec32(own_count(data));
    }
    return APR_SUCCESS;
}

static void sum_up(const profile_t *profile, int *of_site, int *of_all)
{
    for (int row = 0; row < limits.rows; row++) {
        if (!apr_atomic_read32(&limits.pids[row])) {
            continue;
        }
        for (int site = 0; site < limits.sites; site++) {
            int count = (int)apr_atomic_read32(&limits.counts[row * limits.sites + site]);
            *of_all += count;
            *of_site += site == profile->index ? count : 0;
        }
    }
}

int limit_used(const profile_t *profile)
{
    int of_site = 0;
    int of_all = 0;
    sum_up(profile, &of_site, &of_all);
    return of_site;
}

bool limit_take(const profile_t *profile, apr_pool_t *pool)
{
    int of_site = 0;
    int of_all = 0;
    if (limits.own < 0) {
        return false;
    }
    /* Counted first, so that two at once can both be refused but never both be let in over the limit. */
    apr_atomic_inc32(own_count(profile));
    sum_up(profile, &of_site, &of_all);
    if (of_site > profile->max_concurrent || of_all > limits.total) {
        apr_atomic_dec32(own_count(profile));
        return false;
    }
    apr_pool_cleanup_register(pool, profile, release, apr_pool_cleanup_null);
    return true;
}

void limit_release(const profile_t *profile, apr_pool_t *pool)
{
    apr_pool_cleanup_run(pool, (void *)(apr_uintptr_t)profile, release);
}
