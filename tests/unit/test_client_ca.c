/* SPDX-License-Identifier: Apache-2.0 */
/* What GetCACert gives, sorted. */
#include "pki_fixture.h"

#include "scep/client.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <openssl/err.h>

static apr_pool_t *pool;
static pki_t *pki;

static int setup(void **state)
{
    (void)state;
    apr_pool_create(&pool, NULL);
    pki = pki_make(pool);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    apr_pool_destroy(pool);
    return 0;
}

static scep_ca_t *read_good(bytes_t body)
{
    scep_ca_t *ca = NULL;
    const char *why = NULL;
    if (scep_ca_read(&ca, pki->engine, body, pool, &why)) {
        fail_msg("%s", why);
    }
    assert_int_equal(ERR_peek_error(), 0);
    return ca;
}

static void expect_refused(bytes_t body, const char *words)
{
    scep_ca_t *ca = NULL;
    const char *why = NULL;
    assert_int_not_equal(scep_ca_read(&ca, pki->engine, body, pool, &why), APR_SUCCESS);
    assert_null(ca);
    assert_non_null(strstr(why, words));
    assert_int_equal(ERR_peek_error(), 0);
}

static void expect_chain(const scep_ca_t *ca, X509 *first, X509 *second)
{
    assert_int_equal(sk_X509_num(ca->chain), second ? 2 : 1);
    assert_int_equal(X509_cmp(sk_X509_value(ca->chain, 0), first), 0);
    if (second) {
        assert_int_equal(X509_cmp(sk_X509_value(ca->chain, 1), second), 0);
    }
}

static void one_certificate_is_the_ca(void **state)
{
    scep_ca_t *ca = read_good(pki_certificate_der(pki->ca, pool));
    (void)state;
    expect_chain(ca, pki->ca, NULL);
    assert_int_equal(sk_X509_num(ca->ras), 0);
}

static void the_order_does_not_matter(void **state)
{
    X509 *const all[3] = {pki->ra, pki->ca, pki->root};
    static const int ORDERS[][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    (void)state;
    for (unsigned i = 0; i < 6; i++) {
        const int *order = ORDERS[i];
        scep_ca_t *ca = read_good(pki_degenerate_make(pki, all[order[0]], all[order[1]], all[order[2]], pool));
        expect_chain(ca, pki->ca, pki->root);
        assert_int_equal(sk_X509_num(ca->ras), 1);
        assert_int_equal(X509_cmp(sk_X509_value(ca->ras, 0), pki->ra), 0);
        assert_int_equal(sk_X509_num(ca->certificates), 3);
    }
}

static void the_ra_tells_the_issuing_ca(void **state)
{
    pki_certificate_t other = {.subject = "another CA", .key = pki->other_key, .ca = true, .usage = "keyCertSign"};
    X509 *stranger = pki_certificate_make(pki, &other);
    (void)state;
    expect_chain(read_good(pki_degenerate_make(pki, stranger, pki->ca, pki->ra, pool)), pki->ca, NULL);
    expect_chain(read_good(pki_degenerate_make(pki, pki->root, pki->ca, NULL, pool)), pki->ca, pki->root);
}

static void a_ca_that_does_not_say_so_is_taken(void **state)
{
    scep_ca_t *ca = read_good(pki_certificate_der(pki->device, pool));
    (void)state;
    expect_chain(ca, pki->device, NULL);
    assert_int_equal(sk_X509_num(ca->ras), 0);
}

static void rubbish_is_refused(void **state)
{
    bytes_t der = pki_certificate_der(pki->ca, pool);
    bytes_t cut = {der.data, der.len - 1};
    unsigned char *longer = apr_palloc(pool, der.len + 1);
    (void)state;
    memcpy(longer, der.data, der.len);
    longer[der.len] = 0;
    expect_refused((bytes_t){NULL, 0}, "neither");
    expect_refused(bytes_of_text("<html>"), "neither");
    expect_refused(cut, "neither");
    expect_refused((bytes_t){longer, der.len + 1}, "neither");
    expect_refused(pki_degenerate_make(pki, NULL, NULL, NULL, pool), "no certificate");
    pki_certificate_t swelling = {
        .subject = "swelling", .key = pki->ca_key, .issuer = pki->ca, .issuer_key = pki->ca_key, .relative_points = 5000};
    X509 *swollen = pki_certificate_make(pki, &swelling);
    expect_refused(pki_certificate_der(swollen, pool), "too much memory");
    expect_refused(pki_degenerate_make(pki, swollen, pki->ca, NULL, pool), "too much memory");
}

/* Two CAs that have signed each other are no circle. */
static void a_circle_ends(void **state)
{
    pki_certificate_t a = {.subject = "A", .key = pki->ca_key, .ca = true, .usage = "keyCertSign"};
    pki_certificate_t b = {.subject = "B", .key = pki->other_key, .ca = true, .usage = "keyCertSign"};
    (void)state;
    a.issuer = pki_certificate_make(pki, &b);
    a.issuer_key = pki->other_key;
    X509 *cross = pki_certificate_make(pki, &a);
    b.issuer = cross;
    b.issuer_key = pki->ca_key;
    scep_ca_t *ca = read_good(pki_degenerate_make(pki, cross, pki_certificate_make(pki, &b), NULL, pool));
    assert_true(sk_X509_num(ca->chain) >= 1 && sk_X509_num(ca->chain) <= 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_certificate_is_the_ca),   cmocka_unit_test(the_order_does_not_matter),
        cmocka_unit_test(the_ra_tells_the_issuing_ca), cmocka_unit_test(a_ca_that_does_not_say_so_is_taken),
        cmocka_unit_test(rubbish_is_refused),          cmocka_unit_test(a_circle_ends),
    };
    int failed = 0;

    pki_global_init();
    failed = cmocka_run_group_tests(tests, setup, teardown);
    pki_global_end();
    return failed;
}
