/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A file of revocation lists that takes the place of a good one. Byte 1: which list is in it (the low four bits),
 * whether in PEM (16), and there beside another CA's (32); byte 2: where the rest of the input goes: it changes the
 * file, is the file, changes what the CA has signed, or is that.
 */
#include "fuzz_pki.h"

#include "base/clock.h"
#include "scep/crl.h"
#include "scep/parts.h"

#include <apr_strings.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

typedef enum place_t { PLACE_NOWHERE, PLACE_FILE, PLACE_FILE_IS, PLACE_SIGNED, PLACE_SIGNED_IS, PLACES } place_t;

enum {
    KIND_OF_CA,
    KIND_OF_ROOT,
    KIND_FOR_EVER,
    KIND_EXPIRED,
    KIND_DELTA,
    KIND_ONLY_CAS,
    KIND_STRANGER,
    KIND_FORGED,
    KIND_CERTIFICATE,
    KINDS,
    IN_PEM = 16,
    WITH_OTHER = 32,
    CERTIFICATES = 3,
    SEVERAL = -1
};

static struct {
    /* Of the CA: one that is in its lists, and one that is not. Of the root: one that is in its list. */
    X509 *certificates[CERTIFICATES];
    bytes_t kinds[KINDS];
    bytes_t before; /* the CA's list that is in the file at first: the second certificate is in it, for ever */
} made;

static void make_all(pki_t *pki)
{
    if (made.before.len) {
        return;
    }
    for (int i = 0; i < CERTIFICATES; i++) {
        pki_certificate_t leaf = {.subject = "device",
                                  .key = pki->device_key,
                                  .issuer = i == 2 ? pki->root : pki->ca,
                                  .issuer_key = i == 2 ? pki->root_key : pki->ca_key,
                                  .serial = 0x1234 + i};
        made.certificates[i] = pki_certificate_make(pki, &leaf);
    }
    const pki_crl_t of_ca = {
        .issuer = pki->ca, .issuer_key = pki->ca_key, .from = -10, .revoked = {made.certificates[0]}};
    pki_crl_t lists[KINDS];
    for (int i = 0; i < KINDS; i++) {
        lists[i] = of_ca;
    }
    lists[KIND_OF_ROOT].issuer = pki->root;
    lists[KIND_OF_ROOT].issuer_key = pki->root_key;
    lists[KIND_OF_ROOT].revoked[0] = made.certificates[2];
    lists[KIND_FOR_EVER].for_ever = true;
    lists[KIND_EXPIRED].from = -1000;
    lists[KIND_EXPIRED].until = -100;
    lists[KIND_DELTA].delta = true;
    lists[KIND_ONLY_CAS].only_cas = true;
    lists[KIND_STRANGER].issuer = pki->other;
    lists[KIND_STRANGER].issuer_key = pki->other_key;
    lists[KIND_FORGED].issuer_key = pki->other_key;
    for (int i = 0; i < KINDS; i++) {
        made.kinds[i] = pki_crl_make(pki, &lists[i], pki->pool);
    }
    made.kinds[KIND_CERTIFICATE] = pki_certificate_der(pki->ca, pki->pool);
    pki_crl_t before = {
        .issuer = pki->ca, .issuer_key = pki->ca_key, .from = -10, .for_ever = true, .revoked = {made.certificates[1]}};
    made.before = pki_crl_make(pki, &before, pki->pool);
}

static X509_CRL *list_parse(const pki_t *pki, bytes_t der)
{
    const unsigned char *at = der.data;
    X509_CRL *list = X509_CRL_new_ex(pki->engine->context, NULL);

    fuzz_check(list);
    if (!d2i_X509_CRL(&list, &at, (long)der.len)) {
        X509_CRL_free(list);
        list = NULL;
    }
    ERR_clear_error();
    return list;
}

