/* SPDX-License-Identifier: Apache-2.0 */
#include "identity.h"

#include "base/clock.h"
#include "base/text.h"
#include "parts.h"

#include <apr_file_io.h>
#include <apr_strings.h>
#include <openssl/core_names.h>
#include <openssl/decoder.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

/* A chain is a few kilobytes; more is a wrong path. */
enum { FILE_MAX = 1024 * 1024 };

static apr_status_t stack_end(void *data)
{
    sk_X509_free(data);
    return APR_SUCCESS;
}

static apr_status_t certificates_end(void *data)
{
    sk_X509_pop_free(data, X509_free);
    return APR_SUCCESS;
}

static apr_status_t key_end(void *data)
{
    EVP_PKEY_free(data);
    return APR_SUCCESS;
}

static apr_status_t store_end(void *data)
{
    X509_STORE_free(data);
    return APR_SUCCESS;
}

/* The whole file in OpenSSL's memory, which the caller clears and frees: it may be a key. */
static apr_status_t file_read(unsigned char **data, apr_size_t *len, const char *path, apr_pool_t *pool,
                              const char **message)
{
    apr_file_t *file = NULL;
    apr_status_t status = apr_file_open(&file, path, APR_FOPEN_READ | APR_FOPEN_BINARY, APR_FPROT_OS_DEFAULT, pool);
    unsigned char *buffer = NULL;

    if (status != APR_SUCCESS) {
        *message = apr_psprintf(pool, "%s cannot be opened: %pm", path, (void *)&status);
        return status;
    }
    buffer = OPENSSL_malloc(FILE_MAX);
    if (!buffer) {
        apr_file_close(file);
        *message = "out of memory";
        return APR_ENOMEM;
    }
    status = apr_file_read_full(file, buffer, FILE_MAX, len);
    apr_file_close(file);
    if (status == APR_EOF && *len > 0) {
        *data = buffer;
        return APR_SUCCESS;
    }
    OPENSSL_clear_free(buffer, FILE_MAX);
    if (status == APR_SUCCESS || status == APR_EOF) {
        *message = apr_psprintf(pool, status == APR_EOF ? "%s is empty" : "%s is too large", path);
        return APR_EGENERAL;
    }
    *message = apr_psprintf(pool, "%s cannot be read: %pm", path, (void *)&status);
    return status;
}

/* Refuses every passphrase, so that nothing is ever asked for on a terminal, and notes that one was wanted. */
static int no_passphrase(char *buffer, int size, int writing, void *wanted)
{
    (void)buffer;
    (void)size;
    (void)writing;
    if (wanted) {
        *(bool *)wanted = true;
    }
    return 0;
}

static bool certificates_read_der(STACK_OF(X509) * certificates, const scep_engine_t *engine, const unsigned char *data,
                                  apr_size_t len)
{
    bytes_t der = {data, len};
    X509 *certificate = scep_certificate_read(engine, der);

    if (certificate && sk_X509_push(certificates, certificate) > 0) {
        return true;
    }
    X509_free(certificate);
    return false;
}

static bool certificates_read_pem(STACK_OF(X509) * certificates, const scep_engine_t *engine, BIO *bio)
{
    for (;;) {
        X509 *certificate = X509_new_ex(engine->context, NULL);

        /* On failure the certificate is either untouched or freed and cleared. */
        if (!certificate || !PEM_read_bio_X509(bio, &certificate, no_passphrase, NULL) ||
            sk_X509_push(certificates, certificate) <= 0) {
            X509_free(certificate);
            /* The one error that only says that the file is at its end. */
            return sk_X509_num(certificates) > 0 && ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
        }
    }
}

/* OpenSSL reads extensions when they are first asked for: do it before threads share the certificates. */
static void certificates_settle(STACK_OF(X509) * certificates)
{
    int i = 0;

    for (i = 0; i < sk_X509_num(certificates); i++) {
        X509_check_purpose(sk_X509_value(certificates, i), -1, 0);
    }
}

