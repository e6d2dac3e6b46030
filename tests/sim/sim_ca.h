/* SPDX-License-Identifier: Apache-2.0 */
/* The scripted SCEP CA: its state, and what it does with a PKIMessage. No httpd here. */
#ifndef SIM_CA_H
#define SIM_CA_H

#include "cms_tools.h"

#include <apr_hash.h>
#include <apr_thread_mutex.h>
#include <apr_time.h>
#include <json-c/json.h>

#pragma GCC visibility push(hidden)

typedef enum {
    MODE_OK,
    MODE_REFUSE,
    MODE_PENDING,
    MODE_SLOW,
    MODE_STATUS,
    MODE_TRUNCATE,
    MODE_STALL,
    MODE_DROP,
    MODE_DROP_AFTER,
    MODE_HTML,
    MODE_EMPTY,
    MODE_OTHER_TRANSACTION,
    MODE_OTHER_NONCE,
    MODE_NO_NONCE,
    MODE_FOREIGN_SIGNER,
    MODE_BROKEN_SIGNATURE,
    MODE_WRONG_KEY,
    MODE_TWO_CERTIFICATES,
    MODE_CHAIN,
    MODE_NO_CERTIFICATE,
    MODE_EXPIRED,
    MODE_NOT_YET,
    MODE_FOREIGN_ISSUER,
    MODE_OTHER_RECIPIENT,
    MODE_COUNT
} sim_ca_mode_t;

/* What the control request asked for. */
typedef struct {
    sim_ca_mode_t mode;
    int times; /* -1: for ever */
    int fail_info;
    int status;
    double seconds;
    char text[512];             /* failInfoText; empty: none */
    const char *cipher;         /* NULL: the request's */
    const char *digest;         /* NULL: the request's */
    bool oaep;
    bool mixed;                 /* the mode is drawn for each request */
    bool manual;                /* somebody must approve */
} sim_ca_plan_t;

/* Which mode how often, and where the draws come from. */
typedef struct {
    double weights[MODE_COUNT];
    apr_uint64_t random;
} sim_ca_mix_t;

typedef struct sim_ca_record_t sim_ca_record_t;
struct sim_ca_record_t {
    sim_ca_record_t *next;
    int n;
    apr_time_t time;
    const char *operation, *method, *mode;
    sim_bytes_t transaction_id, csr;
    const char *message_type, *signer_serial, *cipher, *digest, *key_transport, *serial, *outcome;
    const char *csr_sha256, *thumbprint, *issuer, *subject;
    bool fresh; /* this request had the certificate made */
    int answered;
    apr_time_t answered_time;
};

/* Where a record is kept; a reset makes it void. */
typedef struct {
    sim_ca_record_t *record;
    int epoch;
} sim_ca_ticket_t;

typedef struct {
    const char *directory;
    OSSL_LIB_CTX *libctx;
    apr_pool_t *pool;
    /* Loaded once, read by all threads. */
    X509 *ca, *ra; /* the same where the CA answers for itself */
    EVP_PKEY *ca_key, *ra_key;
    X509_EXTENSION *aki;
    sim_bytes_t ca_cert_answer;
    bool ca_cert_is_chain;
    STACK_OF(X509) * chain;
    /* Under the mutex. */
    apr_thread_mutex_t *mutex;
    apr_pool_t *state;
    sim_ca_plan_t plan;
    sim_ca_mix_t mix;
    const char *caps;
    bool next, keep_csr;
    int count, epoch;
    sim_ca_record_t *first, *last;
    apr_hash_t *transactions; /* transactionID (bytes) to sim_ca_transaction_t */
    apr_hash_t *csrs;         /* SHA-256 to sim_bytes_t: each is kept once */
    EVP_PKEY *stranger_key;   /* made at first use */
    X509 *stranger;
} sim_ca_t;

typedef enum {
    SIM_CA_WAITING,
    SIM_CA_APPROVED,
    SIM_CA_REJECTED
} sim_ca_decision_t;

typedef struct {
    sim_bytes_t csr;
    sim_bytes_t cert; /* NULL data: pending */
    sim_ca_decision_t decision;
    int fail_info; /* why it was rejected */
} sim_ca_transaction_t;

