/* SPDX-License-Identifier: Apache-2.0 */
#include "scep/http_side.h"

#include <apr_encode.h>
#include <apr_escape.h>
#include <apr_lib.h>
#include <apr_strings.h>

#include <strings.h>

static const struct {
    const char *name;
    scep_operation_t operation;
} operations[] = {
    {"GetCACaps", SCEP_OP_GETCACAPS},
    {"GetCACert", SCEP_OP_GETCACERT},
    {"GetNextCACert", SCEP_OP_GETNEXTCACERT},
    {"PKIOperation", SCEP_OP_PKIOPERATION},
};

static scep_operation_t operation_of(const char *escaped, apr_pool_t *pool)
{
    /* NULL for a broken escape and for %00, so that nothing hides behind a NUL */
    const char *name = apr_punescape_url(pool, escaped, NULL, NULL, 0);
    if (name == NULL) {
        return SCEP_OP_UNKNOWN;
    }
    for (apr_size_t i = 0; i < sizeof(operations) / sizeof(operations[0]); i++) {
        if (strcasecmp(name, operations[i].name) == 0) {
            return operations[i].operation;
        }
    }
    return SCEP_OP_UNKNOWN;
}

scep_operation_t scep_query_parse(const char *query, const char **message, apr_pool_t *pool)
{
    scep_operation_t operation = SCEP_OP_NONE;
    const char *found = NULL;

    for (const char *part = query; part != NULL && *part != '\0';) {
        apr_size_t len = strcspn(part, "&");
        apr_size_t name_len = strcspn(part, "=&");
        const char *name = apr_punescape_url(pool, apr_pstrmemdup(pool, part, name_len), NULL, NULL, 0);
        const char *value = "";
        if (name_len < len) {
            value = apr_pstrmemdup(pool, part + name_len + 1, len - name_len - 1);
        }
        if (name != NULL && operation == SCEP_OP_NONE && strcasecmp(name, "operation") == 0) {
            operation = operation_of(value, pool);
        } else if (name != NULL && found == NULL && strcasecmp(name, "message") == 0) {
            found = value;
        }
        part += len;
        if (*part == '&') {
            part++;
        }
    }
    *message = found != NULL ? found : "";
    return operation;
}

/** Drops line breaks and makes a blank the `+` that it was before somebody read it as form data. */
static const char *blanks_mend(const char *text, apr_size_t *len, apr_pool_t *pool)
{
    char *mended = apr_palloc(pool, strlen(text) + 1);
    apr_size_t n = 0;
    for (; *text != '\0'; text++) {
        if (*text == ' ') {
            mended[n++] = '+';
        } else if (*text != '\r' && *text != '\n' && *text != '\t') {
            mended[n++] = *text;
        }
    }
    mended[n] = '\0';
    *len = n;
    return mended;
}

/** The length without padding; 0 where the padding is more than the length asks for. */
static apr_size_t padding_cut(const char *base64, apr_size_t len)
{
    apr_size_t bare = len;
    while (bare > 0 && base64[bare - 1] == '=') {
        bare--;
    }
    return len - bare <= (4 - bare % 4) % 4 ? bare : 0;
}

apr_status_t scep_get_message_decode(bytes_t *der, const char *message, apr_size_t max, apr_pool_t *pool)
{
    const char *text = message;
    for (int round = 0; round < 2 && text != NULL && strchr(text, '%') != NULL; round++) {
        text = apr_punescape_url(pool, text, NULL, NULL, 0);
    }
    if (text == NULL) {
        return APR_EINVAL;
    }
    apr_size_t len = 0;
    const char *base64 = blanks_mend(text, &len, pool);
    len = padding_cut(base64, len);
    /* one character left over is never enough for a byte */
    if (len == 0 || len % 4 == 1) {
        return APR_EINVAL;
    }
    if (len / 4 * 3 + (len % 4 != 0 ? len % 4 - 1 : 0) > max) {
        return APR_ENOSPC;
    }
    apr_size_t decoded = 0;
    /* takes both alphabets and stops at any other character */
    const unsigned char *data = apr_pdecode_base64_binary(pool, base64, (apr_ssize_t)len, APR_ENCODE_NONE, &decoded);
    if (data == NULL || decoded == 0) {
        return APR_EINVAL;
    }
    der->data = data;
    der->len = decoded;
    return APR_SUCCESS;
}

