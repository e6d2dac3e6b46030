/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One report to Intune, successNotification or failureNotification, and what it means for the row: used by the
 * transaction that has just got the CA's answer, and by the outbox.
 *
 * Where Intune does not take reports, a note in the shared cache says so to all processes: the outbox then sends one at
 * a time as a probe, with growing pauses; once one is taken, the note goes and all that were put off are due, if more than
 * one failed in a row.
 */
#ifndef ISCEP_GATEWAY_REPORT_H
#define ISCEP_GATEWAY_REPORT_H

#include "profile.h"

typedef struct report_t {
    const profile_t *profile;
    apr_pool_t *pool;
    const log_t *log;
    journal_row_t **row;              /**< claimed by the caller, and set to what it is afterwards; NULL without journal */
    const char *transaction_id;
    bytes_t csr;
    const certificate_facts_t *facts; /**< of a success; NULL: a failure */
    const result_t *failure;          /**< of a failure */
    result_t *result;                 /**< how the report failed */
    const char *request_id;           /**< set: the last client-request-id */
    apr_interval_time_t duration;     /**< set */
    journal_verdict_t verdict;        /**< set */
    bool is_settled;                  /**< set: the row has the verdict */
} report_t;

/**
 * Sends it and settles the row. APR_SUCCESS when Intune took it. Otherwise `result` says why; PROBLEM_REPORT_REFUSED is
 * Intune's last word.
 */
apr_status_t report_send(report_t *report);

/** The certificate's serial and issuer, for people; NULL for a failure. */
const char *report_about(const report_t *report);

/** What becomes of a row without a certificate once its report is over, taken or not. */
journal_state_t report_failed_state(const profile_t *profile, const journal_row_t *row);

/** Whether the outbox may send a report of this profile now, perhaps as the probe. */
bool report_may_go(const profile_t *profile, apr_pool_t *pool);

#endif
