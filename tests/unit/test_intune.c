/* SPDX-License-Identifier: Apache-2.0 */
/* The Intune client against a scripted server: validations and reports. */
#include "intune_bed.h"

#include "base/clock.h"

#include <apr_general.h>
#include <apr_strings.h>

#include <stdlib.h>

/* validateRequest */

static void ok_first_call_on_the_wire(void **state)
{
    bed_t *bed = *state;
    assert_int_equal(bed_validate(bed), APR_SUCCESS);
    assert_int_equal(fixture_count(bed->server, "/", NULL), 4);

    const fixture_seen_t *token = fixture_last(bed->server, BED_TOKEN_PATH, BED_INTUNE_SCOPE);
    assert_non_null(token);
    assert_string_equal(token->method, "POST");
    assert_string_equal(fixture_header(token, "Content-Type", bed->pool), "application/x-www-form-urlencoded");
    /* the doubled slash is no slip */
    assert_string_equal(token->body, "grant_type=client_credentials&client_id=app-1&client_secret=s%2be%26c%3dr%25et"
                                     "&scope=https%3a%2f%2fapi.manage.microsoft.com%2f%2f.default");
    const fixture_seen_t *other = fixture_last(bed->server, BED_TOKEN_PATH, BED_GRAPH_SCOPE);
    assert_non_null(other);
    assert_string_equal(strstr(other->body, "%2f.default"), "%2f.default");

    const fixture_seen_t *graph = fixture_last(bed->server, BED_GRAPH_PATH, NULL);
    assert_non_null(graph);
    assert_string_equal(graph->method, "GET");
    assert_string_equal(fixture_header(graph, "Authorization", bed->pool), "Bearer graph-token");

    const fixture_seen_t *seen = fixture_last(bed->server, BED_VALIDATE_PATH, NULL);
    assert_non_null(seen);
    assert_string_equal(seen->path, BED_VALIDATE_PATH);
    assert_string_equal(fixture_header(seen, "Authorization", bed->pool), "Bearer intune-token");
    assert_string_equal(fixture_header(seen, "Content-Type", bed->pool), "application/json");
    assert_string_equal(fixture_header(seen, "Accept-Encoding", bed->pool), "identity");
    assert_string_equal(fixture_header(seen, "api-version", bed->pool), "2018-02-20");
    assert_string_equal(fixture_header(seen, "User-Agent", bed->pool), "Test 1.0");
    assert_string_equal(fixture_header(seen, "client-request-id", bed->pool), bed->result->request_id);
    assert_string_equal(bed->call.request_id, bed->result->request_id);
    assert_int_equal(strlen(bed->result->request_id), 36);
    assert_string_equal(seen->body, "{\"request\":{\"transactionId\":\"tx/1\",\"certificateRequest\":\"Q1NSAP8=\","
                                    "\"callerInfo\":\"Test 1.0\"}}");
    assert_true(bed->call.duration > 0);
}

static void ok_second_call_uses_the_cache_and_a_new_request_id(void **state)
{
    bed_t *bed = *state;
    assert_int_equal(bed_validate(bed), APR_SUCCESS);
    const char *first = bed->result->request_id;
    fixture_forget(bed->server);
    assert_int_equal(bed_validate(bed), APR_SUCCESS);
    assert_int_equal(fixture_count(bed->server, "/", NULL), 1);
    assert_string_not_equal(first, bed->result->request_id);
}

static void ok_logs_tell_each_call_and_no_secret(void **state)
{
    bed_t *bed = *state;
    assert_int_equal(bed_validate(bed), APR_SUCCESS);
    assert_int_equal(bed_logged(bed, "ISCEP0302"), 4);
    assert_int_equal(bed_logged(bed, "ISCEP0300"), 2);
    assert_int_equal(bed_logged(bed, "ISCEP0301"), 1);
    assert_int_equal(bed_logged(bed, "Intune validateRequest: HTTP 200, code Success"), 1);
    assert_int_equal(bed_logged(bed, bed->result->request_id), 1);
    assert_int_equal(bed_logged(bed, "s+e&c=r%et"), 0);
    assert_int_equal(bed_logged(bed, "s%2be"), 0);
    assert_int_equal(bed_logged(bed, "graph-token"), 0);
    assert_int_equal(bed_logged(bed, "intune-token"), 0);
    assert_int_equal(bed_logged(bed, "Q1NS"), 0);
}

