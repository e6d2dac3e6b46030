/* SPDX-License-Identifier: Apache-2.0 */
#include "pki_fixture.h"

#include <apr_general.h>
#include <apr_strings.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pkcs7.h>
#include <openssl/provider.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>

void pki_must(bool good, const char *what, const char *file, int line)
{
    if (!good) {
        fprintf(stderr, "%s:%d: %s failed\n", file, line, what);
        ERR_print_errors_fp(stderr);
        abort();
    }
}

static OSSL_PROVIDER *null_provider;

void pki_global_init(void)
{
    must(apr_initialize() == APR_SUCCESS);
    must(OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, NULL));
    null_provider = OSSL_PROVIDER_load(NULL, "null");
    must(null_provider);
}

void pki_global_end(void)
{
    OSSL_PROVIDER_unload(null_provider);
    apr_terminate();
}

static apr_status_t key_end(void *data)
{
    EVP_PKEY_free(data);
    return APR_SUCCESS;
}

static apr_status_t x509_end(void *data)
{
    X509_free(data);
    return APR_SUCCESS;
}

static apr_status_t stack_end(void *data)
{
    sk_X509_free(data);
    return APR_SUCCESS;
}

static EVP_PKEY *key_make(pki_t *pki, const char *type, unsigned bits)
{
    EVP_PKEY *key = bits ? EVP_PKEY_Q_keygen(pki->engine->context, NULL, type, (size_t)bits)
                         : EVP_PKEY_Q_keygen(pki->engine->context, NULL, type, "P-256");

    must(key);
    apr_pool_cleanup_register(pki->pool, key, key_end, apr_pool_cleanup_null);
    return key;
}

static EVP_MD *digest_fetch(pki_t *pki, const char *name)
{
    EVP_MD *digest = EVP_MD_fetch(pki->engine->context, name ? name : "SHA-256", NULL);

    must(digest);
    return digest;
}

static void name_set(X509_NAME *name, const char *text)
{
    must(X509_NAME_add_entry_by_NID(name, NID_commonName, MBSTRING_UTF8, (const unsigned char *)text, -1, -1, 0));
}

static X509_EXTENSION *unknown_extension(const char *oid, int critical)
{
    static const unsigned char null[] = {5, 0};
    ASN1_OBJECT *object = OBJ_txt2obj(oid, 1);
    ASN1_OCTET_STRING *data = ASN1_OCTET_STRING_new();
    X509_EXTENSION *extension = NULL;

    must(object && data && ASN1_OCTET_STRING_set(data, null, sizeof(null)));
    extension = X509_EXTENSION_create_by_OBJ(NULL, object, critical, data);
    must(extension);
    ASN1_OBJECT_free(object);
    ASN1_OCTET_STRING_free(data);
    return extension;
}

static void extension_add(X509 *certificate, int nid, const char *value)
{
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, nid, value);

    must(extension && X509_add_ext(certificate, extension, -1));
    X509_EXTENSION_free(extension);
}

static void relative_points_add(X509 *certificate, int count)
{
    CRL_DIST_POINTS *points = CRL_DIST_POINTS_new();
    int i = 0;

    for (i = 0; i < count; i++) {
        DIST_POINT *point = DIST_POINT_new();

        must(point && (point->distpoint = DIST_POINT_NAME_new()) != NULL && sk_DIST_POINT_push(points, point));
        point->distpoint->type = 1;
        point->distpoint->name.relativename = sk_X509_NAME_ENTRY_new_null();
    }
    must(X509_add1_ext_i2d(certificate, NID_crl_distribution_points, points, 0, 0) == 1);
    CRL_DIST_POINTS_free(points);
}

