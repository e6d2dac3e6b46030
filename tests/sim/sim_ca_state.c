/* SPDX-License-Identifier: Apache-2.0 */
/* What the scripted CA was told, and what it remembers. */
#include "sim_ca.h"

#include <string.h>

#include <apr_strings.h>

static const char default_caps[] = "AES\nDES3\nPOSTPKIOperation\nRenewal\nSHA-1\nSHA-256\nSHA-512\nSCEPStandard\n";

static const char *const mode_names[MODE_COUNT] = {
    [MODE_OK] = "ok",
    [MODE_REFUSE] = "refuse",
    [MODE_PENDING] = "pending",
    [MODE_SLOW] = "slow",
    [MODE_STATUS] = "status",
    [MODE_TRUNCATE] = "truncate",
    [MODE_STALL] = "stall",
    [MODE_DROP] = "drop",
    [MODE_DROP_AFTER] = "drop_after",
    [MODE_HTML] = "html",
    [MODE_EMPTY] = "empty",
    [MODE_OTHER_TRANSACTION] = "other_transaction",
    [MODE_OTHER_NONCE] = "other_nonce",
    [MODE_NO_NONCE] = "no_nonce",
    [MODE_FOREIGN_SIGNER] = "foreign_signer",
    [MODE_BROKEN_SIGNATURE] = "broken_signature",
    [MODE_WRONG_KEY] = "wrong_key",
    [MODE_TWO_CERTIFICATES] = "two_certificates",
    [MODE_CHAIN] = "chain",
    [MODE_NO_CERTIFICATE] = "no_certificate",
    [MODE_EXPIRED] = "expired",
    [MODE_NOT_YET] = "not_yet",
    [MODE_FOREIGN_ISSUER] = "foreign_issuer",
    [MODE_OTHER_RECIPIENT] = "other_recipient",
};

const char *sim_ca_mode_name(sim_ca_mode_t mode)
{
    return mode_names[mode];
}

bool sim_ca_mode_find(const char *name, sim_ca_mode_t *mode)
{
    if (strcmp(name, "drop_before") == 0)
        name = mode_names[MODE_DROP];
    for (int i = 0; i < MODE_COUNT; i++) {
        if (strcmp(mode_names[i], name) == 0) {
            *mode = (sim_ca_mode_t)i;
            return true;
        }
    }
    return false;
}

static int number_of(struct json_object *json, const char *name, int otherwise)
{
    struct json_object *value = NULL;
    if (!json_object_object_get_ex(json, name, &value) || !value)
        return otherwise;
    return json_object_get_int(value);
}

/* What goes with a mode, or with a mix of them. */
static const char *manner_read(struct json_object *json, sim_ca_plan_t *plan)
{
    struct json_object *value = NULL;
    plan->times = number_of(json, "times", -1);
    plan->fail_info = number_of(json, "fail_info", 2);
    plan->status = number_of(json, "status", 500);
    plan->seconds = json_object_object_get_ex(json, "seconds", &value) ? json_object_get_double(value) : 1;
    plan->text[0] = 0;
    if (json_object_object_get_ex(json, "text", &value) && value)
        apr_cpystrn(plan->text, json_object_get_string(value), sizeof(plan->text));
    if (plan->fail_info < 0 || plan->fail_info > 4 || plan->status < 100 || plan->status > 599)
        return "fail_info or status out of range";
    return NULL;
}

static const char *mode_read(struct json_object *json, sim_ca_plan_t *plan, sim_ca_mix_t *mix)
{
    struct json_object *value = NULL;
    bool mixed = json_object_object_get_ex(json, "mix", &value);
    if (mixed && json_object_object_get_ex(json, "mode", NULL))
        return "mode and mix do not go together";
    if (mixed) {
        const char *error = sim_ca_mix_read(json, mix);
        if (error)
            return error;
        plan->mode = MODE_OK;
    } else if (!json_object_object_get_ex(json, "mode", &value)) {
        return NULL;
    } else if (!json_object_is_type(value, json_type_string) ||
               !sim_ca_mode_find(json_object_get_string(value), &plan->mode)) {
        return "unknown mode";
    }
    plan->mixed = mixed;
    return manner_read(json, plan);
}

static const char *approval_read(struct json_object *json, sim_ca_plan_t *plan)
{
    struct json_object *value = NULL;
    if (!json_object_object_get_ex(json, "approval", &value))
        return NULL;
    const char *text = value ? json_object_get_string(value) : "";
    plan->manual = strcmp(text, "manual") == 0;
    return plan->manual || strcmp(text, "automatic") == 0 ? NULL : "approval is manual or automatic";
}

