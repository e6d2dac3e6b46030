/* SPDX-License-Identifier: Apache-2.0 */
/* A location on the status page. */
#include "status_page.h"

#include <apr_strings.h>
#include <inttypes.h>

static void services(writer_t *w, const status_location_t *location, apr_time_t now)
{
    static const char *const NAMES[SERVICE_COUNT] = {"Entra", "Graph", "Intune", "CA", "Journal"};
    static const char *const WORDS[] = {"not used yet", "good", "trouble", "failing"};
    writer_add(w, "<ul class=services>");
    for (int i = 0; i < SERVICE_COUNT; i++) {
        const service_seen_t *seen = &location->counts.services[i];
        if (i == SERVICE_JOURNAL && !location->profile->journal) {
            writer_add(w, "<li class=unknown><h4>Journal <span>none</span></h4></li>");
            continue;
        }
        writer_format(w, "<li class=%s><h4>%s <span>%s</span></h4>", status_level_name(location->services[i]), NAMES[i],
                      WORDS[location->services[i]]);
        if (seen->last_success) {
            writer_add(w, "<p>last success ");
            page_time(w, seen->last_success, now);
            writer_add(w, "</p>");
        }
        if (seen->last_failure) {
            writer_add(w, "<p>last failure ");
            page_time(w, seen->last_failure, now);
            if (seen->failures > 1) {
                writer_format(w, ", %d in a row", seen->failures);
            }
            writer_add(w, "</p><p class=words>");
            writer_html_own(w, seen->words, PAGE_TEXT);
            writer_add(w, "</p>");
        }
        writer_add(w, "</li>");
    }
    writer_add(w, "</ul>");
}

static void breaker(writer_t *w, const intune_breaker_t *breaker, apr_time_t now)
{
    if (breaker->state == INTUNE_BREAKER_CLOSED) {
        return;
    }
    writer_format(w, "<p class=\"alert %s\"><strong>Microsoft is %s</strong> since ",
                  breaker->state == INTUNE_BREAKER_OPEN ? "bad" : "warning",
                  breaker->state == INTUNE_BREAKER_OPEN ? "not asked for validations"
                                                        : "tried again, with one request at a time");
    page_time(w, breaker->since, now);
    if (breaker->state == INTUNE_BREAKER_OPEN) {
        writer_add(w, "; devices get 503, the next try comes ");
        page_time(w, breaker->until, now);
    }
    writer_add(w, ". Last failure: ");
    writer_html_own(w, breaker->reason, PAGE_TEXT);
    writer_add(w, "</p>");
}

static void number(writer_t *w, const char *class, uint64_t value, const char *label)
{
    writer_format(w, "<div class=\"%s\"><dt>%s</dt><dd>%" PRIu64 "</dd></div>", value ? class : "zero", label, value);
}

static void numbers(writer_t *w, const status_location_t *location)
{
    const counts_t *counts = &location->counts;
    const counters_outbox_t *outbox = &counts->outbox;
    writer_add(w, "<dl class=numbers>");
    number(w, "plain", counts->outcomes[ENDING_ENROLLED], "enrolled");
    number(w, "plain", counts->outcomes[ENDING_DELIVERED_AGAIN], "delivered again");
    number(w, "plain", counts->failures, "not served");
    writer_format(w, "<div class=\"%s\"><dt>served / not, last 5 minutes</dt><dd>%u / %u</dd></div>",
                  counts->recent_successes || counts->recent_failures ? "plain" : "zero", counts->recent_successes,
                  counts->recent_failures);
    if (counts->outbox_known && location->profile->journal) {
        number(w, location->outbox == STATUS_BAD ? "bad" : "plain", (uint64_t)outbox->owed, "reports owed");
        number(w, "warning", (uint64_t)outbox->dead, "reports given up");
        number(w, "warning", (uint64_t)outbox->withheld, "certificates withheld");
        number(w, "plain", (uint64_t)outbox->pending, "pending at the CA");
        number(w, "plain", (uint64_t)outbox->unknown, "CA's answer lost");
    }
    writer_format(w, "<div class=plain><dt>places in use</dt><dd>%d / %d</dd></div></dl>", location->places_used,
                  location->profile->max_concurrent);
    if (outbox->owed && outbox->oldest > apr_time_from_sec(120)) {
        writer_format(w, "<p class=note>Intune is owed a report for %ld min.</p>",
                      (long)(apr_time_sec(outbox->oldest) / 60));
    }
}

