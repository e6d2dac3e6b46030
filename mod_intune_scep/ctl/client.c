/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/client.h"

#include "base/clock.h"
#include "base/text.h"

#include <apr_lib.h>
#include <apr_strings.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>

enum { SHOWN = 300, ID_BYTES = 20, SECONDS_MOST = 86400, PAUSE_FIRST = 1, PAUSE_MOST = 30 };

static const apr_interval_time_t REQUEST_LIMIT = apr_time_from_sec(60);
static const char ALL_ALGORITHMS[] = "AES DES3 DES MD5 SHA-1 SHA-224 SHA-256 SHA-384 SHA-512";

bool client_seconds(const char *text, apr_interval_time_t *time)
{
    char *end = NULL;
    long seconds = strtol(text, &end, 10);
    if (!apr_isdigit(*text) || *end || seconds > SECONDS_MOST) {
        return false;
    }
    *time = apr_time_from_sec(seconds);
    return true;
}

ctl_exit_t client_begin(client_t *client, ctl_t *ctl, const char *url, const http_settings_t *tls, const char *chain)
{
    result_t *result = result_make(ctl->pool);
    const char *message = NULL;
    scep_engine_t *engine = NULL;
    client->ctl = ctl;
    client->pool = ctl->pool;
    client->type = SCEP_PKCSREQ;
    if (!dialogue_url_is_good(url, ctl->pool)) {
        return ctl_fail(ctl, CTL_USAGE, "%s is no http:// or https:// URL without user and query",
                        ctl_shown(ctl, url, SHOWN));
    }
    if (scep_engine_make(&engine, ctl->pool, result)) {
        return ctl_fail(ctl, CTL_FAILED, "%s", result->detail ? result->detail : "OpenSSL cannot be used");
    }
    client->engine = engine;
    if (chain && scep_certificates_load(&client->chain, engine, chain, ctl->pool, &message)) {
        return ctl_fail(ctl, CTL_UNUSABLE, "--ca-chain: %s", message);
    }
    client->steps = ctl_steps_make(ctl);
    client->dialogue = dialogue_make(url, tls, REQUEST_LIMIT, ctl->pool, &message);
    return client->dialogue ? CTL_DONE : ctl_fail(ctl, CTL_UNUSABLE, "%s", message);
}

/* The server's own words. */

static ctl_exit_t capabilities_ask(client_t *client)
{
    http_answer_t answer;
    dialogue_ask(client->dialogue, "GetCACaps", &answer);
    const char *trouble = dialogue_trouble(&answer, client->pool);
    if (trouble) {
        /* RFC 8894 section 3.5.1: a server without it gets what all must have */
        bool fatal = answer.failure != HTTP_OK;
        ctl_step(client->steps, "capabilities", fatal ? CTL_RED : CTL_YELLOW, dialogue_remedy(&answer), "GetCACaps: %s",
                 trouble);
        return fatal ? CTL_FAILED : CTL_DONE;
    }
    client->capabilities = scep_capabilities_parse(answer.body);
    ctl_step(client->steps, "capabilities", client->capabilities ? CTL_GREEN : CTL_YELLOW, NULL, "GetCACaps: %s",
             dialogue_capabilities(client->capabilities, client->pool));
    return CTL_DONE;
}

static const char *subject_of(const client_t *client, X509 *certificate)
{
    certificate_facts_t facts;
    return certificate_facts(&facts, certificate, client->pool)
               ? "(unreadable)"
               : apr_psprintf(client->pool, "\"%s\" (%s)", ctl_shown(client->ctl, facts.subject, SHOWN),
                              facts.thumbprint);
}

static void certificates_tell(const client_t *client)
{
    const scep_ca_t *ca = client->ca;
    const char *text = apr_pstrcat(client->pool, "CA ", subject_of(client, sk_X509_value(ca->chain, 0)), NULL);
    for (int i = 0; i < sk_X509_num(ca->ras) && i < 4; i++) {
        text = apr_pstrcat(client->pool, text, ", RA ", subject_of(client, sk_X509_value(ca->ras, i)), NULL);
    }
    ctl_step(client->steps, "ca-certificates", CTL_GREEN, NULL, "GetCACert: %s", text);
}

