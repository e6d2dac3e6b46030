/* SPDX-License-Identifier: Apache-2.0 */
#include "base/json.h"

#include "base/text.h"

#include <apr_strings.h>
#include <json-c/json.h>
#include <stdint.h>

/* An escape is six characters; two of them stand for at least four bytes, one for at least one. */
enum { ESCAPE_LEN = 6 };

bool json_add(json_object *object, const char *name, json_object *value)
{
    if (!value || json_object_object_add(object, name, value)) {
        json_object_put(value);
        return false;
    }
    return true;
}

bool json_add_text(json_object *object, const char *name, const char *text, apr_pool_t *pool)
{
    return !text || json_add(object, name, json_object_new_string(text_cut_utf8(pool, text, SIZE_MAX)));
}

static char *escape_put(char *out, unsigned unit)
{
    static const char DIGITS[] = "0123456789abcdef";
    *out++ = '\\';
    *out++ = 'u';
    for (int shift = 12; shift >= 0; shift -= 4) {
        *out++ = DIGITS[(unit >> shift) & 15];
    }
    return out;
}

/* One character of UTF-8. One that is longer than it need be may stand for a quotation mark. */
static unsigned character_read(const unsigned char **in)
{
    const unsigned char *at = *in;
    int more = *at >= 0xf0 ? 3 : *at >= 0xe0 ? 2 : *at >= 0xc0 ? 1 : 0;
    unsigned value = *at & (more ? 0x3fu >> more : 0x7fu);
    while (more-- && (at[1] & 0xc0) == 0x80) {
        value = value << 6 | (*++at & 0x3f);
    }
    *in = at + 1;
    return value;
}

const char *json_ascii(json_object *document, apr_pool_t *pool)
{
    const char *text =
        json_object_to_json_string_ext(document, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
    if (!text) {
        return NULL;
    }
    const unsigned char *in = (const unsigned char *)text;
    char *made = apr_palloc(pool, strlen(text) * ESCAPE_LEN + 1);
    char *out = made;
    while (*in) {
        bool is_ascii = *in < 0x7f;
        unsigned value = character_read(&in);
        if (value >= 0x10000) {
            out = escape_put(out, 0xd800 + ((value - 0x10000) >> 10));
            out = escape_put(out, 0xdc00 + ((value - 0x10000) & 0x3ff));
        } else if (!is_ascii) {
            out = escape_put(out, value);
        } else {
            *out++ = (char)value;
        }
    }
    *out = '\0';
    return made;
}

const char *json_time(apr_time_t time, apr_pool_t *pool)
{
    apr_time_exp_t gmt;
    apr_time_exp_gmt(&gmt, time);
    return apr_psprintf(pool, "%04d-%02d-%02dT%02d:%02d:%02dZ", gmt.tm_year + 1900, gmt.tm_mon + 1, gmt.tm_mday,
                        gmt.tm_hour, gmt.tm_min, gmt.tm_sec);
}
