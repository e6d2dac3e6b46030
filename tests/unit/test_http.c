/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "http_calls.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <apr_general.h>
#include <apr_strings.h>
#include <curl/curl.h>
#include <malloc.h>
#include <openssl/crypto.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* A header that is still readable when curl's memory is given back was not cleansed. */
static const char secret_header[] = "Authorization: Bearer s3cr3t";
static atomic_int readable_headers;

/* OpenSSL has no memory for pieces as large as an answer's: there is none. */
static atomic_bool without_memory;

static void *take(size_t size, const char *file, int line)
{
    (void)file;
    (void)line;
    return size >= 4096 && atomic_load(&without_memory) ? NULL : malloc(size);
}

static void watch_free(void *memory)
{
    size_t len = sizeof(secret_header) - 1;

    if (memory && malloc_usable_size(memory) >= len && memcmp(memory, secret_header, len) == 0)
        atomic_fetch_add(&readable_headers, 1);
    free(memory);
}

static void get_is_answered(void **state)
{
    http_answer_t answer = call_path(call_plain_client(1), "/ok?a=b");

    (void)state;
    call_assert_hello(answer);
    assert_string_equal(answer.content_type, "text/\\x22x\\x5cy\\x22");
    assert_string_equal(answer.failure_text, "");
    assert_int_equal(answer.retry_after, 0);
    assert_true(answer.duration > 0 && answer.duration < apr_time_from_sec(10));
    assert_int_equal(strncmp(call_server.last, "GET /ok?a=b HTTP/1.1\r\n", 22), 0);
    assert_non_null(strstr(call_server.last, "\r\nUser-Agent: test/1\r\n"));
}

static void post_is_sent_as_given(void **state)
{
    static const char *const headers[] = {secret_header, "Content-Type: application/json", NULL};
    http_request_t request = {
        .url = call_url_of("/echo"), .headers = headers, .body = "a\0b", .body_length = 3, .max_answer = 3};
    http_client_t *client = call_plain_client(1);
    http_answer_t answer;

    (void)state;
    request.deadline = clock_now() + apr_time_from_sec(10);
    assert_int_equal(http_client_call(client, &request, &answer, call_pool), APR_SUCCESS);
    assert_int_equal(answer.status, 201);
    assert_int_equal(answer.body.len, 3);
    assert_memory_equal(answer.body.data, "a\0b", 4);
    assert_int_equal(strncmp(call_server.last, "POST /echo HTTP/1.1\r\n", 21), 0);
    assert_non_null(strstr(call_server.last, "\r\nAuthorization: Bearer s3cr3t\r\n"));
    assert_non_null(strstr(call_server.last, "\r\nContent-Type: application/json\r\n"));
    assert_null(strstr(call_server.last, "Expect"));
    assert_int_equal(atomic_load(&readable_headers), 0);
    request.body_length = 0;
    assert_int_equal(http_client_call(client, &request, &answer, call_pool), APR_SUCCESS);
    assert_int_equal(strncmp(call_server.last, "POST ", 5), 0);
    assert_non_null(strstr(call_server.last, "\r\nContent-Length: 0\r\n"));
    /* Nothing of that is left for the next call. */
    call_assert_hello(call_path(client, "/ok"));
    assert_int_equal(strncmp(call_server.last, "GET ", 4), 0);
    assert_null(strstr(call_server.last, "Authorization"));
}

/* curl asks for leave ("Expect: 100-continue") before a body of more than a megabyte, older ones before one kilobyte. */
static void large_post_waits_for_no_continue(void **state)
{
    enum { MUCH = 1100000 };
    http_request_t request = {.url = call_url_of("/ok"), .body_length = MUCH, .max_answer = 100};
    char *body = apr_palloc(call_pool, MUCH);
    http_answer_t answer;

    (void)state;
    memset(body, 'b', MUCH);
    request.body = body;
    request.deadline = clock_now() + apr_time_from_sec(10);
    assert_int_equal(http_client_call(call_plain_client(1), &request, &answer, call_pool), APR_SUCCESS);
    call_assert_hello(answer);
    assert_non_null(strstr(call_server.last, "Content-Length: 1100000\r\n"));
    assert_null(strstr(call_server.last, "Expect"));
}

