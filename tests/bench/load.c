/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Load for an HTTP server on loopback: POSTs prepared messages, each once, or GETs one target again and again; README.md
 * has the options. One thread, epoll.
 *
 * Closed loop: each connection sends the next request as soon as it has its answer. Open loop (--rate): request N is due
 * at N/rate seconds whether or not earlier ones were answered, and its latency counts from then on, also while it waits
 * for a connection: a server that stalls cannot hide it by stopping the load (coordinated omission).
 */
#define _GNU_SOURCE
#include "http_answer.h"
#include "load_report.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS = 256, BUFFER_FIRST = 16 * 1024, BUFFER_MOST = 4 * 1024 * 1024 };
#define SECOND 1000000000LL

typedef struct options_t {
    int port;
    const char *target;
    const char *messages; /* a directory with N.der, or NULL: GET */
    int first;
    int count;
    int connections;
    double rate;
    bool close;
    bool wait;
    double timeout;
    const char *answers; /* a directory for some bodies */
    int every;           /* each so many-th of them */
} options_t;

typedef struct message_t {
    char head[512];
    size_t head_len;
    char *body;
    size_t body_len;
} message_t;

typedef enum state_t { IDLE, SENDING, READING } state_t;

typedef struct connection_t {
    int fd; /* -1: none */
    state_t state;
    int number; /* of the request */
    bool used;  /* had an answer before: may have been closed meanwhile */
    long long due;
    size_t sent;
    char *in;
    size_t in_len, in_room;
} connection_t;

static options_t options = {.target = "/", .count = 1, .connections = 1, .timeout = 60, .every = 1};
static message_t *messages;
static connection_t *connections;
static load_report_t report;
static int poller, timer;
static connection_t **idle; /* a stack */
static int idle_count;
static int started;
static long long begin;

static void die(const char *what)
{
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(2);
}

static long long now(void)
{
    struct timespec at;

    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec * SECOND + at.tv_nsec;
}

/* Messages */

static void message_load(message_t *message, int number)
{
    char path[4096];
    struct stat facts;
    int fd = -1;

    if (options.messages) {
        snprintf(path, sizeof(path), "%s/%d.der", options.messages, options.first + number);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &facts) != 0) {
            die(path);
        }
        message->body_len = (size_t)facts.st_size;
        message->body = malloc(message->body_len + 1);
        if (!message->body || read(fd, message->body, message->body_len) != facts.st_size) {
            die(path);
        }
        close(fd);
    }
    message->head_len = (size_t)snprintf(message->head, sizeof(message->head), "%s %s HTTP/1.1\r\nHost: localhost\r\n",
                                         options.messages ? "POST" : "GET", options.target);
    if (options.messages) {
        message->head_len += (size_t)snprintf(message->head + message->head_len, sizeof(message->head) - message->head_len,
                                              "Content-Type: application/x-pki-message\r\nContent-Length: %zu\r\n",
                                              message->body_len);
    }
    message->head_len += (size_t)snprintf(message->head + message->head_len, sizeof(message->head) - message->head_len,
                                          "%s\r\n", options.close ? "Connection: close\r\n" : "");
    if (message->head_len >= sizeof(message->head)) {
        errno = ENAMETOOLONG;
        die("target");
    }
}

/* All GETs are the same. */
static const message_t *message_of(int number)
{
    return &messages[options.messages ? number : 0];
}

static void messages_load(void)
{
    int count = options.messages ? options.count : 1;
    int i = 0;

    messages = calloc((size_t)count, sizeof(*messages));
    for (i = 0; messages && i < count; i++) {
        message_load(&messages[i], i);
    }
}

/* Connections */

static void watch(const connection_t *connection, int operation, unsigned events)
{
    struct epoll_event event = {.events = events, .data.ptr = (void *)connection};

    if (epoll_ctl(poller, operation, connection->fd, &event) != 0) {
        die("epoll_ctl");
    }
}

static void hang_up(connection_t *connection)
{
    if (connection->fd >= 0) {
        close(connection->fd);
    }
    connection->fd = -1;
    connection->used = false;
}

