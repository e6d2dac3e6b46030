/* SPDX-License-Identifier: Apache-2.0 */
/* The steps before a call of Intune's one by one, for a tool that looks which of them fails. */
#ifndef ISCEP_INTUNE_PROBE_H
#define ISCEP_INTUNE_PROBE_H

#include "intune/intune.h"

typedef enum intune_resource_t { INTUNE_RESOURCE_GRAPH, INTUNE_RESOURCE_INTUNE } intune_resource_t;

/** What a token says of itself. For people only: Microsoft promises nothing about a token's inside. */
typedef struct intune_token_facts_t {
    apr_time_t usable_until;
    bool has_roles;    /**< whether it could be read that far */
    const char *roles; /**< the application permissions in it, ", " between them, escaped; "" without */
} intune_token_facts_t;

/** A token from the cache or from Entra; problems as with intune_validate(). */
apr_status_t intune_probe_token(intune_t *intune, intune_call_t *call, intune_resource_t resource,
                                intune_token_facts_t *facts);

/** Where Graph says that the SCEP service is; problems as with intune_validate(). Escaped. */
apr_status_t intune_probe_location(intune_t *intune, intune_call_t *call, const char **uri);

#endif
