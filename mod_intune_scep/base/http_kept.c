/* SPDX-License-Identifier: Apache-2.0 */
/* Connections that are kept from call to call, and nothing that nobody asked for on them. */
#include "base/http_internal.h"

#include <openssl/ssl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SOCKETS_MAX = 32, POLL_MAX = 1000 /* milliseconds between two looks at whether the client was stopped */ };

struct http_kept_t {
    CURLM *multi;
    int sockets[SOCKETS_MAX];
    int count;
    bool overflowed; /* there are more than these */
    bool unread;     /* TLS has read more than curl took */
};

/* What a transfer has left open. Of what it only tried (IPv6 beside IPv4) libcurl does not tell that it is closed. */
static void remember(http_kept_t *kept, CURL *handle)
{
    curl_socket_t fd = CURL_SOCKET_BAD;
    int i;

    if (curl_easy_getinfo(handle, CURLINFO_ACTIVESOCKET, &fd) != CURLE_OK || fd == CURL_SOCKET_BAD)
        return;
    for (i = 0; i < kept->count && kept->sockets[i] != fd; i++)
        ;
    if (i == SOCKETS_MAX)
        kept->overflowed = true;
    else if (i == kept->count)
        kept->sockets[kept->count++] = fd;
}

static int on_close(void *baton, curl_socket_t fd)
{
    http_kept_t *kept = baton;
    int i;

    for (i = 0; i < kept->count; i++) {
        if (kept->sockets[i] == fd) {
            kept->sockets[i] = kept->sockets[--kept->count];
            break;
        }
    }
    return close(fd);
}

http_kept_t *http_kept_make(void)
{
    http_kept_t *kept = calloc(1, sizeof(*kept));

    if (kept && !(kept->multi = curl_multi_init())) {
        free(kept);
        kept = NULL;
    }
    return kept;
}

void http_kept_free(http_kept_t *kept)
{
    if (kept)
        curl_multi_cleanup(kept->multi);
    free(kept);
}

bool http_kept_is_silent(const http_kept_t *kept)
{
    bool silent = !kept->overflowed && !kept->unread;
    char byte;
    int i;

    for (i = 0; i < kept->count && silent; i++)
        silent = recv(kept->sockets[i], &byte, 1, MSG_PEEK | MSG_DONTWAIT) <= 0;
    return silent;
}

void http_kept_look(http_kept_t *kept, CURL *handle)
{
    const struct curl_tlssessioninfo *tls = NULL;

    /* Of a record, libcurl takes what belongs to the answer; the rest is in no socket any more. */
    if (curl_easy_getinfo(handle, CURLINFO_TLS_SSL_PTR, &tls) == CURLE_OK && tls && tls->internals &&
        tls->backend == CURLSSLBACKEND_OPENSSL)
        kept->unread = SSL_has_pending(tls->internals);
}

/* As curl_easy_perform() does it. */
CURLcode http_kept_transfer(http_kept_t *kept, CURL *handle)
{
    CURLcode code = CURLE_FAILED_INIT;
    CURLMcode multi = CURLM_OK;
    int running = 1;
    int left = 0;

    kept->unread = false;
    /* A connection that is opened now has this function until it is closed. */
    if (curl_easy_setopt(handle, CURLOPT_CLOSESOCKETFUNCTION, on_close) != CURLE_OK ||
        curl_easy_setopt(handle, CURLOPT_CLOSESOCKETDATA, kept) != CURLE_OK ||
        curl_multi_add_handle(kept->multi, handle) != CURLM_OK)
        return code;
    while (multi == CURLM_OK && running) {
        multi = curl_multi_perform(kept->multi, &running);
        if (multi == CURLM_OK && running)
            multi = curl_multi_poll(kept->multi, NULL, 0, POLL_MAX, NULL);
    }
    const CURLMsg *message = multi == CURLM_OK ? curl_multi_info_read(kept->multi, &left) : NULL;
    if (message && message->msg == CURLMSG_DONE)
        code = message->data.result;
    remember(kept, handle);
    curl_multi_remove_handle(kept->multi, handle);
    return code;
}
