/* SPDX-License-Identifier: Apache-2.0 */
#include "http_fixture.h"

#include <apr_strings.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

enum { RULES_MAX = 96, SEEN_MAX = 1024, CONNECTIONS_MAX = 256, REQUEST_MAX = 64 * 1024, POLL_MS = 50 };

typedef struct rule_t {
    const char *path;
    const char *within;
    int times;
    fixture_reply_t reply;
} rule_t;

typedef struct connection_t {
    fixture_t *fixture;
    pthread_t thread;
    int socket;
} connection_t;

struct fixture_t {
    apr_pool_t *pool; /* of the records, under the mutex */
    pthread_mutex_t mutex;
    pthread_t thread;
    int socket;
    bool stopping;
    const char *url;
    rule_t rules[RULES_MAX];
    int rule_count;
    fixture_seen_t seen[SEEN_MAX];
    int seen_count;
    connection_t connections[CONNECTIONS_MAX];
    int connection_count;
};

static bool is_stopping(fixture_t *fixture)
{
    pthread_mutex_lock(&fixture->mutex);
    bool stopping = fixture->stopping;
    pthread_mutex_unlock(&fixture->mutex);
    return stopping;
}

/** Waits for bytes, looking at the end of the test now and then. */
static bool readable(fixture_t *fixture, int socket)
{
    struct pollfd watch = {socket, POLLIN, 0};
    while (!is_stopping(fixture)) {
        int n = poll(&watch, 1, POLL_MS);
        if (n != 0) {
            return n > 0;
        }
    }
    return false;
}

static bool fits(const fixture_seen_t *seen, const char *path, const char *within)
{
    return strncmp(seen->path, path, strlen(path)) == 0 && (within == NULL || strstr(seen->body, within) != NULL);
}

static fixture_reply_t reply_choose(fixture_t *fixture, const fixture_seen_t *seen)
{
    fixture_reply_t reply = {404, NULL, "no rule", 0, 0, false};
    for (int i = fixture->rule_count - 1; i >= 0; i--) {
        rule_t *rule = &fixture->rules[i];
        if (rule->times != 0 && fits(seen, rule->path, rule->within)) {
            if (rule->times > 0) {
                rule->times--;
            }
            return rule->reply;
        }
    }
    return reply;
}

static fixture_reply_t request_note(fixture_t *fixture, const char *head, const char *body)
{
    pthread_mutex_lock(&fixture->mutex);
    fixture_seen_t seen;
    apr_size_t method = strcspn(head, " ");
    const char *path = head + method + (head[method] == ' ' ? 1 : 0);
    seen.method = apr_pstrmemdup(fixture->pool, head, method);
    seen.path = apr_pstrmemdup(fixture->pool, path, strcspn(path, " \r\n"));
    seen.headers = apr_pstrdup(fixture->pool, head);
    seen.body = apr_pstrdup(fixture->pool, body);
    if (fixture->seen_count < SEEN_MAX) {
        fixture->seen[fixture->seen_count++] = seen;
    }
    fixture_reply_t reply = reply_choose(fixture, &seen);
    pthread_mutex_unlock(&fixture->mutex);
    return reply;
}

static bool send_all(int socket, const char *data, apr_size_t len)
{
    while (len > 0) {
        ssize_t n = send(socket, data, len, MSG_NOSIGNAL);
        if (n <= 0) {
            return false;
        }
        data += n;
        len -= (apr_size_t)n;
    }
    return true;
}

static bool reply_send(connection_t *connection, const fixture_reply_t *reply)
{
    char head[2048];
    const char *body = reply->body != NULL ? reply->body : "";
    apr_size_t len = reply->length != 0 ? reply->length : strlen(body);
    for (int waited = 0; waited < reply->delay_ms && !is_stopping(connection->fixture); waited += 10) {
        usleep(10000);
    }
    if (reply->drop) {
        return false;
    }
    const char *headers = reply->headers != NULL ? reply->headers : "";
    bool typed = strstr(headers, "Content-Type:") != NULL || (reply->headers != NULL && *headers == '\0');
    apr_snprintf(head, sizeof(head), "HTTP/1.1 %d X\r\nContent-Length: %" APR_SIZE_T_FMT "\r\n%s%s\r\n", reply->status,
                 len, typed ? "" : "Content-Type: application/json; charset=utf-8\r\n", headers);
    return send_all(connection->socket, head, strlen(head)) && send_all(connection->socket, body, len);
}

static apr_size_t length_announced(const char *head)
{
    const char *line = strcasestr(head, "\r\nContent-Length:");
    return line != NULL ? (apr_size_t)strtoul(line + strlen("\r\nContent-Length:"), NULL, 10) : 0;
}

/** Reads one request to `buffer`; the body starts at *body, and head and body are NUL-terminated. */
static bool request_read(connection_t *connection, char *buffer, char **body)
{
    apr_size_t used = 0;
    char *end = NULL;
    apr_size_t want = 0;
    while (end == NULL || used < want) {
        if (used + 1 >= REQUEST_MAX || !readable(connection->fixture, connection->socket)) {
            return false;
        }
        ssize_t n = recv(connection->socket, buffer + used, REQUEST_MAX - 1 - used, 0);
        if (n <= 0) {
            return false;
        }
        used += (apr_size_t)n;
        buffer[used] = '\0';
        if (end == NULL && (end = strstr(buffer, "\r\n\r\n")) != NULL) {
            *end = '\0';
            *body = end + 4;
            want = (apr_size_t)(*body - buffer) + length_announced(buffer);
        }
    }
    return true;
}

