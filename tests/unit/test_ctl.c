/* SPDX-License-Identifier: Apache-2.0 */
/* intune-scepctl on a SQLite journal that journal.h made. */
#include "store/journal.h"

#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <apr_general.h>
#include <apr_strings.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { OUTPUT_MAX = 65536 };

#define CHALLENGE "challenge-of-a-device"
#define HOSTILE "tx\"\\\x1b[31m\n\xc3\xa4<b>"
#define HOSTILE_SHOWN "tx\\x22\\x5c\\x1b[31m\\x0a\\xc3\\xa4<b>"
/* Ids begin with this and a digit, but for the two that begin alike. */
#define ID_TAIL "0000000000000000000000000000000000000000000000000000"
#define ISSUED "A1B2C3D4E501" ID_TAIL
#define WITHHELD "A1B2C3D4E502" ID_TAIL
#define DEAD "A1B2C3D4E503" ID_TAIL
#define FAILED "A1B2C3D4E504" ID_TAIL
#define LEASED "A1B2C3D4E505" ID_TAIL
#define TWIN_1 "A1B2C3D4E5FF1" "000000000000000000000000000000000000000000000000000"
#define TWIN_2 "A1B2C3D4E5FF2" "000000000000000000000000000000000000000000000000000"

static apr_pool_t *pool;
static char folder[] = "/tmp/iscep-ctl-XXXXXX";
static const char *build;
static bytes_t certificate;
static char out[OUTPUT_MAX];
static char err[OUTPUT_MAX];

static const char *in_folder(const char *name)
{
    return apr_pstrcat(pool, folder, "/", name, NULL);
}

