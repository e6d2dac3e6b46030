/* SPDX-License-Identifier: Apache-2.0 */
/* The SCEP side of a profile: certificates and keys are loaded and held against each other before the server starts. */
#include "setup.h"

#include "base/clock.h"

#include <apr_strings.h>

APLOG_USE_MODULE(intune_scep);

typedef struct maker_t {
    apr_pool_t *pool;
    const settings_t *settings;
    const scep_engine_t *engine;
    server_rec *server;
    STACK_OF(X509) * chain;
    scep_identity_t *identity;
    const char *wrong; /* the first mistake found, as a whole sentence */
} maker_t;

/* One of the RA's certificates with its key, and the directives that they come from. */
typedef struct ra_part_t {
    setting_id_t certificate_id;
    setting_id_t key_id;
    scep_ra_role_t role;
    X509 *certificate;
    EVP_PKEY *key;
} ra_part_t;

static bool complain(maker_t *m, setting_id_t id, const char *what)
{
    if (!m->wrong) {
        m->wrong = apr_pstrcat(m->pool, setting_place(m->settings, id, m->pool), ": ", what, NULL);
    }
    return false;
}

static const char *text(const maker_t *m, setting_id_t id)
{
    return setting_text(m->settings, id);
}

/* A directive that names a file which could not be used: the message has the path already. */
static bool load_certificates(maker_t *m, setting_id_t id, STACK_OF(X509) * *certificates)
{
    const char *message = NULL;
    return !scep_certificates_load(certificates, m->engine, text(m, id), m->pool, &message) || complain(m, id, message);
}

static bool check(maker_t *m, setting_id_t id, const char *wrong)
{
    return wrong ? complain(m, id, apr_pstrcat(m->pool, text(m, id), ": ", wrong, NULL)) : true;
}

static bool load_ra(maker_t *m, ra_part_t *part)
{
    STACK_OF(X509) *certificates = NULL;
    const char *message = NULL;
    if (!load_certificates(m, part->certificate_id, &certificates)) {
        return false;
    }
    if (secret_path_check(text(m, part->key_id), false, m->pool, &message) ||
        scep_key_load(&part->key, m->engine, text(m, part->key_id), m->pool, &message)) {
        return complain(m, part->key_id, message);
    }
    part->certificate = sk_X509_value(certificates, 0);
    return check(m, part->key_id, scep_key_check(part->certificate, part->key, m->pool)) &&
           check(m, part->certificate_id, scep_validity_check(part->certificate, clock_now(), m->pool));
}

/* A CA certificate that is the RA, too, has the usage that it has: some devices take that, Windows does not. */
static bool check_ra(maker_t *m, const ra_part_t *part)
{
    const char *usage = scep_ra_usage_check(part->certificate, part->role, m->pool);
    if (!check(m, part->certificate_id, scep_ra_check(part->certificate, part->role, m->chain, clock_now(), m->pool))) {
        return false;
    }
    if (usage) {
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, m->server,
                     "ISCEP0520: %s: RA and CA are one, but %s: Windows then asks for certificates for ever and sends "
                     "no request; use "
                     "an RA certificate of its own",
                     setting_place(m->settings, part->certificate_id, m->pool), usage);
    }
    return true;
}

static bool has_encryption_part(maker_t *m, bool *has)
{
    bool certificate = text(m, SETTING_RA_ENCRYPTION_CERTIFICATE) != NULL;
    bool key = text(m, SETTING_RA_ENCRYPTION_KEY) != NULL;
    *has = certificate && key;
    if (certificate != key) {
        return complain(
            m, certificate ? SETTING_RA_ENCRYPTION_CERTIFICATE : SETTING_RA_ENCRYPTION_KEY,
            apr_psprintf(m->pool, "%s is missing beside it",
                         setting_name(certificate ? SETTING_RA_ENCRYPTION_KEY : SETTING_RA_ENCRYPTION_CERTIFICATE)));
    }
    return true;
}

static bool load_all(maker_t *m, ra_part_t *signing, ra_part_t *encryption, bool *separate)
{
    if (!has_encryption_part(m, separate)) {
        return false;
    }
    if (*separate) {
        signing->role = RA_SIGNS;
    }
    return load_ra(m, signing) && (!*separate || load_ra(m, encryption)) &&
           load_certificates(m, SETTING_CA_CHAIN, &m->chain) &&
           check(m, SETTING_CA_CHAIN, scep_chain_check(m->chain, clock_now(), m->pool)) && check_ra(m, signing) &&
           (!*separate || check_ra(m, encryption));
}

