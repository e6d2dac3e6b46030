/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to scep/: the one reader of CMS, for messages of devices and of the CA alike. Strict: a SignedData with
 * exactly one SignerInfo, nothing behind its end; an EnvelopedData over the whole of its content, with plain data in
 * it.
 */
#ifndef ISCEP_SCEP_MESSAGE_CMS_H
#define ISCEP_SCEP_MESSAGE_CMS_H

#include "identity.h"
#include "message_attributes.h"

/** The outer SignedData. Everything in it but `cms`, which the caller frees, is borrowed from it. */
typedef struct outer_t {
    CMS_ContentInfo *cms;
    CMS_SignerInfo *signer_info;
    scep_attributes_t attributes;
    bytes_t content;         /**< empty without eContent */
    unsigned digest;         /**< one bit, or 0 */
    const char *digest_name; /**< as OpenSSL calls it */
} outer_t;

/** Reads a SignedData. Nothing is verified yet. NULL, or what is wrong. */
const char *scep_outer_read(outer_t *outer, const scep_engine_t *engine, bytes_t der, apr_pool_t *pool);

/** Whether strangers' certificates may be looked into: false where that could fill the memory. */
bool scep_stack_is_modest(STACK_OF(X509) * certificates);

/** Likewise those of a SignedData. */
bool scep_certificates_are_modest(CMS_ContentInfo *cms);

/** Verifies signature, messageDigest and the attributes' form. The signer's certificate is not looked at. */
bool scep_outer_verify(outer_t *outer, STACK_OF(X509) * signers, unsigned flags);

/** An EnvelopedData over the whole of `content`, for the caller to free, or NULL. */
CMS_ContentInfo *scep_envelope_read(const scep_engine_t *engine, bytes_t content);

/** The content cipher as one bit, 0 for one that SCEP does not know. */
unsigned scep_envelope_cipher(CMS_ContentInfo *cms, const char **name, apr_pool_t *pool);

/**
 * Decrypts: one private operation whatever comes of it.
 * @return a memory BIO with the content, for the caller to free, or NULL with `why` set.
 */
BIO *scep_envelope_decrypt(CMS_ContentInfo *cms, const scep_engine_t *engine, X509 *certificate, EVP_PKEY *key,
                           const char **why);

/** What a memory BIO holds, borrowed from it. */
bytes_t scep_bio_peek(BIO *bio);

/** A reason and what OpenSSL has to say about it. */
const char *scep_with_errors(const char *why, apr_pool_t *pool);

#endif