/* Sizes at which a buffer that doubles is exactly full. */
static void body_is_ended_by_nul(void **state)
{
    static const int sizes[] = {4095, 4096, 4097, 8192};
    http_client_t *client = call_plain_client(1);
    apr_size_t i;

    (void)state;
    for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        http_request_t request = {.url = call_url_of(apr_psprintf(call_pool, "/size/%d", sizes[i])),
                                  .max_answer = 8192};
        http_answer_t answer;

        request.deadline = clock_now() + apr_time_from_sec(10);
        assert_int_equal(http_client_call(client, &request, &answer, call_pool), APR_SUCCESS);
        assert_int_equal(answer.body.len, sizes[i]);
        assert_int_equal(answer.body.data[sizes[i] - 1], 's');
        assert_int_equal(answer.body.data[sizes[i]], '\0');
    }
}

static void connection_is_used_again(void **state)
{
    http_client_t *client = call_plain_client(4);
    int i;

    (void)state;
    for (i = 0; i < 5; i++)
        call_assert_hello(call_path(client, "/ok"));
    assert_int_equal(atomic_load(&call_server.connections), 1);
}

static void stale_connection_is_replaced(void **state)
{
    http_client_t *client = call_plain_client(1);
    int i;

    (void)state;
    for (i = 1; i <= 3; i++) {
        call_assert_hello(call_path(client, "/impatient"));
        usleep(20000);
    }
    assert_int_equal(atomic_load(&call_server.connections), 3);
    for (i = 1; i <= 3; i++) {
        http_answer_t answer = call_path(client, "/once");

        call_assert_hello(answer);
#if LIBCURL_VERSION_NUM >= 0x075000
        assert_int_equal(answer.resent, i > 1);
#endif
    }
    assert_int_equal(atomic_load(&call_server.requests), 3 + 5);
}

static void what_nobody_asked_for_is_no_answer(void **state)
{
    http_client_t *client = call_plain_client(1);

    (void)state;
    call_assert_hello(call_path(client, "/stray"));
    apr_sleep(apr_time_from_msec(300));
    call_assert_hello(call_path(client, "/ok"));
    call_assert_hello(call_path(client, "/ok"));
    assert_int_equal(atomic_load(&call_server.connections), 2);
}

static void wait_closed(int count)
{
    apr_time_t limit = apr_time_now() + apr_time_from_sec(10);

    while (atomic_load(&call_server.closed) < count && apr_time_now() < limit)
        usleep(2000);
    assert_int_equal(atomic_load(&call_server.closed), count);
}

static void idle_connections_are_closed(void **state)
{
    http_client_t *client = call_plain_client(1);

    (void)state;
    call_assert_hello(call_path(client, "/ok"));
    clock_shift(apr_time_from_sec(59));
    http_client_tidy(client);
    call_assert_hello(call_path(client, "/ok"));
    assert_int_equal(atomic_load(&call_server.connections), 1);
    assert_int_equal(atomic_load(&call_server.closed), 0);
    clock_shift(apr_time_from_sec(120));
    http_client_tidy(client);
    wait_closed(1);
    call_assert_hello(call_path(client, "/ok"));
    assert_int_equal(atomic_load(&call_server.connections), 2);
    clock_shift(0);
}

static void every_status_is_an_answer(void **state)
{
    http_client_t *client = call_plain_client(1);
    http_answer_t answer = call_path(client, "/unknown");

    (void)state;
    call_assert_failure(answer, HTTP_OK);
    assert_int_equal(answer.status, 404);
    answer = call_path(client, "/nothing");
    assert_int_equal(answer.status, 204);
    assert_int_equal(answer.body.len, 0);
    assert_string_equal(answer.content_type, "");
}

