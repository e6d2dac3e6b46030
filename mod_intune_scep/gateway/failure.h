/* SPDX-License-Identifier: Apache-2.0 */
/* How a transaction failed, as it is kept in the journal and told again: to a retransmission, and to Intune. */
#ifndef ISCEP_GATEWAY_FAILURE_H
#define ISCEP_GATEWAY_FAILURE_H

#include "base/result.h"

/** Detail of an outcome after which an answer that was lost is polled for no more, but the request sent again. */
#define FAILURE_POLLED "CertPoll did not find it"

/** "NAME failInfo detail", at most 600 bytes, in printable ASCII. */
const char *failure_print(const result_t *result, apr_pool_t *pool);

/** Sets `result` to what is in such a text, with "answered from the journal" where `again`. PROBLEM_GIVEN_UP otherwise. */
void failure_read(result_t *result, const char *text, bool again);

/** What Intune is told: the problem's sentence and the detail. */
const char *failure_words(const result_t *result);

#endif
