/* SPDX-License-Identifier: Apache-2.0 */
#include "crl.h"

#include "base/clock.h"
#include "base/heap_root.h"
#include "base/text.h"
#include "parts.h"

#include <apr_file_io.h>
#include <apr_strings.h>
#include <apr_thread_mutex.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <time.h>

/* Large CAs have lists of several megabytes. */
enum { FILE_MAX = 64 * 1024 * 1024 };
/* How far the clock of the CA may be ahead of ours. */
#define CA_CLOCK_AHEAD apr_time_from_sec(5 * 60)

struct scep_crls_t {
    const scep_engine_t *engine;
    STACK_OF(X509) * chain;
    const char *path;
    apr_thread_mutex_t *mutex;
    /* Under the mutex: */
    STACK_OF(X509_CRL) * lists;
    apr_finfo_t seen; /* the file when it was last tried */
    char *wrong;      /* why that try failed; NULL when it did not */
};

static void lists_free(STACK_OF(X509_CRL) * lists)
{
    sk_X509_CRL_pop_free(lists, X509_CRL_free);
}

static apr_status_t crls_end(void *data)
{
    scep_crls_t *crls = data;

    heap_root_remove(crls);
    lists_free(crls->lists);
    OPENSSL_free(crls->wrong);
    return APR_SUCCESS;
}

static bool same_file(const apr_finfo_t *a, const apr_finfo_t *b)
{
    return a->mtime == b->mtime && a->size == b->size && a->inode == b->inode;
}

static bool list_read_der(STACK_OF(X509_CRL) * lists, const scep_engine_t *engine, bytes_t data)
{
    const unsigned char *at = data.data;
    X509_CRL *list = X509_CRL_new_ex(engine->reading, NULL);

    if (list && d2i_X509_CRL(&list, &at, (long)data.len) && at == data.data + data.len &&
        sk_X509_CRL_push(lists, list) > 0) {
        return true;
    }
    X509_CRL_free(list);
    return false;
}

static bool lists_read_pem(STACK_OF(X509_CRL) * lists, const scep_engine_t *engine, bytes_t data)
{
    BIO *bio = BIO_new_mem_buf(data.data, (int)data.len);
    bool good = bio != NULL;

    while (good) {
        char *name = NULL;
        char *header = NULL;
        unsigned char *der = NULL;
        long len = 0;

        if (!PEM_read_bio(bio, &name, &header, &der, &len)) {
            good = sk_X509_CRL_num(lists) > 0 && ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
            break;
        }
        if (strcmp(name, PEM_STRING_X509_CRL) == 0) {
            good = list_read_der(lists, engine, (bytes_t){der, (apr_size_t)len});
        }
        OPENSSL_free(name);
        OPENSSL_free(header);
        OPENSSL_free(der);
    }
    BIO_free(bio);
    return good;
}

const char *scep_crl_signature_check(X509_CRL *list, STACK_OF(X509) * chain)
{
    const char *why = "is of an issuer that is not in the configured chain";
    bool good = false;
    int i = 0;

    /* A CA that has changed its key is in the chain twice, by one name. */
    for (i = 0; !good && i < sk_X509_num(chain); i++) {
        X509 *issuer = sk_X509_value(chain, i);

        if (X509_NAME_cmp(X509_get_subject_name(issuer), X509_CRL_get_issuer(list)) != 0) {
            continue;
        }
        if (X509_CRL_verify(list, X509_get0_pubkey(issuer)) != 1) {
            why = "is not signed by the configured chain";
        } else if (!(X509_get_key_usage(issuer) & KU_CRL_SIGN)) {
            why = "is of a CA whose key usage does not allow it to sign revocation lists";
        } else {
            X509_CRL_set_meth_data(list, issuer);
            good = true;
        }
    }
    ERR_clear_error();
    return good ? NULL : why;
}

/* The certificate of the CA that signed it, as the check above has found it. OpenSSL keeps this pointer for its caller. */
static X509 *signer_of(X509_CRL *list)
{
    return X509_CRL_get_meth_data(list);
}

/* RFC 5280 section 5.3. OpenSSL passes over the entries of another issuer, and the reasons behind a broken one. */
static const char *entry_check(const X509_REVOKED *entry)
{
    ASN1_ENUMERATED *reason = NULL;
    int i = 0;

    for (i = 0; i < X509_REVOKED_get_ext_count(entry); i++) {
        X509_EXTENSION *extension = X509_REVOKED_get_ext(entry, i);

        if (OBJ_obj2nid(X509_EXTENSION_get_object(extension)) == NID_certificate_issuer) {
            return "has an entry of another issuer without being indirect";
        }
        if (X509_EXTENSION_get_critical(extension)) {
            return "has an entry with a critical extension that is not understood";
        }
    }
    reason = X509_REVOKED_get_ext_d2i(entry, NID_crl_reason, &i, NULL);
    if (!reason && i != -1) {
        return "has an entry with a reason that cannot be read";
    }
    ASN1_ENUMERATED_free(reason);
    return NULL;
}

