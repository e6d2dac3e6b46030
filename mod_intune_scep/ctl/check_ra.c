/* SPDX-License-Identifier: Apache-2.0 */
/* The RA's certificates and keys, and the chain that they must fit. */
#include "ctl/check.h"

#include "base/clock.h"

#include <apr_strings.h>

typedef struct ra_part_t {
    const char *step;
    setting_id_t certificate_id;
    setting_id_t key_id;
    scep_ra_role_t role;
    X509 *certificate;
    EVP_PKEY *key;
} ra_part_t;

static void red(check_t *check, const char *name, setting_id_t id, const char *what, const char *remedy)
{
    ctl_step(check->steps, name, CTL_RED, remedy, "%s: %s", setting_name(id), what);
}

static STACK_OF(X509) * load(check_t *check, setting_id_t id, const char **message)
{
    STACK_OF(X509) *certificates = NULL;
    return scep_certificates_load(&certificates, check->engine, check_text(check, id), check->pool, message)
               ? NULL
               : certificates;
}

static void chain_check(check_t *check)
{
    const char *message = NULL;
    const char *until = NULL;
    if (!check_text(check, SETTING_CA_CHAIN)) {
        ctl_step(check->steps, "ca-chain", CTL_SKIPPED, NULL, "IntuneScepCAChain is missing");
        return;
    }
    STACK_OF(X509) *chain = load(check, SETTING_CA_CHAIN, &message);
    if (!chain) {
        red(check, "ca-chain", SETTING_CA_CHAIN, message, "put the CA's certificates there in PEM, issuing CA first");
        return;
    }
    check->chain = chain;
    message = scep_chain_check(chain, clock_now(), check->pool);
    if (message) {
        red(check, "ca-chain", SETTING_CA_CHAIN, message, "put the CA's certificates there in PEM, issuing CA first");
        return;
    }
    ctl_colour_t colour = CTL_GREEN;
    X509 *soonest = sk_X509_value(chain, 0);
    for (int i = 0; i < sk_X509_num(chain); i++) {
        ctl_colour_t one = check_expiry(check, sk_X509_value(chain, i), &until);
        if (one > colour) {
            colour = one;
            soonest = sk_X509_value(chain, i);
        }
    }
    check_expiry(check, soonest, &until);
    ctl_step(check->steps, "ca-chain", colour, colour == CTL_GREEN ? NULL : "renew the CA's certificate",
             "IntuneScepCAChain has %d, all CAs, each signed by the next; %s is %s", sk_X509_num(chain),
             check_subject(check, soonest), until);
}

/* False: said. */
static bool part_load(check_t *check, ra_part_t *part)
{
    const char *message = NULL;
    STACK_OF(X509) *certificates = load(check, part->certificate_id, &message);
    const char *path = check_text(check, part->key_id);
    if (!certificates) {
        red(check, part->step, part->certificate_id, message, "put the RA's certificate there, in PEM or DER");
        return false;
    }
    part->certificate = sk_X509_value(certificates, 0);
    if (secret_path_check(path, false, check->pool, &message) ||
        scep_key_load(&part->key, check->engine, path, check->pool, &message)) {
        red(check, part->step, part->key_id, message,
            "put the RA's unencrypted RSA key there, readable by nobody else");
        return false;
    }
    message = scep_key_check(part->certificate, part->key, check->pool);
    if (message) {
        red(check, part->step, part->key_id, message,
            "put the key of the certificate there, or its certificate beside it");
        return false;
    }
    return true;
}

static const char *issuer_of(const check_t *check, X509 *certificate)
{
    certificate_facts_t facts;
    return certificate_facts(&facts, certificate, check->pool) ? "?" : ctl_shown(check->ctl, facts.issuer, CHECK_SHOWN);
}

