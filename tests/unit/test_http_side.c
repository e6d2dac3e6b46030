/* SPDX-License-Identifier: Apache-2.0 */
#include "scep/http_side.h"

#include <apr_general.h>
#include <apr_strings.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static apr_pool_t *pool;

static int pool_up(void **state)
{
    (void)state;
    return apr_pool_create(&pool, NULL) == APR_SUCCESS ? 0 : -1;
}

static int pool_down(void **state)
{
    (void)state;
    apr_pool_destroy(pool);
    return 0;
}

static const struct {
    const char *name;
    const char *query;
    scep_operation_t operation;
    const char *message;
} queries[] = {
    {"ok/caps", "operation=GetCACaps", SCEP_OP_GETCACAPS, ""},
    {"ok/cert with a meaningless message", "operation=GetCACert&message=default", SCEP_OP_GETCACERT, "default"},
    {"ok/next", "operation=GetNextCACert", SCEP_OP_GETNEXTCACERT, ""},
    {"ok/pki", "operation=PKIOperation&message=MIIB%2B", SCEP_OP_PKIOPERATION, "MIIB%2B"},
    {"ok/order", "message=MIIB&operation=PKIOperation", SCEP_OP_PKIOPERATION, "MIIB"},
    {"ok/letter case", "OPERATION=pkioperation&Message=x", SCEP_OP_PKIOPERATION, "x"},
    {"ok/escaped", "op%65ration=Get%43ACaps", SCEP_OP_GETCACAPS, ""},
    {"ok/first counts", "operation=GetCACaps&operation=PKIOperation&message=a&message=b", SCEP_OP_GETCACAPS, "a"},
    {"ok/empty first message counts", "operation=PKIOperation&message=&message=b", SCEP_OP_PKIOPERATION, ""},
    {"ok/strangers", "x=1&&y&operation=GetCACert&=z", SCEP_OP_GETCACERT, ""},
    {"ok/padding is no separator", "operation=PKIOperation&message=QQ==", SCEP_OP_PKIOPERATION, "QQ=="},
    {"none/null", NULL, SCEP_OP_NONE, ""},
    {"none/empty", "", SCEP_OP_NONE, ""},
    {"none/message only", "message=x", SCEP_OP_NONE, "x"},
    {"none/longer name", "operations=GetCACaps", SCEP_OP_NONE, ""},
    {"unknown/value", "operation=GetCACapsX", SCEP_OP_UNKNOWN, ""},
    {"unknown/prefix", "operation=GetCA", SCEP_OP_UNKNOWN, ""},
    {"unknown/empty", "operation=", SCEP_OP_UNKNOWN, ""},
    {"unknown/no value", "operation", SCEP_OP_UNKNOWN, ""},
    {"unknown/NUL", "operation=GetCACaps%00", SCEP_OP_UNKNOWN, ""},
    {"unknown/broken escape", "operation=GetCACaps%4", SCEP_OP_UNKNOWN, ""},
    {"unknown/first counts", "operation=x&operation=GetCACaps", SCEP_OP_UNKNOWN, ""},
};

static void query_cases(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(queries) / sizeof(queries[0]); i++) {
        const char *message = NULL;
        scep_operation_t operation = scep_query_parse(queries[i].query, &message, pool);
        if (operation != queries[i].operation || message == NULL || strcmp(message, queries[i].message) != 0) {
            fail_msg("%s: operation %d, message %s", queries[i].name, (int)operation, message);
        }
    }
}

/* FB EF BE FF FE 41: base64 ++++//5B */
#define SIX "\xfb\xef\xbe\xff\xfe\x41"

