/* SPDX-License-Identifier: Apache-2.0 */
#include "intune_bed.h"

#include "base/clock.h"
#include "store/shared_cache.h"

#include <apr_general.h>
#include <apr_strings.h>
#include <apr_thread_proc.h>

#include <stdlib.h>
#include <string.h>

static void line_keep(void *baton, log_level_t level, const char *line)
{
    bed_t *bed = baton;
    (void)level;
    if (bed->line_count < BED_LOG_MAX) {
        bed->lines[bed->line_count++] = apr_pstrdup(bed->pool, line);
    }
}

static bool line_wanted(void *baton, log_level_t level)
{
    const bed_t *bed = baton;
    return level != LOG_LEVEL_TRACE || bed->tracing;
}

int bed_logged(const bed_t *bed, const char *text)
{
    int n = 0;
    for (int i = 0; i < bed->line_count; i++) {
        n += strstr(bed->lines[i], text) != NULL ? 1 : 0;
    }
    return n;
}

void bed_attach(bed_t *bed, const intune_settings_t *settings)
{
    const char *message = NULL;
    assert_int_equal(intune_make(&bed->intune, settings, bed->pool), APR_SUCCESS);
    assert_int_equal(intune_attach(bed->intune, bed->cache, bed->pool, &message), APR_SUCCESS);
}

void bed_call(bed_t *bed)
{
    bed->result = result_make(bed->pool);
    memset(&bed->call, 0, sizeof(bed->call));
    bed->call.pool = bed->pool;
    bed->call.log = &bed->log;
    bed->call.result = bed->result;
}

bytes_t bed_csr(void)
{
    static const unsigned char csr[] = {'C', 'S', 'R', 0x00, 0xff};
    bytes_t bytes = {csr, sizeof(csr)};
    return bytes;
}

apr_status_t bed_validate(bed_t *bed)
{
    bed_call(bed);
    return intune_validate(bed->intune, &bed->call, "tx/1", bed_csr());
}

void bed_endpoints(bed_t *bed, const char *key, const char *name, const char *uri)
{
    const char *body =
        apr_psprintf(bed->pool,
                     "{\"value\":[7,{\"providerName\":\"PkiConnectorFEService\",\"uri\":\"https://other.invalid/\"},"
                     "{\"%s\":\"%s\",\"uri\":\"%s\"}]}",
                     key, name, uri);
    fixture_on(bed->server, BED_GRAPH_PATH, NULL, -1, (fixture_reply_t){200, NULL, body, 0, 0, false});
}

void bed_token(bed_t *bed, const char *within, int times, int status, const char *body)
{
    fixture_on(bed->server, BED_TOKEN_PATH, within, times, (fixture_reply_t){status, NULL, body, 0, 0, false});
}

static void settings_make(bed_t *bed)
{
    intune_settings_t *settings = &bed->settings;
    const char *message = NULL;
    settings->tenant = "tenant-1";
    settings->app_id = "app-1";
    assert_int_equal(secret_source_make(&settings->app_key, "s+e&c=r%et", bed->pool, &message), APR_SUCCESS);
    settings->provider = "Test 1.0";
    settings->authority = fixture_url(bed->server);
    settings->graph_url = fixture_url(bed->server);
    settings->graph_version = "v1.0";
    settings->intune_url = "https://api.manage.microsoft.com/";
    settings->intune_app_id = "0000000a-0000-0000-c000-000000000000";
    settings->service_version = "2018-02-20";
    settings->ca_configuration = "conf";
    settings->certificate_authority = "";
    settings->timeout = apr_time_from_sec(10);
    settings->http.proxy = "";
    settings->http.max_handles = 64;
}

int bed_up(void **state)
{
    cache_provider_t *provider = NULL;
    apr_pool_t *pool = NULL;
    if (apr_pool_create(&pool, NULL) != APR_SUCCESS) {
        return -1;
    }
    bed_t *bed = apr_pcalloc(pool, sizeof(*bed));
    *state = bed;
    bed->pool = pool;
    bed->log.write = line_keep;
    bed->log.enabled = line_wanted;
    bed->log.baton = bed;
    bed->server = fixture_start(pool);
    if (memory_provider_make(&provider, pool) != APR_SUCCESS) {
        return -1;
    }
    bed->cache = shared_cache_make(provider, pool);
    settings_make(bed);
    bed_attach(bed, &bed->settings);
    bed_token(bed, BED_GRAPH_SCOPE, -1, 200,
              "{\"token_type\":\"Bearer\",\"access_token\":\"graph-token\",\"expires_in\":3599}");
    bed_token(bed, BED_INTUNE_SCOPE, -1, 200,
              "{\"token_type\":\"Bearer\",\"access_token\":\"intune-token\",\"expires_in\":3599}");
    bed_endpoints(bed, "providerName", BED_SERVICE, apr_pstrcat(pool, fixture_url(bed->server), "svc", NULL));
    fixture_on(bed->server, "/svc/", NULL, -1, (fixture_reply_t){200, NULL, "{\"code\":\"Success\"}", 0, 0, false});
    fixture_on(bed->server, "/new/", NULL, -1, (fixture_reply_t){200, NULL, "{\"code\":\"Success\"}", 0, 0, false});
    return 0;
}

int bed_down(void **state)
{
    bed_t *bed = *state;
    clock_shift(0);
    apr_pool_destroy(bed->pool);
    return 0;
}

static bool same_text(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

void bed_check(const bed_t *bed, const char *name, apr_status_t rv, problem_t problem, const char *code, const char *detail)
{
    const result_t *result = bed->result;
    if (result->problem != problem || (rv == APR_SUCCESS) != (problem == PROBLEM_NONE) ||
        !same_text(result->code, code) ||
        (detail != NULL && (result->detail == NULL || strstr(result->detail, detail) == NULL))) {
        fail_msg("%s: rv %d, %s, code %s, detail %s", name, rv, problem_facts(result->problem)->name, result->code,
                 result->detail);
    }
}

static void *APR_THREAD_FUNC crowd_run(apr_thread_t *thread, void *baton)
{
    bed_crowd_t *one = baton;
    intune_call_t call = {.pool = one->pool, .result = one->result};
    (void)thread;
    pthread_barrier_wait(one->start);
    one->rv = intune_validate(one->bed->intune, &call, "tx", bed_csr());
    one->duration = call.duration;
    return NULL;
}

bed_crowd_t *bed_crowd(bed_t *bed, int count)
{
    bed_crowd_t *crowd = apr_pcalloc(bed->pool, sizeof(*crowd) * (size_t)count);
    apr_thread_t **threads = apr_pcalloc(bed->pool, sizeof(apr_thread_t *) * (size_t)count);
    pthread_barrier_t start;
    assert_int_equal(pthread_barrier_init(&start, NULL, (unsigned)count), 0);
    for (int i = 0; i < count; i++) {
        crowd[i].bed = bed;
        crowd[i].start = &start;
        apr_pool_create(&crowd[i].pool, bed->pool);
        crowd[i].result = result_make(crowd[i].pool);
    }
    for (int i = 0; i < count; i++) {
        assert_int_equal(apr_thread_create(&threads[i], NULL, crowd_run, &crowd[i], bed->pool), APR_SUCCESS);
    }
    for (int i = 0; i < count; i++) {
        apr_status_t ended = APR_SUCCESS;
        assert_int_equal(apr_thread_join(&ended, threads[i]), APR_SUCCESS);
    }
    pthread_barrier_destroy(&start);
    return crowd;
}

int bed_start(void)
{
    return apr_initialize() == APR_SUCCESS && http_global_init() == APR_SUCCESS ? 0 : -1;
}