static ctl_exit_t certificates_ask(client_t *client)
{
    http_answer_t answer;
    scep_ca_t *ca = NULL;
    const char *why = NULL;
    dialogue_ask(client->dialogue, "GetCACert", &answer);
    const char *trouble = dialogue_trouble(&answer, client->pool);
    if (trouble || scep_ca_read(&ca, client->engine, answer.body, client->pool, &why)) {
        ctl_step(client->steps, "ca-certificates", CTL_RED, dialogue_remedy(&answer), "GetCACert: %s",
                 trouble ? trouble : why);
        return CTL_FAILED;
    }
    client->ca_body = answer.body;
    client->ca = ca;
    certificates_tell(client);
    return CTL_DONE;
}

ctl_exit_t client_meet(client_t *client)
{
    ctl_exit_t status = client->certificate_first ? certificates_ask(client) : capabilities_ask(client);
    if (!status) {
        status = client->certificate_first ? capabilities_ask(client) : certificates_ask(client);
    }
    return status;
}

/* The message. */

static ctl_exit_t message_make(client_t *client)
{
    apr_pool_t *pool = client->pool;
    result_t *result = result_make(pool);
    STACK_OF(X509) *chain = client->chain ? client->chain : client->ca->chain;
    scep_algorithms_t all = {0, 0};
    scep_ask_t ask = {.type = client->type, .csr = &client->csr, .oaep = client->oaep};
    scep_algorithms_parse(&all, ALL_ALGORITHMS, pool);
    scep_algorithms_t suggested = scep_backend_choose(client->capabilities, all);
    ask.use.ciphers = client->use.ciphers ? client->use.ciphers : suggested.ciphers;
    ask.use.digests = client->use.digests ? client->use.digests : suggested.digests;
    ask.transaction_id = client->transaction_id ? client->transaction_id : text_random_hex(pool, ID_BYTES);
    if (scep_identity_make(&client->identity, client->engine, client->signer, client->signer_key, chain,
                           client->ca->ras, pool, result) ||
        scep_ask_build(&client->relay, client->identity, &ask, pool, result)) {
        ctl_step(client->steps, "request", CTL_RED, NULL, "%s", result->detail ? result->detail : "no memory");
        return CTL_FAILED;
    }
    client->request = client->relay->body;
    ctl_step(client->steps, "request", CTL_GREEN, NULL, "%s, transaction %s, %s, %s, key by %s, to %s, %d bytes by %s",
             client->type == SCEP_RENEWALREQ ? "RenewalReq" : "PKCSReq",
             ctl_shown(client->ctl, ask.transaction_id, SHOWN), scep_cipher_name(ask.use.ciphers),
             scep_digest_name(ask.use.digests), client->oaep ? "RSAES-OAEP" : "RSA PKCS #1 v1.5",
             subject_of(client, client->identity->backend_recipient), (int)client->request.len,
             client->dialogue->get ? "GET" : "POST");
    return CTL_DONE;
}

/* The answer. */

typedef enum turn_t { TURN_ENDS, TURN_POLLS, TURN_REPEATS } turn_t;

/* No CertRep. A 503 asks to come again with the same message. */
static turn_t trouble_tell(client_t *client, const http_answer_t *answer, const char *trouble,
                           apr_interval_time_t *pause)
{
    bool again = answer->failure == HTTP_OK && answer->status == 503 && client->patience;
    *pause = answer->retry_after;
    ctl_step(
        client->steps, "answer", again ? CTL_YELLOW : CTL_RED, again ? NULL : dialogue_remedy(answer), "%s%s", trouble,
        answer->retry_after ? apr_psprintf(client->pool, ", Retry-After %d s", (int)apr_time_sec(answer->retry_after))
                            : "");
    return again ? TURN_REPEATS : TURN_ENDS;
}

static turn_t certrep_tell(client_t *client)
{
    const scep_answer_t *answer = client->answer;
    switch (answer->status) {
    case SCEP_PENDING:
        ctl_step(client->steps, "answer", CTL_YELLOW, NULL, "CertRep PENDING");
        return TURN_POLLS;
    case SCEP_FAILURE:
        ctl_step(client->steps, "answer", CTL_RED, "see the server's log for this transaction",
                 "CertRep FAILURE %s%s%s", SCEP_FAIL_INFO_NAMES[answer->fail_info], answer->fail_info_text ? ": " : "",
                 answer->fail_info_text ? ctl_shown(client->ctl, answer->fail_info_text, SHOWN) : "");
        return TURN_ENDS;
    case SCEP_SUCCESS:
        break;
    }
    ctl_step(client->steps, "answer", CTL_GREEN, NULL, "CertRep SUCCESS");
    ctl_step(client->steps, "certificate", CTL_GREEN, NULL, "serial %s, subject \"%s\", by \"%s\", until %s",
             answer->facts.serial, ctl_shown(client->ctl, answer->facts.subject, SHOWN),
             ctl_shown(client->ctl, answer->facts.issuer, SHOWN), answer->facts.not_after);
    return TURN_ENDS;
}

