/* SPDX-License-Identifier: Apache-2.0 */
#include "client.h"

#include "base/text.h"
#include "parts.h"

#include <apr_strings.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>

/* What one of our messages says, before it is signed. */
typedef struct draft_t {
    scep_message_type_t type;
    const char *status;    /* pkiStatus, or NULL */
    const char *fail_info; /* or NULL */
    const char *text;      /* failInfoText, or NULL */
    const char *transaction_id;
    bytes_t sender_nonce;
    bytes_t recipient_nonce; /* or empty */
    bytes_t content;         /* or empty: then there is no pkcsPKIEnvelope */
    unsigned digest;
} draft_t;

static bool text_add(CMS_SignerInfo *signer_info, const char *oid, int type, const char *text)
{
    return !text || CMS_signed_add1_attr_by_txt(signer_info, oid, type, text, (int)strlen(text)) == 1;
}

static bool nonce_add(CMS_SignerInfo *signer_info, const char *oid, bytes_t nonce)
{
    return nonce.len == 0 ||
           CMS_signed_add1_attr_by_txt(signer_info, oid, V_ASN1_OCTET_STRING, nonce.data, (int)nonce.len) == 1;
}

static bool attributes_add(CMS_SignerInfo *signer_info, const draft_t *draft, apr_pool_t *pool)
{
    const char *type = apr_itoa(pool, (int)draft->type);

    return text_add(signer_info, SCEP_OID_MESSAGE_TYPE, V_ASN1_PRINTABLESTRING, type) &&
           text_add(signer_info, SCEP_OID_PKI_STATUS, V_ASN1_PRINTABLESTRING, draft->status) &&
           text_add(signer_info, SCEP_OID_FAIL_INFO, V_ASN1_PRINTABLESTRING, draft->fail_info) &&
           text_add(signer_info, SCEP_OID_TRANSACTION_ID, V_ASN1_PRINTABLESTRING, draft->transaction_id) &&
           nonce_add(signer_info, SCEP_OID_SENDER_NONCE, draft->sender_nonce) &&
           nonce_add(signer_info, SCEP_OID_RECIPIENT_NONCE, draft->recipient_nonce) &&
           text_add(signer_info, SCEP_OID_FAIL_INFO_TEXT, V_ASN1_UTF8STRING, draft->text);
}

/* The PKIMessage: a SignedData by the RA, its certificate in it. An empty run on failure. */
static bytes_t draft_sign(const scep_identity_t *identity, const draft_t *draft, apr_pool_t *pool)
{
    OSSL_LIB_CTX *context = identity->engine->context;
    /*
     * Where there is no envelope (RFC 8894 section 3.3.2), eContent is an empty OCTET STRING, as of most CAs. Without
     * any, OpenSSL's PKCS7_verify(), and certmonger with it, takes the message for a detached signature and refuses it.
     */
    unsigned flags = CMS_BINARY | CMS_PARTIAL | CMS_NOSMIMECAP;
    bytes_t der = {NULL, 0};
    CMS_ContentInfo *cms = NULL;
    CMS_SignerInfo *signer_info = NULL;
    const void *data = draft->content.len ? draft->content.data : (const unsigned char *)"";
    BIO *content = BIO_new_mem_buf(data, (int)draft->content.len);
    EVP_MD *digest = EVP_MD_fetch(context, scep_digest_name(draft->digest ? draft->digest : SCEP_SHA256), NULL);

    if (!content || !digest) {
        goto end;
    }
    cms = CMS_sign_ex(NULL, NULL, NULL, content, flags, context, NULL);
    if (!cms) {
        goto end;
    }
    signer_info = CMS_add1_signer(cms, identity->ra_certificate, identity->ra_key, digest, flags);
    if (signer_info && attributes_add(signer_info, draft, pool) && CMS_final(cms, content, NULL, flags)) {
        der = scep_cms_print(cms, pool);
    }
end:
    CMS_ContentInfo_free(cms);
    EVP_MD_free(digest);
    BIO_free(content);
    return der;
}

static bool recipient_add(CMS_ContentInfo *cms, X509 *recipient, bool oaep)
{
    CMS_RecipientInfo *info = CMS_add1_recipient_cert(cms, recipient, CMS_BINARY | (oaep ? CMS_KEY_PARAM : 0));
    EVP_PKEY_CTX *context = info && oaep ? CMS_RecipientInfo_get0_pkey_ctx(info) : NULL;

    return info && (!oaep || (context && EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_OAEP_PADDING) > 0));
}

