/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a value is encrypted and authenticated before it leaves the process: AES-256-GCM with a random nonce, bound to the
 * place where it is kept, so that nobody moves it elsewhere. With random nonces of 96 bits a key is good for some 2^32
 * values.
 */
#ifndef ISCEP_BASE_SEAL_H
#define ISCEP_BASE_SEAL_H

#include "bytes.h"
#include "state_key.h"

/** What a sealed value is longer than its plaintext. */
enum { SEAL_OVERHEAD = 32 };

/** What seal_open() gives for a value that does not authenticate. */
#define SEAL_BROKEN APR_EACCES

/**
 * Seals `plain`. `sealed` has room for plain.len + SEAL_OVERHEAD bytes, all of which are written. Any thread.
 * @param bound what the value is bound to, at most 64 bytes; it must be the same at seal_open().
 */
apr_status_t seal_close(const unsigned char key[STATE_KEY_DERIVED], bytes_t bound, bytes_t plain,
                        unsigned char *sealed);

/**
 * Opens a sealed value. `plain` has room for sealed.len bytes; the caller cleanses it also where this fails, for then it
 * may hold what did not authenticate.
 * @return SEAL_BROKEN, whatever is wrong with it.
 */
apr_status_t seal_open(const unsigned char key[STATE_KEY_DERIVED], bytes_t bound, bytes_t sealed, unsigned char *plain,
                       apr_size_t *length);

#endif
