/* SPDX-License-Identifier: Apache-2.0 */
#include "status.h"

#include "base/clock.h"
#include "base/text.h"
#include "store/journal_operator.h"

#include <apr_lib.h>
#include <apr_strings.h>
#include <strings.h>

/* So many failures in a row are an outage; one may be chance. */
enum { OUTAGE = 5 };
static const apr_interval_time_t OVERDUE = apr_time_from_sec(3600);

const char *status_level_name(status_level_t level)
{
    static const char *const NAMES[] = {"unknown", "good", "warning", "bad"};
    return NAMES[level];
}

const char *status_breaker_name(const intune_breaker_t *breaker)
{
    static const char *const NAMES[] = {"closed", "open", "half-open"};
    return NAMES[breaker->state];
}

const char *status_outcome_words(int outcome)
{
    static const char *const WORDS[ENDING_COUNT] = {"certificate delivered", "certificate delivered again",
                                                    "the CA has not decided yet; told to poll",
                                                    "certificate or revocation list delivered"};
    return outcome < (int)ENDING_COUNT ? WORDS[outcome] : problem_facts(outcome_problem(outcome))->what;
}

static void raise_to(status_level_t *level, status_level_t other)
{
    *level = other > *level ? other : *level;
}

static status_level_t service_level(service_t service, const service_seen_t *seen)
{
    if (!seen->failures) {
        return seen->last_success ? STATUS_GOOD : STATUS_UNKNOWN;
    }
    /* Without the journal nothing goes to the CA. */
    return service == SERVICE_JOURNAL || seen->failures >= OUTAGE ? STATUS_BAD : STATUS_WARNING;
}

status_level_t status_of_expiry(const expiry_t *expiry)
{
    return !expiry->matters || expiry->days >= EXPIRY_WARN_DAYS ? STATUS_GOOD
           : expiry->days >= EXPIRY_ERROR_DAYS                  ? STATUS_WARNING
                                                                : STATUS_BAD;
}

static status_level_t outbox_level(const counts_t *counts)
{
    const counters_outbox_t *outbox = &counts->outbox;
    if (!counts->outbox_known) {
        return STATUS_UNKNOWN;
    }
    if (outbox->owed && outbox->oldest > OVERDUE) {
        return STATUS_BAD;
    }
    return outbox->dead || outbox->withheld ? STATUS_WARNING : STATUS_GOOD;
}

static void sum_up(counters_outbox_t *outbox, const journal_count_t *count)
{
    outbox->dead += count->report == JOURNAL_DEAD ? count->rows : 0;
    outbox->withheld += count->state == JOURNAL_WITHHELD ? count->rows : 0;
    outbox->pending += count->state == JOURNAL_PENDING ? count->rows : 0;
    outbox->unknown += count->state == JOURNAL_UNKNOWN ? count->rows : 0;
}

/*
 * What the journal owes is counted for all locations at once, by one process at a time, and kept for the others. A
 * journal that just failed is left alone: the outbox tries it every second.
 */
static void look_into_journal(const status_source_t *source, apr_pool_t *pool)
{
    apr_array_header_t *counts = NULL;
    apr_array_header_t *owed = NULL;
    const char *message = "no reason was given";
    const profile_t *first = source->sites[0].profile;
    counts_t seen;
    if (!first->journal || !source->patience) {
        return;
    }
    counters_read(first->counters, &seen, pool);
    if (seen.services[SERVICE_JOURNAL].failures || !counters_outbox_due(first->counters, source->patience)) {
        return;
    }
    apr_status_t rv = journal_counts(first->journal, &counts, pool, &message);
    rv = rv ? rv : journal_owed(first->journal, &owed, pool, &message);
    for (int i = 0; i < source->count; i++) {
        counters_outbox_t outbox = {.read_at = clock_now()};
        const profile_t *profile = source->sites[i].profile;
        if (rv) {
            counters_service(profile->counters, SERVICE_JOURNAL, false, message);
        }
        for (int j = 0; !rv && j < counts->nelts; j++) {
            const journal_count_t *count = &APR_ARRAY_IDX(counts, j, const journal_count_t);
            if (!strcmp(count->location, profile->name)) {
                sum_up(&outbox, count);
            }
        }
        for (int j = 0; !rv && j < owed->nelts; j++) {
            const journal_owed_t *one = &APR_ARRAY_IDX(owed, j, const journal_owed_t);
            if (!strcmp(one->location, profile->name)) {
                outbox.owed = one->rows;
                outbox.oldest = one->oldest > 0 ? one->oldest : 0;
            }
        }
        if (!rv) {
            counters_outbox_keep(profile->counters, &outbox);
        }
    }
}

