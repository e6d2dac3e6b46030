/* SPDX-License-Identifier: Apache-2.0 */
/* Keys, certificate requests and self-signed certificates of a client. */
#include "client.h"

#include "base/clock.h"
#include "parts.h"

#include <apr_cstr.h>
#include <apr_strings.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

enum { SERIAL_BYTES = 16, SIGNER_DAYS = 7, CLOCK_BEHIND = 3600 };

#define OID_UPN "1.3.6.1.4.1.311.20.2.3"

static apr_status_t key_end(void *data)
{
    EVP_PKEY_free(data);
    return APR_SUCCESS;
}

EVP_PKEY *scep_client_key_make(const scep_engine_t *engine, unsigned bits, apr_pool_t *pool)
{
    EVP_PKEY *key = EVP_PKEY_Q_keygen(engine->context, NULL, "RSA", (size_t)bits);

    ERR_clear_error();
    if (key) {
        apr_pool_cleanup_register(pool, key, key_end, apr_pool_cleanup_null);
    }
    return key;
}

static bytes_t bio_take(BIO *bio, bool printed, apr_pool_t *pool)
{
    bytes_t bytes = {NULL, 0};

    if (bio && printed) {
        bytes = scep_bytes_of_bio(bio, pool);
    }
    BIO_free(bio);
    ERR_clear_error();
    return bytes;
}

bytes_t scep_client_key_print(EVP_PKEY *key, apr_pool_t *pool)
{
    BIO *bio = BIO_new(BIO_s_secmem());
    bytes_t pem = bio_take(bio, bio && PEM_write_bio_PKCS8PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) == 1, pool);

    secret_guard(pool, pem.data, pem.len);
    return pem;
}

bytes_t scep_client_certificate_print(X509 *certificate, apr_pool_t *pool)
{
    BIO *bio = BIO_new(BIO_s_mem());

    return bio_take(bio, bio && PEM_write_bio_X509(bio, certificate) == 1, pool);
}

/* The subject. */

/* One part up to the next "/" that no backslash precedes; moves on behind it. */
static char *part_next(const char **at, apr_pool_t *pool)
{
    char *part = apr_palloc(pool, strlen(*at) + 1);
    char *out = part;

    for (; **at && **at != '/'; (*at)++) {
        if (**at == '\\' && (*at)[1]) {
            (*at)++;
        }
        *out++ = **at;
    }
    *out = '\0';
    if (**at) {
        (*at)++;
    }
    return part;
}

static X509_NAME *subject_make(const char *text, apr_pool_t *pool, const char **why)
{
    X509_NAME *name = X509_NAME_new();
    const char *at = text;

    if (!name || (*text && *text != '/')) {
        *why = name ? "the subject must look like /O=Example/CN=device" : "no memory";
        goto fail;
    }
    for (at = *at ? at + 1 : at; *at;) {
        char *part = part_next(&at, pool);
        char *value = strchr(part, '=');

        if (value) {
            *value++ = '\0';
        }
        if (!value || !X509_NAME_add_entry_by_txt(name, part, MBSTRING_UTF8, (const unsigned char *)value, -1, -1, 0)) {
            *why =
                apr_psprintf(pool, "the subject's part \"%s\" cannot be used: /O=Example/CN=device is a subject", part);
            goto fail;
        }
    }
    return name;
fail:
    X509_NAME_free(name);
    return NULL;
}

static X509_NAME *subject_of(const scep_wish_t *wish, apr_pool_t *pool, const char **why)
{
    const unsigned char *at = wish->subject_der.data;

    return wish->subject_der.len ? d2i_X509_NAME(NULL, &at, (long)wish->subject_der.len)
                                 : subject_make(wish->subject ? wish->subject : "", pool, why);
}

/* The extensions. */

static GENERAL_NAME *upn_make(const char *text)
{
    GENERAL_NAME *name = GENERAL_NAME_new();
    ASN1_OBJECT *type = OBJ_txt2obj(OID_UPN, 1);
    ASN1_TYPE *value = ASN1_TYPE_new();
    ASN1_UTF8STRING *string = ASN1_UTF8STRING_new();

    if (name && type && value && string && ASN1_STRING_set(string, text, -1)) {
        ASN1_TYPE_set(value, V_ASN1_UTF8STRING, string);
        string = NULL;
        if (GENERAL_NAME_set0_othername(name, type, value)) {
            return name;
        }
    }
    ASN1_UTF8STRING_free(string);
    ASN1_TYPE_free(value);
    ASN1_OBJECT_free(type);
    GENERAL_NAME_free(name);
    return NULL;
}