static void latency(writer_t *w, const char *name, const histogram_t *histogram)
{
    static const double SHARES[] = {0.5, 0.95, 0.99};
    if (!histogram->total) {
        return;
    }
    writer_format(w, "<tr><th scope=row>%s</th><td>%" PRIu64 "</td>", name, histogram->total);
    for (size_t i = 0; i < sizeof(SHARES) / sizeof(SHARES[0]); i++) {
        writer_add(w, "<td>");
        page_ms(w, histogram_quantile(histogram, SHARES[i]));
        writer_add(w, "</td>");
    }
    writer_add(w, "</tr>");
}

static void latencies(writer_t *w, const counts_t *counts)
{
    static const char *const NAMES[CALL_KINDS] = {"Entra, token", "Graph, endpoints", "Intune, validation", "Intune, report",
                                                  "CA"};
    uint64_t all = counts->transactions.total;
    for (int i = 0; i < CALL_KINDS; i++) {
        all += counts->durations[i].total;
    }
    writer_add(w, "<section><h3>Durations</h3>");
    if (!all) {
        writer_add(w, "<p class=note>Nobody has been asked yet.</p></section>");
        return;
    }
    writer_add(w, "<table class=figures><thead><tr><th></th><th>calls</th><th>median</th><th>95 %</th><th>99 %</th>"
                  "</tr></thead><tbody>");
    for (int i = CALL_VALIDATE; i < CALL_KINDS; i++) {
        latency(w, NAMES[i], &counts->durations[i]);
    }
    latency(w, NAMES[CALL_TOKEN], &counts->durations[CALL_TOKEN]);
    latency(w, NAMES[CALL_ENDPOINTS], &counts->durations[CALL_ENDPOINTS]);
    latency(w, "Whole request", &counts->transactions);
    writer_add(w, "</tbody></table></section>");
}

static void outcomes(writer_t *w, const counts_t *counts)
{
    writer_add(w, "<section><h3>How requests ended</h3>");
    if (!counts->successes && !counts->failures) {
        writer_add(w, "<p class=note>No device has come yet.</p></section>");
        return;
    }
    writer_add(w, "<table class=figures><tbody>");
    for (int i = 0; i < OUTCOME_COUNT; i++) {
        if (counts->outcomes[i]) {
            writer_format(w, "<tr class=%s><th scope=row>", page_outcome_class(i));
            writer_html_own(w, status_outcome_words(i), PAGE_TEXT);
            writer_format(w, "</th><td>%" PRIu64 "</td></tr>", counts->outcomes[i]);
        }
    }
    writer_add(w, "</tbody></table></section>");
}

static void expiries(writer_t *w, const status_location_t *location, apr_time_t now)
{
    writer_add(w, "<section><h3>What expires</h3><table class=figures><tbody>");
    for (int i = 0; i < location->expiries->nelts; i++) {
        const expiry_t *expiry = &APR_ARRAY_IDX(location->expiries, i, const expiry_t);
        status_level_t level = status_of_expiry(expiry);
        writer_format(w, "<tr class=%s><th scope=row>", status_level_name(level));
        writer_html_own(w, expiry->what, PAGE_TEXT);
        writer_format(w, "</th><td class=text>%s", expiry->days < 0 ? "expired " : "");
        page_time(w, expiry->expires, now);
        writer_add(w, "</td></tr>");
    }
    writer_add(w, "</tbody></table></section>");
}

void page_settings(writer_t *w, const char *title, const apr_array_header_t *settings)
{
    if (!settings || !settings->nelts) {
        return;
    }
    writer_format(w, "<details><summary>%s</summary><dl class=settings>", title);
    for (int i = 0; i < settings->nelts; i++) {
        const status_setting_t *setting = &APR_ARRAY_IDX(settings, i, const status_setting_t);
        writer_format(w, "<div><dt>%s</dt><dd>", setting->name);
        writer_html_own(w, setting->value, 1024);
        writer_add(w, "</dd></div>");
    }
    writer_add(w, "</dl></details>");
}

void page_location(writer_t *w, const status_t *status, int index)
{
    const status_location_t *location = &status->locations[index];
    writer_format(w, "<article class=%s><h2>", status_level_name(location->level));
    writer_html_own(w, location->profile->name, PAGE_NAME);
    writer_add(w, " ");
    page_badge(w, location->level);
    writer_add(w, "</h2>");
    breaker(w, &location->breaker, status->now);
    services(w, location, status->now);
    numbers(w, location);
    writer_add(w, "<div class=columns>");
    outcomes(w, &location->counts);
    latencies(w, &location->counts);
    expiries(w, location, status->now);
    writer_add(w, "</div>");
    page_settings(w, "Directives in force", location->settings);
    writer_add(w, "</article>");
}
