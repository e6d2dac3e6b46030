/* SPDX-License-Identifier: Apache-2.0 */
/* Settings that curl would only try with the first call are tried here. */
#include "base/http_internal.h"

#include "base/text.h"

#include <apr_strings.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdbool.h>
#include <string.h>
#include <strings.h>

enum { PATH_SHOWN = 512 };

static apr_status_t wrong(const char **message, apr_pool_t *pool, const char *path, const char *what)
{
    *message = apr_pstrcat(pool, text_escape(pool, path, PATH_SHOWN), " ", what, NULL);
    return APR_EINVAL;
}

/* Nobody is there to type a pass phrase. */
static int no_pass_phrase(char *buffer, int size, int writing, void *baton)
{
    (void)buffer;
    (void)size;
    (void)writing;
    (void)baton;
    return -1;
}

static apr_status_t trust_check(const char *path, apr_pool_t *pool, const char **message)
{
    BIO *file = BIO_new_file(path, "r");
    X509 *certificate = NULL;
    apr_status_t rv = APR_SUCCESS;

    if (!file)
        rv = wrong(message, pool, path, "cannot be read");
    else if (!(certificate = PEM_read_bio_X509_AUX(file, NULL, no_pass_phrase, NULL)))
        rv = wrong(message, pool, path, "holds no certificate in PEM form");
    X509_free(certificate);
    BIO_free(file);
    return rv;
}

static apr_status_t pair_check(const char *path, apr_pool_t *pool, const char **message)
{
    BIO *certificate_file = BIO_new_file(path, "r"), *key_file = BIO_new_file(path, "r");
    X509 *certificate = NULL;
    EVP_PKEY *key = NULL;
    apr_status_t rv = APR_SUCCESS;

    if (!certificate_file || !key_file)
        rv = wrong(message, pool, path, "cannot be read");
    else if (!(certificate = PEM_read_bio_X509_AUX(certificate_file, NULL, no_pass_phrase, NULL)))
        rv = wrong(message, pool, path, "holds no certificate in PEM form");
    else if (!(key = PEM_read_bio_PrivateKey(key_file, NULL, no_pass_phrase, NULL)))
        rv = wrong(message, pool, path, "holds no private key in PEM form that can be read without a pass phrase");
    else if (X509_check_private_key(certificate, key) != 1)
        rv = wrong(message, pool, path, "holds a private key that is not that of its first certificate");
    EVP_PKEY_free(key);
    X509_free(certificate);
    BIO_free(certificate_file);
    BIO_free(key_file);
    return rv;
}

apr_status_t http_trust_check(const char *path, apr_pool_t *pool, const char **message)
{
    apr_status_t rv = trust_check(path, pool, message);

    ERR_clear_error();
    return rv;
}

apr_status_t http_certificate_check(const char *path, apr_pool_t *pool, const char **message)
{
    apr_status_t rv = pair_check(path, pool, message);

    ERR_clear_error();
    return rv;
}

bool http_proxy_is_possible(const char *proxy)
{
    return strncasecmp(proxy, "https:", 6) || curl_version_info(CURLVERSION_NOW)->features & CURL_VERSION_HTTPS_PROXY;
}
