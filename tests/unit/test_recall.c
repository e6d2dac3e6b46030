/* SPDX-License-Identifier: Apache-2.0 */
/* gateway/recall.c: what a row means for a device that comes again. Rows are made in memory, in every combination. */
#include "gateway/recall.h"
#include "gateway/failure.h"

#include "base/text.h"

#include "gateway_fixture.h"

#include <apr_strings.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define BIT(value) (1u << (value))
enum { ANY = ~0u };

typedef enum hold_t { FREE, LEASED, GONE } hold_t;
typedef enum kind_t { PKCSREQ, RENEWALREQ, CERTPOLL } kind_t;
/* What the row says of the failure: nothing, what may pass, a refusal, a CertPoll in vain. */
typedef enum fail_t { NO_FAIL, PASSING, REFUSED, POLLED } fail_t;

/* How long ago: less than a minute, more, or by a clock that has been set back since. */
typedef enum age_t { YOUNG, OLD, AHEAD } age_t;

/* A row and who comes. */
typedef struct situation_t {
    journal_state_t state;
    journal_report_t report;
    hold_t hold;
    notify_t notify;
    resync_t resync;
    kind_t kind;
    fail_t fail;
    bool csr; /* the row still has it */
    age_t age;
} situation_t;

#define OWED (BIT(JOURNAL_OWED_SUCCESS) | BIT(JOURNAL_OWED_FAILURE))
#define OPEN (BIT(JOURNAL_INTENT) | BIT(JOURNAL_UNKNOWN))
#define HAS_REQUEST (BIT(PKCSREQ) | BIT(RENEWALREQ))
#define NOBODY (BIT(FREE) | BIT(GONE))
#define REFUSAL (BIT(NO_FAIL) | BIT(REFUSED))

