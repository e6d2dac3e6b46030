/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Other programs, run without a shell: their words are split at spaces and nothing in them is expanded or quoted.
 *
 * Any thread may run one, also of a server with many: between fork and exec the child does nothing that could wait for
 * another thread's lock. The command gets a bare environment (PATH), no descriptor of ours but the server's error
 * output, no blocked or ignored signal, and a process group of its own, which is killed at the limit. What root runs is
 * run by the server's user, where that is known.
 */
#ifndef ISCEP_BASE_COMMAND_H
#define ISCEP_BASE_COMMAND_H

#include "bytes.h"

#include <apr_errno.h>
#include <apr_pools.h>
#include <apr_time.h>
#include <sys/types.h>

typedef struct command_t {
    const char *text;          /**< words, split at spaces; the first is an absolute path */
    const char *last_argument; /**< one word more, with whatever is in it; or NULL */
    bytes_t input;             /**< its standard input; empty: /dev/null */
    char *output;              /**< room for its standard output; NULL: it goes to /dev/null */
    apr_size_t room;
    apr_size_t len;            /**< set: how much it wrote */
    apr_interval_time_t limit; /**< from its start until its output, if wanted, and itself have ended */
} command_t;

/**
 * Where root starts the server: as whom commands are run from now on. `name` is for the user's further groups, or NULL. Before
 * there are threads.
 */
void command_server_user(uid_t user, gid_t group, const char *name);

/** A command for people: the program only, since there may be secrets among its arguments. */
const char *command_shown(const char *text, apr_pool_t *pool);

/**
 * Runs it and waits. APR_SUCCESS only for exit status 0; APR_TIMEUP at the limit; APR_INCOMPLETE where it wrote more than
 * there is room for, after which it is killed. No zombie stays behind.
 * @param message on failure: one sentence that names the program (not its arguments). Else untouched.
 */
apr_status_t command_run(command_t *command, apr_pool_t *pool, const char **message);

#endif
