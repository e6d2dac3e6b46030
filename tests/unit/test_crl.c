/* SPDX-License-Identifier: Apache-2.0 */
/* Revocation lists from a file: which are taken, what they say, and what happens when the file changes. */
#include "pki_fixture.h"

#include "base/clock.h"
#include "scep/parts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include <apr_strings.h>
#include <cmocka.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

static apr_pool_t *pool;
static pki_t *pki;
static X509 *good;
static X509 *revoked;
static X509 *of_root;
static char directory[] = "/tmp/iscep-crl-XXXXXX";

static X509 *leaf(X509 *issuer, EVP_PKEY *key)
{
    pki_certificate_t wanted = {.subject = "device", .key = pki->device_key, .issuer = issuer, .issuer_key = key};

    return pki_certificate_make(pki, &wanted);
}

static int setup(void **state)
{
    (void)state;
    apr_pool_create(&pool, NULL);
    pki = pki_make(pool);
    good = leaf(pki->ca, pki->ca_key);
    revoked = leaf(pki->ca, pki->ca_key);
    of_root = leaf(pki->root, pki->root_key);
    return mkdtemp(directory) ? 0 : 1;
}

static int teardown(void **state)
{
    (void)state;
    apr_pool_destroy(pool);
    return rmdir(directory);
}

static const char *path(void)
{
    return apr_pstrcat(pool, directory, "/crl", NULL);
}

/* As a tool should do it, so that the file is never half-written. */
static void file_write(bytes_t bytes)
{
    const char *fresh = apr_pstrcat(pool, directory, "/fresh", NULL);
    FILE *file = fopen(fresh, "wb");

    assert_non_null(file);
    assert_true(!bytes.len || fwrite(bytes.data, bytes.len, 1, file) == 1);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(rename(fresh, path()), 0);
}

static bytes_t to_pem(bytes_t first, bytes_t second)
{
    BIO *out = BIO_new(BIO_s_mem());

    must(PEM_write_bio_X509(out, pki->ca));
    must(PEM_write_bio(out, PEM_STRING_X509_CRL, "", first.data, (long)first.len) > 0);
    must(!second.len || PEM_write_bio(out, PEM_STRING_X509_CRL, "", second.data, (long)second.len) > 0);
    return pki_bio_take(out, pool);
}

static pki_crl_t list(void)
{
    pki_crl_t wanted = {.issuer = pki->ca, .issuer_key = pki->ca_key, .from = -10, .revoked = {revoked}};

    return wanted;
}

static scep_crls_t *load(void)
{
    scep_crls_t *crls = NULL;
    const char *message = NULL;

    if (scep_crls_make(&crls, pki->engine, pki->chain, path(), pool, &message) != APR_SUCCESS) {
        fail_msg("%s", message);
    }
    return crls;
}

static void expect(scep_crls_t *crls, X509 *certificate, scep_revocation_t verdict)
{
    const char *why = "";

    assert_int_equal(scep_crls_check(crls, certificate, pool, &why), verdict);
    print_message("%d %s\n", (int)verdict, why);
    assert_int_equal(ERR_peek_error(), 0);
}

static void files(void **state)
{
    pki_crl_t forged = list();
    pki_crl_t delta = list();
    pki_crl_t only_cas = list();
    pki_crl_t stranger = list();
    pki_crl_t relative = list();
    pki_crl_t plain = list();
    bytes_t der = pki_crl_make(pki, &plain, pool);
    bytes_t nothing = {NULL, 0};
    bytes_t cut = {der.data, der.len - 1};
    struct {
        const char *name;
        bytes_t bytes;
        const char *why; /* NULL: good */
    } cases[] = {{"ok/DER", der, NULL},
                 {"ok/PEM with a certificate in it", to_pem(der, nothing), NULL},
                 {"fail/empty", nothing, "empty"},
                 {"fail/text", bytes_of_text("no list"), "no revocation list"},
                 {"fail/cut", cut, "no revocation list"},
                 {"fail/certificate", pki_certificate_der(pki->ca, pool), "no revocation list"},
                 {"fail/forged", {NULL, 0}, "not signed"},
                 {"fail/delta", {NULL, 0}, "delta"},
                 {"fail/for CAs", {NULL, 0}, "users"},
                 {"fail/stranger", {NULL, 0}, "not in the configured chain"},
                 {"fail/relative distribution point", {NULL, 0}, "relative"}};
    unsigned i = 0;

    (void)state;
    forged.issuer_key = pki->other_key;
    delta.delta = true;
    only_cas.only_cas = true;
    stranger.issuer = pki->other;
    stranger.issuer_key = pki->other_key;
    cases[6].bytes = pki_crl_make(pki, &forged, pool);
    cases[7].bytes = pki_crl_make(pki, &delta, pool);
    cases[8].bytes = pki_crl_make(pki, &only_cas, pool);
    relative.relative = true;
    cases[9].bytes = pki_crl_make(pki, &stranger, pool);
    cases[10].bytes = pki_crl_make(pki, &relative, pool);
    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        scep_crls_t *crls = NULL;
        const char *message = NULL;
        apr_status_t status = APR_SUCCESS;

        file_write(cases[i].bytes);
        status = scep_crls_make(&crls, pki->engine, pki->chain, path(), pool, &message);
        print_message("%s: %s\n", cases[i].name, message ? message : "taken");
        assert_int_equal(status == APR_SUCCESS, cases[i].why == NULL);
        assert_true(!cases[i].why || (strstr(message, cases[i].why) && strstr(message, directory)));
        assert_int_equal(ERR_peek_error(), 0);
        unlink(path());
    }
}

