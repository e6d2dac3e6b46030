/* SPDX-License-Identifier: Apache-2.0 */
/* Whether the gateway is well, in a few words. */
#include "status.h"

#include "base/text.h"

#include <apr_strings.h>

enum { REASON_MAX = 300, OUTAGE = 5 };

static const struct {
    const char *word;
    unsigned bit;
} WORDS[] = {{"journal", HEALTH_JOURNAL},
             {"breaker", HEALTH_BREAKER},
             {"expiry", HEALTH_EXPIRY},
             {"outbox", HEALTH_OUTBOX},
             {"microsoft", HEALTH_MICROSOFT},
             {"ca", HEALTH_CA}};

const char *status_health_parse(unsigned *words, const char *text, apr_pool_t *pool)
{
    char *rest = NULL;
    *words = 0;
    for (const char *word = apr_strtok(apr_pstrdup(pool, text), " ,", &rest); word; word = apr_strtok(NULL, " ,", &rest)) {
        unsigned bit = 0;
        for (size_t i = 0; i < sizeof(WORDS) / sizeof(WORDS[0]); i++) {
            bit = strcmp(WORDS[i].word, word) ? bit : WORDS[i].bit;
        }
        if (!bit) {
            return word;
        }
        *words |= bit;
    }
    return NULL;
}

/* Outside text has been escaped where it came in: once more would make it hard to read. */
static const char *printable(const char *text, apr_pool_t *pool)
{
    for (const char *c = text; *c; c++) {
        if (*c < 0x20 || *c >= 0x7f) {
            return text_escape(pool, text, REASON_MAX);
        }
    }
    return apr_pstrndup(pool, text, REASON_MAX);
}

static void add(apr_array_header_t *reasons, const status_location_t *location, const char *words, const char *detail)
{
    apr_pool_t *pool = reasons->pool;
    APR_ARRAY_PUSH(reasons, const char *) =
        apr_pstrcat(pool, printable(location->profile->name, pool), ": ", words, detail && *detail ? ": " : "",
                    detail && *detail ? printable(detail, pool) : "", NULL);
}

static void add_expired(apr_array_header_t *reasons, const status_location_t *location)
{
    for (int i = 0; i < location->expiries->nelts; i++) {
        const expiry_t *expiry = &APR_ARRAY_IDX(location->expiries, i, const expiry_t);
        if (expiry->matters && expiry->days < 0) {
            add(reasons, location, apr_pstrcat(reasons->pool, expiry->what, " has expired", NULL), NULL);
        }
    }
}

static void add_outage(apr_array_header_t *reasons, const status_location_t *location, service_t service, const char *what)
{
    const service_seen_t *seen = &location->counts.services[service];
    if (seen->failures >= OUTAGE) {
        add(reasons, location, what, seen->words);
    }
}

static void look_at(apr_array_header_t *reasons, const status_location_t *location, unsigned words)
{
    const counts_t *counts = &location->counts;
    const service_seen_t *services = counts->services;
    if ((words & HEALTH_JOURNAL) && services[SERVICE_JOURNAL].failures) {
        add(reasons, location, "the journal cannot be used", services[SERVICE_JOURNAL].words);
    }
    /* Half-open is an offer: who takes traffic away from it keeps it open. */
    if ((words & HEALTH_BREAKER) && location->breaker.state == INTUNE_BREAKER_OPEN) {
        add(reasons, location, "Microsoft is not asked, for it failed too often", location->breaker.reason);
    }
    if (words & HEALTH_EXPIRY) {
        add_expired(reasons, location);
    }
    if ((words & HEALTH_OUTBOX) && counts->outbox_known && counts->outbox.dead) {
        add(reasons, location, apr_psprintf(reasons->pool, "%d reports were given up", counts->outbox.dead), NULL);
    }
    if ((words & HEALTH_OUTBOX) && location->outbox == STATUS_BAD) {
        add(reasons, location,
            apr_psprintf(reasons->pool, "%d reports are owed, the oldest for %d minutes", counts->outbox.owed,
                         (int)(apr_time_sec(counts->outbox.oldest) / 60)),
            NULL);
    }
    if (words & HEALTH_MICROSOFT) {
        add_outage(reasons, location, SERVICE_ENTRA, "Entra does not answer as it should");
        add_outage(reasons, location, SERVICE_GRAPH, "Graph does not answer as it should");
        add_outage(reasons, location, SERVICE_INTUNE, "Intune does not answer as it should");
    }
    if (words & HEALTH_CA) {
        add_outage(reasons, location, SERVICE_CA, "the CA does not answer as it should");
    }
}

apr_array_header_t *status_health(const status_t *status, unsigned words, apr_pool_t *pool)
{
    apr_array_header_t *reasons = apr_array_make(pool, 4, sizeof(const char *));
    for (int i = 0; i < status->count; i++) {
        look_at(reasons, &status->locations[i], words);
    }
    return reasons;
}
