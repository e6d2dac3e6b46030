/* SPDX-License-Identifier: Apache-2.0 */
/* Entra's token endpoint and Graph's list of endpoints. */
#include <string.h>

#include <http_core.h>
#include <http_protocol.h>
#include <apr_atomic.h>
#include <apr_lib.h>
#include <apr_strings.h>
#include <apr_time.h>

#include "sim_ms.h"

#define SCOPE_SUFFIX "/.default"

static const struct {
    const char *origin;
    unsigned audience;
} resources[] = {
    {"https://graph.microsoft.com", MSIM_GRAPH},
    {"https://api.manage.microsoft.com", MSIM_INTUNE},
    {"https://graph.microsoft.us", MSIM_GRAPH},
    {"https://api.manage.microsoft.us", MSIM_INTUNE},
    {"https://microsoftgraph.chinacloudapi.cn", MSIM_GRAPH},
    {"https://api.manage.microsoftonline.cn", MSIM_INTUNE},
};

static int is_loopback(const char *origin)
{
    static const char *const hosts[] = {"127.0.0.1", "localhost", "[::1]", NULL};
    const char *host = strncmp(origin, "http://", 7) == 0    ? origin + 7
                       : strncmp(origin, "https://", 8) == 0 ? origin + 8
                                                             : "";

    for (const char *const *known = hosts; *known != NULL; known++) {
        apr_size_t length = strlen(*known);

        if (strncmp(host, *known, length) == 0) {
            const char *port = host + length;

            return *port == '\0' ||
                   (*port == ':' && port[1] != '\0' && strspn(port + 1, "0123456789") == strlen(port + 1));
        }
    }
    return 0;
}

/** Graph's scope ends in "/.default", Intune's in "//.default", as the reference clients send it. 0 for others. */
static unsigned scope_audience(const char *scope, apr_pool_t *pool)
{
    apr_size_t length = strlen(scope), suffix = sizeof SCOPE_SUFFIX - 1;
    unsigned audience = MSIM_GRAPH;
    char *origin;

    if (length <= suffix || strcmp(scope + length - suffix, SCOPE_SUFFIX) != 0) {
        return 0;
    }
    origin = apr_pstrmemdup(pool, scope, length - suffix);
    length -= suffix;
    if (origin[length - 1] == '/') {
        origin[length - 1] = '\0';
        audience = MSIM_INTUNE;
    }
    for (apr_size_t i = 0; i < sizeof resources / sizeof resources[0]; i++) {
        if (strcmp(origin, resources[i].origin) == 0) {
            return resources[i].audience == audience ? audience : 0;
        }
    }
    return is_loopback(origin) ? audience : 0;
}

static void refuse(msim_refusal_t *refusal, int status, const char *reason, int aadsts, const char *sentence)
{
    refusal->status = status;
    refusal->reason = reason;
    refusal->aadsts = aadsts;
    refusal->sentence = sentence;
}

static int add_field(void *object, const char *name, const char *value)
{
    /* Both are credentials, and no test needs them back. */
    if (strcmp(name, "client_secret") != 0 && strcmp(name, "client_assertion") != 0) {
        json_object_object_add(object, name, json_object_new_string(value));
    }
    return 1;
}

static apr_status_t form_free(void *object)
{
    json_object_put(object);
    return APR_SUCCESS;
}

static int form_read(msim_call_t *call, msim_refusal_t *refusal)
{
    if (strcmp(call->r->method, "POST") != 0) {
        refuse(refusal, HTTP_BAD_REQUEST, "invalid_request", 900561, "The endpoint only accepts POST requests.");
        return 0;
    }
    if (!msim_is_type(apr_table_get(call->r->headers_in, "Content-Type"), "application/x-www-form-urlencoded") ||
        strlen(call->body) != call->body_length || (call->form = msim_form_parse(call->body, call->r->pool)) == NULL) {
        refuse(refusal, HTTP_BAD_REQUEST, "invalid_request", 9002313,
               "Invalid request. Request is malformed or invalid.");
        return 0;
    }
    call->json = json_object_new_object();
    apr_pool_cleanup_register(call->r->pool, call->json, form_free, apr_pool_cleanup_null);
    apr_table_do(add_field, call->json, call->form, NULL);
    call->scope = apr_table_get(call->form, "scope");
    return 1;
}

static int fields_present(msim_call_t *call, msim_refusal_t *refusal)
{
    static const char *const names[] = {"grant_type", "client_id", "scope", NULL};

    for (const char *const *name = names; *name != NULL; name++) {
        if (apr_table_get(call->form, *name) == NULL) {
            const char *sentence =
                apr_psprintf(call->r->pool, "The request body must contain the following parameter: '%s'.", *name);

            refuse(refusal, HTTP_BAD_REQUEST, "invalid_request", 900144, sentence);
            return 0;
        }
    }
    return 1;
}

