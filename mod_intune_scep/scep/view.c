/* SPDX-License-Identifier: Apache-2.0 */
/* The message itself: signature, attributes, envelope, and what is in it. */
#include "view_internal.h"

#include "base/text.h"

#include <apr_strings.h>
#include <openssl/err.h>

static const char *const TYPES[] = {[SCEP_CERTREP] = "CertRep", [SCEP_RENEWALREQ] = "RenewalReq",
                                    [SCEP_PKCSREQ] = "PKCSReq", [SCEP_CERTPOLL] = "CertPoll (GetCertInitial)",
                                    [SCEP_GETCERT] = "GetCert", [SCEP_GETCRL] = "GetCRL"};
static const char *const STATUSES[] = {
    [SCEP_SUCCESS] = "SUCCESS", [SCEP_FAILURE] = "FAILURE", [SCEP_PENDING] = "PENDING"};

#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

scep_part_t *scep_view_part(viewer_t *viewer, const char *name)
{
    scep_part_t *part = apr_pcalloc(viewer->pool, sizeof(*part));

    part->name = name;
    part->fields = apr_array_make(viewer->pool, 8, sizeof(scep_field_t));
    APR_ARRAY_PUSH(viewer->view->parts, scep_part_t *) = part;
    return part;
}

void scep_view_add(viewer_t *viewer, scep_part_t *part, const char *name, const char *value)
{
    if (value) {
        scep_field_t *field = apr_array_push(part->fields);

        field->name = name;
        field->value = apr_pstrdup(viewer->pool, value);
    }
}

/* Bytes that should be text; a NUL in them ends it, and is told. */
static const char *text_of(bytes_t bytes, apr_pool_t *pool)
{
    bool whole = !memchr(bytes.data ? bytes.data : (const unsigned char *)"", 0, bytes.len);

    return whole ? apr_pstrmemdup(pool, (const char *)bytes.data, bytes.len)
                 : apr_pstrcat(pool, "(holds a NUL) ", text_escape_bytes(pool, bytes, 1024), NULL);
}

static const char *numbered(const scep_attribute_t *attribute, const char *const *names, int count, apr_pool_t *pool)
{
    int number = scep_attribute_number(attribute);
    const char *name = number >= 0 && number < count ? names[number] : NULL;

    return apr_pstrcat(pool, text_of(attribute->value, pool), name ? " (" : "", name ? name : "", name ? ")" : "",
                       number < 0 ? " (no number of RFC 8894)" : "", NULL);
}

static const char *attribute_text(int name, const scep_attribute_t *attribute, apr_pool_t *pool)
{
    switch (name) {
    case ATTRIBUTE_MESSAGE_TYPE:
        return numbered(attribute, TYPES, COUNT(TYPES), pool);
    case ATTRIBUTE_PKI_STATUS:
        return numbered(attribute, STATUSES, COUNT(STATUSES), pool);
    case ATTRIBUTE_FAIL_INFO:
        return numbered(attribute, SCEP_FAIL_INFO_NAMES, COUNT(SCEP_FAIL_INFO_NAMES), pool);
    case ATTRIBUTE_SENDER_NONCE:
    case ATTRIBUTE_RECIPIENT_NONCE:
        return text_hex(pool, attribute->value);
    default:
        return text_of(attribute->value, pool);
    }
}

static void attributes_show(viewer_t *viewer, scep_part_t *part, const scep_attributes_t *attributes)
{
    for (int i = 0; i < ATTRIBUTE_COUNT; i++) {
        const scep_attribute_t *attribute = &attributes->of[i];
        const char *name = scep_attribute_name((scep_attribute_name_t)i);

        if (attribute->state == ATTRIBUTE_GOOD) {
            scep_view_add(viewer, part, name, attribute_text(i, attribute, viewer->pool));
        } else if (attribute->state == ATTRIBUTE_ODD) {
            scep_view_add(viewer, part, name, "(there twice, or not of the type that RFC 8894 says)");
        } else if (i == ATTRIBUTE_MESSAGE_TYPE || i == ATTRIBUTE_TRANSACTION_ID || i == ATTRIBUTE_SENDER_NONCE) {
            scep_view_add(viewer, part, name, "(missing)");
        }
    }
}

static const char *name_and_serial(const X509_NAME *issuer, const ASN1_INTEGER *serial, apr_pool_t *pool)
{
    const char *number = serial ? scep_serial_print(serial, pool) : NULL;

    return apr_pstrcat(pool, "serial ", number ? number : "(unreadable)", " of ",
                       issuer ? scep_name_print(issuer, pool) : "?", NULL);
}

