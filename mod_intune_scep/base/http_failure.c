/* SPDX-License-Identifier: Apache-2.0 */
/* From curl's codes and words to the few failures that make a difference, and what helps against each. */
#include "base/http_internal.h"

#include <apr_strings.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

typedef struct failure_facts_t {
    const char *name;
    const char *remedy;
} failure_facts_t;

static const failure_facts_t facts[] = {
    [HTTP_OK] = {"ok", ""},
    [HTTP_FAILED_RESOLVE] = {"name not resolved",
                             "see the name servers, or IntuneScepHTTPProxy where only a proxy leads to Microsoft"},
    [HTTP_FAILED_CONNECT] = {"connection refused",
                             "see the firewall, or IntuneScepHTTPProxy where only a proxy leads to Microsoft"},
    [HTTP_FAILED_TLS] = {"TLS failed",
                         "TLS 1.2 or newer is needed; where a client certificate is, see IntuneScepTLSCertificate"},
    [HTTP_FAILED_UNTRUSTED] = {"certificate not accepted",
                               "see IntuneScepTLSCAFile, the host's name in the URL, and the clock"},
    [HTTP_FAILED_CLIENT_CERTIFICATE] = {"client certificate refused or missing", "see IntuneScepTLSCertificate"},
    [HTTP_FAILED_TIMEOUT] = {"timed out", ""},
    [HTTP_FAILED_DROPPED] = {"connection dropped", ""},
    [HTTP_FAILED_TOO_LARGE] = {"answer too large", ""},
    [HTTP_FAILED_PROXY] = {"proxy failed", "see IntuneScepHTTPProxy, or https_proxy in the server's environment"},
    [HTTP_FAILED_PROXY_PASSWORD] = {"proxy refused us", "see IntuneScepHTTPProxyUser and IntuneScepHTTPProxyPassword"},
    [HTTP_FAILED_STOPPED] = {"stopped", ""},
    [HTTP_FAILED_INTERNAL] = {"internal error", ""},
};

static const failure_facts_t *facts_of(http_failure_t failure)
{
    static const failure_facts_t unknown = {"unknown failure", ""};

    return (unsigned)failure < sizeof(facts) / sizeof(facts[0]) && facts[failure].name ? &facts[failure] : &unknown;
}

const char *http_failure_name(http_failure_t failure)
{
    return facts_of(failure)->name;
}

const char *http_failure_remedy(http_failure_t failure)
{
    return facts_of(failure)->remedy;
}

static http_failure_t failure_of_code(CURLcode code)
{
    static const struct {
        CURLcode code;
        http_failure_t failure;
    } table[] = {
        {CURLE_OK, HTTP_OK},
        {CURLE_COULDNT_RESOLVE_HOST, HTTP_FAILED_RESOLVE},
        {CURLE_COULDNT_CONNECT, HTTP_FAILED_CONNECT},
        {CURLE_OPERATION_TIMEDOUT, HTTP_FAILED_TIMEOUT},
        {CURLE_SSL_CONNECT_ERROR, HTTP_FAILED_TLS},
        {CURLE_SSL_CIPHER, HTTP_FAILED_TLS},
        {CURLE_USE_SSL_FAILED, HTTP_FAILED_TLS},
        {CURLE_PEER_FAILED_VERIFICATION, HTTP_FAILED_UNTRUSTED},
        {CURLE_SSL_CACERT_BADFILE, HTTP_FAILED_UNTRUSTED},
        {CURLE_SSL_ISSUER_ERROR, HTTP_FAILED_UNTRUSTED},
        {CURLE_SSL_CRL_BADFILE, HTTP_FAILED_UNTRUSTED},
        {CURLE_SSL_INVALIDCERTSTATUS, HTTP_FAILED_UNTRUSTED},
        {CURLE_SSL_CERTPROBLEM, HTTP_FAILED_CLIENT_CERTIFICATE},
#if LIBCURL_VERSION_NUM >= 0x074d00
        {CURLE_SSL_CLIENTCERT, HTTP_FAILED_CLIENT_CERTIFICATE},
#endif
        {CURLE_GOT_NOTHING, HTTP_FAILED_DROPPED},
        {CURLE_RECV_ERROR, HTTP_FAILED_DROPPED},
        {CURLE_SEND_ERROR, HTTP_FAILED_DROPPED},
        {CURLE_PARTIAL_FILE, HTTP_FAILED_DROPPED},
        {CURLE_WEIRD_SERVER_REPLY, HTTP_FAILED_DROPPED},
        {CURLE_BAD_CONTENT_ENCODING, HTTP_FAILED_DROPPED},
        {CURLE_WRITE_ERROR, HTTP_FAILED_DROPPED},
        {CURLE_COULDNT_RESOLVE_PROXY, HTTP_FAILED_PROXY},
        {CURLE_PROXY, HTTP_FAILED_PROXY},
        {CURLE_FILESIZE_EXCEEDED, HTTP_FAILED_TOO_LARGE},
#if LIBCURL_VERSION_NUM >= 0x080600
        {CURLE_TOO_LARGE, HTTP_FAILED_TOO_LARGE},
#endif
        {CURLE_ABORTED_BY_CALLBACK, HTTP_FAILED_STOPPED},
    };
    size_t i;

    for (i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        if (table[i].code == code)
            return table[i].failure;
    }
    return HTTP_FAILED_INTERNAL;
}

