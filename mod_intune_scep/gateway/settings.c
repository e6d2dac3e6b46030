/* SPDX-License-Identifier: Apache-2.0 */
/* before httpd's headers, whose HTTP_OK is another one */
#include "gateway/status.h"

#include "settings.h"

#include "base/command.h"
#include "base/secret.h"
#include "base/text.h"
#include "scep/engine.h"
#include "scep/http_side.h"

#include <apr_cstr.h>
#include <apr_file_info.h>
#include <apr_lib.h>
#include <apr_strings.h>
#include <apr_uri.h>
#include <arpa/inet.h>
#include <errno.h>
#include <regex.h>
#include <stdlib.h>
#include <string.h>

typedef struct setting_facts_t setting_facts_t;
struct setting_facts_t {
    const char *name;
    setting_scope_t scope;
    const char *(*check)(const setting_facts_t *facts, const char *value, apr_pool_t *pool);
    long low;
    long high;
    const char *fallback;
};

const cloud_t *setting_cloud(const char *name)
{
    static const cloud_t CLOUDS[] = {
        {"public", "https://login.microsoftonline.com/", "https://graph.microsoft.com/",
         "https://api.manage.microsoft.com/"},
        {"usgov", "https://login.microsoftonline.us/", "https://graph.microsoft.us/",
         "https://api.manage.microsoft.us/"},
        {"china", "https://login.partner.microsoftonline.cn/", "https://microsoftgraph.chinacloudapi.cn/",
         "https://api.manage.microsoftonline.cn/"},
    };
    for (size_t i = 0; i < sizeof(CLOUDS) / sizeof(CLOUDS[0]); i++) {
        if (!strcmp(CLOUDS[i].name, name)) {
            return &CLOUDS[i];
        }
    }
    return NULL;
}

static const char *check_FLAG(const setting_facts_t *facts, const char *value, apr_pool_t *pool)
{
    return apr_cstr_casecmp(value, "on") && apr_cstr_casecmp(value, "off")
               ? apr_psprintf(pool, "%s must be On or Off, not \"%s\"", facts->name, value)
               : NULL;
}

static const char *check_TEXT(const setting_facts_t *facts, const char *value, apr_pool_t *pool)
{
    apr_size_t length = strlen(value);
    if (length < (apr_size_t)facts->low || length > (apr_size_t)facts->high) {
        return apr_psprintf(pool, "%s must have %ld to %ld characters, not %" APR_SIZE_T_FMT, facts->name,
                            facts->low, facts->high, length);
    }
    const char *wrong = strcmp(text_cut_utf8(pool, value, length), value) ? "be UTF-8, as JSON is" : NULL;
    for (const char *c = value; *c && !wrong; c++) {
        wrong = apr_iscntrl(*c) ? "not hold control characters" : NULL;
    }
    return wrong ? apr_psprintf(pool, "%s must %s", facts->name, wrong) : NULL;
}

/* Words become part of URLs. */
static const char *check_WORD(const setting_facts_t *facts, const char *value, apr_pool_t *pool)
{
    const char *wrong = check_TEXT(facts, value, pool);
    for (const char *c = value; !wrong && *c; c++) {
        if (!apr_isalnum(*c) && !strchr("-._", *c)) {
            wrong = apr_psprintf(pool, "%s must hold letters, digits, \"-\", \".\" and \"_\" only, not \"%s\"",
                                 facts->name, value);
        }
    }
    return wrong;
}

static const char *check_SECRET(const setting_facts_t *facts, const char *value, apr_pool_t *pool)
{
    apr_size_t length = strlen(value);
    return length < (apr_size_t)facts->low || length > (apr_size_t)facts->high
               ? apr_psprintf(pool, "%s must have %ld to %ld characters", facts->name, facts->low, facts->high)
               : NULL;
}

static const char *check_NUMBER(const setting_facts_t *facts, const char *value, apr_pool_t *pool)
{
    char *end = NULL;
    apr_int64_t number = apr_strtoi64(value, &end, 10);
    return !apr_isdigit(*value) || *end || number < facts->low || number > facts->high
               ? apr_psprintf(pool, "%s must be a whole number from %ld to %ld, not \"%s\"", facts->name,
                              facts->low, facts->high, value)
               : NULL;
}

