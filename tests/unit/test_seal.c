/* SPDX-License-Identifier: Apache-2.0 */
#include "base/seal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <openssl/evp.h>
#include <stdlib.h>

enum { PLACE_MAX = 64 };

static const unsigned char KEY[STATE_KEY_DERIVED] = "a key of thirty-two bytes length";
static const unsigned char OTHER_KEY[STATE_KEY_DERIVED] = "A key of thirty-two bytes length";

static void ok_what_was_sealed_opens(void **state)
{
    static const apr_size_t lengths[] = {0, 1, 15, 16, 17, 4000, 100000};
    (void)state;
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        /* Exactly as large as promised, so that AddressSanitizer sees a byte too many. */
        unsigned char *plain = malloc(lengths[i] + 1);
        unsigned char *sealed = malloc(lengths[i] + SEAL_OVERHEAD);
        unsigned char *opened = malloc(lengths[i] + SEAL_OVERHEAD);
        apr_size_t length = 999;
        memset(plain, 'p', lengths[i]);
        assert_int_equal(seal_close(KEY, bytes_of_text("here"), (bytes_t){plain, lengths[i]}, sealed), APR_SUCCESS);
        assert_int_equal(seal_open(KEY, bytes_of_text("here"), (bytes_t){sealed, lengths[i] + SEAL_OVERHEAD}, opened,
                                   &length),
                         APR_SUCCESS);
        assert_int_equal(length, lengths[i]);
        assert_memory_equal(opened, plain, lengths[i]);
        free(plain);
        free(sealed);
        free(opened);
    }
}

/* Decrypted by hand: the format is on disks, so it stays as it is. */
static void ok_the_format_is_what_it_was(void **state)
{
    unsigned char sealed[5 + SEAL_OVERHEAD];
    unsigned char plain[5];
    int some = 0;
    (void)state;
    assert_int_equal(seal_close(KEY, bytes_of_text("here"), bytes_of_text("hello"), sealed), APR_SUCCESS);
    assert_memory_equal(sealed, "ISE1", 4);
    EVP_CIPHER_CTX *cipher = EVP_CIPHER_CTX_new();
    assert_int_equal(EVP_DecryptInit_ex(cipher, EVP_aes_256_gcm(), NULL, KEY, sealed + 4), 1);
    assert_int_equal(EVP_DecryptUpdate(cipher, NULL, &some, (const unsigned char *)"ISE1here", 8), 1);
    assert_int_equal(EVP_DecryptUpdate(cipher, plain, &some, sealed + 16, 5), 1);
    assert_int_equal(EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_AEAD_SET_TAG, 16, sealed + 21), 1);
    assert_int_equal(EVP_DecryptFinal_ex(cipher, plain + some, &some), 1);
    EVP_CIPHER_CTX_free(cipher);
    assert_memory_equal(plain, "hello", 5);
}

static void ok_the_same_text_is_sealed_differently(void **state)
{
    unsigned char first[5 + SEAL_OVERHEAD], second[5 + SEAL_OVERHEAD];
    (void)state;
    assert_int_equal(seal_close(KEY, bytes_of_text("here"), bytes_of_text("hello"), first), APR_SUCCESS);
    assert_int_equal(seal_close(KEY, bytes_of_text("here"), bytes_of_text("hello"), second), APR_SUCCESS);
    assert_memory_not_equal(first + 4, second + 4, 12);
    assert_memory_not_equal(first + 16, second + 16, 5);
}

static void fail_every_changed_byte(void **state)
{
    unsigned char sealed[5 + SEAL_OVERHEAD], plain[5 + SEAL_OVERHEAD];
    apr_size_t length = 0;
    (void)state;
    assert_int_equal(seal_close(KEY, bytes_of_text("here"), bytes_of_text("hello"), sealed), APR_SUCCESS);
    for (size_t i = 0; i < sizeof(sealed); i++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            sealed[i] ^= (unsigned char)(1u << bit);
            if (seal_open(KEY, bytes_of_text("here"), (bytes_t){sealed, sizeof(sealed)}, plain, &length) != SEAL_BROKEN) {
                fail_msg("byte %d, bit %u does not matter", (int)i, bit);
            }
            sealed[i] ^= (unsigned char)(1u << bit);
        }
    }
}

