/* SPDX-License-Identifier: Apache-2.0 */
/* Where Intune's SCEP service is: what Graph says of it, how long that holds, and how a service that moved is found. */
#include "intune_bed.h"

#include "base/clock.h"

#include <apr_general.h>
#include <apr_strings.h>

#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static void ok_moved_service_is_found_in_the_same_call(void **state)
{
    bed_t *bed = *state;
    assert_int_equal(bed_validate(bed), APR_SUCCESS);
    fixture_on(bed->server, "/svc/", NULL, -1, (fixture_reply_t){404, NULL, "", 0, 0, false});
    bed_endpoints(bed, "serviceName", "sCEPrequestvalidationFEService",
                  apr_pstrcat(bed->pool, fixture_url(bed->server), "new/", NULL));
    assert_int_equal(bed_validate(bed), APR_SUCCESS);
    assert_int_equal(fixture_count(bed->server, BED_GRAPH_PATH, NULL), 2);
    assert_int_equal(fixture_count(bed->server, "/new/ScepActions/validateRequest", NULL), 1);
    assert_int_equal(bed_logged(bed, "ISCEP0304"), 1);
    /* and stays found */
    assert_int_equal(bed_validate(bed), APR_SUCCESS);
    assert_int_equal(fixture_count(bed->server, BED_GRAPH_PATH, NULL), 2);
    assert_int_equal(fixture_count(bed->server, "/svc/", NULL), 2);
}

static void ok_refused_connection_is_looked_up_again(void **state)
{
    bed_t *bed = *state;
    bed_endpoints(bed, "providerName", BED_SERVICE,
                  apr_psprintf(bed->pool, "http://127.0.0.1:%d/svc", fixture_closed_port()));
    apr_status_t rv = bed_validate(bed);
    bed_check(bed, "refused", rv, PROBLEM_INTUNE_UNREACHABLE, NULL, "connection refused");
    assert_int_equal(fixture_count(bed->server, BED_GRAPH_PATH, NULL), 2);
    bed_endpoints(bed, "providerName", BED_SERVICE, apr_pstrcat(bed->pool, fixture_url(bed->server), "svc", NULL));
    clock_shift(apr_time_from_sec(61));
    assert_int_equal(bed_validate(bed), APR_SUCCESS);
}

enum { QUEUE = 4 };

/* A port whose queue is full, so that nobody answers who wants to connect. Gives the sockets to close. */
static int silent_port(int sockets[QUEUE])
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    sockets[0] = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(sockets[0], (struct sockaddr *)&address, len), 0);
    assert_int_equal(listen(sockets[0], 0), 0);
    assert_int_equal(getsockname(sockets[0], (struct sockaddr *)&address, &len), 0);
    for (int i = 1; i < QUEUE; i++) {
        sockets[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        (void)connect(sockets[i], (struct sockaddr *)&address, len);
    }
    return ntohs(address.sin_port);
}

/* Where nobody answers any more, there is time left to ask Graph and to call the new place. */
static void ok_silent_place_is_looked_up_again(void **state)
{
    bed_t *bed = *state;
    int sockets[QUEUE];
    bed->settings.timeout = apr_time_from_sec(3);
    bed_attach(bed, &bed->settings);
    bed_endpoints(bed, "providerName", BED_SERVICE,
                  apr_psprintf(bed->pool, "http://127.0.0.1:%d/svc", silent_port(sockets)));
    apr_status_t rv = bed_validate(bed);
    bed_check(bed, "silent", rv, PROBLEM_INTUNE_UNREACHABLE, NULL, "timed out");
    assert_int_equal(fixture_count(bed->server, BED_GRAPH_PATH, NULL), 2);
    assert_true(bed->call.duration < apr_time_from_sec(4));
    clock_shift(apr_time_from_sec(61));
    bed_endpoints(bed, "providerName", BED_SERVICE, apr_pstrcat(bed->pool, fixture_url(bed->server), "svc", NULL));
    assert_int_equal(bed_validate(bed), APR_SUCCESS);
    for (int i = 0; i < QUEUE; i++) {
        close(sockets[i]);
    }
}

