/* SPDX-License-Identifier: Apache-2.0 */
/* base/repeats.c: what repeats itself is written five times, then at info, and summed up to the last one. */
#include "base/clock.h"
#include "base/log.h"
#include "base/repeats.h"
#include "base/result.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <apr_general.h>
#include <apr_strings.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LOCATIONS = 2, MINUTE = 60, PROCESSES = 3, THREADS = 4, ROUNDS = 5000 };

/* What a process has written. */
typedef struct sink_t {
    int levels[LOG_LEVEL_TRACE + 1];
    int sums;
    long summed; /* by all sums together */
    char sum[600], line[600];
    log_level_t lowest; /* that is wanted */
} sink_t;

static apr_pool_t *pool;
static void *memory;
static sink_t sink;
static log_t lines;

static void sink_write(void *baton, log_level_t level, const char *line)
{
    sink_t *to = baton;
    long more = 0;
    to->levels[level]++;
    if (!strncmp(line, "ISCEP0100: ", 11)) {
        /* in threads and forked processes, where cmocka cannot tell */
        if (level != LOG_LEVEL_WARN || sscanf(line, "ISCEP0100: [-] ISCEP%*4u came %ld more times", &more) != 1) {
            abort();
        }
        to->sums++;
        to->summed += more;
        snprintf(to->sum, sizeof(to->sum), "%s", line);
    } else {
        snprintf(to->line, sizeof(to->line), "%s", line);
    }
}

static bool sink_enabled(void *baton, log_level_t level)
{
    return level <= ((sink_t *)baton)->lowest;
}

static repeats_t *location(int index)
{
    return repeats_of(memory, index, index ? "other" : "here", apr_time_from_sec(MINUTE), pool);
}

static int begin(void **state)
{
    (void)state;
    clock_shift(0);
    repeats_begin(memory, LOCATIONS);
    memset(&sink, 0, sizeof(sink));
    sink.lowest = LOG_LEVEL_INFO;
    lines = (log_t){sink_write, sink_enabled, &sink, "TX", location(0)};
    return 0;
}

static unsigned id_of(problem_t problem)
{
    return problem_facts(problem)->id;
}

static void fail_with(problem_t problem, const char *text)
{
    log_write_as(&lines, id_of(problem), problem_facts(problem)->level, "%s", text);
}

static void fail_times(problem_t problem, int times)
{
    for (int i = 0; i < times; i++) {
        fail_with(problem, "text");
    }
}

static void first_ones_are_written_as_they_are(void **state)
{
    (void)state;
    fail_times(PROBLEM_INTUNE_UNREACHABLE, REPEATS_AS_THEY_ARE);
    assert_int_equal(sink.levels[LOG_LEVEL_ERROR], REPEATS_AS_THEY_ARE);
    fail_with(PROBLEM_INTUNE_UNREACHABLE, "the sixth");
    assert_int_equal(sink.levels[LOG_LEVEL_ERROR], REPEATS_AS_THEY_ARE);
    assert_int_equal(sink.levels[LOG_LEVEL_INFO], 1);
    assert_string_equal(sink.line, "ISCEP1101: [TX] the sixth");
    assert_int_equal(sink.sums, 0);
}

static void sum_comes_though_nothing_follows(void **state)
{
    (void)state;
    fail_times(PROBLEM_INTUNE_UNREACHABLE, 11);
    fail_with(PROBLEM_INTUNE_UNREACHABLE, "the last");
    clock_shift(apr_time_from_sec(MINUTE - 1));
    repeats_sum_up(lines.repeats, &lines, false);
    assert_int_equal(sink.sums, 0);
    clock_shift(apr_time_from_sec(MINUTE));
    repeats_sum_up(lines.repeats, &lines, false);
    assert_string_equal(sink.sum, "ISCEP0100: [-] ISCEP1101 came 7 more times in the last 60 s at here, told at level info; "
                                  "the last: [TX] the last");
    repeats_sum_up(lines.repeats, &lines, true);
    assert_int_equal(sink.sums, 1);
    /* A new interval begins with lines as they are. */
    fail_with(PROBLEM_INTUNE_UNREACHABLE, "text");
    assert_int_equal(sink.levels[LOG_LEVEL_ERROR], REPEATS_AS_THEY_ARE + 1);
}

static void sum_comes_before_what_follows(void **state)
{
    (void)state;
    fail_times(PROBLEM_INTUNE_UNREACHABLE, REPEATS_AS_THEY_ARE + 2);
    clock_shift(apr_time_from_sec(MINUTE + 20));
    fail_with(PROBLEM_INTUNE_UNREACHABLE, "text");
    assert_int_equal(sink.sums, 1);
    assert_non_null(strstr(sink.sum, "came 2 more times in the last 80 s"));
    assert_int_equal(sink.levels[LOG_LEVEL_ERROR], REPEATS_AS_THEY_ARE + 1);
}

