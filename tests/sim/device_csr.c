/* SPDX-License-Identifier: Apache-2.0 */
/* The device's PKCS #10, in good order or with one thing wrong. */
#include "device.h"

#include <string.h>

#include <apr_lib.h>
#include <apr_strings.h>

#define OID_UPN "1.3.6.1.4.1.311.20.2.3"
#define OID_SID "1.3.6.1.4.1.311.25.2"
/* An attribute OID that nothing here uses: the second of two equal attributes is added under it, then renamed. */
#define OID_PLACEHOLDER "1.2.840.113549.1.9.8"

static bool subject_add(X509_NAME *name, const char *part)
{
    const char *equals = strchr(part, '=');
    char field[64] = "";
    if (!equals || (size_t)(equals - part) >= sizeof(field))
        return device_fail("a subject looks like /CN=x/O=y, not '%s'", part);
    memcpy(field, part, (size_t)(equals - part));
    const unsigned char *value = (const unsigned char *)equals + 1;
    if (X509_NAME_add_entry_by_txt(name, field, MBSTRING_UTF8, value, -1, -1, 0) != 1)
        return device_fail("subject part '%s' is not understood", part);
    return true;
}

/* Slashes separate; a backslash takes the next character as it is. */
static bool subject_parse(X509_NAME *name, const char *text, apr_pool_t *pool)
{
    char *part = apr_pcalloc(pool, strlen(text) + 1);
    size_t n = 0;
    for (const char *at = text + (*text == '/'); *text; at++) {
        if (*at == '\\' && at[1]) {
            part[n++] = *++at;
        } else if (*at == '/' || !*at) {
            part[n] = 0;
            if (n && !subject_add(name, part))
                return false;
            n = 0;
            if (!*at)
                break;
        } else {
            part[n++] = *at;
        }
    }
    return true;
}

static GENERAL_NAME *upn_name(const char *text)
{
    GENERAL_NAME *name = GENERAL_NAME_new();
    ASN1_OBJECT *type = OBJ_txt2obj(OID_UPN, 1);
    ASN1_TYPE *value = ASN1_TYPE_new();
    ASN1_UTF8STRING *string = ASN1_UTF8STRING_new();
    if (name && type && value && string && ASN1_STRING_set(string, text, (int)strlen(text))) {
        ASN1_TYPE_set(value, V_ASN1_UTF8STRING, string);
        string = NULL;
        if (GENERAL_NAME_set0_othername(name, type, value))
            return name;
    }
    ASN1_UTF8STRING_free(string);
    ASN1_TYPE_free(value);
    ASN1_OBJECT_free(type);
    GENERAL_NAME_free(name);
    return NULL;
}

static GENERAL_NAME *general_name(const char *text)
{
    static const struct {
        const char *prefix;
        int type;
    } kinds[] = {
        {"dns:", GEN_DNS}, {"email:", GEN_EMAIL}, {"uri:", GEN_URI}, {"ip:", GEN_IPADD}, {"upn:", GEN_OTHERNAME}};
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        size_t len = strlen(kinds[i].prefix);
        if (strncmp(text, kinds[i].prefix, len) != 0)
            continue;
        if (kinds[i].type == GEN_OTHERNAME)
            return upn_name(text + len);
        return a2i_GENERAL_NAME(NULL, NULL, NULL, kinds[i].type, text + len, 0);
    }
    return NULL;
}

static bool sans_add(const device_options_t *options, const device_t *device, X509_EXTENSIONS **extensions)
{
    GENERAL_NAMES *names = GENERAL_NAMES_new();
    bool ok = names != NULL;
    for (int i = 0; ok && i < options->sans->nelts; i++) {
        const char *text = APR_ARRAY_IDX(options->sans, i, const char *);
        GENERAL_NAME *name = general_name(sim_number_in(text, device->number, device->pool));
        ok = name && sk_GENERAL_NAME_push(names, name) > 0;
        if (!ok)
            device_fail("--san wants dns:, email:, uri:, ip: or upn:, not '%s'", text);
    }
    if (ok && options->sans->nelts)
        ok = X509V3_add1_i2d(extensions, NID_subject_alt_name, names, 0, 0) == 1;
    GENERAL_NAMES_free(names);
    return ok;
}