/* The first that fits counts. */
static const struct {
    const char *name;
    unsigned states, reports, holds, notify, resync, kinds, fails, csr, ages;
    recall_t recall;
    problem_t problem;
    bool certificate;
} CASES[] = {
    {"intent, unknown: somebody is at it", OPEN, ANY, BIT(LEASED), ANY, ANY, ANY, ANY, ANY, ANY, RECALL_WAIT, PROBLEM_NONE, false},
    {"intent, unknown: none, still to be reported", OPEN, OWED, NOBODY, ANY, BIT(RESYNC_NONE), ANY, ANY, ANY, ANY, RECALL_ANSWERED, PROBLEM_COME_BACK, false},
    {"intent, unknown: none, over", OPEN, ANY, NOBODY, ANY, BIT(RESYNC_NONE), ANY, ANY, ANY, ANY, RECALL_ANSWERED, PROBLEM_GIVEN_UP, false},
    {"intent, unknown: no request left", OPEN, ANY, NOBODY, ANY, ANY, BIT(CERTPOLL), ANY, BIT(false), ANY, RECALL_ANSWERED, PROBLEM_GIVEN_UP, false},
    {"intent, unknown: sent again", OPEN, ANY, NOBODY, ANY, BIT(RESYNC_RESEND), ANY, ANY, ANY, ANY, RECALL_ISSUE, PROBLEM_NONE, false},
    {"intent, unknown: polled in vain, sent again", OPEN, ANY, NOBODY, ANY, BIT(RESYNC_POLL), ANY, BIT(POLLED), ANY, ANY, RECALL_ISSUE, PROBLEM_NONE, false},
    {"intent, unknown: polled for", OPEN, ANY, NOBODY, ANY, BIT(RESYNC_POLL), ANY, ANY, ANY, ANY, RECALL_POLL, PROBLEM_NONE, false},
    {"pending: somebody is at it", BIT(JOURNAL_PENDING), ANY, BIT(LEASED), ANY, ANY, ANY, ANY, ANY, ANY, RECALL_WAIT, PROBLEM_NONE, false},
    {"pending: no request left", BIT(JOURNAL_PENDING), ANY, NOBODY, ANY, ANY, BIT(CERTPOLL), ANY, BIT(false), ANY, RECALL_ANSWERED, PROBLEM_GIVEN_UP, false},
    {"pending: polled", BIT(JOURNAL_PENDING), ANY, NOBODY, ANY, ANY, ANY, ANY, ANY, ANY, RECALL_POLL, PROBLEM_NONE, false},
    {"issued: after", BIT(JOURNAL_ISSUED), ANY, ANY, BIT(NOTIFY_AFTER), ANY, ANY, ANY, ANY, ANY, RECALL_ANSWERED, PROBLEM_NONE, true},
    {"issued: reported, or waived", BIT(JOURNAL_ISSUED), BIT(JOURNAL_DONE) | BIT(JOURNAL_WAIVED), ANY, ANY, ANY, ANY, ANY, ANY, ANY, RECALL_ANSWERED, PROBLEM_NONE, true},
    {"issued: before, never reported", BIT(JOURNAL_ISSUED), BIT(JOURNAL_REFUSED) | BIT(JOURNAL_DEAD), ANY, ANY, ANY, ANY, ANY, ANY, ANY, RECALL_ANSWERED, PROBLEM_GIVEN_UP, false},
    {"issued: before, being reported", BIT(JOURNAL_ISSUED), OWED, BIT(LEASED), ANY, ANY, ANY, ANY, ANY, ANY, RECALL_WAIT, PROBLEM_NONE, false},
    {"issued: before, to be reported", BIT(JOURNAL_ISSUED), OWED, NOBODY, ANY, ANY, ANY, ANY, ANY, ANY, RECALL_ANSWERED, PROBLEM_COME_BACK, false},
    {"failed: refused just now", BIT(JOURNAL_FAILED), ANY, ANY, ANY, ANY, ANY, BIT(REFUSED), ANY, BIT(YOUNG), RECALL_ANSWERED, PROBLEM_CA_REFUSED, false},
    {"failed: given up just now", BIT(JOURNAL_FAILED), ANY, ANY, ANY, ANY, ANY, BIT(NO_FAIL), ANY, BIT(YOUNG), RECALL_ANSWERED, PROBLEM_GIVEN_UP, false},
    {"failed: refused, and no request left", BIT(JOURNAL_FAILED), ANY, ANY, ANY, ANY, BIT(CERTPOLL), BIT(REFUSED), BIT(false), ANY, RECALL_ANSWERED, PROBLEM_CA_REFUSED, false},
    /* Nobody may be told for ever to come back. */
    {"failed: might pass, and no request left", BIT(JOURNAL_FAILED), ANY, NOBODY, ANY, ANY, BIT(CERTPOLL), BIT(PASSING) | BIT(POLLED), BIT(false), ANY, RECALL_ANSWERED, PROBLEM_GIVEN_UP, false},
    {"failed: given up, and no request left", BIT(JOURNAL_FAILED), ANY, ANY, ANY, ANY, BIT(CERTPOLL), BIT(NO_FAIL), BIT(false), ANY, RECALL_ANSWERED, PROBLEM_GIVEN_UP, false},
    {"failed: being reported", BIT(JOURNAL_FAILED), ANY, BIT(LEASED), ANY, ANY, ANY, ANY, ANY, ANY, RECALL_WAIT, PROBLEM_NONE, false},
    {"failed: might pass", BIT(JOURNAL_FAILED), ANY, NOBODY, ANY, ANY, ANY, BIT(PASSING) | BIT(POLLED), ANY, ANY, RECALL_ISSUE, PROBLEM_NONE, false},
    {"failed: a minute ago", BIT(JOURNAL_FAILED), ANY, NOBODY, ANY, ANY, ANY, REFUSAL, ANY, BIT(OLD) | BIT(AHEAD), RECALL_ISSUE, PROBLEM_NONE, false},
    {"withheld", BIT(JOURNAL_WITHHELD), ANY, ANY, ANY, ANY, ANY, ANY, ANY, ANY, RECALL_ANSWERED, PROBLEM_REPORT_REFUSED, false},
};

static bytes_t stored_csr;
static bytes_t stored_certificate;
static scep_request_t requests[3];

static const char *fail_text(fail_t fail)
{
    static const char *const TEXTS[] = {NULL, "CA_TIMEOUT -1 nothing came", "CA_REFUSED 4 failInfo badCertId",
                                        "CA_ERROR -1 " FAILURE_POLLED "; the request is sent again"};
    return TEXTS[fail];
}

static journal_row_t row_of(const situation_t *s, apr_pool_t *pool)
{
    journal_row_t row = {.id = "ID",
                         .location = GATE_NAME,
                         .transaction_id = requests[0].transaction_id,
                         .key_fp = text_hex(pool, requests[0].signer_key_sha256),
                         .state = s->state,
                         .report = s->report,
                         .owner = "owner",
                         .leased = s->hold != FREE,
                         .owner_gone = s->hold == GONE,
                         .request_id = "",
                         .fail = fail_text(s->fail),
                         .ra_fp = GATE_RA_FP,
                         .node = "http://node",
                         .idle = apr_time_from_sec(s->age == OLD ? 61 : s->age == AHEAD ? -1 : 59)};
    if (s->csr) {
        row.csr = stored_csr;
    }
    if (s->state == JOURNAL_ISSUED || s->state == JOURNAL_WITHHELD) {
        row.certificate = stored_certificate;
    }
    return row;
}

