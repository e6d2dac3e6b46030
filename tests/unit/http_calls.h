/* SPDX-License-Identifier: Apache-2.0 */
/* What test_http.c and test_http_ways.c share: a server, calls to it, and what is expected of every answer. */
#ifndef ISCEP_TESTS_HTTP_CALLS_H
#define ISCEP_TESTS_HTTP_CALLS_H

#include "base/http.h"
#include "wire_server.h"

enum { CALL_PLENTY_MS = 20000 };

/** Made anew for each test by call_begin(). */
extern apr_pool_t *call_pool;
extern wire_server_t call_server;

int call_begin(void **state);
int call_end(void **state);

/** Takes the surroundings' proxies out of the environment. */
void call_forget_proxies(void);

http_client_t *call_client(const http_settings_t *settings);
http_client_t *call_plain_client(int handles);

/** The URL of a path at the server. */
const char *call_url_of(const char *path);

/** One GET. Asserts what http.h promises of every answer. */
http_answer_t call_url(http_client_t *client, const char *url, int milliseconds, apr_pool_t *pool);
http_answer_t call_path(http_client_t *client, const char *path);

void call_assert_failure(http_answer_t answer, http_failure_t expected);
/** Asserts the answer of the paths that answer well. */
void call_assert_hello(http_answer_t answer);

#endif
