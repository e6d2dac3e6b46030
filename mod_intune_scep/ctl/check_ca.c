/* SPDX-License-Identifier: Apache-2.0 */
/* What the CA says of itself, held against what the configuration says of it. */
#include "ctl/check.h"

#include <apr_cstr.h>
#include <apr_strings.h>

static const apr_interval_time_t CA_LIMIT = apr_time_from_sec(20);

static bool contains(STACK_OF(X509) * certificates, X509 *certificate)
{
    for (int i = 0; i < sk_X509_num(certificates); i++) {
        if (!X509_cmp(sk_X509_value(certificates, i), certificate)) {
            return true;
        }
    }
    return false;
}

static void capabilities_check(check_t *check)
{
    http_answer_t answer;
    const char *of_balancer = check->balanced ? " (the balancer's first member)" : "";
    dialogue_ask(check->dialogue, "GetCACaps", &answer);
    const char *trouble = dialogue_trouble(&answer, check->pool);
    unsigned set = trouble ? 0 : scep_capabilities_parse(answer.body);
    unsigned told = setting_capabilities(check->settings, SETTING_BACKEND_CAPABILITIES, check->pool);
    check->capabilities = told ? told : set;
    if (trouble) {
        ctl_step(check->steps, "ca-capabilities", CTL_RED, dialogue_remedy(&answer), "IntuneScepBackend %s%s: %s",
                 ctl_shown(check->ctl, check->backend, CHECK_SHOWN), of_balancer, trouble);
    } else if (!set) {
        ctl_step(
            check->steps, "ca-capabilities", told ? CTL_GREEN : CTL_YELLOW,
            told ? NULL : "see whether IntuneScepBackend is the CA's SCEP URL; else set IntuneScepBackendCapabilities",
            "%s%s answers GetCACaps without a word of RFC 8894: it gets AES-128, SHA-256 and POST, as all must have",
            ctl_shown(check->ctl, check->backend, CHECK_SHOWN), of_balancer);
    } else if (check->unverified && !apr_cstr_casecmpn(check->backend, "https:", 6)) {
        ctl_step(check->steps, "ca-capabilities", CTL_YELLOW,
                 "set SSLProxyVerify require beside SSLProxyCACertificateFile",
                 "%s%s answers, but the server does not verify its TLS certificate",
                 ctl_shown(check->ctl, check->backend, CHECK_SHOWN), of_balancer);
    } else {
        ctl_step(check->steps, "ca-capabilities", CTL_GREEN, NULL, "%s%s: %s",
                 ctl_shown(check->ctl, check->backend, CHECK_SHOWN), of_balancer,
                 dialogue_capabilities(set, check->pool));
    }
}

/* IntuneScepBackendCertificate. False: it cannot be read, and that is said. */
static bool backend_load(check_t *check)
{
    const char *path = check_text(check, SETTING_BACKEND_CERTIFICATE);
    const char *message = NULL;
    STACK_OF(X509) *certificates = NULL;
    if (path && scep_certificates_load(&certificates, check->engine, path, check->pool, &message)) {
        ctl_step(check->steps, "ca-certificates", CTL_RED,
                 "put the CA's SCEP certificates there, as its GetCACert gives them",
                 "IntuneScepBackendCertificate: %s", message);
        return false;
    }
    check->backend_certificates = certificates;
    return true;
}

/* Those through which the CA speaks, other than our own. */
static X509 *foreign_ra(const check_t *check)
{
    for (int i = 0; i < sk_X509_num(check->ca->ras); i++) {
        X509 *ra = sk_X509_value(check->ca->ras, i);
        if (!check->ra || X509_cmp(ra, check->ra)) {
            return ra;
        }
    }
    return NULL;
}

static X509 *unknown_backend(const check_t *check)
{
    for (int i = 0; check->backend_certificates && i < sk_X509_num(check->backend_certificates); i++) {
        X509 *certificate = sk_X509_value(check->backend_certificates, i);
        if (!contains(check->ca->certificates, certificate)) {
            return certificate;
        }
    }
    return NULL;
}

