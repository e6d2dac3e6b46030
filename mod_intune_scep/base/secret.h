/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Secrets have a type of their own, so that none reaches a format string by mistake: the compiler refuses a secret_t
 * for %s, and only secret_reveal() gives the text.
 */
#ifndef ISCEP_BASE_SECRET_H
#define ISCEP_BASE_SECRET_H

#include "bytes.h"

#include <apr_errno.h>
#include <apr_pools.h>
#include <apr_time.h>
#include <sys/types.h>

typedef struct secret_t secret_t;

/** A copy of `len` bytes at `text`, NUL-terminated; cleansed when the pool goes. */
secret_t *secret_make(apr_pool_t *pool, const char *text, apr_size_t len);

/** The text itself, for the one call that needs it. It lives as long as the secret. */
const char *secret_reveal(const secret_t *secret);

apr_size_t secret_length(const secret_t *secret);

/** What may be printed in place of any secret: "***". */
const char *secret_print(const secret_t *secret);

/** Overwrites a secret's bytes, also behind a pointer that promises to only read. */
void secret_wipe(const void *data, apr_size_t len);

/** Has the bytes overwritten when the pool goes. */
void secret_guard(apr_pool_t *pool, const void *data, apr_size_t len);

/**
 * Where a secret comes from: `file:PATH`, `exec:COMMAND` (no shell, words split at spaces, at most 10 seconds),
 * `env:NAME`, or the text itself.
 */
typedef struct secret_source_t secret_source_t;

/**
 * Parses a specification and reads the secret for the first time. The source keeps a mutex and the last good
 * value; it is usable by all threads of the process and, after a fork, by each process on its own.
 *
 * A file must not be readable by others nor writable by group or others, must not be empty, and loses its line end.
 * @param message on failure: what is wrong, in one sentence that names the path but not the directive. Else untouched.
 */
apr_status_t secret_source_make(secret_source_t **source, const char *specification, apr_pool_t *pool,
                                const char **message);

/**
 * The secret now, copied into `pool`. A file that changed (time, size or inode) since is read again; where that fails,
 * or gives an empty, half-written or unsafe file, the old value stays. Never fails.
 */
const secret_t *secret_source_read(secret_source_t *source, apr_pool_t *pool);

/**
 * The value was refused where it was used: a command is run again, by the user of this process, at most once in a
 * minute and for at most `limit` (10 seconds). Blocks for that long; other threads go on with the old value. Sources of
 * another kind have nothing newer than secret_source_read() gives.
 * @return whether there is another value now.
 */
bool secret_source_refused(secret_source_t *source, apr_interval_time_t limit);

/** Whether the specification is a literal secret (which the edge must blank out of the configuration tree). */
bool secret_is_literal(const char *specification);

/**
 * Where root starts the server, who its processes will be: until this is said, root takes files of any owner for safe. Before
 * there are threads.
 */
void secret_server_user(uid_t user);

/**
 * Whether a file or directory is safe from others: not readable, writable or searchable by "others", not writable by
 * its group, owned by root or the server's user. Otherwise `message` says in one sentence what is wrong and what chmod
 * mends it.
 */
apr_status_t secret_path_check(const char *path, bool directory, apr_pool_t *pool, const char **message);

#endif
