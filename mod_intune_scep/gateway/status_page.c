/* SPDX-License-Identifier: Apache-2.0 */
/* The status page: HTML and CSS that need no script, no picture and nothing from elsewhere. */
#include "status_page.h"

#include "base/json.h"
#include "base/text.h"

#include <apr_strings.h>
#include <openssl/evp.h>

enum { ROWS_OPEN = 40 };

static const char STYLE[] =
#include "status_style.def"
    ;

static const char *const LEVEL_WORDS[] = {"not used yet", "good", "look at it", "failing"};

void page_badge(writer_t *w, status_level_t level)
{
    writer_format(w, "<span class=\"badge %s\">%s</span>", status_level_name(level), LEVEL_WORDS[level]);
}

static const char *span_words(apr_int64_t seconds, apr_pool_t *pool)
{
    return seconds < 120             ? apr_psprintf(pool, "%d s", (int)seconds)
           : seconds < 2 * 3600      ? apr_psprintf(pool, "%d min", (int)(seconds / 60))
           : seconds < 2 * 24 * 3600 ? apr_psprintf(pool, "%d h", (int)(seconds / 3600))
                                     : apr_psprintf(pool, "%d days", (int)(seconds / (24 * 3600)));
}

void page_time(writer_t *w, apr_time_t time, apr_time_t now)
{
    const char *iso = json_time(time, w->pool);
    apr_int64_t seconds = apr_time_sec(time > now ? time - now : now - time);
    const char *words = span_words(seconds, w->pool);
    writer_format(w, "<time datetime=\"%s\" title=\"%s\">%s%s%s</time>", iso, iso, time > now ? "in " : "", words,
                  time > now ? "" : " ago");
}

void page_ms(writer_t *w, double ms)
{
    if (ms < 0) {
        writer_add(w, "–");
    } else if (ms < 999.5) {
        writer_format(w, "%.0f ms", ms);
    } else {
        writer_format(w, "%.1f s", ms / 1000);
    }
}

/* As it was asked for, so that it can be asked for again, unless there is more in it than printable ASCII. */
static void query_value(writer_t *w, const char *query)
{
    bool plain = true;
    for (const char *c = query; c && *c; c++) {
        plain = plain && *c >= 0x20 && *c < 0x7f;
    }
    (plain ? writer_html_own : writer_html)(w, query, 255);
}

static void head(writer_t *w, const status_t *status)
{
    writer_add(w, "<!DOCTYPE html>\n<html lang=en><head><meta charset=utf-8>"
                  "<meta name=viewport content=\"width=device-width, initial-scale=1\">"
                  "<meta name=color-scheme content=\"light dark\"><meta name=robots content=noindex><title>");
    writer_add(w, LEVEL_WORDS[status->level]);
    writer_add(w, " - Intune SCEP gateway</title><style>");
    writer_add(w, STYLE);
    writer_add(w, "</style></head><body><header><div><h1>Intune SCEP gateway ");
    page_badge(w, status->level);
    writer_add(w, "</h1><p><b>");
    writer_html_own(w, status->host, PAGE_NAME);
    const char *now = json_time(status->now, w->pool);
    writer_format(w, "</b> · version %s · <time datetime=\"%s\">%.10s %.8s UTC</time></p><p>started ", status->version, now, now,
                  now + 11);
    page_time(w, status->went_on, status->now);
    writer_add(w, ", counters began ");
    page_time(w, status->began, status->now);
    if (status->journal_id) {
        writer_add(w, " · journal ");
        writer_html(w, status->journal_id, PAGE_NAME);
    }
    writer_add(w, "</p></div><form method=get><label for=q>Find a device's request</label>"
                  "<div><input id=q name=q type=search maxlength=255 placeholder=\"transactionID, serial or reference\" value=\"");
    query_value(w, status->query);
    writer_add(w, "\"><button>Find</button></div></form></header><main>");
}

static void milliseconds(writer_t *w, const char *label, apr_interval_time_t time)
{
    writer_format(w, "<td class=\"ms%s\" data-label=\"%s\">", time ? "" : " none", label);
    if (time) {
        page_ms(w, (double)time / 1000);
    }
    writer_add(w, "</td>");
}