static transaction_t *comes(gate_t *gate, kind_t kind, apr_pool_t *pool)
{
    transaction_t *t = transaction_make(&gate->profile, &gate->log, pool);
    t->request = &requests[kind];
    t->csr = &t->request->csr;
    return t;
}

static const char *situation_words(const situation_t *s, apr_pool_t *pool)
{
    return apr_psprintf(pool, "%s/%s hold %d notify %d resync %d kind %d fail %d csr %d age %d",
                        journal_state_name(s->state), journal_report_name(s->report), (int)s->hold, (int)s->notify, (int)s->resync,
                        (int)s->kind, (int)s->fail, s->csr, (int)s->age);
}

static bool fits(size_t i, const situation_t *s)
{
    return (CASES[i].states & BIT(s->state)) && (CASES[i].reports & BIT(s->report)) && (CASES[i].holds & BIT(s->hold)) &&
           (CASES[i].notify & BIT(s->notify)) && (CASES[i].resync & BIT(s->resync)) && (CASES[i].kinds & BIT(s->kind)) &&
           (CASES[i].fails & BIT(s->fail)) && (CASES[i].csr & BIT(s->csr)) && (CASES[i].ages & BIT(s->age));
}

static void try(gate_t *gate, const situation_t *s, int *used, apr_pool_t *pool)
{
    size_t i = 0;
    while (i < COUNT(CASES) && !fits(i, s)) {
        i++;
    }
    if (i == COUNT(CASES)) {
        fail_msg("no case for %s", situation_words(s, pool));
    }
    used[i]++;
    gate->profile.notify = s->notify;
    gate->profile.resync = s->resync;
    journal_row_t row = row_of(s, pool);
    transaction_t *t = comes(gate, s->kind, pool);
    recall_t found = recall(t, &row);
    bool asks = found == RECALL_ISSUE || found == RECALL_POLL;
    if (found != CASES[i].recall || t->result->problem != CASES[i].problem ||
        (t->certificate.len > 0) != CASES[i].certificate || t->polling != (found == RECALL_POLL) ||
        (asks && !t->csr->der.len) || (found == RECALL_ANSWERED && !t->result->problem && !t->certificate.len)) {
        fail_msg("%s: %d %s for %s", CASES[i].name, (int)found, problem_facts(t->result->problem)->name,
                 situation_words(s, pool));
    }
}

static void every_combination(void **state)
{
    gate_t gate = gate_begin(state);
    int used[COUNT(CASES)] = {0};
    int sizes[] = {JOURNAL_WITHHELD + 1, JOURNAL_WAIVED + 1, 3, 2, 3, 3, 4, 2, 3};
    int total = 1;
    for (size_t i = 0; i < COUNT(sizes); i++) {
        total *= sizes[i];
    }
    for (int n = 0; n < total; n++) {
        int of[COUNT(sizes)];
        int rest = n;
        apr_pool_t *pool = NULL;
        for (size_t i = 0; i < COUNT(sizes); i++) {
            of[i] = rest % sizes[i];
            rest /= sizes[i];
        }
        situation_t s = {(journal_state_t)of[0], (journal_report_t)of[1], (hold_t)of[2], (notify_t)of[3],
                         (resync_t)of[4],        (kind_t)of[5],           (fail_t)of[6], of[7] != 0,
                         (age_t)of[8]};
        assert_int_equal(apr_pool_create(&pool, gate.bed->pool), APR_SUCCESS);
        try(&gate, &s, used, pool);
        apr_pool_destroy(pool);
    }
    for (size_t i = 0; i < COUNT(CASES); i++) {
        if (!used[i]) {
            fail_msg("%s is never met", CASES[i].name);
        }
    }
}

/* Whoever signs with another key is told nothing of the row. */
static void another_key(void **state)
{
    gate_t gate = gate_begin(state);
    for (int of = JOURNAL_INTENT; of <= JOURNAL_WITHHELD; of++) {
        for (kind_t kind = PKCSREQ; kind <= CERTPOLL; kind++) {
            situation_t s = {.state = (journal_state_t)of, .report = JOURNAL_DONE, .csr = true};
            journal_row_t row = row_of(&s, gate.bed->pool);
            row.key_fp = "4B4559";
            transaction_t *t = comes(&gate, kind, gate.bed->pool);
            assert_int_equal(recall(t, &row), RECALL_ANSWERED);
            assert_int_equal(t->result->problem, PROBLEM_BAD_SIGNER);
            assert_int_equal(t->certificate.len, 0);
            assert_ptr_equal(t->csr, &t->request->csr);
        }
    }
}