/*
 * The server's alert about our certificate, or about its absence. With TLS 1.3 it comes after the handshake, and then
 * curl takes it for a failure to read: only the words tell.
 */
static bool certificate_was_refused(const char *words)
{
    static const char *const alerts[] = {"alert certificate", "alert bad certificate", "alert unsupported certificate",
                                         "alert unknown ca"};
    size_t i;

    for (i = 0; i < sizeof(alerts) / sizeof(alerts[0]); i++) {
        if (strstr(words, alerts[i]))
            return true;
    }
    return false;
}

/* The connection went away during the handshake, and nobody said that anything was wrong with it. */
static bool handshake_was_dropped(CURLcode code, const char *words)
{
    static const char *const ends[] = {"Connection reset", "SSL_ERROR_SYSCALL", "unexpected eof"};
    size_t i;

    for (i = 0; code == CURLE_SSL_CONNECT_ERROR && i < sizeof(ends) / sizeof(ends[0]); i++) {
        if (strstr(words, ends[i]))
            return true;
    }
    return false;
}

/* "Failed to connect to HOST port PORT": those of the proxy, where there is one. */
static bool words_name_server(const char *words, const char *url)
{
    char place[300];
    char *host = NULL, *port = NULL;
    bool named = true;
    CURLU *parts = curl_url();

    if (parts && curl_url_set(parts, CURLUPART_URL, url, 0) == CURLUE_OK &&
        curl_url_get(parts, CURLUPART_HOST, &host, 0) == CURLUE_OK &&
        curl_url_get(parts, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) == CURLUE_OK) {
        size_t len = strlen(host);
        bool bracketed = len > 2 && host[0] == '[' && host[len - 1] == ']';

        snprintf(place, sizeof(place), " %.*s port %s ", (int)(bracketed ? len - 2 : len), bracketed ? host + 1 : host,
                 port);
        named = strstr(words, place) != NULL;
    }
    curl_free(host);
    curl_free(port);
    curl_url_cleanup(parts);
    return named;
}

static bool proxy_was_used(CURL *handle, const char *words, const char *url, const char *proxy)
{
    if (proxy)
        return *proxy != '\0';
#if LIBCURL_VERSION_NUM >= 0x080700
    long used = 0;

    (void)words;
    (void)url;
    return curl_easy_getinfo(handle, CURLINFO_USED_PROXY, &used) == CURLE_OK && used;
#else
    (void)handle;
    return !words_name_server(words, url);
#endif
}

