/* SPDX-License-Identifier: Apache-2.0 */
/* Certificates and keys of an application in files, made at run time. Whatever fails ends the test. */
#ifndef ISCEP_TESTS_CREDENTIAL_FIXTURE_H
#define ISCEP_TESTS_CREDENTIAL_FIXTURE_H

#include <openssl/evp.h>
#include <openssl/x509.h>
#include <sys/types.h>

EVP_PKEY *credential_key(unsigned bits);

/** Self-signed by the key; valid from and until so many seconds from now. */
X509 *credential_certificate(EVP_PKEY *key, long from, long until);

/** Writes a file in one step: beside it, then renamed over it. */
void credential_write(const char *path, const void *data, size_t len, mode_t mode);

/** PEM of what is not NULL into one file: key (encrypted if there is a pass phrase), then certificate. */
void credential_pem(const char *path, X509 *certificate, EVP_PKEY *key, const char *phrase);

#endif
