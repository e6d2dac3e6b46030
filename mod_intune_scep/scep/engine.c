/* SPDX-License-Identifier: Apache-2.0 */
#include "engine.h"

#include "base/text.h"
#include "engine_provider.h"
#include "parts.h"

#include <apr_strings.h>
#include <limits.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/objects.h>
#include <openssl/provider.h>
#include <strings.h>

/* As much as a message and all that is made of it take at the least. */
enum { MEMORY_PROBE = 1024 * 1024 };

typedef struct loaded_t {
    OSSL_LIB_CTX *aside; /* for the default provider, of which the contexts have parts */
    OSSL_PROVIDER *whole;
    OSSL_LIB_CTX *context;
    OSSL_PROVIDER *standard;
    OSSL_PROVIDER *legacy;
    OSSL_LIB_CTX *reading;
    OSSL_PROVIDER *reader;
} loaded_t;

typedef struct algorithm_t {
    unsigned bit;
    int nid;
    const char *name;
    const char *words[4];
} algorithm_t;

static const algorithm_t ciphers[] = {
    {SCEP_DES, NID_des_cbc, "DES-CBC", {"DES"}},
    {SCEP_DES3, NID_des_ede3_cbc, "DES-EDE3-CBC", {"DES3", "3DES"}},
    {SCEP_AES128, NID_aes_128_cbc, "AES-128-CBC", {"AES-128", "AES128", "AES"}},
    {SCEP_AES192, NID_aes_192_cbc, "AES-192-CBC", {"AES-192", "AES192", "AES"}},
    {SCEP_AES256, NID_aes_256_cbc, "AES-256-CBC", {"AES-256", "AES256", "AES"}},
};

static const algorithm_t digests[] = {
    {SCEP_MD5, NID_md5, "MD5", {NULL}},
    {SCEP_SHA1, NID_sha1, "SHA-1", {"SHA1"}},
    {SCEP_SHA224, NID_sha224, "SHA-224", {"SHA224"}},
    {SCEP_SHA256, NID_sha256, "SHA-256", {"SHA256"}},
    {SCEP_SHA384, NID_sha384, "SHA-384", {"SHA384"}},
    {SCEP_SHA512, NID_sha512, "SHA-512", {"SHA512"}},
};

enum { CIPHERS = sizeof(ciphers) / sizeof(ciphers[0]), DIGESTS = sizeof(digests) / sizeof(digests[0]) };

static void context_end(OSSL_LIB_CTX *context, OSSL_PROVIDER *provider)
{
    if (provider) {
        OSSL_PROVIDER_unload(provider);
    }
    OSSL_LIB_CTX_free(context);
}

static apr_status_t loaded_end(void *data)
{
    loaded_t *loaded = data;

    context_end(loaded->reading, loaded->reader);
    if (loaded->legacy) {
        OSSL_PROVIDER_unload(loaded->legacy);
    }
    context_end(loaded->context, loaded->standard);
    context_end(loaded->aside, loaded->whole);
    return APR_SUCCESS;
}

apr_status_t scep_engine_make(scep_engine_t **engine, apr_pool_t *pool, result_t *result)
{
    scep_engine_t *made = apr_pcalloc(pool, sizeof(*made));
    loaded_t *loaded = apr_pcalloc(pool, sizeof(*loaded));

    *engine = NULL;
    ERR_clear_error();
    apr_pool_cleanup_register(pool, loaded, loaded_end, apr_pool_cleanup_null);
    loaded->aside = OSSL_LIB_CTX_new();
    loaded->context = OSSL_LIB_CTX_new();
    loaded->reading = OSSL_LIB_CTX_new();
    if (!loaded->aside || !loaded->context || !loaded->reading) {
        return result_set(result, PROBLEM_INTERNAL, "no OpenSSL library context: %s", scep_engine_errors(pool));
    }
    loaded->whole = OSSL_PROVIDER_load(loaded->aside, "default");
    loaded->reader =
        loaded->whole ? scep_provider_load(loaded->reading, loaded->whole, PROVIDER_READING) : NULL;
    loaded->standard =
        loaded->reader ? scep_provider_load(loaded->context, loaded->whole, PROVIDER_OUR_KEYS) : NULL;
    loaded->legacy = loaded->standard ? OSSL_PROVIDER_load(loaded->context, "legacy") : NULL;
    if (!loaded->legacy) {
        return result_set(result, PROBLEM_INTERNAL, "OpenSSL's %s provider could not be loaded: %s",
                          loaded->standard ? "legacy" : "default", scep_engine_errors(pool));
    }
    made->context = loaded->context;
    made->reading = loaded->reading;
    *engine = made;
    return APR_SUCCESS;
}

