/* SPDX-License-Identifier: Apache-2.0 */
/* What a PKCS #10 holds, and whether it is what a challenge expects. */
#include <stdlib.h>
#include <string.h>

#include <apr_lib.h>
#include <apr_strings.h>
#include <openssl/asn1.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/objects.h>
#include <openssl/x509v3.h>

#include "sim_ms.h"

#define SUBJECT_FORM (XN_FLAG_RFC2253 & ~ASN1_STRFLGS_ESC_MSB)

/* In the order of the bits of RFC 5280. */
static const char *const key_usages[] = {"digitalSignature", "nonRepudiation", "keyEncipherment",
                                         "dataEncipherment", "keyAgreement",   "keyCertSign",
                                         "cRLSign",          "encipherOnly",   "decipherOnly"};
#define KEY_USAGES ((int)(sizeof key_usages / sizeof key_usages[0]))

static apr_status_t csr_free(void *csr)
{
    X509_REQ_free(csr);
    return APR_SUCCESS;
}

X509_REQ *msim_csr_parse(msim_keys_t *keys, const char *base64, apr_size_t length, apr_pool_t *pool)
{
    apr_size_t size = 0;
    const unsigned char *der = msim_base64_decode(base64, length, &size, pool);
    const unsigned char *p = der;
    X509_REQ *csr = der == NULL ? NULL : X509_REQ_new_ex(msim_keys_context(keys), NULL);
    EVP_PKEY *key;

    if (csr == NULL || d2i_X509_REQ(&csr, &p, (long)size) == NULL) {
        csr = NULL; /* freed by d2i */
        goto end;
    }
    key = X509_REQ_get0_pubkey(csr);
    if (p != der + size || key == NULL || X509_REQ_verify_ex(csr, key, msim_keys_context(keys), NULL) != 1) {
        X509_REQ_free(csr);
        csr = NULL;
        goto end;
    }
    apr_pool_cleanup_register(pool, csr, csr_free, apr_pool_cleanup_null);
end:
    ERR_clear_error();
    return csr;
}

const char *msim_csr_challenge(X509_REQ *csr, apr_size_t *length, const char **code, apr_pool_t *pool)
{
    int at = X509_REQ_get_attr_by_NID(csr, NID_pkcs9_challengePassword, -1);
    X509_ATTRIBUTE *attribute = at < 0 ? NULL : X509_REQ_get_attr(csr, at);
    const ASN1_TYPE *value = attribute == NULL ? NULL : X509_ATTRIBUTE_get0_type(attribute, 0);
    unsigned char *utf8 = NULL;
    const char *text = NULL;
    int size;

    if (value == NULL) {
        *code = "ChallengePasswordMissing";
        return NULL;
    }
    *code = "ChallengeDecodingError";
    if (X509_ATTRIBUTE_count(attribute) != 1 || X509_REQ_get_attr_by_NID(csr, NID_pkcs9_challengePassword, at) >= 0 ||
        value->type == V_ASN1_OBJECT || value->type == V_ASN1_BOOLEAN || value->type == V_ASN1_NULL) {
        return NULL;
    }
    size = ASN1_STRING_to_UTF8(&utf8, value->value.asn1_string);
    if (size >= 0) {
        text = apr_pstrmemdup(pool, (const char *)utf8, (apr_size_t)size);
        *length = (apr_size_t)size;
        OPENSSL_free(utf8);
    }
    ERR_clear_error();
    return text;
}

static const char *name_print(const X509_NAME *name, apr_pool_t *pool)
{
    BIO *out = BIO_new(BIO_s_mem());
    const char *text = NULL;
    char *data = NULL;
    long size;

    if (out != NULL && X509_NAME_print_ex(out, name, 0, SUBJECT_FORM) >= 0) {
        size = BIO_get_mem_data(out, &data);
        text = size > 0 ? apr_pstrmemdup(pool, data, (apr_size_t)size) : "";
    }
    BIO_free(out);
    return text;
}

/** The next type or value up to `stop`; a backslash takes away the next character's meaning. */
static char *name_part(const char **text, char stop, int *stopped, apr_pool_t *pool)
{
    char *part = apr_palloc(pool, strlen(*text) + 1);
    char *p = part;

    while (**text != '\0' && **text != stop) {
        if (**text == '\\' && (*text)[1] != '\0') {
            ++*text;
        }
        *p++ = *(*text)++;
    }
    *p = '\0';
    *stopped = **text == stop;
    *text += *stopped;
    return part;
}

