/* SPDX-License-Identifier: Apache-2.0 */
#include "profile.h"

#include "base/clock.h"

#include <apr_strings.h>
#include <openssl/asn1.h>
#include <openssl/evp.h>

/* How long the CA is not asked again after an answer, and after none; and how long an old answer is better than
 * none. */
static const apr_interval_time_t CAPABILITIES_FRESH = apr_time_from_sec(600);
static const apr_interval_time_t CAPABILITIES_PAUSE = apr_time_from_sec(30);
static const apr_interval_time_t CAPABILITIES_LIFE = apr_time_from_sec(86400);

apr_status_t profile_attach(profile_t *profile, cache_t *cache, journal_t *journal, apr_pool_t *pool,
                            const char **message)
{
    profile->cache = cache;
    profile->journal = journal;
    return intune_attach(profile->intune, cache, pool, message);
}

apr_interval_time_t profile_lease(const profile_t *profile)
{
    return profile->ca_time + profile->report_time + apr_time_from_sec(2);
}

/* A SEQUENCE that begins with an OBJECT IDENTIFIER and ends where the text does: the shape of a CMS ContentInfo. */
static bool is_content_info(const unsigned char *der, long len)
{
    const unsigned char *at = der;
    long length = 0;
    int tag = 0;
    int class = 0;
    int form = ASN1_get_object(&at, &length, &tag, &class, len);
    if ((form & 0x80) || tag != V_ASN1_SEQUENCE || class != V_ASN1_UNIVERSAL) {
        return false;
    }
    if (!(form & 1) && at + length != der + len) {
        return false;
    }
    form = ASN1_get_object(&at, &length, &tag, &class, der + len - at);
    return !(form & 0x80) && tag == V_ASN1_OBJECT && class == V_ASN1_UNIVERSAL;
}

static bool has_shape(const char *text, apr_size_t len, apr_pool_t *pool)
{
    if (len < 8 || len % 4 || len > INT_MAX) {
        return false;
    }
    unsigned char *der = apr_palloc(pool, len);
    int decoded = EVP_DecodeBlock(der, (const unsigned char *)text, (int)len);
    if (decoded < 0) {
        return false;
    }
    int padding = (text[len - 1] == '=') + (text[len - 2] == '=');
    return is_content_info(der, decoded - padding);
}

bool profile_challenge_matches(const profile_t *profile, const secret_t *challenge, apr_pool_t *pool)
{
    if (!challenge || !secret_length(challenge)) {
        return false;
    }
    const char *text = secret_reveal(challenge);
    switch (profile->challenge_match) {
    case CHALLENGE_ALWAYS:
        return true;
    case CHALLENGE_REGEX:
        return regexec(profile->challenge_regex, text, 0, NULL, 0) == 0;
    case CHALLENGE_SHAPE:
        break;
    }
    apr_pool_t *scratch = NULL;
    if (apr_pool_create(&scratch, pool)) {
        return false;
    }
    bool matches = has_shape(text, secret_length(challenge), scratch);
    apr_pool_destroy(scratch);
    return matches;
}

static const char *capabilities_key(const profile_t *profile, apr_pool_t *pool)
{
    return apr_pstrcat(pool, "backend capabilities\n", profile->name, "\n", profile->backend, NULL);
}

/* What lies in the cache. */
typedef struct kept_capabilities_t {
    unsigned capabilities;
    apr_time_t fresh_until;
} kept_capabilities_t;

static bool capabilities_read(const profile_t *profile, kept_capabilities_t *kept, apr_pool_t *pool)
{
    bytes_t value = {NULL, 0};
    if (!profile->cache || profile->cache->get(profile->cache, capabilities_key(profile, pool), &value, pool) ||
        value.len != sizeof(*kept)) {
        return false;
    }
    memcpy(kept, value.data, sizeof(*kept));
    return true;
}

unsigned profile_backend_capabilities(const profile_t *profile, bool *due, apr_pool_t *pool)
{
    kept_capabilities_t kept = {0, 0};
    if (profile->backend_capabilities) {
        if (due) {
            *due = false;
        }
        return profile->backend_capabilities | SCEP_CAP_ASKED;
    }
    bool known = capabilities_read(profile, &kept, pool);
    if (due) {
        *due = !known || clock_now() >= kept.fresh_until;
    }
    return kept.capabilities;
}

bool profile_backend_capabilities_claim(const profile_t *profile, apr_pool_t *pool)
{
    const char *owner = NULL;
    return profile->cache && !profile->cache->claim(profile->cache, capabilities_key(profile, pool),
                                                    clock_now() + CAPABILITIES_PAUSE, &owner, pool);
}

void profile_backend_capabilities_keep(const profile_t *profile, unsigned capabilities)
{
    apr_pool_t *scratch = NULL;
    kept_capabilities_t kept;
    if (!profile->cache || apr_pool_create(&scratch, NULL)) {
        return;
    }
    /* The cache compares nothing, but what lies in it has no uninitialised bytes. */
    memset(&kept, 0, sizeof(kept));
    if (capabilities) {
        kept.capabilities = capabilities | SCEP_CAP_ASKED;
        kept.fresh_until = clock_now() + CAPABILITIES_FRESH;
    } else {
        capabilities_read(profile, &kept, scratch);
        kept.capabilities = kept.capabilities ? kept.capabilities : SCEP_CAP_SILENT;
        kept.fresh_until = clock_now() + CAPABILITIES_PAUSE;
    }
    bytes_t value = {(const unsigned char *)&kept, sizeof(kept)};
    profile->cache->put(profile->cache, capabilities_key(profile, scratch), value, clock_now() + CAPABILITIES_LIFE);
    apr_pool_destroy(scratch);
}
