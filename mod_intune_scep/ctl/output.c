/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/ctl.h"

#include "base/json.h"
#include "base/text.h"

#include <apr_strings.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { COLUMNS_MAX = 16 };

static void memory_needed(bool there)
{
    if (!there) {
        fputs("intune-scepctl: memory ran out\n", stderr);
        exit(CTL_FAILED);
    }
}

struct json_object *ctl_object(void)
{
    json_object *object = json_object_new_object();
    memory_needed(object);
    return object;
}

void ctl_add(struct json_object *object, const char *name, struct json_object *value)
{
    memory_needed(json_add(object, name, value));
}

void ctl_add_text(const ctl_t *ctl, struct json_object *object, const char *name, const char *text)
{
    memory_needed(json_add_text(object, name, text, ctl->pool));
}

void ctl_print(const ctl_t *ctl, struct json_object *document)
{
    const char *text = json_ascii(document, ctl->pool);
    memory_needed(text);
    puts(text);
    json_object_put(document);
}

ctl_exit_t ctl_fail(const ctl_t *ctl, ctl_exit_t status, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    const char *sentence = ctl_flat(ctl, apr_pvsprintf(ctl->pool, format, arguments));
    va_end(arguments);
    fprintf(stderr, "intune-scepctl: %s\n", sentence);
    if (ctl->json) {
        json_object *document = ctl_object();
        ctl_add_text(ctl, document, "error", sentence);
        ctl_print(ctl, document);
    }
    return status;
}

const char *ctl_shown(const ctl_t *ctl, const char *text, apr_size_t max)
{
    return text_escape(ctl->pool, text, max);
}

const char *ctl_flat(const ctl_t *ctl, const char *text)
{
    char *flat = apr_pstrdup(ctl->pool, text);
    for (char *at = flat; *at; at++) {
        if ((unsigned char)*at < 0x20 || (unsigned char)*at > 0x7e) {
            *at = '?';
        }
    }
    return flat;
}

void ctl_table(const apr_array_header_t *lines, int columns)
{
    int widths[COLUMNS_MAX] = {0};
    for (int i = 0; i < lines->nelts; i++) {
        const char *const *cells = APR_ARRAY_IDX(lines, i, const char *const *);
        for (int column = 0; column < columns; column++) {
            int width = (int)strlen(cells[column]);
            widths[column] = width > widths[column] ? width : widths[column];
        }
    }
    for (int i = 0; i < lines->nelts; i++) {
        const char *const *cells = APR_ARRAY_IDX(lines, i, const char *const *);
        for (int column = 0; column < columns - 1; column++) {
            printf("%-*s  ", widths[column], cells[column]);
        }
        puts(cells[columns - 1]);
    }
}
