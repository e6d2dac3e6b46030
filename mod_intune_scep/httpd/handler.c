/* SPDX-License-Identifier: Apache-2.0 */
/* SCEP's operations over HTTP (RFC 8894 section 4). */
#include "module.h"

#include <apr_strings.h>
#include <http_core.h>
#include <http_protocol.h>
#include <http_request.h>

APLOG_USE_MODULE(intune_scep);

static const settings_t *settings_of_request(const request_rec *r)
{
    const settings_t *settings = ap_get_module_config(r->per_dir_config, &intune_scep_module);
    return settings && setting_flag(settings, SETTING_ENABLED) ? settings : NULL;
}

static const char URI_NOTE[] = "intune-scep-uri";

/* Core forgets the location's settings before map_to_storage: what it needs of them is noted here. */
int handler_translate_name(request_rec *r)
{
    if (settings_of_request(r)) {
        apr_table_setn(r->notes, URI_NOTE, apr_pstrdup(r->pool, r->uri));
    }
    return DECLINED;
}

/*
 * The location has no files: neither <Directory> sections nor .htaccess files have a say. A URI that somebody rewrote
 * meanwhile may lie elsewhere, where they have.
 */
int handler_map_to_storage(request_rec *r)
{
    const char *uri = apr_table_get(r->notes, URI_NOTE);
    return uri && !strcmp(uri, r->uri) ? OK : DECLINED;
}

/* Not a forward proxy's requests: those are not ours. */
static bool is_served(const request_rec *r)
{
    return settings_of_request(r) && r->proxyreq != PROXYREQ_PROXY;
}

/*
 * Nobody looks for a type, a variant or a language of what is no file: MultiViews would serve /scep.html instead. Only
 * SetHandler has a say, since the status page may be below the location.
 */
int handler_type_checker(request_rec *r)
{
    const core_dir_config *core = ap_get_core_module_config(r->per_dir_config);
    if (!is_served(r) || core->handler || core->expr_handler) {
        return DECLINED;
    }
    r->handler = "intune-scep";
    return OK;
}

/* Something is there: FallbackResource, CheckSpelling and DirectorySlash are for what is not, or is a directory. */
int handler_fixups(request_rec *r)
{
    if (is_served(r)) {
        r->finfo.filetype = APR_UNKFILE;
    }
    return DECLINED;
}

void handler_reply_headers(request_rec *r, const reply_t *reply)
{
    static const char *const OF_CA[] = {"WWW-Authenticate", "Proxy-Authenticate", "Location", "Set-Cookie"};
    /* What mod_proxy copied from the CA, and what mod_mime made of the URL's ending, says nothing about our body. */
    apr_table_clear(r->headers_out);
    for (size_t i = 0; i < sizeof(OF_CA) / sizeof(OF_CA[0]); i++) {
        apr_table_unset(r->err_headers_out, OF_CA[i]);
    }
    /* httpd would cut a part out of a POST's answer, too (RFC 9110, 14.2 knows ranges of a GET's only). */
    apr_table_unset(r->headers_in, "Range");
    apr_table_unset(r->headers_in, "Request-Range");
    r->content_encoding = NULL;
    r->content_languages = NULL;
    r->status = reply->http_status;
    r->status_line = NULL;
    /* As a header: to a type that core knows of, AddDefaultCharset would add, and devices compare the whole of it. */
    r->content_type = NULL;
    apr_table_setn(r->headers_out, "Content-Type", reply->content_type);
    ap_set_content_length(r, (apr_off_t)reply->body.len);
    apr_table_setn(r->err_headers_out, "Cache-Control", "no-store");
    if (reply->retry_after) {
        apr_table_setn(r->err_headers_out, "Retry-After", apr_itoa(r->pool, reply->retry_after));
    }
}

int handler_reply(request_rec *r, const reply_t *reply)
{
    handler_reply_headers(r, reply);
    if (ap_rwrite(reply->body.data, (int)reply->body.len, r) < 0) {
        ap_log_rerror(APLOG_MARK, APLOG_INFO, 0, r, "ISCEP0509: the device went away before its answer was sent");
    }
    return OK;
}

/* A transaction that ended here. */
static int answer(request_rec *r, const transaction_t *t)
{
    notes_set(r, t);
    return handler_reply(r, &t->reply);
}

static transaction_t *make(request_rec *r, const site_t *site)
{
    transaction_t *t = transaction_make(site->profile, error_log_of_request(r, site->profile), r->pool);
    t->client = apr_table_get(r->headers_in, "User-Agent");
    return t;
}

static int refuse(request_rec *r, const site_t *site, problem_t problem, const char *detail)
{
    transaction_t *t = make(r, site);
    transaction_refuse(t, problem, detail);
    if (problem == PROBLEM_METHOD) {
        apr_table_setn(r->err_headers_out, "Allow", "GET, POST");
    }
    return answer(r, t);
}

