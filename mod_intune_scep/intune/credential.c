/* SPDX-License-Identifier: Apache-2.0 */
/* What proves to Entra who we are: an application key, a certificate or a federated token, as it is at this moment. */
#include "intune/intune_internal.h"

#include "base/clock.h"
#include "base/secret_file.h"
#include "base/text.h"
#include "intune/assertion.h"

#include <apr_escape.h>
#include <apr_strings.h>

#include <openssl/evp.h>
#include <string.h>

#define ASSERTION_TYPE "client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer"
#define KEPT_PAUSE apr_time_from_sec(60)

/* Half of a SHA-256 tells any two credentials apart and leads back to none. */
enum { STAMP_LEN = 16, PATH_SHOWN = 512 };

static const char *directive_of(const intune_settings_t *settings)
{
    return settings->app_certificate != NULL  ? "IntuneScepAppCertificate"
           : settings->app_token_file != NULL ? "IntuneScepAppTokenFile"
                                              : "IntuneScepAppKey";
}

static const char *stamp_make(const intune_settings_t *settings, const char *text, apr_size_t len, apr_pool_t *pool)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    bytes_t half = {digest, STAMP_LEN};
    const char *stamp = "";
    EVP_MD_CTX *context = EVP_MD_CTX_new();

    if (context != NULL && EVP_DigestInit_ex(context, EVP_sha256(), NULL) == 1 &&
        EVP_DigestUpdate(context, settings->app_id, strlen(settings->app_id) + 1) == 1 &&
        EVP_DigestUpdate(context, text, len) == 1 && EVP_DigestFinal_ex(context, digest, NULL) == 1) {
        stamp = text_hex(pool, half);
    }
    EVP_MD_CTX_free(context);
    return stamp;
}

/** A JWT is one word of printable characters; the file may have white space around it. NULL and why otherwise. */
static const secret_t *token_judge(const secret_file_t *file, const char **why, apr_pool_t *pool)
{
    const char *text = file->bytes;
    apr_size_t len = file->len;

    if (len > SECRET_FILE_MAX) {
        *why = "is longer than 64 KiB";
        return NULL;
    }
    while (len > 0 && strchr(" \t\r\n", text[len - 1]) != NULL && text[len - 1] != '\0') {
        len--;
    }
    while (len > 0 && strchr(" \t\r\n", *text) != NULL && *text != '\0') {
        text++;
        len--;
    }
    if (len == 0) {
        *why = "is empty";
        return NULL;
    }
    for (apr_size_t i = 0; i < len; i++) {
        if (text[i] <= ' ' || text[i] > '~') {
            *why = "holds something else than one token";
            return NULL;
        }
    }
    return secret_make(pool, text, len);
}

static const secret_t *token_read(const char *path, const char **message, apr_pool_t *pool)
{
    secret_file_t *file = apr_palloc(pool, sizeof(*file));
    const secret_t *token = NULL;
    const char *why = NULL;

    secret_guard(pool, file->bytes, sizeof(file->bytes));
    if (secret_file_read(file, path, false, pool, message) != APR_SUCCESS) {
        return NULL;
    }
    token = token_judge(file, &why, pool);
    if (token == NULL) {
        *message = apr_psprintf(pool, "%s %s", text_escape(pool, path, PATH_SHOWN), why);
    }
    return token;
}

static void kept_tell(errand_t *errand, const char *kept, apr_pool_t *pool)
{
    const char *told =
        apr_pstrcat(pool, "credential kept ", key_part(pool, errand->intune->settings.app_id), kept, NULL);
    if (note_present(errand, told, pool)) {
        return;
    }
    note_put(errand, told, KEPT_PAUSE);
    log_write(errand->call->log, MSG_CREDENTIAL_KEPT, "IntuneScepAppCertificate: %s; the pair read before stays in use",
              kept);
}

static const char *certificate_take(errand_t *errand, credential_t *credential, apr_pool_t *pool)
{
    const intune_settings_t *settings = &errand->intune->settings;
    const char *kept = NULL;
    char date[APR_RFC822_DATE_LEN];

    credential->pair = app_certificate_take(settings->app_certificate, pool, &kept);
    if (credential->pair == NULL) {
        return "memory ran out";
    }
    if (kept != NULL) {
        kept_tell(errand, kept, pool);
    }
    apr_rfc822_date(date, credential->pair->not_after);
    credential->about = apr_psprintf(pool, " (certificate %s, %s %s)", credential->pair->name,
                                     clock_now() < credential->pair->not_after ? "valid until" : "EXPIRED on", date);
    credential->stamp = stamp_make(settings, credential->pair->thumbprint, strlen(credential->pair->thumbprint), pool);
    return NULL;
}

apr_status_t credential_take(errand_t *errand, credential_t *credential, apr_pool_t *pool)
{
    const intune_settings_t *settings = &errand->intune->settings;
    const char *message = NULL;

    memset(credential, 0, sizeof(*credential));
    credential->directive = directive_of(settings);
    credential->about = "";
    credential->stamp = "";
    if (settings->app_certificate != NULL) {
        message = certificate_take(errand, credential, pool);
    } else if (settings->app_token_file != NULL) {
        credential->secret = token_read(settings->app_token_file, &message, pool);
    } else {
        credential->secret = secret_source_read(settings->app_key, pool);
    }
    if (credential->secret != NULL) {
        credential->stamp =
            stamp_make(settings, secret_reveal(credential->secret), secret_length(credential->secret), pool);
    }
    if (message != NULL) {
        return errand_fail(errand, PROBLEM_CREDENTIAL_UNUSABLE, NULL, 0,
                           apr_psprintf(errand->call->pool, "%s: %s", credential->directive, message));
    }
    return APR_SUCCESS;
}

const char *credential_stamp(errand_t *errand, apr_pool_t *pool)
{
    credential_t now;
    errand_t inner = *errand;
    inner.result = result_make(pool);
    return credential_take(&inner, &now, pool) == APR_SUCCESS ? now.stamp : "";
}

const char *credential_form(errand_t *errand, const credential_t *credential, const char *endpoint, apr_pool_t *pool)
{
    const intune_settings_t *settings = &errand->intune->settings;
    const char *message = NULL;
    const char *value = NULL;
    const char *escaped = NULL;

    if (credential->pair != NULL) {
        value = assertion_make(credential->pair, endpoint, settings->app_id, pool, &message);
    } else {
        value = secret_reveal(credential->secret);
    }
    if (value == NULL) {
        errand_fail(
            errand, PROBLEM_CREDENTIAL_UNUSABLE, NULL, 0,
            apr_psprintf(errand->call->pool, "%s: the assertion cannot be signed: %s", credential->directive, message));
        return NULL;
    }
    escaped = apr_pescape_urlencoded(pool, value);
    if (escaped != value) {
        secret_guard(pool, escaped, strlen(escaped));
    }
    value = settings->app_key != NULL ? apr_pstrcat(pool, "client_secret=", escaped, NULL)
                                      : apr_pstrcat(pool, ASSERTION_TYPE "&client_assertion=", escaped, NULL);
    secret_guard(pool, value, strlen(value));
    return value;
}

bool credential_changed(errand_t *errand, const char *stamp, apr_pool_t *pool)
{
    secret_source_t *key = errand->intune->settings.app_key;
    const char *now = NULL;

    if (key != NULL) {
        secret_source_refused(key, errand->deadline - clock_now());
    }
    now = credential_stamp(errand, pool);
    return *now != '\0' && strcmp(now, stamp) != 0;
}
