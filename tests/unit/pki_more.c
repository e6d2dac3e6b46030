/* SPDX-License-Identifier: Apache-2.0 */
/* The PKI of the tests, second part: revocation lists, strange keys, and the device's view of an answer. */
#include "pki_fixture.h"

#include "scep/view.h"

#include <apr_strings.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/param_build.h>
#include <openssl/pkcs7.h>
#include <openssl/x509v3.h>

static apr_status_t certificates_end(void *data)
{
    sk_X509_pop_free(data, X509_free);
    return APR_SUCCESS;
}

static apr_status_t key_end(void *data)
{
    EVP_PKEY_free(data);
    return APR_SUCCESS;
}

static DIST_POINT_NAME *distribution_point_make(const pki_crl_t *wanted)
{
    DIST_POINT_NAME *name = DIST_POINT_NAME_new();
    GENERAL_NAME *uri = GENERAL_NAME_new();
    ASN1_IA5STRING *text = ASN1_IA5STRING_new();
    X509_NAME_ENTRY *part = NULL;

    must(name && uri && text && ASN1_STRING_set(text, wanted->at ? wanted->at : "", -1));
    GENERAL_NAME_set0_value(uri, GEN_URI, text);
    name->type = wanted->relative ? 1 : 0;
    if (wanted->relative) {
        name->name.relativename = sk_X509_NAME_ENTRY_new_null();
        part = X509_NAME_ENTRY_dup(X509_NAME_get_entry(X509_get_subject_name(wanted->issuer), 0));
        must(part && sk_X509_NAME_ENTRY_push(name->name.relativename, part));
        GENERAL_NAME_free(uri);
    } else {
        name->name.fullname = sk_GENERAL_NAME_new_null();
        must(sk_GENERAL_NAME_push(name->name.fullname, uri));
    }
    return name;
}

static void crl_extensions_add(X509_CRL *list, const pki_crl_t *wanted)
{
    if (wanted->delta) {
        ASN1_INTEGER *number = ASN1_INTEGER_new();

        must(number && ASN1_INTEGER_set(number, 1) && X509_CRL_add1_ext_i2d(list, NID_delta_crl, number, 1, 0));
        ASN1_INTEGER_free(number);
    }
    if (wanted->only_cas || wanted->at || wanted->relative) {
        ISSUING_DIST_POINT *point = ISSUING_DIST_POINT_new();

        must(point);
        point->onlyCA = wanted->only_cas ? 0xff : -1;
        point->distpoint = wanted->at || wanted->relative ? distribution_point_make(wanted) : NULL;
        must(X509_CRL_add1_ext_i2d(list, NID_issuing_distribution_point, point, 1, 0));
        ISSUING_DIST_POINT_free(point);
    }
}

static void entry_extension_add(X509_REVOKED *entry, const pki_crl_t *wanted)
{
    ASN1_OCTET_STRING *value = ASN1_OCTET_STRING_new();
    X509_EXTENSION *extension = NULL;

    must(value && ASN1_OCTET_STRING_set(value, (const unsigned char *)wanted->is, (int)strlen(wanted->is)));
    extension = X509_EXTENSION_create_by_NID(NULL, wanted->at_entry, wanted->critical, value);
    must(extension && X509_REVOKED_add_ext(entry, extension, -1));
    X509_EXTENSION_free(extension);
    ASN1_OCTET_STRING_free(value);
}

bytes_t pki_crl_make(pki_t *pki, const pki_crl_t *wanted, apr_pool_t *pool)
{
    X509_CRL *list = X509_CRL_new_ex(pki->engine->context, NULL);
    ASN1_TIME *time = ASN1_TIME_new();
    EVP_MD *digest = EVP_MD_fetch(pki->engine->context, "SHA-256", NULL);
    BIO *out = BIO_new(BIO_s_mem());
    int i = 0;

    must(list && time && digest && out && X509_CRL_set_version(list, X509_CRL_VERSION_2));
    must(X509_CRL_set_issuer_name(list, X509_get_subject_name(wanted->issuer)));
    must(X509_gmtime_adj(time, wanted->from) && X509_CRL_set1_lastUpdate(list, time));
    if (!wanted->for_ever) {
        must(X509_gmtime_adj(time, wanted->until ? wanted->until : 86400) && X509_CRL_set1_nextUpdate(list, time));
    }
    must(X509_gmtime_adj(time, -10));
    for (i = 0; i < 3 && wanted->revoked[i]; i++) {
        X509_REVOKED *revoked = X509_REVOKED_new();
        ASN1_INTEGER *serial = ASN1_INTEGER_dup(X509_get0_serialNumber(wanted->revoked[i]));

        must(revoked && serial && X509_REVOKED_set_serialNumber(revoked, serial));
        if (i == 0 && wanted->at_entry) {
            entry_extension_add(revoked, wanted);
        }
        must(X509_REVOKED_set_revocationDate(revoked, time) && X509_CRL_add0_revoked(list, revoked));
        ASN1_INTEGER_free(serial);
    }
    crl_extensions_add(list, wanted);
    must(X509_CRL_sort(list) && X509_CRL_sign(list, wanted->issuer_key, digest) && i2d_X509_CRL_bio(out, list));
    X509_CRL_free(list);
    ASN1_TIME_free(time);
    EVP_MD_free(digest);
    return pki_bio_take(out, pool);
}