/* An EnvelopedData for one recipient, named by issuer and serial. An empty run on failure. */
static bytes_t envelope_make(const scep_engine_t *engine, bytes_t content, X509 *recipient, unsigned cipher_bit,
                             bool oaep, apr_pool_t *pool)
{
    bytes_t der = {NULL, 0};
    CMS_ContentInfo *cms = NULL;
    BIO *in = BIO_new_mem_buf(content.data, (int)content.len);
    EVP_CIPHER *cipher =
        EVP_CIPHER_fetch(engine->context, scep_cipher_name(cipher_bit ? cipher_bit : SCEP_AES128), NULL);

    if (in && cipher) {
        cms = CMS_encrypt_ex(NULL, NULL, cipher, CMS_BINARY | CMS_PARTIAL, engine->context, NULL);
    }
    if (cms && recipient_add(cms, recipient, oaep) && CMS_final(cms, in, NULL, CMS_BINARY)) {
        der = scep_cms_print(cms, pool);
    }
    CMS_ContentInfo_free(cms);
    EVP_CIPHER_free(cipher);
    BIO_free(in);
    return der;
}

static bytes_t nonce_make(const scep_engine_t *engine, apr_pool_t *pool)
{
    bytes_t nonce = {NULL, 0};
    unsigned char *bytes = apr_palloc(pool, SCEP_NONCE_LENGTH);

    if (RAND_bytes_ex(engine->context, bytes, SCEP_NONCE_LENGTH, 0) == 1) {
        nonce.data = bytes;
        nonce.len = SCEP_NONCE_LENGTH;
    }
    return nonce;
}

static apr_status_t failed(result_t *result, const char *what, apr_pool_t *pool)
{
    return result_set(result, PROBLEM_INTERNAL, "%s cannot be made: %s", what, scep_engine_errors(pool));
}

/* Encrypts what `wanted` says to the CA, signs it, and copies what the answer will be held against. */
static apr_status_t message_make(scep_relay_t **relay, const scep_relay_t *wanted, bytes_t content,
                                 const scep_identity_t *identity, scep_algorithms_t use, bool oaep, apr_pool_t *pool,
                                 result_t *result)
{
    scep_relay_t *made = apr_pmemdup(pool, wanted, sizeof(*made));
    draft_t draft = {.type = wanted->type, .digest = use.digests};

    *relay = NULL;
    ERR_clear_error();
    made->transaction_id = apr_pstrdup(pool, wanted->transaction_id);
    made->spki.data = apr_pmemdup(pool, wanted->spki.data, wanted->spki.len);
    made->sender_nonce = nonce_make(identity->engine, pool);
    draft.transaction_id = made->transaction_id;
    draft.sender_nonce = made->sender_nonce;
    draft.content = envelope_make(identity->engine, content, identity->backend_recipient, use.ciphers, oaep, pool);
    if (draft.content.len && draft.sender_nonce.len) {
        made->body = draft_sign(identity, &draft, pool);
    }
    if (!made->body.len) {
        return failed(result, "the request to the CA", pool);
    }
    ERR_clear_error();
    *relay = made;
    return APR_SUCCESS;
}

static apr_status_t relay_make(scep_relay_t **relay, const scep_relay_t *wanted, bytes_t content,
                               const scep_identity_t *identity, scep_algorithms_t use, apr_pool_t *pool,
                               result_t *result)
{
    return message_make(relay, wanted, content, identity, use, false, pool, result);
}

apr_status_t scep_ask_build(scep_relay_t **relay, const scep_identity_t *identity, const scep_ask_t *ask,
                            apr_pool_t *pool, result_t *result)
{
    scep_relay_t wanted = {.type = ask->type, .transaction_id = ask->transaction_id, .spki = ask->csr->spki};

    return message_make(relay, &wanted, ask->csr->der, identity, ask->use, ask->oaep, pool, result);
}

apr_status_t scep_pkcsreq_build(scep_relay_t **relay, const scep_identity_t *identity, const char *transaction_id,
                                const csr_t *csr, scep_algorithms_t use, apr_pool_t *pool, result_t *result)
{
    scep_relay_t wanted = {.type = SCEP_PKCSREQ, .transaction_id = transaction_id, .spki = csr->spki};

    return relay_make(relay, &wanted, csr->der, identity, use, pool, result);
}

apr_status_t scep_poll_build(scep_relay_t **relay, const scep_identity_t *identity, const char *transaction_id,
                             const csr_t *csr, scep_algorithms_t use, apr_pool_t *pool, result_t *result)
{
    scep_relay_t wanted = {.type = SCEP_CERTPOLL, .transaction_id = transaction_id, .spki = csr->spki};
    bytes_t issuer = scep_name_encode(X509_get_subject_name(sk_X509_value(identity->chain, 0)), pool);

    return relay_make(relay, &wanted, scep_poll_print(issuer, csr->subject_der, pool), identity, use, pool, result);
}

