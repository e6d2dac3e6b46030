/* SPDX-License-Identifier: Apache-2.0 */
#include "http_calls.h"

#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <apr_strings.h>
#include <stdlib.h>

apr_pool_t *call_pool;
wire_server_t call_server;

int call_begin(void **state)
{
    (void)state;
    return apr_pool_create(&call_pool, NULL) != APR_SUCCESS || wire_server_start(&call_server, NULL) != 0;
}

int call_end(void **state)
{
    (void)state;
    apr_pool_destroy(call_pool);
    wire_server_stop(&call_server);
    return 0;
}

void call_forget_proxies(void)
{
    static const char *const names[] = {"http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy",
                                        "ALL_PROXY",  "no_proxy",    "NO_PROXY"};
    apr_size_t i;

    for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        unsetenv(names[i]);
}

http_client_t *call_client(const http_settings_t *settings)
{
    http_client_t *client = NULL;
    const char *message = NULL;

    if (http_client_make(&client, settings, call_pool, &message) != APR_SUCCESS)
        fail_msg("no client: %s", message);
    return client;
}

http_client_t *call_plain_client(int handles)
{
    http_settings_t settings = {.max_handles = handles};

    return call_client(&settings);
}

const char *call_url_of(const char *path)
{
    return apr_psprintf(call_pool, "%s://127.0.0.1:%d%s", call_server.tls ? "https" : "http", call_server.port, path);
}

http_answer_t call_url(http_client_t *client, const char *url, int milliseconds, apr_pool_t *p)
{
    http_request_t request = {.url = url, .user_agent = "test/1", .max_answer = 1000};
    http_answer_t answer;
    apr_status_t rv;

    request.deadline = clock_now() + (apr_time_t)milliseconds * 1000;
    rv = http_client_call(client, &request, &answer, p);
    assert_int_equal(rv == APR_SUCCESS, answer.failure == HTTP_OK);
    assert_non_null(answer.failure_text);
    assert_non_null(answer.content_type);
    assert_non_null(answer.body.data);
    assert_int_equal(answer.body.data[answer.body.len], '\0');
    if (answer.failure != HTTP_OK) {
        assert_int_equal(answer.status, 0);
        assert_int_equal(answer.body.len, 0);
        assert_string_not_equal(answer.failure_text, "");
    }
    return answer;
}

http_answer_t call_path(http_client_t *client, const char *path)
{
    return call_url(client, call_url_of(path), CALL_PLENTY_MS, call_pool);
}

void call_assert_failure(http_answer_t answer, http_failure_t expected)
{
    if (answer.failure != expected)
        fail_msg("got '%s' (%s), status %d; expected '%s'", http_failure_name(answer.failure), answer.failure_text,
                 answer.status, http_failure_name(expected));
}

void call_assert_hello(http_answer_t answer)
{
    call_assert_failure(answer, HTTP_OK);
    assert_int_equal(answer.status, 200);
    assert_string_equal((const char *)answer.body.data, "hello");
    assert_int_equal(answer.body.len, 5);
}
