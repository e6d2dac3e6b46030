/* SPDX-License-Identifier: Apache-2.0 */
/* Which credential goes to Entra, and what follows from its refusal. */
#include "credential_fixture.h"
#include "intune_bed.h"

#include "base/clock.h"

#include <apr_general.h>
#include <apr_strings.h>

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define REFUSED_BODY "{\"error\":\"invalid_client\",\"error_description\":\"AADSTS700027: Client assertion failed.\"}"

static char folder[] = "/tmp/iscep-cred-XXXXXX";

static const char *in_folder(bed_t *bed, const char *name)
{
    return apr_pstrcat(bed->pool, folder, "/", name, NULL);
}

static void text_write(const char *path, const char *text)
{
    credential_write(path, text, strlen(text), 0600);
}

static int asked(bed_t *bed, const char *within)
{
    return fixture_count(bed->server, BED_TOKEN_PATH, within);
}

/** A bed whose key comes from this specification. */
static void key_use(bed_t *bed, const char *specification)
{
    const char *message = NULL;
    assert_int_equal(secret_source_make(&bed->settings.app_key, specification, bed->pool, &message), APR_SUCCESS);
    bed_attach(bed, &bed->settings);
}

static void token_file_use(bed_t *bed, const char *path)
{
    bed->settings.app_key = NULL;
    bed->settings.app_token_file = path;
    bed_attach(bed, &bed->settings);
}

/** Entra refuses requests that contain this. */
static void refuse(bed_t *bed, const char *within)
{
    fixture_on(bed->server, BED_TOKEN_PATH, within, -1, (fixture_reply_t){401, NULL, REFUSED_BODY, 0, 0, false});
}

static void refused_is(bed_t *bed, problem_t problem, const char *detail)
{
    assert_int_not_equal(bed_validate(bed), APR_SUCCESS);
    if (bed->result->problem != problem || strstr(bed->result->detail, detail) == NULL) {
        fail_msg("%s: %s", problem_facts(bed->result->problem)->name, bed->result->detail);
    }
}

static void ok_key_in_the_form(void **state)
{
    bed_t *bed = *state;
    assert_int_equal(bed_validate(bed), APR_SUCCESS);
    assert_int_equal(asked(bed, "client_id=app-1&client_secret=s%2be%26c%3dr%25et&scope="), 2);
    assert_int_equal(asked(bed, "assertion"), 0);
}

static void ok_certificate_in_the_form(void **state)
{
    bed_t *bed = *state;
    app_certificate_settings_t from = {in_folder(bed, "app.pem"), NULL, NULL};
    const char *message = NULL;
    EVP_PKEY *key = credential_key(2048);
    X509 *certificate = credential_certificate(key, -100, 86400);

    credential_pem(from.certificate, certificate, key, NULL);
    bed->settings.app_key = NULL;
    assert_int_equal(app_certificate_make(&bed->settings.app_certificate, &from, bed->pool, &message), APR_SUCCESS);
    bed_attach(bed, &bed->settings);
    assert_int_equal(bed_validate(bed), APR_SUCCESS);
    assert_int_equal(asked(bed, "client_secret"), 0);
    assert_int_equal(asked(bed, "client_id=app-1&client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-"
                                "type%3Ajwt-bearer&client_assertion=eyJ"),
                     2);
    /* tried again: with an assertion of its own */
    bed->settings.retries = 1;
    bed_attach(bed, &bed->settings);
    fixture_forget(bed->server);
    clock_shift(apr_time_from_sec(4000));
    fixture_on(bed->server, BED_TOKEN_PATH, BED_INTUNE_SCOPE, 1, (fixture_reply_t){503, NULL, "", 0, 0, false});
    assert_int_equal(bed_validate(bed), APR_SUCCESS);
    assert_int_equal(fixture_count(bed->server, BED_TOKEN_PATH, BED_INTUNE_SCOPE), 2);
    const char *form = (const char *)fixture_last(bed->server, BED_TOKEN_PATH, BED_INTUNE_SCOPE)->body;
    const char *assertion = strstr(form, "client_assertion=");
    assertion = apr_pstrmemdup(bed->pool, assertion, strcspn(assertion, "&"));
    assert_int_equal(asked(bed, assertion), 1);
    bed->settings.retries = 0;
    bed_attach(bed, &bed->settings);
    refuse(bed, NULL);
    clock_shift(apr_time_from_sec(90000));
    refused_is(bed, PROBLEM_TOKEN_REFUSED, "IntuneScepAppCertificate (certificate ");
    assert_non_null(strstr(bed->result->detail, "EXPIRED on"));
    assert_string_equal(bed->result->code, "AADSTS700027");
    unlink(from.certificate);
    X509_free(certificate);
    EVP_PKEY_free(key);
}

