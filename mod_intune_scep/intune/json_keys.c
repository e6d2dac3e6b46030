/* SPDX-License-Identifier: Apache-2.0 */
/*
 * json-c takes the last of several members with one name and cuts a name at its first NUL, without a word. So the names
 * in the text are counted and held against those in the tree: in JSON that a strict parser has accepted, a string is a
 * name exactly where a colon follows it. It also takes names in apostrophes, even when it is to be strict: they would not
 * be counted, and are refused. So is what else json-c takes and RFC 8259 does not: NaN and Infinity, numbers such as 1.,
 * 00 or -01, control characters in a string.
 */
#include "intune/intune_internal.h"

#include <json-c/json.h>
#include <string.h>

static bool is_blank(unsigned char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static bool is_digit_at(bytes_t body, apr_size_t at)
{
    return at < body.len && body.data[at] >= '0' && body.data[at] <= '9';
}

/** Whether what begins at `at`, outside of strings, is a number that RFC 8259 does not know; json-c took it for one. */
static bool is_odd_number(bytes_t body, apr_size_t at)
{
    if (body.data[at] == '-') {
        at++;
    }
    if (!is_digit_at(body, at) || (body.data[at] == '0' && is_digit_at(body, at + 1))) {
        return true;
    }
    while (is_digit_at(body, at)) {
        at++;
    }
    return at < body.len && body.data[at] == '.' && !is_digit_at(body, at + 1);
}

/** The place behind the number or the sign that begins at `at`. */
static apr_size_t number_end(bytes_t body, apr_size_t at)
{
    while (at < body.len && body.data[at] != 0 && strchr("0123456789+-.eE", body.data[at])) {
        at++;
    }
    return at;
}

/**
 * The place behind the string whose opening quotation mark is at `at`, or 0 where a control character is in it. `nul`:
 * whether it holds an escaped NUL.
 */
static apr_size_t string_end(bytes_t body, apr_size_t at, bool *nul)
{
    *nul = false;
    for (at++; at < body.len && body.data[at] != '"'; at++) {
        if (body.data[at] < 0x20) {
            return 0;
        }
        if (body.data[at] == '\\') {
            at++;
            *nul = *nul || (body.len - at >= 5 && memcmp(body.data + at, "u0000", 5) == 0);
        }
    }
    return at + 1;
}

/** How many names the text has; -1 where one of them holds a NUL or is in apostrophes, or where it is no JSON. */
static long names_in_text(bytes_t body)
{
    long names = 0;
    apr_size_t at = 0;
    while (at < body.len) {
        bool nul = false;
        if (body.data[at] == '\'' || body.data[at] == 'N' || body.data[at] == 'I') {
            return -1;
        }
        if (body.data[at] == '-' || is_digit_at(body, at)) {
            if (is_odd_number(body, at)) {
                return -1;
            }
            at = number_end(body, at);
            continue;
        }
        if (body.data[at] != '"') {
            at++;
            continue;
        }
        at = string_end(body, at, &nul);
        if (at == 0) {
            return -1;
        }
        while (at < body.len && is_blank(body.data[at])) {
            at++;
        }
        if (at < body.len && body.data[at] == ':') {
            names++;
            if (nul) {
                return -1;
            }
        }
    }
    return names;
}

/* It goes no deeper than the parser went. */
static long names_in_tree(struct json_object *value)
{
    long names = 0;
    if (json_object_is_type(value, json_type_object)) {
        json_object_object_foreach(value, name, member)
        {
            (void)name;
            names += 1 + names_in_tree(member);
        }
    } else if (json_object_is_type(value, json_type_array)) {
        for (size_t i = 0; i < json_object_array_length(value); i++) {
            names += names_in_tree(json_object_array_get_idx(value, i));
        }
    }
    return names;
}

bool json_names_are_unique(bytes_t body, struct json_object *parsed)
{
    return names_in_text(body) == names_in_tree(parsed);
}
