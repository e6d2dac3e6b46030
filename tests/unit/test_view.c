/* SPDX-License-Identifier: Apache-2.0 */
/* Messages in words. The hostile ones are looked at where they are made: pki_look() in the tests of opening. */
#include "pki_fixture.h"

#include "scep/view.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <apr_file_io.h>
#include <apr_strings.h>
#include <cmocka.h>
#include <openssl/err.h>

#define CHALLENGE "the-challenge-of-a-device"

enum { FILE_MAX = 20000 };

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

static scep_view_t *look(bytes_t der, bool with_key)
{
    scep_view_key_t key = {pki->ra, pki->ra_key};
    scep_view_t *view = NULL;
    const char *why = NULL;
    if (scep_view_make(&view, pki->engine, der, with_key ? &key : NULL, pool, &why)) {
        fail_msg("%s", why);
    }
    assert_int_equal(ERR_peek_error(), 0);
    return view;
}

/* All of it as "part.name=value" lines. */
static const char *printed(const scep_view_t *view)
{
    const char *text = "";
    for (int i = 0; i < view->parts->nelts; i++) {
        const scep_part_t *part = APR_ARRAY_IDX(view->parts, i, const scep_part_t *);
        for (int j = 0; j < part->fields->nelts; j++) {
            const scep_field_t *field = &APR_ARRAY_IDX(part->fields, j, scep_field_t);
            text = apr_pstrcat(pool, text, part->name, ".", field->name, "=", field->value, "\n", NULL);
        }
    }
    return text;
}

static void expect(const scep_view_t *view, const char *line)
{
    if (!strstr(printed(view), line)) {
        fail_msg("'%s' lacks '%s'", printed(view), line);
    }
}

static bytes_t request_csr(void)
{
    pki_csr_t wanted = {.key = pki->device_key,
                        .challenges = {{V_ASN1_PRINTABLESTRING, CHALLENGE, sizeof(CHALLENGE) - 1}}};
    return pki_csr_make(pki, &wanted, pool);
}

static void a_request_without_the_key(void **state)
{
    pki_message_t message = pki_request(pki, request_csr());
    scep_view_t *view = look(pki_message_make(pki, &message, pool), false);
    (void)state;
    expect(view, "message.messageType=19 (PKCSReq)\n");
    expect(view, "message.signature=good\n");
    expect(view, "message.digest=sha256\n");
    expect(view, "envelope.cipher=AES-128-CBC\n");
    expect(view, "recipient.key transport=rsaEncryption\n");
    expect(view, "signer.issuer=itself\n");
    assert_null(view->csr);
    assert_null(strstr(printed(view), "certificate request."));
}

static void a_request_with_the_key_but_not_its_challenge(void **state)
{
    pki_message_t message = pki_request(pki, request_csr());
    scep_view_t *view = look(pki_message_make(pki, &message, pool), true);
    (void)state;
    expect(view, "recipient.the given key=is this one's\n");
    expect(view, "certificate request.signature=good\n");
    expect(view, "certificate request.the message's signer=has this key\n");
    assert_non_null(view->csr);
    assert_string_equal(secret_reveal(view->csr->challenge), CHALLENGE);
    assert_null(strstr(printed(view), CHALLENGE));
}

static void oaep_and_ber_are_told(void **state)
{
    pki_message_t message = pki_request(pki, request_csr());
    (void)state;
    message.oaep = true;
    expect(look(pki_message_make(pki, &message, pool), true), "recipient.key transport=rsaesOaep\n");
    message.ber = true;
    expect(look(pki_message_make(pki, &message, pool), true), "BER with indefinite lengths\n");
}

static void what_is_odd_is_told(void **state)
{
    pki_message_t message = pki_request(pki, request_csr());
    (void)state;
    message.without = PKI_TRANSACTION_ID;
    message.twice = PKI_MESSAGE_TYPE;
    scep_view_t *view = look(pki_message_make(pki, &message, pool), false);
    expect(view, "message.transactionID=(missing)\n");
    expect(view, "message.messageType=(there twice");
    message = pki_request(pki, request_csr());
    message.no_certificate = true;
    expect(look(pki_message_make(pki, &message, pool), false), "signer's certificate is not in the message");
    message = pki_request(pki, request_csr());
    message.no_content = true;
    expect(look(pki_message_make(pki, &message, pool), true), "envelope.content=none\n");
    message = pki_request(pki, bytes_of_text("nothing"));
    expect(look(pki_message_make(pki, &message, pool), true), "content.unknown=it is not a PKCS #10");
    message = pki_request(pki, request_csr());
    message.recipient = pki->ca;
    expect(look(pki_message_make(pki, &message, pool), true), "envelope.inside=it is not encrypted to");
    message = pki_request(pki, request_csr());
    message.transaction_id = (bytes_t){(const unsigned char *)"a\0b", 3};
    expect(look(pki_message_make(pki, &message, pool), true), "message.transactionID=(holds a NUL) a\\x00b");
}

