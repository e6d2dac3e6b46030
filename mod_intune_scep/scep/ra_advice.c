/* SPDX-License-Identifier: Apache-2.0 */
/* What devices mind of an RA's certificate that can be used as such. */
#include "identity.h"

#include "parts.h"

#include <apr_strings.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>

static bool is_in_chain(X509 *certificate, STACK_OF(X509) * chain)
{
    for (int i = 0; i < sk_X509_num(chain); i++) {
        if (!X509_cmp(certificate, sk_X509_value(chain, i))) {
            return true;
        }
    }
    return false;
}

/* Whether there is an extended key usage that lacks Certificate Request Agent. */
static bool is_for_other_use(X509 *certificate)
{
    static const char agent[] = "1.3.6.1.4.1.311.20.2.1";
    EXTENDED_KEY_USAGE *usage = X509_get_ext_d2i(certificate, NID_ext_key_usage, NULL, NULL);
    bool found = !usage;
    for (int i = 0; usage && i < sk_ASN1_OBJECT_num(usage); i++) {
        found = found || scep_oid_is(sk_ASN1_OBJECT_value(usage, i), agent);
    }
    EXTENDED_KEY_USAGE_free(usage);
    ERR_clear_error();
    return !found;
}

const char *scep_ra_windows_usage(X509 *certificate, scep_ra_role_t role, STACK_OF(X509) * chain)
{
    if (is_in_chain(certificate, chain)) {
        return NULL;
    }
    if (!(X509_get_extension_flags(certificate) & EXFLAG_KUSAGE)) {
        return "has no key usage, by which Windows picks the RA's certificate";
    }
    if ((role & RA_SIGNS) && !(X509_get_key_usage(certificate) & KU_DIGITAL_SIGNATURE)) {
        return "has nonRepudiation in its key usage, but not digitalSignature, for which Windows looks";
    }
    return NULL;
}

const char *scep_ra_windows_purpose(X509 *certificate, STACK_OF(X509) * chain)
{
    if (is_in_chain(certificate, chain) || !is_for_other_use(certificate)) {
        return NULL;
    }
    return "has an extended key usage without Certificate Request Agent (1.3.6.1.4.1.311.20.2.1)";
}

const char *scep_ra_apple(const scep_identity_t *identity)
{
    bool is_ca = is_in_chain(identity->ra_certificate, identity->chain) &&
                 is_in_chain(identity->device_certificate, identity->chain);
    return is_ca && sk_X509_num(identity->chain) > 1
               ? "GetCACert has several certificates, but no RA's among them, since RA and CA are one"
               : NULL;
}
