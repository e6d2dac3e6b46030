/* SPDX-License-Identifier: Apache-2.0 */
/* The snapshot and its forms, from counters that were filled by hand. */
#include "base/clock.h"
#include "base/writer.h"
#include "gateway/account.h"
#include "gateway/status.h"

#include "intune_bed.h"
#include "pki_fixture.h"

#include <apr_strings.h>
#include <json-c/json.h>
#include <string.h>

static apr_pool_t *pki_pool;
static pki_t *pki;

static const char HOSTILE[] = "<script>alert(1)</script>&amp;'\" \\ \x1b[31m \xc3\xa4 \xe2\x80\xae \xff\n# HELP x";

typedef struct run_t {
    bed_t *bed;
    apr_pool_t *pool;
    profile_t profile;
    status_site_t site;
    status_source_t source;
    status_t status;
} run_t;

static void begin(run_t *run, void **state)
{
    *run = (run_t){.bed = *state};
    run->pool = run->bed->pool;
    void *memory = apr_palloc(run->pool, counters_size(1));
    counters_begin(memory, 1);
    run->profile = (profile_t){.name = "test",
                               .identity = pki->identity,
                               .policy = pki->policy,
                               .intune = run->bed->intune,
                               .max_concurrent = 24,
                               .cache = run->bed->cache,
                               .counters = counters_of(memory, 0, run->pool)};
    run->site = (status_site_t){.profile = &run->profile, .places_used = 3};
    run->source = (status_source_t){.version = "1.2.3", .host = "host", .sites = &run->site, .count = 1, .recent = true};
}

static void call(run_t *run, call_kind_t kind, call_end_t end, const char *words)
{
    call_seen_t seen = {.kind = kind, .end = end, .duration = apr_time_from_msec(40), .words = words};
    counters_call(run->profile.counters, &seen);
}

static void ended(run_t *run, const char *transaction, const char *subject, int outcome)
{
    counters_record_t record;
    memset(&record, 0, sizeof(record));
    record.time = clock_now();
    record.outcome = outcome;
    record.http_status = 200;
    record.whole = 5000;
    if (outcome == outcome_of_problem(PROBLEM_INTUNE_REFUSED)) {
        apr_cpystrn(record.code, "ChallengeExpired", sizeof(record.code));
    }
    apr_cpystrn(record.transaction, transaction, sizeof(record.transaction));
    apr_cpystrn(record.subject, subject, sizeof(record.subject));
    apr_cpystrn(record.serial, "0A1B", sizeof(record.serial));
    apr_cpystrn(record.reference, "C0FFEE00", sizeof(record.reference));
    counters_ended(run->profile.counters, &record);
}

static status_t *look(run_t *run)
{
    status_make(&run->status, &run->source, run->pool);
    return &run->status;
}

static json_object *json_of(run_t *run)
{
    const char *text = status_json(look(run), run->pool);
    assert_non_null(text);
    for (const char *c = text; *c; c++) {
        assert_true(*c >= 0x20 && *c < 0x7f);
    }
    json_object *object = json_tokener_parse(text);
    assert_non_null(object);
    return object;
}

/* A member by its path; numbers are indices. */
static json_object *at(json_object *object, const char *path)
{
    json_object *found = NULL;
    char copy[200];
    char *rest = NULL;
    apr_cpystrn(copy, path, sizeof(copy));
    for (char *name = apr_strtok(copy, ".", &rest); name; name = apr_strtok(NULL, ".", &rest)) {
        if (json_object_is_type(object, json_type_array)) {
            found = json_object_array_get_idx(object, (size_t)atoi(name));
        } else {
            found = json_object_object_get(object, name);
        }
        object = found;
    }
    return found;
}

