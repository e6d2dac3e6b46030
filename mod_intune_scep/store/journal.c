/* SPDX-License-Identifier: Apache-2.0 */
#include "store/journal_internal.h"

#include "base/clock.h"
#include "base/fault.h"
#include "base/secret.h"
#include "base/text.h"

#include <apr_strings.h>
#include <openssl/evp.h>
#include <string.h>
#include <unistd.h>

enum { OWNER_RANDOM_BYTES = 16, WORDS_MAX = 2000, ROOM = 32768 };
/* For so long a certificate is tried to be written down, while a device waits. */
static const apr_interval_time_t OUTCOME_LIMIT = apr_time_from_sec(10);
static const apr_interval_time_t OUTCOME_PAUSE = apr_time_from_msec(250);
static const char NO_CSR[] = "no random numbers or no memory for the request";

/* A holder that has died gives way before its lease ends. */
static const char *free_word(const journal_row_t *row)
{
    return row->owner_gone ? "gone" : "";
}

const char *journal_tag(apr_pool_t *pool)
{
    return text_random_hex(pool, JOURNAL_TAG_DIGITS / 2);
}

static apr_status_t forget_key(void *data)
{
    journal_t *journal = data;
    secret_wipe(journal->csr_key, sizeof(journal->csr_key));
    return APR_SUCCESS;
}

static void take_id(journal_t *journal, const char *id)
{
    int missing = ID_MISSING;
    if (id && atomic_compare_exchange_strong(&journal->id_state, &missing, ID_WRITTEN)) {
        apr_cpystrn(journal->id, id, sizeof(journal->id));
        atomic_store(&journal->id_state, ID_KNOWN);
    }
}

apr_status_t journal_open(journal_t **journal, const journal_settings_t *settings, apr_pool_t *pool,
                          const char **message)
{
    database_place_t place;
    journal_t *made = apr_pcalloc(pool, sizeof(*made));
    apr_status_t rv = database_place_parse(&place, settings->place, pool, message);
    if (rv) {
        return rv;
    }
    made->tag = apr_pstrdup(pool, settings->tag);
    made->settings = *settings;
    atomic_init(&made->id_state, ID_MISSING);
    take_id(made, settings->id);
    atomic_init(&made->is_ready, !settings->unprepared);
    atomic_init(&made->try_again, 0);
    apr_pool_cleanup_register(pool, made, forget_key, apr_pool_cleanup_null);
    rv = state_key_derive(settings->state_key, "mod_intune_scep journal requests 1", made->csr_key);
    if (!rv) {
        rv = database_make(&made->database, &place, settings->turn, journal_statements, STATEMENT_COUNT, pool);
    }
    if (rv) {
        *message = "the journal's key or its connections cannot be made";
        return rv;
    }
    *journal = made;
    return APR_SUCCESS;
}

/* What the start could not find out. */
static apr_status_t learn_id(journal_t *journal, apr_pool_t *pool, const char **message)
{
    const char *arguments[] = {"journal_id"};
    apr_array_header_t *rows = NULL;
    apr_status_t rv = database_select(journal->database, STATEMENT_META, arguments, 1, 1, &rows, pool, message);
    take_id(journal, !rv && rows->nelts ? APR_ARRAY_IDX(rows, 0, const char *const *)[0] : NULL);
    return rv;
}

apr_status_t journal_ready(journal_t *journal, apr_pool_t *pool, const char **message)
{
    const char *id = NULL;
    apr_time_t now = clock_now();
    apr_time_t turn = atomic_load(&journal->try_again);
    if (atomic_load(&journal->is_ready)) {
        return APR_SUCCESS;
    }
    *message = "it could not be used when the server started, and not since";
    bool waits = now < turn && turn - now <= APR_USEC_PER_SEC;
    if (waits || !atomic_compare_exchange_strong(&journal->try_again, &turn, now + APR_USEC_PER_SEC)) {
        return APR_EGENERAL;
    }
    /* SQLite's schema was made by an earlier start, and its file is the parent's to make. */
    apr_status_t rv = database_kind(journal->database) == DATABASE_SQLITE
                          ? journal_check(&journal->settings, pool, message)
                          : journal_prepare(&journal->settings, geteuid(), getegid(), &id, pool, message);
    if (!rv) {
        rv = learn_id(journal, pool, message);
    }
    if (!rv) {
        atomic_store(&journal->is_ready, true);
    }
    return rv;
}

