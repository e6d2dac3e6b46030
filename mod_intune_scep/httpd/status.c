/* SPDX-License-Identifier: Apache-2.0 */
/* SetHandler intune-scep-status, and a summary for mod_status. */
#include "module.h"
#include "gateway/status.h"

#include <apr_strings.h>
#include <http_core.h>
#include <http_protocol.h>
#include <http_main.h>
#include <http_request.h>
#include <mod_status.h>
#include <util_script.h>

APLOG_USE_MODULE(intune_scep);

static const apr_interval_time_t PATIENCE = apr_time_from_sec(5);
/* The health check is asked often, and by many. */
static const apr_interval_time_t PATIENCE_OF_HEALTH = apr_time_from_sec(15);

static status_source_t source_of(server_rec *server, apr_pool_t *pool)
{
    const apr_array_header_t *sites = the_gateway->sites;
    status_site_t *list = apr_pcalloc(pool, (apr_size_t)sites->nelts * sizeof(*list));
    for (int i = 0; i < sites->nelts; i++) {
        list[i].profile = APR_ARRAY_IDX(sites, i, const site_t *)->profile;
        list[i].places_used = limit_used(list[i].profile);
    }
    return (status_source_t){
        .version = ISCEP_VERSION, .host = server->server_hostname, .sites = list, .count = sites->nelts};
}

static const settings_t *server_settings(void)
{
    return ap_get_module_config(ap_server_conf->lookup_defaults, &intune_scep_module);
}

static int send_text(request_rec *r, const char *type, const char *text)
{
    if (!text) {
        return HTTP_INTERNAL_SERVER_ERROR;
    }
    ap_set_content_type(r, type);
    ap_set_content_length(r, (apr_off_t)strlen(text));
    if (!r->header_only) {
        ap_rputs(text, r);
    }
    return OK;
}

static int send_health(request_rec *r)
{
    unsigned words = 0;
    status_t status;
    status_source_t source = source_of(r->server, r->pool);
    status_health_parse(&words, setting_text(server_settings(), SETTING_HEALTH), r->pool);
    source.patience = words & HEALTH_OUTBOX ? PATIENCE_OF_HEALTH : 0;
    status_make(&status, &source, r->pool);
    const apr_array_header_t *reasons = status_health(&status, words, r->pool);
    const char *text = reasons->nelts ? "" : "healthy\n";
    for (int i = 0; i < reasons->nelts; i++) {
        text = apr_pstrcat(r->pool, text, APR_ARRAY_IDX(reasons, i, const char *), "\n", NULL);
    }
    r->status = reasons->nelts ? HTTP_SERVICE_UNAVAILABLE : HTTP_OK;
    return send_text(r, "text/plain; charset=us-ascii", text);
}

static int send_state(request_rec *r, const char *format, const char *query)
{
    status_t status;
    status_source_t source = source_of(r->server, r->pool);
    bool metrics = !strcmp(format, "prometheus");
    source.patience = PATIENCE;
    source.recent = !metrics;
    source.query = metrics ? NULL : query;
    if (!metrics) {
        status_site_t *sites = (status_site_t *)(apr_uintptr_t)source.sites;
        for (int i = 0; i < source.count; i++) {
            sites[i].settings =
                settings_shown(APR_ARRAY_IDX(the_gateway->sites, i, const site_t *)->settings, false, r->pool);
        }
        source.settings = settings_shown(server_settings(), true, r->pool);
    }
    status_make(&status, &source, r->pool);
    if (metrics) {
        return send_text(r, "text/plain; version=0.0.4; charset=utf-8", status_metrics(&status, r->pool));
    }
    if (!strcmp(format, "json")) {
        return send_text(r, "application/json", status_json(&status, r->pool));
    }
    return send_text(r, "text/html; charset=utf-8", status_page(&status, r->pool));
}

static const char *policy_of(const request_rec *r)
{
    return the_gateway ? status_page_policy(source_of(r->server, r->pool).sites[0].profile->identity->engine, r->pool)
                       : "default-src 'none'";
}