static const struct {
    const char *name;
    const char *message;
    apr_size_t max;
    apr_status_t rv;
    const char *bytes;
    apr_size_t len;
} messages[] = {
    {"ok/plain", "++++//5B", 100, APR_SUCCESS, "\xfb\xef\xbe\xff\xfe\x41", 6},
    {"ok/escaped", "%2B%2b%2B%2B%2F%2f5B", 100, APR_SUCCESS, SIX, 6},
    {"ok/twice escaped", "%252B%252b%252B%252B%252F%252f5B", 100, APR_SUCCESS, SIX, 6},
    {"ok/blank is a plus", "+ + //5B", 100, APR_SUCCESS, SIX, 6},
    {"ok/escaped blank is a plus", "%20%20++//5B", 100, APR_SUCCESS, SIX, 6},
    {"ok/twice escaped blank", "%2520+++//5B", 100, APR_SUCCESS, SIX, 6},
    {"ok/line breaks", "++\r\n++\n//\t5B%0D%0A", 100, APR_SUCCESS, SIX, 6},
    {"ok/URL-safe alphabet", "-+-+_/5B", 100, APR_SUCCESS, SIX, 6},
    {"ok/padding 2", "QQ==", 100, APR_SUCCESS, "A", 1},
    {"ok/padding escaped", "QQ%3D%3d", 100, APR_SUCCESS, "A", 1},
    {"ok/padding twice escaped", "QQ%253D%253D", 100, APR_SUCCESS, "A", 1},
    {"ok/padding missing", "QQ", 100, APR_SUCCESS, "A", 1},
    {"ok/padding 1", "QUI=", 100, APR_SUCCESS, "AB", 2},
    {"ok/padding 1 missing", "QUI", 100, APR_SUCCESS, "AB", 2},
    {"ok/zeros", "AAAA", 100, APR_SUCCESS, "\0\0\0", 3},
    {"ok/just as large as allowed", "++++//5B", 6, APR_SUCCESS, SIX, 6},
    {"ok/padding does not count", "QQ==", 1, APR_SUCCESS, "A", 1},
    {"fail/one too many", "++++//5B", 5, APR_ENOSPC, NULL, 0},
    {"fail/one too many, with a rest", "QUI=", 1, APR_ENOSPC, NULL, 0},
    {"fail/empty", "", 100, APR_EINVAL, NULL, 0},
    {"fail/line break only", "\r\n", 100, APR_EINVAL, NULL, 0},
    {"fail/padding only", "====", 100, APR_EINVAL, NULL, 0},
    {"fail/one character", "Q", 100, APR_EINVAL, NULL, 0},
    {"fail/one character left over", "QUJDQ", 100, APR_EINVAL, NULL, 0},
    {"fail/too much padding", "QUI==", 100, APR_EINVAL, NULL, 0},
    {"fail/padding where none is due", "QUJD=", 100, APR_EINVAL, NULL, 0},
    {"fail/padding inside", "QQ==QQ==", 100, APR_EINVAL, NULL, 0},
    {"fail/foreign character", "QU*D", 100, APR_EINVAL, NULL, 0},
    {"fail/8-bit character", "QU\xc3\xa4", 100, APR_EINVAL, NULL, 0},
    {"fail/broken escape", "QUJD%4", 100, APR_EINVAL, NULL, 0},
    {"fail/no escape", "QU%ZZ", 100, APR_EINVAL, NULL, 0},
    {"fail/NUL", "QUJD%00", 100, APR_EINVAL, NULL, 0},
    {"fail/NUL, twice escaped", "QUJD%2500", 100, APR_EINVAL, NULL, 0},
    {"fail/escaped three times", "QQ%25253D%25253D", 100, APR_EINVAL, NULL, 0},
};

static void message_cases(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(messages) / sizeof(messages[0]); i++) {
        bytes_t der = {NULL, 0};
        bytes_t wanted = {(const unsigned char *)messages[i].bytes, messages[i].len};
        apr_status_t rv = scep_get_message_decode(&der, messages[i].message, messages[i].max, pool);
        if (rv != messages[i].rv || !bytes_equal(der, wanted)) {
            fail_msg("%s: rv %d, %lu bytes", messages[i].name, rv, (unsigned long)der.len);
        }
    }
}

