/* SPDX-License-Identifier: Apache-2.0 */
/* Intune's SCEP service: the shape of a call, the verdict on a request, the notifications. */
#include <string.h>

#include <http_protocol.h>
#include <apr_lib.h>
#include <apr_strings.h>

#include "sim_ms.h"

static const char *check_text(msim_call_t *call, json_object *member)
{
    (void)call;
    return json_object_is_type(member, json_type_string) && json_object_get_string_len(member) > 0
               ? NULL
               : "must be a string that is not empty";
}

static const char *check_optional(msim_call_t *call, json_object *member)
{
    (void)call;
    return json_object_is_type(member, json_type_string) ? NULL : "must be a string";
}

static const char *check_csr(msim_call_t *call, json_object *member)
{
    if (check_text(call, member) != NULL ||
        msim_csr_parse(call->sim->keys, json_object_get_string(member), (apr_size_t)json_object_get_string_len(member),
                       call->r->pool) == NULL) {
        return "must be a DER PKCS #10 in base64, in one line";
    }
    return NULL;
}

static int is_upper_hex(const char *text)
{
    return *text != '\0' && strspn(text, "0123456789ABCDEF") == strlen(text);
}

static const char *check_thumbprint(msim_call_t *call, json_object *member)
{
    return check_text(call, member) == NULL && json_object_get_string_len(member) == 40 &&
                   is_upper_hex(json_object_get_string(member))
               ? NULL
               : "must be 40 upper-case hex digits";
}

static const char *check_serial(msim_call_t *call, json_object *member)
{
    return check_text(call, member) == NULL && is_upper_hex(json_object_get_string(member)) ? NULL
                                                                                            : "must be upper-case hex";
}

static const char *check_time(msim_call_t *call, json_object *member)
{
    static const char form[] = "dddd-dd-ddTdd:dd:dd.dddZ";
    const char *text = check_text(call, member) == NULL ? json_object_get_string(member) : "";
    int good = strlen(text) == sizeof form - 1;

    for (apr_size_t i = 0; good && i < sizeof form - 1; i++) {
        good = form[i] == 'd' ? apr_isdigit(text[i]) : text[i] == form[i];
    }
    good = good && strncmp(text + 5, "01", 2) >= 0 && strncmp(text + 5, "12", 2) <= 0 &&
           strncmp(text + 8, "01", 2) >= 0 && strncmp(text + 8, "31", 2) <= 0 && strncmp(text + 11, "23", 2) <= 0 &&
           strncmp(text + 14, "59", 2) <= 0 && strncmp(text + 17, "60", 2) <= 0;
    return good ? NULL : "must be a time like 2030-12-31T23:59:59.000Z";
}

static const char *check_hresult(msim_call_t *call, json_object *member)
{
    apr_int64_t value = json_object_get_int64(member);

    (void)call;
    return json_object_is_type(member, json_type_int) && value >= APR_INT32_MIN && value <= APR_INT32_MAX
               ? NULL
               : "must be an integer of signed 32 bits";
}

/** Counts as .NET does: UTF-16 units. The text is valid UTF-8 already. */
static const char *check_description(msim_call_t *call, json_object *member)
{
    const char *text = json_object_is_type(member, json_type_string) ? json_object_get_string(member) : NULL;
    int units = 0;

    (void)call;
    for (; text != NULL && *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text;

        units += c >= 0xf0 ? 2 : (c & 0xc0) != 0x80;
    }
    return text != NULL && units <= 255 ? NULL : "must be a string of at most 255 characters";
}

typedef struct field_t {
    const char *name;
    const char *(*check)(msim_call_t *call, json_object *member);
} field_t;

/* Whether a request's CSR can be read is part of the verdict, and not of its shape. */
static const field_t request_fields[] = {
    {"transactionId", check_text}, {"certificateRequest", check_text}, {"callerInfo", check_text}, {NULL, NULL}};

static const field_t success_fields[] = {{"transactionId", check_text},
                                         {"certificateRequest", check_csr},
                                         {"certificateThumbprint", check_thumbprint},
                                         {"certificateSerialNumber", check_serial},
                                         {"certificateExpirationDateUtc", check_time},
                                         {"issuingCertificateAuthority", check_text},
                                         {"callerInfo", check_text},
                                         {"caConfiguration", check_optional},
                                         {"certificateAuthority", check_optional},
                                         {NULL, NULL}};

static const field_t failure_fields[] = {{"transactionId", check_text}, {"certificateRequest", check_csr},
                                         {"hResult", check_hresult},    {"errorDescription", check_description},
                                         {"callerInfo", check_text},    {NULL, NULL}};

static const char *fields_wrong(msim_call_t *call, json_object *object, const field_t *fields)
{
    const char *names[16] = {NULL};
    const char *wrong;

    for (int i = 0; fields[i].name != NULL; i++) {
        names[i] = fields[i].name;
    }
    wrong = msim_json_exactly(object, names, call->r->pool);
    for (; wrong == NULL && fields->name != NULL; fields++) {
        const char *problem = fields->check(call, json_object_object_get(object, fields->name));

        if (problem != NULL) {
            wrong = apr_psprintf(call->r->pool, "%s %s", fields->name, problem);
        }
    }
    return wrong;
}

