/* SPDX-License-Identifier: Apache-2.0 */
/* What tests ask of the stand-in itself: everything below /sim/. */
#include <limits.h>
#include <string.h>

#include <http_core.h>
#include <http_protocol.h>
#include <apr_atomic.h>
#include <apr_strings.h>

#include "sim_ms.h"

#define TEN_YEARS (10 * 365 * 86400)

static int refuse(msim_call_t *call, const char *sentence)
{
    json_object *answer = json_object_new_object();

    json_object_object_add(answer, "error", json_object_new_string(sentence));
    return msim_reply_json(call, HTTP_BAD_REQUEST, answer);
}

static int done(msim_call_t *call, json_object *answer)
{
    json_object_object_add(answer, "ok", json_object_new_boolean(1));
    return msim_reply_json(call, HTTP_OK, answer);
}

static const char *integer_read(json_object *body, const char *name, int low, int high, int *value, apr_pool_t *pool)
{
    json_object *member = NULL;

    if (!json_object_object_get_ex(body, name, &member) || member == NULL) {
        return NULL;
    }
    if (!json_object_is_type(member, json_type_int) || json_object_get_int64(member) < low ||
        json_object_get_int64(member) > high) {
        return apr_psprintf(pool, "'%s' must be a number from %d to %d", name, low, high);
    }
    *value = json_object_get_int(member);
    return NULL;
}

static const char *flag_read(json_object *body, const char *name, int *value, apr_pool_t *pool)
{
    json_object *member = NULL;

    if (!json_object_object_get_ex(body, name, &member)) {
        return NULL;
    }
    *value = json_object_get_boolean(member);
    return json_object_is_type(member, json_type_boolean) ? NULL
                                                          : apr_psprintf(pool, "'%s' must be true or false", name);
}

static const char *none_or(const char *text)
{
    return *text == '\0' ? MSIM_NONE : text;
}

/** One text or a list of them, each ended by a line feed; an empty list takes all away. */
static const char *texts_read(json_object *body, const char *name, const char **texts, apr_pool_t *pool)
{
    json_object *member = NULL;
    int is_list = json_object_object_get_ex(body, name, &member) && json_object_is_type(member, json_type_array);
    size_t count = is_list ? json_object_array_length(member) : 1;
    const char *all = "";

    if (member == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < count; i++) {
        json_object *one = is_list ? json_object_array_get_idx(member, i) : member;

        if (!json_object_is_type(one, json_type_string) || json_object_get_string_len(one) == 0) {
            return apr_psprintf(pool, "'%s' must be a text or a list of texts", name);
        }
        all = apr_pstrcat(pool, all, json_object_get_string(one), "\n", NULL);
    }
    *texts = none_or(all);
    return NULL;
}

static const char *certificates_read(msim_call_t *call, const char **pem)
{
    const char *wrong = texts_read(call->json, "certificate", pem, call->r->pool);

    if (wrong == NULL && *pem != NULL && *pem != MSIM_NONE && msim_certificates_count(call->sim->keys, *pem) == 0) {
        return "'certificate' must be certificates in PEM";
    }
    return wrong;
}

/** A text, true for any, false for none. */
static const char *federated_read(json_object *body, const char **federated)
{
    json_object *member = NULL;

    if (!json_object_object_get_ex(body, "federated", &member) || member == NULL) {
        return NULL;
    }
    if (json_object_is_type(member, json_type_boolean)) {
        *federated = json_object_get_boolean(member) ? "" : MSIM_NONE;
        return NULL;
    }
    *federated = msim_json_text(body, "federated");
    return *federated == NULL || **federated == '\0' ? "'federated' must be a text, true or false" : NULL;
}

static int control_tenant(msim_call_t *call)
{
    static const char *const names[] = {"tenant", "app_id", "secret", "certificate", "federated", "expires_in", NULL};
    apr_pool_t *pool = call->r->pool;
    const char *wrong = msim_json_only(call->json, names, pool);
    msim_tenant_t tenant = {0};

    if (wrong == NULL) {
        tenant.tenant = msim_json_text(call->json, "tenant");
        tenant.app_id = msim_json_text(call->json, "app_id");
        wrong = tenant.tenant == NULL || *tenant.tenant == '\0' || strchr(tenant.tenant, '/') != NULL
                    ? "'tenant' must be a string without slashes"
                    : integer_read(call->json, "expires_in", 1, TEN_YEARS, &tenant.expires_in, pool);
    }
    wrong = wrong != NULL ? wrong : texts_read(call->json, "secret", &tenant.secrets, pool);
    wrong = wrong != NULL ? wrong : certificates_read(call, &tenant.certificates);
    wrong = wrong != NULL ? wrong : federated_read(call->json, &tenant.federated);
    wrong = wrong != NULL ? wrong : msim_tenant_set(call->sim->tenants, &tenant);
    return wrong != NULL ? refuse(call, wrong) : done(call, json_object_new_object());
}

