/* SPDX-License-Identifier: Apache-2.0 */
#include "load_report.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

enum { STATUS_MAX = 600 };

void load_report_init(load_report_t *report, int count)
{
    report->count = count;
    report->results = calloc((size_t)count, sizeof(*report->results));
    if (!report->results) {
        exit(2);
    }
}

void load_answer_keep(const char *dir, int number, const http_answer_t *answer)
{
    char path[4096];
    size_t len = answer->body_len;
    char *body = malloc(len + 1);
    FILE *file = NULL;

    if (!body) {
        exit(2);
    }
    http_answer_body(answer, body);
    snprintf(path, sizeof(path), "%s/%d.answer", dir, number);
    file = fopen(path, "wb");
    if (!file || fwrite(body, 1, len, file) != len || fclose(file) != 0) {
        perror(path);
        exit(2);
    }
    free(body);
}

static int compare(const void *one, const void *other)
{
    long long a = *(const long long *)one;
    long long b = *(const long long *)other;

    return (a > b) - (a < b);
}

static double seconds(long long nanoseconds)
{
    return (double)nanoseconds / 1e9;
}

/* The nearest rank. */
static long long percentile(const long long *sorted, int count, double part)
{
    int rank = (int)(part * count);

    return sorted[rank < count ? rank : count - 1];
}

static void print_statuses(const load_report_t *report)
{
    int counts[STATUS_MAX] = {0};
    const char *comma = "";
    int i = 0;

    for (i = 0; i < report->count; i++) {
        counts[report->results[i].status < STATUS_MAX ? report->results[i].status : 0]++;
    }
    printf("\"statuses\": {");
    for (i = 0; i < STATUS_MAX; i++) {
        if (counts[i]) {
            printf("%s\"%d\": %d", comma, i, counts[i]);
            comma = ", ";
        }
    }
    printf("}, ");
}

static void print_sizes(const load_report_t *report)
{
    size_t least = report->results[0].body_len;
    size_t most = least;
    int i = 0;

    for (i = 1; i < report->count; i++) {
        size_t len = report->results[i].body_len;

        least = len < least ? len : least;
        most = len > most ? len : most;
    }
    printf("\"body_least\": %zu, \"body_most\": %zu, ", least, most);
}

void load_report_print(const load_report_t *report)
{
    long long *times = calloc((size_t)report->count, sizeof(*times));
    struct rusage usage;
    int count = report->count;
    int tenth = count / 10;
    int i = 0;

    if (!times || getrusage(RUSAGE_SELF, &usage) != 0) {
        exit(2);
    }
    for (i = 0; i < count; i++) {
        times[i] = report->results[i].end;
    }
    qsort(times, (size_t)count, sizeof(*times), compare);
    printf("{\"requests\": %d, \"seconds\": %.6f, \"rate\": %.3f, ", count, seconds(times[count - 1]),
           count / seconds(times[count - 1]));
    /* From the first tenth of the answers to the last: without what filling and draining take. */
    printf("\"middle_rate\": %.3f, ",
           count > 20 ? (count - 2 * tenth) / seconds(times[count - tenth - 1] - times[tenth - 1]) : 0.0);
    for (i = 0; i < count; i++) {
        times[i] = report->results[i].end - report->results[i].due;
    }
    qsort(times, (size_t)count, sizeof(*times), compare);
    printf("\"latency\": {\"p50\": %.6f, \"p90\": %.6f, \"p99\": %.6f, \"max\": %.6f}, ",
           seconds(percentile(times, count, 0.5)), seconds(percentile(times, count, 0.9)),
           seconds(percentile(times, count, 0.99)), seconds(times[count - 1]));
    print_statuses(report);
    print_sizes(report);
    printf("\"connections\": %ld, \"again\": %ld, \"cpu\": %.6f}\n", report->connections, report->again,
           (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
               (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6);
    free(times);
}
