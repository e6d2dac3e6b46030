/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A device's message that is made, encrypted and signed as it should be, around what the input says: byte 1 the message's
 * type, byte 2 its form, byte 3 the layer (fuzz_layer_t, or beyond that the attributes), and then what goes there.
 */
#include "fuzz_pki.h"

#include <openssl/err.h>

/* What is sent, in the order of the input's first byte; made once, with the keys. */
typedef struct kind_t {
    const char *type;
    bytes_t plain;
    X509 *signer;
    EVP_PKEY *key;
} kind_t;

enum { KINDS = 16 };
static kind_t kinds[KINDS];

static bytes_t csr_of(pki_t *pki, EVP_PKEY *key, const char *extension, int challenges)
{
    pki_csr_t csr = {.key = key, .extension = extension};
    for (int i = 0; i < challenges; i++) {
        csr.challenges[i] = (pki_value_t){V_ASN1_PRINTABLESTRING, "a challenge", 11};
    }
    return pki_csr_make(pki, &csr, pki->pool);
}

static X509 *signer_of(pki_t *pki, EVP_PKEY *key, bool is_issued)
{
    pki_certificate_t wanted = {.subject = "device", .key = key, .serial = 0x1234};
    if (is_issued) {
        wanted.issuer = pki->ca;
        wanted.issuer_key = pki->ca_key;
    }
    return pki_certificate_make(pki, &wanted);
}

static void kinds_make(pki_t *pki)
{
    EVP_PKEY *key = pki->device_key;
    X509 *issued = signer_of(pki, key, true);
    bytes_t csr = csr_of(pki, key, "1.2.3.4", 1);
    bytes_t foreign = csr_of(pki, pki->other_key, NULL, 0);
    bytes_t inquiry = pki_inquiry_make(issued, pki->pool);
    bytes_t poll = pki_poll_make(X509_get_subject_name(pki->ca), X509_get_subject_name(issued), pki->pool);
    const kind_t all[KINDS] = {
        {"19", csr, pki->device, key},
        {"19", csr_of(pki, key, NULL, 0), pki->device, key},
        {"19", foreign, pki->device, key},
        {"17", foreign, issued, key},
        {"20", poll, pki->device, key},
        {"21", inquiry, issued, key},
        {"22", inquiry, issued, key},
        {"3", csr, pki->device, key},
        {"19", csr_of(pki, key, SCEP_OID_SID_EXTENSION, 1), pki->device, key},
        {"19", csr_of(pki, key, NULL, 2), pki->device, key},
        {"19", csr_of(pki, pki->small_key, NULL, 1), signer_of(pki, pki->small_key, false), pki->small_key},
        {"17", foreign, pki->ra, pki->ra_key},
        {"17", foreign, pki->device, key},
        {"17", csr_of(pki, pki->ec_key, NULL, 1), issued, key},
        {"19", csr_of(pki, pki->ec_key, NULL, 1), signer_of(pki, pki->ec_key, false), pki->ec_key},
        {"20", poll, signer_of(pki, pki->ec_key, false), pki->ec_key},
    };
    memcpy(kinds, all, sizeof(kinds));
}

static pki_message_t message_of(pki_t *pki, const kind_t *kind)
{
    pki_message_t message = pki_request(pki, kind->plain);
    message.type = kind->type;
    message.signer = kind->signer;
    message.signer_key = kind->key;
    return message;
}

/* One bit each. */
static void form_set(pki_t *pki, pki_message_t *message, unsigned form)
{
    static const char *const ciphers[] = {NULL, "AES-256-CBC", "DES-EDE3-CBC", "DES-CBC"};

    message->cipher = ciphers[form & 3];
    message->digest = form & 4 ? "SHA-1" : NULL;
    message->ber = form & 8;
    message->oaep = form & 16;
    message->extra_certificate = form & 32 ? pki->other : NULL;
    message->first_recipient = form & 64 ? pki->other : NULL;
    /* which OpenSSL cannot make while it streams */
    message->pss = form & 128 && !message->ber && EVP_PKEY_is_a(message->signer_key, "RSA");
}