/* In this thread, since somebody began to watch. */
static _Thread_local bool memory_ran_out;

/* X509_PUBKEY_get0() reads a key that could not be read once more, and calls it an error of its own where that goes well. */
static void note(unsigned long error)
{
    int reason = ERR_GET_REASON(error);

    memory_ran_out = memory_ran_out || reason == ERR_R_MALLOC_FAILURE ||
                     (reason == ERR_R_INTERNAL_ERROR && ERR_GET_LIB(error) == ERR_LIB_X509);
}

void scep_engine_clear_errors(void)
{
    unsigned long error = 0;

    while ((error = ERR_get_error()) != 0) {
        note(error);
    }
    ERR_clear_error();
}

void scep_engine_watch_memory(void)
{
    ERR_clear_error();
    memory_ran_out = false;
}

const char *scep_engine_errors(apr_pool_t *pool)
{
    const char *line = "";
    const char *data = NULL;
    unsigned long error = 0;
    int flags = 0;
    int count = 0;

    while ((error = ERR_get_error_all(NULL, NULL, NULL, &data, &flags)) != 0) {
        char text[256];

        note(error);
        /* The first errors are the nearest to the cause; a hostile message must not fill the log. */
        if (++count > 4) {
            continue;
        }
        ERR_error_string_n(error, text, sizeof(text));
        line = apr_pstrcat(pool, line, count > 1 ? "; " : "", text_escape(pool, text, sizeof(text)), NULL);
        if ((flags & ERR_TXT_STRING) && data && *data) {
            line = apr_pstrcat(pool, line, " (", text_escape(pool, data, 120), ")", NULL);
        }
    }
    return line;
}

/* Not all of OpenSSL tells of it. What cannot be had now was wanting a moment ago, too. */
bool scep_engine_memory_is_short(void)
{
    void *probe = OPENSSL_malloc(MEMORY_PROBE);
    bool found = !probe;

    OPENSSL_free(probe);
    ERR_clear_error();
    return found;
}

void scep_engine_blame_memory(result_t *result)
{
    scep_engine_clear_errors();
    if (result->problem == PROBLEM_NONE || result->problem == PROBLEM_INTERNAL ||
        (!memory_ran_out && !scep_engine_memory_is_short())) {
        return;
    }
    const char *what = problem_facts(result->problem)->what;
    const char *detail = result->detail ? result->detail : "";

    result->problem = PROBLEM_NONE;
    result_set(result, PROBLEM_INTERNAL, "memory ran out, and so it seemed: %s%s%s", what, *detail ? ": " : "", detail);
}

static unsigned bit_of_nid(const algorithm_t *table, int rows, int nid)
{
    int i = 0;

    for (i = 0; i < rows; i++) {
        if (table[i].nid == nid) {
            return table[i].bit;
        }
    }
    return 0;
}

static const char *name_of_bit(const algorithm_t *table, int rows, unsigned bit)
{
    int i = 0;

    for (i = 0; i < rows; i++) {
        if (table[i].bit == bit) {
            return table[i].name;
        }
    }
    return "unknown";
}

unsigned scep_cipher_of_nid(int nid)
{
    return bit_of_nid(ciphers, CIPHERS, nid);
}

unsigned scep_digest_of_nid(int nid)
{
    return bit_of_nid(digests, DIGESTS, nid);
}