/* DER of a SEQUENCE with the algorithm of that list behind what is signed. */
static bytes_t signed_print(const pki_t *pki, EVP_PKEY *key, bytes_t to_sign, const X509_CRL *like, apr_pool_t *pool)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    ASN1_BIT_STRING *bits = ASN1_BIT_STRING_new();
    const X509_ALGOR *algorithm = NULL;
    unsigned char signature[512];
    size_t length = sizeof(signature);

    X509_CRL_get0_signature(like, NULL, &algorithm);
    fuzz_check(context && EVP_DigestSignInit_ex(context, NULL, "SHA-256", pki->engine->context, NULL, key, NULL) == 1);
    fuzz_check(EVP_DigestSign(context, signature, &length, to_sign.data, to_sign.len) == 1);
    fuzz_check(bits && ASN1_BIT_STRING_set(bits, signature, (int)length));
    bits->flags = ASN1_STRING_FLAG_BITS_LEFT;
    EVP_MD_CTX_free(context);

    int inside = (int)to_sign.len + i2d_X509_ALGOR(algorithm, NULL) + i2d_ASN1_BIT_STRING(bits, NULL);
    int whole = ASN1_object_size(1, inside, V_ASN1_SEQUENCE);
    unsigned char *der = apr_palloc(pool, (apr_size_t)whole);
    unsigned char *at = der;
    ASN1_put_object(&at, 1, inside, V_ASN1_SEQUENCE, V_ASN1_UNIVERSAL);
    memcpy(at, to_sign.data, to_sign.len);
    at += to_sign.len;
    i2d_X509_ALGOR(algorithm, &at);
    i2d_ASN1_BIT_STRING(bits, &at);
    fuzz_check(at == der + whole);
    ASN1_BIT_STRING_free(bits);
    return (bytes_t){der, (apr_size_t)whole};
}

static bytes_t signed_make(fuzz_t *fuzz, const pki_t *pki, int kind, place_t place)
{
    X509_CRL *list = list_parse(pki, made.kinds[kind]);
    unsigned char *der = NULL;
    int length = i2d_re_X509_CRL_tbs(list, &der);
    bytes_t to_sign = {der, (apr_size_t)length};
    fuzz_check(list && length > 0);
    if (place == PLACE_SIGNED_IS) {
        to_sign = fuzz->rest.len ? fuzz->rest : bytes_of_text("0");
    } else {
        to_sign = fuzz_changed(fuzz, to_sign);
    }
    bytes_t made_of = signed_print(pki, kind == KIND_OF_ROOT ? pki->root_key : pki->ca_key, to_sign, list, fuzz->pool);
    X509_CRL_free(list);
    OPENSSL_free(der);
    return made_of;
}

static bytes_t pem_make(const pki_t *pki, bytes_t first, bytes_t second, apr_pool_t *pool)
{
    BIO *out = BIO_new(BIO_s_mem());

    fuzz_check(out && PEM_write_bio_X509(out, pki->ca));
    fuzz_check(PEM_write_bio(out, PEM_STRING_X509_CRL, "", first.data, (long)first.len) > 0);
    fuzz_check(!second.len || PEM_write_bio(out, PEM_STRING_X509_CRL, "", second.data, (long)second.len) > 0);
    return pki_bio_take(out, pool);
}

/* The second reader: what a list that was taken says of a certificate, going through its entries one by one. */
static scep_revocation_t said_by(X509_CRL *list, X509 *certificate)
{
    STACK_OF(X509_REVOKED) *entries = X509_CRL_get_REVOKED(list);
    const ASN1_TIME *until = X509_CRL_get0_nextUpdate(list);
    int found = 0;
    int kept = 0;

    if (until && ASN1_TIME_cmp_time_t(until, apr_time_sec(clock_now())) <= 0) {
        return REVOCATION_UNKNOWN;
    }
    /* not yet: the CA's clock may be five minutes ahead */
    if (ASN1_TIME_cmp_time_t(X509_CRL_get0_lastUpdate(list), apr_time_sec(clock_now()) + 300) >= 0) {
        return REVOCATION_UNKNOWN;
    }
    /* none of the certificates names a distribution point */
    ISSUING_DIST_POINT *point = X509_CRL_get_ext_d2i(list, NID_issuing_distribution_point, NULL, NULL);
    bool is_part = point && point->distpoint;
    ISSUING_DIST_POINT_free(point);
    if (is_part) {
        return REVOCATION_UNKNOWN;
    }
    for (int i = 0; i < sk_X509_REVOKED_num(entries); i++) {
        const X509_REVOKED *entry = sk_X509_REVOKED_value(entries, i);
        ASN1_ENUMERATED *reason = X509_REVOKED_get_ext_d2i(entry, NID_crl_reason, NULL, NULL);

        if (!ASN1_INTEGER_cmp(X509_REVOKED_get0_serialNumber(entry), X509_get0_serialNumber(certificate))) {
            found++;
            kept += ASN1_ENUMERATED_get(reason) == CRL_REASON_REMOVE_FROM_CRL;
        }
        ASN1_ENUMERATED_free(reason);
        /* RFC 5280 section 5.3: what is critical and not understood makes the list useless, whatever entry it is at */
        for (int j = 0; j < X509_REVOKED_get_ext_count(entry); j++) {
            fuzz_check(!X509_EXTENSION_get_critical(X509_REVOKED_get_ext(entry, j)));
        }
    }
    ERR_clear_error();
    /* twice in the list, and to be removed from it: which of both comes first is not ours to say */
    return kept && found > kept ? SEVERAL : found > kept ? REVOCATION_IS : REVOCATION_NONE;
}