static void write_file(const char *name, const char *text)
{
    int fd = open(in_folder(name), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

static void read_stream(FILE *stream, char *text)
{
    text[fread(text, 1, OUTPUT_MAX - 1, stream)] = '\0';
}

/* Gives the exit status; the outputs are in `out` and `err`. */
static int tool(const char *arguments)
{
    const char *errors = in_folder("errors");
    FILE *stream = popen(apr_pstrcat(pool, build, "/intune-scepctl ", arguments, " 2>", errors, NULL), "r");
    assert_non_null(stream);
    read_stream(stream, out);
    int status = pclose(stream);
    stream = fopen(errors, "r");
    assert_non_null(stream);
    read_stream(stream, err);
    fclose(stream);
    unlink(errors);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

/* On the journal of this test. */
static int journal_tool(const char *arguments)
{
    return tool(apr_pstrcat(pool, "journal --state-dir ", folder, " ", arguments, NULL));
}

static void assert_has(const char *text, const char *words)
{
    if (!strstr(text, words)) {
        fail_msg("'%s' lacks '%s'", text, words);
    }
}

static void assert_lacks(const char *text, const char *words)
{
    if (strstr(text, words)) {
        fail_msg("'%s' has '%s'", text, words);
    }
}

static void assert_ends(int expected, int status)
{
    if (status != expected) {
        fail_msg("exit status %d instead of %d; '%s' '%s'", status, expected, out, err);
    }
}

static void assert_fails(int expected, const char *arguments, const char *words)
{
    assert_ends(expected, tool(arguments));
    assert_has(err, words);
    assert_string_equal(out, "");
}

static void assert_refuses(int expected, const char *arguments, const char *words)
{
    assert_fails(expected, apr_pstrcat(pool, "journal --state-dir ", folder, " ", arguments, NULL), words);
}

/* The one JSON document in `out`, the caller's to free. */
static json_object *parsed(void)
{
    enum json_tokener_error error = json_tokener_success;
    json_object *document = json_tokener_parse_verbose(out, &error);
    assert_int_equal(error, json_tokener_success);
    assert_non_null(document);
    assert_string_equal(strchr(out, '\n'), "\n");
    return document;
}

static const char *member(json_object *object, const char *name)
{
    json_object *value = NULL;
    if (!json_object_object_get_ex(object, name, &value)) {
        return "(none)";
    }
    return apr_pstrdup(pool, json_object_get_string(value));
}

/* The journal. */

static void make_certificate(void)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *made = X509_new();
    unsigned char *der = NULL;
    assert_true(key && made);
    assert_int_equal(X509_set_version(made, X509_VERSION_3), 1);
    ASN1_INTEGER_set(X509_get_serialNumber(made), 0x0102);
    X509_gmtime_adj(X509_getm_notBefore(made), 0);
    X509_gmtime_adj(X509_getm_notAfter(made), 86400);
    X509_NAME *name = X509_get_subject_name(made);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"a \"device\"", -1, -1, 0);
    X509_set_issuer_name(made, name);
    X509_set_pubkey(made, key);
    assert_true(X509_sign(made, key, EVP_sha256()) > 0);
    int len = i2d_X509(made, &der);
    assert_true(len > 0);
    certificate.data = apr_pmemdup(pool, der, (apr_size_t)len);
    certificate.len = (apr_size_t)len;
    OPENSSL_free(der);
    X509_free(made);
    EVP_PKEY_free(key);
}

static journal_settings_t settings(void)
{
    journal_settings_t made = {.place = apr_pstrcat(pool, "sqlite3:", folder, "/journal.sqlite", NULL)};
    state_key_t *key = NULL;
    const char *message = NULL;
    assert_int_equal(state_key_from_directory(&key, folder, geteuid(), getegid(), pool, &message), APR_SUCCESS);
    made.state_key = key;
    made.tag = journal_tag(pool);
    return made;
}

static journal_t *journal_opened(void)
{
    journal_settings_t how = settings();
    journal_t *journal = NULL;
    const char *message = NULL;
    assert_int_equal(journal_open(&journal, &how, pool, &message), APR_SUCCESS);
    return journal;
}

static journal_row_t *begin_row(journal_t *journal, const char *id, const char *transaction)
{
    journal_intent_t intent = {.id = id,
                               .location = "profile",
                               .transaction_id = transaction,
                               .key_fp = "5F",
                               .ra_fp = "6F",
                               .request_id = "request-1",
                               .csr = bytes_of_text(CHALLENGE),
                               .lease = apr_time_from_sec(3600),
                               .grace = apr_time_from_sec(3600)};
    journal_row_t *row = NULL;
    const char *message = NULL;
    if (journal_begin(journal, &intent, &row, pool, &message)) {
        fail_msg("%s: %s", id, message);
    }
    return row;
}

static void end_row(journal_t *journal, journal_row_t *row, const journal_outcome_t *outcome,
                    const journal_settlement_t *settlement)
{
    const char *message = NULL;
    assert_int_equal(journal_outcome(journal, &row, outcome, pool, &message), APR_SUCCESS);
    if (settlement) {
        assert_int_equal(journal_settle(journal, &row, settlement, pool, &message), APR_SUCCESS);
    }
}

static void fill(journal_t *journal)
{
    journal_outcome_t issued = {.state = JOURNAL_ISSUED,
                                .report_now = true,
                                .lease = apr_time_from_sec(60),
                                .certificate = certificate,
                                .certificate_fp = "AABB",
                                .node = "ca-1"};
    journal_outcome_t failed = {.state = JOURNAL_FAILED, .fail = "the CA said\n\x1b no", .due_in = apr_time_from_sec(90)};
    journal_settlement_t accepted = {.verdict = JOURNAL_ACCEPTED, .state = JOURNAL_ISSUED};
    journal_settlement_t refused = {.verdict = JOURNAL_REFUSAL,
                                    .state = JOURNAL_WITHHELD,
                                    .fail = "Intune said no",
                                    .event = "withheld",
                                    .event_detail = "serial 0A02"};
    journal_settlement_t dead = {.verdict = JOURNAL_GIVEN_UP, .state = JOURNAL_ISSUED};
    issued.serial = "0A01";
    end_row(journal, begin_row(journal, ISSUED, "tx-issued"), &issued, &accepted);
    issued.serial = "0A02";
    end_row(journal, begin_row(journal, WITHHELD, HOSTILE), &issued, &refused);
    issued.serial = "0A03";
    end_row(journal, begin_row(journal, DEAD, "tx-dead"), &issued, &dead);
    end_row(journal, begin_row(journal, FAILED, "tx-failed"), &failed, NULL);
    begin_row(journal, LEASED, "tx-leased");
    end_row(journal, begin_row(journal, TWIN_1, "tx-twin-1"), &failed, NULL);
    end_row(journal, begin_row(journal, TWIN_2, "tx-twin-2"), &failed, NULL);
}

static int begin(void **state)
{
    journal_settings_t how;
    const char *id = NULL;
    const char *message = NULL;
    (void)state;
    if (apr_pool_create(&pool, NULL)) {
        return -1;
    }
    how = settings();
    make_certificate();
    if (journal_prepare(&how, geteuid(), getegid(), &id, pool, &message)) {
        print_message("%s\n", message);
        return -1;
    }
    fill(journal_opened());
    return 0;
}

static int end(void **state)
{
    static const char *const names[] = {"journal.sqlite", "journal.sqlite-wal", "journal.sqlite-shm", "state.key",
                                        "place",          "serials",            "other.key"};
    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        unlink(in_folder(names[i]));
    }
    apr_pool_destroy(pool);
    return 0;
}

