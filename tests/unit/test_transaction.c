/* SPDX-License-Identifier: Apache-2.0 */
/* gateway/: a device's message through Intune to the CA and back, with every answer on the way. */
#include "base/clock.h"

#include "gateway_fixture.h"

#include <apr_strings.h>
#include <openssl/objects.h>
#include <string.h>

static void issued_and_reported(void **state)
{
    gate_t run = gate_begin(state);
    gate_enrolled(&run);
    assert_int_equal(gate_reports(&run), 0);
    transaction_issued(run.t, 200, gate_certrep(&run, gate_leaf(gate_pki->device_key)), true);
    pki_certrep_t *reply = gate_reply(&run);
    assert_string_equal(reply->status, "0");
    assert_string_equal(reply->transaction_id, run.t->request->transaction_id);
    assert_true(bytes_equal(reply->recipient_nonce, run.t->request->sender_nonce));
    assert_int_equal(sk_X509_num(reply->certificates), 1);
    assert_int_equal(fixture_count(run.bed->server, GATE_SUCCESS_PATH, run.t->answer->facts.thumbprint), 1);
    assert_int_equal(gate_reports(&run), 1);
    assert_int_equal(bed_logged(run.bed, "ISCEP0400"), 1);
}

static void refused_by_intune(void **state)
{
    gate_t run = gate_begin(state);
    fixture_on(run.bed->server, BED_VALIDATE_PATH, NULL, -1,
               (fixture_reply_t){200, NULL, "{\"code\":\"ChallengeExpired\",\"errorDescription\":\"too late\"}", 0, 0, false});
    assert_int_not_equal(gate_enroll(&run, gate_message(&run, GATE_CHALLENGE)), APR_SUCCESS);
    assert_null(run.t->relay);
    pki_certrep_t *reply = gate_reply(&run);
    assert_string_equal(reply->status, "2");
    assert_string_equal(reply->fail_info, "2");
    assert_null(strstr(reply->text, "Expired"));
    assert_non_null(strstr(reply->text, run.t->reference));
    assert_int_equal(gate_reports(&run), 0);
    assert_int_equal(bed_logged(run.bed, "ChallengeExpired"), 2); /* the call at info, the outcome */
}

/* A device that repeats what Intune refused is answered from memory, for a minute, and only for this CSR and transaction. */
static void refused_again(void **state)
{
    gate_t run = gate_begin(state);
    bytes_t message = gate_message(&run, GATE_CHALLENGE);
    fixture_on(run.bed->server, BED_VALIDATE_PATH, NULL, -1,
               (fixture_reply_t){200, NULL, "{\"code\":\"ChallengeExpired\",\"errorDescription\":\"too late\"}", 0, 0, false});
    gate_enroll(&run, message);
    const char *first = run.t->result->request_id;
    for (int i = 0; i < 2; i++) {
        assert_int_not_equal(gate_enroll(&run, message), APR_SUCCESS);
        assert_null(run.t->relay);
        assert_false(run.t->validated);
        assert_int_equal(run.t->result->problem, PROBLEM_INTUNE_REFUSED);
        assert_string_equal(run.t->result->code, "ChallengeExpired");
        assert_string_equal(run.t->result->request_id, first);
        assert_string_equal(gate_reply(&run)->fail_info, "2");
    }
    assert_int_equal(fixture_count(run.bed->server, BED_VALIDATE_PATH, NULL), 1);
    assert_int_equal(bed_logged(run.bed, "answered from memory, first refused at "), 2);

    gate_enroll(&run, gate_message(&run, "MA8GCSqGSIb3DQEHAqACBQE=")); /* another challenge, so another CSR */
    assert_int_equal(fixture_count(run.bed->server, BED_VALIDATE_PATH, NULL), 2);
    run.profile.name = "another location";
    gate_enroll(&run, message);
    assert_int_equal(fixture_count(run.bed->server, BED_VALIDATE_PATH, NULL), 3);

    run.profile.name = "test";
    fixture_on(run.bed->server, BED_VALIDATE_PATH, NULL, -1, (fixture_reply_t){200, NULL, "{\"code\":\"Success\"}", 0, 0, false});
    assert_int_not_equal(gate_enroll(&run, message), APR_SUCCESS);
    clock_shift(apr_time_from_sec(61));
    assert_int_equal(gate_enroll(&run, message), APR_SUCCESS);
}

/* What was no definite refusal is asked anew. */
static void not_refused_again(void **state)
{
    static const char *const BODIES[] = {"{\"code\":\"Unknown\"}", "{}", "{\"code\":\"Success\"}"};
    gate_t run = gate_begin(state);
    bytes_t message = gate_message(&run, GATE_CHALLENGE);
    for (size_t i = 0; i < sizeof(BODIES) / sizeof(BODIES[0]); i++) {
        fixture_forget(run.bed->server);
        fixture_on(run.bed->server, BED_VALIDATE_PATH, NULL, -1, (fixture_reply_t){200, NULL, BODIES[i], 0, 0, false});
        gate_enroll(&run, message);
        gate_enroll(&run, message);
        assert_int_equal(fixture_count(run.bed->server, BED_VALIDATE_PATH, NULL), 2);
    }
}

