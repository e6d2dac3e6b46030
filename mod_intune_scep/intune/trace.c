/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What goes over the wire, for the log at trace level. Only what is on one of the lists here is shown, of JSON's other
 * members the length. So a secret that nobody thought of, or one that a proxy echoes, does not show.
 */
#include "intune/intune_internal.h"

#include "base/text.h"

#include <apr_strings.h>

#include <json-c/json.h>
#include <stdarg.h>
#include <stdio.h>
#include <strings.h>

enum { LINE_ROOM = 3500, VALUE_MAX = 200, NAME_MAX_SHOWN = 40, DEPTH_MAX = 16 };

static const char *const shown_headers[] = {
    "Accept",       "api-version", "Cache-Control",       "client-request-id", "Connection", "Content-Length",
    "Content-Type", "Date",        "request-id",          "Retry-After",       "Server",     "Transfer-Encoding",
    "User-Agent",   "Via",         "x-ms-ags-diagnostic", "x-ms-request-id",   NULL};

static const char *const shown_fields[] = {"grant_type", "client_id", "client_assertion_type", "scope", NULL};

/* No certificateRequest (the challenge is in it), no access_token. */
static const char *const shown_members[] = {
    /* Intune */
    "transactionId", "callerInfo", "certificateThumbprint", "certificateSerialNumber", "certificateExpirationDateUtc",
    "issuingCertificateAuthority", "caConfiguration", "certificateAuthority", "hResult", "errorDescription", "code",
    /* Entra */
    "token_type", "expires_in", "ext_expires_in", "error", "error_description", "error_codes", "timestamp", "trace_id",
    "correlation_id",
    /* Graph */
    "@odata.context", "providerName", "serviceName", "uri", "message", "date", "request-id", "client-request-id", NULL};

static bool listed(const char *const *list, const char *name, apr_size_t len)
{
    for (; *list != NULL; list++) {
        if (strlen(*list) == len && strncasecmp(*list, name, len) == 0) {
            return true;
        }
    }
    return false;
}

/* A line that grows to its room and no further. */
typedef struct line_t {
    apr_pool_t *pool;
    char *text;
    apr_size_t len;
    const exchange_t *answered; /* whose answer it shows; NULL for a request */
} line_t;

static line_t line_make(apr_pool_t *pool, const exchange_t *answered)
{
    line_t line = {pool, apr_palloc(pool, LINE_ROOM), 0, answered};
    line.text[0] = '\0';
    return line;
}

__attribute__((format(printf, 2, 3))) static void add(line_t *line, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(line->text + line->len, LINE_ROOM - line->len, format, arguments);
    va_end(arguments);
    if (n > 0) {
        line->len += (apr_size_t)n;
        line->len = line->len < LINE_ROOM ? line->len : LINE_ROOM - 1;
    }
}

static void add_hidden(line_t *line, apr_size_t len)
{
    add(line, "*** (%" APR_SIZE_T_FMT " bytes)", len);
}

static void add_shown(line_t *line, const char *data, apr_size_t len)
{
    bytes_t bytes = {(const unsigned char *)data, len};
    add(line, "%s",
        line->answered != NULL ? exchange_text(line->answered, bytes, VALUE_MAX, line->pool)
                               : text_escape_bytes(line->pool, bytes, VALUE_MAX));
}

static void add_header(line_t *line, const char *header)
{
    apr_size_t name = strcspn(header, ":\r\n");
    if (header[name] != ':') {
        return; /* the status line, or the end */
    }
    const char *value = header + name + 1;
    value += strspn(value, " \t");
    bytes_t bytes = {(const unsigned char *)header, name};
    add(line, "; %s: ", text_escape_bytes(line->pool, bytes, NAME_MAX_SHOWN));
    if (listed(shown_headers, header, name)) {
        add_shown(line, value, strcspn(value, "\r\n"));
    } else {
        add(line, "***");
    }
}

static void add_form(line_t *line, const char *body, apr_size_t len)
{
    const char *end = body + len;
    for (const char *field = body; field < end;) {
        const char *stop = memchr(field, '&', (apr_size_t)(end - field));
        stop = stop != NULL ? stop : end;
        const char *equals = memchr(field, '=', (apr_size_t)(stop - field));
        if (equals != NULL) {
            add_shown(line, field, (apr_size_t)(equals - field));
            add(line, "=");
        }
        if (equals != NULL && listed(shown_fields, field, (apr_size_t)(equals - field))) {
            add_shown(line, equals + 1, (apr_size_t)(stop - equals - 1));
        } else {
            add(line, "***");
        }
        add(line, "%s", stop < end ? "&" : "");
        field = stop + 1;
    }
}

