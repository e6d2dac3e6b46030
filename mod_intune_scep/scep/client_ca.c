/* SPDX-License-Identifier: Apache-2.0 */
/* What GetCACert gives, as a client sorts it. */
#include "client.h"

#include "message_cms.h"
#include "parts.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>

static apr_status_t all_end(void *data)
{
    sk_X509_pop_free(data, X509_free);
    return APR_SUCCESS;
}

static apr_status_t borrowed_end(void *data)
{
    sk_X509_free(data);
    return APR_SUCCESS;
}

static STACK_OF(X509) * stack_make(apr_pool_t *pool)
{
    STACK_OF(X509) *stack = sk_X509_new_null();

    if (stack) {
        apr_pool_cleanup_register(pool, stack, borrowed_end, apr_pool_cleanup_null);
    }
    return stack;
}

/* All certificates of the body, for the caller to free; NULL with `why` set. */
static STACK_OF(X509) * body_read(const scep_engine_t *engine, bytes_t body, const char **why)
{
    X509 *single = scep_certificate_read(engine, body);
    CMS_ContentInfo *cms = single ? NULL : scep_cms_read(engine->reading, body);
    STACK_OF(X509) *found = NULL;

    if (single) {
        found = sk_X509_new_null();
        if (!found || sk_X509_push(found, single) <= 0) {
            X509_free(single);
        }
    } else if (cms && OBJ_obj2nid(CMS_get0_type(cms)) == NID_pkcs7_signed) {
        found = CMS_get1_certs(cms);
    } else {
        *why = "it is neither one certificate nor a SignedData with certificates, or has too many of them";
    }
    CMS_ContentInfo_free(cms);
    if (!scep_stack_is_modest(found)) {
        *why = "the distribution points of a certificate in it would take too much memory";
    } else if (sk_X509_num(found) > 0) {
        return found;
    }
    sk_X509_pop_free(found, X509_free);
    *why = *why ? *why : "there is no certificate in it";
    return NULL;
}

static bool has_signed(X509 *issuer, X509 *certificate)
{
    EVP_PKEY *key = X509_get0_pubkey(issuer);
    bool good = key && !scep_public_key_check(X509_get_X509_PUBKEY(issuer)) &&
                X509_check_issued(issuer, certificate) == X509_V_OK && X509_verify(certificate, key) == 1;

    ERR_clear_error();
    return good;
}

static X509 *issuer_find(STACK_OF(X509) * cas, X509 *certificate)
{
    for (int i = 0; i < sk_X509_num(cas); i++) {
        X509 *issuer = sk_X509_value(cas, i);

        if (X509_cmp(issuer, certificate) != 0 && has_signed(issuer, certificate)) {
            return issuer;
        }
    }
    return NULL;
}

static bool has_issued_any(X509 *issuer, STACK_OF(X509) * certificates)
{
    for (int i = 0; i < sk_X509_num(certificates); i++) {
        X509 *certificate = sk_X509_value(certificates, i);

        if (X509_cmp(issuer, certificate) != 0 && has_signed(issuer, certificate)) {
            return true;
        }
    }
    return false;
}

/* The CA that signed an RA, else one that signed no other CA. */
static X509 *issuing_find(const scep_ca_t *ca, STACK_OF(X509) * cas)
{
    X509 *found = NULL;

    for (int i = 0; !found && i < sk_X509_num(ca->ras); i++) {
        found = issuer_find(cas, sk_X509_value(ca->ras, i));
    }
    for (int i = 0; !found && i < sk_X509_num(cas); i++) {
        X509 *candidate = sk_X509_value(cas, i);

        found = has_issued_any(candidate, cas) ? NULL : candidate;
    }
    return found ? found : sk_X509_value(cas, 0);
}

static bool sort(scep_ca_t *ca, STACK_OF(X509) * cas)
{
    for (int i = 0; i < sk_X509_num(ca->certificates); i++) {
        X509 *certificate = sk_X509_value(ca->certificates, i);

        X509_check_purpose(certificate, -1, 0);
        if (sk_X509_push(X509_check_ca(certificate) ? cas : ca->ras, certificate) <= 0) {
            return false;
        }
    }
    /* A CA that does not say that it is one: some have no extensions at all. */
    if (sk_X509_num(cas) == 0 && sk_X509_push(cas, sk_X509_shift(ca->ras)) <= 0) {
        return false;
    }
    X509 *next = issuing_find(ca, cas);
    /* No longer than there are CAs: two that have signed each other are no circle. */
    for (int i = 0; next && i < sk_X509_num(cas); i++) {
        if (sk_X509_push(ca->chain, next) <= 0) {
            return false;
        }
        next = has_signed(next, next) ? NULL : issuer_find(cas, next);
    }
    return true;
}

apr_status_t scep_ca_read(scep_ca_t **ca, const scep_engine_t *engine, bytes_t body, apr_pool_t *pool, const char **why)
{
    scep_ca_t *made = apr_pcalloc(pool, sizeof(*made));
    STACK_OF(X509) *cas = stack_make(pool);
    apr_status_t status = APR_EGENERAL;

    *why = NULL;
    ERR_clear_error();
    made->certificates = body_read(engine, body, why);
    if (made->certificates) {
        apr_pool_cleanup_register(pool, made->certificates, all_end, apr_pool_cleanup_null);
        made->chain = stack_make(pool);
        made->ras = stack_make(pool);
        if (cas && made->chain && made->ras && sort(made, cas)) {
            *ca = made;
            status = APR_SUCCESS;
        } else {
            *why = "no memory";
        }
    }
    ERR_clear_error();
    return status;
}
