/* SPDX-License-Identifier: Apache-2.0 */
#include "store/aside_provider.h"

#include <apr_thread_cond.h>
#include <apr_thread_mutex.h>
#include <apr_thread_proc.h>
#include <signal.h>
#include <stdlib.h>

typedef enum call_t { CALL_RETRIEVE, CALL_STORE, CALL_REMOVE } call_t;

/* On the heap, because it outlives a caller who lost patience. Values are sealed by those above: no secrets. */
typedef struct job_t {
    struct job_t *next;
    call_t call;
    bool done;
    bool abandoned; /* nobody waits: the thread frees it */
    apr_status_t rv;
    apr_time_t expires;
    unsigned int length;
    unsigned char id[CACHE_ID_BYTES];
    unsigned char value[ASIDE_VALUE_MAX];
} job_t;

typedef struct aside_t {
    const cache_provider_t *outside;
    apr_interval_time_t patience;
    apr_thread_mutex_t *mutex; /* guards all below; never held during a call */
    apr_thread_cond_t *wake;   /* the thread: work, or the end */
    apr_thread_cond_t *moved;  /* the callers: a job is done, or the thread has ended */
    apr_pool_t *pool;          /* the thread's; not a child of any pool that goes while it may hang */
    apr_thread_t *thread;
    job_t *first; /* not begun yet */
    job_t *running;
    bool stopping;
    bool ended;
} aside_t;

static apr_status_t outside_call(const aside_t *aside, job_t *job)
{
    const cache_provider_t *outside = aside->outside;
    apr_pool_t *scratch = NULL;
    apr_status_t rv = apr_pool_create(&scratch, NULL);

    if (rv != APR_SUCCESS)
        return rv;
    switch (job->call) {
    case CALL_RETRIEVE:
        rv = outside->retrieve(outside->baton, job->id, job->value, &job->length, scratch);
        break;
    case CALL_STORE:
        rv = outside->store(outside->baton, job->id, job->value, job->length, job->expires, scratch);
        break;
    case CALL_REMOVE:
        rv = outside->remove(outside->baton, job->id, scratch);
        break;
    }
    apr_pool_destroy(scratch);
    return rv;
}

static void *APR_THREAD_FUNC work(apr_thread_t *thread, void *data)
{
    aside_t *aside = data;
    sigset_t all;

    (void)thread;
    /* signals are for the threads of the server */
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    apr_thread_mutex_lock(aside->mutex);
    while (!aside->stopping) {
        job_t *job = aside->first;
        apr_status_t rv;

        if (!job) {
            apr_thread_cond_wait(aside->wake, aside->mutex);
            continue;
        }
        aside->first = job->next;
        aside->running = job;
        apr_thread_mutex_unlock(aside->mutex);
        rv = outside_call(aside, job);
        apr_thread_mutex_lock(aside->mutex);
        aside->running = NULL;
        job->rv = rv;
        job->done = true;
        if (job->abandoned)
            free(job);
        apr_thread_cond_broadcast(aside->moved);
    }
    aside->ended = true;
    apr_thread_cond_broadcast(aside->moved);
    apr_thread_mutex_unlock(aside->mutex);
    return NULL;
}

static apr_status_t thread_need(aside_t *aside)
{
    apr_status_t rv;

    if (aside->thread)
        return APR_SUCCESS;
    if (!aside->pool && (rv = apr_pool_create(&aside->pool, NULL)) != APR_SUCCESS)
        return rv;
    rv = apr_thread_create(&aside->thread, NULL, work, aside, aside->pool);
    if (rv != APR_SUCCESS)
        aside->thread = NULL;
    return rv;
}

static void enqueue(aside_t *aside, job_t *job)
{
    job_t **end = &aside->first;

    while (*end)
        end = &(*end)->next;
    *end = job;
    apr_thread_cond_signal(aside->wake);
}

static void dequeue(aside_t *aside, const job_t *job)
{
    job_t **at = &aside->first;

    while (*at && *at != job)
        at = &(*at)->next;
    if (*at)
        *at = job->next;
}

/* With the mutex. Afterwards the job is done, or is not this caller's any more. */
static apr_status_t wait_for(aside_t *aside, job_t **job)
{
    apr_time_t deadline = apr_time_now() + aside->patience;
    apr_interval_time_t rest = aside->patience;

    while (!(*job)->done && !aside->ended && rest > 0) {
        apr_thread_cond_timedwait(aside->moved, aside->mutex, rest);
        rest = deadline - apr_time_now();
    }
    if ((*job)->done)
        return (*job)->rv;
    if (aside->running == *job) {
        (*job)->abandoned = true;
        *job = NULL;
    } else {
        dequeue(aside, *job);
    }
    return APR_TIMEUP;
}

