/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of this folder share. They build on each other: errand, flight, token and location, service, validate
 * and report.
 */
#ifndef ISCEP_INTUNE_INTERNAL_H
#define ISCEP_INTUNE_INTERNAL_H

#include "intune/app_certificate.h"
#include "intune/breaker.h"
#include "intune/exchange.h"
#include "intune/intune.h"

#include <stdatomic.h>

/** Settings never change after intune_make(): all that moves is in the cache, the secret source and the HTTP client. */
struct intune_t {
    intune_settings_t settings;
    cache_t *cache;
    http_client_t *http;
    observer_t observer; /**< or none */
    volatile apr_uint32_t stopping; /**< apr_atomic: set by intune_stop() */
    _Atomic apr_time_t answered_at; /**< when an errand of this process was answered last */
};

/** How the last call of an errand ended, whoever was called. */
typedef enum trial_t {
    TRIAL_NONE,     /**< there was none, or it says nothing about Microsoft */
    TRIAL_ANSWERED, /**< an answer came, of whatever kind */
    TRIAL_FAILED    /**< none came, or one that tells of trouble over there: 408, 429, 5xx */
} trial_t;

/** One piece of work with its time budget: a validation, a report, a renewal. One thread. */
typedef struct errand_t {
    intune_t *intune;
    intune_call_t *call;
    result_t *result;       /**< where problems go: the call's, or one of somebody who words them anew */
    apr_time_t began;
    apr_time_t deadline;
    http_failure_t failure; /**< how the last HTTP call ended */
    int retries;            /**< how often each of its calls may be tried again */
    trial_t trial;
    const char *trouble;    /**< the last call's service and outcome, for people; or NULL */
    apr_interval_time_t asked_to_wait; /**< the last answer's Retry-After */
    bool may_be_held;       /**< a validation: the breaker may hold it back */
    bool saw_trouble;       /**< breaker_enter() found a record */
    const char *probe;      /**< owner of the probe's lease, or NULL */
} errand_t;

/** Starts the budget. PROBLEM_INTERNAL before intune_attach(). */
apr_status_t errand_begin(errand_t *errand, intune_t *intune, intune_call_t *call);

/** Sets the call's duration; gives `rv` back. */
apr_status_t errand_end(errand_t *errand, apr_status_t rv);

/** result_set() with all its companions. `detail` and `code` are escaped; `code` may be NULL. */
apr_status_t errand_fail(errand_t *errand, problem_t problem, const char *code, apr_interval_time_t retry_after,
                         const char *detail);

bool errand_stopping(const errand_t *errand);

/** One part of a cache key, with its length in front so that no two lists of parts make the same key. */
const char *key_part(apr_pool_t *pool, const char *text);

/** What proves to Entra who we are, as it was read for one token request. Lives in the pool it was taken into. */
typedef struct credential_t {
    const char *directive;  /**< that it comes from */
    const char *about;      /**< for details: " (certificate …)" or "" */
    const char *stamp;      /**< tells this credential from its successor, and tells nothing else; "" where there is none */
    const secret_t *secret; /**< key or federated token; NULL for a certificate */
    const app_pair_t *pair; /**< or NULL */
} credential_t;

/** Reads the credential anew where its files changed. PROBLEM_CREDENTIAL_UNUSABLE for a token file that is none. */
apr_status_t credential_take(errand_t *errand, credential_t *credential, apr_pool_t *pool);

/** The stamp of the credential now; "" where there is none. */
const char *credential_stamp(errand_t *errand, apr_pool_t *pool);

/** Its fields of the token request, escaped; overwritten with the pool. NULL: PROBLEM_CREDENTIAL_UNUSABLE. */
const char *credential_form(errand_t *errand, const credential_t *credential, const char *endpoint, apr_pool_t *pool);

/** After Entra refused the credential with that stamp: whether there is another one now. May run a command for it. */
bool credential_changed(errand_t *errand, const char *stamp, apr_pool_t *pool);

