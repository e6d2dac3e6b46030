/* SPDX-License-Identifier: Apache-2.0 */
/* The command `enrol`: a device. */
#include "ctl/client.h"

#include <apr_cstr.h>
#include <apr_file_io.h>
#include <apr_strings.h>
#include <stdio.h>

enum { SHOWN = 200, KEY_BITS = 2048 };

enum {
    OPTION_CHALLENGE,
    OPTION_SUBJECT,
    OPTION_SAN,
    OPTION_KEY_USAGE,
    OPTION_EKU,
    OPTION_DRESS,
    OPTION_CIPHER,
    OPTION_DIGEST,
    OPTION_OAEP,
    OPTION_GET,
    OPTION_KEY,
    OPTION_TRANSACTION,
    OPTION_POLL,
    OPTION_OUT,
    OPTION_CA_CHAIN,
    OPTION_TRUST,
    OPTION_CLIENT
};
static const ctl_option_t options[] = {
    [OPTION_CHALLENGE] = {"challenge", "SPEC",
                          "the challenge: file:PATH, env:NAME, exec:COMMAND or itself; default: none"},
    [OPTION_SUBJECT] = {"subject", "SUBJECT", "as /O=Example/CN=device; default: /CN=intune-scepctl"},
    [OPTION_SAN] = {"san", "LIST", "alternative names, commas between: dns:, email:, uri:, ip:, upn:"},
    [OPTION_KEY_USAGE] = {"key-usage", "LIST", "of digitalSignature, keyEncipherment; or none; default: both"},
    [OPTION_EKU] = {"eku", "LIST",
                    "object identifiers, commas between; or none; default: 1.3.6.1.5.5.7.3.2, client authentication"},
    [OPTION_DRESS] = {"dress", "NAME", "order, paths, header and habits of windows, ios, macos or android"},
    [OPTION_CIPHER] = {"cipher", "NAME", "aes128, aes192, aes256, des3 or des; default: by GetCACaps"},
    [OPTION_DIGEST] = {"digest", "NAME", "sha1, sha224, sha256, sha384, sha512 or md5; default: by GetCACaps"},
    [OPTION_OAEP] = {"oaep", NULL, "RSAES-OAEP key transport, as Windows has it"},
    [OPTION_GET] = {"get", NULL, "PKIOperation by GET, not POST"},
    [OPTION_KEY] = {"key", "FILE", "the device's key, made where there is none; default: a new one that is not kept"},
    [OPTION_TRANSACTION] = {"transaction", "ID", "the transactionID; default: 40 random digits"},
    [OPTION_POLL] = {"poll", "SECONDS", "come again for so long after PENDING and HTTP 503; default: 0"},
    [OPTION_OUT] = {"out", "DIR", "keep key, messages and certificate there, for decode; the directory is made"},
    [OPTION_CA_CHAIN] = {"ca-chain", "FILE", "the chain that must have issued; default: what GetCACert gives"},
    [OPTION_TRUST] = {"trust", "FILE", "PEM file of the CAs to trust for https; default: the system's"},
    [OPTION_CLIENT] = {"client", "FILE", "PEM file with certificate and key to present for https"},
    {NULL, NULL, NULL}};

typedef struct dress_t {
    const char *name;
    const char *agent;
    const char *suffix; /* of the URL */
    const char *hint;   /* message= of GetCACert and GetCACaps */
    bool certificate_first;
    bool oaep;
    bool raw;       /* base64 as it is in a GET */
    bool strongest; /* SHA-512 before SHA-256 */
    unsigned needs; /* SCEP_CAP_… without which the device gives up */
    bool needs_ra;  /* GetCACert must have an RA's certificate with both key usages */
} dress_t;

static const dress_t dresses[] = {{"windows", "Mozilla/4.0 (compatible; Win32; NDES client 10.0.22621.1/ni_release)",
                                   "/pkiclient.exe", "default", false, true, false, false, SCEP_CAP_POST, true},
                                  {"ios", "mdmclient/2300 CFNetwork/1490 Darwin/23.0.0", "", "SCEP%20Authority", true,
                                   false, true, false, SCEP_CAP_RENEWAL | SCEP_CAP_POST, false},
                                  {"macos", "mdmclient/1070 CFNetwork/1490 Darwin/23.0.0 (x86_64)", "",
                                   "SCEP%20Authority", true, false, true, false, SCEP_CAP_RENEWAL | SCEP_CAP_POST,
                                   false},
                                  {"android", "Java/17.0.2", "", NULL, false, false, true, true, 0, false}};

