/* SPDX-License-Identifier: Apache-2.0 */
/* An HTTP answer as bytes on the wire, status line, Retry-After and all, from a server in a thread of this process. */
#include "fuzz.h"

#include "base/clock.h"
#include "base/http.h"

#include <apr_strings.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ANSWER_MAX = 1000, REQUEST_ROOM = 2048 };

static int listener = -1;
/* What the next connection gets: written before the call, read after accept(), and done with at `served`. */
static bytes_t answer_bytes;
static sem_t served;

static void request_read(int connection)
{
    char request[REQUEST_ROOM];
    ssize_t got = 0;
    size_t length = 0;
    while (length < sizeof(request) - 1 && (got = read(connection, request + length, sizeof(request) - 1 - length)) > 0) {
        length += (size_t)got;
        request[length] = '\0';
        if (strstr(request, "\r\n\r\n")) {
            return;
        }
    }
}

static void *serve(void *unused)
{
    for (;;) {
        int connection = accept(listener, NULL, NULL);
        if (connection < 0) {
            return unused;
        }
        request_read(connection);
        size_t sent = 0;
        ssize_t put = 0;
        while (sent < answer_bytes.len &&
               (put = send(connection, answer_bytes.data + sent, answer_bytes.len - sent, MSG_NOSIGNAL)) > 0) {
            sent += (size_t)put;
        }
        close(connection);
        sem_post(&served);
    }
}

static const char *server_start(void)
{
    static char url[64];
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof(address);
    pthread_t thread;
    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    fuzz_check(listener >= 0 && !bind(listener, (struct sockaddr *)&address, sizeof(address)));
    fuzz_check(!listen(listener, 8) && !getsockname(listener, (struct sockaddr *)&address, &length));
    apr_snprintf(url, sizeof(url), "http://127.0.0.1:%d/", ntohs(address.sin_port));
    fuzz_check(!sem_init(&served, 0, 0) && http_global_init() == APR_SUCCESS);
    fuzz_check(!pthread_create(&thread, NULL, serve, NULL));
    return url;
}

static void answer_check(const http_answer_t *answer, apr_status_t rv, const fuzz_t *fuzz)
{
    fuzz_check((rv == APR_SUCCESS) == (answer->failure == HTTP_OK));
    fuzz_check(answer->failure_text && answer->content_type && answer->body.data);
    fuzz_check(!*answer->failure_text == (answer->failure == HTTP_OK));
    fuzz_check(answer->body.len <= ANSWER_MAX && answer->body.data[answer->body.len] == '\0');
    fuzz_check(answer->body.len <= fuzz->rest.len);
    fuzz_check(answer->retry_after >= 0 && answer->retry_after <= apr_time_from_sec(3600));
    fuzz_check(answer->failure == HTTP_OK ? answer->status >= 100 && answer->status <= 999 : answer->status == 0);
    for (const char *c = answer->content_type; *c; c++) {
        fuzz_check(*c >= ' ' && *c <= '~');
    }
    fuzz_check(*http_failure_name(answer->failure) && http_failure_remedy(answer->failure));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *url;
    fuzz_t *fuzz = fuzz_begin(data, size);
    http_settings_t settings = {.proxy = "", .max_handles = 1};
    http_request_t request = {.user_agent = "fuzzer", .max_answer = ANSWER_MAX, .keep_headers = true};
    http_client_t *client = NULL;
    http_answer_t answer;
    const char *message = NULL;

    if (!url) {
        url = server_start();
    }
    answer_bytes = fuzz->rest;
    request.url = url;
    /* far away, so that a process that is stopped and goes on later still connects: the server ends each call */
    request.deadline = clock_now() + apr_time_from_sec(86400);
    fuzz_check(http_client_make(&client, &settings, fuzz->pool, &message) == APR_SUCCESS);
    apr_status_t rv = http_client_call(client, &request, &answer, fuzz->pool);
    answer_check(&answer, rv, fuzz);
    /* one call is one connection */
    sem_wait(&served);
    return fuzz_end(fuzz);
}
