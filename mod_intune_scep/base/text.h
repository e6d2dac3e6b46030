/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ISCEP_BASE_TEXT_H
#define ISCEP_BASE_TEXT_H

#include "bytes.h"

#include <apr_pools.h>

/**
 * A copy of text from outside that is safe in a log line or a header: everything but printable ASCII, and also `"` and
 * `\`, becomes \xNN. A page escapes `<`, `>`, `&` and `'`, and JSON the backslashes, on top. What is longer than `max`
 * source bytes ends in "...". NULL gives "-".
 */
const char *text_escape(apr_pool_t *pool, const char *text, apr_size_t max);

/** The same for bytes that may hold NULs. */
const char *text_escape_bytes(apr_pool_t *pool, bytes_t bytes, apr_size_t max);

/**
 * What text_escape() made, for where more than ASCII is allowed: its `"`, `\` and bytes above ASCII are themselves again, and
 * control characters stay escaped. They need not be UTF-8, if the text was cut between them.
 */
const char *text_unescape(apr_pool_t *pool, const char *text);

/** A copy of UTF-8 text of at most `max` bytes, cut between characters, with broken sequences replaced by "?". */
const char *text_cut_utf8(apr_pool_t *pool, const char *text, apr_size_t max);

/** Upper-case hexadecimal. */
const char *text_hex(apr_pool_t *pool, bytes_t bytes);

/** Base64 in one line (RFC 4648, padded). */
const char *text_base64(apr_pool_t *pool, bytes_t bytes);

/** The same in the alphabet of URLs and without padding (RFC 4648 section 5), as JWTs have it. */
const char *text_base64url(apr_pool_t *pool, bytes_t bytes);

/** A random version 4 UUID in lower case. */
const char *text_uuid(apr_pool_t *pool);

/** `n` random bytes from OpenSSL's generator, as upper-case hexadecimal; NULL when it has none to give. */
const char *text_random_hex(apr_pool_t *pool, apr_size_t n);

#endif
