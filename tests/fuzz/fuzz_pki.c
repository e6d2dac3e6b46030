/* SPDX-License-Identifier: Apache-2.0 */
/* OpenSSL 3.0 has no other way to make all of its numbers known ones. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "fuzz_pki.h"

#include <openssl/rand.h>
#include <stdlib.h>

static uint64_t numbers;

static int numbers_give(unsigned char *bytes, int count)
{
    for (int i = 0; i < count; i++) {
        numbers = numbers * 6364136223846793005u + 1442695040888963407u;
        bytes[i] = (unsigned char)(numbers >> 56);
    }
    return 1;
}

static apr_pool_t *pki_pool;

/* LeakSanitizer does not look into pools. */
static void pki_end(void)
{
    apr_pool_destroy(pki_pool);
    pki_global_end();
}

static int numbers_ready(void)
{
    return 1;
}

pki_t *fuzz_pki(void)
{
    static RAND_METHOD method = {.bytes = numbers_give, .pseudorand = numbers_give, .status = numbers_ready};
    static pki_t *pki;

    numbers = 1;
    if (!pki) {
        fuzz_check(RAND_set_rand_method(&method) == 1);
        pki_global_init();
        fuzz_check(apr_pool_create(&pki_pool, NULL) == APR_SUCCESS);
        pki = pki_make(pki_pool);
        fuzz_check(atexit(pki_end) == 0);
    }
    return pki;
}

bytes_t fuzz_message_make(fuzz_t *fuzz, pki_t *pki, pki_message_t *message, fuzz_layer_t layer)
{
    bytes_t der = {NULL, 0};

    if (layer == FUZZ_PLAIN) {
        message->plain = fuzz_changed(fuzz, message->plain);
    } else if (layer == FUZZ_PLAIN_IS) {
        message->plain = fuzz->rest;
    } else if (layer == FUZZ_ENVELOPE) {
        message->content = fuzz_changed(fuzz, pki_envelope_make(pki, message, fuzz->pool));
    } else if (layer == FUZZ_ENVELOPE_IS) {
        message->content = fuzz->rest;
    }
    der = pki_message_make(pki, message, fuzz->pool);
    return layer == FUZZ_MESSAGE ? fuzz_changed(fuzz, der) : der;
}
