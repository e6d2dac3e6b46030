/* SPDX-License-Identifier: Apache-2.0 */
#include "store/counters.h"

#include "base/clock.h"
#include "base/seqlock.h"
#include "base/text.h"

#include <apr_lib.h>
#include <apr_strings.h>
#include <string.h>

/* Five minutes, and the ten seconds that are running. */
enum { RATE_SPAN = 10, RATE_SLOTS = 31, WORDS_MAX = 200 };

typedef struct shared_histogram_t {
    shared_word_t counts[HISTOGRAM_BOUNDS + 1];
    shared_word_t microseconds;
} shared_histogram_t;

typedef struct shared_service_t {
    shared_word_t last_success, last_failure, failures;
    seqlock_t lock;
    shared_word_t words[SEQLOCK_WORDS(WORDS_MAX)];
} shared_service_t;

typedef struct shared_location_t {
    shared_word_t outcomes[OUTCOME_COUNT];
    shared_word_t calls[CALL_KINDS][CALL_ENDS];
    shared_histogram_t durations[CALL_KINDS];
    shared_histogram_t transactions;
    shared_service_t services[SERVICE_COUNT];
    shared_word_t rates[2][RATE_SLOTS]; /* which ten seconds, and how many in the lower half */
    shared_word_t outbox_claimed;       /* when somebody went to look */
    seqlock_t outbox_lock;
    shared_word_t outbox[SEQLOCK_WORDS(sizeof(counters_outbox_t))];
} shared_location_t;

typedef struct shared_record_t {
    seqlock_t lock;
    shared_word_t words[SEQLOCK_WORDS(sizeof(counters_record_t))];
} shared_record_t;

typedef struct block_t {
    shared_word_t began, went_on;
    shared_word_t next; /* record */
    shared_record_t records[RECENT_TRANSACTIONS];
    shared_location_t locations[];
} block_t;

struct counters_t {
    block_t *block;
    shared_location_t *location;
    int index;
};

const int HISTOGRAM_MS[HISTOGRAM_BOUNDS] = {5,    10,   25,   50,   75,    100,   150,   250,  500,
                                            750,  1000, 1500, 2500, 5000,  10000, 20000, 60000};

static const char *const SERVICES[SERVICE_COUNT] = {"entra", "graph", "intune", "ca", "journal"};
static const char *const KINDS[CALL_KINDS] = {"token", "endpoints", "validate", "report", "ca"};
static const char *const ENDS[CALL_ENDS] = {"success", "pending", "refused", "denied",  "throttled",
                                            "failed",  "garbage", "broken",  "timeout", "unreachable"};

const char *service_name(service_t service)
{
    return SERVICES[service];
}

const char *call_kind_name(call_kind_t kind)
{
    return KINDS[kind];
}

const char *call_end_name(call_end_t end)
{
    return ENDS[end];
}

service_t call_service(call_kind_t kind)
{
    static const service_t OF[CALL_KINDS] = {SERVICE_ENTRA, SERVICE_GRAPH, SERVICE_INTUNE, SERVICE_INTUNE, SERVICE_CA};
    return OF[kind];
}

const char *outcome_name(int outcome)
{
    static const char *const NAMES[OUTCOME_COUNT] = {
        "enrolled", "delivered_again", "pending", "inquiry",
#define PROBLEM(symbol, id, level, http, fail, hresult, what, remedy) #symbol,
#include "base/problems.def"
#undef PROBLEM
    };
    return outcome >= 0 && outcome < OUTCOME_COUNT ? NAMES[outcome] : "unknown";
}

apr_size_t counters_size(int locations)
{
    return sizeof(block_t) + (apr_size_t)locations * sizeof(shared_location_t);
}

static void put(shared_word_t *word, apr_int64_t value)
{
    atomic_store_explicit(word, (uint64_t)value, memory_order_relaxed);
}

static uint64_t get(const shared_word_t *word)
{
    return atomic_load_explicit(word, memory_order_relaxed);
}

static void add(shared_word_t *word, uint64_t more)
{
    atomic_fetch_add_explicit(word, more, memory_order_relaxed);
}

void counters_begin(void *memory, int locations)
{
    block_t *block = memory;
    memset(memory, 0, counters_size(locations));
    put(&block->began, clock_now());
    put(&block->went_on, clock_now());
}

void counters_go_on(void *memory)
{
    block_t *block = memory;
    put(&block->went_on, clock_now());
}

