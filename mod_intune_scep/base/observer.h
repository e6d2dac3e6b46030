/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a call to a neighbour ended, told to whoever counts it. An interface: store/counters.h implements it, and intune/
 * and gateway/ call it without knowing that.
 */
#ifndef ISCEP_BASE_OBSERVER_H
#define ISCEP_BASE_OBSERVER_H

#include <apr_time.h>

/** Whom the gateway depends on. */
typedef enum service_t { SERVICE_ENTRA, SERVICE_GRAPH, SERVICE_INTUNE, SERVICE_CA, SERVICE_JOURNAL, SERVICE_COUNT } service_t;

/** What is asked; one HTTP exchange each, a repeated one being another. */
typedef enum call_kind_t {
    CALL_TOKEN,     /**< Entra */
    CALL_ENDPOINTS, /**< Graph */
    CALL_VALIDATE,  /**< Intune's validateRequest */
    CALL_REPORT,    /**< Intune's successNotification and failureNotification */
    CALL_CA,        /**< a PKIOperation at the CA, whatever its message */
    CALL_KINDS
} call_kind_t;

typedef enum call_end_t {
    CALL_SUCCESS,
    CALL_PENDING,     /**< the CA has not decided yet */
    CALL_REFUSED,     /**< a definite no about this request, in the service's own words */
    CALL_DENIED,      /**< it does not accept the gateway: HTTP 401, 403, a refused credential */
    CALL_THROTTLED,   /**< HTTP 429 */
    CALL_FAILED,      /**< another HTTP error */
    CALL_GARBAGE,     /**< an answer that cannot be used */
    CALL_BROKEN,      /**< the connection ended before the answer did */
    CALL_TIMEOUT,
    CALL_UNREACHABLE, /**< no connection: name, network, TLS, proxy */
    CALL_ENDS
} call_end_t;

typedef struct call_seen_t {
    call_kind_t kind;
    call_end_t end;
    apr_interval_time_t duration;
    const char *words; /**< what happened, for people, where it is no success; escaped */
} call_seen_t;

/** Any thread may call it; it never blocks. */
typedef struct observer_t {
    void (*seen)(void *baton, const call_seen_t *seen);
    void *baton;
} observer_t;

#endif
