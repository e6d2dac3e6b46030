/* SPDX-License-Identifier: Apache-2.0 */
/* Whole messages, as bytes: from a device, from the CA, and what GetCACert gives. Most end before a signature is verified. */
#include "fuzz_pki.h"

#include "scep/client.h"

#include <openssl/err.h>

static void request_try(fuzz_t *fuzz, const pki_t *pki)
{
    scep_request_t *request = NULL;
    result_t *result = result_make(fuzz->pool);
    apr_status_t rv = scep_request_open(&request, pki->identity, &pki->policy, fuzz->rest, fuzz->pool, result);

    fuzz_check((rv == APR_SUCCESS) == (result->problem == PROBLEM_NONE));
    fuzz_check(request || result->problem == PROBLEM_NOT_SCEP);
    if (request) {
        apr_size_t length = strlen(request->transaction_id);

        fuzz_check(length >= 1 && length <= SCEP_TRANSACTION_ID_MAX);
        fuzz_check(request->sender_nonce.len >= 1 && request->sender_nonce.len <= SCEP_NONCE_MAX);
    }
    fuzz_check(ERR_peek_error() == 0);
}

static void answer_try(fuzz_t *fuzz, const pki_t *pki)
{
    scep_relay_t relay = {.transaction_id = "T", .sender_nonce = bytes_of_text("N"), .type = SCEP_PKCSREQ};
    scep_answer_t *answer = NULL;
    result_t *result = result_make(fuzz->pool);

    fuzz_check(scep_answer_open(&answer, pki->identity, &pki->policy, &relay, fuzz->rest, fuzz->pool, result));
    fuzz_check(result->problem == PROBLEM_CA_GARBAGE || result->problem == PROBLEM_CA_FOREIGN_SIGNER);
    fuzz_check(!answer->certificate && !answer->crl.len);
    fuzz_check(ERR_peek_error() == 0);
}

static void certificates_try(fuzz_t *fuzz, const pki_t *pki)
{
    scep_ca_t *ca = NULL;
    const char *why = NULL;

    if (scep_ca_read(&ca, pki->engine, fuzz->rest, fuzz->pool, &why)) {
        fuzz_check(why);
        return;
    }
    int all = sk_X509_num(ca->certificates);

    fuzz_check(all > 0 && sk_X509_num(ca->chain) > 0 && sk_X509_num(ca->chain) + sk_X509_num(ca->ras) <= all);
    for (int i = 0; i < all; i++) {
        certificate_facts_t facts = {.serial = NULL};

        if (!certificate_facts(&facts, sk_X509_value(ca->certificates, i), fuzz->pool)) {
            fuzz_check(facts.serial && strlen(facts.serial) % 2 == 0 && strlen(facts.thumbprint) == 40);
            fuzz_check(strlen(facts.not_after) == 24 && facts.issuer && facts.subject);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_t *fuzz = fuzz_begin(data, size);
    const pki_t *pki = fuzz_pki();

    request_try(fuzz, pki);
    answer_try(fuzz, pki);
    certificates_try(fuzz, pki);
    pki_look(pki, fuzz->rest);
    return fuzz_end(fuzz);
}
