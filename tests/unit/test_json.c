/* SPDX-License-Identifier: Apache-2.0 */
#include "base/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <apr_general.h>
#include <cmocka.h>
#include <json-c/json.h>
#include <string.h>

static const struct {
    const char *name;
    const char *text;
    const char *wanted;
} texts[] = {
    {"ok/plain", "x/y", "\"x/y\""},
    {"ok/quoted", "\"\\\n\x1f", "\"\\\"\\\\\\n\\u001f\""},
    {"ok/DEL", "\x7f", "\"\\u007f\""},
    {"ok/two bytes", "\xc3\xa4", "\"\\u00e4\""},
    {"ok/three bytes", "\xe2\x80\xae", "\"\\u202e\""},
    {"ok/four bytes", "\xf0\x9f\x98\x80", "\"\\ud83d\\ude00\""},
    /* json-c lets these through */
    {"odd/quotation mark in two bytes", "\xc0\xa2", "\"\\u0022\""},
    {"odd/control character in four bytes", "\xf0\x80\x80\x9f", "\"\\u001f\""},
    {"odd/cut", "\xe2\x80", "\"\\u0080\""},
};

static void only_ascii_comes_out(void **state)
{
    apr_pool_t *pool = NULL;
    (void)state;
    apr_pool_create(&pool, NULL);
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        json_object *text = json_object_new_string(texts[i].text);
        const char *made = json_ascii(text, pool);
        if (!made || strcmp(made, texts[i].wanted) != 0) {
            fail_msg("%s: %s", texts[i].name, made);
        }
        json_object_put(text);
    }
    apr_pool_destroy(pool);
}

static void broken_text_is_mended(void **state)
{
    apr_pool_t *pool = NULL;
    (void)state;
    apr_pool_create(&pool, NULL);
    json_object *object = json_object_new_object();
    assert_true(json_add_text(object, "a", "x\xc0\xa2", pool));
    assert_true(json_add_text(object, "b", NULL, pool));
    assert_false(json_add(object, "c", NULL));
    assert_string_equal(json_ascii(object, pool), "{\"a\":\"x??\"}");
    json_object_put(object);
    apr_pool_destroy(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_ascii_comes_out),
        cmocka_unit_test(broken_text_is_mended),
    };
    apr_initialize();
    int failed = cmocka_run_group_tests_name("json", tests, NULL, NULL);
    apr_terminate();
    return failed;
}
