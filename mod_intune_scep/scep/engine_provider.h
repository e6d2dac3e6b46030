/* SPDX-License-Identifier: Apache-2.0 */
/*
 * OpenSSL's default provider in parts. OpenSSL 3.0 copies the list of all algorithms that a library context has fetched so
 * far, and asks all its key managers and decoders one by one, whenever it reads a public key, so in every certificate and
 * certificate request: with the whole provider some 0.1 to 0.2 ms for each of the four of an enrolment, together as much
 * as the private operations. In a context that knows no more than how to read such keys and verify with them it is a third.
 */
#ifndef ISCEP_SCEP_ENGINE_PROVIDER_H
#define ISCEP_SCEP_ENGINE_PROVIDER_H

#include <openssl/types.h>

/** What of the default provider a context gets. The only kinds of keys are RSA, RSA-PSS, EC, Ed25519 and Ed448. */
typedef enum scep_part_of_provider_t {
    PROVIDER_OUR_KEYS, /**< everything, but other kinds of keys cannot be read */
    PROVIDER_READING   /**< public keys can be read, and signatures be verified; digests, and nothing else */
} scep_part_of_provider_t;

/**
 * Loads a part of it into `context`. `whole` is the default provider, loaded into another context; it does the work and
 * must live longer. NULL on failure, with OpenSSL's errors.
 */
OSSL_PROVIDER *scep_provider_load(OSSL_LIB_CTX *context, OSSL_PROVIDER *whole, scep_part_of_provider_t part);

#endif