static GENERAL_NAME *name_make(const char *text)
{
    static const struct {
        const char *kind;
        int type;
    } KINDS[] = {{"dns:", GEN_DNS}, {"email:", GEN_EMAIL}, {"uri:", GEN_URI}, {"ip:", GEN_IPADD}};

    if (!apr_cstr_casecmpn(text, "upn:", 4)) {
        return upn_make(text + 4);
    }
    for (size_t i = 0; i < sizeof(KINDS) / sizeof(KINDS[0]); i++) {
        size_t len = strlen(KINDS[i].kind);

        if (!apr_cstr_casecmpn(text, KINDS[i].kind, len) && text[len]) {
            return a2i_GENERAL_NAME(NULL, NULL, NULL, KINDS[i].type, text + len, 0);
        }
    }
    return NULL;
}

static bool names_add(STACK_OF(X509_EXTENSION) * *extensions, const scep_wish_t *wish, apr_pool_t *pool,
                      const char **why)
{
    GENERAL_NAMES *names = GENERAL_NAMES_new();
    bool good = names != NULL;

    for (int i = 0; good && i < wish->names->nelts; i++) {
        const char *text = APR_ARRAY_IDX(wish->names, i, const char *);
        GENERAL_NAME *name = name_make(text);

        if (!name || !sk_GENERAL_NAME_push(names, name)) {
            GENERAL_NAME_free(name);
            *why = apr_psprintf(pool, "the alternative name \"%s\" must be dns:, email:, uri:, ip: or upn: and a value",
                                text);
            good = false;
        }
    }
    good = good && X509V3_add1_i2d(extensions, NID_subject_alt_name, names, 0, X509V3_ADD_DEFAULT) == 1;
    GENERAL_NAMES_free(names);
    return good;
}

static bool usage_add(STACK_OF(X509_EXTENSION) * *extensions, unsigned usage)
{
    ASN1_BIT_STRING *bits = ASN1_BIT_STRING_new();
    bool good = bits && ASN1_BIT_STRING_set_bit(bits, 0, (usage & CLIENT_SIGNS) != 0) &&
                ASN1_BIT_STRING_set_bit(bits, 2, (usage & CLIENT_DECRYPTS) != 0) &&
                X509V3_add1_i2d(extensions, NID_key_usage, bits, 1, X509V3_ADD_DEFAULT) == 1;

    ASN1_BIT_STRING_free(bits);
    return good;
}

static bool purposes_add(STACK_OF(X509_EXTENSION) * *extensions, const scep_wish_t *wish, apr_pool_t *pool,
                         const char **why)
{
    EXTENDED_KEY_USAGE *purposes = EXTENDED_KEY_USAGE_new();
    bool good = purposes != NULL;

    for (int i = 0; good && i < wish->purposes->nelts; i++) {
        const char *text = APR_ARRAY_IDX(wish->purposes, i, const char *);
        ASN1_OBJECT *object = OBJ_txt2obj(text, 0);

        if (!object || !sk_ASN1_OBJECT_push(purposes, object)) {
            ASN1_OBJECT_free(object);
            *why = apr_psprintf(pool, "the extended key usage \"%s\" is no object identifier", text);
            good = false;
        }
    }
    good = good && X509V3_add1_i2d(extensions, NID_ext_key_usage, purposes, 0, X509V3_ADD_DEFAULT) == 1;
    EXTENDED_KEY_USAGE_free(purposes);
    return good;
}

static bool extensions_add(X509_REQ *request, const scep_wish_t *wish, apr_pool_t *pool, const char **why)
{
    STACK_OF(X509_EXTENSION) *extensions = NULL;
    bool good = (!wish->usage || usage_add(&extensions, wish->usage)) &&
                (!wish->purposes || !wish->purposes->nelts || purposes_add(&extensions, wish, pool, why)) &&
                (!wish->names || !wish->names->nelts || names_add(&extensions, wish, pool, why)) &&
                (!extensions || X509_REQ_add_extensions(request, extensions) == 1);

    sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
    return good;
}

static bool challenge_add(X509_REQ *request, const secret_t *challenge)
{
    const char *text = secret_reveal(challenge);
    apr_size_t len = secret_length(challenge);
    int type = ASN1_PRINTABLE_type((const unsigned char *)text, (int)len);

    return len && len < INT_MAX &&
           X509_REQ_add1_attr_by_NID(request, NID_pkcs9_challengePassword,
                                     type == V_ASN1_PRINTABLESTRING ? V_ASN1_PRINTABLESTRING : V_ASN1_UTF8STRING,
                                     (const unsigned char *)text, (int)len) == 1;
}

