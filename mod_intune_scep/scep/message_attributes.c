/* SPDX-License-Identifier: Apache-2.0 */
#include "message_attributes.h"

#include "parts.h"

const char *const SCEP_FAIL_INFO_NAMES[] = {[SCEP_BAD_ALG] = "badAlg",
                                            [SCEP_BAD_MESSAGE_CHECK] = "badMessageCheck",
                                            [SCEP_BAD_REQUEST] = "badRequest",
                                            [SCEP_BAD_TIME] = "badTime",
                                            [SCEP_BAD_CERT_ID] = "badCertId"};

static const struct {
    const char *name;
    const char *oid;
    int type;
} known[ATTRIBUTE_COUNT] = {
    [ATTRIBUTE_MESSAGE_TYPE] = {"messageType", SCEP_OID_MESSAGE_TYPE, V_ASN1_PRINTABLESTRING},
    [ATTRIBUTE_PKI_STATUS] = {"pkiStatus", SCEP_OID_PKI_STATUS, V_ASN1_PRINTABLESTRING},
    [ATTRIBUTE_FAIL_INFO] = {"failInfo", SCEP_OID_FAIL_INFO, V_ASN1_PRINTABLESTRING},
    [ATTRIBUTE_SENDER_NONCE] = {"senderNonce", SCEP_OID_SENDER_NONCE, V_ASN1_OCTET_STRING},
    [ATTRIBUTE_RECIPIENT_NONCE] = {"recipientNonce", SCEP_OID_RECIPIENT_NONCE, V_ASN1_OCTET_STRING},
    [ATTRIBUTE_TRANSACTION_ID] = {"transactionID", SCEP_OID_TRANSACTION_ID, V_ASN1_PRINTABLESTRING},
    [ATTRIBUTE_FAIL_INFO_TEXT] = {"failInfoText", SCEP_OID_FAIL_INFO_TEXT, V_ASN1_UTF8STRING},
};

/*
 * Go makes a PrintableString of a text that fits into one, whatever the RFC says of it, and a UTF8String of all others:
 * so are transactionIDs with "*" or "&" answered. What these three have in common is the same in all of them.
 */
static bool is_of_type(const ASN1_TYPE *value, int type)
{
    bool is_text = type == V_ASN1_PRINTABLESTRING || type == V_ASN1_UTF8STRING;

    return value->type == type || (is_text && (value->type == V_ASN1_PRINTABLESTRING ||
                                               value->type == V_ASN1_UTF8STRING || value->type == V_ASN1_IA5STRING));
}

static void attribute_read(scep_attribute_t *attribute, X509_ATTRIBUTE *found, int type)
{
    const ASN1_TYPE *value = NULL;

    if (attribute->state == ATTRIBUTE_MISSING && X509_ATTRIBUTE_count(found) == 1) {
        value = X509_ATTRIBUTE_get0_type(found, 0);
    }
    if (!value || !is_of_type(value, type)) {
        attribute->state = ATTRIBUTE_ODD;
        attribute->value.data = NULL;
        attribute->value.len = 0;
        return;
    }
    attribute->state = ATTRIBUTE_GOOD;
    attribute->value.len = (apr_size_t)ASN1_STRING_length(value->value.asn1_string);
    attribute->value.data = attribute->value.len ? ASN1_STRING_get0_data(value->value.asn1_string) : NULL;
}

void scep_attributes_read(scep_attributes_t *attributes, const CMS_SignerInfo *signer_info)
{
    int count = CMS_signed_get_attr_count(signer_info);
    int i = 0;
    int j = 0;

    memset(attributes, 0, sizeof(*attributes));
    for (i = 0; i < count; i++) {
        X509_ATTRIBUTE *found = CMS_signed_get_attr(signer_info, i);
        char text[SCEP_OID_SIZE];
        const char *oid = scep_oid_print(text, X509_ATTRIBUTE_get0_object(found));

        for (j = 0; j < ATTRIBUTE_COUNT; j++) {
            if (strcmp(oid, known[j].oid) == 0) {
                attribute_read(&attributes->of[j], found, known[j].type);
            }
        }
    }
}

const char *scep_attribute_name(scep_attribute_name_t name)
{
    return known[name].name;
}

int scep_attribute_number(const scep_attribute_t *attribute)
{
    bytes_t value = attribute->value;
    int number = 0;
    apr_size_t i = 0;

    if (attribute->state != ATTRIBUTE_GOOD || value.len < 1 || value.len > 2) {
        return -1;
    }
    for (i = 0; i < value.len; i++) {
        if (value.data[i] < '0' || value.data[i] > '9') {
            return -1;
        }
        number = number * 10 + (value.data[i] - '0');
    }
    /* "03" is not "3". */
    return value.len == 2 && number < 10 ? -1 : number;
}

bool scep_attribute_is_transaction_id(const scep_attribute_t *attribute)
{
    apr_size_t i = 0;

    if (attribute->state != ATTRIBUTE_GOOD || attribute->value.len < 1 ||
        attribute->value.len > SCEP_TRANSACTION_ID_MAX) {
        return false;
    }
    for (i = 0; i < attribute->value.len; i++) {
        if (attribute->value.data[i] < 0x20 || attribute->value.data[i] > 0x7e) {
            return false;
        }
    }
    return true;
}

bool scep_attribute_is_nonce(const scep_attribute_t *attribute)
{
    return attribute->state == ATTRIBUTE_GOOD && attribute->value.len >= 1 && attribute->value.len <= SCEP_NONCE_MAX;
}
