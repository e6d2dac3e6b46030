/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl_fixture.h"

#include <apr_general.h>
#include <apr_strings.h>
#include <fcntl.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

apr_pool_t *ctl_pool;
char ctl_folder[] = "/tmp/iscep-ctl-XXXXXX";
bytes_t ctl_certificate;
char ctl_out[CTL_OUTPUT_MAX];
char ctl_err[CTL_OUTPUT_MAX];

static const char *build;

const char *ctl_path(const char *name)
{
    return apr_pstrcat(ctl_pool, ctl_folder, "/", name, NULL);
}

void ctl_write_file(const char *name, const char *text)
{
    int fd = open(ctl_path(name), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

static void read_stream(FILE *stream, char *text)
{
    text[fread(text, 1, CTL_OUTPUT_MAX - 1, stream)] = '\0';
}

int ctl_tool(const char *arguments)
{
    const char *errors = ctl_path("errors");
    FILE *stream = popen(apr_pstrcat(ctl_pool, build, "/intune-scepctl ", arguments, " 2>", errors, NULL), "r");
    assert_non_null(stream);
    read_stream(stream, ctl_out);
    int status = pclose(stream);
    stream = fopen(errors, "r");
    assert_non_null(stream);
    read_stream(stream, ctl_err);
    fclose(stream);
    unlink(errors);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

int ctl_journal_tool(const char *arguments)
{
    return ctl_tool(apr_pstrcat(ctl_pool, "journal --state-dir ", ctl_folder, " ", arguments, NULL));
}

void ctl_has(const char *text, const char *words)
{
    if (!strstr(text, words)) {
        fail_msg("'%s' lacks '%s'", text, words);
    }
}

void ctl_lacks(const char *text, const char *words)
{
    if (strstr(text, words)) {
        fail_msg("'%s' has '%s'", text, words);
    }
}

void ctl_ends(int expected, int status)
{
    if (status != expected) {
        fail_msg("exit status %d instead of %d; '%s' '%s'", status, expected, ctl_out, ctl_err);
    }
}

void ctl_fails(int expected, const char *arguments, const char *words)
{
    ctl_ends(expected, ctl_tool(arguments));
    ctl_has(ctl_err, words);
    assert_string_equal(ctl_out, "");
}

void ctl_refuses(int expected, const char *arguments, const char *words)
{
    ctl_fails(expected, apr_pstrcat(ctl_pool, "journal --state-dir ", ctl_folder, " ", arguments, NULL), words);
}

json_object *ctl_parsed(void)
{
    enum json_tokener_error error = json_tokener_success;
    json_object *document = json_tokener_parse_verbose(ctl_out, &error);
    assert_int_equal(error, json_tokener_success);
    assert_non_null(document);
    assert_string_equal(strchr(ctl_out, '\n'), "\n");
    return document;
}

const char *ctl_member(json_object *object, const char *name)
{
    json_object *value = NULL;
    if (!json_object_object_get_ex(object, name, &value)) {
        return "(none)";
    }
    return apr_pstrdup(ctl_pool, json_object_get_string(value));
}

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
    ctl_certificate.data = apr_pmemdup(ctl_pool, der, (apr_size_t)len);
    ctl_certificate.len = (apr_size_t)len;
    OPENSSL_free(der);
    X509_free(made);
    EVP_PKEY_free(key);
}

journal_settings_t ctl_settings(void)
{
    journal_settings_t made = {.place = apr_pstrcat(ctl_pool, "sqlite3:", ctl_folder, "/journal.sqlite", NULL)};
    state_key_t *key = NULL;
    const char *message = NULL;
    assert_int_equal(state_key_from_directory(&key, ctl_folder, geteuid(), getegid(), ctl_pool, &message), APR_SUCCESS);
    made.state_key = key;
    made.tag = journal_tag(ctl_pool);
    return made;
}

journal_t *ctl_journal(void)
{
    journal_settings_t how = ctl_settings();
    journal_t *journal = NULL;
    const char *message = NULL;
    assert_int_equal(journal_open(&journal, &how, ctl_pool, &message), APR_SUCCESS);
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
                               .csr = bytes_of_text(CTL_CHALLENGE),
                               .lease = apr_time_from_sec(3600),
                               .grace = apr_time_from_sec(3600)};
    journal_row_t *row = NULL;
    const char *message = NULL;
    if (journal_begin(journal, &intent, &row, ctl_pool, &message)) {
        fail_msg("%s: %s", id, message);
    }
    return row;
}

static void end_row(journal_t *journal, journal_row_t *row, const journal_outcome_t *outcome,
                    const journal_settlement_t *settlement)
{
    const char *message = NULL;
    assert_int_equal(journal_outcome(journal, &row, outcome, ctl_pool, &message), APR_SUCCESS);
    if (settlement) {
        assert_int_equal(journal_settle(journal, &row, settlement, ctl_pool, &message), APR_SUCCESS);
    }
}

static void fill(journal_t *journal)
{
    journal_outcome_t issued = {.state = JOURNAL_ISSUED,
                                .report_now = true,
                                .lease = apr_time_from_sec(60),
                                .certificate = ctl_certificate,
                                .certificate_fp = "AABB",
                                .node = "ca-1"};
    journal_outcome_t failed = {
        .state = JOURNAL_FAILED, .fail = "the CA said\n\x1b no", .due_in = apr_time_from_sec(90)};
    journal_settlement_t accepted = {.verdict = JOURNAL_ACCEPTED, .state = JOURNAL_ISSUED};
    journal_settlement_t refused = {.verdict = JOURNAL_REFUSAL,
                                    .state = JOURNAL_WITHHELD,
                                    .fail = "Intune said no",
                                    .event = "withheld",
                                    .event_detail = "serial 0A02"};
    journal_settlement_t dead = {.verdict = JOURNAL_GIVEN_UP, .state = JOURNAL_ISSUED};
    issued.serial = "0A01";
    end_row(journal, begin_row(journal, CTL_ISSUED, "tx-issued"), &issued, &accepted);
    issued.serial = "0A02";
    end_row(journal, begin_row(journal, CTL_WITHHELD, CTL_HOSTILE), &issued, &refused);
    issued.serial = "0A03";
    end_row(journal, begin_row(journal, CTL_DEAD, "tx-dead"), &issued, &dead);
    end_row(journal, begin_row(journal, CTL_FAILED, "tx-failed"), &failed, NULL);
    begin_row(journal, CTL_LEASED, "tx-leased");
    end_row(journal, begin_row(journal, CTL_TWIN_1, "tx-twin-1"), &failed, NULL);
    end_row(journal, begin_row(journal, CTL_TWIN_2, "tx-twin-2"), &failed, NULL);
}

int ctl_begin(void **state)
{
    journal_settings_t how;
    const char *id = NULL;
    const char *message = NULL;
    (void)state;
    if (apr_pool_create(&ctl_pool, NULL)) {
        return -1;
    }
    how = ctl_settings();
    make_certificate();
    if (journal_prepare(&how, geteuid(), getegid(), &id, ctl_pool, &message)) {
        print_message("%s\n", message);
        return -1;
    }
    fill(ctl_journal());
    return 0;
}

int ctl_end(void **state)
{
    static const char *const names[] = {"journal.sqlite", "journal.sqlite-wal", "journal.sqlite-shm", "state.key",
                                        "place",          "serials",            "other.key"};
    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        unlink(ctl_path(names[i]));
    }
    apr_pool_destroy(ctl_pool);
    return 0;
}

int ctl_start(void)
{
    build = getenv("ISCEP_BUILD") ? getenv("ISCEP_BUILD") : ".";
    apr_initialize();
    return mkdtemp(ctl_folder) ? 0 : 1;
}

int ctl_finish(int failed)
{
    apr_terminate();
    return rmdir(ctl_folder) ? 1 : failed;
}