static void crl_add(PKCS7 *p7, bytes_t der)
{
    const unsigned char *at = der.data;
    X509_CRL *list = der.len ? d2i_X509_CRL(NULL, &at, (long)der.len) : NULL;

    if (der.len) {
        must(list && PKCS7_add_crl(p7, list));
    }
    X509_CRL_free(list);
}

bytes_t pki_crl_degenerate_make(pki_t *pki, bytes_t first, bytes_t second, X509 *certificate, apr_pool_t *pool)
{
    PKCS7 *p7 = PKCS7_new_ex(pki->engine->context, NULL);
    BIO *out = BIO_new(BIO_s_mem());

    must(out && p7 && PKCS7_set_type(p7, NID_pkcs7_signed) && PKCS7_content_new(p7, NID_pkcs7_data));
    crl_add(p7, first);
    crl_add(p7, second);
    must(!certificate || PKCS7_add_certificate(p7, certificate));
    must(i2d_PKCS7_bio(out, p7));
    PKCS7_free(p7);
    return pki_bio_take(out, pool);
}

bytes_t pki_inquiry_make(X509 *certificate, apr_pool_t *pool)
{
    PKCS7_ISSUER_AND_SERIAL *asked = PKCS7_ISSUER_AND_SERIAL_new();
    unsigned char *der = NULL;
    bytes_t bytes = {NULL, 0};
    int len = 0;

    must(asked && X509_NAME_set(&asked->issuer, X509_get_issuer_name(certificate)));
    ASN1_INTEGER_free(asked->serial);
    asked->serial = ASN1_INTEGER_dup(X509_get0_serialNumber(certificate));
    len = i2d_PKCS7_ISSUER_AND_SERIAL(asked, &der);
    must(len > 0);
    bytes.data = apr_pmemdup(pool, der, (apr_size_t)len);
    bytes.len = (apr_size_t)len;
    OPENSSL_free(der);
    PKCS7_ISSUER_AND_SERIAL_free(asked);
    return bytes;
}

static void name_push(ASN1_SEQUENCE_ANY *sequence, const X509_NAME *name)
{
    ASN1_TYPE *element = ASN1_TYPE_new();
    ASN1_STRING *string = ASN1_STRING_type_new(V_ASN1_SEQUENCE);
    unsigned char *der = NULL;
    int len = i2d_X509_NAME(name, &der);

    must(element && string && len > 0 && ASN1_STRING_set(string, der, len));
    ASN1_TYPE_set(element, V_ASN1_SEQUENCE, string);
    must(sk_ASN1_TYPE_push(sequence, element));
    OPENSSL_free(der);
}

bytes_t pki_poll_make(const X509_NAME *issuer, const X509_NAME *subject, apr_pool_t *pool)
{
    ASN1_SEQUENCE_ANY *sequence = sk_ASN1_TYPE_new_null();
    unsigned char *der = NULL;
    bytes_t bytes = {NULL, 0};
    int len = 0;

    must(sequence);
    name_push(sequence, issuer);
    name_push(sequence, subject);
    len = i2d_ASN1_SEQUENCE_ANY(sequence, &der);
    must(len > 0);
    bytes.data = apr_pmemdup(pool, der, (apr_size_t)len);
    bytes.len = (apr_size_t)len;
    OPENSSL_free(der);
    sk_ASN1_TYPE_pop_free(sequence, ASN1_TYPE_free);
    return bytes;
}

static EVP_PKEY *keep(pki_t *pki, EVP_PKEY *key)
{
    must(key);
    apr_pool_cleanup_register(pki->pool, key, key_end, apr_pool_cleanup_null);
    return key;
}