static void platforms(void **state)
{
    static const struct {
        const char *agent, *platform;
    } CASES[] = {{"Mozilla/4.0 (compatible; Win32; NDES client 10.0.22621.1/ni_release)", "Windows"},
                 {"profiled/1.0 CFNetwork/1490 Darwin/23.0.0", "iOS"},
                 {"mdmclient/1070 CFNetwork/1490 Darwin/23.0.0 (x86_64)", "Apple"},
                 {"Dalvik/2.1.0 (Linux; U; Android 14)", "Android"},
                 {"micromdm-scepclient", "Linux"},
                 {"", ""},
                 {NULL, ""},
                 {"something else", ""}};
    (void)state;
    for (size_t i = 0; i < sizeof(CASES) / sizeof(CASES[0]); i++) {
        assert_string_equal(account_platform(CASES[i].agent), CASES[i].platform);
        assert_true(strlen(account_platform(CASES[i].agent)) < sizeof(((counters_record_t *)0)->platform));
    }
}

static void escaping(void **state)
{
    writer_t w;
    bed_t *bed = *state;
    writer_begin(&w, bed->pool);
    writer_html(&w, HOSTILE, 300);
    assert_string_equal(w.text, "&lt;script&gt;alert(1)&lt;/script&gt;&amp;amp;&#39;\\x22 \\x5c \\x1b[31m \\xc3\\xa4 "
                                "\\xe2\\x80\\xae \\xff\\x0a# HELP x");
    writer_begin(&w, bed->pool);
    writer_html_own(&w, "a\"b'<c>&\n\xff", 300);
    assert_string_equal(w.text, "a&quot;b&#39;&lt;c&gt;&amp;??");
    writer_begin(&w, bed->pool);
    writer_label(&w, "a\"b\\c\nd\x01\xc3\xa4\xff");
    assert_string_equal(w.text, "a\\\"b\\\\c\\nd?\xc3\xa4?");
    writer_begin(&w, bed->pool);
    writer_query(&w, "a+b/c=\"<\xff-_.");
    assert_string_equal(w.text, "a%2Bb%2Fc%3D%22%3C%FF-_.");
    writer_begin(&w, bed->pool);
    writer_html(&w, NULL, 300);
    writer_html_own(&w, NULL, 300);
    for (int i = 0; i < 5000; i++) {
        writer_format(&w, "%d,", i);
    }
    assert_int_equal(w.len, strlen(w.text));
    assert_non_null(strstr(w.text, ",4999,"));
}

static status_level_t ca_level(run_t *run)
{
    return look(run)->locations[0].services[SERVICE_CA];
}

/* The fixture's certificates expire tomorrow: that is bad by itself. */
static void levels(void **state)
{
    run_t run;
    begin(&run, state);
    assert_int_equal(look(&run)->level, STATUS_BAD);
    assert_int_equal(ca_level(&run), STATUS_UNKNOWN);
    call(&run, CALL_VALIDATE, CALL_REFUSED, "no");
    assert_int_equal(look(&run)->locations[0].services[SERVICE_INTUNE], STATUS_GOOD);
    call(&run, CALL_CA, CALL_TIMEOUT, "late");
    assert_int_equal(ca_level(&run), STATUS_WARNING);
    for (int i = 0; i < 4; i++) {
        call(&run, CALL_CA, CALL_UNREACHABLE, "gone");
    }
    assert_int_equal(ca_level(&run), STATUS_BAD);
    call(&run, CALL_CA, CALL_PENDING, NULL);
    assert_int_equal(ca_level(&run), STATUS_GOOD);
    counters_service(run.profile.counters, SERVICE_JOURNAL, false, "full");
    assert_int_equal(look(&run)->locations[0].services[SERVICE_JOURNAL], STATUS_BAD);
    assert_string_equal(run.status.locations[0].counts.services[SERVICE_JOURNAL].words, "full");
}