typedef struct answer_case_t {
    const char *name;
    fixture_reply_t reply;
    problem_t problem;
    const char *code;   /* or NULL */
    const char *detail; /* a part of it, or NULL */
} answer_case_t;

#define BODY(text)                                                                                                     \
    {                                                                                                                  \
        200, NULL, text, sizeof(text) - 1, 0, false                                                                    \
    }
#define TYPED(type)                                                                                                    \
    {                                                                                                                  \
        200, "Content-Type: " type "\r\n", "{\"code\":\"Success\"}", 0, 0, false                                         \
    }
#define CODED(coding, bytes)                                                                                           \
    {                                                                                                                  \
        200, "Content-Type: application/json\r\nContent-Encoding: " coding "\r\n", bytes, sizeof(bytes) - 1, 0, false     \
    }
#define SUCCESS_IN_GZIP                                                                                                \
    "\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\xab\x56\x4a\xce\x4f\x49\x55\xb2\x52\x0a\x2e\x4d\x4e\x4e"              \
    "\x2d\x2e\x56\xaa\x05\x00\x1c\x7a\x76\x30\x12\x00\x00\x00"
#define STATUS(number, text)                                                                                           \
    {                                                                                                                  \
        number, NULL, text, sizeof(text) - 1, 0, false                                                                 \
    }

