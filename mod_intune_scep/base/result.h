/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a failure travels: apr_status_t tells that, result_t tells people what. Which answer a problem gets, towards the
 * device and towards Intune, is decided in one table, problems.def.
 */
#ifndef ISCEP_BASE_RESULT_H
#define ISCEP_BASE_RESULT_H

#include "log.h"

#include <apr_errno.h>
#include <apr_pools.h>
#include <apr_time.h>

typedef enum problem_t {
    PROBLEM_NONE = 0,
#define PROBLEM(symbol, id, level, http, fail, hresult, what, remedy) PROBLEM_##symbol,
#include "problems.def"
#undef PROBLEM
    PROBLEM_COUNT
} problem_t;

/** failInfo column of problems.def for answers that are not a CertRep, and for the CA's own failInfo. */
enum { FAIL_INFO_NONE = -1, FAIL_INFO_OF_CA = -2 };

typedef struct problem_facts_t {
    const char *name;   /**< the symbol, for notes, metrics and tests */
    unsigned id;        /**< of its log line */
    log_level_t level;
    int http_status;    /**< 200 where the answer is a CertRep FAILURE */
    int fail_info;      /**< RFC 8894 section 3.2.1.4.5, or FAIL_INFO_… */
    apr_uint32_t hresult; /**< for failureNotification, 0 where Intune is not told */
    const char *what;   /**< one sentence for the log and for Intune */
    const char *remedy; /**< one sentence for the log: where to look, which directive helps */
} problem_facts_t;

typedef struct result_t {
    apr_pool_t *pool;         /**< all texts live here */
    problem_t problem;
    const char *detail;       /**< what was found and what was expected; outside text in it is escaped; or NULL */
    const char *code;         /**< Intune's code or Entra's AADSTS code, escaped; or NULL */
    const char *request_id;   /**< client-request-id of the last call to Microsoft; or NULL */
    int ca_fail_info;         /**< the CA's failInfo with PROBLEM_CA_REFUSED */
    apr_interval_time_t retry_after; /**< for 503, 0 for the default */
} result_t;

/** An empty result whose texts will live in `pool`. */
result_t *result_make(apr_pool_t *pool);

/**
 * Records a problem and gives APR_EGENERAL, so that `return result_set(…)` ends a function. The first problem stays: a
 * later call changes nothing.
 */
apr_status_t result_set(result_t *result, problem_t problem, const char *detail, ...)
    __attribute__((format(printf, 3, 4)));

/** The problem with that name; PROBLEM_NONE for NULL and unknown ones. */
problem_t problem_named(const char *name);

/** The row of problems.def. Never NULL; PROBLEM_NONE gives a row with http_status 200 and no texts. */
const problem_facts_t *problem_facts(problem_t problem);

#endif
