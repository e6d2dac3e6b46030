/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All calls in the order of their arrival. An entry is made before the answer is thought about, so that a slow call
 * shows too.
 */
#include <stdlib.h>
#include <string.h>

#include <http_protocol.h>
#include <apr_strings.h>
#include <apr_thread_mutex.h>
#include <openssl/sha.h>

#include "sim_ms.h"

#define CALLS_MAX 200000
#define BODIES_MAX ((apr_size_t)512 * 1024 * 1024) /* of all calls together */
#define BATCH 128
#define UNANSWERED (-1)

typedef struct entry_t {
    apr_time_t time;
    apr_time_t accepted; /* when; 0: not */
    msim_service_e service;
    int status;
    char *fixed; /* JSON members that are known from the start, without braces */
    char *body;  /* JSON */
    char *code;
    char *error;
} entry_t;

struct msim_record_t {
    apr_thread_mutex_t *mutex;
    entry_t *entries;
    int count;
    int room;
    int lost;
    int bodies;
    apr_size_t body_bytes;
    apr_uint32_t epoch;
};

msim_record_t *msim_record_make(apr_pool_t *pool)
{
    msim_record_t *record = apr_pcalloc(pool, sizeof *record);

    record->bodies = 1;
    return apr_thread_mutex_create(&record->mutex, APR_THREAD_MUTEX_DEFAULT, pool) == APR_SUCCESS ? record : NULL;
}

static void add_text(json_object *object, const char *name, const char *text)
{
    json_object_object_add(object, name, text == NULL ? NULL : json_object_new_string(text));
}

/** What connects the calls of one transaction, so that nobody needs the bodies for it. */
static void add_facts(json_object *object, msim_call_t *call)
{
    static const char *const members[] = {"transactionId", "certificateThumbprint"};
    static const char *const names[] = {"transaction_id", "thumbprint"};
    const char *outer = call->service == MSIM_VALIDATE ? "request" : "notification", *csr;
    int is_action = call->service == MSIM_VALIDATE || call->service == MSIM_SUCCESS || call->service == MSIM_FAILURE;
    json_object *inner = NULL;
    unsigned char hash[SHA256_DIGEST_LENGTH], *der;
    char hex[2 * SHA256_DIGEST_LENGTH + 1];
    apr_size_t length = 0;

    if (!is_action || !json_object_object_get_ex(call->json, outer, &inner) ||
        !json_object_is_type(inner, json_type_object)) {
        inner = NULL;
    }
    for (int i = 0; i < 2; i++) {
        add_text(object, names[i], inner == NULL ? NULL : msim_json_text(inner, members[i]));
    }
    csr = inner == NULL ? NULL : msim_json_text(inner, "certificateRequest");
    der = csr == NULL ? NULL : msim_base64_decode(csr, strlen(csr), &length, call->r->pool);
    if (der != NULL) {
        ap_bin2hex(SHA256(der, length, hash), sizeof hash, hex);
    }
    add_text(object, "csr_sha256", der == NULL ? NULL : hex);
}

static const char *fixed_members(msim_call_t *call)
{
    const apr_table_t *in = call->r->headers_in;
    json_object *object = json_object_new_object();
    const char *text;

    add_text(object, "tenant", call->tenant);
    add_text(object, "request_id", apr_table_get(in, "client-request-id"));
    add_text(object, "api_version", apr_table_get(in, "api-version"));
    add_text(object, "user_agent", apr_table_get(in, "User-Agent"));
    add_text(object, "content_type", apr_table_get(in, "Content-Type"));
    add_text(object, "scope", call->scope);
    add_text(object, "method", call->r->method);
    add_text(object, "path", call->path);
    add_facts(object, call);
    json_object_object_add(object, "connection", json_object_new_int64((apr_int64_t)call->connection));
    text = msim_json_print(object, call->r->pool);
    json_object_put(object);
    return apr_pstrmemdup(call->r->pool, text + 1, strlen(text) - 2);
}

static const char *body_member(msim_call_t *call)
{
    json_object *text;
    const char *json;

    if (call->json != NULL) {
        return msim_json_print(call->json, call->r->pool);
    }
    /* A form that could not be read may hold the secret. */
    if (call->body_length == 0 || call->service == MSIM_TOKEN) {
        return NULL;
    }
    text = json_object_new_string_len(call->body, (int)call->body_length);
    json = msim_json_print(text, call->r->pool);
    json_object_put(text);
    return json;
}

static int entry_add(msim_record_t *record, const entry_t *entry, apr_size_t body_length)
{
    if (record->count == CALLS_MAX) {
        record->lost++;
        return -1;
    }
    if (record->count == record->room) {
        record->room = record->room == 0 ? 1024 : record->room * 2;
        record->entries = ap_realloc(record->entries, (size_t)record->room * sizeof *record->entries);
    }
    record->body_bytes += body_length;
    record->entries[record->count] = *entry;
    record->entries[record->count].time = apr_time_now();
    return record->count++;
}

void msim_record_begin(msim_call_t *call)
{
    msim_record_t *record = call->sim->record;
    entry_t entry = {.service = call->service, .status = UNANSWERED, .fixed = msim_strdup(fixed_members(call))};
    apr_size_t body_length;

    entry.body = msim_strdup(body_member(call));
    body_length = entry.body == NULL ? 0 : strlen(entry.body);
    apr_thread_mutex_lock(record->mutex);
    if (!record->bodies || record->body_bytes + body_length > BODIES_MAX) {
        free(entry.body);
        entry.body = NULL;
        body_length = 0;
    }
    call->ticket.epoch = record->epoch;
    call->ticket.index = entry_add(record, &entry, body_length);
    apr_thread_mutex_unlock(record->mutex);
    if (call->ticket.index < 0) {
        free(entry.fixed);
        free(entry.body);
    }
}

