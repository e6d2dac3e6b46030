/* SPDX-License-Identifier: Apache-2.0 */
/* What some devices mind of certificates that can be used, what expires soon, and a clock that cannot be right. */
#include "module.h"

#include "base/clock.h"
#include "base/text.h"

#include <apr_strings.h>

APLOG_USE_MODULE(intune_scep);

typedef struct advice_t {
    const settings_t *settings;
    const scep_identity_t *identity;
    server_rec *server;
    apr_pool_t *pool;
} advice_t;

static const char *place(const advice_t *a, setting_id_t id)
{
    return setting_place(a->settings, id, a->pool);
}

static const char *subject(const certificate_facts_t *facts, apr_pool_t *pool)
{
    return text_escape(pool, facts->subject, 200);
}

static void tell_usage(const advice_t *a, setting_id_t id, X509 *certificate, scep_ra_role_t role)
{
    certificate_facts_t facts;
    const char *usage = scep_ra_windows_usage(certificate, role, a->identity->chain);
    const char *purpose = scep_ra_windows_purpose(certificate, a->identity->chain);
    if ((!usage && !purpose) || certificate_facts(&facts, certificate, a->pool)) {
        return;
    }
    if (usage) {
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, a->server,
                     "ISCEP0550: %s: \"%s\" %s: Windows may ask for certificates for ever and send no request; give the RA "
                     "a certificate with the key usage digitalSignature, keyEncipherment",
                     place(a, id), subject(&facts, a->pool), usage);
    }
    if (purpose) {
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, a->server,
                     "ISCEP0551: %s: \"%s\" %s: Windows may not take it for an RA's; leave the extended key usage out, or "
                     "add that one",
                     place(a, id), subject(&facts, a->pool), purpose);
    }
}

/* One that has expired stops the server. */
static void tell_expiry(const advice_t *a, setting_id_t id, X509 *certificate)
{
    static const int days_warn = 30, days_error = 7;
    const apr_time_t day = apr_time_from_sec(24 * 3600);
    certificate_facts_t facts;
    if (certificate_facts(&facts, certificate, a->pool)) {
        return;
    }
    apr_time_t left = facts.expires - clock_now();
    if (left < days_warn * day) {
        ap_log_error(APLOG_MARK, left < days_error * day ? APLOG_ERR : APLOG_WARNING, 0, a->server,
                     "ISCEP0552: %s: \"%s\" expires on %.10s, in %d days; after that no device gets a certificate: renew it",
                     place(a, id), subject(&facts, a->pool), facts.not_after, (int)(left / day));
    }
}

void setup_certificates_check(const settings_t *settings, const scep_identity_t *identity, server_rec *server,
                              apr_pool_t *pool)
{
    advice_t a = {settings, identity, server, pool};
    bool separate = identity->device_certificate != identity->ra_certificate;
    const char *apple = scep_ra_apple(identity);
    tell_usage(&a, SETTING_RA_CERTIFICATE, identity->ra_certificate, separate ? RA_SIGNS : RA_DOES_BOTH);
    tell_expiry(&a, SETTING_RA_CERTIFICATE, identity->ra_certificate);
    if (separate) {
        tell_usage(&a, SETTING_RA_ENCRYPTION_CERTIFICATE, identity->device_certificate, RA_DECRYPTS);
        tell_expiry(&a, SETTING_RA_ENCRYPTION_CERTIFICATE, identity->device_certificate);
    }
    for (int i = 0; i < sk_X509_num(identity->chain); i++) {
        X509 *ca = sk_X509_value(identity->chain, i);
        if (X509_cmp(ca, identity->ra_certificate)) {
            tell_expiry(&a, SETTING_CA_CHAIN, ca);
        }
    }
    if (apple) {
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, server,
                     "ISCEP0553: %s: %s: iPhones, iPads and Macs then fail (-67731); use an RA certificate of its own",
                     place(&a, SETTING_RA_CERTIFICATE), apple);
    }
}

void setup_clock_check(server_rec *server)
{
    static const apr_time_t built = apr_time_from_sec((apr_time_t)ISCEP_BUILD_TIME);
    char now[APR_RFC822_DATE_LEN];
    char then[APR_RFC822_DATE_LEN];
    if (clock_now() < built) {
        apr_rfc822_date(now, clock_now());
        apr_rfc822_date(then, built);
        ap_log_error(APLOG_MARK, APLOG_ERR, 0, server,
                     "ISCEP0554: the clock says %s, but this module was built on %s: set the clock, or certificates and "
                     "tokens are held to be not valid yet or no longer",
                     now, then);
    }
}
