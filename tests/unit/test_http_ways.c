/* SPDX-License-Identifier: Apache-2.0 */
/* base/http.h over proxies and TLS; test_http.c has the rest. */
#include "http_calls.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <apr_general.h>
#include <apr_strings.h>
#include <arpa/inet.h>
#include <curl/curl.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static char folder[] = "/tmp/iscep-http-XXXXXX";

/* Proxies */

static const char *proxy_url(void)
{
    return apr_psprintf(call_pool, "http://127.0.0.1:%d", call_server.port);
}

static void proxy_is_used_in_spite_of_the_environment(void **state)
{
    http_settings_t settings = {.max_handles = 1, .proxy = proxy_url()};

    (void)state;
    setenv("no_proxy", "*", 1);
    call_assert_hello(call_url(call_client(&settings), "http://127.0.0.1:1/ok", CALL_PLENTY_MS, call_pool));
    unsetenv("no_proxy");
    assert_int_equal(strncmp(call_server.last, "GET http://127.0.0.1:1/ok HTTP/1.1\r\n", 36), 0);
}

static void environment_is_honoured_unless_told(void **state)
{
    http_settings_t direct = {.max_handles = 1, .proxy = ""};

    (void)state;
    setenv("http_proxy", proxy_url(), 1);
    call_assert_hello(call_url(call_plain_client(1), "http://127.0.0.1:1/ok", CALL_PLENTY_MS, call_pool));
    call_assert_failure(call_url(call_client(&direct), "http://127.0.0.1:1/ok", CALL_PLENTY_MS, call_pool),
                        HTTP_FAILED_CONNECT);
    setenv("no_proxy", "127.0.0.1", 1);
    call_assert_failure(call_url(call_plain_client(1), "http://127.0.0.1:1/ok", CALL_PLENTY_MS, call_pool),
                        HTTP_FAILED_CONNECT);
    unsetenv("no_proxy");
    setenv("http_proxy", apr_psprintf(call_pool, "http://127.0.0.1:%d", wire_closed_port()), 1);
    call_assert_failure(call_url(call_plain_client(1), "http://127.0.0.1:1/ok", CALL_PLENTY_MS, call_pool),
                        HTTP_FAILED_PROXY);
    unsetenv("http_proxy");
}

/* Such as one whose password has characters in it that end a URL's authority. */
static void no_password_of_an_environments_proxy_is_told(void **state)
{
    static const char *const proxies[] = {"http://user:word/secret@127.0.0.1:1", "http://user:secret#word@127.0.0.1:1",
                                          "http://user:secret@127.0.0.1:port", "foo://user:secret@127.0.0.1:1",
                                          "http://user:secret word@127.0.0.1:1"};
    apr_size_t i;

    (void)state;
    for (i = 0; i < sizeof(proxies) / sizeof(proxies[0]); i++) {
        http_answer_t answer;

        setenv("http_proxy", proxies[i], 1);
        answer = call_url(call_plain_client(1), "http://127.0.0.1:1/ok", CALL_PLENTY_MS, call_pool);
        unsetenv("http_proxy");
        call_assert_failure(answer, HTTP_FAILED_PROXY);
        if (strstr(answer.failure_text, "secret"))
            fail_msg("%s: %s", proxies[i], answer.failure_text);
    }
}

static void proxy_gets_its_password(void **state)
{
    http_settings_t settings = {.max_handles = 1, .proxy = proxy_url(), .proxy_user = "user"};
    const char *message = NULL;

    (void)state;
    assert_int_equal(secret_source_make(&settings.proxy_password, "pass:word", call_pool, &message), APR_SUCCESS);
    call_assert_hello(call_url(call_client(&settings), "http://127.0.0.1:1/password", CALL_PLENTY_MS, call_pool));
    assert_null(call_path(call_client(&settings), "/ok").headers);
    settings.proxy_user = NULL;
    call_assert_failure(call_url(call_client(&settings), "http://127.0.0.1:1/password", CALL_PLENTY_MS, call_pool),
                        HTTP_FAILED_PROXY_PASSWORD);
    settings.proxy_user = "user";
    call_assert_hello(call_url(call_client(&settings), "http://127.0.0.1:1/password", CALL_PLENTY_MS, call_pool));
    /* user:pass:word */
    assert_non_null(strstr(call_server.last, "\r\nProxy-Authorization: Basic dXNlcjpwYXNzOndvcmQ=\r\n"));
    /* us%65r:p%41:w is no other's, though libcurl would decode it. */
    settings.proxy_user = "us%65r";
    assert_int_equal(secret_source_make(&settings.proxy_password, "p%41:w", call_pool, &message), APR_SUCCESS);
    call_assert_hello(call_url(call_client(&settings), "http://127.0.0.1:1/password", CALL_PLENTY_MS, call_pool));
    assert_non_null(strstr(call_server.last, "\r\nProxy-Authorization: Basic dXMlNjVyOnAlNDE6dw==\r\n"));
}