typedef struct enrol_t {
    ctl_t *ctl;
    const char *const *values;
    const dress_t *dress; /* or NULL */
    EVP_PKEY *key;
    client_t client;
} enrol_t;

/* The words of the command line. */

static const dress_t *dress_find(const char *name)
{
    for (size_t i = 0; name && i < sizeof(dresses) / sizeof(dresses[0]); i++) {
        if (!strcmp(dresses[i].name, name)) {
            return &dresses[i];
        }
    }
    return NULL;
}

static apr_array_header_t *split(const ctl_t *ctl, const char *text)
{
    apr_array_header_t *list = apr_array_make(ctl->pool, 4, sizeof(const char *));
    char *rest = NULL;
    for (char *word = apr_strtok(apr_pstrdup(ctl->pool, text ? text : ""), ",", &rest); word;
         word = apr_strtok(NULL, ",", &rest)) {
        APR_ARRAY_PUSH(list, const char *) = word;
    }
    return list;
}

/* One algorithm, not a set of them. */
static ctl_exit_t algorithm_take(const enrol_t *enrol, int option, unsigned *of_kind, bool cipher)
{
    const char *word = enrol->values[option];
    scep_algorithms_t found = {0, 0};
    if (!word) {
        return CTL_DONE;
    }
    const char *unknown = scep_algorithms_parse(&found, word, enrol->ctl->pool);
    unsigned bits = cipher ? found.ciphers : found.digests;
    if (unknown || !bits || (cipher ? found.digests : found.ciphers)) {
        return ctl_fail(enrol->ctl, CTL_USAGE, "--%s: %s is none: see --help", options[option].name,
                        ctl_shown(enrol->ctl, word, SHOWN));
    }
    /* "aes" is three */
    *of_kind = bits & (~bits + 1);
    return CTL_DONE;
}

static ctl_exit_t usage_take(const enrol_t *enrol, unsigned *usage)
{
    const char *text = enrol->values[OPTION_KEY_USAGE];
    *usage = text ? 0 : CLIENT_SIGNS | CLIENT_DECRYPTS;
    if (!text || !strcmp(text, "none")) {
        return CTL_DONE;
    }
    const apr_array_header_t *words = split(enrol->ctl, text);
    for (int i = 0; i < words->nelts; i++) {
        const char *word = APR_ARRAY_IDX(words, i, const char *);
        unsigned bit = !apr_cstr_casecmp(word, "digitalSignature")  ? CLIENT_SIGNS
                       : !apr_cstr_casecmp(word, "keyEncipherment") ? CLIENT_DECRYPTS
                                                                    : 0;
        if (!bit) {
            return ctl_fail(enrol->ctl, CTL_USAGE, "--key-usage: %s is neither digitalSignature nor keyEncipherment",
                            ctl_shown(enrol->ctl, word, SHOWN));
        }
        *usage |= bit;
    }
    return CTL_DONE;
}

static ctl_exit_t wish_make(const enrol_t *enrol, scep_wish_t *wish)
{
    const char *eku = enrol->values[OPTION_EKU];
    const char *subject = enrol->values[OPTION_SUBJECT];
    wish->subject = subject ? subject : "/CN=intune-scepctl";
    wish->names = split(enrol->ctl, enrol->values[OPTION_SAN]);
    wish->purposes = split(enrol->ctl, !eku ? "1.3.6.1.5.5.7.3.2" : !strcmp(eku, "none") ? "" : eku);
    ctl_exit_t status = usage_take(enrol, &wish->usage);
    if (!status && enrol->values[OPTION_CHALLENGE]) {
        status = ctl_secret_take(enrol->ctl, "challenge", enrol->values[OPTION_CHALLENGE], &wish->challenge);
    }
    return status;
}