static void redirect_is_not_followed_and_no_cookie_kept(void **state)
{
    http_client_t *client = call_plain_client(1);

    (void)state;
    assert_int_equal(call_path(client, "/redirect").status, 302);
    assert_int_equal(atomic_load(&call_server.requests), 1);
    call_assert_hello(call_path(client, "/ok"));
    assert_null(strstr(call_server.last, "Cookie"));
}

static void answer_size_is_limited(void **state)
{
    http_client_t *client = call_plain_client(1);
    http_answer_t answer = call_path(client, "/size/1000");

    (void)state;
    call_assert_failure(answer, HTTP_OK);
    assert_int_equal(answer.body.len, 1000);
    call_assert_failure(call_path(client, "/size/1001"), HTTP_FAILED_TOO_LARGE);
    call_assert_failure(call_path(client, "/size/9000"), HTTP_FAILED_TOO_LARGE);
    call_assert_failure(call_path(client, "/endless"), HTTP_FAILED_TOO_LARGE);
    call_assert_failure(call_path(client, "/headers"), HTTP_FAILED_TOO_LARGE);
    call_assert_hello(call_path(client, "/ok"));
}

static void missing_memory_is_not_the_servers_fault(void **state)
{
    http_client_t *client = call_plain_client(1);
    http_answer_t answer;

    (void)state;
    atomic_store(&without_memory, true);
    answer = call_path(client, "/size/1000");
    atomic_store(&without_memory, false);
    call_assert_failure(answer, HTTP_FAILED_INTERNAL);
    assert_string_equal(answer.failure_text, "no memory for the answer");
    call_assert_failure(call_path(client, "/size/1000"), HTTP_OK);
}

static void failures_are_told_apart(void **state)
{
    static const struct {
        const char *path;
        http_failure_t failure;
    } rows[] = {
        {"/drop", HTTP_FAILED_DROPPED},
        {"/partial", HTTP_FAILED_DROPPED},
        {"/headless/200", HTTP_FAILED_DROPPED},
        {"/headless/400", HTTP_FAILED_DROPPED},
        {"/half-headed/200", HTTP_FAILED_DROPPED},
        {"/half-headed/400", HTTP_FAILED_DROPPED},
        {"/garbage", HTTP_FAILED_DROPPED},
        {"/encoded", HTTP_FAILED_DROPPED},
        {"/long-line", HTTP_FAILED_TOO_LARGE},
    };
    http_client_t *client = call_plain_client(1);
    const char *label = "aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffffgggggggggg";
    apr_size_t i;

    (void)state;
    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        call_assert_failure(call_path(client, rows[i].path), rows[i].failure);
    call_assert_failure(call_url(client, apr_psprintf(call_pool, "http://127.0.0.1:%d/", wire_closed_port()),
                                 CALL_PLENTY_MS, call_pool),
                        HTTP_FAILED_CONNECT);
    /* A label of 70 bytes is no name: the resolver refuses it without asking anybody. */
    call_assert_failure(call_url(client, apr_psprintf(call_pool, "http://%s/", label), CALL_PLENTY_MS, call_pool),
                        HTTP_FAILED_RESOLVE);
    call_assert_failure(call_url(client, apr_psprintf(call_pool, "https://127.0.0.1:%d/ok", call_server.port),
                                 CALL_PLENTY_MS, call_pool),
                        HTTP_FAILED_TLS);
    call_assert_failure(call_url(client, "file:///etc/hostname", CALL_PLENTY_MS, call_pool), HTTP_FAILED_INTERNAL);
    call_assert_failure(call_url(client, "ftp://127.0.0.1/", CALL_PLENTY_MS, call_pool), HTTP_FAILED_INTERNAL);
    call_assert_failure(call_url(client, "no url at all", CALL_PLENTY_MS, call_pool), HTTP_FAILED_INTERNAL);
    call_assert_hello(call_path(client, "/ok"));
}

