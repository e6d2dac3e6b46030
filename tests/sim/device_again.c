/* SPDX-License-Identifier: Apache-2.0 */
/* What an earlier message of a device left in its directory: for retransmissions, polls and answers. */
#include "device.h"

#include <string.h>

#include <apr_strings.h>
#include <json-c/json.h>
#include <openssl/err.h>
#include <openssl/pem.h>

char *device_path(const char *dir, int number, const char *suffix, apr_pool_t *pool)
{
    return apr_psprintf(pool, "%s/%d.%s", dir, number, suffix);
}

static bool last_key_set(device_options_t *options, sim_bytes_t pem)
{
    options->last_key = NULL;
    apr_pool_clear(options->last_pool);
    options->last_pem = sim_bytes(pem.data, pem.len, options->last_pool);
    BIO *bio = BIO_new_mem_buf(options->last_pem.data, (int)pem.len);
    EVP_PKEY *key = PEM_read_bio_PrivateKey_ex(bio, NULL, NULL, NULL, options->libctx, NULL);
    BIO_free(bio);
    ERR_clear_error();
    options->last_key = sim_own_key(options->last_pool, key);
    return key != NULL;
}

EVP_PKEY *device_key_read(device_options_t *options, const char *path, apr_pool_t *pool)
{
    sim_bytes_t pem = sim_file_read(path, pool);
    if (!pem.data)
        return NULL;
    bool same = options->last_key && pem.len == options->last_pem.len &&
                memcmp(pem.data, options->last_pem.data, pem.len) == 0;
    if (!same && !last_key_set(options, pem))
        return NULL;
    EVP_PKEY_up_ref(options->last_key);
    return sim_own_key(pool, options->last_key);
}

static bool description_read(device_t *device, const char *path)
{
    sim_bytes_t text = sim_file_read(path, device->pool);
    struct json_object *json = text.data ? json_tokener_parse((const char *)text.data) : NULL, *value = NULL;
    if (json_object_object_get_ex(json, "transaction_id", &value) && json_object_is_type(value, json_type_string))
        device->transaction = sim_bytes(json_object_get_string(value), (apr_size_t)json_object_get_string_len(value),
                                        device->pool);
    if (!device->type && json_object_object_get_ex(json, "type", &value))
        device->type = json_object_get_int(value);
    json_object_put(json);
    return device->transaction.data && device->type;
}

bool device_again(device_options_t *options, device_t *device)
{
    apr_pool_t *pool = device->pool;
    int n = device->number;
    device->key = device_key_read(options, device_path(options->again, n, "key", pool), pool);
    device->signer_key = device_key_read(options, device_path(options->again, n, "signer.key", pool), pool);
    if (!device->signer_key)
        device->signer_key = device->key;
    device->csr = sim_file_read(device_path(options->again, n, "csr", pool), pool);
    if (!options->new_signer) {
        const char *path = device_path(options->again, n, "signer.pem", pool);
        STACK_OF(X509) *certs = sim_certs_read(options->libctx, path, pool);
        device->signer = certs ? sk_X509_value(certs, 0) : NULL;
    }
    if (!device->key || !device->csr.data || (!options->new_signer && !device->signer) ||
        !description_read(device, device_path(options->again, n, "json", pool)))
        return device_fail("%s has no device %d", options->again, n);
    return true;
}