static const answer_case_t answers[] = {
    {"answer/an error of OData's", STATUS(500, "{\"error\":{\"code\":\"InternalServerError\",\"message\":\"m\"}}"),
     PROBLEM_INTUNE_ANSWER, "InternalServerError", "HTTP 500"},
    {"answer/an error is no code", BODY("{\"error\":{\"code\":\"Success\"}}"), PROBLEM_INTUNE_ANSWER, "Success",
     "without a code"},
    {"ok/Success", BODY("{\"code\":\"Success\",\"errorDescription\":\"\"}"), PROBLEM_NONE, NULL, NULL},
    {"ok/white space behind", BODY("{\"code\":\"Success\"} \r\n"), PROBLEM_NONE, NULL, NULL},
    {"ok/byte order mark", BODY("\xef\xbb\xbf{\"code\":\"Success\"}"), PROBLEM_NONE, NULL, NULL},
    {"answer/byte order mark twice", BODY("\xef\xbb\xbf\xef\xbb\xbf{\"code\":\"Success\"}"), PROBLEM_INTUNE_ANSWER, NULL,
     NULL},
    {"answer/byte order mark alone", BODY("\xef\xbb\xbf"), PROBLEM_INTUNE_ANSWER, NULL, NULL},
    {"answer/half a byte order mark", BODY("\xef\xbb"), PROBLEM_INTUNE_ANSWER, NULL, NULL},
    {"answer/UTF-16", BODY("\xff\xfe{\0\"\0c\0o\0d\0e\0\"\0:\0\"\0S\0u\0c\0c\0e\0s\0s\0\"\0}\0"),
     PROBLEM_INTUNE_ANSWER, NULL, NULL},
    {"ok/compressed, which nobody asked for", CODED("gzip", SUCCESS_IN_GZIP), PROBLEM_NONE, NULL, NULL},
    {"ok/as it is, and said to be", CODED("identity", "{\"code\":\"Success\"}"), PROBLEM_NONE, NULL, NULL},
    {"unreachable/said to be compressed", CODED("gzip", "{\"code\":\"Success\"}"), PROBLEM_INTUNE_UNREACHABLE, NULL,
     "encoding"},
    {"unreachable/bytes behind what is compressed", CODED("gzip", SUCCESS_IN_GZIP "xx"), PROBLEM_INTUNE_UNREACHABLE, NULL,
     "cannot be unpacked"},
    {"unreachable/compressed by whatever", CODED("shrunk", "{\"code\":\"Success\"}"), PROBLEM_INTUNE_UNREACHABLE, NULL,
     "encoding"},
    {"ok/other 2xx", STATUS(201, "{\"code\":\"Success\"}"), PROBLEM_NONE, NULL, NULL},
    {"refused/code", BODY("{\"code\":\"ChallengeExpired\",\"errorDescription\":\"too\\nold\"}"), PROBLEM_INTUNE_REFUSED,
     "ChallengeExpired", "too\\x0aold"},
    {"refused/unknown code", BODY("{\"code\":\"New<Code>\"}"), PROBLEM_INTUNE_REFUSED, "New<Code>", NULL},
    {"refused/letter case", BODY("{\"code\":\"success\"}"), PROBLEM_INTUNE_REFUSED, "success", NULL},
    {"refused/empty code", BODY("{\"code\":\"\"}"), PROBLEM_INTUNE_REFUSED, "", NULL},
    {"refused/prefix", BODY("{\"code\":\"Succes\"}"), PROBLEM_INTUNE_REFUSED, "Succes", NULL},
    {"refused/longer", BODY("{\"code\":\"Successful\"}"), PROBLEM_INTUNE_REFUSED, "Successful", NULL},
    {"refused/NUL inside", BODY("{\"code\":\"Success\\u0000\"}"), PROBLEM_INTUNE_REFUSED, "Success\\x00", NULL},
    {"answer/no code", BODY("{}"), PROBLEM_INTUNE_ANSWER, NULL, "HTTP 200"},
    {"answer/null code", BODY("{\"code\":null}"), PROBLEM_INTUNE_ANSWER, NULL, NULL},
    {"answer/code is a number", BODY("{\"code\":0}"), PROBLEM_INTUNE_ANSWER, NULL, NULL},
    {"answer/code is an object", BODY("{\"code\":{\"code\":\"Success\"}}"), PROBLEM_INTUNE_ANSWER, NULL, NULL},
    {"answer/other letter case of the name", BODY("{\"Code\":\"Success\"}"), PROBLEM_INTUNE_ANSWER, NULL, NULL},
    {"answer/array", BODY("[{\"code\":\"Success\"}]"), PROBLEM_INTUNE_ANSWER, NULL, NULL},
    {"answer/text", BODY("\"Success\""), PROBLEM_INTUNE_ANSWER, NULL, NULL},
    {"answer/HTML", BODY("<html>Success</html>"), PROBLEM_INTUNE_ANSWER, NULL, NULL},
    {"answer/empty", BODY(""), PROBLEM_INTUNE_ANSWER, NULL, NULL},
    {"answer/truncated", BODY("{\"code\":\"Success\""), PROBLEM_INTUNE_ANSWER, NULL, NULL},
    {"answer/trailing text", BODY("{\"code\":\"Success\"}x"), PROBLEM_INTUNE_ANSWER, NULL, NULL},
    {"answer/two objects", BODY("{\"code\":\"Success\"}{}"), PROBLEM_INTUNE_ANSWER, NULL, NULL},
    {"answer/NUL behind", BODY("{\"code\":\"Success\"}\0"), PROBLEM_INTUNE_ANSWER, NULL, NULL},
    {"answer/comment", BODY("/**/{\"code\":\"Success\"}"), PROBLEM_INTUNE_ANSWER, NULL, NULL},
    {"answer/single quotes", BODY("{'code':'Success'}"), PROBLEM_INTUNE_ANSWER, NULL, NULL},
    {"answer/broken UTF-8", BODY("{\"code\":\"Success\",\"x\":\"\xff\"}"), PROBLEM_INTUNE_ANSWER, NULL, NULL},
    {"answer/too deep", BODY("{\"code\":\"Success\",\"x\":[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]}"),
     PROBLEM_INTUNE_ANSWER, NULL, NULL},
    {"answer/code twice", BODY("{\"code\":\"ChallengeExpired\",\"code\":\"Success\"}"), PROBLEM_INTUNE_ANSWER, NULL,
     "strict"},
    {"answer/code twice, the same", BODY("{\"code\":\"Success\",\"code\":\"Success\"}"), PROBLEM_INTUNE_ANSWER, NULL, NULL},
    {"answer/code twice, one escaped", BODY("{\"c\\u006fde\":\"X\",\"code\" : \"Success\"}"), PROBLEM_INTUNE_ANSWER, NULL,
     NULL},
    {"answer/another name twice", BODY("{\"code\":\"Success\",\"x\":1,\"x\":2}"), PROBLEM_INTUNE_ANSWER, NULL, NULL},
    {"answer/twice further down", BODY("{\"code\":\"Success\",\"x\":[{\"y\":1,\"y\":{\"z\":0}}]}"), PROBLEM_INTUNE_ANSWER,
     NULL, NULL},
    {"answer/name in apostrophes", BODY("{'code':\"Success\"}"), PROBLEM_INTUNE_ANSWER, NULL, NULL},
    {"answer/twice, once in apostrophes", BODY("{\"code\":\"X\",'code':\"Success\"}"), PROBLEM_INTUNE_ANSWER, NULL, NULL},
    {"ok/apostrophes in a text", BODY("{\"code\":\"Success\",\"x\":\"'\"}"), PROBLEM_NONE, NULL, NULL},
    {"answer/NaN", BODY("{\"code\":\"Success\",\"x\":NaN}"), PROBLEM_INTUNE_ANSWER, NULL, NULL},
    {"answer/Infinity", BODY("{\"code\":\"Success\",\"x\":[Infinity]}"), PROBLEM_INTUNE_ANSWER, NULL, NULL},
    {"answer/-Infinity", BODY("{\"code\":\"Success\",\"x\":-Infinity}"), PROBLEM_INTUNE_ANSWER, NULL, NULL},
    {"answer/number without its last digit", BODY("{\"code\":\"Success\",\"x\":1.}"), PROBLEM_INTUNE_ANSWER, NULL, NULL},
    {"answer/number with two zeros", BODY("{\"code\":\"Success\",\"x\":00}"), PROBLEM_INTUNE_ANSWER, NULL, NULL},
    {"answer/negative number with a zero", BODY("{\"code\":\"Success\",\"x\":-01}"), PROBLEM_INTUNE_ANSWER, NULL, NULL},
    {"answer/control character in a text", BODY("{\"code\":\"Success\",\"x\":\"\n\"}"), PROBLEM_INTUNE_ANSWER, NULL, NULL},
    {"ok/numbers, words and names like them",
     BODY("{\"code\":\"Success\",\"x\":[0,-0,10,-1.50,0.0e+00,2E-07,true,false,null],\"NaN\":\"Infinity -01 00 1.\"}"),
     PROBLEM_NONE, NULL, NULL},
    {"answer/NUL in a name", BODY("{\"code\\u0000x\":\"Success\"}"), PROBLEM_INTUNE_ANSWER, NULL, NULL},
    {"ok/same names in different objects", BODY("{\"code\":\"Success\",\"x\":{\"code\":\"A\"},\"y\":[{\"code\":1}]}"),
     PROBLEM_NONE, NULL, NULL},
    {"ok/a text that looks like a name", BODY("{\"code\":\"Success\",\"x\":\"\\\"code\\\":\\\\\",\"y\":[\"code\"]}"),
     PROBLEM_NONE, NULL, NULL},
    {"ok/NUL in a text", BODY("{\"code\":\"Success\",\"x\":\"\\u0000\"}"), PROBLEM_NONE, NULL, NULL},
    {"ok/type in capitals", TYPED("Application/JSON"), PROBLEM_NONE, NULL, NULL},
    {"answer/HTML type", TYPED("text/html"), PROBLEM_INTUNE_ANSWER, NULL, "Content-Type \"text/html\""},
    {"answer/plain type", TYPED("text/plain; charset=utf-8"), PROBLEM_INTUNE_ANSWER, NULL, NULL},
    {"answer/longer type", TYPED("application/jsonx"), PROBLEM_INTUNE_ANSWER, NULL, NULL},
    {"answer/no type", {200, "", "{\"code\":\"Success\"}", 0, 0, false}, PROBLEM_INTUNE_ANSWER, NULL, "Content-Type \"\""},
    {"answer/500 with Success", STATUS(500, "{\"code\":\"Success\"}"), PROBLEM_INTUNE_ANSWER, "Success", "HTTP 500"},
    {"answer/302", {302, "Location: /elsewhere\r\n", "", 0, 0, false}, PROBLEM_INTUNE_ANSWER, NULL, "HTTP 302"},
    {"answer/400", STATUS(400, "{\"code\":\"Bad\"}"), PROBLEM_INTUNE_ANSWER, "Bad", "HTTP 400"},
    {"unreachable/dropped", {200, NULL, NULL, 0, 0, true}, PROBLEM_INTUNE_UNREACHABLE, NULL, NULL},
};

