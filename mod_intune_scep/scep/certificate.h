/* SPDX-License-Identifier: Apache-2.0 */
/* Facts of certificates and certification requests. */
#ifndef ISCEP_SCEP_CERTIFICATE_H
#define ISCEP_SCEP_CERTIFICATE_H

#include "base/secret.h"
#include "identity.h"

/** A certificate in the words in which Intune and the log want it. */
typedef struct certificate_facts_t {
    const char *thumbprint;  /**< SHA-1 of the DER, upper-case hex */
    const char *serial;      /**< upper-case hex, an even number of digits, no sign */
    const char *not_after;   /**< YYYY-MM-DDThh:mm:ss.000Z */
    const char *issuer;      /**< RFC 4514, UTF-8, as it is: escape it before it is logged */
    const char *subject;     /**< likewise */
    apr_time_t expires;
} certificate_facts_t;

apr_status_t certificate_facts(certificate_facts_t *facts, X509 *certificate, apr_pool_t *pool);

/** The same from the DER of a certificate (whole input, nothing behind it), as it was stored. */
apr_status_t certificate_facts_of_der(certificate_facts_t *facts, const scep_engine_t *engine, bytes_t der,
                                      apr_pool_t *pool);

/** What a CSR asks for. */
typedef struct csr_t {
    bytes_t der;             /**< the whole PKCS #10, exactly as the device sent it */
    bytes_t info_sha256;     /**< SHA-256 of the CertificationRequestInfo's DER: the CSR's identity */
    bytes_t spki;            /**< DER of its SubjectPublicKeyInfo */
    const char *subject;     /**< RFC 4514, UTF-8, unescaped */
    bytes_t subject_der;     /**< the same Name as the device encoded it */
    int key_bits;
    bool key_is_rsa;
    int challenges;          /**< how many challengePassword values it carries */
    secret_t *challenge;     /**< the first, as text without line breaks and blanks; NULL without */
    bool has_sid;            /**< asks for the SID extension 1.3.6.1.4.1.311.25.2 */
    int extension_lists;     /**< how many lists of requested extensions it carries */
    bool extension_twice;    /**< one of these lists has the same extension twice */
} csr_t;

/**
 * Parses a PKCS #10 (whole input, nothing behind it), verifies its self-signature and reads its facts. What is wrong
 * stands in `why` as a constant (for the log only); the caller decides the answer.
 */
apr_status_t csr_open(csr_t *csr, const scep_engine_t *engine, bytes_t der, apr_pool_t *pool, const char **why);

#endif
