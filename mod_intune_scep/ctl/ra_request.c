/* SPDX-License-Identifier: Apache-2.0 */
/* The command `ra-request`: the RA's own certificate from a CA that speaks SCEP. */
#include "ctl/client.h"

#include "base/clock.h"

#include <apr_strings.h>
#include <openssl/x509.h>
#include <sys/stat.h>

enum { SHOWN = 200 };

enum {
    OPTION_KEY,
    OPTION_OUT,
    OPTION_SUBJECT,
    OPTION_CHALLENGE,
    OPTION_RENEW,
    OPTION_CERTIFICATE,
    OPTION_CERTIFICATE_KEY,
    OPTION_POLL,
    OPTION_CA_CHAIN,
    OPTION_TRUST,
    OPTION_CLIENT
};
static const ctl_option_t options[] = {
    [OPTION_KEY] = {"key", "FILE", "the key of the new certificate, made where there is none (0600)"},
    [OPTION_OUT] = {"out", "FILE", "where the certificate goes, in PEM; what was there is replaced once it is good"},
    [OPTION_SUBJECT] = {"subject", "SUBJECT", "as /O=Example/CN=Example RA; default with --renew: the old one"},
    [OPTION_CHALLENGE] = {"challenge", "SPEC", "what the CA asks for: file:PATH, env:NAME, exec:COMMAND or itself"},
    [OPTION_RENEW] = {"renew", NULL, "RenewalReq, signed by the certificate that is to be renewed"},
    [OPTION_CERTIFICATE] = {"certificate", "FILE", "with --renew: that certificate"},
    [OPTION_CERTIFICATE_KEY] = {"certificate-key", "FILE", "with --renew: its key; default: that of --key"},
    [OPTION_POLL] = {"poll", "SECONDS", "come again for so long after PENDING and HTTP 503; default: 0"},
    [OPTION_CA_CHAIN] = {"ca-chain", "FILE", "the chain that must have issued; default: what GetCACert gives"},
    [OPTION_TRUST] = {"trust", "FILE", "PEM file of the CAs to trust for https; default: the system's"},
    [OPTION_CLIENT] = {"client", "FILE", "PEM file with certificate and key to present for https"},
    {NULL, NULL, NULL}};

typedef struct request_t {
    ctl_t *ctl;
    const char *const *values;
    EVP_PKEY *key;
    client_t client;
} request_t;

static ctl_exit_t words_check(request_t *request, const ctl_words_t *words)
{
    const char *const *values = words->values;
    if (words->count != 1) {
        return ctl_fail(request->ctl, CTL_USAGE, "ra-request needs the CA's SCEP URL, and no other words");
    }
    if (!values[OPTION_KEY] || !values[OPTION_OUT]) {
        return ctl_fail(request->ctl, CTL_USAGE, "ra-request needs --key and --out");
    }
    if (values[OPTION_RENEW] ? !values[OPTION_CERTIFICATE]
                             : values[OPTION_CERTIFICATE] || values[OPTION_CERTIFICATE_KEY]) {
        return ctl_fail(request->ctl, CTL_USAGE, "--renew and --certificate go together");
    }
    if (!values[OPTION_SUBJECT] && !values[OPTION_RENEW]) {
        return ctl_fail(request->ctl, CTL_USAGE, "ra-request needs --subject, or --renew");
    }
    if (values[OPTION_POLL] && !client_seconds(values[OPTION_POLL], &request->client.patience)) {
        return ctl_fail(request->ctl, CTL_USAGE, "--poll must be a number of seconds, a day at most");
    }
    return CTL_DONE;
}

/* The certificate that signs in place of a self-signed one. */
static ctl_exit_t old_take(request_t *request)
{
    client_t *client = &request->client;
    const char *path = request->values[OPTION_CERTIFICATE_KEY];
    ctl_exit_t status =
        ctl_certificate_take(request->ctl, client->engine, request->values[OPTION_CERTIFICATE], &client->signer);
    if (!status && path) {
        status = ctl_key_take(request->ctl, client->engine, path, false, &client->signer_key);
    }
    if (status) {
        return status;
    }
    const char *wrong = scep_key_check(client->signer, client->signer_key, request->ctl->pool);
    wrong = wrong ? wrong : scep_validity_check(client->signer, clock_now(), request->ctl->pool);
    client->type = SCEP_RENEWALREQ;
    return wrong ? ctl_fail(request->ctl, CTL_UNUSABLE, "--certificate: %s", wrong) : CTL_DONE;
}

/* By whatever name: the certificate would take the key's place. */
static bool is_out(const request_t *request, const char *path)
{
    struct stat key;
    struct stat out;
    return path && !stat(path, &key) && !stat(request->values[OPTION_OUT], &out) && key.st_dev == out.st_dev &&
           key.st_ino == out.st_ino;
}

