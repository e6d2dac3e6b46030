/* SPDX-License-Identifier: Apache-2.0 */
/* The CA's answers. */
#include "message.h"

#include "base/text.h"
#include "message_cms.h"
#include "parts.h"

#include <apr_strings.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509.h>

/* How far the clock of the CA may be ahead of ours. */
#define CA_CLOCK_AHEAD apr_time_from_sec(5 * 60)

/** Signed by the configured CA? */
static apr_status_t answer_verify(outer_t *outer, const scep_identity_t *identity, const scep_policy_t *policy,
                                  bytes_t der, apr_pool_t *pool, result_t *result)
{
    const char *why = scep_outer_read(outer, identity->engine, der, pool);

    if (why) {
        return result_set(result, PROBLEM_CA_GARBAGE, "%s", scep_with_errors(why, pool));
    }
    if (!(outer->digest & policy->backend.digests)) {
        return result_set(result, PROBLEM_CA_GARBAGE, "its digest, %s, is not allowed by IntuneScepBackendAlgorithms",
                          outer->digest_name);
    }
    /* Only the configured certificates count, not those that came along. */
    if (!scep_outer_verify(outer, identity->backend, CMS_NOINTERN)) {
        return result_set(result, PROBLEM_CA_FOREIGN_SIGNER, "%s", scep_engine_errors(pool));
    }
    return APR_SUCCESS;
}

/** Is it the answer to our message? */
static apr_status_t answer_match(const outer_t *outer, const scep_relay_t *relay, result_t *result)
{
    const scep_attribute_t *of = outer->attributes.of;

    if (scep_attribute_number(&of[ATTRIBUTE_MESSAGE_TYPE]) != SCEP_CERTREP) {
        return result_set(result, PROBLEM_CA_GARBAGE, "its messageType is not CertRep");
    }
    if (of[ATTRIBUTE_TRANSACTION_ID].state != ATTRIBUTE_GOOD ||
        !bytes_equal(of[ATTRIBUTE_TRANSACTION_ID].value, bytes_of_text(relay->transaction_id))) {
        return result_set(result, PROBLEM_CA_WRONG_TRANSACTION, "its transactionID is not ours");
    }
    if (of[ATTRIBUTE_RECIPIENT_NONCE].state != ATTRIBUTE_GOOD ||
        !bytes_equal(of[ATTRIBUTE_RECIPIENT_NONCE].value, relay->sender_nonce)) {
        return result_set(result, PROBLEM_CA_WRONG_TRANSACTION, "its recipientNonce is not ours");
    }
    return APR_SUCCESS;
}

/** pkiStatus, and with FAILURE the reason. */
static apr_status_t answer_read(scep_answer_t *answer, const outer_t *outer, apr_pool_t *pool, result_t *result)
{
    const scep_attribute_t *of = outer->attributes.of;
    const scep_attribute_t *text = &of[ATTRIBUTE_FAIL_INFO_TEXT];
    int status = scep_attribute_number(&of[ATTRIBUTE_PKI_STATUS]);
    int fail_info = scep_attribute_number(&of[ATTRIBUTE_FAIL_INFO]);

    if (status != SCEP_SUCCESS && status != SCEP_FAILURE && status != SCEP_PENDING) {
        return result_set(result, PROBLEM_CA_GARBAGE, "its pkiStatus is missing or unknown");
    }
    answer->status = (scep_pki_status_t)status;
    if (status == SCEP_FAILURE) {
        answer->fail_info =
            fail_info >= SCEP_BAD_ALG && fail_info <= SCEP_BAD_CERT_ID ? (scep_fail_info_t)fail_info : SCEP_BAD_REQUEST;
        if (text->state == ATTRIBUTE_GOOD && text->value.len && !memchr(text->value.data, 0, text->value.len)) {
            const char *copy = apr_pstrmemdup(pool, (const char *)text->value.data, text->value.len);

            answer->fail_info_text = text_cut_utf8(pool, copy, 255);
        }
    }
    return APR_SUCCESS;
}

