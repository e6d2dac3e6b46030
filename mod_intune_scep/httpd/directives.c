/* SPDX-License-Identifier: Apache-2.0 */
/* The table of settings as httpd's directives. */
#include "module.h"

#include <apr_strings.h>
#include <http_main.h>

static const char *context_error(cmd_parms *cmd, setting_id_t id)
{
    bool server = setting_scope(id) == SETTING_OF_SERVER;
    const char *wrong = ap_check_cmd_context(cmd, NOT_IN_DIRECTORY | NOT_IN_FILES | NOT_IN_LIMIT | NOT_IN_PROXY |
                                                      (server ? GLOBAL_ONLY : 0));
    return wrong ? apr_pstrcat(cmd->pool, wrong, server ? "" : ": use <Location> or a virtual host", NULL) : NULL;
}

/* mod_info and -DDUMP_CONFIG print the tree: a secret that stands in it is blanked out. */
static void blank_out(cmd_parms *cmd)
{
    ap_directive_t *directive = (ap_directive_t *)(apr_uintptr_t)cmd->directive;
    directive->args = apr_pstrdup(cmd->pool, "***");
}

static const char *set(cmd_parms *cmd, void *config, int count, char *const values[])
{
    setting_id_t id = (setting_id_t)(apr_uintptr_t)cmd->info;
    setting_place_t place = {ap_server_root, cmd->directive->filename, cmd->directive->line_num};
    if (count > 0 && setting_holds_secret(id, values[0])) {
        blank_out(cmd);
    }
    const char *wrong = context_error(cmd, id);
    return wrong ? wrong : setting_take(config, id, count, (const char *const *)values, &place, cmd->pool);
}

#define COMMAND_ACCESS_SERVER RSRC_CONF
#define COMMAND_ACCESS_LOCATION (RSRC_CONF | ACCESS_CONF)
const command_rec directives[] = {
#define SETTING(symbol, name, scope, kind, low, high, fallback, help)                                                  \
    AP_INIT_TAKE_ARGV(name, set, (void *)(apr_uintptr_t)SETTING_##symbol, COMMAND_ACCESS_##scope, help),
#include "gateway/settings.def"
#undef SETTING
    {.name = NULL}};
