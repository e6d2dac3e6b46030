/* SPDX-License-Identifier: Apache-2.0 */
/* The state for programs; docs/status.schema.json describes it, and a change there is a change for others. */
#include "status.h"

#include "base/json.h"

#include <apr_strings.h>
#include <json-c/json.h>
#include <stdio.h>

/* What has been added so far, and whether memory was there for all of it. */
typedef struct maker_t {
    apr_pool_t *pool;
    bool good;
} maker_t;

static void add(maker_t *m, json_object *object, const char *name, json_object *value)
{
    m->good = json_add(object, name, value) && m->good;
}

static void add_text(maker_t *m, json_object *object, const char *name, const char *text)
{
    m->good = json_add_text(object, name, text, m->pool) && m->good;
}

/* Left out where it is "". */
static void add_some(maker_t *m, json_object *object, const char *name, const char *text)
{
    add_text(m, object, name, text && *text ? text : NULL);
}

static void add_number(maker_t *m, json_object *object, const char *name, apr_int64_t number)
{
    add(m, object, name, json_object_new_int64(number));
}

static void add_time(maker_t *m, json_object *object, const char *name, apr_time_t time)
{
    add_text(m, object, name, time ? json_time(time, m->pool) : NULL);
}

static void add_ms(maker_t *m, json_object *object, const char *name, apr_interval_time_t time)
{
    if (time) {
        add_number(m, object, name, apr_time_as_msec(time));
    }
}

static void append(maker_t *m, json_object *array, json_object *value)
{
    if (!value || json_object_array_add(array, value)) {
        json_object_put(value);
        m->good = false;
    }
}

/* With so many digits, for json-c would write all seventeen. */
static void add_real(maker_t *m, json_object *object, const char *name, double value, int digits)
{
    char text[40];
    snprintf(text, sizeof(text), "%.*f", digits, value);
    add(m, object, name, json_object_new_double_s(value, text));
}

static json_object *calls_of(maker_t *m, const counts_t *counts, service_t service)
{
    json_object *calls = json_object_new_object();
    for (int end = 0; end < CALL_ENDS; end++) {
        uint64_t number = 0;
        for (int kind = 0; kind < CALL_KINDS; kind++) {
            number += call_service((call_kind_t)kind) == service ? counts->calls[kind][end] : 0;
        }
        add_number(m, calls, call_end_name((call_end_t)end), (apr_int64_t)number);
    }
    return calls;
}

static json_object *service_object(maker_t *m, const status_location_t *location, service_t service)
{
    const service_seen_t *seen = &location->counts.services[service];
    json_object *object = json_object_new_object();
    add_text(m, object, "level", status_level_name(location->services[service]));
    add_time(m, object, "last_success", seen->last_success);
    add_time(m, object, "last_failure", seen->last_failure);
    add_some(m, object, "failure", seen->words);
    add_number(m, object, "failures_in_row", seen->failures);
    if (service != SERVICE_JOURNAL) {
        add(m, object, "calls", calls_of(m, &location->counts, service));
    }
    return object;
}

static json_object *breaker_object(maker_t *m, const intune_breaker_t *breaker)
{
    json_object *object = json_object_new_object();
    add_text(m, object, "state", status_breaker_name(breaker));
    add_time(m, object, "since", breaker->since);
    add_time(m, object, "until", breaker->until);
    add_number(m, object, "failures", breaker->failures);
    add_some(m, object, "reason", breaker->reason);
    return object;
}

static json_object *outcomes_object(maker_t *m, const counts_t *counts)
{
    json_object *object = json_object_new_object();
    for (int i = 0; i < OUTCOME_COUNT; i++) {
        if (counts->outcomes[i] || i < (int)ENDING_COUNT) {
            add_number(m, object, outcome_name(i), (apr_int64_t)counts->outcomes[i]);
        }
    }
    return object;
}

