/* SPDX-License-Identifier: Apache-2.0 */
#include "base/event.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <apr_general.h>
#include <apr_strings.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static apr_pool_t *pool;
static char folder[] = "/tmp/iscep-event-XXXXXX";
static const apr_time_t noon = 1769860800 * APR_USEC_PER_SEC; /* 2026-01-31 12:00 UTC */

static void assert_json(const event_t *event, const char *expected)
{
    const char *json = event_json(event, pool);

    assert_non_null(json);
    assert_string_equal(json, expected);
}

static void ok_as_the_page_says(void **state)
{
    event_t event = {.name = "withheld",
                     .location = "profile",
                     .transaction = "AB12",
                     .serial = "01FF",
                     .detail = "why",
                     .time = noon};

    (void)state;
    assert_json(&event, "{\"event\":\"withheld\",\"time\":\"2026-01-31T12:00:00Z\",\"location\":\"profile\","
                        "\"transaction\":\"AB12\",\"serial\":\"01FF\",\"detail\":\"why\"}");
}

static void ok_without_what_is_not_known(void **state)
{
    event_t event = {.name = "breaker-open", .time = noon + 999999};
    event_t some = {.name = "expiring", .detail = "", .time = noon};

    (void)state;
    assert_json(&event, "{\"event\":\"breaker-open\",\"time\":\"2026-01-31T12:00:00Z\"}");
    assert_json(&some, "{\"event\":\"expiring\",\"time\":\"2026-01-31T12:00:00Z\",\"detail\":\"\"}");
}

/* What comes out is printable ASCII in one line, and JSON that gives the text again, but for what was not UTF-8. */
static void ok_hostile_texts(void **state)
{
    static const struct {
        const char *text, *json, *back; /* NULL: the same as the text */
    } rows[] = {
        {"a\"b\\c/d", "a\\\"b\\\\c/d", NULL},
        {"\"}\n{\"event\":\"x", "\\\"}\\n{\\\"event\\\":\\\"x", NULL},
        {"\r\n\t\b\f\x01\x1b[31m\x7f", "\\r\\n\\t\\b\\f\\u0001\\u001b[31m\\u007f", NULL},
        {"<script>&'", "<script>&'", NULL},
        {"$(id) `id` %n", "$(id) `id` %n", NULL},
        {"\xc3\xa4", "\\u00e4", NULL},
        {"\xc2\x9b" "31m", "\\u009b31m", NULL},                         /* a terminal's CSI in one character */
        {"\xe2\x80\xae" "txt.exe", "\\u202etxt.exe", NULL},             /* right to left */
        {"\xe2\x80\xa8", "\\u2028", NULL},                              /* a line's end for JavaScript */
        {"\xef\xbf\xbf\xef\xbb\xbf", "\\uffff\\ufeff", NULL},
        {"\xf0\x9f\x98\x80", "\\ud83d\\ude00", NULL},
        {"\xf4\x8f\xbf\xbf", "\\udbff\\udfff", NULL},
        {"a\x80z", "a?z", "a?z"},
        {"\xc0\xaf", "??", "??"},
        {"\xed\xa0\x80", "???", "???"},                                 /* half a surrogate pair */
        {"\xf4\x90\x80\x80", "????", "????"},                           /* behind the last character */
        {"cut \xe2\x82", "cut ?", "cut ?"},
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        event_t event = {.name = "orphan", .transaction = rows[i].text, .time = noon};
        json_object *parsed, *member = NULL;

        assert_json(&event, apr_pstrcat(pool, "{\"event\":\"orphan\",\"time\":\"2026-01-31T12:00:00Z\",\"transaction\":\"",
                                        rows[i].json, "\"}", NULL));
        parsed = json_tokener_parse(event_json(&event, pool));
        assert_non_null(parsed);
        assert_true(json_object_object_get_ex(parsed, "transaction", &member));
        assert_string_equal(json_object_get_string(member), rows[i].back ? rows[i].back : rows[i].text);
        json_object_put(parsed);
    }
}

static void ok_long_text(void **state)
{
    char *text = apr_palloc(pool, 100001);
    event_t event = {.name = "orphan", .transaction = text, .time = noon};

    (void)state;
    memset(text, '\x01', 100000);
    text[100000] = '\0';
    assert_true(strlen(event_json(&event, pool)) > 600000);
}

static const char *script(const char *text)
{
    const char *file = apr_pstrcat(pool, folder, "/script", NULL);
    const char *whole = apr_pstrcat(pool, "#!/bin/sh\n", text, "\n", NULL);
    int fd;

    unlink(file);
    fd = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0700);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, whole, strlen(whole)), (ssize_t)strlen(whole));
    close(fd);
    return file;
}

static void ok_the_command_gets_it(void **state)
{
    event_t event = {.name = "orphan", .transaction = "a'b\"; rm *", .serial = "0A", .time = noon};
    const char *told = apr_pstrcat(pool, folder, "/told", NULL), *message = NULL, *expected;
    const char *command = apr_pstrcat(pool, script("echo \"$#:$3\" > \"$1\"; cat >> \"$1\""), " ", told, " word", NULL);
    char text[512];
    ssize_t len;
    int fd;

    (void)state;
    if (event_run(command, &event, apr_time_from_sec(20), pool, &message) != APR_SUCCESS)
        fail_msg("%s", message);
    fd = open(told, O_RDONLY);
    assert_true(fd >= 0);
    len = read(fd, text, sizeof(text) - 1);
    close(fd);
    unlink(told);
    assert_true(len > 0);
    text[len] = '\0';
    expected = apr_pstrcat(pool, "3:orphan\n", event_json(&event, pool), "\n", NULL);
    assert_string_equal(text, expected);
}

static void fail_the_command(void **state)
{
    static const struct {
        const char *script, *words;
    } rows[] = {{"exit 1", "exit code 1"},
                {"kill -15 $$", "signal 15"},
                {"sleep 30", "did not end within 300 milliseconds"}};
    event_t event = {.name = "orphan", .time = noon};
    const char *message = NULL;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_int_not_equal(event_run(script(rows[i].script), &event, apr_time_from_msec(i == 2 ? 300 : 20000), pool,
                                       &message),
                             APR_SUCCESS);
        assert_non_null(strstr(message, rows[i].words));
        assert_non_null(strstr(message, "/script"));
    }
    assert_int_not_equal(event_run("/nonexistent", &event, apr_time_from_sec(1), pool, &message), APR_SUCCESS);
    assert_non_null(strstr(message, "/nonexistent could not be run: No such file"));
}

static int begin(void **state)
{
    (void)state;
    return apr_pool_create(&pool, NULL) == APR_SUCCESS ? 0 : -1;
}

static int end(void **state)
{
    (void)state;
    unlink(apr_pstrcat(pool, folder, "/script", NULL));
    apr_pool_destroy(pool);
    return 0;
}

#define EVENT_TEST(function) cmocka_unit_test_setup_teardown(function, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        EVENT_TEST(ok_as_the_page_says),    EVENT_TEST(ok_without_what_is_not_known),
        EVENT_TEST(ok_hostile_texts),       EVENT_TEST(ok_long_text),
        EVENT_TEST(ok_the_command_gets_it), EVENT_TEST(fail_the_command),
    };
    int failed;

    if (!mkdtemp(folder))
        return 1;
    apr_initialize();
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    apr_terminate();
    if (rmdir(folder) != 0)
        return 1;
    return failed;
}
