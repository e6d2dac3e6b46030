/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ISCEP_BASE_CLOCK_H
#define ISCEP_BASE_CLOCK_H

#include <apr_time.h>
#include <time.h>

/** Now, in APR's microseconds since 1970. Everything in the core asks here, so that a test can set the time. */
apr_time_t clock_now(void);

/** For tests: every later clock_now() is shifted by `offset` microseconds, in this process. */
void clock_shift(apr_interval_time_t offset);

/** So long from now by a clock of the system's, for the waits of pthread; clock_shift() is not in it. */
struct timespec clock_after(clockid_t clock, apr_interval_time_t interval);

#endif
