/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of the journal for people, and for programs. A certificate request is never shown: it holds the challenge. */
#include "ctl/journal_ctl.h"

#include "base/json.h"
#include "base/text.h"
#include "scep/certificate.h"
#include "scep/engine.h"

#include <apr_lib.h>
#include <apr_strings.h>
#include <json-c/json.h>
#include <stdio.h>

enum { CELL = 24, LONG_CELL = 64, TEXT_SHOWN = 1024, PEM_LINE = 64, LIST_MOST = 100 };

typedef enum column_t {
    COLUMN_ID,
    COLUMN_LOCATION,
    COLUMN_TRANSACTION,
    COLUMN_STATE,
    COLUMN_REPORT,
    COLUMN_TRIES,
    COLUMN_AGE,
    COLUMN_SERIAL,
    COLUMN_WHY,
    COLUMNS
} column_t;

const char *journal_ctl_short_id(const ctl_t *ctl, const journal_row_t *row)
{
    return apr_pstrndup(ctl->pool, ctl_shown(ctl, row->id, ROW_ID_DIGITS), ROW_ID_SHORT);
}

/* Of the largest unit of which there are two. */
static const char *duration(const ctl_t *ctl, apr_interval_time_t time)
{
    apr_int64_t seconds = apr_time_sec(time < 0 ? -time : time);
    return seconds < 120             ? apr_psprintf(ctl->pool, "%ds", (int)seconds)
           : seconds < 2 * 3600      ? apr_psprintf(ctl->pool, "%dmin", (int)(seconds / 60))
           : seconds < 2 * 24 * 3600 ? apr_psprintf(ctl->pool, "%dh", (int)(seconds / 3600))
                                     : apr_psprintf(ctl->pool, "%dd", (int)(seconds / (24 * 3600)));
}

static bool owes(const journal_row_t *row)
{
    return row->report == JOURNAL_OWED_SUCCESS || row->report == JOURNAL_OWED_FAILURE;
}

static const char *why_text(const ctl_t *ctl, const journal_row_t *row)
{
    const char *fail = row->fail ? ctl_shown(ctl, row->fail, LONG_CELL) : NULL;
    if (!row->event) {
        return fail ? fail : "";
    }
    return apr_pstrcat(ctl->pool, "event ", ctl_shown(ctl, row->event, CELL), fail ? ": " : "", fail, NULL);
}

static const char **line_make(const ctl_t *ctl, const journal_row_t *row)
{
    const char **cells = apr_pcalloc(ctl->pool, COLUMNS * sizeof(*cells));
    cells[COLUMN_ID] = journal_ctl_short_id(ctl, row);
    cells[COLUMN_LOCATION] = ctl_shown(ctl, row->location, CELL);
    cells[COLUMN_TRANSACTION] = ctl_shown(ctl, row->transaction_id, CELL);
    cells[COLUMN_STATE] = journal_state_name(row->state);
    cells[COLUMN_REPORT] = journal_report_name(row->report);
    cells[COLUMN_TRIES] = apr_itoa(ctl->pool, row->tries);
    cells[COLUMN_AGE] = duration(ctl, row->age);
    cells[COLUMN_SERIAL] = ctl_shown(ctl, row->serial, LONG_CELL);
    cells[COLUMN_WHY] = why_text(ctl, row);
    return cells;
}

static json_object *seconds(apr_interval_time_t time)
{
    return json_object_new_int64(apr_time_sec(time));
}

static const char *pem(const ctl_t *ctl, bytes_t der)
{
    const char *text = "-----BEGIN CERTIFICATE-----\n";
    const char *base64 = text_base64(ctl->pool, der);
    for (; *base64; base64 += strnlen(base64, PEM_LINE)) {
        text = apr_pstrcat(ctl->pool, text, apr_pstrndup(ctl->pool, base64, PEM_LINE), "\n", NULL);
    }
    return apr_pstrcat(ctl->pool, text, "-----END CERTIFICATE-----\n", NULL);
}

