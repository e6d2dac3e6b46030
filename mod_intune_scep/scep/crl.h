/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The CA's revocation lists from a file that somebody keeps fresh. It is read again when it changes; a new file that
 * cannot be used leaves the old lists in force until they expire. All threads of a process share one.
 */
#ifndef ISCEP_SCEP_CRL_H
#define ISCEP_SCEP_CRL_H

#include "engine.h"

#include <openssl/x509.h>

typedef struct scep_crls_t scep_crls_t;

typedef enum scep_revocation_t {
    REVOCATION_NONE,   /**< the list of its issuer and distribution point, valid now, does not have it */
    REVOCATION_IS,     /**< it is revoked */
    REVOCATION_UNKNOWN /**< there is no such list that is valid now */
} scep_revocation_t;

/**
 * Reads the lists of a file, PEM (several) or DER (one). Each must be signed by a CA of `chain`, complete, and for
 * users' certificates. An expired one is taken: it answers REVOCATION_UNKNOWN, as one whose thisUpdate is more than
 * five minutes ahead. One with an issuingDistributionPoint is about certificates that name the same point. `chain` must live as long as `pool`.
 * @param message on failure: one sentence naming the path. APR_EGENERAL, or the errno of opening.
 */
apr_status_t scep_crls_make(scep_crls_t **crls, const scep_engine_t *engine, STACK_OF(X509) * chain, const char *path,
                            apr_pool_t *pool, const char **message);

/**
 * Looks a certificate up, after having read the file again if it changed.
 * @param why set to what was found, unless REVOCATION_NONE. Escaped.
 */
scep_revocation_t scep_crls_check(scep_crls_t *crls, X509 *certificate, apr_pool_t *pool, const char **why);

/** Whether each list is valid now: NULL, or a sentence about one that is not. */
const char *scep_crls_expired(scep_crls_t *crls, apr_pool_t *pool);

#endif