static int send_ca(request_rec *r, const site_t *site)
{
    const reply_t reply = {.http_status = HTTP_OK, .content_type = site->ca_type, .body = site->ca_body};
    return handler_reply(r, &reply);
}

/* Appends what a brigade holds to `body`; APR_ENOSPC when that would be more than `max`. */
static apr_status_t take_brigade(apr_bucket_brigade *brigade, unsigned char *body, apr_size_t *length, apr_size_t max,
                                 bool *end)
{
    for (apr_bucket *bucket = APR_BRIGADE_FIRST(brigade); bucket != APR_BRIGADE_SENTINEL(brigade);
         bucket = APR_BUCKET_NEXT(bucket)) {
        const char *data = NULL;
        apr_size_t size = 0;
        if (APR_BUCKET_IS_EOS(bucket)) {
            *end = true;
            break;
        }
        if (APR_BUCKET_IS_METADATA(bucket)) {
            continue;
        }
        apr_status_t rv = apr_bucket_read(bucket, &data, &size, APR_BLOCK_READ);
        if (rv) {
            return rv;
        }
        if (size > max - *length) {
            return APR_ENOSPC;
        }
        memcpy(body + *length, data, size);
        *length += size;
    }
    return APR_SUCCESS;
}

/* The body of a POST, at most `max` bytes. APR_ENOSPC for a larger one. */
static apr_status_t read_body(request_rec *r, apr_size_t max, bytes_t *message)
{
    const char *announced = apr_table_get(r->headers_in, "Content-Length");
    if (announced) {
        apr_int64_t size = apr_strtoi64(announced, NULL, 10);
        if (size < 0 || size > (apr_int64_t)max) {
            return APR_ENOSPC;
        }
        /* A filter may make more of it (SetInputFilter DEFLATE). */
        max = r->input_filters == r->proto_input_filters ? (apr_size_t)size : max;
    }
    unsigned char *body = apr_palloc(r->pool, max);
    apr_bucket_brigade *brigade = apr_brigade_create(r->pool, r->connection->bucket_alloc);
    apr_status_t rv = APR_SUCCESS;
    bool end = false;
    message->data = body;
    message->len = 0;
    while (!rv && !end) {
        rv = ap_get_brigade(r->input_filters, brigade, AP_MODE_READBYTES, APR_BLOCK_READ, HUGE_STRING_LEN);
        if (!rv) {
            rv = take_brigade(brigade, body, &message->len, max, &end);
        }
        apr_brigade_cleanup(brigade);
    }
    apr_brigade_destroy(brigade);
    return rv;
}

/* httpd did not take the body, and has already told the device so: LimitRequestBody, or chunks that are none. */
static int refused_by_httpd(request_rec *r, const site_t *site)
{
    bool large = r->status == HTTP_REQUEST_ENTITY_TOO_LARGE;
    transaction_t *t = make(r, site);
    transaction_refuse(t, large ? PROBLEM_TOO_LARGE : PROBLEM_BODY_UNREADABLE,
                       large ? "more than LimitRequestBody allows" : "it is not framed as HTTP wants it");
    notes_set(r, t);
    return AP_FILTER_ERROR;
}

/*
 * A body that nobody asked for is read before the request is changed for the CA: httpd would not find it any more, and
 * take it for the next request of the connection. False when the answer has been sent.
 */
static bool drop_body(request_rec *r, const site_t *site, int *answered)
{
    int status = ap_discard_request_body(r);
    if (status == AP_FILTER_ERROR) {
        *answered = refused_by_httpd(r, site);
    } else if (status != OK) {
        *answered = refuse(r, site, PROBLEM_BODY_UNREADABLE, "nothing of it was wanted");
    }
    return status == OK;
}

/* Gets the message out of a POST or a GET. False: the answer has been sent. */
static bool read_message(request_rec *r, const site_t *site, const char *in_query, bytes_t *message, int *answered)
{
    apr_size_t max = site->profile->max_message;
    bool post = r->method_number == M_POST;
    apr_status_t rv = post ? read_body(r, max, message) : scep_get_message_decode(message, in_query, max, r->pool);
    if (rv == APR_ENOSPC) {
        r->connection->keepalive = post ? AP_CONN_CLOSE : r->connection->keepalive;
        *answered =
            refuse(r, site, PROBLEM_TOO_LARGE, apr_psprintf(r->pool, "more than %" APR_SIZE_T_FMT " bytes", max));
    } else if (rv == AP_FILTER_ERROR) {
        *answered = refused_by_httpd(r, site);
    } else if (rv && post) {
        *answered = refuse(r, site, PROBLEM_BODY_UNREADABLE,
                           apr_psprintf(r->pool, "after %" APR_SIZE_T_FMT " bytes", message->len));
    } else if (rv) {
        *answered = refuse(r, site, PROBLEM_NOT_SCEP, "the message of a GET is missing or not base64");
    } else if (!message->len) {
        *answered = refuse(r, site, PROBLEM_NOT_SCEP, "the body is empty");
    } else {
        return true;
    }
    return false;
}

