/* SPDX-License-Identifier: Apache-2.0 */
/* Client assertions: a JWT that is signed with a registered certificate, judged as Entra judges it, and a little stricter. */
#include <stdlib.h>
#include <string.h>

#include <http_core.h>
#include <http_protocol.h>
#include <apr_strings.h>
#include <apr_thread_mutex.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>

#include "sim_ms.h"

#define SKEW 300
#define LIFE_MAX 600
#define USED_MAX 4096

struct msim_used_t {
    apr_thread_mutex_t *mutex;
    char *names[USED_MAX];
    unsigned count;
};

typedef struct jwt_t {
    json_object *header;
    json_object *claims;
    const char *input; /* what was signed */
    unsigned char *signature;
    apr_size_t signature_length;
} jwt_t;

msim_used_t *msim_used_make(apr_pool_t *pool)
{
    msim_used_t *used = apr_pcalloc(pool, sizeof *used);

    return apr_thread_mutex_create(&used->mutex, APR_THREAD_MUTEX_DEFAULT, pool) == APR_SUCCESS ? used : NULL;
}

/** 0 if the tenant has seen that jti before. The oldest of many are forgotten. */
static int jti_use(msim_used_t *used, const char *tenant, const char *jti, apr_pool_t *pool)
{
    const char *name = apr_pstrcat(pool, tenant, "/", jti, NULL);
    int fresh = 1;

    apr_thread_mutex_lock(used->mutex);
    for (int i = 0; fresh && i < USED_MAX; i++) {
        fresh = used->names[i] == NULL || strcmp(used->names[i], name) != 0;
    }
    if (fresh) {
        char **slot = &used->names[used->count++ % USED_MAX];

        free(*slot);
        *slot = msim_strdup(name);
    }
    apr_thread_mutex_unlock(used->mutex);
    return fresh;
}

/** base64url without padding, of one part. */
static unsigned char *part_decode(const char *text, apr_size_t length, apr_size_t *decoded, apr_pool_t *pool)
{
    char *padded = apr_palloc(pool, length + 4);
    apr_size_t whole = length;

    for (apr_size_t i = 0; i < length; i++) {
        if (text[i] == '+' || text[i] == '/' || text[i] == '=') {
            return NULL;
        }
        padded[i] = text[i] == '-' ? '+' : text[i] == '_' ? '/' : text[i];
    }
    while (whole % 4 != 0) {
        padded[whole++] = '=';
    }
    return msim_base64_decode(padded, whole, decoded, pool);
}

static json_object *part_parse(const char *text, apr_size_t length, apr_pool_t *pool)
{
    apr_size_t decoded = 0;
    unsigned char *json = part_decode(text, length, &decoded, pool);
    json_object *object = json == NULL ? NULL : msim_json_parse((const char *)json, decoded, pool);

    return json_object_is_type(object, json_type_object) ? object : NULL;
}

/** Three parts, the first two of them JSON objects. */
static int jwt_parse(const char *text, jwt_t *jwt, apr_pool_t *pool)
{
    const char *claims = strchr(text, '.');
    const char *signature = claims == NULL ? NULL : strchr(claims + 1, '.');

    if (signature == NULL || strchr(signature + 1, '.') != NULL) {
        return 0;
    }
    jwt->header = part_parse(text, (apr_size_t)(claims - text), pool);
    jwt->claims = part_parse(claims + 1, (apr_size_t)(signature - claims - 1), pool);
    jwt->input = apr_pstrmemdup(pool, text, (apr_size_t)(signature - text));
    jwt->signature = part_decode(signature + 1, strlen(signature + 1), &jwt->signature_length, pool);
    return jwt->header != NULL && jwt->claims != NULL && jwt->signature != NULL;
}

static int thumbprint_fits(X509 *certificate, const char *wanted, apr_pool_t *pool)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned length = 0;
    apr_size_t decoded = 0;
    unsigned char *given = wanted == NULL ? NULL : part_decode(wanted, strlen(wanted), &decoded, pool);

    return given != NULL && X509_digest(certificate, EVP_sha256(), digest, &length) == 1 && decoded == length &&
           memcmp(given, digest, length) == 0;
}

static int signature_fits(msim_keys_t *keys, X509 *certificate, const jwt_t *jwt, int pss)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    EVP_PKEY_CTX *options = NULL;
    EVP_PKEY *key = X509_get0_pubkey(certificate);
    int good = context != NULL && key != NULL && EVP_PKEY_is_a(key, "RSA") &&
               EVP_DigestVerifyInit_ex(context, &options, "SHA256", msim_keys_context(keys), NULL, key, NULL) == 1 &&
               (!pss || (EVP_PKEY_CTX_set_rsa_padding(options, RSA_PKCS1_PSS_PADDING) == 1 &&
                         EVP_PKEY_CTX_set_rsa_pss_saltlen(options, RSA_PSS_SALTLEN_DIGEST) == 1)) &&
               EVP_DigestVerify(context, jwt->signature, jwt->signature_length, (const unsigned char *)jwt->input,
                                strlen(jwt->input)) == 1;

    EVP_MD_CTX_free(context);
    ERR_clear_error();
    return good;
}

static apr_status_t certificate_free(void *certificate)
{
    X509_free(certificate);
    return APR_SUCCESS;
}

