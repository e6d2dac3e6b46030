/* SPDX-License-Identifier: Apache-2.0 */
/* `device answer`: opens a CertRep as a device would, and says all that it found. */
#include "device.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <apr_lib.h>
#include <apr_strings.h>
#include <json-c/json.h>
#include <openssl/err.h>

static void put(struct json_object *json, const char *name, struct json_object *value)
{
    json_object_object_add(json, name, value);
}

static void put_text(struct json_object *json, const char *name, const char *value)
{
    put(json, name, value ? json_object_new_string(value) : NULL);
}

static void put_bytes(struct json_object *json, const char *name, sim_bytes_t bytes)
{
    const char *text = (const char *)bytes.data;
    put(json, name, text ? json_object_new_string_len(text, (int)bytes.len) : NULL);
}

/* pkiStatus and failInfo are one digit; anything else is shown as the text it is. */
static void put_digit(struct json_object *json, const char *name, sim_bytes_t bytes)
{
    if (bytes.data && bytes.len == 1 && apr_isdigit(bytes.data[0]))
        put(json, name, json_object_new_int(bytes.data[0] - '0'));
    else
        put_bytes(json, name, bytes);
}

/* Every field is there in every answer. */
static struct json_object *answer_new(void)
{
    static const char *const names[] = {
        "status",
        "fail_info",
        "fail_info_text",
        "transaction_id",
        "sender_nonce",
        "recipient_nonce",
        "signer_is_ra",
        "signature_ok",
        "digest",
        "cipher",
        "key_transport",
        "recipient_is_device",
        "signers",
        "outer_certificates",
        "inner_certificates",
        "first_certificate_matches",
        "certificate",
        "verifies",
        "verify_error",
        "key_matches",
        "serial",
        "thumbprint",
        "not_before",
        "not_after",
        "subject",
        "issuer",
        "error",
    };
    struct json_object *json = json_object_new_object();
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        put(json, names[i], NULL);
    return json;
}

static char *time_text(const ASN1_TIME *when, apr_pool_t *pool)
{
    struct tm tm;
    if (!when || ASN1_TIME_to_tm(when, &tm) != 1)
        return NULL;
    return apr_psprintf(pool, "%04d-%02d-%02dT%02d:%02d:%02d.000Z", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday,
                        tm.tm_hour, tm.tm_min, tm.tm_sec);
}

static bool verifies(device_options_t *options, X509 *leaf, const char **why)
{
    STACK_OF(X509) *chain = options->chain_read;
    X509_STORE *store = X509_STORE_new();
    X509_STORE_CTX *ctx = X509_STORE_CTX_new_ex(options->libctx, NULL);
    bool ok = false;
    *why = chain ? "out of memory" : "no certificate in the --ca file";
    for (int i = 0; chain && i < sk_X509_num(chain); i++)
        X509_STORE_add_cert(store, sk_X509_value(chain, i));
    X509_STORE_set_flags(store, X509_V_FLAG_PARTIAL_CHAIN);
    X509_STORE_set_purpose(store, X509_PURPOSE_ANY);
    if (chain && ctx && X509_STORE_CTX_init(ctx, store, leaf, NULL)) {
        ok = X509_verify_cert(ctx) == 1;
        *why = ok ? NULL : X509_verify_cert_error_string(X509_STORE_CTX_get_error(ctx));
    }
    X509_STORE_CTX_free(ctx);
    X509_STORE_free(store);
    ERR_clear_error();
    return ok;
}

