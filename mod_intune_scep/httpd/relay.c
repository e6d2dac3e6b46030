/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The CA leg, which mod_proxy owns: an input filter that gives our message as the body, an output filter that takes the
 * CA's answer whole, and hooks for what the filters cannot see.
 *
 * mod_proxy calls its optional hook request_status at the end of every request that reached it, with our output filter
 * still in the chain; log_transaction runs at the end of every request whatsoever.
 */
#include "module.h"

#include "base/clock.h"
#include "base/fault.h"
#include "base/text.h"

#include <apr_strings.h>
#include <dlfcn.h>
#include <http_protocol.h>
#include <http_request.h>
#include <mod_proxy.h>

APLOG_USE_MODULE(intune_scep);

static const char FILTER_IN[] = "INTUNE_SCEP_RELAY_IN";
static const char FILTER_OUT[] = "INTUNE_SCEP_RELAY_OUT";
static const char FILTER_PROBE[] = "INTUNE_SCEP_PROBE_OUT";
static const char FILTER_PASS[] = "INTUNE_SCEP_PASS_OUT";
enum { ANSWER_FACTOR = 4, ANSWER_USUAL = 8192, CAPABILITIES_MAX = 8192 };
/* How long a request waits for another one's GetCACaps. */
static const apr_interval_time_t PROBE_WAIT = apr_time_from_sec(3);
static const apr_interval_time_t PROBE_POLL = apr_time_from_msec(20);

/** The request's own part of a relay, in its request configuration. */
typedef struct relay_t {
    const site_t *site;
    transaction_t *transaction; /**< NULL for GetCACaps */
    apr_time_t until;           /**< without a transaction: when the answer is no longer waited for */
    bytes_t rest;               /**< of the body that the CA has not been given yet */
    unsigned char *answer;
    apr_size_t length;
    apr_size_t room; /**< bytes at `answer` */
    apr_size_t max;  /**< bytes that an answer may have */
    bool broken;     /**< the CA's body ended early, or is too long */
    bool given;      /**< mod_proxy has something of the body */
    bool unsent;     /**< nothing was sent, for it was too late */
    bool gone;       /**< the device went away, which mod_proxy need not know */
    bool replied;
    bool probe; /**< a sub-request of our own: its answer goes to nobody */
} relay_t;

static relay_t *relay_of(const request_rec *r)
{
    return ap_get_module_config(r->request_config, &intune_scep_module);
}

/** Of an answer of the CA's that the device gets as it is. */
typedef struct passage_t {
    const site_t *site;
    apr_time_t until;
    bool ended; /**< and its place given back */
} passage_t;

bool relay_is_ours(const request_rec *r)
{
    return relay_of(r) != NULL;
}

/* The body of the request to the CA. mod_proxy calls several times, also after the end. */
static apr_status_t filter_in(ap_filter_t *f, apr_bucket_brigade *brigade, ap_input_mode_t mode, apr_read_type_e block,
                              apr_off_t wanted)
{
    relay_t *relay = f->ctx;
    (void)block;
    if (mode != AP_MODE_READBYTES && mode != AP_MODE_SPECULATIVE && mode != AP_MODE_EXHAUSTIVE) {
        return APR_ENOTIMPL;
    }
    if (relay->transaction && relay->rest.len == relay->transaction->relay->body.len) {
        /* The claim on the transaction runs out: what is sent now could be sent a second time by somebody else. */
        if (transaction_is_late(relay->transaction)) {
            relay->unsent = true;
            return APR_TIMEUP;
        }
        fault_point("ca-before");
    }
    apr_size_t give = relay->rest.len;
    if (mode != AP_MODE_EXHAUSTIVE && wanted >= 0 && (apr_size_t)wanted < give) {
        give = (apr_size_t)wanted;
    }
    if (give) {
        relay->given = true;
        APR_BRIGADE_INSERT_TAIL(
            brigade, apr_bucket_immortal_create((const char *)relay->rest.data, give, brigade->bucket_alloc));
        if (mode != AP_MODE_SPECULATIVE) {
            relay->rest.data += give;
            relay->rest.len -= give;
        }
    }
    if (!relay->rest.len) {
        APR_BRIGADE_INSERT_TAIL(brigade, apr_bucket_eos_create(brigade->bucket_alloc));
    }
    return APR_SUCCESS;
}

