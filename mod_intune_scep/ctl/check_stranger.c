/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether the CA issues to whoever asks: then a device that reaches it needs no Intune. A new key asks, self-signed, with
 * a wrong challenge, without the gateway's TLS certificate.
 */
#include "ctl/check.h"

#include "base/text.h"

#include <apr_strings.h>

enum { STRANGER_BITS = 2048, ID_BYTES = 20, NAME_BYTES = 8 };

static const apr_interval_time_t STRANGER_LIMIT = apr_time_from_sec(30);

static const char STEP[] = "stranger";
static const char REMEDY[] = "let the CA accept this RA's signature only, or ask for the gateway's TLS certificate; "
                             "where a firewall lets nobody but "
                             "this gateway reach the CA, leave this step out with --no-stranger";

typedef struct stranger_t {
    check_t *check;
    csr_t csr;
    X509 *certificate;
    EVP_PKEY *key;
    scep_identity_t *identity;
    scep_relay_t *relay;
    const char *subject;
} stranger_t;

/* NULL, or why it cannot be tried. */
static const char *stranger_make(stranger_t *s)
{
    check_t *check = s->check;
    apr_pool_t *pool = check->pool;
    result_t *result = result_make(pool);
    const char *why = "no key can be made";
    scep_algorithms_t all = setting_algorithms(check->settings, SETTING_BACKEND_ALGORITHMS, pool);
    scep_ask_t ask = {.type = SCEP_PKCSREQ, .csr = &s->csr};
    /* A name that no device has and that is new each time: some CAs refuse a name that they know. */
    s->subject = apr_pstrcat(pool, "/O=intune-scepctl/OU=check/CN=stranger ", text_random_hex(pool, NAME_BYTES), NULL);
    scep_wish_t wish = {
        .subject = s->subject, .challenge = secret_make(pool, "wrong challenge", 15), .usage = CLIENT_SIGNS};
    s->key = scep_client_key_make(check->engine, STRANGER_BITS, pool);
    if (!s->key || scep_client_csr_make(&s->csr, check->engine, s->key, &wish, pool, &why) ||
        scep_client_signer_make(&s->certificate, check->engine, s->key, &s->csr, pool, &why)) {
        return why;
    }
    /* Whoever the CA says that it is, as a stranger takes it. */
    if (scep_identity_make(&s->identity, check->engine, s->certificate, s->key, check->ca->chain, check->ca->ras, pool,
                           result)) {
        return result->detail ? result->detail : "no memory";
    }
    ask.transaction_id = text_random_hex(pool, ID_BYTES);
    ask.use = scep_backend_choose(check->capabilities, all);
    if (scep_ask_build(&s->relay, s->identity, &ask, pool, result)) {
        return result->detail ? result->detail : "no memory";
    }
    return NULL;
}

static void issued(const stranger_t *s, const certificate_facts_t *facts)
{
    ctl_step(
        s->check->steps, STEP, CTL_RED, REMEDY,
        "THE CA ISSUES TO ANYBODY: a stranger with a wrong challenge got the certificate %s, subject \"%s\"; it stays "
        "valid at the CA until you revoke it",
        facts->serial, ctl_shown(s->check->ctl, facts->subject, CHECK_SHOWN));
}

static void answer_judge(const stranger_t *s, bytes_t body)
{
    const check_t *check = s->check;
    scep_policy_t policy = {.min_key_bits = 1024};
    scep_answer_t *answer = NULL;
    result_t *result = result_make(check->pool);
    scep_algorithms_parse(&policy.backend, "AES DES3 DES MD5 SHA-1 SHA-224 SHA-256 SHA-384 SHA-512", check->pool);
    apr_status_t rv = scep_answer_open(&answer, s->identity, &policy, s->relay, body, check->pool, result);
    if ((!rv && answer->status == SCEP_SUCCESS) ||
        (result->problem == PROBLEM_CA_BAD_CERTIFICATE && answer->facts.serial)) {
        issued(s, &answer->facts);
    } else if (rv) {
        ctl_step(check->steps, STEP, CTL_YELLOW, problem_facts(result->problem)->remedy, "cannot be told: %s: %s",
                 problem_facts(result->problem)->what, result->detail ? result->detail : "-");
    } else if (answer->status == SCEP_PENDING) {
        ctl_step(check->steps, STEP, CTL_YELLOW,
                 "reject it there; strangers' requests should not get as far as a person",
                 "the CA lets a stranger's request wait for a decision: transaction %s, subject \"%s\"",
                 s->relay->transaction_id, ctl_shown(check->ctl, s->subject, CHECK_SHOWN));
    } else {
        ctl_step(check->steps, STEP, CTL_GREEN, NULL,
                 "the CA refuses a stranger with a wrong challenge (failInfo %d); all that is left there is what it "
                 "logs of a "
                 "refusal",
                 (int)answer->fail_info);
    }
}

/* What says nothing of who asks (too long, too often, not by this method) would be said to the gateway as well. */
static bool is_refusal(int status)
{
    return status == 400 || status == 401 || status == 403 || status == 404;
}

/* The gateway's certificate is what opens the connection. A CA that went down meanwhile keeps nobody away. */
static bool is_locked_out(const stranger_t *s, http_failure_t failure)
{
    return failure == HTTP_FAILED_CLIENT_CERTIFICATE ||
           (s->check->tls.client_certificate && (failure == HTTP_FAILED_TLS || failure == HTTP_FAILED_DROPPED));
}

static void http_judge(const stranger_t *s, const http_answer_t *answer, const char *trouble)
{
    ctl_steps_t *steps = s->check->steps;
    if (answer->failure == HTTP_OK ? is_refusal(answer->status) : is_locked_out(s, answer->failure)) {
        ctl_step(steps, STEP, CTL_GREEN, NULL, "the CA's server does not let a stranger in: %s", trouble);
    } else {
        ctl_step(steps, STEP, CTL_YELLOW, "see the CA's log whether it issued: the subject names this check",
                 "cannot be told: %s; subject \"%s\"", trouble, ctl_shown(s->check->ctl, s->subject, CHECK_SHOWN));
    }
}

void check_stranger(check_t *check)
{
    stranger_t s = {.check = check};
    http_settings_t tls = {.ca_file = check->tls.ca_file};
    http_answer_t answer;
    const char *message = NULL;
    if (!check->ca) {
        ctl_step(check->steps, STEP, CTL_SKIPPED, NULL, "the CA's certificates are not known");
        return;
    }
    dialogue_t *dialogue = dialogue_make(check->backend, &tls, STRANGER_LIMIT, check->pool, &message);
    const char *wrong = dialogue ? stranger_make(&s) : message;
    if (!dialogue || wrong) {
        ctl_step(check->steps, STEP, CTL_YELLOW, NULL, "cannot be tried: %s", wrong);
        return;
    }
    dialogue->get = !(check->capabilities & SCEP_CAP_POST) && check->capabilities;
    dialogue_send(dialogue, s.relay->body, &answer);
    const char *trouble = dialogue_trouble(&answer, check->pool);
    if (trouble) {
        http_judge(&s, &answer, trouble);
    } else {
        answer_judge(&s, answer.body);
    }
}
