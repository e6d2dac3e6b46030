/* SPDX-License-Identifier: Apache-2.0 */
#include "expiry.h"

#include "base/clock.h"
#include "scep/certificate.h"

#include <apr_strings.h>

static const apr_interval_time_t DAY = apr_time_from_sec(86400);

static void add(apr_array_header_t *list, const char *what, const char *directive, apr_time_t expires)
{
    apr_interval_time_t left = expires - clock_now();
    if (expires) {
        expiry_t *expiry = &APR_ARRAY_PUSH(list, expiry_t);
        *expiry = (expiry_t){.what = what, .directive = directive, .expires = expires, .matters = true};
        expiry->days = (int)(left < 0 ? -1 : left / DAY);
    }
}

static apr_time_t expiry_of(X509 *certificate, apr_pool_t *pool)
{
    certificate_facts_t facts;
    return certificate && !certificate_facts(&facts, certificate, pool) ? facts.expires : 0;
}

/* The CA's SCEP certificates that are not in the chain. */
static void add_backend(apr_array_header_t *list, const scep_identity_t *identity, apr_pool_t *pool)
{
    int count = identity->backend ? sk_X509_num(identity->backend) : 0;
    for (int i = 0; i < count; i++) {
        X509 *certificate = sk_X509_value(identity->backend, i);
        bool in_chain = false;
        for (int j = 0; j < sk_X509_num(identity->chain); j++) {
            in_chain = in_chain || !X509_cmp(certificate, sk_X509_value(identity->chain, j));
        }
        if (!in_chain) {
            add(list, apr_psprintf(pool, "the CA's SCEP certificate %d", i + 1), "IntuneScepBackendCertificate",
                expiry_of(certificate, pool));
        }
    }
}

apr_array_header_t *expiry_list(const profile_t *profile, apr_pool_t *pool)
{
    const scep_identity_t *identity = profile->identity;
    apr_array_header_t *list = apr_array_make(pool, 8, sizeof(expiry_t));
    add(list, "the RA's certificate", "IntuneScepRACertificate", expiry_of(identity->ra_certificate, pool));
    if (identity->device_certificate != identity->ra_certificate) {
        add(list, "the RA's encryption certificate", "IntuneScepRAEncryptionCertificate",
            expiry_of(identity->device_certificate, pool));
    }
    if (profile->former) {
        int before = list->nelts;
        add(list, "the RA's former certificate", "IntuneScepRAFormerCertificate",
            expiry_of(profile->former->ra_certificate, pool));
        if (list->nelts > before) {
            APR_ARRAY_IDX(list, before, expiry_t).matters = false;
        }
    }
    for (int i = 0; i < sk_X509_num(identity->chain); i++) {
        add(list, i ? apr_psprintf(pool, "certificate %d of the CA's chain", i + 1) : "the CA's certificate",
            "IntuneScepCAChain", expiry_of(sk_X509_value(identity->chain, i), pool));
    }
    add_backend(list, identity, pool);
    add(list, "the application's certificate", "IntuneScepAppCertificate", intune_credential_expires(profile->intune));
    return list;
}