/** The degenerate SignedData in the envelope, for the caller to free; NULL with the result set. */
static CMS_ContentInfo *answer_decrypt(const outer_t *outer, const scep_identity_t *identity,
                                       const scep_policy_t *policy, apr_pool_t *pool, result_t *result)
{
    CMS_ContentInfo *envelope = scep_envelope_read(identity->engine, outer->content);
    CMS_ContentInfo *inner = NULL;
    const char *name = NULL;
    const char *why = NULL;
    BIO *plain = NULL;

    if (!envelope) {
        result_set(result, PROBLEM_CA_GARBAGE, "it says SUCCESS, but its content is not an EnvelopedData");
        goto end;
    }
    if (!(scep_envelope_cipher(envelope, &name, pool) & policy->backend.ciphers)) {
        result_set(result, PROBLEM_CA_GARBAGE, "its content cipher, %s, is not allowed by IntuneScepBackendAlgorithms",
                   name);
        goto end;
    }
    plain = scep_envelope_decrypt(envelope, identity->engine, identity->ra_certificate, identity->ra_key, &why);
    if (!plain) {
        result_set(result, PROBLEM_CA_GARBAGE, "its envelope: %s", scep_with_errors(why, pool));
        goto end;
    }
    inner = scep_cms_read(identity->engine->reading, scep_bio_peek(plain));
    if (!inner || OBJ_obj2nid(CMS_get0_type(inner)) != NID_pkcs7_signed) {
        why = "its envelope holds no SignedData with certificates, or too many of them";
    } else if (!scep_certificates_are_modest(inner)) {
        why = "the distribution points of a certificate in it would take too much memory";
    }
    if (why) {
        CMS_ContentInfo_free(inner);
        inner = NULL;
        result_set(result, PROBLEM_CA_GARBAGE, "%s", why);
    }
end:
    BIO_free(plain);
    CMS_ContentInfo_free(envelope);
    return inner;
}

/* For the operator's eyes: which certificate it was that had none of our keys. Many answers have a CA's own, too. */
static X509 *likely_leaf(STACK_OF(X509) * certificates)
{
    int i = 0;

    for (i = 0; i < sk_X509_num(certificates); i++) {
        if (!X509_check_ca(sk_X509_value(certificates, i))) {
            return sk_X509_value(certificates, i);
        }
    }
    return sk_X509_value(certificates, 0);
}

static apr_status_t answer_keep(scep_answer_t *answer, X509 *certificate, apr_pool_t *pool, result_t *result)
{
    X509_up_ref(certificate);
    scep_keep_certificate(certificate, pool);
    answer->certificate = certificate;
    answer->certificate_der = scep_certificate_print(certificate, pool);
    return answer->certificate_der.len ? APR_SUCCESS : result_set(result, PROBLEM_INTERNAL, "no memory");
}

/**
 * Whether it has the CSR's key, as that or as a CA that takes keys apart writes it. `key` keeps the CSR's, once it is read;
 * the caller frees it.
 */
static bool has_key(X509 *certificate, const scep_relay_t *relay, EVP_PKEY **key, const scep_engine_t *engine,
                    apr_pool_t *pool)
{
    const unsigned char *at = relay->spki.data;
    EVP_PKEY *own = X509_get0_pubkey(certificate);

    if (bytes_equal(scep_spki_print(X509_get_X509_PUBKEY(certificate), pool), relay->spki)) {
        return true;
    }
    if (!*key) {
        *key = d2i_PUBKEY_ex(NULL, &at, (long)relay->spki.len, engine->reading, NULL);
    }
    return own && *key && EVP_PKEY_eq(own, *key) == 1;
}