static void validate_answers(void **state)
{
    bed_t *bed = *state;
    for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
        fixture_on(bed->server, BED_VALIDATE_PATH, NULL, answers[i].reply.drop ? 2 : 1, answers[i].reply);
        apr_status_t rv = bed_validate(bed);
        bed_check(bed, answers[i].name, rv, answers[i].problem, answers[i].code, answers[i].detail);
    }
}

static void fail_large_answer_is_not_read(void **state)
{
    bed_t *bed = *state;
    apr_size_t len = 70 * 1024;
    char *body = apr_palloc(bed->pool, len);
    memset(body, ' ', len);
    memcpy(body, "{\"code\":\"Success\"}", 18);
    fixture_on(bed->server, BED_VALIDATE_PATH, NULL, 1, (fixture_reply_t){200, NULL, body, len, 0, false});
    apr_status_t rv = bed_validate(bed);
    bed_check(bed, "70 KiB", rv, PROBLEM_INTUNE_ANSWER, NULL, "too large");
}

/* The limit is one of what comes out. */
static void fail_large_answer_is_not_unpacked(void **state)
{
    static const char packed[] =
        "\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\xed\xc1\xb1\x0d\x00\x10\x10\x00\xc0\x55\xe4\xc7\xb0\x86"
        "\x11\x9e\x5a\x21\x2a\xb1\xbb\x3d\xe4\xee\x4e\xe4\xec\x23\x6a\xb4\x9d\x39\xd6\x8a\x5b\x00\x00\x00"
        "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
        "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
        "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xf8\xd2\x03\xbd\xc9\xdc"
        "\xca\x12\x18\x01\x00";
    bed_t *bed = *state;
    fixture_on(bed->server, BED_VALIDATE_PATH, NULL, 1,
               (fixture_reply_t){200, "Content-Type: application/json\r\nContent-Encoding: gzip\r\n", packed,
                                 sizeof(packed) - 1, 0, false});
    apr_status_t rv = bed_validate(bed);
    bed_check(bed, "70 KiB, packed", rv, PROBLEM_INTUNE_ANSWER, NULL, "too large");
}

