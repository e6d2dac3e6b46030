/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the group `journal` share. */
#ifndef ISCEP_CTL_JOURNAL_CTL_H
#define ISCEP_CTL_JOURNAL_CTL_H

#include "ctl/ctl.h"
#include "store/journal_operator.h"

enum { ROW_ID_DIGITS = 64, ROW_ID_SHORT = 12 };

/* journal_rows.c */

/** Rows of a word, or those that need somebody where it is NULL. */
ctl_exit_t journal_ctl_list(ctl_t *ctl, journal_t *journal, const char *word);

ctl_exit_t journal_ctl_show(ctl_t *ctl, const journal_row_t *row);

/** How many rows are in which state. */
ctl_exit_t journal_ctl_counts(ctl_t *ctl, journal_t *journal);

/** The one row of an id or of its first digits, 12 at least. Says what is wrong otherwise. */
ctl_exit_t journal_ctl_find(ctl_t *ctl, journal_t *journal, const char *id, journal_row_t **row);

/** The beginning of a row's id that list shows and other subcommands take. */
const char *journal_ctl_short_id(const ctl_t *ctl, const journal_row_t *row);

/* journal_orphans.c */

/** Which of the serials in a file ("-": standard input) the journal does not know for a location. */
ctl_exit_t journal_ctl_orphans(ctl_t *ctl, journal_t *journal, const char *location, const char *file);

#endif
