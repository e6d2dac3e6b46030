/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mod_sim_microsoft: a stand-in for Entra, Graph and Intune, for tests. The state is that of one process, so the server
 * must have only one (ServerLimit 1). See README.md.
 */
#include <poll.h>
#include <string.h>

#include <httpd.h>
#include <ap_mpm.h>
#include <http_config.h>
#include <http_connection.h>
#include <http_core.h>
#include <http_log.h>
#include <http_protocol.h>
#include <apr_atomic.h>
#include <apr_portable.h>
#include <apr_strings.h>

#include "sim_ms.h"

#define SLICE apr_time_from_msec(50)

extern module AP_MODULE_DECLARE_DATA sim_microsoft_module;

const char *const msim_service_names[MSIM_SERVICES] = {"token", "endpoints", "validate", "success", "failure", "other"};

static msim_t *the_sim;
static volatile apr_uint32_t connections;

void msim_note(msim_call_t *call, int status)
{
    if (call->service != MSIM_SERVICES) {
        msim_record_end(call, status);
    }
}

int msim_drop(msim_call_t *call)
{
    conn_rec *c = call->r->connection;
    apr_socket_t *socket = ap_get_conn_socket(c);

    msim_note(call, 0);
    if (socket != NULL) {
        apr_socket_shutdown(socket, APR_SHUTDOWN_READWRITE);
    }
    c->keepalive = AP_CONN_CLOSE;
    c->aborted = 1;
    return OK;
}

int msim_reply(msim_call_t *call, int status, const char *content_type, const char *body, apr_size_t length)
{
    request_rec *r = call->r;

    if (call->drop_after) {
        return msim_drop(call);
    }
    /* Before a byte goes out: a test that has the answer finds it in the record. */
    msim_note(call, status);
    r->status = status;
    if (ap_index_of_response(status) == ap_index_of_response(HTTP_INTERNAL_SERVER_ERROR) &&
        status != HTTP_INTERNAL_SERVER_ERROR) {
        /* httpd turns a status that it has no text for into 500. */
        r->status_line = apr_psprintf(r->pool, "%d Simulated", status);
    }
    ap_set_content_type(r, content_type != NULL ? content_type : "application/json; charset=utf-8");
    ap_set_content_length(r, (apr_off_t)length);
    ap_rwrite(body, (int)length, r);
    return OK;
}

int msim_reply_json(msim_call_t *call, int status, json_object *object)
{
    const char *text = msim_json_print(object, call->r->pool);

    json_object_put(object);
    return msim_reply(call, status, NULL, text, strlen(text));
}

int msim_reply_refusal(msim_call_t *call, const msim_refusal_t *refusal)
{
    json_object *error = json_object_new_object(), *answer = json_object_new_object();

    if (refusal->status == HTTP_UNAUTHORIZED) {
        apr_table_setn(call->r->headers_out, "WWW-Authenticate", "Bearer error=\"invalid_token\"");
    }
    call->error = refusal->sentence;
    json_object_object_add(error, "code", json_object_new_string(refusal->reason));
    json_object_object_add(error, "message", json_object_new_string(refusal->sentence));
    json_object_object_add(answer, "error", error);
    return msim_reply_json(call, refusal->status, answer);
}

static int client_gone(conn_rec *c)
{
    apr_socket_t *socket = ap_get_conn_socket(c);
    struct pollfd fd = {.fd = -1, .events = POLLRDHUP};
    apr_os_sock_t number;

    if (c->aborted || socket == NULL || apr_os_sock_get(&number, socket) != APR_SUCCESS) {
        return 1;
    }
    fd.fd = number;
    return poll(&fd, 1, 0) > 0;
}

int msim_wait(msim_call_t *call, double seconds)
{
    apr_time_t end = apr_time_now() + (apr_time_t)(seconds * APR_USEC_PER_SEC);
    int state = AP_MPMQ_RUNNING;

    for (;;) {
        apr_time_t left = end - apr_time_now();

        if (client_gone(call->r->connection) || msim_record_epoch(call->sim->record) != call->ticket.epoch ||
            ap_mpm_query(AP_MPMQ_MPM_STATE, &state) != APR_SUCCESS || state == AP_MPMQ_STOPPING) {
            return 0;
        }
        if (left <= 0) {
            return 1;
        }
        apr_sleep(left < SLICE ? left : SLICE);
    }
}

