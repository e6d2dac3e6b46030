/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Challenges as Intune makes them: the expected properties, encrypted (CMS EnvelopedData), signed (CMS SignedData),
 * in base64. Keys are made at start and never leave the process.
 */
#include <stdlib.h>
#include <string.h>

#include <apr_general.h>
#include <apr_strings.h>
#include <apr_thread_mutex.h>
#include <openssl/bio.h>
#include <openssl/cms.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/objects.h>

#include "sim_ms.h"

/* With this much JSON, the challenge is about as long as Intune's. */
#define CONTENT_LENGTH 2600
#define MEMO_SLOTS 65536

typedef struct party_t {
    EVP_PKEY *key;
    X509 *certificate;
} party_t;

typedef struct memo_t {
    unsigned char digest[32];
    char *content;
} memo_t;

struct msim_keys_t {
    OSSL_LIB_CTX *context;
    EVP_CIPHER *cipher;
    party_t signer;
    party_t recipient;
    party_t stranger; /* signs or receives what is to be broken */
    STACK_OF(X509) * signers;
    STACK_OF(X509) * recipients;
    STACK_OF(X509) * strangers;
    apr_thread_mutex_t *mutex;
    memo_t *memo;
};

OSSL_LIB_CTX *msim_keys_context(msim_keys_t *keys)
{
    return keys->context;
}

static int party_make(party_t *party, const char *name, OSSL_LIB_CTX *context)
{
    const unsigned char *text = (const unsigned char *)name;
    X509_NAME *subject;

    party->key = EVP_PKEY_Q_keygen(context, NULL, "RSA", (size_t)2048);
    party->certificate = X509_new_ex(context, NULL);
    if (party->key == NULL || party->certificate == NULL) {
        return 0;
    }
    subject = X509_get_subject_name(party->certificate);
    return X509_set_version(party->certificate, X509_VERSION_3) == 1 &&
           ASN1_INTEGER_set(X509_get_serialNumber(party->certificate), 1) == 1 &&
           X509_gmtime_adj(X509_getm_notBefore(party->certificate), -86400) != NULL &&
           X509_gmtime_adj(X509_getm_notAfter(party->certificate), 10 * 365 * 86400L) != NULL &&
           X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, text, -1, -1, 0) == 1 &&
           X509_set_issuer_name(party->certificate, subject) == 1 &&
           X509_set_pubkey(party->certificate, party->key) == 1 &&
           X509_sign(party->certificate, party->key, EVP_sha256()) > 0 &&
           /* Fills the certificate's caches while there is one thread. */
           X509_check_purpose(party->certificate, -1, 0) == 1;
}

static STACK_OF(X509) * stack_of_one(X509 *certificate)
{
    STACK_OF(X509) *stack = sk_X509_new_null();

    if (stack != NULL && sk_X509_push(stack, certificate) == 0) {
        sk_X509_free(stack);
        stack = NULL;
    }
    return stack;
}

msim_keys_t *msim_keys_make(apr_pool_t *pool)
{
    msim_keys_t *keys = apr_pcalloc(pool, sizeof *keys);

    keys->memo = apr_pcalloc(pool, MEMO_SLOTS * sizeof *keys->memo);
    keys->context = OSSL_LIB_CTX_new();
    if (keys->context == NULL || apr_thread_mutex_create(&keys->mutex, APR_THREAD_MUTEX_DEFAULT, pool) != APR_SUCCESS) {
        return NULL;
    }
    keys->cipher = EVP_CIPHER_fetch(keys->context, "AES-256-CBC", NULL);
    if (keys->cipher == NULL || !party_make(&keys->signer, "Simulated Intune signer", keys->context) ||
        !party_make(&keys->recipient, "Simulated Intune decryption", keys->context) ||
        !party_make(&keys->stranger, "Stranger", keys->context)) {
        return NULL;
    }
    keys->signers = stack_of_one(keys->signer.certificate);
    keys->recipients = stack_of_one(keys->recipient.certificate);
    keys->strangers = stack_of_one(keys->stranger.certificate);
    return keys->signers != NULL && keys->recipients != NULL && keys->strangers != NULL ? keys : NULL;
}

/** DER of what is written there. */
static BIO *cms_write(CMS_ContentInfo *cms)
{
    BIO *out = cms == NULL ? NULL : BIO_new(BIO_s_mem());

    if (out != NULL && i2d_CMS_bio(out, cms) != 1) {
        BIO_free(out);
        out = NULL;
    }
    return out;
}