/* What a search needs is there as a whole; what only takes room is cut, and whole in the title. */
static void cell(writer_t *w, const char *class, const char *label, const char *text, apr_size_t shown)
{
    writer_format(w, "<td class=\"%s%s\" data-label=\"%s\"", class, *text ? "" : " none", label);
    if (strlen(text) > shown) {
        writer_add(w, " title=\"");
        writer_html(w, text, 255);
        writer_add(w, "\"");
    }
    writer_add(w, ">");
    writer_html(w, *text ? text : NULL, shown);
    writer_add(w, "</td>");
}

static void own_cell(writer_t *w, const char *class, const char *label, const char *text)
{
    writer_format(w, "<td class=\"%s%s\" data-label=\"%s\">", class, *text ? "" : " none", label);
    writer_html_own(w, text, PAGE_TEXT);
    writer_add(w, "</td>");
}

/* A transactionID leads to what the journal has of it. */
static void id_cell(writer_t *w, const char *id, apr_size_t shown)
{
    writer_add(w, "<td class=id data-label=transactionID><a href=\"?q=");
    writer_query(w, id);
    writer_add(w, "\" title=\"");
    writer_html(w, id, 255);
    writer_add(w, "\">");
    writer_html(w, id, shown);
    writer_add(w, "</a></td>");
}

/* A name breaks where its parts end. */
static void subject_cell(writer_t *w, const char *subject)
{
    char *rest = NULL;
    const char *escaped = text_escape(w->pool, subject, PAGE_SUBJECT);
    writer_format(w, "<td class=\"subject%s\" data-label=Device>", *subject ? "" : " none");
    for (const char *part = *subject ? apr_strtok(apr_pstrdup(w->pool, escaped), ",", &rest) : NULL; part;) {
        writer_html_own(w, part, 4 * PAGE_SUBJECT);
        part = apr_strtok(NULL, ",", &rest);
        writer_add(w, part ? ",<wbr>" : "");
    }
    writer_add(w, "</td>");
}

const char *page_outcome_class(int outcome)
{
    switch (problem_facts(outcome_problem(outcome))->level) {
    case LOG_LEVEL_ERROR:
        return "refused";
    case LOG_LEVEL_WARN:
        return "warned";
    default:
        return outcome_problem(outcome) == PROBLEM_NONE ? "served" : "told";
    }
}

static void outcome(writer_t *w, const counters_record_t *record)
{
    bool good = outcome_problem(record->outcome) == PROBLEM_NONE;
    const char *meaning = intune_code_meaning(record->code);
    writer_format(w, "<td class=\"outcome %s\" data-label=Outcome><b>", page_outcome_class(record->outcome));
    writer_html_own(w, status_outcome_words(record->outcome), PAGE_TEXT);
    writer_add(w, "</b>");
    if (record->code[0]) {
        writer_add(w, " <code>");
        writer_html_own(w, record->code, PAGE_TEXT);
        writer_add(w, "</code>");
    }
    if (meaning) {
        writer_add(w, "<small>");
        writer_html_own(w, meaning, PAGE_TEXT);
        writer_add(w, "</small>");
    }
    if (record->detail[0]) {
        writer_add(w, "<small>");
        writer_html_own(w, record->detail, PAGE_TEXT);
        writer_add(w, "</small>");
    }
    if (!good) {
        writer_format(w, "<small>HTTP %d · reference ", record->http_status);
        writer_html(w, record->reference, PAGE_NAME);
        writer_add(w, "</small>");
    }
    writer_add(w, "</td>");
}

static void transaction(writer_t *w, const status_t *status, const counters_record_t *record)
{
    bool known = record->location >= 0 && record->location < status->count;
    writer_add(w, "<tr><td class=when data-label=When>");
    page_time(w, record->time, status->now);
    writer_add(w, "</td>");
    if (status->count > 1) {
        own_cell(w, "where", "Location", known ? status->locations[record->location].profile->name : "");
    }
    subject_cell(w, record->subject);
    cell(w, "platform", "Platform", record->platform, 12);
    id_cell(w, record->transaction, status->query ? 255 : 16);
    cell(w, "id", "Serial", record->serial, status->query ? 64 : 16);
    outcome(w, record);
    milliseconds(w, "Validation", record->validate);
    milliseconds(w, "CA", record->ca);
    milliseconds(w, "Report", record->report);
    milliseconds(w, "All", record->whole);
    writer_add(w, "</tr>");
}

