/* SPDX-License-Identifier: Apache-2.0 */
/* The command `check`: from the configuration, or from options, to one verdict for each step on the way of a device. */
#include "ctl/check.h"

#include "base/clock.h"
#include "base/command.h"
#include "base/json.h"
#include "base/text.h"

#include <apr_file_info.h>
#include <apr_strings.h>
#include <apr_user.h>
#include <json-c/json.h>
#include <stdio.h>

enum {
    OPTION_CONFIG,
    OPTION_LOCATION,
    OPTION_SERVER_ROOT,
    OPTION_NO_STRANGER,
    OPTION_STRICT,
    OPTION_TRUST,
    OPTION_CLIENT
};
static const ctl_option_t options[] = {
    [OPTION_CONFIG] = {"config", "FILE", "the server's configuration, with all that it includes"},
    [OPTION_LOCATION] = {"location", "WORD", "only the location of this path or IntuneScepName; default: all"},
    [OPTION_SERVER_ROOT] = {"server-root", "DIR", "ServerRoot where FILE does not set it; default: FILE's directory"},
    [OPTION_NO_STRANGER] = {"no-stranger", NULL, "do not try whether the CA issues to a stranger"},
    [OPTION_STRICT] = {"strict", NULL, "yellow counts as red"},
    [OPTION_TRUST] = {"trust", "FILE",
                      "PEM file of the CAs to trust towards an https CA; default: SSLProxyCACertificateFile"},
    [OPTION_CLIENT] =
        {"client", "FILE",
         "PEM file with certificate and key to present to the CA; default: SSLProxyMachineCertificateFile"},
    {NULL, NULL, NULL}};

/* Where values of the command line come from, in place of a file. */
static const char COMMAND_LINE[] = "command line";

const char *check_text(const check_t *check, setting_id_t id)
{
    return setting_text(check->settings, id);
}

const char *check_path(const check_t *check, setting_id_t id, const char *path)
{
    char *merged = NULL;
    if (check->settings->set[id].file == COMMAND_LINE) {
        return apr_filepath_merge(&merged, NULL, path, APR_FILEPATH_TRUENAME, check->pool) ? path : merged;
    }
    const char *below = setting_path(check->root, path, check->pool);
    return below ? below : path;
}

const char *check_specification(const check_t *check, setting_id_t id)
{
    const char *given = check_text(check, id);
    return strncmp(given, "file:", 5) ? given
                                      : apr_pstrcat(check->pool, "file:", check_path(check, id, given + 5), NULL);
}

ctl_colour_t check_expiry(const check_t *check, X509 *certificate, const char **text)
{
    certificate_facts_t facts;
    if (certificate_facts(&facts, certificate, check->pool)) {
        *text = "with unreadable dates";
        return CTL_RED;
    }
    apr_int64_t days = apr_time_sec(facts.expires - clock_now()) / 86400;
    bool over = facts.expires <= clock_now();
    *text =
        over ? apr_psprintf(check->pool, "expired on %s", json_time(facts.expires, check->pool))
             : apr_psprintf(check->pool, "valid until %s (%d days)", json_time(facts.expires, check->pool), (int)days);
    return over || days < CHECK_RED_DAYS ? CTL_RED : days < CHECK_YELLOW_DAYS ? CTL_YELLOW : CTL_GREEN;
}

const char *check_subject(const check_t *check, X509 *certificate)
{
    certificate_facts_t facts;
    return certificate_facts(&facts, certificate, check->pool)
               ? "(unreadable)"
               : apr_pstrcat(check->pool, "\"", text_escape(check->pool, facts.subject, CHECK_SHOWN), "\"", NULL);
}

/* One location. */

static json_object *check_run(check_t *check, const char *name, const apr_array_header_t *faults, bool stranger)
{
    check->steps = ctl_steps_make(check->ctl);
    if (!check->ctl->json) {
        printf("%s\n", ctl_shown(check->ctl, name, CHECK_SHOWN));
    }
    check_settings(check, faults);
    check_microsoft(check);
    check_ra(check);
    check_ca(check);
    if (stranger) {
        check_stranger(check);
    } else {
        ctl_step(check->steps, "stranger", CTL_SKIPPED, NULL, "--no-stranger");
    }
    check_journal(check);
    if (!check->ctl->json) {
        return NULL;
    }
    json_object *object = ctl_object();
    ctl_add_text(check->ctl, object, "location", name);
    ctl_add_text(check->ctl, object, "status", ctl_colour_name(check->steps->worst));
    ctl_add(object, "steps", ctl_steps_take(check->steps));
    return object;
}