/* The certificates of the fixture are valid for a while; the clock goes there. */
static void expiry(void **state)
{
    run_t run;
    begin(&run, state);
    const apr_array_header_t *list = expiry_list(&run.profile, run.pool);
    assert_true(list->nelts >= 2);
    const expiry_t *ra = &APR_ARRAY_IDX(list, 0, const expiry_t);
    assert_string_equal(ra->what, "the RA's certificate");
    apr_interval_time_t left = ra->expires - clock_now();
    static const struct {
        int days;
        status_level_t level;
    } CASES[] = {{31, STATUS_GOOD}, {29, STATUS_WARNING}, {8, STATUS_WARNING}, {6, STATUS_BAD}, {0, STATUS_BAD}, {-2, STATUS_BAD}};
    for (size_t i = 0; i < sizeof(CASES) / sizeof(CASES[0]); i++) {
        clock_shift(left - apr_time_from_sec(86400) * CASES[i].days - apr_time_from_sec(3600));
        list = expiry_list(&run.profile, run.pool);
        ra = &APR_ARRAY_IDX(list, 0, const expiry_t);
        assert_int_equal(status_of_expiry(ra), CASES[i].level);
        assert_true(ra->days == CASES[i].days || (CASES[i].days < 0 && ra->days == -1));
    }
    assert_int_equal(status_health(look(&run), HEALTH_EXPIRY, run.pool)->nelts > 0, 1);
    assert_int_equal(status_health(look(&run), HEALTH_JOURNAL | HEALTH_CA, run.pool)->nelts, 0);
    clock_shift(0);
    assert_int_equal(status_health(look(&run), HEALTH_EXPIRY, run.pool)->nelts, 0);
    run.profile.former = run.profile.identity;
    clock_shift(left + apr_time_from_sec(7200));
    list = expiry_list(&run.profile, run.pool);
    for (int i = 0; i < list->nelts; i++) {
        const expiry_t *one = &APR_ARRAY_IDX(list, i, const expiry_t);
        assert_int_equal(one->matters, strcmp(one->directive, "IntuneScepRAFormerCertificate") != 0);
    }
    /* alerts are made of the metric */
    const char *metrics = status_metrics(look(&run), run.pool);
    assert_non_null(strstr(metrics, "what=\"the RA's certificate\""));
    assert_null(strstr(metrics, "former"));
    clock_shift(0);
}

static void health_words(void **state)
{
    unsigned words = 0;
    bed_t *bed = *state;
    assert_null(status_health_parse(&words, "journal breaker, expiry,outbox microsoft ca", bed->pool));
    assert_int_equal(words, 63);
    assert_string_equal(status_health_parse(&words, "journal mood", bed->pool), "mood");
    assert_null(status_health_parse(&words, "", bed->pool));
    assert_int_equal(words, 0);
}

static void health(void **state)
{
    run_t run;
    counters_outbox_t outbox = {.read_at = clock_now(), .owed = 2, .oldest = apr_time_from_sec(1800)};
    begin(&run, state);
    run.profile.name = HOSTILE;
    assert_int_equal(status_health(look(&run), 63, run.pool)->nelts, 0);
    counters_outbox_keep(run.profile.counters, &outbox);
    assert_int_equal(status_health(look(&run), 63, run.pool)->nelts, 0);
    counters_service(run.profile.counters, SERVICE_JOURNAL, false, "the disk is\nfull");
    for (int i = 0; i < 5; i++) {
        call(&run, CALL_CA, CALL_FAILED, "HTTP 500, \\x22no\\x22");
    }
    const apr_array_header_t *reasons = status_health(look(&run), 63, run.pool);
    assert_int_equal(reasons->nelts, 2);
    assert_non_null(strstr(APR_ARRAY_IDX(reasons, 0, const char *), "the journal cannot be used: the disk is\\x0afull"));
    assert_non_null(strstr(APR_ARRAY_IDX(reasons, 1, const char *), "HTTP 500, \\x22no\\x22"));
    for (const char *c = APR_ARRAY_IDX(reasons, 0, const char *); *c; c++) {
        assert_true(*c >= 0x20 && *c < 0x7f);
    }
    assert_int_equal(status_health(look(&run), HEALTH_BREAKER | HEALTH_EXPIRY, run.pool)->nelts, 0);
    /* a credential that Entra refuses, which opens no breaker */
    for (int i = 0; i < 5; i++) {
        assert_int_equal(status_health(look(&run), HEALTH_MICROSOFT, run.pool)->nelts, 0);
        call(&run, CALL_TOKEN, CALL_DENIED, "Entra token: HTTP 401, code AADSTS7000222");
    }
    reasons = status_health(look(&run), HEALTH_MICROSOFT, run.pool);
    assert_int_equal(reasons->nelts, 1);
    assert_non_null(strstr(APR_ARRAY_IDX(reasons, 0, const char *), "Entra does not answer as it should: Entra token: HTTP 401"));
    call(&run, CALL_TOKEN, CALL_SUCCESS, NULL);
    assert_int_equal(status_health(look(&run), HEALTH_MICROSOFT, run.pool)->nelts, 0);
}