/*
 * Before each attempt of mod_proxy's to reach the CA: it reads the body ahead, and may then spend long with members of a
 * balancer that are away. Who comes so late may be the second with this transaction.
 */
static int before_attempt(proxy_worker **worker, proxy_balancer **balancer, request_rec *r, proxy_server_conf *conf,
                          char **url)
{
    relay_t *relay = relay_of(r);
    (void)worker;
    (void)balancer;
    (void)conf;
    (void)url;
    if (!relay || !relay->transaction || !transaction_is_late(relay->transaction)) {
        return DECLINED;
    }
    relay->unsent = true;
    return HTTP_SERVICE_UNAVAILABLE;
}

/*
 * mod_proxy leaves the rest of the CA's answer where nobody waits for it. But a certificate that is issued must become
 * known, whether or not the device is still there (and over HTTP/2 it ends its request at any time).
 */
static void hide_departure(relay_t *relay, conn_rec *c)
{
    relay->gone = relay->gone || c->aborted;
    c->aborted = 0;
}

static void show_departure(const relay_t *relay, conn_rec *c)
{
    if (relay->gone) {
        c->aborted = 1;
    }
}

/* Passes our reply and the end to what comes after `f`. */
static apr_status_t pass_reply(ap_filter_t *f, request_rec *r, const reply_t *reply)
{
    apr_bucket_brigade *brigade = apr_brigade_create(r->pool, r->connection->bucket_alloc);
    handler_reply_headers(r, reply);
    if (reply->body.len) {
        APR_BRIGADE_INSERT_TAIL(brigade, apr_bucket_pool_create((const char *)reply->body.data, reply->body.len,
                                                                r->pool, r->connection->bucket_alloc));
    }
    APR_BRIGADE_INSERT_TAIL(brigade, apr_bucket_eos_create(r->connection->bucket_alloc));
    return ap_pass_brigade(f, brigade);
}

/* What the CA said of itself, for all to know; nothing, for the reason that the log is told. */
static void keep_silence(const site_t *site, const request_rec *r, const char *why)
{
    profile_backend_capabilities_keep(site->profile, 0);
    ap_log_rerror(APLOG_MARK, APLOG_NOTICE, 0, r,
                  "ISCEP0523: the CA does not tell its capabilities (%s): unless it did before, AES, SHA-256 and POST are "
                  "used, as RFC 8894 demands of every CA; see IntuneScepBackendCapabilities",
                  why);
}

/* A page without one keyword is no answer. */
static void keep_capabilities(const relay_t *relay, request_rec *r, bool answered)
{
    unsigned capabilities = answered ? scep_capabilities_parse((bytes_t){relay->answer, relay->length}) : 0;
    if (capabilities) {
        profile_backend_capabilities_keep(relay->site->profile, capabilities);
    } else {
        keep_silence(relay->site, r,
                     !answered && r->status == HTTP_OK ? "no whole answer"
                                                       : apr_psprintf(r->pool, "HTTP %d", r->status));
    }
}

static void make_capabilities_reply(const relay_t *relay, request_rec *r, bool answered, reply_t *reply)
{
    keep_capabilities(relay, r, answered);
    unsigned capabilities = profile_backend_capabilities(relay->site->profile, NULL, r->pool);
    reply->http_status = HTTP_OK;
    reply->content_type = "text/plain";
    reply->body = bytes_of_text(
        scep_capabilities_print(relay->site->profile->policy.device, capabilities & SCEP_CAP_NEXT_CA, r->pool));
}

