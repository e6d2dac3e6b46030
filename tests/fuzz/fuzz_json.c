/* SPDX-License-Identifier: Apache-2.0 */
/* JSON from outside: what is taken has no name twice and none with a NUL, and comes out as it went in. */
#include "fuzz.h"

#include "intune/intune_internal.h"

#include "base/json.h"

#include <json-c/json.h>

/* A grammar of its own, over JSON that json-c has taken, so that it needs no errors. */
typedef struct reader_t {
    bytes_t text;
    apr_size_t at;
    long members;
    bool has_nul;
} reader_t;

static int next(reader_t *reader)
{
    while (reader->at < reader->text.len && strchr(" \t\r\n", reader->text.data[reader->at]) &&
           reader->text.data[reader->at]) {
        reader->at++;
    }
    return reader->at < reader->text.len ? reader->text.data[reader->at] : -1;
}

static bool string_read(reader_t *reader)
{
    bool has_nul = false;
    for (reader->at++; reader->at < reader->text.len && reader->text.data[reader->at] != '"'; reader->at++) {
        const unsigned char *c = reader->text.data + reader->at;
        has_nul = has_nul || !*c;
        if (*c == '\\') {
            has_nul = has_nul || (reader->text.len - reader->at > 5 && !memcmp(c, "\\u0000", 6));
            reader->at++;
        }
    }
    reader->at++;
    return has_nul;
}

static void value_read(reader_t *reader)
{
    int first = next(reader);
    if (first == '"') {
        string_read(reader);
    } else if (first == '{' || first == '[') {
        reader->at++;
        while (next(reader) != -1 && !strchr("]}", next(reader))) {
            if (first == '{') {
                reader->members++;
                reader->has_nul = string_read(reader) || reader->has_nul;
                fuzz_check(next(reader) == ':');
                reader->at++;
            }
            value_read(reader);
            reader->at += next(reader) == ',' ? 1 : 0;
        }
        reader->at++;
    } else {
        while (reader->at < reader->text.len && !strchr(",]} \t\r\n", reader->text.data[reader->at])) {
            reader->at++;
        }
    }
}

static long members_of(struct json_object *value)
{
    long members = 0;
    if (json_object_is_type(value, json_type_object)) {
        members = json_object_object_length(value);
        json_object_object_foreach(value, name, member)
        {
            (void)name;
            members += members_of(member);
        }
    } else if (json_object_is_type(value, json_type_array)) {
        for (size_t i = 0; i < json_object_array_length(value); i++) {
            members += members_of(json_object_array_get_idx(value, i));
        }
    }
    return members;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_t *fuzz = fuzz_begin(data, size);
    reader_t reader = {.text = fuzz->rest};
    struct json_object *object = json_read(fuzz->rest);
    if (object) {
        bytes_t text = {NULL, 0};
        apr_size_t length = 0;
        reader.at = size > 3 && memcmp(data, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
        value_read(&reader);
        fuzz_check(next(&reader) == -1 && reader.at == reader.text.len);
        fuzz_check(!reader.has_nul && reader.members == members_of(object));
        fuzz_check(!json_text(object, "code", &text) || text.data);
        const char *ascii = json_ascii(object, fuzz->pool);
        fuzz_check(ascii && strspn(ascii, "\t\r\n") == 0);
        for (const char *c = ascii; *c; c++) {
            fuzz_check(*c >= ' ' && *c <= '~');
        }
        const char *printed = json_print(object, fuzz->pool, &length);
        fuzz_check(printed && strlen(printed) == length);
    }
    return fuzz_end(fuzz);
}