EVP_PKEY *pki_public_rsa_make(pki_t *pki, int bits, int e_bits)
{
    OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(pki->engine->context, "RSA", NULL);
    BIGNUM *n = BN_new();
    BIGNUM *e = BN_new();
    OSSL_PARAM *parameters = NULL;
    EVP_PKEY *key = NULL;

    must(build && context && n && e && BN_set_bit(n, bits - 1) && BN_set_bit(n, 0));
    must(e_bits ? BN_set_bit(e, e_bits - 1) && BN_set_bit(e, 0) : BN_set_word(e, 65537));
    must(OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_N, n) &&
         OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_E, e));
    parameters = OSSL_PARAM_BLD_to_param(build);
    must(parameters && EVP_PKEY_fromdata_init(context) > 0 &&
         EVP_PKEY_fromdata(context, &key, EVP_PKEY_PUBLIC_KEY, parameters) > 0);
    OSSL_PARAM_free(parameters);
    OSSL_PARAM_BLD_free(build);
    EVP_PKEY_CTX_free(context);
    BN_free(n);
    BN_free(e);
    return keep(pki, key);
}

EVP_PKEY *pki_explicit_ec_make(pki_t *pki)
{
    EVP_PKEY *key = keep(pki, EVP_PKEY_Q_keygen(pki->engine->context, NULL, "EC", "P-256"));

    must(EVP_PKEY_set_utf8_string_param(key, OSSL_PKEY_PARAM_EC_ENCODING, OSSL_PKEY_EC_ENCODING_EXPLICIT));
    return key;
}

EVP_PKEY *pki_pss_key_make(pki_t *pki)
{
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(pki->engine->context, "RSA-PSS", NULL);
    EVP_PKEY *key = NULL;

    must(context && EVP_PKEY_keygen_init(context) > 0 && EVP_PKEY_generate(context, &key) > 0);
    EVP_PKEY_CTX_free(context);
    return keep(pki, key);
}

static bytes_t attribute_take(CMS_SignerInfo *info, const char *oid, int type, apr_pool_t *pool)
{
    ASN1_OBJECT *object = OBJ_txt2obj(oid, 1);
    ASN1_STRING *value = CMS_signed_get0_data_by_OBJ(info, object, -3, type);
    bytes_t bytes = {NULL, 0};

    if (value) {
        bytes.len = (apr_size_t)ASN1_STRING_length(value);
        bytes.data = apr_pmemdup(pool, ASN1_STRING_get0_data(value), bytes.len);
    }
    ASN1_OBJECT_free(object);
    return bytes;
}

static const char *text_take(CMS_SignerInfo *info, const char *oid, int type, apr_pool_t *pool)
{
    bytes_t bytes = attribute_take(info, oid, type, pool);

    return bytes.data ? apr_pstrmemdup(pool, (const char *)bytes.data, bytes.len) : NULL;
}

/* By the PKCS #7 code, which many devices' own code resembles more than CMS. */
static STACK_OF(X509) * certrep_decrypt(pki_t *pki, pki_certrep_t *rep, const unsigned char *data, int len,
                                        X509 *certificate, EVP_PKEY *key, apr_pool_t *pool)
{
    PKCS7 *envelope = PKCS7_new_ex(pki->engine->context, NULL);
    PKCS7 *inner = PKCS7_new_ex(pki->engine->context, NULL);
    BIO *plain = BIO_new(BIO_s_mem());
    STACK_OF(X509) *certificates = NULL;
    const unsigned char *at = data;
    char *text = NULL;
    long size = 0;

    must(envelope && inner && plain);
    if (!d2i_PKCS7(&envelope, &at, len) || at != data + len || !PKCS7_type_is_enveloped(envelope) ||
        !PKCS7_decrypt(envelope, key, certificate, plain, PKCS7_BINARY)) {
        goto end;
    }
    rep->cipher = OBJ_nid2sn(OBJ_obj2nid(envelope->d.enveloped->enc_data->algorithm->algorithm));
    size = BIO_get_mem_data(plain, &text);
    at = (const unsigned char *)text;
    if (!d2i_PKCS7(&inner, &at, size) || at != (const unsigned char *)text + size || !PKCS7_type_is_signed(inner) ||
        sk_PKCS7_SIGNER_INFO_num(inner->d.sign->signer_info) > 0) {
        goto end;
    }
    rep->crls = sk_X509_CRL_num(inner->d.sign->crl);
    if (rep->crls > 0) {
        BIO *der = BIO_new(BIO_s_mem());

        must(der && i2d_X509_CRL_bio(der, sk_X509_CRL_value(inner->d.sign->crl, 0)));
        rep->crl = pki_bio_take(der, pool);
    }
    certificates = X509_chain_up_ref(inner->d.sign->cert);
    must(certificates);
    apr_pool_cleanup_register(pool, certificates, certificates_end, apr_pool_cleanup_null);
end:
    PKCS7_free(inner);
    PKCS7_free(envelope);
    BIO_free(plain);
    return certificates;
}