static json_object *histogram_object(maker_t *m, const histogram_t *histogram)
{
    static const struct {
        const char *name;
        double share;
    } SHARES[] = {{"p50_ms", 0.5}, {"p95_ms", 0.95}, {"p99_ms", 0.99}};
    json_object *object = json_object_new_object();
    add_number(m, object, "count", (apr_int64_t)histogram->total);
    add_real(m, object, "seconds", histogram->seconds, 6);
    for (size_t i = 0; histogram->total && i < sizeof(SHARES) / sizeof(SHARES[0]); i++) {
        add_real(m, object, SHARES[i].name, histogram_quantile(histogram, SHARES[i].share), 1);
    }
    return object;
}

static json_object *durations_object(maker_t *m, const counts_t *counts)
{
    json_object *object = json_object_new_object();
    for (int kind = 0; kind < CALL_KINDS; kind++) {
        add(m, object, call_kind_name((call_kind_t)kind), histogram_object(m, &counts->durations[kind]));
    }
    add(m, object, "transaction", histogram_object(m, &counts->transactions));
    return object;
}

static json_object *journal_object(maker_t *m, const status_location_t *location)
{
    const counters_outbox_t *outbox = &location->counts.outbox;
    json_object *object = json_object_new_object();
    add_text(m, object, "level", status_level_name(location->outbox));
    add_time(m, object, "read_at", outbox->read_at);
    add_number(m, object, "owed", outbox->owed);
    if (outbox->owed) {
        add_number(m, object, "oldest_owed_seconds", apr_time_sec(outbox->oldest));
    }
    add_number(m, object, "dead", outbox->dead);
    add_number(m, object, "withheld", outbox->withheld);
    add_number(m, object, "pending", outbox->pending);
    add_number(m, object, "unknown", outbox->unknown);
    return object;
}

static json_object *expiries_array(maker_t *m, const apr_array_header_t *expiries)
{
    json_object *array = json_object_new_array();
    for (int i = 0; i < expiries->nelts; i++) {
        const expiry_t *expiry = &APR_ARRAY_IDX(expiries, i, const expiry_t);
        json_object *object = json_object_new_object();
        add_text(m, object, "what", expiry->what);
        add_text(m, object, "directive", expiry->directive);
        add_time(m, object, "time", expiry->expires);
        add_number(m, object, "days", expiry->days);
        add_text(m, object, "level", status_level_name(status_of_expiry(expiry)));
        append(m, array, object);
    }
    return array;
}

static json_object *settings_array(maker_t *m, const apr_array_header_t *settings)
{
    json_object *array = json_object_new_array();
    for (int i = 0; settings && i < settings->nelts; i++) {
        const status_setting_t *setting = &APR_ARRAY_IDX(settings, i, const status_setting_t);
        json_object *object = json_object_new_object();
        add_text(m, object, "name", setting->name);
        add_text(m, object, "value", setting->value);
        append(m, array, object);
    }
    return array;
}

static json_object *location_object(maker_t *m, const status_location_t *location)
{
    const counts_t *counts = &location->counts;
    json_object *object = json_object_new_object();
    json_object *part = json_object_new_object();
    add_text(m, object, "name", location->profile->name);
    add_text(m, object, "level", status_level_name(location->level));
    for (int i = 0; i < SERVICE_COUNT; i++) {
        if (i != SERVICE_JOURNAL || location->profile->journal) {
            add(m, part, service_name((service_t)i), service_object(m, location, (service_t)i));
        }
    }
    add(m, object, "services", part);
    add(m, object, "breaker", breaker_object(m, &location->breaker));
    add_number(m, object, "successes", (apr_int64_t)counts->successes);
    add_number(m, object, "failures", (apr_int64_t)counts->failures);
    add(m, object, "outcomes", outcomes_object(m, counts));
    part = json_object_new_object();
    add_number(m, part, "successes", counts->recent_successes);
    add_number(m, part, "failures", counts->recent_failures);
    add(m, object, "last_5_minutes", part);
    add(m, object, "durations", durations_object(m, counts));
    if (location->profile->journal && counts->outbox_known) {
        add(m, object, "journal", journal_object(m, location));
    }
    part = json_object_new_object();
    add_number(m, part, "used", location->places_used);
    add_number(m, part, "limit", location->profile->max_concurrent);
    add(m, object, "places", part);
    add(m, object, "expires", expiries_array(m, location->expiries));
    add(m, object, "settings", settings_array(m, location->settings));
    return object;
}

