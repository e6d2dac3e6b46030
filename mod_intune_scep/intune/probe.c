/* SPDX-License-Identifier: Apache-2.0 */
#include "intune/probe.h"

#include "intune/intune_internal.h"

#include "base/text.h"

#include <apr_encode.h>
#include <apr_strings.h>
#include <json-c/json.h>
#include <string.h>

enum { ROLE_SHOWN = 64, ROLES_MOST = 32, URI_SHOWN = 1024 };

/** The claims of a JWT (RFC 7519 section 3), for the caller to free; NULL where it is none. */
static struct json_object *claims_read(const char *token, apr_pool_t *pool)
{
    const char *from = strchr(token, '.');
    const char *until = from != NULL ? strchr(from + 1, '.') : NULL;
    apr_size_t len = 0;
    if (until == NULL) {
        return NULL;
    }
    const unsigned char *decoded =
        apr_pdecode_base64_binary(pool, from + 1, (apr_ssize_t)(until - from - 1), APR_ENCODE_NONE, &len);
    if (decoded == NULL || len == 0) {
        return NULL;
    }
    secret_guard(pool, decoded, len);
    bytes_t body = {decoded, len};
    return json_read(body);
}

static void roles_read(intune_token_facts_t *facts, const char *token, apr_pool_t *pool)
{
    struct json_object *claims = claims_read(token, pool);
    struct json_object *roles = NULL;
    facts->has_roles = claims != NULL;
    facts->roles = "";
    if (claims != NULL && json_object_object_get_ex(claims, "roles", &roles) &&
        json_object_is_type(roles, json_type_array)) {
        size_t count = json_object_array_length(roles);
        for (size_t i = 0; i < count && i < ROLES_MOST; i++) {
            struct json_object *role = json_object_array_get_idx(roles, i);
            if (json_object_is_type(role, json_type_string)) {
                facts->roles = apr_pstrcat(pool, facts->roles, *facts->roles ? ", " : "",
                                           text_escape(pool, json_object_get_string(role), ROLE_SHOWN), NULL);
            }
        }
    }
    json_object_put(claims);
}

apr_status_t intune_probe_token(intune_t *intune, intune_call_t *call, intune_resource_t resource,
                                intune_token_facts_t *facts)
{
    errand_t errand;
    const token_t *token = NULL;
    const char *scope = resource == INTUNE_RESOURCE_GRAPH ? token_scope_graph(intune, call->pool)
                                                          : token_scope_intune(intune, call->pool);
    apr_status_t rv = errand_begin(&errand, intune, call);

    memset(facts, 0, sizeof(*facts));
    if (rv == APR_SUCCESS) {
        rv = token_get(&errand, scope, &token);
    }
    if (rv == APR_SUCCESS) {
        facts->usable_until = token->usable_until;
        roles_read(facts, token->text, call->pool);
    }
    return errand_end(&errand, rv);
}

apr_status_t intune_probe_location(intune_t *intune, intune_call_t *call, const char **uri)
{
    errand_t errand;
    apr_status_t rv = errand_begin(&errand, intune, call);

    *uri = NULL;
    if (rv == APR_SUCCESS) {
        rv = location_get(&errand, uri);
    }
    if (rv == APR_SUCCESS) {
        *uri = text_escape(call->pool, *uri, URI_SHOWN);
    }
    return errand_end(&errand, rv);
}
