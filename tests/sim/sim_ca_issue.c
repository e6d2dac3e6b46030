/* SPDX-License-Identifier: Apache-2.0 */
/* The scripted CA's keys, and the certificates it makes. */
#include "sim_ca.h"

#include <string.h>

#include <apr_file_info.h>
#include <apr_strings.h>
#include <openssl/err.h>

#define DAY 86400

static apr_status_t extension_free(void *data)
{
    X509_EXTENSION_free(data);
    return APR_SUCCESS;
}

/* Made once: the AuthorityKeyIdentifier is the same in every leaf. */
static X509_EXTENSION *aki_make(X509 *ca, apr_pool_t *pool)
{
    unsigned char id[EVP_MAX_MD_SIZE];
    unsigned int len = 0;
    X509_EXTENSION *extension = NULL;
    const ASN1_OCTET_STRING *own = X509_get0_subject_key_id(ca);
    AUTHORITY_KEYID *aki = AUTHORITY_KEYID_new();
    if (aki && own)
        aki->keyid = ASN1_OCTET_STRING_dup(own);
    else if (aki && X509_pubkey_digest(ca, EVP_sha1(), id, &len) && (aki->keyid = ASN1_OCTET_STRING_new()))
        ASN1_OCTET_STRING_set(aki->keyid, id, (int)len);
    if (aki && aki->keyid)
        extension = X509V3_EXT_i2d(NID_authority_key_identifier, 0, aki);
    AUTHORITY_KEYID_free(aki);
    return sim_own(pool, extension, extension_free);
}

static void ca_cert_answer_make(sim_ca_t *ca)
{
    sim_bytes_t certs[16];
    int count = 0;
    if (ca->ra != ca->ca)
        certs[count++] = sim_cert_der(ca->ra, ca->pool);
    for (int i = 0; i < sk_X509_num(ca->chain) && count < 16; i++)
        certs[count++] = sim_cert_der(sk_X509_value(ca->chain, i), ca->pool);
    ca->ca_cert_is_chain = count > 1;
    ca->ca_cert_answer = ca->ca_cert_is_chain ? sim_certs_only(certs, count, ca->pool) : certs[0];
}

const char *sim_ca_load(sim_ca_t *ca)
{
    apr_pool_t *pool = ca->pool;
    apr_finfo_t info;
    const char *ra_path = apr_pstrcat(pool, ca->directory, "/ra.pem", NULL);
    ca->libctx = sim_libctx_make(pool);
    if (!ca->libctx)
        return "OpenSSL's default and legacy providers are both needed";
    ca->chain = sim_certs_read(ca->libctx, apr_pstrcat(pool, ca->directory, "/ca.pem", NULL), pool);
    ca->ca_key = sim_key_read(ca->libctx, apr_pstrcat(pool, ca->directory, "/ca.key", NULL), pool);
    if (!ca->chain || !ca->ca_key)
        return apr_pstrcat(pool, ca->directory, " has no readable ca.pem and ca.key", NULL);
    ca->ca = ca->ra = sk_X509_value(ca->chain, 0);
    ca->ra_key = ca->ca_key;
    if (apr_stat(&info, ra_path, APR_FINFO_TYPE, pool) == APR_SUCCESS) {
        STACK_OF(X509) *ra = sim_certs_read(ca->libctx, ra_path, pool);
        ca->ra_key = sim_key_read(ca->libctx, apr_pstrcat(pool, ca->directory, "/ra.key", NULL), pool);
        if (!ra || !ca->ra_key)
            return apr_pstrcat(pool, ca->directory, " has no readable ra.pem and ra.key", NULL);
        ca->ra = sk_X509_value(ra, 0);
    }
    if (!X509_check_private_key(ca->ca, ca->ca_key) || !X509_check_private_key(ca->ra, ca->ra_key))
        return apr_pstrcat(pool, ca->directory, " has a certificate with another's key", NULL);
    ca->aki = aki_make(ca->ca, pool);
    if (!ca->aki || apr_thread_mutex_create(&ca->mutex, APR_THREAD_MUTEX_DEFAULT, pool) != APR_SUCCESS)
        return "out of memory";
    ca_cert_answer_make(ca);
    sim_ca_reset(ca);
    return NULL;
}

bool sim_ca_stranger(sim_ca_t *ca)
{
    apr_thread_mutex_lock(ca->mutex);
    if (!ca->stranger) {
        ca->stranger_key = sim_key_make(ca->libctx, 2048, ca->pool);
        if (ca->stranger_key)
            ca->stranger = sim_self_signed(ca->libctx, ca->stranger_key, X509_get_subject_name(ca->ra), true, ca->pool);
    }
    bool ok = ca->stranger != NULL;
    apr_thread_mutex_unlock(ca->mutex);
    return ok;
}