static int secret_is_known(const msim_tenant_t *tenant, const char *secret)
{
    apr_size_t length = strlen(secret);

    for (const char *at = tenant->secrets; at != NULL && *at != '\0'; at = strchr(at, '\n') + 1) {
        if (strcspn(at, "\n") == length && memcmp(at, secret, length) == 0) {
            return 1;
        }
    }
    return 0;
}

/** Several secrets and certificates may be good at once, but a request shows one of them. */
static void credential_look(msim_call_t *call, const msim_tenant_t *tenant, msim_refusal_t *refusal)
{
    const char *secret = apr_table_get(call->form, "client_secret");
    const char *assertion = apr_table_get(call->form, "client_assertion");
    const char *type = apr_table_get(call->form, "client_assertion_type");
    const char *sentence;
    int aadsts = 0;

    if (secret == NULL && assertion == NULL) {
        refuse(refusal, HTTP_UNAUTHORIZED, "invalid_client", 7000218,
               "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.");
    } else if (secret != NULL && assertion != NULL) {
        refuse(refusal, HTTP_BAD_REQUEST, "invalid_request", 9002313, "Invalid request. There are two credentials.");
    } else if (secret != NULL) {
        if (!secret_is_known(tenant, secret)) {
            refuse(refusal, HTTP_UNAUTHORIZED, "invalid_client", 7000215, "Invalid client secret provided.");
        }
    } else if (type == NULL || strcmp(type, "urn:ietf:params:oauth:client-assertion-type:jwt-bearer") != 0) {
        refuse(refusal, HTTP_BAD_REQUEST, "invalid_request", 900144,
               "The request body must contain the following parameter: 'client_assertion_type'.");
    } else if ((sentence = msim_assertion_judge(call, tenant, assertion, &aadsts)) != NULL) {
        refuse(refusal, HTTP_UNAUTHORIZED, "invalid_client", aadsts, sentence);
    }
}

void msim_token_look(msim_call_t *call, msim_refusal_t *refusal)
{
    const char *tenant = apr_pstrndup(call->r->pool, call->path + 1, strcspn(call->path + 1, "/"));
    const msim_tenant_t *known = msim_tenant_find(call->sim->tenants, tenant, call->r->pool);

    call->tenant = tenant;
    if (!form_read(call, refusal) || !fields_present(call, refusal)) {
        return;
    }
    call->audience = scope_audience(call->scope, call->r->pool);
    if (strcmp(apr_table_get(call->form, "grant_type"), "client_credentials") != 0) {
        refuse(refusal, HTTP_BAD_REQUEST, "unsupported_grant_type", 70003,
               "The app requested an unsupported grant type.");
    } else if (known == NULL) {
        refuse(refusal, HTTP_BAD_REQUEST, "invalid_request", 90002,
               apr_psprintf(call->r->pool, "Tenant '%s' not found.", tenant));
    } else if (strcasecmp(apr_table_get(call->form, "client_id"), known->app_id) != 0) {
        refuse(refusal, HTTP_BAD_REQUEST, "unauthorized_client", 700016, "Application was not found in the directory.");
    } else {
        credential_look(call, known, refusal);
    }
    if (refusal->status != 0) {
        return;
    }
    if (strlen(call->scope) < sizeof SCOPE_SUFFIX ||
        strcmp(call->scope + strlen(call->scope) - sizeof SCOPE_SUFFIX + 1, SCOPE_SUFFIX) != 0) {
        refuse(refusal, HTTP_BAD_REQUEST, "invalid_scope", 1002012, "The provided value for scope is not valid.");
    } else if (call->audience == 0) {
        refuse(refusal, HTTP_BAD_REQUEST, "invalid_resource", 500011,
               "The resource principal was not found in the tenant.");
    }
}

int msim_token_refuse(msim_call_t *call, const msim_refusal_t *refusal)
{
    apr_pool_t *pool = call->r->pool;
    json_object *answer = json_object_new_object();
    json_object *codes = json_object_new_array();
    const char *trace = msim_uuid(pool), *correlation = msim_uuid(pool);
    char now[APR_RFC822_DATE_LEN + 16];
    apr_size_t length;
    apr_time_exp_t time;

    apr_time_exp_gmt(&time, apr_time_now());
    apr_strftime(now, &length, sizeof now, "%Y-%m-%d %H:%M:%SZ", &time);
    call->code = apr_psprintf(pool, "AADSTS%d", refusal->aadsts);
    call->error = refusal->sentence;
    json_object_array_add(codes, json_object_new_int(refusal->aadsts));
    json_object_object_add(answer, "error", json_object_new_string(refusal->reason));
    json_object_object_add(
        answer, "error_description",
        json_object_new_string(apr_psprintf(pool, "%s: %s Trace ID: %s Correlation ID: %s Timestamp: %s", call->code,
                                            refusal->sentence, trace, correlation, now)));
    json_object_object_add(answer, "error_codes", codes);
    json_object_object_add(answer, "timestamp", json_object_new_string(now));
    json_object_object_add(answer, "trace_id", json_object_new_string(trace));
    json_object_object_add(answer, "correlation_id", json_object_new_string(correlation));
    json_object_object_add(
        answer, "error_uri",
        json_object_new_string(apr_psprintf(pool, "https://login.microsoftonline.com/error?code=%d", refusal->aadsts)));
    return msim_reply_json(call, refusal->status, answer);
}

