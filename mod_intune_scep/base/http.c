/* SPDX-License-Identifier: Apache-2.0 */
#include "base/http_internal.h"

#include "base/clock.h"
#include "base/text.h"

#include <apr_strings.h>
#include <apr_thread_cond.h>
#include <apr_thread_mutex.h>
#include <openssl/crypto.h>
#include <stdatomic.h>
#include <unistd.h>

enum {
    HEADERS_MAX = 128 * 1024, /* a server that sends headers without end */
    BODY_FIRST = 4096,
    CONNECTION_IDLE = 60, /* seconds; below what load balancers close after */
    KEEPALIVE_IDLE = 60,
    KEEPALIVE_INTERVAL = 30,
    RETRY_AFTER_MAX = 3600
};

/* How long a dying pool waits for calls that still run; they end within about a second once stopped. */
static const apr_interval_time_t stop_patience = 5 * APR_USEC_PER_SEC;

/*
 * What is kept from call to call is a multi handle with its connections. The easy handle is new for each call: libcurl before
 * 8.0 takes a folded first header line for the rest of the last one of the handle's call before, which is freed by then
 * (state.prevhead in lib/headers.c).
 */
typedef struct idle_t {
    http_kept_t *connections;
    apr_time_t since;
} idle_t;

/* They are a stack: the one with the freshest connections is taken first, the oldest are closed after a while. */
struct http_client_t {
    http_settings_t settings;
    atomic_bool stopped;
    apr_thread_mutex_t *mutex;
    apr_thread_cond_t *changed;
    idle_t *idle;
    int idle_count;
    int used_count;
};

/* One call, while it runs. */
typedef struct call_t {
    http_client_t *client;
    const http_request_t *request;
    http_kept_t *connections;
    CURL *handle;
    struct curl_slist *headers;
    char *body; /* on the heap, cleansed with the pool: it may hold a token */
    apr_size_t body_len, body_room, header_len;
    apr_array_header_t *lines; /* the headers, where they are wanted */
    bool too_large, without_memory;
    bool headed; /* the headers came to their end */
    bool asked, resent;
    apr_size_t heard; /* header_len when it was sent last */
    char words[CURL_ERROR_SIZE];
} call_t;

apr_status_t http_global_init(void)
{
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        return APR_EGENERAL;
    return curl_version_info(CURLVERSION_NOW)->features & CURL_VERSION_SSL ? APR_SUCCESS : APR_ENOTIMPL;
}

/* The pool of connections */

static void wake_all(http_client_t *client)
{
    apr_thread_mutex_lock(client->mutex);
    apr_thread_cond_broadcast(client->changed);
    apr_thread_mutex_unlock(client->mutex);
}

void http_client_stop(http_client_t *client)
{
    atomic_store(&client->stopped, true);
    wake_all(client);
}

static apr_status_t client_destroy(void *data)
{
    http_client_t *client = data;
    apr_time_t limit = apr_time_now() + stop_patience;
    apr_interval_time_t rest;

    http_client_stop(client);
    apr_thread_mutex_lock(client->mutex);
    while (client->used_count > 0 && (rest = limit - apr_time_now()) > 0)
        apr_thread_cond_timedwait(client->changed, client->mutex, rest);
    while (client->idle_count > 0)
        http_kept_free(client->idle[--client->idle_count].connections);
    apr_thread_mutex_unlock(client->mutex);
    return APR_SUCCESS;
}