/* Which of a balancer's nodes had the request: a poll goes to the same one. */
static void note_node(const relay_t *relay, const request_rec *r)
{
    const char *node = apr_table_get(r->subprocess_env, "BALANCER_WORKER_NAME");
    if (node) {
        relay->transaction->node = node;
    }
}

/*
 * Where the CA tells no length, the end of the connection is that of the body, also when the CA dies at it. Of a part of a
 * message its own beginning tells that it is one; of nothing only this.
 */
static bool is_whole(const relay_t *relay, const request_rec *r)
{
    bool nothing = r->status == HTTP_OK && !relay->length && !apr_table_get(r->headers_out, "Content-Length");
    return !relay->broken && !nothing;
}

/* The CA's answer is here, whole or broken: it is judged and replaced by ours. */
static apr_status_t finish(relay_t *relay, ap_filter_t *f)
{
    request_rec *r = f->r;
    reply_t reply = {0};
    relay->replied = true;
    show_departure(relay, r->connection);
    if (relay->probe) {
        /* The filter stays: what follows must not reach the device's connection either. */
        keep_capabilities(relay, r, r->status == HTTP_OK && !relay->broken);
        return APR_SUCCESS;
    }
    if (relay->transaction) {
        note_node(relay, r);
        transaction_issued(relay->transaction, r->status, (bytes_t){relay->answer, relay->length}, is_whole(relay, r));
        limit_release(relay->site->profile, r->pool);
        reply = relay->transaction->reply;
    } else {
        make_capabilities_reply(relay, r, r->status == HTTP_OK && !relay->broken, &reply);
    }
    ap_filter_t *next = f->next;
    ap_remove_output_filter(f);
    return pass_reply(next, r, &reply);
}

static void keep(relay_t *relay, request_rec *r, const char *data, apr_size_t size)
{
    if (size > relay->max - relay->length) {
        relay->broken = true;
        return;
    }
    if (size > relay->room - relay->length) {
        relay->room = (relay->length + size) * 2;
        unsigned char *larger = apr_palloc(r->pool, relay->room);
        memcpy(larger, relay->answer, relay->length);
        relay->answer = larger;
    }
    memcpy(relay->answer + relay->length, data, size);
    relay->length += size;
}

/* A CA that talks on and on; capabilities that are too long already are not waited for, either. */
static bool is_too_late(const relay_t *relay)
{
    return relay->transaction ? transaction_is_late(relay->transaction) : relay->broken || clock_now() >= relay->until;
}

/* The CA still talks, but nobody waits for its end: the error makes mod_proxy close the connection. */
static apr_status_t give_up(relay_t *relay, ap_filter_t *f)
{
    reply_t reply = {0};
    relay->replied = true;
    show_departure(relay, f->c);
    if (relay->probe) {
        keep_capabilities(relay, f->r, false);
        return APR_TIMEUP;
    }
    if (relay->transaction) {
        note_node(relay, f->r);
        transaction_failed(relay->transaction, PROBLEM_CA_TIMEOUT,
                           "its answer was not whole within IntuneScepBackendTimeout");
        limit_release(relay->site->profile, f->r->pool);
        reply = relay->transaction->reply;
    } else {
        make_capabilities_reply(relay, f->r, false, &reply);
    }
    ap_filter_t *next = f->next;
    ap_remove_output_filter(f);
    pass_reply(next, f->r, &reply);
    return APR_TIMEUP;
}

/* Swallows everything, FLUSH included, until the end: nothing of the CA's goes to the device. */
static apr_status_t filter_out(ap_filter_t *f, apr_bucket_brigade *brigade)
{
    relay_t *relay = f->ctx;
    bool end = false;
    if (!relay->replied) {
        hide_departure(relay, f->c);
    }
    while (!APR_BRIGADE_EMPTY(brigade)) {
        apr_bucket *bucket = APR_BRIGADE_FIRST(brigade);
        const char *data = NULL;
        apr_size_t size = 0;
        if (APR_BUCKET_IS_EOS(bucket)) {
            end = true;
        } else if (AP_BUCKET_IS_ERROR(bucket)) {
            relay->broken = true;
        } else if (!APR_BUCKET_IS_METADATA(bucket)) {
            if (apr_bucket_read(bucket, &data, &size, APR_BLOCK_READ)) {
                relay->broken = true;
            } else {
                keep(relay, f->r, data, size);
            }
        }
        apr_bucket_delete(bucket);
    }
    if (!end && !relay->replied && is_too_late(relay)) {
        return give_up(relay, f);
    }
    return end && !relay->replied ? finish(relay, f) : APR_SUCCESS;
}