/* As httpd reads times: whole numbers, seconds unless another unit stands behind, whose first letters count. */
static bool duration_read(const char *text, apr_interval_time_t *duration)
{
    static const struct {
        const char *name;
        apr_interval_time_t length;
    } UNITS[] = {{"s", APR_USEC_PER_SEC}, {"ms", 1000}, {"mi", 60 * APR_USEC_PER_SEC}, {"h", 3600 * APR_USEC_PER_SEC}};
    char *end = NULL;
    errno = 0;
    apr_int64_t number = apr_strtoi64(text, &end, 10);
    /* Far more than any bound, and far from an overflow. */
    if (errno || !apr_isdigit(*text) || number > APR_INT32_MAX) {
        return false;
    }
    for (size_t i = 0; i < sizeof(UNITS) / sizeof(UNITS[0]); i++) {
        if (!*end || !apr_cstr_casecmpn(end, UNITS[i].name, strlen(UNITS[i].name))) {
            *duration = number * UNITS[i].length;
            return true;
        }
    }
    return false;
}

static const char *check_DURATION(const setting_facts_t *facts, const char *value, apr_pool_t *pool)
{
    apr_interval_time_t duration = 0;
    return !duration_read(value, &duration) || duration < apr_time_from_sec(facts->low) ||
                   duration > apr_time_from_sec(facts->high)
               ? apr_psprintf(pool, "%s must be a time from %ld to %ld seconds (\"15\", \"1500ms\"), not \"%s\"",
                              facts->name, facts->low, facts->high, value)
               : NULL;
}

/* Whether it can be a path shows when it is put below ServerRoot. */
static const char *check_FILE(const setting_facts_t *facts, const char *value, apr_pool_t *pool)
{
    return *value ? NULL : apr_psprintf(pool, "%s: \"\" is not a usable path", facts->name);
}

static const char *check_CERTIFICATE(const setting_facts_t *facts, const char *value, apr_pool_t *pool)
{
    return check_FILE(facts, value, pool);
}

static const char *check_DIRECTORY(const setting_facts_t *facts, const char *value, apr_pool_t *pool)
{
    return check_FILE(facts, value, pool);
}

/* "127.example.com" is a name, and with "[127.0.0.1]" libcurl can do nothing. The URL has no user. */
static bool is_loopback(const apr_uri_t *uri)
{
    struct in_addr address;
    if (*uri->hostinfo == '[') {
        return !strcmp(uri->hostname, "::1");
    }
    return !apr_cstr_casecmp(uri->hostname, "localhost") ||
           (inet_pton(AF_INET, uri->hostname, &address) == 1 && ntohl(address.s_addr) >> 24 == 127);
}

static const char *check_PROXY(const setting_facts_t *facts, const char *value, apr_pool_t *pool);
static const char *check_BACKEND_URL(const setting_facts_t *facts, const char *value, apr_pool_t *pool);

/* apr_uri_parse() makes 1234 of 66770. */
static bool is_port(const char *text)
{
    char *end = NULL;
    long port = strtol(text, &end, 10);
    return apr_isdigit(*text) && !*end && port > 0 && port <= 65535;
}

/* Where a password has / ? or # in it, "@" comes late, and the URL is none: what may hold one is not repeated. */
static const char *url_must(const setting_facts_t *facts, const char *what, const char *value, apr_pool_t *pool)
{
    return strchr(value, '@') ? apr_psprintf(pool, "%s must %s", facts->name, what)
                              : apr_psprintf(pool, "%s must %s, not \"%s\"", facts->name, what, value);
}