typedef struct {
    int status;
    const char *content_type;
    sim_bytes_t body;
} sim_ca_reply_t;

/* Returns NULL, or a sentence saying why the directory is of no use. */
const char *sim_ca_load(sim_ca_t *ca);
/* A key and certificate that nobody trusts, with the subject of the CA's answering certificate. */
bool sim_ca_stranger(sim_ca_t *ca);

const char *sim_ca_mode_name(sim_ca_mode_t mode);
bool sim_ca_mode_find(const char *name, sim_ca_mode_t *mode);
/* Returns NULL, or what is wrong with the control request; adds to the answer. */
const char *sim_ca_control(sim_ca_t *ca, struct json_object *json, struct json_object *answer);
void sim_ca_reset(sim_ca_t *ca);
/* The plan for one PKIOperation; counts `times` down, and draws where modes are mixed. */
sim_ca_plan_t sim_ca_plan_take(sim_ca_t *ca);
char *sim_ca_caps(sim_ca_t *ca, apr_pool_t *pool);
bool sim_ca_next(sim_ca_t *ca);

/* sim_ca_mix.c. Returns NULL, or what is wrong. */
const char *sim_ca_mix_read(struct json_object *json, sim_ca_mix_t *mix);
sim_ca_mode_t sim_ca_mix_draw(sim_ca_mix_t *mix);

/* sim_ca_record.c */
sim_ca_ticket_t sim_ca_record_add(sim_ca_t *ca, const sim_ca_record_t *record);
void sim_ca_record_answered(sim_ca_t *ca, sim_ca_ticket_t ticket, bool fully);
typedef struct {
    int since, limit; /* numbers above `since`, at most `limit` of them (0: all) */
    bool csr;
} sim_ca_page_t;
/* The caller puts it. */
struct json_object *sim_ca_records(sim_ca_t *ca, const sim_ca_page_t *page);

/* sim_ca_transaction.c. What it gives is copied into the pool. */
/* Sets, whatever was there. */
void sim_ca_transaction_put(sim_ca_t *ca, sim_bytes_t id, sim_bytes_t csr, sim_bytes_t cert);
/* Gives a transaction without a certificate this one; `cert` is the one that it has in the end. False: it had one. */
bool sim_ca_transaction_settle(sim_ca_t *ca, sim_bytes_t id, sim_bytes_t csr, sim_bytes_t *cert, apr_pool_t *pool);
/* The transaction with this CSR, a new one that waits if need be. */
void sim_ca_transaction_ask(sim_ca_t *ca, sim_bytes_t id, sim_bytes_t csr, sim_ca_transaction_t *out, apr_pool_t *pool);
bool sim_ca_transaction_get(sim_ca_t *ca, sim_bytes_t id, sim_ca_transaction_t *out, apr_pool_t *pool);
/* Says how many there were: the one of that name, or with "*" all that wait. The mutex is held. */
int sim_ca_transactions_decide(sim_ca_t *ca, sim_bytes_t id, sim_ca_decision_t decision, int fail_info);
/* The mutex is held. */
sim_bytes_t sim_ca_csr_keep(sim_ca_t *ca, sim_bytes_t csr);

/* DER of a new leaf for the CSR, as the mode has it; NULL data on failure. */
sim_bytes_t sim_ca_issue(sim_ca_t *ca, X509_REQ *req, sim_ca_mode_t mode, apr_pool_t *pool);
/* GetCert (21) and GetCRL (22): the degenerate SignedData, or the failInfo (else -1). */
int sim_ca_inquire(sim_ca_t *ca, int type, sim_bytes_t question, sim_ca_mode_t mode, sim_bytes_t *inner, apr_pool_t *pool);
/* Answers a PKIMessage and fills the record. */
void sim_ca_operate(sim_ca_t *ca, sim_bytes_t message, const sim_ca_plan_t *plan, sim_ca_record_t *record,
                    sim_ca_reply_t *reply, apr_pool_t *pool);
bool sim_ca_next_answer(sim_ca_t *ca, sim_ca_reply_t *reply, apr_pool_t *pool);

#pragma GCC visibility pop

#endif
