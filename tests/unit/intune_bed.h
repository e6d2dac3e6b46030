/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of the Intune client share: a scripted server that behaves well at first, a cache, a client, a log. */
#ifndef ISCEP_TESTS_INTUNE_BED_H
#define ISCEP_TESTS_INTUNE_BED_H

#include "http_fixture.h"

#include "intune/intune_internal.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define BED_TOKEN_PATH "/tenant-1/oauth2/v2.0/token"
#define BED_GRAPH_PATH "/v1.0/servicePrincipals/appId=0000000a-0000-0000-c000-000000000000/endpoints"
#define BED_VALIDATE_PATH "/svc/ScepActions/validateRequest"
#define BED_SERVICE "ScepRequestValidationFEService"

/* what tells the two scopes apart in a token request */
#define BED_GRAPH_SCOPE "127.0.0.1"
#define BED_INTUNE_SCOPE "api.manage"

enum { BED_LOG_MAX = 512 };

typedef struct bed_t {
    apr_pool_t *pool;
    fixture_t *server;
    cache_t *cache;
    intune_settings_t settings;
    intune_t *intune;
    intune_call_t call; /**< of the test's own thread */
    result_t *result;
    log_t log;
    bool tracing; /**< whether the log takes lines at trace level */
    char *lines[BED_LOG_MAX];
    int line_count;
} bed_t;

int bed_up(void **state);
int bed_down(void **state);

/** Makes a client of these settings and gives it the bed's cache; it takes the place of the one before. */
void bed_attach(bed_t *bed, const intune_settings_t *settings);

/** A fresh call and result. */
void bed_call(bed_t *bed);

bytes_t bed_csr(void);

/** A validation with a fresh call. */
apr_status_t bed_validate(bed_t *bed);

/**
 * Fails the test unless the last call ended so.
 * @param code exactly, or NULL for none.
 * @param detail in the result's, or NULL for any.
 */
void bed_check(const bed_t *bed, const char *name, apr_status_t rv, problem_t problem, const char *code, const char *detail);

/** One of many validations. */
typedef struct bed_crowd_t {
    bed_t *bed;
    apr_pool_t *pool;
    result_t *result;
    apr_status_t rv;
    apr_interval_time_t duration;
    pthread_barrier_t *start; /**< at once, however long it took to make the threads */
} bed_crowd_t;

/** So many validations at once, each in a thread of its own; all have ended. */
bed_crowd_t *bed_crowd(bed_t *bed, int threads);

/** How many lines of the log contain that text. */
int bed_logged(const bed_t *bed, const char *text);

/** Graph lists another service and then one of that name there. `key`: providerName or serviceName. */
void bed_endpoints(bed_t *bed, const char *key, const char *name, const char *uri);

/** Entra's answer for both scopes from now on. */
void bed_token(bed_t *bed, const char *within, int times, int status, const char *body);

/** Once, before the tests. */
int bed_start(void);

#endif
