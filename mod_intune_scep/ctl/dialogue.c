/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/dialogue.h"

#include "base/clock.h"
#include "base/text.h"

#include <apr_cstr.h>
#include <apr_escape.h>
#include <apr_strings.h>
#include <apr_uri.h>

enum { ANSWER_MAX = 1024 * 1024, BODY_SHOWN = 160 };

bool dialogue_url_is_good(const char *url, apr_pool_t *pool)
{
    apr_uri_t uri;
    bool good = !apr_uri_parse(pool, url, &uri) && uri.scheme && uri.hostname && *uri.hostname && !uri.user &&
                !uri.password && !uri.query && !uri.fragment &&
                (!apr_cstr_casecmp(uri.scheme, "http") || !apr_cstr_casecmp(uri.scheme, "https"));
    for (const char *at = url; good && *at; at++) {
        good = (unsigned char)*at > 0x20 && (unsigned char)*at < 0x7f;
    }
    return good;
}

dialogue_t *dialogue_make(const char *url, const http_settings_t *tls, apr_interval_time_t limit, apr_pool_t *pool,
                          const char **message)
{
    http_settings_t settings = {.proxy = ""};
    dialogue_t *dialogue = apr_pcalloc(pool, sizeof(*dialogue));
    if (tls) {
        settings.ca_file = tls->ca_file;
        settings.client_certificate = tls->client_certificate;
    }
    settings.max_handles = 1;
    if (http_global_init() || http_client_make(&dialogue->client, &settings, pool, message)) {
        *message = *message ? *message : "libcurl cannot be used";
        return NULL;
    }
    dialogue->pool = pool;
    dialogue->url = url;
    dialogue->agent = "intune-scepctl/" ISCEP_VERSION;
    dialogue->limit = limit;
    return dialogue;
}

static apr_status_t call(const dialogue_t *dialogue, http_request_t *request, http_answer_t *answer)
{
    request->user_agent = dialogue->agent;
    request->deadline = clock_now() + dialogue->limit;
    request->max_answer = ANSWER_MAX;
    return http_client_call(dialogue->client, request, answer, dialogue->pool);
}

apr_status_t dialogue_ask(const dialogue_t *dialogue, const char *operation, http_answer_t *answer)
{
    http_request_t request = {0};
    request.url = apr_pstrcat(dialogue->pool, dialogue->url, "?operation=", operation,
                              dialogue->hint ? "&message=" : "", dialogue->hint, NULL);
    return call(dialogue, &request, answer);
}

apr_status_t dialogue_send(const dialogue_t *dialogue, bytes_t message, http_answer_t *answer)
{
    static const char *const HEADERS[] = {"Content-Type: " SCEP_TYPE_MESSAGE, NULL};
    http_request_t request = {0};
    request.url = apr_pstrcat(dialogue->pool, dialogue->url, "?operation=PKIOperation", NULL);
    if (dialogue->get) {
        const char *text = text_base64(dialogue->pool, message);
        request.url =
            apr_pstrcat(dialogue->pool, request.url,
                        "&message=", dialogue->raw ? text : apr_pescape_urlencoded(dialogue->pool, text), NULL);
    } else {
        request.headers = HEADERS;
        request.body = (const char *)message.data;
        request.body_length = message.len;
    }
    return call(dialogue, &request, answer);
}

const char *dialogue_trouble(const http_answer_t *answer, apr_pool_t *pool)
{
    if (answer->failure != HTTP_OK) {
        return apr_psprintf(pool, "%s (%s)", http_failure_name(answer->failure),
                            answer->failure_text ? answer->failure_text : "no reason given");
    }
    if (answer->status == 200) {
        return NULL;
    }
    return apr_psprintf(pool, "HTTP %d, Content-Type \"%s\", \"%s\"", answer->status, answer->content_type,
                        text_escape_bytes(pool, answer->body, BODY_SHOWN));
}

const char *dialogue_remedy(const http_answer_t *answer)
{
    switch (answer->failure) {
    case HTTP_OK:
        return answer->status == 404 ? "the URL's path is not the server's SCEP service" : "see the server's log";
    case HTTP_FAILED_RESOLVE:
        return "see the host's name in the URL, and the name servers";
    case HTTP_FAILED_CONNECT:
        return "see whether the server runs, the URL's host and port, and the firewall";
    case HTTP_FAILED_TIMEOUT:
        return "see why the server is slow, and the firewall";
    case HTTP_FAILED_UNTRUSTED:
        return "name the CAs to trust (SSLProxyCACertificateFile in the configuration, --trust here), and see the "
               "host's name in the URL";
    case HTTP_FAILED_CLIENT_CERTIFICATE:
        return "present a certificate that the server accepts (SSLProxyMachineCertificateFile in the configuration, "
               "--client here)";
    default:
        return "";
    }
}

const char *dialogue_capabilities(unsigned set, apr_pool_t *pool)
{
    static const struct {
        unsigned bit;
        const char *name;
    } NAMES[] = {{SCEP_CAP_AES, "AES"},
                 {SCEP_CAP_DES3, "DES3"},
                 {SCEP_CAP_SHA1, "SHA-1"},
                 {SCEP_CAP_SHA256, "SHA-256"},
                 {SCEP_CAP_SHA512, "SHA-512"},
                 {SCEP_CAP_POST, "POSTPKIOperation"},
                 {SCEP_CAP_RENEWAL, "Renewal"},
                 {SCEP_CAP_STANDARD, "SCEPStandard"},
                 {SCEP_CAP_NEXT_CA, "GetNextCACert"}};
    const char *text = "";
    for (size_t i = 0; i < sizeof(NAMES) / sizeof(NAMES[0]); i++) {
        if (set & NAMES[i].bit) {
            text = apr_pstrcat(pool, text, *text ? ", " : "", NAMES[i].name, NULL);
        }
    }
    return *text ? text : "none";
}