static void fail_long_code_is_cut(void **state)
{
    bed_t *bed = *state;
    const char *code = apr_pstrcat(bed->pool, "0123456789:0123456789:0123456789:0123456",
                                   "0123456789:0123456789:0123456789:0123456", NULL);
    const char *body = apr_pstrcat(bed->pool, "{\"code\":\"", code, "\"}", NULL);
    fixture_on(bed->server, BED_VALIDATE_PATH, NULL, 1, (fixture_reply_t){200, NULL, body, 0, 0, false});
    bed_validate(bed);
    assert_int_equal(bed->result->problem, PROBLEM_INTUNE_REFUSED);
    assert_int_equal(strlen(bed->result->code), 64 + strlen("..."));
}

/* Six hundred characters, as a challenge is at least; `from` makes one that is the same in all its pieces. */
static const char *blob(bed_t *bed, const char *from)
{
    char *text = apr_pcalloc(bed->pool, 601);
    for (int i = 0; i < 600; i++) {
        text[i] = from[(apr_size_t)i % strlen(from)];
    }
    return text;
}

static void assert_unseen(const bed_t *bed, const char *secret)
{
    const char *piece = apr_pstrndup(bed->pool, secret, 10);
    assert_true(bed->result->detail == NULL || strstr(bed->result->detail, piece) == NULL);
    assert_true(bed->result->code == NULL || strstr(bed->result->code, piece) == NULL);
    assert_int_equal(bed_logged(bed, piece), 0);
}