/* The subcommands. */

static void ok_help(void **state)
{
    (void)state;
    assert_ends(0, tool("--help"));
    assert_has(out, "--state-dir DIR");
    assert_ends(0, tool("journal --help"));
    assert_has(out, "orphans --location NAME --issued FILE");
    assert_ends(0, tool("journal list --help"));
    assert_ends(0, tool("--version"));
    assert_has(out, "intune-scepctl ");
    assert_ends(1, tool("--help > /dev/full"));
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
        assert_fails(2, rows[i][0], rows[i][1]);
    }
    assert_refuses(2, "show A1B2C3D4E50", "is no row's id");
    assert_refuses(2, "show A1B2C3D4E50x", "is no row's id");
    assert_refuses(2, "drop " ISSUED "0", "is no row's id");
    assert_refuses(2, "retry \"$(printf 'a\\033b')\"", "a\\x1bb is no row's id");
}

/* Below the working directory, as all other paths. */
static void ok_relative_paths(void **state)
{
    /* more of them than there are above any directory */
    const char *up = "../../../../../../../../../../../../../../../..";
    (void)state;
    write_file("its-place", apr_pstrcat(pool, "sqlite3:", folder, "/journal.sqlite\n", NULL));
    assert_ends(0, tool(apr_pstrcat(pool, "journal counts --journal file:", up, in_folder("its-place"),
                                    " --state-key file:", up, in_folder("state.key"), NULL)));
    unlink(in_folder("its-place"));
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
    write_file("other.key", "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff\n");
    write_file("place", "");
    setenv("DIR", folder, 1);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const char *words = rows[i][1];
        const char *mark = strstr(words, "$DIR");
        if (mark) {
            words = apr_pstrcat(pool, apr_pstrmemdup(pool, words, (apr_size_t)(mark - words)), folder, mark + 4, NULL);
        }
        assert_fails(3, apr_pstrcat(pool, "journal list ", rows[i][0], NULL), words);
        assert_lacks(err, "geheim");
    }
    assert_int_not_equal(access(in_folder("none"), F_OK), 0);
}

/* A state directory that has not been used yet gets neither a key nor a journal. */
static void fail_makes_nothing(void **state)
{
    const char *fresh = in_folder("fresh");
    (void)state;
    assert_int_equal(mkdir(fresh, 0700), 0);
    assert_fails(3, apr_pstrcat(pool, "journal list --state-dir ", fresh, NULL), "fresh/state.key cannot be read");
    assert_fails(3,
                 apr_pstrcat(pool, "journal list --journal sqlite3:", fresh, "/journal.sqlite --state-key file:", folder,
                             "/state.key", NULL),
                 "there is no journal at");
    assert_int_equal(rmdir(fresh), 0);
}

static void run_sql(const char *sql)
{
    database_place_t place;
    database_t *database = NULL;
    const char *message = NULL;
    apr_pool_t *own = NULL;
    assert_int_equal(apr_pool_create(&own, pool), APR_SUCCESS);
    assert_int_equal(database_place_parse(&place, settings().place, own, &message), APR_SUCCESS);
    assert_int_equal(database_make(&database, &place, NULL, NULL, 0, own), APR_SUCCESS);
    assert_int_equal(database_run(database, sql, own, &message), APR_SUCCESS);
    apr_pool_destroy(own);
}

