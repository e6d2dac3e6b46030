/* SPDX-License-Identifier: Apache-2.0 */
/* The scripted CA's transactions: what waits, what somebody decided, what has its certificate. */
#include "sim_ca.h"

#include <string.h>

#include <openssl/sha.h>

sim_bytes_t sim_ca_csr_keep(sim_ca_t *ca, sim_bytes_t csr)
{
    unsigned char hash[SHA256_DIGEST_LENGTH];
    if (!csr.data)
        return csr;
    SHA256(csr.data, csr.len, hash);
    sim_bytes_t *kept = apr_hash_get(ca->csrs, hash, sizeof(hash));
    if (!kept) {
        kept = apr_palloc(ca->state, sizeof(*kept));
        *kept = sim_bytes(csr.data, csr.len, ca->state);
        apr_hash_set(ca->csrs, sim_bytes(hash, sizeof(hash), ca->state).data, sizeof(hash), kept);
    }
    return *kept;
}

static sim_bytes_t copy(sim_bytes_t bytes, apr_pool_t *pool)
{
    return bytes.data ? sim_bytes(bytes.data, bytes.len, pool) : bytes;
}

static sim_ca_transaction_t *find(sim_ca_t *ca, sim_bytes_t id)
{
    return apr_hash_get(ca->transactions, id.data, (apr_ssize_t)id.len);
}

/* A new one in the place of whatever was there. */
static sim_ca_transaction_t *make(sim_ca_t *ca, sim_bytes_t id, sim_bytes_t csr)
{
    sim_ca_transaction_t *made = apr_pcalloc(ca->state, sizeof(*made));
    made->csr = sim_ca_csr_keep(ca, csr);
    apr_hash_set(ca->transactions, copy(id, ca->state).data, (apr_ssize_t)id.len, made);
    return made;
}

static bool same_csr(const sim_ca_transaction_t *known, sim_bytes_t csr)
{
    return known->csr.len == csr.len && memcmp(known->csr.data, csr.data, csr.len) == 0;
}

static void give(const sim_ca_transaction_t *known, sim_ca_transaction_t *out, apr_pool_t *pool)
{
    *out = *known;
    out->csr = copy(known->csr, pool);
    out->cert = copy(known->cert, pool);
}

void sim_ca_transaction_put(sim_ca_t *ca, sim_bytes_t id, sim_bytes_t csr, sim_bytes_t cert)
{
    apr_thread_mutex_lock(ca->mutex);
    if (ca->keep_csr)
        make(ca, id, csr)->cert = copy(cert, ca->state);
    apr_thread_mutex_unlock(ca->mutex);
}

bool sim_ca_transaction_settle(sim_ca_t *ca, sim_bytes_t id, sim_bytes_t csr, sim_bytes_t *cert, apr_pool_t *pool)
{
    apr_thread_mutex_lock(ca->mutex);
    sim_ca_transaction_t *known = find(ca, id);
    if (!known || !same_csr(known, csr))
        known = make(ca, id, csr);
    bool had_none = !known->cert.data;
    if (had_none)
        known->cert = copy(*cert, ca->state);
    else
        *cert = copy(known->cert, pool);
    apr_thread_mutex_unlock(ca->mutex);
    return had_none;
}

void sim_ca_transaction_ask(sim_ca_t *ca, sim_bytes_t id, sim_bytes_t csr, sim_ca_transaction_t *out, apr_pool_t *pool)
{
    apr_thread_mutex_lock(ca->mutex);
    const sim_ca_transaction_t *known = find(ca, id);
    if (!known || !same_csr(known, csr))
        known = make(ca, id, csr);
    give(known, out, pool);
    apr_thread_mutex_unlock(ca->mutex);
}

bool sim_ca_transaction_get(sim_ca_t *ca, sim_bytes_t id, sim_ca_transaction_t *out, apr_pool_t *pool)
{
    apr_thread_mutex_lock(ca->mutex);
    const sim_ca_transaction_t *known = find(ca, id);
    if (known)
        give(known, out, pool);
    apr_thread_mutex_unlock(ca->mutex);
    return known != NULL;
}

static void decide(sim_ca_transaction_t *known, sim_ca_decision_t decision, int fail_info)
{
    known->decision = decision;
    known->fail_info = fail_info;
}

int sim_ca_transactions_decide(sim_ca_t *ca, sim_bytes_t id, sim_ca_decision_t decision, int fail_info)
{
    int count = 0;
    if (id.len != 1 || id.data[0] != '*') {
        sim_ca_transaction_t *known = find(ca, id);
        bool pending = known && !known->cert.data;
        if (pending)
            decide(known, decision, fail_info);
        return pending;
    }
    for (apr_hash_index_t *i = apr_hash_first(NULL, ca->transactions); i; i = apr_hash_next(i)) {
        sim_ca_transaction_t *known = apr_hash_this_val(i);
        if (known->cert.data || known->decision != SIM_CA_WAITING)
            continue;
        decide(known, decision, fail_info);
        count++;
    }
    return count;
}
