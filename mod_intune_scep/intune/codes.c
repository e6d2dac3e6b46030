/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What Microsoft's codes mean. Intune's are those of the reference clients (microsoft/Intune-Resource-Access), Entra's
 * those that a client_credentials request meets, Graph's that of a 403.
 */
#include "intune/intune.h"

#include <apr_strings.h>

#include <string.h>

static const struct {
    const char *code;
    const char *meaning;
} codes[] = {
    {"Success", "Intune accepted the request; there is nothing to check."},
    {"Unknown", "Intune failed without saying why; try again, and give Microsoft the request id if it lasts."},
    {"CertificateRequestDecodingFailed", "Intune could not decode the certificate request; check whether the device's "
                                         "SCEP client makes a well-formed PKCS #10."},
    {"ChallengePasswordMissing",
     "Intune found no challenge in the certificate request; check that the request comes from an Intune SCEP profile."},
    {"ChallengeDeserializationError", "The challenge is not what Intune makes; check whether the device sends another "
                                      "system's password or cut it short."},
    {"ChallengeDecryptionError",
     "Intune could not decrypt the challenge; check that device and IntuneScepTenant belong to the same tenant."},
    {"ChallengeDecodingError",
     "Intune could not decode the challenge; check whether something between device and gateway changed the request."},
    {"ChallengeInvalidTimestamp",
     "The challenge has no valid time in it; let the device sync so that it gets a new challenge."},
    {"ChallengeExpired", "The challenge is older than Intune allows (60 minutes); let the device sync, and check why "
                         "its request came late."},
    {"SubjectNameMissing",
     "The certificate request has no subject; check the subject name format of the SCEP profile."},
    {"SubjectNameMismatch", "The subject is not what the profile demands; check the profile's subject name format and "
                            "the attributes of the user "
                            "or device that it uses."},
    {"SubjectAltNameMissing",
     "The certificate request lacks the subject alternative name of the profile; check its attributes for this user or "
     "device."},
    {"SubjectAltNameMismatch",
     "The subject alternative name is not what the profile demands; check the profile's and the user's or device's "
     "attributes."},
    {"KeyUsageMismatch", "The key usage is not what the profile demands; check the profile's key usage."},
    {"KeyLengthMismatch", "The key's length is not what the profile demands; check the profile's key size."},
    {"EnhancedKeyUsageMissing",
     "The certificate request has no extended key usage; check the extended key usage of the profile."},
    {"EnhancedKeyUsageMismatch",
     "The extended key usage is not what the profile demands; check the extended key usage of the profile."},
    {"AadKeyIdentifierListMissing",
     "Entra knows no key of this device; check that the device is registered in Entra and let it register again."},
    {"RegisteredKeyMismatch",
     "The key is not the one that the device registered in Entra; check whether the device was registered anew."},
    {"SigningCertThumbprintMismatch", "The challenge names another signing certificate than Intune uses; let the "
                                      "device sync so that it gets a new challenge."},
    {"ScepProfileNoLongerTargetedToTheClient",
     "The SCEP profile is no longer assigned to this device or user; check the profile's assignments."},
    {"SignatureValidationFailed",
     "The challenge's signature does not verify; check whether it was changed, or was made for another tenant."},
    {"BadCertificateRequestIdInChallenge",
     "The challenge belongs to another certificate request; let the device sync so that it gets a new challenge."},
    {"BadDeviceIdInChallenge",
     "The challenge was made for another device; check whether a challenge was copied between devices."},
    {"BadUserIdInChallenge",
     "The challenge was made for another user; check who is signed in at the device and let it sync."},
    {"AADSTS7000215",
     "The application key is wrong; check that IntuneScepAppKey has the secret's value and not its identifier."},
    {"AADSTS7000222",
     "The application key has expired; make a new client secret in Entra and set it in IntuneScepAppKey."},
    {"AADSTS700016",
     "The application is not known in the tenant; check IntuneScepAppID, IntuneScepTenant and the admin consent."},
    {"AADSTS90002", "The tenant does not exist; check IntuneScepTenant, and IntuneScepCloud for a national cloud."},
    {"AADSTS900023",
     "What stands for the tenant is no identifier or domain of one; check IntuneScepTenant for a typing error."},
    {"AADSTS7000112",
     "The application is disabled in the tenant; enable it for sign-in under Enterprise applications in Entra."},
    {"AADSTS7000229",
     "The application has no service principal in the tenant; check IntuneScepTenant, and grant admin consent there."},
    {"AADSTS53003", "A Conditional Access policy for workload identities blocks the application; allow it from the address "
                    "under which this server reaches Microsoft."},
    {"AADSTS500011",
     "The service that a token was asked for is not known in the tenant; check IntuneScepCloud, IntuneScepGraphURL, "
     "IntuneScepIntuneURL and the tenant's Intune licence."},
    {"AADSTS7000218",
     "The application proved itself by neither key nor assertion; check whether a proxy changes requests."},
    {"AADSTS700027",
     "The certificate or its signature is not accepted; check that the certificate of IntuneScepAppCertificate is "
     "registered with the application and has not expired."},
    {"AADSTS700024",
     "The assertion is not valid at this time; check the server's clock, and with IntuneScepAppTokenFile "
     "whether its owner still renews the file."},
    {"AADSTS700023", "The assertion is for another audience; check IntuneScepAuthority and IntuneScepTenant."},
    {"AADSTS700021", "The assertion is another application's; check IntuneScepAppID and IntuneScepAppTokenFile."},
    {"AADSTS50027", "The assertion is not a well-formed token; check what IntuneScepAppTokenFile names."},
    {"AADSTS50013",
     "The assertion's signature does not verify; check the issuer of the token in IntuneScepAppTokenFile."},
    {"AADSTS70021", "No federated credential of the application fits the token; check its issuer, subject and audience "
                    "against IntuneScepAppTokenFile."},
    {"AADSTS700211", "No federated credential of the application has the token's issuer; check it against "
                     "IntuneScepAppTokenFile."},
    {"AADSTS700212", "No federated credential of the application has the token's audience; check it against "
                     "IntuneScepAppTokenFile."},
    {"AADSTS700213", "No federated credential of the application has the token's subject; check it against "
                     "IntuneScepAppTokenFile."},
    {"AADSTS50034", "The account does not exist in the tenant; check IntuneScepTenant and IntuneScepAppID."},
    {"Authorization_RequestDenied", "The application may not read where Intune's services are; grant it Graph's "
                                    "Application.Read.All with admin consent."},
};

const char *intune_code_meaning(const char *code)
{
    if (code == NULL) {
        return NULL;
    }
    for (apr_size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        if (strcmp(codes[i].code, code) == 0) {
            return codes[i].meaning;
        }
    }
    return NULL;
}

const char *intune_code_told(const char *code, apr_pool_t *pool)
{
    const char *meaning = intune_code_meaning(code);
    /* with a status that is none of success, its meaning would mislead */
    if (meaning == NULL || strcmp(code, "Success") == 0) {
        return "";
    }
    /* its full stop would stand in the middle of the line */
    return apr_psprintf(pool, "; that means: %.*s", (int)strlen(meaning) - 1, meaning);
}
