/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The CA's CertRep, encrypted and signed as it should be, around what the input says: byte 1 what was asked and answered,
 * byte 2 the form, byte 3 the layer (fuzz_layer_t, or beyond that the attributes), and then what goes there.
 */
#include "fuzz_pki.h"

#include <openssl/err.h>

enum { KINDS = 8 };

static struct {
    scep_relay_t *relay; /* of a PKCSReq */
    scep_relay_t inquiry;
    X509 *issued;
    bytes_t der; /* of it */
    bytes_t crl;
    bytes_t leaf, all, without, crls; /* degenerate SignedData */
} made;

static void relay_make(pki_t *pki)
{
    pki_csr_t csr = {.key = pki->device_key};
    pki_message_t message = pki_request(pki, pki_csr_make(pki, &csr, pki->pool));
    scep_algorithms_t use = {SCEP_AES128, SCEP_SHA256};
    scep_request_t *request = NULL;
    result_t *result = result_make(pki->pool);
    bytes_t der = pki_message_make(pki, &message, pki->pool);

    fuzz_check(!scep_request_open(&request, pki->identity, &pki->policy, der, pki->pool, result));
    fuzz_check(!scep_relay_build(&made.relay, pki->identity, request, use, pki->pool, result));
    made.inquiry = *made.relay;
    made.inquiry.inquiry.der = pki_inquiry_make(made.issued, pki->pool);
    made.inquiry.inquiry.issuer = "CN=issuing CA";
    made.inquiry.inquiry.serial = "1234";
}

static void make_all(pki_t *pki)
{
    pki_certificate_t leaf = {
        .subject = "device", .key = pki->device_key, .issuer = pki->ca, .issuer_key = pki->ca_key, .serial = 0x1234};
    pki_crl_t crl = {.issuer = pki->ca, .issuer_key = pki->ca_key, .revoked = {pki->other}};

    if (!made.relay) {
        made.issued = pki_certificate_make(pki, &leaf);
        made.der = pki_certificate_der(made.issued, pki->pool);
        made.crl = pki_crl_make(pki, &crl, pki->pool);
        made.leaf = pki_degenerate_make(pki, made.issued, NULL, NULL, pki->pool);
        made.all = pki_degenerate_make(pki, pki->root, pki->ca, made.issued, pki->pool);
        made.without = pki_degenerate_make(pki, pki->ca, NULL, NULL, pki->pool);
        made.crls = pki_crl_degenerate_make(pki, made.crl, (bytes_t){NULL, 0}, made.issued, pki->pool);
        relay_make(pki);
    }
}

static scep_relay_t relay_of(unsigned kind)
{
    static const scep_message_type_t types[KINDS] = {SCEP_PKCSREQ, SCEP_PKCSREQ, SCEP_PKCSREQ, SCEP_CERTPOLL,
                                                     SCEP_GETCERT, SCEP_GETCRL,  SCEP_PKCSREQ, SCEP_PKCSREQ};
    scep_relay_t relay = kind == 4 || kind == 5 ? made.inquiry : *made.relay;

    relay.type = types[kind];
    return relay;
}

static pki_message_t message_of(pki_t *pki, const scep_relay_t *relay, unsigned kind)
{
    const bytes_t inners[KINDS] = {made.leaf, made.all, made.without, made.leaf,
                                   made.all,  made.crls, made.leaf,   made.leaf};
    pki_message_t message = pki_answer(pki, relay, inners[kind]);

    if (kind == 6) {
        message.status = "2";
        message.fail_info = "4";
        message.text = "not today";
        message.no_content = true;
    } else if (kind == 7) {
        message.status = "3";
        message.no_content = true;
    }
    return message;
}

