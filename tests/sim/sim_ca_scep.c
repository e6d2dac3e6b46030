/* SPDX-License-Identifier: Apache-2.0 */
/* The scripted CA's PKIOperation: opens, decides, answers. */
#include "sim_ca.h"

#include <stdlib.h>
#include <string.h>

#include <apr_strings.h>
#include <openssl/err.h>

#define BAD_MESSAGE_CHECK 1
#define BAD_REQUEST 2
#define BAD_CERT_ID 4

/* One PKIOperation on its way. */
typedef struct {
    sim_ca_t *ca;
    const sim_ca_plan_t *plan;
    sim_ca_record_t *record;
    sim_ca_reply_t *reply;
    apr_pool_t *pool;
    sim_signed_t request;
    sim_envelope_t envelope;
    sim_bytes_t csr;
    X509_REQ *req;
    int type;
    const char *status;    /* pkiStatus of the answer */
    const char *fail_info; /* NULL: none */
    const char *fail_text;
    sim_bytes_t certs[2]; /* the answer's */
    sim_bytes_t inner;    /* instead of them, where it has data */
    int count;
} operation_t;

static apr_status_t req_free(void *data)
{
    X509_REQ_free(data);
    return APR_SUCCESS;
}

static bool csr_parse(operation_t *op, sim_bytes_t der)
{
    const unsigned char *at = der.data;
    X509_REQ *req = X509_REQ_new_ex(op->ca->libctx, NULL);
    if (!req || !d2i_X509_REQ(&req, &at, (long)der.len) || at != der.data + der.len) {
        X509_REQ_free(req);
        ERR_clear_error();
        return false;
    }
    op->req = sim_own(op->pool, req, req_free);
    return true;
}

static int refuse(operation_t *op, int fail_info, const char *text)
{
    op->status = "2";
    op->fail_info = apr_itoa(op->pool, fail_info);
    op->fail_text = text && *text ? text : NULL;
    op->record->outcome = "refused";
    return fail_info;
}

/* What the record shows even of a message that is refused. */
static void outside_record(operation_t *op)
{
    sim_ca_record_t *record = op->record;
    record->transaction_id = op->request.transaction_id;
    record->digest = op->request.digest;
    record->message_type = (const char *)op->request.message_type.data;
    if (op->request.signer)
        record->signer_serial = sim_serial_hex(op->request.signer, op->pool);
}

static const char *hash_hex(sim_bytes_t bytes, const EVP_MD *digest, bool upper, apr_pool_t *pool)
{
    unsigned char hash[EVP_MAX_MD_SIZE];
    unsigned int len = 0;
    EVP_Digest(bytes.data, bytes.len, hash, &len, digest, NULL);
    return sim_hex(sim_bytes(hash, len, pool), upper, pool);
}

static void csr_record(operation_t *op)
{
    op->record->csr = op->csr;
    op->record->csr_sha256 = hash_hex(op->csr, EVP_sha256(), false, op->pool);
}

static void certificate_record(operation_t *op, bool fresh)
{
    const unsigned char *at = op->certs[0].data;
    X509 *cert = sim_own_cert(op->pool, d2i_X509(NULL, &at, (long)op->certs[0].len));
    op->record->serial = cert ? sim_serial_hex(cert, op->pool) : NULL;
    op->record->thumbprint = hash_hex(op->certs[0], EVP_sha1(), true, op->pool);
    op->record->fresh = fresh;
    op->record->outcome = "issued";
    op->status = "0";
}

/* IssuerAndSubject: two names, and nothing behind them. */
static bool names_record(operation_t *op)
{
    sim_der_t cursor = {op->csr.data, op->csr.data + op->csr.len}, inside;
    sim_tlv_t outer;
    if (!op->csr.data || !sim_der_next(&cursor, &outer) || outer.tag != V_ASN1_SEQUENCE || cursor.at != cursor.end)
        return false;
    inside = sim_der_into(&outer);
    const unsigned char *at = inside.at;
    X509_NAME *issuer = d2i_X509_NAME(NULL, &at, (long)(inside.end - at));
    X509_NAME *subject = issuer ? d2i_X509_NAME(NULL, &at, (long)(inside.end - at)) : NULL;
    bool ok = subject && at == inside.end;
    if (ok) {
        op->record->issuer = sim_name_text(issuer, op->pool);
        op->record->subject = sim_name_text(subject, op->pool);
    }
    X509_NAME_free(issuer);
    X509_NAME_free(subject);
    ERR_clear_error();
    return ok;
}