static void proxy_failures_are_the_proxys(void **state)
{
    http_settings_t settings = {.max_handles = 1, .proxy = proxy_url()};
    http_client_t *client = call_client(&settings);
    http_answer_t answer;

    (void)state;
    call_assert_failure(call_url(client, "https://127.0.0.1:1/", CALL_PLENTY_MS, call_pool), HTTP_FAILED_PROXY);
    call_assert_failure(call_url(client, "https://127.0.0.1:2/", CALL_PLENTY_MS, call_pool),
                        HTTP_FAILED_PROXY_PASSWORD);
    /* It says nothing to this one. */
    answer = call_url(client, "https://127.0.0.1:3/", 300, call_pool);
    call_assert_failure(answer, HTTP_FAILED_TIMEOUT);
    assert_non_null(strstr(answer.failure_text, "waiting for the proxy; see IntuneScepHTTPProxy"));
    assert_null(strstr(call_url(client, "http://127.0.0.1:1/stall", 300, call_pool).failure_text, "proxy"));
    settings.proxy = apr_psprintf(call_pool, "http://127.0.0.1:%d", wire_closed_port());
    call_assert_failure(call_url(call_client(&settings), "http://127.0.0.1:1/", CALL_PLENTY_MS, call_pool),
                        HTTP_FAILED_PROXY);
}

/* TLS */

static SSL_CTX *tls_server(const char *address, const char *file)
{
    const char *path = apr_pstrcat(call_pool, folder, "/", file, NULL);
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *certificate = X509_new();
    X509_EXTENSION *name =
        X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, apr_pstrcat(call_pool, "IP:", address, NULL));
    FILE *stream = fopen(path, "w");

    assert_true(context && key && certificate && name && stream);
    X509_set_version(certificate, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
    X509_gmtime_adj(X509_getm_notBefore(certificate), -60);
    X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate), "CN", MBSTRING_ASC, (const unsigned char *)"test",
                               -1, -1, 0);
    X509_set_issuer_name(certificate, X509_get_subject_name(certificate));
    X509_set_pubkey(certificate, key);
    X509_add_ext(certificate, name, -1);
    assert_true(X509_sign(certificate, key, EVP_sha256()) > 0);
    assert_int_equal(SSL_CTX_use_certificate(context, certificate), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(context, key), 1);
    assert_int_equal(PEM_write_X509(stream, certificate), 1);
    assert_int_equal(PEM_write_PrivateKey(stream, key, NULL, NULL, 0, NULL, NULL), 1);
    fclose(stream);
    X509_EXTENSION_free(name);
    X509_free(certificate);
    EVP_PKEY_free(key);
    return context;
}

static const char *in_folder(const char *file)
{
    return apr_pstrcat(call_pool, folder, "/", file, NULL);
}

static http_answer_t call_tls(SSL_CTX *context, const http_settings_t *settings)
{
    http_answer_t answer;

    wire_server_stop(&call_server);
    assert_int_equal(wire_server_start(&call_server, context), 0);
    answer = call_path(call_client(settings), "/ok");
    /* Its thread goes before the context does. */
    wire_server_stop(&call_server);
    SSL_CTX_free(context);
    assert_int_equal(wire_server_start(&call_server, NULL), 0);
    return answer;
}

typedef struct dropper_t {
    int socket;
    bool resets;
} dropper_t;