static const char *entries_check(X509_CRL *list)
{
    STACK_OF(X509_REVOKED) *entries = X509_CRL_get_REVOKED(list);
    const char *why = NULL;
    int i = 0;

    for (i = 0; !why && i < sk_X509_REVOKED_num(entries); i++) {
        why = entry_check(sk_X509_REVOKED_value(entries, i));
    }
    ERR_clear_error();
    return why;
}

/* A list from which "not in it" must not be concluded to mean "not revoked". */
static const char *list_scope_check(X509_CRL *list)
{
    ISSUING_DIST_POINT *point = NULL;
    const char *why = NULL;
    int i = 0;

    for (i = 0; i < X509_CRL_get_ext_count(list); i++) {
        X509_EXTENSION *extension = X509_CRL_get_ext(list, i);

        int nid = OBJ_obj2nid(X509_EXTENSION_get_object(extension));

        if (nid == NID_delta_crl || (X509_EXTENSION_get_critical(extension) && nid != NID_issuing_distribution_point)) {
            return "has a critical extension that is not understood (a delta list, perhaps)";
        }
    }
    point = X509_CRL_get_ext_d2i(list, NID_issuing_distribution_point, &i, NULL);
    if (!point) {
        /* -1: there is none. */
        why = i == -1 ? NULL : "has an issuingDistributionPoint that cannot be read";
    } else if (point->onlyCA > 0 || point->onlyattr > 0 || point->indirectCRL > 0 || point->onlysomereasons) {
        why = "is indirect, or not for users' certificates and all reasons";
    } else if (point->distpoint && point->distpoint->type != 0) {
        why = "has a distribution point that is named relative to its issuer, which is not understood";
    }
    ISSUING_DIST_POINT_free(point);
    ERR_clear_error();
    return why;
}

static apr_status_t file_read(bytes_t *data, const char *path, apr_pool_t *pool, const char **why)
{
    apr_file_t *file = NULL;
    apr_finfo_t info = {0};
    unsigned char *buffer = NULL;
    apr_status_t status = apr_file_open(&file, path, APR_FOPEN_READ | APR_FOPEN_BINARY, APR_FPROT_OS_DEFAULT, pool);

    if (status == APR_SUCCESS) {
        status = apr_file_info_get(&info, APR_FINFO_SIZE, file);
        if (status == APR_SUCCESS && (info.size == 0 || info.size > FILE_MAX)) {
            *why = apr_psprintf(pool, info.size ? "%s is too large" : "%s is empty", path);
            apr_file_close(file);
            return APR_EGENERAL;
        }
        if (status == APR_SUCCESS) {
            buffer = apr_palloc(pool, (apr_size_t)info.size);
            status = apr_file_read_full(file, buffer, (apr_size_t)info.size, &data->len);
        }
        apr_file_close(file);
    }
    if (status != APR_SUCCESS) {
        *why = apr_psprintf(pool, "%s cannot be read: %pm", path, (void *)&status);
    }
    data->data = buffer;
    return status;
}

/** The lists of the file as it is now; NULL with `why` set. `is_read`: whether it is the file that is wrong. */
static STACK_OF(X509_CRL) * lists_load(const scep_crls_t *crls, apr_pool_t *pool, bool *is_read, const char **why)
{
    STACK_OF(X509_CRL) *lists = sk_X509_CRL_new_null();
    bytes_t data = {NULL, 0};
    bool good = false;
    int i = 0;

    apr_status_t status = lists ? file_read(&data, crls->path, pool, why) : APR_ENOMEM;
    *is_read = status == APR_SUCCESS || status == APR_EGENERAL;
    if (status != APR_SUCCESS || !data.data) {
        *why = lists ? *why : "out of memory";
        goto fail;
    }
    ERR_clear_error();
    good = data.data[0] == 0x30 ? list_read_der(lists, crls->engine, data) : lists_read_pem(lists, crls->engine, data);
    if (!good) {
        *why = apr_psprintf(pool, "%s holds no revocation list, or a broken one: %s", crls->path,
                            scep_engine_errors(pool));
        goto fail;
    }
    for (i = 0; i < sk_X509_CRL_num(lists); i++) {
        X509_CRL *list = sk_X509_CRL_value(lists, i);
        const char *wrong = scep_crl_signature_check(list, crls->chain);

        wrong = wrong ? wrong : list_scope_check(list);
        wrong = wrong ? wrong : entries_check(list);
        if (wrong) {
            *why = apr_psprintf(pool, "%s: the list of \"%s\" %s", crls->path,
                                text_escape(pool, scep_name_print(X509_CRL_get_issuer(list), pool), 200), wrong);
            goto fail;
        }
    }
    return lists;
fail:
    lists_free(lists);
    ERR_clear_error();
    return NULL;
}

