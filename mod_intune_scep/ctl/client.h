/* SPDX-License-Identifier: Apache-2.0 */
/* One enrolment as the client of a SCEP server, shown step by step: what `enrol` and `ra-request` share. */
#ifndef ISCEP_CTL_CLIENT_H
#define ISCEP_CTL_CLIENT_H

#include "ctl/dialogue.h"
#include "ctl/files.h"
#include "ctl/steps.h"

typedef struct client_t {
    ctl_t *ctl;
    apr_pool_t *pool;
    ctl_steps_t *steps;
    const scep_engine_t *engine;
    dialogue_t *dialogue;
    /* what is wanted */
    bool certificate_first; /**< GetCACert before GetCACaps */
    scep_message_type_t type;
    const char *transaction_id; /**< NULL: a random one */
    scep_algorithms_t use;      /**< 0: what the server's capabilities suggest */
    bool oaep;
    STACK_OF(X509) * chain;       /**< that must have issued, or NULL: what GetCACert gives */
    apr_interval_time_t patience; /**< how long to come again after PENDING and 503 */
    csr_t csr;
    EVP_PKEY *signer_key;
    X509 *signer;
    /* what came */
    bytes_t ca_body;
    const scep_ca_t *ca;
    unsigned capabilities;
    scep_identity_t *identity;
    scep_relay_t *relay;
    bytes_t request;       /**< the first message */
    bytes_t body;          /**< the last answer's */
    scep_answer_t *answer; /**< NULL: there was none that could be opened */
} client_t;

/** Engine, steps and dialogue. `tls` as with dialogue_make(); `chain` is a file, or NULL. */
ctl_exit_t client_begin(client_t *client, ctl_t *ctl, const char *url, const http_settings_t *tls, const char *chain);

/** GetCACaps and GetCACert. Steps say what came; the exit status whether it can go on. */
ctl_exit_t client_meet(client_t *client);

/** From the message to the answer, patiently. CTL_DONE: issued. From client_meet() on all that is wrong is a step. */
ctl_exit_t client_ask(client_t *client);

/** Ends with the JSON document, where one is wanted: `status`, steps and the certificate's facts. */
ctl_exit_t client_end(client_t *client, ctl_exit_t status, const char *word);

/** A number of seconds on the command line; false where it is none. */
bool client_seconds(const char *text, apr_interval_time_t *time);

#endif
