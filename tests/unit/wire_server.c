/* SPDX-License-Identifier: Apache-2.0 */
#include "wire_server.h"

#include <arpa/inet.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { POLL_MS = 20 };

typedef struct wire_t {
    wire_server_t *server;
    int socket;
    int requests;
    SSL *tls;
    char request[WIRE_REQUEST_MAX];
    size_t head, length; /* of the request: its head, and all of it */
} wire_t;

static bool say_bytes(wire_t *wire, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t sent = wire->tls ? SSL_write(wire->tls, data, (int)len) : send(wire->socket, data, len, MSG_NOSIGNAL);

        if (sent <= 0)
            return false;
        data += sent;
        len -= (size_t)sent;
    }
    return true;
}

static bool say(wire_t *wire, const char *text)
{
    return say_bytes(wire, text, strlen(text));
}

static bool wait_input(wire_t *wire)
{
    struct pollfd poller = {wire->socket, POLLIN, 0};

    while (!atomic_load(&wire->server->stopping)) {
        if ((wire->tls && SSL_pending(wire->tls) > 0) || poll(&poller, 1, POLL_MS) > 0)
            return true;
    }
    return false;
}

/* Reads one request, head and body. */
static bool listen_request(wire_t *wire)
{
    size_t want = 0;

    wire->length = wire->head = 0;
    while (wire->head == 0 || wire->length < want) {
        size_t room = sizeof(wire->request) - 1 - wire->length;
        char *at = wire->request + wire->length, *end;
        ssize_t got;

        /* Of a body that is too large to keep only the end is kept. */
        if (room == 0 && wire->head > 0) {
            want -= wire->length - wire->head;
            wire->length = wire->head;
            continue;
        }
        if (room == 0 || !wait_input(wire))
            return false;
        got = wire->tls ? SSL_read(wire->tls, at, (int)room) : recv(wire->socket, at, room, 0);
        if (got <= 0)
            return false;
        wire->length += (size_t)got;
        wire->request[wire->length] = '\0';
        /* A TLS handshake on the plain port. */
        if (wire->request[0] < 'A' || wire->request[0] > 'Z') {
            (void)say(wire, "HTTP/1.1 400 Bad Request\r\n\r\n");
            return false;
        }
        if (wire->head == 0 && (end = strstr(wire->request, "\r\n\r\n")) != NULL) {
            const char *announced = strstr(wire->request, "Content-Length: ");

            wire->head = (size_t)(end - wire->request) + 4;
            want = wire->head + (announced ? strtoul(announced + 16, NULL, 10) : 0);
        }
    }
    atomic_fetch_add(&wire->server->requests, 1);
    pthread_mutex_lock(&wire->server->mutex);
    memcpy(wire->server->last, wire->request, wire->length + 1);
    pthread_mutex_unlock(&wire->server->mutex);
    wire->requests++;
    return true;
}

static bool ok(wire_t *wire, const char *rest)
{
    (void)rest;
    return say(wire, "HTTP/1.1 200 OK\r\nContent-Type: text/\"x\\y\"\r\nContent-Length: 5\r\n\r\nhello");
}

static bool echo(wire_t *wire, const char *rest)
{
    char head[100];
    size_t len = wire->length - wire->head;

    (void)rest;
    snprintf(head, sizeof(head), "HTTP/1.1 201 Created\r\nContent-Length: %zu\r\n\r\n", len);
    return say(wire, head) && say_bytes(wire, wire->request + wire->head, len);
}

static bool nothing(wire_t *wire, const char *rest)
{
    (void)rest;
    return say(wire, "HTTP/1.1 204 No Content\r\n\r\n");
}

static bool size(wire_t *wire, const char *rest)
{
    char block[1024];
    long left = strtol(rest, NULL, 10);

    memset(block, 's', sizeof(block));
    snprintf(block, sizeof(block), "HTTP/1.1 200 OK\r\nContent-Length: %ld\r\n\r\n", left);
    if (!say(wire, block))
        return false;
    memset(block, 's', sizeof(block));
    for (; left > 0; left -= (long)sizeof(block)) {
        if (!say_bytes(wire, block, left < (long)sizeof(block) ? (size_t)left : sizeof(block)))
            return false;
    }
    return true;
}

