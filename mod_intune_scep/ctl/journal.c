/* SPDX-License-Identifier: Apache-2.0 */
/* The group `journal`: opens it, and passes an operator's decisions on to it. */
#include "ctl/journal_ctl.h"

#include "ctl/files.h"

#include "base/secret.h"

#include <apr_strings.h>
#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>

enum { TEXT_SHOWN = 200 };

enum { OPTION_JOURNAL, OPTION_STATE_KEY, OPTION_STATE_DIR, OPTION_LOCATION, OPTION_ISSUED };
static const ctl_option_t options[] = {
    [OPTION_JOURNAL] = {"journal", "PLACE",
                        "sqlite3:/FILE, pgsql:CONNECTION, or file:PATH, env:NAME, exec:COMMAND for either; default: "
                        "DIR/journal.sqlite"},
    [OPTION_STATE_KEY] = {"state-key", "SPEC", "the server's state key: file:PATH, env:NAME or exec:COMMAND"},
    [OPTION_STATE_DIR] = {"state-dir", "DIR", "the server's state directory: its state.key is the state key"},
    [OPTION_LOCATION] = {"location", "NAME", "orphans: the location's IntuneScepName"},
    [OPTION_ISSUED] = {"issued", "FILE",
                       "orphans: the serials that the CA issued, one a line, hexadecimal; - is the "
                       "standard input"},
    {NULL, NULL, NULL}};

static const ctl_action_t actions[] = {
    {"list", "[WORD]", "rows that need somebody; or whose id, transactionID or serial is WORD"},
    {"show", "ID", "everything about a row, with its certificate"},
    {"release", "ID", "deliver a certificate that is withheld, or whose report is dead, without the report"},
    {"retry", "ID", "send its report to Intune now, or again"},
    {"drop", "ID", "forget the row, whatever it owes"},
    {"counts", "", "how many rows are in which state"},
    {"orphans", "--location NAME --issued FILE", "serials of the CA that the journal does not know"},
    {NULL, NULL, NULL}};

/* The decisions. */

typedef struct decision_t {
    const char *name;
    apr_status_t (*decide)(journal_t *journal, const char *id, apr_pool_t *pool, const char **message);
    const char *(*obstacle)(const journal_row_t *row); /* why the journal said no, as far as the row tells */
    const char *(*done)(const ctl_t *ctl, const journal_row_t *row);
} decision_t;

static const char *release_obstacle(const journal_row_t *row)
{
    return !row->certificate.len ? "it has no certificate"
           : row->state != JOURNAL_WITHHELD && row->report != JOURNAL_DEAD
               ? "its certificate is not withheld, and its report is not dead"
               : NULL;
}

static const char *release_done(const ctl_t *ctl, const journal_row_t *row)
{
    return apr_psprintf(ctl->pool,
                        "the certificate %s is released: the device gets it with its next attempt, and Intune is not "
                        "told of it",
                        ctl_shown(ctl, row->serial, TEXT_SHOWN));
}

static const char *retry_obstacle(const journal_row_t *row)
{
    return row->report == JOURNAL_DONE     ? "Intune has its report"
           : row->report == JOURNAL_WAIVED ? "its report was waived"
           : !row->csr.len ? "its certificate request is no longer there, without which nothing can be reported"
                           : NULL;
}

static const char *retry_done(const ctl_t *ctl, const journal_row_t *row)
{
    (void)ctl;
    return row->certificate.len ? "Intune is told of its certificate now" : "Intune is told of its failure now";
}

static const char *drop_obstacle(const journal_row_t *row)
{
    (void)row;
    return NULL;
}

static const char *drop_done(const ctl_t *ctl, const journal_row_t *row)
{
    bool owed = row->report == JOURNAL_OWED_SUCCESS || row->report == JOURNAL_OWED_FAILURE;
    const char *certificate = row->certificate.len
                                  ? apr_psprintf(ctl->pool, "; the certificate %s stays valid at the CA",
                                                 ctl_shown(ctl, row->serial, TEXT_SHOWN))
                                  : "";
    return apr_psprintf(ctl->pool, "the row (%s, report %s) is forgotten%s%s", journal_state_name(row->state),
                        journal_report_name(row->report), owed ? "; Intune does not get its report" : "", certificate);
}

