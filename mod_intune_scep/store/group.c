/* SPDX-License-Identifier: Apache-2.0 */
#include "store/group.h"

#include "base/clock.h"

/* More than a process in front of it takes for its work, unless the disk stands still. */
static const apr_interval_time_t TURN_LIMIT = apr_time_from_sec(1);

struct group_t {
    group_work_t *work;
    turn_t *turn;
    pthread_mutex_t lock; /* of the rest, and of the members' places */
    bool is_led;          /* somebody leads; without a leader nobody is queued */
    group_member_t *first;
    group_member_t **end;
};

static apr_status_t group_end(void *data)
{
    group_t *group = data;
    pthread_mutex_destroy(&group->lock);
    return APR_SUCCESS;
}

apr_status_t group_make(group_t **group, group_work_t *work, turn_t *turn, apr_pool_t *pool)
{
    group_t *made = apr_pcalloc(pool, sizeof(*made));
    made->work = work;
    made->turn = turn;
    made->end = &made->first;
    int rv = pthread_mutex_init(&made->lock, NULL);
    if (rv) {
        return APR_FROM_OS_ERROR(rv);
    }
    apr_pool_cleanup_register(pool, made, group_end, apr_pool_cleanup_null);
    *group = made;
    return APR_SUCCESS;
}

static int member_begin(group_member_t *member)
{
    /* By a clock that nobody sets. */
    pthread_condattr_t clock;
    int rv = pthread_condattr_init(&clock);
    if (rv) {
        return rv;
    }
    rv = pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    if (!rv) {
        rv = pthread_cond_init(&member->woken, &clock);
    }
    pthread_condattr_destroy(&clock);
    member->next = NULL;
    member->place = GROUP_QUEUED;
    return rv;
}

static void queue(group_t *group, group_member_t *member)
{
    *group->end = member;
    group->end = &member->next;
    if (!group->is_led) {
        group->is_led = true;
        member->place = GROUP_LEADS;
    }
}

static void unqueue(group_t *group, const group_member_t *member)
{
    group_member_t **place = &group->first;
    while (*place && *place != member) {
        place = &(*place)->next;
    }
    if (*place) {
        *place = member->next;
    }
    if (!*place) {
        group->end = place;
    }
}

static int take(group_t *group, group_member_t **members)
{
    int count = 0;
    while (count < GROUP_MAX && group->first) {
        group_member_t *member = group->first;
        group->first = member->next;
        member->place = GROUP_TAKEN;
        members[count++] = member;
    }
    if (!group->first) {
        group->end = &group->first;
    }
    return count;
}

/* A member is its caller's again as soon as it is done and the lock is free. */
static void hand_on(group_t *group, group_member_t *const *members, int count)
{
    group->is_led = group->first != NULL;
    if (group->first) {
        group->first->place = GROUP_LEADS;
        pthread_cond_signal(&group->first->woken);
    }
    for (int i = 0; i < count; i++) {
        members[i]->place = GROUP_DONE;
        pthread_cond_signal(&members[i]->woken);
    }
}

/* Called with the lock. */
static void lead(group_t *group)
{
    group_member_t *members[GROUP_MAX];
    pthread_mutex_unlock(&group->lock);
    bool has_turn = turn_take(group->turn, TURN_LIMIT);
    /* Only now: what came while another process had its turn goes along. */
    pthread_mutex_lock(&group->lock);
    int count = take(group, members);
    pthread_mutex_unlock(&group->lock);
    group->work(members, count);
    if (has_turn) {
        turn_give(group->turn);
    }
    pthread_mutex_lock(&group->lock);
    hand_on(group, members, count);
}

apr_status_t group_do(group_t *group, group_member_t *member, apr_interval_time_t limit)
{
    int rv = member_begin(member);
    if (rv) {
        return APR_FROM_OS_ERROR(rv);
    }
    struct timespec end = clock_after(CLOCK_MONOTONIC, limit);
    pthread_mutex_lock(&group->lock);
    queue(group, member);
    while (!rv && member->place == GROUP_QUEUED) {
        rv = pthread_cond_timedwait(&member->woken, &group->lock, &end);
    }
    if (member->place == GROUP_LEADS) {
        lead(group);
    }
    while (member->place == GROUP_TAKEN) {
        pthread_cond_wait(&member->woken, &group->lock);
    }
    bool done = member->place == GROUP_DONE;
    if (!done) {
        unqueue(group, member);
    }
    pthread_mutex_unlock(&group->lock);
    pthread_cond_destroy(&member->woken);
    return done ? APR_SUCCESS : APR_TIMEUP;
}

int group_queued(group_t *group)
{
    int count = 0;
    pthread_mutex_lock(&group->lock);
    for (const group_member_t *member = group->first; member; member = member->next) {
        count++;
    }
    pthread_mutex_unlock(&group->lock);
    return count;
}
