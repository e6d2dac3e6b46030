/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One device's PKIOperation, from its message to its answer. The struct is filled from left to right, by one thread at
 * a time; no stage calls back into an earlier one.
 *
 *   transaction_enroll()  opens the message, looks into the journal, asks Intune, builds the request to the CA
 *   transaction_issued()  takes the CA's answer, journals it, tells Intune
 *   transaction_failed()  takes the news that the CA gave none
 *
 * A GetCert or GetCRL goes the same way, without journal and Intune. Each of them leaves in `reply` what the device gets,
 * unless the request is to go to the CA.
 */
#ifndef ISCEP_GATEWAY_TRANSACTION_H
#define ISCEP_GATEWAY_TRANSACTION_H

#include "profile.h"

/** What the device gets. */
typedef struct reply_t {
    int http_status;
    const char *content_type;
    bytes_t body;
    int retry_after; /**< seconds, 0 for none */
} reply_t;

typedef struct transaction_t {
    apr_pool_t *pool;
    const profile_t *profile;
    log_t *log;
    result_t *result;        /**< the first problem met, which decides the reply */
    const char *reference;   /**< short random text that the device is told and the log has */

    scep_request_t *request; /**< opened, or NULL */
    const csr_t *csr;        /**< what Intune is asked about and the CA is sent: the row's, or else the message's */
    bool validated;          /**< Intune answered Success for this CSR and transaction */
    journal_row_t *row;      /**< claimed by this transaction, or being told from; NULL without */
    bool polling;            /**< the CA is asked by CertPoll */
    const scep_identity_t *ra; /**< who asks the CA: the RA, or for an old request the RA as it was then */
    apr_time_t answer_by;    /**< when the CA's answer comes too late; 0 until it is to be asked */
    unsigned ca_capabilities; /**< SCEP_CAP_… that `relay` was made for */
    scep_relay_t *relay;     /**< what the CA is asked */
    const char *node;        /**< the CA's node that is to be asked, or that answered; or NULL */
    scep_answer_t *answer;   /**< what the CA answered */
    bool settled;            /**< the CA leg has its end: nothing is reported a second time */
    bool reported;           /**< Intune took the report of success or failure */
    bool pending;            /**< the device is told PENDING */
    certificate_facts_t facts; /**< of the certificate to deliver */
    bytes_t certificate;     /**< it, in DER */
    reply_t reply;

    apr_time_t began;
    apr_time_t ca_began;     /**< when the CA was to be asked; 0: it was not */
    apr_interval_time_t validate_time;
    apr_interval_time_t report_time;
    apr_interval_time_t ca_time;
    const char *client;      /**< the device's User-Agent, as it is; or NULL */
} transaction_t;

/** An empty transaction in `pool`. `log` gets the transactionID once it is known. */
transaction_t *transaction_make(const profile_t *profile, log_t *log, apr_pool_t *pool);

/**
 * From the device's message to the request to the CA. APR_SUCCESS: send `relay->body` to the CA. Anything else: give
 * the device `reply`, the CA is not asked.
 */
apr_status_t transaction_enroll(transaction_t *transaction, bytes_t message);

/** Whether what the CA is asked, or answers, now is too late: a device has given up, and somebody else may be at the
 * transaction soon. */
bool transaction_is_late(const transaction_t *transaction);

/**
 * The CA's answer: HTTP status and whole body. Journals it, reports to Intune and makes `reply`. Call it at most once,
 * and only after transaction_enroll() succeeded.
 * @param complete false where the body ended early.
 */
void transaction_issued(transaction_t *transaction, int http_status, bytes_t body, bool complete);

/** The CA did not answer: PROBLEM_CA_UNREACHABLE, _TIMEOUT, _ERROR or _TRUNCATED. Makes `reply`. */
void transaction_failed(transaction_t *transaction, problem_t problem, const char *detail);

/** A reply before anything was opened: too many at once, too large, not readable. */
void transaction_refuse(transaction_t *transaction, problem_t problem, const char *detail);

#endif