static void inside_open(operation_t *op, const char **error)
{
    *error = "no content";
    if (op->request.content.data)
        *error = sim_envelope_open(op->ca->libctx, op->request.content, op->ca->ra, op->ca->ra_key, &op->envelope,
                                   &op->csr, op->pool);
    op->record->cipher = op->envelope.cipher;
    op->record->key_transport = op->envelope.key_transport;
    op->type = op->request.message_type.data ? (int)strtol((const char *)op->request.message_type.data, NULL, 10) : 0;
    if (!*error && (op->type == 19 || op->type == 17))
        csr_record(op);
}

/* True: the message is in order, and its CSR (if it has one) is parsed. */
static bool message_check(operation_t *op)
{
    const sim_signed_t *request = &op->request;
    const char *error = NULL;
    inside_open(op, &error);
    if (request->signers != 1 || !request->signer || !request->signature_ok)
        return refuse(op, BAD_MESSAGE_CHECK, "the outer signature is wrong"), false;
    if (request->doubled || !request->message_type.data || !request->transaction_id.data || !request->sender_nonce.data)
        return refuse(op, BAD_REQUEST, "an attribute is missing, or there twice"), false;
    if (error)
        return refuse(op, BAD_MESSAGE_CHECK, error), false;
    if (op->type == 20 && !names_record(op))
        return refuse(op, BAD_REQUEST, "the envelope holds no IssuerAndSubject"), false;
    if (op->type == 20 || op->type == 21 || op->type == 22)
        return true;
    if (op->type != 19 && op->type != 17)
        return refuse(op, BAD_REQUEST, "this messageType is not served"), false;
    if (!csr_parse(op, op->csr))
        return refuse(op, BAD_REQUEST, "the envelope holds no PKCS #10"), false;
    if (X509_REQ_verify_ex(op->req, X509_REQ_get0_pubkey(op->req), op->ca->libctx, NULL) != 1) {
        ERR_clear_error();
        return refuse(op, BAD_MESSAGE_CHECK, "the CSR's signature is wrong"), false;
    }
    return true;
}

/* Mode `chain` sends the CA's certificate too, `two_certificates` another leaf for the same key. */
static bool companions_add(operation_t *op)
{
    op->count = op->plan->mode == MODE_NO_CERTIFICATE ? 0 : 1;
    if (op->plan->mode == MODE_CHAIN)
        op->certs[op->count++] = sim_cert_der(op->ca->ca, op->pool);
    if (op->plan->mode == MODE_TWO_CERTIFICATES)
        op->certs[op->count++] = sim_ca_issue(op->ca, op->req, op->plan->mode, op->pool);
    return op->count < 2 || op->certs[1].data;
}

/* `settle`: two at once for one transaction get the same certificate. Else each gets its own. */
static bool issue(operation_t *op, bool settle)
{
    sim_bytes_t id = op->request.transaction_id;
    bool fresh = true;
    op->certs[0] = sim_ca_issue(op->ca, op->req, op->plan->mode, op->pool);
    if (!op->certs[0].data || !companions_add(op)) {
        refuse(op, BAD_REQUEST, sim_openssl_error(op->pool));
        return false;
    }
    if (settle)
        fresh = sim_ca_transaction_settle(op->ca, id, op->csr, &op->certs[0], op->pool);
    else
        sim_ca_transaction_put(op->ca, id, op->csr, op->certs[0]);
    certificate_record(op, fresh);
    return true;
}

static void pend(operation_t *op)
{
    op->status = "3";
    op->record->outcome = "pending";
}

/* The certificate that the transaction has, or now gets, or what was decided about it. */
static void known_answer(operation_t *op, const sim_ca_transaction_t *known)
{
    if (known->cert.data) {
        op->certs[0] = known->cert;
        op->count = 1;
        certificate_record(op, false);
    } else if (known->decision == SIM_CA_REJECTED) {
        refuse(op, known->fail_info, "rejected");
    } else if (op->plan->manual && known->decision == SIM_CA_WAITING) {
        pend(op);
    } else {
        issue(op, true);
    }
}

/* CertPoll. */
static void poll_answer(operation_t *op)
{
    sim_ca_transaction_t known;
    if (!sim_ca_transaction_get(op->ca, op->request.transaction_id, &known, op->pool)) {
        refuse(op, BAD_CERT_ID, "unknown transaction");
        return;
    }
    op->csr = known.csr;
    csr_record(op);
    if (!csr_parse(op, known.csr)) {
        refuse(op, BAD_REQUEST, NULL);
        return;
    }
    known_answer(op, &known);
}

/* PKCSReq and RenewalReq. */
static void request_answer(operation_t *op)
{
    sim_bytes_t none = {NULL, 0};
    sim_ca_transaction_t known;
    if (op->plan->manual) {
        sim_ca_transaction_ask(op->ca, op->request.transaction_id, op->csr, &known, op->pool);
        if (op->plan->mode == MODE_PENDING)
            pend(op);
        else
            known_answer(op, &known);
    } else if (op->plan->mode == MODE_PENDING) {
        pend(op);
        sim_ca_transaction_put(op->ca, op->request.transaction_id, op->csr, none);
    } else {
        issue(op, false);
    }
}

