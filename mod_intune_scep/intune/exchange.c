/* SPDX-License-Identifier: Apache-2.0 */
/* One HTTP exchange with Microsoft, and how its JSON is read and written. */
#include "intune/intune_internal.h"
#include "intune/retry.h"

#include "base/clock.h"
#include "base/text.h"

#include <apr_lib.h>
#include <apr_strings.h>

#include <json-c/json.h>
#include <strings.h>

/* A word that is longer than a uuid and some is no word, but a thumbprint may be of SHA-256. A challenge or a token is longer
 * than any URL. */
enum { CODE_MAX = 64, JSON_DEPTH_MAX = 16, AADSTS_DIGITS_MAX = 12, WORD_MAX = 48, THUMBPRINT_MAX = 64, URL_MAX = 250 };

static bool blank_from(bytes_t body, apr_size_t at)
{
    for (; at < body.len; at++) {
        unsigned char c = body.data[at];
        if (c != ' ' && c != '\t' && c != '\r' && c != '\n') {
            return false;
        }
    }
    return true;
}

/** Without the byte order mark that .NET may write, which json-c does not know (RFC 8259 section 8.1). */
static bytes_t mark_skip(bytes_t body)
{
    static const char mark[] = "\xef\xbb\xbf";
    apr_size_t len = sizeof(mark) - 1;
    if (body.len >= len && memcmp(body.data, mark, len) == 0) {
        body.data += len;
        body.len -= len;
    }
    return body;
}

struct json_object *json_read(bytes_t body)
{
    struct json_object *object = NULL;
    struct json_tokener *reader = NULL;

