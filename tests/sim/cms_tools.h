/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the test device and the scripted CA share: OpenSSL and APR odds and ends around CMS. It shares nothing with the
 * module under test. OpenSSL objects that a function returns are owned by the pool it was given unless said otherwise.
 */
#ifndef SIM_CMS_TOOLS_H
#define SIM_CMS_TOOLS_H

#include <stdbool.h>

#include <apr_pools.h>
#include <openssl/cms.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

/* Hidden, so that two stand-ins in one httpd do not meet in each other's functions. */
#pragma GCC visibility push(hidden)

#define OID_MESSAGE_TYPE "2.16.840.1.113733.1.9.2"
#define OID_PKI_STATUS "2.16.840.1.113733.1.9.3"
#define OID_FAIL_INFO "2.16.840.1.113733.1.9.4"
#define OID_SENDER_NONCE "2.16.840.1.113733.1.9.5"
#define OID_RECIPIENT_NONCE "2.16.840.1.113733.1.9.6"
#define OID_TRANSACTION_ID "2.16.840.1.113733.1.9.7"
#define OID_FAIL_INFO_TEXT "1.3.6.1.5.5.7.24.1"

typedef struct {
    unsigned char *data; /* NULL: absent */
    apr_size_t len;
} sim_bytes_t;

/* A library context of our own with the default and the legacy provider (single DES); freed with the pool. */
OSSL_LIB_CTX *sim_libctx_make(apr_pool_t *pool);
/* The newest OpenSSL error as text; empties the queue. */
const char *sim_openssl_error(apr_pool_t *pool);
void *sim_own(apr_pool_t *pool, void *object, apr_status_t (*release)(void *));
EVP_PKEY *sim_own_key(apr_pool_t *pool, EVP_PKEY *key);
X509 *sim_own_cert(apr_pool_t *pool, X509 *cert);
CMS_ContentInfo *sim_own_cms(apr_pool_t *pool, CMS_ContentInfo *cms);

sim_bytes_t sim_bytes(const void *data, apr_size_t len, apr_pool_t *pool);
sim_bytes_t sim_bytes_of_bio(BIO *bio, apr_pool_t *pool);
sim_bytes_t sim_file_read(const char *path, apr_pool_t *pool);
bool sim_file_write(const char *path, sim_bytes_t bytes, apr_pool_t *pool);
char *sim_hex(sim_bytes_t bytes, bool upper, apr_pool_t *pool);
char *sim_base64(sim_bytes_t bytes, apr_pool_t *pool);
sim_bytes_t sim_random(apr_size_t len, apr_pool_t *pool);
/* The first `%d` in `text` replaced by the number. */
char *sim_number_in(const char *text, int number, apr_pool_t *pool);

/* Certificates and keys. NULL on failure, with OpenSSL's error queue saying why. */
EVP_PKEY *sim_key_read(OSSL_LIB_CTX *libctx, const char *path, apr_pool_t *pool);
EVP_PKEY *sim_key_make(OSSL_LIB_CTX *libctx, int bits, apr_pool_t *pool);
STACK_OF(X509) * sim_certs_read(OSSL_LIB_CTX *libctx, const char *path, apr_pool_t *pool);
X509 *sim_self_signed(OSSL_LIB_CTX *libctx, EVP_PKEY *key, const X509_NAME *subject, bool ca, apr_pool_t *pool);
sim_bytes_t sim_cert_der(X509 *cert, apr_pool_t *pool);
sim_bytes_t sim_cert_pem(X509 *cert, apr_pool_t *pool);
sim_bytes_t sim_key_pem(EVP_PKEY *key, apr_pool_t *pool);
bool sim_serial_random(X509 *cert);
/* Upper-case hex, two digits a byte. */
char *sim_serial_hex(const X509 *cert, apr_pool_t *pool);
/* RFC 4514. */
char *sim_name_text(const X509_NAME *name, apr_pool_t *pool);

/* DER by hand. The reader refuses indefinite lengths. */
typedef struct {
    const unsigned char *at, *end;
} sim_der_t;
typedef struct {
    int tag, cls;
    const unsigned char *body;
    apr_size_t len;
} sim_tlv_t;
bool sim_der_next(sim_der_t *cursor, sim_tlv_t *tlv);
sim_der_t sim_der_into(const sim_tlv_t *tlv);
/* `tag` is the identifier octet; the parts (an array) become its content. */
sim_bytes_t sim_der_wrap(int tag, const sim_bytes_t *parts, int count, apr_pool_t *pool);
/* A degenerate certs-only SignedData that keeps the order of its certificates (OpenSSL's encoder sorts them). */
sim_bytes_t sim_certs_only(const sim_bytes_t *certs, int count, apr_pool_t *pool);

/* aes128, aes192, aes256, des3, des; sha1, sha256, sha384, sha512, md5. NULL: unknown. */
const EVP_CIPHER *sim_cipher_by_name(const char *name);
const EVP_MD *sim_digest_by_name(const char *name);
const char *sim_digest_name(int nid);

typedef struct {
    const char *cipher;        /* a name as above, or OpenSSL's */
    const char *key_transport; /* rsaEncryption, rsaesOaep */
    int recipients;
    bool for_us;               /* one RecipientInfo names our certificate by issuer and serial number */
    apr_size_t encrypted_key;  /* where the first recipient's encrypted key lies in the DER, and its length */
    apr_size_t encrypted_key_len;
} sim_envelope_t;

typedef struct {
    STACK_OF(X509) * recipients;
    const char *cipher;
    bool oaep;
    bool ber; /* indefinite lengths, constructed OCTET STRINGs */
} sim_envelope_spec_t;

/* NULL data on failure. */
sim_bytes_t sim_envelope_make(OSSL_LIB_CTX *libctx, const sim_envelope_spec_t *spec, sim_bytes_t content,
                              apr_pool_t *pool);
bool sim_envelope_inspect(sim_bytes_t der, sim_envelope_t *info, apr_pool_t *pool);
/* Returns NULL, or why it could not be opened; `info` is filled as far as it got. */
const char *sim_envelope_open(OSSL_LIB_CTX *libctx, sim_bytes_t message, X509 *cert, EVP_PKEY *key,
                              sim_envelope_t *info, sim_bytes_t *content, apr_pool_t *pool);

bool sim_attr_add(CMS_SignerInfo *signer, const char *oid, int type, const void *data, apr_size_t len);
/* How many values the signed attribute has, over all its occurrences; the first one is copied out. */
int sim_attr_get(CMS_SignerInfo *signer, const char *oid, sim_bytes_t *value, apr_pool_t *pool);

typedef struct {
    CMS_ContentInfo *cms;
    CMS_SignerInfo *info;
    X509 *signer;      /* the one contained in the message; NULL: none fits */
    int signers;
    int certificates;
    apr_size_t trailing; /* bytes behind the message */
    bool signature_ok;
    const char *digest;
    sim_bytes_t content; /* NULL data: absent */
    sim_bytes_t message_type, status, fail_info, fail_info_text, transaction_id, sender_nonce, recipient_nonce;
    const char *doubled; /* name of an attribute that is there more than once */
} sim_signed_t;

/* Returns NULL, or why this is no SignedData. A wrong signature is only noted. */
const char *sim_signed_open(OSSL_LIB_CTX *libctx, sim_bytes_t message, sim_signed_t *out, apr_pool_t *pool);

#pragma GCC visibility pop

#endif