/* Everything but the certificate. The names of docs/journal.md's events are the same. */
static json_object *row_object(const ctl_t *ctl, const journal_row_t *row)
{
    json_object *object = ctl_object();
    ctl_add_text(ctl, object, "id", row->id);
    ctl_add_text(ctl, object, "location", row->location);
    ctl_add_text(ctl, object, "transaction", row->transaction_id);
    ctl_add_text(ctl, object, "state", journal_state_name(row->state));
    ctl_add_text(ctl, object, "report", journal_report_name(row->report));
    ctl_add(object, "tries", json_object_new_int(row->tries));
    if (owes(row)) {
        ctl_add(object, "due_in", seconds(row->due_in));
    }
    ctl_add(object, "age", seconds(row->age));
    ctl_add(object, "idle", seconds(row->idle));
    ctl_add(object, "leased", json_object_new_boolean(row->leased));
    ctl_add_text(ctl, object, "owner", row->owner);
    ctl_add_text(ctl, object, "serial", row->serial);
    ctl_add_text(ctl, object, "thumbprint", row->certificate_fp);
    ctl_add_text(ctl, object, "fail", row->fail);
    ctl_add_text(ctl, object, "event", row->event);
    ctl_add_text(ctl, object, "event_detail", row->event_detail);
    ctl_add_text(ctl, object, "node", row->node);
    ctl_add_text(ctl, object, "request_id", row->request_id);
    ctl_add_text(ctl, object, "key_fp", row->key_fp);
    ctl_add_text(ctl, object, "ra_fp", row->ra_fp);
    ctl_add(object, "request_kept", json_object_new_boolean(row->csr.len > 0));
    return object;
}

static void print_rows(const ctl_t *ctl, const apr_array_header_t *rows, const char *word)
{
    static const char *const HEADS[COLUMNS] = {"ID",    "LOCATION", "TRANSACTION", "STATE", "REPORT",
                                               "TRIES", "AGE",      "SERIAL",      "WHY"};
    apr_array_header_t *lines = apr_array_make(ctl->pool, rows->nelts + 1, sizeof(const char *const *));
    APR_ARRAY_PUSH(lines, const char *const *) = HEADS;
    for (int i = 0; i < rows->nelts; i++) {
        APR_ARRAY_PUSH(lines, const char *const *) = line_make(ctl, APR_ARRAY_IDX(rows, i, const journal_row_t *));
    }
    if (rows->nelts) {
        ctl_table(lines, COLUMNS);
    } else {
        puts(word ? "no row has this id, transactionID or serial" : "no row needs anybody");
    }
    if (rows->nelts >= LIST_MOST) {
        puts("... and perhaps more: these are the first 100");
    }
}

static void print_rows_json(const ctl_t *ctl, const apr_array_header_t *rows)
{
    json_object *document = ctl_object();
    json_object *list = json_object_new_array();
    for (int i = 0; i < rows->nelts; i++) {
        json_object_array_add(list, row_object(ctl, APR_ARRAY_IDX(rows, i, const journal_row_t *)));
    }
    ctl_add(document, "rows", list);
    ctl_add(document, "complete", json_object_new_boolean(rows->nelts < LIST_MOST));
    ctl_print(ctl, document);
}

static bool is_hex(const char *text)
{
    return *text && !text[strspn(text, "0123456789ABCDEFabcdef")];
}

static const char *upper(const ctl_t *ctl, const char *text)
{
    char *made = apr_pstrdup(ctl->pool, text);
    for (char *at = made; *at; at++) {
        *at = (char)apr_toupper(*at);
    }
    return made;
}

/* By the beginning of the id, in upper or lower case; the journal itself looks for other words, too. */
static apr_status_t rows_by_id(ctl_t *ctl, journal_t *journal, const char *id, apr_array_header_t **rows,
                               const char **message)
{
    apr_array_header_t *found = NULL;
    const char *digits = upper(ctl, id);
    apr_size_t len = strlen(digits);
    apr_status_t rv = journal_list(journal, digits, &found, ctl->pool, message);
    *rows = apr_array_make(ctl->pool, 4, sizeof(journal_row_t *));
    for (int i = 0; !rv && i < found->nelts; i++) {
        journal_row_t *row = APR_ARRAY_IDX(found, i, journal_row_t *);
        if (!strncmp(row->id, digits, len)) {
            APR_ARRAY_PUSH(*rows, journal_row_t *) = row;
        }
    }
    return rv;
}