X509 *pki_certificate_make(pki_t *pki, const pki_certificate_t *wanted)
{
    static long serial = 1000;
    X509 *certificate = X509_new_ex(pki->engine->context, NULL);
    EVP_MD *digest = digest_fetch(pki, wanted->digest);
    X509_NAME *name = X509_NAME_new();

    must(certificate && name);
    name_set(name, wanted->subject);
    must(X509_set_version(certificate, X509_VERSION_3) && X509_set_subject_name(certificate, name));
    must(X509_set_issuer_name(certificate, wanted->issuer ? X509_get_subject_name(wanted->issuer) : name));
    must(ASN1_INTEGER_set(X509_get_serialNumber(certificate), wanted->serial ? wanted->serial : ++serial));
    /* A test may have looked at the clock before: what is valid from now on is so from a minute ago. */
    must(X509_gmtime_adj(X509_getm_notBefore(certificate), wanted->from ? wanted->from : -60));
    must(X509_gmtime_adj(X509_getm_notAfter(certificate), wanted->until ? wanted->until : 86400));
    must(X509_set_pubkey(certificate, wanted->key));
    if (wanted->ca) {
        extension_add(certificate, NID_basic_constraints, "critical,CA:TRUE");
    }
    if (wanted->usage) {
        extension_add(certificate, NID_key_usage, wanted->usage);
    }
    if (wanted->purpose) {
        extension_add(certificate, NID_ext_key_usage, wanted->purpose);
    }
    if (wanted->crl_at) {
        extension_add(certificate, NID_crl_distribution_points, apr_pstrcat(pki->pool, "URI:", wanted->crl_at, NULL));
    }
    if (wanted->relative_points) {
        relative_points_add(certificate, wanted->relative_points);
    }
    if (wanted->critical) {
        X509_EXTENSION *extension = unknown_extension(wanted->critical, 1);

        must(X509_add_ext(certificate, extension, -1));
        X509_EXTENSION_free(extension);
    }
    must(X509_sign(certificate, wanted->issuer ? wanted->issuer_key : wanted->key, digest));
    X509_NAME_free(name);
    EVP_MD_free(digest);
    apr_pool_cleanup_register(pki->pool, certificate, x509_end, apr_pool_cleanup_null);
    return certificate;
}

static void certificates_make(pki_t *pki)
{
    pki_certificate_t root = {.subject = "root", .key = pki->root_key, .ca = true};
    pki_certificate_t ca = {.subject = "issuing CA",
                            .key = pki->ca_key,
                            .issuer_key = pki->root_key,
                            .ca = true,
                            .usage = "critical,keyCertSign,cRLSign"};
    pki_certificate_t ra = {.subject = "RA",
                            .key = pki->ra_key,
                            .issuer_key = pki->ca_key,
                            .usage = "critical,digitalSignature,keyEncipherment"};
    pki_certificate_t device = {.subject = "device", .key = pki->device_key};
    pki_certificate_t other = {.subject = "other", .key = pki->other_key};

    pki->root = pki_certificate_make(pki, &root);
    ca.issuer = pki->root;
    pki->ca = pki_certificate_make(pki, &ca);
    ra.issuer = pki->ca;
    pki->ra = pki_certificate_make(pki, &ra);
    pki->device = pki_certificate_make(pki, &device);
    pki->other = pki_certificate_make(pki, &other);
    pki->chain = sk_X509_new_null();
    must(pki->chain && sk_X509_push(pki->chain, pki->ca) && sk_X509_push(pki->chain, pki->root));
    apr_pool_cleanup_register(pki->pool, pki->chain, stack_end, apr_pool_cleanup_null);
}

