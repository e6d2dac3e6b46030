/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/settings.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <apr_general.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static apr_pool_t *pool;

static const char *take(settings_t *settings, setting_id_t id, const char *first, const char *second)
{
    static const setting_place_t place = {"/etc/httpd", "file.conf", 7};
    const char *const values[] = {first, second};
    return setting_take(settings, id, !first ? 0 : second ? 2 : 1, values, &place, pool);
}

typedef struct case_t {
    const char *name;
    setting_id_t id;
    const char *value;
    const char *second;
    const char *wanted; /* ok/: the value; fail/: words of the sentence */
} case_t;

static const case_t cases[] = {
    {"ok/flag", SETTING_ENABLED, "oN", NULL, "oN"},
    {"fail/flag", SETTING_ENABLED, "yes", NULL, "IntuneScep must be On or Off, not \"yes\""},
    {"fail/nothing", SETTING_ENABLED, NULL, NULL, "IntuneScep has no value, or an empty one"},
    {"fail/two words", SETTING_PROVIDER, "a", "b", "put quotes around it"},
    {"ok/word", SETTING_TENANT, "contoso-1.example_x", NULL, "contoso-1.example_x"},
    {"fail/word", SETTING_TENANT, "a/b", NULL, "letters, digits"},
    {"fail/control", SETTING_PROVIDER, "a\x1b", NULL, "control characters"},
    {"ok/UTF-8", SETTING_CA_CONFIGURATION, "caf\xc3\xa9", NULL, "caf\xc3\xa9"},
    {"fail/Latin-1", SETTING_CA_CONFIGURATION, "caf\xe9", NULL, "IntuneScepCAConfiguration must be UTF-8"},
    {"fail/empty", SETTING_TENANT, "", NULL, "1 to 128 characters, not 0"},
    {"ok/relative path", SETTING_RA_KEY, "conf/ra.key", NULL, "/etc/httpd/conf/ra.key"},
    {"ok/absolute path", SETTING_RA_KEY, "/a/../b", NULL, "/b"},
    {"fail/no path", SETTING_RA_KEY, "", NULL, "not a usable path"},
    {"ok/two files", SETTING_APP_CERTIFICATE, "a.pem", "b.key", "/etc/httpd/a.pem"},
    {"ok/words", SETTING_DEVICE_ALGORITHMS, "AES", "SHA-256", "AES SHA-256"},
    {"fail/words", SETTING_DEVICE_ALGORITHMS, "AES", "ROT13", "\"ROT13\" is none of AES"},
    {"ok/https", SETTING_GRAPH_URL, "https://graph.example/", NULL, "https://graph.example/"},
    {"ok/http on loopback", SETTING_GRAPH_URL, "http://127.0.0.1:8/", NULL, "http://127.0.0.1:8/"},
    {"ok/http on loopback, IPv6", SETTING_GRAPH_URL, "http://[::1]:8/", NULL, "http://[::1]:8/"},
    {"ok/proxy on the link", SETTING_HTTP_PROXY, "http://[fe80::1%25eth0]:8", NULL, "http://[fe80::1%25eth0]:8"},
    {"fail/http", SETTING_GRAPH_URL, "http://127.example/", NULL, "http:// is for loopback only"},
    {"fail/http and a name of numbers", SETTING_GRAPH_URL, "http://127.1.2.3.4/", NULL, "http:// is for loopback only"},
    {"fail/http and brackets", SETTING_GRAPH_URL, "http://[127.0.0.1]/", NULL, "http:// is for loopback only"},
    {"fail/user in URL", SETTING_BACKEND, "http://u:p@ca/", NULL, "without user and password"},
    {"fail/port", SETTING_BACKEND, "http://ca:66770/", NULL, "a port from 1 to 65535, not \"http://ca:66770/\""},
    {"fail/port of Microsoft", SETTING_GRAPH_URL, "https://graph.example:0/", NULL, "a port from 1 to 65535"},
    {"fail/port of the proxy", SETTING_HTTP_PROXY, "http://proxy:99999999999999999999", NULL, "a port from 1 to 65535"},
    {"ok/greatest port", SETTING_BACKEND, "http://ca:65535/", NULL, "http://ca:65535/"},
    {"ok/balancer", SETTING_BACKEND, "balancer://cas/scep", NULL, "balancer://cas/scep"},
    {"fail/scheme", SETTING_BACKEND, "ftp://ca/", NULL, "balancer://"},
    {"ok/journal", SETTING_JOURNAL, "sqlite3:/x", NULL, "sqlite3:/x"},
    {"fail/journal", SETTING_JOURNAL, "mysql:password=x", NULL, "sqlite3:/PATH, pgsql:CONNECTION"},
    {"fail/cloud", SETTING_CLOUD, "mars", NULL, "public, usgov or china"},
    {"fail/number", SETTING_MIN_KEY_SIZE, "1023", NULL, "1024 to 8192"},
    {"fail/expression", SETTING_CHALLENGE_MATCH, "(", NULL, "regular expression"},
};

static void values_are_taken_or_refused(void **state)
{
    (void)state;
    for (unsigned i = 0; i < COUNT(cases); i++) {
        const case_t *one = &cases[i];
        settings_t *settings = settings_create(pool, NULL);
        const char *wrong = take(settings, one->id, one->value, one->second);
        bool good = !strncmp(one->name, "ok/", 3);
        print_message("%s: %s\n", one->name, wrong ? wrong : "taken");
        assert_int_equal(good, wrong == NULL);
        assert_int_equal(settings->touched, good);
        if (good) {
            assert_string_equal(setting_text(settings, one->id), one->wanted);
            assert_non_null(strstr(setting_place(settings, one->id, pool), "(file.conf line 7)"));
        } else {
            assert_non_null(strstr(wrong, one->wanted));
            assert_null(strstr(wrong, "password=x"));
        }
    }
}