/** The registered certificate with that thumbprint; freed with the pool. */
static X509 *certificate_find(msim_keys_t *keys, const char *pem, const char *thumbprint, apr_pool_t *pool)
{
    BIO *bio = pem == NULL ? NULL : BIO_new_mem_buf(pem, -1);
    X509 *found = NULL;

    while (bio != NULL && found == NULL) {
        X509 *one = X509_new_ex(msim_keys_context(keys), NULL);

        if (one == NULL || PEM_read_bio_X509(bio, &one, NULL, NULL) == NULL) {
            X509_free(one);
            break;
        }
        apr_pool_cleanup_register(pool, one, certificate_free, apr_pool_cleanup_null);
        found = thumbprint_fits(one, thumbprint, pool) ? one : NULL;
    }
    BIO_free(bio);
    ERR_clear_error();
    return found;
}

int msim_certificates_count(msim_keys_t *keys, const char *pem)
{
    BIO *bio = BIO_new_mem_buf(pem, -1);
    int count = 0;

    while (bio != NULL) {
        X509 *one = X509_new_ex(msim_keys_context(keys), NULL);
        int more = one != NULL && PEM_read_bio_X509(bio, &one, NULL, NULL) != NULL;

        X509_free(one);
        if (!more) {
            break;
        }
        count++;
    }
    BIO_free(bio);
    ERR_clear_error();
    return count;
}

static int number_read(json_object *claims, const char *name, apr_int64_t *value)
{
    json_object *member = NULL;

    if (!json_object_object_get_ex(claims, name, &member) || !json_object_is_type(member, json_type_int)) {
        return 0;
    }
    *value = json_object_get_int64(member);
    return 1;
}

static int text_is(json_object *object, const char *name, const char *wanted)
{
    const char *text = msim_json_text(object, name);

    return text != NULL && strcmp(text, wanted) == 0;
}

static const char *claims_judge(msim_call_t *call, const msim_tenant_t *tenant, const jwt_t *jwt, int *aadsts)
{
    apr_int64_t now = apr_time_sec(apr_time_now()), nbf = 0, exp = 0, iat = 0;
    const char *jti = msim_json_text(jwt->claims, "jti");

    *aadsts = 700023;
    if (!text_is(jwt->claims, "aud", ap_construct_url(call->r->pool, call->path, call->r))) {
        return "Client assertion audience claim does not match Realm issuer.";
    }
    *aadsts = 700021;
    if (!text_is(jwt->claims, "iss", tenant->app_id) || !text_is(jwt->claims, "sub", tenant->app_id)) {
        return "Client assertion application identifier doesn't match 'client_id' parameter.";
    }
    *aadsts = 700024;
    if (!number_read(jwt->claims, "nbf", &nbf) || !number_read(jwt->claims, "exp", &exp) ||
        !number_read(jwt->claims, "iat", &iat) || nbf > now + SKEW || iat > now + SKEW || exp <= now || exp <= nbf ||
        exp - nbf > LIFE_MAX) {
        return "Client assertion is not within its valid time range.";
    }
    *aadsts = 50027;
    if (jti == NULL || strlen(jti) < 16 || !jti_use(call->sim->used, tenant->tenant, jti, call->r->pool)) {
        return "JWT token is invalid or malformed: its jti is missing, short, or was used before.";
    }
    return NULL;
}

static const char *certificate_judge(msim_call_t *call, const msim_tenant_t *tenant, const jwt_t *jwt, int *aadsts)
{
    apr_pool_t *pool = call->r->pool;
    X509 *certificate =
        certificate_find(call->sim->keys, tenant->certificates, msim_json_text(jwt->header, "x5t#S256"), pool);
    int pss = text_is(jwt->header, "alg", "PS256");

    *aadsts = 50027;
    if (!text_is(jwt->header, "typ", "JWT") || (!pss && !text_is(jwt->header, "alg", "RS256"))) {
        return "JWT token is invalid or malformed.";
    }
    *aadsts = 700027;
    if (certificate == NULL) {
        return "The certificate with identifier used to sign the client assertion is not registered on application.";
    }
    if (!signature_fits(call->sim->keys, certificate, jwt, pss)) {
        return "Client assertion failed signature validation.";
    }
    if (X509_cmp_current_time(X509_get0_notAfter(certificate)) < 0 ||
        X509_cmp_current_time(X509_get0_notBefore(certificate)) > 0) {
        return "Client assertion failed signature validation: the key used is expired.";
    }
    return claims_judge(call, tenant, jwt, aadsts);
}

const char *msim_assertion_judge(msim_call_t *call, const msim_tenant_t *tenant, const char *assertion, int *aadsts)
{
    jwt_t jwt = {0};

    if (tenant->federated != NULL && (*tenant->federated == '\0' || strcmp(assertion, tenant->federated) == 0)) {
        return NULL;
    }
    if (tenant->certificates == NULL && tenant->federated != NULL) {
        *aadsts = 70021;
        return "No matching federated identity record found for presented assertion.";
    }
    *aadsts = 50027;
    if (!jwt_parse(assertion, &jwt, call->r->pool)) {
        return "JWT token is invalid or malformed.";
    }
    return certificate_judge(call, tenant, &jwt, aadsts);
}
