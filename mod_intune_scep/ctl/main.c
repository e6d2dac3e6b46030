/* SPDX-License-Identifier: Apache-2.0 */
/* intune-scepctl: the gateway's core for an operator, without httpd. */
#include "ctl/ctl.h"

#include <apr_general.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

enum { OPTIONS_MAX = 128, COMMON_OPTIONS = 2, HELP_COLUMN = 22 };

static const ctl_group_t *const groups[] = {&ctl_check, &ctl_decode, &ctl_enrol, &ctl_journal, &ctl_ra_request};
enum { GROUPS = sizeof(groups) / sizeof(groups[0]) };

static void help_line(const char *dashes, const char *name, const char *argument, const char *text)
{
    int width = printf("  %s%s%s%s", dashes, name, argument && *argument ? " " : "", argument ? argument : "");
    if (width < HELP_COLUMN) {
        printf("%*s%s\n", HELP_COLUMN - width, "", text);
    } else {
        printf("\n%*s%s\n", HELP_COLUMN, "", text);
    }
}

static void help_of_options(const ctl_option_t *options)
{
    for (const ctl_option_t *option = options; option->name; option++) {
        help_line("--", option->name, option->value, option->help);
    }
}

/* The directives are many: they have their place where one command was asked for. */
static void help_of_group(const ctl_t *ctl, const ctl_group_t *group, bool alone)
{
    printf("\nintune-scepctl %s%s%s: %s\n\n", group->name, group->arguments ? " " : "",
           group->arguments ? group->arguments : "", group->help);
    for (const ctl_action_t *action = group->actions; action && action->name; action++) {
        help_line("", action->name, action->arguments, action->help);
    }
    if (group->actions) {
        putchar('\n');
    }
    help_of_options(group->options);
    if (group->with_settings && alone) {
        puts("\nDirectives as options, in place of the configuration's or beside it:\n");
        help_of_options(ctl_setting_options(ctl));
    } else if (group->with_settings) {
        printf("  and each directive as an option: see intune-scepctl %s --help\n", group->name);
    }
}

static ctl_exit_t help(const ctl_t *ctl, const ctl_group_t *only)
{
    puts("usage: intune-scepctl [--json] COMMAND [OPTION ...] [WORD ...]\n"
         "       intune-scepctl [COMMAND] --help\n"
         "       intune-scepctl --version\n\n"
         "  --json              print one JSON document instead of text\n"
         "  --help              print this\n"
         "  --version           print the version");
    for (int i = 0; i < GROUPS; i++) {
        if (!only || only == groups[i]) {
            help_of_group(ctl, groups[i], only != NULL);
        }
    }
    puts("\nExit status: 0 done, 1 could not be done or something is red, 2 wrong words on the command line,\n"
         "3 the journal, the configuration or the file cannot be used.");
    return CTL_DONE;
}

static const ctl_group_t *group_find(const char *name)
{
    for (int i = 0; i < GROUPS; i++) {
        if (!strcmp(groups[i]->name, name)) {
            return groups[i];
        }
    }
    return NULL;
}

typedef struct parsing_t {
    const ctl_group_t *group;
    struct option table[OPTIONS_MAX + COMMON_OPTIONS + 1];
    const char *values[OPTIONS_MAX];
    int own;   /* options of the group */
    int count; /* of these and the directives */
} parsing_t;

static void table_add(parsing_t *parsing, const ctl_option_t *options)
{
    for (; options->name && parsing->count < OPTIONS_MAX; options++) {
        parsing->table[parsing->count++] =
            (struct option){options->name, options->value ? required_argument : no_argument, NULL, 0};
    }
}

static void table_make(const ctl_t *ctl, parsing_t *parsing)
{
    table_add(parsing, parsing->group->options);
    parsing->own = parsing->count;
    if (parsing->group->with_settings) {
        table_add(parsing, ctl_setting_options(ctl));
    }
    parsing->table[parsing->count] = (struct option){"json", no_argument, NULL, 0};
    parsing->table[parsing->count + 1] = (struct option){"help", no_argument, NULL, 0};
}

/* Options may stand among the other words, as everywhere; "--" ends them. argv[0] is the group's name. */
static ctl_exit_t group_run(ctl_t *ctl, const ctl_group_t *group, int argc, char **argv)
{
    parsing_t *parsing = apr_pcalloc(ctl->pool, sizeof(*parsing));
    int found = 0;
    int at = 0;
    parsing->group = group;
    table_make(ctl, parsing);
    opterr = 0;
    while ((found = getopt_long(argc, argv, ":", parsing->table, &at)) != -1) {
        if (found) {
            return ctl_fail(ctl, CTL_USAGE,
                            found == ':' ? "the option %s needs a value: see --help"
                                         : "there is no option %s, or it takes no value: see --help",
                            ctl_shown(ctl, argv[optind - 1], 100));
        }
        if (at == parsing->count + 1) {
            return help(ctl, group);
        }
        if (at == parsing->count) {
            ctl->json = true;
        } else if (parsing->values[at]) {
            return ctl_fail(ctl, CTL_USAGE, "the option --%s is given twice", parsing->table[at].name);
        } else {
            parsing->values[at] = optarg ? optarg : "";
        }
    }
    ctl_words_t words = {.values = parsing->values,
                         .settings = group->with_settings ? parsing->values + parsing->own : NULL,
                         .rest = (const char *const *)argv + optind,
                         .count = argc - optind};
    return group->run(ctl, &words);
}

static ctl_exit_t run(ctl_t *ctl, int argc, char **argv)
{
    int at = 1;
    for (; at < argc && argv[at][0] == '-'; at++) {
        if (!strcmp(argv[at], "--help")) {
            return help(ctl, NULL);
        }
        if (!strcmp(argv[at], "--version")) {
            puts("intune-scepctl " ISCEP_VERSION);
            return CTL_DONE;
        }
        if (strcmp(argv[at], "--json")) {
            return ctl_fail(ctl, CTL_USAGE, "there is no option %s before the command: see --help",
                            ctl_shown(ctl, argv[at], 100));
        }
        ctl->json = true;
    }
    const ctl_group_t *group = at < argc ? group_find(argv[at]) : NULL;
    if (!group) {
        return at < argc ? ctl_fail(ctl, CTL_USAGE, "there is no command %s: see --help", ctl_shown(ctl, argv[at], 100))
                         : ctl_fail(ctl, CTL_USAGE, "a command is missing: see --help");
    }
    return group_run(ctl, group, argc - at, argv + at);
}

int main(int argc, char **argv)
{
    ctl_t ctl = {0};
    ctl_exit_t status = CTL_FAILED;
#ifndef ISCEP_SANITIZERS
    /* The state key and requests are in memory: no core file. (LeakSanitizer has to look in.) */
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
#endif
    if (apr_initialize() || apr_pool_create(&ctl.pool, NULL)) {
        fputs("intune-scepctl: APR cannot be used\n", stderr);
        return CTL_FAILED;
    }
    status = run(&ctl, argc, argv);
    apr_pool_destroy(ctl.pool);
    apr_terminate();
    if ((fflush(stdout) || ferror(stdout)) && !status) {
        fputs("intune-scepctl: the standard output cannot be written\n", stderr);
        status = CTL_FAILED;
    }
    return (int)status;
}