/** The whole body with a NUL behind it; an HTTP status if it is too large or broken off. */
static int body_read(msim_call_t *call)
{
    request_rec *r = call->r;
    apr_size_t room = 16384;
    int status = ap_setup_client_block(r, REQUEST_CHUNKED_DECHUNK);
    long got = 0;

    call->body = apr_pcalloc(r->pool, room);
    if (status != OK || !ap_should_client_block(r)) {
        return status;
    }
    while ((got = ap_get_client_block(r, call->body + call->body_length, room - call->body_length - 1)) > 0) {
        call->body_length += (apr_size_t)got;
        if (call->body_length > MSIM_BODY_MAX) {
            return HTTP_REQUEST_ENTITY_TOO_LARGE;
        }
        if (call->body_length + 1 == room) {
            char *larger = apr_palloc(r->pool, room * 2);

            memcpy(larger, call->body, call->body_length);
            call->body = larger;
            room *= 2;
        }
    }
    call->body[call->body_length] = '\0';
    return got < 0 ? HTTP_BAD_REQUEST : OK;
}

/** As it stands in the request line: httpd's own fields have lost doubled slashes, a mistake that should show. */
static const char *path_read(request_rec *r)
{
    const char *target = r->the_request == NULL ? NULL : strchr(r->the_request, ' ');

    if (target == NULL || target[1] != '/') {
        return r->parsed_uri.path != NULL ? r->parsed_uri.path : r->uri;
    }
    return apr_pstrndup(r->pool, target + 1, strcspn(target + 1, " ?"));
}

static int has_form(const char *path, const char *prefix, const char *suffix)
{
    apr_size_t length = strlen(path), head = strlen(prefix), tail = strlen(suffix);

    return length > head + tail && strncmp(path, prefix, head) == 0 && strcmp(path + length - tail, suffix) == 0 &&
           memchr(path + head, '/', length - head - tail) == NULL;
}

static msim_service_e action_find(msim_call_t *call)
{
    static const struct {
        const char *suffix;
        msim_service_e service;
    } actions[] = {{"/ScepActions/validateRequest", MSIM_VALIDATE},
                   {"/ScepActions/successNotification", MSIM_SUCCESS},
                   {"/ScepActions/failureNotification", MSIM_FAILURE}};
    const char *here = apr_psprintf(call->r->pool, "/scep-service/%u/", apr_atomic_read32(&call->sim->generation));

    for (int i = 0; i < 3; i++) {
        if (has_form(call->path, "/scep-service/", actions[i].suffix)) {
            call->gone = strncmp(call->path, here, strlen(here)) != 0;
            return actions[i].service;
        }
    }
    return MSIM_OTHER;
}

static msim_service_e service_find(msim_call_t *call)
{
    if (has_form(call->path, "/", "/oauth2/v2.0/token")) {
        return MSIM_TOKEN;
    }
    if (has_form(call->path, "/v1.0/servicePrincipals/appId=", "/endpoints")) {
        return MSIM_ENDPOINTS;
    }
    return action_find(call);
}

static void other_look(msim_call_t *call, msim_refusal_t *refusal)
{
    call->json = msim_json_parse(call->body, call->body_length, call->r->pool);
    *refusal = (msim_refusal_t){HTTP_NOT_FOUND, 0, "NotFound", "there is no such service"};
}

static const struct {
    void (*look)(msim_call_t *call, msim_refusal_t *refusal);
    int (*refuse)(msim_call_t *call, const msim_refusal_t *refusal);
    int (*answer)(msim_call_t *call);
} services[MSIM_SERVICES] = {
    [MSIM_TOKEN] = {msim_token_look, msim_token_refuse, msim_token_answer},
    [MSIM_ENDPOINTS] = {msim_endpoints_look, msim_reply_refusal, msim_endpoints_answer},
    [MSIM_VALIDATE] = {msim_action_look, msim_reply_refusal, msim_validate_answer},
    [MSIM_SUCCESS] = {msim_action_look, msim_reply_refusal, msim_notification_answer},
    [MSIM_FAILURE] = {msim_action_look, msim_reply_refusal, msim_notification_answer},
    [MSIM_OTHER] = {other_look, msim_reply_refusal, NULL},
};