apr_status_t scep_crls_make(scep_crls_t **crls, const scep_engine_t *engine, STACK_OF(X509) * chain, const char *path,
                            apr_pool_t *pool, const char **message)
{
    scep_crls_t *made = apr_pcalloc(pool, sizeof(*made));
    bool is_read = false;
    apr_status_t status = apr_stat(&made->seen, path, APR_FINFO_MTIME | APR_FINFO_SIZE | APR_FINFO_INODE, pool);

    *crls = NULL;
    made->engine = engine;
    made->chain = chain;
    made->path = apr_pstrdup(pool, path);
    if (status != APR_SUCCESS) {
        *message = apr_psprintf(pool, "%s cannot be opened: %pm", path, (void *)&status);
        return status;
    }
    status = apr_thread_mutex_create(&made->mutex, APR_THREAD_MUTEX_DEFAULT, pool);
    if (status != APR_SUCCESS) {
        *message = "out of memory";
        return status;
    }
    made->lists = lists_load(made, pool, &is_read, message);
    if (!made->lists) {
        return APR_EGENERAL;
    }
    heap_root_add(made);
    apr_pool_cleanup_register(pool, made, crls_end, apr_pool_cleanup_null);
    *crls = made;
    return APR_SUCCESS;
}

/* A file that is being written, or gone, changes nothing: the old lists hold until they expire. */
static void lists_refresh(scep_crls_t *crls, apr_pool_t *pool)
{
    STACK_OF(X509_CRL) *lists = NULL;
    apr_pool_t *scratch = NULL;
    apr_finfo_t now = {0};
    const char *why = NULL;
    bool is_read = false;

    if (apr_stat(&now, crls->path, APR_FINFO_MTIME | APR_FINFO_SIZE | APR_FINFO_INODE, pool) != APR_SUCCESS ||
        same_file(&now, &crls->seen) || apr_pool_create(&scratch, pool) != APR_SUCCESS) {
        return;
    }
    lists = lists_load(crls, scratch, &is_read, &why);
    OPENSSL_free(crls->wrong);
    crls->wrong = NULL;
    /* What kept it from being read may pass (no descriptor was left): then the next one tries again. */
    if (is_read) {
        crls->seen = now;
    }
    if (lists) {
        lists_free(crls->lists);
        crls->lists = lists;
    } else {
        crls->wrong = OPENSSL_strdup(why);
    }
    apr_pool_destroy(scratch);
}

static bool names_meet(const GENERAL_NAMES *some, const GENERAL_NAMES *others)
{
    int i = 0;
    int j = 0;

    for (i = 0; i < sk_GENERAL_NAME_num(some); i++) {
        for (j = 0; j < sk_GENERAL_NAME_num(others); j++) {
            if (GENERAL_NAME_cmp(sk_GENERAL_NAME_value(some, i), sk_GENERAL_NAME_value(others, j)) == 0) {
                return true;
            }
        }
    }
    return false;
}

/* Whether one of the certificate's distribution points has one of these names. */
static bool is_distributed_at(const X509 *certificate, const GENERAL_NAMES *names)
{
    CRL_DIST_POINTS *points = X509_get_ext_d2i(certificate, NID_crl_distribution_points, NULL, NULL);
    bool found = false;
    int i = 0;

    for (i = 0; points && !found && i < sk_DIST_POINT_num(points); i++) {
        const DIST_POINT_NAME *name = sk_DIST_POINT_value(points, i)->distpoint;

        found = name && name->type == 0 && names_meet(names, name->name.fullname);
    }
    CRL_DIST_POINTS_free(points);
    return found;
}

/*
 * A list with a distribution point may be one of the parts into which a CA divides its certificates: it tells of those
 * that name the same point (RFC 5280 section 6.3.3).
 */
static bool is_of_its_point(const X509_CRL *list, const X509 *certificate)
{
    ISSUING_DIST_POINT *point = X509_CRL_get_ext_d2i(list, NID_issuing_distribution_point, NULL, NULL);
    bool about = !point || !point->distpoint || is_distributed_at(certificate, point->distpoint->name.fullname);

    ISSUING_DIST_POINT_free(point);
    return about;
}

/*
 * A CA that has changed its key may go on with a list of its own for each key (Microsoft's do): one says nothing of what
 * the other key has signed.
 */
static bool is_of_its_key(X509_CRL *list, X509 *certificate)
{
    return X509_verify(certificate, X509_get0_pubkey(signer_of(list))) == 1;
}

static bool is_about(X509_CRL *list, X509 *certificate)
{
    return is_of_its_point(list, certificate) && is_of_its_key(list, certificate);
}

