/* SPDX-License-Identifier: Apache-2.0 */
/* What goes wrong on demand: which fault is next, and how it looks on the wire. */
#include <limits.h>
#include <string.h>

#include <http_core.h>
#include <http_protocol.h>
#include <apr_strings.h>
#include <apr_thread_mutex.h>
#include <openssl/rand.h>

#include "sim_ms.h"

#define FAULTS_MAX 1000
#define SECONDS_MAX 3600.0
#define ENDLESS_BYTES ((apr_size_t)256 * 1024 * 1024)
#define FOR_EVER (-1)

typedef enum mode_e {
    MODE_OK,
    MODE_CODE,
    MODE_STATUS,
    MODE_SLOW,
    MODE_STALL,
    MODE_DROP,
    MODE_DROP_AFTER,
    MODE_HTML,
    MODE_BODY,
    MODE_ENDLESS,
    MODE_REDIRECT,
    MODE_EMPTY,
    MODE_AADSTS,
    MODES
} mode_e;

#define ANY ((1u << MSIM_OTHER) - 1)
#define ACTIONS (1u << MSIM_VALIDATE | 1u << MSIM_SUCCESS | 1u << MSIM_FAILURE)

static const struct {
    const char *name;
    unsigned targets;
    const char *needs; /* member that this mode cannot do without */
} modes[MODES] = {
    [MODE_OK] = {"ok", ANY, NULL},
    [MODE_CODE] = {"code", ACTIONS, "code"},
    [MODE_STATUS] = {"status", ANY, "status"},
    [MODE_SLOW] = {"slow", ANY, "seconds"},
    [MODE_STALL] = {"stall", ANY, "seconds"},
    [MODE_DROP] = {"drop", ANY, NULL},
    [MODE_DROP_AFTER] = {"drop_after", ACTIONS, NULL},
    [MODE_HTML] = {"html", ANY, NULL},
    [MODE_BODY] = {"body", ANY, "body"},
    [MODE_ENDLESS] = {"endless", ANY, NULL},
    [MODE_REDIRECT] = {"redirect", ANY, "location"},
    [MODE_EMPTY] = {"empty", 1u << MSIM_ENDPOINTS, NULL},
    [MODE_AADSTS] = {"aadsts", 1u << MSIM_TOKEN, "aadsts"},
};

struct msim_fault_t {
    apr_pool_t *pool; /* its own when it is listed, else NULL */
    mode_e mode;
    msim_service_e target;
    const char *tenant;
    int times;
    double percent;
    double seconds;
    int status;
    int aadsts;
    const char *retry_after;
    const char *code;
    const char *description;
    const char *location;
    const char *body;
    apr_size_t body_length;
};

struct msim_faults_t {
    apr_thread_mutex_t *mutex;
    msim_fault_t *list[FAULTS_MAX]; /* oldest first */
    int count;
};

msim_faults_t *msim_faults_make(apr_pool_t *pool)
{
    msim_faults_t *faults = apr_pcalloc(pool, sizeof *faults);

    return apr_thread_mutex_create(&faults->mutex, APR_THREAD_MUTEX_DEFAULT, pool) == APR_SUCCESS ? faults : NULL;
}

static msim_fault_t *fault_copy(const msim_fault_t *fault, apr_pool_t *pool)
{
    msim_fault_t *copy = apr_pmemdup(pool, fault, sizeof *fault);

    copy->pool = NULL;
    copy->tenant = apr_pstrdup(pool, fault->tenant);
    copy->retry_after = apr_pstrdup(pool, fault->retry_after);
    copy->code = apr_pstrdup(pool, fault->code);
    copy->description = apr_pstrdup(pool, fault->description);
    copy->location = apr_pstrdup(pool, fault->location);
    copy->body = apr_pstrmemdup(pool, fault->body, fault->body_length);
    return copy;
}

/* The list's mutex is held. */
static void fault_remove(msim_faults_t *faults, int index)
{
    apr_pool_destroy(faults->list[index]->pool);
    faults->count--;
    memmove(&faults->list[index], &faults->list[index + 1], (size_t)(faults->count - index) * sizeof faults->list[0]);
}

