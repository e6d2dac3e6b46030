/* SPDX-License-Identifier: Apache-2.0 */
#include "intune/app_certificate.h"

#include "base/clock.h"
#include "base/heap_root.h"
#include "base/secret_file.h"
#include "base/text.h"

#include <apr_lib.h>
#include <apr_strings.h>
#include <apr_thread_mutex.h>
#include <openssl/bio.h>
#include <openssl/conf.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/provider.h>
#include <openssl/store.h>
#include <openssl/ui.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

enum { PATH_SHOWN = 512, KEY_BITS_MIN = 2048, FAILURES_MAX = 16, DIGEST_LEN = 32, NAME_LEN = 20 };

static const apr_interval_time_t retry_pause = APR_USEC_PER_SEC;

/* What is in use, or is being judged. The key is counted, so that a caller's stays when the next one comes. */
typedef struct pair_t {
    EVP_PKEY *key;
    unsigned char digest[DIGEST_LEN];
    unsigned char name[NAME_LEN];
    apr_time_t not_after;
} pair_t;

struct app_certificate_t {
    OSSL_LIB_CTX *context;
    OSSL_PROVIDER *provider;
    EVP_MD *sha256;
    EVP_MD *sha1;
    const char *certificate;
    const char *key; /* a path, or NULL */
    const char *uri; /* of the key, or NULL */
    secret_source_t *password;
    apr_thread_mutex_t *mutex;
    pair_t pair;
    struct stat seen[2]; /* certificate and key when they were last read, whatever came of it */
    apr_time_t read_at;
    pid_t read_by; /* a key from a URI is opened by each process for itself */
    char *kept;    /* why the last reading changed nothing; on the heap; or NULL */
};

/* One reading. */
typedef struct reading_t {
    app_certificate_t *from;
    apr_pool_t *pool;
    const char *message;
    const secret_t *password;
    bool asked; /* for the pass phrase */
    X509 *certificate;
    EVP_PKEY *key;
} reading_t;

static bool complain(reading_t *reading, const char *where, const char *what)
{
    if (!reading->message)
        reading->message = apr_pstrcat(reading->pool, text_escape(reading->pool, where, PATH_SHOWN), " ", what, NULL);
    return false;
}

/* Nobody sits at a terminal: what has no pass phrase is refused. */
static int password_give(char *buffer, int size, int writing, void *data)
{
    reading_t *reading = data;
    apr_size_t len;

    (void)writing;
    reading->asked = true;
    if (!reading->password || size <= 0)
        return -1;
    len = secret_length(reading->password);
    if (len > (apr_size_t)size)
        return -1;
    memcpy(buffer, secret_reveal(reading->password), len);
    return (int)len;
}

/*
 * The first certificate and the first private key; what is there already stays. What cannot be decoded or decrypted is
 * passed over, within reason: something behind it may be what is wanted.
 */
static void store_read(reading_t *reading, OSSL_STORE_CTX *store, bool want_certificate, bool want_key)
{
    int failures = 0;

    while (!OSSL_STORE_eof(store) && failures < FAILURES_MAX) {
        OSSL_STORE_INFO *info = OSSL_STORE_load(store);
        int type = info ? OSSL_STORE_INFO_get_type(info) : 0;

        if (!info)
            failures++;
        if (want_certificate && type == OSSL_STORE_INFO_CERT && !reading->certificate)
            reading->certificate = OSSL_STORE_INFO_get1_CERT(info);
        else if (want_key && type == OSSL_STORE_INFO_PKEY && !reading->key)
            reading->key = OSSL_STORE_INFO_get1_PKEY(info);
        OSSL_STORE_INFO_free(info);
    }
}

static const char *password_fault(const reading_t *reading)
{
    if (!reading->asked)
        return "holds no private key that can be used";
    return reading->password ? "is not opened by the pass phrase of IntuneScepAppCertificatePassword"
                             : "needs a pass phrase: set IntuneScepAppCertificatePassword";
}