static json_object *transaction_object(maker_t *m, const status_t *status, const counters_record_t *record)
{
    json_object *object = json_object_new_object();
    add_time(m, object, "time", record->time);
    if (record->location >= 0 && record->location < status->count) {
        add_text(m, object, "location", status->locations[record->location].profile->name);
    }
    add_text(m, object, "transaction", record->transaction);
    add_some(m, object, "subject", record->subject);
    add_some(m, object, "serial", record->serial);
    add_some(m, object, "platform", record->platform);
    add_text(m, object, "outcome", outcome_name(record->outcome));
    add_text(m, object, "words", status_outcome_words(record->outcome));
    add_some(m, object, "detail", record->detail);
    add_some(m, object, "code", record->code);
    add_some(m, object, "code_meaning", intune_code_meaning(record->code));
    add_text(m, object, "reference", record->reference);
    add_some(m, object, "request_id", record->request_id);
    add_number(m, object, "http_status", record->http_status);
    add_ms(m, object, "validate_ms", record->validate);
    add_ms(m, object, "report_ms", record->report);
    add_ms(m, object, "ca_ms", record->ca);
    add_number(m, object, "total_ms", apr_time_as_msec(record->whole));
    return object;
}

static json_object *transactions_array(maker_t *m, const status_t *status)
{
    json_object *array = json_object_new_array();
    for (int i = 0; i < status->recent->nelts; i++) {
        append(m, array, transaction_object(m, status, APR_ARRAY_IDX(status->recent, i, const counters_record_t *)));
    }
    return array;
}

static json_object *search_object(maker_t *m, const status_t *status)
{
    json_object *object = json_object_new_object();
    json_object *rows = json_object_new_array();
    add_text(m, object, "query", status->query);
    add_some(m, object, "failed", status->search_failed);
    for (int i = 0; status->found && i < status->found->nelts; i++) {
        const journal_row_t *row = APR_ARRAY_IDX(status->found, i, const journal_row_t *);
        json_object *one = json_object_new_object();
        add_text(m, one, "id", row->id);
        add_text(m, one, "location", row->location);
        add_text(m, one, "transaction", row->transaction_id);
        add_text(m, one, "state", journal_state_name(row->state));
        add_text(m, one, "report", journal_report_name(row->report));
        add_some(m, one, "serial", row->serial);
        add_some(m, one, "fail", row->fail);
        add_number(m, one, "tries", row->tries);
        add_number(m, one, "age_seconds", apr_time_sec(row->age));
        append(m, rows, one);
    }
    add(m, object, "journal", rows);
    return object;
}

const char *status_json(const status_t *status, apr_pool_t *pool)
{
    maker_t m = {.pool = pool, .good = true};
    json_object *document = json_object_new_object();
    json_object *locations = json_object_new_array();
    add_text(&m, document, "version", status->version);
    add_text(&m, document, "host", status->host);
    add_time(&m, document, "time", status->now);
    add_time(&m, document, "counting_since", status->began);
    add_time(&m, document, "running_since", status->went_on);
    add_text(&m, document, "level", status_level_name(status->level));
    add_some(&m, document, "journal_id", status->journal_id);
    for (int i = 0; i < status->count; i++) {
        append(&m, locations, location_object(&m, &status->locations[i]));
    }
    add(&m, document, "locations", locations);
    add(&m, document, "settings", settings_array(&m, status->settings));
    add(&m, document, "transactions", transactions_array(&m, status));
    if (status->query) {
        add(&m, document, "search", search_object(&m, status));
    }
    const char *text = m.good ? json_ascii(document, pool) : NULL;
    json_object_put(document);
    return text;
}
