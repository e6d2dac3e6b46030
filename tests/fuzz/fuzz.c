/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz.h"

#include <apr_general.h>
#include <apr_strings.h>
#include <ftw.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>

enum { CHANGES_MAX = 16, INSERTED_MAX = 64, DEPTH_MAX = 8 };

fuzz_t *fuzz_begin(const uint8_t *data, size_t size)
{
    static bool is_ready;
    apr_pool_t *pool = NULL;
    if (!is_ready) {
        fuzz_pool_gaps();
        fuzz_check(apr_initialize() == APR_SUCCESS);
        is_ready = true;
    }
    fuzz_check(apr_pool_create(&pool, NULL) == APR_SUCCESS);
    fuzz_t *fuzz = apr_pcalloc(pool, sizeof(*fuzz));
    fuzz->pool = pool;
    fuzz->rest.data = data;
    fuzz->rest.len = size;
    return fuzz;
}

int fuzz_end(fuzz_t *fuzz)
{
    apr_pool_destroy(fuzz->pool);
    return 0;
}

void fuzz_must(int good, const char *what, const char *file, int line)
{
    if (!good) {
        fprintf(stderr, "%s:%d: %s does not hold\n", file, line, what);
        abort();
    }
}

unsigned fuzz_byte(fuzz_t *fuzz)
{
    if (!fuzz->rest.len) {
        return 0;
    }
    fuzz->rest.len--;
    return *fuzz->rest.data++;
}

unsigned fuzz_number(fuzz_t *fuzz)
{
    unsigned high = fuzz_byte(fuzz);
    return high << 8 | fuzz_byte(fuzz);
}

bytes_t fuzz_part(fuzz_t *fuzz)
{
    bytes_t part = fuzz->rest;
    const unsigned char *end = part.len ? memchr(part.data, 0xff, part.len) : NULL;
    if (end) {
        part.len = (apr_size_t)(end - part.data);
        fuzz->rest.data += part.len + 1;
        fuzz->rest.len -= part.len + 1;
    } else {
        fuzz->rest.len = 0;
    }
    return part;
}

static apr_status_t text_end(void *text)
{
    free(text);
    return APR_SUCCESS;
}

const char *fuzz_text_of(fuzz_t *fuzz, bytes_t bytes)
{
    apr_size_t length = bytes.len ? strnlen((const char *)bytes.data, bytes.len) : 0;
    char *text = malloc(length + 1);
    fuzz_check(text);
    if (length) {
        memcpy(text, bytes.data, length);
    }
    text[length] = '\0';
    apr_pool_cleanup_register(fuzz->pool, text, text_end, apr_pool_cleanup_null);
    return text;
}

const char *fuzz_text(fuzz_t *fuzz)
{
    return fuzz_text_of(fuzz, fuzz_part(fuzz));
}

/* One change; the buffer has room for INSERTED_MAX bytes more. */
static apr_size_t change(fuzz_t *fuzz, unsigned char *bytes, apr_size_t length)
{
    apr_size_t at = fuzz_number(fuzz) % (length + 1);
    unsigned how = fuzz_byte(fuzz);
    unsigned first = fuzz_byte(fuzz);
    unsigned second = fuzz_byte(fuzz);
    apr_size_t rest = length - at;
    apr_size_t some = 1 + first % INSERTED_MAX;
    switch (how % 6) {
    case 0: /* another byte */
        bytes[at] = (unsigned char)first;
        return at < length ? length : length + 1;
    case 1: /* other bits */
        if (at < length) {
            bytes[at] ^= (unsigned char)(first ? first : 1);
        }
        return length;
    case 2: /* more */
        memmove(bytes + at + some, bytes + at, rest);
        memset(bytes + at, (int)second, some);
        return length + some;
    case 3: /* less */
        some = some < rest ? some : rest;
        memmove(bytes + at, bytes + at + some, rest - some);
        return length - some;
    case 4: /* something of it again */
        some = some < rest ? some : rest;
        memmove(bytes + at, bytes + second * length / 256 / 2, some < length / 2 ? some : length / 2);
        return length;
    default: /* no more */
        return at;
    }
}

bytes_t fuzz_changed(fuzz_t *fuzz, bytes_t good)
{
    bytes_t changed = good;
    unsigned char *bytes = apr_palloc(fuzz->pool, good.len + (CHANGES_MAX + 1) * INSERTED_MAX);
    if (good.len) {
        memcpy(bytes, good.data, good.len);
    }
    for (int i = 0; i < CHANGES_MAX && fuzz->rest.len; i++) {
        changed.len = change(fuzz, bytes, changed.len);
    }
    changed.data = bytes;
    return changed;
}

bytes_t fuzz_base64(fuzz_t *fuzz, const char *text)
{
    static const char DIGITS[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    bytes_t bytes = {NULL, 0};
    apr_size_t length = strlen(text);
    apr_size_t bare = length;
    while (bare > 0 && text[bare - 1] == '=' && length - bare < 2) {
        bare--;
    }
    if (bare % 4 == 1 || length - bare > (4 - bare % 4) % 4 || strspn(text, DIGITS) < bare) {
        return bytes;
    }
    char *padded = apr_palloc(fuzz->pool, bare + 4);
    memcpy(padded, text, bare);
    memset(padded + bare, '=', 4);
    unsigned char *decoded = apr_palloc(fuzz->pool, bare + 4);
    int made = EVP_DecodeBlock(decoded, (const unsigned char *)padded, (int)((bare + 3) / 4 * 4));
    fuzz_check(made >= 0);
    bytes.len = bare / 4 * 3 + (bare % 4 ? bare % 4 - 1 : 0);
    bytes.data = bytes.len ? decoded : NULL;
    return bytes;
}

static char folder[] = "/tmp/iscep-fuzz-XXXXXX";

static int entry_remove(const char *path, const struct stat *facts, int kind, struct FTW *place)
{
    (void)facts;
    (void)kind;
    (void)place;
    return remove(path);
}

static void folder_remove(void)
{
    nftw(folder, entry_remove, DEPTH_MAX, FTW_DEPTH | FTW_PHYS);
}

const char *fuzz_folder(void)
{
    static bool is_made;
    if (!is_made) {
        fuzz_check(mkdtemp(folder) && !atexit(folder_remove));
        is_made = true;
    }
    return folder;
}

const char *fuzz_file(fuzz_t *fuzz, const char *name, bytes_t bytes)
{
    const char *path = apr_pstrcat(fuzz->pool, fuzz_folder(), "/", name, NULL);
    const char *fresh = apr_pstrcat(fuzz->pool, folder, "/.fresh", NULL);
    FILE *file = fopen(fresh, "wb");
    fuzz_check(file && fwrite(bytes.data ? bytes.data : (const unsigned char *)"", 1, bytes.len, file) == bytes.len);
    fuzz_check(!fclose(file) && !rename(fresh, path));
    return path;
}