static bool digest_part(EVP_MD_CTX *digest, const void *data, apr_size_t len)
{
    unsigned char length[4] = {(unsigned char)(len >> 24), (unsigned char)(len >> 16), (unsigned char)(len >> 8),
                               (unsigned char)len};
    return EVP_DigestUpdate(digest, length, sizeof(length)) == 1 && EVP_DigestUpdate(digest, data, len) == 1;
}

const char *journal_id(const char *location, const char *transaction_id, bytes_t info_sha256, apr_pool_t *pool)
{
    unsigned char sha256[EVP_MAX_MD_SIZE];
    bytes_t id = {sha256, 32};
    EVP_MD_CTX *digest = EVP_MD_CTX_new();
    bool good = digest && EVP_DigestInit_ex(digest, EVP_sha256(), NULL) == 1 &&
                digest_part(digest, location, strlen(location)) &&
                digest_part(digest, transaction_id, strlen(transaction_id)) &&
                digest_part(digest, info_sha256.data, info_sha256.len) && EVP_DigestFinal_ex(digest, sha256, NULL) == 1;
    EVP_MD_CTX_free(digest);
    return good ? text_hex(pool, id) : NULL;
}

apr_status_t journal_find(journal_t *journal, const char *id, journal_row_t **row, apr_pool_t *pool,
                          const char **message)
{
    const char *arguments[] = {id};
    return journal_select_one(journal, STATEMENT_FIND, arguments, 1, row, pool, message);
}

apr_status_t journal_find_poll(journal_t *journal, const char *location, const char *transaction_id, const char *key_fp,
                               journal_row_t **row, apr_pool_t *pool, const char **message)
{
    const char *arguments[] = {location, transaction_id, key_fp};
    return journal_select_one(journal, STATEMENT_FIND_POLL, arguments, 3, row, pool, message);
}

static const char *owner_make(const journal_t *journal, apr_pool_t *pool)
{
    const char *random = text_random_hex(pool, OWNER_RANDOM_BYTES);
    return random ? apr_psprintf(pool, "%s-%ld-%s", journal->tag, (long)getpid(), random) : NULL;
}

static void take(journal_row_t *row, const char *owner, apr_interval_time_t lease)
{
    row->owner = owner;
    row->leased = lease > 0;
    row->owner_gone = false;
}

/* What others say of a failure must not make the journal fail: PostgreSQL takes no broken UTF-8. */
static const char *clean(const char *words, apr_pool_t *pool)
{
    return words ? text_cut_utf8(pool, words, WORDS_MAX) : NULL;
}

static const char *new_word(const char *event)
{
    return event ? "new" : "";
}

/*
 * After a write that failed: whether it was done all the same. Then the row as it is now. PostgreSQL's connection may be
 * lost after the commit; with SQLite it was the disk, and what is there to read need not be on it.
 */
static apr_status_t look_again(journal_t *journal, apr_status_t rv, const char *id, const char *owner,
                               journal_row_t **row, apr_pool_t *pool)
{
    journal_row_t *found = NULL;
    const char *ignored = NULL;
    if (APR_STATUS_IS_EBUSY(rv) || database_kind(journal->database) == DATABASE_SQLITE ||
        journal_find(journal, id, &found, pool, &ignored) || strcmp(found->owner, owner)) {
        return rv;
    }
    *row = found;
    return APR_SUCCESS;
}