/** Work that many want and one does for all of them, in all processes. */
typedef struct flight_t {
    const char *key;     /**< of the failure record */
    const char *lease;
    problem_t late;      /**< the problem where the waiting takes too long */
    const char *what;    /**< "a token for …" */
    /** Whether the result is there; takes it. `scratch` is cleared afterwards. */
    bool (*ready)(errand_t *errand, void *baton, apr_pool_t *scratch);
    /** Does the work. Holds the lease, and no mutex. */
    apr_status_t (*work)(errand_t *errand, void *baton);
    void *baton;
    /** It asks Entra: a refusal that token_fetch() left under this key holds for its credential. */
    bool by_credential;
} flight_t;

/** Until `ready`, or until the work has failed here or elsewhere: then with the same problem for everybody. */
apr_status_t flight_run(errand_t *errand, const flight_t *flight);

/** Entra refused the credential with that stamp: for half a minute nobody asks again with it. */
void refusal_put(errand_t *errand, const char *key, const char *stamp);

/**
 * Whether the credential as it is now was refused within the last half minute; if so, the errand fails with the same
 * words. A command that gives the credential is run again before.
 */
bool refusal_taken(errand_t *errand, const char *key, apr_pool_t *scratch);

/** How long a lease is claimed for: a little more than the budget of its holder. */
apr_time_t flight_lease_end(const errand_t *errand);

/** A short-lived remark in the cache, without content. */
bool note_present(errand_t *errand, const char *key, apr_pool_t *scratch);
void note_put(errand_t *errand, const char *key, apr_interval_time_t life);

typedef struct token_t {
    const char *text;
    apr_time_t fetched_at;
    apr_time_t renew_at;
    apr_time_t usable_until;
    bytes_t record; /**< as it is in the cache */
} token_t;

/** Scope of Graph's and of Intune's tokens. */
const char *token_scope_graph(const intune_t *intune, apr_pool_t *pool);
const char *token_scope_intune(const intune_t *intune, apr_pool_t *pool);

/** The cache key, which is also the name of the lease. */
const char *token_key(const intune_t *intune, const char *scope, apr_pool_t *pool);

/** The cached token while it is usable, else NULL. It lives in `pool`. */
const token_t *token_cached(errand_t *errand, const char *key, apr_pool_t *pool);

/**
 * A usable token that another machine has put where all machines look, if it is another one than `old` (which may be
 * NULL). It is in this machine's cache then. Only for the holder of the lease.
 */
const token_t *token_shared(errand_t *errand, const char *scope, const token_t *old);

/** A usable token from the cache or from Entra. */
apr_status_t token_get(errand_t *errand, const char *scope, const token_t **token);

/** Asks Entra and puts the token in the cache, for other machines too. Only for the holder of the lease. */
apr_status_t token_fetch(errand_t *errand, const char *scope, const token_t **token);

/**
 * exchange_run() with a token; once more with a new one after 401 or 403. Fails only where there is no token.
 * @param token in: one that the caller has already, or NULL. Out: the last one used.
 */
apr_status_t token_exchange(errand_t *errand, exchange_t *exchange, const char *scope, const token_t **token,
                            apr_pool_t *pool);

/** Where the SCEP service is: a URL without "/" at its end, in the call's pool. */
apr_status_t location_get(errand_t *errand, const char **uri);

/**
 * After a call to `*uri` did not find the service: asks Graph again, at most once a minute for all.
 * @return whether `*uri` is another one now.
 */
bool location_again(errand_t *errand, const char **uri);

/** For a background task: asks Graph again an hour before the location is a day old; the old one stays meanwhile. */
void location_renew(errand_t *errand);

/** Whether the discovered URI may be used: https, or http on loopback. Else `why` names the reason. */
bool location_is_safe(const char *uri, const char **why);

/** What Intune said. */
typedef struct service_reply_t {
    int status;              /**< HTTP status of Intune's answer, 0 without one */
    bool retried;            /**< an earlier try had no good answer: Intune may have taken it all the same */
    bool success;            /**< 2xx and exactly "Success" */
    const char *code;        /**< escaped, or NULL */
    const char *description; /**< escaped and cut, or "" */
} service_reply_t;

/**
 * One call of Intune's: token, location, call. APR_SUCCESS for a 2xx answer with a string code, of whatever value.
 * @param action below ScepActions/
 */
apr_status_t service_call(errand_t *errand, const char *action, const char *body, apr_size_t len,
                          service_reply_t *reply);

#endif
