/* SPDX-License-Identifier: Apache-2.0 */
/* intune-scepctl: its command line, and which journal it takes. */
#include "ctl_fixture.h"

#include <apr_strings.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static void ok_help(void **state)
{
    (void)state;
    ctl_ends(0, ctl_tool("--help"));
    ctl_has(ctl_out, "--state-dir DIR");
    ctl_ends(0, ctl_tool("journal --help"));
    ctl_has(ctl_out, "orphans --location NAME --issued FILE");
    ctl_ends(0, ctl_tool("journal list --help"));
    ctl_ends(0, ctl_tool("--version"));
    ctl_has(ctl_out, "intune-scepctl ");
    ctl_ends(1, ctl_tool("--help > /dev/full"));
}

static void fail_usage(void **state)
{
    static const char *const rows[][2] = {
        {"", "a command is missing"},
        {"jornal list", "no command jornal"},
        {"--frob journal list", "no option --frob"},
        {"journal", "a subcommand is missing"},
        {"journal lst --state-dir /", "no subcommand journal lst"},
        {"journal list", "--state-dir is needed"},
        {"journal list --journal sqlite3:/x", "--state-dir is needed"},
        {"journal list --state-key file:/x", "--state-dir is needed"},
        {"journal list --state-dir /x --state-key file:/x", "exclude each other"},
        {"journal list --journal sqlite3:/x --state-key 0123456789abcdef0123456789abcdef", "anybody may see"},
        {"journal list --journal", "--journal needs a value"},
        {"journal list --json=yes", "takes no value"},
        {"journal list --frob", "no option --frob"},
        {"journal list --state-dir /x --state-dir /y", "--state-dir is given twice"},
        {"journal list a b --state-dir /x", "does not take b"},
        {"journal counts a --state-dir /x", "does not take a"},
        {"journal show --state-dir /x", "needs a row's id"},
        {"journal drop --state-dir /x", "needs a row's id"},
        {"journal orphans --state-dir /x --location a", "needs --location and --issued"},
        {"journal list --state-dir /x --location a", "are for journal orphans"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        ctl_fails(2, rows[i][0], rows[i][1]);
    }
    ctl_refuses(2, "show A1B2C3D4E50", "is no row's id");
    ctl_refuses(2, "show A1B2C3D4E50x", "is no row's id");
    ctl_refuses(2, "drop " CTL_ISSUED "0", "is no row's id");
    ctl_refuses(2, "retry \"$(printf 'a\\033b')\"", "a\\x1bb is no row's id");
}

/* Below the working directory, as all other paths. */
static void ok_relative_paths(void **state)
{
    /* more of them than there are above any directory */
    const char *up = "../../../../../../../../../../../../../../../..";
    (void)state;
    ctl_write_file("its-place", apr_pstrcat(ctl_pool, "sqlite3:", ctl_folder, "/journal.sqlite\n", NULL));
    ctl_ends(0, ctl_tool(apr_pstrcat(ctl_pool, "journal counts --journal file:", up, ctl_path("its-place"),
                                    " --state-key file:", up, ctl_path("state.key"), NULL)));
    unlink(ctl_path("its-place"));
}

static void fail_unusable(void **state)
{
    static const char *const rows[][2] = {
        {"--state-dir /nonexistent", "/nonexistent cannot be used: No such file"},
        {"--state-dir $DIR --journal mysql:x", "must be sqlite3:"},
        {"--state-dir $DIR --journal sqlite3:$DIR/none", "there is no journal at $DIR/none: No such file"},
        {"--state-dir $DIR --journal sqlite3:/dev/null", "not a regular file"},
        {"--state-dir $DIR --journal sqlite3:$DIR/state.key", "file is not a database"},
        {"--state-dir $DIR --journal sqlite3:$DIR/place", "no journal in this database"},
        {"--state-dir $DIR --journal file:$DIR/none", "$DIR/none cannot be read"},
        {"--state-dir $DIR --journal 'pgsql:host=127.0.0.1 port=1 password=geheim'", "onnection refused"},
        {"--journal sqlite3:$DIR/journal.sqlite --state-key file:$DIR/none", "the state key: $DIR/none cannot be read"},
        {"--journal sqlite3:$DIR/journal.sqlite --state-key file:$DIR/other.key", "another state key"},
    };
    (void)state;
    ctl_write_file("other.key", "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff\n");
    ctl_write_file("place", "");
    setenv("DIR", ctl_folder, 1);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const char *words = rows[i][1];
        const char *mark = strstr(words, "$DIR");
        if (mark) {
            words = apr_pstrcat(ctl_pool, apr_pstrmemdup(ctl_pool, words, (apr_size_t)(mark - words)), ctl_folder,
                                mark + 4, NULL);
        }
        ctl_fails(3, apr_pstrcat(ctl_pool, "journal list ", rows[i][0], NULL), words);
        ctl_lacks(ctl_err, "geheim");
    }
    assert_int_not_equal(access(ctl_path("none"), F_OK), 0);
}

