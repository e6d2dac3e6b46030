/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/check.h"

#include <apr_strings.h>

static const char STEP[] = "journal";

/* Where it is, and with which key. NULL, or what is wrong. */
static const char *place_find(const check_t *check, journal_settings_t *settings)
{
    apr_pool_t *pool = check->pool;
    const char *place = check_text(check, SETTING_JOURNAL);
    const char *directory = check_text(check, SETTING_STATE_DIR);
    const char *message = NULL;
    secret_source_t *source = NULL;
    state_key_t *key = NULL;
    if ((!place || !check_text(check, SETTING_STATE_KEY)) && !directory) {
        return "IntuneScepStateDir is missing";
    }
    settings->place = place ? place : apr_pstrcat(pool, "sqlite3:", directory, "/journal.sqlite", NULL);
    if (!secret_is_literal(settings->place)) {
        if (secret_source_make(&source, check_specification(check, SETTING_JOURNAL), pool, &message)) {
            return apr_pstrcat(pool, "IntuneScepJournal: ", message, NULL);
        }
        settings->place = secret_reveal(secret_source_read(source, pool));
    }
    const char *specification = check_text(check, SETTING_STATE_KEY)
                                    ? check_specification(check, SETTING_STATE_KEY)
                                    : apr_pstrcat(pool, "file:", directory, "/" STATE_KEY_FILE, NULL);
    if (state_key_from_source(&key, specification, pool, &message)) {
        return apr_pstrcat(pool, "the state key: ", message, NULL);
    }
    settings->state_key = key;
    settings->tag = journal_tag(pool);
    return settings->tag ? NULL : "there are no random numbers";
}

void check_journal(check_t *check)
{
    journal_settings_t settings = {0};
    const char *place = check_text(check, SETTING_JOURNAL);
    const char *message = NULL;
    if (place && !strcmp(place, "none")) {
        ctl_step(check->steps, STEP, CTL_YELLOW, "set IntuneScepJournal, or leave it out and set IntuneScepStateDir",
                 "IntuneScepJournal is none: reports are lost when Intune does not take them at once");
        return;
    }
    if (!check->configured && !place && !check->settings->set[SETTING_STATE_DIR].value) {
        ctl_step(check->steps, STEP, CTL_SKIPPED, NULL, "IntuneScepStateDir is not given");
        return;
    }
    message = place_find(check, &settings);
    if (!message && journal_check(&settings, check->pool, &message)) {
        message = message ? message : "it cannot be used";
    } else if (!message) {
        ctl_step(check->steps, STEP, CTL_GREEN, NULL, "the journal can be reached, and the state key is its own");
        return;
    }
    ctl_step(check->steps, STEP, CTL_RED,
             "a server that has not run yet has neither journal nor key; else see IntuneScepStateDir, "
             "IntuneScepStateKey and IntuneScepJournal",
             "%s", message);
}
