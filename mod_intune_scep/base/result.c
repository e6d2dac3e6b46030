/* SPDX-License-Identifier: Apache-2.0 */
#include "base/result.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const problem_facts_t problems[] = {
    {"NONE", 0, LOG_LEVEL_DEBUG, 200, FAIL_INFO_NONE, 0, "", ""},
#define PROBLEM(symbol, id, level, http, fail, hresult, what, remedy)                                                  \
    {#symbol, id, level, http, fail, hresult, what, remedy},
#include "base/problems.def"
#undef PROBLEM
};

static bool is_problem(problem_t problem)
{
    return (unsigned)problem > PROBLEM_NONE && (unsigned)problem < PROBLEM_COUNT;
}

const problem_facts_t *problem_facts(problem_t problem)
{
    if (problem == PROBLEM_NONE)
        return &problems[PROBLEM_NONE];
    return &problems[is_problem(problem) ? problem : PROBLEM_INTERNAL];
}

problem_t problem_named(const char *name)
{
    int i;

    for (i = PROBLEM_NONE + 1; name && i < PROBLEM_COUNT; i++) {
        if (strcmp(problems[i].name, name) == 0)
            return (problem_t)i;
    }
    return PROBLEM_NONE;
}

result_t *result_make(apr_pool_t *pool)
{
    result_t *result = apr_pcalloc(pool, sizeof(*result));

    result->pool = pool;
    result->ca_fail_info = FAIL_INFO_NONE;
    return result;
}

/* The C library's formatter, since the compiler checks against that one and APR's knows neither %zu nor a plain %p. */
static const char *format_text(apr_pool_t *pool, const char *format, va_list arguments)
    __attribute__((format(printf, 2, 0)));

static const char *format_text(apr_pool_t *pool, const char *format, va_list arguments)
{
    va_list again;
    char *text = NULL;
    int length;

    va_copy(again, arguments);
    length = vsnprintf(NULL, 0, format, again);
    va_end(again);
    if (length < 0)
        return "";
    text = apr_palloc(pool, (apr_size_t)length + 1);
    vsnprintf(text, (size_t)length + 1, format, arguments);
    return text;
}

apr_status_t result_set(result_t *result, problem_t problem, const char *detail, ...)
{
    va_list arguments;

    if (result->problem != PROBLEM_NONE)
        return APR_EGENERAL;
    result->problem = is_problem(problem) ? problem : PROBLEM_INTERNAL;
    if (detail) {
        va_start(arguments, detail);
        result->detail = format_text(result->pool, detail, arguments);
        va_end(arguments);
    }
    return APR_EGENERAL;
}