ctl_exit_t journal_ctl_list(ctl_t *ctl, journal_t *journal, const char *word)
{
    apr_array_header_t *rows = NULL;
    const char *message = NULL;
    if (journal_list(journal, word, &rows, ctl->pool, &message)) {
        return ctl_fail(ctl, CTL_UNUSABLE, "%s", message);
    }
    if (ctl->json) {
        print_rows_json(ctl, rows);
    } else {
        print_rows(ctl, rows, word);
    }
    return CTL_DONE;
}

ctl_exit_t journal_ctl_find(ctl_t *ctl, journal_t *journal, const char *id, journal_row_t **row)
{
    apr_array_header_t *rows = NULL;
    const char *message = NULL;
    const char *shown = ctl_shown(ctl, id, LONG_CELL);
    apr_size_t len = strlen(id);
    apr_status_t rv = APR_SUCCESS;
    if (!is_hex(id) || len < ROW_ID_SHORT || len > ROW_ID_DIGITS) {
        return ctl_fail(ctl, CTL_USAGE, "%s is no row's id, nor the first 12 or more of its 64 hexadecimal digits",
                        shown);
    }
    if (len == ROW_ID_DIGITS) {
        rv = journal_find(journal, upper(ctl, id), row, ctl->pool, &message);
        return !rv                  ? CTL_DONE
               : rv == APR_NOTFOUND ? ctl_fail(ctl, CTL_FAILED, "no row has the id %s", shown)
                                    : ctl_fail(ctl, CTL_UNUSABLE, "%s", message);
    }
    if (rows_by_id(ctl, journal, id, &rows, &message)) {
        return ctl_fail(ctl, CTL_UNUSABLE, "%s", message);
    }
    if (!rows->nelts) {
        return ctl_fail(ctl, CTL_FAILED, "no row has the id %s", shown);
    }
    if (rows->nelts > 1) {
        return ctl_fail(ctl, CTL_FAILED,
                        "%d rows have an id that begins with %s, %s and %s among them: give more digits", rows->nelts,
                        shown, ctl_shown(ctl, APR_ARRAY_IDX(rows, 0, journal_row_t *)->id, ROW_ID_DIGITS),
                        ctl_shown(ctl, APR_ARRAY_IDX(rows, 1, journal_row_t *)->id, ROW_ID_DIGITS));
    }
    *row = APR_ARRAY_IDX(rows, 0, journal_row_t *);
    return CTL_DONE;
}

/* False where there is none, or none that can be read: then it is shown without. */
static bool facts_read(const ctl_t *ctl, const journal_row_t *row, certificate_facts_t *facts)
{
    scep_engine_t *engine = NULL;
    result_t result = {0};
    return row->certificate.len && !scep_engine_make(&engine, ctl->pool, &result) &&
           !certificate_facts_of_der(facts, engine, row->certificate, ctl->pool);
}

static void show_json(const ctl_t *ctl, const journal_row_t *row, const certificate_facts_t *facts)
{
    json_object *object = row_object(ctl, row);
    if (facts) {
        ctl_add_text(ctl, object, "subject", facts->subject);
        ctl_add_text(ctl, object, "issuer", facts->issuer);
        ctl_add_text(ctl, object, "not_after", json_time(facts->expires, ctl->pool));
    }
    if (row->certificate.len) {
        ctl_add_text(ctl, object, "certificate", pem(ctl, row->certificate));
    }
    ctl_print(ctl, object);
}

static void field(const ctl_t *ctl, const char *name, const char *text)
{
    if (text) {
        printf("%-18s %s\n", name, ctl_shown(ctl, text, TEXT_SHOWN));
    }
}