static void ok_token_file_is_read_for_each_request(void **state)
{
    bed_t *bed = *state;
    const char *path = in_folder(bed, "token");

    text_write(path, " \n first.token.text\r\n");
    token_file_use(bed, path);
    assert_int_equal(bed_validate(bed), APR_SUCCESS);
    assert_int_equal(asked(bed, "&client_assertion=first.token.text&scope="), 2);
    text_write(path, "second.token.text");
    clock_shift(apr_time_from_sec(4000));
    assert_int_equal(bed_validate(bed), APR_SUCCESS);
    assert_int_equal(asked(bed, "&client_assertion=second.token.text&scope="), 1);
    unlink(path);
}

static void fail_token_files(void **state)
{
    static const struct {
        const char *data;
        size_t len;
        const char *words;
    } rows[] = {
        {"", 0, "is empty"},
        {" \r\n\t", 4, "is empty"},
        {"two words", 9, "something else than one token"},
        {"a\nb", 3, "something else than one token"},
        {"a\0b", 3, "something else than one token"},
        {"\0", 1, "something else than one token"},
        {"caf\xc3\xa9", 5, "something else than one token"},
    };
    static char much[65537];
    bed_t *bed = *state;
    const char *path = in_folder(bed, "token");

    token_file_use(bed, path);
    refused_is(bed, PROBLEM_CREDENTIAL_UNUSABLE, "cannot be read");
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        credential_write(path, rows[i].data, rows[i].len, 0600);
        refused_is(bed, PROBLEM_CREDENTIAL_UNUSABLE, rows[i].words);
        assert_int_equal(strncmp(bed->result->detail, "IntuneScepAppTokenFile: ", 24), 0);
    }
    memset(much, 'x', sizeof(much));
    credential_write(path, much, sizeof(much), 0600);
    refused_is(bed, PROBLEM_CREDENTIAL_UNUSABLE, "64 KiB");
    assert_int_equal(asked(bed, NULL), 0);
    text_write(path, "good");
    assert_int_equal(bed_validate(bed), APR_SUCCESS); /* without a pause */
    unlink(path);
}

/* What cannot be read has a stamp that can be compared, and that no credential has. */
static void fail_no_credential_has_no_stamp(void **state)
{
    bed_t *bed = *state;
    errand_t errand;
    credential_t credential;

    token_file_use(bed, in_folder(bed, "token"));
    bed_call(bed);
    assert_int_equal(errand_begin(&errand, bed->intune, &bed->call), APR_SUCCESS);
    assert_int_not_equal(credential_take(&errand, &credential, bed->pool), APR_SUCCESS);
    assert_string_equal(credential.stamp, "");
    assert_string_equal(credential_stamp(&errand, bed->pool), "");
    errand_end(&errand, APR_EGENERAL);
}

static void fail_refused_is_not_asked_again_for_half_a_minute(void **state)
{
    bed_t *bed = *state;
    refuse(bed, NULL);
    for (int i = 0; i < 5; i++) {
        clock_shift(apr_time_from_sec(6 * i));
        refused_is(bed, PROBLEM_TOKEN_REFUSED, "credential of IntuneScepAppKey");
        assert_string_equal(bed->result->code, "AADSTS700027");
    }
    assert_int_equal(asked(bed, NULL), 1);
    clock_shift(apr_time_from_sec(31));
    refused_is(bed, PROBLEM_TOKEN_REFUSED, "credential of IntuneScepAppKey");
    assert_int_equal(asked(bed, NULL), 2);
}

static void ok_other_credential_is_tried_at_once(void **state)
{
    bed_t *bed = *state;
    const char *path = in_folder(bed, "key");

    text_write(path, "wrong");
    key_use(bed, apr_pstrcat(bed->pool, "file:", path, NULL));
    refuse(bed, "client_secret=wrong&");
    refused_is(bed, PROBLEM_TOKEN_REFUSED, "");
    text_write(path, "right");
    assert_int_equal(bed_validate(bed), APR_SUCCESS);
    assert_int_equal(asked(bed, "client_secret=wrong&"), 1);
    unlink(path);
}

static const char *exchanged_path;

/** Another cache to exchange the key at the moment when the refusal is put down: Entra looked at the old one. */
static cache_t *real_cache;
static apr_status_t put_and_exchange(cache_t *cache, const char *key, bytes_t value, apr_time_t expires)
{
    (void)cache;
    if (strncmp(key, "failure ", 8) == 0) {
        text_write(exchanged_path, "right");
    }
    return real_cache->put(real_cache, key, value, expires);
}