static void fail_other_version(void **state)
{
    (void)state;
    run_sql("UPDATE iscep_meta SET value = '99' WHERE name = 'schema_version'");
    assert_refuses(3, "list", "newer version of the module (schema 99");
    run_sql("DELETE FROM iscep_meta WHERE name = 'schema_version'");
    assert_refuses(3, "list", "no journal in this database");
    run_sql("INSERT INTO iscep_meta VALUES ('schema_version', '2')");
    assert_ends(0, journal_tool("list"));
}

static void ok_list(void **state)
{
    (void)state;
    assert_ends(0, journal_tool("list"));
    assert_string_equal(err, "");
    assert_has(out, "ID            LOCATION  TRANSACTION");
    assert_has(out, "A1B2C3D4E502  profile   " HOSTILE_SHOWN);
    assert_has(out, "withheld  refused");
    assert_has(out, "0A02    event withheld: Intune said no\n");
    assert_has(out, "the CA said\\x0a\\x1b no\n");
    assert_lacks(out, "A1B2C3D4E505");
    assert_lacks(out, "A1B2C3D4E501");
    assert_lacks(out, CHALLENGE);
    assert_ends(0, journal_tool("list tx-issued"));
    assert_has(out, "\nA1B2C3D4E501  ");
    assert_lacks(out, "A1B2C3D4E502");
    assert_ends(0, journal_tool("list 0a02"));
    assert_has(out, "\nA1B2C3D4E502  ");
    assert_ends(0, journal_tool("list a1b2c3d4e5ff"));
    assert_has(out, "tx-twin-1");
    assert_has(out, "tx-twin-2");
    assert_ends(0, journal_tool("list a1b2c3d4e5ff2"));
    assert_lacks(out, "tx-twin-1");
    assert_ends(0, journal_tool("list nothing"));
    assert_has(out, "no row has this");
}

static void ok_list_json(void **state)
{
    json_object *rows = NULL;
    (void)state;
    assert_ends(0, journal_tool("list --json"));
    json_object *document = parsed();
    assert_true(json_object_object_get_ex(document, "rows", &rows));
    assert_int_equal(json_object_array_length(rows), 5);
    assert_string_equal(member(document, "complete"), "true");
    json_object *row = json_object_array_get_idx(rows, 0);
    assert_string_equal(member(row, "id"), WITHHELD);
    assert_string_equal(member(row, "transaction"), HOSTILE);
    assert_string_equal(member(row, "event_detail"), "serial 0A02");
    assert_string_equal(member(row, "certificate"), "(none)");
    json_object_put(document);
}

static void ok_show(void **state)
{
    const char *base64 = text_base64(pool, certificate);
    (void)state;
    assert_ends(0, journal_tool("show " WITHHELD));
    assert_has(out, "transactionID      " HOSTILE_SHOWN "\n");
    assert_has(out, "subject            CN=a \\x5c\\x22device\\x5c\\x22\n");
    assert_has(out, "event's detail     serial 0A02\n");
    assert_has(out, "request            kept, sealed\n");
    assert_has(out, "CA's node          ca-1\n");
    assert_has(out, "-----BEGIN CERTIFICATE-----\n");
    assert_has(out, apr_pstrcat(pool, apr_pstrndup(pool, base64, 64), "\n", apr_pstrndup(pool, base64 + 64, 64), NULL));
    assert_has(out, "\n-----END CERTIFICATE-----\n");
    assert_lacks(out, CHALLENGE);
    assert_ends(0, journal_tool("show a1b2c3d4e505"));
    assert_has(out, "the server, now    ");
    assert_has(out, "due in ");
    assert_lacks(out, "CERTIFICATE");
    assert_lacks(out, CHALLENGE);
    assert_refuses(1, "show A1B2C3D4E5FF", "2 rows have an id that begins with A1B2C3D4E5FF");
    assert_ends(0, journal_tool("show A1B2C3D4E5FF2"));
    assert_refuses(1, "show A1B2C3D4E5F0", "no row has the id A1B2C3D4E5F0");
    assert_refuses(1, "show A1B2C3D4E501" "1111111111111111111111111111111111111111111111111111", "no row has the id");
    assert_ends(0, journal_tool("--json show A1B2C3D4E502"));
    json_object *document = parsed();
    assert_string_equal(member(document, "transaction"), HOSTILE);
    assert_string_equal(member(document, "subject"), "CN=a \\\"device\\\"");
    assert_string_equal(member(document, "request_kept"), "true");
    assert_has(member(document, "certificate"), "-----BEGIN CERTIFICATE-----\nMI");
    assert_lacks(out, CHALLENGE);
    json_object_put(document);
}

