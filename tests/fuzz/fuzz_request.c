/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A device's message that is made, encrypted and signed as it should be, around what the input says: byte 1 the message's
 * type, byte 2 its form, byte 3 the layer (fuzz_layer_t, or beyond that the attributes), and then what goes there.
 */
#include "fuzz_pki.h"

#include <openssl/err.h>

enum { KINDS = 8 };

/* What was made once, with the keys. */
static struct {
    bytes_t csr;    /* with a challenge and an extension */
    bytes_t bare;   /* without */
    bytes_t foreign; /* of another key */
    bytes_t inquiry;
    bytes_t poll;
    X509 *issued;   /* the device's certificate of our CA */
} made;

static void make_all(pki_t *pki)
{
    pki_csr_t csr = {.key = pki->device_key,
                     .challenges = {{V_ASN1_PRINTABLESTRING, "a challenge", 11}},
                     .extension = "1.2.3.4"};
    pki_csr_t bare = {.key = pki->device_key};
    pki_csr_t foreign = {.key = pki->other_key};
    pki_certificate_t leaf = {
        .subject = "device", .key = pki->device_key, .issuer = pki->ca, .issuer_key = pki->ca_key, .serial = 0x1234};

    if (!made.issued) {
        made.issued = pki_certificate_make(pki, &leaf);
        made.csr = pki_csr_make(pki, &csr, pki->pool);
        made.bare = pki_csr_make(pki, &bare, pki->pool);
        made.foreign = pki_csr_make(pki, &foreign, pki->pool);
        made.inquiry = pki_inquiry_make(made.issued, pki->pool);
        made.poll = pki_poll_make(X509_get_subject_name(pki->ca), X509_get_subject_name(made.issued), pki->pool);
    }
}

static pki_message_t message_of(pki_t *pki, unsigned kind)
{
    static const char *const types[KINDS] = {"19", "19", "19", "17", "20", "21", "22", "3"};
    const bytes_t plains[KINDS] = {made.csr,  made.bare,    made.foreign, made.foreign,
                                   made.poll, made.inquiry, made.inquiry, made.csr};
    pki_message_t message = pki_request(pki, plains[kind % KINDS]);

    message.type = types[kind % KINDS];
    if (kind % KINDS == 3 || kind % KINDS == 5 || kind % KINDS == 6) {
        message.signer = made.issued;
    }
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
    message->pss = form & 128 && !message->ber;
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
    } else if (request->type == SCEP_CERTPOLL) {
        fuzz_check(request->poll.issuer && request->poll.subject);
    } else {
        fuzz_check(request->inquiry.issuer && request->inquiry.serial);
    }
}

/* Behind a good signature nothing but the policy tells what was wrong in the envelope. */
static void refused_check(problem_t problem, fuzz_layer_t layer, unsigned form)
{
    bool is_inner = layer == FUZZ_PLAIN || layer == FUZZ_PLAIN_IS;

    if (is_inner && (form & 3) != 3) {
        fuzz_check(problem == PROBLEM_BAD_ENVELOPE || problem == PROBLEM_KEY_TOO_SMALL ||
                   problem == PROBLEM_SID_EXTENSION || problem == PROBLEM_CHALLENGE_TWICE ||
                   problem == PROBLEM_UNSUPPORTED_MESSAGE);
    } else if (layer == FUZZ_ENVELOPE) {
        fuzz_check(problem == PROBLEM_BAD_ENVELOPE || problem == PROBLEM_BAD_ALGORITHM ||
                   problem == PROBLEM_UNSUPPORTED_MESSAGE);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_t *fuzz = fuzz_begin(data, size);
    pki_t *pki = fuzz_pki();
    scep_request_t *request = NULL;
    result_t *result = result_make(fuzz->pool);

    make_all(pki);
    pki_message_t message = message_of(pki, fuzz_byte(fuzz));
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
