/* SPDX-License-Identifier: Apache-2.0 */
#include "events.h"

#include "base/clock.h"
#include "base/event.h"
#include "expiry.h"

#include <apr_strings.h>

static const apr_interval_time_t LIMIT = apr_time_from_sec(10);
static const apr_interval_time_t EXPIRY_EVERY = apr_time_from_sec(3600);
static const apr_interval_time_t DAY = apr_time_from_sec(86400);

static bool tell(const events_t *events, const event_t *event, apr_pool_t *pool)
{
    const char *message = "no reason was given";
    if (event_run(events->command, event, LIMIT, pool, &message)) {
        log_write(events->log, MSG_EVENT_NOT_TOLD, "the event %s of \"%s\" could not be told: %s", event->name,
                  event->location ? event->location : "-", message);
        return false;
    }
    log_write(events->log, MSG_EVENT_TOLD, "the event %s of \"%s\" was told", event->name,
              event->location ? event->location : "-");
    return true;
}

/* Whoever revokes an orphan must not be given the serial of the certificate that the device has. */
static const char *serial_of(const journal_row_t *row, const char *name, const char *detail, apr_pool_t *pool)
{
    if (strcmp(name, "orphan")) {
        return row->serial;
    }
    if (strncmp(detail, EVENTS_ORPHAN, strlen(EVENTS_ORPHAN))) {
        return NULL;
    }
    detail += strlen(EVENTS_ORPHAN);
    return apr_pstrndup(pool, detail, strspn(detail, "0123456789ABCDEF"));
}

/* Up to the separator or the end; the rest is what comes after. */
static const char *cut(const char **rest, char separator, apr_pool_t *pool)
{
    const char *text = *rest;
    apr_size_t len = strcspn(text, (const char[]){separator, '\0'});
    *rest = text + len + (text[len] ? 1 : 0);
    return apr_pstrmemdup(pool, text, len);
}

/*
 * All that wait in a row, in their order; false where one could not be told, or the process is about to end: then all are
 * tried again.
 */
static bool tell_all(const events_t *events, const journal_row_t *row, apr_pool_t *pool)
{
    const char *names = row->event;
    const char *details = row->event_detail ? row->event_detail : "";
    bool good = true;
    while (good && *names) {
        const char *name = cut(&names, ' ', pool);
        const char *detail = cut(&details, '\n', pool);
        event_t event = {.name = name,
                         .location = row->location,
                         .transaction = row->transaction_id,
                         .serial = serial_of(row, name, detail, pool),
                         .detail = *detail ? detail : NULL,
                         .time = clock_now()};
        good = tell(events, &event, pool) && (!*names || !events->stopping(events->baton));
    }
    return good;
}

/* As long as all of them may take: whoever is not done by then has told them for nothing. */
static apr_interval_time_t lease_of(const journal_row_t *row)
{
    apr_interval_time_t lease = 2 * LIMIT;
    for (const char *space = row->event; (space = strchr(space, ' ')); space++) {
        lease += LIMIT;
    }
    return lease;
}

void events_of_journal(const profile_t *profile, const events_t *events, apr_pool_t *pool)
{
    apr_array_header_t *rows = NULL;
    const char *message = NULL;
    if (!profile->journal || journal_events(profile->journal, &rows, pool, &message)) {
        return;
    }
    for (int i = 0; i < rows->nelts && !events->stopping(events->baton); i++) {
        const journal_row_t *row = APR_ARRAY_IDX(rows, i, journal_row_t *);
        /* The claim ends by itself: then it is tried again. */
        if (!journal_event_claim(profile->journal, row, lease_of(row), pool, &message) && tell_all(events, row, pool)) {
            journal_event_done(profile->journal, row, pool, &message);
        }
    }
}

/* Whether this process is the one that tells it: the lease is left to run out, after a day. */
static bool is_mine(const profile_t *profile, const events_t *events, const char *what, apr_pool_t *pool)
{
    const char *owner = NULL;
    if (events->stopping(events->baton)) {
        return false;
    }
    const char *lease = apr_pstrcat(pool, "event\n", profile->name, "\n", what, NULL);
    return profile->cache && !profile->cache->claim(profile->cache, lease, clock_now() + DAY, &owner, pool);
}

static void watch_breaker(const profile_t *profile, const events_t *events, events_watch_t *watch, apr_pool_t *pool)
{
    intune_breaker_t breaker;
    intune_breaker_state(profile->intune, pool, &breaker);
    bool open = breaker.state != INTUNE_BREAKER_CLOSED;
    /* It may have closed and opened again between two looks. */
    if (open == watch->breaker_was_open && (!open || breaker.since == watch->opened_at)) {
        return;
    }
    watch->breaker_was_open = open;
    watch->opened_at = open ? breaker.since : watch->opened_at;
    event_t event = {.name = open ? "breaker-open" : "breaker-closed",
                     .location = profile->name,
                     .detail = open ? breaker.reason : NULL,
                     .time = clock_now()};
    const char *what = apr_psprintf(pool, "%s %" APR_TIME_T_FMT, event.name, watch->opened_at);
    if (is_mine(profile, events, what, pool)) {
        tell(events, &event, pool);
    }
}

static const char *days_words(const expiry_t *expiry, apr_pool_t *pool)
{
    char date[APR_RFC822_DATE_LEN];
    apr_rfc822_date(date, expiry->expires);
    return expiry->days < 0 ? apr_psprintf(pool, "%s expired on %s", expiry->what, date)
                            : apr_psprintf(pool, "%s expires in %d days, on %s", expiry->what, expiry->days, date);
}

/* The log has it from the start of the server; the lease lets the next line come after a day. */
static bool start_has_told(const events_t *events, const expiry_t *expiry)
{
    return clock_now() - events->started < EXPIRY_EVERY && expiry->expires - events->started < EXPIRY_WARN_DAYS * DAY;
}

static void watch_expiry(const profile_t *profile, const events_t *events, apr_pool_t *pool)
{
    const apr_array_header_t *expiries = expiry_list(profile, pool);
    for (int i = 0; i < expiries->nelts; i++) {
        const expiry_t *expiry = &APR_ARRAY_IDX(expiries, i, const expiry_t);
        if (!expiry->matters || expiry->days >= EXPIRY_WARN_DAYS || !is_mine(profile, events, expiry->what, pool)) {
            continue;
        }
        const char *words = days_words(expiry, pool);
        if (!start_has_told(events, expiry)) {
            log_write(events->log, expiry->days < EXPIRY_ERROR_DAYS ? MSG_EXPIRES_NOW : MSG_EXPIRES_SOON, "%s: %s (%s)",
                      profile->name, words, expiry->directive);
        }
        if (events->command) {
            event_t event = {.name = "expiring", .location = profile->name, .detail = words, .time = clock_now()};
            tell(events, &event, pool);
        }
    }
}

void events_watch(const profile_t *profile, const events_t *events, events_watch_t *watch, apr_pool_t *pool)
{
    if (events->command) {
        watch_breaker(profile, events, watch, pool);
    }
    /* A clock that was set back does not make it longer. */
    apr_interval_time_t left = watch->expiry_at - clock_now();
    if (left <= 0 || left > EXPIRY_EVERY) {
        watch->expiry_at = clock_now() + EXPIRY_EVERY;
        watch_expiry(profile, events, pool);
    }
}
