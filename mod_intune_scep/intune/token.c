/* SPDX-License-Identifier: Apache-2.0 */
/* Access tokens of the client_credentials grant: fetched once for all processes, kept in the shared cache. */
#include "intune/intune_internal.h"
#include "intune/retry.h"

#include "base/clock.h"
#include "base/text.h"

#include <apr_escape.h>
#include <apr_strings.h>

#include <json-c/json.h>
#include <string.h>

enum { TOKEN_ANSWER_MAX = 64 * 1024, LIFE_UNKNOWN = 300, LIFE_MAX = 24 * 3600, DESCRIPTION_MAX = 300 };

#define RECORD_FORMAT "%" APR_TIME_T_FMT " %" APR_TIME_T_FMT " %" APR_TIME_T_FMT " %s"

const char *token_scope_graph(const intune_t *intune, apr_pool_t *pool)
{
    return apr_pstrcat(pool, intune->settings.graph_url, ".default", NULL);
}

const char *token_scope_intune(const intune_t *intune, apr_pool_t *pool)
{
    /* the doubled slash is what the reference clients send */
    return apr_pstrcat(pool, intune->settings.intune_url, "/.default", NULL);
}

const char *token_key(const intune_t *intune, const char *scope, apr_pool_t *pool)
{
    const intune_settings_t *settings = &intune->settings;
    return apr_pstrcat(pool, "token ", key_part(pool, settings->tenant), key_part(pool, settings->app_id),
                       key_part(pool, settings->authority), key_part(pool, scope), NULL);
}

static const token_t *record_read(bytes_t record, apr_pool_t *pool)
{
    token_t *token = apr_pcalloc(pool, sizeof(*token));
    char *text = apr_pstrmemdup(pool, (const char *)record.data, record.len);
    char *end = NULL;

    secret_guard(pool, record.data, record.len);
    secret_guard(pool, text, record.len);
    token->record = record;
    token->fetched_at = apr_strtoi64(text, &end, 10);
    token->renew_at = apr_strtoi64(end, &end, 10);
    token->usable_until = apr_strtoi64(end, &end, 10);
    token->text = *end == ' ' ? end + 1 : end;
    return *token->text != '\0' ? token : NULL;
}

const token_t *token_cached(errand_t *errand, const char *key, apr_pool_t *pool)
{
    cache_t *cache = errand->intune->cache;
    bytes_t record = {NULL, 0};
    if (cache->get(cache, key, &record, pool) != APR_SUCCESS || record.len == 0) {
        return NULL;
    }
    const token_t *token = record_read(record, pool);
    return token != NULL && clock_now() < token->usable_until ? token : NULL;
}

const token_t *token_shared(errand_t *errand, const char *scope, const token_t *old)
{
    cache_t *cache = errand->intune->cache;
    apr_pool_t *pool = errand->call->pool;
    bytes_t record = {NULL, 0};
    const char *key = token_key(errand->intune, scope, pool);
    if (cache->get_shared(cache, key, &record, errand->call->log, pool) != APR_SUCCESS || record.len == 0 ||
        (old != NULL && bytes_equal(record, old->record))) {
        return NULL;
    }
    const token_t *token = record_read(record, pool);
    if (token == NULL || clock_now() >= token->usable_until) {
        return NULL;
    }
    log_write(errand->call->log, MSG_TOKEN_SHARED, "token for %s, obtained by another machine", scope);
    return token;
}

/** x-www-form-urlencoded, see the reference clients; overwritten when the pool goes. NULL: the errand failed. */
static const char *form_make(errand_t *errand, const credential_t *credential, const char *endpoint, const char *scope,
                             apr_pool_t *pool)
{
    const char *fields = credential_form(errand, credential, endpoint, pool);
    const char *form = NULL;
    if (fields == NULL) {
        return NULL;
    }
    form = apr_pstrcat(
        pool, "grant_type=client_credentials&client_id=", apr_pescape_urlencoded(pool, errand->intune->settings.app_id),
        "&", fields, "&scope=", apr_pescape_urlencoded(pool, scope), NULL);
    secret_guard(pool, form, strlen(form));
    return form;
}

/** expires_in in seconds, as a number or as a numeric text. */
static apr_int64_t life_of(struct json_object *json)
{
    struct json_object *member = NULL;
    bytes_t text = {NULL, 0};
    apr_int64_t life = 0;

    if (json_text(json, "expires_in", &text)) {
        char *end = NULL;
        life = apr_strtoi64((const char *)text.data, &end, 10);
        life = (apr_size_t)(end - (const char *)text.data) == text.len ? life : 0;
    } else if (json_object_object_get_ex(json, "expires_in", &member) &&
               (json_object_is_type(member, json_type_int) || json_object_is_type(member, json_type_double))) {
        life = json_object_get_int64(member);
    }
    if (life <= 0) {
        /* a wrong guess costs a 401, and that fetches a new token */
        return LIFE_UNKNOWN;
    }
    return life < LIFE_MAX ? life : LIFE_MAX;
}

