/* SPDX-License-Identifier: Apache-2.0 */
/* Lines at trace level: what they show, and above all what they do not. */
#include "intune_bed.h"

#include <apr_general.h>
#include <apr_strings.h>

#include <string.h>

static int traced_up(void **state)
{
    int rv = bed_up(state);
    if (rv == 0) {
        bed_t *bed = *state;
        bed->tracing = true;
    }
    return rv;
}

/** The last line with that text, or a failed test. */
static const char *line_with(const bed_t *bed, const char *id, const char *text)
{
    for (int i = bed->line_count - 1; i >= 0; i--) {
        if (strstr(bed->lines[i], id) != NULL && strstr(bed->lines[i], text) != NULL) {
            return bed->lines[i];
        }
    }
    fail_msg("no line %s with %s", id, text);
    return NULL;
}

static void assert_in_line(const char *line, const char *text)
{
    if (strstr(line, text) == NULL) {
        fail_msg("'%s' is not in: %s", text, line);
    }
}

static void assert_nowhere(const bed_t *bed, const char *secret)
{
    for (int i = 0; i < bed->line_count; i++) {
        if (strstr(bed->lines[i], secret) != NULL) {
            fail_msg("'%s' is in: %s", secret, bed->lines[i]);
        }
    }
}

static void nothing_without_the_level(void **state)
{
    bed_t *bed = *state;
    bed->tracing = false;
    assert_int_equal(bed_validate(bed), APR_SUCCESS);
    assert_int_equal(bed_logged(bed, "ISCEP0330"), 0);
    assert_int_equal(bed_logged(bed, "ISCEP0331"), 0);
}

static void token_request_hides_the_key(void **state)
{
    bed_t *bed = *state;
    assert_int_equal(bed_validate(bed), APR_SUCCESS);
    const char *line = line_with(bed, "ISCEP0330", "api.manage");
    assert_in_line(line, "Entra token: POST http://127.0.0.1:");
    assert_in_line(line, BED_TOKEN_PATH ", 137 bytes; User-Agent: Test 1.0; client-request-id: ");
    assert_in_line(line, "; Content-Type: application/x-www-form-urlencoded; body grant_type=client_credentials&"
                         "client_id=app-1&client_secret=***&scope=https%3a%2f%2fapi.manage.microsoft.com");
    line = line_with(bed, "ISCEP0331", "Entra token");
    assert_in_line(line, "Entra token: HTTP 200, ");
    assert_in_line(line, "body {token_type:Bearer,access_token:*** (");
    assert_in_line(line, " bytes),expires_in:3599}");
    assert_nowhere(bed, "s%2be");
    assert_nowhere(bed, "graph-token");
    assert_nowhere(bed, "intune-token");
}

static void validation_hides_token_and_csr(void **state)
{
    bed_t *bed = *state;
    assert_int_equal(bed_validate(bed), APR_SUCCESS);
    const char *line = line_with(bed, "ISCEP0330", "Intune validateRequest");
    assert_in_line(line, "POST http://127.0.0.1:");
    assert_in_line(line, BED_VALIDATE_PATH ", ");
    assert_in_line(line, "; Authorization: ***; client-request-id: ");
    assert_in_line(line, "; api-version: 2018-02-20; body {request:{transactionId:tx/1,"
                         "certificateRequest:*** (8 bytes),callerInfo:Test 1.0}}");
    assert_in_line(line_with(bed, "ISCEP0331", "Intune validateRequest"), "body {code:Success}");
    assert_nowhere(bed, "Q1NS");
    line = line_with(bed, "ISCEP0330", "Graph endpoints");
    assert_in_line(line, "Graph endpoints: GET http://127.0.0.1:");
    assert_in_line(line, ", 0 bytes; ");
    assert_null(strstr(line, "body"));
    assert_in_line(line_with(bed, "ISCEP0331", "Graph endpoints"),
                   "{value:[***,{providerName:PkiConnectorFEService,uri:https://other.invalid/},");
}

static void report_shows_its_facts(void **state)
{
    bed_t *bed = *state;
    const intune_certificate_t certificate = {"0A0B", "17", "2030-01-01T00:00:00.000Z", "CN=CA"};
    bed_call(bed);
    assert_int_equal(intune_report_success(bed->intune, &bed->call, "tx/1", bed_csr(), &certificate), APR_SUCCESS);
    const char *line = line_with(bed, "ISCEP0330", "successNotification");
    assert_in_line(line, "certificateRequest:*** (8 bytes)");
    assert_in_line(line, "certificateThumbprint:0A0B");
    assert_in_line(line, "issuingCertificateAuthority:CN=CA");
    assert_nowhere(bed, "Q1NS");
}