static void certificate_report(device_options_t *options, struct json_object *json, X509 *leaf, bool matches)
{
    apr_pool_t *pool = options->pool;
    unsigned char hash[EVP_MAX_MD_SIZE];
    unsigned int len = 0;
    const char *why = NULL;
    X509_digest(leaf, EVP_sha1(), hash, &len);
    put_bytes(json, "certificate", sim_cert_pem(leaf, pool));
    put(json, "verifies", json_object_new_boolean(verifies(options, leaf, &why)));
    put_text(json, "verify_error", why);
    put(json, "key_matches", json_object_new_boolean(matches));
    put_text(json, "serial", sim_serial_hex(leaf, pool));
    put_text(json, "thumbprint", sim_hex(sim_bytes(hash, len, pool), true, pool));
    put_text(json, "not_before", time_text(X509_get0_notBefore(leaf), pool));
    put_text(json, "not_after", time_text(X509_get0_notAfter(leaf), pool));
    put_text(json, "subject", sim_name_text(X509_get_subject_name(leaf), pool));
    put_text(json, "issuer", sim_name_text(X509_get_issuer_name(leaf), pool));
}

static const char *device_file(device_options_t *options, const char *suffix)
{
    return device_path(options->dir, options->index, suffix, options->pool);
}

static bool key_matches(device_options_t *options, X509 *cert)
{
    EVP_PKEY *key = device_key_read(options, device_file(options, "key"), options->pool);
    sim_bytes_t der = sim_file_read(device_file(options, "csr"), options->pool);
    const unsigned char *at = der.data;
    X509_REQ *req = der.data ? d2i_X509_REQ(NULL, &at, (long)der.len) : NULL;
    /* The CSR's key is the device's, but for --break csr-key. */
    EVP_PKEY *expected = req ? X509_REQ_get0_pubkey(req) : key;
    bool same = expected && EVP_PKEY_eq(X509_get0_pubkey(cert), expected) == 1;
    X509_REQ_free(req);
    ERR_clear_error();
    return same;
}

static const char *certificates_report(device_options_t *options, struct json_object *json, sim_bytes_t inner)
{
    const unsigned char *at = inner.data;
    X509 *leaf = NULL;
    CMS_ContentInfo *cms = CMS_ContentInfo_new_ex(options->libctx, NULL);
    if (!cms || !d2i_CMS_ContentInfo(&cms, &at, (long)inner.len)) {
        CMS_ContentInfo_free(cms);
        return "the envelope holds no CMS message";
    }
    sim_own_cms(options->pool, cms);
    if (at != inner.data + inner.len || OBJ_obj2nid(CMS_get0_type(cms)) != NID_pkcs7_signed)
        return "the envelope holds no certs-only SignedData";
    STACK_OF(X509) *certs = CMS_get1_certs(cms);
    int count = certs ? sk_X509_num(certs) : 0;
    put(json, "inner_certificates", json_object_new_int(count));
    for (int i = 0; i < count && !leaf; i++) {
        if (key_matches(options, sk_X509_value(certs, i)))
            leaf = sk_X509_value(certs, i);
    }
    if (count) {
        /* Apple's devices pair the first certificate with their key, whatever follows. */
        put(json, "first_certificate_matches", json_object_new_boolean(leaf == sk_X509_value(certs, 0)));
        certificate_report(options, json, leaf ? leaf : sk_X509_value(certs, 0), leaf != NULL);
    }
    sk_X509_pop_free(certs, X509_free);
    return count ? NULL : "the envelope holds no certificate";
}

static const char *envelope_report(device_options_t *options, struct json_object *json, sim_bytes_t content)
{
    sim_envelope_t info;
    sim_bytes_t inner = {NULL, 0};
    EVP_PKEY *key = device_key_read(options, device_file(options, "signer.key"), options->pool);
    if (!key)
        key = device_key_read(options, device_file(options, "key"), options->pool);
    STACK_OF(X509) *own = sim_certs_read(options->libctx, device_file(options, "signer.pem"), options->pool);
    ERR_clear_error();
    if (!key || !own)
        return "the device's own key and certificate cannot be read";
    if (!content.data || !content.len)
        return "SUCCESS without an envelope";
    const char *error =
        sim_envelope_open(options->libctx, content, sk_X509_value(own, 0), key, &info, &inner, options->pool);
    put_text(json, "cipher", info.cipher);
    put_text(json, "key_transport", info.key_transport);
    put(json, "recipient_is_device", json_object_new_boolean(info.for_us));
    return error ? error : certificates_report(options, json, inner);
}

