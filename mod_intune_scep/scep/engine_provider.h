/* SPDX-License-Identifier: Apache-2.0 */
/*
 * OpenSSL's default provider without the kinds of keys that SCEP has no use for. OpenSSL 3.0 asks all key managers and
 * all decoders of a library context, some 60, one by one whenever it reads a public key, so in every certificate and
 * certificate request: of four such readings for an enrolment each took 0.1 to 0.2 ms, together about as much as the
 * private operations. With the few that are left it is a third of that.
 */
#ifndef ISCEP_SCEP_ENGINE_PROVIDER_H
#define ISCEP_SCEP_ENGINE_PROVIDER_H

#include <openssl/types.h>

/**
 * Loads it into `context`. `whole` is the default provider, loaded into another context; it does the work and must
 * live longer. Of its key managers and decoders those of RSA, RSA-PSS, EC, Ed25519 and Ed448 are left, keys of all
 * other kinds cannot be read; everything else is there. NULL on failure, with OpenSSL's errors.
 */
OSSL_PROVIDER *scep_provider_narrow(OSSL_LIB_CTX *context, OSSL_PROVIDER *whole);

#endif