/* libcurl 7.88 would take it for more of the last header of the call before, whose memory it has given back by then. */
static void folded_first_header_is_an_answer_of_no_http(void **state)
{
    http_client_t *client = call_plain_client(1);
    int i;

    (void)state;
    for (i = 0; i < 3; i++) {
        call_assert_hello(call_path(client, "/ok"));
        call_assert_failure(call_path(client, "/folded"), HTTP_FAILED_DROPPED);
    }
    call_assert_hello(call_path(client, "/ok"));
}

static void status_below_100_is_no_answer(void **state)
{
    http_client_t *client = call_plain_client(1);
    http_answer_t answer = call_path(client, "/status/000");

    (void)state;
    call_assert_failure(answer, HTTP_FAILED_DROPPED);
    assert_null(strstr(answer.failure_text, "407"));
    answer = call_path(client, "/status/407");
    call_assert_failure(answer, HTTP_FAILED_PROXY_PASSWORD);
    assert_string_equal(answer.failure_text, "HTTP 407 Proxy Authentication Required");
}

static void every_failure_has_a_name(void **state)
{
    int i, j;

    (void)state;
    for (i = HTTP_OK; i <= HTTP_FAILED_INTERNAL; i++) {
        for (j = HTTP_OK; j < i; j++)
            assert_string_not_equal(http_failure_name((http_failure_t)i), http_failure_name((http_failure_t)j));
    }
    assert_string_equal(http_failure_name(HTTP_FAILED_TIMEOUT), "timed out");
    assert_string_equal(http_failure_name(HTTP_FAILED_CONNECT), "connection refused");
}

static void assert_took(apr_time_t begun, int least_ms, int most_ms)
{
    assert_in_range(apr_time_as_msec(apr_time_now() - begun), least_ms, most_ms);
}

static void deadline_ends_a_call(void **state)
{
    static const char *const paths[] = {"/stall", "/stall-body"};
    http_client_t *client = call_plain_client(1);
    apr_size_t i;

    (void)state;
    for (i = 0; i < 2; i++) {
        apr_time_t begun = apr_time_now();

        call_assert_failure(call_url(client, call_url_of(paths[i]), 300, call_pool), HTTP_FAILED_TIMEOUT);
        assert_took(begun, 280, 2000);
    }
}

static void passed_deadline_sends_nothing(void **state)
{
    http_client_t *client = call_plain_client(1);

    (void)state;
    call_assert_failure(call_url(client, call_url_of("/ok"), 0, call_pool), HTTP_FAILED_TIMEOUT);
    call_assert_failure(call_url(client, call_url_of("/ok"), -5000, call_pool), HTTP_FAILED_TIMEOUT);
    assert_int_equal(atomic_load(&call_server.connections), 0);
    call_assert_hello(call_path(client, "/ok"));
}

static void retry_after_is_read(void **state)
{
    static const struct {
        const char *path;
        int least, most; /* seconds */
    } rows[] = {
        {"/retry/7", 7, 7},    {"/retry/0", 0, 0},  {"/retry/3600", 3600, 3600}, {"/retry/99999", 3600, 3600},
        {"/retry/soon", 0, 0}, {"/retry/-5", 0, 0}, {"/retry/date", 100, 121},
    };
    http_client_t *client = call_plain_client(1);
    apr_size_t i;

    (void)state;
    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        http_answer_t answer = call_path(client, rows[i].path);

        call_assert_failure(answer, HTTP_OK);
        assert_int_equal(answer.status, 503);
        if (answer.retry_after < apr_time_from_sec(rows[i].least) ||
            answer.retry_after > apr_time_from_sec(rows[i].most))
            fail_msg("%s gives %ld s", rows[i].path, (long)apr_time_sec(answer.retry_after));
    }
}

/* Calls from other threads */

typedef struct caller_t {
    pthread_t thread;
    http_client_t *client;
    const char *url;
    int milliseconds;
    http_answer_t answer;
    apr_pool_t *pool;
} caller_t;

static void *call_in_thread(void *data)
{
    caller_t *caller = data;
    http_request_t request = {.url = caller->url, .max_answer = 1000};

    request.deadline = clock_now() + (apr_time_t)caller->milliseconds * 1000;
    http_client_call(caller->client, &request, &caller->answer, caller->pool);
    return NULL;
}