apr_status_t http_client_make(http_client_t **client, const http_settings_t *settings, apr_pool_t *pool,
                              const char **message)
{
    http_client_t *made = apr_pcalloc(pool, sizeof(*made));
    apr_status_t rv;

    if (settings->max_handles < 1) {
        *message = "the number of calls at once must be at least 1";
        return APR_EINVAL;
    }
    if ((settings->ca_file && (rv = http_trust_check(settings->ca_file, pool, message)) != APR_SUCCESS) ||
        (settings->client_certificate &&
         (rv = http_certificate_check(settings->client_certificate, pool, message)) != APR_SUCCESS))
        return rv;
    made->settings = *settings;
    made->settings.ca_file = apr_pstrdup(pool, settings->ca_file);
    made->settings.client_certificate = apr_pstrdup(pool, settings->client_certificate);
    made->settings.proxy = apr_pstrdup(pool, settings->proxy);
    made->settings.proxy_user = apr_pstrdup(pool, settings->proxy_user);
    made->idle = apr_pcalloc(pool, (apr_size_t)settings->max_handles * sizeof(*made->idle));
    atomic_init(&made->stopped, false);
    if ((rv = apr_thread_mutex_create(&made->mutex, APR_THREAD_MUTEX_DEFAULT, pool)) != APR_SUCCESS ||
        (rv = apr_thread_cond_create(&made->changed, pool)) != APR_SUCCESS) {
        *message = "a mutex could not be made";
        return rv;
    }
    apr_pool_cleanup_register(pool, made, client_destroy, apr_pool_cleanup_null);
    *client = made;
    return APR_SUCCESS;
}

/* Waits for free connections until the deadline. */
static http_failure_t connections_take(http_client_t *client, apr_time_t deadline, http_kept_t **connections)
{
    http_failure_t failure = HTTP_OK;
    apr_interval_time_t rest = 0;

    apr_thread_mutex_lock(client->mutex);
    while (!atomic_load(&client->stopped) && client->used_count >= client->settings.max_handles &&
           (rest = deadline - clock_now()) > 0)
        apr_thread_cond_timedwait(client->changed, client->mutex, rest);
    if (atomic_load(&client->stopped))
        failure = HTTP_FAILED_STOPPED;
    else if (client->used_count >= client->settings.max_handles || clock_now() >= deadline)
        failure = HTTP_FAILED_TIMEOUT;
    else if (client->idle_count > 0)
        *connections = client->idle[--client->idle_count].connections;
    if (failure == HTTP_OK)
        client->used_count++;
    else
        apr_thread_cond_signal(client->changed); /* a wake-up that is not used belongs to the next one who waits */
    apr_thread_mutex_unlock(client->mutex);
    if (*connections && !http_kept_is_silent(*connections)) {
        http_kept_free(*connections);
        *connections = NULL;
    }
    if (failure == HTTP_OK && !*connections && !(*connections = http_kept_make())) {
        apr_thread_mutex_lock(client->mutex);
        client->used_count--;
        apr_thread_cond_signal(client->changed);
        apr_thread_mutex_unlock(client->mutex);
        failure = HTTP_FAILED_INTERNAL;
    }
    return failure;
}

/* Closing may take a while (TLS says good-bye): not under the mutex. What is being closed still counts as used. */
void http_client_tidy(http_client_t *client)
{
    apr_time_t limit = clock_now() - apr_time_from_sec(CONNECTION_IDLE);
    http_kept_t *old;

    apr_thread_mutex_lock(client->mutex);
    while (client->idle_count > 0 && client->idle[0].since < limit) {
        old = client->idle[0].connections;
        client->idle_count--;
        client->used_count++;
        memmove(client->idle, client->idle + 1, (apr_size_t)client->idle_count * sizeof(*client->idle));
        apr_thread_mutex_unlock(client->mutex);
        http_kept_free(old);
        apr_thread_mutex_lock(client->mutex);
        client->used_count--;
        apr_thread_cond_broadcast(client->changed);
    }
    apr_thread_mutex_unlock(client->mutex);
}

static void connections_give(http_client_t *client, http_kept_t *connections)
{
    http_client_tidy(client);
    apr_thread_mutex_lock(client->mutex);
    client->idle[client->idle_count].connections = connections;
    client->idle[client->idle_count].since = clock_now();
    client->idle_count++;
    client->used_count--;
    if (client->used_count == 0)
        apr_thread_cond_broadcast(client->changed);
    else
        apr_thread_cond_signal(client->changed);
    apr_thread_mutex_unlock(client->mutex);
}

/* What curl calls back */

static apr_status_t body_free(void *data)
{
    call_t *call = data;

    OPENSSL_clear_free(call->body, call->body_room);
    call->body = NULL;
    return APR_SUCCESS;
}

