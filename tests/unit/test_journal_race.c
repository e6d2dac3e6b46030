/* SPDX-License-Identifier: Apache-2.0 */
/* Many threads of two processes at one row: exactly one of them has it. */
#include "journal_fixture.h"

#include <apr_strings.h>
#include <apr_thread_proc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PROCESSES = 2, THREADS = 16, ROUNDS = 12 };

/* Shared by the processes. */
typedef struct ring_t {
    pthread_barrier_t barrier;
    atomic_int won, lost, errors, wrong;
    char sample[200];
} ring_t;

typedef struct racer_t {
    journal_bed_t *bed;
    ring_t *ring;
    int number; /* 0 is the one that looks */
    apr_status_t (*run)(struct racer_t *racer, int round, apr_pool_t *pool, const char **message);
} racer_t;

static const char *transaction(int round, apr_pool_t *pool)
{
    return apr_psprintf(pool, "T%d", round);
}

/* The bed's pool is another thread's. */
static journal_intent_t intent_of(const racer_t *racer, const char *name, const char *csr, apr_pool_t *pool)
{
    journal_bed_t bed = *racer->bed;
    bed.pool = pool;
    return journal_bed_intent(&bed, name, csr);
}

static apr_status_t race_begin(racer_t *racer, int round, apr_pool_t *pool, const char **message)
{
    journal_row_t *row = NULL;
    journal_intent_t intent = intent_of(racer, transaction(round, pool), "the request", pool);
    pthread_barrier_wait(&racer->ring->barrier);
    apr_status_t rv = journal_begin(racer->bed->journal, &intent, &row, pool, message);
    return rv == APR_EEXIST ? APR_EBUSY : rv;
}

static apr_status_t race_other_begin(racer_t *racer, int round, apr_pool_t *pool, const char **message)
{
    journal_row_t *row = NULL;
    journal_intent_t intent =
        intent_of(racer, transaction(round, pool), apr_psprintf(pool, "request %d", racer->number), pool);
    pthread_barrier_wait(&racer->ring->barrier);
    apr_status_t rv = journal_begin(racer->bed->journal, &intent, &row, pool, message);
    return rv == APR_EEXIST ? APR_EBUSY : rv;
}

static apr_status_t race_claim(const racer_t *racer, int round, journal_purpose_t purpose, apr_pool_t *pool,
                               const char **message)
{
    journal_row_t *row = NULL;
    journal_intent_t intent = intent_of(racer, transaction(round, pool), "the request", pool);
    apr_status_t rv = journal_find(racer->bed->journal, intent.id, &row, pool, message);
    pthread_barrier_wait(&racer->ring->barrier);
    return rv ? rv : journal_claim(racer->bed->journal, &row, purpose, &intent, pool, message);
}

static apr_status_t race_claim_issue(racer_t *racer, int round, apr_pool_t *pool, const char **message)
{
    return race_claim(racer, round, JOURNAL_TO_ISSUE, pool, message);
}

static apr_status_t race_claim_report(racer_t *racer, int round, apr_pool_t *pool, const char **message)
{
    return race_claim(racer, round, JOURNAL_TO_REPORT, pool, message);
}

static apr_status_t race_adopt(racer_t *racer, int round, apr_pool_t *pool, const char **message)
{
    journal_row_t *row = NULL;
    journal_intent_t intent = intent_of(racer, transaction(round, pool), "the request", pool);
    journal_outcome_t late = {.state = JOURNAL_ISSUED, .certificate = bytes_of_text("c"), .certificate_fp = "AB",
                              .serial = "01", .report_now = true, .lease = apr_time_from_sec(60)};
    apr_status_t rv = journal_find(racer->bed->journal, intent.id, &row, pool, message);
    pthread_barrier_wait(&racer->ring->barrier);
    return rv ? rv : journal_adopt(racer->bed->journal, &row, &late, intent.csr, pool, message);
}

static void *APR_THREAD_FUNC race(apr_thread_t *thread, void *data)
{
    racer_t *racer = data;
    ring_t *ring = racer->ring;
    (void)thread;
    for (int round = 0; round < ROUNDS; round++) {
        const char *message = NULL;
        apr_pool_t *pool = NULL;
        apr_pool_create(&pool, NULL);
        apr_status_t rv = racer->run(racer, round, pool, &message);
        atomic_fetch_add(!rv ? &ring->won : rv == APR_EBUSY ? &ring->lost : &ring->errors, 1);
        if (rv && rv != APR_EBUSY) {
            snprintf(ring->sample, sizeof(ring->sample), "%d %s", rv, message ? message : "");
        }
        pthread_barrier_wait(&ring->barrier);
        if (!racer->number) {
            atomic_fetch_add(&ring->wrong, atomic_load(&ring->won) != round + 1);
        }
        pthread_barrier_wait(&ring->barrier);
        apr_pool_destroy(pool);
    }
    return NULL;
}