const char *scep_cipher_name(unsigned bit)
{
    return name_of_bit(ciphers, CIPHERS, bit);
}

const char *scep_digest_name(unsigned bit)
{
    return name_of_bit(digests, DIGESTS, bit);
}

static bool word_is(const char *word, apr_size_t len, const char *known)
{
    return known && strlen(known) == len && strncasecmp(word, known, len) == 0;
}

static unsigned bits_of_word(const algorithm_t *table, int rows, const char *word, apr_size_t len)
{
    unsigned bits = 0;
    int i = 0;
    unsigned j = 0;

    for (i = 0; i < rows; i++) {
        bool found = word_is(word, len, table[i].name);

        for (j = 0; j < sizeof(table[i].words) / sizeof(table[i].words[0]); j++) {
            found = found || word_is(word, len, table[i].words[j]);
        }
        if (found) {
            bits |= table[i].bit;
        }
    }
    return bits;
}

const char *scep_algorithms_parse(scep_algorithms_t *algorithms, const char *words, apr_pool_t *pool)
{
    static const char blanks[] = " \t\r\n,";
    scep_algorithms_t found = {0, 0};
    const char *word = words;

    for (word += strspn(word, blanks); *word; word += strspn(word, blanks)) {
        apr_size_t len = strcspn(word, blanks);
        unsigned cipher = bits_of_word(ciphers, CIPHERS, word, len);
        unsigned digest = bits_of_word(digests, DIGESTS, word, len);

        if (!cipher && !digest) {
            return apr_pstrmemdup(pool, word, len);
        }
        found.ciphers |= cipher;
        found.digests |= digest;
        word += len;
    }
    *algorithms = found;
    return NULL;
}

static apr_status_t certificate_end(void *data)
{
    X509_free(data);
    return APR_SUCCESS;
}

void scep_keep_certificate(X509 *certificate, apr_pool_t *pool)
{
    apr_pool_cleanup_register(pool, certificate, certificate_end, apr_pool_cleanup_null);
}

bytes_t scep_bytes_of_bio(BIO *bio, apr_pool_t *pool)
{
    bytes_t bytes = {NULL, 0};
    char *data = NULL;
    long len = BIO_get_mem_data(bio, &data);

    if (len > 0) {
        bytes.data = apr_pmemdup(pool, data, (apr_size_t)len);
        bytes.len = (apr_size_t)len;
    }
    return bytes;
}

CMS_ContentInfo *scep_cms_read(OSSL_LIB_CTX *context, bytes_t der)
{
    CMS_ContentInfo *cms = NULL;
    const unsigned char *at = der.data;

    if (der.len == 0 || der.len > INT_MAX || scep_cms_excess(der)) {
        return NULL;
    }
    cms = CMS_ContentInfo_new_ex(context, NULL);
    if (!cms) {
        return NULL;
    }
    /* On failure OpenSSL has freed the object and cleared our pointer. */
    if (!d2i_CMS_ContentInfo(&cms, &at, (long)der.len) || at != der.data + der.len) {
        CMS_ContentInfo_free(cms);
        return NULL;
    }
    return cms;
}

bytes_t scep_cms_print(CMS_ContentInfo *cms, apr_pool_t *pool)
{
    bytes_t bytes = {NULL, 0};
    unsigned char *der = NULL;
    int len = i2d_CMS_ContentInfo(cms, &der);

    if (len > 0) {
        bytes.data = apr_pmemdup(pool, der, (apr_size_t)len);
        bytes.len = (apr_size_t)len;
    }
    OPENSSL_free(der);
    return bytes;
}

const char *scep_oid_print(char text[SCEP_OID_SIZE], const ASN1_OBJECT *object)
{
    int len = OBJ_obj2txt(text, SCEP_OID_SIZE, object, 1);

    return len > 0 && len < SCEP_OID_SIZE ? text : "";
}

bool scep_oid_is(const ASN1_OBJECT *object, const char *oid)
{
    char text[SCEP_OID_SIZE];

    return strcmp(scep_oid_print(text, object), oid) == 0;
}