static int serve(msim_call_t *call)
{
    const char *request_id = apr_table_get(call->r->headers_in, "client-request-id");
    const msim_fault_t *fault;
    msim_refusal_t refusal = {0};
    int answer = OK;

    call->service = service_find(call);
    services[call->service].look(call, &refusal);
    msim_record_begin(call);
    if (request_id != NULL) {
        apr_table_set(call->r->headers_out, "client-request-id", request_id);
    }
    apr_table_set(call->r->headers_out, "request-id", msim_uuid(call->r->pool));
    /* Who calls the old address does not reach the service, and so not its faults either. */
    fault = call->gone ? NULL : msim_fault_take(call, refusal.status == 0);
    if (fault != NULL && msim_fault_play(call, fault, &answer)) {
        return answer;
    }
    return refusal.status != 0 ? services[call->service].refuse(call, &refusal) : services[call->service].answer(call);
}

static int refuse_body(msim_call_t *call, int status)
{
    const msim_refusal_t refusal = {status, 0, "BadRequest", "the body is too large, or broken off"};

    call->service = service_find(call);
    call->body_length = 0;
    msim_record_begin(call);
    return msim_reply_refusal(call, &refusal);
}

static int handler(request_rec *r)
{
    const apr_uint64_t *connection;
    msim_call_t *call;
    int status;

    if (r->handler == NULL || strcmp(r->handler, "sim-microsoft") != 0) {
        return DECLINED;
    }
    if (the_sim == NULL) {
        /* The error log says why. */
        return HTTP_INTERNAL_SERVER_ERROR;
    }
    call = apr_pcalloc(r->pool, sizeof *call);
    connection = ap_get_module_config(r->connection->conn_config, &sim_microsoft_module);
    call->sim = the_sim;
    call->r = r;
    call->path = path_read(r);
    call->connection = connection == NULL ? 0 : *connection;
    call->service = MSIM_SERVICES;
    status = body_read(call);
    if (strncmp(call->path, "/sim/", 5) == 0) {
        return status == OK ? msim_control(call) : status;
    }
    return status == OK ? serve(call) : refuse_body(call, status);
}

static int connection_count(conn_rec *c, void *socket)
{
    (void)socket;
    if (c->master == NULL) {
        apr_uint64_t *number = apr_palloc(c->pool, sizeof *number);

        *number = apr_atomic_inc32(&connections) + 1;
        ap_set_module_config(c->conn_config, &sim_microsoft_module, number);
    }
    return OK;
}

static int check_server(apr_pool_t *pool, apr_pool_t *log_pool, apr_pool_t *scratch, server_rec *server)
{
    int processes = 0;

    (void)pool;
    (void)log_pool;
    (void)scratch;
    if (ap_mpm_query(AP_MPMQ_HARD_LIMIT_DAEMONS, &processes) == APR_SUCCESS && processes != 1) {
        ap_log_error(APLOG_MARK, APLOG_CRIT, 0, server,
                     "mod_sim_microsoft keeps its state in one process: set ServerLimit 1 (it is %d)", processes);
        return HTTP_INTERNAL_SERVER_ERROR;
    }
    return OK;
}

static void child_start(apr_pool_t *pool, server_rec *server)
{
    msim_t *sim = apr_pcalloc(pool, sizeof *sim);

    sim->keys = msim_keys_make(pool);
    sim->tenants = msim_tenants_make(pool);
    sim->faults = msim_faults_make(pool);
    sim->record = msim_record_make(pool);
    sim->used = msim_used_make(pool);
    sim->generation = 1;
    if (sim->keys == NULL || sim->tenants == NULL || sim->faults == NULL || sim->record == NULL ||
        sim->used == NULL) {
        ap_log_error(APLOG_MARK, APLOG_CRIT, 0, server, "mod_sim_microsoft: cannot make keys or mutexes");
        return;
    }
    the_sim = sim;
}

static void register_hooks(apr_pool_t *pool)
{
    (void)pool;
    ap_hook_post_config(check_server, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_child_init(child_start, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_pre_connection(connection_count, NULL, NULL, APR_HOOK_FIRST);
    ap_hook_handler(handler, NULL, NULL, APR_HOOK_MIDDLE);
}

AP_DECLARE_MODULE(sim_microsoft) = {STANDARD20_MODULE_STUFF, NULL, NULL, NULL, NULL, NULL, register_hooks, 0};