static void part_judge(check_t *check, const ra_part_t *part)
{
    const char *wrong = scep_ra_check(part->certificate, part->role, check->chain, clock_now(), check->pool);
    const char *usage = scep_ra_usage_check(part->certificate, part->role, check->pool);
    const char *until = NULL;
    ctl_colour_t colour = check_expiry(check, part->certificate, &until);
    if (wrong && check->chain) {
        ctl_step(check->steps, part->step, CTL_RED,
                 "have the RA's certificate issued by the CA of IntuneScepCAChain, with the key usages "
                 "digitalSignature and keyEncipherment: see intune-scepctl ra-request",
                 "%s: %s; its issuer is \"%s\"", setting_name(part->certificate_id), wrong,
                 issuer_of(check, part->certificate));
    } else if (colour != CTL_GREEN) {
        ctl_step(check->steps, part->step, colour, "renew it: see intune-scepctl ra-request --renew", "%s: %s is %s",
                 setting_name(part->certificate_id), check_subject(check, part->certificate), until);
    } else if (usage) {
        ctl_step(check->steps, part->step, CTL_YELLOW,
                 "use an RA certificate of its own: Windows asks for certificates for ever otherwise",
                 "%s: RA and CA are one, but %s", setting_name(part->certificate_id), usage);
    } else {
        ctl_step(check->steps, part->step, CTL_GREEN, NULL, "%s, its key fits%s, %s",
                 check_subject(check, part->certificate), check->chain ? ", and so does the chain" : "", until);
    }
}

/* Only where there is one. */
static void crl_check(check_t *check)
{
    const char *path = check_text(check, SETTING_CRL);
    const char *message = NULL;
    scep_crls_t *crls = NULL;
    if (!path || !check->chain) {
        return;
    }
    if (!scep_crls_make(&crls, check->engine, check->chain, path, check->pool, &message)) {
        message = scep_crls_expired(crls, check->pool);
    }
    if (message) {
        red(check, "crl", SETTING_CRL, message,
            "renew it: RenewalReq, GetCert and GetCRL get 503 without a list that is valid");
    } else {
        ctl_step(check->steps, "crl", CTL_GREEN, NULL, "the revocation lists are valid now");
    }
}

/* Likewise. It may have expired. */
static void former_check(check_t *check)
{
    static const char STEP[] = "ra-former";
    const char *given = check->settings->set[SETTING_RA_FORMER].second;
    const char *path = given ? check_path(check, SETTING_RA_FORMER, given) : NULL;
    const char *message = NULL;
    EVP_PKEY *key = NULL;
    if (!check_text(check, SETTING_RA_FORMER)) {
        return;
    }
    STACK_OF(X509) *certificates = load(check, SETTING_RA_FORMER, &message);
    if (certificates && !path) {
        message = "the path of its private key is missing behind it";
    } else if (certificates && !secret_path_check(path, false, check->pool, &message) &&
               !scep_key_load(&key, check->engine, path, check->pool, &message)) {
        message = scep_key_check(sk_X509_value(certificates, 0), key, check->pool);
    }
    if (message) {
        red(check, STEP, SETTING_RA_FORMER, message, "give the former RA certificate and its key, or leave it out");
    } else {
        ctl_step(check->steps, STEP, CTL_GREEN, NULL, "%s, its key fits",
                 check_subject(check, sk_X509_value(certificates, 0)));
    }
}

void check_ra(check_t *check)
{
    bool separate =
        check_text(check, SETTING_RA_ENCRYPTION_CERTIFICATE) && check_text(check, SETTING_RA_ENCRYPTION_KEY);
    ra_part_t signing = {"ra", SETTING_RA_CERTIFICATE, SETTING_RA_KEY, separate ? RA_SIGNS : RA_DOES_BOTH, NULL, NULL};
    ra_part_t encryption = {
        "ra-encryption", SETTING_RA_ENCRYPTION_CERTIFICATE, SETTING_RA_ENCRYPTION_KEY, RA_DECRYPTS, NULL, NULL};
    chain_check(check);
    crl_check(check);
    if (!check_text(check, SETTING_RA_CERTIFICATE) || !check_text(check, SETTING_RA_KEY)) {
        ctl_step(check->steps, "ra", CTL_SKIPPED, NULL, "IntuneScepRACertificate or IntuneScepRAKey is missing");
    } else if (part_load(check, &signing)) {
        check->ra = signing.certificate;
        check->ra_key = signing.key;
        part_judge(check, &signing);
    }
    if (separate && part_load(check, &encryption)) {
        part_judge(check, &encryption);
    }
    former_check(check);
}