static bytes_t subject_of(const request_t *request, X509 *certificate)
{
    unsigned char *der = NULL;
    int len = i2d_X509_NAME(X509_get_subject_name(certificate), &der);
    bytes_t bytes = {NULL, 0};
    if (len > 0) {
        bytes.data = apr_pmemdup(request->ctl->pool, der, (apr_size_t)len);
        bytes.len = (apr_size_t)len;
    }
    OPENSSL_free(der);
    return bytes;
}

static ctl_exit_t request_make(request_t *request)
{
    client_t *client = &request->client;
    const char *const *values = request->values;
    scep_wish_t wish = {.subject = values[OPTION_SUBJECT], .usage = CLIENT_SIGNS | CLIENT_DECRYPTS};
    const char *why = NULL;
    ctl_exit_t status = ctl_key_take(request->ctl, client->engine, values[OPTION_KEY], true, &request->key);
    client->signer_key = request->key;
    if (!status && (is_out(request, values[OPTION_KEY]) || is_out(request, values[OPTION_CERTIFICATE_KEY]))) {
        return ctl_fail(request->ctl, CTL_USAGE, "--out names the file of a key, which would be lost");
    }
    if (!status && values[OPTION_CHALLENGE]) {
        status = ctl_secret_take(request->ctl, "challenge", values[OPTION_CHALLENGE], &wish.challenge);
    }
    if (!status && values[OPTION_RENEW]) {
        status = old_take(request);
    }
    if (status) {
        return status;
    }
    if (client->signer && !wish.subject) {
        wish.subject_der = subject_of(request, client->signer);
    }
    if (scep_client_csr_make(&client->csr, client->engine, request->key, &wish, request->ctl->pool, &why) ||
        (!client->signer && scep_client_signer_make(&client->signer, client->engine, request->key, &client->csr,
                                                    request->ctl->pool, &why))) {
        return ctl_fail(request->ctl, CTL_USAGE, "%s", why);
    }
    return CTL_DONE;
}

/* Only what the server would start with takes the old one's place. */
static ctl_exit_t certificate_keep(request_t *request, bool *fits)
{
    client_t *client = &request->client;
    apr_pool_t *pool = request->ctl->pool;
    X509 *certificate = client->answer->certificate;
    const char *out = request->values[OPTION_OUT];
    const char *wrong = scep_ra_check(certificate, RA_DOES_BOTH, client->identity->chain, clock_now(), pool);
    *fits = !wrong;
    const char *path = wrong ? apr_pstrcat(pool, out, ".rejected", NULL) : out;
    ctl_exit_t status = ctl_file_write(request->ctl, path, scep_client_certificate_print(certificate, pool), 0644);
    if (status) {
        return status;
    }
    if (wrong) {
        ctl_step(client->steps, "file", CTL_RED,
                 "have the CA issue it with the key usages digitalSignature and keyEncipherment, or sign it with the "
                 "CA's key by hand; revoke this one",
                 "it is no certificate for an RA: %s; it is in %s", wrong, ctl_shown(request->ctl, path, SHOWN));
        return CTL_DONE;
    }
    ctl_step(client->steps, "file", CTL_GREEN, NULL,
             "%s: set IntuneScepRACertificate and IntuneScepRAKey, and restart the server",
             ctl_shown(request->ctl, path, SHOWN));
    return CTL_DONE;
}

static ctl_exit_t run(ctl_t *ctl, const ctl_words_t *words)
{
    request_t *request = apr_pcalloc(ctl->pool, sizeof(*request));
    client_t *client = &request->client;
    bool fits = false;
    http_settings_t tls = {.ca_file = words->values[OPTION_TRUST], .client_certificate = words->values[OPTION_CLIENT]};
    request->ctl = ctl;
    request->values = words->values;
    ctl_exit_t status = words_check(request, words);
    if (!status) {
        status = ctl_file_try(ctl, words->values[OPTION_OUT]);
    }
    if (!status) {
        status = client_begin(client, ctl, words->rest[0], &tls, words->values[OPTION_CA_CHAIN]);
    }
    if (!status) {
        status = request_make(request);
    }
    if (status) {
        return status;
    }
    status = client_meet(client);
    if (!status) {
        client->dialogue->get = client->capabilities && !(client->capabilities & SCEP_CAP_POST);
        status = client_ask(client);
    }
    if (status) {
        return client_end(client, status, NULL);
    }
    status = certificate_keep(request, &fits);
    return status ? status : client_end(client, fits ? CTL_DONE : CTL_FAILED, fits ? NULL : "unfit");
}

const ctl_group_t ctl_ra_request = {.name = "ra-request",
                                    .help = "get or renew the RA's certificate from its CA by SCEP",
                                    .options = options,
                                    .run = run,
                                    .arguments = "URL"};
