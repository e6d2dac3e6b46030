/* SPDX-License-Identifier: Apache-2.0 */
#include "message_cms.h"

#include "base/text.h"
#include "parts.h"

#include <apr_strings.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>
#include <stdint.h>

/*
 * One digest is what there is to list; some clients list what they might have used. Certificates: the signer's and a chain.
 * Names: bytes. The depths are those of indefinite lengths in each other: within SignedData, and of a whole message, of which
 * nothing that OpenSSL reads may count as cut short.
 */
enum { DIGESTS_MOST = 8, CERTIFICATES_MOST = 32, NAMES_MOST = 65536, DEPTH_MAX = 8, WHOLE_DEPTH_MAX = 64 };

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

/* The place behind one element of BER; NULL where there is none. */
static const unsigned char *element_skip(const unsigned char *at, const unsigned char *end, int depth)
{
    long len = 0;
    int tag = 0;
    int class = 0;
    int form = depth > 0 ? ASN1_get_object(&at, &len, &tag, &class, end - at) : 0x80;

    if (form & 0x80) {
        return NULL;
    }
    if (!(form & 1)) {
        return at + len;
    }
    while (at && end - at >= 2 && (at[0] || at[1])) {
        at = element_skip(at, end, depth - 1);
    }
    return at && end - at >= 2 ? at + 2 : NULL;
}

/* The first element in this one, of whatever length; NULL where there is none. */
static const unsigned char *element_enter(const unsigned char *at, const unsigned char *end)
{
    long len = 0;
    int tag = 0;
    int class = 0;

    return at && !(ASN1_get_object(&at, &len, &tag, &class, end - at) & 0x80) ? at : NULL;
}

/* The first element in the content of a ContentInfo, behind its contentType. */
static const unsigned char *content_enter(bytes_t der)
{
    const unsigned char *end = der.data + der.len;
    const unsigned char *at = der.len ? element_enter(der.data, end) : NULL;

    at = at ? element_enter(element_skip(at, end, DEPTH_MAX), end) : NULL;
    return element_enter(at, end);
}

static bool elements_are_few(const unsigned char *at, const unsigned char *end, int most)
{
    int count = 0;

    at = element_enter(at, end);
    while (at && end - at >= 2 && (at[0] || at[1]) && count <= most) {
        at = element_skip(at, end, DEPTH_MAX);
        count++;
    }
    return at && count <= most;
}

/*
 * Whether a SignedData names so few digests that all of them may be computed. OpenSSL does that, whichever of them the
 * signer uses, by a chain of filters that call each other: thousands take seconds, and more stack than a thread has. It
 * has no getter for them.
 */
static bool digests_are_few(bytes_t der)
{
    const unsigned char *end = der.data + der.len;
    const unsigned char *set = content_enter(der);
    bool few = false;

    /* behind its version */
    set = set ? element_skip(set, end, DEPTH_MAX) : NULL;
    end = set ? element_skip(set, end, DEPTH_MAX) : NULL;
    few = end && elements_are_few(set, end, DIGESTS_MOST);
    ERR_clear_error();
    return few;
}

/* Whether this is a [0], however its tag is written. */
static bool is_tagged_0(const unsigned char *at, const unsigned char *end)
{
    long len = 0;
    int tag = 0;
    int class = 0;

    return !(ASN1_get_object(&at, &len, &tag, &class, end - at) & 0x80) && class == V_ASN1_CONTEXT_SPECIFIC && tag == 0;
}

bool scep_is_cut_short(bytes_t der)
{
    bool cut = der.len && der.data[0] == (V_ASN1_SEQUENCE | V_ASN1_CONSTRUCTED) &&
               !element_skip(der.data, der.data + der.len, WHOLE_DEPTH_MAX);

    ERR_clear_error();
    return cut;
}