/* The proxy resolves and connects: that the old place is gone is its answer to CONNECT. Its own refusals are not that. */
static void ok_moved_service_is_found_through_a_proxy(void **state)
{
    static const struct {
        int status;
        bool gone;
    } rows[] = {{500, true}, {502, true}, {503, true}, {504, true}, {404, true}, {403, false}, {407, false}};
    bed_t *bed = *state;
    assert_int_equal(setenv("https_proxy", fixture_url(bed->server), 1), 0);
    bed->settings.http.proxy = NULL;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        fixture_forget(bed->server);
        fixture_on(bed->server, "old.example:443", NULL, -1, (fixture_reply_t){rows[i].status, "", NULL, 0, 0, false});
        bed_endpoints(bed, "providerName", BED_SERVICE, "https://old.example/svc");
        bed->settings.tenant = apr_psprintf(bed->pool, "tenant-1%d", rows[i].status);
        fixture_on(bed->server, apr_psprintf(bed->pool, "/%s/", bed->settings.tenant), NULL, -1,
                   (fixture_reply_t){200, NULL, "{\"access_token\":\"x\"}", 0, 0, false});
        bed_attach(bed, &bed->settings);
        assert_int_not_equal(bed_validate(bed), APR_SUCCESS);
        assert_int_equal(fixture_count(bed->server, BED_GRAPH_PATH, NULL), rows[i].gone ? 2 : 1);
        bed_endpoints(bed, "providerName", BED_SERVICE, apr_pstrcat(bed->pool, fixture_url(bed->server), "svc", NULL));
        clock_shift(apr_time_from_sec(61 * (apr_time_t)(i + 1)));
        assert_int_equal(bed_validate(bed) == APR_SUCCESS, rows[i].gone);
    }
    unsetenv("https_proxy");
}

static void fail_rediscovery_at_most_once_a_minute(void **state)
{
    bed_t *bed = *state;
    fixture_on(bed->server, "/svc/", NULL, -1, (fixture_reply_t){410, NULL, "", 0, 0, false});
    for (int i = 0; i < 3; i++) {
        apr_status_t rv = bed_validate(bed);
        bed_check(bed, "gone", rv, PROBLEM_INTUNE_ANSWER, NULL, "HTTP 410");
    }
    assert_int_equal(fixture_count(bed->server, BED_GRAPH_PATH, NULL), 2);
    clock_shift(apr_time_from_sec(61));
    bed_validate(bed);
    assert_int_equal(fixture_count(bed->server, BED_GRAPH_PATH, NULL), 3);
}

static void ok_old_location_stays_when_graph_fails(void **state)
{
    bed_t *bed = *state;
    assert_int_equal(bed_validate(bed), APR_SUCCESS);
    fixture_on(bed->server, "/svc/", NULL, 1, (fixture_reply_t){404, NULL, "", 0, 0, false});
    fixture_on(bed->server, BED_GRAPH_PATH, NULL, -1, (fixture_reply_t){500, NULL, "", 0, 0, false});
    apr_status_t rv = bed_validate(bed);
    bed_check(bed, "gone", rv, PROBLEM_INTUNE_ANSWER, NULL, "HTTP 404");
    assert_int_equal(bed_validate(bed), APR_SUCCESS);
    assert_int_equal(fixture_count(bed->server, BED_GRAPH_PATH, NULL), 2);
}