static void few_have_no_sum(void **state)
{
    (void)state;
    fail_times(PROBLEM_INTUNE_UNREACHABLE, REPEATS_AS_THEY_ARE);
    clock_shift(apr_time_from_sec(MINUTE));
    repeats_sum_up(lines.repeats, &lines, false);
    fail_times(PROBLEM_INTUNE_UNREACHABLE, REPEATS_AS_THEY_ARE);
    repeats_sum_up(lines.repeats, &lines, true);
    assert_int_equal(sink.sums, 0);
    assert_int_equal(sink.levels[LOG_LEVEL_ERROR], 2 * REPEATS_AS_THEY_ARE);
}

/* A process that ends does not leave to others what may be nobody's. */
static void end_of_a_process(void **state)
{
    (void)state;
    fail_times(PROBLEM_INTUNE_UNREACHABLE, REPEATS_AS_THEY_ARE + 3);
    repeats_sum_up(lines.repeats, &lines, true);
    assert_int_equal(sink.summed, 3);
    assert_non_null(strstr(sink.sum, "in the last 1 s"));
}

static void ids_and_locations_are_apart(void **state)
{
    (void)state;
    fail_times(PROBLEM_INTUNE_UNREACHABLE, REPEATS_AS_THEY_ARE + 1);
    fail_times(PROBLEM_CA_UNREACHABLE, REPEATS_AS_THEY_ARE);
    lines.repeats = location(1);
    fail_times(PROBLEM_INTUNE_UNREACHABLE, REPEATS_AS_THEY_ARE);
    assert_int_equal(sink.levels[LOG_LEVEL_ERROR], 3 * REPEATS_AS_THEY_ARE);
    assert_int_equal(sink.levels[LOG_LEVEL_INFO], 1);
    fail_times(PROBLEM_INTUNE_UNREACHABLE, 2);
    repeats_sum_up(lines.repeats, &lines, true);
    assert_int_equal(sink.summed, 2);
    assert_non_null(strstr(sink.sum, "at other, "));
}

static void what_each_device_deserves(void **state)
{
    static const problem_t PROBLEMS[] = {PROBLEM_TOO_LARGE, PROBLEM_BAD_SIGNATURE, PROBLEM_BAD_ENVELOPE, PROBLEM_BAD_SIGNER,
                                         PROBLEM_NO_CHALLENGE, PROBLEM_SID_EXTENSION, PROBLEM_KEY_TOO_SMALL,
                                         PROBLEM_INTUNE_REFUSED, PROBLEM_CA_REFUSED, PROBLEM_CA_WRONG_KEY,
                                         PROBLEM_CA_BAD_CERTIFICATE, PROBLEM_REPORT_REFUSED, PROBLEM_TAKEN_OVER,
                                         PROBLEM_NOT_JOURNALED};
    static const message_t MESSAGES[] = {MSG_ORPHAN, MSG_SUCCESS_NOT_REPORTED, MSG_OUTBOX_ENDED};
    (void)state;
    for (size_t i = 0; i < sizeof(PROBLEMS) / sizeof(PROBLEMS[0]); i++) {
        fail_times(PROBLEMS[i], 50);
    }
    for (size_t i = 0; i < sizeof(MESSAGES) / sizeof(MESSAGES[0]); i++) {
        for (int time = 0; time < 50; time++) {
            log_write(&lines, MESSAGES[i], "text");
        }
    }
    repeats_sum_up(lines.repeats, &lines, true);
    assert_int_equal(sink.levels[LOG_LEVEL_INFO] + sink.sums, 0);
}

static void without_a_location(void **state)
{
    (void)state;
    lines.repeats = NULL;
    fail_times(PROBLEM_INTUNE_UNREACHABLE, 50);
    repeats_sum_up(NULL, &lines, true);
    assert_int_equal(sink.levels[LOG_LEVEL_ERROR], 50);
}

/* Where the log wants no info, the lines are not there, but their number is. */
static void log_without_info(void **state)
{
    (void)state;
    sink.lowest = LOG_LEVEL_WARN;
    fail_times(PROBLEM_INTUNE_UNREACHABLE, 50);
    repeats_sum_up(lines.repeats, &lines, true);
    assert_int_equal(sink.levels[LOG_LEVEL_ERROR], REPEATS_AS_THEY_ARE);
    assert_int_equal(sink.levels[LOG_LEVEL_INFO], 0);
    assert_int_equal(sink.summed, 45);
}