const char *msim_subject_normal(const char *subject, apr_pool_t *pool)
{
    X509_NAME *name = X509_NAME_new();
    const char *normal = NULL;
    int good = name != NULL && *subject == '/', more = 1;

    for (subject++; good && more && *subject != '\0';) {
        const char *type = name_part(&subject, '=', &good, pool);
        const char *value = name_part(&subject, '/', &more, pool);

        good =
            good && X509_NAME_add_entry_by_txt(name, type, MBSTRING_UTF8, (const unsigned char *)value, -1, -1, 0) == 1;
    }
    if (good) {
        normal = name_print(name, pool);
    }
    X509_NAME_free(name);
    ERR_clear_error();
    return normal;
}

int msim_is_key_usage(const char *name)
{
    int i = 0;

    while (i < KEY_USAGES && strcmp(name, key_usages[i]) != 0) {
        i++;
    }
    return i < KEY_USAGES;
}

int msim_is_oid(const char *text)
{
    ASN1_OBJECT *oid = OBJ_txt2obj(text, 1);

    ASN1_OBJECT_free(oid);
    ERR_clear_error();
    return oid != NULL;
}

static int text_order(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void texts_sort(apr_array_header_t *texts)
{
    qsort(texts->elts, (size_t)texts->nelts, (size_t)texts->elt_size, text_order);
}

static apr_array_header_t *texts_of(json_object *list, apr_pool_t *pool)
{
    int count = (int)json_object_array_length(list);
    apr_array_header_t *texts = apr_array_make(pool, count + 1, sizeof(const char *));

    for (int i = 0; i < count; i++) {
        APR_ARRAY_PUSH(texts, const char *) = json_object_get_string(json_object_array_get_idx(list, (size_t)i));
    }
    return texts;
}

/** NULL when both lists hold the same texts in whatever order, else what differs. */
static const char *texts_differ(json_object *expected, apr_array_header_t *found, apr_pool_t *pool)
{
    apr_array_header_t *wanted = texts_of(expected, pool);
    int same = wanted->nelts == found->nelts;

    texts_sort(wanted);
    texts_sort(found);
    for (int i = 0; same && i < wanted->nelts; i++) {
        same = strcmp(APR_ARRAY_IDX(wanted, i, const char *), APR_ARRAY_IDX(found, i, const char *)) == 0;
    }
    return same ? NULL
                : apr_psprintf(pool, "expected [%s], found [%s]", apr_array_pstrcat(pool, wanted, ' '),
                               apr_array_pstrcat(pool, found, ' '));
}

static const char *other_name(const OTHERNAME *other, apr_pool_t *pool)
{
    if (OBJ_obj2nid(other->type_id) == NID_ms_upn && other->value->type == V_ASN1_UTF8STRING) {
        const ASN1_STRING *text = other->value->value.utf8string;

        return apr_pstrcat(
            pool, "upn:",
            apr_pstrmemdup(pool, (const char *)ASN1_STRING_get0_data(text), (apr_size_t)ASN1_STRING_length(text)),
            NULL);
    }
    return "othername:?";
}

static const char *general_name(const GENERAL_NAME *name, apr_pool_t *pool)
{
    const char *prefix = name->type == GEN_DNS     ? "dns:"
                         : name->type == GEN_EMAIL ? "email:"
                         : name->type == GEN_URI   ? "uri:"
                                                   : NULL;

    if (prefix != NULL) {
        const ASN1_STRING *text = name->d.ia5;

        return apr_pstrcat(
            pool, prefix,
            apr_pstrmemdup(pool, (const char *)ASN1_STRING_get0_data(text), (apr_size_t)ASN1_STRING_length(text)),
            NULL);
    }
    return name->type == GEN_OTHERNAME ? other_name(name->d.otherName, pool)
                                       : apr_psprintf(pool, "type%d:?", name->type);
}

static const char *compare_subject(X509_REQ *csr, json_object *expected, const char **why, apr_pool_t *pool)
{
    const char *wanted = msim_json_text(expected, "Subject");
    const char *found = wanted == NULL ? NULL : name_print(X509_REQ_get_subject_name(csr), pool);

    if (wanted == NULL || (found != NULL && strcmp(wanted, found) == 0)) {
        return NULL;
    }
    *why = apr_psprintf(pool, "expected %s, found %s", wanted, found == NULL ? "what cannot be printed" : found);
    return found == NULL || *found != '\0' ? "SubjectNameMismatch" : "SubjectNameMissing";
}

static const char *compare_san(STACK_OF(X509_EXTENSION) * extensions, json_object *expected, const char **why,
                               apr_pool_t *pool)
{
    apr_array_header_t *found = apr_array_make(pool, 4, sizeof(const char *));
    json_object *wanted = NULL;
    GENERAL_NAMES *names;

    if (!json_object_object_get_ex(expected, "SubjectAlternativeNames", &wanted)) {
        return NULL;
    }
    names = X509V3_get_d2i(extensions, NID_subject_alt_name, NULL, NULL);
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        APR_ARRAY_PUSH(found, const char *) = general_name(sk_GENERAL_NAME_value(names, i), pool);
    }
    GENERAL_NAMES_free(names);
    *why = texts_differ(wanted, found, pool);
    if (*why == NULL) {
        return NULL;
    }
    return found->nelts == 0 ? "SubjectAltNameMissing" : "SubjectAltNameMismatch";
}