static BIO *envelope_make(msim_keys_t *keys, const char *content, msim_break_e how)
{
    STACK_OF(X509) *recipients = how == MSIM_BREAK_ENCRYPTION ? keys->strangers : keys->recipients;
    BIO *in = BIO_new_mem_buf(content, -1);
    CMS_ContentInfo *cms = NULL;
    BIO *out = NULL;

    if (in != NULL) {
        cms = CMS_encrypt_ex(recipients, in, keys->cipher, CMS_BINARY, keys->context, NULL);
        out = cms_write(cms);
    }
    CMS_ContentInfo_free(cms);
    BIO_free(in);
    return out;
}

static BIO *signed_make(msim_keys_t *keys, BIO *in, msim_break_e how)
{
    const party_t *signer = how == MSIM_BREAK_SIGNATURE ? &keys->stranger : &keys->signer;
    /* Without its certificate, which the verifier has anyway and would only have to parse. */
    unsigned flags = CMS_BINARY | CMS_NOSMIMECAP | CMS_NOCERTS;
    CMS_ContentInfo *cms = NULL;
    BIO *out;

    if (in == NULL) {
        return NULL;
    }
    cms = CMS_sign_ex(signer->certificate, signer->key, NULL, in, flags, keys->context, NULL);
    out = cms_write(cms);
    CMS_ContentInfo_free(cms);
    return out;
}

static void memo_digest(const msim_keys_t *keys, const unsigned char *der, apr_size_t length, unsigned char digest[32])
{
    size_t size = 32;

    if (EVP_Q_digest(keys->context, "SHA256", NULL, der, length, digest, &size) != 1) {
        apr_generate_random_bytes(digest, 32);
    }
}

/*
 * The same bytes open to the same content: with what was made here noted down, a call costs no private-key operation,
 * and a load test measures the module rather than its stand-in.
 */
static void memo_put(msim_keys_t *keys, const unsigned char digest[32], const char *content)
{
    memo_t *slot = &keys->memo[digest[0] << 8 | digest[1]];
    char *old, *copy = msim_strdup(content);

    apr_thread_mutex_lock(keys->mutex);
    old = slot->content;
    slot->content = copy;
    memcpy(slot->digest, digest, 32);
    apr_thread_mutex_unlock(keys->mutex);
    free(old);
}

static const char *memo_get(msim_keys_t *keys, const unsigned char digest[32], apr_pool_t *pool)
{
    const memo_t *slot = &keys->memo[digest[0] << 8 | digest[1]];
    const char *content = NULL;

    apr_thread_mutex_lock(keys->mutex);
    if (slot->content != NULL && memcmp(slot->digest, digest, 32) == 0) {
        content = apr_pstrdup(pool, slot->content);
    }
    apr_thread_mutex_unlock(keys->mutex);
    return content;
}

/** Blanks behind JSON mean nothing, and are what the padding is made of: they need no escaping and no member. */
static const char *padded(const char *content, apr_pool_t *pool)
{
    apr_size_t length = strlen(content);
    char *text;

    if (length >= CONTENT_LENGTH) {
        return content;
    }
    text = apr_palloc(pool, CONTENT_LENGTH + 1);
    memset(text, ' ', CONTENT_LENGTH);
    memcpy(text, content, length);
    text[CONTENT_LENGTH] = '\0';
    return text;
}

static const char *challenge_encode(msim_keys_t *keys, BIO *der, const char *content, msim_break_e how,
                                    apr_pool_t *pool)
{
    unsigned char digest[32];
    char *data = NULL;
    apr_size_t length = (apr_size_t)BIO_get_mem_data(der, &data);
    const unsigned char *bytes = (const unsigned char *)data;
    char *text;

    if (how == MSIM_BREAK_CMS) {
        /* An OCTET STRING where the content type should be. */
        unsigned char *copy = apr_pmemdup(pool, bytes, length);

        copy[4] = 0x04;
        return msim_base64_encode(copy, length, pool);
    }
    if (how == MSIM_WHOLE) {
        memo_digest(keys, bytes, length, digest);
        memo_put(keys, digest, content);
    }
    text = msim_base64_encode(bytes, length, pool);
    if (how == MSIM_BREAK_BASE64) {
        text[100] = '*';
    }
    return text;
}