void msim_record_end(msim_call_t *call, int status)
{
    msim_record_t *record = call->sim->record;
    char *code = msim_strdup(call->code);
    char *error = msim_strdup(call->error);

    apr_thread_mutex_lock(record->mutex);
    if (call->ticket.index >= 0 && call->ticket.epoch == record->epoch) {
        entry_t *entry = &record->entries[call->ticket.index];

        free(entry->code);
        free(entry->error);
        entry->status = status;
        entry->accepted = code != NULL && strcmp(code, "Success") == 0 ? apr_time_now() : 0;
        entry->code = code;
        entry->error = error;
        code = error = NULL;
    }
    apr_thread_mutex_unlock(record->mutex);
    free(code);
    free(error);
}

void msim_record_reset(msim_record_t *record, int bodies)
{
    entry_t *entries;
    int count;

    apr_thread_mutex_lock(record->mutex);
    entries = record->entries;
    count = record->count;
    record->entries = NULL;
    record->count = record->room = record->lost = 0;
    record->body_bytes = 0;
    record->bodies = bodies;
    record->epoch++;
    apr_thread_mutex_unlock(record->mutex);
    for (int i = 0; i < count; i++) {
        free(entries[i].fixed);
        free(entries[i].body);
        free(entries[i].code);
        free(entries[i].error);
    }
    free(entries);
}

apr_uint32_t msim_record_epoch(msim_record_t *record)
{
    apr_uint32_t epoch;

    apr_thread_mutex_lock(record->mutex);
    epoch = record->epoch;
    apr_thread_mutex_unlock(record->mutex);
    return epoch;
}

typedef struct filter_t {
    int after;
    int bodies;
    const char *service;
} filter_t;

static const char *json_quoted(const char *text, apr_pool_t *pool)
{
    json_object *object;
    const char *json;

    if (text == NULL) {
        return "null";
    }
    object = json_object_new_string(text);
    json = msim_json_print(object, pool);
    json_object_put(object);
    return json;
}

static const char *entry_print(const entry_t *entry, int n, int bodies, apr_pool_t *pool)
{
    const char *status = entry->status == UNANSWERED ? "null" : apr_itoa(pool, entry->status);
    const char *head = apr_psprintf(
        pool, "{\"n\":%d,\"time\":%" APR_TIME_T_FMT ",\"service\":\"%s\",\"status\":%s,\"code\":%s,\"error\":%s,", n,
        entry->time, msim_service_names[entry->service], status, json_quoted(entry->code, pool),
        json_quoted(entry->error, pool));
    const char *accepted =
        entry->accepted == 0
            ? "\"accepted\":false,\"accepted_time\":null,"
            : apr_psprintf(pool, "\"accepted\":true,\"accepted_time\":%" APR_TIME_T_FMT ",", entry->accepted);

    return apr_pstrcat(pool, head, accepted, entry->fixed, ",\"body\":",
                       bodies && entry->body != NULL ? entry->body : "null", "}", NULL);
}

/** Prints some entries; nothing when the record was reset meanwhile. Moves the position on. */
static apr_array_header_t *batch_print(msim_record_t *record, const filter_t *filter, apr_uint32_t epoch, int *position,
                                       int *lost, apr_pool_t *pool)
{
    apr_array_header_t *texts = apr_array_make(pool, BATCH, sizeof(const char *));

    apr_thread_mutex_lock(record->mutex);
    *lost = record->lost;
    for (; epoch == record->epoch && *position < record->count && texts->nelts < BATCH; ++*position) {
        const entry_t *entry = &record->entries[*position];

        if (filter->service == NULL || strcmp(filter->service, msim_service_names[entry->service]) == 0) {
            APR_ARRAY_PUSH(texts, const char *) = entry_print(entry, *position + 1, filter->bodies, pool);
        }
    }
    apr_thread_mutex_unlock(record->mutex);
    return texts;
}

static void filter_read(request_rec *r, filter_t *filter)
{
    apr_table_t *query = msim_form_parse(r->args == NULL ? "" : r->args, r->pool);
    const char *after = query == NULL ? NULL : apr_table_get(query, "after");
    const char *bodies = query == NULL ? NULL : apr_table_get(query, "bodies");

    filter->after = after == NULL ? 0 : (int)apr_atoi64(after);
    filter->after = filter->after < 0 ? 0 : filter->after;
    filter->bodies = bodies == NULL || strcmp(bodies, "0") != 0;
    filter->service = query == NULL ? NULL : apr_table_get(query, "service");
}

int msim_record_send(msim_call_t *call)
{
    msim_record_t *record = call->sim->record;
    request_rec *r = call->r;
    apr_uint32_t epoch = msim_record_epoch(record);
    const char *separator = "";
    apr_pool_t *pool = NULL;
    filter_t filter;
    int position, lost = 0, more = 1;

    filter_read(r, &filter);
    position = filter.after;
    ap_set_content_type(r, "application/json");
    ap_rputs("{\"calls\":[", r);
    apr_pool_create(&pool, r->pool);
    while (more && !r->connection->aborted) {
        apr_array_header_t *texts = batch_print(record, &filter, epoch, &position, &lost, pool);

        for (int i = 0; i < texts->nelts; i++) {
            ap_rputs(separator, r);
            ap_rputs(APR_ARRAY_IDX(texts, i, const char *), r);
            separator = ",";
        }
        more = texts->nelts == BATCH;
        apr_pool_clear(pool);
    }
    apr_pool_destroy(pool);
    ap_rprintf(r, "],\"lost\":%d}\n", lost);
    return OK;
}
