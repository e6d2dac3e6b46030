/* SPDX-License-Identifier: Apache-2.0 */
/* Private to scep/: the signed attributes of a SCEP message (RFC 8894 section 3.2.1). */
#ifndef ISCEP_SCEP_MESSAGE_ATTRIBUTES_H
#define ISCEP_SCEP_MESSAGE_ATTRIBUTES_H

#include "base/bytes.h"
#include "scep.h"

#include <openssl/cms.h>

typedef enum scep_attribute_name_t {
    ATTRIBUTE_MESSAGE_TYPE,
    ATTRIBUTE_PKI_STATUS,
    ATTRIBUTE_FAIL_INFO,
    ATTRIBUTE_SENDER_NONCE,
    ATTRIBUTE_RECIPIENT_NONCE,
    ATTRIBUTE_TRANSACTION_ID,
    ATTRIBUTE_FAIL_INFO_TEXT,
    ATTRIBUTE_COUNT
} scep_attribute_name_t;

/** ODD: there twice, with no or several values, or of another ASN.1 type than the RFC's; texts may be of three types. */
typedef enum scep_attribute_state_t { ATTRIBUTE_MISSING, ATTRIBUTE_GOOD, ATTRIBUTE_ODD } scep_attribute_state_t;

typedef struct scep_attribute_t {
    scep_attribute_state_t state;
    bytes_t value; /**< where GOOD; borrowed from the message, and empty otherwise */
} scep_attribute_t;

typedef struct scep_attributes_t {
    scep_attribute_t of[ATTRIBUTE_COUNT];
} scep_attributes_t;

/** Reads the attributes that SCEP knows in one pass; others are ignored. */
void scep_attributes_read(scep_attributes_t *attributes, const CMS_SignerInfo *signer_info);

/** The RFC's name of an attribute: "transactionID" … */
const char *scep_attribute_name(scep_attribute_name_t name);

/** A GOOD attribute of one or two decimal digits; -1 for anything else. */
int scep_attribute_number(const scep_attribute_t *attribute);

/** Whether it is GOOD and can be a transactionID: 1 to 255 printable ASCII characters. */
bool scep_attribute_is_transaction_id(const scep_attribute_t *attribute);

/** Whether it is GOOD and can be a nonce: 1 to 64 bytes. */
bool scep_attribute_is_nonce(const scep_attribute_t *attribute);

#endif