    body = mark_skip(body);
    if (body.len == 0 || body.len > APR_INT32_MAX) {
        return NULL;
    }
    reader = json_tokener_new_ex(JSON_DEPTH_MAX);
    if (reader == NULL) {
        return NULL;
    }
    json_tokener_set_flags(reader, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
    object = json_tokener_parse_ex(reader, (const char *)body.data, (int)body.len);
    if (json_tokener_get_error(reader) != json_tokener_success || !json_object_is_type(object, json_type_object) ||
        !blank_from(body, json_tokener_get_parse_end(reader)) || !json_names_are_unique(body, object)) {
        json_object_put(object);
        object = NULL;
    }
    json_tokener_free(reader);
    return object;
}

bool json_text(struct json_object *object, const char *name, bytes_t *text)
{
    struct json_object *member = NULL;
    if (object == NULL || !json_object_object_get_ex(object, name, &member) ||
        !json_object_is_type(member, json_type_string)) {
        return false;
    }
    text->data = (const unsigned char *)json_object_get_string(member);
    text->len = (apr_size_t)json_object_get_string_len(member);
    return text->data != NULL;
}

void json_add_base64(struct json_object *object, const char *name, bytes_t bytes, apr_pool_t *pool)
{
    const char *base64 = text_base64(pool, bytes);
    char *quoted = apr_pstrcat(pool, "\"", base64, "\"", NULL);
    struct json_object *member = json_object_new_string("");

    secret_guard(pool, base64, strlen(base64));
    secret_guard(pool, quoted, strlen(quoted));
    if (member != NULL) {
        json_object_set_serializer(member, json_object_userdata_to_json_string, quoted, NULL);
    }
    json_object_object_add(object, name, member);
}

const char *json_print(struct json_object *object, apr_pool_t *pool, apr_size_t *len)
{
    const char *copy = NULL;
    const char *text = json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
    if (text != NULL) {
        *len = strlen(text);
        copy = apr_pstrmemdup(pool, text, *len);
        secret_guard(pool, copy, *len);
        secret_wipe(text, *len);
    }
    json_object_put(object);
    return copy;
}

static apr_status_t json_release(void *object)
{
    json_object_put(object);
    return APR_SUCCESS;
}

/** "AADSTS7000215" at the start of Entra's error_description. */
static const char *aadsts_of(bytes_t text, apr_pool_t *pool)
{
    static const char prefix[] = "AADSTS";
    apr_size_t start = sizeof(prefix) - 1;
    apr_size_t end = start;
    if (text.len <= start || memcmp(text.data, prefix, start) != 0) {
        return NULL;
    }
    while (end < text.len && end - start < AADSTS_DIGITS_MAX && apr_isdigit(text.data[end])) {
        end++;
    }
    return end > start ? apr_pstrmemdup(pool, (const char *)text.data, end) : NULL;
}

/** base64 of both kinds, also as a URL or JSON within JSON has it, and what holds a token's or a key's parts together. */
static bool is_of_word(unsigned char c)
{
    return apr_isalnum(c) || (c != '\0' && strchr("+/=-_.~%\\", c) != NULL);
}

/** The length of a word that begins there and is too long to be one; 0 otherwise. */
static apr_size_t blob_there(bytes_t text, apr_size_t at)
{
    bool in_url = at > 0 && text.data[at - 1] == ':' && text.data[at] == '/';
    bool is_hex = true;
    apr_size_t end = at;
    if (at > 0 && is_of_word(text.data[at - 1])) {
        return 0;
    }
    for (; end < text.len && is_of_word(text.data[end]); end++) {
        is_hex = is_hex && apr_isxdigit(text.data[end]);
    }
    apr_size_t most = in_url ? URL_MAX : is_hex ? THUMBPRINT_MAX : WORD_MAX;
    return end - at > most ? end - at : 0;
}

/** How many bytes of the text stand for this character there, as forms and URLs have it; 0: it is another one. */
static apr_size_t character_there(bytes_t text, apr_size_t at, unsigned char c)
{
    static const char digits[] = "0123456789abcdef";
    if (at + 2 < text.len && text.data[at] == '%' && apr_tolower(text.data[at + 1]) == digits[c >> 4] &&
        apr_tolower(text.data[at + 2]) == digits[c & 15]) {
        return 3;
    }
    return at < text.len && (text.data[at] == c || (text.data[at] == '+' && c == ' '));
}

/** How much of the text at that place is this secret, as it is or as forms have it: all of it or nothing. */
static apr_size_t secret_there(bytes_t text, apr_size_t at, const char *secret)
{
    apr_size_t len = secret != NULL ? strlen(secret) : 0;
    apr_size_t end = at;
    if (len > 0 && len <= text.len - at && memcmp(text.data + at, secret, len) == 0) {
        return len;
    }
    for (apr_size_t i = 0; i < len; i++) {
        apr_size_t bytes = character_there(text, end, (unsigned char)secret[i]);
        if (bytes == 0) {
            return 0;
        }
        end += bytes;
    }
    return end - at;
}

const char *exchange_text(const exchange_t *exchange, bytes_t text, apr_size_t max, apr_pool_t *pool)
{
    /* a hidden piece may be of one character */
    char *shown = apr_palloc(pool, 3 * text.len + 1);
    const char *secret = exchange->secret != NULL ? secret_reveal(exchange->secret) : NULL;
    apr_size_t len = 0;
    apr_size_t at = 0;
    while (at < text.len) {
        apr_size_t hidden = blob_there(text, at);
        hidden = hidden > 0 ? hidden : secret_there(text, at, secret);
        hidden = hidden > 0 ? hidden : secret_there(text, at, exchange->bearer);
        if (hidden > 0) {
            memset(shown + len, '*', 3);
            len += 3;
            at += hidden;
        } else {
            shown[len++] = (char)text.data[at++];
        }
    }
    bytes_t rest = {text.data != NULL ? (const unsigned char *)shown : NULL, len};
    return text_escape_bytes(pool, rest, max);
}

/** Intune has `code`, Graph `error.code`, Entra `error` and `error_description`. */
static const char *code_of(const exchange_t *exchange, apr_pool_t *pool)
{
    struct json_object *json = exchange->json;
    struct json_object *error = NULL;
    const char *aadsts = NULL;
    bytes_t text = {NULL, 0};

    if (json_text(json, "code", &text)) {
        return exchange_text(exchange, text, CODE_MAX, pool);
    }
    if (json_text(json, "error_description", &text) && (aadsts = aadsts_of(text, pool)) != NULL) {
        return aadsts;
    }
    if (json_text(json, "error", &text)) {
        return exchange_text(exchange, text, CODE_MAX, pool);
    }
    if (json != NULL && json_object_object_get_ex(json, "error", &error) &&
        json_object_is_type(error, json_type_object) && json_text(error, "code", &text)) {
        return exchange_text(exchange, text, CODE_MAX, pool);
    }
    return NULL;
}

/** application/json, whatever its parameters: a page of something in between is no answer of Microsoft's. */
static bool type_is_json(const char *type)
{
    static const char wanted[] = "application/json";
    apr_size_t len = sizeof(wanted) - 1;
    return strncasecmp(type, wanted, len) == 0 && (type[len] == '\0' || type[len] == ';' || type[len] == ' ');
}

static void answer_read(exchange_t *exchange, apr_pool_t *pool)
{
    http_answer_t *answer = &exchange->answer;

    exchange->json = NULL;
    exchange->code = NULL;
    if (answer->failure != HTTP_OK) {
        const char *remedy = http_failure_remedy(answer->failure);
        exchange->outcome = http_failure_name(answer->failure);
        answer->failure_text = apr_pstrcat(pool, answer->failure_text, *remedy != '\0' ? "; " : "", remedy, NULL);
        return;
    }
    exchange->outcome = apr_psprintf(pool, "HTTP %d", answer->status);
    secret_guard(pool, answer->body.data, answer->body.len);
    exchange->json = type_is_json(answer->content_type) ? json_read(answer->body) : NULL;
    if (exchange->json != NULL) {
        apr_pool_cleanup_register(pool, exchange->json, json_release, apr_pool_cleanup_null);
        exchange->code = code_of(exchange, pool);
    }
}

static call_end_t end_of_answer(const exchange_t *exchange)
{
    int status = exchange->answer.status;
    bool is_intune = exchange->kind == CALL_VALIDATE || exchange->kind == CALL_REPORT;
    if (status / 100 == 2) {
        bool usable = exchange->json != NULL && (!is_intune || exchange->code != NULL);
        return !usable                                                ? CALL_GARBAGE
               : is_intune && strcmp(exchange->code, "Success") != 0 ? CALL_REFUSED
                                                                      : CALL_SUCCESS;
    }
    if (status == 401 || status == 403 || (status == 400 && exchange->kind == CALL_TOKEN)) {
        return CALL_DENIED;
    }
    if (status == 400 && is_intune) {
        return CALL_REFUSED;
    }
    return status == 429 ? CALL_THROTTLED : CALL_FAILED;
}

static call_end_t end_of(const exchange_t *exchange)
{
    switch (exchange->answer.failure) {
    case HTTP_OK:
        return end_of_answer(exchange);
    case HTTP_FAILED_TIMEOUT:
        return CALL_TIMEOUT;
    case HTTP_FAILED_DROPPED:
        return CALL_BROKEN;
    case HTTP_FAILED_TOO_LARGE:
        return CALL_GARBAGE;
    default:
        return CALL_UNREACHABLE;
    }
}

/** The errand's deadline. After the clock was set back it is far away: no call gets more than the whole budget. */
static apr_time_t deadline_of(const errand_t *errand)
{
    apr_time_t most = clock_now() + errand->intune->settings.timeout;
    return errand->deadline < most ? errand->deadline : most;
}

/**
 * At a place that Graph told, nobody may answer any more. A third of what is left of the budget is kept then, for asking
 * Graph again and the call to the new place.
 */
static apr_time_t connect_by(const exchange_t *exchange, apr_time_t deadline)
{
    apr_time_t now = clock_now();
    bool located = exchange->kind == CALL_VALIDATE || exchange->kind == CALL_REPORT;
    return located && deadline > now ? now + (deadline - now) / 3 * 2 : 0;
}

/** Tells whoever counts, but for a call that we ended ourselves. */
static void tell(const errand_t *errand, const exchange_t *exchange, apr_pool_t *pool)
{
    const http_answer_t *answer = &exchange->answer;
    const observer_t *observer = &errand->intune->observer;
    call_seen_t seen = {.kind = exchange->kind, .duration = answer->duration};
    if (observer->seen == NULL || answer->failure == HTTP_FAILED_STOPPED || answer->failure == HTTP_FAILED_INTERNAL) {
        return;
    }
    seen.end = end_of(exchange);
    seen.words = apr_pstrcat(pool, exchange->service, ": ", exchange->outcome, exchange->code != NULL ? ", code " : "",
                             exchange->code != NULL ? exchange->code : "",
                             answer->failure != HTTP_OK ? "; " : seen.end == CALL_GARBAGE ? ", not understood" : "",
                             answer->failure != HTTP_OK ? answer->failure_text : "", NULL);
    observer->seen(observer->baton, &seen);
}

void exchange_run(errand_t *errand, exchange_t *exchange, apr_pool_t *pool)
{
    const char *headers[6] = {NULL};
    int n = 0;
    const char *request_id = exchange->request_id ? exchange->request_id : text_uuid(pool);
    const char *authorization = NULL;
    http_request_t request = {0};

    if (exchange->bearer != NULL) {
        authorization = apr_pstrcat(pool, "Authorization: Bearer ", exchange->bearer, NULL);
        headers[n++] = authorization;
    }
    headers[n++] = apr_pstrcat(pool, "client-request-id: ", request_id, NULL);
    headers[n++] = "Accept: application/json";
    if (exchange->content_type != NULL) {
        headers[n++] = apr_pstrcat(pool, "Content-Type: ", exchange->content_type, NULL);
    }
    if (exchange->api_version != NULL) {
        headers[n++] = apr_pstrcat(pool, "api-version: ", exchange->api_version, NULL);
    }
    errand->call->request_id = apr_pstrdup(errand->call->pool, request_id);
    errand->result->request_id = apr_pstrdup(errand->result->pool, request_id);
    request.url = exchange->url;
    request.user_agent = errand->intune->settings.provider;
    request.headers = headers;
    request.body = exchange->body;
    request.body_length = exchange->body_length;
    request.deadline = deadline_of(errand);
    request.connect_by = connect_by(exchange, request.deadline);
    request.max_answer = exchange->max_answer;
    request.once = exchange->once;
    request.keep_headers = log_enabled(errand->call->log, LOG_LEVEL_TRACE);
    trace_request(errand->call->log, exchange, &request, pool);
    http_client_call(errand->intune->http, &request, &exchange->answer, pool);
    if (authorization != NULL) {
        secret_wipe(authorization, strlen(authorization));
    }
    errand->failure = exchange->answer.failure;
    answer_read(exchange, pool);
    trace_answer(errand->call->log, exchange, pool);
    retry_note(errand, exchange);
    tell(errand, exchange, pool);
    log_write(errand->call->log, MSG_CALL_DONE, "%s: %s%s%s, %" APR_TIME_T_FMT " ms, client-request-id %s",
              exchange->service, exchange->outcome, exchange->code != NULL ? ", code " : "",
              exchange->code != NULL ? exchange->code : "", apr_time_as_msec(exchange->answer.duration), request_id);
}