pki_t *pki_make(apr_pool_t *pool)
{
    pki_t *pki = apr_pcalloc(pool, sizeof(*pki));
    result_t *result = result_make(pool);

    pki->pool = pool;
    must(scep_engine_make(&pki->engine, pool, result) == APR_SUCCESS);
    pki->root_key = key_make(pki, "EC", 0);
    pki->ec_key = key_make(pki, "EC", 0);
    pki->ca_key = key_make(pki, "RSA", 2048);
    pki->ra_key = key_make(pki, "RSA", 2048);
    pki->device_key = key_make(pki, "RSA", 2048);
    pki->other_key = key_make(pki, "RSA", 2048);
    pki->small_key = key_make(pki, "RSA", 1024);
    certificates_make(pki);
    must(scep_identity_make(&pki->identity, pki->engine, pki->ra, pki->ra_key, pki->chain, NULL, pool, result) ==
         APR_SUCCESS);
    must(!scep_algorithms_parse(&pki->policy.device, "AES DES3 SHA-1 SHA-256 SHA-384 SHA-512", pool));
    must(!scep_algorithms_parse(&pki->policy.backend, "AES DES3 DES SHA-1 SHA-256 SHA-512", pool));
    pki->policy.min_key_bits = 2048;
    pki->policy.refuse_sid = true;
    return pki;
}

static void extensions_value_add(X509_ATTRIBUTE *attribute, const char *oid, int count, int type)
{
    X509_EXTENSIONS *extensions = sk_X509_EXTENSION_new_null();
    unsigned char *der = NULL;
    int len = 0;
    int i = 0;

    must(extensions);
    for (i = 0; i < count; i++) {
        must(sk_X509_EXTENSION_push(extensions, unknown_extension(i == 1 ? "1.2.3.4.6" : oid, 0)));
    }
    len = i2d_X509_EXTENSIONS(extensions, &der);
    must(len > 0 && X509_ATTRIBUTE_set1_data(attribute, type, der, len));
    OPENSSL_free(der);
    sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
}

/* Added under a type of its own, since OpenSSL adds none twice, and then changed in place. */
static X509_ATTRIBUTE *extensions_attribute_add(X509_REQ *request, int nid)
{
    ASN1_OBJECT *object = OBJ_txt2obj("1.2.3.4.7", 1);
    X509_ATTRIBUTE *attribute = X509_ATTRIBUTE_create_by_OBJ(NULL, object, 0, NULL, -1);

    must(attribute && X509_REQ_add1_attr(request, attribute));
    X509_ATTRIBUTE_free(attribute);
    ASN1_OBJECT_free(object);
    attribute = X509_REQ_get_attr(request, X509_REQ_get_attr_count(request) - 1);
    must(X509_ATTRIBUTE_set1_object(attribute, OBJ_nid2obj(nid)));
    return attribute;
}

static void extensions_add(X509_REQ *request, const pki_csr_t *wanted)
{
    int nid = wanted->microsoft ? NID_ms_ext_req : NID_ext_req;
    int other = wanted->microsoft ? NID_ext_req : NID_ms_ext_req;
    X509_ATTRIBUTE *attribute = NULL;

    if (wanted->list_too != PKI_NO_LIST) {
        attribute = extensions_attribute_add(request, wanted->list_too == PKI_HARMLESS_LIST ? other : nid);
        if (wanted->list_too != PKI_LIST_WITHOUT_VALUE) {
            extensions_value_add(attribute, "1.2.3.4.5", 1, V_ASN1_SEQUENCE);
        }
    }
    if (wanted->extension) {
        if (wanted->list_too != PKI_LIST_IN_IT) {
            attribute = extensions_attribute_add(request, nid);
        }
        extensions_value_add(attribute, wanted->extension, wanted->extension_twice ? 3 : 1,
                             wanted->broken_extensions ? V_ASN1_OCTET_STRING : V_ASN1_SEQUENCE);
    }
}

/*
 * OpenSSL refuses to add an attribute type twice, but a hostile client does not: each is added under a type of its own,
 * which is then changed in place.
 */