static const char *fault_list(msim_faults_t *faults, const msim_fault_t *fault)
{
    apr_pool_t *pool = NULL;
    msim_fault_t *listed;

    if (faults->count == FAULTS_MAX) {
        return "there are too many faults";
    }
    /* An allocator of its own: faults come and go in any thread. */
    if (apr_pool_create_unmanaged_ex(&pool, NULL, NULL) != APR_SUCCESS) {
        return "no memory";
    }
    listed = fault_copy(fault, pool);
    listed->pool = pool;
    faults->list[faults->count++] = listed;
    return NULL;
}

static int same_tenant(const char *a, const char *b)
{
    return a == NULL ? b == NULL : b != NULL && strcasecmp(a, b) == 0;
}

static void faults_lift(msim_faults_t *faults, msim_service_e target, const char *tenant)
{
    for (int i = faults->count - 1; i >= 0; i--) {
        if (faults->list[i]->target == target && same_tenant(tenant, faults->list[i]->tenant)) {
            fault_remove(faults, i);
        }
    }
}

void msim_faults_reset(msim_faults_t *faults)
{
    apr_thread_mutex_lock(faults->mutex);
    while (faults->count > 0) {
        fault_remove(faults, faults->count - 1);
    }
    apr_thread_mutex_unlock(faults->mutex);
}

static const char *number_read(json_object *spec, const char *name, int low, int high, int *number, apr_pool_t *pool)
{
    json_object *member = NULL;
    apr_int64_t value;

    if (!json_object_object_get_ex(spec, name, &member)) {
        return NULL;
    }
    value = json_object_get_int64(member);
    if (!json_object_is_type(member, json_type_int) || value < low || value > high) {
        return apr_psprintf(pool, "'%s' must be a number from %d to %d", name, low, high);
    }
    *number = (int)value;
    return NULL;
}

static const char *amount_read(json_object *spec, const char *name, double high, double *amount, apr_pool_t *pool)
{
    json_object *member = NULL;
    double value;

    if (!json_object_object_get_ex(spec, name, &member)) {
        return NULL;
    }
    value = json_object_get_double(member);
    if ((!json_object_is_type(member, json_type_int) && !json_object_is_type(member, json_type_double)) ||
        !(value >= 0 && value <= high)) {
        return apr_psprintf(pool, "'%s' must be a number from 0 to %d", name, (int)high);
    }
    *amount = value;
    return NULL;
}

static const char *texts_read(json_object *spec, msim_fault_t *fault, apr_pool_t *pool)
{
    static const char *const names[] = {"tenant", "code", "description", "location", "body", NULL};
    json_object *member = NULL;

    for (const char *const *name = names; *name != NULL; name++) {
        if (json_object_object_get_ex(spec, *name, &member) && member != NULL &&
            !json_object_is_type(member, json_type_string)) {
            return apr_psprintf(pool, "'%s' must be a string", *name);
        }
    }
    fault->tenant = msim_json_text(spec, "tenant");
    fault->code = msim_json_text(spec, "code");
    fault->description = msim_json_text(spec, "description");
    fault->location = msim_json_text(spec, "location");
    if (json_object_object_get_ex(spec, "body", &member) && member != NULL) {
        fault->body = json_object_get_string(member);
        fault->body_length = (apr_size_t)json_object_get_string_len(member);
    }
    if (json_object_object_get_ex(spec, "retry_after", &member) && member != NULL) {
        fault->retry_after = apr_pstrdup(pool, json_object_get_string(member));
    }
    return NULL;
}

static const char *kind_read(json_object *spec, msim_fault_t *fault, apr_pool_t *pool)
{
    const char *target = msim_json_text(spec, "target");
    const char *mode = msim_json_text(spec, "mode");
    unsigned t = 0, m = 0;

    while (target != NULL && t < MSIM_OTHER && strcmp(target, msim_service_names[t]) != 0) {
        t++;
    }
    while (mode != NULL && m < MODES && strcmp(mode, modes[m].name) != 0) {
        m++;
    }
    if (target == NULL || t == MSIM_OTHER) {
        return "'target' must be token, endpoints, validate, success or failure";
    }
    if (mode == NULL || m == MODES) {
        return "'mode' is missing or unknown";
    }
    if ((modes[m].targets & 1u << t) == 0) {
        return apr_psprintf(pool, "mode '%s' does not go with target '%s'", mode, target);
    }
    if (modes[m].needs != NULL && !json_object_object_get_ex(spec, modes[m].needs, NULL)) {
        return apr_psprintf(pool, "mode '%s' needs '%s'", mode, modes[m].needs);
    }
    fault->target = (msim_service_e)t;
    fault->mode = (mode_e)m;
    return NULL;
}

