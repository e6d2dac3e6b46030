/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The certificate by which the application proves itself to Entra, with its private key: RSA, in an OpenSSL library
 * context of its own, beside curl's and mod_ssl's. Read again when its files change.
 */
#ifndef ISCEP_INTUNE_APP_CERTIFICATE_H
#define ISCEP_INTUNE_APP_CERTIFICATE_H

#include "base/secret.h"

#include <apr_time.h>
#include <openssl/types.h>

typedef struct app_certificate_t app_certificate_t;

typedef struct app_certificate_settings_t {
    const char *certificate;   /**< absolute path: PEM, DER or PKCS #12; its first certificate counts */
    const char *key;           /**< of the private key, if not in that file: a path or an OSSL_STORE URI; or NULL */
    secret_source_t *password; /**< the pass phrase of the file or URI with the key; or NULL */
} app_certificate_settings_t;

/** A certificate and its key. Lives as long as the pool that it was taken into. */
typedef struct app_pair_t {
    OSSL_LIB_CTX *context; /**< to sign in */
    EVP_PKEY *key;
    const char *thumbprint; /**< SHA-256 of the certificate in base64url, as x5t#S256 has it */
    const char *name;       /**< SHA-1 of the certificate in upper-case hexadecimal, as Entra lists it */
    apr_time_t not_after;
} app_pair_t;

/** Whether a key is given by an OSSL_STORE URI ("pkcs11:…") and not by a file; `file:PATH` is a file. */
bool app_certificate_key_is_uri(const char *key);

/**
 * Reads the pair for the first time and checks it: the key fits the certificate, RSA of at least 2048 bits, valid now.
 * A file with the key must pass secret_path_check(). Where the key is a URI, the providers of OpenSSL's configuration
 * file are loaded too; a PIN in it is refused.
 *
 * Usable by all threads of the process and, after a fork, by each process on its own.
 * @param message on failure: one sentence that names the file or URI, but not the directive.
 */
apr_status_t app_certificate_make(app_certificate_t **certificate, const app_certificate_settings_t *settings,
                                  apr_pool_t *pool, const char **message);

/**
 * The pair now. Where a file changed, it is read again; where the new pair is not whole or not good, the old one stays,
 * and `kept` says why in one sentence (NULL otherwise). Gives NULL without memory only.
 */
const app_pair_t *app_certificate_take(app_certificate_t *certificate, apr_pool_t *pool, const char **kept);

/** When the certificate in use expires, for those who warn of it. */
apr_time_t app_certificate_expires(app_certificate_t *certificate);

#endif
