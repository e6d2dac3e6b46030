/* SPDX-License-Identifier: Apache-2.0 */
/* Files that the tool reads and writes. Each function says itself what is wrong. */
#ifndef ISCEP_CTL_FILES_H
#define ISCEP_CTL_FILES_H

#include "base/bytes.h"
#include "ctl/ctl.h"
#include "scep/client.h"

enum { CTL_FILE_MAX = 4 * 1024 * 1024 };

/** All of a file, or with "-" of the standard input. */
ctl_exit_t ctl_file_read(ctl_t *ctl, const char *path, bytes_t *bytes);

/** Puts a file in its place, whole or not at all. */
ctl_exit_t ctl_file_write(ctl_t *ctl, const char *path, bytes_t bytes, int mode);

/** Whether ctl_file_write() could do that: to be asked before what is to be written is got, and lost. */
ctl_exit_t ctl_file_try(ctl_t *ctl, const char *path);

/** The key in a file that nobody else may read; `make`: a new one is made, and written there, where there is none. */
ctl_exit_t ctl_key_take(ctl_t *ctl, const scep_engine_t *engine, const char *path, bool make, EVP_PKEY **key);

/** The first certificate of a file. */
ctl_exit_t ctl_certificate_take(ctl_t *ctl, const scep_engine_t *engine, const char *path, X509 **certificate);

/** The specification of a secret; a path in it that is not absolute is below the working directory. */
const char *ctl_specification(const ctl_t *ctl, const char *specification);

/** A secret by its specification: file:PATH, exec:COMMAND, env:NAME or itself. `name` is the option's. */
ctl_exit_t ctl_secret_take(ctl_t *ctl, const char *name, const char *specification, const secret_t **secret);

#endif