/* `*job` is NULL afterwards where the thread still has it. */
static apr_status_t job_run(aside_t *aside, job_t **job)
{
    apr_status_t rv = apr_thread_mutex_lock(aside->mutex);

    if (rv != APR_SUCCESS)
        return rv;
    if (aside->stopping)
        rv = APR_EGENERAL;
    else if (aside->running && aside->running->abandoned)
        rv = APR_TIMEUP;
    else if ((rv = thread_need(aside)) == APR_SUCCESS) {
        enqueue(aside, *job);
        rv = wait_for(aside, job);
    }
    apr_thread_mutex_unlock(aside->mutex);
    return rv;
}

static job_t *job_make(call_t call, const unsigned char *id)
{
    job_t *job = calloc(1, sizeof(*job));

    if (job) {
        job->call = call;
        memcpy(job->id, id, CACHE_ID_BYTES);
    }
    return job;
}

static apr_status_t aside_retrieve(void *baton, const unsigned char *id, unsigned char *value, unsigned int *length,
                                   apr_pool_t *pool)
{
    job_t *job = job_make(CALL_RETRIEVE, id);
    apr_status_t rv;

    (void)pool;
    if (!job)
        return APR_ENOMEM;
    job->length = *length < ASIDE_VALUE_MAX ? *length : ASIDE_VALUE_MAX;
    rv = job_run(baton, &job);
    if (rv == APR_SUCCESS && job->length > *length)
        rv = APR_EGENERAL;
    if (rv == APR_SUCCESS) {
        memcpy(value, job->value, job->length);
        *length = job->length;
    }
    free(job);
    return rv;
}

static apr_status_t aside_store(void *baton, const unsigned char *id, const unsigned char *value, unsigned int length,
                                apr_time_t expires, apr_pool_t *pool)
{
    job_t *job;
    apr_status_t rv;

    (void)pool;
    if (length > ASIDE_VALUE_MAX)
        return APR_ENOSPC;
    if (!(job = job_make(CALL_STORE, id)))
        return APR_ENOMEM;
    memcpy(job->value, value, length);
    job->length = length;
    job->expires = expires;
    rv = job_run(baton, &job);
    free(job);
    return rv;
}

static apr_status_t aside_remove(void *baton, const unsigned char *id, apr_pool_t *pool)
{
    job_t *job = job_make(CALL_REMOVE, id);
    apr_status_t rv;

    (void)pool;
    if (!job)
        return APR_ENOMEM;
    rv = job_run(baton, &job);
    free(job);
    return rv;
}

static apr_status_t aside_lock(void *baton)
{
    (void)baton;
    return APR_SUCCESS;
}

static void aside_unlock(void *baton)
{
    (void)baton;
}

apr_status_t aside_provider_make(cache_provider_t **provider, const cache_provider_t *outside,
                                 apr_interval_time_t patience, apr_pool_t *pool)
{
    aside_t *aside = apr_pcalloc(pool, sizeof(*aside));
    cache_provider_t *made = apr_pcalloc(pool, sizeof(*made));
    apr_status_t rv;

    if ((rv = apr_thread_mutex_create(&aside->mutex, APR_THREAD_MUTEX_DEFAULT, pool)) != APR_SUCCESS ||
        (rv = apr_thread_cond_create(&aside->wake, pool)) != APR_SUCCESS ||
        (rv = apr_thread_cond_create(&aside->moved, pool)) != APR_SUCCESS)
        return rv;
    aside->outside = outside;
    aside->patience = patience;
    made->retrieve = aside_retrieve;
    made->store = aside_store;
    made->remove = aside_remove;
    made->lock = aside_lock;
    made->unlock = aside_unlock;
    made->baton = aside;
    *provider = made;
    return APR_SUCCESS;
}

void aside_provider_stop(const cache_provider_t *provider)
{
    aside_t *aside = provider->baton;
    apr_time_t deadline = apr_time_now() + 2 * aside->patience;
    apr_interval_time_t rest = 2 * aside->patience;
    apr_status_t rv;
    bool ended;

    apr_thread_mutex_lock(aside->mutex);
    aside->stopping = true;
    apr_thread_cond_signal(aside->wake);
    while (aside->thread && !aside->ended && rest > 0) {
        apr_thread_cond_timedwait(aside->moved, aside->mutex, rest);
        rest = deadline - apr_time_now();
    }
    ended = aside->thread && aside->ended;
    apr_thread_mutex_unlock(aside->mutex);
    if (ended) {
        apr_thread_join(&rv, aside->thread);
        aside->thread = NULL;
        apr_pool_destroy(aside->pool);
        aside->pool = NULL;
    }
}
