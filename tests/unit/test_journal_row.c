/* SPDX-License-Identifier: Apache-2.0 */
#include "journal_steps.h"

#include "base/text.h"
#include "outside_fixture.h"

#include <apr_strings.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define SECRET_CSR "csr of the challenge 0123456789"
#define SECRET_TRANSACTION "the challenge 0123456789"

static void names(void **state)
{
    static const char *const states[] = {"intent", "unknown", "pending", "issued", "failed", "withheld"};
    static const char *const reports[] = {"success", "failure", "done", "refused", "dead", "waived"};
    (void)state;
    for (int i = 0; i < 6; i++) {
        assert_string_equal(journal_state_name((journal_state_t)i), states[i]);
        assert_string_equal(journal_report_name((journal_report_t)i), reports[i]);
    }
}

static bool holds(const char *path, const char *text)
{
    static char bytes[4 << 20];
    FILE *file = fopen(path, "r");
    size_t length = file ? fread(bytes, 1, sizeof(bytes), file) : 0;
    size_t i = 0;
    bool found = false;
    for (; !found && i + strlen(text) <= length; i++) {
        found = !memcmp(bytes + i, text, strlen(text));
    }
    if (file) {
        fclose(file);
    }
    return found;
}

/* How many files hold it. */
static int search(journal_bed_t *bed, const char *text)
{
    DIR *folder = opendir(bed->folder);
    const struct dirent *entry = NULL;
    int count = 0;
    while ((entry = readdir(folder))) {
        count += holds(apr_pstrcat(bed->pool, bed->folder, "/", entry->d_name, NULL), text);
    }
    closedir(folder);
    return count;
}

static void no_request_is_readable(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    journal_row_t *row = journal_bed_row(bed, SECRET_TRANSACTION);
    assert_string_equal(apr_pstrmemdup(bed->pool, (const char *)row->csr.data, row->csr.len), SECRET_CSR);
    const char *base64 = text_base64(bed->pool, bytes_of_text(SECRET_CSR));
    if (bed->kind == DATABASE_SQLITE) {
        /* Written, and in the write-ahead log; then in the file itself. */
        for (int i = 0; i < 2; i++) {
            assert_true(search(bed, row->id) > 0);
            assert_int_equal(search(bed, SECRET_CSR), 0);
            assert_int_equal(search(bed, base64), 0);
            journal_bed_close(bed);
        }
        return;
    }
    raw_t *raw = raw_open(bed);
    const char *kept = raw_text(raw, "SELECT csr FROM iscep_journal");
    raw_close(raw);
    assert_null(strstr(kept, base64));
    assert_null(strstr(kept, "csr of"));
}

static void a_request_opens_where_it_was_put(void **state)
{
    static const struct {
        const char *name;
        const char *change; /* of the row of "T1" */
        bool opens;
    } rows[] = {
        {"ok/as it was", "csr = csr", true},
        {"fail/another row's", "csr = (SELECT csr FROM iscep_journal WHERE txid = 'T2')", false},
        {"fail/cut", "csr = substr(csr, 1, 40)", false},
        {"fail/short", "csr = 'AAAA'", false},
        {"fail/no base64", "csr = '-- %s --'", false},
        {"fail/empty", "csr = ''", false},
        {"fail/none", "csr = NULL", false},
        {"fail/longer", "csr = 'AAAA' || csr", false},
    };
    journal_bed_t *bed = journal_bed(state);
    raw_t *raw = raw_open(bed);
    const char *id = journal_bed_row(bed, "T1")->id;
    journal_bed_row(bed, "T2");
    const char *kept = raw_text(raw, "SELECT csr FROM iscep_journal WHERE txid = 'T1'");
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        raw_run(raw, "UPDATE iscep_journal SET csr = '%s' WHERE txid = 'T1'", kept);
        raw_run(raw, "UPDATE iscep_journal SET %s WHERE txid = 'T1'", rows[i].change);
        bytes_t csr = journal_bed_find(bed, id)->csr;
        if (rows[i].opens != bytes_equal(csr, bytes_of_text("csr of T1")) || (!rows[i].opens && (csr.data || csr.len))) {
            fail_msg("%s", rows[i].name);
        }
    }
    raw_close(raw);
}

static void another_key_opens_nothing(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    const char *message = "";
    const char *id = journal_bed_row(bed, "T1")->id;
    journal_row_t *row = NULL;
    journal_settings_t settings = bed->settings;
    settings.state_key = outside_key('o', bed->pool);
    assert_int_equal(journal_find(journal_bed_other(bed, &settings), id, &row, bed->pool, &message), APR_SUCCESS);
    assert_null(row->csr.data);
    assert_int_equal(row->csr.len, 0);
    assert_string_equal(row->transaction_id, "T1");
}

static void the_same_request_is_sealed_anew(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    bytes_t csr = bytes_of_text("csr");
    const char *first = journal_csr_seal(bed->journal, "id", csr, bed->pool);
    assert_string_not_equal(first, journal_csr_seal(bed->journal, "id", csr, bed->pool));
    assert_null(journal_csr_seal(bed->journal, "id", (bytes_t){NULL, 0}, bed->pool));
}