static void caller_start(caller_t *caller, http_client_t *client, const char *path, int milliseconds)
{
    memset(caller, 0, sizeof(*caller));
    caller->client = client;
    caller->url = call_url_of(path);
    caller->milliseconds = milliseconds;
    assert_int_equal(apr_pool_create(&caller->pool, NULL), APR_SUCCESS);
    assert_int_equal(pthread_create(&caller->thread, NULL, call_in_thread, caller), 0);
}

static void wait_requests(int count)
{
    int i;

    for (i = 0; i < 500 && atomic_load(&call_server.requests) < count; i++)
        usleep(10000);
    assert_int_equal(atomic_load(&call_server.requests), count);
}

static void handles_are_bounded(void **state)
{
    http_client_t *client = call_plain_client(2);
    caller_t callers[4];
    int i;

    (void)state;
    for (i = 0; i < 4; i++)
        caller_start(&callers[i], client, "/slow", CALL_PLENTY_MS);
    for (i = 0; i < 4; i++) {
        pthread_join(callers[i].thread, NULL);
        call_assert_hello(callers[i].answer);
        apr_pool_destroy(callers[i].pool);
    }
    assert_int_equal(atomic_load(&call_server.most_running), 2);
    assert_int_equal(atomic_load(&call_server.connections), 2);
}

static void waiting_for_a_handle_ends_at_the_deadline(void **state)
{
    http_client_t *client = call_plain_client(1);
    apr_time_t begun;
    caller_t other;

    (void)state;
    caller_start(&other, client, "/stall", 1500);
    wait_requests(1);
    begun = apr_time_now();
    call_assert_failure(call_url(client, call_url_of("/ok"), 200, call_pool), HTTP_FAILED_TIMEOUT);
    assert_took(begun, 190, 900);
    assert_int_equal(atomic_load(&call_server.requests), 1);
    pthread_join(other.thread, NULL);
    apr_pool_destroy(other.pool);
    call_assert_hello(call_path(client, "/ok"));
}

static void stop_ends_running_waiting_and_later_calls(void **state)
{
    http_client_t *client = call_plain_client(1);
    caller_t running, waiting;
    apr_time_t begun;

    (void)state;
    caller_start(&running, client, "/stall", CALL_PLENTY_MS);
    wait_requests(1);
    caller_start(&waiting, client, "/ok", CALL_PLENTY_MS);
    usleep(50000);
    begun = apr_time_now();
    http_client_stop(client);
    pthread_join(waiting.thread, NULL);
    assert_took(begun, 0, 500);
    pthread_join(running.thread, NULL);
    assert_took(begun, 0, 2500);
    call_assert_failure(running.answer, HTTP_FAILED_STOPPED);
    call_assert_failure(waiting.answer, HTTP_FAILED_STOPPED);
    assert_string_equal(running.answer.failure_text, "this process ends");
    assert_string_equal(waiting.answer.failure_text, "this process ends");
    call_assert_failure(call_path(client, "/ok"), HTTP_FAILED_STOPPED);
    assert_int_equal(atomic_load(&call_server.requests), 1);
    apr_pool_destroy(running.pool);
    apr_pool_destroy(waiting.pool);
}

static void end_of_the_pool_waits_for_calls(void **state)
{
    http_settings_t settings = {.max_handles = 1};
    http_client_t *client = NULL;
    const char *message = NULL;
    apr_pool_t *own = NULL;
    caller_t running;

    (void)state;
    apr_pool_create(&own, NULL);
    assert_int_equal(http_client_make(&client, &settings, own, &message), APR_SUCCESS);
    caller_start(&running, client, "/stall", CALL_PLENTY_MS);
    wait_requests(1);
    apr_pool_destroy(own);
    pthread_join(running.thread, NULL);
    call_assert_failure(running.answer, HTTP_FAILED_STOPPED);
    apr_pool_destroy(running.pool);
}