static const char *body_wrong(msim_call_t *call)
{
    const char *outer[] = {call->service == MSIM_VALIDATE ? "request" : "notification", NULL};
    const field_t *fields = call->service == MSIM_VALIDATE  ? request_fields
                            : call->service == MSIM_SUCCESS ? success_fields
                                                            : failure_fields;
    const char *wrong;

    if (!json_object_is_type(call->json, json_type_object)) {
        return "the body is not a JSON object";
    }
    wrong = msim_json_exactly(call->json, outer, call->r->pool);
    return wrong != NULL ? wrong : fields_wrong(call, json_object_object_get(call->json, outer[0]), fields);
}

static const char *headers_wrong(const msim_call_t *call)
{
    const apr_table_t *in = call->r->headers_in;
    const char *version = apr_table_get(in, "api-version"), *agent = apr_table_get(in, "User-Agent");

    if (version == NULL || strcmp(version, MSIM_API_VERSION) != 0) {
        return "the header api-version must be " MSIM_API_VERSION;
    }
    if (!msim_is_type(apr_table_get(in, "Content-Type"), "application/json")) {
        return "the header Content-Type must be application/json";
    }
    if (agent == NULL || *agent == '\0') {
        return "the header User-Agent is missing";
    }
    return msim_is_uuid(apr_table_get(in, "client-request-id")) ? NULL : "the header client-request-id must be a UUID";
}

void msim_action_look(msim_call_t *call, msim_refusal_t *refusal)
{
    const char *wrong = NULL;

    call->json = msim_json_parse(call->body, call->body_length, call->r->pool);
    msim_bearer_look(call, MSIM_INTUNE, refusal);
    if (call->gone) {
        *refusal = (msim_refusal_t){HTTP_NOT_FOUND, 0, "NotFound", "the service has moved"};
    }
    if (refusal->status != 0) {
        return;
    }
    if (strcmp(call->r->method, "POST") != 0) {
        *refusal = (msim_refusal_t){HTTP_METHOD_NOT_ALLOWED, 0, "MethodNotAllowed", "the actions are for POST"};
        return;
    }
    wrong = headers_wrong(call);
    wrong = wrong != NULL ? wrong : body_wrong(call);
    if (wrong != NULL) {
        *refusal = (msim_refusal_t){HTTP_BAD_REQUEST, 0, "BadRequest", wrong};
    }
}

int msim_code_answer(msim_call_t *call, const char *code, const char *description)
{
    json_object *answer = json_object_new_object();

    call->code = code;
    json_object_object_add(
        answer, "@odata.context",
        json_object_new_string("https://manage.microsoft.com/ScepRequestValidationFEService/$metadata"));
    json_object_object_add(answer, "code", json_object_new_string(code));
    json_object_object_add(answer, "errorDescription", json_object_new_string(description));
    return msim_reply_json(call, HTTP_OK, answer);
}

/** Tenant, times and targeting; what the CSR must be like comes after. */
static const char *challenge_judge(msim_call_t *call, json_object *challenge)
{
    const char *tenant = msim_json_text(challenge, "TenantId");
    json_object *issued = NULL, *expires = NULL, *targeted = NULL;
    apr_time_t now = apr_time_now();

    if (tenant == NULL || strcasecmp(tenant, call->tenant) != 0) {
        call->error = "the challenge is another tenant's";
        return "SignatureValidationFailed";
    }
    if (!json_object_object_get_ex(challenge, "Issued", &issued) ||
        !json_object_object_get_ex(challenge, "Expires", &expires) || !json_object_is_type(issued, json_type_int) ||
        json_object_get_int64(issued) > now) {
        return "ChallengeInvalidTimestamp";
    }
    if (json_object_get_int64(expires) <= now) {
        return "ChallengeExpired";
    }
    if (json_object_object_get_ex(challenge, "Targeted", &targeted) && !json_object_get_boolean(targeted)) {
        return "ScepProfileNoLongerTargetedToTheClient";
    }
    return NULL;
}

static const char *request_judge(msim_call_t *call)
{
    json_object *request = json_object_object_get(call->json, "request");
    json_object *base64 = json_object_object_get(request, "certificateRequest");
    X509_REQ *csr = msim_csr_parse(call->sim->keys, json_object_get_string(base64),
                                   (apr_size_t)json_object_get_string_len(base64), call->r->pool);
    const char *text, *code = NULL;
    json_object *challenge = NULL;
    apr_size_t length = 0;

    if (csr == NULL) {
        return "CertificateRequestDecodingFailed";
    }
    text = msim_csr_challenge(csr, &length, &code, call->r->pool);
    if (text == NULL) {
        return code;
    }
    code = msim_challenge_open(call->sim->keys, text, length, &challenge, call->r->pool);
    code = code != NULL ? code : challenge_judge(call, challenge);
    return code != NULL ? code : msim_csr_compare(csr, challenge, &call->error, call->r->pool);
}

int msim_validate_answer(msim_call_t *call)
{
    const char *code = request_judge(call);

    if (code == NULL) {
        return msim_code_answer(call, "Success", "");
    }
    return msim_code_answer(call, code, call->error == NULL ? "The certificate request was refused." : call->error);
}

int msim_notification_answer(msim_call_t *call)
{
    return msim_code_answer(call, "Success", "");
}
