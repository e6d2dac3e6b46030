/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Threads that each want something written, and one of them who does it for several at a time: the leader. Whoever comes
 * while nobody leads does; what comes meanwhile queues up, and the first of that leads next. So nobody waits for others to
 * come, and a group is what came during the last one.
 */
#ifndef ISCEP_STORE_GROUP_H
#define ISCEP_STORE_GROUP_H

#include "store/turn.h"

#include <apr_errno.h>
#include <apr_pools.h>
#include <pthread.h>

enum { GROUP_MAX = 32 };

typedef struct group_t group_t;

typedef enum group_place_t { GROUP_QUEUED, GROUP_LEADS, GROUP_TAKEN, GROUP_DONE } group_place_t;

/** What a caller wants begins with one of these; it lies on his stack, for he waits. Its members are the group's own. */
typedef struct group_member_t {
    struct group_member_t *next;
    group_place_t place;
    pthread_cond_t woken;
} group_member_t;

/**
 * Does what up to GROUP_MAX members want, in their order, and notes in each what became of it. Called in the thread of
 * the first one, the leader, while the others wait: pools are used as by him alone.
 */
typedef void group_work_t(group_member_t *const *members, int count);

/** @param turn of the processes, which a leader takes for his work; may be NULL. */
apr_status_t group_make(group_t **group, group_work_t *work, turn_t *turn, apr_pool_t *pool);

/**
 * Has it done. Any thread.
 * @param limit for the place in the queue. Once taken, a member waits until its work is done, which nobody can call off.
 * @return APR_SUCCESS: it was worked at. APR_TIMEUP: nobody touched it.
 */
apr_status_t group_do(group_t *group, group_member_t *member, apr_interval_time_t limit);

/** For tests: how many wait in the queue, a leader who waits for his turn included. */
int group_queued(group_t *group);

#endif
