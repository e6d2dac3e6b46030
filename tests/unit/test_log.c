/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"
#include "base/result.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

typedef struct sink_t {
    char line[8192];
    log_level_t level, asked;
    int lines;
    bool deaf;
} sink_t;

static void sink_write(void *baton, log_level_t level, const char *line)
{
    sink_t *sink = baton;

    sink->lines++;
    sink->level = level;
    snprintf(sink->line, sizeof(sink->line), "%s", line);
}

static bool sink_enabled(void *baton, log_level_t level)
{
    sink_t *sink = baton;

    sink->asked = level;
    return !sink->deaf;
}

static sink_t sink;
static log_t log_to_sink;

static int begin(void **state)
{
    (void)state;
    memset(&sink, 0, sizeof(sink));
    log_to_sink.write = sink_write;
    log_to_sink.enabled = sink_enabled;
    log_to_sink.baton = &sink;
    log_to_sink.transaction = "TX1";
    return 0;
}

static void line_has_id_transaction_and_text(void **state)
{
    char expected[100];
    const message_facts_t *facts = log_message_facts(MSG_CALL_DONE);

    (void)state;
    log_write(&log_to_sink, MSG_CALL_DONE, "took %d ms, %s", 12, "ok");
    snprintf(expected, sizeof(expected), "ISCEP%04u: [TX1] took 12 ms, ok", facts->id);
    assert_string_equal(sink.line, expected);
    assert_int_equal(strncmp(sink.line, "ISCEP0302: ", 11), 0);
    assert_int_equal(sink.level, facts->level);
    assert_int_equal(sink.asked, facts->level);
}

static void line_before_a_transaction(void **state)
{
    (void)state;
    log_to_sink.transaction = NULL;
    log_write(&log_to_sink, MSG_TOKEN_FETCHED, "text");
    assert_string_equal(sink.line, "ISCEP0300: [-] text");
}

static void line_of_another_table(void **state)
{
    (void)state;
    log_write_as(&log_to_sink, 1234, LOG_LEVEL_WARN, "%s", "text");
    assert_string_equal(sink.line, "ISCEP1234: [TX1] text");
    assert_int_equal(sink.level, LOG_LEVEL_WARN);
    assert_int_equal(sink.asked, LOG_LEVEL_WARN);
}

static void no_log_and_disabled_level_write_nothing(void **state)
{
    (void)state;
    log_write(NULL, MSG_TOKEN_FETCHED, "text");
    sink.deaf = true;
    log_write(&log_to_sink, MSG_TOKEN_FETCHED, "text");
    assert_int_equal(sink.lines, 0);
}

static void long_line_is_cut(void **state)
{
    char text[6001];

    (void)state;
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    log_write(&log_to_sink, MSG_TOKEN_FETCHED, "%s", text);
    assert_int_equal(strlen(sink.line), 4000);
    assert_string_equal(sink.line + 3996, "x...");
    text[4000 - strlen("ISCEP0300: [TX1] ")] = '\0';
    log_write(&log_to_sink, MSG_TOKEN_FETCHED, "%s", text);
    assert_int_equal(strlen(sink.line), 4000);
    assert_string_equal(sink.line + 3996, "xxxx");
}

static void long_transaction_is_cut(void **state)
{
    char name[5001];

    (void)state;
    memset(name, 'n', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    log_to_sink.transaction = name;
    log_write(&log_to_sink, MSG_TOKEN_FETCHED, "text");
    assert_int_equal(strlen(sink.line), 4000);
    assert_string_equal(sink.line + 3996, "n...");
}

static void line_break_cannot_forge_a_line(void **state)
{
    (void)state;
    log_write(&log_to_sink, MSG_TOKEN_FETCHED, "a%sb", "\r\n\x1b\x7f");
    assert_string_equal(sink.line, "ISCEP0300: [TX1] a????b");
}

static void every_message_has_facts(void **state)
{
    int i;

    (void)state;
    for (i = 0; i < MSG_COUNT; i++) {
        const message_facts_t *facts = log_message_facts((message_t)i);

        if (facts->id == 0 || facts->id > 9999 || !facts->meaning || !facts->meaning[0] || !facts->remedy ||
            facts->level > LOG_LEVEL_TRACE)
            fail_msg("message number %d (id %u) lacks facts", i, facts->id);
        if (facts->level <= LOG_LEVEL_WARN && !facts->remedy[0])
            fail_msg("message %u is a warning or error without a remedy", facts->id);
    }
    assert_non_null(log_message_facts(MSG_COUNT));
    assert_int_equal(log_message_facts(MSG_COUNT)->id, 0);
}

static void ids_are_unique(void **state)
{
    static unsigned char seen[10000];
    int i;

    (void)state;
    memset(seen, 0, sizeof(seen));
    for (i = 0; i < MSG_COUNT + PROBLEM_COUNT - 1; i++) {
        unsigned id =
            i < MSG_COUNT ? log_message_facts((message_t)i)->id : problem_facts((problem_t)(i - MSG_COUNT + 1))->id;

        if (id == 0 || id >= sizeof(seen) || seen[id]++)
            fail_msg("id %u stands twice, is 0 or is too large", id);
        if ((id >= 1000) != (i >= MSG_COUNT))
            fail_msg("id %u stands in the wrong file", id);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(line_has_id_transaction_and_text, begin),
        cmocka_unit_test_setup(line_before_a_transaction, begin),
        cmocka_unit_test_setup(line_of_another_table, begin),
        cmocka_unit_test_setup(no_log_and_disabled_level_write_nothing, begin),
        cmocka_unit_test_setup(long_line_is_cut, begin),
        cmocka_unit_test_setup(long_transaction_is_cut, begin),
        cmocka_unit_test_setup(line_break_cannot_forge_a_line, begin),
        cmocka_unit_test(every_message_has_facts),
        cmocka_unit_test(ids_are_unique),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