static void ok_every_byte_survives_the_get_message(void **state)
{
    unsigned char all[256];
    char text[4 * 256];
    (void)state;
    for (int i = 0; i < 256; i++) {
        all[i] = (unsigned char)i;
    }
    for (apr_size_t len = 1; len <= 256; len++) {
        static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        apr_size_t n = 0;
        for (apr_size_t at = 0; at < len; at += 3) {
            unsigned b = (unsigned)all[at] << 16 | (at + 1 < len ? (unsigned)all[at + 1] << 8 : 0) |
                         (at + 2 < len ? all[at + 2] : 0);
            text[n++] = digits[b >> 18];
            text[n++] = digits[b >> 12 & 63];
            text[n++] = at + 1 < len ? digits[b >> 6 & 63] : '=';
            text[n++] = at + 2 < len ? digits[b & 63] : '=';
        }
        text[n] = '\0';
        bytes_t der = {NULL, 0};
        bytes_t wanted = {all, len};
        assert_int_equal(scep_get_message_decode(&der, text, len, pool), APR_SUCCESS);
        assert_true(bytes_equal(der, wanted));
    }
}

static const struct {
    const char *name;
    scep_algorithms_t device;
    bool next_ca;
    const char *text;
} prints[] = {
    {"all",
     {SCEP_DES3 | SCEP_AES128 | SCEP_AES256, SCEP_SHA1 | SCEP_SHA256 | SCEP_SHA512},
     true,
     "AES\nDES3\nPOSTPKIOperation\nRenewal\nSCEPStandard\nSHA-1\nSHA-256\nSHA-512\nGetNextCACert\n"},
    {"no next CA",
     {SCEP_DES3 | SCEP_AES128, SCEP_SHA1 | SCEP_SHA256 | SCEP_SHA512},
     false,
     "AES\nDES3\nPOSTPKIOperation\nRenewal\nSCEPStandard\nSHA-1\nSHA-256\nSHA-512\n"},
    {"no DES3, no SHA-1", {SCEP_AES128, SCEP_SHA256}, false, "AES\nPOSTPKIOperation\nRenewal\nSCEPStandard\nSHA-256\n"},
    {"old", {SCEP_DES | SCEP_DES3, SCEP_MD5 | SCEP_SHA1}, false, "DES3\nPOSTPKIOperation\nRenewal\nSHA-1\n"},
    {"AES-256 alone is not what AES means", {SCEP_AES256, SCEP_SHA256}, false, "POSTPKIOperation\nRenewal\nSHA-256\n"},
    {"not standard without SHA-256", {SCEP_AES128, SCEP_SHA512}, false, "AES\nPOSTPKIOperation\nRenewal\nSHA-512\n"},
};

static void capability_prints(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(prints) / sizeof(prints[0]); i++) {
        const char *text = scep_capabilities_print(prints[i].device, prints[i].next_ca, pool);
        if (strcmp(text, prints[i].text) != 0) {
            fail_msg("%s: %s", prints[i].name, text);
        }
    }
}

static const struct {
    const char *name;
    const char *text;
    unsigned set;
    scep_algorithms_t best;
} parses[] = {
    {"empty", "", 0, {SCEP_AES128, SCEP_SHA256}},
    /* answered by micromdm's scepserver 2.1.0, Debian package scep */
    {"scepserver",
     "Renewal\nSHA-1\nSHA-256\nAES\nDES3\nSCEPStandard\nPOSTPKIOperation",
     SCEP_CAP_RENEWAL | SCEP_CAP_SHA1 | SCEP_CAP_SHA256 | SCEP_CAP_AES | SCEP_CAP_DES3 | SCEP_CAP_STANDARD |
         SCEP_CAP_POST,
     {SCEP_AES128, SCEP_SHA256}},
    {"CR, blanks, letter case",
     "  aes \r\nsha-256\t\r\npostpkioperation\r\n",
     SCEP_CAP_AES | SCEP_CAP_SHA256 | SCEP_CAP_POST,
     {SCEP_AES128, SCEP_SHA256}},
    {"unknown lines", "AES2\nXAES\nSHA-2567\n\nHello world\nDES3\n", SCEP_CAP_DES3, {SCEP_DES3, SCEP_SHA256}},
    {"standard implies",
     "SCEPStandard\n",
     SCEP_CAP_STANDARD | SCEP_CAP_AES | SCEP_CAP_SHA256 | SCEP_CAP_POST,
     {SCEP_AES128, SCEP_SHA256}},
    {"old", "DES3\nSHA-1\nGetNextCACert", SCEP_CAP_DES3 | SCEP_CAP_SHA1 | SCEP_CAP_NEXT_CA, {SCEP_DES3, SCEP_SHA1}},
    {"SHA-512 without SHA-256",
     "AES\nSHA-1\nSHA-512",
     SCEP_CAP_AES | SCEP_CAP_SHA1 | SCEP_CAP_SHA512,
     {SCEP_AES128, SCEP_SHA512}},
    {"POST only", "POSTPKIOperation", SCEP_CAP_POST, {SCEP_AES128, SCEP_SHA256}},
};