/* The mutex is held. */
static const char *decision_take(sim_ca_t *ca, struct json_object *json, struct json_object *answer)
{
    static const struct {
        const char *name, *past;
        sim_ca_decision_t decision;
    } decisions[] = {{"approve", "approved", SIM_CA_APPROVED}, {"reject", "rejected", SIM_CA_REJECTED}};
    struct json_object *value = NULL;
    int fail_info = number_of(json, "fail_info", 2);
    if (fail_info < 0 || fail_info > 4)
        return "fail_info out of range";
    for (size_t i = 0; i < sizeof(decisions) / sizeof(decisions[0]); i++) {
        if (!json_object_object_get_ex(json, decisions[i].name, &value))
            continue;
        if (!json_object_is_type(value, json_type_string))
            return "approve and reject want a transaction, or *";
        const char *text = json_object_get_string(value);
        sim_bytes_t id = {(unsigned char *)text, (apr_size_t)json_object_get_string_len(value)};
        int count = sim_ca_transactions_decide(ca, id, decisions[i].decision, fail_info);
        if (count == 0 && strcmp(text, "*") != 0)
            return "no such transaction is pending";
        json_object_object_add(answer, decisions[i].past, json_object_new_int(count));
    }
    return NULL;
}

static const char *algorithms_read(struct json_object *json, sim_ca_plan_t *plan, apr_pool_t *pool)
{
    struct json_object *value = NULL;
    if (json_object_object_get_ex(json, "cipher", &value)) {
        if (value && !sim_cipher_by_name(json_object_get_string(value)))
            return "unknown cipher";
        plan->cipher = value ? apr_pstrdup(pool, json_object_get_string(value)) : NULL;
    }
    if (json_object_object_get_ex(json, "digest", &value)) {
        if (value && !sim_digest_by_name(json_object_get_string(value)))
            return "unknown digest";
        plan->digest = value ? apr_pstrdup(pool, json_object_get_string(value)) : NULL;
    }
    if (json_object_object_get_ex(json, "oaep", &value))
        plan->oaep = json_object_get_boolean(value);
    return NULL;
}

static const char *names_check(struct json_object *json)
{
    static const char *const known[] = {"mode",     "times",   "fail_info", "text", "status", "seconds",
                                        "caps",     "cipher",  "digest",    "oaep", "next",   "keep_csr",
                                        "approval", "approve", "reject",    "mix",  "seed"};
    if (!json_object_is_type(json, json_type_object))
        return "not a JSON object";
    json_object_object_foreach(json, name, unused)
    {
        bool found = false;
        (void)unused;
        for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
            found = found || strcmp(name, known[i]) == 0;
        if (!found)
            return "unknown name in the control request";
    }
    return NULL;
}

const char *sim_ca_control(sim_ca_t *ca, struct json_object *json, struct json_object *answer)
{
    struct json_object *value = NULL;
    const char *error = names_check(json);
    if (error)
        return error;
    apr_thread_mutex_lock(ca->mutex);
    sim_ca_plan_t plan = ca->plan;
    sim_ca_mix_t mix = ca->mix;
    error = mode_read(json, &plan, &mix);
    /* From the lasting pool: a reset must not pull a name from under a request that uses it. */
    if (!error)
        error = algorithms_read(json, &plan, ca->pool);
    if (!error)
        error = approval_read(json, &plan);
    if (!error)
        error = decision_take(ca, json, answer);
    if (!error) {
        ca->plan = plan;
        ca->mix = mix;
        if (json_object_object_get_ex(json, "caps", &value))
            ca->caps = value ? apr_pstrdup(ca->pool, json_object_get_string(value)) : NULL;
        if (json_object_object_get_ex(json, "next", &value))
            ca->next = json_object_get_boolean(value);
        if (json_object_object_get_ex(json, "keep_csr", &value))
            ca->keep_csr = json_object_get_boolean(value);
    }
    apr_thread_mutex_unlock(ca->mutex);
    return error;
}

void sim_ca_reset(sim_ca_t *ca)
{
    apr_thread_mutex_lock(ca->mutex);
    if (ca->state)
        apr_pool_destroy(ca->state);
    apr_pool_create(&ca->state, ca->pool);
    ca->transactions = apr_hash_make(ca->state);
    ca->csrs = apr_hash_make(ca->state);
    memset(&ca->plan, 0, sizeof(ca->plan));
    ca->plan.times = -1;
    ca->caps = NULL;
    ca->next = false;
    ca->keep_csr = true;
    ca->count = 0;
    ca->epoch++;
    ca->first = ca->last = NULL;
    apr_thread_mutex_unlock(ca->mutex);
}

sim_ca_plan_t sim_ca_plan_take(sim_ca_t *ca)
{
    apr_thread_mutex_lock(ca->mutex);
    sim_ca_plan_t plan = ca->plan;
    if (ca->plan.times == 0) {
        plan.mode = ca->plan.mode = MODE_OK;
        plan.mixed = ca->plan.mixed = false;
    } else if (ca->plan.times > 0) {
        ca->plan.times--;
    }
    if (plan.mixed)
        plan.mode = sim_ca_mix_draw(&ca->mix);
    apr_thread_mutex_unlock(ca->mutex);
    return plan;
}

char *sim_ca_caps(sim_ca_t *ca, apr_pool_t *pool)
{
    apr_thread_mutex_lock(ca->mutex);
    char *caps = ca->caps ? apr_pstrdup(pool, ca->caps)
                          : apr_pstrcat(pool, default_caps, ca->next ? "GetNextCACert\n" : "", NULL);
    apr_thread_mutex_unlock(ca->mutex);
    return caps;
}

bool sim_ca_next(sim_ca_t *ca)
{
    apr_thread_mutex_lock(ca->mutex);
    bool next = ca->next;
    apr_thread_mutex_unlock(ca->mutex);
    return next;
}
