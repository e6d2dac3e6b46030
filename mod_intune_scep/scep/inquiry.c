/* SPDX-License-Identifier: Apache-2.0 */
/* What GetCert and GetCRL ask for: a certificate, or the list of its issuer, by IssuerAndSerialNumber. */
#include "parts.h"

#include <apr_strings.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/pkcs7.h>

/* A serial number has 20 octets (RFC 5280 section 4.1.2.2); some CAs have more. */
enum { SERIAL_MAX = 64 };

static PKCS7_ISSUER_AND_SERIAL *inquiry_read(bytes_t der)
{
    const unsigned char *at = der.data;
    PKCS7_ISSUER_AND_SERIAL *read = NULL;

    if (der.len == 0 || der.len > INT_MAX) {
        return NULL;
    }
    read = d2i_PKCS7_ISSUER_AND_SERIAL(NULL, &at, (long)der.len);
    if (read && (at != der.data + der.len || X509_NAME_entry_count(read->issuer) == 0 || read->serial->length < 1 ||
                 read->serial->length > SERIAL_MAX)) {
        PKCS7_ISSUER_AND_SERIAL_free(read);
        read = NULL;
    }
    ERR_clear_error();
    return read;
}

const char *scep_inquiry_open(scep_inquiry_t *inquiry, bytes_t der, apr_pool_t *pool)
{
    PKCS7_ISSUER_AND_SERIAL *read = inquiry_read(der);
    unsigned char *again = NULL;
    int len = read ? i2d_PKCS7_ISSUER_AND_SERIAL(read, &again) : 0;

    if (len > 0) {
        inquiry->der.data = apr_pmemdup(pool, again, (apr_size_t)len);
        inquiry->der.len = (apr_size_t)len;
        inquiry->issuer = scep_name_print(read->issuer, pool);
        inquiry->serial = scep_serial_print(read->serial, pool);
    }
    OPENSSL_free(again);
    PKCS7_ISSUER_AND_SERIAL_free(read);
    return len > 0 && inquiry->serial ? NULL : "it is not an IssuerAndSerialNumber";
}

bool scep_inquiry_is_for(const scep_inquiry_t *inquiry, STACK_OF(X509) * chain)
{
    PKCS7_ISSUER_AND_SERIAL *read = inquiry_read(inquiry->der);
    bool found = false;
    int i = 0;

    for (i = 0; read && !found && i < sk_X509_num(chain); i++) {
        found = X509_NAME_cmp(X509_get_subject_name(sk_X509_value(chain, i)), read->issuer) == 0;
    }
    PKCS7_ISSUER_AND_SERIAL_free(read);
    return found;
}

bool scep_inquiry_names(const scep_inquiry_t *inquiry, X509 *certificate)
{
    PKCS7_ISSUER_AND_SERIAL *read = inquiry_read(inquiry->der);
    bool same = read && X509_NAME_cmp(X509_get_issuer_name(certificate), read->issuer) == 0 &&
                ASN1_INTEGER_cmp(X509_get0_serialNumber(certificate), read->serial) == 0;

    PKCS7_ISSUER_AND_SERIAL_free(read);
    return same;
}

bool scep_inquiry_covers(const scep_inquiry_t *inquiry, const X509_CRL *list)
{
    PKCS7_ISSUER_AND_SERIAL *read = inquiry_read(inquiry->der);
    bool same = read && X509_NAME_cmp(X509_CRL_get_issuer(list), read->issuer) == 0;

    PKCS7_ISSUER_AND_SERIAL_free(read);
    return same;
}