static const char *fault_read(json_object *spec, msim_fault_t *fault, apr_pool_t *pool)
{
    static const char *const names[] = {"target", "tenant",      "mode",     "times", "seconds",     "status", "aadsts",
                                        "code",   "description", "location", "body",  "retry_after", "percent", NULL};
    const char *wrong = msim_json_only(spec, names, pool);

    fault->times = FOR_EVER;
    fault->percent = 100;
    wrong = wrong != NULL ? wrong : kind_read(spec, fault, pool);
    fault->status = fault->mode == MODE_REDIRECT ? HTTP_MOVED_TEMPORARILY : HTTP_OK;
    wrong = wrong != NULL ? wrong : number_read(spec, "times", FOR_EVER, 1000000, &fault->times, pool);
    wrong = wrong != NULL ? wrong : number_read(spec, "status", 200, 599, &fault->status, pool);
    wrong = wrong != NULL ? wrong : number_read(spec, "aadsts", 1, 999999999, &fault->aadsts, pool);
    wrong = wrong != NULL ? wrong : amount_read(spec, "seconds", SECONDS_MAX, &fault->seconds, pool);
    wrong = wrong != NULL ? wrong : amount_read(spec, "percent", 100, &fault->percent, pool);
    return wrong != NULL ? wrong : texts_read(spec, fault, pool);
}

const char *msim_fault_add(msim_faults_t *faults, json_object *spec, apr_pool_t *pool)
{
    msim_fault_t fault = {0};
    const char *wrong = fault_read(spec, &fault, pool);

    if (wrong != NULL || fault.times == 0) {
        return wrong;
    }
    apr_thread_mutex_lock(faults->mutex);
    if (fault.mode == MODE_OK) {
        faults_lift(faults, fault.target, fault.tenant);
    } else {
        wrong = fault_list(faults, &fault);
    }
    apr_thread_mutex_unlock(faults->mutex);
    return wrong;
}

static int fault_fits(const msim_fault_t *fault, const msim_call_t *call, int well_formed)
{
    return fault->target == call->service && (fault->tenant == NULL || same_tenant(fault->tenant, call->tenant)) &&
           (fault->mode != MODE_CODE || well_formed);
}

static int chance(double percent)
{
    unsigned number = 0;

    if (percent >= 100 || RAND_bytes((unsigned char *)&number, sizeof number) != 1) {
        return 1;
    }
    return number / (UINT_MAX + 1.0) * 100 < percent;
}

const msim_fault_t *msim_fault_take(msim_call_t *call, int well_formed)
{
    msim_faults_t *faults = call->sim->faults;
    msim_fault_t *taken = NULL;
    int i;

    apr_thread_mutex_lock(faults->mutex);
    for (i = faults->count - 1;
         i >= 0 && !(fault_fits(faults->list[i], call, well_formed) && chance(faults->list[i]->percent)); i--) {
    }
    if (i >= 0) {
        taken = fault_copy(faults->list[i], call->r->pool);
        if (faults->list[i]->times != FOR_EVER && --faults->list[i]->times == 0) {
            fault_remove(faults, i);
        }
    }
    apr_thread_mutex_unlock(faults->mutex);
    return taken;
}

static const char *likely_body(const msim_call_t *call)
{
    if (call->service == MSIM_TOKEN) {
        return "{\"token_type\":\"Bearer\",\"expires_in\":3599,\"ext_expires_in\":3599,\"access_token\":"
               "\"c3RhbGxlZA\"}";
    }
    if (call->service == MSIM_ENDPOINTS) {
        return "{\"value\":[{\"providerName\":\"ScepRequestValidationFEService\",\"uri\":\"https://stalled.invalid/"
               "\"}]}";
    }
    return "{\"code\":\"Success\",\"errorDescription\":\"\"}";
}

static int play_stall(msim_call_t *call, const msim_fault_t *fault)
{
    request_rec *r = call->r;
    const char *body = likely_body(call);
    apr_size_t length = strlen(body);

    msim_note(call, HTTP_OK);
    ap_set_content_type(r, "application/json");
    ap_set_content_length(r, (apr_off_t)length);
    ap_rwrite(body, (int)(length / 2), r);
    ap_rflush(r);
    msim_wait(call, fault->seconds);
    r->connection->keepalive = AP_CONN_CLOSE;
    r->connection->aborted = 1;
    return OK;
}

