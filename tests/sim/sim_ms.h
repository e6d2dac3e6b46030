/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stand-in for Entra, Graph and Intune: what its files share. README.md here is the contract with the tests.
 * It shares no code with the module under test, so that a common mistake shows.
 *
 * Each part keeps its own state behind its own mutex; no mutex is held while bytes go over the network. What outlives
 * a request is bounded: tenants, tokens, faults and the record all have a limit.
 */
#ifndef SIM_MS_H
#define SIM_MS_H

#include <httpd.h>
#include <apr_pools.h>
#include <apr_time.h>
#include <json-c/json.h>
#include <openssl/x509.h>

#include "sim_ms_util.h"

#define MSIM_INTUNE_APP_ID "0000000a-0000-0000-c000-000000000000"
#define MSIM_API_VERSION "2018-02-20"

typedef struct msim_keys_t msim_keys_t;
typedef struct msim_tenants_t msim_tenants_t;
typedef struct msim_used_t msim_used_t;
typedef struct msim_faults_t msim_faults_t;
typedef struct msim_record_t msim_record_t;

typedef struct msim_t {
    msim_keys_t *keys;
    msim_tenants_t *tenants;
    msim_faults_t *faults;
    msim_record_t *record;
    msim_used_t *used;
    volatile apr_uint32_t generation; /**< of the SCEP service's URL; read and written with apr_atomic */
} msim_t;

typedef enum msim_service_e {
    MSIM_TOKEN,
    MSIM_ENDPOINTS,
    MSIM_VALIDATE,
    MSIM_SUCCESS,
    MSIM_FAILURE,
    MSIM_OTHER,
    MSIM_SERVICES
} msim_service_e;

extern const char *const msim_service_names[MSIM_SERVICES];

/** Where a call is in the record; a reset in between makes it void. */
typedef struct msim_ticket_t {
    apr_uint32_t epoch;
    int index; /**< -1: the record was full */
} msim_ticket_t;

/** Why a call is answered with an HTTP error; status 0 is none. */
typedef struct msim_refusal_t {
    int status;
    int aadsts;         /**< Entra only */
    const char *reason; /**< OAuth's `error`, or Graph's and Intune's `error.code` */
    const char *sentence;
} msim_refusal_t;

/** One request, filled from top to bottom. Texts live in the request's pool. */
typedef struct msim_call_t {
    msim_t *sim;
    request_rec *r;
    const char *path; /**< as sent: neither unescaped nor with its slashes merged */
    apr_uint64_t connection;
    char *body;
    apr_size_t body_length;
    msim_service_e service;
    const char *tenant;
    const char *scope;
    json_object *json; /**< the body, or the form without its secret; NULL when it is neither. Freed with the pool. */
    apr_table_t *form; /**< token requests */
    unsigned audience; /**< token requests: which one is asked for */
    int gone;          /**< sent to an address that the SCEP service left */
    int drop_after;    /**< a fault: the answer is made and recorded, but not sent */
    msim_ticket_t ticket;
    const char *code;  /**< Intune's or Entra's code, for the record */
    const char *error; /**< why it was refused, for the record */
} msim_call_t;

/* mod_sim_microsoft.c */

/** Notes the outcome in the record, then sends the answer. `content_type` NULL is JSON. */
int msim_reply(msim_call_t *call, int status, const char *content_type, const char *body, apr_size_t length);
/** As msim_reply, takes the object over. */
int msim_reply_json(msim_call_t *call, int status, json_object *object);
int msim_reply_refusal(msim_call_t *call, const msim_refusal_t *refusal);
/** No answer and no goodbye: to the client it looks as if the machine were gone. Recorded with the code there is so far. */
int msim_drop(msim_call_t *call);
/** For answers that send themselves: notes status (0 is dropped), code and error. */
void msim_note(msim_call_t *call, int status);
/** Waits; ends early with 0 when the client is gone, the record was reset or the server stops. */
int msim_wait(msim_call_t *call, double seconds);

/* sim_ms_record.c */

msim_record_t *msim_record_make(apr_pool_t *pool);
void msim_record_begin(msim_call_t *call);
void msim_record_end(msim_call_t *call, int status);
void msim_record_reset(msim_record_t *record, int bodies);
apr_uint32_t msim_record_epoch(msim_record_t *record);
int msim_record_send(msim_call_t *call);

/* sim_ms_tenant.c */

#define MSIM_GRAPH 1u
#define MSIM_INTUNE 2u

typedef struct msim_tenant_t {
    const char *tenant;
    const char *app_id;
    const char *secrets;      /**< each of them ended by a line feed */
    const char *certificates; /**< PEM of each */
    const char *federated;    /**< the assertion that is taken; "": any */
    int expires_in;           /**< seconds */
} msim_tenant_t;

extern const char MSIM_NONE[];

msim_tenants_t *msim_tenants_make(apr_pool_t *pool);
/**
 * Adds or changes; NULL and 0 members keep what is there, and a credential that is MSIM_NONE takes it away. Returns a sentence if that
 * cannot be.
 */