/* GetCert and GetCRL. */
static void inquiry_answer(operation_t *op)
{
    int fail_info = sim_ca_inquire(op->ca, op->type, op->csr, op->plan->mode, &op->inner, op->pool);
    if (fail_info >= 0) {
        refuse(op, fail_info, "nothing of that issuer and serial number");
    } else {
        op->status = "0";
        op->record->outcome = "answered";
    }
}

static void decide(operation_t *op)
{
    if (!message_check(op))
        return;
    if (op->plan->mode == MODE_REFUSE)
        refuse(op, op->plan->fail_info, op->plan->text);
    else if (op->type == 19 || op->type == 17)
        request_answer(op);
    else if (op->plan->mode == MODE_PENDING)
        pend(op);
    else if (op->type == 20)
        poll_answer(op);
    else
        inquiry_answer(op);
}

static sim_bytes_t envelope_make(operation_t *op)
{
    sim_bytes_t none = {NULL, 0}, inner = op->inner;
    if (!inner.data)
        inner = sim_certs_only(op->certs + (op->count == 0), op->count, op->pool);
    bool other = op->plan->mode == MODE_OTHER_RECIPIENT;
    if (other && !sim_ca_stranger(op->ca))
        return none;
    const char *cipher = op->plan->cipher ? op->plan->cipher : op->envelope.cipher;
    if (!cipher || !sim_cipher_by_name(cipher))
        cipher = "aes128";
    STACK_OF(X509) *to = sk_X509_new_null();
    sk_X509_push(to, other ? op->ca->stranger : op->request.signer);
    sim_envelope_spec_t spec = {to, cipher, op->plan->oaep, false};
    sim_bytes_t der = sim_envelope_make(op->ca->libctx, &spec, inner, op->pool);
    sk_X509_free(to);
    return der;
}

static bool text_attr(CMS_SignerInfo *signer, const char *oid, const char *text)
{
    return !text || sim_attr_add(signer, oid, V_ASN1_PRINTABLESTRING, text, strlen(text));
}

static bool octets_attr(CMS_SignerInfo *signer, const char *oid, sim_bytes_t bytes)
{
    return !bytes.data || sim_attr_add(signer, oid, V_ASN1_OCTET_STRING, bytes.data, bytes.len);
}

static bool attributes_add(operation_t *op, CMS_SignerInfo *signer)
{
    sim_ca_mode_t mode = op->plan->mode;
    sim_bytes_t id = op->request.transaction_id, nonce = op->request.sender_nonce;
    if (mode == MODE_OTHER_TRANSACTION)
        id = sim_bytes("0123456789abcdef0123456789abcdef01234567", 40, op->pool);
    if (mode == MODE_OTHER_NONCE)
        nonce = sim_random(16, op->pool);
    else if (mode == MODE_NO_NONCE)
        nonce.data = NULL;
    bool ok = text_attr(signer, OID_MESSAGE_TYPE, "3") && text_attr(signer, OID_PKI_STATUS, op->status) &&
              text_attr(signer, OID_FAIL_INFO, op->fail_info) &&
              octets_attr(signer, OID_SENDER_NONCE, sim_random(16, op->pool)) &&
              octets_attr(signer, OID_RECIPIENT_NONCE, nonce);
    if (ok && id.data)
        ok = sim_attr_add(signer, OID_TRANSACTION_ID, V_ASN1_PRINTABLESTRING, id.data, id.len);
    if (ok && op->fail_text)
        ok = sim_attr_add(signer, OID_FAIL_INFO_TEXT, V_ASN1_UTF8STRING, op->fail_text, strlen(op->fail_text));
    return ok;
}

static void signature_break(CMS_ContentInfo *cms)
{
    CMS_SignerInfo *signer = sk_CMS_SignerInfo_value(CMS_get0_SignerInfos(cms), 0);
    ASN1_OCTET_STRING *signature = CMS_SignerInfo_get0_signature(signer);
    signature->data[signature->length / 2] ^= 0x01;
}

