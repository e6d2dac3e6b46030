/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The circuit breaker: after five validations or reports in a row that failed within a minute for reasons that may
 * pass, the whole server stops asking for validations for a while. One record in the shared cache for each tenant and
 * application; it is there only while there is trouble, so that a closed breaker costs a validation one look into the
 * cache.
 *
 * What counts is how an errand ended after its retries: whether the last call, to Entra, Graph or Intune, failed (no
 * connection, TLS, time-out, dropped, 408, 429, 5xx) or was answered, with whatever. While the breaker is open, one
 * validation at a time in all processes is let through once the pause is over; if it fails too, the pause doubles. Any
 * errand that is answered closes the breaker.
 *
 * The cache has no compare-and-swap, but a removal that compares. Those who count a failure exclude each other by a
 * lease and remove the record before they write the new one. What may still happen, all of it harmless:
 *  - between removal and writing somebody sees no record: one more validation goes out while the breaker is open;
 *  - an answer in that moment finds nothing to close: the next one closes;
 *  - two processes, neither sees the other's answers: failures count as a row though the other had answers in between.
 *    A process that had an answer itself starts its count anew;
 *  - the lease is not to be had in 50 ms: a failure is not counted, and others are being counted at this moment;
 *  - the record vanishes (cache full, graceful restart): the breaker is closed, and counts again.
 */
#ifndef ISCEP_INTUNE_BREAKER_H
#define ISCEP_INTUNE_BREAKER_H

#include "intune/intune.h"

struct errand_t;

/** Before a validation. PROBLEM_INTUNE_PAUSED where it must not go out; otherwise it may, perhaps as the probe. */
apr_status_t breaker_enter(struct errand_t *errand);

/** After every errand, validations and reports: counts how it ended, and gives the probe's turn back. */
void breaker_leave(struct errand_t *errand);

/** Whether a validation had better not try again: it is the probe, or the breaker has opened meanwhile. Reports always
 * may. */
bool breaker_forbids_retry(struct errand_t *errand);

#endif
