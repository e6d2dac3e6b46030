/* SPDX-License-Identifier: Apache-2.0 */
/* The command `decode`: a SCEP message in words. */
#include "ctl/ctl.h"
#include "ctl/files.h"

#include "gateway/profile.h"
#include "scep/http_side.h"
#include "scep/view.h"

#include <apr_lib.h>
#include <apr_strings.h>
#include <json-c/json.h>
#include <stdio.h>

enum { MESSAGE_MAX = 1024 * 1024, VALUE_SHOWN = 2048, NAME_COLUMN = 32 };

enum { OPTION_RA_CERTIFICATE, OPTION_RA_KEY };
static const ctl_option_t options[] = {
    [OPTION_RA_CERTIFICATE] = {"ra-certificate", "FILE",
                               "whom the message may be for: the RA, or the device with a CertRep"},
    [OPTION_RA_KEY] = {"ra-key", "FILE", "the private key of it: shows the inside"},
    {NULL, NULL, NULL}};

/* The message. */

/* What is between two marks of PEM, or all of it. */
static char *without_marks(const ctl_t *ctl, const char *text)
{
    const char *begin = strstr(text, "-----BEGIN ");
    const char *from = begin ? strstr(begin + 5, "-----") : NULL;
    const char *until = from ? strstr(from + 5, "-----END ") : NULL;
    return until ? apr_pstrmemdup(ctl->pool, from + 5, (apr_size_t)(until - from - 5)) : apr_pstrdup(ctl->pool, text);
}

/* A query has it in `message=`; it may stand in a request line, in a URL, or in a log. */
static const char *message_of(const ctl_t *ctl, char *text)
{
    const char *message = NULL;
    char *query = strchr(text, '?');
    query = query ? query + 1 : text;
    query[strcspn(query, " \t\r\n\"")] = '\0';
    scep_query_parse(query, &message, ctl->pool);
    return message;
}

/* Raw, or as text in one of its forms. False: it is none of them. */
static bool der_find(const ctl_t *ctl, bytes_t bytes, bytes_t *der)
{
    if (bytes.len && bytes.data[0] == 0x30) {
        *der = bytes;
        return true;
    }
    if (!bytes.len || memchr(bytes.data, 0, bytes.len)) {
        return false;
    }
    char *text = without_marks(ctl, (const char *)bytes.data);
    while (apr_isspace(*text)) {
        text++;
    }
    const char *base64 = strcasestr(text, "message=") ? message_of(ctl, text) : text;
    /* At the end it would be taken for a "+" that was not escaped. */
    apr_size_t len = strlen(base64);
    while (len && apr_isspace(base64[len - 1])) {
        len--;
    }
    return !scep_get_message_decode(der, apr_pstrmemdup(ctl->pool, base64, len), MESSAGE_MAX, ctl->pool);
}

/* The challenge: what it looks like, and never what it is. */

static void field_add(const ctl_t *ctl, scep_part_t *part, const char *name, const char *value)
{
    scep_field_t *field = apr_array_push(part->fields);
    field->name = name;
    field->value = apr_pstrdup(ctl->pool, value);
}

static void challenge_tell(const ctl_t *ctl, const scep_view_t *view)
{
    const csr_t *csr = view->csr;
    profile_t profile = {.challenge_match = CHALLENGE_SHAPE};
    if (!csr) {
        return;
    }
    if (!csr->challenge) {
        field_add(ctl, view->csr_part, "challenge", "none");
        return;
    }
    bool shaped = profile_challenge_matches(&profile, csr->challenge, ctl->pool);
    field_add(ctl, view->csr_part, "challenge",
              apr_psprintf(ctl->pool, "%" APR_SIZE_T_FMT " characters, %s%s", secret_length(csr->challenge),
                           shaped ? "base64 of a CMS message, as Intune's are" : "not of the shape of Intune's",
                           csr->challenges > 1 ? apr_psprintf(ctl->pool, "; there are %d", csr->challenges) : ""));
}

/* The output. */

