/* SPDX-License-Identifier: Apache-2.0 */
/* How SCEP sits in HTTP (RFC 8894 section 4): the query, the GET message, the capabilities. */
#ifndef ISCEP_SCEP_HTTP_SIDE_H
#define ISCEP_SCEP_HTTP_SIDE_H

#include "base/bytes.h"
#include "message.h"

typedef enum scep_operation_t {
    SCEP_OP_NONE,
    SCEP_OP_UNKNOWN,
    SCEP_OP_GETCACAPS,
    SCEP_OP_GETCACERT,
    SCEP_OP_GETNEXTCACERT,
    SCEP_OP_PKIOPERATION
} scep_operation_t;

/**
 * Reads operation and message from a raw query string (not yet unescaped; may be NULL). Parameters come in any order;
 * the names and the operation in any letter case; the first of each counts. `message` is still escaped, "" without.
 */
scep_operation_t scep_query_parse(const char *query, const char **message, apr_pool_t *pool);

/**
 * The PKIOperation message of a GET: percent-decoded (twice where it was encoded twice), white space is a `+` that was
 * not escaped or a line break, URL-safe alphabet and missing padding allowed.
 * @return APR_SUCCESS; APR_ENOSPC where it decodes to more than `max` bytes; APR_EINVAL where it is not base64 or
 * empty.
 */
apr_status_t scep_get_message_decode(bytes_t *der, const char *message, apr_size_t max, apr_pool_t *pool);

/** Our GetCACaps: what `device` allows, one keyword a line. `next_ca`: the CA has GetNextCACert. */
const char *scep_capabilities_print(scep_algorithms_t device, bool next_ca, apr_pool_t *pool);

/** The CA's GetCACaps, as a set of SCEP_CAP_…; unknown lines are ignored, CR and blanks too, any letter case. */
unsigned scep_capabilities_parse(bytes_t text);

/**
 * Parses words such as "AES SHA-256 POSTPKIOperation", blanks or commas between them.
 * @return NULL, or the first word that is unknown.
 */
const char *scep_capabilities_words(unsigned *set, const char *words, apr_pool_t *pool);

/**
 * Cipher and digest, one bit each, for a CA with those capabilities (0: unknown, then what RFC 8894 section 2.9 demands
 * of all), out of what the operator allows. Nothing else is ever chosen: a CA that offers none of it gets the strongest
 * that is allowed.
 */
scep_algorithms_t scep_backend_choose(unsigned capabilities, scep_algorithms_t allowed);

#endif