/* Microsoft, or something before it, says what it did not like, and quotes it. */
static void fail_quoted_secrets_are_not_shown(void **state)
{
    static const struct {
        const char *before, *behind; /* the secret */
        const char *shown;
    } rows[] = {
        {"{\"code\":\"X\",\"errorDescription\":\"Cannot decrypt '", "' here\"}", "Cannot decrypt '***' here"},
        {"{\"code\":\"X\",\"errorDescription\":\"", "\"}", "description \"***\""},
        {"{\"code\":\"Bad challenge ", "\"}", "Bad challenge ***"},
        {"{\"code\":\"", "\"}", "code \"***\""},
        {"{\"code\":\"X\",\"errorDescription\":\"https://docs.example.com/a/long/way/to/a/page/about/codes/which/helps ",
         "\"}", "/which/helps ***"},
        {"{\"code\":\"X\",\"errorDescription\":\"thumbprint "
         "'0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF' of ",
         "\"}", "thumbprint '0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF' of ***"},
        {"{\"code\":\"X\",\"errorDescription\":\"https:/", "\"}", "description \"https:***\""},
    };
    static const char *const secrets[] = {"MIIBvAYJKoZIhvcNAQcCoIIB+/9", "eyJ0eXAiOiJKV1Q.eyJhdWQiOi-J_",
                                          "MIIBvAYJKoZIhvcNAQcCoIIB%2B%2F9", "MIIBvAYJKoZIhvcNAQcCoIIB\\\\u002B\\\\/9"};
    enum { SECRETS = sizeof(secrets) / sizeof(secrets[0]) };
    bed_t *bed = *state;
    bed->tracing = true;
    for (size_t i = 0; i < SECRETS * sizeof(rows) / sizeof(rows[0]); i++) {
        const char *secret = blob(bed, secrets[i % SECRETS]);
        const char *body = apr_pstrcat(bed->pool, rows[i / SECRETS].before, secret, rows[i / SECRETS].behind, NULL);
        fixture_on(bed->server, BED_VALIDATE_PATH, NULL, 1, (fixture_reply_t){200, NULL, body, 0, 0, false});
        assert_int_not_equal(bed_validate(bed), APR_SUCCESS);
        assert_non_null(strstr(bed->result->detail, rows[i / SECRETS].shown));
        assert_unseen(bed, secret);
    }
}

/* The application's key is as short as it likes. */
static void fail_quoted_key_is_not_shown(void **state)
{
    bed_t *bed = *state;
    bed->tracing = true;
    bed_token(bed, NULL, 1, 401,
              "{\"error\":\"no s+e&c=r%et\",\"error_description\":\"AADSTS7000215: The secret 's+e&c=r%et' is wrong: "
              "x=s%2be&y=s%2Be%26c%3dr%25et&z\"}");
    assert_int_not_equal(bed_validate(bed), APR_SUCCESS);
    assert_non_null(strstr(bed->result->detail, "no ***: AADSTS7000215: The secret '***' is wrong: x=s%2be&y=***&z"));
    assert_unseen(bed, "s+e&c=r%et");
}

static void fail_busy_service_says_when(void **state)
{
    bed_t *bed = *state;
    fixture_on(bed->server, BED_VALIDATE_PATH, NULL, 1,
               (fixture_reply_t){429, "Retry-After: 17\r\n", "{}", 0, 0, false});
    apr_status_t rv = bed_validate(bed);
    bed_check(bed, "429", rv, PROBLEM_INTUNE_ANSWER, NULL, "HTTP 429");
    assert_int_equal(bed->result->retry_after, apr_time_from_sec(17));
    assert_int_equal(fixture_count(bed->server, BED_VALIDATE_PATH, NULL), 1);
}

