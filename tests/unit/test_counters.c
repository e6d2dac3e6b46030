/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "base/seqlock.h"
#include "store/counters.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <apr_general.h>
#include <apr_strings.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LOCATIONS = 2, PROCESSES = 3, THREADS = 4, ROUNDS = 5000, RECORD_SIZE = 1024 };

static apr_pool_t *pool;
static void *memory;
static counters_t *counters;

static int begin(void **state)
{
    (void)state;
    clock_shift(0);
    counters_begin(memory, LOCATIONS);
    counters = counters_of(memory, 1, pool);
    return 0;
}

static counts_t counts_now(int location)
{
    counts_t counts;
    counters_read(counters_of(memory, location, pool), &counts, pool);
    return counts;
}

static void end_with(const char *transaction, int outcome)
{
    counters_record_t record;
    memset(&record, 0, sizeof(record));
    record.time = clock_now();
    record.whole = apr_time_from_msec(20);
    record.outcome = outcome;
    apr_cpystrn(record.transaction, transaction, sizeof(record.transaction));
    counters_ended(counters, &record);
}

static void names(void **state)
{
    (void)state;
    assert_string_equal(outcome_name(ENDING_ENROLLED), "enrolled");
    assert_string_equal(outcome_name(ENDING_INQUIRY), "inquiry");
    for (int problem = 1; problem < PROBLEM_COUNT; problem++) {
        int outcome = outcome_of_problem((problem_t)problem);
        assert_string_equal(outcome_name(outcome), problem_facts((problem_t)problem)->name);
        assert_int_equal(outcome_problem(outcome), problem);
    }
    assert_int_equal(outcome_of_problem(PROBLEM_COUNT - 1), OUTCOME_COUNT - 1);
    assert_int_equal(outcome_problem(ENDING_PENDING), PROBLEM_NONE);
    assert_string_equal(outcome_name(-1), "unknown");
    assert_string_equal(outcome_name(OUTCOME_COUNT), "unknown");
}

static void each_location_has_its_own(void **state)
{
    (void)state;
    end_with("a", ENDING_ENROLLED);
    end_with("", outcome_of_problem(PROBLEM_NOT_SCEP));
    end_with("b", OUTCOME_COUNT); /* none that there is */
    counts_t counts = counts_now(1);
    assert_int_equal(counts.successes, 1);
    assert_int_equal(counts.failures, 1);
    assert_int_equal(counts.outcomes[ENDING_ENROLLED], 1);
    assert_int_equal(counts.outcomes[outcome_of_problem(PROBLEM_NOT_SCEP)], 1);
    assert_int_equal(counts.transactions.total, 1);
    assert_int_equal(counts_now(0).successes + counts_now(0).failures, 0);
    const apr_array_header_t *recent = counters_recent(counters, pool);
    assert_int_equal(recent->nelts, 1);
    assert_int_equal(APR_ARRAY_IDX(recent, 0, counters_record_t *)->location, 1);
}

static void nobody_counts_without(void **state)
{
    call_seen_t seen = {.kind = CALL_CA};
    counters_record_t record = {.outcome = 0};
    counters_outbox_t outbox = {0};
    counts_t counts;
    (void)state;
    counters_call(NULL, &seen);
    counters_service(NULL, SERVICE_JOURNAL, true, NULL);
    counters_ended(NULL, &record);
    counters_outbox_keep(NULL, &outbox);
    assert_false(counters_outbox_due(NULL, 0));
    counters_read(NULL, &counts, pool);
    assert_string_equal(counts.services[SERVICE_CA].words, "");
    assert_int_equal(counters_recent(NULL, pool)->nelts, 0);
    assert_int_equal(counters_began(NULL), 0);
}

