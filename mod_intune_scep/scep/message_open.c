/* SPDX-License-Identifier: Apache-2.0 */
/* The devices' messages: every decision on their form is made here. */
#include "message.h"

#include "base/text.h"
#include "message_cms.h"
#include "parts.h"

#include <apr_strings.h>
#include <openssl/err.h>
#include <openssl/evp.h>

/** Form only: structure, signer and attributes. Sets `request` as soon as the device can be answered by CertRep. */
static apr_status_t request_read(scep_request_t **request, outer_t *outer, const scep_identity_t *identity,
                                 const scep_policy_t *policy, bytes_t der, apr_pool_t *pool, result_t *result)
{
    const scep_attribute_t *of = outer->attributes.of;
    scep_request_t *made = NULL;
    const char *why = scep_outer_read(outer, identity->engine, der, pool);
    int i = 0;
    int type = -1;

    if (why) {
        return result_set(result, PROBLEM_NOT_SCEP, "%s", scep_with_errors(why, pool));
    }
    if (CMS_set1_signers_certs(outer->cms, NULL, 0) != 1) {
        return result_set(result, PROBLEM_NOT_SCEP, "the signer's certificate is not in it");
    }
    if (!scep_attribute_is_transaction_id(&of[ATTRIBUTE_TRANSACTION_ID])) {
        return result_set(result, PROBLEM_NOT_SCEP, "it has no good transactionID");
    }
    if (!scep_attribute_is_nonce(&of[ATTRIBUTE_SENDER_NONCE])) {
        return result_set(result, PROBLEM_NOT_SCEP, "it has no good senderNonce");
    }
    made = apr_pcalloc(pool, sizeof(*made));
    made->transaction_id = apr_pstrmemdup(pool, (const char *)of[ATTRIBUTE_TRANSACTION_ID].value.data,
                                          of[ATTRIBUTE_TRANSACTION_ID].value.len);
    made->sender_nonce.len = of[ATTRIBUTE_SENDER_NONCE].value.len;
    made->sender_nonce.data = apr_pmemdup(pool, of[ATTRIBUTE_SENDER_NONCE].value.data, made->sender_nonce.len);
    /* What is not allowed in the request is not used in the answer either. */
    made->digest = outer->digest & policy->device.digests;
    *request = made;
    for (i = 0; i < ATTRIBUTE_COUNT; i++) {
        if (of[i].state == ATTRIBUTE_ODD) {
            return result_set(result, PROBLEM_NOT_SCEP, "its %s is there twice or of a wrong type",
                              scep_attribute_name((scep_attribute_name_t)i));
        }
    }
    type = scep_attribute_number(&of[ATTRIBUTE_MESSAGE_TYPE]);
    if (type < 0) {
        return result_set(result, PROBLEM_NOT_SCEP, "it has no good messageType");
    }
    made->type = (scep_message_type_t)type;
    return APR_SUCCESS;
}

static const char *subject_of(X509 *certificate, apr_pool_t *pool)
{
    return text_escape(pool, scep_name_print(X509_get_subject_name(certificate), pool), 200);
}

/** Whether the signer is a device with a certificate of our CA that counts today. */
static apr_status_t holder_check(const scep_identity_t *identity, const scep_policy_t *policy, X509 *signer,
                                 apr_pool_t *pool, result_t *result)
{
    const char *why = NULL;

    if (X509_cmp(signer, identity->ra_certificate) == 0 || X509_cmp(signer, identity->device_certificate) == 0) {
        return result_set(result, PROBLEM_BAD_SIGNER, "it is the RA's own certificate");
    }
    why = scep_trust_check(identity, signer, 0, pool);
    if (why) {
        return result_set(result, PROBLEM_BAD_SIGNER, "the certificate \"%s\" %s", subject_of(signer, pool), why);
    }
    switch (policy->crls ? scep_crls_check(policy->crls, signer, pool, &why) : REVOCATION_NONE) {
    case REVOCATION_NONE:
        return APR_SUCCESS;
    case REVOCATION_IS:
        return result_set(result, PROBLEM_BAD_SIGNER, "the certificate \"%s\" %s", subject_of(signer, pool), why);
    case REVOCATION_UNKNOWN:
        break;
    }
    return result_set(result, PROBLEM_CRL_UNUSABLE, "%s", why);
}