static size_t on_body(char *data, size_t size, size_t count, void *baton)
{
    call_t *call = baton;
    size_t len = size * count;

    if (len > call->request->max_answer - call->body_len) {
        call->too_large = true;
        return 0;
    }
    if (call->body_room - call->body_len <= len) {
        apr_size_t room = call->body_room ? call->body_room : BODY_FIRST;
        char *body;

        while (room - call->body_len <= len)
            room *= 2;
        if (!(body = OPENSSL_clear_realloc(call->body, call->body_room, room))) {
            call->without_memory = true;
            return 0;
        }
        call->body = body;
        call->body_room = room;
    }
    memcpy(call->body + call->body_len, data, len);
    call->body_len += len;
    return len;
}

static size_t on_header(char *data, size_t size, size_t count, void *baton)
{
    call_t *call = baton;
    size_t len = size * count;

    call->header_len += len;
    if (call->header_len > HEADERS_MAX) {
        call->too_large = true;
        return 0;
    }
    /* A proxy's demand for a password comes first, with a status line and headers of its own. */
    bool begins = len > 5 && !memcmp(data, "HTTP/", 5);
    call->headed = !begins && (call->headed || *data == '\r' || *data == '\n');
    if (call->lines) {
        if (begins)
            call->lines->nelts = 0;
        APR_ARRAY_PUSH(call->lines, const char *) = apr_pstrmemdup(call->lines->pool, data, len);
    }
    return len;
}

#if LIBCURL_VERSION_NUM >= 0x075000
/*
 * Before each sending. curl sends once more by itself where a connection that was kept ends without an answer; between a
 * proxy's demand for a password and the next sending there were headers.
 */
static int on_sending(void *baton, char *there, char *here, int port_there, int port_here)
{
    call_t *call = baton;

    (void)there;
    (void)here;
    (void)port_there;
    (void)port_here;
    call->resent = call->resent || (call->asked && call->header_len == call->heard);
    call->asked = true;
    call->heard = call->header_len;
    return CURL_PREREQFUNC_OK;
}
#endif

static int on_progress(void *baton, curl_off_t down_total, curl_off_t down, curl_off_t up_total, curl_off_t up)
{
    const call_t *call = baton;

    (void)down_total;
    (void)down;
    (void)up_total;
    (void)up;
    http_kept_look(call->connections, call->handle);
    return atomic_load(&call->client->stopped) ? 1 : 0;
}

/* Options: each setter does nothing after the first failure. */

static void set_number(CURL *handle, CURLoption option, long value, CURLcode *code)
{
    if (*code == CURLE_OK)
        *code = curl_easy_setopt(handle, option, value);
}

static void set_text(CURL *handle, CURLoption option, const char *value, CURLcode *code)
{
    if (*code == CURLE_OK)
        *code = curl_easy_setopt(handle, option, value);
}

static void set_pointer(CURL *handle, CURLoption option, void *value, CURLcode *code)
{
    if (*code == CURLE_OK)
        *code = curl_easy_setopt(handle, option, value);
}

static void set_connection(CURL *handle, CURLcode *code)
{
    set_number(handle, CURLOPT_NOSIGNAL, 1L, code);
#if LIBCURL_VERSION_NUM >= 0x075500
    set_text(handle, CURLOPT_PROTOCOLS_STR, "http,https", code);
#else
    set_number(handle, CURLOPT_PROTOCOLS, CURLPROTO_HTTP | CURLPROTO_HTTPS, code);
#endif
#if LIBCURL_VERSION_NUM >= 0x075700
    /* A resolver that hangs must not hold the thread beyond the deadline. */
    set_number(handle, CURLOPT_QUICK_EXIT, 1L, code);
#endif
    set_number(handle, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1, code);
    set_number(handle, CURLOPT_HTTP09_ALLOWED, 0L, code);
    set_number(handle, CURLOPT_FOLLOWLOCATION, 0L, code);
    set_number(handle, CURLOPT_NETRC, CURL_NETRC_IGNORED, code);
    set_number(handle, CURLOPT_MAXAGE_CONN, CONNECTION_IDLE, code);
    set_number(handle, CURLOPT_TCP_KEEPALIVE, 1L, code);
    set_number(handle, CURLOPT_TCP_KEEPIDLE, KEEPALIVE_IDLE, code);
    set_number(handle, CURLOPT_TCP_KEEPINTVL, KEEPALIVE_INTERVAL, code);
}