static void calls_and_services(void **state)
{
    observer_t observer = counters_observer(counters);
    call_seen_t seen = {.kind = CALL_VALIDATE, .end = CALL_REFUSED, .duration = apr_time_from_msec(30), .words = "refused"};
    (void)state;
    observer.seen(observer.baton, &seen);
    counts_t counts = counts_now(1);
    service_seen_t *intune = &counts.services[SERVICE_INTUNE];
    assert_int_equal(counts.calls[CALL_VALIDATE][CALL_REFUSED], 1);
    assert_true(intune->last_success > 0 && intune->last_failure == 0); /* a refusal is an answer */
    seen.end = CALL_FAILED;
    seen.words = "HTTP 503";
    for (int i = 0; i < 3; i++) {
        counters_call(counters, &seen);
    }
    counts = counts_now(1);
    assert_int_equal(intune->failures, 3);
    assert_string_equal(intune->words, "HTTP 503");
    assert_true(intune->last_failure > 0);
    assert_int_equal(counts.durations[CALL_VALIDATE].total, 4);
    seen.kind = CALL_REPORT;
    seen.end = CALL_SUCCESS;
    counters_call(counters, &seen);
    counts = counts_now(1);
    assert_int_equal(intune->failures, 0);
    assert_string_equal(intune->words, "HTTP 503");
    counters_service(counters, SERVICE_JOURNAL, false, apr_pstrcat(pool, apr_psprintf(pool, "%0300d", 0), "tail", NULL));
    counts = counts_now(1);
    assert_int_equal(strlen(counts.services[SERVICE_JOURNAL].words), 199);
}

static void histograms(void **state)
{
    static const int MS[] = {0, 5, 6, 10, 11, 60000, 60001, 1000000};
    call_seen_t seen = {.kind = CALL_CA, .end = CALL_SUCCESS};
    (void)state;
    assert_true(histogram_quantile(&counts_now(1).durations[CALL_CA], 0.5) < 0);
    for (size_t i = 0; i < sizeof(MS) / sizeof(MS[0]); i++) {
        seen.duration = apr_time_from_msec(MS[i]);
        counters_call(counters, &seen);
    }
    seen.duration = -5; /* a clock that was set back */
    counters_call(counters, &seen);
    counts_t counts = counts_now(1);
    const histogram_t *ca = &counts.durations[CALL_CA];
    assert_int_equal(ca->total, 9);
    assert_int_equal(ca->counts[0], 3);
    assert_int_equal(ca->counts[1], 2);
    assert_int_equal(ca->counts[2], 1);
    assert_int_equal(ca->counts[HISTOGRAM_BOUNDS - 1], 1);
    assert_int_equal(ca->counts[HISTOGRAM_BOUNDS], 2);
    assert_true(ca->seconds > 1120.032 && ca->seconds < 1120.034);
    histogram_t even = {.counts = {0, 100}, .total = 100};
    assert_true(histogram_quantile(&even, 0.5) > 7.49 && histogram_quantile(&even, 0.5) < 7.51);
    histogram_t late = {.total = 4};
    late.counts[HISTOGRAM_BOUNDS] = 4;
    assert_true(histogram_quantile(&late, 0.5) > 59999);
}

static void five_minutes(void **state)
{
    (void)state;
    end_with("a", ENDING_ENROLLED);
    end_with("b", ENDING_PENDING);
    end_with("c", outcome_of_problem(PROBLEM_CA_TIMEOUT));
    assert_int_equal(counts_now(1).recent_successes, 2);
    assert_int_equal(counts_now(1).recent_failures, 1);
    clock_shift(apr_time_from_sec(290));
    end_with("d", ENDING_ENROLLED);
    assert_int_equal(counts_now(1).recent_successes, 3);
    clock_shift(apr_time_from_sec(320));
    assert_int_equal(counts_now(1).recent_successes, 1);
    /* a whole round later the same places are used again */
    clock_shift(apr_time_from_sec(310 * 3));
    assert_int_equal(counts_now(1).recent_successes, 0);
    end_with("e", ENDING_ENROLLED);
    assert_int_equal(counts_now(1).recent_successes, 1);
    clock_shift(0);
}