static void add_json(line_t *line, bool shown, struct json_object *value, int depth);

static void add_object(line_t *line, struct json_object *object, int depth)
{
    const char *separator = "";
    struct json_object_iterator end = json_object_iter_end(object);
    struct json_object_iterator at = json_object_iter_begin(object);

    add(line, "{");
    for (; !json_object_iter_equal(&at, &end); json_object_iter_next(&at)) {
        const char *name = json_object_iter_peek_name(&at);
        add(line, "%s%s:", separator, text_escape(line->pool, name, NAME_MAX_SHOWN));
        add_json(line, listed(shown_members, name, strlen(name)), json_object_iter_peek_value(&at), depth);
        separator = ",";
    }
    add(line, "}");
}

static void add_json(line_t *line, bool shown, struct json_object *value, int depth)
{
    if (depth > DEPTH_MAX || line->len >= LINE_ROOM - 1) {
        return;
    }
    switch (json_object_get_type(value)) {
    case json_type_object:
        add_object(line, value, depth + 1);
        break;
    case json_type_array:
        add(line, "[");
        for (size_t i = 0; i < json_object_array_length(value); i++) {
            add(line, "%s", i > 0 ? "," : "");
            add_json(line, shown, json_object_array_get_idx(value, i), depth + 1);
        }
        add(line, "]");
        break;
    case json_type_string:
        if (shown) {
            add_shown(line, json_object_get_string(value), (apr_size_t)json_object_get_string_len(value));
        } else {
            add_hidden(line, (apr_size_t)json_object_get_string_len(value));
        }
        break;
    case json_type_int:
    case json_type_double:
        add(line, "%s", shown ? json_object_to_json_string(value) : "***");
        break;
    default:
        add(line, "%s", json_object_to_json_string(value)); /* null, true, false */
    }
}

void trace_request(const log_t *log, const exchange_t *exchange, const http_request_t *request, apr_pool_t *pool)
{
    if (!log_enabled(log, LOG_LEVEL_TRACE)) {
        return;
    }
    line_t line = line_make(pool, NULL);
    for (const char *const *header = request->headers; *header != NULL; header++) {
        add_header(&line, *header);
    }
    if (exchange->body != NULL) {
        bytes_t body = {(const unsigned char *)exchange->body, exchange->body_length};
        struct json_object *json = json_read(body);
        add(&line, "; body ");
        if (json != NULL) {
            add_json(&line, false, json, 0);
            json_object_put(json);
        } else {
            add_form(&line, exchange->body, exchange->body_length);
        }
    }
    log_write(log, MSG_CALL_REQUEST, "%s: %s %s, %" APR_SIZE_T_FMT " bytes; User-Agent: %s%s", exchange->service,
              exchange->body != NULL ? "POST" : "GET", text_escape(pool, exchange->url, 2048), exchange->body_length,
              text_escape(pool, request->user_agent, VALUE_MAX), line.text);
}

void trace_answer(const log_t *log, const exchange_t *exchange, apr_pool_t *pool)
{
    const http_answer_t *answer = &exchange->answer;
    if (!log_enabled(log, LOG_LEVEL_TRACE)) {
        return;
    }
    if (answer->failure != HTTP_OK) {
        log_write(log, MSG_CALL_ANSWER, "%s: %s (%s)", exchange->service, exchange->outcome, answer->failure_text);
        return;
    }
    line_t line = line_make(pool, exchange);
    for (int i = 0; answer->headers != NULL && i < answer->headers->nelts; i++) {
        add_header(&line, APR_ARRAY_IDX(answer->headers, i, const char *));
    }
    add(&line, "; body ");
    if (exchange->json != NULL) {
        add_json(&line, false, exchange->json, 0);
    } else {
        add_hidden(&line, answer->body.len);
    }
    log_write(log, MSG_CALL_ANSWER, "%s: HTTP %d, %" APR_SIZE_T_FMT " bytes%s", exchange->service, answer->status,
              answer->body.len, line.text);
}