/* What is in the JSON is the text that went in, but for what was not UTF-8. */
static void json_is_faithful(void **state)
{
    run_t run;
    begin(&run, state);
    apr_array_header_t *settings = apr_array_make(run.pool, 1, sizeof(status_setting_t));
    APR_ARRAY_PUSH(settings, status_setting_t) = (status_setting_t){"IntuneScepAppKey", "***"};
    run.site.settings = run.source.settings = settings;
    run.profile.name = HOSTILE;
    call(&run, CALL_VALIDATE, CALL_SUCCESS, NULL);
    ended(&run, "<img src=x>", HOSTILE, ENDING_ENROLLED);
    ended(&run, "two", "CN=b", outcome_of_problem(PROBLEM_INTUNE_REFUSED));
    json_object *json = json_of(&run);
    assert_string_equal(json_object_get_string(at(json, "version")), "1.2.3");
    assert_string_equal(json_object_get_string(at(json, "locations.0.services.intune.level")), "good");
    assert_string_equal(json_object_get_string(at(json, "transactions.1.transaction")), "<img src=x>");
    const char *subject = json_object_get_string(at(json, "transactions.1.subject"));
    assert_memory_equal(subject, HOSTILE, strlen("<script>alert(1)</script>&amp;'\" \\ \x1b[31m \xc3\xa4 \xe2\x80\xae "));
    assert_string_equal(json_object_get_string(at(json, "transactions.0.outcome")), "INTUNE_REFUSED");
    assert_string_equal(json_object_get_string(at(json, "transactions.0.code_meaning")),
                        intune_code_meaning("ChallengeExpired"));
    assert_null(at(json, "transactions.1.code_meaning"));
    const char *page = status_page(look(&run), run.pool);
    assert_non_null(strstr(page, "</code><small>The challenge is older than Intune allows"));
    assert_string_equal(json_object_get_string(at(json, "transactions.1.location")),
                        json_object_get_string(at(json, "locations.0.name")));
    assert_int_equal(json_object_get_int(at(json, "locations.0.outcomes.enrolled")), 1);
    assert_int_equal(json_object_get_int(at(json, "locations.0.outcomes.INTUNE_REFUSED")), 1);
    assert_null(at(json, "locations.0.outcomes.CA_TIMEOUT"));
    assert_int_equal(json_object_get_int(at(json, "locations.0.last_5_minutes.successes")), 1);
    assert_int_equal(json_object_get_int(at(json, "locations.0.services.intune.calls.success")), 1);
    assert_null(at(json, "locations.0.services.journal"));
    assert_int_equal(json_object_get_int(at(json, "locations.0.places.used")), 3);
    assert_string_equal(json_object_get_string(at(json, "locations.0.settings.0.value")), "***");
    assert_null(at(json, "search"));
    json_object_put(json);
}

static void search(void **state)
{
    static const struct {
        const char *query;
        int found;
    } CASES[] = {{"0a1b", 3}, {"ONE", 1}, {"c0ffee00", 3}, {"t", 2}, {"nothing", 0}, {"<", 0}, {"", 3}, {NULL, 3}};
    run_t run;
    begin(&run, state);
    ended(&run, "one", "CN=a", ENDING_ENROLLED);
    ended(&run, "two", "CN=b", ENDING_PENDING);
    ended(&run, "three", "CN=c", ENDING_INQUIRY);
    for (size_t i = 0; i < sizeof(CASES) / sizeof(CASES[0]); i++) {
        run.source.query = CASES[i].query;
        assert_int_equal(look(&run)->recent->nelts, CASES[i].found);
    }
    run.source.query = HOSTILE;
    json_object *json = json_of(&run);
    assert_non_null(at(json, "search.query"));
    json_object_put(json);
    const char *page = status_page(look(&run), run.pool);
    assert_null(strstr(page, "<script"));
    assert_non_null(strstr(page, "&lt;script&gt;"));
}

static int times(const char *text, const char *part)
{
    int count = 0;
    for (const char *at = strstr(text, part); at; at = strstr(at + 1, part)) {
        count++;
    }
    return count;
}

