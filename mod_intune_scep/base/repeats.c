/* SPDX-License-Identifier: Apache-2.0 */
#include "base/repeats.h"

#include "base/clock.h"
#include "base/seqlock.h"

#include <apr_strings.h>
#include <string.h>

enum { LAST_MAX = 256 };

/* Enough for 34 years of milliseconds, and for 16 million lines of a kind in one interval. */
enum { COUNT_BITS = 24 };
static const uint64_t COUNT_MAX = ((uint64_t)1 << COUNT_BITS) - 1;

/* What an id is called in the tables, as numbers. */
enum known_id_t {
#define MESSAGE(symbol, id, level, meaning, remedy) ID_OF_MESSAGE_##symbol = (id),
#include "base/messages.def"
#undef MESSAGE
#define PROBLEM(symbol, id, level, http, fail, hresult, what, remedy) ID_OF_PROBLEM_##symbol = (id),
#include "base/problems.def"
#undef PROBLEM
};

static const unsigned KINDS[] = {
#define REPEATED_MESSAGE(symbol) ID_OF_MESSAGE_##symbol,
#define REPEATED_PROBLEM(symbol) ID_OF_PROBLEM_##symbol,
#include "base/repeats.def"
#undef REPEATED_MESSAGE
#undef REPEATED_PROBLEM
};
enum { KIND_COUNT = sizeof(KINDS) / sizeof(KINDS[0]) };

typedef struct shared_kind_t {
    shared_word_t interval; /* when it began, in milliseconds, and its lines in the lower bits; 0: there is none */
    seqlock_t lock;
    shared_word_t last[SEQLOCK_WORDS(LAST_MAX)]; /* text */
} shared_kind_t;

typedef struct block_t {
    shared_word_t began;
    shared_kind_t kinds[]; /* locations × KIND_COUNT */
} block_t;

struct repeats_t {
    block_t *block;
    shared_kind_t *kinds; /* of the location */
    const char *name;
    uint64_t interval; /* milliseconds */
};

apr_size_t repeats_size(int locations)
{
    return sizeof(block_t) + (apr_size_t)locations * KIND_COUNT * sizeof(shared_kind_t);
}

void repeats_begin(void *memory, int locations)
{
    block_t *block = memory;
    memset(memory, 0, repeats_size(locations));
    atomic_store_explicit(&block->began, (uint64_t)clock_now(), memory_order_relaxed);
}

repeats_t *repeats_of(void *memory, int location, const char *name, apr_interval_time_t interval, apr_pool_t *pool)
{
    repeats_t *repeats = apr_palloc(pool, sizeof(*repeats));
    repeats->block = memory;
    repeats->kinds = &repeats->block->kinds[(apr_size_t)location * KIND_COUNT];
    repeats->name = name;
    repeats->interval = (uint64_t)apr_time_as_msec(interval);
    return repeats;
}

static int kind_of(unsigned id)
{
    for (int kind = 0; kind < KIND_COUNT; kind++) {
        if (KINDS[kind] == id) {
            return kind;
        }
    }
    return -1;
}

static uint64_t now_of(const repeats_t *repeats)
{
    apr_time_t began = (apr_time_t)atomic_load_explicit(&repeats->block->began, memory_order_relaxed);
    apr_time_t now = clock_now();
    return now > began ? (uint64_t)apr_time_as_msec(now - began) : 0;
}

static uint64_t count_of(uint64_t interval)
{
    return interval & COUNT_MAX;
}

/* 0 where it began after `now`: another process's clock_now() was a little later. */
static uint64_t age_of(uint64_t interval, uint64_t now)
{
    uint64_t began = interval >> COUNT_BITS;
    return now > began ? now - began : 0;
}

/* A clock that was set back must not stretch it for as long. */
static bool has_ended(const repeats_t *repeats, uint64_t interval, uint64_t now)
{
    return !count_of(interval) || age_of(interval, now) >= repeats->interval ||
           interval >> COUNT_BITS > now + repeats->interval;
}

static void write_sum(const repeats_t *repeats, const log_t *log, int kind, uint64_t interval, uint64_t now)
{
    char last[LAST_MAX] = "";
    log_t own = *log;
    uint64_t more = count_of(interval);
    uint64_t seconds = (age_of(interval, now) + 500) / 1000;
    if (more <= REPEATS_AS_THEY_ARE) {
        return;
    }
    own.transaction = NULL;
    if (seqlock_read(&repeats->kinds[kind].lock, repeats->kinds[kind].last, last, sizeof(last))) {
        last[LAST_MAX - 1] = '\0';
    }
    log_write(&own, MSG_REPEATED, "ISCEP%04u came %u more times in the last %u s at %s, told at level info%s%s",
              KINDS[kind], (unsigned)(more - REPEATS_AS_THEY_ARE), (unsigned)(seconds ? seconds : 1), repeats->name,
              *last ? "; the last: " : "", last);
}

/* Without the id: "[transaction] text". */
static void keep_last(shared_kind_t *shared, const char *line)
{
    char last[LAST_MAX] = "";
    const char *text = strchr(line, '[');
    apr_cpystrn(last, text ? text : line, sizeof(last));
    if (strlen(last) == LAST_MAX - 1) {
        memcpy(last + LAST_MAX - 4, "...", 4);
    }
    seqlock_write(&shared->lock, shared->last, last, sizeof(last));
}

log_level_t repeats_weigh(repeats_t *repeats, const log_t *log, unsigned id, log_level_t level, const char *line)
{
    int kind = repeats && level <= LOG_LEVEL_WARN ? kind_of(id) : -1;
    if (kind < 0) {
        return level;
    }
    shared_kind_t *shared = &repeats->kinds[kind];
    uint64_t now = now_of(repeats);
    uint64_t old = atomic_load(&shared->interval);
    uint64_t new = 0;
    bool ended = false;
    do {
        ended = has_ended(repeats, old, now);
        new = ended ? now << COUNT_BITS | 1 : old + (count_of(old) < COUNT_MAX);
    } while (!atomic_compare_exchange_weak(&shared->interval, &old, new));
    if (ended) {
        write_sum(repeats, log, kind, old, now);
    }
    if (count_of(new) <= REPEATS_AS_THEY_ARE) {
        return level;
    }
    keep_last(shared, line);
    return LOG_LEVEL_INFO;
}

void repeats_sum_up(repeats_t *repeats, const log_t *log, bool all)
{
    for (int kind = 0; repeats && kind < KIND_COUNT; kind++) {
        uint64_t now = now_of(repeats);
        uint64_t old = atomic_load(&repeats->kinds[kind].interval);
        while (count_of(old) > REPEATS_AS_THEY_ARE && (all || has_ended(repeats, old, now))) {
            if (atomic_compare_exchange_strong(&repeats->kinds[kind].interval, &old, 0)) {
                write_sum(repeats, log, kind, old, now);
                break;
            }
        }
    }
}
