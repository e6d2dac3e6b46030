/* SPDX-License-Identifier: Apache-2.0 */
/* The scripted SCEP CA as an httpd module; see README.md. */
#include "sim_ca.h"

#include <poll.h>
#include <stdlib.h>

#include <apr_base64.h>
#include <apr_lib.h>
#include <apr_portable.h>
#include <apr_strings.h>

#include <httpd.h>
#include <http_config.h>
#include <http_core.h>
#include <http_log.h>
#include <http_protocol.h>
#include <http_request.h>

#define MAX_BODY (1024 * 1024)

module AP_MODULE_DECLARE_DATA sim_ca_module;

typedef struct {
    sim_ca_t *ca;
} dir_conf_t;

/* Every CA of this configuration; locations with the same directory share one. */
static apr_array_header_t *authorities;

static int authorities_forget(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp)
{
    (void)plog;
    (void)ptemp;
    authorities = apr_array_make(pconf, 4, sizeof(sim_ca_t *));
    return OK;
}

static void *dir_conf_make(apr_pool_t *pool, char *path)
{
    (void)path;
    return apr_pcalloc(pool, sizeof(dir_conf_t));
}

static void *dir_conf_merge(apr_pool_t *pool, void *base, void *add)
{
    (void)pool;
    return ((dir_conf_t *)add)->ca ? add : base;
}

static const char *directory_set(cmd_parms *cmd, void *conf, const char *path)
{
    dir_conf_t *dir = conf;
    const char *full = ap_server_root_relative(cmd->pool, path);
    if (!full)
        return "SimCADirectory: not a path";
    for (int i = 0; i < authorities->nelts; i++) {
        sim_ca_t *known = APR_ARRAY_IDX(authorities, i, sim_ca_t *);
        if (strcmp(known->directory, full) == 0)
            dir->ca = known;
    }
    if (!dir->ca) {
        dir->ca = apr_pcalloc(cmd->pool, sizeof(*dir->ca));
        dir->ca->directory = full;
        apr_pool_create(&dir->ca->pool, cmd->pool);
        APR_ARRAY_PUSH(authorities, sim_ca_t *) = dir->ca;
    }
    return NULL;
}

/* Before the server drops root, so that a key that only root can read will do. */
static int authorities_load(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp, server_rec *s)
{
    (void)pconf;
    (void)plog;
    (void)ptemp;
    for (int i = 0; i < authorities->nelts; i++) {
        sim_ca_t *ca = APR_ARRAY_IDX(authorities, i, sim_ca_t *);
        const char *error = sim_ca_load(ca);
        if (error) {
            ap_log_error(APLOG_MARK, APLOG_EMERG, 0, s, "SimCADirectory: %s", error);
            return HTTP_INTERNAL_SERVER_ERROR;
        }
    }
    return OK;
}

static sim_bytes_t body_read(request_rec *r)
{
    sim_bytes_t bytes = {NULL, 0};
    char chunk[8192];
    long got = 0;
    if (ap_setup_client_block(r, REQUEST_CHUNKED_DECHUNK) != OK)
        return bytes;
    unsigned char *data = apr_palloc(r->pool, MAX_BODY + 1);
    apr_size_t len = 0;
    if (ap_should_client_block(r)) {
        while ((got = ap_get_client_block(r, chunk, sizeof(chunk))) > 0) {
            if (len + (apr_size_t)got > MAX_BODY)
                return bytes;
            memcpy(data + len, chunk, (size_t)got);
            len += (apr_size_t)got;
        }
    }
    if (got < 0)
        return bytes;
    data[len] = 0;
    bytes.data = data;
    bytes.len = len;
    return bytes;
}

/* The raw value, or NULL. */
static char *argument(request_rec *r, const char *name)
{
    const char *rest = r->args;
    while (rest && *rest) {
        char *pair = ap_getword(r->pool, &rest, '&');
        char *equals = strchr(pair, '=');
        if (!equals)
            continue;
        *equals = 0;
        if (strcasecmp(pair, name) == 0)
            return equals + 1;
    }
    return NULL;
}

/* A plus sign and a space both mean the plus sign of base64. */
static sim_bytes_t message_of_query(request_rec *r)
{
    sim_bytes_t bytes = {NULL, 0};
    char *text = argument(r, "message");
    if (!text)
        return bytes;
    ap_unescape_urlencoded(text);
    char *to = text;
    for (const char *at = text; *at; at++) {
        if (*at == ' ')
            *to++ = '+';
        else if (!apr_isspace(*at))
            *to++ = *at;
    }
    *to = 0;
    bytes.data = apr_pcalloc(r->pool, (apr_size_t)apr_base64_decode_len(text) + 1);
    bytes.len = (apr_size_t)apr_base64_decode_binary(bytes.data, text);
    return bytes;
}

