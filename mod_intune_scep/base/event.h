/* SPDX-License-Identifier: Apache-2.0 */
/* Events for the operator, as IntuneScepEventCommand gets them (docs/journal.md). */
#ifndef ISCEP_BASE_EVENT_H
#define ISCEP_BASE_EVENT_H

#include <apr_errno.h>
#include <apr_pools.h>
#include <apr_time.h>

typedef struct event_t {
    const char *name;                                     /**< "withheld", "orphan" … */
    const char *location, *transaction, *serial, *detail; /**< or NULL; any text from outside */
    apr_time_t time;
} event_t;

/** One JSON object in one line of ASCII, without the members that are NULL. NULL without memory. */
const char *event_json(const event_t *event, apr_pool_t *pool);

/**
 * Runs the command (base/command.h) with the event's name as its last argument and the JSON, ended by a newline, on its
 * standard input. Blocks, at most for `limit`.
 * @param message on failure, which any exit status but 0 is: what went wrong, in one sentence that names the command.
 */
apr_status_t event_run(const char *command, const event_t *event, apr_interval_time_t limit, apr_pool_t *pool,
                       const char **message);

#endif
