/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The outbox: reports that Intune is owed, sent in the background. Every process runs it; the rows' claims keep two from
 * sending the same one, and those of a process that died are taken over.
 */
#ifndef ISCEP_GATEWAY_OUTBOX_H
#define ISCEP_GATEWAY_OUTBOX_H

#include "profile.h"

/** What the process that runs it lends. */
typedef struct outbox_t {
    const log_t *log;
    /** Takes the next place at the configured rate, and gives the time to wait for it; negative: none within a second. */
    apr_interval_time_t (*pace)(void *baton);
    /** Whether the process is about to end. */
    bool (*stopping)(void *baton);
    void *baton;
} outbox_t;

/** Sends what is due for one profile, for some seconds at most. Scratch is made below `pool`. */
void outbox_run(const profile_t *profile, const outbox_t *outbox, apr_pool_t *pool);

/**
 * Once in an hour, for one process: warns where requests wait at the CA that a former RA certificate has asked, and of
 * reports that nobody sends, for none of the profiles has their location's name. `profiles` are all of the server's.
 */
void outbox_look(const profile_t *const *profiles, int count, const outbox_t *outbox, apr_pool_t *pool);

/** Removes rows that are older than `retention`, a few at a time; for one process in a minute. */
void outbox_prune(const profile_t *profile, const outbox_t *outbox, apr_interval_time_t retention, apr_pool_t *pool);

#endif
