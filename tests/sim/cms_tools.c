/* SPDX-License-Identifier: Apache-2.0 */
#include "cms_tools.h"

#include <string.h>

#include <apr_base64.h>
#include <apr_file_io.h>
#include <apr_strings.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/provider.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>

typedef struct {
    OSSL_LIB_CTX *libctx;
    OSSL_PROVIDER *standard, *legacy;
} providers_t;

static apr_status_t providers_free(void *data)
{
    providers_t *p = data;
    OSSL_PROVIDER_unload(p->legacy);
    OSSL_PROVIDER_unload(p->standard);
    OSSL_LIB_CTX_free(p->libctx);
    return APR_SUCCESS;
}

OSSL_LIB_CTX *sim_libctx_make(apr_pool_t *pool)
{
    providers_t *p = apr_pcalloc(pool, sizeof(*p));
    p->libctx = OSSL_LIB_CTX_new();
    if (!p->libctx)
        return NULL;
    p->standard = OSSL_PROVIDER_load(p->libctx, "default");
    p->legacy = OSSL_PROVIDER_load(p->libctx, "legacy");
    apr_pool_cleanup_register(pool, p, providers_free, apr_pool_cleanup_null);
    return p->standard && p->legacy ? p->libctx : NULL;
}

const char *sim_openssl_error(apr_pool_t *pool)
{
    char text[256] = "no reason given";
    unsigned long code = ERR_peek_last_error();
    if (code)
        ERR_error_string_n(code, text, sizeof(text));
    ERR_clear_error();
    return apr_pstrdup(pool, text);
}

void *sim_own(apr_pool_t *pool, void *object, apr_status_t (*release)(void *))
{
    if (object)
        apr_pool_cleanup_register(pool, object, release, apr_pool_cleanup_null);
    return object;
}

static apr_status_t key_free(void *data)
{
    EVP_PKEY_free(data);
    return APR_SUCCESS;
}

static apr_status_t cert_free(void *data)
{
    X509_free(data);
    return APR_SUCCESS;
}

static apr_status_t cms_free(void *data)
{
    CMS_ContentInfo_free(data);
    return APR_SUCCESS;
}

static apr_status_t certs_free(void *data)
{
    sk_X509_pop_free(data, X509_free);
    return APR_SUCCESS;
}

EVP_PKEY *sim_own_key(apr_pool_t *pool, EVP_PKEY *key)
{
    return sim_own(pool, key, key_free);
}

X509 *sim_own_cert(apr_pool_t *pool, X509 *cert)
{
    return sim_own(pool, cert, cert_free);
}

CMS_ContentInfo *sim_own_cms(apr_pool_t *pool, CMS_ContentInfo *cms)
{
    return sim_own(pool, cms, cms_free);
}

sim_bytes_t sim_bytes(const void *data, apr_size_t len, apr_pool_t *pool)
{
    /* One byte more, so that an empty value is told from an absent one, and texts end with a zero. */
    sim_bytes_t bytes = {apr_pcalloc(pool, len + 1), len};
    if (len)
        memcpy(bytes.data, data, len);
    return bytes;
}

sim_bytes_t sim_bytes_of_bio(BIO *bio, apr_pool_t *pool)
{
    char *data = NULL;
    long len = BIO_get_mem_data(bio, &data);
    return sim_bytes(data, len > 0 ? (apr_size_t)len : 0, pool);
}

sim_bytes_t sim_file_read(const char *path, apr_pool_t *pool)
{
    sim_bytes_t none = {NULL, 0}, bytes;
    apr_file_t *file = NULL;
    apr_finfo_t info;
    apr_size_t got = 0;
    if (apr_file_open(&file, path, APR_FOPEN_READ | APR_FOPEN_BINARY, APR_OS_DEFAULT, pool) != APR_SUCCESS)
        return none;
    if (apr_file_info_get(&info, APR_FINFO_SIZE, file) != APR_SUCCESS) {
        apr_file_close(file);
        return none;
    }
    bytes.len = (apr_size_t)info.size;
    bytes.data = apr_pcalloc(pool, bytes.len + 1);
    if (bytes.len && apr_file_read_full(file, bytes.data, bytes.len, &got) != APR_SUCCESS)
        bytes = none;
    apr_file_close(file);
    return bytes;
}

bool sim_file_write(const char *path, sim_bytes_t bytes, apr_pool_t *pool)
{
    apr_file_t *file = NULL;
    apr_int32_t flags = APR_FOPEN_WRITE | APR_FOPEN_CREATE | APR_FOPEN_TRUNCATE | APR_FOPEN_BINARY;
    if (apr_file_open(&file, path, flags, APR_FPROT_UREAD | APR_FPROT_UWRITE, pool) != APR_SUCCESS)
        return false;
    apr_status_t rv = apr_file_write_full(file, bytes.data, bytes.len, NULL);
    return apr_file_close(file) == APR_SUCCESS && rv == APR_SUCCESS;
}