static void *drop_one(void *data)
{
    static const struct linger at_once = {1, 0};
    const dropper_t *dropper = data;
    char bytes[4096];
    int connection = accept(dropper->socket, NULL, NULL);

    /* Not before the handshake has begun: until then it would be a connection that is refused. */
    (void)!recv(connection, bytes, sizeof(bytes), 0);
    if (dropper->resets)
        setsockopt(connection, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
    close(connection);
    return NULL;
}

/* A load balancer that restarts, or a firewall: it may go better in a moment, unlike with a TLS that does not fit. */
static void dropped_handshake_is_a_dropped_connection(void **state)
{
    static const dropper_t kinds[] = {{0, true}, {0, false}};
    http_client_t *client = call_plain_client(1);
    apr_size_t i;

    (void)state;
    for (i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t length = sizeof(address);
        dropper_t dropper = kinds[i];
        pthread_t thread;

        dropper.socket = socket(AF_INET, SOCK_STREAM, 0);
        assert_int_equal(bind(dropper.socket, (struct sockaddr *)&address, length), 0);
        assert_int_equal(listen(dropper.socket, 1), 0);
        assert_int_equal(getsockname(dropper.socket, (struct sockaddr *)&address, &length), 0);
        assert_int_equal(pthread_create(&thread, NULL, drop_one, &dropper), 0);
        call_assert_failure(call_url(client,
                                     apr_psprintf(call_pool, "https://127.0.0.1:%d/", ntohs(address.sin_port)),
                                     CALL_PLENTY_MS, call_pool),
                            HTTP_FAILED_DROPPED);
        pthread_join(thread, NULL);
        close(dropper.socket);
    }
}

static void tls_is_verified(void **state)
{
    http_settings_t trusting = {.max_handles = 1, .ca_file = in_folder("ca.pem")}, plain = {.max_handles = 1};
    SSL_CTX *good = tls_server("127.0.0.1", "ca.pem");

    (void)state;
    call_assert_hello(call_tls(good, &trusting));
    call_assert_failure(call_tls(tls_server("127.0.0.1", "other.pem"), &trusting), HTTP_FAILED_UNTRUSTED);
    call_assert_failure(call_tls(tls_server("127.0.0.1", "other.pem"), &plain), HTTP_FAILED_UNTRUSTED);
    call_assert_failure(call_tls(tls_server("127.0.0.2", "ca.pem"), &trusting), HTTP_FAILED_UNTRUSTED);
}

static void what_nobody_asked_for_is_no_answer_over_tls(void **state)
{
    http_settings_t trusting = {.max_handles = 1, .ca_file = in_folder("ca.pem")};
    SSL_CTX *context = tls_server("127.0.0.1", "ca.pem");
    http_client_t *client = call_client(&trusting);

    (void)state;
    wire_server_stop(&call_server);
    assert_int_equal(wire_server_start(&call_server, context), 0);
    call_assert_hello(call_path(client, "/ok"));
    call_assert_hello(call_path(client, "/ok"));
    assert_int_equal(atomic_load(&call_server.connections), 1);
    call_assert_hello(call_path(client, "/packed"));
    call_assert_hello(call_path(client, "/ok"));
    assert_int_equal(atomic_load(&call_server.connections), 2);
    wire_server_stop(&call_server);
    SSL_CTX_free(context);
    assert_int_equal(wire_server_start(&call_server, NULL), 0);
}

static void tls_is_at_least_1_2(void **state)
{
    http_settings_t trusting = {.max_handles = 1, .ca_file = in_folder("ca.pem")};
    SSL_CTX *old = tls_server("127.0.0.1", "ca.pem"), *enough;

    (void)state;
    SSL_CTX_set_cipher_list(old, "ALL:@SECLEVEL=0");
    SSL_CTX_set_min_proto_version(old, TLS1_VERSION);
    SSL_CTX_set_max_proto_version(old, TLS1_1_VERSION);
    call_assert_failure(call_tls(old, &trusting), HTTP_FAILED_TLS);
    enough = tls_server("127.0.0.1", "ca.pem");
    SSL_CTX_set_max_proto_version(enough, TLS1_2_VERSION);
    call_assert_hello(call_tls(enough, &trusting));
}

static int accept_any(int preverified, X509_STORE_CTX *context)
{
    (void)preverified;
    (void)context;
    return 1;
}

static void client_certificate_is_presented(void **state)
{
    http_settings_t with = {
        .max_handles = 1, .ca_file = in_folder("ca.pem"), .client_certificate = in_folder("me.pem")};
    http_settings_t without = {.max_handles = 1, .ca_file = in_folder("ca.pem")};
    http_failure_t refused;
    SSL_CTX *context;

    (void)state;
    SSL_CTX_free(tls_server("127.0.0.9", "me.pem"));
    context = tls_server("127.0.0.1", "ca.pem");
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, accept_any);
    SSL_CTX_up_ref(context);
    call_assert_hello(call_tls(context, &with));
    SSL_CTX_up_ref(context);
    /* With TLS 1.3 the alert comes behind the handshake, and the end of the connection may overtake it. */
    refused = call_tls(context, &without).failure;
    assert_true(refused == HTTP_FAILED_CLIENT_CERTIFICATE || refused == HTTP_FAILED_DROPPED);
    SSL_CTX_set_max_proto_version(context, TLS1_2_VERSION);
    call_assert_failure(call_tls(context, &without), HTTP_FAILED_TLS);
}

static int end(void **state)
{
    static const char *const names[] = {"ca.pem", "other.pem", "me.pem"};
    apr_size_t i;

    for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        unlink(in_folder(names[i]));
    return call_end(state);
}

#define HTTP_TEST(function) cmocka_unit_test_setup_teardown(function, call_begin, end)

static int run(void)
{
    const struct CMUnitTest tests[] = {
        HTTP_TEST(proxy_is_used_in_spite_of_the_environment),
        HTTP_TEST(environment_is_honoured_unless_told),
        HTTP_TEST(no_password_of_an_environments_proxy_is_told),
        HTTP_TEST(proxy_gets_its_password),
        HTTP_TEST(proxy_failures_are_the_proxys),
        HTTP_TEST(dropped_handshake_is_a_dropped_connection),
        HTTP_TEST(tls_is_verified),
        HTTP_TEST(what_nobody_asked_for_is_no_answer_over_tls),
        HTTP_TEST(tls_is_at_least_1_2),
        HTTP_TEST(client_certificate_is_presented),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(void)
{
    int failed;

    call_forget_proxies();
    /* The server's OpenSSL writes to connections that the client has closed. */
    signal(SIGPIPE, SIG_IGN);
    if (!mkdtemp(folder))
        return 1;
    apr_initialize();
    failed = http_global_init() == APR_SUCCESS ? run() : 1;
    curl_global_cleanup();
    apr_terminate();
    return rmdir(folder) != 0 || failed;
}
