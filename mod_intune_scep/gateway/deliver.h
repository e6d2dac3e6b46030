/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ISCEP_GATEWAY_DELIVER_H
#define ISCEP_GATEWAY_DELIVER_H

#include "transaction.h"

/** Makes the reply from the transaction's result and logs the outcome, in one line. The last stage of every
 * transaction. */
void deliver(transaction_t *transaction);

#endif