static void challenges_add(X509_REQ *request, const pki_csr_t *wanted)
{
    int i = 0;

    for (i = 0; i < 4 && wanted->challenges[i].type; i++) {
        const pki_value_t *value = &wanted->challenges[i];
        int position = X509_REQ_get_attr_count(request);
        char oid[40];

        if (i > 0 && wanted->one_attribute) {
            X509_ATTRIBUTE *there = X509_REQ_get_attr(request, position - 1);

            must(X509_ATTRIBUTE_set1_data(there, value->type, value->data, value->len));
            continue;
        }
        snprintf(oid, sizeof(oid), "1.2.3.4.%d", i + 1);
        must(X509_REQ_add1_attr_by_txt(request, oid, value->type, (const unsigned char *)value->data, value->len));
        must(
            X509_ATTRIBUTE_set1_object(X509_REQ_get_attr(request, position), OBJ_nid2obj(NID_pkcs9_challengePassword)));
    }
}

bytes_t pki_csr_make(pki_t *pki, const pki_csr_t *wanted, apr_pool_t *pool)
{
    X509_REQ *request = X509_REQ_new_ex(pki->engine->context, NULL);
    X509_NAME *name = X509_NAME_new();
    EVP_MD *digest = digest_fetch(pki, NULL);
    unsigned char *der = NULL;
    bytes_t bytes = {NULL, 0};
    int len = 0;

    must(request && name);
    name_set(name, wanted->subject ? wanted->subject : "device");
    must(X509_REQ_set_subject_name(request, name) && X509_REQ_set_pubkey(request, wanted->key));
    challenges_add(request, wanted);
    extensions_add(request, wanted);
    must(X509_REQ_sign(request, wanted->signer ? wanted->signer : wanted->key, digest));
    len = i2d_X509_REQ(request, &der);
    must(len > 0);
    bytes.data = apr_pmemdup(pool, der, (apr_size_t)len);
    bytes.len = (apr_size_t)len;
    OPENSSL_free(der);
    EVP_MD_free(digest);
    X509_NAME_free(name);
    X509_REQ_free(request);
    return bytes;
}

pki_message_t pki_request(pki_t *pki, bytes_t csr)
{
    pki_message_t message = {.type = "19",
                             .transaction_id = bytes_of_text("6F1D2C3B4A59687706F1D2C3B4A5968770123456"),
                             .sender_nonce = bytes_of_text("0123456789abcdef"),
                             .signer = pki->device,
                             .signer_key = pki->device_key,
                             .plain = csr,
                             .recipient = pki->ra};

    return message;
}

pki_message_t pki_answer(pki_t *pki, const scep_relay_t *relay, bytes_t inner)
{
    pki_message_t message = {.type = "3",
                             .status = "0",
                             .transaction_id = bytes_of_text(relay->transaction_id),
                             .sender_nonce = relay->sender_nonce,
                             .recipient_nonce = relay->sender_nonce,
                             .signer = pki->ca,
                             .signer_key = pki->ca_key,
                             .plain = inner,
                             .recipient = pki->ra};

    return message;
}

bytes_t pki_bio_take(BIO *bio, apr_pool_t *pool)
{
    bytes_t bytes = {NULL, 0};
    char *data = NULL;
    long len = BIO_get_mem_data(bio, &data);

    bytes.data = apr_pmemdup(pool, data, (apr_size_t)len);
    bytes.len = (apr_size_t)len;
    BIO_free(bio);
    return bytes;
}

static void recipient_add(CMS_ContentInfo *cms, X509 *recipient, bool oaep)
{
    CMS_RecipientInfo *info = CMS_add1_recipient_cert(cms, recipient, oaep ? CMS_KEY_PARAM : 0);

    must(info);
    if (oaep) {
        must(EVP_PKEY_CTX_set_rsa_padding(CMS_RecipientInfo_get0_pkey_ctx(info), RSA_PKCS1_OAEP_PADDING) > 0);
    }
}

