/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keeps an outage from flooding the log. Of each id of repeats.def the first five lines in an interval, at one
 * location, are written as they are; the others are counted and go to level info, where one transaction is still one
 * grep; and one line at warn (ISCEP0100) says how many those were.
 *
 * The counts are in memory that all processes share and somebody else provides (httpd/counting.c). Nobody waits: an
 * interval is one word, its beginning and its count in one, and who takes an ended one away by compare-and-exchange
 * writes its sum. That is the next line of the kind, or repeats_sum_up(), whichever comes first.
 */
#ifndef ISCEP_BASE_REPEATS_H
#define ISCEP_BASE_REPEATS_H

#include "log.h"

#include <apr_pools.h>
#include <apr_time.h>

enum { REPEATS_AS_THEY_ARE = 5 };

/** One location's part of the memory, in this process. */
typedef struct repeats_t repeats_t;

/** Bytes of memory for so many locations; it must be aligned for 64-bit words. */
apr_size_t repeats_size(int locations);

/** Empties the memory. Before any other process uses it. */
void repeats_begin(void *memory, int locations);

/**
 * The handle of one location, in `pool`; usable by all threads, and by each process after a fork. `memory` and `name`
 * must live as long.
 * @param interval microseconds, more than 0.
 */
repeats_t *repeats_of(void *memory, int location, const char *name, apr_interval_time_t interval, apr_pool_t *pool);

/**
 * Counts a line that is about to be written, and says at which level: its own, or info. Where it begins a new interval,
 * the sum of the last one is written to `log` first. Any thread of any process.
 * @param repeats NULL: the level is its own.
 * @param line all of it, "ISCEP1101: [transaction] text": its beginning may be shown in the sum.
 */
log_level_t repeats_weigh(repeats_t *repeats, const log_t *log, unsigned id, log_level_t level, const char *line);

/**
 * Writes the sums of what has ended to `log`; about once a second, by any process. Does nothing for NULL.
 * @param all also of what has not ended yet: the process ends, and may be the last one.
 */
void repeats_sum_up(repeats_t *repeats, const log_t *log, bool all);

#endif
