/* SPDX-License-Identifier: Apache-2.0 */
#include "base/seal.h"

#include <limits.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

/* "ISE1", a random nonce, the ciphertext, the tag. Authenticated with it: "ISE1" and what it is bound to. */
enum {
    FORMAT_BYTES = 4,
    NONCE_AT = FORMAT_BYTES,
    NONCE_BYTES = 12,
    TEXT_AT = NONCE_AT + NONCE_BYTES,
    TAG_BYTES = 16,
    BOUND_MAX = 64
};

_Static_assert((int)SEAL_OVERHEAD == (int)TEXT_AT + (int)TAG_BYTES, "the overhead is nonce, tag and format");

static const unsigned char format[FORMAT_BYTES] = {'I', 'S', 'E', '1'};

apr_status_t seal_close(const unsigned char key[STATE_KEY_DERIVED], bytes_t bound, bytes_t plain, unsigned char *sealed)
{
    EVP_CIPHER_CTX *cipher = NULL;
    unsigned char *text = sealed + TEXT_AT;
    int some = 0, rest = 0;
    apr_status_t rv = APR_EGENERAL;

    if (bound.len > BOUND_MAX || plain.len > INT_MAX - SEAL_OVERHEAD)
        return APR_EINVAL;
    memcpy(sealed, format, FORMAT_BYTES);
    cipher = EVP_CIPHER_CTX_new();
    if (cipher && RAND_bytes(sealed + NONCE_AT, NONCE_BYTES) == 1 &&
        EVP_EncryptInit_ex2(cipher, EVP_aes_256_gcm(), key, sealed + NONCE_AT, NULL) == 1 &&
        EVP_EncryptUpdate(cipher, NULL, &some, format, FORMAT_BYTES) == 1 &&
        EVP_EncryptUpdate(cipher, NULL, &some, bound.data, (int)bound.len) == 1 &&
        EVP_EncryptUpdate(cipher, text, &some, plain.data, (int)plain.len) == 1 &&
        EVP_EncryptFinal_ex(cipher, text + some, &rest) == 1 && (apr_size_t)(some + rest) == plain.len &&
        EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_AEAD_GET_TAG, TAG_BYTES, text + plain.len) == 1)
        rv = APR_SUCCESS;
    EVP_CIPHER_CTX_free(cipher);
    return rv;
}

apr_status_t seal_open(const unsigned char key[STATE_KEY_DERIVED], bytes_t bound, bytes_t sealed, unsigned char *plain,
                       apr_size_t *length)
{
    EVP_CIPHER_CTX *cipher = NULL;
    unsigned char tag[TAG_BYTES];
    const unsigned char *text = sealed.data + TEXT_AT;
    int some = 0, rest = 0, text_length;
    apr_status_t rv = SEAL_BROKEN;

    if (sealed.len < SEAL_OVERHEAD || sealed.len > INT_MAX || bound.len > BOUND_MAX ||
        memcmp(sealed.data, format, FORMAT_BYTES) != 0)
        return SEAL_BROKEN;
    text_length = (int)(sealed.len - SEAL_OVERHEAD);
    memcpy(tag, text + text_length, TAG_BYTES);
    cipher = EVP_CIPHER_CTX_new();
    if (cipher && EVP_DecryptInit_ex2(cipher, EVP_aes_256_gcm(), key, sealed.data + NONCE_AT, NULL) == 1 &&
        EVP_DecryptUpdate(cipher, NULL, &some, format, FORMAT_BYTES) == 1 &&
        EVP_DecryptUpdate(cipher, NULL, &some, bound.data, (int)bound.len) == 1 &&
        EVP_DecryptUpdate(cipher, plain, &some, text, text_length) == 1 &&
        EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_AEAD_SET_TAG, TAG_BYTES, tag) == 1 &&
        EVP_DecryptFinal_ex(cipher, plain + some, &rest) == 1) {
        *length = (apr_size_t)(some + rest);
        rv = APR_SUCCESS;
    }
    EVP_CIPHER_CTX_free(cipher);
    return rv;
}
