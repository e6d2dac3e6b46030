/* SPDX-License-Identifier: Apache-2.0 */
/* The query of a request, base64 of a GET PKIOperation, and lists of capabilities. */
#include "fuzz.h"

#include "scep/http_side.h"

#include <apr_strings.h>

enum { MESSAGE_MAX = 1000 };

static int hex(char digit)
{
    return digit >= '0' && digit <= '9'                       ? digit - '0'
           : (digit | 0x20) >= 'a' && (digit | 0x20) <= 'f' ? (digit | 0x20) - 'a' + 10
                                                               : -1;
}

/* NULL for what is no escape, and for a NUL. */
static const char *unescaped(const char *text, apr_pool_t *pool)
{
    char *plain = apr_pstrdup(pool, text);
    char *to = plain;
    for (; *text; text++) {
        *to = *text;
        if (*text == '%') {
            int high = hex(text[1]);
            int low = high < 0 ? -1 : hex(text[2]);
            if (low < 0 || !(high | low)) {
                return NULL;
            }
            *to = (char)(high << 4 | low);
            text += 2;
        }
        to++;
    }
    *to = '\0';
    return plain;
}

/* In the one alphabet, without what is passed over. */
static const char *mended(const char *text, apr_pool_t *pool)
{
    char *plain = apr_pstrdup(pool, text);
    char *to = plain;
    for (; *text; text++) {
        if (!strchr("\r\n\t", *text)) {
            *to++ = *text == ' ' || *text == '-' ? '+' : *text == '_' ? '/' : *text;
        }
    }
    *to = '\0';
    return plain;
}

/* The same by other means: unescaped by hand, decoded by OpenSSL. */
static void decode(fuzz_t *fuzz, const char *message)
{
    bytes_t der = {NULL, 0};
    bytes_t wanted = {NULL, 0};
    const char *plain = message;
    apr_status_t rv = scep_get_message_decode(&der, message, MESSAGE_MAX, fuzz->pool);
    for (int round = 0; round < 2 && plain && strchr(plain, '%'); round++) {
        plain = unescaped(plain, fuzz->pool);
    }
    if (plain) {
        wanted = fuzz_base64(fuzz, mended(plain, fuzz->pool));
    }
    if (!wanted.len) {
        /* what is too long is not looked at */
        fuzz_check(rv == APR_EINVAL || (rv == APR_ENOSPC && strlen(message) > MESSAGE_MAX));
    } else if (wanted.len > MESSAGE_MAX) {
        fuzz_check(rv == APR_ENOSPC);
    } else {
        fuzz_check(rv == APR_SUCCESS && bytes_equal(der, wanted));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_t *fuzz = fuzz_begin(data, size);
    bytes_t all = fuzz->rest;
    const char *query = fuzz_text_of(fuzz, all);
    const char *message = NULL;
    unsigned set = 0;
    unsigned words = 0;

    scep_operation_t operation = scep_query_parse(query, &message, fuzz->pool);
    fuzz_check(message && operation <= SCEP_OP_PKIOPERATION);
    fuzz_check(operation == SCEP_OP_NONE || strchr(query, 'o') || strchr(query, 'O') || strchr(query, '%'));
    decode(fuzz, message);
    decode(fuzz, query);
    set = scep_capabilities_parse(all);
    fuzz_check(!(set & (SCEP_CAP_ASKED | SCEP_CAP_SILENT)));
    if (!scep_capabilities_words(&words, query, fuzz->pool) && !strpbrk(query, " \t,\r\n")) {
        fuzz_check(words == scep_capabilities_parse(bytes_of_text(query)));
    }
    scep_backend_choose(set, (scep_algorithms_t){~0u, ~0u});
    return fuzz_end(fuzz);
}