/* The row of a decision, as the journal has it then. */
static const journal_row_t *row_of(const char *id)
{
    journal_row_t *row = NULL;
    const char *message = NULL;
    apr_status_t rv = journal_find(journal_opened(), id, &row, pool, &message);
    assert_true(rv == APR_SUCCESS || rv == APR_NOTFOUND);
    return row;
}

static void ok_release(void **state)
{
    (void)state;
    assert_ends(0, journal_tool("release A1B2C3D4E502"));
    assert_has(out, "A1B2C3D4E502: the certificate 0A02 is released");
    assert_int_equal(row_of(WITHHELD)->state, JOURNAL_ISSUED);
    assert_int_equal(row_of(WITHHELD)->report, JOURNAL_WAIVED);
    assert_ends(0, journal_tool("release A1B2C3D4E503"));
    assert_refuses(1, "release A1B2C3D4E502", "release cannot be done: its certificate is not withheld");
    assert_refuses(1, "release A1B2C3D4E501", "its certificate is not withheld, and its report is not dead");
    assert_refuses(1, "release A1B2C3D4E504", "it has no certificate");
}

static void ok_retry(void **state)
{
    (void)state;
    assert_ends(0, journal_tool("retry A1B2C3D4E502"));
    assert_has(out, "A1B2C3D4E502: Intune is told of its certificate now");
    assert_int_equal(row_of(WITHHELD)->report, JOURNAL_OWED_SUCCESS);
    assert_ends(0, journal_tool("retry A1B2C3D4E504"));
    assert_has(out, "told of its failure now");
    assert_true(row_of(FAILED)->due_in <= 0);
    assert_refuses(1, "retry A1B2C3D4E501", "retry cannot be done: Intune has its report");
    assert_refuses(1, "retry A1B2C3D4E505", "retry cannot be done: the server is at it");
    assert_ends(0, journal_tool("release A1B2C3D4E503"));
    assert_refuses(1, "retry A1B2C3D4E503", "its report was waived");
}

static void ok_drop(void **state)
{
    (void)state;
    assert_ends(0, journal_tool("drop A1B2C3D4E502"));
    assert_has(out, "the row (withheld, report refused) is forgotten; the certificate 0A02 stays valid at the CA");
    assert_null(row_of(WITHHELD));
    assert_refuses(1, "drop A1B2C3D4E502", "no row has the id");
    assert_ends(0, journal_tool("drop A1B2C3D4E504"));
    assert_has(out, "Intune does not get its report");
    assert_refuses(1, "drop A1B2C3D4E505", "drop cannot be done: the server is at it");
    assert_non_null(row_of(LEASED));
}

static void ok_decisions_in_json(void **state)
{
    (void)state;
    assert_ends(0, journal_tool("--json release A1B2C3D4E502"));
    json_object *document = parsed();
    assert_string_equal(member(document, "id"), WITHHELD);
    assert_string_equal(member(document, "done"), "release");
    json_object_put(document);
    assert_ends(1, journal_tool("--json drop A1B2C3D4E505"));
    document = parsed();
    assert_has(member(document, "error"), "the server is at it");
    json_object_put(document);
    assert_ends(2, tool("--json journal frob"));
    document = parsed();
    assert_has(member(document, "error"), "frob");
    json_object_put(document);
}

static void ok_counts(void **state)
{
    json_object *counts = NULL;
    (void)state;
    assert_ends(0, journal_tool("counts"));
    assert_has(out, "LOCATION  STATE");
    assert_has(out, "profile   failed    failure  3");
    assert_ends(0, journal_tool("counts --json"));
    json_object *document = parsed();
    assert_true(json_object_object_get_ex(document, "counts", &counts));
    assert_int_equal(json_object_array_length(counts), 5);
    json_object_put(document);
}