/* transactionID, senderNonce, messageType; then which attributes are left out, there twice, with two values, or odd. */
static void attributes_set(fuzz_t *fuzz, pki_message_t *message)
{
    message->transaction_id = fuzz_part(fuzz);
    message->sender_nonce = fuzz_part(fuzz);
    message->type = fuzz_text(fuzz);
    message->without = fuzz_byte(fuzz);
    message->twice = fuzz_byte(fuzz);
    message->two_values = fuzz_byte(fuzz);
    message->wrong_type = fuzz_byte(fuzz);
    message->status = fuzz_byte(fuzz) % 2 ? "0" : NULL;
}

static bool is_printable(bytes_t text)
{
    for (apr_size_t i = 0; i < text.len; i++) {
        if (text.data[i] < ' ' || text.data[i] > '~') {
            return false;
        }
    }
    return text.len >= 1 && text.len <= SCEP_TRANSACTION_ID_MAX;
}

/* What was taken is what was sent. */
static void taken_check(const scep_request_t *request, const pki_message_t *message, fuzz_layer_t layer)
{
    bytes_t id = bytes_of_text(request->transaction_id);

    fuzz_check(is_printable(id) && bytes_equal(id, message->transaction_id));
    fuzz_check(request->sender_nonce.len <= SCEP_NONCE_MAX);
    fuzz_check(bytes_equal(request->sender_nonce, message->sender_nonce));
    fuzz_check(request->digest && request->cipher && request->signer);
    fuzz_check(!(message->without & (PKI_MESSAGE_TYPE | PKI_TRANSACTION_ID | PKI_SENDER_NONCE)));
    if (scep_type_has_csr(request->type)) {
        fuzz_check(layer == FUZZ_ENVELOPE_IS || bytes_equal(request->csr.der, message->plain));
        fuzz_check(request->csr.challenges <= 1 && !request->csr.has_sid);
    } else if (scep_type_is_inquiry(request->type)) {
        fuzz_check(request->inquiry.issuer && request->inquiry.serial);
    }
}

/* Behind a good signature nothing but the policy tells what was wrong in the envelope. */
static void refused_check(problem_t problem, fuzz_layer_t layer, unsigned form)
{
    bool is_inner = layer == FUZZ_PLAIN || layer == FUZZ_PLAIN_IS;

    if (problem == PROBLEM_BAD_SIGNER || problem == PROBLEM_KEY_CANNOT_DECRYPT ||
        problem == PROBLEM_UNSUPPORTED_MESSAGE) {
        return; /* before the envelope is looked at */
    }
    if (is_inner || layer == FUZZ_ENVELOPE) {
        fuzz_check(problem == PROBLEM_BAD_ENVELOPE || problem == PROBLEM_KEY_TOO_SMALL ||
                   problem == PROBLEM_SID_EXTENSION || problem == PROBLEM_CHALLENGE_TWICE ||
                   problem == PROBLEM_EXTENSIONS_TWICE ||
                   (problem == PROBLEM_BAD_ALGORITHM && (layer == FUZZ_ENVELOPE || (form & 3) == 3)));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_t *fuzz = fuzz_begin(data, size);
    pki_t *pki = fuzz_pki();
    scep_request_t *request = NULL;
    result_t *result = result_make(fuzz->pool);

    if (!kinds[0].type) {
        kinds_make(pki);
    }
    pki_message_t message = message_of(pki, &kinds[fuzz_byte(fuzz) % KINDS]);
    unsigned form = fuzz_byte(fuzz);
    fuzz_layer_t layer = (fuzz_layer_t)(fuzz_byte(fuzz) % (FUZZ_LAYERS + 1));

    form_set(pki, &message, form);
    if (layer == FUZZ_LAYERS) {
        attributes_set(fuzz, &message);
    }
    bytes_t der = fuzz_message_make(fuzz, pki, &message, layer);
    apr_status_t rv = scep_request_open(&request, pki->identity, &pki->policy, der, fuzz->pool, result);

    fuzz_check((rv == APR_SUCCESS) == (result->problem == PROBLEM_NONE));
    fuzz_check(request || result->problem == PROBLEM_NOT_SCEP);
    fuzz_check(ERR_peek_error() == 0);
    if (rv == APR_SUCCESS) {
        taken_check(request, &message, layer);
    } else {
        refused_check(result->problem, layer, form);
    }
    if (layer == FUZZ_ENVELOPE || layer == FUZZ_MESSAGE) {
        pki_look(pki, der);
    }
    return fuzz_end(fuzz);
}