static int control_token(msim_call_t *call)
{
    static const char *const names[] = {"tenant", "action", NULL};
    const char *wrong = msim_json_exactly(call->json, names, call->r->pool);
    const char *tenant, *action;
    json_object *answer;

    if (wrong != NULL) {
        return refuse(call, wrong);
    }
    tenant = msim_json_text(call->json, "tenant");
    action = msim_json_text(call->json, "action");
    if (action == NULL || strcmp(action, "revoke") != 0) {
        return refuse(call, "'action' must be revoke");
    }
    if (tenant == NULL || msim_tenant_find(call->sim->tenants, tenant, call->r->pool) == NULL) {
        return refuse(call, "the tenant is unknown");
    }
    answer = json_object_new_object();
    json_object_object_add(answer, "revoked", json_object_new_int(msim_token_revoke(call->sim->tenants, tenant)));
    return done(call, answer);
}

static int is_san(const char *text)
{
    return strncmp(text, "dns:", 4) == 0 || strncmp(text, "email:", 6) == 0 || strncmp(text, "upn:", 4) == 0 ||
           strncmp(text, "uri:", 4) == 0;
}

/** A list of strings goes over into the challenge under its name there. */
static const char *list_expect(json_object *body, const char *name, json_object *content, const char *member,
                               int (*good)(const char *), apr_pool_t *pool)
{
    json_object *list = NULL;

    if (!json_object_object_get_ex(body, name, &list) || list == NULL) {
        return NULL;
    }
    if (!json_object_is_type(list, json_type_array)) {
        return apr_psprintf(pool, "'%s' must be a list", name);
    }
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        json_object *text = json_object_array_get_idx(list, i);

        if (!json_object_is_type(text, json_type_string) || !good(json_object_get_string(text))) {
            return apr_psprintf(pool, "'%s' has an entry that is not one", name);
        }
    }
    json_object_object_add(content, member, json_object_get(list));
    return NULL;
}

static const char *subject_expect(json_object *body, json_object *content, apr_pool_t *pool)
{
    const char *subject = msim_json_text(body, "subject");
    const char *normal = subject == NULL ? NULL : msim_subject_normal(subject, pool);
    json_object *member = NULL;

    if (!json_object_object_get_ex(body, "subject", &member) || member == NULL) {
        return NULL;
    }
    if (normal == NULL) {
        return "'subject' must look like /CN=x/O=y";
    }
    json_object_object_add(content, "Subject", json_object_new_string(normal));
    return NULL;
}

static const char *break_read(json_object *body, msim_break_e *how)
{
    static const char *const names[] = {
        [MSIM_BREAK_BASE64] = "base64",         [MSIM_BREAK_CMS] = "cms",   [MSIM_BREAK_SIGNATURE] = "signature",
        [MSIM_BREAK_ENCRYPTION] = "encryption", [MSIM_BREAK_JSON] = "json", [MSIM_BREAK_TIME] = "time"};
    const char *text = msim_json_text(body, "break");
    json_object *member = NULL;

    if (!json_object_object_get_ex(body, "break", &member) || member == NULL) {
        return NULL;
    }
    for (unsigned i = MSIM_BREAK_BASE64; text != NULL && i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(text, names[i]) == 0) {
            *how = (msim_break_e)i;
            return NULL;
        }
    }
    return "'break' must be base64, cms, signature, encryption, json or time";
}

static void identity_add(json_object *content, const char *tenant, apr_pool_t *pool)
{
    static const char *const names[] = {"ChallengeId", "CertificateRequestId", "DeviceId", "UserId",
                                        "AadDeviceId", "ScepPolicyId",         NULL};

    json_object_object_add(content, "TenantId", json_object_new_string(tenant));
    for (const char *const *name = names; *name != NULL; name++) {
        json_object_object_add(content, *name, json_object_new_string(msim_uuid(pool)));
    }
}

