/* SPDX-License-Identifier: Apache-2.0 */
/* Where the tenant's SCEP service is: Graph knows, the shared cache keeps it. */
#include "intune/intune_internal.h"
#include "intune/retry.h"

#include "base/clock.h"
#include "base/text.h"

#include <apr_escape.h>
#include <apr_lib.h>
#include <apr_strings.h>

#include <arpa/inet.h>
#include <curl/curl.h>
#include <json-c/json.h>
#include <strings.h>

#define SERVICE_NAME "ScepRequestValidationFEService"
/* asked for again an hour before it is a day old, in the background; kept for a second day while Graph fails */
#define LOCATION_FRESH apr_time_from_sec(23 * 3600)
#define LOCATION_LIFE apr_time_from_sec(48 * 3600)
#define RENEWAL_PAUSE apr_time_from_sec(300)
#define RENEWAL_TOLD apr_time_from_sec(3600)
#define REDISCOVERY_PAUSE apr_time_from_sec(60)

enum { ENDPOINTS_ANSWER_MAX = 1024 * 1024, URI_MAX = 2048 };

static const char *location_key(const intune_t *intune, apr_pool_t *pool)
{
    const intune_settings_t *settings = &intune->settings;
    return apr_pstrcat(pool, "location ", key_part(pool, settings->tenant), key_part(pool, settings->app_id),
                       key_part(pool, settings->graph_url), key_part(pool, settings->graph_version),
                       key_part(pool, settings->intune_app_id), NULL);
}

static bool host_is_loopback(const char *host)
{
    struct in_addr address;
    if (strcasecmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0) {
        return true;
    }
    return inet_pton(AF_INET, host, &address) == 1 && (ntohl(address.s_addr) >> 24) == 127;
}

/** libcurl connects to no other: it would be an internal error with each call. */
static bool host_is_plain(const char *host)
{
    while (apr_isalnum(*host) || (*host != '\0' && strchr("-._:[]", *host) != NULL)) {
        host++;
    }
    return *host == '\0';
}

static bool part_present(CURLU *url, CURLUPart part)
{
    char *text = NULL;
    bool present = curl_url_get(url, part, &text, 0) == CURLUE_OK;
    curl_free(text);
    return present;
}

bool location_is_safe(const char *uri, const char **why)
{
    CURLU *url = curl_url();
    char *scheme = NULL;
    char *host = NULL;

    *why = "it is not a URL";
    if (url == NULL || curl_url_set(url, CURLUPART_URL, uri, 0) != CURLUE_OK ||
        curl_url_get(url, CURLUPART_SCHEME, &scheme, 0) != CURLUE_OK ||
        curl_url_get(url, CURLUPART_HOST, &host, 0) != CURLUE_OK) {
        goto out;
    }
    if (part_present(url, CURLUPART_USER) || part_present(url, CURLUPART_PASSWORD) ||
        part_present(url, CURLUPART_QUERY) || part_present(url, CURLUPART_FRAGMENT)) {
        *why = "it has a user, a query or a fragment";
    } else if (!host_is_plain(host)) {
        *why = "its host's name is not in ASCII letters and digits";
    } else if (strcasecmp(scheme, "https") == 0 || (strcasecmp(scheme, "http") == 0 && host_is_loopback(host))) {
        *why = NULL;
    } else {
        *why = "it is not https";
    }
out:
    curl_free(host);
    curl_free(scheme);
    curl_url_cleanup(url);
    return *why == NULL;
}

static bool text_is(struct json_object *entry, const char *name, const char *wanted)
{
    bytes_t text = {NULL, 0};
    return json_text(entry, name, &text) && text.len == strlen(wanted) &&
           strncasecmp((const char *)text.data, wanted, text.len) == 0;
}

