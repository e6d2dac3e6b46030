/* SPDX-License-Identifier: Apache-2.0 */
/* `device request` and `device get-message`: keys, signer certificates, files. */
#include "device.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <apr_file_io.h>
#include <apr_strings.h>
#include <json-c/json.h>
#include <openssl/pem.h>

EVP_PKEY *device_other_key(device_options_t *options)
{
    if (!options->other_key)
        options->other_key = sim_key_make(options->libctx, 2048, options->pool);
    return options->other_key;
}

static bool recipients_load(device_options_t *options)
{
    options->envelope_to = sim_certs_read(options->libctx, options->ra, options->pool);
    if (!options->envelope_to)
        return device_fail("no certificate in %s", options->ra);
    /* --ra may be a chain: its first certificate is the recipient. */
    while (sk_X509_num(options->envelope_to) > 1)
        X509_free(sk_X509_pop(options->envelope_to));
    for (int i = 0; i < options->recipients->nelts; i++) {
        const char *path = APR_ARRAY_IDX(options->recipients, i, const char *);
        STACK_OF(X509) *more = sim_certs_read(options->libctx, path, options->pool);
        if (!more)
            return device_fail("no certificate in %s", path);
        for (int n = 0; n < sk_X509_num(more); n++) {
            X509_up_ref(sk_X509_value(more, n));
            sk_X509_push(options->envelope_to, sk_X509_value(more, n));
        }
    }
    return true;
}

static bool challenges_load(device_options_t *options)
{
    sim_bytes_t file = sim_file_read(options->challenge_file, options->pool);
    if (!file.data)
        return device_fail("cannot read %s", options->challenge_file);
    options->challenges = apr_array_make(options->pool, options->count, sizeof(const char *));
    for (char *line = (char *)file.data; *line;) {
        size_t len = strcspn(line, "\r\n");
        APR_ARRAY_PUSH(options->challenges, const char *) = apr_pstrmemdup(options->pool, line, len);
        line += len;
        line += *line == '\r';
        line += *line == '\n';
    }
    if (options->challenges->nelts < options->count)
        return device_fail("%s has %d lines for %d devices", options->challenge_file, options->challenges->nelts,
                           options->count);
    return true;
}

static bool csr_load(device_options_t *options)
{
    unsigned char *der = NULL;
    options->csr_read = sim_file_read(options->csr, options->pool);
    if (!options->csr_read.data)
        return device_fail("cannot read %s", options->csr);
    if (!options->key)
        return device_fail("--csr wants --key");
    if (strncmp((const char *)options->csr_read.data, "-----BEGIN", 10) != 0)
        return true;
    BIO *bio = BIO_new_mem_buf(options->csr_read.data, (int)options->csr_read.len);
    X509_REQ *req = PEM_read_bio_X509_REQ(bio, NULL, NULL, NULL);
    int len = req ? i2d_X509_REQ(req, &der) : 0;
    if (len > 0)
        options->csr_read = sim_bytes(der, (apr_size_t)len, options->pool);
    OPENSSL_free(der);
    X509_REQ_free(req);
    BIO_free(bio);
    return len > 0 || device_fail("no CSR in %s", options->csr);
}

static bool things_load(device_options_t *options)
{
    if (!recipients_load(options) || (options->challenge_file && !challenges_load(options)) ||
        (options->csr && !csr_load(options)))
        return false;
    if (options->key && !(options->shared_key = sim_key_read(options->libctx, options->key, options->pool)))
        return device_fail("no key in %s", options->key);
    if (!options->signer_cert != !options->signer_key)
        return device_fail("--signer-cert and --signer-key go together");
    if (options->signer_cert) {
        STACK_OF(X509) *certs = sim_certs_read(options->libctx, options->signer_cert, options->pool);
        options->signer_cert_read = certs ? sk_X509_value(certs, 0) : NULL;
        options->signer_key_read = sim_key_read(options->libctx, options->signer_key, options->pool);
        if (!options->signer_cert_read || !options->signer_key_read)
            return device_fail("cannot read %s and %s", options->signer_cert, options->signer_key);
    }
    apr_status_t rv = apr_dir_make_recursive(options->out, APR_FPROT_OS_DEFAULT, options->pool);
    return rv == APR_SUCCESS || device_fail("cannot make %s", options->out);
}

/* Some Windows devices mark the AuthorityKeyIdentifier of their self-signed certificate as critical. */
static bool critical_aki_add(X509 *cert, EVP_PKEY *key)
{
    unsigned char id[EVP_MAX_MD_SIZE];
    unsigned int len = 0;
    AUTHORITY_KEYID *aki = AUTHORITY_KEYID_new();
    bool ok = aki && X509_pubkey_digest(cert, EVP_sha1(), id, &len) && (aki->keyid = ASN1_OCTET_STRING_new()) &&
              ASN1_OCTET_STRING_set(aki->keyid, id, (int)len) &&
              X509_add1_ext_i2d(cert, NID_authority_key_identifier, aki, 1, 0) == 1 &&
              X509_sign(cert, key, EVP_sha256()) > 0;
    AUTHORITY_KEYID_free(aki);
    return ok;
}