static void close_afterwards(request_rec *r)
{
    r->connection->keepalive = AP_CONN_CLOSE;
}

static int drop(request_rec *r)
{
    close_afterwards(r);
    r->connection->aborted = 1;
    return DONE;
}

static bool client_gone(conn_rec *c)
{
    apr_socket_t *socket = ap_get_conn_socket(c);
    struct pollfd fd = {.fd = -1, .events = POLLRDHUP};
    apr_os_sock_t number;
    if (c->aborted || !socket || apr_os_sock_get(&number, socket) != APR_SUCCESS)
        return true;
    fd.fd = number;
    return poll(&fd, 1, 0) > 0;
}

/* `fully`: whether the whole answer could be given to somebody who was there. */
static int reply_send(request_rec *r, const sim_ca_reply_t *reply, const sim_ca_plan_t *plan, bool *fully)
{
    bool half = plan && (plan->mode == MODE_TRUNCATE || plan->mode == MODE_STALL);
    apr_interval_time_t pause = plan ? (apr_interval_time_t)(plan->seconds * APR_USEC_PER_SEC) : 0;
    if (plan && plan->mode == MODE_SLOW)
        apr_sleep(pause);
    bool gone = client_gone(r->connection);
    if (half)
        close_afterwards(r);
    r->status = reply->status;
    ap_set_content_type(r, reply->content_type);
    ap_set_content_length(r, (apr_off_t)reply->body.len);
    if (reply->body.len)
        ap_rwrite(reply->body.data, (int)(half ? reply->body.len / 2 : reply->body.len), r);
    ap_rflush(r);
    *fully = !half && !gone && !r->connection->aborted;
    if (plan && plan->mode == MODE_STALL)
        apr_sleep(pause);
    if (half)
        /* No end of the body: the connection just ends. */
        r->connection->aborted = 1;
    return half ? DONE : OK;
}

/* The record is there before the first byte goes out. */
static int recorded_send(request_rec *r, sim_ca_t *ca, const sim_ca_record_t *record, const sim_ca_reply_t *reply,
                         const sim_ca_plan_t *plan)
{
    sim_ca_ticket_t ticket = sim_ca_record_add(ca, record);
    bool fully = false;
    int result;
    if (plan && (plan->mode == MODE_DROP || plan->mode == MODE_DROP_AFTER))
        result = drop(r);
    else
        result = reply_send(r, reply, plan, &fully);
    sim_ca_record_answered(ca, ticket, fully);
    return result;
}

static sim_ca_reply_t text_reply(request_rec *r, int status, const char *text)
{
    sim_ca_reply_t reply = {status, "text/plain", sim_bytes(text, strlen(text), r->pool)};
    return reply;
}

static int text_send(request_rec *r, int status, const char *text)
{
    sim_ca_reply_t reply = text_reply(r, status, text);
    bool fully;
    return reply_send(r, &reply, NULL, &fully);
}