static turn_t turn_take(client_t *client, apr_interval_time_t *pause)
{
    http_answer_t answer;
    scep_policy_t policy = {.min_key_bits = 1024};
    result_t *result = result_make(client->pool);
    client->answer = NULL;
    dialogue_send(client->dialogue, client->relay->body, &answer);
    const char *trouble = dialogue_trouble(&answer, client->pool);
    if (trouble) {
        return trouble_tell(client, &answer, trouble, pause);
    }
    client->body = answer.body;
    scep_algorithms_parse(&policy.backend, ALL_ALGORITHMS, client->pool);
    if (scep_answer_open(&client->answer, client->identity, &policy, client->relay, answer.body, client->pool,
                         result)) {
        client->answer = NULL;
        ctl_step(client->steps, "answer", CTL_RED, NULL, "%s: %s", problem_facts(result->problem)->what,
                 result->detail ? result->detail : "-");
        return TURN_ENDS;
    }
    return certrep_tell(client);
}

/* A CertPoll in place of the request, with a nonce of its own. */
static bool poll_make(client_t *client)
{
    scep_algorithms_t use = client->use;
    scep_algorithms_t all = {0, 0};
    result_t *result = result_make(client->pool);
    scep_relay_t *relay = NULL;
    scep_algorithms_parse(&all, ALL_ALGORITHMS, client->pool);
    scep_algorithms_t suggested = scep_backend_choose(client->capabilities, all);
    use.ciphers = use.ciphers ? use.ciphers : suggested.ciphers;
    use.digests = use.digests ? use.digests : suggested.digests;
    if (scep_poll_build(&relay, client->identity, client->relay->transaction_id, &client->csr, use, client->pool,
                        result)) {
        ctl_step(client->steps, "answer", CTL_RED, NULL, "%s", result->detail ? result->detail : "no memory");
        return false;
    }
    client->relay = relay;
    return true;
}

ctl_exit_t client_ask(client_t *client)
{
    apr_time_t until = clock_now() + client->patience;
    apr_interval_time_t growing = apr_time_from_sec(PAUSE_FIRST);
    ctl_exit_t status = message_make(client);
    if (status) {
        return status;
    }
    for (;;) {
        apr_interval_time_t pause = 0;
        turn_t turn = turn_take(client, &pause);
        pause = pause ? pause : growing;
        if (turn == TURN_ENDS || clock_now() + pause >= until) {
            break;
        }
        if (turn == TURN_POLLS && client->relay->type != SCEP_CERTPOLL && !poll_make(client)) {
            break;
        }
        apr_sleep(pause);
        growing = growing * 2 < apr_time_from_sec(PAUSE_MOST) ? growing * 2 : apr_time_from_sec(PAUSE_MOST);
    }
    return client->answer && client->answer->status == SCEP_SUCCESS ? CTL_DONE : CTL_FAILED;
}

/* The end. */

static const char *status_word(const client_t *client)
{
    if (!client->answer) {
        return "failed";
    }
    return client->answer->status == SCEP_SUCCESS   ? "issued"
           : client->answer->status == SCEP_PENDING ? "pending"
                                                    : "refused";
}

ctl_exit_t client_end(client_t *client, ctl_exit_t status, const char *word)
{
    const ctl_t *ctl = client->ctl;
    if (!ctl->json) {
        return status;
    }
    json_object *document = ctl_object();
    ctl_add_text(ctl, document, "status", word ? word : status_word(client));
    ctl_add_text(ctl, document, "transaction", client->relay ? client->relay->transaction_id : NULL);
    ctl_add(document, "steps", ctl_steps_take(client->steps));
    if (client->answer && client->answer->certificate) {
        bytes_t pem = scep_client_certificate_print(client->answer->certificate, client->pool);
        ctl_add_text(ctl, document, "serial", client->answer->facts.serial);
        ctl_add_text(ctl, document, "thumbprint", client->answer->facts.thumbprint);
        ctl_add_text(ctl, document, "certificate", apr_pstrmemdup(client->pool, (const char *)pem.data, pem.len));
    }
    ctl_print(ctl, document);
    return status;
}
