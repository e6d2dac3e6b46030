/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SCEP messages (RFC 8894 section 3). Opening is strict: a CMS SignedData with exactly one SignerInfo, each attribute
 * once, nothing behind the end. message_cms.c reads CMS; message_open.c decides on devices' messages, answer_open.c on
 * the CA's.
 */
#ifndef ISCEP_SCEP_MESSAGE_H
#define ISCEP_SCEP_MESSAGE_H

#include "certificate.h"
#include "crl.h"

/** What a device may send. */
typedef struct scep_policy_t {
    scep_algorithms_t device;  /**< allowed in its message */
    scep_algorithms_t backend; /**< allowed in the CA's answer */
    int min_key_bits;          /**< of an RSA key in the CSR */
    bool refuse_sid;
    scep_crls_t *crls;         /**< where a revoked signer is found, or NULL */
} scep_policy_t;

/** What GetCert and GetCRL ask for: an IssuerAndSerialNumber. */
typedef struct scep_inquiry_t {
    bytes_t der;
    const char *issuer; /**< RFC 4514, UTF-8, as it is: escape it before it is logged */
    const char *serial; /**< upper-case hex */
} scep_inquiry_t;

/** A device's message, filled from top to bottom while it is opened. */
typedef struct scep_request_t {
    const char *transaction_id;  /**< as sent, printable ASCII, 1 to 255 characters */
    bytes_t sender_nonce;
    unsigned digest;             /**< the digest of its signature, one bit; 0 unknown */
    scep_message_type_t type;
    X509 *signer;                /**< certificate of the message's signer, freed with the pool */
    bytes_t signer_key_sha256;   /**< SHA-256 of its SubjectPublicKeyInfo's DER; the signature is verified */
    unsigned cipher;             /**< of its envelope, one bit; 0 unknown */
    csr_t csr;                   /**< with PKCSReq and RenewalReq; proved: self-signature and key binding hold */
    scep_inquiry_t inquiry;      /**< with GetCert and GetCRL */
} scep_request_t;

/** Whether it is a PKCSReq or RenewalReq: such a message has a CSR. */
static inline bool scep_type_has_csr(scep_message_type_t type)
{
    return type == SCEP_PKCSREQ || type == SCEP_RENEWALREQ;
}

/** Whether it is a GetCert or GetCRL: such a message has no CSR, and Intune has no say in it. */
static inline bool scep_type_is_inquiry(scep_message_type_t type)
{
    return type == SCEP_GETCERT || type == SCEP_GETCRL;
}

/**
 * Opens a device's message: verifies the signature, decrypts the envelope, verifies the CSR and that its key is the
 * signer's (PKCSReq) or that the signer's certificate is a valid one of the CA and not revoked (RenewalReq). GetCert
 * and GetCRL need such a signer, too, and hold an IssuerAndSerialNumber instead of a CSR, of a CA of the chain. Anybody
 * may sign a CertPoll: nothing in it is proved but that `signer_key_sha256` is that of its signer's key, and the caller
 * has to know the transaction and that key. Its envelope stays closed, for nothing depends on what is in it.
 *
 * On failure `request` is still set, if transactionID and senderNonce could be read: then the device can be told by
 * CertRep. Otherwise it is NULL and the problem is PROBLEM_NOT_SCEP. Every failure between decryption and the proof of
 * the CSR is PROBLEM_BAD_ENVELOPE and takes the time of a success: the RA key must be no oracle (Bleichenbacher 1998).
 * @param der the whole body; read only during the call.
 */
apr_status_t scep_request_open(scep_request_t **request, const scep_identity_t *identity, const scep_policy_t *policy,
                               bytes_t der, apr_pool_t *pool, result_t *result);

/** What we asked the CA, to hold its answer against. */
typedef struct scep_relay_t {
    bytes_t sender_nonce;      /**< ours on this leg */
    const char *transaction_id;
    scep_message_type_t type;  /**< SCEP_PKCSREQ, SCEP_CERTPOLL, SCEP_GETCERT or SCEP_GETCRL */
    bytes_t spki;              /**< of the CSR, with a PKCSReq or CertPoll */
    scep_inquiry_t inquiry;    /**< of a GetCert or GetCRL */
    bytes_t body;              /**< the PKIMessage to send */
} scep_relay_t;

