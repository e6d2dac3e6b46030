/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Refusals that Intune gave within the last minute. A device that repeats a refused request at once, as many do, costs
 * Intune nothing: it gets the same answer from the shared cache. Another transaction or another CSR is asked anew, and
 * so is everything after that minute.
 */
#ifndef ISCEP_GATEWAY_REFUSAL_H
#define ISCEP_GATEWAY_REFUSAL_H

#include "transaction.h"

/** Keeps the refusal that is in the transaction's result, if it is Intune's definite word ("Unknown" is none). */
void refusal_keep(const transaction_t *transaction);

/** APR_SUCCESS where nothing is known; else PROBLEM_INTUNE_REFUSED with the code of the first refusal. */
apr_status_t refusal_recall(const transaction_t *transaction);

#endif
