/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the HTTP client share. */
#ifndef ISCEP_BASE_HTTP_INTERNAL_H
#define ISCEP_BASE_HTTP_INTERNAL_H

#include "base/http.h"

#include <curl/curl.h>

/** Connections that are kept from call to call, with one user at a time. */
typedef struct http_kept_t http_kept_t;

/** NULL without memory. */
http_kept_t *http_kept_make(void);

/** Closes them; TLS says good-bye. */
void http_kept_free(http_kept_t *kept);

/**
 * Whether nothing has come over any of them since the last answer. libcurl before 8.0 takes what lies there for the answer
 * to the next request: somebody else's "Success" for this device's.
 */
bool http_kept_is_silent(const http_kept_t *kept);

/** Within a transfer, the last time at its end: whether TLS has something that does not belong to the answer. */
void http_kept_look(http_kept_t *kept, CURL *handle);

/** Blocks until the transfer has ended. */
CURLcode http_kept_transfer(http_kept_t *kept, CURL *handle);

/**
 * What curl's code means to us.
 * @param words curl's own, of this call.
 * @param proxy the configured one, or NULL where the environment decides.
 */
http_failure_t http_failure_of(CURL *handle, CURLcode code, const char *words, const char *url, const char *proxy);

/** What may be told of curl's words: they repeat a proxy of the environment's that is no URL, with its password. */
const char *http_failure_words(const char *words);

/** Of a call that took too long: whether it was connected, and where the proxy is to blame. */
void http_failure_late(CURL *handle, const http_settings_t *settings, http_answer_t *answer, apr_pool_t *pool);

/** What the proxy answered to CONNECT; 0: nothing. */
int http_failure_tunnel(CURL *handle);

#endif