typedef struct check_all_t {
    ctl_t *ctl;
    const ctl_words_t *words;
    scep_engine_t *engine;
    const conf_t *conf; /* or NULL: options only */
    settings_t *given;  /* on the command line */
    json_object *locations;
    ctl_colour_t worst;
} check_all_t;

static bool is_given(const check_all_t *all, setting_id_t id)
{
    return all->given->set[id].value != NULL;
}

/* As the server will look at the files of keys, and run commands. */
static void say_server_user(const conf_t *conf, apr_pool_t *pool)
{
    apr_uid_t user = 0;
    apr_gid_t group = 0;
    if (conf && conf->user && !apr_uid_get(&user, &group, conf->user, pool)) {
        apr_gid_t given = 0;
        group = conf->group && !apr_gid_get(&given, conf->group, pool) ? given : group;
        secret_server_user(user);
        command_server_user(user, group, conf->user);
    }
}

static void check_one(check_all_t *all, const conf_location_t *location)
{
    check_t check = {.ctl = all->ctl, .pool = all->ctl->pool, .engine = all->engine};
    const char *const *values = all->words->values;
    const char *trust = values[OPTION_TRUST];
    const char *client = values[OPTION_CLIENT];
    check.settings =
        location ? settings_merge(check.pool, (void *)(apr_uintptr_t)location->settings, all->given) : all->given;
    check.root = all->conf ? all->conf->root : "/";
    check.configured = location != NULL;
    check.backend =
        location && !is_given(all, SETTING_BACKEND) ? location->backend : check_text(&check, SETTING_BACKEND);
    check.balanced = location && !is_given(all, SETTING_BACKEND) && location->balanced;
    check.user = all->conf ? all->conf->user : NULL;
    check.group = all->conf ? all->conf->group : NULL;
    check.modules = all->conf ? all->conf->modules : NULL;
    check.macros = all->conf && all->conf->macros;
    check.engine_on = location && location->tls.engine_on;
    check.unverified = location && !location->tls.verified;
    check.tls.ca_file = trust ? trust : location ? location->tls.ca_file : NULL;
    check.tls.client_certificate = client ? client : location ? location->tls.certificate : NULL;
    say_server_user(all->conf, check.pool);
    json_object *object = check_run(&check, location ? location->name : "options", all->conf ? all->conf->faults : NULL,
                                    !values[OPTION_NO_STRANGER]);
    if (object) {
        json_object_array_add(all->locations, object);
    }
    all->worst = check.steps->worst > all->worst ? check.steps->worst : all->worst;
}

static bool is_wanted(const conf_location_t *location, const char *word)
{
    return !word || !strcmp(location->path, word) || !strcmp(location->name, word);
}

/* Gives how many there were. */
static int check_locations(check_all_t *all)
{
    int count = 0;
    for (int i = 0; i < all->conf->locations->nelts; i++) {
        const conf_location_t *location = APR_ARRAY_IDX(all->conf->locations, i, const conf_location_t *);
        if (is_wanted(location, all->words->values[OPTION_LOCATION])) {
            if (count++ && !all->ctl->json) {
                putchar('\n');
            }
            check_one(all, location);
        }
    }
    return count;
}

/* The command line. */

