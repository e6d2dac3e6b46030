/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ISCEP_GATEWAY_ISSUED_H
#define ISCEP_GATEWAY_ISSUED_H

#include "transaction.h"

/**
 * Tells Intune of the transaction's certificate (`facts`, `certificate`), whose row the caller has claimed. What the device
 * hears follows: `result` is untouched where it may have the certificate.
 */
void issued_report(transaction_t *transaction);

#endif
