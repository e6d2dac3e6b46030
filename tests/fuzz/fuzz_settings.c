/* SPDX-License-Identifier: Apache-2.0 */
/* A directive's arguments: byte 1 which directive, byte 2 how many arguments, and these, parts that end with 0xff. */
#include "fuzz.h"

#include "gateway/settings.h"
#include "gateway/status.h"

#include <apr_strings.h>
#include <stdlib.h>
#include <strings.h>

enum { ARGUMENTS_MAX = 4, EXPRESSION_MAX = 40, REPETITIONS_MAX = 5 };

typedef enum kind_t {
    KIND_ALGORITHMS, KIND_BACKEND_URL, KIND_CAPABILITIES, KIND_CERTIFICATE, KIND_CHALLENGE, KIND_CLOUD, KIND_COME_BACK,
    KIND_DIRECTORY, KIND_DURATION, KIND_FILE, KIND_FLAG, KIND_HEALTH, KIND_JOURNAL, KIND_MICROSOFT_URL, KIND_NOTIFY,
    KIND_NUMBER, KIND_PROXY, KIND_RESYNC, KIND_SECRET, KIND_TEXT, KIND_WORD
} kind_t;

static const struct {
    kind_t kind;
    long low, high;
} FACTS[SETTING_COUNT] = {
#define SETTING(symbol, name, scope, kind, low, high, fallback, help) {KIND_##kind, low, high},
#include "gateway/settings.def"
#undef SETTING
};

static bool begins(const char *text, const char *beginning)
{
    return !strncasecmp(text, beginning, strlen(beginning));
}

/* What comes of a value that was taken. */
static void taken_check(const settings_t *settings, setting_id_t id, apr_pool_t *pool)
{
    const char *value = settings->set[id].value;
    apr_interval_time_t time = 0;
    scep_algorithms_t algorithms;
    switch (FACTS[id].kind) {
    case KIND_NUMBER:
        fuzz_check(setting_number(settings, id) == strtol(value, NULL, 10));
        fuzz_check(setting_number(settings, id) >= FACTS[id].low && setting_number(settings, id) <= FACTS[id].high);
        break;
    case KIND_DURATION:
        time = setting_duration(settings, id);
        fuzz_check(time >= apr_time_from_sec(FACTS[id].low) && time <= apr_time_from_sec(FACTS[id].high));
        break;
    case KIND_FLAG:
        fuzz_check(setting_flag(settings, id) == !strcasecmp(value, "on"));
        break;
    case KIND_ALGORITHMS:
        algorithms = setting_algorithms(settings, id, pool);
        fuzz_check(algorithms.ciphers && algorithms.digests);
        break;
    case KIND_CAPABILITIES:
        fuzz_check(setting_capabilities(settings, id, pool) || !strcmp(value, "auto"));
        break;
    case KIND_FILE:
    case KIND_CERTIFICATE:
    case KIND_DIRECTORY:
        fuzz_check(*value == '/' && !strstr(value, "/../"));
        break;
    case KIND_WORD:
        fuzz_check(!strpbrk(value, "/?#%& \"\\\n\r\t<>"));
        break;
    case KIND_MICROSOFT_URL:
        fuzz_check(begins(value, "https://") || begins(value, "http://127.") || begins(value, "http://localhost") ||
                   begins(value, "http://[::1]"));
        fuzz_check(!strpbrk(value, "?# \t\r\n"));
        /* nobody's name in front of the host; behind it it is part of the path */
        value = strstr(value, "://") + 3;
        fuzz_check(!memchr(value, '@', strcspn(value, "/")));
        break;
    default:
        break;
    }
}

static const setting_place_t PLACE = {"/etc/httpd", "file.conf", 7};

/* What people see of a directive: the sentence where it was refused, else its value among those that are shown. */
static const char *seen(setting_id_t id, int count, const char *const values[], apr_pool_t *pool)
{
    settings_t *settings = settings_create(pool, NULL);
    const char *wrong = setting_take(settings, id, count, values, &PLACE, pool);
    apr_array_header_t *shown = settings_shown(settings, setting_scope(id) == SETTING_OF_SERVER, pool);
    fuzz_check(shown->nelts == (wrong ? 0 : 1));
    return wrong ? wrong : APR_ARRAY_IDX(shown, 0, status_setting_t).value;
}

/* Nobody sees what a secret is: another one of its length looks the same. */
static void secret_check(setting_id_t id, int count, const char *const values[], apr_pool_t *pool)
{
    const char *others[ARGUMENTS_MAX + 1] = {NULL};
    bool is_journal = FACTS[id].kind == KIND_JOURNAL && count && !strncmp(values[0], "pgsql:", 6);
    if (!is_journal && (FACTS[id].kind != KIND_SECRET || !count || !setting_holds_secret(id, values[0]))) {
        return;
    }
    char *other = apr_pstrdup(pool, values[0]);
    for (char *c = other + (is_journal ? 6 : 0); *c; c++) {
        /* which are refused */
        if (is_journal && ((unsigned char)*c < ' ' || *c == 0x7f)) {
            return;
        }
        *c = 'Z';
    }
    memcpy(others, values, sizeof(others));
    others[0] = other;
    fuzz_check(!strcmp(seen(id, count, values, pool), seen(id, count, others, pool)));
}

/* What the C library makes of an expression with many repetitions takes any time and memory. */
static bool is_costly(const char *expression)
{
    int repetitions = 0;
    for (const char *c = expression; *c; c++) {
        repetitions += strchr("*+?", *c) ? 1 : 0;
    }
    return repetitions > REPETITIONS_MAX || strlen(expression) > EXPRESSION_MAX || strchr(expression, '{');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_t *fuzz = fuzz_begin(data, size);
    settings_t *settings = settings_create(fuzz->pool, NULL);
    setting_id_t id = (setting_id_t)(fuzz_byte(fuzz) % SETTING_COUNT);
    int count = (int)(fuzz_byte(fuzz) % (ARGUMENTS_MAX + 1));
    const char *values[ARGUMENTS_MAX + 1] = {NULL};
    for (int i = 0; i < count; i++) {
        values[i] = fuzz_text(fuzz);
    }
    if (FACTS[id].kind == KIND_CHALLENGE && count && is_costly(values[0])) {
        return fuzz_end(fuzz);
    }
    const char *wrong = setting_take(settings, id, count, values, &PLACE, fuzz->pool);
    fuzz_check(!wrong == settings->touched && !wrong == !!settings->set[id].value);
    fuzz_check(!wrong || !strncmp(wrong, setting_name(id), strlen(setting_name(id))));
    fuzz_check(strstr(setting_place(settings, id, fuzz->pool), setting_name(id)) && setting_find(setting_name(id)) == id);
    if (!wrong) {
        const settings_t *merged = settings_merge(fuzz->pool, settings_create(fuzz->pool, NULL), settings);
        taken_check(settings, id, fuzz->pool);
        fuzz_check(!strcmp(setting_text(merged, id), setting_text(settings, id)));
    }
    secret_check(id, count, values, fuzz->pool);
    if (count > 1) {
        setting_path_contains(values[0], values[1]);
    }
    return fuzz_end(fuzz);
}
