/* SPDX-License-Identifier: Apache-2.0 */
/* What the scripted CA was asked, and what it answered. */
#include "sim_ca.h"

#include <limits.h>

#include <apr_strings.h>

#define UNDER_WAY (-1)

static const char *text_keep(apr_pool_t *pool, const char *text)
{
    return text ? apr_pstrdup(pool, text) : NULL;
}

sim_ca_ticket_t sim_ca_record_add(sim_ca_t *ca, const sim_ca_record_t *record)
{
    apr_thread_mutex_lock(ca->mutex);
    sim_ca_record_t *kept = apr_pmemdup(ca->state, record, sizeof(*record));
    if (record->transaction_id.data)
        kept->transaction_id = sim_bytes(record->transaction_id.data, record->transaction_id.len, ca->state);
    kept->csr.data = NULL;
    if (ca->keep_csr)
        kept->csr = sim_ca_csr_keep(ca, record->csr);
    const char **texts[] = {&kept->operation, &kept->method, &kept->message_type,  &kept->signer_serial,
                            &kept->cipher,    &kept->digest, &kept->key_transport, &kept->serial,
                            &kept->csr_sha256, &kept->thumbprint, &kept->issuer, &kept->subject};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        *texts[i] = text_keep(ca->state, *texts[i]);
    kept->n = ++ca->count;
    kept->answered = UNDER_WAY;
    kept->next = NULL;
    if (ca->last)
        ca->last->next = kept;
    else
        ca->first = kept;
    ca->last = kept;
    sim_ca_ticket_t ticket = {kept, ca->epoch};
    apr_thread_mutex_unlock(ca->mutex);
    return ticket;
}

void sim_ca_record_answered(sim_ca_t *ca, sim_ca_ticket_t ticket, bool fully)
{
    apr_thread_mutex_lock(ca->mutex);
    if (ticket.epoch == ca->epoch) {
        ticket.record->answered = fully;
        ticket.record->answered_time = apr_time_now();
    }
    apr_thread_mutex_unlock(ca->mutex);
}

static struct json_object *record_json(const sim_ca_record_t *record, bool csr, apr_pool_t *pool)
{
    struct json_object *json = json_object_new_object();
    const struct {
        const char *name, *value;
    } texts[] = {
        {"operation", record->operation},
        {"method", record->method},
        {"mode", record->mode},
        {"message_type", record->message_type},
        {"signer_serial", record->signer_serial},
        {"csr_base64", csr && record->csr.data ? sim_base64(record->csr, pool) : NULL},
        {"cipher", record->cipher},
        {"digest", record->digest},
        {"key_transport", record->key_transport},
        {"serial", record->serial},
        {"outcome", record->outcome},
        {"csr_sha256", record->csr_sha256},
        {"thumbprint", record->thumbprint},
        {"issuer", record->issuer},
        {"subject", record->subject},
    };
    const char *id = (const char *)record->transaction_id.data;
    json_object_object_add(json, "n", json_object_new_int(record->n));
    json_object_object_add(json, "time", json_object_new_int64(record->time));
    json_object_object_add(json, "transaction_id",
                           id ? json_object_new_string_len(id, (int)record->transaction_id.len) : NULL);
    json_object_object_add(json, "fresh", json_object_new_boolean(record->fresh));
    bool under_way = record->answered == UNDER_WAY;
    json_object_object_add(json, "answered", under_way ? NULL : json_object_new_boolean(record->answered));
    json_object_object_add(json, "answered_time", under_way ? NULL : json_object_new_int64(record->answered_time));
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        json_object_object_add(json, texts[i].name, texts[i].value ? json_object_new_string(texts[i].value) : NULL);
    return json;
}

struct json_object *sim_ca_records(sim_ca_t *ca, const sim_ca_page_t *page)
{
    struct json_object *json = json_object_new_object(), *list = json_object_new_array();
    apr_pool_t *scratch = NULL;
    int left = page->limit > 0 ? page->limit : INT_MAX;
    apr_thread_mutex_lock(ca->mutex);
    apr_pool_create(&scratch, NULL);
    for (const sim_ca_record_t *record = ca->first; record && left > 0; record = record->next) {
        if (record->n <= page->since)
            continue;
        json_object_array_add(list, record_json(record, page->csr, scratch));
        apr_pool_clear(scratch);
        left--;
    }
    apr_pool_destroy(scratch);
    apr_thread_mutex_unlock(ca->mutex);
    json_object_object_add(json, "requests", list);
    return json;
}