static const char *counted(const check_t *check, int count)
{
    return apr_psprintf(check->pool, "%d certificate%s", count, count == 1 ? "" : "s");
}

static void certificates_judge(check_t *check)
{
    X509 *theirs = sk_X509_value(check->ca->chain, 0);
    X509 *ours = check->chain ? sk_X509_value(check->chain, 0) : NULL;
    X509 *foreign = check->backend_certificates ? NULL : foreign_ra(check);
    X509 *unknown = unknown_backend(check);
    const char *until = NULL;
    ctl_colour_t colour = check_expiry(check, theirs, &until);
    if (ours && !contains(check->ca->certificates, ours)) {
        ctl_step(check->steps, "ca-certificates", CTL_RED,
                 "put this CA's chain in IntuneScepCAChain, or the URL of the other one in IntuneScepBackend; the RA's "
                 "certificate must be of the same CA",
                 "the CA is %s, but IntuneScepCAChain begins with %s", check_subject(check, theirs),
                 check_subject(check, ours));
    } else if (unknown) {
        ctl_step(
            check->steps, "ca-certificates", CTL_RED, "put what GetCACert gives now in IntuneScepBackendCertificate",
            "%s of IntuneScepBackendCertificate is not among the CA's certificates", check_subject(check, unknown));
    } else if (foreign) {
        ctl_step(check->steps, "ca-certificates", CTL_RED,
                 "put the certificates of the CA's own RA in IntuneScepBackendCertificate",
                 "the CA speaks through an RA of its own, %s, which the configuration does not know",
                 check_subject(check, foreign));
    } else {
        ctl_step(check->steps, "ca-certificates", colour, colour == CTL_GREEN ? NULL : "renew the CA's certificate",
                 "GetCACert gives %s%s; the CA %s is %s", counted(check, sk_X509_num(check->ca->certificates)),
                 ours ? ", IntuneScepCAChain's first among them" : "", check_subject(check, theirs), until);
    }
}

static void certificates_check(check_t *check)
{
    http_answer_t answer;
    scep_ca_t *ca = NULL;
    const char *why = NULL;
    dialogue_ask(check->dialogue, "GetCACert", &answer);
    const char *trouble = dialogue_trouble(&answer, check->pool);
    if (!backend_load(check)) {
        return;
    }
    if (trouble) {
        ctl_step(check->steps, "ca-certificates", CTL_RED, dialogue_remedy(&answer), "GetCACert: %s", trouble);
    } else if (scep_ca_read(&ca, check->engine, answer.body, check->pool, &why)) {
        ctl_step(check->steps, "ca-certificates", CTL_RED, "see whether IntuneScepBackend is the CA's SCEP URL",
                 "GetCACert's answer (Content-Type \"%s\"): %s", answer.content_type, why);
    } else {
        check->ca = ca;
        certificates_judge(check);
    }
}

void check_ca(check_t *check)
{
    const char *message = NULL;
    if (!check->backend || !dialogue_url_is_good(check->backend, check->pool)) {
        const char *why =
            check->balanced
                ? "the balancer has no BalancerMember in the configuration: give --backend with the CA's own URL"
                : "IntuneScepBackend is missing";
        ctl_step(check->steps, "ca-capabilities", CTL_SKIPPED, NULL, "%s", why);
        ctl_step(check->steps, "ca-certificates", CTL_SKIPPED, NULL, "%s", why);
        return;
    }
    check->dialogue = dialogue_make(check->backend, &check->tls, CA_LIMIT, check->pool, &message);
    if (!check->dialogue) {
        ctl_step(check->steps, "ca-capabilities", CTL_RED, NULL, "%s", message);
        return;
    }
    capabilities_check(check);
    certificates_check(check);
}
