/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the gateway has done, counted over all processes in one block of shared memory that somebody else provides
 * (httpd/counting.c) and that outlives a graceful restart. Everything is lock-free: counting costs a few atomic
 * additions, and nobody waits for a reader or for a process that was killed.
 *
 * The recent transactions are a ring of records in the same block, and so is what the journal was last found to owe.
 */
#ifndef ISCEP_STORE_COUNTERS_H
#define ISCEP_STORE_COUNTERS_H

#include "base/observer.h"
#include "base/result.h"

#include <apr_tables.h>
#include <stdbool.h>
#include <stdint.h>

/** How a transaction may end well. */
typedef enum ending_t {
    ENDING_ENROLLED,
    ENDING_DELIVERED_AGAIN, /**< a device that came again got its certificate */
    ENDING_PENDING,         /**< it was told to poll */
    ENDING_INQUIRY,         /**< GetCert and GetCRL */
    ENDING_COUNT
} ending_t;

/** An outcome is an ending, or a problem behind them all. */
enum { OUTCOME_COUNT = (int)ENDING_COUNT + (int)PROBLEM_COUNT - 1 };

static inline int outcome_of_problem(problem_t problem)
{
    return (int)ENDING_COUNT + (int)problem - 1;
}

/** PROBLEM_NONE for one that ended well. */
static inline problem_t outcome_problem(int outcome)
{
    return outcome < (int)ENDING_COUNT ? PROBLEM_NONE : (problem_t)(outcome - (int)ENDING_COUNT + 1);
}

/** For metrics, JSON and notes: "enrolled", "delivered_again", …, or a problem's symbol. Never NULL. */
const char *outcome_name(int outcome);
const char *service_name(service_t service);
const char *call_kind_name(call_kind_t kind);
const char *call_end_name(call_end_t end);

/** Whom a call asks. */
service_t call_service(call_kind_t kind);

/** Whether such an end tells that the service is in trouble, or does not want us. */
static inline bool call_end_is_trouble(call_end_t end)
{
    return end > CALL_REFUSED;
}

/** Upper bounds of the histograms' buckets in milliseconds; the last bucket has none. */
enum { HISTOGRAM_BOUNDS = 17 };
extern const int HISTOGRAM_MS[HISTOGRAM_BOUNDS];

typedef struct histogram_t {
    uint64_t counts[HISTOGRAM_BOUNDS + 1]; /**< for each bucket alone */
    uint64_t total;
    double seconds;                        /**< the sum of all */
} histogram_t;

/** The value in milliseconds below which that share lies, interpolated within its bucket; -1 without any. */
double histogram_quantile(const histogram_t *histogram, double share);

enum { RECENT_TRANSACTIONS = 200, RECORD_TEXT = 256 };

/** A transaction as it ended. */
typedef struct counters_record_t {
    apr_time_t time;
    apr_interval_time_t validate, report, ca, whole; /**< 0: there was none */
    int location;
    int outcome;
    int http_status;
    char platform[12];
    char transaction[RECORD_TEXT]; /**< as sent */
    char subject[RECORD_TEXT];     /**< UTF-8, perhaps cut; as it is: escape it */
    char serial[64];
    char code[68];       /**< of Intune or Entra */
    char reference[20];
    char request_id[40];
    char detail[RECORD_TEXT];
} counters_record_t;

/** One location's part of the block, in this process. */
typedef struct counters_t counters_t;

apr_size_t counters_size(int locations);

/** Empties the memory, and begins to count. */
void counters_begin(void *memory, int locations);

/** The same configuration goes on with a block: notes the time. */
void counters_go_on(void *memory);

/** The handle of one location, in `pool`. */
counters_t *counters_of(void *memory, int location, apr_pool_t *pool);

/* All of these do nothing for NULL. */

/** A call ended. */
void counters_call(counters_t *counters, const call_seen_t *seen);

/** The same, for those who know no counters. */
observer_t counters_observer(counters_t *counters);

/** A service that is not called by HTTP was used: the journal. `words` where it failed. */
void counters_service(counters_t *counters, service_t service, bool well, const char *words);

/** Whether its last use failed. */
bool counters_service_fails(const counters_t *counters, service_t service);

/** A transaction ended. The record's location is set here; without a transactionID it is counted only. */
void counters_ended(counters_t *counters, counters_record_t *record);

/** What the journal holds for a location. */
typedef struct counters_outbox_t {
    apr_time_t read_at;
    int owed;    /**< reports that Intune is owed now */
    int dead;    /**< given up */
    int withheld;
    int pending; /**< the CA has not decided yet */
    int unknown; /**< the CA's answer was lost */
    apr_interval_time_t oldest; /**< how long one of the owed ones is owed at the most */
} counters_outbox_t;

/** Whether the caller is to look into the journal: what is kept is older than `age`, and nobody else is at it. */
bool counters_outbox_due(counters_t *counters, apr_interval_time_t age);
void counters_outbox_keep(counters_t *counters, const counters_outbox_t *outbox);

/* Reading. */

typedef struct service_seen_t {
    apr_time_t last_success, last_failure; /**< 0: never */
    int failures;                          /**< since the last success */
    const char *words;                     /**< of the last failure; "" without */
} service_seen_t;

/** A copy of one location's counters. */
typedef struct counts_t {
    uint64_t outcomes[OUTCOME_COUNT];
    uint64_t successes, failures;
    uint64_t calls[CALL_KINDS][CALL_ENDS];
    histogram_t durations[CALL_KINDS];
    histogram_t transactions;
    service_seen_t services[SERVICE_COUNT];
    unsigned recent_successes, recent_failures; /**< of the last five minutes */
    bool outbox_known;
    counters_outbox_t outbox;
} counts_t;

void counters_read(const counters_t *counters, counts_t *counts, apr_pool_t *pool);

/** Since when the block counts, and when a restart went on with it last. */
apr_time_t counters_began(const counters_t *counters);
apr_time_t counters_went_on(const counters_t *counters);

/** The recent transactions of all locations, newest first; of `counters_record_t *`. */
apr_array_header_t *counters_recent(const counters_t *counters, apr_pool_t *pool);

#endif
