/* SPDX-License-Identifier: Apache-2.0 */
/* The words of RFC 8894, and the few limits that we add. */
#ifndef ISCEP_SCEP_SCEP_H
#define ISCEP_SCEP_SCEP_H

/** messageType, section 3.2.1.2. */
typedef enum scep_message_type_t {
    SCEP_CERTREP = 3,
    SCEP_RENEWALREQ = 17,
    SCEP_PKCSREQ = 19,
    SCEP_CERTPOLL = 20,
    SCEP_GETCERT = 21,
    SCEP_GETCRL = 22
} scep_message_type_t;

/** pkiStatus, section 3.2.1.3. */
typedef enum scep_pki_status_t { SCEP_SUCCESS = 0, SCEP_FAILURE = 2, SCEP_PENDING = 3 } scep_pki_status_t;

/** failInfo, section 3.2.1.4. */
typedef enum scep_fail_info_t {
    SCEP_BAD_ALG = 0,
    SCEP_BAD_MESSAGE_CHECK = 1,
    SCEP_BAD_REQUEST = 2,
    SCEP_BAD_TIME = 3,
    SCEP_BAD_CERT_ID = 4
} scep_fail_info_t;

/** As the RFC names them. */
extern const char *const SCEP_FAIL_INFO_NAMES[SCEP_BAD_CERT_ID + 1];

/** Content ciphers, as bits of a set. */
enum { SCEP_DES = 1, SCEP_DES3 = 2, SCEP_AES128 = 4, SCEP_AES192 = 8, SCEP_AES256 = 16 };

/** Digests, as bits of a set. */
enum { SCEP_MD5 = 1, SCEP_SHA1 = 2, SCEP_SHA224 = 4, SCEP_SHA256 = 8, SCEP_SHA384 = 16, SCEP_SHA512 = 32 };

typedef struct scep_algorithms_t {
    unsigned ciphers; /**< SCEP_DES … */
    unsigned digests; /**< SCEP_MD5 … */
} scep_algorithms_t;

/** What the CA says in its GetCACaps, section 3.5.2. */
enum {
    SCEP_CAP_AES = 1,
    SCEP_CAP_DES3 = 2,
    SCEP_CAP_SHA1 = 4,
    SCEP_CAP_SHA256 = 8,
    SCEP_CAP_SHA512 = 16,
    SCEP_CAP_POST = 32,
    SCEP_CAP_RENEWAL = 64,
    SCEP_CAP_STANDARD = 128,
    SCEP_CAP_NEXT_CA = 256,
    SCEP_CAP_ASKED = 512,  /**< not the CA's: it was asked, whatever it said */
    SCEP_CAP_SILENT = 1024 /**< not the CA's: it was asked and gave no answer to be used */
};

/* Attribute types, section 3.2.1. */
#define SCEP_OID_MESSAGE_TYPE "2.16.840.1.113733.1.9.2"
#define SCEP_OID_PKI_STATUS "2.16.840.1.113733.1.9.3"
#define SCEP_OID_FAIL_INFO "2.16.840.1.113733.1.9.4"
#define SCEP_OID_SENDER_NONCE "2.16.840.1.113733.1.9.5"
#define SCEP_OID_RECIPIENT_NONCE "2.16.840.1.113733.1.9.6"
#define SCEP_OID_TRANSACTION_ID "2.16.840.1.113733.1.9.7"
#define SCEP_OID_FAIL_INFO_TEXT "1.3.6.1.5.5.7.24.1"
#define SCEP_OID_SID_EXTENSION "1.3.6.1.4.1.311.25.2"

enum { SCEP_NONCE_LENGTH = 16, SCEP_NONCE_MAX = 64, SCEP_TRANSACTION_ID_MAX = 255 };

#define SCEP_TYPE_MESSAGE "application/x-pki-message"
#define SCEP_TYPE_CA_CERT "application/x-x509-ca-cert"
#define SCEP_TYPE_CA_RA_CERT "application/x-x509-ca-ra-cert"

#endif
