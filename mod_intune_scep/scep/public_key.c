/* SPDX-License-Identifier: Apache-2.0 */
/* What the keys of strangers may be before anything is computed with them. */
#include "parts.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>

/* A verification costs the modulus squared times the exponent's length; 65537 has 17 bits. */
enum { RSA_BITS_MAX = 8192, EXPONENT_BITS_MAX = 64 };

static const char *rsa_check(EVP_PKEY *key)
{
    BIGNUM *exponent = NULL;
    const char *why = NULL;

    if (EVP_PKEY_get_bits(key) > RSA_BITS_MAX) {
        return "an RSA key of more than 8192 bits";
    }
    if (!EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_RSA_E, &exponent)) {
        why = "an RSA key that cannot be read";
    } else if (BN_num_bits(exponent) > EXPONENT_BITS_MAX) {
        why = "an RSA key with an exponent of more than 64 bits";
    }
    BN_free(exponent);
    return why;
}

static bool curve_is_named(const X509_PUBKEY *spki)
{
    X509_ALGOR *algorithm = NULL;
    int type = V_ASN1_UNDEF;

    if (!X509_PUBKEY_get0_param(NULL, NULL, NULL, &algorithm, spki)) {
        return false;
    }
    X509_ALGOR_get0(NULL, &type, NULL, algorithm);
    return type == V_ASN1_OBJECT;
}

bool scep_curves_are_named(bytes_t der)
{
    static const unsigned char elliptic[] = {0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01}; /* id-ecPublicKey */
    const unsigned char *end = der.data + der.len;
    const unsigned char *at = der.data;

    while (at < end && (at = memmem(at, (size_t)(end - at), elliptic, sizeof(elliptic))) != NULL) {
        at += sizeof(elliptic);
        if (at == end || *at != V_ASN1_OBJECT) {
            return false;
        }
    }
    return true;
}

const char *scep_public_key_check(const X509_PUBKEY *spki)
{
    EVP_PKEY *key = spki ? X509_PUBKEY_get0(spki) : NULL;
    const char *why = NULL;

    if (!key) {
        why = "a key that cannot be read";
    } else if (EVP_PKEY_is_a(key, "RSA") || EVP_PKEY_is_a(key, "RSA-PSS")) {
        why = rsa_check(key);
    } else if (EVP_PKEY_is_a(key, "EC")) {
        why = curve_is_named(spki) ? NULL : "an elliptic key whose curve is not a named one";
    } else if (!EVP_PKEY_is_a(key, "ED25519") && !EVP_PKEY_is_a(key, "ED448")) {
        why = "a key that is neither RSA nor elliptic";
    }
    scep_engine_clear_errors();
    return why;
}