static bool extension_push(X509_EXTENSIONS **extensions, int nid, const char *value)
{
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, nid, value);
    bool ok = extension && X509v3_add_ext(extensions, extension, -1);
    X509_EXTENSION_free(extension);
    return ok || device_fail("extension value '%s' is not understood", value);
}

/* Microsoft's security identifier, as a device would smuggle it in to be somebody else. */
static bool sid_push(X509_EXTENSIONS **extensions)
{
    static const char sid[] = "S-1-5-21-3623811015-3361044348-30300820-500";
    GENERAL_NAMES *names = GENERAL_NAMES_new();
    GENERAL_NAME *name = GENERAL_NAME_new();
    ASN1_OCTET_STRING *octets = ASN1_OCTET_STRING_new();
    ASN1_TYPE *value = ASN1_TYPE_new();
    unsigned char *der = NULL;
    ASN1_OCTET_STRING_set(octets, (const unsigned char *)sid, (int)strlen(sid));
    ASN1_TYPE_set(value, V_ASN1_OCTET_STRING, octets);
    GENERAL_NAME_set0_othername(name, OBJ_txt2obj(OID_SID ".1", 1), value);
    sk_GENERAL_NAME_push(names, name);
    int len = i2d_GENERAL_NAMES(names, &der);
    ASN1_OCTET_STRING *body = ASN1_OCTET_STRING_new();
    ASN1_OCTET_STRING_set(body, der, len);
    ASN1_OBJECT *oid = OBJ_txt2obj(OID_SID, 1);
    X509_EXTENSION *extension = X509_EXTENSION_create_by_OBJ(NULL, oid, 0, body);
    bool ok = extension && X509v3_add_ext(extensions, extension, -1);
    X509_EXTENSION_free(extension);
    ASN1_OBJECT_free(oid);
    ASN1_OCTET_STRING_free(body);
    OPENSSL_free(der);
    GENERAL_NAMES_free(names);
    return ok;
}

/* What Intune is shown in one place, and the CA might read in the other. */
static bool other_name_add(const device_options_t *options, X509_REQ *req, X509_EXTENSIONS **extensions)
{
    X509_EXTENSIONS *second = NULL;
    bool lists = device_breaks(options, "two-extension-lists");
    if (!lists && !device_breaks(options, "extension-twice"))
        return true;
    bool ok = extension_push(extensions, NID_subject_alt_name, "DNS:device.example") &&
              extension_push(lists ? &second : extensions, NID_subject_alt_name, "DNS:other.example");
    if (ok && lists)
        ok = X509_REQ_add_extensions_nid(req, second, NID_ms_ext_req) == 1;
    sk_X509_EXTENSION_pop_free(second, X509_EXTENSION_free);
    return ok;
}

static bool extensions_add(const device_options_t *options, const device_t *device, X509_REQ *req)
{
    X509_EXTENSIONS *extensions = NULL;
    bool ok = sans_add(options, device, &extensions);
    if (ok && options->key_usage)
        ok = extension_push(&extensions, NID_key_usage, options->key_usage);
    if (ok && options->eku)
        ok = extension_push(&extensions, NID_ext_key_usage, options->eku);
    if (ok && device_breaks(options, "sid"))
        ok = sid_push(&extensions);
    ok = ok && other_name_add(options, req, &extensions);
    if (ok && extensions)
        ok = X509_REQ_add_extensions(req, extensions) == 1;
    sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
    return ok;
}

static int challenge_type(const device_options_t *options, const char *text)
{
    if (options->challenge_type)
        return strcmp(options->challenge_type, "utf8") == 0 ? V_ASN1_UTF8STRING : V_ASN1_PRINTABLESTRING;
    for (; *text; text++) {
        if (!apr_isalnum(*text) && !strchr(" '()+,-./:=?", *text))
            return V_ASN1_UTF8STRING;
    }
    return V_ASN1_PRINTABLESTRING;
}