/* What an entry may say of itself, without making "not in it" useless. */
static void entries(void **state)
{
    static const struct {
        const char *name;
        int extension;
        bool critical;
        const char *value;
        const char *why; /* NULL: good */
    } CASES[] = {{"ok/reason", NID_crl_reason, false, "\x0a\x01\x01", NULL},
                 {"ok/strange and not critical", NID_netscape_comment, false, "\x05", NULL},
                 {"fail/broken reason", NID_crl_reason, false, "\x0a\x02\x01", "reason that cannot be read"},
                 {"fail/strange and critical", NID_netscape_comment, true, "\x05", "critical extension"},
                 {"fail/another issuer", NID_certificate_issuer, true, "0", "entry of another issuer"},
                 {"fail/another issuer, not critical", NID_certificate_issuer, false, "0", "entry of another issuer"}};
    unsigned i = 0;

    (void)state;
    for (i = 0; i < sizeof(CASES) / sizeof(CASES[0]); i++) {
        pki_crl_t wanted = list();
        scep_crls_t *crls = NULL;
        const char *message = "taken";

        wanted.at_entry = CASES[i].extension;
        wanted.critical = CASES[i].critical;
        wanted.is = CASES[i].value;
        file_write(pki_crl_make(pki, &wanted, pool));
        assert_int_equal(scep_crls_make(&crls, pki->engine, pki->chain, path(), pool, &message) == APR_SUCCESS,
                         CASES[i].why == NULL);
        print_message("%s: %s\n", CASES[i].name, message);
        assert_true(!CASES[i].why || strstr(message, CASES[i].why));
        assert_int_equal(ERR_peek_error(), 0);
        unlink(path());
    }
}

static void verdicts(void **state)
{
    pki_crl_t of_ca = list();
    pki_crl_t root_list = {.issuer = pki->root, .issuer_key = pki->root_key, .from = -10};
    bytes_t nothing = {NULL, 0};
    scep_crls_t *crls = NULL;

    (void)state;
    file_write(to_pem(pki_crl_make(pki, &of_ca, pool), nothing));
    crls = load();
    expect(crls, good, REVOCATION_NONE);
    expect(crls, revoked, REVOCATION_IS);
    expect(crls, of_root, REVOCATION_UNKNOWN);
    assert_null(scep_crls_expired(crls, pool));
    file_write(to_pem(pki_crl_make(pki, &of_ca, pool), pki_crl_make(pki, &root_list, pool)));
    expect(crls, of_root, REVOCATION_NONE);
    unlink(path());
}

static void expired_lists(void **state)
{
    pki_crl_t old = list();
    pki_crl_t for_ever = list();
    scep_crls_t *crls = NULL;

    (void)state;
    old.from = -1000;
    old.until = -100;
    for_ever.for_ever = true;
    file_write(pki_crl_make(pki, &old, pool));
    crls = load();
    assert_non_null(scep_crls_expired(crls, pool));
    expect(crls, good, REVOCATION_UNKNOWN);
    expect(crls, revoked, REVOCATION_UNKNOWN);
    file_write(pki_crl_make(pki, &for_ever, pool));
    expect(crls, good, REVOCATION_NONE);
    clock_shift(apr_time_from_sec(1000000));
    expect(crls, good, REVOCATION_NONE);
    clock_shift(0);
    unlink(path());
}