static const decision_t decisions[] = {{"release", journal_waive, release_obstacle, release_done},
                                       {"retry", journal_report_again, retry_obstacle, retry_done},
                                       {"drop", journal_drop, drop_obstacle, drop_done}};

static ctl_exit_t refused(ctl_t *ctl, journal_t *journal, const decision_t *decision, const journal_row_t *old)
{
    journal_row_t *row = NULL;
    const char *message = NULL;
    const char *id = journal_ctl_short_id(ctl, old);
    apr_status_t rv = journal_find(journal, old->id, &row, ctl->pool, &message);
    if (rv == APR_NOTFOUND) {
        return ctl_fail(ctl, CTL_FAILED, "%s: there is no such row any longer", id);
    }
    if (rv) {
        return ctl_fail(ctl, CTL_UNUSABLE, "%s", message);
    }
    const char *why = decision->obstacle(row);
    if (!why) {
        why = row->leased ? "the server is at it: try again in a minute" : "it changed meanwhile: try again";
    }
    return ctl_fail(ctl, CTL_FAILED, "%s: %s cannot be done: %s", id, decision->name, why);
}

static ctl_exit_t decide(ctl_t *ctl, journal_t *journal, const decision_t *decision, const journal_row_t *row)
{
    const char *message = NULL;
    apr_status_t rv = decision->decide(journal, row->id, ctl->pool, &message);
    if (APR_STATUS_IS_EBUSY(rv)) {
        return refused(ctl, journal, decision, row);
    }
    if (rv) {
        return ctl_fail(ctl, CTL_UNUSABLE, "%s", message);
    }
    const char *done = decision->done(ctl, row);
    if (ctl->json) {
        json_object *document = ctl_object();
        ctl_add_text(ctl, document, "id", row->id);
        ctl_add_text(ctl, document, "done", decision->name);
        ctl_add_text(ctl, document, "message", done);
        ctl_print(ctl, document);
    } else {
        printf("%s: %s\n", journal_ctl_short_id(ctl, row), done);
    }
    return CTL_DONE;
}

/* The journal. */

/* A directory as secret_source_make() and SQLite want it. */
static const char *absolute(const ctl_t *ctl, const char *directory)
{
    char *path = realpath(directory, NULL);
    const char *copy = path ? apr_pstrdup(ctl->pool, path) : NULL;
    free(path);
    return copy;
}

/* Options become settings; what is named here is read, never made. */
static ctl_exit_t settings_make(ctl_t *ctl, const ctl_words_t *words, journal_settings_t *settings)
{
    const char *place = words->values[OPTION_JOURNAL];
    const char *key = words->values[OPTION_STATE_KEY];
    const char *given = words->values[OPTION_STATE_DIR];
    const char *directory = given ? absolute(ctl, given) : NULL;
    const char *message = NULL;
    secret_source_t *source = NULL;
    state_key_t *state_key = NULL;
    if (given && key) {
        return ctl_fail(ctl, CTL_USAGE, "--state-key and --state-dir exclude each other");
    }
    if ((!place && !given) || (!key && !given)) {
        return ctl_fail(ctl, CTL_USAGE,
                        "--state-dir is needed, or --journal with --state-dir or --state-key: see --help");
    }
    if (key && secret_is_literal(key)) {
        return ctl_fail(ctl, CTL_USAGE,
                        "--state-key must be file:PATH, env:NAME or exec:COMMAND: anybody may see a command line");
    }
    if (given && !directory) {
        return ctl_fail(ctl, CTL_UNUSABLE, "the state directory %s cannot be used: %s",
                        ctl_shown(ctl, given, TEXT_SHOWN), strerror(errno));
    }
    settings->place = place ? place : apr_pstrcat(ctl->pool, "sqlite3:", directory, "/journal.sqlite", NULL);
    if (!secret_is_literal(settings->place)) {
        if (secret_source_make(&source, ctl_specification(ctl, settings->place), ctl->pool, &message)) {
            return ctl_fail(ctl, CTL_UNUSABLE, "--journal: %s", message);
        }
        settings->place = secret_reveal(secret_source_read(source, ctl->pool));
    }
    key = key ? ctl_specification(ctl, key) : apr_pstrcat(ctl->pool, "file:", directory, "/" STATE_KEY_FILE, NULL);
    if (state_key_from_source(&state_key, key, ctl->pool, &message)) {
        return ctl_fail(ctl, CTL_UNUSABLE, "the state key: %s", message);
    }
    settings->state_key = state_key;
    settings->tag = journal_tag(ctl->pool);
    return settings->tag ? CTL_DONE : ctl_fail(ctl, CTL_FAILED, "there are no random numbers");
}