static void connect_it(connection_t *connection)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)options.port)};
    int one = 1;

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connection->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (connection->fd < 0) {
        die("socket");
    }
    setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (connect(connection->fd, (struct sockaddr *)&address, sizeof(address)) != 0 && errno != EINPROGRESS) {
        die("connect");
    }
    report.connections++;
    watch(connection, EPOLL_CTL_ADD, EPOLLOUT);
}

/* The server may have closed it while it lay idle. */
static bool is_alive(const connection_t *connection)
{
    char byte = 0;

    return connection->fd >= 0 && recv(connection->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN;
}

static void finish(connection_t *connection, const http_answer_t *answer)
{
    load_result_t *result = &report.results[connection->number];

    result->due = connection->due - begin;
    result->end = now() - begin;
    result->status = answer ? answer->status : 0;
    result->body_len = answer ? answer->body_len : 0;
    if (answer && options.answers && connection->number % options.every == 0) {
        load_answer_keep(options.answers, options.first + connection->number, answer);
    }
    connection->state = IDLE;
    connection->used = true;
    connection->in_len = 0;
    idle[idle_count++] = connection;
    if (!answer || !answer->keeps || options.close) {
        hang_up(connection);
    }
}

static void send_more(connection_t *connection)
{
    const message_t *message = message_of(connection->number);
    size_t head_left = connection->sent < message->head_len ? message->head_len - connection->sent : 0;
    size_t body_sent = connection->sent - (message->head_len - head_left);
    struct iovec parts[2] = {{(void *)(message->head + message->head_len - head_left), head_left},
                             {message->body ? message->body + body_sent : NULL, message->body_len - body_sent}};
    struct msghdr all = {.msg_iov = parts, .msg_iovlen = 2};
    ssize_t len = sendmsg(connection->fd, &all, MSG_NOSIGNAL);

    if (len < 0 && (errno == EAGAIN || errno == ENOTCONN)) {
        return;
    }
    if (len < 0) {
        /* An answer may have come before the connection broke. */
        len = (ssize_t)(message->head_len + message->body_len - connection->sent);
    }
    connection->sent += (size_t)len;
    if (connection->sent == message->head_len + message->body_len) {
        connection->state = READING;
        watch(connection, EPOLL_CTL_MOD, EPOLLIN);
    }
}

static void start(connection_t *connection, int number, long long due)
{
    connection->number = number;
    connection->due = due;
    connection->sent = 0;
    connection->in_len = 0;
    connection->state = SENDING;
    if (!is_alive(connection)) {
        hang_up(connection);
        connect_it(connection);
    } else {
        send_more(connection);
        if (connection->state == SENDING) {
            watch(connection, EPOLL_CTL_MOD, EPOLLOUT);
        }
    }
}

static void in_grow(connection_t *connection)
{
    if (connection->in_room - connection->in_len < BUFFER_FIRST / 2) {
        connection->in_room = connection->in_room ? 2 * connection->in_room : BUFFER_FIRST;
        connection->in = realloc(connection->in, connection->in_room);
        if (!connection->in || connection->in_room > BUFFER_MOST) {
            errno = ENOMEM;
            die("answer");
        }
    }
}

static void read_more(connection_t *connection)
{
    http_answer_t answer = {0};
    http_progress_t progress = HTTP_MORE;
    ssize_t len = 0;

    in_grow(connection);
    len = recv(connection->fd, connection->in + connection->in_len, connection->in_room - connection->in_len, 0);
    if (len < 0 && errno == EAGAIN) {
        return;
    }
    connection->in_len += len > 0 ? (size_t)len : 0;
    if (len <= 0 && connection->in_len == 0 && connection->used) {
        /* It was closed just when it was used again: nobody has read the request. */
        hang_up(connection);
        report.again++;
        connection->sent = 0;
        connection->state = SENDING;
        connect_it(connection);
        return;
    }
    progress = http_answer_read(&answer, connection->in, connection->in_len, len <= 0);
    if (progress != HTTP_MORE) {
        finish(connection, progress == HTTP_WHOLE ? &answer : NULL);
    }
}

/* The loop */

static long long due_at(int number)
{
    return options.rate > 0 ? begin + (long long)(number * (SECOND / options.rate)) : 0;
}

/* Starts what is due, as long as there are idle connections. */
static void dispatch(void)
{
    while (idle_count > 0 && started < options.count) {
        long long at = now();
        long long due = options.rate > 0 ? due_at(started) : at;

        if (due > at) {
            struct itimerspec when = {.it_value = {due / SECOND, due % SECOND}};
            timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL);
            return;
        }
        start(idle[--idle_count], started++, due);
    }
}

