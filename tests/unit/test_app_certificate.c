/* SPDX-License-Identifier: Apache-2.0 */
#include "intune/app_certificate.h"

#include "base/clock.h"
#include "credential_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <apr_general.h>
#include <apr_strings.h>
#include <apr_thread_proc.h>
#include <openssl/pkcs12.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { DAY = 86400 };

static char folder[] = "/tmp/iscep-app-XXXXXX";
static apr_pool_t *pool;
static const char *certificate_path, *key_path;
static EVP_PKEY *one_key, *two_key, *small_key, *ec_key;
static X509 *one, *two;

static app_certificate_t *make(const char *key, const char *phrase, const char **message)
{
    app_certificate_settings_t settings = {certificate_path, key, NULL};
    app_certificate_t *made = NULL;

    *message = NULL;
    if (phrase)
        assert_int_equal(secret_source_make(&settings.password, phrase, pool, message), APR_SUCCESS);
    if (app_certificate_make(&made, &settings, pool, message) == APR_SUCCESS)
        assert_null(*message);
    else
        assert_null(made);
    return made;
}

static app_certificate_t *make_good(const char *key, const char *phrase)
{
    const char *message;
    app_certificate_t *made = make(key, phrase, &message);

    if (!made)
        fail_msg("refused: %s", message);
    return made;
}

static void refused(const char *name, const char *key, const char *phrase, const char *words)
{
    const char *message;

    if (make(key, phrase, &message))
        fail_msg("%s: accepted", name);
    assert_non_null(message);
    if (!strstr(message, words) || (phrase && strstr(message, phrase)))
        fail_msg("%s: message '%s' lacks '%s'", name, message, words);
}

static bool is_of(const app_pair_t *pair, EVP_PKEY *key)
{
    return pair && EVP_PKEY_eq(pair->key, key) == 1;
}

static void takes(app_certificate_t *certificate, EVP_PKEY *key, const char *words)
{
    const char *kept = NULL;

    assert_true(is_of(app_certificate_take(certificate, pool, &kept), key));
    if ((kept == NULL) != (words == NULL) || (kept && !strstr(kept, words)))
        fail_msg("kept '%s', not '%s'", kept, words);
}

static void ok_where_the_key_may_be(void **state)
{
    (void)state;
    credential_pem(certificate_path, one, one_key, NULL);
    takes(make_good(NULL, NULL), one_key, NULL);
    credential_pem(certificate_path, one, one_key, "phrase one");
    takes(make_good(NULL, "phrase one"), one_key, NULL);
    credential_pem(certificate_path, one, NULL, NULL);
    credential_pem(key_path, NULL, one_key, NULL);
    takes(make_good(key_path, NULL), one_key, NULL);
    takes(make_good(key_path, "not needed"), one_key, NULL);
    takes(make_good(apr_pstrcat(pool, "file:", key_path, NULL), NULL), one_key, NULL);
    credential_pem(key_path, NULL, one_key, "phrase two");
    takes(make_good(key_path, "phrase two"), one_key, NULL);
}

/* OpenSSL takes an unknown scheme for a file of that name before it looks for a provider. */
static void ok_uri(void **state)
{
    const char *path = apr_pstrcat(pool, folder, "/token:key", NULL);

    (void)state;
    credential_pem(certificate_path, one, NULL, NULL);
    credential_pem(path, NULL, one_key, "phrase");
    assert_int_equal(chdir(folder), 0);
    takes(make_good("token:key", "phrase"), one_key, NULL);
    refused("no phrase", "token:key", NULL, "token:key needs a pass phrase");
    refused("wrong phrase", "token:key", "other phrase", "token:key is not opened by the pass phrase");
    refused("no such", "pkcs11:object=none", NULL, "pkcs11:object=none cannot be opened");
    refused("a PIN", "pkcs11:object=none?Pin-Value=1234", NULL, "a PIN has no place in the URI: use IntuneScepAppCertificatePassword");
    assert_int_equal(chdir("/"), 0);
    unlink(path);
    assert_true(app_certificate_key_is_uri("pkcs11:token=x"));
    assert_false(app_certificate_key_is_uri("/a:b"));
    assert_false(app_certificate_key_is_uri("conf/key.pem"));
    assert_false(app_certificate_key_is_uri("FILE:/x"));
}

static void ok_pkcs12(void **state)
{
    PKCS12 *made = PKCS12_create("phrase", NULL, one_key, one, NULL, 0, 0, 0, 0, 0);
    unsigned char *der = NULL;
    int len = i2d_PKCS12(made, &der);

    (void)state;
    assert_true(len > 0);
    credential_write(certificate_path, der, (size_t)len, 0600);
    takes(make_good(NULL, "phrase"), one_key, NULL);
    refused("wrong phrase", NULL, "other phrase", "");
    OPENSSL_free(der);
    PKCS12_free(made);
}