static void the_page_shows_text_as_text(void **state)
{
    run_t run;
    begin(&run, state);
    run.profile.name = HOSTILE;
    ended(&run, "\"><img src=x onerror=alert(1)>", HOSTILE, outcome_of_problem(PROBLEM_INTUNE_REFUSED));
    for (int i = 0; i < 5; i++) {
        call(&run, CALL_CA, CALL_FAILED, HOSTILE);
    }
    const char *page = status_page(look(&run), run.pool);
    assert_int_equal(times(page, "<script"), 0);
    assert_int_equal(times(page, "<img"), 0);
    assert_int_equal(times(page, " style="), 0);
    assert_null(strchr(page, '\x1b'));
    assert_int_equal(times(page, "<!DOCTYPE html>"), 1);
    /* HTML wants a name before its value, and dates that are read by programs */
    assert_true(times(page, "</dt><dd>") > 0);
    assert_int_equal(times(page, "</dd><dt>"), 0);
    assert_int_equal(times(page, "<time>"), 0);
    assert_int_equal(times(page, "Failing - ") + times(page, "failing - Intune SCEP gateway"), 1);
    assert_non_null(strstr(page, "Intune refused the request"));
}

/* The policy has the digest of the style that is in the page. */
static void the_policy_fits(void **state)
{
    run_t run;
    unsigned char digest[32];
    begin(&run, state);
    const char *page = status_page(look(&run), run.pool);
    const char *from = strstr(page, "<style>") + 7;
    const char *to = strstr(from, "</style>");
    assert_int_equal(EVP_Q_digest(pki->identity->engine->context, "SHA256", NULL, from, (size_t)(to - from), digest, NULL), 1);
    unsigned char base64[64];
    EVP_EncodeBlock(base64, digest, sizeof(digest));
    assert_string_equal(status_page_policy(pki->identity->engine, run.pool),
                        apr_psprintf(run.pool, "default-src 'none'; style-src 'sha256-%s'; form-action 'self'; base-uri 'none'; "
                                               "frame-ancestors 'none'", base64));
}

/* Each line is a comment or a series with a number; HELP and TYPE come before, once. */
static void metrics_are_lines(void **state)
{
    run_t run;
    int lines = 0;
    begin(&run, state);
    run.profile.name = HOSTILE;
    ended(&run, "one", "CN=a", ENDING_ENROLLED);
    const char *text = status_metrics(look(&run), run.pool);
    char *rest = NULL;
    for (char *line = apr_strtok(apr_pstrdup(run.pool, text), "\n", &rest); line; line = apr_strtok(NULL, "\n", &rest)) {
        char *end = NULL;
        lines++;
        if (!strncmp(line, "# HELP intune_scep_", 19) || !strncmp(line, "# TYPE intune_scep_", 19)) {
            continue;
        }
        assert_int_equal(strncmp(line, "intune_scep_", 12), 0);
        const char *value = strrchr(line, ' ') + 1;
        strtod(value, &end);
        assert_true(end > value && !*end);
    }
    assert_true(lines > 200);
    assert_non_null(strstr(text, "outcome=\"enrolled\"} 1\n"));
    assert_non_null(strstr(text, "outcome=\"CA_TIMEOUT\"} 0\n"));
    assert_non_null(strstr(text, "le=\"0.005\"} 1\n"));
    assert_int_equal(times(text, "# TYPE intune_scep_transactions_total counter\n"), 1);
    assert_int_equal(times(text, "intune_scep_reports_owed{"), 0); /* there is no journal */
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, bed_up, bed_down)
    const struct CMUnitTest tests[] = {TEST(platforms),   TEST(escaping),         TEST(levels),
                                       TEST(expiry),      TEST(health_words),     TEST(health),
                                       TEST(json_is_faithful), TEST(search),      TEST(the_page_shows_text_as_text),
                                       TEST(the_policy_fits),  TEST(metrics_are_lines)};
    if (bed_start() || apr_pool_create(&pki_pool, NULL)) {
        return 1;
    }
    pki = pki_make(pki_pool);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    apr_pool_destroy(pki_pool);
    apr_terminate();
    return failed;
}