static int run_process(journal_bed_t *bed, ring_t *ring, int process,
                       apr_status_t (*run)(racer_t *, int, apr_pool_t *, const char **))
{
    apr_thread_t *threads[THREADS];
    racer_t racers[THREADS];
    apr_status_t rv = APR_SUCCESS;
    journal_bed_open(bed);
    for (int i = 0; i < THREADS; i++) {
        racers[i] = (racer_t){bed, ring, process * THREADS + i, run};
        if (apr_thread_create(&threads[i], NULL, race, &racers[i], bed->pool)) {
            return 1;
        }
    }
    for (int i = 0; i < THREADS; i++) {
        apr_thread_join(&rv, threads[i]);
    }
    journal_bed_close(bed);
    return 0;
}

static void one_wins(journal_bed_t *bed, apr_status_t (*run)(racer_t *, int, apr_pool_t *, const char **))
{
    pthread_barrierattr_t shared;
    ring_t *ring = mmap(NULL, sizeof(*ring), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(ring, MAP_FAILED);
    pthread_barrierattr_init(&shared);
    pthread_barrierattr_setpshared(&shared, PTHREAD_PROCESS_SHARED);
    assert_int_equal(pthread_barrier_init(&ring->barrier, &shared, PROCESSES * THREADS), 0);
    journal_bed_close(bed);
    for (int i = 0; i < PROCESSES; i++) {
        if (!fork()) {
            _exit(run_process(bed, ring, i, run));
        }
    }
    for (int i = 0; i < PROCESSES; i++) {
        int status = -1;
        assert_true(wait(&status) > 0);
        assert_int_equal(status, 0);
    }
    if (atomic_load(&ring->errors)) {
        fail_msg("%d errors, one of them: %s", atomic_load(&ring->errors), ring->sample);
    }
    assert_int_equal(atomic_load(&ring->wrong), 0);
    assert_int_equal(atomic_load(&ring->won), ROUNDS);
    assert_int_equal(atomic_load(&ring->lost), ROUNDS * (PROCESSES * THREADS - 1));
    munmap(ring, sizeof(*ring));
}

/* Rows that nobody has, one for each round. */
static void make_rows(journal_bed_t *bed, const char *state)
{
    for (int i = 0; i < ROUNDS; i++) {
        journal_row_t *row = NULL;
        const char *message = "";
        journal_intent_t intent = journal_bed_intent(bed, transaction(i, bed->pool), "the request");
        assert_int_equal(journal_begin(bed->journal, &intent, &row, bed->pool, &message), APR_SUCCESS);
    }
    raw_t *raw = raw_open(bed);
    raw_run(raw, "UPDATE iscep_journal SET lease_until = 0, due = 0, state = '%s'", state);
    raw_close(raw);
}

static void one_begins(void **state)
{
    one_wins(journal_bed(state), race_begin);
}

/* PostgreSQL may let two pass that come in the same millisecond: two transactions, as they would be one after the other. */
static void one_begins_of_several_requests(void **state)
{
    one_wins(journal_bed(state), race_other_begin);
}

static void one_claims_to_issue(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    make_rows(bed, "unknown");
    one_wins(bed, race_claim_issue);
}

static void one_claims_to_report(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    make_rows(bed, "failed");
    one_wins(bed, race_claim_report);
}

static void one_certificate_is_adopted(void **state)
{
    journal_bed_t *bed = journal_bed(state);
    make_rows(bed, "failed");
    one_wins(bed, race_adopt);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        JOURNAL_TEST(one_begins),          JOURNAL_TEST_SQLITE(one_begins_of_several_requests),
        JOURNAL_TEST(one_claims_to_issue), JOURNAL_TEST(one_claims_to_report),
        JOURNAL_TEST(one_certificate_is_adopted),
    };
    int failed;

    apr_initialize();
    failed = cmocka_run_group_tests_name("journal_race", tests, NULL, journal_beds_end);
    apr_terminate();
    return failed;
}
