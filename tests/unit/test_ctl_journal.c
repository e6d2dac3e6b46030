/* SPDX-License-Identifier: Apache-2.0 */
/* intune-scepctl journal: what it shows of a journal and decides in it. */
#include "ctl_fixture.h"

#include "base/text.h"

#include <apr_strings.h>

static void ok_list(void **state)
{
    (void)state;
    ctl_ends(0, ctl_journal_tool("list"));
    assert_string_equal(ctl_err, "");
    ctl_has(ctl_out, "ID            LOCATION  TRANSACTION");
    ctl_has(ctl_out, "A1B2C3D4E502  profile   " CTL_HOSTILE_SHOWN);
    ctl_has(ctl_out, "withheld  refused");
    ctl_has(ctl_out, "0A02    event withheld: Intune said no\n");
    ctl_has(ctl_out, "the CA said\\x0a\\x1b no\n");
    ctl_lacks(ctl_out, "A1B2C3D4E505");
    ctl_lacks(ctl_out, "A1B2C3D4E501");
    ctl_lacks(ctl_out, CTL_CHALLENGE);
    ctl_ends(0, ctl_journal_tool("list tx-issued"));
    ctl_has(ctl_out, "\nA1B2C3D4E501  ");
    ctl_lacks(ctl_out, "A1B2C3D4E502");
    ctl_ends(0, ctl_journal_tool("list 0a02"));
    ctl_has(ctl_out, "\nA1B2C3D4E502  ");
    ctl_ends(0, ctl_journal_tool("list a1b2c3d4e5ff"));
    ctl_has(ctl_out, "tx-twin-1");
    ctl_has(ctl_out, "tx-twin-2");
    ctl_ends(0, ctl_journal_tool("list a1b2c3d4e5ff2"));
    ctl_lacks(ctl_out, "tx-twin-1");
    ctl_ends(0, ctl_journal_tool("list nothing"));
    ctl_has(ctl_out, "no row has this");
}

static void ok_list_json(void **state)
{
    json_object *rows = NULL;
    (void)state;
    ctl_ends(0, ctl_journal_tool("list --json"));
    json_object *document = ctl_parsed();
    assert_true(json_object_object_get_ex(document, "rows", &rows));
    assert_int_equal(json_object_array_length(rows), 5);
    assert_string_equal(ctl_member(document, "complete"), "true");
    json_object *row = json_object_array_get_idx(rows, 0);
    assert_string_equal(ctl_member(row, "id"), CTL_WITHHELD);
    assert_string_equal(ctl_member(row, "transaction"), CTL_HOSTILE);
    assert_string_equal(ctl_member(row, "event_detail"), "serial 0A02");
    assert_string_equal(ctl_member(row, "certificate"), "(none)");
    json_object_put(document);
}

static void ok_show(void **state)
{
    const char *base64 = text_base64(ctl_pool, ctl_certificate);
    (void)state;
    ctl_ends(0, ctl_journal_tool("show " CTL_WITHHELD));
    ctl_has(ctl_out, "transactionID      " CTL_HOSTILE_SHOWN "\n");
    ctl_has(ctl_out, "subject            CN=a \\x5c\\x22device\\x5c\\x22\n");
    ctl_has(ctl_out, "event's detail     serial 0A02\n");
    ctl_has(ctl_out, "request            kept, sealed\n");
    ctl_has(ctl_out, "CA's node          ca-1\n");
    ctl_has(ctl_out, "-----BEGIN CERTIFICATE-----\n");
    ctl_has(ctl_out, apr_pstrcat(ctl_pool, apr_pstrndup(ctl_pool, base64, 64), "\n",
                                 apr_pstrndup(ctl_pool, base64 + 64, 64), NULL));
    ctl_has(ctl_out, "\n-----END CERTIFICATE-----\n");
    ctl_lacks(ctl_out, CTL_CHALLENGE);
    ctl_ends(0, ctl_journal_tool("show a1b2c3d4e505"));
    ctl_has(ctl_out, "the server, now    ");
    ctl_has(ctl_out, "due in ");
    ctl_lacks(ctl_out, "CERTIFICATE");
    ctl_lacks(ctl_out, CTL_CHALLENGE);
    ctl_refuses(1, "show A1B2C3D4E5FF", "2 rows have an id that begins with A1B2C3D4E5FF");
    ctl_ends(0, ctl_journal_tool("show A1B2C3D4E5FF2"));
    ctl_refuses(1, "show A1B2C3D4E5F0", "no row has the id A1B2C3D4E5F0");
    ctl_refuses(1, "show A1B2C3D4E501" "1111111111111111111111111111111111111111111111111111", "no row has the id");
    ctl_ends(0, ctl_journal_tool("--json show A1B2C3D4E502"));
    json_object *document = ctl_parsed();
    assert_string_equal(ctl_member(document, "transaction"), CTL_HOSTILE);
    assert_string_equal(ctl_member(document, "subject"), "CN=a \\\"device\\\"");
    assert_string_equal(ctl_member(document, "request_kept"), "true");
    ctl_has(ctl_member(document, "certificate"), "-----BEGIN CERTIFICATE-----\nMI");
    ctl_lacks(ctl_out, CTL_CHALLENGE);
    json_object_put(document);
}

