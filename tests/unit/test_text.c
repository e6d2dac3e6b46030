/* SPDX-License-Identifier: Apache-2.0 */
#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <apr_general.h>
#include <ctype.h>
#include <openssl/evp.h>

static apr_pool_t *pool;

typedef struct text_case_t {
    const char *name;
    const char *in;
    apr_size_t max;
    const char *out;
} text_case_t;

static void check(const text_case_t *row, const char *got)
{
    if (strcmp(got, row->out) != 0)
        fail_msg("%s: got '%s', expected '%s'", row->name, got, row->out);
}

static void escape_cases(void **state)
{
    static const text_case_t rows[] = {
        {"none", NULL, 10, "-"},
        {"empty", "", 10, ""},
        {"plain", "az AZ~!", 10, "az AZ~!"},
        {"line break", "a\r\nb\t", 10, "a\\x0d\\x0ab\\x09"},
        {"quote and backslash", "\"\\", 10, "\\x22\\x5c"},
        {"del and high", "\x7f\xc3\xbc", 10, "\\x7f\\xc3\\xbc"},
        {"just fits", "abc", 3, "abc"},
        {"cut", "abcd", 3, "abc..."},
        {"cut counts source bytes", "\n\n\n", 2, "\\x0a\\x0a..."},
        {"cut to nothing", "a", 0, "..."},
        {"no limit", "abc", SIZE_MAX, "abc"},
    };
    apr_size_t i;

    (void)state;
    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        check(&rows[i], text_escape(pool, rows[i].in, rows[i].max));
}

static void escape_bytes_keeps_nul(void **state)
{
    const unsigned char raw[] = {'a', 0, 'b', 0xff};
    bytes_t bytes = {raw, sizeof(raw)}, none = {NULL, 0};

    (void)state;
    assert_string_equal(text_escape_bytes(pool, bytes, 10), "a\\x00b\\xff");
    assert_string_equal(text_escape_bytes(pool, bytes, 2), "a\\x00...");
    assert_string_equal(text_escape_bytes(pool, none, 2), "-");
}

static void unescape_cases(void **state)
{
    static const text_case_t rows[] = {
        {"nothing", "", 0, ""},
        {"plain", "a 'b' <c>", 0, "a 'b' <c>"},
        {"what JSON can hold", "\\x22\\xc3\\xbc\\x22 \\x5c", 0, "\"\xc3\xbc\" \\"},
        {"control characters", "a\\x0ab\\x1b[1m\\x7f", 0, "a\\x0ab\\x1b[1m\\x7f"},
        {"an escape that was escaped", "\\x5cxc3", 0, "\\xc3"},
        {"no escapes", "\\ \\y22 \\x2 \\xG2 \\xC3", 0, "\\ \\y22 \\x2 \\xG2 \\xC3"},
        {"cut", "ab\\xc3\\xb", 0, "ab\xc3\\xb"},
        {"cut shorter", "\\x", 0, "\\x"},
    };

    (void)state;
    for (apr_size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char *in = strdup(rows[i].in);

        check(&rows[i], text_unescape(pool, in));
        free(in);
    }
}

static void cut_cases(void **state)
{
    static const text_case_t rows[] = {
        {"none", NULL, 10, ""},
        {"ascii", "abc", 10, "abc"},
        {"ascii cut", "abc", 2, "ab"},
        {"nothing", "abc", 0, ""},
        {"two bytes", "a\xc3\xbc", 3, "a\xc3\xbc"},
        {"two bytes do not fit", "a\xc3\xbc", 2, "a"},
        {"nothing follows what does not fit",
         "\xe2\x82\xac"
         "a",
         2, ""},
        {"three bytes", "\xe2\x82\xac!", 3, "\xe2\x82\xac"},
        {"four bytes", "\xf0\x9f\x98\x80", 4, "\xf0\x9f\x98\x80"},
        {"four bytes do not fit", "x\xf0\x9f\x98\x80", 4, "x"},
        {"highest", "\xf4\x8f\xbf\xbf", 9, "\xf4\x8f\xbf\xbf"},
        {"too high", "\xf4\x90\x80\x80", 9, "????"},
        {"five byte lead", "\xf8", 9, "?"},
        {"lone continuation", "a\x80z", 9, "a?z"},
        {"overlong slash", "\xc0\xaf", 9, "??"},
        {"overlong three", "\xe0\x80\xaf", 9, "???"},
        {"lowest of three", "\xe0\xa0\x80", 9, "\xe0\xa0\x80"},
        {"overlong four", "\xf0\x80\x80\xaf", 9, "????"},
        {"high surrogate", "\xed\xa0\x80", 9, "???"},
        {"low surrogate", "\xed\xbf\xbf", 9, "???"},
        {"just below the surrogates", "\xed\x9f\xbf", 9, "\xed\x9f\xbf"},
        {"truncated at the end", "ab\xe2\x82", 9, "ab?"},
        {"truncated, then ascii", "\xe2\x82z", 9, "?z"},
        {"truncated, then a good one", "\xf0\x9f\xc3\xbc", 9, "?\xc3\xbc"},
        {"mark fits where the bytes would not", "ab\xe2\x82", 3, "ab?"},
    };
    apr_size_t i;

    (void)state;
    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        /* A copy of exact size: reading past its end shows under the sanitizer. */
        char *in = rows[i].in ? strdup(rows[i].in) : NULL;

        check(&rows[i], text_cut_utf8(pool, in, rows[i].max));
        free(in);
    }
}