/** The one with the CSR's key, or the first of several. The same certificate twice is one. */
static X509 *leaf_find(STACK_OF(X509) * certificates, const scep_identity_t *identity, const scep_relay_t *relay,
                       int *matches, apr_pool_t *pool)
{
    X509 *leaf = NULL;
    EVP_PKEY *key = NULL;
    int i = 0;

    *matches = 0;
    for (i = 0; i < sk_X509_num(certificates); i++) {
        X509 *certificate = sk_X509_value(certificates, i);

        if ((!leaf || X509_cmp(leaf, certificate) != 0) &&
            has_key(certificate, relay, &key, identity->engine, pool)) {
            leaf = (*matches)++ ? leaf : certificate;
        }
    }
    EVP_PKEY_free(key);
    return leaf;
}

/** Picks the certificate with the CSR's key and judges it. Its facts are noted even if it is refused. */
static apr_status_t answer_pick(scep_answer_t *answer, STACK_OF(X509) * certificates, const scep_identity_t *identity,
                                const scep_relay_t *relay, apr_pool_t *pool, result_t *result)
{
    const char *why = NULL;
    int matches = 0;
    X509 *leaf = leaf_find(certificates, identity, relay, &matches, pool);

    if (certificate_facts(&answer->facts, leaf ? leaf : likely_leaf(certificates), pool) != APR_SUCCESS && leaf) {
        return result_set(result, PROBLEM_CA_BAD_CERTIFICATE, "its serial number or its dates cannot be read");
    }
    if (matches != 1) {
        return result_set(result, PROBLEM_CA_WRONG_KEY, "of %d certificates in it, %d have the requested key",
                          sk_X509_num(certificates), matches);
    }
    why = scep_trust_check(identity, leaf, CA_CLOCK_AHEAD, pool);
    if (why) {
        return result_set(result, PROBLEM_CA_BAD_CERTIFICATE, "the certificate with serial number %s %s",
                          answer->facts.serial, why);
    }
    return answer_keep(answer, leaf, pool, result);
}

/** PKCSReq and CertPoll: there must be certificates, and one of them is judged. */
static apr_status_t answer_take_issued(scep_answer_t *answer, CMS_ContentInfo *inner, const scep_identity_t *identity,
                                       const scep_relay_t *relay, apr_pool_t *pool, result_t *result)
{
    STACK_OF(X509) *certificates = CMS_get1_certs(inner);
    apr_status_t status = APR_SUCCESS;

    if (sk_X509_num(certificates) > 0) {
        status = answer_pick(answer, certificates, identity, relay, pool, result);
    } else {
        status = result_set(result, PROBLEM_CA_WRONG_KEY, "there is no certificate in it");
    }
    sk_X509_pop_free(certificates, X509_free);
    return status;
}

/** GetCert: exactly the certificate that was asked for, of our chain, even if it has expired meanwhile. */
static apr_status_t answer_take_certificate(scep_answer_t *answer, CMS_ContentInfo *inner,
                                            const scep_identity_t *identity, const scep_relay_t *relay,
                                            apr_pool_t *pool, result_t *result)
{
    STACK_OF(X509) *certificates = CMS_get1_certs(inner);
    X509 *found = NULL;
    const char *why = NULL;
    apr_status_t status = APR_SUCCESS;
    int i = 0;

    for (i = 0; certificates && !found && i < sk_X509_num(certificates); i++) {
        if (scep_inquiry_names(&relay->inquiry, sk_X509_value(certificates, i))) {
            found = sk_X509_value(certificates, i);
        }
    }
    if (!found) {
        status = result_set(result, PROBLEM_CA_WRONG_OBJECT,
                            "none of its %d certificates has serial number %s of that issuer",
                            certificates ? sk_X509_num(certificates) : 0, relay->inquiry.serial);
        goto end;
    }
    why = scep_chain_signed(identity, found, pool);
    if (why) {
        status = result_set(result, PROBLEM_CA_BAD_CERTIFICATE, "the certificate with serial number %s %s",
                            relay->inquiry.serial, why);
        goto end;
    }
    status = certificate_facts(&answer->facts, found, pool) == APR_SUCCESS
                 ? answer_keep(answer, found, pool, result)
                 : result_set(result, PROBLEM_CA_BAD_CERTIFICATE, "its serial number or its dates cannot be read");
end:
    sk_X509_pop_free(certificates, X509_free);
    return status;
}