/*
 * OpenSSL decodes the keys of all certificates as soon as it reads a message, before anybody has said who sent it. A point
 * of P-224 that is given by one coordinate takes half a millisecond, and there is room for more than a thousand.
 */
const char *scep_cms_excess(bytes_t der)
{
    static const char odd[] = "it is not one whole CMS message";
    const unsigned char *end = der.data + der.len;
    const unsigned char *at = content_enter(der);
    const unsigned char *next = NULL;
    const char *why = at ? NULL : odd;
    int i = 0;

    /* version, digestAlgorithms, encapContentInfo, and then certificates; those of an envelope are behind its version */
    for (i = 0; !why && end - at >= 2 && (at[0] || at[1]); i++, at = next) {
        next = element_skip(at, end, DEPTH_MAX);
        if (!next) {
            why = odd;
        } else if (i < 3 && is_tagged_0(at, next)) {
            why = "it has certificates of an originator, as no envelope for an RSA key has";
        } else if (is_tagged_0(at, next) && !elements_are_few(at, next, CERTIFICATES_MOST)) {
            why = "it has more certificates than a signer and its CAs need";
        }
    }
    if (!why && !scep_curves_are_named(der)) {
        why = "an elliptic curve in it is spelled out";
    }
    if (why != odd) {
        ERR_clear_error();
    }
    return why;
}

/*
 * As soon as OpenSSL looks at a certificate's extensions, it gives each distribution point whose name is relative a copy of
 * the issuer's whole name, whoever made the certificate: a message could have them fill the machine's memory. In bytes.
 */
static uint64_t names_of(X509 *certificate)
{
    CRL_DIST_POINTS *points = X509_get_ext_d2i(certificate, NID_crl_distribution_points, NULL, NULL);
    size_t name = 0;
    uint64_t relative = 0;
    int i = 0;

    for (i = 0; i < sk_DIST_POINT_num(points); i++) {
        const DIST_POINT_NAME *point = sk_DIST_POINT_value(points, i)->distpoint;

        relative += point && point->type == 1;
    }
    CRL_DIST_POINTS_free(points);
    return X509_NAME_get0_der(X509_get_issuer_name(certificate), NULL, &name) ? relative * name : UINT64_MAX;
}

bool scep_stack_is_modest(STACK_OF(X509) * certificates)
{
    bool modest = true;
    uint64_t names = 0;
    int i = 0;

    for (i = 0; modest && i < sk_X509_num(certificates); i++) {
        uint64_t more = names_of(sk_X509_value(certificates, i));

        modest = more <= NAMES_MOST - names;
        names += modest ? more : 0;
    }
    return modest;
}

bool scep_certificates_are_modest(CMS_ContentInfo *cms)
{
    STACK_OF(X509) *certificates = CMS_get1_certs(cms);
    bool modest = scep_stack_is_modest(certificates);

    sk_X509_pop_free(certificates, X509_free);
    return modest;
}

/** Reads a SignedData with one SignerInfo. Nothing is verified yet. NULL, or what is wrong. */
const char *scep_outer_read(outer_t *outer, const scep_engine_t *engine, bytes_t der, apr_pool_t *pool)
{
    STACK_OF(CMS_SignerInfo) *signer_infos = NULL;
    ASN1_OCTET_STRING **content = NULL;
    X509_ALGOR *digest = NULL;
    const ASN1_OBJECT *object = NULL;
    const char *excess = scep_cms_excess(der);

    if (excess) {
        return excess;
    }
    outer->cms = scep_cms_read(engine->reading, der);
    if (!outer->cms) {
        return "it is not one whole CMS message";
    }
    if (OBJ_obj2nid(CMS_get0_type(outer->cms)) != NID_pkcs7_signed) {
        return "it is not a SignedData";
    }
    if (!digests_are_few(der)) {
        return "it names more digests than one signer needs";
    }
    if (!scep_certificates_are_modest(outer->cms)) {
        return "the distribution points of a certificate in it would take too much memory";
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