/* The string type and the length are given, so that no size limit of OpenSSL's string table applies. */
static X509_ATTRIBUTE *challenge_make(const device_options_t *options, const char *oid, const char *text)
{
    X509_ATTRIBUTE *attribute = NULL;
    ASN1_OBJECT *object = OBJ_txt2obj(oid, 1);
    if (object)
        X509_ATTRIBUTE_create_by_OBJ(&attribute, object, challenge_type(options, text), text, (int)strlen(text));
    ASN1_OBJECT_free(object);
    return attribute;
}

static const char *challenge_of(const device_options_t *options, int number)
{
    if (device_breaks(options, "no-challenge"))
        return NULL;
    if (options->challenges && number < options->challenges->nelts)
        return APR_ARRAY_IDX(options->challenges, number, const char *);
    if (!options->challenge && (device_breaks(options, "two-challenges") || device_breaks(options, "two-values")))
        return "one";
    return options->challenge;
}

static bool challenges_add(const device_options_t *options, int number, X509_REQ *req)
{
    const char *text = challenge_of(options, number);
    if (!text)
        return true;
    X509_ATTRIBUTE *attribute = challenge_make(options, "1.2.840.113549.1.9.7", text);
    if (attribute && device_breaks(options, "two-values"))
        X509_ATTRIBUTE_set1_data(attribute, V_ASN1_PRINTABLESTRING, "two", 3);
    bool ok = attribute && X509_REQ_add1_attr(req, attribute) == 1;
    X509_ATTRIBUTE_free(attribute);
    if (!ok || !device_breaks(options, "two-challenges"))
        return ok;
    attribute = challenge_make(options, OID_PLACEHOLDER, "two");
    ok = attribute && X509_REQ_add1_attr(req, attribute) == 1;
    X509_ATTRIBUTE_free(attribute);
    X509_ATTRIBUTE *last = X509_REQ_get_attr(req, X509_REQ_get_attr_count(req) - 1);
    return ok && X509_ATTRIBUTE_set1_object(last, OBJ_nid2obj(NID_pkcs9_challengePassword)) == 1;
}

static bool csr_sign(device_options_t *options, device_t *device, X509_REQ *req)
{
    X509_NAME *name = X509_REQ_get_subject_name(req);
    EVP_PKEY *key = device_breaks(options, "csr-key") ? device_other_key(options) : device->key;
    return key && subject_parse(name, sim_number_in(options->subject, device->number, device->pool), device->pool) &&
           X509_REQ_set_version(req, X509_REQ_VERSION_1) && X509_REQ_set_pubkey(req, key) &&
           challenges_add(options, device->number, req) && extensions_add(options, device, req) &&
           X509_REQ_sign(req, key, EVP_sha256()) > 0;
}

bool device_csr_make(device_options_t *options, device_t *device)
{
    static const char garbage[] = "this is not a PKCS #10";
    unsigned char *der = NULL;
    int len = 0;
    if (!device->csr.data)
        device->csr = options->csr_read;
    if (device->csr.data)
        return true;
    if (device_breaks(options, "not-a-csr")) {
        device->csr = sim_bytes(garbage, strlen(garbage), device->pool);
        return true;
    }
    X509_REQ *req = X509_REQ_new_ex(options->libctx, NULL);
    if (req && csr_sign(options, device, req))
        len = i2d_X509_REQ(req, &der);
    X509_REQ_free(req);
    if (len <= 0)
        return device_fail("no CSR: %s", sim_openssl_error(device->pool));
    device->csr = sim_bytes(der, (apr_size_t)len, device->pool);
    OPENSSL_free(der);
    if (device_breaks(options, "csr-signature"))
        device->csr.data[device->csr.len - 1] ^= 0x01;
    return true;
}
