/* SPDX-License-Identifier: Apache-2.0 */
/* The CMS half of cms_tools.h: envelopes and signed messages. */
#include "cms_tools.h"

#include <string.h>

#include <apr_strings.h>
#include <openssl/err.h>
#include <openssl/rsa.h>

static const struct {
    const char *name;
    const EVP_CIPHER *(*cipher)(void);
    int nid;
} ciphers[] = {
    {"aes128", EVP_aes_128_cbc, NID_aes_128_cbc},
    {"aes192", EVP_aes_192_cbc, NID_aes_192_cbc},
    {"aes256", EVP_aes_256_cbc, NID_aes_256_cbc},
    {"des3", EVP_des_ede3_cbc, NID_des_ede3_cbc},
    {"des", EVP_des_cbc, NID_des_cbc},
};

static const struct {
    const char *name;
    const EVP_MD *(*digest)(void);
    int nid;
} digests[] = {
    {"sha1", EVP_sha1, NID_sha1},       {"sha256", EVP_sha256, NID_sha256}, {"sha384", EVP_sha384, NID_sha384},
    {"sha512", EVP_sha512, NID_sha512}, {"md5", EVP_md5, NID_md5},
};

const EVP_CIPHER *sim_cipher_by_name(const char *name)
{
    for (size_t i = 0; i < sizeof(ciphers) / sizeof(ciphers[0]); i++) {
        if (strcmp(ciphers[i].name, name) == 0)
            return ciphers[i].cipher();
    }
    return NULL;
}

static const char *cipher_name(int nid)
{
    for (size_t i = 0; i < sizeof(ciphers) / sizeof(ciphers[0]); i++) {
        if (ciphers[i].nid == nid)
            return ciphers[i].name;
    }
    return OBJ_nid2sn(nid);
}

const EVP_MD *sim_digest_by_name(const char *name)
{
    for (size_t i = 0; i < sizeof(digests) / sizeof(digests[0]); i++) {
        if (strcmp(digests[i].name, name) == 0)
            return digests[i].digest();
    }
    return NULL;
}

const char *sim_digest_name(int nid)
{
    for (size_t i = 0; i < sizeof(digests) / sizeof(digests[0]); i++) {
        if (digests[i].nid == nid)
            return digests[i].name;
    }
    return OBJ_nid2sn(nid);
}

static bool recipients_add(CMS_ContentInfo *cms, const sim_envelope_spec_t *spec)
{
    for (int i = 0; i < sk_X509_num(spec->recipients); i++) {
        X509 *cert = sk_X509_value(spec->recipients, i);
        CMS_RecipientInfo *to = CMS_add1_recipient_cert(cms, cert, spec->oaep ? CMS_KEY_PARAM : 0);
        if (!to)
            return false;
        EVP_PKEY_CTX *ctx = spec->oaep ? CMS_RecipientInfo_get0_pkey_ctx(to) : NULL;
        if (spec->oaep && (!ctx || EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_OAEP_PADDING) <= 0))
            return false;
    }
    return true;
}

sim_bytes_t sim_envelope_make(OSSL_LIB_CTX *libctx, const sim_envelope_spec_t *spec, sim_bytes_t content,
                              apr_pool_t *pool)
{
    sim_bytes_t bytes = {NULL, 0};
    unsigned int flags = CMS_BINARY | CMS_PARTIAL | (spec->ber ? CMS_STREAM : 0);
    const EVP_CIPHER *cipher = sim_cipher_by_name(spec->cipher);
    BIO *in = BIO_new_mem_buf(content.data, (int)content.len);
    BIO *out = BIO_new(BIO_s_mem());
    CMS_ContentInfo *cms = cipher ? CMS_encrypt_ex(NULL, NULL, cipher, flags, libctx, NULL) : NULL;
    if (!cms || !recipients_add(cms, spec))
        goto done;
    if (spec->ber ? i2d_CMS_bio_stream(out, cms, in, (int)flags)
                  : CMS_final(cms, in, NULL, flags) && i2d_CMS_bio(out, cms))
        bytes = sim_bytes_of_bio(out, pool);
done:
    CMS_ContentInfo_free(cms);
    BIO_free(out);
    BIO_free(in);
    return bytes;
}

static const char *algorithm_name(const sim_tlv_t *algorithm, bool cipher, apr_pool_t *pool)
{
    sim_der_t in = sim_der_into(algorithm);
    const unsigned char *at = in.at;
    ASN1_OBJECT *object = d2i_ASN1_OBJECT(NULL, &at, in.end - in.at);
    int nid = object ? OBJ_obj2nid(object) : NID_undef;
    char dotted[80] = "unknown";
    if (object)
        OBJ_obj2txt(dotted, sizeof(dotted), object, 1);
    ASN1_OBJECT_free(object);
    if (nid == NID_undef)
        return apr_pstrdup(pool, dotted);
    return cipher ? cipher_name(nid) : OBJ_nid2ln(nid);
}