static int play_endless(msim_call_t *call, const msim_fault_t *fault)
{
    request_rec *r = call->r;
    apr_time_t end =
        apr_time_now() + (apr_time_t)((fault->seconds > 0 ? fault->seconds : SECONDS_MAX) * APR_USEC_PER_SEC);
    char filler[8192];
    apr_size_t sent = 0;

    memset(filler, 'a', sizeof filler);
    msim_note(call, HTTP_OK);
    ap_set_content_type(r, "application/json");
    ap_rputs("{\"code\":\"Success\",\"errorDescription\":\"", r);
    while (sent < ENDLESS_BYTES && apr_time_now() < end && msim_wait(call, 0) &&
           ap_rwrite(filler, sizeof filler, r) > 0 && ap_rflush(r) == 0) {
        sent += sizeof filler;
    }
    r->connection->keepalive = AP_CONN_CLOSE;
    r->connection->aborted = 1;
    return OK;
}

static int play_status(msim_call_t *call, const msim_fault_t *fault)
{
    static const char body[] =
        "{\"error\":{\"code\":\"Simulated\",\"message\":\"The stand-in was told to answer this.\"}}";
    request_rec *r = call->r;

    if (fault->retry_after != NULL) {
        apr_table_set(r->headers_out, "Retry-After", fault->retry_after);
    }
    if (fault->status == HTTP_UNAUTHORIZED) {
        apr_table_set(r->headers_out, "WWW-Authenticate", "Bearer");
    }
    if (fault->body != NULL) {
        return msim_reply(call, fault->status, NULL, fault->body, fault->body_length);
    }
    return msim_reply(call, fault->status, NULL, body, sizeof body - 1);
}

static int play_html(msim_call_t *call, const msim_fault_t *fault)
{
    static const char page[] = "<!DOCTYPE html>\n<html><head><title>Sign in to your account</title></head>"
                               "<body><p>Your organisation's proxy wants a word with you.</p></body></html>\n";

    if (fault->body != NULL) {
        return msim_reply(call, fault->status, "text/html; charset=utf-8", fault->body, fault->body_length);
    }
    return msim_reply(call, fault->status, "text/html; charset=utf-8", page, sizeof page - 1);
}

static int play_redirect(msim_call_t *call, const msim_fault_t *fault)
{
    apr_table_set(call->r->headers_out, "Location", fault->location);
    return msim_reply(call, fault->status, NULL, "{}", 2);
}

static int play_aadsts(msim_call_t *call, const msim_fault_t *fault)
{
    const msim_refusal_t refusal = {HTTP_UNAUTHORIZED, fault->aadsts, "invalid_client",
                                    fault->description != NULL ? fault->description
                                                               : "The stand-in was told to answer this."};

    return msim_token_refuse(call, &refusal);
}

int msim_fault_play(msim_call_t *call, const msim_fault_t *fault, int *answer)
{
    if (fault->seconds > 0 && fault->mode != MODE_STALL && fault->mode != MODE_ENDLESS) {
        msim_wait(call, fault->seconds);
    }
    switch (fault->mode) {
    case MODE_CODE:
        *answer = msim_code_answer(call, fault->code, fault->description == NULL ? "" : fault->description);
        return 1;
    case MODE_STATUS:
        *answer = play_status(call, fault);
        return 1;
    case MODE_STALL:
        *answer = play_stall(call, fault);
        return 1;
    case MODE_DROP:
        *answer = msim_drop(call);
        return 1;
    case MODE_HTML:
        *answer = play_html(call, fault);
        return 1;
    case MODE_BODY:
        *answer = msim_reply(call, fault->status, NULL, fault->body, fault->body_length);
        return 1;
    case MODE_ENDLESS:
        *answer = play_endless(call, fault);
        return 1;
    case MODE_REDIRECT:
        *answer = play_redirect(call, fault);
        return 1;
    case MODE_EMPTY:
        *answer = msim_endpoints_list(call, 0);
        return 1;
    case MODE_AADSTS:
        *answer = play_aadsts(call, fault);
        return 1;
    case MODE_DROP_AFTER:
        call->drop_after = 1;
        return 0;
    case MODE_OK:
    case MODE_SLOW:
    case MODES:
        break;
    }
    return 0;
}