static void verdict_check(const pki_t *pki, bytes_t der, X509 *certificate, scep_revocation_t verdict)
{
    X509_CRL *list = list_parse(pki, der);

    /* what the reader took, OpenSSL takes */
    fuzz_check(list);
    if (!X509_NAME_cmp(X509_CRL_get_issuer(list), X509_get_issuer_name(certificate))) {
        scep_revocation_t said = said_by(list, certificate);
        fuzz_check((int)said == SEVERAL || said == verdict);
        fuzz_check(scep_crl_signature_check(list, pki->chain) == NULL);
    }
    X509_CRL_free(list);
}

static void sentence_check(const char *text)
{
    fuzz_check(text && *text);
    for (; *text; text++) {
        fuzz_check(*text >= ' ' && *text <= '~');
    }
}

/* What is signed was not changed: then these lists are all that the file can have of the CA and the root. */
static void unforged_check(const scep_revocation_t verdicts[CERTIFICATES])
{
    fuzz_check(verdicts[0] != REVOCATION_NONE);
    fuzz_check(verdicts[1] != REVOCATION_IS);
    fuzz_check(verdicts[2] != REVOCATION_NONE);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_t *fuzz = fuzz_begin(data, size);
    pki_t *pki = fuzz_pki();
    scep_crls_t *crls = NULL;
    scep_crls_t *fresh = NULL;
    const char *message = NULL;

    make_all(pki);
    unsigned form = fuzz_byte(fuzz);
    int kind = (int)((form & 15) % KINDS);
    place_t place = (place_t)(fuzz_byte(fuzz) % PLACES);
    bool is_signed = place == PLACE_SIGNED || place == PLACE_SIGNED_IS;
    bytes_t none = {NULL, 0};
    bytes_t other = form & WITH_OTHER ? made.kinds[kind == KIND_OF_ROOT ? KIND_OF_CA : KIND_OF_ROOT] : none;
    if (kind == KIND_CERTIFICATE && is_signed) {
        kind = KIND_OF_CA;
    }
    bytes_t list = is_signed ? signed_make(fuzz, pki, kind, place) : made.kinds[kind];
    bytes_t bytes = form & IN_PEM ? pem_make(pki, list, other, fuzz->pool) : list;
    if (place == PLACE_FILE) {
        bytes = fuzz_changed(fuzz, bytes);
    } else if (place == PLACE_FILE_IS) {
        bytes = fuzz->rest;
    }

    /* in place of another file, and on its own */
    const char *path = fuzz_file(fuzz, "crl", made.before);
    fuzz_check(scep_crls_make(&crls, pki->engine, pki->chain, path, fuzz->pool, &message) == APR_SUCCESS);
    fuzz_file(fuzz, "crl", bytes);
    apr_status_t rv = scep_crls_make(&fresh, pki->engine, pki->chain, path, fuzz->pool, &message);
    fuzz_check(ERR_peek_error() == 0 && (rv == APR_SUCCESS) == (fresh != NULL));
    scep_revocation_t verdicts[CERTIFICATES];
    for (int i = 0; i < CERTIFICATES; i++) {
        static const scep_revocation_t before[CERTIFICATES] = {REVOCATION_NONE, REVOCATION_IS, REVOCATION_UNKNOWN};
        X509 *certificate = made.certificates[i];
        const char *why = NULL;
        verdicts[i] = scep_crls_check(crls, certificate, fuzz->pool, &why);
        if (verdicts[i] != REVOCATION_NONE) {
            sentence_check(why);
        }
        fuzz_check(ERR_peek_error() == 0);
        fuzz_check(verdicts[i] == (fresh ? scep_crls_check(fresh, certificate, fuzz->pool, &why) : before[i]));
        if (fresh && is_signed) {
            verdict_check(pki, list, certificate, verdicts[i]);
        }
    }
    if (!fresh) {
        sentence_check(message);
    } else {
        const char *expired = scep_crls_expired(fresh, fuzz->pool);
        if (expired) {
            sentence_check(expired);
        }
        if (!is_signed) {
            unforged_check(verdicts);
        }
    }
    return fuzz_end(fuzz);
}
