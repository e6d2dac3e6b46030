/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include <apr_general.h>
#include <apr_lib.h>
#include <apr_strings.h>

#include "sim_ms.h"

static const char BASE64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static int base64_value(char c)
{
    if (c >= 'A' && c <= 'Z') {
        return c - 'A';
    }
    if (c >= 'a' && c <= 'z') {
        return c - 'a' + 26;
    }
    if (c >= '0' && c <= '9') {
        return c - '0' + 52;
    }
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

unsigned char *msim_base64_decode(const char *text, apr_size_t length, apr_size_t *decoded, apr_pool_t *pool)
{
    unsigned char *data;
    apr_uint32_t bits = 0;
    apr_size_t digits = length, n = 0;

    if (length == 0 || length % 4 != 0) {
        return NULL;
    }
    while (digits > length - 2 && text[digits - 1] == '=') {
        digits--;
    }
    data = apr_palloc(pool, length / 4 * 3);
    for (apr_size_t i = 0; i < digits; i++) {
        int value = base64_value(text[i]);

        if (value < 0) {
            return NULL;
        }
        bits = bits << 6 | (apr_uint32_t)value;
        if (i % 4 != 0) {
            data[n++] = (unsigned char)(bits >> (6 - i % 4 * 2) & 0xff);
        }
    }
    /* What hangs over the last whole byte must be zero. */
    if ((digits % 4 == 2 && (bits & 0xf) != 0) || (digits % 4 == 3 && (bits & 0x3) != 0)) {
        return NULL;
    }
    *decoded = n;
    return data;
}

char *msim_base64_encode(const unsigned char *data, apr_size_t length, apr_pool_t *pool)
{
    char *text = apr_palloc(pool, (length + 2) / 3 * 4 + 1);
    char *p = text;

    for (apr_size_t i = 0; i < length; i += 3) {
        apr_uint32_t bits = (apr_uint32_t)data[i] << 16;

        bits |= i + 1 < length ? (apr_uint32_t)data[i + 1] << 8 : 0;
        bits |= i + 2 < length ? data[i + 2] : 0;
        *p++ = BASE64[bits >> 18];
        *p++ = BASE64[bits >> 12 & 63];
        *p++ = i + 1 < length ? BASE64[bits >> 6 & 63] : '=';
        *p++ = i + 2 < length ? BASE64[bits & 63] : '=';
    }
    *p = '\0';
    return text;
}

const char *msim_uuid(apr_pool_t *pool)
{
    unsigned char b[16] = {0};

    apr_generate_random_bytes(b, sizeof b);
    b[6] = (unsigned char)((b[6] & 0x0f) | 0x40);
    b[8] = (unsigned char)((b[8] & 0x3f) | 0x80);
    return apr_psprintf(pool, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1], b[2],
                        b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
}

int msim_is_uuid(const char *text)
{
    if (text == NULL || strlen(text) != 36) {
        return 0;
    }
    for (int i = 0; i < 36; i++) {
        int dash = i == 8 || i == 13 || i == 18 || i == 23;

        if (dash ? text[i] != '-' : !apr_isxdigit(text[i])) {
            return 0;
        }
    }
    return 1;
}

const char *msim_json_text(json_object *object, const char *name)
{
    json_object *member = NULL;
    const char *text;

    if (!json_object_object_get_ex(object, name, &member) || !json_object_is_type(member, json_type_string)) {
        return NULL;
    }
    text = json_object_get_string(member);
    return strlen(text) == (size_t)json_object_get_string_len(member) ? text : NULL;
}

static apr_status_t json_free(void *object)
{
    json_object_put(object);
    return APR_SUCCESS;
}

json_object *msim_json_parse(const char *text, apr_size_t length, apr_pool_t *pool)
{
    json_tokener *tokener;
    json_object *object = NULL;

    if (length > MSIM_BODY_MAX || (tokener = json_tokener_new()) == NULL) {
        return NULL;
    }
    json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
    object = json_tokener_parse_ex(tokener, text, (int)length);
    /* The strict flag refuses anything behind the value but blanks. */
    if (json_tokener_get_error(tokener) != json_tokener_success) {
        json_object_put(object);
        object = NULL;
    }
    json_tokener_free(tokener);
    if (object != NULL) {
        apr_pool_cleanup_register(pool, object, json_free, apr_pool_cleanup_null);
    }
    return object;
}

const char *msim_json_print(json_object *object, apr_pool_t *pool)
{
    return apr_pstrdup(pool,
                       json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
}

const char *msim_json_only(json_object *object, const char *const *names, apr_pool_t *pool)
{
    struct json_object_iterator end, i;

    if (!json_object_is_type(object, json_type_object)) {
        return "a JSON object was expected";
    }
    end = json_object_iter_end(object);
    for (i = json_object_iter_begin(object); !json_object_iter_equal(&i, &end); json_object_iter_next(&i)) {
        const char *name = json_object_iter_peek_name(&i);
        const char *const *known = names;

        while (*known != NULL && strcmp(*known, name) != 0) {
            known++;
        }
        if (*known == NULL) {
            return apr_psprintf(pool, "unknown member '%s'", name);
        }
    }
    return NULL;
}

const char *msim_json_exactly(json_object *object, const char *const *names, apr_pool_t *pool)
{
    const char *wrong = msim_json_only(object, names, pool);

    for (; wrong == NULL && *names != NULL; names++) {
        if (!json_object_object_get_ex(object, *names, NULL)) {
            wrong = apr_psprintf(pool, "member '%s' is missing", *names);
        }
    }
    return wrong;
}

static int hex_value(char c)
{
    return apr_isdigit(c) ? c - '0' : apr_isxdigit(c) ? apr_tolower(c) - 'a' + 10 : -1;
}

/** Decodes in place; 0 if an escape is wrong or hides a NUL. */
static int form_unescape(char *text)
{
    char *out = text;

    for (; *text != '\0'; text++) {
        if (*text == '%') {
            int high = hex_value(text[1]);
            int low = high < 0 ? -1 : hex_value(text[2]);

            if (low < 0 || (high == 0 && low == 0)) {
                return 0;
            }
            *out++ = (char)(high << 4 | low);
            text += 2;
        } else {
            *out++ = *text == '+' ? ' ' : *text;
        }
    }
    *out = '\0';
    return 1;
}

apr_table_t *msim_form_parse(const char *text, apr_pool_t *pool)
{
    apr_table_t *form = apr_table_make(pool, 8);

    while (*text != '\0') {
        const char *end = strchr(text, '&');
        char *name = end == NULL ? apr_pstrdup(pool, text) : apr_pstrmemdup(pool, text, (apr_size_t)(end - text));
        char *value = strchr(name, '=');

        if (value == NULL) {
            return NULL;
        }
        *value++ = '\0';
        if (!form_unescape(name) || !form_unescape(value) || apr_table_get(form, name) != NULL) {
            return NULL;
        }
        apr_table_setn(form, name, value);
        text = end == NULL ? text + strlen(text) : end + 1;
    }
    return form;
}

char *msim_strdup(const char *text)
{
    apr_size_t size = text == NULL ? 0 : strlen(text) + 1;

    return text == NULL ? NULL : memcpy(ap_malloc(size), text, size);
}

int msim_is_type(const char *header, const char *type)
{
    apr_size_t length = strlen(type);

    if (header == NULL || strncasecmp(header, type, length) != 0) {
        return 0;
    }
    return header[length] == '\0' || header[length] == ';' || header[length] == ' ';
}