/* The signer's certificate, borrowed from the message, or NULL. */
static X509 *signer_show(viewer_t *viewer, scep_part_t *part, outer_t *outer)
{
    X509 *signer = NULL;
    X509_ALGOR *digest = NULL;
    X509_ALGOR *signature = NULL;
    const ASN1_OBJECT *object = NULL;
    ASN1_OCTET_STRING *key_id = NULL;
    X509_NAME *issuer = NULL;
    ASN1_INTEGER *serial = NULL;
    const char *refused = NULL;
    bool there = CMS_set1_signers_certs(outer->cms, NULL, 0) == 1;

    CMS_SignerInfo_get0_algs(outer->signer_info, NULL, &signer, &digest, &signature);
    X509_ALGOR_get0(&object, NULL, NULL, digest);
    scep_view_add(viewer, part, "digest", scep_view_object(object, viewer->pool));
    X509_ALGOR_get0(&object, NULL, NULL, signature);
    scep_view_add(viewer, part, "signature algorithm", scep_view_object(object, viewer->pool));
    if (!there || !signer) {
        CMS_SignerInfo_get0_signer_id(outer->signer_info, &key_id, &issuer, &serial);
        scep_view_add(viewer, part, "signer",
                      issuer ? name_and_serial(issuer, serial, viewer->pool) : "named by its key's identifier");
        scep_view_add(viewer, part, "signature", "cannot be verified: the signer's certificate is not in the message");
        return NULL;
    }
    refused = scep_public_key_check(X509_get_X509_PUBKEY(signer));
    if (refused) {
        scep_view_add(viewer, part, "signature",
                      apr_pstrcat(viewer->pool, "is not verified: the signer has ", refused, NULL));
    } else {
        scep_view_add(viewer, part, "signature",
                      scep_outer_verify(outer, NULL, 0)
                          ? "good"
                          : apr_pstrcat(viewer->pool, "WRONG: ", scep_engine_errors(viewer->pool), NULL));
    }
    return signer;
}

/* The envelope. */

static void recipient_show(viewer_t *viewer, CMS_RecipientInfo *info)
{
    scep_part_t *part = scep_view_part(viewer, "recipient");
    ASN1_OCTET_STRING *key_id = NULL;
    X509_NAME *issuer = NULL;
    ASN1_INTEGER *serial = NULL;
    X509_ALGOR *algorithm = NULL;
    const ASN1_OBJECT *object = NULL;

    if (CMS_RecipientInfo_type(info) != CMS_RECIPINFO_TRANS) {
        scep_view_add(viewer, part, "kind", "not by key transport: SCEP has no use for it");
        return;
    }
    CMS_RecipientInfo_ktri_get0_signer_id(info, &key_id, &issuer, &serial);
    scep_view_add(viewer, part, "certificate",
                  issuer ? name_and_serial(issuer, serial, viewer->pool) : "named by its key's identifier");
    CMS_RecipientInfo_ktri_get0_algs(info, NULL, NULL, &algorithm);
    if (algorithm) {
        X509_ALGOR_get0(&object, NULL, NULL, algorithm);
        scep_view_add(viewer, part, "key transport", scep_view_object(object, viewer->pool));
    }
    if (viewer->key) {
        scep_view_add(viewer, part, "the given key",
                      CMS_RecipientInfo_ktri_cert_cmp(info, viewer->key->certificate) == 0 ? "is this one's"
                                                                                           : "is another's");
    }
}

/* Names of GetCert, GetCRL and CertPoll. False for anything else. */
static bool names_show(viewer_t *viewer, bytes_t plain)
{
    scep_inquiry_t inquiry = {.issuer = NULL};
    scep_poll_t poll = {.issuer = NULL};
    scep_part_t *part = NULL;

    if (!scep_inquiry_open(&inquiry, plain, viewer->pool)) {
        part = scep_view_part(viewer, "IssuerAndSerialNumber");
        scep_view_add(viewer, part, "issuer", inquiry.issuer);
        scep_view_add(viewer, part, "serial", inquiry.serial);
        return true;
    }
    if (!scep_poll_open(&poll, plain, viewer->pool)) {
        part = scep_view_part(viewer, "IssuerAndSubject");
        scep_view_add(viewer, part, "issuer", poll.issuer);
        scep_view_add(viewer, part, "subject", poll.subject);
        return true;
    }
    return false;
}

static bool is_signed_data(const CMS_ContentInfo *cms)
{
    return OBJ_obj2nid(CMS_get0_type(cms)) == NID_pkcs7_signed;
}

static void inside_show(viewer_t *viewer, bytes_t plain, const X509 *signer)
{
    CMS_ContentInfo *bag = scep_cms_read(viewer->engine->reading, plain);

    ERR_clear_error();
    if (bag && is_signed_data(bag)) {
        scep_view_bag(viewer, bag, NULL);
    } else if (!names_show(viewer, plain)) {
        scep_view_csr(viewer, plain, signer);
    }
    CMS_ContentInfo_free(bag);
    ERR_clear_error();
}

