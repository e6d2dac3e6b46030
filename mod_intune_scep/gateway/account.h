/* SPDX-License-Identifier: Apache-2.0 */
/* A transaction's end, and its CA leg's, as they are counted. */
#ifndef ISCEP_GATEWAY_ACCOUNT_H
#define ISCEP_GATEWAY_ACCOUNT_H

#include "transaction.h"

/** The CA leg has its end, which is in the result. Before that is changed. */
void account_ca(transaction_t *transaction);

/** The reply is made. */
void account(const transaction_t *transaction);

/** What the transaction's end is called in notes, metrics and JSON. */
const char *account_outcome(const transaction_t *transaction);

/** What kind of device a User-Agent speaks of, at a guess: a word of at most 11 characters, "" where nothing is known. */
const char *account_platform(const char *user_agent);

#endif