/** The entry of the SCEP service in Graph's list; `*listed` tells whether there was a list at all. */
static struct json_object *entry_find(struct json_object *json, bool *listed)
{
    struct json_object *list = NULL;
    *listed =
        json != NULL && json_object_object_get_ex(json, "value", &list) && json_object_is_type(list, json_type_array);
    for (size_t i = 0; *listed && i < json_object_array_length(list); i++) {
        struct json_object *entry = json_object_array_get_idx(list, i);
        if (json_object_is_type(entry, json_type_object) &&
            (text_is(entry, "providerName", SERVICE_NAME) || text_is(entry, "serviceName", SERVICE_NAME))) {
            return entry;
        }
    }
    return NULL;
}

static apr_status_t unavailable(errand_t *errand, const exchange_t *exchange, const char *detail)
{
    return errand_fail(errand, PROBLEM_LOCATION_UNAVAILABLE, exchange->code, exchange->answer.retry_after, detail);
}

static apr_status_t list_read(errand_t *errand, const exchange_t *exchange, const char **uri)
{
    apr_pool_t *pool = errand->call->pool;
    bool listed = false;
    bytes_t text = {NULL, 0};
    const char *why = NULL;
    struct json_object *entry = entry_find(exchange->json, &listed);

    if (!listed) {
        return unavailable(errand, exchange,
                           apr_psprintf(pool,
                                        "Graph's answer is not a list of endpoints in strict application/json: %s, "
                                        "Content-Type \"%s\"",
                                        exchange->outcome, exchange->answer.content_type));
    }
    if (entry == NULL) {
        return unavailable(errand, exchange,
                           "Graph's list of endpoints lacks " SERVICE_NAME
                           ": the application's permissions are missing "
                           "(Graph Application.Read.All and Intune scep_challenge_provider, with admin consent)");
    }
    if (!json_text(entry, "uri", &text) || text.len == 0 || text.len > URI_MAX ||
        memchr(text.data, '\0', text.len) != NULL) {
        return unavailable(errand, exchange, "Graph's list of endpoints has no usable uri for " SERVICE_NAME);
    }
    apr_size_t len = text.len;
    while (len > 0 && text.data[len - 1] == '/') {
        len--;
    }
    const char *found = apr_pstrmemdup(pool, (const char *)text.data, len);
    if (!location_is_safe(found, &why)) {
        return unavailable(
            errand, exchange,
            apr_psprintf(pool, "the uri %s from Graph is not used: %s", text_escape(pool, found, 200), why));
    }
    *uri = found;
    return APR_SUCCESS;
}

static apr_status_t graph_ask(errand_t *errand, const char **uri, apr_pool_t *scratch)
{
    const intune_settings_t *settings = &errand->intune->settings;
    apr_pool_t *pool = errand->call->pool;
    exchange_t exchange = {0};
    const token_t *token = NULL;

    exchange.service = "Graph endpoints";
    exchange.kind = CALL_ENDPOINTS;
    exchange.url = apr_pstrcat(scratch, settings->graph_url, settings->graph_version,
                               "/servicePrincipals/appId=", apr_pescape_path_segment(scratch, settings->intune_app_id),
                               "/endpoints", NULL);
    exchange.max_answer = ENDPOINTS_ANSWER_MAX;
    apr_status_t rv = APR_SUCCESS;
    do {
        rv = token_exchange(errand, &exchange, token_scope_graph(errand->intune, pool), &token, scratch);
    } while (rv == APR_SUCCESS && retry_again(errand, &exchange));
    if (rv != APR_SUCCESS) {
        return rv;
    }
    if (exchange.answer.failure != HTTP_OK) {
        return unavailable(errand, &exchange,
                           apr_psprintf(pool, "Graph: %s (%s)", exchange.outcome, exchange.answer.failure_text));
    }
    if (exchange.answer.status / 100 != 2) {
        return unavailable(errand, &exchange, apr_psprintf(pool, "Graph answered %s", exchange.outcome));
    }
    return list_read(errand, &exchange, uri);
}