/* A poll goes to the node and in the name of the RA that asked; a re-send to any node, in the present one's. */
static void who_asks_whom(void **state)
{
    gate_t gate = gate_begin(state);
    scep_identity_t former = *gate_pki->identity;
    for (int i = 0; i < 8; i++) {
        bool poll = i & 1, has_former = i & 2, by_former = i & 4;
        situation_t s = {.state = poll ? JOURNAL_PENDING : JOURNAL_UNKNOWN, .report = JOURNAL_OWED_FAILURE, .csr = true};
        journal_row_t row = row_of(&s, gate.bed->pool);
        row.ra_fp = by_former ? GATE_FORMER_FP : GATE_RA_FP;
        gate.profile.former = has_former ? &former : NULL;
        gate.profile.former_fp = has_former ? GATE_FORMER_FP : NULL;
        transaction_t *t = comes(&gate, PKCSREQ, gate.bed->pool);
        t->ra = NULL;
        t->node = "http://where the last step was";
        assert_int_equal(recall(t, &row), poll ? RECALL_POLL : RECALL_ISSUE);
        assert_ptr_equal(t->ra, poll && has_former && by_former ? &former : gate_pki->identity);
        assert_true(poll ? t->node == row.node : !t->node);
    }
}

/* The row's CSR is the one that is asked with; what was validated was another, unless it has the same bytes. */
static void which_csr(void **state)
{
    gate_t gate = gate_begin(state);
    apr_pool_t *pool = gate.bed->pool;
    bytes_t other = gate_csr(&gate, "MA8GCSqGSIb3DQEHAqACBQE=");
    const struct {
        const char *name;
        bytes_t kept;
        bool validated, still;
    } rows[] = {{"the same bytes", stored_csr, true, true},
                {"not validated", stored_csr, false, false},
                {"other bytes", other, true, false},
                {"unreadable", bytes_of_text("no CSR"), true, true},
                {"none", {NULL, 0}, true, true}};
    for (size_t i = 0; i < COUNT(rows); i++) {
        situation_t s = {.state = JOURNAL_UNKNOWN, .report = JOURNAL_OWED_FAILURE};
        journal_row_t row = row_of(&s, pool);
        row.csr = rows[i].kept;
        transaction_t *t = comes(&gate, PKCSREQ, pool);
        t->validated = rows[i].validated;
        assert_int_equal(recall(t, &row), RECALL_ISSUE);
        bool kept = rows[i].kept.data == stored_csr.data || rows[i].kept.data == other.data;
        if (t->validated != rows[i].still || !bytes_equal(t->csr->der, kept ? rows[i].kept : stored_csr)) {
            fail_msg("%s: validated %d", rows[i].name, t->validated);
        }
    }
    /* Between two looks the row has lost the CSR that Intune was asked about. */
    situation_t s = {.state = JOURNAL_UNKNOWN, .report = JOURNAL_OWED_FAILURE};
    journal_row_t row = row_of(&s, pool);
    row.csr = other;
    transaction_t *t = comes(&gate, PKCSREQ, pool);
    assert_int_equal(recall(t, &row), RECALL_ISSUE);
    t->validated = true;
    row.csr = (bytes_t){NULL, 0};
    assert_int_equal(recall(t, &row), RECALL_ISSUE);
    assert_ptr_equal(t->csr, &t->request->csr);
    assert_false(t->validated);
}

static void certificates(void **state)
{
    gate_t gate = gate_begin(state);
    static const struct {
        journal_report_t report;
        bool reported;
    } CASES_OF[] = {{JOURNAL_DONE, true}, {JOURNAL_WAIVED, false}};
    for (size_t i = 0; i < COUNT(CASES_OF); i++) {
        situation_t s = {.state = JOURNAL_ISSUED, .report = CASES_OF[i].report};
        journal_row_t row = row_of(&s, gate.bed->pool);
        transaction_t *t = comes(&gate, CERTPOLL, gate.bed->pool);
        assert_int_equal(recall(t, &row), RECALL_ANSWERED);
        assert_true(bytes_equal(t->certificate, stored_certificate));
        assert_non_null(t->facts.serial);
        assert_int_equal(t->reported, CASES_OF[i].reported);
        row.certificate.len = i ? row.certificate.len - 1 : 0;
        t = comes(&gate, CERTPOLL, gate.bed->pool);
        assert_int_equal(recall(t, &row), RECALL_ANSWERED);
        assert_int_equal(t->result->problem, PROBLEM_INTERNAL);
        assert_int_equal(t->certificate.len, 0);
    }
}

