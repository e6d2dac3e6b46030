/* SPDX-License-Identifier: Apache-2.0 */
#include "certificate.h"

#include "base/text.h"
#include "parts.h"

#include <apr_strings.h>
#include <limits.h>
#include <openssl/bn.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <time.h>

/** Takes what one of OpenSSL's i2d functions made into the pool. */
static bytes_t der_take(unsigned char *der, int len, apr_pool_t *pool)
{
    bytes_t bytes = {NULL, 0};

    if (len > 0) {
        bytes.data = apr_pmemdup(pool, der, (apr_size_t)len);
        bytes.len = (apr_size_t)len;
    }
    OPENSSL_free(der);
    return bytes;
}

bytes_t scep_spki_print(const X509_PUBKEY *key, apr_pool_t *pool)
{
    unsigned char *der = NULL;
    int len = key ? i2d_X509_PUBKEY(key, &der) : -1;

    return der_take(der, len, pool);
}

bytes_t scep_certificate_print(const X509 *certificate, apr_pool_t *pool)
{
    unsigned char *der = NULL;
    int len = i2d_X509(certificate, &der);

    return der_take(der, len, pool);
}

bytes_t scep_name_encode(const X509_NAME *name, apr_pool_t *pool)
{
    unsigned char *der = NULL;
    int len = i2d_X509_NAME(name, &der);

    return der_take(der, len, pool);
}

X509 *scep_certificate_read(const scep_engine_t *engine, bytes_t der)
{
    const unsigned char *at = der.data;
    X509 *certificate = X509_new_ex(engine->reading, NULL);

    /* On failure the certificate is either untouched or freed and cleared. */
    if (!certificate || der.len == 0 || der.len > INT_MAX || !d2i_X509(&certificate, &at, (long)der.len) ||
        at != der.data + der.len) {
        X509_free(certificate);
        certificate = NULL;
    }
    return certificate;
}

static bool is_utf8(const char *text)
{
    const unsigned char *at = (const unsigned char *)text;
    int left = (int)strlen(text);

    while (left > 0) {
        unsigned long character = 0;
        int used = UTF8_getc(at, left, &character);

        if (used <= 0) {
            return false;
        }
        at += used;
        left -= used;
    }
    return true;
}

static const char *name_print(const X509_NAME *name, unsigned long flags, apr_pool_t *pool)
{
    BIO *bio = BIO_new(BIO_s_mem());
    bytes_t bytes = {NULL, 0};

    if (bio && X509_NAME_print_ex(bio, name, 0, flags) >= 0) {
        bytes = scep_bytes_of_bio(bio, pool);
    }
    BIO_free(bio);
    ERR_clear_error();
    return bytes.len ? apr_pstrmemdup(pool, (const char *)bytes.data, bytes.len) : "";
}

const char *scep_name_print(const X509_NAME *name, apr_pool_t *pool)
{
    const char *text = name_print(name, XN_FLAG_RFC2253 & ~(unsigned long)ASN1_STRFLGS_ESC_MSB, pool);

    /* OpenSSL passes on a UTF8String that is none. */
    return is_utf8(text) ? text : name_print(name, XN_FLAG_RFC2253, pool);
}