/** What is expensive, or cannot work, is refused for its form alone. */
static apr_status_t signer_key_check(X509 *signer, result_t *result)
{
    const char *what = scep_public_key_check(X509_get_X509_PUBKEY(signer));
    EVP_PKEY *key = X509_get0_pubkey(signer);

    if (what) {
        return result_set(result, PROBLEM_KEY_NOT_SERVED, "the signer has %s", what);
    }
    if (!EVP_PKEY_is_a(key, "RSA")) {
        return result_set(result, PROBLEM_KEY_CANNOT_DECRYPT, "the signer's key is of the type %s%s",
                          EVP_PKEY_get0_type_name(key),
                          EVP_PKEY_is_a(key, "RSA-PSS") ? ", which is for signatures only" : "");
    }
    return APR_SUCCESS;
}

/** The signature, and what the message and its signer must be before the RA key does anything for them. */
static apr_status_t request_police(scep_request_t *request, outer_t *outer, const scep_identity_t *identity,
                                   const scep_policy_t *policy, apr_pool_t *pool, result_t *result)
{
    X509 *signer = NULL;

    if (!request->digest) {
        return result_set(result, PROBLEM_BAD_ALGORITHM, "the digest is %s", outer->digest_name);
    }
    CMS_SignerInfo_get0_algs(outer->signer_info, NULL, &signer, NULL, NULL);
    if (signer_key_check(signer, result) != APR_SUCCESS) {
        return APR_EGENERAL;
    }
    if (!scep_outer_verify(outer, NULL, 0)) {
        return result_set(result, PROBLEM_BAD_SIGNATURE, "%s", scep_engine_errors(pool));
    }
    X509_up_ref(signer);
    scep_keep_certificate(signer, pool);
    request->signer = signer;
    request->signer_key_sha256 =
        scep_digest(identity->engine->context, "SHA-256", scep_spki_print(X509_get_X509_PUBKEY(signer), pool), pool);
    if (!request->signer_key_sha256.len) {
        return result_set(result, PROBLEM_INTERNAL, "the signer's key cannot be hashed");
    }
    switch (request->type) {
    case SCEP_PKCSREQ:
    case SCEP_CERTPOLL:
        return APR_SUCCESS;
    case SCEP_RENEWALREQ:
    case SCEP_GETCERT:
    case SCEP_GETCRL:
        return holder_check(identity, policy, signer, pool, result);
    case SCEP_CERTREP:
    default:
        return result_set(result, PROBLEM_UNSUPPORTED_MESSAGE, "the messageType is %d", (int)request->type);
    }
}

/**
 * From the plaintext, which may be missing, to a proved CSR. The steps are the same whatever is wrong, a decoy standing
 * in for what could not be read: one parsing, one verification, one reading, one comparison. `length` is the
 * envelope's.
 */
static const char *request_prove(scep_request_t *request, const scep_identity_t *identity, apr_size_t length,
                                 bytes_t plain, const char *why, apr_pool_t *pool)
{
    const scep_engine_t *engine = identity->engine;
    bytes_t der = plain;
    csr_t csr = {.challenges = 0};
    const char *unread = NULL;
    const char *unparsed = NULL;
    bool proved = false;
    bool bound = false;
    X509_REQ *parsed = why ? NULL : csr_parse(engine, plain, &why);

    if (!parsed) {
        der = scep_decoy_choose(identity, length);
        parsed = csr_parse(engine, der, &unparsed);
    }
    if (!parsed) {
        return why ? why : unparsed;
    }
    proved = csr_prove(parsed, engine);
    unread = csr_read(&csr, parsed, engine, der, pool);
    /* The keys and not their bytes: an AlgorithmIdentifier may have or lack its NULL. */
    bound = EVP_PKEY_eq(X509_get0_pubkey(request->signer), X509_REQ_get0_pubkey(parsed)) == 1 ||
            request->type == SCEP_RENEWALREQ;
    X509_REQ_free(parsed);
    if (!why && !proved) {
        why = "the certificate request's own signature does not verify";
    }
    if (!why && unread) {
        why = unread;
    }
    if (!why && !bound) {
        why = "the key of the certificate request is not the signer's";
    }
    if (!why) {
        request->csr = csr;
    }
    return why;
}

/*
 * From the plaintext to what GetCert and GetCRL ask for. No step of it takes noticeable time, but nothing in it is
 * signed: if all that has the form were taken, the blocks of somebody else's message could be tried in it until one fits,
 * which would decrypt them (Vaudenay 2002). A CA's name cannot be put together of such blocks.
 */