apr_status_t journal_begin(journal_t *journal, const journal_intent_t *intent, journal_row_t **row, apr_pool_t *pool,
                           const char **message)
{
    const char *owner = owner_make(journal, pool);
    const char *csr = journal_csr_seal(journal, intent->id, intent->csr, pool);
    if (!owner || !csr) {
        *message = NO_CSR;
        return APR_EGENERAL;
    }
    const char *arguments[] = {intent->id,
                               intent->location,
                               intent->transaction_id,
                               intent->key_fp,
                               owner,
                               journal_time(intent->lease, pool),
                               journal_time(intent->lease + intent->grace, pool),
                               intent->request_id,
                               csr,
                               intent->ra_fp,
                               intent->location,
                               intent->transaction_id};
    fault_point("intent-before");
    apr_status_t rv = journal_change(journal, DATABASE_DURABLE, STATEMENT_BEGIN, arguments, 12, pool, message);
    fault_point("intent-after");
    if (rv) {
        rv = look_again(journal, rv, intent->id, owner, row, pool);
        return APR_STATUS_IS_EBUSY(rv) ? APR_EEXIST : rv;
    }
    journal_row_t *made = apr_pcalloc(pool, sizeof(*made));
    made->id = intent->id;
    made->location = intent->location;
    made->transaction_id = intent->transaction_id;
    made->key_fp = intent->key_fp;
    made->state = JOURNAL_INTENT;
    made->report = JOURNAL_OWED_FAILURE;
    take(made, owner, intent->lease);
    made->due_in = intent->lease + intent->grace;
    made->request_id = intent->request_id;
    made->csr = intent->csr;
    made->ra_fp = intent->ra_fp;
    *row = made;
    return APR_SUCCESS;
}

static apr_status_t claim_issue(journal_t *journal, const journal_row_t *row, const char *owner,
                                const journal_intent_t *intent, apr_pool_t *pool, const char **message)
{
    const char *csr = journal_csr_seal(journal, row->id, intent->csr, pool);
    if (!csr) {
        *message = NO_CSR;
        return APR_EGENERAL;
    }
    const char *arguments[] = {owner,
                               journal_time(intent->lease, pool),
                               journal_time(intent->lease + intent->grace, pool),
                               intent->request_id,
                               csr,
                               intent->ra_fp,
                               row->id,
                               journal_state_name(row->state),
                               row->owner,
                               free_word(row)};
    fault_point("intent-before");
    apr_status_t rv = journal_change(journal, DATABASE_DURABLE, STATEMENT_CLAIM_ISSUE, arguments, 10, pool, message);
    fault_point("intent-after");
    return rv;
}

apr_status_t journal_claim(journal_t *journal, journal_row_t **row, journal_purpose_t purpose,
                           const journal_intent_t *intent, apr_pool_t *pool, const char **message)
{
    const journal_row_t *old = *row;
    const char *owner = owner_make(journal, pool);
    const char *lease = journal_time(intent->lease, pool);
    apr_status_t rv = APR_EGENERAL;
    if (!owner) {
        *message = "no random numbers";
        return rv;
    }
    switch (purpose) {
    case JOURNAL_TO_ISSUE:
        rv = claim_issue(journal, old, owner, intent, pool, message);
        break;
    case JOURNAL_TO_POLL: {
        const char *arguments[] = {owner, lease, old->id, old->owner, free_word(old)};
        rv = journal_change(journal, DATABASE_DURABLE, STATEMENT_CLAIM_POLL, arguments, 5, pool, message);
        break;
    }
    case JOURNAL_TO_REPORT: {
        const char *arguments[] = {owner, lease, old->id, old->owner, journal_report_name(old->report), free_word(old)};
        rv = journal_change(journal, DATABASE_RELAXED, STATEMENT_CLAIM_REPORT, arguments, 6, pool, message);
        break;
    }
    }
    if (rv) {
        return look_again(journal, rv, old->id, owner, row, pool);
    }
    journal_row_t *taken = apr_pmemdup(pool, old, sizeof(*old));
    take(taken, owner, intent->lease);
    if (purpose == JOURNAL_TO_ISSUE) {
        taken->state = JOURNAL_INTENT;
        taken->report = JOURNAL_OWED_FAILURE;
        taken->due_in = intent->lease + intent->grace;
        taken->tries = 0;
        taken->request_id = intent->request_id;
        taken->csr = old->csr.len ? old->csr : intent->csr;
        taken->ra_fp = intent->ra_fp;
        taken->fail = NULL;
        taken->idle = 0;
    } else if (purpose == JOURNAL_TO_REPORT) {
        taken->tries++;
    }
    *row = taken;
    return APR_SUCCESS;
}