/* What mod_proxy's end tells of a CA that gave no answer. */
static problem_t problem_of(const relay_t *relay, const request_rec *r, int status, const char **detail)
{
    if (relay->unsent) {
        *detail = "nothing was sent to it, for there was no time left (IntuneScepBackendTimeout)";
        return PROBLEM_CA_UNREACHABLE;
    }
    if (apr_table_get(r->notes, "proxy_timedout") || status == HTTP_GATEWAY_TIME_OUT) {
        *detail = "nothing came within mod_proxy's time-out";
        return PROBLEM_CA_TIMEOUT;
    }
    /* A CA that answers 503 itself, hidden by ProxyErrorOverride, has left headers. */
    if (status == HTTP_SERVICE_UNAVAILABLE && apr_is_empty_table(r->headers_out)) {
        *detail = "nothing was sent to it";
        return PROBLEM_CA_UNREACHABLE;
    }
    /* Before it reads the body, mod_proxy finds the CA's address. In a GET the message is in the URL instead. */
    if (r->method_number == M_POST && !relay->given) {
        *detail = apr_psprintf(r->pool, "nothing was sent to it; mod_proxy gave HTTP %d, as it does for a name that it "
                                        "cannot resolve: see its own lines", status);
        return PROBLEM_CA_UNREACHABLE;
    }
    if (status == HTTP_BAD_GATEWAY) {
        *detail = "the connection ended before an answer came";
        return PROBLEM_CA_TRUNCATED;
    }
    *detail = apr_psprintf(
        r->pool,
        "mod_proxy gave HTTP %d, as it does for such an answer and for a TLS handshake that failed: see its own lines",
        status);
    return PROBLEM_CA_ERROR;
}

/*
 * The end that the filter did not see. Where the CA ends its body by closing the connection, mod_proxy may be content
 * and still never pass an EOS: what has come is judged then.
 */
static void finish_unseen(relay_t *relay, request_rec *r, int status, reply_t *reply)
{
    bytes_t body = {relay->answer, relay->length};
    if (!relay->transaction) {
        make_capabilities_reply(relay, r, status == OK && r->status == HTTP_OK && !relay->broken, reply);
        return;
    }
    note_node(relay, r);
    if (status == OK) {
        transaction_issued(relay->transaction, r->status, body, is_whole(relay, r));
    } else {
        const char *detail = NULL;
        problem_t problem = problem_of(relay, r, status, &detail);
        transaction_failed(relay->transaction, problem, detail);
    }
    limit_release(relay->site->profile, r->pool);
    *reply = relay->transaction->reply;
}

static int request_status(int *status, request_rec *r)
{
    relay_t *relay = relay_of(r);
    reply_t reply = {0};
    if (!relay) {
        return DECLINED;
    }
    show_departure(relay, r->connection);
    if (!relay->replied && relay->probe) {
        relay->replied = true;
        keep_capabilities(relay, r, false);
    } else if (!relay->replied) {
        relay->replied = true;
        finish_unseen(relay, r, *status, &reply);
        for (ap_filter_t *f = r->output_filters; f; f = f->next) {
            if (f->ctx == relay) {
                ap_remove_output_filter(f);
                break;
            }
        }
        pass_reply(r->output_filters, r, &reply);
    }
    *status = OK;
    return OK;
}