char *sim_hex(sim_bytes_t bytes, bool upper, apr_pool_t *pool)
{
    const char *digits = upper ? "0123456789ABCDEF" : "0123456789abcdef";
    char *text = apr_pcalloc(pool, bytes.len * 2 + 1);
    for (apr_size_t i = 0; i < bytes.len; i++) {
        text[2 * i] = digits[bytes.data[i] >> 4];
        text[2 * i + 1] = digits[bytes.data[i] & 15];
    }
    return text;
}

char *sim_base64(sim_bytes_t bytes, apr_pool_t *pool)
{
    char *text = apr_pcalloc(pool, (apr_size_t)apr_base64_encode_len((int)bytes.len) + 1);
    apr_base64_encode_binary(text, bytes.data, (int)bytes.len);
    return text;
}

sim_bytes_t sim_random(apr_size_t len, apr_pool_t *pool)
{
    sim_bytes_t bytes = sim_bytes(NULL, 0, pool);
    bytes.data = apr_pcalloc(pool, len + 1);
    bytes.len = len;
    if (RAND_bytes(bytes.data, (int)len) != 1)
        bytes.data = NULL;
    return bytes;
}

char *sim_number_in(const char *text, int number, apr_pool_t *pool)
{
    const char *hit = strstr(text, "%d");
    if (!hit)
        return apr_pstrdup(pool, text);
    return apr_psprintf(pool, "%.*s%d%s", (int)(hit - text), text, number, hit + 2);
}

EVP_PKEY *sim_key_read(OSSL_LIB_CTX *libctx, const char *path, apr_pool_t *pool)
{
    BIO *bio = BIO_new_file(path, "r");
    EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey_ex(bio, NULL, NULL, NULL, libctx, NULL) : NULL;
    BIO_free(bio);
    return sim_own_key(pool, key);
}

EVP_PKEY *sim_key_make(OSSL_LIB_CTX *libctx, int bits, apr_pool_t *pool)
{
    return sim_own_key(pool, EVP_PKEY_Q_keygen(libctx, NULL, "RSA", (size_t)bits));
}

STACK_OF(X509) * sim_certs_read(OSSL_LIB_CTX *libctx, const char *path, apr_pool_t *pool)
{
    STACK_OF(X509) *certs = sk_X509_new_null();
    BIO *bio = BIO_new_file(path, "r");
    for (;;) {
        X509 *cert = X509_new_ex(libctx, NULL);
        if (!bio || !cert || !PEM_read_bio_X509(bio, &cert, NULL, NULL)) {
            X509_free(cert);
            break;
        }
        sk_X509_push(certs, cert);
    }
    BIO_free(bio);
    if (sk_X509_num(certs) == 0) {
        sk_X509_free(certs);
        return NULL;
    }
    ERR_clear_error();
    return sim_own(pool, certs, certs_free);
}

static bool extension_add(X509 *cert, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, cert, cert, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    bool ok = extension && X509_add_ext(cert, extension, -1);
    X509_EXTENSION_free(extension);
    return ok;
}

bool sim_serial_random(X509 *cert)
{
    unsigned char raw[16];
    if (RAND_bytes(raw, sizeof(raw)) != 1)
        return false;
    /* Positive, and always 16 bytes. */
    raw[0] = (unsigned char)((raw[0] & 0x7f) | 0x40);
    BIGNUM *number = BN_bin2bn(raw, sizeof(raw), NULL);
    bool ok = number && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(cert));
    BN_free(number);
    return ok;
}

X509 *sim_self_signed(OSSL_LIB_CTX *libctx, EVP_PKEY *key, const X509_NAME *subject, bool ca, apr_pool_t *pool)
{
    X509 *cert = X509_new_ex(libctx, NULL);
    bool ok = cert && X509_set_version(cert, X509_VERSION_3) && sim_serial_random(cert) &&
              X509_set_subject_name(cert, subject) && X509_set_issuer_name(cert, subject) &&
              X509_gmtime_adj(X509_getm_notBefore(cert), -86400) && X509_gmtime_adj(X509_getm_notAfter(cert), 864000) &&
              X509_set_pubkey(cert, key);
    if (ok && ca)
        ok = extension_add(cert, NID_basic_constraints, "critical,CA:TRUE") &&
             extension_add(cert, NID_subject_key_identifier, "hash") &&
             extension_add(cert, NID_key_usage, "critical,keyCertSign,cRLSign,digitalSignature,keyEncipherment");
    else if (ok)
        ok = extension_add(cert, NID_key_usage, "critical,digitalSignature,keyEncipherment");
    if (!ok || !X509_sign(cert, key, EVP_sha256())) {
        X509_free(cert);
        return NULL;
    }
    return sim_own_cert(pool, cert);
}

