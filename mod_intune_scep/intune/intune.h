/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Microsoft's side: token, service location, validateRequest, successNotification, failureNotification. There is no
 * published REST specification; the wire format follows the behaviour of Microsoft's MIT-licensed reference clients
 * (repository microsoft/Intune-Resource-Access, src/CsrValidation).
 */
#ifndef ISCEP_INTUNE_INTUNE_H
#define ISCEP_INTUNE_INTUNE_H

#include "base/cache.h"
#include "base/http.h"
#include "base/log.h"
#include "base/observer.h"
#include "base/result.h"
#include "base/secret.h"

/** One tenant and application. Texts live as long as the intune_t. URLs of services end in "/". */
typedef struct intune_settings_t {
    const char *tenant;
    const char *app_id;
    secret_source_t *app_key;          /**< one of the three credentials, the others are NULL */
    struct app_certificate_t *app_certificate; /**< see app_certificate.h */
    const char *app_token_file;
    const char *provider;       /**< callerInfo and User-Agent */
    const char *authority;      /**< https://login.microsoftonline.com/ */
    const char *graph_url;      /**< https://graph.microsoft.com/ */
    const char *graph_version;  /**< v1.0 */
    const char *intune_url;     /**< https://api.manage.microsoft.com/ */
    const char *intune_app_id;  /**< 0000000a-0000-0000-c000-000000000000 */
    const char *service_version; /**< 2018-02-20 */
    const char *ca_configuration;      /**< or "" */
    const char *certificate_authority; /**< or "" */
    int retries;                 /**< how often a call is tried again */
    apr_interval_time_t timeout; /**< for one validation or report, tokens and location included */
    http_settings_t http;
} intune_settings_t;

typedef struct intune_t intune_t;

/** Checks nothing but takes the settings over; does not touch the network. */
apr_status_t intune_make(intune_t **intune, const intune_settings_t *settings, apr_pool_t *pool);

/**
 * In the process that uses it, once, after the fork: gives it the shared cache and makes its HTTP client, which lives
 * as long as `pool`.
 */
apr_status_t intune_attach(intune_t *intune, cache_t *cache, apr_pool_t *pool, const char **message);

/** Who hears how each call to Microsoft ended, of devices and of the background. Before the first call. */
void intune_observe(intune_t *intune, observer_t observer);

/** Ends running calls soon; for a process that ends. */
void intune_stop(intune_t *intune);

/** What every call needs: scratch and result memory, the log, and where a failure is told. One thread. */
typedef struct intune_call_t {
    apr_pool_t *pool;
    const log_t *log;
    result_t *result;
    const char *report_id;         /**< of a report: its client-request-id, however often it is sent; NULL: a new one */
    const char *request_id;        /**< set by the call: its last client-request-id */
    apr_interval_time_t duration;  /**< set by the call: all of it, waiting included */
} intune_call_t;

/**
 * validateRequest. APR_SUCCESS only for HTTP 2xx with a JSON object whose `code` is the string "Success". Problems:
 * PROBLEM_INTUNE_REFUSED (2xx and another string code), else TOKEN_…, LOCATION_…, INTUNE_…. PROBLEM_INTUNE_PAUSED:
 * Microsoft was not asked, for it has failed too often just now (breaker.h).
 * @param csr DER of the PKCS #10.
 */
apr_status_t intune_validate(intune_t *intune, intune_call_t *call, const char *transaction_id, bytes_t csr);

/** A certificate in the words of the notification. */
typedef struct intune_certificate_t {
    const char *thumbprint;
    const char *serial;
    const char *not_after;
    const char *issuer;
} intune_certificate_t;

/**
 * successNotification. APR_SUCCESS when Intune took it. PROBLEM_REPORT_REFUSED for a definite refusal (2xx with a code
 * other than Success and Unknown, or HTTP 400), PROBLEM_REPORT_UNAVAILABLE for everything else, with the underlying
 * reason in detail.
 */
apr_status_t intune_report_success(intune_t *intune, intune_call_t *call, const char *transaction_id, bytes_t csr,
                                   const intune_certificate_t *certificate);

/** failureNotification; results as above. `text` is cut to 255 bytes at a UTF-8 boundary. */
apr_status_t intune_report_failure(intune_t *intune, intune_call_t *call, const char *transaction_id, bytes_t csr,
                                   apr_uint32_t hresult, const char *text);

/**
 * For a background task, about once a second: renews the tokens and the location that are in the cache and near their
 * expiry, if no other process is at it. Logs a failure itself (MSG_RENEWAL_FAILED, at most once a minute for each
 * token; MSG_LOCATION_NOT_RENEWED, once an hour). Never fetches what nobody asked for yet. Closes connections that have
 * been idle for long, too.
 */
void intune_renew_due(intune_t *intune, apr_pool_t *pool, const log_t *log);

/** When the application's certificate expires; 0 where the credential is none. Any thread. */
apr_time_t intune_credential_expires(const intune_t *intune);

/** Whether validations go out: open and half-open hold them back, half-open lets one at a time through as a probe. */
typedef enum intune_breaker_position_t {
    INTUNE_BREAKER_CLOSED,
    INTUNE_BREAKER_OPEN,
    INTUNE_BREAKER_HALF_OPEN
} intune_breaker_position_t;

typedef struct intune_breaker_t {
    intune_breaker_position_t state;
    apr_time_t since;   /**< when it opened, 0 while closed */
    apr_time_t until;   /**< when the next probe may go, 0 while closed */
    int failures;       /**< in a row, which opened it or have not yet */
    const char *reason; /**< the last of them, in words; "" without */
} intune_breaker_t;

/** For a status page: the breaker as all processes see it. Texts live in `pool`. Closed before intune_attach(). */
void intune_breaker_state(intune_t *intune, apr_pool_t *pool, intune_breaker_t *state);

/** What a code of Intune's or Graph's, or an AADSTS code, means, in one sentence with its remedy; NULL for others. */
const char *intune_code_meaning(const char *code);

/** The same within a log line, behind what has the code: "; that means: …", or "". */
const char *intune_code_told(const char *code, apr_pool_t *pool);

#endif