static bool make_identity(maker_t *m)
{
    ra_part_t signing = {SETTING_RA_CERTIFICATE, SETTING_RA_KEY, RA_DOES_BOTH, NULL, NULL};
    ra_part_t encryption = {SETTING_RA_ENCRYPTION_CERTIFICATE, SETTING_RA_ENCRYPTION_KEY, RA_DECRYPTS, NULL, NULL};
    STACK_OF(X509) *backend = NULL;
    bool separate = false;
    result_t *result = result_make(m->pool);
    if (!load_all(m, &signing, &encryption, &separate) ||
        (text(m, SETTING_BACKEND_CERTIFICATE) && !load_certificates(m, SETTING_BACKEND_CERTIFICATE, &backend))) {
        return false;
    }
    if (scep_identity_make(&m->identity, m->engine, signing.certificate, signing.key, m->chain, backend, m->pool,
                           result)) {
        return complain(m, backend ? SETTING_BACKEND_CERTIFICATE : SETTING_CA_CHAIN,
                        result->detail ? result->detail : "cannot be used");
    }
    if (separate) {
        scep_identity_separate(m->identity, encryption.certificate, encryption.key);
    }
    return true;
}

/* The RA as it was before: only for what was asked in its name. It may have expired meanwhile. */
static bool make_former(maker_t *m, profile_t *profile)
{
    const setting_t *given = &m->settings->set[SETTING_RA_FORMER];
    STACK_OF(X509) *certificates = NULL;
    const char *message = NULL;
    EVP_PKEY *key = NULL;
    certificate_facts_t facts;
    if (!given->value) {
        return true;
    }
    const char *path = given->second ? ap_server_root_relative(m->pool, given->second) : NULL;
    if (!path) {
        return complain(m, SETTING_RA_FORMER, "the path of its private key is missing behind it");
    }
    if (!load_certificates(m, SETTING_RA_FORMER, &certificates)) {
        return false;
    }
    if (secret_path_check(path, false, m->pool, &message) || scep_key_load(&key, m->engine, path, m->pool, &message)) {
        return complain(m, SETTING_RA_FORMER, message);
    }
    X509 *certificate = sk_X509_value(certificates, 0);
    if (!check(m, SETTING_RA_FORMER, scep_key_check(certificate, key, m->pool))) {
        return false;
    }
    scep_identity_t *former = apr_pmemdup(m->pool, m->identity, sizeof(*former));
    former->ra_certificate = certificate;
    former->ra_key = key;
    profile->former = former;
    profile->former_fp = certificate_facts(&facts, certificate, m->pool) ? "" : facts.thumbprint;
    return true;
}

/* The worker processes read it again, and it would be too late to find out then. */
static bool make_crls(maker_t *m, scep_policy_t *policy)
{
    const char *path = text(m, SETTING_CRL);
    const char *message = NULL;
    if (!path) {
        return true;
    }
    if (scep_crls_make(&policy->crls, m->engine, m->chain, path, m->pool, &message)) {
        return complain(m, SETTING_CRL, message);
    }
    if (!setup_server_can(path, R_OK)) {
        return complain(
            m, SETTING_CRL,
            apr_psprintf(m->pool, "%s cannot be read by the server's user, who reads it again when it changes", path));
    }
    message = scep_crls_expired(policy->crls, m->pool);
    if (message) {
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, m->server,
                     "ISCEP0521: %s: %s: RenewalReq, GetCert and GetCRL are answered 503 until there is a newer one",
                     setting_place(m->settings, SETTING_CRL, m->pool), message);
    }
    return true;
}

static bool make_policy(maker_t *m, scep_policy_t *policy)
{
    policy->device = setting_algorithms(m->settings, SETTING_DEVICE_ALGORITHMS, m->pool);
    policy->backend = setting_algorithms(m->settings, SETTING_BACKEND_ALGORITHMS, m->pool);
    policy->min_key_bits = setting_number(m->settings, SETTING_MIN_KEY_SIZE);
    policy->refuse_sid = setting_flag(m->settings, SETTING_REFUSE_SID);
    return make_crls(m, policy);
}

const char *setup_scep_make(profile_t *profile, const settings_t *settings, const scep_engine_t *engine,
                            server_rec *server, apr_pool_t *pool)
{
    maker_t m = {.pool = pool, .settings = settings, .engine = engine, .server = server};
    if (!make_identity(&m) || !make_former(&m, profile) || !make_policy(&m, &profile->policy)) {
        return m.wrong;
    }
    profile->identity = m.identity;
    profile->backend_capabilities = setting_capabilities(settings, SETTING_BACKEND_CAPABILITIES, pool);
    return NULL;
}
