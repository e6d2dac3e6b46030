/* SPDX-License-Identifier: Apache-2.0 */
#include "intune/intune_internal.h"

#include <apr_strings.h>

#include <json-c/json.h>

static const char *request_print(const intune_settings_t *settings, const char *transaction_id, bytes_t csr,
                                 apr_pool_t *pool, apr_size_t *len)
{
    struct json_object *body = json_object_new_object();
    struct json_object *request = json_object_new_object();

    json_object_object_add(request, "transactionId", json_object_new_string(transaction_id));
    json_add_base64(request, "certificateRequest", csr, pool);
    json_object_object_add(request, "callerInfo", json_object_new_string(settings->provider));
    json_object_object_add(body, "request", request);
    return json_print(body, pool, len);
}

static apr_status_t validate(errand_t *errand, const char *transaction_id, bytes_t csr)
{
    apr_pool_t *pool = errand->call->pool;
    apr_size_t len = 0;
    service_reply_t reply;
    const char *body = request_print(&errand->intune->settings, transaction_id, csr, pool, &len);

    if (body == NULL) {
        return errand_fail(errand, PROBLEM_INTERNAL, NULL, 0, "no memory for the request to Intune");
    }
    apr_status_t rv = service_call(errand, "validateRequest", body, len, &reply);
    if (rv != APR_SUCCESS || reply.success) {
        return rv;
    }
    return errand_fail(errand, PROBLEM_INTUNE_REFUSED, reply.code, 0,
                       apr_psprintf(pool, "validateRequest: code \"%s\", expected \"Success\"; description \"%s\"",
                                    reply.code, reply.description));
}

apr_status_t intune_validate(intune_t *intune, intune_call_t *call, const char *transaction_id, bytes_t csr)
{
    errand_t errand;
    apr_status_t rv = errand_begin(&errand, intune, call);
    if (rv == APR_SUCCESS) {
        rv = breaker_enter(&errand);
        if (rv == APR_SUCCESS) {
            rv = validate(&errand, transaction_id, csr);
            breaker_leave(&errand);
        }
    }
    return errand_end(&errand, rv);
}