static void capability_parses(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(parses) / sizeof(parses[0]); i++) {
        scep_algorithms_t all = {~0u, ~0u};
        unsigned set = scep_capabilities_parse(bytes_of_text(parses[i].text));
        scep_algorithms_t best = scep_backend_choose(set, all);
        if (set != parses[i].set || best.ciphers != parses[i].best.ciphers || best.digests != parses[i].best.digests) {
            fail_msg("%s: set %x, cipher %x, digest %x", parses[i].name, set, best.ciphers, best.digests);
        }
    }
}

/* What the operator forbids is never used, whatever the CA offers. */
static void backend_choices(void **state)
{
    static const struct {
        const char *name;
        unsigned set;
        scep_algorithms_t allowed;
        scep_algorithms_t best;
    } cases[] = {
        {"no AES allowed", SCEP_CAP_AES | SCEP_CAP_DES3 | SCEP_CAP_SHA256, {SCEP_DES3 | SCEP_DES, ~0u}, {SCEP_DES3, SCEP_SHA256}},
        {"AES-256 only", SCEP_CAP_AES | SCEP_CAP_SHA256, {SCEP_AES256, ~0u}, {SCEP_AES256, SCEP_SHA256}},
        {"single DES, by the operator", 0, {SCEP_DES, SCEP_MD5}, {SCEP_DES, SCEP_MD5}},
        {"offers what is forbidden", SCEP_CAP_DES3 | SCEP_CAP_SHA1, {SCEP_AES128, SCEP_SHA256}, {SCEP_AES128, SCEP_SHA256}},
        {"no SHA-256 allowed", SCEP_CAP_AES | SCEP_CAP_SHA256 | SCEP_CAP_SHA1, {~0u, SCEP_SHA1}, {SCEP_AES128, SCEP_SHA1}},
        {"silent", SCEP_CAP_SILENT, {~0u, ~0u}, {SCEP_AES128, SCEP_SHA256}},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        scep_algorithms_t best = scep_backend_choose(cases[i].set, cases[i].allowed);
        if (best.ciphers != cases[i].best.ciphers || best.digests != cases[i].best.digests) {
            fail_msg("%s: cipher %x, digest %x", cases[i].name, best.ciphers, best.digests);
        }
    }
}

static void capability_words(void **state)
{
    unsigned set = 0;
    (void)state;
    assert_null(scep_capabilities_words(&set, " aes, SHA-256  POSTPKIOperation", pool));
    assert_int_equal(set, SCEP_CAP_AES | SCEP_CAP_SHA256 | SCEP_CAP_POST);
    assert_string_equal(scep_capabilities_words(&set, "AES AES2", pool), "AES2");
    assert_null(scep_capabilities_words(&set, "", pool));
    assert_int_equal(set, 0);
}

static void fail_a_NUL_is_part_of_its_line(void **state)
{
    static const unsigned char text[] = "AES\0\nDES3\n";
    bytes_t bytes = {text, sizeof(text) - 1};
    (void)state;
    assert_int_equal(scep_capabilities_parse(bytes), SCEP_CAP_DES3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(query_cases, pool_up, pool_down),
        cmocka_unit_test_setup_teardown(message_cases, pool_up, pool_down),
        cmocka_unit_test_setup_teardown(ok_every_byte_survives_the_get_message, pool_up, pool_down),
        cmocka_unit_test_setup_teardown(capability_prints, pool_up, pool_down),
        cmocka_unit_test_setup_teardown(capability_parses, pool_up, pool_down),
        cmocka_unit_test(backend_choices),
        cmocka_unit_test_setup_teardown(capability_words, pool_up, pool_down),
        cmocka_unit_test(fail_a_NUL_is_part_of_its_line),
    };
    apr_initialize();
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    apr_terminate();
    return failed;
}
