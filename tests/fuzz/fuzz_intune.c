/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whatever Entra, Graph and Intune answer, and whatever the cache holds, to the client as a whole. The HTTP client is
 * replaced by one that takes its answers from the input: byte 1 what is asked, byte 2 which records are in the cache
 * already; then these records, a text, and for each call status, Retry-After, Content-Type, headers and body, parts
 * that end with 0xff. An empty status is an answer as it should be.
 */
#include "fuzz.h"

#include "base/clock.h"
#include "base/text.h"
#include "intune/intune_internal.h"
#include "store/shared_cache.h"

#include <apr_strings.h>
#include <apr_time.h>
#include <ctype.h>
#include <json-c/json.h>
#include <stdlib.h>

#define APP_KEY "an application key &="
#define APP_KEY_ESCAPED "an+application+key+%26%3D"

enum { RETRY_AFTER_MAX = 3600, CALLS_MAX = 40 };

/* There is one input at a time. */
static fuzz_t *input;
static int calls;
static bool last_was_success;
static bool secrets_are_told;

struct http_client_t {
    int unused;
};

static const char *good_answer(const char *url)
{
    return strstr(url, "/oauth2/") ? "{\"access_token\":\"tok.en\",\"expires_in\":3599}"
           : strstr(url, "/endpoints")
               ? "{\"value\":[{\"providerName\":\"ScepRequestValidationFEService\",\"uri\":\"https://scep.example/\"}]}"
               : "{\"code\":\"Success\"}";
}

static void is_printable_check(const char *text)
{
    for (; *text; text++) {
        fuzz_check(*text >= ' ' && *text <= '~');
    }
}

/* A token goes out over TLS or to this machine. curl is content with any number of slashes up to three. */
static bool is_safe(const char *url)
{
    if (!strncasecmp(url, "https:/", 7)) {
        return true;
    }
    if (strncasecmp(url, "http:/", 6)) {
        return false;
    }
    url += strlen("http:");
    url += strspn(url, "/");
    return !strncasecmp(url, "localhost", 9) || !strncmp(url, "[::1]", 5) ||
           /* curl knows these as addresses of IPv4, too */
           isdigit((unsigned char)*url);
}

static bool says_success(const http_answer_t *answer)
{
    struct json_object *json = json_tokener_parse((const char *)answer->body.data);
    struct json_object *code = NULL;
    bool success = answer->failure == HTTP_OK && answer->status / 100 == 2 &&
                   json_object_is_type(json, json_type_object) && json_object_object_get_ex(json, "code", &code) &&
                   json_object_is_type(code, json_type_string) && !strcmp(json_object_get_string(code), "Success");
    json_object_put(json);
    return success;
}

static apr_array_header_t *headers_make(const char *text, apr_pool_t *pool)
{
    apr_array_header_t *headers = apr_array_make(pool, 4, sizeof(const char *));
    char *rest = apr_pstrdup(pool, text);
    char *state = NULL;
    for (char *line = apr_strtok(rest, "\n", &state); line; line = apr_strtok(NULL, "\n", &state)) {
        APR_ARRAY_PUSH(headers, const char *) = line;
    }
    return headers;
}

static void answer_make(http_answer_t *answer, const char *url, apr_pool_t *pool)
{
    bytes_t body = bytes_of_text(good_answer(url));
    const char *status = fuzz_text(input);
    answer->status = 200;
    answer->content_type = "application/json; charset=utf-8";
    if (*status) {
        int wait = atoi(fuzz_text(input));
        answer->status = abs(atoi(status)) % 1000;
        answer->failure = *status == '-' ? (http_failure_t)(answer->status % (HTTP_FAILED_INTERNAL + 1)) : HTTP_OK;
        answer->retry_after = apr_time_from_sec(wait < 0 ? 0 : wait > RETRY_AFTER_MAX ? RETRY_AFTER_MAX : wait);
        answer->content_type = text_escape(pool, fuzz_text(input), 128);
        answer->headers = headers_make(fuzz_text(input), pool);
        body = fuzz_part(input);
    }
    if (answer->failure != HTTP_OK) {
        answer->status = 0;
        answer->content_type = "";
        body = bytes_of_text("");
    }
    char *copy = apr_palloc(pool, body.len + 1);
    if (body.len) {
        memcpy(copy, body.data, body.len);
    }
    copy[body.len] = '\0';
    answer->body = (bytes_t){(unsigned char *)copy, body.len};
}

apr_status_t http_client_call(http_client_t *client, const http_request_t *request, http_answer_t *answer,
                              apr_pool_t *pool)
{
    (void)client;
    memset(answer, 0, sizeof(*answer));
    answer->failure_text = answer->content_type = "";
    is_printable_check(request->url);
    fuzz_check(!strchr(request->url, ' ') && is_safe(request->url));
    for (const char *const *header = request->headers; *header; header++) {
        is_printable_check(*header);
    }
    fuzz_check(++calls < CALLS_MAX);
    answer_make(answer, request->url, pool);
    last_was_success = says_success(answer);
    return answer->failure == HTTP_OK ? APR_SUCCESS : APR_EGENERAL;
}

apr_status_t http_global_init(void)
{
    return APR_SUCCESS;
}

apr_status_t http_client_make(http_client_t **client, const http_settings_t *settings, apr_pool_t *pool,
                              const char **message)
{
    (void)settings;
    (void)message;
    *client = apr_pcalloc(pool, sizeof(**client));
    return APR_SUCCESS;
}

void http_client_tidy(http_client_t *client)
{
    (void)client;
}

void http_client_stop(http_client_t *client)
{
    (void)client;
}