/* The device. */

static ctl_exit_t device_make(enrol_t *enrol)
{
    client_t *client = &enrol->client;
    scep_wish_t wish = {.subject = NULL};
    const char *why = NULL;
    ctl_exit_t status = wish_make(enrol, &wish);
    if (!status && enrol->values[OPTION_KEY]) {
        status = ctl_key_take(enrol->ctl, client->engine, enrol->values[OPTION_KEY], true, &enrol->key);
    } else if (!status) {
        enrol->key = scep_client_key_make(client->engine, KEY_BITS, enrol->ctl->pool);
        status = enrol->key ? CTL_DONE : ctl_fail(enrol->ctl, CTL_FAILED, "no key can be made");
    }
    if (status) {
        return status;
    }
    client->signer_key = enrol->key;
    if (scep_client_csr_make(&client->csr, client->engine, enrol->key, &wish, enrol->ctl->pool, &why) ||
        scep_client_signer_make(&client->signer, client->engine, enrol->key, &client->csr, enrol->ctl->pool, &why)) {
        return ctl_fail(enrol->ctl, CTL_USAGE, "%s", why);
    }
    return CTL_DONE;
}

static void dress_put_on(enrol_t *enrol)
{
    client_t *client = &enrol->client;
    dialogue_t *dialogue = client->dialogue;
    const dress_t *dress = enrol->dress;
    if (!dress) {
        return;
    }
    client->certificate_first = dress->certificate_first;
    client->oaep = client->oaep || dress->oaep;
    dialogue->agent = dress->agent;
    dialogue->hint = dress->hint;
    dialogue->raw = dress->raw;
    if (*dress->suffix) {
        apr_size_t len = strlen(dialogue->url);
        bool there =
            len >= strlen(dress->suffix) && !strcmp(dialogue->url + len - strlen(dress->suffix), dress->suffix);
        bool slash = len && dialogue->url[len - 1] == '/';
        dialogue->url =
            there ? dialogue->url : apr_pstrcat(enrol->ctl->pool, dialogue->url, dress->suffix + slash, NULL);
    }
}

static bool has_usable_ra(const client_t *client)
{
    for (int i = 0; i < sk_X509_num(client->ca->ras); i++) {
        if (!scep_ra_usage_check(sk_X509_value(client->ca->ras, i), RA_DOES_BOTH, client->pool)) {
            return true;
        }
    }
    return false;
}

/* What a real device would not put up with. */
static void dress_judge(enrol_t *enrol)
{
    const client_t *client = &enrol->client;
    const dress_t *dress = enrol->dress;
    if (!dress) {
        return;
    }
    unsigned lacking = dress->needs & ~client->capabilities;
    if (lacking) {
        ctl_step(client->steps, "dress", CTL_YELLOW, NULL, "a device like %s misses %s in GetCACaps and gives up",
                 dress->name, dialogue_capabilities(lacking, client->pool));
    }
    if (dress->needs_ra && !has_usable_ra(client)) {
        ctl_step(
            client->steps, "dress", CTL_YELLOW, NULL,
            "a device like %s misses an RA with the key usages digitalSignature and keyEncipherment in GetCACert, and "
            "gives up",
            dress->name);
    }
    if (dress->strongest && !client->use.digests && client->capabilities & SCEP_CAP_SHA512) {
        enrol->client.use.digests = SCEP_SHA512;
    }
}

/* What is kept. */

/* Before a certificate is asked for, which would be lost. */
static ctl_exit_t directory_make(const enrol_t *enrol)
{
    apr_pool_t *pool = enrol->ctl->pool;
    const char *directory = enrol->values[OPTION_OUT];
    apr_status_t rv = apr_dir_make(directory, APR_FPROT_UREAD | APR_FPROT_UWRITE | APR_FPROT_UEXECUTE, pool);
    if (rv && !APR_STATUS_IS_EEXIST(rv)) {
        return ctl_fail(enrol->ctl, CTL_UNUSABLE, "%s cannot be made: %s", ctl_shown(enrol->ctl, directory, SHOWN),
                        apr_strerror(rv, apr_palloc(pool, 200), 200));
    }
    return ctl_file_try(enrol->ctl, apr_pstrcat(pool, directory, "/certificate.pem", NULL));
}