/** A token must be fit for a header line (RFC 6750 section 2.1). */
static bool token_is_sane(bytes_t text)
{
    for (apr_size_t i = 0; i < text.len; i++) {
        if (text.data[i] <= ' ' || text.data[i] > '~') {
            return false;
        }
    }
    return text.len > 0;
}

static const token_t *token_make(bytes_t text, apr_time_t fetched_at, apr_int64_t life, apr_pool_t *pool)
{
    apr_interval_time_t span = apr_time_from_sec(life);
    apr_interval_time_t margin = span / 10 < apr_time_from_sec(60) ? span / 10 : apr_time_from_sec(60);
    apr_interval_time_t ahead = span / 2 < apr_time_from_sec(300) ? span / 2 : apr_time_from_sec(300);
    const char *copy = apr_pstrmemdup(pool, (const char *)text.data, text.len);
    const char *record =
        apr_psprintf(pool, RECORD_FORMAT, fetched_at, fetched_at + span - ahead, fetched_at + span - margin, copy);

    secret_guard(pool, copy, text.len);
    return record_read(bytes_of_text(record), pool);
}

/** Entra said no, or nothing that can be understood. */
static apr_status_t refusal_tell(errand_t *errand, const exchange_t *exchange, const credential_t *credential,
                                 const char *scope)
{
    apr_pool_t *pool = errand->call->pool;
    const http_answer_t *answer = &exchange->answer;
    bytes_t error = {NULL, 0};
    bytes_t description = {NULL, 0};

    if (answer->failure != HTTP_OK) {
        return errand_fail(errand, PROBLEM_TOKEN_UNAVAILABLE, NULL, answer->retry_after,
                           apr_psprintf(pool, "token for %s: %s (%s)", scope, exchange->outcome, answer->failure_text));
    }
    if ((answer->status == 400 || answer->status == 401) && json_text(exchange->json, "error", &error)) {
        json_text(exchange->json, "error_description", &description);
        return errand_fail(
            errand, PROBLEM_TOKEN_REFUSED, exchange->code, answer->retry_after,
            apr_psprintf(pool, "token for %s with the credential of %s%s: %s, %s: %s", scope, credential->directive,
                         credential->about, exchange->outcome, exchange_text(exchange, error, 64, pool),
                         exchange_text(exchange, description, DESCRIPTION_MAX, pool)));
    }
    return errand_fail(errand, PROBLEM_TOKEN_UNAVAILABLE, exchange->code, answer->retry_after,
                       apr_psprintf(pool, "token for %s: %s%s, Content-Type \"%s\"", scope, exchange->outcome,
                                    answer->status / 100 == 2 ? " without an access_token in strict application/json" : "",
                                    answer->content_type));
}

static apr_status_t token_ask(errand_t *errand, const char *scope, const credential_t *credential,
                              const token_t **token, apr_pool_t *scratch)
{
    const intune_settings_t *settings = &errand->intune->settings;
    apr_pool_t *pool = errand->call->pool;
    cache_t *cache = errand->intune->cache;
    exchange_t exchange = {0};
    bytes_t text = {NULL, 0};
    /* the time before the call: the token is never believed to be younger than it is */
    apr_time_t began = clock_now();

    exchange.service = "Entra token";
    exchange.kind = CALL_TOKEN;
    exchange.url = apr_pstrcat(scratch, settings->authority, apr_pescape_path_segment(scratch, settings->tenant),
                               "/oauth2/v2.0/token", NULL);
    exchange.content_type = "application/x-www-form-urlencoded";
    exchange.secret = credential->secret;
    exchange.max_answer = TOKEN_ANSWER_MAX;
    /* an assertion is good for one use; a federated token is its owner's, and a key is a key */
    exchange.once = credential->pair != NULL;
    do {
        exchange.body = form_make(errand, credential, exchange.url, scope, scratch);
        if (exchange.body == NULL) {
            return APR_EGENERAL;
        }
        exchange.body_length = strlen(exchange.body);
        exchange_run(errand, &exchange, scratch);
    } while (retry_again(errand, &exchange));
    if (exchange.answer.failure != HTTP_OK || exchange.answer.status / 100 != 2 ||
        !json_text(exchange.json, "access_token", &text) || !token_is_sane(text)) {
        return refusal_tell(errand, &exchange, credential, scope);
    }
    apr_int64_t life = life_of(exchange.json);
    *token = token_make(text, began, life, pool);
    secret_wipe(text.data, text.len);
    apr_status_t kept = cache->put_shared(cache, token_key(errand->intune, scope, pool), (*token)->record,
                                          (*token)->usable_until, errand->call->log);
    if (kept != APR_SUCCESS) {
        char why[120];
        log_write(errand->call->log, MSG_TOKEN_NOT_KEPT, "the token for %s, of %" APR_SIZE_T_FMT " bytes, could not be kept: %s",
                  scope, strlen((*token)->text), apr_strerror(kept, why, sizeof(why)));
    }
    log_write(errand->call->log, MSG_TOKEN_FETCHED, "token for %s, valid for %" APR_INT64_T_FMT " s", scope, life);
    return APR_SUCCESS;
}

