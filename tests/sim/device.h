/* SPDX-License-Identifier: Apache-2.0 */
/* The SCEP test device: what its command line says, and one device's things. */
#ifndef SIM_DEVICE_H
#define SIM_DEVICE_H

#include "cms_tools.h"

#include <apr_tables.h>

typedef struct {
    OSSL_LIB_CTX *libctx;
    const char *ra, *out, *key, *subject, *challenge, *challenge_file, *challenge_type, *transaction, *cipher, *digest;
    const char *signer_cert, *signer_key, *breakage, *csr, *key_usage, *eku, *serial;
    const char *dir, *ca, *message; /* answer, get-message */
    const char *again, *list;
    apr_array_header_t *sans, *recipients;
    int count, bits, type, index; /* type 0: 19, or what the message was the first time */
    bool oaep, ber, critical_aki, new_signer;
    /* Loaded once for all devices. */
    STACK_OF(X509) * envelope_to;
    EVP_PKEY *shared_key;
    EVP_PKEY *other_key; /* a stranger's, for --break; made at first use */
    apr_array_header_t *challenges;
    X509 *signer_cert_read;
    EVP_PKEY *signer_key_read;
    sim_bytes_t csr_read;
    STACK_OF(X509) *chain_read, *ra_read; /* answers: of --ca and --ra */
    /* The key that was read last: many devices may have the same. */
    sim_bytes_t last_pem;
    EVP_PKEY *last_key;
    apr_pool_t *last_pool;
    apr_pool_t *pool;
} device_options_t;

typedef struct {
    int number, type;
    EVP_PKEY *key;        /* the CSR's */
    EVP_PKEY *signer_key; /* the message's */
    X509 *signer;
    sim_bytes_t csr, message, transaction, sender_nonce;
    apr_pool_t *pool;
} device_t;

/* All return false after saying why on stderr. */
bool device_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
bool device_breaks(const device_options_t *options, const char *what);
EVP_PKEY *device_other_key(device_options_t *options);

/* The path DIR/N.suffix. */
char *device_path(const char *dir, int number, const char *suffix, apr_pool_t *pool);
/* NULL without a word: there is none. */
EVP_PKEY *device_key_read(device_options_t *options, const char *path, apr_pool_t *pool);
/* Fills in what an earlier message left in the directory --again. */
bool device_again(device_options_t *options, device_t *device);

bool device_request(device_options_t *options);
bool device_csr_make(device_options_t *options, device_t *device);
bool device_message_make(device_options_t *options, device_t *device);
/* Prints one JSON object; true where the message is a CertRep that could be opened. */
bool device_answer(device_options_t *options);
/* The same for each line of --list; false: the list cannot be read. */
bool device_answers(device_options_t *options);
bool device_get_message(device_options_t *options);

#endif