static bool file_read(reading_t *reading, const char *path, bool want_certificate, bool want_key)
{
    UI_METHOD *method = UI_UTIL_wrap_read_pem_callback(password_give, 0);
    secret_file_t *file = OPENSSL_zalloc(sizeof(*file));
    OSSL_STORE_CTX *store = NULL;
    BIO *bio = NULL;
    bool good = false;

    if (!method || !file) {
        complain(reading, path, "cannot be read: memory ran out");
        goto out;
    }
    if (secret_file_read(file, path, want_key, reading->pool, &reading->message) != APR_SUCCESS)
        goto out;
    if (file->len == 0 || file->len > SECRET_FILE_MAX) {
        complain(reading, path, file->len ? "is longer than 64 KiB" : "is empty");
        goto out;
    }
    bio = BIO_new_mem_buf(file->bytes, (int)file->len);
    store =
        bio ? OSSL_STORE_attach(bio, "file", reading->from->context, NULL, method, reading, NULL, NULL, NULL) : NULL;
    if (store)
        store_read(reading, store, want_certificate, want_key);
    if (want_certificate && !reading->certificate)
        complain(reading, path, "holds no certificate");
    else if (want_key && !reading->key)
        complain(reading, path, password_fault(reading));
    else
        good = true;
out:
    OSSL_STORE_close(store);
    BIO_free(bio);
    OPENSSL_clear_free(file, sizeof(*file));
    UI_destroy_method(method);
    ERR_clear_error();
    return good;
}

static bool uri_read(reading_t *reading, const char *uri)
{
    UI_METHOD *method = UI_UTIL_wrap_read_pem_callback(password_give, 0);
    OSSL_STORE_CTX *store =
        method ? OSSL_STORE_open_ex(uri, reading->from->context, NULL, method, reading, NULL, NULL, NULL) : NULL;

    if (store) {
        store_read(reading, store, false, true);
        OSSL_STORE_close(store);
        if (!reading->key)
            complain(reading, uri, password_fault(reading));
    } else {
        complain(reading, uri, "cannot be opened: OpenSSL's configuration file must load a provider for such keys");
    }
    UI_destroy_method(method);
    ERR_clear_error();
    return reading->key != NULL;
}

static apr_time_t time_read(const ASN1_TIME *time)
{
    struct tm tm;

    return time && ASN1_TIME_to_tm(time, &tm) == 1 ? apr_time_from_sec(timegm(&tm)) : 0;
}

static bool pair_check(reading_t *reading, const char *certificate, const char *key)
{
    apr_time_t now = clock_now();
    char date[APR_RFC822_DATE_LEN];
    apr_time_t not_before = time_read(X509_get0_notBefore(reading->certificate));
    apr_time_t not_after = time_read(X509_get0_notAfter(reading->certificate));
    EVP_PKEY *public = X509_get0_pubkey(reading->certificate);

    if (!public || !EVP_PKEY_is_a(public, "RSA"))
        return complain(reading, certificate, "holds a certificate whose key is not RSA, but Entra takes no other");
    if (EVP_PKEY_get_bits(public) < KEY_BITS_MIN)
        return complain(reading, certificate, "holds a certificate with a key of less than 2048 bits");
    if (X509_check_private_key(reading->certificate, reading->key) != 1)
        return complain(reading, key, "holds a private key that does not fit the certificate");
    if (now < not_before) {
        apr_rfc822_date(date, not_before);
        return complain(reading, certificate,
                        apr_pstrcat(reading->pool, "holds a certificate that is not valid before ", date, NULL));
    }
    if (now >= not_after) {
        apr_rfc822_date(date, not_after);
        return complain(reading, certificate,
                        apr_pstrcat(reading->pool, "holds a certificate that expired on ", date, NULL));
    }
    return true;
}

static bool pair_name(reading_t *reading, pair_t *pair)
{
    app_certificate_t *from = reading->from;
    unsigned char *der = NULL;
    int len = i2d_X509(reading->certificate, &der);
    bool good = len > 0 && EVP_Digest(der, (size_t)len, pair->digest, NULL, from->sha256, NULL) == 1 &&
                EVP_Digest(der, (size_t)len, pair->name, NULL, from->sha1, NULL) == 1;

    OPENSSL_free(der);
    pair->not_after = time_read(X509_get0_notAfter(reading->certificate));
    return good || complain(reading, from->certificate, "cannot be hashed");
}

