/* SPDX-License-Identifier: Apache-2.0 */
/* Certificates, requests and revocation lists for people. */
#include "view_internal.h"

#include "base/json.h"
#include "base/text.h"

#include <apr_strings.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <time.h>

enum { EXTENSION_SHOWN = 1024, LIST_MOST = 32 };

const char *scep_view_object(const ASN1_OBJECT *object, apr_pool_t *pool)
{
    char text[80];
    int len = object ? OBJ_obj2txt(text, sizeof(text), object, 0) : 0;

    return len > 0 ? apr_pstrdup(pool, text) : "unknown";
}

const char *scep_view_key(const X509_PUBKEY *key, apr_pool_t *pool)
{
    const char *refused = key ? scep_public_key_check(key) : "no key";
    EVP_PKEY *read = refused ? NULL : X509_PUBKEY_get0(key);

    ERR_clear_error();
    if (read) {
        const char *name = EVP_PKEY_get0_type_name(read);

        return apr_psprintf(pool, "%s, %d bits", name ? name : "unknown", EVP_PKEY_get_bits(read));
    }
    return refused ? refused : "unreadable";
}

static const char *time_text(const ASN1_TIME *time, apr_pool_t *pool)
{
    struct tm tm;

    return time && ASN1_TIME_to_tm(time, &tm) == 1 ? json_time(apr_time_from_sec(timegm(&tm)), pool) : "unreadable";
}

static const char *bio_text(BIO *bio, apr_pool_t *pool)
{
    bytes_t bytes = scep_bio_peek(bio);

    /* What is longer was made to be long; a NUL ends it. */
    return apr_pstrmemdup(pool, bytes.data ? (const char *)bytes.data : "",
                          bytes.len < EXTENSION_SHOWN ? bytes.len : EXTENSION_SHOWN);
}

static const char *extension_text(X509_EXTENSION *extension, apr_pool_t *pool)
{
    BIO *bio = BIO_new(BIO_s_mem());
    const char *text = NULL;
    int len = ASN1_STRING_length(X509_EXTENSION_get_data(extension));

    if (bio && X509V3_EXT_print(bio, extension, X509V3_EXT_DEFAULT, 0) == 1) {
        text = bio_text(bio, pool);
    }
    BIO_free(bio);
    ERR_clear_error();
    return apr_pstrcat(pool, X509_EXTENSION_get_critical(extension) ? "critical, " : "",
                       text ? text : apr_psprintf(pool, "(%d bytes)", len), NULL);
}

static void extensions_show(viewer_t *viewer, scep_part_t *part, const STACK_OF(X509_EXTENSION) * extensions)
{
    int count = extensions ? sk_X509_EXTENSION_num(extensions) : 0;

    for (int i = 0; i < count && i < LIST_MOST; i++) {
        X509_EXTENSION *extension = sk_X509_EXTENSION_value(extensions, i);

        scep_view_add(viewer, part, scep_view_object(X509_EXTENSION_get_object(extension), viewer->pool),
                      extension_text(extension, viewer->pool));
    }
    if (count > LIST_MOST) {
        scep_view_add(viewer, part, "more extensions", apr_itoa(viewer->pool, count - LIST_MOST));
    }
}

static const char *hash_of(viewer_t *viewer, bytes_t der)
{
    return text_hex(viewer->pool, scep_digest(viewer->engine->context, "SHA-1", der, viewer->pool));
}

void scep_view_certificate(viewer_t *viewer, const char *name, X509 *certificate)
{
    apr_pool_t *pool = viewer->pool;
    scep_part_t *part = scep_view_part(viewer, name);
    const char *subject = scep_name_print(X509_get_subject_name(certificate), pool);
    const char *issuer = scep_name_print(X509_get_issuer_name(certificate), pool);
    const char *serial = scep_serial_print(X509_get0_serialNumber(certificate), pool);

    scep_view_add(viewer, part, "subject", subject);
    scep_view_add(viewer, part, "issuer",
                  X509_NAME_cmp(X509_get_subject_name(certificate), X509_get_issuer_name(certificate)) ? issuer
                                                                                                       : "itself");
    scep_view_add(viewer, part, "serial", serial ? serial : "unreadable");
    scep_view_add(viewer, part, "valid from", time_text(X509_get0_notBefore(certificate), pool));
    scep_view_add(viewer, part, "valid until", time_text(X509_get0_notAfter(certificate), pool));
    scep_view_add(viewer, part, "key", scep_view_key(X509_get_X509_PUBKEY(certificate), pool));
    scep_view_add(viewer, part, "thumbprint", hash_of(viewer, scep_certificate_print(certificate, pool)));
    extensions_show(viewer, part, X509_get0_extensions(certificate));
    ERR_clear_error();
}

