/* SPDX-License-Identifier: Apache-2.0 */
#include "base/writer.h"

#include "base/text.h"

#include <apr_lib.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { ROOM_FIRST = 16384, LINE_MOST = 2048 };

void writer_begin(writer_t *writer, apr_pool_t *pool)
{
    *writer = (writer_t){.pool = pool, .text = apr_palloc(pool, ROOM_FIRST), .room = ROOM_FIRST};
    writer->text[0] = '\0';
}

static void add_bytes(writer_t *writer, const char *text, apr_size_t len)
{
    if (len >= writer->room - writer->len) {
        apr_size_t room = 2 * (writer->len + len) + 1;
        char *larger = apr_palloc(writer->pool, room);
        memcpy(larger, writer->text, writer->len);
        writer->text = larger;
        writer->room = room;
    }
    memcpy(writer->text + writer->len, text, len);
    writer->len += len;
    writer->text[writer->len] = '\0';
}

void writer_add(writer_t *writer, const char *text)
{
    add_bytes(writer, text, strlen(text));
}

void writer_format(writer_t *writer, const char *format, ...)
{
    char line[LINE_MOST];
    va_list arguments;
    va_start(arguments, format);
    int len = vsnprintf(line, sizeof(line), format, arguments);
    va_end(arguments);
    add_bytes(writer, line, len < 0 ? 0 : len < LINE_MOST ? (apr_size_t)len : LINE_MOST - 1);
}

static void add_html(writer_t *writer, const char *text)
{
    for (const char *c = text; *c; c++) {
        switch (*c) {
        case '"':
            writer_add(writer, "&quot;");
            break;
        case '<':
            writer_add(writer, "&lt;");
            break;
        case '>':
            writer_add(writer, "&gt;");
            break;
        case '&':
            writer_add(writer, "&amp;");
            break;
        case '\'':
            writer_add(writer, "&#39;");
            break;
        default:
            add_bytes(writer, (unsigned char)*c < 0x20 || *c == 0x7f ? "?" : c, 1);
        }
    }
}

void writer_html(writer_t *writer, const char *text, apr_size_t max)
{
    add_html(writer, text ? text_escape(writer->pool, text, max) : "");
}

void writer_html_own(writer_t *writer, const char *text, apr_size_t max)
{
    add_html(writer, text ? text_cut_utf8(writer->pool, text, max) : "");
}

void writer_query(writer_t *writer, const char *text)
{
    static const char DIGITS[] = "0123456789ABCDEF";
    for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
        char escaped[3] = {'%', DIGITS[*c >> 4], DIGITS[*c & 15]};
        bool plain = apr_isalnum(*c) || *c == '-' || *c == '_' || *c == '.';
        add_bytes(writer, plain ? (const char *)c : escaped, plain ? 1 : 3);
    }
}

void writer_label(writer_t *writer, const char *text)
{
    for (const char *c = text_cut_utf8(writer->pool, text, SIZE_MAX); *c; c++) {
        if (*c == '\\' || *c == '"') {
            add_bytes(writer, "\\", 1);
            add_bytes(writer, c, 1);
        } else if (*c == '\n') {
            writer_add(writer, "\\n");
        } else {
            add_bytes(writer, (unsigned char)*c < 0x20 || *c == 0x7f ? "?" : c, 1);
        }
    }
}