static bool endless(wire_t *wire, const char *rest)
{
    (void)rest;
    if (!say(wire, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"))
        return false;
    while (!atomic_load(&wire->server->stopping) && say(wire, "10\r\n0123456789abcdef\r\n"))
        ;
    return false;
}

static bool headers(wire_t *wire, const char *rest)
{
    (void)rest;
    if (!say(wire, "HTTP/1.1 200 OK\r\n"))
        return false;
    while (!atomic_load(&wire->server->stopping) && say(wire, "X-More: and more and more and more and more\r\n"))
        ;
    return false;
}

static bool drop(wire_t *wire, const char *rest)
{
    (void)wire;
    (void)rest;
    return false;
}

/* What nobody asked for comes a moment later, on the same connection. */
static bool stray(wire_t *wire, const char *rest)
{
    bool kept = ok(wire, rest);

    usleep(50 * 1000);
    return kept && say(wire, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nstray");
}

/* The same, but it is in one write, and so in one record of TLS, with the end of the answer. */
static bool packed(wire_t *wire, const char *rest)
{
    (void)rest;
    if (!say(wire, "HTTP/1.1 200 OK\r\nContent-Type: text/\"x\\y\"\r\nContent-Length: 5\r\n\r\n"))
        return false;
    usleep(50 * 1000);
    return say(wire, "helloHTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nstray");
}

/* Ends behind the status line, or within the headers. */
static bool headless(wire_t *wire, const char *rest)
{
    char line[32];

    snprintf(line, sizeof(line), "HTTP/1.1 %.3s OK\r\n", rest);
    say(wire, line);
    return false;
}

static bool half_headed(wire_t *wire, const char *rest)
{
    say(wire, "HTTP/1.1 100 Continue\r\n\r\n");
    headless(wire, rest);
    say(wire, "Content-Type: text/plain\r\nContent-Le");
    return false;
}

static bool partial(wire_t *wire, const char *rest)
{
    (void)rest;
    say(wire, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
    return false;
}

/* Says nothing until the client goes. */
static bool stall(wire_t *wire, const char *rest)
{
    (void)rest;
    wait_input(wire);
    return false;
}

/* Begins an answer and then says nothing. */
static bool stall_body(wire_t *wire, const char *rest)
{
    say(wire, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
    return stall(wire, rest);
}

static bool garbage(wire_t *wire, const char *rest)
{
    (void)rest;
    say(wire, "220 mail.example ESMTP\r\nwhat do you want?\r\n");
    return false;
}

static bool encoded(wire_t *wire, const char *rest)
{
    (void)rest;
    say(wire, "HTTP/1.1 200 OK\r\nTransfer-Encoding: rot13\r\n\r\nuryyb");
    return false;
}

/* One header line that does not end. */
static bool long_line(wire_t *wire, const char *rest)
{
    (void)rest;
    if (!say(wire, "HTTP/1.1 200 OK\r\nX-Long: "))
        return false;
    while (!atomic_load(&wire->server->stopping) && say(wire, "and more and more and more and more and more"))
        ;
    return false;
}

/* The first header line is the rest of one that never came. */
static bool folded(wire_t *wire, const char *rest)
{
    (void)rest;
    return say(wire, "HTTP/1.1 200 OK\r\n folded: line\r\nContent-Length: 5\r\n\r\nhello");
}

static bool status(wire_t *wire, const char *rest)
{
    char text[100];

    snprintf(text, sizeof(text), "HTTP/1.1 %.*s Odd\r\nContent-Length: 0\r\n\r\n", (int)strcspn(rest, " "), rest);
    return say(wire, text);
}

static bool retry(wire_t *wire, const char *rest)
{
    char text[200], date[100];
    time_t later = time(NULL) + 120;
    struct tm parts;

    if (strncmp(rest, "date", 4) == 0)
        strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&later, &parts));
    else
        snprintf(date, sizeof(date), "%.*s", (int)strcspn(rest, " "), rest);
    snprintf(text, sizeof(text), "HTTP/1.1 503 Busy\r\nRetry-After: %s\r\nContent-Length: 0\r\n\r\n", date);
    return say(wire, text);
}

static bool redirect(wire_t *wire, const char *rest)
{
    (void)rest;
    return say(wire, "HTTP/1.1 302 Found\r\nLocation: /ok\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n");
}

/* Answers a connection's first request, then closes it as an impatient server does. */
static bool impatient(wire_t *wire, const char *rest)
{
    ok(wire, rest);
    return false;
}

/* Answers a connection's first request only: the second meets a connection that closes under it. */
static bool once(wire_t *wire, const char *rest)
{
    return wire->requests == 1 && ok(wire, rest);
}

static bool slow(wire_t *wire, const char *rest)
{
    wire_server_t *server = wire->server;
    int now = atomic_fetch_add(&server->running, 1) + 1, most = atomic_load(&server->most_running);
    struct timespec nap = {0, 200 * 1000 * 1000};

    while (now > most && !atomic_compare_exchange_weak(&server->most_running, &most, now))
        ;
    nanosleep(&nap, NULL);
    atomic_fetch_sub(&server->running, 1);
    return ok(wire, rest);
}

/* As a proxy that wants a password. */
static bool password(wire_t *wire, const char *rest)
{
    if (strstr(wire->request, "Proxy-Authorization: "))
        return ok(wire, rest);
    return say(wire, "HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n\r\n");
}

static bool refuse_tunnel(wire_t *wire, const char *rest)
{
    if (strncmp(rest, "127.0.0.1:3 ", 12) == 0)
        return stall(wire, rest);
    say(wire, strstr(wire->request, "CONNECT 127.0.0.1:1 ")
                  ? "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"
                  : "HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n\r\n");
    return false;
}

static const struct {
    const char *mark; /* in the request line */
    bool (*answer)(wire_t *wire, const char *rest);
} paths[] = {
    {"CONNECT ", refuse_tunnel},
    {"/ok", ok},
    {"/echo", echo},
    {"/nothing", nothing},
    {"/size/", size},
    {"/endless", endless},
    {"/headers", headers},
    {"/drop", drop},
    {"/stray", stray},
    {"/packed", packed},
    {"/partial", partial},
    {"/headless/", headless},
    {"/half-headed/", half_headed},
    {"/stall-body", stall_body},
    {"/stall", stall},
    {"/garbage", garbage},
    {"/encoded", encoded},
    {"/long-line", long_line},
    {"/folded", folded},
    {"/status/", status},
    {"/retry/", retry},
    {"/redirect", redirect},
    {"/impatient", impatient},
    {"/once", once},
    {"/slow", slow},
    {"/password", password},
};

/* Gives whether the connection is kept. */
static bool answer_request(wire_t *wire)
{
    size_t i, line = strcspn(wire->request, "\r");
    const char *at;

    for (i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        at = strstr(wire->request, paths[i].mark);
        if (at && (size_t)(at - wire->request) < line)
            return paths[i].answer(wire, at + strlen(paths[i].mark));
    }
    return say(wire, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
}

static void *serve(void *data)
{
    wire_t *wire = data;
    bool open = true;

    if (wire->server->tls) {
        wire->tls = SSL_new(wire->server->tls);
        open = wire->tls && SSL_set_fd(wire->tls, wire->socket) == 1 && wait_input(wire) && SSL_accept(wire->tls) == 1;
    }
    while (open && listen_request(wire))
        open = answer_request(wire);
    if (wire->tls && open)
        SSL_shutdown(wire->tls);
    SSL_free(wire->tls);
    close(wire->socket);
    atomic_fetch_add(&wire->server->closed, 1);
    return wire;
}

static void *accept_all(void *data)
{
    wire_server_t *server = data;
    struct pollfd poller = {server->socket, POLLIN, 0};
    pthread_t threads[WIRE_CONNECTIONS_MAX];
    struct timeval patience = {5, 0};
    int count = 0;

    while (!atomic_load(&server->stopping)) {
        wire_t *wire;

        if (poll(&poller, 1, POLL_MS) <= 0 || count == WIRE_CONNECTIONS_MAX || !(wire = calloc(1, sizeof(*wire))))
            continue;
        wire->server = server;
        wire->socket = accept(server->socket, NULL, NULL);
        if (wire->socket < 0) {
            free(wire);
            continue;
        }
        setsockopt(wire->socket, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
        setsockopt(wire->socket, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
        atomic_fetch_add(&server->connections, 1); /* before anybody has an answer */
        if (pthread_create(&threads[count], NULL, serve, wire) != 0) {
            close(wire->socket);
            free(wire);
            continue;
        }
        count++;
    }
    while (count > 0) {
        void *wire = NULL;

        pthread_join(threads[--count], &wire);
        free(wire);
    }
    return NULL;
}

static int listen_loopback(int *port)
{
    struct sockaddr_in address;
    socklen_t length = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    memset(&address, 0, sizeof(address));
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) != 0 || listen(fd, 64) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &length) != 0)
        return -1;
    *port = ntohs(address.sin_port);
    return fd;
}

int wire_server_start(wire_server_t *server, SSL_CTX *tls)
{
    memset(server, 0, sizeof(*server));
    server->tls = tls;
    server->socket = listen_loopback(&server->port);
    if (server->socket < 0 || pthread_mutex_init(&server->mutex, NULL) != 0)
        return -1;
    return pthread_create(&server->thread, NULL, accept_all, server);
}

void wire_server_stop(wire_server_t *server)
{
    atomic_store(&server->stopping, true);
    pthread_join(server->thread, NULL);
    pthread_mutex_destroy(&server->mutex);
    close(server->socket);
}

int wire_closed_port(void)
{
    int port = 0, fd = listen_loopback(&port);

    close(fd);
    return port;
}