static const char *check_url(const setting_facts_t *facts, const char *value, apr_pool_t *pool, apr_uri_t *uri)
{
    static const char HOST[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._:";
    bool proxy = facts->check == check_PROXY;
    bool parsed = !apr_uri_parse(pool, value, uri) && uri->scheme && uri->hostname && *uri->hostname;
    if ((parsed && (uri->user || uri->password)) || (strchr(value, '@') && (!parsed || proxy))) {
        return apr_psprintf(pool, "%s must be a URL without user and password%s", facts->name,
                            proxy ? ": see IntuneScepHTTPProxyUser and IntuneScepHTTPProxyPassword" : "");
    }
    if (!parsed) {
        return url_must(facts, proxy ? "be a URL with scheme and host, or none" : "be a URL with scheme and host", value,
                        pool);
    }
    /* libcurl calls all others, and takes nothing else for a name; behind an IPv6 address there may be its zone. */
    apr_size_t plain = strspn(uri->hostname, HOST);
    bool zone = uri->hostname[plain] == '%' && memchr(uri->hostname, ':', plain);
    if (facts->check != check_BACKEND_URL && uri->hostname[plain] && !zone) {
        return url_must(facts, "name its host in ASCII letters and digits (xn--...)", value, pool);
    }
    if (uri->query || uri->fragment) {
        return url_must(facts, "be a URL without query and fragment", value, pool);
    }
    if (uri->port_str && *uri->port_str && !is_port(uri->port_str)) {
        return url_must(facts, "be a URL with a port from 1 to 65535", value, pool);
    }
    for (const char *c = value; *c; c++) {
        if (apr_iscntrl(*c) || apr_isspace(*c)) {
            return apr_psprintf(pool, "%s must be a URL without blanks and control characters", facts->name);
        }
    }
    return NULL;
}

static const char *check_MICROSOFT_URL(const setting_facts_t *facts, const char *value, apr_pool_t *pool)
{
    apr_uri_t uri;
    const char *wrong = check_url(facts, value, pool, &uri);
    if (wrong || !apr_cstr_casecmp(uri.scheme, "https") || (!apr_cstr_casecmp(uri.scheme, "http") && is_loopback(&uri))) {
        return wrong;
    }
    return url_must(facts, "be an https:// URL (http:// is for loopback only)", value, pool);
}

static const char *check_PROXY(const setting_facts_t *facts, const char *value, apr_pool_t *pool)
{
    apr_uri_t uri;
    if (!strcmp(value, "none")) {
        return NULL;
    }
    const char *wrong = check_url(facts, value, pool, &uri);
    if (!wrong && apr_cstr_casecmp(uri.scheme, "http") && apr_cstr_casecmp(uri.scheme, "https")) {
        wrong = url_must(facts, "be an http:// or https:// URL, or none", value, pool);
    }
    return wrong;
}

static const char *check_BACKEND_URL(const setting_facts_t *facts, const char *value, apr_pool_t *pool)
{
    apr_uri_t uri;
    const char *wrong = check_url(facts, value, pool, &uri);
    if (wrong) {
        return wrong;
    }
    if (apr_cstr_casecmp(uri.scheme, "http") && apr_cstr_casecmp(uri.scheme, "https") &&
        apr_cstr_casecmp(uri.scheme, "balancer")) {
        return url_must(facts, "begin with http://, https:// or balancer://", value, pool);
    }
    return NULL;
}

static const char *check_CHALLENGE(const setting_facts_t *facts, const char *value, apr_pool_t *pool)
{
    regex_t regex;
    const char *wrong = check_TEXT(facts, value, pool);
    if (wrong || !strcmp(value, "shape") || !strcmp(value, "always")) {
        return wrong;
    }
    if (regcomp(&regex, value, REG_EXTENDED | REG_NOSUB)) {
        return apr_psprintf(pool, "%s must be shape, always or an extended regular expression, not \"%s\"",
                            facts->name, value);
    }
    regfree(&regex);
    return NULL;
}

static const char *check_CLOUD(const setting_facts_t *facts, const char *value, apr_pool_t *pool)
{
    return setting_cloud(value)
               ? NULL
               : apr_psprintf(pool, "%s must be public, usgov or china, not \"%s\"", facts->name, value);
}

static const char *check_NOTIFY(const setting_facts_t *facts, const char *value, apr_pool_t *pool)
{
    return strcmp(value, "before") && strcmp(value, "after")
               ? apr_psprintf(pool, "%s must be before or after, not \"%s\"", facts->name, value)
               : NULL;
}

static const char *check_RESYNC(const setting_facts_t *facts, const char *value, apr_pool_t *pool)
{
    return strcmp(value, "resend") && strcmp(value, "poll") && strcmp(value, "none")
               ? apr_psprintf(pool, "%s must be resend, poll or none, not \"%s\"", facts->name, value)
               : NULL;
}

static const char *check_COME_BACK(const setting_facts_t *facts, const char *value, apr_pool_t *pool)
{
    return strcmp(value, "503") && strcmp(value, "pending")
               ? apr_psprintf(pool, "%s must be 503 or pending, not \"%s\"", facts->name, value)
               : NULL;
}

/* The value may hold a password, and is not repeated. */
static const char *check_JOURNAL(const setting_facts_t *facts, const char *value, apr_pool_t *pool)
{
    static const char *const FORMS[] = {"sqlite3:/", "pgsql:", "file:", "exec:", "env:"};
    for (size_t i = 0; i < sizeof(FORMS) / sizeof(FORMS[0]); i++) {
        if (!strncmp(value, FORMS[i], strlen(FORMS[i])) && value[strlen(FORMS[i])]) {
            return check_TEXT(facts, value, pool);
        }
    }
    return strcmp(value, "none") ? apr_psprintf(pool,
                                                "%s must be sqlite3:/PATH, pgsql:CONNECTION, file:PATH, exec:COMMAND, "
                                                "env:NAME or none",
                                                facts->name)
                                 : NULL;
}

static const char *check_ALGORITHMS(const setting_facts_t *facts, const char *value, apr_pool_t *pool)
{
    scep_algorithms_t algorithms = {0, 0};
    const char *unknown = scep_algorithms_parse(&algorithms, value, pool);
    if (unknown) {
        return apr_psprintf(pool,
                            "%s: \"%s\" is none of AES, AES128, AES192, AES256, DES3, DES, MD5, SHA-1, SHA-224, "
                            "SHA-256, SHA-384, SHA-512",
                            facts->name, unknown);
    }
    return algorithms.ciphers || algorithms.digests
               ? NULL
               : apr_psprintf(pool, "%s must name at least one cipher or digest", facts->name);
}

static const char *check_CAPABILITIES(const setting_facts_t *facts, const char *value, apr_pool_t *pool)
{
    unsigned set = 0;
    const char *unknown = scep_capabilities_words(&set, value, pool);
    if (!strcmp(value, "auto") || (!unknown && set)) {
        return NULL;
    }
    return apr_psprintf(
        pool,
        "%s: \"%s\" is neither auto nor one of AES, DES3, GetNextCACert, POSTPKIOperation, Renewal, SCEPStandard, "
        "SHA-1, SHA-256, SHA-512",
        facts->name, unknown ? unknown : value);
}

static const char *check_HEALTH(const setting_facts_t *facts, const char *value, apr_pool_t *pool)
{
    unsigned words = 0;
    const char *unknown = status_health_parse(&words, value, pool);
    if (!unknown && words) {
        return NULL;
    }
    return apr_psprintf(pool, "%s: \"%s\" is none of journal, breaker, expiry, outbox, microsoft, ca", facts->name,
                        unknown ? unknown : value);
}

static const setting_facts_t FACTS[SETTING_COUNT] = {
#define SETTING(symbol, name, scope, kind, low, high, fallback, help) \
    {name, SETTING_OF_##scope, check_##kind, low, high, fallback},
#include "settings.def"
#undef SETTING
};

/* The arguments as one value, and a second one where the directive takes it. */
static const char *take_arguments(const setting_facts_t *facts, int count, const char *const values[],
                                  const char **value, const char **second, apr_pool_t *pool)
{
    bool takes_two = facts->check == check_CERTIFICATE;
    bool takes_words =
        facts->check == check_ALGORITHMS || facts->check == check_CAPABILITIES || facts->check == check_HEALTH;
    *value = count > 0 ? values[0] : "";
    *second = takes_two && count == 2 ? values[1] : NULL;
    for (int i = 1; takes_words && i < count; i++) {
        *value = apr_pstrcat(pool, *value, " ", values[i], NULL);
    }
    if (count == 1 || *second || (count && takes_words)) {
        return NULL;
    }
    /* httpd ends the arguments at an empty one. */
    return count ? apr_psprintf(pool, "%s takes one argument%s, not %d: put quotes around it where it has blanks",
                                facts->name, takes_two ? ", or two" : "", count)
                 : apr_psprintf(pool, "%s has no value, or an empty one", facts->name);
}

const char *setting_path(const char *root, const char *path, apr_pool_t *pool)
{
    char *merged = NULL;
    apr_status_t rv = apr_filepath_merge(&merged, root, path, APR_FILEPATH_TRUENAME, pool);
    bool usable = !rv || APR_STATUS_IS_EPATHWILD(rv) || APR_STATUS_IS_ENOENT(rv) || APR_STATUS_IS_ENOTDIR(rv);
    return usable ? merged : NULL;
}

bool setting_path_contains(const char *outer, const char *inner)
{
    apr_size_t length = strlen(outer);
    if (strncmp(outer, inner, length)) {
        return false;
    }
    return !inner[length] || inner[length] == '/' || (length && outer[length - 1] == '/');
}

static bool is_path(const setting_facts_t *facts)
{
    return facts->check == check_FILE || facts->check == check_CERTIFICATE || facts->check == check_DIRECTORY;
}

bool setting_holds_secret(setting_id_t id, const char *value)
{
    return (FACTS[id].check == check_SECRET && secret_is_literal(value)) ||
           (FACTS[id].check == check_JOURNAL && strstr(value, "password"));
}

const char *setting_take(settings_t *settings, setting_id_t id, int count, const char *const values[],
                         const setting_place_t *place, apr_pool_t *pool)
{
    const setting_facts_t *facts = &FACTS[id];
    const char *value = NULL;
    const char *second = NULL;
    const char *wrong = take_arguments(facts, count, values, &value, &second, pool);
    if (!wrong) {
        wrong = facts->check(facts, value, pool);
    }
    if (wrong) {
        return wrong;
    }
    if (is_path(facts)) {
        const char *path = setting_path(place->root, value, pool);
        if (!path) {
            return apr_psprintf(pool, "%s: \"%s\" is not a usable path", facts->name, value);
        }
        value = path;
    }
    settings->touched = true;
    settings->set[id].value = apr_pstrdup(pool, value);
    settings->set[id].second = second ? apr_pstrdup(pool, second) : NULL;
    settings->set[id].file = place->file;
    settings->set[id].line = place->line;
    return NULL;
}

void *settings_create(apr_pool_t *pool, char *path)
{
    settings_t *settings = apr_pcalloc(pool, sizeof(*settings));
    (void)path;
    settings->section = settings;
    return settings;
}

/* A location's own credential takes the place of another kind that the server around it has. */
static void merge_credential(settings_t *merged, const settings_t *over)
{
    static const setting_id_t KINDS[] = {SETTING_APP_KEY, SETTING_APP_CERTIFICATE, SETTING_APP_TOKEN_FILE};
    bool own = false;
    for (int i = 0; i < 3; i++) {
        own = own || over->set[KINDS[i]].value;
    }
    for (int i = 0; own && i < 3; i++) {
        merged->set[KINDS[i]] = over->set[KINDS[i]];
    }
    if (own && !over->set[SETTING_APP_CERTIFICATE].value) {
        merged->set[SETTING_APP_CERTIFICATE_PASSWORD] = over->set[SETTING_APP_CERTIFICATE_PASSWORD];
    }
}

void *settings_merge(apr_pool_t *pool, void *base, void *add)
{
    const settings_t *from = base;
    const settings_t *over = add;
    settings_t *merged = apr_palloc(pool, sizeof(*merged));
    merged->section = over->touched ? over->section : from->section;
    merged->touched = over->touched || from->touched;
    for (int i = 0; i < SETTING_COUNT; i++) {
        merged->set[i] = over->set[i].value ? over->set[i] : from->set[i];
    }
    merge_credential(merged, over);
    return merged;
}

static bool is_same_text(const char *one, const char *other)
{
    return one == other || (one && other && !strcmp(one, other));
}

bool settings_are_same(const settings_t *one, const settings_t *other)
{
    for (int i = 0; i < SETTING_COUNT; i++) {
        if (!is_same_text(setting_text(one, (setting_id_t)i), setting_text(other, (setting_id_t)i)) ||
            !is_same_text(one->set[i].second, other->set[i].second)) {
            return false;
        }
    }
    return true;
}

const char *setting_text(const settings_t *settings, setting_id_t id)
{
    return settings->set[id].value ? settings->set[id].value : FACTS[id].fallback;
}

bool setting_flag(const settings_t *settings, setting_id_t id)
{
    const char *text = setting_text(settings, id);
    return text && !apr_cstr_casecmp(text, "on");
}

int setting_number(const settings_t *settings, setting_id_t id)
{
    const char *text = setting_text(settings, id);
    return text ? (int)apr_strtoi64(text, NULL, 10) : 0;
}

apr_interval_time_t setting_duration(const settings_t *settings, setting_id_t id)
{
    apr_interval_time_t duration = 0;
    const char *text = setting_text(settings, id);
    return text && duration_read(text, &duration) ? duration : 0;
}

scep_algorithms_t setting_algorithms(const settings_t *settings, setting_id_t id, apr_pool_t *pool)
{
    scep_algorithms_t given = {0, 0};
    scep_algorithms_t usual = {0, 0};
    scep_algorithms_parse(&usual, FACTS[id].fallback, pool);
    scep_algorithms_parse(&given, setting_text(settings, id), pool);
    given.ciphers = given.ciphers ? given.ciphers : usual.ciphers;
    given.digests = given.digests ? given.digests : usual.digests;
    return given;
}

const char *setting_name(setting_id_t id)
{
    return FACTS[id].name;
}

setting_scope_t setting_scope(setting_id_t id)
{
    return FACTS[id].scope;
}

setting_id_t setting_find(const char *name)
{
    int id = 0;
    while (id < SETTING_COUNT && apr_cstr_casecmp(FACTS[id].name, name)) {
        id++;
    }
    return (setting_id_t)id;
}

const char *setting_place(const settings_t *settings, setting_id_t id, apr_pool_t *pool)
{
    const setting_t *setting = &settings->set[id];
    return setting->value ? apr_psprintf(pool, "%s (%s line %d)", FACTS[id].name, setting->file, setting->line)
                          : FACTS[id].name;
}

unsigned setting_capabilities(const settings_t *settings, setting_id_t id, apr_pool_t *pool)
{
    unsigned set = 0;
    return scep_capabilities_words(&set, setting_text(settings, id), pool) ? 0 : set;
}

static const char *secret_shown(const char *value, apr_pool_t *pool)
{
    return secret_is_literal(value) ? "***" : !strncmp(value, "exec:", 5) ? command_shown(value, pool) : value;
}

/* PostgreSQL's connection may hold a password in several forms; a key's URI may hold a PIN. */
static const char *value_shown(setting_id_t id, const char *value, apr_pool_t *pool)
{
    if (FACTS[id].check == check_SECRET) {
        return secret_shown(value, pool);
    }
    if (FACTS[id].check == check_JOURNAL) {
        return !strncmp(value, "sqlite3:", 8) || !strcmp(value, "none") ? value
               : !strncmp(value, "pgsql:", 6)                          ? "pgsql:***"
                                                                        : secret_shown(value, pool);
    }
    return id == SETTING_EVENT_COMMAND ? command_shown(value, pool) : value;
}

static const char *second_shown(const char *second, apr_pool_t *pool)
{
    const char *colon = strchr(second, ':');
    const char *slash = strchr(second, '/');
    return colon && (!slash || colon < slash)
               ? apr_pstrcat(pool, apr_pstrmemdup(pool, second, (apr_size_t)(colon - second)), ":***", NULL)
               : second;
}

apr_array_header_t *settings_shown(const settings_t *settings, bool of_server, apr_pool_t *pool)
{
    apr_array_header_t *shown = apr_array_make(pool, 16, sizeof(status_setting_t));
    for (int i = 0; i < SETTING_COUNT; i++) {
        const setting_t *setting = &settings->set[i];
        if (setting->value && (FACTS[i].scope == SETTING_OF_SERVER) == of_server) {
            const char *value = value_shown((setting_id_t)i, setting->value, pool);
            if (setting->second) {
                value = apr_pstrcat(pool, value, " ", second_shown(setting->second, pool), NULL);
            }
            APR_ARRAY_PUSH(shown, status_setting_t) = (status_setting_t){FACTS[i].name, value};
        }
    }
    return shown;
}