bytes_t pki_envelope_make(pki_t *pki, const pki_message_t *wanted, apr_pool_t *pool)
{
    unsigned flags = CMS_BINARY | CMS_PARTIAL | (wanted->ber ? CMS_STREAM : 0);
    const char *name = wanted->cipher ? wanted->cipher : "AES-128-CBC";
    EVP_CIPHER *cipher = EVP_CIPHER_fetch(pki->engine->context, name, NULL);
    BIO *in =
        BIO_new_mem_buf(wanted->plain.len ? wanted->plain.data : (const unsigned char *)"", (int)wanted->plain.len);
    BIO *out = BIO_new(BIO_s_mem());
    CMS_ContentInfo *cms = NULL;

    must(cipher && in && out);
    cms = CMS_encrypt_ex(NULL, in, cipher, flags, pki->engine->context, NULL);
    must(cms);
    if (wanted->first_recipient) {
        recipient_add(cms, wanted->first_recipient, false);
    }
    recipient_add(cms, wanted->recipient, wanted->oaep);
    if (wanted->inner_type) {
        must(CMS_set1_eContentType(cms, OBJ_nid2obj(wanted->inner_type)));
    }
    if (wanted->ber) {
        must(i2d_CMS_bio_stream(out, cms, in, (int)flags));
    } else {
        must(CMS_final(cms, in, NULL, flags) && i2d_CMS_bio(out, cms));
    }
    CMS_ContentInfo_free(cms);
    EVP_CIPHER_free(cipher);
    BIO_free(in);
    return pki_bio_take(out, pool);
}

static void attribute_add(CMS_SignerInfo *info, const pki_message_t *wanted, unsigned bit, const char *oid, int type,
                          bytes_t value)
{
    ASN1_OBJECT *object = OBJ_txt2obj(oid, 1);
    const void *data = value.len ? value.data : (const unsigned char *)"";

    must(object);
    if (wanted->without & bit) {
        goto end;
    }
    if (wanted->wrong_type & bit) {
        type = type == V_ASN1_OCTET_STRING ? V_ASN1_PRINTABLESTRING : V_ASN1_OCTET_STRING;
    }
    must(CMS_signed_add1_attr_by_OBJ(info, object, type, data, (int)value.len));
    if (wanted->two_values & bit) {
        must(X509_ATTRIBUTE_set1_data(CMS_signed_get_attr(info, CMS_signed_get_attr_count(info) - 1), type, data,
                                      (int)value.len));
    }
    /* As in challenges_add(): OpenSSL would refuse it under its own type. */
    if (wanted->twice & bit) {
        char other[40];

        snprintf(other, sizeof(other), "1.2.3.4.%u", bit + 1);
        must(CMS_signed_add1_attr_by_txt(info, other, type, data, (int)value.len));
        must(X509_ATTRIBUTE_set1_object(CMS_signed_get_attr(info, CMS_signed_get_attr_count(info) - 1), object));
    }
end:
    ASN1_OBJECT_free(object);
}

static void attributes_add(CMS_SignerInfo *info, const pki_message_t *m)
{
    attribute_add(info, m, PKI_MESSAGE_TYPE, SCEP_OID_MESSAGE_TYPE, V_ASN1_PRINTABLESTRING, bytes_of_text(m->type));
    attribute_add(info, m, PKI_TRANSACTION_ID, SCEP_OID_TRANSACTION_ID, V_ASN1_PRINTABLESTRING, m->transaction_id);
    attribute_add(info, m, PKI_SENDER_NONCE, SCEP_OID_SENDER_NONCE, V_ASN1_OCTET_STRING, m->sender_nonce);
    if (m->recipient_nonce.len) {
        attribute_add(info, m, PKI_RECIPIENT_NONCE, SCEP_OID_RECIPIENT_NONCE, V_ASN1_OCTET_STRING, m->recipient_nonce);
    }
    if (m->status) {
        attribute_add(info, m, PKI_STATUS, SCEP_OID_PKI_STATUS, V_ASN1_PRINTABLESTRING, bytes_of_text(m->status));
    }
    if (m->fail_info) {
        attribute_add(info, m, PKI_FAIL_INFO, SCEP_OID_FAIL_INFO, V_ASN1_PRINTABLESTRING, bytes_of_text(m->fail_info));
    }
    if (m->text) {
        attribute_add(info, m, PKI_FAIL_INFO_TEXT, SCEP_OID_FAIL_INFO_TEXT,
                      m->text_type ? m->text_type : V_ASN1_UTF8STRING, bytes_of_text(m->text));
    }
}

