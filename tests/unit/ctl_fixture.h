/* SPDX-License-Identifier: Apache-2.0 */
/*
 * intune-scepctl run on a SQLite journal that journal.h made, each test on a new one. What fails in here fails the test
 * that runs.
 */
#ifndef ISCEP_TESTS_CTL_FIXTURE_H
#define ISCEP_TESTS_CTL_FIXTURE_H

#include "store/journal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <json-c/json.h>

#define CTL_OUTPUT_MAX 65536

#define CTL_CHALLENGE "challenge-of-a-device"
#define CTL_HOSTILE "tx\"\\\x1b[31m\n\xc3\xa4<b>"
#define CTL_HOSTILE_SHOWN "tx\\x22\\x5c\\x1b[31m\\x0a\\xc3\\xa4<b>"
/* Ids begin with this and a digit, but for the two that begin alike. */
#define CTL_ID_TAIL "0000000000000000000000000000000000000000000000000000"
#define CTL_ISSUED "A1B2C3D4E501" CTL_ID_TAIL
#define CTL_WITHHELD "A1B2C3D4E502" CTL_ID_TAIL
#define CTL_DEAD "A1B2C3D4E503" CTL_ID_TAIL
#define CTL_FAILED "A1B2C3D4E504" CTL_ID_TAIL
#define CTL_LEASED "A1B2C3D4E505" CTL_ID_TAIL
#define CTL_TWIN_1 "A1B2C3D4E5FF1" "000000000000000000000000000000000000000000000000000"
#define CTL_TWIN_2 "A1B2C3D4E5FF2" "000000000000000000000000000000000000000000000000000"

extern apr_pool_t *ctl_pool;    /* of one test */
extern char ctl_folder[];       /* the state directory */
extern bytes_t ctl_certificate; /* of all rows that have one */
extern char ctl_out[CTL_OUTPUT_MAX], ctl_err[CTL_OUTPUT_MAX]; /* what the tool said last */

/** Before all tests: 0, or main() has to return it. After them, with cmocka's result: what main() returns. */
int ctl_start(void);
int ctl_finish(int failed);

/** Around each test: a journal with the rows above. */
int ctl_begin(void **state);
int ctl_end(void **state);

#define CTL_TEST(function) cmocka_unit_test_setup_teardown(function, ctl_begin, ctl_end)

const char *ctl_path(const char *name);
void ctl_write_file(const char *name, const char *text);
journal_settings_t ctl_settings(void);
journal_t *ctl_journal(void);

/** Gives the exit status. */
int ctl_tool(const char *arguments);
/** On the journal of this test. */
int ctl_journal_tool(const char *arguments);

void ctl_has(const char *text, const char *words);
void ctl_lacks(const char *text, const char *words);
/** Compares exit statuses. */
void ctl_ends(int expected, int status);
/** The tool, and the second on the journal of this test, ends so, with these words among its errors and no others. */
void ctl_fails(int expected, const char *arguments, const char *words);
void ctl_refuses(int expected, const char *arguments, const char *words);

/** The one JSON document in `ctl_out`, the caller's to free. */
json_object *ctl_parsed(void);
const char *ctl_member(json_object *object, const char *name);

#endif