const char *msim_challenge_make(msim_keys_t *keys, const char *content, msim_break_e how, apr_pool_t *pool)
{
    const char *plain = padded(how == MSIM_BREAK_JSON ? "These are no properties." : content, pool);
    BIO *envelope = envelope_make(keys, plain, how);
    BIO *der = signed_make(keys, envelope, how);
    const char *challenge = der == NULL ? NULL : challenge_encode(keys, der, content, how, pool);

    BIO_free(envelope);
    BIO_free(der);
    ERR_clear_error();
    return challenge;
}

static CMS_ContentInfo *cms_read(msim_keys_t *keys, const unsigned char *der, apr_size_t length, int type)
{
    const unsigned char *p = der;
    CMS_ContentInfo *cms = length == 0 ? NULL : CMS_ContentInfo_new_ex(keys->context, NULL);

    /* On failure d2i frees the object and sets the pointer to NULL. */
    if (cms != NULL && d2i_CMS_ContentInfo(&cms, &p, (long)length) != NULL &&
        (p != der + length || OBJ_obj2nid(CMS_get0_type(cms)) != type)) {
        CMS_ContentInfo_free(cms);
        cms = NULL;
    }
    return cms;
}

/** Verifies against our signer alone, whatever certificates are inside. */
static const char *signed_open(msim_keys_t *keys, const unsigned char *der, apr_size_t length, BIO *out)
{
    unsigned flags = CMS_BINARY | CMS_NOINTERN | CMS_NO_SIGNER_CERT_VERIFY;
    CMS_ContentInfo *cms = cms_read(keys, der, length, NID_pkcs7_signed);
    const char *code = NULL;

    if (cms == NULL) {
        code = "ChallengeDeserializationError";
    } else if (CMS_verify(cms, keys->signers, NULL, NULL, out, flags) != 1) {
        code = "SignatureValidationFailed";
    }
    CMS_ContentInfo_free(cms);
    return code;
}

static const char *envelope_open(msim_keys_t *keys, BIO *in, BIO *out)
{
    const party_t *me = &keys->recipient;
    char *data = NULL;
    apr_size_t length = (apr_size_t)BIO_get_mem_data(in, &data);
    CMS_ContentInfo *cms = cms_read(keys, (const unsigned char *)data, length, NID_pkcs7_enveloped);
    const char *code = NULL;

    if (cms == NULL) {
        code = "ChallengeDeserializationError";
    } else if (CMS_decrypt(cms, me->key, me->certificate, NULL, out, CMS_BINARY) != 1) {
        code = "ChallengeDecryptionError";
    }
    CMS_ContentInfo_free(cms);
    return code;
}

static const char *der_open(msim_keys_t *keys, const unsigned char *der, apr_size_t length, const char **content,
                            apr_pool_t *pool)
{
    BIO *envelope = BIO_new(BIO_s_mem()), *plain = BIO_new(BIO_s_mem());
    const char *code = "ChallengeDecryptionError";
    char *data = NULL;
    long size;

    if (envelope != NULL && plain != NULL) {
        code = signed_open(keys, der, length, envelope);
        code = code != NULL ? code : envelope_open(keys, envelope, plain);
        size = BIO_get_mem_data(plain, &data);
        *content = code == NULL && size > 0 ? apr_pstrmemdup(pool, data, (apr_size_t)size) : "";
    }
    BIO_free(envelope);
    BIO_free(plain);
    ERR_clear_error();
    return code;
}

const char *msim_challenge_open(msim_keys_t *keys, const char *text, apr_size_t length, json_object **content,
                                apr_pool_t *pool)
{
    unsigned char digest[32];
    apr_size_t size = 0;
    const unsigned char *der = msim_base64_decode(text, length, &size, pool);
    const char *json, *code;

    if (der == NULL) {
        return "ChallengeDecodingError";
    }
    memo_digest(keys, der, size, digest);
    json = memo_get(keys, digest, pool);
    if (json == NULL) {
        code = der_open(keys, der, size, &json, pool);
        if (code != NULL) {
            return code;
        }
    }
    *content = msim_json_parse(json, strlen(json), pool);
    if (!json_object_is_type(*content, json_type_object)) {
        return "ChallengeDeserializationError";
    }
    return NULL;
}
