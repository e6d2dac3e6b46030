/* SPDX-License-Identifier: Apache-2.0 */
#include "intune/intune_internal.h"

#include "base/clock.h"

#include <apr_atomic.h>
#include <apr_strings.h>

static void settings_copy(intune_settings_t *to, const intune_settings_t *from, apr_pool_t *pool)
{
    *to = *from;
    to->tenant = apr_pstrdup(pool, from->tenant);
    to->app_id = apr_pstrdup(pool, from->app_id);
    to->app_token_file = apr_pstrdup(pool, from->app_token_file);
    to->provider = apr_pstrdup(pool, from->provider);
    to->authority = apr_pstrdup(pool, from->authority);
    to->graph_url = apr_pstrdup(pool, from->graph_url);
    to->graph_version = apr_pstrdup(pool, from->graph_version);
    to->intune_url = apr_pstrdup(pool, from->intune_url);
    to->intune_app_id = apr_pstrdup(pool, from->intune_app_id);
    to->service_version = apr_pstrdup(pool, from->service_version);
    to->ca_configuration = apr_pstrdup(pool, from->ca_configuration != NULL ? from->ca_configuration : "");
    to->certificate_authority =
        apr_pstrdup(pool, from->certificate_authority != NULL ? from->certificate_authority : "");
    to->http.ca_file = apr_pstrdup(pool, from->http.ca_file);
    to->http.client_certificate = apr_pstrdup(pool, from->http.client_certificate);
    to->http.proxy = apr_pstrdup(pool, from->http.proxy);
    to->http.proxy_user = apr_pstrdup(pool, from->http.proxy_user);
}

apr_status_t intune_make(intune_t **intune, const intune_settings_t *settings, apr_pool_t *pool)
{
    intune_t *made = apr_pcalloc(pool, sizeof(*made));
    settings_copy(&made->settings, settings, pool);
    *intune = made;
    return APR_SUCCESS;
}

apr_status_t intune_attach(intune_t *intune, cache_t *cache, apr_pool_t *pool, const char **message)
{
    apr_status_t rv = http_client_make(&intune->http, &intune->settings.http, pool, message);
    if (rv != APR_SUCCESS) {
        intune->http = NULL;
        return rv;
    }
    intune->cache = cache;
    return APR_SUCCESS;
}

void intune_observe(intune_t *intune, observer_t observer)
{
    intune->observer = observer;
}

apr_time_t intune_credential_expires(const intune_t *intune)
{
    struct app_certificate_t *certificate = intune->settings.app_certificate;
    return certificate != NULL ? app_certificate_expires(certificate) : 0;
}

void intune_stop(intune_t *intune)
{
    apr_atomic_set32(&intune->stopping, 1);
    if (intune->http != NULL) {
        http_client_stop(intune->http);
    }
}

apr_status_t errand_begin(errand_t *errand, intune_t *intune, intune_call_t *call)
{
    memset(errand, 0, sizeof(*errand));
    errand->intune = intune;
    errand->call = call;
    errand->result = call->result;
    errand->began = clock_now();
    errand->deadline = errand->began + intune->settings.timeout;
    errand->failure = HTTP_OK;
    errand->retries = intune->settings.retries;
    call->request_id = NULL;
    call->duration = 0;
    if (intune->http == NULL || intune->cache == NULL) {
        return errand_fail(errand, PROBLEM_INTERNAL, NULL, 0,
                           "the connection to Microsoft is not set up in this process");
    }
    return APR_SUCCESS;
}

apr_status_t errand_end(errand_t *errand, apr_status_t rv)
{
    errand->call->duration = clock_now() - errand->began;
    return rv;
}

apr_status_t errand_fail(errand_t *errand, problem_t problem, const char *code, apr_interval_time_t retry_after,
                         const char *detail)
{
    result_t *result = errand->result;
    if (result->problem == PROBLEM_NONE) {
        result->code = apr_pstrdup(result->pool, code);
        result->retry_after = retry_after;
    }
    return result_set(result, problem, "%s", detail);
}

bool errand_stopping(const errand_t *errand)
{
    return apr_atomic_read32(&errand->intune->stopping) != 0;
}

const char *key_part(apr_pool_t *pool, const char *text)
{
    return apr_psprintf(pool, "%" APR_SIZE_T_FMT ":%s ", strlen(text), text);
}
