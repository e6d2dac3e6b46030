/* SPDX-License-Identifier: Apache-2.0 */
/* The key of what leaves this machine's memory. */
#include "setup.h"

#include <apr_strings.h>
#include <unixd.h>

static const char *complaint(const settings_t *base, setting_id_t id, const char *message, apr_pool_t *pool)
{
    return apr_pstrcat(pool, setting_place(base, id, pool), ": ", message, NULL);
}

/* `file:conf/key` is below ServerRoot, like every other path of httpd. */
static const char *specification_of(const settings_t *base, apr_pool_t *pool)
{
    const char *specification = setting_text(base, SETTING_STATE_KEY);
    if (!specification || strncmp(specification, "file:", 5)) {
        return specification;
    }
    const char *path = ap_server_root_relative(pool, specification + 5);
    return path ? apr_pstrcat(pool, "file:", path, NULL) : specification;
}

const char *setup_state_key(gateway_t *gateway, const settings_t *base, apr_pool_t *pool)
{
    const char *specification = specification_of(base, pool);
    const char *directory = setting_text(base, SETTING_STATE_DIR);
    const char *message = "the key cannot be read";
    if (specification) {
        /* also where nothing needs it yet: a mistake shows now */
        return state_key_from_source(&gateway->state_key, specification, pool, &message)
                   ? complaint(base, SETTING_STATE_KEY, message, pool)
                   : NULL;
    }
    if (!gateway->remote_name && !setup_journal_wanted(base)) {
        return NULL;
    }
    bool is_root = geteuid() == 0;
    if (state_key_from_directory(&gateway->state_key, directory, is_root ? ap_unixd_config.user_id : geteuid(),
                                 is_root ? ap_unixd_config.group_id : getegid(), pool, &message)) {
        return complaint(base, SETTING_STATE_DIR, message, pool);
    }
    gateway->state_key_made = apr_pstrcat(pool, directory, "/" STATE_KEY_FILE, NULL);
    return NULL;
}