static const char *inquiry_read(scep_request_t *request, const scep_identity_t *identity, bytes_t plain,
                                const char *why, apr_pool_t *pool)
{
    scep_inquiry_t inquiry = {.issuer = NULL};

    if (!why) {
        why = scep_inquiry_open(&inquiry, plain, pool);
    }
    if (!why && !scep_inquiry_is_for(&inquiry, identity->chain)) {
        why = "its issuer is not in IntuneScepCAChain";
    }
    if (!why) {
        request->inquiry = inquiry;
    }
    return why;
}

static apr_status_t request_decrypt(scep_request_t *request, outer_t *outer, const scep_identity_t *identity,
                                    const scep_policy_t *policy, apr_pool_t *pool, result_t *result)
{
    CMS_ContentInfo *envelope = scep_envelope_read(identity->engine, outer->content);
    const char *name = NULL;
    const char *why = NULL;
    apr_status_t status = APR_SUCCESS;
    BIO *plain = NULL;

    /* That this is no envelope, or of which cipher, the sender knows: no secret is in it yet. */
    if (!envelope) {
        return result_set(result, PROBLEM_BAD_ENVELOPE, "the content is not one whole EnvelopedData");
    }
    request->cipher = scep_envelope_cipher(envelope, &name, pool) & policy->device.ciphers;
    if (!request->cipher) {
        status = result_set(result, PROBLEM_BAD_ALGORITHM, "the content cipher is %s", name);
        goto end;
    }
    /* Nothing depends on what is in a CertPoll: what is not decrypted tells nobody anything. */
    if (request->type == SCEP_CERTPOLL) {
        goto end;
    }
    plain = scep_envelope_decrypt(envelope, identity->engine, identity->device_certificate, identity->device_key, &why);
    why = scep_type_has_csr(request->type)
              ? request_prove(request, identity, outer->content.len, scep_bio_peek(plain), why, pool)
              : inquiry_read(request, identity, scep_bio_peek(plain), why, pool);
    if (why) {
        status = result_set(result, PROBLEM_BAD_ENVELOPE, "%s", why);
    }
end:
    BIO_free(plain);
    CMS_ContentInfo_free(envelope);
    return status;
}

/** What the operator's policy says about a CSR that is proved. */
static apr_status_t request_judge(const scep_request_t *request, const scep_policy_t *policy, result_t *result)
{
    const csr_t *csr = &request->csr;

    if (csr->key_is_rsa && csr->key_bits < policy->min_key_bits) {
        return result_set(result, PROBLEM_KEY_TOO_SMALL, "it has %d bits, at least %d are wanted", csr->key_bits,
                          policy->min_key_bits);
    }
    if (policy->refuse_sid && csr->has_sid) {
        return result_set(result, PROBLEM_SID_EXTENSION, NULL);
    }
    if (csr->challenges > 1) {
        return result_set(result, PROBLEM_CHALLENGE_TWICE, "there are %d", csr->challenges);
    }
    /* Intune judges what it reads, and the CA issues what it reads: RFC 2985 allows one list, RFC 5280 each one once. */
    if (csr->extension_lists > 1) {
        return result_set(result, PROBLEM_EXTENSIONS_TWICE, "there are %d lists of them", csr->extension_lists);
    }
    if (csr->extension_twice) {
        return result_set(result, PROBLEM_EXTENSIONS_TWICE, "one of them is in their list twice");
    }
    return APR_SUCCESS;
}

apr_status_t scep_request_open(scep_request_t **request, const scep_identity_t *identity, const scep_policy_t *policy,
                               bytes_t der, apr_pool_t *pool, result_t *result)
{
    outer_t outer = {.cms = NULL};
    apr_status_t status = APR_SUCCESS;

    *request = NULL;
    scep_engine_watch_memory();
    status = request_read(request, &outer, identity, policy, der, pool, result);
    if (status == APR_SUCCESS && *request) {
        status = request_police(*request, &outer, identity, policy, pool, result);
        if (status == APR_SUCCESS) {
            status = request_decrypt(*request, &outer, identity, policy, pool, result);
        }
        if (status == APR_SUCCESS && scep_type_has_csr((*request)->type)) {
            status = request_judge(*request, policy, result);
        }
    }
    if (status != APR_SUCCESS) {
        scep_engine_blame_memory(result);
    }
    CMS_ContentInfo_free(outer.cms);
    /* mod_ssl in the same thread takes a left-over error for its own. */
    ERR_clear_error();
    return status;
}
