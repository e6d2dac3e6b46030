/* SPDX-License-Identifier: Apache-2.0 */
/* The device's PKIMessage, in good order or with one thing wrong. */
#include "device.h"

#include <string.h>

#include <apr_strings.h>

#define OID_PLACEHOLDER "1.2.840.113549.1.9.8"

static sim_bytes_t name_der(const X509_NAME *name, apr_pool_t *pool)
{
    const unsigned char *der = NULL;
    size_t len = 0;
    sim_bytes_t bytes = {NULL, 0};
    return X509_NAME_get0_der(name, &der, &len) ? sim_bytes(der, len, pool) : bytes;
}

/* CertPoll: issuer and subject. GetCert and GetCRL: issuer and serial number. The issuer is the RA certificate's. */
static sim_bytes_t query_make(const device_options_t *options, const device_t *device)
{
    sim_bytes_t parts[2] = {name_der(X509_get_issuer_name(sk_X509_value(options->envelope_to, 0)), device->pool),
                            {NULL, 0}};
    if (device->type == 20) {
        const unsigned char *at = device->csr.data;
        X509_REQ *req = d2i_X509_REQ(NULL, &at, (long)device->csr.len);
        parts[1] = name_der(req ? X509_REQ_get_subject_name(req) : X509_get_subject_name(device->signer), device->pool);
        X509_REQ_free(req);
    } else {
        BIGNUM *number = NULL;
        unsigned char *der = NULL;
        BN_hex2bn(&number, options->serial ? options->serial : "1");
        ASN1_INTEGER *serial = number ? BN_to_ASN1_INTEGER(number, NULL) : NULL;
        int len = serial ? i2d_ASN1_INTEGER(serial, &der) : 0;
        if (len > 0)
            parts[1] = sim_bytes(der, (apr_size_t)len, device->pool);
        OPENSSL_free(der);
        ASN1_INTEGER_free(serial);
        BN_free(number);
    }
    return sim_der_wrap(0x30, parts, 2, device->pool);
}

/* Damage that shows only to who decrypts. The ciphertext lies at the very end of the DER. */
static bool envelope_break(const device_options_t *options, sim_bytes_t *der, apr_size_t content, apr_pool_t *pool)
{
    sim_envelope_t info;
    if (device_breaks(options, "rsa")) {
        if (!sim_envelope_inspect(*der, &info, pool) || !info.encrypted_key_len)
            return device_fail("no encrypted key found to break");
        der->data[info.encrypted_key + info.encrypted_key_len / 2] ^= 0x55;
    }
    apr_size_t block = strncmp(options->cipher, "des", 3) == 0 ? 8 : 16;
    apr_size_t ciphertext = (content / block + 1) * block;
    /* In the last block but one, the highest bit makes the padding wrong for certain. */
    if (device_breaks(options, "envelope") && ciphertext > block)
        der->data[der->len - block - 1] ^= 0x80;
    if (device_breaks(options, "envelope-start") && ciphertext > 2 * block)
        der->data[der->len - ciphertext] ^= 0x80;
    return true;
}

static sim_bytes_t envelope_make(device_options_t *options, device_t *device)
{
    sim_bytes_t content = device->csr, der = {NULL, 0};
    sim_envelope_spec_t spec = {options->envelope_to, options->cipher, options->oaep, options->ber};
    STACK_OF(X509) *stranger = sk_X509_new_null();
    if (device->type >= 20)
        content = query_make(options, device);
    if (device_breaks(options, "empty-envelope"))
        content.len = 0;
    if (device_breaks(options, "recipient")) {
        /* Somebody else is the device itself: no key has to be made. */
        sk_X509_push(stranger, device->signer);
        spec.recipients = stranger;
    }
    der = sim_envelope_make(options->libctx, &spec, content, device->pool);
    sk_X509_free(stranger);
    if (!der.data)
        device_fail("no envelope: %s", sim_openssl_error(device->pool));
    else if (!envelope_break(options, &der, content.len, device->pool))
        der.data = NULL;
    return der;
}

static bool attributes_add(const device_options_t *options, const device_t *device, CMS_SignerInfo *signer)
{
    const char *type = apr_itoa(device->pool, device->type);
    bool ok = true;
    if (!device_breaks(options, "no-type"))
        ok = sim_attr_add(signer, OID_MESSAGE_TYPE, V_ASN1_PRINTABLESTRING, type, strlen(type));
    if (ok && !device_breaks(options, "no-transaction"))
        ok = sim_attr_add(signer, OID_TRANSACTION_ID, V_ASN1_PRINTABLESTRING, device->transaction.data,
                          device->transaction.len);
    if (ok && !device_breaks(options, "no-nonce"))
        ok = sim_attr_add(signer, OID_SENDER_NONCE, V_ASN1_OCTET_STRING, device->sender_nonce.data,
                          device->sender_nonce.len);
    if (ok && device_breaks(options, "double-type")) {
        ASN1_OBJECT *object = OBJ_txt2obj(OID_MESSAGE_TYPE, 1);
        ok = sim_attr_add(signer, OID_PLACEHOLDER, V_ASN1_PRINTABLESTRING, "17", 2);
        X509_ATTRIBUTE *last = CMS_signed_get_attr(signer, CMS_signed_get_attr_count(signer) - 1);
        ok = ok && X509_ATTRIBUTE_set1_object(last, object) == 1;
        ASN1_OBJECT_free(object);
    }
    return ok;
}

