/* SPDX-License-Identifier: Apache-2.0 */
#include "expiry.h"

#include "base/clock.h"
#include "base/text.h"
#include "scep/certificate.h"

#include <apr_strings.h>

enum { SUBJECT_MAX = 200 };
static const apr_interval_time_t DAY = apr_time_from_sec(86400);

static expiry_t *add(apr_array_header_t *list, const char *what, setting_id_t setting, apr_time_t expires)
{
    apr_interval_time_t left = expires - clock_now();
    expiry_t *expiry = &APR_ARRAY_PUSH(list, expiry_t);
    *expiry = (expiry_t){.what = what,
                         .directive = setting_name(setting),
                         .setting = setting,
                         .expires = expires,
                         .days = (int)(left < 0 ? -1 : left / DAY),
                         .matters = true};
    return expiry;
}

/* NULL where there is no certificate, or one that cannot be read. */
static expiry_t *add_certificate(apr_array_header_t *list, const char *what, setting_id_t setting, X509 *certificate,
                                 apr_pool_t *pool)
{
    certificate_facts_t facts;
    if (!certificate || certificate_facts(&facts, certificate, pool) || !facts.expires) {
        return NULL;
    }
    expiry_t *expiry = add(list, what, setting, facts.expires);
    expiry->subject = text_escape(pool, facts.subject, SUBJECT_MAX);
    return expiry;
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
            add_certificate(list, apr_psprintf(pool, "the CA's SCEP certificate %d", i + 1), SETTING_BACKEND_CERTIFICATE,
                            certificate, pool);
        }
    }
}

static void add_chain(apr_array_header_t *list, const scep_identity_t *identity, apr_pool_t *pool)
{
    for (int i = 0; i < sk_X509_num(identity->chain); i++) {
        X509 *certificate = sk_X509_value(identity->chain, i);
        const char *what = i ? apr_psprintf(pool, "certificate %d of the CA's chain", i + 1) : "the CA's certificate";
        if (!identity->ra_certificate || X509_cmp(certificate, identity->ra_certificate)) {
            add_certificate(list, what, SETTING_CA_CHAIN, certificate, pool);
        }
    }
}

apr_array_header_t *expiry_list(const profile_t *profile, apr_pool_t *pool)
{
    const scep_identity_t *identity = profile->identity;
    apr_array_header_t *list = apr_array_make(pool, 8, sizeof(expiry_t));
    add_certificate(list, "the RA's certificate", SETTING_RA_CERTIFICATE, identity->ra_certificate, pool);
    if (identity->device_certificate != identity->ra_certificate) {
        add_certificate(list, "the RA's encryption certificate", SETTING_RA_ENCRYPTION_CERTIFICATE,
                        identity->device_certificate, pool);
    }
    if (profile->former) {
        expiry_t *former = add_certificate(list, "the RA's former certificate", SETTING_RA_FORMER,
                                           profile->former->ra_certificate, pool);
        if (former) {
            former->matters = false;
        }
    }
    add_chain(list, identity, pool);
    add_backend(list, identity, pool);
    apr_time_t expires = intune_credential_expires(profile->intune);
    if (expires) {
        add(list, "the application's certificate", SETTING_APP_CERTIFICATE, expires);
    }
    return list;
}
