/* SPDX-License-Identifier: Apache-2.0 */
/* Private to scep/: steps that several of its files share. */
#ifndef ISCEP_SCEP_PARTS_H
#define ISCEP_SCEP_PARTS_H

#include "message.h"

#include <openssl/bio.h>
#include <openssl/cms.h>

/* engine.c */

/** Frees the certificate with the pool; the pool takes over the caller's reference. */
void scep_keep_certificate(X509 *certificate, apr_pool_t *pool);

/** What a memory BIO holds, copied into `pool`. */
bytes_t scep_bytes_of_bio(BIO *bio, apr_pool_t *pool);

/**
 * A CMS ContentInfo bound to one of the engine's contexts, from the whole input, nothing behind it; else NULL, also where
 * scep_cms_excess() minds. The caller frees it.
 */
CMS_ContentInfo *scep_cms_read(OSSL_LIB_CTX *context, bytes_t der);

/** The DER of a CMS ContentInfo; an empty run on failure. */
bytes_t scep_cms_print(CMS_ContentInfo *cms, apr_pool_t *pool);

/** An object identifier in dotted form; "" where it is longer than any that SCEP knows. Print once, compare often. */
enum { SCEP_OID_SIZE = 80 };
const char *scep_oid_print(char text[SCEP_OID_SIZE], const ASN1_OBJECT *object);

/** Whether an object identifier is this one in dotted form. */
bool scep_oid_is(const ASN1_OBJECT *object, const char *oid);

/* message_cms.c */

/** What of a stranger's CMS message would take OpenSSL too long merely to read; NULL: nothing. */
const char *scep_cms_excess(bytes_t der);

/* certificate.c */

/** DER of a SubjectPublicKeyInfo; an empty run on failure. */
bytes_t scep_spki_print(const X509_PUBKEY *key, apr_pool_t *pool);

/** DER of a certificate; an empty run on failure. */
bytes_t scep_certificate_print(const X509 *certificate, apr_pool_t *pool);

/** A certificate bound to `reading`, from the whole input, nothing behind it; else NULL. The caller frees it. */
X509 *scep_certificate_read(const scep_engine_t *engine, bytes_t der);

/** DER of a name, byte for byte as it was read; an empty run on failure. */
bytes_t scep_name_encode(const X509_NAME *name, apr_pool_t *pool);

/** A name in RFC 4514's form, UTF-8. What is not UTF-8 comes out in hexadecimal. Never NULL. */
const char *scep_name_print(const X509_NAME *name, apr_pool_t *pool);

/** SHA-1, SHA-256 … of some bytes, with the engine's own digest. An empty run on failure. */
bytes_t scep_digest(OSSL_LIB_CTX *context, const char *name, bytes_t bytes, apr_pool_t *pool);

/**
 * Whether now lies in the certificate's validity, notBefore being allowed to lie `ahead` in the future.
 * @return NULL, or "is not valid before …", "has expired on …".
 */
const char *scep_dates_check(const X509 *certificate, apr_time_t now, apr_interval_time_t ahead, apr_pool_t *pool);

/** Upper-case hex, an even number of digits, no sign; NULL on failure. */
const char *scep_serial_print(const ASN1_INTEGER *serial, apr_pool_t *pool);

/** Certificates as a SignedData without signers and content (RFC 8894 section 3.4); an empty run on failure. */
bytes_t scep_degenerate_print(const scep_engine_t *engine, STACK_OF(X509) *certificates, apr_pool_t *pool);

/** A revocation list, in DER, as such a SignedData. */
bytes_t scep_degenerate_crl_print(const scep_engine_t *engine, bytes_t crl, apr_pool_t *pool);

/* public_key.c */

/**
 * Whether no elliptic key in some BER has a curve that is spelled out, wherever it may be: to decode a single one can take
 * OpenSSL a tenth of a second, for it takes square roots modulo whatever number is in it.
 */
bool scep_curves_are_named(bytes_t der);

/** Whether a stranger's key may be computed with: NULL, or what it is instead, as a constant: "an RSA key of more than
 * …". */
const char *scep_public_key_check(const X509_PUBKEY *spki);

/* inquiry.c */

/** Reads an IssuerAndSerialNumber, nothing behind it. NULL, or what is wrong. */
const char *scep_inquiry_open(scep_inquiry_t *inquiry, bytes_t der, apr_pool_t *pool);

/** Whether this certificate is the one that was asked for, and this list that of its issuer. */
bool scep_inquiry_names(const scep_inquiry_t *inquiry, X509 *certificate);
bool scep_inquiry_covers(const scep_inquiry_t *inquiry, const X509_CRL *list);

/** Whether it is of a CA of this chain. */
bool scep_inquiry_is_for(const scep_inquiry_t *inquiry, STACK_OF(X509) *chain);

/* poll.c */

/** What CertPoll names: an IssuerAndSubject. It is the transactionID that tells which request is meant. */
typedef struct scep_poll_t {
    bytes_t der;
    const char *issuer;  /**< RFC 4514, UTF-8, as it is: escape it before it is logged */
    const char *subject; /**< likewise; "" where it is empty, as many a CSR's is */
} scep_poll_t;

/** Reads an IssuerAndSubject, nothing behind it. NULL, or what is wrong. */
const char *scep_poll_open(scep_poll_t *poll, bytes_t der, apr_pool_t *pool);

/** The IssuerAndSubject of two encoded names; an empty run on failure. */
bytes_t scep_poll_print(bytes_t issuer, bytes_t subject, apr_pool_t *pool);

/* crl.c */

/** Whether a CA of the chain signed the list and may: NULL, or "is not signed by …". The list remembers which. */
const char *scep_crl_signature_check(X509_CRL *list, STACK_OF(X509) *chain);

/* identity.c */

/** Whether the configured chain signed the certificate, whenever that was valid. NULL, or the reason. */
const char *scep_chain_signed(const scep_identity_t *identity, X509 *certificate, apr_pool_t *pool);

/**
 * Whether the configured chain signed the certificate and all of the path is valid now, notBefore of the certificate
 * itself being allowed to lie `ahead` in the future.
 * @return NULL, or the reason.
 */
const char *scep_trust_check(const scep_identity_t *identity, X509 *certificate, apr_interval_time_t ahead,
                             apr_pool_t *pool);

/* csr.c: the steps of csr_open(), for a caller who must take the same steps whatever fails. */

/** Parses; NULL with `why` set otherwise. The caller frees it. */
X509_REQ *csr_parse(const scep_engine_t *engine, bytes_t der, const char **why);

/** Whether the self-signature holds. */
bool csr_prove(X509_REQ *request, const scep_engine_t *engine);

/** Reads the facts of what csr_parse() made of `der`. NULL, or what is wrong. */
const char *csr_read(csr_t *csr, X509_REQ *request, const scep_engine_t *engine, bytes_t der, apr_pool_t *pool);

#endif