static void location_make(status_location_t *location, const status_site_t *site, apr_pool_t *pool)
{
    const profile_t *profile = site->profile;
    location->profile = profile;
    location->places_used = site->places_used;
    location->settings = site->settings;
    counters_read(profile->counters, &location->counts, pool);
    intune_breaker_state(profile->intune, pool, &location->breaker);
    location->expiries = expiry_list(profile, pool);
    location->outbox = profile->journal ? outbox_level(&location->counts) : STATUS_UNKNOWN;
    raise_to(&location->level, location->outbox);
    for (int i = 0; i < SERVICE_COUNT; i++) {
        location->services[i] = service_level((service_t)i, &location->counts.services[i]);
        raise_to(&location->level, location->services[i]);
    }
    for (int i = 0; i < location->expiries->nelts; i++) {
        raise_to(&location->level, status_of_expiry(&APR_ARRAY_IDX(location->expiries, i, const expiry_t)));
    }
    if (location->level == STATUS_GOOD && location->services[SERVICE_INTUNE] == STATUS_UNKNOWN) {
        location->level = STATUS_UNKNOWN; /* a journal alone serves nobody */
    }
    if (location->breaker.state != INTUNE_BREAKER_CLOSED) {
        raise_to(&location->level, location->breaker.state == INTUNE_BREAKER_OPEN ? STATUS_BAD : STATUS_WARNING);
    }
}

static bool fits(const char *text, const char *word)
{
    apr_size_t len = strlen(word);
    for (; *text; text++) {
        if (!strncasecmp(text, word, len)) {
            return true;
        }
    }
    return false;
}

static const apr_array_header_t *fitting(const apr_array_header_t *recent, const char *word, apr_pool_t *pool)
{
    apr_array_header_t *found = apr_array_make(pool, 8, sizeof(counters_record_t *));
    for (int i = 0; i < recent->nelts; i++) {
        counters_record_t *record = APR_ARRAY_IDX(recent, i, counters_record_t *);
        if (fits(record->transaction, word) || fits(record->serial, word) || fits(record->reference, word)) {
            APR_ARRAY_PUSH(found, counters_record_t *) = record;
        }
    }
    return found;
}

static void search_journal(status_t *status, journal_t *journal, apr_pool_t *pool)
{
    apr_array_header_t *rows = NULL;
    const char *message = "no reason was given";
    if (!journal) {
        return;
    }
    if (journal_list(journal, status->query, &rows, pool, &message)) {
        status->search_failed = message;
        rows = apr_array_make(pool, 1, sizeof(journal_row_t *));
    }
    status->found = rows;
}

void status_make(status_t *status, const status_source_t *source, apr_pool_t *pool)
{
    const profile_t *first = source->sites[0].profile;
    memset(status, 0, sizeof(*status));
    look_into_journal(source, pool);
    status->version = source->version;
    status->host = source->host;
    status->settings = source->settings;
    status->journal_id = first->journal ? journal_own_id(first->journal) : NULL;
    status->now = clock_now();
    status->began = counters_began(first->counters);
    status->went_on = counters_went_on(first->counters);
    status->count = source->count;
    status->locations = apr_pcalloc(pool, (apr_size_t)source->count * sizeof(*status->locations));
    for (int i = 0; i < source->count; i++) {
        location_make(&status->locations[i], &source->sites[i], pool);
        raise_to(&status->level, status->locations[i].level);
    }
    status->recent = source->recent ? counters_recent(first->counters, pool)
                                    : apr_array_make(pool, 1, sizeof(counters_record_t *));
    if (source->query && *source->query) {
        status->query = source->query;
        status->recent = fitting(status->recent, source->query, pool);
        search_journal(status, first->journal, pool);
    }
}