static void the_ring_keeps_the_newest(void **state)
{
    (void)state;
    for (int i = 0; i < RECENT_TRANSACTIONS + 50; i++) {
        end_with(apr_psprintf(pool, "transaction %d", i), ENDING_ENROLLED);
    }
    const apr_array_header_t *recent = counters_recent(counters, pool);
    assert_int_equal(recent->nelts, RECENT_TRANSACTIONS);
    for (int i = 0; i < recent->nelts; i++) {
        assert_string_equal(APR_ARRAY_IDX(recent, i, counters_record_t *)->transaction,
                            apr_psprintf(pool, "transaction %d", RECENT_TRANSACTIONS + 49 - i));
    }
}

static void the_journal_is_asked_by_one(void **state)
{
    counters_outbox_t outbox = {.read_at = 7, .owed = 3, .oldest = 9};
    (void)state;
    assert_true(counters_outbox_due(counters, apr_time_from_sec(5)));
    assert_false(counters_outbox_due(counters, apr_time_from_sec(5)));
    assert_false(counts_now(1).outbox_known);
    counters_outbox_keep(counters, &outbox);
    assert_true(counts_now(1).outbox_known);
    assert_int_equal(counts_now(1).outbox.owed, 3);
    clock_shift(apr_time_from_sec(6));
    assert_true(counters_outbox_due(counters, apr_time_from_sec(5)));
    clock_shift(apr_time_from_sec(-3600)); /* set back */
    assert_true(counters_outbox_due(counters, apr_time_from_sec(5)));
    clock_shift(0);
}

static void a_restart_goes_on(void **state)
{
    (void)state;
    end_with("a", ENDING_ENROLLED);
    clock_shift(apr_time_from_sec(10));
    counters_go_on(memory);
    assert_true(counters_went_on(counters) - counters_began(counters) >= apr_time_from_sec(9));
    assert_int_equal(counts_now(1).successes, 1);
    clock_shift(0);
}

/* A record whose bytes are all the same. */
static void *write_all(void *data)
{
    char *transaction = data;
    call_seen_t seen = {.kind = CALL_CA, .end = CALL_TIMEOUT, .duration = 1000, .words = transaction};
    for (int i = 0; i < ROUNDS; i++) {
        end_with(transaction, i % 2 ? ENDING_ENROLLED : outcome_of_problem(PROBLEM_CA_TIMEOUT));
        counters_call(counters, &seen);
    }
    return NULL;
}