static void certrep_read(pki_certrep_t *rep, CMS_SignerInfo *info, apr_pool_t *pool)
{
    X509_ALGOR *digest = NULL;

    rep->type = text_take(info, SCEP_OID_MESSAGE_TYPE, V_ASN1_PRINTABLESTRING, pool);
    rep->status = text_take(info, SCEP_OID_PKI_STATUS, V_ASN1_PRINTABLESTRING, pool);
    rep->fail_info = text_take(info, SCEP_OID_FAIL_INFO, V_ASN1_PRINTABLESTRING, pool);
    rep->text = text_take(info, SCEP_OID_FAIL_INFO_TEXT, V_ASN1_UTF8STRING, pool);
    rep->transaction_id = text_take(info, SCEP_OID_TRANSACTION_ID, V_ASN1_PRINTABLESTRING, pool);
    rep->sender_nonce = attribute_take(info, SCEP_OID_SENDER_NONCE, V_ASN1_OCTET_STRING, pool);
    rep->recipient_nonce = attribute_take(info, SCEP_OID_RECIPIENT_NONCE, V_ASN1_OCTET_STRING, pool);
    CMS_SignerInfo_get0_algs(info, NULL, NULL, &digest, NULL);
    rep->digest = OBJ_nid2sn(OBJ_obj2nid(digest->algorithm));
}

pki_certrep_t *pki_certrep_open(pki_t *pki, bytes_t der, X509 *certificate, EVP_PKEY *key, apr_pool_t *pool)
{
    pki_certrep_t *rep = apr_pcalloc(pool, sizeof(*rep));
    CMS_ContentInfo *cms = CMS_ContentInfo_new_ex(pki->engine->context, NULL);
    STACK_OF(X509) *signers = sk_X509_new_null();
    STACK_OF(X509) *outer = NULL;
    ASN1_OCTET_STRING **content = NULL;
    const unsigned char *at = der.data;
    bool good = false;

    must(cms && signers && sk_X509_push(signers, pki->ra));
    if (!d2i_CMS_ContentInfo(&cms, &at, (long)der.len) || at != der.data + der.len) {
        goto end;
    }
    content = CMS_get0_content(cms);
    if (!content || !*content ||
        !CMS_verify(cms, signers, NULL, NULL, NULL, CMS_NOINTERN | CMS_NO_SIGNER_CERT_VERIFY | CMS_BINARY)) {
        goto end;
    }
    rep->has_envelope = ASN1_STRING_length(*content) > 0;
    outer = CMS_get1_certs(cms);
    rep->outer_certificates = outer ? sk_X509_num(outer) : 0;
    certrep_read(rep, sk_CMS_SignerInfo_value(CMS_get0_SignerInfos(cms), 0), pool);
    if (rep->has_envelope) {
        rep->certificates = certrep_decrypt(pki, rep, ASN1_STRING_get0_data(*content), ASN1_STRING_length(*content),
                                            certificate, key, pool);
    }
    good = true;
end:
    sk_X509_pop_free(outer, X509_free);
    sk_X509_free(signers);
    CMS_ContentInfo_free(cms);
    ERR_clear_error();
    return good ? rep : NULL;
}

static void look(const pki_t *pki, bytes_t der, const scep_view_key_t *key)
{
    apr_pool_t *scratch = NULL;
    scep_view_t *view = NULL;
    const char *why = NULL;

    apr_pool_create(&scratch, pki->pool);
    apr_status_t status = scep_view_make(&view, pki->engine, der, key, scratch, &why);
    must((status != APR_SUCCESS) == (why != NULL));
    must(ERR_peek_error() == 0);
    for (int i = 0; i < view->parts->nelts; i++) {
        const scep_part_t *part = APR_ARRAY_IDX(view->parts, i, const scep_part_t *);
        for (int j = 0; j < part->fields->nelts; j++) {
            must(strlen(APR_ARRAY_IDX(part->fields, j, scep_field_t).value) < 1024 * 1024);
        }
    }
    apr_pool_destroy(scratch);
}

void pki_look(const pki_t *pki, bytes_t der)
{
    scep_view_key_t key = {pki->ra, pki->ra_key};

    look(pki, der, NULL);
    look(pki, der, &key);
}