static void fail_every_length(void **state)
{
    unsigned char sealed[6 + SEAL_OVERHEAD] = {0}, plain[6 + SEAL_OVERHEAD];
    apr_size_t length = 0;
    (void)state;
    assert_int_equal(seal_close(KEY, bytes_of_text("here"), bytes_of_text("hello"), sealed), APR_SUCCESS);
    for (size_t i = 0; i <= sizeof(sealed); i++) {
        assert_int_equal(seal_open(KEY, bytes_of_text("here"), (bytes_t){sealed, i}, plain, &length),
                         i == 5 + SEAL_OVERHEAD ? APR_SUCCESS : SEAL_BROKEN);
    }
    assert_int_equal(seal_open(KEY, bytes_of_text("here"), (bytes_t){NULL, 0}, plain, &length), SEAL_BROKEN);
}

static void fail_elsewhere(void **state)
{
    static const struct {
        const char *name;
        const unsigned char *key;
        const char *place;
        apr_status_t rv;
    } rows[] = {
        {"ok/the same", KEY, "here", APR_SUCCESS},        {"fail/another key", OTHER_KEY, "here", SEAL_BROKEN},
        {"fail/another place", KEY, "hers", SEAL_BROKEN}, {"fail/a longer place", KEY, "here ", SEAL_BROKEN},
        {"fail/a part of it", KEY, "her", SEAL_BROKEN},   {"fail/no place", KEY, "", SEAL_BROKEN},
    };
    unsigned char sealed[5 + SEAL_OVERHEAD], plain[5 + SEAL_OVERHEAD];
    apr_size_t length = 0;
    (void)state;
    assert_int_equal(seal_close(KEY, bytes_of_text("here"), bytes_of_text("hello"), sealed), APR_SUCCESS);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (seal_open(rows[i].key, bytes_of_text(rows[i].place), (bytes_t){sealed, sizeof(sealed)}, plain, &length) !=
            rows[i].rv) {
            fail_msg("%s", rows[i].name);
        }
    }
}

static void places_have_a_limit(void **state)
{
    static const unsigned char place[PLACE_MAX + 1] = {0};
    unsigned char sealed[5 + SEAL_OVERHEAD], plain[5 + SEAL_OVERHEAD];
    apr_size_t length = 0;
    (void)state;
    assert_int_equal(seal_close(KEY, (bytes_t){place, PLACE_MAX}, bytes_of_text("hello"), sealed), APR_SUCCESS);
    assert_int_equal(seal_open(KEY, (bytes_t){place, PLACE_MAX}, (bytes_t){sealed, sizeof(sealed)}, plain, &length),
                     APR_SUCCESS);
    assert_int_equal(seal_close(KEY, (bytes_t){place, PLACE_MAX + 1}, bytes_of_text("hello"), sealed), APR_EINVAL);
    assert_int_equal(seal_open(KEY, (bytes_t){place, PLACE_MAX + 1}, (bytes_t){sealed, sizeof(sealed)}, plain, &length),
                     SEAL_BROKEN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ok_what_was_sealed_opens),
        cmocka_unit_test(ok_the_format_is_what_it_was),
        cmocka_unit_test(ok_the_same_text_is_sealed_differently),
        cmocka_unit_test(fail_every_changed_byte),
        cmocka_unit_test(fail_every_length),
        cmocka_unit_test(fail_elsewhere),
        cmocka_unit_test(places_have_a_limit),
    };
    return cmocka_run_group_tests_name("seal", tests, NULL, NULL);
}