static void fail_slow_service_ends_with_the_budget(void **state)
{
    bed_t *bed = *state;
    assert_int_equal(bed_validate(bed), APR_SUCCESS);
    fixture_on(bed->server, BED_VALIDATE_PATH, NULL, -1,
               (fixture_reply_t){200, NULL, "{\"code\":\"Success\"}", 0, 8000, false});
    bed->settings.timeout = apr_time_from_msec(400);
    bed_attach(bed, &bed->settings);
    apr_status_t rv = bed_validate(bed);
    bed_check(bed, "slow", rv, PROBLEM_INTUNE_UNREACHABLE, NULL, "timed out");
    assert_true(bed->call.duration >= apr_time_from_msec(300));
    assert_true(bed->call.duration < apr_time_from_sec(3));
    /* an outage must not become a storm on Graph */
    assert_int_equal(fixture_count(bed->server, BED_GRAPH_PATH, NULL), 1);
}

/* reports */

static const intune_certificate_t certificate = {"AB12", "0F", "2027-01-01T00:00:00.000Z", "CN=Müller,O=\"x\""};

static void ok_success_report_on_the_wire(void **state)
{
    bed_t *bed = *state;
    bed_call(bed);
    assert_int_equal(intune_report_success(bed->intune, &bed->call, "tx/1", bed_csr(), &certificate), APR_SUCCESS);
    const fixture_seen_t *seen = fixture_last(bed->server, "/svc/ScepActions/successNotification", NULL);
    assert_non_null(seen);
    assert_string_equal(
        seen->body,
        "{\"notification\":{\"transactionId\":\"tx/1\",\"certificateRequest\":\"Q1NSAP8=\",\"callerInfo\":\"Test 1.0\","
        "\"certificateThumbprint\":\"AB12\",\"certificateSerialNumber\":\"0F\","
        "\"certificateExpirationDateUtc\":\"2027-01-01T00:00:00.000Z\","
        "\"issuingCertificateAuthority\":\"CN=Müller,O=\\\"x\\\"\",\"caConfiguration\":\"conf\","
        "\"certificateAuthority\":\"\"}}");
    assert_string_equal(fixture_header(seen, "client-request-id", bed->pool), bed->result->request_id);
}

static void ok_failure_report_on_the_wire(void **state)
{
    bed_t *bed = *state;
    /* 254 bytes and then a character of two: it must not be halved */
    char text[300];
    memset(text, 'x', 254);
    memcpy(text + 254, "\xc3\xa4yz", 5);
    bed_call(bed);
    assert_int_equal(intune_report_failure(bed->intune, &bed->call, "tx/1", bed_csr(), 0x80072EFDu, text), APR_SUCCESS);
    text[254] = '\0';
    const fixture_seen_t *seen = fixture_last(bed->server, "/svc/ScepActions/failureNotification", NULL);
    assert_non_null(seen);
    assert_string_equal(
        seen->body, apr_psprintf(bed->pool,
                                 "{\"notification\":{\"transactionId\":\"tx/1\",\"certificateRequest\":\"Q1NSAP8=\","
                                 "\"callerInfo\":\"Test 1.0\",\"hResult\":-2147012867,\"errorDescription\":\"%s\"}}",
                                 text));
}