bool sim_envelope_inspect(sim_bytes_t der, sim_envelope_t *info, apr_pool_t *pool)
{
    sim_der_t at = {der.data, der.data + der.len}, ktri;
    sim_tlv_t tlv, transport;
    memset(info, 0, sizeof(*info));
    for (int depth = 0; depth < 3; depth++) {
        /* ContentInfo, then behind its OID the [0], then EnvelopedData. */
        if (!sim_der_next(&at, &tlv) || (depth == 1 && !sim_der_next(&at, &tlv)))
            return false;
        at = sim_der_into(&tlv);
    }
    if (!sim_der_next(&at, &tlv) || !sim_der_next(&at, &tlv))
        return false;
    if (tlv.cls == V_ASN1_CONTEXT_SPECIFIC && !sim_der_next(&at, &tlv))
        return false;
    ktri = sim_der_into(&tlv);
    sim_tlv_t first;
    if (sim_der_next(&ktri, &first) && first.cls == V_ASN1_UNIVERSAL) {
        sim_tlv_t key;
        ktri = sim_der_into(&first);
        if (!sim_der_next(&ktri, &key) || !sim_der_next(&ktri, &key) || !sim_der_next(&ktri, &transport) ||
            !sim_der_next(&ktri, &key))
            return false;
        info->key_transport = algorithm_name(&transport, false, pool);
        info->encrypted_key = (apr_size_t)(key.body - der.data);
        info->encrypted_key_len = key.len;
    }
    if (!sim_der_next(&at, &tlv))
        return false;
    at = sim_der_into(&tlv);
    if (!sim_der_next(&at, &tlv) || !sim_der_next(&at, &tlv))
        return false;
    info->cipher = algorithm_name(&tlv, true, pool);
    return true;
}

static CMS_ContentInfo *cms_parse(OSSL_LIB_CTX *libctx, sim_bytes_t message, apr_size_t *trailing, apr_pool_t *pool)
{
    const unsigned char *at = message.data;
    CMS_ContentInfo *cms = CMS_ContentInfo_new_ex(libctx, NULL);
    if (!cms || !d2i_CMS_ContentInfo(&cms, &at, (long)message.len)) {
        CMS_ContentInfo_free(cms);
        return NULL;
    }
    *trailing = message.len - (apr_size_t)(at - message.data);
    return sim_own_cms(pool, cms);
}

const char *sim_envelope_open(OSSL_LIB_CTX *libctx, sim_bytes_t message, X509 *cert, EVP_PKEY *key,
                              sim_envelope_t *info, sim_bytes_t *content, apr_pool_t *pool)
{
    apr_size_t trailing = 0;
    unsigned char *der = NULL;
    const char *error = NULL;
    CMS_ContentInfo *cms = cms_parse(libctx, message, &trailing, pool);
    memset(info, 0, sizeof(*info));
    if (!cms || trailing || OBJ_obj2nid(CMS_get0_type(cms)) != NID_pkcs7_enveloped) {
        ERR_clear_error();
        return "the content is no EnvelopedData";
    }
    /* Encoded anew because the reader above takes definite lengths only. */
    int len = i2d_CMS_ContentInfo(cms, &der);
    if (len <= 0 || !sim_envelope_inspect(sim_bytes(der, (apr_size_t)len, pool), info, pool))
        error = "the EnvelopedData is malformed";
    OPENSSL_free(der);
    if (error)
        return error;
    STACK_OF(CMS_RecipientInfo) *recipients = CMS_get0_RecipientInfos(cms);
    info->recipients = sk_CMS_RecipientInfo_num(recipients);
    for (int i = 0; i < info->recipients; i++) {
        CMS_RecipientInfo *to = sk_CMS_RecipientInfo_value(recipients, i);
        if (CMS_RecipientInfo_type(to) == CMS_RECIPINFO_TRANS && CMS_RecipientInfo_ktri_cert_cmp(to, cert) == 0)
            info->for_us = true;
    }
    if (!info->for_us)
        return "the EnvelopedData is for another recipient";
    BIO *out = BIO_new(BIO_s_mem());
    if (CMS_decrypt(cms, key, cert, NULL, out, CMS_BINARY) == 1)
        *content = sim_bytes_of_bio(out, pool);
    else
        error = apr_pstrcat(pool, "decryption failed: ", sim_openssl_error(pool), NULL);
    BIO_free(out);
    return error;
}

bool sim_attr_add(CMS_SignerInfo *signer, const char *oid, int type, const void *data, apr_size_t len)
{
    ASN1_OBJECT *object = OBJ_txt2obj(oid, 1);
    bool ok = object && CMS_signed_add1_attr_by_OBJ(signer, object, type, data, (int)len) == 1;
    ASN1_OBJECT_free(object);
    return ok;
}