apr_status_t scep_certificates_load(STACK_OF(X509) * *certificates, const scep_engine_t *engine, const char *path,
                                    apr_pool_t *pool, const char **message)
{
    STACK_OF(X509) *read = NULL;
    unsigned char *data = NULL;
    apr_size_t len = 0;
    BIO *bio = NULL;
    bool good = false;
    apr_status_t status = file_read(&data, &len, path, pool, message);

    if (status != APR_SUCCESS) {
        return status;
    }
    ERR_clear_error();
    read = sk_X509_new_null();
    bio = BIO_new_mem_buf(data, (int)len);
    if (data && read && bio) {
        good =
            data[0] == 0x30 ? certificates_read_der(read, engine, data, len) : certificates_read_pem(read, engine, bio);
    }
    if (good) {
        certificates_settle(read);
        apr_pool_cleanup_register(pool, read, certificates_end, apr_pool_cleanup_null);
        *certificates = read;
        status = APR_SUCCESS;
    } else {
        sk_X509_pop_free(read, X509_free);
        *message = apr_psprintf(pool, "%s holds no certificate, or a broken one: %s", path, scep_engine_errors(pool));
        status = APR_EGENERAL;
    }
    BIO_free(bio);
    OPENSSL_clear_free(data, FILE_MAX);
    ERR_clear_error();
    return status;
}

apr_status_t scep_key_load(EVP_PKEY **key, const scep_engine_t *engine, const char *path, apr_pool_t *pool,
                           const char **message)
{
    EVP_PKEY *read = NULL;
    OSSL_DECODER_CTX *decoder = NULL;
    unsigned char *data = NULL;
    const unsigned char *at = NULL;
    apr_size_t len = 0;
    apr_size_t left = 0;
    bool encrypted = false;
    apr_status_t status = file_read(&data, &len, path, pool, message);

    if (status != APR_SUCCESS) {
        return status;
    }
    ERR_clear_error();
    at = data;
    left = len;
    decoder = OSSL_DECODER_CTX_new_for_pkey(&read, NULL, NULL, NULL, EVP_PKEY_KEYPAIR, engine->context, NULL);
    if (decoder) {
        OSSL_DECODER_CTX_set_pem_password_cb(decoder, no_passphrase, &encrypted);
    }
    if (!decoder || !OSSL_DECODER_from_data(decoder, &at, &left) || !read) {
        *message = encrypted ? apr_psprintf(pool, "%s is encrypted: store the key without a passphrase", path)
                             : apr_psprintf(pool, "%s holds no private key: %s", path, scep_engine_errors(pool));
        status = APR_EGENERAL;
    } else if (!EVP_PKEY_is_a(read, "RSA")) {
        *message = apr_psprintf(pool, "%s holds a key that is not RSA: SCEP encrypts to it, which only RSA can", path);
        status = APR_EGENERAL;
    } else {
        apr_pool_cleanup_register(pool, read, key_end, apr_pool_cleanup_null);
        *key = read;
        read = NULL;
    }
    EVP_PKEY_free(read);
    OSSL_DECODER_CTX_free(decoder);
    OPENSSL_clear_free(data, FILE_MAX);
    ERR_clear_error();
    return status;
}

static const char *subject_print(const X509 *certificate, apr_pool_t *pool)
{
    return text_escape(pool, scep_name_print(X509_get_subject_name(certificate), pool), 200);
}

static bool is_rsa(X509 *certificate)
{
    EVP_PKEY *key = X509_get0_pubkey(certificate);

    return key && EVP_PKEY_is_a(key, "RSA");
}

const char *scep_key_check(X509 *certificate, EVP_PKEY *key, apr_pool_t *pool)
{
    int match = X509_check_private_key(certificate, key);

    ERR_clear_error();
    return match == 1 ? NULL
                      : apr_psprintf(pool, "the key does not belong to the certificate \"%s\"",
                                     subject_print(certificate, pool));
}

const char *scep_validity_check(X509 *certificate, apr_time_t now, apr_pool_t *pool)
{
    const char *why = scep_dates_check(certificate, now, 0, pool);

    return why ? apr_psprintf(pool, "the certificate \"%s\" %s", subject_print(certificate, pool), why) : NULL;
}

/* By name (and key identifiers), then by signature. */
static bool signed_by(X509 *certificate, X509 *issuer)
{
    EVP_PKEY *key = X509_get0_pubkey(issuer);
    bool good = key && X509_check_issued(issuer, certificate) == X509_V_OK && X509_verify(certificate, key) == 1;

    ERR_clear_error();
    return good;
}