static void durations_have_units(void **state)
{
    static const struct {
        const char *text;
        apr_interval_time_t wanted; /* 0: refused */
    } TIMES[] = {{"15", 15000000},
                 {"15s", 15000000},
                 {"1500ms", 1500000},
                 {"1min", 60000000},
                 {"2mi", 120000000}, {"15seconds", 15000000}, {"1MIN", 60000000},
                 {"1h", 0},
                 {"0", 0},
                 {"-1", 0},
                 {"15x", 0},
                 {"", 0},
                 {"999ms", 0},
                 {"9999999999999999999999", 0}};
    (void)state;
    for (unsigned i = 0; i < COUNT(TIMES); i++) {
        settings_t *settings = settings_create(pool, NULL);
        const char *wrong = take(settings, SETTING_TIMEOUT, TIMES[i].text, NULL);
        print_message("%s: %s\n", TIMES[i].text, wrong ? wrong : "taken");
        assert_int_equal(wrong == NULL, TIMES[i].wanted != 0);
        assert_int_equal(setting_duration(settings, SETTING_TIMEOUT),
                         TIMES[i].wanted ? TIMES[i].wanted : apr_time_from_sec(15));
    }
}

static void inner_values_win_and_credentials_exclude_each_other(void **state)
{
    settings_t *outer = settings_create(pool, NULL);
    settings_t *inner = settings_create(pool, NULL);
    settings_t *merged = NULL;
    (void)state;
    assert_null(take(outer, SETTING_TENANT, "outer", NULL));
    assert_null(take(outer, SETTING_APP_ID, "app", NULL));
    assert_null(take(outer, SETTING_APP_CERTIFICATE, "/app.pem", NULL));
    assert_null(take(outer, SETTING_APP_CERTIFICATE_PASSWORD, "env:P", NULL));
    assert_null(take(inner, SETTING_TENANT, "inner", NULL));
    assert_null(take(inner, SETTING_APP_KEY, "file:/key", NULL));
    merged = settings_merge(pool, outer, inner);
    assert_string_equal(setting_text(merged, SETTING_TENANT), "inner");
    assert_string_equal(setting_text(merged, SETTING_APP_ID), "app");
    assert_string_equal(setting_text(merged, SETTING_APP_KEY), "file:/key");
    assert_null(setting_text(merged, SETTING_APP_CERTIFICATE));
    assert_null(setting_text(merged, SETTING_APP_CERTIFICATE_PASSWORD));
    assert_ptr_equal(merged->section, inner);
    merged = settings_merge(pool, outer, settings_create(pool, NULL));
    assert_ptr_equal(merged->section, outer);
}

static void settings_are_compared(void **state)
{
    settings_t *one = settings_create(pool, NULL);
    settings_t *other = settings_create(pool, NULL);
    (void)state;
    assert_true(settings_are_same(one, other));
    assert_null(take(one, SETTING_NOTIFY, "before", NULL));
    assert_true(settings_are_same(one, other));
    assert_null(take(one, SETTING_APP_CERTIFICATE, "/app.pem", "/app.key"));
    assert_false(settings_are_same(one, other));
    assert_null(take(other, SETTING_APP_CERTIFICATE, "/app.pem", NULL));
    assert_false(settings_are_same(one, other));
    assert_null(take(other, SETTING_APP_CERTIFICATE, "/app.pem", "/app.key"));
    assert_true(settings_are_same(one, other));
}

static void names_are_found(void **state)
{
    (void)state;
    assert_int_equal(setting_find("intunescepTENANT"), SETTING_TENANT);
    assert_int_equal(setting_find("IntuneScepX"), SETTING_COUNT);
    assert_int_equal(setting_scope(SETTING_JOURNAL), SETTING_OF_SERVER);
    assert_int_equal(setting_scope(SETTING_TENANT), SETTING_OF_LOCATION);
    assert_string_equal(setting_cloud("usgov")->graph_url, "https://graph.microsoft.us/");
    assert_null(setting_cloud("Public"));
}

static void secrets_are_told(void **state)
{
    (void)state;
    assert_true(setting_holds_secret(SETTING_APP_KEY, "the key"));
    assert_false(setting_holds_secret(SETTING_APP_KEY, "file:/key"));
    assert_true(setting_holds_secret(SETTING_JOURNAL, "pgsql:password=x"));
    assert_false(setting_holds_secret(SETTING_TENANT, "password"));
}

static void locations_contain_each_other(void **state)
{
    (void)state;
    assert_true(setting_path_contains("/scep", "/scep"));
    assert_true(setting_path_contains("/scep", "/scep/a"));
    assert_true(setting_path_contains("/", "/scep"));
    assert_false(setting_path_contains("/scep", "/scepter"));
    assert_false(setting_path_contains("/scep/a", "/scep"));
}

static int begin(void **state)
{
    (void)state;
    return apr_pool_create(&pool, NULL);
}

static int end(void **state)
{
    (void)state;
    apr_pool_destroy(pool);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_taken_or_refused),
        cmocka_unit_test(durations_have_units),
        cmocka_unit_test(inner_values_win_and_credentials_exclude_each_other),
        cmocka_unit_test(settings_are_compared),
        cmocka_unit_test(names_are_found),
        cmocka_unit_test(secrets_are_told),
        cmocka_unit_test(locations_contain_each_other),
    };
    apr_initialize();
    int failed = cmocka_run_group_tests(tests, begin, end);
    apr_terminate();
    return failed;
}