static void envelope_open(viewer_t *viewer, scep_part_t *part, CMS_ContentInfo *envelope, const X509 *signer)
{
    const char *why = NULL;
    BIO *plain = scep_envelope_decrypt(envelope, viewer->engine, viewer->key->certificate, viewer->key->key, &why);
    bytes_t bytes = scep_bio_peek(plain);

    if (plain) {
        scep_view_add(viewer, part, "inside", apr_psprintf(viewer->pool, "%" APR_SIZE_T_FMT " bytes", bytes.len));
        inside_show(viewer, bytes, signer);
        secret_wipe(bytes.data, bytes.len);
    } else {
        scep_view_add(viewer, part, "inside", scep_with_errors(why, viewer->pool));
    }
    BIO_free(plain);
}

static void envelope_show(viewer_t *viewer, bytes_t content, const X509 *signer)
{
    CMS_ContentInfo *envelope = content.len ? scep_envelope_read(viewer->engine, content) : NULL;
    scep_part_t *part = scep_view_part(viewer, "envelope");
    STACK_OF(CMS_RecipientInfo) *infos = NULL;
    const char *cipher = NULL;

    ERR_clear_error();
    if (!envelope) {
        scep_view_add(viewer, part, "content",
                      content.len
                          ? apr_psprintf(viewer->pool, "%" APR_SIZE_T_FMT " bytes that are not one whole EnvelopedData",
                                         content.len)
                          : "none");
        return;
    }
    scep_view_add(viewer, part, "content", apr_psprintf(viewer->pool, "%" APR_SIZE_T_FMT " bytes", content.len));
    scep_envelope_cipher(envelope, &cipher, viewer->pool);
    scep_view_add(viewer, part, "cipher", cipher);
    infos = CMS_get0_RecipientInfos(envelope);
    for (int i = 0; infos && i < sk_CMS_RecipientInfo_num(infos); i++) {
        recipient_show(viewer, sk_CMS_RecipientInfo_value(infos, i));
    }
    if (viewer->key) {
        envelope_open(viewer, part, envelope, signer);
    }
    CMS_ContentInfo_free(envelope);
}

static void message_show(viewer_t *viewer, outer_t *outer, bytes_t der)
{
    scep_part_t *part = scep_view_part(viewer, "message");
    X509 *signer = NULL;

    scep_view_add(viewer, part, "size",
                  apr_psprintf(viewer->pool, "%" APR_SIZE_T_FMT " bytes%s", der.len,
                               der.len > 1 && der.data[1] == 0x80 ? ", BER with indefinite lengths" : ""));
    attributes_show(viewer, part, &outer->attributes);
    signer = signer_show(viewer, part, outer);
    if (signer) {
        scep_view_certificate(viewer, "signer", signer);
    }
    scep_view_bag(viewer, outer->cms, signer);
    envelope_show(viewer, outer->content, signer);
}

/* What is no message of SCEP's, but belongs to it. False for anything else. */
static bool other_show(viewer_t *viewer, bytes_t der)
{
    X509 *certificate = scep_certificate_read(viewer->engine, der);
    CMS_ContentInfo *cms = certificate ? NULL : scep_cms_read(viewer->engine->reading, der);
    const char *why = NULL;
    bool shown = true;

    if (certificate) {
        scep_view_certificate(viewer, "certificate", certificate);
    } else if (cms && is_signed_data(cms) && !sk_CMS_SignerInfo_num(CMS_get0_SignerInfos(cms))) {
        scep_view_add(viewer, scep_view_part(viewer, "certificates"), "kind",
                      "a SignedData without signers, as GetCACert gives it");
        scep_view_bag(viewer, cms, NULL);
    } else {
        X509_REQ *request = cms ? NULL : csr_parse(viewer->engine, der, &why);

        shown = request != NULL;
        X509_REQ_free(request);
        if (shown) {
            scep_view_csr(viewer, der, NULL);
        }
    }
    X509_free(certificate);
    CMS_ContentInfo_free(cms);
    ERR_clear_error();
    return shown;
}

apr_status_t scep_view_make(scep_view_t **view, const scep_engine_t *engine, bytes_t der, const scep_view_key_t *key,
                            apr_pool_t *pool, const char **why)
{
    outer_t outer = {.cms = NULL};
    viewer_t viewer = {apr_pcalloc(pool, sizeof(scep_view_t)), engine, key, pool};
    apr_status_t status = APR_SUCCESS;

    viewer.view->parts = apr_array_make(pool, 8, sizeof(scep_part_t *));
    *view = viewer.view;
    ERR_clear_error();
    *why = scep_outer_read(&outer, engine, der, pool);
    ERR_clear_error();
    if (!*why) {
        message_show(&viewer, &outer, der);
    } else if (other_show(&viewer, der)) {
        *why = NULL;
    } else {
        status = APR_EGENERAL;
    }
    CMS_ContentInfo_free(outer.cms);
    ERR_clear_error();
    return status;
}