static X509 *leaf_at(const char *place)
{
    pki_certificate_t wanted = {.subject = "device",
                                .key = pki->device_key,
                                .issuer = pki->ca,
                                .issuer_key = pki->ca_key,
                                .crl_at = place};

    return pki_certificate_make(pki, &wanted);
}

/* A CA with many certificates has many lists, and each certificate names its own. */
static void parts(void **state)
{
    static const char ONE[] = "http://ca.example/crl?part=1";
    static const char TWO[] = "http://ca.example/crl?part=2";
    X509 *at_one = leaf_at(ONE);
    X509 *at_two = leaf_at(TWO);
    X509 *revoked_at_two = leaf_at(TWO);
    pki_crl_t whole = list();
    pki_crl_t one = list();
    pki_crl_t two = list();
    scep_crls_t *crls = NULL;
    const char *why = NULL;

    (void)state;
    one.at = ONE;
    two.at = TWO;
    two.from = -1000;
    two.revoked[0] = revoked_at_two;
    file_write(pki_crl_make(pki, &one, pool));
    crls = load();
    expect(crls, at_one, REVOCATION_NONE);
    expect(crls, at_two, REVOCATION_UNKNOWN);
    expect(crls, good, REVOCATION_UNKNOWN);
    scep_crls_check(crls, at_two, pool, &why);
    assert_non_null(strstr(why, "distribution point"));
    file_write(to_pem(pki_crl_make(pki, &one, pool), pki_crl_make(pki, &two, pool)));
    expect(crls, at_one, REVOCATION_NONE);
    expect(crls, at_two, REVOCATION_NONE);
    expect(crls, revoked_at_two, REVOCATION_IS);
    whole.revoked[1] = at_one;
    file_write(pki_crl_make(pki, &whole, pool));
    expect(crls, at_one, REVOCATION_IS);
    expect(crls, at_two, REVOCATION_NONE);
    unlink(path());
}

/* A CA that changed its key is in the chain twice. Each of its lists is about what the list's own key has signed. */
static void lists_of_two_keys(void **state)
{
    pki_certificate_t renewed = {.subject = "issuing CA",
                                 .key = pki->other_key,
                                 .issuer = pki->root,
                                 .issuer_key = pki->root_key,
                                 .ca = true};
    X509 *second = pki_certificate_make(pki, &renewed);
    X509 *late = leaf(second, pki->other_key);
    pki_crl_t of_first = list();
    pki_crl_t of_second = list();
    bytes_t nothing = {NULL, 0};
    STACK_OF(X509) *chain = pki->chain;
    STACK_OF(X509) *both = sk_X509_dup(chain);
    scep_crls_t *crls = NULL;
    const char *why = NULL;

    (void)state;
    of_first.from = -1000;
    of_second.issuer_key = pki->other_key;
    of_second.revoked[0] = NULL;
    assert_true(both && sk_X509_push(both, second));
    pki->chain = both;
    file_write(to_pem(pki_crl_make(pki, &of_first, pool), pki_crl_make(pki, &of_second, pool)));
    crls = load();
    expect(crls, good, REVOCATION_NONE);
    expect(crls, revoked, REVOCATION_IS);
    expect(crls, late, REVOCATION_NONE);
    file_write(to_pem(pki_crl_make(pki, &of_second, pool), nothing));
    expect(crls, late, REVOCATION_NONE);
    expect(crls, revoked, REVOCATION_UNKNOWN);
    scep_crls_check(crls, revoked, pool, &why);
    assert_non_null(strstr(why, "key"));
    of_second.revoked[0] = late;
    file_write(to_pem(pki_crl_make(pki, &of_second, pool), pki_crl_make(pki, &of_first, pool)));
    expect(crls, late, REVOCATION_IS);
    expect(crls, revoked, REVOCATION_IS);
    pki->chain = chain;
    sk_X509_free(both);
    unlink(path());
}