const char *http_failure_words(const char *words)
{
    return strncmp(words, "Unsupported proxy", 17)
               ? words
               : "the proxy is no URL that can be used; in its password / # @ : % must be written as %2F %23 %40 %3A %25";
}

http_failure_t http_failure_of(CURL *handle, CURLcode code, const char *words, const char *url, const char *proxy)
{
    http_failure_t failure = failure_of_code(code);
    long tunnel = 0, status = 0;
    curl_off_t sent_after = 0;

    /* Only a proxy asks that (RFC 9110 section 15.5.8): one without a tunnel, asked for an http:// URL. */
    curl_easy_getinfo(handle, CURLINFO_RESPONSE_CODE, &status);
    if (failure == HTTP_OK && status == 407)
        return HTTP_FAILED_PROXY_PASSWORD;
    /* curl takes "HTTP/1.1 000" for an answer, and "HTTP/2" with a row of digits for one of status -1. */
    if (failure == HTTP_OK && (status < 100 || status > 999))
        return HTTP_FAILED_DROPPED;
    if (failure == HTTP_OK || failure == HTTP_FAILED_STOPPED || failure == HTTP_FAILED_TIMEOUT)
        return failure;
    curl_easy_getinfo(handle, CURLINFO_HTTP_CONNECTCODE, &tunnel);
    curl_easy_getinfo(handle, CURLINFO_PRETRANSFER_TIME_T, &sent_after);
    /* The standard's answer, and what some (tinyproxy) say to a wrong password. */
    if (tunnel == 407 || tunnel == 401)
        return HTTP_FAILED_PROXY_PASSWORD;
    /* The proxy would not open the tunnel, or is itself out of reach: that says nothing of the server behind it. */
    if (tunnel >= 300 || !strncmp(words, "Proxy CONNECT", 13) ||
        (failure == HTTP_FAILED_CONNECT && proxy_was_used(handle, words, url, proxy)))
        return HTTP_FAILED_PROXY;
    if ((failure == HTTP_FAILED_DROPPED || failure == HTTP_FAILED_TLS) && certificate_was_refused(words))
        return HTTP_FAILED_CLIENT_CERTIFICATE;
    if (handshake_was_dropped(code, words))
        return HTTP_FAILED_DROPPED;
    /* curl's words for an answer that is not HTTP, or whose headers begin in the middle, are those for mistakes of ours. */
    if ((code == CURLE_UNSUPPORTED_PROTOCOL || code == CURLE_BAD_FUNCTION_ARGUMENT) && sent_after > 0)
        return HTTP_FAILED_DROPPED;
    /* Before 8.6 those for a header line of more than 100 KiB are "out of memory". */
    if (code == CURLE_OUT_OF_MEMORY && sent_after > 0)
        return HTTP_FAILED_TOO_LARGE;
    return failure;
}

int http_failure_tunnel(CURL *handle)
{
    long status = 0;

    curl_easy_getinfo(handle, CURLINFO_HTTP_CONNECTCODE, &status);
    return (int)status;
}

void http_failure_late(CURL *handle, const http_settings_t *settings, http_answer_t *answer, apr_pool_t *pool)
{
    curl_off_t resolved = 0, connected = 0, sent = 0;
    bool proxy = settings->proxy && *settings->proxy;

    curl_easy_getinfo(handle, CURLINFO_NAMELOOKUP_TIME_T, &resolved);
    curl_easy_getinfo(handle, CURLINFO_CONNECT_TIME_T, &connected);
    curl_easy_getinfo(handle, CURLINFO_PRETRANSFER_TIME_T, &sent);
    /* The name was resolved, and then nobody answered; through a proxy it may be the proxy. */
    answer->unconnected = resolved > 0 && connected == 0 && sent == 0 && !proxy;
    if (proxy && sent == 0 && http_failure_tunnel(handle) / 100 != 2)
        answer->failure_text =
            apr_pstrcat(pool, answer->failure_text, ", waiting for the proxy; see IntuneScepHTTPProxy", NULL);
}