static apr_status_t outcome_write(journal_t *journal, const journal_row_t *row, const journal_outcome_t *outcome,
                                  apr_pool_t *pool, const char **message)
{
    if (outcome->state == JOURNAL_PENDING) {
        const char *arguments[] = {journal_time(outcome->due_in, pool), outcome->node, row->id, row->owner};
        return journal_change(journal, DATABASE_DURABLE, STATEMENT_OUTCOME_PENDING, arguments, 4, pool, message);
    }
    bool issued = outcome->state == JOURNAL_ISSUED;
    const char *arguments[] = {journal_state_name(outcome->state),
                               journal_report_name(issued ? JOURNAL_OWED_SUCCESS : JOURNAL_OWED_FAILURE),
                               journal_time(outcome->report_now ? 0 : outcome->due_in, pool),
                               outcome->report_now ? "1" : "0",
                               journal_time(outcome->report_now ? outcome->lease : 0, pool),
                               issued ? text_base64(pool, outcome->certificate) : NULL,
                               outcome->certificate_fp,
                               outcome->serial,
                               clean(outcome->fail, pool),
                               outcome->node,
                               outcome->event,
                               new_word(outcome->event),
                               clean(outcome->event_detail, pool),
                               new_word(outcome->event),
                               row->id,
                               row->owner};
    return journal_change(journal, DATABASE_DURABLE, STATEMENT_OUTCOME, arguments, 16, pool, message);
}

/* What the row holds once the outcome is written. */
static journal_row_t *outcome_row(const journal_row_t *old, const journal_outcome_t *outcome, apr_pool_t *pool)
{
    journal_row_t *row = apr_pmemdup(pool, old, sizeof(*old));
    bool issued = outcome->state == JOURNAL_ISSUED;
    row->state = outcome->state;
    row->leased = outcome->report_now;
    row->idle = 0;
    row->node = outcome->node ? outcome->node : old->node;
    if (outcome->state == JOURNAL_PENDING) {
        row->due_in = old->state == JOURNAL_PENDING ? old->due_in : outcome->due_in;
        return row;
    }
    row->report = issued ? JOURNAL_OWED_SUCCESS : JOURNAL_OWED_FAILURE;
    row->due_in = outcome->report_now ? 0 : outcome->due_in;
    row->tries = outcome->report_now ? 1 : 0;
    row->certificate = issued ? outcome->certificate : (bytes_t){NULL, 0};
    row->certificate_fp = outcome->certificate_fp;
    row->serial = outcome->serial;
    row->fail = clean(outcome->fail, pool);
    return row;
}

static apr_status_t outcome_once(journal_t *journal, journal_row_t **row, const journal_outcome_t *outcome,
                                 apr_pool_t *pool, const char **message)
{
    const journal_row_t *old = *row;
    journal_row_t *found = NULL;
    fault_point("outcome-before");
    apr_status_t rv = outcome_write(journal, old, outcome, pool, message);
    fault_point("outcome-after");
    if (!rv) {
        *row = outcome_row(old, outcome, pool);
        return APR_SUCCESS;
    }
    /* The owner is the same before and after: the state tells whether the statement was done. */
    apr_status_t again = look_again(journal, rv, old->id, old->owner, &found, pool);
    if (!again && found->state == outcome->state && (found->state != old->state || !found->leased)) {
        *row = found;
        return APR_SUCCESS;
    }
    return rv;
}

/* SQLite's file that was somebody else's all the time, and a server that starts again, are free in a moment. */
bool journal_may_pass(const journal_t *journal, apr_status_t rv)
{
    return APR_STATUS_IS_TIMEUP(rv) ||
           (rv && !APR_STATUS_IS_EBUSY(rv) && database_kind(journal->database) == DATABASE_PGSQL);
}

apr_status_t journal_outcome(journal_t *journal, journal_row_t **row, const journal_outcome_t *outcome,
                             apr_pool_t *pool, const char **message)
{
    apr_time_t until = clock_now() + OUTCOME_LIMIT;
    apr_status_t rv = outcome_once(journal, row, outcome, pool, message);
    /* Given up, a certificate would be an orphan. Who finds his own change done already gets APR_EBUSY. */
    while (outcome->certificate.len && journal_may_pass(journal, rv) && clock_now() < until) {
        apr_sleep(OUTCOME_PAUSE);
        rv = outcome_once(journal, row, outcome, pool, message);
    }
    return rv;
}