/** The credential was exchanged while Entra looked at it: what it said of the old one counts for nothing. */
static bool refused_in_passing(errand_t *errand, const credential_t *credential, apr_pool_t *scratch)
{
    result_t *result = errand->result;
    if (errand_stopping(errand) || !credential_changed(errand, credential->stamp, scratch)) {
        return false;
    }
    result->problem = PROBLEM_NONE;
    result->detail = NULL;
    result->code = NULL;
    result->retry_after = 0;
    return true;
}

apr_status_t token_fetch(errand_t *errand, const char *scope, const token_t **token)
{
    apr_pool_t *pool = errand->call->pool;
    apr_pool_t *scratch = NULL;
    apr_status_t rv = APR_SUCCESS;
    bool again = false;

    apr_pool_create(&scratch, pool);
    for (int tries = 0; tries == 0 || (again && tries < 2); tries++) {
        credential_t credential;
        again = false;
        rv = credential_take(errand, &credential, scratch);
        if (rv == APR_SUCCESS) {
            rv = token_ask(errand, scope, &credential, token, scratch);
        }
        if (rv != APR_SUCCESS && errand->result->problem == PROBLEM_TOKEN_REFUSED) {
            refusal_put(errand, token_key(errand->intune, scope, pool), credential.stamp);
            again = tries == 0 && refused_in_passing(errand, &credential, scratch);
        }
    }
    apr_pool_destroy(scratch);
    return rv;
}

typedef struct wanted_t {
    const char *scope;
    const char *key;
    const token_t *token;
} wanted_t;

static bool token_ready(errand_t *errand, void *baton, apr_pool_t *scratch)
{
    wanted_t *wanted = baton;
    apr_pool_t *pool = errand->call->pool;
    const token_t *found = token_cached(errand, wanted->key, scratch);
    if (found == NULL) {
        return false;
    }
    /* only what is found goes into the pool that stays: the waiting itself must not fill it */
    bytes_t record = {apr_pmemdup(pool, found->record.data, found->record.len), found->record.len};
    wanted->token = record_read(record, pool);
    return wanted->token != NULL;
}

static apr_status_t token_work(errand_t *errand, void *baton)
{
    wanted_t *wanted = baton;
    wanted->token = token_shared(errand, wanted->scope, NULL);
    return wanted->token != NULL ? APR_SUCCESS : token_fetch(errand, wanted->scope, &wanted->token);
}

apr_status_t token_get(errand_t *errand, const char *scope, const token_t **token)
{
    apr_pool_t *pool = errand->call->pool;
    wanted_t wanted = {scope, token_key(errand->intune, scope, pool), NULL};
    flight_t flight = {wanted.key,
                       wanted.key,
                       PROBLEM_TOKEN_UNAVAILABLE,
                       apr_pstrcat(pool, "a token for ", scope, NULL),
                       token_ready,
                       token_work,
                       &wanted,
                       true};
    apr_status_t rv = flight_run(errand, &flight);
    *token = wanted.token;
    return rv;
}

static bool denied(const exchange_t *exchange)
{
    return exchange->answer.failure == HTTP_OK && (exchange->answer.status == 401 || exchange->answer.status == 403);
}

apr_status_t token_exchange(errand_t *errand, exchange_t *exchange, const char *scope, const token_t **token,
                            apr_pool_t *pool)
{
    cache_t *cache = errand->intune->cache;
    apr_status_t rv = APR_SUCCESS;
    if (*token == NULL || clock_now() >= (*token)->usable_until) {
        rv = token_get(errand, scope, token);
    }
    if (rv != APR_SUCCESS) {
        return rv;
    }
    exchange->bearer = (*token)->text;
    exchange_run(errand, exchange, pool);
    if (denied(exchange) && !exchange->renewed) {
        exchange->renewed = true;
        /* a token made before a permission was granted stays without it; drop() spares one that is newer */
        log_write(errand->call->log, MSG_TOKEN_DROPPED, "%s: %s; the token for %s is fetched anew", exchange->service,
                  exchange->outcome, scope);
        cache->drop(cache, token_key(errand->intune, scope, pool), (*token)->record);
        rv = token_get(errand, scope, token);
        if (rv == APR_SUCCESS) {
            exchange->bearer = (*token)->text;
            exchange_run(errand, exchange, pool);
        }
    }
    exchange->bearer = NULL;
    return rv;
}
