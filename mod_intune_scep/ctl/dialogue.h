/* SPDX-License-Identifier: Apache-2.0 */
/* Talking to a SCEP server over HTTP as its client. */
#ifndef ISCEP_CTL_DIALOGUE_H
#define ISCEP_CTL_DIALOGUE_H

#include "base/http.h"
#include "ctl/ctl.h"
#include "scep/client.h"
#include "scep/http_side.h"

typedef struct dialogue_t {
    apr_pool_t *pool;
    http_client_t *client;
    const char *url;           /**< without a query */
    const char *agent;         /**< User-Agent */
    const char *hint;          /**< message= of GetCACaps and GetCACert, or NULL */
    apr_interval_time_t limit; /**< of one request */
    bool get;                  /**< PKIOperation by GET */
    bool raw;                  /**< then "+" and "/" go as they are */
} dialogue_t;

/** @param tls what to trust and to present, or NULL for the system's. NULL, with a sentence in `message`. */
dialogue_t *dialogue_make(const char *url, const http_settings_t *tls, apr_interval_time_t limit, apr_pool_t *pool,
                          const char **message);

/** Whether a text is a URL that dialogue_make() can be given: http or https, a host, neither user nor query. */
bool dialogue_url_is_good(const char *url, apr_pool_t *pool);

/** GetCACaps or GetCACert; an answer of any status is one. */
apr_status_t dialogue_ask(const dialogue_t *dialogue, const char *operation, http_answer_t *answer);

/** A PKIOperation. */
apr_status_t dialogue_send(const dialogue_t *dialogue, bytes_t message, http_answer_t *answer);

/** Why there is no answer to work with, in one line: no HTTP, or another status than 200; NULL where there is one. */
const char *dialogue_trouble(const http_answer_t *answer, apr_pool_t *pool);

/** What helps against that; "" where nothing is known. */
const char *dialogue_remedy(const http_answer_t *answer);

/** "AES, SHA-256 …" for SCEP_CAP_… bits. */
const char *dialogue_capabilities(unsigned set, apr_pool_t *pool);

#endif