static void a_changed_message_has_a_wrong_signature(void **state)
{
    pki_message_t message = pki_request(pki, request_csr());
    bytes_t der = pki_message_make(pki, &message, pool);
    unsigned char *changed = apr_pmemdup(pool, der.data, der.len);
    (void)state;
    changed[der.len - 1] ^= 1;
    expect(look((bytes_t){changed, der.len}, false), "message.signature=WRONG");
}

static void names_within_are_shown(void **state)
{
    pki_message_t message = pki_request(pki, pki_inquiry_make(pki->ra, pool));
    (void)state;
    message.type = "21";
    expect(look(pki_message_make(pki, &message, pool), true), "IssuerAndSerialNumber.serial=");
    message = pki_request(pki, pki_poll_make(X509_get_subject_name(pki->ca), X509_get_subject_name(pki->device), pool));
    message.type = "20";
    expect(look(pki_message_make(pki, &message, pool), true), "IssuerAndSubject.subject=");
}

static void a_certrep_shows_its_certificates(void **state)
{
    scep_relay_t relay = {.transaction_id = "t", .sender_nonce = bytes_of_text("0123456789abcdef")};
    pki_message_t message = pki_answer(pki, &relay, pki_degenerate_make(pki, pki->device, NULL, NULL, pool));
    pki_crl_t wanted = {.issuer = pki->ca, .issuer_key = pki->ca_key};
    (void)state;
    scep_view_t *view = look(pki_message_make(pki, &message, pool), true);
    expect(view, "message.pkiStatus=0 (SUCCESS)\n");
    expect(view, "message.messageType=3 (CertRep)\n");
    expect(view, "certificate.subject=CN=device");
    message = pki_answer(
        pki, &relay, pki_crl_degenerate_make(pki, pki_crl_make(pki, &wanted, pool), (bytes_t){NULL, 0}, NULL, pool));
    expect(look(pki_message_make(pki, &message, pool), true), "revocation list.revoked=0\n");
    message = pki_answer(pki, &relay, bytes_of_text(""));
    message.status = "2";
    message.fail_info = "4";
    message.no_content = true;
    expect(look(pki_message_make(pki, &message, pool), true), "message.failInfo=4 (badCertId)\n");
}

static void what_surrounds_scep_is_shown(void **state)
{
    bytes_t rubbish = bytes_of_text("<html>");
    scep_view_t *view = NULL;
    const char *why = NULL;
    (void)state;
    expect(look(pki_degenerate_make(pki, pki->ra, pki->ca, NULL, pool), false), "certificates.kind=");
    expect(look(pki_certificate_der(pki->ra, pool), false), "certificate.key=RSA, 2048 bits\n");
    expect(look(request_csr(), false), "certificate request.key=RSA, 2048 bits\n");
    assert_int_not_equal(scep_view_make(&view, pki->engine, rubbish, NULL, pool, &why), APR_SUCCESS);
    assert_non_null(strstr(why, "not one whole CMS message"));
    pki_look(pki, (bytes_t){NULL, 0});
}

static void real_clients_messages(void **state)
{
    static const char *const NAMES[] = {"certmonger-pkcsreq", "certmonger-rekey",   "certmonger-resubmit",
                                        "scepclient-pkcsreq", "strongswan-pkcsreq", "strongswan-renewalreq"};
    const char *source = getenv("ISCEP_SOURCE");
    (void)state;
    for (unsigned i = 0; i < sizeof(NAMES) / sizeof(NAMES[0]); i++) {
        const char *path = apr_psprintf(pool, "%s/tests/fixtures/%s.der", source ? source : ".", NAMES[i]);
        unsigned char *data = apr_palloc(pool, FILE_MAX);
        bytes_t der = {data, 0};
        apr_file_t *file = NULL;
        assert_int_equal(apr_file_open(&file, path, APR_FOPEN_READ | APR_FOPEN_BINARY, APR_FPROT_OS_DEFAULT, pool), 0);
        assert_int_equal(apr_file_read_full(file, data, FILE_MAX, &der.len), APR_EOF);
        apr_file_close(file);
        scep_view_t *view = look(der, true);
        expect(view, "message.signature=good\n");
        expect(view, "recipient.the given key=is another's\n");
        pki_look(pki, der);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_without_the_key),
        cmocka_unit_test(a_request_with_the_key_but_not_its_challenge),
        cmocka_unit_test(oaep_and_ber_are_told),
        cmocka_unit_test(what_is_odd_is_told),
        cmocka_unit_test(a_changed_message_has_a_wrong_signature),
        cmocka_unit_test(names_within_are_shown),
        cmocka_unit_test(a_certrep_shows_its_certificates),
        cmocka_unit_test(what_surrounds_scep_is_shown),
        cmocka_unit_test(real_clients_messages),
    };
    int failed = 0;

    pki_global_init();
    failed = cmocka_run_group_tests(tests, setup, teardown);
    pki_global_end();
    return failed;
}
