/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the httpd layer share. */
#ifndef ISCEP_HTTPD_MODULE_H
#define ISCEP_HTTPD_MODULE_H

#include "base/state_key.h"
#include "gateway/settings.h"
#include "gateway/transaction.h"

#include <httpd.h>
#include <http_config.h>
#include <http_log.h>

extern module AP_MODULE_DECLARE_DATA intune_scep_module __attribute__((visibility("default")));

/** A location that is served: its profile, and what GetCACert answers. Made at start, read by all threads. */
typedef struct site_t {
    profile_t *profile;
    const settings_t *settings; /**< the effective ones */
    server_rec *server;         /**< the one in which it was met first */
    bytes_t ca_body;
    const char *ca_type;
    bool nodes_have_urls; /**< a poll can go to the one of a balancer's members that has the transaction */
} site_t;

/** All that one configuration makes. A restart makes a new one. */
typedef struct gateway_t {
    apr_pool_t *pool;
    apr_array_header_t *sites; /**< of site_t *, by profile->index */
    const char *socache_arguments; /**< of shmcb, which every configuration has */
    const char *remote_name;       /**< of the provider outside this machine, or NULL */
    const char *remote_arguments;
    state_key_t *state_key;        /**< where something needs it, else NULL */
    const char *state_key_made;    /**< the file, where it is a key of this machine's own */
    cache_t *cache;            /**< made in post_config */
    journal_settings_t *journal; /**< or NULL: there is none */
    const char *journal_place; /**< "IntuneScepJournal (FILE line 3)", for complaints at start */
} gateway_t;

/** The gateway of the running configuration; NULL while there is none. */
extern gateway_t *the_gateway;

/* directives.c */
extern const command_rec directives[];

/* setup.c */
/** check_config: makes `the_gateway` from the directives; also under `httpd -t`. Each mistake is one line in the
 * log. */
int setup_check_config(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp, server_rec *main_server);
/** create_server_config of the module. */
void *setup_create_server(apr_pool_t *pool, server_rec *server);
/** The site of a request whose location is served; NULL where overlapping sections hide it. */
const site_t *setup_site(const request_rec *r, const settings_t *settings);

/** Whether a path of a server is one that the gateway serves, as far as the start knows. */
bool setup_path_is_served(const server_rec *server, const char *path);

/* socache.c */
/** NULL when the provider is there and may be used, else a sentence. */
const char *socache_check(gateway_t *gateway, const char *specification, apr_pool_t *pool);

/* setup_state_key.c */
/**
 * Finds or makes the key of what leaves this machine's memory, if something does. Gives NULL, or the sentence that
 * stops the server.
 */
const char *setup_state_key(gateway_t *gateway, const settings_t *base, apr_pool_t *pool);

/* setup_journal.c */
/** Where the journal is; after setup_state_key(). Gives NULL, or the sentence that stops the server. */
const char *setup_journal(gateway_t *gateway, const settings_t *base, server_rec *server, apr_pool_t *pool);
/** Whether there is to be one. */
bool setup_journal_wanted(const settings_t *base);
/** Parent, in post_config: makes or opens it, and closes it again. Logs what is wrong. */
apr_status_t journal_start(gateway_t *gateway, server_rec *server, apr_pool_t *pconf);

void socache_register(apr_pool_t *pconf);
apr_status_t socache_start(gateway_t *gateway, server_rec *server, apr_pool_t *pconf, apr_pool_t *ptemp);
apr_status_t socache_child(gateway_t *gateway, server_rec *server, apr_pool_t *pchild);

/* limit.c: how many enrolments run at once, counted over all processes */
apr_status_t limit_start(gateway_t *gateway, server_rec *server, apr_pool_t *pconf);
void limit_child(apr_pool_t *pchild);
/** Parent: a process has ended, however it ended. */
void limit_child_ended(pid_t pid);
/** Takes a place until `pool` goes or limit_release(); false when all are taken. */
bool limit_take(const profile_t *profile, apr_pool_t *pool);
void limit_release(const profile_t *profile, apr_pool_t *pool);
/** How many places of a profile are taken now. */
int limit_used(const profile_t *profile);

/* pace.c: how many reports the background sends in a second, over all processes */
apr_status_t pace_start(int per_second, server_rec *server, apr_pool_t *pconf);
/** Takes the next place: the time to wait for it, or -1 where it is more than a second away. */
apr_interval_time_t pace_take(void);

/* counting.c: what is counted over all processes (store/counters.h, base/repeats.h), in memory that outlives graceful
 * restarts */
apr_status_t counting_start(gateway_t *gateway, server_rec *server);
/** Tells in the log what repeated itself, of a location: once a second. `all`: the process ends. */
void counting_sum_up(const site_t *site, bool all, apr_pool_t *pool);

/* status.c */
/** SetHandler intune-scep-status. */
int status_handler(request_rec *r);
/** mod_status asks for a summary. */
void status_register(void);

/* notes.c */
/** What the access log may show of a transaction that has ended: notes named intune-scep-… */
void notes_set(request_rec *r, const transaction_t *transaction);

/* background.c */
void background_start(gateway_t *gateway, server_rec *server, apr_pool_t *pconf);
/** In a worker process: everything is there that the work needs. */
void background_child(void);
/** Waits for work that runs, some seconds at most, and lets none begin any more. */
void background_stop(void);
/** In a worker process that ends, after that: what was counted is told, for nobody may be left to do so. */
void background_last_words(const gateway_t *gateway);

/* error_log.c */
/** The core's log, written to the request's error log; what repeats itself at the location is summed up. */
log_t *error_log_of_request(request_rec *r, const profile_t *profile);
/** The same for work beside the requests. NULL: for no location. */
log_t *error_log_of_server(server_rec *server, const profile_t *profile, apr_pool_t *pool);

/* handler.c */
int handler(request_rec *r);
int handler_translate_name(request_rec *r);
int handler_map_to_storage(request_rec *r);
int handler_type_checker(request_rec *r);
int handler_fixups(request_rec *r);
/** Sends a reply as the whole answer of a request that no filter has touched yet. */
int handler_reply(request_rec *r, const reply_t *reply);
/** Status and headers of an answer of ours; whatever stood in headers_out is gone. */
void handler_reply_headers(request_rec *r, const reply_t *reply);

/* relay.c */
void relay_register(void);
/** In pre_config, where all modules are loaded. */
void relay_watch_attempts(void);
/** Hands an enrolled transaction to mod_proxy; the answer comes from the output filter. */
int relay_transaction(request_rec *r, const site_t *site, transaction_t *transaction);
/** Hands GetCACaps to mod_proxy, to learn what the CA can; the device gets ours in any case. */
int relay_capabilities(request_rec *r, const site_t *site);
/** Asks the CA what it can, by a sub-request, where that is not known and nobody else is at it. */
void relay_learn_capabilities(request_rec *r, const site_t *site);
/** Hands GetNextCACert to mod_proxy and leaves the answer as it is, with an end; then the place is given back. */
int relay_next_ca(request_rec *r, const site_t *site);
int relay_log_transaction(request_rec *r);
/** Whether the request is one that this module has handed to mod_proxy itself. */
bool relay_is_ours(const request_rec *r);

#endif