/** GetCRL: exactly one list of the issuer that was asked for, signed by our chain. How fresh it is, the device judges.
 */
static apr_status_t answer_take_crl(scep_answer_t *answer, CMS_ContentInfo *inner, const scep_identity_t *identity,
                                    const scep_relay_t *relay, apr_pool_t *pool, result_t *result)
{
    STACK_OF(X509_CRL) *lists = CMS_get1_crls(inner);
    X509_CRL *found = NULL;
    const char *why = NULL;
    unsigned char *der = NULL;
    int len = 0;
    int matches = 0;
    int i = 0;
    apr_status_t status = APR_SUCCESS;

    for (i = 0; lists && i < sk_X509_CRL_num(lists); i++) {
        if (scep_inquiry_covers(&relay->inquiry, sk_X509_CRL_value(lists, i))) {
            found = sk_X509_CRL_value(lists, i);
            matches++;
        }
    }
    if (matches != 1) {
        status =
            result_set(result, PROBLEM_CA_WRONG_OBJECT, "there are %d revocation lists of that issuer in it", matches);
        goto end;
    }
    why = scep_crl_signature_check(found, identity->chain);
    if (why) {
        status = result_set(result, PROBLEM_CA_BAD_CERTIFICATE, "the revocation list %s", why);
        goto end;
    }
    len = i2d_X509_CRL(found, &der);
    if (len > 0) {
        answer->crl.data = apr_pmemdup(pool, der, (apr_size_t)len);
        answer->crl.len = (apr_size_t)len;
    } else {
        status = result_set(result, PROBLEM_INTERNAL, "no memory");
    }
end:
    OPENSSL_free(der);
    sk_X509_CRL_pop_free(lists, X509_CRL_free);
    return status;
}

static apr_status_t answer_take(scep_answer_t *answer, CMS_ContentInfo *inner, const scep_identity_t *identity,
                                const scep_relay_t *relay, apr_pool_t *pool, result_t *result)
{
    switch (relay->type) {
    case SCEP_GETCERT:
        return answer_take_certificate(answer, inner, identity, relay, pool, result);
    case SCEP_GETCRL:
        return answer_take_crl(answer, inner, identity, relay, pool, result);
    default:
        return answer_take_issued(answer, inner, identity, relay, pool, result);
    }
}

apr_status_t scep_answer_open(scep_answer_t **answer, const scep_identity_t *identity, const scep_policy_t *policy,
                              const scep_relay_t *relay, bytes_t der, apr_pool_t *pool, result_t *result)
{
    outer_t outer = {.cms = NULL};
    CMS_ContentInfo *inner = NULL;
    apr_status_t status = APR_SUCCESS;

    *answer = apr_pcalloc(pool, sizeof(**answer));
    scep_engine_watch_memory();
    status = answer_verify(&outer, identity, policy, der, pool, result);
    if (status == APR_SUCCESS) {
        status = answer_match(&outer, relay, result);
    }
    if (status == APR_SUCCESS) {
        status = answer_read(*answer, &outer, pool, result);
    }
    if (status == APR_SUCCESS && (*answer)->status == SCEP_SUCCESS) {
        inner = answer_decrypt(&outer, identity, policy, pool, result);
        status = inner ? answer_take(*answer, inner, identity, relay, pool, result) : APR_EGENERAL;
    }
    if (status != APR_SUCCESS) {
        scep_engine_blame_memory(result);
    }
    CMS_ContentInfo_free(inner);
    CMS_ContentInfo_free(outer.cms);
    ERR_clear_error();
    return status;
}