static void unknown_members_and_other_texts_are_hidden(void **state)
{
    static const char *const bodies[] = {
        "{\"code\":\"Success\",\"echo\":\"intune-token\",\"deep\":[{\"x\":[\"intune-token\"]}],\"n\":424242}",
        "<html>intune-token</html>", "\"intune-token\"", "{\"code\":\"intune-token", "intune-token=1&x", ""};
    bed_t *bed = *state;
    assert_int_equal(bed_validate(bed), APR_SUCCESS);
    for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
        fixture_on(bed->server, "/svc/", NULL, 1, (fixture_reply_t){200, NULL, bodies[i], 0, 0, false});
        bed_validate(bed);
    }
    assert_nowhere(bed, "intune-token");
    assert_nowhere(bed, "424242");
    assert_int_equal(bed_logged(bed, "body {code:Success,echo:*** (12 bytes),deep:[{x:[*** (12 bytes)]}],n:***}"), 1);
    assert_int_equal(bed_logged(bed, "body *** (25 bytes)"), 1);
}

static void headers_of_answers_are_chosen(void **state)
{
    bed_t *bed = *state;
    const char *headers = "Set-Cookie: session=intune-token\r\nRequest-Id: 4711\r\nX-Long: y\r\nRetry-After: 3\r\n";
    assert_int_equal(bed_validate(bed), APR_SUCCESS);
    fixture_on(bed->server, "/svc/", NULL, 1, (fixture_reply_t){200, headers, "{\"code\":\"Unknown\"}", 0, 0, false});
    assert_int_not_equal(bed_validate(bed), APR_SUCCESS);
    const char *line = line_with(bed, "ISCEP0331", "code:Unknown");
    assert_in_line(line, "; Set-Cookie: ***; Request-Id: 4711; X-Long: ***; Retry-After: 3");
}

static void long_and_wild_answers_make_one_line(void **state)
{
    bed_t *bed = *state;
    char *body = apr_palloc(bed->pool, 60000);
    apr_size_t len = 0;
    assert_int_equal(bed_validate(bed), APR_SUCCESS);
    body[len++] = '{';
    for (int i = 0; i < 4000; i++) {
        len += (apr_size_t)apr_snprintf(body + len, 40, "\"m%d\":[1,{}],", i);
    }
    apr_snprintf(body + len, 60, "\"code\":\"a\\n\\u001bISCEP0400: [x]\"}");
    fixture_on(bed->server, "/svc/", NULL, 1, (fixture_reply_t){200, NULL, body, 0, 0, false});
    bed_validate(bed);
    const char *line = line_with(bed, "ISCEP0331", "m1:[***,{}]");
    assert_true(strlen(line) <= 4000);
    fixture_on(bed->server, "/svc/", NULL, 1,
               (fixture_reply_t){200, NULL, "{\"code\":\"a\\n\\u001b[x]\",\"a\\nb\":null}", 0, 0, false});
    bed_validate(bed);
    line_with(bed, "ISCEP0331", "body {code:a\\x0a\\x1b[x],a\\x0ab:null}");
}

static void failure_tells_what_helps(void **state)
{
    bed_t *bed = *state;
    intune_settings_t settings = bed->settings;
    settings.http.proxy = apr_psprintf(bed->pool, "http://127.0.0.1:%d", fixture_closed_port());
    bed_attach(bed, &settings);
    assert_int_not_equal(bed_validate(bed), APR_SUCCESS);
    assert_int_equal(bed->result->problem, PROBLEM_TOKEN_UNAVAILABLE);
    assert_non_null(strstr(bed->result->detail, "proxy failed (Failed to connect"));
    assert_non_null(strstr(bed->result->detail, "; see IntuneScepHTTPProxy"));
    assert_in_line(line_with(bed, "ISCEP0331", "Entra token"), "Entra token: proxy failed (Failed to connect");
}

#define TRACE_TEST(function) cmocka_unit_test_setup_teardown(function, traced_up, bed_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TRACE_TEST(nothing_without_the_level),
        TRACE_TEST(token_request_hides_the_key),
        TRACE_TEST(validation_hides_token_and_csr),
        TRACE_TEST(report_shows_its_facts),
        TRACE_TEST(unknown_members_and_other_texts_are_hidden),
        TRACE_TEST(headers_of_answers_are_chosen),
        TRACE_TEST(long_and_wild_answers_make_one_line),
        TRACE_TEST(failure_tells_what_helps),
    };
    return bed_start() != 0 || cmocka_run_group_tests(tests, NULL, NULL);
}