static void ok_exchanged_while_entra_looked_at_it(void **state)
{
    bed_t *bed = *state;
    const char *path = in_folder(bed, "key");

    real_cache = bed->cache;
    cache_t spying = *real_cache;
    spying.put = put_and_exchange;
    bed->cache = &spying;
    exchanged_path = path;
    text_write(path, "wrong");
    key_use(bed, apr_pstrcat(bed->pool, "file:", path, NULL));
    refuse(bed, "client_secret=wrong&");
    assert_int_equal(bed_validate(bed), APR_SUCCESS);
    assert_null(bed->result->detail);
    assert_null(bed->result->code);
    assert_int_equal(asked(bed, "client_secret=wrong&"), 1);
    assert_int_equal(asked(bed, "client_secret=right&"), 2);
    bed->cache = real_cache;
    unlink(path);
}

static void ok_command_runs_again_after_a_refusal(void **state)
{
    bed_t *bed = *state;
    const char *value = in_folder(bed, "value");
    const char *script = in_folder(bed, "script");
    const char *text = apr_pstrcat(bed->pool, "#!/bin/sh\ncat ", value, "\n", NULL);

    credential_write(script, text, strlen(text), 0700);
    text_write(value, "wrong");
    key_use(bed, apr_pstrcat(bed->pool, "exec:", script, NULL));
    refuse(bed, "client_secret=wrong&");
    refuse(bed, "client_secret=wrong-too&");
    text_write(value, "wrong-too");
    refused_is(bed, PROBLEM_TOKEN_REFUSED, ""); /* runs at once, and its value is tried */
    assert_int_equal(asked(bed, "client_secret=wrong&"), 1);
    assert_int_equal(asked(bed, "client_secret=wrong-too&"), 1);
    text_write(value, "right");
    clock_shift(apr_time_from_sec(40));
    refused_is(bed, PROBLEM_TOKEN_REFUSED, ""); /* but not twice in a minute */
    assert_int_equal(asked(bed, NULL), 3);
    clock_shift(apr_time_from_sec(61));
    assert_int_equal(bed_validate(bed), APR_SUCCESS); /* for the record of the refusal is reason enough */
    assert_int_equal(asked(bed, "client_secret=wrong-too&"), 2);
    unlink(value);
    unlink(script);
}

static void fail_renewal_respects_the_refusal(void **state)
{
    bed_t *bed = *state;
    const char *path = in_folder(bed, "key");

    text_write(path, "wrong");
    key_use(bed, apr_pstrcat(bed->pool, "file:", path, NULL));
    bed_token(bed, BED_INTUNE_SCOPE, 1, 200, "{\"access_token\":\"old\",\"expires_in\":400}");
    assert_int_equal(bed_validate(bed), APR_SUCCESS);
    refuse(bed, "client_secret=wrong&");
    fixture_forget(bed->server);
    for (int i = 0; i < 25; i++) {
        clock_shift(apr_time_from_sec(300 + i));
        intune_renew_due(bed->intune, bed->pool, &bed->log);
    }
    assert_int_equal(asked(bed, BED_INTUNE_SCOPE), 1);
    text_write(path, "right");
    intune_renew_due(bed->intune, bed->pool, &bed->log);
    assert_int_equal(asked(bed, "client_secret=right&"), 1);
    assert_int_equal(bed_logged(bed, "IntuneScepAppKey"), 1);
    unlink(path);
}

static void ok_credentials_do_not_hold_each_other_up(void **state)
{
    bed_t *bed = *state;
    key_use(bed, "wrong");
    refuse(bed, "client_secret=wrong&");
    refused_is(bed, PROBLEM_TOKEN_REFUSED, "");
    key_use(bed, "right");
    assert_int_equal(bed_validate(bed), APR_SUCCESS);
}

#define BED_TEST(name) cmocka_unit_test_setup_teardown(name, bed_up, bed_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        BED_TEST(ok_key_in_the_form),
        BED_TEST(ok_certificate_in_the_form),
        BED_TEST(ok_token_file_is_read_for_each_request),
        BED_TEST(fail_token_files),
        BED_TEST(fail_no_credential_has_no_stamp),
        BED_TEST(fail_refused_is_not_asked_again_for_half_a_minute),
        BED_TEST(ok_other_credential_is_tried_at_once),
        BED_TEST(ok_exchanged_while_entra_looked_at_it),
        BED_TEST(ok_command_runs_again_after_a_refusal),
        BED_TEST(fail_renewal_respects_the_refusal),
        BED_TEST(ok_credentials_do_not_hold_each_other_up),
    };
    if (!mkdtemp(folder) || bed_start() != 0) {
        return EXIT_FAILURE;
    }
    int failed = cmocka_run_group_tests_name("credential", tests, NULL, NULL);
    apr_terminate();
    return rmdir(folder) != 0 ? EXIT_FAILURE : failed;
}