static void form_set(pki_t *pki, pki_message_t *message, unsigned form)
{
    static const char *const ciphers[] = {NULL, "AES-256-CBC", "DES-EDE3-CBC", "DES-CBC"};

    message->cipher = ciphers[form & 3];
    message->digest = form & 4 ? "SHA-1" : NULL;
    /* a content that is left out has no other form */
    message->ber = form & 8 && !message->no_content;
    message->oaep = form & 16;
    message->no_certificate = form & 64;
    if (form & 128) {
        message->signer = pki->other;
        message->signer_key = pki->other_key;
    } else if (form & 32) {
        message->extra_certificate = pki->other;
    }
}

/* pkiStatus, failInfo, failInfoText, transactionID, recipientNonce, messageType; then as for a request. */
static void attributes_set(fuzz_t *fuzz, pki_message_t *message)
{
    message->status = fuzz_text(fuzz);
    message->fail_info = fuzz_text(fuzz);
    message->text = fuzz_text(fuzz);
    bytes_t id = fuzz_part(fuzz);
    bytes_t nonce = fuzz_part(fuzz);
    const char *type = fuzz_text(fuzz);
    message->transaction_id = id.len ? id : message->transaction_id;
    message->recipient_nonce = nonce.len ? nonce : message->recipient_nonce;
    message->type = *type ? type : message->type;
    message->without = fuzz_byte(fuzz);
    message->twice = fuzz_byte(fuzz);
    message->two_values = fuzz_byte(fuzz);
    message->wrong_type = fuzz_byte(fuzz);
}

/* No change makes another certificate or list of the one that was signed. */
static void taken_check(const pki_t *pki, const scep_answer_t *answer, const scep_relay_t *relay, const pki_message_t *message)
{
    fuzz_check(message->signer_key != pki->other_key);
    fuzz_check(bytes_equal(message->transaction_id, bytes_of_text(relay->transaction_id)));
    fuzz_check(bytes_equal(message->recipient_nonce, relay->sender_nonce));
    if (answer->status != SCEP_SUCCESS) {
        fuzz_check(!answer->certificate && !answer->crl.len);
        fuzz_check(answer->fail_info <= SCEP_BAD_CERT_ID);
        fuzz_check(!answer->fail_info_text || strlen(answer->fail_info_text) <= 255);
    } else if (relay->type == SCEP_GETCRL) {
        fuzz_check(!answer->certificate && bytes_equal(answer->crl, made.crl));
    } else {
        fuzz_check(X509_cmp(answer->certificate, made.issued) == 0);
        fuzz_check(bytes_equal(answer->certificate_der, made.der) && !strcmp(answer->facts.serial, "1234"));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_t *fuzz = fuzz_begin(data, size);
    pki_t *pki = fuzz_pki();
    scep_answer_t *answer = NULL;
    result_t *result = result_make(fuzz->pool);

    make_all(pki);
    unsigned kind = fuzz_byte(fuzz) % KINDS;
    scep_relay_t relay = relay_of(kind);
    pki_message_t message = message_of(pki, &relay, kind);
    form_set(pki, &message, fuzz_byte(fuzz));
    fuzz_layer_t layer = (fuzz_layer_t)(fuzz_byte(fuzz) % (FUZZ_LAYERS + 1));

    if (message.no_content && layer != FUZZ_LAYERS) {
        layer = FUZZ_MESSAGE;
    }
    if (layer == FUZZ_LAYERS) {
        attributes_set(fuzz, &message);
    }
    bytes_t der = fuzz_message_make(fuzz, pki, &message, layer);
    apr_status_t rv = scep_answer_open(&answer, pki->identity, &pki->policy, &relay, der, fuzz->pool, result);

    fuzz_check((rv == APR_SUCCESS) == (result->problem == PROBLEM_NONE));
    fuzz_check(ERR_peek_error() == 0);
    if (rv == APR_SUCCESS) {
        taken_check(pki, answer, &relay, &message);
    } else {
        fuzz_check(!answer->certificate && !answer->crl.len);
    }
    if (layer == FUZZ_PLAIN || layer == FUZZ_PLAIN_IS || layer == FUZZ_MESSAGE) {
        pki_look(pki, der);
    }
    return fuzz_end(fuzz);
}
