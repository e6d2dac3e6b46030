/* SPDX-License-Identifier: Apache-2.0 */
#include "failure.h"

#include <apr_strings.h>

enum { DETAIL_MAX = 500 };

/* What is in a result is escaped where it was met; what somebody forgot harms neither database nor log. */
static const char *printable(const char *text, apr_pool_t *pool)
{
    char *copy = apr_pstrndup(pool, text, DETAIL_MAX);
    for (char *c = copy; *c; c++) {
        *c = (unsigned char)*c < 0x20 || (unsigned char)*c > 0x7e ? '?' : *c;
    }
    return copy;
}

const char *failure_print(const result_t *result, apr_pool_t *pool)
{
    const char *detail = result->detail ? printable(result->detail, pool) : "";
    return apr_psprintf(pool, "%s %d %s", problem_facts(result->problem)->name, result->ca_fail_info, detail);
}

void failure_read(result_t *result, const char *text, bool again)
{
    char *rest = NULL;
    char *word = apr_pstrdup(result->pool, text ? text : "");
    char *name = apr_strtok(word, " ", &rest);
    char *number = name ? apr_strtok(NULL, " ", &rest) : NULL;
    problem_t problem = problem_named(name);
    if (problem == PROBLEM_NONE || !number) {
        result_set(result, PROBLEM_GIVEN_UP, NULL);
        return;
    }
    apr_int64_t fail_info = apr_strtoi64(number, NULL, 10);
    if (fail_info < 0 || fail_info > 4) {
        fail_info = problem_facts(problem)->fail_info == FAIL_INFO_OF_CA ? 2 : FAIL_INFO_NONE;
    }
    result->ca_fail_info = (int)fail_info;
    const char *detail = rest ? rest : "";
    result_set(result, problem, "%s%s%s", detail, again && *detail ? "; " : "",
               again ? "answered from the journal" : "");
}

const char *failure_words(const result_t *result)
{
    const char *what = problem_facts(result->problem)->what;
    return result->detail && *result->detail ? apr_pstrcat(result->pool, what, ": ", result->detail, NULL) : what;
}