/* The SubjectPublicKeyInfo's bytes as they are: decoding and encoding the key again costs as much as a signature. */
static bool key_copy(X509 *leaf, const X509_PUBKEY *from)
{
    ASN1_OBJECT *algorithm = NULL;
    const unsigned char *raw = NULL;
    int len = 0;
    if (!X509_PUBKEY_get0_param(&algorithm, &raw, &len, NULL, from))
        return false;
    if (OBJ_obj2nid(algorithm) != NID_rsaEncryption)
        return X509_set_pubkey(leaf, X509_PUBKEY_get0(from)) == 1;
    unsigned char *copy = OPENSSL_memdup(raw, (size_t)len);
    if (copy && X509_PUBKEY_set0_param(X509_get_X509_PUBKEY(leaf), OBJ_nid2obj(NID_rsaEncryption), V_ASN1_NULL, NULL,
                                       copy, len))
        return true;
    OPENSSL_free(copy);
    return false;
}

static bool times_set(X509 *leaf, sim_ca_mode_t mode)
{
    long from = -60, until = 365L * DAY;
    if (mode == MODE_EXPIRED) {
        from = -2L * DAY;
        until = -1L * DAY;
    } else if (mode == MODE_NOT_YET) {
        from = DAY;
    }
    return X509_gmtime_adj(X509_getm_notBefore(leaf), from) && X509_gmtime_adj(X509_getm_notAfter(leaf), until);
}

static bool own_extensions_add(const sim_ca_t *ca, X509 *leaf)
{
    unsigned char id[EVP_MAX_MD_SIZE];
    unsigned int len = 0;
    BASIC_CONSTRAINTS *constraints = BASIC_CONSTRAINTS_new();
    ASN1_OCTET_STRING *ski = ASN1_OCTET_STRING_new();
    bool ok = constraints && ski && X509_add1_ext_i2d(leaf, NID_basic_constraints, constraints, 1, 0) == 1 &&
              X509_pubkey_digest(leaf, EVP_sha1(), id, &len) && ASN1_OCTET_STRING_set(ski, id, (int)len) &&
              X509_add1_ext_i2d(leaf, NID_subject_key_identifier, ski, 0, 0) == 1 &&
              X509_add_ext(leaf, ca->aki, -1) == 1;
    ASN1_OCTET_STRING_free(ski);
    BASIC_CONSTRAINTS_free(constraints);
    return ok;
}

static bool asked_extensions_copy(X509 *leaf, X509_REQ *req)
{
    static const int copied[] = {NID_subject_alt_name, NID_key_usage, NID_ext_key_usage};
    STACK_OF(X509_EXTENSION) *asked = X509_REQ_get_extensions(req);
    bool ok = true;
    for (size_t i = 0; asked && ok && i < sizeof(copied) / sizeof(copied[0]); i++) {
        int at = X509v3_get_ext_by_NID(asked, copied[i], -1);
        if (at >= 0)
            ok = X509_add_ext(leaf, X509v3_get_ext(asked, at), -1) == 1;
    }
    sk_X509_EXTENSION_pop_free(asked, X509_EXTENSION_free);
    ERR_clear_error();
    return ok;
}

sim_bytes_t sim_ca_issue(sim_ca_t *ca, X509_REQ *req, sim_ca_mode_t mode, apr_pool_t *pool)
{
    sim_bytes_t der = {NULL, 0};
    bool strange = mode == MODE_WRONG_KEY || mode == MODE_FOREIGN_ISSUER;
    X509 *leaf = X509_new_ex(ca->libctx, NULL);
    if (!leaf || (strange && !sim_ca_stranger(ca)))
        goto done;
    const X509_PUBKEY *key =
        mode == MODE_WRONG_KEY ? X509_get_X509_PUBKEY(ca->stranger) : X509_REQ_get_X509_PUBKEY(req);
    EVP_PKEY *signer = mode == MODE_FOREIGN_ISSUER ? ca->stranger_key : ca->ca_key;
    if (X509_set_version(leaf, X509_VERSION_3) && sim_serial_random(leaf) && times_set(leaf, mode) &&
        X509_set_subject_name(leaf, X509_REQ_get_subject_name(req)) &&
        X509_set_issuer_name(leaf, X509_get_subject_name(ca->ca)) && key_copy(leaf, key) &&
        own_extensions_add(ca, leaf) && asked_extensions_copy(leaf, req) && X509_sign(leaf, signer, EVP_sha256()) > 0)
        der = sim_cert_der(leaf, pool);
done:
    X509_free(leaf);
    return der;
}