counters_t *counters_of(void *memory, int location, apr_pool_t *pool)
{
    counters_t *counters = apr_palloc(pool, sizeof(*counters));
    counters->block = memory;
    counters->location = &counters->block->locations[location];
    counters->index = location;
    return counters;
}

static void histogram_add(shared_histogram_t *histogram, apr_interval_time_t duration)
{
    int bucket = 0;
    duration = duration > 0 ? duration : 0;
    while (bucket < HISTOGRAM_BOUNDS && duration > apr_time_from_msec(HISTOGRAM_MS[bucket])) {
        bucket++;
    }
    add(&histogram->counts[bucket], 1);
    add(&histogram->microseconds, (uint64_t)duration);
}

void counters_service(counters_t *counters, service_t service, bool well, const char *words)
{
    char kept[WORDS_MAX] = "";
    if (!counters) {
        return;
    }
    shared_service_t *seen = &counters->location->services[service];
    if (well) {
        put(&seen->last_success, clock_now());
        put(&seen->failures, 0);
        return;
    }
    apr_cpystrn(kept, words ? words : "", sizeof(kept));
    seqlock_write(&seen->lock, seen->words, kept, sizeof(kept));
    put(&seen->last_failure, clock_now());
    add(&seen->failures, 1);
}

bool counters_service_fails(const counters_t *counters, service_t service)
{
    return counters && get(&counters->location->services[service].failures);
}

void counters_call(counters_t *counters, const call_seen_t *seen)
{
    if (!counters) {
        return;
    }
    add(&counters->location->calls[seen->kind][seen->end], 1);
    histogram_add(&counters->location->durations[seen->kind], seen->duration);
    counters_service(counters, call_service(seen->kind), !call_end_is_trouble(seen->end), seen->words);
}

static void observe(void *baton, const call_seen_t *seen)
{
    counters_call(baton, seen);
}

observer_t counters_observer(counters_t *counters)
{
    return (observer_t){observe, counters};
}

static uint64_t rate_span(void)
{
    return (uint64_t)apr_time_sec(clock_now()) / RATE_SPAN;
}

/* The span and the count are one word, so that a new span begins at 1 for exactly one of those who come at once. */
static void rate_add(shared_word_t *slots)
{
    uint64_t span = rate_span() & UINT32_MAX;
    shared_word_t *slot = &slots[span % RATE_SLOTS];
    uint64_t old = get(slot);
    uint64_t new = 0;
    do {
        new = old >> 32 == span ? old + 1 : span << 32 | 1;
    } while (!atomic_compare_exchange_weak_explicit(slot, &old, new, memory_order_relaxed, memory_order_relaxed));
}

static unsigned rate_sum(const shared_word_t *slots)
{
    uint64_t span = rate_span() & UINT32_MAX;
    unsigned sum = 0;
    for (int i = 0; i < RATE_SLOTS; i++) {
        uint64_t slot = get(&slots[i]);
        sum += span - (slot >> 32) < RATE_SLOTS ? (unsigned)(slot & UINT32_MAX) : 0;
    }
    return sum;
}

void counters_ended(counters_t *counters, counters_record_t *record)
{
    if (!counters || record->outcome < 0 || record->outcome >= OUTCOME_COUNT) {
        return;
    }
    shared_location_t *location = counters->location;
    add(&location->outcomes[record->outcome], 1);
    rate_add(location->rates[outcome_problem(record->outcome) != PROBLEM_NONE]);
    if (!record->transaction[0]) {
        return;
    }
    histogram_add(&location->transactions, record->whole);
    record->location = counters->index;
    uint64_t at = atomic_fetch_add_explicit(&counters->block->next, 1, memory_order_relaxed) % RECENT_TRANSACTIONS;
    shared_record_t *slot = &counters->block->records[at];
    seqlock_write(&slot->lock, slot->words, record, sizeof(*record));
}

bool counters_outbox_due(counters_t *counters, apr_interval_time_t age)
{
    if (!counters) {
        return false;
    }
    uint64_t claimed = get(&counters->location->outbox_claimed);
    apr_time_t now = clock_now();
    apr_time_t since = (apr_time_t)claimed;
    return (now - since >= age || since > now) &&
           atomic_compare_exchange_strong(&counters->location->outbox_claimed, &claimed, (uint64_t)now);
}

void counters_outbox_keep(counters_t *counters, const counters_outbox_t *outbox)
{
    if (counters) {
        seqlock_write(&counters->location->outbox_lock, counters->location->outbox, outbox, sizeof(*outbox));
    }
}