static void signer_add(pki_t *pki, CMS_ContentInfo *cms, const pki_message_t *wanted, unsigned flags)
{
    EVP_MD *digest = digest_fetch(pki, wanted->digest);
    CMS_SignerInfo *info = NULL;

    if (wanted->no_certificate) {
        flags |= CMS_NOCERTS;
    }
    info = CMS_add1_signer(cms, wanted->signer, wanted->signer_key, digest,
                           flags | CMS_NOSMIMECAP | (wanted->pss ? CMS_KEY_PARAM : 0));
    must(info);
    must(!wanted->pss ||
         EVP_PKEY_CTX_set_rsa_padding(CMS_SignerInfo_get0_pkey_ctx(info), RSA_PKCS1_PSS_PADDING) > 0);
    attributes_add(info, wanted);
    if (wanted->two_signers) {
        info = CMS_add1_signer(cms, pki->other, pki->other_key, digest, flags | CMS_NOSMIMECAP);
        must(info);
        attributes_add(info, wanted);
    }
    EVP_MD_free(digest);
}

bytes_t pki_message_make(pki_t *pki, const pki_message_t *wanted, apr_pool_t *pool)
{
    unsigned flags =
        CMS_BINARY | CMS_PARTIAL | (wanted->ber ? CMS_STREAM : 0) | (wanted->no_content ? CMS_DETACHED : 0);
    bytes_t content = wanted->content;
    CMS_ContentInfo *cms = NULL;
    BIO *out = BIO_new(BIO_s_mem());
    BIO *in = NULL;

    if (!content.len && !wanted->no_content) {
        content = pki_envelope_make(pki, wanted, pool);
    }
    in = BIO_new_mem_buf(content.len ? content.data : (const unsigned char *)"", (int)content.len);
    cms = CMS_sign_ex(NULL, NULL, NULL, in, flags, pki->engine->context, NULL);
    must(in && out && cms);
    if (wanted->outer_type) {
        must(CMS_set1_eContentType(cms, OBJ_nid2obj(wanted->outer_type)));
    }
    if (wanted->extra_certificate) {
        must(CMS_add1_cert(cms, wanted->extra_certificate));
    }
    signer_add(pki, cms, wanted, flags);
    if (wanted->ber) {
        must(i2d_CMS_bio_stream(out, cms, in, (int)flags));
    } else {
        must(CMS_final(cms, in, NULL, flags) && i2d_CMS_bio(out, cms));
    }
    CMS_ContentInfo_free(cms);
    BIO_free(in);
    return pki_bio_take(out, pool);
}

bytes_t pki_degenerate_make(pki_t *pki, X509 *first, X509 *second, X509 *third, apr_pool_t *pool)
{
    X509 *certificates[] = {first, second, third};
    PKCS7 *p7 = PKCS7_new_ex(pki->engine->context, NULL);
    BIO *out = BIO_new(BIO_s_mem());
    unsigned i = 0;

    must(out && p7 && PKCS7_set_type(p7, NID_pkcs7_signed) && PKCS7_content_new(p7, NID_pkcs7_data));
    for (i = 0; i < 3 && certificates[i]; i++) {
        must(PKCS7_add_certificate(p7, certificates[i]));
    }
    must(i2d_PKCS7_bio(out, p7));
    PKCS7_free(p7);
    return pki_bio_take(out, pool);
}

bytes_t pki_certificate_der(X509 *certificate, apr_pool_t *pool)
{
    BIO *out = BIO_new(BIO_s_mem());

    must(out && i2d_X509_bio(out, certificate));
    return pki_bio_take(out, pool);
}
