/* SPDX-License-Identifier: Apache-2.0 */
/* Steps of a row's life, each with what is usual for it: the functions of store/journal.h without their messages. */
#ifndef ISCEP_TESTS_JOURNAL_STEPS_H
#define ISCEP_TESTS_JOURNAL_STEPS_H

#include "journal_fixture.h"

#define SECONDS(n) apr_time_from_sec(n)
#define CERTIFICATE_FP "AB12"

apr_status_t row_begin(journal_bed_t *bed, const journal_intent_t *intent, journal_row_t **row);

/** With "csr of the claim" as the request. */
apr_status_t row_claim(journal_bed_t *bed, journal_row_t **row, journal_purpose_t purpose);

/** What row_outcome() says: an issued certificate is to be reported at once, all else in half a minute. */
journal_outcome_t row_outcome_of(journal_state_t state);
apr_status_t row_outcome(journal_bed_t *bed, journal_row_t **row, journal_state_t state);

/** A certificate that came late, with "late csr" as the request. */
apr_status_t row_adopt(journal_bed_t *bed, journal_row_t **row);

/** The next attempt, if there is one, is due in half a minute. */
apr_status_t row_settle(journal_bed_t *bed, journal_row_t **row, journal_verdict_t verdict, journal_state_t state);

/** A new row of that transaction with its certificate. */
journal_row_t *row_issued(journal_bed_t *bed, const char *transaction);

/** The lease that it has is over. */
void row_lease_ends(journal_bed_t *bed, const char *id);

/** A new row of that transaction that nobody has. */
journal_row_t *row_free(journal_bed_t *bed, const char *transaction);

/** The id of a process that has ended. */
long dead_process(void);

#endif