/* The row of a decision, as the journal has it then. */
static const journal_row_t *row_of(const char *id)
{
    journal_row_t *row = NULL;
    const char *message = NULL;
    apr_status_t rv = journal_find(ctl_journal(), id, &row, ctl_pool, &message);
    assert_true(rv == APR_SUCCESS || rv == APR_NOTFOUND);
    return row;
}

static void ok_release(void **state)
{
    (void)state;
    ctl_ends(0, ctl_journal_tool("release A1B2C3D4E502"));
    ctl_has(ctl_out, "A1B2C3D4E502: the certificate 0A02 is released");
    assert_int_equal(row_of(CTL_WITHHELD)->state, JOURNAL_ISSUED);
    assert_int_equal(row_of(CTL_WITHHELD)->report, JOURNAL_WAIVED);
    ctl_ends(0, ctl_journal_tool("release A1B2C3D4E503"));
    ctl_refuses(1, "release A1B2C3D4E502", "release cannot be done: its certificate is not withheld");
    ctl_refuses(1, "release A1B2C3D4E501", "its certificate is not withheld, and its report is not dead");
    ctl_refuses(1, "release A1B2C3D4E504", "it has no certificate");
}

static void ok_retry(void **state)
{
    (void)state;
    ctl_ends(0, ctl_journal_tool("retry A1B2C3D4E502"));
    ctl_has(ctl_out, "A1B2C3D4E502: Intune is told of its certificate now");
    assert_int_equal(row_of(CTL_WITHHELD)->report, JOURNAL_OWED_SUCCESS);
    ctl_ends(0, ctl_journal_tool("retry A1B2C3D4E504"));
    ctl_has(ctl_out, "told of its failure now");
    assert_true(row_of(CTL_FAILED)->due_in <= 0);
    ctl_refuses(1, "retry A1B2C3D4E501", "retry cannot be done: Intune has its report");
    ctl_refuses(1, "retry A1B2C3D4E505", "retry cannot be done: the server is at it");
    ctl_ends(0, ctl_journal_tool("release A1B2C3D4E503"));
    ctl_refuses(1, "retry A1B2C3D4E503", "its report was waived");
}

static void ok_drop(void **state)
{
    (void)state;
    ctl_ends(0, ctl_journal_tool("drop A1B2C3D4E502"));
    ctl_has(ctl_out, "the row (withheld, report refused) is forgotten; the certificate 0A02 stays valid at the CA");
    assert_null(row_of(CTL_WITHHELD));
    ctl_refuses(1, "drop A1B2C3D4E502", "no row has the id");
    ctl_ends(0, ctl_journal_tool("drop A1B2C3D4E504"));
    ctl_has(ctl_out, "Intune does not get its report");
    ctl_refuses(1, "drop A1B2C3D4E505", "drop cannot be done: the server is at it");
    assert_non_null(row_of(CTL_LEASED));
}