static bool signer_make(device_options_t *options, device_t *device)
{
    const unsigned char *at = device->csr.data;
    if (options->signer_cert_read || !device->signer_key) {
        device->signer_key = options->signer_key_read ? options->signer_key_read : device->key;
        device->signer = options->signer_cert_read;
    }
    if (device->signer)
        return true;
    X509_REQ *req = d2i_X509_REQ(NULL, &at, (long)device->csr.len);
    X509_NAME *name = req ? X509_NAME_dup(X509_REQ_get_subject_name(req)) : X509_NAME_new();
    if (name && X509_NAME_entry_count(name) == 0)
        X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)"SCEP", -1, -1, 0);
    device->signer = sim_self_signed(options->libctx, device->signer_key, name, false, device->pool);
    X509_NAME_free(name);
    X509_REQ_free(req);
    if (!device->signer || (options->critical_aki && !critical_aki_add(device->signer, device->signer_key)))
        return device_fail("no signer certificate: %s", sim_openssl_error(device->pool));
    return true;
}

static sim_bytes_t description_make(const device_t *device)
{
    struct json_object *json = json_object_new_object();
    apr_pool_t *pool = device->pool;
    const char *id = (const char *)device->transaction.data;
    json_object_object_add(json, "transaction_id", json_object_new_string_len(id, (int)device->transaction.len));
    json_object_object_add(json, "sender_nonce", json_object_new_string(sim_hex(device->sender_nonce, false, pool)));
    json_object_object_add(json, "csr_base64", json_object_new_string(sim_base64(device->csr, pool)));
    json_object_object_add(json, "signer_serial", json_object_new_string(sim_serial_hex(device->signer, pool)));
    json_object_object_add(json, "type", json_object_new_int(device->type));
    const char *text = json_object_to_json_string_ext(json, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
    sim_bytes_t bytes = sim_bytes(text, strlen(text), pool);
    json_object_put(json);
    return bytes;
}

static bool device_write(const device_options_t *options, const device_t *device)
{
    apr_pool_t *pool = device->pool;
    struct {
        const char *suffix;
        sim_bytes_t bytes;
    } files[] = {
        {"key", sim_key_pem(device->key, pool)},
        {"signer.pem", sim_cert_pem(device->signer, pool)},
        {"csr", device->csr},
        {"der", device->message},
        {"json", description_make(device)},
        {"signer.key", {NULL, 0}},
    };
    if (device->signer_key != device->key)
        files[5].bytes = sim_key_pem(device->signer_key, pool);
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        const char *path = device_path(options->out, device->number, files[i].suffix, pool);
        if (files[i].bytes.data && !sim_file_write(path, files[i].bytes, pool))
            return device_fail("cannot write %s", path);
        if (!files[i].bytes.data)
            apr_file_remove(path, pool);
    }
    return true;
}

static bool device_make(device_options_t *options, int number)
{
    device_t device = {.number = number, .type = options->type};
    apr_pool_create(&device.pool, options->pool);
    bool ok = true;
    if (options->again) {
        ok = device_again(options, &device);
    } else {
        device.type = device.type ? device.type : 19;
        device.key = options->shared_key;
        if (!device.key)
            device.key = sim_key_make(options->libctx, options->bits, device.pool);
        ok = device.key || device_fail("no key: %s", sim_openssl_error(device.pool));
    }
    ok = ok && device_csr_make(options, &device) && signer_make(options, &device) &&
         device_message_make(options, &device) && device_write(options, &device);
    apr_pool_destroy(device.pool);
    return ok;
}

/* Which devices: those of the list, a number a line, or as many as --count says. */
static apr_array_header_t *numbers_make(const device_options_t *options)
{
    apr_array_header_t *numbers = apr_array_make(options->pool, options->count, sizeof(int));
    for (int n = 0; !options->list && n < options->count; n++)
        APR_ARRAY_PUSH(numbers, int) = n;
    if (!options->list)
        return numbers;
    sim_bytes_t file = sim_file_read(options->list, options->pool);
    char *at = (char *)file.data, *end = NULL;
    for (; at && *at; at = end) {
        long n = strtol(at, &end, 10);
        if (end == at || n < 0 || n > INT_MAX || (*end && *end != '\n')) {
            device_fail("%s: a number a line", options->list);
            return NULL;
        }
        end += *end == '\n';
        APR_ARRAY_PUSH(numbers, int) = (int)n;
    }
    if (!file.data)
        device_fail("cannot read %s", options->list);
    return file.data ? numbers : NULL;
}

/* Several devices: a second process makes every other one. */
bool device_request(device_options_t *options)
{
    bool ok = true;
    int status = 0;
    if (!things_load(options))
        return false;
    const apr_array_header_t *numbers = numbers_make(options);
    if (!numbers)
        return false;
    int step = numbers->nelts >= 4 ? 2 : 1;
    pid_t child = step == 2 ? fork() : -1;
    if (child < 0)
        step = 1;
    for (int i = child == 0 ? 1 : 0; ok && i < numbers->nelts; i += step)
        ok = device_make(options, APR_ARRAY_IDX(numbers, i, int));
    if (child == 0)
        _exit(ok ? 0 : 1);
    if (child > 0)
        ok = waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0 && ok;
    return ok;
}

bool device_get_message(device_options_t *options)
{
    sim_bytes_t message = sim_file_read(options->message, options->pool);
    if (!message.data)
        return device_fail("cannot read %s", options->message);
    for (const char *at = sim_base64(message, options->pool); *at; at++) {
        if (strchr("+/=", *at))
            printf("%%%02X", (unsigned int)*at);
        else
            putchar(*at);
    }
    putchar('\n');
    return true;
}