/** The background looks after a location that is nearly a day old; no device waits for Graph meanwhile. */
static void ok_location_is_renewed_ahead(void **state)
{
    bed_t *bed = *state;
    intune_renew_due(bed->intune, bed->pool, &bed->log);
    assert_int_equal(fixture_count(bed->server, "/", NULL), 0); /* nobody asked for it yet */
    assert_int_equal(bed_validate(bed), APR_SUCCESS);
    clock_shift(apr_time_from_sec(23 * 3600 - 60));
    intune_renew_due(bed->intune, bed->pool, &bed->log);
    assert_int_equal(fixture_count(bed->server, BED_GRAPH_PATH, NULL), 1);
    bed_endpoints(bed, "providerName", BED_SERVICE, apr_pstrcat(bed->pool, fixture_url(bed->server), "new", NULL));
    clock_shift(apr_time_from_sec(23 * 3600 + 60));
    intune_renew_due(bed->intune, bed->pool, &bed->log);
    intune_renew_due(bed->intune, bed->pool, &bed->log);
    assert_int_equal(fixture_count(bed->server, BED_GRAPH_PATH, NULL), 2);
    assert_int_equal(bed_validate(bed), APR_SUCCESS);
    assert_int_equal(fixture_count(bed->server, BED_GRAPH_PATH, NULL), 2);
    assert_int_equal(fixture_count(bed->server, "/new/", NULL), 1);
}

/** Whatever a record in the cache says of its age: nothing overflows. */
static void odd_age_of_a_location(void **state)
{
    static const char *const ages[] = {"9223372036854775807", "99999999999999999999", "-9223372036854775808", "x", ""};
    bed_t *bed = *state;
    const intune_settings_t *settings = &bed->settings;
    const char *key = apr_pstrcat(bed->pool, "location ", key_part(bed->pool, settings->tenant),
                                  key_part(bed->pool, settings->app_id), key_part(bed->pool, settings->graph_url),
                                  key_part(bed->pool, settings->graph_version),
                                  key_part(bed->pool, settings->intune_app_id), NULL);
    for (size_t i = 0; i < sizeof(ages) / sizeof(ages[0]); i++) {
        const char *record = apr_pstrcat(bed->pool, ages[i], " ", fixture_url(bed->server), "svc", NULL);
        bed->cache->put(bed->cache, key, bytes_of_text(record), clock_now() + apr_time_from_sec(3600));
        intune_renew_due(bed->intune, bed->pool, &bed->log);
        assert_int_equal(bed_validate(bed), APR_SUCCESS);
    }
}

static void ok_location_outlives_a_day_of_graph_trouble(void **state)
{
    bed_t *bed = *state;
    assert_int_equal(bed_validate(bed), APR_SUCCESS);
    fixture_on(bed->server, BED_GRAPH_PATH, NULL, -1, (fixture_reply_t){500, NULL, "", 0, 0, false});
    clock_shift(apr_time_from_sec(25 * 3600));
    for (int i = 0; i < 3; i++) {
        intune_renew_due(bed->intune, bed->pool, &bed->log);
    }
    assert_int_equal(fixture_count(bed->server, BED_GRAPH_PATH, NULL), 2); /* not with every tick */
    assert_int_equal(bed_logged(bed, "ISCEP0324"), 1);
    assert_int_equal(bed_validate(bed), APR_SUCCESS);
    clock_shift(apr_time_from_sec(25 * 3600 + 310));
    intune_renew_due(bed->intune, bed->pool, &bed->log);
    assert_int_equal(fixture_count(bed->server, BED_GRAPH_PATH, NULL), 3);
    assert_int_equal(bed_logged(bed, "ISCEP0324"), 1); /* told once an hour */
    clock_shift(apr_time_from_sec(47 * 3600));
    assert_int_equal(bed_validate(bed), APR_SUCCESS);
    clock_shift(apr_time_from_sec(49 * 3600));
    bed_check(bed, "two days", bed_validate(bed), PROBLEM_LOCATION_UNAVAILABLE, NULL, "HTTP 500");
}

