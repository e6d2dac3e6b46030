/* SPDX-License-Identifier: Apache-2.0 */
/* What an envelope holds: a certificate request, an IssuerAndSerialNumber, an IssuerAndSubject. */
#include "fuzz_pki.h"

#include "base/text.h"
#include "scep/parts.h"

#include <openssl/err.h>

/* The first element of the request as OpenSSL's own reader finds it, header and all. */
static bytes_t info_find(bytes_t der, STACK_OF(ASN1_TYPE) * *elements)
{
    bytes_t info = {NULL, 0};
    const unsigned char *at = der.data;
    *elements = d2i_ASN1_SEQUENCE_ANY(NULL, &at, (long)der.len);
    const ASN1_TYPE *first = *elements ? sk_ASN1_TYPE_value(*elements, 0) : NULL;
    if (first && first->type == V_ASN1_SEQUENCE) {
        info.data = ASN1_STRING_get0_data(first->value.sequence);
        info.len = (apr_size_t)ASN1_STRING_length(first->value.sequence);
    }
    return info;
}

static void facts_check(fuzz_t *fuzz, const pki_t *pki, const csr_t *csr, bytes_t der, X509_REQ *request)
{
    STACK_OF(ASN1_TYPE) *elements = NULL;
    bytes_t info = info_find(der, &elements);
    unsigned char *name = NULL;
    int length = i2d_X509_NAME(X509_REQ_get_subject_name(request), &name);

    fuzz_check(bytes_equal(csr->der, der));
    fuzz_check(bytes_equal(csr->info_sha256, scep_digest(pki->engine->context, "SHA-256", info, fuzz->pool)));
    fuzz_check(csr->key_bits > 0 && !strcmp(text_cut_utf8(fuzz->pool, csr->subject, SIZE_MAX), csr->subject));
    fuzz_check(length > 0 && bytes_equal(csr->subject_der, (bytes_t){name, (apr_size_t)length}));
    fuzz_check((csr->challenges > 0) == (csr->challenge != NULL));
    if (csr->challenge) {
        fuzz_check(strpbrk(secret_reveal(csr->challenge), " \t\r\n\v\f") == NULL);
    }
    OPENSSL_free(name);
    sk_ASN1_TYPE_pop_free(elements, ASN1_TYPE_free);
}

static void csr_try(fuzz_t *fuzz, const pki_t *pki, bytes_t der)
{
    csr_t csr = {.challenges = 0};
    const char *why = NULL;
    X509_REQ *request = csr_parse(pki->engine, der, &why);
    bool proved = false;
    bool is_read = false;

    fuzz_check(!request == !!why);
    if (request) {
        proved = csr_prove(request, pki->engine);
        is_read = !csr_read(&csr, request, pki->engine, der, fuzz->pool);
        if (is_read) {
            facts_check(fuzz, pki, &csr, der, request);
        }
        X509_REQ_free(request);
    }
    ERR_clear_error();
    fuzz_check((csr_open(&csr, pki->engine, der, fuzz->pool, &why) == APR_SUCCESS) == (proved && is_read));
}

/* What is read of it is the whole of it. */
static void names_try(fuzz_t *fuzz, bytes_t der)
{
    scep_inquiry_t inquiry = {.issuer = NULL};
    scep_inquiry_t again = {.issuer = NULL};
    scep_poll_t poll = {.issuer = NULL};

    if (!scep_inquiry_open(&inquiry, der, fuzz->pool)) {
        fuzz_check(inquiry.issuer && inquiry.serial && *inquiry.serial);
        fuzz_check(!scep_inquiry_open(&again, inquiry.der, fuzz->pool) && !strcmp(inquiry.serial, again.serial));
        fuzz_check(!strcmp(inquiry.issuer, again.issuer));
    }
    if (!scep_poll_open(&poll, der, fuzz->pool)) {
        STACK_OF(ASN1_TYPE) *elements = NULL;
        const unsigned char *at = der.data;

        elements = d2i_ASN1_SEQUENCE_ANY(NULL, &at, (long)der.len);
        fuzz_check(elements && sk_ASN1_TYPE_num(elements) == 2 && at == der.data + der.len);
        sk_ASN1_TYPE_pop_free(elements, ASN1_TYPE_free);
        fuzz_check(bytes_equal(poll.der, der) && poll.issuer && poll.subject);
    }
    fuzz_check(ERR_peek_error() == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_t *fuzz = fuzz_begin(data, size);
    const pki_t *pki = fuzz_pki();
    bytes_t der = fuzz->rest;

    csr_try(fuzz, pki, der);
    names_try(fuzz, der);
    pki_look(pki, der);
    return fuzz_end(fuzz);
}