/* Asked for the request that came first: an internal redirect (RewriteRule, ErrorDocument) has made others of it. */
int relay_log_transaction(request_rec *first)
{
    for (request_rec *r = first; r; r = r->next) {
        const relay_t *relay = relay_of(r);
        if (relay && relay->transaction && !relay->transaction->settled) {
            transaction_failed(relay->transaction, PROBLEM_CA_UNREACHABLE,
                               apr_psprintf(r->pool, "mod_proxy did not take the request (HTTP %d)", r->status));
        }
        if (relay && relay->transaction) {
            notes_set(r, relay->transaction);
        }
    }
    return DECLINED;
}

static relay_t *relay_make(request_rec *r, const site_t *site, apr_size_t max, const char *filter)
{
    relay_t *relay = apr_pcalloc(r->pool, sizeof(*relay));
    relay->site = site;
    relay->until = clock_now() + site->profile->ca_time;
    relay->max = max;
    relay->room = ANSWER_USUAL;
    relay->answer = apr_palloc(r->pool, relay->room);
    ap_set_module_config(r->request_config, &intune_scep_module, relay);
    ap_add_output_filter(filter, relay, r, r->connection);
    return relay;
}

/*
 * The query belongs into the URL for http and https, and into r->args for a balancer: mod_proxy ignores, or escapes, it
 * in the other place. What the device sent for itself, or said of its own body, is not the CA's business; the last five make
 * another request of this one at some servers, which the CA would take for ours; and mod_proxy refuses requests whose
 * Max-Forwards has run out.
 */
static int hand_over(request_rec *r, const char *backend, const char *query)
{
    static const char *const DEVICE_HEADERS[] = {"Accept-Encoding",
                                                 "Authorization",
                                                 "Content-Encoding",
                                                 "Content-Language",
                                                 "Content-Location",
                                                 "Content-MD5",
                                                 "Content-Range",
                                                 "Cookie",
                                                 "Expect",
                                                 "If-Match",
                                                 "If-Modified-Since",
                                                 "If-None-Match",
                                                 "If-Range",
                                                 "If-Unmodified-Since",
                                                 "Max-Forwards",
                                                 "Proxy-Authorization",
                                                 "Range",
                                                 "TE",
                                                 "Transfer-Encoding",
                                                 "Upgrade",
                                                 "X-HTTP-Method",
                                                 "X-HTTP-Method-Override",
                                                 "X-Method-Override",
                                                 "X-Original-URL",
                                                 "X-Rewrite-URL"};
    static const char *const URL_NOTES[] = {"proxy-nocanon", "proxy-noencode", "proxy-noquery"};
    for (size_t i = 0; i < sizeof(DEVICE_HEADERS) / sizeof(DEVICE_HEADERS[0]); i++) {
        apr_table_unset(r->headers_in, DEVICE_HEADERS[i]);
    }
    /* Of a ProxyPass over the location, with nocanon and the like: a balancer's member would get no query. */
    for (size_t i = 0; i < sizeof(URL_NOTES) / sizeof(URL_NOTES[0]); i++) {
        apr_table_unset(r->notes, URL_NOTES[i]);
    }
    if (!ap_cstr_casecmpn(backend, "balancer:", 9)) {
        r->filename = apr_pstrcat(r->pool, "proxy:", backend, NULL);
        r->args = apr_pstrdup(r->pool, query);
    } else {
        r->filename = apr_pstrcat(r->pool, "proxy:", backend, "?", query, NULL);
        r->args = NULL;
    }
    /* mod_proxy would pass 103 and the like, with the CA's headers, to the device at once. */
    apr_table_setn(r->subprocess_env, "proxy-interim-response", "Suppress");
    r->proxyreq = PROXYREQ_REVERSE;
    r->handler = "proxy-server";
    return DECLINED;
}

static void become_get(request_rec *r)
{
    r->method = "GET";
    r->method_number = M_GET;
    apr_table_unset(r->headers_in, "Content-Length");
    apr_table_unset(r->headers_in, "Content-Type");
}