const char *scep_chain_check(STACK_OF(X509) * chain, apr_time_t now, apr_pool_t *pool)
{
    int i = 0;

    if (!chain || sk_X509_num(chain) == 0) {
        return "there is no certificate in the chain";
    }
    for (i = 0; i < sk_X509_num(chain); i++) {
        X509 *certificate = sk_X509_value(chain, i);
        X509 *issuer = i + 1 < sk_X509_num(chain) ? sk_X509_value(chain, i + 1) : NULL;
        const char *why = scep_validity_check(certificate, now, pool);

        if (why) {
            return why;
        }
        if (!X509_check_ca(certificate)) {
            return apr_psprintf(pool, "the certificate \"%s\" is not a CA's", subject_print(certificate, pool));
        }
        if (issuer && !signed_by(certificate, issuer)) {
            return apr_psprintf(pool,
                                "the certificate \"%s\" is not signed by the next one, \"%s\"; the issuing CA "
                                "comes first, then the CA that signed it",
                                subject_print(certificate, pool), subject_print(issuer, pool));
        }
    }
    return NULL;
}

const char *scep_ra_usage_check(X509 *ra_certificate, scep_ra_role_t role, apr_pool_t *pool)
{
    /* Without the extension, every usage is set. */
    apr_uint32_t usage = X509_get_key_usage(ra_certificate);
    const char *missing = NULL;

    if ((role & RA_SIGNS) && !(usage & (KU_DIGITAL_SIGNATURE | KU_NON_REPUDIATION))) {
        missing = "digitalSignature";
    }
    if ((role & RA_DECRYPTS) && !(usage & KU_KEY_ENCIPHERMENT)) {
        missing = missing ? "both digitalSignature and keyEncipherment" : "keyEncipherment";
    }
    return missing ? apr_psprintf(pool, "the key usage of \"%s\" does not allow %s",
                                  subject_print(ra_certificate, pool), missing)
                   : NULL;
}

const char *scep_ra_check(X509 *ra_certificate, scep_ra_role_t role, STACK_OF(X509) * chain, apr_time_t now,
                          apr_pool_t *pool)
{
    const char *why = scep_validity_check(ra_certificate, now, pool);
    bool known = false;
    int i = 0;

    if (why) {
        return why;
    }
    if (!is_rsa(ra_certificate)) {
        return apr_psprintf(pool, "the key of \"%s\" is not RSA", subject_print(ra_certificate, pool));
    }
    for (i = 0; chain && i < sk_X509_num(chain); i++) {
        X509 *certificate = sk_X509_value(chain, i);

        if (X509_cmp(ra_certificate, certificate) == 0) {
            return NULL;
        }
        known = known || signed_by(ra_certificate, certificate);
    }
    why = scep_ra_usage_check(ra_certificate, role, pool);
    if (!why && !known) {
        why = apr_psprintf(pool, "the certificate \"%s\" is not signed by a certificate of the chain",
                           subject_print(ra_certificate, pool));
    }
    return why;
}

static X509_STORE *store_make(STACK_OF(X509) * chain)
{
    X509_STORE *store = X509_STORE_new();
    X509_VERIFY_PARAM *parameters = store ? X509_STORE_get0_param(store) : NULL;

    if (!parameters) {
        X509_STORE_free(store);
        return NULL;
    }
    /*
     * The gateway is not the relying party: what the certificate is good for is the CA's affair, and SHA-1
     * signatures are met in old CAs. Dates are checked apart, since the leaf has a tolerance and the CAs have none.
     */
    if (!X509_STORE_add_cert(store, sk_X509_value(chain, sk_X509_num(chain) - 1)) ||
        !X509_VERIFY_PARAM_set_purpose(parameters, X509_PURPOSE_ANY) ||
        !X509_VERIFY_PARAM_set_flags(parameters, X509_V_FLAG_PARTIAL_CHAIN | X509_V_FLAG_NO_CHECK_TIME |
                                                     X509_V_FLAG_IGNORE_CRITICAL)) {
        X509_STORE_free(store);
        return NULL;
    }
    X509_VERIFY_PARAM_set_auth_level(parameters, 0);
    return store;
}

/* The path from the certificate to the anchor, for the caller to free; NULL with `why` set. */
static STACK_OF(X509) *
    path_build(const scep_identity_t *identity, X509 *certificate, apr_pool_t *pool, const char **why)
{
    STACK_OF(X509) *path = NULL;
    X509_STORE_CTX *context = X509_STORE_CTX_new_ex(identity->engine->context, NULL);

    if (!context || !X509_STORE_CTX_init(context, identity->store, certificate, identity->chain)) {
        *why = "cannot be verified";
    } else if (X509_verify_cert(context) != 1) {
        *why = apr_psprintf(pool, "is not signed by the configured chain: %s",
                            X509_verify_cert_error_string(X509_STORE_CTX_get_error(context)));
    } else {
        path = X509_STORE_CTX_get1_chain(context);
        *why = path ? NULL : "cannot be verified";
    }
    X509_STORE_CTX_free(context);
    ERR_clear_error();
    return path;
}