static const answer_case_t reports[] = {
    {"ok/Success", BODY("{\"code\":\"Success\"}"), PROBLEM_NONE, NULL, NULL},
    {"refused/code", BODY("{\"code\":\"BadDeviceIdInChallenge\",\"errorDescription\":\"why\"}"), PROBLEM_REPORT_REFUSED,
     "BadDeviceIdInChallenge", "why"},
    {"refused/400 with a code", STATUS(400, "{\"code\":\"Bad\"}"), PROBLEM_REPORT_REFUSED, "Bad", "HTTP 400"},
    {"refused/400 with HTML", STATUS(400, "<html>"), PROBLEM_REPORT_REFUSED, NULL, "HTTP 400"},
    {"unavailable/Unknown", BODY("{\"code\":\"Unknown\"}"), PROBLEM_REPORT_UNAVAILABLE, "Unknown", NULL},
    {"unavailable/no code", BODY("{}"), PROBLEM_REPORT_UNAVAILABLE, NULL, "not understood"},
    {"unavailable/500", STATUS(500, "{\"code\":\"Bad\"}"), PROBLEM_REPORT_UNAVAILABLE, "Bad", "HTTP 500"},
    {"unavailable/403 of OData", STATUS(403, "{\"error\":{\"code\":\"Forbidden\"}}"), PROBLEM_REPORT_UNAVAILABLE,
     "Forbidden", "HTTP 403"},
    {"unavailable/404", STATUS(404, ""), PROBLEM_REPORT_UNAVAILABLE, NULL, "HTTP 404"},
    {"unavailable/429", STATUS(429, ""), PROBLEM_REPORT_UNAVAILABLE, NULL, "HTTP 429"},
    {"unavailable/dropped", {200, NULL, NULL, 0, 0, true}, PROBLEM_REPORT_UNAVAILABLE, NULL, "could not be reached"},
};

static void report_answers(void **state)
{
    bed_t *bed = *state;
    for (size_t i = 0; i < sizeof(reports) / sizeof(reports[0]); i++) {
        fixture_on(bed->server, "/svc/", NULL, -1, reports[i].reply);
        bed_call(bed);
        apr_status_t rv = intune_report_success(bed->intune, &bed->call, "tx/1", bed_csr(), &certificate);
        bed_check(bed, reports[i].name, rv, reports[i].problem, reports[i].code, reports[i].detail);
        bed_call(bed);
        rv = intune_report_failure(bed->intune, &bed->call, "tx/1", bed_csr(), 1, "text");
        bed_check(bed, reports[i].name, rv, reports[i].problem, reports[i].code, reports[i].detail);
    }
}

static void fail_report_keeps_the_token_trouble(void **state)
{
    bed_t *bed = *state;
    fixture_on(bed->server, BED_TOKEN_PATH, NULL, -1,
               (fixture_reply_t){401, NULL,
                                 "{\"error\":\"invalid_client\",\"error_description\":\"AADSTS7000222: expired\"}", 0,
                                 0, false});
    bed_call(bed);
    apr_status_t rv = intune_report_success(bed->intune, &bed->call, "tx/1", bed_csr(), &certificate);
    bed_check(bed, "expired key", rv, PROBLEM_REPORT_UNAVAILABLE, "AADSTS7000222", "Entra refused the credential");
    assert_non_null(bed->result->request_id);
}

#define BED_TEST(name) cmocka_unit_test_setup_teardown(name, bed_up, bed_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        BED_TEST(ok_first_call_on_the_wire),
        BED_TEST(ok_second_call_uses_the_cache_and_a_new_request_id),
        BED_TEST(ok_logs_tell_each_call_and_no_secret),
        BED_TEST(validate_answers),
        BED_TEST(fail_large_answer_is_not_read),
        BED_TEST(fail_large_answer_is_not_unpacked),
        BED_TEST(fail_long_code_is_cut),
        BED_TEST(fail_quoted_secrets_are_not_shown),
        BED_TEST(fail_quoted_key_is_not_shown),
        BED_TEST(fail_busy_service_says_when),
        BED_TEST(fail_slow_service_ends_with_the_budget),
        BED_TEST(ok_success_report_on_the_wire),
        BED_TEST(ok_failure_report_on_the_wire),
        BED_TEST(report_answers),
        BED_TEST(fail_report_keeps_the_token_trouble),
    };
    if (bed_start() != 0) {
        return EXIT_FAILURE;
    }
    int failed = cmocka_run_group_tests_name("intune", tests, NULL, NULL);
    apr_terminate();
    return failed;
}
