/* SPDX-License-Identifier: Apache-2.0 */
/* Private to scep/: the two files that look at a message for people. */
#ifndef ISCEP_SCEP_VIEW_INTERNAL_H
#define ISCEP_SCEP_VIEW_INTERNAL_H

#include "message_cms.h"
#include "parts.h"
#include "view.h"

typedef struct viewer_t {
    scep_view_t *view;
    const scep_engine_t *engine;
    const scep_view_key_t *key;
    apr_pool_t *pool;
} viewer_t;

scep_part_t *scep_view_part(viewer_t *viewer, const char *name);

/** A NULL value adds nothing. */
void scep_view_add(viewer_t *viewer, scep_part_t *part, const char *name, const char *value);

/* view_objects.c */

void scep_view_certificate(viewer_t *viewer, const char *name, X509 *certificate);
void scep_view_csr(viewer_t *viewer, bytes_t der, const X509 *signer);
void scep_view_crl(viewer_t *viewer, X509_CRL *list);

/** Certificates and revocation lists of a SignedData, but not `known`. */
void scep_view_bag(viewer_t *viewer, CMS_ContentInfo *cms, const X509 *known);

/** "RSA, 2048 bits" */
const char *scep_view_key(const X509_PUBKEY *key, apr_pool_t *pool);

/** An object identifier by OpenSSL's name, or in numbers. */
const char *scep_view_object(const ASN1_OBJECT *object, apr_pool_t *pool);

#endif