const char *scep_chain_signed(const scep_identity_t *identity, X509 *certificate, apr_pool_t *pool)
{
    const char *why = NULL;

    sk_X509_pop_free(path_build(identity, certificate, pool, &why), X509_free);
    return why;
}

const char *scep_trust_check(const scep_identity_t *identity, X509 *certificate, apr_interval_time_t ahead,
                             apr_pool_t *pool)
{
    const char *why = NULL;
    apr_time_t now = clock_now();
    int i = 0;
    STACK_OF(X509) *path = path_build(identity, certificate, pool, &why);

    if (path) {
        why = scep_dates_check(certificate, now, ahead, pool);
    }
    for (i = 1; path && !why && i < sk_X509_num(path); i++) {
        X509 *issuer = sk_X509_value(path, i);

        why = scep_dates_check(issuer, now, 0, pool);
        if (why) {
            why = apr_psprintf(pool, "has an issuer, \"%s\", that %s", subject_print(issuer, pool), why);
        }
    }
    sk_X509_pop_free(path, X509_free);
    ERR_clear_error();
    return why;
}

/* Of the size that Intune's challenges have, since the time of reading a request is mostly that of its challenge. */
static bytes_t decoy_make(const scep_engine_t *engine, EVP_PKEY *key, int challenge_length, apr_pool_t *pool)
{
    static const unsigned char name[] = "decoy";
    unsigned char *challenge = apr_palloc(pool, (apr_size_t)challenge_length);
    bytes_t der = {NULL, 0};
    unsigned char *buffer = NULL;
    int len = 0;
    X509_NAME *subject = X509_NAME_new();
    EVP_MD *digest = EVP_MD_fetch(engine->context, "SHA-256", NULL);
    X509_REQ *request = X509_REQ_new_ex(engine->context, NULL);

    memset(challenge, 'A', (size_t)challenge_length);
    if (subject && digest && request &&
        X509_NAME_add_entry_by_NID(subject, NID_commonName, MBSTRING_ASC, name, -1, -1, 0) &&
        X509_REQ_set_subject_name(request, subject) && X509_REQ_set_pubkey(request, key) &&
        X509_REQ_add1_attr_by_NID(request, NID_pkcs9_challengePassword, V_ASN1_PRINTABLESTRING, challenge,
                                  challenge_length) &&
        X509_REQ_sign(request, key, digest) > 0) {
        len = i2d_X509_REQ(request, &buffer);
    }
    if (len > 0) {
        der.data = apr_pmemdup(pool, buffer, (apr_size_t)len);
        der.len = (apr_size_t)len;
    }
    OPENSSL_free(buffer);
    X509_REQ_free(request);
    EVP_MD_free(digest);
    X509_NAME_free(subject);
    return der;
}

/* From a short password to the length of Intune's challenge. */
static bool decoys_make(scep_identity_t *identity, apr_pool_t *pool)
{
    static const int LENGTHS[SCEP_DECOYS] = {16, 2500, 5000};
    bool made = true;

    for (int i = 0; i < SCEP_DECOYS; i++) {
        identity->decoys[i] = decoy_make(identity->engine, identity->ra_key, LENGTHS[i], pool);
        made = made && identity->decoys[i].len;
    }
    return made;
}

bytes_t scep_decoy_choose(const scep_identity_t *identity, apr_size_t length)
{
    /* What an EnvelopedData adds to its content: the encrypted key of RSA-2048, a name, padding. */
    enum { ENVELOPE_OVERHEAD = 500 };
    int best = 0;

    for (int i = 1; i < SCEP_DECOYS; i++) {
        apr_size_t middle = (identity->decoys[i - 1].len + identity->decoys[i].len) / 2 + ENVELOPE_OVERHEAD;
        best = length > middle ? i : best;
    }
    return identity->decoys[best];
}

static bool contains(STACK_OF(X509) * certificates, X509 *certificate)
{
    int i = 0;

    for (i = 0; i < sk_X509_num(certificates); i++) {
        if (X509_cmp(sk_X509_value(certificates, i), certificate) == 0) {
            return true;
        }
    }
    return false;
}