const char *msim_tenant_set(msim_tenants_t *tenants, const msim_tenant_t *tenant);
/** Copies into the pool; NULL for an unknown tenant. */
const msim_tenant_t *msim_tenant_find(msim_tenants_t *tenants, const char *name, apr_pool_t *pool);
const char *msim_token_issue(msim_tenants_t *tenants, const msim_tenant_t *tenant, unsigned audience, const char *scope,
                             apr_pool_t *pool);
/** Whose token this is and under which scope; a sentence if it is no good. The tenant is set for an expired one too. */
const char *msim_token_check(msim_tenants_t *tenants, const char *token, unsigned audience, const char **tenant,
                             const char **scope, apr_pool_t *pool);
/** Forgets a tenant's tokens, says how many. */
int msim_token_revoke(msim_tenants_t *tenants, const char *tenant);

/* sim_ms_fault.c */

typedef struct msim_fault_t msim_fault_t;

msim_faults_t *msim_faults_make(apr_pool_t *pool);
/** From the control request's body; a sentence if it is wrong. */
const char *msim_fault_add(msim_faults_t *faults, json_object *spec, apr_pool_t *pool);
void msim_faults_reset(msim_faults_t *faults);
/** The newest fault that fits, counted down; NULL for none. Mode `code` is only for a call that is well-formed. */
const msim_fault_t *msim_fault_take(msim_call_t *call, int well_formed);
/** 1 when the fault was the answer, 0 when the true answer is due. */
int msim_fault_play(msim_call_t *call, const msim_fault_t *fault, int *answer);

/* sim_ms_challenge.c */

typedef enum msim_break_e {
    MSIM_WHOLE,
    MSIM_BREAK_BASE64,
    MSIM_BREAK_CMS,
    MSIM_BREAK_SIGNATURE,
    MSIM_BREAK_ENCRYPTION,
    MSIM_BREAK_JSON,
    MSIM_BREAK_TIME
} msim_break_e;

/** Makes the keys: takes a moment. NULL when OpenSSL cannot. */
msim_keys_t *msim_keys_make(apr_pool_t *pool);
OSSL_LIB_CTX *msim_keys_context(msim_keys_t *keys);
/** The challenge with this content, padded to a likely size; NULL when OpenSSL cannot. */
const char *msim_challenge_make(msim_keys_t *keys, const char *content, msim_break_e how, apr_pool_t *pool);
/** Opens a challenge: one of Microsoft's codes, or NULL and the content. */
const char *msim_challenge_open(msim_keys_t *keys, const char *text, apr_size_t length, json_object **content,
                                apr_pool_t *pool);

/* sim_ms_csr.c */

/** DER of a PKCS #10 and nothing behind it, with a good signature of its own; NULL otherwise. Freed with the pool. */
X509_REQ *msim_csr_parse(msim_keys_t *keys, const char *base64, apr_size_t length, apr_pool_t *pool);
/** The challenge, or NULL and Microsoft's code. */
const char *msim_csr_challenge(X509_REQ *csr, apr_size_t *length, const char **code, apr_pool_t *pool);
/** Microsoft's code for the first property that is not as the challenge has it, or NULL; `why` says more. */
const char *msim_csr_compare(X509_REQ *csr, json_object *expected, const char **why, apr_pool_t *pool);
/** "/CN=x/O=y" in the form that msim_csr_compare() compares; NULL if it is not such a name. */
const char *msim_subject_normal(const char *subject, apr_pool_t *pool);
int msim_is_key_usage(const char *name);
int msim_is_oid(const char *text);

/* sim_ms_assertion.c */

/** The jti of all assertions seen. */
msim_used_t *msim_used_make(apr_pool_t *pool);
/** How many certificates there are in the PEM text. */
int msim_certificates_count(msim_keys_t *keys, const char *pem);
/** NULL, or why the assertion is refused, with Entra's code. A good one of a certificate is used up. */
const char *msim_assertion_judge(msim_call_t *call, const msim_tenant_t *tenant, const char *assertion, int *aadsts);

/* sim_ms_entra.c, sim_ms_intune.c: look a call over, then answer it */

void msim_token_look(msim_call_t *call, msim_refusal_t *refusal);
int msim_token_answer(msim_call_t *call);
int msim_token_refuse(msim_call_t *call, const msim_refusal_t *refusal);
void msim_endpoints_look(msim_call_t *call, msim_refusal_t *refusal);
int msim_endpoints_answer(msim_call_t *call);
/** The list of endpoints, with the SCEP service or without. */
int msim_endpoints_list(msim_call_t *call, int with_scep);
void msim_bearer_look(msim_call_t *call, unsigned audience, msim_refusal_t *refusal);
void msim_action_look(msim_call_t *call, msim_refusal_t *refusal);
int msim_validate_answer(msim_call_t *call);
int msim_notification_answer(msim_call_t *call);
int msim_code_answer(msim_call_t *call, const char *code, const char *description);

/* sim_ms_control.c */

int msim_control(msim_call_t *call);

#endif