static void set_tls(CURL *handle, const http_settings_t *settings, CURLcode *code)
{
    set_number(handle, CURLOPT_SSLVERSION, CURL_SSLVERSION_TLSv1_2, code);
    set_number(handle, CURLOPT_SSL_VERIFYPEER, 1L, code);
    set_number(handle, CURLOPT_SSL_VERIFYHOST, 2L, code);
    if (settings->ca_file) {
        /* curl would go on trusting its built-in directory beside the file; a curl without one refuses this option. */
        (void)curl_easy_setopt(handle, CURLOPT_CAPATH, NULL);
        set_text(handle, CURLOPT_CAINFO, settings->ca_file, code);
    }
    if (settings->client_certificate) {
        set_text(handle, CURLOPT_SSLCERT, settings->client_certificate, code);
        set_text(handle, CURLOPT_SSLKEY, settings->client_certificate, code);
        (void)curl_easy_setopt(handle, CURLOPT_PROXY_SSLCERT, settings->client_certificate);
        (void)curl_easy_setopt(handle, CURLOPT_PROXY_SSLKEY, settings->client_certificate);
    }
}

/* libcurl takes "%41" in them for "A": of its options once more with each connection, of a URL once. */
static void set_proxy_user(CURL *handle, const http_settings_t *settings, apr_pool_t *scratch, CURLcode *code)
{
    const char *password = secret_reveal(secret_source_read(settings->proxy_password, scratch));
    char *user = curl_easy_escape(handle, settings->proxy_user, 0), *escaped = curl_easy_escape(handle, password, 0);
    const char *host = settings->proxy ? strstr(settings->proxy, "://") : NULL, *url;

    if ((!user || !escaped) && *code == CURLE_OK)
        *code = CURLE_OUT_OF_MEMORY;
    if (*code == CURLE_OK && host) {
        url = apr_psprintf(scratch, "%.*s://%s:%s@%s", (int)(host - settings->proxy), settings->proxy, user, escaped,
                           host + 3);
        secret_guard(scratch, url, strlen(url));
        set_text(handle, CURLOPT_PROXY, url, code);
    } else {
        set_text(handle, CURLOPT_PROXYUSERNAME, user, code);
        set_text(handle, CURLOPT_PROXYPASSWORD, escaped, code);
    }
    OPENSSL_cleanse(escaped, escaped ? strlen(escaped) : 0);
    curl_free(escaped);
    curl_free(user);
}