static void intune_out_of_order(void **state)
{
    gate_t run = gate_begin(state);
    fixture_on(run.bed->server, BED_VALIDATE_PATH, NULL, -1, (fixture_reply_t){429, "Retry-After: 77\r\n", "{}", 0, 0, false});
    assert_int_not_equal(gate_enroll(&run, gate_message(&run, GATE_CHALLENGE)), APR_SUCCESS);
    assert_int_equal(run.t->reply.http_status, 503);
    assert_int_equal(run.t->reply.retry_after, 77);
    assert_null(run.t->relay);
}

static void no_challenge(void **state)
{
    static const char *const CHALLENGES[] = {NULL, "", "password"};
    for (size_t i = 0; i < sizeof(CHALLENGES) / sizeof(CHALLENGES[0]); i++) {
        gate_t run = gate_begin(state);
        assert_int_not_equal(gate_enroll(&run, gate_message(&run, CHALLENGES[i])), APR_SUCCESS);
        assert_int_equal(run.t->result->problem, PROBLEM_NO_CHALLENGE);
        assert_string_equal(gate_reply(&run)->fail_info, "2");
        assert_int_equal(fixture_count(run.bed->server, "/", NULL), 0);
    }
}

static void not_scep(void **state)
{
    gate_t run = gate_begin(state);
    assert_int_not_equal(gate_enroll(&run, bytes_of_text("hello")), APR_SUCCESS);
    assert_int_equal(run.t->reply.http_status, 400);
    assert_int_equal(run.t->reply.retry_after, 0);
}

/* What the CA may answer, what the device then gets, and which HRESULT Intune. */
static void bad_answers(void **state)
{
    static const struct {
        const char *name;
        int http_status;
        bool complete;
        problem_t problem;
        int reply;
        const char *hresult;
    } CASES[] = {{"fail/500", 500, true, PROBLEM_CA_ERROR, 503, "-2147012744"},
                 {"fail/408", 408, true, PROBLEM_CA_ERROR, 503, "-2147012744"},
                 {"fail/429", 429, true, PROBLEM_CA_ERROR, 503, "-2147012744"},
                 {"fail/truncated", 200, false, PROBLEM_CA_TRUNCATED, 503, "-2147012866"},
                 {"fail/404", 404, true, PROBLEM_CA_GARBAGE, 502, "-2147024883"},
                 {"fail/html", 200, true, PROBLEM_CA_GARBAGE, 502, "-2147024883"}};
    for (size_t i = 0; i < sizeof(CASES) / sizeof(CASES[0]); i++) {
        gate_t run = gate_begin(state);
        fixture_forget(run.bed->server);
        gate_enrolled(&run);
        transaction_issued(run.t, CASES[i].http_status, bytes_of_text("<html>"), CASES[i].complete);
        if (run.t->result->problem != CASES[i].problem || run.t->reply.http_status != CASES[i].reply ||
            fixture_count(run.bed->server, GATE_FAILURE_PATH, CASES[i].hresult) != 1 || gate_reports(&run) != 1) {
            fail_msg("%s: problem %d, reply %d", CASES[i].name, run.t->result->problem, run.t->reply.http_status);
        }
    }
}

static void wrong_key(void **state)
{
    gate_t run = gate_begin(state);
    gate_enrolled(&run);
    transaction_issued(run.t, 200, gate_certrep(&run, gate_leaf(gate_pki->other_key)), true);
    assert_int_equal(run.t->result->problem, PROBLEM_CA_WRONG_KEY);
    assert_int_equal(run.t->reply.http_status, 502);
    assert_int_equal(fixture_count(run.bed->server, GATE_FAILURE_PATH, "-2146893818"), 1);
    assert_int_equal(fixture_count(run.bed->server, GATE_SUCCESS_PATH, NULL), 0);
}

static void ca_refuses(void **state)
{
    gate_t run = gate_begin(state);
    gate_enrolled(&run);
    pki_message_t answer = pki_answer(gate_pki, run.t->relay, bytes_of_text(""));
    answer.status = "2";
    answer.fail_info = "4";
    answer.no_content = true;
    transaction_issued(run.t, 200, pki_message_make(gate_pki, &answer, run.bed->pool), true);
    assert_string_equal(gate_reply(&run)->fail_info, "4");
    assert_int_equal(fixture_count(run.bed->server, GATE_FAILURE_PATH, "-2146877420"), 1);
}

static void ca_is_silent(void **state)
{
    gate_t run = gate_begin(state);
    gate_enrolled(&run);
    transaction_failed(run.t, PROBLEM_CA_TIMEOUT, "nothing came");
    assert_true(run.t->settled);
    assert_int_equal(run.t->reply.http_status, 503);
    assert_true(run.t->reply.retry_after > 0);
    assert_int_equal(fixture_count(run.bed->server, GATE_FAILURE_PATH, "-2147012894"), 1);
}