static void *connection_run(void *baton)
{
    connection_t *connection = baton;
    char *buffer = malloc(REQUEST_MAX);
    char *body = NULL;
    while (buffer != NULL && request_read(connection, buffer, &body)) {
        fixture_reply_t reply = request_note(connection->fixture, buffer, body);
        if (!reply_send(connection, &reply)) {
            break;
        }
    }
    free(buffer);
    close(connection->socket);
    return NULL;
}

static void *fixture_run(void *baton)
{
    fixture_t *fixture = baton;
    while (readable(fixture, fixture->socket)) {
        int socket = accept(fixture->socket, NULL, NULL);
        if (socket < 0) {
            continue;
        }
        int on = 1;
        setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        if (fixture->connection_count == CONNECTIONS_MAX) {
            close(socket);
            continue;
        }
        connection_t *connection = &fixture->connections[fixture->connection_count];
        connection->fixture = fixture;
        connection->socket = socket;
        if (pthread_create(&connection->thread, NULL, connection_run, connection) == 0) {
            fixture->connection_count++;
        } else {
            close(socket);
        }
    }
    for (int i = 0; i < fixture->connection_count; i++) {
        pthread_join(fixture->connections[i].thread, NULL);
    }
    return NULL;
}

static apr_status_t fixture_stop(void *baton)
{
    fixture_t *fixture = baton;
    pthread_mutex_lock(&fixture->mutex);
    fixture->stopping = true;
    pthread_mutex_unlock(&fixture->mutex);
    pthread_join(fixture->thread, NULL);
    close(fixture->socket);
    apr_pool_destroy(fixture->pool);
    pthread_mutex_destroy(&fixture->mutex);
    free(fixture);
    return APR_SUCCESS;
}

static int loopback_listen(int *port)
{
    struct sockaddr_in address;
    socklen_t len = sizeof(address);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    memset(&address, 0, sizeof(address));
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (listener < 0 || bind(listener, (struct sockaddr *)(void *)&address, len) != 0 || listen(listener, 128) != 0 ||
        getsockname(listener, (struct sockaddr *)(void *)&address, &len) != 0) {
        abort();
    }
    *port = ntohs(address.sin_port);
    return listener;
}

fixture_t *fixture_start(apr_pool_t *pool)
{
    fixture_t *fixture = calloc(1, sizeof(*fixture));
    int port = 0;
    if (fixture == NULL || apr_pool_create_unmanaged_ex(&fixture->pool, NULL, NULL) != APR_SUCCESS) {
        abort();
    }
    pthread_mutex_init(&fixture->mutex, NULL);
    fixture->socket = loopback_listen(&port);
    fixture->url = apr_psprintf(fixture->pool, "http://127.0.0.1:%d/", port);
    if (pthread_create(&fixture->thread, NULL, fixture_run, fixture) != 0) {
        abort();
    }
    apr_pool_cleanup_register(pool, fixture, fixture_stop, apr_pool_cleanup_null);
    return fixture;
}

const char *fixture_url(const fixture_t *fixture)
{
    return fixture->url;
}

void fixture_on(fixture_t *fixture, const char *path, const char *within, int times, fixture_reply_t reply)
{
    rule_t rule = {path, within, times, reply};
    pthread_mutex_lock(&fixture->mutex);
    if (fixture->rule_count == RULES_MAX) {
        abort();
    }
    fixture->rules[fixture->rule_count++] = rule;
    pthread_mutex_unlock(&fixture->mutex);
}

int fixture_count(fixture_t *fixture, const char *path, const char *within)
{
    int n = 0;
    pthread_mutex_lock(&fixture->mutex);
    for (int i = 0; i < fixture->seen_count; i++) {
        n += fits(&fixture->seen[i], path, within) ? 1 : 0;
    }
    pthread_mutex_unlock(&fixture->mutex);
    return n;
}

const fixture_seen_t *fixture_last(fixture_t *fixture, const char *path, const char *within)
{
    const fixture_seen_t *last = NULL;
    pthread_mutex_lock(&fixture->mutex);
    for (int i = fixture->seen_count - 1; i >= 0 && last == NULL; i--) {
        if (fits(&fixture->seen[i], path, within)) {
            last = apr_pmemdup(fixture->pool, &fixture->seen[i], sizeof(*last));
        }
    }
    pthread_mutex_unlock(&fixture->mutex);
    return last;
}

void fixture_forget(fixture_t *fixture)
{
    pthread_mutex_lock(&fixture->mutex);
    fixture->seen_count = 0;
    pthread_mutex_unlock(&fixture->mutex);
}

const char *fixture_header(const fixture_seen_t *seen, const char *name, apr_pool_t *pool)
{
    const char *start = apr_pstrcat(pool, "\r\n", name, ": ", NULL);
    const char *line = strcasestr(seen->headers, start);
    if (line == NULL) {
        return NULL;
    }
    line += strlen(start);
    return apr_pstrmemdup(pool, line, strcspn(line, "\r"));
}

int fixture_closed_port(void)
{
    int port = 0;
    int listener = loopback_listen(&port);
    close(listener);
    return port;
}