int msim_token_answer(msim_call_t *call)
{
    const msim_tenant_t *tenant = msim_tenant_find(call->sim->tenants, call->tenant, call->r->pool);
    const char *token = msim_token_issue(call->sim->tenants, tenant, call->audience, call->scope, call->r->pool);
    json_object *answer = json_object_new_object();

    json_object_object_add(answer, "token_type", json_object_new_string("Bearer"));
    json_object_object_add(answer, "expires_in", json_object_new_int(tenant->expires_in));
    json_object_object_add(answer, "ext_expires_in", json_object_new_int(tenant->expires_in));
    json_object_object_add(answer, "access_token", json_object_new_string(token));
    apr_table_setn(call->r->headers_out, "Cache-Control", "no-store, no-cache");
    apr_table_setn(call->r->headers_out, "Pragma", "no-cache");
    return msim_reply_json(call, HTTP_OK, answer);
}

void msim_bearer_look(msim_call_t *call, unsigned audience, msim_refusal_t *refusal)
{
    const char *header = apr_table_get(call->r->headers_in, "Authorization");
    const char *wrong = "there is no bearer token";

    if (header != NULL && strncmp(header, "Bearer ", 7) == 0) {
        wrong = msim_token_check(call->sim->tenants, header + 7, audience, &call->tenant, &call->scope, call->r->pool);
    }
    if (wrong != NULL) {
        refuse(refusal, HTTP_UNAUTHORIZED, "InvalidAuthenticationToken", 0, wrong);
    }
}

void msim_endpoints_look(msim_call_t *call, msim_refusal_t *refusal)
{
    const char *id = strchr(call->path, '=') + 1;

    msim_bearer_look(call, MSIM_GRAPH, refusal);
    if (refusal->status != 0) {
        return;
    }
    if (strcmp(call->r->method, "GET") != 0) {
        refuse(refusal, HTTP_METHOD_NOT_ALLOWED, "Request_BadRequest", 0, "the list of endpoints is for GET");
    } else if (strncmp(id, MSIM_INTUNE_APP_ID "/", sizeof MSIM_INTUNE_APP_ID) != 0) {
        refuse(refusal, HTTP_NOT_FOUND, "Request_ResourceNotFound", 0, "no service principal has this appId");
    }
}

static void list_add(msim_call_t *call, json_object *list, const char *name, const char *path)
{
    json_object *endpoint = json_object_new_object();

    json_object_object_add(endpoint, "id", json_object_new_string(msim_uuid(call->r->pool)));
    json_object_object_add(endpoint, "deletedDateTime", NULL);
    json_object_object_add(endpoint, "capability", json_object_new_string(name));
    json_object_object_add(endpoint, "providerId", json_object_new_string(MSIM_INTUNE_APP_ID));
    json_object_object_add(endpoint, "providerName", json_object_new_string(name));
    json_object_object_add(endpoint, "providerResourceId", json_object_new_string(name));
    json_object_object_add(endpoint, "uri", json_object_new_string(ap_construct_url(call->r->pool, path, call->r)));
    json_object_array_add(list, endpoint);
}

int msim_endpoints_list(msim_call_t *call, int with_scep)
{
    unsigned generation = apr_atomic_read32(&call->sim->generation);
    json_object *answer = json_object_new_object(), *list = json_object_new_array();

    list_add(call, list, "PkiConnectorFEService", apr_psprintf(call->r->pool, "/pki-service/%u", generation));
    list_add(call, list, "NACAPIService", "/nac-service");
    if (with_scep) {
        list_add(call, list, "ScepRequestValidationFEService",
                 apr_psprintf(call->r->pool, "/scep-service/%u", generation));
    }
    list_add(call, list, "DeviceEnrollmentService", "/enrollment-service");
    json_object_object_add(
        answer, "@odata.context",
        json_object_new_string("https://graph.microsoft.com/v1.0/$metadata#servicePrincipals('simulated')/endpoints"));
    json_object_object_add(answer, "value", list);
    return msim_reply_json(call, HTTP_OK, answer);
}

int msim_endpoints_answer(msim_call_t *call)
{
    return msim_endpoints_list(call, 1);
}
