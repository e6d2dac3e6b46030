/* SPDX-License-Identifier: Apache-2.0 */
#include "credential_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <limits.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

EVP_PKEY *credential_key(unsigned bits)
{
    EVP_PKEY *key = bits > 0 ? EVP_RSA_gen(bits) : EVP_EC_gen("P-256");

    assert_non_null(key);
    return key;
}

X509 *credential_certificate(EVP_PKEY *key, long from, long until)
{
    static long serial;
    X509 *made = X509_new();

    assert_non_null(made);
    assert_int_equal(ASN1_INTEGER_set(X509_get_serialNumber(made), ++serial), 1);
    assert_non_null(X509_gmtime_adj(X509_getm_notBefore(made), from));
    assert_non_null(X509_gmtime_adj(X509_getm_notAfter(made), until));
    assert_int_equal(X509_set_pubkey(made, key), 1);
    assert_true(X509_sign(made, key, EVP_sha256()) > 0);
    return made;
}

void credential_write(const char *path, const void *data, size_t len, mode_t mode)
{
    char beside[PATH_MAX];
    int fd;

    assert_true(snprintf(beside, sizeof(beside), "%s.new", path) < (int)sizeof(beside));
    fd = open(beside, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, len), (ssize_t)len);
    close(fd);
    assert_int_equal(chmod(beside, mode), 0);
    assert_int_equal(rename(beside, path), 0);
}

void credential_pem(const char *path, X509 *certificate, EVP_PKEY *key, const char *phrase)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char *data = NULL;
    long len;

    assert_non_null(bio);
    if (key)
        assert_int_equal(PEM_write_bio_PKCS8PrivateKey(bio, key, phrase ? EVP_aes_256_cbc() : NULL, phrase,
                                                       phrase ? (int)strlen(phrase) : 0, NULL, NULL),
                         1);
    if (certificate)
        assert_int_equal(PEM_write_bio_X509(bio, certificate), 1);
    len = BIO_get_mem_data(bio, &data);
    credential_write(path, data, (size_t)len, key ? 0600 : 0644);
    BIO_free(bio);
}