/** Asks Graph and puts the location in the cache. */
static apr_status_t location_discover(errand_t *errand, const char **uri)
{
    cache_t *cache = errand->intune->cache;
    apr_pool_t *pool = errand->call->pool;
    apr_pool_t *scratch = NULL;

    apr_pool_create(&scratch, pool);
    apr_status_t rv = graph_ask(errand, uri, scratch);
    apr_pool_destroy(scratch);
    if (rv == APR_SUCCESS) {
        const char *record = apr_psprintf(pool, "%" APR_TIME_T_FMT " %s", clock_now(), *uri);
        cache->put_shared(cache, location_key(errand->intune, pool), bytes_of_text(record), clock_now() + LOCATION_LIFE,
                          errand->call->log);
        log_write(errand->call->log, MSG_LOCATION_FOUND, "the SCEP service is at %s", text_escape(pool, *uri, URI_MAX));
    }
    return rv;
}

typedef struct sought_t {
    const char *key;
    const char *note;   /**< key of the remark that Graph was asked again within this minute */
    const char *before; /**< the location that failed */
    const char *uri;
} sought_t;

/** A record is the time when Graph was asked, a blank, and the location. NULL for anything else. */
static const char *record_read(bytes_t value, apr_time_t *found_at, apr_pool_t *pool)
{
    char *end = NULL;
    char *text = apr_pstrmemdup(pool, (const char *)value.data, value.len);
    *found_at = apr_strtoi64(text, &end, 10);
    return *end == ' ' && end[1] != '\0' ? end + 1 : NULL;
}

static const char *location_record(errand_t *errand, const char *key, apr_time_t *found_at, apr_pool_t *scratch)
{
    cache_t *cache = errand->intune->cache;
    bytes_t value = {NULL, 0};
    if (cache->get(cache, key, &value, scratch) != APR_SUCCESS || value.len == 0) {
        return NULL;
    }
    return record_read(value, found_at, scratch);
}

static const char *location_cached(errand_t *errand, const char *key, apr_pool_t *scratch)
{
    apr_time_t found_at = 0;
    return location_record(errand, key, &found_at, scratch);
}

/** Another location than `before` (which may be NULL), found by another machine; it is in this machine's cache then. */
static bool location_shared(errand_t *errand, sought_t *sought)
{
    cache_t *cache = errand->intune->cache;
    apr_pool_t *pool = errand->call->pool;
    bytes_t value = {NULL, 0};
    const char *why = NULL;
    apr_time_t found_at = 0;
    if (cache->get_shared(cache, sought->key, &value, errand->call->log, pool) != APR_SUCCESS || value.len == 0) {
        return false;
    }
    const char *uri = record_read(value, &found_at, pool);
    if (uri == NULL || !location_is_safe(uri, &why)) {
        cache->drop(cache, sought->key, value);
        return false;
    }
    if (sought->before != NULL && strcmp(uri, sought->before) == 0) {
        return false;
    }
    log_write(errand->call->log, MSG_LOCATION_SHARED, "the SCEP service is at %s, as another machine found out",
              text_escape(pool, uri, URI_MAX));
    sought->uri = uri;
    return true;
}

static bool location_ready(errand_t *errand, void *baton, apr_pool_t *scratch)
{
    sought_t *sought = baton;
    sought->uri = apr_pstrdup(errand->call->pool, location_cached(errand, sought->key, scratch));
    return sought->uri != NULL;
}

static apr_status_t location_work(errand_t *errand, void *baton)
{
    sought_t *sought = baton;
    return location_shared(errand, sought) ? APR_SUCCESS : location_discover(errand, &sought->uri);
}

apr_status_t location_get(errand_t *errand, const char **uri)
{
    sought_t sought = {location_key(errand->intune, errand->call->pool), NULL, NULL, NULL};
    flight_t flight = {sought.key,
                       sought.key,
                       PROBLEM_LOCATION_UNAVAILABLE,
                       "the location of the SCEP service",
                       location_ready,
                       location_work,
                       &sought,
                       false};
    apr_status_t rv = flight_run(errand, &flight);
    *uri = sought.uri;
    return rv;
}