apr_status_t scep_relay_build(scep_relay_t **relay, const scep_identity_t *identity, const scep_request_t *request,
                              scep_algorithms_t use, apr_pool_t *pool, result_t *result)
{
    scep_relay_t wanted = {
        .type = request->type, .transaction_id = request->transaction_id, .inquiry = request->inquiry};

    return scep_type_is_inquiry(request->type)
               ? relay_make(relay, &wanted, request->inquiry.der, identity, use, pool, result)
               : scep_pkcsreq_build(relay, identity, request->transaction_id, &request->csr, use, pool, result);
}

/* Completes a CertRep with what all of them have and signs it. */
static apr_status_t answer_build(bytes_t *body, const scep_identity_t *identity, const scep_request_t *request,
                                 draft_t *draft, apr_pool_t *pool, result_t *result)
{
    bytes_t der = {NULL, 0};

    draft->type = SCEP_CERTREP;
    draft->digest = request->digest;
    draft->transaction_id = request->transaction_id;
    draft->recipient_nonce = request->sender_nonce;
    draft->sender_nonce = nonce_make(identity->engine, pool);
    if (draft->sender_nonce.len) {
        der = draft_sign(identity, draft, pool);
    }
    if (!der.len) {
        return failed(result, "the answer to the device", pool);
    }
    ERR_clear_error();
    *body = der;
    return APR_SUCCESS;
}

/* A CertRep SUCCESS around a degenerate SignedData. */
static apr_status_t wrapped_build(bytes_t *body, const scep_identity_t *identity, const scep_request_t *request,
                                  bytes_t inner, apr_pool_t *pool, result_t *result)
{
    draft_t draft = {.status = "0"};

    if (inner.len && request->signer) {
        draft.content = envelope_make(identity->engine, inner, request->signer, request->cipher, false, pool);
    }
    if (!draft.content.len) {
        return failed(result, "the envelope for the device", pool);
    }
    return answer_build(body, identity, request, &draft, pool, result);
}

apr_status_t scep_success_build(bytes_t *body, const scep_identity_t *identity, const scep_request_t *request,
                                X509 *certificate, apr_pool_t *pool, result_t *result)
{
    bytes_t inner = {NULL, 0};
    STACK_OF(X509) *leaf = sk_X509_new_null();

    ERR_clear_error();
    if (leaf && sk_X509_push(leaf, certificate) > 0) {
        inner = scep_degenerate_print(identity->engine, leaf, pool);
    }
    sk_X509_free(leaf);
    return wrapped_build(body, identity, request, inner, pool, result);
}

apr_status_t scep_stored_success_build(bytes_t *body, const scep_identity_t *identity, const scep_request_t *request,
                                       bytes_t certificate_der, apr_pool_t *pool, result_t *result)
{
    X509 *certificate = NULL;
    apr_status_t status = APR_SUCCESS;

    ERR_clear_error();
    certificate = scep_certificate_read(identity->engine, certificate_der);
    /* Of BER OpenSSL would print other bytes. */
    if (certificate && bytes_equal(scep_certificate_print(certificate, pool), certificate_der)) {
        status = scep_success_build(body, identity, request, certificate, pool, result);
    } else {
        status = result_set(result, PROBLEM_INTERNAL, "what is stored is not one whole certificate in DER");
    }
    X509_free(certificate);
    ERR_clear_error();
    return status;
}

apr_status_t scep_crl_success_build(bytes_t *body, const scep_identity_t *identity, const scep_request_t *request,
                                    bytes_t crl, apr_pool_t *pool, result_t *result)
{
    ERR_clear_error();
    return wrapped_build(body, identity, request, scep_degenerate_crl_print(identity->engine, crl, pool), pool, result);
}

apr_status_t scep_failure_build(bytes_t *body, const scep_identity_t *identity, const scep_request_t *request,
                                scep_fail_info_t fail_info, const char *text, apr_pool_t *pool, result_t *result)
{
    draft_t draft = {.status = "2", .fail_info = apr_itoa(pool, (int)fail_info)};

    ERR_clear_error();
    draft.text = text && *text ? text_cut_utf8(pool, text, 255) : NULL;
    return answer_build(body, identity, request, &draft, pool, result);
}

apr_status_t scep_pending_build(bytes_t *body, const scep_identity_t *identity, const scep_request_t *request,
                                apr_pool_t *pool, result_t *result)
{
    draft_t draft = {.status = "3"};

    ERR_clear_error();
    return answer_build(body, identity, request, &draft, pool, result);
}
