/* SPDX-License-Identifier: Apache-2.0 */
/* What the start makes and checks, file by file: httpd/setup*.c. */
#ifndef ISCEP_HTTPD_SETUP_H
#define ISCEP_HTTPD_SETUP_H

#include "module.h"

/* setup_around.c */
/** Warns of a ProxyPass by which devices reach the site's CA without the gateway. */
void setup_around_check(const site_t *site, server_rec *main_server, apr_pool_t *pool);

/* setup_profile.c */
/** One site from its effective settings. Gives NULL, or the sentence that stops the server. */
const char *setup_site_make(site_t **site, const settings_t *settings, const char *default_name,
                            const scep_engine_t *engine, server_rec *server, apr_pool_t *pool);

/** Whether the server's user may do `what` (R_OK, X_OK) with a file. */
bool setup_server_can(const char *path, int what);

/* setup_credential.c */
/** Fills in the one credential of the location: NULL, or the sentence that stops the server. Warns of what is
 * unwise. */
const char *setup_credential(intune_settings_t *intune, const settings_t *settings, server_rec *server,
                             apr_pool_t *pool);
/**
 * The source of a secret that the worker processes may read again: NULL, or the sentence that stops the server.
 * `file:conf/key` is below ServerRoot. Warns of a literal, and of a command that the server's user cannot run.
 */
const char *setup_secret(secret_source_t **source, const settings_t *settings, setting_id_t id, server_rec *server,
                         apr_pool_t *pool);

/* setup_scep.c */
/** Who the gateway is for devices and CA, and what it takes from them: identity, policy, capabilities. NULL, or a
 * sentence. */
const char *setup_scep_make(profile_t *profile, const settings_t *settings, const scep_engine_t *engine,
                            server_rec *server, apr_pool_t *pool);

/* setup_certificates.c */
/** Warns of what some devices mind of the RA's certificates, and of what expires soon. */
void setup_certificates_check(const site_t *site, apr_pool_t *pool);
/** Complains about a clock that is before the day on which this module was built. */
void setup_clock_check(server_rec *server);

/* setup_host.c */
/** Warns where mod_ssl keeps devices out of a served path. */
void setup_host_check(const settings_t *settings, const char *path, server_rec *server, apr_pool_t *pool);
/** Tells where the name under which the journal knows a location is not the configuration's, but DNS'. */
void setup_name_check(const site_t *site, apr_pool_t *pool);

/* setup_request_line.c */
/** Warns where the requests of a served host are cut before a GET with a challenge ends. */
void setup_request_line_check(server_rec *main_server, const server_rec *server, apr_pool_t *pool);

/* setup_backend.c */
/** Whether mod_proxy can reach the backend as configured: NULL, or a sentence. Warns of a backend that strangers may
 * reach, and tells of time-outs that add up to more than a device waits. */
const char *setup_backend_check(const settings_t *settings, server_rec *server, apr_pool_t *pool);
/** Tells where mod_proxy cannot keep connections to the backend. */
void setup_backend_advise(const settings_t *settings, server_rec *server, apr_pool_t *pool);
/** How long the CA's whole answer may take: IntuneScepBackendTimeout, or made from mod_proxy's time-out. */
apr_interval_time_t setup_backend_time(const settings_t *settings, const server_rec *server);

/** Whether each member of the backend's balancer is found by its URL: one behind a socket is not. */
bool setup_backend_has_urls(const settings_t *settings, const server_rec *server);

#endif
