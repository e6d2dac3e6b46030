/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A SCEP message in words, for people who look at one: everything that can be said of it, good or not. Nothing here
 * decides anything; what a gateway takes is decided in message_open.c. Takes hostile input.
 */
#ifndef ISCEP_SCEP_VIEW_H
#define ISCEP_SCEP_VIEW_H

#include "message.h"

#include <apr_tables.h>

typedef struct scep_field_t {
    const char *name;
    const char *value; /**< raw UTF-8, perhaps of a stranger: escape it before it is shown */
} scep_field_t;

/** One thing with its facts: the message, its signer, its envelope, a recipient, a certificate … */
typedef struct scep_part_t {
    const char *name;
    apr_array_header_t *fields; /**< of scep_field_t */
} scep_part_t;

typedef struct scep_view_t {
    apr_array_header_t *parts; /**< of scep_part_t *, from the outside to the inside */
    const csr_t *csr;          /**< of the certificate request in it, once it could be read; else NULL */
    scep_part_t *csr_part;     /**< where its facts are, for the caller to add to; its challenge is not among them */
} scep_view_t;

/** Whom the message may be for. */
typedef struct scep_view_key_t {
    X509 *certificate;
    EVP_PKEY *key;
} scep_view_key_t;

/**
 * Looks at a SCEP message, at what GetCACert gives, at a certificate or at a certificate request.
 * @param key opens the envelope; or NULL.
 * @param why on failure: what it is not.
 */
apr_status_t scep_view_make(scep_view_t **view, const scep_engine_t *engine, bytes_t der, const scep_view_key_t *key,
                            apr_pool_t *pool, const char **why);

#endif