int status_handler(request_rec *r)
{
    apr_table_t *arguments = NULL;
    if (!r->handler || strcmp(r->handler, "intune-scep-status")) {
        return DECLINED;
    }
    if (r->method_number != M_GET) {
        ap_allow_methods(r, REPLACE_ALLOW, "GET", NULL);
        return HTTP_METHOD_NOT_ALLOWED;
    }
    apr_table_setn(r->err_headers_out, "Cache-Control", "no-store");
    apr_table_setn(r->err_headers_out, "Content-Security-Policy", policy_of(r));
    apr_table_setn(r->err_headers_out, "X-Content-Type-Options", "nosniff");
    apr_table_setn(r->err_headers_out, "Referrer-Policy", "no-referrer");
    ap_args_to_table(r, &arguments);
    const char *format = apr_table_get(arguments, "format");
    if (!the_gateway) {
        r->status = HTTP_SERVICE_UNAVAILABLE;
        return send_text(r, "text/plain; charset=us-ascii", "no location is served by this process\n");
    }
    if (apr_table_get(arguments, "health")) {
        return send_health(r);
    }
    if (format && strcmp(format, "json") && strcmp(format, "prometheus") && strcmp(format, "html")) {
        r->status = HTTP_BAD_REQUEST;
        return send_text(r, "text/plain; charset=us-ascii", "format is html, json or prometheus\n");
    }
    return send_state(r, format ? format : "html", apr_table_get(arguments, "q"));
}

static void summary_short(request_rec *r, const status_t *status)
{
    uint64_t successes = 0;
    uint64_t failures = 0;
    int used = 0;
    int open = 0;
    for (int i = 0; i < status->count; i++) {
        const status_location_t *location = &status->locations[i];
        successes += location->counts.successes;
        failures += location->counts.failures;
        used += location->places_used;
        open += location->breaker.state == INTUNE_BREAKER_OPEN;
    }
    ap_rprintf(r,
               "ScepGatewayLevel: %s\nScepGatewaySuccesses: %" APR_UINT64_T_FMT "\nScepGatewayFailures: %" APR_UINT64_T_FMT
               "\nScepGatewayPlacesUsed: %d\nScepGatewayBreakersOpen: %d\n",
               status_level_name(status->level), (apr_uint64_t)successes, (apr_uint64_t)failures, used, open);
}

static void summary_table(request_rec *r, const status_t *status)
{
    ap_rputs("<hr>\n<h2>Intune SCEP gateway</h2>\n<table border=\"0\"><tr><th>Location</th><th>State</th><th>Served</th>"
             "<th>Not served</th><th>Served, 5 min</th><th>Not served, 5 min</th><th>Places</th></tr>\n",
             r);
    for (int i = 0; i < status->count; i++) {
        const status_location_t *location = &status->locations[i];
        const counts_t *counts = &location->counts;
        ap_rprintf(r,
                   "<tr><td>%s</td><td>%s</td><td>%" APR_UINT64_T_FMT "</td><td>%" APR_UINT64_T_FMT
                   "</td><td>%u</td><td>%u</td><td>%d of %d</td></tr>\n",
                   ap_escape_html(r->pool, location->profile->name), status_level_name(location->level),
                   (apr_uint64_t)counts->successes, (apr_uint64_t)counts->failures, counts->recent_successes,
                   counts->recent_failures, location->places_used, location->profile->max_concurrent);
    }
    ap_rputs("</table>\n", r);
}

static int summary(request_rec *r, int flags)
{
    status_t status;
    if (!the_gateway) {
        return OK;
    }
    status_source_t source = source_of(r->server, r->pool);
    status_make(&status, &source, r->pool);
    (flags & AP_STATUS_SHORT ? summary_short : summary_table)(r, &status);
    return OK;
}

void status_register(void)
{
    APR_OPTIONAL_HOOK(ap, status_hook, summary, NULL, NULL, APR_HOOK_MIDDLE);
}