/**
 * Builds the message to the CA in the RA's name: a PKCSReq around the device's CSR, or its GetCert or GetCRL; signed by
 * the RA, encrypted to the backend. One bit each in `use`. A CertPoll has nothing to be relayed: PROBLEM_INTERNAL.
 */
apr_status_t scep_relay_build(scep_relay_t **relay, const scep_identity_t *identity, const scep_request_t *request,
                              scep_algorithms_t use, apr_pool_t *pool, result_t *result);

/** Builds such a PKCSReq for a transaction and a CSR that may have been stored; the CSR's bytes pass unchanged. */
apr_status_t scep_pkcsreq_build(scep_relay_t **relay, const scep_identity_t *identity, const char *transaction_id,
                                const csr_t *csr, scep_algorithms_t use, apr_pool_t *pool, result_t *result);

/**
 * Builds the gateway's own CertPoll for a PKCSReq that it sent. The IssuerAndSubject is that of the issuing CA and the
 * CSR. The answer is judged as the PKCSReq's would be.
 */
apr_status_t scep_poll_build(scep_relay_t **relay, const scep_identity_t *identity, const char *transaction_id,
                             const csr_t *csr, scep_algorithms_t use, apr_pool_t *pool, result_t *result);

/** The CA's answer, verified. */
typedef struct scep_answer_t {
    scep_pki_status_t status;
    scep_fail_info_t fail_info;      /**< with SCEP_FAILURE */
    const char *fail_info_text;      /**< with SCEP_FAILURE, UTF-8 as the CA sent it, at most 255 bytes; or NULL */
    /** With SCEP_SUCCESS: the one with the CSR's key, or that was asked for; freed with the pool. */
    X509 *certificate;
    bytes_t certificate_der;
    certificate_facts_t facts;
    bytes_t crl;                     /**< DER, with SCEP_SUCCESS to a GetCRL: then there is no certificate */
} scep_answer_t;

/** Whether this is the beginning of a message, and its end has not come: CMS itself says how long it is. */
bool scep_is_cut_short(bytes_t der);

/**
 * Opens the CA's CertRep. SUCCESS with a good certificate, FAILURE and PENDING give APR_SUCCESS. Otherwise the problem
 * is PROBLEM_CA_GARBAGE, _FOREIGN_SIGNER, _WRONG_TRANSACTION, _WRONG_KEY, _WRONG_OBJECT or _BAD_CERTIFICATE. Where the
 * certificate was readable but refused, `answer->facts` is set all the same (else its serial is NULL), so that the
 * operator learns its serial. notBefore may lie up to five minutes ahead.
 */
apr_status_t scep_answer_open(scep_answer_t **answer, const scep_identity_t *identity, const scep_policy_t *policy,
                              const scep_relay_t *relay, bytes_t der, apr_pool_t *pool, result_t *result);

/**
 * CertReps for the device, signed by the RA with the digest of its request. SUCCESS is encrypted to the request's
 * signer with the cipher of the request, and its inner SignedData holds `certificate` only. FAILURE and PENDING have an
 * empty content (section 3.3.2).
 * @param text failInfoText in UTF-8, or NULL.
 */
apr_status_t scep_success_build(bytes_t *body, const scep_identity_t *identity, const scep_request_t *request,
                                X509 *certificate, apr_pool_t *pool, result_t *result);
/** SUCCESS with a certificate as it was stored: these bytes are what the device finds. */
apr_status_t scep_stored_success_build(bytes_t *body, const scep_identity_t *identity, const scep_request_t *request,
                                       bytes_t certificate_der, apr_pool_t *pool, result_t *result);
/** SUCCESS to a GetCRL: the inner SignedData holds the revocation list only. */
apr_status_t scep_crl_success_build(bytes_t *body, const scep_identity_t *identity, const scep_request_t *request,
                                    bytes_t crl, apr_pool_t *pool, result_t *result);
apr_status_t scep_failure_build(bytes_t *body, const scep_identity_t *identity, const scep_request_t *request,
                                scep_fail_info_t fail_info, const char *text, apr_pool_t *pool, result_t *result);
apr_status_t scep_pending_build(bytes_t *body, const scep_identity_t *identity, const scep_request_t *request,
                                apr_pool_t *pool, result_t *result);

#endif