static void show_text(const ctl_t *ctl, const journal_row_t *row, const certificate_facts_t *facts)
{
    field(ctl, "id", row->id);
    field(ctl, "location", row->location);
    field(ctl, "transactionID", row->transaction_id);
    field(ctl, "state", journal_state_name(row->state));
    field(ctl, "since", duration(ctl, row->idle));
    field(ctl, "age", duration(ctl, row->age));
    field(ctl, "report", journal_report_name(row->report));
    if (owes(row)) {
        field(ctl, row->due_in > 0 ? "due in" : "due since", duration(ctl, row->due_in));
    }
    field(ctl, "reports sent", apr_itoa(ctl->pool, row->tries));
    field(ctl, "client-request-id", row->request_id);
    field(ctl, "failure", row->fail);
    field(ctl, "event", row->event);
    field(ctl, "event's detail", row->event_detail);
    field(ctl, row->leased ? "the server, now" : "last owner", row->owner);
    field(ctl, "CA's node", row->node);
    field(ctl, "signer's key", row->key_fp);
    field(ctl, "RA certificate", row->ra_fp);
    field(ctl, "request", row->csr.len ? "kept, sealed" : "no longer kept");
    field(ctl, "serial", row->serial);
    field(ctl, "thumbprint", row->certificate_fp);
    if (facts) {
        field(ctl, "subject", facts->subject);
        field(ctl, "issuer", facts->issuer);
        field(ctl, "expires", json_time(facts->expires, ctl->pool));
    }
    if (row->certificate.len) {
        fputs(pem(ctl, row->certificate), stdout);
    }
}

ctl_exit_t journal_ctl_show(ctl_t *ctl, const journal_row_t *row)
{
    certificate_facts_t facts = {0};
    bool readable = facts_read(ctl, row, &facts);
    if (ctl->json) {
        show_json(ctl, row, readable ? &facts : NULL);
    } else {
        show_text(ctl, row, readable ? &facts : NULL);
    }
    return CTL_DONE;
}

ctl_exit_t journal_ctl_counts(ctl_t *ctl, journal_t *journal)
{
    static const char *const HEADS[] = {"LOCATION", "STATE", "REPORT", "ROWS", "OLDEST"};
    enum { COUNT_COLUMNS = sizeof(HEADS) / sizeof(HEADS[0]) };
    apr_array_header_t *counts = NULL;
    const char *message = NULL;
    if (journal_counts(journal, &counts, ctl->pool, &message)) {
        return ctl_fail(ctl, CTL_UNUSABLE, "%s", message);
    }
    apr_array_header_t *lines = apr_array_make(ctl->pool, counts->nelts + 1, sizeof(const char *const *));
    json_object *document = ctl_object();
    json_object *list = json_object_new_array();
    APR_ARRAY_PUSH(lines, const char *const *) = HEADS;
    for (int i = 0; i < counts->nelts; i++) {
        const journal_count_t *count = &APR_ARRAY_IDX(counts, i, journal_count_t);
        const char *cells[COUNT_COLUMNS] = {ctl_shown(ctl, count->location, LONG_CELL),
                                            journal_state_name(count->state), journal_report_name(count->report),
                                            apr_itoa(ctl->pool, count->rows), duration(ctl, count->oldest)};
        json_object *object = ctl_object();
        APR_ARRAY_PUSH(lines, const char *const *) = apr_pmemdup(ctl->pool, cells, sizeof(cells));
        ctl_add_text(ctl, object, "location", count->location);
        ctl_add_text(ctl, object, "state", journal_state_name(count->state));
        ctl_add_text(ctl, object, "report", journal_report_name(count->report));
        ctl_add(object, "rows", json_object_new_int(count->rows));
        ctl_add(object, "oldest", seconds(count->oldest));
        json_object_array_add(list, object);
    }
    ctl_add(document, "counts", list);
    if (ctl->json) {
        ctl_print(ctl, document);
        return CTL_DONE;
    }
    json_object_put(document);
    ctl_table(lines, COUNT_COLUMNS);
    return CTL_DONE;
}