static const char *compare_key_usage(STACK_OF(X509_EXTENSION) * extensions, json_object *expected, const char **why,
                                     apr_pool_t *pool)
{
    apr_array_header_t *found = apr_array_make(pool, 4, sizeof(const char *));
    json_object *wanted = NULL;
    ASN1_BIT_STRING *bits;

    if (!json_object_object_get_ex(expected, "KeyUsage", &wanted)) {
        return NULL;
    }
    bits = X509V3_get_d2i(extensions, NID_key_usage, NULL, NULL);
    for (int i = 0; bits != NULL && i < KEY_USAGES; i++) {
        if (ASN1_BIT_STRING_get_bit(bits, i)) {
            APR_ARRAY_PUSH(found, const char *) = key_usages[i];
        }
    }
    ASN1_BIT_STRING_free(bits);
    *why = texts_differ(wanted, found, pool);
    return *why == NULL ? NULL : "KeyUsageMismatch";
}

static const char *compare_eku(STACK_OF(X509_EXTENSION) * extensions, json_object *expected, const char **why,
                               apr_pool_t *pool)
{
    apr_array_header_t *found = apr_array_make(pool, 4, sizeof(const char *));
    json_object *wanted = NULL;
    EXTENDED_KEY_USAGE *usages;
    char oid[128];

    if (!json_object_object_get_ex(expected, "EnhancedKeyUsages", &wanted)) {
        return NULL;
    }
    usages = X509V3_get_d2i(extensions, NID_ext_key_usage, NULL, NULL);
    for (int i = 0; i < sk_ASN1_OBJECT_num(usages); i++) {
        OBJ_obj2txt(oid, sizeof oid, sk_ASN1_OBJECT_value(usages, i), 1);
        APR_ARRAY_PUSH(found, const char *) = apr_pstrdup(pool, oid);
    }
    EXTENDED_KEY_USAGE_free(usages);
    *why = texts_differ(wanted, found, pool);
    if (*why == NULL) {
        return NULL;
    }
    return found->nelts == 0 ? "EnhancedKeyUsageMissing" : "EnhancedKeyUsageMismatch";
}

static const char *compare_key(X509_REQ *csr, json_object *expected, const char **why, apr_pool_t *pool)
{
    json_object *wanted = NULL;
    int found = EVP_PKEY_get_bits(X509_REQ_get0_pubkey(csr));

    if (!json_object_object_get_ex(expected, "KeyLength", &wanted) || json_object_get_int(wanted) == found) {
        return NULL;
    }
    *why = apr_psprintf(pool, "expected %d bits, found %d", json_object_get_int(wanted), found);
    return "KeyLengthMismatch";
}

const char *msim_csr_compare(X509_REQ *csr, json_object *expected, const char **why, apr_pool_t *pool)
{
    STACK_OF(X509_EXTENSION) *extensions = X509_REQ_get_extensions(csr);
    const char *code = compare_subject(csr, expected, why, pool);

    code = code != NULL ? code : compare_san(extensions, expected, why, pool);
    code = code != NULL ? code : compare_key_usage(extensions, expected, why, pool);
    code = code != NULL ? code : compare_key(csr, expected, why, pool);
    code = code != NULL ? code : compare_eku(extensions, expected, why, pool);
    sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
    ERR_clear_error();
    return code;
}