static const char *content_fill(msim_call_t *call, json_object *content, msim_break_e *how)
{
    apr_pool_t *pool = call->r->pool;
    json_object *body = call->json;
    int expires_in = 3600, key_bits = 0, targeted = 1;
    apr_time_t now = apr_time_now();
    const char *wrong = break_read(body, how);

    wrong = wrong != NULL ? wrong : subject_expect(body, content, pool);
    wrong = wrong != NULL ? wrong : list_expect(body, "san", content, "SubjectAlternativeNames", is_san, pool);
    wrong = wrong != NULL ? wrong : list_expect(body, "key_usage", content, "KeyUsage", msim_is_key_usage, pool);
    wrong = wrong != NULL ? wrong : list_expect(body, "eku", content, "EnhancedKeyUsages", msim_is_oid, pool);
    wrong = wrong != NULL ? wrong : integer_read(body, "key_bits", 1, 65536, &key_bits, pool);
    wrong = wrong != NULL ? wrong : integer_read(body, "expires_in", -TEN_YEARS, TEN_YEARS, &expires_in, pool);
    wrong = wrong != NULL ? wrong : flag_read(body, "targeted", &targeted, pool);
    if (key_bits != 0) {
        json_object_object_add(content, "KeyLength", json_object_new_int(key_bits));
    }
    json_object_object_add(content, "Targeted", json_object_new_boolean(targeted));
    json_object_object_add(content, "Expires", json_object_new_int64(now + apr_time_from_sec((apr_time_t)expires_in)));
    json_object_object_add(content, "Issued",
                           *how == MSIM_BREAK_TIME ? json_object_new_string("yesterday") : json_object_new_int64(now));
    return wrong;
}

static int control_challenge(msim_call_t *call)
{
    static const char *const names[] = {"tenant",   "subject",    "san",      "key_usage", "eku",
                                        "key_bits", "expires_in", "targeted", "break",     NULL};
    const char *wrong = msim_json_only(call->json, names, call->r->pool), *text;
    const msim_tenant_t *tenant = NULL;
    json_object *content, *answer;
    msim_break_e how = MSIM_WHOLE;

    if (wrong != NULL) {
        return refuse(call, wrong);
    }
    text = msim_json_text(call->json, "tenant");
    tenant = text == NULL ? NULL : msim_tenant_find(call->sim->tenants, text, call->r->pool);
    if (tenant == NULL) {
        return refuse(call, "the tenant is missing or unknown");
    }
    content = json_object_new_object();
    identity_add(content, tenant->tenant, call->r->pool);
    wrong = content_fill(call, content, &how);
    text = msim_json_print(content, call->r->pool);
    json_object_put(content);
    if (wrong != NULL) {
        return refuse(call, wrong);
    }
    text = msim_challenge_make(call->sim->keys, text, how, call->r->pool);
    if (text == NULL) {
        return refuse(call, "OpenSSL could not make the challenge");
    }
    answer = json_object_new_object();
    json_object_object_add(answer, "challenge", json_object_new_string(text));
    return msim_reply_json(call, HTTP_OK, answer);
}

static int control_fail(msim_call_t *call)
{
    const char *wrong = msim_fault_add(call->sim->faults, call->json, call->r->pool);

    return wrong != NULL ? refuse(call, wrong) : done(call, json_object_new_object());
}

static int control_move(msim_call_t *call)
{
    unsigned generation = apr_atomic_inc32(&call->sim->generation) + 1;
    const char *path = apr_psprintf(call->r->pool, "/scep-service/%u", generation);
    json_object *answer = json_object_new_object();

    json_object_object_add(answer, "generation", json_object_new_int64(generation));
    json_object_object_add(answer, "uri", json_object_new_string(ap_construct_url(call->r->pool, path, call->r)));
    return done(call, answer);
}

static int control_reset(msim_call_t *call)
{
    static const char *const names[] = {"bodies", NULL};
    int bodies = 1;
    const char *wrong = NULL;

    if (call->body_length > 0) {
        wrong = msim_json_only(call->json, names, call->r->pool);
        wrong = wrong != NULL ? wrong : flag_read(call->json, "bodies", &bodies, call->r->pool);
    }
    if (wrong != NULL) {
        return refuse(call, wrong);
    }
    msim_faults_reset(call->sim->faults);
    msim_record_reset(call->sim->record, bodies);
    return done(call, json_object_new_object());
}

static int control_health(msim_call_t *call)
{
    return done(call, json_object_new_object());
}

static const struct {
    const char *path;
    const char *method;
    int (*handle)(msim_call_t *call);
} controls[] = {
    {"/sim/tenant", "POST", control_tenant}, {"/sim/token", "POST", control_token},
    {"/sim/fail", "POST", control_fail},     {"/sim/challenge", "POST", control_challenge},
    {"/sim/move", "POST", control_move},     {"/sim/reset", "POST", control_reset},
    {"/sim/health", "GET", control_health},  {"/sim/record", "GET", msim_record_send},
};

int msim_control(msim_call_t *call)
{
    for (apr_size_t i = 0; i < sizeof controls / sizeof controls[0]; i++) {
        if (strcmp(call->path, controls[i].path) != 0) {
            continue;
        }
        if (strcmp(call->r->method, controls[i].method) != 0) {
            return refuse(call, apr_psprintf(call->r->pool, "%s is for %s", call->path, controls[i].method));
        }
        call->json = msim_json_parse(call->body, call->body_length, call->r->pool);
        return controls[i].handle(call);
    }
    return refuse(call, "there is no such thing below /sim/");
}