static ctl_exit_t options_take(check_all_t *all)
{
    apr_pool_t *pool = all->ctl->pool;
    char *directory = NULL;
    all->given = settings_create(pool, NULL);
    if (apr_filepath_get(&directory, 0, pool)) {
        directory = apr_pstrdup(pool, "/");
    }
    setting_place_t place = {directory, COMMAND_LINE, 0};
    for (int id = 0; id < SETTING_COUNT; id++) {
        const char *value = all->words->settings[id];
        if (!value) {
            continue;
        }
        /* The second argument of those that take one stands behind a blank, as in the configuration. */
        const char *blank = id == SETTING_APP_CERTIFICATE || id == SETTING_RA_FORMER ? strchr(value, ' ') : NULL;
        const char *values[] = {blank ? apr_pstrmemdup(pool, value, (apr_size_t)(blank - value)) : value,
                                blank ? blank + 1 : NULL};
        if (setting_holds_secret((setting_id_t)id, value)) {
            return ctl_fail(all->ctl, CTL_USAGE,
                            "%s must be file:PATH, env:NAME or exec:COMMAND: anybody may see a command line",
                            setting_name((setting_id_t)id));
        }
        const char *wrong = setting_take(all->given, (setting_id_t)id, blank ? 2 : 1, values, &place, pool);
        if (wrong) {
            return ctl_fail(all->ctl, CTL_USAGE, "%s", wrong);
        }
    }
    return CTL_DONE;
}

static ctl_exit_t prepare(check_all_t *all)
{
    const char *const *values = all->words->values;
    const char *message = NULL;
    result_t *result = result_make(all->ctl->pool);
    if (all->words->count) {
        return ctl_fail(all->ctl, CTL_USAGE, "check does not take %s: see --help",
                        ctl_shown(all->ctl, all->words->rest[0], CHECK_SHOWN));
    }
    if (!values[OPTION_CONFIG] && (values[OPTION_LOCATION] || values[OPTION_SERVER_ROOT])) {
        return ctl_fail(all->ctl, CTL_USAGE, "--location and --server-root go with --config");
    }
    ctl_exit_t status = options_take(all);
    if (status) {
        return status;
    }
    if (!values[OPTION_CONFIG] && !all->given->touched) {
        return ctl_fail(all->ctl, CTL_USAGE, "--config is needed, or values as options: see check --help");
    }
    if (scep_engine_make(&all->engine, all->ctl->pool, result)) {
        return ctl_fail(all->ctl, CTL_FAILED, "%s", result->detail ? result->detail : "OpenSSL cannot be used");
    }
    if (values[OPTION_CONFIG]) {
        conf_t *conf = NULL;
        if (conf_read(&conf, values[OPTION_CONFIG], values[OPTION_SERVER_ROOT], all->ctl->pool, &message)) {
            return ctl_fail(all->ctl, CTL_UNUSABLE, "%s", message);
        }
        all->conf = conf;
    }
    return CTL_DONE;
}

static ctl_exit_t nothing_found(const check_all_t *all)
{
    const char *word = all->words->values[OPTION_LOCATION];
    const apr_array_header_t *faults = all->conf->faults;
    json_object_put(all->locations);
    if (faults->nelts) {
        return ctl_fail(all->ctl, CTL_UNUSABLE, "%s", APR_ARRAY_IDX(faults, 0, const char *));
    }
    return word ? ctl_fail(all->ctl, CTL_UNUSABLE,
                           "no location with the path or name %s is switched on in the configuration",
                           ctl_shown(all->ctl, word, CHECK_SHOWN))
                : ctl_fail(all->ctl, CTL_UNUSABLE, "IntuneScep On is nowhere in the configuration%s",
                           all->conf->macros ? ", unless a macro has it: Use is not followed" : "");
}

static ctl_exit_t run(ctl_t *ctl, const ctl_words_t *words)
{
    check_all_t all = {.ctl = ctl, .words = words, .worst = CTL_GREEN};
    ctl_exit_t status = prepare(&all);
    if (status) {
        return status;
    }
    all.locations = ctl->json ? json_object_new_array() : NULL;
    if (!all.conf) {
        check_one(&all, NULL);
    } else if (!check_locations(&all)) {
        return nothing_found(&all);
    }
    if (ctl->json) {
        json_object *document = ctl_object();
        ctl_add_text(ctl, document, "status", ctl_colour_name(all.worst));
        ctl_add(document, "locations", all.locations);
        ctl_print(ctl, document);
    }
    return all.worst == CTL_RED || (all.worst == CTL_YELLOW && words->values[OPTION_STRICT]) ? CTL_FAILED : CTL_DONE;
}

const ctl_group_t ctl_check = {.name = "check",
                               .help = "is everything there for devices to enrol: credential, Intune, RA, CA, journal",
                               .options = options,
                               .run = run,
                               .arguments = "--config FILE | VALUES AS OPTIONS",
                               .with_settings = true};
