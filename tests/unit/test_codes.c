/* SPDX-License-Identifier: Apache-2.0 */
#include "intune/intune.h"

#include <apr_general.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* Microsoft's reference clients, and the codes that a client_credentials request to Entra meets */
static const char *const known[] = {
    "Success",
    "Unknown",
    "CertificateRequestDecodingFailed",
    "ChallengePasswordMissing",
    "ChallengeDeserializationError",
    "ChallengeDecryptionError",
    "ChallengeDecodingError",
    "ChallengeInvalidTimestamp",
    "ChallengeExpired",
    "SubjectNameMissing",
    "SubjectNameMismatch",
    "SubjectAltNameMissing",
    "SubjectAltNameMismatch",
    "KeyUsageMismatch",
    "KeyLengthMismatch",
    "EnhancedKeyUsageMissing",
    "EnhancedKeyUsageMismatch",
    "AadKeyIdentifierListMissing",
    "RegisteredKeyMismatch",
    "SigningCertThumbprintMismatch",
    "ScepProfileNoLongerTargetedToTheClient",
    "SignatureValidationFailed",
    "BadCertificateRequestIdInChallenge",
    "BadDeviceIdInChallenge",
    "BadUserIdInChallenge",
    "AADSTS7000215",
    "AADSTS7000222",
    "AADSTS700016",
    "AADSTS90002",
    "AADSTS900023",
    "AADSTS7000112",
    "AADSTS7000229",
    "AADSTS53003",
    "AADSTS500011",
    "AADSTS7000218",
    "AADSTS700027",
    "AADSTS700024",
    "AADSTS700023",
    "AADSTS700021",
    "AADSTS50027",
    "AADSTS50013",
    "AADSTS70021",
    "AADSTS700211",
    "AADSTS700212",
    "AADSTS700213",
    "AADSTS50034",
    "Authorization_RequestDenied",
};

enum { KNOWN = sizeof(known) / sizeof(known[0]) };

static void ok_each_code_has_one_sentence_of_its_own(void **state)
{
    (void)state;
    for (int i = 0; i < KNOWN; i++) {
        const char *meaning = intune_code_meaning(known[i]);
        if (meaning == NULL) {
            fail_msg("%s is not known", known[i]);
            return;
        }
        assert_true(strlen(meaning) > 20);
        assert_int_equal(meaning[strlen(meaning) - 1], '.');
        assert_null(strstr(meaning, ". "));
        assert_non_null(strchr(meaning, ';'));
        for (int j = 0; j < i; j++) {
            assert_string_not_equal(meaning, intune_code_meaning(known[j]));
        }
    }
}

static void fail_unknown_codes_have_no_meaning(void **state)
{
    static const char *const unknown[] = {
        "", "success", "Success ", "ChallengeExpire", "ChallengeExpiredX", "AADSTS1", "AADSTS70002", "AADSTS70002222"};
    (void)state;
    assert_null(intune_code_meaning(NULL));
    for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++) {
        if (intune_code_meaning(unknown[i]) != NULL) {
            fail_msg("\"%s\" is known", unknown[i]);
        }
    }
}

static void ok_told_within_a_line(void **state)
{
    apr_pool_t *pool = NULL;
    (void)state;
    apr_initialize();
    apr_pool_create(&pool, NULL);
    assert_string_equal(intune_code_told("KeyLengthMismatch", pool),
                        "; that means: The key's length is not what the profile demands; check the profile's key size");
    /* with a status of failure "Success" means nothing */
    assert_string_equal(intune_code_told("Success", pool), "");
    assert_string_equal(intune_code_told("NeverHeardOf", pool), "");
    assert_string_equal(intune_code_told(NULL, pool), "");
    apr_pool_destroy(pool);
    apr_terminate();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ok_each_code_has_one_sentence_of_its_own),
        cmocka_unit_test(fail_unknown_codes_have_no_meaning),
        cmocka_unit_test(ok_told_within_a_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