apr_status_t journal_adopt(journal_t *journal, journal_row_t **row, const journal_outcome_t *outcome, bytes_t csr,
                           apr_pool_t *pool, const char **message)
{
    const char *id = (*row)->id;
    const char *owner = owner_make(journal, pool);
    if (!owner) {
        *message = "no random numbers";
        return APR_EGENERAL;
    }
    const char *arguments[] = {owner,
                               journal_time(outcome->lease, pool),
                               outcome->report_now ? "1" : "0",
                               text_base64(pool, outcome->certificate),
                               outcome->certificate_fp,
                               outcome->serial,
                               journal_csr_seal(journal, id, csr, pool),
                               id};
    fault_point("adopt-before");
    apr_status_t rv = journal_change(journal, DATABASE_DURABLE, STATEMENT_ADOPT, arguments, 8, pool, message);
    fault_point("adopt-after");
    if (rv) {
        return look_again(journal, rv, id, owner, row, pool);
    }
    journal_row_t *adopted = outcome_row(*row, outcome, pool);
    take(adopted, owner, outcome->lease);
    adopted->csr = adopted->csr.len ? adopted->csr : csr;
    *row = adopted;
    return APR_SUCCESS;
}

apr_status_t journal_raise(journal_t *journal, const char *id, const char *event, const char *detail, apr_pool_t *pool,
                           const char **message)
{
    const char *arguments[] = {event, clean(detail, pool), id};
    return journal_change(journal, DATABASE_DURABLE, STATEMENT_RAISE, arguments, 3, pool, message);
}

static const journal_report_t SETTLED[] = {[JOURNAL_ACCEPTED] = JOURNAL_DONE,
                                           [JOURNAL_REFUSAL] = JOURNAL_REFUSED,
                                           [JOURNAL_RETRY] = JOURNAL_OWED_SUCCESS,
                                           [JOURNAL_GIVEN_UP] = JOURNAL_DEAD};

static apr_status_t settle_accepted(journal_t *journal, const journal_row_t *row, apr_pool_t *pool,
                                    const char **message)
{
    const char *arguments[] = {row->id, row->certificate_fp};
    fault_point("done-before");
    apr_status_t rv = journal_change(journal, DATABASE_RELAXED, STATEMENT_ACCEPTED, arguments, 2, pool, message);
    fault_point("done-after");
    return rv;
}

static apr_status_t settle_otherwise(journal_t *journal, const journal_row_t *row,
                                     const journal_settlement_t *settlement, apr_pool_t *pool, const char **message)
{
    bool again = settlement->verdict == JOURNAL_RETRY;
    bool keep = again || (row->report == JOURNAL_OWED_SUCCESS && settlement->verdict != JOURNAL_ACCEPTED);
    const char *report = journal_report_name(again ? row->report : SETTLED[settlement->verdict]);
    const char *arguments[] = {report,
                               journal_state_name(settlement->state),
                               journal_time(settlement->due_in, pool),
                               keep ? "keep" : "",
                               clean(settlement->fail, pool),
                               settlement->event,
                               new_word(settlement->event),
                               clean(settlement->event_detail, pool),
                               new_word(settlement->event),
                               journal_state_name(settlement->state),
                               report,
                               row->id,
                               row->owner,
                               journal_report_name(row->report)};
    bool relaxed = settlement->verdict == JOURNAL_ACCEPTED;
    fault_point(relaxed ? "done-before" : "settle-before");
    apr_status_t rv = journal_change(journal, relaxed ? DATABASE_RELAXED : DATABASE_DURABLE, STATEMENT_SETTLE,
                                     arguments, 14, pool, message);
    fault_point(relaxed ? "done-after" : "settle-after");
    return rv;
}

/* After a settlement that failed: whether the row is as it wanted it. */
static bool is_settled(const journal_t *journal, const journal_row_t *old, const journal_row_t *found,
                       const journal_settlement_t *settlement)
{
    if (settlement->verdict == JOURNAL_ACCEPTED && old->report == JOURNAL_OWED_SUCCESS) {
        return found->report == JOURNAL_DONE;
    }
    if (database_kind(journal->database) == DATABASE_SQLITE || strcmp(found->owner, old->owner)) {
        return false;
    }
    return settlement->verdict == JOURNAL_RETRY ? found->report == old->report && !found->leased
                                                : found->report == SETTLED[settlement->verdict];
}