/* What a database can hold, and what the module would never write. */
static void odd_columns(void **state)
{
    static const apr_interval_time_t thousand_years = APR_INT64_C(1000) * 365 * 86400 * APR_USEC_PER_SEC;
    static const struct {
        const char *name;
        const char *milliseconds;
        apr_interval_time_t time;
        const char *tries;
        int tried;
        const char *certificate;
        const char *bytes;
    } rows[] = {
        {"ok/usual", "-1500", -1500000, "3", 3, "QUI=", "AB"},
        {"ok/none", NULL, 0, NULL, 0, NULL, NULL},
        {"odd/empty", "", 0, "", 0, "", NULL},
        {"odd/largest", "9223372036854775807", thousand_years, "9223372036854775807", INT32_MAX, "Q", NULL},
        {"odd/smallest", "-9223372036854775808", -thousand_years, "-9223372036854775808", 0, "QUI", NULL},
        {"odd/overflow of a product", "9223372036854776", thousand_years, "4294967296", INT32_MAX, "QUI==", NULL},
        {"odd/beyond 64 bits", "99999999999999999999", thousand_years, "99999999999999999999", INT32_MAX, "QU*=", NULL},
        {"odd/no number", "x", 0, "x", 0, "QQ==QQ==", NULL},
        {"odd/other alphabet", "1", 1000, "1", 1, "-_-_", NULL},
        {"odd/other bits", "1", 1000, "1", 1, "QR==", NULL},
        {"odd/line break", "1", 1000, "1", 1, "QUJD\n", NULL},
    };
    apr_pool_t *pool = NULL;
    journal_t journal = {.tag = "0123456789ABCDEF"};
    (void)state;
    apr_pool_create(&pool, NULL);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const char *column[JOURNAL_COLUMNS] = {NULL};
        column[8] = column[18] = column[19] = rows[i].milliseconds;
        column[9] = rows[i].tries;
        column[12] = rows[i].certificate;
        const journal_row_t *row = journal_row_make(&journal, column, pool);
        bytes_t wanted = rows[i].bytes ? bytes_of_text(rows[i].bytes) : (bytes_t){NULL, 0};
        if (row->due_in != rows[i].time || row->age != rows[i].time || row->idle != rows[i].time ||
            row->tries != rows[i].tried || !bytes_equal(row->certificate, wanted)) {
            fail_msg("%s: due in %" APR_TIME_T_FMT ", %d tries, %d bytes", rows[i].name, row->due_in, row->tries,
                     (int)row->certificate.len);
        }
    }
    apr_pool_destroy(pool);
}

/* Words of a later version: nobody acts on such a row. */
static void unknown_words_are_left_alone(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    const char *message = "";
    const char *id = journal_bed_row(bed, "T1")->id;
    raw_t *raw = raw_open(bed);
    raw_run(raw, "UPDATE iscep_journal SET state = 'later', report = 'later', lease_until = 0, due = 0");
    journal_intent_t intent = journal_bed_intent(bed, "T1", "csr");
    for (int purpose = JOURNAL_TO_ISSUE; purpose <= JOURNAL_TO_REPORT; purpose++) {
        journal_row_t *row = journal_bed_find(bed, id);
        assert_int_equal(
            journal_claim(bed->journal, &row, (journal_purpose_t)purpose, &intent, bed->pool, &message), APR_EBUSY);
    }
    assert_string_equal(raw_text(raw, "SELECT state FROM iscep_journal"), "later");
    raw_close(raw);
}

static void owners_that_have_died(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    const char *tag = bed->settings.tag;
    long dead = dead_process();
    const struct {
        const char *name;
        const char *owner;
        bool gone;
    } rows[] = {
        {"this process", apr_psprintf(bed->pool, "%s-%ld-AB", tag, (long)getpid()), false},
        {"somebody else's process", apr_psprintf(bed->pool, "%s-1-AB", tag), false},
        {"a dead one", apr_psprintf(bed->pool, "%s-%ld-AB", tag, dead), true},
        {"another generation's", apr_psprintf(bed->pool, "0000000000000000-%ld-AB", dead), false},
        {"no process", apr_psprintf(bed->pool, "%s--AB", tag), false},
        {"all processes", apr_psprintf(bed->pool, "%s-0-AB", tag), false},
        {"a group", apr_psprintf(bed->pool, "%s--%ld-AB", tag, dead), false},
        {"too large", apr_psprintf(bed->pool, "%s-99999999999999999999-AB", tag), false},
        {"no random part", apr_psprintf(bed->pool, "%s-%ld", tag, dead), false},
        {"the tag only", tag, false},
        {"short", "AB", false},
        {"empty", "", false},
    };
    const char *id = journal_bed_row(bed, "T1")->id;
    raw_t *raw = raw_open(bed);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        raw_run(raw, "UPDATE iscep_journal SET owner = '%s'", rows[i].owner);
        const journal_row_t *row = journal_bed_find(bed, id);
        if (row->owner_gone != rows[i].gone || !row->leased) {
            fail_msg("%s", rows[i].name);
        }
    }
    raw_run(raw, "UPDATE iscep_journal SET lease_until = 0, owner = '%s-%ld-AB'", tag, dead);
    assert_false(journal_bed_find(bed, id)->owner_gone);
    raw_close(raw);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names),
        JOURNAL_TEST(no_request_is_readable),
        JOURNAL_TEST(a_request_opens_where_it_was_put),
        JOURNAL_TEST(another_key_opens_nothing),
        JOURNAL_TEST_SQLITE(the_same_request_is_sealed_anew),
        cmocka_unit_test(odd_columns),
        JOURNAL_TEST(unknown_words_are_left_alone),
        JOURNAL_TEST(owners_that_have_died),
    };
    int failed;

    apr_initialize();
    failed = cmocka_run_group_tests_name("journal_row", tests, NULL, journal_beds_end);
    apr_terminate();
    return failed;
}