/* The whole, in DER. An empty run with `why` set on failure. */
static bytes_t request_make(const scep_engine_t *engine, EVP_PKEY *key, const scep_wish_t *wish, apr_pool_t *pool,
                            const char **why)
{
    bytes_t der = {NULL, 0};
    unsigned char *buffer = NULL;
    int len = 0;
    EVP_MD *digest = EVP_MD_fetch(engine->context, "SHA-256", NULL);
    X509_REQ *request = X509_REQ_new_ex(engine->context, NULL);
    X509_NAME *subject = subject_of(wish, pool, why);

    if (subject && digest && request && X509_REQ_set_subject_name(request, subject) &&
        X509_REQ_set_pubkey(request, key) && extensions_add(request, wish, pool, why) &&
        (!wish->challenge || challenge_add(request, wish->challenge)) && X509_REQ_sign(request, key, digest) > 0) {
        len = i2d_X509_REQ(request, &buffer);
    }
    if (len > 0) {
        der.data = apr_pmemdup(pool, buffer, (apr_size_t)len);
        der.len = (apr_size_t)len;
        secret_guard(pool, der.data, der.len);
    }
    OPENSSL_clear_free(buffer, len > 0 ? (size_t)len : 0);
    X509_NAME_free(subject);
    X509_REQ_free(request);
    EVP_MD_free(digest);
    return der;
}

apr_status_t scep_client_csr_make(csr_t *csr, const scep_engine_t *engine, EVP_PKEY *key, const scep_wish_t *wish,
                                  apr_pool_t *pool, const char **why)
{
    *why = NULL;
    ERR_clear_error();
    bytes_t der = request_make(engine, key, wish, pool, why);

    if (!der.len) {
        if (!*why) {
            *why = apr_psprintf(pool, "the certificate request cannot be made: %s", scep_engine_errors(pool));
        }
        ERR_clear_error();
        return APR_EGENERAL;
    }
    return csr_open(csr, engine, der, pool, why);
}

/* The self-signed certificate. */

static bool serial_set(X509 *certificate, const scep_engine_t *engine)
{
    unsigned char bytes[SERIAL_BYTES];
    BIGNUM *number = NULL;
    bool good = RAND_bytes_ex(engine->context, bytes, sizeof(bytes), 0) == 1;

    /* positive, and of full length */
    bytes[0] = (unsigned char)((bytes[0] & 0x7f) | 0x40);
    number = good ? BN_bin2bn(bytes, sizeof(bytes), NULL) : NULL;
    good = number && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate));
    BN_free(number);
    return good;
}

static bool dates_set(X509 *certificate)
{
    time_t now = (time_t)apr_time_sec(clock_now());

    return X509_time_adj_ex(X509_getm_notBefore(certificate), 0, -CLOCK_BEHIND, &now) &&
           X509_time_adj_ex(X509_getm_notAfter(certificate), SIGNER_DAYS, 0, &now);
}

static bool signer_usage_set(X509 *certificate)
{
    STACK_OF(X509_EXTENSION) *extensions = NULL;
    bool good = usage_add(&extensions, CLIENT_SIGNS | CLIENT_DECRYPTS) &&
                X509_add_ext(certificate, sk_X509_EXTENSION_value(extensions, 0), -1) == 1;

    sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
    return good;
}

apr_status_t scep_client_signer_make(X509 **certificate, const scep_engine_t *engine, EVP_PKEY *key, const csr_t *csr,
                                     apr_pool_t *pool, const char **why)
{
    const unsigned char *at = csr->subject_der.data;
    X509_NAME *subject = d2i_X509_NAME(NULL, &at, (long)csr->subject_der.len);
    X509 *made = X509_new_ex(engine->context, NULL);
    EVP_MD *digest = EVP_MD_fetch(engine->context, "SHA-256", NULL);
    bool good = subject && made && digest;

    *certificate = NULL;
    /* An issuer must have a name (RFC 5280 section 4.1.2.4). */
    if (good && X509_NAME_entry_count(subject) == 0) {
        good = X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)"SCEP client", -1, -1, 0);
    }
    good = good && X509_set_version(made, X509_VERSION_3) && serial_set(made, engine) && dates_set(made) &&
           X509_set_subject_name(made, subject) && X509_set_issuer_name(made, subject) && X509_set_pubkey(made, key) &&
           signer_usage_set(made) && X509_sign(made, key, digest) > 0;
    if (good) {
        X509_check_purpose(made, -1, 0);
        scep_keep_certificate(made, pool);
        *certificate = made;
    } else {
        *why = apr_psprintf(pool, "the signer's certificate cannot be made: %s", scep_engine_errors(pool));
        X509_free(made);
    }
    EVP_MD_free(digest);
    X509_NAME_free(subject);
    ERR_clear_error();
    return good ? APR_SUCCESS : APR_EGENERAL;
}