static void show_text(const ctl_t *ctl, const scep_view_t *view)
{
    for (int i = 0; i < view->parts->nelts; i++) {
        const scep_part_t *part = APR_ARRAY_IDX(view->parts, i, const scep_part_t *);
        printf("%s%s\n", i ? "\n" : "", part->name);
        for (int j = 0; j < part->fields->nelts; j++) {
            const scep_field_t *field = &APR_ARRAY_IDX(part->fields, j, scep_field_t);
            printf("  %-*s %s\n", NAME_COLUMN, ctl_shown(ctl, field->name, VALUE_SHOWN),
                   ctl_shown(ctl, field->value, VALUE_SHOWN));
        }
    }
}

/* A name that comes again, as extensions may, has a number behind it. */
static const char *free_name(const ctl_t *ctl, json_object *object, const char *name)
{
    const char *free = name;
    for (int i = 2; json_object_object_get_ex(object, free, NULL); i++) {
        free = apr_psprintf(ctl->pool, "%s %d", name, i);
    }
    return free;
}

static void show_json(const ctl_t *ctl, const scep_view_t *view)
{
    json_object *document = ctl_object();
    json_object *parts = json_object_new_array();
    for (int i = 0; i < view->parts->nelts; i++) {
        const scep_part_t *part = APR_ARRAY_IDX(view->parts, i, const scep_part_t *);
        json_object *object = ctl_object();
        ctl_add_text(ctl, object, "part", part->name);
        for (int j = 0; j < part->fields->nelts; j++) {
            const scep_field_t *field = &APR_ARRAY_IDX(part->fields, j, scep_field_t);
            ctl_add_text(ctl, object, free_name(ctl, object, field->name), field->value);
        }
        json_object_array_add(parts, object);
    }
    ctl_add(document, "parts", parts);
    ctl_print(ctl, document);
}

static ctl_exit_t key_take(ctl_t *ctl, const ctl_words_t *words, const scep_engine_t *engine, scep_view_key_t *key)
{
    ctl_exit_t status = ctl_certificate_take(ctl, engine, words->values[OPTION_RA_CERTIFICATE], &key->certificate);
    if (!status) {
        status = ctl_key_take(ctl, engine, words->values[OPTION_RA_KEY], false, &key->key);
    }
    const char *wrong = status ? NULL : scep_key_check(key->certificate, key->key, ctl->pool);
    return wrong ? ctl_fail(ctl, CTL_UNUSABLE, "--ra-key: %s", wrong) : status;
}

static ctl_exit_t run(ctl_t *ctl, const ctl_words_t *words)
{
    bool with_key = words->values[OPTION_RA_KEY] != NULL;
    scep_view_key_t key = {NULL, NULL};
    scep_engine_t *engine = NULL;
    scep_view_t *view = NULL;
    bytes_t bytes = {NULL, 0};
    bytes_t der = {NULL, 0};
    const char *why = NULL;
    if (words->count != 1) {
        return ctl_fail(ctl, CTL_USAGE, "decode needs a file, or - for the standard input, and no other words");
    }
    if (with_key != (words->values[OPTION_RA_CERTIFICATE] != NULL)) {
        return ctl_fail(ctl, CTL_USAGE, "--ra-certificate and --ra-key go together");
    }
    if (scep_engine_make(&engine, ctl->pool, result_make(ctl->pool))) {
        return ctl_fail(ctl, CTL_FAILED, "OpenSSL cannot be used");
    }
    ctl_exit_t status = ctl_file_read(ctl, words->rest[0], &bytes);
    if (!status && with_key) {
        status = key_take(ctl, words, engine, &key);
    }
    if (status) {
        return status;
    }
    if (!der_find(ctl, bytes, &der)) {
        return ctl_fail(ctl, CTL_FAILED, "it is neither DER nor base64 nor a query with a message");
    }
    if (scep_view_make(&view, engine, der, with_key ? &key : NULL, ctl->pool, &why)) {
        return ctl_fail(ctl, CTL_FAILED, "it is no SCEP message: %s", why);
    }
    challenge_tell(ctl, view);
    if (ctl->json) {
        show_json(ctl, view);
    } else {
        show_text(ctl, view);
    }
    return CTL_DONE;
}

const ctl_group_t ctl_decode = {.name = "decode",
                                .help = "a SCEP message in words: DER, base64, PEM, or the query of a GET",
                                .options = options,
                                .run = run,
                                .arguments = "FILE"};
