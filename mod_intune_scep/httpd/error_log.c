/* SPDX-License-Identifier: Apache-2.0 */
#include "module.h"

APLOG_USE_MODULE(intune_scep);

static int level_of(log_level_t level)
{
    static const int LEVELS[] = {APLOG_ERR, APLOG_WARNING, APLOG_NOTICE, APLOG_INFO, APLOG_DEBUG, APLOG_TRACE1};
    return LEVELS[level];
}

static void write_request(void *baton, log_level_t level, const char *line)
{
    request_rec *r = baton;
    ap_log_rerror(APLOG_MARK, level_of(level), 0, r, "%s", line);
}

static bool request_enabled(void *baton, log_level_t level)
{
    const request_rec *r = baton;
    return APLOG_R_IS_LEVEL(r, level_of(level));
}

static void write_server(void *baton, log_level_t level, const char *line)
{
    server_rec *server = baton;
    ap_log_error(APLOG_MARK, level_of(level), 0, server, "%s", line);
}

static bool server_enabled(void *baton, log_level_t level)
{
    const server_rec *server = baton;
    return APLOG_IS_LEVEL(server, level_of(level));
}

log_t *error_log_of_request(request_rec *r, const profile_t *profile)
{
    log_t *log = apr_pcalloc(r->pool, sizeof(*log));
    log->write = write_request;
    log->enabled = request_enabled;
    log->baton = r;
    log->repeats = profile->repeats;
    return log;
}

log_t *error_log_of_server(server_rec *server, const profile_t *profile, apr_pool_t *pool)
{
    log_t *log = apr_pcalloc(pool, sizeof(*log));
    log->write = write_server;
    log->enabled = server_enabled;
    log->baton = server;
    log->repeats = profile ? profile->repeats : NULL;
    return log;
}