static bool pair_read(reading_t *reading, pair_t *pair)
{
    app_certificate_t *from = reading->from;
    bool apart = from->key || from->uri;
    bool good = file_read(reading, from->certificate, true, !apart);

    if (good && apart)
        good = from->uri ? uri_read(reading, from->uri) : file_read(reading, from->key, false, true);
    good = good &&
           pair_check(reading, from->certificate,
                      from->uri   ? from->uri
                      : from->key ? from->key
                                  : from->certificate) &&
           pair_name(reading, pair);
    if (good) {
        pair->key = reading->key;
        reading->key = NULL;
    }
    X509_free(reading->certificate);
    EVP_PKEY_free(reading->key);
    ERR_clear_error();
    return good;
}

static void files_look(const app_certificate_t *certificate, struct stat now[2])
{
    memset(now, 0, 2 * sizeof(*now));
    (void)stat(certificate->certificate, &now[0]);
    if (certificate->key)
        (void)stat(certificate->key, &now[1]);
}

/*
 * Takes the new pair if it is good; gives NULL or why not. The files' facts are from before the reading, so that no
 * change is missed.
 */
static const char *pair_renew(app_certificate_t *certificate, apr_pool_t *pool)
{
    reading_t reading = {.from = certificate, .pool = pool};
    pair_t fresh = {0};

    files_look(certificate, certificate->seen);
    certificate->read_at = clock_now();
    certificate->read_by = getpid();
    if (certificate->password)
        reading.password = secret_source_read(certificate->password, pool);
    if (!pair_read(&reading, &fresh))
        return reading.message ? reading.message : "the certificate cannot be read";
    EVP_PKEY_free(certificate->pair.key);
    certificate->pair = fresh;
    return NULL;
}

/* Something changed; or what changed before was no good yet, and a second has passed. */
static bool renewal_due(const app_certificate_t *certificate)
{
    struct stat now[2];
    apr_time_t clock = clock_now();

    files_look(certificate, now);
    if (!secret_file_same(&now[0], &certificate->seen[0]) || !secret_file_same(&now[1], &certificate->seen[1]))
        return true;
    if (certificate->uri && certificate->read_by != getpid())
        return true;
    return certificate->kept && (clock < certificate->read_at || clock - certificate->read_at >= retry_pause);
}

/* What passes through the pool on the way, the pass phrase for one, ends with it. */
static void renew_now(app_certificate_t *certificate)
{
    apr_pool_t *scratch = NULL;
    const char *wrong = "memory ran out";

    if (apr_pool_create(&scratch, NULL) == APR_SUCCESS)
        wrong = pair_renew(certificate, scratch);
    free(certificate->kept);
    certificate->kept = wrong ? strdup(wrong) : NULL;
    if (scratch)
        apr_pool_destroy(scratch);
}

static void renew_if_due(app_certificate_t *certificate)
{
    if (renewal_due(certificate))
        renew_now(certificate);
}

static apr_status_t key_release(void *key)
{
    EVP_PKEY_free(key);
    return APR_SUCCESS;
}

const app_pair_t *app_certificate_take(app_certificate_t *certificate, apr_pool_t *pool, const char **kept)
{
    app_pair_t *taken = apr_pcalloc(pool, sizeof(*taken));
    const pair_t *pair = &certificate->pair;
    bytes_t digest = {pair->digest, DIGEST_LEN}, name = {pair->name, NAME_LEN};

    apr_thread_mutex_lock(certificate->mutex);
    renew_if_due(certificate);
    *kept = certificate->kept ? apr_pstrdup(pool, certificate->kept) : NULL;
    if (EVP_PKEY_up_ref(pair->key) == 1)
        taken->key = pair->key;
    taken->context = certificate->context;
    taken->thumbprint = text_base64url(pool, digest);
    taken->name = text_hex(pool, name);
    taken->not_after = pair->not_after;
    apr_thread_mutex_unlock(certificate->mutex);
    if (!taken->key)
        return NULL;
    apr_pool_cleanup_register(pool, taken->key, key_release, apr_pool_cleanup_null);
    return taken;
}

