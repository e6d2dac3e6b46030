/* SPDX-License-Identifier: Apache-2.0 */
/* The directives' table as options of the command line. */
#include "ctl/ctl.h"

#include "gateway/settings.h"

#include <apr_lib.h>
#include <apr_strings.h>

static const struct {
    const char *symbol;
    const char *kind;
    const char *help;
} ROWS[SETTING_COUNT] = {
#define SETTING(symbol, name, scope, kind, low, high, fallback, help) {#symbol, #kind, help},
#include "gateway/settings.def"
#undef SETTING
};

static const char *lower(const ctl_t *ctl, const char *symbol)
{
    char *name = apr_pstrdup(ctl->pool, symbol);
    for (char *at = name; *at; at++) {
        *at = *at == '_' ? '-' : (char)apr_tolower(*at);
    }
    return name;
}

const ctl_option_t *ctl_setting_options(const ctl_t *ctl)
{
    ctl_option_t *options = apr_pcalloc(ctl->pool, (SETTING_COUNT + 1) * sizeof(*options));
    for (int i = 0; i < SETTING_COUNT; i++) {
        options[i].name = lower(ctl, ROWS[i].symbol);
        options[i].value = ROWS[i].kind;
        options[i].help = ROWS[i].help;
    }
    return options;
}
