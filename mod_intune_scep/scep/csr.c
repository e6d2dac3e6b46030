/* SPDX-License-Identifier: Apache-2.0 */
#include "certificate.h"

#include "parts.h"

#include <apr_strings.h>
#include <limits.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509v3.h>
#include <stdint.h>

X509_REQ *csr_parse(const scep_engine_t *engine, bytes_t der, const char **why)
{
    X509_REQ *request = NULL;
    const unsigned char *at = der.data;

    if (der.len == 0 || der.len > INT_MAX) {
        *why = "there is no certificate request";
        return NULL;
    }
    if (!scep_curves_are_named(der)) {
        *why = "an elliptic key whose curve is not a named one";
        return NULL;
    }
    /* X509_REQ_new_ex() with d2i_X509_REQ() would decode the key in the process-wide context. */
    request = (X509_REQ *)ASN1_item_d2i_ex(NULL, &at, (long)der.len, ASN1_ITEM_rptr(X509_REQ), engine->reading, NULL);
    if (!request) {
        *why = "it is not a PKCS #10 certificate request";
        goto fail;
    }
    if (at != der.data + der.len) {
        *why = "there are bytes behind the certificate request";
        goto fail;
    }
    if (!X509_REQ_get0_pubkey(request)) {
        *why = "the key of the certificate request cannot be read";
        goto fail;
    }
    *why = scep_public_key_check(X509_REQ_get_X509_PUBKEY(request));
    if (*why) {
        goto fail;
    }
    return request;
fail:
    X509_REQ_free(request);
    return NULL;
}

bool csr_prove(X509_REQ *request, const scep_engine_t *engine)
{
    return X509_REQ_verify_ex(request, X509_REQ_get0_pubkey(request), engine->reading, NULL) == 1;
}

/*
 * The CertificationRequestInfo as the device wrote and signed it. OpenSSL would give its own encoding of it, which is
 * another where the device does not sort its attributes.
 */
static bytes_t info_of_der(bytes_t der)
{
    bytes_t info = {NULL, 0};
    const unsigned char *at = der.data;
    const unsigned char *end = der.data + der.len;
    const unsigned char *start = NULL;
    long len = 0;
    int tag = 0;
    int class = 0;

    /* Exactly "constructed": neither an error nor an indefinite length. */
    if (ASN1_get_object(&at, &len, &tag, &class, end - at) != V_ASN1_CONSTRUCTED || tag != V_ASN1_SEQUENCE) {
        return info;
    }
    start = at;
    if (ASN1_get_object(&at, &len, &tag, &class, end - at) != V_ASN1_CONSTRUCTED || tag != V_ASN1_SEQUENCE) {
        return info;
    }
    info.data = start;
    info.len = (apr_size_t)(at - start) + (apr_size_t)len;
    return info;
}

static bool is_directory_string(int type)
{
    return type == V_ASN1_PRINTABLESTRING || type == V_ASN1_UTF8STRING || type == V_ASN1_T61STRING ||
           type == V_ASN1_IA5STRING || type == V_ASN1_BMPSTRING || type == V_ASN1_UNIVERSALSTRING;
}

/**
 * A copy of the string in UTF-8, for OPENSSL_free(); its length, or -1. OpenSSL converts character by character, and a
 * challenge has thousands: ASCII, which is the same in all these types but the wide ones, is copied.
 */
static int text_of(const ASN1_TYPE *value, unsigned char **text)
{
    const ASN1_STRING *string = value->value.asn1_string;
    const unsigned char *data = ASN1_STRING_get0_data(string);
    int len = ASN1_STRING_length(string);
    unsigned char all = 0;
    int i = 0;

    for (i = 0; i < len; i++) {
        all |= data[i];
    }
    if (all >= 0x80 || len == 0 || value->type == V_ASN1_BMPSTRING || value->type == V_ASN1_UNIVERSALSTRING) {
        return ASN1_STRING_to_UTF8(text, string);
    }
    *text = OPENSSL_memdup(data, (size_t)len);
    return *text ? len : -1;
}

/* What is no text, or holds a NUL, is an empty challenge: it is there, and no one accepts it. */
static secret_t *challenge_make(const ASN1_TYPE *value, apr_pool_t *pool)
{
    unsigned char *text = NULL;
    secret_t *challenge = NULL;
    int len = -1;
    int kept = 0;
    int i = 0;

    if (value && is_directory_string(value->type)) {
        len = text_of(value, &text);
    }
    if (len <= 0 || memchr(text, 0, (size_t)len)) {
        challenge = secret_make(pool, "", 0);
        goto end;
    }
    for (i = 0; i < len; i++) {
        if (text[i] != ' ' && (text[i] < '\t' || text[i] > '\r')) {
            text[kept++] = text[i];
        }
    }
    challenge = secret_make(pool, (const char *)text, (apr_size_t)kept);
end:
    OPENSSL_clear_free(text, len > 0 ? (size_t)len : 0);
    return challenge;
}

static ASN1_OBJECT *object_of(const X509_EXTENSION *extension)
{
    return X509_EXTENSION_get_object((X509_EXTENSION *)(uintptr_t)extension);
}

