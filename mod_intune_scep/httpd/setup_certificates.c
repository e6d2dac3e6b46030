/* SPDX-License-Identifier: Apache-2.0 */
/* What some devices mind of certificates that can be used, what expires soon, and a clock that cannot be right. */
#include "setup.h"

#include "base/clock.h"
#include "base/text.h"
#include "gateway/expiry.h"

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

static void tell_expiry(const advice_t *a, const expiry_t *expiry)
{
    apr_time_exp_t date;
    bool over = expiry->days < 0;
    apr_time_exp_gmt(&date, expiry->expires);
    const char *what = expiry->subject ? apr_psprintf(a->pool, "\"%s\"", expiry->subject) : expiry->what;
    ap_log_error(APLOG_MARK, expiry->days < EXPIRY_ERROR_DAYS ? APLOG_ERR : APLOG_WARNING, 0, a->server,
                 "ISCEP0552: %s: %s %s on %04d-%02d-%02d%s; after that no device gets a certificate: renew it",
                 place(a, expiry->setting), what, over ? "expired" : "expires", date.tm_year + 1900, date.tm_mon + 1,
                 date.tm_mday, over ? "" : apr_psprintf(a->pool, ", in %d days", expiry->days));
}

/* All that the running server will tell of, too (gateway/events.c): it leaves the first time to us. */
static void tell_expiries(const advice_t *a, const profile_t *profile)
{
    const apr_array_header_t *expiries = expiry_list(profile, a->pool);
    for (int i = 0; i < expiries->nelts; i++) {
        const expiry_t *expiry = &APR_ARRAY_IDX(expiries, i, const expiry_t);
        if (expiry->matters && expiry->days < EXPIRY_WARN_DAYS) {
            tell_expiry(a, expiry);
        }
    }
}

void setup_certificates_check(const site_t *site, apr_pool_t *pool)
{
    const scep_identity_t *identity = site->profile->identity;
    advice_t a = {site->settings, identity, site->server, pool};
    bool separate = identity->device_certificate != identity->ra_certificate;
    const char *apple = scep_ra_apple(identity);
    tell_usage(&a, SETTING_RA_CERTIFICATE, identity->ra_certificate, separate ? RA_SIGNS : RA_DOES_BOTH);
    if (separate) {
        tell_usage(&a, SETTING_RA_ENCRYPTION_CERTIFICATE, identity->device_certificate, RA_DECRYPTS);
    }
    tell_expiries(&a, site->profile);
    if (apple) {
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, site->server,
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