const char *scep_capabilities_print(scep_algorithms_t device, bool next_ca, apr_pool_t *pool)
{
    bool aes = (device.ciphers & SCEP_AES128) != 0;
    bool sha256 = (device.digests & SCEP_SHA256) != 0;
    /* the first keyword means AES-128-CBC; SCEPStandard promises it together with SHA-256 (section 3.5.2) */
    return apr_pstrcat(pool, aes ? "AES\n" : "", (device.ciphers & SCEP_DES3) != 0 ? "DES3\n" : "",
                       "POSTPKIOperation\nRenewal\n", aes && sha256 ? "SCEPStandard\n" : "",
                       (device.digests & SCEP_SHA1) != 0 ? "SHA-1\n" : "", sha256 ? "SHA-256\n" : "",
                       (device.digests & SCEP_SHA512) != 0 ? "SHA-512\n" : "", next_ca ? "GetNextCACert\n" : "", NULL);
}

static const struct {
    const char *name;
    unsigned bits;
} capabilities[] = {
    {"AES", SCEP_CAP_AES},
    {"DES3", SCEP_CAP_DES3},
    {"SHA-1", SCEP_CAP_SHA1},
    {"SHA-256", SCEP_CAP_SHA256},
    {"SHA-512", SCEP_CAP_SHA512},
    {"POSTPKIOperation", SCEP_CAP_POST},
    {"Renewal", SCEP_CAP_RENEWAL},
    /* RFC 8894 section 3.5.2: implies these three */
    {"SCEPStandard", SCEP_CAP_STANDARD | SCEP_CAP_AES | SCEP_CAP_SHA256 | SCEP_CAP_POST},
    {"GetNextCACert", SCEP_CAP_NEXT_CA},
};

static unsigned capability_of(const char *word, apr_size_t len)
{
    for (apr_size_t i = 0; i < sizeof(capabilities) / sizeof(capabilities[0]); i++) {
        if (strlen(capabilities[i].name) == len && strncasecmp(capabilities[i].name, word, len) == 0) {
            return capabilities[i].bits;
        }
    }
    return 0;
}

unsigned scep_capabilities_parse(bytes_t text)
{
    unsigned set = 0;
    for (apr_size_t at = 0; at < text.len;) {
        apr_size_t end = at;
        while (end < text.len && text.data[end] != '\n' && text.data[end] != '\r') {
            end++;
        }
        apr_size_t from = at;
        apr_size_t to = end;
        while (from < to && apr_isspace(text.data[from])) {
            from++;
        }
        while (to > from && apr_isspace(text.data[to - 1])) {
            to--;
        }
        set |= capability_of((const char *)text.data + from, to - from);
        at = end + 1;
    }
    return set;
}

const char *scep_capabilities_words(unsigned *set, const char *words, apr_pool_t *pool)
{
    static const char blanks[] = " \t,";
    unsigned found = 0;
    for (const char *word = words + strspn(words, blanks); *word != '\0'; word += strspn(word, blanks)) {
        apr_size_t len = strcspn(word, blanks);
        unsigned bits = capability_of(word, len);
        if (bits == 0) {
            return apr_pstrmemdup(pool, word, len);
        }
        found |= bits;
        word += len;
    }
    *set = found;
    return NULL;
}

/* What a CA with that capability can read, in the order of our liking. */
typedef struct choice_t {
    unsigned capability;
    unsigned bit;
} choice_t;

static const choice_t ciphers[] = {{SCEP_CAP_AES, SCEP_AES128}, {SCEP_CAP_DES3, SCEP_DES3}};
/* SHA-256 before SHA-512: strong enough for every key here, and the one that all must have */
static const choice_t digests[] = {
    {SCEP_CAP_SHA256, SCEP_SHA256}, {SCEP_CAP_SHA512, SCEP_SHA512}, {SCEP_CAP_SHA1, SCEP_SHA1}};
static const unsigned ciphers_by_strength[] = {SCEP_AES128, SCEP_AES256, SCEP_AES192, SCEP_DES3, SCEP_DES};
static const unsigned digests_by_strength[] = {SCEP_SHA256, SCEP_SHA512, SCEP_SHA384, SCEP_SHA224, SCEP_SHA1, SCEP_MD5};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static unsigned choose(const choice_t *choices, size_t count, const unsigned *by_strength, size_t strengths,
                       unsigned set, unsigned allowed)
{
    for (size_t i = 0; i < count; i++) {
        if ((set & choices[i].capability) != 0 && (allowed & choices[i].bit) != 0) {
            return choices[i].bit;
        }
    }
    /* it names nothing that we may use: it is held to the RFC's must, or to what the operator says it is */
    for (size_t i = 0; i < strengths; i++) {
        if ((allowed & by_strength[i]) != 0) {
            return by_strength[i];
        }
    }
    return 0;
}

scep_algorithms_t scep_backend_choose(unsigned set, scep_algorithms_t allowed)
{
    scep_algorithms_t best = {
        choose(ciphers, COUNT(ciphers), ciphers_by_strength, COUNT(ciphers_by_strength), set, allowed.ciphers),
        choose(digests, COUNT(digests), digests_by_strength, COUNT(digests_by_strength), set, allowed.digests)};
    return best;
}