static const struct {
    const char *name;
    int status;
    const char *body;
    const char *detail;
} lists[] = {
    {"fail/no SCEP service", 200, "{\"value\":[{\"providerName\":\"PkiConnectorFEService\",\"uri\":\"https://a/\"}]}",
     "permissions"},
    {"fail/empty list", 200, "{\"value\":[]}", "permissions"},
    {"fail/longer name", 200,
     "{\"value\":[{\"providerName\":\"ScepRequestValidationFEServiceX\",\"uri\":\"https://a/\"}]}", "permissions"},
    {"fail/no list", 200, "{}", "not a list"},
    {"fail/HTML", 200, "<html>", "not a list"},
    {"fail/no uri", 200, "{\"value\":[{\"providerName\":\"ScepRequestValidationFEService\"}]}", "no usable uri"},
    {"fail/http", 200,
     "{\"value\":[{\"providerName\":\"ScepRequestValidationFEService\",\"uri\":\"http://example.com/\"}]}",
     "not https"},
    {"fail/NUL", 200,
     "{\"value\":[{\"providerName\":\"ScepRequestValidationFEService\",\"uri\":\"https://a/\\u0000\"}]}",
     "no usable uri"},
    {"fail/500", 500, "", "HTTP 500"},
};

static void endpoint_lists(void **state)
{
    bed_t *bed = *state;
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        fixture_on(bed->server, BED_GRAPH_PATH, NULL, -1,
                   (fixture_reply_t){lists[i].status, NULL, lists[i].body, 0, 0, false});
        apr_status_t rv = bed_validate(bed);
        bed_check(bed, lists[i].name, rv, PROBLEM_LOCATION_UNAVAILABLE, NULL, lists[i].detail);
        clock_shift(apr_time_from_sec(3 * ((int)i + 1))); /* past the failure record */
    }
    assert_int_equal(fixture_count(bed->server, "/svc/", NULL), 0);
}

static const struct {
    const char *uri;
    bool safe;
} uris[] = {
    {"https://fef.example.com/path", true},
    {"HTTPS://fef.example.com:8443", true},
    {"http://127.0.0.1:80/x", true},
    {"http://127.1.2.3/x", true},
    {"http://[::1]:8080/x", true},
    {"http://LocalHost/x", true},
    {"http://example.com/", false},
    {"http://127.0.0.1.example.com/", false},
    {"http://127.example.com/", false},
    {"http://128.0.0.1/", false},
    {"http://localhost.example.com/", false},
    {"http://localhost@example.com/", false},
    {"https://user:pass@example.com/", false},
    {"https://example.com/?x=1", false},
    {"https://example.com/#x", false},
    {"ftp://127.0.0.1/", false},
    {"file:///etc/passwd", false},
    {"example.com/x", false},
    {"//example.com/x", false},
    {"https://exa mple.com/x", false},
    {"https://example.com/x\r\nHost: y", false},
    {"https://b\xc3\xbc" "cher.example/x", false},
    {"https://exam%20ple.com/x", false},
    {"https://xn--bcher-kva.example/x", true},
    {"", false},
};

static void location_uris(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(uris) / sizeof(uris[0]); i++) {
        const char *why = NULL;
        if (location_is_safe(uris[i].uri, &why) != uris[i].safe || (why == NULL) != uris[i].safe) {
            fail_msg("%s: %s", uris[i].uri, why);
        }
    }
}

#define BED_TEST(name) cmocka_unit_test_setup_teardown(name, bed_up, bed_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        BED_TEST(ok_moved_service_is_found_in_the_same_call),
        BED_TEST(ok_refused_connection_is_looked_up_again),
        BED_TEST(ok_silent_place_is_looked_up_again),
        BED_TEST(ok_moved_service_is_found_through_a_proxy),
        BED_TEST(fail_rediscovery_at_most_once_a_minute),
        BED_TEST(ok_old_location_stays_when_graph_fails),
        BED_TEST(ok_location_is_renewed_ahead),
        BED_TEST(odd_age_of_a_location),
        BED_TEST(ok_location_outlives_a_day_of_graph_trouble),
        BED_TEST(endpoint_lists),
        cmocka_unit_test(location_uris),
    };
    if (bed_start() != 0) {
        return EXIT_FAILURE;
    }
    int failed = cmocka_run_group_tests_name("location", tests, NULL, NULL);
    apr_terminate();
    return failed;
}
