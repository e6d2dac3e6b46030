/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state of the gateway at one moment. One function gathers it; the page, JSON, Prometheus' text, the health check and
 * mod_status' summary only write down what is in it. docs/status.md says what people and programs see.
 */
#ifndef ISCEP_GATEWAY_STATUS_H
#define ISCEP_GATEWAY_STATUS_H

#include "expiry.h"
#include "profile.h"

typedef enum status_level_t {
    STATUS_UNKNOWN, /**< nothing was seen yet */
    STATUS_GOOD,
    STATUS_WARNING, /**< somebody should look, enrolments go on */
    STATUS_BAD      /**< enrolments fail, or will soon */
} status_level_t;

/** "unknown", "good", "warning", "bad" */
const char *status_level_name(status_level_t level);

/** A directive in force; the value of a secret is "***". */
typedef struct status_setting_t {
    const char *name;
    const char *value;
} status_setting_t;

/** What only the server knows of a location. */
typedef struct status_site_t {
    const profile_t *profile;
    int places_used;
    const apr_array_header_t *settings; /**< of status_setting_t */
} status_site_t;

typedef struct status_source_t {
    const char *version;
    const char *host;
    const status_site_t *sites;
    int count;                          /**< at least 1 */
    const apr_array_header_t *settings; /**< of the whole server; of status_setting_t */
    apr_interval_time_t patience;       /**< how old the journal's counts may be; 0: whatever is there */
    bool recent;                        /**< with the recent transactions */
    const char *query;                  /**< what is searched for, or NULL */
} status_source_t;

typedef struct status_location_t {
    const profile_t *profile;
    status_level_t level;
    counts_t counts;
    status_level_t services[SERVICE_COUNT];
    intune_breaker_t breaker;
    status_level_t outbox;
    const apr_array_header_t *expiries; /**< of expiry_t */
    int places_used;
    const apr_array_header_t *settings;
} status_location_t;

typedef struct status_t {
    const char *version;
    const char *host;
    apr_time_t now;
    apr_time_t began;   /**< since when it is counted */
    apr_time_t went_on; /**< the last start or restart */
    status_level_t level;
    int count;
    status_location_t *locations;
    const apr_array_header_t *settings;
    const char *journal_id; /**< the journal's own: machines that show another have another; NULL: none, or not known yet */
    const apr_array_header_t *recent; /**< of counters_record_t *, newest first; with a query those that fit */
    const char *query;
    const apr_array_header_t *found;  /**< with a query: of journal_row_t *; NULL without a journal */
    const char *search_failed;        /**< why the journal was not searched, or NULL */
} status_t;

/** Texts live in `pool`. Reads shared memory; the journal only where `patience` or `query` ask for it. */
void status_make(status_t *status, const status_source_t *source, apr_pool_t *pool);

/** Level of something that expires. */
status_level_t status_of_expiry(const expiry_t *expiry);

/** "closed", "open", "half-open" */
const char *status_breaker_name(const intune_breaker_t *breaker);

/** A transaction's outcome as a sentence, without what came from outside. */
const char *status_outcome_words(int outcome);

/** What a health check takes into account: bits, from the words of IntuneScepHealth. */
enum {
    HEALTH_JOURNAL = 1, /**< the journal's last use failed */
    HEALTH_BREAKER = 2, /**< Microsoft is not asked, for it failed */
    HEALTH_EXPIRY = 4,  /**< something has expired */
    HEALTH_OUTBOX = 8,  /**< reports are dead, or owed for more than an hour */
    HEALTH_CA = 16,     /**< the CA failed five times in a row */
    HEALTH_MICROSOFT = 32 /**< Entra, Graph or Intune did; a refused credential or permission counts, too */
};
/** NULL, or the first unknown word. */
const char *status_health_parse(unsigned *words, const char *text, apr_pool_t *pool);

/** The reasons for which the gateway is not healthy; of `const char *`, safe to print. */
apr_array_header_t *status_health(const status_t *status, unsigned words, apr_pool_t *pool);

/* The forms. All give a text in `pool`. */

/** One JSON object, docs/status.schema.json; NULL without memory. */
const char *status_json(const status_t *status, apr_pool_t *pool);

/** Prometheus' text format 0.0.4; metrics.def has the metrics. */
const char *status_metrics(const status_t *status, apr_pool_t *pool);

/** HTML, and the Content-Security-Policy that lets its style through and nothing else. */
const char *status_page(const status_t *status, apr_pool_t *pool);
const char *status_page_policy(const scep_engine_t *engine, apr_pool_t *pool);

#endif
