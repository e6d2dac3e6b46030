/* SPDX-License-Identifier: Apache-2.0 */
/* What CertPoll holds: an IssuerAndSubject (RFC 8894 section 3.3.3). */
#include "parts.h"

#include <apr_strings.h>
#include <limits.h>
#include <openssl/asn1.h>
#include <openssl/err.h>

/* Moves `at` to what is in the SEQUENCE that `bytes` begin with; its length, or -1. */
static long sequence_enter(const unsigned char **at, bytes_t bytes)
{
    long len = 0;
    int tag = 0;
    int class = 0;

    *at = bytes.data;
    if (bytes.len == 0 || bytes.len > INT_MAX) {
        return -1;
    }
    /* Exactly "constructed": neither an error nor an indefinite length. */
    return ASN1_get_object(at, &len, &tag, &class, (long)bytes.len) == V_ASN1_CONSTRUCTED && tag == V_ASN1_SEQUENCE &&
                   class == V_ASN1_UNIVERSAL
               ? len
               : -1;
}

/* What is in the SEQUENCE that `der` is, whole; an empty run otherwise. */
static bytes_t sequence_read(bytes_t der)
{
    bytes_t inside = {NULL, 0};
    const unsigned char *at = NULL;
    long len = sequence_enter(&at, der);

    if (len > 0 && at + len == der.data + der.len) {
        inside.data = at;
        inside.len = (apr_size_t)len;
    }
    return inside;
}

/* A Name, moving on behind it; the caller frees it. NULL where there is none. OpenSSL alone would take a primitive one. */
static X509_NAME *name_read(bytes_t *rest)
{
    const unsigned char *inside = NULL;
    const unsigned char *at = rest->data;
    X509_NAME *name = sequence_enter(&inside, *rest) >= 0 ? d2i_X509_NAME(NULL, &at, (long)rest->len) : NULL;

    if (name) {
        rest->len -= (apr_size_t)(at - rest->data);
        rest->data = at;
    }
    return name;
}

const char *scep_poll_open(scep_poll_t *poll, bytes_t der, apr_pool_t *pool)
{
    bytes_t rest = sequence_read(der);
    X509_NAME *issuer = name_read(&rest);
    X509_NAME *subject = issuer ? name_read(&rest) : NULL;
    const char *why = "it is not an IssuerAndSubject";

    if (subject && rest.len == 0) {
        poll->der.data = apr_pmemdup(pool, der.data, der.len);
        poll->der.len = der.len;
        poll->issuer = scep_name_print(issuer, pool);
        poll->subject = scep_name_print(subject, pool);
        why = NULL;
    }
    X509_NAME_free(issuer);
    X509_NAME_free(subject);
    ERR_clear_error();
    return why;
}

bytes_t scep_poll_print(bytes_t issuer, bytes_t subject, apr_pool_t *pool)
{
    bytes_t bytes = {NULL, 0};
    apr_size_t len = issuer.len + subject.len;
    int size = len < INT_MAX ? ASN1_object_size(1, (int)len, V_ASN1_SEQUENCE) : -1;
    unsigned char *der = NULL;
    unsigned char *at = NULL;

    if (issuer.len == 0 || subject.len == 0 || size < 0) {
        return bytes;
    }
    at = der = apr_palloc(pool, (apr_size_t)size);
    ASN1_put_object(&at, 1, (int)len, V_ASN1_SEQUENCE, V_ASN1_UNIVERSAL);
    memcpy(at, issuer.data, issuer.len);
    memcpy(at + issuer.len, subject.data, subject.len);
    bytes.data = der;
    bytes.len = (apr_size_t)size;
    return bytes;
}