static void ok_orphans(void **state)
{
    const char *arguments = apr_pstrcat(pool, "orphans --location profile --issued ", in_folder("serials"), NULL);
    json_object *orphans = NULL;
    (void)state;
    write_file("serials", "0A01\n0a02\r\n a03 \n\nserial=0B01\n0x0c:0D\n000B01\nFFFF0000111122223333444455556666777788889999"
                          "\n0\n0A04");
    assert_ends(0, journal_tool(arguments));
    assert_string_equal(out, "0B01\n0C0D\nFFFF0000111122223333444455556666777788889999\n00\n0A04\n");
    assert_has(err, "5 of 9 serials");
    assert_ends(0, journal_tool(apr_pstrcat(pool, "--json ", arguments, NULL)));
    json_object *document = parsed();
    assert_true(json_object_object_get_ex(document, "orphans", &orphans));
    assert_int_equal(json_object_array_length(orphans), 5);
    assert_string_equal(member(document, "issued"), "9");
    json_object_put(document);
    assert_ends(0, journal_tool("orphans --location profile --issued - </dev/null"));
    assert_string_equal(out, "");
    assert_refuses(1, "orphans --location other --issued /dev/null", "no row of a location other");
    assert_refuses(3, "orphans --location profile --issued /nonexistent", "/nonexistent cannot be read: No such file");
    assert_refuses(3, "orphans --location profile --issued /", "/ cannot be read: Is a directory");
}

static void fail_orphans_that_are_no_serials(void **state)
{
    static const char *const rows[][2] = {{"0A01\n12G4\n", "line 2: 12G4 is no serial"},
                                          {"-5\n", "line 1: -5 is"},
                                          {"serial=\n", "serial= is"},
                                          {":01\n", ":01 is"},
                                          {"a\x1b[0m\n", "a\\x1b[0m is"}};
    char longest[400];
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        write_file("serials", rows[i][0]);
        assert_refuses(1, apr_pstrcat(pool, "orphans --location profile --issued ", in_folder("serials"), NULL), rows[i][1]);
    }
    memset(longest, 'A', sizeof(longest));
    longest[sizeof(longest) - 1] = '\0';
    write_file("serials", longest);
    assert_refuses(1, apr_pstrcat(pool, "orphans --location profile --issued ", in_folder("serials"), NULL), "line 1: AAA");
}

static void ok_place_and_key_from_elsewhere(void **state)
{
    const char *place = apr_pstrcat(pool, "sqlite3:", folder, "/journal.sqlite", NULL);
    (void)state;
    write_file("place", apr_pstrcat(pool, place, "\n", NULL));
    setenv("ISCEP_TEST_PLACE", place, 1);
    setenv("DIR", folder, 1);
    assert_ends(0, tool("journal list --journal file:$DIR/place --state-dir $DIR"));
    assert_ends(0, tool("journal --journal env:ISCEP_TEST_PLACE --state-key file:$DIR/state.key counts"));
    assert_ends(0, tool("journal --journal \"exec:/bin/cat $DIR/place\" --state-key \"exec:/bin/cat $DIR/state.key\" list"));
    assert_ends(0, tool("--json journal --state-dir=$DIR list"));
    assert_ends(0, tool("journal list --state-dir \"$(realpath --relative-to=. $DIR)\""));
    unsetenv("ISCEP_TEST_PLACE");
    assert_fails(3, "journal --journal env:ISCEP_TEST_PLACE --state-dir $DIR list", "no variable");
}

#define CTL_TEST(function) cmocka_unit_test_setup_teardown(function, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CTL_TEST(ok_help),
        CTL_TEST(fail_usage),
        CTL_TEST(fail_unusable),
        CTL_TEST(fail_makes_nothing),
        CTL_TEST(fail_other_version),
        CTL_TEST(ok_list),
        CTL_TEST(ok_list_json),
        CTL_TEST(ok_show),
        CTL_TEST(ok_release),
        CTL_TEST(ok_retry),
        CTL_TEST(ok_drop),
        CTL_TEST(ok_decisions_in_json),
        CTL_TEST(ok_counts),
        CTL_TEST(ok_relative_paths),
        CTL_TEST(ok_orphans),
        CTL_TEST(fail_orphans_that_are_no_serials),
        CTL_TEST(ok_place_and_key_from_elsewhere),
    };
    build = getenv("ISCEP_BUILD") ? getenv("ISCEP_BUILD") : ".";
    apr_initialize();
    if (!mkdtemp(folder)) {
        return 1;
    }
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    apr_terminate();
    return rmdir(folder) ? 1 : failed;
}