apr_status_t journal_settle(journal_t *journal, journal_row_t **row, const journal_settlement_t *settlement,
                            apr_pool_t *pool, const char **message)
{
    const journal_row_t *old = *row;
    journal_row_t *found = NULL;
    const char *ignored = NULL;
    bool accepted_success = settlement->verdict == JOURNAL_ACCEPTED && old->report == JOURNAL_OWED_SUCCESS;
    apr_status_t rv = accepted_success ? settle_accepted(journal, old, pool, message)
                                       : settle_otherwise(journal, old, settlement, pool, message);
    if (rv) {
        /* Whatever became of the statement, the row tells what holds. */
        if (!journal_find(journal, old->id, &found, pool, &ignored)) {
            *row = found;
            return !APR_STATUS_IS_EBUSY(rv) && is_settled(journal, old, found, settlement) ? APR_SUCCESS : rv;
        }
        return rv;
    }
    found = apr_pmemdup(pool, old, sizeof(*old));
    found->leased = false;
    found->report = settlement->verdict == JOURNAL_RETRY ? old->report : SETTLED[settlement->verdict];
    found->state = accepted_success ? old->state : settlement->state;
    found->fail = settlement->fail ? clean(settlement->fail, pool) : old->fail;
    *row = found;
    return APR_SUCCESS;
}

apr_status_t journal_due(journal_t *journal, const char *location, int limit, apr_array_header_t **rows,
                         apr_pool_t *pool, const char **message)
{
    const char *most = apr_itoa(pool, limit);
    const char *arguments[] = {location, most, location, journal->tag, most, most};
    apr_array_header_t *found = NULL;
    apr_status_t rv = journal_select(journal, STATEMENT_DUE, arguments, 6, &found, pool, message);
    *rows = apr_array_make(pool, found->nelts + 1, sizeof(journal_row_t *));
    for (int i = 0; i < found->nelts; i++) {
        journal_row_t *row = APR_ARRAY_IDX(found, i, journal_row_t *);
        if (!row->leased || row->owner_gone) {
            APR_ARRAY_PUSH(*rows, journal_row_t *) = row;
        }
    }
    return rv;
}

apr_status_t journal_bring_forward(journal_t *journal, const char *location, apr_pool_t *pool, const char **message)
{
    const char *arguments[] = {location};
    apr_status_t rv = journal_change(journal, DATABASE_RELAXED, STATEMENT_FORWARD, arguments, 1, pool, message);
    return APR_STATUS_IS_EBUSY(rv) ? APR_SUCCESS : rv;
}

apr_status_t journal_prune(journal_t *journal, apr_interval_time_t older_than, int *removed, apr_pool_t *pool,
                           const char **message)
{
    const char *arguments[] = {journal_time(older_than, pool)};
    apr_status_t rv = journal_ready(journal, pool, message);
    return rv ? rv
              : database_change(journal->database, DATABASE_RELAXED, STATEMENT_PRUNE, arguments, 1, removed, pool,
                                message);
}

/* As much as a transaction takes at the least: on a disk that is full a smaller change may find a place. */
apr_status_t journal_try(journal_t *journal, apr_pool_t *pool, const char **message)
{
    char *room = apr_palloc(pool, ROOM + 1);
    const char *arguments[] = {room};
    const char *ignored = NULL;
    memset(room, '-', ROOM);
    room[ROOM] = 0;
    apr_status_t rv = journal_change(journal, DATABASE_DURABLE, STATEMENT_ROOM_TAKE, arguments, 1, pool, message);
    if (!rv) {
        journal_change(journal, DATABASE_RELAXED, STATEMENT_ROOM_GIVE, NULL, 0, pool, &ignored);
    }
    return rv;
}

apr_status_t journal_events(journal_t *journal, apr_array_header_t **rows, apr_pool_t *pool, const char **message)
{
    return journal_select(journal, STATEMENT_EVENTS, NULL, 0, rows, pool, message);
}

apr_status_t journal_event_claim(journal_t *journal, const journal_row_t *row, apr_interval_time_t lease,
                                 apr_pool_t *pool, const char **message)
{
    const char *arguments[] = {journal_time(lease, pool), row->id, row->event};
    return journal_change(journal, DATABASE_RELAXED, STATEMENT_EVENT_CLAIM, arguments, 3, pool, message);
}

apr_status_t journal_event_done(journal_t *journal, const journal_row_t *row, apr_pool_t *pool, const char **message)
{
    const char *arguments[] = {row->id, row->event};
    return journal_change(journal, DATABASE_RELAXED, STATEMENT_EVENT_DONE, arguments, 2, pool, message);
}
