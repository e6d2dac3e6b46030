/* SPDX-License-Identifier: Apache-2.0 */
/* A profile: everything that one location is made of, checked at start and read by all threads afterwards. */
#ifndef ISCEP_GATEWAY_PROFILE_H
#define ISCEP_GATEWAY_PROFILE_H

#include "base/repeats.h"
#include "intune/intune.h"
#include "scep/http_side.h"
#include "store/counters.h"
#include "store/journal.h"

#include <regex.h>

/** How an Intune challenge is told from other passwords (IntuneScepChallengeMatch). */
typedef enum challenge_match_t {
    CHALLENGE_SHAPE,  /**< base64 of a CMS ContentInfo */
    CHALLENGE_ALWAYS, /**< whatever is there */
    CHALLENGE_REGEX   /**< what the extended regular expression finds */
} challenge_match_t;

typedef enum notify_t {
    NOTIFY_BEFORE, /**< a certificate is delivered only once Intune has taken the success notification */
    NOTIFY_AFTER   /**< delivered even when Intune does not take it */
} notify_t;

/** How an answer of the CA that was lost is recovered (IntuneScepResync). */
typedef enum resync_t {
    RESYNC_RESEND, /**< the same request once more, validated anew */
    RESYNC_POLL,   /**< CertPoll first, then as above */
    RESYNC_NONE    /**< left to the operator */
} resync_t;

/** How a device is told to come back (IntuneScepComeBack). */
typedef enum come_back_t { COME_BACK_503, COME_BACK_PENDING } come_back_t;

typedef struct profile_t {
    const char *name;
    int index; /**< 0, 1, … in the order of the configuration */
    const scep_identity_t *identity;
    scep_policy_t policy;
    intune_t *intune;
    challenge_match_t challenge_match;
    const regex_t *challenge_regex;
    notify_t notify;
    resync_t resync;
    come_back_t come_back;
    apr_interval_time_t ca_time;       /**< for the CA's whole answer */
    apr_interval_time_t report_time;   /**< for one report to Intune */
    apr_interval_time_t grace;         /**< of a transaction without an answer of the CA */
    apr_interval_time_t pending_limit;
    apr_interval_time_t report_limit;  /**< how long a report is tried */
    const scep_identity_t *former;     /**< with the RA's former certificate, for what it asked; or NULL */
    const char *former_fp;
    const char *ra_fp;                 /**< thumbprint of the RA's certificate */
    const char *backend;       /**< the CA's SCEP URL, without a query */
    unsigned backend_capabilities; /**< SCEP_CAP_… as the operator set them, 0: the CA is asked */
    apr_size_t max_message;    /**< bytes of a device's message, of the CA's answer four times as much */
    int max_concurrent;        /**< enrolments at once in all processes; set at start */
    cache_t *cache;            /**< set in each process by profile_attach() */
    journal_t *journal;        /**< likewise; NULL: there is none */
    counters_t *counters;      /**< set at start, or NULL */
    repeats_t *repeats;        /**< set at start, or NULL: every line is written as it is */
} profile_t;

/** Gives the profile what a process must make for itself, after the fork: the shared cache, the journal (or NULL) and the
 * client to Microsoft. */
apr_status_t profile_attach(profile_t *profile, cache_t *cache, journal_t *journal, apr_pool_t *pool,
                            const char **message);

/** How long a claim on a transaction lasts: the CA leg and one report, with a little for ourselves. */
apr_interval_time_t profile_lease(const profile_t *profile);

/** Whether the challenge is one of Intune's, by the profile's rule. */
bool profile_challenge_matches(const profile_t *profile, const secret_t *challenge, apr_pool_t *pool);

/**
 * What the CA can, as SCEP_CAP_… bits: what the operator says, else what its GetCACaps said when it was last seen,
 * which all processes share. 0 where nobody asked within the last day.
 * @param due set to whether it should be asked (again): nothing is known, or it is more than ten minutes old. May be
 * NULL.
 */
unsigned profile_backend_capabilities(const profile_t *profile, bool *due, apr_pool_t *pool);

/** Whether the caller is to ask the CA for them: one at a time in all processes, and a silent CA once in half a
 * minute. */
bool profile_backend_capabilities_claim(const profile_t *profile, apr_pool_t *pool);

/**
 * Keeps what the CA said; `capabilities` 0 means that it gave no answer to be used: then what was known before stays,
 * and those who wait for it need not wait any longer.
 */
void profile_backend_capabilities_keep(const profile_t *profile, unsigned capabilities);

#endif