/* What asks the CA takes one of the server's places. False when the answer has been sent. */
static bool take_place(request_rec *r, const site_t *site, int *answered)
{
    if (limit_take(site->profile, r->pool)) {
        return true;
    }
    *answered = refuse(r, site, PROBLEM_TOO_MANY,
                       apr_psprintf(r->pool, "all %d places of \"%s\", or all of the server, are taken",
                                    site->profile->max_concurrent, site->profile->name));
    return false;
}

static int pki_operation(request_rec *r, const site_t *site, const char *in_query)
{
    bytes_t message = {NULL, 0};
    int answered = OK;
    if (!read_message(r, site, in_query, &message, &answered)) {
        return answered;
    }
    if (!take_place(r, site, &answered)) {
        return answered;
    }
    transaction_t *t = make(r, site);
    relay_learn_capabilities(r, site);
    if (transaction_enroll(t, message)) {
        limit_release(site->profile, r->pool);
        return answer(r, t);
    }
    return relay_transaction(r, site, t);
}

static int get_ca_caps(request_rec *r, const site_t *site)
{
    bool due = false;
    unsigned capabilities = profile_backend_capabilities(site->profile, &due, r->pool);
    if (due && profile_backend_capabilities_claim(site->profile, r->pool)) {
        return relay_capabilities(r, site);
    }
    const char *text = scep_capabilities_print(site->profile->policy.device, capabilities & SCEP_CAP_NEXT_CA, r->pool);
    const reply_t reply = {.http_status = HTTP_OK, .content_type = "text/plain", .body = bytes_of_text(text)};
    return handler_reply(r, &reply);
}

/* Nothing of ours belongs into a cache, and compressing ciphertext is a waste. */
static void keep_others_away(request_rec *r)
{
    apr_table_setn(r->subprocess_env, "no-cache", "1");
    apr_table_setn(r->subprocess_env, "no-gzip", "1");
    apr_table_setn(r->subprocess_env, "no-brotli", "1");
}

int handler(request_rec *r)
{
    const settings_t *settings = settings_of_request(r);
    const char *message = NULL;
    int answered = OK;
    /* A ProxyPass or RewriteRule over the location must not carry requests round the gateway: only a forward proxy's
     * are not ours. */
    if (!settings || r->proxyreq == PROXYREQ_PROXY || relay_is_ours(r)) {
        return DECLINED;
    }
    if (!the_gateway) {
        ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, r,
                      "ISCEP0511: this worker process cannot serve SCEP: see its line ISCEP0501");
        return HTTP_SERVICE_UNAVAILABLE;
    }
    const site_t *site = setup_site(r, settings);
    if (!site) {
        ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, r,
                      "ISCEP0510: sections with IntuneScep directives overlap here in a way that made no profile at "
                      "start: put the "
                      "inner <Location> after the outer one, into the virtual host what a <LocationMatch> shares with "
                      "others, and use none in <If>");
        return HTTP_SERVICE_UNAVAILABLE;
    }
    keep_others_away(r);
    if (r->header_only || (r->method_number != M_GET && r->method_number != M_POST)) {
        return refuse(r, site, PROBLEM_METHOD,
                      apr_psprintf(r->pool, "%s instead of GET or POST", r->header_only ? "HEAD" : "another method"));
    }
    scep_operation_t operation = scep_query_parse(r->args, &message, r->pool);
    bool wants_body = operation == SCEP_OP_PKIOPERATION && r->method_number == M_POST;
    if (!wants_body && !drop_body(r, site, &answered)) {
        return answered;
    }
    switch (operation) {
    case SCEP_OP_GETCACAPS:
        return get_ca_caps(r, site);
    case SCEP_OP_GETCACERT:
        return send_ca(r, site);
    case SCEP_OP_GETNEXTCACERT:
        return take_place(r, site, &answered) ? relay_next_ca(r, site) : answered;
    case SCEP_OP_PKIOPERATION:
        return pki_operation(r, site, message);
    case SCEP_OP_NONE:
        return refuse(r, site, PROBLEM_BAD_OPERATION, "there is none");
    case SCEP_OP_UNKNOWN:
        break;
    }
    return refuse(r, site, PROBLEM_BAD_OPERATION, "it is an unknown one");
}