static void attributes_show(viewer_t *viewer, scep_part_t *part, const X509_REQ *request)
{
    int count = X509_REQ_get_attr_count(request);

    for (int i = 0; i < count && i < LIST_MOST; i++) {
        X509_ATTRIBUTE *attribute = X509_REQ_get_attr(request, i);
        int nid = OBJ_obj2nid(X509_ATTRIBUTE_get0_object(attribute));

        /* The challenge's text is a secret, and the extensions are shown apart. */
        if (nid != NID_pkcs9_challengePassword && nid != NID_ext_req && nid != NID_ms_ext_req) {
            scep_view_add(viewer, part, "attribute",
                          scep_view_object(X509_ATTRIBUTE_get0_object(attribute), viewer->pool));
        }
    }
}

static void request_show(viewer_t *viewer, X509_REQ *request, bytes_t der, const X509 *signer)
{
    apr_pool_t *pool = viewer->pool;
    scep_part_t *part = scep_view_part(viewer, "certificate request");
    csr_t *csr = apr_pcalloc(pool, sizeof(*csr));
    const char *unread = csr_read(csr, request, viewer->engine, der, pool);
    STACK_OF(X509_EXTENSION) *extensions = NULL;
    const ASN1_OBJECT *object = NULL;
    const X509_ALGOR *algorithm = NULL;

    viewer->view->csr_part = part;
    viewer->view->csr = unread ? NULL : csr;
    scep_view_add(viewer, part, "subject", scep_name_print(X509_REQ_get_subject_name(request), pool));
    scep_view_add(viewer, part, "key", scep_view_key(X509_REQ_get_X509_PUBKEY(request), pool));
    X509_REQ_get0_signature(request, NULL, &algorithm);
    X509_ALGOR_get0(&object, NULL, NULL, algorithm);
    scep_view_add(viewer, part, "signature algorithm", scep_view_object(object, pool));
    scep_view_add(viewer, part, "signature", csr_prove(request, viewer->engine) ? "good" : "WRONG");
    scep_view_add(viewer, part, "wrong with it", unread);
    if (signer) {
        bool same = bytes_equal(scep_spki_print(X509_REQ_get_X509_PUBKEY(request), pool),
                                scep_spki_print(X509_get_X509_PUBKEY(signer), pool));
        scep_view_add(viewer, part, "the message's signer", same ? "has this key" : "has another key");
    }
    extensions = X509_REQ_get_extensions(request);
    extensions_show(viewer, part, extensions);
    sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
    attributes_show(viewer, part, request);
    ERR_clear_error();
}

void scep_view_csr(viewer_t *viewer, bytes_t der, const X509 *signer)
{
    const char *why = NULL;
    X509_REQ *request = csr_parse(viewer->engine, der, &why);

    if (request) {
        request_show(viewer, request, der, signer);
    } else {
        scep_view_add(viewer, scep_view_part(viewer, "content"), "unknown", why);
    }
    X509_REQ_free(request);
    ERR_clear_error();
}

void scep_view_crl(viewer_t *viewer, X509_CRL *list)
{
    apr_pool_t *pool = viewer->pool;
    scep_part_t *part = scep_view_part(viewer, "revocation list");
    STACK_OF(X509_REVOKED) *revoked = X509_CRL_get_REVOKED(list);

    scep_view_add(viewer, part, "issuer", scep_name_print(X509_CRL_get_issuer(list), pool));
    scep_view_add(viewer, part, "of", time_text(X509_CRL_get0_lastUpdate(list), pool));
    scep_view_add(viewer, part, "next",
                  X509_CRL_get0_nextUpdate(list) ? time_text(X509_CRL_get0_nextUpdate(list), pool) : NULL);
    scep_view_add(viewer, part, "revoked", apr_itoa(pool, revoked ? sk_X509_REVOKED_num(revoked) : 0));
}

void scep_view_bag(viewer_t *viewer, CMS_ContentInfo *cms, const X509 *known)
{
    STACK_OF(X509) *certificates = scep_certificates_are_modest(cms) ? CMS_get1_certs(cms) : NULL;
    STACK_OF(X509_CRL) *lists = CMS_get1_crls(cms);

    for (int i = 0; certificates && i < sk_X509_num(certificates) && i < LIST_MOST; i++) {
        X509 *certificate = sk_X509_value(certificates, i);

        if (!known || X509_cmp(known, certificate)) {
            scep_view_certificate(viewer, "certificate", certificate);
        }
    }
    for (int i = 0; lists && i < sk_X509_CRL_num(lists) && i < LIST_MOST; i++) {
        scep_view_crl(viewer, sk_X509_CRL_value(lists, i));
    }
    sk_X509_pop_free(certificates, X509_free);
    sk_X509_CRL_pop_free(lists, X509_CRL_free);
}
