/* SPDX-License-Identifier: Apache-2.0 */
/* Certificates that the CA has issued and the journal does not know: nobody but the device's key has them. */
#include "ctl/journal_ctl.h"

#include "base/text.h"

#include <apr_hash.h>
#include <apr_lib.h>
#include <apr_strings.h>
#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>

enum { LINE_MAX_LEN = 256, TEXT_SHOWN = 100 };

/* Upper-case digits without leading zeros; NULL for what is no serial number. May have "serial=", "0x", colons. */
static const char *canonical(const char *text, apr_pool_t *pool)
{
    char *digits = apr_palloc(pool, strlen(text) + 2);
    char *out = digits;
    bool any = false;
    text += strncasecmp(text, "serial=", 7) ? 0 : 7;
    text += strncasecmp(text, "0x", 2) ? 0 : 2;
    for (; *text; text++) {
        if (apr_isxdigit(*text)) {
            any = true;
            if (*text != '0' || out > digits) {
                *out++ = (char)apr_toupper(*text);
            }
        } else if (*text != ':' || !any) {
            return NULL;
        }
    }
    if (out == digits) {
        *out++ = '0';
    }
    *out = '\0';
    return any ? digits : NULL;
}

/* As the journal and the CA's tools write it: an even number of digits. */
static const char *printable(const char *digits, apr_pool_t *pool)
{
    return strlen(digits) % 2 ? apr_pstrcat(pool, "0", digits, NULL) : digits;
}

static char *trimmed(char *line)
{
    char *end = line + strlen(line);
    while (end > line && apr_isspace(end[-1])) {
        *--end = '\0';
    }
    while (apr_isspace(*line)) {
        line++;
    }
    return line;
}

static ctl_exit_t known_serials(ctl_t *ctl, journal_t *journal, const char *location, apr_hash_t *known)
{
    apr_array_header_t *counts = NULL;
    apr_array_header_t *serials = NULL;
    const char *message = NULL;
    bool there = false;
    apr_status_t rv = journal_counts(journal, &counts, ctl->pool, &message);
    if (!rv) {
        rv = journal_serials(journal, location, &serials, ctl->pool, &message);
    }
    if (rv) {
        return ctl_fail(ctl, CTL_UNUSABLE, "%s", message);
    }
    for (int i = 0; i < counts->nelts; i++) {
        there = there || !strcmp(APR_ARRAY_IDX(counts, i, journal_count_t).location, location);
    }
    if (!there) {
        return ctl_fail(ctl, CTL_FAILED, "the journal has no row of a location %s: journal counts shows their names",
                        ctl_shown(ctl, location, TEXT_SHOWN));
    }
    for (int i = 0; i < serials->nelts; i++) {
        const char *serial = canonical(APR_ARRAY_IDX(serials, i, const char *), ctl->pool);
        if (serial) {
            apr_hash_set(known, serial, APR_HASH_KEY_STRING, "");
        }
    }
    return CTL_DONE;
}

/* A line that is not understood ends it all: left out, it might be the orphan. */
static ctl_exit_t read_issued(ctl_t *ctl, FILE *stream, const char *name, const apr_hash_t *known,
                              apr_array_header_t *orphans, int *lines)
{
    char line[LINE_MAX_LEN];
    apr_hash_t *told = apr_hash_make(ctl->pool);
    for (int number = 1; fgets(line, sizeof(line), stream); number++) {
        bool whole = strchr(line, '\n') || feof(stream);
        const char *text = trimmed(line);
        const char *serial = whole ? canonical(text, ctl->pool) : NULL;
        if (whole && !*text) {
            continue;
        }
        if (!serial) {
            return ctl_fail(ctl, CTL_FAILED, "%s, line %d: %s is no serial number in hexadecimal",
                            ctl_shown(ctl, name, TEXT_SHOWN), number, ctl_shown(ctl, text, TEXT_SHOWN));
        }
        ++*lines;
        if (!apr_hash_get((apr_hash_t *)(apr_uintptr_t)known, serial, APR_HASH_KEY_STRING) &&
            !apr_hash_get(told, serial, APR_HASH_KEY_STRING)) {
            apr_hash_set(told, serial, APR_HASH_KEY_STRING, "");
            APR_ARRAY_PUSH(orphans, const char *) = printable(serial, ctl->pool);
        }
    }
    return ferror(stream)
               ? ctl_fail(ctl, CTL_UNUSABLE, "%s cannot be read: %s", ctl_shown(ctl, name, TEXT_SHOWN), strerror(errno))
               : CTL_DONE;
}

static void print_orphans(const ctl_t *ctl, const apr_array_header_t *orphans, int lines)
{
    json_object *document = ctl->json ? ctl_object() : NULL;
    json_object *list = ctl->json ? json_object_new_array() : NULL;
    for (int i = 0; i < orphans->nelts; i++) {
        const char *serial = APR_ARRAY_IDX(orphans, i, const char *);
        if (ctl->json) {
            json_object_array_add(list, json_object_new_string(serial));
        } else {
            puts(serial);
        }
    }
    if (ctl->json) {
        ctl_add(document, "orphans", list);
        ctl_add(document, "issued", json_object_new_int(lines));
        ctl_print(ctl, document);
    } else {
        fprintf(stderr, "%d of %d serials are not in the journal\n", orphans->nelts, lines);
    }
}

ctl_exit_t journal_ctl_orphans(ctl_t *ctl, journal_t *journal, const char *location, const char *file)
{
    bool standard = !strcmp(file, "-");
    apr_hash_t *known = apr_hash_make(ctl->pool);
    apr_array_header_t *orphans = apr_array_make(ctl->pool, 16, sizeof(const char *));
    int lines = 0;
    ctl_exit_t status = CTL_DONE;
    FILE *stream = standard ? stdin : fopen(file, "re");
    if (!stream) {
        return ctl_fail(ctl, CTL_UNUSABLE, "%s cannot be read: %s", ctl_shown(ctl, file, TEXT_SHOWN), strerror(errno));
    }
    status = known_serials(ctl, journal, location, known);
    if (!status) {
        status = read_issued(ctl, stream, file, known, orphans, &lines);
    }
    if (!status) {
        print_orphans(ctl, orphans, lines);
    }
    if (!standard) {
        fclose(stream);
    }
    return status;
}