static int by_object(const X509_EXTENSION *const *a, const X509_EXTENSION *const *b)
{
    return OBJ_cmp(object_of(*a), object_of(*b));
}

/** One value of an extensionRequest; false where it is not a list of extensions. */
static bool extensions_read(csr_t *csr, const ASN1_TYPE *value)
{
    X509_EXTENSIONS *extensions = NULL;
    const unsigned char *at = NULL;
    int i = 0;

    if (!value || value->type != V_ASN1_SEQUENCE) {
        return false;
    }
    at = value->value.sequence->data;
    extensions = d2i_X509_EXTENSIONS(NULL, &at, value->value.sequence->length);
    if (!extensions) {
        return false;
    }
    /* A message has room for thousands: sorted, each has to be compared with the one before it only. */
    sk_X509_EXTENSION_set_cmp_func(extensions, by_object);
    sk_X509_EXTENSION_sort(extensions);
    for (i = 0; i < sk_X509_EXTENSION_num(extensions); i++) {
        const ASN1_OBJECT *object = object_of(sk_X509_EXTENSION_value(extensions, i));

        csr->has_sid = csr->has_sid || scep_oid_is(object, SCEP_OID_SID_EXTENSION);
        csr->extension_twice = csr->extension_twice ||
                               (i > 0 && !OBJ_cmp(object, object_of(sk_X509_EXTENSION_value(extensions, i - 1))));
    }
    sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
    return true;
}

static const char *attribute_read(csr_t *csr, X509_ATTRIBUTE *attribute, apr_pool_t *pool)
{
    int nid = OBJ_obj2nid(X509_ATTRIBUTE_get0_object(attribute));
    int values = X509_ATTRIBUTE_count(attribute);
    int i = 0;

    if (nid == NID_pkcs9_challengePassword) {
        if (values > 0 && !csr->challenge) {
            csr->challenge = challenge_make(X509_ATTRIBUTE_get0_type(attribute, 0), pool);
        }
        csr->challenges += values;
    }
    /* Every such attribute and every value of it counts: a CA may read another one than we do. */
    if (nid == NID_ext_req || nid == NID_ms_ext_req) {
        for (i = 0; i < values; i++) {
            if (!extensions_read(csr, X509_ATTRIBUTE_get0_type(attribute, i))) {
                return "the requested extensions cannot be read";
            }
        }
        /* One without a value may be the first that somebody finds, and hide the next. */
        csr->extension_lists += values > 0 ? values : 1;
    }
    return NULL;
}

static apr_status_t der_end(void *data)
{
    bytes_t *der = data;

    OPENSSL_cleanse((void *)(uintptr_t)der->data, der->len);
    return APR_SUCCESS;
}

/* The request holds the challenge: no copy of it outlives the pool. */
static bytes_t der_keep(bytes_t der, apr_pool_t *pool)
{
    bytes_t *kept = apr_palloc(pool, sizeof(*kept));

    kept->data = apr_pmemdup(pool, der.data, der.len);
    kept->len = der.len;
    apr_pool_cleanup_register(pool, kept, der_end, apr_pool_cleanup_null);
    return *kept;
}

const char *csr_read(csr_t *csr, X509_REQ *request, const scep_engine_t *engine, bytes_t der, apr_pool_t *pool)
{
    EVP_PKEY *key = X509_REQ_get0_pubkey(request);
    bytes_t info = info_of_der(der);
    int i = 0;

    if (!info.data) {
        return "the certificate request is not in DER";
    }
    csr->der = der_keep(der, pool);
    csr->info_sha256 = scep_digest(engine->context, "SHA-256", info, pool);
    csr->spki = scep_spki_print(X509_REQ_get_X509_PUBKEY(request), pool);
    csr->subject = scep_name_print(X509_REQ_get_subject_name(request), pool);
    csr->subject_der = scep_name_encode(X509_REQ_get_subject_name(request), pool);
    csr->key_bits = EVP_PKEY_get_bits(key);
    csr->key_is_rsa = EVP_PKEY_is_a(key, "RSA") || EVP_PKEY_is_a(key, "RSA-PSS");
    if (!csr->info_sha256.len || !csr->spki.len || !csr->subject_der.len) {
        return "the certificate request cannot be hashed or encoded";
    }
    for (i = 0; i < X509_REQ_get_attr_count(request); i++) {
        const char *why = attribute_read(csr, X509_REQ_get_attr(request, i), pool);

        if (why) {
            return why;
        }
    }
    return NULL;
}

apr_status_t csr_open(csr_t *csr, const scep_engine_t *engine, bytes_t der, apr_pool_t *pool, const char **why)
{
    X509_REQ *request = NULL;

    *why = NULL;
    memset(csr, 0, sizeof(*csr));
    scep_engine_clear_errors();
    request = csr_parse(engine, der, why);
    if (request) {
        *why = csr_prove(request, engine) ? csr_read(csr, request, engine, der, pool)
                                          : "the certificate request's own signature does not verify";
    }
    X509_REQ_free(request);
    scep_engine_clear_errors();
    return *why ? APR_EGENERAL : APR_SUCCESS;
}