bytes_t scep_digest(OSSL_LIB_CTX *context, const char *name, bytes_t bytes, apr_pool_t *pool)
{
    bytes_t hash = {NULL, 0};
    unsigned char value[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    EVP_MD *digest = EVP_MD_fetch(context, name, NULL);

    if (digest && EVP_Digest(bytes.data, bytes.len, value, &len, digest, NULL)) {
        hash.data = apr_pmemdup(pool, value, len);
        hash.len = len;
    }
    EVP_MD_free(digest);
    return hash;
}

static bool time_read(apr_time_t *at, struct tm *broken_down, const ASN1_TIME *time)
{
    /* ASN1_TIME_to_tm() takes NULL for the present time. */
    if (!time || !ASN1_TIME_to_tm(time, broken_down)) {
        return false;
    }
    *at = apr_time_from_sec(timegm(broken_down));
    return true;
}

static const char *time_print(const struct tm *tm, apr_pool_t *pool)
{
    return apr_psprintf(pool, "%04d-%02d-%02dT%02d:%02d:%02d.000Z", tm->tm_year + 1900, tm->tm_mon + 1, tm->tm_mday,
                        tm->tm_hour, tm->tm_min, tm->tm_sec);
}

const char *scep_dates_check(const X509 *certificate, apr_time_t now, apr_interval_time_t ahead, apr_pool_t *pool)
{
    struct tm tm = {0};
    apr_time_t at = 0;

    if (!time_read(&at, &tm, X509_get0_notBefore(certificate))) {
        return "has an unreadable notBefore";
    }
    if (at > now + ahead) {
        return apr_psprintf(pool, "is not valid before %s", time_print(&tm, pool));
    }
    if (!time_read(&at, &tm, X509_get0_notAfter(certificate))) {
        return "has an unreadable notAfter";
    }
    /* notAfter names the last valid second (RFC 5280 section 4.1.2.5). */
    if (now >= at + apr_time_from_sec(1)) {
        return apr_psprintf(pool, "has expired on %s", time_print(&tm, pool));
    }
    return NULL;
}

const char *scep_serial_print(const ASN1_INTEGER *serial, apr_pool_t *pool)
{
    BIGNUM *number = ASN1_INTEGER_to_BN(serial, NULL);
    char *hex = NULL;
    const char *text = NULL;

    if (number) {
        BN_set_negative(number, 0);
        hex = BN_bn2hex(number);
    }
    if (hex) {
        text = apr_pstrcat(pool, strlen(hex) % 2 ? "0" : "", hex, NULL);
    }
    OPENSSL_free(hex);
    BN_free(number);
    return text;
}

/* The certificate's own digest function takes its library context from the certificate itself. */
static const char *thumbprint_print(const X509 *certificate, apr_pool_t *pool)
{
    unsigned char value[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    bytes_t hash = {value, 0};

    if (!X509_digest(certificate, EVP_sha1(), value, &len)) {
        return NULL;
    }
    hash.len = len;
    return text_hex(pool, hash);
}

apr_status_t certificate_facts(certificate_facts_t *facts, X509 *certificate, apr_pool_t *pool)
{
    certificate_facts_t found = {0};
    struct tm tm = {0};

    found.thumbprint = thumbprint_print(certificate, pool);
    found.serial = scep_serial_print(X509_get0_serialNumber(certificate), pool);
    found.issuer = scep_name_print(X509_get_issuer_name(certificate), pool);
    /* For want of memory the issuer would be empty, and so Intune would be told. */
    if (!found.thumbprint || !found.serial || !time_read(&found.expires, &tm, X509_get0_notAfter(certificate)) ||
        (!*found.issuer && X509_NAME_entry_count(X509_get_issuer_name(certificate)))) {
        scep_engine_clear_errors();
        return APR_EGENERAL;
    }
    found.not_after = time_print(&tm, pool);
    found.subject = scep_name_print(X509_get_subject_name(certificate), pool);
    *facts = found;
    return APR_SUCCESS;
}

apr_status_t certificate_facts_of_der(certificate_facts_t *facts, const scep_engine_t *engine, bytes_t der,
                                      apr_pool_t *pool)
{
    X509 *certificate = NULL;
    apr_status_t status = APR_EGENERAL;

    ERR_clear_error();
    certificate = scep_certificate_read(engine, der);
    if (certificate) {
        status = certificate_facts(facts, certificate, pool);
    }
    X509_free(certificate);
    ERR_clear_error();
    return status;
}

bytes_t scep_degenerate_print(const scep_engine_t *engine, STACK_OF(X509) * certificates, apr_pool_t *pool)
{
    bytes_t der = {NULL, 0};
    CMS_ContentInfo *cms = CMS_ContentInfo_new_ex(engine->context, NULL);
    int i = 0;

    if (!cms || !CMS_SignedData_init(cms)) {
        goto end;
    }
    for (i = 0; i < sk_X509_num(certificates); i++) {
        if (!CMS_add1_cert(cms, sk_X509_value(certificates, i))) {
            goto end;
        }
    }
    der = scep_cms_print(cms, pool);
end:
    CMS_ContentInfo_free(cms);
    return der;
}

bytes_t scep_degenerate_crl_print(const scep_engine_t *engine, bytes_t crl, apr_pool_t *pool)
{
    bytes_t der = {NULL, 0};
    const unsigned char *at = crl.data;
    CMS_ContentInfo *cms = CMS_ContentInfo_new_ex(engine->context, NULL);
    X509_CRL *list = d2i_X509_CRL(NULL, &at, (long)crl.len);

    if (cms && list && CMS_SignedData_init(cms) && CMS_add1_crl(cms, list)) {
        der = scep_cms_print(cms, pool);
    }
    X509_CRL_free(list);
    CMS_ContentInfo_free(cms);
    return der;
}
