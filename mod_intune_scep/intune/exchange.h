/* SPDX-License-Identifier: Apache-2.0 */
/* One HTTP exchange with Microsoft, and the JSON in it. */
#ifndef ISCEP_INTUNE_EXCHANGE_H
#define ISCEP_INTUNE_EXCHANGE_H

#include "base/http.h"
#include "intune/intune.h"

#include <json-c/json_types.h>

struct errand_t;

typedef struct exchange_t {
    const char *service; /**< for logs and details */
    call_kind_t kind;
    const char *url;
    const char *bearer;  /**< the token's text, or NULL */
    const secret_t *secret; /**< what is in the body and must not be shown if it comes back, or NULL */
    const char *content_type; /**< of the body, or NULL */
    const char *api_version;  /**< or NULL */
    const char *request_id;   /**< client-request-id, or NULL: a new one for each call */
    const char *body;    /**< NULL for GET */
    apr_size_t body_length;
    apr_size_t max_answer;
    bool once;                /**< the body is good for one use */
    http_answer_t answer;     /**< set by exchange_run(); its body is overwritten when the pool goes */
    struct json_object *json; /**< set: the body, if it is one strict JSON object and said to be; freed with the pool */
    int retried;         /**< set: how often it was tried again */
    bool renewed;        /**< set: a new token was tried */
    const char *code;    /**< set: the code that Intune, Graph or Entra gave, escaped; or NULL */
    const char *outcome; /**< set: "HTTP 503" or the failure in words, for details */
} exchange_t;

/** Makes the call with a fresh client-request-id and logs MSG_CALL_DONE. */
void exchange_run(struct errand_t *errand, exchange_t *exchange, apr_pool_t *pool);

/**
 * Some text of the answer for people: escaped, cut, and without what may be a secret that came back: our own, and whatever
 * looks like a challenge, a token or a request for a certificate, which nothing else in these texts does.
 */
const char *exchange_text(const exchange_t *exchange, bytes_t text, apr_size_t max, apr_pool_t *pool);

/** At trace level, what goes out and what came; neither credentials nor tokens nor requests for certificates. */
void trace_request(const log_t *log, const exchange_t *exchange, const http_request_t *request, apr_pool_t *pool);
void trace_answer(const log_t *log, const exchange_t *exchange, apr_pool_t *pool);

/**
 * The body if it is exactly one JSON object (RFC 8259, no more than a byte order mark before and white space behind it) in
 * which no object has two members with one name, else NULL.
 */
struct json_object *json_read(bytes_t body);

/** Whether no object in the text has two members with one name, no name a NUL, and the text nothing that json-c takes
 * but RFC 8259 does not know. `parsed` is what json-c made of it. */
bool json_names_are_unique(bytes_t body, struct json_object *parsed);

/** A member that is a JSON string; it may hold NULs. */
bool json_text(struct json_object *object, const char *name, bytes_t *text);

/**
 * Adds some bytes in base64, all copies of which are overwritten when the pool goes, and the object is gone by then. json-c
 * takes the text as it is, for nothing in it needs escaping, and with a challenge in it it is nearly all of a body.
 */
void json_add_base64(struct json_object *object, const char *name, bytes_t bytes, apr_pool_t *pool);

/** Serializes and frees the object; the text is overwritten when the pool goes. NULL without memory. */
const char *json_print(struct json_object *object, apr_pool_t *pool, apr_size_t *len);

#endif
