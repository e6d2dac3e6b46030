/* SPDX-License-Identifier: Apache-2.0 */
/* The state for Prometheus: all series of a metric stand together, below its HELP and TYPE. */
#include "status.h"

#include "base/writer.h"

#include <apr_strings.h>
#include <inttypes.h>
#include <stdio.h>

typedef enum metric_t {
#define METRIC(symbol, name, type, labels, help) METRIC_##symbol,
#include "metrics.def"
#undef METRIC
    METRIC_COUNT
} metric_t;

static const struct {
    const char *name, *type, *help;
} METRICS[METRIC_COUNT] = {
#define METRIC(symbol, name, type, labels, help) {name, type, help},
#include "metrics.def"
#undef METRIC
};

static void head(writer_t *w, metric_t metric)
{
    writer_format(w, "# HELP %s %s\n# TYPE %s %s\n", METRICS[metric].name, METRICS[metric].help, METRICS[metric].name,
                  METRICS[metric].type);
}

/* NAME{location="…" and then further labels, all of them the program's own words. */
static void series(writer_t *w, metric_t metric, const char *suffix, const status_location_t *location, const char *labels)
{
    writer_add(w, METRICS[metric].name);
    writer_add(w, suffix);
    writer_add(w, "{location=\"");
    writer_label(w, location->profile->name);
    writer_add(w, "\"");
    writer_add(w, labels);
    writer_add(w, "} ");
}

static double seconds(apr_time_t time)
{
    return (double)time / APR_USEC_PER_SEC;
}

static const char *labels_of(writer_t *w, call_kind_t kind)
{
    return apr_psprintf(w->pool, ",service=\"%s\",call=\"%s\"", service_name(call_service(kind)), call_kind_name(kind));
}

static void histogram(writer_t *w, metric_t metric, const status_location_t *location, const char *labels,
                      const histogram_t *histogram)
{
    uint64_t below = 0;
    for (int i = 0; i < HISTOGRAM_BOUNDS; i++) {
        below += histogram->counts[i];
        char bound[16];
        snprintf(bound, sizeof(bound), "%g", HISTOGRAM_MS[i] / 1000.0);
        series(w, metric, "_bucket", location, apr_pstrcat(w->pool, labels, ",le=\"", bound, "\"", NULL));
        writer_format(w, "%" PRIu64 "\n", below);
    }
    series(w, metric, "_bucket", location, apr_pstrcat(w->pool, labels, ",le=\"+Inf\"", NULL));
    writer_format(w, "%" PRIu64 "\n", histogram->total);
    series(w, metric, "_sum", location, labels);
    writer_format(w, "%.6f\n", histogram->seconds);
    series(w, metric, "_count", location, labels);
    writer_format(w, "%" PRIu64 "\n", histogram->total);
}

static void transactions(writer_t *w, const status_t *status)
{
    head(w, METRIC_TRANSACTIONS);
    for (int i = 0; i < status->count; i++) {
        for (int outcome = 0; outcome < OUTCOME_COUNT; outcome++) {
            series(w, METRIC_TRANSACTIONS, "", &status->locations[i],
                   apr_psprintf(w->pool, ",outcome=\"%s\"", outcome_name(outcome)));
            writer_format(w, "%" PRIu64 "\n", status->locations[i].counts.outcomes[outcome]);
        }
    }
    head(w, METRIC_TRANSACTION_SECONDS);
    for (int i = 0; i < status->count; i++) {
        histogram(w, METRIC_TRANSACTION_SECONDS, &status->locations[i], "", &status->locations[i].counts.transactions);
    }
}

static void calls(writer_t *w, const status_t *status)
{
    head(w, METRIC_CALLS);
    for (int i = 0; i < status->count; i++) {
        for (int kind = 0; kind < CALL_KINDS; kind++) {
            for (int end = 0; end < CALL_ENDS; end++) {
                series(w, METRIC_CALLS, "", &status->locations[i],
                       apr_psprintf(w->pool, "%s,end=\"%s\"", labels_of(w, (call_kind_t)kind), call_end_name((call_end_t)end)));
                writer_format(w, "%" PRIu64 "\n", status->locations[i].counts.calls[kind][end]);
            }
        }
    }
    head(w, METRIC_CALL_SECONDS);
    for (int i = 0; i < status->count; i++) {
        for (int kind = 0; kind < CALL_KINDS; kind++) {
            histogram(w, METRIC_CALL_SECONDS, &status->locations[i], labels_of(w, (call_kind_t)kind),
                      &status->locations[i].counts.durations[kind]);
        }
    }
}