static ctl_exit_t open_journal(ctl_t *ctl, const ctl_words_t *words, journal_t **journal)
{
    journal_settings_t settings = {0};
    const char *message = NULL;
    ctl_exit_t status = settings_make(ctl, words, &settings);
    if (status) {
        return status;
    }
    if (journal_check(&settings, ctl->pool, &message) || journal_open(journal, &settings, ctl->pool, &message)) {
        return ctl_fail(ctl, CTL_UNUSABLE, "%s", message);
    }
    return CTL_DONE;
}

static const decision_t *decision_find(const char *name)
{
    for (apr_size_t i = 0; i < sizeof(decisions) / sizeof(decisions[0]); i++) {
        if (!strcmp(decisions[i].name, name)) {
            return &decisions[i];
        }
    }
    return NULL;
}

/* Before anything is opened. */
static ctl_exit_t check_words(const ctl_t *ctl, const ctl_words_t *words)
{
    const char *name = words->rest[0];
    const ctl_action_t *action = actions;
    bool orphans = name && !strcmp(name, "orphans");
    while (name && action->name && strcmp(action->name, name)) {
        action++;
    }
    if (!name || !action->name) {
        return ctl_fail(ctl, CTL_USAGE, "%s%s: list, show, release, retry, drop, counts or orphans is needed",
                        name ? "there is no subcommand journal " : "a subcommand is missing",
                        name ? ctl_shown(ctl, name, TEXT_SHOWN) : "");
    }
    bool needs_id = decision_find(name) || !strcmp(name, "show");
    int most = needs_id || !strcmp(name, "list") ? 2 : 1;
    if (words->count > most) {
        return ctl_fail(ctl, CTL_USAGE, "journal %s does not take %s", name,
                        ctl_shown(ctl, words->rest[most], TEXT_SHOWN));
    }
    if (needs_id && words->count < 2) {
        return ctl_fail(ctl, CTL_USAGE, "journal %s needs a row's id", name);
    }
    if (orphans ? !words->values[OPTION_LOCATION] || !words->values[OPTION_ISSUED]
                : words->values[OPTION_LOCATION] || words->values[OPTION_ISSUED]) {
        return ctl_fail(ctl, CTL_USAGE,
                        orphans ? "journal orphans needs --location and --issued"
                                : "--location and --issued are for journal orphans");
    }
    return CTL_DONE;
}

static ctl_exit_t run(ctl_t *ctl, const ctl_words_t *words)
{
    journal_t *journal = NULL;
    journal_row_t *row = NULL;
    const char *name = words->rest[0];
    ctl_exit_t status = check_words(ctl, words);
    if (!status) {
        status = open_journal(ctl, words, &journal);
    }
    if (status) {
        return status;
    }
    if (!strcmp(name, "list")) {
        return journal_ctl_list(ctl, journal, words->rest[1]);
    }
    if (!strcmp(name, "counts")) {
        return journal_ctl_counts(ctl, journal);
    }
    if (!strcmp(name, "orphans")) {
        return journal_ctl_orphans(ctl, journal, words->values[OPTION_LOCATION], words->values[OPTION_ISSUED]);
    }
    status = journal_ctl_find(ctl, journal, words->rest[1], &row);
    if (status) {
        return status;
    }
    const decision_t *decision = decision_find(name);
    return decision ? decide(ctl, journal, decision, row) : journal_ctl_show(ctl, row);
}

const ctl_group_t ctl_journal = {.name = "journal",
                                 .help = "what is in the gateway's journal, and an operator's decisions",
                                 .options = options,
                                 .actions = actions,
                                 .run = run};