static bool signers_add(const device_options_t *options, const device_t *device, CMS_ContentInfo *cms)
{
    const EVP_MD *digest = sim_digest_by_name(options->digest);
    unsigned int flags = CMS_BINARY | CMS_NOSMIMECAP;
    CMS_SignerInfo *signer = CMS_add1_signer(cms, device->signer, device->signer_key, digest, flags);
    if (!signer || !attributes_add(options, device, signer))
        return false;
    if (!device_breaks(options, "two-signers"))
        return true;
    X509 *second = sim_self_signed(options->libctx, device->signer_key, X509_get_subject_name(device->signer), false,
                                   device->pool);
    signer = second ? CMS_add1_signer(cms, second, device->signer_key, digest, flags) : NULL;
    return signer && attributes_add(options, device, signer);
}

static void signed_break(const device_options_t *options, CMS_ContentInfo *cms)
{
    CMS_SignerInfo *signer = sk_CMS_SignerInfo_value(CMS_get0_SignerInfos(cms), 0);
    if (device_breaks(options, "signature")) {
        ASN1_OCTET_STRING *signature = CMS_SignerInfo_get0_signature(signer);
        signature->data[signature->length / 2] ^= 0x01;
    }
    if (device_breaks(options, "digest")) {
        ASN1_OCTET_STRING *content = *CMS_get0_content(cms);
        content->data[content->length - 1] ^= 0x01;
    }
}

static void bytes_break(const device_options_t *options, device_t *device)
{
    sim_bytes_t *message = &device->message;
    if (device_breaks(options, "truncated"))
        message->len /= 2;
    if (device_breaks(options, "trailing")) {
        sim_bytes_t longer = {apr_pcalloc(device->pool, message->len + 17), message->len + 16};
        memcpy(longer.data, message->data, message->len);
        memset(longer.data + message->len, 'A', 16);
        *message = longer;
    }
}

static bool transaction_make(const device_options_t *options, device_t *device)
{
    static const char unprintable[] = "line\r\n\x01\x1b[31m<b>\"\x7f";
    apr_pool_t *pool = device->pool;
    char *text;
    if (device->transaction.data)
        text = (char *)device->transaction.data;
    else if (options->transaction)
        text = sim_number_in(options->transaction, device->number, pool);
    else if (device_breaks(options, "long-transaction"))
        text = sim_hex(sim_random(128, pool), false, pool);
    else
        text = sim_hex(sim_random(20, pool), false, pool);
    if (device_breaks(options, "control-transaction"))
        text = apr_pstrcat(pool, text, unprintable, NULL);
    if (!device->transaction.data || device_breaks(options, "control-transaction"))
        device->transaction = sim_bytes(text, strlen(text), pool);
    device->sender_nonce = sim_random(16, pool);
    return device->sender_nonce.data != NULL;
}

static bool message_encode(const device_options_t *options, device_t *device, CMS_ContentInfo *cms, BIO *in,
                           unsigned int flags)
{
    BIO *out = BIO_new(BIO_s_mem());
    bool ok;
    if (options->ber) {
        ok = i2d_CMS_bio_stream(out, cms, in, (int)flags) == 1;
    } else {
        ok = CMS_final(cms, in, NULL, flags) == 1;
        if (ok)
            signed_break(options, cms);
        ok = ok && i2d_CMS_bio(out, cms) == 1;
    }
    if (ok)
        device->message = sim_bytes_of_bio(out, device->pool);
    BIO_free(out);
    return ok;
}

bool device_message_make(device_options_t *options, device_t *device)
{
    unsigned int flags = CMS_BINARY | CMS_PARTIAL | (options->ber ? CMS_STREAM : 0);
    sim_bytes_t envelope = {NULL, 0};
    if (!transaction_make(options, device))
        return device_fail("no random numbers");
    if (device_breaks(options, "no-content")) {
        flags |= CMS_DETACHED;
        envelope = sim_bytes("", 0, device->pool);
    } else {
        envelope = envelope_make(options, device);
    }
    if (!envelope.data)
        return false;
    BIO *in = BIO_new(BIO_s_mem());
    BIO_set_mem_eof_return(in, 0);
    if (envelope.len)
        BIO_write(in, envelope.data, (int)envelope.len);
    CMS_ContentInfo *cms = CMS_sign_ex(NULL, NULL, NULL, NULL, flags, options->libctx, NULL);
    bool ok = cms && signers_add(options, device, cms) && message_encode(options, device, cms, in, flags);
    CMS_ContentInfo_free(cms);
    BIO_free(in);
    if (!ok)
        return device_fail("no message: %s", sim_openssl_error(device->pool));
    bytes_break(options, device);
    return true;
}
