/* SPDX-License-Identifier: Apache-2.0 */
/* The signed client assertion of a certificate credential: a JWT (RFC 7519, RFC 7523 section 3) as Entra wants it. */
#ifndef ISCEP_INTUNE_ASSERTION_H
#define ISCEP_INTUNE_ASSERTION_H

#include "intune/app_certificate.h"

/** How long an assertion is good for, in seconds: Entra allows ten minutes, and it is used at once. */
enum { ASSERTION_LIFE = 300 };

/**
 * A fresh assertion, signed PS256 (RSASSA-PSS with SHA-256): header alg, typ, x5t#S256; claims aud = `audience`, iss =
 * sub = `app_id`, jti (random), nbf, iat, exp. It is a credential while it lasts, and is overwritten when the pool
 * goes.
 * @return NULL where it cannot be signed; then `message` is OpenSSL's reason in one escaped line.
 */
const char *assertion_make(const app_pair_t *pair, const char *audience, const char *app_id, apr_pool_t *pool,
                           const char **message);

#endif