/* Made in advance, it does not know what was revoked since. */
static void lists_for_later(void **state)
{
    pki_crl_t present = list();
    pki_crl_t later = list();
    bytes_t nothing = {NULL, 0};
    scep_crls_t *crls = NULL;
    const char *why = NULL;

    (void)state;
    present.revoked[1] = good;
    later.from = 1000;
    later.until = 100000;
    file_write(to_pem(pki_crl_make(pki, &later, pool), pki_crl_make(pki, &present, pool)));
    crls = load();
    expect(crls, good, REVOCATION_IS);
    assert_null(scep_crls_expired(crls, pool));
    file_write(to_pem(pki_crl_make(pki, &later, pool), nothing));
    expect(crls, good, REVOCATION_UNKNOWN);
    scep_crls_check(crls, good, pool, &why);
    assert_non_null(strstr(why, "begun"));
    assert_non_null(strstr(scep_crls_expired(crls, pool), "begun"));
    clock_shift(apr_time_from_sec(900));
    expect(crls, good, REVOCATION_NONE);
    clock_shift(0);
    unlink(path());
}

/* Rotated, broken, gone and whole again. */
static void changes(void **state)
{
    pki_crl_t first = list();
    pki_crl_t second = list();
    scep_crls_t *crls = NULL;
    const char *why = NULL;

    (void)state;
    file_write(pki_crl_make(pki, &first, pool));
    crls = load();
    expect(crls, good, REVOCATION_NONE);
    second.revoked[1] = good;
    file_write(pki_crl_make(pki, &second, pool));
    expect(crls, good, REVOCATION_IS);
    file_write(bytes_of_text("half a fi"));
    expect(crls, good, REVOCATION_IS);
    unlink(path());
    expect(crls, good, REVOCATION_IS);
    clock_shift(apr_time_from_sec(100000));
    assert_int_equal(scep_crls_check(crls, good, pool, &why), REVOCATION_UNKNOWN);
    assert_non_null(strstr(why, "refused"));
    clock_shift(0);
    file_write(pki_crl_make(pki, &first, pool));
    expect(crls, good, REVOCATION_NONE);
    unlink(path());
}

/* A new list that cannot be read at this moment is read later. */
static void no_descriptor_is_left(void **state)
{
    pki_crl_t first = list();
    pki_crl_t second = list();
    scep_crls_t *crls = NULL;
    struct rlimit limit = {0};

    (void)state;
    file_write(pki_crl_make(pki, &first, pool));
    crls = load();
    second.revoked[1] = good;
    file_write(pki_crl_make(pki, &second, pool));
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &(struct rlimit){3, limit.rlim_max}), 0);
    expect(crls, good, REVOCATION_NONE);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    expect(crls, good, REVOCATION_IS);
    unlink(path());
}

static void signers_of_messages(void **state)
{
    pki_crl_t plain = list();
    pki_csr_t wanted = {.key = pki->device_key};
    pki_message_t message = pki_request(pki, pki_csr_make(pki, &wanted, pool));
    scep_policy_t policy = pki->policy;
    struct {
        const char *type;
        X509 *signer;
        problem_t problem;
    } cases[] = {
        {"17", good, PROBLEM_NONE},         {"17", revoked, PROBLEM_BAD_SIGNER},  {"17", of_root, PROBLEM_CRL_UNUSABLE},
        {"21", good, PROBLEM_BAD_ENVELOPE}, {"21", revoked, PROBLEM_BAD_SIGNER},  {"22", revoked, PROBLEM_BAD_SIGNER},
        {"19", revoked, PROBLEM_NONE},      {"22", of_root, PROBLEM_CRL_UNUSABLE}};
    unsigned i = 0;

    (void)state;
    file_write(pki_crl_make(pki, &plain, pool));
    policy.crls = load();
    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        scep_request_t *request = NULL;
        result_t *result = result_make(pool);

        message.type = cases[i].type;
        message.signer = cases[i].signer;
        scep_request_open(&request, pki->identity, &policy, pki_message_make(pki, &message, pool), pool, result);
        print_message("%u: %s\n", i, result->detail ? result->detail : "good");
        assert_int_equal(result->problem, cases[i].problem);
    }
    unlink(path());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files),
        cmocka_unit_test(entries),
        cmocka_unit_test(verdicts),
        cmocka_unit_test(expired_lists),
        cmocka_unit_test(parts),
        cmocka_unit_test(lists_of_two_keys),
        cmocka_unit_test(lists_for_later),
        cmocka_unit_test(changes),
        cmocka_unit_test(no_descriptor_is_left),
        cmocka_unit_test(signers_of_messages),
    };
    int failed = 0;

    pki_global_init();
    failed = cmocka_run_group_tests(tests, setup, teardown);
    pki_global_end();
    return failed;
}
