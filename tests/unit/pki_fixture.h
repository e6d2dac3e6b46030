/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small PKI for the tests of scep/, made at run time, and messages of devices and CAs that can be wrong in every way.
 * The process-wide OpenSSL context gets no algorithms at all, so that whatever leaves the engine's own fails.
 */
#ifndef ISCEP_TESTS_PKI_FIXTURE_H
#define ISCEP_TESTS_PKI_FIXTURE_H

#include "scep/message.h"

#include <openssl/cms.h>

typedef struct pki_t {
    apr_pool_t *pool;
    scep_engine_t *engine;
    EVP_PKEY *root_key; /* EC */
    EVP_PKEY *ca_key;
    EVP_PKEY *ra_key;
    EVP_PKEY *device_key;
    EVP_PKEY *other_key;
    EVP_PKEY *small_key; /* RSA, 1024 bits */
    EVP_PKEY *ec_key;
    X509 *root;
    X509 *ca;     /* issued by root */
    X509 *ra;     /* issued by ca */
    X509 *device; /* self-signed */
    X509 *other;  /* self-signed, of other_key */
    STACK_OF(X509) *chain; /* ca, root */
    scep_identity_t *identity;
    scep_policy_t policy;
} pki_t;

#define must(condition) pki_must(!!(condition), #condition, __FILE__, __LINE__)
void pki_must(bool good, const char *what, const char *file, int line);

/** Call first in main(): apr_initialize(), and nothing may come from the process-wide OpenSSL context. */
void pki_global_init(void);
void pki_global_end(void);

/** Aborts the program on any failure, as all of this file does. All keys live as long as `pool`. */
pki_t *pki_make(apr_pool_t *pool);

typedef struct pki_certificate_t {
    const char *subject; /* common name */
    EVP_PKEY *key;
    X509 *issuer; /* NULL: self-signed */
    EVP_PKEY *issuer_key;
    long from;  /* seconds from now */
    long until; /* seconds from now; 0: a day */
    bool ca;
    const char *usage;    /* "digitalSignature,keyEncipherment", or NULL */
    const char *purpose;  /* extended key usage, or NULL */
    const char *critical; /* OID of a critical extension that nobody knows, or NULL */
    const char *crl_at;   /* URI of a CRL distribution point, or NULL */
    int relative_points;  /* distribution points whose names are relative to the issuer's */
    const char *digest;   /* NULL: SHA-256 */
    long serial;          /* 0: a fresh one */
} pki_certificate_t;

/** Freed with the fixture's pool. */
X509 *pki_certificate_make(pki_t *pki, const pki_certificate_t *wanted);

typedef struct pki_value_t {
    int type; /* V_ASN1_… */
    const char *data;
    int len;
} pki_value_t;

/** Of requested extensions, in front of the attribute with `extension`. */
typedef enum pki_list_t {
    PKI_NO_LIST,
    PKI_HARMLESS_LIST,       /* in the attribute of the other kind */
    PKI_LIST_OF_THE_KIND,    /* a harmless one in an attribute of the same kind */
    PKI_LIST_WITHOUT_VALUE,  /* an attribute of the same kind with no value in it */
    PKI_LIST_IN_IT           /* a harmless one as another value of the same attribute */
} pki_list_t;

typedef struct pki_csr_t {
    EVP_PKEY *key;
    EVP_PKEY *signer;                /* NULL: the key itself */
    const char *subject;             /* NULL: "device" */
    pki_value_t challenges[4];       /* one attribute each, up to the first with type 0 */
    bool one_attribute;              /* all challenges as values of one attribute */
    const char *extension;           /* OID of a requested extension, or NULL */
    bool microsoft;                  /* in Microsoft's attribute */
    pki_list_t list_too;
    bool extension_twice;            /* `extension` stands in its list twice */
    bool broken_extensions;          /* an extensionRequest that is none */
    bool no_null;                    /* the RSA key's AlgorithmIdentifier has no parameters at all */
} pki_csr_t;

bytes_t pki_csr_make(pki_t *pki, const pki_csr_t *wanted, apr_pool_t *pool);

/* Bits of `without`, `twice`, `two_values` and `wrong_type`. */
enum {
    PKI_MESSAGE_TYPE = 1,
    PKI_TRANSACTION_ID = 2,
    PKI_SENDER_NONCE = 4,
    PKI_RECIPIENT_NONCE = 8,
    PKI_STATUS = 16,
    PKI_FAIL_INFO = 32,
    PKI_FAIL_INFO_TEXT = 64
};