/* Where the outbox does not come to a report, who waits for it sends it. */
static void overdue(void **state)
{
    gate_t gate = gate_begin(state);
    static const struct {
        const char *name;
        apr_interval_time_t due_in;
        hold_t hold;
        journal_report_t report;
        notify_t notify;
        bool csr;
        recall_t recall;
        problem_t problem;
    } ROWS[] = {
        {"due since long", -4000000, FREE, JOURNAL_OWED_SUCCESS, NOTIFY_BEFORE, true, RECALL_REPORT, PROBLEM_NONE},
        {"its holder is gone", -4000000, GONE, JOURNAL_OWED_SUCCESS, NOTIFY_BEFORE, true, RECALL_REPORT, PROBLEM_NONE},
        {"just due", -2900000, FREE, JOURNAL_OWED_SUCCESS, NOTIFY_BEFORE, true, RECALL_ANSWERED, PROBLEM_COME_BACK},
        {"not due", 4000000, FREE, JOURNAL_OWED_SUCCESS, NOTIFY_BEFORE, true, RECALL_ANSWERED, PROBLEM_COME_BACK},
        {"being reported", -4000000, LEASED, JOURNAL_OWED_SUCCESS, NOTIFY_BEFORE, true, RECALL_WAIT, PROBLEM_NONE},
        {"its request cannot be read", -4000000, FREE, JOURNAL_OWED_SUCCESS, NOTIFY_BEFORE, false, RECALL_ANSWERED, PROBLEM_COME_BACK},
        {"a failure", -4000000, FREE, JOURNAL_OWED_FAILURE, NOTIFY_BEFORE, true, RECALL_ANSWERED, PROBLEM_COME_BACK},
        {"after", -4000000, FREE, JOURNAL_OWED_SUCCESS, NOTIFY_AFTER, true, RECALL_ANSWERED, PROBLEM_NONE},
    };
    for (size_t i = 0; i < COUNT(ROWS); i++) {
        for (kind_t kind = PKCSREQ; kind <= CERTPOLL; kind++) {
            situation_t s = {.state = JOURNAL_ISSUED, .report = ROWS[i].report, .hold = ROWS[i].hold, .csr = ROWS[i].csr};
            journal_row_t row = row_of(&s, gate.bed->pool);
            row.due_in = ROWS[i].due_in;
            gate.profile.notify = ROWS[i].notify;
            transaction_t *t = comes(&gate, kind, gate.bed->pool);
            recall_t found = recall(t, &row);
            bool has = found == RECALL_REPORT || !ROWS[i].problem;
            if (found != ROWS[i].recall || t->result->problem != ROWS[i].problem ||
                (found != RECALL_WAIT && has != (t->certificate.len > 0)) ||
                (found == RECALL_REPORT && !bytes_equal(t->csr->der, stored_csr))) {
                fail_msg("%s: %d %s", ROWS[i].name, (int)found, problem_facts(t->result->problem)->name);
            }
        }
    }
}

static void requests_open(gate_t *gate)
{
    bytes_t messages[] = {gate_message(gate, GATE_CHALLENGE), gate_renewal(gate),
                          gate_poll(gate, gate_pki->device, gate_pki->device_key)};
    for (size_t i = 0; i < COUNT(messages); i++) {
        scep_request_t *request = NULL;
        result_t *result = result_make(gate_pki->pool);
        assert_int_equal(scep_request_open(&request, gate_pki->identity, &gate_pki->policy, messages[i],
                                           gate_pki->pool, result), APR_SUCCESS);
        requests[i] = *request;
        /* Who is who is told by the key; in these rows it is one. */
        requests[i].signer_key_sha256 = requests[0].signer_key_sha256;
    }
}

static int prepare(void **state)
{
    void *made = NULL;
    (void)state;
    if (gate_up(&made)) {
        return -1;
    }
    gate_t *gate = made;
    requests_open(gate);
    stored_csr = gate_csr(gate, GATE_CHALLENGE);
    stored_csr.data = apr_pmemdup(gate_pki->pool, stored_csr.data, stored_csr.len);
    stored_certificate = pki_certificate_der(gate_leaf(gate_pki->device_key), gate_pki->pool);
    return gate_down(&made);
}

int main(void)
{
    const struct CMUnitTest tests[] = {GATE_TEST(every_combination), GATE_TEST(another_key), GATE_TEST(who_asks_whom),
                                       GATE_TEST(which_csr), GATE_TEST(certificates), GATE_TEST(overdue)};
    if (gate_start()) {
        return 1;
    }
    int failed = cmocka_run_group_tests(tests, prepare, NULL);
    gate_end();
    return failed;
}