static void line_see(void *baton, log_level_t level, const char *line)
{
    (void)baton;
    (void)level;
    is_printable_check(line);
    fuzz_check(secrets_are_told ||
               (!strstr(line, APP_KEY) && !strstr(line, APP_KEY_ESCAPED) && !strstr(line, "tok.en")));
}

static bool line_wanted(void *baton, log_level_t level)
{
    (void)baton;
    (void)level;
    return true;
}

static intune_t *intune_build(cache_t *cache, apr_pool_t *pool)
{
    intune_settings_t settings = {.tenant = "tenant", .app_id = "app", .provider = "Fuzzer 1.0",
                                  .authority = "https://login.example/", .graph_url = "https://graph.example/",
                                  .graph_version = "v1.0", .intune_url = "https://intune.example/",
                                  .intune_app_id = "0000000a", .service_version = "2018-02-20",
                                  .ca_configuration = "", .certificate_authority = "",
                                  .timeout = apr_time_from_sec(60), .http = {.max_handles = 1}};
    intune_t *intune = NULL;
    const char *message = NULL;
    fuzz_check(secret_source_make(&settings.app_key, APP_KEY, pool, &message) == APR_SUCCESS);
    fuzz_check(intune_make(&intune, &settings, pool) == APR_SUCCESS);
    fuzz_check(intune_attach(intune, cache, pool, &message) == APR_SUCCESS);
    return intune;
}

static void record_put(cache_t *cache, const char *key, const char *record)
{
    cache->put(cache, key, bytes_of_text(record), clock_now() + apr_time_from_sec(3600));
}

/* Numbers, where the input has nothing else: some, or one. */
static const char *numbers_take(const char *of)
{
    const char *text = fuzz_text(input);
    return strspn(text, of) == strlen(text) ? text : "";
}

static const char *key_make(const intune_t *intune, const char *kind, apr_pool_t *pool)
{
    const intune_settings_t *s = &intune->settings;
    if (*kind == 'l') {
        return apr_pstrcat(pool, "location ", key_part(pool, s->tenant), key_part(pool, s->app_id),
                           key_part(pool, s->graph_url), key_part(pool, s->graph_version),
                           key_part(pool, s->intune_app_id), NULL);
    }
    return apr_pstrcat(pool, "breaker ", key_part(pool, s->tenant), key_part(pool, s->app_id),
                       key_part(pool, s->authority), key_part(pool, s->graph_url), key_part(pool, s->intune_url),
                       key_part(pool, s->intune_app_id), key_part(pool, s->service_version), NULL);
}

/* Records that another version or a fault may have left: texts are ours, numbers are any. */
static void records_put(const intune_t *intune, unsigned which, apr_pool_t *pool)
{
    cache_t *cache = intune->cache;
    const char *token = token_key(intune, token_scope_intune(intune, pool), pool);
    if (which & 1) {
        record_put(cache, token, apr_pstrcat(pool, numbers_take("-+0123456789 "), " tok.en", NULL));
    }
    if (which & 2) {
        record_put(cache, key_make(intune, "location", pool),
                   apr_pstrcat(pool, numbers_take("-+0123456789"), " https://scep.example", NULL));
    }
    if (which & 4) {
        record_put(cache, key_make(intune, "breaker", pool), apr_pstrcat(pool, numbers_take("-+0123456789 "), " why", NULL));
    }
}

static apr_status_t ask(intune_t *intune, intune_call_t *call, unsigned what, const char *text)
{
    intune_certificate_t certificate = {"AB", "01", "2030-01-01T00:00:00.000Z", "CN=CA"};
    bytes_t csr = bytes_of_text("CSR");
    switch (what % 3) {
    case 0:
        return intune_validate(intune, call, text, csr);
    case 1:
        return intune_report_success(intune, call, text, csr, &certificate);
    default:
        return intune_report_failure(intune, call, "T", csr, 0x80094014, text);
    }
}

static void ask_and_check(intune_t *intune, const log_t *log, unsigned what, const char *text)
{
    result_t *result = result_make(input->pool);
    intune_call_t call = {.pool = input->pool, .log = log, .result = result};
    last_was_success = false;
    apr_status_t rv = ask(intune, &call, what, text);
    fuzz_check((rv == APR_SUCCESS) == (result->problem == PROBLEM_NONE));
    fuzz_check(rv != APR_SUCCESS || last_was_success);
    if (rv != APR_SUCCESS) {
        is_printable_check(result->detail ? result->detail : "");
        is_printable_check(result->code ? result->code : "");
        fuzz_check(result->retry_after >= 0 && result->retry_after <= apr_time_from_sec(RETRY_AFTER_MAX));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_t *fuzz = fuzz_begin(data, size);
    const log_t log = {line_see, line_wanted, NULL, NULL, NULL};
    cache_provider_t *provider = NULL;
    intune_breaker_t breaker;

    input = fuzz;
    /* libFuzzer learns what is looked for, and says it itself */
    secrets_are_told = memmem(data, size, "key", 3) || memmem(data, size, "tok.en", 6) || memmem(data, size, "\\u", 2);
    calls = 0;
    fuzz_check(memory_provider_make(&provider, fuzz->pool) == APR_SUCCESS);
    intune_t *intune = intune_build(shared_cache_make(provider, fuzz->pool), fuzz->pool);
    unsigned what = fuzz_byte(fuzz);
    records_put(intune, fuzz_byte(fuzz), fuzz->pool);
    const char *text = fuzz_text(fuzz);
    if (what & 64) {
        intune_renew_due(intune, fuzz->pool, &log);
    }
    ask_and_check(intune, &log, what, text);
    ask_and_check(intune, &log, what / 4, text);
    intune_breaker_state(intune, fuzz->pool, &breaker);
    is_printable_check(breaker.reason);
    return fuzz_end(fuzz);
}
