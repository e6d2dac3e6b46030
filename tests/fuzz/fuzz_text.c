/* SPDX-License-Identifier: Apache-2.0 */
/* Text from outside on its way into a log line, a page, a label, a query or JSON: a number of two bytes, and the text. */
#include "fuzz.h"

#include "base/text.h"
#include "base/writer.h"

#include <openssl/asn1.h>
#include <openssl/evp.h>

static void printable_check(const char *text, const char *without)
{
    for (const char *c = text; *c; c++) {
        fuzz_check(*c >= ' ' && *c <= '~' && !strchr(without, *c));
    }
}

/* By OpenSSL's reader, which takes more than RFC 3629 does. */
static void utf8_check(const char *text)
{
    int left = (int)strlen(text);
    while (left > 0) {
        unsigned long value = 0;
        int length = UTF8_getc((const unsigned char *)text, left, &value);
        fuzz_check(length > 0 && value <= 0x10ffff && (value < 0xd800 || value > 0xdfff));
        text += length;
        left -= length;
    }
}

static void escapes_try(fuzz_t *fuzz, bytes_t bytes, const char *text, apr_size_t max)
{
    const char *escaped = text_escape_bytes(fuzz->pool, bytes, max);
    const char *whole = text_escape_bytes(fuzz->pool, bytes, bytes.len);
    printable_check(escaped, "\"");
    fuzz_check(strlen(escaped) <= 4 * max + 3);
    fuzz_check(bytes.len > max ? strlen(escaped) >= 3 && !strcmp(escaped + strlen(escaped) - 3, "...")
                               : !strcmp(escaped, whole));
    fuzz_check(!strncmp(escaped, whole, bytes.len > max ? strlen(escaped) - 3 : strlen(escaped)));
    printable_check(text_escape(fuzz->pool, text, max), "\"");
}

static void cut_try(fuzz_t *fuzz, const char *text, apr_size_t max)
{
    const char *cut = text_cut_utf8(fuzz->pool, text, max);
    const char *whole = text_cut_utf8(fuzz->pool, text, SIZE_MAX);
    utf8_check(whole);
    fuzz_check(strlen(cut) <= max && !strncmp(cut, whole, strlen(cut)));
    fuzz_check(!strcmp(text_cut_utf8(fuzz->pool, cut, max), cut));
    /* no more is left out than the character that did not fit */
    fuzz_check(!strcmp(cut, whole) || strlen(cut) + 4 > max || strlen(whole) > max);
}

static void forms_try(fuzz_t *fuzz, const char *text, apr_size_t max)
{
    writer_t writer;
    writer_begin(&writer, fuzz->pool);
    writer_html(&writer, text, max);
    printable_check(writer.text, "<>\"'");
    writer_begin(&writer, fuzz->pool);
    writer_html_own(&writer, text, max);
    utf8_check(writer.text);
    fuzz_check(!strpbrk(writer.text, "<>\"'"));
    writer_begin(&writer, fuzz->pool);
    writer_query(&writer, text);
    printable_check(writer.text, "<>\"' &#=");
    writer_begin(&writer, fuzz->pool);
    writer_label(&writer, text);
    utf8_check(writer.text);
    fuzz_check(!strpbrk(writer.text, "\n\r"));
}

static void base64_try(fuzz_t *fuzz, bytes_t bytes)
{
    bytes_t again = fuzz_base64(fuzz, text_base64(fuzz->pool, bytes));
    fuzz_check(bytes_equal(again, bytes));
    fuzz_check(strlen(text_hex(fuzz->pool, bytes)) == 2 * bytes.len);
    fuzz_check(!strpbrk(text_base64url(fuzz->pool, bytes), "+/="));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_t *fuzz = fuzz_begin(data, size);
    apr_size_t max = fuzz_number(fuzz);
    bytes_t bytes = fuzz->rest;
    const char *text = fuzz_text_of(fuzz, bytes);
    if (bytes.data && bytes.len) {
        escapes_try(fuzz, bytes, text, max);
        base64_try(fuzz, bytes);
    }
    cut_try(fuzz, text, max);
    forms_try(fuzz, text, max);
    return fuzz_end(fuzz);
}