static void transaction_rows(writer_t *w, const status_t *status, int from, int to)
{
    writer_format(w,
                  "<table class=rows><thead><tr><th>When</th>%s<th>Device</th><th>Platform</th><th>transactionID</th>"
                  "<th>Serial</th><th>Outcome</th><th>Validation</th><th>CA</th><th>Report</th><th>All</th></tr></thead><tbody>",
                  status->count > 1 ? "<th>Location</th>" : "");
    for (int i = from; i < to; i++) {
        transaction(w, status, APR_ARRAY_IDX(status->recent, i, const counters_record_t *));
    }
    writer_add(w, "</tbody></table>");
}

static void transactions(writer_t *w, const status_t *status)
{
    int count = status->recent->nelts;
    int open = count > ROWS_OPEN && !status->query ? ROWS_OPEN : count;
    writer_format(w, "<section class=wide><h2>%s <small>%d</small></h2>",
                  status->query ? "Recent requests that fit" : "Recent requests", count);
    if (!count) {
        writer_add(w, status->query ? "<p class=note>None of the last requests fits.</p></section>"
                                    : "<p class=note>No device has come yet.</p></section>");
        return;
    }
    transaction_rows(w, status, 0, open);
    if (count > open) {
        writer_format(w, "<details><summary>%d older ones</summary>", count - open);
        transaction_rows(w, status, open, count);
        writer_add(w, "</details>");
    }
    writer_add(w, "</section>");
}

static void journal_row(writer_t *w, const journal_row_t *row)
{
    writer_add(w, "<tr>");
    own_cell(w, "when", "Age", span_words(apr_time_sec(row->age), w->pool));
    own_cell(w, "where", "Location", row->location);
    id_cell(w, row->transaction_id, 255);
    cell(w, "id", "Serial", row->serial ? row->serial : "", 64);
    own_cell(w, "state", "State", journal_state_name(row->state));
    own_cell(w, "state", "Report", journal_report_name(row->report));
    own_cell(w, "outcome", "Failure", row->fail ? row->fail : "");
    cell(w, "id", "Row", row->id, 12);
    writer_add(w, "</tr>");
}

static void found(writer_t *w, const status_t *status)
{
    if (!status->query || (!status->found && !status->search_failed)) {
        return;
    }
    writer_add(w, "<section class=wide><h2>In the journal</h2>");
    if (status->search_failed) {
        writer_add(w, "<p class=\"alert bad\">The journal could not be searched: ");
        writer_html_own(w, status->search_failed, PAGE_TEXT);
        writer_add(w, "</p></section>");
        return;
    }
    if (!status->found->nelts) {
        writer_add(w, "<p class=note>No row has this transactionID or serial. Both must be whole.</p></section>");
        return;
    }
    writer_add(w, "<table class=\"rows plain\"><thead><tr><th>Age</th><th>Location</th><th>transactionID</th><th>Serial</th><th>State</th>"
                  "<th>Report</th><th>Failure</th><th>Row</th></tr></thead><tbody>");
    for (int i = 0; i < status->found->nelts; i++) {
        journal_row(w, APR_ARRAY_IDX(status->found, i, const journal_row_t *));
    }
    writer_add(w, "</tbody></table></section>");
}

const char *status_page(const status_t *status, apr_pool_t *pool)
{
    writer_t w;
    writer_begin(&w, pool);
    head(&w, status);
    if (status->query) {
        writer_add(&w, "<p><a href=\"?\">← Back to the overview</a></p>");
        transactions(&w, status);
        found(&w, status);
    } else {
        for (int i = 0; i < status->count; i++) {
            page_location(&w, status, i);
        }
        page_settings(&w, "Directives of the whole server", status->settings);
        transactions(&w, status);
    }
    writer_add(&w, "</main><footer><a href=\"?format=json\">JSON</a> · <a href=\"?format=prometheus\">Prometheus</a> · "
                   "<a href=\"?health\">health</a> · the last 200 requests are kept in memory until a restart</footer>"
                   "</body></html>\n");
    return w.text;
}

const char *status_page_policy(const scep_engine_t *engine, apr_pool_t *pool)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    size_t len = 0;
    if (EVP_Q_digest(engine->context, "SHA256", NULL, STYLE, sizeof(STYLE) - 1, digest, &len) != 1) {
        return "default-src 'none'";
    }
    return apr_pstrcat(pool, "default-src 'none'; style-src 'sha256-", text_base64(pool, (bytes_t){digest, len}),
                       "'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'", NULL);
}
