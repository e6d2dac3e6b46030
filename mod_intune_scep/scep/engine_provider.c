/* SPDX-License-Identifier: Apache-2.0 */
#include "engine_provider.h"

#include <apr.h>
#include <openssl/core.h>
#include <openssl/core_dispatch.h>
#include <openssl/provider.h>
#include <stdbool.h>
#include <string.h>

enum { KINDS_MAX = 64 };

/*
 * What the provider offers. The default provider's tables are constants of libcrypto, whichever context it is in, so
 * that these are the same for all contexts: written anew with the same values, by the one thread that configures.
 */
static OSSL_ALGORITHM key_managers[KINDS_MAX + 1];
static OSSL_ALGORITHM decoders[KINDS_MAX + 1];
static OSSL_ALGORITHM public_decoders[KINDS_MAX + 1];
static const OSSL_ALGORITHM *offered[OSSL_OP__HIGHEST + 1];
/* The default provider, for the calls of part_init() by OSSL_PROVIDER_load(), which passes nothing on. */
static OSSL_PROVIDER *default_provider;

/* Names are a list: NAME:ALIAS:1.2.3. */
static bool is_named(const OSSL_ALGORITHM *algorithm, const char *name)
{
    apr_size_t len = strlen(name);

    return strncmp(algorithm->algorithm_names, name, len) == 0 &&
           (!algorithm->algorithm_names[len] || algorithm->algorithm_names[len] == ':');
}

static bool is_of_our_keys(const OSSL_ALGORITHM *algorithm)
{
    static const char *const OURS[] = {"RSA", "RSA-PSS", "EC", "ED25519", "ED448"};
    apr_size_t i = 0;

    for (i = 0; i < sizeof(OURS) / sizeof(OURS[0]); i++) {
        if (is_named(algorithm, OURS[i])) {
            return true;
        }
    }
    return false;
}

/* The formats in which certificates and key files hold keys; PEM and encrypted ones are those of "DER". */
static bool is_of_our_formats(const OSSL_ALGORITHM *algorithm)
{
    const char *what = algorithm->property_definition;

    if (is_named(algorithm, "DER")) {
        return !strstr(what, "structure=SubjectPublicKeyInfo");
    }
    return is_of_our_keys(algorithm) &&
           (strstr(what, "structure=SubjectPublicKeyInfo") || strstr(what, "structure=PrivateKeyInfo") ||
            strstr(what, "structure=type-specific"));
}

static bool is_of_our_public_keys(const OSSL_ALGORITHM *algorithm)
{
    return is_of_our_keys(algorithm) && strstr(algorithm->property_definition, "structure=SubjectPublicKeyInfo");
}

static bool narrow(OSSL_ALGORITHM *left, const OSSL_ALGORITHM *all, bool (*is_ours)(const OSSL_ALGORITHM *))
{
    int count = 0;

    for (; all && all->algorithm_names; all++) {
        if (!is_ours(all)) {
            continue;
        }
        if (count == KINDS_MAX) {
            return false;
        }
        left[count++] = *all;
    }
    memset(&left[count], 0, sizeof(left[count]));
    return count > 0;
}

static const OSSL_ALGORITHM *our_keys_query(void *provider, int operation, int *no_cache)
{
    (void)provider;
    *no_cache = 0;
    return operation >= 0 && operation <= OSSL_OP__HIGHEST ? offered[operation] : NULL;
}

static const OSSL_ALGORITHM *reading_query(void *provider, int operation, int *no_cache)
{
    switch (operation) {
    case OSSL_OP_DIGEST:
    case OSSL_OP_KEYMGMT:
    case OSSL_OP_SIGNATURE:
        return our_keys_query(provider, operation, no_cache);
    case OSSL_OP_DECODER:
        *no_cache = 0;
        return public_decoders;
    default:
        *no_cache = 0;
        return NULL;
    }
}

static int part_init(const OSSL_DISPATCH *part, const OSSL_DISPATCH **functions, void **provider)
{
    int operation = 0;
    int no_cache = 0;

    for (operation = 0; operation <= OSSL_OP__HIGHEST; operation++) {
        offered[operation] = OSSL_PROVIDER_query_operation(default_provider, operation, &no_cache);
    }
    if (!narrow(key_managers, offered[OSSL_OP_KEYMGMT], is_of_our_keys) ||
        !narrow(public_decoders, offered[OSSL_OP_DECODER], is_of_our_public_keys) ||
        !narrow(decoders, offered[OSSL_OP_DECODER], is_of_our_formats)) {
        return 0;
    }
    offered[OSSL_OP_KEYMGMT] = key_managers;
    offered[OSSL_OP_DECODER] = decoders;
    *functions = part;
    /* What its algorithms are given: they are the default provider's, and take no other. */
    *provider = OSSL_PROVIDER_get0_provider_ctx(default_provider);
    return 1;
}

static int our_keys_init(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *core, const OSSL_DISPATCH **functions,
                         void **provider)
{
    static const OSSL_DISPATCH FUNCTIONS[] = {{OSSL_FUNC_PROVIDER_QUERY_OPERATION, (void (*)(void))our_keys_query},
                                              {0, NULL}};

    (void)handle;
    (void)core;
    return part_init(FUNCTIONS, functions, provider);
}

static int reading_init(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *core, const OSSL_DISPATCH **functions,
                        void **provider)
{
    static const OSSL_DISPATCH FUNCTIONS[] = {{OSSL_FUNC_PROVIDER_QUERY_OPERATION, (void (*)(void))reading_query},
                                              {0, NULL}};

    (void)handle;
    (void)core;
    return part_init(FUNCTIONS, functions, provider);
}

OSSL_PROVIDER *scep_provider_load(OSSL_LIB_CTX *context, OSSL_PROVIDER *whole, scep_part_of_provider_t part)
{
    static const char NAME[] = "mod_intune_scep";
    OSSL_PROVIDER *made = NULL;

    default_provider = whole;
    if (OSSL_PROVIDER_add_builtin(context, NAME, part == PROVIDER_READING ? reading_init : our_keys_init)) {
        made = OSSL_PROVIDER_load(context, NAME);
    }
    default_provider = NULL;
    return made;
}