static void hex_and_base64(void **state)
{
    const unsigned char raw[] = {0x00, 0x7f, 0xAb, 0xff};
    bytes_t bytes = {raw, sizeof(raw)}, none = {NULL, 0};

    (void)state;
    assert_string_equal(text_hex(pool, bytes), "007FABFF");
    assert_string_equal(text_hex(pool, none), "");
    assert_string_equal(text_base64(pool, none), "");
    /* RFC 4648 section 10 */
    assert_string_equal(text_base64(pool, bytes_of_text("f")), "Zg==");
    assert_string_equal(text_base64(pool, bytes_of_text("fo")), "Zm8=");
    assert_string_equal(text_base64(pool, bytes_of_text("foobar")), "Zm9vYmFy");
    assert_string_equal(text_base64url(pool, none), "");
    assert_string_equal(text_base64url(pool, bytes_of_text("f")), "Zg");
    assert_string_equal(text_base64url(pool, bytes_of_text("foo")), "Zm9v");
    assert_string_equal(text_base64url(pool, bytes_of_text("\xfb\xff\xfe??")), "-__-Pz8");
}

static void base64_of_much(void **state)
{
    apr_size_t len = (apr_size_t)(3 << 20) + 5;
    unsigned char *raw = apr_palloc(pool, len), *back = apr_palloc(pool, len + 3);
    bytes_t bytes = {raw, len};
    const char *text;
    apr_size_t i;

    (void)state;
    for (i = 0; i < len; i++)
        raw[i] = (unsigned char)(i * 7 + (i >> 9));
    text = text_base64(pool, bytes);
    assert_null(strchr(text, '\n'));
    assert_int_equal(strlen(text), (len + 2) / 3 * 4);
    assert_int_equal(EVP_DecodeBlock(back, (const unsigned char *)text, (int)strlen(text)), (int)len + 1);
    assert_memory_equal(back, raw, len);
}

static void uuid_has_its_shape(void **state)
{
    const char *one = text_uuid(pool), *two = text_uuid(pool);
    int i;

    (void)state;
    assert_string_not_equal(one, two);
    assert_int_equal(strlen(one), 36);
    for (i = 0; i < 36; i++) {
        if (i == 8 || i == 13 || i == 18 || i == 23)
            assert_int_equal(one[i], '-');
        else
            assert_non_null(strchr("0123456789abcdef", one[i]));
    }
    assert_int_equal(one[14], '4');
    assert_non_null(strchr("89ab", one[19]));
}

static void random_hex_differs(void **state)
{
    const char *one = text_random_hex(pool, 16), *two = text_random_hex(pool, 16);

    (void)state;
    assert_int_equal(strlen(one), 32);
    assert_int_equal(strspn(one, "0123456789ABCDEF"), 32);
    assert_string_not_equal(one, two);
    assert_string_equal(text_random_hex(pool, 0), "");
}

static void bytes_compare_length_first(void **state)
{
    (void)state;
    assert_true(bytes_equal(bytes_of_text("abc"), bytes_of_text("abc")));
    assert_false(bytes_equal(bytes_of_text("abc"), bytes_of_text("abcd")));
    assert_false(bytes_equal(bytes_of_text("abc"), bytes_of_text("abd")));
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
        cmocka_unit_test_setup_teardown(escape_cases, begin, end),
        cmocka_unit_test_setup_teardown(escape_bytes_keeps_nul, begin, end),
        cmocka_unit_test_setup_teardown(unescape_cases, begin, end),
        cmocka_unit_test_setup_teardown(cut_cases, begin, end),
        cmocka_unit_test_setup_teardown(hex_and_base64, begin, end),
        cmocka_unit_test_setup_teardown(base64_of_much, begin, end),
        cmocka_unit_test_setup_teardown(uuid_has_its_shape, begin, end),
        cmocka_unit_test_setup_teardown(random_hex_differs, begin, end),
        cmocka_unit_test_setup_teardown(bytes_compare_length_first, begin, end),
    };
    int failed;

    apr_initialize();
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    apr_terminate();
    return failed;
}