static void histogram_read(const shared_histogram_t *shared, histogram_t *histogram)
{
    histogram->total = 0;
    for (int i = 0; i <= HISTOGRAM_BOUNDS; i++) {
        histogram->counts[i] = get(&shared->counts[i]);
        histogram->total += histogram->counts[i];
    }
    histogram->seconds = (double)get(&shared->microseconds) / APR_USEC_PER_SEC;
}

double histogram_quantile(const histogram_t *histogram, double share)
{
    double wanted = share * (double)histogram->total;
    double below = 0;
    for (int i = 0; i < HISTOGRAM_BOUNDS; i++) {
        double here = (double)histogram->counts[i];
        double from = i ? HISTOGRAM_MS[i - 1] : 0;
        if (here > 0 && below + here >= wanted) {
            return from + (HISTOGRAM_MS[i] - from) * (wanted - below) / here;
        }
        below += here;
    }
    return histogram->total ? HISTOGRAM_MS[HISTOGRAM_BOUNDS - 1] : -1;
}

static void service_read(const shared_service_t *shared, service_seen_t *seen, apr_pool_t *pool)
{
    char words[WORDS_MAX] = "";
    seen->last_success = (apr_time_t)get(&shared->last_success);
    seen->last_failure = (apr_time_t)get(&shared->last_failure);
    seen->failures = (int)(get(&shared->failures) & INT32_MAX);
    seen->words = seqlock_read(&shared->lock, shared->words, words, sizeof(words)) ? apr_pstrndup(pool, words, WORDS_MAX - 1)
                                                                                 : "";
}

void counters_read(const counters_t *counters, counts_t *counts, apr_pool_t *pool)
{
    memset(counts, 0, sizeof(*counts));
    if (!counters) {
        for (int i = 0; i < SERVICE_COUNT; i++) {
            counts->services[i].words = "";
        }
        return;
    }
    const shared_location_t *location = counters->location;
    for (int i = 0; i < OUTCOME_COUNT; i++) {
        counts->outcomes[i] = get(&location->outcomes[i]);
        *(outcome_problem(i) == PROBLEM_NONE ? &counts->successes : &counts->failures) += counts->outcomes[i];
    }
    for (int kind = 0; kind < CALL_KINDS; kind++) {
        histogram_read(&location->durations[kind], &counts->durations[kind]);
        for (int end = 0; end < CALL_ENDS; end++) {
            counts->calls[kind][end] = get(&location->calls[kind][end]);
        }
    }
    histogram_read(&location->transactions, &counts->transactions);
    for (int i = 0; i < SERVICE_COUNT; i++) {
        service_read(&location->services[i], &counts->services[i], pool);
    }
    counts->recent_successes = rate_sum(location->rates[0]);
    counts->recent_failures = rate_sum(location->rates[1]);
    counts->outbox_known =
        seqlock_read(&location->outbox_lock, location->outbox, &counts->outbox, sizeof(counts->outbox));
}

apr_time_t counters_began(const counters_t *counters)
{
    return counters ? (apr_time_t)get(&counters->block->began) : 0;
}

apr_time_t counters_went_on(const counters_t *counters)
{
    return counters ? (apr_time_t)get(&counters->block->went_on) : 0;
}

static void end_texts(counters_record_t *record)
{
    record->platform[sizeof(record->platform) - 1] = '\0';
    record->transaction[sizeof(record->transaction) - 1] = '\0';
    record->subject[sizeof(record->subject) - 1] = '\0';
    record->serial[sizeof(record->serial) - 1] = '\0';
    record->code[sizeof(record->code) - 1] = '\0';
    record->reference[sizeof(record->reference) - 1] = '\0';
    record->request_id[sizeof(record->request_id) - 1] = '\0';
    record->detail[sizeof(record->detail) - 1] = '\0';
}

apr_array_header_t *counters_recent(const counters_t *counters, apr_pool_t *pool)
{
    apr_array_header_t *found = apr_array_make(pool, RECENT_TRANSACTIONS, sizeof(counters_record_t *));
    uint64_t next = counters ? get(&counters->block->next) : 0;
    for (uint64_t i = 1; i <= RECENT_TRANSACTIONS && i <= next; i++) {
        const shared_record_t *slot = &counters->block->records[(next - i) % RECENT_TRANSACTIONS];
        counters_record_t *record = apr_palloc(pool, sizeof(*record));
        if (seqlock_read(&slot->lock, slot->words, record, sizeof(*record)) && record->outcome >= 0 &&
            record->outcome < OUTCOME_COUNT) {
            end_texts(record);
            APR_ARRAY_PUSH(found, counters_record_t *) = record;
        }
    }
    return found;
}