static void become_post(request_rec *r, apr_size_t length)
{
    r->method = "POST";
    r->method_number = M_POST;
    apr_table_setn(r->headers_in, "Content-Length", apr_psprintf(r->pool, "%" APR_SIZE_T_FMT, length));
    apr_table_setn(r->headers_in, "Content-Type", SCEP_TYPE_MESSAGE);
}

/* The CA's URL: for a poll that of the node that has the transaction, where there is more than one. */
static const char *backend_of(const request_rec *r, const site_t *site, const transaction_t *transaction)
{
    const char *backend = transaction->profile->backend;
    if (!transaction->node || !site->nodes_have_urls || ap_cstr_casecmpn(backend, "balancer://", 11)) {
        return backend;
    }
    const char *path = strchr(backend + 11, '/');
    return apr_pstrcat(r->pool, transaction->node, path, NULL);
}

int relay_transaction(request_rec *r, const site_t *site, transaction_t *transaction)
{
    unsigned capabilities = transaction->ca_capabilities;
    relay_t *relay = relay_make(r, site, site->profile->max_message * ANSWER_FACTOR, FILTER_OUT);
    relay->transaction = transaction;
    /* What was to be done to the device's body (SetInputFilter) has been done, and is nothing for ours. */
    r->input_filters = r->proto_input_filters;
    ap_add_input_filter(FILTER_IN, relay, r, r->connection);
    if ((capabilities & SCEP_CAP_ASKED) && !(capabilities & SCEP_CAP_POST)) {
        become_get(r);
        return hand_over(r, backend_of(r, site, transaction),
                         apr_pstrcat(r->pool, "operation=PKIOperation&message=",
                                     ap_escape_urlencoded(r->pool, text_base64(r->pool, transaction->relay->body)),
                                     NULL));
    }
    relay->rest = transaction->relay->body;
    become_post(r, relay->rest.len);
    return hand_over(r, backend_of(r, site, transaction), "operation=PKIOperation");
}

int relay_capabilities(request_rec *r, const site_t *site)
{
    relay_make(r, site, CAPABILITIES_MAX, FILTER_OUT);
    become_get(r);
    return hand_over(r, site->profile->backend, "operation=GetCACaps");
}

/*
 * GetCACaps as a sub-request, so that mod_proxy asks the same CA in the same way as it will be asked for the
 * certificate. Its chain of filters is its own (NULL), since mod_cache hooks some into the chain that are gone with the
 * sub-request; ours is the first of them and lets nothing through.
 */
static void probe(request_rec *r, const site_t *site)
{
    static const char QUERY[] = "operation=GetCACaps";
    /* With the query, as a rule of the server's about the location may want one. */
    const char *uri = apr_pstrcat(r->pool, ap_escape_uri(r->pool, r->uri), "?", QUERY, NULL);
    request_rec *sub = ap_sub_req_method_uri("GET", uri, r, NULL);
    if (!sub || sub->status != HTTP_OK) {
        keep_silence(site, r,
                     apr_psprintf(r->pool, "this server itself refused to ask, with HTTP %d", sub ? sub->status : 0));
    } else {
        relay_t *relay = relay_make(sub, site, CAPABILITIES_MAX, FILTER_PROBE);
        relay->probe = true;
        sub->headers_in = apr_table_copy(sub->pool, r->headers_in);
        apr_table_setn(sub->subprocess_env, "no-cache", "1");
        become_get(sub);
        hand_over(sub, site->profile->backend, QUERY);
        ap_run_sub_req(sub);
        if (!relay->replied) {
            keep_silence(site, r, "mod_proxy did not ask it");
        }
    }
    if (sub) {
        ap_destroy_sub_req(sub);
    }
}

