/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Events that an operator should know of, told by IntuneScepEventCommand in the background (docs/journal.md). Those of a
 * transaction are in its row until they are told; the others are watched for here, and one process tells them. What
 * expires is told in the log, too.
 */
#ifndef ISCEP_GATEWAY_EVENTS_H
#define ISCEP_GATEWAY_EVENTS_H

#include "profile.h"

/** What one process remembers of a profile between two looks. */
typedef struct events_watch_t {
    bool breaker_was_open;
    apr_time_t opened_at;
    apr_time_t expiry_at; /**< when what expires is looked at next */
} events_watch_t;

/** What the process that tells them lends. */
typedef struct events_t {
    const char *command; /**< IntuneScepEventCommand, or NULL: what expires is logged all the same */
    apr_time_t started;  /**< when the start told the log what expires, which is then not told again so soon; 0: never */
    const log_t *log;
    /** Whether the process is about to end: then no further command is run. */
    bool (*stopping)(void *baton);
    void *baton;
} events_t;

/** Detail of the event "orphan": this, its serial, and more. The row's own serial is another certificate's, or none. */
#define EVENTS_ORPHAN "certificate serial "

/** Tells the events in the rows of the journal, of all profiles. One thread for each process. */
void events_of_journal(const profile_t *profile, const events_t *events, apr_pool_t *pool);

/** Looks at breaker and certificates of one profile. One thread for each process. */
void events_watch(const profile_t *profile, const events_t *events, events_watch_t *watch, apr_pool_t *pool);

#endif