static void settings_are_checked(void **state)
{
    http_settings_t none = {.max_handles = 0}, no_file = {.max_handles = 1, .ca_file = "/nonexistent/ca.pem"};
    http_client_t *client = NULL;
    const char *message = NULL;

    (void)state;
    assert_int_not_equal(http_client_make(&client, &none, call_pool, &message), APR_SUCCESS);
    assert_non_null(message);
    assert_int_not_equal(http_client_make(&client, &no_file, call_pool, &message), APR_SUCCESS);
    assert_non_null(strstr(message, "/nonexistent/ca.pem"));
    assert_null(client);
}

static const char *file_with(const char *text)
{
    const char *path = apr_psprintf(call_pool, "/tmp/iscep-http-%d.pem", (int)getpid());
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    return path;
}

static void files_are_checked(void **state)
{
    static const char *const texts[] = {
        "", "nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ("-----BEGIN ENCRYPTED PRIVATE " "KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n")};
    const char *path = NULL, *message;
    apr_size_t i;

    (void)state;
    for (i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        path = file_with(texts[i]);
        message = NULL;
        assert_int_not_equal(http_trust_check(path, call_pool, &message), APR_SUCCESS);
        assert_non_null(strstr(message, path));
        message = NULL;
        assert_int_not_equal(http_certificate_check(path, call_pool, &message), APR_SUCCESS);
        assert_non_null(strstr(message, path));
    }
    unlink(path);
    assert_int_not_equal(http_trust_check("/nonexistent", call_pool, &message), APR_SUCCESS);
    assert_non_null(strstr(message, "/nonexistent cannot be read"));
    assert_int_not_equal(http_certificate_check("/tmp", call_pool, &message), APR_SUCCESS);
    assert_true(http_proxy_is_possible("http://proxy.example.com:3128"));
}

#define HTTP_TEST(function) cmocka_unit_test_setup_teardown(function, call_begin, call_end)

static int run(void)
{
    const struct CMUnitTest tests[] = {
        HTTP_TEST(get_is_answered),
        HTTP_TEST(post_is_sent_as_given),
        HTTP_TEST(large_post_waits_for_no_continue),
        HTTP_TEST(body_is_ended_by_nul),
        HTTP_TEST(connection_is_used_again),
        HTTP_TEST(stale_connection_is_replaced),
        HTTP_TEST(what_nobody_asked_for_is_no_answer),
        HTTP_TEST(idle_connections_are_closed),
        HTTP_TEST(every_status_is_an_answer),
        HTTP_TEST(redirect_is_not_followed_and_no_cookie_kept),
        HTTP_TEST(answer_size_is_limited),
        HTTP_TEST(missing_memory_is_not_the_servers_fault),
        HTTP_TEST(failures_are_told_apart),
        HTTP_TEST(folded_first_header_is_an_answer_of_no_http),
        HTTP_TEST(status_below_100_is_no_answer),
        HTTP_TEST(every_failure_has_a_name),
        HTTP_TEST(deadline_ends_a_call),
        HTTP_TEST(passed_deadline_sends_nothing),
        HTTP_TEST(retry_after_is_read),
        HTTP_TEST(handles_are_bounded),
        HTTP_TEST(waiting_for_a_handle_ends_at_the_deadline),
        HTTP_TEST(stop_ends_running_waiting_and_later_calls),
        HTTP_TEST(end_of_the_pool_waits_for_calls),
        HTTP_TEST(settings_are_checked),
        HTTP_TEST(files_are_checked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(void)
{
    int failed;

    call_forget_proxies();
    /* Before anything else of OpenSSL's. */
    if (CRYPTO_set_mem_functions(take, NULL, NULL) != 1)
        return 1;
    if (curl_global_init_mem(CURL_GLOBAL_DEFAULT, malloc, watch_free, realloc, strdup, calloc) != 0)
        return 1;
    apr_initialize();
    failed = http_global_init() == APR_SUCCESS ? run() : 1;
    curl_global_cleanup();
    curl_global_cleanup();
    apr_terminate();
    return failed;
}