static void ok_decisions_in_json(void **state)
{
    (void)state;
    ctl_ends(0, ctl_journal_tool("--json release A1B2C3D4E502"));
    json_object *document = ctl_parsed();
    assert_string_equal(ctl_member(document, "id"), CTL_WITHHELD);
    assert_string_equal(ctl_member(document, "done"), "release");
    json_object_put(document);
    ctl_ends(1, ctl_journal_tool("--json drop A1B2C3D4E505"));
    document = ctl_parsed();
    ctl_has(ctl_member(document, "error"), "the server is at it");
    json_object_put(document);
    ctl_ends(2, ctl_tool("--json journal frob"));
    document = ctl_parsed();
    ctl_has(ctl_member(document, "error"), "frob");
    json_object_put(document);
}

static void ok_counts(void **state)
{
    json_object *counts = NULL;
    (void)state;
    ctl_ends(0, ctl_journal_tool("counts"));
    ctl_has(ctl_out, "LOCATION  STATE");
    ctl_has(ctl_out, "profile   failed    failure  3");
    ctl_ends(0, ctl_journal_tool("counts --json"));
    json_object *document = ctl_parsed();
    assert_true(json_object_object_get_ex(document, "counts", &counts));
    assert_int_equal(json_object_array_length(counts), 5);
    json_object_put(document);
}

static void ok_orphans(void **state)
{
    const char *arguments = apr_pstrcat(ctl_pool, "orphans --location profile --issued ", ctl_path("serials"), NULL);
    json_object *orphans = NULL;
    (void)state;
    ctl_write_file("serials", "0A01\n0a02\r\n a03 \n\nserial=0B01\n0x0c:0D\n000B01\n"
                              "FFFF0000111122223333444455556666777788889999\n0\n0A04");
    ctl_ends(0, ctl_journal_tool(arguments));
    assert_string_equal(ctl_out, "0B01\n0C0D\nFFFF0000111122223333444455556666777788889999\n00\n0A04\n");
    ctl_has(ctl_err, "5 of 9 serials");
    ctl_ends(0, ctl_journal_tool(apr_pstrcat(ctl_pool, "--json ", arguments, NULL)));
    json_object *document = ctl_parsed();
    assert_true(json_object_object_get_ex(document, "orphans", &orphans));
    assert_int_equal(json_object_array_length(orphans), 5);
    assert_string_equal(ctl_member(document, "issued"), "9");
    json_object_put(document);
    ctl_ends(0, ctl_journal_tool("orphans --location profile --issued - </dev/null"));
    assert_string_equal(ctl_out, "");
    ctl_refuses(1, "orphans --location other --issued /dev/null", "no row of a location other");
    ctl_refuses(3, "orphans --location profile --issued /nonexistent", "/nonexistent cannot be read: No such file");
    ctl_refuses(3, "orphans --location profile --issued /", "/ cannot be read: Is a directory");
}

static void fail_orphans_that_are_no_serials(void **state)
{
    static const char *const rows[][2] = {{"0A01\n12G4\n", "line 2: 12G4 is no serial"},
                                          {"-5\n", "line 1: -5 is"},
                                          {"serial=\n", "serial= is"},
                                          {":01\n", ":01 is"},
                                          {"a\x1b[0m\n", "a\\x1b[0m is"}};
    const char *arguments = apr_pstrcat(ctl_pool, "orphans --location profile --issued ", ctl_path("serials"), NULL);
    char longest[400];
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        ctl_write_file("serials", rows[i][0]);
        ctl_refuses(1, arguments, rows[i][1]);
    }
    memset(longest, 'A', sizeof(longest));
    longest[sizeof(longest) - 1] = '\0';
    ctl_write_file("serials", longest);
    ctl_refuses(1, arguments, "line 1: AAA");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CTL_TEST(ok_list),
        CTL_TEST(ok_list_json),
        CTL_TEST(ok_show),
        CTL_TEST(ok_release),
        CTL_TEST(ok_retry),
        CTL_TEST(ok_drop),
        CTL_TEST(ok_decisions_in_json),
        CTL_TEST(ok_counts),
        CTL_TEST(ok_orphans),
        CTL_TEST(fail_orphans_that_are_no_serials),
    };
    if (ctl_start()) {
        return 1;
    }
    return ctl_finish(cmocka_run_group_tests(tests, NULL, NULL));
}