static void run_threads(int process)
{
    pthread_t threads[THREADS];
    char texts[THREADS][200];
    for (int i = 0; i < THREADS; i++) {
        memset(texts[i], 'a' + process * THREADS + i, sizeof(texts[i]) - 1);
        texts[i][sizeof(texts[i]) - 1] = '\0';
        pthread_create(&threads[i], NULL, write_all, texts[i]);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    _exit(0);
}

static void is_of_one_piece(const char *text)
{
    assert_int_equal(strlen(text), 199);
    assert_int_equal(strspn(text, (const char[]){text[0], '\0'}), 199);
}

/* All processes' threads count exactly, and a reader never sees half of one record and half of another. */
static void many_at_once(void **state)
{
    pid_t pids[PROCESSES];
    int seen = 0;
    (void)state;
    for (int i = 0; i < PROCESSES; i++) {
        pids[i] = fork();
        if (!pids[i]) {
            run_threads(i);
        }
    }
    for (int ended = 0; ended < PROCESSES;) {
        apr_pool_t *scratch = NULL;
        apr_pool_create(&scratch, pool);
        const apr_array_header_t *recent = counters_recent(counters, scratch);
        for (int i = 0; i < recent->nelts; i++, seen++) {
            is_of_one_piece(APR_ARRAY_IDX(recent, i, counters_record_t *)->transaction);
        }
        counts_t counts;
        counters_read(counters, &counts, scratch);
        if (*counts.services[SERVICE_CA].words) {
            is_of_one_piece(counts.services[SERVICE_CA].words);
        }
        apr_pool_destroy(scratch);
        ended += waitpid(-1, NULL, WNOHANG) > 0;
    }
    counts_t counts = counts_now(1);
    assert_true(seen > 0);
    assert_int_equal(counts.successes, PROCESSES * THREADS * ROUNDS / 2);
    assert_int_equal(counts.failures, PROCESSES * THREADS * ROUNDS / 2);
    assert_int_equal(counts.calls[CALL_CA][CALL_TIMEOUT], PROCESSES * THREADS * ROUNDS);
    assert_int_equal(counts.durations[CALL_CA].total, PROCESSES * THREADS * ROUNDS);
    assert_int_equal(counts.recent_successes + counts.recent_failures, PROCESSES * THREADS * ROUNDS);
}

/* A writer that was killed in the middle blocks a record for two seconds. */
static void a_dead_writer(void **state)
{
    static shared_word_t words[SEQLOCK_WORDS(RECORD_SIZE)];
    static char record[RECORD_SIZE], back[RECORD_SIZE];
    seqlock_t lock = {0, 0};
    (void)state;
    memset(record, 'x', sizeof(record));
    assert_false(seqlock_read(&lock, words, back, sizeof(back)));
    assert_true(seqlock_write(&lock, words, record, sizeof(record)));
    assert_true(seqlock_read(&lock, words, back, sizeof(back)));
    assert_memory_equal(back, record, sizeof(back));
    atomic_store(&lock.version, 3);
    atomic_store(&lock.since, (uint64_t)clock_now());
    assert_false(seqlock_write(&lock, words, record, sizeof(record)));
    assert_false(seqlock_read(&lock, words, back, sizeof(back)));
    clock_shift(apr_time_from_sec(3));
    memset(record, 'y', sizeof(record));
    assert_true(seqlock_write(&lock, words, record, 11));
    assert_true(seqlock_read(&lock, words, back, 11));
    assert_memory_equal(back, "yyyyyyyyyyyxxxx", 15);
    assert_int_equal(atomic_load(&lock.version) % 2, 0);
    clock_shift(0);
}

typedef struct watched_t {
    seqlock_t lock;
    shared_word_t words[SEQLOCK_WORDS(RECORD_SIZE)];
    atomic_bool ended;
    atomic_int broken; /* records that were read, and mixed */
} watched_t;

static void *watch(void *data)
{
    watched_t *watched = data;
    unsigned char record[RECORD_SIZE];
    while (!atomic_load(&watched->ended)) {
        bool whole = true;
        if (!seqlock_read(&watched->lock, watched->words, record, sizeof(record))) {
            continue;
        }
        for (int i = 1; i < RECORD_SIZE; i++) {
            whole = whole && record[i] == record[0];
        }
        watched->broken += !whole;
    }
    return NULL;
}

static void readers_beside_a_writer(void **state)
{
    static watched_t watched;
    pthread_t readers[THREADS];
    unsigned char record[RECORD_SIZE];
    (void)state;
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&readers[i], NULL, watch, &watched), 0);
    }
    for (int i = 0; i < ROUNDS * 4; i++) {
        memset(record, i & 0xff, sizeof(record));
        assert_true(seqlock_write(&watched.lock, watched.words, record, sizeof(record)));
    }
    watched.ended = true;
    for (int i = 0; i < THREADS; i++) {
        pthread_join(readers[i], NULL);
    }
    assert_int_equal(watched.broken, 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, begin)
    const struct CMUnitTest tests[] = {TEST(names),        TEST(each_location_has_its_own), TEST(nobody_counts_without),
                                       TEST(calls_and_services), TEST(histograms),          TEST(five_minutes),
                                       TEST(the_ring_keeps_the_newest), TEST(the_journal_is_asked_by_one),
                                       TEST(a_restart_goes_on), TEST(many_at_once),         TEST(a_dead_writer),
                                       TEST(readers_beside_a_writer)};
    if (apr_initialize() || apr_pool_create(&pool, NULL)) {
        return 1;
    }
    memory = mmap(NULL, counters_size(LOCATIONS), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int failed = memory == MAP_FAILED ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
    apr_pool_destroy(pool);
    apr_terminate();
    return failed;
}