static void ok_what_a_pair_tells(void **state)
{
    unsigned char digest[32];
    const char *kept = NULL;
    const app_pair_t *pair;

    (void)state;
    credential_pem(certificate_path, one, one_key, NULL);
    pair = app_certificate_take(make_good(NULL, NULL), pool, &kept);
    assert_int_equal(strlen(pair->thumbprint), 43);
    assert_null(strpbrk(pair->thumbprint, "+/="));
    assert_int_equal(X509_digest(one, EVP_sha1(), digest, NULL), 1);
    assert_int_equal(strlen(pair->name), 40);
    assert_int_equal(strtol(apr_pstrndup(pool, pair->name, 2), NULL, 16), digest[0]);
    assert_in_range(apr_time_sec(pair->not_after - apr_time_now()), DAY - 60, DAY);
}

static void fail_pairs(void **state)
{
    const struct {
        const char *name;
        EVP_PKEY *of, *key;
        long from, until;
        const char *words;
    } rows[] = {
        {"key of another", one_key, two_key, -DAY, DAY, "does not fit the certificate"},
        {"expired", one_key, one_key, -DAY, -1, "expired on"},
        {"not yet", one_key, one_key, DAY, 2 * DAY, "not valid before"},
        {"small", small_key, small_key, -DAY, DAY, "less than 2048 bits"},
        {"EC", ec_key, ec_key, -DAY, DAY, "is not RSA"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        X509 *certificate = credential_certificate(rows[i].of, rows[i].from, rows[i].until);

        credential_pem(certificate_path, certificate, rows[i].key, NULL);
        refused(rows[i].name, NULL, NULL, rows[i].words);
        refused(rows[i].name, NULL, NULL, certificate_path);
        X509_free(certificate);
    }
}

static void fail_files(void **state)
{
    (void)state;
    unlink(certificate_path);
    refused("none", NULL, NULL, "cannot be read");
    credential_write(certificate_path, "", 0, 0600);
    refused("empty", NULL, NULL, "is empty");
    credential_write(certificate_path, "nonsense", 8, 0600);
    refused("nonsense", NULL, NULL, "holds no certificate");
    credential_pem(certificate_path, one, NULL, NULL);
    assert_int_equal(chmod(certificate_path, 0600), 0);
    refused("no key", NULL, NULL, "holds no private key");
    credential_pem(certificate_path, one, one_key, "phrase");
    refused("no phrase", NULL, NULL, "set IntuneScepAppCertificatePassword");
    refused("wrong phrase", NULL, "another phrase", "IntuneScepAppCertificatePassword");
    credential_pem(certificate_path, one, one_key, NULL);
    assert_int_equal(chmod(certificate_path, 0640), 0);
    assert_non_null(make_good(NULL, NULL));
    assert_int_equal(chmod(certificate_path, 0644), 0);
    refused("open to others", NULL, NULL, "chmod");
    credential_pem(key_path, NULL, one_key, NULL);
    assert_non_null(make_good(key_path, NULL)); /* only the file with the key is secret */
    assert_int_equal(chmod(key_path, 0604), 0);
    refused("key open to others", key_path, NULL, key_path);
    refused("key nowhere", "/nonexistent/key", NULL, "/nonexistent/key");
}

static void ok_changes_are_taken_when_whole(void **state)
{
    app_certificate_t *certificate;
    const app_pair_t *before;
    const char *kept;
    X509 *later = credential_certificate(two_key, 3600, DAY);
    apr_time_t expires;

    (void)state;
    credential_pem(certificate_path, one, NULL, NULL);
    credential_pem(key_path, NULL, one_key, NULL);
    certificate = make_good(key_path, NULL);
    expires = app_certificate_expires(certificate);
    before = app_certificate_take(certificate, pool, &kept);
    credential_pem(key_path, NULL, two_key, NULL);
    takes(certificate, one_key, "does not fit");
    credential_write(certificate_path, "", 0, 0644);
    takes(certificate, one_key, "is empty");
    credential_write(certificate_path, "-----BEGIN CERTIFICATE-----\nMIIC", 32, 0644);
    takes(certificate, one_key, "holds no certificate");
    unlink(certificate_path);
    takes(certificate, one_key, "cannot be read");
    credential_pem(certificate_path, later, NULL, NULL);
    takes(certificate, one_key, "not valid before");
    assert_true(app_certificate_expires(certificate) == expires);
    clock_shift(apr_time_from_sec(3601)); /* it becomes good without a further change */
    takes(certificate, two_key, NULL);
    clock_shift(0);
    assert_true(is_of(before, one_key)); /* whoever took the old one goes on with it */
    credential_pem(certificate_path, one, NULL, NULL);
    credential_pem(key_path, NULL, one_key, NULL);
    takes(certificate, one_key, NULL);
    assert_int_equal(chmod(key_path, 0644), 0);
    takes(certificate, one_key, "chmod");
    X509_free(later);
}

static void ok_pass_phrase_changes_with_the_key(void **state)
{
    const char *phrase = apr_pstrcat(pool, folder, "/phrase", NULL);
    app_certificate_t *certificate;

    (void)state;
    credential_write(phrase, "first\n", 6, 0600);
    credential_pem(certificate_path, one, one_key, "first");
    certificate = make_good(NULL, apr_pstrcat(pool, "file:", phrase, NULL));
    credential_write(phrase, "second\n", 7, 0600);
    takes(certificate, one_key, NULL);
    credential_pem(certificate_path, two, two_key, "second");
    takes(certificate, two_key, NULL);
    credential_pem(certificate_path, one, one_key, "third");
    takes(certificate, two_key, "IntuneScepAppCertificatePassword");
    credential_write(phrase, "third\n", 6, 0600);
    clock_shift(apr_time_from_sec(2));
    takes(certificate, one_key, NULL);
    clock_shift(0);
    unlink(phrase);
}

static app_certificate_t *shared;
static const char *thumbprints[2];
static int wrong_pairs;

static void *APR_THREAD_FUNC take_often(apr_thread_t *thread, void *data)
{
    (void)thread;
    (void)data;
    for (int i = 0; i < 300; i++) {
        apr_pool_t *own = NULL;
        const char *kept = NULL;
        const app_pair_t *pair;

        apr_pool_create(&own, NULL);
        pair = app_certificate_take(shared, own, &kept);
        if (!pair || !is_of(pair, strcmp(pair->thumbprint, thumbprints[0]) == 0 ? one_key : two_key))
            __atomic_add_fetch(&wrong_pairs, 1, __ATOMIC_SEQ_CST);
        apr_pool_destroy(own);
    }
    return NULL;
}

static void ok_threads_see_whole_pairs(void **state)
{
    apr_thread_t *threads[8];
    const char *kept;
    apr_status_t rv;

    (void)state;
    credential_pem(certificate_path, two, two_key, NULL);
    shared = make_good(NULL, NULL);
    thumbprints[1] = app_certificate_take(shared, pool, &kept)->thumbprint;
    credential_pem(certificate_path, one, one_key, NULL);
    thumbprints[0] = app_certificate_take(shared, pool, &kept)->thumbprint;
    assert_string_not_equal(thumbprints[0], thumbprints[1]);
    for (int i = 0; i < 8; i++)
        assert_int_equal(apr_thread_create(&threads[i], NULL, take_often, NULL, pool), APR_SUCCESS);
    for (int i = 0; i < 40; i++)
        credential_pem(certificate_path, i % 2 ? one : two, i % 2 ? one_key : two_key, NULL);
    for (int i = 0; i < 8; i++)
        assert_int_equal(apr_thread_join(&rv, threads[i]), APR_SUCCESS);
    assert_int_equal(wrong_pairs, 0);
}

static void ok_after_a_fork(void **state)
{
    app_certificate_t *certificate;
    int status = 0;
    pid_t child;

    (void)state;
    credential_pem(certificate_path, one, one_key, NULL);
    certificate = make_good(NULL, NULL);
    child = fork();
    if (child == 0) {
        const char *kept = NULL;
        bool before = is_of(app_certificate_take(certificate, pool, &kept), one_key);

        credential_pem(certificate_path, two, two_key, NULL);
        _exit(before && is_of(app_certificate_take(certificate, pool, &kept), two_key) ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    takes(certificate, two_key, NULL);
}

static int begin(void **state)
{
    (void)state;
    return apr_pool_create(&pool, NULL) == APR_SUCCESS ? 0 : -1;
}

static int end(void **state)
{
    (void)state;
    clock_shift(0);
    apr_pool_destroy(pool);
    unlink(certificate_path);
    unlink(key_path);
    return 0;
}

static int keys_make(void **state)
{
    (void)state;
    one_key = credential_key(2048);
    two_key = credential_key(2048);
    small_key = credential_key(1024);
    ec_key = credential_key(0);
    one = credential_certificate(one_key, -DAY, DAY);
    two = credential_certificate(two_key, -DAY, DAY);
    return 0;
}

static int keys_free(void **state)
{
    (void)state;
    EVP_PKEY_free(one_key);
    EVP_PKEY_free(two_key);
    EVP_PKEY_free(small_key);
    EVP_PKEY_free(ec_key);
    X509_free(one);
    X509_free(two);
    return 0;
}

#define APP_TEST(function) cmocka_unit_test_setup_teardown(function, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        APP_TEST(ok_where_the_key_may_be),
        APP_TEST(ok_uri),
        APP_TEST(ok_pkcs12),
        APP_TEST(ok_what_a_pair_tells),
        APP_TEST(fail_pairs),
        APP_TEST(fail_files),
        APP_TEST(ok_changes_are_taken_when_whole),
        APP_TEST(ok_pass_phrase_changes_with_the_key),
        APP_TEST(ok_threads_see_whole_pairs),
        APP_TEST(ok_after_a_fork),
    };
    char certificate[64], key[64];
    int failed;

    if (!mkdtemp(folder))
        return 1;
    apr_initialize();
    apr_snprintf(certificate, sizeof(certificate), "%s/app.pem", folder);
    apr_snprintf(key, sizeof(key), "%s/app.key", folder);
    certificate_path = certificate;
    key_path = key;
    failed = cmocka_run_group_tests_name("app_certificate", tests, keys_make, keys_free);
    apr_terminate();
    return rmdir(folder) != 0 ? 1 : failed;
}