static void set_proxy(CURL *handle, const http_settings_t *settings, apr_pool_t *scratch, CURLcode *code)
{
    set_number(handle, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L, code);
    /* A curl that refuses these has no TLS towards proxies at all. */
    (void)curl_easy_setopt(handle, CURLOPT_PROXY_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    if (settings->ca_file) {
        (void)curl_easy_setopt(handle, CURLOPT_PROXY_CAPATH, NULL);
        (void)curl_easy_setopt(handle, CURLOPT_PROXY_CAINFO, settings->ca_file);
    }
    if (settings->proxy) {
        set_text(handle, CURLOPT_PROXY, settings->proxy, code);
        /* The environment's exceptions belong to the environment's proxies. */
        set_text(handle, CURLOPT_NOPROXY, "", code);
    }
    if (settings->proxy_user && settings->proxy_password) {
        /* Not Negotiate: curl would prefer it, and it takes no user and password but the process's own tickets. */
        set_number(handle, CURLOPT_PROXYAUTH, (long)(CURLAUTH_BASIC | CURLAUTH_DIGEST | CURLAUTH_NTLM), code);
        set_proxy_user(handle, settings, scratch, code);
    }
}

static void add_header(call_t *call, const char *header, CURLcode *code)
{
    struct curl_slist *longer = curl_slist_append(call->headers, header);

    if (longer)
        call->headers = longer;
    else if (*code == CURLE_OK)
        *code = CURLE_OUT_OF_MEMORY;
}

static void set_request(call_t *call, CURLcode *code)
{
    const http_request_t *request = call->request;
    const char *const *header;

    set_text(call->handle, CURLOPT_URL, request->url, code);
    set_text(call->handle, CURLOPT_USERAGENT, request->user_agent, code);
    /* Who says nothing takes every coding (RFC 9110 section 12.5.3). With this option curl also reads what comes in one. */
    set_text(call->handle, CURLOPT_ACCEPT_ENCODING, "identity", code);
    for (header = request->headers; header && *header; header++)
        add_header(call, *header, code);
    /* What libcurl sends again by itself is what it has sent over a connection that was kept. */
    set_number(call->handle, CURLOPT_FRESH_CONNECT, request->once, code);
    set_number(call->handle, CURLOPT_FORBID_REUSE, request->once, code);
    if (request->body) {
        /* One more round trip for nothing, and not every proxy answers it. */
        add_header(call, "Expect:", code);
        set_number(call->handle, CURLOPT_POST, 1L, code);
        if (*code == CURLE_OK)
            *code = curl_easy_setopt(call->handle, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body_length);
        if (*code == CURLE_OK)
            *code = curl_easy_setopt(call->handle, CURLOPT_POSTFIELDS, request->body);
    }
    if (*code == CURLE_OK)
        *code = curl_easy_setopt(call->handle, CURLOPT_HTTPHEADER, call->headers);
    if (*code == CURLE_OK)
        *code = curl_easy_setopt(call->handle, CURLOPT_WRITEFUNCTION, on_body);
    set_pointer(call->handle, CURLOPT_WRITEDATA, call, code);
    if (*code == CURLE_OK)
        *code = curl_easy_setopt(call->handle, CURLOPT_HEADERFUNCTION, on_header);
    set_pointer(call->handle, CURLOPT_HEADERDATA, call, code);
    if (*code == CURLE_OK)
        *code = curl_easy_setopt(call->handle, CURLOPT_XFERINFOFUNCTION, on_progress);
    set_pointer(call->handle, CURLOPT_XFERINFODATA, call, code);
#if LIBCURL_VERSION_NUM >= 0x075000
    if (*code == CURLE_OK)
        *code = curl_easy_setopt(call->handle, CURLOPT_PREREQFUNCTION, on_sending);
    set_pointer(call->handle, CURLOPT_PREREQDATA, call, code);
#endif
    set_number(call->handle, CURLOPT_NOPROGRESS, 0L, code);
    set_pointer(call->handle, CURLOPT_ERRORBUFFER, call->words, code);
}

static long milliseconds_until(apr_time_t time)
{
    apr_interval_time_t rest = apr_time_as_msec(time - clock_now()), most = apr_time_as_msec(apr_time_from_sec(86400));

    return (long)(rest < most ? rest : most);
}

/* Gives false when no time is left: to curl a limit of 0 means none. */
static bool set_deadline(CURL *handle, const http_request_t *request, CURLcode *code)
{
    long rest = milliseconds_until(request->deadline), connecting = rest;

    if (rest < 1)
        return false;
    if (request->connect_by)
        connecting = milliseconds_until(request->connect_by);
    set_number(handle, CURLOPT_TIMEOUT_MS, rest, code);
    set_number(handle, CURLOPT_CONNECTTIMEOUT_MS, connecting < 1 ? 1 : connecting < rest ? connecting : rest, code);
    return true;
}

static void answer_fill(call_t *call, http_answer_t *answer, apr_pool_t *pool)
{
    const char *type = NULL;
    curl_off_t wait = 0;
    long status = 0;

    curl_easy_getinfo(call->handle, CURLINFO_RESPONSE_CODE, &status);
    answer->headers = call->lines;
    curl_easy_getinfo(call->handle, CURLINFO_CONTENT_TYPE, &type);
    curl_easy_getinfo(call->handle, CURLINFO_RETRY_AFTER, &wait);
    answer->status = (int)status;
    if (type)
        answer->content_type = text_escape(pool, type, 128);
    answer->resent = call->resent;
    answer->retry_after = apr_time_from_sec(wait < 0 ? 0 : wait > RETRY_AFTER_MAX ? RETRY_AFTER_MAX : wait);
    if (call->body) {
        call->body[call->body_len] = '\0';
        answer->body.data = (const unsigned char *)call->body;
        answer->body.len = call->body_len;
    }
}

static http_failure_t call_perform(call_t *call, http_answer_t *answer, apr_pool_t *pool)
{
    CURLcode code = CURLE_OK;
    http_failure_t failure;
    apr_pool_t *scratch = NULL;

    if (apr_pool_create(&scratch, pool) != APR_SUCCESS)
        return HTTP_FAILED_INTERNAL;
    set_connection(call->handle, &code);
    set_tls(call->handle, &call->client->settings, &code);
    set_proxy(call->handle, &call->client->settings, scratch, &code);
    set_request(call, &code);
    apr_pool_destroy(scratch);
    if (!set_deadline(call->handle, call->request, &code))
        return HTTP_FAILED_TIMEOUT;
    if (code == CURLE_OK)
        code = http_kept_transfer(call->connections, call->handle);
    if (call->too_large)
        return HTTP_FAILED_TOO_LARGE;
    if (call->without_memory) {
        answer->failure_text = "no memory for the answer";
        return HTTP_FAILED_INTERNAL;
    }
    failure = http_failure_of(call->handle, code, call->words, call->request->url, call->client->settings.proxy);
    /* To curl that is an answer. */
    if (code == CURLE_OK && !call->headed) {
        answer->failure_text = "the connection ended within the headers";
        return HTTP_FAILED_DROPPED;
    }
    if (failure == HTTP_FAILED_PROXY_PASSWORD && code == CURLE_OK)
        answer->failure_text = "HTTP 407 Proxy Authentication Required";
    else if (code == CURLE_WRITE_ERROR)
        answer->failure_text = "what came compressed cannot be unpacked";
    else if (failure != HTTP_OK && code == CURLE_OK)
        answer->failure_text = "no HTTP status of three digits";
    else if (failure != HTTP_OK)
        answer->failure_text =
            text_escape(pool, call->words[0] ? http_failure_words(call->words) : curl_easy_strerror(code), 256);
    if (failure == HTTP_FAILED_TIMEOUT)
        http_failure_late(call->handle, &call->client->settings, answer, pool);
    if (failure == HTTP_FAILED_PROXY)
        answer->tunnel_status = http_failure_tunnel(call->handle);
    if (failure != HTTP_OK)
        return failure;
    answer_fill(call, answer, pool);
    return failure;
}

static void headers_free(struct curl_slist *headers)
{
    struct curl_slist *header;

    for (header = headers; header; header = header->next)
        OPENSSL_cleanse(header->data, strlen(header->data));
    curl_slist_free_all(headers);
}

apr_status_t http_client_call(http_client_t *client, const http_request_t *request, http_answer_t *answer,
                              apr_pool_t *pool)
{
    apr_time_t start = clock_now();
    call_t *call = apr_pcalloc(pool, sizeof(*call));

    memset(answer, 0, sizeof(*answer));
    answer->failure_text = answer->content_type = "";
    answer->body.data = (const unsigned char *)"";
    call->client = client;
    call->request = request;
    call->lines = request->keep_headers ? apr_array_make(pool, 16, sizeof(const char *)) : NULL;
    apr_pool_cleanup_register(pool, call, body_free, apr_pool_cleanup_null);
    answer->failure = connections_take(client, request->deadline, &call->connections);
    if (answer->failure == HTTP_OK) {
        call->handle = curl_easy_init();
        answer->failure = call->handle ? call_perform(call, answer, pool) : HTTP_FAILED_INTERNAL;
        curl_easy_cleanup(call->handle);
        connections_give(client, call->connections);
        headers_free(call->headers);
    }
    /* curl's words for it would send people to look at the network. */
    if (answer->failure == HTTP_FAILED_STOPPED)
        answer->failure_text = "this process ends";
    else if (answer->failure != HTTP_OK && !answer->failure_text[0])
        answer->failure_text = http_failure_name(answer->failure);
    answer->duration = clock_now() - start;
    if (answer->duration < 0)
        answer->duration = 0;
    return answer->failure == HTTP_OK               ? APR_SUCCESS
           : answer->failure == HTTP_FAILED_TIMEOUT ? APR_TIMEUP
                                                    : APR_EGENERAL;
}
