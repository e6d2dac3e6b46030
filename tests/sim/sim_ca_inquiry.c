/* SPDX-License-Identifier: Apache-2.0 */
/* The scripted CA's GetCert and GetCRL. */
#include "sim_ca.h"

#include <openssl/err.h>
#include <openssl/pkcs7.h>

static PKCS7_ISSUER_AND_SERIAL *asked_read(sim_bytes_t asked)
{
    const unsigned char *at = asked.data;
    PKCS7_ISSUER_AND_SERIAL *read = asked.data ? d2i_PKCS7_ISSUER_AND_SERIAL(NULL, &at, (long)asked.len) : NULL;
    if (read && at == asked.data + asked.len)
        return read;
    PKCS7_ISSUER_AND_SERIAL_free(read);
    ERR_clear_error();
    return NULL;
}

static bool is_asked(const PKCS7_ISSUER_AND_SERIAL *asked, sim_bytes_t der)
{
    const unsigned char *at = der.data;
    X509 *cert = d2i_X509(NULL, &at, (long)der.len);
    bool same = cert && X509_NAME_cmp(X509_get_issuer_name(cert), asked->issuer) == 0 &&
                ASN1_INTEGER_cmp(X509_get0_serialNumber(cert), asked->serial) == 0;
    X509_free(cert);
    return same;
}

static sim_bytes_t certificate_find(sim_ca_t *ca, const PKCS7_ISSUER_AND_SERIAL *asked, apr_pool_t *pool)
{
    sim_bytes_t found = {NULL, 0};
    apr_thread_mutex_lock(ca->mutex);
    for (apr_hash_index_t *i = apr_hash_first(pool, ca->transactions); i && !found.data; i = apr_hash_next(i)) {
        const sim_ca_transaction_t *known = apr_hash_this_val(i);
        if (known->cert.data && is_asked(asked, known->cert))
            found = sim_bytes(known->cert.data, known->cert.len, pool);
    }
    apr_thread_mutex_unlock(ca->mutex);
    return found;
}

static sim_bytes_t crl_wrap(sim_ca_t *ca, X509_CRL *crl, apr_pool_t *pool)
{
    sim_bytes_t der = {NULL, 0};
    PKCS7 *p7 = PKCS7_new_ex(ca->libctx, NULL);
    BIO *out = BIO_new(BIO_s_mem());
    if (p7 && out && PKCS7_set_type(p7, NID_pkcs7_signed) && PKCS7_content_new(p7, NID_pkcs7_data) &&
        PKCS7_add_crl(p7, crl) && i2d_PKCS7_bio(out, p7))
        der = sim_bytes_of_bio(out, pool);
    PKCS7_free(p7);
    BIO_free(out);
    return der;
}

/* A list with nothing on it, fresh. In the mode foreign_issuer a stranger signed it. */
static sim_bytes_t crl_make(sim_ca_t *ca, sim_ca_mode_t mode, apr_pool_t *pool)
{
    sim_bytes_t der = {NULL, 0};
    bool foreign = mode == MODE_FOREIGN_ISSUER;
    X509_CRL *crl = X509_CRL_new_ex(ca->libctx, NULL);
    ASN1_TIME *time = ASN1_TIME_new();
    if (crl && time && (!foreign || sim_ca_stranger(ca)) && X509_CRL_set_version(crl, X509_CRL_VERSION_2) &&
        X509_CRL_set_issuer_name(crl, X509_get_subject_name(ca->ca)) && X509_gmtime_adj(time, -60) &&
        X509_CRL_set1_lastUpdate(crl, time) && X509_gmtime_adj(time, 86400) && X509_CRL_set1_nextUpdate(crl, time) &&
        X509_CRL_sign(crl, foreign ? ca->stranger_key : ca->ca_key, EVP_sha256()) > 0)
        der = crl_wrap(ca, crl, pool);
    X509_CRL_free(crl);
    ASN1_TIME_free(time);
    return der;
}

int sim_ca_inquire(sim_ca_t *ca, int type, sim_bytes_t question, sim_ca_mode_t mode, sim_bytes_t *inner,
                   apr_pool_t *pool)
{
    PKCS7_ISSUER_AND_SERIAL *asked = asked_read(question);
    int fail_info = asked ? 4 : 2;
    if (asked && X509_NAME_cmp(asked->issuer, X509_get_subject_name(ca->ca)) == 0) {
        sim_bytes_t found = type == 21 ? certificate_find(ca, asked, pool) : crl_make(ca, mode, pool);
        if (type == 21 && mode == MODE_WRONG_KEY)
            found = sim_cert_der(ca->ca, pool);
        if (found.data) {
            *inner = type == 21 ? sim_certs_only(&found, 1, pool) : found;
            fail_info = -1;
        }
    }
    PKCS7_ISSUER_AND_SERIAL_free(asked);
    return fail_info;
}