typedef struct pki_message_t {
    const char *type;       /* messageType */
    const char *status;     /* or NULL */
    const char *fail_info;  /* or NULL */
    const char *text;       /* failInfoText, or NULL */
    int text_type;          /* of it, V_ASN1_…; 0: UTF8String */
    int texts_type;         /* of messageType and whatever else is a PrintableString, V_ASN1_…; 0: that */
    bytes_t transaction_id;
    bytes_t sender_nonce;
    bytes_t recipient_nonce; /* or empty */
    unsigned without;
    unsigned twice;
    unsigned two_values;
    unsigned wrong_type;

    X509 *signer;
    EVP_PKEY *signer_key;
    const char *digest;     /* NULL: SHA-256 */
    bool no_certificate;    /* the signer's certificate is left out */
    X509 *extra_certificate; /* put in too, or NULL */
    bool two_signers;
    bool pss;               /* signed by RSASSA-PSS */

    bytes_t plain;          /* goes into the envelope */
    bytes_t content;        /* instead of an envelope */
    bool no_content;
    X509 *recipient;
    X509 *first_recipient;  /* another one in front, or NULL */
    const char *cipher;     /* NULL: AES-128-CBC */
    bool oaep;
    int inner_type;         /* NID of the envelope's content type; 0: data */
    int outer_type;         /* NID of the eContentType; 0: data */
    bool ber;               /* indefinite lengths, chunked OCTET STRINGs */
} pki_message_t;

/** A good PKCSReq of the device for `csr`. */
pki_message_t pki_request(pki_t *pki, bytes_t csr);

/** A good CertRep SUCCESS of the CA for `relay` with `inner`. */
pki_message_t pki_answer(pki_t *pki, const scep_relay_t *relay, bytes_t inner);

bytes_t pki_message_make(pki_t *pki, const pki_message_t *wanted, apr_pool_t *pool);

/** An envelope alone, as in the message. */
bytes_t pki_envelope_make(pki_t *pki, const pki_message_t *wanted, apr_pool_t *pool);

/** Certificates (up to the first NULL) as a degenerate SignedData, by OpenSSL's old PKCS #7 code. */
bytes_t pki_degenerate_make(pki_t *pki, X509 *first, X509 *second, X509 *third, apr_pool_t *pool);

bytes_t pki_certificate_der(X509 *certificate, apr_pool_t *pool);

bytes_t pki_bio_take(BIO *bio, apr_pool_t *pool);

/* pki_more.c */

/** Looks at a message as a person would (scep/view.h), with the RA's key and without: whatever it is, that must be safe. */
void pki_look(const pki_t *pki, bytes_t der);

typedef struct pki_crl_t {
    X509 *issuer;
    EVP_PKEY *issuer_key;
    long from;       /* lastUpdate, seconds from now */
    long until;      /* nextUpdate, seconds from now; 0: a day */
    bool for_ever;   /* without nextUpdate */
    bool delta;      /* a delta list */
    bool only_cas;   /* an issuingDistributionPoint for CA certificates only */
    const char *at;  /* URI of its distribution point, or NULL */
    bool relative;   /* a distribution point named relative to the issuer */
    int at_entry;    /* NID of an extension of the first entry, or 0 */
    bool critical;   /* as that is */
    const char *is;  /* what is in it, DER */
    X509 *revoked[3]; /* up to the first NULL */
} pki_crl_t;

/** DER. */
bytes_t pki_crl_make(pki_t *pki, const pki_crl_t *wanted, apr_pool_t *pool);

/** Revocation lists (the second may be empty) as a degenerate SignedData. */
bytes_t pki_crl_degenerate_make(pki_t *pki, bytes_t first, bytes_t second, X509 *certificate, apr_pool_t *pool);

/** The IssuerAndSerialNumber of a certificate. */
bytes_t pki_inquiry_make(X509 *certificate, apr_pool_t *pool);

/** An IssuerAndSubject. */
bytes_t pki_poll_make(const X509_NAME *issuer, const X509_NAME *subject, apr_pool_t *pool);

/** An RSA public key of so many bits that nobody has the private half of; `e_bits` 0: 65537. */
EVP_PKEY *pki_public_rsa_make(pki_t *pki, int bits, int e_bits);

/** An elliptic key whose curve is spelled out. */
EVP_PKEY *pki_explicit_ec_make(pki_t *pki);

/** An RSA key that says of itself that it is for RSASSA-PSS only. */
EVP_PKEY *pki_pss_key_make(pki_t *pki);

/** What a device finds in a CertRep. Texts are NULL where the attribute is missing. */
typedef struct pki_certrep_t {
    const char *type;
    const char *status;
    const char *fail_info;
    const char *text;
    const char *transaction_id;
    bytes_t sender_nonce;
    bytes_t recipient_nonce;
    const char *digest;
    const char *cipher;
    bool has_envelope;            /* else an empty eContent, without which many clients verify no signature */
    int outer_certificates;
    STACK_OF(X509) *certificates; /* of the envelope, read by the PKCS #7 code; NULL without; freed with the pool */
    int crls;                     /* how many revocation lists there are in the envelope */
    bytes_t crl;                  /* the first of them, DER */
} pki_certrep_t;

/** Verifies and opens a CertRep as the holder of `key` does; NULL where it is not a good one of the RA. */
pki_certrep_t *pki_certrep_open(pki_t *pki, bytes_t der, X509 *certificate, EVP_PKEY *key, apr_pool_t *pool);

#endif