static void long_line_is_cut(void **state)
{
    char text[1000];
    (void)state;
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    fail_times(PROBLEM_CA_ERROR, REPEATS_AS_THEY_ARE);
    fail_with(PROBLEM_CA_ERROR, text);
    repeats_sum_up(lines.repeats, &lines, true);
    assert_true(strlen(sink.sum) < 400);
    assert_string_equal(sink.sum + strlen(sink.sum) - 4, "x...");
}

static void clock_that_is_set_back(void **state)
{
    (void)state;
    clock_shift(apr_time_from_sec(3600));
    fail_times(PROBLEM_CA_ERROR, 10);
    clock_shift(apr_time_from_sec(3599));
    fail_times(PROBLEM_CA_ERROR, 10);
    assert_int_equal(sink.sums, 0);
    clock_shift(0);
    fail_times(PROBLEM_CA_ERROR, 10);
    assert_int_equal(sink.summed, 15);
    clock_shift(-apr_time_from_sec(3600));
    repeats_sum_up(lines.repeats, &lines, true);
    assert_int_equal(sink.summed, 20);
}

/* Several processes with several threads, and intervals that end all the time. */

typedef struct worker_t {
    pthread_t thread;
    sink_t sink;
} worker_t;

static void *work(void *baton)
{
    worker_t *worker = baton;
    log_t log = {sink_write, sink_enabled, &worker->sink, "TX", repeats_of(memory, 0, "here", 1000, pool)};
    worker->sink.lowest = LOG_LEVEL_INFO;
    for (int i = 0; i < ROUNDS; i++) {
        log_write_as(&log, id_of(PROBLEM_CA_ERROR), LOG_LEVEL_ERROR, "text");
        if (i % 100 == 0) {
            repeats_sum_up(log.repeats, &log, false);
        }
    }
    return NULL;
}

typedef struct totals_t {
    long errors, infos, summed;
} totals_t;

static totals_t child(void)
{
    worker_t workers[THREADS];
    totals_t totals = {0, 0, 0};
    memset(workers, 0, sizeof(workers));
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(workers[i].thread, NULL);
        totals.errors += workers[i].sink.levels[LOG_LEVEL_ERROR];
        totals.infos += workers[i].sink.levels[LOG_LEVEL_INFO];
        totals.summed += workers[i].sink.summed;
    }
    return totals;
}

static void nothing_is_lost_between_processes(void **state)
{
    int ends[2];
    totals_t all = {0, 0, 0};
    (void)state;
    assert_int_equal(pipe(ends), 0);
    for (int i = 0; i < PROCESSES; i++) {
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (!pid) {
            totals_t totals = child();
            _exit(write(ends[1], &totals, sizeof(totals)) != sizeof(totals));
        }
    }
    for (int i = 0; i < PROCESSES; i++) {
        totals_t totals;
        int status = 0;
        assert_int_equal(read(ends[0], &totals, sizeof(totals)), sizeof(totals));
        assert_true(wait(&status) > 0 && !status);
        all.errors += totals.errors;
        all.infos += totals.infos;
        all.summed += totals.summed;
    }
    close(ends[0]);
    close(ends[1]);
    repeats_sum_up(location(0), &lines, true);
    all.summed += sink.summed;
    assert_int_equal(all.errors + all.infos, PROCESSES * THREADS * ROUNDS);
    assert_int_equal(all.summed, all.infos);
    assert_true(all.infos > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(first_ones_are_written_as_they_are, begin),
        cmocka_unit_test_setup(sum_comes_though_nothing_follows, begin),
        cmocka_unit_test_setup(sum_comes_before_what_follows, begin),
        cmocka_unit_test_setup(few_have_no_sum, begin),
        cmocka_unit_test_setup(end_of_a_process, begin),
        cmocka_unit_test_setup(ids_and_locations_are_apart, begin),
        cmocka_unit_test_setup(what_each_device_deserves, begin),
        cmocka_unit_test_setup(without_a_location, begin),
        cmocka_unit_test_setup(log_without_info, begin),
        cmocka_unit_test_setup(long_line_is_cut, begin),
        cmocka_unit_test_setup(clock_that_is_set_back, begin),
        cmocka_unit_test_setup(nothing_is_lost_between_processes, begin),
    };

    if (apr_initialize() || apr_pool_create(&pool, NULL)) {
        return 1;
    }
    memory = mmap(NULL, repeats_size(LOCATIONS), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int failed = memory == MAP_FAILED ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
    apr_pool_destroy(pool);
    apr_terminate();
    return failed;
}
