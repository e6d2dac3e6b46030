/* SPDX-License-Identifier: Apache-2.0 */
#include "base/text.h"

#include <apr_general.h>
#include <apr_strings.h>
#include <limits.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <string.h>

static bool is_plain(unsigned char c)
{
    return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
}

const char *text_escape_bytes(apr_pool_t *pool, bytes_t bytes, apr_size_t max)
{
    static const char digits[] = "0123456789abcdef";
    apr_size_t len = bytes.len > max ? max : bytes.len, escaped = 0, i;
    char *out, *text;

    if (!bytes.data)
        return "-";
    for (i = 0; i < len; i++)
        escaped += !is_plain(bytes.data[i]);
    out = text = apr_palloc(pool, len + 3 * escaped + sizeof("..."));
    for (i = 0; i < len; i++) {
        unsigned char c = bytes.data[i];

        if (is_plain(c)) {
            *out++ = (char)c;
        } else {
            *out++ = '\\';
            *out++ = 'x';
            *out++ = digits[c >> 4];
            *out++ = digits[c & 15];
        }
    }
    memcpy(out, bytes.len > max ? "..." : "", bytes.len > max ? 4 : 1);
    return text;
}

const char *text_escape(apr_pool_t *pool, const char *text, apr_size_t max)
{
    bytes_t bytes = {NULL, 0};

    if (text) {
        bytes.data = (const unsigned char *)text;
        bytes.len = strnlen(text, max < SIZE_MAX ? max + 1 : max);
    }
    return text_escape_bytes(pool, bytes, max);
}

static int digit_of(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

const char *text_unescape(apr_pool_t *pool, const char *text)
{
    char *copy = apr_pstrdup(pool, text);
    char *out = copy;

    for (const char *in = copy; *in; in++) {
        int high = in[0] == '\\' && in[1] == 'x' ? digit_of(in[2]) : -1;
        int low = high < 0 ? -1 : digit_of(in[3]);
        unsigned char c = low < 0 ? 0 : (unsigned char)(high << 4 | low);

        if (c == '"' || c == '\\' || c > 0x7f) {
            *out++ = (char)c;
            in += 3;
        } else {
            *out++ = *in;
        }
    }
    *out = '\0';
    return copy;
}

static bool is_between(unsigned char c, unsigned char low, unsigned char high)
{
    return c >= low && c <= high;
}

/*
 * The length of the sequence at `s` (RFC 3629, table 3-7 of Unicode: no overlong form, no surrogate, nothing above
 * U+10FFFF). For a broken one `*good` is false and the length is that of its well-formed beginning, at least 1. A NUL
 * ends every sequence.
 */
static apr_size_t sequence_length(const unsigned char *s, bool *good)
{
    unsigned char low = 0x80, high = 0xbf;
    apr_size_t want, i;

    *good = true;
    if (s[0] < 0x80)
        return 1;
    want = is_between(s[0], 0xc2, 0xdf) ? 2 : is_between(s[0], 0xe0, 0xef) ? 3 : is_between(s[0], 0xf0, 0xf4) ? 4 : 0;
    if (s[0] == 0xe0)
        low = 0xa0;
    else if (s[0] == 0xed)
        high = 0x9f;
    else if (s[0] == 0xf0)
        low = 0x90;
    else if (s[0] == 0xf4)
        high = 0x8f;
    for (i = 1; i < want; i++) {
        if (!is_between(s[i], low, high))
            break;
        low = 0x80;
        high = 0xbf;
    }
    *good = want > 0 && i == want;
    return i;
}

const char *text_cut_utf8(apr_pool_t *pool, const char *text, apr_size_t max)
{
    const unsigned char *in = (const unsigned char *)(text ? text : "");
    apr_size_t room = strlen((const char *)in), used = 0;
    char *out;

    if (room > max)
        room = max;
    out = apr_palloc(pool, room + 1);
    while (*in) {
        bool good;
        apr_size_t len = sequence_length(in, &good), put = good ? len : 1;

        if (put > room - used)
            break;
        memcpy(out + used, good ? (const char *)in : "?", put);
        used += put;
        in += len;
    }
    out[used] = '\0';
    return out;
}

const char *text_hex(apr_pool_t *pool, bytes_t bytes)
{
    static const char digits[] = "0123456789ABCDEF";
    char *text = apr_palloc(pool, 2 * bytes.len + 1);
    apr_size_t i;

    for (i = 0; i < bytes.len; i++) {
        text[2 * i] = digits[bytes.data[i] >> 4];
        text[2 * i + 1] = digits[bytes.data[i] & 15];
    }
    text[2 * bytes.len] = '\0';
    return text;
}

static char *base64_make(apr_pool_t *pool, bytes_t bytes)
{
    /* A multiple of three, so that only the last piece is padded. */
    const apr_size_t piece = (apr_size_t)3 << 20;
    char *text = apr_palloc(pool, (bytes.len + 2) / 3 * 4 + 1), *out = text;
    apr_size_t done = 0;

    *out = '\0';
    while (done < bytes.len) {
        apr_size_t len = bytes.len - done > piece ? piece : bytes.len - done;

        out += EVP_EncodeBlock((unsigned char *)out, bytes.data + done, (int)len);
        done += len;
    }
    return text;
}

const char *text_base64(apr_pool_t *pool, bytes_t bytes)
{
    return base64_make(pool, bytes);
}

const char *text_base64url(apr_pool_t *pool, bytes_t bytes)
{
    char *text = base64_make(pool, bytes), *at;

    for (at = text; *at && *at != '='; at++)
        *at = *at == '+' ? '-' : *at == '/' ? '_' : *at;
    *at = '\0';
    return text;
}

const char *text_uuid(apr_pool_t *pool)
{
    unsigned char bytes[16] = {0};
    bytes_t run = {bytes, sizeof(bytes)};
    const char *hex;
    char *text = apr_palloc(pool, 37), *out = text;
    int i;

    /* It names a call and guards nothing: poor randomness is better than no name. */
    if (RAND_bytes(bytes, sizeof(bytes)) != 1)
        (void)apr_generate_random_bytes(bytes, sizeof(bytes));
    bytes[6] = (unsigned char)((bytes[6] & 0x0f) | 0x40);
    bytes[8] = (unsigned char)((bytes[8] & 0x3f) | 0x80);
    hex = text_hex(pool, run);
    for (i = 0; i < 32; i++) {
        if (i == 8 || i == 12 || i == 16 || i == 20)
            *out++ = '-';
        *out++ = (char)(hex[i] >= 'A' ? hex[i] - 'A' + 'a' : hex[i]);
    }
    *out = '\0';
    return text;
}

const char *text_random_hex(apr_pool_t *pool, apr_size_t n)
{
    bytes_t run = {NULL, n};
    unsigned char *bytes = apr_palloc(pool, n ? n : 1);
    const char *text;

    if (n > INT_MAX || RAND_bytes(bytes, (int)n) != 1)
        return NULL;
    run.data = bytes;
    text = text_hex(pool, run);
    OPENSSL_cleanse(bytes, n);
    return text;
}