static void report_refused(void **state)
{
    gate_t run = gate_begin(state);
    fixture_on(run.bed->server, GATE_SUCCESS_PATH, NULL, -1, (fixture_reply_t){400, NULL, "{}", 0, 0, false});
    gate_enrolled(&run);
    transaction_issued(run.t, 200, gate_certrep(&run, gate_leaf(gate_pki->device_key)), true);
    assert_string_equal(gate_reply(&run)->status, "2");
    assert_int_equal(bed_logged(run.bed, run.t->answer->facts.serial), 1);
    assert_int_equal(fixture_count(run.bed->server, GATE_FAILURE_PATH, NULL), 0);
}

static void report_unavailable(void **state)
{
    gate_t run = gate_begin(state);
    fixture_on(run.bed->server, GATE_SUCCESS_PATH, NULL, -1, (fixture_reply_t){500, NULL, "{}", 0, 0, false});
    gate_enrolled(&run);
    transaction_issued(run.t, 200, gate_certrep(&run, gate_leaf(gate_pki->device_key)), true);
    assert_int_equal(run.t->reply.http_status, 503);
    assert_false(run.t->reported);

    gate_t after = gate_begin(state);
    after.profile.notify = NOTIFY_AFTER;
    gate_enrolled(&after);
    transaction_issued(after.t, 200, gate_certrep(&after, gate_leaf(gate_pki->device_key)), true);
    assert_string_equal(gate_reply(&after)->status, "0");
    assert_int_equal(bed_logged(after.bed, "ISCEP0402"), 1);
}

static void failure_not_reported(void **state)
{
    gate_t run = gate_begin(state);
    fixture_on(run.bed->server, GATE_FAILURE_PATH, NULL, -1, (fixture_reply_t){500, NULL, "{}", 0, 0, false});
    gate_enrolled(&run);
    transaction_failed(run.t, PROBLEM_CA_UNREACHABLE, "refused");
    assert_int_equal(run.t->reply.http_status, 503);
    assert_int_equal(bed_logged(run.bed, "ISCEP0401"), 1);
}

/* A holder of a certificate asks for it: neither asked nor told is Intune, whatever the CA answers. */
static void inquiries(void **state)
{
    X509 *own = gate_leaf(gate_pki->device_key);
    for (int refused = 0; refused < 2; refused++) {
        gate_t run = gate_begin(state);
        pki_message_t message = pki_request(gate_pki, pki_inquiry_make(own, run.bed->pool));
        message.type = "21";
        message.signer = own;
        assert_int_equal(gate_enroll(&run, pki_message_make(gate_pki, &message, run.bed->pool)), APR_SUCCESS);
        assert_false(run.t->validated);
        pki_message_t answer = pki_answer(gate_pki, run.t->relay, pki_degenerate_make(gate_pki, own, NULL, NULL, run.bed->pool));
        if (refused) {
            answer.status = "2";
            answer.fail_info = "4";
            answer.no_content = true;
        }
        transaction_issued(run.t, 200, pki_message_make(gate_pki, &answer, run.bed->pool), true);
        assert_int_equal(run.t->reply.http_status, 200);
        pki_certrep_t *reply = pki_certrep_open(gate_pki, run.t->reply.body, own, gate_pki->device_key, run.bed->pool);
        assert_string_equal(reply->status, refused ? "2" : "0");
        assert_int_equal(refused ? 0 : sk_X509_num(reply->certificates), refused ? 0 : 1);
        assert_int_equal(fixture_count(run.bed->server, "/", NULL), 0);
    }
    gate_t run = gate_begin(state);
    pki_message_t message = pki_request(gate_pki, pki_inquiry_make(own, run.bed->pool));
    message.type = "22";
    message.signer = own;
    assert_int_equal(gate_enroll(&run, pki_message_make(gate_pki, &message, run.bed->pool)), APR_SUCCESS);
    transaction_failed(run.t, PROBLEM_CA_UNREACHABLE, "refused");
    assert_int_equal(run.t->reply.http_status, 503);
    assert_int_equal(fixture_count(run.bed->server, "/", NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        GATE_TEST(issued_and_reported),
        GATE_TEST(refused_by_intune),
        GATE_TEST(intune_out_of_order),
        GATE_TEST(refused_again),
        GATE_TEST(not_refused_again),
        GATE_TEST(no_challenge),
        GATE_TEST(not_scep),
        GATE_TEST(bad_answers),
        GATE_TEST(wrong_key),
        GATE_TEST(ca_refuses),
        GATE_TEST(ca_is_silent),
        GATE_TEST(report_refused),
        GATE_TEST(report_unavailable),
        GATE_TEST(failure_not_reported),
        GATE_TEST(inquiries),
    };
    if (gate_start()) {
        return 1;
    }
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    gate_end();
    return failed;
}