/** Somebody found another location, or somebody asked within this minute and that was all Graph had to say. */
static bool again_ready(errand_t *errand, void *baton, apr_pool_t *scratch)
{
    sought_t *sought = baton;
    const char *cached = location_cached(errand, sought->key, scratch);
    if (cached != NULL && strcmp(cached, sought->before) != 0) {
        sought->uri = apr_pstrdup(errand->call->pool, cached);
        return true;
    }
    return note_present(errand, sought->note, scratch);
}

/** The old location stays in the cache unless Graph names one. */
static apr_status_t again_work(errand_t *errand, void *baton)
{
    sought_t *sought = baton;
    if (location_shared(errand, sought)) {
        return APR_SUCCESS;
    }
    log_write(errand->call->log, MSG_LOCATION_FORGOTTEN, "the SCEP service was not found at %s; Graph is asked again",
              text_escape(errand->call->pool, sought->before, URI_MAX));
    apr_status_t rv = location_discover(errand, &sought->uri);
    if (!errand_stopping(errand)) {
        note_put(errand, sought->note, REDISCOVERY_PAUSE);
    }
    return rv;
}

bool location_again(errand_t *errand, const char **uri)
{
    apr_pool_t *pool = errand->call->pool;
    const char *key = location_key(errand->intune, pool);
    sought_t sought = {key, apr_pstrcat(pool, "again ", key, NULL), *uri, NULL};
    flight_t flight = {sought.note,
                       key,
                       PROBLEM_LOCATION_UNAVAILABLE,
                       "the new location of the SCEP service",
                       again_ready,
                       again_work,
                       &sought,
                       false};
    /* what goes wrong here is not the problem to tell: the call that failed before is */
    errand_t inner = *errand;
    inner.result = result_make(pool);
    inner.retries = 0; /* at most once a minute */
    flight_run(&inner, &flight);
    if (sought.uri == NULL || strcmp(sought.uri, *uri) == 0) {
        return false;
    }
    *uri = sought.uri;
    return true;
}

static bool location_is_old(errand_t *errand, const char *key)
{
    apr_time_t found_at = 0;
    return location_record(errand, key, &found_at, errand->call->pool) != NULL &&
           clock_now() - LOCATION_FRESH >= found_at;
}

static void renewal_failed(errand_t *errand, const char *key, const char *note)
{
    const result_t *result = errand->result;
    apr_pool_t *pool = errand->call->pool;
    const char *told = apr_pstrcat(pool, "renewal told ", key, NULL);

    note_put(errand, note, RENEWAL_PAUSE);
    if (!note_present(errand, told, pool)) {
        note_put(errand, told, RENEWAL_TOLD);
        log_write(errand->call->log, MSG_LOCATION_NOT_RENEWED, "%s%s%s: %s%s", problem_facts(result->problem)->what,
                  result->code != NULL ? ", code " : "", result->code != NULL ? result->code : "",
                  result->detail != NULL ? result->detail : "-", intune_code_told(result->code, pool));
    }
}

void location_renew(errand_t *errand)
{
    cache_t *cache = errand->intune->cache;
    apr_pool_t *pool = errand->call->pool;
    const char *key = location_key(errand->intune, pool);
    const char *note = apr_pstrcat(pool, "renewal failed ", key, NULL);
    const char *owner = NULL;
    const char *uri = NULL;

    if (!location_is_old(errand, key) || note_present(errand, note, pool) ||
        cache->claim(cache, key, flight_lease_end(errand), &owner, pool) != APR_SUCCESS) {
        return;
    }
    if (location_is_old(errand, key) && !note_present(errand, note, pool) &&
        location_discover(errand, &uri) != APR_SUCCESS && !errand_stopping(errand)) {
        renewal_failed(errand, key, note);
    }
    cache->release(cache, key, owner);
}