static ctl_exit_t keep(const enrol_t *enrol, const char *name, bytes_t bytes, int mode)
{
    const char *path = apr_pstrcat(enrol->ctl->pool, enrol->values[OPTION_OUT], "/", name, NULL);
    return bytes.len ? ctl_file_write(enrol->ctl, path, bytes, mode) : CTL_DONE;
}

static ctl_exit_t keep_all(const enrol_t *enrol)
{
    const client_t *client = &enrol->client;
    apr_pool_t *pool = enrol->ctl->pool;
    bytes_t none = {NULL, 0};
    X509 *issued = client->answer ? client->answer->certificate : NULL;
    ctl_exit_t status = keep(enrol, "key.pem", scep_client_key_print(enrol->key, pool), 0600);
    status = status ? status : keep(enrol, "signer.pem", scep_client_certificate_print(client->signer, pool), 0644);
    status = status ? status : keep(enrol, "ca.der", client->ca_body, 0644);
    /* The requests are encrypted: the challenge in them is the recipient's alone. */
    status = status ? status : keep(enrol, "request.der", client->request, 0644);
    status = status ? status : keep(enrol, "answer.der", client->body, 0644);
    return status ? status
                  : keep(enrol, "certificate.pem", issued ? scep_client_certificate_print(issued, pool) : none, 0644);
}

static ctl_exit_t words_take(enrol_t *enrol, const ctl_words_t *words)
{
    client_t *client = &enrol->client;
    const char *name = words->values[OPTION_DRESS];
    if (words->count != 1) {
        return ctl_fail(enrol->ctl, CTL_USAGE, "enrol needs the URL of a SCEP server, and no other words");
    }
    enrol->dress = dress_find(name);
    if (name && !enrol->dress) {
        return ctl_fail(enrol->ctl, CTL_USAGE, "--dress: %s is none of windows, ios, macos, android",
                        ctl_shown(enrol->ctl, name, SHOWN));
    }
    if (words->values[OPTION_POLL] && !client_seconds(words->values[OPTION_POLL], &client->patience)) {
        return ctl_fail(enrol->ctl, CTL_USAGE, "--poll must be a number of seconds, a day at most");
    }
    ctl_exit_t status = algorithm_take(enrol, OPTION_CIPHER, &client->use.ciphers, true);
    return status ? status : algorithm_take(enrol, OPTION_DIGEST, &client->use.digests, false);
}

static ctl_exit_t run(ctl_t *ctl, const ctl_words_t *words)
{
    enrol_t *enrol = apr_pcalloc(ctl->pool, sizeof(*enrol));
    client_t *client = &enrol->client;
    http_settings_t tls = {.ca_file = words->values[OPTION_TRUST], .client_certificate = words->values[OPTION_CLIENT]};
    enrol->ctl = ctl;
    enrol->values = words->values;
    ctl_exit_t status = words_take(enrol, words);
    if (!status) {
        status = client_begin(client, ctl, words->rest[0], &tls, words->values[OPTION_CA_CHAIN]);
    }
    if (!status) {
        status = device_make(enrol);
    }
    if (!status && words->values[OPTION_OUT]) {
        status = directory_make(enrol);
    }
    if (status) {
        return status;
    }
    client->oaep = words->values[OPTION_OAEP] != NULL;
    client->transaction_id = words->values[OPTION_TRANSACTION];
    client->dialogue->get = words->values[OPTION_GET] != NULL;
    dress_put_on(enrol);
    status = client_meet(client);
    if (!status) {
        dress_judge(enrol);
        status = client_ask(client);
    }
    if (words->values[OPTION_OUT]) {
        ctl_exit_t kept = keep_all(enrol);
        if (kept) {
            return kept;
        }
    }
    return client_end(client, status, NULL);
}

const ctl_group_t ctl_enrol = {.name = "enrol",
                               .help = "act as a device: ask a SCEP server for a certificate, and show each step",
                               .options = options,
                               .run = run,
                               .arguments = "URL"};
