/* SPDX-License-Identifier: Apache-2.0 */
/* One call of Intune's SCEP service, with everything that it needs before. */
#include "intune/intune_internal.h"
#include "intune/retry.h"

#include "base/text.h"

#include <apr_strings.h>

#include <string.h>

enum { SERVICE_ANSWER_MAX = 64 * 1024, DESCRIPTION_MAX = 200 };

/**
 * The service is not there any more; anything else, a slow answer too, says nothing about its location. Where a proxy
 * resolves and connects, only its answer to CONNECT tells that it did not succeed.
 */
static bool service_is_gone(const http_answer_t *answer)
{
    if (answer->failure == HTTP_FAILED_PROXY) {
        return answer->tunnel_status / 100 == 5 || answer->tunnel_status == 404;
    }
    if (answer->failure == HTTP_FAILED_TIMEOUT) {
        return answer->unconnected;
    }
    if (answer->failure != HTTP_OK) {
        return answer->failure == HTTP_FAILED_RESOLVE || answer->failure == HTTP_FAILED_CONNECT;
    }
    return answer->status == 404 || answer->status == 410;
}

/** "" or ", tried 3 times". */
static const char *tries(const exchange_t *exchange, apr_pool_t *pool)
{
    return exchange->retried > 0 ? apr_psprintf(pool, ", tried %d times", exchange->retried + 1) : "";
}

static apr_status_t answer_judge(errand_t *errand, const char *action, const exchange_t *exchange,
                                 service_reply_t *reply)
{
    apr_pool_t *pool = errand->call->pool;
    const http_answer_t *answer = &exchange->answer;
    bytes_t code = {NULL, 0};
    bytes_t description = {NULL, 0};

    if (answer->failure != HTTP_OK) {
        /* too large is an answer after all */
        problem_t problem =
            answer->failure == HTTP_FAILED_TOO_LARGE ? PROBLEM_INTUNE_ANSWER : PROBLEM_INTUNE_UNREACHABLE;
        return errand_fail(errand, problem, NULL, answer->retry_after,
                           apr_psprintf(pool, "%s: %s (%s)%s", action, exchange->outcome, answer->failure_text,
                                        tries(exchange, pool)));
    }
    bool coded = json_text(exchange->json, "code", &code);
    reply->status = answer->status;
    reply->retried = exchange->retried > 0 || answer->resent;
    reply->code = coded ? exchange_text(exchange, code, 64, pool) : NULL;
    reply->description = json_text(exchange->json, "errorDescription", &description)
                             ? exchange_text(exchange, description, DESCRIPTION_MAX, pool)
                             : "";
    /* an error of OData's is no code of the service's, but tells people more than the status does */
    const char *told = coded ? reply->code : exchange->code;
    if (answer->status == 401 || answer->status == 403) {
        return errand_fail(errand, PROBLEM_INTUNE_DENIED, told, answer->retry_after,
                           apr_psprintf(pool, "%s: %s, with a new token too", action, exchange->outcome));
    }
    if (answer->status / 100 != 2 || !coded) {
        return errand_fail(
            errand, PROBLEM_INTUNE_ANSWER, told, answer->retry_after,
            apr_psprintf(pool, "%s: %s, %s, Content-Type \"%s\"%s", action, exchange->outcome,
                         answer->status / 100 == 2 ? "without a code in strict application/json" : "expected 2xx",
                         answer->content_type, tries(exchange, pool)));
    }
    reply->success = bytes_equal(code, bytes_of_text("Success"));
    return APR_SUCCESS;
}

/** Looks for the service anew where it is gone, once; tries again where it is not well. */
static apr_status_t service_ask(errand_t *errand, exchange_t *exchange, const char *action, const char *uri,
                                const token_t *token, apr_pool_t *scratch)
{
    const char *scope = token_scope_intune(errand->intune, scratch);
    apr_status_t rv = APR_SUCCESS;
    bool sought = false;
    do {
        exchange->url = apr_pstrcat(scratch, uri, "/ScepActions/", action, NULL);
        rv = token_exchange(errand, exchange, scope, &token, scratch);
        if (rv == APR_SUCCESS && !sought && service_is_gone(&exchange->answer)) {
            sought = true;
            if (location_again(errand, &uri)) {
                exchange->url = apr_pstrcat(scratch, uri, "/ScepActions/", action, NULL);
                rv = token_exchange(errand, exchange, scope, &token, scratch);
            }
        }
    } while (rv == APR_SUCCESS && retry_again(errand, exchange));
    return rv;
}

apr_status_t service_call(errand_t *errand, const char *action, const char *body, apr_size_t len,
                          service_reply_t *reply)
{
    apr_pool_t *pool = errand->call->pool;
    apr_pool_t *scratch = NULL;
    const char *scope = token_scope_intune(errand->intune, pool);
    const token_t *token = NULL;
    const char *uri = NULL;
    exchange_t exchange = {0};

    memset(reply, 0, sizeof(*reply));
    reply->description = "";
    apr_status_t rv = token_get(errand, scope, &token);
    if (rv != APR_SUCCESS || (rv = location_get(errand, &uri)) != APR_SUCCESS) {
        return rv;
    }
    apr_pool_create(&scratch, pool);
    exchange.service = apr_pstrcat(pool, "Intune ", action, NULL);
    exchange.kind = strcmp(action, "validateRequest") == 0 ? CALL_VALIDATE : CALL_REPORT;
    exchange.content_type = "application/json";
    exchange.api_version = errand->intune->settings.service_version;
    exchange.request_id = errand->call->report_id;
    exchange.body = body;
    exchange.body_length = len;
    exchange.max_answer = SERVICE_ANSWER_MAX;
    rv = service_ask(errand, &exchange, action, uri, token, scratch);
    if (rv == APR_SUCCESS) {
        rv = answer_judge(errand, action, &exchange, reply);
    }
    apr_pool_destroy(scratch);
    return rv;
}