/* FAILURE and PENDING have no content at all, as RFC 8894 wants it. */
static bool reply_sign(operation_t *op, sim_bytes_t envelope)
{
    unsigned int flags = CMS_BINARY | CMS_PARTIAL | (envelope.data ? 0 : CMS_DETACHED);
    bool foreign = op->plan->mode == MODE_FOREIGN_SIGNER, ok = false;
    const char *name = op->plan->digest ? op->plan->digest : op->request.digest;
    const EVP_MD *digest = name ? sim_digest_by_name(name) : NULL;
    if (foreign && !sim_ca_stranger(op->ca))
        return false;
    BIO *out = BIO_new(BIO_s_mem()), *in = BIO_new(BIO_s_mem());
    BIO_set_mem_eof_return(in, 0);
    if (envelope.len)
        BIO_write(in, envelope.data, (int)envelope.len);
    CMS_ContentInfo *cms = CMS_sign_ex(NULL, NULL, NULL, NULL, flags, op->ca->libctx, NULL);
    CMS_SignerInfo *signer = cms ? CMS_add1_signer(cms, foreign ? op->ca->stranger : op->ca->ra,
                                                   foreign ? op->ca->stranger_key : op->ca->ra_key,
                                                   digest ? digest : EVP_sha256(), CMS_BINARY | CMS_NOSMIMECAP)
                                 : NULL;
    if (signer && attributes_add(op, signer) && CMS_final(cms, in, NULL, flags) == 1) {
        if (op->plan->mode == MODE_BROKEN_SIGNATURE)
            signature_break(cms);
        ok = i2d_CMS_bio(out, cms) == 1;
    }
    if (ok)
        op->reply->body = sim_bytes_of_bio(out, op->pool);
    CMS_ContentInfo_free(cms);
    BIO_free(in);
    BIO_free(out);
    return ok;
}

static void reply_text(sim_ca_reply_t *reply, int status, const char *text, apr_pool_t *pool)
{
    reply->status = status;
    reply->content_type = "text/plain";
    reply->body = sim_bytes(text, strlen(text), pool);
}

/* These modes answer before any decision; true: answered. */
static bool without_decision(operation_t *op)
{
    static const char html[] =
        "<!DOCTYPE html><html><head><title>Welcome</title></head><body>It works!</body></html>\n";
    sim_ca_mode_t mode = op->plan->mode;
    if (mode != MODE_STATUS && mode != MODE_DROP && mode != MODE_HTML && mode != MODE_EMPTY)
        return false;
    op->record->outcome = sim_ca_mode_name(mode);
    if (mode == MODE_STATUS)
        reply_text(op->reply, op->plan->status, "as I was told\n", op->pool);
    if (mode == MODE_HTML) {
        reply_text(op->reply, 200, html, op->pool);
        op->reply->content_type = "text/html";
    }
    if (mode == MODE_EMPTY) {
        op->reply->content_type = "application/x-pki-message";
        op->reply->body = sim_bytes("", 0, op->pool);
    }
    return true;
}

void sim_ca_operate(sim_ca_t *ca, sim_bytes_t message, const sim_ca_plan_t *plan, sim_ca_record_t *record,
                    sim_ca_reply_t *reply, apr_pool_t *pool)
{
    operation_t op = {.ca = ca, .plan = plan, .record = record, .reply = reply, .pool = pool};
    sim_bytes_t envelope = {NULL, 0};
    const char *error = sim_signed_open(ca->libctx, message, &op.request, pool);
    reply->status = 200;
    record->mode = sim_ca_mode_name(plan->mode);
    if (!error)
        outside_record(&op);
    if (without_decision(&op)) {
        if (!error)
            inside_open(&op, &error);
        ERR_clear_error();
        return;
    }
    if (error || op.request.trailing) {
        record->outcome = "malformed";
        reply_text(reply, 400, error ? error : "bytes behind the message", pool);
        return;
    }
    decide(&op);
    if (strcmp(op.status, "0") == 0)
        envelope = envelope_make(&op);
    reply->content_type = "application/x-pki-message";
    if ((strcmp(op.status, "0") == 0 && !envelope.data) || !reply_sign(&op, envelope))
        reply_text(reply, 500, sim_openssl_error(pool), pool);
    ERR_clear_error();
}

/* The roll-over certificate is the stranger's: any other CA certificate of the same name will do. */
bool sim_ca_next_answer(sim_ca_t *ca, sim_ca_reply_t *reply, apr_pool_t *pool)
{
    if (!sim_ca_stranger(ca))
        return false;
    sim_bytes_t next = sim_cert_der(ca->stranger, pool), inner = sim_certs_only(&next, 1, pool);
    BIO *in = BIO_new_mem_buf(inner.data, (int)inner.len), *out = BIO_new(BIO_s_mem());
    CMS_ContentInfo *cms = CMS_sign_ex(ca->ra, ca->ra_key, NULL, in, CMS_BINARY | CMS_NOSMIMECAP, ca->libctx, NULL);
    bool ok = cms && i2d_CMS_bio(out, cms) == 1;
    reply->status = 200;
    reply->content_type = "application/x-x509-next-ca-cert";
    if (ok)
        reply->body = sim_bytes_of_bio(out, pool);
    CMS_ContentInfo_free(cms);
    BIO_free(out);
    BIO_free(in);
    return ok;
}
