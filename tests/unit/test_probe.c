/* SPDX-License-Identifier: Apache-2.0 */
/* The steps before a call, one by one. */
#include "intune_bed.h"

#include "base/text.h"
#include "intune/probe.h"

#include <apr_general.h>
#include <apr_strings.h>

static const char *jwt(const bed_t *bed, const char *claims)
{
    return apr_psprintf(bed->pool, "{\"access_token\":\"eyJhbGciOiJub25lIn0.%s.c2ln\",\"expires_in\":3599}",
                        text_base64url(bed->pool, bytes_of_text(claims)));
}

static const struct {
    const char *name;
    const char *claims;
    bool has_roles;
    const char *roles;
} tokens[] = {
    {"two roles", "{\"roles\":[\"scep_challenge_provider\",\"x\"]}", true, "scep_challenge_provider, x"},
    {"no roles", "{\"aud\":\"x\"}", true, ""},
    {"an empty list", "{\"roles\":[]}", true, ""},
    {"roles of another type", "{\"roles\":\"all\"}", true, ""},
    {"members of other types", "{\"roles\":[1,null,\"y\"]}", true, "y"},
    {"hostile", "{\"roles\":[\"a\\u001b[31m\\n\"]}", true, "a\\x1b[31m\\x0a"},
    {"not JSON", "roles", false, ""},
};

static void roles_are_read_from_a_token(void **state)
{
    bed_t *bed = *state;
    for (size_t i = 0; i < sizeof(tokens) / sizeof(tokens[0]); i++) {
        intune_token_facts_t facts;
        bed_token(bed, BED_INTUNE_SCOPE, 1, 200, jwt(bed, tokens[i].claims));
        /* a cache entry of its own */
        bed->settings.app_id = apr_psprintf(bed->pool, "app-%d", (int)i + 10);
        bed_attach(bed, &bed->settings);
        bed_call(bed);
        assert_int_equal(intune_probe_token(bed->intune, &bed->call, INTUNE_RESOURCE_INTUNE, &facts), APR_SUCCESS);
        print_message("%s: %s\n", tokens[i].name, facts.roles);
        assert_int_equal(facts.has_roles, tokens[i].has_roles);
        assert_string_equal(facts.roles, tokens[i].roles);
    }
}

static void an_opaque_token_is_a_token(void **state)
{
    bed_t *bed = *state;
    intune_token_facts_t facts;
    bed_call(bed);
    assert_int_equal(intune_probe_token(bed->intune, &bed->call, INTUNE_RESOURCE_GRAPH, &facts), APR_SUCCESS);
    assert_false(facts.has_roles);
    assert_true(facts.usable_until > 0);
}

static void a_refusal_is_told(void **state)
{
    bed_t *bed = *state;
    intune_token_facts_t facts;
    const char *uri = NULL;
    bed_token(bed, BED_GRAPH_SCOPE, -1, 401,
              "{\"error\":\"invalid_client\",\"error_description\":\"AADSTS7000215: wrong\"}");
    bed_call(bed);
    assert_int_not_equal(intune_probe_token(bed->intune, &bed->call, INTUNE_RESOURCE_GRAPH, &facts), APR_SUCCESS);
    assert_int_equal(bed->result->problem, PROBLEM_TOKEN_REFUSED);
    assert_string_equal(bed->result->code, "AADSTS7000215");
    bed_call(bed);
    assert_int_not_equal(intune_probe_location(bed->intune, &bed->call, &uri), APR_SUCCESS);
    assert_int_equal(bed->result->problem, PROBLEM_TOKEN_REFUSED);
    assert_null(uri);
}

static void the_location_is_told(void **state)
{
    bed_t *bed = *state;
    const char *uri = NULL;
    bed_call(bed);
    assert_int_equal(intune_probe_location(bed->intune, &bed->call, &uri), APR_SUCCESS);
    assert_non_null(strstr(uri, "/svc"));
}

static void a_list_without_the_service_is_told(void **state)
{
    bed_t *bed = *state;
    const char *uri = NULL;
    bed_endpoints(bed, "providerName", "another", "https://x.example/");
    bed_call(bed);
    assert_int_not_equal(intune_probe_location(bed->intune, &bed->call, &uri), APR_SUCCESS);
    assert_int_equal(bed->result->problem, PROBLEM_LOCATION_UNAVAILABLE);
    assert_non_null(strstr(bed->result->detail, "permissions are missing"));
}

static void before_attach_there_is_nothing(void **state)
{
    bed_t *bed = *state;
    intune_t *bare = NULL;
    intune_token_facts_t facts;
    const char *uri = NULL;
    assert_int_equal(intune_make(&bare, &bed->settings, bed->pool), APR_SUCCESS);
    bed_call(bed);
    assert_int_not_equal(intune_probe_token(bare, &bed->call, INTUNE_RESOURCE_GRAPH, &facts), APR_SUCCESS);
    assert_int_not_equal(intune_probe_location(bare, &bed->call, &uri), APR_SUCCESS);
    assert_int_equal(bed->result->problem, PROBLEM_INTERNAL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, bed_up, bed_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(roles_are_read_from_a_token),
        TEST(an_opaque_token_is_a_token),
        TEST(a_refusal_is_told),
        TEST(the_location_is_told),
        TEST(a_list_without_the_service_is_told),
        TEST(before_attach_there_is_nothing),
    };
    if (bed_start()) {
        return 1;
    }
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    apr_terminate();
    return failed;
}
