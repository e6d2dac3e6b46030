/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The other side of SCEP: what a device, or an RA that wants its own certificate, makes and reads. For the command-line
 * tool; the gateway itself needs none of it. A client is a scep_identity_t whose RA is itself: its certificate signs,
 * its key decrypts, and `backend` is whoever answers. What it sends is made by scep_ask_build(), what comes back is
 * opened by scep_answer_open().
 */
#ifndef ISCEP_SCEP_CLIENT_H
#define ISCEP_SCEP_CLIENT_H

#include "message.h"

#include <apr_tables.h>

enum { CLIENT_SIGNS = 1, CLIENT_DECRYPTS = 2 }; /**< key usage: digitalSignature, keyEncipherment */

/** What a certificate request says. */
typedef struct scep_wish_t {
    const char *subject; /**< "/O=Example/CN=device 1", a backslash before a "/" that is meant; "" for none */
    bytes_t subject_der; /**< a Name in place of it, or empty */
    const apr_array_header_t *names; /**< const char *: "dns:…", "email:…", "uri:…", "ip:…", "upn:…"; or NULL */
    const secret_t *challenge;       /**< or NULL */
    unsigned usage;                  /**< CLIENT_SIGNS …, 0 asks for none */
    const apr_array_header_t *purposes; /**< const char *: object identifiers of the extended key usage; or NULL */
} scep_wish_t;

/** A new RSA key, freed with `pool`; NULL without. */
EVP_PKEY *scep_client_key_make(const scep_engine_t *engine, unsigned bits, apr_pool_t *pool);

/** An unencrypted private key in PEM (PKCS #8), overwritten with the pool; an empty run on failure. */
bytes_t scep_client_key_print(EVP_PKEY *key, apr_pool_t *pool);

/** A certificate in PEM; an empty run on failure. */
bytes_t scep_client_certificate_print(X509 *certificate, apr_pool_t *pool);

/** A PKCS #10, read as it would be by who gets it. @param why on failure: one sentence. */
apr_status_t scep_client_csr_make(csr_t *csr, const scep_engine_t *engine, EVP_PKEY *key, const scep_wish_t *wish,
                                  apr_pool_t *pool, const char **why);

/** The self-signed certificate by which a client without one signs: the CSR's subject, valid from now for a week. */
apr_status_t scep_client_signer_make(X509 **certificate, const scep_engine_t *engine, EVP_PKEY *key, const csr_t *csr,
                                     apr_pool_t *pool, const char **why);

/** What GetCACert gave. */
typedef struct scep_ca_t {
    STACK_OF(X509) * certificates; /**< all, in their order; freed with the pool */
    STACK_OF(X509) * chain;        /**< the CAs of them that belong together, issuing CA first; never empty */
    STACK_OF(X509) * ras;          /**< those that are no CA's; perhaps none */
} scep_ca_t;

/** Reads a certificate, or a SignedData with certificates. @param why on failure: one sentence. */
apr_status_t scep_ca_read(scep_ca_t **ca, const scep_engine_t *engine, bytes_t body, apr_pool_t *pool,
                          const char **why);

/** What is asked. */
typedef struct scep_ask_t {
    scep_message_type_t type; /**< SCEP_PKCSREQ or SCEP_RENEWALREQ */
    const char *transaction_id;
    const csr_t *csr;
    scep_algorithms_t use; /**< one bit each */
    bool oaep;             /**< RSAES-OAEP carries the content key, instead of PKCS #1 v1.5 */
} scep_ask_t;

/** Builds the message, signed by the identity's RA, encrypted to its backend. Poll with scep_poll_build(). */
apr_status_t scep_ask_build(scep_relay_t **relay, const scep_identity_t *identity, const scep_ask_t *ask,
                            apr_pool_t *pool, result_t *result);

#endif
