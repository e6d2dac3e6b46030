/* SPDX-License-Identifier: Apache-2.0 */
/* What became of each request, and the summary as JSON. */
#ifndef BENCH_LOAD_REPORT_H
#define BENCH_LOAD_REPORT_H

#include "http_answer.h"

typedef struct load_result_t {
    long long due, end; /* nanoseconds since the begin */
    int status;         /* HTTP; 0: no whole answer in time */
    size_t body_len;
} load_result_t;

typedef struct load_report_t {
    load_result_t *results;
    int count;
    long connections; /* opened */
    long again;       /* requests sent again because an idle connection had been closed */
} load_report_t;

void load_report_init(load_report_t *report, int count);
void load_report_print(const load_report_t *report);

/** Writes one answer's body to DIR/NUMBER.answer. */
void load_answer_keep(const char *dir, int number, const http_answer_t *answer);

#endif