int sim_attr_get(CMS_SignerInfo *signer, const char *oid, sim_bytes_t *value, apr_pool_t *pool)
{
    ASN1_OBJECT *object = OBJ_txt2obj(oid, 1);
    int count = 0;
    for (int i = 0; i < CMS_signed_get_attr_count(signer); i++) {
        X509_ATTRIBUTE *attribute = CMS_signed_get_attr(signer, i);
        if (OBJ_cmp(X509_ATTRIBUTE_get0_object(attribute), object) != 0)
            continue;
        ASN1_TYPE *first = X509_ATTRIBUTE_get0_type(attribute, 0);
        int type = first ? ASN1_TYPE_get(first) : V_ASN1_NULL;
        bool text = type == V_ASN1_PRINTABLESTRING || type == V_ASN1_OCTET_STRING || type == V_ASN1_UTF8STRING ||
                    type == V_ASN1_IA5STRING;
        if (text && count == 0)
            *value = sim_bytes(first->value.asn1_string->data, (apr_size_t)first->value.asn1_string->length, pool);
        count += X509_ATTRIBUTE_count(attribute);
    }
    ASN1_OBJECT_free(object);
    return count;
}

static void attributes_read(sim_signed_t *out, apr_pool_t *pool)
{
    struct {
        const char *oid, *name;
        sim_bytes_t *value;
    } wanted[] = {
        {OID_MESSAGE_TYPE, "messageType", &out->message_type},
        {OID_PKI_STATUS, "pkiStatus", &out->status},
        {OID_FAIL_INFO, "failInfo", &out->fail_info},
        {OID_FAIL_INFO_TEXT, "failInfoText", &out->fail_info_text},
        {OID_TRANSACTION_ID, "transactionID", &out->transaction_id},
        {OID_SENDER_NONCE, "senderNonce", &out->sender_nonce},
        {OID_RECIPIENT_NONCE, "recipientNonce", &out->recipient_nonce},
    };
    for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
        if (sim_attr_get(out->info, wanted[i].oid, wanted[i].value, pool) > 1)
            out->doubled = wanted[i].name;
    }
}

static void signature_check(sim_signed_t *out, apr_pool_t *pool)
{
    ASN1_OCTET_STRING **content = CMS_get0_content(out->cms);
    BIO *empty = NULL, *sink = BIO_new(BIO_s_mem());
    if (content && *content) {
        out->content = sim_bytes((*content)->data, (apr_size_t)(*content)->length, pool);
    } else {
        /* A CertRep without pkcsPKIEnvelope has no eContent; its messageDigest is that of nothing. */
        empty = BIO_new(BIO_s_mem());
        BIO_set_mem_eof_return(empty, 0);
    }
    out->signature_ok = CMS_verify(out->cms, NULL, NULL, empty, sink, CMS_BINARY | CMS_NO_SIGNER_CERT_VERIFY) == 1;
    ERR_clear_error();
    BIO_free(empty);
    BIO_free(sink);
}

const char *sim_signed_open(OSSL_LIB_CTX *libctx, sim_bytes_t message, sim_signed_t *out, apr_pool_t *pool)
{
    X509_ALGOR *digest = NULL;
    memset(out, 0, sizeof(*out));
    out->cms = cms_parse(libctx, message, &out->trailing, pool);
    if (!out->cms)
        return apr_pstrcat(pool, "not a CMS message: ", sim_openssl_error(pool), NULL);
    if (OBJ_obj2nid(CMS_get0_type(out->cms)) != NID_pkcs7_signed)
        return "not a SignedData";
    STACK_OF(CMS_SignerInfo) *signers = CMS_get0_SignerInfos(out->cms);
    out->signers = sk_CMS_SignerInfo_num(signers);
    if (out->signers < 1)
        return "nobody signed it";
    out->info = sk_CMS_SignerInfo_value(signers, 0);
    STACK_OF(X509) *certs = CMS_get1_certs(out->cms);
    out->certificates = certs ? sk_X509_num(certs) : 0;
    for (int i = 0; i < out->certificates && !out->signer; i++) {
        X509 *cert = sk_X509_value(certs, i);
        if (CMS_SignerInfo_cert_cmp(out->info, cert) == 0 && X509_up_ref(cert))
            out->signer = sim_own_cert(pool, cert);
    }
    sk_X509_pop_free(certs, X509_free);
    CMS_SignerInfo_get0_algs(out->info, NULL, NULL, &digest, NULL);
    const ASN1_OBJECT *name = NULL;
    X509_ALGOR_get0(&name, NULL, NULL, digest);
    out->digest = sim_digest_name(OBJ_obj2nid(name));
    signature_check(out, pool);
    attributes_read(out, pool);
    return NULL;
}