static void signed_report(device_options_t *options, struct json_object *json, const sim_signed_t *opened)
{
    STACK_OF(X509) *ra = options->ra_read;
    bool is_ra = ra && opened->signer && X509_cmp(opened->signer, sk_X509_value(ra, 0)) == 0;
    ERR_clear_error();
    put_digit(json, "status", opened->status);
    put_digit(json, "fail_info", opened->fail_info);
    put_bytes(json, "fail_info_text", opened->fail_info_text);
    put_bytes(json, "transaction_id", opened->transaction_id);
    if (opened->sender_nonce.data)
        put_text(json, "sender_nonce", sim_hex(opened->sender_nonce, false, options->pool));
    if (opened->recipient_nonce.data)
        put_text(json, "recipient_nonce", sim_hex(opened->recipient_nonce, false, options->pool));
    put(json, "signer_is_ra", json_object_new_boolean(is_ra));
    put(json, "signature_ok", json_object_new_boolean(opened->signature_ok));
    put_text(json, "digest", opened->digest);
    put(json, "signers", json_object_new_int(opened->signers));
    put(json, "outer_certificates", json_object_new_int(opened->certificates));
}

static bool is_text(sim_bytes_t bytes, const char *text)
{
    return bytes.data && bytes.len == strlen(text) && memcmp(bytes.data, text, bytes.len) == 0;
}

static const char *answer_report(device_options_t *options, struct json_object *json, sim_bytes_t message)
{
    sim_signed_t opened;
    const char *error = sim_signed_open(options->libctx, message, &opened, options->pool);
    if (error)
        return error;
    signed_report(options, json, &opened);
    if (opened.trailing)
        return "bytes behind the message";
    if (opened.signers != 1)
        return "not exactly one signer";
    if (opened.doubled)
        return apr_pstrcat(options->pool, opened.doubled, " is there more than once", NULL);
    if (!is_text(opened.message_type, "3"))
        return "messageType is not CertRep";
    if (is_text(opened.status, "2") || is_text(opened.status, "3"))
        return NULL;
    if (!is_text(opened.status, "0"))
        return "pkiStatus is missing or unknown";
    return envelope_report(options, json, opened.content);
}

static void authorities_read(device_options_t *options)
{
    options->chain_read = sim_certs_read(options->libctx, options->ca, options->pool);
    options->ra_read = sim_certs_read(options->libctx, options->ra, options->pool);
    ERR_clear_error();
}

static bool answer_print(device_options_t *options)
{
    struct json_object *json = answer_new();
    sim_bytes_t message = sim_file_read(options->message, options->pool);
    const char *error = message.data ? answer_report(options, json, message) : "the message cannot be read";
    put_text(json, "error", error);
    puts(json_object_to_json_string_ext(json, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
    json_object_put(json);
    return error == NULL;
}

bool device_answer(device_options_t *options)
{
    authorities_read(options);
    return answer_print(options);
}

/* A line of the list: the device's number, a space, the message's path. */
static bool line_answer(device_options_t *options, char *line)
{
    char *path = NULL;
    apr_pool_t *pool = options->pool;
    long index = strtol(line, &path, 10);
    if (path == line || *path != ' ' || !path[1] || index < 0 || index > INT_MAX)
        return device_fail("%s: a number, a space and a path on each line", options->list);
    options->index = (int)index;
    options->message = path + 1;
    apr_pool_create(&options->pool, pool);
    answer_print(options);
    apr_pool_destroy(options->pool);
    options->pool = pool;
    return true;
}

bool device_answers(device_options_t *options)
{
    char *state = NULL;
    sim_bytes_t list = sim_file_read(options->list, options->pool);
    if (!list.data)
        return device_fail("cannot read %s", options->list);
    authorities_read(options);
    for (char *line = strtok_r((char *)list.data, "\n", &state); line; line = strtok_r(NULL, "\n", &state)) {
        if (!line_answer(options, line))
            return false;
    }
    return true;
}