apr_time_t app_certificate_expires(app_certificate_t *certificate)
{
    apr_time_t at;

    apr_thread_mutex_lock(certificate->mutex);
    renew_if_due(certificate);
    at = certificate->pair.not_after;
    apr_thread_mutex_unlock(certificate->mutex);
    return at;
}

/* Files are read here and not by OpenSSL, which would not look at their rights. */
static bool is_file_uri(const char *key)
{
    return strncasecmp(key, "file:", 5) == 0;
}

bool app_certificate_key_is_uri(const char *key)
{
    const char *at = key;

    if (!apr_isalpha(*at) || is_file_uri(key))
        return false;
    while (apr_isalnum(*at) || *at == '+' || *at == '-' || *at == '.')
        at++;
    return *at == ':';
}

/* RFC 7512 lets a PIN stand in the URI itself, which logs and mod_info show. */
static bool holds_pin(const char *key)
{
    return key && app_certificate_key_is_uri(key) && strcasestr(key, "pin-value");
}

static apr_status_t certificate_end(void *data)
{
    app_certificate_t *certificate = data;

    heap_root_remove(certificate);
    EVP_PKEY_free(certificate->pair.key);
    EVP_MD_free(certificate->sha256);
    EVP_MD_free(certificate->sha1);
    free(certificate->kept);
    if (certificate->provider)
        OSSL_PROVIDER_unload(certificate->provider);
    OSSL_LIB_CTX_free(certificate->context);
    return APR_SUCCESS;
}

static const char *context_make(app_certificate_t *made)
{
    char *config = NULL;
    int loaded = 1;

    if (!(made->context = OSSL_LIB_CTX_new()) || !(made->provider = OSSL_PROVIDER_load(made->context, "default")) ||
        !(made->sha256 = EVP_MD_fetch(made->context, "SHA-256", NULL)) ||
        !(made->sha1 = EVP_MD_fetch(made->context, "SHA-1", NULL)))
        return "OpenSSL's default provider cannot be used";
    if (made->uri) {
        config = CONF_get1_default_config_file();
        loaded = config ? OSSL_LIB_CTX_load_config(made->context, config) : 0;
        OPENSSL_free(config);
    }
    return loaded == 1 ? NULL : "OpenSSL's configuration file, which must load the provider of the key, cannot be used";
}

apr_status_t app_certificate_make(app_certificate_t **certificate, const app_certificate_settings_t *settings,
                                  apr_pool_t *pool, const char **message)
{
    app_certificate_t *made = apr_pcalloc(pool, sizeof(*made));
    const char *key = settings->key, *wrong;

    if (holds_pin(key)) {
        *message = "a PIN has no place in the URI: use IntuneScepAppCertificatePassword";
        return APR_EINVAL;
    }
    made->certificate = apr_pstrdup(pool, settings->certificate);
    made->password = settings->password;
    if (key && app_certificate_key_is_uri(key))
        made->uri = apr_pstrdup(pool, key);
    else if (key)
        made->key = apr_pstrdup(pool, is_file_uri(key) ? key + 5 : key);
    heap_root_add(made);
    apr_pool_cleanup_register(pool, made, certificate_end, apr_pool_cleanup_null);
    if (apr_thread_mutex_create(&made->mutex, APR_THREAD_MUTEX_DEFAULT, pool) != APR_SUCCESS) {
        wrong = "a mutex could not be made";
    } else if (!(wrong = context_make(made))) {
        renew_now(made);
        wrong = made->pair.key ? NULL : made->kept ? made->kept : "memory ran out";
    }
    ERR_clear_error();
    if (wrong) {
        *message = apr_pstrdup(pool, wrong);
        return APR_EGENERAL;
    }
    *certificate = made;
    return APR_SUCCESS;
}