/* A state directory that has not been used yet gets neither a key nor a journal. */
static void fail_makes_nothing(void **state)
{
    const char *fresh = ctl_path("fresh");
    (void)state;
    assert_int_equal(mkdir(fresh, 0700), 0);
    ctl_fails(3, apr_pstrcat(ctl_pool, "journal list --state-dir ", fresh, NULL), "fresh/state.key cannot be read");
    ctl_fails(3,
                 apr_pstrcat(ctl_pool, "journal list --journal sqlite3:", fresh, "/journal.sqlite --state-key file:",
                             ctl_folder, "/state.key", NULL),
                 "there is no journal at");
    assert_int_equal(rmdir(fresh), 0);
}

static void run_sql(const char *sql)
{
    database_place_t place;
    database_t *database = NULL;
    const char *message = NULL;
    apr_pool_t *own = NULL;
    assert_int_equal(apr_pool_create(&own, ctl_pool), APR_SUCCESS);
    assert_int_equal(database_place_parse(&place, ctl_settings().place, own, &message), APR_SUCCESS);
    assert_int_equal(database_make(&database, &place, NULL, NULL, 0, own), APR_SUCCESS);
    assert_int_equal(database_run(database, sql, own, &message), APR_SUCCESS);
    apr_pool_destroy(own);
}

static void fail_other_version(void **state)
{
    (void)state;
    run_sql("UPDATE iscep_meta SET value = '99' WHERE name = 'schema_version'");
    ctl_refuses(3, "list", "newer version of the module (schema 99");
    run_sql("DELETE FROM iscep_meta WHERE name = 'schema_version'");
    ctl_refuses(3, "list", "no journal in this database");
    run_sql("INSERT INTO iscep_meta VALUES ('schema_version', '2')");
    ctl_ends(0, ctl_journal_tool("list"));
}

static void ok_place_and_key_from_elsewhere(void **state)
{
    const char *place = apr_pstrcat(ctl_pool, "sqlite3:", ctl_folder, "/journal.sqlite", NULL);
    (void)state;
    ctl_write_file("place", apr_pstrcat(ctl_pool, place, "\n", NULL));
    setenv("ISCEP_TEST_PLACE", place, 1);
    setenv("DIR", ctl_folder, 1);
    ctl_ends(0, ctl_tool("journal list --journal file:$DIR/place --state-dir $DIR"));
    ctl_ends(0, ctl_tool("journal --journal env:ISCEP_TEST_PLACE --state-key file:$DIR/state.key counts"));
    ctl_ends(0, ctl_tool("journal --journal \"exec:/bin/cat $DIR/place\" --state-key \"exec:/bin/cat $DIR/state.key\" "
                         "list"));
    ctl_ends(0, ctl_tool("--json journal --state-dir=$DIR list"));
    ctl_ends(0, ctl_tool("journal list --state-dir \"$(realpath --relative-to=. $DIR)\""));
    unsetenv("ISCEP_TEST_PLACE");
    ctl_fails(3, "journal --journal env:ISCEP_TEST_PLACE --state-dir $DIR list", "no variable");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CTL_TEST(ok_help),
        CTL_TEST(fail_usage),
        CTL_TEST(fail_unusable),
        CTL_TEST(fail_makes_nothing),
        CTL_TEST(fail_other_version),
        CTL_TEST(ok_relative_paths),
        CTL_TEST(ok_place_and_key_from_elsewhere),
    };
    if (ctl_start()) {
        return 1;
    }
    return ctl_finish(cmocka_run_group_tests(tests, NULL, NULL));
}
