/* SPDX-License-Identifier: Apache-2.0 */
/* What the commands of intune-scepctl share. */
#ifndef ISCEP_CTL_CTL_H
#define ISCEP_CTL_CTL_H

#include <apr_pools.h>
#include <apr_tables.h>
#include <stdbool.h>

struct json_object;

/** Exit statuses. */
typedef enum ctl_exit_t {
    CTL_DONE = 0,
    CTL_FAILED = 1,  /**< it could not be done, or there is no such thing */
    CTL_USAGE = 2,   /**< wrong words on the command line */
    CTL_UNUSABLE = 3 /**< what it works on cannot be used: the journal, the configuration */
} ctl_exit_t;

typedef struct ctl_t {
    apr_pool_t *pool;
    bool json; /**< one JSON document on the standard output instead of text */
} ctl_t;

typedef struct ctl_option_t {
    const char *name;  /**< without the dashes */
    const char *value; /**< what its value is called; NULL: it has none, and is "" where it is given */
    const char *help;
} ctl_option_t;

typedef struct ctl_action_t {
    const char *name;
    const char *arguments; /**< for --help */
    const char *help;
} ctl_action_t;

/** What was on the command line behind the command's name. */
typedef struct ctl_words_t {
    const char *const *values; /**< of the options, in their order; NULL: not given */
    const char *const *settings; /**< likewise of the directives, by setting_id_t; NULL where they are no options */
    const char *const *rest;   /**< the other words, up to NULL */
    int count;                 /**< of these */
} ctl_words_t;

/** A command, with subcommands or without; main.c has the table. */
typedef struct ctl_group_t {
    const char *name;
    const char *help;
    const ctl_option_t *options; /**< up to one without a name, as the actions */
    const ctl_action_t *actions; /**< NULL: it has no subcommands */
    ctl_exit_t (*run)(ctl_t *ctl, const ctl_words_t *words);
    const char *arguments;       /**< without subcommands: its words, for --help */
    bool with_settings;          /**< each directive is an option, too */
} ctl_group_t;

extern const ctl_group_t ctl_check;
extern const ctl_group_t ctl_decode;
extern const ctl_group_t ctl_enrol;
extern const ctl_group_t ctl_journal;
extern const ctl_group_t ctl_ra_request;

/** The directives as options, in the order of setting_id_t: IntuneScepAppID is --app-id. */
const ctl_option_t *ctl_setting_options(const ctl_t *ctl);

/** Says a sentence on the error output, as JSON also on the standard output; gives `status`. */
ctl_exit_t ctl_fail(const ctl_t *ctl, ctl_exit_t status, const char *format, ...) __attribute__((format(printf, 3, 4)));

/** Prints the document and frees it. */
void ctl_print(const ctl_t *ctl, struct json_object *document);

/** Members of a document; the program ends where there is no memory for them. */
struct json_object *ctl_object(void);
void ctl_add(struct json_object *object, const char *name, struct json_object *value);
void ctl_add_text(const ctl_t *ctl, struct json_object *object, const char *name, const char *text);

/** Prints a table for people: `lines` are arrays of `columns` texts, the first of them the heads. */
void ctl_table(const apr_array_header_t *lines, int columns);

/** Text from outside, escaped and cut. */
const char *ctl_shown(const ctl_t *ctl, const char *text, apr_size_t max);

/** A line of text whose parts from outside are escaped, with what would move a terminal's cursor all the same replaced. */
const char *ctl_flat(const ctl_t *ctl, const char *text);

#endif
