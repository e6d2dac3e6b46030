/* SPDX-License-Identifier: Apache-2.0 */
/* A small HTTP server on loopback, in a thread of the test: answers by rules, remembers what it was asked. */
#ifndef ISCEP_TESTS_HTTP_FIXTURE_H
#define ISCEP_TESTS_HTTP_FIXTURE_H

#include <apr_pools.h>
#include <stdbool.h>

typedef struct fixture_t fixture_t;

typedef struct fixture_reply_t {
    int status;
    const char *headers;   /**< further lines, each ended by CR LF; or NULL; "" leaves out the Content-Type, else JSON's */
    const char *body;      /**< or NULL */
    apr_size_t length;     /**< of the body; 0: its strlen */
    int delay_ms;          /**< before the answer */
    bool drop;             /**< close instead of answering */
} fixture_reply_t;

typedef struct fixture_seen_t {
    const char *method;
    const char *path;      /**< with the query */
    const char *headers;   /**< all lines, as sent */
    const char *body;
} fixture_seen_t;

/** Starts the server; it ends with the pool. */
fixture_t *fixture_start(apr_pool_t *pool);

/** "http://127.0.0.1:PORT/" */
const char *fixture_url(const fixture_t *fixture);

/**
 * Answers requests whose path starts with `path` and whose body contains `within` (NULL: any), `times` times (-1:
 * always). The newest rule that fits counts; 404 without one. Texts are not copied.
 */
void fixture_on(fixture_t *fixture, const char *path, const char *within, int times, fixture_reply_t reply);

/** How many requests came whose path starts with `path` and whose body contains `within` (NULL: any). */
int fixture_count(fixture_t *fixture, const char *path, const char *within);

/** The last such request, or NULL. Lives as long as the fixture. */
const fixture_seen_t *fixture_last(fixture_t *fixture, const char *path, const char *within);

/** Forgets the requests, keeps the rules. */
void fixture_forget(fixture_t *fixture);

/** A header's value in that request, or NULL. */
const char *fixture_header(const fixture_seen_t *seen, const char *name, apr_pool_t *pool);

/** A port on loopback where nobody listens. */
int fixture_closed_port(void);

#endif