static double service_value(metric_t metric, const service_seen_t *seen)
{
    return metric == METRIC_LAST_SUCCESS   ? seconds(seen->last_success)
           : metric == METRIC_LAST_FAILURE ? seconds(seen->last_failure)
                                           : seen->failures;
}

static void services(writer_t *w, const status_t *status)
{
    static const metric_t OF_SERVICES[] = {METRIC_LAST_SUCCESS, METRIC_LAST_FAILURE, METRIC_IN_ROW};
    for (int m = 0; m < 3; m++) {
        head(w, OF_SERVICES[m]);
        for (int i = 0; i < status->count; i++) {
            const status_location_t *location = &status->locations[i];
            for (int service = 0; service < SERVICE_COUNT; service++) {
                if (service == SERVICE_JOURNAL && !location->profile->journal) {
                    continue;
                }
                series(w, OF_SERVICES[m], "", location,
                       apr_psprintf(w->pool, ",service=\"%s\"", service_name((service_t)service)));
                writer_format(w, "%.*f\n", OF_SERVICES[m] == METRIC_IN_ROW ? 0 : 3,
                              service_value(OF_SERVICES[m], &location->counts.services[service]));
            }
        }
    }
}

/* The value of a metric that a location has once; negative: it has none. */
static double location_value(metric_t metric, const status_location_t *location)
{
    const counters_outbox_t *outbox = &location->counts.outbox;
    switch (metric) {
    case METRIC_LEVEL:
        return location->level;
    case METRIC_BREAKER:
        return location->breaker.state == INTUNE_BREAKER_OPEN ? 1 : location->breaker.state == INTUNE_BREAKER_HALF_OPEN ? 0.5 : 0;
    case METRIC_PLACES_USED:
        return location->places_used;
    case METRIC_PLACES:
        return location->profile->max_concurrent;
    default:
        break;
    }
    if (!location->profile->journal || !location->counts.outbox_known) {
        return -1;
    }
    switch (metric) {
    case METRIC_OWED:
        return outbox->owed;
    case METRIC_OLDEST:
        return seconds(outbox->oldest);
    case METRIC_DEAD:
        return outbox->dead;
    case METRIC_WITHHELD:
        return outbox->withheld;
    case METRIC_PENDING:
        return outbox->pending;
    case METRIC_UNKNOWN:
        return outbox->unknown;
    default:
        return -1;
    }
}

static void once(writer_t *w, const status_t *status)
{
    static const metric_t ONCE[] = {METRIC_LEVEL, METRIC_BREAKER, METRIC_PLACES_USED, METRIC_PLACES,  METRIC_OWED,
                                    METRIC_OLDEST, METRIC_DEAD,   METRIC_WITHHELD,    METRIC_PENDING, METRIC_UNKNOWN};
    for (size_t m = 0; m < sizeof(ONCE) / sizeof(ONCE[0]); m++) {
        head(w, ONCE[m]);
        for (int i = 0; i < status->count; i++) {
            double value = location_value(ONCE[m], &status->locations[i]);
            if (value >= 0) {
                series(w, ONCE[m], "", &status->locations[i], "");
                writer_format(w, "%.15g\n", value);
            }
        }
    }
}

static void expiries(writer_t *w, const status_t *status)
{
    head(w, METRIC_EXPIRES);
    for (int i = 0; i < status->count; i++) {
        const apr_array_header_t *list = status->locations[i].expiries;
        for (int j = 0; j < list->nelts; j++) {
            const expiry_t *expiry = &APR_ARRAY_IDX(list, j, const expiry_t);
            if (!expiry->matters) {
                continue; /* nobody should be alerted */
            }
            series(w, METRIC_EXPIRES, "", &status->locations[i], apr_psprintf(w->pool, ",what=\"%s\"", expiry->what));
            writer_format(w, "%.0f\n", seconds(expiry->expires));
        }
    }
}

const char *status_metrics(const status_t *status, apr_pool_t *pool)
{
    writer_t w;
    writer_begin(&w, pool);
    head(&w, METRIC_BUILD);
    writer_add(&w, METRICS[METRIC_BUILD].name);
    writer_add(&w, "{version=\"");
    writer_label(&w, status->version);
    writer_add(&w, "\"} 1\n");
    head(&w, METRIC_BEGAN);
    writer_format(&w, "%s %.3f\n", METRICS[METRIC_BEGAN].name, seconds(status->began));
    head(&w, METRIC_WENT_ON);
    writer_format(&w, "%s %.3f\n", METRICS[METRIC_WENT_ON].name, seconds(status->went_on));
    transactions(&w, status);
    calls(&w, status);
    services(&w, status);
    once(&w, status);
    expiries(&w, status);
    return w.text;
}
