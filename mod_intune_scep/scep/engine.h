/* SPDX-License-Identifier: Apache-2.0 */
/*
 * OpenSSL for this module alone: library contexts of its own, apart from the process-wide one, where mod_ssl lives. What
 * others wrote is read, and its signatures are verified, in one that can do only that, since that is what makes it fast
 * (engine_provider.h); all else is done in another, which has the legacy provider, too: micromdm's CA answers in single
 * DES.
 */
#ifndef ISCEP_SCEP_ENGINE_H
#define ISCEP_SCEP_ENGINE_H

#include "base/bytes.h"
#include "base/result.h"
#include "scep.h"

#include <openssl/types.h>

typedef struct scep_engine_t {
    OSSL_LIB_CTX *context; /**< keys, ciphers, random numbers, and what we sign */
    OSSL_LIB_CTX *reading; /**< certificates, certificate requests and SignedData of others */
} scep_engine_t;

/** Makes the contexts; they end with `pool`. PROBLEM_INTERNAL where a provider is missing. */
apr_status_t scep_engine_make(scep_engine_t **engine, apr_pool_t *pool, result_t *result);

/** OpenSSL's pending errors of this thread in one line, escaped; empties the queue. "" when there are none. */
const char *scep_engine_errors(apr_pool_t *pool);

/** Empties the queue. What it tells of memory that was wanting is kept for scep_engine_blame_memory(). */
void scep_engine_clear_errors(void);

/** Whether there is not even memory for a message. */
bool scep_engine_memory_is_short(void);

/** What was found before in this thread counts no more. */
void scep_engine_watch_memory(void);

/**
 * Where memory ran out since scep_engine_watch_memory(), what was found says nothing about a message: `result` becomes
 * PROBLEM_INTERNAL then, with its words kept. Empties the queue.
 */
void scep_engine_blame_memory(result_t *result);

/** The bit of a cipher or digest, 0 for one that SCEP does not use here. Ciphers are CBC only. */
unsigned scep_cipher_of_nid(int nid);
unsigned scep_digest_of_nid(int nid);
/** The name of one bit: "AES-128-CBC", "SHA-256" … as in directives, logs and EVP_…_fetch. */
const char *scep_cipher_name(unsigned bit);
const char *scep_digest_name(unsigned bit);
/**
 * Parses words such as "AES DES3 SHA-1 SHA-256 DES MD5" (any case; "AES" is all three) into the sets.
 * @return NULL, or the first word that is unknown.
 */
const char *scep_algorithms_parse(scep_algorithms_t *algorithms, const char *words, apr_pool_t *pool);

#endif
