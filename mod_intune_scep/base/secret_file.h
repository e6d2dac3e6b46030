/* SPDX-License-Identifier: Apache-2.0 */
/* Files that hold secrets: read as a whole, with their checks, and told from their later states. */
#ifndef ISCEP_BASE_SECRET_FILE_H
#define ISCEP_BASE_SECRET_FILE_H

#include "bytes.h"

#include <apr_errno.h>
#include <apr_pools.h>
#include <sys/stat.h>

enum { SECRET_FILE_MAX = 65536 };

/** What was read, before it is known to be good: one byte more than allowed tells that there is too much. */
typedef struct secret_file_t {
    char bytes[SECRET_FILE_MAX + 1];
    apr_size_t len;
    struct stat facts; /**< of the open file, before and after the reading */
} secret_file_t;

/**
 * Reads a regular file. Fails for one that changes meanwhile, and, where `guarded`, for one that secret_path_check()
 * would refuse; the checks are made on the open file, so that nobody can exchange it in between.
 * @param message on failure: one sentence that names the path.
 */
apr_status_t secret_file_read(secret_file_t *file, const char *path, bool guarded, apr_pool_t *pool,
                              const char **message);

/** Whether both are the same state of the same file. */
bool secret_file_same(const struct stat *a, const struct stat *b);

#endif
