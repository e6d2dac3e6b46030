/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who the gateway is (RA certificate and key), which CA it stands before (chain) and to whom it speaks behind it.
 * Loaded once, read by all threads. Each step has a function of its own so that the caller can name the directive that
 * is wrong.
 */
#ifndef ISCEP_SCEP_IDENTITY_H
#define ISCEP_SCEP_IDENTITY_H

#include "engine.h"

#include <openssl/x509.h>

enum { SCEP_DECOYS = 3 };

typedef struct scep_identity_t {
    const scep_engine_t *engine;
    X509 *ra_certificate;
    EVP_PKEY *ra_key;             /**< signs all that we send, and opens what the CA sends */
    X509 *device_certificate;     /**< to which devices encrypt: the RA's, unless there is one of its own for it */
    EVP_PKEY *device_key;
    STACK_OF(X509) *chain;        /**< issuing CA first */
    /** Certificates that may sign the CA's answers: IntuneScepBackendCertificate and the issuing CA. */
    STACK_OF(X509) *backend;
    X509 *backend_recipient;      /**< to which the request to the CA is encrypted */
    X509_STORE *store;            /**< trusts the chain, the last certificate of it being the anchor */
    bytes_t decoys[SCEP_DECOYS];  /**< see scep_decoy_choose() */
} scep_identity_t;

/**
 * All certificates of a PEM file (or the one of a DER file), bound to the engine's context, freed with `pool`.
 * @param message on failure: one sentence naming the path. APR_EGENERAL, or the errno of opening.
 */
apr_status_t scep_certificates_load(STACK_OF(X509) **certificates, const scep_engine_t *engine, const char *path,
                                    apr_pool_t *pool, const char **message);

/** An unencrypted private key, PEM or DER, RSA; otherwise as scep_certificates_load(). */
apr_status_t scep_key_load(EVP_PKEY **key, const scep_engine_t *engine, const char *path, apr_pool_t *pool,
                           const char **message);

/* Checks; each gives NULL, or one sentence that says what is wrong. `now` is absolute. */
const char *scep_key_check(X509 *certificate, EVP_PKEY *key, apr_pool_t *pool);
const char *scep_validity_check(X509 *certificate, apr_time_t now, apr_pool_t *pool);
/** Issuing CA first, each signed by the next, all of them CAs and valid. */
const char *scep_chain_check(STACK_OF(X509) *chain, apr_time_t now, apr_pool_t *pool);
typedef enum scep_ra_role_t { RA_SIGNS = 1, RA_DECRYPTS = 2, RA_DOES_BOTH = 3 } scep_ra_role_t;
/**
 * RSA, signed by the chain; key usage, where present, allows what the role needs. A certificate of the chain itself (RA
 * and CA are one) may do all of it: scep_ra_usage_check() tells who may mind.
 */
const char *scep_ra_check(X509 *ra_certificate, scep_ra_role_t role, STACK_OF(X509) *chain, apr_time_t now,
                          apr_pool_t *pool);
/** Whether the key usage allows what the role needs. NULL, or a sentence. */
const char *scep_ra_usage_check(X509 *ra_certificate, scep_ra_role_t role, apr_pool_t *pool);

/* ra_advice.c: what devices mind of a certificate that passed the checks above. NULL, or what it is, to stand behind its
 * name. A certificate of the chain itself is left to scep_ra_usage_check(). */
const char *scep_ra_windows_usage(X509 *certificate, scep_ra_role_t role, STACK_OF(X509) *chain);
const char *scep_ra_windows_purpose(X509 *certificate, STACK_OF(X509) *chain);

/**
 * Puts checked parts together. `backend` may be NULL: then the issuing CA is signer and recipient. Of several backend
 * certificates the recipient is the first RSA one whose key usage allows key encipherment, else the first RSA one.
 * Parts must live as long as `pool`.
 */
apr_status_t scep_identity_make(scep_identity_t **identity, const scep_engine_t *engine, X509 *ra_certificate,
                                EVP_PKEY *ra_key, STACK_OF(X509) *chain, STACK_OF(X509) *backend, apr_pool_t *pool,
                                result_t *result);

/** From now on devices encrypt to this certificate instead of the RA's. Call it before the identity is used or
 * published. */
void scep_identity_separate(scep_identity_t *identity, X509 *certificate, EVP_PKEY *key);

/** Whether Apple's devices find an RA in GetCACert's answer. NULL, or a sentence (ra_advice.c). */
const char *scep_ra_apple(const scep_identity_t *identity);

/**
 * The DER of a CSR signed by the RA key, to be checked in place of one that could not be decrypted, so that a failure
 * takes the time of a success. Of several, with challenges of different lengths, the one that fits an envelope of
 * `length` bytes best.
 */
bytes_t scep_decoy_choose(const scep_identity_t *identity, apr_size_t length);

/**
 * The body of GetCACert: RA (one or two certificates) and chain as a degenerate SignedData, or the single certificate
 * where RA and CA are one. The certificates are a SET OF, which OpenSSL sorts as DER demands (X.690 section 11.6).
 * @param type set to the media type, a constant.
 */
apr_status_t scep_identity_publish(bytes_t *body, const char **type, const scep_identity_t *identity, apr_pool_t *pool,
                                   result_t *result);

#endif