void relay_learn_capabilities(request_rec *r, const site_t *site)
{
    bool due = false;
    unsigned known = profile_backend_capabilities(site->profile, &due, r->pool);
    if (due && profile_backend_capabilities_claim(site->profile, r->pool)) {
        probe(r, site);
        return;
    }
    for (apr_interval_time_t waited = 0; due && !known && waited < PROBE_WAIT; waited += PROBE_POLL) {
        apr_sleep(PROBE_POLL);
        known = profile_backend_capabilities(site->profile, NULL, r->pool);
    }
}

/* A device that has read a part of an answer must not take it for the whole: as mod_proxy where a CA breaks off. */
static apr_status_t break_off(ap_filter_t *f, apr_bucket_brigade *brigade)
{
    request_rec *r = f->r;
    ap_log_rerror(APLOG_MARK, APLOG_WARNING, 0, r,
                  "ISCEP0559: the CA's answer to GetNextCACert was not whole within IntuneScepBackendTimeout");
    apr_brigade_cleanup(brigade);
    r->connection->keepalive = AP_CONN_CLOSE;
    APR_BRIGADE_INSERT_TAIL(brigade,
                            ap_bucket_error_create(HTTP_BAD_GATEWAY, NULL, r->pool, r->connection->bucket_alloc));
    APR_BRIGADE_INSERT_TAIL(brigade, apr_bucket_eos_create(r->connection->bucket_alloc));
    ap_filter_t *next = f->next;
    ap_remove_output_filter(f);
    ap_pass_brigade(next, brigade);
    return APR_TIMEUP;
}

static apr_status_t filter_pass(ap_filter_t *f, apr_bucket_brigade *brigade)
{
    passage_t *passage = f->ctx;
    bool end = !APR_BRIGADE_EMPTY(brigade) && APR_BUCKET_IS_EOS(APR_BRIGADE_LAST(brigade));
    bool late = !end && !passage->ended && clock_now() >= passage->until;
    if ((end || late) && !passage->ended) {
        passage->ended = true;
        limit_release(passage->site->profile, f->r->pool);
    }
    return late ? break_off(f, brigade) : ap_pass_brigade(f->next, brigade);
}

int relay_next_ca(request_rec *r, const site_t *site)
{
    passage_t *passage = apr_pcalloc(r->pool, sizeof(*passage));
    passage->site = site;
    passage->until = clock_now() + site->profile->ca_time;
    ap_add_output_filter(FILTER_PASS, passage, r, r->connection);
    become_get(r);
    apr_table_setn(r->err_headers_out, "Cache-Control", "no-store");
    /* Whoever answers in the CA's place runs no script in a browser, where this host's pages are of the same origin. */
    apr_table_setn(r->err_headers_out, "X-Content-Type-Options", "nosniff");
    apr_table_setn(r->err_headers_out, "Content-Security-Policy", "default-src 'none'; sandbox");
    return hand_over(r, site->profile->backend, "operation=GetNextCACert");
}

/* The hook is no optional one, but mod_proxy may not be loaded, or after this module: so it is looked up. */
void relay_watch_attempts(void)
{
    static const char NAME[] = "proxy_hook_pre_request";
    void (*hook)(proxy_HOOK_pre_request_t *function, const char *const *before, const char *const *after, int order);
    void *found = dlsym(RTLD_DEFAULT, NAME);
    memcpy(&hook, &found, sizeof(hook));
    if (hook) {
        hook(before_attempt, NULL, NULL, APR_HOOK_REALLY_FIRST);
    }
}

void relay_register(void)
{
    ap_register_input_filter(FILTER_IN, filter_in, NULL, AP_FTYPE_CONTENT_SET);
    ap_register_output_filter(FILTER_OUT, filter_out, NULL, AP_FTYPE_CONTENT_SET);
    ap_register_output_filter(FILTER_PROBE, filter_out, NULL, AP_FTYPE_RESOURCE);
    ap_register_output_filter(FILTER_PASS, filter_pass, NULL, AP_FTYPE_CONTENT_SET);
    APR_OPTIONAL_HOOK(proxy, request_status, request_status, NULL, NULL, APR_HOOK_MIDDLE);
}