static int json_send(request_rec *r, struct json_object *json)
{
    const char *text = json_object_to_json_string_ext(json, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
    ap_set_content_type(r, "application/json");
    ap_rputs(text, r);
    json_object_put(json);
    return OK;
}

static int control(request_rec *r, sim_ca_t *ca)
{
    sim_bytes_t body = body_read(r);
    struct json_object *json = body.data ? json_tokener_parse((const char *)body.data) : NULL;
    struct json_object *answer = json_object_new_object();
    const char *error = json ? sim_ca_control(ca, json, answer) : "not JSON";
    json_object_put(json);
    if (!error)
        return json_send(r, answer);
    json_object_put(answer);
    return text_send(r, HTTP_BAD_REQUEST, apr_pstrcat(r->pool, error, "\n", NULL));
}

static int number_argument(request_rec *r, const char *name, int otherwise)
{
    const char *text = argument(r, name);
    return text ? (int)strtol(text, NULL, 10) : otherwise;
}

static int manage(request_rec *r, sim_ca_t *ca)
{
    const char *slash = strrchr(r->uri, '/');
    const char *name = slash ? slash + 1 : "";
    if (r->method_number == M_POST && strcmp(name, "control") == 0)
        return control(r, ca);
    if (r->method_number == M_POST && strcmp(name, "reset") == 0) {
        sim_ca_reset(ca);
        return json_send(r, json_object_new_object());
    }
    if (r->method_number == M_GET && strcmp(name, "record") == 0) {
        sim_ca_page_t page = {number_argument(r, "since", 0), number_argument(r, "limit", 0),
                              number_argument(r, "csr", 1) != 0};
        return json_send(r, sim_ca_records(ca, &page));
    }
    return text_send(r, HTTP_BAD_REQUEST, "no operation\n");
}

static int pki_operation(request_rec *r, sim_ca_t *ca, sim_ca_record_t *record)
{
    sim_ca_reply_t reply = {0};
    sim_bytes_t message = r->method_number == M_POST ? body_read(r) : message_of_query(r);
    if (!message.data) {
        record->outcome = "malformed";
        reply = text_reply(r, HTTP_BAD_REQUEST, "no message\n");
        return recorded_send(r, ca, record, &reply, NULL);
    }
    sim_ca_plan_t plan = sim_ca_plan_take(ca);
    sim_ca_operate(ca, message, &plan, record, &reply, r->pool);
    return recorded_send(r, ca, record, &reply, &plan);
}

/* The operations that have nothing to decide. */
static void information_make(request_rec *r, sim_ca_t *ca, sim_ca_record_t *record, sim_ca_reply_t *reply)
{
    if (strcasecmp(record->operation, "GetCACaps") == 0) {
        *reply = text_reply(r, HTTP_OK, sim_ca_caps(ca, r->pool));
        return;
    }
    if (strcasecmp(record->operation, "GetCACert") == 0) {
        reply->status = HTTP_OK;
        reply->content_type = ca->ca_cert_is_chain ? "application/x-x509-ca-ra-cert" : "application/x-x509-ca-cert";
        reply->body = ca->ca_cert_answer;
        return;
    }
    bool next = strcasecmp(record->operation, "GetNextCACert") == 0 && sim_ca_next(ca);
    if (next && sim_ca_next_answer(ca, reply, r->pool))
        return;
    record->outcome = "unknown";
    *reply = text_reply(r, HTTP_BAD_REQUEST, "this operation is not served\n");
}

static int handler(request_rec *r)
{
    const dir_conf_t *dir = ap_get_module_config(r->per_dir_config, &sim_ca_module);
    if (!r->handler || strcmp(r->handler, "sim-ca") != 0)
        return DECLINED;
    if (!dir->ca)
        return text_send(r, HTTP_INTERNAL_SERVER_ERROR, "SimCADirectory is missing\n");
    if (r->header_only || (r->method_number != M_GET && r->method_number != M_POST))
        return HTTP_METHOD_NOT_ALLOWED;
    const char *operation = argument(r, "operation");
    if (!operation)
        return manage(r, dir->ca);
    sim_ca_record_t record = {.time = apr_time_now(), .operation = operation, .method = r->method, .outcome = "ok"};
    if (strcasecmp(operation, "PKIOperation") == 0)
        return pki_operation(r, dir->ca, &record);
    sim_ca_reply_t reply = {0};
    information_make(r, dir->ca, &record, &reply);
    return recorded_send(r, dir->ca, &record, &reply, NULL);
}

static const command_rec commands[] = {AP_INIT_TAKE1("SimCADirectory", directory_set, NULL, ACCESS_CONF,
                                                     "directory with ca.pem and ca.key, and perhaps ra.pem and ra.key"),
                                       {NULL, {NULL}, NULL, 0, RAW_ARGS, NULL}};

/* Nothing here is a file: no walk through directories that the server's user may not be able to enter. */
static int no_storage(request_rec *r)
{
    const dir_conf_t *dir = ap_get_module_config(r->per_dir_config, &sim_ca_module);
    return dir->ca ? OK : DECLINED;
}

static void hooks_register(apr_pool_t *pool)
{
    (void)pool;
    ap_hook_pre_config(authorities_forget, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_post_config(authorities_load, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_map_to_storage(no_storage, NULL, NULL, APR_HOOK_FIRST);
    ap_hook_handler(handler, NULL, NULL, APR_HOOK_MIDDLE);
}

AP_DECLARE_MODULE(sim_ca) = {
    STANDARD20_MODULE_STUFF, dir_conf_make, dir_conf_merge, NULL, NULL, commands, hooks_register, 0};