sim_bytes_t sim_cert_der(X509 *cert, apr_pool_t *pool)
{
    sim_bytes_t bytes = {NULL, 0};
    unsigned char *der = NULL;
    int len = i2d_X509(cert, &der);
    if (len > 0)
        bytes = sim_bytes(der, (apr_size_t)len, pool);
    OPENSSL_free(der);
    return bytes;
}

sim_bytes_t sim_cert_pem(X509 *cert, apr_pool_t *pool)
{
    BIO *bio = BIO_new(BIO_s_mem());
    PEM_write_bio_X509(bio, cert);
    sim_bytes_t bytes = sim_bytes_of_bio(bio, pool);
    BIO_free(bio);
    return bytes;
}

sim_bytes_t sim_key_pem(EVP_PKEY *key, apr_pool_t *pool)
{
    BIO *bio = BIO_new(BIO_s_mem());
    PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL);
    sim_bytes_t bytes = sim_bytes_of_bio(bio, pool);
    BIO_free(bio);
    return bytes;
}

char *sim_serial_hex(const X509 *cert, apr_pool_t *pool)
{
    BIGNUM *number = ASN1_INTEGER_to_BN(X509_get0_serialNumber(cert), NULL);
    char *hex = number ? BN_bn2hex(number) : NULL;
    char *text = apr_pstrdup(pool, hex ? hex : "");
    OPENSSL_free(hex);
    BN_free(number);
    return text;
}

char *sim_name_text(const X509_NAME *name, apr_pool_t *pool)
{
    BIO *bio = BIO_new(BIO_s_mem());
    X509_NAME_print_ex(bio, name, 0, XN_FLAG_RFC2253 & ~(unsigned long)ASN1_STRFLGS_ESC_MSB);
    sim_bytes_t bytes = sim_bytes_of_bio(bio, pool);
    BIO_free(bio);
    return (char *)bytes.data;
}

bool sim_der_next(sim_der_t *cursor, sim_tlv_t *tlv)
{
    const unsigned char *at = cursor->at;
    long len = 0;
    if (at >= cursor->end)
        return false;
    int kind = ASN1_get_object(&at, &len, &tlv->tag, &tlv->cls, cursor->end - cursor->at);
    if ((kind & 0x80) || (kind & 1) || len < 0) {
        ERR_clear_error();
        return false;
    }
    tlv->body = at;
    tlv->len = (apr_size_t)len;
    cursor->at = at + len;
    return true;
}

sim_der_t sim_der_into(const sim_tlv_t *tlv)
{
    sim_der_t inside = {tlv->body, tlv->body + tlv->len};
    return inside;
}

sim_bytes_t sim_der_wrap(int tag, const sim_bytes_t *parts, int count, apr_pool_t *pool)
{
    unsigned char head[6] = {(unsigned char)tag};
    apr_size_t total = 0, n = 2;
    for (int i = 0; i < count; i++)
        total += parts[i].len;
    if (total < 0x80) {
        head[1] = (unsigned char)total;
    } else {
        int octets = total > 0xffffff ? 4 : total > 0xffff ? 3 : total > 0xff ? 2 : 1;
        head[1] = (unsigned char)(0x80 | octets);
        for (int i = octets - 1; i >= 0; i--)
            head[n++] = (unsigned char)(total >> (8 * i));
    }
    sim_bytes_t out = {apr_palloc(pool, n + total + 1), 0};
    memcpy(out.data, head, n);
    out.len = n;
    for (int i = 0; i < count; i++) {
        if (parts[i].len)
            memcpy(out.data + out.len, parts[i].data, parts[i].len);
        out.len += parts[i].len;
    }
    return out;
}

sim_bytes_t sim_certs_only(const sim_bytes_t *certs, int count, apr_pool_t *pool)
{
    static const unsigned char version_and_digests[] = {0x02, 0x01, 0x01, 0x31, 0x00};
    static const unsigned char data[] = {0x30, 0x0b, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01};
    static const unsigned char signed_data[] = {0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02};
    static const unsigned char no_signers[] = {0x31, 0x00};
    sim_bytes_t parts[4] = {sim_bytes(version_and_digests, sizeof(version_and_digests), pool),
                            sim_bytes(data, sizeof(data), pool),
                            {NULL, 0},
                            sim_bytes(no_signers, sizeof(no_signers), pool)};
    if (count)
        parts[2] = sim_der_wrap(0xa0, certs, count, pool);
    sim_bytes_t inner = sim_der_wrap(0x30, parts, 4, pool);
    sim_bytes_t outer[2] = {sim_bytes(signed_data, sizeof(signed_data), pool), sim_der_wrap(0xa0, &inner, 1, pool)};
    return sim_der_wrap(0x30, outer, 2, pool);
}
