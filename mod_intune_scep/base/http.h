/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP towards Microsoft: libcurl behind one struct. TLS is verified always, at least 1.2; redirects are not followed;
 * answers are capped; the environment's proxies are honoured unless settings say otherwise.
 */
#ifndef ISCEP_BASE_HTTP_H
#define ISCEP_BASE_HTTP_H

#include "bytes.h"
#include "secret.h"

#include <apr_errno.h>
#include <apr_pools.h>
#include <apr_tables.h>
#include <apr_time.h>
#include <stdbool.h>

typedef struct http_settings_t {
    const char *ca_file;           /**< PEM file to trust instead of the system's store, or NULL */
    const char *client_certificate; /**< PEM file with certificate and key to present, or NULL */
    const char *proxy;             /**< URL, "" for none whatever the environment says, NULL for the environment's */
    const char *proxy_user;        /**< or NULL */
    secret_source_t *proxy_password; /**< or NULL */
    int max_handles;               /**< calls at once in this process, at least 1 */
} http_settings_t;

/** A bounded pool of one process: sets of connections that are kept alive, each with one user at a time. */
typedef struct http_client_t http_client_t;

typedef struct http_request_t {
    const char *url;
    const char *user_agent;
    /** "Name: value" …, ended by NULL; may hold secrets, which are cleansed after the call. */
    const char *const *headers;
    const char *body;              /**< NULL for GET, else POST */
    apr_size_t body_length;
    apr_time_t deadline;           /**< absolute; the whole call, connection included, ends by then */
    apr_time_t connect_by;         /**< absolute; a connection that does not stand by then fails; 0: by the deadline */
    apr_size_t max_answer;         /**< a larger body is HTTP_FAILED_TOO_LARGE */
    bool keep_headers;             /**< whether the answer's headers are wanted */
    bool once;                     /**< not even libcurl sends it again: it goes over a connection of its own */
} http_request_t;

typedef enum http_failure_t {
    HTTP_OK = 0,            /**< an HTTP answer came, of any status */
    HTTP_FAILED_RESOLVE,
    HTTP_FAILED_CONNECT,    /**< refused or unreachable: surely not sent */
    HTTP_FAILED_TLS,
    HTTP_FAILED_UNTRUSTED,  /**< the server's certificate: issuer, name or dates */
    HTTP_FAILED_CLIENT_CERTIFICATE, /**< the server did not accept ours, or wants one */
    HTTP_FAILED_TIMEOUT,
    HTTP_FAILED_DROPPED,    /**< the connection ended early, or spoke no HTTP */
    HTTP_FAILED_TOO_LARGE,
    HTTP_FAILED_PROXY,      /**< out of reach, or it opened no tunnel */
    HTTP_FAILED_PROXY_PASSWORD, /**< the proxy knows us not: 407, or 401 to CONNECT */
    HTTP_FAILED_STOPPED,    /**< http_client_stop() */
    HTTP_FAILED_INTERNAL
} http_failure_t;

typedef struct http_answer_t {
    http_failure_t failure;
    const char *failure_text;          /**< curl's words, escaped, when failure is set */
    int status;                        /**< HTTP status, 0 without an answer */
    bool unconnected;                  /**< HTTP_FAILED_TIMEOUT came before there was a connection to the server */
    int tunnel_status;                 /**< what a proxy answered to CONNECT, with HTTP_FAILED_PROXY; 0 without */
    bool resent;                       /**< it was sent before, over a connection that ended without an answer; where libcurl tells */
    const char *content_type;          /**< escaped, or "" */
    const apr_array_header_t *headers; /**< const char *, one a line, raw; NULL unless asked for */
    bytes_t body;                      /**< NUL-terminated behind its end */
    /** From Retry-After, seconds or date, in microseconds; 0 without; at most one hour. */
    apr_interval_time_t retry_after;
    apr_interval_time_t duration;
} http_answer_t;

/** Once in a process, before any thread uses a client (curl_global_init). */
apr_status_t http_global_init(void);

/**
 * Makes a client that lives as long as `pool`. Call it in the process that uses it, after the fork.
 * @param message on failure one sentence.
 */
apr_status_t http_client_make(http_client_t **client, const http_settings_t *settings, apr_pool_t *pool,
                              const char **message);

/**
 * One call. Blocks until the answer is there or the deadline passed; thread-safe. Always fills `answer` (texts in
 * `pool`); gives APR_SUCCESS exactly when failure is HTTP_OK.
 */
apr_status_t http_client_call(http_client_t *client, const http_request_t *request, http_answer_t *answer,
                              apr_pool_t *pool);

/** Closes connections that nobody has used for a minute. Any thread; for a background task, every call does it too. */
void http_client_tidy(http_client_t *client);

/** Makes every running and later call of the client end soon with HTTP_FAILED_STOPPED. For a process that ends. */
void http_client_stop(http_client_t *client);

/** A short name of a failure for people: "connection refused", "timed out" … */
const char *http_failure_name(http_failure_t failure);

/** Which directive or place helps against a failure, "" where none does. */
const char *http_failure_remedy(http_failure_t failure);

/*
 * What curl would only find out with the first call. `message` is one sentence that names the path; unencrypted PEM is
 * wanted.
 */
apr_status_t http_trust_check(const char *path, apr_pool_t *pool, const char **message);
/** A certificate and its private key in one file. */
apr_status_t http_certificate_check(const char *path, apr_pool_t *pool, const char **message);
/** Whether this libcurl can speak TLS to a proxy, where the URL asks for it. */
bool http_proxy_is_possible(const char *proxy);

#endif
