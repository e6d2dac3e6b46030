/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls that are made once more. What may pass: name not resolved, no connection, time-out, dropped, HTTP 408, 429 and
 * 5xx, of a proxy too. The pauses grow (200 ms, 400 ms …, a quarter more or less), honour Retry-After, and fit in the
 * errand's one budget.
 */
#ifndef ISCEP_INTUNE_RETRY_H
#define ISCEP_INTUNE_RETRY_H

#include "intune/intune_internal.h"

/**
 * Whether a call that has just ended is to be made once more: its end may pass, tries and budget are left, and the
 * breaker has nothing against it. Then it has waited already. Retry-After beyond the budget ends the call at once.
 */
bool retry_again(errand_t *errand, exchange_t *exchange);

/** Keeps for retries and breaker how a call ended. */
void retry_note(errand_t *errand, const exchange_t *exchange);

/** A random time below that, 0 at the least; for jitter. */
apr_interval_time_t retry_random(apr_interval_time_t below);

#endif
