/* SPDX-License-Identifier: Apache-2.0 */
#include "refusal.h"

#include "base/clock.h"
#include "base/text.h"

#include <apr_strings.h>

static const apr_interval_time_t REFUSAL_LIFE = apr_time_from_sec(60);

/* The transactionID comes last, for it may hold anything printable; the digest has a fixed length. */
static const char *refusal_key(const transaction_t *t)
{
    return apr_pstrcat(t->pool, "refused\n", t->profile->name, "\n", text_hex(t->pool, t->csr->info_sha256), "\n",
                       t->request->transaction_id, NULL);
}

/* One line each: time, code, client-request-id. All of it is escaped already. */
void refusal_keep(const transaction_t *t)
{
    const result_t *result = t->result;
    cache_t *cache = t->profile->cache;
    if (!cache || result->problem != PROBLEM_INTUNE_REFUSED || !result->code || !strcmp(result->code, "Unknown")) {
        return;
    }
    apr_time_t now = clock_now();
    const char *record = apr_psprintf(t->pool, "%" APR_TIME_T_FMT "\n%s\n%s", now, result->code,
                                      result->request_id ? result->request_id : "-");
    cache->put(cache, refusal_key(t), bytes_of_text(record), now + REFUSAL_LIFE);
}

apr_status_t refusal_recall(const transaction_t *t)
{
    cache_t *cache = t->profile->cache;
    bytes_t value = {NULL, 0};
    char *code = NULL;
    if (!cache || cache->get(cache, refusal_key(t), &value, t->pool)) {
        return APR_SUCCESS;
    }
    apr_time_t first = apr_strtoi64(apr_pstrmemdup(t->pool, (const char *)value.data, value.len), &code, 10);
    char *request_id = *code == '\n' ? strchr(++code, '\n') : NULL;
    if (!request_id) {
        return APR_SUCCESS;
    }
    *request_id++ = '\0';
    char when[APR_RFC822_DATE_LEN];
    apr_rfc822_date(when, first);
    t->result->code = code;
    t->result->request_id = request_id;
    return result_set(t->result, PROBLEM_INTUNE_REFUSED, "answered from memory, first refused at %s", when);
}