/* The certificates of `first` and then of `second`, each once; borrowed. NULL without memory. */
static STACK_OF(X509) * stack_make(STACK_OF(X509) * first, STACK_OF(X509) * second, apr_pool_t *pool)
{
    STACK_OF(X509) *both = sk_X509_new_null();
    int i = 0;
    int firsts = first ? sk_X509_num(first) : 0;
    int all = firsts + sk_X509_num(second);

    if (!both) {
        return NULL;
    }
    apr_pool_cleanup_register(pool, both, stack_end, apr_pool_cleanup_null);
    for (i = 0; i < all; i++) {
        X509 *certificate = i < firsts ? sk_X509_value(first, i) : sk_X509_value(second, i - firsts);

        if (!contains(both, certificate) && sk_X509_push(both, certificate) <= 0) {
            return NULL;
        }
    }
    return both;
}

static X509 *recipient_choose(STACK_OF(X509) * candidates)
{
    X509 *fallback = NULL;
    int i = 0;

    for (i = 0; i < sk_X509_num(candidates); i++) {
        X509 *certificate = sk_X509_value(candidates, i);

        if (!is_rsa(certificate)) {
            continue;
        }
        if (X509_get_key_usage(certificate) & KU_KEY_ENCIPHERMENT) {
            return certificate;
        }
        fallback = fallback ? fallback : certificate;
    }
    return fallback;
}

apr_status_t scep_identity_make(scep_identity_t **identity, const scep_engine_t *engine, X509 *ra_certificate,
                                EVP_PKEY *ra_key, STACK_OF(X509) * chain, STACK_OF(X509) * backend, apr_pool_t *pool,
                                result_t *result)
{
    scep_identity_t *made = apr_pcalloc(pool, sizeof(*made));
    STACK_OF(X509) *issuing = NULL;
    bool decoyed = false;

    *identity = NULL;
    if (!chain || sk_X509_num(chain) == 0) {
        return result_set(result, PROBLEM_INTERNAL, "there is no certificate in the chain");
    }
    ERR_clear_error();
    issuing = sk_X509_new_null();
    if (issuing && sk_X509_push(issuing, sk_X509_value(chain, 0)) > 0) {
        made->backend = stack_make(backend, issuing, pool);
        made->backend_recipient = recipient_choose(backend && sk_X509_num(backend) ? backend : issuing);
    }
    sk_X509_free(issuing);
    made->engine = engine;
    made->ra_certificate = ra_certificate;
    made->ra_key = ra_key;
    made->device_certificate = ra_certificate;
    made->device_key = ra_key;
    made->chain = chain;
    decoyed = decoys_make(made, pool);
    made->store = store_make(chain);
    if (made->store) {
        apr_pool_cleanup_register(pool, made->store, store_end, apr_pool_cleanup_null);
    }
    if (made->backend && !made->backend_recipient) {
        return result_set(result, PROBLEM_INTERNAL, "no certificate of the backend has an RSA key to encrypt to");
    }
    if (!made->backend || !made->store || !decoyed) {
        return result_set(result, PROBLEM_INTERNAL, "%s", scep_engine_errors(pool));
    }
    X509_check_purpose(ra_certificate, -1, 0);
    certificates_settle(chain);
    certificates_settle(made->backend);
    *identity = made;
    return APR_SUCCESS;
}

void scep_identity_separate(scep_identity_t *identity, X509 *certificate, EVP_PKEY *key)
{
    X509_check_purpose(certificate, -1, 0);
    identity->device_certificate = certificate;
    identity->device_key = key;
}

apr_status_t scep_identity_publish(bytes_t *body, const char **type, const scep_identity_t *identity, apr_pool_t *pool,
                                   result_t *result)
{
    STACK_OF(X509) *certificates = NULL;
    STACK_OF(X509) *ra = sk_X509_new_null();
    bytes_t der = {NULL, 0};

    ERR_clear_error();
    if (ra && sk_X509_push(ra, identity->ra_certificate) > 0 && sk_X509_push(ra, identity->device_certificate) > 0) {
        certificates = stack_make(ra, identity->chain, pool);
    }
    sk_X509_free(ra);
    if (certificates && sk_X509_num(certificates) == 1) {
        der = scep_certificate_print(identity->ra_certificate, pool);
        *type = SCEP_TYPE_CA_CERT;
    } else if (certificates) {
        der = scep_degenerate_print(identity->engine, certificates, pool);
        *type = SCEP_TYPE_CA_RA_CERT;
    }
    if (!der.len) {
        return result_set(result, PROBLEM_INTERNAL, "GetCACert's answer cannot be made: %s", scep_engine_errors(pool));
    }
    *body = der;
    return APR_SUCCESS;
}