static bool is_before(const ASN1_TIME *time, apr_time_t when)
{
    struct tm tm = {0};

    return !time || !ASN1_TIME_to_tm(time, &tm) || apr_time_from_sec(timegm(&tm)) < when;
}

static bool is_past(const ASN1_TIME *time)
{
    return is_before(time, clock_now());
}

static bool is_of(const X509_CRL *list, const X509_NAME *issuer)
{
    return X509_NAME_cmp(X509_CRL_get_issuer(list), issuer) == 0;
}

/* One that was made in advance knows nothing of what was revoked since. */
static bool has_begun(const X509_CRL *list)
{
    return is_before(X509_CRL_get0_lastUpdate(list), clock_now() + CA_CLOCK_AHEAD);
}

/* The list that has begun last, of those of an issuer, or of those about a certificate where there is one. */
static X509_CRL *list_of(STACK_OF(X509_CRL) * lists, const X509_NAME *issuer, X509 *certificate)
{
    X509_CRL *found = NULL;
    int i = 0;

    for (i = 0; i < sk_X509_CRL_num(lists); i++) {
        X509_CRL *list = sk_X509_CRL_value(lists, i);

        if (is_of(list, issuer) && has_begun(list) && (!certificate || is_about(list, certificate)) &&
            (!found || ASN1_TIME_compare(X509_CRL_get0_lastUpdate(list), X509_CRL_get0_lastUpdate(found)) > 0)) {
            found = list;
        }
    }
    return found;
}

/* What the lists of an issuer lack, none of which counts for a certificate. To stand behind "has no list". */
static const char *lack_of(STACK_OF(X509_CRL) * lists, const X509_NAME *issuer)
{
    int i = 0;

    if (list_of(lists, issuer, NULL)) {
        return " for its distribution point and its issuer's key";
    }
    for (i = 0; i < sk_X509_CRL_num(lists); i++) {
        if (is_of(sk_X509_CRL_value(lists, i), issuer)) {
            return " that has begun yet";
        }
    }
    return "";
}

static scep_revocation_t look_up(const scep_crls_t *crls, X509 *certificate, apr_pool_t *pool, const char **why)
{
    const X509_NAME *issuer = X509_get_issuer_name(certificate);
    X509_CRL *list = list_of(crls->lists, issuer, certificate);
    const char *wrong = crls->wrong ? apr_psprintf(pool, " (and its newest version is refused: %s)", crls->wrong) : "";
    X509_REVOKED *entry = NULL;

    if (!list) {
        *why = apr_psprintf(pool, "%s has no list of the certificate's issuer%s%s", crls->path,
                            lack_of(crls->lists, issuer), wrong);
        return REVOCATION_UNKNOWN;
    }
    /* Without nextUpdate nobody promises a newer one, so that it never expires. */
    if (X509_CRL_get0_nextUpdate(list) && is_past(X509_CRL_get0_nextUpdate(list))) {
        *why = apr_psprintf(pool, "the list in %s has expired%s", crls->path, wrong);
        return REVOCATION_UNKNOWN;
    }
    /* 2 is removeFromCRL: it has been on hold. */
    if (X509_CRL_get0_by_cert(list, &entry, certificate) == 1) {
        *why = "is revoked";
        return REVOCATION_IS;
    }
    return REVOCATION_NONE;
}

scep_revocation_t scep_crls_check(scep_crls_t *crls, X509 *certificate, apr_pool_t *pool, const char **why)
{
    scep_revocation_t found = REVOCATION_UNKNOWN;

    apr_thread_mutex_lock(crls->mutex);
    lists_refresh(crls, pool);
    found = look_up(crls, certificate, pool, why);
    apr_thread_mutex_unlock(crls->mutex);
    ERR_clear_error();
    return found;
}

const char *scep_crls_expired(scep_crls_t *crls, apr_pool_t *pool)
{
    const char *why = NULL;
    int i = 0;

    apr_thread_mutex_lock(crls->mutex);
    for (i = 0; !why && i < sk_X509_CRL_num(crls->lists); i++) {
        X509_CRL *list = sk_X509_CRL_value(crls->lists, i);

        bool expired = X509_CRL_get0_nextUpdate(list) && is_past(X509_CRL_get0_nextUpdate(list));

        /* One for later may lie beside the one that is valid now. */
        if (expired || !list_of(crls->lists, X509_CRL_get_issuer(list), NULL)) {
            why = apr_psprintf(pool, "the list of \"%s\" in %s %s",
                               text_escape(pool, scep_name_print(X509_CRL_get_issuer(list), pool), 200), crls->path,
                               expired ? "has expired" : "has not begun yet");
        }
    }
    apr_thread_mutex_unlock(crls->mutex);
    return why;
}
