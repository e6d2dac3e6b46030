/* SPDX-License-Identifier: Apache-2.0 */
/* successNotification and failureNotification. */
#include "intune/intune_internal.h"

#include "base/text.h"

#include <apr_strings.h>

#include <json-c/json.h>

enum { DESCRIPTION_BYTES_MAX = 255, ISSUER_BYTES_MAX = 8192 };

static void text_add(struct json_object *object, const char *name, const char *text)
{
    json_object_object_add(object, name, json_object_new_string(text));
}

static struct json_object *notification_make(const intune_settings_t *settings, const char *transaction_id, bytes_t csr,
                                             apr_pool_t *pool)
{
    struct json_object *notification = json_object_new_object();

    text_add(notification, "transactionId", transaction_id);
    json_add_base64(notification, "certificateRequest", csr, pool);
    text_add(notification, "callerInfo", settings->provider);
    return notification;
}

/** 2xx with a code, or HTTP 400, is Intune's last word; "Unknown" is none. */
static bool is_definite(apr_status_t rv, const service_reply_t *reply)
{
    if (rv == APR_SUCCESS) {
        return strcmp(reply->code, "Unknown") != 0;
    }
    return reply->status == 400;
}

/** Sends it; takes `notification` over. Whatever went wrong below is worded anew, for it is a report that failed. */
static apr_status_t notify(errand_t *errand, const char *action, struct json_object *notification)
{
    apr_pool_t *pool = errand->call->pool;
    errand_t inner = *errand;
    apr_size_t len = 0;
    service_reply_t reply;
    struct json_object *wrapper = json_object_new_object();

    json_object_object_add(wrapper, "notification", notification);
    const char *body = json_print(wrapper, pool, &len);
    if (body == NULL) {
        return errand_fail(errand, PROBLEM_INTERNAL, NULL, 0, "no memory for the report to Intune");
    }
    inner.result = result_make(pool);
    apr_status_t rv = service_call(&inner, action, body, len, &reply);
    breaker_leave(&inner);
    errand->result->request_id = apr_pstrdup(errand->result->pool, inner.result->request_id);
    if (rv == APR_SUCCESS && reply.success) {
        return APR_SUCCESS;
    }
    problem_t problem = is_definite(rv, &reply) ? PROBLEM_REPORT_REFUSED : PROBLEM_REPORT_UNAVAILABLE;
    const char *doubt = problem == PROBLEM_REPORT_REFUSED && reply.retried ? "; an earlier try was possibly accepted" : "";
    if (rv == APR_SUCCESS) {
        return errand_fail(errand, problem, reply.code, 0,
                           apr_psprintf(pool, "%s: code \"%s\", expected \"Success\"; description \"%s\"%s", action,
                                        reply.code, reply.description, doubt));
    }
    return errand_fail(errand, problem, inner.result->code, inner.result->retry_after,
                       apr_psprintf(pool, "%s: %s%s%s%s", problem_facts(inner.result->problem)->what,
                                    inner.result->detail != NULL ? inner.result->detail : action,
                                    *reply.description != '\0' ? "; description " : "", reply.description, doubt));
}

apr_status_t intune_report_success(intune_t *intune, intune_call_t *call, const char *transaction_id, bytes_t csr,
                                   const intune_certificate_t *certificate)
{
    errand_t errand;
    const intune_settings_t *settings = &intune->settings;
    apr_status_t rv = errand_begin(&errand, intune, call);
    if (rv == APR_SUCCESS) {
        struct json_object *notification = notification_make(settings, transaction_id, csr, call->pool);
        text_add(notification, "certificateThumbprint", certificate->thumbprint);
        text_add(notification, "certificateSerialNumber", certificate->serial);
        text_add(notification, "certificateExpirationDateUtc", certificate->not_after);
        text_add(notification, "issuingCertificateAuthority",
                 text_cut_utf8(call->pool, certificate->issuer, ISSUER_BYTES_MAX));
        text_add(notification, "caConfiguration", settings->ca_configuration);
        text_add(notification, "certificateAuthority", settings->certificate_authority);
        rv = notify(&errand, "successNotification", notification);
    }
    return errand_end(&errand, rv);
}

apr_status_t intune_report_failure(intune_t *intune, intune_call_t *call, const char *transaction_id, bytes_t csr,
                                   apr_uint32_t hresult, const char *text)
{
    errand_t errand;
    apr_status_t rv = errand_begin(&errand, intune, call);
    if (rv == APR_SUCCESS) {
        struct json_object *notification = notification_make(&intune->settings, transaction_id, csr, call->pool);
        /* an HRESULT is a signed number: 0x80072EFD goes out as -2147012867 */
        apr_int64_t code = hresult > APR_INT32_MAX ? (apr_int64_t)hresult - APR_INT64_C(0x100000000) : hresult;
        json_object_object_add(notification, "hResult", json_object_new_int64(code));
        text_add(notification, "errorDescription", text_cut_utf8(call->pool, text, DESCRIPTION_BYTES_MAX));
        rv = notify(&errand, "failureNotification", notification);
    }
    return errand_end(&errand, rv);
}