static void give_up_old(void)
{
    long long limit = now() - (long long)(options.timeout * (double)SECOND);
    int i = 0;

    for (i = 0; i < options.connections; i++) {
        if (connections[i].state != IDLE && connections[i].due < limit) {
            hang_up(&connections[i]);
            finish(&connections[i], NULL);
        }
    }
}

static void handle(const struct epoll_event *event)
{
    connection_t *connection = event->data.ptr;
    unsigned long long expirations = 0;

    if (!connection) {
        (void)!read(timer, &expirations, sizeof(expirations));
    } else if (connection->fd >= 0 && connection->state == SENDING) {
        send_more(connection);
    } else if (connection->fd >= 0 && connection->state == READING) {
        read_more(connection);
    }
}

static void run(void)
{
    struct epoll_event events[EVENTS];
    long long looked = now();

    begin = looked;
    dispatch();
    while (started < options.count || idle_count < options.connections) {
        int count = epoll_wait(poller, events, EVENTS, 1000);
        int i = 0;

        for (i = 0; i < count; i++) {
            handle(&events[i]);
        }
        if (now() - looked > SECOND) {
            looked = now();
            give_up_old();
        }
        dispatch();
    }
}

static void set_up(void)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    int i = 0;

    signal(SIGPIPE, SIG_IGN);
    messages_load();
    load_report_init(&report, options.count);
    connections = calloc((size_t)options.connections, sizeof(*connections));
    idle = calloc((size_t)options.connections, sizeof(*idle));
    poller = epoll_create1(EPOLL_CLOEXEC);
    timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (!messages || !connections || !idle || poller < 0 || timer < 0 || epoll_ctl(poller, EPOLL_CTL_ADD, timer, &event) != 0) {
        die("set up");
    }
    for (i = 0; i < options.connections; i++) {
        connections[i].fd = -1;
        idle[idle_count++] = &connections[i];
    }
}

static void usage(void)
{
    fputs("load --port N --target T [--messages DIR --first N] --count N --connections N [--rate R] [--close]\n"
          "     [--timeout SECONDS] [--answers DIR --every N] [--wait]\n",
          stderr);
    exit(2);
}

static void option_read(const char *name, const char *value)
{
    if (strcmp(name, "--port") == 0) {
        options.port = atoi(value);
    } else if (strcmp(name, "--target") == 0) {
        options.target = value;
    } else if (strcmp(name, "--messages") == 0) {
        options.messages = value;
    } else if (strcmp(name, "--first") == 0) {
        options.first = atoi(value);
    } else if (strcmp(name, "--count") == 0) {
        options.count = atoi(value);
    } else if (strcmp(name, "--connections") == 0) {
        options.connections = atoi(value);
    } else if (strcmp(name, "--rate") == 0) {
        options.rate = atof(value);
    } else if (strcmp(name, "--timeout") == 0) {
        options.timeout = atof(value);
    } else if (strcmp(name, "--answers") == 0) {
        options.answers = value;
    } else if (strcmp(name, "--every") == 0) {
        options.every = atoi(value);
    } else {
        usage();
    }
}

static void options_read(int argc, char **argv)
{
    int i = 0;

    for (i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--close") == 0) {
            options.close = true;
        } else if (strcmp(argv[i], "--wait") == 0) {
            options.wait = true;
        } else if (i + 1 < argc) {
            option_read(argv[i], argv[i + 1]);
            i++;
        } else {
            usage();
        }
    }
    if (options.port < 1 || options.count < 1 || options.connections < 1 || options.every < 1) {
        usage();
    }
    if (options.connections > options.count) {
        options.connections = options.count;
    }
}

int main(int argc, char **argv)
{
    options_read(argc, argv);
    set_up();
    if (options.wait) {
        /* Whoever started us looks at the clocks and then says go. */
        puts("ready");
        fflush(stdout);
        if (getchar() == EOF) {
            return 2;
        }
    }
    run();
    load_report_print(&report);
    return 0;
}
