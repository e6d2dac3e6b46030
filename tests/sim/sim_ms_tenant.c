/* SPDX-License-Identifier: Apache-2.0 */
/* Tenants, and the tokens handed out to them. A token is opaque and random, and as long as one of Microsoft's. */
#include <stdlib.h>
#include <string.h>

#include <apr_general.h>
#include <apr_strings.h>
#include <apr_thread_mutex.h>

#include "sim_ms.h"

#define TENANTS_MAX 1000
#define TOKENS_MAX 4096
#define TOKEN_BYTES 1050
#define EXPIRES_IN_DEFAULT 3599

typedef struct token_t {
    char *text;
    char *scope;
    char *tenant;
    unsigned audience;
    apr_time_t expires;
} token_t;

struct msim_tenants_t {
    apr_thread_mutex_t *mutex;
    msim_tenant_t tenants[TENANTS_MAX];
    int count;
    token_t tokens[TOKENS_MAX];
    unsigned issued;
};

const char MSIM_NONE[] = "none";

msim_tenants_t *msim_tenants_make(apr_pool_t *pool)
{
    msim_tenants_t *tenants = apr_pcalloc(pool, sizeof *tenants);

    return apr_thread_mutex_create(&tenants->mutex, APR_THREAD_MUTEX_DEFAULT, pool) == APR_SUCCESS ? tenants : NULL;
}

static msim_tenant_t *tenant_get(msim_tenants_t *tenants, const char *name)
{
    for (int i = 0; i < tenants->count; i++) {
        if (strcasecmp(tenants->tenants[i].tenant, name) == 0) {
            return &tenants->tenants[i];
        }
    }
    return NULL;
}

static void text_set(const char **place, const char *text)
{
    char *old;

    if (text != NULL) {
        memcpy(&old, place, sizeof old);
        free(old);
        *place = text == MSIM_NONE ? NULL : msim_strdup(text);
    }
}

static const char *tenant_change(msim_tenants_t *tenants, const msim_tenant_t *tenant)
{
    msim_tenant_t *found = tenant_get(tenants, tenant->tenant);

    if (found == NULL) {
        if (tenant->app_id == NULL ||
            (tenant->secrets == NULL && tenant->certificates == NULL && tenant->federated == NULL)) {
            return "a new tenant needs app_id and a credential";
        }
        if (tenants->count == TENANTS_MAX) {
            return "there are too many tenants";
        }
        found = &tenants->tenants[tenants->count++];
        text_set(&found->tenant, tenant->tenant);
        found->expires_in = EXPIRES_IN_DEFAULT;
    }
    text_set(&found->app_id, tenant->app_id);
    text_set(&found->secrets, tenant->secrets);
    text_set(&found->certificates, tenant->certificates);
    text_set(&found->federated, tenant->federated);
    if (tenant->expires_in != 0) {
        found->expires_in = tenant->expires_in;
    }
    return NULL;
}

const char *msim_tenant_set(msim_tenants_t *tenants, const msim_tenant_t *tenant)
{
    const char *sentence;

    apr_thread_mutex_lock(tenants->mutex);
    sentence = tenant_change(tenants, tenant);
    apr_thread_mutex_unlock(tenants->mutex);
    return sentence;
}

const msim_tenant_t *msim_tenant_find(msim_tenants_t *tenants, const char *name, apr_pool_t *pool)
{
    msim_tenant_t *copy = NULL;
    const msim_tenant_t *found;

    apr_thread_mutex_lock(tenants->mutex);
    found = tenant_get(tenants, name);
    if (found != NULL) {
        copy = apr_pmemdup(pool, found, sizeof *found);
        copy->tenant = apr_pstrdup(pool, found->tenant);
        copy->app_id = apr_pstrdup(pool, found->app_id);
        copy->secrets = apr_pstrdup(pool, found->secrets);
        copy->certificates = apr_pstrdup(pool, found->certificates);
        copy->federated = apr_pstrdup(pool, found->federated);
    }
    apr_thread_mutex_unlock(tenants->mutex);
    return copy;
}

static void token_forget(token_t *token)
{
    free(token->text);
    free(token->scope);
    free(token->tenant);
    memset(token, 0, sizeof *token);
}

const char *msim_token_issue(msim_tenants_t *tenants, const msim_tenant_t *tenant, unsigned audience, const char *scope,
                             apr_pool_t *pool)
{
    unsigned char random[TOKEN_BYTES] = {0};
    token_t token = {.audience = audience, .expires = apr_time_now() + apr_time_from_sec(tenant->expires_in)};
    char *text;
    unsigned slot;

    apr_generate_random_bytes(random, sizeof random);
    text = msim_base64_encode(random, sizeof random, pool);
    for (char *p = text; *p != '\0'; p++) {
        *p = *p == '+' ? '-' : *p == '/' ? '_' : *p;
    }
    apr_thread_mutex_lock(tenants->mutex);
    /* The slot stands in front of the random part, so that a token is found without a search. */
    slot = tenants->issued++ % TOKENS_MAX;
    text = apr_psprintf(pool, "SIM%04x.%s", slot, text);
    token.text = msim_strdup(text);
    token.scope = msim_strdup(scope);
    token.tenant = msim_strdup(tenant->tenant);
    token_forget(&tenants->tokens[slot]);
    tenants->tokens[slot] = token;
    apr_thread_mutex_unlock(tenants->mutex);
    return text;
}

static const char *token_judge(msim_tenants_t *tenants, const char *text, unsigned audience, const char **tenant,
                               const char **scope, apr_pool_t *pool)
{
    unsigned long slot = strncmp(text, "SIM", 3) == 0 ? strtoul(text + 3, NULL, 16) : TOKENS_MAX;
    const token_t *token;

    if (slot >= TOKENS_MAX) {
        return "the token is unknown";
    }
    token = &tenants->tokens[slot];
    if (token->text == NULL || strcmp(token->text, text) != 0) {
        return "the token is unknown or revoked";
    }
    *tenant = apr_pstrdup(pool, token->tenant);
    *scope = apr_pstrdup(pool, token->scope);
    if (token->audience != audience) {
        return "the token is for another audience";
    }
    return token->expires <= apr_time_now() ? "the token has expired" : NULL;
}

const char *msim_token_check(msim_tenants_t *tenants, const char *token, unsigned audience, const char **tenant,
                             const char **scope, apr_pool_t *pool)
{
    const char *sentence;

    apr_thread_mutex_lock(tenants->mutex);
    sentence = token_judge(tenants, token, audience, tenant, scope, pool);
    apr_thread_mutex_unlock(tenants->mutex);
    return sentence;
}

int msim_token_revoke(msim_tenants_t *tenants, const char *tenant)
{
    int count = 0;

    apr_thread_mutex_lock(tenants->mutex);
    for (int i = 0; i < TOKENS_MAX; i++) {
        if (tenants->tokens[i].text != NULL && strcasecmp(tenants->tokens[i].tenant, tenant) == 0) {
            token_forget(&tenants->tokens[i]);
            count++;
        }
    }
    apr_thread_mutex_unlock(tenants->mutex);
    return count;
}
