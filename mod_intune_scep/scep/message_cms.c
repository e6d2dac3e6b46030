/* SPDX-License-Identifier: Apache-2.0 */
#include "message_cms.h"

#include "base/text.h"
#include "parts.h"

#include <apr_strings.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>

static const char *object_print(const ASN1_OBJECT *object, apr_pool_t *pool)
{
    char text[80];

    return OBJ_obj2txt(text, sizeof(text), object, 0) > 0 ? text_escape(pool, text, sizeof(text)) : "unknown";
}

/* A reason and what OpenSSL has to say about it. */
const char *scep_with_errors(const char *why, apr_pool_t *pool)
{
    const char *errors = scep_engine_errors(pool);

    return *errors ? apr_pstrcat(pool, why, ": ", errors, NULL) : why;
}

/** Reads a SignedData with one SignerInfo. Nothing is verified yet. NULL, or what is wrong. */
const char *scep_outer_read(outer_t *outer, const scep_engine_t *engine, bytes_t der, apr_pool_t *pool)
{
    STACK_OF(CMS_SignerInfo) *signer_infos = NULL;
    ASN1_OCTET_STRING **content = NULL;
    X509_ALGOR *digest = NULL;
    const ASN1_OBJECT *object = NULL;

    outer->cms = scep_cms_read(engine->reading, der);
    if (!outer->cms) {
        return "it is not one whole CMS message";
    }
    if (OBJ_obj2nid(CMS_get0_type(outer->cms)) != NID_pkcs7_signed) {
        return "it is not a SignedData";
    }
    signer_infos = CMS_get0_SignerInfos(outer->cms);
    if (!signer_infos || sk_CMS_SignerInfo_num(signer_infos) != 1) {
        return "it does not have exactly one SignerInfo";
    }
    outer->signer_info = sk_CMS_SignerInfo_value(signer_infos, 0);
    CMS_SignerInfo_get0_algs(outer->signer_info, NULL, NULL, &digest, NULL);
    X509_ALGOR_get0(&object, NULL, NULL, digest);
    outer->digest = scep_digest_of_nid(OBJ_obj2nid(object));
    outer->digest_name = object_print(object, pool);
    scep_attributes_read(&outer->attributes, outer->signer_info);
    content = CMS_get0_content(outer->cms);
    if (content && *content && ASN1_STRING_length(*content) > 0) {
        outer->content.data = ASN1_STRING_get0_data(*content);
        outer->content.len = (apr_size_t)ASN1_STRING_length(*content);
    }
    return NULL;
}

/** Verifies signature, messageDigest and the attributes' form. The signer's certificate is not looked at. */
bool scep_outer_verify(outer_t *outer, STACK_OF(X509) * signers, unsigned flags)
{
    ASN1_OCTET_STRING **content = CMS_get0_content(outer->cms);
    BIO *nothing = NULL;
    bool good = false;

    /* OpenSSL insists on some content; where there is none, the signature is over nothing. */
    if (!content || !*content) {
        nothing = BIO_new_mem_buf("", 0);
        if (!nothing) {
            return false;
        }
    }
    good = CMS_verify(outer->cms, signers, NULL, nothing, NULL, flags | CMS_NO_SIGNER_CERT_VERIFY | CMS_BINARY) == 1;
    BIO_free(nothing);
    return good;
}

/** An EnvelopedData over the whole of `content`, or NULL. */
CMS_ContentInfo *scep_envelope_read(const scep_engine_t *engine, bytes_t content)
{
    CMS_ContentInfo *cms = scep_cms_read(engine->context, content);

    if (cms && OBJ_obj2nid(CMS_get0_type(cms)) != NID_pkcs7_enveloped) {
        CMS_ContentInfo_free(cms);
        cms = NULL;
    }
    return cms;
}

/**
 * The content cipher as one bit, 0 for one that SCEP does not know. OpenSSL has no getter for it: it is asked to set up
 * its decryption without a key, so that what we judge is what will be used.
 */
unsigned scep_envelope_cipher(CMS_ContentInfo *cms, const char **name, apr_pool_t *pool)
{
    BIO *chain = CMS_dataInit(cms, NULL);
    BIO *filter = chain ? BIO_find_type(chain, BIO_TYPE_CIPHER) : NULL;
    EVP_CIPHER_CTX *context = NULL;
    unsigned bit = 0;

    *name = "unknown";
    if (filter && BIO_get_cipher_ctx(filter, &context) && EVP_CIPHER_CTX_get0_cipher(context)) {
        bit = scep_cipher_of_nid(EVP_CIPHER_CTX_get_nid(context));
        *name = apr_pstrdup(pool, EVP_CIPHER_get0_name(EVP_CIPHER_CTX_get0_cipher(context)));
    }
    BIO_free_all(chain);
    scep_engine_clear_errors();
    return bit;
}

static bool envelope_addresses(CMS_ContentInfo *cms, X509 *recipient)
{
    STACK_OF(CMS_RecipientInfo) *infos = CMS_get0_RecipientInfos(cms);
    int i = 0;

    for (i = 0; infos && i < sk_CMS_RecipientInfo_num(infos); i++) {
        CMS_RecipientInfo *info = sk_CMS_RecipientInfo_value(infos, i);

        if (CMS_RecipientInfo_type(info) == CMS_RECIPINFO_TRANS &&
            CMS_RecipientInfo_ktri_cert_cmp(info, recipient) == 0) {
            return true;
        }
    }
    return false;
}

/* One operation of the key whose outcome nobody sees, in place of one that there was no ciphertext for. */
static void key_burn(const scep_engine_t *engine, EVP_PKEY *key)
{
    unsigned char in[2048] = {0};
    unsigned char out[2048];
    size_t len = (size_t)EVP_PKEY_get_size(key);
    size_t out_len = sizeof(out);
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_pkey(engine->context, key, NULL);

    if (context && len <= sizeof(in) && EVP_PKEY_decrypt_init(context) > 0 &&
        EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_PADDING) > 0) {
        /* Any number below the modulus will do. */
        memset(in + 1, 0x5a, len - 1);
        EVP_PKEY_decrypt(context, out, &out_len, in, len);
    }
    OPENSSL_cleanse(out, sizeof(out));
    EVP_PKEY_CTX_free(context);
    scep_engine_clear_errors();
}

/**
 * Our certificate goes along, since that is what makes OpenSSL go on with a random key where the RSA padding is wrong.
 */
BIO *scep_envelope_decrypt(CMS_ContentInfo *cms, const scep_engine_t *engine, X509 *certificate, EVP_PKEY *key,
                           const char **why)
{
    BIO *out = NULL;

    if (!envelope_addresses(cms, certificate)) {
        key_burn(engine, key);
        *why = "it is not encrypted to the RA certificate";
        return NULL;
    }
    out = BIO_new(BIO_s_mem());
    if (!out || !CMS_decrypt(cms, key, certificate, NULL, out, CMS_BINARY)) {
        *why = "it cannot be decrypted with the RA key";
        goto fail;
    }
    if (OBJ_obj2nid(CMS_get0_eContentType(cms)) != NID_pkcs7_data) {
        *why = "its content is not of type data";
        goto fail;
    }
    return out;
fail:
    BIO_free(out);
    return NULL;
}

bytes_t scep_bio_peek(BIO *bio)
{
    bytes_t bytes = {NULL, 0};
    char *data = NULL;
    long len = bio ? BIO_get_mem_data(bio, &data) : 0;

    if (len > 0) {
        bytes.data = (const unsigned char *)data;
        bytes.len = (apr_size_t)len;
    }
    return bytes;
}
